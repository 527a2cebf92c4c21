/* See the header. */
#include "hub/push.h"

#include "crypto/base64.h"
#include "crypto/sha256.h"
#include "hub/remote.h"
#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <git2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPLY_BYTES_MAX ((size_t)32 << 20)
#define SAMPLE_BYTES    512
#define ASK_FILES       256 /* in one preupload, and in one batch of LFS */
#define TRIES_MAX       4

struct file {
    char *path, *here; /* in the repository, on the disk */
    uint64_t n_bytes;
    bool ignored, large, same;
    char hash[65]; /* SHA-256 of a large file, else git's SHA-1 */
};

struct push {
    const fs_push_options *o;
    fs_remote r;
    struct file *files;
    size_t n, capacity;
    fs_remote_list gone;
    uint64_t done, total; /* bytes of large files, for progress */
    uint64_t n_sent;
    bool stop;
};

/* ---- asking ---- */
static bool go_on(void *ud)
{
    struct push *p = ud;

    if (fs_progress_tell(&p->o->progress, p->done < p->total ? p->done : p->total, p->total, NULL))
        p->stop = true;
    return !p->stop;
}

/* Method and JSON to url; the reply's JSON is *ret (NULL: not wanted). Any of ok's statuses (ended by 0) will do. */
static fs_status ask(const fs_remote *r, const char *method, const char *url, const char *token, const char *const *headers, fs_bytes body, const int *ok, struct json_object **ret,
                     fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc = fs_fetch_whole(r->fetch, &(fs_fetch_request){ .method = method, .url = url, .token = token, .headers = headers, .body = body, .silence_seconds = 120 },
                                  REPLY_BYTES_MAX, &text, err);
    bool fine = false;

    for (int i = 0; ok[i]; i++)
        fine |= ok[i] == fs_fetch_status(r->fetch);
    if (!rc && !fine) {
        const char *said = fs_fetch_header(r->fetch, "X-Error-Message");
        if (said)
            rc = fs_fail(err, FS_ERR_IO, "the hub says (%d): %.400s", fs_fetch_status(r->fetch), said);
        else
            rc = fs_remote_refused(r, url, err);
    }
    if (!rc && ret)
        rc = fs_json_parse(fs_buf_bytes(&text), url, ret, err);
    fs_buf_done(&text);
    return rc;
}

static const char *const as_json[] = { "Content-Type: application/json", NULL };
static const int only_200[] = { 200, 201, 0 };

static fs_status make_repo(struct push *p, fs_error *err)
{
    static const int fine[] = { 200, 201, 409, 0 };
    const fs_push_options *o = p->o;
    const char *slash = strchr(o->id, '/');
    fs_buf url = { 0 }, body = { 0 };
    char sha[41];
    fs_remote main = p->r;
    fs_status rc;

    main.revision = "main";
    rc = fs_remote_commit(&main, sha, err);
    if (rc != FS_ERR_NOT_FOUND || o->create_pr)
        return rc;
    rc = fs_buf_printf(&url, err, "%s/api/repos/create", o->base);

    if (!rc) /* an id's letters need no escape in JSON */
        rc = fs_buf_printf(&body, err, "{\"name\":\"%s\",\"organization\":\"%.*s\",\"type\":\"%.*s\",\"private\":%s,\"visibility\":\"%s\"}", slash + 1, (int)(slash - o->id), o->id,
                           (int)strlen(o->type) - 1, o->type, o->private_repo ? "true" : "false", o->private_repo ? "private" : "public");
    if (!rc)
        rc = ask(&p->r, NULL, url.data, o->token, as_json, fs_buf_bytes(&body), fine, NULL, err);
    fs_buf_done(&url);
    fs_buf_done(&body);
    return rc;
}

/* ---- what is there ---- */
static fs_status add_file(struct push *p, const char *folder, const FTSENT *e, fs_error *err)
{
    const char *path = e->fts_path + strlen(folder);
    struct file f = { .n_bytes = (uint64_t)e->fts_statp->st_size };

    while (*path == '/')
        path++;
    if (!fs_remote_wants(path, p->o->include, p->o->exclude))
        return FS_OK;
    if (!fs_remote_path_is_safe(path))
        return fs_fail(err, FS_ERR_ARGUMENT, "a file's name is none for a repository: '%.200s'", path);
    if (p->n == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 64;
        struct file *files = realloc(p->files, capacity * sizeof *files);
        if (!files)
            return fs_fail_memory(err, capacity * sizeof *files);
        p->files = files;
        p->capacity = capacity;
    }
    f.path = strdup(path);
    f.here = strdup(e->fts_path);
    p->files[p->n++] = f;
    return f.path && f.here ? FS_OK : fs_fail_memory(err, strlen(path));
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* Links to files are taken as files. Folders named .git and the client's own notes (.cache/huggingface) are no part of a model. */
static fs_status look(struct push *p, const char *folder, fs_error *err)
{
    char *roots[] = { (char *)(uintptr_t)folder, NULL };
    FTS *fts = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, by_name);
    FTSENT *e;
    fs_status rc = fts ? FS_OK : fs_fail_errno(err, errno, "cannot open '%s'", folder);

    while (!rc && (e = fts_read(fts)) != NULL) {
        if (e->fts_info == FTS_D && e->fts_level > 0 && (!strcmp(e->fts_name, ".git") || fs_ends_with(e->fts_path, "/.cache/huggingface")))
            fts_set(fts, e, FTS_SKIP);
        else if (e->fts_info == FTS_F)
            rc = add_file(p, folder, e, err);
        else if (e->fts_info == FTS_ERR || e->fts_info == FTS_DNR || e->fts_info == FTS_NS || e->fts_info == FTS_SLNONE)
            rc = fs_fail_errno(err, e->fts_errno ? e->fts_errno : ENOENT, "cannot read '%s'", e->fts_path);
        else if (e->fts_info == FTS_DC)
            rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' is a folder within itself", e->fts_path);
    }
    if (fts)
        fts_close(fts);
    return rc;
}

static fs_status put_base64(fs_buf *out, int fd, uint64_t n_bytes, fs_error *err)
{
    uint8_t in[3 * 4096]; /* a whole number of groups: the pieces' texts make one */
    fs_status rc = FS_OK;

    for (uint64_t at = 0; at < n_bytes && !rc;) {
        size_t want = n_bytes - at < sizeof in ? (size_t)(n_bytes - at) : sizeof in;
        if (pread(fd, in, want, (off_t)at) != (ssize_t)want)
            return fs_fail(err, FS_ERR_IO, "a file became shorter while it was read");
        rc = fs_base64_append(out, (fs_bytes){ in, want }, err);
        at += want;
    }
    return rc;
}

static fs_status open_file(const struct file *f, int *ret, fs_error *err)
{
    *ret = open(f->here, O_RDONLY | O_CLOEXEC);
    return *ret < 0 ? fs_fail_errno(err, errno, "cannot open '%s'", f->here) : FS_OK;
}

/* ---- how the hub wants each file ---- */
static fs_status take_answer(struct push *p, struct json_object *answer, size_t begin, size_t end, fs_error *err)
{
    struct json_object *files = fs_json_member(answer, "files");

    if (!files || !json_object_is_type(files, json_type_array))
        return fs_fail(err, FS_ERR_FORMAT, "the hub's answer to preupload has no files");
    for (size_t i = 0; i < json_object_array_length(files); i++) {
        struct json_object *o = json_object_array_get_idx(files, i);
        fs_bytes path = { 0 }, mode = { 0 }, oid = { 0 };
        bool ignored = false;
        fs_status rc = json_object_is_type(o, json_type_object) ? fs_json_string(o, "path", &path, NULL, err) : fs_fail(err, FS_ERR_FORMAT, "preupload: a file is no object");
        if (!rc)
            rc = fs_json_string(o, "uploadMode", &mode, NULL, err);
        if (!rc)
            rc = fs_json_bool(o, "shouldIgnore", &ignored, NULL, err);
        if (!rc)
            rc = fs_json_string(o, "oid", &oid, NULL, err);
        if (rc)
            return rc;
        for (size_t k = begin; k < end; k++) {
            struct file *f = p->files + k;
            if (!fs_bytes_equal(path, fs_bytes_str(f->path)))
                continue;
            f->ignored = ignored;
            f->large = fs_bytes_equal(mode, FS_BYTES_LIT("lfs")) && f->n_bytes > 0;
            if (oid.n_bytes < sizeof f->hash)
                memcpy(f->hash, oid.data ? oid.data : (const uint8_t *)"", oid.n_bytes);
            p->total += f->large && !ignored ? f->n_bytes : 0;
        }
    }
    return FS_OK;
}

static fs_status append_rev(const struct push *p, fs_buf *url, fs_error *err)
{
    fs_status rc = fs_url_encode(url, fs_bytes_str(p->o->revision ? p->o->revision : "main"), "", err);

    return rc || !p->o->create_pr ? rc : fs_buf_append_str(url, "?create_pr=1", err);
}

static fs_status preupload(struct push *p, size_t begin, size_t end, fs_error *err)
{
    fs_buf url = { 0 }, body = { 0 };
    struct json_object *answer = NULL;
    fs_status rc = fs_buf_printf(&url, err, "%s/api/%s/%s/preupload/", p->r.base, p->r.type, p->r.id);

    if (!rc)
        rc = append_rev(p, &url, err);
    if (!rc)
        rc = fs_buf_append_str(&body, "{\"files\":[", err);
    for (size_t i = begin; i < end && !rc; i++) {
        const struct file *f = p->files + i;
        int fd;
        rc = open_file(f, &fd, err);
        if (rc)
            break;
        rc = fs_buf_append_str(&body, i > begin ? ",{\"path\":" : "{\"path\":", err);
        if (!rc)
            rc = fs_json_quote(&body, fs_bytes_str(f->path), err);
        if (!rc)
            rc = fs_buf_printf(&body, err, ",\"size\":%llu,\"sample\":\"", (unsigned long long)f->n_bytes);
        if (!rc)
            rc = put_base64(&body, fd, f->n_bytes < SAMPLE_BYTES ? f->n_bytes : SAMPLE_BYTES, err);
        if (!rc)
            rc = fs_buf_append_str(&body, "\"}", err);
        close(fd);
    }
    if (!rc)
        rc = fs_buf_append_str(&body, "]}", err);
    if (!rc)
        rc = ask(&p->r, NULL, url.data, p->o->token, as_json, fs_buf_bytes(&body), only_200, &answer, err);
    if (!rc)
        rc = take_answer(p, answer, begin, end, err);
    json_object_put(answer);
    fs_buf_done(&url);
    fs_buf_done(&body);
    return rc;
}

/* ---- hashes: what the repository has already is not sent ---- */
typedef struct hashing {
    struct push *p;
    uint64_t before;
} hashing;

static bool hashed(void *ud, uint64_t done, uint64_t total)
{
    hashing *h = ud;

    (void)total;
    h->p->done = h->before + done;
    return go_on(h->p);
}

static fs_status hash_large(struct push *p, const struct file *f, char ret[65], fs_error *err)
{
    hashing h = { p, p->done };
    const fs_progress progress = { hashed, &h };
    int fd = -1;
    fs_status rc = open_file(f, &fd, err);

    if (rc)
        return rc;
    rc = fs_sha256_of_file(fd, f->here, f->n_bytes, &progress, ret, err);
    close(fd);
    return rc;
}

static fs_status hash_files(struct push *p, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < p->n && !rc; i++) {
        struct file *f = p->files + i;
        char hash[65] = "";
        git_oid oid;
        if (f->ignored)
            continue;
        if (f->large)
            rc = hash_large(p, f, hash, err);
        else if (git_odb_hashfile(&oid, f->here, GIT_OBJECT_BLOB) != 0)
            rc = fs_fail(err, FS_ERR_IO, "cannot read '%s'", f->here);
        else
            git_oid_tostr(hash, sizeof hash, &oid);
        f->same = !strcmp(hash, f->hash);
        memcpy(f->hash, hash, sizeof hash);
        if (f->large && f->same)
            p->done += f->n_bytes;
    }
    return rc;
}

/* ---- large files ---- */
static void on_sent(void *ud, uint64_t n_bytes)
{
    struct push *p = ud;

    p->done += n_bytes;
    p->n_sent += n_bytes;
}

/* One PUT; a stumbling server is asked again. */
static fs_status put_part(struct push *p, const char *url, int fd, uint64_t offset, uint64_t n_bytes, char ret_etag[128], fs_error *err)
{
    uint64_t before = p->done;
    fs_status rc = FS_OK;

    for (int i = 0; i < TRIES_MAX; i++) {
        const fs_fetch_part part = { fd, offset, n_bytes, on_sent, p };
        const char *etag;
        if (i) {
            p->done = before;
            usleep(500000u << i);
        }
        rc = fs_fetch_run(p->r.fetch, &(fs_fetch_request){ .url = url, .part = &part, .silence_seconds = 120 }, NULL, NULL, err);
        if (rc == FS_ERR_INTERRUPTED)
            return rc;
        if (!rc && fs_fetch_status(p->r.fetch) >= 200 && fs_fetch_status(p->r.fetch) < 300) {
            etag = fs_fetch_header(p->r.fetch, "ETag");
            snprintf(ret_etag, 128, "%s", etag ? etag : "");
            return FS_OK;
        }
        if (!rc) {
            const char *said = fs_fetch_header(p->r.fetch, "X-Error-Message");
            rc = fs_fail(err, FS_ERR_IO, "an upload was refused (%d)%s%.300s", fs_fetch_status(p->r.fetch), said ? ": " : "", said ? said : "");
            if (fs_fetch_status(p->r.fetch) < 500)
                return rc;
        }
    }
    return rc;
}

/* "header" of an action as lines; the memory is out's. */
static fs_status header_lines(struct json_object *action, fs_buf *out, const char *lines[16], fs_error *err)
{
    struct json_object *header = fs_json_member(action, "header");
    size_t at[16], n = 0;
    fs_status rc = FS_OK;

    lines[0] = NULL;
    if (!header || !json_object_is_type(header, json_type_object))
        return FS_OK;
    json_object_object_foreach(header, key, value) {
        if (n == 15 || rc || !json_object_is_type(value, json_type_string) || strpbrk(key, "\r\n:") || strpbrk(json_object_get_string(value), "\r\n"))
            continue;
        at[n++] = out->n_bytes;
        rc = fs_buf_printf(out, err, "%s: %s", key, json_object_get_string(value));
        if (!rc)
            rc = fs_buf_append(out, "", 1, err);
    }
    for (size_t i = 0; i < n; i++)
        lines[i] = out->data + at[i];
    lines[n] = NULL;
    return rc;
}

/* The action's parts, one after the other, then the list of their ETags. */
static fs_status put_parts(struct push *p, const struct file *f, int fd, struct json_object *action, uint64_t chunk, fs_error *err)
{
    static const char *const type[] = { "Content-Type: application/vnd.git-lfs+json", NULL };
    struct json_object *header = fs_json_member(action, "header");
    uint64_t n_parts = (f->n_bytes + chunk - 1) / chunk;
    fs_bytes href = { 0 };
    fs_buf body = { 0 };
    fs_status rc = fs_json_string(action, "href", &href, NULL, err);
    char *to = NULL;

    if (!rc)
        rc = fs_buf_printf(&body, err, "{\"oid\":\"%s\",\"parts\":[", f->hash);
    for (uint64_t i = 1; i <= n_parts && !rc; i++) {
        char key[24], etag[128], *url;
        fs_bytes part = { 0 };
        uint64_t at = (i - 1) * chunk;
        snprintf(key, sizeof key, "%llu", (unsigned long long)i);
        rc = fs_json_string(header, key, &part, NULL, err);
        if (rc)
            break;
        url = part.data ? strndup((const char *)part.data, part.n_bytes) : NULL;
        if (!url)
            rc = fs_fail(err, FS_ERR_FORMAT, "the hub gave no address for part %s of '%s'", key, f->path);
        else
            rc = put_part(p, url, fd, at, f->n_bytes - at < chunk ? f->n_bytes - at : chunk, etag, err);
        free(url);
        if (!rc)
            rc = fs_buf_printf(&body, err, "%s{\"partNumber\":%s,\"etag\":", i > 1 ? "," : "", key);
        if (!rc)
            rc = fs_json_quote(&body, fs_bytes_str(etag), err);
        if (!rc)
            rc = fs_buf_append_str(&body, "}", err);
    }
    if (!rc)
        rc = fs_buf_append_str(&body, "]}", err);
    if (!rc && !(to = strndup(href.data ? (const char *)href.data : "", href.n_bytes)))
        rc = fs_fail_memory(err, href.n_bytes);
    if (!rc)
        rc = ask(&p->r, NULL, to, NULL, type, fs_buf_bytes(&body), only_200, NULL, err);
    free(to);
    fs_buf_done(&body);
    return rc;
}

static fs_status verify(struct push *p, const struct file *f, struct json_object *action, fs_error *err)
{
    fs_bytes href = { 0 };
    fs_buf body = { 0 }, memory = { 0 };
    const char *lines[16];
    char *url = NULL;
    fs_status rc = fs_json_string(action, "href", &href, NULL, err);

    if (!rc && !(url = strndup(href.data ? (const char *)href.data : "", href.n_bytes)))
        rc = fs_fail_memory(err, href.n_bytes);
    if (!rc)
        rc = header_lines(action, &memory, lines, err);
    if (!rc)
        rc = fs_buf_printf(&body, err, "{\"oid\":\"%s\",\"size\":%llu}", f->hash, (unsigned long long)f->n_bytes);
    if (!rc)
        rc = ask(&p->r, NULL, url, fs_fetch_same_origin(url, p->r.base) ? p->o->token : NULL, lines, fs_buf_bytes(&body), only_200, NULL, err);
    free(url);
    fs_buf_done(&memory);
    fs_buf_done(&body);
    return rc;
}

static fs_status send_large(struct push *p, const struct file *f, struct json_object *answer, fs_error *err)
{
    struct json_object *actions = fs_json_member(answer, "actions"), *upload = actions ? fs_json_member(actions, "upload") : NULL;
    struct json_object *check = actions ? fs_json_member(actions, "verify") : NULL, *error = fs_json_member(answer, "error"), *header;
    fs_bytes href = { 0 }, message = { 0 }, chunk_text = { 0 };
    char etag[128], *url;
    int fd = -1;
    fs_status rc;

    if (error && json_object_is_type(error, json_type_object)) {
        rc = fs_json_string(error, "message", &message, NULL, err);
        return rc ? rc : fs_fail(err, FS_ERR_IO, "the hub refuses '%s': %.*s", f->path, (int)(message.n_bytes < 300 ? message.n_bytes : 300), message.data ? (const char *)message.data : "");
    }
    if (!upload || !json_object_is_type(upload, json_type_object)) { /* it is there */
        p->done += f->n_bytes;
        return FS_OK;
    }
    rc = fs_json_string(upload, "href", &href, NULL, err);
    header = fs_json_member(upload, "header");
    if (!rc && header && json_object_is_type(header, json_type_object))
        rc = fs_json_string(header, "chunk_size", &chunk_text, NULL, err);
    if (!rc)
        rc = open_file(f, &fd, err);
    if (!rc && chunk_text.n_bytes) {
        uint64_t chunk = strtoull((const char *)chunk_text.data, NULL, 10);
        rc = chunk ? put_parts(p, f, fd, upload, chunk, err) : fs_fail(err, FS_ERR_FORMAT, "the hub asks for parts of no bytes");
    } else if (!rc) {
        url = strndup(href.data ? (const char *)href.data : "", href.n_bytes);
        rc = url ? put_part(p, url, fd, 0, f->n_bytes, etag, err) : fs_fail_memory(err, href.n_bytes);
        free(url);
    }
    if (fd >= 0)
        close(fd);
    return rc || !check || !json_object_is_type(check, json_type_object) ? rc : verify(p, f, check, err);
}

static const char *prefix_of(const char *type)
{
    return !strcmp(type, "datasets") ? "datasets/" : !strcmp(type, "spaces") ? "spaces/" : "";
}

/* Those of files begin..end that are large and new. */
static fs_status send_batch(struct push *p, size_t begin, size_t end, fs_error *err)
{
    static const char *const type[] = { "Content-Type: application/vnd.git-lfs+json", "Accept: application/vnd.git-lfs+json", NULL };
    struct json_object *answer = NULL, *objects;
    fs_buf url = { 0 }, body = { 0 };
    size_t n = 0;
    fs_status rc = fs_buf_printf(&url, err, "%s/%s%s.git/info/lfs/objects/batch", p->r.base, prefix_of(p->r.type), p->r.id);

    if (!rc)
        rc = fs_buf_append_str(&body, "{\"operation\":\"upload\",\"transfers\":[\"basic\",\"multipart\"],\"hash_algo\":\"sha256\",\"objects\":[", err);
    for (size_t i = begin; i < end && !rc; i++)
        if (p->files[i].large && !p->files[i].same && !p->files[i].ignored)
            rc = fs_buf_printf(&body, err, "%s{\"oid\":\"%s\",\"size\":%llu}", n++ ? "," : "", p->files[i].hash, (unsigned long long)p->files[i].n_bytes);
    if (!rc)
        rc = fs_buf_append_str(&body, "]}", err);
    if (!rc && n)
        rc = ask(&p->r, NULL, url.data, p->o->token, type, fs_buf_bytes(&body), only_200, &answer, err);
    objects = answer ? fs_json_member(answer, "objects") : NULL;
    if (!rc && n && (!objects || !json_object_is_type(objects, json_type_array)))
        rc = fs_fail(err, FS_ERR_FORMAT, "the hub's answer to a batch has no objects");
    for (size_t i = begin; i < end && n && !rc; i++) {
        const struct file *f = p->files + i;
        bool found = false;
        if (!f->large || f->same || f->ignored)
            continue;
        for (size_t k = 0; k < json_object_array_length(objects) && !rc && !found; k++) {
            struct json_object *o = json_object_array_get_idx(objects, k);
            fs_bytes oid = { 0 };
            rc = json_object_is_type(o, json_type_object) ? fs_json_string(o, "oid", &oid, NULL, err) : FS_OK;
            if (rc || !fs_bytes_equal(oid, fs_bytes_str(f->hash)))
                continue;
            found = true;
            rc = send_large(p, f, o, err);
        }
        if (!rc && !found)
            rc = fs_fail(err, FS_ERR_FORMAT, "the hub's answer to a batch is silent about '%s'", f->path);
    }
    json_object_put(answer);
    fs_buf_done(&url);
    fs_buf_done(&body);
    return rc;
}

/* ---- the commit ---- */
static fs_status put_line(FILE *to, fs_buf *line, fs_error *err)
{
    fs_status rc = fs_buf_append_str(line, "}}\n", err);

    if (!rc && fwrite(line->data, 1, line->n_bytes, to) != line->n_bytes)
        rc = fs_fail_errno(err, errno, "cannot write the commit's lines");
    return rc;
}

static fs_status commit_lines(struct push *p, FILE *to, size_t *ret_changed, fs_error *err)
{
    fs_buf line = { 0 };
    const char *message = p->o->message ? p->o->message : "Upload by farseek";
    size_t n = 0;
    fs_status rc = fs_buf_append_str(&line, "{\"key\":\"header\",\"value\":{\"summary\":", err);

    if (!rc)
        rc = fs_json_quote(&line, fs_bytes_str(message), err);
    if (!rc)
        rc = fs_buf_append_str(&line, ",\"description\":", err);
    if (!rc)
        rc = fs_json_quote(&line, fs_bytes_str(p->o->description ? p->o->description : ""), err);
    if (!rc)
        rc = put_line(to, &line, err);
    for (size_t i = 0; i < p->n && !rc; i++) {
        const struct file *f = p->files + i;
        int fd = -1;
        if (f->ignored || f->same)
            continue;
        fs_buf_clear(&line);
        rc = fs_buf_printf(&line, err, "{\"key\":\"%s\",\"value\":{\"path\":", f->large ? "lfsFile" : "file");
        if (!rc)
            rc = fs_json_quote(&line, fs_bytes_str(f->path), err);
        if (!rc && f->large) {
            rc = fs_buf_printf(&line, err, ",\"algo\":\"sha256\",\"oid\":\"%s\",\"size\":%llu", f->hash, (unsigned long long)f->n_bytes);
        } else if (!rc) {
            rc = open_file(f, &fd, err);
            if (!rc)
                rc = fs_buf_append_str(&line, ",\"encoding\":\"base64\",\"content\":\"", err);
            if (!rc)
                rc = put_base64(&line, fd, f->n_bytes, err);
            if (!rc)
                rc = fs_buf_append_str(&line, "\"", err);
            if (fd >= 0)
                close(fd);
        }
        if (!rc)
            rc = put_line(to, &line, err);
        n++;
    }
    for (size_t i = 0; i < p->gone.n && !rc; i++) {
        fs_buf_clear(&line);
        rc = fs_buf_append_str(&line, "{\"key\":\"deletedFile\",\"value\":{\"path\":", err);
        if (!rc)
            rc = fs_json_quote(&line, fs_bytes_str(p->gone.items[i].path), err);
        if (!rc)
            rc = put_line(to, &line, err);
    }
    fs_buf_done(&line);
    *ret_changed = n;
    return rc;
}

static fs_status commit(struct push *p, fs_push_result *ret, fs_error *err)
{
    static const char *const type[] = { "Content-Type: application/x-ndjson", NULL };
    FILE *lines = tmpfile();
    fs_buf url = { 0 };
    struct json_object *answer = NULL;
    fs_bytes oid = { 0 }, page = { 0 };
    fs_buf text = { 0 };
    fs_status rc = lines ? commit_lines(p, lines, &ret->n_changed, err) : fs_fail_errno(err, errno, "cannot make a temporary file");

    ret->n_removed = p->gone.n;
    if (!rc && (fflush(lines) != 0 || ftell(lines) < 0))
        rc = fs_fail_errno(err, errno, "cannot write the commit's lines");
    if (rc || (ret->n_changed == 0 && ret->n_removed == 0))
        goto out;
    rc = fs_buf_printf(&url, err, "%s/api/%s/%s/commit/", p->r.base, p->r.type, p->r.id);
    if (!rc)
        rc = append_rev(p, &url, err);
    if (!rc) {
        const fs_fetch_part part = { .fd = fileno(lines), .n_bytes = (uint64_t)ftell(lines) };
        rc = fs_fetch_whole(p->r.fetch, &(fs_fetch_request){ .method = "POST", .url = url.data, .token = p->o->token, .headers = type, .part = &part, .silence_seconds = 300 },
                            REPLY_BYTES_MAX, &text, err);
    }
    if (!rc && fs_fetch_status(p->r.fetch) != 200) {
        const char *said = fs_fetch_header(p->r.fetch, "X-Error-Message");
        rc = said ? fs_fail(err, FS_ERR_IO, "the hub refuses the commit (%d): %.400s", fs_fetch_status(p->r.fetch), said) : fs_remote_refused(&p->r, url.data, err);
    }
    if (!rc)
        rc = fs_json_parse(fs_buf_bytes(&text), url.data, &answer, err);
    if (!rc)
        rc = fs_json_string(answer, "commitOid", &oid, NULL, err);
    if (!rc)
        rc = fs_json_string(answer, p->o->create_pr ? "pullRequestUrl" : "commitUrl", &page, NULL, err);
    if (!rc && oid.n_bytes < sizeof ret->commit) {
        memcpy(ret->commit, oid.data ? oid.data : (const uint8_t *)"", oid.n_bytes);
        ret->commit[oid.n_bytes] = 0;
        ret->url = page.data ? strndup((const char *)page.data, page.n_bytes) : NULL;
    }
out:
    json_object_put(answer);
    fs_buf_done(&text);
    fs_buf_done(&url);
    if (lines)
        fclose(lines);
    return rc;
}

/* ---- all ---- */
static fs_status start(struct push *p, const fs_push_options *o, fs_error *err)
{
    *p = (struct push){ .o = o, .r = { .base = o->base, .type = o->type, .id = o->id, .revision = o->revision, .token = o->token } };
    return fs_fetch_new("farseek/" FS_VERSION, &p->r.fetch, err);
}

static void end(struct push *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->files[i].path);
        free(p->files[i].here);
    }
    free(p->files);
    fs_remote_list_done(&p->gone);
    fs_fetch_free(p->r.fetch);
}

/* Files of the repository that o->remove names and the folder has not. */
static fs_status find_gone(struct push *p, fs_error *err)
{
    fs_remote_list *all = &p->gone;
    size_t n = 0;
    fs_status rc = p->o->remove && p->o->remove[0] ? fs_remote_files(&p->r, p->o->revision ? p->o->revision : "main", p->o->remove, NULL, all, err) : FS_OK;

    for (size_t i = 0; i < all->n; i++) {
        bool here = false;
        for (size_t k = 0; k < p->n && !here; k++)
            here = !strcmp(p->files[k].path, all->items[i].path);
        if (here)
            free(all->items[i].path);
        else
            all->items[n++] = all->items[i];
    }
    all->n = n;
    return rc;
}

fs_status fs_push(const fs_push_options *o, const char *folder, fs_push_result *ret, fs_error *err)
{
    struct push p;
    fs_push_result r = { 0 };
    fs_status rc = start(&p, o, err);

    git_libgit2_init();
    if (!rc && folder)
        rc = look(&p, folder, err);
    if (!rc && folder)
        rc = make_repo(&p, err);
    if (!rc)
        rc = find_gone(&p, err);
    for (size_t i = 0; i < p.n && !rc; i += ASK_FILES)
        rc = preupload(&p, i, p.n - i < ASK_FILES ? p.n : i + ASK_FILES, err);
    p.total *= 2; /* hashed, then sent */
    if (!rc)
        rc = hash_files(&p, err);
    fs_fetch_watch(p.r.fetch, go_on, &p);
    for (size_t i = 0; i < p.n && !rc; i += ASK_FILES)
        rc = send_batch(&p, i, p.n - i < ASK_FILES ? p.n : i + ASK_FILES, err);
    if (!rc)
        rc = commit(&p, &r, err);
    r.n_files = p.n;
    r.n_bytes_sent = p.n_sent;
    end(&p);
    git_libgit2_shutdown();
    if (!rc)
        *ret = r;
    return rc;
}

fs_status fs_push_files(const fs_push_options *o, fs_push_file_fn *fn, void *ud, fs_error *err)
{
    struct push p;
    fs_remote_list list = { 0 };
    char sha[41];
    fs_status rc = start(&p, o, err);

    if (!rc)
        rc = fs_remote_commit(&p.r, sha, err);
    if (!rc)
        rc = fs_remote_files(&p.r, sha, o->include, o->exclude, &list, err);
    for (size_t i = 0; i < list.n && !rc; i++)
        fn(ud, list.items[i].path, list.items[i].n_bytes, list.items[i].etag);
    fs_remote_list_done(&list);
    end(&p);
    return rc;
}

fs_status fs_push_whoami(const char *base, const char *token, fs_buf *ret_name, fs_error *err)
{
    fs_remote r = { .base = base, .type = "models", .id = "", .token = token };
    struct json_object *answer = NULL;
    fs_bytes name = { 0 };
    fs_buf url = { 0 };
    fs_status rc = fs_fetch_new("farseek/" FS_VERSION, &r.fetch, err);

    if (!rc)
        rc = fs_buf_printf(&url, err, "%s/api/whoami-v2", base);
    if (!rc)
        rc = ask(&r, NULL, url.data, token, NULL, (fs_bytes){ 0 }, only_200, &answer, err);
    if (!rc)
        rc = fs_json_string(answer, "name", &name, NULL, err);
    if (!rc)
        rc = fs_buf_append(ret_name, name.data, name.n_bytes, err);
    json_object_put(answer);
    fs_buf_done(&url);
    fs_fetch_free(r.fetch);
    return rc;
}
