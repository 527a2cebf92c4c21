/* Links that carry their own right, and names that nobody guesses. */
#include "hub/internal.h"

#include "crypto/sha256.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <sys/random.h>

void fs_hub_sign(const fs_hub *h, const char *text, char ret[65])
{
    uint8_t mac[32] = { 0 };
    unsigned n = 0;

    if (!HMAC(EVP_sha256(), h->secret, sizeof h->secret, (const uint8_t *)text, strlen(text), mac, &n) || n != sizeof mac)
        ret[0] = 0; /* no signature equals it */
    else
        fs_hex(mac, sizeof mac, ret);
}

bool fs_hub_sign_check(const fs_hub *h, const char *text, const char *signature)
{
    char want[65];

    fs_hub_sign(h, text, want);
    return strlen(want) == 64 && signature && strlen(signature) == 64 && CRYPTO_memcmp(want, signature, 64) == 0;
}

void fs_hub_random_name(char ret[], size_t n)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    uint8_t bytes[64];
    size_t i = 0;

    while (i < n - 1) {
        if (getentropy(bytes, sizeof bytes) != 0)
            continue; /* at boot only */
        for (size_t k = 0; k < sizeof bytes && i < n - 1; k++)
            if (bytes[k] < 248) /* 4 * 62: every letter as often */
                ret[i++] = letters[bytes[k] % 62];
    }
    ret[n - 1] = 0;
}
