/* farseek pull: a model from a hub into the Hub cache. */
#include "cli/cli.h"
#include "cli/pull_cli.h"

#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    const char *type, *mirrors, *include, *exclude;
    int n_connections;
    bool json;
} opt = { .type = "model" };

static const fs_option options[] = {
    FS_OPT_STR("repo-type", 0, opt.type, "model|dataset|space", "what is fetched (default model)"),
    FS_OPT_STR("include", 0, opt.include, "GLOB,...", "only files whose path fits one of them"),
    FS_OPT_STR("exclude", 0, opt.exclude, "GLOB,...", "no file whose path fits one of them"),
    FS_OPT_STR("mirror", 0, opt.mirrors, "URL,...", "hubs beside $HF_ENDPOINT that hold the same: each part comes from whichever is fastest"),
    FS_OPT_INT("connections", 0, opt.n_connections, 0, 64, "N", "at a time (default 8)"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

static fs_status put_json(const fs_pull_result *r, fs_error *err)
{
    fs_buf out = { 0 };
    fs_status rc = fs_buf_append_str(&out, "{\"path\":", err);

    if (!rc)
        rc = fs_json_quote(&out, fs_bytes_str(r->path), err);
    if (!rc)
        rc = fs_buf_printf(&out, err, ",\"commit\":\"%s\",\"n_files\":%zu,\"n_fetched\":%zu,\"n_bytes\":%" PRIu64 ",\"n_bytes_fetched\":%" PRIu64 "}", r->commit,
                           r->n_files, r->n_fetched, r->n_bytes, r->n_bytes_fetched);
    if (!rc)
        puts(out.data);
    fs_buf_done(&out);
    return rc;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    char type[16];
    fs_pull_plan plan;
    fs_pull_result r = { 0 };
    fs_status rc;

    if (strcmp(opt.type, "model") != 0 && strcmp(opt.type, "dataset") != 0 && strcmp(opt.type, "space") != 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "--repo-type '%.50s' is not model, dataset or space", opt.type);
    if (!fs_model_is_hub_id(args->items[0]))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is no Hub id (org/name[@revision])", args->items[0]);
    snprintf(type, sizeof type, "%.10ss", opt.type);
    rc = fs_pull_plan_init(&plan, args->items[0], type, opt.mirrors, opt.include, opt.exclude, err);
    if (rc)
        return rc;
    plan.options.n_connections = opt.n_connections;
    rc = fs_pull_model(&plan, &r, err);
    fs_pull_plan_done(&plan);
    if (rc)
        return rc;
    if (opt.json)
        rc = put_json(&r, err);
    else
        puts(r.path);
    free(r.path);
    return rc;
}

const fs_command fs_command_pull = {
    .set = { .name = "pull",
             .usage = "ORG/NAME[@REVISION]",
             .summary = "Fetch a model from a hub.",
             .text = "The hub is $HF_ENDPOINT (default https://huggingface.co), any that speaks the Hub's API; a token for what is private or gated is $HF_TOKEN or "
                     "what 'hf auth login' left. Files land in the Hub cache, which all clients share; the folder is printed. Every file is checked against its "
                     "hash, wherever it came from. What was cut short goes on where it stopped.",
             .options = options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = run,
};
