/* See the header. */
#include "hub/pull_internal.h"

#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the cache ---- */
static fs_status make_parent(const char *path, fs_error *err)
{
    char *parent = strdup(path), *slash = parent ? strrchr(parent, '/') : NULL;
    fs_status rc = parent ? FS_OK : fs_fail_memory(err, strlen(path));

    if (!rc && slash) {
        *slash = 0;
        rc = fs_folder_make(parent, 0777, err);
    }
    free(parent);
    return rc;
}

/* snapshots/COMMIT/PATH -> blobs/ETAG, by as many steps up as the path has folders. */
static fs_status link_file(const char *snapshot, const fs_remote_file *f, fs_error *err)
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
    if (!fs_remote_path_is_safe(revision))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' is no revision's name", revision);
    rc = fs_buf_printf(&path, err, "%s/refs/%s", repo, revision);
    if (!rc)
        rc = make_parent(path.data, err);
    if (!rc)
        rc = fs_file_write_atomic(path.data, fs_bytes_str(commit), err);
    fs_buf_done(&path);
    return rc;
}

/* ---- all of it ---- */
static fs_status ask(const fs_pull_options *o, char ret_commit[41], fs_remote_list *list, fs_error *err)
{
    fs_remote r = { .type = o->type, .id = o->id, .revision = o->revision };
    fs_status rc = fs_fetch_new("farseek/" FS_VERSION, &r.fetch, err), first = FS_ERR_IO;
    fs_error first_err = { 0 };

    for (size_t i = 0; i < o->n_mirrors && !rc; i++) {
        r.base = o->mirrors[i];
        r.token = i == 0 ? o->token : NULL;
        rc = fs_remote_commit(&r, ret_commit, err);
        if (!rc)
            rc = fs_remote_files(&r, ret_commit, o->include, o->exclude, list, err);
        if (!rc || rc == FS_ERR_INTERRUPTED)
            break;
        if (i == 0 && err)
            first_err = *err;
        first = i == 0 ? rc : first;
        rc = FS_OK;
        fs_remote_list_done(list);
        if (i + 1 == o->n_mirrors) { /* the first one's reason is the one that counts */
            rc = first;
            if (err)
                *err = first_err;
        }
    }
    fs_fetch_free(r.fetch);
    return rc;
}

fs_status fs_pull(const fs_pull_options *o, fs_pull_result *ret, fs_error *err)
{
    const char *slash = strchr(o->id, '/');
    char name[256];
    fs_buf repo = { 0 }, blobs = { 0 }, locks = { 0 }, snapshot = { 0 };
    fs_remote_list list = { 0 };
    fs_pull_result r = { 0 };
    fs_status rc;

    if (!slash || snprintf(name, sizeof name, "%s--%.*s--%s", o->type, (int)(slash - o->id), o->id, slash + 1) >= (int)sizeof name || !fs_remote_path_is_safe(name))
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
        rc = fs_folder_make(blobs.data, 0777, err);
    if (!rc)
        rc = fs_folder_make(locks.data, 0777, err);
    if (!rc)
        rc = fs_folder_make(snapshot.data, 0777, err);
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
    fs_remote_list_done(&list);
    fs_buf_done(&repo);
    fs_buf_done(&blobs);
    fs_buf_done(&locks);
    fs_buf_done(&snapshot);
    return rc;
}
