/* See the header. */
#include "lineage/trace.h"

#include "base/json.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLAIN_BYTES 22 /* of a row without roots */

static uint8_t *put_le(uint8_t *at, uint64_t v, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        *at++ = (uint8_t)(v >> 8 * i);
    return at;
}

fs_status fs_trace_leaf(const fs_trace_row *row, fs_root *ret, fs_error *err)
{
    uint8_t bytes[PLAIN_BYTES + 2 * sizeof(fs_root)], *at = bytes;
    uint64_t loss;
    uint32_t norm;

    memcpy(&loss, &row->loss, sizeof loss);
    memcpy(&norm, &row->grad_norm, sizeof norm);
    at = put_le(at, 3, 1);
    at = put_le(at, row->step, 8);
    at = put_le(at, loss, 8);
    at = put_le(at, norm, 4);
    at = put_le(at, row->traced, 1);
    if (row->traced) {
        memcpy(at, row->weights.bytes, sizeof(fs_root));
        memcpy(at + sizeof(fs_root), row->state.bytes, sizeof(fs_root));
    }
    return fs_sha256_of((fs_bytes){ bytes, row->traced ? sizeof bytes : PLAIN_BYTES }, ret->bytes, err);
}

fs_status fs_trace_add(fs_trace *t, const fs_trace_row *row, fs_error *err)
{
    assert(row->step == t->n + 1);
    if (t->n == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 256;
        fs_trace_row *more = realloc(t->rows, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        t->rows = more;
        t->capacity = capacity;
    }
    t->rows[t->n++] = *row;
    return FS_OK;
}

fs_status fs_trace_root(const fs_trace *t, size_t n, fs_root *ret, fs_error *err)
{
    fs_root *leaves = malloc((n ? n : 1) * sizeof *leaves);
    fs_status rc = leaves ? FS_OK : fs_fail_memory(err, n * sizeof *leaves);

    assert(n <= t->n);
    for (size_t i = 0; i < n && !rc; i++)
        rc = fs_trace_leaf(&t->rows[i], &leaves[i], err);
    if (!rc)
        rc = fs_root_tree(leaves, n, ret, err);
    free(leaves);
    return rc;
}

void fs_trace_done(fs_trace *t)
{
    free(t->rows);
    *t = (fs_trace){ 0 };
}

void fs_trace_compare(const fs_trace_row *a, const fs_trace_row *b, char ret[FS_TRACE_DIFFERENCES_MAX])
{
    const struct {
        const char *name;
        bool differs;
    } parts[] = {
        { "loss", memcmp(&a->loss, &b->loss, sizeof a->loss) != 0 },
        { "gradient norm", memcmp(&a->grad_norm, &b->grad_norm, sizeof a->grad_norm) != 0 },
        { "roots taken", a->traced != b->traced },
        { "weights", a->traced && b->traced && !fs_root_equal(&a->weights, &b->weights) },
        { "state", a->traced && b->traced && !fs_root_equal(&a->state, &b->state) },
    };
    size_t n = 0;

    *ret = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].differs)
            n += (size_t)snprintf(ret + n, FS_TRACE_DIFFERENCES_MAX - n, "%s%s", n ? ", " : "", parts[i].name);
}

/* ---- the text ---- */

static fs_status read_float(struct json_object *json, const char *key, double *ret, fs_error *err)
{
    fs_bytes text = { 0 };
    bool found = false;
    char *end = NULL;
    fs_status rc = fs_json_string(json, key, &text, &found, err);

    if (!rc && found)
        *ret = strtod((const char *)text.data, &end);
    if (!rc && (!found || text.n_bytes == 0 || (const uint8_t *)end != text.data + text.n_bytes))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' is no number", key);
    return rc;
}

static fs_status read_root(struct json_object *json, const char *key, fs_root *ret, bool *ret_found, fs_error *err)
{
    fs_bytes text = { 0 };
    fs_status rc = fs_json_string(json, key, &text, ret_found, err);

    if (!rc && *ret_found && !fs_root_read(text, ret))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' is no hash", key);
    return rc;
}

static fs_status read_row(fs_bytes line, uint64_t number, fs_trace_row *ret, fs_error *err)
{
    struct json_object *json = NULL;
    double norm = 0;
    int64_t step = 0;
    bool state = false;
    fs_status rc = fs_json_parse(line, "row", &json, err);

    if (!rc && !json_object_is_type(json, json_type_object))
        rc = fs_fail(err, FS_ERR_FORMAT, "no JSON object");
    if (!rc)
        rc = fs_json_int(json, "step", 1, INT64_MAX, &step, NULL, err);
    if (!rc && (uint64_t)step != number)
        rc = fs_fail(err, FS_ERR_FORMAT, "step %" PRId64 " where %" PRIu64 " is due", step, number);
    if (!rc)
        rc = read_float(json, "loss", &ret->loss, err);
    if (!rc)
        rc = read_float(json, "grad_norm", &norm, err);
    if (!rc)
        rc = read_root(json, "weights", &ret->weights, &ret->traced, err);
    if (!rc)
        rc = read_root(json, "state", &ret->state, &state, err);
    if (!rc && (state != ret->traced || (double)(float)norm != norm))
        rc = fs_fail(err, FS_ERR_FORMAT, state == ret->traced ? "'grad_norm' is no binary32 number" : "one of 'weights' and 'state' is missing");
    ret->step = number;
    ret->grad_norm = (float)norm;
    json_object_put(json);
    return rc;
}

fs_status fs_trace_read(fs_bytes text, const char *what, fs_trace *ret, fs_error *err)
{
    fs_trace t = { 0 };
    fs_error why = { 0 };
    size_t at = 0;
    fs_status rc = FS_OK;

    while (at < text.n_bytes && !rc) {
        const uint8_t *end = memchr(text.data + at, '\n', text.n_bytes - at);
        fs_trace_row row = { 0 };
        if (!end)
            rc = fs_fail(&why, FS_ERR_FORMAT, "half a line");
        else
            rc = read_row((fs_bytes){ text.data + at, (size_t)(end - (text.data + at)) }, t.n + 1, &row, &why);
        if (!rc)
            rc = fs_trace_add(&t, &row, &why);
        if (rc)
            rc = fs_fail(err, rc, "'%s', line %zu: %s", what, t.n + 1, why.message);
        else
            at = (size_t)(end + 1 - text.data);
    }
    if (rc) {
        fs_trace_done(&t);
        return rc;
    }
    *ret = t;
    return FS_OK;
}
