/* Inside the family quants: the panels of codes, and the implementations that fs_quant_kernels_init chooses from.
 *
 * A panel is its units of rising k: two blocks of 32 (the last unit may have one) or a block of 256. A unit is its
 * fields in the order of fs_codes_layout_of; a field is that part of each block in turn; a part is
 * [bytes / elem][16 rows][elem]: where elem is 4, sixteen rows times four neighbouring inputs fill 64 bytes, the shape
 * of an int8 dot product. The fields stand in the order in which a kernel wants them, scales first, so that it reads
 * memory in one ascending stream. Codes are unsigned, their offset is undone with the sums of the activations. */
#ifndef FS_KERNELS_QUANTS_ISA_H
#define FS_KERNELS_QUANTS_ISA_H

#include "kernels/quants.h"

#define FS_TILE 256 /* inputs of the largest block */
#define FS_CODES_UNIT(block_elems) ((block_elems) == 32 ? 2 : 1) /* blocks */

enum fs_codes_how {
    FS_CODES_PLAIN,
    FS_CODES_BIASED, /* each byte ^ 0x80 */
    FS_CODES_PLANES, /* 32 bits: bit g of byte i is the file's bit 4g + i */
};

typedef struct fs_codes_field {
    uint8_t at, bytes; /* in the file's block */
    uint8_t elem;      /* 0 ends the list */
    uint8_t how;
} fs_codes_field;

#define FS_CODES_FIELDS 6
typedef fs_codes_field fs_codes_layout[FS_CODES_FIELDS + 1];
/* Q2_K to Q6_K: superblocks of 256 whose codes stand by quarters or pairs of 32 inputs. */
static inline bool fs_codes_is_k(fs_dtype t)
{
    return t == FS_DTYPE_Q2_K || t == FS_DTYPE_Q3_K || t == FS_DTYPE_Q4_K || t == FS_DTYPE_Q5_K || t == FS_DTYPE_Q6_K;
}

/* The fields of t; f16 scales of a block: that of the codes, then that of the minima. */
const fs_codes_field *fs_codes_layout_of(fs_dtype t);

/* Panels of codes: fs_mat_pack for m->codes. */
void fs_codes_pack(const fs_mat *m, const fs_tensor *t, uint64_t row0, size_t panel_begin, size_t panel_end);
/* The blocks of sixteen rows as they stand in a panel: whole units from a panel's first or any other on. */
typedef void fs_codes_blocks_fn(fs_dtype t, const uint8_t *const rows[FS_PANEL], size_t n_blocks, uint8_t *dst);
fs_codes_blocks_fn fs_codes_blocks_avx512;
/* Block i of row r of panel p, as in the file. */
void fs_codes_unpack(const fs_mat *m, size_t p, size_t i, size_t r, uint8_t *ret_block);

/* The implementations, best last; available() on this machine. */
typedef struct fs_quants_isa {
    const char *name;
    unsigned isa; /* bits of fs_isa of which one asks for it; 0: the reference */
    bool (*available)(void); /* NULL: always */
    fs_quant_kernels kernels;
} fs_quants_isa;
extern const fs_quants_isa fs_quants_isas[];
extern const size_t fs_n_quants_isas;

typedef void fs_quantize_fn(const fs_quants *q, size_t row, size_t n_rows, size_t block_begin, size_t block_end, const float *x, size_t ldx);
typedef void fs_gemm_codes_fn(const fs_mat *w, size_t panel_begin, size_t panel_end, const fs_quants *x, size_t row, size_t m,
                              const float *bias, float *y, size_t ldy, void *scratch);
fs_quantize_fn fs_quantize_ref, fs_quantize_avx2, fs_quantize_vnni, fs_quantize_neon, fs_quantize_dotprod, fs_quantize_i8mm;
fs_gemm_codes_fn fs_gemm_codes_ref, fs_gemm_codes_avx2, fs_gemm_codes_vnni, fs_gemm_codes_neon, fs_gemm_codes_dotprod,
    fs_gemm_codes_i8mm;

#endif
