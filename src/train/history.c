/* See the header. */
#include "train/history.h"

#include "base/file.h"
#include "data/records.h"
#include "lineage/provenance.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A thread hashes 1.5 GB/s and does 120 GFLOP/s at most of a step's 6 FLOP an active weight and token; a parameter has 12 bytes
 * of weight and moments, and a tensor costs as much as 1000 parameters. */
#define HASHED_PARAMETERS 8000
#define TENSOR_PARAMETERS 1000

uint64_t fs_history_every(uint64_t n_parameters, size_t n_tensors, uint64_t n_active, uint64_t tokens_step)
{
    double hashed = (double)n_parameters + (double)n_tensors * TENSOR_PARAMETERS, step = (double)n_active * (double)tokens_step;
    double every = step > 0 ? HASHED_PARAMETERS * hashed / step : 1;

    return every >= 1e9 ? (uint64_t)1000000000 : (uint64_t)every + 1;
}

static bool is_check(const fs_history *h)
{
    return h->check != NULL;
}

bool fs_history_tells(const fs_history *h)
{
    return h->origin || h->check;
}

/* ---- the file ---- */

fs_status fs_history_open(fs_history *h, const char *out, uint64_t n, fs_error *err)
{
    fs_buf text = { 0 };
    fs_bytes line;
    fs_lines lines;
    size_t keep = 0;
    fs_status rc = FS_OK;

    if (is_check(h)) {
        for (uint64_t i = 0; i < n && i < h->check->trace->n && !rc; i++)
            rc = fs_trace_add(&h->trace, &h->check->trace->rows[i], err);
        return rc;
    }
    h->path = fs_path_join(out, FS_TRACE_FILE);
    if (!h->path)
        return fs_fail_memory(err, strlen(out));
    if (n && fs_file_exists(h->path))
        rc = fs_file_read(h->path, FS_TRACE_BYTES_MAX, &text, err);
    lines = (fs_lines){ .text = fs_buf_bytes(&text) };
    while (!rc && lines.number < n && fs_lines_next(&lines, &line))
        keep = lines.at;
    if (!rc && lines.number < n)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has %zu lines, the checkpoint is of step %" PRIu64, h->path, lines.number, n);
    if (!rc)
        rc = fs_trace_read((fs_bytes){ (const uint8_t *)text.data, keep }, h->path, &h->trace, err);
    if (!rc)
        rc = fs_file_write_atomic(h->path, (fs_bytes){ (const uint8_t *)text.data, keep }, err);
    if (!rc) {
        h->fd = open(h->path, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (h->fd < 0)
            rc = fs_fail_errno(err, errno, "cannot open '%s'", h->path);
    }
    fs_buf_done(&text);
    return rc;
}

void fs_history_close(fs_history *h)
{
    if (h->fd >= 0)
        close(h->fd);
    free(h->path);
    fs_record_done(&h->made);
    fs_trace_done(&h->trace);
    *h = (fs_history){ .fd = -1 };
}

fs_status fs_history_sync(const fs_history *h, fs_error *err)
{
    return fsync(h->fd) == 0 ? FS_OK : fs_fail_errno(err, errno, "cannot sync the trace");
}

static fs_status write_row(const fs_history *h, const fs_trace_row *row, const char *fields, fs_error *err)
{
    char weights[65], state[65];
    fs_buf line = { 0 };
    fs_status rc = fs_buf_printf(&line, err, "{\"step\":%" PRIu64 ",\"loss\":\"%a\",\"grad_norm\":\"%a\"%s", row->step, row->loss, (double)row->grad_norm,
                                 fields);

    fs_root_hex(&row->weights, weights);
    fs_root_hex(&row->state, state);
    if (!rc && row->traced)
        rc = fs_buf_printf(&line, err, ",\"weights\":\"%s\",\"state\":\"%s\"", weights, state);
    if (!rc)
        rc = fs_buf_append_str(&line, "}\n", err);
    if (!rc)
        rc = fs_fd_write(h->fd, h->path, line.data, line.n_bytes, err);
    fs_buf_done(&line);
    return rc;
}

fs_status fs_history_put(fs_history *h, const fs_trace_row *row, const char *fields, fs_error *err)
{
    char said[FS_TRACE_DIFFERENCES_MAX];

    if (!is_check(h)) {
        fs_status rc = write_row(h, row, fields, err);
        return rc ? rc : fs_trace_add(&h->trace, row, err);
    }
    fs_trace_compare(&h->check->trace->rows[row->step - 1], row, said);
    if (!*said)
        return fs_trace_add(&h->trace, row, err);
    h->check->departed = true;
    return fs_fail(err, FS_ERR_FORMAT, "step %" PRIu64 " is the first that departs from the trace: %s", row->step, said);
}

/* ---- a check ---- */

fs_status fs_history_compare_roots(fs_history *h, uint64_t n, const fs_root *weights, const fs_root *state, fs_error *err)
{
    const fs_trace_row *row = &h->check->trace->rows[n - 1];
    bool same = row->traced && fs_root_equal(&row->weights, weights);

    if (same && fs_root_equal(&row->state, state))
        return FS_OK;
    h->check->departed = true;
    return fs_fail(err, FS_ERR_FORMAT, "'%s' is not what the trace has at step %" PRIu64 ": its %s differ%s", h->check->begin, n,
                   same ? "state" : "weights", same ? "s" : "");
}

fs_status fs_history_compare_result(fs_history *h, const fs_root *weights, const fs_root *state, fs_error *err)
{
    const char *value = fs_record_get(h->check->record, FS_RECORD_STATE, 0);
    fs_root want_weights, want_state = { { 0 } };
    uint64_t numbers[2];
    bool same;

    fs_record_result(h->check->record, &want_weights);
    if (value)
        fs_record_root_and_numbers(value, &want_state, numbers);
    same = fs_root_equal(weights, &want_weights);
    if (same && (!value || fs_root_equal(state, &want_state)))
        return FS_OK;
    h->check->departed = true;
    return fs_fail(err, FS_ERR_FORMAT, "behind the last step the %s", same ? "optimiser's state is not the record's" : "weights are not the record's result");
}

/* Up to where two lines must be the same: of a parent its root, of data its hash and what it is, not what it is called. */
static size_t told_length(fs_record_key key, const char *value)
{
    const char *blank = strchr(value, ' ');

    if (key == FS_RECORD_PARENT && blank)
        return (size_t)(blank - value);
    if (key == FS_RECORD_DATA && blank)
        return (size_t)(blank - value) + 1 + strcspn(blank + 1, " ");
    return strlen(value);
}

static fs_status compare_line(fs_history *h, fs_record_key key, const char *want, const char *have, fs_error *err)
{
    size_t n = want ? told_length(key, want) : 0;

    if (want && have && told_length(key, have) == n && memcmp(want, have, n) == 0)
        return FS_OK;
    h->check->departed = true;
    if (!want)
        return fs_fail(err, FS_ERR_FORMAT, "done again it has '%s %.200s', of which the record does not tell", fs_record_key_name(key), have);
    return fs_fail(err, FS_ERR_FORMAT, "the record says '%s %.200s'%s%.200s%s", fs_record_key_name(key), want, have ? ", done again it is '" : ", done again there is none",
                   have ? have : "", have ? "'" : "");
}

fs_status fs_history_compare(fs_history *h, fs_error *err)
{
    static const fs_record_key keys[] = { FS_RECORD_VERB, FS_RECORD_PARENT, FS_RECORD_INIT, FS_RECORD_DATA, FS_RECORD_RECIPE };
    fs_status rc = FS_OK;

    for (size_t k = 0; k < sizeof keys / sizeof *keys && !rc; k++)
        for (size_t i = 0; !rc; i++) {
            const char *want = fs_record_get(h->check->record, keys[k], i), *have = fs_record_get(&h->made, keys[k], i);
            if (!want && !have)
                break;
            rc = compare_line(h, keys[k], want, have, err);
        }
    return rc;
}

/* ---- beside a checkpoint ---- */

fs_status fs_history_recipe(const fs_record *r, fs_buf *out, fs_error *err)
{
    const char *value, *section = "";
    size_t section_n = 0;
    fs_status rc = FS_OK;

    for (size_t i = 0; !rc && (value = fs_record_get(r, FS_RECORD_RECIPE, i)) != NULL; i++) {
        size_t key_n = strcspn(value, " "), n = strcspn(value, ". ");
        const char *of = value[key_n] ? value + key_n + 1 : "";
        if (n == key_n) {
            rc = fs_buf_printf(out, err, "%.*s: %s\n", (int)key_n, value, of);
            section_n = 0;
            continue;
        }
        if (n != section_n || memcmp(section, value, n) != 0)
            rc = fs_buf_printf(out, err, "%.*s:\n", (int)n, value);
        section = value;
        section_n = n;
        if (!rc)
            rc = fs_buf_printf(out, err, "  %.*s: %s\n", (int)(key_n - n - 1), value + n + 1, of);
    }
    return rc;
}

static fs_status write_beside(const char *folder, const char *name, fs_bytes text, fs_error *err)
{
    char *path = fs_path_join(folder, name);
    fs_status rc = path ? fs_file_write_atomic(path, text, err) : fs_fail_memory(err, strlen(folder));

    free(path);
    return rc;
}

static fs_status copy_trace(const fs_history *h, const char *folder, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc = fs_file_read(h->path, FS_TRACE_BYTES_MAX, &text, err);

    if (!rc)
        rc = write_beside(folder, FS_TRACE_FILE, fs_buf_bytes(&text), err);
    fs_buf_done(&text);
    return rc;
}

static fs_status complete(const fs_history *h, fs_record *r, const fs_roots *state, fs_error *err)
{
    fs_root root;
    char hex[65];
    fs_status rc = fs_record_add_all(r, &h->made, err);

    if (!rc)
        rc = fs_trace_root(&h->trace, h->trace.n, &root, err);
    if (!rc) {
        fs_root_hex(&root, hex);
        rc = fs_record_add(r, err, FS_RECORD_TRACE, "%s %zu %" PRIu64, hex, h->trace.n, h->every);
    }
    fs_root_hex(&state->model, hex);
    return rc ? rc : fs_record_add(r, err, FS_RECORD_STATE, "%s %zu %" PRIu64, hex, state->n, state->n_bytes);
}

fs_status fs_history_leave(const fs_history *h, const char *folder, const fs_roots *weights, const fs_roots *state, fs_error *err)
{
    fs_record record = { 0 };
    fs_buf recipe = { 0 };
    fs_status rc;

    if (!h->origin)
        return FS_OK;
    rc = complete(h, &record, state, err);
    if (!rc)
        rc = fs_history_recipe(&record, &recipe, err);
    if (!rc)
        rc = write_beside(folder, FS_RECIPE_FILE, fs_buf_bytes(&recipe), err);
    if (!rc)
        rc = copy_trace(h, folder, err);
    if (!rc)
        rc = fs_provenance_end(&record, folder, weights, err);
    fs_buf_done(&recipe);
    fs_record_done(&record);
    return rc;
}
