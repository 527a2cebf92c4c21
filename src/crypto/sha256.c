/* See the header. */
#include "crypto/sha256.h"

#include <assert.h>
#include <openssl/evp.h>

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
