/* Protected branches and tags: which names patterns mean, and what is refused of them. */
#include "unit.h"

#include "hub/internal.h"

static bool covers(const char *patterns, const char *ref)
{
    fs_hub_rules r = { .branches = "" };
    fs_error err;

    assert_ok(fs_hub_patterns_read(patterns, strncmp(ref, "refs/tags/", 10) == 0 ? r.tags : r.branches, &err), err);
    return fs_hub_rules_cover(&r, ref);
}

static void patterns_mean_branches(void **state)
{
    static const struct {
        const char *pattern, *name;
        bool covered;
    } cases[] = {
        { "main", "main", true },       { "main", "mai", false },        { "main", "mainn", false },       { "main", "Main", false },    { "*", "main", true },
        { "*", "a/b", false },          { "**", "a/b", true },           { "a/*", "a/b", true },           { "a/*", "a/b/c", false },    { "a/**", "a/b/c", true },
        { "a/**", "a", false },         { "**/c", "a/b/c", true },       { "**/c", "c", false },           { "*c", "abc", true },        { "*c", "abcd", false },
        { "a*c*e", "abcde", true },     { "a*c*e", "ace", true },        { "a*c*e", "abde", false },       { "*a/b*c", "xa/byc", true }, { "*a/b*c", "x/a/bc", false },
        { "**a/b*c", "x/a/bc", true },  { "v?.?", "v1.0", true },        { "v?.?", "v10.0", false },       { "a?b", "a/b", false },      { "***", "a/b", true },
        { "*?*", "a", true },           { "a**b*c", "a/x/b/c", false },  { "a**b*c", "a/x/b/byc", true },  { "x y", "y", true },         { "x y", "x y", false },
        { "\tx\n\ny\r\n", "y", true },  { "", "main", false },           { "  ", "main", false },          { "ab ab* b", "b", true },    { "*a*b", "ab/ab", false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char ref[64];
        snprintf(ref, sizeof ref, "refs/heads/%s", cases[i].name);
        if (covers(cases[i].pattern, ref) != cases[i].covered)
            fail_msg("'%s' and '%s'", cases[i].pattern, cases[i].name);
        snprintf(ref, sizeof ref, "refs/tags/%s", cases[i].name);
        if (covers(cases[i].pattern, ref) != cases[i].covered)
            fail_msg("'%s' and the tag '%s'", cases[i].pattern, cases[i].name);
    }
    assert_false(fs_hub_rules_cover(&(fs_hub_rules){ .branches = "**" }, "refs/tags/main"));
    assert_false(fs_hub_rules_cover(&(fs_hub_rules){ .tags = "**" }, "refs/heads/main"));
    assert_false(fs_hub_rules_cover(&(fs_hub_rules){ .branches = "**", .tags = "**" }, "refs/tags"));
    assert_false(covers("**", "refs/pr/1"));
    assert_false(covers("main", "main"));
}

/* A name is looked at in the time of its length and the pattern's, however many ways there are to fit. */
static void no_pattern_takes_long(void **state)
{
    char pattern[201], ref[300] = "refs/heads/";

    (void)state;
    for (int i = 0; i < 200; i += 2)
        memcpy(pattern + i, i == 198 ? "*b" : "*a", 2);
    pattern[200] = 0;
    memset(ref + 11, 'a', 288);
    ref[299] = 0;
    assert_false(covers(pattern, ref));
    ref[298] = 'b';
    assert_true(covers(pattern, ref));
}

static void what_is_no_pattern_changes_nothing(void **state)
{
    static const char *const texts[] = { "a..b", "ok /x", "x/", "refs/heads/main", "a\\b", "[a]", "~", "-x", "0123456789012345678901234567890123456789", "a//b", "\x01" };
    char kept[FS_HUB_PATTERNS_BYTES] = "main", many[8000] = "";
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(fs_hub_patterns_read(texts[i], kept, &err), FS_ERR_ARGUMENT);
        assert_string_equal(kept, "main");
    }
    for (int i = 0; i < 51; i++)
        strcat(many, "x ");
    assert_int_equal(fs_hub_patterns_read(many, kept, &err), FS_ERR_ARGUMENT);
    memset(many, 'y', 201);
    many[201] = 0;
    assert_int_equal(fs_hub_patterns_read(many, kept, &err), FS_ERR_ARGUMENT);
    memset(many, 'z', 35 * 200);
    for (int i = 1; i <= 35; i++)
        many[i * 200 - 1] = i == 35 ? 0 : ' ';
    assert_int_equal(fs_hub_patterns_read(many, kept, &err), FS_ERR_ARGUMENT); /* together they are too long */
    many[20 * 200 - 1] = 0;
    assert_ok(fs_hub_patterns_read(many, kept, &err), err);
    assert_int_equal(strlen(kept), 20 * 200 - 1);
    for (size_t n = 90; n < 100; n++) { /* up to the last byte, and one pattern more */
        const size_t n_all = 20 * 200 + n;
        many[20 * 200 - 1] = ' ';
        memset(many + 20 * 200, 'w', n);
        many[n_all] = 0;
        assert_int_equal(fs_hub_patterns_read(many, kept, &err), n_all < sizeof kept ? FS_OK : FS_ERR_ARGUMENT);
        strcpy(many + n_all, " v v v");
        assert_int_equal(fs_hub_patterns_read(many, kept, &err), n_all + 6 < sizeof kept ? FS_OK : FS_ERR_ARGUMENT);
    }
}

static void each_protection_refuses_more(void **state)
{
    static const char *const words[] = { "default", "keep-history", "pull-request" };
    static const bool refused[3][4] = { { true, true, false, false }, { true, true, true, false }, { true, true, true, true } };
    fs_hub_rules r = { .branches = "main\nrelease/*", .tags = "v*" };
    fs_hub_protection p;
    fs_error err;

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_true(fs_hub_protection_read(words[i], &r.protection));
        assert_string_equal(fs_hub_protection_word(r.protection), words[i]);
        for (int change = FS_HUB_REMOVE; change <= FS_HUB_EXTEND; change++) {
            assert_int_equal(fs_hub_rules_check(&r, "refs/heads/release/1", (fs_hub_change)change, &err) != FS_OK, refused[i][change]);
            assert_int_equal(fs_hub_rules_check(&r, "refs/heads/dev", (fs_hub_change)change, &err), FS_OK);
            assert_int_equal(fs_hub_rules_check(&r, "refs/pr/1", (fs_hub_change)change, &err), FS_OK);
            assert_int_equal(fs_hub_rules_check(&r, "refs/tags/v1", (fs_hub_change)change, &err), change == FS_HUB_EXTEND ? FS_OK : FS_ERR_ARGUMENT);
            assert_int_equal(fs_hub_rules_check(&r, "refs/tags/main", (fs_hub_change)change, &err), FS_OK);
        }
    }
    r.branches[0] = 0;
    assert_int_equal(fs_hub_rules_check(&r, "refs/heads/main", FS_HUB_REMOVE, &err), FS_ERR_ARGUMENT);
    assert_int_equal(fs_hub_rules_check(&r, "refs/heads/main", FS_HUB_FORCE, &err), FS_OK);
    assert_false(fs_hub_protection_read("", &p));
    assert_false(fs_hub_protection_read("Default", &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_mean_branches),
        cmocka_unit_test(no_pattern_takes_long),
        cmocka_unit_test(what_is_no_pattern_changes_nothing),
        cmocka_unit_test(each_protection_refuses_more),
    };
    fs_hub_git_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
