/* See the header. */
#include "hub/remote.h"

#include "crypto/sha256.h"
#include "net/url.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLY_BYTES_MAX ((size_t)32 << 20)
#define FILES_MAX       1000000
#define PATH_BYTES_MAX  1000
#define PAGES_MAX       2000

fs_status fs_remote_refused(const fs_remote *o, const char *url, fs_error *err)
{
    fs_fetch *f = o->fetch;
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

fs_status fs_remote_json(const fs_remote *o, const char *url, struct json_object **ret, fs_error *err)
{
    fs_buf text = { 0 };
    const char *token = fs_fetch_same_origin(url, o->base) ? o->token : NULL; /* the next page's address is what a reply says */
    fs_status rc = fs_fetch_whole(o->fetch, &(fs_fetch_request){ .url = url, .token = token }, REPLY_BYTES_MAX, &text, err);

    if (!rc && fs_fetch_status(o->fetch) != 200)
        rc = fs_remote_refused(o, url, err);
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

bool fs_remote_path_is_safe(const char *path)
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

static bool fits(const char *path, const char *const *globs)
{
    for (size_t i = 0; globs && globs[i]; i++)
        if (fnmatch(globs[i], path, 0) == 0)
            return true;
    return false;
}

bool fs_remote_wants(const char *path, const char *const *include, const char *const *exclude)
{
    return (!include || !include[0] || fits(path, include)) && !fits(path, exclude);
}

static fs_status add_entry(struct json_object *entry, const char *const *include, const char *const *exclude, fs_remote_list *list, fs_error *err)
{
    struct json_object *lfs = NULL;
    fs_bytes type = { 0 }, path = { 0 }, oid = { 0 };
    fs_remote_file f = { 0 };
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
    if (memchr(path.data ? path.data : (const uint8_t *)"", 0, path.n_bytes) || !(f.path = strndup(path.data ? (const char *)path.data : "", path.n_bytes)) || !fs_remote_path_is_safe(f.path) ||
        !is_hex(oid, f.large ? 32 : 20)) {
        rc = fs_fail(err, FS_ERR_FORMAT, "the hub lists a file '%.80s' whose name or hash is not one", f.path ? f.path : "");
        free(f.path);
        return rc;
    }
    memcpy(f.etag, oid.data, oid.n_bytes);
    f.n_bytes = (uint64_t)size;
    if (!fs_remote_wants(f.path, include, exclude)) {
        free(f.path);
        return FS_OK;
    }
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        fs_remote_file *items = list->n < FILES_MAX ? realloc(list->items, capacity * sizeof *items) : NULL;
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

fs_status fs_remote_files(const fs_remote *o, const char *commit, const char *const *include, const char *const *exclude, fs_remote_list *list, fs_error *err)
{
    fs_buf url = { 0 };
    fs_status rc = fs_buf_printf(&url, err, "%s/api/%s/%s/tree/%s?recursive=true&limit=1000", o->base, o->type, o->id, commit);

    for (int n = 0; !rc; n++) {
        struct json_object *page = NULL;
        if (n == PAGES_MAX)
            rc = fs_fail(err, FS_ERR_FORMAT, "%s: the list of files has no end after %d pages", url.data, n);
        if (!rc)
            rc = fs_remote_json(o, url.data, &page, err);
        if (!rc && !json_object_is_type(page, json_type_array))
            rc = fs_fail(err, FS_ERR_FORMAT, "%s: the list of files is no list", url.data);
        if (!rc && n > 0 && json_object_array_length(page) == 0)
            rc = fs_fail(err, FS_ERR_FORMAT, "%s: the list of files goes on with nothing", url.data);
        for (size_t i = 0; !rc && i < json_object_array_length(page); i++)
            rc = add_entry(json_object_array_get_idx(page, i), include, exclude, list, err);
        json_object_put(page);
        if (rc || !fs_fetch_link(o->fetch, "next", &url))
            break;
    }
    fs_buf_done(&url);
    return rc;
}

fs_status fs_remote_commit(const fs_remote *o, char ret[41], fs_error *err)
{
    fs_buf url = { 0 };
    struct json_object *info = NULL;
    fs_bytes sha = { 0 };
    fs_status rc = fs_buf_printf(&url, err, "%s/api/%s/%s/revision/", o->base, o->type, o->id);

    if (!rc)
        rc = fs_url_encode(&url, fs_bytes_str(o->revision ? o->revision : "main"), "", err);
    if (!rc)
        rc = fs_remote_json(o, url.data, &info, err);
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

void fs_remote_list_done(fs_remote_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->items[i].path);
    free(l->items);
    *l = (fs_remote_list){ 0 };
}
