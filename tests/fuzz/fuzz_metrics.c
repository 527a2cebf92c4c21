/* Any text as metrics.jsonl: refused with a sentence, or columns whose steps and values go together, and a page of curves that ends and
 * holds no script but its own. */
#include "fuzz/fuzz.h"

#include "make_files.h"
#include "train/report.h"

#include <string.h>

static const char *const files[] = { "metrics.jsonl", NULL };
static char *folder;

static void clean_up(void)
{
    remove_folder(folder, files);
}

static size_t n_scripts(const fs_buf *page)
{
    const char *at = page->data, *end = page->data + page->n_bytes;
    size_t n = 0;

    for (; (at = memmem(at, (size_t)(end - at), "<script", 7)) != NULL; at++)
        n++;
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_report_run run = { .name = "fuzz" };
    fs_error err = { 0 };
    fs_buf page = { 0 };
    char path[256];
    fs_status rc;

    if (!folder) {
        folder = make_folder();
        atexit(clean_up);
    }
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    put_plainly(folder, "metrics.jsonl", data, n_bytes);
    rc = fs_columns_read(path, &run.columns, &err);
    if (rc) {
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    for (size_t i = 0; i < run.columns.n; i++) {
        const fs_column *c = &run.columns.items[i];
        HOLDS(c->name && c->n > 0 && c->n <= c->capacity && c->width > 0 && c->width <= FS_COLUMNS_MAX);
        for (size_t k = 0; k < c->n * c->width; k++) /* read, so that a sanitizer sees them */
            HOLDS(c->values[k] == c->values[k] || c->values[k] != c->values[k]);
    }
    rc = fs_report_write(&run, 1, "fuzz", &page, &err);
    if (rc)
        failed_with_a_sentence(rc, &err);
    else
        HOLDS(page.n_bytes > 16 && memcmp(page.data + page.n_bytes - 8, "</html>\n", 8) == 0 && n_scripts(&page) == 1);
    fs_buf_done(&page);
    fs_columns_done(&run.columns);
    return 0;
}
