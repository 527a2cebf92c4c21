/* Training steps of small models from nothing: forward, backward, norm, AdamW and packing over random ids, medians.
 *
 *   train COMMIT                                                   models A, B, L with 1 and 2 threads, in both classes
 *   train COMMIT A|B|L f32|bf16 ROWS THREADS STEPS [MICRO_ROWS]    one of them
 *
 * A and B have DeepSeek-V3's shape, L is llama's. FLOP a token: 6 * active weights + causal attention, 6 * layers * heads *
 * (qk + v) * length / 2, MLA counted unabsorbed: what a peer that trains the same model would count. */
#include "measure.h"

#include "train/optimizer.h"
#include "train/trainer.h"

#include <string.h>

#define V3_HEAD "{\"model_type\":\"deepseek_v3\",\"first_k_dense_replace\":1,\"n_shared_experts\":1,\"n_group\":1,\"topk_group\":1,"          \
                "\"norm_topk_prob\":true,\"routed_scaling_factor\":1.0,\"scoring_func\":\"sigmoid\",\"topk_method\":\"noaux_tc\","          \
                "\"tie_word_embeddings\":true,\"max_position_embeddings\":512,\"moe_intermediate_size\":96,\"rope_theta\":10000,"           \
                "\"rms_norm_eps\":1e-6,\"num_nextn_predict_layers\":0,"

#define STEPS_MAX 64
#define ROWS_MAX  256

static const struct shape {
    const char *name, *config;
    uint32_t length;
    double qk, v; /* of attention's FLOP */
} shapes[] = {
    { "A", V3_HEAD "\"vocab_size\":4096,\"hidden_size\":256,\"intermediate_size\":512,\"num_hidden_layers\":6,\"num_attention_heads\":4,"
                   "\"n_routed_experts\":8,\"num_experts_per_tok\":2,\"q_lora_rank\":96,\"kv_lora_rank\":64,\"qk_nope_head_dim\":32,"
                   "\"qk_rope_head_dim\":16,\"v_head_dim\":32}", 256, 48, 32 },
    { "B", V3_HEAD "\"vocab_size\":8192,\"hidden_size\":512,\"intermediate_size\":1024,\"num_hidden_layers\":8,\"num_attention_heads\":8,"
                   "\"n_routed_experts\":16,\"num_experts_per_tok\":4,\"q_lora_rank\":192,\"kv_lora_rank\":128,\"qk_nope_head_dim\":48,"
                   "\"qk_rope_head_dim\":16,\"v_head_dim\":64}", 512, 64, 64 },
    { "L", "{\"model_type\":\"llama\",\"vocab_size\":4096,\"hidden_size\":256,\"intermediate_size\":640,\"num_hidden_layers\":6,"
           "\"num_attention_heads\":4,\"num_key_value_heads\":4,\"max_position_embeddings\":512,\"tie_word_embeddings\":true,"
           "\"rope_theta\":10000,\"rms_norm_eps\":1e-6}", 256, 64, 64 },
};

static double flop_a_token(const struct shape *s, const fs_config *c, const fs_params *p)
{
    return 6.0 * (double)fs_params_n_active(p, c) + 6.0 * c->num_hidden_layers * c->num_attention_heads * (s->qk + s->v) * s->length / 2;
}

static void die(fs_status rc, const fs_error *err)
{
    if (rc) {
        fprintf(stderr, "train: %s\n", err->message);
        exit(1);
    }
}

static void measure(const struct shape *s, bool bf16, uint32_t rows, int threads, int steps, uint32_t micro, const char *commit)
{
    fs_optimizer o = fs_optimizer_default();
    fs_trainer_options options = { .bf16 = bf16, .tokens_max = micro * s->length, .sequences_max = micro };
    fs_config config;
    fs_kernels kernels;
    fs_pool *pool;
    fs_trainer *t;
    fs_error err;
    int32_t *ids;
    double all[STEPS_MAX], run[STEPS_MAX], opt[STEPS_MAX], pack[STEPS_MAX], flop, ms;
    uint32_t seed = 1;

    die(fs_config_from_json(&config, fs_bytes_str(s->config), "config", &err), &err);
    fs_kernels_init(&kernels, fs_isa_detect());
    die(fs_pool_new(threads, &pool, &err), &err);
    fs_pool_keep_all(pool);
    die(fs_trainer_new(&config, pool, &kernels, &options, &t, &err), &err);
    die(fs_params_add_moments(fs_trainer_params(t), &err), &err);
    fs_params_init(fs_trainer_params(t), 1, 0.006);
    fs_trainer_pack(t);
    ids = allocate((size_t)rows * (s->length + 1) * sizeof *ids);
    for (size_t i = 0; i < (size_t)rows * (s->length + 1); i++) {
        seed = seed * 1664525 + 1013904223;
        ids[i] = (int32_t)((seed >> 8) % config.vocab_size);
    }
    flop = flop_a_token(s, &config, fs_trainer_params(t));
    for (int i = -1; i < steps; i++) { /* the first touches the memory */
        fs_train_totals totals = { .n_targets = (uint64_t)rows * s->length, .n_sequences = rows };
        fs_train_loss loss;
        double t0 = wall_us(), t1, t2, t3;
        fs_trainer_begin(t, &totals);
        for (uint32_t r = 0; r < rows; r += micro) {
            fs_train_sequence seq[ROWS_MAX];
            for (uint32_t j = 0; j < micro; j++)
                seq[j] = (fs_train_sequence){ .ids = ids + (r + j) * (s->length + 1), .targets = ids + (r + j) * (s->length + 1) + 1,
                                                 .n = s->length, .index = (uint64_t)(r + j) * s->length };
            die(fs_trainer_run(t, seq, micro, &err), &err);
        }
        fs_trainer_end(t, &loss);
        t1 = wall_us();
        fs_optimizer_step(&o, fs_trainer_params(t), pool, &kernels, fs_params_grad_norm(&kernels, fs_trainer_params(t)), 1e-3);
        t2 = wall_us();
        fs_trainer_pack(t);
        t3 = wall_us();
        if (i < 0)
            continue;
        all[i] = (t3 - t0) / 1e3;
        run[i] = (t1 - t0) / 1e3;
        opt[i] = (t2 - t1) / 1e3;
        pack[i] = (t3 - t2) / 1e3;
    }
    ms = median(all, (size_t)steps);
    printf("%s,%s,%u,%u,%d,%.0f,%.1f,%.1f,%.1f,%.1f,%.1f,%.0f,%s,%s\n", s->name, fs_precision_name(bf16), rows, micro, threads, 1e3 * rows * s->length / ms, ms,
           median(run, (size_t)steps), median(opt, (size_t)steps), median(pack, (size_t)steps), flop * rows * s->length / ms / 1e6,
           (double)fs_trainer_bytes(t) / 1048576, cpu_name(), commit);
    fflush(stdout);
    fs_trainer_free(t);
    fs_pool_free(pool);
    fs_config_done(&config);
    fs_free_aligned(ids);
}

int main(int argc, char **argv)
{
    static const uint32_t rows[] = { 16, 4, 16 };
    const char *commit = argc > 1 ? argv[1] : "";

    if (argc > 2 && argc < 7) {
        fprintf(stderr, "usage: train COMMIT [A|B|L f32|bf16 ROWS THREADS STEPS [MICRO_ROWS]]\n");
        return 2;
    }
    printf("model,precision,rows,micro_rows,threads,tokens_s,ms_step,ms_forward_backward,ms_adamw,ms_pack,gflops,mib,cpu,commit\n");
    if (argc > 2) {
        size_t i = strcmp(argv[2], "B") == 0 ? 1 : strcmp(argv[2], "L") == 0 ? 2 : 0;
        uint32_t n = (uint32_t)atoi(argv[4]), micro = argc > 7 ? (uint32_t)atoi(argv[7]) : n;
        int steps = atoi(argv[6]);
        if (n < 1 || n > ROWS_MAX || micro < 1 || n % micro || steps < 1 || steps > STEPS_MAX)
            return 2;
        measure(&shapes[i], strcmp(argv[3], "bf16") == 0, n, atoi(argv[5]), steps, micro, commit);
        return 0;
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int run = 0; run < 4; run++)
            measure(&shapes[i], run % 2, rows[i], 1 + run / 2, 5, rows[i], commit);
    return 0;
}
