/* One sorted list of views over the maps of all files of a model; weights_open.c opens them. */
#include "formats/weights_impl.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fs_status fs_weights_sort(fs_weights *w, fs_error *err)
{
    if (w->n_tensors)
        qsort(w->tensors, w->n_tensors, sizeof *w->tensors, fs_tensor_by_name);
    for (size_t i = 1; i < w->n_tensors; i++)
        if (strcmp(w->tensors[i - 1].name, w->tensors[i].name) == 0)
            return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is stored twice", w->tensors[i].name);
    return FS_OK;
}

fs_status fs_weights_of_memory(const fs_config *c, const fs_tensor *tensors, size_t n, fs_weights **ret, fs_error *err)
{
    fs_weights *w = calloc(1, sizeof *w);
    fs_status rc;

    if (!w)
        return fs_fail_memory(err, sizeof *w);
    w->config = *c;
    w->in_memory = true;
    w->tensors = malloc((n ? n : 1) * sizeof *w->tensors);
    rc = w->tensors ? FS_OK : fs_fail_memory(err, n * sizeof *w->tensors);
    if (!rc && n > 0)
        memcpy(w->tensors, tensors, n * sizeof *tensors);
    w->n_tensors = rc ? 0 : n;
    if (!rc)
        rc = fs_weights_sort(w, err);
    if (rc) {
        fs_weights_close(w);
        return rc;
    }
    *ret = w;
    return FS_OK;
}

void fs_weights_close(fs_weights *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n_parts; i++) {
        fs_safetensors_close(w->parts[i].safetensors);
        fs_gguf_close(w->parts[i].gguf);
        fs_map_close(&w->parts[i].map);
        free(w->parts[i].name);
    }
    free(w->parts);
    free(w->tensors);
    free(w->names);
    free(w->folder);
    if (!w->in_memory)
        fs_config_done(&w->config);
    free(w);
}

/* ---- reading ---- */

const fs_config *fs_weights_config(const fs_weights *w)
{
    return &w->config;
}

const fs_gguf *fs_weights_gguf(const fs_weights *w)
{
    return w->n_parts ? w->parts[0].gguf : NULL;
}

const fs_gguf *fs_weights_gguf_part(const fs_weights *w, size_t i)
{
    return i < w->n_parts ? w->parts[i].gguf : NULL;
}

const char *fs_weights_folder(const fs_weights *w)
{
    return w->folder;
}

size_t fs_weights_n_tensors(const fs_weights *w)
{
    return w->n_tensors;
}

const fs_tensor *fs_weights_tensor_at(const fs_weights *w, size_t i)
{
    return &w->tensors[i];
}

fs_tensor *fs_weights_entry(const fs_weights *w, const char *name)
{
    fs_tensor key = { .name = name };

    return w->n_tensors ? bsearch(&key, w->tensors, w->n_tensors, sizeof key, fs_tensor_by_name) : NULL;
}

const fs_tensor *fs_weights_find(const fs_weights *w, const char *name)
{
    return fs_weights_entry(w, name);
}

/* "[129280, 7168]" */
static void print_dims(char *ret, size_t n_bytes, const uint64_t *dims, int n_dims)
{
    size_t at = (size_t)snprintf(ret, n_bytes, "[");

    for (int i = 0; i < n_dims && at < n_bytes; i++)
        at += (size_t)snprintf(ret + at, n_bytes - at, "%s%" PRIu64, i ? ", " : "", dims[i]);
    if (at < n_bytes)
        snprintf(ret + at, n_bytes - at, "]");
}

fs_status fs_weights_get(const fs_weights *w, const char *name, const fs_tensor **ret, fs_error *err, int n_dims, ...)
{
    const fs_tensor *t = fs_weights_find(w, name);
    uint64_t dims[FS_TENSOR_DIMS_MAX] = { 0 };
    va_list ap;

    va_start(ap, n_dims);
    for (int i = 0; i < n_dims && i < FS_TENSOR_DIMS_MAX; i++)
        dims[i] = va_arg(ap, uint64_t);
    va_end(ap);
    if (!t)
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is missing", name);
    if (t->n_dims != n_dims || memcmp(t->dims, dims, (size_t)n_dims * sizeof *dims) != 0) {
        char has[96], wants[96];
        print_dims(has, sizeof has, t->dims, t->n_dims);
        print_dims(wants, sizeof wants, dims, n_dims);
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is %s, the config says %s", name, has, wants);
    }
    if (!fs_dtype_get(t->dtype)->is_weight)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' is %s, which holds no weights", name, fs_dtype_get(t->dtype)->name);
    *ret = t;
    return FS_OK;
}

void fs_weights_replace(fs_weights *w, const fs_tensor *t)
{
    fs_tensor *old = fs_weights_entry(w, t->name);

    assert(old);
    *old = *t;
}

static size_t n_in_part(const fs_weights_part *p)
{
    return p->gguf ? fs_gguf_n_tensors(p->gguf) : fs_safetensors_n_tensors(p->safetensors);
}

static int by_stored_name(const void *a, const void *b)
{
    const fs_tensor *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

fs_status fs_weights_stored(const fs_weights *w, const fs_tensor ***ret, size_t *ret_n, fs_error *err)
{
    size_t n = 0, at = 0;
    const fs_tensor **all;

    for (size_t i = 0; i < w->n_parts; i++)
        n += n_in_part(&w->parts[i]);
    all = malloc((n ? n : 1) * sizeof *all);
    if (!all)
        return fs_fail_memory(err, n * sizeof *all);
    for (size_t i = 0; i < w->n_parts; i++)
        for (size_t k = 0; k < n_in_part(&w->parts[i]); k++)
            all[at++] = w->parts[i].gguf ? fs_gguf_tensor_at(w->parts[i].gguf, k) : fs_safetensors_tensor_at(w->parts[i].safetensors, k);
    qsort(all, n, sizeof(const fs_tensor *), by_stored_name);
    *ret = all;
    *ret_n = n;
    return FS_OK;
}

size_t fs_weights_file_bytes(const fs_weights *w)
{
    size_t n = 0;

    for (size_t i = 0; i < w->n_parts; i++)
        n += w->parts[i].map.bytes.n_bytes;
    return n;
}

size_t fs_weights_n_files(const fs_weights *w)
{
    return w->n_parts;
}

char *fs_weights_file_path(const fs_weights *w, size_t i)
{
    return fs_path_join(w->folder, w->parts[i].name);
}

bool fs_weights_locate(const fs_weights *w, const uint8_t *data, size_t *ret_file, uint64_t *ret_offset)
{
    for (size_t i = 0; i < w->n_parts; i++) {
        uintptr_t map = (uintptr_t)w->parts[i].map.bytes.data, at = (uintptr_t)data;
        if (at >= map && at - map < w->parts[i].map.bytes.n_bytes) {
            *ret_file = i;
            *ret_offset = at - map;
            return true;
        }
    }
    return false;
}

void fs_weights_drop(const fs_weights *w, const fs_tensor *t)
{
    size_t file;
    uint64_t offset;

    if (fs_weights_locate(w, t->data, &file, &offset))
        fs_map_drop((fs_bytes){ t->data, t->n_bytes });
}
