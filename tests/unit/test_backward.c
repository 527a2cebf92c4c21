/* The backward of each part of a layer by itself, against central differences of the same part in binary64: rope and attention of
 * grouped queries and of latent rows (there not absorbed: keys and values are made of the latent), the router with its groups
 * and its balance loss, the experts, the dense feed-forward, the loss and the embedding. Which experts a token goes to is the
 * kernels' choice, and has no gradient. Run from the tree's root. */
#include "bed.h"

#include "train/internal.h"

#include <math.h>

#define SPANS_MAX 2

/* L = sum of dy * y (and the balance loss), of weights and input in binary64. */
struct ref {
    fs_trainer *t;
    fs_train_layer *l;
    const float *dy; /* [T, D] */
    double *w;       /* as the parameters' masters */
    double *x;       /* [T, D] the input */
    const float *slopes; /* [T] of the loss */
};
typedef double part_fn(const struct ref *r);

static uint32_t seed;

static double uniform(void) /* in [-1, 1) */
{
    seed = seed * 1664525 + 1013904223;
    return (double)(seed >> 8) / (1 << 23) - 1;
}

static double *doubles(size_t n)
{
    return calloc(n, sizeof(double));
}

static const double *weights_of(const struct ref *r, const fs_param *p)
{
    return r->w + p->offset;
}

/* y [m, n] = x W^T (+ bias), of the operand's rows. */
static void product(const struct ref *r, const fs_operand *o, const fs_param *bias, const double *x, size_t ldx, size_t m, double *y, size_t ldy)
{
    const double *w = weights_of(r, o->p) + (size_t)o->row0 * o->k;

    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < o->n; j++) {
            double sum = bias ? weights_of(r, bias)[j] : 0;
            for (size_t c = 0; c < o->k; c++)
                sum += w[j * o->k + c] * x[i * ldx + c];
            y[i * ldy + j] = sum;
        }
}

static double *linear(const struct ref *r, const fs_lin *l, const double *x, size_t m)
{
    double *y = doubles(m * l->w.n);

    product(r, &l->w, l->bias, x, l->w.k, m, y, l->w.n);
    return y;
}

static void norm(const struct ref *r, const fs_param *p, double eps, double *x, size_t n)
{
    double squares = 0;

    for (size_t i = 0; i < n; i++)
        squares += x[i] * x[i];
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] / sqrt(squares / (double)n + eps) * weights_of(r, p)[i];
}

/* Pairs are (2i, 2i + 1), or (i, i + dim / 2) of halves. */
static void rotate(const struct ref *r, uint32_t position, double *x, bool halves)
{
    uint32_t dim = r->t->rope.dim;
    const float *cs = r->t->cs + (size_t)position * dim;

    for (uint32_t i = 0; i < dim / 2; i++) {
        double *a = x + (halves ? i : 2 * i), *b = x + (halves ? i + dim / 2 : 2 * i + 1), was = *a;
        *a = was * (double)cs[2 * i] - *b * (double)cs[2 * i + 1];
        *b = *b * (double)cs[2 * i] + was * (double)cs[2 * i + 1];
    }
}

/* o [T, H, vd] of q [T, H, kd], k [T, KV, kd], v [T, KV, vd]. */
static double *attend(const struct ref *r, size_t n_heads, size_t n_kv, size_t kd, size_t vd, const double *q, const double *k, const double *v)
{
    double *o = doubles(r->t->n_tokens * n_heads * vd), p[512];

    for (uint32_t s = 0; s < r->t->n_spans; s++)
        for (size_t i = r->t->spans[s].token0, first = i; i < first + r->t->spans[s].n; i++)
            for (size_t h = 0; h < n_heads; h++) {
                const double *of_q = q + (i * n_heads + h) * kd;
                size_t kv = h / (n_heads / n_kv);
                double sum = 0;
                for (size_t j = first; j <= i; j++) {
                    double score = 0;
                    for (size_t c = 0; c < kd; c++)
                        score += of_q[c] * k[(j * n_kv + kv) * kd + c];
                    sum += p[j - first] = exp(score * (double)r->t->softmax_scale);
                }
                for (size_t j = first; j <= i; j++)
                    for (size_t c = 0; c < vd; c++)
                        o[(i * n_heads + h) * vd + c] += p[j - first] / sum * v[(j * n_kv + kv) * vd + c];
            }
    return o;
}

static double against_dy(const struct ref *r, double *y)
{
    double sum = 0;

    for (size_t i = 0; i < r->t->n_tokens * r->t->config->hidden_size; i++)
        sum += y[i] * (double)r->dy[i];
    free(y);
    return sum;
}

/* The norm of heads, where there is one, and rope: rows [T, n_heads, head_dim]. */
static void turn(const struct ref *r, const fs_param *of_heads, double *rows, size_t n_heads)
{
    size_t hd = r->t->config->head_dim;

    for (size_t i = 0; i < r->t->n_tokens * n_heads; i++) {
        if (of_heads)
            norm(r, of_heads, (double)r->t->norm_eps, rows + i * hd, hd);
        rotate(r, r->t->positions[i / n_heads], rows + i * hd, true);
    }
}

static double gqa(const struct ref *r)
{
    const fs_config *c = r->t->config;
    size_t m = r->t->n_tokens, hd = c->head_dim, heads = c->num_attention_heads, kv = c->num_key_value_heads;
    double *q = linear(r, &r->l->q, r->x, m), *k = linear(r, &r->l->k, r->x, m), *v = linear(r, &r->l->v, r->x, m), *o, *y;

    turn(r, r->l->q_norm, q, heads);
    turn(r, r->l->k_norm, k, kv);
    o = attend(r, heads, kv, hd, hd, q, k, v);
    y = linear(r, &r->l->o, o, m);
    free(q);
    free(k);
    free(v);
    free(o);
    return against_dy(r, y);
}

static double latent(const struct ref *r)
{
    const fs_config *c = r->t->config;
    size_t m = r->t->n_tokens, heads = c->num_attention_heads, nope = c->qk_nope_head_dim, rope = c->qk_rope_head_dim, lora = c->kv_lora_rank;
    size_t kd = nope + rope, vd = c->v_head_dim;
    double *q_in = NULL, *q, *raw = linear(r, &r->l->kv_a, r->x, m), *k = doubles(m * heads * kd), *v = doubles(m * heads * vd), *o, *y;

    if (c->q_lora_rank) {
        q_in = linear(r, &r->l->q_a, r->x, m);
        for (size_t i = 0; i < m; i++)
            norm(r, r->l->q_a_norm, 1e-6, q_in + i * c->q_lora_rank, c->q_lora_rank);
    }
    q = linear(r, &r->l->q, q_in ? q_in : r->x, m);
    for (size_t i = 0; i < m; i++) {
        double *row = raw + i * (lora + rope);
        norm(r, r->l->kv_a_norm, 1e-6, row, lora);
        rotate(r, r->t->positions[i], row + lora, false);
        for (size_t h = 0; h < heads; h++) {
            rotate(r, r->t->positions[i], q + (i * heads + h) * kd + nope, false);
            product(r, &r->l->uk[h], NULL, row, 0, 1, k + (i * heads + h) * kd, 0);
            memcpy(k + (i * heads + h) * kd + nope, row + lora, rope * sizeof *k);
            product(r, &r->l->uv[h], NULL, row, 0, 1, v + (i * heads + h) * vd, 0);
        }
    }
    o = attend(r, heads, heads, kd, vd, q, k, v);
    y = linear(r, &r->l->o, o, m);
    free(q_in);
    free(q);
    free(raw);
    free(k);
    free(v);
    free(o);
    return against_dy(r, y);
}

/* y [m, D] += weight * the feed-forward's. */
static void add_ffn(const struct ref *r, const fs_lin_ffn *f, const double *x, size_t m, double weight, double *y)
{
    double *gate = linear(r, &f->gate, x, m), *up = linear(r, &f->up, x, m), *down;

    for (size_t i = 0; i < m * f->gate.w.n; i++)
        gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    down = linear(r, &f->down, gate, m);
    for (size_t i = 0; i < m * f->down.w.n; i++)
        y[i] += weight * down[i];
    free(gate);
    free(up);
    free(down);
}

static double dense(const struct ref *r)
{
    double *y = doubles(r->t->n_tokens * r->t->config->hidden_size);

    add_ffn(r, &r->l->ffn, r->x, r->t->n_tokens, 1, y);
    return against_dy(r, y);
}

/* alpha / sequences * f . P of a sequence; what is chosen, and so f, stays. */
static double balance(const struct ref *r, const double *scores, const fs_span *span)
{
    const fs_config *c = r->t->config;
    size_t n = c->n_routed_experts, k = c->num_experts_per_tok;
    double sum = 0;

    for (size_t e = 0; e < n; e++) {
        double chosen = 0, share = 0;
        for (size_t i = span->token0; i < span->token0 + span->n; i++) {
            double total = 0;
            for (size_t j = 0; j < n; j++)
                total += scores[i * n + j];
            share += scores[i * n + e] / total;
            for (size_t j = 0; j < k; j++)
                chosen += r->l->kept.top_ids[i * k + j] == (int32_t)e;
        }
        sum += chosen * (double)n / (double)(k * span->n) * share / span->n;
    }
    return r->t->options.balance_weight / (double)r->t->totals.n_sequences * sum;
}

static double experts(const struct ref *r)
{
    const fs_config *c = r->t->config;
    size_t m = r->t->n_tokens, d = c->hidden_size, n = c->n_routed_experts, k = c->num_experts_per_tok;
    bool v3 = c->topk_method == FS_TOPK_NOAUX_TC;
    double *scores = linear(r, &r->l->router, r->x, m), *y = doubles(m * d), sum = 0;

    for (size_t i = 0; i < m; i++) {
        double *s = scores + i * n, total = 0, chosen = 0;
        const int32_t *ids = r->l->kept.top_ids + i * k;
        for (size_t e = 0; e < n; e++)
            total += exp(s[e]);
        for (size_t e = 0; e < n; e++)
            s[e] = c->scoring_func == FS_SCORING_SIGMOID ? 1 / (1 + exp(-s[e])) : exp(s[e]) / total;
        for (size_t j = 0; j < k; j++)
            chosen += s[ids[j]];
        for (size_t j = 0; j < k; j++)
            add_ffn(r, &r->l->experts[ids[j]], r->x + i * d, 1, s[ids[j]] / (c->norm_topk_prob ? chosen : 1) * (c->norm_topk_prob && !v3 ? 1 : c->routed_scaling_factor),
                    y + i * d);
    }
    if (r->l->has_shared)
        add_ffn(r, &r->l->ffn, r->x, m, 1, y);
    for (uint32_t s = 0; s < r->t->n_spans; s++)
        sum += balance(r, scores, &r->t->spans[s]);
    free(scores);
    return sum + against_dy(r, y);
}

static double loss(const struct ref *r)
{
    size_t m = r->t->n_tokens, v = r->t->config->vocab_size;
    double *z = linear(r, &r->t->head, r->x, m), sum = 0;

    for (size_t i = 0; i < m; i++) {
        double all = 0;
        if (r->t->targets[i] < 0)
            continue;
        for (size_t j = 0; j < v; j++)
            all += exp(z[i * v + j]);
        sum += (double)r->slopes[i] * (log(all) - z[i * v + (size_t)r->t->targets[i]]);
    }
    free(z);
    return sum;
}

static double embedding(const struct ref *r)
{
    size_t d = r->t->config->hidden_size;
    double *y = doubles(r->t->n_tokens * d);

    for (size_t i = 0; i < r->t->n_tokens; i++)
        memcpy(y + i * d, weights_of(r, r->t->embed) + (size_t)r->t->ids[i] * d, d * sizeof *y);
    return against_dy(r, y);
}

/* ---- against what the kernels say ---- */
/* n_probes of got [n], at random, where from [n] stands. */
static int assert_probes(const struct ref *r, part_fn *f, double *from, const float *got, size_t n, int n_probes, const char *what, const char *name)
{
    double squares = 0;
    int seen = 0;

    for (size_t i = 0; i < n; i++)
        squares += (double)got[i] * (double)got[i];
    for (int probe = 0; probe < n_probes; probe++) {
        size_t i = (size_t)((uniform() + 1) / 2 * (double)n), tries = 0;
        double up, down, kept, want;
        if (probe % 4) /* of experts and rows that are not met few are tried */
            while (got[i] == 0 && tries++ < n)
                i = (i + 1) % n;
        kept = from[i];
        from[i] = kept + 1e-4;
        up = f(r);
        from[i] = kept - 1e-4;
        down = f(r);
        from[i] = kept;
        want = (up - down) / 2e-4;
        if (fabs((double)got[i] - want) > 1e-5 * (fabs(want) + sqrt(squares / (double)n)) + 1e-7)
            fail_msg("%s: %s[%zu]: the gradient is %.9g, the loss moves by %.9g", what, name, i, (double)got[i], want);
        seen += want != 0;
    }
    return seen;
}

/* Every parameter whose name begins with prefix, and the input where it has a gradient. */
static void assert_part(struct ref *r, part_fn *f, const float *dx, const char *prefix, int n_probes, const char *what)
{
    fs_params *p = fs_trainer_params(r->t);
    int seen = 0;

    if (dx)
        seen += assert_probes(r, f, r->x, dx, r->t->n_tokens * r->t->config->hidden_size, 4 * n_probes, what, "input");
    for (size_t i = 0; i < p->n; i++)
        if (p->items[i].g && strncmp(p->items[i].name, prefix, strlen(prefix)) == 0)
            seen += assert_probes(r, f, r->w + p->items[i].offset, p->items[i].g, p->items[i].n, n_probes, what, p->items[i].name);
    if (seen < n_probes / 2)
        fail_msg("%s: %s: %d probes moved the loss", what, prefix, seen);
}

/* A step of two sequences, so that the trainer stands as in one; then gradients are zero. */
static void stand(fs_trainer *t, const uint32_t *lengths)
{
    int32_t ids[512], targets[512];
    fs_train_sequence s[SPANS_MAX] = { 0 };
    fs_train_totals totals = { 0 };
    fs_error err;

    for (uint32_t i = 0, at = 0; i < SPANS_MAX; at += lengths[i++]) {
        s[i] = (fs_train_sequence){ .ids = ids + at, .targets = targets + at, .n = lengths[i], .index = i * 1024 };
        for (uint32_t j = at; j < at + lengths[i]; j++) {
            ids[j] = (int32_t)((uniform() + 1) / 2 * t->config->vocab_size);
            targets[j] = j % 5 == 3 ? -1 : (int32_t)((uniform() + 1) / 2 * t->config->vocab_size);
        }
    }
    fs_train_totals_add(&totals, s, SPANS_MAX);
    fs_trainer_begin(t, &totals);
    assert_ok(fs_trainer_run(t, s, SPANS_MAX, &err), err);
    fs_trainer_begin(t, &totals);
}

static void fill(fs_trainer *t, float *x, double *same)
{
    for (size_t i = 0; i < t->n_tokens * t->config->hidden_size; i++) {
        x[i] = (float)uniform();
        if (same)
            same[i] = (double)x[i];
    }
}

static void check_layer(struct ref *r, uint32_t layer, int n_probes, bool attention_only, const char *what)
{
    fs_trainer *t = r->t;
    bool mla = t->config->kv_lora_rank > 0;
    char prefix[64];

    r->l = &t->layers[layer];
    fill(t, t->h, r->x);
    fill(t, t->dx, NULL);
    (mla ? fs_latent_forward : fs_gqa_forward)(t, r->l, t->y);
    (mla ? fs_latent_backward : fs_gqa_backward)(t, r->l, t->dx);
    snprintf(prefix, sizeof prefix, "model.layers.%u.self_attn.", layer);
    assert_part(r, mla ? latent : gqa, t->dh, prefix, n_probes, what);
    if (attention_only)
        return;
    fill(t, t->h, r->x);
    fill(t, t->dx, NULL);
    if (r->l->is_moe) {
        fs_experts_forward(t, r->l, t->y);
        fs_experts_backward(t, r->l, t->dx);
    } else {
        fs_ffn_forward(t, &r->l->ffn, r->l->kept.gate, r->l->kept.up, t->y);
        fs_ffn_backward(t, &r->l->ffn, r->l->kept.gate, r->l->kept.up, t->dx, false);
    }
    snprintf(prefix, sizeof prefix, "model.layers.%u.mlp.", layer);
    assert_part(r, r->l->is_moe ? experts : dense, t->dh, prefix, n_probes, what);
}

static void check_ends(struct ref *r, const char *what)
{
    fs_trainer *t = r->t;
    float slopes[64];
    double sum = 0;
    fs_error err;

    assert_true(t->n_tokens <= 64);
    for (uint32_t i = 0; i < t->n_tokens; i++)
        slopes[i] = (float)uniform();
    r->slopes = slopes;
    fill(t, t->h, r->x);
    assert_ok(fs_loss(t, t->h, t->targets, slopes, 0, t->nll, &sum, t->dh, t->head.w.p->g, &t->head.low, &err), err);
    assert_part(r, loss, t->dh, t->head.w.p->name, 24, what);
    memset(t->embed->g, 0, t->embed->n * sizeof *t->embed->g);
    fill(t, t->dx, NULL);
    fs_embed_backward(t, t->ids, t->dx, t->config->hidden_size, t->embed->g);
    assert_part(r, embedding, NULL, t->embed->name, 24, what);
}

struct part_case {
    const char *fixture;
    uint32_t lengths[SPANS_MAX];
    int n_probes;
    bool normalised; /* with norm_topk_prob, which its config has not */
};

static void check_case(const struct part_case *c)
{
    uint32_t n = c->lengths[0] + c->lengths[1];
    fs_trainer_options o = { .balance_weight = 3, .tokens_max = 512, .sequences_max = SPANS_MAX };
    fs_config changed;
    struct bed b;
    struct ref r;
    fs_params *p;
    fs_error err;

    assert_ok(open_bed(&b, c->fixture, 2, fs_isa_detect(), o, &err), err);
    if (c->normalised) {
        changed = *b.t->config;
        changed.norm_topk_prob = true;
        b.t->config = &changed;
    }
    seed = 5;
    p = fs_trainer_params(b.t);
    stand(b.t, c->lengths);
    r = (struct ref){ .t = b.t, .dy = b.t->dx, .w = doubles(p->n_floats), .x = doubles(n * b.t->config->hidden_size) };
    for (size_t i = 0; i < p->n_floats; i++)
        r.w[i] = (double)p->w[i];
    for (uint32_t i = 0; i < b.t->config->num_hidden_layers; i += 1 + (n > 64)) /* of layers with long rows the first */
        check_layer(&r, i, c->n_probes, n > 64, c->fixture);
    if (n <= 64)
        check_ends(&r, c->fixture);
    free(r.w);
    free(r.x);
    close_bed(&b);
}

static void backward_equals_central_differences(void **state)
{
    static const struct part_case cases[] = {
        { "ds_v3", { 9, 14 }, 12, false },       { "ds_v2_lite", { 13, 6 }, 12, false }, { "ds_v2_lite", { 7, 8 }, 12, true },
        { "ds_v2_group", { 17, 3 }, 12, false }, { "deepseek_moe", { 9, 8 }, 12, false }, { "qwen2", { 9, 14 }, 12, false },
        { "qwen3", { 12, 5 }, 12, false },       { "llama3", { 9, 9 }, 12, false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_case(&cases[i]);
}

/* More than a block of keys. */
static void long_rows_too(void **state)
{
    static const struct part_case cases[] = { { "ds_v3", { 290, 30 }, 3, false }, { "qwen2", { 3, 300 }, 3, false } };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_case(&cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backward_equals_central_differences),
        cmocka_unit_test(long_rows_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
