/* The large files of a repository: listed, deleted for good, with the history rewritten as if they had never been, and given to another
 * repository without being sent again. */
#include "hub/internal.h"

#include "crypto/sha256.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>

#define PAGE      1000
#define BATCH_MAX 1000
#define DEPTH_MAX 300

/* ---- the list ---- */

/* SHA-256 to the first path that points to it; a table by open addressing. */
typedef struct names {
    git_repository *git;
    struct name {
        char sha256[65];
        char *path;
        const char *ref;
    } *items;
    size_t n, capacity;
    const char *ref;
} names;

static struct name *slot(const names *x, const char *sha256)
{
    size_t i = strtoull((char[17]){ sha256[0], sha256[1], sha256[2], sha256[3], sha256[4], sha256[5], sha256[6], sha256[7], sha256[8], sha256[9], 0 }, NULL, 16);

    for (i &= x->capacity - 1; *x->items[i].sha256 && strcmp(x->items[i].sha256, sha256) != 0; i = (i + 1) & (x->capacity - 1))
        ;
    return x->items + i;
}

static fs_status grow(names *x, fs_error *err)
{
    names old = *x;

    if (2 * x->n < x->capacity)
        return FS_OK;
    x->capacity = x->capacity ? 2 * x->capacity : 256;
    x->items = calloc(x->capacity, sizeof *x->items);
    if (!x->items) {
        *x = old;
        return fs_fail_memory(err, 2 * x->capacity * sizeof *x->items);
    }
    for (size_t i = 0; i < old.capacity; i++)
        if (*old.items[i].sha256)
            *slot(x, old.items[i].sha256) = old.items[i];
    free(old.items);
    return FS_OK;
}

static fs_status add_name(void *ud, const char *path, const git_oid *oid, git_object_t type, fs_error *err)
{
    names *x = ud;
    struct name *at;
    fs_hub_file f;
    fs_status rc;

    if (type != GIT_OBJECT_BLOB)
        return FS_OK;
    rc = fs_hub_file_read(x->git, oid, &f, err);
    if (rc || !f.lfs)
        return rc;
    rc = grow(x, err);
    if (rc || *(at = slot(x, f.sha256))->sha256)
        return rc;
    memcpy(at->sha256, f.sha256, sizeof at->sha256);
    at->ref = x->ref;
    at->path = strdup(path);
    x->n++;
    return at->path ? FS_OK : fs_fail_memory(err, strlen(path));
}

static void names_done(names *x)
{
    for (size_t i = 0; i < x->capacity; i++)
        free(x->items[i].path);
    free(x->items);
}

/* Of what branches, tags and pull requests have now; main first. */
static fs_status find_names(fs_hub_call *c, names *x, git_strarray *refs, fs_error *err)
{
    git_object *tree = NULL;
    fs_status rc = grow(x, err);

    if (!rc && git_reference_list(refs, c->git) != 0)
        rc = fs_hub_git_fail(err, "cannot list refs");
    for (size_t i = 0; !rc && i <= refs->count; i++) {
        git_reference *ref = NULL;
        x->ref = i == 0 ? "refs/heads/main" : refs->strings[i - 1];
        if (git_reference_lookup(&ref, c->git, x->ref) == 0 && git_reference_peel(&tree, ref, GIT_OBJECT_TREE) == 0)
            rc = fs_hub_walk(c->git, git_object_id(tree), "", true, add_name, x, err);
        git_object_free(tree);
        tree = NULL;
        git_reference_free(ref);
    }
    return rc;
}

void fs_hub_lfs_files(fs_hub_call *c)
{
    const char *cursor = fs_http_query(c->http, "cursor", 0);
    sqlite3_stmt *st = NULL;
    git_strarray refs = { 0 };
    names x = { 0 };
    char last[65] = "";
    uint8_t after[32] = { 0 };
    int n = 0;
    fs_emit e = { 0 };

    if (!fs_hub_need_user(c, false) || !fs_hub_need_repo_params(c, FS_HUB_READ) || !fs_hub_need_open(c))
        return;
    if (cursor && !fs_hex_read(fs_bytes_str(cursor), after, sizeof after)) {
        fs_hub_error(c, 400, NULL, "a broken cursor");
        return;
    }
    x.git = c->git;
    if (fs_hub_failed(c, find_names(c, &x, &refs, &c->err)) ||
        fs_hub_failed(c, fs_db_query(c->db, &st, &c->err,
                                     "SELECT lower(hex(oid)), size, created_ms FROM repo_objects JOIN objects USING(oid) WHERE repo = ? AND oid > ? ORDER BY oid LIMIT ?", "ibi",
                                     c->repo.id, (fs_bytes){ after, cursor ? sizeof after : 0 }, (int64_t)PAGE + 1)))
        goto out;
    fs_emit_begin(&e, '[');
    while (fs_db_next(st)) {
        const struct name *name;
        if (n++ == PAGE) {
            fs_http_reply_headerf(c->http, "Link", "<%s/api/%s/%s/%s/lfs-files?cursor=%s>; rel=\"next\"", c->base, c->repo.type, c->repo.owner_name, c->repo.name, last);
            break;
        }
        snprintf(last, sizeof last, "%s", fs_db_text(st, 0));
        name = slot(&x, last);
        fs_emit_begin(&e, '{');
        fs_emit_str(&e, "fileOid", last);
        fs_emit_str(&e, "oid", last);
        fs_emit_str(&e, "filename", name->path ? name->path : "");
        fs_emit_int(&e, "size", sqlite3_column_int64(st, 1));
        fs_emit_time(&e, "pushedAt", sqlite3_column_int64(st, 2));
        if (name->path)
            fs_emit_str(&e, "ref", name->ref);
        fs_emit_end(&e, '}');
    }
    fs_emit_end(&e, ']');
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
        fs_hub_reply(c, 200, &e);
out:
    names_done(&x);
    git_strarray_dispose(&refs);
    fs_emit_done(&e);
}

/* ---- history without them ---- */

/* Old ids to new ones; a zero id: gone. */
typedef struct change {
    git_oid from, to;
    bool used;
} change;

typedef struct rewriting {
    fs_hub_call *c;
    const char (*gone)[65]; /* sorted */
    size_t n_gone;
    change *map;
    size_t n, capacity;
    fs_hub_move *moves; /* of refs that moved */
    size_t n_moves;
} rewriting;

static change *place(const rewriting *w, const git_oid *oid)
{
    size_t i;

    memcpy(&i, oid->id, sizeof i);
    for (i &= w->capacity - 1; w->map[i].used && !git_oid_equal(&w->map[i].from, oid); i = (i + 1) & (w->capacity - 1))
        ;
    return w->map + i;
}

static fs_status remember(rewriting *w, const git_oid *from, const git_oid *to, fs_error *err)
{
    if (2 * w->n >= w->capacity) {
        rewriting old = *w;
        size_t capacity = w->capacity ? 2 * w->capacity : 1024;
        change *map = calloc(capacity, sizeof *map);
        if (!map)
            return fs_fail_memory(err, capacity * sizeof *map);
        w->map = map;
        w->capacity = capacity;
        for (size_t i = 0; i < old.capacity; i++)
            if (old.map[i].used)
                *place(w, &old.map[i].from) = old.map[i];
        free(old.map);
    }
    *place(w, from) = (change){ *from, *to, true };
    w->n++;
    return FS_OK;
}

static bool look_up(const rewriting *w, const git_oid *from, git_oid *ret)
{
    const change *x = w->capacity ? place(w, from) : NULL;

    if (!x || !x->used)
        return false;
    *ret = x->to;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static fs_status rewrite_tree(rewriting *w, const git_oid *oid, int depth, git_oid *ret, fs_error *err)
{
    git_treebuilder *builder = NULL;
    git_tree *tree = NULL;
    bool changed = false;
    fs_status rc = FS_OK;

    if (look_up(w, oid, ret))
        return FS_OK;
    if (depth > DEPTH_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "folders deeper than %d", DEPTH_MAX);
    if (git_tree_lookup(&tree, w->c->git, oid) != 0 || git_treebuilder_new(&builder, w->c->git, tree) != 0)
        rc = fs_hub_git_fail(err, "cannot read a tree");
    for (size_t i = 0; !rc && i < git_tree_entrycount(tree); i++) {
        const git_tree_entry *entry = git_tree_entry_byindex(tree, i);
        git_oid new = *git_tree_entry_id(entry);
        if (git_tree_entry_type(entry) == GIT_OBJECT_TREE) {
            rc = rewrite_tree(w, git_tree_entry_id(entry), depth + 1, &new, err);
        } else if (git_tree_entry_type(entry) == GIT_OBJECT_BLOB && !look_up(w, git_tree_entry_id(entry), &new)) {
            fs_hub_file f;
            rc = fs_hub_file_read(w->c->git, git_tree_entry_id(entry), &f, err);
            if (!rc && f.lfs && bsearch(f.sha256, w->gone, w->n_gone, sizeof *w->gone, by_name))
                memset(&new, 0, sizeof new);
            if (!rc && f.lfs)
                rc = remember(w, git_tree_entry_id(entry), &new, err);
        }
        if (rc || git_oid_equal(&new, git_tree_entry_id(entry)))
            continue;
        changed = true;
        if (git_oid_is_zero(&new) ? git_treebuilder_remove(builder, git_tree_entry_name(entry)) : git_treebuilder_insert(NULL, builder, git_tree_entry_name(entry), &new, git_tree_entry_filemode(entry)))
            rc = fs_hub_git_fail(err, "cannot change a tree");
    }
    *ret = *oid;
    if (!rc && changed && depth > 0 && git_treebuilder_entrycount(builder) == 0)
        memset(ret, 0, sizeof *ret);
    else if (!rc && changed && git_treebuilder_write(ret, builder) != 0)
        rc = fs_hub_git_fail(err, "cannot write a tree");
    git_treebuilder_free(builder);
    git_tree_free(tree);
    return rc ? rc : remember(w, oid, ret, err);
}

/* Its parents were rewritten before. */
static fs_status rewrite_commit(rewriting *w, const git_oid *oid, fs_error *err)
{
    git_commit *commit = NULL, **parents;
    git_tree *tree = NULL;
    git_oid new_tree, new;
    bool changed = false;
    unsigned n = 0;
    fs_status rc = FS_OK;

    if (git_commit_lookup(&commit, w->c->git, oid) != 0)
        return fs_hub_git_fail(err, "cannot read a commit");
    n = git_commit_parentcount(commit);
    parents = calloc(n + 1, sizeof *parents);
    rc = parents ? rewrite_tree(w, git_commit_tree_id(commit), 0, &new_tree, err) : fs_fail_memory(err, n * sizeof *parents);
    changed = !rc && !git_oid_equal(&new_tree, git_commit_tree_id(commit));
    for (unsigned i = 0; !rc && i < n; i++) {
        git_oid parent = *git_commit_parent_id(commit, i);
        look_up(w, git_commit_parent_id(commit, i), &parent);
        changed = changed || !git_oid_equal(&parent, git_commit_parent_id(commit, i));
        if (git_commit_lookup(&parents[i], w->c->git, &parent) != 0)
            rc = fs_hub_git_fail(err, "cannot read a commit");
    }
    new = *oid;
    if (!rc && changed && (git_tree_lookup(&tree, w->c->git, &new_tree) != 0 ||
                           git_commit_create(&new, w->c->git, NULL, git_commit_author(commit), git_commit_committer(commit), git_commit_message_encoding(commit),
                                             git_commit_message_raw(commit), tree, n, (const git_commit **)parents) != 0))
        rc = fs_hub_git_fail(err, "cannot write a commit");
    if (!rc)
        rc = remember(w, oid, &new, err);
    git_tree_free(tree);
    for (unsigned i = 0; parents && i < n; i++)
        git_commit_free(parents[i]);
    free(parents);
    git_commit_free(commit);
    return rc;
}

/* Whether it becomes another commit, and from what to which. */
static bool find_move(const rewriting *w, const char *name, git_oid *ret_old, git_oid *ret_new)
{
    git_object *commit = NULL;
    git_reference *ref = NULL;
    bool moves = git_reference_lookup(&ref, w->c->git, name) == 0 && git_reference_name_to_id(ret_old, w->c->git, name) == 0 &&
                 git_reference_peel(&commit, ref, GIT_OBJECT_COMMIT) == 0 && look_up(w, git_object_id(commit), ret_new) && !git_oid_equal(ret_new, git_object_id(commit));

    git_object_free(commit);
    git_reference_free(ref);
    return moves;
}

/* Every ref to its new commit; a tag with a message becomes a plain one. Under the repository's lock. */
static fs_status rewrite_refs(rewriting *w, fs_error *err)
{
    fs_hub_call *c = w->c;
    git_strarray refs = { 0 };
    git_oid old, new;
    git_revwalk *walker = NULL;
    git_oid oid;
    fs_status rc = FS_OK;

    if (git_reference_list(&refs, c->git) != 0 || git_revwalk_new(&walker, c->git) != 0 || git_revwalk_sorting(walker, GIT_SORT_TOPOLOGICAL | GIT_SORT_REVERSE) != 0 ||
        git_revwalk_push_glob(walker, "refs/*") != 0)
        rc = fs_hub_git_fail(err, "cannot walk the history");
    while (!rc && git_revwalk_next(&oid, walker) == 0)
        rc = rewrite_commit(w, &oid, err);
    if (!rc) {
        fs_hub_objects all = { .n = SIZE_MAX };
        rc = fs_hub_git_sync(c->path, &all, err);
    }
    for (size_t i = 0; !rc && i < refs.count; i++) /* all of them, before the first one moves */
        if (find_move(w, refs.strings[i], &old, &new) && !fs_hub_need_rules(c, refs.strings[i], FS_HUB_REWRITE))
            rc = FS_ERR_ARGUMENT;
    w->moves = calloc(refs.count + 1, sizeof *w->moves);
    if (!rc && !w->moves)
        rc = fs_fail_memory(err, refs.count * sizeof *w->moves);
    for (size_t i = 0; !rc && i < refs.count; i++)
        if (find_move(w, refs.strings[i], &old, &new) && !(rc = fs_hub_ref_set(c->hub, c->path, c->git, refs.strings[i], &old, &new, err))) {
            fs_hub_move *m = w->moves + w->n_moves++;
            snprintf(m->ref, sizeof m->ref, "%s", refs.strings[i]);
            git_oid_tostr(m->old, sizeof m->old, &old);
            git_oid_tostr(m->new, sizeof m->new, &new);
        }
    git_revwalk_free(walker);
    git_strarray_dispose(&refs);
    return rc;
}

void fs_hub_lfs_files_batch(fs_hub_call *c)
{
    struct json_object *o = NULL, *deletions, *list;
    char (*gone)[65] = NULL;
    size_t n = 0;
    bool rewrite = true;
    rewriting w = { .c = c };
    fs_status rc = FS_OK;

    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_ADMIN) || !(o = fs_hub_body_json(c)))
        return;
    deletions = fs_json_member(o, "deletions");
    list = deletions && json_object_is_type(deletions, json_type_object) ? fs_json_member(deletions, "sha") : NULL;
    if (!list || !json_object_is_type(list, json_type_array) || json_object_array_length(list) > BATCH_MAX || fs_json_bool(deletions, "rewriteHistory", &rewrite, NULL, NULL) != FS_OK) {
        fs_hub_error(c, 400, NULL, "deletions must have sha, a list of at most %d, and may have rewriteHistory", BATCH_MAX);
        goto out;
    }
    if (*c->repo.mirror) {
        fs_hub_error(c, 403, NULL, "a copy of another hub's repository stays as it is there");
        goto out;
    }
    gone = calloc(json_object_array_length(list) + 1, sizeof *gone);
    for (size_t i = 0; gone && i < json_object_array_length(list); i++) {
        struct json_object *x = json_object_array_get_idx(list, i);
        uint8_t oid[32];
        if (!json_object_is_type(x, json_type_string) || !fs_hex_read(fs_bytes_str(json_object_get_string(x)), oid, sizeof oid)) {
            fs_hub_error(c, 400, NULL, "what is deleted is named by its SHA-256");
            goto out;
        }
        fs_hex(oid, sizeof oid, gone[n++]);
    }
    if (!gone) {
        fs_hub_failed(c, fs_fail_memory(&c->err, n));
        goto out;
    }
    qsort(gone, n, sizeof *gone, by_name);
    w.gone = (const char (*)[65])gone;
    w.n_gone = n;
    fs_hub_repo_lock(c);
    if (rewrite && n > 0)
        rc = rewrite_refs(&w, &c->err);
    if (!rc)
        rc = fs_db_begin(c->db, &c->err);
    for (size_t i = 0; i < n && !rc; i++) {
        uint8_t oid[32];
        fs_hex_read(fs_bytes_str(gone[i]), oid, sizeof oid);
        rc = fs_db_run(c->db, &c->err, "DELETE FROM repo_objects WHERE repo = ? AND oid = ?", "ib", c->repo.id, (fs_bytes){ oid, sizeof oid });
    }
    if (!rc)
        rc = fs_db_commit(c->db, &c->err);
    fs_db_rollback(c->db);
    fs_hub_repo_unlock(c);
    free(w.map);
    if (!rc)
        rc = fs_hub_card_refresh(c, &c->err);
    fs_hub_tell_moves(c, w.moves, w.n_moves); /* one that ends badly may have moved some */
    free(w.moves);
    if (rc == FS_ERR_ARGUMENT && strstr(c->err.message, "meanwhile"))
        fs_hub_error(c, 409, NULL, "a branch moved meanwhile: try again");
    else if (!fs_hub_failed(c, rc))
        fs_hub_reply_ok(c);
out:
    free(gone);
    json_object_put(o);
}

/* ---- to another repository ---- */

/* Gives target one file of c's repository; *ret_why says why not. */
static fs_status give(fs_hub_call *c, const fs_hub_call *target, const char *sha256, int64_t *used, int64_t quota, const char **ret_why, fs_error *err)
{
    bool held = false, there = false;
    uint64_t n = 0, m;
    fs_status rc = fs_db_begin(c->db, err); /* nothing is collected meanwhile */

    *ret_why = NULL;
    if (!rc)
        rc = fs_hub_object_of(c->hub, c->db, c->repo.id, sha256, &held, &n, err);
    if (!rc && held)
        rc = fs_hub_object_of(c->hub, c->db, target->repo.id, sha256, &there, &m, err);
    if (!rc && !held)
        *ret_why = "it is not in the source repository";
    else if (!rc && !there && quota >= 0 && (*used > quota || n > (uint64_t)(quota - *used)))
        *ret_why = "the owner's quota is used up";
    else if (!rc && !there) {
        *used += (int64_t)n;
        rc = fs_hub_object_add(c->db, target->repo.id, sha256, n, err);
    }
    if (!rc)
        rc = fs_db_commit(c->db, err);
    fs_db_rollback(c->db);
    return rc;
}

void fs_hub_lfs_files_duplicate(fs_hub_call *c)
{
    fs_hub_call target = { .hub = c->hub, .http = c->http, .db = c->db, .user = c->user };
    struct json_object *o = NULL, *to, *files;
    char type[16], types[24], id[220], sha256[65], *slash;
    int64_t quota = -1, used = 0, loose = 0;
    fs_emit e = { 0 };
    bool ok = true;

    memcpy(target.base, c->base, sizeof target.base);
    if (!fs_hub_need_user(c, true))
        return;
    c->writing = false; /* to where they are from */
    if (!fs_hub_need_repo_params(c, FS_HUB_READ) || !fs_hub_need_open(c) || !(o = fs_hub_body_json(c)))
        return;
    to = fs_json_member(o, "target");
    files = fs_json_member(o, "files");
    if (!to || !json_object_is_type(to, json_type_object) || !files || !json_object_is_type(files, json_type_array) || json_object_array_length(files) > BATCH_MAX) {
        fs_hub_error(c, 400, NULL, "target must be an object, files a list of at most %d", BATCH_MAX);
        goto out;
    }
    if (!fs_hub_json_str(c, to, "type", type, sizeof type) || !fs_hub_json_str(c, to, "name", id, sizeof id))
        goto out;
    snprintf(types, sizeof types, "%s%s", type, fs_ends_with(type, "s") ? "" : "s");
    slash = strchr(id, '/');
    if (!slash || !fs_hub_type_is_valid(types)) {
        fs_hub_error(c, 400, NULL, "the target is no repository: '%.100s'", id);
        goto out;
    }
    *slash = 0;
    if (!fs_hub_need_repo(&target, types, id, slash + 1, FS_HUB_WRITE) || fs_hub_failed(c, fs_hub_quota_of(c->db, target.repo.owner, &quota, &used, &loose, &c->err))) {
        c->replied = c->replied || target.replied;
        goto out;
    }
    used += loose;
    fs_emit_begin(&e, '{');
    fs_emit_key(&e, "failed");
    fs_emit_begin(&e, '[');
    for (size_t i = 0; ok && i < json_object_array_length(files); i++) {
        struct json_object *file = json_object_array_get_idx(files, i);
        const char *why = NULL;
        uint8_t oid[32];
        ok = json_object_is_type(file, json_type_object) && fs_hub_json_str(c, file, "sha256", sha256, sizeof sha256);
        if (ok && !fs_hex_read(fs_bytes_str(sha256), oid, sizeof oid))
            why = "it is no SHA-256";
        else if (ok && fs_hub_failed(c, give(c, &target, sha256, &used, quota, &why, &c->err)))
            ok = false;
        if (why) {
            fs_emit_begin(&e, '{');
            fs_emit_str(&e, "sha256", sha256);
            fs_emit_str(&e, "error", why);
            fs_emit_end(&e, '}');
        }
    }
    fs_emit_end(&e, ']');
    fs_emit_end(&e, '}');
    if (ok)
        fs_hub_reply(c, 200, &e);
    else
        fs_hub_error(c, 400, NULL, "files must be objects with sha256");
out:
    git_repository_free(target.git);
    fs_emit_done(&e);
    json_object_put(o);
}
