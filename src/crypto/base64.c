/* See the header. */
#include "crypto/base64.h"

#include <sodium.h>

fs_status fs_base64_append(fs_buf *out, fs_bytes bytes, fs_error *err)
{
    size_t n = sodium_base64_ENCODED_LEN(bytes.n_bytes, sodium_base64_VARIANT_ORIGINAL); /* with its NUL */
    fs_status rc = fs_buf_reserve(out, n, err);

    if (rc)
        return rc;
    sodium_bin2base64(out->data + out->n_bytes, n, bytes.data, bytes.n_bytes, sodium_base64_VARIANT_ORIGINAL);
    out->n_bytes += n - 1;
    return FS_OK;
}
