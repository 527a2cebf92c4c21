/* The pieces of a step. Each is one region of the pool; which thread takes which panels or rows changes no bit. */
#include "models/internal.h"

#include <assert.h>
#include <string.h>

size_t fs_panel_grain(const fs_network *net, size_t n_panels)
{
    size_t threads = (size_t)fs_pool_threads(net->pool);
    size_t each = n_panels >= 1024 * threads ? 32 : n_panels >= 64 * threads ? 4 : 2, pieces = threads == 1 ? 1 : each * threads;
    size_t grain = (n_panels + pieces - 1) / pieces;

    return grain > 4 ? (grain + 3) & ~(size_t)3 : grain ? grain : 1;
}

size_t fs_block_grain(const fs_network *net, size_t n_panels, size_t align)
{
    return fs_panel_grain(net, (n_panels + align - 1) / align) * align;
}

size_t fs_row_grain(const fs_network *net, size_t m)
{
    size_t pieces = 4 * (size_t)fs_pool_threads(net->pool), grain = (m + pieces - 1) / pieces;

    return grain ? grain : 1;
}

/* ---- inputs ---- */
fs_input fs_input_make(const float *x, size_t ldx, uint8_t *codes, size_t k, unsigned takes)
{
    fs_input in = { .x = x, .ldx = ldx };

    if (takes & FS_TAKES_CODES)
        in.codes = fs_quants_init((uint32_t)k, codes);
    return in;
}

void fs_input_quantize(const fs_network *net, const fs_input *in, size_t row, size_t n_rows, size_t begin, size_t end)
{
    if (in->codes.data)
        net->kernels->quants.quantize(&in->codes, row, n_rows, begin / FS_QUANTS_BLOCK, end / FS_QUANTS_BLOCK, in->x + row * in->ldx, in->ldx);
}

void fs_input_quantize_for(const fs_network *net, const fs_linear *l, const fs_input *in, size_t row, size_t n_rows, size_t begin, size_t end)
{
    if (l->mat.codes)
        fs_input_quantize(net, in, row, n_rows, begin, end);
}

struct quantize_job {
    const fs_network *net;
    fs_input in;
    size_t k;
};

static void quantize_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct quantize_job *job = ud;

    (void)thread;
    fs_input_quantize(job->net, &job->in, begin, end - begin, 0, job->k);
}

static void quantize_rows(fs_network *net, const fs_input *in, size_t k, size_t m)
{
    struct quantize_job job = { net, *in, k };

    if (in->codes.data)
        fs_pool_for(net->pool, m, fs_row_grain(net, m), quantize_piece, &job);
}

void fs_h_in(fs_network *net, fs_workspace *ws, unsigned takes, size_t m)
{
    size_t d = net->config->hidden_size;

    ws->in = fs_input_make(ws->h, d, ws->h_codes, d, takes);
    quantize_rows(net, &ws->in, d, m);
}

void fs_linear_panels(const fs_network *net, const fs_workspace *ws, const fs_linear *l, size_t panel_begin, size_t panel_end,
                      const uint8_t *next, const fs_input *in, size_t row, size_t m, float *y, size_t ldy, int thread)
{
    const fs_kernels *k = net->kernels;
    void *scratch = fs_ws_scratch(ws, thread);

    if (l->stored) {
        fs_stored_panels(net, ws, l, panel_begin, panel_end, in, row, m, y, ldy, thread);
    } else if (l->mat.codes) {
        k->quants.gemm(&l->mat, panel_begin, panel_end, &in->codes, row, m, l->bias, y, ldy, scratch);
    } else {
        fs_mat mat = l->mat;
        mat.ahead = next ? (size_t)((uintptr_t)next - (uintptr_t)fs_linear_panel(l, panel_begin)) : 0;
        fs_mat_gemm(k, &mat, panel_begin, panel_end, in->x + row * in->ldx, in->ldx, m, l->bias, y, ldy, scratch);
    }
}

/* ---- low-rank products of an adapter ---- */
float *fs_lora_slot(const fs_network *net, const fs_workspace *ws, int slot)
{
    return net->lora_rank ? ws->lora + (size_t)slot * ws->lora_rows * net->lora_rank : NULL;
}

void fs_lora_down(const fs_network *net, fs_workspace *ws, const fs_linear *l, const float *x, size_t ldx, size_t m, float *u, int thread)
{
    if (l->lora.rank)
        net->kernels->products.gemm(&l->lora.a, 0, fs_mat_panels(&l->lora.a), x, ldx, m, NULL, u, l->lora.rank,
                                    fs_ws_scratch(ws, thread));
}

void fs_lora_up(const fs_network *net, fs_workspace *ws, const fs_linear *l, size_t panel_begin, size_t panel_end, const float *u, size_t m,
                float *y, size_t ldy, int thread)
{
    const fs_kernels *k = net->kernels;
    size_t rank = l->lora.rank;

    for (size_t p = panel_begin; rank && p < panel_end; p += FS_LORA_TILE_PANELS) {
        size_t panels = panel_end - p < FS_LORA_TILE_PANELS ? panel_end - p : FS_LORA_TILE_PANELS, col = p * FS_PANEL;
        size_t cols = l->lora.b.n - col < panels * FS_PANEL ? l->lora.b.n - col : panels * FS_PANEL;
        float *tile = ws->lora_tile + (size_t)thread * FS_LORA_TILE_FLOATS;
        fs_mat b = l->lora.b; /* its panels from p on */
        b.n = (uint32_t)cols;
        b.data += p * b.panel_bytes;
        for (size_t t = 0; t < m; t += FS_LORA_TILE_ROWS) {
            size_t rows = m - t < FS_LORA_TILE_ROWS ? m - t : FS_LORA_TILE_ROWS;
            k->products.gemm(&b, 0, panels, u + t * rank, rank, rows, NULL, tile, FS_LORA_TILE_PANELS * FS_PANEL, fs_ws_scratch(ws, thread));
            for (size_t i = 0; i < rows; i++) {
                float *from = tile + i * FS_LORA_TILE_PANELS * FS_PANEL, *to = y + (t + i) * ldy + col;
                k->rows.scale(l->lora.scale, from, from, cols);
                k->rows.add(to, from, to, cols);
            }
        }
    }
}

struct lora_job {
    fs_network *net;
    fs_workspace *ws;
    const fs_linear *linears[FS_PRODUCTS_MAX];
    int n_linears;
    const float *x;
    size_t ldx;
};

static void lora_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct lora_job *job = ud;

    for (int i = 0; i < job->n_linears; i++)
        fs_lora_down(job->net, job->ws, job->linears[i], job->x + begin * job->ldx, job->ldx, end - begin,
                     fs_lora_slot(job->net, job->ws, i) + begin * job->linears[i]->lora.rank, thread);
}

/* A x of every linear that has an adapter, linear i in slot i. */
static void lora_region(struct lora_job *job, size_t m)
{
    bool any = false;

    for (int i = 0; i < job->n_linears; i++)
        any = any || job->linears[i]->lora.rank;
    assert(!any || m <= job->ws->lora_rows);
    if (any)
        fs_pool_for(job->net->pool, m, fs_row_grain(job->net, m), lora_piece, job);
}

/* ---- products ---- */
struct products_job {
    fs_network *net;
    fs_workspace *ws;
    const fs_product *products;
    size_t first[FS_PRODUCTS_MAX + 1]; /* panels of product i are items first[i] .. first[i+1]-1 */
    int n_products;
    const fs_input *in;
    size_t m;
};

static void products_piece(void *ud, size_t begin, size_t end, int thread)
{
    struct products_job *job = ud;

    for (int i = 0; i < job->n_products; i++) {
        const fs_product *p = &job->products[i];
        size_t lo = begin > job->first[i] ? begin : job->first[i], hi = end < job->first[i + 1] ? end : job->first[i + 1];
        if (lo >= hi)
            continue;
        lo -= job->first[i];
        hi -= job->first[i];
        fs_linear_panels(job->net, job->ws, p->linear, lo, hi, NULL, job->in, 0, job->m, p->y, p->ldy, thread);
        fs_lora_up(job->net, job->ws, p->linear, lo, hi, fs_lora_slot(job->net, job->ws, i), job->m, p->y, p->ldy, thread);
    }
}

void fs_products_run_in(fs_network *net, fs_workspace *ws, const fs_product *products, int n_products, const fs_input *in, size_t m)
{
    struct products_job job = { .net = net, .ws = ws, .products = products, .n_products = n_products, .in = in, .m = m };
    struct lora_job lora = { .net = net, .ws = ws, .n_linears = n_products, .x = in->x, .ldx = in->ldx };
    size_t k = products[0].linear->mat.k;
    unsigned takes = 0;
    fs_input staged;

    assert(n_products <= FS_PRODUCTS_MAX);
    for (int i = 0; i < n_products; i++) {
        job.first[i + 1] = job.first[i] + fs_mat_panels(&products[i].linear->mat);
        lora.linears[i] = products[i].linear;
        takes |= fs_linear_takes(products[i].linear);
    }
    if (takes & FS_TAKES_CODES && !in->codes.data) {
        staged = fs_input_make(in->x, in->ldx, ws->stage, k, takes);
        quantize_rows(net, &staged, k, m);
        job.in = &staged;
    }
    lora_region(&lora, m);
    for (int i = 0; i < n_products; i++)
        fs_importance_see(net->options.importance, net->pool, products[i].linear->input, 0, in->x, in->ldx, m);
    fs_pool_for(net->pool, job.first[n_products], fs_panel_grain(net, job.first[n_products]), products_piece, &job);
}

void fs_products_run(fs_network *net, fs_workspace *ws, const fs_product *products, int n_products, const float *x,
                     size_t ldx, size_t m)
{
    fs_input in = { .x = x, .ldx = ldx };
    fs_products_run_in(net, ws, products, n_products, &in, m);
}

void fs_linear_run(fs_network *net, fs_workspace *ws, const fs_linear *l, const float *x, size_t ldx, size_t m, float *y,
                   size_t ldy)
{
    fs_product p = { l, y, ldy };
    fs_products_run(net, ws, &p, 1, x, ldx, m);
}

/* ---- norms and residual sums ---- */
struct norm_job {
    const fs_network *net;
    float *x;
    const float *add, *w;
    float *y;
    size_t ldx, ldy, n;
    float eps;
    const fs_input *in; /* y, whose codes are made too; NULL: nobody takes them */
    float **kept;       /* where x goes too, at float kept_at of each; NULL: nowhere */
    size_t kept_at;
};

static void norm_piece(void *ud, size_t begin, size_t end, int thread)
{
    struct norm_job *job = ud;
    const fs_rows_kernels *rows = &job->net->kernels->rows;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        float *x = job->x + i * job->ldx;
        if (job->add)
            rows->add(x, job->add + i * job->ldx, x, job->n);
        if (job->kept && job->kept[i])
            memcpy(job->kept[i] + job->kept_at, x, job->n * sizeof *x);
        if (job->w)
            rows->rmsnorm(x, job->w, job->eps, job->y + i * job->ldy, job->n);
        if (job->in)
            fs_input_quantize(job->net, job->in, i, 1, 0, job->n);
    }
}

void fs_norm_rows(fs_network *net, const float *x, size_t ldx, const float *w, double eps, float *y, size_t ldy, size_t n,
                  size_t m)
{
    /* Without a summand x is only read. */
    struct norm_job job = { net, (float *)(uintptr_t)x, NULL, w, y, ldx, ldy, n, (float)eps, NULL, NULL, 0 };
    fs_pool_for(net->pool, m, fs_row_grain(net, m), norm_piece, &job);
}

void fs_norm_in(fs_network *net, fs_workspace *ws, const float *x, const float *w, unsigned takes, size_t m)
{
    fs_add_norm_in(net, ws, (float *)(uintptr_t)x, NULL, w, takes, m);
}

static void add_norm(fs_network *net, fs_workspace *ws, float *x, const float *y, const float *w, unsigned takes, size_t m, float **kept, size_t at)
{
    size_t d = net->config->hidden_size;
    struct norm_job job = { net, x, y, w, ws->h, d, d, d, (float)net->config->rms_norm_eps, w ? &ws->in : NULL, kept, at };

    ws->in = fs_input_make(ws->h, d, ws->h_codes, d, takes);
    fs_pool_for(net->pool, m, fs_row_grain(net, m), norm_piece, &job);
}

void fs_add_norm_in(fs_network *net, fs_workspace *ws, float *x, const float *y, const float *w, unsigned takes, size_t m)
{
    add_norm(net, ws, x, y, w, takes, m, NULL, 0);
}

void fs_add_norm_kept(fs_network *net, fs_workspace *ws, float *x, const float *y, const float *w, unsigned takes, size_t m, size_t at)
{
    add_norm(net, ws, x, y, w, takes, m, ws->keeps ? ws->kept : NULL, at);
}

void fs_keep_gate_up(const fs_workspace *ws, size_t t, size_t gate_at, size_t up_at, const float *gate, const float *up, size_t col, size_t cols)
{
    float *row = ws->kept[t];

    if (!row)
        return;
    memcpy(row + gate_at + col, gate + col, cols * sizeof *gate);
    memcpy(row + up_at + col, up + col, cols * sizeof *up);
}

/* ---- SwiGLU feed-forward ---- */
struct ffn_job {
    fs_network *net;
    fs_workspace *ws;
    const fs_ffn *f;
    fs_input mid; /* the input of down */
    size_t m;
    const fs_layer_activations *kept; /* NULL: nothing is */
};

static void gate_up_piece(void *ud, size_t begin, size_t end, int thread)
{
    struct ffn_job *job = ud;
    float *gate = job->ws->gate, *up = job->ws->up;
    size_t n = job->f->gate.mat.n, col = begin * FS_PANEL, cols = (end * FS_PANEL < n ? end * FS_PANEL : n) - col;

    fs_linear_panels(job->net, job->ws, &job->f->gate, begin, end, fs_linear_panel(&job->f->up, begin), &job->ws->in, 0, job->m, gate, n, thread);
    fs_linear_panels(job->net, job->ws, &job->f->up, begin, end, NULL, &job->ws->in, 0, job->m, up, n, thread);
    fs_lora_up(job->net, job->ws, &job->f->gate, begin, end, fs_lora_slot(job->net, job->ws, 0), job->m, gate, n, thread);
    fs_lora_up(job->net, job->ws, &job->f->up, begin, end, fs_lora_slot(job->net, job->ws, 1), job->m, up, n, thread);
    for (size_t t = 0; t < job->m; t++) {
        if (job->kept)
            fs_keep_gate_up(job->ws, t, job->kept->gate, job->kept->up, gate + t * n, up + t * n, col, cols);
        job->net->kernels->rows.swiglu(gate + t * n + col, up + t * n + col, gate + t * n + col, cols);
    }
    fs_input_quantize_for(job->net, &job->f->down, &job->mid, 0, job->m, col, col + cols);
}

void fs_ffn_run(fs_network *net, fs_workspace *ws, const fs_ffn *f, size_t m, float *y, const fs_layer_activations *kept)
{
    size_t n = f->gate.mat.n, n_panels = fs_mat_panels(&f->gate.mat);
    struct ffn_job job = { net, ws, f, fs_input_make(ws->gate, n, ws->gate_codes, n, fs_linear_takes(&f->down)), m, kept };
    struct lora_job lora = { .net = net, .ws = ws, .linears = { &f->gate, &f->up }, .n_linears = 2, .x = ws->in.x, .ldx = ws->in.ldx };
    fs_product down = { &f->down, y, net->config->hidden_size };

    lora_region(&lora, m);
    fs_importance_see(net->options.importance, net->pool, f->gate.input, 0, ws->in.x, ws->in.ldx, m);
    fs_importance_see(net->options.importance, net->pool, f->up.input, 0, ws->in.x, ws->in.ldx, m);
    fs_pool_for(net->pool, n_panels, fs_block_grain(net, n_panels, fs_down_align(&f->down)), gate_up_piece, &job);
    fs_products_run_in(net, ws, &down, 1, &job.mid, m);
}
