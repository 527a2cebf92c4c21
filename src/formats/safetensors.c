/* Reads the header of one safetensors file into views. Strings live in one pool, views in one array sorted by
 * name; neither is touched after open. */
#include "formats/safetensors.h"

#include "base/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct fs_safetensors {
    fs_tensor *tensors;
    size_t n_tensors;
    char *names;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const fs_tensor *)a)->name, ((const fs_tensor *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const fs_tensor *x = a, *y = b;

    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

static fs_status index_item(struct json_object *array, size_t i, uint64_t *ret, const char *what, const char *name,
                            const char *key, fs_error *err)
{
    struct json_object *v = json_object_array_get_idx(array, i);

    if (!json_object_is_type(v, json_type_int) || json_object_get_int64(v) < 0)
        return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s': %s[%zu] is not a size", what, name, key, i);
    *ret = json_object_get_uint64(v);
    return FS_OK;
}

static fs_status read_tensor(fs_tensor *t, struct json_object *entry, fs_bytes data, const char *what, fs_error *err)
{
    struct json_object *shape, *offsets;
    fs_bytes dtype = { 0 };
    uint64_t begin, end, n_elems = 1;
    size_t n_bytes;
    bool found;
    fs_status rc;

    if (!json_object_is_type(entry, json_type_object))
        return fs_fail(err, FS_ERR_FORMAT, "%s: the entry of tensor '%s' is not an object", what, t->name);
    rc = fs_json_string(entry, "dtype", &dtype, &found, err);
    if (rc) {
        fs_fail_prefix(err, "%s: tensor '%s'", what, t->name);
        return rc;
    }
    if (!found)
        return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' has no dtype", what, t->name);
    t->dtype = fs_dtype_from_safetensors(dtype);
    if (t->dtype == FS_DTYPE_NONE)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s: tensor '%s' has dtype '%.*s', which is not known here", what,
                       t->name, (int)(dtype.n_bytes < 32 ? dtype.n_bytes : 32), (const char *)dtype.data);

    shape = fs_json_member(entry, "shape");
    if (!json_object_is_type(shape, json_type_array))
        return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' has no shape", what, t->name);
    if (json_object_array_length(shape) > FS_TENSOR_DIMS_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "%s: tensor '%s' has %zu dimensions, at most %d are read", what,
                       t->name, json_object_array_length(shape), FS_TENSOR_DIMS_MAX);
    t->n_dims = (int)json_object_array_length(shape);
    for (int i = 0; i < t->n_dims; i++) {
        rc = index_item(shape, (size_t)i, &t->dims[i], what, t->name, "shape", err);
        if (rc)
            return rc;
        if (__builtin_mul_overflow(n_elems, t->dims[i], &n_elems))
            return fs_fail(err, FS_ERR_FORMAT, "%s: the shape of tensor '%s' overflows", what, t->name);
    }
    if (!fs_dtype_bytes(t->dtype, n_elems, &n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "%s: the shape of tensor '%s' overflows", what, t->name);

    offsets = fs_json_member(entry, "data_offsets");
    if (!json_object_is_type(offsets, json_type_array) || json_object_array_length(offsets) != 2)
        return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' has no two data_offsets", what, t->name);
    rc = index_item(offsets, 0, &begin, what, t->name, "data_offsets", err);
    if (!rc)
        rc = index_item(offsets, 1, &end, what, t->name, "data_offsets", err);
    if (rc)
        return rc;
    if (begin > end || end > data.n_bytes)
        return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' lies at %" PRIu64 " to %" PRIu64 ", the file has %zu bytes of data",
                       what, t->name, begin, end, data.n_bytes);
    if (end - begin != n_bytes)
        return fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' takes %" PRIu64 " bytes, its dtype and shape say %zu", what,
                       t->name, end - begin, n_bytes);
    t->data = data.data + begin;
    t->n_bytes = n_bytes;
    return FS_OK;
}

static fs_status check_metadata(struct json_object *metadata, const char *what, fs_error *err)
{
    if (!json_object_is_type(metadata, json_type_object))
        return fs_fail(err, FS_ERR_FORMAT, "%s: __metadata__ is not an object", what);
    json_object_object_foreach(metadata, key, v)
        if (!json_object_is_type(v, json_type_string))
            return fs_fail(err, FS_ERR_FORMAT, "%s: __metadata__ '%s' is not a string", what, key);
    return FS_OK;
}

/* The format wants the data without overlaps and without holes, to the last byte. */
static fs_status check_places(fs_safetensors *s, fs_bytes data, const char *what, fs_error *err)
{
    const uint8_t *at = data.data;

    qsort(s->tensors, s->n_tensors, sizeof *s->tensors, by_place);
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

static fs_status read_header(fs_safetensors *s, fs_bytes data, struct json_object *root, const char *what, fs_error *err)
{
    size_t names_bytes = 0, n = 0, at = 0;
    fs_status rc;

    if (!json_object_is_type(root, json_type_object))
        return fs_fail(err, FS_ERR_FORMAT, "%s: the header is not an object", what);
    json_object_object_foreach(root, key, v) {
        (void)v;
        names_bytes += strlen(key) + 1;
        n++;
    }
    s->tensors = calloc(n + 1, sizeof *s->tensors);
    if (!s->tensors)
        return fs_fail_memory(err, (n + 1) * sizeof *s->tensors);
    s->names = malloc(names_bytes + 1);
    if (!s->names)
        return fs_fail_memory(err, names_bytes + 1);
    json_object_object_foreach(root, name, entry) {
        fs_tensor *t = &s->tensors[s->n_tensors];
        if (strcmp(name, "__metadata__") == 0) {
            rc = check_metadata(entry, what, err);
            if (rc)
                return rc;
            continue;
        }
        t->name = memcpy(s->names + at, name, strlen(name) + 1);
        at += strlen(name) + 1;
        rc = read_tensor(t, entry, data, what, err);
        if (rc)
            return rc;
        s->n_tensors++;
    }
    rc = check_places(s, data, what, err);
    if (rc)
        return rc;
    qsort(s->tensors, s->n_tensors, sizeof *s->tensors, by_name);
    return FS_OK;
}

fs_status fs_safetensors_open(fs_bytes bytes, const char *what, fs_safetensors **ret, fs_error *err)
{
    struct json_object *root = NULL;
    fs_safetensors *s = NULL;
    fs_bytes header, data;
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
    data = (fs_bytes){ bytes.data + 8 + n, bytes.n_bytes - 8 - (size_t)n };
    if (n == 0 || header.data[0] != '{')
        return fs_fail(err, FS_ERR_FORMAT, "%s: the header does not begin with '{'", what);
    rc = fs_json_parse(header, what, &root, err);
    if (rc)
        return rc;
    rc = fs_json_check_keys(header, root, what, err);
    if (rc)
        goto fail;
    s = calloc(1, sizeof *s);
    if (!s) {
        rc = fs_fail_memory(err, sizeof *s);
        goto fail;
    }
    rc = read_header(s, data, root, what, err);
    if (rc)
        goto fail;
    json_object_put(root);
    *ret = s;
    return FS_OK;
fail:
    json_object_put(root);
    fs_safetensors_close(s);
    return rc;
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

    return s->n_tensors ? bsearch(&key, s->tensors, s->n_tensors, sizeof key, by_name) : NULL;
}
