/* A repository's pages: its card, its folders, its history. */
#include "hub/page.h"

#include "net/url.h"

#include <stdlib.h>
#include <string.h>

#define COMMITS_MAX 50
#define HISTORY_MAX 100000 /* commits looked through for a page */

/* ---- a card ---- */

/* Where a Markdown file's links lead: its own folder, at its revision. kind: "blob" or "resolve". */
static fs_status folder_of(const fs_hub_call *c, const char *kind, const char *rev, const char *path, fs_buf *ret, fs_error *err)
{
    const char *slash = strrchr(path, '/');
    fs_status rc = fs_buf_printf(ret, err, "/%s%s/%s/%s/", fs_hub_type_prefix(c->repo.type), c->repo.owner_name, c->repo.name, kind);

    if (!rc)
        rc = fs_url_encode(ret, fs_bytes_str(rev), "", err);
    if (!rc)
        rc = fs_buf_append(ret, "/", 1, err);
    return rc ? rc : fs_url_encode(ret, (fs_bytes){ (const uint8_t *)path, slash ? (size_t)(slash + 1 - path) : 0 }, "/", err);
}

void fs_page_repo_markdown(fs_page *p, const fs_hub_call *c, const char *rev, const char *path, fs_bytes text)
{
    fs_buf link = { 0 }, picture = { 0 };

    if (!p->rc)
        p->rc = folder_of(c, "blob", rev, path, &link, &p->err);
    if (!p->rc)
        p->rc = folder_of(c, "resolve", rev, path, &picture, &p->err);
    if (!p->rc) {
        fs_page_put(p, "<article class=\"card\">");
        fs_page_markdown(p, text, link.data, picture.data);
        fs_page_put(p, "</article>");
    }
    fs_buf_done(&link);
    fs_buf_done(&picture);
}

static void put_card(fs_page *p, fs_hub_call *c, const git_oid *tree)
{
    git_oid oid;
    git_object_t type;
    git_blob *blob = NULL;
    fs_bytes text, yaml;

    if (fs_hub_entry_find(c->git, tree, "README.md", &oid, &type, NULL) != FS_OK || type != GIT_OBJECT_BLOB || git_blob_lookup(&blob, c->git, &oid) != 0) {
        fs_page_put(p, "<p class=\"soft\">There is no README.md yet.</p>");
        return;
    }
    text = (fs_bytes){ git_blob_rawcontent(blob), (size_t)git_blob_rawsize(blob) };
    yaml = fs_hub_card_yaml(text);
    if (yaml.n_bytes) { /* behind the line that ends it */
        const uint8_t *end = memchr(yaml.data + yaml.n_bytes, '\n', (size_t)(text.data + text.n_bytes - (yaml.data + yaml.n_bytes)));
        text.n_bytes -= end ? (size_t)(end + 1 - text.data) : text.n_bytes;
        text.data = end ? end + 1 : text.data;
    }
    fs_page_repo_markdown(p, c, "main", "README.md", text);
    git_blob_free(blob);
}

/* Who may not read it may ask. */
static void put_gate(fs_page *p, const fs_hub_call *c)
{
    int64_t n = 0;

    fs_page_put(p, "<p>Its owner decides who may read it.</p>");
    if (!fs_page_may_send(c) || fs_db_int(c->db, &n, NULL, NULL, "SELECT count(*) FROM access_requests WHERE repo = ? AND account = ?", "ii", c->repo.id, c->user.id) != FS_OK)
        return;
    if (n) {
        fs_page_put(p, "<p class=\"soft\">You asked for it.</p>");
        return;
    }
    fs_page_repo_form(p, c, "inline", "/ask-access");
    fs_page_put(p, "<button class=\"main\">Ask to read it</button></form>");
}

/* Of a copy: how its last try went. */
static fs_status put_mirror(fs_page *p, fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, &c->err, "SELECT coalesce(done_ms, 0), coalesce(tried_ms, 0), coalesce(failure, '') FROM mirrors WHERE repo = ?", "i", c->repo.id);

    if (rc)
        return rc;
    if (fs_db_next(st)) {
        fs_page_put(p, "<p class=\"soft\">A copy from ");
        fs_page_text(p, c->repo.mirror);
        fs_page_put(p, sqlite3_column_int64(st, 0) ? ", the same as there at " : ", not whole yet");
        if (sqlite3_column_int64(st, 0))
            fs_page_date(p, sqlite3_column_int64(st, 0));
        fs_page_put(p, ".</p>");
        if (*fs_db_text(st, 2)) {
            fs_page_put(p, "<p class=\"bad\">The last try, at ");
            fs_page_date(p, sqlite3_column_int64(st, 1));
            fs_page_put(p, ", failed: ");
            fs_page_text(p, fs_db_text(st, 2));
            fs_page_put(p, "</p>");
        }
    }
    return fs_db_end(st, &c->err);
}

static fs_status put_origin(fs_page *p, fs_hub_call *c)
{
    fs_hub_origin origin;
    fs_status rc = fs_hub_fork_origin(c, &origin, &c->err);

    if (rc || !*origin.id)
        return rc;
    fs_page_put(p, "<p class=\"soft\">A fork of <a rel=\"noreferrer\" href=\"");
    fs_page_text(p, origin.hub);
    fs_page_put(p, "/%s", fs_hub_type_prefix(c->repo.type));
    fs_page_path(p, origin.id);
    fs_page_put(p, "\">");
    fs_page_text(p, origin.id);
    fs_page_put(p, "</a>");
    if (*origin.hub) {
        fs_page_put(p, " of ");
        fs_page_text(p, origin.hub);
    }
    fs_page_put(p, " at %.10s.</p>", origin.sha);
    return FS_OK;
}

static fs_status put_fork(fs_page *p, fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_status rc;

    if (!*c->session)
        return FS_OK;
    rc = fs_page_owners(c, &st);
    if (rc)
        return rc;
    if (fs_db_next(st)) {
        fs_page_put(p, "<details><summary>Fork</summary>");
        fs_page_repo_form(p, c, "filters", "/fork");
        fs_page_put(p, "<label>Name<input name=\"repository\" required maxlength=\"193\" value=\"");
        fs_page_text(p, fs_db_text(st, 0));
        fs_page_put(p, "/");
        fs_page_text(p, c->repo.name);
        fs_page_put(p, "\"></label><button>Make a fork</button></form></details>");
    }
    return fs_db_end(st, &c->err);
}

void fs_hub_page_repo(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_page p = { .rc = FS_OK };
    git_oid commit, tree;
    char id[220], *tags = NULL, *description = NULL;

    if (!fs_page_need_repo(c, 0) || !fs_hub_need_rev(c, "main", &commit, NULL) || fs_hub_failed(c, fs_hub_commit_tree(c->git, &commit, &tree, &c->err)) ||
        fs_hub_failed(c, fs_hub_card_refresh(c, &c->err)) ||
        fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT " FS_HUB_REPO_COLUMNS ", r.description" FS_HUB_REPO_TABLES "WHERE r.id = ?", "i", c->repo.id)))
        return;
    if (fs_db_next(st)) {
        tags = strdup(fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 3));
        description = strdup(fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 4));
    }
    if (fs_hub_failed(c, fs_db_end(st, &c->err)))
        goto out;
    fs_page_repo_id(c, id);
    fs_page_begin(&p, c, id);
    fs_page_repo_head(&p, c, "Card", tags);
    if (description && *description) {
        fs_page_put(&p, "<p>");
        fs_page_text(&p, description);
        fs_page_put(&p, "</p>");
    }
    if (*c->repo.mirror && fs_hub_failed(c, put_mirror(&p, c)))
        goto out;
    if (fs_hub_failed(c, put_origin(&p, c)))
        goto out;
    if (fs_hub_may_read(c))
        fs_page_signatures(&p, c, &tree);
    fs_page_put(&p, "<pre><code>HF_ENDPOINT=");
    fs_page_text(&p, c->base);
    fs_page_put(&p, " farseek pull ");
    fs_page_text(&p, id);
    fs_page_put(&p, "\ngit clone ");
    fs_page_text(&p, c->base);
    fs_page_put(&p, "/%s", fs_hub_type_prefix(c->repo.type));
    fs_page_text(&p, id);
    fs_page_put(&p, "</code></pre>");
    if (fs_hub_may_read(c)) {
        if (fs_hub_failed(c, put_fork(&p, c)))
            goto out;
        put_card(&p, c, &tree);
    } else {
        put_gate(&p, c);
    }
    fs_page_end(&p, c, 200);
out:
    fs_buf_done(&p.out);
    free(tags);
    free(description);
}

/* ---- files ---- */

/* The part of the address behind the revision, decoded; the caller frees. NULL after a page. */
char *fs_page_need_path(fs_hub_call *c)
{
    const char *raw = fs_http_param(c->http, fs_http_n_params(c->http) - 1);
    char *path = malloc(strlen(raw) + 1);

    if (path && fs_url_decode(fs_bytes_str(raw), false, path) && (!*path || fs_hub_path_is_valid(path)))
        return path;
    free(path);
    fs_hub_not_here(c);
    return NULL;
}

/* main / folder / file, each a link to its tree. */
void fs_page_way(fs_page *p, const fs_hub_call *c, const char *rev, const char *path)
{
    fs_page_put(p, "<p><a href=\"");
    fs_page_repo_link(p, &c->repo);
    fs_page_put(p, "/tree/");
    fs_page_word(p, rev);
    fs_page_put(p, "\">");
    fs_page_text(p, rev);
    fs_page_put(p, "</a>");
    for (const char *part = path; *part;) {
        size_t n = strcspn(part, "/");
        bool last = !part[n];
        fs_page_put(p, " / ");
        if (!last) {
            char *upto = strndup(path, (size_t)(part + n - path));
            fs_page_put(p, "<a href=\"");
            fs_page_repo_link(p, &c->repo);
            fs_page_put(p, "/tree/");
            fs_page_word(p, rev);
            fs_page_put(p, "/");
            fs_page_path(p, upto ? upto : "");
            fs_page_put(p, "\">");
            free(upto);
        }
        fs_page_bytes(p, (fs_bytes){ (const uint8_t *)part, n });
        if (!last)
            fs_page_put(p, "</a>");
        part += n + !last;
    }
    fs_page_put(p, "</p>");
}

typedef struct rows {
    fs_page *p;
    fs_hub_call *c;
    const char *rev;
} rows;

static fs_status put_row(void *ud, const char *path, const git_oid *oid, git_object_t type, fs_error *err)
{
    rows *r = ud;
    const char *slash = strrchr(path, '/');
    char hex[GIT_OID_HEXSZ + 1];
    fs_hub_file f = { 0 };
    fs_status rc = type == GIT_OBJECT_BLOB ? fs_hub_file_read(r->c->git, oid, &f, err) : FS_OK;

    if (rc)
        return rc;
    git_oid_tostr(hex, sizeof hex, oid);
    fs_page_put(r->p, "<tr><td class=\"name\"><a href=\"");
    fs_page_repo_link(r->p, &r->c->repo);
    fs_page_put(r->p, type == GIT_OBJECT_BLOB ? "/blob/" : "/tree/");
    fs_page_word(r->p, r->rev);
    fs_page_put(r->p, "/");
    fs_page_path(r->p, path);
    fs_page_put(r->p, "\">");
    fs_page_text(r->p, slash ? slash + 1 : path);
    fs_page_put(r->p, type == GIT_OBJECT_BLOB ? "</a></td><td class=\"n\">" : "/</a></td><td class=\"n\">");
    if (type == GIT_OBJECT_BLOB)
        fs_page_size(r->p, f.n_bytes);
    fs_page_put(r->p, "</td><td class=\"hash\"><code title=\"%s\">%.12s</code></td><td class=\"n\">", f.lfs ? "SHA-256" : "git", f.lfs ? f.sha256 : hex);
    if (type == GIT_OBJECT_BLOB) {
        fs_page_put(r->p, "<a href=\"");
        fs_page_repo_link(r->p, &r->c->repo);
        fs_page_put(r->p, "/resolve/");
        fs_page_word(r->p, r->rev);
        fs_page_put(r->p, "/");
        fs_page_path(r->p, path);
        fs_page_put(r->p, "\" download>get</a>");
    }
    fs_page_put(r->p, "</td></tr>");
    return r->p->rc;
}

static void put_torrent(fs_page *p, const fs_hub_call *c, const git_oid *commit)
{
    char hex[GIT_OID_HEXSZ + 1];

    git_oid_tostr(hex, sizeof hex, commit);
    fs_page_put(p, "<p class=\"soft\">Commit <code>%.12s</code>, all of it as a <a href=\"", hex);
    fs_page_repo_link(p, &c->repo);
    fs_page_put(p, "/torrent/%s\" download>torrent</a></p>", hex);
}

void fs_hub_page_tree(fs_hub_call *c)
{
    const char *rev;
    char id[220], *path = NULL;
    fs_page p = { .rc = FS_OK };
    rows r = { &p, c, NULL };
    git_oid commit, tree, oid;
    git_object_t type = GIT_OBJECT_INVALID;
    fs_status rc;

    if (!fs_page_need_repo(c, 2) || !fs_hub_need_open(c) || !(path = fs_page_need_path(c)))
        return;
    r.rev = rev = fs_http_param(c->http, fs_http_n_params(c->http) - 2);
    if (!fs_hub_need_rev(c, rev, &commit, NULL) || fs_hub_failed(c, fs_hub_commit_tree(c->git, &commit, &tree, &c->err)))
        goto out;
    rc = fs_hub_entry_find(c->git, &tree, path, &oid, &type, &c->err);
    if (rc == FS_ERR_NOT_FOUND || (!rc && type != GIT_OBJECT_TREE)) {
        fs_hub_not_here(c);
        goto out;
    }
    fs_page_repo_id(c, id);
    fs_page_begin(&p, c, id);
    fs_page_repo_head(&p, c, "Files", NULL);
    fs_page_way(&p, c, rev, path);
    if (fs_page_may_send(c) && !*c->repo.mirror) {
        fs_page_put(&p, "<p><a class=\"button\" href=\"");
        fs_page_repo_link(&p, &c->repo);
        fs_page_put(&p, "/upload/");
        fs_page_word(&p, rev);
        fs_page_put(&p, "/");
        fs_page_path(&p, path);
        fs_page_put(&p, "\">Upload files</a></p>");
    }
    put_torrent(&p, c, &commit);
    fs_page_put(&p, "<div class=\"wide\"><table>");
    if (!rc)
        rc = fs_hub_walk(c->git, &oid, path, false, put_row, &r, &c->err);
    fs_page_put(&p, "</table></div>");
    if (!fs_hub_failed(c, rc))
        fs_page_end(&p, c, 200);
out:
    fs_buf_done(&p.out);
    free(path);
}

/* ---- history ---- */

/* Whether a commit changed what is at path: it differs from what every parent has there. */
static bool touches(const git_commit *commit, const char *path)
{
    git_tree *tree = NULL, *before = NULL;
    git_commit *parent = NULL;
    bool differs = false;

    if (git_commit_tree(&tree, commit) != 0)
        return false;
    if (git_commit_parentcount(commit) == 0)
        differs = !fs_hub_same_entry(tree, NULL, path);
    for (unsigned i = 0; i < git_commit_parentcount(commit) && (i == 0 || differs); i++) {
        differs = git_commit_parent(&parent, commit, i) == 0 && git_commit_tree(&before, parent) == 0 && !fs_hub_same_entry(tree, before, path);
        git_tree_free(before);
        git_commit_free(parent);
        before = NULL;
        parent = NULL;
    }
    git_tree_free(tree);
    return differs;
}

static void put_commit(fs_page *p, const fs_hub_call *c, const git_commit *commit, const char *path)
{
    char hex[GIT_OID_HEXSZ + 1];

    git_oid_tostr(hex, sizeof hex, git_commit_id(commit));
    fs_page_put(p, "<li>");
    fs_page_text(p, git_commit_summary((git_commit *)commit) ? git_commit_summary((git_commit *)commit) : "");
    fs_page_put(p, "<br><span class=\"soft\"><a href=\"");
    fs_page_repo_link(p, &c->repo);
    fs_page_put(p, "/%s/%s", *path ? "blob" : "tree", hex);
    if (*path) {
        fs_page_put(p, "/");
        fs_page_path(p, path);
    }
    fs_page_put(p, "\"><code>%.12s</code></a> by ", hex);
    fs_page_text(p, git_commit_author(commit)->name);
    fs_page_put(p, ", ");
    fs_page_date(p, fs_hub_commit_ms(commit));
    fs_page_put(p, "</span></li>");
}

/* The history of a revision, or of a file in it. */
void fs_hub_page_commits(fs_hub_call *c)
{
    const char *rev, *page_text = fs_http_query(c->http, "p", 0);
    long page = page_text ? strtol(page_text, NULL, 10) : 0, n = 0, n_seen = 0;
    fs_page p = { .rc = FS_OK };
    git_revwalk *walk = NULL;
    git_oid oid;
    char id[220], *path = NULL;

    if (!fs_page_need_repo(c, 2) || !fs_hub_need_open(c) || !(path = fs_page_need_path(c)))
        return;
    rev = fs_http_param(c->http, fs_http_n_params(c->http) - 2);
    if (page < 0 || page > 1000000)
        page = 0;
    if (!fs_hub_need_rev(c, rev, &oid, NULL))
        goto out;
    if (git_revwalk_new(&walk, c->git) != 0 || git_revwalk_sorting(walk, GIT_SORT_TOPOLOGICAL | GIT_SORT_TIME) != 0 || git_revwalk_push(walk, &oid) != 0) {
        fs_hub_failed(c, fs_hub_git_fail(&c->err, "cannot walk the history"));
        goto out;
    }
    fs_page_repo_id(c, id);
    fs_page_begin(&p, c, id);
    fs_page_repo_head(&p, c, "History", NULL);
    if (*path)
        fs_page_way(&p, c, rev, path);
    fs_page_put(&p, "<ul class=\"list\">");
    while (n <= (page + 1) * COMMITS_MAX && n_seen++ < HISTORY_MAX && git_revwalk_next(&oid, walk) == 0) {
        git_commit *commit = NULL;
        bool wanted = n >= page * COMMITS_MAX && n < (page + 1) * COMMITS_MAX;
        if ((!wanted && !*path) || git_commit_lookup(&commit, c->git, &oid) != 0) {
            n++;
            continue;
        }
        if (!*path || touches(commit, path)) {
            if (wanted)
                put_commit(&p, c, commit, path);
            n++;
        }
        git_commit_free(commit);
    }
    fs_page_put(&p, "</ul>%s", n_seen > HISTORY_MAX ? "<p class=\"soft\">What is older was not looked through.</p>" : "");
    if (page)
        fs_page_put(&p, "<a rel=\"prev\" href=\"?p=%ld\">newer</a> ", page - 1);
    if (n > (page + 1) * COMMITS_MAX)
        fs_page_put(&p, "<a rel=\"next\" href=\"?p=%ld\">older</a>", page + 1);
    fs_page_end(&p, c, 200);
out:
    git_revwalk_free(walk);
    free(path);
}
