/* Loading: the same walk over the model runs twice. The planning pass finds and checks every tensor and adds up the
 * packed bytes, so that a model that is wrong or does not fit is refused before anything is allocated; the packing pass
 * carves the planned block and packs into it, all threads at work on each tensor. */
#include "models/experts.h"

#include "tensor/blocks.h"

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

/* fl(scale * (B A)) of one row of kv_b_proj: A256 over the rank, an axpy an element of the rank. a [rank, lora];
 * buffer [rank + lora]; ret [lora]. */
static void lora_row(const struct up_job *job, uint64_t row, const float *a, float *buffer, float *ret)
{
    size_t rank = (size_t)job->lora_a->dims[0], lora = job->c->kv_lora_rank;
    float *chunk = buffer + rank;

    fs_tensor_row_f32(job->lora_b, row, buffer);
    memset(ret, 0, lora * sizeof *ret);
    for (size_t k = 0; k < rank; k++) {
        if (k % 256 == 0)
            memset(chunk, 0, lora * sizeof *chunk);
        job->kernels->rows.axpy(buffer[k], a + k * lora, chunk, lora);
        if (k % 256 == 255 || k + 1 == rank)
            job->kernels->rows.add(ret, chunk, ret, lora);
    }
    job->kernels->rows.scale(job->scale, ret, ret, lora);
}

/* Adds an adapter of kv_b_proj to the f32 matrix of head h: W_uk [lora, nope] (transposed) or W_uv [v, lora]. */
static void merge_lora(const struct up_job *job, size_t h, bool uv, float *row, float *m, float *a)
{
    const fs_config *c = job->c;
    size_t nope = c->qk_nope_head_dim, v = c->v_head_dim, lora = c->kv_lora_rank, n = uv ? v : nope;
    float *buffer = a + (size_t)job->lora_a->dims[0] * lora;

    for (size_t i = 0; i < n; i++) {
        lora_row(job, h * (nope + v) + (uv ? nope : 0) + i, a, buffer, row);
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

/* ---- layers ---- */
static const char *const ffn_names[3] = { "gate_proj", "up_proj", "down_proj" };

fs_status fs_loader_ffn(fs_loader *l, fs_ffn *f, uint64_t intermediate, bool bias, const char *prefix,
                        const char *const names[3], fs_error *err)
{
    uint64_t d = l->net->config->hidden_size;
    fs_status rc = fs_loader_linear(l, &f->gate, intermediate, d, bias, prefix, names[0], err);

    if (!rc)
        rc = fs_loader_linear(l, &f->up, intermediate, d, bias, prefix, names[1], err);
    if (!rc)
        rc = fs_loader_linear(l, &f->down, d, intermediate, bias, prefix, names[2], err);
    return rc;
}

/* What streaming the expert just walked would need. */
static void plan_expert(fs_loader *l)
{
    fs_network_plan *p = &l->net->plan;

    p->n_experts++;
    p->experts_bytes += l->expert_bytes;
    if (l->expert_bytes > p->expert_bytes)
        p->expert_bytes = l->expert_bytes;
    for (int i = 0; i < 3; i++)
        if (fs_piece_room(l->expert_tensors[i]) > p->expert_room)
            p->expert_room = fs_piece_room(l->expert_tensors[i]);
}

static fs_status load_experts_inputs(fs_loader *l, fs_moe *moe, const char *prefix, const char *const names[3], fs_error *err)
{
    const fs_config *c = l->net->config;
    char first[3][72];
    fs_status rc;

    for (int i = 0; i < 3; i++)
        snprintf(first[i], sizeof first[i], "experts.0.%s", names[i]);
    rc = fs_loader_input(l, &moe->input, prefix, first[0], first[1], c->n_routed_experts, c->hidden_size, err);
    return rc ? rc : fs_loader_input(l, &moe->mid, prefix, first[2], NULL, c->n_routed_experts, c->moe_intermediate_size, err);
}

fs_status fs_loader_experts(fs_loader *l, fs_moe *moe, const char *prefix, const char *const names[3], fs_error *err)
{
    const fs_config *c = l->net->config;
    char full[FS_NAME_MAX];
    fs_status rc = FS_OK;

    if (!moe->experts) {
        moe->experts = calloc(c->n_routed_experts, sizeof *moe->experts);
        if (!moe->experts)
            return fs_fail_memory(err, c->n_routed_experts * sizeof *moe->experts);
    }
    l->expert = true;
    if (l->net->experts)
        moe->layer = fs_experts_add_layer(l->net->experts);
    for (uint32_t e = 0; e < c->n_routed_experts && !rc; e++) {
        snprintf(full, sizeof full, "%sexperts.%" PRIu32 ".", prefix, e);
        l->expert_bytes = 0;
        l->n_expert_tensors = 0;
        rc = fs_loader_ffn(l, &moe->experts[e], c->moe_intermediate_size, false, full, names, err);
        moe->experts[e].met = false;
        if (!rc && l->planning && !l->net->options.mapped)
            plan_expert(l);
        else if (!rc && l->net->experts)
            fs_experts_add(l->net->experts, &moe->experts[e], l->expert_tensors);
    }
    l->expert = false;
    if (!rc)
        rc = load_experts_inputs(l, moe, prefix, names, err);
    moe->has_shared = c->n_shared_experts > 0;
    snprintf(full, sizeof full, "%sshared_experts.", prefix);
    if (!rc && moe->has_shared)
        rc = fs_loader_ffn(l, &moe->shared, (uint64_t)c->n_shared_experts * c->moe_intermediate_size, false, full, names, err);
    moe->experts_take = moe->downs_take = 0;
    for (uint32_t e = 0; e < c->n_routed_experts && !rc; e++) {
        moe->experts_take |= fs_linear_takes(&moe->experts[e].gate) | fs_linear_takes(&moe->experts[e].up);
        moe->downs_take |= fs_linear_takes(&moe->experts[e].down);
    }
    moe->takes = fs_linear_takes(&moe->router) | moe->experts_take;
    if (moe->has_shared)
        moe->takes |= fs_linear_takes(&moe->shared.gate) | fs_linear_takes(&moe->shared.up);
    return rc;
}

void fs_loader_head_input(fs_loader *l)
{
    l->net->head_input = l->net->lm_head.input;
    l->net->lm_head.input = 0;
}

static fs_status load_moe(fs_loader *l, fs_moe *moe, const char *prefix, fs_error *err)
{
    const fs_config *c = l->net->config;
    fs_status rc = fs_loader_exact(l, &moe->router, c->n_routed_experts, c->hidden_size, prefix, "gate", err);

    if (!rc && c->topk_method == FS_TOPK_NOAUX_TC)
        rc = fs_loader_vector(l, &moe->correction_bias, c->n_routed_experts, prefix, "gate.e_score_correction_bias", err);
    return rc ? rc : fs_loader_experts(l, moe, prefix, ffn_names, err);
}

static bool layer_is_moe(const fs_config *c, uint32_t index)
{
    return c->n_routed_experts > 0 && index >= c->first_k_dense_replace && index % c->moe_layer_freq == 0;
}

/* The forms of the normed input that the first products of attention take. */
static unsigned attention_takes(const fs_network *net, const fs_layer *layer)
{
    const fs_gqa *g = &layer->gqa;
    const fs_mla *m = &layer->mla;
    unsigned takes;

    if (!net->arch->is_mla)
        return fs_linear_takes(&g->q) | fs_linear_takes(&g->k) | fs_linear_takes(&g->v);
    takes = fs_linear_takes(net->config->q_lora_rank ? &m->q_a : &m->q) | fs_linear_takes(&m->kv_a);
    if (net->arch->has_indexer)
        takes |= fs_linear_takes(&m->indexer.wk) | fs_linear_takes(&m->indexer.weights_proj);
    return takes;
}

static fs_status load_layer(fs_loader *l, fs_layer *layer, uint32_t index, fs_error *err)
{
    const fs_config *c = l->net->config;
    char prefix[64], mlp[72];
    fs_status rc;

    snprintf(prefix, sizeof prefix, "model.layers.%" PRIu32 ".", index);
    snprintf(mlp, sizeof mlp, "%smlp.", prefix);
    rc = fs_loader_vector(l, &layer->input_norm, c->hidden_size, prefix, "input_layernorm.weight", err);
    if (!rc)
        rc = l->net->arch->load_attention(l, layer, prefix, err);
    if (!rc)
        rc = fs_loader_vector(l, &layer->post_attention_norm, c->hidden_size, prefix, "post_attention_layernorm.weight", err);
    layer->is_moe = layer_is_moe(c, index);
    if (!rc)
        rc = layer->is_moe ? load_moe(l, &layer->moe, mlp, err)
                           : fs_loader_ffn(l, &layer->ffn, c->intermediate_size, c->mlp_bias, mlp, ffn_names, err);
    layer->attention_takes = attention_takes(l->net, layer);
    layer->ffn_takes = layer->is_moe ? layer->moe.takes : fs_linear_takes(&layer->ffn.gate) | fs_linear_takes(&layer->ffn.up);
    return rc;
}

/* The MTP layer's embedding and head are copies of the main ones in every release; a copy that is equal to the byte is
 * not packed a second time. */
static bool same_tensor(const fs_tensor *a, const fs_tensor *b)
{
    return a->dtype == b->dtype && a->n_bytes == b->n_bytes && a->scales == b->scales && a->rope_heads == b->rope_heads &&
           memcmp(a->data, b->data, a->n_bytes) == 0;
}

static fs_status load_mtp(fs_loader *l, fs_error *err)
{
    fs_network *net = l->net;
    const fs_config *c = net->config;
    fs_mtp *m = &net->mtp;
    uint64_t d = c->hidden_size;
    char prefix[64], full[FS_NAME_MAX];
    const fs_tensor *t;
    fs_status rc;

    snprintf(prefix, sizeof prefix, "model.layers.%" PRIu32 ".", c->num_hidden_layers);
    rc = load_layer(l, &m->layer, c->num_hidden_layers, err);
    if (!rc)
        rc = fs_loader_vector(l, &m->enorm, d, prefix, "enorm.weight", err);
    if (!rc)
        rc = fs_loader_vector(l, &m->hnorm, d, prefix, "hnorm.weight", err);
    if (!rc)
        rc = fs_loader_linear(l, &m->eh_proj, d, 2 * d, false, prefix, "eh_proj", err);
    if (!rc)
        rc = fs_loader_vector(l, &m->norm, d, prefix, "shared_head.norm.weight", err);
    if (rc)
        return rc;
    m->embed_tokens = net->embed_tokens;
    snprintf(full, sizeof full, "%sembed_tokens.weight", prefix);
    if (fs_weights_find(net->weights, full)) {
        rc = fs_weights_get(net->weights, full, &m->embed_tokens, err, 2, (uint64_t)c->vocab_size, d);
        if (rc)
            return rc;
    }
    snprintf(full, sizeof full, "%sshared_head.head.weight", prefix);
    t = fs_weights_find(net->weights, full);
    if (t) {
        const fs_tensor *main_head =
            fs_weights_find(net->weights, c->tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
        if (l->planning)
            m->own_head = !main_head || !same_tensor(t, main_head);
        if (m->own_head)
            rc = fs_loader_linear(l, &m->head, c->vocab_size, d, false, prefix, "shared_head.head", err);
    }
    m->present = !rc;
    return rc;
}

static fs_status run(fs_loader *l, fs_error *err)
{
    fs_network *net = l->net;
    const fs_config *c = net->config;
    fs_status rc = fs_weights_get(net->weights, "model.embed_tokens.weight", &net->embed_tokens, err, 2,
                                  (uint64_t)c->vocab_size, (uint64_t)c->hidden_size);

    for (uint32_t i = 0; i < c->num_hidden_layers && !rc; i++)
        rc = load_layer(l, &net->layers[i], i, err);
    if (!rc)
        rc = fs_loader_vector(l, &net->norm, c->hidden_size, "model.", "norm.weight", err);
    if (!rc)
        rc = fs_loader_linear(l, &net->lm_head, c->vocab_size, c->hidden_size, false,
                              c->tie_word_embeddings ? "model." : "", c->tie_word_embeddings ? "embed_tokens" : "lm_head", err);
    fs_loader_head_input(l);
    if (!rc && c->tie_word_embeddings) /* the embedding's rows as a head: an adapter of lm_head adapts the head alone */
        rc = fs_loader_lora(l, &net->lm_head.lora, c->vocab_size, c->hidden_size, "lm_head", err);
    if (!rc && net->options.mtp)
        rc = load_mtp(l, err);
    return rc;
}

fs_status fs_loader_run(fs_loader *l, fs_error *err)
{
    fs_status rc = l->net->arch->load ? l->net->arch->load(l, err) : run(l, err);

    if (!rc && l->net->options.adapter && l->planning)
        rc = fs_adapter_check_used(l->net->options.adapter, err);
    return rc;
}

void fs_layer_done(fs_layer *layer)
{
    free(layer->mla.w_uk);
    free(layer->mla.w_uv);
    free(layer->moe.experts);
    *layer = (fs_layer){ 0 };
}
