/* See the header. */
#include "hub/pull_internal.h"

#include "base/file.h"
#include "base/json.h"
#include "crypto/sha256.h"
#include "net/url.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPLY_BYTES_MAX ((size_t)32 << 20)
#define FILES_MAX       1000000
#define PATH_BYTES_MAX  1000

/* ---- what the hub says ---- */
static fs_status refused(fs_fetch *f, const fs_pull_options *o, const char *url, fs_error *err)
{
    const char *header = fs_fetch_header(f, "X-Error-Code");
    char code[64];
    int status = fs_fetch_status(f);

    snprintf(code, sizeof code, "%s", header ? header : "");
    if (!strcmp(code, "GatedRepo"))
        return fs_fail(err, FS_ERR_NOT_FOUND, "'%s' is gated: its owner must have let you in, and HF_TOKEN must hold your token", o->id);
    if (!strcmp(code, "RevisionNotFound"))
        return fs_fail(err, FS_ERR_NOT_FOUND, "'%s' has no revision '%s'", o->id, o->revision ? o->revision : "main");
    if (status == 401 || status == 403 || status == 404)
        return fs_fail(err, FS_ERR_NOT_FOUND, "the hub has no '%s', or it is private and HF_TOKEN holds no token that may read it (%s: %d)", o->id, url, status);
    return fs_fail(err, FS_ERR_IO, "%s answered %d", url, status);
}

static fs_status get_json(fs_fetch *f, const fs_pull_options *o, const char *url, struct json_object **ret, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc = fs_fetch_whole(f, &(fs_fetch_request){ .url = url, .token = o->token }, REPLY_BYTES_MAX, &text, err);

    if (!rc && fs_fetch_status(f) != 200)
        rc = refused(f, o, url, err);
    if (!rc)
        rc = fs_json_parse(fs_buf_bytes(&text), url, ret, err);
    fs_buf_done(&text);
    return rc;
}

static bool is_hex(fs_bytes text, size_t n_bytes)
{
    uint8_t bytes[32];

    return n_bytes <= sizeof bytes && text.n_bytes == 2 * n_bytes && fs_hex_read(text, bytes, n_bytes);
}

/* No part of a path is empty, "." or "..", and none has a control character: what a hub says never leaves the snapshot's folder. */
static bool path_is_safe(const char *path)
{
    if (!*path || strlen(path) > PATH_BYTES_MAX)
        return false;
    for (const char *p = path; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127 || *p == '\\')
            return false;
    for (const char *part = path;;) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        if (!part[n])
            return true;
        part += n + 1;
    }
}

static bool wanted(const fs_pull_options *o, const char *path)
{
    bool in = !o->include || !o->include[0];

    for (size_t i = 0; o->include && o->include[i] && !in; i++)
        in = fnmatch(o->include[i], path, 0) == 0;
    for (size_t i = 0; o->exclude && o->exclude[i] && in; i++)
        in = fnmatch(o->exclude[i], path, 0) != 0;
    return in;
}

static fs_status add_entry(const fs_pull_options *o, struct json_object *entry, fs_pull_list *list, fs_error *err)
{
    struct json_object *lfs = NULL;
    fs_bytes type = { 0 }, path = { 0 }, oid = { 0 };
    fs_pull_file f = { 0 };
    int64_t size = 0;
    fs_status rc;

    if (!json_object_is_type(entry, json_type_object))
        return fs_fail(err, FS_ERR_FORMAT, "the hub's list of files has an entry that is no object");
    rc = fs_json_string(entry, "type", &type, NULL, err);
    if (rc || !fs_bytes_equal(type, FS_BYTES_LIT("file")))
        return rc;
    rc = fs_json_string(entry, "path", &path, NULL, err);
    if (!rc)
        rc = fs_json_int(entry, "size", 0, INT64_MAX / 2, &size, NULL, err);
    lfs = fs_json_member(entry, "lfs");
    f.large = lfs && json_object_is_type(lfs, json_type_object);
    if (!rc)
        rc = fs_json_string(f.large ? lfs : entry, "oid", &oid, NULL, err);
    if (!rc && f.large)
        rc = fs_json_int(lfs, "size", 0, INT64_MAX / 2, &size, NULL, err);
    if (rc)
        return rc;
    if (memchr(path.data ? path.data : (const uint8_t *)"", 0, path.n_bytes) || !(f.path = strndup(path.data ? (const char *)path.data : "", path.n_bytes)) || !path_is_safe(f.path) ||
        !is_hex(oid, f.large ? 32 : 20)) {
        rc = fs_fail(err, FS_ERR_FORMAT, "the hub lists a file '%.80s' whose name or hash is not one", f.path ? f.path : "");
        free(f.path);
        return rc;
    }
    memcpy(f.etag, oid.data, oid.n_bytes);
    f.n_bytes = (uint64_t)size;
    if (!wanted(o, f.path)) {
        free(f.path);
        return FS_OK;
    }
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        fs_pull_file *items = list->n < FILES_MAX ? realloc(list->items, capacity * sizeof *items) : NULL;
        if (!items) {
            free(f.path);
            return list->n < FILES_MAX ? fs_fail_memory(err, capacity * sizeof *items) : fs_fail(err, FS_ERR_FORMAT, "the hub lists more than %d files", FILES_MAX);
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = f;
    return FS_OK;
}

static fs_status list_files(fs_fetch *f, const fs_pull_options *o, const char *base, const char *commit, fs_pull_list *list, fs_error *err)
{
    fs_buf url = { 0 };
    fs_status rc = fs_buf_printf(&url, err, "%s/api/%s/%s/tree/%s?recursive=true&limit=1000", base, o->type, o->id, commit);

    while (!rc) {
        struct json_object *page = NULL;
        rc = get_json(f, o, url.data, &page, err);
        if (!rc && !json_object_is_type(page, json_type_array))
            rc = fs_fail(err, FS_ERR_FORMAT, "%s: the list of files is no list", url.data);
        for (size_t i = 0; !rc && i < json_object_array_length(page); i++)
            rc = add_entry(o, json_object_array_get_idx(page, i), list, err);
        json_object_put(page);
        if (rc || !fs_fetch_link(f, "next", &url))
            break;
    }
    fs_buf_done(&url);
    return rc;
}

static fs_status find_commit(fs_fetch *f, const fs_pull_options *o, const char *base, char ret[41], fs_error *err)
{
    fs_buf url = { 0 };
    struct json_object *info = NULL;
    fs_bytes sha = { 0 };
    fs_status rc = fs_buf_printf(&url, err, "%s/api/%s/%s/revision/", base, o->type, o->id);

    if (!rc)
        rc = fs_url_encode(&url, fs_bytes_str(o->revision ? o->revision : "main"), "", err);
    if (!rc)
        rc = get_json(f, o, url.data, &info, err);
    if (!rc)
        rc = fs_json_string(info, "sha", &sha, NULL, err);
    if (!rc && !is_hex(sha, 20))
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: the commit is none", url.data);
    if (!rc) {
        memcpy(ret, sha.data, 40);
        ret[40] = 0;
    }
    json_object_put(info);
    fs_buf_done(&url);
    return rc;
}

/* ---- the cache ---- */
static fs_status make_folders(const char *path, fs_error *err)
{
    char *p = strdup(path);
    fs_status rc = p ? FS_OK : fs_fail_memory(err, strlen(path));

    for (char *s = p ? p + 1 : NULL; s && !rc; s++) {
        char c = *s;
        if (c != '/' && c)
            continue;
        *s = 0;
        if (mkdir(p, 0777) != 0 && errno != EEXIST)
            rc = fs_fail_errno(err, errno, "cannot make the folder '%s'", p);
        *s = c;
        if (!c)
            break;
    }
    free(p);
    return rc;
}

static fs_status make_parent(const char *path, fs_error *err)
{
    char *parent = strdup(path), *slash = parent ? strrchr(parent, '/') : NULL;
    fs_status rc = parent ? FS_OK : fs_fail_memory(err, strlen(path));

    if (!rc && slash) {
        *slash = 0;
        rc = make_folders(parent, err);
    }
    free(parent);
    return rc;
}

/* snapshots/COMMIT/PATH -> blobs/ETAG, by as many steps up as the path has folders. */
static fs_status link_file(const char *snapshot, const fs_pull_file *f, fs_error *err)
{
    fs_buf to = { 0 }, temp = { 0 };
    char *at = fs_path_join(snapshot, f->path);
    fs_status rc = at ? make_parent(at, err) : fs_fail_memory(err, strlen(f->path));

    if (!rc)
        rc = fs_buf_append_str(&to, "../../", err);
    for (const char *p = f->path; *p && !rc; p++)
        if (*p == '/')
            rc = fs_buf_append_str(&to, "../", err);
    if (!rc)
        rc = fs_buf_printf(&to, err, "blobs/%s", f->etag);
    if (!rc)
        rc = fs_buf_printf(&temp, err, "%s.link-%ld", at, (long)getpid());
    if (!rc) {
        unlink(temp.data);
        if (symlink(to.data, temp.data) != 0 || rename(temp.data, at) != 0)
            rc = fs_fail_errno(err, errno, "cannot make '%s'", at);
    }
    free(at);
    fs_buf_done(&to);
    fs_buf_done(&temp);
    return rc;
}

static fs_status write_ref(const char *repo, const fs_pull_options *o, const char *commit, fs_error *err)
{
    const char *revision = o->revision ? o->revision : "main";
    fs_buf path = { 0 };
    fs_status rc;

    if (!strcmp(revision, commit))
        return FS_OK;
    if (!path_is_safe(revision))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' is no revision's name", revision);
    rc = fs_buf_printf(&path, err, "%s/refs/%s", repo, revision);
    if (!rc)
        rc = make_parent(path.data, err);
    if (!rc)
        rc = fs_file_write_atomic(path.data, fs_bytes_str(commit), err);
    fs_buf_done(&path);
    return rc;
}

static void list_done(fs_pull_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->items[i].path);
    free(l->items);
}

/* ---- all of it ---- */
static fs_status ask(const fs_pull_options *o, char ret_commit[41], fs_pull_list *list, fs_error *err)
{
    fs_fetch *f = NULL;
    fs_status rc = fs_fetch_new("farseek/" FS_VERSION, &f, err), first = FS_ERR_IO;
    fs_error first_err = { 0 };

    for (size_t i = 0; i < o->n_mirrors && !rc; i++) {
        fs_pull_options here = *o;
        here.token = i == 0 ? o->token : NULL;
        rc = find_commit(f, &here, o->mirrors[i], ret_commit, err);
        if (!rc)
            rc = list_files(f, &here, o->mirrors[i], ret_commit, list, err);
        if (!rc || rc == FS_ERR_INTERRUPTED)
            break;
        if (i == 0 && err)
            first_err = *err;
        first = i == 0 ? rc : first;
        rc = FS_OK;
        list_done(list);
        *list = (fs_pull_list){ 0 };
        if (i + 1 == o->n_mirrors) { /* the first one's reason is the one that counts */
            rc = first;
            if (err)
                *err = first_err;
        }
    }
    fs_fetch_free(f);
    return rc;
}

fs_status fs_pull(const fs_pull_options *o, fs_pull_result *ret, fs_error *err)
{
    const char *slash = strchr(o->id, '/');
    char name[256];
    fs_buf repo = { 0 }, blobs = { 0 }, locks = { 0 }, snapshot = { 0 };
    fs_pull_list list = { 0 };
    fs_pull_result r = { 0 };
    fs_status rc;

    if (!slash || snprintf(name, sizeof name, "%s--%.*s--%s", o->type, (int)(slash - o->id), o->id, slash + 1) >= (int)sizeof name || !path_is_safe(name))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is no Hub id (org/name)", o->id);
    rc = ask(o, r.commit, &list, err);
    if (!rc)
        rc = fs_buf_printf(&repo, err, "%s/%s", o->cache, name);
    if (!rc)
        rc = fs_buf_printf(&blobs, err, "%s/blobs", repo.data);
    if (!rc)
        rc = fs_buf_printf(&locks, err, "%s/.locks/%s", o->cache, name);
    if (!rc)
        rc = fs_buf_printf(&snapshot, err, "%s/snapshots/%s", repo.data, r.commit);
    if (!rc)
        rc = make_folders(blobs.data, err);
    if (!rc)
        rc = make_folders(locks.data, err);
    if (!rc)
        rc = make_folders(snapshot.data, err);
    if (!rc)
        rc = fs_pull_blobs(o, r.commit, blobs.data, locks.data, &list, &r, err);
    for (size_t i = 0; i < list.n && !rc; i++)
        rc = link_file(snapshot.data, list.items + i, err);
    if (!rc)
        rc = write_ref(repo.data, o, r.commit, err);
    r.n_files = list.n;
    if (!rc) {
        r.path = snapshot.data;
        snapshot.data = NULL;
        *ret = r;
    }
    list_done(&list);
    fs_buf_done(&repo);
    fs_buf_done(&blobs);
    fs_buf_done(&locks);
    fs_buf_done(&snapshot);
    return rc;
}
