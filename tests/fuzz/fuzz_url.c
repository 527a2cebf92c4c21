/* Any text as an escaped string, a query and a Range header: escapes go back and forth, ranges lie within the body. */
#include "fuzz/fuzz.h"

#include "net/url.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const uint64_t size = n_bytes > 0 ? (uint64_t)data[0] << (data[0] % 57) : 0;
    fs_bytes text = { data, n_bytes }, rest = text, name, value;
    char *copy = malloc(n_bytes + 1), *decoded = malloc(3 * n_bytes + 1);
    fs_http_range ranges[FS_HTTP_RANGES_MAX];
    fs_buf encoded = { 0 };
    size_t n_left = n_bytes;
    int n;

    if (n_bytes)
        memcpy(copy, data, n_bytes);
    copy[n_bytes] = 0;
    n = fs_http_ranges(copy, size, ranges);
    HOLDS(n >= -1 && n <= FS_HTTP_RANGES_MAX);
    for (int i = 0; i < n; i++)
        HOLDS(ranges[i].n_bytes > 0 && ranges[i].begin < size && ranges[i].n_bytes <= size - ranges[i].begin);
    while (fs_url_next_pair(&rest, &name, &value)) {
        HOLDS(rest.n_bytes < n_left);
        n_left = rest.n_bytes;
    }
    if (fs_url_decode(text, false, decoded))
        HOLDS(strlen(decoded) <= n_bytes);
    if (n_bytes && !memchr(data, 0, n_bytes)) {
        HOLDS(fs_url_encode(&encoded, text, "/", NULL) == FS_OK);
        HOLDS(fs_url_decode(fs_buf_bytes(&encoded), false, decoded) && strcmp(decoded, copy) == 0);
    }
    fs_buf_done(&encoded);
    free(copy);
    free(decoded);
    return 0;
}
