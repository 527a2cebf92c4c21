/* Bare Ed25519 signatures (RFC 8032), by libsodium. */
#ifndef FS_CRYPTO_ED25519_H
#define FS_CRYPTO_ED25519_H

#include "base/mem.h"

#define FS_ED25519_SEED_BYTES      32
#define FS_ED25519_PUBLIC_BYTES    32
#define FS_ED25519_SIGNATURE_BYTES 64

typedef struct fs_ed25519_key {
    uint8_t bytes[64]; /* the seed, then the public key */
} fs_ed25519_key;

fs_status fs_ed25519_from_seed(const uint8_t seed[FS_ED25519_SEED_BYTES], fs_ed25519_key *ret, fs_error *err);
const uint8_t *fs_ed25519_public(const fs_ed25519_key *k);
void fs_ed25519_sign(const fs_ed25519_key *k, fs_bytes message, uint8_t ret[FS_ED25519_SIGNATURE_BYTES]);
bool fs_ed25519_verify(const uint8_t public_key[FS_ED25519_PUBLIC_BYTES], fs_bytes message, const uint8_t signature[FS_ED25519_SIGNATURE_BYTES]);
void fs_ed25519_wipe(fs_ed25519_key *k);

#endif
