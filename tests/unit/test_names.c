/* llama.cpp's names and metadata of DeepSeek's own architectures: what test_weights.c does not have. WRAP_ALLOC */
#include "formats/names.h"
#include "formats/weights.h"

#include "alloc_fail.h"
#include "make_gguf.h"
#include "unit.h"

static const char *const files[] = { "m.gguf", NULL };

/* Every key of an architecture with experts, of one layer of width 8 with two heads. */
static void common(gguf_file *f, const char *arch, uint32_t n_blocks)
{
    static const struct { const char *name; uint32_t value; } values[] = {
        { "context_length", 64 }, { "vocab_size", 5 }, { "embedding_length", 8 }, { "attention.head_count", 2 }, { "expert_count", 4 },
        { "expert_used_count", 2 }, { "expert_shared_count", 1 }, { "expert_feed_forward_length", 3 },
    };
    char key[96];

    value_text(f, "general.architecture", arch);
    snprintf(key, sizeof key, "%s.block_count", arch);
    value_u32(f, key, n_blocks);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, values[i].name);
        value_u32(f, key, values[i].value);
    }
    tensor(f, "output.weight", 0, 5, 8, 0);
}

static fs_weights *open_ok(gguf_file *f, const char *folder)
{
    fs_weights *w = NULL;
    fs_error err = { 0 };

    write_gguf(f, folder, "m.gguf");
    assert_ok(fs_weights_open(folder, &w, &err), err);
    return w;
}

static void refused(gguf_file *f, const char *folder, fs_status code, const char *says)
{
    fs_weights *w = NULL;
    fs_error err = { 0 };

    write_gguf(f, folder, "m.gguf");
    assert_int_equal(fs_weights_open(folder, &w, &err), code);
    assert_sentence(err, says);
}

/* The tensor hub is there, and holds base, base + 1, ... */
static void holds(const fs_weights *w, const char *hub, float base)
{
    const fs_tensor *t = fs_weights_find(w, hub);
    float row[16];

    if (!t)
        fail_msg("'%s' is missing", hub);
    fs_tensor_row_f32(t, 0, row);
    assert_true(row[0] == base);
}

static void deepseek32_is_deepseek2_with_an_indexer(void **state)
{
    static const struct { const char *gguf, *hub; } names[] = {
        { "blk.0.indexer.attn_q_b.weight", "model.layers.0.self_attn.indexer.wq_b.weight" },
        { "blk.0.indexer.attn_k.weight", "model.layers.0.self_attn.indexer.wk.weight" },
        { "blk.0.indexer.k_norm.weight", "model.layers.0.self_attn.indexer.k_norm.weight" },
        { "blk.0.indexer.k_norm.bias", "model.layers.0.self_attn.indexer.k_norm.bias" },
        { "blk.0.indexer.proj.weight", "model.layers.0.self_attn.indexer.weights_proj.weight" },
        { "blk.0.attn_kv_a_mqa.weight", "model.layers.0.self_attn.kv_a_proj_with_mqa.weight" },
    };
    char *folder = make_folder();
    const fs_config *c;
    gguf_file f = { 0 };
    fs_weights *w;

    (void)state;
    for (int with_keys = 0; with_keys < 2; with_keys++) {
        common(&f, "deepseek32", 1);
        value_u32(&f, "deepseek32.feed_forward_length", 12);
        value_u32(&f, "deepseek32.attention.kv_lora_rank", 6);
        value_u32(&f, "deepseek32.attention.key_length_mla", 5);
        value_u32(&f, "deepseek32.attention.value_length_mla", 4);
        value_u32(&f, "deepseek32.rope.dimension_count", 2);
        value_u32(&f, "deepseek32.expert_gating_func", 2);
        value_u32(&f, "deepseek32.attention.indexer.head_count", 3);
        value_u32(&f, "deepseek32.attention.indexer.key_length", 4);
        if (with_keys)
            value_u32(&f, "deepseek32.attention.indexer.top_k", 7);
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            tensor(&f, names[i].gguf, 10 * (float)i, 4, 0, 0);
        if (!with_keys)
            refused(&f, folder, FS_ERR_FORMAT, "'deepseek32.attention.indexer.top_k' is missing");
    }
    w = open_ok(&f, folder);
    c = fs_weights_config(w);
    assert_string_equal(c->model_type, "deepseek_v32");
    assert_true(c->index_n_heads == 3 && c->index_head_dim == 4 && c->index_topk == 7 && c->kv_lora_rank == 6);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        holds(w, names[i].hub, 10 * (float)i);
    fs_weights_close(w);
    remove_folder(folder, files);
}

static void v4_values(gguf_file *f, const uint32_t *ratios, size_t n_ratios, uint32_t n_mtp)
{
    static const float limits[] = { 7.5f, 7.5f };

    common(f, "deepseek4", 2 + n_mtp);
    value_u32(f, "deepseek4.attention.head_count_kv", 1);
    value_u32(f, "deepseek4.attention.key_length", 6);
    value_u32(f, "deepseek4.attention.q_lora_rank", 4);
    value_u32(f, "deepseek4.rope.dimension_count", 2);
    value_u32(f, "deepseek4.attention.sliding_window", 16);
    value_u32(f, "deepseek4.attention.output_group_count", 2);
    value_u32(f, "deepseek4.attention.output_lora_rank", 9);
    value_f32(f, "deepseek4.attention.compress_rope_freq_base", 160001);
    value_u32(f, "deepseek4.hyper_connection.count", 4);
    value_u32(f, "deepseek4.hyper_connection.sinkhorn_iterations", 20);
    value_f32(f, "deepseek4.hyper_connection.epsilon", 1e-5f);
    value_u32(f, "deepseek4.hash_layer_count", 1);
    value_u32(f, "deepseek4.attention.indexer.head_count", 3);
    value_u32(f, "deepseek4.attention.indexer.key_length", 4);
    value_u32(f, "deepseek4.attention.indexer.top_k", 7);
    value_u32(f, "deepseek4.expert_gating_func", 4);
    value_f32s(f, "deepseek4.swiglu_clamp_exp", limits, 2);
    if (n_mtp)
        value_u32(f, "deepseek4.nextn_predict_layers", n_mtp);
    if (n_ratios)
        value_u32s(f, "deepseek4.attention.compress_ratios", ratios, n_ratios);
}

static void deepseek4_has_the_hubs_names_and_values(void **state)
{
    static const struct { const char *gguf, *hub; } names[] = {
        { "token_embd.weight", "embed.weight" },
        { "output_norm.weight", "norm.weight" },
        { "output_hc_fn.weight", "hc_head_fn" },
        { "output_hc_base.weight", "hc_head_base" },
        { "output_hc_scale.weight", "hc_head_scale" },
        { "blk.0.attn_norm.weight", "layers.0.attn_norm.weight" },
        { "blk.1.ffn_norm.weight", "layers.1.ffn_norm.weight" },
        { "blk.0.hc_attn_fn.weight", "layers.0.hc_attn_fn" },
        { "blk.0.hc_attn_base.weight", "layers.0.hc_attn_base" },
        { "blk.0.hc_attn_scale.weight", "layers.0.hc_attn_scale" },
        { "blk.0.hc_ffn_fn.weight", "layers.0.hc_ffn_fn" },
        { "blk.0.hc_ffn_base.weight", "layers.0.hc_ffn_base" },
        { "blk.0.hc_ffn_scale.weight", "layers.0.hc_ffn_scale" },
        { "blk.0.attn_sinks.weight", "layers.0.attn.attn_sink" },
        { "blk.0.attn_q_a.weight", "layers.0.attn.wq_a.weight" },
        { "blk.0.attn_q_a_norm.weight", "layers.0.attn.q_norm.weight" },
        { "blk.0.attn_q_b.weight", "layers.0.attn.wq_b.weight" },
        { "blk.0.attn_kv.weight", "layers.0.attn.wkv.weight" },
        { "blk.0.attn_kv_a_norm.weight", "layers.0.attn.kv_norm.weight" },
        { "blk.0.attn_output_a.weight", "layers.0.attn.wo_a.weight" },
        { "blk.0.attn_output_b.weight", "layers.0.attn.wo_b.weight" },
        { "blk.1.attn_compressor_kv.weight", "layers.1.attn.compressor.wkv.weight" },
        { "blk.1.attn_compressor_gate.weight", "layers.1.attn.compressor.wgate.weight" },
        { "blk.1.attn_compressor_ape.weight", "layers.1.attn.compressor.ape" },
        { "blk.1.attn_compressor_norm.weight", "layers.1.attn.compressor.norm.weight" },
        { "blk.1.indexer.attn_q_b.weight", "layers.1.attn.indexer.wq_b.weight" },
        { "blk.1.indexer.proj.weight", "layers.1.attn.indexer.weights_proj.weight" },
        { "blk.1.indexer_compressor_kv.weight", "layers.1.attn.indexer.compressor.wkv.weight" },
        { "blk.1.indexer_compressor_gate.weight", "layers.1.attn.indexer.compressor.wgate.weight" },
        { "blk.1.indexer_compressor_ape.weight", "layers.1.attn.indexer.compressor.ape" },
        { "blk.1.indexer_compressor_norm.weight", "layers.1.attn.indexer.compressor.norm.weight" },
        { "blk.1.ffn_gate_inp.weight", "layers.1.ffn.gate.weight" },
        { "blk.1.exp_probs_b.bias", "layers.1.ffn.gate.bias" },
        { "blk.0.ffn_gate_tid2eid.weight", "layers.0.ffn.gate.tid2eid" },
        { "blk.1.ffn_gate_shexp.weight", "layers.1.ffn.shared_experts.w1.weight" },
        { "blk.1.ffn_down_shexp.weight", "layers.1.ffn.shared_experts.w2.weight" },
        { "blk.1.ffn_up_shexp.weight", "layers.1.ffn.shared_experts.w3.weight" },
        { "blk.2.attn_q_a.weight", "mtp.0.attn.wq_a.weight" },
        { "blk.2.nextn.e_proj.weight", "mtp.0.e_proj.weight" },
        { "blk.2.nextn.h_proj.weight", "mtp.0.h_proj.weight" },
        { "blk.2.nextn.eh_proj.weight", "mtp.0.eh_proj.weight" },
        { "blk.2.nextn.enorm.weight", "mtp.0.enorm.weight" },
        { "blk.2.nextn.hnorm.weight", "mtp.0.hnorm.weight" },
        { "blk.2.nextn.shared_head_norm.weight", "mtp.0.norm.weight" },
        { "blk.2.nextn.hc_head_fn.weight", "mtp.0.hc_head_fn" },
        { "blk.2.nextn.hc_head_base.weight", "mtp.0.hc_head_base" },
        { "blk.2.nextn.hc_head_scale.weight", "mtp.0.hc_head_scale" },
    };
    static const char *const nowhere[] = {
        "layers.2.attn_norm.weight", "mtp.1.attn_norm.weight", "layers.0.enorm.weight", "layers.01.attn_norm.weight", "layers. 1.attn_norm.weight",
        "layers.0.ffn.experts.00.w1.weight", "layers.0.ffn.experts.1.w4.weight", "layers.0.ffn.experts.1.w1", "layers.0.ffn.experts.1.w1.scale",
        "layers.0.ffn.experts.9999.w1.weight", "model.layers.0.mlp.gate.weight", "layers", "mtp.0.", "",
    };
    static const uint32_t ratios[] = { 0, 4, 0 };
    char *folder = make_folder(), back[64];
    const fs_config *c;
    const fs_tensor *t = NULL;
    uint32_t expert;
    gguf_file f = { 0 };
    fs_weights *w;
    float row[8];

    (void)state;
    v4_values(&f, ratios, 3, 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        tensor(&f, names[i].gguf, 10 * (float)i, 4, 0, 0);
    tensor(&f, "blk.1.ffn_gate_exps.weight", 1000, 4, 3, 8);
    tensor(&f, "blk.1.ffn_down_exps.weight", 2000, 4, 8, 3);
    tensor(&f, "blk.2.ffn_up_exps.weight", 3000, 4, 3, 8);
    w = open_ok(&f, folder);
    c = fs_weights_config(w);
    assert_string_equal(c->model_type, "deepseek_v4");
    assert_true(c->num_hidden_layers == 2 && c->num_nextn_predict_layers == 1 && c->intermediate_size == 0);
    assert_true(c->num_key_value_heads == 1 && c->head_dim == 6 && c->q_lora_rank == 4 && c->qk_rope_head_dim == 2);
    assert_true(c->partial_rotary_factor == 1 && c->kv_lora_rank == 0 && c->sliding_window == 16);
    assert_true(c->o_groups == 2 && c->o_lora_rank == 9 && c->compress_rope_theta == 160001 && c->num_hash_layers == 1);
    assert_true(c->hc_mult == 4 && c->hc_sinkhorn_iters == 20 && c->hc_eps == 1e-5 && c->swiglu_limit == 7.5);
    assert_true(c->n_compress_ratios == 3 && c->compress_ratios[0] == 0 && c->compress_ratios[1] == 4);
    assert_true(c->scoring_func == FS_SCORING_SQRTSOFTPLUS && c->topk_method == FS_TOPK_NOAUX_TC && c->index_topk == 7);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        holds(w, names[i].hub, 10 * (float)i);
    assert_int_equal(fs_weights_get(w, "layers.1.ffn.experts.3.w1.weight", &t, NULL, 2, (uint64_t)3, (uint64_t)8), FS_OK);
    fs_tensor_row_f32(t, 2, row);
    assert_true(row[1] == 1000 + 3 * 24 + 2 * 8 + 1);
    assert_int_equal(fs_weights_get(w, "layers.1.ffn.experts.0.w2.weight", &t, NULL, 2, (uint64_t)8, (uint64_t)3), FS_OK);
    holds(w, "mtp.0.ffn.experts.1.w3.weight", 3024);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_true(fs_name_to_gguf(c, names[i].hub, back, sizeof back));
        assert_string_equal(back, names[i].gguf);
    }
    assert_true(fs_expert_name_to_gguf(c, "mtp.0.ffn.experts.3.w2.weight", back, sizeof back, &expert));
    assert_string_equal(back, "blk.2.ffn_down_exps.weight");
    assert_int_equal(expert, 3);
    for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++) {
        assert_false(fs_name_to_gguf(c, nowhere[i], back, sizeof back));
        assert_false(fs_expert_name_to_gguf(c, nowhere[i], back, sizeof back, &expert));
    }
    fs_weights_close(w);
    remove_folder(folder, files);
}

static void wrong_deepseek4_files_are_refused(void **state)
{
    static const uint32_t ratios[] = { 0, 4, 5000 }, huge[] = { 0, 70000 };
    static const char *const strangers[] = { "blk.0.nextn.enorm.weight", "blk.2.attn_q_a.weight", "blk.0.attn_k.weight", "output_hc_fn.bias" };
    static const float limits[] = { 7.5f, 8.5f };
    char *folder = make_folder();
    gguf_file f = { 0 };

    (void)state;
    v4_values(&f, ratios, 0, 0), refused(&f, folder, FS_ERR_FORMAT, "'deepseek4.attention.compress_ratios' is missing");
    v4_values(&f, ratios, 1, 0), refused(&f, folder, FS_ERR_FORMAT, "compress_ratios has an entry for every layer");
    v4_values(&f, ratios, 3, 0), refused(&f, folder, FS_ERR_FORMAT, "'compress_ratios'[2] is 5000");
    v4_values(&f, huge, 2, 0), refused(&f, folder, FS_ERR_FORMAT, "compress_ratios'[1] is 70000");
    v4_values(&f, ratios, 0, 0), value_text(&f, "deepseek4.attention.compress_ratios", "0, 4");
    refused(&f, folder, FS_ERR_FORMAT, "'deepseek4.attention.compress_ratios' is no list");
    v4_values(&f, ratios, 2, 0), value_f32s(&f, "deepseek4.swiglu_clamp_shexp", limits, 2);
    refused(&f, folder, FS_ERR_UNSUPPORTED, "'deepseek4.swiglu_clamp_shexp' differs between layers");
    v4_values(&f, ratios, 2, 0), value_f32s(&f, "deepseek4.swiglu_clamp_shexp", limits + 1, 1);
    refused(&f, folder, FS_ERR_UNSUPPORTED, "clamped at 8.5, the others at 7.5");
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        v4_values(&f, ratios, 2, 0), tensor(&f, strangers[i], 0, 4, 0, 0);
        refused(&f, folder, FS_ERR_UNSUPPORTED, strangers[i]);
    }
    remove_folder(folder, files);
}

/* The first MoE: heads as in llama, permuted as there, experts as in V2. */
static void deepseek_is_llama_with_experts(void **state)
{
    char *folder = make_folder();
    const fs_config *c;
    gguf_file f = { 0 };
    fs_weights *w;

    (void)state;
    common(&f, "deepseek", 1);
    value_u32(&f, "deepseek.feed_forward_length", 12);
    value_u32(&f, "deepseek.rope.dimension_count", 4);
    value_u32(&f, "deepseek.leading_dense_block_count", 1);
    tensor(&f, "blk.0.attn_q.weight", 0, 8, 8, 0);
    tensor(&f, "blk.0.ffn_up_exps.weight", 0, 4, 3, 8);
    w = open_ok(&f, folder);
    c = fs_weights_config(w);
    assert_string_equal(c->model_type, "deepseek");
    assert_true(c->n_routed_experts == 4 && c->scoring_func == FS_SCORING_SOFTMAX && c->topk_method == FS_TOPK_GREEDY);
    assert_true(c->head_dim == 4 && c->partial_rotary_factor == 1 && !c->norm_topk_prob && c->first_k_dense_replace == 1);
    assert_int_equal(fs_weights_find(w, "model.layers.0.self_attn.q_proj.weight")->rope_heads, 2);
    holds(w, "model.layers.0.mlp.experts.2.up_proj.weight", 48);
    fs_weights_close(w);
    remove_folder(folder, files);
}

static void any_allocation_may_fail(void **state)
{
    static const uint32_t ratios[] = { 0, 4 };
    char *folder = make_folder();
    gguf_file f = { 0 };
    fs_weights *w = NULL;
    fs_status rc;
    long n;

    (void)state;
    v4_values(&f, ratios, 2, 0);
    tensor(&f, "blk.1.ffn_gate_exps.weight", 0, 4, 3, 8);
    tensor(&f, "blk.1.attn_q_a.weight", 0, 4, 8, 0);
    write_gguf(&f, folder, "m.gguf");
    for (n = 1; alloc_fail_at(n), (rc = fs_weights_open(folder, &w, NULL)) != FS_OK; n++)
        assert_int_equal(rc, FS_ERR_MEMORY);
    alloc_fail_off();
    assert_true(n > 10);
    fs_weights_close(w);
    remove_folder(folder, files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deepseek32_is_deepseek2_with_an_indexer),
        cmocka_unit_test(deepseek4_has_the_hubs_names_and_values),
        cmocka_unit_test(wrong_deepseek4_files_are_refused),
        cmocka_unit_test(deepseek_is_llama_with_experts),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
