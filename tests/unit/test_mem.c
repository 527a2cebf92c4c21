/* WRAP_ALLOC */
#include "unit.h"

#include "alloc_fail.h"
#include "base/mem.h"

static void sizes_refuse_to_wrap(void **state)
{
    size_t r = 7;

    (void)state;
    assert_true(fs_mul_size(1u << 20, 1u << 20, &r));
    assert_int_equal(r, (size_t)1 << 40);
    assert_false(fs_mul_size(SIZE_MAX, 2, &r));
    assert_false(fs_add_size(SIZE_MAX, 1, &r));
    assert_int_equal(r, (size_t)1 << 40); /* untouched */
    assert_true(fs_add_size(SIZE_MAX - 1, 1, &r));
}

static void spaces_at_the_ends_go(void **state)
{
    static const char *const rows[][3] = { { " \t\n\v\f\ra b\n ", FS_SPACES, "a b" }, { "\v a\r", " \r", "\v a" }, { " \n", FS_SPACES, "" },
                                           { "\xc2\xa0x", FS_SPACES, "\xc2\xa0x" }, { "", FS_SPACES, "" } };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_true(fs_bytes_equal(fs_bytes_trim(fs_bytes_str(rows[i][0]), rows[i][1]), fs_bytes_str(rows[i][2])));
    assert_int_equal(fs_bytes_trim((fs_bytes){ (const uint8_t *)" \0 ", 3 }, FS_SPACES).n_bytes, 1); /* U+0000 is text */
    assert_int_equal(fs_bytes_trim((fs_bytes){ 0 }, FS_SPACES).n_bytes, 0);
}

static void buffer_keeps_its_text_when_memory_ends(void **state)
{
    fs_buf b = { 0 };
    fs_error err;

    (void)state;
    assert_ok(fs_buf_append(&b, "a\0b", 3, &err), err);
    alloc_fail_at(1);
    assert_int_equal(fs_buf_reserve(&b, 1000, &err), FS_ERR_MEMORY);
    alloc_fail_off();
    assert_int_equal(fs_buf_reserve(&b, SIZE_MAX, &err), FS_ERR_MEMORY);
    assert_int_equal(b.n_bytes, 3);
    assert_memory_equal(b.data, "a\0b", 4);
    assert_ok(fs_buf_printf(&b, &err, "%d%s", 42, "x"), err);
    assert_memory_equal(b.data, "a\0b42x", 7);
    fs_buf_done(&b);
    fs_buf_done(&b);
    fs_buf_done(NULL);
}

static void arena_is_aligned_and_resets(void **state)
{
    fs_arena a;
    fs_error err;
    float *x, *y;

    (void)state;
    assert_ok(fs_arena_init(&a, 4096, &err), err);
    x = fs_arena_array(&a, float, 3, 5);
    y = fs_arena_array(&a, float, 1);
    assert_int_equal((uintptr_t)x % 64, 0);
    assert_int_equal((char *)y - (char *)x, 64);
    fs_arena_reset(&a);
    assert_ptr_equal(fs_arena_array(&a, float, 1), x);
    assert_int_equal(a.peak_bytes, 64 + sizeof(float));
    fs_arena_done(&a);
    alloc_fail_at(1);
    assert_int_equal(fs_arena_init(&a, 4096, &err), FS_ERR_MEMORY);
    alloc_fail_off();
    fs_arena_done(&a);
    assert_ok(fs_arena_init_lazy(&a, (size_t)1 << 34, &err), err);
    x = fs_arena_array(&a, float, (size_t)1 << 31);
    x[0] = x[((size_t)1 << 31) - 1] = 1;
    fs_arena_done(&a);
    assert_null(a.base);
}

static void lazy_memory_is_zero_aligned_and_writable_to_its_end(void **state)
{
    const size_t sizes[] = { 1, 4096, (2u << 20) - 1, (4u << 20) + 3 };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t *p = fs_alloc_lazy(sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 4096, 0);
        assert_int_equal(p[0] | p[sizes[i] - 1], 0);
        p[0] = p[sizes[i] - 1] = 1;
        fs_free_lazy(p, sizes[i]);
    }
    assert_null(fs_alloc_lazy(0));
    assert_null(fs_alloc_lazy(SIZE_MAX - 5));
    fs_free_lazy(NULL, 5);
}

static void long_sentences_end_at_a_character(void **state)
{
    char text[1000];
    fs_error err;

    (void)state;
    for (size_t i = 0; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xa9", 3);
    assert_int_equal(fs_fail(&err, FS_ERR_IO, "%s", text), FS_ERR_IO);
    assert_int_equal(strlen(err.message) % 2, 0);
    assert_true(strlen(err.message) > sizeof err.message - 4);
    fs_fail(&err, FS_ERR_FORMAT, "inner %d", 3);
    assert_int_equal(fs_fail_prefix(&err, "outer '%s'", "x"), FS_ERR_FORMAT);
    assert_string_equal(err.message, "outer 'x': inner 3");
    assert_int_equal(fs_fail(NULL, FS_ERR_IO, "nobody listens"), FS_ERR_IO);
}

static void sentences_name_their_file(void **state)
{
    static const struct { const char *path, *said, *want; } cases[] = {
        { "/m/x.gguf", "x.gguf: 8 bytes", "'/m/x.gguf': 8 bytes" },
        { "/m", "config.json: no size", "'/m': config.json: no size" },
        { "/m/", "config.json: no size", "'/m/': config.json: no size" },
        { "/m", "cannot read '/m/x'", "cannot read '/m/x'" },
        { "x.gguf", "x.gguf: 8 bytes", "x.gguf: 8 bytes" },
        { "m/x", "x.gguf: 8 bytes", "'m/x': x.gguf: 8 bytes" },
    };
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fs_fail(&err, FS_ERR_FORMAT, "%s", cases[i].said);
        fs_fail_in(&err, cases[i].path);
        assert_string_equal(err.message, cases[i].want);
        assert_int_equal(err.code, FS_ERR_FORMAT);
    }
    fs_fail_in(NULL, "/m");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_refuse_to_wrap),
        cmocka_unit_test(spaces_at_the_ends_go),
        cmocka_unit_test(buffer_keeps_its_text_when_memory_ends),
        cmocka_unit_test(arena_is_aligned_and_resets),
        cmocka_unit_test(lazy_memory_is_zero_aligned_and_writable_to_its_end),
        cmocka_unit_test(long_sentences_end_at_a_character),
        cmocka_unit_test(sentences_name_their_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
