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

void fs_sha256_final_hex(fs_sha256 *h, char ret_hex[65])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char d[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    EVP_DigestFinal_ex(h->evp, d, &n);
    assert(n == 32);
    for (unsigned i = 0; i < n; i++) {
        ret_hex[2 * i] = hex[d[i] >> 4];
        ret_hex[2 * i + 1] = hex[d[i] & 15];
    }
    ret_hex[64] = 0;
    fs_sha256_done(h);
}

void fs_sha256_done(fs_sha256 *h)
{
    if (!h)
        return;
    EVP_MD_CTX_free(h->evp);
    h->evp = NULL;
}
