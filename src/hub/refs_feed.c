/* See the header. */
#include "hub/refs_feed.h"

#include "base/json.h"
#include "base/utf8.h"
#include "crypto/sha256.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEQ_MAX ((int64_t)1 << 53) /* what every reader of JSON keeps exactly */

fs_status fs_refs_first_hash(const uint8_t key[32], uint8_t ret[32], fs_error *err)
{
    static const char word[] = "farseek refs 1\n";
    uint8_t text[sizeof word - 1 + 32];

    memcpy(text, word, sizeof word - 1);
    memcpy(text + sizeof word - 1, key, 32);
    return fs_sha256_of((fs_bytes){ text, sizeof text }, ret, err);
}

fs_status fs_refs_next_hash(const uint8_t before[32], fs_bytes line, uint8_t ret[32], fs_error *err)
{
    fs_sha256 h;
    fs_status rc = fs_sha256_init(&h, err);

    if (rc)
        return rc;
    fs_sha256_update(&h, before, 32);
    fs_sha256_update(&h, line.data, line.n_bytes);
    fs_sha256_final(&h, ret);
    return FS_OK;
}

/* ---- an entry ---- */

fs_status fs_refs_entry_write(const fs_refs_entry *e, fs_buf *out, fs_error *err)
{
    fs_status rc = fs_buf_printf(out, err, "{\"seq\":%" PRIu64 ",\"time\":%" PRId64 ",\"type\":\"%s\",\"repo\":", e->seq, e->time_ms, e->type);

    if (!rc)
        rc = fs_json_quote(out, fs_bytes_str(e->repo), err);
    if (!rc)
        rc = fs_buf_append_str(out, ",\"ref\":", err);
    if (!rc)
        rc = fs_json_quote(out, fs_bytes_str(e->ref), err);
    return rc ? rc : fs_buf_printf(out, err, ",\"old\":\"%s\",\"new\":\"%s\",\"owner\":\"%s\"}", e->old, e->new, e->owner);
}

static fs_status take_text(struct json_object *o, const char *key, char *ret, size_t capacity, fs_error *err)
{
    fs_bytes text = { 0 };
    fs_status rc = fs_json_string(o, key, &text, NULL, err);

    if (rc)
        return rc;
    if (!text.data || text.n_bytes == 0 || text.n_bytes >= capacity || memchr(text.data, 0, text.n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "'%s' has %zu bytes, 1 to %zu are allowed", key, text.n_bytes, capacity - 1);
    memcpy(ret, text.data, text.n_bytes);
    ret[text.n_bytes] = 0;
    return FS_OK;
}

static fs_status take_hex(struct json_object *o, const char *key, size_t n_bytes, char *ret, fs_error *err)
{
    uint8_t bytes[64];
    fs_status rc = take_text(o, key, ret, 2 * n_bytes + 1, err);

    if (!rc && !fs_hex_read(fs_bytes_str(ret), bytes, n_bytes))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' is not %zu lower-case hex digits", key, 2 * n_bytes);
    return rc;
}

static fs_status parse_line(fs_bytes line, struct json_object **ret, fs_error *err)
{
    fs_status rc;

    if (line.n_bytes > FS_REFS_LINE_BYTES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "a line of %zu bytes", line.n_bytes);
    rc = fs_json_parse(line, "a line of the feed", ret, err);
    if (!rc && !json_object_is_type(*ret, json_type_object))
        rc = fs_fail(err, FS_ERR_FORMAT, "a line of the feed is no object");
    return rc;
}

static bool is_ref(const char *ref)
{
    static const char *const kinds[] = { "refs/heads/", "refs/tags/", "refs/pr/" };

    if (!fs_utf8_valid(fs_bytes_str(ref)) || strstr(ref, "..") || strstr(ref, "//") || strstr(ref, "/.") || fs_ends_with(ref, ".lock") || fs_ends_with(ref, "/"))
        return false;
    for (const char *p = ref; *p; p++)
        if ((unsigned char)*p <= 32 || *p == 127 || strchr("~^:?*[\\", *p))
            return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strncmp(ref, kinds[i], strlen(kinds[i])) == 0 && ref[strlen(kinds[i])])
            return true;
    return false;
}

static bool is_repo(const char *repo)
{
    const char *slash = strchr(repo, '/');

    return slash && slash != repo && slash[1] && !strchr(slash + 1, '/') &&
           strspn(repo, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") == strlen(repo);
}

fs_status fs_refs_entry_read(fs_bytes line, fs_refs_entry *ret, fs_error *err)
{
    struct json_object *o = NULL;
    fs_refs_entry e = { .seq = 0 };
    fs_buf again = { 0 };
    int64_t seq = 0;
    fs_status rc = parse_line(line, &o, err);

    if (!rc)
        rc = fs_json_int(o, "seq", 1, SEQ_MAX, &seq, NULL, err);
    if (!rc)
        rc = fs_json_int(o, "time", 0, SEQ_MAX, &e.time_ms, NULL, err);
    if (!rc)
        rc = take_text(o, "type", e.type, sizeof e.type, err);
    if (!rc)
        rc = take_text(o, "repo", e.repo, sizeof e.repo, err);
    if (!rc)
        rc = take_text(o, "ref", e.ref, sizeof e.ref, err);
    if (!rc)
        rc = take_hex(o, "old", 20, e.old, err);
    if (!rc)
        rc = take_hex(o, "new", 20, e.new, err);
    if (!rc)
        rc = take_hex(o, "owner", 32, e.owner, err);
    e.seq = (uint64_t)seq;
    if (!rc && strcmp(e.type, "models") != 0 && strcmp(e.type, "datasets") != 0 && strcmp(e.type, "spaces") != 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "'type' is models, datasets or spaces");
    if (!rc && !is_repo(e.repo))
        rc = fs_fail(err, FS_ERR_FORMAT, "'repo' is no org/name");
    if (!rc && !is_ref(e.ref))
        rc = fs_fail(err, FS_ERR_FORMAT, "'ref' is no branch, tag or pull request");
    if (!rc && strcmp(e.old, e.new) == 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "an entry that moves nothing");
    if (!rc)
        rc = fs_refs_entry_write(&e, &again, err);
    if (!rc && !fs_bytes_equal(fs_buf_bytes(&again), line)) /* what is hashed means one thing only */
        rc = fs_fail(err, FS_ERR_FORMAT, "a line that is not in the feed's form");
    if (!rc)
        *ret = e;
    fs_buf_done(&again);
    json_object_put(o);
    return rc;
}

/* ---- a head ---- */

static fs_bytes signed_text(const fs_refs_head *h, char ret[160])
{
    char hash[65];
    int n;

    fs_hex(h->hash, 32, hash);
    n = snprintf(ret, 160, "farseek refs 1\n%" PRIu64 "\n%s\n%" PRId64 "\n", h->seq, hash, h->time_ms);
    return (fs_bytes){ (const uint8_t *)ret, (size_t)n };
}

void fs_refs_head_sign(fs_refs_head *h, const fs_ed25519_key *key)
{
    char text[160];

    memcpy(h->key, fs_ed25519_public(key), sizeof h->key);
    fs_ed25519_sign(key, signed_text(h, text), h->signature);
}

fs_status fs_refs_head_write(const fs_refs_head *h, fs_buf *out, fs_error *err)
{
    char hash[65], key[65], signature[129];

    fs_hex(h->hash, 32, hash);
    fs_hex(h->key, 32, key);
    fs_hex(h->signature, 64, signature);
    return fs_buf_printf(out, err, "{\"head\":%" PRIu64 ",\"hash\":\"%s\",\"time\":%" PRId64 ",\"key\":\"%s\",\"signature\":\"%s\"}", h->seq, hash, h->time_ms, key, signature);
}

fs_status fs_refs_head_read(fs_bytes line, fs_refs_head *ret, fs_error *err)
{
    struct json_object *o = NULL;
    fs_refs_head h = { .seq = 0 };
    char hash[65] = "", key[65] = "", signature[129] = "", text[160];
    fs_buf again = { 0 };
    int64_t seq = 0;
    bool any = false;
    fs_status rc = parse_line(line, &o, err);

    if (!rc)
        rc = fs_json_int(o, "head", 0, SEQ_MAX, &seq, &any, err);
    if (!rc && !any)
        rc = fs_fail(err, FS_ERR_FORMAT, "the feed's page ends with no head");
    if (!rc)
        rc = take_hex(o, "hash", 32, hash, err);
    if (!rc)
        rc = fs_json_int(o, "time", 0, SEQ_MAX, &h.time_ms, NULL, err);
    if (!rc)
        rc = take_hex(o, "key", 32, key, err);
    if (!rc)
        rc = take_hex(o, "signature", 64, signature, err);
    if (!rc) {
        h.seq = (uint64_t)seq;
        fs_hex_read(fs_bytes_str(hash), h.hash, 32);
        fs_hex_read(fs_bytes_str(key), h.key, 32);
        fs_hex_read(fs_bytes_str(signature), h.signature, 64);
        rc = fs_refs_head_write(&h, &again, err);
    }
    if (!rc && !fs_bytes_equal(fs_buf_bytes(&again), line))
        rc = fs_fail(err, FS_ERR_FORMAT, "a head that is not in the feed's form");
    if (!rc && !fs_ed25519_verify(h.key, signed_text(&h, text), h.signature))
        rc = fs_fail(err, FS_ERR_FORMAT, "the signature of the head %" PRIu64 " does not hold", h.seq);
    if (!rc)
        *ret = h;
    fs_buf_done(&again);
    json_object_put(o);
    return rc;
}

/* ---- a page ---- */

static size_t count_lines(fs_bytes text)
{
    size_t n = 0;

    for (size_t i = 0; i < text.n_bytes; i++)
        n += text.data[i] == '\n';
    return n;
}

static fs_bytes next_line(fs_bytes *text)
{
    const uint8_t *end = memchr(text->data, '\n', text->n_bytes);
    fs_bytes line = { text->data, (size_t)(end - text->data) };

    text->data += line.n_bytes + 1;
    text->n_bytes -= line.n_bytes + 1;
    return line;
}

static fs_status read_entries(fs_bytes text, uint64_t seq, const uint8_t before[32], fs_refs_page *p, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < p->n && !rc; i++) {
        fs_bytes line = next_line(&text);
        rc = fs_refs_entry_read(line, p->entries + i, err);
        if (rc)
            return fs_fail_prefix(err, "entry %" PRIu64, seq + i + 1);
        if (p->entries[i].seq != seq + i + 1)
            return fs_fail(err, FS_ERR_FORMAT, "entry %" PRIu64 " stands where %" PRIu64 " should", p->entries[i].seq, seq + i + 1);
        rc = fs_refs_next_hash(i ? p->hashes[i - 1] : before, line, p->hashes[i], err);
    }
    return rc;
}

fs_status fs_refs_page_read(fs_bytes text, uint64_t seq, const uint8_t before[32], const uint8_t *key, fs_refs_page *ret, fs_error *err)
{
    fs_refs_page p = { .n = count_lines(text) };
    fs_bytes rest = text;
    uint8_t first[32];
    fs_status rc = FS_OK;

    if (p.n == 0 || text.data[text.n_bytes - 1] != '\n' || text.n_bytes > FS_REFS_PAGE_BYTES_MAX || p.n - 1 > FS_REFS_PAGE_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "%zu bytes in %zu lines are no page of a feed", text.n_bytes, p.n);
    for (size_t i = 0; i + 1 < p.n; i++)
        next_line(&rest);
    rc = fs_refs_head_read(next_line(&rest), &p.head, err);
    if (rc)
        return rc;
    if (key && memcmp(key, p.head.key, 32) != 0)
        return fs_fail(err, FS_ERR_FORMAT, "the feed is signed with another key than the one it had");
    if (!key) {
        rc = fs_refs_first_hash(p.head.key, first, err);
        before = first;
    }
    p.n--;
    if (!rc && p.n && (!(p.entries = calloc(p.n, sizeof *p.entries)) || !(p.hashes = calloc(p.n, sizeof *p.hashes))))
        rc = fs_fail_memory(err, p.n * sizeof *p.entries);
    if (!rc)
        rc = read_entries(text, seq, before, &p, err);
    if (!rc && p.head.seq < seq)
        rc = fs_fail(err, FS_ERR_FORMAT, "the feed ends at entry %" PRIu64 ", and had %" PRIu64 ": it was rolled back", p.head.seq, seq);
    if (!rc && p.head.seq != seq + p.n)
        rc = fs_fail(err, FS_ERR_FORMAT, "the page ends at entry %" PRIu64 ", and its head is of entry %" PRIu64, seq + p.n, p.head.seq);
    if (!rc && memcmp(p.head.hash, p.n ? p.hashes[p.n - 1] : before, 32) != 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "the feed was written anew: its signed hash of entry %" PRIu64 " is not that of the entries seen here", p.head.seq);
    if (rc)
        fs_refs_page_done(&p);
    else
        *ret = p;
    return rc;
}

void fs_refs_page_done(fs_refs_page *p)
{
    free(p->entries);
    free(p->hashes);
    *p = (fs_refs_page){ 0 };
}
