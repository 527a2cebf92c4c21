/* The forward step: embeddings, layers, logits. */
#include "models/experts.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* Query heads of one kv head form a tile; of the latent cache, up to 16 of them, so that short steps still make several
 * tiles. Groups over the tile limit are cut, which needs heads_per_tile to divide the group. */
static void plan_tiles(fs_network *net, fs_workspace *ws)
{
    const fs_config *c = net->config;
    uint32_t group = net->arch->is_mla ? c->num_attention_heads : c->num_attention_heads / c->num_key_value_heads;
    uint32_t limit = net->arch->is_mla ? 16 : FS_ATTENTION_QUERIES_MAX, heads = group;

    if (heads > limit)
        for (heads = limit; group % heads; heads--)
            ;
    fs_tiles_plan(ws, c->num_attention_heads, heads);
}

struct embed_job {
    fs_network *net;
    fs_workspace *ws;
    const fs_tensor *embed;
    float *y;
    size_t ldy;
};

static void embed_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct embed_job *job = ud;
    fs_workspace *ws = job->ws;

    (void)thread;
    for (size_t t = begin; t < end; t++) {
        fs_tensor_row_f32(job->embed, (uint64_t)ws->ids[t], job->y + t * job->ldy);
        fs_rope_angles(&job->net->rope, ws->positions[t], ws->rows[ws->row_of[t]].cache->ctx_limit,
                       ws->cs + t * job->net->rope.dim);
    }
}

void fs_layer_run(fs_network *net, fs_workspace *ws, const fs_layer *layer, uint32_t index, const float *next_norm, unsigned next_takes)
{
    const fs_activations *a = ws->keeps ? net->activations : NULL;
    const fs_layer_activations *kept = a ? &a->layers[index] : NULL;

    net->arch->attention(net, ws, layer, index);
    fs_add_norm_kept(net, ws, ws->x, ws->y, layer->post_attention_norm, layer->ffn_takes, ws->n_tokens, kept ? kept->x_mid : 0);
    if (layer->is_moe)
        fs_moe_run(net, ws, &layer->moe, ws->n_tokens, ws->y, kept);
    else
        fs_ffn_run(net, ws, &layer->ffn, ws->n_tokens, ws->y, kept);
    fs_add_norm_kept(net, ws, ws->x, ws->y, next_norm, next_takes, ws->n_tokens, !a ? 0 : index + 1 < a->n_layers ? a->layers[index + 1].x : a->x);
}

/* Takes the rows into the workspace; ids and room are checked before anything is written. */
static fs_status take_rows(fs_network *net, fs_workspace *ws, const fs_step_rows *rows, size_t n_rows, bool mtp, fs_error *err)
{
    uint32_t t = 0;

    assert(n_rows > 0 && n_rows <= ws->sequences_max);
    ws->rows = rows;
    ws->n_rows = n_rows;
    ws->keeps = false;
    for (size_t r = 0; r < n_rows; r++) {
        uint32_t pos = mtp ? rows[r].cache->n_mtp_tokens : rows[r].cache->n_tokens;
        assert(rows[r].n > 0 && rows[r].n <= ws->tokens_max - t && rows[r].n_logits <= rows[r].n);
        if (rows[r].n > rows[r].cache->ctx_limit - pos)
            return fs_fail(err, FS_ERR_CONTEXT_FULL, "the context is full: %u tokens and %u more, %u fit", pos, rows[r].n,
                           rows[r].cache->ctx_limit);
        for (uint32_t i = 0; i < rows[r].n; i++, t++) {
            if (rows[r].ids[i] < 0 || (uint32_t)rows[r].ids[i] >= net->config->vocab_size)
                return fs_fail(err, FS_ERR_ARGUMENT, "token id %" PRId32 " is outside the vocabulary of %u", rows[r].ids[i],
                               net->config->vocab_size);
            ws->ids[t] = rows[r].ids[i];
            ws->positions[t] = pos + i;
            ws->row_of[t] = (uint32_t)r;
            ws->kept[t] = !mtp && rows[r].ret_kept ? rows[r].ret_kept + i * net->activations->row : NULL;
            ws->keeps = ws->keeps || ws->kept[t];
        }
    }
    ws->n_tokens = t;
    return FS_OK;
}

static fs_status check_logits(const fs_network *net, const float *logits, size_t n_rows, fs_error *err)
{
    size_t v = net->config->vocab_size;

    for (size_t r = 0; r < n_rows; r++) {
        size_t nan = net->kernels->rows.find_nan(logits + r * v, v);
        if (nan)
            return fs_fail(err, FS_ERR_NUMERIC, "logit %zu is a NaN: the result is invalid", nan - 1);
    }
    return FS_OK;
}

/* Logits of the wanted rows: straight into the caller's array when one sequence asks, else through a staging array so
 * that one product serves all. */
static fs_status head_rows(fs_network *net, fs_workspace *ws, fs_error *err)
{
    const fs_config *c = net->config;
    size_t d = c->hidden_size, v = c->vocab_size, n_wanted = 0, n_asking = 0, t = 0, at = 0;
    const fs_step_rows *asking = NULL;
    fs_status rc = FS_OK;

    for (size_t r = 0; r < ws->n_rows; r++) {
        const fs_step_rows *row = &ws->rows[r];
        t += row->n;
        if (!row->n_logits)
            continue;
        n_asking++;
        asking = row;
        fs_norm_rows(net, ws->x + (t - row->n_logits) * d, d, net->norm, c->rms_norm_eps, ws->head_in + n_wanted * d, d, d,
                     row->n_logits);
        n_wanted += row->n_logits;
    }
    if (n_asking == 1) {
        fs_linear_run(net, ws, &net->lm_head, ws->head_in, d, n_wanted, asking->ret_logits, v);
        return check_logits(net, asking->ret_logits, n_wanted, err);
    }
    for (size_t r = 0, i = 0; at < n_wanted && !rc; at += ws->logit_rows_max) {
        size_t m = n_wanted - at < ws->logit_rows_max ? n_wanted - at : ws->logit_rows_max;
        fs_linear_run(net, ws, &net->lm_head, ws->head_in + at * d, d, m, ws->logits, v);
        rc = check_logits(net, ws->logits, m, err);
        for (size_t j = 0; j < m; j++, i++) {
            while (i == ws->rows[r].n_logits) {
                r++;
                i = 0;
            }
            memcpy(ws->rows[r].ret_logits + i * v, ws->logits + j * v, v * sizeof(float));
        }
    }
    return rc;
}

static void see_head_input(fs_network *net, fs_workspace *ws)
{
    size_t d = net->config->hidden_size, m = ws->n_tokens;

    fs_norm_rows(net, ws->x, d, net->norm, net->config->rms_norm_eps, ws->head_in, d, d, m);
    fs_importance_see(net->options.importance, net->pool, net->head_input, 0, ws->head_in, d, m);
}

static void begin_layers(fs_network *net)
{
    if (net->experts)
        fs_experts_begin(net->experts);
}

/* Fails where an expert could not be read. The plan counts no embedding rows: their pages may go. */
static fs_status end_layers(fs_network *net, fs_error *err)
{
    if (!net->experts)
        return FS_OK;
    fs_weights_drop(net->weights, net->embed_tokens);
    return fs_experts_end(net->experts, err);
}

static void run_layers(fs_network *net, fs_workspace *ws)
{
    const fs_config *c = net->config;
    size_t d = c->hidden_size;
    struct embed_job embed = { net, ws, net->embed_tokens, ws->x, d };

    plan_tiles(net, ws);
    fs_pool_for(net->pool, ws->n_tokens, fs_row_grain(net, ws->n_tokens), embed_piece, &embed);
    fs_add_norm_kept(net, ws, ws->x, NULL, net->layers[0].input_norm, net->layers[0].attention_takes, ws->n_tokens, 0);
    for (uint32_t i = 0; i < c->num_hidden_layers; i++) {
        const fs_layer *next = i + 1 < c->num_hidden_layers ? &net->layers[i + 1] : NULL;
        fs_layer_run(net, ws, &net->layers[i], i, next ? next->input_norm : NULL, next ? next->attention_takes : 0);
    }
    for (size_t r = 0, t = 0; r < ws->n_rows; t += ws->rows[r++].n)
        if (ws->rows[r].ret_hidden)
            fs_norm_rows(net, ws->x + t * d, d, net->norm, c->rms_norm_eps, ws->rows[r].ret_hidden, d, d, ws->rows[r].n);
}

fs_status fs_network_step(fs_network *net, fs_workspace *ws, const fs_step_rows *rows, size_t n_rows, fs_error *err)
{
    fs_status rc = take_rows(net, ws, rows, n_rows, false, err);

    if (rc)
        return rc;
    begin_layers(net);
    fs_stored_begin(net, ws->n_tokens);
    if (net->arch->run)
        net->arch->run(net, ws);
    else
        run_layers(net, ws);
    rc = end_layers(net, err);
    if (!rc && net->head_input)
        see_head_input(net, ws);
    if (!rc)
        rc = head_rows(net, ws, err);
    for (size_t r = 0; r < n_rows; r++)
        fs_cache_written(net, rows[r].cache, rows[r].cache->n_tokens + rows[r].n, !rc);
    return rc;
}

/* The input of eh_proj: [enorm(embedding) | hnorm(hidden)] a row. The embedding half stands first. */
static void mtp_input(fs_network *net, fs_workspace *ws, const float *hidden)
{
    size_t d = net->config->hidden_size, m = ws->n_tokens;
    struct embed_job embed = { net, ws, net->mtp.embed_tokens, ws->y, d };

    fs_pool_for(net->pool, m, fs_row_grain(net, m), embed_piece, &embed);
    fs_norm_rows(net, ws->y, d, net->mtp.enorm, net->config->rms_norm_eps, ws->head_in, 2 * d, d, m);
    fs_norm_rows(net, hidden, d, net->mtp.hnorm, net->config->rms_norm_eps, ws->head_in + d, 2 * d, d, m);
}

/* V3's layer over the step's rows; leaves ws->x before its norm. */
static void run_mtp(fs_network *net, fs_workspace *ws, const float *hidden)
{
    const fs_config *c = net->config;
    size_t d = c->hidden_size, n = ws->n_tokens;
    fs_mtp *m = &net->mtp;

    plan_tiles(net, ws);
    mtp_input(net, ws, hidden);
    fs_linear_run(net, ws, &m->eh_proj, ws->head_in, 2 * d, n, ws->x, d);
    fs_norm_in(net, ws, ws->x, m->layer.input_norm, m->layer.attention_takes, n);
    fs_layer_run(net, ws, &m->layer, c->num_hidden_layers, NULL, 0);
}

fs_status fs_network_mtp_step(fs_network *net, fs_workspace *ws, fs_cache *cache, const float *hidden, const int32_t *next_ids,
                              uint32_t n, uint32_t n_last, float *ret_logits, float *ret_hidden, fs_error *err)
{
    const fs_config *c = net->config;
    size_t d = c->hidden_size;
    fs_mtp *m = &net->mtp;
    fs_step_rows row = { .cache = cache, .ids = next_ids, .n = n };
    fs_status rc = take_rows(net, ws, &row, 1, true, err);

    assert(m->present && n_last <= n);
    if (rc)
        return rc;
    begin_layers(net);
    if (net->arch->run_mtp)
        net->arch->run_mtp(net, ws, hidden, n_last, ret_hidden);
    else
        run_mtp(net, ws, hidden);
    rc = end_layers(net, err);
    if (!rc && n_last) {
        fs_norm_rows(net, ws->x + (n - n_last) * d, d, m->norm, c->rms_norm_eps, ws->h, d, d, n_last);
        if (ret_hidden && !net->arch->run_mtp)
            memcpy(ret_hidden, ws->h, n_last * d * sizeof *ret_hidden);
        fs_linear_run(net, ws, m->own_head ? &m->head : &net->lm_head, ws->h, d, n_last, ret_logits, c->vocab_size);
        rc = check_logits(net, ret_logits, n_last, err);
    }
    if (!rc)
        cache->n_mtp_tokens += n;
    return rc;
}
