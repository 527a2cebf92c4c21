/* Forks: a repository under another name, with the branches, tags and large files of the one that it comes from, and no byte of them copied: git's objects are
 * linked, since they never change, and large files are held by one repository more. From there on the two have nothing to do with each other; where a fork comes
 * from is kept. Pull requests and discussions stay behind; what is said against revisions comes along. */
#include "hub/internal.h"

#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Branches and tags, alone. */
static fs_status drop_other_refs(const char *path, fs_error *err)
{
    git_repository *git = NULL;
    git_strarray names = { 0 };
    fs_status rc = FS_OK;

    if (git_repository_open_ext(&git, path, GIT_REPOSITORY_OPEN_NO_SEARCH | GIT_REPOSITORY_OPEN_BARE | GIT_REPOSITORY_OPEN_NO_DOTGIT, NULL) != 0 ||
        git_reference_list(&names, git) != 0)
        rc = fs_hub_git_fail(err, "cannot read the fork");
    for (size_t i = 0; i < names.count && !rc; i++)
        if (strncmp(names.strings[i], "refs/heads/", 11) != 0 && strncmp(names.strings[i], "refs/tags/", 10) != 0)
            rc = fs_hub_ref_remove(path, git, names.strings[i], err);
    git_strarray_dispose(&names);
    git_repository_free(git);
    return rc;
}

static fs_status copy_git(fs_hub *h, const fs_hub_repo *from, const char *folder, fs_error *err)
{
    fs_hub_backup_result r = { 0 };
    char source[512], path[512], *slash;
    fs_status rc = fs_hub_repo_path(h, from->folder, source, err);
    int fd;

    if (!rc)
        rc = fs_hub_repo_path(h, folder, path, err);
    if (rc)
        return rc;
    slash = strrchr(path, '/');
    *slash = 0;
    rc = fs_hub_folders_make(path, err);
    *slash = '/';
    if (!rc)
        rc = fs_hub_git_copy(source, path, &r, err);
    if (!rc)
        rc = drop_other_refs(path, err);
    if (rc)
        return rc;
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* some hundred names */
    if (fd < 0 || syncfs(fd) != 0)
        rc = fs_fail_errno(err, errno, "cannot write '%s'", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* What the owner does not store yet must fit in the quota. */
static fs_status check_quota(sqlite3 *db, int64_t from, int64_t owner, fs_error *err)
{
    int64_t quota, used = 0, loose = 0, more = 0;
    fs_status rc = fs_hub_quota_of(db, owner, &quota, &used, &loose, err);

    if (rc || quota < 0)
        return rc;
    rc = fs_db_int(db, &more, NULL, err,
                   "SELECT coalesce(sum(size), 0) FROM objects WHERE oid IN (SELECT oid FROM repo_objects WHERE repo = ?1) AND oid NOT IN"
                   " (SELECT oid FROM repo_objects ro JOIN repos r ON r.id = ro.repo WHERE r.owner = ?2)",
                   "ii", from, owner);
    return rc || more <= quota - used - loose ? rc : fs_fail(err, FS_ERR_ARGUMENT, FS_HUB_QUOTA_USED);
}

static fs_status write_rows(sqlite3 *db, const fs_hub_fork_options *o, const char *folder, int64_t *ret_id, bool *ret_taken, fs_error *err)
{
    static const char *const copies[] = {
        "INSERT INTO repo_objects(oid, repo) SELECT oid, ?1 FROM repo_objects WHERE repo = ?2",
        "INSERT INTO repo_tags(tag, repo) SELECT tag, ?1 FROM repo_tags WHERE repo = ?2",
        "INSERT INTO advisories(repo, rev, sentence, account, created_ms) SELECT ?1, rev, sentence, account, created_ms FROM advisories WHERE repo = ?2",
        /* Of a copy the hub that it comes from, under its name there. */
        "INSERT INTO forks(repo, source, hub, id, sha, owner, was_open, created_ms) SELECT ?1, r.id, coalesce(m.url, ''), coalesce(m.id, a.name || '/' || r.name), r.sha, m.owner,"
        " " FS_HUB_REPO_IS_OPEN ", r2.created_ms FROM repos r JOIN accounts a ON a.id = r.owner JOIN repos r2 ON r2.id = ?1 LEFT JOIN mirrors m ON m.repo = r.id WHERE r.id = ?2",
    };
    fs_status rc = fs_db_begin(db, err);

    if (!rc)
        rc = check_quota(db, o->from->id, o->owner, err);
    if (rc)
        return rc;
    rc = fs_db_run(db, err,
                   "INSERT INTO repos(type, owner, name, folder, private, gated, sdk, description, created_ms, modified_ms, sha, card, pipeline_tag, library_name)"
                   " SELECT type, ?2, ?3, ?4, ?5, gated, sdk, description, ?6, ?6, sha, card, pipeline_tag, library_name FROM repos WHERE id = ?1",
                   "iissii", o->from->id, o->owner, o->name, folder, (int64_t)o->private_repo, fs_unix_ms());
    *ret_taken = rc && fs_db_is_conflict(db);
    *ret_id = sqlite3_last_insert_rowid(db);
    for (size_t i = 0; i < sizeof copies / sizeof *copies && !rc; i++)
        rc = fs_db_run(db, err, copies[i], "ii", *ret_id, o->from->id);
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM moved WHERE type = ? AND owner = ? AND name = ?", "sss", o->from->type, o->owner_name, o->name);
    return rc ? rc : fs_db_commit(db, err);
}

fs_status fs_hub_fork_make(fs_hub *h, sqlite3 *db, const fs_hub_fork_options *o, int64_t *ret_id, bool *ret_taken, fs_error *err)
{
    char folder[33];
    int64_t lazy = 0, n = 0;
    int making = -1;
    fs_status rc = fs_db_int(db, &lazy, NULL, err, "SELECT lazy FROM mirrors WHERE repo = ?", "i", o->from->id);

    *ret_taken = false;
    if (!rc && lazy)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "%s/%s is read through: its files are not all here (farseek hub mirror makes a whole copy)", o->from->owner_name, o->from->name);
    if (!rc)
        rc = fs_db_int(db, &n, NULL, err, "SELECT count(*) FROM repos WHERE type = ? AND owner = ? AND name = ?", "sis", o->from->type, o->owner, o->name);
    if (!rc && n) {
        *ret_taken = true;
        rc = fs_fail(err, FS_ERR_ARGUMENT, "there is a repository %s/%s already", o->owner_name, o->name);
    }
    if (!rc)
        rc = fs_hub_disk_room(h, 0, err);
    if (rc)
        return rc;
    fs_hub_random_name(folder, sizeof folder);
    rc = fs_hub_making_begin(h, &making, err);
    if (!rc)
        rc = copy_git(h, o->from, folder, err);
    if (!rc)
        rc = write_rows(db, o, folder, ret_id, ret_taken, err);
    fs_db_rollback(db);
    if (rc)
        fs_hub_git_remove(h, folder);
    fs_hub_making_end(making);
    return rc;
}

fs_status fs_hub_fork(fs_hub *h, const char *type, const char *from, const char *to, bool private_repo, fs_error *err)
{
    fs_hub_repo repo = { .id = 0 };
    fs_hub_fork_options o = { .from = &repo };
    const char *slash = strchr(to, '/');
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    bool found = false, taken;
    int64_t id;
    fs_status rc;

    if (!fs_hub_type_is_valid(type))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.30s' is not models, datasets or spaces", type);
    if (!slash || slash - to >= (ptrdiff_t)sizeof o.owner_name || !fs_hub_name_is_valid(slash + 1))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.100s' cannot be a repository's name (org/name)", to);
    snprintf(o.owner_name, sizeof o.owner_name, "%.*s", (int)(slash - to), to);
    o.name = slash + 1;
    rc = fs_db_take(h->db, &db, err);
    if (!rc)
        rc = fs_db_query(db, &st, err, "SELECT " FS_HUB_REPO_COLUMNS FS_HUB_REPO_TABLES "WHERE r.type = ? AND a.name || '/' || r.name = ? COLLATE NOCASE AND NOT r.disabled", "ss", type, from);
    if (!rc && (found = fs_db_next(st)))
        fs_hub_repo_read(st, &repo);
    if (st)
        rc = fs_db_end(st, err);
    if (!rc && !found)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "there is no repository '%.200s' of type %s", from, type);
    if (!rc)
        rc = fs_db_int(db, &o.owner, &found, err, "SELECT id FROM accounts WHERE name = ?", "s", o.owner_name);
    if (!rc && !found)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "there is no account '%s'", o.owner_name);
    o.private_repo = private_repo || repo.private;
    if (!rc)
        rc = fs_hub_fork_make(h, db, &o, &id, &taken, err);
    fs_db_give(h->db, db);
    return rc;
}

/* ---- the API ---- */

void fs_hub_repo_duplicate(fs_hub_call *c)
{
    fs_hub_repo from;
    fs_hub_fork_options o = { .from = &from };
    struct json_object *json;
    char to[200], *slash;
    int64_t id = 0;
    bool taken = false;
    fs_status rc;

    if (!fs_hub_need_user(c, true))
        return;
    c->writing = false; /* to what is forked */
    if (!fs_hub_need_repo_params(c, FS_HUB_READ) || !fs_hub_need_open(c) || !(json = fs_hub_body_json(c)))
        return;
    from = c->repo;
    o.private_repo = from.private;
    if (!fs_hub_json_str(c, json, "repository", to, sizeof to) || !fs_hub_read_private(c, json, &o.private_repo))
        goto out;
    slash = strchr(to, '/');
    o.name = slash ? slash + 1 : *to ? to : from.name;
    if (slash)
        *slash = 0;
    if (from.disabled)
        fs_hub_error(c, 403, NULL, "Access to this resource is disabled.");
    else if (!fs_hub_name_is_valid(o.name))
        fs_hub_error(c, 400, NULL, "'%.96s' is no name for a repository", o.name);
    else if (fs_hub_need_owner(c, slash ? to : c->user.name, &o.owner, o.owner_name)) {
        fs_hub_repo_lock(c);
        rc = fs_hub_fork_make(c->hub, c->db, &o, &id, &taken, &c->err);
        fs_hub_repo_unlock(c);
        if (taken) {
            fs_hub_reply_url(c, 409, from.type, o.owner_name, o.name);
        } else if (!fs_hub_failed(c, rc)) {
            c->repo.id = id;
            c->repo.owner = o.owner;
            c->repo.private = o.private_repo;
            snprintf(c->repo.owner_name, sizeof c->repo.owner_name, "%s", o.owner_name);
            snprintf(c->repo.name, sizeof c->repo.name, "%.96s", o.name);
            fs_hub_tell(c, "create", "repo", 0, NULL);
            fs_hub_reply_url(c, 200, from.type, o.owner_name, o.name);
        }
    }
out:
    json_object_put(json);
}

fs_status fs_hub_fork_origin(const fs_hub_call *c, fs_hub_origin *ret, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    int64_t source, owner;
    bool was_open, found, private;
    fs_hub_right right = FS_HUB_NONE;
    fs_status rc = fs_db_query(c->db, &st, err,
                               "SELECT f.hub, f.id, f.sha, coalesce(f.owner, ''), f.was_open, coalesce(f.source, 0), coalesce(r.owner, 0), coalesce(r.private, 1) FROM forks f LEFT JOIN repos r"
                               " ON r.id = f.source WHERE f.repo = ?",
                               "i", c->repo.id);

    *ret = (fs_hub_origin){ .sha = "" };
    if (rc)
        return rc;
    if ((found = fs_db_next(st))) {
        snprintf(ret->hub, sizeof ret->hub, "%s", fs_db_text(st, 0));
        snprintf(ret->id, sizeof ret->id, "%s", fs_db_text(st, 1));
        snprintf(ret->sha, sizeof ret->sha, "%s", fs_db_text(st, 2));
        snprintf(ret->key, sizeof ret->key, "%s", fs_db_text(st, 3));
    }
    was_open = found && sqlite3_column_int(st, 4);
    source = sqlite3_column_int64(st, 5);
    owner = sqlite3_column_int64(st, 6);
    private = sqlite3_column_int(st, 7) != 0;
    rc = fs_db_end(st, err);
    if (!rc && found && !was_open && source && private)
        rc = fs_hub_right_on_account(c->db, &c->user, owner, &right, err);
    if (!rc && found && !was_open && (!source || (private && right == FS_HUB_NONE)))
        *ret = (fs_hub_origin){ .sha = "" }; /* it would name what the asker may not see */
    return rc;
}
