#include "unit.h"

#include "crypto/sha256.h"
#include "lineage/root.h"
#include "make_files.h"

#include <math.h>

/* RFC 6962 section 2.1 as it is written: split at the largest power of two below n. */
static fs_root by_the_rfc(const fs_root *leaves, size_t n)
{
    fs_root left, right, ret;
    fs_sha256 h;
    fs_error err;
    size_t k = 1;

    if (n == 1)
        return leaves[0];
    while (2 * k < n)
        k *= 2;
    left = by_the_rfc(leaves, k);
    right = by_the_rfc(leaves + k, n - k);
    assert_ok(fs_sha256_init(&h, &err), err);
    fs_sha256_update(&h, "\x01", 1);
    fs_sha256_update(&h, left.bytes, 32);
    fs_sha256_update(&h, right.bytes, 32);
    fs_sha256_final(&h, ret.bytes);
    return ret;
}

static void the_tree_is_the_rfcs(void **state)
{
    fs_root leaves[70], copy[70], want, have;
    fs_error err;
    char hex[65];

    (void)state;
    for (size_t i = 0; i < 70; i++)
        for (size_t k = 0; k < 32; k++)
            leaves[i].bytes[k] = (uint8_t)(i * 37 + k);
    for (size_t n = 1; n <= 70; n++) {
        want = by_the_rfc(leaves, n);
        memcpy(copy, leaves, sizeof copy);
        assert_ok(fs_root_tree(copy, n, &have, &err), err);
        assert_true(fs_root_equal(&want, &have));
    }
    assert_ok(fs_root_tree(NULL, 0, &have, &err), err);
    fs_root_hex(&have, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#define CONFIG                                                                                                                      \
    "{\"model_type\":\"llama\",\"vocab_size\":8,\"hidden_size\":8,\"num_hidden_layers\":2,\"num_attention_heads\":2,"               \
    "\"intermediate_size\":8,\"max_position_embeddings\":64}"

static const char *const files[] = { "config.json", "model.safetensors", NULL };

/* One tensor "x" of dtype with those bytes, as a model. */
static fs_status roots_of(const char *dtype, const void *bytes, size_t n_bytes, size_t n_elems, fs_roots *ret, fs_error *err)
{
    char header[256], *folder = make_folder();
    fs_buf file = { 0 };
    fs_weights *w = NULL;
    fs_pool *pool = NULL;
    fs_status rc;

    snprintf(header, sizeof header, "{\"x\":{\"dtype\":\"%s\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}", dtype, n_elems, n_bytes);
    put_le(&file, strlen(header), 8);
    put_bytes(&file, header, strlen(header));
    put_bytes(&file, bytes, n_bytes);
    put_text_file(folder, "config.json", CONFIG);
    put_file(folder, "model.safetensors", file.data, file.n_bytes);
    assert_ok(fs_pool_new(2, &pool, err), *err);
    rc = fs_weights_open(folder, &w, err);
    if (!rc)
        rc = fs_roots_of(w, pool, NULL, ret, err);
    fs_weights_close(w);
    fs_pool_free(pool);
    fs_buf_done(&file);
    remove_folder(folder, files);
    return rc;
}

static void a_nan_has_no_root(void **state)
{
    static const struct {
        const char *dtype;
        uint8_t good[8], nan[8], other_nan[8];
        size_t n_bytes;
    } cases[] = {
        { "F32", { 0, 0, 0x80, 0x7f }, { 0, 0, 0xc0, 0x7f }, { 1, 0, 0x80, 0xff }, 4 }, /* infinity is a value */
        { "BF16", { 0x80, 0x7f }, { 0xc0, 0x7f }, { 0x81, 0xff }, 2 },
        { "F16", { 0, 0x7c }, { 0, 0x7e }, { 1, 0xfc }, 2 },
        { "F8_E4M3", { 0x7e }, { 0x7f }, { 0xff }, 1 },
        { "F8_E5M2", { 0x7c }, { 0x7d }, { 0xff }, 1 },
        { "F64", { 0, 0, 0, 0, 0, 0, 0xf0, 0x7f }, { 0, 0, 0, 0, 0, 0, 0xf8, 0x7f }, { 1, 0, 0, 0, 0, 0, 0xf0, 0xff }, 8 },
        { "F8_E8M0", { 0xfe }, { 0xff }, { 0xff }, 1 },
    };
    fs_roots r = { 0 };
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[8 * 5000] = { 0 };
        size_t n = 5000, n_bytes = n * cases[i].n_bytes;
        memcpy(bytes + n_bytes - cases[i].n_bytes, cases[i].good, cases[i].n_bytes);
        assert_ok(roots_of(cases[i].dtype, bytes, n_bytes, n, &r, &err), err);
        fs_roots_done(&r);
        memcpy(bytes + n_bytes - cases[i].n_bytes, cases[i].nan, cases[i].n_bytes);
        assert_int_equal(roots_of(cases[i].dtype, bytes, n_bytes, n, &r, &err), FS_ERR_NUMERIC);
        assert_sentence(err, "'x' has a NaN");
        memcpy(bytes + n_bytes - cases[i].n_bytes, cases[i].other_nan, cases[i].n_bytes);
        assert_int_equal(roots_of(cases[i].dtype, bytes, n_bytes, n, &r, &err), FS_ERR_NUMERIC);
    }
}

static fs_root digest_of(uint8_t prefix, const void *data, size_t n)
{
    fs_root ret;
    fs_sha256 h;
    fs_error err;

    assert_ok(fs_sha256_init(&h, &err), err);
    fs_sha256_update(&h, &prefix, 1);
    fs_sha256_update(&h, data, n);
    fs_sha256_final(&h, ret.bytes);
    return ret;
}

static fs_root stream_root(const uint8_t *data, size_t n)
{
    size_t n_chunks = (n + FS_ROOT_CHUNK_BYTES - 1) / FS_ROOT_CHUNK_BYTES;
    fs_root leaves[8];

    assert_true(n_chunks > 0 && n_chunks <= 8);
    for (size_t i = 0; i < n_chunks; i++) {
        size_t at = i * FS_ROOT_CHUNK_BYTES;
        leaves[i] = digest_of(0, data + at, n - at < FS_ROOT_CHUNK_BYTES ? n - at : FS_ROOT_CHUNK_BYTES);
    }
    return by_the_rfc(leaves, n_chunks);
}

/* As the header writes it, of F32 in one dimension. */
static fs_root tensor_root(const char *name, const float *data, uint64_t n)
{
    fs_root chunks = stream_root((const uint8_t *)data, n * 4), ret;
    fs_buf b = { 0 };

    put_le(&b, strlen(name), 4);
    put_bytes(&b, name, strlen(name));
    put_le(&b, 3, 4);
    put_bytes(&b, "F32", 3);
    put_le(&b, 1, 4);
    put_le(&b, n, 8);
    put_bytes(&b, chunks.bytes, 32);
    ret = digest_of(2, b.data, b.n_bytes);
    fs_buf_done(&b);
    return ret;
}

/* Small tensors and large ones, many of them, so that they are hashed in more than one go. */
static void tensors_in_memory(void **state)
{
    enum { N = 600, LARGE = 5 * 262144 + 3 };
    static char names[N][8];
    static fs_tensor tensors[N];
    const fs_tensor *list[N];
    float *values = calloc(LARGE + N, sizeof *values);
    fs_root leaves[N], model;
    fs_roots r = { 0 };
    fs_pool *pool = NULL;
    fs_error err;

    (void)state;
    for (size_t i = 0; i < LARGE + N; i++)
        values[i] = (float)(i % 1000) - 3;
    for (size_t i = 0; i < N; i++) {
        uint64_t n = i == 100 || i == 101 ? LARGE : i % 7 + 1;
        snprintf(names[i], sizeof names[i], "t%03zu", i);
        tensors[i] = (fs_tensor){ .name = names[i], .dtype = FS_DTYPE_F32, .n_dims = 1, .dims = { n }, .data = (const uint8_t *)(values + i), .n_bytes = n * 4 };
        list[i] = &tensors[i];
        leaves[i] = tensor_root(names[i], values + i, n);
    }
    model = by_the_rfc(leaves, N);
    for (int threads = 1; threads <= 3; threads++) {
        assert_ok(fs_pool_new(threads, &pool, &err), err);
        assert_ok(fs_roots_of_tensors(list, N, pool, NULL, &r, &err), err);
        assert_true(fs_root_equal(&r.model, &model));
        assert_int_equal(r.n, N);
        for (size_t i = 0; i < N; i++) {
            assert_true(fs_root_equal(&r.items[i].root, &leaves[i]));
            assert_string_equal(r.items[i].name, names[i]);
        }
        fs_roots_done(&r);
        fs_pool_free(pool);
    }
    values[LARGE + 101 - 1] = NAN; /* the last of t101, and of none before it but t100's none */
    assert_ok(fs_pool_new(2, &pool, &err), err);
    assert_int_equal(fs_roots_of_tensors(list, N, pool, NULL, &r, &err), FS_ERR_NUMERIC);
    assert_sentence(err, "'t101' has a NaN");
    values[3] = NAN; /* of t000 to t003: the first is named */
    assert_int_equal(fs_roots_of_tensors(list + 2, N - 2, pool, NULL, &r, &err), FS_ERR_NUMERIC);
    assert_sentence(err, "'t002' has a NaN");
    fs_pool_free(pool);
    free(values);
}

static void a_stream_in_pieces(void **state)
{
    static const size_t sizes[] = { 1, 1000, FS_ROOT_CHUNK_BYTES - 1, FS_ROOT_CHUNK_BYTES, FS_ROOT_CHUNK_BYTES + 1, 3 * FS_ROOT_CHUNK_BYTES, 3500000 };
    uint8_t *data = malloc(3500000);
    fs_root_stream s = { 0 };
    fs_root have, want;
    fs_error err;

    (void)state;
    for (size_t i = 0; i < 3500000; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 24);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (size_t piece = 700001; piece > 300; piece /= 37) {
            for (size_t at = 0; at < sizes[k]; at += piece)
                assert_ok(fs_root_stream_put(&s, data + at, sizes[k] - at < piece ? sizes[k] - at : piece, &err), err);
            assert_ok(fs_root_stream_end(&s, &have, &err), err);
            want = stream_root(data, sizes[k]);
            assert_true(fs_root_equal(&have, &want));
        }
    assert_ok(fs_root_stream_put(&s, data, 5, &err), err);
    fs_root_stream_done(&s); /* in the middle */
    assert_ok(fs_root_stream_end(&s, &have, &err), err);
    assert_ok(fs_root_tree(NULL, 0, &want, &err), err);
    assert_true(fs_root_equal(&have, &want));
    free(data);
}

static void the_list_is_read_as_written(void **state)
{
    static const char *const names[] = { "a", "b c", "\xc3\xa4" };
    struct fs_tensor_root items[3];
    fs_roots r = { .items = items, .n = 3 }, again = { 0 };
    fs_root leaves[3];
    fs_buf text = { 0 };
    fs_error err;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        items[i].name = (char *)(uintptr_t)names[i];
        memset(items[i].root.bytes, (int)i + 1, 32);
        leaves[i] = items[i].root;
    }
    assert_ok(fs_root_tree(leaves, 3, &r.model, &err), err);
    assert_ok(fs_roots_write(&r, &text, &err), err);
    assert_ok(fs_roots_read(fs_buf_bytes(&text), "list", &again, &err), err);
    assert_int_equal(again.n, 3);
    assert_true(fs_root_equal(&again.model, &r.model));
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(again.items[i].name, names[i]);
    fs_roots_done(&again);
    for (size_t n = 1; n < text.n_bytes; n++) /* cut anywhere but behind a line */
        if (text.data[n - 1] != '\n')
            assert_int_equal(fs_roots_read((fs_bytes){ (uint8_t *)text.data, n }, "cut", &again, &err), FS_ERR_FORMAT);
    memcpy(text.data + 65, "z", 1); /* not sorted */
    assert_int_equal(fs_roots_read(fs_buf_bytes(&text), "list", &again, &err), FS_ERR_FORMAT);
    assert_sentence(err, "line 2");
    fs_buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_tree_is_the_rfcs), cmocka_unit_test(a_nan_has_no_root), cmocka_unit_test(tensors_in_memory), cmocka_unit_test(a_stream_in_pieces),
                                        
                                        cmocka_unit_test(the_list_is_read_as_written) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
