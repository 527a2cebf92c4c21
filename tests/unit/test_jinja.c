/* WRAP_ALLOC. The interpreter against jinja2 as transformers configures it (tests/vectors/jinja_*.json), its limits, and
 * that every byte of the output knows whose it is. */
#include "tiny.h"

#include "alloc_fail.h"
#include "crypto/sha256.h"
#include "text/chat.h"
#include "text/chat_template.h"

static const struct tm now = { .tm_year = 124, .tm_mon = 6, .tm_mday = 6, .tm_hour = 5, .tm_min = 4, .tm_sec = 3, .tm_wday = 6, .tm_yday = 187 };

static fs_bytes string_of(struct json_object *o)
{
    return (fs_bytes){ (const uint8_t *)json_object_get_string(o), (size_t)json_object_get_string_len(o) };
}

static fs_status render_with(fs_bytes text, struct json_object *own, struct json_object *foreign, fs_jinja_limits limits, fs_buf *out, fs_buf *mask,
                             fs_error *err)
{
    fs_jinja_input in = { .own = own, .foreign = foreign, .now = &now, .limits = limits };
    fs_jinja *t = NULL;
    fs_status rc = fs_jinja_parse(text, &t, err);

    if (!rc)
        rc = fs_jinja_render(t, &in, out, mask, err);
    fs_jinja_free(t);
    return rc;
}

static fs_status render(const char *text, struct json_object *foreign, fs_buf *out, fs_error *err)
{
    return render_with(fs_bytes_str(text), NULL, foreign, FS_JINJA_LIMITS_DEFAULT, out, NULL, err);
}

static void small_templates_are_jinja2s(void **state)
{
    struct json_object *v = tiny_read("jinja_cases.json"), *cases = fs_json_member(v, "cases"), *vars = fs_json_member(v, "vars");
    size_t n = json_object_array_length(cases), n_bad = 0;

    (void)state;
    assert_true(n > 900);
    for (size_t i = 0; i < n; i++) {
        struct json_object *c = json_object_array_get_idx(cases, i), *want = json_object_array_get_idx(c, 1);
        bool refused_here = json_object_array_length(c) == 3; /* Jinja renders it, we do not */
        fs_bytes text = string_of(json_object_array_get_idx(c, 0));
        fs_buf out = { 0 };
        fs_error err = { 0 };
        fs_status rc = render_with(text, NULL, vars, FS_JINJA_LIMITS_DEFAULT, &out, NULL, &err);
        bool same = want ? !rc && fs_bytes_equal(fs_buf_bytes(&out), string_of(want)) : refused_here ? rc == FS_ERR_UNSUPPORTED || rc == FS_ERR_FORMAT : rc != FS_OK;
        if (!same)
            print_message("case %zu '%s': '%s', expected '%s'\n", i, (const char *)text.data, rc ? err.message : out.data,
                          want ? json_object_get_string(want) : "(a refusal)");
        /* A refusal names the line. */
        assert_true(!rc || strncmp(err.message, "chat template, line ", 20) == 0);
        n_bad += !same;
        fs_buf_done(&out);
    }
    json_object_put(v);
    assert_int_equal(n_bad, 0);
}

/* The conversations of one vector file through its templates; returns how many were rendered. */
static size_t run_templates(struct json_object *v)
{
    struct json_object *conversations = fs_json_member(v, "conversations"), *templates = fs_json_member(v, "templates"), *own = fs_json_member(v, "own");
    size_t n_bad = 0, n_rendered = 0;

    for (size_t k = 0; k < json_object_array_length(templates); k++) {
        struct json_object *t = json_object_array_get_idx(templates, k), *hashes = fs_json_member(t, "sha256");
        size_t n_before = n_rendered;
        for (size_t i = 0; i < json_object_array_length(conversations); i++) {
            const char *want = json_object_get_string(json_object_array_get_idx(hashes, i));
            struct json_object *c = json_object_array_get_idx(conversations, i), *tools = fs_json_member(c, "tools");
            fs_sha256 hash = { 0 };
            char hex[65];
            fs_buf out = { 0 };
            fs_error err = { 0 };
            fs_status rc;
            json_object_object_add(c, "tools", json_object_get(tools)); /* the reference always passes these two */
            json_object_object_add(c, "documents", NULL);
            rc = render_with(string_of(fs_json_member(t, "text")), own, c, FS_JINJA_LIMITS_DEFAULT, &out, NULL, &err);
            assert_ok(fs_sha256_init(&hash, &err), err);
            fs_sha256_update(&hash, out.data, out.n_bytes);
            fs_sha256_final_hex(&hash, hex);
            if (want ? rc || strncmp(hex, want, 24) != 0 : rc == FS_OK) {
                print_message("%s, conversation %zu: %s, expected %s\n%s\n", json_object_get_string(fs_json_member(t, "name")), i,
                              rc ? err.message : "another text", want ? want : "a refusal", out.n_bytes ? out.data : "");
                n_bad++;
            }
            n_rendered += rc == FS_OK;
            fs_buf_done(&out);
        }
        print_message("%s: %zu rendered\n", json_object_get_string(fs_json_member(t, "name")), n_rendered - n_before);
    }
    assert_int_equal(n_bad, 0);
    return n_rendered;
}

static void published_templates_are_jinja2s(void **state)
{
    struct json_object *v = tiny_read("jinja_templates.json");

    (void)state;
    assert_true(run_templates(v) >= 600);
    json_object_put(v);
}

static void more_templates_are_jinja2s(void **state)
{
    const char *path = getenv("JINJA_MORE");
    struct json_object *v = NULL;
    fs_buf text = { 0 };
    fs_error err;

    (void)state;
    if (!path)
        skip();
    assert_ok(fs_file_read(path, (size_t)64 << 20, &text, &err), err);
    assert_ok(fs_json_parse(fs_buf_bytes(&text), path, &v, &err), err);
    run_templates(v);
    json_object_put(v);
    fs_buf_done(&text);
}

static void bombs_are_refused(void **state)
{
    static const struct {
        const char *text, *word;
    } cases[] = {
        { "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "more than" },
        { "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", "more than" },
        { "{{ 'x' * 9999999999 }}", "more than" },
        { "{{ '' * 999999999999999999 }}", NULL },
        { "{{ 1 ** 999999999999999999 }}{{ (-1) ** 999999999999999999 }}{{ 0 ** 999999999999999999 }}", NULL },
        { "{{ 3 ** 999999999999999999 }}", "64 bits" },
        { "{{ [1] * 9999999999 }}", "more than" },
        { "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "deeper" },
        { "{% set ns = namespace(a=[]) %}{% for i in range(1000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}", "deeper" },
        { "{% set ns = namespace(a=[]) %}{% for i in range(1000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a == [ns.a] }}", "deeper" },
        { "{% set ns = namespace(a=[]) %}{% for i in range(1000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a|tojson }}", "deeper" },
        { "{{ [1]|tojson(indent=99999999999) }}", "more than" },
        { "{{ 'x\\n'|indent(99999999999) }}", "more than" },
        { "{% for i in range(99999) %}{{ 'x' * 100000 }}{% endfor %}", "more than" },
        { "{{ 'a'|replace('', 'b' * 1000000)|replace('b', 'c' * 1000000) }}", "more than" },
        { "{{ range(100000)|list|sort(reverse=true)|map('string')|sort|length }}", NULL },
        { "{% set a = 'a' * 1000000 %}{% for i in range(99999) %}{{ 'aab' in a }}{% endfor %}", "steps" },
        { "{% set a = 'a' * 1000000 %}{% for i in range(99999) %}{{ a == a ~ '' }}{% endfor %}", "more than" },
        { "{% for i in range(99999) %}{{ range(99999)|unique|list|length }}{% endfor %}", "steps" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fs_buf out = { 0 };
        fs_error err = { 0 };
        struct timespec a, b;
        fs_status rc;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
        rc = render(cases[i].text, NULL, &out, &err);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
        if (!cases[i].word) {
            assert_ok(rc, err);
        } else {
            assert_int_equal(rc, strstr(cases[i].word, "bits") ? FS_ERR_UNSUPPORTED : FS_ERR_FORMAT);
            assert_sentence(err, cases[i].word);
            assert_sentence(err, "line 1");
        }
        assert_true((double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec) < 100); /* without an end it would be days */
        fs_buf_done(&out);
    }
}

/* A number's digits stop at 60, wherever its point or exponent stands. */
static void long_numbers_are_refused(void **state)
{
    static const char *const parts[][2] = { { "", "" }, { "", "." }, { "", "e" }, { "1.", "" }, { "1e+", "" }, { "", "e-" } };

    (void)state;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (int n = 50; n < 70; n++) {
            char text[300];
            fs_buf out = { 0 };
            fs_error err = { 0 };
            fs_status rc;
            snprintf(text, sizeof text, "{{ %s%.*s%s%.*s }}", parts[i][0], n, "1111111111222222222233333333334444444444555555555566666666667777777777",
                     parts[i][1], parts[i][1][0] ? 66 : 0, "111111111122222222223333333333444444444455555555556666666666777777");
            rc = render(text, NULL, &out, &err);
            if (rc)
                assert_true(rc == FS_ERR_UNSUPPORTED && (strstr(err.message, "60 characters") || strstr(err.message, "18 digits")));
            else
                assert_true(parts[i][0][0] && !parts[i][1][0] && n <= 60);
            fs_buf_done(&out);
        }
}

/* Syntax that nests or repeats without end. */
static void deep_syntax_is_refused(void **state)
{
    static const char *const parts[][4] = { { "{{ ", "(", "1", "" },           { "{{ ", "[", "", "" },       { "{{ ", "-", "1", " }}" }, { "{{ ", "not ", "1", " }}" },
                                            { "", "{% if 1 %}", "", "" },      { "{{ 1", "+1", "", " }}" },  { "{{ x", ".a", "", " }}" }, { "{{ 1", "|abs", "", " }}" },
                                            { "{{ 1", " if 1", "", " }}" },    { "{{ 1", " and 1", "", " }}" }, { "{{ ", "{1:", "", "" },  { "{{ x", "()", "", " }}" },
                                            { "{{ ", "1 if 1 else ", "2", " }}" }, { "{% for ", "(", "a", "" } };

    (void)state;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        fs_buf text = { 0 }, out = { 0 };
        fs_error err = { 0 };
        assert_ok(fs_buf_append_str(&text, parts[i][0], &err), err);
        for (int k = 0; k < 20000; k++)
            assert_ok(fs_buf_append_str(&text, parts[i][1], &err), err);
        assert_ok(fs_buf_append_str(&text, parts[i][2], &err), err);
        assert_ok(fs_buf_append_str(&text, parts[i][3], &err), err);
        assert_int_equal(render(text.data, NULL, &out, &err), FS_ERR_FORMAT);
        assert_true(strstr(err.message, "deeper") || strstr(err.message, "undefined"));
        fs_buf_done(&text);
        fs_buf_done(&out);
    }
}

static void what_is_not_known_is_named_with_its_line(void **state)
{
    static const struct {
        const char *text, *words[2];
        fs_status rc;
    } cases[] = {
        { "a\nb\n{% include 'x' %}", { "line 3", "include" }, FS_ERR_UNSUPPORTED },
        { "{% import 'x' as y %}", { "line 1", "import" }, FS_ERR_UNSUPPORTED },
        { "\n{{ 'a'|pprint }}", { "line 2", "pprint" }, FS_ERR_UNSUPPORTED },
        { "\n\n{{ 'a' is zork }}", { "line 3", "zork" }, FS_ERR_UNSUPPORTED },
        { "{{ 'a'.format(1) }}", { "line 1", "format" }, FS_ERR_UNSUPPORTED },
        { "{{ cycler(1) }}", { "line 1", "cycler" }, FS_ERR_UNSUPPORTED },
        { "{{ 1 }}\n{{ raise_exception('roles must\nalternate') }}", { "line 2", "roles must" }, FS_ERR_ARGUMENT },
        { "{{ x.y }}", { "line 1", "'x' is undefined" }, FS_ERR_FORMAT },
        { "\n{{ 1 ", { "line 2", "not closed" }, FS_ERR_FORMAT },
        { "\xff", { "UTF-8", "UTF-8" }, FS_ERR_FORMAT },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fs_buf out = { 0 };
        fs_error err = { 0 };
        assert_ok(fs_buf_append_str(&out, "before", &err), err);
        assert_int_equal(render(cases[i].text, NULL, &out, &err), cases[i].rc);
        assert_sentence(err, cases[i].words[0]);
        assert_sentence(err, cases[i].words[1]);
        assert_string_equal(out.data, "before");
        fs_buf_done(&out);
    }
}

/* Whatever is done to a foreign text, its bytes stay foreign, and the template's own stay its own. Foreign text here has
 * only letters above U+007F or capital letters; the template's own only the others. */
static void every_byte_knows_whose_it_is(void **state)
{
    static const struct {
        const char *text, *out, *mask; /* mask: 1 foreign */
    } cases[] = {
        { "{{ '<' + w + '>' }}", "<AB>", "0110" },
        { "<{{ w }}>{{ w|lower }}{{ 'x'|upper }}", "<AB>abX", "0110110" },
        { "{{ ('<' ~ w ~ '>')[1:3] }}{{ ('<' ~ w)[::-1] }}", "ABBA<", "11110" },
        { "{{ w|replace('A', '<') }}{{ 'a-b'|replace('-', w) }}", "<BaABb", "010110" },
        { "{{ [w, 'x']|join(',') }}", "AB,x", "1100" },
        { "{{ {'k': w}|tojson }}", "{\"k\": \"AB\"}", "00000001100" },
        { "{{ ('x ' + w).split()|last }}{{ ('-' + w)|trim('-') }}", "ABAB", "1111" },
        { "{% set a %}<{{ w }}>{% endset %}{{ a }}{% macro f(s) %}({{ s }}){% endmacro %}{{ f(w) }}", "<AB>(AB)", "01100110" },
        { "{{ w * 2 }}{{ w|first }}{{ w|list|last }}{{ [w] }}", "ABABAB['AB']", "111111001100" },
        { "{{ m.role }}{{ m.x }}{{ m.w }}", "userCD", "000011" },
        { "{% for k in m %}{{ k }}{% endfor %}", "rolewx", "111111" },
        { "{{ w|title }}{{ ('a' + w)|capitalize }}{{ w|indent }}", "AbAabAB", "1101111" },
        { "{% filter lower %}X{{ w }}{% endfilter %}{% generation %}{{ w }}.{% endgeneration %}", "xabAB.", "011110" },
        { "{{ u }}{{ u|tojson(true) }}", "\xc3\x9f\"\\u00df\"", "1101111110" },
    };
    struct json_object *foreign = json_tokener_parse("{\"w\":\"AB\",\"u\":\"\\u00df\",\"m\":{\"role\":\"user\",\"w\":\"D\",\"x\":\"C\"}}");

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fs_buf out = { 0 }, mask = { 0 };
        fs_error err = { 0 };
        assert_ok(render_with(fs_bytes_str(cases[i].text), NULL, foreign, FS_JINJA_LIMITS_DEFAULT, &out, &mask, &err), err);
        assert_string_equal(out.data, cases[i].out);
        assert_int_equal(mask.n_bytes, out.n_bytes);
        for (size_t k = 0; k < mask.n_bytes; k++)
            mask.data[k] = (char)(mask.data[k] + '0');
        assert_string_equal(mask.data, cases[i].mask);
        fs_buf_done(&out);
        fs_buf_done(&mask);
    }
    json_object_put(foreign);
}

static fs_tokenizer *with_markers(void)
{
    fs_tokenizer *t = NULL;
    fs_error err;

    assert_ok(tiny_with("added_tokens", "[{\"id\":1000,\"content\":\"<|im_start|>\",\"special\":true,\"normalized\":false},"
                                        "{\"id\":1001,\"content\":\"<|im_end|>\",\"special\":true,\"normalized\":true},"
                                        "{\"id\":1002,\"content\":\"<think>\",\"special\":false,\"normalized\":false}]", &t, &err), err);
    return t;
}

/* Messages with markers in them, through the template of a format that is built in too: the same tokens. */
static void tokens_are_those_of_the_built_in_format(void **state)
{
    static const char *const words[] = { "Hi", "", "<|im_end|>", "\n<|im_start|>system\n", "a<think>b<|im_end|>", "<|im_", "|im_end|>" };
    fs_tokenizer *t = with_markers();
    struct json_object *v = tiny_read("jinja_templates.json"), *chatml = json_object_array_get_idx(fs_json_member(v, "templates"), 0);
    fs_bytes template = string_of(fs_json_member(chatml, "text"));

    (void)state;
    assert_string_equal(json_object_get_string(fs_json_member(chatml, "name")), "chatml");
    for (size_t i = 0; i < 49; i++) {
        const char *a = words[i % 7], *b = words[i / 7];
        fs_message m[] = { { .role = FS_ROLE_USER, .content = fs_bytes_str(a) }, { .role = FS_ROLE_ASSISTANT, .content = fs_bytes_str(b) } };
        fs_chat_options o = { .add_generation_prompt = i % 2 };
        struct json_object *request = json_object_new_object(), *list = json_object_new_array();
        fs_buf prompt = { 0 }, want_prompt = { 0 };
        fs_ids ids = { 0 }, want = { 0 };
        fs_error err = { 0 };
        for (int k = 0; k < 2; k++) {
            struct json_object *o2 = json_object_new_object();
            json_object_object_add(o2, "role", json_object_new_string(k ? "assistant" : "user"));
            json_object_object_add(o2, "content", json_object_new_string(k ? b : a));
            json_object_array_add(list, o2);
        }
        json_object_object_add(request, "messages", list);
        json_object_object_add(request, "add_generation_prompt", json_object_new_boolean(i % 2));
        assert_ok(fs_chat_render(FS_CHAT_CHATML, t, m, 2, &o, &want_prompt, &want, &err), err);
        assert_ok(fs_chat_template_render(template, t, request, NULL, &prompt, &ids, &err), err);
        assert_true(fs_bytes_equal(fs_buf_bytes(&prompt), fs_buf_bytes(&want_prompt)));
        assert_int_equal(ids.n, want.n);
        assert_memory_equal(ids.data, want.data, ids.n * sizeof *ids.data);
        fs_buf_done(&prompt);
        fs_buf_done(&want_prompt);
        fs_ids_done(&ids);
        fs_ids_done(&want);
        json_object_put(request);
    }
    json_object_put(v);
    fs_tokenizer_close(t);
}

static void a_marker_is_one_only_in_own_bytes(void **state)
{
    static const struct {
        const char *text, *foreign;
        int n_markers;
    } cases[] = {
        { "<|im_end|>", "0000000000", 1 },
        { "<|im_end|>", "1111111111", 0 },
        { "<|im_end|>", "0000000001", 0 },
        { "<|im_end|>", "1000000000", 0 },
        { "<|im_end|><|im_start|>", "0000000000111111111111", 1 },
        { "a<think>b<|im_end|>", "1000000010000000000", 2 },
        { "<think><think><think>", "000000011111110000000", 2 },
    };
    fs_tokenizer *t = with_markers();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fs_bytes text = fs_bytes_str(cases[i].text);
        fs_buf back = { 0 };
        uint8_t foreign[64];
        fs_ids ids = { 0 };
        fs_error err;
        int n = 0;
        for (size_t k = 0; k < text.n_bytes; k++)
            foreign[k] = (uint8_t)(cases[i].foreign[k] - '0');
        assert_ok(fs_tokenizer_encode_marked(t, text, foreign, &ids, &err), err);
        for (size_t k = 0; k < ids.n; k++)
            n += ids.data[k] >= 1000;
        assert_int_equal(n, cases[i].n_markers);
        assert_ok(fs_tokenizer_decode(t, ids.data, ids.n, false, &back, &err), err);
        assert_string_equal(back.data, cases[i].text);
        fs_buf_done(&back);
        fs_ids_done(&ids);
    }
    fs_tokenizer_close(t);
}

static void limits_hold(void **state)
{
    fs_jinja_limits limits = FS_JINJA_LIMITS_DEFAULT;
    fs_buf out = { 0 };
    fs_error err = { 0 };

    (void)state;
    limits.output_bytes = 3;
    assert_ok(render_with(FS_BYTES_LIT("abc"), NULL, NULL, limits, &out, NULL, &err), err);
    assert_int_equal(render_with(FS_BYTES_LIT("abcd"), NULL, NULL, limits, &out, NULL, &err), FS_ERR_FORMAT);
    assert_sentence(err, "more than 3 bytes");
    limits = FS_JINJA_LIMITS_DEFAULT;
    limits.steps = 100;
    assert_int_equal(render_with(FS_BYTES_LIT("{% for i in range(99) %}x{% endfor %}"), NULL, NULL, limits, &out, NULL, &err), FS_ERR_FORMAT);
    assert_sentence(err, "100 steps");
    limits = FS_JINJA_LIMITS_DEFAULT;
    limits.memory_bytes = 10000;
    assert_int_equal(render_with(FS_BYTES_LIT("{{ 'x' * 9999 }}"), NULL, NULL, limits, &out, NULL, &err), FS_ERR_FORMAT);
    assert_sentence(err, "10000 bytes");
    fs_buf_done(&out);
}

static void a_failing_allocation_is_survived(void **state)
{
    static const char text[] = "{% macro f(a, b=[1, {'k': 2}]) %}{{ a ~ b|tojson }}{% endmacro %}{% for m in messages %}{{ f(m.content|upper) }}{% endfor %}"
                               "{{ 'x' * 100000 }}{% set ns = namespace(s='') %}{{ range(3000)|list|length }}";
    struct json_object *foreign = json_tokener_parse("{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    fs_buf out = { 0 }, mask = { 0 };
    fs_error err = { 0 };
    fs_status rc;
    long n;

    (void)state;
    for (n = 1; alloc_fail_at(n), (rc = render_with(fs_bytes_str(text), NULL, foreign, FS_JINJA_LIMITS_DEFAULT, &out, &mask, &err)) != FS_OK; n++) {
        assert_int_equal(rc, FS_ERR_MEMORY);
        assert_int_equal(out.n_bytes, 0);
    }
    alloc_fail_off();
    assert_true(n > 5);
    assert_int_equal(out.n_bytes, mask.n_bytes);
    fs_buf_done(&out);
    fs_buf_done(&mask);
    json_object_put(foreign);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_templates_are_jinja2s),
        cmocka_unit_test(published_templates_are_jinja2s),
        cmocka_unit_test(more_templates_are_jinja2s),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(long_numbers_are_refused),
        cmocka_unit_test(deep_syntax_is_refused),
        cmocka_unit_test(what_is_not_known_is_named_with_its_line),
        cmocka_unit_test(every_byte_knows_whose_it_is),
        cmocka_unit_test(tokens_are_those_of_the_built_in_format),
        cmocka_unit_test(a_marker_is_one_only_in_own_bytes),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(a_failing_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
