/* See the header. */
#include "train/params.h"

#include "base/philox.h"
#include "formats/adapter.h"
#include "kernels/math.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PI        3.14159265358979323846
#define PARAM_NAME_MAX 192

/* ---- the list ---- */
struct list {
    fs_params *p;
    size_t capacity;
    char prefix[64];
    fs_error *err;
    fs_status rc;
};

__attribute__((format(printf, 5, 6))) static fs_param *add(struct list *l, int n_dims, uint32_t rows, uint32_t cols, const char *format, ...)
{
    char name[PARAM_NAME_MAX];
    fs_param *item;
    va_list ap;
    int at = snprintf(name, sizeof name, "%s", l->prefix);

    if (l->rc)
        return NULL;
    va_start(ap, format);
    vsnprintf(name + at, sizeof name - (size_t)at, format, ap);
    va_end(ap);
    if (l->p->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 64;
        fs_param *items = realloc(l->p->items, capacity * sizeof *items);
        if (!items) {
            l->rc = fs_fail_memory(l->err, capacity * sizeof *items);
            return NULL;
        }
        l->p->items = items;
        l->capacity = capacity;
    }
    item = &l->p->items[l->p->n];
    *item = (fs_param){ .name = strdup(name), .n_dims = n_dims, .rows = rows, .cols = cols, .lr_scale = 1, .weight_decay = -1 };
    if (!item->name)
        l->rc = fs_fail_memory(l->err, strlen(name));
    else if (!fs_mul_size(rows, cols, &item->n))
        l->rc = fs_fail(l->err, FS_ERR_FORMAT, "tensor '%s' would not fit in the address space", name);
    else
        l->p->n++;
    if (l->rc)
        free(item->name);
    return l->rc ? NULL : item;
}

static void add_linear(struct list *l, uint64_t n, uint64_t k, bool bias, const char *name)
{
    if (n > UINT32_MAX || k > UINT32_MAX)
        l->rc = l->rc ? l->rc : fs_fail(l->err, FS_ERR_FORMAT, "tensor '%s%s' has too many rows or columns", l->prefix, name);
    add(l, 2, (uint32_t)n, (uint32_t)k, "%s.weight", name);
    if (bias)
        add(l, 1, 1, (uint32_t)n, "%s.bias", name);
}

static void add_norm(struct list *l, uint32_t n, const char *name)
{
    add(l, 1, 1, n, "%s.weight", name);
}

static void add_attention(struct list *l, const fs_config *c)
{
    uint64_t d = c->hidden_size, heads = c->num_attention_heads, hd = c->head_dim, kv = (uint64_t)c->num_key_value_heads * hd;
    bool qwen2 = strcmp(c->model_type, "qwen2") == 0, bias = c->attention_bias;

    if (c->kv_lora_rank) {
        uint64_t q_dim = heads * (c->qk_nope_head_dim + c->qk_rope_head_dim);
        if (c->q_lora_rank) {
            add_linear(l, c->q_lora_rank, d, false, "self_attn.q_a_proj");
            add_norm(l, c->q_lora_rank, "self_attn.q_a_layernorm");
            add_linear(l, q_dim, c->q_lora_rank, false, "self_attn.q_b_proj");
        } else {
            add_linear(l, q_dim, d, false, "self_attn.q_proj");
        }
        add_linear(l, (uint64_t)c->kv_lora_rank + c->qk_rope_head_dim, d, false, "self_attn.kv_a_proj_with_mqa");
        add_norm(l, c->kv_lora_rank, "self_attn.kv_a_layernorm");
        add_linear(l, heads * (c->qk_nope_head_dim + c->v_head_dim), c->kv_lora_rank, false, "self_attn.kv_b_proj");
        add_linear(l, d, heads * c->v_head_dim, false, "self_attn.o_proj");
        return;
    }
    add_linear(l, heads * hd, d, qwen2 || bias, "self_attn.q_proj");
    add_linear(l, kv, d, qwen2 || bias, "self_attn.k_proj");
    add_linear(l, kv, d, qwen2 || bias, "self_attn.v_proj");
    add_linear(l, d, heads * hd, !qwen2 && bias, "self_attn.o_proj");
    if (strcmp(c->model_type, "qwen3") == 0) {
        add_norm(l, c->head_dim, "self_attn.q_norm");
        add_norm(l, c->head_dim, "self_attn.k_norm");
    }
}

static void add_ffn(struct list *l, const fs_config *c, uint64_t width, bool bias, const char *name)
{
    static const char *const parts[3] = { "gate_proj", "up_proj", "down_proj" };
    char full[64];

    for (int i = 0; i < 3; i++) {
        snprintf(full, sizeof full, "%s.%s", name, parts[i]);
        add_linear(l, i < 2 ? width : c->hidden_size, i < 2 ? c->hidden_size : width, bias, full);
    }
}

static void add_layer(struct list *l, const fs_config *c, uint32_t index)
{
    char name[32];

    snprintf(l->prefix, sizeof l->prefix, "model.layers.%" PRIu32 ".", index);
    add_norm(l, c->hidden_size, "input_layernorm");
    add_attention(l, c);
    add_norm(l, c->hidden_size, "post_attention_layernorm");
    if (!fs_config_layer_is_moe(c, index)) {
        add_ffn(l, c, c->intermediate_size, c->mlp_bias, "mlp");
        return;
    }
    add_linear(l, c->n_routed_experts, c->hidden_size, false, "mlp.gate");
    if (c->topk_method == FS_TOPK_NOAUX_TC) {
        fs_param *bias = add(l, 1, 1, c->n_routed_experts, "mlp.gate.e_score_correction_bias");
        if (bias)
            bias->fixed = true;
    }
    for (uint32_t e = 0; e < c->n_routed_experts && !l->rc; e++) {
        snprintf(name, sizeof name, "mlp.experts.%" PRIu32, e);
        add_ffn(l, c, c->moe_intermediate_size, false, name);
    }
    if (c->n_shared_experts)
        add_ffn(l, c, (uint64_t)c->n_shared_experts * c->moe_intermediate_size, false, "mlp.shared_experts");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const fs_param *)a)->name, ((const fs_param *)b)->name);
}

/* Every tensor begins at a multiple of 64 bytes. */
static fs_status place(fs_params *p, fs_error *err)
{
    size_t at = 0, n_bytes;

    for (size_t i = 0; i < p->n; i++) {
        p->items[i].offset = at;
        if (!fs_add_size(at, p->items[i].n, &at) || !fs_add_size(at, 15, &at))
            return fs_fail(err, FS_ERR_FORMAT, "the parameters would not fit in the address space");
        at &= ~(size_t)15;
    }
    p->n_floats = at;
    if (!fs_mul_size(at, sizeof(float), &n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "the parameters would not fit in the address space");
    p->w = fs_alloc_lazy(n_bytes);
    p->g = fs_alloc_lazy(n_bytes);
    if (!p->w || !p->g)
        return fs_fail_memory(err, n_bytes);
    for (size_t i = 0; i < p->n; i++) {
        fs_param *item = &p->items[i];
        item->w = p->w + item->offset;
        item->g = item->fixed ? NULL : p->g + item->offset;
        p->n_trained += item->fixed ? 0 : item->n;
    }
    return FS_OK;
}

/* ---- pairs ---- */
float fs_low_rank_scale(const fs_low_rank_options *o)
{
    return (float)(o->alpha / (o->rslora ? sqrt((double)o->r) : (double)o->r));
}

static bool is_target(const fs_low_rank_options *o, const char *linear)
{
    bool expert = strstr(linear, ".mlp.experts.") != NULL;
    size_t n = strlen(linear);

    for (int i = 0; i < o->n_targets; i++) {
        const char *t = o->targets[i];
        size_t len = strlen(t);
        if (expert && !strstr(t, "experts"))
            continue;
        if (strcmp(t, "all-linear") == 0 && strcmp(linear, "lm_head") != 0 && !fs_ends_with(linear, ".mlp.gate"))
            return true;
        if (strcmp(t, linear) == 0 || (n > len && linear[n - len - 1] == '.' && strcmp(linear + n - len, t) == 0) ||
            (strpbrk(t, "*?[") && fnmatch(t, linear, 0) == 0))
            return true;
    }
    return false;
}

static void add_pair(struct list *l, const char *linear, uint32_t out, uint32_t in)
{
    uint32_t r = l->p->low_rank->r;
    fs_param *a, *b;

    a = add(l, 2, r, in, FS_PAIR_PREFIX "%s.lora_A.weight", linear);
    if (a)
        a->is_pair = true;
    b = add(l, 2, out, r, FS_PAIR_PREFIX "%s.lora_B.weight", linear);
    if (b)
        b->is_pair = true;
}

static void add_pairs(struct list *l, const fs_config *c, const fs_low_rank_options *o)
{
    size_t n = l->p->n;

    l->p->low_rank = o;
    l->prefix[0] = 0;
    for (size_t i = 0; i < n && !l->rc; i++) {
        const fs_param item = l->p->items[i];
        size_t length = strlen(item.name);
        char linear[PARAM_NAME_MAX];
        l->p->items[i].fixed = l->p->items[i].frozen = true;
        if (item.n_dims != 2 || strcmp(item.name, "model.embed_tokens.weight") == 0)
            continue;
        snprintf(linear, sizeof linear, "%.*s", (int)(length - strlen(".weight")), item.name);
        if (is_target(o, linear))
            add_pair(l, linear, item.rows, item.cols);
    }
    if (!l->rc && c->tie_word_embeddings && is_target(o, "lm_head"))
        add_pair(l, "lm_head", c->vocab_size, c->hidden_size);
    if (!l->rc && l->p->n == n)
        l->rc = fs_fail(l->err, FS_ERR_ARGUMENT, "no linear of the model is among the targets");
}

fs_status fs_params_new(const fs_config *c, bool mtp, fs_params **ret, fs_error *err)
{
    return fs_params_new_with(c, mtp, NULL, ret, err);
}

fs_status fs_params_new_with(const fs_config *c, bool mtp, const fs_low_rank_options *low_rank, fs_params **ret, fs_error *err)
{
    struct list l = { .p = calloc(1, sizeof(fs_params)), .err = err };
    uint32_t d = c->hidden_size;

    if (!l.p)
        return fs_fail_memory(err, sizeof *l.p);
    add_linear(&l, c->vocab_size, d, false, "model.embed_tokens");
    add_norm(&l, d, "model.norm");
    if (!c->tie_word_embeddings)
        add_linear(&l, c->vocab_size, d, false, "lm_head");
    for (uint32_t i = 0; i < c->num_hidden_layers + (mtp ? 1 : 0) && !l.rc; i++)
        add_layer(&l, c, i);
    if (mtp) { /* the prefix is still that layer's */
        add_norm(&l, d, "enorm");
        add_norm(&l, d, "hnorm");
        add_linear(&l, d, 2 * (uint64_t)d, false, "eh_proj");
        add_norm(&l, d, "shared_head.norm");
    }
    if (!l.rc && low_rank)
        add_pairs(&l, c, low_rank);
    if (!l.rc) {
        qsort(l.p->items, l.p->n, sizeof *l.p->items, by_name);
        l.rc = place(l.p, err);
    }
    if (l.rc) {
        fs_params_free(l.p);
        return l.rc;
    }
    *ret = l.p;
    return FS_OK;
}

void fs_params_free(fs_params *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n; i++)
        free(p->items[i].name);
    free(p->items);
    fs_free_lazy(p->w, p->n_floats * sizeof(float));
    fs_free_lazy(p->g, p->n_floats * sizeof(float));
    fs_free_lazy(p->m, p->n_floats * sizeof(float));
    fs_free_lazy(p->v, p->n_floats * sizeof(float));
    fs_free_lazy(p->e, p->n_floats * sizeof(float));
    fs_free_lazy(p->muon_room, (size_t)p->muon_threads * p->muon_floats * sizeof(float));
    free(p->muon_items);
    free(p);
}

void fs_param_freeze(fs_params *p, fs_param *item)
{
    p->n_trained -= item->fixed ? 0 : item->n;
    item->fixed = item->frozen = true;
    item->g = item->m = item->v = item->e = NULL;
}

fs_status fs_params_freeze(fs_params *p, const char *glob, fs_error *err)
{
    bool found = false;

    for (size_t i = 0; i < p->n; i++) {
        fs_param *item = &p->items[i];
        if (fnmatch(glob, item->name, 0) != 0)
            continue;
        found = true;
        fs_param_freeze(p, item);
    }
    return found ? FS_OK : fs_fail(err, FS_ERR_ARGUMENT, "'%.120s' matches no parameter to freeze", glob);
}

fs_status fs_params_group(fs_params *p, const char *glob, double lr_scale, double weight_decay, fs_error *err)
{
    bool found = false;

    for (size_t i = 0; i < p->n; i++) {
        fs_param *item = &p->items[i];
        if (fnmatch(glob, item->name, 0) != 0)
            continue;
        found = true;
        item->lr_scale = lr_scale;
        item->weight_decay = weight_decay >= 0 ? weight_decay : item->weight_decay;
    }
    return found ? FS_OK : fs_fail(err, FS_ERR_ARGUMENT, "'%.120s' matches no parameter of a group", glob);
}

fs_status fs_params_add_moments(fs_params *p, fs_error *err)
{
    p->m = fs_alloc_lazy(p->n_floats * sizeof(float));
    p->v = fs_alloc_lazy(p->n_floats * sizeof(float));
    if (!p->m || !p->v)
        return fs_fail_memory(err, p->n_floats * sizeof(float));
    for (size_t i = 0; i < p->n; i++) {
        p->items[i].m = p->items[i].fixed ? NULL : p->m + p->items[i].offset;
        p->items[i].v = p->items[i].fixed || p->items[i].muon ? NULL : p->v + p->items[i].offset;
    }
    return FS_OK;
}

fs_status fs_params_add_averages(fs_params *p, fs_error *err)
{
    p->e = fs_alloc_lazy(p->n_floats * sizeof(float));
    if (!p->e)
        return fs_fail_memory(err, p->n_floats * sizeof(float));
    for (size_t i = 0; i < p->n; i++)
        p->items[i].e = p->items[i].fixed ? NULL : p->e + p->items[i].offset;
    return FS_OK;
}

void fs_params_begin_averages(fs_params *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->items[i].e)
            memcpy(p->items[i].e, p->items[i].w, p->items[i].n * sizeof(float));
}

fs_param *fs_params_find(const fs_params *p, const char *name)
{
    fs_param key = { .name = (char *)(uintptr_t)name };

    return bsearch(&key, p->items, p->n, sizeof key, by_name);
}

uint64_t fs_params_n_active(const fs_params *p, const fs_config *c, bool trained)
{
    uint64_t n = 0;

    for (size_t i = 0; i < p->n; i++) {
        const fs_param *item = &p->items[i];
        if (trained && !item->g)
            continue;
        if (strstr(item->name, ".mlp.experts."))
            n += item->n / c->n_routed_experts * c->num_experts_per_tok;
        else if (strcmp(item->name, "model.embed_tokens.weight") != 0 || c->tie_word_embeddings)
            n += item->n;
    }
    return n;
}

/* ---- filling ---- */
/* Files give the MTP layer copies of the embedding and the head, which are one with the model's here. */
static fs_status check_copy(const fs_params *p, const fs_weights *w, uint32_t layer, const char *copy, const char *of, fs_error *err)
{
    const fs_param *own = fs_params_find(p, of);
    char name[PARAM_NAME_MAX];
    const fs_tensor *t;
    float *row;
    bool differs = false;
    fs_status rc;

    snprintf(name, sizeof name, "model.layers.%" PRIu32 ".%s", layer, copy);
    if (!fs_weights_find(w, name))
        return FS_OK;
    own = own ? own : fs_params_find(p, "model.embed_tokens.weight"); /* a tied head */
    rc = fs_weights_get(w, name, &t, err, 2, (uint64_t)own->rows, (uint64_t)own->cols);
    if (rc)
        return rc;
    row = malloc(own->cols * sizeof *row);
    if (!row)
        return fs_fail_memory(err, own->cols * sizeof *row);
    for (uint32_t r = 0; r < own->rows && !differs; r++) {
        fs_tensor_row_f32(t, r, row);
        differs = memcmp(row, own->w + (size_t)r * own->cols, own->cols * sizeof *row) != 0;
    }
    free(row);
    return differs ? fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' differs from '%s': training keeps them as one", name, own->name) : FS_OK;
}

static fs_status check_copies(const fs_params *p, const fs_weights *w, fs_error *err)
{
    uint32_t layer = fs_weights_config(w)->num_hidden_layers;
    char name[PARAM_NAME_MAX];
    fs_status rc;

    snprintf(name, sizeof name, "model.layers.%" PRIu32 ".eh_proj.weight", layer);
    if (!fs_params_find(p, name))
        return FS_OK;
    rc = check_copy(p, w, layer, "embed_tokens.weight", "model.embed_tokens.weight", err);
    return rc ? rc : check_copy(p, w, layer, "shared_head.head.weight", "lm_head.weight", err);
}

fs_status fs_params_load(fs_params *p, const fs_weights *w, fs_error *err)
{
    for (size_t i = 0; i < p->n; i++) {
        fs_param *item = &p->items[i];
        const fs_tensor *t;
        fs_status rc;
        if (item->is_pair)
            continue;
        rc = item->n_dims == 1 ? fs_weights_get(w, item->name, &t, err, 1, (uint64_t)item->cols)
                               : fs_weights_get(w, item->name, &t, err, 2, (uint64_t)item->rows, (uint64_t)item->cols);
        if (rc)
            return rc;
        for (uint32_t r = 0; r < item->rows; r++)
            fs_tensor_row_f32(t, r, item->w + (size_t)r * item->cols);
        for (size_t j = 0; j < item->n; j++)
            if (item->w[j] != item->w[j])
                return fs_fail(err, FS_ERR_NUMERIC, "tensor '%s' holds a NaN", item->name);
        fs_weights_drop(w, t);
    }
    return check_copies(p, w, err);
}

/* Four words give two numbers by Box and Muller. */
static void normal_pair(uint64_t seed, uint32_t tensor, uint64_t pair, double std, float ret[2])
{
    const uint32_t counter[4] = { (uint32_t)pair, (uint32_t)(pair >> 32), tensor, 1 }, key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    uint32_t r[4];
    double u, angle, s, c;

    fs_philox(counter, key, r);
    u = ((double)(((uint64_t)r[0] << 21) ^ (r[1] >> 11)) + 0.5) * 0x1p-53;
    angle = (double)(((uint64_t)r[2] << 21) ^ (r[3] >> 11)) * 0x1p-53 * 2 * PI;
    fs_sincos64(angle, &s, &c);
    u = sqrt(-2 * fs_log64(u)) * std;
    ret[0] = (float)(u * c);
    ret[1] = (float)(u * s);
}

void fs_params_init(fs_params *p, uint64_t seed, double std)
{
    for (size_t i = 0; i < p->n; i++) {
        fs_param *item = &p->items[i];
        size_t length = strlen(item->name);
        bool is_norm = item->n_dims == 1 && length >= 7 && strcmp(item->name + length - 7, ".weight") == 0;

        for (size_t j = 0; j < item->n; j += 2) {
            float pair[2] = { is_norm ? 1.0f : 0.0f, is_norm ? 1.0f : 0.0f };
            if (item->n_dims == 2)
                normal_pair(seed, (uint32_t)i, j / 2, std, pair);
            item->w[j] = pair[0];
            if (j + 1 < item->n)
                item->w[j + 1] = pair[1];
        }
    }
}

void fs_params_init_pairs(fs_params *p, uint64_t seed)
{
    const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };

    for (size_t i = 0; i < p->n; i++) {
        fs_param *item = &p->items[i];
        double bound = 1 / sqrt((double)item->cols);
        if (!item->is_pair || !fs_ends_with(item->name, ".lora_A.weight"))
            continue;
        for (size_t j = 0; j < item->n; j += 4) {
            const uint32_t counter[4] = { (uint32_t)(j / 4), (uint32_t)((uint64_t)j / 4 >> 32), (uint32_t)i, 2 };
            uint32_t r[4];
            fs_philox(counter, key, r);
            for (size_t n = 0; n < 4 && j + n < item->n; n++)
                item->w[j + n] = (float)((((double)(r[n] >> 8) + 0.5) * 0x1p-23 - 1) * bound);
        }
    }
}

static fs_status load_pair(fs_params *p, fs_adapter *adapter, fs_param *a, fs_error *err)
{
    size_t length = strlen(a->name) - strlen(".lora_A.weight");
    char linear[PARAM_NAME_MAX], name[PARAM_NAME_MAX + 32];
    fs_adapter_pair pair;
    fs_param *b;
    bool found;
    fs_status rc;

    snprintf(name, sizeof name, "%.*s.lora_B.weight", (int)length, a->name);
    b = fs_params_find(p, name);
    snprintf(linear, sizeof linear, "%.*s", (int)(length - strlen(FS_PAIR_PREFIX)), a->name + strlen(FS_PAIR_PREFIX));
    rc = fs_adapter_get(adapter, linear, b->rows, a->cols, &found, &pair, err);
    if (rc)
        return rc;
    if (!found)
        return fs_fail(err, FS_ERR_FORMAT, "it has no pair of '%s'", linear);
    if (pair.a.dims[0] != a->rows || pair.scale != fs_low_rank_scale(p->low_rank))
        return fs_fail(err, FS_ERR_ARGUMENT, "its pair of '%s' has r %" PRIu64 " and scale %g, the recipe's %" PRIu32 " and %g", linear, pair.a.dims[0],
                       (double)pair.scale, a->rows, (double)fs_low_rank_scale(p->low_rank));
    for (uint32_t r = 0; r < a->rows; r++)
        fs_tensor_row_f32(&pair.a, r, a->w + (size_t)r * a->cols);
    for (uint32_t r = 0; r < b->rows; r++)
        fs_tensor_row_f32(&pair.b, r, b->w + (size_t)r * b->cols);
    for (size_t j = 0; j < a->n + b->n; j++) {
        float v = j < a->n ? a->w[j] : b->w[j - a->n];
        if (v != v)
            return fs_fail(err, FS_ERR_NUMERIC, "its pair of '%s' holds a NaN", linear);
    }
    return FS_OK;
}

fs_status fs_params_load_pairs(fs_params *p, const char *folder, fs_error *err)
{
    fs_adapter *adapter = NULL;
    fs_status rc = fs_adapter_open(folder, &adapter, err);

    for (size_t i = 0; i < p->n && !rc; i++)
        if (p->items[i].is_pair && fs_ends_with(p->items[i].name, ".lora_A.weight"))
            rc = load_pair(p, adapter, &p->items[i], err);
    if (!rc)
        rc = fs_adapter_check_used(adapter, err);
    fs_adapter_close(adapter);
    return rc ? fs_fail_prefix(err, "adapter '%s'", folder) : FS_OK;
}

double fs_param_grad_squares(const fs_kernels *k, const fs_param *p)
{
    double sum = 0;

    for (size_t i = 0; i < p->n; i += 256)
        sum += (double)k->rows.sumsq(p->g + i, p->n - i < 256 ? p->n - i : 256);
    return sum;
}

float fs_params_grad_norm(const fs_kernels *k, const fs_params *p)
{
    double sum = 0;

    for (size_t i = 0; i < p->n; i++)
        if (!p->items[i].fixed)
            sum += fs_param_grad_squares(k, &p->items[i]);
    return (float)sqrt(sum);
}

fs_status fs_params_finite_norm(const fs_kernels *k, const fs_params *p, float *ret, fs_error *err)
{
    float norm = fs_params_grad_norm(k, p);
    const fs_param *largest = NULL;
    double most = -1;

    if (isfinite(norm)) {
        *ret = norm;
        return FS_OK;
    }
    for (size_t i = 0; i < p->n; i++) {
        const fs_param *item = &p->items[i];
        size_t at = item->fixed ? 0 : fs_find_not_finite(item->g, item->n);
        double squares = item->fixed ? -1 : fs_param_grad_squares(k, item);
        if (at)
            return fs_fail(err, FS_ERR_NUMERIC, "the gradient of '%s' is %s at row %zu, column %zu", item->name, fs_not_finite_word(item->g[at - 1]),
                           (at - 1) / item->cols, (at - 1) % item->cols);
        if (squares > most) {
            most = squares;
            largest = item;
        }
    }
    return fs_fail(err, FS_ERR_NUMERIC, "the gradient of '%s' is finite, the sum of its squares is %g", largest->name, most);
}

size_t fs_find_not_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return i + 1;
    return 0;
}

const char *fs_not_finite_word(float x)
{
    return isnan(x) ? "a NaN" : "an infinity";
}

const fs_param *fs_params_find_not_finite(const fs_params *p, size_t *ret_at)
{
    for (size_t i = 0; i < p->n; i++) {
        size_t at = fs_find_not_finite(p->items[i].w, p->items[i].n);
        if (at) {
            *ret_at = at - 1;
            return &p->items[i];
        }
    }
    return NULL;
}
