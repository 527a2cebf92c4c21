/* Other hubs that this one knows of. */
#include "hub/feed.h"

#include "net/url.h"

#include <string.h>

/* Without a '/' at its end, a query or a user's name. */
static fs_status check_url(const char *url, char ret[300], fs_error *err)
{
    size_t n = strlen(url);
    const char *host = strstr(url, "://");

    while (n && url[n - 1] == '/')
        n--;
    if (n >= 300 || !host || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) || (size_t)(host + 3 - url) >= n || strpbrk(url, " ?#@\\\"<>"))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is no address of a hub: http:// or https://, and a name", url);
    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= 32 || (unsigned char)*p >= 127)
            return fs_fail(err, FS_ERR_ARGUMENT, "an address has letters, digits and punctuation only");
    snprintf(ret, 300, "%.*s", (int)n, url);
    return FS_OK;
}

fs_status fs_hub_peer_add(fs_hub *h, const char *url, fs_error *err)
{
    char clean[300];
    sqlite3 *db = NULL;
    fs_status rc = check_url(url, clean, err);

    if (!rc)
        rc = fs_db_take(h->db, &db, err);
    if (!rc)
        rc = fs_db_run(db, err, "INSERT OR IGNORE INTO peers(url, added_ms) VALUES(?, ?)", "si", clean, fs_unix_ms());
    fs_db_give(h->db, db);
    return rc;
}

fs_status fs_hub_peer_remove(fs_hub *h, const char *url, fs_error *err)
{
    char clean[300];
    sqlite3 *db = NULL;
    fs_status rc = check_url(url, clean, err);

    if (!rc)
        rc = fs_db_take(h->db, &db, err);
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM peers WHERE url = ?", "s", clean);
    if (!rc && sqlite3_changes(db) == 0)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "'%s' is no peer", clean);
    fs_db_give(h->db, db);
    return rc;
}

fs_status fs_hub_peer_list(fs_hub *h, fs_hub_peer_fn *fn, void *ud, fs_error *err)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_take(h->db, &db, err);

    if (rc)
        return rc;
    rc = fs_db_query(db, &st, err, "SELECT url FROM peers ORDER BY url", "");
    while (!rc && fs_db_next(st))
        fn(ud, fs_db_text(st, 0));
    if (!rc)
        rc = fs_db_end(st, err);
    fs_db_give(h->db, db);
    return rc;
}

void fs_hub_reply_peers(fs_hub_call *c)
{
    fs_emit e = { 0 };
    sqlite3_stmt *st = NULL;

    if (fs_hub_failed(c, fs_db_query(c->db, &st, &c->err, "SELECT url FROM peers ORDER BY url LIMIT 1000", "")))
        return;
    fs_emit_begin(&e, '{');
    fs_emit_key(&e, "peers");
    fs_emit_begin(&e, '[');
    while (fs_db_next(st)) {
        fs_emit_begin(&e, '{');
        fs_emit_str(&e, "url", fs_db_text(st, 0));
        fs_emit_end(&e, '}');
    }
    fs_emit_end(&e, ']');
    fs_emit_end(&e, '}');
    if (!fs_hub_failed(c, fs_db_end(st, &c->err)))
        fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}
