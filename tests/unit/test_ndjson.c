#include "unit.h"

#include "hub/ndjson.h"

typedef struct seen {
    char text[4000];
    size_t n;
} seen;

static fs_status note(void *ud, const char *key, struct json_object *value, fs_bytes content, fs_error *err)
{
    seen *s = ud;
    fs_bytes path = { 0 };

    (void)err;
    fs_json_string(value, "path", &path, NULL, NULL);
    s->n += (size_t)snprintf(s->text + s->n, sizeof s->text - s->n, "%s:%.*s:", key, (int)path.n_bytes, (const char *)path.data);
    if (content.data)
        s->n += (size_t)snprintf(s->text + s->n, sizeof s->text - s->n, "<%.*s>", (int)content.n_bytes, (const char *)content.data);
    s->text[s->n++] = '\n';
    s->text[s->n] = 0;
    return FS_OK;
}

static fs_status read_in(const char *text, size_t piece, size_t content_max, size_t lines_max, seen *ret, fs_error *err)
{
    fs_ndjson n;
    size_t n_text = strlen(text);
    fs_status rc = FS_OK;

    *ret = (seen){ .n = 0 };
    fs_ndjson_init(&n, content_max, lines_max, note, ret);
    for (size_t i = 0; i < n_text && !rc; i += piece)
        rc = fs_ndjson_feed(&n, text + i, piece < n_text - i ? piece : n_text - i, err);
    if (!rc)
        rc = fs_ndjson_end(&n, err);
    fs_ndjson_done(&n);
    return rc;
}

static const char whole[] = "{\"key\":\"header\",\"value\":{\"summary\":\"a \\\" b\"}}\n\n"
                            "{\"value\":{\"content\":\"aGVsbG8=\",\"path\":\"a/b\"},\"key\":\"file\"}\r\n"
                            "{\"key\":\"file\",\"value\":{\"path\":\"e\",\"content\":\"\",\"encoding\":\"base64\"}}\n"
                            "{\"key\":\"file\",\"value\":{\"path\":\"f\",\"content\":\"Pz8\\/Pz8\\/\"}}\n"
                            "{ \"key\" : \"file\" , \"value\" : { \"x\":{\"content\":\"no\"}, \"list\":[{\"content\":\"no\"},\"content\"], \"path\":\"g\" , \"content\" : \"aGk\" } }";

static void any_pieces_give_the_same(void **state)
{
    seen s;
    fs_error err;

    (void)state;
    for (size_t piece = 1; piece < sizeof whole; piece++) {
        assert_ok(read_in(whole, piece, 100, 100, &s, &err), err);
        assert_string_equal(s.text, "header::\nfile:a/b:<hello>\nfile:e:<>\nfile:f:<??\?\?\?\?>\nfile:g:<hi>\n");
    }
}

static void refused(const char *text, const char *word)
{
    seen s;
    fs_error err = { 0 };

    for (size_t piece = 1; piece < 40; piece += 13)
        if (read_in(text, piece, 8, 2, &s, &err) == FS_OK)
            fail_msg("'%s' passed", text);
    assert_sentence(err, word);
}

#define FILE(content) "{\"key\":\"file\",\"value\":{\"path\":\"a\",\"content\":\"" content "\"}}"

static void what_is_no_commit_is_refused(void **state)
{
    (void)state;
    refused("x", "");
    refused("[]", "object");
    refused("{}", "value");
    refused("{\"value\":{}}", "key");
    refused("{\"key\":\"file\",\"value\":[]}", "value");
    refused(FILE("a"), "base64");
    refused(FILE("aGk=="), "base64");
    refused(FILE("aG=k"), "base64");
    refused(FILE("=aGk"), "base64");
    refused(FILE("aG k"), "base64");
    refused(FILE("aG\\nk"), "base64");
    refused(FILE("aG\\\"k"), "base64");
    refused(FILE("aGk\\u003d"), "base64");
    refused("{\"key\":\"file\",\"value\":{\"content\":\"aGk", "cut");
    refused("{\"key\":\"file\",\"value\":{\"path\":\"a\nb\"}}", "cut");
    refused(FILE("aGVsbG8gd29y"), "too large");
    refused("{\"key\":\"file\",\"value\":{\"content\":\"aGk=\",\"content\":\"aGk=\"}}", "twice");
    refused("{\"key\":\"file\",\"value\":{\"con\\u0074ent\":\"aGk=\"}}", "none is looked for");
    refused("{}}", "");
    refused("[[[[[[[[[[[[[[[[[[", "deep");
    refused(FILE("") "\n" FILE("") "\n" FILE(""), "one too many");
}

static void a_line_has_a_limit(void **state)
{
    char *text = malloc(FS_NDJSON_LINE_BYTES_MAX + 100);
    seen s;
    fs_error err;

    (void)state;
    memset(text, ' ', FS_NDJSON_LINE_BYTES_MAX + 99);
    text[FS_NDJSON_LINE_BYTES_MAX + 99] = 0;
    assert_int_equal(read_in(text, 1000, 8, 2, &s, &err), FS_ERR_FORMAT);
    assert_sentence(err, "too long");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_pieces_give_the_same),
        cmocka_unit_test(what_is_no_commit_is_refused),
        cmocka_unit_test(a_line_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
