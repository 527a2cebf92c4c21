/* Bare repositories: made, read by revision, and their refs moved. libgit2 reads and writes objects; this file decides when they are on
 * the disk: first every object of a commit, then the ref. */
#include "hub/internal.h"

#include "base/file.h"
#include "base/utf8.h"
#include "net/url.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_MAX  253402300799 /* the end of the year 9999 */
#define SYNC_EACH_MAX 8 /* files; more are synchronised with their whole file system */
#define LOCK_SECONDS  10
#define ORPHAN_MS     2000

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* No configuration but the repository's own decides how it is read. */
static void setup(void)
{
    git_libgit2_init();
    for (int level = GIT_CONFIG_LEVEL_PROGRAMDATA; level <= GIT_CONFIG_LEVEL_GLOBAL; level++)
        git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, level, "");
    git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0);
    git_libgit2_opts(GIT_OPT_ENABLE_CACHING, 0); /* a repository is open for one request */
}

void fs_hub_git_setup(void)
{
    pthread_once(&once, setup);
}

fs_status fs_hub_git_fail(fs_error *err, const char *what)
{
    const git_error *e = git_error_last();
    fs_status code = e && e->klass == GIT_ERROR_NOMEMORY ? FS_ERR_MEMORY : e && e->klass == GIT_ERROR_OS ? FS_ERR_IO : FS_ERR_FORMAT;

    return fs_fail(err, code, "%s: %s", what, e && e->message ? e->message : "git failed");
}

fs_status fs_hub_repo_path(const fs_hub *h, const char *folder, char ret[512], fs_error *err)
{
    if (snprintf(ret, 512, "%s/repos/%.2s/%s.git", h->data, folder, folder) >= 512)
        return fs_fail(err, FS_ERR_ARGUMENT, "the data folder's name is too long");
    return FS_OK;
}

/* ---- objects ---- */

static fs_status remember(fs_hub_objects *o, const git_oid *oid, fs_error *err)
{
    if (o->n == o->capacity) {
        size_t capacity = o->capacity ? 2 * o->capacity : 64;
        git_oid *items = realloc(o->items, capacity * sizeof *items);
        if (!items)
            return fs_fail_memory(err, capacity * sizeof *items);
        o->items = items;
        o->capacity = capacity;
    }
    o->items[o->n++] = *oid;
    return FS_OK;
}

void fs_hub_objects_done(fs_hub_objects *o)
{
    free(o->items);
    *o = (fs_hub_objects){ 0 };
}

fs_status fs_hub_git_write(git_repository *git, git_object_t type, const void *data, size_t n_bytes, fs_hub_objects *written, git_oid *ret, fs_error *err)
{
    git_odb *odb = NULL;
    fs_status rc = FS_OK;

    if (git_repository_odb(&odb, git) != 0 || git_odb_write(ret, odb, data, n_bytes, type) != 0)
        rc = fs_hub_git_fail(err, "cannot write an object");
    git_odb_free(odb);
    return rc ? rc : remember(written, ret, err);
}

static fs_status sync_file(const char *path, fs_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    fs_status rc = FS_OK;

    if (fd < 0)
        return errno == ENOENT ? FS_OK : fs_fail_errno(err, errno, "cannot open '%s'", path); /* within a pack, which git has synchronised */
    if (fsync(fd) != 0)
        rc = fs_fail_errno(err, errno, "cannot write '%s'", path);
    close(fd);
    return rc;
}

fs_status fs_hub_git_sync(const char *path, const fs_hub_objects *written, fs_error *err)
{
    char hex[GIT_OID_HEXSZ + 1], file[700];
    fs_status rc = FS_OK;

    if (written->n > SYNC_EACH_MAX) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return fs_fail_errno(err, errno, "cannot open '%s'", path);
        if (syncfs(fd) != 0)
            rc = fs_fail_errno(err, errno, "cannot write '%s'", path);
        close(fd);
        return rc;
    }
    for (size_t i = 0; i < written->n && !rc; i++) {
        git_oid_tostr(hex, sizeof hex, &written->items[i]);
        snprintf(file, sizeof file, "%s/objects/%.2s/%s", path, hex, hex + 2);
        rc = sync_file(file, err);
        snprintf(file, sizeof file, "%s/objects/%.2s", path, hex);
        if (!rc && fs_file_is_folder(file))
            rc = fs_hub_folder_sync(file, err);
    }
    snprintf(file, sizeof file, "%s/objects", path);
    return rc || !written->n ? rc : fs_hub_folder_sync(file, err);
}

/* ---- refs ---- */

int64_t fs_hub_commit_ms(const git_commit *commit)
{
    git_time_t seconds = git_commit_time(commit);

    return 1000 * (int64_t)(seconds < 0 ? 0 : seconds > SECONDS_MAX ? SECONDS_MAX : seconds);
}

bool fs_hub_ref_name_is_valid(const char *name)
{
    char full[256];
    int valid = 0;

    if (strlen(name) > 200 || snprintf(full, sizeof full, "refs/heads/%s", name) >= (int)sizeof full || name[0] == '-' || strncmp(name, "refs/", 5) == 0)
        return false;
    if (strlen(name) == GIT_OID_HEXSZ && strspn(name, "0123456789abcdef") == GIT_OID_HEXSZ) /* would hide a commit */
        return false;
    return git_reference_name_is_valid(&valid, full) == 0 && valid;
}

/* What ref says now; a zero id: it is not there. */
static fs_status ref_get(git_repository *git, const char *ref, git_oid *ret, fs_error *err)
{
    int rc = git_reference_name_to_id(ret, git, ref);

    if (rc == GIT_ENOTFOUND) {
        memset(ret, 0, sizeof *ret);
        return FS_OK;
    }
    return rc == 0 ? FS_OK : fs_hub_git_fail(err, "cannot read a ref");
}

/* A lock that a killed process left is older than the hub, and a child of that process had time to end; *ret_waits: the latter not yet. One thread at a time: the one that is
 * made in its place is nobody's orphan. */
static bool drop_orphan(const fs_hub *h, const char *lock, bool *ret_waits)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct stat st;
    bool dropped = false;

    *ret_waits = false;
    pthread_mutex_lock(&mutex);
    if (lstat(lock, &st) == 0) {
        int64_t made_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
        *ret_waits = made_ms < h->opened_ms && fs_unix_ms() - made_ms <= ORPHAN_MS;
        dropped = made_ms < h->opened_ms && !*ret_waits && unlink(lock) == 0;
    }
    pthread_mutex_unlock(&mutex);
    return dropped;
}

static void pause_shortly(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 10 * 1000 * 1000 }, NULL);
}

static fs_status drop_lock(void *ud, const char *path, const char *name, fs_error *err)
{
    bool waits = true;

    if (fs_file_is_folder(path))
        return fs_hub_each(path, drop_lock, ud, err);
    while (waits && fs_ends_with(name, ".lock") && !drop_orphan(ud, path, &waits))
        if (waits)
            pause_shortly();
    return FS_OK;
}

void fs_hub_locks_drop(fs_hub *h, const char *path)
{
    static const char *const names[] = { "HEAD.lock", "packed-refs.lock", "config.lock", "shallow.lock" };
    char file[700];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(file, sizeof file, "%s/%s", path, names[i]);
        drop_lock(h, file, names[i], NULL);
    }
    snprintf(file, sizeof file, "%s/refs", path);
    fs_hub_each(file, drop_lock, h, NULL);
}

/* Takes path.lock, as git does. */
static fs_status lock_ref(const fs_hub *h, const char *lock, int *ret_fd, fs_error *err)
{
    for (int tries = 0; tries < LOCK_SECONDS * 100; tries++) {
        bool waits;
        int fd = open(lock, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0) {
            *ret_fd = fd;
            return FS_OK;
        }
        if (errno != EEXIST)
            return fs_fail_errno(err, errno, "cannot make '%s'", lock);
        if (!drop_orphan(h, lock, &waits))
            pause_shortly();
    }
    return fs_fail(err, FS_ERR_IO, "'%s' stayed locked for %d s", lock, LOCK_SECONDS);
}

fs_status fs_hub_ref_set(const fs_hub *h, const char *path, git_repository *git, const char *ref, const git_oid *old, const git_oid *new, fs_error *err)
{
    char file[800], lock[820], hex[GIT_OID_HEXSZ + 2], *slash;
    git_oid now;
    int fd = -1;
    fs_status rc;

    snprintf(file, sizeof file, "%s/%s", path, ref);
    snprintf(lock, sizeof lock, "%s.lock", file);
    slash = strrchr(file, '/');
    *slash = 0;
    rc = fs_hub_folders_make(file, err);
    if (!rc)
        rc = lock_ref(h, lock, &fd, err);
    if (rc)
        return rc;
    *slash = '/';
    rc = ref_get(git, ref, &now, err);
    if (!rc && (old ? !git_oid_equal(&now, old) : !git_oid_is_zero(&now)))
        rc = fs_fail(err, FS_ERR_ARGUMENT, old ? "'%s' was moved meanwhile" : "'%s' is there already", ref);
    git_oid_tostr(hex, sizeof hex, new);
    hex[GIT_OID_HEXSZ] = '\n';
    if (!rc)
        rc = fs_fd_write(fd, lock, hex, GIT_OID_HEXSZ + 1, err);
    if (!rc && fsync(fd) != 0)
        rc = fs_fail_errno(err, errno, "cannot write '%s'", lock);
    close(fd);
    if (!rc && fs_file_is_folder(file))
        rmdir(file); /* what is left of removed refs below it */
    if (!rc && rename(lock, file) != 0)
        rc = errno == EISDIR || errno == ENOTDIR || errno == ENOTEMPTY || errno == EEXIST
                 ? fs_fail(err, FS_ERR_ARGUMENT, "'%s' cannot stand beside refs below it", ref)
                 : fs_fail_errno(err, errno, "cannot write '%s'", file);
    if (rc) {
        unlink(lock);
        return rc;
    }
    *slash = 0;
    return fs_hub_folder_sync(file, err);
}

fs_status fs_hub_ref_remove(const char *path, git_repository *git, const char *ref, fs_error *err)
{
    char folder[800];
    git_reference *r = NULL;
    fs_status rc = FS_OK;
    int found = git_reference_lookup(&r, git, ref);

    if (found == GIT_ENOTFOUND)
        return fs_fail(err, FS_ERR_NOT_FOUND, "there is no '%s'", ref);
    if (found != 0 || git_reference_delete(r) != 0)
        rc = fs_hub_git_fail(err, "cannot remove a ref");
    git_reference_free(r);
    snprintf(folder, sizeof folder, "%s/refs", path);
    return rc ? rc : fs_hub_folder_sync(folder, err);
}

/* ---- revisions ---- */

static bool commit_of(git_repository *git, const git_oid *oid, git_oid *ret)
{
    git_object *o = NULL, *commit = NULL;
    bool ok = git_object_lookup(&o, git, oid, GIT_OBJECT_ANY) == 0 && git_object_peel(&commit, o, GIT_OBJECT_COMMIT) == 0;

    if (ok)
        *ret = *git_object_id(commit);
    git_object_free(commit);
    git_object_free(o);
    return ok;
}

fs_status fs_hub_rev_find(git_repository *git, const char *rev, git_oid *ret, char ret_ref[256], fs_error *err)
{
    static const char *const patterns[] = { "refs/heads/%s", "refs/tags/%s" };
    char name[256];
    git_oid oid;
    int valid = 0;

    if (ret_ref)
        ret_ref[0] = 0;
    if (strncmp(rev, "refs/", 5) == 0) {
        if (strlen(rev) < sizeof name && git_reference_name_is_valid(&valid, rev) == 0 && valid && git_reference_name_to_id(&oid, git, rev) == 0 &&
            commit_of(git, &oid, ret)) {
            if (ret_ref && strncmp(rev, "refs/tags/", 10) != 0)
                snprintf(ret_ref, 256, "%s", rev);
            return FS_OK;
        }
        return fs_fail(err, FS_ERR_NOT_FOUND, "Invalid rev id: %.100s", rev);
    }
    if (fs_hub_ref_name_is_valid(rev))
        for (int i = 0; i < 2; i++) {
            snprintf(name, sizeof name, patterns[i], rev);
            if (git_reference_name_to_id(&oid, git, name) == 0 && commit_of(git, &oid, ret)) {
                if (ret_ref && i == 0)
                    snprintf(ret_ref, 256, "%s", name);
                return FS_OK;
            }
        }
    if (strlen(rev) >= 7 && strlen(rev) <= GIT_OID_HEXSZ && strspn(rev, "0123456789abcdef") == strlen(rev)) {
        git_commit *commit = NULL;
        if (git_oid_fromstrn(&oid, rev, strlen(rev)) == 0 && git_commit_lookup_prefix(&commit, git, &oid, strlen(rev)) == 0) {
            *ret = *git_commit_id(commit);
            git_commit_free(commit);
            return FS_OK;
        }
    }
    return fs_fail(err, FS_ERR_NOT_FOUND, "Invalid rev id: %.100s", rev);
}

fs_status fs_hub_commit_tree(git_repository *git, const git_oid *commit, git_oid *ret, fs_error *err)
{
    git_commit *c = NULL;

    if (git_commit_lookup(&c, git, commit) != 0)
        return fs_hub_git_fail(err, "cannot read a commit");
    *ret = *git_commit_tree_id(c);
    git_commit_free(c);
    return FS_OK;
}

fs_status fs_hub_entry_find(git_repository *git, const git_oid *tree, const char *path, git_oid *ret, git_object_t *ret_type, fs_error *err)
{
    git_tree *t = NULL;
    git_tree_entry *entry = NULL;
    fs_status rc = FS_OK;
    int found;

    if (!*path) {
        *ret = *tree;
        *ret_type = GIT_OBJECT_TREE;
        return FS_OK;
    }
    if (git_tree_lookup(&t, git, tree) != 0)
        return fs_hub_git_fail(err, "cannot read a tree");
    found = fs_hub_path_is_valid(path) ? git_tree_entry_bypath(&entry, t, path) : GIT_ENOTFOUND;
    if (found == 0) {
        *ret = *git_tree_entry_id(entry);
        *ret_type = git_tree_entry_type(entry);
    } else {
        rc = found == GIT_ENOTFOUND ? fs_fail(err, FS_ERR_NOT_FOUND, "Entry not found: %.200s", path) : fs_hub_git_fail(err, "cannot read a tree");
    }
    git_tree_entry_free(entry);
    git_tree_free(t);
    return rc;
}

bool fs_hub_path_is_valid(const char *path)
{
    size_t n_path = strlen(path);

    if (n_path < 1 || n_path > 2048 || !fs_utf8_valid(fs_bytes_str(path)))
        return false;
    for (const char *p = path;; p++) {
        size_t n = strcspn(p, "/");
        if (n == 0 || n > 255 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.') || (n == 4 && strncasecmp(p, ".git", 4) == 0) ||
            (n == 5 && strncasecmp(p, "git~1", 5) == 0))
            return false;
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f || p[i] == '\\')
                return false;
        p += n;
        if (!*p)
            return true;
    }
}

/* ---- a new repository ---- */

static int open_repos(const fs_hub *h)
{
    char path[400];

    snprintf(path, sizeof path, "%s/repos", h->data);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

fs_status fs_hub_making_begin(const fs_hub *h, int *ret_making, fs_error *err)
{
    int fd = open_repos(h);

    *ret_making = -1;
    while (fd >= 0 && flock(fd, LOCK_SH) != 0)
        if (errno != EINTR) {
            int why = errno;
            close(fd);
            errno = why;
            fd = -1;
        }
    if (fd < 0)
        return fs_fail_errno(err, errno, "cannot open the folder of repositories");
    *ret_making = fd;
    return FS_OK;
}

void fs_hub_making_end(int making)
{
    if (making >= 0)
        close(making);
}

bool fs_hub_making_nobody(const fs_hub *h)
{
    int fd = open_repos(h);
    bool nobody = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;

    fs_hub_making_end(fd);
    return nobody;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    remove(path);
    return 0;
}

void fs_hub_tree_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void fs_hub_git_remove(const fs_hub *h, const char *folder)
{
    char path[512];

    if (strlen(folder) >= 2 && fs_hub_repo_path(h, folder, path, NULL) == FS_OK)
        fs_hub_tree_remove(path);
}

fs_status fs_hub_commit_write(git_repository *git, const git_oid *tree, const git_oid *parents, size_t n_parents, const char *author, const char *message,
                              fs_hub_objects *written, git_oid *ret, fs_error *err)
{
    char hex[GIT_OID_HEXSZ + 1];
    fs_buf text = { 0 };
    long long now = time(NULL);
    fs_status rc;

    git_oid_tostr(hex, sizeof hex, tree);
    rc = fs_buf_printf(&text, err, "tree %s\n", hex);
    for (size_t i = 0; i < n_parents && !rc; i++) {
        git_oid_tostr(hex, sizeof hex, &parents[i]);
        rc = fs_buf_printf(&text, err, "parent %s\n", hex);
    }
    if (!rc)
        rc = fs_buf_printf(&text, err, "author %s <%s@users.noreply.hub> %lld +0000\ncommitter %s <%s@users.noreply.hub> %lld +0000\n\n", author, author, now,
                           author, author, now);
    if (!rc)
        rc = fs_buf_append_str(&text, message, err);
    if (!rc && !fs_ends_with(message, "\n"))
        rc = fs_buf_append_str(&text, "\n", err);
    if (!rc)
        rc = fs_hub_git_write(git, GIT_OBJECT_COMMIT, text.data, text.n_bytes, written, ret, err);
    fs_buf_done(&text);
    return rc;
}

static fs_status first_commit(git_repository *git, const char *author, fs_hub_objects *written, git_oid *ret, fs_error *err)
{
    fs_hub_edits edits = { 0 };
    git_oid blob, tree;
    fs_status rc = fs_hub_git_write(git, GIT_OBJECT_BLOB, fs_hub_attributes_default, strlen(fs_hub_attributes_default), written, &blob, err);

    if (!rc)
        rc = fs_hub_edits_add(&edits, ".gitattributes", false, &blob, err);
    if (!rc)
        rc = fs_hub_tree_edit(git, NULL, &edits, written, &tree, err);
    if (!rc)
        rc = fs_hub_commit_write(git, &tree, NULL, 0, author, "initial commit", written, ret, err);
    fs_hub_edits_done(&edits);
    return rc;
}

fs_status fs_hub_git_init(const fs_hub *h, const char *folder, const char *author, char ret_sha[41], fs_error *err)
{
    git_repository_init_options options;
    fs_hub_objects written = { 0 };
    git_repository *git = NULL;
    git_oid head;
    char path[512], *slash;
    fs_status rc = fs_hub_repo_path(h, folder, path, err);

    git_repository_init_options_init(&options, GIT_REPOSITORY_INIT_OPTIONS_VERSION);
    options.flags = GIT_REPOSITORY_INIT_BARE | GIT_REPOSITORY_INIT_NO_REINIT | GIT_REPOSITORY_INIT_MKDIR;
    options.initial_head = "main";
    slash = strrchr(path, '/');
    *slash = 0;
    if (!rc)
        rc = fs_hub_folders_make(path, err);
    *slash = '/';
    if (!rc && git_repository_init_ext(&git, path, &options) != 0)
        rc = fs_hub_git_fail(err, "cannot make a repository");
    if (!rc)
        rc = first_commit(git, author, &written, &head, err);
    if (!rc)
        rc = fs_hub_ref_set(h, path, git, "refs/heads/main", NULL, &head, err);
    if (!rc) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* its config, its HEAD and a dozen folders */
        if (fd < 0 || syncfs(fd) != 0)
            rc = fs_fail_errno(err, errno, "cannot write '%s'", path);
        if (fd >= 0)
            close(fd);
    }
    if (!rc)
        git_oid_tostr(ret_sha, 41, &head);
    git_repository_free(git);
    fs_hub_objects_done(&written);
    if (rc)
        fs_hub_git_remove(h, folder);
    return rc;
}
