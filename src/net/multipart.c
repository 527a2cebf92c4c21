/* See the header. A boundary has no line end, so that a delimiter that breaks off can begin anew at the byte that broke it only: what was matched is
 * content, and nothing needs to be kept to look at it again. */
#include "net/multipart.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { PREAMBLE, BEHIND, HEAD, CONTENT, EPILOGUE };

bool fs_multipart_boundary(const char *content_type, char ret[FS_MULTIPART_BOUNDARY_MAX + 1])
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'()+_,-./:=? ";
    const char *p = content_type;
    size_t n;

    if (!p || strncasecmp(p, "multipart/form-data", 19) != 0)
        return false;
    for (p += 19;;) {
        p += strspn(p, " \t");
        if (*p++ != ';')
            return false;
        p += strspn(p, " \t");
        if (strncasecmp(p, "boundary=", 9) == 0)
            break;
        p += strcspn(p, ";");
    }
    p += 9;
    n = *p == '"' ? strcspn(++p, "\"") : strcspn(p, "; \t");
    if (n == 0 || n > FS_MULTIPART_BOUNDARY_MAX || strspn(p, allowed) < n || p[n - 1] == ' ')
        return false;
    memcpy(ret, p, n);
    ret[n] = 0;
    return true;
}

void fs_multipart_init(fs_multipart *m, const char *boundary, const fs_multipart_sink *sink)
{
    *m = (fs_multipart){ .sink = *sink, .state = PREAMBLE, .n_matched = 2 }; /* the first boundary needs no line end before it */
    m->n_delimiter = (size_t)snprintf(m->delimiter, sizeof m->delimiter, "\r\n--%s", boundary);
}

void fs_multipart_done(fs_multipart *m)
{
    fs_buf_done(&m->head);
}

/* ---- a part's header ---- */

/* A quoted string at p, with the three escapes of browsers and \" of others, into ret; where it ends, NULL: nowhere. ret may be p's own memory. */
static const char *unquote(const char *p, char *ret)
{
    static const char *const escapes[] = { "%22\"", "%0D\r", "%0A\n" };

    for (; *p != '"'; p++) {
        char c = *p;
        if (!c)
            return NULL;
        if (c == '\\' && p[1] == '"')
            c = *++p;
        for (size_t i = 0; i < 3 && *p == '%'; i++)
            if (strncasecmp(p, escapes[i], 3) == 0) {
                c = escapes[i][3];
                p += 2;
                break;
            }
        *ret++ = c;
    }
    *ret = 0;
    return p + 1;
}

/* form-data; name="a"; filename="b" */
static bool read_disposition(char *text, char **ret_name, char **ret_filename)
{
    char *p = text;

    if (strncasecmp(p, "form-data", 9) != 0)
        return false;
    p += 9;
    for (;;) {
        char *key, *value, **to;
        size_t n;
        p += strspn(p, " \t");
        if (!*p)
            return true;
        if (*p++ != ';')
            return false;
        p += strspn(p, " \t");
        key = p;
        n = strcspn(p, "=; \t");
        p += n;
        if (*p++ != '=')
            return false;
        value = p;
        to = n == 4 && strncasecmp(key, "name", n) == 0 ? ret_name : n == 8 && strncasecmp(key, "filename", n) == 0 ? ret_filename : NULL;
        if (*p == '"') {
            const char *end = unquote(p + 1, value);
            if (!end || (to && *to))
                return false;
            p = text + (end - text);
        } else {
            p += strcspn(p, "; \t");
            if (to)
                return false; /* no browser leaves the quotes out */
        }
        if (to)
            *to = value;
    }
}

static fs_status begin_part(fs_multipart *m, fs_error *err)
{
    char *name = NULL, *filename = NULL, *line = m->head.data, *next;
    bool found = false;

    if (memchr(line, 0, m->head.n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "multipart: a part's header has a NUL");
    for (; *line; line = next) {
        char *end = strstr(line, "\r\n"); /* one stands at the end */
        *end = 0;
        next = end + 2;
        if (strncasecmp(line, "Content-Disposition:", 20) != 0)
            continue;
        if (found || !read_disposition(line + 20 + strspn(line + 20, " \t"), &name, &filename))
            return fs_fail(err, FS_ERR_FORMAT, "multipart: a part's Content-Disposition is not that of a form");
        found = true;
    }
    if (!name)
        return fs_fail(err, FS_ERR_FORMAT, "multipart: a part has no name");
    m->in_part = true;
    return m->sink.begin(m->sink.ud, name, filename, err);
}

/* ---- the bytes ---- */

static fs_status take_content(fs_multipart *m, const void *data, size_t n_bytes, fs_error *err)
{
    return m->in_part && n_bytes ? m->sink.data(m->sink.ud, data, n_bytes, err) : FS_OK;
}

/* Up to the end of the next delimiter. */
static fs_status feed_content(fs_multipart *m, const char **p, const char *end, fs_error *err)
{
    while (*p < end) {
        if (m->n_matched == 0) {
            const char *cr = memchr(*p, '\r', (size_t)(end - *p));
            fs_status rc = take_content(m, *p, (size_t)((cr ? cr : end) - *p), err);
            *p = cr ? cr + 1 : end;
            m->n_matched = cr ? 1 : 0;
            if (rc)
                return rc;
        } else if (**p == m->delimiter[m->n_matched]) {
            (*p)++;
            if (++m->n_matched < m->n_delimiter)
                continue;
            m->n_matched = 0;
            m->dash = false;
            m->state = BEHIND;
            if (!m->in_part)
                return FS_OK;
            m->in_part = false;
            return m->sink.end(m->sink.ud, err);
        } else {
            fs_status rc = take_content(m, m->delimiter, m->n_matched, err);
            m->n_matched = 0;
            if (rc)
                return rc;
        }
    }
    return FS_OK;
}

/* Behind a boundary: "--" ends all; blanks and a line end begin a part. n_matched 1: the '\r' was there. */
static fs_status feed_behind(fs_multipart *m, char c, fs_error *err)
{
    if (m->dash && c == '-') {
        m->state = EPILOGUE;
    } else if (m->n_matched && c == '\n') {
        m->n_matched = 0;
        m->state = HEAD;
        fs_buf_clear(&m->head);
    } else if (!m->dash && !m->n_matched && c == '\r') {
        m->n_matched = 1;
    } else if (!m->dash && !m->n_matched && c == '-') {
        m->dash = true;
    } else if (m->dash || m->n_matched || (c != ' ' && c != '\t')) {
        return fs_fail(err, FS_ERR_FORMAT, "multipart: a boundary is followed by something else");
    }
    return FS_OK;
}

static fs_status feed_head(fs_multipart *m, const char **p, const char *end, fs_error *err)
{
    while (*p < end) {
        size_t n = m->head.n_bytes;
        fs_status rc = n < FS_MULTIPART_HEAD_BYTES_MAX ? fs_buf_append(&m->head, *p, 1, err)
                                                       : fs_fail(err, FS_ERR_FORMAT, "multipart: a part's header has more than %zu bytes", FS_MULTIPART_HEAD_BYTES_MAX);
        if (rc)
            return rc;
        n++;
        if (*(*p)++ != '\n')
            continue;
        if (n < 2 || m->head.data[n - 2] != '\r')
            return fs_fail(err, FS_ERR_FORMAT, "multipart: a line of a part's header does not end with CR LF");
        if (n == 2 || (n >= 4 && memcmp(m->head.data + n - 4, "\r\n\r\n", 4) == 0)) {
            m->head.n_bytes -= 2; /* the empty line */
            m->head.data[m->head.n_bytes] = 0;
            m->state = CONTENT;
            m->n_matched = 0;
            return begin_part(m, err);
        }
    }
    return FS_OK;
}

fs_status fs_multipart_feed(fs_multipart *m, const void *data, size_t n_bytes, fs_error *err)
{
    const char *p = data, *end = p + n_bytes;
    fs_status rc = FS_OK;

    while (p < end && !rc && m->state != EPILOGUE)
        rc = m->state == BEHIND ? feed_behind(m, *p++, err) : m->state == HEAD ? feed_head(m, &p, end, err) : feed_content(m, &p, end, err);
    return rc;
}

fs_status fs_multipart_end(fs_multipart *m, fs_error *err)
{
    return m->state == EPILOGUE ? FS_OK : fs_fail(err, FS_ERR_FORMAT, "multipart: the form is cut short");
}
