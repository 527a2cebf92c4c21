/* train: a training by a recipe. */
#include "cli/chain.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/origin.h"

#include "base/file.h"
#include "base/yaml.h"
#include "lineage/provenance.h"
#include "train/pretrain.h"
#include "train/reinforce.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct {
    const char *isa, *out, *seed, *only, *until;
    int n_threads;
    bool resume, dry_run, json;
} opt;

static const fs_option options[] = {
    FS_OPT_STR("out", 'o', opt.out, "FOLDER", "where it all goes (default: the recipe's out)"),
    FS_OPT_STR("seed", 's', opt.seed, "N", "instead of the recipe's seed; counts as another recipe"),
    FS_OPT_STR("stage", 0, opt.only, "NAME", "of a chain only this stage; what it needs must have run"),
    FS_OPT_STR("until", 0, opt.until, "NAME", "of a chain the stages up to this one"),
    FS_OPT_FLAG("resume", 0, opt.resume, "go on from the newest checkpoint in the recipe's out; a chain does so anyway"),
    FS_OPT_FLAG("dry-run", 0, opt.dry_run, "print what would be trained, and train nothing"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, 256, "N", "threads; changes nothing (default: one a usable CPU)"),
    FS_OPT_STR("isa", 0, opt.isa, "scalar|avx2|avx512|neon", "restrict the instruction set; changes nothing"),
    FS_OPT_FLAG("json", 0, opt.json, "one JSON object a step on stdout"),
    FS_OPT_END
};

struct show {
    const fs_recipe *recipe;
    uint64_t tokens_step;
    double seconds;
    uint64_t n_done;
    double held_out; /* the last; NAN: none was measured */
    FILE *to;
};

static void show_shape(FILE *to, const fs_config *c)
{
    fprintf(to, "shape        %s, %" PRIu32 " layers of %" PRIu32 ", %" PRIu32 " heads, vocabulary %" PRIu32, c->model_type, c->num_hidden_layers, c->hidden_size,
            c->num_attention_heads, c->vocab_size);
    if (c->kv_lora_rank)
        fprintf(to, ", latent rows of %" PRIu32 " + %" PRIu32, c->kv_lora_rank, c->qk_rope_head_dim);
    if (c->n_routed_experts)
        fprintf(to, ", %" PRIu32 " experts of %" PRIu32 ", %" PRIu32 " a token", c->n_routed_experts, c->moe_intermediate_size, c->num_experts_per_tok);
    fprintf(to, "\n");
}

static void show_plan(void *ud, const fs_stage_plan *p)
{
    struct show *s = ud;

    s->tokens_step = p->tokens_step;
    if (opt.json && opt.dry_run)
        printf("{\"parameters\":%" PRIu64 ",\"active\":%" PRIu64 ",\"trained\":%" PRIu64 ",\"documents\":%" PRIu64 ",\"tokens\":%" PRIu64 ",\"rows\":%" PRIu64
               ",\"tokens_step\":%" PRIu64 ",\"flop_token\":%.0f,\"bytes\":%zu,\"seconds_step\":%.4g,\"precision\":\"%s\"}\n",
               p->n_parameters, p->n_active, p->n_trained, p->n_documents, p->n_tokens, p->n_rows, p->tokens_step, p->flop_token, p->bytes, p->seconds_step,
               fs_precision_name(s->recipe->bf16));
    if (opt.json)
        return;
    show_shape(s->to, p->config);
    fprintf(s->to, "parameters   %" PRIu64 ", %" PRIu64 " active, %" PRIu64 " trained\n", p->n_parameters, p->n_active, p->n_trained);
    if (p->n_documents)
        fprintf(s->to, "data         %" PRIu64 " documents, %" PRIu64 " tokens, %" PRIu64 " rows\n", p->n_documents, p->n_tokens, p->n_rows);
    fprintf(s->to, "step         %s%" PRIu64 " tokens, %.3g GFLOP\n", fs_recipe_samples(s->recipe) ? "at most " : "", p->tokens_step,
            1e-9 * p->flop_token * (double)p->tokens_step);
    if (s->recipe->bf16)
        fprintf(s->to, "precision    bf16 (RN1-bf16: products and attention; f32 masters)\n");
    fprintf(s->to, "memory       %.0f MiB\n", (double)p->bytes / 1048576);
    if (p->seconds_step > 0)
        fprintf(s->to, "time         %.3g s a step%s, %.3g min for %" PRIu64 " steps\n", p->seconds_step, fs_recipe_samples(s->recipe) ? " with replies as long as the first" : "",
                p->seconds_step * (double)s->recipe->steps / 60, s->recipe->steps);
    if (p->resumed_from)
        fprintf(s->to, "resumed      %s, step %" PRIu64 "\n", p->resumed_from, p->first_step);
}

/* How long the rest will take, by the mean of the steps so far. */
static double seconds_left(struct show *s, const fs_stage_step *p)
{
    s->seconds += p->seconds;
    s->n_done++;
    return s->seconds / (double)s->n_done * (double)(p->steps - p->step);
}

/* Nothing where it was not measured. */
__attribute__((format_arg(1))) static const char *known(const char *format, double value, char ret[64])
{
    ret[0] = 0;
    if (!isnan(value))
        snprintf(ret, 64, format, value);
    return ret;
}

static bool show_pretrained(void *ud, const fs_stage_step *p)
{
    const fs_train_loss *loss = &p->pretrain.loss;
    struct show *s = ud;
    char text[4][64];
    double left = seconds_left(s, p), norm = p->pretrain.grad_norm, divergence = s->recipe->teacher ? loss->divergence : NAN;

    if (!isnan(p->pretrain.validation))
        s->held_out = p->pretrain.validation;
    if (opt.json)
        printf("{\"step\":%" PRIu64 ",\"loss\":%.9g,\"mtp_loss\":%.9g,\"balance_loss\":%.9g,\"grad_norm\":%.9g,\"lr\":%.9g,\"tokens_s\":%.0f%s%s%s%s}\n", p->step,
               loss->loss, loss->mtp, loss->balance, norm, p->lr, (double)s->tokens_step / p->seconds, known(",\"mfu\":%.4f", p->mfu, text[3]),
               known(",\"validation_start\":%.9g", p->pretrain.start, text[0]),
               known(",\"validation\":%.9g", p->pretrain.validation, text[1]), known(",\"divergence\":%.9g", divergence, text[2]));
    else
        fprintf(s->to, "%sstep %" PRIu64 "/%" PRIu64 "  loss %.4f%s  grad %.3f  lr %.3g%s  %.0f tok/s%s  %.0f s left\n",
                known("validation   loss %.4f\n", p->pretrain.start, text[0]), p->step, p->steps, loss->loss,
                known("  divergence %.4f", divergence, text[2]), norm, p->lr, known("  validation %.4f", p->pretrain.validation, text[1]),
                (double)s->tokens_step / p->seconds, known("  MFU %.0f %%", 100 * p->mfu, text[3]), left);
    fflush(opt.json ? stdout : s->to);
    return !fs_interrupted();
}

/* A step of on-policy distillation that took rows of data. */
static void show_read(const struct show *s, const fs_stage_step *p, double left)
{
    const fs_train_loss *loss = &p->pretrain.loss;
    double speed = (double)s->recipe->rows * s->recipe->length / p->seconds, norm = p->pretrain.grad_norm;
    char text[64];

    if (opt.json)
        printf("{\"step\":%" PRIu64 ",\"read\":true,\"loss\":%.9g,\"cross_entropy\":%.9g,\"grad_norm\":%.9g,\"lr\":%.9g,\"tokens_s\":%.0f%s}\n", p->step,
               loss->divergence, loss->loss, norm, p->lr, speed, known(",\"mfu\":%.4f", p->mfu, text));
    else
        fprintf(s->to, "step %" PRIu64 "/%" PRIu64 "  on data  cross entropy %.4f  loss %.4f  grad %.3f  %.0f tok/s%s  %.0f s left\n", p->step, p->steps, loss->loss,
                loss->divergence, norm, speed, known("  MFU %.0f %%", 100 * p->mfu, text), left);
}

static bool show_reinforced(void *ud, const fs_stage_step *p)
{
    const fs_grpo_step *g = &p->grpo;
    struct show *s = ud;
    char text[64];
    double left = seconds_left(s, p);

    if (p->read)
        show_read(s, p, left);
    else if (opt.json)
        printf("{\"step\":%" PRIu64 ",\"reward\":%.9g,\"right\":%.9g,\"length\":%.9g,\"entropy\":%.9g,\"truncated\":%.9g,\"flat_groups\":%.9g,\"loss\":%.9g,"
               "\"grad_norm\":%.9g,\"lr\":%.9g,\"sample_s\":%.3f,\"train_s\":%.3f%s}\n",
               p->step, g->reward, g->right, g->length, g->entropy, g->truncated, g->flat_groups, g->policy.loss, (double)g->grad_norm, p->lr, g->sample_seconds,
               g->train_seconds, known(",\"mfu\":%.4f", p->mfu, text));
    else
        fprintf(s->to, "step %" PRIu64 "/%" PRIu64 "  reward %.3f  right %.3f  length %.1f  entropy %.3f  loss %.4f  grad %.3f  %.0f tok/s%s  %.0f s left\n", p->step, p->steps,
                g->reward, g->right, g->length, g->entropy, g->policy.loss, (double)g->grad_norm, (double)g->n_tokens / p->seconds,
                known("  MFU %.0f %%", 100 * p->mfu, text), left);
    fflush(opt.json ? stdout : s->to);
    return !fs_interrupted();
}

/* One number and one hash, which are what a run can be compared by. */
static void show_result(const struct show *s, const char *name)
{
    char *folder = fs_path_join(s->recipe->out, name), hex[65];
    fs_record record = { 0 };
    fs_buf text = { 0 };
    fs_root root;

    if (folder && fs_provenance_read(folder, &record, &text, NULL) == FS_OK) {
        fs_record_result(&record, &root);
        fs_root_hex(&root, hex);
        if (!isnan(s->held_out))
            printf("held-out loss %.9g\n", s->held_out);
        printf("root %s\n", hex);
        fflush(stdout);
    }
    fs_record_done(&record);
    fs_buf_done(&text);
    free(folder);
}

static void show_checkpoint(void *ud, uint64_t step)
{
    struct show *s = ud;
    char name[48];

    snprintf(name, sizeof name, "step-%08" PRIu64, step);
    if (!opt.json)
        fprintf(s->to, "checkpoint   %s\n", name);
    if (!opt.json && step == s->recipe->steps)
        show_result(s, name);
}

/* ---- one training ---- */

static fs_status train(const fs_recipe *r, bool resume, fs_error *err)
{
    struct show show = { .recipe = r, .held_out = NAN, .to = opt.dry_run ? stdout : stderr };
    fs_record origin = { 0 };
    fs_stage_events events = { show_plan, show_pretrained, show_checkpoint, &show, &origin, NULL };
    fs_pool *pool = NULL;
    fs_kernels kernels;
    fs_status rc = fs_kernels_init_named(&kernels, opt.isa, err);

    if (!rc)
        rc = fs_pool_new(opt.n_threads, &pool, err);
    if (!rc && !opt.dry_run)
        rc = fs_folder_make(r->out, 0700, err);
    if (!rc && !opt.dry_run)
        rc = fs_origin_begin(&origin, err);
    if (!rc) {
        fs_pool_keep_all(pool);
        fs_interrupt_catch();
        if (fs_recipe_samples(r))
            events.step = show_reinforced;
        rc = (fs_recipe_samples(r) ? fs_reinforce : fs_pretrain)(r, pool, &kernels, resume, opt.dry_run, &events, err);
    }
    fs_pool_free(pool);
    fs_record_done(&origin);
    return rc;
}

static fs_status train_stage(const fs_recipe *r, fs_error *err)
{
    return train(r, true, err);
}

/* ---- recipes ---- */

static fs_status set_seed(struct json_object *json, fs_buf *text, fs_error *err)
{
    char *end;
    long long seed = strtoll(opt.seed, &end, 10);

    if (!*opt.seed || *end || seed < 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "--seed is '%.60s', which is no integer from 0", opt.seed);
    if (!json_object_is_type(json, json_type_object) || json_object_object_add(json, "seed", json_object_new_int64(seed)) != 0)
        return fs_fail(err, FS_ERR_FORMAT, "the recipe is no mapping");
    return fs_buf_printf(text, err, "\nseed: %lld\n", seed);
}

static fs_status train_one(struct json_object *json, const char *path, const fs_buf *text, fs_error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = strndup(path, slash ? (size_t)(slash - path) + 1 : 0);
    const fs_recipe_place place = { .folder = folder, .out = opt.out };
    fs_recipe recipe = { 0 };
    fs_status rc = folder ? FS_OK : fs_fail_memory(err, strlen(path));

    if (!rc && (opt.only || opt.until))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' has no stages", path);
    if (!rc)
        rc = fs_recipe_of(&recipe, json, path, &place, err);
    if (!rc)
        rc = fs_recipe_hash(&recipe, fs_buf_bytes(text), err);
    if (!rc)
        rc = train(&recipe, opt.resume, err);
    fs_recipe_done(&recipe);
    free(folder);
    return rc;
}

static fs_status train_chain(struct json_object *json, const char *path, fs_error *err)
{
    const fs_chain_options o = { opt.only, opt.until, opt.isa, opt.n_threads, opt.dry_run, opt.json, train_stage };
    fs_chain *chain = NULL;
    fs_status rc = fs_chain_new(json, path, opt.out, &chain, err);

    if (!rc)
        rc = fs_chain_run(chain, &o, err);
    fs_chain_free(chain);
    return rc;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    const char *path = args->items[0];
    struct json_object *json = NULL;
    fs_buf text = { 0 };
    fs_status rc = fs_file_read(path, FS_RECIPE_BYTES_MAX, &text, err);

    if (!rc)
        rc = fs_yaml_parse(fs_buf_bytes(&text), path, &json, err);
    if (!rc && opt.seed)
        rc = set_seed(json, &text, err);
    if (!rc)
        rc = fs_is_chain(json) ? train_chain(json, path, err) : train_one(json, path, &text, err);
    json_object_put(json);
    fs_buf_done(&text);
    return rc;
}

const fs_command fs_command_train = {
    .set = { .name = "train",
             .usage = "RECIPE",
             .summary = "Train a model by a recipe.",
             .text = "RECIPE is a YAML file: which model, which data, how many steps; or a chain of stages, from problems and tokenizer to the last "
                     "training, which goes on where it was cut and steps over what is done. Checkpoints are ordinary model folders in the recipe's out, "
                     "with what --resume needs; trace.jsonl beside them has the bits of every step's loss and gradient norm. Neither --threads "
                     "nor --isa nor a stop changes a bit of the result.",
             .options = options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = run,
};
