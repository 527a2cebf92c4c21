/* See the header. */
#include "train/metrics.h"

#include "base/file.h"
#include "base/json.h"
#include "train/events.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX ((size_t)1 << 30)

struct fs_metrics {
    char *path;
    int lines, events; /* descriptors; events -1: none */
    fs_buf text;
    const char **tags;
    double *numbers;
    size_t n_max;
};

/* ---- writing ---- */

/* The bytes of the lines before step. A line begins with {"step": N, as fs_metrics_log writes it. */
static size_t bytes_before(const fs_buf *text, uint64_t step)
{
    static const char begin[] = "{\"step\": ";
    size_t at = 0;

    while (at < text->n_bytes) {
        const char *line = text->data + at, *end = memchr(line, '\n', text->n_bytes - at);
        if (!end || strncmp(line, begin, sizeof begin - 1) != 0 || strtoull(line + sizeof begin - 1, NULL, 10) >= step)
            break;
        at = (size_t)(end + 1 - text->data);
    }
    return at;
}

static fs_status cut(const char *path, uint64_t step, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc;

    if (!fs_file_exists(path))
        return FS_OK;
    rc = fs_file_read(path, FILE_BYTES_MAX, &text, err);
    if (!rc && truncate(path, (off_t)bytes_before(&text, step)) != 0)
        rc = fs_fail_errno(err, errno, "cannot shorten '%s'", path);
    fs_buf_done(&text);
    return rc;
}

static fs_status open_events(fs_metrics *m, const char *folder, uint64_t step, double wall, fs_error *err)
{
    char name[96], *path;
    fs_buf first = { 0 };
    fs_status rc = fs_events_begin(&first, wall, err);

    snprintf(name, sizeof name, "events.out.tfevents.%010.0f.farseek.%" PRIu64, wall, step);
    path = fs_path_join(folder, name);
    if (!rc && !path)
        rc = fs_fail_memory(err, strlen(folder) + sizeof name);
    if (!rc) {
        m->events = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        rc = m->events < 0 ? fs_fail_errno(err, errno, "cannot make '%s'", path) : fs_fd_write(m->events, path, first.data, first.n_bytes, err);
    }
    free(path);
    fs_buf_done(&first);
    return rc;
}

fs_status fs_metrics_open(const char *folder, uint64_t step, bool tensorboard, double wall, fs_metrics **ret, fs_error *err)
{
    fs_metrics *m = calloc(1, sizeof *m);
    fs_status rc = FS_OK;

    if (!m)
        return fs_fail_memory(err, sizeof *m);
    m->lines = m->events = -1;
    m->path = fs_path_join(folder, FS_METRICS_FILE);
    if (!m->path)
        rc = fs_fail_memory(err, strlen(folder) + 16);
    if (!rc)
        rc = cut(m->path, step, err);
    if (!rc) {
        m->lines = open(m->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (m->lines < 0)
            rc = fs_fail_errno(err, errno, "cannot open '%s'", m->path);
    }
    if (!rc && tensorboard)
        rc = open_events(m, folder, step, wall, err);
    if (rc) {
        fs_metrics_close(m);
        return rc;
    }
    *ret = m;
    return FS_OK;
}

static fs_status put_number(fs_buf *b, double v, fs_error *err)
{
    return isfinite(v) ? fs_buf_printf(b, err, "%.9g", v) : fs_buf_append_str(b, "null", err);
}

static fs_status put_line(fs_buf *b, uint64_t step, const fs_metric *items, size_t n, fs_error *err)
{
    fs_status rc = fs_buf_printf(b, err, "{\"step\": %" PRIu64, step);

    for (size_t i = 0; i < n && !rc; i++) {
        rc = fs_buf_printf(b, err, ", \"%s\": %s", items[i].name, items[i].n == 1 ? "" : "[");
        for (size_t k = 0; k < items[i].n && !rc; k++) {
            rc = k ? fs_buf_append_str(b, ", ", err) : FS_OK;
            if (!rc)
                rc = put_number(b, items[i].values[k], err);
        }
        if (!rc && items[i].n != 1)
            rc = fs_buf_append_str(b, "]", err);
    }
    return rc ? rc : fs_buf_append_str(b, "}\n", err);
}

static fs_status log_events(fs_metrics *m, uint64_t step, double wall, const fs_metric *items, size_t n, fs_error *err)
{
    size_t n_numbers = 0;
    fs_status rc;

    if (n > m->n_max) {
        const char **tags = realloc(m->tags, n * sizeof *tags);
        double *numbers = tags ? realloc(m->numbers, n * sizeof *numbers) : NULL;
        m->tags = tags ? tags : m->tags;
        m->numbers = numbers ? numbers : m->numbers;
        if (!numbers)
            return fs_fail_memory(err, n * sizeof *numbers);
        m->n_max = n;
    }
    for (size_t i = 0; i < n; i++)
        if (items[i].n == 1 && isfinite(items[i].values[0])) {
            m->tags[n_numbers] = items[i].name;
            m->numbers[n_numbers++] = items[i].values[0];
        }
    fs_buf_clear(&m->text);
    rc = fs_events_put(&m->text, wall, step, m->tags, m->numbers, n_numbers, err);
    return rc ? rc : fs_fd_write(m->events, "TensorBoard's events", m->text.data, m->text.n_bytes, err);
}

fs_status fs_metrics_log(fs_metrics *m, uint64_t step, double wall, const fs_metric *items, size_t n, fs_error *err)
{
    fs_status rc;

    fs_buf_clear(&m->text);
    rc = put_line(&m->text, step, items, n, err);
    if (!rc)
        rc = fs_fd_write(m->lines, m->path, m->text.data, m->text.n_bytes, err);
    if (!rc && m->events >= 0)
        rc = log_events(m, step, wall, items, n, err);
    return rc;
}

void fs_metrics_close(fs_metrics *m)
{
    if (!m)
        return;
    if (m->lines >= 0)
        close(m->lines);
    if (m->events >= 0)
        close(m->events);
    fs_buf_done(&m->text);
    free(m->tags);
    free(m->numbers);
    free(m->path);
    free(m);
}

/* ---- reading ---- */

/* The column of that name, which is most often where the last line had it. */
static fs_status find_column(fs_columns *c, const char *name, size_t guess, size_t width, fs_column **ret, fs_error *err)
{
    fs_column *more;

    if (guess < c->n && strcmp(c->items[guess].name, name) == 0) {
        *ret = &c->items[guess];
        return FS_OK;
    }
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->items[i].name, name) == 0) {
            *ret = &c->items[i];
            return FS_OK;
        }
    if (c->n == FS_COLUMNS_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "more than %d names", FS_COLUMNS_MAX);
    if (c->n == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 32;
        more = realloc(c->items, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        c->items = more;
        c->capacity = capacity;
    }
    c->items[c->n] = (fs_column){ .name = strdup(name), .width = width };
    if (!c->items[c->n].name)
        return fs_fail_memory(err, strlen(name) + 1);
    *ret = &c->items[c->n++];
    return FS_OK;
}

static fs_status grow(fs_column *c, fs_error *err)
{
    size_t capacity = c->capacity ? 2 * c->capacity : 64, n_bytes;
    double *steps, *values;

    if (c->n < c->capacity)
        return FS_OK;
    if (!fs_mul_size(capacity * sizeof *values, c->width, &n_bytes))
        return fs_fail_memory(err, SIZE_MAX);
    steps = realloc(c->steps, capacity * sizeof *steps);
    c->steps = steps ? steps : c->steps;
    values = steps ? realloc(c->values, n_bytes) : NULL;
    c->values = values ? values : c->values;
    if (!values)
        return fs_fail_memory(err, n_bytes);
    c->capacity = capacity;
    return FS_OK;
}

static bool number_of(struct json_object *v, double *ret)
{
    if (!v)
        *ret = NAN;
    else if (json_object_is_type(v, json_type_double) || json_object_is_type(v, json_type_int))
        *ret = json_object_get_double(v);
    else
        return false;
    return true;
}

static fs_status read_value(fs_columns *c, const char *name, struct json_object *v, double step, size_t guess, fs_error *err)
{
    bool list = json_object_is_type(v, json_type_array);
    size_t width = list ? json_object_array_length(v) : 1;
    fs_column *column = NULL;
    fs_status rc;

    if (width == 0 || width > FS_COLUMNS_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "'%.80s' has %zu values", name, width);
    rc = find_column(c, name, guess, width, &column, err);
    if (!rc && column->width != width)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%.80s' has %zu values, before it had %zu", name, width, column->width);
    if (!rc)
        rc = grow(column, err);
    if (rc)
        return rc;
    column->steps[column->n] = step;
    for (size_t i = 0; i < width; i++)
        if (!number_of(list ? json_object_array_get_idx(v, i) : v, &column->values[column->n * width + i]))
            return fs_fail(err, FS_ERR_FORMAT, "'%.80s' is not a number", name);
    column->n++;
    return FS_OK;
}

static fs_status read_line(fs_columns *c, fs_bytes line, const char *what, fs_error *err)
{
    struct json_object *v = NULL;
    int64_t step = -1;
    size_t guess = 0;
    fs_status rc = fs_json_parse(line, what, &v, err);

    if (!rc && !json_object_is_type(v, json_type_object))
        rc = fs_fail(err, FS_ERR_FORMAT, "no JSON object");
    if (!rc)
        rc = fs_json_int(v, "step", 0, INT64_MAX, &step, NULL, err);
    if (!rc && step < 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "no step");
    if (!rc) {
        json_object_object_foreach(v, key, value)
        {
            if (strcmp(key, "step") != 0 && (rc = read_value(c, key, value, (double)step, guess++, err)) != FS_OK)
                break;
        }
    }
    json_object_put(v);
    return rc;
}

fs_status fs_columns_read(const char *path, fs_columns *ret, fs_error *err)
{
    fs_columns c = { 0 };
    fs_buf text = { 0 };
    fs_error why = { 0 };
    size_t at = 0, number = 1;
    fs_status rc = fs_file_read(path, FILE_BYTES_MAX, &text, err);

    if (rc)
        return rc;
    for (const char *end; at < text.n_bytes && (end = memchr(text.data + at, '\n', text.n_bytes - at)) != NULL && !rc; number++) {
        fs_bytes line = { (const uint8_t *)text.data + at, (size_t)(end - (text.data + at)) };
        rc = read_line(&c, line, "line", &why);
        if (rc)
            fs_fail(err, rc, "'%s', line %zu: %s", path, number, why.message);
        at += line.n_bytes + 1;
    }
    fs_buf_done(&text);
    if (rc) {
        fs_columns_done(&c);
        return rc;
    }
    *ret = c;
    return FS_OK;
}

void fs_columns_done(fs_columns *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n; i++) {
        free(c->items[i].name);
        free(c->items[i].steps);
        free(c->items[i].values);
    }
    free(c->items);
    *c = (fs_columns){ 0 };
}
