/* SHA-256 (FIPS 180-4) through OpenSSL's EVP, which uses the CPU's SHA instructions. */
#ifndef FS_CRYPTO_SHA256_H
#define FS_CRYPTO_SHA256_H

#include "base/mem.h"
#include "base/progress.h"

typedef struct fs_sha256 {
    void *evp;
} fs_sha256;

fs_status fs_sha256_init(fs_sha256 *h, fs_error *err);
void fs_sha256_update(fs_sha256 *h, const void *data, size_t n_bytes);
/* Writes 32 bytes, and frees the state. */
void fs_sha256_final(fs_sha256 *h, uint8_t ret[32]);
/* Writes 64 hex digits and a NUL, and frees the state. */
void fs_sha256_final_hex(fs_sha256 *h, char ret_hex[65]);
void fs_sha256_done(fs_sha256 *h);
/* Of one span of bytes. */
fs_status fs_sha256_of(fs_bytes data, uint8_t ret[32], fs_error *err);
/* Of the first n_bytes of an open file, which path names in the sentence; progress (may be NULL) is in bytes. A shorter file is FS_ERR_IO. */
fs_status fs_sha256_of_file(int fd, const char *path, uint64_t n_bytes, const fs_progress *progress, char ret_hex[65], fs_error *err);

void fs_hex(const uint8_t *bytes, size_t n_bytes, char *ret); /* ret [2 n_bytes + 1], lower case */
/* false unless text is 2 n_bytes lower-case digits. */
bool fs_hex_read(fs_bytes text, uint8_t *ret, size_t n_bytes);

#endif
