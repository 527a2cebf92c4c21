/* The feed of refs: what a hub's public repositories point to, as a log that only grows, so that who follows it sees every move and
 * nobody can take one back unseen. docs/federation.md has the format; here it is read and written, whoever sends it.
 *
 *   entry    one line of JSON, in exactly one form; hash n = SHA-256(hash n-1, the line without its end)
 *   head     one line: number and hash of the last entry, when it was signed, the hub's key, an Ed25519 signature of these
 *   page     entries one behind the other, then the head of the last */
#ifndef FS_HUB_REFS_FEED_H
#define FS_HUB_REFS_FEED_H

#include "crypto/ed25519.h"

#define FS_REFS_PAGE_MAX       1000
#define FS_REFS_LINE_BYTES_MAX ((size_t)2048)
#define FS_REFS_PAGE_BYTES_MAX ((FS_REFS_PAGE_MAX + 1) * FS_REFS_LINE_BYTES_MAX)
#define FS_REFS_NO_COMMIT      "0000000000000000000000000000000000000000"

typedef struct fs_refs_entry {
    uint64_t seq; /* from 1 */
    int64_t time_ms;
    char type[16];         /* models, datasets, spaces */
    char repo[200];        /* org/name */
    char ref[256];         /* refs/heads/..., refs/tags/..., refs/pr/... */
    char old[41], new[41]; /* what it pointed to; FS_REFS_NO_COMMIT: it was not there, or is not any more */
    char owner[65];        /* key of the hub that the repository is written on, in hex */
} fs_refs_entry;

typedef struct fs_refs_head {
    uint64_t seq;
    uint8_t hash[32];
    int64_t time_ms;
    uint8_t key[FS_ED25519_PUBLIC_BYTES], signature[FS_ED25519_SIGNATURE_BYTES];
} fs_refs_head;

typedef struct fs_refs_page {
    fs_refs_entry *entries;
    uint8_t (*hashes)[32]; /* of each entry */
    size_t n;
    fs_refs_head head;
} fs_refs_page;

/* Hash 0, of the empty feed of a key. */
fs_status fs_refs_first_hash(const uint8_t key[32], uint8_t ret[32], fs_error *err);
/* The hash behind before, of an entry's line. */
fs_status fs_refs_next_hash(const uint8_t before[32], fs_bytes line, uint8_t ret[32], fs_error *err);

/* Appends the line, without its end. */
fs_status fs_refs_entry_write(const fs_refs_entry *e, fs_buf *out, fs_error *err);
fs_status fs_refs_entry_read(fs_bytes line, fs_refs_entry *ret, fs_error *err);
/* Fills key and signature. */
void fs_refs_head_sign(fs_refs_head *h, const fs_ed25519_key *key);
fs_status fs_refs_head_write(const fs_refs_head *h, fs_buf *out, fs_error *err);
/* Its form, and its signature by the key that it names. */
fs_status fs_refs_head_read(fs_bytes line, fs_refs_head *ret, fs_error *err);

/* A page that goes on behind entry seq, whose hash is before; key NULL: any, and seq is 0. FS_ERR_FORMAT names what does not hold. */
fs_status fs_refs_page_read(fs_bytes text, uint64_t seq, const uint8_t before[32], const uint8_t *key, fs_refs_page *ret, fs_error *err);
void fs_refs_page_done(fs_refs_page *p);

#endif
