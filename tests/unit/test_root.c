#include "unit.h"

#include "crypto/sha256.h"
#include "lineage/root.h"
#include "make_files.h"

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
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_tree_is_the_rfcs), cmocka_unit_test(a_nan_has_no_root),
                                        cmocka_unit_test(the_list_is_read_as_written) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
