/* What the GGUF writer writes, the reader reads. WRAP_ALLOC */
#include "unit.h"

#include "alloc_fail.h"
#include "formats/gguf_write.h"
#include "make_files.h"
#include "small_disk.h"

static char *folder, *path;

static int set_up(void **state)
{
    (void)state;
    folder = make_folder();
    path = fs_path_join(folder, "m.gguf");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(path);
    remove_folder(folder, (const char *const[]){ "m.gguf", NULL });
    return 0;
}

static const struct { const char *name; fs_dtype dtype; int n_dims; uint64_t dims[4]; } shapes[] = {
    { "z.weight", FS_DTYPE_BF16, 2, { 3, 5 } },  { "a.bias", FS_DTYPE_F32, 1, { 7 } },
    { "e.weight", FS_DTYPE_F16, 3, { 2, 3, 5 } }, { "q.weight", FS_DTYPE_Q8_0, 2, { 2, 64 } },
    { "o.weight", FS_DTYPE_F32, 4, { 1, 2, 1, 3 } },
};
#define N_SHAPES (sizeof shapes / sizeof *shapes)

static size_t bytes_of(size_t i)
{
    uint64_t n = 1;
    size_t n_bytes = 0;

    for (int k = 0; k < shapes[i].n_dims; k++)
        n *= shapes[i].dims[k];
    assert_true(fs_dtype_bytes(shapes[i].dtype, n, &n_bytes));
    return n_bytes;
}

/* Everything; the data in pieces of `piece` bytes that do not care where tensors end. */
static fs_status write_all(size_t piece, fs_error *err)
{
    fs_gguf_writer *w = NULL;
    uint8_t data[4096];
    size_t total = 0;
    fs_status rc = fs_gguf_writer_new(path, &w, err);

    if (!rc)
        rc = fs_gguf_put_string(w, "general.architecture", FS_BYTES_LIT("t\xc3\xa9st"), err);
    if (!rc)
        rc = fs_gguf_put_u32(w, "a", 4000000000u, err);
    if (!rc)
        rc = fs_gguf_put_f32(w, "b", 1e-6f, err);
    if (!rc)
        rc = fs_gguf_put_bool(w, "c", true, err);
    if (!rc)
        rc = fs_gguf_put_array(w, "words", FS_GGUF_STRING, 3, err);
    for (int i = 0; i < 3 && !rc; i++)
        rc = fs_gguf_put_item(w, fs_bytes_str(i == 1 ? "" : "word"), err);
    if (!rc)
        rc = fs_gguf_put_array(w, "numbers", FS_GGUF_I32, 2, err);
    for (int i = 0; i < 2 && !rc; i++)
        rc = fs_gguf_put_item_i32(w, i - 1, err);
    if (!rc)
        rc = fs_gguf_put_array(w, "limits", FS_GGUF_F32, 2, err);
    for (int i = 0; i < 2 && !rc; i++)
        rc = fs_gguf_put_item_f32(w, i + 0.1f, err);
    for (size_t i = 0; i < N_SHAPES && !rc; i++) {
        rc = fs_gguf_put_tensor(w, shapes[i].name, shapes[i].dtype, shapes[i].n_dims, shapes[i].dims, err);
        total += bytes_of(i);
    }
    for (size_t i = 0; i < total; i++)
        data[i] = (uint8_t)(i + 1);
    if (!rc)
        rc = fs_gguf_writer_begin(w, err);
    for (size_t at = 0; at < total && !rc; at += piece)
        rc = fs_gguf_writer_write(w, data + at, piece < total - at ? piece : total - at, err);
    if (!rc)
        rc = fs_gguf_writer_commit(w, err);
    fs_gguf_writer_close(w);
    return rc;
}

static void check_all(void)
{
    fs_map map = { 0 };
    fs_gguf *g = NULL;
    fs_error err = { 0 };
    int64_t v = 0;
    double d = 0;
    bool b = false;
    fs_bytes s = { 0 };
    size_t at = 0, byte = 0;
    const fs_gguf_value *a;

    assert_ok(fs_map_open(&map, path, &err), err);
    assert_ok(fs_gguf_open(map.bytes, "m", &g, &err), err);
    assert_int_equal(fs_gguf_n_values(g), 7);
    assert_ok(fs_gguf_int(g, "a", 0, INT64_MAX, &v, NULL, &err), err);
    assert_true(v == 4000000000);
    assert_ok(fs_gguf_double(g, "b", &d, NULL, &err), err);
    assert_true(d == (double)1e-6f);
    assert_ok(fs_gguf_bool(g, "c", &b, NULL, &err), err);
    assert_true(b);
    assert_ok(fs_gguf_string(g, "general.architecture", &s, NULL, &err), err);
    assert_true(fs_bytes_equal(s, FS_BYTES_LIT("t\xc3\xa9st")));
    a = fs_gguf_find(g, "words");
    assert_int_equal(a->n_items, 3);
    assert_true(fs_bytes_equal(fs_gguf_next_string(a, &at), FS_BYTES_LIT("word")));
    assert_int_equal(fs_gguf_next_string(a, &at).n_bytes, 0);
    assert_true(fs_gguf_number_at(fs_gguf_find(g, "numbers"), 0) == -1);
    assert_true(fs_gguf_number_at(fs_gguf_find(g, "limits"), 1) == (double)1.1f);
    assert_int_equal(fs_gguf_n_tensors(g), N_SHAPES);
    for (size_t i = 0; i < N_SHAPES; i++) {
        const fs_tensor *t = fs_gguf_find_tensor(g, shapes[i].name);
        assert_non_null(t);
        assert_int_equal(t->dtype, shapes[i].dtype);
        assert_int_equal(t->n_dims, shapes[i].n_dims);
        assert_memory_equal(t->dims, shapes[i].dims, (size_t)t->n_dims * sizeof *t->dims);
        assert_int_equal(t->n_bytes, bytes_of(i));
        assert_int_equal((size_t)(t->data - map.bytes.data) % FS_GGUF_ALIGNMENT, 0);
        for (size_t k = 0; k < t->n_bytes; k++)
            assert_int_equal(t->data[k], (uint8_t)++byte);
    }
    fs_gguf_close(g);
    fs_map_close(&map);
}

static void what_is_written_is_read(void **state)
{
    static const size_t pieces[] = { 1, 2, 13, 33, 4096 };
    fs_error err = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        assert_ok(write_all(pieces[i], &err), err);
        check_all();
        assert_int_equal(count_files(folder), 1);
    }
}

static void what_has_no_place_is_refused(void **state)
{
    fs_gguf_writer *w = NULL;
    fs_error err = { 0 };

    (void)state;
    assert_ok(fs_gguf_writer_new(path, &w, &err), err);
    assert_int_equal(fs_gguf_put_tensor(w, "x", FS_DTYPE_F8_E4M3, 1, (uint64_t[]){ 4 }, &err), FS_ERR_UNSUPPORTED);
    assert_sentence(err, "F8_E4M3");
    assert_int_equal(fs_gguf_put_tensor(w, "y", FS_DTYPE_Q8_0, 2, (uint64_t[]){ 4, 16 }, &err), FS_ERR_FORMAT);
    assert_sentence(err, "'y'");
    assert_int_equal(fs_gguf_put_tensor(w, "z", FS_DTYPE_F32, 2, (uint64_t[]){ 1ull << 40, 1ull << 40 }, &err), FS_ERR_FORMAT);
    assert_int_equal(fs_gguf_put_tensor(w, "n", FS_DTYPE_F32, 1, (uint64_t[]){ 0 }, &err), FS_ERR_FORMAT);
    fs_gguf_writer_close(w);
    fs_gguf_writer_close(NULL);
    assert_int_equal(count_files(folder), 0);
}

static void a_full_disk_leaves_nothing(void **state)
{
    fs_error err = { 0 };
    fs_status rc;

    (void)state;
    limit_files(700); /* the header fits, the data does not */
    rc = write_all(64, &err);
    limit_files(RLIM_INFINITY);
    assert_int_equal(rc, FS_ERR_IO);
    assert_sentence(err, "m.gguf");
    assert_int_equal(count_files(folder), 0);
}

static void every_allocation_may_fail(void **state)
{
    fs_status rc = FS_ERR_MEMORY;
    long n;

    (void)state;
    for (n = 1; rc; n++) {
        alloc_fail_at(n);
        rc = write_all(4096, NULL);
        alloc_fail_off();
        if (rc) {
            assert_int_equal(rc, FS_ERR_MEMORY);
            assert_int_equal(count_files(folder), 0);
        }
    }
    assert_true(n > 5);
    check_all();
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = { T(what_is_written_is_read), T(what_has_no_place_is_refused), T(a_full_disk_leaves_nothing),
                                        T(every_allocation_may_fail) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
