/* Files by revision and path: what every download goes through. A small file comes out of git, a large one out of the store by sendfile. */
#include "hub/blobs.h"
#include "hub/through.h"
#include "hub/torrents.h"

#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A whole file of a stranger's never runs or renders as a page of the hub. */
static void guard(fs_hub_call *c)
{
    fs_http_reply_header(c->http, "X-Content-Type-Options", "nosniff");
    fs_http_reply_header(c->http, "Content-Security-Policy", "default-src 'none'; sandbox");
    fs_http_reply_header(c->http, "Accept-Ranges", "bytes");
}

/* Pictures that cards show; what could run in a browser (SVG, HTML) is none. */
static const char *picture_type(const char *path)
{
    static const char *const types[][2] = { { ".png", "image/png" }, { ".jpg", "image/jpeg" }, { ".jpeg", "image/jpeg" }, { ".gif", "image/gif" }, { ".webp", "image/webp" } };

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (fs_ends_with(path, types[i][0]))
            return types[i][1];
    return NULL;
}

bool fs_hub_need_range(fs_hub_call *c, uint64_t n_bytes, uint64_t *ret_begin, uint64_t *ret_n, int *ret_status)
{
    fs_http_range ranges[FS_HTTP_RANGES_MAX];
    int n = fs_http_ranges(fs_http_header(c->http, "Range"), n_bytes, ranges);

    guard(c);
    *ret_begin = 0;
    *ret_n = n_bytes;
    *ret_status = 200;
    if (n < 0) {
        fs_http_reply_headerf(c->http, "Content-Range", "bytes */%llu", (unsigned long long)n_bytes);
        fs_hub_error(c, 416, NULL, "the file has %llu bytes", (unsigned long long)n_bytes);
        return false;
    }
    if (n == 1) {
        *ret_begin = ranges[0].begin;
        *ret_n = ranges[0].n_bytes;
        *ret_status = 206;
        fs_http_reply_headerf(c->http, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)*ret_begin, (unsigned long long)(*ret_begin + *ret_n - 1),
                              (unsigned long long)n_bytes);
    }
    return true;
}

void fs_hub_send_file(fs_hub_call *c, int fd, uint64_t n_bytes, const char *type)
{
    uint64_t begin, n;
    int status;

    if (fs_hub_need_range(c, n_bytes, &begin, &n, &status)) {
        c->replied = true;
        fs_http_reply_fd(c->http, status, type ? type : "application/octet-stream", fd, begin, n);
    } else {
        close(fd);
    }
}

/* A hole in a file without a name, so that it takes neither memory nor disk. */
void fs_hub_send_size(fs_hub_call *c, uint64_t n_bytes, const char *type)
{
    char path[600];
    int fd;

    snprintf(path, sizeof path, "%s/parts", c->hub->data);
    fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)n_bytes) != 0) {
        fs_hub_failed(c, fs_fail_errno(&c->err, errno, "cannot make a file in '%s'", path));
        if (fd >= 0)
            close(fd);
        return;
    }
    fs_hub_send_file(c, fd, n_bytes, type);
}

static void send_blob(fs_hub_call *c, const git_oid *oid, const char *type)
{
    git_blob *blob = NULL;
    uint64_t begin, n;
    int status;

    if (git_blob_lookup(&blob, c->git, oid) != 0) {
        fs_hub_failed(c, fs_hub_git_fail(&c->err, "cannot read a file"));
        return;
    }
    if (fs_hub_need_range(c, (uint64_t)git_blob_rawsize(blob), &begin, &n, &status)) {
        c->replied = true;
        fs_http_reply(c->http, status, type ? type : "text/plain; charset=utf-8", (const uint8_t *)git_blob_rawcontent(blob) + begin, (size_t)n);
    }
    git_blob_free(blob);
}

static void send_large(fs_hub_call *c, const fs_hub_file *f, const char *commit, const char *type)
{
    uint64_t n_bytes = 0;
    bool held = false, lazy = fs_through_is_lazy(c->hub, c->db, c->repo.id);

    if (fs_hub_failed(c, fs_hub_object_of(c->hub, c->db, c->repo.id, f->sha256, &held, &n_bytes, &c->err)))
        return;
    if (!held) {
        if (!lazy) {
            fs_hub_error(c, 404, "EntryNotFound", "the file's content %s is not in this hub", f->sha256);
            return;
        }
        fs_http_reply_headerf(c->http, "X-Linked-Etag", "\"%s\"", f->sha256);
        fs_http_reply_headerf(c->http, "X-Linked-Size", "%llu", (unsigned long long)f->n_bytes);
        fs_through_send(c, c->repo.id, f->sha256, f->n_bytes, type);
        return;
    }
    if (lazy)
        fs_through_used(c->hub, c->db, f->sha256);
    fs_http_reply_headerf(c->http, "X-Linked-Etag", "\"%s\"", f->sha256);
    fs_http_reply_headerf(c->http, "X-Linked-Size", "%llu", (unsigned long long)n_bytes);
    fs_hub_xet_headers(c, commit, f->sha256);
    c->hub->store->send(c, FS_BLOB_OBJECT, f->sha256, n_bytes, type);
}

void fs_hub_resolve(fs_hub_call *c)
{
    int n = fs_http_n_params(c->http);
    const char *rev = fs_http_param(c->http, n - 2), *raw = fs_http_param(c->http, n - 1);
    char *path = malloc(strlen(raw) + 1), hex[GIT_OID_HEXSZ + 1], commit_hex[GIT_OID_HEXSZ + 1];
    git_oid commit, tree, oid;
    git_object_t type = GIT_OBJECT_INVALID;
    fs_hub_file f;
    uint64_t n_padding;
    fs_status rc;

    if (!path || !fs_url_decode(fs_bytes_str(raw), false, path)) {
        fs_hub_error(c, 400, NULL, "a broken path");
        goto out;
    }
    if (!fs_hub_need_repo_path(c, 2, FS_HUB_READ) || !fs_hub_need_open(c) || !fs_hub_need_rev(c, rev, &commit, NULL) ||
        fs_hub_failed(c, fs_hub_commit_tree(c->git, &commit, &tree, &c->err)))
        goto out;
    git_oid_tostr(commit_hex, sizeof commit_hex, &commit);
    fs_http_reply_header(c->http, "X-Repo-Commit", commit_hex);
    rc = fs_hub_entry_find(c->git, &tree, path, &oid, &type, &c->err);
    if (rc == FS_ERR_NOT_FOUND && fs_torrent_is_padding(path, &n_padding)) {
        fs_hub_send_size(c, n_padding, NULL); /* what stands between the files of a torrent: clients that do not know padding fetch it as a file */
        goto out;
    }
    if (rc == FS_ERR_NOT_FOUND || (!rc && type != GIT_OBJECT_BLOB)) {
        fs_hub_error(c, 404, "EntryNotFound", "Entry not found");
        goto out;
    }
    if (!rc)
        rc = fs_hub_file_read(c->git, &oid, &f, &c->err);
    if (fs_hub_failed(c, rc))
        goto out;
    fs_hub_download_count(c, path);
    git_oid_tostr(hex, sizeof hex, &oid);
    fs_http_reply_headerf(c->http, "ETag", "\"%s\"", f.lfs ? f.sha256 : hex);
    if (f.lfs)
        send_large(c, &f, commit_hex, picture_type(path));
    else
        send_blob(c, &oid, picture_type(path));
out:
    free(path);
}
