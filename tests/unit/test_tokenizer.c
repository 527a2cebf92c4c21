/* WRAP_ALLOC. Encoding and decoding against Hugging Face tokenizers (tests/vectors/tiny_tokenizer_ids.json), the three
 * readers, and what hostile files and texts get. */
#include "tiny.h"

#include "alloc_fail.h"

#include <inttypes.h>
#include <pthread.h>
#include <time.h>

static fs_bytes string_of(struct json_object *o)
{
    return (fs_bytes){ (const uint8_t *)json_object_get_string(o), (size_t)json_object_get_string_len(o) };
}

static void check_row(const fs_tokenizer *t, struct json_object *row)
{
    fs_bytes text = string_of(fs_json_member(row, "text")), want = text;
    struct json_object *plain = fs_json_member(row, "no_special"), *decoded = fs_json_member(row, "decoded");
    struct json_object *want_ids = fs_json_member(row, "ids");
    fs_ids ids = { 0 };
    fs_buf out = { 0 };
    fs_error err;

    assert_ok(fs_tokenizer_encode(t, text, FS_ENCODE_SPECIAL, &ids, &err), err);
    assert_ids(&ids, want_ids, (const char *)text.data);
    assert_ok(fs_tokenizer_decode(t, ids.data, ids.n, false, &out, &err), err);
    if (decoded)
        want = string_of(decoded);
    assert_int_equal(out.n_bytes, want.n_bytes);
    if (want.n_bytes)
        assert_memory_equal(out.data, want.data, want.n_bytes);
    ids.n = 0;
    assert_ok(fs_tokenizer_encode(t, text, 0, &ids, &err), err);
    assert_ids(&ids, plain ? plain : want_ids, (const char *)text.data);
    fs_ids_done(&ids);
    fs_buf_done(&out);
}

static void every_component_gives_the_references_ids(void **state)
{
    struct json_object *vectors = tiny_read("tiny_tokenizer_ids.json"), *variants = fs_json_member(vectors, "variants");
    size_t rows_done = 0;

    (void)state;
    for (size_t i = 0; i < json_object_array_length(variants); i++) {
        struct json_object *variant = json_object_array_get_idx(variants, i), *v = tiny_read("tiny_tokenizer.json");
        struct json_object *rows = fs_json_member(variant, "rows");
        fs_tokenizer *t = NULL;
        fs_error err;
        tiny_change(v, fs_json_member(variant, "changes"));
        assert_ok(tiny_open(v, &t, &err), err);
        /* Twice: the second time pieces are known to be whole tokens. */
        for (int pass = 0; pass < 2; pass++)
            for (size_t k = 0; k < json_object_array_length(rows); k++, rows_done++)
                check_row(t, json_object_array_get_idx(rows, k));
        fs_tokenizer_close(t);
        json_object_put(v);
    }
    assert_true(rows_done > 8000);
    json_object_put(vectors);
}

static void encode_str(const fs_tokenizer *t, const char *text, size_t n, unsigned flags, fs_ids *ids)
{
    fs_error err;

    ids->n = 0;
    assert_ok(fs_tokenizer_encode(t, (fs_bytes){ (const uint8_t *)text, n }, flags, ids, &err), err);
}

static void bos_and_plain_and_look_ups(void **state)
{
    fs_tokenizer *t = NULL;
    fs_ids ids = { 0 };
    fs_error err;
    int32_t tool;

    (void)state;
    assert_ok(tiny_with(NULL, NULL, &t, &err), err);
    tool = fs_tokenizer_id(t, FS_BYTES_LIT("<tool>"));
    assert_true(tool >= 0 && !fs_tokenizer_is_special(t, tool) && fs_tokenizer_is_special(t, 0));
    assert_int_equal(fs_tokenizer_id(t, FS_BYTES_LIT("<no such>")), -1);
    assert_true(fs_bytes_equal(fs_tokenizer_bytes(t, tool), FS_BYTES_LIT("<tool>")));
    assert_int_equal(fs_tokenizer_bytes(t, (int32_t)fs_tokenizer_n_ids(t)).n_bytes, 0);
    assert_int_equal(fs_tokenizer_bytes(t, -1).n_bytes, 0);
    encode_str(t, "<tool>", 6, 0, &ids);
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.data[0], tool);
    encode_str(t, "<tool><s>", 9, FS_ENCODE_PLAIN | FS_ENCODE_SPECIAL, &ids);
    assert_true(ids.n > 2);
    for (size_t i = 0; i < ids.n; i++)
        assert_true(ids.data[i] != tool && ids.data[i] != 0);
    encode_str(t, "", 0, FS_ENCODE_BOS, &ids);
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.data[0], 0);
    fs_tokenizer_set_bos(t, -1);
    encode_str(t, "", 0, FS_ENCODE_BOS, &ids);
    assert_int_equal(ids.n, 0);
    fs_ids_done(&ids);
    fs_tokenizer_close(t);
}

static void bytes_that_are_no_text_become_replacement_characters(void **state)
{
    fs_tokenizer *t = NULL;
    fs_ids ids = { 0 }, want = { 0 };
    fs_error err;

    (void)state;
    assert_ok(tiny_with(NULL, NULL, &t, &err), err);
    encode_str(t, "a\xff\xe2\x82z\xf0\x9f", 7, 0, &ids);
    encode_str(t, "a\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd", 11, 0, &want);
    assert_int_equal(ids.n, want.n);
    assert_memory_equal(ids.data, want.data, ids.n * sizeof *ids.data);
    fs_ids_done(&ids);
    fs_ids_done(&want);
    fs_tokenizer_close(t);
}

static double cpu_seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* Ids of one long piece are those of the short way: a heap and a scan merge the same. And they come in time that
 * grows about as the text does. */
static void a_long_piece_is_merged_as_a_short_one_and_in_time(void **state)
{
    fs_tokenizer *t = NULL;
    fs_ids ids = { 0 };
    fs_buf out = { 0 };
    fs_error err;
    size_t n = 1000000;
    char *text = malloc(n);
    double start;

    (void)state;
    assert_non_null(text);
    assert_ok(tiny_with("pre_tokenizer", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}", &t, &err), err);
    for (int kind = 0; kind < 3; kind++) {
        uint32_t r = 1;
        for (size_t i = 0; i < n; i++) {
            r = r * 1664525u + 1013904223u;
            text[i] = kind == 0 ? 'a' : kind == 1 ? " the"[i % 4] : (char)('a' + (r >> 24) % 26);
        }
        start = cpu_seconds();
        encode_str(t, text, n, 0, &ids);
        assert_true(cpu_seconds() - start < 100); /* quadratic would be hours */
        fs_buf_clear(&out);
        assert_ok(fs_tokenizer_decode(t, ids.data, ids.n, false, &out, &err), err);
        assert_int_equal(out.n_bytes, n);
        assert_memory_equal(out.data, text, n);
    }
    /* " the" repeated 12 times is 48 bytes, the longest of the short way; 13 times is the first of the long one. */
    for (size_t i = 0; i < 52; i++)
        text[i] = " the"[i % 4];
    encode_str(t, text, 48, 0, &ids);
    assert_int_equal(ids.n, 12);
    encode_str(t, text, 52, 0, &ids);
    assert_int_equal(ids.n, 13);
    free(text);
    fs_ids_done(&ids);
    fs_buf_done(&out);
    fs_tokenizer_close(t);
}

static void a_regex_bomb_is_an_error(void **state)
{
    fs_tokenizer *t = NULL;
    fs_ids ids = { 0 };
    fs_error err;

    (void)state;
    assert_ok(tiny_with("pre_tokenizer",
                        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:(?:a|aa)+)+[bc]\"},"
                        "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"use_regex\":false}]}",
                        &t, &err), err);
    assert_int_equal(fs_tokenizer_encode(t, FS_BYTES_LIT("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), 0,
                                         &ids, &err), FS_ERR_FORMAT);
    assert_sentence(err, "gave up");
    fs_ids_done(&ids);
    fs_tokenizer_close(t);
}

static void split_by(const char *pattern, fs_tokenizer **ret)
{
    char json[400];
    fs_error err;

    snprintf(json, sizeof json, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},"
             "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"use_regex\":false}]}", pattern);
    assert_ok(tiny_with("pre_tokenizer", json, ret, &err), err);
}

/* Each start of this is far below the limit of one; all together would take minutes. */
static void many_bearable_starts_are_an_error_too(void **state)
{
    enum { N = 200000 };
    char *text = malloc(N);
    fs_tokenizer *t = NULL;
    fs_ids ids = { 0 };
    fs_error err;

    (void)state;
    assert_non_null(text);
    split_by("(?:a|aa){1,18}[bc]", &t);
    memset(text, 'a', N);
    assert_int_equal(fs_tokenizer_encode(t, (fs_bytes){ (uint8_t *)text, N }, 0, &ids, &err), FS_ERR_FORMAT);
    assert_sentence(err, "gave up");
    fs_tokenizer_close(t);
    /* An honest expression that looks at a run of spaces from each of its starts passes, and so do its pieces. */
    split_by("\\\\s+(?:$|q)", &t);
    memset(text, ' ', 100000);
    text[100000] = 'x';
    encode_str(t, text, 100001, 0, &ids);
    assert_true(ids.n > 0);
    fs_ids_done(&ids);
    fs_tokenizer_close(t);
    free(text);
}

/* A run that may be given back needs more than JIT code's own stack. */
static void long_white_space_passes(void **state)
{
    fs_tokenizer *t = NULL;
    fs_ids ids = { 0 };
    fs_error err;
    char *text = malloc(300001);

    (void)state;
    assert_non_null(text);
    assert_ok(tiny_with("pre_tokenizer",
                        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:\\\\s|\\\\p{L}x)+(?!\\\\S)|\\\\s*[\\\\r\\\\n]+\"},"
                        "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"use_regex\":false}]}",
                        &t, &err), err);
    memset(text, ' ', 300000);
    text[300000] = 'y';
    encode_str(t, text, 300001, 0, &ids);
    assert_true(ids.n > 0);
    free(text);
    fs_ids_done(&ids);
    fs_tokenizer_close(t);
}

static void what_is_not_understood_is_named(void **state)
{
    static const struct {
        const char *key, *json, *word;
    } cases[] = {
        { "normalizer", "{\"type\":\"Lowercase\"}", "Lowercase" },
        { "pre_tokenizer", "{\"type\":\"Whitespace\"}", "Whitespace" },
        { "pre_tokenizer", "{\"type\":\"Sequence\",\"pretokenizers\":[]}", "ByteLevel" },
        { "pre_tokenizer", "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]}", "Digits" },
        { "post_processor", "{\"type\":\"RobertaProcessing\"}", "RobertaProcessing" },
        { "decoder", "null", "decoder" },
        { "model.type", "\"WordPiece\"", "WordPiece" },
        { "model.dropout", "0.1", "dropout" },
        { "model.continuing_subword_prefix", "\"##\"", "##" },
        { "model.unk_token", "\"<nowhere>\"", "<nowhere>" },
        { "model.merges", "[[\"t\",\"\\u4e00\"]]", "alphabet" },
        { "model.merges", "[\"tt\"]", "space" },
        { "model.merges", "[\"z q\"]", "together" },
        { "model.vocab", "{\"a\":0,\"b\":0}", "two tokens have id 0" },
        { "model.vocab", "{\"a\":4194304}", "4194304" },
        { "model.vocab", "{\"a\":-1}", "count" },
        { "added_tokens", "[{\"id\":300,\"content\":\"x\"}]", "300" },
        { "added_tokens", "[{\"content\":\"x\"}]", "id" },
    };
    static const char *const regexes[] = { "[a[b]]", "[a&&b]", "a{1,3}+", "a{,3}", "\\\\bx", "\\\\h", "(?m)x", "(?<n>x)", "\\\\1", "[\\\\s-z]",
                                           "\\\\p{Nowhere}", "\\\\pL", "[\\\\S]", "\\\\xe9", "(?#c)", "a\\\\", "[a", "(a", "\\\\x{110000}" };
    fs_tokenizer *t = NULL;
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_not_equal(tiny_with(cases[i].key, cases[i].json, &t, &err), FS_OK);
        assert_sentence(err, cases[i].word);
        assert_sentence(err, "tokenizer 'tiny'");
    }
    for (size_t i = 0; i < sizeof regexes / sizeof *regexes; i++) {
        char json[300];
        snprintf(json, sizeof json, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},"
                 "\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\"}]}", regexes[i]);
        if (tiny_with("pre_tokenizer", json, &t, &err) == FS_OK)
            fail_msg("'%s' was taken", regexes[i]);
        assert_sentence(err, "regular expression");
    }
    assert_null(t);
}

static void cut_short_anywhere_it_is_refused(void **state)
{
    fs_tokenizer *t = NULL;
    fs_buf text = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_file_read("tests/vectors/tiny_tokenizer.json", 1 << 20, &text, &err), err);
    for (size_t n = 0; n < text.n_bytes; n += n < 2000 || n + 200 > text.n_bytes ? 1 : 13) {
        assert_int_not_equal(fs_tokenizer_open_json((fs_bytes){ (const uint8_t *)text.data, n }, "cut", &t, &err), FS_OK);
        assert_null(t);
    }
    fs_buf_done(&text);
}

/* ---- GGUF ---- */

static void put_bytes(fs_buf *b, const void *p, size_t n)
{
    assert_int_equal(fs_buf_append(b, p, n, NULL), FS_OK);
}

static void put_u64(fs_buf *b, uint64_t v)
{
    put_bytes(b, &v, 8); /* the tests run on little-endian machines */
}

static void put_u32(fs_buf *b, uint32_t v)
{
    put_bytes(b, &v, 4);
}

static void put_string(fs_buf *b, const char *s, size_t n)
{
    put_u64(b, n);
    put_bytes(b, s, n);
}

static void put_key(fs_buf *b, const char *key, uint32_t type)
{
    put_string(b, key, strlen(key));
    put_u32(b, type);
}

/* The tiny tokenizer's vocabulary and merges as GGUF metadata. */
static void gguf_of_tiny(fs_buf *b, const char *pre, uint32_t type_of_7)
{
    struct json_object *v = tiny_read("tiny_tokenizer.json"), *model = fs_json_member(v, "model");
    struct json_object *vocab = fs_json_member(model, "vocab"), *merges = fs_json_member(model, "merges");
    size_t n = (size_t)json_object_object_length(vocab);
    const char **tokens = calloc(n, sizeof *tokens);

    assert_non_null(tokens);
    json_object_object_foreach(vocab, key, id)
        tokens[json_object_get_int(id)] = key;
    put_bytes(b, "GGUF", 4);
    put_u32(b, 3);
    put_u64(b, 0);
    put_u64(b, 7);
    put_key(b, "tokenizer.ggml.model", FS_GGUF_STRING);
    put_string(b, "gpt2", 4);
    put_key(b, "tokenizer.ggml.pre", FS_GGUF_STRING);
    put_string(b, pre, strlen(pre));
    put_key(b, "tokenizer.ggml.tokens", FS_GGUF_ARRAY);
    put_u32(b, FS_GGUF_STRING);
    put_u64(b, n);
    for (size_t i = 0; i < n; i++)
        put_string(b, tokens[i], strlen(tokens[i]));
    put_key(b, "tokenizer.ggml.token_type", FS_GGUF_ARRAY);
    put_u32(b, FS_GGUF_I32);
    put_u64(b, n);
    for (size_t i = 0; i < n; i++)
        put_u32(b, i < 2 ? 3 : i == 7 ? type_of_7 : 1);
    put_key(b, "tokenizer.ggml.merges", FS_GGUF_ARRAY);
    put_u32(b, FS_GGUF_STRING);
    put_u64(b, json_object_array_length(merges));
    for (size_t i = 0; i < json_object_array_length(merges); i++) {
        struct json_object *m = json_object_array_get_idx(merges, i);
        char text[256];
        snprintf(text, sizeof text, "%s %s", json_object_get_string(json_object_array_get_idx(m, 0)),
                 json_object_get_string(json_object_array_get_idx(m, 1)));
        put_string(b, text, strlen(text));
    }
    put_key(b, "tokenizer.ggml.bos_token_id", FS_GGUF_U32);
    put_u32(b, 1);
    put_key(b, "tokenizer.ggml.add_bos_token", FS_GGUF_BOOL);
    put_bytes(b, "\1", 1);
    while (b->n_bytes % 32)
        put_bytes(b, "", 1);
    free(tokens);
    json_object_put(v);
}

static fs_status open_gguf(const char *pre, uint32_t type_of_7, fs_tokenizer **ret, fs_error *err)
{
    fs_buf b = { 0 };
    fs_gguf *g = NULL;
    fs_status rc;

    gguf_of_tiny(&b, pre, type_of_7);
    assert_ok(fs_gguf_open(fs_buf_bytes(&b), "made", &g, err), *err);
    rc = fs_tokenizer_open_gguf(g, "made", ret, err);
    fs_gguf_close(g);
    fs_buf_done(&b);
    return rc;
}

static void gguf_names_the_expressions(void **state)
{
    static const char *const known[] = { "gpt-2", "default", "smollm", "llama-bpe", "llama3", "llama-v3", "qwen2", "deepseek-r1-qwen",
                                         "deepseek-v3", "deepseek-llm", "deepseek-coder" };
    static const char *const unknown[] = { "llama4", "gpt", "gpt-2 default", "", " ", "deepseek" };
    struct json_object *vectors = tiny_read("tiny_tokenizer_ids.json"), *variants = fs_json_member(vectors, "variants");
    fs_tokenizer *t = NULL;
    fs_ids ids = { 0 };
    fs_error err;
    size_t compared = 0;

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_ok(open_gguf(known[i], 1, &t, &err), err);
        encode_str(t, "<s>x", 4, FS_ENCODE_SPECIAL | FS_ENCODE_BOS, &ids);
        assert_true(ids.n == 3 && ids.data[0] == 1 && ids.data[1] == 0);
        encode_str(t, "<s>", 3, 0, &ids);
        assert_true(ids.n > 1);
        fs_tokenizer_close(t);
        t = NULL;
    }
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        assert_int_equal(open_gguf(unknown[i], 1, &t, &err), FS_ERR_UNSUPPORTED);
        assert_sentence(err, "tokenizer.ggml.pre");
    }
    assert_int_equal(open_gguf("gpt-2", 6, &t, &err), FS_ERR_UNSUPPORTED);
    assert_sentence(err, "token 7 has type 6");
    /* The same ids as the JSON with the same expressions, where no added token beyond the two markers matters. */
    for (size_t i = 0; i < json_object_array_length(variants); i++) {
        struct json_object *variant = json_object_array_get_idx(variants, i), *rows = fs_json_member(variant, "rows");
        const char *name = json_object_get_string(fs_json_member(variant, "name"));
        if (strcmp(name, "gpt2") != 0 && strcmp(name, "digits") != 0)
            continue;
        assert_ok(open_gguf(strcmp(name, "gpt2") == 0 ? "gpt-2" : "smollm", 1, &t, &err), err);
        for (size_t k = 0; k < json_object_array_length(rows); k++) {
            struct json_object *row = json_object_array_get_idx(rows, k), *want = fs_json_member(row, "ids");
            fs_bytes text = string_of(fs_json_member(row, "text"));
            bool beyond = false;
            for (size_t m = 0; m < json_object_array_length(want); m++)
                beyond |= (size_t)json_object_get_int(json_object_array_get_idx(want, m)) >= fs_tokenizer_n_ids(t);
            if (beyond)
                continue;
            encode_str(t, (const char *)text.data, text.n_bytes, FS_ENCODE_SPECIAL, &ids);
            assert_ids(&ids, want, (const char *)text.data);
            compared++;
        }
        fs_tokenizer_close(t);
        t = NULL;
    }
    assert_true(compared > 150);
    fs_ids_done(&ids);
    json_object_put(vectors);
}

/* ---- tiktoken ---- */

static void tiktoken_lines(void **state)
{
    static const char *const special[] = { "<end>" };
    static const char *const bad[] = { "YQ", "YQ== ", "YQ= 1\n", "Y%== 1\n", "YQ== 99999999\n", "YQ== x\n", "YQ== 0\n" };
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    fs_buf ranks = { 0 };
    fs_tokenizer *t = NULL;
    fs_ids ids = { 0 };
    fs_error err;

    (void)state;
    for (unsigned b = 0; b < 256; b++)
        assert_int_equal(fs_buf_printf(&ranks, NULL, "%c%c== %u\n", set[b >> 2], set[(b & 3) << 4], b), FS_OK);
    assert_ok(fs_buf_append_str(&ranks, "YmM= 256\nYWI= 257\nYWJj 258\n", &err), err); /* bc, ab, abc */
    assert_ok(fs_tokenizer_open_tiktoken(fs_buf_bytes(&ranks), "\\p{L}+", false, special, 1, "made", &t, &err), err);
    encode_str(t, "abc abcd<end>", 13, FS_ENCODE_SPECIAL, &ids);
    /* abc is a token; in abcd bc merges before ab, then a and bc make abc. */
    assert_int_equal(ids.n, 5);
    assert_int_equal(ids.data[0], 258);
    assert_int_equal(ids.data[1], ' ');
    assert_int_equal(ids.data[2], 258);
    assert_int_equal(ids.data[3], 'd');
    assert_int_equal(ids.data[4], 259);
    fs_tokenizer_close(t);
    t = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t n = ranks.n_bytes;
        assert_ok(fs_buf_append_str(&ranks, bad[i], &err), err);
        assert_int_equal(fs_tokenizer_open_tiktoken(fs_buf_bytes(&ranks), "\\p{L}+", false, NULL, 0, "made", &t, &err), FS_ERR_FORMAT);
        ranks.n_bytes = n;
    }
    assert_int_equal(fs_tokenizer_open_tiktoken(FS_BYTES_LIT("YQ== 0\n"), "a", false, NULL, 0, "made", &t, &err), FS_ERR_FORMAT);
    assert_sentence(err, "byte 0");
    fs_ids_done(&ids);
    fs_buf_done(&ranks);
}

/* ---- threads and memory ---- */

static void *encode_many(void *ud)
{
    fs_ids ids = { 0 };
    const char *text = "The quick brown fox thinks, therefore these 1234 things.";

    for (int i = 0; i < 300; i++) {
        ids.n = 0;
        if (fs_tokenizer_encode(ud, fs_bytes_str(text), 0, &ids, NULL))
            return NULL;
    }
    fs_ids_done(&ids);
    return ud;
}

static void threads_share_a_tokenizer(void **state)
{
    pthread_t threads[4];
    fs_tokenizer *t = NULL;
    fs_error err;

    (void)state;
    assert_ok(tiny_with(NULL, NULL, &t, &err), err);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_many, t), 0);
    for (int i = 0; i < 4; i++) {
        void *ok;
        pthread_join(threads[i], &ok);
        assert_non_null(ok);
    }
    fs_tokenizer_close(t);
}

static void out_of_memory_anywhere_is_a_sentence(void **state)
{
    struct json_object *v = tiny_read("tiny_tokenizer.json"), *nfc = NULL;
    fs_buf json = { 0 }, out = { 0 };
    fs_tokenizer *t = NULL;
    fs_ids ids = { 0 };
    fs_error err;
    fs_status rc;
    long n_open = 0, n_encode = 0;
    char text[256];

    (void)state;
    assert_ok(fs_json_parse(FS_BYTES_LIT("{\"normalizer\":{\"type\":\"NFC\"}}"), "change", &nfc, &err), err);
    tiny_change(v, nfc);
    assert_ok(fs_buf_append_str(&json, json_object_to_json_string(v), &err), err);
    json_object_put(v);
    json_object_put(nfc);
    for (long n = 1;; n++) {
        alloc_fail_at(n);
        rc = fs_tokenizer_open_json(fs_buf_bytes(&json), "tiny", &t, &err);
        alloc_fail_off();
        if (rc == FS_OK)
            break;
        if (rc != FS_ERR_MEMORY)
            fail_msg("allocation %ld: %s", n, err.message);
        assert_null(t);
        n_open++;
    }
    assert_true(n_open > 20);
    memset(text, 'q', sizeof text);
    memcpy(text, "The e\xcc\x81 <s> \xff fox 123", 21);
    for (long n = 1;; n++) {
        fs_buf_done(&out);
        fs_ids_done(&ids);
        alloc_fail_at(n);
        rc = fs_tokenizer_encode(t, (fs_bytes){ (const uint8_t *)text, sizeof text }, FS_ENCODE_SPECIAL | FS_ENCODE_BOS, &ids, &err);
        if (!rc)
            rc = fs_tokenizer_decode(t, ids.data, ids.n, false, &out, &err);
        alloc_fail_off();
        if (rc == FS_OK)
            break;
        assert_int_equal(rc, FS_ERR_MEMORY);
        n_encode++;
    }
    assert_true(n_encode > 5);
    fs_ids_done(&ids);
    fs_buf_done(&out);
    fs_buf_done(&json);
    fs_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_component_gives_the_references_ids),
        cmocka_unit_test(bos_and_plain_and_look_ups),
        cmocka_unit_test(bytes_that_are_no_text_become_replacement_characters),
        cmocka_unit_test(a_long_piece_is_merged_as_a_short_one_and_in_time),
        cmocka_unit_test(a_regex_bomb_is_an_error),
        cmocka_unit_test(many_bearable_starts_are_an_error_too),
        cmocka_unit_test(long_white_space_passes),
        cmocka_unit_test(what_is_not_understood_is_named),
        cmocka_unit_test(cut_short_anywhere_it_is_refused),
        cmocka_unit_test(gguf_names_the_expressions),
        cmocka_unit_test(tiktoken_lines),
        cmocka_unit_test(threads_share_a_tokenizer),
        cmocka_unit_test(out_of_memory_anywhere_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
