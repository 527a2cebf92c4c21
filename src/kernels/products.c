/* Packing weights into panels, and the choice of an implementation.
 *
 * Plain types are transposed 16 rows x 16 bytes at a time, in vectors that every target has; block formats only
 * interleave the blocks of 16 rows, so that a mapped file opens at the speed of memory. */
#include "kernels/kernels.h"
#include "kernels/products_isa.h"
#include "kernels/quants_isa.h"
#include "kernels/transpose.h"
#include "tensor/blocks.h"

#include <assert.h>
#include <string.h>

static bool round_up(size_t n, size_t to, size_t *ret)
{
    if (!fs_add_size(n, to - 1, &n))
        return false;
    *ret = n / to * to;
    return true;
}

/* Values that MXFP4's blocks hold too. */
static bool is_mxfp4(const fs_tensor *t)
{
    return t->dtype == FS_DTYPE_FP4_E2M1 && t->scales && t->scale_dtype == FS_DTYPE_F8_E8M0 && t->scale_rows == 1 &&
           t->scale_cols == 32 && fs_tensor_cols(t) % 32 == 0 && !t->rope_heads;
}

static bool keeps_fp8(const fs_tensor *t)
{
    return !t->scales || (t->scale_rows && t->scale_rows % FS_PANEL == 0 && t->scale_cols);
}

fs_dtype fs_mat_dtype(const fs_tensor *t)
{
    if (t->dtype == FS_DTYPE_F8_E4M3)
        return keeps_fp8(t) ? FS_DTYPE_F8_E4M3 : FS_DTYPE_F32;
    if (t->dtype == FS_DTYPE_FP4_E2M1)
        return is_mxfp4(t) ? FS_DTYPE_MXFP4 : FS_DTYPE_F32;
    return t->scales ? FS_DTYPE_F32 : t->dtype;
}

/* Bytes of the panels and of the scales behind them, each a multiple of 64. */
static bool sizes(fs_dtype dtype, uint64_t n, uint64_t k, uint32_t scale_rows, uint32_t scale_cols,
                  size_t *ret_panel_bytes, size_t *ret_panels, size_t *ret_scales)
{
    size_t row_bytes, panel_bytes, panels, scales = 0;

    if (n > UINT32_MAX || k > UINT32_MAX || !fs_dtype_bytes(dtype, k, &row_bytes) ||
        !fs_mul_size(row_bytes, FS_PANEL, &panel_bytes) ||
        !fs_mul_size(panel_bytes, (size_t)((n + FS_PANEL - 1) / FS_PANEL), &panels) || !round_up(panels, 64, &panels))
        return false;
    if (dtype == FS_DTYPE_F8_E4M3 && scale_rows && scale_cols) {
        size_t rows = (size_t)((n + scale_rows - 1) / scale_rows), cols = (size_t)((k + scale_cols - 1) / scale_cols);
        if (!fs_mul_size(rows, cols, &scales) || !fs_mul_size(scales, sizeof(float), &scales) ||
            !round_up(scales, 64, &scales))
            return false;
    }
    *ret_panel_bytes = panel_bytes;
    *ret_panels = panels;
    *ret_scales = scales;
    return true;
}

bool fs_mat_bytes(fs_dtype dtype, uint64_t n, uint64_t k, uint32_t scale_rows, uint32_t scale_cols, size_t *ret_bytes)
{
    size_t panel_bytes, panels, scales;

    return sizes(dtype, n, k, scale_rows, scale_cols, &panel_bytes, &panels, &scales) &&
           fs_add_size(panels, scales, ret_bytes);
}

/* Geometry of n rows of t, and the bytes of the panels. */
static size_t shape(fs_mat *ret, const fs_tensor *t, uint32_t n)
{
    fs_dtype dtype = fs_mat_dtype(t);
    bool scaled = dtype == FS_DTYPE_F8_E4M3 && t->scales, ok;
    size_t panels = 0, scales = 0;

    *ret = (fs_mat){ .dtype = dtype, .n = n, .k = (uint32_t)fs_tensor_cols(t), .scale_rows = scaled ? t->scale_rows : 0,
                     .scale_cols = scaled ? t->scale_cols : 0 };
    ok = sizes(dtype, n, fs_tensor_cols(t), ret->scale_rows, ret->scale_cols, &ret->panel_bytes, &panels, &scales);
    assert(ok);
    (void)ok;
    return panels;
}

/* Geometry and scales of rows row0 .. row0+n-1; the scales go to scales, or behind the panels at data. */
static void init(fs_mat *ret, const fs_tensor *t, uint64_t row0, uint32_t n, uint8_t *data, float *scales)
{
    size_t panels = shape(ret, t, n);

    assert(row0 <= fs_tensor_rows(t) && n <= fs_tensor_rows(t) - row0);
    ret->data = data;
    if (ret->dtype == FS_DTYPE_F8_E4M3 && t->scales) {
        size_t rows = ((size_t)n + ret->scale_rows - 1) / ret->scale_rows, cols = ((size_t)ret->k + ret->scale_cols - 1) / ret->scale_cols;
        float *dst = scales ? scales : (float *)(void *)(data + panels);
        assert(row0 % ret->scale_rows == 0 && !t->rope_heads);
        for (size_t i = 0; i < rows * cols; i++)
            dst[i] = fs_tensor_scale(t, (size_t)(row0 / ret->scale_rows) * cols + i);
        ret->scales = dst;
    }
}

void fs_mat_init(fs_mat *ret, const fs_tensor *t, uint64_t row0, uint32_t n, void *data)
{
    init(ret, t, row0, n, data, NULL);
}

void fs_mat_init_stored(fs_mat *ret, const fs_tensor *t, void *scales)
{
    init(ret, t, 0, (uint32_t)fs_tensor_rows(t), NULL, scales);
}

size_t fs_mat_scales_bytes(const fs_tensor *t)
{
    size_t panel_bytes = 0, panels = 0, scales = 0;

    if (fs_mat_dtype(t) == FS_DTYPE_F8_E4M3 && t->scales)
        sizes(FS_DTYPE_F8_E4M3, fs_tensor_rows(t), fs_tensor_cols(t), t->scale_rows, t->scale_cols, &panel_bytes, &panels, &scales);
    return scales;
}

void fs_mat_init_unplaced(fs_mat *ret, const fs_tensor *t)
{
    shape(ret, t, (uint32_t)fs_tensor_rows(t));
}

size_t fs_mat_place(fs_mat *m, void *data)
{
    size_t panel_bytes, panels = 0, scales = 0;
    bool ok = sizes(m->dtype, m->n, m->k, m->scale_rows, m->scale_cols, &panel_bytes, &panels, &scales);

    assert(ok);
    (void)ok;
    m->data = data;
    m->scales = data && scales ? (const float *)(const void *)(m->data + panels) : NULL;
    return panels + scales;
}

void fs_mat_init_f32(fs_mat *ret, fs_dtype dtype, uint32_t n, uint32_t k, void *data)
{
    size_t panel_bytes = 0, panels, scales;
    bool ok = sizes(dtype, n, k, 0, 0, &panel_bytes, &panels, &scales);

    assert(ok && (dtype == FS_DTYPE_F32 || dtype == FS_DTYPE_BF16 || dtype == FS_DTYPE_F16));
    (void)ok;
    *ret = (fs_mat){ .dtype = dtype, .n = n, .k = k, .data = data, .panel_bytes = panel_bytes };
}

/* dst [n][16] of the rows src[0..15], n elements each. */
#define DEFINE_ROWS(bits, vector)                                                            \
    static void transpose_rows_##bits(const uint8_t *const src[FS_PANEL], size_t n, uint8_t *dst) \
    {                                                                                        \
        const size_t bytes = (bits) / 8, per = 16 / bytes;                                   \
        size_t c = 0;                                                                        \
        for (; c + per <= n; c += per) {                                                     \
            vector a[16];                                                                    \
            UNROLL for (int r = 0; r < 16; r++)                                              \
                memcpy(&a[r], src[r] + c * bytes, 16);                                       \
            transpose_##bits(a);                                                             \
            memcpy(dst + c * 16 * bytes, a, sizeof a);                                       \
        }                                                                                    \
        for (; c < n; c++)                                                                   \
            for (size_t r = 0; r < 16; r++)                                                  \
                memcpy(dst + (c * 16 + r) * bytes, src[r] + c * bytes, bytes);               \
    }
DEFINE_ROWS(16, v8u16)
DEFINE_ROWS(32, v4u32)
#undef DEFINE_ROWS

static void transpose(size_t elem_bytes, const uint8_t *const src[FS_PANEL], size_t n, uint8_t *dst)
{
    switch (elem_bytes) {
    case 1: /* F8_E4M3: fours of inputs */
        transpose_rows_32(src, n / 4, dst);
        for (size_t c = n & ~(size_t)3; c < n; c++)
            for (size_t r = 0; r < FS_PANEL; r++)
                dst[c * FS_PANEL + r] = src[r][c];
        return;
    case 2:
        transpose_rows_16(src, n, dst);
        return;
    default:
        assert(elem_bytes == 4);
        transpose_rows_32(src, n, dst);
    }
}

static void interleave_blocks(size_t block_bytes, const uint8_t *const src[FS_PANEL], size_t n_blocks, uint8_t *dst)
{
    /* A constant length lets the compiler copy a block in registers. */
#define COPY(bytes)                                                                        \
    case bytes:                                                                            \
        for (size_t b = 0; b < n_blocks; b++)                                              \
            for (size_t r = 0; r < FS_PANEL; r++)                                          \
                memcpy(dst + (b * FS_PANEL + r) * (bytes), src[r] + b * (bytes), (bytes)); \
        return
    switch (block_bytes) {
        COPY(17);
        COPY(18);
        COPY(20);
        COPY(22);
        COPY(24);
        COPY(34);
        COPY(36);
        COPY(50);
        COPY(54);
        COPY(56);
        COPY(66);
        COPY(74);
        COPY(82);
        COPY(84);
        COPY(98);
        COPY(110);
        COPY(136);
        COPY(144);
        COPY(176);
        COPY(210);
    default:
        assert(!"interleave_blocks: unknown block size");
    }
#undef COPY
}

/* Packed FP4 as blocks of MXFP4, which hold the same values: scale, then bytes of elements j and j + 16. */
static void pack_fp4(const fs_tensor *t, uint64_t row, size_t n_rows, uint8_t *dst)
{
    size_t n_blocks = (size_t)fs_tensor_cols(t) / 32;

    for (size_t r = 0; r < FS_PANEL; r++) {
        const uint8_t *src = r < n_rows ? fs_tensor_row_data(t, row + r) : NULL;
        const uint8_t *scales = r < n_rows ? t->scales + (row + r) * n_blocks : NULL;
        for (size_t b = 0; b < n_blocks; b++) {
            uint8_t *block = dst + (b * FS_PANEL + r) * 17;
            v16u8 q, even, odd, low, high;
            if (!src) {
                memset(block, 0, 17);
                continue;
            }
            memcpy(&q, src + b * 16, sizeof q);
            even = q & 15;
            odd = q >> 4;
            low = __builtin_shufflevector(even, odd, LOW_8);
            high = __builtin_shufflevector(even, odd, HIGH_8);
            low |= high << 4;
            block[0] = scales[b];
            memcpy(block + 1, &low, sizeof low);
        }
    }
}

/* A panel of a matrix that is F32 only because its own form has no panels. */
static void pack_values(const fs_mat *m, const fs_tensor *t, uint64_t row, size_t n_rows, uint8_t *dst)
{
    float tile[FS_PANEL][FS_CHAIN];
    const uint8_t *src[FS_PANEL];

    for (size_t c = 0; c < m->k; c += FS_CHAIN) {
        size_t n = m->k - c < FS_CHAIN ? m->k - c : FS_CHAIN;
        for (size_t r = 0; r < FS_PANEL; r++) {
            src[r] = (const uint8_t *)tile[r];
            if (r < n_rows)
                fs_tensor_part_f32(t, row + r, c, n, tile[r]);
            else
                memset(tile[r], 0, sizeof tile[r]);
        }
        transpose(sizeof(float), src, n, dst + c * FS_PANEL * sizeof(float));
    }
}

void fs_mat_pack(const fs_mat *m, const fs_tensor *t, uint64_t row0, size_t panel_begin, size_t panel_end)
{
    static const uint8_t zeros[4096];
    const fs_dtype_info *info = fs_dtype_get(m->dtype);

    assert(panel_begin <= panel_end && panel_end <= fs_mat_panels(m) && fs_tensor_cols(t) == m->k);
    if (m->codes) {
        fs_codes_pack(m, t, row0, panel_begin, panel_end);
        return;
    }
    for (size_t p = panel_begin; p < panel_end; p++) {
        size_t n_rows = m->n - p * FS_PANEL < FS_PANEL ? m->n - p * FS_PANEL : FS_PANEL;
        uint64_t row = row0 + p * FS_PANEL;
        uint8_t *dst = (uint8_t *)(uintptr_t)m->data + p * m->panel_bytes;
        const uint8_t *src[FS_PANEL];

        if (m->dtype != t->dtype) {
            assert(m->dtype == FS_DTYPE_F32 || m->dtype == FS_DTYPE_MXFP4);
            if (m->dtype == FS_DTYPE_F32)
                pack_values(m, t, row, n_rows, dst);
            else
                pack_fp4(t, row, n_rows, dst);
            continue;
        }
        for (size_t r = 0; r < n_rows; r++)
            src[r] = fs_tensor_row_data(t, row + r);
        if (n_rows == FS_PANEL) {
            if (fs_dtype_is_block(m->dtype))
                interleave_blocks(info->block_bytes, src, m->k / info->block_elems, dst);
            else
                transpose(info->block_bytes, src, m->k, dst);
            continue;
        }
        /* The last, ragged panel goes in pieces, so that the missing rows can be read from a short row of zeros. */
        size_t step = info->block_elems == 1 ? 1024 : (size_t)16 * info->block_elems;
        assert(step / info->block_elems * info->block_bytes <= sizeof zeros);
        for (size_t k = 0; k < m->k; k += step) {
            size_t n = m->k - k < step ? m->k - k : step, at = k / info->block_elems * info->block_bytes;
            const uint8_t *part[FS_PANEL];
            for (size_t r = 0; r < FS_PANEL; r++)
                part[r] = r < n_rows ? src[r] + at : zeros;
            if (fs_dtype_is_block(m->dtype))
                interleave_blocks(info->block_bytes, part, n / info->block_elems, dst + at * FS_PANEL);
            else
                transpose(info->block_bytes, part, n, dst + at * FS_PANEL);
        }
    }
}

bool fs_mat_is_finite(const fs_mat *m, size_t panel_begin, size_t panel_end)
{
    const uint8_t *codes = m->data + panel_begin * m->panel_bytes;
    size_t n = (panel_end - panel_begin) * m->panel_bytes; /* a multiple of 16 */
    v16u8 nan = { 0 };
    uint64_t words[2];

    assert(m->dtype == FS_DTYPE_F8_E4M3);
    for (size_t i = 0; i < n; i += sizeof nan) {
        v16u8 v;
        memcpy(&v, codes + i, sizeof v);
        nan |= (v & 0x7f) + 1;
    }
    memcpy(words, &nan, sizeof words);
    return !((words[0] | words[1]) & UINT64_C(0x8080808080808080));
}

void fs_mat_pack_f32(const fs_mat *m, const float *src, size_t src_stride, size_t panel_begin, size_t panel_end)
{
    float tile[FS_PANEL][FS_CHAIN];
    uint16_t narrow[FS_PANEL][FS_CHAIN];
    const uint8_t *rows[FS_PANEL];
    size_t elem_bytes = fs_dtype_get(m->dtype)->block_bytes;

    assert(panel_begin <= panel_end && panel_end <= fs_mat_panels(m));
    for (size_t p = panel_begin; p < panel_end; p++) {
        size_t n_rows = m->n - p * FS_PANEL < FS_PANEL ? m->n - p * FS_PANEL : FS_PANEL;
        uint8_t *dst = (uint8_t *)(uintptr_t)m->data + p * m->panel_bytes;

        for (size_t c = 0; c < m->k; c += FS_CHAIN) {
            size_t n = m->k - c < FS_CHAIN ? m->k - c : FS_CHAIN;
            for (size_t r = 0; r < FS_PANEL; r++) {
                if (r < n_rows)
                    memcpy(tile[r], src + (p * FS_PANEL + r) * src_stride + c, n * sizeof(float));
                else
                    memset(tile[r], 0, n * sizeof(float));
                rows[r] = (const uint8_t *)tile[r];
                if (m->dtype == FS_DTYPE_F32)
                    continue;
                for (size_t i = 0; i < n; i++) {
                    bool bf16 = m->dtype == FS_DTYPE_BF16;
                    uint16_t h = bf16 ? fs_f32_to_bf16(tile[r][i]) : fs_f32_to_f16(tile[r][i]);
                    float back = bf16 ? fs_bf16_to_f32(h) : fs_f16_to_f32(h);
                    assert(memcmp(&back, &tile[r][i], sizeof back) == 0);
                    (void)back;
                    narrow[r][i] = h;
                }
                rows[r] = (const uint8_t *)narrow[r];
            }
            transpose(elem_bytes, rows, n, dst + c * FS_PANEL * elem_bytes);
        }
    }
}

/* Of rows that lie far apart as much as the hardware takes in at once, and asked for before it is due. */
#define COLUMN_PANELS ((size_t)4)
#define ROWS_AHEAD    ((size_t)8)

static const float *column_row(const float *src, size_t src_stride, const uint32_t *index, size_t i)
{
    return src + (index ? index[i] : i) * src_stride;
}

void fs_mat_pack_columns(const fs_mat *m, const float *src, size_t src_stride, const uint32_t *index, size_t panel_begin, size_t panel_end)
{
    assert(panel_begin <= panel_end && panel_end <= fs_mat_panels(m) && m->dtype == FS_DTYPE_F32);
    for (size_t p = panel_begin, n_p; p < panel_end; p += n_p) {
        size_t col = p * FS_PANEL, n;
        uint8_t *dst = (uint8_t *)(uintptr_t)m->data + p * m->panel_bytes;

        n_p = panel_end - p < COLUMN_PANELS ? panel_end - p : COLUMN_PANELS;
        n = m->n - col < n_p * FS_PANEL ? m->n - col : n_p * FS_PANEL;
        for (size_t i = 0; i < m->k; i++, dst += FS_PANEL * sizeof(float)) {
            const float *row = column_row(src, src_stride, index, i) + col;
            if (i + ROWS_AHEAD < m->k)
                for (size_t c = 0; c < n; c += FS_PANEL)
                    __builtin_prefetch(column_row(src, src_stride, index, i + ROWS_AHEAD) + col + c);
            for (size_t c = 0; c < n; c += FS_PANEL) {
                uint8_t *to = dst + c / FS_PANEL * m->panel_bytes;
                if (n - c >= FS_PANEL) {
                    memcpy(to, row + c, FS_PANEL * sizeof *row); /* a constant length is one register's copy */
                } else {
                    memcpy(to, row + c, (n - c) * sizeof *row);
                    memset(to + (n - c) * sizeof *row, 0, (FS_PANEL - (n - c)) * sizeof *row);
                }
            }
        }
    }
}

void fs_product_kernels_init(fs_product_kernels *k, unsigned isa)
{
    k->gemm = FS_BEST_OF(fs_gemm, isa);
    k->gemm_add = FS_BEST_OF(fs_gemm_add, isa);
    k->gemm_turned = FS_BEST_OF(fs_gemm_turned, isa);
}
