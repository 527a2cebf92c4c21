/* farseek data make, farseek data check: problems with exact answers, and the checking of what a model said. The work is in
 * data/tasks.c. */
#include "cli/cli.h"
#include "cli/data_cli.h"
#include "cli/derive.h"

#include "base/json.h"
#include "data/maths.h"
#include "data/tasks.h"
#include "data/word_count.h"
#include "text/json_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct {
    const char *budgets, *split;
    uint64_t seed, first;
    int n, level_min, level_max, number_max, target_max;
    double traced, test_share;
    bool carries, distinct, no_record, json;
} opt = { .split = "any", .n = 1000, .traced = 1, .test_share = 0.1 };

static const fs_option make_options[] = {
    FS_OPT_INT("count", 'n', opt.n, 1, 1 << 30, "N", "records (default 1000)"),
    FS_OPT_U64("seed", 's', opt.seed, "N", "which problems (default 0)"),
    FS_OPT_U64("first", 0, opt.first, "N", "index of the first (default 0)"),
    FS_OPT_INT("min", 0, opt.level_min, 0, FS_TASK_LEVEL_MAX, "N", "least operations, digits, numbers (default: 3; facts 1, multiply 2)"),
    FS_OPT_INT("max", 0, opt.level_max, 0, FS_TASK_LEVEL_MAX, "N", "most (default: facts 2, chain 6, multiply 3, sort 8, countdown 4)"),
    FS_OPT_FLOAT("traced", 0, opt.traced, 0, 1, "SHARE", "share of records with a trace (default 1)"),
    FS_OPT_FLAG("carries", 0, opt.carries, "multiply: traces go digit by digit, with the carries (at most 5 digits)"),
    FS_OPT_STR("budgets", 0, opt.budgets, "N,N", "countdown: tries, one of these a record (default 2,4,8,16)"),
    FS_OPT_INT("number-max", 0, opt.number_max, 0, 1000000, "N", "largest given number (default: countdown 25, sort 99)"),
    FS_OPT_INT("target-max", 0, opt.target_max, 0, 1 << 30, "N", "countdown: largest target (default 200)"),
    FS_OPT_STR("split", 0, opt.split, "any|train|test", "which prompts, by their hash (default any)"),
    FS_OPT_FLOAT("test-share", 0, opt.test_share, 0, 1, "SHARE", "of all prompts, that are test prompts (default 0.1)"),
    FS_OPT_FLAG("distinct", 0, opt.distinct, "leave out prompts that stood before, and make more"),
    FS_OPT_FLAG("no-record", 0, opt.no_record, "write no record of where OUT comes from"),
    FS_OPT_FLAG("json", 0, opt.json, "counts in JSON"),
    FS_OPT_END
};

static const fs_option check_options[] = {
    FS_OPT_FLAG("no-record", 0, opt.no_record, "write no record of where OUT comes from"),
    FS_OPT_FLAG("json", 0, opt.json, "counts in JSON"),
    FS_OPT_END
};

static fs_status find_task(const char *name, fs_task *ret, fs_error *err)
{
    *ret = fs_task_from_name(name);
    if (*ret == FS_TASK_END)
        return fs_fail(err, FS_ERR_ARGUMENT, "no task is called '%.60s'; there are facts, chain, multiply, sort, countdown, and for checking maths", name);
    return FS_OK;
}

static fs_status read_budgets(fs_task_options *o, fs_error *err)
{
    o->n_budgets = 0;
    for (const char *s = opt.budgets; *s;) {
        char *end;
        long v = strtol(s, &end, 10);
        if (end == s || v < 1 || v > 1 << 20 || (*end && *end != ',') || o->n_budgets == FS_TASK_BUDGETS_MAX)
            return fs_fail(err, FS_ERR_ARGUMENT, "--budgets '%.60s' is not like 2,4,8 (at most %d numbers)", opt.budgets, FS_TASK_BUDGETS_MAX);
        o->budgets[o->n_budgets++] = (int)v;
        s = end + (*end == ',');
    }
    return FS_OK;
}

static fs_status read_options(fs_task t, fs_task_options *o, fs_error *err)
{
    *o = fs_task_defaults(t);
    o->seed = opt.seed;
    o->level_min = opt.level_min ? opt.level_min : o->level_min;
    o->level_max = opt.level_max ? opt.level_max : o->level_max < o->level_min ? o->level_min : o->level_max;
    o->number_max = opt.number_max ? opt.number_max : o->number_max;
    o->target_max = opt.target_max ? opt.target_max : o->target_max;
    o->traced = opt.traced;
    o->carries = opt.carries;
    o->test_share = opt.test_share;
    o->split = strcmp(opt.split, "train") == 0 ? FS_TASK_TRAIN : strcmp(opt.split, "test") == 0 ? FS_TASK_TEST : FS_TASK_ANY;
    return opt.budgets ? read_budgets(o, err) : FS_OK;
}

static fs_status put_item(fs_task t, uint64_t index, const fs_task_item *i, fs_buf *line, fs_error *err)
{
    const fs_buf *const values[] = { &i->prompt, &i->trace, &i->answer };
    static const char *const keys[] = { "prompt", "trace", "answer" };
    fs_status rc = fs_buf_printf(line, err, "{\"task\": \"%s\", \"index\": %" PRIu64 ", \"level\": %d", fs_task_name(t), index, i->level);

    for (int k = 0; k < 3 && !rc; k++) {
        rc = fs_buf_printf(line, err, ", \"%s\": ", keys[k]);
        if (!rc)
            rc = fs_json_quote(line, fs_buf_bytes(values[k]), err);
    }
    if (!rc && t == FS_TASK_COUNTDOWN)
        rc = fs_buf_printf(line, err, ", \"solved\": %s, \"tries\": %d", i->solved ? "true" : "false", i->n_tries);
    return rc ? rc : fs_buf_append_str(line, "}", err);
}

static fs_status make_all(fs_task t, const fs_task_options *o, fs_writer *w, fs_counts *counts, fs_error *err)
{
    fs_task_item item = { 0 };
    fs_words seen = { 0 };
    fs_buf line = { 0 };
    fs_work work;
    uint64_t index = opt.first, n = 0, repeats = 0;
    fs_status rc = FS_OK;

    fs_work_start(&work, "making", "records", 1);
    for (; n < (uint64_t)opt.n && !rc; index++) {
        rc = fs_task_make(t, o, index, &item, err);
        if (!rc && opt.distinct) {
            size_t before = seen.n;
            rc = fs_words_add(&seen, fs_buf_bytes(&item.prompt), 1, err);
            if (!rc && seen.n == before) {
                if (++repeats > 1000 && repeats > 100 * n)
                    rc = fs_fail(err, FS_ERR_ARGUMENT, "%s: only %" PRIu64 " of %d different prompts turned up in %" PRIu64 " draws", fs_task_name(t), n,
                                 opt.n, n + repeats);
                if (!rc)
                    rc = fs_progress_tell(&work.progress, n, (uint64_t)opt.n, err);
                continue;
            }
        }
        fs_buf_clear(&line);
        if (!rc)
            rc = put_item(t, index, &item, &line, err);
        if (!rc)
            rc = fs_put_line(w, fs_buf_bytes(&line), err);
        *fs_counts_of(counts, "records") = ++n;
        *fs_counts_of(counts, "traced") += item.traced;
        if (t == FS_TASK_COUNTDOWN)
            *fs_counts_of(counts, "solved") += item.solved;
        if (!rc)
            rc = fs_progress_tell(&work.progress, n, (uint64_t)opt.n, err);
    }
    if (opt.distinct)
        *fs_counts_of(counts, "repeats") = repeats;
    fs_work_end(&work);
    fs_task_item_done(&item);
    fs_words_done(&seen);
    fs_buf_done(&line);
    return rc;
}

/* What the record says of options that were not given. */
static void write_back(fs_task t, const fs_task_options *o, char budgets[FS_TASK_BUDGETS_MAX * 8 + 1])
{
    size_t n = 0;

    opt.level_min = o->level_min;
    opt.level_max = o->level_max;
    opt.number_max = o->number_max;
    opt.target_max = o->target_max;
    for (int i = 0; i < o->n_budgets && t == FS_TASK_COUNTDOWN; i++)
        n += (size_t)snprintf(budgets + n, 9, "%s%d", i ? "," : "", o->budgets[i]);
    opt.budgets = n ? budgets : NULL;
}

static fs_status make(const fs_args *args, fs_error *err)
{
    char budgets[FS_TASK_BUDGETS_MAX * 8 + 1];
    fs_derive d = { 0 };
    fs_task_options o;
    fs_counts counts = { 0 };
    fs_writer w = { .fd = -1 };
    fs_task t;
    fs_status rc = find_task(args->items[0], &t, err);

    if (!rc)
        rc = read_options(t, &o, err);
    if (!rc)
        rc = fs_task_options_check(t, &o, err);
    if (!rc)
        write_back(t, &o, budgets);
    if (!rc && !opt.no_record)
        rc = fs_derive_begin(&d, "make", args, args->items[1], err);
    if (!rc)
        rc = fs_writer_open(&w, args->items[1], err);
    if (!rc)
        rc = make_all(t, &o, &w, &counts, err);
    if (!rc)
        rc = fs_writer_commit(&w, err);
    fs_writer_close(&w);
    if (!rc)
        rc = fs_derive_end(&d, err);
    fs_derive_done(&d);
    opt.budgets = NULL;
    return rc ? rc : fs_counts_print(&counts, args->items[1], opt.json, err);
}

/* ---- check ---- */

#define MATHS FS_TASK_END /* answers that are compared as mathematics */

typedef struct checking {
    fs_task task;
    fs_counts counts;
    fs_writer *w; /* NULL: none */
    fs_buf prompt, output;
} checking;

static fs_status check_record(void *ud, const fs_data_record *r, const char *path, size_t line, fs_error *err)
{
    static const char *const names[] = { "wrong", "well-formed", "right" };
    checking *c = ud;
    fs_bytes output;
    fs_verdict v = FS_VERDICT_WRONG;
    fs_maths_verdict maths;
    fs_status rc;

    fs_buf_clear(&c->prompt);
    fs_buf_clear(&c->output);
    if (r->kind != FS_DATA_PROBLEM)
        return fs_fail(err, FS_ERR_FORMAT, "%s line %zu is no problem: it needs 'prompt' and 'answer'", path, line);
    rc = fs_json_text_unquote(c->task == MATHS ? r->answer : r->prompt, &c->prompt, err);
    if (!rc && fs_json_text_member(r->json, "output", &output) && output.data[0] == '"') {
        rc = fs_json_text_unquote(output, &c->output, err);
    } else if (!rc) {
        rc = r->trace.n_bytes ? fs_json_text_unquote(r->trace, &c->output, err) : FS_OK;
        if (!rc)
            rc = fs_json_text_unquote(r->answer, &c->output, err);
    }
    if (!rc && c->task == MATHS) {
        rc = fs_maths_verify(fs_buf_bytes(&c->prompt), fs_buf_bytes(&c->output), &maths, err);
        v = rc || maths == FS_MATHS_NO_ANSWER ? FS_VERDICT_WRONG : maths == FS_MATHS_OTHER ? FS_VERDICT_WELL_FORMED : FS_VERDICT_RIGHT;
    } else if (!rc) {
        v = fs_task_verify(c->task, fs_buf_bytes(&c->prompt), fs_buf_bytes(&c->output));
    }
    if (rc)
        return rc;
    *fs_counts_of(&c->counts, "records") += 1;
    *fs_counts_of(&c->counts, names[v]) += 1;
    return v == FS_VERDICT_RIGHT && c->w ? fs_put_line(c->w, r->json, err) : FS_OK;
}

static fs_status check(const fs_args *args, fs_error *err)
{
    const char *out = args->n > 2 ? args->items[2] : NULL;
    fs_writer w = { .fd = -1 };
    checking c = { .task = MATHS, .w = out ? &w : NULL };
    fs_derive d = { 0 };
    fs_status rc = strcmp(args->items[0], "maths") == 0 ? FS_OK : find_task(args->items[0], &c.task, err);

    for (int i = 0; i < 4; i++)
        fs_counts_of(&c.counts, ((const char *const[]){ "records", "right", "well-formed", "wrong" })[i]);
    if (!rc && out && !opt.no_record)
        rc = fs_derive_begin(&d, "check", args, out, err);
    if (!rc && out)
        rc = fs_writer_open(&w, out, err);
    if (!rc)
        rc = fs_records_walk(&args->items[1], 1, "checking", check_record, &c, err);
    if (!rc && out)
        rc = fs_writer_commit(&w, err);
    fs_writer_close(&w);
    if (!rc)
        rc = fs_derive_end(&d, err);
    fs_derive_done(&d);
    fs_buf_done(&c.prompt);
    fs_buf_done(&c.output);
    return rc ? rc : fs_counts_print(&c.counts, args->items[1], opt.json, err);
}

const fs_command fs_command_data_make = {
    .set = { .name = "data make",
             .usage = "TASK OUT",
             .summary = "Make problems with exact answers.",
             .text = "TASK is facts (one operation), chain (operations modulo 10), multiply, sort or countdown (each number once, with + - *). OUT becomes records with "
                     "prompt, trace and answer. A record is a function of the settings, --seed and its index; a prompt is a training or a test prompt by "
                     "its hash alone, so sets of the two never share one.",
             .options = make_options,
             .n_args_min = 2,
             .n_args_max = 2 },
    .run = make,
};

const fs_command fs_command_data_check = {
    .set = { .name = "data check",
             .usage = "TASK FILE [OUT]",
             .summary = "Check what a model answered.",
             .text = "Of every record of FILE its output, what the model said after the prompt, is judged (a record without one: its trace and answer): right, "
                     "well-formed, or wrong. TASK maths compares the output's answer with the record's by mathematical value; wrong is then an output in "
                     "which no answer was found. OUT gets the records that are right.",
             .options = check_options,
             .n_args_min = 2,
             .n_args_max = 3 },
    .run = check,
};
