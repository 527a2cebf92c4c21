/* The bytes of a repository's file, wherever they are: a blob's, or a large file's, mapped. */
#include "hub/blobs.h"

#include <unistd.h>

fs_status fs_hub_object_map(const fs_hub *h, const char *sha256, fs_map *ret, fs_error *err)
{
    uint64_t n_bytes;
    int fd;
    fs_status rc = fs_hub_object_open(h, sha256, &fd, &n_bytes, err);

    if (rc)
        return rc;
    rc = fs_map_fd(ret, fd, (size_t)n_bytes, "an object", err);
    close(fd);
    return rc;
}

static fs_status map_head(const fs_hub *h, const char *sha256, uint64_t n_bytes, fs_map *ret, fs_error *err)
{
    int fd;
    fs_status rc = h->store->open_head(h, FS_BLOB_OBJECT, sha256, n_bytes, &fd, err);

    if (rc)
        return rc;
    rc = fs_map_fd(ret, fd, (size_t)n_bytes, "an object", err);
    close(fd);
    return rc;
}

static fs_status open_content(fs_hub_call *c, const fs_hub_file *f, bool head, fs_hub_content *ret, fs_error *err)
{
    uint64_t n_bytes = 0;
    bool held = false;
    fs_status rc;

    *ret = (fs_hub_content){ 0 };
    if (!f->lfs) {
        if (git_blob_lookup(&ret->blob, c->git, &f->oid) != 0)
            return fs_hub_git_fail(err, "cannot read a file");
        ret->bytes = (fs_bytes){ git_blob_rawcontent(ret->blob), (size_t)git_blob_rawsize(ret->blob) };
        return FS_OK;
    }
    rc = fs_hub_object_of(c->hub, c->db, c->repo.id, f->sha256, &held, &n_bytes, err);
    if (!rc && !held)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "the content of a large file is not in this hub");
    if (!rc)
        rc = head ? map_head(c->hub, f->sha256, n_bytes, &ret->map, err) : fs_hub_object_map(c->hub, f->sha256, &ret->map, err);
    ret->bytes = ret->map.bytes;
    return rc;
}

fs_status fs_hub_content_open(fs_hub_call *c, const fs_hub_file *f, fs_hub_content *ret, fs_error *err)
{
    return open_content(c, f, false, ret, err);
}

fs_status fs_hub_content_open_head(fs_hub_call *c, const fs_hub_file *f, fs_hub_content *ret, fs_error *err)
{
    return open_content(c, f, true, ret, err);
}

void fs_hub_content_done(fs_hub_content *x)
{
    git_blob_free(x->blob);
    fs_map_close(&x->map);
    *x = (fs_hub_content){ 0 };
}

fs_status fs_hub_file_find(git_repository *git, const git_oid *tree, const char *path, fs_hub_file *ret, fs_error *err)
{
    git_oid oid;
    git_object_t type;
    fs_status rc = fs_hub_entry_find(git, tree, path, &oid, &type, err);

    if (!rc && type != GIT_OBJECT_BLOB)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "'%.200s' is no file", path);
    return rc ? rc : fs_hub_file_read(git, &oid, ret, err);
}
