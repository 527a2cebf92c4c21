/* What the forms of a repository's pages do: each is the API's call of the same name, with the form as its body, so that there is one place
 * that says who may do what. Then the browser goes to the page that shows it. */
#include "hub/page.h"

#include "net/url.h"

#include <stdlib.h>
#include <string.h>

/* Does the call; true when it succeeded, and the page is to be chosen. */
static bool done(fs_hub_call *c, fs_hub_fn *call)
{
    if (!c->replied)
        call(c);
    return c->answered && !c->replied;
}

static bool form_does(fs_hub_call *c, fs_hub_fn *call)
{
    return fs_hub_need_form(c) && done(c, call);
}

/* The page at rest within a repository. */
static void go(fs_hub_call *c, const char *type, const char *owner, const char *name, const char *rest)
{
    fs_buf to = { 0 };
    fs_status rc = fs_buf_printf(&to, &c->err, "/%s", fs_hub_type_prefix(type));

    if (!rc)
        rc = fs_url_encode(&to, fs_bytes_str(owner), "", &c->err);
    if (!rc)
        rc = fs_buf_append_str(&to, "/", &c->err);
    if (!rc)
        rc = fs_url_encode(&to, fs_bytes_str(name), "", &c->err);
    if (!rc)
        rc = fs_buf_append_str(&to, rest, &c->err);
    if (!fs_hub_failed(c, rc))
        fs_page_go(c, to.data);
    fs_buf_done(&to);
}

void fs_page_go_repo(fs_hub_call *c, const char *rest)
{
    go(c, c->repo.type, c->repo.owner_name, c->repo.name, rest);
}

static void go_discussion(fs_hub_call *c)
{
    char rest[60];

    snprintf(rest, sizeof rest, "/discussions/%lld", strtoll(fs_http_param(c->http, 3), NULL, 10));
    fs_page_go_repo(c, rest);
}

static bool set(fs_hub_call *c, const char *key, const char *value)
{
    struct json_object *text = json_object_new_string(value);

    if (text && json_object_object_add(c->form, key, text) == 0)
        return true;
    fs_page_error(c, 503, "out of memory");
    return false;
}

/* ---- repositories ---- */

void fs_hub_form_new(fs_hub_call *c)
{
    struct json_object *o = NULL;
    const char *id, *slash;
    char type[16], owner[100];

    if (!form_does(c, fs_hub_repo_create))
        return;
    snprintf(type, sizeof type, "%.14ss", fs_hub_form_text(c, "type"));
    if (fs_hub_failed(c, fs_json_parse(fs_buf_bytes(&c->answer), "the answer", &o, &c->err)))
        return;
    id = json_object_get_string(fs_json_member(o, "id"));
    slash = id ? strchr(id, '/') : NULL;
    if (slash && slash - id < (ptrdiff_t)sizeof owner) {
        snprintf(owner, sizeof owner, "%.*s", (int)(slash - id), id);
        go(c, type, owner, slash + 1, "");
    }
    json_object_put(o);
}

void fs_hub_form_fork(fs_hub_call *c)
{
    if (form_does(c, fs_hub_repo_duplicate)) /* which is the repository from now on */
        fs_page_go_repo(c, "");
}

void fs_hub_form_like(fs_hub_call *c)
{
    if (form_does(c, fs_hub_like))
        fs_page_go_repo(c, "");
}

void fs_hub_form_unlike(fs_hub_call *c)
{
    if (form_does(c, fs_hub_unlike))
        fs_page_go_repo(c, "");
}

void fs_hub_form_repo_settings(fs_hub_call *c)
{
    if (form_does(c, fs_hub_repo_settings))
        fs_page_go_repo(c, "/settings");
}

void fs_hub_form_ask(fs_hub_call *c)
{
    if (form_does(c, fs_hub_ask_access))
        fs_page_go_repo(c, "");
}

void fs_hub_form_access(fs_hub_call *c)
{
    if (form_does(c, fs_hub_access_handle))
        fs_page_go_repo(c, "/settings");
}

void fs_hub_form_move(fs_hub_call *c)
{
    char from[200];
    const char *to, *slash;

    snprintf(from, sizeof from, "%.96s/%.96s", fs_http_param(c->http, 1), fs_http_param(c->http, 2));
    if (!fs_hub_need_form(c) || !set(c, "fromRepo", from) || !set(c, "type", fs_http_param(c->http, 0)) || !done(c, fs_hub_repo_move))
        return;
    to = fs_hub_form_text(c, "toRepo");
    slash = strchr(to, '/');
    snprintf(from, sizeof from, "%.*s", slash ? (int)(slash - to) : 0, to);
    go(c, c->repo.type, from, slash ? slash + 1 : "", "");
}

void fs_hub_form_delete(fs_hub_call *c)
{
    char id[200];
    fs_buf to = { 0 };

    snprintf(id, sizeof id, "%.96s/%.96s", fs_http_param(c->http, 1), fs_http_param(c->http, 2));
    if (!fs_hub_need_form(c))
        return;
    if (strcmp(fs_hub_form_text(c, "confirm"), id) != 0) {
        fs_page_error(c, 400, "To delete the repository, type its whole name, with its owner's.");
        return;
    }
    if (!set(c, "organization", fs_http_param(c->http, 1)) || !set(c, "name", fs_http_param(c->http, 2)) || !set(c, "type", fs_http_param(c->http, 0)) ||
        !done(c, fs_hub_repo_delete))
        return;
    if (fs_buf_append_str(&to, "/", NULL) == FS_OK && fs_url_encode(&to, fs_bytes_str(c->repo.owner_name), "", NULL) == FS_OK)
        fs_page_go(c, to.data);
    fs_buf_done(&to);
}

/* ---- discussions ---- */

void fs_hub_form_discussion(fs_hub_call *c)
{
    struct json_object *o = NULL, *pr;
    char rest[60];
    int64_t num = 0;

    if (!fs_hub_need_form(c))
        return;
    pr = json_object_new_boolean(strcmp(fs_hub_form_text(c, "kind"), "pull request") == 0);
    if (!pr || json_object_object_add(c->form, "pullRequest", pr) != 0) {
        fs_page_error(c, 503, "out of memory");
        return;
    }
    if (!done(c, fs_hub_discussion_create) || fs_hub_failed(c, fs_json_parse(fs_buf_bytes(&c->answer), "the answer", &o, &c->err)))
        return;
    if (!fs_hub_failed(c, fs_json_int(o, "num", 0, INT64_MAX, &num, NULL, &c->err))) {
        snprintf(rest, sizeof rest, "/discussions/%lld", (long long)num);
        fs_page_go_repo(c, rest);
    }
    json_object_put(o);
}

#define OF_DISCUSSION(form, call)              \
    void fs_hub_form_##form(fs_hub_call *c)    \
    {                                          \
        if (form_does(c, fs_hub_##call))       \
            go_discussion(c);                  \
    }
OF_DISCUSSION(comment, discussion_comment)
OF_DISCUSSION(comment_edit, comment_edit)
OF_DISCUSSION(comment_hide, comment_hide)
OF_DISCUSSION(title, discussion_title)
OF_DISCUSSION(status, discussion_status)
OF_DISCUSSION(merge, discussion_merge)
