/* Loading: the same walk over the model (layers.c) runs twice. The planning pass finds and checks every tensor and adds up
 * the packed bytes, so that a model that is wrong or does not fit is refused before anything is allocated; the packing pass
 * carves the planned block and packs into it, all threads at work on each tensor. */
#include "models/internal.h"

#include "formats/merge.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room in the packed block; NULL while planning. */
static fs_status carve(fs_loader *l, size_t n_bytes, void **ret, fs_error *err)
{
    size_t at = l->used_bytes, end;

    if (!fs_add_size(at, n_bytes, &end) || !fs_add_size(end, 63, &end))
        return fs_fail(err, FS_ERR_FORMAT, "the packed weights would not fit in the address space");
    l->used_bytes = end & ~(size_t)63;
    assert(l->planning || l->used_bytes <= l->net->plan.weights_bytes);
    *ret = l->planning ? NULL : l->net->memory + at;
    return FS_OK;
}

/* Counts, and lists, what a step will give a place. */
static fs_status carve_late(fs_loader *l, fs_linear *linear, size_t n_bytes, fs_error *err)
{
    fs_network *net = l->net;

    if (l->planning && !fs_add_size(net->late_bytes, n_bytes, &net->late_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "the packed weights would not fit in the address space");
    if (l->expert)
        return FS_OK;
    if (l->planning) {
        net->n_late++;
        net->late_list_bytes += n_bytes;
    } else {
        net->late[l->n_late++] = linear;
    }
    return FS_OK;
}

static fs_status report(fs_loader *l, fs_error *err)
{
    const fs_network_options *o = &l->net->options;

    size_t n_bytes = l->net->plan.weights_bytes - l->net->late_bytes;

    if (!l->planning && o->progress && n_bytes && !o->progress(o->ud, (double)l->used_bytes / (double)n_bytes))
        return fs_fail(err, FS_ERR_INTERRUPTED, "loading was stopped");
    return FS_OK;
}

static fs_status fail_nan(const fs_tensor *t, fs_error *err)
{
    return fs_fail(err, FS_ERR_NUMERIC, "tensor '%s' holds a NaN", t->name);
}

struct pack_job {
    const fs_mat *mat;
    const fs_tensor *t;
    const fs_pair_kernels *kernels;
    atomic_bool nan;
};

static void pack_panels(void *ud, size_t begin, size_t end, int thread)
{
    struct pack_job *job = ud;
    size_t row_end = end * FS_PANEL < job->mat->n ? end * FS_PANEL : job->mat->n;

    (void)thread;
    for (size_t r = begin * FS_PANEL; r < row_end; r++)
        if (fs_dtype_has_nan(job->t->dtype, fs_tensor_row_data(job->t, r), job->mat->k))
            atomic_store(&job->nan, true);
    if (job->mat->pairs)
        fs_mat_pack_pairs_of(job->mat, job->kernels, job->t, 0, begin, end);
    else
        fs_mat_pack(job->mat, job->t, 0, begin, end);
}

fs_status fs_scales_check(const fs_tensor *t, fs_error *err)
{
    if (t->scales) {
        size_t rows = (size_t)((fs_tensor_rows(t) + t->scale_rows - 1) / t->scale_rows);
        size_t cols = (size_t)((fs_tensor_cols(t) + t->scale_cols - 1) / t->scale_cols);
        if (fs_dtype_has_nan(t->scale_dtype, t->scales, rows * cols))
            return fs_fail(err, FS_ERR_NUMERIC, "the scales of tensor '%s' hold a NaN", t->name);
    }
    return FS_OK;
}

/* n rows of k f32, stored as [n, k], or as [k] where n_dims is 1. */
static fs_status load_floats(fs_loader *l, const float **ret, int n_dims, uint64_t n, uint64_t k, const char *prefix,
                             const char *name, fs_error *err)
{
    char full[FS_NAME_MAX];
    const fs_tensor *t;
    size_t n_floats, n_bytes;
    void *data;
    fs_status rc;

    snprintf(full, sizeof full, "%s%s", prefix, name);
    rc = n_dims == 1 ? fs_weights_get(l->net->weights, full, &t, err, 1, k) : fs_weights_get(l->net->weights, full, &t, err, 2, n, k);
    if (rc)
        return rc;
    if (!fs_mul_size((size_t)n, (size_t)k, &n_floats) || !fs_mul_size(n_floats, sizeof(float), &n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' would not fit in the address space", full);
    rc = carve(l, n_bytes, &data, err);
    if (rc || l->planning)
        return rc;
    for (uint64_t i = 0; i < n; i++)
        fs_tensor_row_f32(t, i, (float *)data + i * k);
    if (fs_dtype_has_nan(FS_DTYPE_F32, data, n_floats))
        return fail_nan(t, err);
    *ret = data;
    return FS_OK;
}

fs_status fs_loader_vector(fs_loader *l, const float **ret, uint64_t n, const char *prefix, const char *name, fs_error *err)
{
    return load_floats(l, ret, 1, 1, n, prefix, name, err);
}

fs_status fs_loader_rows(fs_loader *l, const float **ret, uint64_t n, uint64_t k, const char *prefix, const char *name,
                         fs_error *err)
{
    return load_floats(l, ret, 2, n, k, prefix, name, err);
}

static int by_id(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

    return x < y ? -1 : x > y;
}

fs_status fs_loader_ids(fs_loader *l, const int32_t **ret, uint64_t n, uint64_t k, uint32_t limit, const char *prefix,
                        const char *name, fs_error *err)
{
    char full[FS_NAME_MAX];
    const fs_tensor *t;
    size_t n_ids, n_bytes;
    void *data;
    int32_t *ids;
    fs_status rc;

    snprintf(full, sizeof full, "%s%s", prefix, name);
    t = fs_weights_find(l->net->weights, full);
    if (!t)
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is missing", full);
    if ((t->dtype != FS_DTYPE_I64 && t->dtype != FS_DTYPE_I32) || t->n_dims != 2 || t->dims[0] != n || t->dims[1] != k)
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is not I64 or I32 [%" PRIu64 ", %" PRIu64 "]", full, n, k);
    if (!fs_mul_size((size_t)n, (size_t)k, &n_ids) || !fs_mul_size(n_ids, sizeof *ids, &n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' would not fit in the address space", full);
    rc = carve(l, n_bytes, &data, err);
    if (rc || l->planning)
        return rc;
    ids = data;
    for (size_t i = 0; i < n_ids; i++) {
        int64_t id;
        if (t->dtype == FS_DTYPE_I32) {
            int32_t narrow;
            memcpy(&narrow, t->data + i * sizeof narrow, sizeof narrow);
            id = narrow;
        } else {
            memcpy(&id, t->data + i * sizeof id, sizeof id);
        }
        if (id < 0 || id >= (int64_t)limit)
            return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' holds %" PRId64 ", allowed are 0 to %" PRIu32, full, id, limit - 1);
        ids[i] = (int32_t)id;
    }
    for (size_t i = 0; i < n_ids; i += k)
        qsort(ids + i, (size_t)k, sizeof *ids, by_id);
    *ret = ids;
    return FS_OK;
}

static fs_status load_lora_mat(fs_loader *l, fs_mat *ret, const fs_tensor *t, fs_error *err)
{
    struct pack_job job = { .mat = ret, .t = t };
    size_t n_bytes;
    void *data;
    fs_status rc;

    if (!fs_mat_bytes(fs_mat_dtype(t), t->dims[0], t->dims[1], 0, 0, &n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "adapter tensor '%s' cannot be packed", t->name);
    rc = carve(l, n_bytes, &data, err);
    if (rc || l->planning)
        return rc;
    fs_mat_init(ret, t, 0, (uint32_t)t->dims[0], data);
    fs_pool_for(l->net->pool, fs_mat_panels(ret), 4, pack_panels, &job);
    return job.nan ? fail_nan(t, err) : FS_OK;
}

fs_status fs_loader_lora(fs_loader *l, fs_lora *ret, uint64_t n, uint64_t k, const char *name, fs_error *err)
{
    fs_adapter_pair pair;
    bool found;
    fs_status rc;

    if (!l->net->options.adapter)
        return FS_OK;
    rc = fs_adapter_get(l->net->options.adapter, name, n, k, &found, &pair, err);
    if (rc || !found)
        return rc;
    rc = load_lora_mat(l, &ret->a, &pair.a, err);
    if (!rc)
        rc = load_lora_mat(l, &ret->b, &pair.b, err);
    if (rc)
        return rc;
    ret->rank = (uint32_t)pair.a.dims[0];
    ret->scale = pair.scale;
    if (ret->rank > l->net->lora_rank)
        l->net->lora_rank = ret->rank;
    return FS_OK;
}

/* Whether t is multiplied by section 6. */
static bool takes_codes(const fs_loader *l, const fs_tensor *t)
{
    return !l->net->options.exact && !l->net->options.bf16 && fs_dtype_is_block(t->dtype) && !t->scales && fs_quants_serve(t->dtype);
}

/* What the workspace must have room for: an input of k values against m. */
static void count_codes(fs_loader *l, const fs_mat *m)
{
    l->net->takes |= m->codes ? FS_TAKES_CODES : FS_TAKES_F32;
    if (m->codes && m->k > l->net->codes_k)
        l->net->codes_k = m->k;
}

static fs_status load_matrix(fs_loader *l, fs_linear *ret, uint64_t n, uint64_t k, bool exact, const char *prefix, const char *name,
                             fs_error *err)
{
    const bool mapped = l->net->options.mapped && !exact, pairs = l->net->options.bf16 && !exact;
    bool late;
    char full[FS_NAME_MAX];
    const fs_tensor *t;
    size_t n_bytes;
    void *data = NULL;
    fs_dtype dtype;
    fs_status rc;

    snprintf(full, sizeof full, "%s%s", prefix, name);
    rc = fs_weights_get(l->net->weights, full, &t, err, 2, n, k);
    if (rc)
        return rc;
    dtype = pairs ? FS_DTYPE_BF16 : fs_mat_dtype(t);
    if (pairs ? !fs_mat_pairs_bytes(n, k, &n_bytes) : !fs_mat_bytes(dtype, n, k, t->scale_rows, t->scale_cols, &n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' [%" PRIu64 ", %" PRIu64 "] cannot be packed as %s", full, n, k,
                       fs_dtype_get(dtype)->name);
    if (l->expert) {
        l->expert_tensors[l->n_expert_tensors++] = t;
        l->expert_bytes += n_bytes;
    }
    if (l->expert && l->net->experts) { /* stays where it is */
        fs_mat_init_unplaced(&ret->mat, t);
        ret->mat.finite = dtype == FS_DTYPE_F8_E4M3; /* readers look */
        if (!exact && takes_codes(l, t))
            fs_mat_take_codes(&ret->mat);
        return FS_OK;
    }
    late = !mapped && !exact && fs_dtype_is_block(dtype) && !l->net->n_slots; /* with slots the rest stands there from the start */
    rc = late ? carve_late(l, ret, n_bytes, err) : carve(l, mapped ? fs_mat_scales_bytes(t) : n_bytes, &data, err);
    if (rc)
        return rc;
    if (l->planning) { /* as much of it as the plan asks for */
        ret->mat = (fs_mat){ .dtype = dtype, .n = (uint32_t)n, .k = (uint32_t)k, .pairs = pairs, .codes = !exact && takes_codes(l, t) };
        count_codes(l, &ret->mat);
        if ((mapped || late) && fs_mat_bytes(dtype, FS_PANEL, k, 0, 0, &n_bytes) && n_bytes > l->net->stored_panel_bytes)
            l->net->stored_panel_bytes = n_bytes;
    } else {
        struct pack_job job = { .mat = &ret->mat, .t = t, .kernels = &l->net->kernels->pairs };
        rc = fs_scales_check(t, err);
        if (rc)
            return rc;
        if (mapped || late)
            fs_mat_init_stored(&ret->mat, t, data);
        else if (pairs)
            fs_mat_init_pairs(&ret->mat, (uint32_t)n, (uint32_t)k, data);
        else
            fs_mat_init(&ret->mat, t, 0, (uint32_t)n, data);
        if (!exact && takes_codes(l, t))
            fs_mat_take_codes(&ret->mat);
        if (mapped || late) {
            ret->stored = t;
            return report(l, err);
        }
        fs_pool_for(l->net->pool, fs_mat_panels(&ret->mat), 4, pack_panels, &job);
        if (job.nan)
            return fail_nan(t, err);
        ret->mat.finite = dtype == FS_DTYPE_F8_E4M3; /* looked at above */
        fs_weights_drop(l->net->weights, t);
    }
    return report(l, err);
}

fs_status fs_loader_columns(fs_loader *l, fs_linear *ret, uint64_t n, uint64_t col, uint64_t k, uint64_t n_cols, const char *prefix,
                            const char *name, fs_error *err)
{
    char full[FS_NAME_MAX];
    const fs_tensor *t;
    size_t n_bytes, block;
    float *rows;
    void *data;
    fs_status rc;

    snprintf(full, sizeof full, "%s%s", prefix, name);
    rc = fs_weights_get(l->net->weights, full, &t, err, 2, n, n_cols);
    if (rc)
        return rc;
    block = fs_dtype_get(t->dtype)->block_elems;
    if (col % block || k % block || !fs_mat_bytes(FS_DTYPE_F32, n, k, 0, 0, &n_bytes))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' cannot be cut at column %" PRIu64 " of %" PRIu64, full, col ? col : k, n_cols);
    rc = carve(l, n_bytes, &data, err);
    if (rc || l->planning)
        return rc;
    rows = malloc(n_bytes);
    if (!rows)
        return fs_fail_memory(err, n_bytes);
    for (uint64_t i = 0; i < n; i++)
        fs_tensor_part_f32(t, i, (size_t)col, (size_t)k, rows + i * k);
    fs_mat_init_f32(&ret->mat, FS_DTYPE_F32, (uint32_t)n, (uint32_t)k, data);
    fs_mat_pack_f32(&ret->mat, rows, (size_t)k, 0, fs_mat_panels(&ret->mat));
    rc = fs_dtype_has_nan(FS_DTYPE_F32, (const uint8_t *)rows, (size_t)(n * k)) ? fail_nan(t, err) : report(l, err);
    free(rows);
    return rc;
}

fs_status fs_loader_matrix(fs_loader *l, fs_linear *ret, uint64_t n, uint64_t k, const char *prefix, const char *name,
                           fs_error *err)
{
    return load_matrix(l, ret, n, k, true, prefix, name, err);
}

static fs_status load_linear(fs_loader *l, fs_linear *ret, uint64_t n, uint64_t k, bool bias, bool exact, const char *prefix,
                             const char *name, fs_error *err)
{
    char part[FS_NAME_MAX];
    fs_status rc;

    snprintf(part, sizeof part, "%s.weight", name);
    rc = load_matrix(l, ret, n, k, exact, prefix, part, err);
    snprintf(part, sizeof part, "%s.bias", name);
    if (!rc && bias)
        rc = fs_loader_vector(l, &ret->bias, n, prefix, part, err);
    snprintf(part, sizeof part, "%s%s", prefix, name);
    return rc ? rc : fs_loader_lora(l, &ret->lora, n, k, part, err);
}

fs_status fs_loader_linear(fs_loader *l, fs_linear *ret, uint64_t n, uint64_t k, bool bias, const char *prefix,
                           const char *name, fs_error *err)
{
    fs_status rc = load_linear(l, ret, n, k, bias, false, prefix, name, err);

    return rc || l->expert ? rc : fs_loader_input(l, &ret->input, prefix, name, NULL, 1, k, err);
}

fs_status fs_loader_exact(fs_loader *l, fs_linear *ret, uint64_t n, uint64_t k, const char *prefix, const char *name, fs_error *err)
{
    return load_linear(l, ret, n, k, false, true, prefix, name, err);
}

fs_status fs_loader_input(fs_loader *l, uint32_t *ret, const char *prefix, const char *name, const char *other, uint64_t n, uint64_t k, fs_error *err)
{
    fs_importance *imp = l->net->options.importance;

    return imp && !l->planning ? fs_importance_add(imp, prefix, name, other, (uint32_t)n, (uint32_t)k, ret, err) : FS_OK;
}

/* ---- MLA's up-projections ---- */
struct up_job {
    fs_mla *mla;
    const fs_config *c;
    const fs_tensor *kv_b, *k_b, *v_b;
    const fs_tensor *lora_a, *lora_b; /* an adapter of kv_b_proj, or NULL */
    const fs_kernels *kernels;
    float scale;
    float *buffers; /* one a thread: a row, a matrix; with an adapter A as f32, a row of B, two rows more */
    size_t buffer_floats;
    bool uk_codes, uv_codes; /* k_b and v_b stay as the file has them, for section 6 */
    atomic_bool nan;
};

/* Adds an adapter of kv_b_proj to the f32 matrix of head h: W_uk [lora, nope] (transposed) or W_uv [v, lora]. */
static void merge_lora(const struct up_job *job, size_t h, bool uv, float *row, float *m, float *a)
{
    const fs_config *c = job->c;
    size_t nope = c->qk_nope_head_dim, v = c->v_head_dim, lora = c->kv_lora_rank, n = uv ? v : nope, rank = (size_t)job->lora_a->dims[0];
    float *b = a + rank * lora, *chunk = b + rank;

    for (size_t i = 0; i < n; i++) {
        fs_tensor_row_f32(job->lora_b, h * (nope + v) + (uv ? nope : 0) + i, b);
        fs_pair_row(job->kernels, b, a, rank, lora, job->scale, chunk, row);
        if (uv)
            job->kernels->rows.add(m + i * lora, row, m + i * lora, lora);
        for (size_t j = 0; !uv && j < lora; j++)
            m[j * nope + i] = m[j * nope + i] + row[j];
    }
}

static void pack_values(struct up_job *job, const fs_mat *mat, const float *values)
{
    if (fs_dtype_has_nan(FS_DTYPE_F32, (const uint8_t *)values, (size_t)mat->n * mat->k))
        atomic_store(&job->nan, true);
    if (mat->pairs)
        fs_mat_pack_pairs(mat, &job->kernels->pairs, values, mat->k, 0, fs_mat_panels(mat));
    else
        fs_mat_pack_f32(mat, values, mat->k, 0, fs_mat_panels(mat));
}

static void pack_heads(void *ud, size_t begin, size_t end, int thread)
{
    struct up_job *job = ud;
    const fs_config *c = job->c;
    size_t nope = c->qk_nope_head_dim, v = c->v_head_dim, lora = c->kv_lora_rank;
    float *row = job->buffers + (size_t)thread * job->buffer_floats, *m = row + (lora > nope ? lora : nope);
    float *a = m + (nope > v ? nope : v) * lora;

    for (size_t k = 0; job->lora_a && k < job->lora_a->dims[0]; k++)
        fs_tensor_row_f32(job->lora_a, k, a + k * lora);
    for (size_t h = begin; h < end; h++) {
        if (job->uk_codes)
            fs_mat_pack(&job->mla->w_uk[h], job->k_b, h * lora, 0, fs_mat_panels(&job->mla->w_uk[h]));
        if (job->uv_codes)
            fs_mat_pack(&job->mla->w_uv[h], job->v_b, h * v, 0, fs_mat_panels(&job->mla->w_uv[h]));
        for (size_t i = 0; !job->uk_codes && i < (job->kv_b ? nope : lora); i++) {
            if (job->kv_b) { /* W_uk is stored [nope, lora]; the product wants rows of nope */
                fs_tensor_row_f32(job->kv_b, h * (nope + v) + i, row);
                for (size_t j = 0; j < lora; j++)
                    m[j * nope + i] = row[j];
            } else {
                fs_tensor_row_f32(job->k_b, h * lora + i, m + i * nope);
            }
        }
        if (job->lora_a)
            merge_lora(job, h, false, row, m, a);
        if (!job->uk_codes)
            pack_values(job, &job->mla->w_uk[h], m);
        for (size_t i = 0; !job->uv_codes && i < v; i++) {
            if (job->kv_b)
                fs_tensor_row_f32(job->kv_b, h * (nope + v) + nope + i, m + i * lora);
            else
                fs_tensor_row_f32(job->v_b, h * v + i, m + i * lora);
        }
        if (job->lora_a)
            merge_lora(job, h, true, row, m, a);
        if (!job->uv_codes)
            pack_values(job, &job->mla->w_uv[h], m);
    }
}

/* 16-bit files keep their width: their values are exact in it. Scaled and block values are f32 only. */
static fs_dtype up_dtype(const fs_tensor *t)
{
    return t->dtype == FS_DTYPE_BF16 || t->dtype == FS_DTYPE_F16 ? t->dtype : FS_DTYPE_F32;
}

/* Head h's matrix [n, k]; t: its codes are rows of it, NULL: values. */
static void init_up(fs_loader *l, fs_mat *ret, const fs_tensor *t, fs_dtype dtype, uint64_t h, uint64_t n, uint64_t k, void *data)
{
    if (l->planning) {
        *ret = (fs_mat){ .dtype = dtype, .n = (uint32_t)n, .k = (uint32_t)k, .pairs = l->net->options.bf16, .codes = t && takes_codes(l, t) };
        count_codes(l, ret);
    } else if (t) {
        fs_mat_init(ret, t, h * n, (uint32_t)n, data);
        fs_mat_take_codes(ret);
    } else if (l->net->options.bf16) {
        fs_mat_init_pairs(ret, (uint32_t)n, (uint32_t)k, data);
    } else {
        fs_mat_init_f32(ret, dtype, (uint32_t)n, (uint32_t)k, data);
    }
}

fs_status fs_loader_mla_up(fs_loader *l, fs_mla *mla, const char *prefix, fs_error *err)
{
    const fs_config *c = l->net->config;
    uint64_t heads = c->num_attention_heads, nope = c->qk_nope_head_dim, v = c->v_head_dim, lora = c->kv_lora_rank;
    struct up_job job = { .mla = mla, .c = c, .kernels = l->net->kernels };
    fs_adapter_pair pair;
    char full[FS_NAME_MAX];
    size_t uk_bytes, uv_bytes, n;
    fs_dtype uk_dtype, uv_dtype;
    void *data;
    fs_status rc;

    snprintf(full, sizeof full, "%sself_attn.k_b_proj.weight", prefix);
    if (fs_weights_find(l->net->weights, full)) {
        rc = fs_weights_get(l->net->weights, full, &job.k_b, err, 3, heads, lora, nope);
        snprintf(full, sizeof full, "%sself_attn.v_b_proj.weight", prefix);
        if (!rc)
            rc = fs_weights_get(l->net->weights, full, &job.v_b, err, 3, heads, v, lora);
        if (rc)
            return rc;
        job.uk_codes = takes_codes(l, job.k_b);
        job.uv_codes = takes_codes(l, job.v_b);
        uk_dtype = job.uk_codes ? job.k_b->dtype : up_dtype(job.k_b);
        uv_dtype = job.uv_codes ? job.v_b->dtype : up_dtype(job.v_b);
    } else {
        snprintf(full, sizeof full, "%sself_attn.kv_b_proj.weight", prefix);
        rc = fs_weights_get(l->net->weights, full, &job.kv_b, err, 2, heads * (nope + v), lora);
        if (rc)
            return rc;
        uk_dtype = uv_dtype = up_dtype(job.kv_b);
    }
    if (l->net->options.adapter) {
        bool found;
        snprintf(full, sizeof full, "%sself_attn.kv_b_proj", prefix);
        rc = fs_adapter_get(l->net->options.adapter, full, heads * (nope + v), lora, &found, &pair, err);
        if (rc)
            return rc;
        if (found) { /* a merged value is exact in nothing less */
            job.lora_a = &pair.a;
            job.lora_b = &pair.b;
            job.scale = pair.scale;
            uk_dtype = uv_dtype = FS_DTYPE_F32;
            job.uk_codes = job.uv_codes = false;
        }
    }
    if (l->net->options.bf16 ? !fs_mat_pairs_bytes(lora, nope, &uk_bytes) || !fs_mat_pairs_bytes(v, lora, &uv_bytes)
                             : !fs_mat_bytes(uk_dtype, lora, nope, 0, 0, &uk_bytes) || !fs_mat_bytes(uv_dtype, v, lora, 0, 0, &uv_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' cannot be packed", full);
    if (!mla->w_uk) { /* the planning pass makes the list, the packing pass fills it */
        mla->w_uk = calloc((size_t)heads, sizeof *mla->w_uk);
        mla->w_uv = calloc((size_t)heads, sizeof *mla->w_uv);
        if (!mla->w_uk || !mla->w_uv)
            return fs_fail_memory(err, (size_t)heads * sizeof *mla->w_uk);
    }
    for (uint64_t h = 0; h < heads; h++) {
        rc = carve(l, uk_bytes, &data, err);
        if (!rc)
            init_up(l, &mla->w_uk[h], job.uk_codes ? job.k_b : NULL, uk_dtype, h, lora, nope, data);
        if (!rc)
            rc = carve(l, uv_bytes, &data, err);
        if (!rc)
            init_up(l, &mla->w_uv[h], job.uv_codes ? job.v_b : NULL, uv_dtype, h, v, lora, data);
        if (rc)
            return rc;
    }
    if (l->planning)
        return FS_OK;
    rc = fs_loader_input(l, &mla->uk_input, prefix, "self_attn.k_b_proj", NULL, heads, nope, err);
    if (!rc)
        rc = fs_loader_input(l, &mla->uv_input, prefix, "self_attn.v_b_proj", NULL, heads, lora, err);
    if (!rc)
        rc = fs_loader_input(l, &mla->up_input, prefix, "self_attn.kv_b_proj", NULL, 1, lora, err);
    if (rc)
        return rc;
    job.buffer_floats = (size_t)((nope > v ? nope : v) * lora + (lora > nope ? lora : nope));
    if (job.lora_a)
        job.buffer_floats += (size_t)job.lora_a->dims[0] * (size_t)(lora + 1) + (size_t)lora;
    n = job.buffer_floats * sizeof(float) * (size_t)fs_pool_threads(l->net->pool);
    job.buffers = malloc(n);
    if (!job.buffers)
        return fs_fail_memory(err, n);
    if (job.kv_b)
        rc = fs_scales_check(job.kv_b, err);
    if (!rc)
        fs_pool_for(l->net->pool, (size_t)heads, 1, pack_heads, &job);
    free(job.buffers);
    if (!rc && job.nan)
        rc = fail_nan(job.kv_b ? job.kv_b : job.k_b, err);
    fs_weights_drop(l->net->weights, job.kv_b ? job.kv_b : job.k_b);
    if (job.v_b)
        fs_weights_drop(l->net->weights, job.v_b);
    return rc ? rc : report(l, err);
}
