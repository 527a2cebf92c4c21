/* Reads the header of one safetensors file into views. The header is read in one pass that keeps nothing but the
 * result, since a stranger's header may be 100 MB. Strings live in one pool, views in one array sorted by name; neither is
 * touched after open. */
#include "formats/safetensors.h"

#include "base/pull.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fs_safetensors {
    fs_tensor *tensors;
    size_t n_tensors, capacity;
    char *names; /* one after the other, each with its NUL */
    size_t names_bytes;
};

/* What is being read. */
typedef struct reader {
    fs_pull pull;
    fs_bytes data;
    const char *what;
    fs_safetensors *s;
} reader;

/* Digits that fit 64 bits, and nothing but a comma or the list's end behind them. */
static bool take_size(fs_pull *p, uint64_t *ret)
{
    uint64_t v = 0;
    size_t begin;
    uint8_t c = fs_pull_peek(p);

    for (begin = p->at; c >= '0' && c <= '9'; c = ++p->at < p->text.n_bytes ? p->text.data[p->at] : 0)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(c - '0'), &v))
            return false;
    *ret = v;
    if (p->at == begin || (p->text.data[begin] == '0' && p->at - begin > 1))
        return false;
    c = fs_pull_peek(p);
    return c == ',' || c == ']';
}

/* Up to n_max sizes into ret; *ret_n counts all of them. A value that is no list has no sizes: *ret_n = SIZE_MAX. */
static fs_status read_sizes(reader *r, const fs_tensor *t, const char *key, uint64_t *ret, size_t n_max, size_t *ret_n, fs_error *err)
{
    fs_pull *p = &r->pull;
    size_t n = 0;
    bool more;
    fs_status rc;

    *ret_n = SIZE_MAX;
    if (fs_pull_peek(p) != '[')
        return fs_pull_skip(p, &(fs_bytes){ 0 }, err);
    p->at++;
    for (;;) {
        uint64_t v = 0;
        if ((rc = fs_pull_more(p, ']', &n, &more, err)))
            return rc;
        if (!more)
            break;
        if (!take_size(p, &v))
            return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s': %s[%zu] is not a size", r->what, t->name, key, n - 1);
        if (n <= n_max)
            ret[n - 1] = v;
    }
    *ret_n = n;
    return FS_OK;
}

static fs_status read_dtype(reader *r, fs_tensor *t, fs_error *err)
{
    fs_bytes name = { 0 };
    fs_status rc;

    if (fs_pull_peek(&r->pull) != '"')
        return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s': 'dtype' is not a string", r->what, t->name);
    rc = fs_pull_string(&r->pull, &name, err);
    if (rc)
        return rc;
    t->dtype = fs_dtype_from_safetensors(name);
    if (t->dtype == FS_DTYPE_NONE)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s: tensor '%s' has dtype '%.*s', which is not known here", r->what, t->name,
                       (int)(name.n_bytes < 32 ? name.n_bytes : 32), (const char *)name.data);
    return FS_OK;
}

/* The sizes that the entry states against each other and against the data. */
static fs_status place_tensor(const reader *r, fs_tensor *t, size_t n_dims, const uint64_t offsets[2], size_t n_offsets, fs_error *err)
{
    uint64_t n_elems = 1, begin = offsets[0], end = offsets[1];
    size_t n_bytes;

    if (n_dims == SIZE_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' has no shape", r->what, t->name);
    if (n_dims > FS_TENSOR_DIMS_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s: tensor '%s' has %zu dimensions, at most %d are read", r->what, t->name, n_dims,
                       FS_TENSOR_DIMS_MAX);
    t->n_dims = (int)n_dims;
    for (size_t i = 0; i < n_dims; i++)
        if (__builtin_mul_overflow(n_elems, t->dims[i], &n_elems))
            return fs_fail(err, FS_ERR_FORMAT, "%s: the shape of tensor '%s' overflows", r->what, t->name);
    if (!fs_dtype_bytes(t->dtype, n_elems, &n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "%s: the shape of tensor '%s' overflows", r->what, t->name);
    if (n_offsets != 2)
        return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' has no two data_offsets", r->what, t->name);
    if (begin > end || end > r->data.n_bytes)
        return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' lies at %" PRIu64 " to %" PRIu64 ", the file has %zu bytes of data", r->what,
                       t->name, begin, end, r->data.n_bytes);
    if (end - begin != n_bytes)
        return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' takes %" PRIu64 " bytes, its dtype and shape say %zu", r->what, t->name,
                       end - begin, n_bytes);
    t->data = r->data.data + begin;
    t->n_bytes = n_bytes;
    return FS_OK;
}

/* {"dtype": "BF16", "shape": [7168, 2048], "data_offsets": [0, 29360128]}; t has its name. */
static fs_status read_tensor(reader *r, fs_tensor *t, fs_error *err)
{
    enum { DTYPE, SHAPE, OFFSETS, OTHER };
    static const char *const keys[] = { "dtype", "shape", "data_offsets" };
    uint64_t offsets[2] = { 0 };
    size_t n_dims = SIZE_MAX, n_offsets = SIZE_MAX, n = 0;
    bool more, seen[3] = { false };
    fs_status rc;

    if (fs_pull_peek(&r->pull) != '{')
        return fs_fail(err, FS_ERR_FORMAT, "%s: the entry of tensor '%s' is not an object", r->what, t->name);
    r->pull.at++;
    for (;;) {
        fs_bytes key;
        int k = DTYPE;
        if ((rc = fs_pull_more(&r->pull, '}', &n, &more, err)))
            return rc;
        if (!more)
            break;
        if ((rc = fs_pull_key(&r->pull, &key, err)))
            return rc;
        while (k < OTHER && !fs_bytes_equal(key, fs_bytes_str(keys[k])))
            k++;
        if (k < OTHER && seen[k])
            return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s': '%s' is given twice", r->what, t->name, keys[k]);
        if (k < OTHER)
            seen[k] = true;
        rc = k == DTYPE     ? read_dtype(r, t, err)
             : k == SHAPE   ? read_sizes(r, t, "shape", t->dims, FS_TENSOR_DIMS_MAX, &n_dims, err)
             : k == OFFSETS ? read_sizes(r, t, "data_offsets", offsets, 2, &n_offsets, err)
                            : fs_pull_skip(&r->pull, &key, err);
        if (rc)
            return rc;
    }
    if (!seen[DTYPE])
        return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' has no dtype", r->what, t->name);
    return place_tensor(r, t, n_dims, offsets, n_offsets, err);
}

static fs_status check_metadata(reader *r, fs_error *err)
{
    size_t n = 0;
    bool more;
    fs_status rc;

    if (fs_pull_peek(&r->pull) != '{')
        return fs_fail(err, FS_ERR_FORMAT, "%s: __metadata__ is not an object", r->what);
    r->pull.at++;
    for (;;) {
        fs_bytes text;
        char key[64];
        if ((rc = fs_pull_more(&r->pull, '}', &n, &more, err)) || !more)
            return rc;
        if ((rc = fs_pull_key(&r->pull, &text, err)))
            return rc;
        snprintf(key, sizeof key, "%.*s", (int)(text.n_bytes < 63 ? text.n_bytes : 63), (const char *)text.data);
        if (fs_pull_peek(&r->pull) != '"')
            return fs_fail(err, FS_ERR_FORMAT, "%s: __metadata__ '%s' is not a string", r->what, key);
        if ((rc = fs_pull_string(&r->pull, &text, err)))
            return rc;
    }
}

/* One more tensor with this name and nothing else yet. */
static fs_status add_tensor(reader *r, fs_bytes name, fs_tensor **ret, fs_error *err)
{
    fs_safetensors *s = r->s;
    char *copy = s->names + s->names_bytes;

    if (!fs_utf8_valid(name) || memchr(name.data, 0, name.n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "%s: a tensor name of %zu bytes is no UTF-8 or holds U+0000", r->what, name.n_bytes);
    if (s->n_tensors == s->capacity) {
        size_t capacity = s->capacity + s->capacity / 2 + 64;
        fs_tensor *more = realloc(s->tensors, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        s->tensors = more;
        s->capacity = capacity;
    }
    memcpy(copy, name.data, name.n_bytes);
    copy[name.n_bytes] = 0;
    s->names_bytes += name.n_bytes + 1;
    *ret = &s->tensors[s->n_tensors++];
    **ret = (fs_tensor){ .name = copy };
    return FS_OK;
}

/* The format wants the data without overlaps and without holes, to the last byte. */
static fs_status check_places(fs_safetensors *s, fs_bytes data, const char *what, fs_error *err)
{
    const uint8_t *at = data.data;

    if (s->n_tensors)
        qsort(s->tensors, s->n_tensors, sizeof *s->tensors, fs_tensor_by_place);
    for (size_t i = 0; i < s->n_tensors; i++) {
        const fs_tensor *t = &s->tensors[i];
        if (t->data != at)
            return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' begins at byte %zu of the data, expected %zu: %s", what,
                           t->name, (size_t)(t->data - data.data), (size_t)(at - data.data),
                           t->data < at ? "tensors overlap" : "a hole");
        at += t->n_bytes;
    }
    if (at != data.data + data.n_bytes)
        return fs_fail(err, FS_ERR_FORMAT, "%s: %zu bytes follow the last tensor", what,
                       (size_t)(data.data + data.n_bytes - at));
    return FS_OK;
}

static fs_status read_header(reader *r, fs_error *err)
{
    fs_safetensors *s = r->s;
    bool more, has_metadata = false;
    size_t n = 0;
    fs_status rc = fs_pull_expect(&r->pull, '{', err);

    /* A name is no longer than its JSON, and its NUL than the quotes. */
    s->names = malloc(r->pull.text.n_bytes);
    if (!s->names)
        return fs_fail_memory(err, r->pull.text.n_bytes);
    for (;;) {
        fs_tensor *t = NULL;
        fs_bytes name;
        if (rc || (rc = fs_pull_more(&r->pull, '}', &n, &more, err)))
            return rc;
        if (!more)
            break;
        if ((rc = fs_pull_key(&r->pull, &name, err)))
            return rc;
        if (!fs_bytes_equal(name, FS_BYTES_LIT("__metadata__"))) {
            rc = add_tensor(r, name, &t, err);
            if (!rc)
                rc = read_tensor(r, t, err);
        } else if (has_metadata) {
            rc = fs_fail(err, FS_ERR_FORMAT, "%s: __metadata__ is given twice", r->what);
        } else {
            has_metadata = true;
            rc = check_metadata(r, err);
        }
    }
    if (fs_pull_peek(&r->pull))
        return fs_fail(err, FS_ERR_FORMAT, "%s: something follows the JSON value at byte %zu of %zu", r->what, r->pull.at,
                       r->pull.text.n_bytes);
    rc = check_places(s, r->data, r->what, err);
    if (rc)
        return rc;
    if (s->n_tensors)
        qsort(s->tensors, s->n_tensors, sizeof *s->tensors, fs_tensor_by_name);
    for (size_t i = 1; i < s->n_tensors; i++)
        if (strcmp(s->tensors[i - 1].name, s->tensors[i].name) == 0)
            return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' is given twice", r->what, s->tensors[i].name);
    return FS_OK;
}

fs_status fs_safetensors_open(fs_bytes bytes, const char *what, fs_safetensors **ret, fs_error *err)
{
    reader r = { .what = what };
    fs_bytes header;
    uint64_t n = 0;
    fs_status rc;

    if (bytes.n_bytes < 8)
        return fs_fail(err, FS_ERR_FORMAT, "%s: %zu bytes, a safetensors file has at least 8", what, bytes.n_bytes);
    for (int i = 7; i >= 0; i--)
        n = n << 8 | bytes.data[i];
    if (n > FS_SAFETENSORS_HEADER_BYTES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "%s: a header of %" PRIu64 " bytes, at most %" PRIu64 " are read", what, n,
                       FS_SAFETENSORS_HEADER_BYTES_MAX);
    if (n > bytes.n_bytes - 8)
        return fs_fail(err, FS_ERR_FORMAT, "%s: the header says %" PRIu64 " bytes, the file has %zu after it", what, n,
                       bytes.n_bytes - 8);
    header = (fs_bytes){ bytes.data + 8, (size_t)n };
    r.data = (fs_bytes){ bytes.data + 8 + n, bytes.n_bytes - 8 - (size_t)n };
    if (n == 0 || header.data[0] != '{')
        return fs_fail(err, FS_ERR_FORMAT, "%s: the header does not begin with '{'", what);
    r.s = calloc(1, sizeof *r.s);
    if (!r.s)
        return fs_fail_memory(err, sizeof *r.s);
    r.pull = (fs_pull){ .text = header, .what = what };
    rc = read_header(&r, err);
    fs_pull_done(&r.pull);
    if (rc) {
        fs_safetensors_close(r.s);
        return rc;
    }
    *ret = r.s;
    return FS_OK;
}

void fs_safetensors_close(fs_safetensors *s)
{
    if (!s)
        return;
    free(s->tensors);
    free(s->names);
    free(s);
}

size_t fs_safetensors_n_tensors(const fs_safetensors *s)
{
    return s->n_tensors;
}

const fs_tensor *fs_safetensors_tensor_at(const fs_safetensors *s, size_t i)
{
    return &s->tensors[i];
}

const fs_tensor *fs_safetensors_find(const fs_safetensors *s, const char *name)
{
    fs_tensor key = { .name = name };

    return s->n_tensors ? bsearch(&key, s->tensors, s->n_tensors, sizeof key, fs_tensor_by_name) : NULL;
}
