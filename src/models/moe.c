/* Mixture of experts: routing by RN1 section 5, then tokens grouped by expert so that each expert's weights are read
 * once a step. Gate, up and SwiGLU of all experts are one region of the pool, all down products a second, the weighted
 * sum a third: no barrier an expert. The shared expert takes part as one more. Experts that are streamed (experts.h) come
 * in waves, each of those that are in memory by then; the first has the shared expert. */
#include "models/experts.h"
#include "models/route.h"

#include <string.h>

/* ---- routing ---- */
struct route_job {
    fs_network *net;
    fs_workspace *ws;
    const fs_moe *moe;
    int32_t *ids;   /* [T, k] */
    float *weights; /* [T, k]; NULL: only a guess */
    const fs_layer_activations *kept; /* NULL: nothing is */
};

static void keep_route(const struct route_job *job, float *row, const float *s, const int32_t *ids, const float *weights)
{
    uint32_t n = job->net->config->n_routed_experts, k = job->net->config->num_experts_per_tok;

    memcpy(row + job->kept->scores, s, n * sizeof *s);
    memcpy(row + job->kept->top_ids, ids, k * sizeof *ids);
    memcpy(row + job->kept->top_weights, weights, k * sizeof *weights);
}

static void route_token(const struct route_job *job, size_t t, int thread)
{
    const fs_config *c = job->net->config;
    const fs_rows_kernels *rows = &job->net->kernels->rows;
    uint32_t n = c->n_routed_experts, k = c->num_experts_per_tok;
    float *s = job->ws->router + t * n;
    int32_t *ids = job->ids + t * k;

    fs_route_scores(c, rows, s);
    if (job->moe->token_experts)
        memcpy(ids, job->moe->token_experts + (size_t)job->ws->ids[t] * k, k * sizeof *ids);
    else
        fs_route_choose(c, rows, s, job->moe->correction_bias, ids, job->ws->biased + (size_t)thread * 2 * n);
    if (job->weights)
        fs_route_weigh(c, s, ids, job->weights + t * k);
    if (job->kept && job->ws->kept[t])
        keep_route(job, job->ws->kept[t], s, ids, job->weights + t * k);
}

static void route_piece(void *ud, size_t begin, size_t end, int thread)
{
    for (size_t t = begin; t < end; t++)
        route_token(ud, t, thread);
}

/* Counts rows an expert and gives every (token, expert) its row: experts ascending, tokens ascending within. */
static void group_tokens(const fs_network *net, fs_workspace *ws, size_t m)
{
    uint32_t n = net->config->n_routed_experts, k = net->config->num_experts_per_tok, *begin = ws->expert_begin;

    memset(begin, 0, (n + 1) * sizeof *begin);
    for (size_t i = 0; i < m * k; i++)
        begin[ws->top_ids[i] + 1]++;
    ws->n_active = 0;
    for (uint32_t e = 0; e < n; e++) {
        if (begin[e + 1])
            ws->active[ws->n_active++] = e;
        begin[e + 1] += begin[e];
    }
    for (size_t i = 0; i < m * k; i++)
        ws->slot[i] = begin[ws->top_ids[i]]++;
    for (size_t i = 0; ws->keeps && i < m * k; i++)
        ws->slot_of_row[ws->slot[i]] = (uint32_t)i;
    for (uint32_t e = n; e > 0; e--) /* the walk above moved every start to its end */
        begin[e] = begin[e - 1];
    begin[0] = 0;
}

/* ---- experts ---- */
struct experts_job {
    fs_network *net;
    fs_workspace *ws;
    const fs_moe *moe;
    float *y;
    size_t m;
    fs_input in;              /* of the routed experts: rows by expert, or the one row of all */
    fs_input mid, shared_mid; /* inputs of down */
    const uint32_t *routed;
    uint32_t n_routed, pieces, shared_pieces; /* items: n_routed * pieces, and the shared expert's among them */
    size_t n_items;
    bool shared, down;
    const fs_layer_activations *kept; /* NULL: nothing is */
};

/* What item i works on: an expert, its rows, and a range of panels. */
struct expert_item {
    const fs_ffn *f;
    const fs_input *in, *mid;
    size_t in_row, mid_row; /* its first row in each; mid_row also in the slots of ws->lora */
    float *gate, *up, *out;
    size_t m, panel_begin, panel_end;
    int slot; /* of ws->lora: gate's (and down's); up's is the next */
};

/* Panels of one piece are cut here: whole blocks of down's input, and as many as a product of f32 takes side by side. */
#define UNIT_PANELS 8
static size_t unit_panels(const struct experts_job *job, const fs_ffn *f)
{
    size_t align = job->down ? 1 : fs_down_align(&f->down);
    bool codes = job->down ? f->down.mat.codes : f->gate.mat.codes && f->up.mat.codes;

    return codes || align % UNIT_PANELS == 0 ? align : align * UNIT_PANELS;
}

/* How many of the items before i are the shared expert's. It has every row and computes, while a routed one with few rows waits for memory:
 * its pieces stand evenly among the others, so that threads seldom do the same, and while they are the fewer none stands last, where the other threads would wait for it. */
static size_t shared_before(const struct experts_job *job, size_t i)
{
    return (i * job->shared_pieces + job->n_items / 2) / job->n_items;
}

static struct expert_item item_at(const struct experts_job *job, size_t i)
{
    const fs_workspace *ws = job->ws;
    size_t d = job->net->config->hidden_size, piece, pieces, n_panels, unit, n_units, n_shared = shared_before(job, i);
    struct expert_item it;

    if (shared_before(job, i + 1) == n_shared) {
        size_t routed = i - n_shared;
        uint32_t e = job->routed[routed / job->pieces];
        size_t row = ws->expert_begin[e], width = job->net->config->moe_intermediate_size;
        it = (struct expert_item){ .f = &job->moe->experts[e], .in = &job->in, .in_row = job->m == 1 ? 0 : row, .mid = &job->mid,
                                   .mid_row = row, .gate = ws->gate + row * width, .up = ws->up + row * width,
                                   .out = ws->expert_out + row * d, .m = ws->expert_begin[e + 1] - row, .slot = 0 };
        piece = routed % job->pieces;
        pieces = job->pieces;
    } else {
        it = (struct expert_item){ .f = &job->moe->shared, .in = &ws->in, .mid = &job->shared_mid, .gate = ws->shared_gate,
                                   .up = ws->shared_up, .out = ws->shared_out, .m = job->m, .slot = 2 };
        piece = n_shared;
        pieces = job->shared_pieces;
    }
    n_panels = fs_mat_panels(job->down ? &it.f->down.mat : &it.f->gate.mat);
    unit = unit_panels(job, it.f);
    n_units = (n_panels + unit - 1) / unit;
    it.panel_begin = n_units * piece / pieces * unit;
    it.panel_end = n_units * (piece + 1) / pieces * unit;
    if (it.panel_end > n_panels)
        it.panel_end = n_panels;
    return it;
}

static float *lora_rows(const struct experts_job *job, const struct expert_item *it, int slot)
{
    float *all = fs_lora_slot(job->net, job->ws, slot);

    return all ? all + it->mid_row * job->net->lora_rank : NULL;
}

/* A x of an adapter, an expert an item (pieces are 1). */
static void lora_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct experts_job *job = ud;

    for (size_t i = begin; i < end; i++) {
        struct expert_item it = item_at(job, i);
        const float *x = it.in->x + it.in_row * it.in->ldx;
        if (job->down) {
            fs_lora_down(job->net, job->ws, &it.f->down, it.gate, it.f->gate.mat.n, it.m, lora_rows(job, &it, it.slot), thread);
            continue;
        }
        fs_lora_down(job->net, job->ws, &it.f->gate, x, it.in->ldx, it.m, lora_rows(job, &it, it.slot), thread);
        fs_lora_down(job->net, job->ws, &it.f->up, x, it.in->ldx, it.m, lora_rows(job, &it, it.slot + 1), thread);
    }
}

/* V4: gate at most limit, up within it on both sides; a NaN stays. */
static void clamp(float *gate, float *up, float limit, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        gate[i] = gate[i] > limit ? limit : gate[i];
        up[i] = up[i] > limit ? limit : up[i] < -limit ? -limit : up[i];
    }
}

/* The hardware fetches a stream ahead once it has seen it begin: the first bytes of the next codes are asked for here. */
#define FETCH_BYTES 4096
static void fetch(const fs_linear *l, const uint8_t *panels)
{
    for (size_t i = 0; l->mat.codes && panels && i < FETCH_BYTES; i += 64)
        __builtin_prefetch((const void *)((uintptr_t)panels + i), 0, 2);
}

/* Where the item begins that this thread is likely to take next; NULL: there is none, or it is where the file has it. */
static const uint8_t *next_panels(const struct experts_job *job, size_t i)
{
    size_t next = i + (size_t)fs_pool_threads(job->net->pool);
    struct expert_item it;

    if (next >= job->n_items)
        return NULL;
    it = item_at(job, next);
    return fs_linear_panel(job->down ? &it.f->down : &it.f->gate, it.panel_begin);
}

static void down_item(const struct experts_job *job, const struct expert_item *it, size_t i, int thread)
{
    size_t d = job->net->config->hidden_size;
    const uint8_t *next = next_panels(job, i);

    fetch(&it->f->down, next);
    fs_linear_panels(job->net, job->ws, &it->f->down, it->panel_begin, it->panel_end, next, it->mid, it->mid_row, it->m, it->out, d, thread);
    fs_lora_up(job->net, job->ws, &it->f->down, it->panel_begin, it->panel_end, lora_rows(job, it, it->slot), it->m, it->out, d, thread);
}

/* Gate and up of the item's row t, of whatever token it is, before SwiGLU. */
static void keep_row(const struct experts_job *job, const struct expert_item *it, size_t t, size_t col, size_t cols)
{
    size_t n = it->f->gate.mat.n, k = job->net->config->num_experts_per_tok, i;
    const float *gate = it->gate + t * n, *up = it->up + t * n;

    if (it->f == &job->moe->shared) {
        fs_keep_gate_up(job->ws, t, job->kept->gate, job->kept->up, gate, up, col, cols);
        return;
    }
    i = job->ws->slot_of_row[it->mid_row + t];
    fs_keep_gate_up(job->ws, i / k, job->kept->expert_gate + i % k * n, job->kept->expert_up + i % k * n, gate, up, col, cols);
}

static void gate_up_item(const struct experts_job *job, const struct expert_item *it, size_t i, int thread)
{
    fs_network *net = job->net;
    size_t n = it->f->gate.mat.n, p0 = it->panel_begin, p1 = it->panel_end, col = p0 * FS_PANEL;
    size_t cols = p1 * FS_PANEL < n ? p1 * FS_PANEL - col : n - col;
    float limit = (float)net->config->swiglu_limit;
    const uint8_t *up = fs_linear_panel(&it->f->up, p0), *next = next_panels(job, i);

    fetch(&it->f->up, up);
    fs_linear_panels(net, job->ws, &it->f->gate, p0, p1, up, it->in, it->in_row, it->m, it->gate, n, thread);
    fetch(&it->f->gate, next);
    fs_linear_panels(net, job->ws, &it->f->up, p0, p1, next, it->in, it->in_row, it->m, it->up, n, thread);
    fs_lora_up(net, job->ws, &it->f->gate, p0, p1, lora_rows(job, it, it->slot), it->m, it->gate, n, thread);
    fs_lora_up(net, job->ws, &it->f->up, p0, p1, lora_rows(job, it, it->slot + 1), it->m, it->up, n, thread);
    for (size_t t = 0; t < it->m; t++) {
        if (job->kept)
            keep_row(job, it, t, col, cols);
        if (limit > 0)
            clamp(it->gate + t * n + col, it->up + t * n + col, limit, cols);
        net->kernels->rows.swiglu(it->gate + t * n + col, it->up + t * n + col, it->gate + t * n + col, cols);
    }
    fs_input_quantize_for(net, &it->f->down, it->mid, it->mid_row, it->m, col, col + cols);
}

static void experts_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct experts_job *job = ud;

    for (size_t i = begin; i < end; i++) {
        struct expert_item it = item_at(job, i);
        if (it.panel_begin == it.panel_end)
            continue;
        if (job->down)
            down_item(job, &it, i, thread);
        else
            gate_up_item(job, &it, i, thread);
    }
}

/* Pieces of an expert: each about as many bytes of weights, so that the threads end together; values are read more slowly than codes. */
#define PIECE_BYTES ((size_t)96 << 10)
#define PIECE_CODES ((size_t)224 << 10)
static uint32_t pieces_of(const struct experts_job *job, const fs_ffn *f)
{
    const fs_mat *m = job->down ? &f->down.mat : &f->gate.mat;
    size_t unit = unit_panels(job, f), n_units = (fs_mat_panels(m) + unit - 1) / unit;
    size_t want = fs_mat_panels(m) * m->panel_bytes * (job->down ? 1 : 2) / (m->codes ? PIECE_CODES : PIECE_BYTES);

    return (uint32_t)(want < 1 ? 1 : want < n_units ? want : n_units);
}

static void run_experts(struct experts_job *job, bool down)
{
    job->down = down;
    job->pieces = 1;
    job->shared_pieces = job->shared;
    job->n_items = job->n_routed + (size_t)job->shared;
    if (job->net->lora_rank)
        fs_pool_for(job->net->pool, job->n_items, 1, lora_piece, job);
    job->pieces = pieces_of(job, &job->moe->experts[0]);
    job->shared_pieces = job->shared ? pieces_of(job, &job->moe->shared) : 0;
    job->n_items = (size_t)job->n_routed * job->pieces + job->shared_pieces;
    fs_pool_for(job->net->pool, job->n_items, 1, experts_piece, job);
}

static void gather_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct experts_job *job = ud;
    const fs_input *from = &job->ws->in, *to = &job->in;
    size_t d = job->net->config->hidden_size, k = job->net->config->num_experts_per_tok;

    (void)thread;
    for (size_t t = begin; t < end; t++)
        for (size_t i = 0; i < k; i++) {
            size_t row = job->ws->slot[t * k + i];
            if (job->moe->experts_take & FS_TAKES_F32)
                memcpy(job->ws->gathered + row * d, from->x + t * d, d * sizeof(float));
            if (to->codes.data)
                memcpy(fs_quants_row(&to->codes, row), fs_quants_row(&from->codes, t), to->codes.row_bytes);
        }
}

static void combine_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct experts_job *job = ud;
    const fs_rows_kernels *rows = &job->net->kernels->rows;
    size_t d = job->net->config->hidden_size, k = job->net->config->num_experts_per_tok;

    (void)thread;
    for (size_t t = begin; t < end; t++) {
        float *y = job->y + t * d;
        memset(y, 0, d * sizeof *y);
        for (size_t i = 0; i < k; i++)
            rows->axpy(job->ws->top_weights[t * k + i], job->ws->expert_out + (size_t)job->ws->slot[t * k + i] * d, y, d);
        if (job->moe->has_shared)
            rows->add(y, job->ws->shared_out + t * d, y, d);
    }
}

/* ---- experts that are streamed ---- */
/* Guesses read ahead: enough for the disk while a layer begins; more would push out what later layers want. */
#define GUESS_MAX 16

/* The layer's input is near the next one's: experts that the next router would choose for it, most wanted first. scratch
 * [m, D]. ws->router is free. */
static void look_ahead(fs_network *net, fs_workspace *ws, const fs_moe *next, const float *next_norm, size_t m, float *scratch)
{
    const fs_config *c = net->config;
    uint32_t n = 0, k = c->num_experts_per_tok, n_max = k < GUESS_MAX ? GUESS_MAX : k, *votes = ws->votes;
    struct route_job route = { net, ws, next, ws->guess_ids, NULL, NULL };
    fs_product router = { &next->router, ws->router, c->n_routed_experts };
    fs_input in = { .x = ws->in.x, .ldx = ws->in.ldx };

    if (next_norm) {
        fs_norm_rows(net, ws->x, c->hidden_size, next_norm, c->rms_norm_eps, scratch, c->hidden_size, c->hidden_size, m);
        in = (fs_input){ .x = scratch, .ldx = c->hidden_size };
    }
    fs_products_run_in(net, ws, &router, 1, &in, m);
    fs_pool_for(net->pool, m, fs_row_grain(net, m), route_piece, &route);
    memset(votes, 0, c->n_routed_experts * sizeof *votes);
    for (size_t i = 0; i < m * k; i++) {
        const int32_t *ids = ws->guess_ids + i / k * k;
        const float *s = ws->router + i / k * c->n_routed_experts;
        for (uint32_t j = 0; j < k; j++) /* a vote for each that it is not behind */
            votes[ws->guess_ids[i]] += s[ws->guess_ids[i]] >= s[ids[j]];
    }
    for (uint32_t e = 0; e < c->n_routed_experts; e++) { /* insertion, votes descending */
        uint32_t j;
        if (!votes[e] || (n == n_max && votes[ws->guess[n - 1]] >= votes[e]))
            continue;
        n += n < n_max;
        for (j = n - 1; j > 0 && votes[ws->guess[j - 1]] < votes[e]; j--)
            ws->guess[j] = ws->guess[j - 1];
        ws->guess[j] = e;
    }
    fs_experts_ahead(net->experts, next->layer, ws->guess, n);
}

static void run_waves(struct experts_job *job)
{
    fs_experts *x = job->net->experts;
    uint32_t *ready = job->ws->ready;

    job->shared = job->moe->has_shared;
    job->routed = ready;
    while ((job->n_routed = fs_experts_take(x, !job->shared, ready)) || job->shared) {
        run_experts(job, false);
        run_experts(job, true);
        job->shared = false;
    }
}

/* What the experts were given; all of it still stands where they read it. */
static void see_inputs(const struct experts_job *job)
{
    fs_network *net = job->net;
    const fs_workspace *ws = job->ws;
    const fs_moe *moe = job->moe;
    fs_importance *imp = net->options.importance;
    size_t d = net->config->hidden_size, width = net->config->moe_intermediate_size;

    fs_importance_see_groups(imp, net->pool, moe->input, ws->active, ws->n_active, ws->expert_begin, job->in.x, d, job->m == 1);
    fs_importance_see_groups(imp, net->pool, moe->mid, ws->active, ws->n_active, ws->expert_begin, ws->gate, width, false);
    if (!moe->has_shared)
        return;
    fs_importance_see(imp, net->pool, moe->shared.gate.input, 0, ws->in.x, d, job->m);
    fs_importance_see(imp, net->pool, moe->shared.up.input, 0, ws->in.x, d, job->m);
    fs_importance_see(imp, net->pool, moe->shared.down.input, 0, ws->shared_gate, width * net->config->n_shared_experts, job->m);
}

void fs_moe_run(fs_network *net, fs_workspace *ws, const fs_moe *moe, size_t m, float *y, const fs_layer_activations *kept)
{
    size_t d = net->config->hidden_size, width = net->config->moe_intermediate_size, shared = width * net->config->n_shared_experts;
    struct route_job route = { net, ws, moe, ws->top_ids, ws->top_weights, kept };
    struct experts_job job = { .net = net, .ws = ws, .kept = kept, .moe = moe, .y = y, .m = m, .routed = ws->active, .shared = moe->has_shared };
    fs_product router = { &moe->router, ws->router, net->config->n_routed_experts };

    fs_products_run_in(net, ws, &router, 1, &ws->in, m);
    fs_pool_for(net->pool, m, fs_row_grain(net, m), route_piece, &route);
    group_tokens(net, ws, m);
    if (net->experts) {
        fs_experts_want(net->experts, moe->layer, ws->active, ws->n_active, ws->expert_begin, m);
        if (moe->next)
            look_ahead(net, ws, moe->next, moe->next_norm, m, y);
    } else {
        fs_stored_experts(net, moe, ws->active, ws->n_active, m);
    }
    job.n_routed = ws->n_active;
    job.in = ws->in; /* one row is every expert's */
    if (m > 1) {
        job.in = fs_input_make(ws->gathered, d, ws->gathered_codes, d, moe->experts_take);
        fs_pool_for(net->pool, m, fs_row_grain(net, m), gather_piece, &job);
    }
    job.mid = fs_input_make(ws->gate, width, ws->gate_codes, width, moe->downs_take);
    if (moe->has_shared)
        job.shared_mid = fs_input_make(ws->shared_gate, shared, ws->stage, shared, fs_linear_takes(&moe->shared.down));
    if (net->experts) {
        run_waves(&job);
    } else {
        run_experts(&job, false);
        run_experts(&job, true);
    }
    if (net->options.importance)
        see_inputs(&job);
    fs_pool_for(net->pool, m, fs_row_grain(net, m), combine_piece, &job);
}
