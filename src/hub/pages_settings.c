/* The page of a repository's settings, for who administers it. */
#include "hub/page.h"

#include <string.h>

static void put_option(fs_page *p, const char *value, const char *says, bool chosen)
{
    fs_page_put(p, "<option value=\"%s\"%s>%s</option>", value, chosen ? " selected" : "", says);
}

/* Who waits for an answer. */
static fs_status put_askers(fs_page *p, fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, &c->err,
                               "SELECT a.name, q.created_ms FROM access_requests q JOIN accounts a ON a.id = q.account WHERE q.repo = ? AND q.status = 'pending' ORDER BY q.id LIMIT 200", "i",
                               c->repo.id);

    if (rc)
        return rc;
    for (int n = 0; fs_db_next(st); n++) {
        fs_page_put(p, "%s<p>", n ? "" : "<h2>Who asks to read it</h2>");
        fs_page_text(p, fs_db_text(st, 0));
        fs_page_put(p, ", ");
        fs_page_date(p, sqlite3_column_int64(st, 1));
        fs_page_put(p, " ");
        for (int yes = 1; yes >= 0; yes--) {
            fs_page_repo_form(p, c, "inline", "/access");
            fs_page_put(p, "<input type=\"hidden\" name=\"user\" value=\"");
            fs_page_text(p, fs_db_text(st, 0));
            fs_page_put(p, "\"><input type=\"hidden\" name=\"status\" value=\"%s\"><button>%s</button></form>", yes ? "accepted" : "rejected", yes ? "Let in" : "Refuse");
        }
        fs_page_put(p, "</p>");
    }
    return fs_db_end(st, &c->err);
}

static void put_patterns(fs_page *p, const char *says, const char *name, const char *patterns)
{
    fs_page_put(p, "<label>%s<textarea name=\"%s\" maxlength=\"4000\">\n", says, name);
    fs_page_text(p, patterns);
    fs_page_put(p, "</textarea></label>");
}

static void put_rules(fs_page *p, const fs_hub_rules *r)
{
    static const char *const says[][2] = {
        { "default", "not deleted, not pushed by force" },
        { "keep-history", "history never rewritten, not even by super-squash" },
        { "pull-request", "changed by merged pull requests only" },
    };

    put_patterns(p, "Protected branches, a line each (* for anything but /, ** for anything)", "protectedBranches", r->branches);
    fs_page_put(p, "<label>What holds for them<select name=\"branchProtection\">");
    for (size_t i = 0; i < sizeof says / sizeof *says; i++)
        put_option(p, says[i][0], says[i][1], strcmp(says[i][0], fs_hub_protection_word(r->protection)) == 0);
    fs_page_put(p, "</select></label>");
    put_patterns(p, "Protected tags, a line each: not deleted, not moved", "protectedTags", r->tags);
}

void fs_hub_page_repo_settings(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_hub_rules rules;
    fs_page p = { .rc = FS_OK };
    char id[220];

    c->is_page = true;
    if (!fs_hub_need_repo_path(c, 0, FS_HUB_ADMIN))
        return;
    if (!*c->session) {
        fs_page_error(c, 403, "Settings are for who is signed in with a browser.");
        return;
    }
    if (fs_hub_failed(c, fs_hub_rules_read(c->db, c->repo.id, &rules, &c->err)) ||
        fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT coalesce(description, '') FROM repos WHERE id = ?", "i", c->repo.id)))
        return;
    fs_page_repo_id(c, id);
    fs_page_begin(&p, c, id);
    fs_page_repo_head(&p, c, "Settings", NULL);
    fs_page_repo_form(&p, c, "stack", "/settings");
    fs_page_put(&p, "<label>Description<input name=\"description\" maxlength=\"200\" value=\"");
    fs_page_text(&p, fs_db_next(st) ? fs_db_text(st, 0) : "");
    if (fs_hub_failed(c, fs_db_end(st, &c->err)))
        goto out;
    fs_page_put(&p, "\"></label><label>Who sees it<select name=\"visibility\">");
    put_option(&p, "public", "everybody", !c->repo.private);
    put_option(&p, "private", "only who owns it", c->repo.private);
    fs_page_put(&p, "</select></label><label>Who reads its files<select name=\"gated\">");
    put_option(&p, "", "who sees it", !*c->repo.gated);
    put_option(&p, "auto", "who asked for it", strcmp(c->repo.gated, "auto") == 0);
    put_option(&p, "manual", "whom its owner lets", strcmp(c->repo.gated, "manual") == 0);
    fs_page_put(&p, "</select></label>");
    if (!*c->repo.mirror)
        put_rules(&p, &rules);
    fs_page_put(&p, "<button class=\"main\">Save</button></form>");
    if (fs_hub_failed(c, put_askers(&p, c)))
        goto out;
    fs_page_put(&p, "<h2>Another name</h2>");
    fs_page_repo_form(&p, c, "stack", "/move");
    fs_page_put(&p, "<label>Owner/name; the old one leads to it<input name=\"toRepo\" required maxlength=\"194\" value=\"");
    fs_page_text(&p, id);
    fs_page_put(&p, "\"></label><button>Move</button></form><section class=\"danger\"><h2>Delete</h2><p>Its files, history and discussions go, for good.</p>");
    fs_page_repo_form(&p, c, "stack", "/delete");
    fs_page_put(&p, "<label>To be sure, type <code>");
    fs_page_text(&p, id);
    fs_page_put(&p, "</code><input name=\"confirm\" required autocomplete=\"off\"></label><button class=\"danger\">Delete the repository</button></form></section>");
    fs_page_end(&p, c, 200);
out:
    fs_buf_done(&p.out);
}
