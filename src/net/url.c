/* See the header. RFC 3986 (escapes), RFC 9110 section 14 (ranges). */
#include "net/url.h"

#include <stdio.h>
#include <string.h>

static int digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool fs_url_decode(fs_bytes text, bool plus, char *ret)
{
    size_t n = 0;

    for (size_t i = 0; i < text.n_bytes; i++) {
        uint8_t c = text.data[i];
        if (c == '%') {
            int high = text.n_bytes - i > 2 ? digit(text.data[i + 1]) : -1, low = high >= 0 ? digit(text.data[i + 2]) : -1;
            if (low < 0)
                return false;
            c = (uint8_t)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c == 0)
            return false;
        ret[n++] = (char)c;
    }
    ret[n] = 0;
    return true;
}

static bool is_plain(uint8_t c, const char *keep)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-._~", c)) || (c && strchr(keep, c));
}

fs_status fs_url_encode(fs_buf *out, fs_bytes text, const char *keep, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < text.n_bytes && !rc; i++)
        rc = is_plain(text.data[i], keep) ? fs_buf_append(out, text.data + i, 1, err) : fs_buf_printf(out, err, "%%%02X", text.data[i]);
    return rc;
}

bool fs_url_next_pair(fs_bytes *rest, fs_bytes *ret_name, fs_bytes *ret_value)
{
    const uint8_t *end, *equals;

    while (rest->n_bytes && rest->data[0] == '&') {
        rest->data++;
        rest->n_bytes--;
    }
    if (!rest->n_bytes)
        return false;
    end = memchr(rest->data, '&', rest->n_bytes);
    if (!end)
        end = rest->data + rest->n_bytes;
    equals = memchr(rest->data, '=', (size_t)(end - rest->data));
    *ret_name = (fs_bytes){ rest->data, (size_t)((equals ? equals : end) - rest->data) };
    *ret_value = equals ? (fs_bytes){ equals + 1, (size_t)(end - equals - 1) } : (fs_bytes){ end, 0 };
    rest->n_bytes -= (size_t)(end - rest->data);
    rest->data = end;
    return true;
}

/* Digits at *p, saturated; false: none. */
static bool number(const char **p, uint64_t *ret)
{
    uint64_t n = 0;

    if (**p < '0' || **p > '9')
        return false;
    for (; **p >= '0' && **p <= '9'; (*p)++) {
        uint64_t d = (uint64_t)(**p - '0');
        n = n > (UINT64_MAX - d) / 10 ? UINT64_MAX : n * 10 + d;
    }
    *ret = n;
    return true;
}

int fs_http_ranges(const char *header, uint64_t size, fs_http_range ret[FS_HTTP_RANGES_MAX])
{
    const char *p = header;
    int n = 0, n_specs = 0;

    if (!p || strncmp(p, "bytes=", 6) != 0)
        return 0;
    p += 6;
    for (;;) {
        uint64_t first = 0, last = UINT64_MAX;
        while (*p == ' ' || *p == '\t')
            p++;
        if (*p == '-') {
            p++;
            if (!number(&p, &last))
                return 0;
            first = last < size ? size - last : 0;
            last = last == 0 ? 0 : UINT64_MAX;
            if (last == 0)
                first = size; /* "-0" has no byte */
        } else {
            if (!number(&p, &first) || *p++ != '-')
                return 0;
            if (*p >= '0' && *p <= '9' && (!number(&p, &last) || last < first))
                return 0;
        }
        if (++n_specs > FS_HTTP_RANGES_MAX)
            return 0;
        if (first < size) {
            uint64_t end = last >= size ? size : last + 1;
            ret[n++] = (fs_http_range){ first, end - first };
        }
        while (*p == ' ' || *p == '\t')
            p++;
        if (!*p)
            break;
        if (*p++ != ',')
            return 0;
    }
    return n > 0 ? n : -1;
}

void fs_iso_time(int64_t ms, char ret[32])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm t;
    size_t n;

    gmtime_r(&seconds, &t);
    n = strftime(ret, 32, "%Y-%m-%dT%H:%M:%S", &t);
    snprintf(ret + n, 32 - n, ".%03dZ", (int)(ms % 1000));
}

int64_t fs_unix_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
