/* Base64 (RFC 4648, section 4, padded), by libsodium. */
#ifndef FS_CRYPTO_BASE64_H
#define FS_CRYPTO_BASE64_H

#include "base/mem.h"

/* Appends bytes as text, without a newline. */
fs_status fs_base64_append(fs_buf *out, fs_bytes bytes, fs_error *err);

#endif
