/* See the header. */
#include "crypto/ed25519.h"

#include <sodium.h>

fs_status fs_ed25519_from_seed(const uint8_t seed[FS_ED25519_SEED_BYTES], fs_ed25519_key *ret, fs_error *err)
{
    uint8_t public[crypto_sign_PUBLICKEYBYTES];

    _Static_assert(sizeof ret->bytes == crypto_sign_SECRETKEYBYTES, "the layout is libsodium's");
    if (sodium_init() < 0 || crypto_sign_seed_keypair(public, ret->bytes, seed) != 0)
        return fs_fail(err, FS_ERR_IO, "libsodium: cannot start");
    return FS_OK;
}

const uint8_t *fs_ed25519_public(const fs_ed25519_key *k)
{
    return k->bytes + FS_ED25519_SEED_BYTES;
}

void fs_ed25519_sign(const fs_ed25519_key *k, fs_bytes message, uint8_t ret[FS_ED25519_SIGNATURE_BYTES])
{
    crypto_sign_detached(ret, NULL, message.data, message.n_bytes, k->bytes);
}

bool fs_ed25519_verify(const uint8_t public_key[FS_ED25519_PUBLIC_BYTES], fs_bytes message, const uint8_t signature[FS_ED25519_SIGNATURE_BYTES])
{
    return sodium_init() >= 0 && crypto_sign_verify_detached(signature, message.data, message.n_bytes, public_key) == 0;
}

void fs_ed25519_wipe(fs_ed25519_key *k)
{
    sodium_memzero(k, sizeof *k);
}
