/* Training steps of small models from nothing: forward, backward, norm, AdamW and packing over random ids, medians.
 *
 *   train COMMIT                                                   models A, B, L with 1 and 2 threads, in both classes
 *   train COMMIT A|B|L f32|bf16 ROWS THREADS STEPS [MICRO_ROWS [layer]]    one of them; layer: activations are made again
 *   train trace A|B|L f32|bf16 ROWS THREADS STEPS                 what the trace costs: roots of weights and state, every so many steps by default
 *   train sample A|B|L f32|bf16 SEQUENCES THREADS RUNS             64 tokens behind 64, drawn at temperature 1 with log-probabilities
 *   train grpo A|B|L f32|bf16 THREADS STEPS [KEEP_MIB]             8 prompts of 6 tokens, 8 completions of 64 each; sampling, loss, gradient, AdamW;
 *                                                                  KEEP_MIB: policy.keep_mib (512)
 *
 * A and B have DeepSeek-V3's shape, L is llama's. FLOP a token: what a peer that trains the same model would count (train/gauges.h). */
#include "measure.h"

#include "train/checkpoint.h"
#include "train/gauges.h"
#include "train/grpo.h"
#include "train/history.h"

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
} shapes[] = {
    { "A", V3_HEAD "\"vocab_size\":4096,\"hidden_size\":256,\"intermediate_size\":512,\"num_hidden_layers\":6,\"num_attention_heads\":4,"
                   "\"n_routed_experts\":8,\"num_experts_per_tok\":2,\"q_lora_rank\":96,\"kv_lora_rank\":64,\"qk_nope_head_dim\":32,"
                   "\"qk_rope_head_dim\":16,\"v_head_dim\":32}", 256 },
    { "B", V3_HEAD "\"vocab_size\":8192,\"hidden_size\":512,\"intermediate_size\":1024,\"num_hidden_layers\":8,\"num_attention_heads\":8,"
                   "\"n_routed_experts\":16,\"num_experts_per_tok\":4,\"q_lora_rank\":192,\"kv_lora_rank\":128,\"qk_nope_head_dim\":48,"
                   "\"qk_rope_head_dim\":16,\"v_head_dim\":64}", 512 },
    { "L", "{\"model_type\":\"llama\",\"vocab_size\":4096,\"hidden_size\":256,\"intermediate_size\":640,\"num_hidden_layers\":6,"
           "\"num_attention_heads\":4,\"num_key_value_heads\":4,\"max_position_embeddings\":512,\"tie_word_embeddings\":true,"
           "\"rope_theta\":10000,\"rms_norm_eps\":1e-6}", 256 },
};

static void die(fs_status rc, const fs_error *err)
{
    if (rc) {
        fprintf(stderr, "train: %s\n", err->message);
        exit(1);
    }
}

/* A model from nothing with all that its steps need. */
struct rig {
    const struct shape *shape;
    fs_config config;
    fs_kernels kernels;
    fs_pool *pool;
    fs_trainer *t;
    fs_optimizer o;
};

static void open_rig(struct rig *g, const struct shape *s, int threads, const fs_trainer_options *options)
{
    fs_error err;

    *g = (struct rig){ .shape = s, .o = fs_optimizer_default() };
    die(fs_config_from_json(&g->config, fs_bytes_str(s->config), "config", &err), &err);
    fs_kernels_init(&g->kernels, fs_isa_detect());
    die(fs_pool_new(threads, &g->pool, &err), &err);
    fs_pool_keep_all(g->pool);
    die(fs_trainer_new(&g->config, g->pool, &g->kernels, options, &g->t, &err), &err);
    fs_params_init(fs_trainer_params(g->t), 1, 0.006);
}

static void add_moments(struct rig *g)
{
    fs_error err;

    die(fs_params_add_moments(fs_trainer_params(g->t), &err), &err);
    fs_trainer_pack(g->t);
}

static void close_rig(struct rig *g)
{
    fs_trainer_free(g->t);
    fs_pool_free(g->pool);
    fs_config_done(&g->config);
}

static int32_t *random_ids(size_t n, uint32_t vocab_size)
{
    int32_t *ids = allocate(n * sizeof *ids);
    uint32_t seed = 1;

    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        ids[i] = (int32_t)((seed >> 8) % vocab_size);
    }
    return ids;
}

/* Milliseconds of the roots of a step that has them. */
static double roots_ms(struct rig *g)
{
    double ms[5];
    fs_error err;

    for (int i = 0; i < 5; i++) {
        fs_roots roots = { 0 }, state = { 0 };
        double start = wall_us();
        die(fs_checkpoint_roots(fs_trainer_params(g->t), &g->o, g->pool, &roots, &state, &err), &err);
        ms[i] = (wall_us() - start) / 1e3;
        fs_roots_done(&roots);
        fs_roots_done(&state);
    }
    return median(ms, 5);
}

static void print_trace(struct rig *g, bool bf16, uint32_t rows, int threads, double ms_step)
{
    const fs_params *p = fs_trainer_params(g->t);
    double ms = roots_ms(g);
    uint64_t n = 0, every;

    for (size_t i = 0; i < p->n; i++)
        n += p->items[i].n;
    every = fs_history_every(n, p->n, fs_params_n_active(p, &g->config, false), (uint64_t)rows * g->shape->length);
    printf("model,precision,rows,threads,ms_step,ms_roots,trace_every,percent,cpu\n%s,%s,%u,%d,%.1f,%.1f,%llu,%.2f,%s\n", g->shape->name,
           fs_precision_name(bf16), rows, threads, ms_step, ms, (unsigned long long)every, 100 * ms / ((double)every * ms_step), cpu_name());
}

static void measure(const struct shape *s, bool bf16, uint32_t rows, int threads, int steps, uint32_t micro, bool recompute, bool trace, const char *commit)
{
    fs_trainer_options options = { .bf16 = bf16, .recompute = recompute, .tokens_max = micro * s->length, .sequences_max = micro };
    struct rig g;
    fs_error err;
    int32_t *ids;
    double all[STEPS_MAX], run[STEPS_MAX], opt[STEPS_MAX], pack[STEPS_MAX], flop, ms;

    open_rig(&g, s, threads, &options);
    add_moments(&g);
    ids = random_ids((size_t)rows * (s->length + 1), g.config.vocab_size);
    flop = fs_flop_token(fs_trainer_params(g.t), &g.config, s->length);
    for (int i = -1; i < steps; i++) { /* the first touches the memory */
        fs_train_totals totals = { .n_targets = (uint64_t)rows * s->length, .n_sequences = rows };
        fs_train_loss loss;
        double t0 = wall_us(), t1, t2, t3;
        fs_trainer_begin(g.t, &totals);
        for (uint32_t r = 0; r < rows; r += micro) {
            fs_train_sequence seq[ROWS_MAX];
            for (uint32_t j = 0; j < micro; j++)
                seq[j] = (fs_train_sequence){ .ids = ids + (r + j) * (s->length + 1), .targets = ids + (r + j) * (s->length + 1) + 1,
                                                 .n = s->length, .index = (uint64_t)(r + j) * s->length };
            die(fs_trainer_run(g.t, seq, micro, &err), &err);
        }
        fs_trainer_end(g.t, &loss);
        t1 = wall_us();
        fs_optimizer_step(&g.o, fs_trainer_params(g.t), g.pool, &g.kernels, fs_params_grad_norm(&g.kernels, fs_trainer_params(g.t)), 1e-3);
        t2 = wall_us();
        fs_trainer_pack(g.t);
        t3 = wall_us();
        if (i < 0)
            continue;
        all[i] = (t3 - t0) / 1e3;
        run[i] = (t1 - t0) / 1e3;
        opt[i] = (t2 - t1) / 1e3;
        pack[i] = (t3 - t2) / 1e3;
    }
    ms = median(all, (size_t)steps);
    if (trace)
        print_trace(&g, bf16, rows, threads, ms);
    else
        printf("%s,%s,%u,%u,%d,%.0f,%.1f,%.1f,%.1f,%.1f,%.1f,%.0f,%s,%s\n", s->name, fs_precision_name(bf16), rows, micro, threads, 1e3 * rows * s->length / ms, ms,
               median(run, (size_t)steps), median(opt, (size_t)steps), median(pack, (size_t)steps), flop * rows * s->length / ms / 1e6,
               (double)fs_trainer_bytes(g.t) / 1048576, cpu_name(), commit);
    fflush(stdout);
    close_rig(&g);
    fs_free_aligned(ids);
}

#define DRAWN 64 /* tokens of a completion */

static void measure_sampling(const struct shape *s, bool bf16, uint32_t n, int threads, int runs)
{
    fs_trainer_options least = { .bf16 = bf16, .tokens_max = FS_TRAIN_ROW_MULTIPLE, .sequences_max = 1 };
    fs_rollout_options options = { n, 2 * DRAWN, bf16 };
    fs_sampling sampling = fs_sampling_default();
    fs_sampled items[ROWS_MAX];
    struct rig g;
    fs_rollout *r;
    fs_error err;
    int32_t *ids;
    float *logp = allocate((size_t)n * DRAWN * sizeof *logp);
    double us[STEPS_MAX], us_run;

    open_rig(&g, s, threads, &least);
    ids = random_ids((size_t)n * 2 * DRAWN, g.config.vocab_size);
    sampling.temperature = 1;
    die(fs_rollout_new(&g.config, fs_trainer_params(g.t), g.pool, &g.kernels, &options, &r, &err), &err);
    die(fs_rollout_refresh(r, &err), &err);
    for (int i = -1; i < runs; i++) {
        double start = wall_us();
        for (uint32_t k = 0; k < n; k++)
            items[k] = (fs_sampled){ .prompt = ids + k * 2 * DRAWN, .n_prompt = DRAWN, .stream = k, .ids = ids + (k * 2 + 1) * DRAWN,
                                     .logp = logp + k * DRAWN, .n_max = DRAWN };
        die(fs_rollout_run(r, &sampling, NULL, 0, items, n, &err), &err);
        us_run = wall_us() - start;
        if (i >= 0)
            us[i] = us_run;
    }
    us_run = median(us, (size_t)runs);
    printf("model,precision,sequences,threads,tokens_s,ms\n%s,%s,%u,%d,%.0f,%.1f\n", s->name, fs_precision_name(bf16), n, threads,
           1e6 * n * DRAWN / us_run, us_run / 1e3);
    fs_rollout_free(r);
    close_rig(&g);
    fs_free_aligned(ids);
    fs_free_aligned(logp);
}

static fs_status give_prompt(void *ud, uint64_t number, int32_t *ret_ids, uint32_t n_max, uint32_t *ret_n, fs_error *err)
{
    (void)ud;
    (void)n_max;
    (void)err;
    *ret_n = 6;
    for (uint32_t i = 0; i < *ret_n; i++)
        ret_ids[i] = (int32_t)((number * 31 + i * 7) % 97);
    return FS_OK;
}

static fs_status give_rewards(void *ud, const uint64_t *numbers, const fs_sampled *items, size_t n, double *ret_rewards, bool *ret_right, fs_error *err)
{
    (void)ud;
    (void)numbers;
    (void)err;
    for (size_t i = 0; i < n; i++) {
        ret_right[i] = items[i].ids[0] & 1;
        ret_rewards[i] = ret_right[i] + 0.01 * (double)(items[i].ids[1] & 15);
    }
    return FS_OK;
}

static void measure_grpo(const struct shape *s, bool bf16, int threads, int steps, int keep_mib)
{
    fs_grpo_options o = { .prompts = 8, .group = 8, .prompt_max = 8, .max_tokens = DRAWN, .sequences_max = 64, .micro_tokens = 4096, .temperature = 1, .keep_bytes_max = (size_t)keep_mib << 20,
                          .updates = 1, .scale = FS_REWARD_SCALE_GROUP, .policy = { .kind = FS_POLICY_DAPO, .epsilon_low = 0.2, .epsilon_high = 0.2 },
                          .seed = 1 };
    fs_grpo_source source = { give_prompt, give_rewards, NULL };
    fs_trainer_options room = { .bf16 = bf16 };
    struct rig g;
    fs_grpo *grpo;
    fs_error err;
    double all[STEPS_MAX], sampled[STEPS_MAX];

    fs_grpo_trainer_room(&o, &room);
    open_rig(&g, s, threads, &room);
    add_moments(&g);
    die(fs_grpo_new(g.t, NULL, &g.config, g.pool, &g.kernels, &o, &grpo, &err), &err);
    for (int i = -1; i < steps; i++) {
        fs_grpo_step step;
        double start = wall_us();
        die(fs_grpo_run(grpo, (uint64_t)(i + 1), &source, &g.o, 1e-4, false, &step, &err), &err);
        if (i < 0)
            continue;
        all[i] = (wall_us() - start) / 1e3;
        sampled[i] = step.sample_seconds * 1e3;
    }
    printf("model,precision,threads,ms_step,ms_sampling\n");
    printf("%s,%s,%d,%.1f,%.1f\n", s->name, fs_precision_name(bf16), threads, median(all, (size_t)steps), median(sampled, (size_t)steps));
    fs_grpo_free(grpo);
    close_rig(&g);
}

static const struct shape *shape_named(const char *name)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(name, shapes[i].name) == 0)
            return &shapes[i];
    fprintf(stderr, "train: the models are A, B and L\n");
    exit(2);
}

/* A number from 1 to max of an argument. */
static int number(const char *text, int max)
{
    int n = atoi(text);

    if (n >= 1 && n <= max)
        return n;
    fprintf(stderr, "train: '%s' is not from 1 to %d\n", text, max);
    exit(2);
}

int main(int argc, char **argv)
{
    static const uint32_t rows[] = { 16, 4, 16 };
    const char *commit = argc > 1 ? argv[1] : "";
    bool bf16 = argc > 3 && strcmp(argv[3], "bf16") == 0;

    if (argc == 7 && strcmp(commit, "trace") == 0) {
        uint32_t n = (uint32_t)number(argv[4], ROWS_MAX);
        measure(shape_named(argv[2]), bf16, n, number(argv[5], 1024), number(argv[6], STEPS_MAX), n, false, true, "");
        return 0;
    }
    if (argc == 7 && strcmp(commit, "sample") == 0) {
        measure_sampling(shape_named(argv[2]), bf16, (uint32_t)number(argv[4], ROWS_MAX), number(argv[5], 1024), number(argv[6], STEPS_MAX));
        return 0;
    }
    if ((argc == 6 || argc == 7) && strcmp(commit, "grpo") == 0) {
        measure_grpo(shape_named(argv[2]), bf16, number(argv[4], 1024), number(argv[5], STEPS_MAX), argc == 7 ? number(argv[6], 1 << 20) : 512);
        return 0;
    }
    if (argc > 2 && argc < 7) {
        fprintf(stderr, "usage: train COMMIT [A|B|L f32|bf16 ROWS THREADS STEPS [MICRO_ROWS [layer]]]\n"
                        "       train trace A|B|L f32|bf16 ROWS THREADS STEPS\n       train sample A|B|L f32|bf16 SEQUENCES THREADS RUNS\n       train grpo A|B|L f32|bf16 THREADS STEPS [KEEP_MIB]\n");
        return 2;
    }
    printf("model,precision,rows,micro_rows,threads,tokens_s,ms_step,ms_forward_backward,ms_adamw,ms_pack,gflops,mib,cpu,commit\n");
    if (argc > 2) {
        uint32_t n = (uint32_t)number(argv[4], ROWS_MAX), micro = argc > 7 ? (uint32_t)number(argv[7], ROWS_MAX) : n;
        if (n % micro)
            return 2;
        measure(shape_named(argv[2]), bf16, n, number(argv[5], 1024), number(argv[6], STEPS_MAX), micro, argc > 8 && strcmp(argv[8], "layer") == 0, false, commit);
        return 0;
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int run = 0; run < 4; run++)
            measure(&shapes[i], run % 2, rows[i], 1 + run / 2, 5, rows[i], false, false, commit);
    return 0;
}
