/* Rows of the items, one after the other, as f32 to the writer. */
#include "formats/convert_impl.h"

#include "formats/config_write.h"
#include "tensor/blocks.h"
#include "tensor/quantize.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REPORT_BYTES ((uint64_t)4 << 20)
#define MXFP4_BYTES  17

static fs_status report(const fs_convert_job *j, fs_error *err)
{
    if (j->o->progress && !j->o->progress(j->o->ud, j->done, j->total))
        return fs_fail(err, FS_ERR_INTERRUPTED, "the conversion was stopped");
    return FS_OK;
}

static fs_status put_bytes(fs_convert_job *j, const void *from, size_t n_bytes, fs_error *err)
{
    fs_status rc;

    j->done += n_bytes;
    if (j->done % REPORT_BYTES < n_bytes && (rc = report(j, err)) != FS_OK)
        return rc;
    return j->gguf ? fs_gguf_writer_write(j->gguf, from, n_bytes, err) : fs_safetensors_writer_write(j->safetensors, from, n_bytes, err);
}

/* w: weights of the columns in block formats, or NULL. */
static fs_status put(fs_convert_job *j, const fs_item *it, const float *row, const float *w, size_t n, fs_error *err)
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

/* The Hub's FS_ITEM_FP4 has the codes 2i and 2i + 1 in byte i; a block of MXFP4 its scale, then i and i + 16. */
static fs_status put_mxfp4(fs_convert_job *j, const fs_tensor *t, fs_error *err)
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

static fs_status put_fp4(fs_convert_job *j, const fs_item *it, fs_error *err)
{
    const fs_tensor *t = it->src;
    size_t n_blocks = (size_t)t->dims[1] / MXFP4_ELEMS;
    fs_status rc = FS_OK;

    for (uint64_t r = 0; r < t->dims[0] && !rc; r++) {
        const uint8_t *block = fs_tensor_row_data(t, r);
        uint8_t *to = j->bytes;
        for (size_t b = 0; b < n_blocks; b++, block += MXFP4_BYTES) {
            if (it->kind == FS_ITEM_FP4_SCALES) {
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

static fs_status put_ids(fs_convert_job *j, const fs_item *it, fs_error *err)
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

/* ---- pairs of adapters ---- */

/* The pairs of the linear that is the item's i-th, as its side-th. */
static fs_status open_pairs(fs_convert_job *j, const fs_item *it, uint64_t i, int side, fs_error *err)
{
    fs_item_linear linear;
    fs_status rc;

    fs_merge_rows_close(j->pairs[side]);
    j->pairs[side] = NULL;
    if (!j->o->merge || i >= fs_convert_n_linears(it))
        return FS_OK;
    rc = fs_convert_linear(j, it, i, &linear, err);
    return rc ? rc : fs_merge_rows_open(j->o->merge, linear.weight, linear.out, linear.in, &j->pairs[side], err);
}

static fs_status add_pairs(const fs_convert_job *j, const fs_item *it, int side, uint64_t r, float *row, fs_error *err)
{
    if (!fs_merge_row(j->pairs[side], r, row))
        return fs_fail(err, FS_ERR_NUMERIC, "tensor '%s' with its adapter holds a number that is not finite", it->name);
    return FS_OK;
}

/* Row r of t, which is src. */
static fs_status read_row(const fs_convert_job *j, const fs_item *it, const fs_tensor *t, uint64_t r, fs_error *err)
{
    fs_tensor_row_f32(t, r, j->row);
    return add_pairs(j, it, 0, r, j->row, err);
}

/* ---- items ---- */

/* expert: of n_experts in one tensor. */
static fs_status put_rows(fs_convert_job *j, const fs_item *it, const fs_tensor *t, uint64_t expert, uint64_t n_experts, fs_error *err)
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
        rc = read_row(j, it, t, from, err);
        if (!rc)
            rc = put(j, it, j->row, NULL, cols, err);
    }
    return rc;
}

static fs_status put_experts(fs_convert_job *j, const fs_item *it, fs_error *err)
{
    const fs_tensor *t = NULL;
    fs_status rc = FS_OK;

    for (uint64_t e = 0; e < it->dims[0] && !rc; e++) {
        rc = fs_convert_get_expert(j, it, e, &t, err);
        if (!rc)
            rc = open_pairs(j, it, e, 0, err);
        if (!rc)
            rc = put_rows(j, it, t, e, it->dims[0], err);
    }
    return rc;
}

/* V4's two projections into the layer that predicts ahead, in GGUF one. */
static fs_status put_sides(fs_convert_job *j, const fs_item *it, fs_error *err)
{
    size_t cols = (size_t)it->dims[1], half = it->kind == FS_ITEM_SIDES ? cols / 2 : cols;
    fs_status rc = FS_OK;

    for (uint64_t r = 0; r < it->dims[0] && !rc; r++) {
        fs_tensor_row_f32(it->src, r, j->row);
        rc = add_pairs(j, it, 0, r, j->row + it->first_col, err);
        if (it->kind == FS_ITEM_SIDES && !rc) {
            fs_tensor_row_f32(it->src2, r, j->row + half);
            rc = add_pairs(j, it, 1, r, j->row + half, err);
        }
        if (!rc)
            rc = put(j, it, j->row + it->first_col, NULL, cols, err);
    }
    return rc;
}

static fs_status put_up(fs_convert_job *j, const fs_item *it, fs_error *err)
{
    size_t heads = j->c->num_attention_heads, nope = j->c->qk_nope_head_dim, v = j->c->v_head_dim, lora = j->c->kv_lora_rank;
    fs_status rc = FS_OK;

    for (size_t h = 0; h < heads && !rc; h++) {
        size_t first = h * (nope + v) + (it->kind == FS_ITEM_V_B ? nope : 0), n = it->kind == FS_ITEM_V_B ? v : nope;
        const float *w = j->encoder ? j->o->quant->columns(j->o->quant->ud, it->name, h, heads, it->dims[it->n_dims - 1]) : NULL;
        if (it->kind == FS_ITEM_K_B) {
            for (size_t i = 0; i < n && !rc; i++) {
                rc = read_row(j, it, it->src, first + i, err);
                for (size_t k = 0; k < lora; k++)
                    j->head[k * nope + i] = j->row[k];
            }
            for (size_t k = 0; k < lora && !rc; k++)
                rc = put(j, it, j->head + k * nope, w, nope, err);
        } else if (it->kind == FS_ITEM_V_B) {
            for (size_t i = 0; i < n && !rc; i++) {
                rc = read_row(j, it, it->src, first + i, err);
                if (!rc)
                    rc = put(j, it, j->row, w, lora, err);
            }
        } else {
            for (size_t k = 0; k < lora; k++) {
                fs_tensor_row_f32(it->src, h * lora + k, j->row);
                for (size_t i = 0; i < nope; i++)
                    j->head[i * lora + k] = j->row[i];
            }
            for (size_t i = 0; i < nope && !rc; i++) {
                rc = add_pairs(j, it, 0, h * (nope + v) + i, j->head + i * lora, err);
                if (!rc)
                    rc = put(j, it, j->head + i * lora, w, lora, err);
            }
            for (size_t i = 0; i < v && !rc; i++) {
                fs_tensor_row_f32(it->src2, h * v + i, j->row);
                rc = add_pairs(j, it, 0, h * (nope + v) + nope + i, j->row, err);
                if (!rc)
                    rc = put(j, it, j->row, w, lora, err);
            }
        }
    }
    return rc;
}

fs_status fs_convert_put_item(fs_convert_job *j, const fs_item *it, fs_error *err)
{
    fs_status rc = report(j, err);

    for (int side = 0; side < 2 && !rc && it->kind != FS_ITEM_EXPERTS; side++)
        rc = open_pairs(j, it, (uint64_t)side, side, err);
    if (rc)
        return rc;
    switch (it->kind) {
    case FS_ITEM_PLAIN:
        return put_rows(j, it, it->src, 0, 1, err);
    case FS_ITEM_EXPERTS:
        return put_experts(j, it, err);
    case FS_ITEM_FREQS:
        fs_config_rope_freqs(j->c, j->row);
        return put(j, it, j->row, NULL, (size_t)it->dims[0], err);
    case FS_ITEM_SIDES:
    case FS_ITEM_COLUMNS:
        return put_sides(j, it, err);
    case FS_ITEM_IDS:
        return put_ids(j, it, err);
    case FS_ITEM_FP4:
    case FS_ITEM_FP4_SCALES:
        return put_fp4(j, it, err);
    default:
        return put_up(j, it, err);
    }
}

fs_status fs_convert_plan(fs_convert_job *j, fs_error *err)
{
    size_t row = j->c->head_dim, head = 0, n_bytes;

    for (size_t i = 0; i < j->n; i++) {
        const fs_item *it = &j->items[i];
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
