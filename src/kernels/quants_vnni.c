/* Quantised products on AVX-512 with VNNI: 64 bytes of a panel, 16 rows times four inputs, meet four activations a row of
 * x in one vpdpbusd. Codes are unsigned, those that are signed + 128 (+ 32 in sub-blocks of 16).
 *
 * A kernel takes one panel and a group of rows of x, and reads the panel as one ascending stream, which the hardware
 * fetches ahead: bytes touched out of their order cost more than any instruction here. So the weights of a row's top
 * group, another one in each row, which meet its high codes too, are loaded behind the others (quants_panel_vnni.c). For
 * more rows a tile of 1024 inputs is unpacked once and swept by group after group (quants_tile_vnni.c). Here activations
 * become codes, and the sweep chooses the kernels. */
#include "kernels/quants_vnni.h"

#include <stddef.h>

/* ---- activations ---- */
/* By the top group: top, shift_of and nibble of fs_quants_block. */
static const int32_t places[8][4] = {
    { 0, FS_QUANTS_SHIFT, 32, 0 },   { 64, FS_QUANTS_SHIFT, 32, 0 },  { 128, FS_QUANTS_SHIFT, 32, 0 }, { 192, FS_QUANTS_SHIFT, 32, 0 },
    { 256, 32, FS_QUANTS_SHIFT, 4 }, { 320, 32, FS_QUANTS_SHIFT, 4 }, { 384, 32, FS_QUANTS_SHIFT, 4 }, { 448, 32, FS_QUANTS_SHIFT, 4 },
};
_Static_assert(offsetof(fs_quants_block, nibble) == offsetof(fs_quants_block, top) + 12, "places");

/* Even and odd lanes of a and of b by twos: lanes 4L, 4L + 1 of a's L, the next two of b's. */
INLINE __m512i evens(__m512i a, __m512i b)
{
    return _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0x88));
}

INLINE __m512i odds(__m512i a, __m512i b)
{
    return _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0xdd));
}

INLINE __m512i max_pairs(__m512i a, __m512i b)
{
    return _mm512_max_epu32(evens(a, b), odds(a, b));
}

INLINE __m512i add_pairs(__m512i a, __m512i b)
{
    return _mm512_add_epi32(evens(a, b), odds(a, b));
}

/* The largest and the second of lanes 0 .. 7 in each of them, and of 8 .. 15. */
INLINE void max_eights(__m512i v, __m512i *ret_first, __m512i *ret_second)
{
    __m512i w = _mm512_shuffle_i64x2(v, v, 0xb1), first = _mm512_max_epu32(v, w), second = _mm512_min_epu32(v, w);

    v = _mm512_shuffle_epi32(first, _MM_PERM_BADC);
    w = _mm512_max_epu32(second, _mm512_shuffle_epi32(second, _MM_PERM_BADC));
    second = _mm512_max_epu32(w, _mm512_min_epu32(first, v));
    first = _mm512_max_epu32(first, v);
    v = _mm512_shuffle_epi32(first, _MM_PERM_CDAB);
    w = _mm512_max_epu32(second, _mm512_shuffle_epi32(second, _MM_PERM_CDAB));
    *ret_second = _mm512_max_epu32(w, _mm512_min_epu32(first, v));
    *ret_first = _mm512_max_epu32(first, v);
}

/* Of two blocks d and the place of the top group. */
INLINE void scale_two(const float *const x[2], fs_quants_block *const ret[2])
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    const __m512i by_block = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i chosen = _mm512_setr_epi32(0, 8, 16, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    __m512i v[4], top, rest;
    __m128 d, a_b;
    uint32_t lanes;

    UNROLL for (int i = 0; i < 4; i++)
        v[i] = _mm512_and_si512(_mm512_loadu_si512(x[i / 2] + i % 2 * 16), magnitude);
    v[0] = _mm512_permutexvar_epi32(by_block, max_pairs(max_pairs(v[0], v[1]), max_pairs(v[2], v[3]))); /* by group */
    max_eights(v[0], &top, &rest);
    lanes = _mm512_cmpeq_epi32_mask(v[0], top);
    a_b = _mm_castsi128_ps(_mm512_castsi512_si128(_mm512_permutex2var_epi32(top, chosen, rest)));
    a_b = _mm_div_ps(a_b, _mm_setr_ps(16319.0f, 16319.0f, 127.0f, 127.0f));
    d = _mm_max_ps(_mm_movehl_ps(a_b, a_b), a_b); /* b > a ? b : a */
    d = _mm_maskz_mov_ps(_mm_cmp_ps_mask(d, _mm_set1_ps(0x1p-126f), _CMP_NLT_UQ), d);
    ret[0]->d = _mm_cvtss_f32(d);
    ret[1]->d = _mm_cvtss_f32(_mm_movehdup_ps(d));
    memcpy(&ret[0]->top, places[__builtin_ctz(lanes)], sizeof places[0]);
    memcpy(&ret[1]->top, places[__builtin_ctz(lanes >> 8)], sizeof places[0]);
}

/* Then the rest of them. */
INLINE void quantize_two(const float *const x[2], fs_quants_block *const ret[2])
{
    __m512i v[4], halves;
    __m128i sums, both, zero = _mm_setzero_si128();
    __m128 d_sums;

    UNROLL for (int i = 0; i < 4; i++)
    {
        __m512 d = _mm512_set1_ps(ret[i / 2]->d);
        __mmask16 unusable = _mm512_fpclass_ps_mask(d, 0x01 | 0x02 | 0x08 | 0x80); /* NaN, 0, infinity */
        v[i] = _mm512_maskz_cvtps_epi32((__mmask16)~unusable, _mm512_div_ps(_mm512_loadu_ps(x[i / 2] + i % 2 * 16), d));
        _mm_storeu_si128((__m128i *)(void *)(ret[i / 2]->low + i % 2 * 16), _mm512_cvtepi32_epi8(v[i]));
    }
    halves = add_pairs(add_pairs(v[0], v[1]), add_pairs(v[2], v[3]));
    sums = _mm_add_epi32(_mm_add_epi32(_mm512_castsi512_si128(halves), _mm512_extracti32x4_epi32(halves, 1)),
                         _mm_add_epi32(_mm512_extracti32x4_epi32(halves, 2), _mm512_extracti32x4_epi32(halves, 3)));
    both = _mm_hadd_epi32(sums, sums);
    d_sums = _mm_mul_ps(_mm_setr_ps(ret[0]->d, ret[1]->d, 0.0f, 0.0f), _mm_cvtepi32_ps(both));
    both = _mm_sub_epi32(zero, both);
    sums = _mm_sub_epi32(zero, _mm_slli_epi32(sums, 5));
    UNROLL for (int i = 0; i < 2; i++)
    {
        const int32_t top = ret[i]->top / 16; /* input */
        __m128i pick = _mm_add_epi32(_mm_set1_epi32(top), _mm_setr_epi32(0, 1, 2, 3));
        int32_t low, high;
        pick = _mm512_castsi512_si128(_mm512_permutex2var_epi32(v[2 * i], _mm512_castsi128_si512(pick), v[2 * i + 1]));
        high = _mm_cvtsi128_si32(_mm_cvtepi32_epi8(_mm_srai_epi32(_mm_add_epi32(pick, _mm_set1_epi32(1 << (FS_QUANTS_SHIFT - 1))), FS_QUANTS_SHIFT)));
        low = _mm_cvtsi128_si32(_mm_cvtepi32_epi8(_mm_srai_epi32(_mm_slli_epi32(pick, 32 - FS_QUANTS_SHIFT), 32 - FS_QUANTS_SHIFT)));
        memcpy(ret[i]->high, &high, sizeof high);
        memcpy(ret[i]->low + top, &low, sizeof low);
        ret[i]->d_sum = _mm_cvtss_f32(i ? _mm_movehdup_ps(d_sums) : d_sums);
        ret[i]->minus_sum = i ? _mm_extract_epi32(both, 1) : _mm_cvtsi128_si32(both);
        _mm_storel_epi64((__m128i *)(void *)ret[i]->minus_sums_32, i ? _mm_unpackhi_epi64(sums, sums) : sums);
    }
}

typedef void two_fn(const float *const x[2], fs_quants_block *const ret[2]);

/* f of blocks [begin, end) by twos; the second of the last may be unused. */
INLINE void by_twos(two_fn *const f, const float *x, fs_quants_block *q, size_t begin, size_t end, fs_quants_block *unused)
{
    for (size_t b = begin; b < end; b += 2) {
        const bool one = b + 1 == end;
        const float *const from[2] = { x + b * FS_QUANTS_BLOCK, x + (b + !one) * FS_QUANTS_BLOCK };
        fs_quants_block *const ret[2] = { q + b, one ? unused : q + b + 1 };
        f(from, ret);
    }
}

/* In two passes, since each block is a long chain of its own and the CPU looks only so far ahead. */
void fs_quantize_vnni(const fs_quants *q, size_t row, size_t n_rows, size_t block_begin, size_t block_end, const float *x, size_t ldx)
{
    for (size_t t = 0; t < n_rows; t++, x += ldx) {
        fs_quants_block unused;
        by_twos(scale_two, x, fs_quants_row(q, row + t), block_begin, block_end, &unused);
        by_twos(quantize_two, x, fs_quants_row(q, row + t), block_begin, block_end, &unused);
    }
}

/* ---- products ---- */
/* Bytes of rows that stay in the second cache beside a panel. */
#define X_BYTES ((size_t)384 << 10)
_Static_assert(sizeof(struct tile) <= FS_GEMM_SCRATCH_BYTES, "scratch");
/* Rows of x that the next kernel takes when m are left. */
static size_t next_group(kernel_fn *const by_rows[ROWS_MAX + 1], size_t m)
{
    size_t rows = m < ROWS_MAX ? m : ROWS_MAX;

    while (!by_rows[rows])
        rows--;
    return rows;
}

/* n rows of x times one panel, of which *piece has the rest; its x and y move on. Bytes that are wanted next are fetched meanwhile. */
static void rows_times(kernel_fn *const by_rows[ROWS_MAX + 1], struct piece *piece, size_t n, const uint8_t *next, size_t next_bytes)
{
    size_t share = (next_bytes / ((n + ROWS_MAX - 1) / ROWS_MAX) + 63) & ~(size_t)63;

    for (size_t t = 0, rows; t < n; t += rows) {
        rows = next_group(by_rows, n - t);
        for (size_t i = 0; i < share && next_bytes; i += 64, next += 64, next_bytes -= next_bytes < 64 ? next_bytes : 64)
            _mm_prefetch((const char *)next, _MM_HINT_T1);
        by_rows[rows](piece);
        piece->x = (const fs_quants_block *)(const void *)((const uint8_t *)piece->x + rows * piece->x_stride);
        piece->y += rows * piece->ldy;
    }
}

void fs_gemm_codes_vnni(const fs_mat *w, size_t panel_begin, size_t panel_end, const fs_quants *x, size_t row, size_t m, const float *bias,
                        float *y, size_t ldy, void *scratch)
{
    const shape s = shape_of(w->dtype);
    const size_t n_blocks = w->k / FS_QUANTS_BLOCK;
    size_t at_once = X_BYTES / (x->row_bytes + !x->row_bytes) / ROWS_MAX * ROWS_MAX;
    struct tile *tile = scratch;

    if (!n_blocks) {
        fs_gemm_codes_ref(w, panel_begin, panel_end, x, row, m, bias, y, ldy, scratch);
        return;
    }
    at_once = at_once ? at_once : ROWS_MAX;
    for (size_t t = 0; t < m; t += at_once) {
        const size_t n = m - t < at_once ? m - t : at_once, blocks = n < 32 ? 8 : TILE_BLOCKS;
        for (size_t p = panel_begin; p < panel_end; p++) {
            const uint8_t *panel = w->data + p * w->panel_bytes;
            size_t o = p * FS_PANEL, n_o = w->n - o < FS_PANEL ? w->n - o : FS_PANEL;
            struct piece piece = { .panel = panel, .n_blocks = n_blocks, .x = fs_quants_row(x, row + t), .x_stride = x->row_bytes,
                                   .y = y + t * ldy + o, .ldy = ldy, .lanes = (1u << n_o) - 1, .first = true, .bias = bias ? bias + o : NULL };
            if (n <= 4 || (n <= ROWS_MAX && fs_quants_panels_vnni[w->dtype][ROWS_MAX]) || w->dtype == FS_DTYPE_Q8_0) { /* codes as they are */
                rows_times(fs_quants_panels_vnni[w->dtype], &piece, n, panel + w->panel_bytes, n > ROWS_MAX ? w->panel_bytes : 0);
                continue;
            }
            piece.tile = tile;
            for (size_t b = 0, bytes; b < n_blocks; b += blocks, panel += bytes) {
                piece.n_blocks = n_blocks - b < blocks ? n_blocks - b : blocks;
                bytes = piece.n_blocks * tile_bytes_of(w->dtype) / 8;
                piece.x = fs_quants_row(x, row + t) + b;
                piece.y = y + t * ldy + o;
                piece.first = b == 0;
                piece.bias = bias && b + blocks >= n_blocks ? bias + o : NULL;
                fs_quants_unpack_vnni[w->dtype](panel, piece.n_blocks, tile);
                rows_times(fs_quants_tiles_vnni[s.has_min][s.sub == 16], &piece, n, panel + bytes, bytes);
            }
        }
    }
}
