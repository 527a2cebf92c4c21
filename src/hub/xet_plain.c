/* Giving up the xorbs of old files: of what is only there, files are made first. Without its xorbs one is a large file like any other. */
#include "hub/blobs.h"
#include "hub/xet_store.h"

#include "crypto/sha256.h"
#include "net/url.h"

#include <string.h>

#define KEY_BYTES (FS_XET_HASH_BYTES + 32) /* a file's hash, its SHA-256 */

/* Makes the object's file where there is none, and forgets what it was made of. */
static fs_status forget(fs_hub *h, sqlite3 *db, const uint8_t *key, fs_error *err)
{
    fs_xet_hash hash;
    char sha256[65];
    fs_error why = { 0 };
    fs_status rc;

    memcpy(hash.bytes, key, sizeof hash.bytes);
    fs_hex(key + FS_XET_HASH_BYTES, 32, sha256);
    rc = fs_blob_has_file(h, sha256) ? FS_OK : fs_xet_object_make(h, sha256, &why);
    return rc ? fs_fail(err, rc, "object %s: %s", sha256, why.message) : fs_xet_forget_file(db, &hash, err);
}

fs_status fs_hub_xet_forget(fs_hub *h, int64_t age_ms, uint64_t *ret_n_files, fs_error *err)
{
    int64_t before_ms = fs_unix_ms() - age_ms;
    sqlite3 *db;
    sqlite3_stmt *st = NULL;
    fs_buf keys = { 0 };
    fs_status rc = fs_db_take(h->db, &db, err), first = FS_OK;

    *ret_n_files = 0;
    if (!rc)
        rc = fs_db_query(db, &st, err,
                         "SELECT hash, sha256 FROM xet_files WHERE hash IN (SELECT f.file FROM xet_file_xorbs f JOIN xet_xorbs x ON x.hash = f.xorb GROUP BY f.file HAVING"
                         " max(x.created_ms) <= ?) AND sha256 IN (SELECT oid FROM repo_objects)",
                         "i", before_ms);
    while (!rc && fs_db_next(st))
        if (sqlite3_column_bytes(st, 0) == FS_XET_HASH_BYTES && sqlite3_column_bytes(st, 1) == 32) {
            rc = fs_buf_append(&keys, sqlite3_column_blob(st, 0), FS_XET_HASH_BYTES, err);
            if (!rc)
                rc = fs_buf_append(&keys, sqlite3_column_blob(st, 1), 32, err);
        }
    if (st && rc)
        fs_db_end(st, NULL);
    else if (st)
        rc = fs_db_end(st, err);
    for (size_t i = 0; i < keys.n_bytes && !rc; i += KEY_BYTES) { /* one that cannot be made does not keep the others from it */
        fs_error why = { 0 };
        fs_status one = forget(h, db, (const uint8_t *)keys.data + i, &why);
        *ret_n_files += !one;
        if (one && !first)
            first = fs_fail(err, one, "%s", why.message);
    }
    fs_buf_done(&keys);
    fs_db_give(h->db, db);
    return rc ? rc : first;
}
