/* Lists of repositories: of a kind, with filters, and of a user or an organisation. */
#include "hub/page.h"
#include "hub/search.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX   30
#define CHOICE_MAX 40

/* What a list is asked for; "" where nothing is. */
typedef struct asked {
    const char *search, *filter, *task, *library, *license, *sort;
    int64_t page;
    bool peers; /* are asked, too */
} asked;

static const char *const sorts[][3] = { { "", "modified_ms", "last changed" }, { "created", "created_ms", "newest" }, { "downloads", "downloads", "most downloads" },
                                        { "likes", "likes", "most likes" } };

static const char *query(const fs_hub_call *c, const char *name)
{
    const char *value = fs_http_query(c->http, name, 0);

    return value ? value : "";
}

static const char *sort_column(const char *sort)
{
    for (size_t i = 0; i < sizeof sorts / sizeof *sorts; i++)
        if (strcmp(sort, sorts[i][0]) == 0)
            return sorts[i][1];
    return sorts[0][1];
}

/* The same list, another page. */
static void put_turn(fs_page *p, const char *rel, const asked *q, int64_t page, const char *text)
{
    const char *const parts[][2] = { { "search", q->search }, { "filter", q->filter }, { "task", q->task }, { "library", q->library }, { "license", q->license }, { "sort", q->sort } };

    fs_page_put(p, "<a rel=\"%s\" href=\"?p=%" PRId64, rel, page);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (*parts[i][1]) {
            fs_page_put(p, "&amp;%s=", parts[i][0]);
            fs_page_word(p, parts[i][1]);
        }
    fs_page_put(p, "%s\">%s</a> ", q->peers ? "&amp;federated=1" : "", text);
}

static void put_option(fs_page *p, const char *value, const char *says, bool chosen)
{
    fs_page_put(p, "<option value=\"");
    fs_page_text(p, value);
    fs_page_put(p, "\"%s>", chosen ? " selected" : "");
    fs_page_text(p, says);
    fs_page_put(p, "</option>");
}

/* The values that public repositories have, the most frequent first; sql selects value and count. */
static fs_status put_choice(fs_page *p, fs_hub_call *c, const char *name, const char *says, const char *now, const char *type, const char *sql)
{
    sqlite3_stmt *st = NULL;
    char text[256];
    bool found = !*now;
    fs_status rc = fs_db_query(c->db, &st, &c->err, sql, "si", type, (int64_t)CHOICE_MAX);

    if (rc)
        return rc;
    fs_page_put(p, "<select name=\"%s\" aria-label=\"%s\">", name, says);
    put_option(p, "", says, false);
    while (fs_db_next(st)) {
        snprintf(text, sizeof text, "%.200s (%lld)", fs_db_text(st, 0), (long long)sqlite3_column_int64(st, 1));
        put_option(p, fs_db_text(st, 0), text, strcmp(fs_db_text(st, 0), now) == 0);
        found = found || strcmp(fs_db_text(st, 0), now) == 0;
    }
    if (!found)
        put_option(p, now, now, true);
    fs_page_put(p, "</select>");
    return fs_db_end(st, &c->err);
}

#define CHOICE(column) "SELECT " column ", count(*) AS n FROM repos WHERE type = ? AND NOT private AND NOT disabled AND " column " <> '' GROUP BY 1 ORDER BY n DESC, 1 LIMIT ?"

static fs_status put_filters(fs_page *p, fs_hub_call *c, const char *type, const asked *q)
{
    int64_t n_peers = 0;
    fs_status rc;

    fs_page_put(p, "<form class=\"filters\"><input type=\"hidden\" name=\"search\" value=\"");
    fs_page_text(p, q->search);
    fs_page_put(p, "\"><input type=\"hidden\" name=\"filter\" value=\"");
    fs_page_text(p, q->filter);
    fs_page_put(p, "\">");
    rc = put_choice(p, c, "task", "Any task", q->task, type, CHOICE("pipeline_tag"));
    if (!rc)
        rc = put_choice(p, c, "library", "Any library", q->library, type, CHOICE("library_name"));
    if (!rc)
        rc = put_choice(p, c, "license", "Any license", q->license, type,
                        "SELECT substr(t.tag, 9), count(*) AS n FROM repo_tags t CROSS JOIN repos r INDEXED BY repos_open ON r.id = t.repo WHERE t.tag >= 'license:' AND t.tag < 'license;'"
                        " AND r.type = ? AND NOT r.private AND NOT r.disabled GROUP BY t.tag ORDER BY n DESC, 1 LIMIT ?");
    fs_page_put(p, "<select name=\"sort\" aria-label=\"Order\">");
    for (size_t i = 0; i < sizeof sorts / sizeof *sorts; i++)
        put_option(p, sorts[i][0], sorts[i][2], strcmp(q->sort, sorts[i][0]) == 0);
    fs_page_put(p, "</select>");
    if (!rc)
        rc = fs_db_int(c->db, &n_peers, NULL, &c->err, "SELECT count(*) FROM peers", "");
    if (n_peers)
        fs_page_put(p, "<label><input type=\"checkbox\" name=\"federated\" value=\"1\"%s> %" PRId64 " other %s, too</label>", q->peers ? " checked" : "", n_peers,
                    n_peers == 1 ? "hub" : "hubs");
    fs_page_put(p, "<button>Show</button></form>");
    return rc;
}

static void put_repo(fs_page *p, sqlite3_stmt *st, bool with_type)
{
    fs_hub_repo r;

    fs_hub_repo_read(st, &r);
    fs_page_put(p, "<li><a href=\"");
    fs_page_repo_link(p, &r);
    fs_page_put(p, "\">");
    fs_page_text(p, r.owner_name);
    fs_page_put(p, "/");
    fs_page_text(p, r.name);
    fs_page_put(p, "</a>");
    fs_page_states(p, &r);
    if (*fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 4)) {
        fs_page_put(p, "<br>");
        fs_page_text(p, fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 4));
    }
    fs_page_put(p, "<br><span class=\"soft\">%.*s%schanged ", with_type ? (int)strlen(r.type) - 1 : 0, r.type, with_type ? " &middot; " : "");
    fs_page_date(p, r.modified_ms);
    fs_page_put(p, " &middot; %" PRId64 " %s &middot; %" PRId64 " %s</span> ", r.downloads, r.downloads == 1 ? "download" : "downloads", r.likes, r.likes == 1 ? "like" : "likes");
    fs_page_tags(p, fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 3));
    fs_page_put(p, "</li>");
}

/* type is NULL or owner 0. Which rows they are is found in indexes and short rows, before anything is read for the page. */
static fs_status put_list(fs_page *p, fs_hub_call *c, const char *type, int64_t owner, const asked *q)
{
    const struct {
        bool asked;
        const char *term;
    } terms[] = {
        { type, " AND r.type = ?1" },
        { owner, " AND r.owner = ?2" },
        { *q->search, " AND r.id IN (SELECT s.id FROM repos s JOIN accounts b ON b.id = s.owner WHERE (?1 IS NULL OR s.type = ?1) AND instr(lower(b.name || '/' || s.name), lower(?3)) > 0)" },
        { *q->filter, " AND r.id IN (SELECT repo FROM repo_tags WHERE tag = ?4)" },
        { *q->task, " AND r.pipeline_tag = ?5" },
        { *q->library, " AND r.library_name = ?6" },
        { *q->license, " AND r.id IN (SELECT repo FROM repo_tags WHERE tag = 'license:' || ?7)" },
        { !c->user.is_admin, " AND NOT r.disabled AND (NOT r.private OR " FS_HUB_REPO_IS_OF("?8", "?9") ")" },
    };
    const char *column = sort_column(q->sort);
    sqlite3_stmt *st = NULL;
    fs_buf sql = { 0 };
    int64_t n = 0;
    fs_status rc = fs_buf_printf(&sql, &c->err, "SELECT " FS_HUB_REPO_COLUMNS ", r.description" FS_HUB_REPO_TABLES "WHERE r.id IN (SELECT r.id FROM repos r WHERE 1");

    for (size_t i = 0; i < sizeof terms / sizeof *terms && !rc; i++)
        if (terms[i].asked)
            rc = fs_buf_printf(&sql, &c->err, "%s", terms[i].term);
    if (!rc)
        rc = fs_buf_printf(&sql, &c->err, " ORDER BY r.%s DESC, r.id DESC LIMIT ?10 OFFSET ?11) ORDER BY r.%s DESC, r.id DESC", column, column);
    if (!rc)
        rc = fs_db_query(c->db, &st, &c->err, sql.data, "sisssssiiii", type, owner, q->search, q->filter, q->task, q->library, q->license, c->user.id, c->user.scope,
                         (int64_t)LIST_MAX + 1, q->page * LIST_MAX);
    fs_buf_done(&sql);
    if (rc)
        return rc;
    fs_page_put(p, "<ul class=\"list\">");
    while (fs_db_next(st) && n++ < LIST_MAX)
        put_repo(p, st, owner != 0);
    fs_page_put(p, "</ul>");
    if (n == 0)
        fs_page_put(p, "<p class=\"soft\">Nothing here%s.</p>", q->page ? " any more" : " yet");
    if (q->page)
        put_turn(p, "prev", q, q->page - 1, "back");
    if (n > LIST_MAX)
        put_turn(p, "next", q, q->page + 1, "more");
    return fs_db_end(st, &c->err);
}

static asked read_asked(fs_hub_call *c)
{
    asked q = { query(c, "search"), query(c, "filter"), query(c, "task"), query(c, "library"), query(c, "license"), query(c, "sort"), strtoll(query(c, "p"), NULL, 10), false };

    if (q.page < 0 || q.page > 1000000)
        q.page = 0;
    q.peers = *query(c, "federated") && (*q.search || *q.filter);
    return q;
}

/* ---- what the peers have ---- */

/* Whether everybody finds the same here. */
static bool is_here(fs_hub_call *c, const char *type, const fs_search_row *row)
{
    int64_t n = 0;

    return *row->sha && fs_db_int(c->db, &n, NULL, NULL,
                                  "SELECT count(*)" FS_HUB_REPO_TABLES "WHERE r.type = ? AND lower(a.name || '/' || r.name) = lower(?) AND r.sha = ? AND NOT r.private AND NOT r.disabled",
                                  "sss", type, row->id, row->sha) == FS_OK && n > 0;
}

static void put_origins(fs_page *p, const char *type, const fs_search_result *found, const fs_search_row *row)
{
    for (int k = 0; k < found->n_peers; k++)
        if (row->peers >> k & 1) {
            fs_page_put(p, "<a class=\"tag\" rel=\"noreferrer\" href=\"");
            fs_page_text(p, found->peers[k].url);
            fs_page_put(p, "/%s", fs_hub_type_prefix(type));
            fs_page_path(p, row->id);
            fs_page_put(p, "\">");
            fs_page_text(p, found->peers[k].url);
            fs_page_put(p, "</a>");
        }
}

/* False after a reply. */
static bool put_peers(fs_page *p, fs_hub_call *c, const char *type, const asked *q)
{
    static const char *const sorts_there[][2] = { { "created", "createdAt" }, { "downloads", "downloads" }, { "likes", "likes" } };
    const char *const parts[][2] = { { "search", q->search }, { "filter", q->filter }, { "pipeline_tag", q->task }, { "filter", q->library } };
    fs_search_result found = { .n = 0 };
    fs_buf text = { 0 };
    char license[300];
    bool ok;
    fs_status rc = fs_search_query_add(&text, "limit", "50", &c->err);

    for (size_t i = 0; i < sizeof parts / sizeof *parts && !rc; i++)
        if (*parts[i][1])
            rc = fs_search_query_add(&text, parts[i][0], parts[i][1], &c->err);
    snprintf(license, sizeof license, "license:%.200s", q->license);
    if (!rc && *q->license)
        rc = fs_search_query_add(&text, "filter", license, &c->err);
    for (size_t i = 0; i < sizeof sorts_there / sizeof *sorts_there && !rc; i++)
        if (strcmp(q->sort, sorts_there[i][0]) == 0)
            rc = fs_search_query_add(&text, "sort", sorts_there[i][1], &c->err);
    ok = !fs_hub_failed(c, rc) && fs_search_peers(c, type, text.data, &found);
    fs_buf_done(&text);
    if (ok) {
        fs_page_put(p, "<h2>Elsewhere</h2><ul class=\"list\">");
        for (size_t i = 0; i < found.n; i++) {
            const fs_search_row *row = found.rows + i;
            if (is_here(c, type, row))
                continue;
            fs_page_put(p, "<li>");
            fs_page_text(p, row->id);
            fs_page_put(p, "<br><span class=\"soft\">");
            if (row->modified_ms) {
                fs_page_put(p, "changed ");
                fs_page_date(p, row->modified_ms);
                fs_page_put(p, " &middot; ");
            }
            fs_page_put(p, "%" PRId64 " downloads &middot; %" PRId64 " likes, as is said there</span> ", row->downloads, row->likes);
            put_origins(p, type, &found, row);
            fs_page_put(p, "</li>");
        }
        fs_page_put(p, "</ul>");
        for (int k = 0; k < found.n_peers; k++)
            if (*found.peers[k].failure) {
                fs_page_put(p, "<p class=\"soft\">");
                fs_page_text(p, found.peers[k].url);
                fs_page_put(p, ": ");
                fs_page_text(p, found.peers[k].failure);
                fs_page_put(p, ".</p>");
            }
    }
    fs_search_done(&found);
    return ok;
}

static void list(fs_hub_call *c, const char *type, const char *title)
{
    fs_page p = { .rc = FS_OK };
    asked q = read_asked(c);

    c->is_page = true;
    fs_page_begin(&p, c, title);
    fs_page_put(&p, "<h1>%s</h1>", title);
    if (*q.filter) {
        fs_page_put(&p, "<p>tagged <a class=\"tag\" href=\"?\">");
        fs_page_text(&p, q.filter);
        fs_page_put(&p, " &times;</a></p>");
    }
    if (!fs_hub_failed(c, put_filters(&p, c, type, &q)) && !fs_hub_failed(c, put_list(&p, c, type, 0, &q)) && (!q.peers || put_peers(&p, c, type, &q)))
        fs_page_end(&p, c, 200);
    fs_buf_done(&p.out);
}

void fs_hub_page_models(fs_hub_call *c)
{
    list(c, "models", "Models");
}

void fs_hub_page_datasets(fs_hub_call *c)
{
    list(c, "datasets", "Datasets");
}

void fs_hub_page_spaces(fs_hub_call *c)
{
    list(c, "spaces", "Spaces");
}

/* ---- accounts ---- */

/* The members of an organisation, or the organisations of a user. */
static fs_status put_people(fs_page *p, fs_hub_call *c, int64_t id, bool org)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, &c->err,
                               org ? "SELECT a.name, m.role FROM members m JOIN accounts a ON a.id = m.account WHERE m.org = ? ORDER BY a.name LIMIT 200"
                                   : "SELECT a.name, m.role FROM members m JOIN accounts a ON a.id = m.org WHERE m.account = ? ORDER BY a.name LIMIT 200",
                               "i", id);

    if (rc)
        return rc;
    for (int n = 0; fs_db_next(st); n++) {
        fs_page_put(p, "%s<a class=\"tag\" href=\"/", n ? "" : org ? "<p>Members: " : "<p>In: ");
        fs_page_path(p, fs_db_text(st, 0));
        fs_page_put(p, "\">");
        fs_page_text(p, fs_db_text(st, 0));
        fs_page_put(p, " (%s)</a> ", fs_db_text(st, 1));
    }
    fs_page_put(p, "</p>");
    return fs_db_end(st, &c->err);
}

void fs_hub_page_owner(fs_hub_call *c)
{
    fs_page p = { .rc = FS_OK };
    asked q = read_asked(c);
    sqlite3_stmt *st = NULL;
    char name[97];
    int64_t id;
    bool org;

    c->is_page = true;
    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT id, name, kind, coalesce(fullname, ''), created_ms FROM accounts WHERE name = ?", "s", fs_http_param(c->http, 0))))
        return;
    if (!fs_db_next(st)) {
        if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
            fs_hub_not_here(c);
        return;
    }
    id = sqlite3_column_int64(st, 0);
    org = strcmp(fs_db_text(st, 2), "org") == 0;
    snprintf(name, sizeof name, "%s", fs_db_text(st, 1));
    fs_page_begin(&p, c, name);
    fs_page_put(&p, "<h1>");
    fs_page_text(&p, *fs_db_text(st, 3) ? fs_db_text(st, 3) : name);
    fs_page_put(&p, "</h1><p class=\"soft\">%s ", org ? "organisation" : "user");
    fs_page_text(&p, name);
    fs_page_put(&p, " &middot; since ");
    fs_page_date(&p, sqlite3_column_int64(st, 4));
    fs_page_put(&p, "</p>");
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)) && !fs_hub_failed(c, put_people(&p, c, id, org)) &&
        !(org && fs_hub_failed(c, fs_page_members(&p, c, id, name))) && !fs_hub_failed(c, put_list(&p, c, NULL, id, &q)))
        fs_page_end(&p, c, 200);
    fs_buf_done(&p.out);
}
