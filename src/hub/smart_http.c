/* Clone, fetch and push: git http-backend as a child, its streams on the connection's. A push is looked at before its refs move, by git's
 * pre-receive hook, which is this program again. */
#include "hub/feed.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#define EARLY_MAX  ((size_t)16 << 20) /* of the answer, before the request is whole */
#define HEAD_MAX   ((size_t)64 << 10)
#define COPY_BYTES ((size_t)64 << 10)
#define PUSH_MAX   ((uint64_t)16 << 30) /* as of the route's body */
#define MOVED_MAX  ((size_t)16 << 20) /* 10,000 refs are the most of a push */

typedef struct child {
    pid_t pid;
    int in, out; /* our ends; -1: closed */
    fs_buf answer;
} child;

static bool is_word(const char *text, const char *more)
{
    for (; *text; text++)
        if (!((*text >= 'a' && *text <= 'z') || (*text >= '0' && *text <= '9') || strchr(more, *text)))
            return false;
    return true;
}

/* How git works for us: everything it acknowledges is on the disk, objects are looked at, no configuration of the machine matters. */
static void set_environment(fs_hub_words *env, fs_hub_call *c, const char *service, const char *moved, bool advertise)
{
    char hooks[600], input_max[24];
    uint64_t left = fs_hub_disk_left(c->hub);
    const char *const pairs[][2] = {
        { "core.fsync", "all" },
        { "core.hooksPath", hooks },
        { "safe.directory", "*" },
        { "http.receivepack", "true" },
        { "receive.fsckObjects", "true" },
        { "receive.autogc", "false" },
        { "receive.maxInputSize", input_max },
        { "receive.denyDeleteCurrent", "refuse" },
        { "uploadpack.allowFilter", "true" },
        { "pack.threads", "2" },
        { "transfer.hideRefs", "refs/mirror" },
    };
    const char *protocol = fs_http_header(c->http, "Git-Protocol"), *coding = fs_http_header(c->http, "Content-Encoding");
    const char *slash = strrchr(c->path, '/');

    snprintf(hooks, sizeof hooks, "%s/hooks", c->hub->data);
    /* Behind Content-Encoding: a body may be a thousand times as long as what is sent. 0 would be no limit. */
    snprintf(input_max, sizeof input_max, "%llu", (unsigned long long)(left > PUSH_MAX ? PUSH_MAX : left ? left : 1));
    fs_hub_git_environment(env, pairs, sizeof pairs / sizeof *pairs);
    if (c->hub->s3 && strcmp(service, "git-receive-pack") == 0) { /* the hook looks into what is pushed */
        fs_hub_words_add(env, "AWS_ACCESS_KEY_ID=%s", c->hub->options.s3_access_key);
        fs_hub_words_add(env, "AWS_SECRET_ACCESS_KEY=%s", c->hub->options.s3_secret_key);
        if (c->hub->options.s3_session_token)
            fs_hub_words_add(env, "AWS_SESSION_TOKEN=%s", c->hub->options.s3_session_token);
    }
    fs_hub_words_add(env, "GIT_HTTP_EXPORT_ALL=1");
    fs_hub_words_add(env, "GIT_PROJECT_ROOT=%.*s", (int)(slash - c->path), c->path);
    fs_hub_words_add(env, "PATH_INFO=%s/%s", slash, advertise ? "info/refs" : service);
    fs_hub_words_add(env, "REQUEST_METHOD=%s", advertise ? "GET" : "POST");
    fs_hub_words_add(env, "QUERY_STRING=%s%s", advertise ? "service=" : "", advertise ? service : "");
    /* Without CONTENT_LENGTH: the body ends where its stream does. With it http-backend asks a stream that ended early, as a killed hub's does,
     * for the rest without end. */
    if (!advertise)
        fs_hub_words_add(env, "CONTENT_TYPE=application/x-%s-request", service);
    if (coding && (strcmp(coding, "gzip") == 0 || strcmp(coding, "x-gzip") == 0))
        fs_hub_words_add(env, "HTTP_CONTENT_ENCODING=gzip");
    if (protocol && strlen(protocol) < 100 && is_word(protocol, "=:"))
        fs_hub_words_add(env, "GIT_PROTOCOL=%s", protocol);
    fs_hub_words_add(env, "REMOTE_USER=%s", c->user.id ? c->user.name : "anonymous");
    fs_hub_words_add(env, "REMOTE_ADDR=127.0.0.1");
    fs_hub_words_add(env, "FARSEEK_HUB_PROGRAM=%s", c->hub->options.program ? c->hub->options.program : "/bin/false");
    fs_hub_words_add(env, "FARSEEK_HUB_DATA=%s", c->hub->data);
    fs_hub_words_add(env, "FARSEEK_HUB_REPO=%lld", (long long)c->repo.id);
    fs_hub_words_add(env, "FARSEEK_HUB_USER=%lld", (long long)c->user.id);
    fs_hub_words_add(env, "FARSEEK_HUB_REFUSE=%d", (int)c->hub->options.refuse);
    fs_hub_words_add(env, "FARSEEK_HUB_WRITER=%d", c->right >= FS_HUB_WRITE);
    fs_hub_words_add(env, "FARSEEK_HUB_MOVED=%s", moved);
}

static fs_status start(child *ch, fs_hub_words *env, fs_error *err)
{
    char *const argv[] = { "git", "http-backend", NULL };
    int in[2] = { -1, -1 }, out[2] = { -1, -1 }, failed;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t all, none;

    if (env->failed)
        return fs_fail_memory(err, 1);
    if (pipe2(in, O_CLOEXEC) != 0)
        return fs_fail_errno(err, errno, "no pipe for git");
    if (pipe2(out, O_CLOEXEC) != 0) {
        close(in[0]);
        close(in[1]);
        return fs_fail_errno(err, errno, "no pipe for git");
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawnattr_init(&attr);
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    failed = posix_spawnp(&ch->pid, "git", &actions, &attr, argv, env->list);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    ch->in = in[1];
    ch->out = out[0];
    return failed ? fs_fail_errno(err, failed, "cannot start git") : FS_OK;
}

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Ends the child, and says whether it ended well. */
static bool finish(child *ch, bool kill_it)
{
    int status = 0;

    close_end(&ch->in);
    close_end(&ch->out);
    if (ch->pid > 0 && kill_it)
        kill(-ch->pid, SIGKILL);
    while (ch->pid > 0 && waitpid(ch->pid, &status, 0) < 0 && errno == EINTR)
        ;
    fs_buf_done(&ch->answer);
    return ch->pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* What the child has said, into answer; *ret_end at its end. */
static fs_status hear(child *ch, bool *ret_end, fs_error *err)
{
    char buf[COPY_BYTES];
    ssize_t n = read(ch->out, buf, sizeof buf);

    *ret_end = n == 0;
    if (n < 0)
        return errno == EINTR ? FS_OK : fs_fail_errno(err, errno, "cannot read from git");
    return fs_buf_append(&ch->answer, buf, (size_t)n, err);
}

/* Writes to the child, listening meanwhile, so that neither waits for the other. A child that wants no more is no failure. */
static fs_status tell(child *ch, const char *data, size_t n_bytes, fs_error *err)
{
    while (n_bytes > 0 && ch->in >= 0) {
        struct pollfd fds[2] = { { ch->in, POLLOUT, 0 }, { ch->out, POLLIN, 0 } };
        bool end = false;
        if (poll(fds, ch->answer.n_bytes < EARLY_MAX ? 2 : 1, -1) < 0 && errno != EINTR)
            return fs_fail_errno(err, errno, "cannot wait for git");
        if (fds[1].revents) {
            fs_status rc = hear(ch, &end, err);
            if (rc)
                return rc;
        }
        if (fds[0].revents && !end) {
            ssize_t n = write(ch->in, data, n_bytes < 4096 ? n_bytes : 4096); /* POLLOUT promises as much */
            if (n < 0 && errno != EINTR && errno != EAGAIN)
                end = true;
            data += n > 0 ? n : 0;
            n_bytes -= n > 0 ? (size_t)n : 0;
        }
        if (end)
            close_end(&ch->in);
    }
    return FS_OK;
}

static fs_status send_body(fs_hub_call *c, child *ch, bool streamed, fs_error *err)
{
    fs_bytes body = fs_http_body(c->http);
    char buf[COPY_BYTES];
    size_t n = 1;
    fs_status rc = FS_OK;

    if (!streamed)
        rc = tell(ch, (const char *)body.data, body.n_bytes, err);
    while (streamed && !rc && n > 0 && ch->in >= 0) {
        rc = fs_http_read(c->http, buf, sizeof buf, &n, err);
        if (!rc)
            rc = tell(ch, buf, n, err);
    }
    close_end(&ch->in);
    return rc;
}

/* The CGI's head: "Name: value" lines; the rest stays in answer. */
static fs_status read_head(fs_hub_call *c, child *ch, int *ret_status, char ret_type[100], fs_error *err)
{
    char *end, *next;
    size_t n_head;
    bool over = false;
    fs_status rc = FS_OK;

    *ret_status = 200;
    snprintf(ret_type, 100, "application/octet-stream");
    while (!rc && !(ch->answer.data && (end = strstr(ch->answer.data, "\r\n\r\n")) != NULL)) {
        if (over || ch->answer.n_bytes > HEAD_MAX)
            return fs_fail(err, FS_ERR_IO, "git gave no answer");
        rc = hear(ch, &over, err);
    }
    if (rc)
        return rc;
    n_head = (size_t)(end - ch->answer.data) + 4;
    end[2] = 0;
    for (char *line = ch->answer.data; *line; line = next) {
        next = strstr(line, "\r\n");
        *next = 0;
        next += 2;
        if (strncasecmp(line, "Status: ", 8) == 0)
            *ret_status = atoi(line + 8);
        else if (strncasecmp(line, "Content-Type: ", 14) == 0)
            snprintf(ret_type, 100, "%s", line + 14);
    }
    fs_http_reply_header(c->http, "Cache-Control", "no-cache, max-age=0, must-revalidate");
    ch->answer.n_bytes -= n_head;
    memmove(ch->answer.data, ch->answer.data + n_head, ch->answer.n_bytes + 1);
    return FS_OK;
}

static fs_status send_answer(fs_hub_call *c, child *ch, fs_error *err)
{
    char type[100];
    bool end = false;
    int status;
    fs_status rc = read_head(c, ch, &status, type, err);

    if (rc)
        return rc;
    c->replied = true;
    fs_http_stream_begin(c->http, status, type);
    while (!rc) {
        rc = fs_http_stream_write(c->http, ch->answer.data, ch->answer.n_bytes, err);
        fs_buf_clear(&ch->answer);
        if (rc || end)
            break;
        rc = hear(ch, &end, err);
    }
    if (rc)
        fs_http_stream_break(c->http);
    return rc;
}

/* moved: the file that names the refs that moved is to be. */
static bool run(fs_hub_call *c, const char *service, const char *moved, bool advertise)
{
    fs_hub_words env = { .n = 0 };
    child ch = { .in = -1, .out = -1 };
    bool push = strcmp(service, "git-receive-pack") == 0, well;
    fs_status rc;

    set_environment(&env, c, service, moved, advertise);
    rc = start(&ch, &env, &c->err);
    if (!rc)
        rc = send_body(c, &ch, push && !advertise, &c->err);
    if (!rc)
        rc = send_answer(c, &ch, &c->err);
    well = finish(&ch, rc != FS_OK) && !rc;
    fs_hub_words_done(&env);
    fs_hub_failed(c, rc);
    return well;
}

/* Reading wants the right to read; pushing, a user: which refs of whose, the hook decides. */
static bool need_service(fs_hub_call *c, const char *service)
{
    if (strcmp(service, "git-receive-pack") == 0)
        return !fs_hub_failed(c, fs_hub_disk_room(c->hub, 0, &c->err)) && fs_hub_need_user(c, true) && fs_hub_need_repo_path(c, 0, FS_HUB_READ) && fs_hub_need_open(c);
    return fs_hub_need_repo_path(c, 0, FS_HUB_READ) && fs_hub_need_open(c);
}

void fs_hub_git_info_refs(fs_hub_call *c)
{
    const char *service = fs_http_query(c->http, "service", 0);

    if (!service || (strcmp(service, "git-upload-pack") != 0 && strcmp(service, "git-receive-pack") != 0))
        fs_hub_error(c, 403, NULL, "only git's smart protocol is spoken here");
    else if (need_service(c, service))
        run(c, service, "/dev/null", true);
}

/* ---- after a push ---- */

typedef struct moves {
    fs_hub_move *items;
    size_t n;
} moves;

/* Git's lines, "old new ref". */
static void read_moves(const char *path, moves *ret)
{
    fs_buf text = { 0 };
    size_t capacity = 0;

    *ret = (moves){ .n = 0 };
    if (fs_file_read(path, MOVED_MAX, &text, NULL) != FS_OK || !text.data) {
        fs_buf_done(&text);
        return;
    }
    for (char *line = text.data, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        fs_hub_move m;
        *end = 0;
        if (sscanf(line, "%40[0-9a-f] %40[0-9a-f] %299s", m.old, m.new, m.ref) != 3)
            continue;
        if (ret->n == capacity) {
            fs_hub_move *items = realloc(ret->items, (capacity = capacity ? 2 * capacity : 16) * sizeof *items);
            if (!items)
                break;
            ret->items = items;
        }
        ret->items[ret->n++] = m;
    }
    fs_buf_done(&text);
}

/* A pull request tells by itself, with its discussion. */
static void pr_moved(fs_hub_call *c, const fs_hub_move *m)
{
    git_oid old, new;
    git_commit *commit = NULL;

    if (git_oid_fromstr(&old, m->old) == 0 && git_oid_fromstr(&new, m->new) == 0 && git_commit_lookup(&commit, c->git, &new) == 0)
        fs_hub_after_ref(c, m->ref, git_oid_is_zero(&old) ? NULL : &old, &new, git_commit_summary(commit), NULL);
    git_commit_free(commit);
}

static void after_push(fs_hub_call *c, const char *moved)
{
    moves all;
    size_t n = 0;

    read_moves(moved, &all);
    fs_hub_card_refresh(c, NULL);
    for (size_t i = 0; i < all.n; i++)
        if (strncmp(all.items[i].ref, "refs/pr/", 8) == 0)
            pr_moved(c, all.items + i);
        else
            all.items[n++] = all.items[i];
    fs_hub_tell_moves(c, all.items, n);
    free(all.items);
}

void fs_hub_git_service(fs_hub_call *c)
{
    const char *uri = fs_http_uri(c->http), *slash = strrchr(uri, '/'), *service = strncmp(slash, "/git-receive-pack", 17) == 0 ? "git-receive-pack" : "git-upload-pack";

    bool push = strcmp(service, "git-receive-pack") == 0;
    char name[17], moved[600];

    if (!need_service(c, service))
        return;
    fs_hub_random_name(name, sizeof name);
    snprintf(moved, sizeof moved, "%s/parts/moved.%s", c->hub->data, name);
    if (push)
        fs_hub_locks_drop(c->hub, c->path);
    run(c, service, push ? moved : "/dev/null", false);
    if (push) /* a push that ends badly may have moved some refs */
        fs_hub_feed_mark(c->db, c->repo.id, NULL);
    if (push) {
        after_push(c, moved);
        unlink(moved);
    }
}
