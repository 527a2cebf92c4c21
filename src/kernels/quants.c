/* Panels of codes, the geometry of quantised rows, and the choice of an implementation. */
#include "kernels/kernels.h"
#include "kernels/quants_isa.h"
#include "kernels/quants_pack.h"

#include <assert.h>
#include <string.h>

const fs_codes_field *fs_codes_layout_of(fs_dtype t)
{
    return layouts[t];
}

bool fs_quants_serve(fs_dtype t)
{
    return layouts[t][0].elem != 0;
}

size_t fs_quants_row_bytes(uint32_t k)
{
    assert(k % FS_QUANTS_BLOCK == 0);
    return ((size_t)k / FS_QUANTS_BLOCK * sizeof(fs_quants_block) + 63) / 64 * 64 + 8; /* rows meet in no bank of the cache */
}

void fs_mat_take_codes(fs_mat *m)
{
    assert(fs_quants_serve(m->dtype));
    m->codes = true;
}

/* Bit g of byte i to bit 4g + i. */
static uint32_t from_planes(uint32_t planes)
{
    uint32_t x = 0;

    for (int g = 0; g < 8; g++)
        for (int i = 0; i < 4; i++)
            x |= (planes >> (8 * i + g) & 1) << (4 * g + i);
    return x;
}

/* words16 of quants_pack.h, in vectors that every target has. */
INLINE void words16(const uint8_t *const rows[FS_PANEL], size_t at, uint32_t flip, uint8_t *dst)
{
    v4u32 a[16];

    UNROLL for (int r = 0; r < 16; r++)
        memcpy(&a[r], rows[r] + at, 16);
    transpose_32(a);
    UNROLL for (int r = 0; r < 16; r++)
        a[r] ^= flip;
    memcpy(dst, a, sizeof a);
}

static void blocks_of_panel(fs_dtype t, const uint8_t *const rows[FS_PANEL], size_t n_blocks, uint8_t *dst)
{
    pack_blocks_of(t, rows, n_blocks, dst);
}

void fs_codes_pack(const fs_mat *m, const fs_tensor *t, uint64_t row0, size_t panel_begin, size_t panel_end)
{
    static const uint8_t zeros[256];
    const fs_dtype_info *info = fs_dtype_get(m->dtype);
    size_t n_blocks = m->k / info->block_elems, unit = FS_CODES_UNIT(info->block_elems);
    fs_codes_blocks_fn *pack_blocks = blocks_of_panel;

    assert(t->dtype == m->dtype);
#if defined(__x86_64__)
    if (fs_isa_detect() & FS_ISA_AVX512)
        pack_blocks = fs_codes_blocks_avx512;
#endif
    for (size_t p = panel_begin; p < panel_end; p++) {
        size_t n_rows = m->n - p * FS_PANEL < FS_PANEL ? m->n - p * FS_PANEL : FS_PANEL;
        uint8_t *dst = (uint8_t *)(uintptr_t)m->data + p * m->panel_bytes;
        const uint8_t *rows[FS_PANEL];

        for (size_t r = 0; r < n_rows; r++)
            rows[r] = fs_tensor_row_data(t, row0 + p * FS_PANEL + r);
        if (n_rows == FS_PANEL) {
            pack_blocks(m->dtype, rows, n_blocks, dst);
            continue;
        }
        for (size_t r = n_rows; r < FS_PANEL; r++)
            rows[r] = zeros;
        for (size_t b = 0, n; b < n_blocks; b += n) { /* a unit at a time, so that few zeros do for the missing rows */
            n = n_blocks - b < unit ? n_blocks - b : unit;
            pack_blocks(m->dtype, rows, n, dst);
            dst += n * FS_PANEL * info->block_bytes;
            for (size_t r = 0; r < n_rows; r++)
                rows[r] += n * info->block_bytes;
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
    { "i8mm", FS_ISA_NEON, fs_isa_has_i8mm, { fs_quantize_i8mm, fs_gemm_codes_i8mm } },
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
