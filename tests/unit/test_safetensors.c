/* safetensors: what is read, and a sentence for everything else. WRAP_ALLOC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "formats/safetensors.h"
#include "make_files.h"

#define T(dtype, shape, begin, end) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static const char good[] = "{\"__metadata__\":{\"format\":\"pt\"},\"b\":" T("F32", "[2,3]", 0, 24) ",\"a.weight\":" T("BF16", "[4]", 24, 32)
                           ",\"none\":" T("F32", "[0,7]", 32, 32) ",\"s\":" T("F8_E4M3", "[]", 32, 33) "}  ";

static void a_file_gives_its_tensors_sorted_by_name(void **state)
{
    fs_buf b = make_safetensors(good, 33);
    fs_safetensors *s = NULL;
    const fs_tensor *t;
    fs_error err;

    (void)state;
    b.data[b.n_bytes - 1] = 0x38; /* 1 */
    assert_int_equal(fs_safetensors_open(fs_buf_bytes(&b), "m", &s, &err), FS_OK);
    assert_int_equal(fs_safetensors_n_tensors(s), 4);
    assert_string_equal(fs_safetensors_tensor_at(s, 0)->name, "a.weight");
    assert_string_equal(fs_safetensors_tensor_at(s, 3)->name, "s");
    t = fs_safetensors_find(s, "b");
    assert_true(t == fs_safetensors_tensor_at(s, 1));
    assert_int_equal(t->dtype, FS_DTYPE_F32);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 2);
    assert_int_equal(t->dims[1], 3);
    assert_int_equal(t->n_bytes, 24);
    assert_ptr_equal(t->data, b.data + 8 + strlen(good));
    t = fs_safetensors_find(s, "s");
    assert_int_equal(t->n_dims, 0);
    assert_int_equal(t->n_bytes, 1);
    assert_int_equal(t->data[0], 0x38);
    assert_int_equal(fs_safetensors_find(s, "none")->n_bytes, 0);
    assert_null(fs_safetensors_find(s, "c"));
    assert_null(fs_safetensors_find(s, "__metadata__"));
    fs_safetensors_close(s);
    fs_buf_done(&b);
}

static void a_file_without_tensors_is_empty(void **state)
{
    fs_buf b = make_safetensors("{}", 0);
    fs_safetensors *s = NULL;

    (void)state;
    assert_int_equal(fs_safetensors_open(fs_buf_bytes(&b), "m", &s, NULL), FS_OK);
    assert_int_equal(fs_safetensors_n_tensors(s), 0);
    assert_null(fs_safetensors_find(s, ""));
    fs_safetensors_close(s);
    fs_buf_done(&b);
}

static void wrong_headers_are_refused_with_a_sentence(void **state)
{
    static const struct { const char *header; size_t data_bytes; fs_status code; const char *says; } bad[] = {
        { "", 0, FS_ERR_FORMAT, "does not begin" },
        { " {}", 0, FS_ERR_FORMAT, "does not begin" },
        { "[]", 0, FS_ERR_FORMAT, "does not begin" },
        { "{", 0, FS_ERR_FORMAT, "JSON" },
        { "{}x", 0, FS_ERR_FORMAT, "follows" },
        { "{\"a\":1}", 0, FS_ERR_FORMAT, "'a' is not an object" },
        { "{\"a\":{}}", 0, FS_ERR_FORMAT, "no dtype" },
        { "{\"a\":{\"dtype\":1}}", 0, FS_ERR_FORMAT, "'dtype' is not a string" },
        { "{\"a\":" T("F4", "[1]", 0, 1) "}", 1, FS_ERR_UNSUPPORTED, "'F4'" },
        { "{\"a\":" T("F32", "1", 0, 4) "}", 4, FS_ERR_FORMAT, "no shape" },
        { "{\"a\":" T("F32", "[1.0]", 0, 4) "}", 4, FS_ERR_FORMAT, "shape[0]" },
        { "{\"a\":" T("F32", "[1,-1]", 0, 4) "}", 4, FS_ERR_FORMAT, "shape[1]" },
        { "{\"a\":" T("F32", "[\"1\"]", 0, 4) "}", 4, FS_ERR_FORMAT, "shape[0]" },
        { "{\"a\":" T("F32", "[1,1,1,1,1]", 0, 4) "}", 4, FS_ERR_UNSUPPORTED, "5 dimensions" },
        { "{\"a\":" T("F32", "[4294967296,4294967296]", 0, 4) "}", 4, FS_ERR_FORMAT, "overflows" },
        { "{\"a\":" T("F32", "[9223372036854775807]", 0, 4) "}", 4, FS_ERR_FORMAT, "overflows" },
        { "{\"a\":" T("F32", "[999999999999999999,99]", 0, 4) "}", 4, FS_ERR_FORMAT, "overflows" },
        { "{\"a\":" T("F64", "[999999999999999999,18]", 0, 4) "}", 4, FS_ERR_FORMAT, "overflows" },
        { "{\"a\":" T("F32", "[99999999999999999999999]", 0, 4) "}", 4, FS_ERR_FORMAT, "shape[0]" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, FS_ERR_FORMAT, "no two data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, FS_ERR_FORMAT, "no two data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, FS_ERR_FORMAT, "no two data_offsets" },
        { "{\"a\":" T("F32", "[1]", -4, 0) "}", 4, FS_ERR_FORMAT, "data_offsets[0]" },
        { "{\"a\":" T("F32", "[1]", 4, 0) "}", 4, FS_ERR_FORMAT, "4 to 0" },
        { "{\"a\":" T("F32", "[1]", 0, 4) "}", 3, FS_ERR_FORMAT, "0 to 4, the file has 3" },
        { "{\"a\":" T("F32", "[1]", 18446744073709551612, 18446744073709551616) "}", 4, FS_ERR_FORMAT, "data_offsets[1]" },
        { "{\"a\":" T("F32", "[2]", 0, 4) "}", 4, FS_ERR_FORMAT, "takes 4 bytes, its dtype and shape say 8" },
        { "{\"a\":" T("F32", "[1]", 0, 4) ",\"b\":" T("F32", "[1]", 2, 6) "}", 6, FS_ERR_FORMAT, "overlap" },
        { "{\"a\":" T("F32", "[1]", 0, 4) ",\"b\":" T("F32", "[1]", 0, 4) "}", 4, FS_ERR_FORMAT, "overlap" },
        { "{\"a\":" T("F32", "[1]", 0, 4) ",\"b\":" T("F32", "[1]", 8, 12) "}", 12, FS_ERR_FORMAT, "a hole" },
        { "{\"a\":" T("F32", "[1]", 4, 8) "}", 8, FS_ERR_FORMAT, "a hole" },
        { "{\"a\":" T("F32", "[1]", 0, 4) "}", 5, FS_ERR_FORMAT, "1 bytes follow" },
        { "{}", 1, FS_ERR_FORMAT, "1 bytes follow" },
        { "{\"a\":" T("F32", "[1]", 0, 4) ",\"a\":" T("F32", "[1]", 4, 8) "}", 8, FS_ERR_FORMAT, "given twice" },
        { "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, FS_ERR_FORMAT, "given twice" },
        { "{\"a\\u0000b\":" T("F32", "[1]", 0, 4) "}", 4, FS_ERR_FORMAT, "U+0000" },
        { "{\"__metadata__\":1}", 0, FS_ERR_FORMAT, "__metadata__ is not" },
        { "{\"__metadata__\":{\"k\":1}}", 0, FS_ERR_FORMAT, "'k' is not a string" },
        { "{\"a\xff\":" T("F32", "[1]", 0, 4) "}", 4, FS_ERR_FORMAT, "UTF-8" },
        { "{\"__metadata__\":{},\"__metadata__\":{}}", 0, FS_ERR_FORMAT, "given twice" },
        { "{\"a\":" T("F32", "[01]", 0, 4) "}", 4, FS_ERR_FORMAT, "shape[0]" },
        { "{\"a\":" T("F32", "[1x]", 0, 4) "}", 4, FS_ERR_FORMAT, "shape[0]" },
        { "{\"a\":" T("F32", "[1]", 0, 4) ",}", 4, FS_ERR_FORMAT, "JSON" },
        { "{\"a\":null}", 0, FS_ERR_FORMAT, "'a' is not an object" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fs_buf b = make_safetensors(bad[i].header, bad[i].data_bytes);
        fs_safetensors *s = NULL;
        fs_error err = { 0 };
        fs_status rc = fs_safetensors_open(fs_buf_bytes(&b), "file", &s, &err);
        if (rc != bad[i].code || !strstr(err.message, bad[i].says) || s)
            fail_msg("%s\ngives %d, '%s', expected %d and '%s'", bad[i].header, rc, err.message, bad[i].code, bad[i].says);
        assert_memory_equal(err.message, "file: ", 6);
        fs_buf_done(&b);
    }
}

static void every_cut_is_refused(void **state)
{
    fs_buf b = make_safetensors(good, 33);

    (void)state;
    for (size_t n = 0; n < b.n_bytes; n++) {
        fs_safetensors *s = NULL;
        fs_error err = { 0 };
        uint8_t *copy = malloc(n + 1);
        memcpy(copy, b.data, n);
        copy = realloc(copy, n ? n : 1); /* of exact size, for the sanitizer */
        assert_int_equal(fs_safetensors_open((fs_bytes){ copy, n }, "m", &s, &err), FS_ERR_FORMAT);
        assert_true(strlen(err.message) > 10);
        free(copy);
    }
    fs_buf_done(&b);
}

static void the_header_length_is_not_trusted(void **state)
{
    static const uint64_t lengths[] = { 3, 100 * 1000 * 1000, 100 * 1000 * 1000 + 1, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63 };

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        fs_buf b = { 0 };
        fs_safetensors *s = NULL;
        put_le(&b, lengths[i], 8);
        put_bytes(&b, "{}", 2);
        assert_int_equal(fs_safetensors_open(fs_buf_bytes(&b), "m", &s, NULL), FS_ERR_FORMAT);
        fs_buf_done(&b);
    }
}

static void any_allocation_may_fail(void **state)
{
    fs_buf b = make_safetensors(good, 33);
    fs_safetensors *s = NULL;
    fs_status rc = FS_ERR_MEMORY;
    long n;

    (void)state;
    for (n = 1; rc; n++) {
        fs_error err = { 0 };
        alloc_fail_at(n);
        rc = fs_safetensors_open(fs_buf_bytes(&b), "m", &s, &err);
        alloc_fail_off();
        if (rc)
            assert_int_equal(rc, FS_ERR_MEMORY);
    }
    assert_true(n > 3);
    fs_safetensors_close(s);
    fs_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_gives_its_tensors_sorted_by_name),
        cmocka_unit_test(a_file_without_tensors_is_empty),
        cmocka_unit_test(wrong_headers_are_refused_with_a_sentence),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(the_header_length_is_not_trusted),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
