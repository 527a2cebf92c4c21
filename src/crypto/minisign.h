/* Ed25519 signatures in minisign's files, which its program reads and writes: https://jedisct1.github.io/minisign/.
 * Every file is a comment line and a line of base64; a signature has a second pair, a trusted comment and a signature
 * of the first signature and that comment.
 *
 *   public key   "Ed", key id [8], key [32]
 *   secret key   "Ed", "Sc" or 0 0, "B2", salt [32], opslimit u64, memlimit u64, then [104], xored with scrypt of the
 *                password where "Sc" stands: key id [8], secret and public key [64], BLAKE2b-256 of "Ed", id, keys
 *                (zeros will do where nothing is encrypted)
 *   signature    "ED" (of the BLAKE2b-512 of the message) or "Ed" (of the message itself), key id [8], signature [64]
 *
 * Numbers are little-endian. The arithmetic is libsodium's. */
#ifndef FS_CRYPTO_MINISIGN_H
#define FS_CRYPTO_MINISIGN_H

#include "base/mem.h"

#define FS_MINISIGN_FILE_BYTES_MAX ((size_t)16384)
#define FS_MINISIGN_COMMENT_MAX    ((size_t)8192)

typedef struct fs_public_key {
    uint8_t id[8], key[32];
} fs_public_key;

typedef struct fs_secret_key {
    uint8_t id[8], key[64]; /* the public half is the last 32 */
} fs_secret_key;

fs_status fs_minisign_new_key(fs_secret_key *ret, fs_error *err);
void fs_minisign_public(const fs_secret_key *s, fs_public_key *ret);
void fs_secret_key_wipe(fs_secret_key *s);
/* 16 upper-case hex digits, as minisign prints it: the id as a number. */
void fs_minisign_id(const uint8_t id[8], char ret[17]);

fs_status fs_public_key_write(const fs_public_key *k, fs_buf *out, fs_error *err);
/* A whole file, or the base64 alone. what names it. */
fs_status fs_public_key_read(fs_bytes text, const char *what, fs_public_key *ret, fs_error *err);
/* password NULL: not encrypted. Encrypting takes a second or two and 1 GiB, as with minisign. */
fs_status fs_secret_key_write(const fs_secret_key *k, const char *password, fs_buf *out, fs_error *err);
bool fs_secret_key_is_encrypted(fs_bytes text);
/* A wrong password is FS_ERR_ARGUMENT. */
fs_status fs_secret_key_read(fs_bytes text, const char *what, const char *password, fs_secret_key *ret, fs_error *err);

/* comment: the trusted one, one line of UTF-8 of at most FS_MINISIGN_COMMENT_MAX bytes. */
fs_status fs_minisign_sign(const fs_secret_key *k, fs_bytes message, const char *comment, fs_buf *out, fs_error *err);
/* Whose signature it says it is; nothing is verified. */
fs_status fs_minisign_signer(fs_bytes signature, const char *what, uint8_t ret_id[8], fs_error *err);
/* FS_OK only when both signatures hold. ret_comment (may be NULL): the trusted comment, borrowed from signature. */
fs_status fs_minisign_verify(const fs_public_key *k, fs_bytes message, fs_bytes signature, const char *what, fs_bytes *ret_comment,
                             fs_error *err);

#endif
