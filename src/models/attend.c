/* The region of attention. A step with many tiles hands them out whole. One with few, as when a single sequence writes,
 * cuts each into its blocks of keys, so that every thread has work at any depth; then the blocks of a row are joined in
 * ascending order, as RN1 section 4 wants and as a whole tile does, so that the cut moves no bit. What waits to be
 * joined is bounded: when it is full, it is joined, and the next blocks begin. */
#include "models/internal.h"

#include <assert.h>
#include <string.h>

#define CUT_ROWS       1024  /* rows of block results that may wait to be joined, more where there are many threads */
#define JOIN_MIN_FLOATS 16384 /* less is not worth a second thread */

void fs_tiles_plan(fs_workspace *ws, uint32_t n_heads, uint32_t heads_per_tile)
{
    uint32_t token0 = 0, n_q;

    if (heads_per_tile > FS_ATTENTION_QUERIES_MAX)
        heads_per_tile = FS_ATTENTION_QUERIES_MAX;
    n_q = FS_ATTENTION_QUERIES_MAX / heads_per_tile;
    ws->n_tiles = 0;
    ws->n_units = 0;
    for (uint32_t r = 0; r < ws->n_rows; r++) {
        for (uint32_t t = 0; t < ws->rows[r].n; t += n_q) {
            for (uint32_t h = 0; h < n_heads; h += heads_per_tile) {
                assert(ws->n_tiles < ws->n_tiles_max);
                ws->tiles[ws->n_tiles++] = (fs_tile_ref){
                    .row = r,
                    .token0 = token0 + t,
                    .n_q = ws->rows[r].n - t < n_q ? ws->rows[r].n - t : n_q,
                    .head0 = h,
                    .n_heads = n_heads - h < heads_per_tile ? n_heads - h : heads_per_tile,
                    .unit0 = ws->n_units,
                };
                ws->n_units += (ws->positions[token0 + t] + ws->tiles[ws->n_tiles - 1].n_q - 1) / FS_KV_BLOCK + 1;
            }
        }
        token0 += ws->rows[r].n;
    }
}

size_t fs_cut_rows(int n_threads)
{
    size_t n = 2 * (size_t)n_threads * FS_ATTENTION_QUERIES_MAX;
    return n > CUT_ROWS ? n : CUT_ROWS;
}

size_t fs_cut_tiles_max(int n_threads)
{
    return n_threads > 1 ? 4 * (size_t)n_threads : 0;
}

struct cut_job {
    fs_network *net;
    fs_workspace *ws;
    fs_tile_fn *tile_of;
    void *ud;
    bool latent;
    size_t value_dim;
    uint32_t begin, end;              /* units under way */
    uint32_t rows_begin[FS_CUT_MAX];  /* of each tile under way: where its first unit's rows wait */
};

static uint32_t units_end(const fs_workspace *ws, size_t tile)
{
    return tile + 1 < ws->n_tiles ? ws->tiles[tile + 1].unit0 : ws->n_units;
}

static size_t rows_of(const fs_tile_ref *ref)
{
    return (size_t)ref->n_q * ref->n_heads;
}

/* One block of a tile; of an 8-bit cache the keys up to the last one that is seen become bf16 first. */
static void attend_block(const fs_network *net, const fs_workspace *ws, bool latent, const fs_attention_tile *tile, size_t block, float *m,
                         float *l, float *o, int thread)
{
    const fs_attention_kernels *k = &net->kernels->attention;
    size_t j0 = block * FS_KV_BLOCK, n_keys = tile->pos0 + tile->n_q - j0, n_pairs = fs_pairs(tile->key_dim);
    fs_attention_tile t = *tile;

    if (net->kv_q8) {
        const fs_kv8_kernels k8 = fs_kv8_kernels_of(net->kernels->isa);
        fs_pair *keys = (fs_pair *)(void *)(ws->kv_block + (size_t)thread * ws->kv_block_bytes), *values = keys + FS_KV_BLOCK * n_pairs;
        const uint8_t *cached = (const uint8_t *)tile->k16 + j0 * net->k_bytes;
        n_keys = n_keys < FS_KV_BLOCK ? n_keys : FS_KV_BLOCK;
        if (latent) {
            k8.rows(cached, n_keys, tile->key_dim, keys);
        } else {
            k8.panels(cached, (n_keys + FS_PANEL - 1) / FS_PANEL, tile->key_dim, keys);
            k8.values((const uint8_t *)tile->v16 + j0 * net->v_bytes, n_keys + n_keys % 2, tile->value_dim, values);
            t.v16 = (const fs_pair *)((uintptr_t)values - j0 / 2 * tile->v_stride * sizeof *values);
        }
        t.k16 = (const fs_pair *)((uintptr_t)keys - j0 * n_pairs * sizeof *keys); /* key j0 is the buffer's first */
    }
    if (net->kv_bf16)
        (latent ? k->bf16.mla_part : k->bf16.gqa_part)(&t, block, m, l, o, fs_ws_scratch(ws, thread));
    else
        (latent ? k->mla_part : k->gqa_part)(&t, block, m, l, o, fs_ws_scratch(ws, thread));
}

void fs_attention_q8(const fs_network *net, const fs_workspace *ws, bool latent, const fs_attention_tile *t, int thread)
{
    const fs_attention_kernels *k = &net->kernels->attention;
    float max[FS_ATTENTION_QUERIES_MAX], sum[FS_ATTENTION_QUERIES_MAX], m[FS_ATTENTION_QUERIES_MAX], l[FS_ATTENTION_QUERIES_MAX];
    size_t n_rows = t->n_q * t->n_heads, words = FS_KV_BLOCK * fs_pairs(net->k_dim) + FS_KV_BLOCK / 2 * net->v_dim;
    float *o = (float *)(void *)(ws->kv_block + (size_t)thread * ws->kv_block_bytes) + words;

    for (size_t block = 0; block * FS_KV_BLOCK < t->pos0 + t->n_q; block++) {
        attend_block(net, ws, latent, t, block, m, l, o, thread);
        for (size_t r = 0; r < n_rows; r++) {
            float *out = t->out + r / t->n_heads * t->out_token_stride + r % t->n_heads * t->out_head_stride;
            if (t->pos0 + r / t->n_heads + 1 <= block * FS_KV_BLOCK)
                continue;
            if (block == 0) {
                max[r] = m[r];
                sum[r] = l[r];
                memcpy(out, o + r * t->value_dim, t->value_dim * sizeof *out);
            } else {
                k->join(&max[r], &sum[r], out, m[r], l[r], o + r * t->value_dim, t->value_dim);
            }
        }
    }
    for (size_t r = 0; r < n_rows; r++)
        k->finish(t->out + r / t->n_heads * t->out_token_stride + r % t->n_heads * t->out_head_stride, sum[r], t->value_dim);
}

static void part_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct cut_job *job = ud;
    fs_workspace *ws = job->ws;

    for (size_t i = begin; i < end; i++) {
        uint32_t unit = job->begin + (uint32_t)i, first;
        size_t tile = 0, row;
        fs_attention_tile t;
        while (units_end(ws, tile) <= unit)
            tile++;
        first = ws->tiles[tile].unit0 > job->begin ? ws->tiles[tile].unit0 : job->begin;
        row = job->rows_begin[tile] + (unit - first) * rows_of(&ws->tiles[tile]);
        job->tile_of(job->ud, &ws->tiles[tile], &t);
        attend_block(job->net, ws, job->latent, &t, unit - ws->tiles[tile].unit0, ws->cut_m + row, ws->cut_l + row,
                     ws->cut_o + row * job->value_dim, thread);
    }
}

/* Row r of a tile: its blocks among the units under way. */
static void join_row(const struct cut_job *job, size_t tile, const fs_attention_tile *t, size_t r)
{
    fs_workspace *ws = job->ws;
    const fs_attention_kernels *k = &job->net->kernels->attention;
    const fs_tile_ref *ref = &ws->tiles[tile];
    size_t i = r / t->n_heads, n_rows = rows_of(ref), n_keys = t->pos0 + i + 1, state = tile * FS_ATTENTION_QUERIES_MAX + r;
    float *out = t->out + i * t->out_token_stride + r % t->n_heads * t->out_head_stride;
    uint32_t first = ref->unit0 > job->begin ? ref->unit0 : job->begin, end = units_end(ws, tile);
    size_t row = job->rows_begin[tile] + r;

    for (uint32_t unit = first; unit < end && unit < job->end; unit++, row += n_rows) {
        const float *o = ws->cut_o + row * job->value_dim;
        if (n_keys <= (size_t)(unit - ref->unit0) * FS_KV_BLOCK)
            break;
        if (unit == ref->unit0) {
            ws->cut_max[state] = ws->cut_m[row];
            ws->cut_sum[state] = ws->cut_l[row];
            memcpy(out, o, job->value_dim * sizeof *out);
        } else {
            k->join(&ws->cut_max[state], &ws->cut_sum[state], out, ws->cut_m[row], ws->cut_l[row], o, job->value_dim);
        }
    }
    if (end <= job->end)
        k->finish(out, ws->cut_sum[state], job->value_dim);
}

static void join_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct cut_job *job = ud;
    const fs_workspace *ws = job->ws;
    fs_attention_tile t;

    (void)thread;
    for (size_t i = begin, at = SIZE_MAX; i < end; i++) {
        size_t tile = i / FS_ATTENTION_QUERIES_MAX, r = i % FS_ATTENTION_QUERIES_MAX;
        const fs_tile_ref *ref = &ws->tiles[tile];
        if (r >= rows_of(ref) || units_end(ws, tile) <= job->begin || ref->unit0 >= job->end)
            continue;
        if (tile != at)
            job->tile_of(job->ud, ref, &t);
        at = tile;
        join_row(job, tile, &t, r);
    }
}

static void run_cut(struct cut_job *job)
{
    fs_workspace *ws = job->ws;
    size_t n_items = ws->n_tiles * FS_ATTENTION_QUERIES_MAX, tile = 0;

    assert(ws->n_tiles <= FS_CUT_MAX);
    for (job->begin = 0; job->begin < ws->n_units; job->begin = job->end) {
        size_t rows = 0, grain = n_items;
        for (job->end = job->begin; job->end < ws->n_units; job->end++) {
            while (units_end(ws, tile) <= job->end)
                tile++;
            if (rows + rows_of(&ws->tiles[tile]) > ws->cut_rows)
                break;
            if (job->end == job->begin || job->end == ws->tiles[tile].unit0)
                job->rows_begin[tile] = (uint32_t)rows;
            rows += rows_of(&ws->tiles[tile]);
        }
        fs_pool_for(job->net->pool, job->end - job->begin, 1, part_piece, job);
        if (rows * job->value_dim >= JOIN_MIN_FLOATS)
            grain = FS_ATTENTION_QUERIES_MAX / 16;
        fs_pool_for(job->net->pool, n_items, grain, join_piece, job);
    }
}

bool fs_attention_is_cut(const fs_network *net, const fs_workspace *ws)
{
    return ws->n_units > ws->n_tiles && ws->n_tiles < fs_cut_tiles_max(fs_pool_threads(net->pool));
}

void fs_attention_cut(fs_network *net, fs_workspace *ws, bool latent, size_t value_dim, fs_tile_fn *tile_of, void *ud)
{
    struct cut_job job = { .net = net, .ws = ws, .tile_of = tile_of, .ud = ud, .latent = latent, .value_dim = value_dim };

    run_cut(&job);
}
