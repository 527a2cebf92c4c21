/* The products of a pass. Forward and dX go by blocks of rows, so that a thread's rows of x stay in its cache while the panels
 * pass by; dW goes by blocks of outputs over the columns of x, packed once for all threads. How they are cut moves no bit. */
#include "train/internal.h"

#include <assert.h>
#include <string.h>

#define ROW_BLOCK   192 /* what a product kernel takes of x at once */
#define OUT_BLOCK   96  /* rows of a gradient in one piece */
#define MIN_PANELS  4

/* ---- forward and dX ---- */
struct product_job {
    fs_trainer *t;
    const fs_mat *mat;
    const float *bias, *x;
    size_t ldx, m;
    float *y, *sum; /* sum: y is added to it, or NULL */
    size_t ldy, ldsum, row_block, pieces;
};

static void product_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct product_job *job = ud;
    const fs_kernels *k = job->t->kernels;
    size_t panels = fs_mat_panels(job->mat);

    for (size_t i = begin; i < end; i++) {
        size_t row = i / job->pieces * job->row_block, piece = i % job->pieces;
        size_t m = job->m - row < job->row_block ? job->m - row : job->row_block;
        size_t p0 = panels * piece / job->pieces, p1 = panels * (piece + 1) / job->pieces, col = p0 * FS_PANEL;
        size_t cols = (p1 * FS_PANEL < job->mat->n ? p1 * FS_PANEL : job->mat->n) - col;

        fs_mat_gemm(k, job->mat, p0, p1, job->x + row * job->ldx, job->ldx, m, job->bias, job->y + row * job->ldy, job->ldy,
                         fs_trainer_scratch(job->t, thread));
        for (size_t r = row; job->sum && r < row + m; r++)
            k->rows.add(job->sum + r * job->ldsum + col, job->y + r * job->ldy + col, job->sum + r * job->ldsum + col, cols);
    }
}

static void product(struct product_job *job)
{
    size_t threads = (size_t)fs_pool_threads(job->t->pool), want = threads == 1 ? 1 : 4 * threads, blocks, panels = fs_mat_panels(job->mat);

    job->row_block = job->m >= want * ROW_BLOCK || threads == 1 ? ROW_BLOCK : ROW_BLOCK / 2;
    blocks = (job->m + job->row_block - 1) / job->row_block;
    job->pieces = 1;
    while (blocks * job->pieces < want && panels / (job->pieces + 1) >= MIN_PANELS)
        job->pieces++;
    fs_pool_for(job->t->pool, blocks * job->pieces, 1, product_piece, job);
}

void fs_product_set(fs_trainer *t, const fs_mat *mat, const float *x, size_t ldx, size_t m, float *y, size_t ldy)
{
    struct product_job job = { .t = t, .mat = mat, .x = x, .ldx = ldx, .m = m, .y = y, .ldy = ldy };

    product(&job);
}

void fs_product_add(fs_trainer *t, const fs_mat *mat, const float *x, size_t ldx, size_t m, float *y, size_t ldy)
{
    struct product_job job = { .t = t, .mat = mat, .x = x, .ldx = ldx, .m = m, .y = t->tmp, .ldy = mat->n, .sum = y, .ldsum = ldy };

    product(&job);
}

void fs_lin_forward(fs_trainer *t, const fs_lin *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy)
{
    struct product_job job = { .t = t, .mat = &l->w.rows, .bias = l->bias ? l->bias->w : NULL, .x = x, .ldx = ldx, .m = m, .y = y, .ldy = ldy };

    product(&job);
    if (l->low.r)
        fs_low_rank_forward(t, &l->low, x, ldx, m, y, ldy);
}

void fs_lin_back(fs_trainer *t, const fs_lin *l, const float *dy, size_t lddy, size_t m, float *dx, size_t lddx, bool add)
{
    (add ? fs_product_add : fs_product_set)(t, &l->w.cols, dy, lddy, m, dx, lddx);
    if (l->low.r)
        fs_low_rank_back(t, &l->low, dy, lddy, m, dx, lddx);
}

/* ---- dW ---- */
struct outer_job {
    fs_trainer *t;
    float *g;             /* [n_o, n_i]; NULL: of experts */
    fs_train_layer *layer;
    enum fs_expert_part part;
    const float *dy, *x;
    const uint32_t *dy_index, *x_index; /* NULL: row i is row i */
    size_t lddy, ldx, n_o, n_i, m;
    bool pairs;           /* every chain of x begins with a pair of its own, at t->chain_words */
    fs_mat mat;           /* columns of x */
    size_t blocks, pieces;
    const fs_chains *chains; /* all of them */
};

/* The columns of each chain, so that its first element is the first of a pair. */
static void pack_chains(const struct outer_job *job, size_t panel)
{
    const fs_trainer *t = job->t;
    size_t col = panel * FS_PANEL, n = job->n_i - col < FS_PANEL ? job->n_i - col : FS_PANEL;
    fs_pair *dst = (fs_pair *)(void *)((uint8_t *)t->pack_x + panel * job->mat.panel_bytes);

    for (uint32_t c = 0; c < job->chains->n; c++) {
        uint32_t at = job->chains->at[c], rows = job->chains->at[c + 1] - at;
        t->kernels->pairs.pack_columns(job->x + col + (job->x_index ? 0 : at * job->ldx), job->ldx, job->x_index ? job->x_index + at : NULL, n, rows,
                                       dst + (size_t)t->chain_words[c] * FS_PANEL);
    }
}

static void pack_x_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct outer_job *job = ud;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        if (job->pairs)
            pack_chains(job, i);
        else
            fs_mat_pack_columns(&job->mat, job->x, job->ldx, job->x_index, i, i + 1);
    }
}

static float *expert_gradient(const struct outer_job *job, size_t e)
{
    const fs_lin_ffn *f = &job->layer->experts[e];

    return (job->part == FS_EXPERT_GATE ? f->gate : job->part == FS_EXPERT_UP ? f->up : f->down).w.p->g;
}

/* Chains of 256 that follow one another are one call. */
static void outer_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct outer_job *job = ud;
    fs_trainer *t = job->t;
    size_t panels = fs_mat_panels(&job->mat);

    for (size_t i = begin; i < end; i++) {
        size_t piece = i % job->pieces, block = i / job->pieces % job->blocks, expert = i / job->pieces / job->blocks;
        size_t o = block * OUT_BLOCK, n_o = job->n_o - o < OUT_BLOCK ? job->n_o - o : OUT_BLOCK;
        float *g = job->g ? job->g : expert_gradient(job, expert);
        const uint32_t *at = job->chains->at;
        uint32_t first = job->g ? 0 : t->expert_chain_begin[expert], stop = job->g ? job->chains->n : t->expert_chain_begin[expert + 1];

        if (!g)
            continue;
        g += o * job->n_i;
        for (uint32_t c = first, next; c < stop; c = next) {
            fs_mat part = job->mat;
            for (next = c + 1; next < stop && at[next] - at[next - 1] == FS_CHAIN_TOKENS; next++)
                ;
            part.k = at[next] - at[c];
            part.data += (size_t)(job->pairs ? t->chain_words[c] : at[c]) * FS_PANEL * sizeof(float);
            fs_mat_gemm_turned(t->kernels, &part, panels * piece / job->pieces, panels * (piece + 1) / job->pieces,
                               job->dy + o + (job->dy_index ? 0 : at[c] * job->lddy), job->lddy, job->dy_index ? job->dy_index + at[c] : NULL, n_o, g,
                               job->n_i, fs_trainer_scratch(t, thread));
        }
    }
}

/* Whether x is not what stands packed. A call that is left out takes x from those behind it that would have used it again. */
static bool must_pack(fs_trainer *t, const float *x, bool pairs, bool same_x)
{
    bool stands = same_x && t->packed_x == x && t->packed_pairs == pairs;

    t->packed_x = x;
    t->packed_pairs = pairs;
    return !stands;
}

static void leave_out(fs_trainer *t, bool same_x)
{
    t->packed_x = same_x ? t->packed_x : NULL;
}

/* Words of a panel of pairs: fills t->chain_words. */
static size_t count_words(fs_trainer *t, const fs_chains *chains)
{
    size_t n = 0;

    for (uint32_t c = 0; c < chains->n; c++) {
        t->chain_words[c] = (uint32_t)n;
        n += fs_pairs(chains->at[c + 1] - chains->at[c]);
    }
    return n;
}

static void outer(struct outer_job *job, size_t n_experts, bool same_x)
{
    fs_trainer *t = job->t;
    bool pack = must_pack(t, job->x, job->pairs, same_x);
    size_t threads = (size_t)fs_pool_threads(t->pool), want = threads == 1 ? 1 : 4 * threads, panels;

    job->mat = (fs_mat){ .dtype = job->pairs ? FS_DTYPE_BF16 : FS_DTYPE_F32, .n = (uint32_t)job->n_i, .k = (uint32_t)job->m, .pairs = job->pairs,
                         .data = (const uint8_t *)t->pack_x,
                         .panel_bytes = (job->pairs ? count_words(t, job->chains) : job->m) * FS_PANEL * sizeof(float) };
    panels = fs_mat_panels(&job->mat);
    if (pack)
        fs_pool_for(t->pool, panels, 1, pack_x_piece, job);
    job->blocks = (job->n_o + OUT_BLOCK - 1) / OUT_BLOCK;
    job->pieces = 1;
    while (n_experts * job->blocks * job->pieces < want && panels / (job->pieces + 1) >= MIN_PANELS)
        job->pieces++;
    fs_pool_for(t->pool, n_experts * job->blocks * job->pieces, 1, outer_piece, job);
}

void fs_outer(fs_trainer *t, float *g, bool pairs, const float *dy, size_t lddy, size_t n_o, const float *x, size_t ldx, size_t n_i,
              const fs_chains *chains, bool same_x)
{
    struct outer_job job = { .t = t, .g = g, .pairs = pairs, .dy = dy, .x = x, .lddy = lddy, .ldx = ldx, .n_o = n_o, .n_i = n_i, .m = chains->at[chains->n],
                             .chains = chains };

    assert(chains->at[0] == 0);
    if (g)
        outer(&job, 1, same_x);
    else
        leave_out(t, same_x);
}

void fs_outer_experts(fs_trainer *t, fs_train_layer *layer, enum fs_expert_part part, const float *dy, size_t lddy, const uint32_t *dy_index,
                      size_t n_o, const float *x, size_t ldx, const uint32_t *x_index, size_t n_i, bool same_x)
{
    fs_chains chains = { t->expert_chain_at, t->expert_chain_begin[t->config->n_routed_experts] };
    struct outer_job job = { .t = t, .layer = layer, .pairs = t->options.bf16, .chains = &chains, .part = part, .dy = dy, .x = x, .dy_index = dy_index, .x_index = x_index, .lddy = lddy,
                             .ldx = ldx, .n_o = n_o, .n_i = n_i, .m = (size_t)t->n_tokens * t->config->num_experts_per_tok };

    size_t e = 0;

    while (e < t->config->n_routed_experts && !expert_gradient(&job, e))
        e++;
    if (e < t->config->n_routed_experts)
        outer(&job, t->config->n_routed_experts, same_x);
    else
        leave_out(t, same_x);
}

void fs_lin_grad(fs_trainer *t, const fs_lin *l, const float *dy, size_t lddy, const float *x, size_t ldx, bool same_x)
{
    fs_outer(t, l->w.p->g, l->w.pairs, dy, lddy, l->w.n, x, ldx, l->w.k, &t->chains, same_x);
    if (l->low.r)
        fs_low_rank_grad(t, &l->low, dy, lddy, x, ldx, &t->chains, true);
    if (l->bias && l->bias->g)
        fs_bias_backward(t, l->bias, dy, lddy);
}
