/* The content of files that came by Xet, from their chunks. It is kept once, in xorbs; a file of its own is made only for who must have one. */
#include "hub/xet_internal.h"

#include "base/file.h"
#include "crypto/sha256.h"
#include "crypto/sha256_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES ((size_t)FS_XORB_HEADER_BYTES + FS_XORB_PACKED_MAX) /* of a xorb at once: a chunk or several */

fs_status fs_xet_source_find(fs_xet_source *s, const fs_xet_hash *hash, const fs_xorb **ret, fs_error *err)
{
    fs_xorb new = { 0 };
    fs_status rc;

    for (unsigned i = 0; i < FS_XET_XORBS; i++)
        if (s->kept[i].chunks && fs_xet_hash_equal(&s->kept[i].hash, hash)) {
            *ret = &s->kept[i];
            return FS_OK;
        }
    rc = s->c ? fs_xet_xorb_find(s->db, s->c->xet.repo, &s->c->user, hash, &new, err) : fs_xet_xorb_row(s->db, hash, &new, err);
    if (rc)
        return rc == FS_ERR_NOT_FOUND ? fs_fail(err, FS_ERR_FORMAT, "a term names a xorb that is not here: who remembers sending it must forget that (xet/*/shard-cache of hf-xet) and send it again") : rc;
    fs_xorb_done(&s->kept[s->n % FS_XET_XORBS]);
    s->kept[s->n % FS_XET_XORBS] = new;
    *ret = &s->kept[s->n++ % FS_XET_XORBS];
    return FS_OK;
}

static fs_status open_xorb(fs_xet_source *s, const fs_xet_hash *hash, fs_error *err)
{
    uint64_t n_bytes = 0;
    fs_status rc;

    if (s->is_open && fs_xet_hash_equal(&s->opened, hash))
        return FS_OK;
    if (s->is_open)
        close(s->fd);
    s->is_open = false;
    rc = fs_xet_xorb_open(s->hub, hash, false, &s->fd, &n_bytes, err);
    if (rc == FS_ERR_NOT_FOUND) {
        char name[65];
        fs_xet_hash_text(hash, name);
        rc = fs_fail(err, FS_ERR_FORMAT, "the xorb %s is missing", name);
    }
    s->is_open = rc == FS_OK;
    s->opened = *hash;
    return rc;
}

static fs_status read_at(int fd, uint8_t *to, size_t n, uint32_t at, fs_error *err)
{
    while (n) {
        ssize_t got = pread(fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fs_fail_errno(err, errno, "cannot read a xorb");
        if (got == 0)
            return fs_fail(err, FS_ERR_FORMAT, "a xorb ends before its byte %u", at);
        to += got;
        n -= (size_t)got;
        at += (uint32_t)got;
    }
    return FS_OK;
}

/* Chunks first..end of the xorb that is open, unpacked; at: where the first begins in the file. Of each what lies in begin..stop goes on. */
static fs_status write_chunks(fs_xet_source *s, const fs_xorb *x, uint32_t first, uint32_t end, uint64_t at, uint64_t begin, uint64_t stop, uint8_t *room, fs_fetch_sink *sink, void *ud,
                              fs_error *err)
{
    uint8_t *packed = room + FS_XET_CHUNK_MAX;
    fs_status rc = FS_OK;

    while (first < end && at < stop && !rc) {
        uint32_t from = fs_xorb_begin(x, first), last = first + 1;
        size_t used = 0, n;
        if (at + x->chunks[first].n_bytes <= begin) {
            at += x->chunks[first++].n_bytes;
            continue;
        }
        while (last < end && x->chunks[last].end - from <= READ_BYTES)
            last++;
        n = x->chunks[last - 1].end - from;
        rc = n > READ_BYTES ? fs_fail(err, FS_ERR_FORMAT, "a xorb's chunk takes %zu bytes", n) : read_at(s->fd, packed, n, from, err);
        for (; first < last && at < stop && !rc; first++) {
            fs_bytes chunk = { 0 };
            uint32_t taken = 0;
            uint64_t skipped = begin > at ? begin - at : 0;
            rc = fs_xorb_unpack((fs_bytes){ packed + used, n - used }, room, &chunk, &taken, err);
            if (!rc && (chunk.n_bytes != x->chunks[first].n_bytes || taken != x->chunks[first].end - fs_xorb_begin(x, first)))
                rc = fs_fail(err, FS_ERR_FORMAT, "a xorb's chunk %u is not what it was", first);
            if (rc)
                break;
            if (skipped < chunk.n_bytes)
                rc = sink(ud, chunk.data + skipped, (size_t)((at + chunk.n_bytes < stop ? at + chunk.n_bytes : stop) - at - skipped), err);
            used += taken;
            at += chunk.n_bytes;
        }
    }
    return rc;
}

fs_status fs_xet_source_read(fs_xet_source *s, const fs_shard_term *terms, uint32_t n_terms, uint64_t begin, uint64_t end, fs_fetch_sink *sink, void *ud, fs_error *err)
{
    uint8_t *room = malloc(FS_XET_CHUNK_MAX + READ_BYTES);
    uint64_t at = 0;
    fs_status rc = room ? FS_OK : fs_fail_memory(err, FS_XET_CHUNK_MAX + READ_BYTES);

    for (uint32_t t = 0; t < n_terms && at < end && !rc; at += terms[t++].n_bytes) {
        const fs_xorb *x = NULL;
        if (at + terms[t].n_bytes <= begin)
            continue;
        rc = fs_xet_source_find(s, &terms[t].xorb, &x, err);
        if (!rc && terms[t].end > x->n_chunks)
            rc = fs_fail(err, FS_ERR_FORMAT, "a file has chunk %u of a xorb with %u", terms[t].end - 1, x->n_chunks);
        if (!rc)
            rc = open_xorb(s, &terms[t].xorb, err);
        if (!rc)
            rc = write_chunks(s, x, terms[t].begin, terms[t].end, at, begin, end, room, sink, ud, err);
    }
    free(room);
    return rc;
}

void fs_xet_source_done(fs_xet_source *s)
{
    for (unsigned i = 0; i < FS_XET_XORBS; i++)
        fs_xorb_done(&s->kept[i]);
    if (s->is_open)
        close(s->fd);
    s->is_open = false;
}

/* ---- objects ---- */

/* A file with this SHA-256, all of whose xorbs are here: the same content may have been cut in several ways. */
static fs_status find_file(const fs_hub *h, sqlite3 *db, const char *sha256, fs_xet_hash *ret, bool *ret_found, uint64_t *ret_bytes, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    uint8_t oid[32];
    bool any = false;
    fs_status rc;

    *ret_found = false;
    if (!fs_hex_read(fs_bytes_str(sha256), oid, sizeof oid))
        return FS_OK;
    rc = fs_db_query(db, &st, err, "SELECT f.hash, f.n_bytes, x.xorb FROM xet_files f JOIN xet_file_xorbs x ON x.file = f.hash WHERE f.sha256 = ? ORDER BY f.hash", "b",
                     (fs_bytes){ oid, sizeof oid });
    if (rc)
        return rc;
    while (!rc && fs_db_next(st) && sqlite3_column_bytes(st, 0) == FS_XET_HASH_BYTES && sqlite3_column_bytes(st, 2) == FS_XET_HASH_BYTES) {
        const void *file = sqlite3_column_blob(st, 0);
        fs_xet_hash xorb;
        char name[65];
        uint64_t n_bytes;
        if (!any || memcmp(ret->bytes, file, sizeof ret->bytes) != 0) { /* the next one */
            if (any && *ret_found)
                break;
            memcpy(ret->bytes, file, sizeof ret->bytes);
            *ret_bytes = (uint64_t)sqlite3_column_int64(st, 1);
            *ret_found = any = true;
        }
        memcpy(xorb.bytes, sqlite3_column_blob(st, 2), sizeof xorb.bytes);
        fs_xet_hash_text(&xorb, name);
        if (*ret_found)
            rc = h->store->is_here(h, db, FS_BLOB_XORB, name, ret_found, &n_bytes, err);
    }
    if (rc)
        fs_db_end(st, NULL);
    return rc ? rc : fs_db_end(st, err);
}

fs_status fs_xet_object_is_here(const fs_hub *h, sqlite3 *db, const char *sha256, bool *ret, uint64_t *ret_bytes, fs_error *err)
{
    fs_xet_hash file;

    return find_file(h, db, sha256, &file, ret, ret_bytes, err);
}

/* With the file's terms at hand, which become free. */
static fs_status read_terms(const fs_hub *h, sqlite3 *db, fs_shard_term *terms, uint32_t n_terms, uint64_t is, uint64_t begin, uint64_t n_bytes, fs_fetch_sink *sink, void *ud, fs_error *err)
{
    fs_xet_source s = { .hub = h, .db = db };
    fs_status rc = FS_OK;

    if (begin < is)
        rc = fs_xet_source_read(&s, terms, n_terms, begin, n_bytes < is - begin ? begin + n_bytes : is, sink, ud, err);
    fs_xet_source_done(&s);
    free(terms);
    return rc;
}

fs_status fs_xet_object_read(const fs_hub *h, sqlite3 *db, const char *sha256, uint64_t begin, uint64_t n_bytes, fs_fetch_sink *sink, void *ud, fs_error *err)
{
    fs_shard_term *terms = NULL;
    fs_xet_hash file;
    uint32_t n_terms = 0;
    uint64_t is = 0;
    bool here = false;
    fs_status rc = find_file(h, db, sha256, &file, &here, &is, err);

    if (!rc && !here)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "no %.80s", sha256);
    if (!rc)
        rc = fs_xet_file_row(db, &file, &terms, &n_terms, &is, err);
    return rc ? rc : read_terms(h, db, terms, n_terms, is, begin, n_bytes, sink, ud, err);
}

static fs_status put(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    return fs_hub_incoming_put(ud, data, n_bytes, err);
}

fs_status fs_xet_object_make(const fs_hub *h, const char *sha256, fs_error *err)
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER; /* so that the disk's room is looked at before each */
    fs_hub_incoming in = { .fd = -1 };
    sqlite3 *db = NULL;
    uint64_t n_bytes = 0;
    bool here = false;
    fs_status rc;

    pthread_mutex_lock(&one_at_a_time);
    rc = fs_db_take(h->db, &db, err);
    if (!rc && !fs_blob_has_file(h, sha256)) {
        rc = fs_xet_object_is_here(h, db, sha256, &here, &n_bytes, err);
        if (!rc && !here)
            rc = fs_fail(err, FS_ERR_NOT_FOUND, "no %.80s", sha256);
        if (!rc)
            rc = fs_hub_disk_room(h, n_bytes, err);
        if (!rc)
            rc = fs_hub_incoming_open(h, sha256, n_bytes, &in, err);
        if (!rc)
            rc = fs_xet_object_read(h, db, sha256, 0, n_bytes, put, &in, err);
        if (!rc)
            rc = fs_hub_incoming_commit(h, &in, db, sha256, err);
        fs_hub_incoming_close(&in);
    }
    fs_db_give(h->db, db);
    pthread_mutex_unlock(&one_at_a_time);
    return rc;
}

static fs_status hash_on(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    (void)err;
    fs_sha256_stream_put(ud, data, n_bytes);
    return FS_OK;
}

fs_status fs_xet_file_hash(const fs_hub *h, sqlite3 *db, const fs_xet_hash *file, char ret[65], fs_error *err)
{
    fs_sha256_stream *sha = NULL;
    fs_shard_term *terms = NULL;
    uint32_t n_terms = 0;
    uint64_t n_bytes = 0;
    fs_status rc = fs_xet_file_row(db, file, &terms, &n_terms, &n_bytes, err);

    if (!rc && (rc = fs_sha256_stream_open(&sha, err)) != FS_OK)
        free(terms);
    else if (!rc)
        rc = read_terms(h, db, terms, n_terms, n_bytes, 0, n_bytes, hash_on, sha, err);
    if (!rc) {
        fs_sha256_stream_final_hex(sha, ret);
        sha = NULL;
    }
    fs_sha256_stream_close(sha);
    return rc;
}

static fs_status write_on(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    return fs_fd_write(*(int *)ud, "the ends of a file", data, n_bytes, err);
}

fs_status fs_xet_object_ends(const fs_hub *h, sqlite3 *db, const char *sha256, uint64_t n_bytes, bool tensors, uint64_t n_tail, int *ret_fd, uint64_t *ret_head, fs_error *err)
{
    char folder[400];
    uint64_t head = n_bytes < FS_BLOB_HEAD_BYTES ? n_bytes : FS_BLOB_HEAD_BYTES, all, tail;
    int fd;
    fs_status rc = FS_OK;

    fs_blob_folder(h, FS_BLOB_OBJECT, folder);
    fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0400);
    if (fd < 0)
        return fs_fail_errno(err, errno, "cannot make a file in '%s'", folder);
    if (ftruncate(fd, (off_t)n_bytes) != 0)
        rc = fs_fail_errno(err, errno, "cannot write the ends of a file");
    if (!rc)
        rc = fs_xet_object_read(h, db, sha256, 0, head, write_on, &fd, err);
    all = rc || !tensors ? 0 : fs_blob_head_bytes(fd, n_bytes);
    if (!rc && all > head) {
        rc = fs_xet_object_read(h, db, sha256, head, all - head, write_on, &fd, err);
        head = all;
    }
    tail = n_bytes - head < n_tail ? head : n_bytes - n_tail;
    if (!rc && tail < n_bytes && lseek(fd, (off_t)tail, SEEK_SET) < 0)
        rc = fs_fail_errno(err, errno, "cannot write the ends of a file");
    if (!rc && tail < n_bytes)
        rc = fs_xet_object_read(h, db, sha256, tail, n_bytes - tail, write_on, &fd, err);
    if (rc) {
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    *ret_head = n_bytes - head <= n_tail ? n_bytes : head;
    return FS_OK;
}
