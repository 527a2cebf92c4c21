/* Discussions and pull requests. A pull request is a ref, refs/pr/N, and a discussion about it; merging makes a commit of two parents on the
 * branch it was made for, three-way for text, whole files for what LFS points to. */
#include "hub/feed.h"

#include "net/url.h"

#include <stdlib.h>
#include <string.h>

#define PAGE          50
#define TEXT_MAX      65536
#define DIFF_MAX      ((size_t)4 << 20)

fs_status fs_hub_event_add(fs_hub_call *c, int64_t num, const char *type, const char *text, const char *text2, int64_t *ret_id, fs_error *err)
{
    fs_status rc = fs_db_run(c->db, err, "INSERT INTO events(repo, num, type, author, created_ms, text, text2) VALUES(?, ?, ?, ?, ?, ?, ?)", "iisiiss", c->repo.id, num,
                             type, c->user.id, fs_unix_ms(), text, text2);

    if (!rc && ret_id)
        *ret_id = sqlite3_last_insert_rowid(c->db);
    if (!rc && strcmp(type, "comment") == 0)
        fs_hub_tell(c, "create", "discussion.comment", num, NULL);
    else if (!rc && strcmp(type, "commit") != 0)
        fs_hub_tell(c, "update", "discussion", num, NULL);
    return rc;
}

fs_status fs_hub_pr_author(sqlite3 *db, int64_t repo, int64_t num, int64_t *ret_author, bool *ret_found, fs_error *err)
{
    return fs_db_int(db, ret_author, ret_found, err, "SELECT author FROM discussions WHERE repo = ? AND num = ? AND is_pr AND status IN ('open', 'draft')", "ii", repo, num);
}

fs_status fs_hub_discussion_new(fs_hub_call *c, const char *title, const char *text, bool is_pr, const char *status, const char *base, const git_oid *at,
                                int64_t *ret_num, fs_error *err)
{
    char ref[64];
    int64_t num = 0;
    fs_status rc;

    if (is_pr && *c->repo.mirror)
        return fs_fail(err, FS_ERR_ARGUMENT, "%s/%s is a copy from %s: propose it there", c->repo.owner_name, c->repo.name, c->repo.mirror);
    rc = fs_db_int(c->db, &num, NULL, err, "UPDATE repos SET next_num = next_num + 1 WHERE id = ? RETURNING next_num - 1", "i", c->repo.id);
    snprintf(ref, sizeof ref, "refs/pr/%lld", (long long)num);
    if (!rc && is_pr)
        rc = fs_hub_ref_set(c->hub, c->path, c->git, ref, NULL, at, err);
    if (!rc)
        rc = fs_db_begin(c->db, err);
    if (!rc)
        rc = fs_db_run(c->db, err, "INSERT INTO discussions(repo, num, title, status, is_pr, author, created_ms, base) VALUES(?, ?, ?, ?, ?, ?, ?, ?)", "iissiiis",
                       c->repo.id, num, title, status, (int64_t)is_pr, c->user.id, fs_unix_ms(), base);
    if (!rc && is_pr)
        rc = fs_hub_feed_mark(c->db, c->repo.id, err);
    if (!rc)
        fs_hub_tell(c, "create", "discussion", num, NULL);
    if (!rc)
        rc = fs_hub_event_add(c, num, "comment", text, NULL, NULL, err);
    if (!rc)
        rc = fs_db_commit(c->db, err);
    if (rc)
        fs_db_rollback(c->db);
    else
        *ret_num = num;
    return rc;
}

/* ---- what is answered ---- */

static void emit_author(fs_emit *e, const char *name)
{
    fs_emit_key(e, "author");
    fs_emit_begin(e, '{');
    fs_emit_str(e, "name", name);
    fs_emit_str(e, "fullname", name);
    fs_emit_str(e, "type", "user");
    fs_emit_str(e, "avatarUrl", "");
    fs_emit_end(e, '}');
}

/* num, title, status, is_pr, created_ms, author's name at column 0. */
#define DISCUSSION_COLUMNS "d.num, d.title, d.status, d.is_pr, d.created_ms, a.name, coalesce(d.base, ''), coalesce(d.merge_commit, '')"

static void emit_discussion(const fs_hub_call *c, fs_emit *e, sqlite3_stmt *st)
{
    char id[220];

    fs_emit_int(e, "num", sqlite3_column_int64(st, 0));
    fs_emit_str(e, "title", fs_db_text(st, 1));
    fs_emit_str(e, "status", fs_db_text(st, 2));
    fs_emit_bool(e, "isPullRequest", sqlite3_column_int(st, 3) != 0);
    fs_emit_time(e, "createdAt", sqlite3_column_int64(st, 4));
    emit_author(e, fs_db_text(st, 5));
    snprintf(id, sizeof id, "%s/%s", c->repo.owner_name, c->repo.name);
    fs_emit_key(e, "repo");
    fs_emit_begin(e, '{');
    fs_emit_str(e, "name", id);
    fs_emit_str(e, "type", strcmp(c->repo.type, "models") == 0 ? "model" : strcmp(c->repo.type, "datasets") == 0 ? "dataset" : "space");
    fs_emit_end(e, '}');
}

#define EVENT_COLUMNS "e.id, e.type, e.created_ms, a.name, coalesce(e.text, ''), coalesce(e.text2, ''), e.hidden, coalesce(e.edited_ms, 0)"

static void emit_event(fs_emit *e, sqlite3_stmt *st)
{
    const char *type = fs_db_text(st, 1);
    char id[25];

    snprintf(id, sizeof id, "%024llx", (unsigned long long)sqlite3_column_int64(st, 0));
    fs_emit_begin(e, '{');
    fs_emit_str(e, "id", id);
    fs_emit_str(e, "type", type);
    fs_emit_time(e, "createdAt", sqlite3_column_int64(st, 2));
    emit_author(e, fs_db_text(st, 3));
    fs_emit_key(e, "data");
    fs_emit_begin(e, '{');
    if (strcmp(type, "comment") == 0) {
        bool hidden = sqlite3_column_int(st, 6) != 0;
        int64_t edited_ms = sqlite3_column_int64(st, 7);
        fs_emit_bool(e, "edited", edited_ms != 0);
        fs_emit_bool(e, "hidden", hidden);
        fs_emit_key(e, "latest");
        fs_emit_begin(e, '{');
        fs_emit_str(e, "raw", hidden ? "" : fs_db_text(st, 4));
        fs_emit_str(e, "html", "");
        fs_emit_time(e, "updatedAt", edited_ms ? edited_ms : sqlite3_column_int64(st, 2));
        emit_author(e, fs_db_text(st, 3));
        fs_emit_end(e, '}');
        fs_emit_key(e, "history");
        fs_emit_begin(e, '[');
        fs_emit_end(e, ']');
    } else if (strcmp(type, "status-change") == 0) {
        fs_emit_str(e, "status", fs_db_text(st, 4));
    } else if (strcmp(type, "commit") == 0) {
        fs_emit_str(e, "subject", fs_db_text(st, 4));
        fs_emit_str(e, "oid", fs_db_text(st, 5));
    } else if (strcmp(type, "title-change") == 0) {
        fs_emit_str(e, "from", fs_db_text(st, 4));
        fs_emit_str(e, "to", fs_db_text(st, 5));
    }
    fs_emit_end(e, '}');
    fs_emit_end(e, '}');
}

void fs_hub_discussion_list(fs_hub_call *c)
{
    const char *p = fs_http_query(c->http, "p", 0), *type = fs_http_query(c->http, "type", 0), *status = fs_http_query(c->http, "status", 0);
    int64_t page = p ? strtoll(p, NULL, 10) : 0, n = 0, pr = type && strcmp(type, "pull_request") == 0 ? 1 : type && strcmp(type, "discussion") == 0 ? 0 : -1;
    sqlite3_stmt *st = NULL;
    fs_emit e = { 0 };
#define OF " FROM discussions d JOIN accounts a ON a.id = d.author WHERE d.repo = ?1 AND (?2 < 0 OR d.is_pr = ?2) AND (?3 IS NULL OR ?3 = 'all' OR" \
           " (?3 = 'open' AND d.status IN ('open', 'draft')) OR (?3 = 'closed' AND d.status IN ('closed', 'merged'))) AND (?4 IS NULL OR a.name = ?4)"

    if (page < 0 || page > 1000000)
        page = 0;
    if (!fs_hub_need_repo_params(c, FS_HUB_READ) ||
        fs_hub_failed(c, fs_db_int(c->db, &n, NULL, &c->err, "SELECT count(*)" OF, "iiss", c->repo.id, pr, status, fs_http_query(c->http, "author", 0))) ||
        fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT " DISCUSSION_COLUMNS OF " ORDER BY d.num DESC LIMIT ?5 OFFSET ?6", "iissii", c->repo.id, pr, status,
                                     fs_http_query(c->http, "author", 0), (int64_t)PAGE, page * PAGE)))
        return;
    fs_emit_begin(&e, '{');
    fs_emit_key(&e, "discussions");
    fs_emit_begin(&e, '[');
    while (fs_db_next(st)) {
        fs_emit_begin(&e, '{');
        emit_discussion(c, &e, st);
        fs_emit_end(&e, '}');
    }
    fs_emit_end(&e, ']');
    fs_emit_int(&e, "count", n);
    fs_emit_int(&e, "start", page * PAGE);
    fs_emit_int(&e, "numClosedDiscussions", 0);
    fs_emit_end(&e, '}');
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
        fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

/* ---- one discussion ---- */

typedef struct discussion {
    int64_t num, author;
    bool is_pr;
    char title[300], status[16], base[256], ref[40];
} discussion;

/* The one of the route; false after a reply. writing: someone who may take part. */
static bool need_discussion(fs_hub_call *c, bool writing, discussion *ret)
{
    const char *text = fs_http_param(c->http, 3);
    sqlite3_stmt *st = NULL;
    bool found = false;

    if ((writing && !fs_hub_need_user(c, true)) || !fs_hub_need_repo_params(c, FS_HUB_READ) ||
        fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT num, author, is_pr, title, status, coalesce(base, '') FROM discussions WHERE repo = ? AND num = ?", "ii",
                                     c->repo.id, (int64_t)strtoll(text, NULL, 10))))
        return false;
    if (fs_db_next(st)) {
        found = true;
        *ret = (discussion){ .num = sqlite3_column_int64(st, 0), .author = sqlite3_column_int64(st, 1), .is_pr = sqlite3_column_int(st, 2) != 0 };
        snprintf(ret->title, sizeof ret->title, "%s", fs_db_text(st, 3));
        snprintf(ret->status, sizeof ret->status, "%s", fs_db_text(st, 4));
        snprintf(ret->base, sizeof ret->base, "%s", fs_db_text(st, 5));
        snprintf(ret->ref, sizeof ret->ref, "refs/pr/%lld", (long long)ret->num);
    }
    if (fs_hub_failed(c, fs_db_end(st, &c->err)))
        return false;
    if (!found)
        fs_hub_error(c, 404, NULL, "there is no discussion %.20s", text);
    return found;
}

/* Who opened it, and who may write; false after a 403. */
static bool need_say(fs_hub_call *c, const discussion *d)
{
    if (c->right >= FS_HUB_WRITE || d->author == c->user.id)
        return true;
    fs_hub_error(c, 403, NULL, "only its author and who may write to the repository can do this");
    return false;
}

void fs_hub_discussion_create(fs_hub_call *c)
{
    struct json_object *o = NULL;
    char title[300], *text = malloc(TEXT_MAX);
    bool pr = false;
    int64_t num = 0;
    git_oid head;
    fs_emit e = { 0 };
    fs_status rc;

    if (!text || !fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_READ) || !(o = fs_hub_body_json(c)))
        goto out;
    if (!fs_hub_json_str(c, o, "title", title, sizeof title) || !fs_hub_json_str(c, o, "description", text, TEXT_MAX))
        goto out;
    fs_json_bool(o, "pullRequest", &pr, NULL, NULL);
    if (!*title) {
        fs_hub_error(c, 400, NULL, "a discussion needs a title");
        goto out;
    }
    if (pr && !fs_hub_need_rev(c, "main", &head, NULL))
        goto out;
    rc = fs_hub_discussion_new(c, title, text, pr, pr ? "draft" : "open", pr ? "refs/heads/main" : NULL, &head, &num, &c->err);
    if (fs_hub_failed(c, rc))
        goto out;
    fs_emit_begin(&e, '{');
    fs_emit_int(&e, "num", num);
    fs_emit_bool(&e, "pullRequest", pr);
    fs_emit_end(&e, '}');
    fs_hub_reply(c, 200, &e);
out:
    json_object_put(o);
    free(text);
    fs_emit_done(&e);
}

/* The commit that the branch and the pull request have in common; of one that is merged, before it was. */
static bool find_sides(fs_hub_call *c, const discussion *d, const char *merge_commit, git_oid *ret_ours, git_oid *ret_theirs, git_oid *ret_base, fs_error *err)
{
    git_commit *merge = NULL;
    git_oid oid;
    bool found;

    if (fs_hub_rev_find(c->git, d->ref, ret_theirs, NULL, err) != FS_OK)
        return false;
    if (!*merge_commit)
        found = fs_hub_rev_find(c->git, d->base, ret_ours, NULL, err) == FS_OK;
    else {
        found = git_oid_fromstr(&oid, merge_commit) == 0 && git_commit_lookup(&merge, c->git, &oid) == 0 && git_commit_parentcount(merge) > 0;
        if (found)
            *ret_ours = *git_commit_parent_id(merge, 0);
        git_commit_free(merge);
    }
    return found && git_merge_base(ret_base, c->git, ret_ours, ret_theirs) == 0;
}

static int add_line(const git_diff_delta *delta, const git_diff_hunk *hunk, const git_diff_line *l, void *ud)
{
    fs_buf *text = ud;
    bool marked = l->origin == GIT_DIFF_LINE_CONTEXT || l->origin == GIT_DIFF_LINE_ADDITION || l->origin == GIT_DIFF_LINE_DELETION;

    (void)delta;
    (void)hunk;
    if (text->n_bytes > DIFF_MAX)
        return GIT_EUSER;
    if ((marked && fs_buf_append(text, &l->origin, 1, NULL) != FS_OK) || fs_buf_append(text, l->content, l->content_len, NULL) != FS_OK)
        return GIT_EUSER;
    return 0;
}

static void write_diff(fs_hub_call *c, const git_oid *base, const git_oid *theirs, fs_buf *text)
{
    git_commit *a = NULL, *b = NULL;
    git_tree *x = NULL, *y = NULL;
    git_diff *diff = NULL;

    if (git_commit_lookup(&a, c->git, base) == 0 && git_commit_lookup(&b, c->git, theirs) == 0 && git_commit_tree(&x, a) == 0 && git_commit_tree(&y, b) == 0 &&
        git_diff_tree_to_tree(&diff, c->git, x, y, NULL) == 0)
        git_diff_print(diff, GIT_DIFF_FORMAT_PATCH, add_line, text);
    git_diff_free(diff);
    git_tree_free(x);
    git_tree_free(y);
    git_commit_free(a);
    git_commit_free(b);
}

static void emit_conflicts(fs_emit *e, git_index *index)
{
    git_index_conflict_iterator *it = NULL;
    const git_index_entry *a, *b, *x;

    if (git_index_conflict_iterator_new(&it, index) != 0)
        return;
    while (git_index_conflict_next(&a, &b, &x, it) == 0)
        fs_emit_str(e, NULL, b ? b->path : x ? x->path : a->path);
    git_index_conflict_iterator_free(it);
}

/* The merged tree in an index of its own. */
static fs_status merge_index(fs_hub_call *c, const git_oid *base, const git_oid *ours, const git_oid *theirs, git_index **ret, fs_error *err)
{
    git_commit *commits[3] = { NULL };
    git_tree *trees[3] = { NULL };
    const git_oid *oids[3] = { base, ours, theirs };
    git_merge_options options;
    fs_status rc = FS_OK;

    git_merge_options_init(&options, GIT_MERGE_OPTIONS_VERSION);

    for (int i = 0; i < 3 && !rc; i++)
        if (git_commit_lookup(&commits[i], c->git, oids[i]) != 0 || git_commit_tree(&trees[i], commits[i]) != 0)
            rc = fs_hub_git_fail(err, "cannot read a commit");
    if (!rc && git_merge_trees(ret, c->git, trees[0], trees[1], trees[2], &options) != 0)
        rc = fs_hub_git_fail(err, "cannot merge");
    for (int i = 0; i < 3; i++) {
        git_tree_free(trees[i]);
        git_commit_free(commits[i]);
    }
    return rc;
}

static void emit_pr(fs_hub_call *c, fs_emit *e, const discussion *d, const char *merge_commit)
{
    git_oid ours, theirs, base;
    git_index *index = NULL;

    fs_emit_key(e, "changes");
    fs_emit_begin(e, '{');
    fs_emit_str(e, "base", d->base);
    if (*merge_commit)
        fs_emit_str(e, "mergeCommitId", merge_commit);
    fs_emit_end(e, '}');
    if (!find_sides(c, d, merge_commit, &ours, &theirs, &base, NULL)) {
        fs_emit_bool(e, "filesWithConflicts", false);
        return;
    }
    fs_emit_key(e, "filesWithConflicts");
    fs_emit_begin(e, '[');
    if (!*merge_commit && merge_index(c, &base, &ours, &theirs, &index, NULL) == FS_OK)
        emit_conflicts(e, index);
    fs_emit_end(e, ']');
    git_index_free(index);
    if (fs_http_query(c->http, "diff", 0)) {
        fs_buf text = { 0 };
        write_diff(c, &base, &theirs, &text);
        fs_emit_text(e, "diff", fs_buf_bytes(&text));
        fs_buf_done(&text);
    }
}

bool fs_hub_pr_look(fs_hub_call *c, int64_t num, const char *base_ref, const char *merge_commit, fs_buf *ret_diff, size_t *ret_n_conflicts)
{
    git_oid ours, theirs, base;
    git_index *index = NULL;
    git_index_conflict_iterator *it = NULL;
    const git_index_entry *x, *y, *z;
    discussion d = { .num = num };

    snprintf(d.base, sizeof d.base, "%s", base_ref);
    snprintf(d.ref, sizeof d.ref, "refs/pr/%lld", (long long)num);
    if (!find_sides(c, &d, merge_commit, &ours, &theirs, &base, &c->err))
        return false;
    write_diff(c, &base, &theirs, ret_diff);
    *ret_n_conflicts = 0;
    if (!*merge_commit && merge_index(c, &base, &ours, &theirs, &index, &c->err) == FS_OK && git_index_conflict_iterator_new(&it, index) == 0)
        while (git_index_conflict_next(&x, &y, &z, it) == 0)
            (*ret_n_conflicts)++;
    git_index_conflict_iterator_free(it);
    git_index_free(index);
    return true;
}

void fs_hub_discussion_get(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    char merge_commit[GIT_OID_HEXSZ + 1] = "";
    discussion d;
    fs_emit e = { 0 };

    if (!need_discussion(c, false, &d) || (d.is_pr && fs_http_query(c->http, "diff", 0) && !fs_hub_need_open(c)) ||
        fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT " DISCUSSION_COLUMNS " FROM discussions d JOIN accounts a ON a.id = d.author WHERE d.repo = ? AND d.num = ?",
                                     "ii", c->repo.id, d.num)))
        return;
    fs_emit_begin(&e, '{');
    if (fs_db_next(st)) {
        emit_discussion(c, &e, st);
        snprintf(merge_commit, sizeof merge_commit, "%s", fs_db_text(st, 7));
    }
    if (fs_hub_failed(c, fs_db_end(st, &c->err)) ||
        fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT " EVENT_COLUMNS " FROM events e JOIN accounts a ON a.id = e.author WHERE e.repo = ? AND e.num = ? ORDER BY e.id",
                                     "ii", c->repo.id, d.num)))
        goto out;
    fs_emit_key(&e, "events");
    fs_emit_begin(&e, '[');
    while (fs_db_next(st))
        emit_event(&e, st);
    fs_emit_end(&e, ']');
    if (fs_hub_failed(c, fs_db_end(st, &c->err)))
        goto out;
    if (d.is_pr)
        emit_pr(c, &e, &d, merge_commit);
    fs_emit_end(&e, '}');
    fs_hub_reply(c, 200, &e);
out:
    fs_emit_done(&e);
}

/* {key: event} of an event of ours. */
static void reply_event(fs_hub_call *c, const char *key, int64_t id)
{
    sqlite3_stmt *st = NULL;
    fs_emit e = { 0 };

    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT " EVENT_COLUMNS " FROM events e JOIN accounts a ON a.id = e.author WHERE e.id = ?", "i", id)))
        return;
    fs_emit_begin(&e, '{');
    fs_emit_key(&e, key);
    if (fs_db_next(st))
        emit_event(&e, st);
    fs_emit_end(&e, '}');
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
        fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

void fs_hub_discussion_comment(fs_hub_call *c)
{
    struct json_object *o = NULL;
    char *text = malloc(TEXT_MAX);
    int64_t id = 0;
    discussion d;

    if (text && need_discussion(c, true, &d) && (o = fs_hub_body_json(c)) && fs_hub_json_str(c, o, "comment", text, TEXT_MAX)) {
        if (!*text)
            fs_hub_error(c, 400, NULL, "a comment needs text");
        else if (!fs_hub_failed(c, fs_hub_event_add(c, d.num, "comment", text, NULL, &id, &c->err)))
            reply_event(c, "newMessage", id);
    }
    json_object_put(o);
    free(text);
}

void fs_hub_discussion_title(fs_hub_call *c)
{
    struct json_object *o = NULL;
    char title[300];
    int64_t id = 0;
    discussion d;
    fs_status rc;

    if (!need_discussion(c, true, &d) || !need_say(c, &d) || !(o = fs_hub_body_json(c)))
        return;
    if (fs_hub_json_str(c, o, "title", title, sizeof title) && !*title) {
        fs_hub_error(c, 400, NULL, "a discussion needs a title");
    } else if (!c->replied) {
        rc = fs_db_begin(c->db, &c->err);
        if (!rc)
            rc = fs_db_run(c->db, &c->err, "UPDATE discussions SET title = ? WHERE repo = ? AND num = ?", "sii", title, c->repo.id, d.num);
        if (!rc)
            rc = fs_hub_event_add(c, d.num, "title-change", d.title, title, &id, &c->err);
        if (!rc)
            rc = fs_db_commit(c->db, &c->err);
        if (!fs_hub_failed(c, rc))
            reply_event(c, "newTitle", id);
    }
    json_object_put(o);
}

/* As it is now: under the repository's lock nobody else merges, closes or opens it. */
static fs_status read_status(fs_hub_call *c, discussion *d)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, &c->err, "SELECT status FROM discussions WHERE repo = ? AND num = ?", "ii", c->repo.id, d->num);

    if (rc)
        return rc;
    snprintf(d->status, sizeof d->status, "%s", fs_db_next(st) ? fs_db_text(st, 0) : "");
    return fs_db_end(st, &c->err);
}

static fs_status set_status(fs_hub_call *c, int64_t num, const char *status, const char *comment, const char *merge_commit, int64_t *ret_id)
{
    fs_status rc = fs_db_begin(c->db, &c->err);

    if (!rc)
        rc = fs_db_run(c->db, &c->err, "UPDATE discussions SET status = ?, merge_commit = coalesce(?, merge_commit) WHERE repo = ? AND num = ?", "ssii", status,
                       merge_commit, c->repo.id, num);
    if (!rc && *comment)
        rc = fs_hub_event_add(c, num, "comment", comment, NULL, NULL, &c->err);
    if (!rc)
        rc = fs_hub_event_add(c, num, "status-change", status, NULL, ret_id, &c->err);
    return rc ? rc : fs_db_commit(c->db, &c->err);
}

void fs_hub_discussion_status(fs_hub_call *c)
{
    struct json_object *o = NULL;
    char status[16], *comment = malloc(TEXT_MAX);
    int64_t id = 0;
    discussion d;

    if (comment && need_discussion(c, true, &d) && need_say(c, &d) && (o = fs_hub_body_json(c)) && fs_hub_json_str(c, o, "status", status, sizeof status) &&
        fs_hub_json_str(c, o, "comment", comment, TEXT_MAX)) {
        fs_hub_repo_lock(c);
        if (strcmp(status, "open") != 0 && strcmp(status, "closed") != 0)
            fs_hub_error(c, 400, NULL, "a status is open or closed, not '%s'", status);
        else if (!fs_hub_failed(c, read_status(c, &d)) && strcmp(d.status, "merged") == 0)
            fs_hub_error(c, 400, NULL, "it is merged");
        else if (!c->replied && !fs_hub_failed(c, set_status(c, d.num, status, comment, NULL, &id)))
            reply_event(c, "newStatus", id);
        fs_hub_repo_unlock(c);
    }
    json_object_put(o);
    free(comment);
}

/* Makes the merge and moves the branch; 0 conflicts. Under the repository's lock. */
static fs_status merge(fs_hub_call *c, const discussion *d, git_oid *ret_old, git_oid *ret, bool *ret_conflicts, fs_error *err)
{
    git_oid ours, theirs, base, tree, parents[2];
    git_index *index = NULL;
    fs_hub_objects written = { 0 };
    char message[400];
    fs_status rc = FS_OK;

    *ret_conflicts = false;
    if (!find_sides(c, d, "", &ours, &theirs, &base, err))
        return fs_fail(err, FS_ERR_FORMAT, "the pull request and '%s' have no commit in common", d->base);
    rc = merge_index(c, &base, &ours, &theirs, &index, err);
    if (!rc && git_index_has_conflicts(index)) {
        *ret_conflicts = true;
    } else if (!rc) {
        if (git_index_write_tree_to(&tree, index, c->git) != 0)
            rc = fs_hub_git_fail(err, "cannot write the merge");
        snprintf(message, sizeof message, "%s (#%lld)", d->title, (long long)d->num);
        parents[0] = ours;
        parents[1] = theirs;
        if (!rc)
            rc = fs_hub_commit_write(c->git, &tree, parents, 2, c->user.name, message, &written, ret, err);
        if (!rc) { /* how many objects the merge made is libgit2's business: the whole file system is asked */
            fs_hub_objects all = { .n = SIZE_MAX };
            rc = fs_hub_git_sync(c->path, &all, err);
        }
        if (!rc)
            rc = fs_hub_ref_set(c->hub, c->path, c->git, d->base, &ours, ret, err);
        *ret_old = ours;
    }
    git_index_free(index);
    fs_hub_objects_done(&written);
    return rc;
}

void fs_hub_discussion_merge(fs_hub_call *c)
{
    struct json_object *o = NULL;
    char *comment = malloc(TEXT_MAX), hex[GIT_OID_HEXSZ + 1];
    bool conflicts = false;
    int64_t id = 0;
    git_oid old, new;
    discussion d;
    fs_status rc;

    if (!comment || !need_discussion(c, true, &d) || !(o = fs_hub_body_json(c)) || !fs_hub_json_str(c, o, "comment", comment, TEXT_MAX))
        goto out;
    if (c->right < FS_HUB_WRITE) {
        fs_hub_error(c, 403, NULL, "You have no right to write to %s/%s", c->repo.owner_name, c->repo.name);
        goto out;
    }
    fs_hub_repo_lock(c);
    rc = read_status(c, &d);
    if (!rc && (!d.is_pr || strcmp(d.status, "merged") == 0 || strcmp(d.status, "closed") == 0)) {
        fs_hub_repo_unlock(c);
        fs_hub_error(c, 400, NULL, d.is_pr ? "this pull request is %s" : "discussion %s is no pull request", d.is_pr ? d.status : fs_http_param(c->http, 3));
        goto out;
    }
    if (!rc)
        do
            rc = merge(c, &d, &old, &new, &conflicts, &c->err);
        while (rc == FS_ERR_ARGUMENT && strstr(c->err.message, "meanwhile")); /* a push was quicker */
    if (!rc && !conflicts) {
        git_oid_tostr(hex, sizeof hex, &new);
        rc = set_status(c, d.num, "merged", comment, hex, &id);
    }
    fs_hub_repo_unlock(c);
    if (conflicts) {
        fs_hub_error(c, 409, NULL, "the pull request conflicts with '%s': its details list the files", d.base);
        goto out;
    }
    if (!fs_hub_failed(c, rc) && !fs_hub_failed(c, fs_hub_after_ref(c, d.base, &old, &new, NULL, &c->err)))
        reply_event(c, "newStatus", id);
out:
    json_object_put(o);
    free(comment);
}

/* ---- comments ---- */

static void change_comment(fs_hub_call *c, bool hide)
{
    struct json_object *o = NULL;
    char *text = malloc(TEXT_MAX);
    int64_t id = strtoll(fs_http_param(c->http, 4), NULL, 16), author = 0;
    bool found = false;
    discussion d;
    fs_status rc;

    if (!text || !need_discussion(c, true, &d) || !(o = fs_hub_body_json(c)) || !fs_hub_json_str(c, o, "content", text, TEXT_MAX) ||
        fs_hub_failed(c, fs_db_int(c->db, &author, &found, &c->err, "SELECT author FROM events WHERE id = ? AND repo = ? AND num = ? AND type = 'comment'", "iii", id, c->repo.id,
                                   d.num)))
        goto out;
    if (!found) {
        fs_hub_error(c, 404, NULL, "there is no such comment");
        goto out;
    }
    if (author != c->user.id && (!hide || c->right < FS_HUB_WRITE)) {
        fs_hub_error(c, 403, NULL, "the comment is another's");
        goto out;
    }
    rc = hide ? fs_db_run(c->db, &c->err, "UPDATE events SET hidden = 1 WHERE id = ?", "i", id)
              : fs_db_run(c->db, &c->err, "UPDATE events SET text = ?, edited_ms = ? WHERE id = ?", "sii", text, fs_unix_ms(), id);
    if (!fs_hub_failed(c, rc))
        reply_event(c, "updatedComment", id);
out:
    json_object_put(o);
    free(text);
}

void fs_hub_comment_edit(fs_hub_call *c)
{
    change_comment(c, false);
}

void fs_hub_comment_hide(fs_hub_call *c)
{
    change_comment(c, true);
}
