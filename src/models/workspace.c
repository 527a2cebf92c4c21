/* The activations of a step, planned once: every array has the size the largest step needs. The plan and the
 * allocation are one walk, so that they cannot disagree. */
#include "models/internal.h"

#include <assert.h>
#include <stdlib.h>

#define LOGIT_ROWS_MAX 32
#define STORED_BYTES   ((size_t)192 << 10) /* panels packed at once: they stay in the second cache */

/* While planning, arrays are only counted. */
struct fs_ws_walk {
    fs_arena *arena; /* NULL: planning */
    size_t n_bytes;
    bool overflow;
};

void *fs_ws_array(fs_ws_walk *w, size_t elem_bytes, size_t a, size_t b)
{
    size_t n;

    if (!fs_mul_size(elem_bytes, a, &n) || !fs_mul_size(n, b, &n) || !fs_add_size(n, 63, &n) ||
        !fs_add_size(w->n_bytes, n & ~(size_t)63, &w->n_bytes)) {
        w->overflow = true;
        return NULL;
    }
    return w->arena ? fs_arena_alloc(w->arena, n & ~(size_t)63) : NULL;
}

#define ARRAY(field, a, b) ws->field = fs_ws_array(w, sizeof *ws->field, (a), (b))

/* Room for the codes of rows rows of k values, if the network takes any. */
static void codes_array(const fs_network *net, fs_ws_walk *w, uint8_t **ret, size_t rows, size_t k)
{
    if (net->takes & FS_TAKES_CODES && k)
        *ret = fs_ws_array(w, 1, rows, fs_quants_row_bytes((uint32_t)((k + 255) & ~(size_t)255)));
}

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void walk(const fs_network *net, fs_workspace *ws, fs_ws_walk *w)
{
    const fs_config *c = net->config;
    size_t t = ws->tokens_max, d = c->hidden_size, heads = c->num_attention_heads, e = c->n_routed_experts;
    size_t k = c->num_experts_per_tok, ffn_floats = e && c->first_k_dense_replace == 0 && c->moe_layer_freq == 1 ? 0 : c->intermediate_size;
    size_t tiles_a_token = heads, heads_k = heads * (((size_t)c->kv_lora_rank > c->qk_nope_head_dim ? c->kv_lora_rank : c->qk_nope_head_dim) + 256);

    ws->scratch_bytes = max_size(FS_GEMM_SCRATCH_BYTES, fs_attention_scratch_bytes(net->k_dim, net->arch->is_mla ? c->kv_lora_rank : net->v_dim));
    ws->scratch_bytes = (ws->scratch_bytes + 4095) & ~(size_t)4095;
    ws->scratch = fs_ws_array(w, 1, (size_t)ws->n_threads, ws->scratch_bytes);
    if (net->stored_panel_bytes) {
        ws->panels_bytes = (max_size(STORED_BYTES, net->stored_panel_bytes) + 63) & ~(size_t)63;
        ws->panels = fs_ws_array(w, 1, (size_t)ws->n_threads, ws->panels_bytes);
    }
    ARRAY(ids, t, 1);
    ARRAY(positions, t, 1);
    ARRAY(row_of, t, 1);
    ARRAY(kept, t, 1);
    ARRAY(cs, t, net->rope.dim);
    ARRAY(x, t, d);
    ARRAY(h, t, d);
    codes_array(net, w, &ws->h_codes, t, d);
    codes_array(net, w, &ws->stage, max_size(t, LOGIT_ROWS_MAX) * (net->arch->run_mtp ? c->hc_mult : 1), net->arch->is_mla ? max_size(net->codes_k, heads_k) : net->codes_k);
    ARRAY(y, t, d);
    if (net->arch->is_mla) {
        size_t lat = (size_t)c->kv_lora_rank + c->qk_rope_head_dim;
        ARRAY(q, t, heads * (c->qk_nope_head_dim + c->qk_rope_head_dim));
        ARRAY(k, t, lat);
        ARRAY(q_a, t, c->q_lora_rank);
        ARRAY(q_lat, t, heads * lat);
        ARRAY(o_lat, t, heads * c->kv_lora_rank);
        ARRAY(att, t, heads * c->v_head_dim);
        if (net->arch->has_indexer) {
            ARRAY(index_q, t, (size_t)c->index_n_heads * c->index_head_dim);
            ARRAY(index_k, t, c->index_head_dim);
            ARRAY(index_w, t, c->index_n_heads);
            ARRAY(selected, t, c->index_topk);
            ws->index_scratch_bytes = (fs_indexer_scratch_bytes(c) + 63) & ~(size_t)63;
            ws->sparse_scratch_bytes = (fs_sparse_scratch_bytes(lat, c->kv_lora_rank) + 63) & ~(size_t)63;
            ws->index_scratch = fs_ws_array(w, 1, (size_t)ws->n_threads, ws->index_scratch_bytes);
            ws->sparse_scratch = fs_ws_array(w, 1, (size_t)ws->n_threads, ws->sparse_scratch_bytes);
        }
    } else {
        size_t kv = (size_t)c->num_key_value_heads * c->head_dim;
        ARRAY(q, t, heads * c->head_dim);
        ARRAY(k, t, kv);
        ARRAY(v, t, kv);
        ARRAY(att, t, heads * c->head_dim);
    }
    if (e) {
        size_t shared = (size_t)c->n_shared_experts * c->moe_intermediate_size;
        ffn_floats = max_size(ffn_floats, k * c->moe_intermediate_size);
        ARRAY(router, t, e);
        ARRAY(biased, (size_t)ws->n_threads, 2 * e);
        ARRAY(top_ids, t, k);
        ARRAY(top_weights, t, k);
        ARRAY(slot, t, k);
        ARRAY(slot_of_row, t, k);
        ARRAY(expert_begin, e + 1, 1);
        ARRAY(active, e + 1, 1);
        ARRAY(guess_ids, t, k);
        ARRAY(votes, e, 1);
        ARRAY(guess, e, 1);
        ARRAY(ready, e, 1);
        ARRAY(gathered, t * k, d);
        codes_array(net, w, &ws->gathered_codes, t * k, d);
        ARRAY(expert_out, t * k, d);
        ARRAY(shared_gate, t, shared);
        ARRAY(shared_up, t, shared);
        ARRAY(shared_out, t, d);
    }
    codes_array(net, w, &ws->gate_codes, t, ffn_floats + (e ? k * 256 : 0)); /* rows of moe_intermediate_size, each rounded up */
    ARRAY(gate, t, ffn_floats);
    ARRAY(up, t, ffn_floats);
    if (net->lora_rank) {
        ws->lora_rows = max_size(max_size(t, t * max_size(k, net->mtp.present && c->hc_mult ? c->hc_mult : 1)), LOGIT_ROWS_MAX);
        ARRAY(lora, FS_PRODUCTS_MAX * ws->lora_rows, net->lora_rank);
        ARRAY(lora_tile, (size_t)ws->n_threads, FS_LORA_TILE_FLOATS);
    }
    ws->n_tiles_max = t * tiles_a_token;
    ARRAY(tiles, ws->n_tiles_max, 1);
    if (net->kv_q8) {
        size_t value_dim = net->arch->is_mla ? c->kv_lora_rank : net->v_dim;
        size_t words = FS_KV_BLOCK * fs_pairs(net->k_dim) + FS_KV_BLOCK / 2 * net->v_dim + FS_ATTENTION_QUERIES_MAX * value_dim;
        ws->kv_block_bytes = (words * sizeof(fs_pair) + 63) & ~(size_t)63;
        ws->kv_block = fs_ws_array(w, 1, (size_t)ws->n_threads, ws->kv_block_bytes);
    }
    if (ws->n_threads > 1 && net->k_dim) {
        size_t value_dim = net->arch->is_mla ? c->kv_lora_rank : net->v_dim;
        ws->cut_rows = fs_cut_rows(ws->n_threads);
        ARRAY(cut_m, ws->cut_rows, 1);
        ARRAY(cut_l, ws->cut_rows, 1);
        ARRAY(cut_o, ws->cut_rows, value_dim);
        ARRAY(cut_max, fs_cut_tiles_max(ws->n_threads), FS_ATTENTION_QUERIES_MAX);
        ARRAY(cut_sum, fs_cut_tiles_max(ws->n_threads), FS_ATTENTION_QUERIES_MAX);
    }
    ARRAY(head_in, max_size(t, LOGIT_ROWS_MAX), net->mtp.present ? 2 * d : d);
    ws->logit_rows_max = (uint32_t)(t < LOGIT_ROWS_MAX ? t : LOGIT_ROWS_MAX);
    ARRAY(logits, ws->logit_rows_max, c->vocab_size);
    if (net->arch->workspace)
        net->arch->workspace(net, ws, w);
}

size_t fs_workspace_bytes(const fs_network *net, uint32_t tokens_max, uint32_t sequences_max)
{
    fs_workspace ws = { .tokens_max = tokens_max, .sequences_max = sequences_max, .n_threads = fs_pool_threads(net->pool) };
    fs_ws_walk w = { 0 };

    walk(net, &ws, &w);
    return w.overflow ? SIZE_MAX : w.n_bytes;
}

fs_status fs_workspace_new(const fs_network *net, uint32_t tokens_max, uint32_t sequences_max, fs_workspace **ret, fs_error *err)
{
    size_t n_bytes = fs_workspace_bytes(net, tokens_max, sequences_max);
    fs_workspace *ws = calloc(1, sizeof *ws);
    fs_ws_walk w = { 0 };
    fs_status rc;

    if (!ws)
        return fs_fail_memory(err, sizeof *ws);
    ws->tokens_max = tokens_max;
    ws->sequences_max = sequences_max;
    ws->n_threads = fs_pool_threads(net->pool);
    rc = n_bytes == SIZE_MAX ? fs_fail(err, FS_ERR_MEMORY, "the activations of %u tokens would not fit in the address space", tokens_max)
                             : fs_arena_init_lazy(&ws->arena, n_bytes, err);
    if (rc) {
        fs_workspace_free(ws);
        return rc;
    }
    w.arena = &ws->arena;
    walk(net, ws, &w);
    *ret = ws;
    return FS_OK;
}

void fs_workspace_free(fs_workspace *ws)
{
    if (!ws)
        return;
    fs_arena_done(&ws->arena);
    free(ws);
}

uint32_t fs_workspace_tokens_max(const fs_workspace *ws)
{
    return ws->tokens_max;
}

uint32_t fs_workspace_sequences_max(const fs_workspace *ws)
{
    return ws->sequences_max;
}
