/* Advisories: what an administrator says of a revision that nobody should use any more, or of a whole repository. Every answer about it carries the
 * sentence, which clients print. */
#include "hub/page.h"

#include "base/utf8.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>

#define SENTENCE_MAX 500
#define LIST_MAX     200

void fs_hub_warn(fs_hub_call *c, const git_oid *commit)
{
    char sha[GIT_OID_HEXSZ + 1], text[SENTENCE_MAX + 100];
    sqlite3_stmt *st = NULL;

    git_oid_tostr(sha, sizeof sha, commit);
    if (fs_db_query(c->db, &st, NULL, "SELECT rev, sentence FROM advisories WHERE repo = ? AND rev IN ('', ?) ORDER BY id LIMIT 8", "is", c->repo.id, sha) != FS_OK)
        return;
    while (fs_db_next(st)) {
        if (*fs_db_text(st, 0))
            snprintf(text, sizeof text, "revoked; revision %.12s is revoked: %s", fs_db_text(st, 0), fs_db_text(st, 1));
        else
            snprintf(text, sizeof text, "advisory; %s", fs_db_text(st, 1));
        for (char *p = text; *p; p++)
            if ((unsigned char)*p >= 0x7f) /* no header holds it safely */
                *p = '?';
        fs_http_reply_header(c->http, "X-HF-Warning", text);
    }
    fs_db_end(st, NULL);
}

void fs_hub_page_advisories(fs_page *p, const fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;

    if (fs_db_query(c->db, &st, NULL, "SELECT rev, sentence FROM advisories WHERE repo = ? ORDER BY id DESC LIMIT ?", "ii", c->repo.id, (int64_t)LIST_MAX) != FS_OK)
        return;
    while (fs_db_next(st)) {
        fs_page_put(p, "<p class=\"bad\" role=\"alert\"><b>");
        if (*fs_db_text(st, 0)) {
            fs_page_put(p, "Revision <code>");
            fs_page_text(p, fs_db_text(st, 0));
            fs_page_put(p, "</code> is revoked:</b> ");
        } else {
            fs_page_put(p, "Advisory:</b> ");
        }
        fs_page_text(p, fs_db_text(st, 1));
        fs_page_put(p, "</p>");
    }
    fs_db_end(st, NULL);
}

static void emit_advisory(fs_emit *e, sqlite3_stmt *st)
{
    fs_emit_begin(e, '{');
    fs_emit_int(e, "id", sqlite3_column_int64(st, 0));
    fs_emit_str(e, "revision", *fs_db_text(st, 1) ? fs_db_text(st, 1) : NULL);
    fs_emit_str(e, "message", fs_db_text(st, 2));
    fs_emit_str(e, "author", fs_db_text(st, 3));
    fs_emit_time(e, "createdAt", sqlite3_column_int64(st, 4));
    fs_emit_end(e, '}');
}

void fs_hub_advisory_list(fs_hub_call *c)
{
    sqlite3_stmt *st = NULL;
    fs_emit e = { 0 };

    if (!fs_hub_need_repo_params(c, FS_HUB_READ) ||
        fs_hub_failed(c, fs_db_query(c->db, &st, &c->err,
                                     "SELECT v.id, v.rev, v.sentence, coalesce(a.name, ''), v.created_ms FROM advisories v LEFT JOIN accounts a ON a.id = v.account"
                                     " WHERE v.repo = ? ORDER BY v.id DESC LIMIT ?",
                                     "ii", c->repo.id, (int64_t)LIST_MAX)))
        return;
    fs_emit_begin(&e, '[');
    while (fs_db_next(st))
        emit_advisory(&e, st);
    fs_emit_end(&e, ']');
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
        fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

void fs_hub_advisory_add(fs_hub_call *c)
{
    struct json_object *o;
    char sentence[SENTENCE_MAX], rev[256], sha[GIT_OID_HEXSZ + 1] = "";
    int64_t n = 0;
    git_oid commit;
    fs_emit e = { 0 };

    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_ADMIN) || !(o = fs_hub_body_json(c)))
        return;
    if (!fs_hub_json_str(c, o, "message", sentence, sizeof sentence) || !fs_hub_json_str(c, o, "revision", rev, sizeof rev))
        goto out;
    for (const char *p = sentence; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *sentence = 0;
    if (!*sentence || !fs_utf8_valid(fs_bytes_str(sentence))) {
        fs_hub_error(c, 400, NULL, "message must be a sentence of one line");
        goto out;
    }
    if (*rev && !fs_hub_need_rev(c, rev, &commit, NULL))
        goto out;
    if (*rev)
        git_oid_tostr(sha, sizeof sha, &commit);
    if (fs_hub_failed(c, fs_db_int(c->db, &n, NULL, &c->err, "SELECT count(*) FROM advisories WHERE repo = ?", "i", c->repo.id)))
        goto out;
    if (n >= LIST_MAX) {
        fs_hub_error(c, 400, NULL, "a repository has at most %d advisories", LIST_MAX);
        goto out;
    }
    if (fs_hub_failed(c, fs_db_run(c->db, &c->err, "INSERT INTO advisories(repo, rev, sentence, account, created_ms) VALUES(?, ?, ?, ?, ?)", "issii", c->repo.id, sha, sentence,
                                   c->user.id, fs_unix_ms())))
        goto out;
    fs_emit_begin(&e, '{');
    fs_emit_int(&e, "id", sqlite3_last_insert_rowid(c->db));
    fs_emit_str(&e, "revision", *sha ? sha : NULL);
    fs_emit_str(&e, "message", sentence);
    fs_emit_end(&e, '}');
    fs_hub_reply(c, 200, &e);
out:
    fs_emit_done(&e);
    json_object_put(o);
}

void fs_hub_advisory_remove(fs_hub_call *c)
{
    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_ADMIN) ||
        fs_hub_failed(c, fs_db_run(c->db, &c->err, "DELETE FROM advisories WHERE repo = ? AND id = ?", "ii", c->repo.id, (int64_t)strtoll(fs_http_param(c->http, 3), NULL, 10))))
        return;
    if (sqlite3_changes(c->db) == 0)
        fs_hub_error(c, 404, NULL, "there is no such advisory");
    else
        fs_hub_reply_ok(c);
}
