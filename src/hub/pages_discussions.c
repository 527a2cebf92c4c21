/* The pages of discussions and pull requests. */
#include "hub/page.h"

#include <stdlib.h>
#include <string.h>

void fs_hub_page_discussions(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_page p = { .rc = FS_OK };
    char id[220];
    size_t n = 0;

    if (!fs_page_need_repo(c, 0) || fs_hub_failed(c, fs_db_query(c->db, &st, &c->err,
                                                         "SELECT d.num, d.title, d.status, d.is_pr, a.name, d.created_ms FROM discussions d JOIN accounts a ON a.id = d.author"
                                                         " WHERE d.repo = ? ORDER BY d.num DESC LIMIT 200",
                                                         "i", c->repo.id)))
        return;
    fs_page_repo_id(c, id);
    fs_page_begin(&p, c, id);
    fs_page_repo_head(&p, c, "Discussions", NULL);
    fs_page_put(&p, "<ul class=\"list\">");
    for (; fs_db_next(st); n++) {
        fs_page_put(&p, "<li><a href=\"");
        fs_page_repo_link(&p, &c->repo);
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

    if (!fs_page_need_repo(c, 1))
        return;
    num = strtoll(fs_http_param(c->http, fs_http_n_params(c->http) - 1), NULL, 10);
    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT title, status, is_pr FROM discussions WHERE repo = ? AND num = ?", "ii", c->repo.id, num)))
        return;
    found = fs_db_next(st);
    if (found) {
        fs_page_begin(&p, c, fs_db_text(st, 0));
        fs_page_repo_head(&p, c, "Discussions", NULL);
        fs_page_put(&p, "<h2>");
        fs_page_text(&p, fs_db_text(st, 0));
        fs_page_put(&p, " <span class=\"tag\">%s #%lld</span> <span class=\"tag\">", sqlite3_column_int(st, 2) ? "pull request" : "discussion", (long long)num);
        fs_page_text(&p, fs_db_text(st, 1));
        fs_page_put(&p, "</span></h2>");
        if (sqlite3_column_int(st, 2)) {
            fs_page_put(&p, "<p><a href=\"");
            fs_page_repo_link(&p, &c->repo);
            fs_page_put(&p, "/tree/refs%%2Fpr%%2F%lld\">files</a>, <a href=\"", (long long)num);
            fs_page_repo_link(&p, &c->repo);
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
