/* Organisations: a new one, and who is in it, for who administers it. */
#include "hub/page.h"

#include "net/url.h"

#include <string.h>

#define ORGS_MAX    100 /* that one user administers */
#define MEMBERS_MAX 1000

static const char *const roles[] = { "read", "write", "admin" };

static bool is_role(const char *role)
{
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(role, roles[i]) == 0)
            return true;
    return false;
}

/* ---- a new one ---- */

void fs_hub_page_new_org(fs_hub_call *c)
{
    fs_page p = { .rc = FS_OK };

    if (!fs_page_need_session(c) || !fs_hub_need_account(c))
        return;
    fs_page_begin(&p, c, "New organisation");
    fs_page_put(&p, "<h1>New organisation</h1>");
    fs_page_form(&p, c, "stack", "/new/organisation");
    fs_page_put(&p, "<label>Name, which repositories' names begin with<input name=\"name\" required maxlength=\"96\" pattern=\"[A-Za-z0-9_.\\-]+\"></label>"
                    "<label>Full name<input name=\"fullname\" maxlength=\"100\"></label><p class=\"soft\">You administer it, and say who else is in it.</p>"
                    "<button class=\"main\">Make it</button></form>");
    fs_page_end(&p, c, 200);
}

static void go(fs_hub_call *c, const char *name)
{
    fs_buf to = { 0 };
    fs_status rc = fs_buf_append_str(&to, "/", &c->err);

    if (!rc)
        rc = fs_url_encode(&to, fs_bytes_str(name), "", &c->err);
    if (!fs_hub_failed(c, rc))
        fs_page_go(c, to.data);
    fs_buf_done(&to);
}

void fs_hub_form_new_org(fs_hub_call *c)
{
    const char *name, *fullname;
    int64_t n = 0;

    if (!fs_hub_need_form(c) || !fs_hub_need_account(c) ||
        fs_hub_failed(c, fs_db_int(c->db, &n, NULL, &c->err, "SELECT count(*) FROM members WHERE account = ? AND role = 'admin'", "i", c->user.id)))
        return;
    name = fs_hub_form_text(c, "name");
    fullname = fs_hub_form_text(c, "fullname");
    if (strlen(fullname) > 400)
        fs_page_error(c, 400, "That name is too long.");
    else if (n >= ORGS_MAX && !c->user.is_admin)
        fs_page_error(c, 429, "You administer as many organisations as one user may.");
    else if (!fs_hub_failed(c, fs_hub_org_add(c->hub, name, c->user.name, &c->err)) &&
             !fs_hub_failed(c, fs_db_run(c->db, &c->err, "UPDATE accounts SET fullname = nullif(?, '') WHERE name = ?", "ss", fullname, name)))
        go(c, name);
}

/* ---- members ---- */

static void put_roles(fs_page *p, const char *now)
{
    fs_page_put(p, "<select name=\"role\" aria-label=\"role\">");
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        fs_page_put(p, "<option value=\"%s\"%s>%s</option>", roles[i], strcmp(now, roles[i]) == 0 ? " selected" : "", roles[i]);
    fs_page_put(p, "</select>");
}

static void put_form(fs_page *p, const fs_hub_call *c, const char *class, const char *org)
{
    fs_page_put(p, "<form method=\"post\" class=\"%s\" action=\"/-/organisations/", class);
    fs_page_path(p, org);
    fs_page_put(p, "/members");
    fs_page_sign(p, c);
}

fs_status fs_page_members(fs_page *p, fs_hub_call *c, int64_t id, const char *org)
{
    sqlite3_stmt *st = NULL;
    fs_hub_right right = FS_HUB_NONE;
    fs_status rc = fs_hub_right_on_account(c->db, &c->user, id, &right, &c->err);

    if (rc || right < FS_HUB_ADMIN || !*c->session || !c->user.may_write)
        return rc;
    rc = fs_db_query(c->db, &st, &c->err, "SELECT a.name, m.role FROM members m JOIN accounts a ON a.id = m.account WHERE m.org = ? ORDER BY a.name LIMIT ?", "ii", id, (int64_t)MEMBERS_MAX);
    if (rc)
        return rc;
    fs_page_put(p, "<details><summary>Members and their roles</summary><div class=\"wide\"><table class=\"fit\">");
    while (fs_db_next(st)) {
        fs_page_put(p, "<tr><td class=\"word\">");
        fs_page_text(p, fs_db_text(st, 0));
        for (int remove = 0; remove <= 1; remove++) {
            fs_page_put(p, "</td><td>");
            put_form(p, c, "inline", org);
            fs_page_put(p, "<input type=\"hidden\" name=\"user\" value=\"");
            fs_page_text(p, fs_db_text(st, 0));
            fs_page_put(p, "\">");
            if (remove)
                fs_page_put(p, "<input type=\"hidden\" name=\"role\" value=\"\"><button class=\"danger\">Remove</button></form>");
            else {
                put_roles(p, fs_db_text(st, 1));
                fs_page_put(p, " <button>Save</button></form>");
            }
        }
        fs_page_put(p, "</td></tr>");
    }
    fs_page_put(p, "</table></div>");
    put_form(p, c, "stack", org);
    fs_page_put(p, "<label>Add a user, by name<input name=\"user\" required maxlength=\"96\"></label><label>Role");
    put_roles(p, "read");
    fs_page_put(p, "</label><button class=\"main\">Add</button></form></details>");
    return fs_db_end(st, &c->err);
}

/* Within a transaction, so that two administrators cannot remove each other. */
static fs_status set_member(fs_hub_call *c, int64_t org, const char *user, const char *role, fs_error *err)
{
    int64_t account = 0, n_others = 0;
    bool found = false, was_admin = false;
    fs_status rc = fs_db_int(c->db, &account, &found, err, "SELECT id FROM accounts WHERE name = ? AND kind = 'user'", "s", user);

    if (!rc && !found)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "there is no user '%.96s'", user);
    if (!rc)
        rc = fs_db_int(c->db, &n_others, &was_admin, err, "SELECT 1 FROM members WHERE org = ? AND account = ? AND role = 'admin'", "ii", org, account);
    if (!rc)
        rc = fs_db_int(c->db, &n_others, NULL, err, "SELECT count(*) FROM members WHERE org = ? AND account <> ? AND role = 'admin'", "ii", org, account);
    if (!rc && was_admin && n_others == 0 && strcmp(role, "admin") != 0)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "an organisation needs somebody who administers it");
    if (!rc && *role)
        rc = fs_db_run(c->db, err, "INSERT OR REPLACE INTO members(org, account, role) VALUES(?, ?, ?)", "iis", org, account, role);
    else if (!rc)
        rc = fs_db_run(c->db, err, "DELETE FROM members WHERE org = ? AND account = ?", "ii", org, account);
    return rc;
}

void fs_hub_form_member(fs_hub_call *c)
{
    const char *org = fs_http_param(c->http, 0), *role;
    fs_hub_right right = FS_HUB_NONE;
    int64_t id = 0;
    bool found = false;
    fs_status rc;

    if (!fs_hub_need_form(c) || !fs_hub_need_account(c) ||
        fs_hub_failed(c, fs_db_int(c->db, &id, &found, &c->err, "SELECT id FROM accounts WHERE name = ? AND kind = 'org'", "s", org)))
        return;
    if (!found) {
        fs_hub_not_here(c);
        return;
    }
    role = fs_hub_form_text(c, "role");
    rc = fs_db_begin(c->db, &c->err);
    if (!rc)
        rc = fs_hub_right_on_account(c->db, &c->user, id, &right, &c->err);
    if (!rc && right < FS_HUB_ADMIN)
        fs_page_error(c, 403, "Who is in an organisation, only who administers it can say.");
    else if (!rc && *role && !is_role(role))
        fs_page_error(c, 400, "A member reads, reads and writes, or administers.");
    else if (!rc)
        rc = set_member(c, id, fs_hub_form_text(c, "user"), role, &c->err);
    if (!rc && !c->replied)
        rc = fs_db_commit(c->db, &c->err);
    if (rc || c->replied)
        fs_db_rollback(c->db);
    if (!c->replied && !fs_hub_failed(c, rc))
        go(c, org);
}
