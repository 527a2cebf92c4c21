/* farseek report: the curves of trainings as one page. The work is in train/report.c. */
#include "cli/cli.h"

#include "base/file.h"
#include "train/report.h"

#include <stdlib.h>
#include <string.h>

static struct {
    const char *out, *title;
} opt = { .out = "report.html" };

static const fs_option options[] = {
    FS_OPT_STR("out", 'o', opt.out, "FILE", "the page (default report.html)"),
    FS_OPT_STR("title", 0, opt.title, "TEXT", "its title (default: the runs' names)"),
    FS_OPT_END
};

/* The run's name: the last part of its path. */
static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

static fs_status read_run(const char *path, fs_report_run *ret, fs_error *err)
{
    char *file = fs_file_is_folder(path) ? fs_path_join(path, FS_METRICS_FILE) : strdup(path);
    fs_status rc = file ? fs_columns_read(file, &ret->columns, err) : fs_fail_memory(err, strlen(path) + 16);

    ret->name = name_of(path);
    if (!rc && ret->columns.n == 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' tells nothing yet", file);
    free(file);
    return rc;
}

static fs_status join_names(const fs_report_run *runs, size_t n, fs_buf *ret, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n && !rc; i++)
        rc = fs_buf_printf(ret, err, "%s%s", i ? ", " : "", runs[i].name);
    return rc;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    size_t n = (size_t)args->n;
    fs_report_run *runs = calloc(n, sizeof *runs);
    fs_buf page = { 0 }, names = { 0 };
    fs_status rc = runs ? FS_OK : fs_fail_memory(err, n * sizeof *runs);

    for (size_t i = 0; i < n && !rc; i++)
        rc = read_run(args->items[i], &runs[i], err);
    if (!rc)
        rc = join_names(runs, n, &names, err);
    if (!rc)
        rc = fs_report_write(runs, n, opt.title ? opt.title : names.data, &page, err);
    if (!rc)
        rc = fs_file_write_atomic(opt.out, fs_buf_bytes(&page), err);
    for (size_t i = 0; i < n && runs; i++)
        fs_columns_done(&runs[i].columns);
    free(runs);
    fs_buf_done(&page);
    fs_buf_done(&names);
    return rc;
}

const fs_command fs_command_report = {
    .set = { .name = "report",
             .usage = "RUN...",
             .summary = "Show the curves of trainings as a page.",
             .text = "RUN is the folder of a training, or its metrics.jsonl. One run: a chart a group of metrics and maps of the experts' load; several: "
                     "a chart a metric with a line a run.",
             .options = options,
             .n_args_min = 1,
             .n_args_max = -1 },
    .run = run,
};
