/* same_weights A B: do two models hold the same configuration and the same weights, bit for bit as f32? A is in the
 * Hub's layout, B in any. Prints what differs; exit status 1 then, 2 when one cannot be opened. */
#include "formats/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int n_differences;

static void differ(const char *what, const char *name)
{
    n_differences++;
    printf("%s: %s\n", what, name);
}

#define SAME(field) (a->field == b->field ? (void)0 : differ("configurations differ", #field))

static void compare_configs(const fs_config *a, const fs_config *b)
{
    if (strcmp(a->model_type, b->model_type) != 0)
        differ("configurations differ", "model_type");
    SAME(vocab_size), SAME(hidden_size), SAME(num_hidden_layers), SAME(num_attention_heads), SAME(num_key_value_heads);
    SAME(head_dim), SAME(intermediate_size), SAME(max_position_embeddings), SAME(rms_norm_eps), SAME(tie_word_embeddings);
    SAME(attention_bias), SAME(mlp_bias), SAME(q_lora_rank), SAME(kv_lora_rank), SAME(qk_nope_head_dim);
    SAME(qk_rope_head_dim), SAME(v_head_dim), SAME(n_routed_experts), SAME(n_shared_experts), SAME(num_experts_per_tok);
    SAME(moe_intermediate_size), SAME(first_k_dense_replace), SAME(moe_layer_freq), SAME(n_group), SAME(topk_group);
    SAME(topk_method), SAME(scoring_func), SAME(norm_topk_prob), SAME(routed_scaling_factor), SAME(num_nextn_predict_layers);
    SAME(rope_theta), SAME(rope_type), SAME(beta_fast), SAME(beta_slow), SAME(mscale), SAME(mscale_all_dim);
    SAME(has_mscale), SAME(has_mscale_all_dim), SAME(has_attention_factor), SAME(attention_factor);
    SAME(partial_rotary_factor), SAME(bos_token_id), SAME(n_eos_token_ids), SAME(eos_token_ids[0]);
    SAME(index_n_heads), SAME(index_head_dim), SAME(index_topk), SAME(o_groups), SAME(o_lora_rank), SAME(sliding_window);
    SAME(num_hash_layers), SAME(hc_mult), SAME(hc_sinkhorn_iters), SAME(compress_rope_theta), SAME(hc_eps), SAME(swiglu_limit);
    for (uint32_t i = 0; i < a->num_hidden_layers && a->n_compress_ratios; i++)
        SAME(compress_ratios[i]);
    if (!b->rope_freqs) { /* which replaces them */
        SAME(rope_factor), SAME(low_freq_factor), SAME(high_freq_factor), SAME(original_max_position_embeddings);
    }
}

static bool row_is(const fs_tensor *t, uint64_t row, const float *want, size_t n)
{
    float *x = malloc((size_t)fs_tensor_cols(t) * sizeof *x);
    bool same = x && fs_tensor_cols(t) == n;

    if (same) {
        fs_tensor_row_f32(t, row, x);
        same = memcmp(x, want, n * sizeof *x) == 0;
    }
    free(x);
    return same;
}

/* kv_b row by row against its two halves; k_b is transposed a head. */
static bool same_kv_b(const fs_tensor *kv_b, const fs_tensor *k_b, const fs_tensor *v_b, const fs_config *c)
{
    uint64_t nope = c->qk_nope_head_dim, v = c->v_head_dim, lora = c->kv_lora_rank;
    float *want = malloc((size_t)lora * sizeof *want), *column = malloc((size_t)nope * sizeof *column);
    bool same = want && column && k_b->dims[0] == c->num_attention_heads && k_b->dims[1] == lora && k_b->dims[2] == nope &&
                v_b->dims[0] == c->num_attention_heads && v_b->dims[1] == v && v_b->dims[2] == lora;

    for (uint64_t h = 0; same && h < c->num_attention_heads; h++) {
        for (uint64_t r = 0; same && r < v; r++) {
            fs_tensor_row_f32(kv_b, h * (nope + v) + nope + r, want);
            same = row_is(v_b, h * v + r, want, (size_t)lora);
        }
        for (uint64_t r = 0; same && r < nope; r++) {
            fs_tensor_row_f32(kv_b, h * (nope + v) + r, want);
            for (uint64_t k = 0; same && k < lora; k++) {
                fs_tensor_row_f32(k_b, h * lora + k, column);
                same = memcmp(&column[r], &want[k], sizeof *want) == 0;
            }
        }
    }
    free(want);
    free(column);
    return same;
}

static const fs_tensor *find_half(const fs_weights *w, const char *kv_b, const char *half)
{
    char name[256];

    snprintf(name, sizeof name, "%.*s%s", (int)(strstr(kv_b, "kv_b_proj") - kv_b), kv_b, half);
    return fs_weights_find(w, name);
}

/* I64 of the Hub against I64 or I32. */
static bool same_integers(const fs_tensor *t, const fs_tensor *u)
{
    size_t width = u->dtype == FS_DTYPE_I32 ? 4 : 8;

    if (t->dtype != FS_DTYPE_I64 || (u->dtype != FS_DTYPE_I32 && u->dtype != FS_DTYPE_I64))
        return false;
    for (uint64_t i = 0; i < fs_tensor_elems(t); i++) {
        int64_t a, b = 0; /* little-endian, and no id is negative */
        memcpy(&a, t->data + 8 * i, 8);
        memcpy(&b, u->data + width * i, width);
        if (a != b)
            return false;
    }
    return true;
}

static bool same_tensor(const fs_tensor *t, const fs_tensor *u)
{
    if (t->n_dims != u->n_dims || memcmp(t->dims, u->dims, sizeof t->dims) != 0)
        return false;
    if (!fs_dtype_get(t->dtype)->is_weight)
        return same_integers(t, u);
    float *want = malloc((size_t)fs_tensor_cols(t) * sizeof *want);
    bool same = want != NULL;

    for (uint64_t r = 0; same && r < fs_tensor_rows(t); r++) {
        fs_tensor_row_f32(t, r, want);
        same = row_is(u, r, want, (size_t)fs_tensor_cols(t));
    }
    free(want);
    return same;
}

int main(int argc, char **argv)
{
    fs_weights *a = NULL, *b = NULL;
    fs_error err;
    size_t n = 0, n_expected = 0;

    if (argc != 3 || fs_weights_open(argv[1], &a, &err) || fs_weights_open(argv[2], &b, &err)) {
        printf("%s\n", argc == 3 ? err.message : "same_weights A B");
        fs_weights_close(a);
        return 2;
    }
    compare_configs(fs_weights_config(a), fs_weights_config(b));
    for (size_t i = 0; i < fs_weights_n_tensors(a); i++) {
        const fs_tensor *t = fs_weights_tensor_at(a, i), *u = fs_weights_find(b, t->name);
        bool is_kv_b = strstr(t->name, ".kv_b_proj.weight") && !strstr(t->name, "scale_inv");
        if (strstr(t->name, "_scale_inv") || t->dtype == FS_DTYPE_F8_E8M0) {
            n_expected += u != NULL; /* only among safetensors */
            continue;
        }
        n++;
        n_expected++;
        if (u) {
            if (!same_tensor(t, u))
                differ("tensors differ", t->name);
        } else if (is_kv_b && find_half(b, t->name, "k_b_proj.weight") && find_half(b, t->name, "v_b_proj.weight")) {
            n_expected++;
            if (!same_kv_b(t, find_half(b, t->name, "k_b_proj.weight"), find_half(b, t->name, "v_b_proj.weight"), fs_weights_config(a)))
                differ("tensors differ", t->name);
        } else {
            differ("a tensor is missing", t->name);
        }
    }
    if (fs_weights_config(b)->rope_freqs)
        n_expected++;
    if (fs_weights_n_tensors(b) != n_expected)
        differ("more tensors than expected", argv[2]);
    printf("%zu tensors compared, %d differences\n", n, n_differences);
    fs_weights_close(a);
    fs_weights_close(b);
    return n_differences != 0;
}
