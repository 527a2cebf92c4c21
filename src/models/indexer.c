/* The lightning indexer of DeepSeek Sparse Attention (V3.2): cheap scores of every key choose the index_topk that the
 * attention reads. Source: DeepSeek-V3.2-Exp's report; deepseek-ai/DeepSeek-V3.2-Exp, inference/model.py.
 *
 *   q_I = wq_b(normed q_a), k_I = LayerNorm(wk h); rope, half-split, on the first qk_rope_head_dim of both
 *   w_h = fl(weights_proj(h)_h * c), c = n_heads^-0.5 * head_dim^-0.5 in binary64, rounded once
 *   I(s) = +0, then for ascending heads I = fma(w_h, max(A256(q_h, k_s), 0), I)
 * The keys of the largest I are read, the lower position first where scores are equal. */
#include "models/internal.h"

#include <math.h>
#include <string.h>

#define NORM_EPS 1e-6f

fs_status fs_indexer_load(fs_loader *l, fs_indexer *x, const char *prefix, fs_error *err)
{
    const fs_config *c = l->net->config;
    fs_status rc = fs_loader_linear(l, &x->wq_b, (uint64_t)c->index_n_heads * c->index_head_dim, c->q_lora_rank, false, prefix,
                                    "self_attn.indexer.wq_b", err);

    if (!rc)
        rc = fs_loader_linear(l, &x->wk, c->index_head_dim, c->hidden_size, false, prefix, "self_attn.indexer.wk", err);
    if (!rc)
        rc = fs_loader_vector(l, &x->k_norm, c->index_head_dim, prefix, "self_attn.indexer.k_norm.weight", err);
    if (!rc)
        rc = fs_loader_vector(l, &x->k_norm_bias, c->index_head_dim, prefix, "self_attn.indexer.k_norm.bias", err);
    if (!rc)
        rc = fs_loader_linear(l, &x->weights_proj, c->index_n_heads, c->hidden_size, false, prefix, "self_attn.indexer.weights_proj", err);
    return rc;
}

size_t fs_indexer_scratch_bytes(const fs_config *c)
{
    size_t positions = c->max_position_embeddings;

    return FS_GEMM_SCRATCH_BYTES + positions * sizeof(uint64_t) +
           ((size_t)c->index_n_heads * FS_KV_BLOCK + FS_KV_BLOCK) * sizeof(float) + 64;
}

struct indexer_job {
    fs_network *net;
    fs_workspace *ws;
    const fs_indexer *x;
    uint32_t layer;
};

/* y = fl(fl(fl(fl(x - mean) * r) * w) + b), r = fl(1 / sqrt(fl(fl(ss / n) + eps))), sums in order B. In place. */
static void layer_norm(const fs_rows_kernels *rows, float *x, const float *w, const float *b, size_t n)
{
    float mean = rows->sum(x, n) / (float)n, r;

    for (size_t i = 0; i < n; i++)
        x[i] = x[i] - mean;
    r = 1.0f / sqrtf(rows->sumsq(x, n) / (float)n + NORM_EPS);
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] * r * w[i] + b[i];
}

/* Rope of the new tokens' queries and keys, and the cache's key panels. */
static void prepare_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct indexer_job *job = ud;
    fs_workspace *ws = job->ws;
    const fs_config *c = job->net->config;
    const fs_rows_kernels *rows = &job->net->kernels->rows;
    size_t heads = c->index_n_heads, d = c->index_head_dim, rope = c->qk_rope_head_dim;

    (void)thread;
    for (size_t t = begin; t < end; t++) {
        const float *cs = ws->cs + t * rope;
        size_t pos = ws->positions[t];
        float *k = ws->index_k + t * d, scale = (float)(1 / sqrt((double)heads) / sqrt((double)d));
        float *panel = fs_cache_index(job->net, ws->rows[ws->row_of[t]].cache, job->layer) + pos / FS_PANEL * d * FS_PANEL + pos % FS_PANEL;
        for (size_t h = 0; h < heads; h++)
            rows->rope_half(ws->index_q + (t * heads + h) * d, cs, rope);
        rows->scale(scale, ws->index_w + t * heads, ws->index_w + t * heads, heads);
        layer_norm(rows, k, job->x->k_norm, job->x->k_norm_bias, d);
        rows->rope_half(k, cs, rope);
        for (size_t i = 0; i < d; i++)
            panel[i * FS_PANEL] = k[i];
    }
}

/* Sorts by score descending, then position ascending, as one unsigned number ascending. -0 and +0 are equal. */
static uint64_t rank_key(float score, uint32_t pos)
{
    uint32_t u;

    score = score + 0.0f;
    memcpy(&u, &score, sizeof u);
    u = u & 0x80000000u ? ~u : u | 0x80000000u; /* rising with the score */
    return (uint64_t)~u << 32 | pos;
}

/* Brings the k smallest of a [n] to its front, in any order. Quickselect with the median of three. */
static void select_smallest(uint64_t *a, size_t n, size_t k)
{
    size_t lo = 0, hi = n; /* the cut lies in [lo, hi) */

    while (hi - lo > 1) {
        uint64_t x = a[lo], y = a[lo + (hi - lo) / 2], z = a[hi - 1], t;
        uint64_t pivot = x < y ? (y < z ? y : x < z ? z : x) : (x < z ? x : y < z ? z : y);
        size_t i = lo, j = hi - 1;
        for (;;) {
            while (a[i] < pivot)
                i++;
            while (a[j] > pivot)
                j--;
            if (i >= j)
                break;
            t = a[i];
            a[i++] = a[j];
            a[j--] = t;
        }
        /* [lo, i) <= pivot <= [i, hi); every number is different, so both sides are shorter than the whole. */
        if (i <= lo)
            i = lo + 1;
        if (k <= i)
            hi = i;
        if (k >= i)
            lo = i;
        if (k == i)
            return;
    }
}

/* Heap sort: the token loop allocates nothing, and libc's qsort does. */
static void sift(uint32_t *a, size_t i, size_t n)
{
    uint32_t x = a[i];

    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && a[child + 1] > a[child])
            child++;
        if (a[child] <= x)
            break;
        a[i] = a[child];
    }
    a[i] = x;
}

static void sort(uint32_t *a, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(a, i, n);
    while (n-- > 1) {
        uint32_t last = a[n];
        a[n] = a[0];
        a[0] = last;
        sift(a, 0, n);
    }
}

void fs_indexer_select(const fs_network *net, const float *q, const float *weights, const float *panels, size_t n_keys,
                       uint32_t *selected, uint8_t *scratch)
{
    const fs_config *c = net->config;
    const fs_kernels *k = net->kernels;
    size_t heads = c->index_n_heads, d = c->index_head_dim, top = c->index_topk;
    uint64_t *keys = (uint64_t *)(void *)(scratch + FS_GEMM_SCRATCH_BYTES);
    float *dots = (float *)(void *)(keys + c->max_position_embeddings), *score = dots + heads * FS_KV_BLOCK;

    for (size_t j0 = 0; j0 < n_keys; j0 += FS_KV_BLOCK) {
        size_t n = n_keys - j0 < FS_KV_BLOCK ? n_keys - j0 : FS_KV_BLOCK;
        fs_mat mat;
        fs_mat_init_f32(&mat, FS_DTYPE_F32, (uint32_t)n, (uint32_t)d, (void *)(uintptr_t)(panels + j0 * d));
        k->products.gemm(&mat, 0, fs_mat_panels(&mat), q, d, heads, NULL, dots, FS_KV_BLOCK, scratch);
        memset(score, 0, n * sizeof *score);
        for (size_t h = 0; h < heads; h++) {
            float *row = dots + h * FS_KV_BLOCK;
            for (size_t j = 0; j < n; j++)
                row[j] = row[j] > 0 ? row[j] : 0;
            k->rows.axpy(weights[h], row, score, n);
        }
        for (size_t j = 0; j < n; j++)
            keys[j0 + j] = rank_key(score[j], (uint32_t)(j0 + j));
    }
    select_smallest(keys, n_keys, top);
    for (size_t i = 0; i < top; i++)
        selected[i] = (uint32_t)keys[i];
    sort(selected, top);
}

static void select_token(const struct indexer_job *job, size_t t, int thread)
{
    fs_workspace *ws = job->ws;
    const fs_config *c = job->net->config;
    size_t heads = c->index_n_heads;

    fs_indexer_select(job->net, ws->index_q + t * heads * c->index_head_dim, ws->index_w + t * heads,
                      fs_cache_index(job->net, ws->rows[ws->row_of[t]].cache, job->layer), (size_t)ws->positions[t] + 1,
                      ws->selected + t * c->index_topk, ws->index_scratch + (size_t)thread * ws->index_scratch_bytes);
}

static void select_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct indexer_job *job = ud;

    for (size_t t = begin; t < end; t++)
        if (job->ws->positions[t] >= job->net->config->index_topk) /* else all keys are read */
            select_token(job, t, thread);
}

void fs_indexer_run(fs_network *net, fs_workspace *ws, const fs_indexer *x, uint32_t layer)
{
    const fs_config *c = net->config;
    size_t m = ws->n_tokens, heads = c->index_n_heads;
    struct indexer_job job = { net, ws, x, layer };
    fs_product of_h[2] = { { &x->wk, ws->index_k, c->index_head_dim }, { &x->weights_proj, ws->index_w, heads } };

    fs_products_run_in(net, ws, of_h, 2, &ws->in, m);
    fs_linear_run(net, ws, &x->wq_b, ws->q_a, c->q_lora_rank, m, ws->index_q, heads * c->index_head_dim);
    fs_pool_for(net->pool, m, fs_row_grain(net, m), prepare_piece, &job);
    fs_pool_for(net->pool, m, 1, select_piece, &job);
}
