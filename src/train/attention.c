/* The core of attention, forward by the engine's kernels and backward by products over blocks of 256 positions, a sequence
 * and head at a time; scores are made again from what the forward kept, M and L of each row, and never stand for more than
 * one block of queries and one of keys.
 *
 * Backward of head h, with s = A256(q, k), p = fl(exp(fl(fl(scale * s) - M)) / L) (RN1 section 4):
 *   dp = A256(dO, v) over value_dim;  d = order B of fma(dO, O);  ds = fl(p * fl(dp - d))
 *   dq = fl(scale * A256 of ds and k over the positions of keys);  dk = fl(scale * A256 of ds and q over those of queries)
 *   dv = A256 of p and dO over the positions of queries
 * In class RN1-bf16 every A256 is a B256 of rounded operands, p and ds among them; M and L are those of its forward.
 * Heads that share keys are added in rising order from +0; a latent row's gradient is a head's fl(dk + dv) in the value's part. */
#include "train/internal.h"

#include <assert.h>
#include <string.h>

#define BLOCK FS_KV_BLOCK
#define STEP  48 /* queries at a time of the diagonal block, whose other half is invisible: whole panels, and rows that kernels take together */

/* ---- forward ---- */
static size_t tile_heads(const fs_trainer *t)
{
    const fs_config *c = t->config;
    bool latent = c->kv_lora_rank > 0;
    size_t group = latent ? c->num_attention_heads : c->num_attention_heads / c->num_key_value_heads;
    size_t heads = latent && group > 16 ? 16 : group > FS_ATTENTION_QUERIES_MAX ? FS_ATTENTION_QUERIES_MAX : group;

    while (group % heads)
        heads--;
    return heads;
}

uint32_t fs_attention_tile_queries(const fs_trainer *t)
{
    return (uint32_t)(FS_ATTENTION_QUERIES_MAX / tile_heads(t));
}

struct core_job {
    fs_trainer *t;
    const fs_heads *a;
    size_t heads; /* of a tile */
    const float *d_o;
    float *dq, *dk, *dv;
};

static size_t panels_of(size_t n)
{
    return (n + FS_PANEL - 1) / FS_PANEL;
}

/* Panels of keys of each span and kv head: a span's begin at its first token and sixteen more for every span before it. */
static float *key_panels(const struct core_job *job, size_t span, size_t kv_head)
{
    const fs_trainer *t = job->t;
    size_t n_kv = job->a->n_heads / job->a->group, row = t->spans[span].token0 + FS_PANEL * span;

    return t->k_panels + (row * n_kv + panels_of(t->spans[span].n) * FS_PANEL * kv_head) * job->a->key_dim;
}

static void pack_rows(const fs_trainer *t, fs_mat *m, void *data, size_t n, size_t k, const float *src, size_t ld)
{
    if (t->options.bf16) {
        fs_mat_init_pairs(m, (uint32_t)n, (uint32_t)k, data);
        fs_mat_pack_pairs(m, &t->kernels->pairs, src, ld, 0, panels_of(n));
    } else {
        fs_mat_init_f32(m, FS_DTYPE_F32, (uint32_t)n, (uint32_t)k, data);
        fs_mat_pack_f32(m, src, ld, 0, panels_of(n));
    }
}

/* Pairs of values of a span and kv head; a span's rows begin behind those of every span before it. */
static fs_pair *value_pairs(const struct core_job *job, size_t span, size_t kv_head)
{
    const fs_heads *a = job->a;
    size_t n_kv = a->n_heads / a->group;

    return job->t->v_pairs + (((job->t->spans[span].token0 + 1) / 2 + span) * n_kv + kv_head) * a->value_dim;
}

static void pair_values(const struct core_job *job, size_t span, size_t kv_head)
{
    const fs_heads *a = job->a;
    const fs_span *s = &job->t->spans[span];
    size_t ld = a->n_heads / a->group * a->value_dim;

    for (size_t j = 0; j < s->n; j += 2) {
        const float *v = a->v + (s->token0 + j) * ld + kv_head * a->value_dim;
        fs_pair *to = value_pairs(job, span, kv_head) + j / 2 * ld;
        size_t d = 0, rows = s->n - j < 2 ? 1 : 2;
        for (; d + FS_PANEL <= a->value_dim; d += FS_PANEL)
            job->t->kernels->pairs.pack_columns(v + d, ld, NULL, FS_PANEL, rows, to + d);
        for (; d < a->value_dim; d++)
            to[d] = fs_pair_of(v[d], rows == 2 ? v[ld + d] : 0.0f);
    }
}

/* Latent rows. */
static void round_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct core_job *job = ud;
    const fs_heads *a = job->a;

    (void)thread;
    for (size_t i = begin; i < end; i++)
        job->t->kernels->attention.bf16.round(a->k + i * a->key_dim, a->key_dim, (fs_pair *)(void *)job->t->k_panels + i * fs_pairs(a->key_dim));
}

static void panels_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct core_job *job = ud;
    const fs_heads *a = job->a;
    size_t n_kv = a->n_heads / a->group;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const fs_span *s = &job->t->spans[i / n_kv];
        fs_mat mat;
        pack_rows(job->t, &mat, key_panels(job, i / n_kv, i % n_kv), s->n, a->key_dim, a->k + (s->token0 * n_kv + i % n_kv) * a->key_dim, n_kv * a->key_dim);
        if (job->t->options.bf16)
            pair_values(job, i / n_kv, i % n_kv);
    }
}

/* A tile's blocks of keys, joined in order; M and L stay. */
static void tile_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct core_job *job = ud;
    const fs_heads *a = job->a;
    const fs_trainer *t = job->t;
    const fs_attention_kernels *k = &t->kernels->attention;
    size_t n_kv = a->n_heads / a->group, head_tiles = a->n_heads / job->heads;
    fs_attention_part_fn *part = t->options.bf16 ? (a->latent ? k->bf16.mla_part : k->bf16.gqa_part) : a->latent ? k->mla_part : k->gqa_part;
    float *o = fs_trainer_scratch(t, thread), *scratch = o + FS_ATTENTION_QUERIES_MAX * a->value_dim;
    float m[FS_ATTENTION_QUERIES_MAX], l[FS_ATTENTION_QUERIES_MAX];

    for (size_t i = begin; i < end; i++) {
        const fs_query_tile *q = &t->tiles[i / head_tiles];
        size_t head0 = i % head_tiles * job->heads, token = t->spans[q->span].token0 + q->pos0;
        fs_attention_tile tile = {
            .n_q = q->n, .n_heads = job->heads, .pos0 = q->pos0, .q = a->q + (token * a->n_heads + head0) * a->key_dim,
            .q_token_stride = a->n_heads * a->key_dim, .q_head_stride = a->key_dim, .key_dim = a->key_dim, .value_dim = a->value_dim,
            .scale = t->softmax_scale,
        };
        if (a->latent && t->options.bf16) {
            tile.k16 = (const fs_pair *)(const void *)t->k_panels + t->spans[q->span].token0 * fs_pairs(a->key_dim);
        } else if (a->latent) {
            tile.k = a->k + t->spans[q->span].token0 * a->key_dim;
        } else if (t->options.bf16) {
            tile.k16 = (const fs_pair *)(const void *)key_panels(job, q->span, head0 / a->group);
            tile.v16 = value_pairs(job, q->span, head0 / a->group);
            tile.v_stride = n_kv * a->value_dim;
        } else {
            tile.k = key_panels(job, q->span, head0 / a->group);
            tile.v = a->v + (t->spans[q->span].token0 * n_kv + head0 / a->group) * a->value_dim;
            tile.v_stride = n_kv * a->value_dim;
        }
        for (size_t b = 0; b * BLOCK < tile.pos0 + tile.n_q; b++) {
            part(&tile, b, m, l, o, scratch);
            for (size_t r = 0; r < tile.n_q * job->heads; r++) {
                size_t at = (token + r / job->heads) * a->n_heads + head0 + r % job->heads;
                float *out = a->o + at * a->value_dim;
                if (tile.pos0 + r / job->heads < b * BLOCK)
                    continue;
                if (b) {
                    k->join(&a->m[at], &a->l[at], out, m[r], l[r], o + r * a->value_dim, a->value_dim);
                    continue;
                }
                a->m[at] = m[r];
                a->l[at] = l[r];
                memcpy(out, o + r * a->value_dim, a->value_dim * sizeof *out);
            }
        }
        for (size_t r = 0; r < tile.n_q * job->heads; r++) {
            size_t at = (token + r / job->heads) * a->n_heads + head0 + r % job->heads;
            k->finish(a->o + at * a->value_dim, a->l[at], a->value_dim);
        }
    }
}

void fs_attention_forward(fs_trainer *t, const fs_heads *a)
{
    struct core_job job = { .t = t, .a = a, .heads = tile_heads(t) };

    if (!a->latent)
        fs_pool_for(t->pool, t->n_spans * (a->n_heads / a->group), 1, panels_piece, &job);
    else if (t->options.bf16)
        fs_pool_for(t->pool, t->n_tokens, fs_train_row_grain(t, t->n_tokens), round_piece, &job);
    fs_pool_for(t->pool, t->n_tiles * (a->n_heads / job.heads), 1, tile_piece, &job);
}

/* ---- backward ---- */
size_t fs_attention_backward_bytes(size_t key_dim, size_t value_dim)
{
    size_t dims = 2 * key_dim + value_dim + fs_whole_panels(key_dim) * 2 + fs_whole_panels(value_dim);

    return (2 * (size_t)BLOCK * BLOCK + BLOCK * dims) * sizeof(float) + FS_GEMM_SCRATCH_BYTES + 4096;
}

/* A thread's room. */
struct room {
    void *gemm;
    float *p, *ds;            /* [256, 256]: scores, then p; dp, then ds */
    fs_mat keys, values;      /* outputs are positions */
    fs_mat key_cols;          /* outputs are dims, inputs positions of keys */
    fs_mat q_cols, d_o_cols;  /* outputs are dims, inputs positions of queries */
    float d[BLOCK];
};

static float *lay(float **at, size_t n)
{
    float *p = *at;

    *at += (n + 15) & ~(size_t)15;
    return p;
}

/* One sequence's head. */
struct head {
    const float *q, *k, *v, *o, *d_o, *m, *l; /* of its first token */
    size_t q_ld, k_ld, v_ld, o_ld, ml_ld;
    float *dq, *dk, *dv; /* of its first token and head; rows q_ld, q_ld and o_ld apart */
    size_t n;
};

/* The columns' inputs from begin, which is even, to end. */
static fs_mat inputs(const fs_mat *m, size_t begin, size_t end)
{
    fs_mat part = *m;

    part.data += (m->pairs ? begin / 2 : begin) * FS_PANEL * sizeof(float);
    part.k = (uint32_t)(end - begin);
    return part;
}

/* Queries [q0, q0 + nq) with keys [k0, k0 + nk). */
static void block_pair(const struct core_job *job, const struct head *h, struct room *w, size_t q0, size_t nq, size_t k0, size_t nk)
{
    const fs_heads *a = job->a;
    const fs_kernels *k = job->t->kernels;
    bool diagonal = q0 == k0;
    size_t step = diagonal ? STEP : BLOCK;

    for (size_t r0 = 0; r0 < nq; r0 += step) {
        size_t rows = nq - r0 < step ? nq - r0 : step, seen = diagonal ? r0 + rows : nk;
        fs_mat keys = inputs(&w->key_cols, 0, seen);
        float *dq = h->dq + (q0 + r0) * h->q_ld;
        fs_mat_gemm(k, &w->keys, 0, panels_of(seen), h->q + (q0 + r0) * h->q_ld, h->q_ld, rows, NULL, w->p + r0 * BLOCK, BLOCK, w->gemm);
        fs_mat_gemm(k, &w->values, 0, panels_of(seen), h->d_o + (q0 + r0) * h->o_ld, h->o_ld, rows, NULL, w->ds + r0 * BLOCK, BLOCK, w->gemm);
        for (size_t r = r0; r < r0 + rows; r++) {
            size_t visible = diagonal ? r + 1 : nk;
            float *p = w->p + r * BLOCK, *ds = w->ds + r * BLOCK;
            k->grad.attention(p, ds, job->t->softmax_scale, h->m[(q0 + r) * h->ml_ld], h->l[(q0 + r) * h->ml_ld], w->d[r], visible);
            memset(p + visible, 0, (nk - visible) * sizeof *p);
            memset(ds + visible, 0, (nk - visible) * sizeof *ds);
        }
        if (k0 == 0)
            fs_mat_gemm(k, &keys, 0, panels_of(a->key_dim), w->ds + r0 * BLOCK, BLOCK, rows, NULL, dq, h->q_ld, w->gemm);
        else
            fs_mat_gemm_add(k, &keys, 0, panels_of(a->key_dim), w->ds + r0 * BLOCK, BLOCK, rows, dq, h->q_ld, w->gemm);
    }
    for (size_t j0 = 0; j0 < nk; j0 += step) {
        size_t n = nk - j0 < step ? nk - j0 : step, first = diagonal ? j0 : 0; /* earlier queries do not see these keys */
        fs_mat q_cols = inputs(&w->q_cols, first, nq), d_o_cols = inputs(&w->d_o_cols, first, nq);
        fs_mat_gemm_turned(k, &d_o_cols, 0, panels_of(a->value_dim), w->p + first * BLOCK + j0, BLOCK, NULL, n, h->dv + (k0 + j0) * h->o_ld, h->o_ld, w->gemm);
        fs_mat_gemm_turned(k, &q_cols, 0, panels_of(a->key_dim), w->ds + first * BLOCK + j0, BLOCK, NULL, n, h->dk + (k0 + j0) * h->q_ld, h->q_ld, w->gemm);
    }
}

static void head_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct core_job *job = ud;
    const fs_heads *a = job->a;
    const fs_trainer *t = job->t;
    size_t n_kv = a->n_heads / a->group, kd = a->key_dim, vd = a->value_dim;
    uint8_t *scratch = fs_trainer_scratch(t, thread);
    float *at = (float *)(void *)(scratch + FS_GEMM_SCRATCH_BYTES), *data[5];
    struct room w = { .gemm = scratch };

    w.p = lay(&at, (size_t)BLOCK * BLOCK);
    w.ds = lay(&at, (size_t)BLOCK * BLOCK);
    data[0] = lay(&at, BLOCK * kd);
    data[1] = lay(&at, BLOCK * vd);
    data[2] = lay(&at, BLOCK * fs_whole_panels(kd));
    data[3] = lay(&at, BLOCK * fs_whole_panels(kd));
    data[4] = lay(&at, BLOCK * fs_whole_panels(vd));
    for (size_t i = begin; i < end; i++) {
        const fs_span *s = &t->spans[i / a->n_heads];
        size_t head = i % a->n_heads, kv = head / a->group, row = s->token0 * a->n_heads + head;
        struct head h = {
            .q = a->q + row * kd, .k = a->k + (s->token0 * n_kv + kv) * kd, .o = a->o + row * vd, .d_o = job->d_o + row * vd,
            .m = a->m + row, .l = a->l + row, .q_ld = a->n_heads * kd, .k_ld = n_kv * kd, .o_ld = a->n_heads * vd, .ml_ld = a->n_heads,
            .dq = job->dq + row * kd, .dk = t->dk_part + row * kd, .dv = t->dv_part + row * vd, .n = s->n,
        };
        h.v = a->latent ? h.k : a->v + (s->token0 * n_kv + kv) * vd;
        h.v_ld = a->latent ? h.k_ld : n_kv * vd;
        for (size_t r = 0; r < h.n; r++) {
            memset(h.dk + r * h.q_ld, 0, kd * sizeof(float));
            memset(h.dv + r * h.o_ld, 0, vd * sizeof(float));
        }
        for (size_t q0 = 0; q0 < h.n; q0 += BLOCK) {
            size_t nq = h.n - q0 < BLOCK ? h.n - q0 : BLOCK;
            for (size_t r = 0; r < nq; r++)
                w.d[r] = t->kernels->grad.dot(h.d_o + (q0 + r) * h.o_ld, h.o + (q0 + r) * h.o_ld, vd);
            fs_pack_columns(t, &w.q_cols, data[3], kd, nq, h.q + q0 * h.q_ld, h.q_ld);
            fs_pack_columns(t, &w.d_o_cols, data[4], vd, nq, h.d_o + q0 * h.o_ld, h.o_ld);
            for (size_t k0 = 0; k0 <= q0; k0 += BLOCK) {
                size_t nk = h.n - k0 < BLOCK ? h.n - k0 : BLOCK;
                pack_rows(t, &w.keys, data[0], nk, kd, h.k + k0 * h.k_ld, h.k_ld);
                pack_rows(t, &w.values, data[1], nk, vd, h.v + k0 * h.v_ld, h.v_ld);
                fs_pack_columns(t, &w.key_cols, data[2], kd, nk, h.k + k0 * h.k_ld, h.k_ld);
                block_pair(job, &h, &w, q0, nq, k0, nk);
            }
        }
        for (size_t r = 0; r < h.n; r++) {
            t->kernels->rows.scale(t->softmax_scale, h.dq + r * h.q_ld, h.dq + r * h.q_ld, kd);
            t->kernels->rows.scale(t->softmax_scale, h.dk + r * h.q_ld, h.dk + r * h.q_ld, kd);
        }
    }
}

/* The sum over the heads of a group, a token at a time. */
static void heads_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct core_job *job = ud;
    const fs_heads *a = job->a;
    const fs_rows_kernels *rows = &job->t->kernels->rows;
    size_t n_kv = a->n_heads / a->group, kd = a->key_dim, vd = a->value_dim;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        float *dk = job->dk + i * n_kv * kd, *dv = a->latent ? NULL : job->dv + i * n_kv * vd;
        memset(dk, 0, n_kv * kd * sizeof *dk);
        if (dv)
            memset(dv, 0, n_kv * vd * sizeof *dv);
        for (size_t h = 0; h < a->n_heads; h++) {
            float *of_key = job->t->dk_part + (i * a->n_heads + h) * kd;
            const float *of_value = job->t->dv_part + (i * a->n_heads + h) * vd;
            if (a->latent)
                rows->add(of_key, of_value, of_key, vd);
            else
                rows->add(dv + h / a->group * vd, of_value, dv + h / a->group * vd, vd);
            rows->add(dk + h / a->group * kd, of_key, dk + h / a->group * kd, kd);
        }
    }
}

void fs_attention_backward(fs_trainer *t, const fs_heads *a, const float *d_o, float *dq, float *dk, float *dv)
{
    struct core_job job = { .t = t, .a = a, .d_o = d_o, .dq = dq, .dk = dk, .dv = dv };

    fs_pool_for(t->pool, t->n_spans * a->n_heads, 1, head_piece, &job);
    fs_pool_for(t->pool, t->n_tokens, fs_train_row_grain(t, t->n_tokens), heads_piece, &job);
}
