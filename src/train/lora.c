/* Low-rank pairs of linears under training (LoRA, arXiv 2106.09685): forward as the engine computes an adapter (RN1 section 1a), and back.
 *
 * Backward of y = fl(y + fl(s * B u)), u = A x, from dy: e = fl(s * A256 of B's columns and dy), dB = dy and fl(s * u) over the tokens,
 * dA = e and x over the tokens, and A256 of A's columns and e is added to dx behind the linear's own.
 *
 * kv_b_proj, which is no product of x, is merged: w' = fl(w + fl(s * A256(B, A))) at each pack. With G the gradient of w', complete at the
 * step's end: dB = fl(s * A256 of G's rows and A's), dA = fl(s * A256 of B's columns and G's, over the outputs). */
#include "train/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TILE_ROWS   64
#define TILE_PANELS 16
#define TILE_COLS   (TILE_PANELS * FS_PANEL)

/* ---- life ---- */
fs_status fs_low_rank_init(fs_trainer *t, fs_low_rank *ret, const char *linear, fs_error *err)
{
    char name[224];
    fs_param *a, *b;
    fs_status rc;

    snprintf(name, sizeof name, FS_PAIR_PREFIX "%s.lora_A.weight", linear);
    a = fs_params_find(t->params, name);
    snprintf(name, sizeof name, FS_PAIR_PREFIX "%s.lora_B.weight", linear);
    b = fs_params_find(t->params, name);
    if (!a || !b)
        return FS_OK;
    rc = fs_operand_add(t, &ret->a, a, 0, a->rows, err);
    if (!rc)
        rc = fs_operand_add(t, &ret->b, b, 0, b->rows, err);
    if (rc)
        return rc;
    ret->a.pairs = ret->b.pairs = false; /* of class RN1, as an adapter's are */
    ret->a.pairs = ret->b.pairs = false; /* A256 in either class */
    ret->r = a->rows;
    ret->scale = fs_low_rank_scale(t->options.low_rank);
    t->low_r = ret->r > t->low_r ? ret->r : t->low_r;
    return FS_OK;
}

size_t fs_low_rank_tile_floats(const fs_trainer *t)
{
    return t->low_r ? (size_t)TILE_ROWS * (2 * t->low_r + TILE_COLS) : 0;
}

/* ---- rows of a linear ---- */
struct low_job {
    fs_trainer *t;
    const fs_low_rank *l;
    const float *x, *dy;
    float *y; /* forward: the linear's output; back: its dx; NULL: u and e are kept */
    size_t ldx, lddy, ldy, m;
};

static void product_of(const struct low_job *job, const fs_mat *w, const float *x, size_t ldx, size_t rows, float *y, int thread)
{
    job->t->kernels->products.gemm(w, 0, fs_mat_panels(w), x, ldx, rows, NULL, y, w->n, fs_trainer_scratch(job->t, thread));
}

/* y = fl(y + w u), or with a scale fl(y + fl(scale * (w u))), a tile of columns at a time. */
static void add_product(const struct low_job *job, const fs_mat *w, const float *u, const float *scale, size_t rows, float *y, float *tile, int thread)
{
    const fs_kernels *k = job->t->kernels;

    for (size_t p = 0; p < fs_mat_panels(w); p += TILE_PANELS) {
        size_t col = p * FS_PANEL, cols = w->n - col < TILE_COLS ? w->n - col : TILE_COLS;
        fs_mat part = *w;
        part.n = (uint32_t)cols;
        part.data += p * part.panel_bytes;
        k->products.gemm(&part, 0, fs_mat_panels(&part), u, w->k, rows, NULL, tile, TILE_COLS, fs_trainer_scratch(job->t, thread));
        for (size_t i = 0; i < rows; i++) {
            if (scale)
                k->rows.scale(*scale, tile + i * TILE_COLS, tile + i * TILE_COLS, cols);
            k->rows.add(y + i * job->ldy + col, tile + i * TILE_COLS, y + i * job->ldy + col, cols);
        }
    }
}

static void low_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct low_job *job = ud;
    fs_trainer *t = job->t;
    const fs_low_rank *l = job->l;
    const fs_rows_kernels *k = &t->kernels->rows;
    float *memory = t->low_tiles + (size_t)thread * fs_low_rank_tile_floats(t), *tile = memory + (size_t)2 * TILE_ROWS * t->low_r;

    for (size_t i = begin; i < end; i++) {
        size_t row = i * TILE_ROWS, rows = job->m - row < TILE_ROWS ? job->m - row : TILE_ROWS;
        float *u = job->y ? memory : t->low_u + row * l->r, *e = job->y ? memory + (size_t)TILE_ROWS * t->low_r : t->low_e + row * l->r;
        if (job->x)
            product_of(job, &l->a.rows, job->x + row * job->ldx, job->ldx, rows, u, thread);
        if (job->dy) {
            product_of(job, &l->b.cols, job->dy + row * job->lddy, job->lddy, rows, e, thread);
            k->scale(l->scale, e, e, rows * l->r);
        }
        if (!job->y)
            k->scale(l->scale, u, u, rows * l->r);
        else if (job->dy)
            add_product(job, &l->a.cols, e, NULL, rows, job->y + row * job->ldy, tile, thread);
        else
            add_product(job, &l->b.rows, u, &l->scale, rows, job->y + row * job->ldy, tile, thread);
    }
}

static size_t tiles_of(size_t m)
{
    return (m + TILE_ROWS - 1) / TILE_ROWS;
}

static void run(struct low_job *job)
{
    fs_pool_for(job->t->pool, tiles_of(job->m), 1, low_piece, job);
}

void fs_low_rank_forward(fs_trainer *t, const fs_low_rank *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy)
{
    struct low_job job = { .t = t, .l = l, .x = x, .ldx = ldx, .m = m, .y = y, .ldy = ldy };

    run(&job);
}

void fs_low_rank_back(fs_trainer *t, const fs_low_rank *l, const float *dy, size_t lddy, size_t m, float *dx, size_t lddx)
{
    struct low_job job = { .t = t, .l = l, .dy = dy, .lddy = lddy, .m = m, .y = dx, .ldy = lddx };

    run(&job);
}

void fs_low_rank_forward_on(fs_trainer *t, const fs_low_rank *l, const float *x, size_t ldx, size_t m, float *y, size_t ldy, int thread)
{
    struct low_job job = { .t = t, .l = l, .x = x, .ldx = ldx, .m = m, .y = y, .ldy = ldy };

    if (l->r)
        low_piece(&job, 0, tiles_of(m), thread);
}

void fs_low_rank_back_on(fs_trainer *t, const fs_low_rank *l, const float *dy, size_t lddy, size_t m, float *dx, size_t lddx, int thread)
{
    struct low_job job = { .t = t, .l = l, .dy = dy, .lddy = lddy, .m = m, .y = dx, .ldy = lddx };

    if (l->r)
        low_piece(&job, 0, tiles_of(m), thread);
}

void fs_low_rank_grad(fs_trainer *t, const fs_low_rank *l, const float *dy, size_t lddy, const float *x, size_t ldx, const fs_chains *chains, bool same_x)
{
    struct low_job job = { .t = t, .l = l, .x = x, .ldx = ldx, .dy = dy, .lddy = lddy, .m = chains->at[chains->n] };

    run(&job);
    fs_outer(t, l->a.p->g, false, t->low_e, l->r, l->r, x, ldx, l->a.k, chains, same_x);
    fs_outer(t, l->b.p->g, false, dy, lddy, l->b.n, t->low_u, l->r, l->r, chains, false);
}

/* ---- merged ---- */
fs_status fs_merged_new(fs_trainer *t, fs_param *w, const char *linear, fs_merged **ret, fs_error *err)
{
    fs_merged *m = calloc(1, sizeof *m);
    size_t n_bytes;
    fs_status rc = m ? fs_low_rank_init(t, &m->low, linear, err) : fs_fail_memory(err, sizeof *m);

    if (rc || !m->low.r) {
        free(m);
        return rc;
    }
    m->w = w;
    if (!fs_mat_bytes(FS_DTYPE_F32, w->cols, w->rows, 0, 0, &n_bytes))
        rc = fs_fail(err, FS_ERR_FORMAT, "tensor '%s' would not fit in the address space", w->name);
    if (!rc) {
        m->values = fs_alloc_aligned(w->n * sizeof(float));
        m->g = fs_alloc_aligned(w->n * sizeof(float));
        m->turned = fs_alloc_aligned((size_t)w->rows * m->low.r * sizeof(float));
        m->packed = fs_alloc_aligned(n_bytes);
        if (!m->values || !m->g || !m->turned || !m->packed)
            rc = fs_fail_memory(err, w->n * sizeof(float));
    }
    if (rc) {
        fs_merged_free(m);
        return rc;
    }
    fs_mat_init_f32(&m->columns, FS_DTYPE_F32, w->cols, w->rows, m->packed);
    *ret = m;
    return FS_OK;
}

void fs_merged_free(fs_merged *m)
{
    if (!m)
        return;
    fs_free_aligned(m->values);
    fs_free_aligned(m->g);
    fs_free_aligned(m->turned);
    fs_free_aligned(m->packed);
    free(m);
}

struct merged_job {
    fs_trainer *t;
    fs_merged *m;
};

static void values_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct merged_job *job = ud;
    fs_merged *m = job->m;
    const fs_kernels *k = job->t->kernels;
    size_t cols = m->w->cols, n = (end - begin) * cols;
    float *v = m->values + begin * cols;

    k->products.gemm(&m->low.a.cols, 0, fs_mat_panels(&m->low.a.cols), m->low.b.p->w + begin * m->low.r, m->low.r, end - begin, NULL, v, cols,
                     fs_trainer_scratch(job->t, thread));
    k->rows.scale(m->low.scale, v, v, n);
    k->rows.add(m->w->w + begin * cols, v, v, n);
}

void fs_merged_pack(fs_trainer *t, fs_merged *m)
{
    struct merged_job job = { t, m };

    fs_pool_for(t->pool, m->w->rows, 16, values_piece, &job);
}

static void b_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct merged_job *job = ud;
    fs_merged *m = job->m;
    float *g = m->low.b.p->g + begin * m->low.r;

    job->t->kernels->products.gemm(&m->low.a.rows, 0, fs_mat_panels(&m->low.a.rows), m->g + begin * m->w->cols, m->w->cols, end - begin, NULL, g,
                                   m->low.r, fs_trainer_scratch(job->t, thread));
    job->t->kernels->rows.scale(m->low.scale, g, g, (end - begin) * m->low.r);
}

static void columns_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct merged_job *job = ud;
    fs_merged *m = job->m;

    fs_mat_pack_columns(&m->columns, m->g, m->w->cols, NULL, begin, end);
    job->t->kernels->products.gemm(&m->columns, begin, end, m->turned, m->w->rows, m->low.r, NULL, m->low.a.p->g, m->w->cols,
                                   fs_trainer_scratch(job->t, thread));
}

void fs_merged_end(fs_trainer *t, fs_merged *m)
{
    struct merged_job job = { t, m };

    if (m->low.b.p->g)
        fs_pool_for(t->pool, m->w->rows, 16, b_piece, &job);
    if (!m->low.a.p->g)
        return;
    fs_transpose(m->low.b.p->w, m->low.r, NULL, m->w->rows, m->low.r, m->turned, m->w->rows);
    fs_pool_for(t->pool, fs_mat_panels(&m->columns), 1, columns_piece, &job);
    t->kernels->rows.scale(m->low.scale, m->low.a.p->g, m->low.a.p->g, m->low.a.p->n);
}
