/* What a repository's page says of signatures: model.sig of OpenSSF model signing, and farseek.rec's of minisign. A signature counts when a key that
 * the repository's owner gave to the hub made it and the files are those that were signed; anything else is said to be not verified. */
#include "hub/page.h"

#include "crypto/minisign.h"
#include "crypto/sha256.h"
#include "hub/oms.h"
#include "lineage/record.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEYS_MAX     64
#define HASHED_MAX   ((uint64_t)64 << 20) /* bytes of files within git that one page hashes; large files have their hash */
#define READ_MAX     ((size_t)16 << 20)

bool fs_hub_key_is_valid(const char *text)
{
    fs_public_key key;

    return fs_oms_key_is_valid(fs_bytes_str(text)) || fs_public_key_read(fs_bytes_str(text), "it", &key, NULL) == FS_OK;
}

/* ---- files of the tree ---- */

typedef struct look {
    fs_page *p;
    fs_hub_call *c;
    const git_oid *tree;
    uint64_t n_hashed;
} look;

/* A file of at most max bytes. FS_ERR_NOT_FOUND. With fs_hub_content_done. */
static fs_status read_file(const look *l, const char *path, size_t max, fs_hub_content *ret)
{
    fs_hub_file f;
    fs_status rc = fs_hub_file_find(l->c->git, l->tree, path, &f, NULL);

    if (!rc && f.n_bytes > max)
        rc = FS_ERR_ARGUMENT;
    return rc ? rc : fs_hub_content_open(l->c, &f, ret, NULL);
}

/* Whether the file at path has that SHA-256; *ret_known false: too much would have to be hashed. */
static bool file_is(look *l, const char *path, const char *sha256, bool *ret_known)
{
    fs_hub_content x;
    fs_hub_file f;
    uint8_t hash[32];
    char hex[65] = "";

    *ret_known = true;
    if (!fs_hub_path_is_valid(path) || fs_hub_file_find(l->c->git, l->tree, path, &f, NULL) != FS_OK)
        return false;
    if (f.lfs)
        return strcmp(f.sha256, sha256) == 0;
    *ret_known = f.n_bytes <= HASHED_MAX - l->n_hashed;
    if (!*ret_known)
        return false;
    if (fs_hub_content_open(l->c, &f, &x, NULL) == FS_OK) {
        l->n_hashed += f.n_bytes;
        if (fs_sha256_of(x.bytes, hash, NULL) == FS_OK)
            fs_hex(hash, sizeof hash, hex);
    }
    fs_hub_content_done(&x);
    return strcmp(hex, sha256) == 0;
}

/* ---- the owner's keys ---- */

/* The name of the first key for which by says yes; false: none. */
static bool find_key(look *l, bool (*by)(void *ud, fs_bytes key), void *ud, char ret_name[97])
{
    sqlite3_stmt *st = NULL;
    bool found = false;

    if (fs_db_query(l->c->db, &st, NULL, "SELECT name, text FROM account_keys WHERE account = ? ORDER BY id LIMIT ?", "ii", l->c->repo.owner, (int64_t)KEYS_MAX) != FS_OK)
        return false;
    while (!found && fs_db_next(st)) {
        found = by(ud, fs_bytes_str(fs_db_text(st, 1)));
        if (found)
            snprintf(ret_name, 97, "%s", fs_db_text(st, 0));
    }
    return fs_db_end(st, NULL) == FS_OK && found;
}

static void put_badge(fs_page *p, const char *class, const char *says, const char *file)
{
    fs_page_put(p, "<p class=\"%s\"><b>%s</b>: <code>", class, says);
    fs_page_text(p, file);
    fs_page_put(p, "</code> ");
}

static void put_by(look *l, const char *key)
{
    fs_page_put(l->p, "is by the key <b>");
    fs_page_text(l->p, key);
    fs_page_put(l->p, "</b> of ");
    fs_page_text(l->p, l->c->repo.owner_name);
}

/* ---- model.sig ---- */

static bool oms_by(void *ud, fs_bytes key)
{
    return fs_oms_is_by(ud, key);
}

typedef struct others {
    const fs_oms *oms;
    uint64_t n;
    char first[200];
} others;

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

typedef struct names {
    const char **list;
    size_t n;
    others *o;
} names;

static fs_status count_other(void *ud, const char *path, const git_oid *oid, git_object_t type, fs_error *err)
{
    names *x = ud;

    (void)oid;
    (void)err;
    if (type == GIT_OBJECT_BLOB && !fs_oms_ignores(x->o->oms, path) && !bsearch(&path, x->list, x->n, sizeof *x->list, by_name) && x->o->n++ == 0)
        snprintf(x->o->first, sizeof x->o->first, "%s", path);
    return FS_OK;
}

/* Files of the revision that the signature says nothing of. */
static bool find_others(const look *l, others *o)
{
    size_t n = fs_oms_n_files(o->oms);
    names x = { malloc((n + 1) * sizeof *x.list), n, o };
    bool good = x.list != NULL;

    for (size_t i = 0; good && i < n; i++)
        x.list[i] = fs_oms_file_at(o->oms, i)->name;
    if (good) {
        qsort(x.list, n, sizeof *x.list, by_name);
        good = fs_hub_walk(l->c->git, l->tree, "", true, count_other, &x, NULL) == FS_OK;
    }
    free(x.list);
    return good;
}

static void put_oms(look *l)
{
    fs_hub_content text = { 0 };
    fs_oms *oms = NULL;
    others o = { .n = 0 };
    fs_error err = { 0 };
    char key[97], first[200] = "";
    uint64_t n_wrong = 0, n_unknown = 0;
    fs_status rc = read_file(l, "model.sig", FS_OMS_BYTES_MAX, &text);

    if (rc == FS_ERR_NOT_FOUND) {
        fs_hub_content_done(&text);
        return;
    }
    if (rc || fs_oms_open(text.bytes, &oms, &err) != FS_OK) {
        put_badge(l->p, "bad", "Signature not verified", "model.sig");
        fs_page_text(l->p, rc ? "cannot be read" : err.message);
        fs_page_put(l->p, "</p>");
    } else if (!find_key(l, oms_by, oms, key)) {
        put_badge(l->p, "soft", "Signature not verified", "model.sig");
        fs_page_put(l->p, "is by no key that ");
        fs_page_text(l->p, l->c->repo.owner_name);
        fs_page_put(l->p, " gave to this hub.</p>");
    } else {
        o.oms = oms;
        for (size_t i = 0; i < fs_oms_n_files(oms); i++) {
            const fs_oms_file *f = fs_oms_file_at(oms, i);
            bool known;
            if (file_is(l, f->name, f->sha256, &known))
                continue;
            n_unknown += !known;
            if (known && n_wrong++ == 0)
                snprintf(first, sizeof first, "%s", f->name);
        }
        if (!find_others(l, &o))
            n_unknown++;
        put_badge(l->p, n_wrong ? "bad" : n_unknown || o.n ? "soft" : "good", n_wrong ? "Signature does not fit" : n_unknown || o.n ? "Verified in part" : "Verified", "model.sig");
        put_by(l, key);
        fs_page_put(l->p, ", for %zu files", fs_oms_n_files(oms));
        if (n_wrong) {
            fs_page_put(l->p, ", of which %" PRIu64 " are missing or others: ", n_wrong);
            fs_page_text(l->p, first);
        }
        if (o.n) {
            fs_page_put(l->p, "; %" PRIu64 " %s not among them: ", o.n, o.n == 1 ? "file here is" : "files here are");
            fs_page_text(l->p, o.first);
        }
        if (n_unknown)
            fs_page_put(l->p, "; not all were looked at, they are too large");
        fs_page_put(l->p, n_wrong || o.n || n_unknown ? ".</p>" : ", which are all that are here.</p>");
    }
    fs_oms_close(oms);
    fs_hub_content_done(&text);
}

/* ---- farseek.rec ---- */

typedef struct signed_text {
    fs_bytes text, signature;
} signed_text;

static bool minisign_by(void *ud, fs_bytes key)
{
    const signed_text *s = ud;
    fs_public_key k;

    return fs_public_key_read(key, "it", &k, NULL) == FS_OK && fs_minisign_verify(&k, s->text, s->signature, "it", NULL, NULL) == FS_OK;
}

static void put_record(look *l)
{
    fs_hub_content text = { 0 }, signature = { 0 };
    fs_record record = { 0 };
    uint8_t id[8];
    char key[97], key_id[17], first[200] = "";
    uint64_t n_wrong = 0, n_files = 0, n_unknown = 0;

    if (read_file(l, "farseek.rec", READ_MAX, &text) != FS_OK)
        goto out;
    if (read_file(l, "farseek.rec.minisig", FS_MINISIGN_FILE_BYTES_MAX, &signature) != FS_OK) {
        put_badge(l->p, "soft", "Not signed", "farseek.rec");
        fs_page_put(l->p, "says how it was made, and nobody vouches for it.</p>");
        goto out;
    }
    signed_text s = { text.bytes, signature.bytes };
    if (fs_minisign_signer(s.signature, "it", id, NULL) != FS_OK || fs_record_read(s.text, "farseek.rec", &record, NULL) != FS_OK) {
        put_badge(l->p, "bad", "Signature not verified", "farseek.rec");
        fs_page_put(l->p, "or its signature cannot be read.</p>");
    } else if (!find_key(l, minisign_by, &s, key)) {
        fs_minisign_id(id, key_id);
        put_badge(l->p, "soft", "Signature not verified", "farseek.rec");
        fs_page_put(l->p, "says it is signed by the key %s: by none that ", key_id);
        fs_page_text(l->p, l->c->repo.owner_name);
        fs_page_put(l->p, " gave to this hub.</p>");
    } else {
        const char *value;
        for (; (value = fs_record_get(&record, FS_RECORD_FILE, (size_t)n_files)) != NULL; n_files++) {
            fs_root hash;
            char hex[65];
            bool known;
            const char *name = fs_record_hashed(value, &hash);
            fs_root_hex(&hash, hex);
            if (!file_is(l, name, hex, &known)) {
                n_unknown += !known;
                if (known && n_wrong++ == 0)
                    snprintf(first, sizeof first, "%s", name);
            }
        }
        put_badge(l->p, n_wrong ? "bad" : "good", n_wrong ? "Signature does not fit" : "Verified record", "farseek.rec");
        put_by(l, key);
        if (n_wrong) {
            fs_page_put(l->p, "; %" PRIu64 " of its %" PRIu64 " files beside the weights are missing or others: ", n_wrong, n_files);
            fs_page_text(l->p, first);
        } else {
            fs_page_put(l->p, "; %" PRIu64 " files beside the weights are as it says%s. The weights themselves are compared by <code>farseek verify</code>", n_files - n_unknown,
                        n_unknown ? ", not all were looked at" : "");
        }
        fs_page_put(l->p, ".</p>");
    }
out:
    fs_record_done(&record);
    fs_hub_content_done(&text);
    fs_hub_content_done(&signature);
}

void fs_page_signatures(fs_page *p, fs_hub_call *c, const git_oid *tree)
{
    look l = { p, c, tree, 0 };

    put_oms(&l);
    put_record(&l);
}
