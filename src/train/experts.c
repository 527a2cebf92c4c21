/* Mixture of experts: rows grouped by expert, forward and backward; the router's gradient through the weights of the chosen
 * experts; and the sequence-wise balance loss (DeepSeek-V3, arXiv 2412.19437, eq. 17-20).
 *
 * Backward of a token's weight w_e needs dy . E_e = (W_down^T dy) . h_e, which is dot of what the backward makes anyway, so that
 * no expert's output is kept; dh_e = fl(w_e * W_down^T dy), and dW_down = dy^T fl(w_e * h_e). */
#include "models/route.h"
#include "train/internal.h"

#include <math.h>
#include <string.h>

#define ROW_BLOCK 96 /* rows of an expert in one piece */

struct experts_job {
    fs_trainer *t;
    fs_train_layer *l;
    const float *dy;
    float *y; /* NULL: gate and up are all that is wanted */
    size_t d, width, k, n;
    size_t blocks; /* of the expert with most rows */
};

/* ---- forward ---- */
static void route_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct experts_job *job = ud;
    fs_trainer *t = job->t;
    const fs_kept *kept = &job->l->kept;
    float *scratch = fs_trainer_scratch(t, thread);

    for (size_t i = begin; i < end; i++) {
        float *s = kept->scores + i * job->n;
        fs_route_scores(t->config, &t->kernels->rows, s);
        fs_route_choose(t->config, &t->kernels->rows, s, job->l->correction_bias ? job->l->correction_bias->w : NULL,
                        kept->top_ids + i * job->k, scratch);
        fs_route_weigh(t->config, s, kept->top_ids + i * job->k, kept->top_weights + i * job->k);
    }
}

/* What fs_route_weigh multiplies with: V2 with norm_topk_prob does not. */
static double scaling_of(const fs_config *c)
{
    return c->norm_topk_prob && c->topk_method != FS_TOPK_NOAUX_TC ? 1 : c->routed_scaling_factor;
}

/* Every (token, expert) gets its row: experts ascending, tokens ascending within. */
static void group_rows(struct experts_job *job)
{
    const fs_kept *kept = &job->l->kept;
    uint32_t *begin = kept->expert_begin;
    size_t m = job->t->n_tokens;

    memset(begin, 0, (job->n + 1) * sizeof *begin);
    for (size_t i = 0; i < m * job->k; i++) {
        begin[kept->top_ids[i] + 1]++;
        job->l->gates[kept->top_ids[i]] += (double)kept->top_weights[i] / scaling_of(job->t->config);
    }
    for (size_t e = 0; e < job->n; e++) {
        job->l->load[e] += begin[e + 1];
        begin[e + 1] += begin[e];
    }
    for (size_t i = 0; i < m * job->k; i++) {
        kept->slot[i] = begin[kept->top_ids[i]]++;
        kept->row_token[kept->slot[i]] = (uint32_t)(i / job->k);
    }
    for (size_t e = job->n; e > 0; e--) /* the walk above moved every start to its end */
        begin[e] = begin[e - 1];
    begin[0] = 0;
}

static void count_blocks(struct experts_job *job)
{
    const uint32_t *begin = job->l->kept.expert_begin;
    size_t most = 0;

    for (size_t e = 0; e < job->n; e++)
        most = begin[e + 1] - begin[e] > most ? begin[e + 1] - begin[e] : most;
    job->blocks = (most + ROW_BLOCK - 1) / ROW_BLOCK;
}

/* An expert's rows [row, row + m). False: it has none there. */
static bool rows_of(const struct experts_job *job, size_t item, size_t *ret_expert, size_t *ret_row, size_t *ret_m)
{
    const uint32_t *begin = job->l->kept.expert_begin;
    size_t e = item / job->blocks, row = begin[e] + item % job->blocks * ROW_BLOCK;

    if (row >= begin[e + 1])
        return false;
    *ret_expert = e;
    *ret_row = row;
    *ret_m = begin[e + 1] - row < ROW_BLOCK ? begin[e + 1] - row : ROW_BLOCK;
    return true;
}

static void gather(const struct experts_job *job, const float *from, size_t row, size_t m)
{
    for (size_t r = row; r < row + m; r++)
        memcpy(job->t->gathered + r * job->d, from + job->l->kept.row_token[r] * job->d, job->d * sizeof(float));
}

/* Gate and up of an expert's rows. */
static void enter(const struct experts_job *job, const fs_lin_ffn *f, size_t row, size_t m, float *gate, float *up, int thread)
{
    fs_trainer *t = job->t;
    size_t d = job->d, n = job->width;
    void *scratch = fs_trainer_scratch(t, thread);

    gather(job, t->h, row, m);
    fs_mat_gemm(t->kernels, &f->gate.w.rows, 0, fs_mat_panels(&f->gate.w.rows), t->gathered + row * d, d, m, NULL, gate, n, scratch);
    fs_mat_gemm(t->kernels, &f->up.w.rows, 0, fs_mat_panels(&f->up.w.rows), t->gathered + row * d, d, m, NULL, up, n, scratch);
    fs_low_rank_forward_on(t, &f->gate.low, t->gathered + row * d, d, m, gate, n, thread);
    fs_low_rank_forward_on(t, &f->up.low, t->gathered + row * d, d, m, up, n, thread);
}

static void forward_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct experts_job *job = ud;
    fs_trainer *t = job->t;
    const fs_kernels *k = t->kernels;
    size_t e, row, m, d = job->d, n = job->width;
    void *scratch = fs_trainer_scratch(t, thread);

    for (size_t i = begin; i < end; i++) {
        const fs_lin_ffn *f;
        float *gate, *up, *mid;
        if (!rows_of(job, i, &e, &row, &m))
            continue;
        f = &job->l->experts[e];
        gate = job->l->kept.expert_gate + row * n;
        up = job->l->kept.expert_up + row * n;
        enter(job, f, row, m, gate, up, thread);
        if (!job->y)
            continue;
        mid = t->mid + row * n;
        t->kernels->rows.swiglu(gate, up, mid, m * n);
        fs_mat_gemm(k, &f->down.w.rows, 0, fs_mat_panels(&f->down.w.rows), mid, n, m, NULL, t->by_expert + row * d, d, scratch);
        fs_low_rank_forward_on(t, &f->down.low, mid, n, m, t->by_expert + row * d, d, thread);
    }
}

/* y = +0, y = fma(w_e, E_e, y) in rising e. */
static void combine_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct experts_job *job = ud;
    const fs_kept *kept = &job->l->kept;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        float *y = job->y + i * job->d;
        memset(y, 0, job->d * sizeof *y);
        for (size_t j = i * job->k; j < (i + 1) * job->k; j++)
            job->t->kernels->rows.axpy(kept->top_weights[j], job->t->by_expert + kept->slot[j] * job->d, y, job->d);
    }
}

static struct experts_job job_of(fs_trainer *t, fs_train_layer *l)
{
    const fs_config *c = t->config;

    return (struct experts_job){ .t = t, .l = l, .d = c->hidden_size, .width = c->moe_intermediate_size, .k = c->num_experts_per_tok,
                                 .n = c->n_routed_experts };
}

void fs_experts_forward(fs_trainer *t, fs_train_layer *l, float *y)
{
    struct experts_job job = job_of(t, l);
    size_t m = t->n_tokens, grain = fs_train_row_grain(t, m);

    job.y = y;
    fs_lin_forward(t, &l->router, t->h, job.d, m, l->kept.scores, job.n);
    fs_pool_for(t->pool, m, grain, route_piece, &job);
    group_rows(&job);
    count_blocks(&job);
    fs_pool_for(t->pool, job.n * job.blocks, 1, forward_piece, &job);
    fs_pool_for(t->pool, m, grain, combine_piece, &job);
    if (l->has_shared) {
        fs_ffn_forward(t, &l->ffn, l->kept.gate, l->kept.up, t->tmp);
        fs_add_rows(t, y, t->tmp, y, m * job.d);
    }
}

void fs_experts_again(fs_trainer *t, fs_train_layer *l)
{
    struct experts_job job = job_of(t, l);

    count_blocks(&job);
    fs_pool_for(t->pool, job.n * job.blocks, 1, forward_piece, &job);
    if (l->has_shared)
        fs_ffn_again(t, &l->ffn, l->kept.gate, l->kept.up);
}

/* ---- brought ---- */
struct bring_job {
    const fs_trainer *t;
    const fs_kept *to;
    const fs_layer_activations *from;
    size_t n, k, width;
};

static void choice_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct bring_job *job = ud;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const float *row = job->t->brought[i];
        memcpy(job->to->scores + i * job->n, row + job->from->scores, job->n * sizeof *row);
        memcpy(job->to->top_weights + i * job->k, row + job->from->top_weights, job->k * sizeof *row);
        memcpy(job->to->top_ids + i * job->k, row + job->from->top_ids, job->k * sizeof(int32_t));
    }
}

static void gates_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct bring_job *job = ud;
    size_t width = job->width;

    (void)thread;
    for (size_t i = begin; i < end; i++)
        for (size_t j = 0; j < job->k; j++) {
            const float *row = job->t->brought[i];
            size_t slot = job->to->slot[i * job->k + j];
            memcpy(job->to->expert_gate + slot * width, row + job->from->expert_gate + j * width, width * sizeof *row);
            memcpy(job->to->expert_up + slot * width, row + job->from->expert_up + j * width, width * sizeof *row);
        }
}

void fs_experts_bring(fs_trainer *t, fs_train_layer *l, const fs_layer_activations *from)
{
    struct experts_job job = job_of(t, l);
    struct bring_job bring = { t, &l->kept, from, job.n, job.k, job.width };
    size_t m = t->n_tokens, grain = fs_train_row_grain(t, m);

    fs_pool_for(t->pool, m, grain, choice_piece, &bring);
    group_rows(&job);
    fs_pool_for(t->pool, m, grain, gates_piece, &bring);
}

/* ---- backward ---- */
static void backward_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct experts_job *job = ud;
    fs_trainer *t = job->t;
    const fs_kept *kept = &job->l->kept;
    const fs_kernels *k = t->kernels;
    size_t e, row, m, d = job->d, n = job->width;
    void *scratch = fs_trainer_scratch(t, thread);

    for (size_t i = begin; i < end; i++) {
        const fs_lin_ffn *f;
        if (!rows_of(job, i, &e, &row, &m))
            continue;
        f = &job->l->experts[e];
        gather(job, job->dy, row, m);
        fs_mat_gemm(k, &f->down.w.cols, 0, fs_mat_panels(&f->down.w.cols), t->gathered + row * d, d, m, NULL, t->d_gate + row * n, n, scratch);
        fs_low_rank_back_on(t, &f->down.low, t->gathered + row * d, d, m, t->d_gate + row * n, n, thread);
        k->rows.swiglu(kept->expert_gate + row * n, kept->expert_up + row * n, t->mid + row * n, m * n);
        for (size_t r = row; r < row + m; r++) {
            const int32_t *ids = kept->top_ids + kept->row_token[r] * job->k;
            size_t which = 0;
            float w;
            while (ids[which] != (int32_t)e)
                which++;
            w = kept->top_weights[kept->row_token[r] * job->k + which];
            t->expert_dw[kept->row_token[r] * job->k + which] = k->grad.dot(t->d_gate + r * n, t->mid + r * n, n);
            k->rows.scale(w, t->d_gate + r * n, t->d_gate + r * n, n);
            k->rows.scale(w, t->mid + r * n, t->mid + r * n, n);
        }
        k->grad.swiglu(kept->expert_gate + row * n, kept->expert_up + row * n, t->d_gate + row * n, t->d_gate + row * n, t->d_up + row * n, m * n);
        fs_mat_gemm(k, &f->gate.w.cols, 0, fs_mat_panels(&f->gate.w.cols), t->d_gate + row * n, n, m, NULL, t->by_expert + row * d, d, scratch);
        fs_mat_gemm(k, &f->up.w.cols, 0, fs_mat_panels(&f->up.w.cols), t->d_up + row * n, n, m, NULL, t->gathered + row * d, d, scratch);
        fs_low_rank_back_on(t, &f->gate.low, t->d_gate + row * n, n, m, t->by_expert + row * d, d, thread);
        fs_low_rank_back_on(t, &f->up.low, t->d_up + row * n, n, m, t->gathered + row * d, d, thread);
        k->rows.add(t->by_expert + row * d, t->gathered + row * d, t->by_expert + row * d, m * d);
    }
}

/* An expert's chains: its rows of one aligned block of token indices. */
static void list_chains(const struct experts_job *job)
{
    fs_trainer *t = job->t;
    const fs_kept *kept = &job->l->kept;
    uint32_t n = 0;

    for (size_t e = 0; e < job->n; e++) {
        t->expert_chain_begin[e] = n;
        for (uint32_t r = kept->expert_begin[e]; r < kept->expert_begin[e + 1]; r++)
            if (r == kept->expert_begin[e] ||
                t->index[kept->row_token[r]] / FS_CHAIN_TOKENS != t->index[kept->row_token[r - 1]] / FS_CHAIN_TOKENS)
                t->expert_chain_at[n++] = r;
    }
    t->expert_chain_begin[job->n] = n;
    t->expert_chain_at[n] = kept->expert_begin[job->n];
}

/* ---- pairs ---- */
struct gather_job {
    const struct experts_job *job;
    const float *from;
};

static void gather_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct gather_job *g = ud;

    (void)thread;
    gather(g->job, g->from, begin, end - begin);
}

/* What fs_outer_experts has, of the pairs: t->d_gate and t->d_up are the gradients of gate and up, t->mid what down was multiplied with. */
static void pair_gradients(struct experts_job *job)
{
    fs_trainer *t = job->t;
    const uint32_t *begin = job->l->kept.expert_begin;
    size_t rows = begin[job->n], d = job->d, n = job->width;

    for (int turn = 0; turn < 2; turn++) { /* gate and up from h, then down from dy */
        struct gather_job g = { job, turn == 0 ? t->h : job->dy };
        fs_pool_for(t->pool, rows, fs_train_row_grain(t, rows), gather_piece, &g);
        for (size_t e = 0; e < job->n; e++) {
            const fs_lin_ffn *f = &job->l->experts[e];
            const float *own = t->gathered + begin[e] * d;
            uint32_t n_chains = t->expert_chain_begin[e + 1] - t->expert_chain_begin[e];
            fs_chains chains = { t->own_chain_at, n_chains };
            for (uint32_t c = 0; c <= n_chains; c++)
                t->own_chain_at[c] = (c < n_chains ? t->expert_chain_at[t->expert_chain_begin[e] + c] : begin[e + 1]) - begin[e];
            if (n_chains && turn == 0 && f->gate.low.r)
                fs_low_rank_grad(t, &f->gate.low, t->d_gate + begin[e] * n, n, own, d, &chains, false);
            if (n_chains && turn == 0 && f->up.low.r)
                fs_low_rank_grad(t, &f->up.low, t->d_up + begin[e] * n, n, own, d, &chains, false);
            if (n_chains && turn == 1 && f->down.low.r)
                fs_low_rank_grad(t, &f->down.low, own, d, t->mid + begin[e] * n, n, &chains, false);
        }
    }
}

/* f_i of each sequence, and what the loss has of it. P_i is a mean over the tokens in binary64. */
static void balance(struct experts_job *job)
{
    fs_trainer *t = job->t;
    const fs_kept *kept = &job->l->kept;
    double sum = 0;

    for (uint32_t s = 0; s < t->n_spans; s++) {
        const fs_span *span = &t->spans[s];
        float *f = t->frequency + s * job->n;
        double each = 0;
        memset(f, 0, job->n * sizeof *f);
        for (size_t i = span->token0 * job->k; i < (span->token0 + span->n) * job->k; i++)
            f[kept->top_ids[i]] += 1.0f;
        for (size_t e = 0; e < job->n; e++)
            f[e] = (float)((double)f[e] * (double)job->n / ((double)job->k * span->n));
        for (size_t i = span->token0; i < span->token0 + span->n; i++) {
            const float *x = kept->scores + i * job->n;
            double total = 0, dot = 0;
            for (size_t e = 0; e < job->n; e++)
                total += (double)x[e];
            for (size_t e = 0; e < job->n; e++)
                dot += (double)f[e] * ((double)x[e] / (total + 1e-20));
            each += dot;
        }
        sum += each / span->n;
    }
    t->balance_sum += sum;
}

/* The gradient of the scores, then of the logits: all of one token, in rising expert. */
static void route_back(const struct experts_job *job, size_t i)
{
    fs_trainer *t = job->t;
    const fs_config *c = t->config;
    const fs_kept *kept = &job->l->kept;
    const float *s = kept->scores + i * job->n, *dw = t->expert_dw + i * job->k;
    const int32_t *ids = kept->top_ids + i * job->k;
    float *g = t->router_grad + i * job->n, scaling = (float)c->routed_scaling_factor, sum = 0, dot = 0;

    memset(g, 0, job->n * sizeof *g);
    for (size_t j = 0; j < job->k; j++)
        sum = sum + s[ids[j]];
    sum = sum + 1e-20f;
    for (size_t j = 0; j < job->k; j++)
        dot = fmaf(dw[j], s[ids[j]] / sum, dot);
    for (size_t j = 0; j < job->k; j++) {
        if (!c->norm_topk_prob)
            g[ids[j]] = dw[j] * scaling;
        else
            g[ids[j]] = (dw[j] - dot) / sum * (c->topk_method == FS_TOPK_NOAUX_TC ? scaling : 1.0f);
    }
    if (t->options.balance_weight > 0) { /* softmax scores add up to 1, so that dividing by their sum changes little */
        uint32_t span = t->span_of[i];
        const float *f = t->frequency + span * job->n;
        float a = (float)(t->options.balance_weight / ((double)t->spans[span].n * (double)t->totals.n_sequences)), total = 0, mean = 0;
        for (size_t e = 0; e < job->n; e++)
            total = total + s[e];
        total = total + 1e-20f;
        for (size_t e = 0; e < job->n; e++)
            mean = fmaf(f[e], s[e] / total, mean);
        for (size_t e = 0; e < job->n; e++)
            g[e] = g[e] + a * ((f[e] - mean) / total);
    }
    if (c->scoring_func == FS_SCORING_SIGMOID) {
        for (size_t e = 0; e < job->n; e++)
            g[e] = g[e] * (s[e] * (1.0f - s[e]));
    } else {
        dot = t->kernels->grad.dot(g, s, job->n);
        for (size_t e = 0; e < job->n; e++)
            g[e] = s[e] * (g[e] - dot);
    }
}

static void route_back_piece(void *ud, size_t begin, size_t end, int thread)
{
    (void)thread;
    for (size_t i = begin; i < end; i++)
        route_back(ud, i);
}

static void scatter_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct experts_job *job = ud;
    float *dh = job->t->dh;

    (void)thread;
    for (size_t i = begin; i < end; i++)
        for (size_t j = i * job->k; j < (i + 1) * job->k; j++)
            job->t->kernels->rows.add(dh + i * job->d, job->t->by_expert + job->l->kept.slot[j] * job->d, dh + i * job->d, job->d);
}

void fs_experts_backward(fs_trainer *t, fs_train_layer *l, const float *dy)
{
    struct experts_job job = job_of(t, l);
    const fs_kept *kept = &l->kept;
    size_t m = t->n_tokens, grain = fs_train_row_grain(t, m);

    job.dy = dy;
    count_blocks(&job);
    list_chains(&job);
    if (t->options.balance_weight > 0)
        balance(&job);
    fs_pool_for(t->pool, job.n * job.blocks, 1, backward_piece, &job);
    fs_outer_experts(t, l, FS_EXPERT_GATE, t->d_gate, job.width, NULL, job.width, t->h, job.d, kept->row_token, job.d, false);
    fs_outer_experts(t, l, FS_EXPERT_UP, t->d_up, job.width, NULL, job.width, t->h, job.d, kept->row_token, job.d, true);
    fs_outer_experts(t, l, FS_EXPERT_DOWN, dy, job.d, kept->row_token, job.d, t->mid, job.width, NULL, job.width, false);
    if (l->has_expert_pairs)
        pair_gradients(&job);
    fs_pool_for(t->pool, m, grain, route_back_piece, &job);
    fs_lin_grad(t, &l->router, t->router_grad, job.n, t->h, job.d, false);
    fs_lin_back(t, &l->router, t->router_grad, job.n, m, t->dh, job.d, false);
    fs_pool_for(t->pool, m, grain, scatter_piece, &job);
    if (l->has_shared)
        fs_ffn_backward(t, &l->ffn, kept->gate, kept->up, dy, true);
}
