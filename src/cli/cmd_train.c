/* train: a training by a recipe. */
#include "cli/cli.h"
#include "cli/interrupt.h"

#include "train/pretrain.h"
#include "train/reinforce.h"

#include <inttypes.h>

static struct {
    const char *isa;
    int n_threads;
    bool resume, dry_run, json;
} opt;

static const fs_option options[] = {
    FS_OPT_FLAG("resume", 0, opt.resume, "go on from the newest checkpoint in the recipe's out"),
    FS_OPT_FLAG("dry-run", 0, opt.dry_run, "print what would be trained, and train nothing"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, 256, "N", "threads; changes nothing (default: one a usable CPU)"),
    FS_OPT_STR("isa", 0, opt.isa, "scalar|avx2|avx512|neon", "restrict the instruction set; changes nothing"),
    FS_OPT_FLAG("json", 0, opt.json, "one JSON object a step on stdout"),
    FS_OPT_END
};

struct show {
    uint64_t tokens_step;
    double seconds;
    uint64_t n_done;
    FILE *to;
};

static void show_plan(void *ud, const fs_stage_plan *p)
{
    struct show *s = ud;

    s->tokens_step = p->tokens_step;
    if (opt.json && opt.dry_run)
        printf("{\"parameters\":%" PRIu64 ",\"active\":%" PRIu64 ",\"documents\":%" PRIu64 ",\"tokens\":%" PRIu64 ",\"rows\":%" PRIu64
               ",\"tokens_step\":%" PRIu64 ",\"flop_token\":%" PRIu64 ",\"bytes\":%zu}\n",
               p->n_parameters, p->n_active, p->n_documents, p->n_tokens, p->n_rows, p->tokens_step, 6 * p->n_active, p->bytes);
    if (opt.json)
        return;
    fprintf(s->to, "parameters   %" PRIu64 ", %" PRIu64 " active\n", p->n_parameters, p->n_active);
    if (p->n_documents)
        fprintf(s->to, "data         %" PRIu64 " documents, %" PRIu64 " tokens, %" PRIu64 " rows\n", p->n_documents, p->n_tokens, p->n_rows);
    fprintf(s->to, "step         %" PRIu64 " tokens, %.3g GFLOP besides attention\n", p->tokens_step, 6e-9 * (double)p->n_active * (double)p->tokens_step);
    fprintf(s->to, "memory       %.0f MiB\n", (double)p->bytes / 1048576);
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

static bool show_pretrained(void *ud, const fs_stage_step *p)
{
    const fs_train_loss *loss = &p->pretrain.loss;
    struct show *s = ud;
    double left = seconds_left(s, p), norm = p->pretrain.grad_norm;

    if (opt.json)
        printf("{\"step\":%" PRIu64 ",\"loss\":%.9g,\"mtp_loss\":%.9g,\"balance_loss\":%.9g,\"grad_norm\":%.9g,\"lr\":%.9g,\"tokens_s\":%.0f}\n", p->step,
               loss->loss, loss->mtp, loss->balance, norm, p->lr, (double)s->tokens_step / p->seconds);
    else
        fprintf(s->to, "step %" PRIu64 "/%" PRIu64 "  loss %.4f  grad %.3f  lr %.3g  %.0f tok/s  %.0f s left\n", p->step, p->steps, loss->loss, norm, p->lr,
                (double)s->tokens_step / p->seconds, left);
    fflush(opt.json ? stdout : s->to);
    return !fs_interrupted();
}

static bool show_reinforced(void *ud, const fs_stage_step *p)
{
    const fs_grpo_step *g = &p->grpo;
    struct show *s = ud;
    double left = seconds_left(s, p);

    if (opt.json)
        printf("{\"step\":%" PRIu64 ",\"reward\":%.9g,\"right\":%.9g,\"length\":%.9g,\"entropy\":%.9g,\"truncated\":%.9g,\"flat_groups\":%.9g,\"loss\":%.9g,"
               "\"grad_norm\":%.9g,\"lr\":%.9g,\"sample_s\":%.3f,\"train_s\":%.3f}\n",
               p->step, g->reward, g->right, g->length, g->entropy, g->truncated, g->flat_groups, g->policy.loss, (double)g->grad_norm, p->lr, g->sample_seconds,
               g->train_seconds);
    else
        fprintf(s->to, "step %" PRIu64 "/%" PRIu64 "  reward %.3f  right %.3f  length %.1f  entropy %.3f  grad %.3f  %.0f tok/s  %.0f s left\n", p->step, p->steps,
                g->reward, g->right, g->length, g->entropy, (double)g->grad_norm, (double)g->n_tokens / p->seconds, left);
    fflush(opt.json ? stdout : s->to);
    return !fs_interrupted();
}

static void show_checkpoint(void *ud, uint64_t step)
{
    struct show *s = ud;

    if (!opt.json)
        fprintf(s->to, "checkpoint   step-%08" PRIu64 "\n", step);
}

static fs_status run(const fs_args *args, fs_error *err)
{
    struct show show = { .to = opt.dry_run ? stdout : stderr };
    fs_stage_events events = { show_plan, show_pretrained, show_checkpoint, &show };
    fs_recipe recipe = { 0 };
    fs_pool *pool = NULL;
    fs_kernels kernels;
    fs_status rc = fs_recipe_read(&recipe, args->items[0], err);

    if (!rc)
        rc = fs_kernels_init_named(&kernels, opt.isa, err);
    if (!rc)
        rc = fs_pool_new(opt.n_threads, &pool, err);
    if (!rc && !opt.dry_run)
        rc = fs_folder_make(recipe.out, err);
    if (!rc) {
        fs_pool_keep_all(pool);
        fs_interrupt_catch();
        if (recipe.stage == FS_STAGE_GRPO)
            events.step = show_reinforced;
        rc = (recipe.stage == FS_STAGE_GRPO ? fs_reinforce : fs_pretrain)(&recipe, pool, &kernels, opt.resume, opt.dry_run, &events, err);
    }
    fs_pool_free(pool);
    fs_recipe_done(&recipe);
    return rc;
}

const fs_command fs_command_train = {
    .set = { .name = "train",
             .usage = "RECIPE",
             .summary = "Train a model by a recipe.",
             .text = "RECIPE is a YAML file: which model, which data, how many steps. Checkpoints are ordinary model folders in the recipe's out, "
                     "with what --resume needs; trace.jsonl beside them has the bits of every step's loss and gradient norm. Neither --threads "
                     "nor --isa nor a stop changes a bit of the result.",
             .options = options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = run,
};
