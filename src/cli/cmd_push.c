/* farseek push, ls, rm, login: repositories of a hub from the command line. */
#include "cli/cli.h"
#include "cli/pull_cli.h"
#include "cli/work.h"

#include "base/file.h"
#include "base/json.h"
#include "hub/push.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    const char *type, *include, *exclude, *remove, *message, *description, *token;
    bool create_pr, private_repo, json;
} opt = { .type = "model" };

#define TYPE FS_OPT_STR("repo-type", 0, opt.type, "model|dataset|space", "what it is (default model)")

/* Fills o from a Hub id and the environment; p holds its strings. */
static fs_status plan(const char *id, fs_pull_plan *p, char type[16], fs_push_options *o, bool needs_token, fs_error *err)
{
    fs_status rc;

    if (strcmp(opt.type, "model") != 0 && strcmp(opt.type, "dataset") != 0 && strcmp(opt.type, "space") != 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "--repo-type '%.50s' is not model, dataset or space", opt.type);
    if (!fs_model_is_hub_id(id))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is no Hub id (org/name[@revision])", id);
    snprintf(type, 16, "%.10ss", opt.type);
    rc = fs_pull_plan_init(p, id, type, NULL, opt.include, opt.exclude, err);
    if (rc)
        return rc;
    *o = (fs_push_options){ .type = type, .id = p->id, .revision = p->revision, .base = p->options.mirrors[0], .token = p->token, .include = p->include_list,
                            .exclude = p->exclude_list, .message = opt.message, .description = opt.description, .create_pr = opt.create_pr, .private_repo = opt.private_repo };
    if (needs_token && (!p->token || !*p->token)) {
        fs_pull_plan_done(p);
        return fs_fail(err, FS_ERR_ARGUMENT, "no token: set HF_TOKEN, or log in by 'farseek login'");
    }
    return FS_OK;
}

static fs_status say(const fs_push_result *r, fs_error *err)
{
    fs_buf out = { 0 };
    fs_status rc = FS_OK;

    if (opt.json) {
        rc = fs_buf_printf(&out, err, "{\"commit\":\"%s\",\"n_files\":%zu,\"n_changed\":%zu,\"n_removed\":%zu,\"n_bytes_sent\":%" PRIu64 ",\"url\":", r->commit, r->n_files, r->n_changed,
                           r->n_removed, r->n_bytes_sent);
        if (!rc)
            rc = fs_json_quote(&out, fs_bytes_str(r->url ? r->url : ""), err);
        if (!rc)
            rc = fs_buf_append_str(&out, "}\n", err);
    } else if (!*r->commit) {
        rc = fs_buf_append_str(&out, "nothing to change\n", err);
    } else {
        rc = fs_buf_printf(&out, err, "%s\n", r->url && *r->url ? r->url : r->commit);
    }
    if (!rc) {
        fs_buf clean = { 0 };
        rc = fs_text_clean(&clean, fs_buf_bytes(&out), err);
        if (!rc)
            fputs(clean.data, stdout);
        fs_buf_done(&clean);
    }
    fs_buf_done(&out);
    return rc;
}

static fs_status send(const fs_push_options *o, const char *folder, fs_error *err)
{
    fs_push_options with = *o;
    fs_push_result r = { 0 };
    fs_work work;
    fs_status rc;

    fs_work_start(&work, "sending", "MiB", 1048576);
    with.progress = work.progress;
    rc = fs_push(&with, folder, &r, err);
    fs_work_end(&work);
    if (!rc)
        rc = say(&r, err);
    free(r.url);
    return rc;
}

/* ---- push ---- */
static const fs_option push_options[] = {
    TYPE,
    FS_OPT_STR("message", 'm', opt.message, "TEXT", "of the commit"),
    FS_OPT_STR("description", 0, opt.description, "TEXT", "more of it"),
    FS_OPT_STR("include", 0, opt.include, "GLOB,...", "only files whose path fits one of them"),
    FS_OPT_STR("exclude", 0, opt.exclude, "GLOB,...", "no file whose path fits one of them"),
    FS_OPT_STR("delete", 0, opt.remove, "GLOB,...", "remove files of the repository that fit and that FOLDER has not"),
    FS_OPT_FLAG("create-pr", 0, opt.create_pr, "propose the change instead of making it"),
    FS_OPT_FLAG("private", 0, opt.private_repo, "if the repository is made, only its owner sees it"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

static fs_status run_push(const fs_args *args, fs_error *err)
{
    const char *globs[64];
    char type[16], *text = opt.remove ? strdup(opt.remove) : NULL;
    fs_pull_plan p;
    fs_push_options o;
    fs_status rc;

    if (!fs_file_is_folder(args->items[0])) {
        free(text);
        return fs_fail(err, FS_ERR_NOT_FOUND, "'%.300s' is no folder", args->items[0]);
    }
    rc = plan(args->items[1], &p, type, &o, true, err);
    if (!rc) {
        globs[fs_commas_cut(text, globs, 63)] = NULL;
        o.remove = globs;
        rc = send(&o, args->items[0], err);
        fs_pull_plan_done(&p);
    }
    free(text);
    return rc;
}

const fs_command fs_command_push = {
    .set = { .name = "push",
             .usage = "FOLDER ORG/NAME[@REVISION]",
             .summary = "Send a folder to a repository of a hub.",
             .text = "The hub is $HF_ENDPOINT (default https://huggingface.co), the token $HF_TOKEN or what a login left. The repository is made if it is not there. Files that it has "
                     "already are not sent again, so that a push that was cut short goes on; the change is one commit, or with --create-pr a pull request, whose address is printed.",
             .options = push_options,
             .n_args_min = 2,
             .n_args_max = 2 },
    .run = run_push,
};

/* ---- ls ---- */
static const fs_option ls_options[] = {
    TYPE,
    FS_OPT_STR("include", 0, opt.include, "GLOB,...", "only files whose path fits one of them"),
    FS_OPT_STR("exclude", 0, opt.exclude, "GLOB,...", "no file whose path fits one of them"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

static void list_file(void *ud, const char *path, uint64_t n_bytes, const char *hash)
{
    bool *first = ud;
    fs_buf quoted = { 0 };

    if (!opt.json) {
        printf("%12" PRIu64 "  %.12s  %s\n", n_bytes, hash, path);
    } else if (fs_json_quote(&quoted, fs_bytes_str(path), NULL) == FS_OK) {
        printf("%s{\"path\":%s,\"size\":%" PRIu64 ",\"hash\":\"%s\"}", *first ? "" : ",", quoted.data, n_bytes, hash);
    }
    *first = false;
    fs_buf_done(&quoted);
}

static fs_status run_ls(const fs_args *args, fs_error *err)
{
    bool first = true;
    char type[16];
    fs_pull_plan p;
    fs_push_options o;
    fs_status rc = plan(args->items[0], &p, type, &o, false, err);

    if (rc)
        return rc;
    if (opt.json)
        putchar('[');
    rc = fs_push_files(&o, list_file, &first, err);
    if (opt.json)
        puts("]");
    fs_pull_plan_done(&p);
    return rc;
}

const fs_command fs_command_ls = {
    .set = { .name = "ls",
             .usage = "ORG/NAME[@REVISION]",
             .summary = "List a repository's files.",
             .text = "Bytes, the hash (SHA-256 of a large file, else git's) and the path of each.",
             .options = ls_options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = run_ls,
};

/* ---- rm ---- */
static const fs_option rm_options[] = {
    TYPE,
    FS_OPT_STR("message", 'm', opt.message, "TEXT", "of the commit"),
    FS_OPT_FLAG("create-pr", 0, opt.create_pr, "propose the change instead of making it"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

static fs_status run_rm(const fs_args *args, fs_error *err)
{
    char type[16];
    fs_pull_plan p;
    fs_push_options o;
    fs_status rc = plan(args->items[0], &p, type, &o, true, err);

    if (rc)
        return rc;
    o.remove = (const char *const *)args->items + 1;
    if (!o.message)
        o.message = "Remove files by farseek";
    rc = send(&o, NULL, err);
    fs_pull_plan_done(&p);
    return rc;
}

const fs_command fs_command_rm = {
    .set = { .name = "rm",
             .usage = "ORG/NAME[@REVISION] GLOB...",
             .summary = "Remove files from a repository of a hub.",
             .text = "In one commit; history keeps them.",
             .options = rm_options,
             .n_args_min = 2,
             .n_args_max = 60 },
    .run = run_rm,
};

/* ---- login ---- */
static const fs_option login_options[] = {
    FS_OPT_STR("token", 0, opt.token, "TOKEN", "the token (default: it is asked for)"),
    FS_OPT_END
};

/* From the terminal without an echo, or the first line of stdin. */
static fs_status read_token(char ret[512], fs_error *err)
{
    if (opt.token) {
        snprintf(ret, 512, "%s", opt.token);
        return FS_OK;
    }
    if (isatty(STDIN_FILENO)) {
        const char *typed = getpass("Token: ");
        snprintf(ret, 512, "%s", typed ? typed : "");
    } else if (!fgets(ret, 512, stdin)) {
        ret[0] = 0;
    }
    ret[strcspn(ret, " \r\n")] = 0;
    return *ret ? FS_OK : fs_fail(err, FS_ERR_ARGUMENT, "no token was given");
}

static fs_status write_token(const char *token, fs_error *err)
{
    char *path = NULL, *temp = NULL, *slash;
    fs_status rc = fs_hub_token_path(&path, err);

    if (rc)
        return rc;
    slash = strrchr(path, '/');
    *slash = 0;
    rc = fs_folder_make(path, 0700, err);
    *slash = '/';
    if (!rc && asprintf(&temp, "%s.XXXXXX", path) < 0)
        rc = fs_fail_memory(err, strlen(path));
    if (!rc) { /* mkstemp's mode is 600: nobody but the user reads it, at no time */
        int fd = mkostemp(temp, O_CLOEXEC);
        rc = fd < 0 ? fs_fail_errno(err, errno, "cannot make '%s'", temp) : fs_fd_write(fd, temp, token, strlen(token), err);
        if (!rc && (fsync(fd) != 0 || rename(temp, path) != 0))
            rc = fs_fail_errno(err, errno, "cannot write '%s'", path);
        if (rc && fd >= 0)
            unlink(temp);
        if (fd >= 0)
            close(fd);
    }
    free(temp);
    free(path);
    return rc;
}

static fs_status run_login(const fs_args *args, fs_error *err)
{
    const char *endpoint = fs_hub_endpoint();
    char token[512];
    fs_buf name = { 0 }, clean = { 0 };
    fs_status rc = read_token(token, err);

    (void)args;
    if (!rc)
        rc = fs_push_whoami(endpoint, token, &name, err);
    if (!rc)
        rc = write_token(token, err);
    if (!rc)
        rc = fs_text_clean(&clean, fs_buf_bytes(&name), err);
    if (!rc)
        printf("logged in at %s as %s\n", endpoint, clean.data);
    explicit_bzero(token, sizeof token);
    fs_buf_done(&name);
    fs_buf_done(&clean);
    return rc;
}

const fs_command fs_command_login = {
    .set = { .name = "login",
             .usage = "",
             .summary = "Keep a hub's token for the commands that need it.",
             .text = "The token is tried at $HF_ENDPOINT (default https://huggingface.co) and kept where the other clients look for it.",
             .options = login_options,
             .n_args_min = 0,
             .n_args_max = 0 },
    .run = run_login,
};
