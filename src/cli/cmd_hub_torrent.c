/* farseek hub torrent: a revision's torrent as a file, made beside the running server or before anybody asks it. */
#include "cli/cli.h"

#include "base/file.h"
#include "hub/hub.h"

#include <stdlib.h>
#include <string.h>

static const char *data, *to, *url, *type = "models";

static const fs_option options[] = {
    FS_OPT_STR("data", 'd', data, "FOLDER", "where the hub keeps everything"),
    FS_OPT_STR("url", 'u', url, "URL", "how clients reach the hub: its files are the web seed"),
    FS_OPT_STR("to", 0, to, "FILE", "the torrent"),
    FS_OPT_STR("type", 0, type, "models|datasets|spaces", "what it is (default models)"),
    FS_OPT_END
};

static fs_status run(const fs_args *args, fs_error *err)
{
    char *id = NULL, *at;
    fs_hub_torrent_result r;
    fs_hub *hub = NULL;
    fs_buf text = { 0 };
    fs_status rc;

    if (!data || !to || !url)
        return fs_fail(err, FS_ERR_ARGUMENT, "--data says where the hub is, --url how it is reached, --to where the torrent goes");
    if ((strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) || fs_ends_with(url, "/"))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.250s' is no address of a hub: http:// or https:// and a name, without a '/' at its end", url);
    id = strdup(args->items[0]);
    if (!id)
        return fs_fail_memory(err, strlen(args->items[0]));
    at = strchr(id, '@');
    if (at)
        *at++ = 0;
    rc = fs_hub_open(data, &(fs_hub_options){ .url = url }, &hub, err);
    if (!rc)
        rc = fs_hub_torrent_make(hub, type, id, at ? at : "main", NULL, &text, &r, err);
    if (!rc)
        rc = fs_file_write_atomic(to, fs_buf_bytes(&text), err);
    if (!rc)
        printf("commit %s\nv1 %s\nv2 %s\n%zu files, %llu bytes, pieces of %u KiB\n", r.commit, r.v1, r.v2, r.n_files, (unsigned long long)r.n_bytes, r.piece_bytes >> 10);
    fs_buf_done(&text);
    fs_hub_close(hub);
    free(id);
    return rc;
}

const fs_command fs_command_hub_torrent = {
    .set = { .name = "hub torrent",
             .usage = "ORG/NAME[@REVISION] --url URL --to FILE",
             .summary = "Write a revision's torrent, v1 and v2, with the hub as its web seed.",
             .text = "Large files are hashed here, once; what is kept answers URL/ORG/NAME/torrent/REVISION of the server, too. Prints the commit and the info hashes, which are the same "
                     "at every hub that has the commit and shows it to everybody.",
             .options = options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = run,
};
