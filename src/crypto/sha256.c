/* See the header. */
#include "crypto/sha256.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_BYTES ((size_t)1 << 20) /* at a time */

fs_status fs_sha256_init(fs_sha256 *h, fs_error *err)
{
    h->evp = EVP_MD_CTX_new();
    if (!h->evp || EVP_DigestInit_ex(h->evp, EVP_sha256(), NULL) != 1) {
        fs_sha256_done(h);
        return fs_fail(err, FS_ERR_MEMORY, "sha256: cannot start");
    }
    return FS_OK;
}

void fs_sha256_update(fs_sha256 *h, const void *data, size_t n_bytes)
{
    int ok = EVP_DigestUpdate(h->evp, data, n_bytes);
    assert(ok == 1);
    (void)ok;
}

void fs_sha256_final(fs_sha256 *h, uint8_t ret[32])
{
    unsigned n = 0;
    int ok = EVP_DigestFinal_ex(h->evp, ret, &n);

    assert(ok == 1 && n == 32);
    (void)ok;
    fs_sha256_done(h);
}

void fs_sha256_final_hex(fs_sha256 *h, char ret_hex[65])
{
    uint8_t d[32];

    fs_sha256_final(h, d);
    fs_hex(d, sizeof d, ret_hex);
}

void fs_sha256_done(fs_sha256 *h)
{
    if (!h)
        return;
    EVP_MD_CTX_free(h->evp);
    h->evp = NULL;
}

fs_status fs_sha256_of(fs_bytes data, uint8_t ret[32], fs_error *err)
{
    fs_sha256 h;
    fs_status rc = fs_sha256_init(&h, err);

    if (rc)
        return rc;
    fs_sha256_update(&h, data.data, data.n_bytes);
    fs_sha256_final(&h, ret);
    return FS_OK;
}

fs_status fs_sha256_of_file(int fd, const char *path, uint64_t n_bytes, const fs_progress *progress, char ret_hex[65], fs_error *err)
{
    char *buf = malloc(FILE_BYTES);
    fs_sha256 h = { 0 };
    uint64_t at = 0;
    fs_status rc = buf ? fs_sha256_init(&h, err) : fs_fail_memory(err, FILE_BYTES);

    while (!rc && at < n_bytes) {
        uint64_t left = n_bytes - at;
        ssize_t n = pread(fd, buf, left < FILE_BYTES ? (size_t)left : FILE_BYTES, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            rc = n < 0 ? fs_fail_errno(err, errno, "cannot read '%s'", path)
                       : fs_fail(err, FS_ERR_IO, "'%s' ended after %llu of %llu bytes", path, (unsigned long long)at, (unsigned long long)n_bytes);
            break;
        }
        fs_sha256_update(&h, buf, (size_t)n);
        at += (uint64_t)n;
        rc = fs_progress_tell(progress, at, n_bytes, err);
    }
    if (!rc)
        fs_sha256_final_hex(&h, ret_hex);
    fs_sha256_done(&h);
    free(buf);
    return rc;
}

void fs_hex(const uint8_t *bytes, size_t n_bytes, char *ret)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n_bytes; i++) {
        ret[2 * i] = digits[bytes[i] >> 4];
        ret[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret[2 * n_bytes] = 0;
}

static int digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool fs_hex_read(fs_bytes text, uint8_t *ret, size_t n_bytes)
{
    if (text.n_bytes != 2 * n_bytes)
        return false;
    for (size_t i = 0; i < n_bytes; i++) {
        int high = digit(text.data[2 * i]), low = digit(text.data[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
