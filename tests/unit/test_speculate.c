/* WRAP_ALLOC. Speculative decoding against plain decoding over the fixtures, as they are and tamed, so that a guess often
 * holds. FARSEEK_TEST_PROMPTS in the environment sets how many prompts (`make speculation`: 4000, a thousand for each kind of sampling). Run from the tree's root. */
#include "unit.h"

#include "alloc_fail.h"
#include "base/file.h"
#include "base/json.h"
#include "engine/internal.h"

#include <sys/stat.h>
#include <unistd.h>

#define PROMPTS    280
#define CTX        320
#define ANSWER_MAX 60

static const char *const fixtures[] = { "qwen3", "llama3", "ds_v2_lite", "ds_v3", "ds_v32", "deepseek_moe", "ds_v4_mtp" };
#define N_FIXTURES (sizeof fixtures / sizeof *fixtures)

static char root[] = "/tmp/farseek-test-XXXXXX";

/* Steele, Lea and Flood, SplitMix64. */
static uint64_t random_state = 42;
static uint32_t random_below(uint32_t n)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ z >> 31) % n);
}

/* ---- tamed models ---- */

static bool ends(const char *name, const char *tail)
{
    size_t n = strlen(name), m = strlen(tail);
    return n >= m && strcmp(name + n - m, tail) == 0;
}

static void put(uint8_t *data, bool bf16, size_t i, float x)
{
    uint32_t u;

    memcpy(&u, &x, sizeof u);
    if (bf16)
        memcpy(data + 2 * i, &(uint16_t){ (uint16_t)(u >> 16) }, 2);
    else
        memcpy(data + 4 * i, &u, 4);
}

static float get(const uint8_t *data, bool bf16, size_t i)
{
    uint32_t u = 0;
    uint16_t h;
    float x;

    if (bf16) {
        memcpy(&h, data + 2 * i, 2);
        u = (uint32_t)h << 16;
    } else {
        memcpy(&u, data + 4 * i, 4);
    }
    memcpy(&x, &u, sizeof x);
    return x;
}

/* What layers add becomes small, so that the last token nearly decides the next one, and the MTP layer reads that token. */
static void tame_tensor(const char *name, uint8_t *data, bool bf16, size_t rows, size_t cols)
{
    bool adds = ends(name, "o_proj.weight") || ends(name, "down_proj.weight") || ends(name, "wo_b.weight") || ends(name, ".w2.weight");
    bool joins = ends(name, "e_proj.weight") || ends(name, "eh_proj.weight");
    bool hidden = ends(name, ".h_proj.weight");

    for (size_t i = 0; (adds || joins || hidden) && i < rows * cols; i++)
        put(data, bf16, i, joins ? i / cols == i % cols : get(data, bf16, i) / 16);
}

static void tame(const char *fixture, char *ret_folder, size_t n)
{
    char path[400];
    struct json_object *header = NULL;
    uint64_t header_bytes;
    fs_buf b = { 0 };
    fs_error err;

    snprintf(ret_folder, n, "%s/%s", root, fixture);
    assert_int_equal(mkdir(ret_folder, 0700), 0);
    snprintf(path, sizeof path, "tests/vectors/%s/model.safetensors", fixture);
    assert_ok(fs_file_read(path, (size_t)1 << 28, &b, &err), err);
    memcpy(&header_bytes, b.data, sizeof header_bytes);
    assert_ok(fs_json_parse((fs_bytes){ (uint8_t *)b.data + 8, (size_t)header_bytes }, path, &header, &err), err);
    json_object_object_foreach(header, name, entry) {
        struct json_object *shape = fs_json_member(entry, "shape"), *at = fs_json_member(entry, "data_offsets");
        struct json_object *dtype = fs_json_member(entry, "dtype");
        const char *type = dtype ? json_object_get_string(dtype) : "";
        bool bf16 = strcmp(type, "BF16") == 0;
        if (shape && json_object_array_length(shape) == 2 && (bf16 || strcmp(type, "F32") == 0))
            tame_tensor(name, (uint8_t *)b.data + 8 + header_bytes + json_object_get_int64(json_object_array_get_idx(at, 0)), bf16,
                        (size_t)json_object_get_int64(json_object_array_get_idx(shape, 0)),
                        (size_t)json_object_get_int64(json_object_array_get_idx(shape, 1)));
    }
    json_object_put(header);
    snprintf(path, sizeof path, "%s/model.safetensors", ret_folder);
    assert_ok(fs_file_write_atomic(path, fs_buf_bytes(&b), &err), err);
    fs_buf_done(&b);
    snprintf(path, sizeof path, "tests/vectors/%s/config.json", fixture);
    assert_ok(fs_file_read(path, 1 << 20, &b, &err), err);
    snprintf(path, sizeof path, "%s/config.json", ret_folder);
    assert_ok(fs_file_write_atomic(path, fs_buf_bytes(&b), &err), err);
    fs_buf_done(&b);
}

static fs_model *open_with(const char *fixture, bool tamed, const char *kv_type)
{
    fs_model_options o = { .n_threads = 2, .mtp = true, .kv_type = kv_type };
    char path[256];
    fs_model *m = NULL;
    fs_error err;

    if (tamed)
        tame(fixture, path, sizeof path);
    else
        snprintf(path, sizeof path, "tests/vectors/%s", fixture);
    assert_ok(fs_model_open(path, &o, &m, &err), err);
    if (tamed) { /* the map stays */
        char file[300];
        snprintf(file, sizeof file, "%s/model.safetensors", path);
        unlink(file);
        snprintf(file, sizeof file, "%s/config.json", path);
        unlink(file);
        rmdir(path);
    }
    return m;
}

static fs_model *open_model(const char *fixture, bool tamed)
{
    return open_with(fixture, tamed, NULL);
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return rmdir(root);
}

/* ---- answers ---- */

struct answer {
    int32_t ids[ANSWER_MAX];
    int n, stop_after;
};

static bool take(void *ud, int32_t id)
{
    struct answer *a = ud;

    a->ids[a->n++] = id;
    return a->n != a->stop_after;
}

/* A prompt of its own, or the session's sequence and a little more, or a part of it; often of phrases that come again. */
static size_t make_prompt(const fs_session *s, size_t v, size_t room, int32_t *ids)
{
    size_t n = 0, want = 1 + random_below((uint32_t)room), phrase = 2 + random_below(6);

    if (random_below(3) == 0) {
        n = (size_t)fs_session_n_tokens(s);
        n = n < room ? n : room - 1;
        n = random_below(2) ? n : random_below((uint32_t)n + 1);
        memcpy(ids, fs_session_tokens(s), n * sizeof *ids);
        want = n + 1 + random_below(8);
        want = want < room ? want : room;
    }
    for (; n < want; n++)
        ids[n] = n >= phrase && random_below(8) ? ids[n - phrase] : (int32_t)random_below((uint32_t)v);
    return n;
}

static const fs_sampling samplings[] = {
    { .top_p = 1, .repetition_penalty = 1 },
    { .temperature = 0.8f, .top_p = 1, .repetition_penalty = 1, .seed = 11 },
    { .top_p = 1, .repetition_penalty = 1.3f, .presence_penalty = 0.2f, .penalty_last_n = 40 },
    { .temperature = 0.8f, .top_p = 0.95f, .top_k = 60, .repetition_penalty = 1.1f, .frequency_penalty = 0.3f, .seed = 5 },
};

struct tally {
    long drafted, accepted;
};

/* The same prompt to a session that guesses: the same tokens, the same end, the same sequence left behind. */
static void compare(fs_session *plain, fs_session *guessing, const int32_t *ids, size_t n, const fs_sampling *o, int max_tokens,
                    int stop_after, const char *what, struct tally *t)
{
    struct answer want = { .stop_after = stop_after }, got = { .stop_after = stop_after };
    fs_generation g, h;
    fs_error err;
    fs_status rc = fs_generate_tokens(plain, ids, n, o, max_tokens, take, &want, &g, &err);

    assert_int_equal(fs_generate_tokens(guessing, ids, n, o, max_tokens, take, &got, &h, &err), rc);
    if (got.n != want.n || memcmp(got.ids, want.ids, (size_t)want.n * sizeof *want.ids) != 0)
        fail_msg("%s: a prompt of %zu tokens, temperature %g: %d tokens and other ones than the %d", what, n, (double)o->temperature,
                 got.n, want.n);
    assert_int_equal(h.stop, g.stop);
    assert_int_equal(h.n_tokens, g.n_tokens);
    assert_int_equal(fs_session_n_tokens(guessing), fs_session_n_tokens(plain));
    assert_memory_equal(fs_session_tokens(guessing), fs_session_tokens(plain), (size_t)fs_session_n_tokens(plain) * sizeof *ids);
    assert_int_equal(g.n_drafted, 0);
    t->drafted += h.n_drafted;
    t->accepted += h.n_accepted;
}

static void run_prompts(fs_model *m, int n_prompts, const char *what, struct tally tallies[3])
{
    static const int drafts[] = { 1, 2, 3, 5, 8, FS_DRAFT_MAX };
    static const float likely[] = { 0, 0, 0.01f, 0.4f }; /* mostly guesses that fail too */
    size_t v = (size_t)fs_model_vocab_size(m), room;
    int n_hows = fs_model_has_mtp(m) ? 3 : 2, ctx = fs_model_ctx_tokens_max(m) < CTX ? fs_model_ctx_tokens_max(m) : CTX;
    fs_session *s[3] = { 0 };
    int32_t *ids = malloc((size_t)ctx * sizeof *ids);
    fs_error err;

    for (int how = 0; how < n_hows; how++)
        assert_ok(fs_session_new(m, ctx, &s[how], &err), err);
    for (int i = 0; i < n_prompts; i++) {
        const fs_sampling *o = &samplings[i % 4];
        int max_tokens = 1 + (int)random_below(ANSWER_MAX), stop_after = random_below(4) ? 0 : 1 + (int)random_below((uint32_t)max_tokens);
        size_t n;
        room = (size_t)ctx - (random_below(8) ? ANSWER_MAX : 2); /* some answers fill the context */
        n = make_prompt(s[0], v, room, ids);
        for (int how = 1; how < n_hows; how++) {
            if (i % 5 == 0) { /* otherwise as it was for the prompt before */
                assert_ok(fs_session_speculate(s[how], (fs_speculation)how, drafts[random_below(6)], &err), err);
                s[how]->draft.likely = likely[random_below(4)];
            }
            compare(s[0], s[how], ids, n, o, max_tokens, stop_after, what, &tallies[how]);
        }
    }
    for (int how = 0; how < n_hows; how++)
        fs_session_free(s[how]);
    free(ids);
}

static void guesses_change_nothing(void **state)
{
    const char *asked = getenv("FARSEEK_TEST_PROMPTS");
    int n_prompts = asked ? atoi(asked) : PROMPTS, n_each = (n_prompts + 2 * (int)N_FIXTURES - 1) / (2 * (int)N_FIXTURES);

    (void)state;
    for (size_t f = 0; f < 2 * N_FIXTURES; f++) {
        const char *name = fixtures[f / 2];
        struct tally t[3] = { 0 };
        fs_model *m = open_model(name, f % 2);
        char what[64];
        snprintf(what, sizeof what, "%s%s", name, f % 2 ? ", tamed" : "");
        run_prompts(m, n_each, what, t);
        printf("%s: %d prompts; lookup %ld of %ld right, mtp %ld of %ld\n", what, n_each, t[1].accepted, t[1].drafted, t[2].accepted,
               t[2].drafted);
        assert_true(t[1].drafted > 0 && (t[2].drafted > 0) == fs_model_has_mtp(m));
        if (f % 2) { /* what is tested is that guesses hold, too */
            assert_true(t[1].accepted > 0);
            assert_true(t[2].accepted * 10 >= t[2].drafted);
        }
        fs_model_close(m);
    }
}

/* Rows of an 8-bit or bf16 cache that a rejected guess has written, and that of a prompt cut back, are as if never written: another
 * session would differ in a token. */
static void guesses_change_nothing_in_any_cache(void **state)
{
    static const char *const names[] = { "qwen3", "llama3", "ds_v2_lite", "ds_v3", "deepseek_moe" }, *const types[] = { "q8", "bf16" };
    struct tally all[3] = { 0 };

    (void)state;
    for (size_t f = 0; f < 2 * sizeof names / sizeof *names; f++) {
        struct tally t[3] = { 0 };
        fs_model *m = open_with(names[f / 2], true, types[f % 2]);
        char what[64];
        assert_string_equal(fs_model_kv_type(m), types[f % 2]);
        snprintf(what, sizeof what, "%s, %s cache", names[f / 2], types[f % 2]);
        run_prompts(m, 24, what, t);
        for (int how = 1; how < 3; how++) {
            all[how].drafted += t[how].drafted;
            all[how].accepted += t[how].accepted;
        }
        fs_model_close(m);
    }
    for (int how = 1; how < 3; how++) /* kept ones, and ones to take back */
        assert_true(all[how].accepted > 100 && all[how].drafted > all[how].accepted + 100);
}

static fs_generation answer_with(fs_session *s, float likely, int n_draft, int32_t *ret_ids)
{
    static const int32_t prompt[] = { 5, 9, 5, 9, 5 };
    struct answer a = { 0 };
    fs_generation g;
    fs_error err;

    assert_ok(fs_session_speculate(s, FS_SPECULATE_MTP, n_draft, &err), err);
    s->draft.likely = likely;
    assert_ok(fs_generate_tokens(s, prompt, 5, NULL, ANSWER_MAX, take, &a, &g, &err), err);
    memcpy(ret_ids, a.ids, sizeof a.ids);
    return g;
}

/* What the layer does not believe in is no guess, and a layer that is always wrong is asked less and less, but goes on reading. */
static void a_layer_is_asked_where_it_pays(void **state)
{
    int32_t want[ANSWER_MAX], got[ANSWER_MAX];
    fs_generation g;
    fs_session *s;
    fs_error err;

    (void)state;
    for (int tamed = 0; tamed < 2; tamed++) {
        fs_model *m = open_model("ds_v4_mtp", tamed);
        assert_ok(fs_session_new(m, CTX, &s, &err), err);
        g = answer_with(s, 2, 4, want); /* nothing is that likely */
        assert_int_equal(g.n_drafted, 0);
        g = answer_with(s, 0, 1, got);
        assert_memory_equal(got, want, sizeof want);
        printf("%s: %d of %d right\n", tamed ? "tamed" : "as it is", g.n_accepted, g.n_drafted);
        if (tamed)
            assert_true(g.n_accepted > 5);
        else /* four, then one behind pauses of 1, 2, 4, 8, 16 and so on */
            assert_true(g.n_accepted == 0 && g.n_drafted >= 8 && g.n_drafted <= 10);
        fs_session_free(s);
        fs_model_close(m);
    }
}

/* The MTP layer behind a prompt and the token that follows it, fed its own streams again: numpy's tokens. */
static void a_chain_equals_the_reference(void **state)
{
    fs_model *m = open_model("ds_v4_mtp", false);
    size_t v = (size_t)fs_model_vocab_size(m), floats = fs_model_hidden_floats(m), n;
    struct json_object *e = NULL, *chain, *list, *want;
    float *logits = malloc(v * sizeof *logits), *hidden, *mtp_logits;
    int32_t ids[64], id;
    fs_buf text = { 0 };
    fs_session *s;
    fs_error err;

    (void)state;
    assert_ok(fs_file_read("tests/vectors/ds_v4_mtp/expected.json", 1 << 24, &text, &err), err);
    assert_ok(fs_json_parse(fs_buf_bytes(&text), "expected.json", &e, &err), err);
    chain = fs_json_member(e, "chain");
    list = fs_json_member(chain, "prompt");
    want = fs_json_member(chain, "tokens");
    n = json_object_array_length(list);
    assert_true(n < 64);
    for (size_t i = 0; i < n; i++)
        ids[i] = json_object_get_int(json_object_array_get_idx(list, i));
    hidden = malloc(n * floats * sizeof *hidden);
    mtp_logits = malloc(n * v * sizeof *mtp_logits);
    assert_ok(fs_session_new(m, 128, &s, &err), err);
    assert_ok(fs_session_eval(s, ids, n, 0, NULL, logits, hidden, &err), err);
    ids[n] = (int32_t)m->kernels.rows.argmax(logits, v);
    assert_int_equal(ids[n], json_object_get_int(json_object_array_get_idx(want, 0)));
    assert_ok(fs_network_mtp_step(m->network, m->workspace, &s->cache, hidden, ids + 1, (uint32_t)n, 1, mtp_logits, hidden, &err), err);
    for (size_t i = 1; i < json_object_array_length(want); i++) {
        id = (int32_t)m->kernels.rows.argmax(mtp_logits, v);
        assert_int_equal(id, json_object_get_int(json_object_array_get_idx(want, i)));
        assert_ok(fs_network_mtp_step(m->network, m->workspace, &s->cache, hidden, &id, 1, 1, mtp_logits, hidden, &err), err);
    }
    fs_session_free(s);
    fs_model_close(m);
    json_object_put(e);
    fs_buf_done(&text);
    free(hidden);
    free(mtp_logits);
    free(logits);
}

static void guesses_cost_no_allocation(void **state)
{
    fs_error err;

    (void)state;
    for (int how = FS_SPECULATE_LOOKUP; how <= FS_SPECULATE_MTP; how++) {
        static const int32_t prompt[] = { 5, 9, 5, 9, 5 };
        fs_model *m = open_model("ds_v4_mtp", true);
        struct answer a = { 0 };
        fs_session *s;
        long before, few;
        assert_ok(fs_session_new(m, CTX, &s, &err), err);
        assert_ok(fs_session_speculate(s, (fs_speculation)how, 4, &err), err);
        before = atomic_load(&alloc_count);
        assert_ok(fs_generate_tokens(s, prompt, 5, NULL, 2, take, &a, NULL, &err), err);
        few = atomic_load(&alloc_count) - before;
        before = atomic_load(&alloc_count);
        a.n = 0;
        assert_ok(fs_generate_tokens(s, prompt, 5, NULL, ANSWER_MAX, take, &a, NULL, &err), err);
        assert_int_equal(atomic_load(&alloc_count) - before, few);
        assert_int_equal(few, 0);
        fs_session_free(s);
        fs_model_close(m);
    }
}

static void what_cannot_be_is_a_sentence(void **state)
{
    fs_model *m = open_model("qwen3", false), *v4 = open_model("ds_v4_mtp", false);
    static const int32_t prompt[] = { 5, 9, 5, 9, 5 };
    struct answer want = { 0 }, got = { 0 };
    fs_session *s;
    fs_error err;

    (void)state;
    assert_ok(fs_session_new(m, 100, &s, &err), err);
    assert_int_equal(fs_session_speculate(s, FS_SPECULATE_MTP, 1, &err), FS_ERR_UNSUPPORTED);
    assert_sentence(err, "multi-token-prediction");
    assert_int_equal(fs_session_speculate(s, FS_SPECULATE_LOOKUP, FS_DRAFT_MAX + 1, &err), FS_ERR_ARGUMENT);
    assert_sentence(err, "32");
    fs_session_free(s);
    fs_model_close(m);
    assert_ok(fs_session_new(v4, 100, &s, &err), err);
    assert_ok(fs_generate_tokens(s, prompt, 5, NULL, 20, take, &want, NULL, &err), err);
    for (long n = 1; alloc_fail_at(n), fs_session_speculate(s, FS_SPECULATE_MTP, 3, &err) != FS_OK; n++)
        assert_int_equal(err.code, FS_ERR_MEMORY);
    alloc_fail_off();
    assert_ok(fs_generate_tokens(s, prompt, 5, NULL, 20, take, &got, NULL, &err), err);
    assert_memory_equal(got.ids, want.ids, sizeof got.ids);
    fs_session_free(s);
    fs_model_close(v4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guesses_change_nothing),
        cmocka_unit_test(guesses_change_nothing_in_any_cache),
        cmocka_unit_test(a_layer_is_asked_where_it_pays),
        cmocka_unit_test(a_chain_equals_the_reference),
        cmocka_unit_test(guesses_cost_no_allocation),
        cmocka_unit_test(what_cannot_be_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
