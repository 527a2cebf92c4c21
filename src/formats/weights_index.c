/* model.safetensors.index.json: which shards there are, and that they hold what it lists. */
#include "base/pull.h"
#include "formats/weights_impl.h"

#include <stdlib.h>
#include <string.h>

#define INDEX_BYTES_MAX ((size_t)256 << 20)

/* A shard name comes from a file that a stranger wrote; it must not lead out of the folder. */
static bool is_plain_name(fs_bytes name)
{
    return name.n_bytes > 0 && name.n_bytes < 256 && name.data[0] != '.' && !memchr(name.data, '/', name.n_bytes) &&
           !memchr(name.data, '\\', name.n_bytes) && !memchr(name.data, 0, name.n_bytes);
}

/* What reads the index: the parts sorted by name, and which of their tensors were listed. */
typedef struct index_reader {
    fs_weights *w;
    fs_pull pull;
    struct shard {
        size_t part; /* index into w->parts */
        uint8_t *listed;
    } *shards;
    size_t n_shards, capacity, last; /* files list the tensors of a shard together */
    size_t n_listed, n_stored;
    fs_buf tensor;
} index_reader;

static const char *shard_name(const index_reader *r, size_t i)
{
    return r->w->parts[r->shards[i].part].name;
}

static fs_status add_shard(index_reader *r, size_t at, const char *name, fs_error *err)
{
    fs_weights *w = r->w;
    struct shard new = { .part = w->n_parts };
    fs_status rc;

    if (w->n_parts == FS_SHARDS_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "model.safetensors.index.json: more than %d shards", FS_SHARDS_MAX);
    if (r->n_shards == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 64;
        struct shard *more = realloc(r->shards, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        r->shards = more;
        r->capacity = capacity;
    }
    rc = fs_weights_add_safetensors(w, name, err);
    if (rc)
        return rc;
    new.listed = calloc(fs_safetensors_n_tensors(w->parts[new.part].safetensors) + 1, 1);
    if (!new.listed)
        return fs_fail_memory(err, fs_safetensors_n_tensors(w->parts[new.part].safetensors) + 1);
    r->n_stored += fs_safetensors_n_tensors(w->parts[new.part].safetensors);
    memmove(r->shards + at + 1, r->shards + at, (r->n_shards - at) * sizeof *r->shards);
    r->shards[at] = new;
    r->n_shards++;
    return FS_OK;
}

/* r->last becomes the shard of that name, which is opened if it is new. */
static fs_status find_shard(index_reader *r, const char *name, fs_error *err)
{
    size_t lo = 0, hi = r->n_shards;
    fs_status rc;

    if (r->n_shards && strcmp(shard_name(r, r->last), name) == 0)
        return FS_OK;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(shard_name(r, mid), name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == r->n_shards || strcmp(shard_name(r, lo), name) != 0) {
        rc = add_shard(r, lo, name, err);
        if (rc)
            return rc;
    }
    r->last = lo;
    return FS_OK;
}

static fs_status list_tensor(index_reader *r, fs_error *err)
{
    char name[256];
    const char *tensor = r->tensor.data;
    const fs_safetensors *file;
    const fs_tensor *t;
    fs_bytes shard = { 0 };
    fs_status rc = FS_OK;

    if (fs_pull_peek(&r->pull) == '"')
        rc = fs_pull_string(&r->pull, &shard, err);
    if (rc)
        return rc;
    if (!is_plain_name(shard))
        return fs_fail(err, FS_ERR_FORMAT, "model.safetensors.index.json: the shard of tensor '%s' is no plain file name", tensor);
    memcpy(name, shard.data, shard.n_bytes);
    name[shard.n_bytes] = 0;
    rc = find_shard(r, name, err);
    if (rc)
        return rc;
    file = r->w->parts[r->shards[r->last].part].safetensors;
    t = fs_safetensors_find(file, tensor);
    if (!t)
        return fs_fail(err, FS_ERR_FORMAT, "model.safetensors.index.json: tensor '%s' is not in shard '%s'", tensor, name);
    if (r->shards[r->last].listed[t - fs_safetensors_tensor_at(file, 0)]++)
        return fs_fail(err, FS_ERR_FORMAT, "model.safetensors.index.json: tensor '%s' is given twice", tensor);
    r->n_listed++;
    return FS_OK;
}

static fs_status read_weight_map(index_reader *r, fs_error *err)
{
    size_t n = 0;
    bool more;

    r->pull.at++;
    for (;;) {
        fs_bytes key;
        fs_status rc = fs_pull_more(&r->pull, '}', &n, &more, err);
        if (rc || !more || (rc = fs_pull_key(&r->pull, &key, err)))
            return rc;
        if (memchr(key.data, 0, key.n_bytes))
            return fs_fail(err, FS_ERR_FORMAT, "model.safetensors.index.json: the key that ends at byte %zu holds U+0000", r->pull.at);
        fs_buf_clear(&r->tensor);
        if ((rc = fs_buf_append(&r->tensor, key.data, key.n_bytes, err)) || (rc = list_tensor(r, err)))
            return rc;
    }
}

/* Every listed tensor is where the index says, so when the counts differ some shard holds more than is listed. */
static fs_status check_all_listed(const index_reader *r, fs_error *err)
{
    for (size_t i = 0; i < r->n_shards && r->n_listed != r->n_stored; i++) {
        const fs_safetensors *file = r->w->parts[r->shards[i].part].safetensors;
        for (size_t k = 0; k < fs_safetensors_n_tensors(file); k++) {
            const char *name = fs_safetensors_tensor_at(file, k)->name;
            bool elsewhere = false;
            if (r->shards[i].listed[k])
                continue;
            for (size_t o = 0; o < r->n_shards; o++)
                elsewhere |= fs_safetensors_find(r->w->parts[r->shards[o].part].safetensors, name) && o != i;
            return fs_fail(err, FS_ERR_FORMAT, "shard '%s' holds tensor '%s', which model.safetensors.index.json %s", shard_name(r, i), name,
                           elsewhere ? "puts into another shard" : "does not list");
        }
    }
    return FS_OK;
}

static fs_status read_index(index_reader *r, fs_error *err)
{
    static const char what[] = "model.safetensors.index.json";
    bool more, has_map = false;
    size_t n = 0;
    fs_status rc = FS_OK;

    if (fs_pull_peek(&r->pull) != '{')
        return fs_fail(err, FS_ERR_FORMAT, "%s: not an object, so 'weight_map' is missing", what);
    r->pull.at++;
    for (;;) {
        fs_bytes key;
        bool is_map;
        if (rc || (rc = fs_pull_more(&r->pull, '}', &n, &more, err)))
            return rc;
        if (!more)
            break;
        if ((rc = fs_pull_key(&r->pull, &key, err)))
            return rc;
        is_map = fs_bytes_equal(key, FS_BYTES_LIT("weight_map"));
        if (is_map && has_map)
            return fs_fail(err, FS_ERR_FORMAT, "%s: 'weight_map' is given twice", what);
        if (is_map && fs_pull_peek(&r->pull) != '{')
            break;
        has_map |= is_map;
        rc = is_map ? read_weight_map(r, err) : fs_pull_skip(&r->pull, &key, err);
    }
    if (!has_map)
        return fs_fail(err, FS_ERR_FORMAT, "%s: 'weight_map' is missing or not an object", what);
    if (fs_pull_peek(&r->pull))
        return fs_fail(err, FS_ERR_FORMAT, "%s: something follows the JSON value at byte %zu of %zu", what, r->pull.at, r->pull.text.n_bytes);
    return check_all_listed(r, err);
}

fs_status fs_weights_open_index(fs_weights *w, fs_error *err)
{
    static const char what[] = "model.safetensors.index.json";
    index_reader r = { .w = w };
    fs_buf text = { 0 };
    fs_status rc = fs_weights_read_in_folder(w, what, INDEX_BYTES_MAX, &text, err);

    r.pull = (fs_pull){ .text = fs_buf_bytes(&text), .what = what };
    if (!rc)
        rc = read_index(&r, err);
    for (size_t i = 0; i < r.n_shards; i++)
        free(r.shards[i].listed);
    free(r.shards);
    fs_buf_done(&r.tensor);
    fs_pull_done(&r.pull);
    fs_buf_done(&text);
    return rc;
}
