/* What the safetensors writer writes, the reader reads; sharded too. WRAP_ALLOC */
#include "unit.h"

#include "alloc_fail.h"
#include "formats/safetensors.h"
#include "formats/safetensors_write.h"
#include "make_files.h"
#include "small_disk.h"

static char *folder;

static int set_up(void **state)
{
    (void)state;
    folder = make_folder();
    return 0;
}

static const char *const names[] = { "model.safetensors", "model.safetensors.index.json", "model-00001-of-00003.safetensors",
                                     "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors", NULL };

static void clear(void)
{
    for (int i = 0; names[i]; i++) {
        char *path = fs_path_join(folder, names[i]);
        unlink(path);
        free(path);
    }
}

static int tear_down(void **state)
{
    (void)state;
    remove_folder(folder, names);
    return 0;
}

/* The data are 30, 28, 0, 60 and 4 bytes; byte k of tensor i is 40 i + k. */
static const struct { const char *name; fs_dtype dtype; int n_dims; uint64_t dims[4]; } shapes[] = {
    { "z.weight", FS_DTYPE_BF16, 2, { 3, 5 } },   { "a \"quoted\"", FS_DTYPE_F32, 1, { 7 } }, { "empty", FS_DTYPE_F16, 2, { 0, 3 } },
    { "e.weight", FS_DTYPE_F16, 3, { 2, 3, 5 } }, { "scalar", FS_DTYPE_F32, 0, { 0 } },
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

static fs_status write_all(uint64_t shard_bytes, size_t piece, size_t stop_after, fs_error *err)
{
    fs_safetensors_writer *w = NULL;
    uint8_t data[64];
    size_t i, n_written = 0;
    fs_status rc = fs_safetensors_writer_new(folder, shard_bytes, &w, err);

    for (i = 0; i < N_SHAPES && !rc; i++)
        rc = fs_safetensors_writer_add(w, shapes[i].name, shapes[i].dtype, shapes[i].n_dims, shapes[i].dims, err);
    if (!rc)
        rc = fs_safetensors_writer_begin(w, err);
    while (!rc && n_written < stop_after && (i = fs_safetensors_writer_next(w)) < N_SHAPES) {
        for (size_t k = 0; k < bytes_of(i); k++)
            data[k] = (uint8_t)(40 * i + k);
        for (size_t at = 0; at < bytes_of(i) && !rc; at += piece)
            rc = fs_safetensors_writer_write(w, data + at, piece < bytes_of(i) - at ? piece : bytes_of(i) - at, err);
        n_written++;
    }
    if (!rc && n_written < stop_after)
        rc = fs_safetensors_writer_commit(w, err);
    fs_safetensors_writer_close(w);
    return rc;
}

/* Returns how many tensors the file holds. */
static size_t check_file(const char *name)
{
    char *path = fs_path_join(folder, name);
    fs_map map = { 0 };
    fs_safetensors *s = NULL;
    fs_error err = { 0 };
    size_t n;

    assert_ok(fs_map_open(&map, path, &err), err);
    assert_ok(fs_safetensors_open(map.bytes, name, &s, &err), err);
    n = fs_safetensors_n_tensors(s);
    for (size_t i = 0; i < N_SHAPES; i++) {
        const fs_tensor *t = fs_safetensors_find(s, shapes[i].name);
        if (!t)
            continue;
        assert_int_equal(t->dtype, shapes[i].dtype);
        assert_int_equal(t->n_dims, shapes[i].n_dims);
        assert_memory_equal(t->dims, shapes[i].dims, (size_t)t->n_dims * sizeof *t->dims);
        assert_int_equal(t->n_bytes, bytes_of(i));
        assert_int_equal((size_t)(t->data - map.bytes.data) % (t->n_bytes ? fs_dtype_get(t->dtype)->block_bytes : 1), 0);
        for (size_t k = 0; k < t->n_bytes; k++)
            assert_int_equal(t->data[k], (uint8_t)(40 * i + k));
    }
    fs_safetensors_close(s);
    fs_map_close(&map);
    free(path);
    return n;
}

static void one_file(void **state)
{
    fs_error err = { 0 };

    (void)state;
    for (size_t piece = 1; piece < 70; piece += 17) {
        assert_ok(write_all(0, piece, SIZE_MAX, &err), err);
        assert_int_equal(check_file("model.safetensors"), N_SHAPES);
        assert_int_equal(count_files(folder), 1);
    }
}

static void shards_of_a_limited_size(void **state)
{
    fs_buf index = { 0 };
    fs_error err = { 0 };
    char *path = fs_path_join(folder, "model.safetensors.index.json");

    (void)state;
    assert_ok(write_all(58, 7, SIZE_MAX, &err), err); /* 30 + 28 + 0, then 60 alone though it is over the limit, then 4 */
    assert_int_equal(check_file("model-00001-of-00003.safetensors"), 3);
    assert_int_equal(check_file("model-00002-of-00003.safetensors"), 1);
    assert_int_equal(check_file("model-00003-of-00003.safetensors"), 1);
    assert_int_equal(count_files(folder), 4);
    assert_ok(fs_file_read(path, 10000, &index, &err), err);
    assert_non_null(strstr(index.data, "\"total_size\":122"));
    assert_non_null(strstr(index.data, "\"a \\\"quoted\\\"\":\"model-00001-of-00003.safetensors\""));
    assert_non_null(strstr(index.data, "\"e.weight\":\"model-00002-of-00003.safetensors\""));
    fs_buf_done(&index);
    free(path);
}

static void what_is_not_committed_is_removed(void **state)
{
    fs_error err = { 0 };

    (void)state;
    for (size_t n = 0; n < N_SHAPES; n++) {
        assert_ok(write_all(58, 64, n, &err), err);
        assert_int_equal(count_files(folder), 0);
    }
}

static void what_has_no_place_is_refused(void **state)
{
    fs_safetensors_writer *w = NULL;
    fs_error err = { 0 };

    (void)state;
    assert_ok(fs_safetensors_writer_new(folder, 0, &w, &err), err);
    assert_int_equal(fs_safetensors_writer_begin(w, &err), FS_ERR_ARGUMENT);
    fs_safetensors_writer_close(w);
    assert_ok(fs_safetensors_writer_new(folder, 0, &w, &err), err);
    assert_int_equal(fs_safetensors_writer_add(w, "x", FS_DTYPE_Q8_0, 1, (uint64_t[]){ 32 }, &err), FS_ERR_UNSUPPORTED);
    assert_sentence(err, "Q8_0");
    assert_int_equal(fs_safetensors_writer_add(w, "y", FS_DTYPE_F32, 2, (uint64_t[]){ 1ull << 40, 1ull << 40 }, &err), FS_ERR_FORMAT);
    fs_safetensors_writer_close(w);
    fs_safetensors_writer_close(NULL);
}

static void a_full_disk_leaves_nothing(void **state)
{
    fs_error err = { 0 };
    fs_status rc;

    (void)state;
    for (rlim_t limit = 1;; limit++) { /* fails in the first file, in later ones, in the index, and then not */
        limit_files(limit);
        rc = write_all(58, 64, SIZE_MAX, &err);
        limit_files(RLIM_INFINITY);
        if (!rc)
            break;
        assert_int_equal(rc, FS_ERR_IO);
        assert_int_equal(count_files(folder), 0);
    }
    assert_int_equal(count_files(folder), 4);
}

static void every_allocation_may_fail(void **state)
{
    fs_status rc = FS_ERR_MEMORY;
    long n;

    (void)state;
    for (n = 1; rc; n++) {
        clear();
        alloc_fail_at(n);
        rc = write_all(58, 64, SIZE_MAX, NULL);
        alloc_fail_off();
        if (rc) {
            assert_int_equal(rc, FS_ERR_MEMORY);
            assert_int_equal(count_files(folder), 0);
        }
    }
    assert_true(n > 10);
    assert_int_equal(count_files(folder), 4);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = { T(one_file), T(shards_of_a_limited_size), T(what_is_not_committed_is_removed),
                                        T(what_has_no_place_is_refused), T(a_full_disk_leaves_nothing), T(every_allocation_may_fail) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
