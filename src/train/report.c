/* See the header. */
#include "train/report.h"

#include "train/chart.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SERIES_MAX 24 /* in a chart */

static const char head[] =
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><style>"
    ":root{--back:#f6f7f9;--panel:#fff;--line:#e3e6ea;--text:#1c2126;--faint:#67707a}"
    "@media(prefers-color-scheme:dark){:root{--back:#14171a;--panel:#1c2024;--line:#2e343a;--text:#e7eaed;--faint:#98a1aa}}"
    "body{margin:0 auto;max-width:1320px;padding:20px;background:var(--back);color:var(--text);font:15px/1.45 system-ui,sans-serif}"
    "h1{font-size:22px;margin:0 0 12px}h2{font-size:17px;margin:22px 0 8px}small{color:var(--faint);font-weight:400}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,560px),1fr));gap:12px}"
    "table{border-collapse:collapse;margin:16px 0;font-size:13px}td,th{padding:3px 12px 3px 0;text-align:right;border-bottom:1px solid var(--line)}"
    "td:first-child,th:first-child{text-align:left}th{color:var(--faint);font-weight:500}";

/* ---- the table ---- */

static fs_status put_row(fs_buf *out, const char *run, const fs_column *c, fs_error *err)
{
    double least = INFINITY, greatest = -INFINITY, last = NAN;
    fs_status rc;

    for (size_t i = 0; i < c->n; i++)
        if (!isnan(c->values[i])) {
            least = fmin(least, c->values[i]);
            greatest = fmax(greatest, c->values[i]);
            last = c->values[i];
        }
    rc = fs_buf_append_str(out, "<tr><td>", err);
    if (!rc)
        rc = fs_html_text(out, c->name, err);
    if (!rc && run)
        rc = fs_buf_append_str(out, "</td><td>", err);
    if (!rc && run)
        rc = fs_html_text(out, run, err);
    if (rc || isnan(last))
        return rc ? rc : fs_buf_append_str(out, "</td></tr>", err);
    return fs_buf_printf(out, err, "</td><td>%.6g</td><td>%.6g</td><td>%.6g</td><td>%.0f</td></tr>", last, least, greatest, c->steps[c->n - 1]);
}

static const fs_column *find(const fs_columns *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->items[i].name, name) == 0)
            return &c->items[i];
    return NULL;
}

/* Whether an earlier run has that name already. */
static bool came_before(const fs_report_run *runs, size_t run, const char *name)
{
    for (size_t i = 0; i < run; i++)
        if (find(&runs[i].columns, name))
            return true;
    return false;
}

static fs_status put_table(fs_buf *out, const fs_report_run *runs, size_t n_runs, fs_error *err)
{
    fs_status rc = fs_buf_printf(out, err, "<table><tr><th></th>%s<th>last</th><th>least</th><th>greatest</th><th>step</th></tr>",
                                 n_runs > 1 ? "<th>run</th>" : "");

    for (size_t r = 0; r < n_runs; r++)
        for (size_t i = 0; i < runs[r].columns.n && !rc; i++) {
            const char *name = runs[r].columns.items[i].name;
            if (came_before(runs, r, name))
                continue;
            for (size_t k = r; k < n_runs && !rc; k++) {
                const fs_column *c = find(&runs[k].columns, name);
                if (c && c->width == 1)
                    rc = put_row(out, n_runs > 1 ? runs[k].name : NULL, c, err);
            }
        }
    return rc ? rc : fs_buf_append_str(out, "</table>\n", err);
}

/* ---- the charts ---- */

static size_t group_of(const char *name)
{
    return strcspn(name, "/");
}

static bool same_group(const char *a, const char *b)
{
    return group_of(a) == group_of(b) && strncmp(a, b, group_of(a)) == 0;
}

/* The chart of the group that column i is the first of; nothing when it is not. */
static fs_status put_group(fs_buf *out, const fs_columns *c, size_t i, fs_error *err)
{
    fs_series series[SERIES_MAX];
    size_t n = 0;
    char *title;
    fs_status rc;

    for (size_t k = 0; k < i; k++)
        if (c->items[k].width == 1 && same_group(c->items[k].name, c->items[i].name))
            return FS_OK;
    for (size_t k = i; k < c->n && n < SERIES_MAX; k++)
        if (c->items[k].width == 1 && same_group(c->items[k].name, c->items[i].name))
            series[n++] = (fs_series){ c->items[k].name, c->items[k].steps, c->items[k].values, c->items[k].n };
    title = strndup(c->items[i].name, n > 1 ? group_of(c->items[i].name) : SIZE_MAX);
    if (!title)
        return fs_fail_memory(err, strlen(c->items[i].name) + 1);
    rc = fs_chart_curves(out, title, "step", series, n, err);
    free(title);
    return rc;
}

static fs_status put_one_run(fs_buf *out, const fs_columns *c, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < c->n && !rc; i++)
        rc = c->items[i].width == 1 ? put_group(out, c, i, err) : FS_OK;
    for (size_t i = 0; i < c->n && !rc; i++)
        if (c->items[i].width > 1)
            rc = fs_chart_map(out, c->items[i].name, "step", "", c->items[i].steps, c->items[i].values, c->items[i].n, c->items[i].width, err);
    return rc;
}

static fs_status put_several_runs(fs_buf *out, const fs_report_run *runs, size_t n_runs, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t r = 0; r < n_runs; r++)
        for (size_t i = 0; i < runs[r].columns.n && !rc; i++) {
            const char *name = runs[r].columns.items[i].name;
            fs_series series[SERIES_MAX];
            size_t n = 0;
            if (came_before(runs, r, name) || runs[r].columns.items[i].width != 1)
                continue;
            for (size_t k = r; k < n_runs && n < SERIES_MAX; k++) {
                const fs_column *c = find(&runs[k].columns, name);
                if (c && c->width == 1)
                    series[n++] = (fs_series){ runs[k].name, c->steps, c->values, c->n };
            }
            rc = fs_chart_curves(out, name, "step", series, n, err);
        }
    return rc;
}

static fs_status put_head(fs_buf *out, const char *title, fs_error *err)
{
    fs_status rc = fs_buf_append_str(out, head, err);

    if (!rc)
        rc = fs_buf_printf(out, err, "%s</style><title>", fs_chart_style);
    if (!rc)
        rc = fs_html_text(out, title, err);
    if (!rc)
        rc = fs_buf_append_str(out, "</title><h1>", err);
    if (!rc)
        rc = fs_html_text(out, title, err);
    return rc ? rc : fs_buf_append_str(out, "</h1>", err);
}

fs_status fs_report_write(const fs_report_run *runs, size_t n_runs, const char *title, fs_buf *out, fs_error *err)
{
    fs_status rc = put_head(out, title, err);

    if (!rc)
        rc = fs_buf_append_str(out, "<div class=\"charts\">\n", err);
    if (!rc)
        rc = n_runs == 1 ? put_one_run(out, &runs[0].columns, err) : put_several_runs(out, runs, n_runs, err);
    if (!rc)
        rc = fs_buf_append_str(out, "</div>\n", err);
    if (!rc)
        rc = put_table(out, runs, n_runs, err);
    return rc ? rc : fs_buf_printf(out, err, "<script>%s</script></html>\n", fs_chart_script);
}

/* ---- a chain ---- */

static fs_status put_numbers(fs_buf *out, const fs_report_stage *s, fs_error *err)
{
    fs_status rc = fs_buf_append_str(out, "<table>", err);

    for (size_t i = 0; i < s->n && !rc; i++) {
        rc = fs_buf_append_str(out, "<tr><td>", err);
        rc = rc ? rc : fs_html_text(out, s->keys[i], err);
        rc = rc ? rc : fs_buf_append_str(out, "</td><td>", err);
        rc = rc ? rc : fs_html_text(out, s->values[i], err);
        rc = rc ? rc : fs_buf_append_str(out, "</td></tr>", err);
    }
    return rc ? rc : fs_buf_append_str(out, "</table>\n", err);
}

static fs_status put_curves(fs_buf *out, const fs_report_stage *s, fs_error *err)
{
    const fs_report_run run = { s->name, s->columns };
    fs_status rc = fs_buf_append_str(out, "<div class=\"charts\">\n", err);

    if (!rc)
        rc = put_one_run(out, &s->columns, err);
    if (!rc)
        rc = fs_buf_append_str(out, "</div>\n", err);
    return rc ? rc : put_table(out, &run, 1, err);
}

fs_status fs_report_chain(const fs_report_stage *stages, size_t n, const char *title, fs_buf *out, fs_error *err)
{
    fs_status rc = put_head(out, title, err);

    for (size_t i = 0; i < n && !rc; i++) {
        const fs_report_stage *s = &stages[i];
        rc = fs_buf_append_str(out, "<h2>", err);
        rc = rc ? rc : fs_html_text(out, s->name, err);
        rc = rc ? rc : fs_buf_append_str(out, " <small>", err);
        rc = rc ? rc : fs_html_text(out, s->what, err);
        rc = rc ? rc : fs_buf_append_str(out, "</small></h2>\n", err);
        if (!rc)
            rc = s->columns.n ? put_curves(out, s, err) : put_numbers(out, s, err);
    }
    return rc ? rc : fs_buf_printf(out, err, "<script>%s</script></html>\n", fs_chart_script);
}
