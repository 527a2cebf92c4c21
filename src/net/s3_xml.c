/* See the header. */
#include "net/s3_xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const uint8_t *find(fs_bytes in, const char *text)
{
    return in.n_bytes ? memmem(in.data, in.n_bytes, text, strlen(text)) : NULL;
}

static fs_bytes behind(fs_bytes in, const uint8_t *at)
{
    return (fs_bytes){ at, in.n_bytes - (size_t)(at - in.data) };
}

bool fs_s3_xml_next(fs_bytes *rest, const char *name, fs_bytes *ret)
{
    char open[64], close[64];
    const uint8_t *begin, *end;
    fs_bytes inner;

    snprintf(open, sizeof open, "<%s>", name);
    snprintf(close, sizeof close, "</%s>", name);
    begin = find(*rest, open);
    if (!begin)
        return false;
    inner = behind(*rest, begin + strlen(open));
    end = find(inner, close);
    if (!end)
        return false;
    *ret = (fs_bytes){ inner.data, (size_t)(end - inner.data) };
    *rest = behind(inner, end + strlen(close));
    return true;
}

/* The character that an entity at the beginning of s is, and its bytes; 1 and the byte itself where there is none. */
static size_t read_char(fs_bytes s, char *ret)
{
    static const struct {
        const char *text;
        char c;
    } entities[] = { { "&amp;", '&' }, { "&lt;", '<' }, { "&gt;", '>' }, { "&quot;", '"' }, { "&apos;", '\'' }, { "&#34;", '"' }, { "&#39;", '\'' } };

    *ret = (char)s.data[0];
    for (size_t i = 0; *ret == '&' && i < sizeof entities / sizeof *entities; i++) {
        size_t n = strlen(entities[i].text);
        if (s.n_bytes >= n && memcmp(s.data, entities[i].text, n) == 0) {
            *ret = entities[i].c;
            return n;
        }
    }
    return 1;
}

bool fs_s3_xml_text(fs_bytes within, const char *name, char *ret, size_t capacity)
{
    fs_bytes text;
    size_t n = 0;

    if (!fs_s3_xml_next(&within, name, &text))
        return false;
    while (text.n_bytes) {
        char c;
        size_t taken = text.data[0] == '<' ? 0 : read_char(text, &c);
        if (!taken || !c || n + 1 >= capacity)
            return false;
        ret[n++] = c;
        text = (fs_bytes){ text.data + taken, text.n_bytes - taken };
    }
    ret[n] = 0;
    return true;
}

bool fs_s3_number(const char *text, uint64_t *ret)
{
    size_t n = strspn(text, "0123456789");
    uint64_t value;

    if (n < 1 || n > 19 || text[n])
        return false;
    value = strtoull(text, NULL, 10); /* 19 digits fit */
    if (value > INT64_MAX)
        return false;
    *ret = value;
    return true;
}

bool fs_s3_key_is_plain(const char *key)
{
    for (const char *p = key;; p++) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        for (size_t i = 0; i < n; i++)
            if (!((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z') || (p[i] >= '0' && p[i] <= '9') || strchr("-._", p[i])))
                return false;
        p += n;
        if (!*p)
            return true;
    }
}

/* "2013-05-24T00:00:00.000Z"; what cannot be read is now, so that nobody takes it for old. */
static int64_t read_time(const char *text)
{
    struct tm tm = { 0 };

    return strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) ? (int64_t)timegm(&tm) * 1000 : (int64_t)time(NULL) * 1000;
}

/* The key behind the prefix; NULL: it is none of ours. */
static const char *own_key(const char *key, const char *prefix)
{
    size_t n = strlen(prefix);

    return strncmp(key, prefix, n) == 0 && fs_s3_key_is_plain(key) && key[n] ? key + n : NULL;
}

static fs_status need_list(fs_bytes answer, const char *root, fs_error *err)
{
    char open[64], close[64];

    snprintf(open, sizeof open, "<%s", root);
    snprintf(close, sizeof close, "</%s>", root);
    return find(answer, open) && find(answer, close) ? FS_OK : fs_fail(err, FS_ERR_IO, "the S3 store was asked for a list and answers something else");
}

static fs_status unreadable(fs_error *err)
{
    return fs_fail(err, FS_ERR_IO, "the S3 store's list cannot be read");
}

fs_status fs_s3_list_read(fs_bytes answer, const char *prefix, fs_s3_list_fn *fn, void *ud, char ret_more[FS_S3_TOKEN_BYTES], fs_error *err)
{
    char key[FS_S3_KEY_BYTES], size[24], date[40], more[8];
    fs_bytes rest = answer, object;
    uint64_t n_bytes = 0;
    fs_status rc = need_list(answer, "ListBucketResult", err);

    ret_more[0] = 0;
    while (!rc && fs_s3_xml_next(&rest, "Contents", &object)) {
        if (!fs_s3_xml_text(object, "Key", key, sizeof key) || !fs_s3_xml_text(object, "Size", size, sizeof size) || !fs_s3_number(size, &n_bytes) ||
            !fs_s3_xml_text(object, "LastModified", date, sizeof date))
            rc = unreadable(err);
        else if (own_key(key, prefix))
            rc = fn(ud, own_key(key, prefix), n_bytes, read_time(date), err);
    }
    if (!rc && find(rest, "<Contents>"))
        rc = unreadable(err);
    if (!rc && fs_s3_xml_text(answer, "IsTruncated", more, sizeof more) && strcmp(more, "true") == 0 &&
        (!fs_s3_xml_text(answer, "NextContinuationToken", ret_more, FS_S3_TOKEN_BYTES) || !*ret_more))
        rc = unreadable(err);
    if (rc)
        ret_more[0] = 0;
    return rc;
}

fs_status fs_s3_uploads_read(fs_bytes answer, const char *prefix, fs_s3_uploads_fn *fn, void *ud, fs_error *err)
{
    char key[FS_S3_KEY_BYTES], upload[FS_S3_UPLOAD_BYTES], date[40];
    fs_bytes rest = answer, one;
    fs_status rc = need_list(answer, "ListMultipartUploadsResult", err);

    while (!rc && fs_s3_xml_next(&rest, "Upload", &one)) {
        if (!fs_s3_xml_text(one, "Key", key, sizeof key) || !fs_s3_xml_text(one, "UploadId", upload, sizeof upload) || !*upload ||
            !fs_s3_xml_text(one, "Initiated", date, sizeof date))
            rc = unreadable(err);
        else if (own_key(key, prefix))
            rc = fn(ud, own_key(key, prefix), upload, read_time(date), err);
    }
    if (!rc && find(rest, "<Upload>"))
        rc = unreadable(err);
    return rc;
}

fs_status fs_s3_upload_read(fs_bytes answer, char ret_upload[FS_S3_UPLOAD_BYTES], fs_error *err)
{
    char upload[FS_S3_UPLOAD_BYTES];

    if (!fs_s3_xml_text(answer, "UploadId", upload, sizeof upload) || !*upload)
        return fs_fail(err, FS_ERR_IO, "the S3 store began an upload without a name for it");
    snprintf(ret_upload, FS_S3_UPLOAD_BYTES, "%s", upload);
    return FS_OK;
}

fs_status fs_s3_completed_read(fs_bytes answer, fs_error *err)
{
    return find(answer, "<CompleteMultipartUploadResult") ? FS_OK : fs_fail(err, FS_ERR_IO, "the S3 store was asked to complete an upload and answers something else");
}

bool fs_s3_error_read(fs_bytes answer, char ret_code[100], char ret_message[300])
{
    fs_bytes rest = answer, error;
    bool is = fs_s3_xml_next(&rest, "Error", &error);

    if (!is || !fs_s3_xml_text(error, "Code", ret_code, 100))
        ret_code[0] = 0;
    if (!is || !fs_s3_xml_text(error, "Message", ret_message, 300))
        ret_message[0] = 0;
    return is || find(answer, "<Error>");
}
