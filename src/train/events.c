/* See the header. */
#include "train/events.h"

#include <string.h>

#define VERSION "brain.Event:2"

/* CRC-32C (Castagnoli), bit by bit: an event has some hundred bytes. */
static uint32_t crc32c(const uint8_t *p, size_t n)
{
    uint32_t c = 0xffffffff;

    while (n--) {
        c ^= *p++;
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0x82f63b78 : 0);
    }
    return ~c;
}

static uint32_t masked(const void *p, size_t n)
{
    uint32_t c = crc32c(p, n);

    return (c >> 15 | c << 17) + 0xa282ead8;
}

static fs_status put_le(fs_buf *b, uint64_t v, size_t n_bytes, fs_error *err)
{
    uint8_t le[8];

    for (size_t i = 0; i < n_bytes; i++)
        le[i] = (uint8_t)(v >> 8 * i);
    return fs_buf_append(b, le, n_bytes, err);
}

static fs_status put_varint(fs_buf *b, uint64_t v, fs_error *err)
{
    fs_status rc = FS_OK;

    for (; v > 127 && !rc; v >>= 7)
        rc = put_le(b, (v & 127) | 128, 1, err);
    return rc ? rc : put_le(b, v, 1, err);
}

static fs_status put_double(fs_buf *b, unsigned key, double v, fs_error *err)
{
    uint64_t bits;
    fs_status rc = put_le(b, key, 1, err);

    memcpy(&bits, &v, 8);
    return rc ? rc : put_le(b, bits, 8, err);
}

static fs_status put_span(fs_buf *b, unsigned key, const void *data, size_t n, fs_error *err)
{
    fs_status rc = put_le(b, key, 1, err);

    if (!rc)
        rc = put_varint(b, n, err);
    return rc ? rc : fs_buf_append(b, data, n, err);
}

static fs_status put_record(fs_buf *out, const fs_buf *event, fs_error *err)
{
    uint8_t n[8];
    fs_status rc;

    for (int i = 0; i < 8; i++)
        n[i] = (uint8_t)((uint64_t)event->n_bytes >> 8 * i);
    rc = fs_buf_append(out, n, 8, err);
    if (!rc)
        rc = put_le(out, masked(n, 8), 4, err);
    if (!rc)
        rc = fs_buf_append(out, event->data, event->n_bytes, err);
    return rc ? rc : put_le(out, masked(event->data, event->n_bytes), 4, err);
}

/* wire types: key = field << 3 | type; 0 varint, 1 64 bits, 2 span, 5 32 bits */
fs_status fs_events_begin(fs_buf *out, double wall, fs_error *err)
{
    fs_buf e = { 0 };
    fs_status rc = put_double(&e, 1 << 3 | 1, wall, err);

    if (!rc)
        rc = put_span(&e, 3 << 3 | 2, VERSION, strlen(VERSION), err);
    if (!rc)
        rc = put_record(out, &e, err);
    fs_buf_done(&e);
    return rc;
}

static fs_status put_value(fs_buf *summary, const char *tag, double value, fs_error *err)
{
    fs_buf v = { 0 };
    float f = (float)value;
    uint32_t bits;
    fs_status rc = put_span(&v, 1 << 3 | 2, tag, strlen(tag), err);

    memcpy(&bits, &f, 4);
    if (!rc)
        rc = put_le(&v, 2 << 3 | 5, 1, err);
    if (!rc)
        rc = put_le(&v, bits, 4, err);
    if (!rc)
        rc = put_span(summary, 1 << 3 | 2, v.data, v.n_bytes, err);
    fs_buf_done(&v);
    return rc;
}

fs_status fs_events_put(fs_buf *out, double wall, uint64_t step, const char *const *tags, const double *values, size_t n, fs_error *err)
{
    fs_buf e = { 0 }, summary = { 0 };
    fs_status rc = put_double(&e, 1 << 3 | 1, wall, err);

    if (!rc)
        rc = put_le(&e, 2 << 3 | 0, 1, err);
    if (!rc)
        rc = put_varint(&e, step, err);
    for (size_t i = 0; i < n && !rc; i++)
        rc = put_value(&summary, tags[i], values[i], err);
    if (!rc && n > 0)
        rc = put_span(&e, 5 << 3 | 2, summary.data, summary.n_bytes, err);
    if (!rc)
        rc = put_record(out, &e, err);
    fs_buf_done(&e);
    fs_buf_done(&summary);
    return rc;
}
