/* WRAP_ALLOC. Generation over a fixture with a tokenizer of bytes; run from the tree's root. */
#include "unit.h"

#include "alloc_fail.h"
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "engine/engine.h"

#include <unistd.h>

static char folder[] = "/tmp/farseek-test-XXXXXX";
static fs_model *model;
static fs_session *session;

/* GPT-2's alphabet: the printable bytes stand for themselves, the others for U+0100 onward. */
static uint32_t alphabet(int byte)
{
    uint32_t next = 256;

    for (int b = 0; b < 256; b++) {
        bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        if (b == byte)
            return printable ? (uint32_t)b : next;
        next += !printable;
    }
    return 0;
}

static void write_tokenizer(const char *path)
{
    fs_buf b = { 0 };
    fs_error err;

    fs_buf_append_str(&b, "{\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                          "\"use_regex\":false},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{", NULL);
    for (int i = 0; i < 256; i++) {
        uint8_t utf8[4];
        size_t n = fs_utf8_put(alphabet(i), utf8);
        fs_buf_append_str(&b, i ? "," : "", NULL);
        fs_json_quote(&b, (fs_bytes){ utf8, n }, NULL);
        fs_buf_printf(&b, NULL, ":%d", i);
    }
    fs_buf_append_str(&b, "}}}", NULL);
    assert_ok(fs_file_write_atomic(path, fs_buf_bytes(&b), &err), err);
    fs_buf_done(&b);
}

static void link_fixture(const char *name)
{
    char *path = fs_path_join(folder, name), target[1024], here[512];

    assert_non_null(getcwd(here, sizeof here));
    snprintf(target, sizeof target, "%s/tests/vectors/long_qwen2/%s", here, name);
    assert_int_equal(symlink(target, path), 0);
    free(path);
}

static int setup(void **state)
{
    fs_error err;
    char *path;

    (void)state;
    if (!mkdtemp(folder))
        return -1;
    link_fixture("config.json");
    link_fixture("model.safetensors");
    path = fs_path_join(folder, "tokenizer.json");
    write_tokenizer(path);
    free(path);
    assert_ok(fs_model_open(folder, NULL, &model, &err), err);
    assert_ok(fs_session_new(model, 1000, &session, &err), err);
    return 0;
}

static int teardown(void **state)
{
    static const char *const names[] = { "config.json", "model.safetensors", "tokenizer.json" };

    (void)state;
    fs_session_free(session);
    fs_model_close(model);
    for (int i = 0; i < 3; i++) {
        char *path = fs_path_join(folder, names[i]);
        unlink(path);
        free(path);
    }
    return rmdir(folder);
}

struct heard {
    char text[4096];
    size_t n;
    int calls, stop_after;
};

static bool hear(void *ud, const char *text, size_t n_bytes)
{
    struct heard *h = ud;

    assert_true(fs_utf8_valid((fs_bytes){ (const uint8_t *)text, n_bytes }));
    memcpy(h->text + h->n, text, n_bytes);
    h->n += n_bytes;
    return ++h->calls != h->stop_after;
}

static const int32_t prompt[] = { 'O', 'n', 'c', 'e', ' ', 'u', 'p' };
#define N_PROMPT (sizeof prompt / sizeof *prompt)

static fs_generation generate(struct heard *h, const fs_sampling *o, int max_tokens, const char *const *stops)
{
    fs_generation g;
    fs_error err;

    h->n = 0;
    h->calls = 0;
    assert_ok(fs_generate(session, prompt, N_PROMPT, o, max_tokens, stops, hear, h, &g, &err), err);
    h->text[h->n] = 0;
    return g;
}

static void the_same_question_gives_the_same_answer_from_the_cache(void **state)
{
    static struct heard first, again;
    fs_sampling o = { .temperature = 0.9f, .top_p = 0.95f, .repetition_penalty = 1.1f, .seed = 3 };
    fs_generation g;

    (void)state;
    fs_session_truncate(session, 0);
    g = generate(&first, &o, 100, NULL);
    assert_int_equal(g.n_prompt_cached, 0);
    g = generate(&again, &o, 100, NULL);
    assert_int_equal(g.n_prompt_cached, N_PROMPT - 1);
    assert_int_equal(g.n_prompt_tokens, N_PROMPT);
    assert_string_equal(first.text, again.text);
    o.seed = 4;
    generate(&again, &o, 100, NULL);
    assert_string_not_equal(first.text, again.text);
}

/* The character that byte at belongs to. */
static size_t boundary(const struct heard *h, size_t at)
{
    while (at > 0 && ((unsigned char)h->text[at] & 0xc0) == 0x80)
        at--;
    return at;
}

static void a_stop_string_ends_the_answer_and_is_not_said(void **state)
{
    static struct heard whole, cut;
    const char *stops[] = { "\x01never\x01", NULL, NULL };
    char stop[16] = { 0 };
    fs_generation g;
    size_t last;

    (void)state;
    g = generate(&whole, NULL, 60, NULL);
    assert_int_equal(g.stop, FS_STOP_LENGTH);
    assert_int_equal(g.n_tokens, 60);
    assert_true(whole.n > 20);
    memcpy(stop, whole.text + boundary(&whole, 12), 7);
    stops[1] = stop;
    g = generate(&cut, NULL, 60, stops);
    assert_int_equal(g.stop, FS_STOP_STRING);
    assert_int_equal(cut.n, strstr(whole.text, stop) - whole.text);
    assert_memory_equal(cut.text, whole.text, cut.n);
    /* Text held back because a stop string might begin comes out at the end. */
    last = boundary(&whole, whole.n - 1);
    memset(stop, 0, sizeof stop);
    memcpy(stop, whole.text + last, whole.n - last);
    stop[whole.n - last] = '\x01';
    generate(&cut, NULL, 60, stops);
    assert_string_equal(cut.text, whole.text);
}

static void a_callback_that_says_no_stops(void **state)
{
    static struct heard h = { .stop_after = 3 };
    fs_generation g = generate(&h, NULL, 60, NULL);

    (void)state;
    assert_int_equal(g.stop, FS_STOP_CALLBACK);
    assert_int_equal(h.calls, 3);
    assert_true(g.n_tokens < 60);
}

static void tokens_cost_no_allocation(void **state)
{
    static struct heard h;
    long before = atomic_load(&alloc_count), few;

    (void)state;
    generate(&h, NULL, 2, NULL);
    few = atomic_load(&alloc_count) - before;
    before = atomic_load(&alloc_count);
    generate(&h, NULL, 300, NULL);
    assert_int_equal(atomic_load(&alloc_count) - before, few);
}

static void nonsense_is_a_sentence(void **state)
{
    static struct heard h;
    static int32_t long_prompt[2000];
    fs_sampling o = { .temperature = 1, .top_p = 0, .repetition_penalty = 1 };
    fs_generation g;
    fs_error err;

    (void)state;
    assert_int_equal(fs_generate(session, prompt, 0, NULL, 5, NULL, hear, &h, &g, &err), FS_ERR_ARGUMENT);
    assert_int_equal(fs_generate(session, prompt, N_PROMPT, &o, 5, NULL, hear, &h, &g, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "top_p 0");
    assert_int_equal(fs_generate(session, long_prompt, 2000, NULL, 5, NULL, hear, &h, &g, &err), FS_ERR_CONTEXT_FULL);
    assert_sentence(err, "2000");
}

static void a_full_context_ends_with_what_was_said(void **state)
{
    static struct heard h;
    fs_session *s;
    fs_generation g = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_session_new(model, 20, &s, &err), err);
    assert_int_equal(fs_generate(s, prompt, N_PROMPT, NULL, 50, NULL, hear, &h, &g, &err), FS_ERR_CONTEXT_FULL);
    assert_int_equal(g.n_tokens, 20 - N_PROMPT + 1);
    assert_int_equal(fs_session_n_tokens(s), 20);
    fs_session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_question_gives_the_same_answer_from_the_cache),
        cmocka_unit_test(a_stop_string_ends_the_answer_and_is_not_said),
        cmocka_unit_test(a_callback_that_says_no_stops),
        cmocka_unit_test(tokens_cost_no_allocation),
        cmocka_unit_test(nonsense_is_a_sentence),
        cmocka_unit_test(a_full_context_ends_with_what_was_said),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
