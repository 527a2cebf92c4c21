/* What the pages share, and the lists. Pages show nothing that the API would not, and work without scripts. */
#include "hub/page.h"

#include "net/url.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 30

/* ---- pieces ---- */

void fs_page_repo_link(fs_page *p, const fs_hub_repo *r)
{
    fs_page_put(p, "/%s", fs_hub_type_prefix(r->type));
    fs_page_path(p, r->owner_name);
    fs_page_put(p, "/");
    fs_page_path(p, r->name);
}

void fs_page_tags(fs_page *p, const char *json)
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

void fs_page_states(fs_page *p, const fs_hub_repo *r)
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

static void put_like(fs_page *p, const fs_hub_call *c)
{
    int64_t n = 0;

    if (!*c->session || !c->user.may_write || fs_db_int(c->db, &n, NULL, NULL, "SELECT count(*) FROM likes WHERE account = ? AND repo = ?", "ii", c->user.id, c->repo.id) != FS_OK)
        return;
    fs_page_repo_form(p, c, "inline", n ? "/unlike" : "/like");
    fs_page_put(p, "<button>%s</button></form>", n ? "Unlike" : "Like");
}

/* c->right of a copy's owner is that of who reads. */
static bool may_set(const fs_hub_call *c)
{
    fs_hub_right right = FS_HUB_NONE;

    return *c->session && fs_hub_right_on_account(c->db, &c->user, c->repo.owner, &right, NULL) == FS_OK && right == FS_HUB_ADMIN;
}

void fs_page_repo_head(fs_page *p, const fs_hub_call *c, const char *tab, const char *tags)
{
    static const char *const tabs[][2] = { { "", "Card" }, { "/tree/main", "Files" }, { "/commits/main", "History" }, { "/discussions", "Discussions" } };

    fs_page_put(p, "<h1><a href=\"/");
    fs_page_path(p, c->repo.owner_name);
    fs_page_put(p, "\">");
    fs_page_text(p, c->repo.owner_name);
    fs_page_put(p, "</a> / <a href=\"");
    fs_page_repo_link(p, &c->repo);
    fs_page_put(p, "\">");
    fs_page_text(p, c->repo.name);
    fs_page_put(p, "</a>");
    fs_page_states(p, &c->repo);
    fs_page_put(p, "</h1><div class=\"meta\"><span class=\"soft\">changed ");
    fs_page_date(p, c->repo.modified_ms);
    fs_page_put(p, " &middot; %" PRId64 " likes</span>", c->repo.likes);
    put_like(p, c);
    fs_page_put(p, "</div>");
    if (tags)
        fs_page_tags(p, tags);
    fs_page_put(p, "<nav class=\"tabs\">");
    for (size_t i = 0; i < sizeof tabs / sizeof *tabs; i++) {
        fs_page_put(p, "<a href=\"");
        fs_page_repo_link(p, &c->repo);
        fs_page_put(p, "%s\"%s>%s</a>", tabs[i][0], strcmp(tab, tabs[i][1]) == 0 ? " aria-current=\"page\"" : "", tabs[i][1]);
    }
    if (may_set(c)) {
        fs_page_put(p, "<a href=\"");
        fs_page_repo_link(p, &c->repo);
        fs_page_put(p, "/settings\"%s>Settings</a>", strcmp(tab, "Settings") == 0 ? " aria-current=\"page\"" : "");
    }
    fs_page_put(p, "</nav>");
}

void fs_page_repo_id(const fs_hub_call *c, char ret[220])
{
    snprintf(ret, 220, "%s/%s", c->repo.owner_name, c->repo.name);
}

bool fs_page_need_repo(fs_hub_call *c, int n_tail)
{
    c->is_page = true;
    return fs_hub_need_repo_path(c, n_tail, FS_HUB_READ);
}

void fs_hub_page_style(fs_hub_call *c)
{
    c->replied = true;
    fs_http_reply_header(c->http, "Cache-Control", "max-age=300");
    fs_http_reply(c->http, 200, "text/css; charset=utf-8", fs_page_style, strlen(fs_page_style));
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
                                     "SELECT " FS_HUB_REPO_COLUMNS ", r.description" FS_HUB_REPO_TABLES "WHERE (?1 IS NULL OR r.type = ?1) AND (?2 IS NULL OR a.name = ?2) AND (?3 IS NULL OR instr(lower(a.name"
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
        fs_page_repo_link(&p, &r);
        fs_page_put(&p, "\">");
        fs_page_text(&p, r.owner_name);
        fs_page_put(&p, "/");
        fs_page_text(&p, r.name);
        fs_page_put(&p, "</a>");
        fs_page_states(&p, &r);
        if (*fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 4)) {
            fs_page_put(&p, "<br>");
            fs_page_text(&p, fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 4));
        }
        fs_page_put(&p, "<br><span class=\"soft\">%.*s%schanged ", owner ? (int)strlen(r.type) - 1 : 0, r.type, owner ? " &middot; " : "");
        fs_page_date(&p, r.modified_ms);
        fs_page_put(&p, " &middot; %" PRId64 " likes</span> ", r.likes);
        fs_page_tags(&p, fs_db_text(st, FS_HUB_REPO_CARD_COLUMN + 3));
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
