/* Looking after what came by Xet: garbage and damage. */
#include "hub/blobs.h"
#include "hub/xet_store.h"

#include "base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static fs_bytes key_of(const fs_xet_hash *h)
{
    return (fs_bytes){ h->bytes, sizeof h->bytes };
}

/* The hashes that a query selects, one behind the other. */
static fs_status hashes_of(sqlite3_stmt *st, fs_buf *ret, fs_error *err)
{
    fs_status rc = FS_OK;

    while (!rc && fs_db_next(st))
        if (sqlite3_column_bytes(st, 0) == FS_XET_HASH_BYTES)
            rc = fs_buf_append(ret, sqlite3_column_blob(st, 0), FS_XET_HASH_BYTES, err);
    if (rc)
        fs_db_end(st, NULL);
    return rc ? rc : fs_db_end(st, err);
}

/* ---- garbage ---- */

typedef struct sweep {
    const fs_hub *hub;
    sqlite3 *db;
    int64_t made_ms;
    uint64_t n, n_bytes;
} sweep;

/* The rows of a xorb that nothing refers to. */
static fs_status forget_unused(sqlite3 *db, const fs_xet_hash *hash, fs_error *err)
{
    int64_t n = 0;
    fs_status rc = fs_db_begin(db, err);

    if (!rc)
        rc = fs_db_int(db, &n, NULL, err, "SELECT (SELECT count(*) FROM xet_xorb_repos WHERE xorb = ?1) + (SELECT count(*) FROM xet_file_xorbs WHERE xorb = ?1)", "b", key_of(hash));
    if (!rc && n == 0)
        rc = fs_db_run(db, err, "DELETE FROM xet_chunks WHERE xorb = ?", "b", key_of(hash));
    if (!rc && n == 0)
        rc = fs_db_run(db, err, "DELETE FROM xet_xorbs WHERE hash = ?", "b", key_of(hash));
    if (!rc)
        rc = fs_db_commit(db, err);
    fs_db_rollback(db);
    return rc;
}

fs_status fs_xet_xorb_is_needed(sqlite3 *db, const char *name, bool *ret, fs_error *err)
{
    fs_xet_hash hash;
    int64_t n = 1;
    fs_status rc = fs_xet_hash_read(fs_bytes_str(name), &hash) ? fs_db_int(db, &n, NULL, err, "SELECT count(*) FROM xet_xorbs WHERE hash = ?", "b", key_of(&hash)) : FS_OK;

    *ret = n > 0;
    return rc;
}

/* One that no row knows goes, within a transaction: who adds a row looks within one whether it is there. */
static fs_status sweep_blob(void *ud, const char *name, uint64_t size, fs_error *err)
{
    sweep *s = ud;
    uint64_t n_bytes = 0;
    bool needed = true, removed = false;
    fs_status rc = fs_xet_xorb_is_needed(s->db, name, &needed, err);

    (void)size;
    if (!rc && !needed)
        rc = s->hub->store->remove(s->hub, s->db, FS_BLOB_XORB, name, s->made_ms, fs_xet_xorb_is_needed, &removed, &n_bytes, err);
    s->n += removed;
    s->n_bytes += removed ? n_bytes : 0;
    return rc;
}

fs_status fs_xet_gc(const fs_hub *h, sqlite3 *db, int64_t made_ms, uint64_t *ret_n, uint64_t *ret_n_bytes, fs_error *err)
{
    sweep s = { .hub = h, .db = db, .made_ms = made_ms };
    sqlite3_stmt *st = NULL;
    fs_buf hashes = { 0 };
    fs_status rc = fs_db_begin(db, err);

    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM xet_file_xorbs WHERE file IN (SELECT hash FROM xet_files WHERE sha256 NOT IN (SELECT oid FROM repo_objects))", "");
    if (!rc) /* of an object without a file nothing else is to go */
        rc = fs_db_run(db, err, "DELETE FROM objects WHERE oid IN (SELECT sha256 FROM xet_files) AND oid NOT IN (SELECT oid FROM repo_objects)", "");
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM xet_files WHERE sha256 NOT IN (SELECT oid FROM repo_objects)", "");
    if (!rc) /* an upload that came to no end */
        rc = fs_db_run(db, err, "DELETE FROM xet_xorb_repos WHERE xorb IN (SELECT hash FROM xet_xorbs WHERE created_ms <= ?) AND xorb NOT IN (SELECT xorb FROM xet_file_xorbs)", "i",
                       made_ms);
    if (!rc)
        rc = fs_db_commit(db, err);
    fs_db_rollback(db);
    if (!rc)
        rc = fs_db_query(db, &st, err, "SELECT hash FROM xet_xorbs WHERE created_ms <= ? AND hash NOT IN (SELECT xorb FROM xet_xorb_repos) AND hash NOT IN"
                                       " (SELECT xorb FROM xet_file_xorbs)", "i", made_ms);
    if (!rc)
        rc = hashes_of(st, &hashes, err);
    for (size_t i = 0; i < hashes.n_bytes && !rc; i += FS_XET_HASH_BYTES) {
        fs_xet_hash hash;
        memcpy(hash.bytes, hashes.data + i, sizeof hash.bytes);
        rc = forget_unused(db, &hash, err);
    }
    fs_buf_done(&hashes);
    if (!rc)
        rc = h->store->list(h, db, FS_BLOB_XORB, false, made_ms, sweep_blob, &s, err);
    *ret_n += s.n;
    *ret_n_bytes += s.n_bytes;
    return rc;
}

/* ---- checking ---- */

/* Whether the file is the xorb that the row describes; if not, why. *ret_sound: the file is a xorb of that hash, and the row is not what it says; repair: it is now. */
static fs_status look_at(const fs_hub *h, sqlite3 *db, const fs_xet_hash *hash, bool repair, bool *ret_there, bool *ret_sound, char ret_why[200], fs_error *err)
{
    fs_xorb is = { 0 }, row = { 0 };
    uint64_t n_bytes = 0;
    int fd = -1;
    fs_error why = { 0 };
    fs_status rc = fs_xet_xorb_open(h, hash, true, &fd, &n_bytes, &why);

    ret_why[0] = 0;
    *ret_there = rc == FS_OK;
    if (!rc)
        rc = fs_xet_xorb_read_fd(fd, n_bytes, &is, &why);
    if (fd >= 0)
        close(fd);
    if (rc == FS_ERR_MEMORY)
        return fs_fail_memory(err, 0);
    if (rc == FS_ERR_IO) /* says nothing of what is there */
        return fs_fail(err, rc, "%s", why.message);
    if (rc)
        snprintf(ret_why, 200, "%.190s", *ret_there ? why.message : "it is missing");
    else if (!fs_xet_hash_equal(&is.hash, hash))
        snprintf(ret_why, 200, "its chunks have another hash");
    rc = fs_xet_xorb_row(db, hash, &row, &why);
    *ret_sound = !*ret_why;
    if (rc == FS_ERR_FORMAT || (!rc && !*ret_why && (row.n_chunks != is.n_chunks || row.n_bytes != is.n_bytes || memcmp(row.chunks, is.chunks, is.n_chunks * sizeof *is.chunks) != 0)))
        snprintf(ret_why, 200, "the database has other chunks");
    if (*ret_sound && *ret_why && repair)
        rc = fs_xet_xorb_write(db, &is, err);
    fs_xorb_done(&is);
    fs_xorb_done(&row);
    return rc == FS_ERR_FORMAT || rc == FS_ERR_NOT_FOUND ? FS_OK : rc; /* not found: it went as garbage meanwhile */
}

static fs_status forget(const fs_hub *h, sqlite3 *db, const fs_xet_hash *hash, bool there, fs_error *err)
{
    static const char *const deletions[] = {
        "CREATE TEMP TABLE IF NOT EXISTS spoilt(file BLOB PRIMARY KEY)", "INSERT OR IGNORE INTO spoilt SELECT file FROM xet_file_xorbs WHERE xorb = ?1",
        "DELETE FROM xet_file_xorbs WHERE file IN (SELECT file FROM spoilt)", "DELETE FROM xet_files WHERE hash IN (SELECT file FROM spoilt)",
        "DELETE FROM xet_xorb_repos WHERE xorb = ?1", "DELETE FROM xet_chunks WHERE xorb = ?1", "DELETE FROM xet_xorbs WHERE hash = ?1", "DELETE FROM spoilt"
    };
    char name[65];
    fs_status rc = fs_db_begin(db, err);

    for (size_t i = 0; i < sizeof deletions / sizeof *deletions && !rc; i++)
        rc = fs_db_run(db, err, deletions[i], strstr(deletions[i], "?1") ? "b" : "", key_of(hash));
    if (!rc)
        rc = fs_db_commit(db, err);
    if (rc)
        fs_db_rollback(db);
    fs_xet_hash_text(hash, name);
    return rc || !there ? rc : h->store->take_out(h, db, FS_BLOB_XORB, name, err);
}

fs_status fs_xet_forget_file(sqlite3 *db, const fs_xet_hash *file, fs_error *err)
{
    fs_status rc = fs_db_begin(db, err);

    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM xet_file_xorbs WHERE file = ?", "b", key_of(file));
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM xet_files WHERE hash = ?", "b", key_of(file));
    if (!rc)
        rc = fs_db_commit(db, err);
    if (rc)
        fs_db_rollback(db);
    return rc;
}

fs_status fs_xet_check(const fs_hub *h, sqlite3 *db, bool repair, fs_xet_wrong_fn *wrong, void *ud, uint64_t *ret_n, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_buf hashes = { 0 };
    fs_status rc = fs_db_query(db, &st, err, "SELECT hash FROM xet_xorbs", "");

    if (!rc)
        rc = hashes_of(st, &hashes, err);
    for (size_t i = 0; i < hashes.n_bytes && !rc; i += FS_XET_HASH_BYTES) {
        fs_xet_hash hash;
        char why[200], text[65], sentence[400];
        bool there = false, sound = false;
        memcpy(hash.bytes, hashes.data + i, sizeof hash.bytes);
        rc = look_at(h, db, &hash, repair, &there, &sound, why, err);
        ++*ret_n;
        if (rc || !*why)
            continue;
        if (repair && !sound)
            rc = forget(h, db, &hash, there, err);
        fs_xet_hash_text(&hash, text);
        snprintf(sentence, sizeof sentence, "xorb %s: %s", text, why);
        if (!rc)
            wrong(ud, sentence);
    }
    fs_buf_done(&hashes);
    return rc;
}
