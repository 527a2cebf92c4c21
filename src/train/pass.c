/* A micro-batch through the model and back: embedding, layers, loss, and the same in reverse. Residual gradients of the main
 * path and of the MTP layer meet at the final norm's output, the main path's first. */
#include "train/internal.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* ---- taking the tokens ---- */
static float coefficient(double weight, uint64_t n_targets)
{
    return n_targets ? (float)(weight / (double)n_targets) : 0.0f;
}

static fs_status take_token(fs_trainer *t, const fs_train_sequence *s, uint32_t i, uint32_t at, fs_error *err)
{
    int64_t v = t->config->vocab_size;

    if (s->ids[i] < 0 || s->ids[i] >= v)
        return fs_fail(err, FS_ERR_ARGUMENT, "token id %" PRId32 " is outside the vocabulary of %" PRId64, s->ids[i], v);
    if (s->targets && s->targets[i] >= v)
        return fs_fail(err, FS_ERR_ARGUMENT, "target %" PRId32 " is outside the vocabulary of %" PRId64, s->targets[i], v);
    t->ids[at] = s->ids[i];
    t->targets[at] = s->targets ? s->targets[i] : -1;
    t->coefficients[at] = s->slopes ? -s->slopes[i] : coefficient(1, t->totals.n_targets);
    /* A position whose next token is not known predicts nothing: its stand-in id changes nothing. */
    t->next_ids[at] = i + 1 < s->n ? s->ids[i + 1] : t->targets[at] >= 0 ? t->targets[at] : 0;
    t->next_targets[at] = i + 1 < s->n && s->targets && t->targets[at] >= 0 ? s->targets[i + 1] : -1;
    t->brought[at] = t->activations && s->kept ? s->kept + i * t->activations->row : NULL;
    t->positions[at] = i;
    t->index[at] = s->index + i;
    return FS_OK;
}

static fs_status take_sequences(fs_trainer *t, const fs_train_sequence *sequences, uint32_t n, fs_error *err)
{
    uint32_t at = 0, chains = 0, longest = 0, n_q = fs_attention_tile_queries(t);

    assert(n > 0 && n <= t->options.sequences_max);
    t->n_spans = n;
    t->n_tiles = 0;
    t->brings = false;
    for (uint32_t s = 0; s < n; s++) {
        if (sequences[s].n > t->config->max_position_embeddings)
            return fs_fail(err, FS_ERR_CONTEXT_FULL, "a sequence of %" PRIu32 " tokens, the model's context is %" PRIu32, sequences[s].n,
                           t->config->max_position_embeddings);
        assert(sequences[s].n > 0 && sequences[s].n <= t->options.tokens_max - at);
        t->spans[s] = (fs_span){ at, sequences[s].n };
        longest = sequences[s].n > longest ? sequences[s].n : longest;
        for (uint32_t i = 0; i < sequences[s].n; i += n_q)
            t->tiles[t->n_tiles++] = (fs_query_tile){ s, i, sequences[s].n - i < n_q ? sequences[s].n - i : n_q };
        for (uint32_t i = 0; i < sequences[s].n; i++, at++) {
            t->span_of[at] = s;
            fs_status rc = take_token(t, &sequences[s], i, at, err);
            if (rc)
                return rc;
            assert(at == 0 || t->index[at] > t->index[at - 1]);
            assert(!t->brought[at] == !t->brought[0]);
            if (at == 0 || t->index[at] / FS_CHAIN_TOKENS != t->index[at - 1] / FS_CHAIN_TOKENS)
                t->chain_at[chains++] = at;
        }
    }
    t->n_tokens = at;
    t->chain_at[chains] = at;
    t->chains = (fs_chains){ t->chain_at, chains };
    for (; t->cs_positions < longest; t->cs_positions++) {
        float *cs = t->cs + (size_t)t->cs_positions * t->rope.dim, *back = t->cs_back + (size_t)t->cs_positions * t->rope.dim;
        fs_rope_angles(&t->rope, t->cs_positions, t->config->max_position_embeddings, cs);
        for (uint32_t i = 0; i < t->rope.dim; i++)
            back[i] = i % 2 ? -cs[i] : cs[i];
    }
    return FS_OK;
}

void fs_trainer_bring(fs_trainer *t, const fs_activations *a)
{
    t->activations = a;
}

/* ---- layers ---- */
/* kept.x_mid, and its norm in t->h. */
static void attention_forward(fs_trainer *t, fs_train_layer *l)
{
    size_t d = t->config->hidden_size, m = t->n_tokens;

    fs_norm_forward(t, l->input_norm, t->norm_eps, l->kept.x, d, t->h, d, d, m);
    (t->config->kv_lora_rank ? fs_latent_forward : fs_gqa_forward)(t, l, t->y);
    fs_add_rows(t, l->kept.x, t->y, l->kept.x_mid, m * d);
    fs_norm_forward(t, l->post_norm, t->norm_eps, l->kept.x_mid, d, t->h, d, d, m);
    t->made = l;
}

/* y = the output of the layer whose input is kept.x. */
static void layer_forward(fs_trainer *t, fs_train_layer *l, float *y)
{
    size_t d = t->config->hidden_size, m = t->n_tokens;

    attention_forward(t, l);
    fs_clip_see(t, l);
    if (l->is_moe)
        fs_experts_forward(t, l, t->y);
    else
        fs_ffn_forward(t, &l->ffn, l->kept.gate, l->kept.up, t->y);
    fs_add_rows(t, l->kept.x_mid, t->y, y, m * d);
}

/* What the forward made of kept.x, again. */
static void layer_again(fs_trainer *t, fs_train_layer *l)
{
    attention_forward(t, l);
    if (l->is_moe)
        fs_experts_again(t, l);
    else
        fs_ffn_again(t, &l->ffn, l->kept.gate, l->kept.up);
}

/* t->dx: the gradient of the layer's output becomes that of its input. */
static void layer_backward(fs_trainer *t, fs_train_layer *l)
{
    size_t d = t->config->hidden_size, m = t->n_tokens;

    if (t->options.recompute && t->made != l)
        layer_again(t, l);
    else
        fs_norm_forward(t, l->post_norm, t->norm_eps, l->kept.x_mid, d, t->h, d, d, m);
    if (l->is_moe)
        fs_experts_backward(t, l, t->dx);
    else
        fs_ffn_backward(t, &l->ffn, l->kept.gate, l->kept.up, t->dx, false);
    fs_norm_backward(t, l->post_norm, t->norm_eps, l->kept.x_mid, d, t->dh, d, t->dx, d, d, 1);
    fs_norm_forward(t, l->input_norm, t->norm_eps, l->kept.x, d, t->h, d, d, m);
    (t->config->kv_lora_rank ? fs_latent_backward : fs_gqa_backward)(t, l, t->dx);
    fs_norm_backward(t, l->input_norm, t->norm_eps, l->kept.x, d, t->dh, d, t->dx, d, d, 1);
}

static void forward(fs_trainer *t)
{
    uint32_t n = t->config->num_hidden_layers;
    size_t d = t->config->hidden_size;

    fs_embed(t, t->ids, t->layers[0].kept.x);
    for (uint32_t i = 0; i < n; i++)
        layer_forward(t, &t->layers[i], i + 1 < n ? t->layers[i + 1].kept.x : t->final_x);
    fs_norm_forward(t, t->norm, t->norm_eps, t->final_x, d, t->final_h, d, d, t->n_tokens);
}

/* ---- MTP ---- */
/* Leaves the layer's output in t->dx and its norm in t->h. */
static void mtp_forward(fs_trainer *t)
{
    fs_train_layer *l = &t->layers[t->config->num_hidden_layers];
    size_t d = t->config->hidden_size, m = t->n_tokens;

    fs_embed(t, t->next_ids, t->y);
    fs_norm_forward(t, t->enorm, t->norm_eps, t->y, d, t->mtp_cat, 2 * d, d, m);
    fs_norm_forward(t, t->hnorm, t->norm_eps, t->final_h, d, t->mtp_cat + d, 2 * d, d, m);
    fs_lin_forward(t, &t->eh_proj, t->mtp_cat, 2 * d, m, l->kept.x, d);
    layer_forward(t, l, t->dx);
    fs_norm_forward(t, t->mtp_norm, t->norm_eps, t->dx, d, t->h, d, d, m);
}

/* t->dh: the gradient of the norm's output; t->dx the layer's output. Adds to t->d_final. */
static void mtp_backward(fs_trainer *t)
{
    fs_train_layer *l = &t->layers[t->config->num_hidden_layers];
    size_t d = t->config->hidden_size, m = t->n_tokens;

    memset(t->tmp, 0, m * d * sizeof *t->tmp);
    fs_norm_backward(t, t->mtp_norm, t->norm_eps, t->dx, d, t->dh, d, t->tmp, d, d, 1);
    memcpy(t->dx, t->tmp, m * d * sizeof *t->dx);
    layer_backward(t, l);
    fs_lin_grad(t, &t->eh_proj, t->dx, d, t->mtp_cat, 2 * d, false);
    fs_lin_back(t, &t->eh_proj, t->dx, d, m, t->d_mtp_cat, 2 * d, false);
    fs_embed(t, t->next_ids, t->y);
    memset(t->dh, 0, m * d * sizeof *t->dh);
    fs_norm_backward(t, t->enorm, t->norm_eps, t->y, d, t->d_mtp_cat, 2 * d, t->dh, d, d, 1);
    fs_embed_backward(t, t->next_ids, t->dh, d, t->embed->g ? t->mtp_scatter : NULL);
    fs_norm_backward(t, t->hnorm, t->norm_eps, t->final_h, d, t->d_mtp_cat + d, 2 * d, t->d_final, d, d, 1);
}

/* ---- the step ---- */
void fs_train_totals_add(fs_train_totals *t, const fs_train_sequence *sequences, uint32_t n)
{
    t->n_sequences += n;
    for (uint32_t i = 0; i < n; i++) {
        const fs_train_sequence *s = sequences + i;
        for (uint32_t j = 0; j < s->n; j++) {
            t->n_targets += s->targets[j] >= 0;
            t->n_mtp_targets += s->targets[j] >= 0 && j + 1 < s->n && s->targets[j + 1] >= 0;
        }
    }
}

void fs_trainer_begin(fs_trainer *t, const fs_train_totals *totals)
{
    t->totals = *totals;
    t->loss_sum = t->mtp_sum = t->balance_sum = 0;
    fs_clip_begin(t);
    if (t->distil)
        t->distil->sum = 0;
    for (size_t i = 0; i < t->params->n; i++)
        if (t->params->items[i].g)
            memset(t->params->items[i].g, 0, t->params->items[i].n * sizeof(float));
    if (t->grad_memory)
        memset(t->grad_memory, 0, t->grad_memory_bytes);
    for (uint32_t i = 0; i < t->n_layers; i++)
        if (t->layers[i].kv_b)
            memset(t->layers[i].kv_b->g, 0, t->layers[i].kv_b->w->n * sizeof(float));
    for (uint32_t i = 0; i < t->n_layers; i++)
        if (t->layers[i].load)
            for (uint32_t e = 0; e < t->config->n_routed_experts; e++) {
                t->layers[i].load[e] = 0;
                t->layers[i].gates[e] = 0;
            }
}

static void give_logp(const fs_trainer *t, const fs_train_sequence *sequences)
{
    for (uint32_t s = 0; s < t->n_spans; s++)
        for (uint32_t i = 0; sequences[s].ret_logp && i < t->spans[s].n; i++)
            sequences[s].ret_logp[i] = t->targets[t->spans[s].token0 + i] < 0 ? 0.0f : -t->nll[t->spans[s].token0 + i];
}

fs_status fs_trainer_run(fs_trainer *t, const fs_train_sequence *sequences, uint32_t n_sequences, fs_error *err)
{
    size_t d = t->config->hidden_size, m;
    fs_status rc = take_sequences(t, sequences, n_sequences, err);

    if (rc)
        return rc;
    m = t->n_tokens;
    t->brings = t->brought[0] != NULL;
    (t->brings ? fs_forward_brought : forward)(t);
    rc = fs_loss(t, t->final_h, t->targets, t->coefficients, 0, t->nll, &t->loss_sum, t->d_final, t->head.w.p->g, &t->head.low, err);
    if (!rc)
        give_logp(t, sequences);
    if (!rc && t->options.mtp) {
        mtp_forward(t);
        rc = fs_loss(t, t->h, t->next_targets, NULL, coefficient(t->options.mtp_weight, t->totals.n_mtp_targets), t->mtp_nll, &t->mtp_sum, t->dh,
                     t->head.w.p->g ? t->mtp_head_grad : NULL, &t->mtp_head_low, err);
        if (!rc)
            mtp_backward(t);
    }
    if (rc)
        return rc;
    memset(t->dx, 0, m * d * sizeof *t->dx);
    fs_norm_backward(t, t->norm, t->norm_eps, t->final_x, d, t->d_final, d, t->dx, d, d, 1);
    for (uint32_t i = t->config->num_hidden_layers; i > 0; i--)
        layer_backward(t, &t->layers[i - 1]);
    fs_embed_backward(t, t->ids, t->dx, d, t->embed->g && t->embed_scatter ? t->embed_scatter : t->embed->g);
    return FS_OK;
}

void fs_trainer_end(fs_trainer *t, fs_train_loss *ret)
{
    const fs_train_totals *n = &t->totals;

    /* Each sum over the step has finished; the main path's head and scatter, then MTP's. */
    if (t->embed_scatter && t->embed->g)
        fs_add_rows(t, t->embed->g, t->embed_scatter, t->embed->g, t->embed->n);
    if (t->options.mtp && t->head.w.p->g)
        fs_add_rows(t, t->head.w.p->g, t->mtp_head_grad, t->head.w.p->g, t->head.w.p->n);
    if (t->options.mtp && t->embed->g)
        fs_add_rows(t, t->embed->g, t->mtp_scatter, t->embed->g, t->embed->n);
    for (int i = 0; t->mtp_head_low.r && i < 2; i++) {
        fs_param *p = i == 0 ? t->head.low.a.p : t->head.low.b.p;
        if (p->g)
            fs_add_rows(t, p->g, t->mtp_pair[i].g, p->g, p->n);
    }
    for (uint32_t i = 0; i < t->n_layers; i++)
        if (t->layers[i].kv_b)
            fs_merged_end(t, t->layers[i].kv_b);
    *ret = (fs_train_loss){
        .loss = n->n_targets ? (double)(float)(t->loss_sum / (double)n->n_targets) : 0,
        .mtp = n->n_mtp_targets ? (double)(float)(t->mtp_sum / (double)n->n_mtp_targets) : 0,
        .divergence = n->n_targets && t->distil ? (double)(float)(t->distil->sum / (double)n->n_targets) : 0,
        .balance = n->n_sequences ? (double)(float)(t->options.balance_weight * t->balance_sum / (double)n->n_sequences) : 0,
    };
}

fs_status fs_trainer_evaluate(fs_trainer *t, const fs_train_sequence *sequences, uint32_t n_sequences, fs_error *err)
{
    fs_status rc = take_sequences(t, sequences, n_sequences, err);

    if (rc)
        return rc;
    forward(t);
    rc = fs_loss(t, t->final_h, t->targets, NULL, 0, t->nll, &t->loss_sum, NULL, NULL, NULL, err);
    if (!rc)
        give_logp(t, sequences);
    if (rc || !t->options.mtp)
        return rc;
    mtp_forward(t);
    return fs_loss(t, t->h, t->next_targets, NULL, 0, t->mtp_nll, &t->mtp_sum, NULL, NULL, NULL, err);
}

fs_status fs_trainer_logits(fs_trainer *t, const fs_train_sequence *sequences, uint32_t n_sequences, float *ret_logits, float *ret_mtp,
                            fs_error *err)
{
    size_t d = t->config->hidden_size, v = t->config->vocab_size;
    fs_status rc = take_sequences(t, sequences, n_sequences, err);

    if (rc)
        return rc;
    forward(t);
    fs_lin_forward(t, &t->head, t->final_h, d, t->n_tokens, ret_logits, v);
    if (ret_mtp) {
        mtp_forward(t);
        fs_lin_forward(t, &t->head, t->h, d, t->n_tokens, ret_mtp, v);
    }
    return FS_OK;
}
