/* WRAP_ALLOC. Streaming: whole characters only, and in the end the text that decoding at once gives. */
#include "tiny.h"

#include "alloc_fail.h"
#include "base/utf8.h"

static uint32_t rng = 1;

static uint32_t below(uint32_t n)
{
    rng = rng * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)rng * n >> 32);
}

/* Half of the ids are single bytes, so that characters come in pieces, whole and broken. */
static int32_t random_id(const fs_tokenizer *t)
{
    return below(2) ? (int32_t)(2 + below(256)) : (int32_t)below((uint32_t)fs_tokenizer_n_ids(t) + 3) - 1;
}

static void the_stream_is_the_whole(void **state)
{
    fs_tokenizer *t = NULL;
    fs_error err;

    (void)state;
    assert_ok(tiny_with(NULL, NULL, &t, &err), err);
    for (int round = 0; round < 20000; round++) {
        int32_t ids[24];
        size_t n = below(25);
        fs_detok d = { .tokenizer = t, .skip_special = round % 2 };
        fs_buf whole = { 0 }, stream = { 0 }, bytes = { 0 }, want = { 0 };
        for (size_t i = 0; i < n; i++) {
            fs_buf part = { 0 };
            fs_bytes b;
            ids[i] = random_id(t);
            assert_ok(fs_detok_push(&d, ids[i], &part, &err), err);
            assert_true(fs_utf8_valid(fs_buf_bytes(&part)));
            assert_true(d.n_pending < 4);
            assert_ok(fs_buf_append(&stream, part.data, part.n_bytes, &err), err);
            fs_buf_done(&part);
            b = fs_tokenizer_bytes(t, ids[i]);
            if (!(d.skip_special && fs_tokenizer_is_special(t, ids[i])))
                assert_ok(fs_buf_append(&bytes, b.data, b.n_bytes, &err), err);
        }
        assert_ok(fs_detok_flush(&d, &stream, &err), err);
        assert_int_equal(d.n_pending, 0);
        assert_ok(fs_tokenizer_decode(t, ids, n, d.skip_special, &whole, &err), err);
        /* By the definition: all the bytes, each maximal ill-formed part replaced. */
        for (size_t i = 0; i < bytes.n_bytes;) {
            uint32_t code;
            size_t k = fs_utf8_next(fs_buf_bytes(&bytes), i, &code);
            assert_ok(code == FS_UTF8_BAD ? fs_buf_append(&want, "\xef\xbf\xbd", 3, &err) : fs_buf_append(&want, bytes.data + i, k, &err), err);
            i += k;
        }
        assert_true(fs_bytes_equal(fs_buf_bytes(&whole), fs_buf_bytes(&want)));
        assert_true(fs_bytes_equal(fs_buf_bytes(&stream), fs_buf_bytes(&want)));
        fs_buf_done(&whole);
        fs_buf_done(&stream);
        fs_buf_done(&bytes);
        fs_buf_done(&want);
    }
    fs_tokenizer_close(t);
}

static int32_t byte_id(const fs_tokenizer *t, uint8_t b)
{
    return fs_tokenizer_id(t, (fs_bytes){ &b, 1 });
}

static void a_character_comes_when_it_is_complete(void **state)
{
    fs_tokenizer *t = NULL;
    fs_buf out = { 0 };
    fs_error err;
    fs_detok d;
    static const uint8_t smile[4] = { 0xf0, 0x9f, 0x98, 0x80 };

    (void)state;
    assert_ok(tiny_with(NULL, NULL, &t, &err), err);
    d = (fs_detok){ .tokenizer = t };
    for (int i = 0; i < 3; i++) {
        assert_ok(fs_detok_push(&d, byte_id(t, smile[i]), &out, &err), err);
        assert_int_equal(out.n_bytes, 0);
    }
    assert_ok(fs_detok_push(&d, byte_id(t, smile[3]), &out, &err), err);
    assert_int_equal(out.n_bytes, 4);
    assert_memory_equal(out.data, smile, 4);
    /* Cut off, it is one replacement, whether by the end or by what follows. */
    assert_ok(fs_detok_push(&d, byte_id(t, 0xe2), &out, &err), err);
    assert_ok(fs_detok_push(&d, byte_id(t, 0x82), &out, &err), err);
    assert_ok(fs_detok_push(&d, byte_id(t, 'x'), &out, &err), err);
    assert_ok(fs_detok_push(&d, byte_id(t, 0xc3), &out, &err), err);
    assert_ok(fs_detok_flush(&d, &out, &err), err);
    assert_string_equal(out.data + 4, "\xef\xbf\xbdx\xef\xbf\xbd");
    fs_buf_done(&out);
    fs_tokenizer_close(t);
}

static void out_of_memory_leaves_the_text_as_it_was(void **state)
{
    fs_tokenizer *t = NULL;
    fs_error err;

    (void)state;
    assert_ok(tiny_with(NULL, NULL, &t, &err), err);
    for (long n = 1;; n++) {
        fs_detok d = { .tokenizer = t };
        fs_buf out = { 0 };
        fs_status rc;
        alloc_fail_at(n);
        rc = fs_detok_push(&d, byte_id(t, 'a'), &out, &err);
        alloc_fail_off();
        if (rc) {
            assert_int_equal(rc, FS_ERR_MEMORY);
            assert_int_equal(out.n_bytes, 0);
        } else {
            assert_string_equal(out.data, "a");
        }
        fs_buf_done(&out);
        if (!rc) {
            assert_true(n > 1);
            break;
        }
    }
    fs_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stream_is_the_whole),
        cmocka_unit_test(a_character_comes_when_it_is_complete),
        cmocka_unit_test(out_of_memory_leaves_the_text_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
