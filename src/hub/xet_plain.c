/* Giving up the second copy of old files. A file that came by Xet is kept twice: as xorbs, for Xet's clients, and whole, for everybody. Without its xorbs it
 * is a large file like any other. */
#include "hub/internal.h"

#include "net/url.h"

fs_status fs_hub_xet_forget(fs_hub *h, int64_t age_ms, uint64_t *ret_n_files, fs_error *err)
{
    int64_t before_ms = fs_unix_ms() - age_ms;
    sqlite3 *db;
    uint64_t n = 0;
    fs_status rc = fs_db_take(h->db, &db, err);

    if (!rc)
        rc = fs_db_begin(db, err);
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM xet_file_xorbs WHERE file IN (SELECT f.file FROM xet_file_xorbs f JOIN xet_xorbs x ON x.hash = f.xorb GROUP BY f.file HAVING max(x.created_ms) <= ?)",
                       "i", before_ms);
    if (!rc)
        rc = fs_db_run(db, err, "DELETE FROM xet_files WHERE hash NOT IN (SELECT file FROM xet_file_xorbs)", "");
    if (!rc)
        n = (uint64_t)sqlite3_changes(db);
    if (!rc)
        rc = fs_db_commit(db, err);
    if (rc)
        fs_db_rollback(db);
    fs_db_give(h->db, db);
    if (!rc)
        *ret_n_files = n;
    return rc;
}
