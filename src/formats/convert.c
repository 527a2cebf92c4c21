/* A list of items, one a tensor of the output, each of which knows where its rows come from; rows pass through f32. */
#include "formats/convert.h"

#include "base/file.h"
#include "formats/config_write.h"
#include "formats/encode.h"
#include "formats/names.h"
#include "formats/safetensors_write.h"
#include "tensor/blocks.h"
#include "tensor/quantize.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_MAX_BYTES 192
#define REPORT_BYTES   ((uint64_t)4 << 20)
#define MXFP4_ELEMS    32
#define MXFP4_BYTES    17

typedef enum kind {
    PLAIN,      /* the rows of src */
    EXPERTS,    /* those of dims[0] tensors, src being the first's */
    K_B,        /* of kv_b_proj: W_uk a head, transposed */
    V_B,        /* of kv_b_proj: W_uv a head */
    KV_B,       /* of k_b (src) and v_b (src2) */
    FREQS,      /* llama3's divisors */
    SIDES,      /* of src and src2, side by side: V4's e_proj and h_proj */
    COLUMNS,    /* those of src from column first_col on */
    IDS,        /* integers, I32 or I64 */
    FP4,        /* of MXFP4: two codes a byte as the Hub has them */
    FP4_SCALES, /* of MXFP4: the scales alone */
} kind;

typedef struct item {
    char name[NAME_MAX_BYTES];
    kind kind;
    fs_dtype dtype;
    int n_dims;
    uint64_t dims[FS_TENSOR_DIMS_MAX];
    const fs_tensor *src, *src2;
    uint64_t first_col;
    uint32_t rope_heads; /* > 0: rows leave in interleaved order */
} item;

typedef struct job {
    const fs_weights *w;
    const fs_config *c; /* of the output */
    const fs_convert_options *o;
    bool v4, fp4; /* fp4: some tensors are */
    item *items;
    size_t n, capacity;
    uint64_t done, total; /* bytes */
    fs_gguf_writer *gguf;
    fs_safetensors_writer *safetensors;
    float *row, *head; /* head: a matrix of one head, for K_B and KV_B */
    uint8_t *bytes;
    fs_encoder *encoder; /* of a quantisation */
} job;

static void job_done(job *j)
{
    free(j->items);
    free(j->row);
    free(j->head);
    free(j->bytes);
    fs_encoder_free(j->encoder);
}

static fs_status add(job *j, const item *it, fs_error *err)
{
    if (j->n == j->capacity) {
        size_t capacity = j->capacity ? 2 * j->capacity : 128;
        item *more = realloc(j->items, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        j->items = more;
        j->capacity = capacity;
    }
    j->items[j->n++] = *it;
    return FS_OK;
}

/* Every scale is a power of two that keeps 8 bits of precision in a bf16: an fp8 or fp4 value times it is one. */
static bool scales_are_powers(const fs_tensor *t)
{
    uint64_t n = ((t->dims[0] + t->scale_rows - 1) / t->scale_rows) * ((t->dims[1] + t->scale_cols - 1) / t->scale_cols);

    for (uint64_t i = 0; i < n; i++) {
        int exponent;
        float scale = fs_tensor_scale(t, (size_t)i);
        if (!isfinite(scale) || frexpf(scale, &exponent) != 0.5f || exponent < -100 || exponent > 100)
            return false;
    }
    return true;
}

static bool has_nan_scale(const fs_tensor *t)
{
    return memchr(t->scales, 0xff, (size_t)(t->dims[0] * ((t->dims[1] + t->scale_cols - 1) / t->scale_cols))) != NULL;
}

/* Of a matrix of the output: the smallest of GGUF's plain types, or MXFP4, that holds every value. */
static fs_dtype dtype_of(const job *j, const fs_tensor *t)
{
    if (j->o->type != FS_DTYPE_NONE)
        return j->o->type;
    if (t->dtype == FS_DTYPE_BF16 || t->dtype == FS_DTYPE_F16)
        return t->dtype;
    if (j->gguf && t->dtype == FS_DTYPE_FP4_E2M1 && t->dims[1] % MXFP4_ELEMS == 0 && !has_nan_scale(t))
        return FS_DTYPE_MXFP4;
    return t->scales && scales_are_powers(t) ? FS_DTYPE_BF16 : FS_DTYPE_F32;
}

/* Vectors, routers and V4's small matrices are F32, as llama.cpp needs them. */
static bool is_plain(const fs_tensor *t)
{
    return t->n_dims < 2 || fs_ends_with(t->name, "mlp.gate.weight") || fs_ends_with(t->name, "ffn.gate.weight") || fs_ends_with(t->name, "_fn") ||
           fs_ends_with(t->name, "compressor.ape");
}

/* What the output is said to be: the type of its embedding. */
static fs_dtype main_dtype(const job *j)
{
    const fs_tensor *t = fs_weights_find(j->w, j->v4 ? "embed.weight" : "model.embed_tokens.weight");

    return t ? dtype_of(j, t) : FS_DTYPE_F32;
}

static item plain_item(const job *j, const fs_tensor *t)
{
    item it = { .kind = PLAIN, .n_dims = t->n_dims, .src = t };

    memcpy(it.dims, t->dims, sizeof it.dims);
    it.dtype = is_plain(t) ? FS_DTYPE_F32 : dtype_of(j, t);
    if (fs_ends_with(t->name, ".tid2eid") && (t->dtype == FS_DTYPE_I32 || t->dtype == FS_DTYPE_I64)) {
        it.kind = IDS;
        it.dtype = j->gguf ? FS_DTYPE_I32 : FS_DTYPE_I64;
    }
    return it;
}

/* ---- rows ---- */
static fs_status report(const job *j, fs_error *err)
{
    if (j->o->progress && !j->o->progress(j->o->ud, j->done, j->total))
        return fs_fail(err, FS_ERR_INTERRUPTED, "the conversion was stopped");
    return FS_OK;
}

static fs_status put_bytes(job *j, const void *from, size_t n_bytes, fs_error *err)
{
    fs_status rc;

    j->done += n_bytes;
    if (j->done % REPORT_BYTES < n_bytes && (rc = report(j, err)) != FS_OK)
        return rc;
    return j->gguf ? fs_gguf_writer_write(j->gguf, from, n_bytes, err) : fs_safetensors_writer_write(j->safetensors, from, n_bytes, err);
}

/* w: weights of the columns in block formats, or NULL. */
static fs_status put(job *j, const item *it, const float *row, const float *w, size_t n, fs_error *err)
{
    uint16_t *to = (uint16_t *)(void *)j->bytes;

    if (it->dtype == FS_DTYPE_F32)
        return put_bytes(j, row, n * sizeof *row, err);
    if (fs_dtype_is_block(it->dtype)) {
        const fs_dtype_info *info = fs_dtype_get(it->dtype);
        fs_status rc = fs_encode_check(it->name, row, n, it->dtype, err);
        if (rc)
            return rc;
        fs_quantize_row(it->dtype, row, w, n, j->bytes);
        return put_bytes(j, j->bytes, n / info->block_elems * info->block_bytes, err);
    }
    for (size_t i = 0; i < n; i++) {
        to[i] = it->dtype == FS_DTYPE_BF16 ? fs_f32_to_bf16(row[i]) : fs_f32_to_f16(row[i]);
        if (isfinite(row[i]) && (to[i] & 0x7fffu) >= (it->dtype == FS_DTYPE_BF16 ? 0x7f80u : 0x7c00u))
            return fs_fail(err, FS_ERR_NUMERIC, "tensor '%s' holds %g, which is too large for %s", it->name, (double)row[i],
                           fs_dtype_get(it->dtype)->name);
    }
    return put_bytes(j, to, n * sizeof *to, err);
}

/* The Hub's FP4 has the codes 2i and 2i + 1 in byte i; a block of MXFP4 its scale, then i and i + 16. */
static fs_status put_mxfp4(job *j, const fs_tensor *t, fs_error *err)
{
    size_t n_blocks = (size_t)t->dims[1] / MXFP4_ELEMS;
    fs_status rc = FS_OK;

    for (uint64_t r = 0; r < t->dims[0] && !rc; r++) {
        const uint8_t *codes = fs_tensor_row_data(t, r), *scales = t->scales + r * n_blocks;
        uint8_t *to = j->bytes;
        for (size_t b = 0; b < n_blocks; b++, codes += 16, to += MXFP4_BYTES) {
            to[0] = scales[b];
            for (int i = 0; i < 16; i++)
                to[1 + i] = (uint8_t)((codes[i / 2] >> 4 * (i % 2) & 15) | (codes[8 + i / 2] >> 4 * (i % 2) & 15) << 4);
        }
        rc = put_bytes(j, j->bytes, n_blocks * MXFP4_BYTES, err);
    }
    return rc;
}

static fs_status put_fp4(job *j, const item *it, fs_error *err)
{
    const fs_tensor *t = it->src;
    size_t n_blocks = (size_t)t->dims[1] / MXFP4_ELEMS;
    fs_status rc = FS_OK;

    for (uint64_t r = 0; r < t->dims[0] && !rc; r++) {
        const uint8_t *block = fs_tensor_row_data(t, r);
        uint8_t *to = j->bytes;
        for (size_t b = 0; b < n_blocks; b++, block += MXFP4_BYTES) {
            if (it->kind == FP4_SCALES) {
                *to++ = block[0];
                continue;
            }
            for (int half = 0; half < 2; half++)
                for (int i = 0; i < 16; i += 2)
                    *to++ = (uint8_t)((block[1 + i] >> 4 * half & 15) | (block[2 + i] >> 4 * half & 15) << 4);
        }
        rc = put_bytes(j, j->bytes, (size_t)(to - j->bytes), err);
    }
    return rc;
}

static fs_status put_ids(job *j, const item *it, fs_error *err)
{
    bool wide = it->src->dtype == FS_DTYPE_I64;
    fs_status rc = FS_OK;

    for (uint64_t i = 0; i < fs_tensor_elems(it->src) && !rc; i++) {
        int64_t v = 0;
        int32_t v32 = 0;
        memcpy(wide ? (void *)&v : (void *)&v32, it->src->data + i * (wide ? 8 : 4), wide ? 8 : 4);
        if (!wide)
            v = v32;
        if (v < 0 || v > INT32_MAX)
            return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' holds %" PRId64 ", which is no number of an expert", it->src->name, v);
        v32 = (int32_t)v;
        rc = put_bytes(j, j->gguf ? (const void *)&v32 : (const void *)&v, j->gguf ? sizeof v32 : sizeof v, err);
    }
    return rc;
}

static fs_status sink(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    return put_bytes(ud, data, n_bytes, err);
}

/* expert: of n_experts in one tensor. */
static fs_status put_rows(job *j, const item *it, const fs_tensor *t, uint64_t expert, uint64_t n_experts, fs_error *err)
{
    uint64_t n = fs_tensor_rows(t), d = it->rope_heads ? n / it->rope_heads : 0;
    size_t cols = (size_t)fs_tensor_cols(t);
    fs_status rc = FS_OK;

    if (it->dtype == FS_DTYPE_MXFP4 && t->dtype == FS_DTYPE_FP4_E2M1)
        return put_mxfp4(j, t, err);
    if (j->encoder)
        return fs_encode_rows(j->encoder, it->name, t, it->rope_heads, it->dtype,
                              j->o->quant->columns(j->o->quant->ud, it->name, expert, n_experts, cols), sink, j, err);
    for (uint64_t r = 0; r < n && !rc; r++) {
        uint64_t from = d ? r / d * d + r % 2 * (d / 2) + r % d / 2 : r;
        fs_tensor_row_f32(t, from, j->row);
        rc = put(j, it, j->row, NULL, cols, err);
    }
    return rc;
}

/* The tensor of expert e beside that of expert 0. */
static fs_status get_expert(const job *j, const item *it, uint64_t e, const fs_tensor **ret, fs_error *err)
{
    const char *mark = strstr(it->src->name, ".experts.0.");
    char name[NAME_MAX_BYTES];

    if (!mark)
        return fs_fail(err, FS_ERR_FORMAT, "the first of the experts of '%s' is missing", it->name);
    snprintf(name, sizeof name, "%.*s.experts.%" PRIu64 ".%s", (int)(mark - it->src->name), it->src->name, e, mark + strlen(".experts.0."));
    return fs_weights_get(j->w, name, ret, err, 2, it->dims[1], it->dims[2]);
}

/* All there, and of one type, or F32. */
static fs_status check_experts(const job *j, item *it, fs_error *err)
{
    const fs_tensor *t = NULL;
    fs_status rc = FS_OK;

    for (uint64_t e = 0; e < it->dims[0] && !rc; e++) {
        rc = get_expert(j, it, e, &t, err);
        if (!rc && dtype_of(j, t) != it->dtype)
            it->dtype = FS_DTYPE_F32;
    }
    return rc;
}

static fs_status put_experts(job *j, const item *it, fs_error *err)
{
    const fs_tensor *t = NULL;
    fs_status rc = FS_OK;

    for (uint64_t e = 0; e < it->dims[0] && !rc; e++) {
        rc = get_expert(j, it, e, &t, err);
        if (!rc)
            rc = put_rows(j, it, t, e, it->dims[0], err);
    }
    return rc;
}

/* V4's two projections into the layer that predicts ahead, in GGUF one. */
static fs_status put_sides(job *j, const item *it, fs_error *err)
{
    size_t cols = (size_t)it->dims[1], half = it->kind == SIDES ? cols / 2 : cols;
    fs_status rc = FS_OK;

    for (uint64_t r = 0; r < it->dims[0] && !rc; r++) {
        fs_tensor_row_f32(it->src, r, j->row);
        if (it->kind == SIDES)
            fs_tensor_row_f32(it->src2, r, j->row + half);
        rc = put(j, it, j->row + it->first_col, NULL, cols, err);
    }
    return rc;
}

static fs_status put_up(job *j, const item *it, fs_error *err)
{
    size_t heads = j->c->num_attention_heads, nope = j->c->qk_nope_head_dim, v = j->c->v_head_dim, lora = j->c->kv_lora_rank;
    fs_status rc = FS_OK;

    for (size_t h = 0; h < heads && !rc; h++) {
        size_t first = h * (nope + v) + (it->kind == V_B ? nope : 0), n = it->kind == V_B ? v : nope;
        const float *w = j->encoder ? j->o->quant->columns(j->o->quant->ud, it->name, h, heads, it->dims[it->n_dims - 1]) : NULL;
        if (it->kind == K_B) {
            for (size_t i = 0; i < n; i++) {
                fs_tensor_row_f32(it->src, first + i, j->row);
                for (size_t k = 0; k < lora; k++)
                    j->head[k * nope + i] = j->row[k];
            }
            for (size_t k = 0; k < lora && !rc; k++)
                rc = put(j, it, j->head + k * nope, w, nope, err);
        } else if (it->kind == V_B) {
            for (size_t i = 0; i < n && !rc; i++) {
                fs_tensor_row_f32(it->src, first + i, j->row);
                rc = put(j, it, j->row, w, lora, err);
            }
        } else {
            for (size_t k = 0; k < lora; k++) {
                fs_tensor_row_f32(it->src, h * lora + k, j->row);
                for (size_t i = 0; i < nope; i++)
                    j->head[i * lora + k] = j->row[i];
            }
            for (size_t i = 0; i < nope && !rc; i++)
                rc = put(j, it, j->head + i * lora, w, lora, err);
            for (size_t i = 0; i < v && !rc; i++) {
                fs_tensor_row_f32(it->src2, h * v + i, j->row);
                rc = put(j, it, j->row, w, lora, err);
            }
        }
    }
    return rc;
}

static fs_status put_item(job *j, const item *it, fs_error *err)
{
    fs_status rc = report(j, err);

    if (rc)
        return rc;
    switch (it->kind) {
    case PLAIN:
        return put_rows(j, it, it->src, 0, 1, err);
    case EXPERTS:
        return put_experts(j, it, err);
    case FREQS:
        fs_config_rope_freqs(j->c, j->row);
        return put(j, it, j->row, NULL, (size_t)it->dims[0], err);
    case SIDES:
    case COLUMNS:
        return put_sides(j, it, err);
    case IDS:
        return put_ids(j, it, err);
    case FP4:
    case FP4_SCALES:
        return put_fp4(j, it, err);
    default:
        return put_up(j, it, err);
    }
}

/* Buffers for the longest row, and for MLA a head; the sum of the output. */
static fs_status plan(job *j, fs_error *err)
{
    size_t row = j->c->head_dim, head = 0, n_bytes;

    for (size_t i = 0; i < j->n; i++) {
        const item *it = &j->items[i];
        uint64_t n = 1;
        for (int k = 0; k < it->n_dims; k++)
            n *= it->dims[k];
        if (fs_dtype_bytes(it->dtype, n, &n_bytes))
            j->total += n_bytes;
        if (it->src && fs_tensor_cols(it->src) > row)
            row = (size_t)fs_tensor_cols(it->src);
        if (it->n_dims && it->dims[it->n_dims - 1] > row)
            row = (size_t)it->dims[it->n_dims - 1];
    }
    if (j->c->kv_lora_rank)
        head = (size_t)j->c->kv_lora_rank * j->c->qk_nope_head_dim;
    j->row = malloc((row + 1) * sizeof *j->row);
    j->bytes = malloc((row + 1) * sizeof(float));
    j->head = malloc((head + 1) * sizeof *j->head);
    if (!j->row || !j->bytes || !j->head)
        return fs_fail_memory(err, (2 * row + head) * sizeof(float));
    return j->o->quant ? fs_encoder_new(j->o->quant->pool, row, &j->encoder, err) : FS_OK;
}

/* ---- to GGUF ---- */
static fs_status no_place(const fs_tensor *t, fs_error *err)
{
    return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' has no place in a GGUF of this architecture", t->name);
}

/* A layer that predicts ahead. */
static bool is_mtp(const job *j, const fs_tensor *t)
{
    uint32_t layer;

    return j->v4 ? strncmp(t->name, "mtp.", 4) == 0
                 : sscanf(t->name, "model.layers.%5" SCNu32 ".", &layer) == 1 && layer >= fs_weights_config(j->w)->num_hidden_layers;
}

/* What other programs leave in a checkpoint though the configuration says the same, that a tied head repeats, or that
 * stands beside the ids by which V4's first layers choose experts. */
static bool is_redundant(const job *j, const fs_tensor *t)
{
    uint32_t layer;

    if (j->v4 && sscanf(t->name, "layers.%5" SCNu32 ".ffn.gate.bias", &layer) == 1 && fs_ends_with(t->name, ".ffn.gate.bias") &&
        layer < j->c->num_hash_layers)
        return true;
    return fs_ends_with(t->name, "_scale_inv") || fs_ends_with(t->name, "rotary_emb.inv_freq") || (t->dtype == FS_DTYPE_F8_E8M0 && fs_ends_with(t->name, ".scale")) ||
           (j->c->tie_word_embeddings && strcmp(t->name, "lm_head.weight") == 0) || (j->o->no_mtp && is_mtp(j, t));
}

static fs_status add_sides(job *j, const fs_tensor *e, fs_error *err)
{
    item it = plain_item(j, e);
    char h[NAME_MAX_BYTES], both[NAME_MAX_BYTES];
    int stem = (int)(strlen(e->name) - strlen("e_proj.weight"));
    uint64_t d = j->c->hidden_size;
    fs_status rc;

    snprintf(h, sizeof h, "%.*sh_proj.weight", stem, e->name);
    snprintf(both, sizeof both, "%.*seh_proj.weight", stem, e->name);
    if (!fs_name_to_gguf(j->c, both, it.name, sizeof it.name))
        return no_place(e, err);
    rc = fs_weights_get(j->w, e->name, &it.src, err, 2, d, d);
    if (!rc)
        rc = fs_weights_get(j->w, h, &it.src2, err, 2, d, d);
    if (rc)
        return rc;
    if (dtype_of(j, it.src2) != it.dtype || it.dtype == FS_DTYPE_MXFP4)
        it.dtype = FS_DTYPE_F32;
    it.kind = SIDES;
    it.dims[1] = 2 * d;
    return add(j, &it, err);
}

static fs_status add_to_gguf(job *j, const fs_tensor *t, fs_error *err)
{
    const fs_config *c = j->c;
    bool permuted = strcmp(c->model_type, "llama") == 0 || strcmp(c->model_type, "deepseek") == 0;
    uint32_t layer = 0, expert = 0;
    item it = plain_item(j, t);
    fs_status rc;

    if (j->v4 && is_mtp(j, t) && fs_ends_with(t->name, ".e_proj.weight"))
        return add_sides(j, t, err);
    if (j->v4 && is_mtp(j, t) && fs_ends_with(t->name, ".h_proj.weight"))
        return FS_OK; /* with its e_proj */
    if (fs_expert_name_to_gguf(c, t->name, it.name, sizeof it.name, &expert)) {
        if (expert > 0) /* taken with the first */
            return expert < c->n_routed_experts ? FS_OK : no_place(t, err);
        if (t->n_dims != 2)
            return no_place(t, err);
        it.kind = EXPERTS;
        it.n_dims = 3;
        it.dims[2] = t->dims[1];
        it.dims[1] = t->dims[0];
        it.dims[0] = c->n_routed_experts;
        rc = check_experts(j, &it, err);
        return rc ? rc : add(j, &it, err);
    }
    if (!fs_name_to_gguf(c, t->name, it.name, sizeof it.name))
        return no_place(t, err);
    if (it.kind != IDS && !fs_dtype_get(t->dtype)->is_weight)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' is %s, which holds no weights", t->name, fs_dtype_get(t->dtype)->name);
    if (permuted && (fs_ends_with(t->name, ".self_attn.q_proj.weight") || fs_ends_with(t->name, ".self_attn.k_proj.weight"))) {
        it.rope_heads = fs_ends_with(t->name, "q_proj.weight") ? c->num_attention_heads : c->num_key_value_heads;
        if (t->n_dims != 2 || t->dims[0] != (uint64_t)it.rope_heads * c->head_dim)
            return no_place(t, err);
    }
    if (permuted && (fs_ends_with(t->name, ".self_attn.q_proj.bias") || fs_ends_with(t->name, ".self_attn.k_proj.bias")))
        return no_place(t, err);
    if (!fs_ends_with(t->name, ".self_attn.kv_b_proj.weight"))
        return add(j, &it, err);

    if (t->n_dims != 2 || t->dims[1] != c->kv_lora_rank ||
        t->dims[0] != (uint64_t)c->num_attention_heads * ((uint64_t)c->qk_nope_head_dim + c->v_head_dim))
        return no_place(t, err);
    sscanf(t->name, "model.layers.%" SCNu32 ".", &layer);
    it.n_dims = 3;
    it.kind = K_B;
    it.dims[0] = c->num_attention_heads;
    it.dims[1] = c->kv_lora_rank;
    it.dims[2] = c->qk_nope_head_dim;
    snprintf(it.name, sizeof it.name, "blk.%" PRIu32 ".attn_k_b.weight", layer);
    rc = add(j, &it, err);
    it.kind = V_B;
    it.dims[1] = c->v_head_dim;
    it.dims[2] = c->kv_lora_rank;
    snprintf(it.name, sizeof it.name, "blk.%" PRIu32 ".attn_v_b.weight", layer);
    return rc ? rc : add(j, &it, err);
}

/* The header is read again as the file that it will be, whose data read as zeros: what GGUF could not say shows. */
static fs_status check_header(const job *j, fs_error *err)
{
    fs_buf header = { 0 };
    fs_config c = { 0 };
    fs_gguf *g = NULL;
    uint8_t *file = NULL;
    size_t n_bytes = 0;
    const char *field;
    fs_status rc = fs_gguf_writer_header(j->gguf, &header, err);

    if (!rc && (!fs_add_size(header.n_bytes, (size_t)fs_gguf_writer_data_bytes(j->gguf), &n_bytes) || !(file = fs_alloc_lazy(n_bytes))))
        rc = fs_fail_memory(err, n_bytes);
    if (!rc) {
        memcpy(file, header.data, header.n_bytes);
        rc = fs_gguf_open((fs_bytes){ file, n_bytes }, "the GGUF to be", &g, err);
    }
    if (!rc)
        rc = fs_config_from_gguf(&c, (const fs_gguf *const *)&g, 1, "the GGUF to be", err);
    if (!rc && (field = fs_config_differs(j->c, &c)))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "GGUF cannot express this model's %s", field);
    fs_config_done(&c);
    fs_gguf_close(g);
    fs_free_lazy(file, n_bytes);
    fs_buf_done(&header);
    return rc;
}

static fs_status choose_types(job *j, fs_error *err)
{
    const fs_convert_quant *q = j->o->quant;
    fs_status rc = FS_OK;

    for (size_t i = 0; q && i < j->n && !rc; i++) {
        item *it = &j->items[i];
        if (it->n_dims > 1 && it->kind != IDS)
            rc = q->choose(q->ud, it->name, it->dtype, it->n_dims, it->dims, &it->dtype, err);
    }
    return rc || !q ? rc : q->check(q->ud, err);
}

/* llama.cpp's numbers. */
static uint32_t file_type(const job *j)
{
    fs_dtype d = main_dtype(j);

    if (j->o->quant)
        return j->o->quant->file_type;
    for (size_t i = 0; i < j->n; i++)
        if (j->items[i].dtype == FS_DTYPE_MXFP4)
            return 38;
    return d == FS_DTYPE_BF16 ? 32 : d == FS_DTYPE_F16 ? 1 : 0;
}

/* Of the output; its pointers stay borrowed. */
static fs_config config_of(const fs_weights *w, const fs_convert_options *o)
{
    fs_config c = *fs_weights_config(w);

    if (o->no_mtp)
        c.num_nextn_predict_layers = 0;
    return c;
}

fs_status fs_convert_to_gguf(const fs_weights *w, const char *path, const fs_convert_options *o, fs_error *err)
{
    fs_config c = config_of(w, o);
    job j = { .w = w, .c = &c, .o = o, .v4 = strcmp(c.model_type, "deepseek_v4") == 0 };
    item freqs = { .name = "rope_freqs.weight", .kind = FREQS, .dtype = FS_DTYPE_F32, .n_dims = 1, .dims = { c.head_dim / 2 } };
    fs_status rc = fs_gguf_writer_new(path, &j.gguf, err);

    if (!rc)
        rc = fs_config_to_gguf(j.c, j.gguf, err);
    for (size_t i = 0; i < fs_weights_n_tensors(w) && !rc; i++)
        if (!is_redundant(&j, fs_weights_tensor_at(w, i)))
            rc = add_to_gguf(&j, fs_weights_tensor_at(w, i), err);
    if (!rc && j.c->rope_type == FS_ROPE_LLAMA3)
        rc = add(&j, &freqs, err);
    if (!rc)
        rc = choose_types(&j, err);
    if (!rc)
        rc = fs_gguf_put_u32(j.gguf, "general.file_type", file_type(&j), err);
    if (!rc && o->quant)
        rc = fs_gguf_put_u32(j.gguf, "general.quantization_version", 2, err);
    if (!rc && o->metadata)
        rc = o->metadata(o->ud, j.gguf, err);
    if (!rc)
        rc = plan(&j, err);
    for (size_t i = 0; i < j.n && !rc; i++)
        rc = fs_gguf_put_tensor(j.gguf, j.items[i].name, j.items[i].dtype, j.items[i].n_dims, j.items[i].dims, err);
    if (!rc)
        rc = check_header(&j, err);
    if (!rc)
        rc = fs_gguf_writer_begin(j.gguf, err);
    for (size_t i = 0; i < j.n && !rc; i++)
        rc = put_item(&j, &j.items[i], err);
    if (!rc)
        rc = fs_gguf_writer_commit(j.gguf, err);
    fs_gguf_writer_close(j.gguf);
    job_done(&j);
    return rc;
}

/* ---- to the Hub's layout ---- */

/* Two tensors: codes and scales. */
static fs_status add_fp4(job *j, const fs_tensor *t, fs_error *err)
{
    item codes = { .kind = FP4, .dtype = FS_DTYPE_I8, .n_dims = 2, .src = t, .dims = { t->dims[0], t->dims[1] / 2 } }, scales = codes;
    size_t stem = strlen(t->name) - strlen("weight");
    fs_status rc;

    snprintf(codes.name, sizeof codes.name, "%s", t->name);
    scales.kind = FP4_SCALES;
    scales.dtype = FS_DTYPE_F8_E8M0;
    scales.dims[1] = t->dims[1] / MXFP4_ELEMS;
    snprintf(scales.name, sizeof scales.name, "%.*sscale", (int)stem, t->name);
    j->fp4 = true;
    rc = add(j, &codes, err);
    return rc ? rc : add(j, &scales, err);
}

/* e_proj and h_proj of what GGUF has side by side. */
static fs_status add_columns(job *j, const fs_tensor *t, fs_error *err)
{
    item it = plain_item(j, t);
    size_t stem = strlen(t->name) - strlen("eh_proj.weight");
    fs_status rc = fs_weights_get(j->w, t->name, &it.src, err, 2, (uint64_t)j->c->hidden_size, 2 * (uint64_t)j->c->hidden_size);

    it.kind = COLUMNS;
    it.dims[1] = j->c->hidden_size;
    snprintf(it.name, sizeof it.name, "%.*se_proj.weight", (int)stem, t->name);
    if (!rc)
        rc = add(j, &it, err);
    it.first_col = it.dims[1];
    snprintf(it.name, sizeof it.name, "%.*sh_proj.weight", (int)stem, t->name);
    return rc ? rc : add(j, &it, err);
}

static fs_status add_to_hub(job *j, const fs_tensor *t, fs_error *err)
{
    const fs_config *c = j->c;
    item it = plain_item(j, t);
    const char *k_b = "self_attn.k_b_proj.weight";
    size_t stem;

    if (strcmp(t->name, "rope_freqs.weight") == 0 || fs_ends_with(t->name, "self_attn.v_b_proj.weight"))
        return FS_OK; /* in config.json; with its k_b */
    if (j->o->no_mtp && is_mtp(j, t))
        return FS_OK;
    if (strlen(t->name) >= sizeof it.name - 8)
        return no_place(t, err);
    if (it.kind != IDS && !fs_dtype_get(t->dtype)->is_weight)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' is %s, which holds no weights", t->name, fs_dtype_get(t->dtype)->name);
    if (j->v4 && t->dtype == FS_DTYPE_MXFP4 && t->n_dims == 2 && j->o->type == FS_DTYPE_NONE && fs_ends_with(t->name, ".weight"))
        return add_fp4(j, t, err);
    if (j->v4 && is_mtp(j, t) && fs_ends_with(t->name, ".eh_proj.weight"))
        return add_columns(j, t, err);
    strcpy(it.name, t->name);
    if (fs_ends_with(t->name, k_b)) {
        uint64_t heads = c->num_attention_heads, lora = c->kv_lora_rank, nope = c->qk_nope_head_dim, v = c->v_head_dim;
        char v_b[NAME_MAX_BYTES];
        fs_status rc;
        stem = strlen(t->name) - strlen(k_b);
        snprintf(v_b, sizeof v_b, "%.*sself_attn.v_b_proj.weight", (int)stem, t->name);
        rc = fs_weights_get(j->w, t->name, &it.src, err, 3, heads, lora, nope);
        if (!rc)
            rc = fs_weights_get(j->w, v_b, &it.src2, err, 3, heads, v, lora);
        if (rc)
            return rc;
        it.kind = KV_B;
        it.n_dims = 2;
        it.dims[0] = heads * (nope + v);
        it.dims[1] = lora;
        if (it.src->dtype != it.src2->dtype && j->o->type == FS_DTYPE_NONE)
            it.dtype = FS_DTYPE_F32;
        snprintf(it.name, sizeof it.name, "%.*sself_attn.kv_b_proj.weight", (int)stem, t->name);
    }
    return add(j, &it, err);
}

static const char *torch_name(const job *j)
{
    fs_dtype d = main_dtype(j);

    return d == FS_DTYPE_BF16 ? "bfloat16" : d == FS_DTYPE_F16 ? "float16" : "float32";
}

static fs_status write_text(const char *folder, const char *name, const fs_buf *text, fs_error *err)
{
    char *path = fs_path_join(folder, name);
    fs_status rc = path ? fs_file_write_atomic(path, fs_buf_bytes(text), err) : fs_fail_memory(err, strlen(folder) + strlen(name));

    free(path);
    return rc;
}

static void remove_text(const char *folder, const char *name)
{
    char *path = fs_path_join(folder, name);

    if (path)
        unlink(path);
    free(path);
}

/* config.json, checked by reading it again, and generation_config.json. */
static fs_status write_configs(const job *j, const char *folder, fs_error *err)
{
    const fs_config *c = j->c;
    fs_buf text = { 0 };
    fs_config back = { 0 };
    const char *field;
    fs_config_storage storage = { .torch_dtype = torch_name(j), .expert_dtype = j->fp4 ? "fp4" : NULL, .fp8 = j->fp4, .ue8m0 = j->fp4 };
    fs_status rc = fs_config_to_json(c, &storage, &text, err);

    if (!rc)
        rc = fs_config_from_json(&back, fs_buf_bytes(&text), "the config.json to be", err);
    if (!rc && (field = fs_config_differs(c, &back)))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "config.json cannot express this model's %s", field);
    if (!rc)
        rc = write_text(folder, "config.json", &text, err);
    fs_config_done(&back);
    fs_buf_clear(&text);
    if (!rc)
        rc = fs_buf_append_str(&text, "{", err);
    if (!rc && c->bos_token_id >= 0)
        rc = fs_buf_printf(&text, err, "\"bos_token_id\": %" PRId32 "%s", c->bos_token_id, c->n_eos_token_ids ? ", " : "");
    for (int i = 0; i < c->n_eos_token_ids && !rc; i++)
        rc = fs_buf_printf(&text, err, "%s%" PRId32 "%s", i ? ", " : "\"eos_token_id\": [", c->eos_token_ids[i],
                           i + 1 == c->n_eos_token_ids ? "]" : "");
    if (!rc)
        rc = fs_buf_append_str(&text, "}\n", err);
    if (!rc)
        rc = write_text(folder, "generation_config.json", &text, err);
    fs_buf_done(&text);
    return rc;
}

fs_status fs_convert_to_hub(const fs_weights *w, const char *folder, const fs_convert_options *o, fs_error *err)
{
    fs_config c = config_of(w, o);
    job j = { .w = w, .c = &c, .o = o, .v4 = strcmp(c.model_type, "deepseek_v4") == 0 };
    fs_status rc = fs_config_fold_rope_freqs(&c, err);

    if (!rc)
        rc = fs_safetensors_writer_new(folder, o->shard_bytes_max, &j.safetensors, err);
    for (size_t i = 0; i < fs_weights_n_tensors(w) && !rc; i++)
        rc = add_to_hub(&j, fs_weights_tensor_at(w, i), err);
    if (!rc)
        rc = plan(&j, err);
    for (size_t i = 0; i < j.n && !rc; i++)
        rc = fs_safetensors_writer_add(j.safetensors, j.items[i].name, j.items[i].dtype, j.items[i].n_dims, j.items[i].dims, err);
    if (!rc)
        rc = write_configs(&j, folder, err);
    if (!rc)
        rc = fs_safetensors_writer_begin(j.safetensors, err);
    while (!rc && fs_safetensors_writer_next(j.safetensors) < j.n)
        rc = put_item(&j, &j.items[fs_safetensors_writer_next(j.safetensors)], err);
    if (!rc)
        rc = fs_safetensors_writer_commit(j.safetensors, err);
    fs_safetensors_writer_close(j.safetensors);
    job_done(&j);
    if (rc) {
        remove_text(folder, "config.json");
        remove_text(folder, "generation_config.json");
    }
    return rc;
}
