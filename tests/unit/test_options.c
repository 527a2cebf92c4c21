/* Option tables: sources and their order, limits, sentences, help. WRAP_ALLOC: every allocation may fail. */
#include "base/options.h"
#include "base/yaml.h"

#include "alloc_fail.h"
#include "unit.h"

static struct {
    const char *isa, *file;
    int threads;
    uint64_t seed, memory;
    double temperature;
    bool json, quiet;
} opt;

static const fs_option options[] = {
    FS_OPT_STR("isa", 0, opt.isa, "scalar|avx2", "the instruction set"),
    FS_OPT_STR("ids-file", 'f', opt.file, "FILE", "a file"),
    FS_OPT_INT("threads", 't', opt.threads, 0, 256, "N", "threads (default 3)"),
    FS_OPT_U64("seed", 0, opt.seed, "N", "the seed"),
    FS_OPT_FLOAT("temperature", 'T', opt.temperature, 0, 100, "X", "temperature"),
    FS_OPT_SIZE("memory", 0, opt.memory, "SIZE", "memory"),
    FS_OPT_FLAG("json", 'j', opt.json, "answer in JSON"),
    FS_OPT_FLAG("quiet", 'q', opt.quiet, "say less"),
    FS_OPT_END
};
static const fs_option_set set = { .name = "try", .usage = "MODEL", .summary = "Try.", .options = options, .n_args_min = 0, .n_args_max = 2 };

static const char *env_threads;
static const char *env(const char *name)
{
    return strcmp(name, "FARSEEK_THREADS") == 0 ? env_threads : strcmp(name, "FARSEEK_IDS_FILE") == 0 ? "from-env" : NULL;
}

static fs_error error;

/* words: the command line, separated by '|'. */
static fs_status parse_with(const char *words, struct json_object *config, fs_args *args)
{
    static char copy[400];
    char *argv[20];
    int argc = 0;

    memset(&opt, 0, sizeof opt);
    opt.threads = 3;
    error = (fs_error){ 0 };
    snprintf(copy, sizeof copy, "%s", words);
    for (char *w = *copy ? strtok(copy, "|") : NULL; w; w = strtok(NULL, "|"))
        argv[argc++] = w;
    return fs_options_parse(&set, argc, argv, env, config, args, &error);
}

static fs_args parse(const char *words)
{
    fs_args args = { 0 };
    assert_int_equal(parse_with(words, NULL, &args), FS_OK);
    return args;
}

static void refuse(const char *words, const char *sentence)
{
    fs_args args = { 0 };
    assert_int_equal(parse_with(words, NULL, &args), FS_ERR_ARGUMENT);
    assert_string_equal(error.message, sentence);
}

static void every_spelling_sets_the_value(void **state)
{
    static const char *const spellings[] = { "--threads|7", "--threads=7", "-t|7", "-t7", "-jt7", "-t|5|--threads=7" };
    (void)state;
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        fs_args a = parse(spellings[i]);
        assert_int_equal(opt.threads, 7);
        assert_true(fs_args_given(&set, &a, "threads"));
        assert_false(fs_args_given(&set, &a, "seed"));
        fs_args_done(&a);
    }
    fs_args a = parse("--seed=18446744073709551615|-T|0.25|-jq|--isa|avx2|--no-quiet");
    assert_true(opt.seed == UINT64_MAX && opt.temperature == 0.25 && opt.json && !opt.quiet);
    assert_string_equal(opt.isa, "avx2");
    fs_args_done(&a);
}

static void options_and_arguments_mix(void **state)
{
    (void)state;
    fs_args a = parse("one|-j|-");
    assert_int_equal(a.n, 2);
    assert_string_equal(a.items[0], "one");
    assert_string_equal(a.items[1], "-");
    assert_null(a.items[2]);
    fs_args_done(&a);
    a = parse("--|--json|-x");
    assert_int_equal(a.n, 2);
    assert_string_equal(a.items[0], "--json");
    assert_false(opt.json);
    fs_args_done(&a);
}

static void wrong_usage_is_a_sentence(void **state)
{
    (void)state;
    refuse("--threds|4", "unknown option '--threds': did you mean '--threads'?");
    refuse("--temp|4", "unknown option '--temp': did you mean '--temperature'?");
    refuse("--xyzzy", "unknown option '--xyzzy' (farseek try --help lists them)");
    refuse("--temp=4", "unknown option '--temp': did you mean '--temperature'?");
    refuse("--xyzzy=4", "unknown option '--xyzzy' (farseek try --help lists them)");
    refuse("-x", "unknown option '-x' (farseek try --help lists them)");
    refuse("--threads", "option '--threads' needs a value: N");
    refuse("--threads|257", "--threads is 257, allowed are 0 to 256");
    refuse("--threads|99999999999999999999", "--threads is 99999999999999999999, allowed are 0 to 256");
    refuse("--threads|4x", "--threads is '4x', which is not an integer");
    refuse("-t|x", "-t (--threads) is 'x', which is not an integer");
    refuse("--seed|-1", "--seed is '-1', which is not an integer from 0");
    refuse("--temperature|nan", "--temperature is 'nan', which is not a number");
    refuse("--temperature|101", "--temperature is 101, allowed are 0 to 100");
    refuse("--isa|sse", "--isa is 'sse', allowed are scalar|avx2");
    refuse("--json=maybe", "--json is 'maybe', allowed are true and false");
    refuse("--no-threads", "unknown option '--no-threads': did you mean '--threads'?");
    refuse("a|b|c", "'try' takes at most 2 arguments, 'c' is one too many");
}

static struct json_object *yaml(const char *text)
{
    struct json_object *v = NULL;
    assert_int_equal(fs_yaml_parse(fs_bytes_str(text), "c.yaml", &v, &error), FS_OK);
    return v;
}

static void flag_over_environment_over_section_over_top_over_default(void **state)
{
    struct json_object *top = yaml("threads: 4\ntemperature: 0.5\n"), *section = yaml("threads: 4\ntry:\n  threads: 5\n  json: true\n");
    fs_args a = { 0 };
    (void)state;

    assert_int_equal(parse_with("", NULL, &a), FS_OK);
    assert_int_equal(opt.threads, 3);
    assert_string_equal(opt.file, "from-env");
    fs_args_done(&a);
    assert_int_equal(parse_with("", top, &a), FS_OK);
    assert_int_equal(opt.threads, 4);
    assert_true(opt.temperature == 0.5);
    fs_args_done(&a);
    assert_int_equal(parse_with("", section, &a), FS_OK);
    assert_int_equal(opt.threads, 5);
    assert_true(opt.json);
    fs_args_done(&a);
    env_threads = "6";
    assert_int_equal(parse_with("--no-json", section, &a), FS_OK);
    assert_int_equal(opt.threads, 6);
    assert_false(opt.json);
    fs_args_done(&a);
    assert_int_equal(parse_with("-t7", section, &a), FS_OK);
    assert_int_equal(opt.threads, 7);
    fs_args_done(&a);
    env_threads = "many";
    assert_int_equal(parse_with("-t7", section, &a), FS_ERR_ARGUMENT);
    assert_string_equal(error.message, "FARSEEK_THREADS is 'many', which is not an integer");
    env_threads = NULL;
    json_object_put(top);
    json_object_put(section);
    section = yaml("try: { threads: 300 }");
    assert_int_equal(parse_with("", section, &a), FS_ERR_ARGUMENT);
    assert_string_equal(error.message, "configuration: try: threads is 300, allowed are 0 to 256");
    json_object_put(section);
}

static void refuse_config(const char *text, const char *sentence)
{
    const fs_option_set *const sets[] = { &set };
    struct json_object *v = yaml(text);
    assert_int_equal(fs_options_check_config(sets, 1, v, "c.yaml", &error), FS_ERR_FORMAT);
    assert_string_equal(error.message, sentence);
    json_object_put(v);
}

static void sizes_have_units(void **state)
{
    static const struct { const char *text; uint64_t bytes; } sizes[] = {
        { "4GiB", UINT64_C(4) << 30 }, { "4", UINT64_C(4) << 30 }, { "0.5", UINT64_C(1) << 29 }, { "512 MiB", UINT64_C(512) << 20 },
        { "1.5m", UINT64_C(3) << 19 }, { "7KIB", 7 << 10 }, { "3kB", 3000 }, { "2GB", 2000000000 }, { "1T", UINT64_C(1) << 40 }, { "0", 0 },
        { "123B", 123 },
    };
    static const char *const wrong[] = { "", "GiB", "-1", "4 giraffes", "4GiBs", "nan", "inf", " 4", "9000000000000T", "9e1T", "0x10g", "1.2.3G" };
    char words[64], sentence[128];

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        fs_args args;
        snprintf(words, sizeof words, "--memory=%s", sizes[i].text);
        assert_ok(parse_with(words, NULL, &args), error);
        assert_true(opt.memory == sizes[i].bytes);
        fs_args_done(&args);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(words, sizeof words, "--memory=%s", wrong[i]);
        snprintf(sentence, sizeof sentence, "--memory is '%s', which is no size like 4GiB or 500MiB", wrong[i]);
        refuse(words, sentence);
    }
}

static void unknown_configuration_is_a_sentence(void **state)
{
    const fs_option_set *const sets[] = { &set };
    struct json_object *v = yaml("threads: 4\ntry:\n  threads: 4\n");
    (void)state;
    assert_int_equal(fs_options_check_config(sets, 1, v, "c.yaml", &error), FS_OK);
    json_object_put(v);
    refuse_config("thread: 4\n", "c.yaml: unknown key 'thread': did you mean 'threads'?");
    refuse_config("frobnicate: 4\n", "c.yaml: unknown key 'frobnicate'");
    refuse_config("try:\n  sed: 4\n", "c.yaml: 'try' has no option 'sed': did you mean 'seed'?");
    refuse_config("try: 4\n", "c.yaml: 'try' is a command, its options go below it");
    refuse_config("- a\n", "c.yaml: a mapping of options was expected");
}

static void help_lists_every_option(void **state)
{
    fs_buf out = { 0 };
    fs_args a = { 0 };
    (void)state;
    assert_int_equal(parse_with("--nonsense|--help", NULL, &a), FS_OK);
    assert_true(a.help);
    fs_args_done(&a);
    assert_int_equal(fs_options_help(&set, "farseek", &out, &error), FS_OK);
    assert_non_null(strstr(out.data, "usage: farseek try [options] MODEL\n"));
    assert_non_null(strstr(out.data, "\n  -t, --threads N                 threads (default 3)\n"));
    assert_non_null(strstr(out.data, "\n      --isa scalar|avx2           the instruction set\n"));
    assert_non_null(strstr(out.data, "\n  -h, --help                      this text\n"));
    fs_buf_done(&out);
}

static void every_allocation_may_fail(void **state)
{
    fs_status rc = FS_ERR_MEMORY;
    int n;
    (void)state;
    for (n = 1; rc && n < 1000; n++) {
        fs_args a = { 0 };
        fs_buf out = { 0 };
        alloc_fail_at(n);
        rc = parse_with("one|-t7|--isa|avx2", NULL, &a);
        if (!rc)
            rc = fs_options_help(&set, "farseek", &out, &error);
        alloc_fail_off();
        if (rc)
            assert_int_equal(rc, FS_ERR_MEMORY);
        fs_args_done(&a);
        fs_buf_done(&out);
    }
    assert_true(n > 3 && n < 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_spelling_sets_the_value),
        cmocka_unit_test(options_and_arguments_mix),
        cmocka_unit_test(wrong_usage_is_a_sentence),
        cmocka_unit_test(flag_over_environment_over_section_over_top_over_default),
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(unknown_configuration_is_a_sentence),
        cmocka_unit_test(help_lists_every_option),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
