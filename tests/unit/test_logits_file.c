#include "unit.h"

#include "base/file.h"
#include "cli/logits_file.h"

#include <unistd.h>

#define V 7

static char path[] = "/tmp/farseek-logits-XXXXXX";
static const fs_windows windows = { .ctx = 6, .first = 3, .stride = 4, .n = 3 };
static const int32_t ids[14] = { 0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6 };
static uint8_t content[4096];
static size_t n_content;

/* A whole file in content, which every test changes. */
static int setup(void **state)
{
    fs_writer w;
    fs_buf b = { 0 };

    (void)state;
    if (fs_writer_open(&w, path, NULL) || fs_logits_file_begin(&w, V, &windows, ids, NULL))
        return -1;
    for (uint32_t i = 0; i < fs_windows_n_rows(&windows) * V; i++)
        if (fs_writer_put(&w, &(float){ (float)i }, sizeof(float), NULL))
            return -1;
    if (fs_writer_commit(&w, NULL) || !fs_logits_file_is(path) || fs_file_read(path, sizeof content, &b, NULL))
        return -1;
    memcpy(content, b.data, b.n_bytes);
    n_content = b.n_bytes;
    fs_buf_done(&b);
    unlink(path);
    return 0;
}

static fs_status rows(size_t n_bytes, uint32_t v, fs_windows w, const int32_t *tokens, const float **ret, fs_error *err)
{
    uint8_t *exact = malloc(n_bytes ? n_bytes : 1); /* so that a sanitizer sees a stray read */
    const float *found = NULL;
    fs_status rc;

    memcpy(exact, content, n_bytes);
    rc = fs_logits_file_rows((fs_bytes){ exact, n_bytes }, "x", v, &w, tokens, &found, err);
    if (!rc)
        *ret = (const float *)(const void *)(content + ((const uint8_t *)found - exact));
    free(exact);
    return rc;
}

static void what_was_written_is_read(void **state)
{
    const float *r = NULL;
    fs_error err;

    (void)state;
    assert_int_equal(fs_windows_n_ids(&windows), 14);
    assert_int_equal(fs_windows_n_rows(&windows), 6);
    assert_ok(rows(n_content, V, windows, ids, &r, &err), err);
    for (int i = 0; i < 6 * V; i++)
        assert_true(r[i] == (float)i);
    assert_ok(rows(n_content, V, (fs_windows){ 6, 3, 4, 2 }, ids, &r, &err), err); /* fewer windows than it has */
}

static void refused(fs_status want, size_t n_bytes, uint32_t v, fs_windows w, const int32_t *tokens, const char *word)
{
    const float *r = NULL;
    fs_error err;

    assert_int_equal(rows(n_bytes, v, w, tokens, &r, &err), want);
    assert_non_null(strstr(err.message, word));
    assert_null(r);
}

static void another_run_is_refused(void **state)
{
    int32_t other[14];

    (void)state;
    memcpy(other, ids, sizeof other);
    other[13] = 5;
    refused(FS_ERR_ARGUMENT, n_content, V + 1, windows, ids, "vocabulary");
    refused(FS_ERR_ARGUMENT, n_content, V, (fs_windows){ 7, 3, 4, 3 }, ids, "--ctx");
    refused(FS_ERR_ARGUMENT, n_content, V, (fs_windows){ 6, 2, 4, 3 }, ids, "--stride");
    refused(FS_ERR_ARGUMENT, n_content, V, (fs_windows){ 6, 3, 4, 4 }, ids, "--chunks 3");
    refused(FS_ERR_ARGUMENT, n_content, V, windows, other, "another text");
}

static void damage_is_refused(void **state)
{
    (void)state;
    for (size_t n = 0; n < n_content; n++)
        refused(FS_ERR_FORMAT, n, V, windows, ids, "'x'");
    content[n_content] = 0;
    refused(FS_ERR_FORMAT, n_content + 1, V, windows, ids, "cut short");
    memset(content + 24, 255, 4); /* windows: more than any file holds */
    refused(FS_ERR_FORMAT, n_content, V, windows, ids, "cut short");
    content[0] = 'x';
    refused(FS_ERR_FORMAT, n_content, V, windows, ids, "--save-logits");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_was_written_is_read, setup),
        cmocka_unit_test_setup(another_run_is_refused, setup),
        cmocka_unit_test_setup(damage_is_refused, setup),
    };
    int fd = mkstemp(path);

    if (fd >= 0)
        close(fd);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
