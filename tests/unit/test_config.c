/* config.json: defaults, every spelling of rope scaling, and a sentence for what makes no sense. WRAP_ALLOC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/file.h"
#include "alloc_fail.h"
#include "formats/config.h"

#include <stdio.h>
#include <string.h>

#define DENSE "\"vocab_size\":100,\"hidden_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":4," \
              "\"intermediate_size\":96,\"max_position_embeddings\":512"
#define MLA "\"kv_lora_rank\":32,\"qk_nope_head_dim\":16,\"qk_rope_head_dim\":8,\"v_head_dim\":16"
#define MOE "\"n_routed_experts\":8,\"num_experts_per_tok\":2,\"moe_intermediate_size\":24,\"n_shared_experts\":1"

static fs_config parse(const char *json)
{
    fs_config c = { 0 };
    fs_error err = { 0 };

    if (fs_config_from_json(&c, fs_bytes_str(json), "config.json", &err))
        fail_msg("%s: %s", json, err.message);
    return c;
}

static void an_absent_or_null_key_takes_its_default(void **state)
{
    fs_config c = parse("{\"model_type\":\"qwen2\"," DENSE ",\"head_dim\":null,\"q_lora_rank\":null,\"eos_token_id\":null,"
                        "\"rope_scaling\":null,\"bos_token_id\":null,\"quantization_config\":null}");

    (void)state;
    assert_string_equal(c.model_type, "qwen2");
    assert_int_equal(c.num_key_value_heads, 4);
    assert_int_equal(c.head_dim, 16);
    assert_true(c.rms_norm_eps == 1e-6 && c.rope_theta == 10000 && c.rope_factor == 1 && c.partial_rotary_factor == 1);
    assert_true(c.beta_fast == 32 && c.beta_slow == 1 && c.rope_type == FS_ROPE_DEFAULT);
    assert_true(c.n_routed_experts == 0 && c.kv_lora_rank == 0 && !c.fp8 && !c.tie_word_embeddings);
    assert_true(c.bos_token_id == -1 && c.n_eos_token_ids == 0);
    fs_config_done(&c);
}

static void a_model_type_brings_its_router(void **state)
{
    fs_config c = parse("{\"model_type\":\"deepseek_v3\"," DENSE "," MLA "," MOE "}");

    (void)state;
    assert_true(c.scoring_func == FS_SCORING_SIGMOID && c.topk_method == FS_TOPK_NOAUX_TC && c.norm_topk_prob);
    assert_true(c.routed_scaling_factor == 2.5 && c.n_group == 1 && c.moe_layer_freq == 1);
    assert_int_equal(c.head_dim, 8);
    c = parse("{\"model_type\":\"deepseek_v2\"," DENSE "," MLA "," MOE "}");
    assert_true(c.scoring_func == FS_SCORING_SOFTMAX && c.topk_method == FS_TOPK_GREEDY && !c.norm_topk_prob);
    assert_true(c.routed_scaling_factor == 1);
    c = parse("{\"model_type\":\"deepseek_v2\"," DENSE "," MLA "," MOE ",\"topk_method\":\"group_limited_greedy\",\"n_group\":4,"
              "\"topk_group\":2,\"scoring_func\":\"sigmoid\",\"norm_topk_prob\":true,\"routed_scaling_factor\":16}");
    assert_true(c.scoring_func == FS_SCORING_SIGMOID && c.topk_method == FS_TOPK_GROUP_LIMITED_GREEDY && c.norm_topk_prob);
    assert_true(c.routed_scaling_factor == 16 && c.n_group == 4 && c.topk_group == 2);
    c = parse("{\"model_type\":\"something_new\"," DENSE "}");
    assert_string_equal(c.model_type, "something_new");
}

#define V4 "\"q_lora_rank\":24,\"head_dim\":32,\"num_key_value_heads\":1,\"qk_rope_head_dim\":8,\"o_lora_rank\":16," \
           "\"sliding_window\":16,\"hc_mult\":4,\"hc_sinkhorn_iters\":20,\"num_hash_layers\":1"

static void v4_brings_its_own_fields(void **state)
{
    fs_config c = parse("{\"model_type\":\"deepseek_v4\"," DENSE "," MOE "," V4 ",\"o_groups\":2,\"compress_ratios\":[0,4,128],"
                        "\"index_n_heads\":16,\"index_head_dim\":8,\"index_topk\":4,\"swiglu_limit\":1.5}");

    (void)state;
    assert_true(c.scoring_func == FS_SCORING_SQRTSOFTPLUS && c.topk_method == FS_TOPK_NOAUX_TC && c.norm_topk_prob);
    assert_true(c.o_groups == 2 && c.o_lora_rank == 16 && c.sliding_window == 16 && c.num_hash_layers == 1);
    assert_true(c.hc_mult == 4 && c.hc_sinkhorn_iters == 20 && c.hc_eps == 1e-6 && c.compress_rope_theta == 160000);
    assert_true(c.index_n_heads == 16 && c.index_head_dim == 8 && c.index_topk == 4 && c.swiglu_limit == 1.5);
    assert_true(c.n_compress_ratios == 3 && c.compress_ratios[0] == 0 && c.compress_ratios[1] == 4 && c.compress_ratios[2] == 128);
    assert_int_equal(c.head_dim, 32);
    /* Another model's sliding_window is not ours to judge. */
    c = parse("{\"model_type\":\"qwen2\"," DENSE ",\"sliding_window\":-1}");
    assert_int_equal(c.sliding_window, 0);
}

static void rope_scaling_is_read_in_all_its_spellings(void **state)
{
    fs_config c = parse("{\"model_type\":\"llama\"," DENSE ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}}");

    (void)state;
    assert_true(c.rope_type == FS_ROPE_LINEAR && c.rope_factor == 4);
    c = parse("{\"model_type\":\"llama\"," DENSE ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
              "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":128}}");
    assert_true(c.rope_type == FS_ROPE_LLAMA3 && c.rope_factor == 8 && c.low_freq_factor == 1 && c.high_freq_factor == 4);
    assert_int_equal(c.original_max_position_embeddings, 128);
    c = parse("{\"model_type\":\"deepseek_v3\"," DENSE "," MLA "," MOE ",\"rope_theta\":500,\"rope_scaling\":{\"type\":\"yarn\","
              "\"factor\":40,\"mscale\":0.707,\"mscale_all_dim\":1,\"original_max_position_embeddings\":64,\"beta_fast\":16,\"beta_slow\":2}}");
    assert_true(c.rope_type == FS_ROPE_YARN && c.rope_theta == 500 && c.rope_factor == 40 && c.beta_fast == 16 && c.beta_slow == 2);
    assert_true(c.has_mscale && c.mscale == 0.707 && c.has_mscale_all_dim && c.mscale_all_dim == 1 && !c.has_attention_factor);
    c = parse("{\"model_type\":\"qwen3\"," DENSE ",\"rope_parameters\":{\"rope_theta\":1000000.0,\"rope_type\":\"yarn\",\"factor\":4.0,"
              "\"attention_factor\":1.5,\"attn_factor\":9}}");
    assert_true(c.rope_type == FS_ROPE_YARN && c.rope_theta == 1e6 && c.has_attention_factor && c.attention_factor == 1.5);
    assert_true(!c.has_mscale && c.original_max_position_embeddings == 512);
    c = parse("{\"model_type\":\"qwen3\"," DENSE ",\"rope_parameters\":{\"rope_theta\":300,\"rope_type\":\"default\"}}");
    assert_true(c.rope_type == FS_ROPE_DEFAULT && c.rope_theta == 300);
    c = parse("{\"model_type\":\"llama\"," DENSE ",\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":2}}");
    assert_true(c.rope_type == FS_ROPE_DYNAMIC && c.rope_factor == 2 && c.original_max_position_embeddings == 512);
    c = parse("{\"model_type\":\"phi3\"," DENSE ",\"original_max_position_embeddings\":256,\"rope_scaling\":{\"type\":\"longrope\","
              "\"long_factor\":[1,2.5],\"short_factor\":[1]}}");
    assert_true(c.rope_type == FS_ROPE_LONGROPE && c.n_long_factor == 2 && c.rope_long_factor[1] == 2.5f && c.n_short_factor == 1);
    assert_int_equal(c.original_max_position_embeddings, 256);
    fs_config_done(&c);
}

static void fp8_needs_its_block(void **state)
{
    fs_config c = parse("{\"model_type\":\"llama\"," DENSE ",\"quantization_config\":{\"quant_method\":\"fp8\",\"fmt\":\"e4m3\","
                        "\"weight_block_size\":[128,64],\"activation_scheme\":\"dynamic\"}}");

    (void)state;
    assert_true(c.fp8 && c.weight_block_rows == 128 && c.weight_block_cols == 64);
}

static void eos_tokens_come_from_both_files(void **state)
{
    fs_config c = parse("{\"model_type\":\"llama\"," DENSE ",\"eos_token_id\":[3,5,3],\"bos_token_id\":1}");
    fs_error err = { 0 };

    (void)state;
    assert_true(c.bos_token_id == 1 && c.n_eos_token_ids == 2 && c.eos_token_ids[0] == 3 && c.eos_token_ids[1] == 5);
    assert_int_equal(fs_config_add_generation(&c, FS_BYTES_LIT("{\"eos_token_id\":7,\"do_sample\":true}"), "g", &err), FS_OK);
    assert_int_equal(fs_config_add_generation(&c, FS_BYTES_LIT("{\"eos_token_id\":[5,8]}"), "g", &err), FS_OK);
    assert_int_equal(fs_config_add_generation(&c, FS_BYTES_LIT("{}"), "g", &err), FS_OK);
    assert_true(c.n_eos_token_ids == 4 && c.eos_token_ids[2] == 7 && c.eos_token_ids[3] == 8);
    assert_int_equal(fs_config_add_generation(&c, FS_BYTES_LIT("{\"eos_token_id\":100}"), "g", &err), FS_ERR_FORMAT);
    assert_non_null(strstr(err.message, "below vocab_size"));
    assert_int_equal(fs_config_add_generation(&c, FS_BYTES_LIT("{\"eos_token_id\":\"x\"}"), "g", &err), FS_ERR_FORMAT);
    assert_int_equal(fs_config_add_generation(&c, FS_BYTES_LIT("{\"eos_token_id\":[11,12,13,14,15]}"), "g", &err), FS_ERR_UNSUPPORTED);
}

static void values_out_of_sense_are_refused_by_name(void **state)
{
    static const struct { const char *json; fs_status code; const char *says; } bad[] = {
        { "[]", FS_ERR_FORMAT, "not an object" },
        { "{", FS_ERR_FORMAT, "JSON" },
        { "{" DENSE "}", FS_ERR_FORMAT, "'model_type' is missing" },
        { "{\"model_type\":3," DENSE "}", FS_ERR_FORMAT, "'model_type' is not a string" },
        { "{\"model_type\":\"\"," DENSE "}", FS_ERR_FORMAT, "model_type is no name" },
        { "{\"model_type\":\"a\\u0000b\"," DENSE "}", FS_ERR_FORMAT, "model_type is no name" },
        { "{\"model_type\":\"\\u001b]0;x\"," DENSE "}", FS_ERR_FORMAT, "model_type is no name" },
        { "{\"model_type\":\"a\\\"b\"," DENSE "}", FS_ERR_FORMAT, "model_type is no name" },
        { "{\"model_type\":\"0123456789012345678901234567890123456789\"," DENSE "}", FS_ERR_FORMAT, "model_type is no name" },
        { "{\"model_type\":\"x\"}", FS_ERR_FORMAT, "'vocab_size' is missing" },
        { "{\"model_type\":\"x\",\"vocab_size\":0}", FS_ERR_FORMAT, "'vocab_size' is 0" },
        { "{\"model_type\":\"x\",\"vocab_size\":\"many\"}", FS_ERR_FORMAT, "'vocab_size' is not an integer" },
        { "{\"model_type\":\"x\",\"vocab_size\":1e300}", FS_ERR_FORMAT, "'vocab_size'" },
        { "{\"model_type\":\"x\"," DENSE ",\"num_attention_heads\":0}", FS_ERR_FORMAT, "'num_attention_heads' is 0" },
        { "{\"model_type\":\"x\"," DENSE ",\"num_hidden_layers\":1025}", FS_ERR_FORMAT, "'num_hidden_layers' is 1025" },
        { "{\"model_type\":\"x\"," DENSE ",\"num_hidden_layers\":-1}", FS_ERR_FORMAT, "'num_hidden_layers' is -1" },
        { "{\"model_type\":\"x\"," DENSE ",\"hidden_size\":4294967360}", FS_ERR_FORMAT, "'hidden_size' is 4294967360" },
        { "{\"model_type\":\"x\"," DENSE ",\"num_attention_heads\":5}", FS_ERR_FORMAT, "'head_dim' is missing" },
        { "{\"model_type\":\"x\"," DENSE ",\"num_key_value_heads\":3}", FS_ERR_FORMAT, "multiple of num_key_value_heads" },
        { "{\"model_type\":\"x\"," DENSE ",\"head_dim\":7}", FS_ERR_FORMAT, "even" },
        { "{\"model_type\":\"x\"," DENSE ",\"head_dim\":65536,\"num_attention_heads\":65536}", FS_ERR_FORMAT, "num_attention_heads * head_dim" },
        { "{\"model_type\":\"x\"," DENSE ",\"rms_norm_eps\":0}", FS_ERR_FORMAT, "'rms_norm_eps' is 0" },
        { "{\"model_type\":\"x\"," DENSE ",\"rms_norm_eps\":\"1e-6\"}", FS_ERR_FORMAT, "'rms_norm_eps' is not a number" },
        { "{\"model_type\":\"x\"," DENSE ",\"rope_theta\":-1}", FS_ERR_FORMAT, "'rope_theta' is -1" },
        { "{\"model_type\":\"x\"," DENSE ",\"rope_theta\":NaN}", FS_ERR_FORMAT, "'rope_theta'" },
        { "{\"model_type\":\"x\"," DENSE ",\"tie_word_embeddings\":1}", FS_ERR_FORMAT, "'tie_word_embeddings' is not true" },
        { "{\"model_type\":\"x\"," DENSE ",\"partial_rotary_factor\":2}", FS_ERR_FORMAT, "'partial_rotary_factor' is 2" },
        { "{\"model_type\":\"x\"," DENSE ",\"bos_token_id\":100}", FS_ERR_FORMAT, "bos_token_id is below vocab_size" },
        { "{\"model_type\":\"x\"," DENSE ",\"eos_token_id\":100}", FS_ERR_FORMAT, "eos_token_id is below vocab_size" },
        { "{\"model_type\":\"x\"," DENSE ",\"eos_token_id\":-1}", FS_ERR_FORMAT, "eos_token_id -1" },
        { "{\"model_type\":\"x\"," DENSE ",\"eos_token_id\":[1,null]}", FS_ERR_FORMAT, "'eos_token_id'" },
        { "{\"model_type\":\"x\"," DENSE ",\"kv_lora_rank\":32}", FS_ERR_FORMAT, "'head_dim' is missing" },
        { "{\"model_type\":\"x\"," DENSE ",\"kv_lora_rank\":32,\"qk_rope_head_dim\":8}", FS_ERR_FORMAT, "'qk_nope_head_dim' is missing" },
        { "{\"model_type\":\"x\"," DENSE "," MLA ",\"qk_rope_head_dim\":9,\"head_dim\":8}", FS_ERR_FORMAT, "even" },
        { "{\"model_type\":\"x\"," DENSE ",\"n_routed_experts\":8}", FS_ERR_FORMAT, "'num_experts_per_tok' is missing" },
        { "{\"model_type\":\"x\"," DENSE "," MOE ",\"num_experts_per_tok\":9}", FS_ERR_FORMAT, "at most n_routed_experts" },
        { "{\"model_type\":\"x\"," DENSE "," MOE ",\"n_routed_experts\":4097}", FS_ERR_FORMAT, "'n_routed_experts' is 4097" },
        { "{\"model_type\":\"x\"," DENSE "," MOE ",\"n_routed_experts\":4096,\"num_hidden_layers\":17}", FS_ERR_FORMAT,
          "is at most 2^16' does not hold for 17 and 4096" },
        { "{\"model_type\":\"x\"," DENSE "," MOE ",\"n_routed_experts\":4096,\"num_nextn_predict_layers\":15}", FS_ERR_FORMAT,
          "is at most 2^16' does not hold for 17 and 4096" },
        { "{\"model_type\":\"x\"," DENSE "," MOE ",\"moe_layer_freq\":2,\"intermediate_size\":null}", FS_ERR_FORMAT,
          "'intermediate_size' is missing" },
        { "{\"model_type\":\"x\"," DENSE "," MOE ",\"n_group\":3}", FS_ERR_FORMAT, "multiple of n_group" },
        { "{\"model_type\":\"x\"," DENSE "," MOE ",\"n_group\":0}", FS_ERR_FORMAT, "'n_group' is 0" },
        { "{\"model_type\":\"x\"," DENSE "," MOE ",\"n_group\":2,\"topk_group\":3}", FS_ERR_FORMAT, "topk_group is at most" },
        { "{\"model_type\":\"deepseek_v3\"," DENSE "," MOE ",\"n_group\":8,\"topk_group\":2}", FS_ERR_FORMAT, "at least two experts" },
        { "{\"model_type\":\"deepseek_v3\"," DENSE "," MOE ",\"n_group\":8,\"topk_group\":1}", FS_ERR_FORMAT, "experts of the kept groups" },
        { "{\"model_type\":\"deepseek_v4\"," DENSE "," MOE "," V4 ",\"o_groups\":2}", FS_ERR_FORMAT, "compress_ratios" },
        { "{\"model_type\":\"deepseek_v4\"," DENSE "," MOE "," V4 ",\"o_groups\":2,\"compress_ratios\":[0,-4]}", FS_ERR_FORMAT, "[1]" },
        { "{\"model_type\":\"deepseek_v4\"," DENSE "," MOE "," V4 ",\"o_groups\":2,\"compress_ratios\":[0]}", FS_ERR_FORMAT, "every layer" },
        { "{\"model_type\":\"deepseek_v4\"," DENSE "," MOE "," V4 ",\"o_groups\":3,\"compress_ratios\":[0,4]}", FS_ERR_FORMAT, "o_groups" },
        { "{\"model_type\":\"deepseek_v4\"," DENSE "," MOE "," V4 ",\"compress_ratios\":[0,4]}", FS_ERR_FORMAT, "needs" },
        { "{\"model_type\":\"deepseek_v4\"," DENSE "," MOE "," V4 ",\"o_groups\":2,\"hc_eps\":0,\"compress_ratios\":[0,4]}", FS_ERR_FORMAT, "hc_eps" },
        { "{\"model_type\":\"deepseek_v4\"," DENSE "," MOE "," V4 ",\"o_groups\":2,\"swiglu_limit\":-1,\"compress_ratios\":[0,4]}", FS_ERR_FORMAT, "swiglu_limit" },
        { "{\"model_type\":\"deepseek_v32\"," DENSE "," MLA "," MOE ",\"index_n_heads\":4,\"index_head_dim\":8}", FS_ERR_FORMAT, "index_topk" },
        { "{\"model_type\":\"x\"," DENSE "," MOE ",\"first_k_dense_replace\":3}", FS_ERR_FORMAT, "first_k_dense_replace is at most" },
        { "{\"model_type\":\"x\"," DENSE "," MOE ",\"moe_layer_freq\":0}", FS_ERR_FORMAT, "'moe_layer_freq' is 0" },
        { "{\"model_type\":\"x\"," DENSE "," MOE ",\"topk_method\":\"magic\"}", FS_ERR_UNSUPPORTED, "'topk_method' is 'magic'" },
        { "{\"model_type\":\"x\"," DENSE "," MOE ",\"scoring_func\":\"magic\"}", FS_ERR_UNSUPPORTED, "'scoring_func' is 'magic'" },
        { "{\"model_type\":\"x\"," DENSE "," MOE ",\"routed_scaling_factor\":0}", FS_ERR_FORMAT, "'routed_scaling_factor' is 0" },
        { "{\"model_type\":\"x\"," DENSE ",\"num_nextn_predict_layers\":1024}", FS_ERR_FORMAT, "num_nextn_predict_layers is at most 1024" },
        { "{\"model_type\":\"x\"," DENSE ",\"rope_scaling\":[]}", FS_ERR_FORMAT, "'rope_scaling' is not an object" },
        { "{\"model_type\":\"x\"," DENSE ",\"rope_scaling\":{\"type\":\"mrope\",\"factor\":2}}", FS_ERR_UNSUPPORTED, "'type' is 'mrope'" },
        { "{\"model_type\":\"x\"," DENSE ",\"rope_scaling\":{\"type\":\"yarn\"}}", FS_ERR_FORMAT, "'factor' is missing" },
        { "{\"model_type\":\"x\"," DENSE ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":0.5}}", FS_ERR_FORMAT, "'factor' is 0.5" },
        { "{\"model_type\":\"x\"," DENSE ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"beta_slow\":0}}", FS_ERR_FORMAT, "'beta_slow' is 0" },
        { "{\"model_type\":\"x\"," DENSE ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"mscale\":-1}}", FS_ERR_FORMAT, "'mscale' is -1" },
        { "{\"model_type\":\"x\"," DENSE ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"attention_factor\":0}}", FS_ERR_FORMAT, "'attention_factor' is 0" },
        { "{\"model_type\":\"x\"," DENSE ",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":2}}", FS_ERR_FORMAT, "'low_freq_factor' is missing" },
        { "{\"model_type\":\"x\"," DENSE ",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":2,\"low_freq_factor\":4,\"high_freq_factor\":4}}",
          FS_ERR_FORMAT, "they must rise" },
        { "{\"model_type\":\"x\"," DENSE ",\"rope_scaling\":{\"type\":\"longrope\",\"long_factor\":[]}}", FS_ERR_FORMAT, "'long_factor' is no list" },
        { "{\"model_type\":\"x\"," DENSE ",\"rope_scaling\":{\"type\":\"longrope\",\"long_factor\":[1],\"short_factor\":[1,0]}}", FS_ERR_FORMAT,
          "'short_factor'[1]" },
        { "{\"model_type\":\"x\"," DENSE ",\"quantization_config\":{}}", FS_ERR_FORMAT, "'quant_method' is missing" },
        { "{\"model_type\":\"x\"," DENSE ",\"quantization_config\":{\"quant_method\":\"gptq\"}}", FS_ERR_UNSUPPORTED, "'gptq'" },
        { "{\"model_type\":\"x\"," DENSE ",\"quantization_config\":{\"quant_method\":\"fp8\"}}", FS_ERR_UNSUPPORTED, "'weight_block_size'" },
        { "{\"model_type\":\"x\"," DENSE ",\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,0]}}", FS_ERR_FORMAT,
          "'weight_block_size'[1]" },
        { "{\"model_type\":\"x\"," DENSE ",\"quantization_config\":{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\",\"weight_block_size\":[1,1]}}",
          FS_ERR_UNSUPPORTED, "'e5m2'" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fs_config c = { .hidden_size = 42 };
        fs_error err = { 0 };
        fs_status rc = fs_config_from_json(&c, fs_bytes_str(bad[i].json), "config.json", &err);
        if (rc != bad[i].code || !strstr(err.message, bad[i].says))
            fail_msg("%s\ngives %d, '%s', expected %d and '%s'", bad[i].json, rc, err.message, bad[i].code, bad[i].says);
        assert_memory_equal(err.message, "config.json", 11);
        assert_int_equal(c.hidden_size, 42);
    }
}

/* Each of the vectors' files, with what its name says it is. */
static void the_vectors_are_read(void **state)
{
    static const struct { const char *model, *type; fs_rope_type rope; uint32_t experts; bool fp8; } models[] = {
        { "ds_v2_lite", "deepseek_v2", FS_ROPE_YARN, 8, false },   { "ds_v2_group", "deepseek_v2", FS_ROPE_YARN, 12, false },
        { "ds_v3", "deepseek_v3", FS_ROPE_YARN, 16, false },       { "ds_v3_fp8", "deepseek_v3", FS_ROPE_YARN, 8, true },
        { "ds_v4", "deepseek_v4", FS_ROPE_YARN, 8, false },        { "ds_v4_fp4", "deepseek_v4", FS_ROPE_YARN, 6, true },
        { "qwen2", "qwen2", FS_ROPE_DEFAULT, 0, false },           { "qwen3", "qwen3", FS_ROPE_YARN, 0, false },
        { "llama3", "llama", FS_ROPE_LLAMA3, 0, false },           { "llama_linear", "llama", FS_ROPE_LINEAR, 0, false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[128];
        fs_buf text = { 0 };
        fs_config c = { 0 };
        snprintf(path, sizeof path, "tests/vectors/%s/config.json", models[i].model);
        assert_int_equal(fs_file_read(path, 1 << 20, &text, NULL), FS_OK);
        assert_int_equal(fs_config_from_json(&c, fs_buf_bytes(&text), path, NULL), FS_OK);
        assert_string_equal(c.model_type, models[i].type);
        assert_int_equal(c.rope_type, models[i].rope);
        assert_int_equal(c.n_routed_experts, models[i].experts);
        assert_int_equal(c.fp8, models[i].fp8);
        assert_true(c.n_eos_token_ids == 1 && c.eos_token_ids[0] == 1 && c.bos_token_id == 0);
        fs_config_done(&c);
        fs_buf_done(&text);
    }
}

static void any_allocation_may_fail(void **state)
{
    static const char json[] = "{\"model_type\":\"phi3\"," DENSE ",\"rope_scaling\":{\"type\":\"longrope\",\"long_factor\":[1,2],\"short_factor\":[1]}}";
    fs_status rc = FS_ERR_MEMORY;
    fs_config c = { 0 };
    long n;

    (void)state;
    for (n = 1; rc; n++) {
        alloc_fail_at(n);
        rc = fs_config_from_json(&c, fs_bytes_str(json), "c", NULL);
        alloc_fail_off();
        if (rc)
            assert_int_equal(rc, FS_ERR_MEMORY);
    }
    assert_true(n > 3);
    fs_config_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_absent_or_null_key_takes_its_default),
        cmocka_unit_test(a_model_type_brings_its_router),
        cmocka_unit_test(v4_brings_its_own_fields),
        cmocka_unit_test(rope_scaling_is_read_in_all_its_spellings),
        cmocka_unit_test(fp8_needs_its_block),
        cmocka_unit_test(eos_tokens_come_from_both_files),
        cmocka_unit_test(values_out_of_sense_are_refused_by_name),
        cmocka_unit_test(the_vectors_are_read),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
