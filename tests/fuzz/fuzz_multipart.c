/* Any bytes as a browser's form with files, cut in pieces: refused with a sentence, or what the pieces give is what the whole gives. And the bytes as
 * a file of a form come out as they went in. */
#include "fuzz/fuzz.h"

#include "net/multipart.h"

#include <string.h>

#define BOUNDARY "x-9"

static fs_status begin(void *ud, const char *name, const char *filename, fs_error *err)
{
    return fs_buf_printf(ud, err, "<%s|%s|", name, filename ? filename : "-");
}

static fs_status data(void *ud, const void *bytes, size_t n_bytes, fs_error *err)
{
    HOLDS(n_bytes > 0);
    return fs_buf_append(ud, bytes, n_bytes, err);
}

static fs_status end(void *ud, fs_error *err)
{
    return fs_buf_append_str(ud, ">", err);
}

static fs_status read_in(fs_bytes body, const char *boundary, size_t piece, fs_buf *ret, fs_error *err)
{
    fs_multipart_sink sink = { begin, data, end, ret };
    fs_multipart m;
    fs_status rc = FS_OK;

    fs_multipart_init(&m, boundary, &sink);
    for (size_t i = 0; i < body.n_bytes && !rc; i += piece)
        rc = fs_multipart_feed(&m, body.data + i, piece < body.n_bytes - i ? piece : body.n_bytes - i, err);
    if (!rc)
        rc = fs_multipart_end(&m, err);
    fs_multipart_done(&m);
    return rc;
}

static void comes_out_again(fs_bytes content)
{
    static const char before[] = "--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nv\r\n--" BOUNDARY
                                 "\r\nContent-Disposition: form-data; name=\"f\"; filename=\"%22.bin\"\r\nContent-Type: x/y\r\n\r\n";
    fs_buf body = { 0 }, want = { 0 }, got = { 0 };
    fs_error err;

    if (content.n_bytes && memmem(content.data, content.n_bytes, "--" BOUNDARY, 2 + strlen(BOUNDARY)))
        return;
    HOLDS(fs_buf_append_str(&body, before, NULL) == FS_OK && fs_buf_append(&body, content.data, content.n_bytes, NULL) == FS_OK &&
          fs_buf_append_str(&body, "\r\n--" BOUNDARY "--\r\n", NULL) == FS_OK);
    HOLDS(fs_buf_append_str(&want, "<a|-|v><f|\".bin|", NULL) == FS_OK && fs_buf_append(&want, content.data, content.n_bytes, NULL) == FS_OK &&
          fs_buf_append_str(&want, ">", NULL) == FS_OK);
    HOLDS(read_in(fs_buf_bytes(&body), BOUNDARY, content.n_bytes % 5 + 1, &got, &err) == FS_OK && fs_bytes_equal(fs_buf_bytes(&got), fs_buf_bytes(&want)));
    fs_buf_done(&body);
    fs_buf_done(&want);
    fs_buf_done(&got);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    const uint8_t *line = n_bytes ? memchr(bytes, '\n', n_bytes) : NULL; /* the first line is the Content-Type */
    size_t n_type = line ? (size_t)(line - bytes) : 0;
    char *type = malloc(n_type + 1), boundary[FS_MULTIPART_BOUNDARY_MAX + 1] = BOUNDARY;
    fs_bytes body = line ? (fs_bytes){ line + 1, n_bytes - n_type - 1 } : (fs_bytes){ bytes, n_bytes };
    fs_buf whole = { 0 }, pieces = { 0 };
    fs_error err = { 0 };
    fs_status rc;

    memcpy(type, bytes ? bytes : (const uint8_t *)"", n_type);
    type[n_type] = 0;
    if (fs_multipart_boundary(type, boundary))
        HOLDS(*boundary && !strpbrk(boundary, "\r\n"));
    rc = read_in(body, boundary, body.n_bytes ? body.n_bytes : 1, &whole, &err);
    if (rc)
        failed_with_a_sentence(rc, &err);
    HOLDS(read_in(body, boundary, n_bytes % 7 + 1, &pieces, &err) == rc);
    HOLDS(rc || fs_bytes_equal(fs_buf_bytes(&whole), fs_buf_bytes(&pieces)));
    comes_out_again(body);
    fs_buf_done(&whole);
    fs_buf_done(&pieces);
    free(type);
    return 0;
}
