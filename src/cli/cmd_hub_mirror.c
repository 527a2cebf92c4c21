/* farseek hub mirror: copies of other hubs' repositories. The work is in hub/mirror.c. */
#include "cli/cli.h"
#include "cli/hub_cli.h"
#include "cli/interrupt.h"
#include "cli/work.h"

#include "hub/hub.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    const char *data, *type, *key;
    int every_seconds;
    bool force, private_repo, any_address, follow, once, all, forget;
} copy = { .type = "model" };

static const fs_option mirror_options[] = {
    FS_OPT_STR("data", 'd', copy.data, "FOLDER", "where the hub keeps everything"),
    FS_OPT_STR("repo-type", 0, copy.type, "model|dataset|space", "what ORG/NAME is (default model)"),
    FS_OPT_INT("every", 'e', copy.every_seconds, 0, 31536000, "SECONDS", "again and again, until it is stopped"),
    FS_OPT_FLAG("follow", 'f', copy.follow, "follow URL's signed feed of refs: what moves there comes within seconds"),
    FS_OPT_FLAG("once", 0, copy.once, "--follow: what is new now, and no waiting for more"),
    FS_OPT_FLAG("all", 'a', copy.all, "--follow: everything that URL publishes"),
    FS_OPT_STR("key", 'k', copy.key, "HEX", "--follow: URL's key (default: the one that it shows first)"),
    FS_OPT_FLAG("forget", 0, copy.forget, "--follow: forget the key and the feed that were known, and begin anew"),
    FS_OPT_FLAG("force", 0, copy.force, "follow branches that upstream took back"),
    FS_OPT_FLAG("any-address", 0, copy.any_address, "URL may send to addresses of this machine and its neighbours, too"),
    FS_OPT_FLAG("private", 0, copy.private_repo, "copies that are made now are private"),
    FS_OPT_END
};

typedef struct known {
    char *url, *type, *id;
} known;

typedef struct known_list {
    known *items;
    size_t n, capacity;
    const char *url; /* only these; NULL: all */
    bool failed;
} known_list;

static void keep_known(void *ud, const char *url, const char *type, const char *id, int64_t done_ms, const char *failure)
{
    known_list *l = ud;

    (void)done_ms, (void)failure;
    if (l->url && strcmp(l->url, url) != 0)
        return;
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 16;
        known *items = realloc(l->items, capacity * sizeof *items);
        if (!items) {
            l->failed = true;
            return;
        }
        l->items = items;
        l->capacity = capacity;
    }
    l->items[l->n] = (known){ strdup(url), strdup(type), strdup(id) };
    l->failed |= !l->items[l->n].url || !l->items[l->n].type || !l->items[l->n].id;
    l->n++;
}

static void known_done(known_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i].url);
        free(l->items[i].type);
        free(l->items[i].id);
    }
    free(l->items);
}

static void print_mirror(void *ud, const char *url, const char *type, const char *id, int64_t done_ms, const char *failure)
{
    time_t seconds = (time_t)(done_ms / 1000);
    char date[32] = "never whole yet";
    struct tm t;

    (void)ud;
    if (done_ms)
        strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", gmtime_r(&seconds, &t));
    printf("%s\t%s\t%s\t%s%s%s\n", type, id, url, date, *failure ? "\t" : "", failure);
}

/* One after the other; a failure does not keep the others from being tried, and is the one that is told. */
static fs_status copy_all(fs_hub *hub, const known_list *l, fs_error *err)
{
    const char *token = getenv("HF_TOKEN");
    fs_status rc = FS_OK;

    for (size_t i = 0; i < l->n && rc != FS_ERR_INTERRUPTED; i++) {
        fs_hub_mirror_options o = { .url = l->items[i].url, .type = l->items[i].type, .id = l->items[i].id, .token = token, .private_repo = copy.private_repo, .force = copy.force, .any_address = copy.any_address };
        fs_hub_mirror_result r;
        fs_error here = { 0 };
        fs_work work;
        fs_status one;
        fs_work_start(&work, "copying", "MiB", 1048576);
        o.progress = work.progress;
        one = fs_hub_mirror(hub, &o, &r, &here);
        fs_work_end(&work);
        if (one) {
            if (!rc && err)
                *err = here;
            if (l->n > 1)
                fprintf(stderr, "farseek: %s: %s\n", o.id, here.message);
            rc = rc ? rc : one;
            rc = one == FS_ERR_INTERRUPTED ? one : rc;
        } else {
            printf("%s\t%zu refs, %zu files, %llu bytes\n", o.id, r.n_refs, r.n_objects, (unsigned long long)r.n_bytes);
            fflush(stdout);
        }
    }
    return rc;
}

static fs_status copy_known(fs_hub *hub, const fs_args *args, const char *url, const char *type, fs_error *err)
{
    known_list l = { .url = url };
    fs_status rc = FS_OK;

    for (int i = 1; i < args->n; i++)
        keep_known(&l, url, type, args->items[i], 0, "");
    if (args->n == 1)
        rc = fs_hub_mirror_list(hub, keep_known, &l, err);
    if (!rc && l.failed)
        rc = fs_fail_memory(err, 1);
    if (!rc && l.n == 0)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "nothing is copied from %s yet: name what is to be", url);
    if (!rc)
        rc = copy_all(hub, &l, err);
    known_done(&l);
    return rc;
}

/* ---- following a feed ---- */

#define WAIT_SECONDS  20
#define COMPARE_EVERY 3 /* rounds without anything new */
#define PAUSE_MAX     60

static void print_copy(void *ud, const char *id, const fs_hub_mirror_result *r, const char *failure)
{
    (void)ud;
    if (failure)
        fprintf(stderr, "farseek: %s: %s\n", id, failure);
    else
        printf("%s\t%zu refs, %zu files, %llu bytes\n", id, r->n_refs, r->n_objects, (unsigned long long)r->n_bytes);
    fflush(stdout);
}

static fs_status follow(fs_hub *hub, const fs_args *args, const char *url, const char *type, fs_error *err)
{
    fs_hub_follow_options o = { .url = url, .key = copy.key, .type = type, .names = (const char *const *)args->items + 1, .n_names = (size_t)args->n - 1, .all = copy.all,
                                .token = getenv("HF_TOKEN"), .private_repo = copy.private_repo, .force = copy.force, .any_address = copy.any_address, .first = true, .on_copy = print_copy };
    fs_hub_follow_result r;
    int pause = 1, quiet = 0;
    fs_status rc = copy.forget ? fs_hub_forget(hub, url, err) : FS_OK;

    while (!rc) {
        fs_work work;
        fs_work_start(&work, "copying", "MiB", 1048576);
        o.progress = work.progress;
        rc = fs_hub_follow(hub, &o, &r, err);
        fs_work_end(&work);
        if (!rc && o.first)
            printf("%s: key %s, %llu entries\n", url, r.key, (unsigned long long)r.seq);
        fflush(stdout);
        if (!rc && copy.once)
            return r.n_failed ? fs_fail(err, FS_ERR_IO, "%zu repositories could not be copied", r.n_failed) : FS_OK;
        if (rc == FS_ERR_IO && !copy.once) { /* upstream is away: that is no reason to give up */
            fprintf(stderr, "farseek: %s\n", err->message);
            for (int i = 0; i < pause * 10 && !fs_interrupted(); i++)
                usleep(100000);
            pause = 2 * pause < PAUSE_MAX ? 2 * pause : PAUSE_MAX;
            rc = fs_interrupted() ? fs_fail(err, FS_ERR_INTERRUPTED, "interrupted") : FS_OK;
        } else if (!rc) {
            o.first = false;
            o.wait_seconds = WAIT_SECONDS;
            quiet = r.n_entries ? 0 : quiet + 1;
            o.compare = quiet % COMPARE_EVERY == COMPARE_EVERY - 1;
            pause = 1;
        }
    }
    return rc;
}

static fs_status mirror(const fs_args *args, fs_error *err)
{
    fs_hub *hub = NULL;
    char url[300], type[16];
    size_t n;
    fs_status rc;

    if (!copy.data)
        return fs_fail(err, FS_ERR_ARGUMENT, "--data says where the hub is");
    rc = hub_cli_open(copy.data, NULL, &hub, err);
    if (!rc && !copy.follow && (copy.once || copy.all || copy.key || copy.forget))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "--once, --all, --key and --forget are for --follow");
    if (!rc && copy.follow && (args->n == 0 || (copy.all && args->n > 1)))
        rc = fs_fail(err, FS_ERR_ARGUMENT, args->n ? "--all or names, not both" : "--follow whom?");
    if (!rc && args->n == 0) {
        rc = fs_hub_mirror_list(hub, print_mirror, NULL, err);
    } else if (!rc) {
        n = (size_t)snprintf(url, sizeof url, "%s", args->items[0]);
        while (n < sizeof url && n && url[n - 1] == '/')
            url[--n] = 0;
        snprintf(type, sizeof type, "%.10ss", copy.type);
        if (n >= sizeof url || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0))
            rc = fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is no address of a hub: it begins with neither http:// nor https://", args->items[0]);
        if (!rc && copy.follow)
            rc = follow(hub, args, url, type, err);
        while (!rc && !copy.follow) {
            rc = copy_known(hub, args, url, type, err);
            if (copy.every_seconds && rc && rc != FS_ERR_INTERRUPTED) {
                fprintf(stderr, "farseek: %s\n", err->message);
                rc = FS_OK;
            }
            if (!copy.every_seconds || rc)
                break;
            for (int i = 0; i < copy.every_seconds * 10 && !fs_interrupted(); i++)
                usleep(100000);
            if (fs_interrupted())
                rc = fs_fail(err, FS_ERR_INTERRUPTED, "interrupted");
        }
    }
    fs_hub_close(hub);
    return rc;
}

const fs_command fs_command_hub_mirror = {
    .set = { .name = "hub mirror",
             .usage = "[URL [ORG/NAME...]]",
             .summary = "Copy repositories of another hub, and keep the copies up to date.",
             .text = "Commits keep their ids; large files are held to their SHA-256; a copy is seen when it is whole, and stays whole. Without names, everything that was copied from URL "
                     "before is brought up to date; without URL, the copies and their state are listed. $HF_TOKEN is for what is private there. What was cut short goes on. --follow takes "
                     "nothing that the upstream's signed feed does not say, and stops when the feed is rolled back, forked or signed by another.",
             .options = mirror_options,
             .n_args_min = 0,
             .n_args_max = 200 },
    .run = mirror,
};
