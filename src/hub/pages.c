/* The pages for people: lists, a repository's card, files, history and discussions. They only read, work without scripts, and show nothing
 * that the API would not. Logging in is the browser's own dialogue, with a token as the password. */
#include "hub/page.h"

#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "net/url.h"
#include "tensor/dtype.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LIST_MAX    30
#define COMMITS_MAX 50
#define TENSORS_MAX 2000
#define SHOWN_BYTES ((size_t)512 << 10)

/* ---- pieces ---- */

static void put_link(fs_page *p, const fs_hub_repo *r)
{
    fs_page_put(p, "/%s", fs_hub_type_prefix(r->type));
    fs_page_path(p, r->owner_name);
    fs_page_put(p, "/");
    fs_page_path(p, r->name);
}

static void put_tags(fs_page *p, const char *json)
{
    struct json_object *list = NULL;

    if (fs_json_parse(fs_bytes_str(json), "tags", &list, NULL) != FS_OK || !json_object_is_type(list, json_type_array)) {
        json_object_put(list);
        return;
    }
    for (size_t i = 0; i < json_object_array_length(list) && i < 24; i++) {
        struct json_object *x = json_object_array_get_idx(list, i);
        if (!json_object_is_type(x, json_type_string))
            continue;
        fs_page_put(p, "<a class=\"tag\" href=\"/?filter=");
        fs_page_word(p, json_object_get_string(x));
        fs_page_put(p, "\">");
        fs_page_text(p, json_object_get_string(x));
        fs_page_put(p, "</a>");
    }
    json_object_put(list);
}

static void put_states(fs_page *p, const fs_hub_repo *r)
{
    if (r->private)
        fs_page_put(p, " <span class=\"tag\">private</span>");
    if (*r->gated)
        fs_page_put(p, " <span class=\"tag\">gated</span>");
    if (*r->mirror) {
        fs_page_put(p, " <span class=\"tag\">copy from ");
        fs_page_text(p, r->mirror);
        fs_page_put(p, "</span>");
    }
}

/* Name, states, and the tabs with one that is current; columns: the row's, for tags. */
static void put_head(fs_page *p, const fs_hub_call *c, const char *tab, const char *tags)
{
    static const char *const tabs[][2] = { { "", "Card" }, { "/tree/main", "Files" }, { "/commits/main", "History" }, { "/discussions", "Discussions" } };

    fs_page_put(p, "<h1><a href=\"/");
    fs_page_path(p, c->repo.owner_name);
    fs_page_put(p, "\">");
    fs_page_text(p, c->repo.owner_name);
    fs_page_put(p, "</a> / <a href=\"");
    put_link(p, &c->repo);
    fs_page_put(p, "\">");
    fs_page_text(p, c->repo.name);
    fs_page_put(p, "</a>");
    put_states(p, &c->repo);
    fs_page_put(p, "</h1><p class=\"soft\">changed ");
    fs_page_date(p, c->repo.modified_ms);
    fs_page_put(p, " &middot; %" PRId64 " likes</p>", c->repo.likes);
    if (tags)
        put_tags(p, tags);
    fs_page_put(p, "<nav class=\"tabs\">");
    for (size_t i = 0; i < sizeof tabs / sizeof *tabs; i++) {
        fs_page_put(p, "<a href=\"");
        put_link(p, &c->repo);
        fs_page_put(p, "%s\"%s>%s</a>", tabs[i][0], strcmp(tab, tabs[i][1]) == 0 ? " aria-current=\"page\"" : "", tabs[i][1]);
    }
    fs_page_put(p, "</nav>");
}

static void id_of(const fs_hub_call *c, char ret[220])
{
    snprintf(ret, 220, "%s/%s", c->repo.owner_name, c->repo.name);
}

/* The repository of the page's address; false after a page that says no. */
static bool need_repo(fs_hub_call *c, int n_tail)
{
    c->is_page = true;
    return fs_hub_need_repo_path(c, n_tail, FS_HUB_READ);
}

/* ---- lists ---- */

/* The same list, another page. */
static void put_turn(fs_page *p, const char *rel, int64_t page, const char *search, const char *filter, const char *text)
{
    fs_page_put(p, "<a rel=\"%s\" href=\"?p=%" PRId64 "&amp;search=", rel, page);
    fs_page_word(p, search ? search : "");
    fs_page_put(p, "&amp;filter=");
    fs_page_word(p, filter ? filter : "");
    fs_page_put(p, "\">%s</a> ", text);
}

static void list(fs_hub_call *c, const char *type, const char *owner)
{
    const char *search = fs_http_query(c->http, "search", 0), *filter = fs_http_query(c->http, "filter", 0), *page_text = fs_http_query(c->http, "p", 0);
    int64_t page = page_text ? strtoll(page_text, NULL, 10) : 0, n = 0;
    sqlite3_stmt *st = NULL;
    fs_page p = { .rc = FS_OK };

    c->is_page = true;
    if (page < 0 || page > 1000000)
        page = 0;
    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err,
                                     "SELECT " FS_HUB_REPO_COLUMNS FS_HUB_REPO_TABLES "WHERE (?1 IS NULL OR r.type = ?1) AND (?2 IS NULL OR a.name = ?2) AND (?3 IS NULL OR instr(lower(a.name"
                                     " || '/' || r.name), lower(?3)) > 0) AND (?4 IS NULL OR EXISTS(SELECT 1 FROM repo_tags t WHERE t.tag = ?4 AND t.repo = r.id))"
                                     " AND (NOT r.disabled OR ?5) AND (NOT r.private OR ?5 OR " FS_HUB_REPO_IS_OF("?6") ")"
                                     " ORDER BY r.modified_ms DESC, r.id DESC LIMIT ?7 OFFSET ?8",
                                     "ssssiiii", type, owner, search && *search ? search : NULL, filter && *filter ? filter : NULL, (int64_t)c->user.is_admin, c->user.id,
                                     (int64_t)LIST_MAX + 1, page * LIST_MAX)))
        return;
    fs_page_begin(&p, c, owner ? owner : type ? type : "Hub");
    fs_page_put(&p, "<h1>");
    fs_page_text(&p, owner ? owner : strcmp(type, "models") == 0 ? "Models" : strcmp(type, "datasets") == 0 ? "Datasets" : "Spaces");
    fs_page_put(&p, "</h1>");
    if (filter && *filter) {
        fs_page_put(&p, "<p>tagged <a class=\"tag\" href=\"?\">");
        fs_page_text(&p, filter);
        fs_page_put(&p, " &times;</a></p>");
    }
    fs_page_put(&p, "<ul class=\"list\">");
    while (fs_db_next(st) && n++ < LIST_MAX) {
        fs_hub_repo r;
        fs_hub_repo_read(st, &r);
        fs_page_put(&p, "<li><a href=\"");
        put_link(&p, &r);
        fs_page_put(&p, "\">");
        fs_page_text(&p, r.owner_name);
        fs_page_put(&p, "/");
        fs_page_text(&p, r.name);
        fs_page_put(&p, "</a>");
        put_states(&p, &r);
        fs_page_put(&p, "<br><span class=\"soft\">%.*s%schanged ", owner ? (int)strlen(r.type) - 1 : 0, r.type, owner ? " &middot; " : "");
        fs_page_date(&p, r.modified_ms);
        fs_page_put(&p, " &middot; %" PRId64 " likes</span> ", r.likes);
        put_tags(&p, fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 3));
        fs_page_put(&p, "</li>");
    }
    fs_page_put(&p, "</ul>");
    if (n == 0)
        fs_page_put(&p, "<p class=\"soft\">Nothing here%s.</p>", page ? " any more" : " yet");
    if (page)
        put_turn(&p, "prev", page - 1, search, filter, "newer");
    if (n > LIST_MAX)
        put_turn(&p, "next", page + 1, search, filter, "older");
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
        fs_page_end(&p, c, 200);
    fs_buf_done(&p.out);
}

void fs_hub_page_models(fs_hub_call *c)
{
    list(c, "models", NULL);
}

void fs_hub_page_datasets(fs_hub_call *c)
{
    list(c, "datasets", NULL);
}

void fs_hub_page_spaces(fs_hub_call *c)
{
    list(c, "spaces", NULL);
}

void fs_hub_page_owner(fs_hub_call *c)
{
    int64_t id = 0;
    bool found = false;

    c->is_page = true;
    if (fs_hub_failed(c, fs_db_int(c->db, &id, &found, &c->err, "SELECT id FROM accounts WHERE name = ?", "s", fs_http_param(c->http, 0))))
        return;
    if (found)
        list(c, NULL, fs_http_param(c->http, 0));
    else
        fs_hub_not_here(c);
}

void fs_hub_page_style(fs_hub_call *c)
{
    c->replied = true;
    fs_http_reply_header(c->http, "Cache-Control", "max-age=300");
    fs_http_reply(c->http, 200, "text/css; charset=utf-8", fs_page_style, strlen(fs_page_style));
}

/* The browser asks for a name and a token, and sends them along from then on. */
void fs_hub_page_login(fs_hub_call *c)
{
    if (!c->user.id) {
        c->is_page = true;
        fs_http_reply_header(c->http, "WWW-Authenticate", "Basic realm=\"hub\", charset=\"UTF-8\"");
        fs_page_error(c, 401, "Your name, and a token as the password.");
        return;
    }
    fs_http_reply_header(c->http, "Location", "/");
    c->replied = true;
    fs_http_reply(c->http, 303, NULL, "", 0);
}

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

static void put_markdown(fs_page *p, const fs_hub_call *c, const char *rev, const char *path, fs_bytes text)
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
    put_markdown(p, c, "main", "README.md", text);
    git_blob_free(blob);
}

void fs_hub_page_repo(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_page p = { .rc = FS_OK };
    git_oid commit, tree;
    char id[220], *tags = NULL;

    if (!need_repo(c, 0) || !fs_hub_need_rev(c, "main", &commit, NULL) || fs_hub_failed(c, fs_hub_commit_tree(c->git, &commit, &tree, &c->err)) ||
        fs_hub_failed(c, fs_hub_card_refresh(c, &c->err)) ||
        fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT " FS_HUB_REPO_COLUMNS FS_HUB_REPO_TABLES "WHERE r.id = ?", "i", c->repo.id)))
        return;
    if (fs_db_next(st))
        tags = strdup(fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 3));
    if (fs_hub_failed(c, fs_db_end(st, &c->err))) {
        free(tags);
        return;
    }
    id_of(c, id);
    fs_page_begin(&p, c, id);
    put_head(&p, c, "Card", tags);
    fs_page_put(&p, "<pre><code>HF_ENDPOINT=");
    fs_page_text(&p, c->base);
    fs_page_put(&p, " farseek pull ");
    fs_page_text(&p, id);
    fs_page_put(&p, "\ngit clone ");
    fs_page_text(&p, c->base);
    fs_page_put(&p, "/%s", fs_hub_type_prefix(c->repo.type));
    fs_page_text(&p, id);
    fs_page_put(&p, "</code></pre>");
    if (!*c->repo.gated || c->right >= FS_HUB_WRITE)
        put_card(&p, c, &tree);
    else
        fs_page_put(&p, "<p>Its owner decides who may read it.</p>");
    fs_page_end(&p, c, 200);
    free(tags);
}

/* ---- files ---- */

/* The part of the address behind the revision, decoded; the caller frees. NULL after a page. */
static char *need_path(fs_hub_call *c)
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
static void put_way(fs_page *p, const fs_hub_call *c, const char *rev, const char *path)
{
    fs_page_put(p, "<p><a href=\"");
    put_link(p, &c->repo);
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
            put_link(p, &c->repo);
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
    put_link(r->p, &r->c->repo);
    fs_page_put(r->p, type == GIT_OBJECT_BLOB ? "/blob/" : "/tree/");
    fs_page_word(r->p, r->rev);
    fs_page_put(r->p, "/");
    fs_page_path(r->p, path);
    fs_page_put(r->p, "\">");
    fs_page_text(r->p, slash ? slash + 1 : path);
    fs_page_put(r->p, type == GIT_OBJECT_BLOB ? "</a></td><td class=\"n\">" : "/</a></td><td class=\"n\">");
    if (type == GIT_OBJECT_BLOB)
        fs_page_size(r->p, f.n_bytes);
    fs_page_put(r->p, "</td><td><code title=\"%s\">%.12s</code></td><td class=\"n\">", f.lfs ? "SHA-256" : "git", f.lfs ? f.sha256 : hex);
    if (type == GIT_OBJECT_BLOB) {
        fs_page_put(r->p, "<a href=\"");
        put_link(r->p, &r->c->repo);
        fs_page_put(r->p, "/resolve/");
        fs_page_word(r->p, r->rev);
        fs_page_put(r->p, "/");
        fs_page_path(r->p, path);
        fs_page_put(r->p, "\" download>get</a>");
    }
    fs_page_put(r->p, "</td></tr>");
    return r->p->rc;
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

    if (!need_repo(c, 2) || !fs_hub_need_open(c) || !(path = need_path(c)))
        return;
    r.rev = rev = fs_http_param(c->http, fs_http_n_params(c->http) - 2);
    if (!fs_hub_need_rev(c, rev, &commit, NULL) || fs_hub_failed(c, fs_hub_commit_tree(c->git, &commit, &tree, &c->err)))
        goto out;
    rc = fs_hub_entry_find(c->git, &tree, path, &oid, &type, &c->err);
    if (rc == FS_ERR_NOT_FOUND || (!rc && type != GIT_OBJECT_TREE)) {
        fs_hub_not_here(c);
        goto out;
    }
    id_of(c, id);
    fs_page_begin(&p, c, id);
    put_head(&p, c, "Files", NULL);
    put_way(&p, c, rev, path);
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

/* ---- one file ---- */

static void put_tensor(fs_page *p, const fs_tensor *t)
{
    fs_page_put(p, "<tr><td class=\"name\">");
    fs_page_text(p, t->name);
    fs_page_put(p, "</td><td>%s</td><td>", fs_dtype_get(t->dtype)->name);
    for (int i = 0; i < t->n_dims; i++)
        fs_page_put(p, "%s%" PRIu64, i ? " &times; " : "", (uint64_t)t->dims[i]);
    fs_page_put(p, "</td><td class=\"n\">");
    fs_page_size(p, t->n_bytes);
    fs_page_put(p, "</td></tr>");
}

static void put_tensor_head(fs_page *p, size_t n)
{
    fs_page_put(p, "<h2>%zu tensors</h2>%s<div class=\"wide\"><table><tr><th>name</th><th>type</th><th>shape</th><th class=\"n\">size</th></tr>", n,
                n > TENSORS_MAX ? "<p class=\"soft\">The first of them:</p>" : "");
}

static void put_safetensors(fs_page *p, fs_bytes bytes)
{
    fs_safetensors *s = NULL;
    fs_error err;

    if (fs_safetensors_open(bytes, "it", &s, &err) != FS_OK) {
        fs_page_put(p, "<p class=\"bad\">This file cannot be read: ");
        fs_page_text(p, err.message);
        fs_page_put(p, "</p>");
        return;
    }
    put_tensor_head(p, fs_safetensors_n_tensors(s));
    for (size_t i = 0; i < fs_safetensors_n_tensors(s) && i < TENSORS_MAX; i++)
        put_tensor(p, fs_safetensors_tensor_at(s, i));
    fs_page_put(p, "</table></div>");
    fs_safetensors_close(s);
}

static void put_value(fs_page *p, const fs_gguf *g, const fs_gguf_value *v)
{
    char key[256];
    double number = 0;
    int64_t whole = 0;
    bool flag = false;

    snprintf(key, sizeof key, "%.*s", (int)(v->key.n_bytes < 255 ? v->key.n_bytes : 255), (const char *)v->key.data);
    fs_page_put(p, "<tr><td class=\"name\">");
    fs_page_text(p, key);
    fs_page_put(p, "</td><td class=\"name\">");
    if (v->type == FS_GGUF_ARRAY)
        fs_page_put(p, "%" PRIu64 " items", v->n_items);
    else if (v->type == FS_GGUF_STRING)
        fs_page_bytes(p, (fs_bytes){ v->bytes.data, v->bytes.n_bytes < 400 ? v->bytes.n_bytes : 400 });
    else if (v->type == FS_GGUF_BOOL && fs_gguf_bool(g, key, &flag, NULL, NULL) == FS_OK)
        fs_page_put(p, flag ? "true" : "false");
    else if ((v->type == FS_GGUF_F32 || v->type == FS_GGUF_F64) && fs_gguf_double(g, key, &number, NULL, NULL) == FS_OK)
        fs_page_put(p, "%g", number);
    else if (fs_gguf_int(g, key, INT64_MIN, INT64_MAX, &whole, NULL, NULL) == FS_OK)
        fs_page_put(p, "%" PRId64, whole);
    fs_page_put(p, "</td></tr>");
}

static void put_gguf(fs_page *p, fs_bytes bytes)
{
    fs_gguf *g = NULL;
    fs_error err;

    if (fs_gguf_open(bytes, "it", &g, &err) != FS_OK) {
        fs_page_put(p, "<p class=\"bad\">This file cannot be read: ");
        fs_page_text(p, err.message);
        fs_page_put(p, "</p>");
        return;
    }
    fs_page_put(p, "<h2>Metadata</h2><div class=\"wide\"><table>");
    for (size_t i = 0; i < fs_gguf_n_values(g) && i < TENSORS_MAX; i++)
        put_value(p, g, fs_gguf_value_at(g, i));
    fs_page_put(p, "</table></div>");
    put_tensor_head(p, fs_gguf_n_tensors(g));
    for (size_t i = 0; i < fs_gguf_n_tensors(g) && i < TENSORS_MAX; i++)
        put_tensor(p, fs_gguf_tensor_at(g, i));
    fs_page_put(p, "</table></div>");
    fs_gguf_close(g);
}

static bool is_text(fs_bytes b)
{
    return !b.n_bytes || !memchr(b.data, 0, b.n_bytes);
}

static void put_content(fs_page *p, const fs_hub_call *c, const char *rev, const char *path, fs_bytes b)
{
    if (fs_ends_with(path, ".safetensors"))
        put_safetensors(p, b);
    else if (fs_ends_with(path, ".gguf"))
        put_gguf(p, b);
    else if (!is_text((fs_bytes){ b.data, b.n_bytes < 8192 ? b.n_bytes : 8192 }))
        fs_page_put(p, "<p class=\"soft\">Not text.</p>");
    else if (fs_ends_with(path, ".md"))
        put_markdown(p, c, rev, path, b);
    else {
        fs_page_put(p, "<pre><code>");
        fs_page_bytes(p, (fs_bytes){ b.data, b.n_bytes < SHOWN_BYTES ? b.n_bytes : SHOWN_BYTES });
        fs_page_put(p, "</code></pre>%s", b.n_bytes > SHOWN_BYTES ? "<p class=\"soft\">The rest is not shown.</p>" : "");
    }
}

/* A large file is mapped: only its header is touched. */
static void put_large(fs_page *p, fs_hub_call *c, const char *rev, const char *path, const fs_hub_file *f)
{
    uint64_t n_bytes = 0;
    bool held = false;
    void *map;
    int fd = -1;

    if (fs_hub_object_of(c->hub, c->db, c->repo.id, f->sha256, &held, &n_bytes, NULL) != FS_OK || !held || fs_hub_object_open(c->hub, f->sha256, &fd, &n_bytes, NULL) != FS_OK) {
        fs_page_put(p, "<p class=\"bad\">Its content is not in this hub.</p>");
        return;
    }
    map = n_bytes ? mmap(NULL, n_bytes, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    if (map == MAP_FAILED)
        return;
    put_content(p, c, rev, path, (fs_bytes){ map, n_bytes });
    munmap(map, n_bytes);
}

void fs_hub_page_blob(fs_hub_call *c)
{
    const char *rev;
    char id[220], *path = NULL;
    fs_page p = { .rc = FS_OK };
    git_blob *blob = NULL;
    git_oid commit, tree, oid;
    git_object_t type = GIT_OBJECT_INVALID;
    fs_hub_file f;
    fs_status rc;

    if (!need_repo(c, 2) || !fs_hub_need_open(c) || !(path = need_path(c)))
        return;
    rev = fs_http_param(c->http, fs_http_n_params(c->http) - 2);
    if (!fs_hub_need_rev(c, rev, &commit, NULL) || fs_hub_failed(c, fs_hub_commit_tree(c->git, &commit, &tree, &c->err)))
        goto out;
    rc = fs_hub_entry_find(c->git, &tree, path, &oid, &type, &c->err);
    if (rc == FS_ERR_NOT_FOUND || (!rc && type != GIT_OBJECT_BLOB)) {
        fs_hub_not_here(c);
        goto out;
    }
    if (!rc)
        rc = fs_hub_file_read(c->git, &oid, &f, &c->err);
    if (!rc && !f.lfs && git_blob_lookup(&blob, c->git, &oid) != 0)
        rc = fs_hub_git_fail(&c->err, "cannot read a file");
    if (fs_hub_failed(c, rc))
        goto out;
    id_of(c, id);
    fs_page_begin(&p, c, path);
    put_head(&p, c, "Files", NULL);
    put_way(&p, c, rev, path);
    fs_page_put(&p, "<p class=\"soft\">");
    fs_page_size(&p, f.n_bytes);
    if (f.lfs)
        fs_page_put(&p, " &middot; SHA-256 <code>%s</code>", f.sha256);
    fs_page_put(&p, " &middot; <a download href=\"");
    put_link(&p, &c->repo);
    fs_page_put(&p, "/resolve/");
    fs_page_word(&p, rev);
    fs_page_put(&p, "/");
    fs_page_path(&p, path);
    fs_page_put(&p, "\">download</a></p>");
    if (f.lfs)
        put_large(&p, c, rev, path, &f);
    else
        put_content(&p, c, rev, path, (fs_bytes){ git_blob_rawcontent(blob), (size_t)git_blob_rawsize(blob) });
    fs_page_end(&p, c, 200);
out:
    git_blob_free(blob);
    fs_buf_done(&p.out);
    free(path);
}

/* ---- history ---- */

void fs_hub_page_commits(fs_hub_call *c)
{
    const char *rev, *page_text = fs_http_query(c->http, "p", 0);
    long page = page_text ? strtol(page_text, NULL, 10) : 0, n = 0;
    fs_page p = { .rc = FS_OK };
    git_revwalk *walk = NULL;
    git_oid oid;
    char id[220];

    if (!need_repo(c, 1) || !fs_hub_need_open(c))
        return;
    rev = fs_http_param(c->http, fs_http_n_params(c->http) - 1);
    if (page < 0 || page > 1000000)
        page = 0;
    if (!fs_hub_need_rev(c, rev, &oid, NULL))
        return;
    if (git_revwalk_new(&walk, c->git) != 0 || git_revwalk_sorting(walk, GIT_SORT_TOPOLOGICAL | GIT_SORT_TIME) != 0 || git_revwalk_push(walk, &oid) != 0) {
        fs_hub_failed(c, fs_hub_git_fail(&c->err, "cannot walk the history"));
        git_revwalk_free(walk);
        return;
    }
    id_of(c, id);
    fs_page_begin(&p, c, id);
    put_head(&p, c, "History", NULL);
    fs_page_put(&p, "<ul class=\"list\">");
    while (n <= (page + 1) * COMMITS_MAX && git_revwalk_next(&oid, walk) == 0) {
        git_commit *commit = NULL;
        char hex[GIT_OID_HEXSZ + 1];
        if (n++ < page * COMMITS_MAX || n > (page + 1) * COMMITS_MAX || git_commit_lookup(&commit, c->git, &oid) != 0)
            continue;
        git_oid_tostr(hex, sizeof hex, &oid);
        fs_page_put(&p, "<li>");
        fs_page_text(&p, git_commit_summary(commit) ? git_commit_summary(commit) : "");
        fs_page_put(&p, "<br><span class=\"soft\"><a href=\"");
        put_link(&p, &c->repo);
        fs_page_put(&p, "/tree/%s\"><code>%.12s</code></a> by ", hex, hex);
        fs_page_text(&p, git_commit_author(commit)->name);
        fs_page_put(&p, ", ");
        fs_page_date(&p, (int64_t)git_commit_time(commit) * 1000);
        fs_page_put(&p, "</span></li>");
        git_commit_free(commit);
    }
    fs_page_put(&p, "</ul>");
    if (page)
        fs_page_put(&p, "<a rel=\"prev\" href=\"?p=%ld\">newer</a> ", page - 1);
    if (n > (page + 1) * COMMITS_MAX)
        fs_page_put(&p, "<a rel=\"next\" href=\"?p=%ld\">older</a>", page + 1);
    fs_page_end(&p, c, 200);
    git_revwalk_free(walk);
}

/* ---- discussions ---- */

void fs_hub_page_discussions(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_page p = { .rc = FS_OK };
    char id[220];
    size_t n = 0;

    if (!need_repo(c, 0) || fs_hub_failed(c, fs_db_query(c->db, &st, &c->err,
                                                         "SELECT d.num, d.title, d.status, d.is_pr, a.name, d.created_ms FROM discussions d JOIN accounts a ON a.id = d.author"
                                                         " WHERE d.repo = ? ORDER BY d.num DESC LIMIT 200",
                                                         "i", c->repo.id)))
        return;
    id_of(c, id);
    fs_page_begin(&p, c, id);
    put_head(&p, c, "Discussions", NULL);
    fs_page_put(&p, "<ul class=\"list\">");
    for (; fs_db_next(st); n++) {
        fs_page_put(&p, "<li><a href=\"");
        put_link(&p, &c->repo);
        fs_page_put(&p, "/discussions/%lld\">", (long long)sqlite3_column_int64(st, 0));
        fs_page_text(&p, fs_db_text(st, 1));
        fs_page_put(&p, "</a> <span class=\"tag\">%s</span><span class=\"tag\">", sqlite3_column_int(st, 3) ? "pull request" : "discussion");
        fs_page_text(&p, fs_db_text(st, 2));
        fs_page_put(&p, "</span><br><span class=\"soft\">#%lld by ", (long long)sqlite3_column_int64(st, 0));
        fs_page_text(&p, fs_db_text(st, 4));
        fs_page_put(&p, ", ");
        fs_page_date(&p, sqlite3_column_int64(st, 5));
        fs_page_put(&p, "</span></li>");
    }
    fs_page_put(&p, "</ul>%s", n ? "" : "<p class=\"soft\">Nothing was said yet.</p>");
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
        fs_page_end(&p, c, 200);
    fs_buf_done(&p.out);
}

static void put_event(fs_page *p, sqlite3_stmt *st)
{
    const char *type = fs_db_text(st, 0), *text = fs_db_text(st, 1);
    bool hidden = sqlite3_column_int(st, 5) != 0;

    fs_page_put(p, "<li><span class=\"soft\">");
    fs_page_text(p, fs_db_text(st, 3));
    fs_page_put(p, ", ");
    fs_page_date(p, sqlite3_column_int64(st, 4));
    fs_page_put(p, "</span>");
    if (strcmp(type, "comment") == 0) {
        fs_page_put(p, "<div>");
        if (hidden)
            fs_page_put(p, "<i>hidden</i>");
        else
            fs_page_markdown(p, fs_bytes_str(text), "#", "");
        fs_page_put(p, "</div>");
    } else {
        fs_page_put(p, "<br>");
        fs_page_text(p, type);
        fs_page_put(p, ": ");
        fs_page_text(p, text);
        fs_page_put(p, " ");
        fs_page_text(p, fs_db_text(st, 2));
    }
    fs_page_put(p, "</li>");
}

void fs_hub_page_discussion(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_page p = { .rc = FS_OK };
    int64_t num;
    bool found;

    if (!need_repo(c, 1))
        return;
    num = strtoll(fs_http_param(c->http, fs_http_n_params(c->http) - 1), NULL, 10);
    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT title, status, is_pr FROM discussions WHERE repo = ? AND num = ?", "ii", c->repo.id, num)))
        return;
    found = fs_db_next(st);
    if (found) {
        fs_page_begin(&p, c, fs_db_text(st, 0));
        put_head(&p, c, "Discussions", NULL);
        fs_page_put(&p, "<h2>");
        fs_page_text(&p, fs_db_text(st, 0));
        fs_page_put(&p, " <span class=\"tag\">%s #%lld</span> <span class=\"tag\">", sqlite3_column_int(st, 2) ? "pull request" : "discussion", (long long)num);
        fs_page_text(&p, fs_db_text(st, 1));
        fs_page_put(&p, "</span></h2>");
        if (sqlite3_column_int(st, 2)) {
            fs_page_put(&p, "<p><a href=\"");
            put_link(&p, &c->repo);
            fs_page_put(&p, "/tree/refs%%2Fpr%%2F%lld\">files</a>, <a href=\"", (long long)num);
            put_link(&p, &c->repo);
            fs_page_put(&p, "/commits/refs%%2Fpr%%2F%lld\">commits</a></p>", (long long)num);
        }
    }
    if (fs_hub_failed(c, fs_db_end(st, &c->err)))
        goto out;
    if (!found) {
        fs_hub_not_here(c);
        goto out;
    }
    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err,
                                     "SELECT e.type, e.text, e.text2, a.name, e.created_ms, e.hidden FROM events e JOIN accounts a ON a.id = e.author WHERE e.repo = ? AND e.num = ?"
                                     " ORDER BY e.id LIMIT 1000",
                                     "ii", c->repo.id, num)))
        goto out;
    fs_page_put(&p, "<ul class=\"list\">");
    while (fs_db_next(st))
        put_event(&p, st);
    fs_page_put(&p, "</ul>");
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
        fs_page_end(&p, c, 200);
out:
    fs_buf_done(&p.out);
}
