/* farseek hub backup: a whole copy of a hub, beside a running server. */
#include "cli/cli.h"

#include "hub/hub.h"

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
    rc = fs_hub_open(data, NULL, &hub, err);
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
                     "`hub serve` serves it, which is how it is restored. Uploads under way are not in it.",
             .options = options },
    .run = run,
};
