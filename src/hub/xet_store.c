/* See the header. */
#include "hub/xet_internal.h"

#include "hub/blobs.h"

#include "base/file.h"
#include "crypto/sha256.h"
#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_BYTES 40 /* hash, end u32, bytes u32; of a row's chunks */
#define TERM_BYTES  44 /* xorb, first chunk u32, end chunk u32, bytes u32; of a file's terms */

static fs_bytes key_of(const fs_xet_hash *h)
{
    return (fs_bytes){ h->bytes, sizeof h->bytes };
}

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static fs_status broken(fs_error *err)
{
    return fs_fail(err, FS_ERR_FORMAT, "database: a row of Xet's has the wrong length");
}

/* ---- xorbs ---- */

fs_status fs_xet_incoming_open(const fs_hub *h, int *ret_fd, fs_error *err)
{
    char path[400];

    fs_blob_folder(h, FS_BLOB_XORB, path);
    *ret_fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0400);
    return *ret_fd < 0 ? fs_fail_errno(err, errno, "cannot make a file in '%s'", path) : FS_OK;
}

fs_status fs_xet_xorb_read_fd(int fd, uint64_t n_bytes, fs_xorb *ret, fs_error *err)
{
    fs_map map = { 0 };
    fs_status rc = n_bytes ? fs_map_fd(&map, fd, (size_t)n_bytes, "a xorb", err) : fs_fail(err, FS_ERR_FORMAT, "xorb: no chunk");

    if (!rc)
        rc = fs_xorb_read(map.bytes, ret, err);
    fs_map_close(&map);
    return rc;
}

/* One of that name that no row knows, of an upload that was killed, say: the same chunks may be packed in another way there, so that x becomes what
 * it says. One that is spoilt goes. */
static fs_status take_over(const fs_hub *h, sqlite3 *db, const char *name, int fd, fs_xorb *x, bool *ret_spoilt, fs_error *err)
{
    struct stat mine, there;
    fs_xorb other = { 0 };
    uint64_t n_bytes = 0;
    int old = -1;
    fs_status rc = h->store->open(h, FS_BLOB_XORB, name, false, &old, &n_bytes, err);

    *ret_spoilt = false;
    if (rc)
        return rc;
    if (fstat(fd, &mine) != 0 || fstat(old, &there) != 0 || (mine.st_ino == there.st_ino && mine.st_dev == there.st_dev)) {
        close(old);
        return FS_OK;
    }
    rc = fs_xet_xorb_read_fd(old, n_bytes, &other, NULL);
    close(old);
    if (rc == FS_ERR_MEMORY)
        return fs_fail_memory(err, 0);
    if (rc || !fs_xet_hash_equal(&other.hash, &x->hash)) {
        fs_xorb_done(&other);
        *ret_spoilt = true;
        return h->store->take_out(h, db, FS_BLOB_XORB, name, err);
    }
    fs_xorb_done(x);
    *x = other;
    return FS_OK;
}

/* On the disk before it has a name, and the name on the disk before anybody is told. */
static fs_status name_it(const fs_hub *h, sqlite3 *db, const char *name, int fd, fs_xorb *x, fs_error *err)
{
    struct stat st;
    bool spoilt = false;
    fs_status rc = fstat(fd, &st) != 0 ? fs_fail_errno(err, errno, "a xorb") : h->store->put(h, db, FS_BLOB_XORB, name, NULL, fd, (uint64_t)st.st_size, NULL, err);

    if (!rc)
        rc = take_over(h, db, name, fd, x, &spoilt, err);
    return rc || !spoilt ? rc : h->store->put(h, db, FS_BLOB_XORB, name, NULL, fd, (uint64_t)st.st_size, NULL, err);
}

static fs_status write_row(sqlite3 *db, const fs_xorb *x, fs_error *err)
{
    size_t n_bytes = (size_t)x->n_chunks * CHUNK_BYTES;
    uint8_t *chunks = malloc(n_bytes + 1);
    fs_status rc = chunks ? FS_OK : fs_fail_memory(err, n_bytes);

    for (uint32_t i = 0; i < x->n_chunks && chunks; i++) {
        memcpy(chunks + (size_t)i * CHUNK_BYTES, x->chunks[i].hash.bytes, 32);
        put_u32(chunks + (size_t)i * CHUNK_BYTES + 32, x->chunks[i].end);
        put_u32(chunks + (size_t)i * CHUNK_BYTES + 36, x->chunks[i].n_bytes);
    }
    if (!rc)
        rc = fs_db_run(db, err, "INSERT INTO xet_xorbs(hash, n_bytes, chunks, created_ms) VALUES(?, ?, ?, ?) ON CONFLICT(hash) DO UPDATE SET chunks = excluded.chunks, created_ms = excluded.created_ms",
                       "bibi", key_of(&x->hash), (int64_t)x->n_bytes,
                       (fs_bytes){ chunks, n_bytes }, fs_unix_ms());
    for (uint32_t i = 0; i < x->n_chunks && !rc; i++)
        if (fs_xet_hash_is_asked(&x->chunks[i].hash))
            rc = fs_db_run(db, err, "INSERT OR IGNORE INTO xet_chunks(hash, xorb) VALUES(?, ?)", "bb", key_of(&x->chunks[i].hash), key_of(&x->hash));
    free(chunks);
    return rc;
}

fs_status fs_xet_xorb_write(sqlite3 *db, const fs_xorb *x, fs_error *err)
{
    fs_status rc = fs_db_begin(db, err);

    if (!rc)
        rc = write_row(db, x, err);
    if (!rc)
        rc = fs_db_commit(db, err);
    if (rc)
        fs_db_rollback(db);
    return rc;
}

fs_status fs_xet_xorb_add(const fs_hub *h, sqlite3 *db, int64_t repo, int fd, fs_xorb *x, bool *ret_new, fs_error *err)
{
    char name[65];
    int64_t one = 0;
    bool held = false, named = false, here = false;
    uint64_t n_bytes;
    fs_status rc = fs_db_int(db, &one, &held, err, "SELECT 1 FROM xet_xorbs WHERE hash = ?", "b", key_of(&x->hash));

    fs_xet_hash_text(&x->hash, name);
    if (!rc)
        rc = h->store->is_here(h, db, FS_BLOB_XORB, name, &here, &n_bytes, err);
    if (!rc && (!held || !here)) {
        rc = name_it(h, db, name, fd, x, err);
        named = true; /* x is what the file says */
    }
    if (!rc)
        rc = fs_db_begin(db, err);
    if (!rc && !named)
        rc = fs_db_int(db, &one, &held, err, "SELECT 1 FROM xet_xorbs WHERE hash = ?", "b", key_of(&x->hash));
    if (!rc)
        rc = h->store->is_here(h, db, FS_BLOB_XORB, name, &here, &n_bytes, err);
    if (!rc && (!here || (!named && !held))) /* within the transaction nothing goes */
        rc = fs_fail(err, FS_ERR_IO, "the xorb went as garbage: send it again");
    if (!rc)
        rc = named ? write_row(db, x, err) : fs_db_run(db, err, "UPDATE xet_xorbs SET created_ms = ? WHERE hash = ?", "ib", fs_unix_ms(), key_of(&x->hash));
    if (!rc)
        rc = fs_db_run(db, err, "INSERT OR IGNORE INTO xet_xorb_repos(xorb, repo) VALUES(?, ?)", "bi", key_of(&x->hash), repo);
    if (!rc)
        rc = fs_db_commit(db, err);
    if (rc)
        fs_db_rollback(db);
    *ret_new = !held;
    return rc;
}

static fs_status read_chunks(sqlite3_stmt *st, fs_xorb *ret, fs_error *err)
{
    const uint8_t *p = sqlite3_column_blob(st, 0);
    int n = sqlite3_column_bytes(st, 0);

    if (n <= 0 || n % CHUNK_BYTES)
        return broken(err);
    ret->n_chunks = (uint32_t)(n / CHUNK_BYTES);
    ret->n_bytes = (uint64_t)sqlite3_column_int64(st, 1);
    ret->chunks = calloc(ret->n_chunks, sizeof *ret->chunks);
    if (!ret->chunks)
        return fs_fail_memory(err, ret->n_chunks * sizeof *ret->chunks);
    for (uint32_t i = 0; i < ret->n_chunks; i++, p += CHUNK_BYTES) {
        memcpy(ret->chunks[i].hash.bytes, p, 32);
        ret->chunks[i].end = u32(p + 32);
        ret->chunks[i].n_bytes = u32(p + 36);
    }
    return FS_OK;
}

/* The xorb of the row that st selects; ends st. */
static fs_status row_of(sqlite3_stmt *st, const fs_xet_hash *hash, fs_xorb *ret, fs_error *err)
{
    fs_xorb x = { .hash = *hash };
    bool found = fs_db_next(st);
    char text[65];
    fs_status rc = found ? read_chunks(st, &x, err) : FS_OK;

    if (fs_db_end(st, rc ? NULL : err) && !rc)
        rc = FS_ERR_IO;
    fs_xet_hash_text(hash, text);
    if (!rc && !found)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "no xorb %s", text);
    if (rc)
        fs_xorb_done(&x);
    else
        *ret = x;
    return rc;
}

fs_status fs_xet_xorb_find(sqlite3 *db, int64_t repo, const fs_hub_user *u, const fs_xet_hash *hash, fs_xorb *ret, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(db, &st, err,
                               "SELECT chunks, n_bytes FROM xet_xorbs WHERE hash = ?1 AND (EXISTS(SELECT 1 FROM xet_file_xorbs x JOIN xet_files f ON f.hash = x.file JOIN"
                               " repo_objects o ON o.oid = f.sha256 WHERE x.xorb = ?1 AND o.repo = ?2) OR EXISTS(SELECT 1 FROM xet_xorb_repos x JOIN repos r ON r.id = x.repo WHERE"
                               " x.xorb = ?1 AND (r.id = ?2 OR " FS_HUB_REPO_IS_OPEN " OR " FS_HUB_REPO_IS_OF("?3", "?4") ")))",
                               "biii", key_of(hash), repo, u->id, u->scope);

    return rc ? rc : row_of(st, hash, ret, err);
}

fs_status fs_xet_xorb_row(sqlite3 *db, const fs_xet_hash *hash, fs_xorb *ret, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(db, &st, err, "SELECT chunks, n_bytes FROM xet_xorbs WHERE hash = ?", "b", key_of(hash));

    return rc ? rc : row_of(st, hash, ret, err);
}

fs_status fs_xet_xorb_open(const fs_hub *h, const fs_xet_hash *hash, bool fresh, int *ret_fd, uint64_t *ret_bytes, fs_error *err)
{
    char name[65];

    fs_xet_hash_text(hash, name);
    return h->store->open(h, FS_BLOB_XORB, name, fresh, ret_fd, ret_bytes, err);
}

/* ---- files ---- */

fs_status fs_xet_file_is_known(sqlite3 *db, const fs_shard_file *f, bool *ret, fs_error *err)
{
    int64_t one = 0;

    return fs_db_int(db, &one, ret, err, "SELECT 1 FROM xet_files JOIN objects ON oid = sha256 WHERE hash = ? AND sha256 = ?", "bb", key_of(&f->hash),
                     (fs_bytes){ f->sha256, sizeof f->sha256 });
}

fs_status fs_xet_file_add(sqlite3 *db, int64_t repo, const fs_shard_file *f, const fs_xet_hash *first, bool again, fs_error *err)
{
    uint8_t *terms = malloc((size_t)f->n_terms * TERM_BYTES + 1);
    char sha256[65];
    fs_status rc = terms ? FS_OK : fs_fail_memory(err, (size_t)f->n_terms * TERM_BYTES);

    for (uint32_t i = 0; i < f->n_terms && !rc; i++) {
        uint8_t *p = terms + (size_t)i * TERM_BYTES;
        memcpy(p, f->terms[i].xorb.bytes, 32);
        put_u32(p + 32, f->terms[i].begin);
        put_u32(p + 36, f->terms[i].end);
        put_u32(p + 40, f->terms[i].n_bytes);
    }
    if (!rc)
        rc = fs_db_run(db, err, "INSERT INTO xet_files(hash, sha256, n_bytes, terms) VALUES(?1, ?2, ?3, ?4) ON CONFLICT(hash) DO UPDATE SET terms = ?4 WHERE ?5", "bbibi", key_of(&f->hash),
                       (fs_bytes){ f->sha256, sizeof f->sha256 }, (int64_t)f->n_bytes, (fs_bytes){ terms, (size_t)f->n_terms * TERM_BYTES }, (int64_t)again);
    if (!rc && again)
        rc = fs_db_run(db, err, "DELETE FROM xet_file_xorbs WHERE file = ?", "b", key_of(&f->hash));
    for (uint32_t i = 0; i < f->n_terms && !rc; i++)
        rc = fs_db_run(db, err, "INSERT OR IGNORE INTO xet_file_xorbs(xorb, file) VALUES(?, ?)", "bb", key_of(&f->terms[i].xorb), key_of(&f->hash));
    if (!rc && f->n_terms)
        rc = fs_db_run(db, err, "INSERT OR IGNORE INTO xet_chunks(hash, xorb) VALUES(?, ?)", "bb", key_of(first), key_of(&f->terms[0].xorb));
    fs_hex(f->sha256, sizeof f->sha256, sha256);
    if (!rc)
        rc = fs_hub_object_add(db, repo, sha256, f->n_bytes, err);
    free(terms);
    return rc;
}

/* The file of the row that st selects, its terms and size; ends st. */
static fs_status terms_of(sqlite3_stmt *st, const char *name, fs_shard_term **ret_terms, uint32_t *ret_n, uint64_t *ret_bytes, fs_error *err)
{
    fs_shard_term *terms = NULL;
    uint32_t n = 0;
    fs_status rc = FS_OK;

    if (!fs_db_next(st)) {
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "no file %s", name);
    } else {
        const uint8_t *p = sqlite3_column_blob(st, 0);
        int n_bytes = sqlite3_column_bytes(st, 0);
        n = (uint32_t)(n_bytes / TERM_BYTES);
        *ret_bytes = (uint64_t)sqlite3_column_int64(st, 1);
        terms = calloc(n + 1, sizeof *terms);
        if (n_bytes % TERM_BYTES)
            rc = broken(err);
        else if (!terms)
            rc = fs_fail_memory(err, n * sizeof *terms);
        for (uint32_t i = 0; i < n && !rc; i++, p += TERM_BYTES) {
            memcpy(terms[i].xorb.bytes, p, 32);
            terms[i].begin = u32(p + 32);
            terms[i].end = u32(p + 36);
            terms[i].n_bytes = u32(p + 40);
        }
    }
    if (fs_db_end(st, rc ? NULL : err) && !rc)
        rc = FS_ERR_IO;
    if (rc) {
        free(terms);
    } else {
        *ret_terms = terms;
        *ret_n = n;
    }
    return rc;
}

fs_status fs_xet_file_find(sqlite3 *db, int64_t repo, const fs_xet_hash *hash, fs_shard_term **ret_terms, uint32_t *ret_n, uint64_t *ret_bytes, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    char name[65];
    fs_status rc = fs_db_query(db, &st, err, "SELECT terms, n_bytes FROM xet_files JOIN repo_objects ON oid = sha256 WHERE hash = ? AND repo = ?", "bi", key_of(hash), repo);

    fs_xet_hash_text(hash, name);
    return rc ? rc : terms_of(st, name, ret_terms, ret_n, ret_bytes, err);
}

fs_status fs_xet_file_row(sqlite3 *db, const fs_xet_hash *hash, fs_shard_term **ret_terms, uint32_t *ret_n, uint64_t *ret_bytes, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    char name[65];
    fs_status rc = fs_db_query(db, &st, err, "SELECT terms, n_bytes FROM xet_files WHERE hash = ?", "b", key_of(hash));

    fs_xet_hash_text(hash, name);
    return rc ? rc : terms_of(st, name, ret_terms, ret_n, ret_bytes, err);
}

fs_status fs_xet_file_of(sqlite3 *db, const char *sha256, char ret[65], fs_error *err)
{
    sqlite3_stmt *st = NULL;
    uint8_t oid[32];
    fs_status rc;

    ret[0] = 0;
    if (!fs_hex_read(fs_bytes_str(sha256), oid, sizeof oid))
        return FS_OK;
    rc = fs_db_query(db, &st, err, "SELECT hash FROM xet_files WHERE sha256 = ? LIMIT 1", "b", (fs_bytes){ oid, sizeof oid });
    if (rc)
        return rc;
    if (fs_db_next(st) && sqlite3_column_bytes(st, 0) == FS_XET_HASH_BYTES) {
        fs_xet_hash h;
        memcpy(h.bytes, sqlite3_column_blob(st, 0), sizeof h.bytes);
        fs_xet_hash_text(&h, ret);
    }
    return fs_db_end(st, err);
}

/* ---- chunks ---- */

fs_status fs_xet_chunk_near(sqlite3 *db, const fs_xet_hash *chunk, fs_xet_hash *ret, size_t n_max, size_t *ret_n, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    size_t n = 0;
    /* The xorb with the chunk first, then the others of the files that it is in. */
    fs_status rc = fs_db_query(db, &st, err,
                               "SELECT xorb FROM (SELECT xorb, 0 AS far FROM xet_chunks WHERE hash = ?1 UNION ALL SELECT o.xorb, 1 FROM xet_chunks c JOIN xet_file_xorbs f ON"
                               " f.xorb = c.xorb JOIN xet_file_xorbs o ON o.file = f.file WHERE c.hash = ?1) GROUP BY xorb ORDER BY min(far) LIMIT ?2",
                               "bi", key_of(chunk), (int64_t)n_max);

    if (rc)
        return rc;
    while (n < n_max && fs_db_next(st))
        if (sqlite3_column_bytes(st, 0) == FS_XET_HASH_BYTES)
            memcpy(ret[n++].bytes, sqlite3_column_blob(st, 0), FS_XET_HASH_BYTES);
    *ret_n = n;
    return fs_db_end(st, err);
}
