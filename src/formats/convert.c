/* What both directions share: items and their types, the configuration of the output. */
#include "formats/convert_impl.h"

#include "formats/names.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD      "lm_head.weight"
#define EMBEDDING "model.embed_tokens.weight"

void fs_convert_job_done(fs_convert_job *j)
{
    free(j->items);
    free(j->row);
    free(j->head);
    free(j->bytes);
    fs_merge_rows_close(j->pairs[0]);
    fs_merge_rows_close(j->pairs[1]);
    fs_encoder_free(j->encoder);
}

fs_status fs_convert_add(fs_convert_job *j, const fs_item *it, fs_error *err)
{
    if (j->n == j->capacity) {
        size_t capacity = j->capacity ? 2 * j->capacity : 128;
        fs_item *more = realloc(j->items, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        j->items = more;
        j->capacity = capacity;
    }
    j->items[j->n++] = *it;
    return FS_OK;
}

fs_status fs_convert_config_of(const fs_weights *w, const fs_convert_options *o, fs_config *ret, fs_error *err)
{
    fs_config c = *fs_weights_config(w);
    bool head = false;
    fs_status rc = FS_OK;

    if (o->no_mtp)
        c.num_nextn_predict_layers = 0;
    if (o->merge && c.tie_word_embeddings)
        rc = fs_merge_find(o->merge, HEAD, c.vocab_size, c.hidden_size, &head, err);
    c.tie_word_embeddings = c.tie_word_embeddings && !head;
    *ret = c;
    return rc;
}

bool fs_convert_is_mtp(const fs_convert_job *j, const fs_tensor *t)
{
    uint32_t layer;

    return j->v4 ? strncmp(t->name, "mtp.", 4) == 0
                 : sscanf(t->name, "model.layers.%5" SCNu32 ".", &layer) == 1 && layer >= fs_weights_config(j->w)->num_hidden_layers;
}

bool fs_convert_is_scale(const fs_tensor *t)
{
    return fs_ends_with(t->name, "_scale_inv") || fs_ends_with(t->name, "rotary_emb.inv_freq") ||
           (t->dtype == FS_DTYPE_F8_E8M0 && fs_ends_with(t->name, ".scale"));
}

fs_status fs_convert_no_place(const fs_tensor *t, fs_error *err)
{
    return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' has no place in a GGUF of this architecture", t->name);
}

fs_status fs_convert_get_expert(const fs_convert_job *j, const fs_item *it, uint64_t e, const fs_tensor **ret, fs_error *err)
{
    const char *mark = strstr(it->src->name, ".experts.0.");
    char name[FS_ITEM_NAME_MAX];

    if (!mark)
        return fs_fail(err, FS_ERR_FORMAT, "the first of the experts of '%s' is missing", it->name);
    snprintf(name, sizeof name, "%.*s.experts.%" PRIu64 ".%s", (int)(mark - it->src->name), it->src->name, e, mark + strlen(".experts.0."));
    return fs_weights_get(j->w, name, ret, err, 2, it->dims[1], it->dims[2]);
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

fs_dtype fs_convert_dtype_of(const fs_convert_job *j, const fs_tensor *t)
{
    if (j->o->type != FS_DTYPE_NONE)
        return j->o->type;
    if (t->dtype == FS_DTYPE_BF16 || t->dtype == FS_DTYPE_F16)
        return t->dtype;
    if (j->gguf && t->dtype == FS_DTYPE_FP4_E2M1 && t->dims[1] % MXFP4_ELEMS == 0 && !has_nan_scale(t) && !fs_convert_is_merged(j, t))
        return FS_DTYPE_MXFP4;
    return t->scales && scales_are_powers(t) ? FS_DTYPE_BF16 : FS_DTYPE_F32;
}

/* Vectors, routers and V4's small matrices are F32, as llama.cpp needs them. */
static bool is_plain(const fs_tensor *t)
{
    return t->n_dims < 2 || fs_ends_with(t->name, "mlp.gate.weight") || fs_ends_with(t->name, "ffn.gate.weight") || fs_ends_with(t->name, "_fn") ||
           fs_ends_with(t->name, "compressor.ape");
}

fs_dtype fs_convert_main_dtype(const fs_convert_job *j)
{
    const fs_tensor *t = fs_weights_find(j->w, j->v4 ? "embed.weight" : EMBEDDING);

    return t ? fs_convert_dtype_of(j, t) : FS_DTYPE_F32;
}

fs_item fs_convert_plain_item(const fs_convert_job *j, const fs_tensor *t)
{
    fs_item it = { .kind = FS_ITEM_PLAIN, .n_dims = t->n_dims, .src = t };

    memcpy(it.dims, t->dims, sizeof it.dims);
    if (!is_plain(t) || (j->same && fs_convert_is_merged(j, t)))
        it.dtype = fs_convert_dtype_of(j, t);
    else
        it.dtype = j->same && (t->dtype == FS_DTYPE_BF16 || t->dtype == FS_DTYPE_F16) ? t->dtype : FS_DTYPE_F32;
    if (fs_ends_with(t->name, ".tid2eid") && (t->dtype == FS_DTYPE_I32 || t->dtype == FS_DTYPE_I64)) {
        it.kind = FS_ITEM_IDS;
        it.dtype = j->gguf ? FS_DTYPE_I32 : FS_DTYPE_I64;
    }
    return it;
}

/* ---- adapters ---- */

bool fs_convert_is_own_head(const fs_convert_job *j, const fs_tensor *t)
{
    return !fs_weights_config(j->w)->tie_word_embeddings || strcmp(t->name, HEAD) != 0;
}

fs_status fs_convert_add_head(fs_convert_job *j, fs_error *err)
{
    fs_item it;
    const fs_tensor *t;
    fs_status rc;

    if (j->c->tie_word_embeddings == fs_weights_config(j->w)->tie_word_embeddings)
        return FS_OK;
    rc = fs_weights_get(j->w, EMBEDDING, &t, err, 2, (uint64_t)j->c->vocab_size, (uint64_t)j->c->hidden_size);
    if (rc)
        return rc;
    it = fs_convert_plain_item(j, t);
    it.weight = HEAD;
    if (j->gguf)
        fs_name_to_gguf(j->c, HEAD, it.name, sizeof it.name);
    else
        strcpy(it.name, HEAD);
    return fs_convert_add(j, &it, err);
}

uint64_t fs_convert_n_linears(const fs_item *it)
{
    switch (it->kind) {
    case FS_ITEM_PLAIN:
        return it->src->n_dims == 2;
    case FS_ITEM_EXPERTS:
        return it->dims[0];
    case FS_ITEM_SIDES:
        return 2;
    case FS_ITEM_K_B:
    case FS_ITEM_V_B:
    case FS_ITEM_KV_B:
    case FS_ITEM_COLUMNS:
        return 1;
    default:
        return 0;
    }
}

fs_status fs_convert_linear(const fs_convert_job *j, const fs_item *it, uint64_t i, fs_item_linear *ret, fs_error *err)
{
    const fs_tensor *t = it->kind == FS_ITEM_SIDES && i == 1 ? it->src2 : it->src;
    fs_status rc = it->kind == FS_ITEM_EXPERTS ? fs_convert_get_expert(j, it, i, &t, err) : FS_OK;

    if (rc)
        return rc;
    if (it->kind == FS_ITEM_KV_B || it->kind == FS_ITEM_COLUMNS)
        *ret = (fs_item_linear){ it->name, it->dims[0], it->dims[1] };
    else
        *ret = (fs_item_linear){ it->weight ? it->weight : t->name, t->dims[0], t->dims[1] };
    return FS_OK;
}

bool fs_convert_is_merged(const fs_convert_job *j, const fs_tensor *t)
{
    bool found = false;

    return j->o->merge && t->n_dims == 2 && (fs_merge_find(j->o->merge, t->name, t->dims[0], t->dims[1], &found, NULL) != FS_OK || found);
}

fs_status fs_convert_check_merge(const fs_convert_job *j, fs_error *err)
{
    const fs_config *c = fs_weights_config(j->w);
    char prefix[64];
    fs_item_linear linear;
    bool found;
    fs_status rc = FS_OK;

    if (!j->o->merge)
        return FS_OK;
    for (size_t k = 0; k < j->n; k++)
        for (uint64_t i = 0; i < fs_convert_n_linears(&j->items[k]) && !rc; i++) {
            rc = fs_convert_linear(j, &j->items[k], i, &linear, err);
            if (!rc)
                rc = fs_merge_find(j->o->merge, linear.weight, linear.out, linear.in, &found, err);
        }
    for (uint32_t i = 0; j->o->no_mtp && i < c->num_nextn_predict_layers && !rc; i++) {
        snprintf(prefix, sizeof prefix, j->v4 ? "mtp.%" PRIu32 "." : "model.layers.%" PRIu32 ".", j->v4 ? i : c->num_hidden_layers + i);
        fs_merge_pass_over(j->o->merge, prefix);
    }
    return rc ? rc : fs_merge_check_used(j->o->merge, err);
}
