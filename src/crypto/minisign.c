/* See the header. */
#include "crypto/minisign.h"

#include "crypto/base64.h"

#include "base/utf8.h"

#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#define SIGNATURE_BYTES  (2 + 8 + crypto_sign_BYTES)
#define PUBLIC_BYTES     (2 + 8 + crypto_sign_PUBLICKEYBYTES)
#define HIDDEN_BYTES     (8 + crypto_sign_SECRETKEYBYTES + 32) /* of a secret key: id, keys, checksum */
#define SECRET_BYTES     (2 + 2 + 2 + 32 + 8 + 8 + HIDDEN_BYTES)
#define MEMLIMIT_MAX     ((uint64_t)2 << 30)
#define OPSLIMIT_MAX     ((uint64_t)1 << 28)
#define COMMENT_WORD     "untrusted comment: "
#define TRUSTED_WORD     "trusted comment: "

static fs_status start(fs_error *err)
{
    return sodium_init() < 0 ? fs_fail(err, FS_ERR_IO, "libsodium: cannot start") : FS_OK;
}

static void put_u64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v = 0;

    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* The next line, without its end ("\n" or "\r\n"); *at moves behind it. */
static fs_bytes next_line(fs_bytes text, size_t *at)
{
    size_t begin = *at, n = 0;

    while (begin + n < text.n_bytes && text.data[begin + n] != '\n')
        n++;
    *at = begin + n + (begin + n < text.n_bytes);
    if (n > 0 && text.data[begin + n - 1] == '\r')
        n--;
    return (fs_bytes){ text.data + begin, n };
}

static bool starts_with(fs_bytes s, const char *word)
{
    return s.n_bytes >= strlen(word) && memcmp(s.data, word, strlen(word)) == 0;
}

/* Exactly n_bytes in base64. */
static bool decode(fs_bytes line, uint8_t *ret, size_t n_bytes)
{
    size_t n = 0;
    const char *end = NULL;

    for (size_t i = 0; i < line.n_bytes; i++) /* libsodium takes 0xaf for '/' */
        if (((const uint8_t *)line.data)[i] > 0x7f)
            return false;
    return sodium_base642bin(ret, n_bytes, (const char *)line.data, line.n_bytes, NULL, &n, &end, sodium_base64_VARIANT_ORIGINAL) == 0 &&
           n == n_bytes && end == (const char *)line.data + line.n_bytes;
}

static fs_status put_base64(fs_buf *out, const uint8_t *bytes, size_t n_bytes, fs_error *err)
{
    fs_status rc = fs_base64_append(out, (fs_bytes){ bytes, n_bytes }, err);

    return rc ? rc : fs_buf_append(out, "\n", 1, err);
}

/* A key's file: a comment and a line of base64. */
static bool read_key_lines(fs_bytes text, uint8_t *ret, size_t n_bytes)
{
    size_t at = 0;
    fs_bytes line;

    if (text.n_bytes > FS_MINISIGN_FILE_BYTES_MAX)
        return false;
    line = next_line(text, &at);
    if (starts_with(line, COMMENT_WORD))
        line = next_line(text, &at);
    while (at < text.n_bytes) /* nothing but empty lines may follow */
        if (next_line(text, &at).n_bytes > 0)
            return false;
    return decode(line, ret, n_bytes);
}

/* ---- keys ---- */

fs_status fs_minisign_new_key(fs_secret_key *ret, fs_error *err)
{
    uint8_t public[crypto_sign_PUBLICKEYBYTES];
    fs_status rc = start(err);

    if (rc)
        return rc;
    randombytes_buf(ret->id, sizeof ret->id);
    crypto_sign_keypair(public, ret->key);
    return FS_OK;
}

void fs_minisign_public(const fs_secret_key *s, fs_public_key *ret)
{
    memcpy(ret->id, s->id, sizeof ret->id);
    memcpy(ret->key, s->key + sizeof s->key - sizeof ret->key, sizeof ret->key);
}

void fs_secret_key_wipe(fs_secret_key *s)
{
    sodium_memzero(s, sizeof *s);
}

void fs_minisign_id(const uint8_t id[8], char ret[17])
{
    for (int i = 0; i < 8; i++) {
        ret[2 * i] = "0123456789ABCDEF"[id[7 - i] >> 4];
        ret[2 * i + 1] = "0123456789ABCDEF"[id[7 - i] & 15];
    }
    ret[16] = 0;
}

fs_status fs_public_key_write(const fs_public_key *k, fs_buf *out, fs_error *err)
{
    uint8_t bytes[PUBLIC_BYTES] = { 'E', 'd' };
    char id[17];
    fs_status rc;

    memcpy(bytes + 2, k->id, 8);
    memcpy(bytes + 10, k->key, sizeof k->key);
    fs_minisign_id(k->id, id);
    rc = fs_buf_printf(out, err, COMMENT_WORD "minisign public key %s\n", id);
    return rc ? rc : put_base64(out, bytes, sizeof bytes, err);
}

fs_status fs_public_key_read(fs_bytes text, const char *what, fs_public_key *ret, fs_error *err)
{
    uint8_t bytes[PUBLIC_BYTES];

    if (!read_key_lines(text, bytes, sizeof bytes) || memcmp(bytes, "Ed", 2) != 0)
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is no public key of minisign", what);
    memcpy(ret->id, bytes + 2, 8);
    memcpy(ret->key, bytes + 10, sizeof ret->key);
    return FS_OK;
}

static fs_status mask(const char *password, const uint8_t *salt, uint64_t opslimit, uint64_t memlimit, uint8_t hidden[HIDDEN_BYTES],
                      fs_error *err)
{
    uint8_t stream[HIDDEN_BYTES];

    if (opslimit > OPSLIMIT_MAX || memlimit > MEMLIMIT_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "secret key: its password takes %" PRIu64 " bytes of memory, at most %" PRIu64 " are allowed",
                       memlimit, MEMLIMIT_MAX);
    if (crypto_pwhash_scryptsalsa208sha256(stream, sizeof stream, password, strlen(password), salt, opslimit, (size_t)memlimit) != 0)
        return fs_fail_memory(err, (size_t)memlimit);
    for (size_t i = 0; i < sizeof stream; i++)
        hidden[i] ^= stream[i];
    sodium_memzero(stream, sizeof stream);
    return FS_OK;
}

static void checksum(const uint8_t *id_and_keys, uint8_t ret[32])
{
    crypto_generichash_state h;

    crypto_generichash_init(&h, NULL, 0, 32);
    crypto_generichash_update(&h, (const uint8_t *)"Ed", 2);
    crypto_generichash_update(&h, id_and_keys, 8 + crypto_sign_SECRETKEYBYTES);
    crypto_generichash_final(&h, ret, 32);
}

fs_status fs_secret_key_write(const fs_secret_key *k, const char *password, fs_buf *out, fs_error *err)
{
    uint8_t bytes[SECRET_BYTES] = { 'E', 'd', 0, 0, 'B', '2' }, *salt = bytes + 6, *hidden = bytes + SECRET_BYTES - HIDDEN_BYTES;
    fs_status rc = start(err);

    if (rc)
        return rc;
    memcpy(hidden, k->id, 8);
    memcpy(hidden + 8, k->key, sizeof k->key);
    checksum(hidden, hidden + 8 + sizeof k->key);
    if (password) {
        memcpy(bytes + 2, "Sc", 2);
        randombytes_buf(salt, 32);
        put_u64(salt + 32, crypto_pwhash_scryptsalsa208sha256_OPSLIMIT_SENSITIVE);
        put_u64(salt + 40, crypto_pwhash_scryptsalsa208sha256_MEMLIMIT_SENSITIVE);
        rc = mask(password, salt, get_u64(salt + 32), get_u64(salt + 40), hidden, err);
    }
    if (!rc)
        rc = fs_buf_printf(out, err, COMMENT_WORD "minisign %s secret key\n", password ? "encrypted" : "unencrypted");
    if (!rc)
        rc = put_base64(out, bytes, sizeof bytes, err);
    sodium_memzero(bytes, sizeof bytes);
    return rc;
}

static bool read_secret_lines(fs_bytes text, uint8_t bytes[SECRET_BYTES])
{
    return read_key_lines(text, bytes, SECRET_BYTES) && memcmp(bytes, "Ed", 2) == 0 && memcmp(bytes + 4, "B2", 2) == 0 &&
           (memcmp(bytes + 2, "Sc", 2) == 0 || (bytes[2] == 0 && bytes[3] == 0));
}

bool fs_secret_key_is_encrypted(fs_bytes text)
{
    uint8_t bytes[SECRET_BYTES];
    bool encrypted = read_secret_lines(text, bytes) && bytes[2] == 'S';

    sodium_memzero(bytes, sizeof bytes);
    return encrypted;
}

fs_status fs_secret_key_read(fs_bytes text, const char *what, const char *password, fs_secret_key *ret, fs_error *err)
{
    uint8_t bytes[SECRET_BYTES], *salt = bytes + 6, *hidden = bytes + SECRET_BYTES - HIDDEN_BYTES, sum[32];
    fs_status rc = start(err);
    bool encrypted;

    if (rc)
        return rc;
    if (!read_secret_lines(text, bytes))
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is no secret key of minisign", what);
    encrypted = bytes[2] == 'S';
    if (encrypted && !password)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' is encrypted, and there is no password", what);
    else if (encrypted)
        rc = mask(password, salt, get_u64(salt + 32), get_u64(salt + 40), hidden, err);
    if (!rc) {
        checksum(hidden, sum);
        if (sodium_memcmp(sum, hidden + 8 + crypto_sign_SECRETKEYBYTES, 32) != 0 &&
            (encrypted || !sodium_is_zero(hidden + 8 + crypto_sign_SECRETKEYBYTES, 32))) /* minisign -W leaves it zero */
            rc = encrypted ? fs_fail(err, FS_ERR_ARGUMENT, "'%s': wrong password", what) :
                             fs_fail(err, FS_ERR_FORMAT, "'%s' is damaged: its checksum does not hold", what);
    }
    if (!rc) {
        memcpy(ret->id, hidden, 8);
        memcpy(ret->key, hidden + 8, sizeof ret->key);
    }
    sodium_memzero(bytes, sizeof bytes);
    return rc;
}

/* ---- signatures ---- */

typedef struct signature {
    uint8_t bytes[SIGNATURE_BYTES], global[crypto_sign_BYTES];
    fs_bytes comment;
} signature;

static bool read_signature(fs_bytes text, signature *s)
{
    size_t at = 0;
    fs_bytes line;

    if (text.n_bytes > FS_MINISIGN_FILE_BYTES_MAX || !starts_with(next_line(text, &at), COMMENT_WORD))
        return false;
    line = next_line(text, &at);
    if (!decode(line, s->bytes, sizeof s->bytes) || s->bytes[0] != 'E' || (s->bytes[1] != 'D' && s->bytes[1] != 'd'))
        return false;
    line = next_line(text, &at);
    if (!starts_with(line, TRUSTED_WORD))
        return false;
    s->comment = (fs_bytes){ line.data + strlen(TRUSTED_WORD), line.n_bytes - strlen(TRUSTED_WORD) };
    line = next_line(text, &at);
    return s->comment.n_bytes <= FS_MINISIGN_COMMENT_MAX && decode(line, s->global, sizeof s->global) && at == text.n_bytes;
}

/* What the second signature is of: the first one and the trusted comment. */
static size_t globally_signed(const uint8_t *signature_bytes, fs_bytes comment, uint8_t ret[crypto_sign_BYTES + FS_MINISIGN_COMMENT_MAX])
{
    memcpy(ret, signature_bytes + 10, crypto_sign_BYTES);
    memcpy(ret + crypto_sign_BYTES, comment.data, comment.n_bytes);
    return crypto_sign_BYTES + comment.n_bytes;
}

fs_status fs_minisign_sign(const fs_secret_key *k, fs_bytes message, const char *comment, fs_buf *out, fs_error *err)
{
    uint8_t bytes[SIGNATURE_BYTES] = { 'E', 'D' }, hash[64], global[crypto_sign_BYTES], twice[crypto_sign_BYTES + FS_MINISIGN_COMMENT_MAX];
    fs_bytes trusted = fs_bytes_str(comment);
    char id[17];
    size_t n;
    fs_status rc = start(err);

    if (rc)
        return rc;
    if (trusted.n_bytes > FS_MINISIGN_COMMENT_MAX || !fs_utf8_valid(trusted))
        return fs_fail(err, FS_ERR_ARGUMENT, "a signature's comment has %zu bytes; at most %zu of UTF-8 are allowed", trusted.n_bytes,
                       FS_MINISIGN_COMMENT_MAX);
    for (size_t i = 0; i < trusted.n_bytes; i++)
        if (trusted.data[i] < 0x20 && trusted.data[i] != 0x09)
            return fs_fail(err, FS_ERR_ARGUMENT, "a signature's comment is one line; of control characters it may have tabs");
    memcpy(bytes + 2, k->id, 8);
    crypto_generichash(hash, sizeof hash, message.data, message.n_bytes, NULL, 0);
    crypto_sign_detached(bytes + 10, NULL, hash, sizeof hash, k->key);
    n = globally_signed(bytes, trusted, twice);
    crypto_sign_detached(global, NULL, twice, n, k->key);
    fs_minisign_id(k->id, id);
    rc = fs_buf_printf(out, err, COMMENT_WORD "signature from key %s\n", id);
    if (!rc)
        rc = put_base64(out, bytes, sizeof bytes, err);
    if (!rc)
        rc = fs_buf_printf(out, err, TRUSTED_WORD "%s\n", comment);
    return rc ? rc : put_base64(out, global, sizeof global, err);
}

fs_status fs_minisign_signer(fs_bytes text, const char *what, uint8_t ret_id[8], fs_error *err)
{
    signature s;

    if (!read_signature(text, &s))
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is no signature of minisign", what);
    memcpy(ret_id, s.bytes + 2, 8);
    return FS_OK;
}

fs_status fs_minisign_verify(const fs_public_key *k, fs_bytes message, fs_bytes text, const char *what, fs_bytes *ret_comment, fs_error *err)
{
    uint8_t hash[64], twice[crypto_sign_BYTES + FS_MINISIGN_COMMENT_MAX];
    signature s;
    char want[17], have[17];
    size_t n;
    bool holds;
    fs_status rc = start(err);

    if (rc)
        return rc;
    if (!read_signature(text, &s))
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is no signature of minisign", what);
    if (memcmp(s.bytes + 2, k->id, 8) != 0) {
        fs_minisign_id(k->id, want);
        fs_minisign_id(s.bytes + 2, have);
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is by key %s, not by %s", what, have, want);
    }
    if (s.bytes[1] == 'D') {
        crypto_generichash(hash, sizeof hash, message.data, message.n_bytes, NULL, 0);
        holds = crypto_sign_verify_detached(s.bytes + 10, hash, sizeof hash, k->key) == 0;
    } else {
        holds = crypto_sign_verify_detached(s.bytes + 10, message.data, message.n_bytes, k->key) == 0;
    }
    if (!holds)
        return fs_fail(err, FS_ERR_FORMAT, "'%s' does not hold: what it signs was changed, or it was", what);
    n = globally_signed(s.bytes, s.comment, twice);
    if (crypto_sign_verify_detached(s.global, twice, n, k->key) != 0)
        return fs_fail(err, FS_ERR_FORMAT, "'%s': its trusted comment was changed", what);
    if (ret_comment)
        *ret_comment = s.comment;
    return FS_OK;
}
