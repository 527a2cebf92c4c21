/* The products of a pass, forward and dX, by blocks of rows, so that a thread's rows of x stay in its cache while the panels pass by. How
 * they are cut moves no bit. */
#include "train/internal.h"

#define ROW_BLOCK   192 /* what a product kernel takes of x at once */
#define LAST_BLOCK  48  /* of the last rows, so that threads end together */
#define MIN_PANELS  4

struct product_job {
    fs_trainer *t;
    const fs_mat *mat;       /* NULL: of heads */
    const fs_operand *heads; /* n_heads, x_step and y_step apart */
    bool cols;
    size_t n_heads, x_step, y_step;
    const float *bias, *x;
    size_t ldx, m;
    float *y, *sum; /* sum: y is added to it, or NULL */
    size_t ldy, ldsum;
    size_t row_block, whole, last_block, blocks, pieces; /* whole blocks of rows, then those of last_block; pieces of panels */
};

static const fs_mat *mat_of(const struct product_job *job, size_t head)
{
    return job->mat ? job->mat : job->cols ? &job->heads[head].cols : &job->heads[head].rows;
}

static size_t row_of(const struct product_job *job, size_t block)
{
    size_t row = block <= job->whole ? block * job->row_block : job->whole * job->row_block + (block - job->whole) * job->last_block;

    return row < job->m ? row : job->m;
}

static void product_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct product_job *job = ud;
    const fs_kernels *k = job->t->kernels;

    for (size_t i = begin; i < end; i++) {
        size_t piece = i % job->pieces, head = i / job->pieces % job->n_heads, block = i / job->pieces / job->n_heads;
        size_t row = row_of(job, block), m = row_of(job, block + 1) - row;
        const fs_mat *mat = mat_of(job, head);
        size_t panels = fs_mat_panels(mat), p0 = panels * piece / job->pieces, p1 = panels * (piece + 1) / job->pieces, col = p0 * FS_PANEL;
        size_t cols = (p1 * FS_PANEL < mat->n ? p1 * FS_PANEL : mat->n) - col;

        fs_mat_gemm(k, mat, p0, p1, job->x + head * job->x_step + row * job->ldx, job->ldx, m, job->bias,
                    job->y + head * job->y_step + row * job->ldy, job->ldy, fs_trainer_scratch(job->t, thread));
        for (size_t r = row; job->sum && r < row + m; r++)
            k->rows.add(job->sum + r * job->ldsum + col, job->y + r * job->ldy + col, job->sum + r * job->ldsum + col, cols);
    }
}

static void product(struct product_job *job)
{
    size_t threads = (size_t)fs_pool_threads(job->t->pool), want = threads == 1 ? 1 : 4 * threads, panels = fs_mat_panels(mat_of(job, 0));

    job->row_block = job->n_heads * job->m >= want * ROW_BLOCK ? ROW_BLOCK : ROW_BLOCK / 2;
    job->last_block = threads == 1 ? ROW_BLOCK : LAST_BLOCK;
    job->whole = job->m / job->row_block;
    if (threads > 1 && job->n_heads * job->whole < 4 * want)
        job->whole -= job->whole / 4;
    job->blocks = job->whole + (job->m - job->whole * job->row_block + job->last_block - 1) / job->last_block;
    job->pieces = 1;
    while (job->n_heads * job->blocks * job->pieces < want && panels / (job->pieces + 1) >= MIN_PANELS)
        job->pieces++;
    fs_pool_for(job->t->pool, job->n_heads * job->blocks * job->pieces, 1, product_piece, job);
}

/* y = the products; y = fl(y + them). */
static void product_set(fs_trainer *t, const fs_mat *mat, const float *bias, const float *x, size_t ldx, size_t m, float *y, size_t ldy)
{
    struct product_job job = { .t = t, .mat = mat, .n_heads = 1, .bias = bias, .x = x, .ldx = ldx, .m = m, .y = y, .ldy = ldy };

    product(&job);
}

static void product_add(fs_trainer *t, const fs_mat *mat, const float *x, size_t ldx, size_t m, float *y, size_t ldy)
{
    struct product_job job = { .t = t, .mat = mat, .n_heads = 1, .x = x, .ldx = ldx, .m = m, .y = t->tmp, .ldy = mat->n, .sum = y, .ldsum = ldy };

    product(&job);
}

void fs_product_heads(fs_trainer *t, const fs_operand *w, bool cols, const float *x, size_t x_dim, float *y, size_t y_dim)
{
    size_t n = t->config->num_attention_heads;
    struct product_job job = { .t = t, .heads = w, .cols = cols, .n_heads = n, .x_step = x_dim, .y_step = y_dim, .x = x, .ldx = n * x_dim,
                               .m = t->n_tokens, .y = y, .ldy = n * y_dim };

    product(&job);
}

void fs_lin_forward(fs_trainer *t, const fs_lin *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy)
{
    product_set(t, &l->w.rows, l->bias ? l->bias->w : NULL, x, ldx, m, y, ldy);
    if (l->low.r)
        fs_low_rank_forward(t, &l->low, x, ldx, m, y, ldy);
}

void fs_lin_back(fs_trainer *t, const fs_lin *l, const float *dy, size_t lddy, size_t m, float *dx, size_t lddx, bool add)
{
    if (add)
        product_add(t, &l->w.cols, dy, lddy, m, dx, lddx);
    else
        product_set(t, &l->w.cols, NULL, dy, lddy, m, dx, lddx);
    if (l->low.r)
        fs_low_rank_back(t, &l->low, dy, lddy, m, dx, lddx);
}

void fs_lin_grad(fs_trainer *t, const fs_lin *l, const float *dy, size_t lddy, const float *x, size_t ldx, bool same_x)
{
    fs_outer(t, l->w.p->g, l->w.pairs, dy, lddy, l->w.n, x, ldx, l->w.k, &t->chains, same_x);
    if (l->low.r)
        fs_low_rank_grad(t, &l->low, dy, lddy, x, ldx, &t->chains, true);
    if (l->bias && l->bias->g)
        fs_bias_backward(t, l->bias, dy, lddy);
}
