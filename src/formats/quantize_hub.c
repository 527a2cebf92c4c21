/* The Hub's own fp8 and fp4. A scale is a tensor of its own whose turn in the file comes at another time than its
 * codes', so each is made from the matrix when it is wanted. config.json stays as it is but for what says how numbers
 * are stored. */
#include "formats/quantize_impl.h"

#include "base/file.h"
#include "formats/config_write.h"
#include "formats/safetensors_write.h"
#include "tensor/blocks.h"
#include "tensor/quantize.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_BYTES_MAX   256
#define RAW_BYTES        ((size_t)4 << 20)
#define FP4_COLS         32

typedef enum kind { RAW, FP8, FP8_SCALES, FP4, FP4_SCALES } kind;

typedef struct item {
    char name[NAME_BYTES_MAX];
    const fs_tensor *t;
    kind kind;
} item;

typedef struct job {
    fs_quantizer *q;
    const fs_weights *w;
    const fs_convert_options *o;
    bool v4;
    item *items;
    size_t n, capacity;
    fs_safetensors_writer *writer;
    float *rows; /* FS_FP8_BLOCK rows */
    uint8_t *out;
    float *scales; /* of those rows */
    uint64_t done, total;
} job;

/* What DeepSeek's own fp8 checkpoints have in fp8. */
static kind kind_of(const job *j, const fs_tensor *t)
{
    static const char *const v4_names[] = { ".attn.wq_a.weight", ".attn.wq_b.weight", ".attn.wkv.weight", ".attn.wo_a.weight",
                                            ".attn.wo_b.weight", ".attn.indexer.wq_b.weight", ".e_proj.weight", ".h_proj.weight" };

    if (t->n_dims != 2 || !fs_dtype_get(t->dtype)->is_weight)
        return RAW;
    if (!j->v4)
        return strncmp(t->name, "model.layers.", 13) == 0 &&
                       ((fs_ends_with(t->name, "_proj.weight") && !fs_ends_with(t->name, "weights_proj.weight") && !fs_ends_with(t->name, "eh_proj.weight")) ||
                        fs_ends_with(t->name, "_proj_with_mqa.weight") || fs_ends_with(t->name, "indexer.wq_b.weight") ||
                        fs_ends_with(t->name, "indexer.wk.weight"))
                   ? FP8 : RAW;
    if (strstr(t->name, ".ffn.experts."))
        return j->q->base == FS_DTYPE_FP4_E2M1 ? FP4 : FP8;
    for (size_t i = 0; i < sizeof v4_names / sizeof *v4_names; i++)
        if (fs_ends_with(t->name, v4_names[i]))
            return FP8;
    return strstr(t->name, ".ffn.shared_experts.") ? FP8 : RAW;
}

static fs_status add(job *j, const fs_tensor *t, kind k, fs_error *err)
{
    static const char weight[] = "weight";
    bool scales = k == FP8_SCALES || k == FP4_SCALES;
    item *it;

    if (j->n == j->capacity) {
        size_t capacity = j->capacity ? 2 * j->capacity : 128;
        item *more = realloc(j->items, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        j->items = more;
        j->capacity = capacity;
    }
    if (strlen(t->name) + 12 > sizeof it->name)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the name '%s' is too long", t->name);
    it = &j->items[j->n++];
    it->t = t;
    it->kind = k;
    if (scales && j->v4)
        snprintf(it->name, sizeof it->name, "%.*sscale", (int)(strlen(t->name) - strlen(weight)), t->name);
    else
        snprintf(it->name, sizeof it->name, "%s%s", t->name, scales ? "_scale_inv" : "");
    return FS_OK;
}

static fs_status declare(job *j, const item *it, fs_error *err)
{
    uint64_t rows = it->t->dims[0], cols = it->t->dims[1], dims[FS_TENSOR_DIMS_MAX];
    fs_dtype dtype = it->t->dtype;
    int n_dims = it->t->n_dims;

    memcpy(dims, it->t->dims, sizeof dims);
    switch (it->kind) {
    case RAW:
        break;
    case FP8:
        dtype = FS_DTYPE_F8_E4M3;
        break;
    case FP8_SCALES:
        dtype = j->v4 ? FS_DTYPE_F8_E8M0 : FS_DTYPE_F32;
        dims[0] = (rows + FS_FP8_BLOCK - 1) / FS_FP8_BLOCK;
        dims[1] = (cols + FS_FP8_BLOCK - 1) / FS_FP8_BLOCK;
        break;
    case FP4:
        dtype = FS_DTYPE_I8;
        dims[1] = cols / 2;
        break;
    case FP4_SCALES:
        dtype = FS_DTYPE_F8_E8M0;
        dims[1] = (cols + FP4_COLS - 1) / FP4_COLS;
        break;
    }
    return fs_safetensors_writer_add(j->writer, it->name, dtype, n_dims, dims, err);
}

static fs_status put(job *j, const void *data, size_t n_bytes, fs_error *err)
{
    if (n_bytes == 0)
        return FS_OK;
    j->done += n_bytes;
    if (j->o->progress && !j->o->progress(j->o->ud, j->done, j->total))
        return fs_fail(err, FS_ERR_INTERRUPTED, "the quantisation was stopped");
    return fs_safetensors_writer_write(j->writer, data, n_bytes, err);
}

/* ---- a band of FS_FP8_BLOCK rows ---- */
typedef struct band {
    job *j;
    const item *it;
    uint64_t first;
    size_t n_rows, cols, blocks; /* blocks: scales a row of them, or of a row */
    float *rows, *scales;
    uint8_t *out; /* codes, or scales as they are stored */
    atomic_bool bad;
} band;

static void read_piece(void *ud, size_t begin, size_t end, int thread)
{
    band *b = ud;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        float *row = b->rows + i * b->cols;
        fs_tensor_row_f32(b->it->t, b->first + i, row);
        for (size_t k = 0; k < b->cols; k++)
            if (!isfinite(row[k]))
                atomic_store(&b->bad, true);
    }
}

/* A scale for which the largest of the block becomes 448, or the power of two from there. */
static float scale_of(const band *b, size_t col)
{
    float a = 0, s;
    int e;

    for (size_t r = 0; r < b->n_rows; r++)
        for (size_t c = col; c < b->cols && c < col + FS_FP8_BLOCK; c++)
            a = fabsf(b->rows[r * b->cols + c]) > a ? fabsf(b->rows[r * b->cols + c]) : a;
    s = a / 448;
    if (!(s >= 0x1p-100f))
        return a > 0 ? 0x1p-100f : 1;
    if (!b->j->v4 && !b->j->q->ue8m0)
        return s;
    return frexpf(s, &e) == 0.5f ? ldexpf(1, e - 1) : ldexpf(1, e);
}

static void fp8_piece(void *ud, size_t begin, size_t end, int thread)
{
    band *b = ud;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        size_t col = i * FS_FP8_BLOCK;
        b->scales[i] = scale_of(b, col);
        for (size_t r = 0; r < b->n_rows && b->it->kind == FP8; r++)
            for (size_t c = col; c < b->cols && c < col + FS_FP8_BLOCK; c++)
                b->out[r * b->cols + c] = fs_f32_to_e4m3(b->rows[r * b->cols + c] / b->scales[i]);
    }
}

static void fp4_piece(void *ud, size_t begin, size_t end, int thread)
{
    static const float ones[FP4_COLS] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    band *b = ud;

    (void)thread;
    for (size_t r = begin; r < end; r++)
        for (size_t i = 0; i < b->blocks; i++) {
            size_t col = i * FP4_COLS, n = b->cols - col < FP4_COLS ? b->cols - col : FP4_COLS;
            uint8_t codes[FP4_COLS], e = fs_quantize_fp4(b->rows + r * b->cols + col, ones, (int)n, codes);
            if (b->it->kind == FP4_SCALES)
                b->out[r * b->blocks + i] = e;
            for (size_t k = 0; k < n && b->it->kind == FP4; k += 2)
                b->out[(r * b->cols + col + k) / 2] = (uint8_t)(codes[k] | codes[k + 1] << 4);
        }
}

static fs_status put_bands(job *j, const item *it, fs_error *err)
{
    bool fp4 = it->kind == FP4 || it->kind == FP4_SCALES;
    band b = { .j = j, .it = it, .cols = (size_t)it->t->dims[1], .rows = j->rows, .scales = j->scales, .out = j->out };
    fs_status rc = FS_OK;

    b.blocks = fp4 ? (b.cols + FP4_COLS - 1) / FP4_COLS : (b.cols + FS_FP8_BLOCK - 1) / FS_FP8_BLOCK;
    for (; b.first < it->t->dims[0] && !rc; b.first += b.n_rows) {
        b.n_rows = it->t->dims[0] - b.first < FS_FP8_BLOCK ? (size_t)(it->t->dims[0] - b.first) : FS_FP8_BLOCK;
        fs_pool_for(j->q->pool, b.n_rows, 4, read_piece, &b);
        if (b.bad)
            return fs_fail(err, FS_ERR_NUMERIC, "tensor '%s' holds a number that is not finite", it->t->name);
        if (fp4)
            fs_pool_for(j->q->pool, b.n_rows, 4, fp4_piece, &b);
        else
            fs_pool_for(j->q->pool, b.blocks, 1, fp8_piece, &b);
        if (it->kind == FP8_SCALES && j->v4) {
            for (size_t i = 0; i < b.blocks; i++) {
                int e;
                frexpf(b.scales[i], &e);
                b.out[i] = (uint8_t)(e - 1 + 127);
            }
            rc = put(j, b.out, b.blocks, err);
        } else if (it->kind == FP8_SCALES) {
            rc = put(j, b.scales, b.blocks * sizeof *b.scales, err);
        } else {
            rc = put(j, b.out, it->kind == FP8 ? b.n_rows * b.cols : it->kind == FP4 ? b.n_rows * b.cols / 2 : b.n_rows * b.blocks, err);
        }
    }
    return rc;
}

static fs_status put_item(job *j, const item *it, fs_error *err)
{
    fs_status rc = FS_OK;

    if (it->kind != RAW)
        return put_bands(j, it, err);
    for (size_t at = 0; at < it->t->n_bytes && !rc; at += RAW_BYTES)
        rc = put(j, it->t->data + at, it->t->n_bytes - at < RAW_BYTES ? it->t->n_bytes - at : RAW_BYTES, err);
    return rc;
}

/* ---- config.json ---- */
static fs_status say_storage(void *ud, struct json_object *json, fs_error *err)
{
    const job *j = ud;
    struct json_object *quantization;
    char text[256];
    fs_status rc;

    snprintf(text, sizeof text, "{\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", \"activation_scheme\": \"dynamic\", %s\"weight_block_size\": [%d, %d]}",
             j->v4 || j->q->ue8m0 ? "\"scale_fmt\": \"ue8m0\", " : "", FS_FP8_BLOCK, FS_FP8_BLOCK);
    rc = fs_json_parse(fs_bytes_str(text), "quantization_config", &quantization, err);
    if (rc)
        return rc;
    json_object_object_add(json, "quantization_config", quantization);
    if (j->v4)
        json_object_object_add(json, "expert_dtype", json_object_new_string(j->q->base == FS_DTYPE_FP4_E2M1 ? "fp4" : "fp8"));
    return FS_OK;
}

static fs_status write_config(job *j, const char *folder, fs_error *err)
{
    char *to = fs_path_join(folder, "config.json");
    fs_buf b = { 0 };
    fs_status rc = to ? fs_config_edited(fs_weights_folder(j->w), say_storage, j, &b, err) : fs_fail_memory(err, strlen(folder) + 16);

    if (!rc)
        rc = fs_file_write_atomic(to, fs_buf_bytes(&b), err);
    free(to);
    fs_buf_done(&b);
    return rc;
}

static fs_status check(const job *j, fs_error *err)
{
    if (fs_weights_gguf(j->w))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "fp8 is made from the Hub's layout; convert the GGUF first");
    if (fs_weights_config(j->w)->fp8)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the model is stored as fp8 already");
    if (j->q->base == FS_DTYPE_FP4_E2M1 && !j->v4)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "FP4 is for the experts of deepseek_v4, this is '%s'", fs_weights_config(j->w)->model_type);
    return FS_OK;
}

static fs_status plan(job *j, fs_error *err)
{
    size_t cols = 1;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < fs_weights_n_tensors(j->w) && !rc; i++) {
        const fs_tensor *t = fs_weights_tensor_at(j->w, i);
        kind k = kind_of(j, t);
        if (k == FP4 && t->dims[1] % 2)
            rc = fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' has an odd number of columns", t->name);
        if (!rc)
            rc = add(j, t, k, err);
        if (!rc && k != RAW)
            rc = add(j, t, k == FP8 ? FP8_SCALES : FP4_SCALES, err);
        if (k != RAW && t->dims[1] > cols)
            cols = (size_t)t->dims[1];
    }
    for (size_t i = 0; i < j->n && !rc; i++) {
        j->total += j->items[i].kind == RAW ? j->items[i].t->n_bytes : fs_tensor_elems(j->items[i].t);
        rc = declare(j, &j->items[i], err);
    }
    if (rc)
        return rc;
    j->rows = malloc(cols * FS_FP8_BLOCK * sizeof *j->rows);
    j->out = malloc(cols * FS_FP8_BLOCK);
    j->scales = malloc(cols * sizeof *j->scales);
    return j->rows && j->out && j->scales ? FS_OK : fs_fail_memory(err, cols * FS_FP8_BLOCK * 5);
}

fs_status fs_quantize_to_hub(fs_quantizer *q, const fs_weights *w, const char *folder, const fs_convert_options *o, fs_error *err)
{
    job j = { .q = q, .w = w, .o = o, .v4 = strcmp(fs_weights_config(w)->model_type, "deepseek_v4") == 0 };
    fs_status rc = check(&j, err);

    if (!rc)
        rc = fs_safetensors_writer_new(folder, o->shard_bytes_max, &j.writer, err);
    if (!rc)
        rc = plan(&j, err);
    if (!rc)
        rc = fs_safetensors_writer_begin(j.writer, err);
    while (!rc && fs_safetensors_writer_next(j.writer) < j.n)
        rc = put_item(&j, &j.items[fs_safetensors_writer_next(j.writer)], err);
    if (!rc)
        rc = write_config(&j, folder, err);
    if (!rc)
        rc = fs_safetensors_writer_commit(j.writer, err);
    fs_safetensors_writer_close(j.writer);
    free(j.items);
    free(j.rows);
    free(j.out);
    free(j.scales);
    if (rc) {
        char *path = fs_path_join(folder, "config.json");
        if (path)
            unlink(path);
        free(path);
    }
    return rc;
}
