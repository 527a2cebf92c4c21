/* The conformance hash of attention, and of the 8-bit cache. */
#include "kernels/conformance_run.h"
#include "kernels/kv8.h"

#include <assert.h>
#include <math.h>

/* ---- attention.h ---- */

#define KEYS_MAX 784

/* The slots behind the last visible key hold NaN: they must not be seen. */
static void feed_attention(run *r, bool latent, size_t n_q, size_t n_heads, size_t pos0, size_t key_dim, size_t value_dim)
{
    size_t n_keys = pos0 + n_q, n_slots = (n_keys + FS_KV_BLOCK) / FS_KV_BLOCK * FS_KV_BLOCK;
    fs_attention_tile t = { .n_q = n_q, .n_heads = n_heads, .pos0 = pos0, .key_dim = key_dim, .value_dim = value_dim };
    float *k, *v;
    void *scratch;

    begin(r);
    t.q = random_row(r, n_q * n_heads * key_dim, PLAIN);
    t.q_head_stride = key_dim;
    t.q_token_stride = n_heads * key_dim;
    t.scale = 0x1.6a09e6p-6f;
    k = random_row(r, n_slots * key_dim, PLAIN);
    v = random_row(r, n_slots * value_dim, PLAIN);
    for (size_t j = n_keys; j < n_slots; j++) {
        for (size_t d = 0; d < key_dim; d++)
            k[latent ? j * key_dim + d : (j / 16 * key_dim + d) * 16 + j % 16] = NAN;
        for (size_t d = 0; d < value_dim; d++)
            v[j * value_dim + d] = NAN;
    }
    t.k = k;
    t.v = latent ? NULL : v;
    t.v_stride = value_dim;
    t.out = fs_arena_array(&r->arena, float, n_q * n_heads * value_dim);
    t.out_head_stride = value_dim;
    t.out_token_stride = n_heads * value_dim;
    scratch = fs_arena_alloc(&r->arena, fs_attention_scratch_bytes(key_dim, value_dim));
    (latent ? r->k.attention.mla : r->k.attention.gqa)(&t, scratch);
    feed_row(r, t.out, n_q * n_heads * value_dim);
}

void fs_conformance_attentions(run *r)
{
    static const size_t positions[] = { 0, 1, 14, 15, 16, 254, 255, 256, 257, 511, 512, 700 };

    for (int latent = 0; latent < 2; latent++) {
        feed_name(r, latent ? "mla" : "gqa");
        for (size_t i = 0; i < sizeof positions / sizeof *positions; i++)
            for (size_t n_q = 1; n_q < 8; n_q += 3) {
                assert(positions[i] + n_q <= KEYS_MAX);
                feed_attention(r, latent, n_q, 1 + i % 5, positions[i], latent ? 80 : 64, 64);
                feed_attention(r, latent, n_q, 1 + i % 3, positions[i], latent ? 288 : 40, latent ? 257 : 24);
            }
    }
}

/* Class RN1-bf16. kind is that of the values, and of latent keys. */
static void feed_attention_bf16(run *r, bool latent, size_t n_q, size_t n_heads, size_t pos0, size_t key_dim, size_t value_dim, enum kind kind)
{
    size_t n_keys = pos0 + n_q, n_slots = (n_keys + FS_KV_BLOCK) / FS_KV_BLOCK * FS_KV_BLOCK, n_pairs = fs_pairs(key_dim);
    fs_attention_tile t = { .n_q = n_q, .n_heads = n_heads, .pos0 = pos0, .key_dim = key_dim, .value_dim = value_dim };
    float *k, *v;
    fs_pair *k16, *v16;

    begin(r);
    t.q = random_row(r, n_q * n_heads * key_dim, PLAIN);
    t.q_head_stride = key_dim;
    t.q_token_stride = n_heads * key_dim;
    t.scale = 0x1.6a09e6p-6f;
    k = random_row(r, n_slots * key_dim, latent ? kind : PLAIN);
    v = random_row(r, n_slots * value_dim, kind);
    for (size_t j = n_keys; j < n_slots; j++) {
        for (size_t d = 0; d < key_dim; d++)
            k[j * key_dim + d] = NAN;
        for (size_t d = 0; d < value_dim; d++)
            v[j * value_dim + d] = NAN;
    }
    k16 = fs_arena_array(&r->arena, fs_pair, n_slots * n_pairs);
    v16 = fs_arena_array(&r->arena, fs_pair, n_slots / 2 * value_dim);
    for (size_t j = 0; j < n_slots; j++)
        for (size_t i = 0; i < n_pairs; i++)
            k16[latent ? j * n_pairs + i : (j / 16 * n_pairs + i) * 16 + j % 16] =
                fs_pair_of(k[j * key_dim + 2 * i], 2 * i + 1 < key_dim ? k[j * key_dim + 2 * i + 1] : 0.0f);
    for (size_t j = 0; j < n_slots; j += 2)
        for (size_t d = 0; d < value_dim; d++)
            v16[j / 2 * value_dim + d] = fs_pair_of(v[j * value_dim + d], v[(j + 1) * value_dim + d]);
    t.k16 = k16;
    t.v16 = latent ? NULL : v16;
    t.v_stride = value_dim;
    t.out = fs_arena_array(&r->arena, float, n_q * n_heads * value_dim);
    t.out_head_stride = value_dim;
    t.out_token_stride = n_heads * value_dim;
    (latent ? r->k.attention.bf16.mla : r->k.attention.bf16.gqa)(&t, fs_arena_alloc(&r->arena, fs_attention_scratch_bytes(key_dim, value_dim)));
    feed_row(r, t.out, n_q * n_heads * value_dim);
}

void fs_conformance_attentions_bf16(run *r)
{
    static const size_t positions[] = { 0, 1, 14, 15, 16, 254, 255, 256, 257, 511, 512, 700 };

    for (int latent = 0; latent < 2; latent++) {
        feed_name(r, latent ? "mla bf16" : "gqa bf16");
        for (size_t i = 0; i < sizeof positions / sizeof *positions; i++)
            for (size_t n_q = 1; n_q < 8; n_q += 3)
                for (enum kind kind = PLAIN; kind <= DENORMAL; kind += DENORMAL) {
                    feed_attention_bf16(r, latent, n_q, 1 + i % 5, positions[i], latent ? 80 : 64, 64, kind);
                    feed_attention_bf16(r, latent, n_q, 1 + i % 3, positions[i], latent ? 289 : 40, latent ? 257 : 24, kind);
                }
    }
}

/* ---- kv8.h ---- */

static void feed_pairs(run *r, const fs_pair *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        feed_f32(r, fs_pair_first(p[i]));
        feed_f32(r, fs_pair_second(p[i]));
    }
}

/* 32 rows of n, as rows and, where n is even, as two panels: the stored scales and codes, then what is read of them. */
static void feed_kv8_rows(run *r, size_t n, enum kind kind)
{
    const fs_kv8_kernels k = fs_kv8_kernels_of(r->k.isa);
    size_t row_bytes = fs_kv8_row_bytes(n), n_panel = FS_KV8_PANEL * fs_kv8_key_bytes(n);
    uint8_t *rows, *panels;
    fs_pair *pairs;
    float *x;

    begin(r);
    x = random_row(r, 32 * n, kind);
    rows = fs_arena_alloc(&r->arena, 32 * row_bytes);
    panels = fs_arena_alloc(&r->arena, 2 * n_panel);
    pairs = fs_arena_array(&r->arena, fs_pair, 32 * fs_pairs(n));
    for (size_t i = 0; i < 32; i++) {
        uint8_t *row = rows + i * row_bytes;
        fs_kv8_put_row(row, x + i * n, n);
        feed_row(r, (const float *)(const void *)row, fs_kv8_blocks(n));
        fs_sha256_update(r->h, row + fs_kv8_blocks(n) * sizeof(float), n);
        if (n % 2 == 0)
            fs_kv8_put_key(panels + i / FS_KV8_PANEL * n_panel, i % FS_KV8_PANEL, x + i * n, n);
    }
    k.rows(rows, 32, n, pairs);
    feed_pairs(r, pairs, 32 * fs_pairs(n));
    k.values(rows, 32, n, pairs);
    feed_pairs(r, pairs, 16 * n);
    if (n % 2)
        return;
    k.panels(panels, 2, n, pairs);
    feed_pairs(r, pairs, 16 * n);
}

void fs_conformance_kv8(run *r)
{
    static const size_t sizes[] = { 1, 2, 15, 30, 32, 33, 34, 62, 64, 80, 100, 128, 257, 576 };

    feed_name(r, "8-bit cache");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = 0; kind < KIND_END; kind++)
            feed_kv8_rows(r, sizes[i], kind);
}
