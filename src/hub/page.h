/* HTML as the hub's pages need it: what is said is escaped where it is put, Markdown is rendered without the HTML in it, nothing runs. */
#ifndef FS_HUB_PAGE_H
#define FS_HUB_PAGE_H

#include "hub/internal.h"

/* The first failure stays in rc, and what follows is dropped. */
typedef struct fs_page {
    fs_buf out;
    fs_status rc;
    fs_error err;
} fs_page;

/* Markup of our own; %s and the others must be of our own, too. */
void fs_page_put(fs_page *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Text of anybody's, within an element or an attribute's double quotes. */
void fs_page_text(fs_page *p, const char *text);
void fs_page_bytes(fs_page *p, fs_bytes text);
/* A path of anybody's as a part of an address: its slashes stay. */
void fs_page_path(fs_page *p, const char *path);
/* The same, one segment: a slash is escaped, too. */
void fs_page_word(fs_page *p, const char *word);
/* "1.5 GB". */
void fs_page_size(fs_page *p, uint64_t n_bytes);
/* "2026-01-31", with the time as a title. */
void fs_page_date(fs_page *p, int64_t unix_ms);
/* Markdown of anybody's: hub/markdown.h. */
void fs_page_markdown(fs_page *p, fs_bytes text, const char *link, const char *picture);

void fs_page_begin(fs_page *p, fs_hub_call *c, const char *title);
/* Ends the page and replies. */
void fs_page_end(fs_page *p, fs_hub_call *c, int status);
/* A page that says what is wrong. */
void fs_page_error(fs_hub_call *c, int status, const char *message);
/* advisories.c: what is said against the repository and its revisions. */
void fs_hub_page_advisories(fs_page *p, const fs_hub_call *c);
extern const char fs_page_style[];

/* 303: the browser goes there. */
void fs_page_go(fs_hub_call *c, const char *to);
/* pages_forms.c: to rest within c->repo, an address. */
void fs_page_go_repo(fs_hub_call *c, const char *rest);

/* ---- session.c: forms of who is signed in; what ends them is "</form>" ---- */

void fs_page_form(fs_page *p, const fs_hub_call *c, const char *class, const char *action);
/* The end of a form's tag, behind its action, and the session's sign. */
void fs_page_sign(fs_page *p, const fs_hub_call *c);
/* The same for what is done to c->repo, "/-/type/org/name" and what format says. */
void fs_page_repo_form(fs_page *p, const fs_hub_call *c, const char *class, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* ---- pages_account.c ---- */

/* Who is signed in with this browser; false after a page, or on the way to signing in. */
bool fs_page_need_session(fs_hub_call *c);

/* ---- pages_orgs.c ---- */

/* Forms for the members of an organisation, for who administers it. */
fs_status fs_page_members(fs_page *p, fs_hub_call *c, int64_t id, const char *org);

/* ---- signature.c ---- */

/* A line for each signature of the revision: verified or not, and why. */
void fs_page_signatures(fs_page *p, fs_hub_call *c, const git_oid *tree);
/* A public key, of minisign's or PEM. */
bool fs_hub_key_is_valid(const char *text);

/* The accounts that this session may make repositories for, the user's own first, as names for fs_db_text's column 0. */
fs_status fs_page_owners(fs_hub_call *c, sqlite3_stmt **ret);

/* ---- pages.c, pages_repo.c: what pages of repositories share ---- */

/* Who is signed in may send forms about c->repo, what else they may be about: the token is for writing, and for this repository. */
bool fs_page_may_send(const fs_hub_call *c);
/* "/datasets/org/name", an address. */
void fs_page_repo_link(fs_page *p, const fs_hub_repo *r);
void fs_page_repo_id(const fs_hub_call *c, char ret[220]); /* "org/name" */
/* Tags that filter, of a JSON array. */
void fs_page_tags(fs_page *p, const char *json);
/* Private, gated, a copy from where. */
void fs_page_states(fs_page *p, const fs_hub_repo *r);
/* Name, states, and the tabs of which tab is the current one; tags: a JSON array, or NULL. */
void fs_page_repo_head(fs_page *p, const fs_hub_call *c, const char *tab, const char *tags);
/* The repository of the page's address, n_tail parameters before its end; false after a page that says no. */
bool fs_page_need_repo(fs_hub_call *c, int n_tail);
/* The last parameter as a path, decoded (free); NULL after a page. */
char *fs_page_need_path(fs_hub_call *c);
/* main / folder / file, each a link to its tree. */
void fs_page_way(fs_page *p, const fs_hub_call *c, const char *rev, const char *path);
/* A file at path, whose links are of its folder and revision. */
void fs_page_repo_markdown(fs_page *p, const fs_hub_call *c, const char *rev, const char *path, fs_bytes text);

#endif
