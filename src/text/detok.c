/* Decoding, whole and streamed: the whole is the stream of its parts, so both give the same text. */
#include "text/tokenizer_impl.h"

#include "base/utf8.h"

#include <string.h>

static const char replacement[3] = "\xef\xbf\xbd";

/* Moves what is certain of text to out. An incomplete character at the end stays: its length is returned. */
static fs_status emit(fs_bytes text, fs_buf *out, size_t *ret_left, fs_error *err)
{
    size_t good = 0;

    for (size_t i = 0; i < text.n_bytes;) {
        uint32_t code;
        size_t n = fs_utf8_next(text, i, &code);
        fs_status rc;
        if (code != FS_UTF8_BAD) {
            i += n;
            continue;
        }
        rc = fs_buf_append(out, text.data + good, i - good, err);
        if (rc)
            return rc;
        good = i;
        if (i + n == text.n_bytes && text.data[i] >= 0xc2 && text.data[i] <= 0xf4)
            break;
        rc = fs_buf_append(out, replacement, sizeof replacement, err);
        if (rc)
            return rc;
        good = i += n;
    }
    *ret_left = 0;
    if (good < text.n_bytes) {
        uint32_t code;
        fs_utf8_next(text, good, &code);
        if (code != FS_UTF8_BAD)
            return fs_buf_append(out, text.data + good, text.n_bytes - good, err);
        *ret_left = text.n_bytes - good;
    }
    return FS_OK;
}

fs_status fs_detok_push(fs_detok *d, int32_t id, fs_buf *out, fs_error *err)
{
    fs_bytes b = fs_tokenizer_bytes(d->tokenizer, id);
    uint8_t joined[8];
    size_t at = 0, left, start = out->n_bytes;
    fs_status rc;

    if (d->skip_special && fs_tokenizer_is_special(d->tokenizer, id))
        return FS_OK;
    /* A character that began in an earlier token is finished (or found broken) byte by byte. */
    while (d->n_pending && at < b.n_bytes) {
        memcpy(joined, d->pending, d->n_pending);
        joined[d->n_pending] = b.data[at];
        rc = emit((fs_bytes){ joined, d->n_pending + 1 }, out, &left, err);
        if (rc)
            goto fail;
        at++;
        memcpy(d->pending, joined + d->n_pending + 1 - left, left);
        d->n_pending = left;
    }
    if (at == b.n_bytes)
        return FS_OK;
    rc = emit((fs_bytes){ b.data + at, b.n_bytes - at }, out, &left, err);
    if (rc)
        goto fail;
    memcpy(d->pending, b.data + b.n_bytes - left, left);
    d->n_pending = left;
    return FS_OK;
fail:
    out->n_bytes = start;
    if (out->data)
        out->data[start] = 0;
    return rc;
}

fs_status fs_detok_flush(fs_detok *d, fs_buf *out, fs_error *err)
{
    fs_status rc = d->n_pending ? fs_buf_append(out, replacement, sizeof replacement, err) : FS_OK;

    if (!rc)
        d->n_pending = 0;
    return rc;
}

fs_status fs_tokenizer_decode(const fs_tokenizer *t, const int32_t *ids, size_t n, bool skip_special, fs_buf *out, fs_error *err)
{
    fs_detok d = { .tokenizer = t, .skip_special = skip_special };
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n && !rc; i++)
        rc = fs_detok_push(&d, ids[i], out, err);
    return rc ? rc : fs_detok_flush(&d, out, err);
}
