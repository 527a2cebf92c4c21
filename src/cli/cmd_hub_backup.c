/* farseek hub backup, export, import, fork: a whole copy of a hub beside a running server; repositories as one file; one under another name. */
#include "cli/cli.h"
#include "cli/hub_cli.h"

static const char *data, *to;

static const fs_option options[] = {
    FS_OPT_STR("data", 'd', data, "FOLDER", "where the hub keeps everything"),
    FS_OPT_STR("to", 0, to, "FOLDER", "the copy, a new folder"),
    FS_OPT_END
};

static fs_status run(const fs_args *args, fs_error *err)
{
    fs_hub_backup_result r;
    fs_hub *hub = NULL;
    fs_status rc;

    (void)args;
    if (!data || !to)
        return fs_fail(err, FS_ERR_ARGUMENT, "--data says where the hub is, --to where its copy goes");
    rc = hub_cli_open(data, NULL, &hub, err);
    if (!rc)
        rc = fs_hub_backup(hub, to, &r, err);
    if (!rc)
        printf("%llu repositories, %llu files linked, %llu copied, %.1f MiB\n", (unsigned long long)r.n_repos, (unsigned long long)r.n_linked, (unsigned long long)r.n_copied,
               (double)r.n_bytes / 1048576);
    fs_hub_close(hub);
    return rc;
}

const fs_command fs_command_hub_backup = {
    .set = { .name = "hub backup",
             .usage = "--data FOLDER --to FOLDER",
             .summary = "Copy a whole hub, beside its running server.",
             .text = "What never changes is linked where both folders are on one file system, else copied. The copy is a hub's folder: `hub fsck` checks it, "
                     "`hub serve` serves it, which is how it is restored. Uploads under way are not in it. Of a hub whose large files are in an S3 store the copy has them as files.",
             .options = options },
    .run = run,
};

/* ---- bundles ---- */

static const char *file;
static const char *type = "models";

static const fs_option export_options[] = {
    FS_OPT_STR("data", 'd', data, "FOLDER", "where the hub keeps everything"),
    FS_OPT_STR("to", 0, file, "FILE", "the bundle"),
    FS_OPT_STR("type", 0, type, "models|datasets|spaces", "what they are (default models)"),
    FS_OPT_END
};

static const fs_option import_options[] = {
    FS_OPT_STR("data", 'd', data, "FOLDER", "where the hub keeps everything"),
    FS_OPT_END
};

static fs_status end(fs_hub *hub, fs_status rc, const fs_hub_bundle_result *r)
{
    if (!rc)
        printf("%llu repositories, %llu large files, %.1f MiB\n", (unsigned long long)r->n_repos, (unsigned long long)r->n_objects, (double)r->n_bytes / 1048576);
    fs_hub_close(hub);
    return rc;
}

static fs_status run_export(const fs_args *args, fs_error *err)
{
    fs_hub_bundle_result r = { 0 };
    fs_hub *hub = NULL;
    fs_status rc;

    if (!data || !file)
        return fs_fail(err, FS_ERR_ARGUMENT, "--data says where the hub is, --to where the bundle goes");
    rc = hub_cli_open(data, NULL, &hub, err);
    if (!rc)
        rc = fs_hub_export(hub, type, (const char *const *)args->items, args->n, file, &r, err);
    return end(hub, rc, &r);
}

static fs_status run_import(const fs_args *args, fs_error *err)
{
    fs_hub_bundle_result r = { 0 };
    fs_hub *hub = NULL;
    fs_status rc;

    if (!data)
        return fs_fail(err, FS_ERR_ARGUMENT, "--data says where the hub is");
    rc = hub_cli_open(data, NULL, &hub, err);
    if (!rc)
        rc = fs_hub_import(hub, args->items[0], &r, err);
    return end(hub, rc, &r);
}

const fs_command fs_command_hub_export = {
    .set = { .name = "hub export",
             .usage = "ORG/NAME... --to FILE",
             .summary = "Put repositories of a hub into one file.",
             .text = "Branches, tags and large files, with their hashes, for `hub import` on a hub that no net reaches. Discussions stay behind.",
             .options = export_options,
             .n_args_min = 1,
             .n_args_max = 1000 },
    .run = run_export,
};

const fs_command fs_command_hub_import = {
    .set = { .name = "hub import",
             .usage = "FILE",
             .summary = "Take repositories from the file of hub export.",
             .text = "Every hash is verified; a repository is seen when all of it is here. One that is here goes on and is never rewritten. A run that was cut short is done again.",
             .options = import_options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = run_import,
};

/* ---- forks ---- */

static bool private_fork;

static const fs_option fork_options[] = {
    FS_OPT_STR("data", 'd', data, "FOLDER", "where the hub keeps everything"),
    FS_OPT_STR("type", 0, type, "models|datasets|spaces", "what it is (default models)"),
    FS_OPT_FLAG("private", 0, private_fork, "for its owner's eyes; a private repository's fork is so anyway"),
    FS_OPT_END
};

static fs_status run_fork(const fs_args *args, fs_error *err)
{
    fs_hub *hub = NULL;
    fs_status rc;

    if (!data)
        return fs_fail(err, FS_ERR_ARGUMENT, "--data says where the hub is");
    rc = fs_hub_open(data, NULL, &hub, err);
    if (!rc)
        rc = fs_hub_fork(hub, type, args->items[0], args->items[1], private_fork, err);
    fs_hub_close(hub);
    return rc;
}

const fs_command fs_command_hub_fork = {
    .set = { .name = "hub fork",
             .usage = "ORG/NAME ORG/NAME",
             .summary = "Make a repository of another one, under a name of its own.",
             .text = "Branches, tags and large files, and no byte of them copied; of a copy from another hub, too, which nobody else writes to. Where it comes from is kept and shown. "
                     "Beside a running server.",
             .options = fork_options,
             .n_args_min = 2,
             .n_args_max = 2 },
    .run = run_fork,
};
