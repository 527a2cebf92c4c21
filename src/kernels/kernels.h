/* The operations of RN1, one implementation an ISA, all with the same bits.
 *
 * *_ref.c is the definition in plain C; *_avx2.c, *_avx512.c, *_neon.c equal it to the bit, and so do *_vnni.c, *_bf16.c
 * and *_dotprod.c, which are taken where an AVX-512 or NEON machine has those too. The build gives the files their flags
 * by suffix. fs_kernels_init chooses. Contracts of each operation are in the header of its family: rows.h (sums, norms,
 * elementwise), products.h (matrices), pair_products.h (the same in class RN1-bf16), quants.h (matrices of block types with quantised activations), attention.h, grad.h
 * (backward of these, and optimisers). No kernel allocates or fails. */
#ifndef FS_KERNELS_KERNELS_H
#define FS_KERNELS_KERNELS_H

#include "kernels/attention.h"
#include "kernels/grad.h"
#include "kernels/pair_products.h"
#include "kernels/products.h"
#include "kernels/quants.h"
#include "kernels/rows.h"

enum fs_isa {
    FS_ISA_AVX2 = 1,   /* with FMA and F16C */
    FS_ISA_AVX512 = 2, /* F, BW, DQ, VL */
    FS_ISA_NEON = 4,
    FS_ISA_END = 8
};

/* What this CPU has (and the operating system saves). */
unsigned fs_isa_detect(void);
/* Sums of four products of bytes beside it: VNNI where there is FS_ISA_AVX512, dotprod where there is FS_ISA_NEON. */
bool fs_isa_has_dot(void);
/* Beside both, products of two by eight and eight by two bytes: smmla. */
bool fs_isa_has_i8mm(void);
/* Sums of two products of bf16 beside FS_ISA_AVX512: its BF16 extension. */
bool fs_isa_has_bf16(void);
/* "scalar", "avx2", "avx512", "neon" of a single bit or 0. */
const char *fs_isa_name(unsigned isa);

typedef struct fs_kernels {
    unsigned isa;
    fs_rows_kernels rows;
    fs_product_kernels products;
    fs_pair_kernels pairs;
    fs_quant_kernels quants;
    fs_attention_kernels attention;
    fs_grad_kernels grad;
} fs_kernels;

/* Of NAME_ref, NAME_avx2, NAME_avx512 and NAME_neon, functions or tables of them, the best that isa has; for the families' own. */
#if defined(__x86_64__)
#define FS_BEST_OF(name, isa) ((isa) & FS_ISA_AVX512 ? name##_avx512 : (isa) & FS_ISA_AVX2 ? name##_avx2 : name##_ref)
#elif defined(__aarch64__)
#define FS_BEST_OF(name, isa) ((isa) & FS_ISA_NEON ? name##_neon : name##_ref)
#else
#define FS_BEST_OF(name, isa) ((void)(isa), name##_ref)
#endif

/* The product of w's class: w holds values or pairs, not codes. */
static inline void fs_mat_gemm(const fs_kernels *k, const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m,
                               const float *bias, float *y, size_t ldy, void *scratch)
{
    (w->pairs ? k->pairs.gemm : k->products.gemm)(w, panel_begin, panel_end, x, ldx, m, bias, y, ldy, scratch);
}

static inline void fs_mat_gemm_add(const fs_kernels *k, const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx, size_t m,
                                   float *y, size_t ldy, void *scratch)
{
    (w->pairs ? k->pairs.gemm_add : k->products.gemm_add)(w, panel_begin, panel_end, x, ldx, m, y, ldy, scratch);
}

static inline void fs_mat_gemm_turned(const fs_kernels *k, const fs_mat *w, size_t panel_begin, size_t panel_end, const float *x, size_t ldx,
                                      const uint32_t *index, size_t m, float *y, size_t ldy, void *scratch)
{
    (w->pairs ? k->pairs.gemm_turned : k->products.gemm_turned)(w, panel_begin, panel_end, x, ldx, index, m, y, ldy, scratch);
}

/* isa: bits of fs_isa_detect(), or fewer in tests; 0 gives the reference. */
void fs_kernels_init(fs_kernels *k, unsigned isa);
/* isa: "scalar", "avx2", "avx512" or "neon"; NULL: the best this CPU has. An unknown name, or one this CPU lacks, is a sentence. */
fs_status fs_kernels_init_named(fs_kernels *k, const char *isa, fs_error *err);
/* The class of a run's products: "f32" or NULL is RN1, "bf16" RN1-bf16. Another word is a sentence. */
fs_status fs_precision_of(const char *name, bool *ret_bf16, fs_error *err);
const char *fs_precision_name(bool bf16);

#endif
