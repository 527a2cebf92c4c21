/* The pages of discussions and pull requests: what was said, what is proposed, and forms for both. */
#include "hub/page.h"

#include <stdlib.h>
#include <string.h>

#define DIFF_BYTES_MAX ((size_t)512 << 10)
#define EVENTS_MAX     1000

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
    if (fs_page_may_send(c)) {
        fs_page_put(&p, "<details><summary>Open a discussion or a pull request</summary>");
        fs_page_repo_form(&p, c, "stack", "/discussions");
        fs_page_put(&p, "<label>Title<input name=\"title\" required maxlength=\"200\"></label><label>Kind<select name=\"kind\"><option>discussion</option>");
        if (!*c->repo.mirror)
            fs_page_put(&p, "<option>pull request</option>");
        fs_page_put(&p, "</select></label><label>What it is about, in Markdown<textarea name=\"description\" maxlength=\"60000\"></textarea></label>"
                        "<button class=\"main\">Open</button></form></details>");
    }
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

/* ---- one of them ---- */

typedef struct discussion {
    int64_t num, author;
    bool is_pr;
    char title[300], status[16], base[256], merge_commit[GIT_OID_HEXSZ + 1];
} discussion;

static bool need_discussion(fs_hub_call *c, discussion *ret)
{
    const char *text = fs_http_param(c->http, fs_http_n_params(c->http) - 1);
    sqlite3_stmt *st = NULL;
    bool found;

    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err,
                                     "SELECT num, author, is_pr, title, status, coalesce(base, ''), coalesce(merge_commit, '') FROM discussions WHERE repo = ? AND num = ?", "ii", c->repo.id,
                                     (int64_t)strtoll(text, NULL, 10))))
        return false;
    found = fs_db_next(st);
    if (found) {
        *ret = (discussion){ .num = sqlite3_column_int64(st, 0), .author = sqlite3_column_int64(st, 1), .is_pr = sqlite3_column_int(st, 2) != 0 };
        snprintf(ret->title, sizeof ret->title, "%s", fs_db_text(st, 3));
        snprintf(ret->status, sizeof ret->status, "%s", fs_db_text(st, 4));
        snprintf(ret->base, sizeof ret->base, "%s", fs_db_text(st, 5));
        snprintf(ret->merge_commit, sizeof ret->merge_commit, "%s", fs_db_text(st, 6));
    }
    if (fs_hub_failed(c, fs_db_end(st, &c->err)))
        return false;
    if (!found)
        fs_hub_not_here(c);
    return found;
}

/* type, text, text2, author's name, created_ms, hidden, author, id, edited_ms. */
#define EVENT_COLUMNS "e.type, e.text, e.text2, a.name, e.created_ms, e.hidden, e.author, e.id, coalesce(e.edited_ms, 0)"

/* For who wrote it, and for who may write to the repository. */
static void put_comment_forms(fs_page *p, const fs_hub_call *c, const discussion *d, sqlite3_stmt *st)
{
    long long id = sqlite3_column_int64(st, 7);
    bool own = sqlite3_column_int64(st, 6) == c->user.id;

    if (!fs_page_may_send(c) || (!own && c->right < FS_HUB_WRITE))
        return;
    fs_page_put(p, "<details><summary class=\"soft\">change</summary>");
    if (own) {
        fs_page_repo_form(p, c, "stack", "/discussions/%lld/comment/%llx/edit", (long long)d->num, id);
        fs_page_put(p, "<textarea name=\"content\" aria-label=\"The comment\" required maxlength=\"60000\">\n");
        fs_page_text(p, fs_db_text(st, 1));
        fs_page_put(p, "</textarea><button>Save</button></form>");
    }
    fs_page_repo_form(p, c, "inline", "/discussions/%lld/comment/%llx/hide", (long long)d->num, id);
    fs_page_put(p, "<button class=\"danger\">Hide it</button></form></details>");
}

static void put_event(fs_page *p, const fs_hub_call *c, const discussion *d, sqlite3_stmt *st)
{
    const char *type = fs_db_text(st, 0), *text = fs_db_text(st, 1);
    bool hidden = sqlite3_column_int(st, 5) != 0;

    fs_page_put(p, "<li><span class=\"soft\"><a href=\"/");
    fs_page_path(p, fs_db_text(st, 3));
    fs_page_put(p, "\">");
    fs_page_text(p, fs_db_text(st, 3));
    fs_page_put(p, "</a>, ");
    fs_page_date(p, sqlite3_column_int64(st, 4));
    fs_page_put(p, "%s</span>", sqlite3_column_int64(st, 8) && !hidden ? ", edited" : "");
    if (strcmp(type, "comment") == 0 && hidden) {
        fs_page_put(p, "<div><i>hidden</i></div>");
    } else if (strcmp(type, "comment") == 0) {
        fs_page_put(p, "<div>");
        fs_page_markdown(p, fs_bytes_str(text), "#", "");
        fs_page_put(p, "</div>");
        put_comment_forms(p, c, d, st);
    } else if (strcmp(type, "commit") == 0) {
        fs_page_put(p, "<br>pushed <a href=\"");
        fs_page_repo_link(p, &c->repo);
        fs_page_put(p, "/tree/");
        fs_page_word(p, fs_db_text(st, 2));
        fs_page_put(p, "\">");
        fs_page_text(p, *text ? text : "a commit");
        fs_page_put(p, "</a>");
    } else if (strcmp(type, "title-change") == 0) {
        fs_page_put(p, "<br>called it &ldquo;");
        fs_page_text(p, fs_db_text(st, 2));
        fs_page_put(p, "&rdquo;, no longer &ldquo;");
        fs_page_text(p, text);
        fs_page_put(p, "&rdquo;");
    } else {
        fs_page_put(p, "<br>%s ", strcmp(type, "status-change") == 0 ? "made it" : "");
        fs_page_text(p, text);
    }
    fs_page_put(p, "</li>");
}

/* A patch, a line each. */
static void put_diff(fs_page *p, fs_bytes diff)
{
    bool cut = diff.n_bytes > DIFF_BYTES_MAX, head = false; /* head: between a file's names and its first "@@" */

    if (cut)
        diff.n_bytes = DIFF_BYTES_MAX;
    fs_page_put(p, "<h3>What it changes</h3>");
    if (!diff.n_bytes) {
        fs_page_put(p, "<p class=\"soft\">Nothing yet.</p>");
        return;
    }
    fs_page_put(p, "<pre><code>");
    while (diff.n_bytes) {
        const uint8_t *end = memchr(diff.data, '\n', diff.n_bytes);
        size_t n = end ? (size_t)(end - diff.data) : diff.n_bytes;
        uint8_t first = n ? diff.data[0] : ' ';
        const char *class = first == '@' || first == 'd' || head ? "at" : first == '+' ? "add" : first == '-' ? "del" : "";
        head = first == 'd' || (head && first != '@');
        fs_page_put(p, *class ? "<span class=\"%s\">" : "%s", class);
        fs_page_bytes(p, (fs_bytes){ diff.data, n });
        fs_page_put(p, *class ? "</span>" : "\n"); /* the spans are blocks */
        diff.data += n + (end != NULL);
        diff.n_bytes -= n + (end != NULL);
    }
    fs_page_put(p, "</code></pre>%s", cut ? "<p class=\"soft\">The rest is not shown.</p>" : "");
}

static void put_pr(fs_page *p, fs_hub_call *c, const discussion *d, size_t *ret_n_conflicts)
{
    fs_buf diff = { 0 };
    bool open = strcmp(d->status, "open") == 0 || strcmp(d->status, "draft") == 0, related;

    related = fs_hub_pr_look(c, d->num, d->base, d->merge_commit, &diff, ret_n_conflicts);
    fs_page_put(p, "<p><a href=\"");
    fs_page_repo_link(p, &c->repo);
    fs_page_put(p, "/tree/refs%%2Fpr%%2F%lld\">files</a>, <a href=\"", (long long)d->num);
    fs_page_repo_link(p, &c->repo);
    fs_page_put(p, "/commits/refs%%2Fpr%%2F%lld\">commits</a></p>", (long long)d->num);
    if (open && c->user.id && (c->user.id == d->author || c->right >= FS_HUB_WRITE))
        fs_page_put(p, "<p class=\"soft\">To add to it: <code>hf upload --revision refs/pr/%lld</code>, or <code>git push origin HEAD:refs/pr/%lld</code>.</p>", (long long)d->num,
                    (long long)d->num);
    if (!related)
        fs_page_put(p, "<p class=\"bad\">It has no commit in common with the branch that it is for.</p>");
    else
        put_diff(p, fs_buf_bytes(&diff));
    if (*ret_n_conflicts)
        fs_page_put(p, "<p class=\"bad\">%zu %s changed on both sides: it cannot be merged as it is.</p>", *ret_n_conflicts, *ret_n_conflicts == 1 ? "file" : "files");
    fs_buf_done(&diff);
}

static void put_status_form(fs_page *p, const fs_hub_call *c, const discussion *d, const char *status, const char *says)
{
    fs_page_repo_form(p, c, "inline", "/discussions/%lld/status", (long long)d->num);
    fs_page_put(p, "<input type=\"hidden\" name=\"status\" value=\"%s\"><button>%s</button></form>", status, says);
}

static void put_forms(fs_page *p, const fs_hub_call *c, const discussion *d, size_t n_conflicts)
{
    bool open = strcmp(d->status, "open") == 0, draft = strcmp(d->status, "draft") == 0;

    if (!fs_page_may_send(c)) {
        if (!c->user.id)
            fs_page_put(p, "<p class=\"soft\">Who is signed in may take part.</p>");
        return;
    }
    fs_page_repo_form(p, c, "stack", "/discussions/%lld/comment", (long long)d->num);
    fs_page_put(p, "<label>Say something, in Markdown<textarea name=\"comment\" required maxlength=\"60000\"></textarea></label><button class=\"main\">Comment</button></form>");
    if (d->is_pr && (open || draft) && !n_conflicts && c->right >= FS_HUB_WRITE) {
        fs_page_repo_form(p, c, "inline", "/discussions/%lld/merge", (long long)d->num);
        fs_page_put(p, "<button class=\"main\">Merge into ");
        fs_page_text(p, strncmp(d->base, "refs/heads/", 11) == 0 ? d->base + 11 : d->base);
        fs_page_put(p, "</button></form>");
    }
    if (c->right < FS_HUB_WRITE && c->user.id != d->author)
        return;
    if (draft)
        put_status_form(p, c, d, "open", "It is ready");
    if (open || draft)
        put_status_form(p, c, d, "closed", "Close");
    else if (strcmp(d->status, "closed") == 0)
        put_status_form(p, c, d, "open", "Open again");
    fs_page_put(p, "<details><summary>Change the title</summary>");
    fs_page_repo_form(p, c, "stack", "/discussions/%lld/title", (long long)d->num);
    fs_page_put(p, "<input name=\"title\" aria-label=\"Title\" required maxlength=\"200\" value=\"");
    fs_page_text(p, d->title);
    fs_page_put(p, "\"><button>Save</button></form></details>");
}

void fs_hub_page_discussion(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_page p = { .rc = FS_OK };
    size_t n_conflicts = 0;
    discussion d;

    if (!fs_page_need_repo(c, 1) || !need_discussion(c, &d))
        return;
    fs_page_begin(&p, c, d.title);
    fs_page_repo_head(&p, c, "Discussions", NULL);
    fs_page_put(&p, "<h2>");
    fs_page_text(&p, d.title);
    fs_page_put(&p, " <span class=\"tag\">%s #%lld</span> <span class=\"tag\">", d.is_pr ? "pull request" : "discussion", (long long)d.num);
    fs_page_text(&p, d.status);
    fs_page_put(&p, "</span></h2>");
    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT " EVENT_COLUMNS " FROM events e JOIN accounts a ON a.id = e.author WHERE e.repo = ? AND e.num = ? ORDER BY e.id LIMIT ?",
                                     "iii", c->repo.id, d.num, (int64_t)EVENTS_MAX)))
        goto out;
    fs_page_put(&p, "<ul class=\"list\">");
    while (fs_db_next(st))
        put_event(&p, c, &d, st);
    fs_page_put(&p, "</ul>");
    if (fs_hub_failed(c, fs_db_end(st, &c->err)))
        goto out;
    if (d.is_pr && fs_hub_may_read(c))
        put_pr(&p, c, &d, &n_conflicts);
    put_forms(&p, c, &d, n_conflicts);
    fs_page_end(&p, c, 200);
out:
    fs_buf_done(&p.out);
}
