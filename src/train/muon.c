/* See the header. */
#include "train/muon.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ITERATIONS  5
#define SQUARE_ROWS 48 /* a multiple of FS_PANEL */

/* What one matrix needs: its short side first. */
struct room {
    size_t n, k;
    size_t x, y, panels, a, b, a_panels; /* floats, each a multiple of 16 */
};

static size_t padded(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

static struct room room_of(const fs_param *p)
{
    struct room r = { .n = p->rows < p->cols ? p->rows : p->cols, .k = p->rows < p->cols ? p->cols : p->rows };
    size_t rows = padded(r.n) * r.k, columns = padded(r.k) * r.n;

    r.x = r.y = padded(r.n * r.k);
    r.panels = rows > columns ? rows : columns;
    r.panels = padded(r.panels);
    r.a = r.b = padded(r.n * r.n);
    r.a_panels = padded(padded(r.n) * r.n);
    return r;
}

static size_t floats_of(const fs_param *p)
{
    struct room r = room_of(p);

    return r.x + r.y + r.panels + r.a + r.b + r.a_panels + FS_GEMM_SCRATCH_BYTES / sizeof(float);
}

static bool is_muons(const fs_param *p)
{
    return !p->fixed && p->n_dims == 2 && strcmp(p->name, "model.embed_tokens.weight") != 0 && strcmp(p->name, "lm_head.weight") != 0;
}

fs_status fs_muon_prepare(fs_params *p, int n_threads, fs_error *err)
{
    size_t most = 0, n = 0, n_bytes;

    for (size_t i = 0; i < p->n; i++) {
        if (!is_muons(&p->items[i]))
            continue;
        p->items[i].muon = true;
        n++;
        if (floats_of(&p->items[i]) > most)
            most = floats_of(&p->items[i]);
    }
    p->n_muon = n;
    p->muon_floats = most;
    p->muon_threads = n_threads;
    if (!n)
        return FS_OK;
    if (!fs_mul_size(most * sizeof(float), (size_t)n_threads, &n_bytes))
        return fs_fail(err, FS_ERR_MEMORY, "the room of Muon would not fit in the address space");
    p->muon_items = malloc(n * sizeof *p->muon_items);
    p->muon_room = fs_alloc_lazy(n_bytes);
    if (!p->muon_items || !p->muon_room)
        return fs_fail_memory(err, n_bytes);
    for (size_t i = n = 0; i < p->n; i++)
        if (p->items[i].muon)
            p->muon_items[n++] = &p->items[i];
    return FS_OK;
}

struct muon_job {
    const fs_muon_step *s;
    fs_params *p;
    const fs_kernels *k;
};

/* M and U, into u. */
static void move(const struct muon_job *job, const fs_param *p, float *u)
{
    const fs_rows_kernels *k = &job->k->rows;

    k->scale(job->s->clip, p->g, u, p->n);
    for (size_t i = 0; i < p->n; i++) {
        p->m[i] = fmaf(job->s->momentum, p->m[i], u[i]);
        u[i] = fmaf(job->s->momentum, p->m[i], u[i]);
    }
}

/* X = fl(r * U) in x, the short side first; u is lost. */
static void normalise(const struct muon_job *job, const fs_param *p, float *u, float *x)
{
    double ss = 0;
    float r;

    for (size_t i = 0; i < p->n; i += 256)
        ss += (double)job->k->rows.sumsq(u + i, p->n - i < 256 ? p->n - i : 256);
    r = (float)(1 / (sqrt(ss) + 1e-7));
    if (p->rows <= p->cols) {
        job->k->rows.scale(r, u, x, p->n);
        return;
    }
    job->k->rows.scale(r, u, u, p->n);
    for (size_t i = 0; i < p->rows; i++)
        for (size_t j = 0; j < p->cols; j++)
            x[j * p->rows + i] = u[i * p->cols + j];
}

/* c [m, w's outputs] = a times w. */
static void product(const struct muon_job *job, const fs_mat *w, const float *a, size_t m, float *c, void *scratch)
{
    job->k->products.gemm(w, 0, fs_mat_panels(w), a, w->k, m, NULL, c, w->n, scratch);
}

/* c [n, n] = a a^T with w's rows being a's, which is symmetric to the bit: above the diagonal it is computed, below copied. */
static void square(const struct muon_job *job, const fs_mat *w, const float *a, float *c, void *scratch)
{
    size_t n = w->n;

    for (size_t r = 0; r < n; r += SQUARE_ROWS) {
        size_t rows = n - r < SQUARE_ROWS ? n - r : SQUARE_ROWS;
        job->k->products.gemm(w, r / FS_PANEL, fs_mat_panels(w), a + r * w->k, w->k, rows, NULL, c + r * n, n, scratch);
        for (size_t i = r; i < r + rows; i++)
            for (size_t j = r + rows; j < n; j++)
                c[j * n + i] = c[i * n + j];
    }
}

static void one_matrix(const struct muon_job *job, const fs_param *p, float *memory)
{
    struct room r = room_of(p);
    float *x = memory, *y = x + r.x, *panels = y + r.y, *a = panels + r.panels, *b = a + r.a, *a_panels = b + r.b, *of, *to;
    void *scratch = a_panels + r.a_panels;
    const fs_rows_kernels *k = &job->k->rows;
    double lr = job->s->lr * p->lr_scale, decay = p->weight_decay >= 0 ? p->weight_decay : job->s->weight_decay;
    float step = (float)(lr * 0.2 * sqrt((double)r.k)), keep = (float)(1 - lr * decay), rest = (float)(1 - job->s->average);
    fs_mat m;

    move(job, p, y);
    normalise(job, p, y, x);
    for (int i = 0; i < ITERATIONS; i++) {
        fs_mat_init_f32(&m, FS_DTYPE_F32, (uint32_t)r.n, (uint32_t)r.k, panels);
        fs_mat_pack_f32(&m, x, r.k, 0, fs_mat_panels(&m));
        square(job, &m, x, a, scratch);
        fs_mat_init_f32(&m, FS_DTYPE_F32, (uint32_t)r.n, (uint32_t)r.n, a_panels);
        fs_mat_pack_f32(&m, a, r.n, 0, fs_mat_panels(&m));
        square(job, &m, a, b, scratch);
        k->scale(2.0315f, b, b, r.n * r.n);
        k->axpy(-4.775f, a, b, r.n * r.n);
        fs_mat_init_f32(&m, FS_DTYPE_F32, (uint32_t)r.k, (uint32_t)r.n, panels);
        fs_mat_pack_columns(&m, x, r.k, NULL, 0, fs_mat_panels(&m));
        product(job, &m, b, r.n, y, scratch);
        k->axpy(3.4445f, x, y, r.n * r.k);
        of = x;
        x = y;
        y = of;
    }
    to = x;
    if (p->rows > p->cols) {
        for (size_t i = 0; i < p->rows; i++)
            for (size_t j = 0; j < p->cols; j++)
                y[i * p->cols + j] = x[j * p->rows + i];
        to = y;
    }
    k->scale(keep, p->w, p->w, p->n);
    k->axpy(-step, to, p->w, p->n);
    for (size_t i = 0; p->e && i < p->n; i++)
        p->e[i] = p->e[i] + rest * (p->w[i] - p->e[i]);
}

static void matrices_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct muon_job *job = ud;

    for (size_t i = begin; i < end; i++)
        if (!job->p->muon_items[i]->fixed)
            one_matrix(job, job->p->muon_items[i], job->p->muon_room + (size_t)thread * job->p->muon_floats);
}

void fs_muon_step_all(const fs_muon_step *s, fs_params *p, fs_pool *pool, const fs_kernels *k)
{
    struct muon_job job = { s, p, k };

    fs_pool_for(pool, p->n_muon, 1, matrices_piece, &job);
}
