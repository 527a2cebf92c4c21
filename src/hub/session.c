/* Signing in with a browser. The cookie is a random name; the database has its SHA-256, and the token that it was opened with. A cookie alone
 * reads. What changes something is a form with a sign of that session, which no other site can know, and the API's calls take no cookie. */
#include "hub/page.h"

#include "crypto/sha256.h"
#include "hub/form.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define COOKIE       "farseek_session"
#define LOGIN_COOKIE "farseek_login" /* of who is not signed in: the form of signing in is ours, too */
#define NAME_BYTES   44

/* ---- cookies ---- */

static bool read_cookie(const fs_hub_call *c, const char *name, char ret[NAME_BYTES])
{
    const char *p = fs_http_header(c->http, "Cookie");
    size_t n_name = strlen(name);

    while (p && *p) {
        size_t n = strcspn(p, ";");
        if (n == n_name + NAME_BYTES && strncmp(p, name, n_name) == 0 && p[n_name] == '=') {
            memcpy(ret, p + n_name + 1, NAME_BYTES - 1);
            ret[NAME_BYTES - 1] = 0;
            return strspn(ret, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == NAME_BYTES - 1;
        }
        p += n;
        p += strspn(p, "; ");
    }
    return false;
}

static void set_cookie(fs_hub_call *c, const char *name, const char *value, const char *path, int64_t seconds)
{
    fs_http_reply_headerf(c->http, "Set-Cookie", "%s=%s; Path=%s; Max-Age=%lld; HttpOnly; SameSite=Strict%s", name, value, path, (long long)seconds,
                          strncmp(c->base, "https://", 8) == 0 ? "; Secure" : "");
}

fs_status fs_hub_session_read(fs_hub_call *c)
{
    char name[NAME_BYTES];
    fs_status rc;

    if (!read_cookie(c, COOKIE, name))
        return FS_OK;
    rc = fs_hub_user_by_session(c->db, name, &c->user, c->session, &c->err);
    return rc == FS_ERR_NOT_FOUND ? FS_OK : rc;
}

/* ---- forms ---- */

/* What a form of ours carries; by the session, or by the cookie of the form of signing in. */
static void sign_form(const fs_hub_call *c, const char *kind, const char *name, char ret[65])
{
    char text[128];

    snprintf(text, sizeof text, "form %s %s", kind, name);
    fs_hub_sign(c->hub, text, ret);
}

static bool form_is_ours(const fs_hub_call *c, const char *kind, const char *name)
{
    char text[128];

    snprintf(text, sizeof text, "form %s %s", kind, name);
    return fs_hub_sign_check(c->hub, text, fs_hub_form_text(c, "csrf"));
}

void fs_page_sign(fs_page *p, const fs_hub_call *c)
{
    char sign[65];

    sign_form(c, "session", c->session, sign);
    fs_page_put(p, "\"><input type=\"hidden\" name=\"csrf\" value=\"%s\">", sign);
}

void fs_page_form(fs_page *p, const fs_hub_call *c, const char *class, const char *action)
{
    fs_page_put(p, "<form method=\"post\" class=\"%s\" action=\"%s", class, action);
    fs_page_sign(p, c);
}

void fs_page_repo_form(fs_page *p, const fs_hub_call *c, const char *class, const char *format, ...)
{
    char rest[100];
    va_list ap;

    va_start(ap, format);
    vsnprintf(rest, sizeof rest, format, ap);
    va_end(ap);
    fs_page_put(p, "<form method=\"post\" class=\"%s\" action=\"/-/%s/", class, c->repo.type);
    fs_page_path(p, c->repo.owner_name);
    fs_page_put(p, "/");
    fs_page_path(p, c->repo.name);
    fs_page_put(p, "%s", rest);
    fs_page_sign(p, c);
}

static bool take_form(fs_hub_call *c)
{
    const char *type = fs_http_header(c->http, "Content-Type");

    c->is_page = true;
    c->user = (fs_hub_user){ 0 }; /* forms are sent by browsers, with their cookie */
    if (!type || strncasecmp(type, "application/x-www-form-urlencoded", 33) != 0 || fs_form_read(fs_http_body(c->http), &c->form, NULL) != FS_OK) {
        fs_page_error(c, 400, "This is no form.");
        return false;
    }
    return true;
}

const char *fs_hub_form_text(const fs_hub_call *c, const char *name)
{
    struct json_object *text = c->form ? fs_json_member(c->form, name) : NULL;

    return text ? json_object_get_string(text) : "";
}

bool fs_hub_need_signed_form(fs_hub_call *c)
{
    if (fs_hub_failed(c, fs_hub_session_read(c)))
        return false;
    if (!c->user.id) {
        fs_page_error(c, 403, "You are not signed in, or no longer.");
        return false;
    }
    if (!form_is_ours(c, "session", c->session)) {
        fs_page_error(c, 403, "This form is not of this session: go back, load its page again, and send it from there.");
        return false;
    }
    json_object_object_del(c->form, "csrf");
    return true;
}

bool fs_hub_need_form(fs_hub_call *c)
{
    return take_form(c) && fs_hub_need_signed_form(c);
}

/* ---- signing in and out ---- */

/* A page of ours, by its path. */
static const char *place(const char *to)
{
    if (!to || to[0] != '/' || to[1] == '/' || to[1] == '\\')
        return "/";
    for (const char *p = to; *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
            return "/";
    return to;
}

void fs_page_go(fs_hub_call *c, const char *to)
{
    c->replied = true;
    fs_http_reply_header(c->http, "Location", to);
    fs_http_reply_header(c->http, "Cache-Control", "no-store");
    fs_http_reply(c->http, 303, NULL, "", 0);
}

static void login_page(fs_hub_call *c, int status, const char *to, const char *wrong)
{
    fs_page p = { .rc = FS_OK };
    char name[NAME_BYTES], sign[65];

    if (!read_cookie(c, LOGIN_COOKIE, name))
        fs_hub_random_name(name, sizeof name);
    set_cookie(c, LOGIN_COOKIE, name, "/login", 3600);
    sign_form(c, "login", name, sign);
    fs_page_begin(&p, c, "Sign in");
    fs_page_put(&p, "<h1>Sign in</h1>");
    if (wrong) {
        fs_page_put(&p, "<p class=\"bad\" role=\"alert\">");
        fs_page_text(&p, wrong);
        fs_page_put(&p, "</p>");
    }
    fs_page_put(&p, "<form method=\"post\" class=\"stack\" action=\"/login\"><input type=\"hidden\" name=\"csrf\" value=\"%s\"><input type=\"hidden\" name=\"to\" value=\"", sign);
    fs_page_text(&p, place(to));
    fs_page_put(&p, "\"><label>Token<input type=\"password\" name=\"token\" required autocomplete=\"current-password\" placeholder=\"hf_...\"></label>"
                    "<p class=\"soft\">The one that the clients use, too. It says what you may do here; the session ends when it is revoked, or after 30 days.</p>"
                    "<button class=\"main\">Sign in</button></form>");
    fs_page_end(&p, c, status);
}

void fs_hub_page_login(fs_hub_call *c)
{
    const char *to = fs_http_query(c->http, "to", 0);

    c->is_page = true;
    if (c->user.id)
        fs_page_go(c, place(to));
    else
        login_page(c, 200, to, NULL);
}

void fs_hub_form_login(fs_hub_call *c)
{
    char name[NAME_BYTES], session[NAME_BYTES], token[FS_HUB_TOKEN_BYTES] = "";
    const char *asked;
    size_t n;
    fs_status rc;

    if (!take_form(c))
        return;
    if (!read_cookie(c, LOGIN_COOKIE, name) || !form_is_ours(c, "login", name)) {
        login_page(c, 403, fs_hub_form_text(c, "to"), "That form was too old, or the browser keeps no cookies. Once more:");
        return;
    }
    asked = fs_hub_form_text(c, "token");
    asked += strspn(asked, " \t\n"); /* what copying may take along */
    n = strcspn(asked, " \t\n");
    if (n < sizeof token) {
        memcpy(token, asked, n);
        token[n] = 0;
    }
    fs_hub_random_name(session, sizeof session);
    rc = fs_hub_session_open(c->db, token, session, &c->err);
    if (rc == FS_ERR_NOT_FOUND) {
        login_page(c, 403, fs_hub_form_text(c, "to"), "There is no such token.");
        return;
    }
    if (fs_hub_failed(c, rc))
        return;
    set_cookie(c, COOKIE, session, "/", FS_HUB_SESSION_MS / 1000);
    set_cookie(c, LOGIN_COOKIE, "", "/login", 0);
    fs_page_go(c, place(fs_hub_form_text(c, "to")));
}

void fs_hub_form_logout(fs_hub_call *c)
{
    uint8_t id[32];

    if (!fs_hub_need_form(c) || !fs_hex_read(fs_bytes_str(c->session), id, sizeof id) ||
        fs_hub_failed(c, fs_db_run(c->db, &c->err, "DELETE FROM sessions WHERE hash = ?", "b", (fs_bytes){ id, sizeof id })))
        return;
    set_cookie(c, COOKIE, "", "/", 0);
    fs_page_go(c, "/");
}
