/* dW, by blocks of outputs over the columns of x, which are packed once for all threads. How it is cut moves no bit. */
#include "train/internal.h"

#include <assert.h>

#define OUT_BLOCK   96 /* rows of a gradient in one piece */
#define MIN_PANELS  4
#define PACK_PANELS 4  /* of x, in one piece */

void fs_pack_columns(const fs_trainer *t, fs_mat *m, void *data, size_t n, size_t k, const float *src, size_t ld)
{
    if (t->options.bf16) {
        fs_mat_init_pairs(m, (uint32_t)n, (uint32_t)k, data);
        fs_mat_pack_pair_columns(m, &t->kernels->pairs, src, ld, NULL, 0, fs_mat_panels(m));
    } else {
        fs_mat_init_f32(m, FS_DTYPE_F32, (uint32_t)n, (uint32_t)k, data);
        fs_mat_pack_columns(m, src, ld, NULL, 0, fs_mat_panels(m));
    }
}

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
    if (!job->pairs)
        fs_mat_pack_columns(&job->mat, job->x, job->ldx, job->x_index, begin, end);
    for (size_t i = begin; job->pairs && i < end; i++)
        pack_chains(job, i);
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
        fs_pool_for(t->pool, panels, panels >= PACK_PANELS * threads ? PACK_PANELS : 1, pack_x_piece, job);
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

/* ---- of heads: few outputs, so that a piece packs what it needs, and where it stays in the cache ---- */
struct heads_job {
    fs_trainer *t;
    const fs_operand *w;
    const float *dy, *x;
    size_t dy_dim, x_dim, pieces; /* of a head */
};

static float *operand_gradient(const fs_operand *w)
{
    float *g = w->merged ? w->merged->g : w->p->g;

    return g ? g + (size_t)w->row0 * w->k : NULL;
}

static void outer_heads_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct heads_job *job = ud;
    fs_trainer *t = job->t;
    size_t n_heads = t->config->num_attention_heads;
    uint8_t *scratch = fs_trainer_scratch(t, thread);

    for (size_t i = begin; i < end; i++) {
        size_t head = i / job->pieces, col = i % job->pieces * PACK_PANELS * FS_PANEL;
        const fs_operand *w = &job->w[head];
        size_t n = w->k - col < PACK_PANELS * FS_PANEL ? w->k - col : PACK_PANELS * FS_PANEL;
        for (uint32_t c = 0; c < t->chains.n; c++) {
            size_t at = t->chains.at[c] * n_heads + head;
            fs_mat mat;
            fs_pack_columns(t, &mat, scratch + FS_GEMM_SCRATCH_BYTES, n, t->chains.at[c + 1] - t->chains.at[c], job->x + at * job->x_dim + col,
                            n_heads * job->x_dim);
            fs_mat_gemm_turned(t->kernels, &mat, 0, fs_mat_panels(&mat), job->dy + at * job->dy_dim, n_heads * job->dy_dim, NULL, w->n,
                               operand_gradient(w) + col, w->k, scratch);
        }
    }
}

void fs_outer_heads(fs_trainer *t, const fs_operand *w, const float *dy, size_t dy_dim, const float *x, size_t x_dim)
{
    size_t panels = fs_mat_panels(&w->cols);
    struct heads_job job = { t, w, dy, x, dy_dim, x_dim, (panels + PACK_PANELS - 1) / PACK_PANELS };

    assert(FS_GEMM_SCRATCH_BYTES + PACK_PANELS * FS_PANEL * FS_CHAIN_TOKENS * sizeof(float) <= t->scratch_bytes);
    if (operand_gradient(w))
        fs_pool_for(t->pool, t->config->num_attention_heads * job.pieces, 1, outer_heads_piece, &job);
}
