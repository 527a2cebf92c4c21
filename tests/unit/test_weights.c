/* A model's files as one list of tensors under the Hub's names. WRAP_ALLOC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "formats/weights.h"
#include "make_files.h"
#include "make_gguf.h"
#include "tensor/blocks.h"

#define T(dtype, shape, begin, end) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"
#define INDEX(map) "{\"metadata\":{\"total_size\":1},\"weight_map\":{" map "}}"
#define CONFIG_OF(more) "{\"model_type\":\"llama\",\"vocab_size\":8,\"hidden_size\":8,\"num_hidden_layers\":2,\"num_attention_heads\":2," \
                        "\"intermediate_size\":8,\"max_position_embeddings\":64" more "}"
#define CONFIG CONFIG_OF("")
#define FP8(rows, cols) ",\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[" #rows "," #cols "]}"

static fs_weights *open_ok(const char *path)
{
    fs_weights *w = NULL;
    fs_error err = { 0 };

    if (fs_weights_open(path, &w, &err))
        fail_msg("%s: %s", path, err.message);
    return w;
}

static void refused(const char *path, fs_status code, const char *says)
{
    fs_weights *w = NULL;
    fs_error err = { 0 };
    fs_status rc = fs_weights_open(path, &w, &err);

    if (rc != code || !strstr(err.message, says) || w)
        fail_msg("gives %d, '%s', expected %d and '%s'", rc, err.message, code, says);
}

/* Opens path with the n-th allocation failing, n = 1, 2, ... until none does. */
static void open_with_failing_allocations(const char *path)
{
    fs_weights *w = NULL;
    fs_status rc = FS_ERR_MEMORY;
    long n;

    for (n = 1; rc; n++) {
        alloc_fail_at(n);
        rc = fs_weights_open(path, &w, NULL);
        alloc_fail_off();
        if (rc)
            assert_int_equal(rc, FS_ERR_MEMORY);
    }
    assert_true(n > 10);
    fs_weights_close(w);
}

/* ---- safetensors ---- */

static void put_safetensors(const char *folder, const char *name, const char *header, size_t data_bytes)
{
    fs_buf b = make_safetensors(header, data_bytes);
    put_file(folder, name, b.data, b.n_bytes);
    fs_buf_done(&b);
}

static const char *const hub_files[] = { "config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json",
                                         "a.safetensors", "b.safetensors", NULL };

/* A folder with this config.json and this model.safetensors. */
static char *make_model(const char *config, const char *header, size_t data_bytes)
{
    char *folder = make_folder();

    put_text_file(folder, "config.json", config);
    put_safetensors(folder, "model.safetensors", header, data_bytes);
    return folder;
}

static void the_vectors_open(void **state)
{
    static const struct { const char *model; size_t n_tensors; bool tied; } models[] = {
        { "ds_v2_lite", 83, false }, { "ds_v2_group", 64, false }, { "ds_v3", 207, false },   { "ds_v3_fp8", 93, false },
        { "qwen2", 39, false },      { "qwen2_tied", 26, true },   { "qwen3", 36, false },    { "llama3", 30, false },
        { "llama_linear", 21, false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char path[128];
        const fs_tensor *t = NULL;
        const fs_config *c;
        fs_weights *w;
        snprintf(path, sizeof path, "tests/vectors/%s", models[i].model);
        w = open_ok(path);
        c = fs_weights_config(w);
        assert_int_equal(fs_weights_n_tensors(w), models[i].n_tensors);
        assert_string_equal(fs_weights_folder(w), path);
        assert_null(fs_weights_gguf(w));
        assert_true(fs_weights_file_bytes(w) > 100000);
        assert_int_equal(c->tie_word_embeddings, models[i].tied);
        assert_int_equal(fs_weights_find(w, "lm_head.weight") == NULL, models[i].tied);
        assert_int_equal(fs_weights_get(w, "model.norm.weight", &t, NULL, 1, (uint64_t)c->hidden_size), FS_OK);
        for (size_t k = 1; k < fs_weights_n_tensors(w); k++)
            assert_true(strcmp(fs_weights_tensor_at(w, k - 1)->name, fs_weights_tensor_at(w, k)->name) < 0);
        fs_weights_close(w);
    }
}

static void a_safetensors_file_opens_with_the_config_beside_it(void **state)
{
    fs_weights *w = open_ok("tests/vectors/qwen2/model.safetensors");

    (void)state;
    assert_string_equal(fs_weights_folder(w), "tests/vectors/qwen2");
    assert_string_equal(fs_weights_config(w)->model_type, "qwen2");
    fs_weights_close(w);
    refused("tests/vectors/nothing", FS_ERR_NOT_FOUND, "'tests/vectors/nothing' does not exist");
    refused("tests/unit", FS_ERR_NOT_FOUND, "no model.safetensors");
    refused("tests/vectors/qwen2/config.json", FS_ERR_FORMAT, "'tests/vectors/qwen2/config.json': neither a GGUF nor a safetensors file");
}

static void fp8_rows_carry_their_scales(void **state)
{
    fs_weights *w = open_ok("tests/vectors/ds_v3_fp8");
    const char *name = "model.layers.0.mlp.gate_proj.weight";
    const fs_tensor *t = fs_weights_find(w, name), *s = fs_weights_find(w, "model.layers.0.mlp.gate_proj.weight_scale_inv");
    float row[160], scales[2][2];

    (void)state;
    assert_true(t->dtype == FS_DTYPE_F8_E4M3 && t->dims[0] == 144 && t->dims[1] == 160); /* ragged blocks both ways */
    assert_true(t->scales == s->data && t->scale_rows == 128 && t->scale_cols == 128);
    memcpy(scales, s->data, sizeof scales);
    for (uint64_t r = 0; r < 144; r++) {
        fs_tensor_row_f32(t, r, row);
        for (int c = 0; c < 160; c++)
            assert_true(row[c] == fs_e4m3_to_f32(t->data[r * 160 + (uint64_t)c]) * scales[r / 128][c / 128]);
    }
    fs_weights_close(w);
}

/* V4's storage: scales that are powers of two, FP4 packed as I8. Values by numpy (make_scaled_vectors.py). */
static void v4_rows_equal_numpy(void **state)
{
    static const struct { const char *name; uint64_t rows, cols; fs_dtype dtype; } matrices[] = {
        { "fp4.weight", 24, 96, FS_DTYPE_FP4_E2M1 }, { "fp8.weight", 24, 40, FS_DTYPE_F8_E4M3 }, { "odd.weight", 5, 34, FS_DTYPE_FP4_E2M1 },
    };
    fs_weights *w = open_ok("tests/vectors/scaled/weights.safetensors");
    fs_buf want = { 0 };
    size_t at = 0;

    (void)state;
    assert_int_equal(fs_file_read("tests/vectors/scaled/values.bin", 1 << 20, &want, NULL), FS_OK);
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        const fs_tensor *t = NULL;
        assert_int_equal(fs_weights_get(w, matrices[i].name, &t, NULL, 2, matrices[i].rows, matrices[i].cols), FS_OK);
        assert_true(t->dtype == matrices[i].dtype && t->scales && t->scale_dtype == FS_DTYPE_F8_E8M0);
        for (uint64_t r = 0; r < t->dims[0]; r++, at += t->dims[1] * sizeof(float)) {
            float row[96];
            fs_tensor_row_f32(t, r, row);
            assert_true(want.n_bytes - at >= t->dims[1] * sizeof(float));
            assert_memory_equal(row, want.data + at, t->dims[1] * sizeof(float));
        }
    }
    assert_int_equal(at, want.n_bytes);
    fs_buf_done(&want);
    fs_weights_close(w);
}

/* "X.scale" may be a parameter like any other; then it and "X.weight" stay what they are. */
static void other_tensors_called_scale_are_left_alone(void **state)
{
    char *folder = make_model(CONFIG_OF(FP8(2, 2)), "{\"x.weight\":" T("F32", "[1,1]", 0, 4) ",\"x.scale\":" T("F32", "[1]", 4, 8)
                              ",\"y.scale\":" T("BF16", "[1]", 8, 10) ",\"z.weight\":" T("I8", "[1,2]", 10, 12)
                              ",\"z.scale\":" T("F32", "[1,1]", 12, 16) "}", 16);
    fs_weights *w = open_ok(folder);

    (void)state;
    assert_null(fs_weights_find(w, "x.weight")->scales);
    assert_int_equal(fs_weights_find(w, "z.weight")->dtype, FS_DTYPE_I8);
    fs_weights_close(w);
    remove_folder(folder, hub_files);
}

static void get_names_what_is_wrong(void **state)
{
    fs_weights *w = open_ok("tests/vectors/qwen2");
    const fs_tensor *t = NULL;
    fs_error err;

    (void)state;
    assert_int_equal(fs_weights_get(w, "model.norm.weight", &t, &err, 1, (uint64_t)65), FS_ERR_FORMAT);
    assert_string_equal(err.message, "tensor 'model.norm.weight' is [64], the config says [65]");
    assert_int_equal(fs_weights_get(w, "lm_head.weight", &t, &err, 3, (uint64_t)320, (uint64_t)64, (uint64_t)1), FS_ERR_FORMAT);
    assert_string_equal(err.message, "tensor 'lm_head.weight' is [320, 64], the config says [320, 64, 1]");
    assert_int_equal(fs_weights_get(w, "model.nose.weight", &t, &err, 1, (uint64_t)64), FS_ERR_FORMAT);
    assert_string_equal(err.message, "tensor 'model.nose.weight' is missing");
    assert_null(t);
    assert_int_equal(fs_weights_get(w, "lm_head.weight", &t, &err, 2, (uint64_t)320, (uint64_t)64), FS_OK);
    assert_string_equal(t->name, "lm_head.weight");
    fs_weights_close(w);
}

static void tensors_of_no_weight_type_are_kept_but_not_given(void **state)
{
    char *folder = make_model(CONFIG, "{\"ids\":" T("I64", "[1]", 0, 8) "}", 8);
    fs_weights *w = open_ok(folder);
    const fs_tensor *t = NULL;

    (void)state;
    assert_non_null(fs_weights_find(w, "ids"));
    assert_int_equal(fs_weights_get(w, "ids", &t, NULL, 1, (uint64_t)1), FS_ERR_UNSUPPORTED);
    fs_weights_close(w);
    remove_folder(folder, hub_files);
}

static void generation_config_adds_eos_tokens(void **state)
{
    char *folder = make_model(CONFIG_OF(",\"eos_token_id\":1"), "{}", 0);
    fs_weights *w;

    (void)state;
    put_text_file(folder, "generation_config.json", "{\"eos_token_id\":[1,3]}");
    w = open_ok(folder);
    assert_true(fs_weights_config(w)->n_eos_token_ids == 2 && fs_weights_config(w)->eos_token_ids[1] == 3);
    fs_weights_close(w);
    put_text_file(folder, "generation_config.json", "{\"eos_token_id\":9}");
    refused(folder, FS_ERR_FORMAT, "generation_config.json");
    remove_folder(folder, hub_files);
}

static void wrong_scales_are_refused(void **state)
{
    static const struct { const char *config, *header; size_t data_bytes; fs_status code; const char *says; } bad[] = {
        { CONFIG_OF(FP8(2, 2)), "{\"x.weight\":" T("F8_E4M3", "[3,3]", 0, 9) "}", 9, FS_ERR_FORMAT, "'x.weight' is F8_E4M3 without its" },
        { CONFIG_OF(FP8(2, 2)), "{\"x.weight\":" T("F8_E4M3", "[3,3]", 0, 9) ",\"x.weight_scale_inv\":" T("F32", "[1,2]", 9, 17) "}", 17,
          FS_ERR_FORMAT, "[3, 3] in blocks of [2, 2] needs [2, 2]" },
        { CONFIG_OF(FP8(2, 2)), "{\"x.weight\":" T("F8_E4M3", "[3,3]", 0, 9) ",\"x.weight_scale_inv\":" T("F32", "[4]", 9, 25) "}", 25,
          FS_ERR_FORMAT, "in 1 dimensions" },
        { CONFIG_OF(FP8(2, 2)), "{\"x.weight\":" T("F8_E4M3", "[3,3]", 0, 9) ",\"x.weight_scale_inv\":" T("BF16", "[2,2]", 9, 17) "}", 17,
          FS_ERR_UNSUPPORTED, "'x.weight_scale_inv' is BF16" },
        { CONFIG_OF(FP8(2, 2)), "{\"x.weight\":" T("F32", "[1,1]", 0, 4) ",\"x.weight_scale_inv\":" T("F32", "[1,1]", 4, 8) "}", 8,
          FS_ERR_FORMAT, "'x.weight_scale_inv' scales no F8_E4M3 matrix" },
        { CONFIG_OF(FP8(2, 2)), "{\"x.weight_scale_inv\":" T("F32", "[1,1]", 0, 4) "}", 4, FS_ERR_FORMAT, "scales no F8_E4M3 matrix" },
        { CONFIG_OF(FP8(2, 2)), "{\"x.weight\":" T("F8_E4M3", "[3,3]", 0, 9) ",\"x.scale\":" T("F8_E8M0", "[2,1]", 9, 11) "}", 11,
          FS_ERR_FORMAT, "[3, 3] in blocks of [2, 2] needs [2, 2]" },
        { CONFIG_OF(FP8(2, 2)), "{\"x.weight\":" T("F8_E4M3", "[2,2]", 0, 4) ",\"x.scale\":" T("F8_E8M0", "[1,1]", 4, 5)
          ",\"x.weight_scale_inv\":" T("F32", "[1,1]", 5, 9) "}", 9, FS_ERR_FORMAT, "'x.weight' has two sets of scales" },
        { CONFIG_OF(FP8(2, 2)), "{\"x.scale\":" T("F8_E8M0", "[1,1]", 0, 1) "}", 1, FS_ERR_FORMAT, "'x.scale' scales no matrix" },
        { CONFIG_OF(FP8(2, 2)), "{\"x.weight\":" T("BF16", "[1,1]", 0, 2) ",\"x.scale\":" T("F8_E8M0", "[1,1]", 2, 3) "}", 3,
          FS_ERR_FORMAT, "'x.scale' scales no matrix" },
        { CONFIG_OF(FP8(2, 2)), "{\"x.weight\":" T("I8", "[2,17]", 0, 34) ",\"x.scale\":" T("F8_E8M0", "[2,1]", 34, 36) "}", 36,
          FS_ERR_FORMAT, "[2, 34] in blocks of [1, 32] needs [2, 2]" },
        { CONFIG_OF(FP8(2, 2)), "{\"x.weight\":" T("I8", "[0,9223372036854775808]", 0, 0) ",\"x.scale\":" T("F8_E8M0", "[1]", 0, 1) "}", 1,
          FS_ERR_FORMAT, "'x.scale' scales no matrix" },
        { CONFIG, "{\"x.weight\":" T("I8", "[1,16]", 0, 16) ",\"x.scale\":" T("F8_E8M0", "[1,1]", 16, 17) "}", 17, FS_ERR_FORMAT,
          "no fp8 quantization_config" },
        { CONFIG, "{\"x.weight\":" T("F8_E4M3", "[2,2]", 0, 4) ",\"x.weight_scale_inv\":" T("F32", "[1,1]", 4, 8) "}", 8, FS_ERR_FORMAT,
          "no fp8 quantization_config" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *folder = make_model(bad[i].config, bad[i].header, bad[i].data_bytes);
        refused(folder, bad[i].code, bad[i].says);
        remove_folder(folder, hub_files);
    }
}

static char *make_shards(const char *index)
{
    char *folder = make_folder();

    put_text_file(folder, "config.json", CONFIG);
    put_text_file(folder, "model.safetensors.index.json", index);
    put_safetensors(folder, "a.safetensors", "{\"x\":" T("F32", "[1]", 0, 4) ",\"y\":" T("F32", "[1]", 4, 8) "}", 8);
    put_safetensors(folder, "b.safetensors", "{\"z\":" T("BF16", "[1]", 0, 2) "}", 2);
    return folder;
}

static void shards_give_one_list(void **state)
{
    char *folder = make_shards(INDEX("\"z\":\"b.safetensors\",\"x\":\"a.safetensors\",\"y\":\"a.safetensors\""));
    fs_weights *w = open_ok(folder);

    (void)state;
    assert_int_equal(fs_weights_n_tensors(w), 3);
    assert_string_equal(fs_weights_tensor_at(w, 2)->name, "z");
    assert_int_equal(fs_weights_find(w, "z")->dtype, FS_DTYPE_BF16);
    fs_weights_close(w);
    open_with_failing_allocations(folder);
    remove_folder(folder, hub_files);
}

static void an_index_that_disagrees_with_its_shards_is_refused(void **state)
{
    static const struct { const char *index; fs_status code; const char *says; } bad[] = {
        { "{}", FS_ERR_FORMAT, "'weight_map' is missing" },
        { "[]", FS_ERR_FORMAT, "'weight_map' is missing" },
        { "{\"weight_map\":[]}", FS_ERR_FORMAT, "'weight_map' is missing or not" },
        { INDEX("\"x\":1"), FS_ERR_FORMAT, "tensor 'x' is no plain file name" },
        { INDEX("\"x\":\"\""), FS_ERR_FORMAT, "no plain file name" },
        { INDEX("\"x\":\"../a.safetensors\""), FS_ERR_FORMAT, "no plain file name" },
        { INDEX("\"x\":\"/tmp/a.safetensors\""), FS_ERR_FORMAT, "no plain file name" },
        { INDEX("\"x\":\"..\""), FS_ERR_FORMAT, "no plain file name" },
        { INDEX("\"x\":\"c\\\\a.safetensors\""), FS_ERR_FORMAT, "no plain file name" },
        { INDEX("\"x\":\"a.safetensors\\u0000b\""), FS_ERR_FORMAT, "no plain file name" },
        { INDEX("\"x\":\"c.safetensors\""), FS_ERR_NOT_FOUND, "c.safetensors" },
        { INDEX("\"x\":\"config.json\""), FS_ERR_FORMAT, "config.json: " },
        { INDEX("\"w\":\"a.safetensors\""), FS_ERR_FORMAT, "tensor 'w' is not in shard 'a.safetensors'" },
        { INDEX("\"z\":\"a.safetensors\""), FS_ERR_FORMAT, "tensor 'z' is not in shard 'a.safetensors'" },
        { INDEX("\"x\":\"a.safetensors\""), FS_ERR_FORMAT, "shard 'a.safetensors' holds tensor 'y', which model.safetensors.index.json does not list" },
        { INDEX("\"x\":\"a.safetensors\",\"y\":\"a.safetensors\",\"x\":\"a.safetensors\""), FS_ERR_FORMAT, "given twice" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *folder = make_shards(bad[i].index);
        refused(folder, bad[i].code, bad[i].says);
        remove_folder(folder, hub_files);
    }
}

static void a_tensor_in_two_shards_is_refused(void **state)
{
    char *folder = make_shards(INDEX("\"x\":\"a.safetensors\",\"y\":\"a.safetensors\",\"z\":\"b.safetensors\""));

    (void)state;
    put_safetensors(folder, "b.safetensors", "{\"z\":" T("F32", "[1]", 0, 4) ",\"x\":" T("F32", "[1]", 4, 8) "}", 8);
    refused(folder, FS_ERR_FORMAT, "shard 'b.safetensors' holds tensor 'x', which model.safetensors.index.json puts into another shard");
    remove_folder(folder, hub_files);
}

/* ---- GGUF ---- */

/* llama without head_count: 1 layer of width 8. */
static void llama_values(gguf_file *f)
{
    value_text(f, "general.architecture", "llama");
    value_u32(f, "llama.block_count", 1);
    value_u32(f, "llama.context_length", 64);
    value_u32(f, "llama.embedding_length", 8);
    value_u32(f, "llama.feed_forward_length", 12);
    value_f32(f, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
}

static void llama_model(gguf_file *f)
{
    llama_values(f);
    value_u32(f, "llama.attention.head_count", 2);
    value_u32(f, "llama.attention.head_count_kv", 1);
    tensor(f, "token_embd.weight", 0, 5, 8, 0);
}

static const char *const gguf_files[] = { "m.gguf", "n.gguf", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf", NULL };

static void llama_rows_come_in_the_hubs_order(void **state)
{
    char *folder = make_folder(), *path = fs_path_join(folder, "m.gguf");
    gguf_file f = { 0 };
    fs_weights *w;
    const fs_config *c;
    const fs_tensor *t;
    float row[8];
    /* Head of 4 rows, stored pairwise: Hub rows 0 1 2 3 are stored rows 0 2 1 3. */
    static const int stored[8] = { 0, 2, 1, 3, 4, 6, 5, 7 };

    (void)state;
    llama_model(&f);
    tensor(&f, "blk.0.attn_q.weight", 100, 8, 8, 0);
    tensor(&f, "blk.0.attn_k.weight", 200, 4, 8, 0);
    tensor(&f, "blk.0.attn_v.weight", 300, 4, 8, 0);
    tensor(&f, "rope_freqs.weight", 1, 2, 0, 0);
    write_gguf(&f, folder, "m.gguf");
    w = open_ok(path);
    c = fs_weights_config(w);
    assert_true(c->vocab_size == 5 && c->head_dim == 4 && c->num_key_value_heads == 1 && c->num_hidden_layers == 1);
    assert_true(c->tie_word_embeddings && c->rms_norm_eps == 1e-5 && c->bos_token_id == -1);
    assert_true(c->rope_type == FS_ROPE_LLAMA3 && c->rope_freqs->dims[0] == 2);
    assert_non_null(fs_weights_gguf(w));
    assert_string_equal(fs_weights_folder(w), folder);
    t = fs_weights_find(w, "model.layers.0.self_attn.q_proj.weight");
    assert_int_equal(t->rope_heads, 2);
    for (uint64_t r = 0; r < 8; r++) {
        fs_tensor_row_f32(t, r, row);
        assert_true(row[0] == 100 + 8 * (float)stored[r]);
    }
    t = fs_weights_find(w, "model.layers.0.self_attn.k_proj.weight");
    assert_int_equal(t->rope_heads, 1);
    fs_tensor_row_f32(t, 1, row);
    assert_true(row[0] == 200 + 8 * 2);
    assert_int_equal(fs_weights_find(w, "model.layers.0.self_attn.v_proj.weight")->rope_heads, 0);
    assert_non_null(fs_weights_find(w, "model.embed_tokens.weight"));
    fs_weights_close(w);
    open_with_failing_allocations(folder); /* the one GGUF of a folder is found, too */
    free(path);
    remove_folder(folder, gguf_files);
}

static void deepseek_values_of(gguf_file *f, uint32_t gating, uint32_t n_layers, uint32_t n_experts)
{
    value_text(f, "general.architecture", "deepseek2");
    value_u32(f, "deepseek2.block_count", n_layers + 1);
    value_u32(f, "deepseek2.nextn_predict_layers", 1);
    value_u32(f, "deepseek2.context_length", 64);
    value_u32(f, "deepseek2.vocab_size", 5);
    value_u32(f, "deepseek2.embedding_length", 8);
    value_u32(f, "deepseek2.feed_forward_length", 12);
    value_u32(f, "deepseek2.attention.head_count", 2);
    value_u32(f, "deepseek2.attention.head_count_kv", 1);
    value_u32(f, "deepseek2.attention.kv_lora_rank", 6);
    value_u32(f, "deepseek2.attention.key_length", 8);
    value_u32(f, "deepseek2.attention.value_length", 6);
    value_u32(f, "deepseek2.attention.key_length_mla", 5);
    value_u32(f, "deepseek2.attention.value_length_mla", 4);
    value_u32(f, "deepseek2.rope.dimension_count", 2);
    value_u32(f, "deepseek2.leading_dense_block_count", 1);
    value_u32(f, "deepseek2.expert_count", n_experts);
    value_u32(f, "deepseek2.expert_used_count", 2);
    value_u32(f, "deepseek2.expert_shared_count", 1);
    value_u32(f, "deepseek2.expert_feed_forward_length", 3);
    value_u32(f, "deepseek2.expert_gating_func", gating);
    value_f32(f, "deepseek2.attention.layer_norm_rms_epsilon", 1e-6f);
    value_f32(f, "deepseek2.expert_weights_scale", 2.5f);
    value_text(f, "deepseek2.rope.scaling.type", "yarn");
    value_f32(f, "deepseek2.rope.scaling.factor", 40);
    value_u32(f, "deepseek2.rope.scaling.original_context_length", 16);
    value_f32(f, "deepseek2.rope.scaling.yarn_log_multiplier", 0.0707f);
    value_u32(f, "tokenizer.ggml.bos_token_id", 0);
    value_u32(f, "tokenizer.ggml.eos_token_id", 1);
    value_u32(f, "tokenizer.ggml.eot_token_id", 2);
}

static void deepseek_values(gguf_file *f, uint32_t gating)
{
    deepseek_values_of(f, gating, 2, 4);
}

static void deepseek_experts_and_mtp_get_the_hubs_names(void **state)
{
    char *folder = make_folder();
    gguf_file f = { 0 };
    fs_weights *w;
    const fs_config *c;
    const fs_tensor *t = NULL;
    float row[8];

    (void)state;
    deepseek_values(&f, 2);
    tensor(&f, "output.weight", 0, 5, 8, 0);
    tensor(&f, "blk.1.ffn_up_exps.weight", 0, 4, 3, 8);
    tensor(&f, "blk.1.ffn_down_exps.weight", 0, 4, 8, 3);
    tensor(&f, "blk.1.ffn_gate_inp.weight", 0, 4, 8, 0);
    tensor(&f, "blk.1.exp_probs_b.bias", 0, 4, 0, 0);
    tensor(&f, "blk.1.ffn_gate_shexp.weight", 0, 3, 8, 0);
    tensor(&f, "blk.1.attn_k_b.weight", 0, 2, 6, 3);
    tensor(&f, "blk.1.attn_v_b.weight", 0, 2, 4, 6);
    tensor(&f, "blk.2.nextn.eh_proj.weight", 0, 8, 16, 0);
    tensor(&f, "blk.2.nextn.shared_head_norm.weight", 0, 8, 0, 0);
    tensor(&f, "blk.2.attn_q.weight", 0, 10, 8, 0);
    write_gguf(&f, folder, "m.gguf");
    w = open_ok(folder);
    c = fs_weights_config(w);
    assert_string_equal(c->model_type, "deepseek_v3");
    assert_true(c->num_hidden_layers == 2 && c->num_nextn_predict_layers == 1 && c->first_k_dense_replace == 1);
    assert_true(c->qk_nope_head_dim == 3 && c->qk_rope_head_dim == 2 && c->v_head_dim == 4 && c->kv_lora_rank == 6 && c->q_lora_rank == 0);
    assert_true(c->num_key_value_heads == 2 && c->scoring_func == FS_SCORING_SIGMOID && c->topk_method == FS_TOPK_NOAUX_TC);
    assert_true(c->routed_scaling_factor == 2.5 && !c->norm_topk_prob && c->rms_norm_eps == 1e-6 && !c->tie_word_embeddings);
    assert_true(c->rope_type == FS_ROPE_YARN && c->mscale_all_dim == 0.707 && c->mscale == 0.707 && c->rope_factor == 40);
    assert_true(c->bos_token_id == 0 && c->n_eos_token_ids == 2 && c->eos_token_ids[1] == 2);

    assert_int_equal(fs_weights_get(w, "model.layers.1.mlp.experts.3.up_proj.weight", &t, NULL, 2, (uint64_t)3, (uint64_t)8), FS_OK);
    fs_tensor_row_f32(t, 2, row);
    assert_true(row[1] == 3 * 24 + 2 * 8 + 1);
    assert_int_equal(fs_weights_get(w, "model.layers.1.mlp.experts.0.down_proj.weight", &t, NULL, 2, (uint64_t)8, (uint64_t)3), FS_OK);
    assert_null(fs_weights_find(w, "model.layers.1.mlp.experts.4.up_proj.weight"));
    assert_int_equal(fs_weights_get(w, "model.layers.1.self_attn.k_b_proj.weight", &t, NULL, 3, (uint64_t)2, (uint64_t)6, (uint64_t)3), FS_OK);
    assert_int_equal(fs_weights_get(w, "model.layers.1.self_attn.v_b_proj.weight", &t, NULL, 3, (uint64_t)2, (uint64_t)4, (uint64_t)6), FS_OK);
    assert_int_equal(fs_weights_get(w, "model.layers.1.mlp.gate.e_score_correction_bias", &t, NULL, 1, (uint64_t)4), FS_OK);
    assert_int_equal(fs_weights_get(w, "model.layers.1.mlp.gate.weight", &t, NULL, 2, (uint64_t)4, (uint64_t)8), FS_OK);
    assert_int_equal(fs_weights_get(w, "model.layers.1.mlp.shared_experts.gate_proj.weight", &t, NULL, 2, (uint64_t)3, (uint64_t)8), FS_OK);
    assert_int_equal(fs_weights_get(w, "model.layers.2.eh_proj.weight", &t, NULL, 2, (uint64_t)8, (uint64_t)16), FS_OK);
    assert_int_equal(fs_weights_get(w, "model.layers.2.shared_head.norm.weight", &t, NULL, 1, (uint64_t)8), FS_OK);
    assert_int_equal(fs_weights_find(w, "model.layers.2.self_attn.q_proj.weight")->rope_heads, 0);
    fs_weights_close(w);
    remove_folder(folder, gguf_files);
}

static void the_gating_function_tells_v2_from_v3(void **state)
{
    char *folder = make_folder();
    gguf_file f = { 0 };
    fs_weights *w;

    (void)state;
    deepseek_values(&f, 1);
    value_u32(&f, "deepseek2.expert_group_count", 2);
    value_u32(&f, "deepseek2.expert_group_used_count", 1);
    write_gguf(&f, folder, "m.gguf");
    w = open_ok(folder);
    assert_string_equal(fs_weights_config(w)->model_type, "deepseek_v2");
    assert_true(fs_weights_config(w)->scoring_func == FS_SCORING_SOFTMAX);
    assert_true(fs_weights_config(w)->topk_method == FS_TOPK_GROUP_LIMITED_GREEDY && fs_weights_config(w)->topk_group == 1);
    fs_weights_close(w);
    deepseek_values(&f, 3);
    write_gguf(&f, folder, "m.gguf");
    refused(folder, FS_ERR_UNSUPPORTED, "expert_gating_func 3");
    remove_folder(folder, gguf_files);
}

static void files_older_than_the_group_keys_get_the_released_groups(void **state)
{
    static const struct { uint32_t gating, n_layers, n_experts, n_group, topk_group; } shapes[] = {
        { 2, 61, 256, 8, 4 }, { 1, 60, 160, 8, 3 }, { 1, 27, 64, 1, 1 }, { 2, 61, 384, 1, 1 },
    };
    char *folder = make_folder();

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        gguf_file f = { 0 };
        fs_weights *w;
        deepseek_values_of(&f, shapes[i].gating, shapes[i].n_layers, shapes[i].n_experts);
        write_gguf(&f, folder, "m.gguf");
        w = open_ok(folder);
        assert_int_equal(fs_weights_config(w)->n_group, shapes[i].n_group);
        assert_int_equal(fs_weights_config(w)->topk_group, shapes[i].topk_group);
        fs_weights_close(w);
    }
    remove_folder(folder, gguf_files);
}

static void wrong_gguf_models_are_refused(void **state)
{
    char *folder = make_folder();
    gguf_file f = { 0 };
    static const struct { const char *name; uint64_t d0, d1, d2; fs_status code; const char *says; } bad[] = {
        { "blk.0.attn_nose.weight", 8, 8, 0, FS_ERR_UNSUPPORTED, "'blk.0.attn_nose.weight' has no place" },
        { "blk.1.attn_q.weight", 8, 8, 0, FS_ERR_UNSUPPORTED, "'blk.1.attn_q.weight' has no place" },
        { "blk.00.attn_q.weight", 8, 8, 0, FS_ERR_UNSUPPORTED, "has no place" },
        { "blk.4294967296.attn_q.weight", 8, 8, 0, FS_ERR_UNSUPPORTED, "has no place" },
        { "blk.0.weight", 8, 8, 0, FS_ERR_UNSUPPORTED, "has no place" },
        { "blk.0.attn_q.scale", 8, 8, 0, FS_ERR_UNSUPPORTED, "has no place" },
        { "token_embd.bias", 8, 8, 0, FS_ERR_UNSUPPORTED, "has no place" },
        { "blk.0.attn_q.bias", 8, 0, 0, FS_ERR_UNSUPPORTED, "permuted rows are read in matrices only" },
        { "blk.0.attn_q.weight", 4, 8, 0, FS_ERR_FORMAT, "has 4 rows, 2 heads of 4 need 8" },
        { "blk.0.ffn_up_exps.weight", 2, 4, 8, FS_ERR_FORMAT, "expected a matrix for each of 0 experts" },
        { "rope_freqs.weight", 3, 0, 0, FS_ERR_FORMAT, "no list of 2 F32 values" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        llama_model(&f);
        tensor(&f, bad[i].name, 0, bad[i].d0, bad[i].d1, bad[i].d2);
        write_gguf(&f, folder, "m.gguf");
        refused(folder, bad[i].code, bad[i].says);
    }
    value_text(&f, "general.architecture", "gemma3");
    write_gguf(&f, folder, "m.gguf");
    refused(folder, FS_ERR_UNSUPPORTED, "general.architecture is 'gemma3'");
    write_gguf(&f, folder, "m.gguf");
    refused(folder, FS_ERR_UNSUPPORTED, "general.architecture is ''");
    llama_values(&f);
    write_gguf(&f, folder, "m.gguf");
    refused(folder, FS_ERR_FORMAT, "'llama.attention.head_count' is missing");
    llama_values(&f);
    value_u32(&f, "llama.attention.head_count", 2);
    write_gguf(&f, folder, "m.gguf");
    refused(folder, FS_ERR_FORMAT, "neither 'llama.vocab_size' nor");
    llama_model(&f);
    value_text(&f, "llama.rope.scaling.type", "magic");
    write_gguf(&f, folder, "m.gguf");
    refused(folder, FS_ERR_UNSUPPORTED, "rope scaling 'magic'");
    llama_model(&f);
    value_u32(&f, "llama.expert_count", 8);
    value_u32(&f, "llama.expert_used_count", 2);
    value_u32(&f, "llama.expert_feed_forward_length", 2);
    write_gguf(&f, folder, "m.gguf");
    refused(folder, FS_ERR_UNSUPPORTED, "'llama' with 8 experts");
    llama_model(&f);
    value_u32(&f, "llama.nextn_predict_layers", 1);
    write_gguf(&f, folder, "m.gguf");
    refused(folder, FS_ERR_FORMAT, "1 of 1 blocks predict ahead");
    deepseek_values(&f, 2);
    tensor(&f, "blk.1.ffn_up_exps.weight", 0, 3, 3, 8);
    write_gguf(&f, folder, "m.gguf");
    refused(folder, FS_ERR_FORMAT, "each of 4 experts");
    llama_model(&f);
    write_gguf(&f, folder, "m.gguf");
    llama_model(&f);
    write_gguf(&f, folder, "n.gguf");
    refused(folder, FS_ERR_ARGUMENT, "several GGUF files");
    remove_folder(folder, gguf_files);
}

/* Part 0 holds the metadata and one tensor, part 1 another tensor. */
static void write_split(const char *folder, uint32_t no_of_second, uint32_t count_of_second, uint32_t n_tensors)
{
    gguf_file f = { 0 };

    llama_model(&f);
    value_u32(&f, "split.no", 0);
    value_u32(&f, "split.count", 2);
    value_u32(&f, "split.tensors.count", n_tensors);
    write_gguf(&f, folder, "m-00001-of-00002.gguf");
    value_u32(&f, "split.no", no_of_second);
    value_u32(&f, "split.count", count_of_second);
    tensor(&f, "output.weight", 7, 5, 8, 0);
    write_gguf(&f, folder, "m-00002-of-00002.gguf");
}

static void a_split_gguf_is_one_model(void **state)
{
    char *folder = make_folder(), *second = fs_path_join(folder, "m-00002-of-00002.gguf");
    fs_weights *w;
    fs_buf part = { 0 };

    (void)state;
    write_split(folder, 1, 2, 2);
    w = open_ok(folder);
    assert_int_equal(fs_weights_n_tensors(w), 2);
    assert_non_null(fs_weights_find(w, "lm_head.weight"));
    assert_false(fs_weights_config(w)->tie_word_embeddings);
    fs_weights_close(w);
    open_with_failing_allocations(folder);

    refused(second, FS_ERR_ARGUMENT, "is part 2 of 2; open the first part");
    write_split(folder, 0, 2, 2);
    refused(folder, FS_ERR_FORMAT, "'m-00002-of-00002.gguf' says that it is part 1 of 2");
    write_split(folder, 1, 3, 2);
    refused(folder, FS_ERR_FORMAT, "says that it is part 2 of 3");
    write_split(folder, 1, 2, 3);
    refused(folder, FS_ERR_FORMAT, "have 3 tensors, they have 2");
    write_split(folder, 1, 2, 2);
    assert_int_equal(unlink(second), 0);
    refused(folder, FS_ERR_NOT_FOUND, "m-00002-of-00002.gguf");
    free(second);
    second = fs_path_join(folder, "m-00001-of-00002.gguf");
    assert_int_equal(fs_file_read(second, 1 << 20, &part, NULL), FS_OK);
    put_file(folder, "m.gguf", part.data, part.n_bytes);
    assert_int_equal(unlink(second), 0);
    refused(folder, FS_ERR_FORMAT, "its name must end in '-00001-of-00002.gguf'");
    fs_buf_done(&part);
    free(second);
    remove_folder(folder, gguf_files);
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    open_with_failing_allocations("tests/vectors/ds_v3_fp8");
    open_with_failing_allocations("tests/vectors/qwen2_tied");
    open_with_failing_allocations("tests/vectors/scaled/weights.safetensors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_open),
        cmocka_unit_test(a_safetensors_file_opens_with_the_config_beside_it),
        cmocka_unit_test(fp8_rows_carry_their_scales),
        cmocka_unit_test(v4_rows_equal_numpy),
        cmocka_unit_test(other_tensors_called_scale_are_left_alone),
        cmocka_unit_test(get_names_what_is_wrong),
        cmocka_unit_test(tensors_of_no_weight_type_are_kept_but_not_given),
        cmocka_unit_test(generation_config_adds_eos_tokens),
        cmocka_unit_test(wrong_scales_are_refused),
        cmocka_unit_test(shards_give_one_list),
        cmocka_unit_test(an_index_that_disagrees_with_its_shards_is_refused),
        cmocka_unit_test(a_tensor_in_two_shards_is_refused),
        cmocka_unit_test(llama_rows_come_in_the_hubs_order),
        cmocka_unit_test(deepseek_experts_and_mtp_get_the_hubs_names),
        cmocka_unit_test(the_gating_function_tells_v2_from_v3),
        cmocka_unit_test(files_older_than_the_group_keys_get_the_released_groups),
        cmocka_unit_test(wrong_gguf_models_are_refused),
        cmocka_unit_test(a_split_gguf_is_one_model),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
