/* See the header. */
#include "cli/data_cli.h"

#include "base/json.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

uint64_t *fs_counts_of(fs_counts *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->names[i], name) == 0)
            return &c->values[i];
    assert(c->n < FS_COUNTS_MAX);
    c->names[c->n] = name;
    c->values[c->n] = 0;
    return &c->values[c->n++];
}

fs_status fs_counts_print(const fs_counts *c, const char *out, bool json, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc = FS_OK;

    if (json) {
        rc = fs_buf_append_str(&text, "{", err);
        if (!rc && out) {
            rc = fs_buf_append_str(&text, "\"out\": ", err);
            rc = rc ? rc : fs_json_quote(&text, fs_bytes_str(out), err);
        }
    } else if (out) {
        rc = fs_buf_printf(&text, err, "%s: ", out);
    }
    for (size_t i = 0; i < c->n && !rc; i++) {
        if (!json) {
            rc = fs_buf_printf(&text, err, "%s%" PRIu64 " %s", i ? ", " : "", c->values[i], c->names[i]);
            continue;
        }
        rc = i || out ? fs_buf_append_str(&text, ", ", err) : FS_OK;
        if (!rc)
            rc = fs_json_quote(&text, fs_bytes_str(c->names[i]), err);
        if (!rc)
            rc = fs_buf_printf(&text, err, ": %" PRIu64, c->values[i]);
    }
    if (!rc)
        rc = fs_buf_append_str(&text, json ? "}\n" : "\n", err);
    if (!rc)
        fwrite(text.data, 1, text.n_bytes, stdout);
    fs_buf_done(&text);
    return rc;
}

fs_status fs_put_line(fs_writer *w, fs_bytes line, fs_error *err)
{
    fs_status rc = fs_writer_put(w, line.data, line.n_bytes, err);

    return rc ? rc : fs_writer_put(w, "\n", 1, err);
}

fs_status fs_records_walk(const char *const *paths, size_t n_paths, const char *what, fs_data_record_fn *fn, void *ud, fs_error *err)
{
    uint64_t n_bytes = 0, before = 0;
    fs_work work;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n_paths && !rc; i++) {
        fs_map map = { 0 };
        rc = fs_map_open(&map, paths[i], err);
        n_bytes += map.bytes.n_bytes;
        fs_map_close(&map);
    }
    fs_work_start(&work, what, "MiB", 1048576);
    for (size_t i = 0; i < n_paths && !rc; i++) {
        fs_map map = { 0 };
        fs_lines lines = { 0 };
        fs_data_record r;
        bool more = true;
        rc = fs_map_open(&map, paths[i], err);
        lines.text = map.bytes;
        while (!rc && !(rc = fs_data_record_next(&lines, paths[i], &r, &more, err)) && more) {
            rc = fn(ud, &r, paths[i], lines.number, err);
            if (!rc)
                rc = fs_progress_tell(&work.progress, before + lines.at, n_bytes, err);
        }
        before += map.bytes.n_bytes;
        fs_map_close(&map);
    }
    fs_work_end(&work);
    return rc;
}
