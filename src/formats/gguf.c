/* Reads GGUF's metadata and tensor table into arrays that borrow from the map. Everything is checked once at open:
 * the readers below walk values without looking at lengths again. */
#include "formats/gguf.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The least bytes of an entry: what a count may claim is capped by the bytes that are left. */
#define VALUE_BYTES_MIN  (8 + 1 + 4 + 1)
#define TENSOR_BYTES_MIN (8 + 1 + 4 + 4 + 8)
#define ALIGNMENT_MAX    ((int64_t)1 << 20)

struct fs_gguf {
    char *what; /* names the file in sentences */
    fs_gguf_value *values;
    size_t n_values;
    const fs_gguf_value **by_key;
    fs_tensor *tensors;
    size_t n_tensors;
    char *names;
};

/* What is left to read. */
typedef struct cursor {
    const uint8_t *at;
    size_t n_left;
} cursor;

static uint64_t load(const uint8_t *p, size_t n_bytes)
{
    uint64_t v = 0;

    for (size_t i = n_bytes; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

static bool take(cursor *c, size_t n_bytes, const uint8_t **ret)
{
    if (n_bytes > c->n_left)
        return false;
    *ret = c->at;
    c->at += n_bytes;
    c->n_left -= n_bytes;
    return true;
}

static bool take_u32(cursor *c, uint32_t *ret)
{
    const uint8_t *p;

    if (!take(c, 4, &p))
        return false;
    *ret = (uint32_t)load(p, 4);
    return true;
}

static bool take_u64(cursor *c, uint64_t *ret)
{
    const uint8_t *p;

    if (!take(c, 8, &p))
        return false;
    *ret = load(p, 8);
    return true;
}

static bool take_string(cursor *c, fs_bytes *ret)
{
    const uint8_t *p;
    uint64_t n;

    if (!take_u64(c, &n) || n > c->n_left || !take(c, (size_t)n, &p))
        return false;
    *ret = (fs_bytes){ p, (size_t)n };
    return true;
}

/* 0 for strings and arrays. */
static size_t scalar_bytes(fs_gguf_type t)
{
    static const uint8_t bytes[FS_GGUF_TYPE_END] = {
        [FS_GGUF_U8] = 1,  [FS_GGUF_I8] = 1,  [FS_GGUF_U16] = 2, [FS_GGUF_I16] = 2, [FS_GGUF_U32] = 4, [FS_GGUF_I32] = 4,
        [FS_GGUF_F32] = 4, [FS_GGUF_BOOL] = 1, [FS_GGUF_U64] = 8, [FS_GGUF_I64] = 8, [FS_GGUF_F64] = 8,
    };
    return bytes[t];
}

static bool is_name(fs_bytes s)
{
    return s.n_bytes > 0 && !memchr(s.data, 0, s.n_bytes) && fs_utf8_valid(s);
}

/* For sentences: as many bytes of a name as fit, whole characters. */
static int shown(fs_bytes s)
{
    size_t n = s.n_bytes < 128 ? s.n_bytes : 128;

    while (n > 0 && n < s.n_bytes && (s.data[n] & 0xc0) == 0x80)
        n--;
    return (int)n;
}

/* ---- metadata ---- */

static fs_status cut_off(const char *what, const char *where, fs_bytes name, fs_error *err)
{
    return fs_fail(err, FS_ERR_FORMAT, "%s: the file ends inside %s '%.*s'", what, where, shown(name), (const char *)name.data);
}

static fs_status read_array(cursor *c, fs_gguf_value *v, const char *what, fs_error *err)
{
    const uint8_t *start;
    uint32_t type;
    size_t n_bytes;

    if (!take_u32(c, &type) || !take_u64(c, &v->n_items))
        return cut_off(what, "the value of", v->key, err);
    if (type >= FS_GGUF_TYPE_END || type == FS_GGUF_ARRAY)
        return fs_fail(err, FS_ERR_FORMAT, "%s: '%.*s' is an array of type %" PRIu32 ", which is not read", what, shown(v->key),
                       (const char *)v->key.data, type);
    v->item_type = (fs_gguf_type)type;
    start = c->at;
    if (type != FS_GGUF_STRING) {
        if (v->n_items > c->n_left || !fs_mul_size((size_t)v->n_items, scalar_bytes(v->item_type), &n_bytes) || !take(c, n_bytes, &start))
            return cut_off(what, "the array of", v->key, err);
    } else {
        if (v->n_items > c->n_left / 8)
            return cut_off(what, "the array of", v->key, err);
        for (uint64_t i = 0; i < v->n_items; i++) {
            fs_bytes s;
            if (!take_string(c, &s))
                return cut_off(what, "the array of", v->key, err);
        }
    }
    v->bytes = (fs_bytes){ start, (size_t)(c->at - start) };
    return FS_OK;
}

static fs_status read_value(cursor *c, fs_gguf_value *v, const char *what, fs_error *err)
{
    const uint8_t *p;
    uint32_t type;

    if (!take_string(c, &v->key))
        return fs_fail(err, FS_ERR_FORMAT, "%s: the file ends inside its metadata keys", what);
    if (!is_name(v->key))
        return fs_fail(err, FS_ERR_FORMAT, "%s: a metadata key of %zu bytes is empty or no text", what, v->key.n_bytes);
    if (!take_u32(c, &type))
        return cut_off(what, "the value of", v->key, err);
    if (type >= FS_GGUF_TYPE_END)
        return fs_fail(err, FS_ERR_FORMAT, "%s: '%.*s' has type %" PRIu32 ", which does not exist", what, shown(v->key),
                       (const char *)v->key.data, type);
    v->type = (fs_gguf_type)type;
    if (v->type == FS_GGUF_ARRAY)
        return read_array(c, v, what, err);
    if (v->type == FS_GGUF_STRING)
        return take_string(c, &v->bytes) ? FS_OK : cut_off(what, "the value of", v->key, err);
    if (!take(c, scalar_bytes(v->type), &p))
        return cut_off(what, "the value of", v->key, err);
    v->bytes = (fs_bytes){ p, scalar_bytes(v->type) };
    if (v->type == FS_GGUF_BOOL && *p > 1)
        return fs_fail(err, FS_ERR_FORMAT, "%s: '%.*s' is a truth value of %d", what, shown(v->key), (const char *)v->key.data, *p);
    return FS_OK;
}

static int compare_bytes(fs_bytes a, fs_bytes b)
{
    int order = memcmp(a.data, b.data, a.n_bytes < b.n_bytes ? a.n_bytes : b.n_bytes);

    return order ? order : a.n_bytes < b.n_bytes ? -1 : a.n_bytes > b.n_bytes;
}

static int by_key(const void *a, const void *b)
{
    return compare_bytes((*(const fs_gguf_value *const *)a)->key, (*(const fs_gguf_value *const *)b)->key);
}

static fs_status read_values(fs_gguf *g, cursor *c, uint64_t n, fs_error *err)
{
    if (n > c->n_left / VALUE_BYTES_MIN)
        return fs_fail(err, FS_ERR_FORMAT, "%s: %" PRIu64 " metadata values cannot be in %zu bytes", g->what, n, c->n_left);
    g->values = calloc((size_t)n + 1, sizeof *g->values);
    g->by_key = calloc((size_t)n + 1, sizeof *g->by_key);
    if (!g->values || !g->by_key)
        return fs_fail_memory(err, ((size_t)n + 1) * sizeof *g->values);
    for (uint64_t i = 0; i < n; i++) {
        fs_status rc = read_value(c, &g->values[i], g->what, err);
        if (rc)
            return rc;
        g->by_key[i] = &g->values[i];
        g->n_values++;
    }
    qsort(g->by_key, g->n_values, sizeof *g->by_key, by_key);
    for (size_t i = 1; i < g->n_values; i++)
        if (fs_bytes_equal(g->by_key[i - 1]->key, g->by_key[i]->key))
            return fs_fail(err, FS_ERR_FORMAT, "%s: the key '%.*s' is given twice", g->what, shown(g->by_key[i]->key),
                           (const char *)g->by_key[i]->key.data);
    return FS_OK;
}

/* ---- tensor table ---- */

static const char *unread_type_name(uint32_t type)
{
    static const struct { uint32_t type; const char *name; } names[] = {
        { 9, "Q8_1" }, { 15, "Q8_K" }, { 41, "Q1_0" },
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].type == type)
            return names[i].name;
    return "unknown";
}

/* Reads one entry; t->data is left NULL and *ret_offset filled, since the data begin only after the whole table. */
static fs_status read_entry(cursor *c, fs_tensor *t, fs_bytes *ret_name, uint64_t *ret_offset, const char *what, fs_error *err)
{
    uint64_t n_elems = 1;
    uint32_t n_dims, type;
    fs_bytes name;

    if (!take_string(c, &name))
        return fs_fail(err, FS_ERR_FORMAT, "%s: the file ends inside its tensor names", what);
    if (!is_name(name))
        return fs_fail(err, FS_ERR_FORMAT, "%s: a tensor name of %zu bytes is empty or no text", what, name.n_bytes);
    if (!take_u32(c, &n_dims))
        return cut_off(what, "the entry of tensor", name, err);
    if (n_dims > FS_TENSOR_DIMS_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%.*s' has %" PRIu32 " dimensions, at most %d are read", what, shown(name),
                       (const char *)name.data, n_dims, FS_TENSOR_DIMS_MAX);
    t->n_dims = (int)n_dims;
    for (int i = t->n_dims - 1; i >= 0; i--) {
        if (!take_u64(c, &t->dims[i]))
            return cut_off(what, "the entry of tensor", name, err);
        if (__builtin_mul_overflow(n_elems, t->dims[i], &n_elems))
            return fs_fail(err, FS_ERR_FORMAT, "%s: the shape of tensor '%.*s' overflows", what, shown(name), (const char *)name.data);
    }
    if (!take_u32(c, &type) || !take_u64(c, ret_offset))
        return cut_off(what, "the entry of tensor", name, err);
    t->dtype = fs_dtype_from_ggml(type);
    if (t->dtype == FS_DTYPE_NONE)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s: tensor '%.*s' has ggml type %" PRIu32 " (%s), which is not read here", what,
                       shown(name), (const char *)name.data, type, unread_type_name(type));
    if (fs_tensor_cols(t) % fs_dtype_get(t->dtype)->block_elems)
        return fs_fail(err, FS_ERR_FORMAT, "%s: rows of tensor '%.*s' have %" PRIu64 " elements, %s comes in blocks of %d", what,
                       shown(name), (const char *)name.data, fs_tensor_cols(t), fs_dtype_get(t->dtype)->name,
                       fs_dtype_get(t->dtype)->block_elems);
    if (!fs_dtype_bytes(t->dtype, n_elems, &t->n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "%s: the shape of tensor '%.*s' overflows", what, shown(name), (const char *)name.data);
    *ret_name = name;
    return FS_OK;
}

static fs_status check_tensors(fs_gguf *g, fs_error *err)
{
    qsort(g->tensors, g->n_tensors, sizeof *g->tensors, fs_tensor_by_place);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (g->tensors[i].data < g->tensors[i - 1].data + g->tensors[i - 1].n_bytes)
            return fs_fail(err, FS_ERR_FORMAT, "%s: tensors '%s' and '%s' overlap", g->what, g->tensors[i - 1].name, g->tensors[i].name);
    qsort(g->tensors, g->n_tensors, sizeof *g->tensors, fs_tensor_by_name);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (strcmp(g->tensors[i - 1].name, g->tensors[i].name) == 0)
            return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' is given twice", g->what, g->tensors[i].name);
    return FS_OK;
}

/* bytes is the whole file, *c stands at the table. */
static fs_status read_tensors(fs_gguf *g, fs_bytes bytes, cursor *c, uint64_t n, fs_error *err)
{
    const cursor table = *c;
    size_t names_bytes = 0, at = 0, data_at;
    int64_t alignment = 32;
    fs_bytes name = { 0 };
    uint64_t offset = 0;
    fs_status rc = fs_gguf_int(g, "general.alignment", 1, ALIGNMENT_MAX, &alignment, NULL, err);

    if (rc)
        return rc;
    if (alignment & (alignment - 1))
        return fs_fail(err, FS_ERR_FORMAT, "%s: 'general.alignment' is %" PRId64 ", no power of two", g->what, alignment);
    if (n > c->n_left / TENSOR_BYTES_MIN)
        return fs_fail(err, FS_ERR_FORMAT, "%s: %" PRIu64 " tensors cannot be in %zu bytes", g->what, n, c->n_left);
    g->tensors = calloc((size_t)n + 1, sizeof *g->tensors);
    if (!g->tensors)
        return fs_fail_memory(err, ((size_t)n + 1) * sizeof *g->tensors);
    /* Twice over the table: once for where it ends and how long the names are, once to place the data. */
    for (uint64_t i = 0; i < n; i++) {
        rc = read_entry(c, &g->tensors[i], &name, &offset, g->what, err);
        if (rc)
            return rc;
        names_bytes += name.n_bytes + 1;
    }
    g->names = malloc(names_bytes + 1);
    if (!g->names)
        return fs_fail_memory(err, names_bytes + 1);
    data_at = (size_t)(c->at - bytes.data);
    data_at += (size_t)(-data_at & (size_t)(alignment - 1));
    if (data_at > bytes.n_bytes)
        data_at = bytes.n_bytes;
    *c = table;
    for (uint64_t i = 0; i < n; i++) {
        fs_tensor *t = &g->tensors[i];
        rc = read_entry(c, t, &name, &offset, g->what, err);
        if (rc)
            return rc;
        t->name = memcpy(g->names + at, name.data, name.n_bytes);
        g->names[at + name.n_bytes] = 0;
        at += name.n_bytes + 1;
        if (offset & (uint64_t)(alignment - 1))
            return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' is at %" PRIu64 ", no multiple of the alignment %" PRId64, g->what,
                           t->name, offset, alignment);
        if (offset > bytes.n_bytes - data_at || t->n_bytes > bytes.n_bytes - data_at - offset)
            return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' of %zu bytes at %" PRIu64 " leaves the file, which has %zu bytes of data",
                           g->what, t->name, t->n_bytes, offset, bytes.n_bytes - data_at);
        t->data = bytes.data + data_at + offset;
        g->n_tensors++;
    }
    return check_tensors(g, err);
}

/* ---- open ---- */

fs_status fs_gguf_open(fs_bytes bytes, const char *what, fs_gguf **ret, fs_error *err)
{
    cursor c = { bytes.data, bytes.n_bytes };
    uint64_t n_tensors, n_values;
    const uint8_t *magic;
    uint32_t version;
    fs_gguf *g;
    fs_status rc;

    if (!take(&c, 4, &magic) || memcmp(magic, "GGUF", 4) != 0)
        return fs_fail(err, FS_ERR_FORMAT, "%s: not a GGUF file", what);
    if (!take_u32(&c, &version) || !take_u64(&c, &n_tensors) || !take_u64(&c, &n_values))
        return fs_fail(err, FS_ERR_FORMAT, "%s: %zu bytes, a GGUF header has 24", what, bytes.n_bytes);
    if (version != 2 && version != 3)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s: GGUF version %" PRIu32 "%s, 2 and 3 are read", what, version,
                       version == 0x02000000 || version == 0x03000000 ? " (big-endian)" : "");
    g = calloc(1, sizeof *g);
    if (!g)
        return fs_fail_memory(err, sizeof *g);
    g->what = strdup(what);
    if (!g->what) {
        fs_gguf_close(g);
        return fs_fail_memory(err, strlen(what) + 1);
    }
    rc = read_values(g, &c, n_values, err);
    if (!rc)
        rc = read_tensors(g, bytes, &c, n_tensors, err);
    if (rc) {
        fs_gguf_close(g);
        return rc;
    }
    *ret = g;
    return FS_OK;
}

void fs_gguf_close(fs_gguf *g)
{
    if (!g)
        return;
    free(g->values);
    free(g->by_key);
    free(g->tensors);
    free(g->names);
    free(g->what);
    free(g);
}

/* ---- reading ---- */

const fs_gguf_value *fs_gguf_find(const fs_gguf *g, const char *key)
{
    const fs_gguf_value want = { .key = fs_bytes_str(key) }, *p = &want;
    const fs_gguf_value **found = g->n_values ? bsearch(&p, g->by_key, g->n_values, sizeof *g->by_key, by_key) : NULL;

    return found ? *found : NULL;
}

size_t fs_gguf_n_values(const fs_gguf *g)
{
    return g->n_values;
}

const fs_gguf_value *fs_gguf_value_at(const fs_gguf *g, size_t i)
{
    return &g->values[i];
}

static int64_t signed_of(fs_gguf_type t, const uint8_t *p)
{
    switch (t) {
    case FS_GGUF_I8:
        return (int8_t)p[0];
    case FS_GGUF_I16:
        return (int16_t)load(p, 2);
    case FS_GGUF_I32:
        return (int32_t)load(p, 4);
    default:
        return (int64_t)load(p, 8);
    }
}

static bool is_signed(fs_gguf_type t)
{
    return t == FS_GGUF_I8 || t == FS_GGUF_I16 || t == FS_GGUF_I32 || t == FS_GGUF_I64;
}

static bool is_unsigned(fs_gguf_type t)
{
    return t == FS_GGUF_U8 || t == FS_GGUF_U16 || t == FS_GGUF_U32 || t == FS_GGUF_U64;
}

static double double_of(fs_gguf_type t, const uint8_t *p)
{
    if (t == FS_GGUF_F32) {
        uint32_t u = (uint32_t)load(p, 4);
        float f;
        memcpy(&f, &u, sizeof f);
        return (double)f;
    }
    if (t == FS_GGUF_F64) {
        uint64_t u = load(p, 8);
        double d;
        memcpy(&d, &u, sizeof d);
        return d;
    }
    return is_signed(t) ? (double)signed_of(t, p) : (double)load(p, scalar_bytes(t));
}

static const fs_gguf_value *look_up(const fs_gguf *g, const char *key, bool *ret_found)
{
    const fs_gguf_value *v = fs_gguf_find(g, key);

    if (ret_found)
        *ret_found = v != NULL;
    return v;
}

fs_status fs_gguf_int(const fs_gguf *g, const char *key, int64_t min, int64_t max, int64_t *ret, bool *ret_found, fs_error *err)
{
    const fs_gguf_value *v = look_up(g, key, ret_found);
    int64_t i;

    if (!v)
        return FS_OK;
    if (is_signed(v->type)) {
        i = signed_of(v->type, v->bytes.data);
    } else if (is_unsigned(v->type)) {
        uint64_t u = load(v->bytes.data, v->bytes.n_bytes);
        i = u > INT64_MAX ? INT64_MAX : (int64_t)u;
    } else {
        return fs_fail(err, FS_ERR_FORMAT, "%s: '%s' is not an integer", g->what, key);
    }
    if (i < min || i > max)
        return fs_fail(err, FS_ERR_FORMAT, "%s: '%s' is %" PRId64 ", allowed are %" PRId64 " to %" PRId64, g->what, key, i, min, max);
    *ret = i;
    return FS_OK;
}

fs_status fs_gguf_double(const fs_gguf *g, const char *key, double *ret, bool *ret_found, fs_error *err)
{
    const fs_gguf_value *v = look_up(g, key, ret_found);
    double d;

    if (!v)
        return FS_OK;
    if (!is_signed(v->type) && !is_unsigned(v->type) && v->type != FS_GGUF_F32 && v->type != FS_GGUF_F64)
        return fs_fail(err, FS_ERR_FORMAT, "%s: '%s' is not a number", g->what, key);
    d = double_of(v->type, v->bytes.data);
    if (!isfinite(d))
        return fs_fail(err, FS_ERR_FORMAT, "%s: '%s' is not finite", g->what, key);
    *ret = d;
    return FS_OK;
}

fs_status fs_gguf_bool(const fs_gguf *g, const char *key, bool *ret, bool *ret_found, fs_error *err)
{
    const fs_gguf_value *v = look_up(g, key, ret_found);

    if (!v)
        return FS_OK;
    if (v->type != FS_GGUF_BOOL)
        return fs_fail(err, FS_ERR_FORMAT, "%s: '%s' is not true or false", g->what, key);
    *ret = v->bytes.data[0] != 0;
    return FS_OK;
}

fs_status fs_gguf_string(const fs_gguf *g, const char *key, fs_bytes *ret, bool *ret_found, fs_error *err)
{
    const fs_gguf_value *v = look_up(g, key, ret_found);

    if (!v)
        return FS_OK;
    if (v->type != FS_GGUF_STRING)
        return fs_fail(err, FS_ERR_FORMAT, "%s: '%s' is not a string", g->what, key);
    *ret = v->bytes;
    return FS_OK;
}

fs_bytes fs_gguf_next_string(const fs_gguf_value *array, size_t *at)
{
    const uint8_t *p = array->bytes.data + *at;
    fs_bytes s = { p + 8, (size_t)load(p, 8) };

    *at += 8 + s.n_bytes;
    return s;
}

double fs_gguf_number_at(const fs_gguf_value *array, uint64_t i)
{
    return double_of(array->item_type, array->bytes.data + i * scalar_bytes(array->item_type));
}

size_t fs_gguf_n_tensors(const fs_gguf *g)
{
    return g->n_tensors;
}

const fs_tensor *fs_gguf_tensor_at(const fs_gguf *g, size_t i)
{
    return &g->tensors[i];
}

const fs_tensor *fs_gguf_find_tensor(const fs_gguf *g, const char *name)
{
    fs_tensor key = { .name = name };

    return g->n_tensors ? bsearch(&key, g->tensors, g->n_tensors, sizeof key, fs_tensor_by_name) : NULL;
}
