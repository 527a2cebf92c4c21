#include "unit.h"

#include "hub/xet_shard.h"

#include <stdlib.h>
#include <string.h>

/* Three kinds of chunks: text that repeats, numbers whose high bytes repeat, and what does not compress. */
static void fill(int kind, uint8_t *data, uint32_t n)
{
    uint32_t s = 7;

    for (uint32_t i = 0; i < n; i++) {
        s = s * 1103515245u + 12345u;
        data[i] = kind == 0 ? (uint8_t)("farseek "[i % 8]) : kind == 1 && i % 4 == 3 ? 0x3f : (uint8_t)(s >> 24);
    }
}

static fs_buf make_xorb(uint32_t n_chunks)
{
    uint8_t *data = malloc(FS_XET_CHUNK_MAX);
    fs_buf out = { 0 };
    fs_error err;

    assert_non_null(data);
    for (uint32_t i = 0; i < n_chunks; i++) {
        fill((int)(i % 3), data, 10001 + i);
        assert_ok(fs_xorb_pack(&out, data, 10001 + i, &err), err);
    }
    free(data);
    return out;
}

static void what_is_packed_is_read(void **state)
{
    static const uint8_t ways[] = { 1, 2, 0 };
    fs_buf file = make_xorb(6);
    uint8_t *room = malloc(FS_XET_CHUNK_MAX), *want = malloc(FS_XET_CHUNK_MAX);
    fs_xorb x;
    fs_error err;

    (void)state;
    assert_ok(fs_xorb_read(fs_buf_bytes(&file), &x, &err), err);
    assert_int_equal(x.n_chunks, 6);
    assert_int_equal(x.n_bytes, 6 * 10001 + 15);
    assert_int_equal(fs_xorb_begin(&x, 6), file.n_bytes);
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t taken, at = fs_xorb_begin(&x, i);
        fs_bytes chunk;
        fs_xet_hash hash;
        assert_int_equal((uint8_t)file.data[at + 4], ways[i % 3]);
        assert_ok(fs_xorb_unpack((fs_bytes){ (uint8_t *)file.data + at, file.n_bytes - at }, room, &chunk, &taken, &err), err);
        fill((int)(i % 3), want, 10001 + i);
        assert_int_equal(chunk.n_bytes, 10001 + i);
        assert_int_equal(at + taken, x.chunks[i].end);
        assert_memory_equal(chunk.data, want, chunk.n_bytes);
        fs_xet_chunk_hash(want, (uint32_t)chunk.n_bytes, &hash);
        assert_true(fs_xet_hash_equal(&hash, &x.chunks[i].hash));
    }
    fs_xorb_done(&x);
    fs_buf_done(&file);
    free(room);
    free(want);
}

/* Cut short anywhere, or with any one bit of a header turned: a sentence, or another hash; never the same hash. */
static void damage_is_seen(void **state)
{
    fs_buf file = make_xorb(3);
    fs_xorb whole, x;
    fs_error err;

    (void)state;
    assert_ok(fs_xorb_read(fs_buf_bytes(&file), &whole, &err), err);
    for (size_t n = 0; n < file.n_bytes; n += n < 200 ? 1 : 997) {
        if (n == fs_xorb_begin(&whole, 1) || n == fs_xorb_begin(&whole, 2))
            continue;
        assert_int_equal(fs_xorb_read((fs_bytes){ (uint8_t *)file.data, n }, &x, &err), FS_ERR_FORMAT);
    }
    for (uint32_t bit = 0; bit < 3000; bit++) {
        size_t at = bit < 64 ? bit / 8 : bit < 128 ? fs_xorb_begin(&whole, 1) + bit / 8 - 8 : (size_t)bit * 977 % file.n_bytes;
        file.data[at] ^= (char)(1 << bit % 8);
        if (!fs_xorb_read(fs_buf_bytes(&file), &x, &err)) {
            /* An LZ4 frame has bits of no meaning; the bytes must then be the same, or the hash another. */
            if (fs_xet_hash_equal(&x.hash, &whole.hash))
                for (uint32_t i = 0; i < 3; i++)
                    assert_true(fs_xet_hash_equal(&x.chunks[i].hash, &whole.chunks[i].hash));
            fs_xorb_done(&x);
        }
        file.data[at] ^= (char)(1 << bit % 8);
    }
    fs_xorb_done(&whole);
    fs_buf_done(&file);
}

static void a_chunk_does_not_grow_by_compressing(void **state)
{
    size_t n = FS_XORB_HEADER_BYTES + FS_XORB_PACKED_MAX + 1;
    uint8_t *file = calloc(n, 1);
    fs_xorb x;
    fs_error err;

    (void)state;
    assert_non_null(file);
    file[1] = (FS_XORB_PACKED_MAX + 1) & 0xff;
    file[2] = (FS_XORB_PACKED_MAX + 1) >> 8 & 0xff;
    file[3] = (FS_XORB_PACKED_MAX + 1) >> 16;
    file[4] = 1;
    file[5] = 100;
    assert_int_equal(fs_xorb_read((fs_bytes){ file, n }, &x, &err), FS_ERR_FORMAT);
    assert_non_null(strstr(err.message, "a chunk of 100 bytes takes 262145"));
    free(file);
}

static void a_footer_is_passed_over(void **state)
{
    fs_buf file = make_xorb(2);
    fs_xorb bare, x;
    fs_error err;

    (void)state;
    assert_ok(fs_xorb_read(fs_buf_bytes(&file), &bare, &err), err);
    assert_ok(fs_buf_append(&file, "XETBLOB\1and whatever", 20, &err), err);
    assert_ok(fs_xorb_read(fs_buf_bytes(&file), &x, &err), err);
    assert_true(fs_xet_hash_equal(&bare.hash, &x.hash));
    assert_int_equal(fs_xorb_begin(&x, x.n_chunks), file.n_bytes - 20);
    fs_xorb_done(&bare);
    fs_xorb_done(&x);
    fs_buf_done(&file);
}

/* Clients stop at 64 MiB of content: what does not compress takes more than that with its headers. */
static void a_xorb_may_be_full(void **state)
{
    uint8_t *data = malloc(FS_XET_CHUNK_MAX);
    fs_buf file = { 0 };
    fs_xorb x;
    fs_error err;

    (void)state;
    assert_non_null(data);
    fill(2, data, FS_XET_CHUNK_MAX);
    for (int i = 0; i < 512; i++)
        assert_ok(fs_xorb_pack(&file, data, FS_XET_CHUNK_MAX, &err), err);
    assert_true(file.n_bytes > (size_t)64 << 20);
    assert_ok(fs_xorb_read(fs_buf_bytes(&file), &x, &err), err);
    assert_int_equal(x.n_bytes, 64 << 20);
    fs_xorb_done(&x);
    for (int i = 0; i < 8; i++)
        assert_ok(fs_xorb_pack(&file, data, FS_XET_CHUNK_MAX, &err), err);
    assert_int_equal(fs_xorb_read(fs_buf_bytes(&file), &x, &err), FS_ERR_FORMAT);
    fs_buf_done(&file);
    free(data);
}

static void a_shard_that_is_written_is_read(void **state)
{
    fs_buf file = make_xorb(4), out = { 0 }, cut = { 0 };
    fs_shard_term terms[2] = { { .n_bytes = 100, .begin = 0, .end = 2 }, { .n_bytes = 200, .begin = 3, .end = 4 } };
    fs_shard_file f[2] = { { .has_ranges = true, .has_sha256 = true, .sha256 = { 1, 2, 3 }, .terms = terms, .n_terms = 2 },
                           { .terms = terms + 1, .n_terms = 1 } };
    fs_shard s;
    fs_xorb x;
    fs_error err;

    (void)state;
    assert_ok(fs_xorb_read(fs_buf_bytes(&file), &x, &err), err);
    terms[0].xorb = terms[1].xorb = x.hash;
    terms[0].range.bytes[5] = 9;
    f[0].hash.bytes[0] = 77;
    assert_ok(fs_shard_begin(&out, &err), err);
    assert_ok(fs_shard_put_file(&out, &f[0], &err), err);
    assert_ok(fs_shard_put_file(&out, &f[1], &err), err);
    assert_ok(fs_shard_end_files(&out, &err), err);
    assert_ok(fs_shard_put_xorb(&out, &x, &err), err);
    assert_ok(fs_shard_end_xorbs(&out, &err), err);
    assert_ok(fs_shard_read(fs_buf_bytes(&out), &s, &err), err);
    assert_int_equal(s.n_files, 2);
    assert_int_equal(s.files[0].n_terms, 2);
    assert_int_equal(s.files[0].n_bytes, 300);
    assert_true(s.files[0].has_sha256 && s.files[0].has_ranges && !s.files[1].has_sha256 && !s.files[1].has_ranges);
    assert_memory_equal(s.files[0].sha256, f[0].sha256, 32);
    assert_int_equal(s.files[0].hash.bytes[0], 77);
    assert_memory_equal(&s.files[0].terms[0], &terms[0], sizeof terms[0]);
    assert_int_equal(s.files[1].terms[0].begin, 3);
    fs_shard_done(&s);
    for (size_t n = 0; n < out.n_bytes; n++) {
        fs_buf_clear(&cut);
        assert_ok(fs_buf_append(&cut, out.data, n, &err), err);
        assert_int_equal(fs_shard_read(fs_buf_bytes(&cut), &s, &err), FS_ERR_FORMAT);
    }
    terms[0].end = 0;
    fs_buf_clear(&out);
    assert_ok(fs_shard_begin(&out, &err), err);
    assert_ok(fs_shard_put_file(&out, &f[0], &err), err);
    assert_ok(fs_shard_end_files(&out, &err), err);
    assert_ok(fs_shard_end_xorbs(&out, &err), err);
    assert_int_equal(fs_shard_read(fs_buf_bytes(&out), &s, &err), FS_ERR_FORMAT);
    fs_xorb_done(&x);
    fs_buf_done(&cut);
    fs_buf_done(&out);
    fs_buf_done(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_packed_is_read),
        cmocka_unit_test(damage_is_seen),
        cmocka_unit_test(a_chunk_does_not_grow_by_compressing),
        cmocka_unit_test(a_footer_is_passed_over),
        cmocka_unit_test(a_xorb_may_be_full),
        cmocka_unit_test(a_shard_that_is_written_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
