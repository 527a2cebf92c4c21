/* The plan is one array of tensors, sorted by shard and within a shard by width; files are opened and committed as the
 * data runs over it. */
#include "formats/safetensors_write.h"

#include "base/file.h"
#include "base/json.h"
#include "base/writer.h"
#include "formats/safetensors.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct entry {
    char *name;
    fs_dtype dtype;
    int n_dims;
    uint64_t dims[FS_TENSOR_DIMS_MAX];
    size_t n_bytes, index; /* as declared */
    uint32_t shard;
} entry;

struct fs_safetensors_writer {
    char *folder;
    uint64_t shard_bytes_max;
    entry *entries;
    size_t n, capacity;
    uint32_t n_shards, n_done; /* committed files */
    fs_writer file;
    bool begun, is_open, committed;
    size_t at, left;
};

fs_status fs_safetensors_writer_new(const char *folder, uint64_t shard_bytes_max, fs_safetensors_writer **ret, fs_error *err)
{
    fs_safetensors_writer *w = calloc(1, sizeof *w);

    if (!w || !(w->folder = strdup(folder))) {
        free(w);
        return fs_fail_memory(err, sizeof *w + strlen(folder));
    }
    w->shard_bytes_max = shard_bytes_max ? shard_bytes_max : UINT64_MAX;
    w->file.fd = -1;
    *ret = w;
    return FS_OK;
}

static void shard_name(const fs_safetensors_writer *w, uint32_t shard, char *ret, size_t n)
{
    if (w->n_shards == 1)
        snprintf(ret, n, "model.safetensors");
    else
        snprintf(ret, n, "model-%05" PRIu32 "-of-%05" PRIu32 ".safetensors", shard + 1, w->n_shards);
}

static void remove_file(const fs_safetensors_writer *w, const char *name)
{
    char *path = fs_path_join(w->folder, name);

    if (path)
        unlink(path);
    free(path);
}

void fs_safetensors_writer_close(fs_safetensors_writer *w)
{
    char name[64];

    if (!w)
        return;
    fs_writer_close(&w->file);
    for (uint32_t i = 0; i < w->n_done && !w->committed; i++) {
        shard_name(w, i, name, sizeof name);
        remove_file(w, name);
    }
    for (size_t i = 0; i < w->n; i++)
        free(w->entries[i].name);
    free(w->entries);
    free(w->folder);
    free(w);
}

fs_status fs_safetensors_writer_add(fs_safetensors_writer *w, const char *name, fs_dtype dtype, int n_dims, const uint64_t *dims,
                                    fs_error *err)
{
    entry e = { .dtype = dtype, .n_dims = n_dims, .index = w->n };
    uint64_t n = 1;

    assert(!w->begun && n_dims >= 0 && n_dims <= FS_TENSOR_DIMS_MAX);
    if (!fs_dtype_get(dtype)->safetensors_name)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s': safetensors has no type for %s", name, fs_dtype_get(dtype)->name);
    for (int i = 0; i < n_dims; i++) {
        e.dims[i] = dims[i];
        if (__builtin_mul_overflow(n, dims[i], &n))
            return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is too large", name);
    }
    if (!fs_dtype_bytes(dtype, n, &e.n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is too large", name);
    if (w->n == w->capacity) {
        size_t capacity = w->capacity ? 2 * w->capacity : 64;
        entry *more = realloc(w->entries, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        w->entries = more;
        w->capacity = capacity;
    }
    e.name = strdup(name);
    if (!e.name)
        return fs_fail_memory(err, strlen(name) + 1);
    w->entries[w->n++] = e;
    return FS_OK;
}

static int by_place(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    int wx = fs_dtype_get(x->dtype)->block_bytes, wy = fs_dtype_get(y->dtype)->block_bytes;

    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    if (wx != wy)
        return wx > wy ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* The header of the shard that begins at the current entry. */
static fs_status put_header(fs_safetensors_writer *w, fs_buf *text, fs_error *err)
{
    fs_status rc = fs_buf_append_str(text, "{\"__metadata__\":{\"format\":\"pt\"}", err);
    uint64_t at = 0;

    for (size_t i = w->at; i < w->n && w->entries[i].shard == w->entries[w->at].shard && !rc; i++) {
        const entry *e = &w->entries[i];
        rc = fs_buf_append(text, ",", 1, err);
        if (!rc)
            rc = fs_json_quote(text, fs_bytes_str(e->name), err);
        if (!rc)
            rc = fs_buf_printf(text, err, ":{\"dtype\":\"%s\",\"shape\":[", fs_dtype_get(e->dtype)->safetensors_name);
        for (int k = 0; k < e->n_dims && !rc; k++)
            rc = fs_buf_printf(text, err, "%s%" PRIu64, k ? "," : "", e->dims[k]);
        if (!rc)
            rc = fs_buf_printf(text, err, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + e->n_bytes);
        at += e->n_bytes;
    }
    if (!rc)
        rc = fs_buf_append(text, "}", 1, err);
    while (!rc && text->n_bytes % 8)
        rc = fs_buf_append(text, " ", 1, err);
    if (!rc && text->n_bytes > FS_SAFETENSORS_HEADER_BYTES_MAX)
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "the header of a file would have %zu bytes", text->n_bytes);
    return rc;
}

static fs_status open_shard(fs_safetensors_writer *w, fs_error *err)
{
    uint8_t length[8];
    char name[64], *path;
    fs_buf text = { 0 };
    fs_status rc = put_header(w, &text, err);

    shard_name(w, w->n_done, name, sizeof name);
    path = fs_path_join(w->folder, name);
    if (!rc && !path)
        rc = fs_fail_memory(err, strlen(w->folder) + sizeof name);
    if (!rc)
        rc = fs_writer_open(&w->file, path, err);
    w->is_open = !rc;
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)text.n_bytes >> 8 * i);
    if (!rc)
        rc = fs_writer_put(&w->file, length, 8, err);
    if (!rc)
        rc = fs_writer_put(&w->file, text.data, text.n_bytes, err);
    free(path);
    fs_buf_done(&text);
    return rc;
}

/* Steps over finished tensors (empty ones are so at once) and commits finished files. */
static fs_status advance(fs_safetensors_writer *w, fs_error *err)
{
    fs_status rc = FS_OK;

    while (!rc && w->at < w->n && w->left == 0) {
        w->at++;
        if (w->at == w->n || w->entries[w->at].shard != w->n_done) {
            rc = fs_writer_commit(&w->file, err);
            if (rc)
                break;
            w->is_open = false;
            w->n_done++;
            if (w->at < w->n)
                rc = open_shard(w, err);
        }
        w->left = w->at < w->n ? w->entries[w->at].n_bytes : 0;
    }
    return rc;
}

fs_status fs_safetensors_writer_begin(fs_safetensors_writer *w, fs_error *err)
{
    uint64_t used = 0;
    uint32_t shard = 0;
    fs_status rc;

    assert(!w->begun);
    if (w->n == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "a checkpoint without tensors");
    for (size_t i = 0; i < w->n; i++) {
        if (used > 0 && w->entries[i].n_bytes > w->shard_bytes_max - (used < w->shard_bytes_max ? used : w->shard_bytes_max)) {
            shard++;
            used = 0;
        }
        w->entries[i].shard = shard;
        used += w->entries[i].n_bytes;
    }
    w->n_shards = shard + 1;
    qsort(w->entries, w->n, sizeof *w->entries, by_place);
    w->begun = true;
    rc = open_shard(w, err);
    w->left = w->entries[0].n_bytes;
    return rc ? rc : advance(w, err);
}

size_t fs_safetensors_writer_next(const fs_safetensors_writer *w)
{
    return w->at < w->n ? w->entries[w->at].index : w->n;
}

fs_status fs_safetensors_writer_write(fs_safetensors_writer *w, const void *data, size_t n, fs_error *err)
{
    fs_status rc;

    assert(w->begun && w->is_open && n <= w->left);
    rc = fs_writer_put(&w->file, data, n, err);
    w->left -= n;
    return rc ? rc : advance(w, err);
}

static fs_status write_index(const fs_safetensors_writer *w, fs_error *err)
{
    fs_buf text = { 0 };
    uint64_t total = 0;
    char name[64], *path = fs_path_join(w->folder, "model.safetensors.index.json");
    fs_status rc = path ? FS_OK : fs_fail_memory(err, strlen(w->folder) + 40);

    for (size_t i = 0; i < w->n; i++)
        total += w->entries[i].n_bytes;
    if (!rc)
        rc = fs_buf_printf(&text, err, "{\"metadata\":{\"total_size\":%" PRIu64 "},\"weight_map\":{", total);
    for (size_t i = 0; i < w->n && !rc; i++) {
        shard_name(w, w->entries[i].shard, name, sizeof name);
        rc = fs_buf_append_str(&text, i ? ",\n" : "\n", err);
        if (!rc)
            rc = fs_json_quote(&text, fs_bytes_str(w->entries[i].name), err);
        if (!rc)
            rc = fs_buf_printf(&text, err, ":\"%s\"", name);
    }
    if (!rc)
        rc = fs_buf_append_str(&text, "}}\n", err);
    if (!rc)
        rc = fs_file_write_atomic(path, fs_buf_bytes(&text), err);
    free(path);
    fs_buf_done(&text);
    return rc;
}

fs_status fs_safetensors_writer_commit(fs_safetensors_writer *w, fs_error *err)
{
    fs_status rc = FS_OK;

    assert(w->begun && w->at == w->n && "less data than was declared");
    if (w->n_shards > 1)
        rc = write_index(w, err);
    w->committed = !rc;
    return rc;
}
