/* The small grammars of HTTP: percent-encoding, queries, ranges, dates. */
#ifndef FS_NET_URL_H
#define FS_NET_URL_H

#include "base/mem.h"

#include <time.h>

/* Decodes text into ret [text.n_bytes + 1] and ends it with a NUL; false for a broken escape or U+0000. plus: '+' is a blank. */
bool fs_url_decode(fs_bytes text, bool plus, char *ret);
/* Appends text with all but letters, digits, "-._~" and the characters of keep as escapes. */
fs_status fs_url_encode(fs_buf *out, fs_bytes text, const char *keep, fs_error *err);

/* The next "name=value" of a query or a form, undecoded; false at the end. */
bool fs_url_next_pair(fs_bytes *rest, fs_bytes *ret_name, fs_bytes *ret_value);

typedef struct fs_http_range {
    uint64_t begin, n_bytes;
} fs_http_range;

#define FS_HTTP_RANGES_MAX 256
/* The ranges of a Range header over a body of size bytes that have any byte, in order. Returns how many; 0: the header is none
 * of "bytes" or broken, and is to be ignored; -1: none of them has a byte (416). At most FS_HTTP_RANGES_MAX are taken, more are 0. */
int fs_http_ranges(const char *header, uint64_t size, fs_http_range ret[FS_HTTP_RANGES_MAX]);

/* "2026-01-31T09:30:00.000Z" of milliseconds since 1970. */
void fs_iso_time(int64_t ms, char ret[32]);
int64_t fs_unix_ms(void);

#endif
