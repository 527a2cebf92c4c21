/* farseek hub: a hub of one's own, served and looked after. The work is in hub/. */
#include "cli/cli.h"
#include "cli/hub_cli.h"

#include "base/file.h"
#include "hub/hub.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DRAIN_SECONDS 20

static struct {
    const char *data, *host, *url, *role, *name, *refuse, *tls_cert, *tls_key, *upstream, *only, *blobs, *s3_endpoint, *s3_region;
    int port, n_threads;
    uint64_t multipart_bytes, upstream_quota, s3_cache;
    bool s3_redirect, admin, quiet, webhooks_private, peers_private;
} opt = { .host = "127.0.0.1", .port = 8080, .role = "write", .name = "token", .refuse = "none" };

#define DATA FS_OPT_STR("data", 'd', opt.data, "FOLDER", "where the hub keeps everything")

static const fs_option serve_options[] = {
    DATA,
    FS_OPT_INT("port", 'p', opt.port, 0, 65535, "N", "port to listen at; 0: a free one (default 8080)"),
    FS_OPT_STR("host", 'H', opt.host, "ADDRESS", "address to listen at (default 127.0.0.1: this machine only)"),
    FS_OPT_STR("url", 'u', opt.url, "URL", "how clients reach it, behind a proxy (default: what their requests say)"),
    FS_OPT_STR("tls-cert", 0, opt.tls_cert, "FILE", "certificates in PEM, the server's first: speak HTTPS"),
    FS_OPT_STR("tls-key", 0, opt.tls_key, "FILE", "the key of --tls-cert in PEM"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, 256, "N", "threads that move bytes (default: one a usable CPU)"),
    FS_OPT_SIZE("multipart", 0, opt.multipart_bytes, "SIZE", "larger files are uploaded in parts of this size (default 2 GiB)"),
    FS_OPT_STR("refuse", 0, opt.refuse, "none|unsafe|suspicious|pickles", "files that are not taken: pickles that import what is dangerous, or what nobody judged, or all (default none)"),
    FS_OPT_FLAG("webhooks-private", 0, opt.webhooks_private, "webhooks may go to private addresses, of this network and this machine"),
    FS_OPT_FLAG("peers-private", 0, opt.peers_private, "a search of the peers goes to private addresses, too"),
    FS_OPT_STR("upstream", 0, opt.upstream, "URL", "a hub that is asked for public repositories that are not here"),
    FS_OPT_SIZE("upstream-quota", 0, opt.upstream_quota, "SIZE", "large files kept from there; those read longest ago go first (default 50 GiB)"),
    FS_OPT_STR("blobs", 0, opt.blobs, "s3://BUCKET/PREFIX", "large files go to an S3 store, from the first start on (default: files in --data)"),
    FS_OPT_STR("s3-endpoint", 0, opt.s3_endpoint, "URL", "with --blobs: where it is (default AWS's of the region)"),
    FS_OPT_STR("s3-region", 0, opt.s3_region, "NAME", "with --blobs: its region (default us-east-1)"),
    FS_OPT_SIZE("s3-cache", 0, opt.s3_cache, "SIZE", "with --blobs: what is kept of it in --data, too (default 10 GiB)"),
    FS_OPT_FLAG("s3-redirect", 0, opt.s3_redirect, "with --blobs: downloads are sent there by links that hold for an hour"),
    FS_OPT_FLAG("quiet", 'q', opt.quiet, "no line a request"),
    FS_OPT_END
};

static const fs_option user_options[] = {
    DATA,
    FS_OPT_FLAG("admin", 0, opt.admin, "add, set: may do everything"),
    FS_OPT_END
};

static const fs_option token_options[] = {
    DATA,
    FS_OPT_STR("name", 'n', opt.name, "NAME", "the token's name (default token)"),
    FS_OPT_STR("role", 0, opt.role, "read|write", "add: what it may do (default write)"),
    FS_OPT_STR("only", 0, opt.only, "ORG,ORG/NAME,...", "add: for these alone; before a name datasets/ or spaces/ (default: all that is the user's)"),
    FS_OPT_END
};

static const fs_option org_options[] = {
    DATA,
    FS_OPT_STR("role", 0, opt.role, "read|write|admin", "member: what they may do (default write)"),
    FS_OPT_END
};

static const fs_option data_options[] = {
    DATA,
    FS_OPT_END
};

static fs_status open_hub(const fs_hub_options *options, fs_hub **ret, fs_error *err)
{
    return hub_cli_open(opt.data, options, ret, err);
}

/* ---- serve ---- */

static void log_request(void *ud, const char *method, const char *uri, int status, double seconds)
{
    const char *question = strchr(uri, '?'); /* a query may hold a signature */
    char line[400];
    size_t n = question ? (size_t)(question - uri) : strlen(uri);

    (void)ud;
    snprintf(line, sizeof line, "hub: %s %.*s status=%d ms=%.1f\n", method, (int)(n < 300 ? n : 300), uri, status, seconds * 1e3);
    for (char *p = line; p[0] && p[1]; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    fputs(line, stderr);
}

static fs_status first_user(fs_hub *hub, fs_error *err)
{
    char token[FS_HUB_TOKEN_BYTES];
    bool any = false;
    fs_status rc = fs_hub_has_users(hub, &any, err);

    if (!rc && !any) {
        rc = fs_hub_user_add(hub, "admin", true, token, err);
        if (!rc)
            printf("user admin, token %s (it is not shown again)\n", token);
    }
    return rc;
}

#define PEM_BYTES_MAX ((size_t)1 << 20)

static fs_status read_tls(fs_buf *cert, fs_buf *key, fs_http_options *ret, fs_error *err)
{
    fs_status rc;

    if (!opt.tls_cert && !opt.tls_key)
        return FS_OK;
    if (!opt.tls_cert || !opt.tls_key)
        return fs_fail(err, FS_ERR_ARGUMENT, "--tls-cert and --tls-key go together");
    rc = fs_file_read(opt.tls_cert, PEM_BYTES_MAX, cert, err);
    if (!rc)
        rc = fs_file_read(opt.tls_key, PEM_BYTES_MAX, key, err);
    if (!rc && (cert->n_bytes == 0 || key->n_bytes == 0))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' is empty", cert->n_bytes ? opt.tls_key : opt.tls_cert);
    ret->tls_cert = cert->data;
    ret->tls_key = key->data;
    return rc;
}

static fs_status serve(const fs_args *args, fs_error *err)
{
    char program[PATH_MAX] = "";
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    fs_hub_options hub_options = { .url = opt.url, .program = n > 0 ? program : NULL, .multipart_bytes = opt.multipart_bytes, .upstream = opt.upstream, .upstream_quota = opt.upstream_quota,
                                   .blobs = opt.blobs, .s3_endpoint = opt.s3_endpoint, .s3_region = opt.s3_region, .s3_redirect = opt.s3_redirect, .s3_cache_bytes = opt.s3_cache,
                                   .peers_private = opt.peers_private };
    fs_http_options options = { .address = opt.host, .port = opt.port, .n_threads = opt.n_threads, .log = opt.quiet ? NULL : log_request };
    const fs_http_route *routes;
    fs_http_server *server = NULL;
    fs_hub *hub = NULL;
    fs_hub_sender *sender = NULL;
    fs_buf cert = { 0 }, key = { 0 };
    size_t n_routes;
    sigset_t stops;
    int signal_number;
    fs_status rc;

    (void)args;
    sigemptyset(&stops);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &stops, NULL); /* threads inherit it; sigwait below takes them */
    signal(SIGPIPE, SIG_IGN);
    mallopt(M_ARENA_MAX, 4); /* a heap for every worker would keep what each once had at its most */
    fs_hub_refuse_read(opt.refuse, &hub_options.refuse);
    if (opt.upstream && ((strncmp(opt.upstream, "http://", 7) != 0 && strncmp(opt.upstream, "https://", 8) != 0) || fs_ends_with(opt.upstream, "/") || strlen(opt.upstream) > 250))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.250s' is no address of a hub: http:// or https:// and a name, without a '/' at its end", opt.upstream);
    if (!opt.blobs && (opt.s3_endpoint || opt.s3_region || opt.s3_redirect || opt.s3_cache))
        return fs_fail(err, FS_ERR_ARGUMENT, "--s3-endpoint, --s3-region, --s3-cache and --s3-redirect go with --blobs");
    rc = read_tls(&cert, &key, &options, err);
    if (!rc)
        rc = open_hub(&hub_options, &hub, err);
    if (!rc)
        rc = fs_hub_blobs_reach(hub, err);
    if (!rc)
        rc = first_user(hub, err);
    if (!rc)
        rc = fs_http_server_new(&options, &server, err);
    routes = fs_hub_routes(&n_routes);
    if (!rc)
        rc = fs_http_server_mount(server, routes, n_routes, hub, fs_hub_admit, err);
    if (!rc)
        rc = fs_hub_sender_start(hub, opt.webhooks_private, &sender, err);
    if (!rc)
        rc = fs_http_server_start(server, err);
    if (!rc) {
        char feed_key[65];
        fs_hub_key(hub, feed_key);
        printf("key %s\n", feed_key);
        printf("hub at %s\n", opt.url ? opt.url : fs_http_server_url(server));
        fflush(stdout);
        sigwait(&stops, &signal_number);
    }
    if (hub)
        fs_hub_stopping(hub);
    fs_http_server_stop(server, DRAIN_SECONDS);
    fs_hub_sender_stop(sender);
    fs_hub_close(hub);
    if (key.data)
        explicit_bzero(key.data, key.n_bytes);
    fs_buf_done(&key);
    fs_buf_done(&cert);
    return rc;
}

const fs_command fs_command_hub_serve = {
    .set = { .name = "hub serve",
             .usage = "--data FOLDER",
             .summary = "Serve a hub that the Hugging Face clients use as it is.",
             .text = "The first start makes everything in the folder and prints the token of the user admin, once. Point clients at it with "
                     "HF_ENDPOINT=URL and HF_TOKEN=TOKEN. SIGTERM lets requests under way come to their end. The keys of an S3 store are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY "
                     "and AWS_SESSION_TOKEN in the environment, for every command that reads or writes large files; which store it is, the folder knows.",
             .options = serve_options },
    .run = serve,
};

static fs_status key(const fs_args *args, fs_error *err)
{
    char text[65];
    fs_hub *hub = NULL;
    fs_status rc = open_hub(NULL, &hub, err);

    (void)args;
    if (!rc) {
        fs_hub_key(hub, text);
        printf("%s\n", text);
    }
    fs_hub_close(hub);
    return rc;
}

const fs_command fs_command_hub_key = {
    .set = { .name = "hub key",
             .usage = "--data FOLDER",
             .summary = "The public key that a hub signs its feed of refs with.",
             .text = "Ed25519, in hex. Who follows the feed pins it: hub mirror URL --follow --key KEY.",
             .options = data_options },
    .run = key,
};

/* ---- accounts ---- */

static void print_account(void *ud, const char *name, const char *kind, int64_t quota)
{
    (void)ud;
    if (quota >= 0)
        printf("%s\t%s\tquota %lld\n", name, kind, (long long)quota);
    else
        printf("%s\t%s\n", name, kind);
}

static void print_token(void *ud, const char *name, const char *role, int64_t created_ms)
{
    time_t seconds = (time_t)(created_ms / 1000);
    char date[32];
    struct tm t;

    (void)ud;
    strftime(date, sizeof date, "%Y-%m-%d", gmtime_r(&seconds, &t));
    printf("%s\t%s\t%s\n", name, role, date);
}

static fs_status want(const fs_args *args, int n, const char *what, fs_error *err)
{
    return args->n == n ? FS_OK : fs_fail(err, FS_ERR_ARGUMENT, "wanted: %s", what);
}

static fs_status user(const fs_args *args, fs_error *err)
{
    static const char usage[] = "add NAME, remove NAME, set NAME, or list";
    char token[FS_HUB_TOKEN_BYTES];
    fs_hub *hub = NULL;
    const char *verb = args->items[0];
    fs_status rc = want(args, strcmp(verb, "list") == 0 ? 1 : 2, usage, err);

    if (!rc)
        rc = open_hub(NULL, &hub, err);
    if (rc) {
        fs_hub_close(hub);
        return rc;
    }
    if (strcmp(verb, "add") == 0) {
        rc = fs_hub_user_add(hub, args->items[1], opt.admin, token, err);
        if (!rc)
            printf("%s\n", token);
    } else if (strcmp(verb, "remove") == 0) {
        rc = fs_hub_account_remove(hub, args->items[1], err);
    } else if (strcmp(verb, "set") == 0) {
        rc = fs_hub_user_set_admin(hub, args->items[1], opt.admin, err);
    } else if (strcmp(verb, "list") == 0) {
        rc = fs_hub_user_list(hub, print_account, NULL, err);
    } else {
        rc = fs_fail(err, FS_ERR_ARGUMENT, "wanted: %s", usage);
    }
    fs_hub_close(hub);
    return rc;
}

const fs_command fs_command_hub_user = {
    .set = { .name = "hub user",
             .usage = "add NAME | remove NAME | set NAME | list",
             .summary = "Users of a hub.",
             .text = "add prints the new user's token, beside a running server too. set makes an administrator with --admin, and takes that away without. remove takes away "
                     "a user or an organisation that owns no repository and took no part in discussions.",
             .options = user_options,
             .n_args_min = 1,
             .n_args_max = 2 },
    .run = user,
};

static fs_status token(const fs_args *args, fs_error *err)
{
    char text[FS_HUB_TOKEN_BYTES];
    fs_hub *hub = NULL;
    const char *verb = args->items[0];
    fs_status rc = want(args, 2, "add USER, revoke USER, or list USER", err);

    if (!rc)
        rc = open_hub(NULL, &hub, err);
    if (rc) {
        fs_hub_close(hub);
        return rc;
    }
    if (strcmp(verb, "add") == 0) {
        rc = fs_hub_token_add(hub, args->items[1], opt.name, opt.role, opt.only, text, err);
        if (!rc)
            printf("%s\n", text);
    } else if (strcmp(verb, "revoke") == 0) {
        rc = fs_hub_token_remove(hub, args->items[1], opt.name, err);
    } else if (strcmp(verb, "list") == 0) {
        rc = fs_hub_token_list(hub, args->items[1], print_token, NULL, err);
    } else {
        rc = fs_fail(err, FS_ERR_ARGUMENT, "wanted: add USER, revoke USER, or list USER");
    }
    fs_hub_close(hub);
    return rc;
}

const fs_command fs_command_hub_token = {
    .set = { .name = "hub token",
             .usage = "add USER | revoke USER | list USER",
             .summary = "Tokens of a hub's users.",
             .text = "add prints the new token; the hub keeps only its hash. revoke takes away every token of that --name, at once. A token with --only reads and writes what is named, as far as "
                     "its user may, administers nothing, and elsewhere sees what everybody does.",
             .options = token_options,
             .n_args_min = 1,
             .n_args_max = 2 },
    .run = token,
};

static fs_status org(const fs_args *args, fs_error *err)
{
    static const char usage[] = "add NAME OWNER, member NAME USER, remove NAME USER, or list NAME";
    fs_hub *hub = NULL;
    const char *verb = args->items[0];
    fs_status rc = want(args, strcmp(verb, "list") == 0 ? 2 : 3, usage, err);

    if (!rc)
        rc = open_hub(NULL, &hub, err);
    if (!rc && strcmp(verb, "add") == 0)
        rc = fs_hub_org_add(hub, args->items[1], args->items[2], err);
    else if (!rc && strcmp(verb, "member") == 0)
        rc = fs_hub_org_member(hub, args->items[1], args->items[2], opt.role, err);
    else if (!rc && strcmp(verb, "remove") == 0)
        rc = fs_hub_org_member(hub, args->items[1], args->items[2], NULL, err);
    else if (!rc && strcmp(verb, "list") == 0)
        rc = fs_hub_org_list(hub, args->items[1], print_account, NULL, err);
    else if (!rc)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "wanted: %s", usage);
    fs_hub_close(hub);
    return rc;
}

const fs_command fs_command_hub_org = {
    .set = { .name = "hub org",
             .usage = "add NAME OWNER | member NAME USER | remove NAME USER | list NAME",
             .summary = "Organisations of a hub and their members.",
             .options = org_options,
             .n_args_min = 1,
             .n_args_max = 3 },
    .run = org,
};

static uint64_t quota_bytes;

static const fs_option quota_options[] = {
    DATA,
    FS_OPT_SIZE("limit", 'l', quota_bytes, "SIZE", "of the account's large files together (default: no limit)"),
    FS_OPT_END
};

static fs_status quota(const fs_args *args, fs_error *err)
{
    fs_hub *hub = NULL;
    fs_status rc = open_hub(NULL, &hub, err);

    if (!rc)
        rc = fs_hub_quota_set(hub, args->items[0], quota_bytes, err);
    fs_hub_close(hub);
    return rc;
}

const fs_command fs_command_hub_quota = {
    .set = { .name = "hub quota",
             .usage = "ACCOUNT",
             .summary = "Limit what a user or an organisation may store.",
             .options = quota_options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = quota,
};

static void print_peer(void *ud, const char *url)
{
    (void)ud;
    printf("%s\n", url);
}

static fs_status peer(const fs_args *args, fs_error *err)
{
    fs_hub *hub = NULL;
    const char *verb = args->items[0];
    bool list = strcmp(verb, "list") == 0;
    fs_status rc = want(args, list ? 1 : 2, "add URL, rm URL, or list", err);

    if (!rc && !list && strcmp(verb, "add") != 0 && strcmp(verb, "rm") != 0)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "wanted: add URL, rm URL, or list");
    if (!rc)
        rc = open_hub(NULL, &hub, err);
    if (!rc)
        rc = list ? fs_hub_peer_list(hub, print_peer, NULL, err) : strcmp(verb, "add") == 0 ? fs_hub_peer_add(hub, args->items[1], err) : fs_hub_peer_remove(hub, args->items[1], err);
    fs_hub_close(hub);
    return rc;
}

const fs_command fs_command_hub_peer = {
    .set = { .name = "hub peer",
             .usage = "add URL | rm URL | list",
             .summary = "Other hubs that a hub knows.",
             .text = "hub mirror --follow compares what an upstream signed with what the peers have seen of it; a search may ask them, too (?federated=1).",
             .options = data_options,
             .n_args_min = 1,
             .n_args_max = 2 },
    .run = peer,
};

/* ---- looking after it ---- */

#define XORBS_DAYS_MIN 22 /* hf-xet remembers for 21 days which chunks it sent */

static double gc_age = 24, gc_xorbs = -1;
static bool gc_force, repair;

static const fs_option gc_options[] = {
    DATA,
    FS_OPT_FLOAT("age", 0, gc_age, 0, 1e6, "HOURS", "what was touched since stays (default 24)"),
    FS_OPT_FLOAT("xorbs", 0, gc_xorbs, 0, 1e6, "DAYS", "files that came by Xet so long ago, 22 days or more, are kept whole only (default: in xorbs, too)"),
    FS_OPT_FLAG("force", 0, gc_force, "--xorbs of fewer days, too, though clients that sent such files may then fail to send them again"),
    FS_OPT_END
};

static fs_status gc(const fs_args *args, fs_error *err)
{
    fs_hub *hub = NULL;
    fs_hub_gc_result r;
    uint64_t n = 0;
    fs_error why = { 0 };
    fs_status rc, stayed = FS_OK;

    (void)args;
    if (gc_xorbs >= 0 && gc_xorbs < XORBS_DAYS_MIN && !gc_force)
        return fs_fail(err, FS_ERR_ARGUMENT, "--xorbs %g: clients of Xet remember for 21 days which chunks they sent, and fail when those are gone: %d days or more, or --force", gc_xorbs,
                       XORBS_DAYS_MIN);
    rc = open_hub(NULL, &hub, err);
    if (!rc && gc_xorbs >= 0) {
        stayed = fs_hub_xet_forget(hub, (int64_t)(gc_xorbs * 86400e3), &n, &why);
        printf("%llu files are kept whole only\n", (unsigned long long)n);
    }
    if (!rc)
        rc = fs_hub_gc(hub, (int64_t)(gc_age * 3600e3), &r, err);
    if (!rc && stayed)
        rc = fs_fail(err, stayed, "%s", why.message);
    else if (!rc)
        printf("%llu objects, %llu xorbs, %llu uploads, %llu folders of repositories, %.1f MiB\n", (unsigned long long)r.n_objects, (unsigned long long)r.n_xorbs, (unsigned long long)r.n_uploads,
               (unsigned long long)r.n_repos, (double)r.n_bytes / 1048576);
    fs_hub_close(hub);
    return rc;
}

const fs_command fs_command_hub_gc = {
    .set = { .name = "hub gc",
             .usage = "--data FOLDER",
             .summary = "Take away what no repository of a hub holds.",
             .text = "Objects that no repository holds, uploads that were given up, folders that no repository has. Beside a running server too.",
             .options = gc_options },
    .run = gc,
};

static const fs_option fsck_options[] = {
    DATA,
    FS_OPT_FLAG("repair", 'r', repair, "mend what can be mended"),
    FS_OPT_END
};

static void print_wrong(void *ud, const char *sentence, bool repaired)
{
    fs_buf clean = { 0 };

    (void)ud;
    if (fs_text_clean(&clean, fs_bytes_str(sentence), NULL) == FS_OK && clean.data)
        printf("%s%s\n", clean.data, repaired ? " (mended)" : "");
    fs_buf_done(&clean);
}

static fs_status fsck(const fs_args *args, fs_error *err)
{
    fs_hub *hub = NULL;
    fs_hub_check check = { .repair = repair, .on_wrong = print_wrong };
    fs_status rc = open_hub(NULL, &hub, err);

    (void)args;
    if (!rc)
        rc = fs_hub_fsck(hub, &check, err);
    if (!rc)
        printf("%llu objects, %llu xorbs, %llu repositories\n", (unsigned long long)check.n_objects, (unsigned long long)check.n_xorbs, (unsigned long long)check.n_repos);
    if (!rc && check.n_wrong > check.n_repaired)
        rc = fs_fail(err, FS_ERR_FORMAT, "%llu of %llu things that are wrong stay so", (unsigned long long)(check.n_wrong - check.n_repaired),
                     (unsigned long long)check.n_wrong);
    fs_hub_close(hub);
    return rc;
}

const fs_command fs_command_hub_fsck = {
    .set = { .name = "hub fsck",
             .usage = "--data FOLDER",
             .summary = "Check everything that a hub keeps.",
             .text = "Every large file and every xorb against its hash, the database against the files, every repository by git, every file of every branch, tag and pull request "
                     "against the store. --repair gives a repository what it lost in the database only, and moves files whose content is wrong to DATA/lost: "
                     "what is in xorbs too is sent from there, the rest can be uploaded again.",
             .options = fsck_options },
    .run = fsck,
};

/* ---- what it answers ---- */

static fs_status routes(const fs_args *args, fs_error *err)
{
    size_t n;
    const fs_http_route *list = fs_hub_routes(&n);

    (void)args;
    (void)err;
    for (size_t i = 0; i < n; i++)
        printf("%s %s\n", list[i].method, list[i].path);
    return FS_OK;
}

static const fs_option no_options[] = { FS_OPT_END };

const fs_command fs_command_hub_routes = {
    .set = { .name = "hub routes",
             .usage = "",
             .summary = "List the requests that a hub answers.",
             .text = "One line each, method and path; the first that fits answers. {} is any one segment, {*} whatever is left.",
             .options = no_options },
    .run = routes,
};

/* ---- git's hook ---- */

static void print_refused(void *ud, const char *sentence)
{
    fs_buf clean = { 0 };

    (void)ud;
    if (fs_text_clean(&clean, fs_bytes_str(sentence), NULL) == FS_OK && clean.data)
        fprintf(stderr, "%s\n", clean.data);
    fs_buf_done(&clean);
}

static fs_status receive(const fs_args *args, fs_error *err)
{
    const char *repo = getenv("FARSEEK_HUB_REPO"), *pusher = getenv("FARSEEK_HUB_USER"), *writer = getenv("FARSEEK_HUB_WRITER");
    const char *refuse = getenv("FARSEEK_HUB_REFUSE");
    fs_hub_options hub_options = { .refuse = refuse ? (fs_hub_refuse)strtol(refuse, NULL, 10) : FS_HUB_REFUSE_NONE };
    fs_hub *hub = NULL;
    fs_status rc;

    (void)args;
    if (!repo || !pusher || !writer)
        return fs_fail(err, FS_ERR_ARGUMENT, "this is for git, when something is pushed to the hub");
    rc = open_hub(&hub_options, &hub, err);
    if (!rc)
        rc = fs_hub_pre_receive(hub, strtoll(repo, NULL, 10), strtoll(pusher, NULL, 10), strcmp(writer, "1") == 0, stdin, print_refused, NULL, err);
    fs_hub_close(hub);
    return rc;
}

const fs_command fs_command_hub_receive = {
    .set = { .name = "hub receive",
             .usage = "",
             .summary = "Look at a push to a hub; for its git hook only.",
             .options = data_options },
    .run = receive,
};
