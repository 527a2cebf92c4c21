/* What the pages share. Pages show nothing that the API would not, and work without scripts. */
#include "hub/page.h"

#include <inttypes.h>
#include <string.h>

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

bool fs_page_may_send(const fs_hub_call *c)
{
    return *c->session && c->user.may_write && (!c->user.scope || c->scope >= FS_HUB_WRITE);
}

static void put_like(fs_page *p, const fs_hub_call *c)
{
    int64_t n = 0;

    if (!fs_page_may_send(c) || fs_db_int(c->db, &n, NULL, NULL, "SELECT count(*) FROM likes WHERE account = ? AND repo = ?", "ii", c->user.id, c->repo.id) != FS_OK)
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
    fs_hub_page_advisories(p, c);
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
