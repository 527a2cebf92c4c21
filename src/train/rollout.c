/* See the header. A step takes one token of each running sequence and whole pieces of new prompts, then all threads draw. A prompt that is
 * another sequence's too, as in a group, runs once: its rows of the cache and its logits are copied. */
#include "train/rollout.h"

#include "engine/sampler.h"
#include "formats/adapter.h"
#include "models/network.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define STEP_TOKENS 512 /* of prompts and drawn tokens together, at least */

typedef struct slot slot;
struct slot {
    fs_cache cache;
    fs_sampled *item; /* NULL: free */
    uint32_t done;    /* tokens of the prompt that have run, or are in the step */
    bool last;        /* nothing more is drawn, the last token's activations are wanted */
    slot *waits;      /* for that one's prompt, which is the same; NULL: runs by itself */
    float *logits;    /* [V] */
};

struct fs_rollout {
    fs_tensor *tensors; /* views of the masters */
    fs_weights *weights;
    const fs_params *params; /* with pairs; NULL: without */
    uint8_t *pairs;      /* their bytes as an adapter's file, brought up to date at each refresh */
    size_t pairs_at;     /* where its data begins */
    fs_adapter *adapter;
    fs_network *network;
    bool borrowed; /* the network */
    fs_network_plan plan;
    fs_workspace *workspace;
    fs_pool *pool;
    fs_rollout_options options;
    slot *slots;
    fs_step_rows *rows;     /* [sequences_max] */
    uint32_t *row_slots;    /* [sequences_max] which slot a row is of */
    fs_sampler **samplers;  /* [threads] */
    float *logits;          /* [sequences_max, V] */
    uint32_t vocab_size;
    const fs_progress *progress;
    const fs_activations *activations; /* that completions may keep; NULL: none */
};

static fs_status view_params(fs_rollout *r, const fs_config *c, const fs_params *p, fs_error *err)
{
    size_t n = 0;

    r->tensors = calloc(p->n, sizeof *r->tensors);
    if (!r->tensors)
        return fs_fail_memory(err, p->n * sizeof *r->tensors);
    for (size_t i = 0; i < p->n; i++) {
        const fs_param *q = &p->items[i];
        fs_tensor *t = &r->tensors[n];
        if (q->is_pair)
            continue;
        n++;
        *t = (fs_tensor){ .name = q->name, .dtype = FS_DTYPE_F32, .n_dims = q->n_dims, .data = (const uint8_t *)q->w, .n_bytes = q->n * sizeof *q->w };
        t->dims[0] = q->n_dims == 1 ? q->cols : q->rows;
        t->dims[1] = q->cols;
    }
    return fs_weights_of_memory(c, r->tensors, n, &r->weights, err);
}

/* ---- pairs as an adapter ---- */
/* The header of a safetensors file, padded so that the data behind it is aligned. */
static fs_status put_header(fs_buf *ret, const fs_params *p, size_t *ret_data_bytes, fs_error *err)
{
    size_t at = 0;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < p->n && !rc; i++) {
        const fs_param *q = &p->items[i];
        if (!q->is_pair)
            continue;
        rc = fs_buf_printf(ret, err, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%" PRIu32 ",%" PRIu32 "],\"data_offsets\":[%zu,%zu]}", at ? "," : "{", q->name,
                           q->rows, q->cols, at, at + q->n * sizeof *q->w);
        at += q->n * sizeof *q->w;
    }
    if (!rc)
        rc = fs_buf_append_str(ret, "}", err);
    while (!rc && (ret->n_bytes + 8) % 64)
        rc = fs_buf_append_str(ret, " ", err);
    *ret_data_bytes = at;
    return rc;
}

static void copy_pairs(fs_rollout *r)
{
    uint8_t *to = r->pairs + r->pairs_at;

    for (size_t i = 0; i < r->params->n; i++)
        if (r->params->items[i].is_pair) {
            memcpy(to, r->params->items[i].w, r->params->items[i].n * sizeof(float));
            to += r->params->items[i].n * sizeof(float);
        }
}

static fs_status open_pairs(fs_rollout *r, const fs_params *p, fs_error *err)
{
    const fs_low_rank_options *o = p->low_rank;
    fs_buf header = { 0 }, config = { 0 };
    size_t n_bytes = 0;
    fs_status rc = put_header(&header, p, &n_bytes, err);

    if (!rc)
        rc = fs_buf_printf(&config, err, "{\"peft_type\":\"LORA\",\"r\":%" PRIu32 ",\"lora_alpha\":%.17g,\"use_rslora\":%s}", o->r, o->alpha,
                           o->rslora ? "true" : "false");
    if (!rc && !(r->pairs = fs_alloc_aligned(8 + header.n_bytes + n_bytes)))
        rc = fs_fail_memory(err, header.n_bytes + n_bytes);
    if (!rc) {
        for (int i = 0; i < 8; i++)
            r->pairs[i] = (uint8_t)((uint64_t)header.n_bytes >> 8 * i);
        memcpy(r->pairs + 8, header.data, header.n_bytes);
        r->params = p;
        r->pairs_at = 8 + header.n_bytes;
        copy_pairs(r);
        rc = fs_adapter_open_memory(fs_buf_bytes(&config), (fs_bytes){ r->pairs, r->pairs_at + n_bytes }, &r->adapter, err);
    }
    fs_buf_done(&header);
    fs_buf_done(&config);
    return rc;
}

static fs_status make_slots(fs_rollout *r, const fs_kernels *kernels, fs_error *err)
{
    size_t n = r->options.sequences_max, threads = (size_t)fs_pool_threads(r->pool);
    fs_status rc = FS_OK;

    r->slots = calloc(n, sizeof *r->slots);
    r->rows = calloc(n, sizeof *r->rows);
    r->row_slots = calloc(n, sizeof *r->row_slots);
    r->samplers = calloc(threads, sizeof(fs_sampler *));
    r->logits = fs_alloc_aligned(n * r->vocab_size * sizeof *r->logits);
    if (!r->slots || !r->rows || !r->row_slots || !r->samplers || !r->logits)
        return fs_fail_memory(err, n * (r->vocab_size + sizeof *r->slots));
    for (size_t i = 0; i < n && !rc; i++) {
        r->slots[i].logits = r->logits + i * r->vocab_size;
        rc = fs_cache_init(&r->slots[i].cache, r->network, r->options.ctx_tokens, err);
    }
    for (size_t i = 0; i < threads && !rc; i++)
        rc = fs_sampler_new(kernels, (int)r->vocab_size, &r->samplers[i], err);
    return rc;
}

/* What every rollout needs besides its network. */
static fs_status make_room(fs_rollout *r, const fs_kernels *kernels, fs_error *err)
{
    uint32_t n = r->options.sequences_max;
    fs_status rc = fs_workspace_new(r->network, n > STEP_TOKENS ? n : STEP_TOKENS, n, &r->workspace, err);

    return rc ? rc : make_slots(r, kernels, err);
}

fs_status fs_rollout_on(fs_network *net, fs_pool *pool, const fs_kernels *kernels, const fs_rollout_options *o, fs_rollout **ret, fs_error *err)
{
    fs_rollout *r = calloc(1, sizeof *r);
    fs_status rc;

    if (!r)
        return fs_fail_memory(err, sizeof *r);
    r->network = net;
    r->borrowed = true;
    r->pool = pool;
    r->options = *o;
    r->vocab_size = fs_network_config(net)->vocab_size;
    rc = make_room(r, kernels, err);
    if (rc) {
        fs_rollout_free(r);
        return rc;
    }
    *ret = r;
    return FS_OK;
}

void fs_rollout_watch(fs_rollout *r, const fs_progress *progress)
{
    r->progress = progress;
}

void fs_rollout_keep(fs_rollout *r, const fs_activations *a)
{
    r->activations = a;
    fs_network_keep(r->network, a);
}

fs_status fs_rollout_new(const fs_config *c, const fs_params *p, fs_pool *pool, const fs_kernels *kernels, const fs_rollout_options *o, fs_rollout **ret,
                         fs_error *err)
{
    fs_network_options options = { .exact = true, .bf16 = o->bf16 };
    fs_rollout *r = calloc(1, sizeof *r);
    fs_status rc;

    if (!r)
        return fs_fail_memory(err, sizeof *r);
    r->pool = pool;
    r->options = *o;
    r->vocab_size = c->vocab_size;
    rc = view_params(r, c, p, err);
    if (!rc && p->low_rank)
        rc = open_pairs(r, p, err);
    options.adapter = r->adapter;
    if (!rc)
        rc = fs_network_new(r->weights, pool, kernels, &options, &r->network, &r->plan, err);
    if (!rc)
        rc = make_room(r, kernels, err);
    if (rc) {
        fs_rollout_free(r);
        return rc;
    }
    *ret = r;
    return FS_OK;
}

void fs_rollout_free(fs_rollout *r)
{
    if (!r)
        return;
    for (uint32_t i = 0; r->slots && i < r->options.sequences_max; i++)
        fs_cache_done(&r->slots[i].cache);
    for (int i = 0; r->samplers && i < fs_pool_threads(r->pool); i++)
        fs_sampler_free(r->samplers[i]);
    free(r->slots);
    free(r->rows);
    free(r->row_slots);
    free(r->samplers);
    fs_free_aligned(r->logits);
    fs_workspace_free(r->workspace);
    if (!r->borrowed)
        fs_network_free(r->network);
    fs_adapter_close(r->adapter);
    fs_free_aligned(r->pairs);
    fs_weights_close(r->weights);
    free(r->tensors);
    free(r);
}

fs_status fs_rollout_refresh(fs_rollout *r, fs_error *err)
{
    if (r->params)
        copy_pairs(r);
    return fs_network_load(r->network, err);
}

size_t fs_rollout_bytes(const fs_rollout *r)
{
    return r->plan.weights_bytes +
           r->options.sequences_max * (r->plan.kv_fixed_bytes + r->options.ctx_tokens * r->plan.kv_token_bytes + r->vocab_size * sizeof *r->logits) +
           fs_workspace_bytes(r->network, fs_workspace_tokens_max(r->workspace), r->options.sequences_max);
}

/* ---- a run ---- */

typedef struct drawing {
    fs_rollout *r;
    const fs_sampling *sampling;
    const int32_t *stop_ids;
    size_t n_stop_ids, n_rows;
} drawing;

static bool is_same_prompt(const fs_sampled *a, const fs_sampled *b)
{
    return a->n_prompt == b->n_prompt && memcmp(a->prompt, b->prompt, a->n_prompt * sizeof *a->prompt) == 0;
}

/* Where the activations of token at of the completion go. */
static float *kept_at(const fs_rollout *r, const fs_sampled *c, uint32_t at)
{
    return c->kept ? c->kept + at * r->activations->row : NULL;
}

/* The first n tokens, as another completion's with the same prompt kept them. */
static void copy_kept(const fs_rollout *r, const fs_sampled *from, fs_sampled *to, uint32_t n)
{
    if (to->kept)
        memcpy(to->kept, from->kept, n * r->activations->row * sizeof *to->kept);
}

static bool can_share(const fs_sampled *from, const fs_sampled *to)
{
    return is_same_prompt(from, to) && (from->kept || !to->kept);
}

/* A prompt that is under way is waited for; of one that is behind another sequence's tokens all but the last is taken, which must give logits. */
static void share_prompt(fs_rollout *r, slot *s)
{
    s->waits = NULL;
    for (uint32_t i = 0; i < r->options.sequences_max; i++) {
        slot *other = &r->slots[i];
        if (other == s || !other->item || other->waits || !can_share(other->item, s->item))
            continue;
        if (other->cache.n_tokens < other->item->n_prompt)
            s->waits = other;
        else if (s->item->n_prompt > 1 && fs_cache_copy(r->network, &other->cache, s->item->n_prompt - 1, &s->cache)) {
            s->done = s->item->n_prompt - 1;
            copy_kept(r, other->item, s->item, s->done);
        }
        return;
    }
}

/* Behind a step: whoever waits for a prompt that has run stands behind it too, and draws. */
static size_t take_prompts(fs_rollout *r, size_t n_rows)
{
    for (uint32_t i = 0; i < r->options.sequences_max; i++) {
        slot *s = &r->slots[i], *from = s->waits;
        if (!from || from->cache.n_tokens < from->item->n_prompt)
            continue;
        s->waits = NULL;
        if (!fs_cache_copy(r->network, &from->cache, s->item->n_prompt, &s->cache))
            continue; /* runs by itself from here on */
        s->done = s->item->n_prompt;
        copy_kept(r, from->item, s->item, s->done);
        memcpy(s->logits, from->logits, r->vocab_size * sizeof *s->logits);
        r->row_slots[n_rows] = i;
        r->rows[n_rows++] = (fs_step_rows){ .n_logits = 1 };
    }
    return n_rows;
}

/* The rows of the next step: running sequences first, then as much of the prompts as there is room for. */
static size_t gather(fs_rollout *r, fs_sampled *items, size_t n, size_t *next)
{
    uint32_t room = fs_workspace_tokens_max(r->workspace);
    size_t n_rows = 0;

    for (uint32_t i = 0; i < r->options.sequences_max; i++) {
        slot *s = &r->slots[i];
        if (s->item && s->done == s->item->n_prompt) {
            r->row_slots[n_rows] = i;
            r->rows[n_rows++] = (fs_step_rows){ &s->cache, s->item->ids + s->item->n - 1, 1, s->logits, !s->last, NULL,
                                                kept_at(r, s->item, s->item->n_prompt + s->item->n - 1) };
            room--;
        }
    }
    for (uint32_t i = 0; i < r->options.sequences_max && room > 0; i++) {
        slot *s = &r->slots[i];
        uint32_t left;
        if (!s->item && *next < n) {
            s->item = &items[(*next)++];
            s->item->n = s->done = 0;
            s->item->stopped = s->last = false;
            s->cache.n_tokens = s->cache.n_mtp_tokens = 0;
            share_prompt(r, s);
        }
        if (!s->item || s->waits || s->done == s->item->n_prompt)
            continue;
        left = s->item->n_prompt - s->done;
        left = left < room ? left : room;
        r->row_slots[n_rows] = i;
        r->rows[n_rows++] = (fs_step_rows){ &s->cache, s->item->prompt + s->done, left, s->logits, s->done + left == s->item->n_prompt, NULL,
                                            kept_at(r, s->item, s->done) };
        s->done += left;
        room -= left;
    }
    return n_rows;
}

static void draw(void *ud, size_t begin, size_t end, int thread)
{
    const drawing *d = ud;

    for (size_t i = begin; i < end; i++) {
        slot *s = &d->r->slots[d->r->row_slots[i]];
        fs_sampled *c = s->item;
        float logp;
        int32_t id;
        if (!d->r->rows[i].n_logits) {
            if (s->last)
                s->item = NULL;
            continue;
        }
        if (c->kept && d->r->activations->has_logits)
            memcpy(kept_at(d->r, c, c->n_prompt + c->n - 1) + d->r->activations->logits, s->logits, d->r->vocab_size * sizeof *s->logits);
        id = fs_sampler_draw(d->r->samplers[thread], d->sampling, c->stream, c->n, s->logits, c->ids, c->n, &logp);
        if (c->logp)
            c->logp[c->n] = logp;
        c->ids[c->n++] = id;
        for (size_t k = 0; k < d->n_stop_ids; k++)
            c->stopped = c->stopped || id == d->stop_ids[k];
        s->last = c->stopped || c->n == c->n_max;
        if (s->last && !c->kept)
            s->item = NULL;
    }
}

static size_t n_running(const fs_rollout *r)
{
    size_t n = 0;

    for (uint32_t i = 0; i < r->options.sequences_max; i++)
        n += r->slots[i].item != NULL;
    return n;
}

static fs_status check(const fs_rollout *r, const fs_sampled *c, fs_error *err)
{
    uint32_t runs = c->n_max - !c->kept; /* the last drawn token is not run any more */

    if (c->n_prompt == 0 || c->n_max == 0 || c->n_prompt > r->options.ctx_tokens || runs > r->options.ctx_tokens - c->n_prompt)
        return fs_fail(err, FS_ERR_CONTEXT_FULL, "a prompt of %u tokens and %u to draw, %u fit", c->n_prompt, c->n_max, r->options.ctx_tokens);
    return FS_OK;
}

fs_status fs_rollout_run(fs_rollout *r, const fs_sampling *s, const int32_t *stop_ids, size_t n_stop_ids, fs_sampled *items, size_t n,
                         fs_error *err)
{
    drawing d = { r, s, stop_ids, n_stop_ids, 0 };
    size_t next = 0;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n && !rc; i++)
        rc = check(r, &items[i], err);
    while (!rc && (d.n_rows = gather(r, items, n, &next)) > 0) {
        rc = fs_network_step(r->network, r->workspace, r->rows, d.n_rows, err);
        if (!rc) {
            d.n_rows = take_prompts(r, d.n_rows);
            fs_pool_for(r->pool, d.n_rows, 1, draw, &d);
            rc = fs_progress_tell(r->progress, next - n_running(r), n, err);
        }
    }
    for (uint32_t i = 0; i < r->options.sequences_max; i++)
        r->slots[i] = (slot){ .cache = r->slots[i].cache, .logits = r->slots[i].logits };
    return rc;
}
