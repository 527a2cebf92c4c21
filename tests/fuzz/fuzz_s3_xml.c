/* Any bytes as the answer of an S3 store: a list is refused with a sentence, or has keys that are ours and plain; texts have their room. And what stands in the
 * bytes, escaped and put into answers, is read as it was. */
#include "fuzz/fuzz.h"

#include "net/s3_xml.h"

#include <string.h>

#define PREFIX "p/"

typedef struct seen {
    size_t n;
    char key[FS_S3_KEY_BYTES], upload[FS_S3_UPLOAD_BYTES];
    uint64_t n_bytes;
} seen;

static void is_ours(const char *key)
{
    HOLDS(*key && *key != '/' && strlen(key) < FS_S3_KEY_BYTES && fs_s3_key_is_plain(key));
    HOLDS(strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/") == strlen(key));
    HOLDS(strncmp(key, "../", 3) != 0 && !strstr(key, "/../") && !fs_ends_with(key, "/..") && !fs_ends_with(key, "/"));
}

static fs_status take_object(void *ud, const char *key, uint64_t n_bytes, int64_t ms, fs_error *err)
{
    seen *s = ud;

    (void)err;
    is_ours(key);
    HOLDS(n_bytes <= INT64_MAX && ms > -((int64_t)1 << 50) && ms < (int64_t)1 << 50);
    s->n++;
    s->n_bytes = n_bytes;
    snprintf(s->key, sizeof s->key, "%s", key);
    return FS_OK;
}

static fs_status take_upload(void *ud, const char *key, const char *upload, int64_t ms, fs_error *err)
{
    seen *s = ud;

    (void)err, (void)ms;
    is_ours(key);
    HOLDS(*upload && strlen(upload) < FS_S3_UPLOAD_BYTES);
    s->n++;
    snprintf(s->key, sizeof s->key, "%s", key);
    snprintf(s->upload, sizeof s->upload, "%s", upload);
    return FS_OK;
}

static void any_answer(fs_bytes answer)
{
    char more[FS_S3_TOKEN_BYTES] = "x", upload[FS_S3_UPLOAD_BYTES], code[100], message[300];
    seen objects = { 0 }, uploads = { 0 };
    fs_error err = { 0 };
    fs_status rc = fs_s3_list_read(answer, PREFIX, take_object, &objects, more, &err);

    HOLDS(strlen(more) < sizeof more && (!rc || !*more));
    if (rc)
        failed_with_a_sentence(rc, &err);
    HOLDS(objects.n <= answer.n_bytes / strlen("<Contents></Contents>"));
    rc = fs_s3_uploads_read(answer, PREFIX, take_upload, &uploads, &err);
    if (rc)
        failed_with_a_sentence(rc, &err);
    HOLDS(uploads.n <= answer.n_bytes / strlen("<Upload></Upload>"));
    rc = fs_s3_upload_read(answer, upload, &err);
    if (rc)
        failed_with_a_sentence(rc, &err);
    else
        HOLDS(*upload && strlen(upload) < sizeof upload);
    memset(code, 'x', sizeof code);
    memset(message, 'x', sizeof message);
    rc = fs_s3_completed_read(answer, &err);
    if (rc)
        failed_with_a_sentence(rc, &err);
    fs_s3_error_read(answer, code, message);
    HOLDS(strlen(code) < sizeof code && strlen(message) < sizeof message);
    failed_with_a_sentence(fs_fail(&err, FS_ERR_IO, "the store says: %s, %s", code, message), &err);
}

static void escape(fs_buf *out, fs_bytes text)
{
    for (size_t i = 0; i < text.n_bytes; i++) {
        const char c = (char)text.data[i];
        const char *entity = c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&quot;" : c == '\'' ? "&apos;" : NULL;
        HOLDS((entity ? fs_buf_append_str(out, entity, NULL) : fs_buf_append(out, &c, 1, NULL)) == FS_OK);
    }
}

/* The bytes as an upload's name, a token and a message; their number as a size. */
static void comes_back(fs_bytes text)
{
    char want[FS_S3_UPLOAD_BYTES], more[FS_S3_TOKEN_BYTES], upload[FS_S3_UPLOAD_BYTES], code[100], message[300];
    fs_buf escaped = { 0 }, answer = { 0 };
    seen s = { 0 };
    fs_error err = { 0 };

    if (text.n_bytes == 0 || text.n_bytes >= sizeof want || memchr(text.data, 0, text.n_bytes))
        return;
    memcpy(want, text.data, text.n_bytes);
    want[text.n_bytes] = 0;
    escape(&escaped, text);
    HOLDS(fs_buf_printf(&answer, NULL,
                        "<ListMultipartUploadsResult><Upload><Key>p/a/%zu</Key><UploadId>%s</UploadId><Initiated>2010-11-10T20:48:33.000Z</Initiated></Upload>"
                        "</ListMultipartUploadsResult>",
                        text.n_bytes, escaped.data) == FS_OK);
    HOLDS(fs_s3_uploads_read(fs_buf_bytes(&answer), PREFIX, take_upload, &s, &err) == FS_OK && s.n == 1 && strcmp(s.upload, want) == 0);
    HOLDS(fs_s3_upload_read(fs_buf_bytes(&answer), upload, &err) == FS_OK && strcmp(upload, want) == 0);
    fs_buf_clear(&answer);
    HOLDS(fs_buf_printf(&answer, NULL,
                        "<ListBucketResult><Contents><Key>p/%s</Key><LastModified>x</LastModified><Size>%zu</Size></Contents><IsTruncated>true</IsTruncated>"
                        "<NextContinuationToken>%s</NextContinuationToken></ListBucketResult>",
                        escaped.data, text.n_bytes, escaped.data) == FS_OK);
    s = (seen){ 0 };
    HOLDS(fs_s3_list_read(fs_buf_bytes(&answer), PREFIX, take_object, &s, more, &err) == FS_OK && strcmp(more, want) == 0);
    HOLDS(s.n == fs_s3_key_is_plain(want) && (!s.n || (strcmp(s.key, want) == 0 && s.n_bytes == text.n_bytes)));
    fs_buf_clear(&answer);
    HOLDS(fs_buf_printf(&answer, NULL, "<Error><Code>Slow</Code><Message>%s</Message></Error>", escaped.data) == FS_OK);
    HOLDS(fs_s3_error_read(fs_buf_bytes(&answer), code, message) && strcmp(code, "Slow") == 0);
    HOLDS(strcmp(message, text.n_bytes < sizeof message ? want : "") == 0);
    fs_buf_done(&escaped);
    fs_buf_done(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    char digits[24];
    uint64_t n;

    any_answer((fs_bytes){ data, n_bytes });
    comes_back((fs_bytes){ data, n_bytes });
    if (n_bytes < sizeof digits && !(n_bytes && memchr(data, 0, n_bytes))) {
        char again[24];
        if (n_bytes)
            memcpy(digits, data, n_bytes);
        digits[n_bytes] = 0;
        if (fs_s3_number(digits, &n)) {
            snprintf(again, sizeof again, "%llu", (unsigned long long)n);
            HOLDS(strcmp(again, digits + strspn(digits, "0")) == 0 || n == 0);
        }
    }
    return 0;
}
