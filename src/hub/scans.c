/* Files of repositories looked at (scan.h) when they come, and kept by their content: what commits and pushes bring is looked at before a ref
 * moves; what came by another way, when somebody asks. */
#include "hub/blobs.h"
#include "hub/xet_store.h"

#include "crypto/sha256.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IMPORTS_SHOWN 500
#define FIRST_BYTES   8
#define TAIL_BYTES    ((uint64_t)128 << 10) /* where readers of zips look for the directory's place */

/* ---- one file ---- */

/* [{"module", "name", "safety"}, ...], the worst first. */
static fs_status imports_json(const fs_pickle *p, char **ret, fs_error *err)
{
    static const char *const names[] = { "innocuous", "suspicious", "dangerous" };
    fs_emit e = { 0 };
    int n = 0;

    fs_emit_begin(&e, '[');
    for (int level = FS_PICKLE_DANGEROUS; level >= FS_PICKLE_INNOCUOUS; level--)
        for (size_t i = 0; i < p->n_imports && n < IMPORTS_SHOWN; i++)
            if (p->imports[i].level == (fs_pickle_level)level) {
                fs_emit_begin(&e, '{');
                fs_emit_str(&e, "module", p->imports[i].module);
                fs_emit_str(&e, "name", p->imports[i].name);
                fs_emit_str(&e, "safety", names[level]);
                fs_emit_end(&e, '}');
                n++;
            }
    fs_emit_end(&e, ']');
    *ret = e.rc ? NULL : strdup(e.out.data);
    fs_emit_done(&e);
    return *ret ? FS_OK : fs_fail_memory(err, 1);
}

/* What was found becomes ret's; s is done. */
static fs_status take(fs_scan *s, fs_hub_scan *ret, fs_error *err)
{
    fs_status rc = s->is_pickle ? imports_json(&s->pickle, &ret->imports, err) : FS_OK;

    ret->level = s->level;
    ret->is_pickle = s->is_pickle;
    snprintf(ret->message, sizeof ret->message, "%s", s->message);
    fs_scan_done(s);
    return rc;
}

static fs_status look(fs_bytes content, const char *kind, fs_hub_scan *ret, fs_error *err)
{
    fs_scan s;
    fs_status rc = fs_scan_file(content, kind, &s, err);

    return rc ? rc : take(&s, ret, err);
}

/* Of an object that has no file: its beginning and its end are enough to see that most are harmless. *ret_done: they were. */
static fs_status look_at_ends(const fs_hub *h, sqlite3 *db, const char *sha256, const char *kind, fs_hub_scan *ret, bool *ret_done, fs_error *err)
{
    bool any = strcmp(kind, "any") == 0, tensors = strcmp(kind, "safetensors") == 0 || strcmp(kind, "gguf") == 0, here = false;
    uint64_t n_head = 0, n_bytes = 0;
    int fd = -1;
    fs_buf first = { 0 };
    fs_map map = { 0 };
    fs_scan s = { 0 };
    fs_status rc = FS_OK;

    *ret_done = false;
    if ((!any && !tensors && strcmp(kind, "pickle") != 0) || fs_blob_has_file(h, sha256))
        return FS_OK;
    rc = fs_xet_object_is_here(h, db, sha256, &here, &n_bytes, err);
    if (rc || !here)
        return rc;
    if (any) { /* which the first bytes decide */
        rc = fs_xet_object_read(h, db, sha256, 0, FIRST_BYTES, fs_blob_into_buf, &first, err);
        *ret_done = !rc && !fs_scan_is_more(fs_buf_bytes(&first));
        fs_buf_done(&first);
        return rc;
    }
    rc = fs_xet_object_ends(h, db, sha256, n_bytes, tensors, tensors ? 0 : TAIL_BYTES, &fd, &n_head, err);
    if (!rc)
        rc = fs_map_fd(&map, fd, (size_t)n_bytes, "an object", err);
    if (fd >= 0)
        close(fd);
    if (!rc)
        rc = fs_scan_file(map.bytes, kind, &s, err);
    if (!rc) {
        uint64_t tail = n_bytes < TAIL_BYTES ? 0 : n_bytes - TAIL_BYTES;
        *ret_done = n_head == n_bytes || (s.level == FS_SCAN_SAFE && !s.is_pickle && s.n_read <= n_head &&
                                          (tensors || !memmem(map.bytes.data + tail, (size_t)(n_bytes - tail), "PK\5\6", 4)));
        if (*ret_done)
            rc = take(&s, ret, err);
        else
            fs_scan_done(&s);
    }
    fs_map_close(&map);
    return rc;
}

static fs_status find(sqlite3 *db, fs_bytes key, const char *kind, fs_hub_scan *ret, bool *ret_found, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(db, &st, err, "SELECT level, message, imports FROM scans WHERE key = ? AND kind = ? AND version = ?", "bsi", key, kind, (int64_t)FS_SCAN_VERSION);

    *ret_found = false;
    if (rc)
        return rc;
    if (fs_db_next(st)) {
        *ret_found = true;
        ret->level = (fs_scan_level)(sqlite3_column_int(st, 0) & 3);
        snprintf(ret->message, sizeof ret->message, "%s", fs_db_text(st, 1));
        ret->is_pickle = sqlite3_column_type(st, 2) != SQLITE_NULL;
        if (ret->is_pickle && !(ret->imports = strdup(fs_db_text(st, 2))))
            rc = fs_fail_memory(err, 1);
    }
    return rc ? (fs_db_end(st, NULL), rc) : fs_db_end(st, err);
}

/* What nothing can be said of need not be kept. */
static bool is_notable(const fs_hub_scan *s)
{
    return strcmp(s->kind, "any") != 0 || s->level > FS_SCAN_SAFE || s->is_pickle;
}

static fs_status keep(sqlite3 *db, const fs_hub_scan *s, fs_error *err)
{
    return fs_db_run(db, err, "INSERT OR REPLACE INTO scans(key, kind, level, message, imports, version, scanned_ms) VALUES(?, ?, ?, ?, ?, ?, ?)", "bsissii",
                     (fs_bytes){ s->key, s->n_key }, s->kind, (int64_t)s->level, s->message, s->imports, (int64_t)FS_SCAN_VERSION, fs_unix_ms());
}

void fs_hub_scan_done(fs_hub_scan *s)
{
    free(s->imports);
    *s = (fs_hub_scan){ 0 };
}

/* Adds to batch, or keeps at once without one. */
static fs_status put(sqlite3 *db, fs_hub_scans *batch, const fs_hub_scan *s, fs_error *err)
{
    if (!is_notable(s))
        return FS_OK;
    if (!batch)
        return keep(db, s, err);
    if (batch->n == batch->capacity) {
        size_t capacity = batch->capacity ? 2 * batch->capacity : 16;
        fs_hub_scan *items = realloc(batch->items, capacity * sizeof *items);
        if (!items)
            return fs_fail_memory(err, capacity * sizeof *items);
        batch->items = items;
        batch->capacity = capacity;
    }
    batch->items[batch->n] = *s;
    if (s->imports && !(batch->items[batch->n].imports = strdup(s->imports)))
        return fs_fail_memory(err, strlen(s->imports));
    batch->n++;
    return FS_OK;
}

fs_status fs_hub_scans_keep(sqlite3 *db, fs_hub_scans *batch, fs_error *err)
{
    fs_status rc = batch->n ? fs_db_begin(db, err) : FS_OK;

    for (size_t i = 0; i < batch->n && !rc; i++)
        rc = keep(db, batch->items + i, err);
    if (!rc && batch->n)
        rc = fs_db_commit(db, err);
    if (rc)
        fs_db_rollback(db);
    return rc;
}

void fs_hub_scans_done(fs_hub_scans *batch)
{
    for (size_t i = 0; i < batch->n; i++)
        fs_hub_scan_done(batch->items + i);
    free(batch->items);
    *batch = (fs_hub_scans){ 0 };
}

static void begin(fs_hub_scan *s, const void *key, size_t n_key, const char *path)
{
    *s = (fs_hub_scan){ .kind = fs_scan_kind(path), .n_key = n_key };
    memcpy(s->key, key, n_key);
}

fs_status fs_hub_scan_bytes(sqlite3 *db, const git_oid *oid, fs_bytes content, const char *path, fs_hub_scans *batch, fs_hub_scan *ret, fs_error *err)
{
    bool found = false;
    fs_status rc;

    begin(ret, oid->id, GIT_OID_RAWSZ, path);
    rc = find(db, (fs_bytes){ ret->key, ret->n_key }, ret->kind, ret, &found, err);
    if (!rc && !found) {
        rc = look(content, ret->kind, ret, err);
        if (!rc)
            rc = put(db, batch, ret, err);
    }
    if (rc)
        fs_hub_scan_done(ret);
    return rc;
}

fs_status fs_hub_scan_object(const fs_hub *h, sqlite3 *db, const char *sha256, const char *path, fs_hub_scans *batch, fs_hub_scan *ret, fs_error *err)
{
    uint8_t key[32];
    fs_map map = { 0 };
    bool found = false;
    fs_status rc;

    if (!fs_hex_read(fs_bytes_str(sha256), key, sizeof key))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.80s' is no SHA-256", sha256);
    begin(ret, key, sizeof key, path);
    rc = find(db, (fs_bytes){ key, sizeof key }, ret->kind, ret, &found, err);
    if (!rc && !found) {
        rc = look_at_ends(h, db, sha256, ret->kind, ret, &found, err);
        if (rc == FS_ERR_NOT_FOUND || rc == FS_ERR_FORMAT)
            rc = FS_OK; /* it has a file now, or opening it says why not */
        if (!rc && !found)
            rc = fs_hub_object_map(h, sha256, &map, err);
        if (!rc && !found)
            rc = look(map.bytes, ret->kind, ret, err);
        if (!rc)
            rc = found && !batch && strcmp(ret->kind, "any") != 0 ? keep(db, ret, err) : put(db, batch, ret, err); /* ends are read once */
        fs_map_close(&map);
    }
    if (rc)
        fs_hub_scan_done(ret);
    return rc;
}

fs_status fs_hub_scan_file(const fs_hub *h, sqlite3 *db, git_repository *git, const fs_hub_file *f, const char *path, fs_hub_scans *batch, fs_hub_scan *ret, fs_error *err)
{
    git_blob *blob = NULL;
    bool found = false;
    fs_status rc;

    if (f->lfs) {
        rc = fs_hub_scan_object(h, db, f->sha256, path, batch, ret, err);
        if (rc == FS_ERR_NOT_FOUND) { /* its content is not here: nothing can be said */
            begin(ret, "", 0, path);
            rc = FS_OK;
        }
        return rc;
    }
    begin(ret, f->oid.id, GIT_OID_RAWSZ, path);
    if (strcmp(ret->kind, "any") == 0 && !batch) /* git's own files were looked at when they came; others have a name of their own */
        return find(db, (fs_bytes){ ret->key, ret->n_key }, ret->kind, ret, &found, err);
    if (git_blob_lookup(&blob, git, &f->oid) != 0)
        return fs_hub_git_fail(err, "cannot read a file");
    rc = fs_hub_scan_bytes(db, &f->oid, (fs_bytes){ git_blob_rawcontent(blob), (size_t)git_blob_rawsize(blob) }, path, batch, ret, err);
    git_blob_free(blob);
    return rc;
}

fs_status fs_hub_scan_refuse(const fs_hub *h, const fs_hub_scan *s, const char *path, fs_error *err)
{
    fs_hub_refuse refuse = h->options.refuse;
    bool bad = (refuse >= FS_HUB_REFUSE_UNSAFE && s->level >= FS_SCAN_UNSAFE) || (refuse >= FS_HUB_REFUSE_SUSPICIOUS && s->level >= FS_SCAN_SUSPICIOUS) ||
               (refuse >= FS_HUB_REFUSE_PICKLES && s->is_pickle);

    return bad ? fs_fail(err, FS_ERR_FORMAT, "'%.200s' is not taken: %s", path, *s->message ? s->message : "it holds a pickle, and this hub takes none (safetensors hold tensors)")
               : FS_OK;
}

bool fs_hub_refuse_read(const char *word, fs_hub_refuse *ret)
{
    static const char *const words[] = { "none", "unsafe", "suspicious", "pickles" };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(word, words[i]) == 0) {
            *ret = (fs_hub_refuse)i;
            return true;
        }
    return false;
}

/* ---- what the API says ---- */

void fs_hub_emit_scan(fs_emit *e, const fs_hub_scan *s)
{
    fs_emit_key(e, "securityFileStatus");
    fs_emit_begin(e, '{');
    fs_emit_str(e, "status", fs_scan_level_name(s->level));
    if (*s->message)
        fs_emit_str(e, "message", s->message);
    fs_emit_key(e, "avScan"); /* nobody looks for viruses here */
    fs_emit_begin(e, '{');
    fs_emit_str(e, "status", "unscanned");
    fs_emit_end(e, '}');
    fs_emit_key(e, "pickleImportScan");
    fs_emit_begin(e, '{');
    fs_emit_str(e, "status", s->is_pickle ? fs_scan_level_name(s->level) : "safe");
    fs_emit_json(e, "pickleImports", s->imports ? s->imports : "[]");
    fs_emit_end(e, '}');
    fs_emit_end(e, '}');
}

typedef struct issues {
    fs_hub_call *c;
    fs_emit *e;
} issues;

static fs_status add_issue(void *ud, const char *path, const git_oid *oid, git_object_t type, fs_error *err)
{
    issues *x = ud;
    fs_hub_scan s = { 0 };
    fs_hub_file f;
    fs_status rc = type == GIT_OBJECT_BLOB ? fs_hub_file_read(x->c->git, oid, &f, err) : FS_OK;

    if (rc || type != GIT_OBJECT_BLOB)
        return rc;
    rc = fs_hub_scan_file(x->c->hub, x->c->db, x->c->git, &f, path, NULL, &s, err);
    if (!rc && s.level > FS_SCAN_SAFE) {
        fs_emit_begin(x->e, '{');
        fs_emit_str(x->e, "path", path);
        fs_emit_str(x->e, "level", fs_scan_level_name(s.level));
        fs_emit_str(x->e, "message", s.message);
        fs_emit_end(x->e, '}');
    }
    fs_hub_scan_done(&s);
    return rc ? rc : x->e->rc;
}

fs_status fs_hub_emit_security(fs_hub_call *c, fs_emit *e, const git_oid *commit, fs_error *err)
{
    issues x = { c, e };
    git_oid tree;
    fs_status rc = fs_hub_commit_tree(c->git, commit, &tree, err);

    fs_emit_key(e, "securityRepoStatus");
    fs_emit_begin(e, '{');
    fs_emit_bool(e, "scansDone", true);
    fs_emit_key(e, "filesWithIssues");
    fs_emit_begin(e, '[');
    if (!rc)
        rc = fs_hub_walk(c->git, &tree, "", true, add_issue, &x, err);
    fs_emit_end(e, ']');
    fs_emit_end(e, '}');
    return rc;
}
