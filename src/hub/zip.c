/* See the header. */
#include "hub/zip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define END_BYTES   22
#define END64_BYTES 56
#define ENTRY_BYTES 46
#define LOCAL_BYTES 30

static uint64_t le(const uint8_t *p, int n)
{
    uint64_t x = 0;

    while (n-- > 0)
        x = x << 8 | p[n];
    return x;
}

static bool is_tag(fs_bytes file, uint64_t at, uint64_t n_bytes, const char *tag)
{
    return at <= file.n_bytes && n_bytes <= file.n_bytes - at && memcmp(file.data + at, tag, 4) == 0;
}

fs_status fs_zip_open(fs_bytes file, fs_zip *ret, fs_error *err)
{
    uint64_t n = file.n_bytes, end = 0, least = n > END_BYTES + 65535 ? n - END_BYTES - 65535 : 0, size, offset, place;
    bool found = false;

    for (uint64_t i = n; n >= END_BYTES && i-- > least && !found;)
        if (i + END_BYTES <= n && is_tag(file, i, END_BYTES, "PK\5\6") && le(file.data + i + 20, 2) <= n - i - END_BYTES) {
            end = i;
            found = true;
        }
    if (!found)
        return fs_fail(err, FS_ERR_NOT_FOUND, "no zip");
    size = le(file.data + end + 12, 4);
    offset = le(file.data + end + 16, 4);
    if (end >= 20 && is_tag(file, end - 20, 20, "PK\6\7")) { /* of 64 bits, right before its locator or where that says */
        place = le(file.data + end - 12, 8);
        if (end >= 20 + END64_BYTES && is_tag(file, end - 20 - END64_BYTES, END64_BYTES, "PK\6\6"))
            place = end - 20 - END64_BYTES;
        if (!is_tag(file, place, END64_BYTES, "PK\6\6"))
            return fs_fail(err, FS_ERR_FORMAT, "zip: no directory where its end says");
        size = le(file.data + place + 40, 8);
        offset = le(file.data + place + 48, 8);
        end = place;
    }
    if (size > end || offset > end - size)
        return fs_fail(err, FS_ERR_FORMAT, "zip: its directory lies outside");
    *ret = (fs_zip){ .file = file, .at = end - size, .end = end, .base = end - size - offset };
    return FS_OK;
}

/* Sizes and place of 64 bits, from the entry's extra field. */
static fs_status read_extra(fs_bytes extra, uint64_t *n_bytes, uint64_t *n_packed, uint64_t *offset, fs_error *err)
{
    uint64_t *const wanted[] = { n_bytes, n_packed, offset };

    while (extra.n_bytes >= 4) {
        uint64_t id = le(extra.data, 2), n = le(extra.data + 2, 2), at = 4;
        if (n > extra.n_bytes - 4)
            break;
        if (id == 1) {
            for (int i = 0; i < 3; i++)
                if (*wanted[i] == UINT32_MAX) {
                    if (at - 4 + 8 > n)
                        return fs_fail(err, FS_ERR_FORMAT, "zip: an entry has no size");
                    *wanted[i] = le(extra.data + at, 8);
                    at += 8;
                }
            return FS_OK;
        }
        extra = (fs_bytes){ extra.data + 4 + n, extra.n_bytes - 4 - n };
    }
    return FS_OK;
}

fs_status fs_zip_next(fs_zip *z, fs_zip_entry *ret, bool *ret_more, fs_error *err)
{
    const uint8_t *e = z->file.data + z->at;
    uint64_t left = z->end - z->at, n_name, n_extra, n_comment, n_bytes, n_packed, offset, method, flags, begin;
    fs_status rc;

    *ret_more = false;
    if (left == 0)
        return FS_OK;
    if (left < ENTRY_BYTES || memcmp(e, "PK\1\2", 4) != 0)
        return fs_fail(err, FS_ERR_FORMAT, "zip: its directory breaks off");
    flags = le(e + 8, 2);
    method = le(e + 10, 2);
    n_packed = le(e + 20, 4);
    n_bytes = le(e + 24, 4);
    n_name = le(e + 28, 2);
    n_extra = le(e + 30, 2);
    n_comment = le(e + 32, 2);
    offset = le(e + 42, 4);
    if (n_name + n_extra + n_comment > left - ENTRY_BYTES)
        return fs_fail(err, FS_ERR_FORMAT, "zip: its directory breaks off");
    rc = read_extra((fs_bytes){ e + ENTRY_BYTES + n_name, n_extra }, &n_bytes, &n_packed, &offset, err);
    if (rc)
        return rc;
    if (flags & 1)
        return fs_fail(err, FS_ERR_FORMAT, "zip: an entry is encrypted");
    if (method != 0 && method != 8)
        return fs_fail(err, FS_ERR_FORMAT, "zip: an entry is packed by method %llu", (unsigned long long)method);
    begin = z->base + offset;
    if (begin < offset || !is_tag(z->file, begin, LOCAL_BYTES, "PK\3\4"))
        return fs_fail(err, FS_ERR_FORMAT, "zip: an entry is not where the directory says");
    begin += LOCAL_BYTES + le(z->file.data + begin + 26, 2) + le(z->file.data + begin + 28, 2);
    if (begin > z->file.n_bytes || n_packed > z->file.n_bytes - begin || (method == 0 && n_packed != n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "zip: an entry leaves the file");
    *ret = (fs_zip_entry){ { e + ENTRY_BYTES, (size_t)n_name }, n_bytes, { z->file.data + begin, (size_t)n_packed }, method == 8 };
    z->at += ENTRY_BYTES + n_name + n_extra + n_comment;
    *ret_more = true;
    return FS_OK;
}

fs_status fs_zip_read(const fs_zip_entry *e, size_t max_bytes, fs_buf *buf, fs_bytes *ret, fs_error *err)
{
    z_stream z = { 0 };
    uint8_t piece[16384];
    size_t taken = 0;
    int status = Z_OK;
    fs_status rc = FS_OK;

    if (!e->deflated) {
        *ret = (fs_bytes){ e->packed.data, e->packed.n_bytes < max_bytes ? e->packed.n_bytes : max_bytes };
        return FS_OK;
    }
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return fs_fail_memory(err, 1 << 16);
    fs_buf_clear(buf);
    while (!rc && status == Z_OK && buf->n_bytes < max_bytes) {
        if (z.avail_in == 0 && taken < e->packed.n_bytes) {
            size_t n = e->packed.n_bytes - taken < ((size_t)1 << 30) ? e->packed.n_bytes - taken : (size_t)1 << 30;
            z.next_in = (Bytef *)(uintptr_t)(e->packed.data + taken);
            z.avail_in = (uInt)n;
            taken += n;
        }
        z.next_out = piece;
        z.avail_out = sizeof piece;
        status = inflate(&z, Z_NO_FLUSH);
        rc = fs_buf_append(buf, piece, sizeof piece - z.avail_out, err);
    }
    inflateEnd(&z);
    if (!rc && status != Z_OK && status != Z_STREAM_END)
        rc = fs_fail(err, FS_ERR_FORMAT, "zip: an entry cannot be unpacked");
    *ret = fs_buf_bytes(buf);
    return rc;
}
