/* Attention by RN1 section 4: keys grouped by absolute position into blocks of 256, block softmaxes joined in
 * ascending order, in two classes: RN1 reads f32 caches, RN1-bf16 (the member bf16) caches of bf16 pairs.
 *
 * For one query and head over the visible keys of a block (ascending j):
 *   s_j = fl(scale * A256(q, k_j));  m_b = max s_j;  p_j = exp(fl(s_j - m_b));  l_b = order B over the 256 slots,
 *   slot = position % 256, invisible = +0;  o_b = +0, then o_b = fma(p_j, v_j, o_b)
 * first block: M = m_b, L = l_b, O = o_b; then M' = max(M, m_b); a = exp(fl(M - M')); b = exp(fl(m_b - M'));
 *   L = fma(b, l_b, fl(a*L)); O = fma(b, o_b, fl(a*O)); M = M'.     out = fl(O / L).
 * In class RN1-bf16 q, k, v and p are rounded to bf16, products are B256 (kernels/pairs.h), and l_b is of the rounded p:
 *   s_j = fl(scale * B256(q, k_j));  p_j = bf16(exp(fl(s_j - m_b)));  o_b = B256(p, v) over the block's visible keys. */
#ifndef FS_KERNELS_ATTENTION_H
#define FS_KERNELS_ATTENTION_H

#include "kernels/pairs.h"

#define FS_KV_BLOCK 256

/* A tile of queries of one sequence that share keys: n_q consecutive positions from pos0, n_heads heads each.
 * Query i sees keys 0 .. pos0 + i (causal). */
typedef struct fs_attention_tile {
    size_t n_q, n_heads, pos0;
    const float *q; /* query i, head h at q + i*q_token_stride + h*q_head_stride: key_dim floats, rope applied */
    size_t q_token_stride, q_head_stride;
    size_t key_dim, value_dim;
    float scale;
    const float *k; /* gqa: key panels of this kv head, [n_ctx/16][key_dim][16], so key j's element d is at
                       k[(j/16 * key_dim + d) * 16 + j%16]; mla: rows [n_ctx][key_dim] = latent | rope */
    const float *v; /* gqa: rows [n_ctx], stride v_stride; mla: ignored, the value is the first value_dim of a key row */
    size_t v_stride;
    /* What class RN1-bf16 reads instead, P = fs_pairs(key_dim). gqa: key panels [n_ctx/16][P][16], so the pair d/2 of key j is
     * at k16[(j/16 * P + d/2) * 16 + j%16], and pairs of values [n_ctx/2], stride v_stride, element d of values j and j + 1,
     * j even, at v16[j/2 * v_stride + d]; mla: rows [n_ctx][P]. */
    const fs_pair *k16, *v16;
    float *out; /* value_dim floats a query and head */
    size_t out_token_stride, out_head_stride;
} fs_attention_tile;

/* Latent attention in pieces, for keys that are not a tile's own. A group is up to FS_LATENT_ROWS rows (a query and a head)
 * side by side in lanes; a key is a row of key_dim whose first elements are its value. n_keys <= FS_KV_BLOCK, of one block. */
#define FS_LATENT_ROWS 16
typedef struct fs_latent_kernels {
    /* n rows of key_dim as a panel [key_dim][FS_LATENT_ROWS]; missing rows are zero. */
    void (*pack)(const float *const *rows, size_t n, size_t key_dim, float *ret_panel);
    /* s[j][lane] = fl(scale * A256(q, key j)) for n_groups groups: panels one behind the other, scores
     * [n_groups][FS_KV_BLOCK][FS_LATENT_ROWS]. */
    void (*scores)(const float *panels, size_t n_groups, const float *keys, size_t key_stride, size_t n_keys, size_t key_dim,
                   float scale, float *ret_s);
    /* One group's s becomes p, 0 where a lane sees no key: lane r sees the first visible[r] of them. slots: where key j
     * stands in its block; NULL: at j. ret_m, ret_l [FS_LATENT_ROWS]; unspecified for lanes that see nothing. */
    void (*softmax)(float *s, const size_t *visible, const uint32_t *slots, float *ret_m, float *ret_l);
    /* o[r] = the sum over its visible keys of p * value, for n_rows rows of one group whose visible rise and are not 0;
     * p[j * FS_LATENT_ROWS + r] is row r's. */
    void (*values)(const float *p, const size_t *visible, size_t n_rows, const float *keys, size_t key_stride, size_t value_dim,
                   float *const *ret_o);
} fs_latent_kernels;

/* A function that attends a tile over one block only: m_b, l_b [rows], o_b [rows, value_dim]; rows are queries, heads
 * within. Rows that see none of the block's keys are left as they are. */
typedef void fs_attention_part_fn(const fs_attention_tile *t, size_t block, float *ret_m, float *ret_l, float *ret_o, void *scratch);

/* The same in class RN1-bf16. No bf16 in a cache is denormal. */
typedef struct fs_attention_bf16 {
    void (*gqa)(const fs_attention_tile *t, void *scratch);
    void (*mla)(const fs_attention_tile *t, void *scratch);
    fs_attention_part_fn *gqa_part, *mla_part;
    void (*round)(const float *x, size_t n, fs_pair *ret); /* n floats along the summed index as fs_pairs(n) pairs */
} fs_attention_bf16;

typedef struct fs_attention_kernels {
    /* Grouped-query attention for the query heads of one kv head. Cache slots past a query's last visible key may
     * hold anything (they lie inside the allocated panels): they never change the result. */
    void (*gqa)(const fs_attention_tile *t, void *scratch);
    /* Latent attention: all heads share the rows. */
    void (*mla)(const fs_attention_tile *t, void *scratch);
    fs_attention_part_fn *gqa_part, *mla_part;
    /* Joins a block's m, l, o [n] into M, L, O; and the end, O = fl(O / L). */
    void (*join)(float *max, float *sum, float *out, float m, float l, const float *o, size_t n);
    void (*finish)(float *out, float sum, size_t n);
    fs_latent_kernels latent;
    fs_attention_bf16 bf16;
} fs_attention_kernels;

/* Limits a tile obeys, so that scratch is bounded: n_q * n_heads <= FS_ATTENTION_QUERIES_MAX, key_dim and
 * value_dim <= FS_ATTENTION_DIM_MAX. */
#define FS_ATTENTION_QUERIES_MAX 64
#define FS_ATTENTION_DIM_MAX     4096
/* 64-byte aligned scratch a thread needs. */
size_t fs_attention_scratch_bytes(size_t key_dim, size_t value_dim);

void fs_attention_kernels_init(fs_attention_kernels *k, unsigned isa);

#endif
