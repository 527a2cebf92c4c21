/* Opens whatever files a model is stored in, as maps: a folder in the Hub's layout, one safetensors file, one GGUF or a split one. Reading a
 * header is left to safetensors.c and gguf.c, GGUF's names to names.c, the index of shards to weights_index.c. */
#include "formats/names.h"
#include "formats/weights_impl.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_BYTES_MAX ((size_t)16 << 20)
#define FP4_SCALE_COLS   32

/* ---- files ---- */

/* Maps folder/name as one more part; the caller opens it. */
static fs_status add_part(fs_weights *w, const char *name, fs_weights_part **ret, fs_error *err)
{
    char *path;
    fs_weights_part *p;
    fs_status rc;

    if (w->n_parts == w->parts_capacity) {
        size_t capacity = w->parts_capacity ? 2 * w->parts_capacity : 4;
        fs_weights_part *more = realloc(w->parts, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        w->parts = more;
        w->parts_capacity = capacity;
    }
    p = &w->parts[w->n_parts];
    *p = (fs_weights_part){ .name = strdup(name) };
    if (!p->name)
        return fs_fail_memory(err, strlen(name) + 1);
    w->n_parts++;
    path = fs_path_join(w->folder, name);
    if (!path)
        return fs_fail_memory(err, strlen(w->folder) + strlen(name) + 2);
    rc = fs_map_open(&p->map, path, err);
    free(path);
    *ret = p;
    return rc;
}

fs_status fs_weights_add_safetensors(fs_weights *w, const char *name, fs_error *err)
{
    fs_weights_part *p = NULL;
    fs_status rc = add_part(w, name, &p, err);

    return rc ? rc : fs_safetensors_open(p->map.bytes, p->name, &p->safetensors, err);
}

fs_status fs_weights_read_in_folder(const fs_weights *w, const char *name, size_t max_bytes, fs_buf *ret, fs_error *err)
{
    char *path = fs_path_join(w->folder, name);
    fs_status rc;

    if (!path)
        return fs_fail_memory(err, strlen(w->folder) + strlen(name) + 2);
    rc = fs_file_read(path, max_bytes, ret, err);
    free(path);
    return rc;
}

static fs_status is_in_folder(const fs_weights *w, const char *name, bool *ret, fs_error *err)
{
    char *path = fs_path_join(w->folder, name);

    if (!path)
        return fs_fail_memory(err, strlen(w->folder) + strlen(name) + 2);
    *ret = fs_file_exists(path);
    free(path);
    return FS_OK;
}

/* ---- configuration ---- */

static fs_status add_generation_config(fs_weights *w, fs_error *err)
{
    fs_buf text = { 0 };
    bool there;
    fs_status rc = is_in_folder(w, "generation_config.json", &there, err);

    if (rc || !there)
        return rc;
    rc = fs_weights_read_in_folder(w, "generation_config.json", CONFIG_BYTES_MAX, &text, err);
    if (!rc)
        rc = fs_config_add_generation(&w->config, fs_buf_bytes(&text), "generation_config.json", err);
    fs_buf_done(&text);
    return rc;
}

static fs_status read_config(fs_weights *w, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc = fs_weights_read_in_folder(w, "config.json", CONFIG_BYTES_MAX, &text, err);

    if (!rc)
        rc = fs_config_from_json(&w->config, fs_buf_bytes(&text), "config.json", err);
    fs_buf_done(&text);
    return rc ? rc : add_generation_config(w, err);
}

/* ---- safetensors: one list over all parts, scales beside their weights ---- */

static fs_status list_safetensors(fs_weights *w, fs_error *err)
{
    size_t n = 0;

    for (size_t i = 0; i < w->n_parts; i++)
        n += fs_safetensors_n_tensors(w->parts[i].safetensors);
    w->tensors = malloc((n + 1) * sizeof *w->tensors);
    if (!w->tensors)
        return fs_fail_memory(err, (n + 1) * sizeof *w->tensors);
    for (size_t i = 0; i < w->n_parts; i++)
        for (size_t k = 0; k < fs_safetensors_n_tensors(w->parts[i].safetensors); k++)
            w->tensors[w->n_tensors++] = *fs_safetensors_tensor_at(w->parts[i].safetensors, k);
    return fs_weights_sort(w, err);
}

/* The tensor called name with its last cut_bytes replaced by suffix. */
static fs_status find_sibling(const fs_weights *w, const char *name, size_t cut_bytes, const char *suffix, fs_tensor **ret, fs_error *err)
{
    fs_buf sibling = { 0 };
    fs_status rc = fs_buf_append(&sibling, name, strlen(name) - cut_bytes, err);

    if (!rc)
        rc = fs_buf_append_str(&sibling, suffix, err);
    if (!rc)
        *ret = fs_weights_entry(w, sibling.data);
    fs_buf_done(&sibling);
    return rc;
}

/* Gives the matrix t, which has a scale for each block of [block_rows, block_cols], its scales. */
static fs_status attach_scale(const fs_weights *w, const fs_tensor *scale, fs_tensor *t, uint32_t block_rows, uint32_t block_cols,
                              fs_error *err)
{
    uint64_t rows, cols;

    if (!w->config.fp8)
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is a block scale, but config.json has no fp8 quantization_config", scale->name);
    if (scale->dtype != FS_DTYPE_F32 && scale->dtype != FS_DTYPE_F8_E8M0)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' is %s, scales are read as F32 and F8_E8M0", scale->name,
                       fs_dtype_get(scale->dtype)->name);
    if (t->scales)
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' has two sets of scales, '%s' is one", t->name, scale->name);
    rows = t->dims[0] / block_rows + (t->dims[0] % block_rows != 0);
    cols = t->dims[1] / block_cols + (t->dims[1] % block_cols != 0);
    if (scale->n_dims != 2 || scale->dims[0] != rows || scale->dims[1] != cols)
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is [%" PRIu64 ", %" PRIu64 "] in %d dimensions; [%" PRIu64 ", %" PRIu64
                       "] in blocks of [%" PRIu32 ", %" PRIu32 "] needs [%" PRIu64 ", %" PRIu64 "]", scale->name, scale->dims[0],
                       scale->dims[1], scale->n_dims, t->dims[0], t->dims[1], block_rows, block_cols, rows, cols);
    t->scales = scale->data;
    t->scale_dtype = scale->dtype;
    t->scale_rows = block_rows;
    t->scale_cols = block_cols;
    return FS_OK;
}

/* "X.weight_scale_inv", V3's. */
static fs_status pair_scale_inv(fs_weights *w, const fs_tensor *scale, fs_error *err)
{
    fs_tensor *t = NULL;
    fs_status rc = find_sibling(w, scale->name, strlen("_scale_inv"), "", &t, err);

    if (rc)
        return rc;
    if (!t || t->dtype != FS_DTYPE_F8_E4M3 || t->n_dims != 2)
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' scales no F8_E4M3 matrix", scale->name);
    return attach_scale(w, scale, t, w->config.weight_block_rows, w->config.weight_block_cols, err);
}

/* "X.scale", V4's; a tensor of another type beside another kind of "X.weight" is nothing of this. I8 scaled by powers
 * of two is FP4, two to a byte. */
static fs_status pair_scale(fs_weights *w, const fs_tensor *scale, fs_error *err)
{
    fs_tensor *t = NULL;
    fs_status rc = find_sibling(w, scale->name, strlen("scale"), "weight", &t, err);

    if (rc)
        return rc;
    if (t && t->dtype == FS_DTYPE_F8_E4M3 && t->n_dims == 2)
        return attach_scale(w, scale, t, w->config.weight_block_rows, w->config.weight_block_cols, err);
    if (scale->dtype != FS_DTYPE_F8_E8M0)
        return FS_OK;
    if (!t || t->dtype != FS_DTYPE_I8 || t->n_dims != 2 || t->dims[1] > UINT64_MAX / 2)
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' scales no matrix of F8_E4M3 or of FP4 packed as I8", scale->name);
    t->dtype = FS_DTYPE_FP4_E2M1;
    t->dims[1] *= 2;
    return attach_scale(w, scale, t, 1, FP4_SCALE_COLS, err);
}

static fs_status pair_scales(fs_weights *w, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < w->n_tensors && !rc; i++) {
        const fs_tensor *t = &w->tensors[i];
        if (fs_ends_with(t->name, ".weight_scale_inv"))
            rc = pair_scale_inv(w, t, err);
        else if (fs_ends_with(t->name, ".scale"))
            rc = pair_scale(w, t, err);
    }
    for (size_t i = 0; i < w->n_tensors && !rc && w->config.fp8; i++)
        if (w->tensors[i].dtype == FS_DTYPE_F8_E4M3 && !w->tensors[i].scales)
            rc = fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is F8_E4M3 without its '_scale_inv' or '.scale'", w->tensors[i].name);
    return rc;
}

/* ---- GGUF, in one file or split ---- */

static fs_status add_gguf(fs_weights *w, const char *name, fs_error *err)
{
    fs_weights_part *p = NULL;
    fs_status rc = add_part(w, name, &p, err);

    return rc ? rc : fs_gguf_open(p->map.bytes, p->name, &p->gguf, err);
}

/* "X-00001-of-00003.gguf": the bytes before "-00001", or 0 for other names; fills both numbers. */
static size_t split_name(const char *name, unsigned *ret_no, unsigned *ret_count)
{
    static const char tail[] = "-00001-of-00003.gguf";
    size_t n = strlen(name), stem;
    unsigned no = 0, count = 0;

    if (n < sizeof tail)
        return 0;
    stem = n - (sizeof tail - 1);
    for (size_t i = 0; i < sizeof tail - 1; i++) {
        char c = name[stem + i];
        bool digit = tail[i] >= '0' && tail[i] <= '9';
        if (digit ? c < '0' || c > '9' : c != tail[i])
            return 0;
        if (digit && i < 6)
            no = 10 * no + (unsigned)(c - '0');
        else if (digit)
            count = 10 * count + (unsigned)(c - '0');
    }
    *ret_no = no;
    *ret_count = count;
    return stem;
}

/* The other parts of the split file whose first part is open. */
static fs_status add_split_parts(fs_weights *w, fs_error *err)
{
    const fs_gguf *first = w->parts[0].gguf;
    int64_t count = 1, no = 0, n_tensors = -1;
    size_t stem, n_stored = fs_gguf_n_tensors(first);
    unsigned name_no, name_count;
    fs_status rc = fs_gguf_int(first, "split.count", 0, FS_SHARDS_MAX, &count, NULL, err);

    if (!rc)
        rc = fs_gguf_int(first, "split.no", 0, FS_SHARDS_MAX, &no, NULL, err);
    if (!rc)
        rc = fs_gguf_int(first, "split.tensors.count", 0, INT64_MAX, &n_tensors, NULL, err);
    if (rc)
        return rc;
    if (no != 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' is part %" PRId64 " of %" PRId64 "; open the first part", w->parts[0].name, no + 1, count);
    if (count > 1) {
        stem = split_name(w->parts[0].name, &name_no, &name_count);
        if (!stem || name_no != 1 || name_count != count)
            return fs_fail(err, FS_ERR_FORMAT, "'%s' says that it is the first of %" PRId64 " parts, its name must end in '-00001-of-%05" PRId64
                           ".gguf'", w->parts[0].name, count, count);
    }
    for (int64_t i = 1; i < count; i++) {
        char name[256];
        int64_t its_no = -1, its_count = -1;
        if (snprintf(name, sizeof name, "%.*s-%05" PRId64 "-of-%05" PRId64 ".gguf", (int)stem, w->parts[0].name, i + 1, count) >= (int)sizeof name)
            return fs_fail(err, FS_ERR_ARGUMENT, "the name '%s' is too long", w->parts[0].name);
        rc = add_gguf(w, name, err);
        if (!rc)
            rc = fs_gguf_int(w->parts[i].gguf, "split.no", 0, FS_SHARDS_MAX, &its_no, NULL, err);
        if (!rc)
            rc = fs_gguf_int(w->parts[i].gguf, "split.count", 0, FS_SHARDS_MAX, &its_count, NULL, err);
        if (rc)
            return rc;
        if (its_no != i || its_count != count)
            return fs_fail(err, FS_ERR_FORMAT, "'%s' says that it is part %" PRId64 " of %" PRId64, name, its_no + 1, its_count);
        n_stored += fs_gguf_n_tensors(w->parts[i].gguf);
    }
    if (count > 1 && n_tensors >= 0 && (uint64_t)n_tensors != n_stored)
        return fs_fail(err, FS_ERR_FORMAT, "'%s' says that all parts have %" PRId64 " tensors, they have %zu", w->parts[0].name, n_tensors, n_stored);
    return FS_OK;
}

static fs_status read_gguf_parts(fs_weights *w, const fs_gguf **scratch, fs_error *err)
{
    fs_status rc;

    for (size_t i = 0; i < w->n_parts; i++)
        scratch[i] = w->parts[i].gguf;
    rc = fs_config_from_gguf(&w->config, scratch, w->n_parts, w->parts[0].name, err);
    if (!rc)
        rc = fs_names_to_hub(scratch, w->n_parts, &w->config, &w->tensors, &w->n_tensors, &w->names, err);
    return rc ? rc : fs_weights_sort(w, err);
}

/* The first part is added already. */
static fs_status open_gguf(fs_weights *w, fs_error *err)
{
    const fs_gguf **scratch;
    fs_status rc = fs_gguf_open(w->parts[0].map.bytes, w->parts[0].name, &w->parts[0].gguf, err);

    if (!rc)
        rc = add_split_parts(w, err);
    if (rc)
        return rc;
    scratch = malloc(w->n_parts * sizeof *scratch);
    if (!scratch)
        return fs_fail_memory(err, w->n_parts * sizeof *scratch);
    rc = read_gguf_parts(w, scratch, err);
    free(scratch);
    return rc;
}

/* ---- open ---- */

static fs_status open_safetensors(fs_weights *w, fs_error *err)
{
    fs_status rc = list_safetensors(w, err);

    return rc ? rc : pair_scales(w, err);
}

/* A GGUF shows in its first bytes, so a name without extension (a cache's blob) serves as well. */
static fs_status open_part(fs_weights *w, const char *name, fs_error *err)
{
    fs_weights_part *p = NULL;
    fs_status rc = add_part(w, name, &p, err);

    if (rc)
        return rc;
    if (p->map.bytes.n_bytes >= 4 && memcmp(p->map.bytes.data, "GGUF", 4) == 0)
        return open_gguf(w, err);
    if (!fs_ends_with(name, ".safetensors") && (p->map.bytes.n_bytes < 9 || p->map.bytes.data[8] != '{'))
        return fs_fail(err, FS_ERR_FORMAT, "%s: neither a GGUF nor a safetensors file%s", name,
                       fs_ends_with(name, ".json") ? "; a model in the Hub's layout is named by its folder" : "");
    rc = fs_safetensors_open(p->map.bytes, p->name, &p->safetensors, err);
    if (!rc)
        rc = read_config(w, err);
    return rc ? rc : open_safetensors(w, err);
}

/* The one GGUF of the folder, counting a split one once; *ret stays NULL when there is none. */
static fs_status find_gguf(const char *folder, char **ret, fs_error *err)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    char *name = NULL;
    fs_status rc = FS_OK;

    if (!d)
        return fs_fail_errno(err, errno, "cannot read the folder '%s'", folder);
    while (!rc && (e = readdir(d))) {
        unsigned no, count;
        if (!fs_ends_with(e->d_name, ".gguf") || (split_name(e->d_name, &no, &count) && no != 1))
            continue;
        if (name)
            rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' has several GGUF files, '%s' and '%s' among them; name one", folder, name, e->d_name);
        else if (!(name = strdup(e->d_name)))
            rc = fs_fail_memory(err, strlen(e->d_name) + 1);
    }
    closedir(d);
    if (rc)
        free(name);
    else
        *ret = name;
    return rc;
}

/* A folder without weights; what people take for weights gets a sentence of its own. */
static fs_status fail_empty(const fs_weights *w, const char *path, fs_error *err)
{
    bool adapter = false, pickles = false;
    fs_status rc = is_in_folder(w, "adapter_config.json", &adapter, err);

    if (!rc)
        rc = is_in_folder(w, "pytorch_model.bin", &pickles, err);
    if (!rc && !pickles)
        rc = is_in_folder(w, "pytorch_model.bin.index.json", &pickles, err);
    if (rc)
        return rc;
    if (adapter)
        return fs_fail(err, FS_ERR_NOT_FOUND, "'%s' is a LoRA adapter: name the model it belongs to, with --adapter '%s'", path, path);
    if (pickles)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "'%s' has its weights in pytorch_model.bin, which is not read; safetensors and GGUF are", path);
    return fs_fail(err, FS_ERR_NOT_FOUND, "'%s' has no model.safetensors, no model.safetensors.index.json and no .gguf", path);
}

static fs_status open_folder(fs_weights *w, const char *path, fs_error *err)
{
    bool single = false, index = false;
    char *gguf = NULL;
    fs_status rc;

    w->folder = strdup(path);
    if (!w->folder)
        return fs_fail_memory(err, strlen(path) + 1);
    rc = is_in_folder(w, "model.safetensors", &single, err);
    if (!rc)
        rc = is_in_folder(w, "model.safetensors.index.json", &index, err);
    if (rc)
        return rc;
    if (single)
        return open_part(w, "model.safetensors", err);
    if (index) {
        rc = read_config(w, err);
        if (!rc)
            rc = fs_weights_open_index(w, err);
        return rc ? rc : open_safetensors(w, err);
    }
    rc = find_gguf(path, &gguf, err);
    if (!rc && !gguf)
        rc = fail_empty(w, path, err);
    if (!rc)
        rc = open_part(w, gguf, err);
    free(gguf);
    return rc;
}

static fs_status open_file(fs_weights *w, const char *path, fs_error *err)
{
    const char *slash = strrchr(path, '/');

    w->folder = !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    if (!w->folder)
        return fs_fail_memory(err, strlen(path) + 1);
    return open_part(w, slash ? slash + 1 : path, err);
}

fs_status fs_weights_open(const char *path, fs_weights **ret, fs_error *err)
{
    fs_weights *w = calloc(1, sizeof *w);
    fs_status rc;

    if (!w)
        return fs_fail_memory(err, sizeof *w);
    if (!fs_file_exists(path)) {
        fs_weights_close(w);
        return fs_fail(err, FS_ERR_NOT_FOUND, "'%s' does not exist", path);
    }
    rc = fs_file_is_folder(path) ? open_folder(w, path, err) : open_file(w, path, err);
    if (rc) {
        if (rc == FS_ERR_FORMAT || rc == FS_ERR_UNSUPPORTED)
            fs_fail_in(err, path);
        fs_weights_close(w);
        return rc;
    }
    *ret = w;
    return FS_OK;
}
