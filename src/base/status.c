/* Error sentences. fs_error lives in the caller's storage, so failing never allocates. */
#include "base/status.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Drops a UTF-8 character that vsnprintf cut in half. */
static void trim_partial(char *s)
{
    size_t n = strlen(s), back = 0;

    while (back < n && back < 4 && ((unsigned char)s[n - 1 - back] & 0xc0) == 0x80)
        back++;
    if (back < n) {
        unsigned char c = (unsigned char)s[n - 1 - back];
        size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        if (c >= 0xc0 && need != back + 1)
            s[n - 1 - back] = 0;
    }
}

/* Sentences quote names out of files; what they hold must not break the line or steer a terminal. */
static void disarm(char *s)
{
    for (unsigned char *p = (unsigned char *)s; *p; p++) {
        if (*p < 0x20 || *p == 0x7f)
            *p = '?';
        if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) /* U+0080 to U+009F */
            p[0] = p[1] = '?';
    }
}

static void fill(fs_error *err, fs_status code, const char *format, va_list ap)
{
    err->code = code;
    if (vsnprintf(err->message, sizeof err->message, format, ap) >= (int)sizeof err->message)
        trim_partial(err->message);
    disarm(err->message);
}

fs_status fs_fail_va(fs_error *err, fs_status code, const char *format, va_list ap)
{
    if (err)
        fill(err, code, format, ap);
    return code;
}

fs_status fs_fail(fs_error *err, fs_status code, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fs_fail_va(err, code, format, ap);
    va_end(ap);
    return code;
}

fs_status fs_fail_errno(fs_error *err, int saved_errno, const char *format, ...)
{
    if (err) {
        va_list ap;
        size_t n;
        va_start(ap, format);
        fill(err, FS_ERR_IO, format, ap);
        va_end(ap);
        n = strlen(err->message);
        snprintf(err->message + n, sizeof err->message - n, ": %s", strerror(saved_errno));
        trim_partial(err->message);
    }
    return FS_ERR_IO;
}

fs_status fs_fail_prefix(fs_error *err, const char *format, ...)
{
    char tail[sizeof err->message];
    va_list ap;
    size_t n;

    if (!err)
        return FS_ERR_FORMAT;
    memcpy(tail, err->message, sizeof tail);
    va_start(ap, format);
    fill(err, err->code, format, ap);
    va_end(ap);
    n = strlen(err->message);
    snprintf(err->message + n, sizeof err->message - n, ": %.*s", (int)sizeof tail, tail);
    trim_partial(err->message);
    return err->code;
}

void fs_fail_in(fs_error *err, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t n = strlen(name);

    if (!err || strstr(err->message, path) != NULL) /* true of a path without folders too */
        return;
    if (n && strncmp(err->message, name, n) == 0 && strncmp(err->message + n, ": ", 2) == 0)
        memmove(err->message, err->message + n + 2, strlen(err->message + n + 2) + 1);
    fs_fail_prefix(err, "'%.250s'", path);
}

fs_status fs_fail_memory(fs_error *err, size_t n_bytes)
{
    return fs_fail(err, FS_ERR_MEMORY, "out of memory: %zu bytes", n_bytes);
}
