/* Widening of plain types for every bit pattern, and block formats against PyPI gguf (tests/vectors/blocks.bin). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/file.h"
#include "tensor/blocks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* sign * frac * 2^exp by the definition of a small float; subnormals where the exponent field is 0. */
static double small_float(unsigned v, int exp_bits, int frac_bits, int bias)
{
    int exp = (int)(v >> frac_bits) & ((1 << exp_bits) - 1);
    double frac = (double)(v & ((1u << frac_bits) - 1)) / (double)(1u << frac_bits);
    double x = exp ? ldexp(1 + frac, exp - bias) : ldexp(frac, 1 - bias);
    return v >> (exp_bits + frac_bits) & 1 ? -x : x;
}

static void f16_widens_every_value(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x10000; h++) {
        float x = fs_f16_to_f32((uint16_t)h);
        if ((h & 0x7fff) > 0x7c00)
            assert_true(isnan(x));
        else if ((h & 0x7fff) == 0x7c00)
            assert_true(isinf(x) && !signbit(x) == !(h >> 15));
        else
            assert_int_equal(bits_of(x), bits_of((float)small_float(h, 5, 10, 15)));
    }
}

static void bf16_widens_every_value(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x10000; h++)
        assert_int_equal(bits_of(fs_bf16_to_f32((uint16_t)h)), h << 16);
}

static void e4m3_widens_every_value(void **state)
{
    (void)state;
    for (unsigned b = 0; b < 256; b++) {
        float x = fs_e4m3_to_f32((uint8_t)b);
        if ((b & 0x7f) == 0x7f)
            assert_true(isnan(x));
        else
            assert_int_equal(bits_of(x), bits_of((float)small_float(b, 4, 3, 7)));
    }
    assert_true(fs_e4m3_to_f32(0x7e) == 448);
}

static void e8m0_widens_every_value(void **state)
{
    (void)state;
    for (int b = 0; b < 255; b++)
        assert_int_equal(bits_of(fs_e8m0_to_f32((uint8_t)b)), bits_of((float)ldexp(1, b - 127)));
    assert_true(isnan(fs_e8m0_to_f32(255)));
}

/* Nearest, ties to even, checked against the two neighbours of each value: at them, at the middle between them,
 * and just beside the middle. */
static void f16_narrows_to_nearest_even(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7c00; h++) {
        float a = fs_f16_to_f32((uint16_t)h);
        float b = h == 0x7bff ? 65536 : fs_f16_to_f32((uint16_t)(h + 1)), mid = (a + b) / 2;
        assert_int_equal(fs_f32_to_f16(a), h);
        assert_int_equal(fs_f32_to_f16(-a), h | 0x8000);
        assert_int_equal(fs_f32_to_f16(mid), h & 1 ? h + 1 : h);
        assert_int_equal(fs_f32_to_f16(nextafterf(mid, 0)), h);
        assert_int_equal(fs_f32_to_f16(nextafterf(mid, INFINITY)), h + 1);
    }
    assert_int_equal(fs_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(fs_f32_to_f16(3e38f), 0x7c00);
    assert_int_equal(fs_f32_to_f16(NAN) & 0x7e00, 0x7e00);
}

static void bf16_narrows_to_nearest_even(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7f80; h++) {
        float a = fs_bf16_to_f32((uint16_t)h), mid = fs_bf16_to_f32((uint16_t)h);
        uint32_t u = h << 16 | 0x8000;
        memcpy(&mid, &u, sizeof mid);
        assert_int_equal(fs_f32_to_bf16(a), h);
        assert_int_equal(fs_f32_to_bf16(-a), h | 0x8000);
        assert_int_equal(fs_f32_to_bf16(mid), h & 1 ? h + 1 : h);
        assert_int_equal(fs_f32_to_bf16(nextafterf(mid, 0)), h);
        assert_int_equal(fs_f32_to_bf16(nextafterf(mid, INFINITY)), h + 1);
    }
    assert_int_equal(fs_f32_to_bf16(INFINITY), 0x7f80);
    assert_true(isnan(fs_bf16_to_f32(fs_f32_to_bf16(NAN))));
}

static uint32_t u32_at(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void block_formats_equal_gguf_quants(void **state)
{
    fs_buf file = { 0 };
    const uint8_t *p, *end;
    unsigned seen = 0;

    (void)state;
    assert_int_equal(fs_file_read("tests/vectors/blocks.bin", (size_t)1 << 24, &file, NULL), FS_OK);
    p = (const uint8_t *)file.data;
    end = p + file.n_bytes;
    while (p < end) {
        fs_dtype t = fs_dtype_from_ggml(u32_at(p));
        size_t n = u32_at(p + 4), block_bytes = u32_at(p + 8), block_elems = u32_at(p + 12);
        uint8_t *src;
        float *dst;
        assert_true(fs_dtype_is_block(t));
        assert_int_equal(fs_dtype_get(t)->block_bytes, block_bytes);
        assert_int_equal(fs_dtype_get(t)->block_elems, block_elems);
        assert_true((size_t)(end - p) >= 16 + n * block_bytes + n * block_elems * 4);
        p += 16;
        src = malloc(n * block_bytes); /* of exact size, so that a sanitizer sees a stray read */
        dst = malloc(n * block_elems * sizeof *dst);
        assert_true(src && dst);
        memcpy(src, p, n * block_bytes);
        p += n * block_bytes;
        fs_dequant_row(t, src, dst, n * block_elems);
        for (size_t i = 0; i < n * block_elems; i++, p += 4) {
            uint32_t want = u32_at(p), got = isnan(dst[i]) ? 0x7fc00000u : bits_of(dst[i]);
            if (want != got)
                fail_msg("%s block %zu element %zu: %08x, gguf says %08x", fs_dtype_get(t)->name, i / block_elems,
                         i % block_elems, got, want);
        }
        free(src);
        free(dst);
        seen++;
    }
    assert_int_equal(seen, FS_DTYPE_END - FS_DTYPE_Q4_0);
    fs_buf_done(&file);
}

static void plain_rows_need_no_alignment(void **state)
{
    uint8_t bytes[1 + 8];
    float x[2], want[2] = { 1.5f, -3 };

    (void)state;
    memcpy(bytes + 1, want, 8);
    fs_dequant_row(FS_DTYPE_F32, bytes + 1, x, 2);
    assert_memory_equal(x, want, 8);
    memcpy(bytes + 1, (uint8_t[]){ 0xc0, 0x3f, 0x40, 0xc0 }, 4);
    fs_dequant_row(FS_DTYPE_BF16, bytes + 1, x, 2);
    assert_memory_equal(x, want, 8);
    memcpy(bytes + 1, (uint8_t[]){ 0x00, 0x3e, 0x00, 0xc2 }, 4);
    fs_dequant_row(FS_DTYPE_F16, bytes + 1, x, 2);
    assert_memory_equal(x, want, 8);
    memcpy(bytes + 1, (uint8_t[]){ 0x3c, 0xc4 }, 2);
    fs_dequant_row(FS_DTYPE_F8_E4M3, bytes + 1, x, 2);
    assert_memory_equal(x, want, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_widens_every_value),
        cmocka_unit_test(bf16_widens_every_value),
        cmocka_unit_test(e4m3_widens_every_value),
        cmocka_unit_test(e8m0_widens_every_value),
        cmocka_unit_test(f16_narrows_to_nearest_even),
        cmocka_unit_test(bf16_narrows_to_nearest_even),
        cmocka_unit_test(block_formats_equal_gguf_quants),
        cmocka_unit_test(plain_rows_need_no_alignment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
