/* Attention by RN1 section 4: keys grouped by absolute position into blocks of 256, block softmaxes joined in
 * ascending order. Both forms read f32 caches.
 *
 * For one query and head over the visible keys of a block (ascending j):
 *   s_j = fl(scale * A256(q, k_j));  m_b = max s_j;  p_j = exp(fl(s_j - m_b));  l_b = order B over the 256 slots,
 *   slot = position % 256, invisible = +0;  o_b = +0, then o_b = fma(p_j, v_j, o_b)
 * first block: M = m_b, L = l_b, O = o_b; then M' = max(M, m_b); a = exp(fl(M - M')); b = exp(fl(m_b - M'));
 *   L = fma(b, l_b, fl(a*L)); O = fma(b, o_b, fl(a*O)); M = M'.     out = fl(O / L). */
#ifndef FS_KERNELS_ATTENTION_H
#define FS_KERNELS_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

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
    float *out; /* value_dim floats a query and head */
    size_t out_token_stride, out_head_stride;
} fs_attention_tile;

typedef struct fs_attention_kernels {
    /* Grouped-query attention for the query heads of one kv head. Cache slots past a query's last visible key may
     * hold anything (they lie inside the allocated panels): they never change the result. */
    void (*gqa)(const fs_attention_tile *t, void *scratch);
    /* Latent attention: all heads share the rows. */
    void (*mla)(const fs_attention_tile *t, void *scratch);
} fs_attention_kernels;

/* Limits a tile obeys, so that scratch is bounded: n_q * n_heads <= FS_ATTENTION_QUERIES_MAX, key_dim and
 * value_dim <= FS_ATTENTION_DIM_MAX. */
#define FS_ATTENTION_QUERIES_MAX 64
#define FS_ATTENTION_DIM_MAX     4096
/* 64-byte aligned scratch a thread needs. */
size_t fs_attention_scratch_bytes(size_t key_dim, size_t value_dim);

void fs_attention_kernels_init(fs_attention_kernels *k, unsigned isa);

#endif
