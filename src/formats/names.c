/* Renames and slices; see the header. Names are collected in one growing buffer, as offsets until it stands still. */
#include "formats/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct list {
    const fs_config *config;
    bool rope_permuted, v4;
    fs_tensor *tensors;
    size_t *name_at; /* into names */
    size_t n, capacity;
    fs_buf names;
} list;

static const struct { const char *gguf, *hub; } global_names[] = {
    { "token_embd", "model.embed_tokens" },
    { "output_norm", "model.norm" },
    { "output", "lm_head" },
    { "rope_freqs", "rope_freqs" },
};

/* Of "blk.N.", in "model.layers.N.". */
static const struct { const char *gguf, *hub; } block_names[] = {
    { "attn_norm", "input_layernorm" },
    { "ffn_norm", "post_attention_layernorm" },
    { "attn_q", "self_attn.q_proj" },
    { "attn_k", "self_attn.k_proj" },
    { "attn_v", "self_attn.v_proj" },
    { "attn_output", "self_attn.o_proj" },
    { "attn_q_norm", "self_attn.q_norm" },
    { "attn_k_norm", "self_attn.k_norm" },
    { "attn_q_a", "self_attn.q_a_proj" },
    { "attn_q_a_norm", "self_attn.q_a_layernorm" },
    { "attn_q_b", "self_attn.q_b_proj" },
    { "attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa" },
    { "attn_kv_a_norm", "self_attn.kv_a_layernorm" },
    { "attn_kv_b", "self_attn.kv_b_proj" },
    { "attn_k_b", "self_attn.k_b_proj" },
    { "attn_v_b", "self_attn.v_b_proj" },
    { "indexer.attn_q_b", "self_attn.indexer.wq_b" },
    { "indexer.attn_k", "self_attn.indexer.wk" },
    { "indexer.k_norm", "self_attn.indexer.k_norm" },
    { "indexer.proj", "self_attn.indexer.weights_proj" },
    { "ffn_gate", "mlp.gate_proj" },
    { "ffn_up", "mlp.up_proj" },
    { "ffn_down", "mlp.down_proj" },
    { "ffn_gate_inp", "mlp.gate" },
    { "ffn_gate_shexp", "mlp.shared_experts.gate_proj" },
    { "ffn_up_shexp", "mlp.shared_experts.up_proj" },
    { "ffn_down_shexp", "mlp.shared_experts.down_proj" },
    { "nextn.eh_proj", "eh_proj" },
    { "nextn.embed_tokens", "embed_tokens" },
    { "nextn.enorm", "enorm" },
    { "nextn.hnorm", "hnorm" },
    { "nextn.shared_head_norm", "shared_head.norm" },
    { "nextn.shared_head_head", "shared_head.head" },
};

static const struct { const char *gguf, *hub; } expert_names[] = {
    { "ffn_gate_exps", "gate_proj" },
    { "ffn_up_exps", "up_proj" },
    { "ffn_down_exps", "down_proj" },
};

/* V4 has names of its own, some without ".weight": whole names here. */
static const struct { const char *gguf, *hub; } v4_names[] = {
    { "token_embd.weight", "embed.weight" },
    { "output_norm.weight", "norm.weight" },
    { "output.weight", "head.weight" },
    { "output_hc_fn.weight", "hc_head_fn" },
    { "output_hc_base.weight", "hc_head_base" },
    { "output_hc_scale.weight", "hc_head_scale" },
};

/* Of "blk.N.", in "layers.N." or "mtp.N.". */
static const struct { const char *gguf, *hub; } v4_block_names[] = {
    { "attn_norm.weight", "attn_norm.weight" },
    { "ffn_norm.weight", "ffn_norm.weight" },
    { "hc_attn_fn.weight", "hc_attn_fn" },
    { "hc_attn_base.weight", "hc_attn_base" },
    { "hc_attn_scale.weight", "hc_attn_scale" },
    { "hc_ffn_fn.weight", "hc_ffn_fn" },
    { "hc_ffn_base.weight", "hc_ffn_base" },
    { "hc_ffn_scale.weight", "hc_ffn_scale" },
    { "attn_sinks.weight", "attn.attn_sink" },
    { "attn_q_a.weight", "attn.wq_a.weight" },
    { "attn_q_a_norm.weight", "attn.q_norm.weight" },
    { "attn_q_b.weight", "attn.wq_b.weight" },
    { "attn_kv.weight", "attn.wkv.weight" },
    { "attn_kv_a_norm.weight", "attn.kv_norm.weight" },
    { "attn_output_a.weight", "attn.wo_a.weight" },
    { "attn_output_b.weight", "attn.wo_b.weight" },
    { "attn_compressor_kv.weight", "attn.compressor.wkv.weight" },
    { "attn_compressor_gate.weight", "attn.compressor.wgate.weight" },
    { "attn_compressor_ape.weight", "attn.compressor.ape" },
    { "attn_compressor_norm.weight", "attn.compressor.norm.weight" },
    { "indexer.attn_q_b.weight", "attn.indexer.wq_b.weight" },
    { "indexer.proj.weight", "attn.indexer.weights_proj.weight" },
    { "indexer_compressor_kv.weight", "attn.indexer.compressor.wkv.weight" },
    { "indexer_compressor_gate.weight", "attn.indexer.compressor.wgate.weight" },
    { "indexer_compressor_ape.weight", "attn.indexer.compressor.ape" },
    { "indexer_compressor_norm.weight", "attn.indexer.compressor.norm.weight" },
    { "ffn_gate_inp.weight", "ffn.gate.weight" },
    { "exp_probs_b.bias", "ffn.gate.bias" },
    { "ffn_gate_tid2eid.weight", "ffn.gate.tid2eid" },
    { "ffn_gate_shexp.weight", "ffn.shared_experts.w1.weight" },
    { "ffn_down_shexp.weight", "ffn.shared_experts.w2.weight" },
    { "ffn_up_shexp.weight", "ffn.shared_experts.w3.weight" },
};

/* Of the blocks that predict ahead alone. */
static const struct { const char *gguf, *hub; } v4_mtp_names[] = {
    { "nextn.e_proj.weight", "e_proj.weight" },
    { "nextn.h_proj.weight", "h_proj.weight" },
    { "nextn.eh_proj.weight", "eh_proj.weight" }, /* both side by side */
    { "nextn.enorm.weight", "enorm.weight" },
    { "nextn.hnorm.weight", "hnorm.weight" },
    { "nextn.shared_head_norm.weight", "norm.weight" },
    { "nextn.hc_head_fn.weight", "hc_head_fn" },
    { "nextn.hc_head_base.weight", "hc_head_base" },
    { "nextn.hc_head_scale.weight", "hc_head_scale" },
};

static const struct { const char *gguf, *hub; } v4_expert_names[] = {
    { "ffn_gate_exps.weight", "w1" },
    { "ffn_down_exps.weight", "w2" },
    { "ffn_up_exps.weight", "w3" },
};

static bool equal(const char *s, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(s, word, n) == 0;
}

/* Adds t; its name is what the caller has appended to names from name_at on, without the closing NUL. */
static fs_status add(list *l, const fs_tensor *t, size_t name_at, fs_error *err)
{
    fs_status rc = fs_buf_append(&l->names, "", 1, err);

    if (rc)
        return rc;
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 64;
        fs_tensor *tensors = realloc(l->tensors, capacity * sizeof *tensors);
        size_t *places;
        if (!tensors)
            return fs_fail_memory(err, capacity * sizeof *tensors);
        l->tensors = tensors;
        places = realloc(l->name_at, capacity * sizeof *places);
        if (!places)
            return fs_fail_memory(err, capacity * sizeof *places);
        l->name_at = places;
        l->capacity = capacity;
    }
    l->tensors[l->n] = *t;
    l->name_at[l->n++] = name_at;
    return FS_OK;
}

static fs_status not_known(const fs_tensor *t, const fs_config *c, fs_error *err)
{
    return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' has no place in a model of type '%s' with %" PRIu32 " + %" PRIu32 " layers",
                   t->name, c->model_type, c->num_hidden_layers, c->num_nextn_predict_layers);
}

/* One view an expert, called "<prefix><expert>.<proj>.weight". */
static fs_status add_experts(list *l, const fs_tensor *t, const char *prefix, const char *proj, fs_error *err)
{
    fs_tensor one = *t;

    if (t->n_dims != 3 || t->dims[0] != l->config->n_routed_experts || t->n_bytes == 0)
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' has %d dimensions, the first %" PRIu64 ", and %zu bytes; expected a matrix for each of %"
                       PRIu32 " experts", t->name, t->n_dims, t->n_dims ? t->dims[0] : 0, t->n_bytes, l->config->n_routed_experts);
    one.n_dims = 2;
    one.dims[0] = t->dims[1];
    one.dims[1] = t->dims[2];
    one.dims[2] = 0;
    one.n_bytes = t->n_bytes / t->dims[0];
    for (uint32_t e = 0; e < l->config->n_routed_experts; e++, one.data += one.n_bytes) {
        size_t name_at = l->names.n_bytes;
        fs_status rc = fs_buf_printf(&l->names, err, "%s%" PRIu32 ".%s.weight", prefix, e, proj);
        if (!rc)
            rc = add(l, &one, name_at, err);
        if (rc)
            return rc;
    }
    return FS_OK;
}

/* llama.cpp's converter reorders the rows of each head of q and k, for architectures llama and deepseek only. */
static fs_status mark_permuted(const list *l, fs_tensor *t, const char *stem, size_t stem_bytes, fs_error *err)
{
    const fs_config *c = l->config;
    uint32_t heads = equal(stem, stem_bytes, "attn_q") ? c->num_attention_heads : equal(stem, stem_bytes, "attn_k") ? c->num_key_value_heads : 0;

    if (!l->rope_permuted || !heads)
        return FS_OK;
    if (t->n_dims != 2)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' has %d dimensions; permuted rows are read in matrices only", t->name, t->n_dims);
    if (t->dims[0] != (uint64_t)heads * c->head_dim)
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' has %" PRIu64 " rows, %" PRIu32 " heads of %" PRIu32 " need %" PRIu64, t->name,
                       t->dims[0], heads, c->head_dim, (uint64_t)heads * c->head_dim);
    t->rope_heads = heads;
    return FS_OK;
}

/* "<prefix>N.rest"; false for anything else, and for numbers with leading zeros or too large for a layer or an expert. */
static bool numbered(const char *name, const char *prefix, uint32_t *ret_no, const char **ret_rest)
{
    size_t n_prefix = strlen(prefix);
    uint32_t n = 0;

    if (strncmp(name, prefix, n_prefix) != 0)
        return false;
    name += n_prefix;
    if (*name < '0' || *name > '9' || (name[0] == '0' && name[1] != '.'))
        return false;
    for (; *name >= '0' && *name <= '9'; name++) {
        n = 10 * n + (uint32_t)(*name - '0');
        if (n > FS_CONFIG_EXPERTS_MAX)
            return false;
    }
    if (*name != '.')
        return false;
    *ret_no = n;
    *ret_rest = name + 1;
    return true;
}

static fs_status add_block_tensor(list *l, const fs_tensor *t, uint32_t layer, const char *rest, fs_error *err)
{
    const char *dot = strrchr(rest, '.'), *hub = NULL;
    size_t stem_bytes, name_at = l->names.n_bytes;
    fs_tensor renamed = *t;
    char prefix[64];
    fs_status rc;

    if (layer >= l->config->num_hidden_layers + l->config->num_nextn_predict_layers || !dot)
        return not_known(t, l->config, err);
    stem_bytes = (size_t)(dot - rest);
    if (strcmp(rest, "exp_probs_b.bias") == 0) {
        rc = fs_buf_printf(&l->names, err, "model.layers.%" PRIu32 ".mlp.gate.e_score_correction_bias", layer);
        return rc ? rc : add(l, t, name_at, err);
    }
    if (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0)
        return not_known(t, l->config, err);
    for (size_t i = 0; i < sizeof expert_names / sizeof *expert_names; i++)
        if (equal(rest, stem_bytes, expert_names[i].gguf) && strcmp(dot, ".weight") == 0) {
            snprintf(prefix, sizeof prefix, "model.layers.%" PRIu32 ".mlp.experts.", layer);
            return add_experts(l, t, prefix, expert_names[i].hub, err);
        }
    for (size_t i = 0; i < sizeof block_names / sizeof *block_names; i++)
        if (equal(rest, stem_bytes, block_names[i].gguf))
            hub = block_names[i].hub;
    if (!hub)
        return not_known(t, l->config, err);
    rc = mark_permuted(l, &renamed, rest, stem_bytes, err);
    if (!rc)
        rc = fs_buf_printf(&l->names, err, "model.layers.%" PRIu32 ".%s%s", layer, hub, dot);
    return rc ? rc : add(l, &renamed, name_at, err);
}

#define FIND(table, name, ret)                                        \
    for (size_t i = 0; i < sizeof(table) / sizeof *(table); i++)      \
        if (strcmp((table)[i].gguf, (name)) == 0)                     \
            *(ret) = (table)[i].hub

static fs_status add_v4_tensor(list *l, const fs_tensor *t, fs_error *err)
{
    uint32_t layer, n_layers = l->config->num_hidden_layers;
    const char *rest, *hub = NULL, *proj = NULL;
    size_t name_at = l->names.n_bytes;
    char prefix[64] = "", experts[80];
    fs_status rc;

    if (!numbered(t->name, "blk.", &layer, &rest)) {
        FIND(v4_names, t->name, &hub);
    } else if (layer < n_layers + l->config->num_nextn_predict_layers) {
        bool mtp = layer >= n_layers;
        snprintf(prefix, sizeof prefix, "%s.%" PRIu32 ".", mtp ? "mtp" : "layers", mtp ? layer - n_layers : layer);
        FIND(v4_block_names, rest, &hub);
        FIND(v4_expert_names, rest, &proj);
        if (mtp)
            FIND(v4_mtp_names, rest, &hub);
    }
    if (proj) {
        snprintf(experts, sizeof experts, "%sffn.experts.", prefix);
        return add_experts(l, t, experts, proj, err);
    }
    if (!hub)
        return not_known(t, l->config, err);
    rc = fs_buf_printf(&l->names, err, "%s%s", prefix, hub);
    return rc ? rc : add(l, t, name_at, err);
}

static fs_status add_tensor(list *l, const fs_tensor *t, fs_error *err)
{
    const char *dot = strrchr(t->name, '.'), *rest;
    uint32_t layer;

    if (l->v4)
        return add_v4_tensor(l, t, err);
    if (numbered(t->name, "blk.", &layer, &rest))
        return add_block_tensor(l, t, layer, rest, err);
    for (size_t i = 0; dot && strcmp(dot, ".weight") == 0 && i < sizeof global_names / sizeof *global_names; i++)
        if (equal(t->name, (size_t)(dot - t->name), global_names[i].gguf)) {
            size_t name_at = l->names.n_bytes;
            fs_status rc = fs_buf_printf(&l->names, err, "%s%s", global_names[i].hub, dot);
            return rc ? rc : add(l, t, name_at, err);
        }
    return not_known(t, l->config, err);
}

fs_status fs_names_to_hub(const fs_gguf *const *parts, size_t n_parts, const fs_config *c, fs_tensor **ret_tensors,
                          size_t *ret_n, char **ret_names, fs_error *err)
{
    list l = { .config = c };
    fs_bytes arch = { 0 };
    fs_status rc = fs_gguf_string(parts[0], "general.architecture", &arch, NULL, err);

    l.rope_permuted = fs_bytes_equal(arch, FS_BYTES_LIT("llama")) || fs_bytes_equal(arch, FS_BYTES_LIT("deepseek"));
    l.v4 = fs_bytes_equal(arch, FS_BYTES_LIT("deepseek4"));
    for (size_t i = 0; i < n_parts && !rc; i++)
        for (size_t k = 0; k < fs_gguf_n_tensors(parts[i]) && !rc; k++)
            rc = add_tensor(&l, fs_gguf_tensor_at(parts[i], k), err);
    if (rc) {
        free(l.tensors);
        free(l.name_at);
        fs_buf_done(&l.names);
        return rc;
    }
    for (size_t i = 0; i < l.n; i++)
        l.tensors[i].name = l.names.data + l.name_at[i];
    free(l.name_at);
    *ret_tensors = l.tensors;
    *ret_n = l.n;
    *ret_names = l.names.data;
    return FS_OK;
}

/* ---- the other way ---- */

static bool is_v4(const fs_config *c)
{
    return strcmp(c->model_type, "deepseek_v4") == 0;
}

/* The block that a layer's tensor is in and its name there; V4's layers that predict ahead stand behind the others. */
static bool hub_block(const fs_config *c, const char *hub, uint32_t *ret_block, const char **ret_rest)
{
    if (is_v4(c) && numbered(hub, "mtp.", ret_block, ret_rest)) {
        *ret_block += c->num_hidden_layers;
        return *ret_block < c->num_hidden_layers + c->num_nextn_predict_layers;
    }
    if (is_v4(c))
        return numbered(hub, "layers.", ret_block, ret_rest) && *ret_block < c->num_hidden_layers;
    return numbered(hub, "model.layers.", ret_block, ret_rest) && *ret_block < c->num_hidden_layers + c->num_nextn_predict_layers;
}

static bool fits(int n_written, size_t n)
{
    return n_written > 0 && (size_t)n_written < n;
}

#define FIND_GGUF(table, name, ret)                                   \
    for (size_t i = 0; i < sizeof(table) / sizeof *(table); i++)      \
        if (strcmp((table)[i].hub, (name)) == 0)                      \
            *(ret) = (table)[i].gguf

static bool v4_name_to_gguf(const fs_config *c, const char *hub, char *ret, size_t n)
{
    const char *rest, *gguf = NULL;
    uint32_t block;

    FIND_GGUF(v4_names, hub, &gguf);
    if (gguf)
        return fits(snprintf(ret, n, "%s", gguf), n);
    if (!hub_block(c, hub, &block, &rest))
        return false;
    FIND_GGUF(v4_block_names, rest, &gguf);
    if (!gguf && block >= c->num_hidden_layers)
        FIND_GGUF(v4_mtp_names, rest, &gguf);
    return gguf && fits(snprintf(ret, n, "blk.%" PRIu32 ".%s", block, gguf), n);
}

bool fs_name_to_gguf(const fs_config *c, const char *hub, char *ret, size_t n)
{
    const char *rest, *dot = strrchr(hub, '.');
    uint32_t layer;

    if (is_v4(c))
        return v4_name_to_gguf(c, hub, ret, n);
    if (!dot)
        return false;
    for (size_t i = 0; i < sizeof global_names / sizeof *global_names; i++)
        if (equal(hub, (size_t)(dot - hub), global_names[i].hub))
            return fits(snprintf(ret, n, "%s%s", global_names[i].gguf, dot), n);
    if (!hub_block(c, hub, &layer, &rest))
        return false;
    if (strcmp(rest, "mlp.gate.e_score_correction_bias") == 0)
        return fits(snprintf(ret, n, "blk.%" PRIu32 ".exp_probs_b.bias", layer), n);
    if (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0)
        return false;
    for (size_t i = 0; i < sizeof block_names / sizeof *block_names; i++)
        if (dot > rest && equal(rest, (size_t)(dot - rest), block_names[i].hub))
            return fits(snprintf(ret, n, "blk.%" PRIu32 ".%s%s", layer, block_names[i].gguf, dot), n);
    return false;
}

bool fs_expert_name_to_gguf(const fs_config *c, const char *hub, char *ret, size_t n, uint32_t *ret_expert)
{
    const char *rest, *gguf = NULL;
    uint32_t block;
    char stem[32];

    if (!hub_block(c, hub, &block, &rest) || !numbered(rest, is_v4(c) ? "ffn.experts." : "mlp.experts.", ret_expert, &rest))
        return false;
    if (strlen(rest) <= strlen(".weight") || strcmp(rest + strlen(rest) - strlen(".weight"), ".weight") != 0)
        return false;
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(rest) - strlen(".weight")), rest);
    if (is_v4(c)) {
        FIND_GGUF(v4_expert_names, stem, &gguf);
        return gguf && fits(snprintf(ret, n, "blk.%" PRIu32 ".%s", block, gguf), n);
    }
    FIND_GGUF(expert_names, stem, &gguf);
    return gguf && fits(snprintf(ret, n, "blk.%" PRIu32 ".%s.weight", block, gguf), n);
}
