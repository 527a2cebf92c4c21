/* GGUF: what is read, and a sentence for everything else. WRAP_ALLOC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "make_files.h"

#include <math.h>

static void put_array(fs_buf *b, const char *key, fs_gguf_type item, uint64_t n)
{
    put_gguf_string(b, key);
    put_le(b, FS_GGUF_ARRAY, 4);
    put_le(b, item, 4);
    put_le(b, n, 8);
}

/* One of each type, two tensors. */
static fs_buf make_good(uint32_t version)
{
    fs_buf b = { 0 };

    put_gguf_header(&b, 2, 15);
    b.data[4] = (char)version;
    put_gguf_int(&b, "u8", FS_GGUF_U8, 200, 1);
    put_gguf_int(&b, "i8", FS_GGUF_I8, (uint64_t)-5, 1);
    put_gguf_int(&b, "u16", FS_GGUF_U16, 60000, 2);
    put_gguf_int(&b, "i16", FS_GGUF_I16, (uint64_t)-6, 2);
    put_gguf_u32(&b, "u32", 4000000000u);
    put_gguf_int(&b, "i32", FS_GGUF_I32, (uint64_t)-7, 4);
    put_gguf_f32(&b, "f32", 0.5f);
    put_gguf_int(&b, "bool", FS_GGUF_BOOL, 1, 1);
    put_gguf_text(&b, "text", "caf\xc3\xa9");
    put_gguf_int(&b, "u64", FS_GGUF_U64, UINT64_MAX, 8);
    put_gguf_int(&b, "i64", FS_GGUF_I64, (uint64_t)-8, 8);
    put_gguf_int(&b, "f64", FS_GGUF_F64, 0x3ff8000000000000u, 8);
    put_array(&b, "words", FS_GGUF_STRING, 3);
    put_gguf_string(&b, "a");
    put_gguf_string(&b, "");
    put_gguf_string(&b, "bc");
    put_array(&b, "numbers", FS_GGUF_I16, 2);
    put_le(&b, 3, 2);
    put_le(&b, (uint64_t)-4, 2);
    put_gguf_u32(&b, "general.alignment", 64);
    put_gguf_tensor(&b, "z.weight", 2, (uint64_t[]){ 32, 3 }, 8, 0); /* Q8_0: 3 rows of 34 bytes */
    put_gguf_tensor(&b, "b", 1, (uint64_t[]){ 5 }, 0, 128);
    put_gguf_padding(&b, 64);
    put_zeros(&b, 128 + 20);
    return b;
}

static void check_good(const fs_gguf *g, const fs_buf *b)
{
    int64_t i = 0;
    double d = 0;
    bool yes = false, found;
    fs_bytes s = { 0 };
    const fs_gguf_value *v;
    const fs_tensor *t;
    size_t at = 0;
    static const struct { const char *key; int64_t value; } ints[] = {
        { "u8", 200 }, { "i8", -5 }, { "u16", 60000 }, { "i16", -6 }, { "u32", 4000000000 }, { "i32", -7 }, { "u64", INT64_MAX }, { "i64", -8 },
    };

    assert_int_equal(fs_gguf_n_values(g), 15);
    assert_true(fs_bytes_equal(fs_gguf_value_at(g, 2)->key, FS_BYTES_LIT("u16")));
    for (size_t k = 0; k < sizeof ints / sizeof *ints; k++) {
        assert_int_equal(fs_gguf_int(g, ints[k].key, INT64_MIN, INT64_MAX, &i, &found, NULL), FS_OK);
        assert_true(found && i == ints[k].value);
        assert_int_equal(fs_gguf_int(g, ints[k].key, 300, 59999, &i, NULL, NULL), FS_ERR_FORMAT);
        if (strcmp(ints[k].key, "u64") != 0) {
            assert_int_equal(fs_gguf_double(g, ints[k].key, &d, NULL, NULL), FS_OK);
            assert_true(d == (double)ints[k].value);
        }
    }
    assert_int_equal(fs_gguf_double(g, "f32", &d, NULL, NULL), FS_OK);
    assert_true(d == 0.5);
    assert_int_equal(fs_gguf_double(g, "f64", &d, NULL, NULL), FS_OK);
    assert_true(d == 1.5);
    assert_int_equal(fs_gguf_bool(g, "bool", &yes, &found, NULL), FS_OK);
    assert_true(yes && found);
    assert_int_equal(fs_gguf_string(g, "text", &s, NULL, NULL), FS_OK);
    assert_true(fs_bytes_equal(s, FS_BYTES_LIT("caf\xc3\xa9")));

    assert_int_equal(fs_gguf_int(g, "absent", 0, 1, &i, &found, NULL), FS_OK);
    assert_false(found);
    assert_null(fs_gguf_find(g, "tex"));
    assert_int_equal(fs_gguf_int(g, "f32", 0, 1, &i, NULL, NULL), FS_ERR_FORMAT);
    assert_int_equal(fs_gguf_double(g, "text", &d, NULL, NULL), FS_ERR_FORMAT);
    assert_int_equal(fs_gguf_bool(g, "u8", &yes, NULL, NULL), FS_ERR_FORMAT);
    assert_int_equal(fs_gguf_string(g, "words", &s, NULL, NULL), FS_ERR_FORMAT);

    v = fs_gguf_find(g, "words");
    assert_true(v->type == FS_GGUF_ARRAY && v->item_type == FS_GGUF_STRING && v->n_items == 3);
    assert_true(fs_bytes_equal(fs_gguf_next_string(v, &at), FS_BYTES_LIT("a")));
    assert_true(fs_bytes_equal(fs_gguf_next_string(v, &at), FS_BYTES_LIT("")));
    assert_true(fs_bytes_equal(fs_gguf_next_string(v, &at), FS_BYTES_LIT("bc")));
    assert_int_equal(at, v->bytes.n_bytes);
    v = fs_gguf_find(g, "numbers");
    assert_true(v->n_items == 2 && fs_gguf_number_at(v, 0) == 3 && fs_gguf_number_at(v, 1) == -4);

    assert_int_equal(fs_gguf_n_tensors(g), 2);
    t = fs_gguf_tensor_at(g, 1);
    assert_string_equal(t->name, "z.weight");
    assert_ptr_equal(fs_gguf_find_tensor(g, "z.weight"), t);
    assert_null(fs_gguf_find_tensor(g, "z"));
    assert_true(t->dtype == FS_DTYPE_Q8_0 && t->n_dims == 2 && t->dims[0] == 3 && t->dims[1] == 32 && t->n_bytes == 102);
    assert_ptr_equal(t->data, b->data + b->n_bytes - 148);
    t = fs_gguf_tensor_at(g, 0);
    assert_true(t->dtype == FS_DTYPE_F32 && t->n_dims == 1 && t->dims[0] == 5 && t->n_bytes == 20);
    assert_ptr_equal(t->data, b->data + b->n_bytes - 20);
}

static void versions_2_and_3_give_values_and_tensors(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        fs_buf b = make_good(version);
        fs_gguf *g = NULL;
        fs_error err = { 0 };
        if (fs_gguf_open(fs_buf_bytes(&b), "m", &g, &err))
            fail_msg("%s", err.message);
        check_good(g, &b);
        fs_gguf_close(g);
        fs_buf_done(&b);
    }
}

static void every_cut_is_refused(void **state)
{
    fs_buf b = make_good(3);

    (void)state;
    for (size_t n = 0; n < b.n_bytes; n++) {
        fs_gguf *g = NULL;
        fs_error err = { 0 };
        uint8_t *copy = malloc(n ? n : 1); /* of exact size, for the sanitizer */
        memcpy(copy, b.data, n);
        assert_int_equal(fs_gguf_open((fs_bytes){ copy, n }, "m", &g, &err), FS_ERR_FORMAT);
        assert_true(strlen(err.message) > 10);
        free(copy);
    }
    fs_buf_done(&b);
}

typedef struct bad_file {
    fs_status code;
    const char *says;
    fs_buf b;
} bad_file;

static bad_file *expect(fs_status code, const char *says)
{
    static bad_file f;

    f = (bad_file){ code, says, { 0 } };
    return &f;
}

static void refused(bad_file *f)
{
    fs_gguf *g = NULL;
    fs_error err = { 0 };
    uint8_t *copy = malloc(f->b.n_bytes);
    fs_status rc;

    memcpy(copy, f->b.data, f->b.n_bytes);
    rc = fs_gguf_open((fs_bytes){ copy, f->b.n_bytes }, "file", &g, &err);
    if (rc != f->code || !strstr(err.message, f->says))
        fail_msg("gives %d, '%s', expected %d and '%s'", rc, err.message, f->code, f->says);
    assert_memory_equal(err.message, "file: ", 6);
    free(copy);
    fs_buf_done(&f->b);
}

static void wrong_headers_are_refused(void **state)
{
    bad_file *f = expect(FS_ERR_FORMAT, "not a GGUF");

    (void)state;
    put_bytes(&f->b, "GGML", 4), put_zeros(&f->b, 20), refused(f);
    f = expect(FS_ERR_UNSUPPORTED, "version 1,");
    put_gguf_header(&f->b, 0, 0), f->b.data[4] = 1, refused(f);
    f = expect(FS_ERR_UNSUPPORTED, "big-endian");
    put_gguf_header(&f->b, 0, 0), f->b.data[4] = 0, f->b.data[7] = 3, refused(f);
    f = expect(FS_ERR_FORMAT, "metadata values cannot");
    put_gguf_header(&f->b, 0, 1), put_zeros(&f->b, 13), refused(f);
    f = expect(FS_ERR_FORMAT, "18446744073709551615 metadata");
    put_gguf_header(&f->b, 0, UINT64_MAX), put_zeros(&f->b, 100), refused(f);
    f = expect(FS_ERR_FORMAT, "18446744073709551615 tensors");
    put_gguf_header(&f->b, UINT64_MAX, 0), put_zeros(&f->b, 100), refused(f);
}

static void wrong_values_are_refused(void **state)
{
    bad_file *f = expect(FS_ERR_FORMAT, "empty or no text");

    (void)state;
    put_gguf_header(&f->b, 0, 1), put_gguf_u32(&f->b, "", 1), refused(f);
    f = expect(FS_ERR_FORMAT, "empty or no text");
    put_gguf_header(&f->b, 0, 1), put_gguf_u32(&f->b, "a\xff", 1), refused(f);
    f = expect(FS_ERR_FORMAT, "empty or no text");
    put_gguf_header(&f->b, 0, 1), put_le(&f->b, 2, 8), put_bytes(&f->b, "a\0", 2), put_zeros(&f->b, 8), refused(f);
    f = expect(FS_ERR_FORMAT, "inside its metadata keys");
    put_gguf_header(&f->b, 0, 1), put_le(&f->b, UINT64_MAX, 8), put_zeros(&f->b, 20), refused(f);
    f = expect(FS_ERR_FORMAT, "'a' has type 13");
    put_gguf_header(&f->b, 0, 1), put_gguf_int(&f->b, "a", FS_GGUF_TYPE_END, 0, 8), refused(f);
    f = expect(FS_ERR_FORMAT, "truth value of 2");
    put_gguf_header(&f->b, 0, 1), put_gguf_int(&f->b, "a", FS_GGUF_BOOL, 2, 1), refused(f);
    f = expect(FS_ERR_FORMAT, "the value of 'abc'");
    put_gguf_header(&f->b, 0, 1), put_gguf_int(&f->b, "abc", FS_GGUF_U64, 2, 4), refused(f);
    f = expect(FS_ERR_FORMAT, "the value of 'a'");
    put_gguf_header(&f->b, 0, 1), put_gguf_int(&f->b, "a", FS_GGUF_STRING, UINT64_MAX - 3, 8), put_zeros(&f->b, 9), refused(f);
    f = expect(FS_ERR_FORMAT, "array of type 9");
    put_gguf_header(&f->b, 0, 1), put_array(&f->b, "a", FS_GGUF_ARRAY, 1), put_zeros(&f->b, 40), refused(f);
    f = expect(FS_ERR_FORMAT, "array of type 13");
    put_gguf_header(&f->b, 0, 1), put_array(&f->b, "a", FS_GGUF_TYPE_END, 1), put_zeros(&f->b, 40), refused(f);
    f = expect(FS_ERR_FORMAT, "the array of 'a'");
    put_gguf_header(&f->b, 0, 1), put_array(&f->b, "a", FS_GGUF_U64, (uint64_t)1 << 61), put_zeros(&f->b, 40), refused(f);
    f = expect(FS_ERR_FORMAT, "the array of 'a'");
    put_gguf_header(&f->b, 0, 1), put_array(&f->b, "a", FS_GGUF_U8, 41), put_zeros(&f->b, 40), refused(f);
    f = expect(FS_ERR_FORMAT, "the array of 'a'");
    put_gguf_header(&f->b, 0, 1), put_array(&f->b, "a", FS_GGUF_STRING, UINT64_MAX), put_zeros(&f->b, 40), refused(f);
    f = expect(FS_ERR_FORMAT, "the array of 'a'");
    put_gguf_header(&f->b, 0, 1), put_array(&f->b, "a", FS_GGUF_STRING, 2), put_gguf_string(&f->b, "x"), put_le(&f->b, 9, 8), refused(f);
    f = expect(FS_ERR_FORMAT, "'a' is given twice");
    put_gguf_header(&f->b, 0, 3), put_gguf_u32(&f->b, "a", 1), put_gguf_u32(&f->b, "b", 1), put_gguf_f32(&f->b, "a", 1), refused(f);
    f = expect(FS_ERR_FORMAT, "'general.alignment' is 0");
    put_gguf_header(&f->b, 0, 1), put_gguf_u32(&f->b, "general.alignment", 0), refused(f);
    f = expect(FS_ERR_FORMAT, "no power of two");
    put_gguf_header(&f->b, 0, 1), put_gguf_u32(&f->b, "general.alignment", 48), refused(f);
    f = expect(FS_ERR_FORMAT, "'general.alignment' is not an integer");
    put_gguf_header(&f->b, 0, 1), put_gguf_text(&f->b, "general.alignment", "32"), refused(f);
}

/* A file with these tensors and data_bytes of data. */
static void put_one(fs_buf *b, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset, size_t data_bytes)
{
    put_gguf_header(b, 1, 0);
    put_gguf_tensor(b, name, n_dims, ne, type, offset);
    put_gguf_padding(b, 32);
    put_zeros(b, data_bytes);
}

static void put_two(fs_buf *b, const char *second, uint64_t offset, size_t data_bytes)
{
    put_gguf_header(b, 2, 0);
    put_gguf_tensor(b, "a", 1, (uint64_t[]){ 9 }, 0, 0);
    put_gguf_tensor(b, second, 1, (uint64_t[]){ 8 }, 0, offset);
    put_gguf_padding(b, 32);
    put_zeros(b, data_bytes);
}

static void wrong_tensors_are_refused(void **state)
{
    const uint64_t big = (uint64_t)1 << 33;
    bad_file *f = expect(FS_ERR_FORMAT, "5 dimensions");

    (void)state;
    put_one(&f->b, "a", 5, (uint64_t[]){ 1, 1, 1, 1, 1 }, 0, 0, 32), refused(f);
    f = expect(FS_ERR_FORMAT, "4294967295 dimensions");
    put_gguf_header(&f->b, 1, 0), put_gguf_string(&f->b, "a"), put_le(&f->b, UINT32_MAX, 4), put_zeros(&f->b, 40), refused(f);
    f = expect(FS_ERR_FORMAT, "empty or no text");
    put_one(&f->b, "", 1, (uint64_t[]){ 1 }, 0, 0, 32), refused(f);
    f = expect(FS_ERR_FORMAT, "empty or no text");
    put_one(&f->b, "\xed\xa0\x80", 1, (uint64_t[]){ 1 }, 0, 0, 32), refused(f);
    f = expect(FS_ERR_FORMAT, "overflows");
    put_one(&f->b, "a", 2, (uint64_t[]){ big, big }, 0, 0, 32), refused(f);
    f = expect(FS_ERR_FORMAT, "overflows");
    put_one(&f->b, "a", 1, (uint64_t[]){ (uint64_t)1 << 62 }, 0, 0, 32), refused(f);
    f = expect(FS_ERR_UNSUPPORTED, "Q8_K");
    put_one(&f->b, "a", 1, (uint64_t[]){ 256 }, 15, 0, 292), refused(f);
    f = expect(FS_ERR_UNSUPPORTED, "ggml type 4 ");
    put_one(&f->b, "a", 1, (uint64_t[]){ 32 }, 4, 0, 66), refused(f);
    f = expect(FS_ERR_UNSUPPORTED, "ggml type 4294967295");
    put_one(&f->b, "a", 1, (uint64_t[]){ 32 }, UINT32_MAX, 0, 66), refused(f);
    f = expect(FS_ERR_FORMAT, "comes in blocks of 32");
    put_one(&f->b, "a", 2, (uint64_t[]){ 16, 2 }, 2, 0, 18), refused(f);
    f = expect(FS_ERR_FORMAT, "comes in blocks of 256");
    put_one(&f->b, "a", 1, (uint64_t[]){ 128 }, 12, 0, 144), refused(f);
    f = expect(FS_ERR_FORMAT, "no multiple of the alignment");
    put_one(&f->b, "a", 1, (uint64_t[]){ 1 }, 0, 16, 64), refused(f);
    f = expect(FS_ERR_FORMAT, "leaves the file");
    put_one(&f->b, "a", 1, (uint64_t[]){ 8 }, 0, 0, 31), refused(f);
    f = expect(FS_ERR_FORMAT, "leaves the file");
    put_one(&f->b, "a", 1, (uint64_t[]){ 8 }, 0, 32, 63), refused(f);
    f = expect(FS_ERR_FORMAT, "leaves the file");
    put_one(&f->b, "a", 1, (uint64_t[]){ 8 }, 0, UINT64_MAX - 31, 64), refused(f);
    f = expect(FS_ERR_FORMAT, "overlap");
    put_two(&f->b, "b", 32, 96), refused(f);
    f = expect(FS_ERR_FORMAT, "overlap");
    put_two(&f->b, "b", 0, 96), refused(f);
    f = expect(FS_ERR_FORMAT, "'a' is given twice");
    put_two(&f->b, "a", 64, 96), refused(f);
}

static void a_sentence_is_one_line_whatever_the_names_hold(void **state)
{
    bad_file *f = expect(FS_ERR_FORMAT, "'a\?b\?[31m\?\?' has type 13");

    (void)state;
    put_gguf_header(&f->b, 0, 1), put_gguf_int(&f->b, "a\nb\x1b[31m\xc2\x9b", FS_GGUF_TYPE_END, 0, 8), refused(f);
}

static void numbers_that_are_not_finite_are_refused(void **state)
{
    fs_buf b = { 0 };
    fs_gguf *g = NULL;
    double d = 7;

    (void)state;
    put_gguf_header(&b, 0, 1);
    put_gguf_f32(&b, "x", INFINITY);
    assert_int_equal(fs_gguf_open(fs_buf_bytes(&b), "m", &g, NULL), FS_OK);
    assert_int_equal(fs_gguf_double(g, "x", &d, NULL, NULL), FS_ERR_FORMAT);
    assert_true(d == 7);
    fs_gguf_close(g);
    fs_buf_done(&b);
}

static void any_allocation_may_fail(void **state)
{
    fs_buf b = make_good(3);
    fs_gguf *g = NULL;
    fs_status rc = FS_ERR_MEMORY;
    long n;

    (void)state;
    for (n = 1; rc; n++) {
        alloc_fail_at(n);
        rc = fs_gguf_open(fs_buf_bytes(&b), "m", &g, NULL);
        alloc_fail_off();
        if (rc)
            assert_int_equal(rc, FS_ERR_MEMORY);
    }
    assert_true(n > 5);
    check_good(g, &b);
    fs_gguf_close(g);
    fs_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_2_and_3_give_values_and_tensors),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(wrong_headers_are_refused),
        cmocka_unit_test(wrong_values_are_refused),
        cmocka_unit_test(wrong_tensors_are_refused),
        cmocka_unit_test(a_sentence_is_one_line_whatever_the_names_hold),
        cmocka_unit_test(numbers_that_are_not_finite_are_refused),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
