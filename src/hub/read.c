/* What a revision holds: trees, paths, refs, history. */
#include "hub/xet_store.h"

#include "net/url.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX        64
#define PAGE_MAX         10000 /* llama.cpp reads one page only */
#define EXPANDED_MAX     100
#define HISTORY_MAX      20000 /* commits looked through for the last one that touched a path */
#define COMMITS_MAX      1000
#define PATHS_MAX        100000

static fs_status walk(git_repository *git, const git_oid *oid, fs_buf *path, bool recursive, int depth, fs_hub_walk_fn *fn, void *ud, fs_error *err)
{
    size_t n_prefix = path->n_bytes;
    git_tree *tree = NULL;
    fs_status rc = FS_OK;

    if (depth > DEPTH_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "folders within folders, more than %d", DEPTH_MAX);
    if (git_tree_lookup(&tree, git, oid) != 0)
        return fs_hub_git_fail(err, "cannot read a tree");
    for (size_t i = 0; i < git_tree_entrycount(tree) && !rc; i++) {
        const git_tree_entry *e = git_tree_entry_byindex(tree, i);
        git_object_t type = git_tree_entry_type(e);
        if (type != GIT_OBJECT_BLOB && type != GIT_OBJECT_TREE)
            continue; /* a submodule has no content here */
        rc = fs_buf_printf(path, err, "%s%s", n_prefix ? "/" : "", git_tree_entry_name(e));
        if (!rc)
            rc = fn(ud, path->data, git_tree_entry_id(e), type, err);
        if (!rc && recursive && type == GIT_OBJECT_TREE)
            rc = walk(git, git_tree_entry_id(e), path, true, depth + 1, fn, ud, err);
        path->n_bytes = n_prefix;
        if (path->data)
            path->data[n_prefix] = 0;
    }
    git_tree_free(tree);
    return rc;
}

fs_status fs_hub_walk(git_repository *git, const git_oid *tree, const char *prefix, bool recursive, fs_hub_walk_fn *fn, void *ud, fs_error *err)
{
    fs_buf path = { 0 };
    fs_status rc = fs_buf_append_str(&path, prefix, err);

    if (!rc)
        rc = walk(git, tree, &path, recursive, 0, fn, ud, err);
    fs_buf_done(&path);
    return rc;
}

/* ---- entries ---- */

typedef struct item {
    char *path;
    git_oid oid;
    git_object_t type;
    git_oid last; /* the commit that touched it last, once found */
    bool found;
} item;

typedef struct items {
    item *list;
    size_t n, capacity, skip, max; /* skip: entries of earlier pages */
    bool more;
} items;

static fs_status add_item(void *ud, const char *path, const git_oid *oid, git_object_t type, fs_error *err)
{
    items *x = ud;

    if (x->skip > 0) {
        x->skip--;
        return FS_OK;
    }
    if (x->n == x->max) {
        x->more = true;
        return FS_ERR_INTERRUPTED;
    }
    if (x->n == x->capacity) {
        size_t capacity = x->capacity ? 2 * x->capacity : 64;
        item *list = realloc(x->list, capacity * sizeof *list);
        if (!list)
            return fs_fail_memory(err, capacity * sizeof *list);
        x->list = list;
        x->capacity = capacity;
    }
    x->list[x->n] = (item){ .path = strdup(path), .oid = *oid, .type = type };
    if (!x->list[x->n].path)
        return fs_fail_memory(err, strlen(path));
    x->n++;
    return FS_OK;
}

static void items_done(items *x)
{
    for (size_t i = 0; i < x->n; i++)
        free(x->list[i].path);
    free(x->list);
}

bool fs_hub_same_entry(git_tree *a, git_tree *b, const char *path)
{
    git_tree_entry *x = NULL, *y = NULL;
    bool in_a = a && git_tree_entry_bypath(&x, a, path) == 0, in_b = b && git_tree_entry_bypath(&y, b, path) == 0;
    bool same = in_a == in_b && (!in_a || git_oid_equal(git_tree_entry_id(x), git_tree_entry_id(y)));

    git_tree_entry_free(x);
    git_tree_entry_free(y);
    return same;
}

/* The last commit that touched each item, along first parents. */
static fs_status find_last(git_repository *git, const git_oid *from, items *x, fs_error *err)
{
    git_commit *commit = NULL, *parent = NULL;
    git_tree *tree = NULL, *before = NULL;
    size_t left = x->n;
    fs_status rc = FS_OK;

    if (git_commit_lookup(&commit, git, from) != 0 || git_commit_tree(&tree, commit) != 0)
        rc = fs_hub_git_fail(err, "cannot read a commit");
    for (int n = 0; !rc && left > 0; n++) {
        bool last = git_commit_parentcount(commit) == 0 || n == HISTORY_MAX;
        if (!last && (git_commit_parent(&parent, commit, 0) != 0 || git_commit_tree(&before, parent) != 0))
            rc = fs_hub_git_fail(err, "cannot read a commit");
        if (!rc && (!before || !git_oid_equal(git_tree_id(tree), git_tree_id(before))))
            for (size_t i = 0; i < x->n; i++)
                if (!x->list[i].found && (last || !fs_hub_same_entry(tree, before, x->list[i].path))) {
                    x->list[i].found = true;
                    x->list[i].last = *git_commit_id(commit);
                    left--;
                }
        git_tree_free(tree);
        git_commit_free(commit);
        tree = before;
        commit = parent;
        before = NULL;
        parent = NULL;
        if (last)
            break;
    }
    git_tree_free(tree);
    git_commit_free(commit);
    git_tree_free(before);
    git_commit_free(parent);
    return rc;
}

static fs_status emit_last(git_repository *git, fs_emit *e, const git_oid *oid, fs_error *err)
{
    git_commit *commit = NULL;
    char hex[GIT_OID_HEXSZ + 1];

    if (git_commit_lookup(&commit, git, oid) != 0)
        return fs_hub_git_fail(err, "cannot read a commit");
    git_oid_tostr(hex, sizeof hex, oid);
    fs_emit_key(e, "lastCommit");
    fs_emit_begin(e, '{');
    fs_emit_str(e, "id", hex);
    fs_emit_str(e, "title", git_commit_summary(commit));
    fs_emit_time(e, "date", fs_hub_commit_ms(commit));
    fs_emit_end(e, '}');
    git_commit_free(commit);
    return FS_OK;
}

static fs_status emit_item(fs_hub_call *c, fs_emit *e, const item *x, bool expand, fs_error *err)
{
    git_repository *git = c->git;
    char hex[GIT_OID_HEXSZ + 1], xet[65];
    fs_hub_file f = { 0 };
    fs_status rc = FS_OK;

    if (x->type == GIT_OBJECT_BLOB)
        rc = fs_hub_file_read(git, &x->oid, &f, err);
    if (rc)
        return rc;
    git_oid_tostr(hex, sizeof hex, &x->oid);
    fs_emit_begin(e, '{');
    fs_emit_str(e, "type", x->type == GIT_OBJECT_BLOB ? "file" : "directory");
    fs_emit_str(e, "oid", hex);
    fs_emit_int(e, "size", (int64_t)f.n_bytes);
    if (f.lfs) {
        fs_emit_key(e, "lfs");
        fs_emit_begin(e, '{');
        fs_emit_str(e, "oid", f.sha256);
        fs_emit_int(e, "size", (int64_t)f.n_bytes);
        fs_emit_int(e, "pointerSize", (int64_t)f.n_git_bytes);
        fs_emit_end(e, '}');
        rc = fs_xet_file_of(c->db, f.sha256, xet, err);
        if (!rc && *xet)
            fs_emit_str(e, "xetHash", xet);
    }
    fs_emit_str(e, "path", x->path);
    if (!rc && expand && x->found)
        rc = emit_last(git, e, &x->last, err);
    if (!rc && expand && x->type == GIT_OBJECT_BLOB) {
        fs_hub_scan scan;
        rc = fs_hub_scan_file(c->hub, c->db, git, &f, x->path, NULL, &scan, err);
        if (!rc) {
            fs_hub_emit_scan(e, &scan);
            fs_hub_scan_done(&scan);
        }
    }
    fs_emit_end(e, '}');
    return rc ? rc : e->rc;
}

static void reply_items(fs_hub_call *c, const git_oid *commit, items *x, bool expand)
{
    fs_emit e = { 0 };
    fs_status rc = expand ? find_last(c->git, commit, x, &c->err) : FS_OK;

    fs_emit_begin(&e, '[');
    for (size_t i = 0; i < x->n && !rc; i++)
        rc = emit_item(c, &e, &x->list[i], expand, &c->err);
    fs_emit_end(&e, ']');
    if (!fs_hub_failed(c, rc))
        fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

static bool is_true(const char *value)
{
    return value && (strcmp(value, "True") == 0 || strcmp(value, "true") == 0 || strcmp(value, "1") == 0);
}

void fs_hub_tree(fs_hub_call *c)
{
    const char *raw = fs_http_param(c->http, 4), *text;
    bool recursive = is_true(fs_http_query(c->http, "recursive", 0)), expand = is_true(fs_http_query(c->http, "expand", 0));
    items x = { .max = expand ? EXPANDED_MAX : PAGE_MAX };
    char *path = malloc(strlen(raw) + 1), hex[GIT_OID_HEXSZ + 1];
    git_oid commit, tree, oid;
    git_object_t type = GIT_OBJECT_INVALID;
    long long cursor = 0, limit;
    fs_status rc;

    if (!path || !fs_url_decode(fs_bytes_str(raw), false, path)) {
        fs_hub_error(c, 400, NULL, "a broken path");
        goto out;
    }
    while (*path && fs_ends_with(path, "/"))
        path[strlen(path) - 1] = 0;
    if ((text = fs_http_query(c->http, "limit", 0)) != NULL && (limit = strtoll(text, NULL, 10)) > 0 && (size_t)limit < x.max)
        x.max = (size_t)limit;
    if ((text = fs_http_query(c->http, "cursor", 0)) != NULL && (cursor = strtoll(text, NULL, 10)) > 0)
        x.skip = (size_t)cursor;
    if (!fs_hub_need_repo_params(c, FS_HUB_READ) || !fs_hub_need_rev(c, fs_http_param(c->http, 3), &commit, NULL) ||
        fs_hub_failed(c, fs_hub_commit_tree(c->git, &commit, &tree, &c->err)))
        goto out;
    git_oid_tostr(hex, sizeof hex, &commit);
    fs_http_reply_header(c->http, "X-Repo-Commit", hex);
    rc = fs_hub_entry_find(c->git, &tree, path, &oid, &type, &c->err);
    if (rc == FS_ERR_NOT_FOUND || (!rc && type != GIT_OBJECT_TREE)) {
        fs_hub_error(c, 404, "EntryNotFound", "%s does not exist on \"%.100s\"", path, fs_http_param(c->http, 3));
        goto out;
    }
    if (!rc)
        rc = fs_hub_walk(c->git, &oid, path, recursive, add_item, &x, &c->err);
    if (rc == FS_ERR_INTERRUPTED)
        rc = FS_OK;
    if (fs_hub_failed(c, rc))
        goto out;
    if (x.more) /* by the commit, so that pages fit together */
        fs_http_reply_headerf(c->http, "Link", "<%s/api/%s/%s/%s/tree/%s/%s?recursive=%s&expand=%s&limit=%zu&cursor=%lld>; rel=\"next\"", c->base, c->repo.type,
                              c->repo.owner_name, c->repo.name, hex, raw, recursive ? "true" : "false", expand ? "true" : "false", x.max,
                              cursor + (long long)x.n);
    reply_items(c, &commit, &x, expand);
out:
    items_done(&x);
    free(path);
}

/* The paths of a form or of a JSON object; false after a reply. */
static bool read_paths(fs_hub_call *c, const git_oid *tree, items *x, bool *ret_expand)
{
    fs_bytes body = fs_http_body(c->http), name, value;
    const char *type = fs_http_header(c->http, "Content-Type");
    bool json = type && strstr(type, "json");
    struct json_object *o = json ? fs_hub_body_json(c) : NULL, *list = o ? fs_json_member(o, "paths") : NULL;
    size_t n = 0, n_list = list && json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    char path[2200];
    git_oid oid;
    git_object_t kind;
    fs_status rc = FS_OK;

    if (json && !o)
        return false;
    if (o)
        fs_json_bool(o, "expand", ret_expand, NULL, NULL);
    while (!rc && n < PATHS_MAX) {
        path[0] = 0;
        if (json) {
            struct json_object *text;
            if (n == n_list)
                break;
            text = json_object_array_get_idx(list, n++);
            if (json_object_is_type(text, json_type_string))
                snprintf(path, sizeof path, "%s", json_object_get_string(text));
        } else {
            char key[32];
            if (!fs_url_next_pair(&body, &name, &value))
                break;
            n++;
            if (name.n_bytes >= sizeof key || value.n_bytes >= sizeof path || !fs_url_decode(name, true, key) || !fs_url_decode(value, true, path))
                continue;
            if (strcmp(key, "expand") == 0)
                *ret_expand = is_true(path);
            if (strcmp(key, "paths") != 0 && strcmp(key, "paths[]") != 0)
                continue;
        }
        while (*path && fs_ends_with(path, "/"))
            path[strlen(path) - 1] = 0;
        if (!*path)
            continue;
        rc = fs_hub_entry_find(c->git, tree, path, &oid, &kind, &c->err);
        if (!rc && (kind == GIT_OBJECT_BLOB || kind == GIT_OBJECT_TREE))
            rc = add_item(x, path, &oid, kind, &c->err);
        else if (rc == FS_ERR_NOT_FOUND)
            rc = FS_OK;
    }
    json_object_put(o);
    return !fs_hub_failed(c, rc);
}

void fs_hub_paths_info(fs_hub_call *c)
{
    items x = { .max = PATHS_MAX };
    git_oid commit, tree;
    bool expand = false;

    if (fs_hub_need_repo_params(c, FS_HUB_READ) && fs_hub_need_rev(c, fs_http_param(c->http, 3), &commit, NULL) &&
        !fs_hub_failed(c, fs_hub_commit_tree(c->git, &commit, &tree, &c->err)) && read_paths(c, &tree, &x, &expand))
        reply_items(c, &commit, &x, expand);
    items_done(&x);
}

/* ---- refs ---- */

static fs_status emit_refs(fs_hub_call *c, fs_emit *e, const char *key, const char *prefix, const fs_hub_rules *rules)
{
    git_reference_iterator *it = NULL;
    git_reference *ref = NULL;
    git_object *commit = NULL;
    char glob[64], hex[GIT_OID_HEXSZ + 1];
    fs_status rc = FS_OK;

    snprintf(glob, sizeof glob, "%s*", prefix);
    fs_emit_key(e, key);
    fs_emit_begin(e, '[');
    if (git_reference_iterator_glob_new(&it, c->git, glob) != 0)
        rc = fs_hub_git_fail(&c->err, "cannot list refs");
    while (!rc && git_reference_next(&ref, it) == 0) {
        if (git_reference_peel(&commit, ref, GIT_OBJECT_COMMIT) == 0) {
            git_oid_tostr(hex, sizeof hex, git_object_id(commit));
            fs_emit_begin(e, '{');
            fs_emit_str(e, "name", git_reference_name(ref) + strlen(prefix));
            fs_emit_str(e, "ref", git_reference_name(ref));
            fs_emit_str(e, "targetCommit", hex);
            if (fs_hub_rules_cover(rules, git_reference_name(ref)))
                fs_emit_bool(e, "protected", true);
            fs_emit_end(e, '}');
        }
        git_object_free(commit);
        commit = NULL;
        git_reference_free(ref);
        ref = NULL;
        rc = e->rc;
    }
    git_reference_iterator_free(it);
    fs_emit_end(e, ']');
    return rc;
}

void fs_hub_refs(fs_hub_call *c)
{
    fs_hub_rules rules;
    fs_emit e = { 0 };
    fs_status rc;

    if (!fs_hub_need_repo_params(c, FS_HUB_READ) || fs_hub_failed(c, fs_hub_rules_read(c->db, c->repo.id, &rules, &c->err)))
        return;
    if (*c->repo.mirror) /* its refs follow */
        rules.branches[0] = rules.tags[0] = 0;
    fs_emit_begin(&e, '{');
    rc = emit_refs(c, &e, "branches", "refs/heads/", &rules);
    if (!rc)
        rc = emit_refs(c, &e, "tags", "refs/tags/", &rules);
    if (!rc)
        rc = emit_refs(c, &e, "converts", "refs/convert/", &rules);
    if (!rc && is_true(fs_http_query(c->http, "include_prs", 0)))
        rc = emit_refs(c, &e, "pullRequests", "refs/pr/", &rules);
    fs_emit_end(&e, '}');
    if (!fs_hub_failed(c, rc))
        fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

/* ---- history ---- */

static void emit_commit(fs_emit *e, const git_commit *commit)
{
    const char *message = git_commit_message(commit), *body = strstr(message, "\n\n");
    char hex[GIT_OID_HEXSZ + 1];

    git_oid_tostr(hex, sizeof hex, git_commit_id(commit));
    fs_emit_begin(e, '{');
    fs_emit_str(e, "id", hex);
    fs_emit_str(e, "title", git_commit_summary((git_commit *)(uintptr_t)commit));
    fs_emit_text(e, "message", fs_bytes_trim(fs_bytes_str(body ? body + 2 : ""), FS_SPACES));
    fs_emit_key(e, "authors");
    fs_emit_begin(e, '[');
    fs_emit_begin(e, '{');
    fs_emit_str(e, "user", git_commit_author(commit)->name);
    fs_emit_end(e, '}');
    fs_emit_end(e, ']');
    fs_emit_time(e, "date", fs_hub_commit_ms(commit));
    fs_emit_end(e, '}');
}

void fs_hub_commits(fs_hub_call *c)
{
    const char *text;
    git_revwalk *walker = NULL;
    git_commit *commit = NULL;
    git_oid oid;
    fs_emit e = { 0 };
    char hex[GIT_OID_HEXSZ + 1];
    long page = 0, limit = COMMITS_MAX, n = 0;
    fs_status rc = FS_OK;

    if ((text = fs_http_query(c->http, "p", 0)) != NULL)
        page = strtol(text, NULL, 10);
    if ((text = fs_http_query(c->http, "limit", 0)) != NULL)
        limit = strtol(text, NULL, 10);
    if (limit < 1 || limit > COMMITS_MAX)
        limit = COMMITS_MAX;
    if (page < 0 || page > 1000000)
        page = 0;
    if (!fs_hub_need_repo_params(c, FS_HUB_READ) || !fs_hub_need_rev(c, fs_http_param(c->http, 3), &oid, NULL))
        return;
    git_oid_tostr(hex, sizeof hex, &oid);
    if (git_revwalk_new(&walker, c->git) != 0 || git_revwalk_sorting(walker, GIT_SORT_TOPOLOGICAL | GIT_SORT_TIME) != 0 || git_revwalk_push(walker, &oid) != 0)
        rc = fs_hub_git_fail(&c->err, "cannot walk the history");
    fs_emit_begin(&e, '[');
    while (!rc && git_revwalk_next(&oid, walker) == 0) {
        if (n++ < page * limit)
            continue;
        if (n > (page + 1) * limit) {
            fs_http_reply_headerf(c->http, "Link", "<%s/api/%s/%s/%s/commits/%s?p=%ld&limit=%ld>; rel=\"next\"", c->base, c->repo.type, c->repo.owner_name,
                                  c->repo.name, hex, page + 1, limit);
            break;
        }
        if (git_commit_lookup(&commit, c->git, &oid) != 0) {
            rc = fs_hub_git_fail(&c->err, "cannot read a commit");
            break;
        }
        emit_commit(&e, commit);
        git_commit_free(commit);
    }
    fs_emit_end(&e, ']');
    git_revwalk_free(walker);
    if (!fs_hub_failed(c, rc))
        fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}
