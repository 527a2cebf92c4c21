/* Panels of codes, the geometry of quantised rows, and the choice of an implementation. */
#include "kernels/kernels.h"
#include "kernels/quants_isa.h"
#include "kernels/transpose.h"

#include <assert.h>
#include <string.h>

static const fs_codes_layout layouts[FS_DTYPE_END] = {
    [FS_DTYPE_Q4_0] = { { 0, 2, 2, 0 }, { 2, 16, 4, 0 } },
    [FS_DTYPE_Q4_1] = { { 0, 4, 2, 0 }, { 4, 16, 4, 0 } },
    [FS_DTYPE_Q5_0] = { { 0, 2, 2, 0 }, { 2, 4, 4, FS_CODES_PLANES }, { 6, 16, 4, 0 } },
    [FS_DTYPE_Q5_1] = { { 0, 4, 2, 0 }, { 4, 4, 4, FS_CODES_PLANES }, { 8, 16, 4, 0 } },
    [FS_DTYPE_Q8_0] = { { 0, 2, 2, 0 }, { 2, 32, 4, FS_CODES_BIASED } },
    [FS_DTYPE_Q2_K] = { { 0, 16, 1, 0 }, { 16, 64, 4, 0 }, { 80, 4, 2, 0 } },
    [FS_DTYPE_Q3_K] = { { 96, 12, 1, 0 }, { 0, 32, 4, 0 }, { 32, 64, 4, 0 }, { 108, 2, 2, 0 } },
    [FS_DTYPE_Q4_K] = { { 4, 12, 1, 0 }, { 16, 128, 4, 0 }, { 0, 4, 2, 0 } },
    [FS_DTYPE_Q5_K] = { { 4, 12, 1, 0 }, { 16, 32, 4, 0 }, { 48, 128, 4, 0 }, { 0, 4, 2, 0 } },
    [FS_DTYPE_Q6_K] = { { 192, 16, 1, 0 }, { 0, 64, 4, 0 }, { 128, 32, 4, 0 }, { 64, 64, 4, 0 }, { 160, 32, 4, 0 }, { 208, 2, 2, 0 } },
    [FS_DTYPE_IQ4_NL] = { { 0, 2, 2, 0 }, { 2, 16, 4, 0 } },
    [FS_DTYPE_IQ4_XS] = { { 4, 4, 1, 0 }, { 2, 2, 2, 0 }, { 8, 128, 4, 0 }, { 0, 2, 2, 0 } },
    [FS_DTYPE_MXFP4] = { { 0, 1, 1, 0 }, { 1, 16, 4, 0 } },
};

const fs_codes_field *fs_codes_layout_of(fs_dtype t)
{
    return layouts[t];
}

uint32_t fs_quants_block(fs_dtype t)
{
    return layouts[t][0].elem ? fs_dtype_get(t)->block_elems : 0;
}

size_t fs_quants_row_bytes(uint32_t k, uint32_t block)
{
    assert((block == 32 || block == 256) && k % block == 0);
    return ((size_t)k + (size_t)k / block * sizeof(float) + (size_t)k / 8 + 63) / 64 * 64;
}

void fs_mat_take_codes(fs_mat *m)
{
    m->block = fs_quants_block(m->dtype);
    assert(m->block);
}

/* Bit 4g + i of the first to bit g of byte i, and back. */
static uint32_t to_planes(uint32_t x)
{
    uint32_t planes = 0;

    for (int i = 0; i < 4; i++) {
        uint32_t y = x >> i & 0x11111111;
        y = (y | y >> 3) & 0x03030303;
        y = (y | y >> 6) & 0x000f000f;
        planes |= ((y | y >> 12) & 0xff) << 8 * i;
    }
    return planes;
}

static uint32_t from_planes(uint32_t planes)
{
    uint32_t x = 0;

    for (int g = 0; g < 8; g++)
        for (int i = 0; i < 4; i++)
            x |= (planes >> (8 * i + g) & 1) << (4 * g + i);
    return x;
}

/* dst [bytes / elem][16][elem] of a field of the blocks src[0..15]. */
INLINE void pack_field(const fs_codes_field *f, const uint8_t *const src[FS_PANEL], uint8_t *dst)
{
    if (f->bytes % 16 == 0 && f->elem == 4) {
        for (size_t c = 0; c < f->bytes; c += 16) {
            v4u32 a[16];
            UNROLL for (int r = 0; r < 16; r++)
                memcpy(&a[r], src[r] + f->at + c, 16);
            transpose_32(a);
            if (f->how == FS_CODES_BIASED)
                UNROLL for (int r = 0; r < 16; r++)
                    a[r] ^= 0x80808080;
            memcpy(dst + c * 16, a, sizeof a);
        }
        return;
    }
    for (size_t r = 0; r < FS_PANEL; r++) {
        const uint8_t *from = src[r] + f->at;
        for (size_t c = 0; c < f->bytes; c += f->elem) {
            uint8_t *to = dst + c * FS_PANEL + r * f->elem;
            if (f->how == FS_CODES_PLANES) {
                uint32_t x;
                memcpy(&x, from + c, sizeof x);
                x = to_planes(x);
                memcpy(to, &x, sizeof x);
            } else if (f->elem == 1) {
                *to = from[c];
            } else {
                memcpy(to, from + c, 2);
            }
        }
    }
}

void fs_codes_pack(const fs_mat *m, const fs_tensor *t, uint64_t row0, size_t panel_begin, size_t panel_end)
{
    static const uint8_t zeros[256];
    const fs_dtype_info *info = fs_dtype_get(m->dtype);
    size_t n_blocks = m->k / info->block_elems, per_unit = FS_CODES_UNIT(info->block_elems);

    assert(t->dtype == m->dtype);
    for (size_t p = panel_begin; p < panel_end; p++) {
        uint8_t *dst = (uint8_t *)(uintptr_t)m->data + p * m->panel_bytes;
        const uint8_t *src[FS_PANEL];

        for (size_t r = 0; r < FS_PANEL; r++)
            src[r] = p * FS_PANEL + r < m->n ? fs_tensor_row_data(t, row0 + p * FS_PANEL + r) : NULL;
        for (size_t b0 = 0; b0 < n_blocks; b0 += per_unit) {
            size_t n = n_blocks - b0 < per_unit ? n_blocks - b0 : per_unit;
            for (const fs_codes_field *f = layouts[m->dtype]; f->elem; f++)
                for (size_t b = b0; b < b0 + n; b++, dst += FS_PANEL * (size_t)f->bytes) {
                    const uint8_t *blocks[FS_PANEL];
                    for (size_t r = 0; r < FS_PANEL; r++)
                        blocks[r] = src[r] ? src[r] + b * info->block_bytes : zeros;
                    pack_field(f, blocks, dst);
                }
        }
    }
}

void fs_codes_unpack(const fs_mat *m, size_t p, size_t i, size_t r, uint8_t *ret_block)
{
    const fs_dtype_info *info = fs_dtype_get(m->dtype);
    size_t n_blocks = m->k / info->block_elems, per_unit = FS_CODES_UNIT(info->block_elems), b0 = i / per_unit * per_unit;
    size_t n = n_blocks - b0 < per_unit ? n_blocks - b0 : per_unit;
    const uint8_t *src = m->data + p * m->panel_bytes + b0 * FS_PANEL * info->block_bytes;

    for (const fs_codes_field *f = layouts[m->dtype]; f->elem; src += n * FS_PANEL * f->bytes, f++) {
        const uint8_t *part = src + (i - b0) * FS_PANEL * f->bytes;
        for (size_t c = 0; c < f->bytes; c++) {
            uint8_t byte = part[c / f->elem * f->elem * FS_PANEL + r * f->elem + c % f->elem];
            ret_block[f->at + c] = f->how == FS_CODES_BIASED ? byte ^ 0x80 : byte;
        }
        if (f->how == FS_CODES_PLANES) {
            uint32_t x;
            memcpy(&x, ret_block + f->at, sizeof x);
            x = from_planes(x);
            memcpy(ret_block + f->at, &x, sizeof x);
        }
    }
}

#if defined(__x86_64__)
static bool has_avx2(void)
{
    return (fs_isa_detect() & FS_ISA_AVX2) != 0;
}
#endif

const fs_quants_isa fs_quants_isas[] = {
    { "scalar", 0, NULL, { fs_quantize_ref, fs_gemm_codes_ref } },
#if defined(__x86_64__)
    { "avx2", FS_ISA_AVX2 | FS_ISA_AVX512, has_avx2, { fs_quantize_avx2, fs_gemm_codes_avx2 } },
    { "avx512vnni", FS_ISA_AVX512, fs_isa_has_dot, { fs_quantize_vnni, fs_gemm_codes_vnni } },
#elif defined(__aarch64__)
    { "neon", FS_ISA_NEON, NULL, { fs_quantize_neon, fs_gemm_codes_neon } },
    { "dotprod", FS_ISA_NEON, fs_isa_has_dot, { fs_quantize_dotprod, fs_gemm_codes_dotprod } },
#endif
};
const size_t fs_n_quants_isas = sizeof fs_quants_isas / sizeof *fs_quants_isas;

void fs_quant_kernels_init(fs_quant_kernels *k, unsigned isa)
{
    for (size_t i = 0; i < fs_n_quants_isas; i++) {
        const fs_quants_isa *q = &fs_quants_isas[i];
        if ((!q->isa || q->isa & isa) && (!q->available || q->available()))
            *k = q->kernels;
    }
}
