/* Packing for the products of RN1-bf16, and the choice of an implementation. */
#include "kernels/pair_products.h"
#include "kernels/kernels.h"
#include "kernels/pair_products_isa.h"

#include <assert.h>

#define PIECE 256 /* columns of a tensor that are widened at once */

bool fs_mat_pairs_bytes(uint64_t n, uint64_t k, size_t *ret_bytes)
{
    return k < UINT32_MAX && fs_mat_bytes(FS_DTYPE_BF16, n, k + k % 2, 0, 0, ret_bytes);
}

void fs_mat_init_pairs(fs_mat *ret, uint32_t n, uint32_t k, void *data)
{
    *ret = (fs_mat){ .dtype = FS_DTYPE_BF16, .n = n, .k = k, .data = data, .panel_bytes = fs_pairs(k) * FS_PANEL * sizeof(fs_pair), .pairs = true };
}

static fs_pair *panel_of(const fs_mat *m, size_t p)
{
    return (fs_pair *)(void *)((uint8_t *)(uintptr_t)m->data + p * m->panel_bytes);
}

static size_t rows_of(const fs_mat *m, size_t p)
{
    return m->n - p * FS_PANEL < FS_PANEL ? m->n - p * FS_PANEL : FS_PANEL;
}

void fs_mat_pack_pairs(const fs_mat *m, const fs_pair_kernels *k, const float *src, size_t src_stride, size_t panel_begin, size_t panel_end)
{
    assert(m->pairs && panel_begin <= panel_end && panel_end <= fs_mat_panels(m));
    for (size_t p = panel_begin; p < panel_end; p++)
        k->pack_rows(src + p * FS_PANEL * src_stride, src_stride, rows_of(m, p), m->k, panel_of(m, p));
}

void fs_mat_pack_pair_columns(const fs_mat *m, const fs_pair_kernels *k, const float *src, size_t src_stride, const uint32_t *index, size_t panel_begin,
                              size_t panel_end)
{
    assert(m->pairs && panel_begin <= panel_end && panel_end <= fs_mat_panels(m));
    for (size_t p = panel_begin; p < panel_end; p++)
        k->pack_columns(src + p * FS_PANEL, src_stride, index, rows_of(m, p), m->k, panel_of(m, p));
}

void fs_mat_pack_pairs_of(const fs_mat *m, const fs_pair_kernels *k, const fs_tensor *t, uint64_t row0, size_t panel_begin, size_t panel_end)
{
    size_t block = fs_dtype_get(t->dtype)->block_elems, step = block < PIECE ? PIECE / block * block : block;
    float rows[FS_PANEL][PIECE];

    assert(m->pairs && panel_begin <= panel_end && panel_end <= fs_mat_panels(m) && fs_tensor_cols(t) == m->k && step <= PIECE);
    for (size_t p = panel_begin; p < panel_end; p++)
        for (size_t c = 0; c < m->k; c += step) {
            size_t n = m->k - c < step ? m->k - c : step, n_rows = rows_of(m, p);
            for (size_t r = 0; r < n_rows; r++)
                fs_tensor_part_f32(t, row0 + p * FS_PANEL + r, c, n, rows[r]);
            k->pack_rows(rows[0], PIECE, n_rows, n, panel_of(m, p) + c / 2 * FS_PANEL);
        }
}

const fs_pair_isa fs_pair_isas[] = {
    { "scalar", 0, NULL, &fs_pair_ref },
#if defined(__x86_64__)
    { "avx2", FS_ISA_AVX2, NULL, &fs_pair_avx2 },
    { "avx512", FS_ISA_AVX512, NULL, &fs_pair_avx512 },
    { "avx512bf16", FS_ISA_AVX512, fs_isa_has_bf16, &fs_pair_dot },
#elif defined(__aarch64__)
    { "neon", FS_ISA_NEON, NULL, &fs_pair_neon },
#endif
};
const size_t fs_n_pair_isas = sizeof fs_pair_isas / sizeof *fs_pair_isas;

void fs_pair_kernels_init(fs_pair_kernels *k, unsigned isa)
{
    for (size_t i = 0; i < fs_n_pair_isas; i++) {
        const fs_pair_isa *p = &fs_pair_isas[i];
        if ((!p->isa || p->isa & isa) && (!p->available || p->available()))
            *k = *p->kernels;
    }
}
