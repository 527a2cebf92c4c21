/* Linears that are still where the file has them, in the order of their rows.
 *
 * Routed experts of block types wait for their first use: a token meets few of them, so that the first token comes long
 * before all of them are packed. They get their places in the order of that use, so that no page is touched for
 * experts that nobody wants. With the option mapped no linear is packed for good: whoever wants some of its panels
 * packs them into a buffer that stays in the second cache and multiplies them there, by the kernels that read packed
 * panels, so that the bits are the same. */
#include "models/internal.h"

#include <assert.h>

void fs_stored_panels(const fs_network *net, const fs_workspace *ws, const fs_linear *l, size_t panel_begin, size_t panel_end,
                      const fs_input *in, size_t row, size_t m, float *y, size_t ldy, int thread)
{
    const fs_kernels *k = net->kernels;
    uint8_t *panels = ws->panels + (size_t)thread * ws->panels_bytes;
    void *scratch = fs_ws_scratch(ws, thread);
    size_t at_once = ws->panels_bytes / l->mat.panel_bytes;
    fs_mat mat = l->mat;

    assert(!mat.data && at_once);
    for (size_t p = panel_begin, end; p < panel_end; p = end) {
        end = panel_end - p < at_once ? panel_end : p + at_once;
        mat.data = (const uint8_t *)((uintptr_t)panels - p * mat.panel_bytes); /* panel p is the buffer's first */
        fs_mat_pack(&mat, l->stored, 0, p, end);
        if (mat.block)
            k->quants.gemm(&mat, p, end, &in->codes[mat.block == 256], row, m, l->bias, y, ldy, scratch);
        else
            k->products.gemm(&mat, p, end, in->x + row * in->ldx, in->ldx, m, l->bias, y, ldy, scratch);
    }
}

/* ---- experts before their first use ---- */
#define PIECES 4 /* of a matrix */

struct pack_job {
    const fs_moe *moe;
    const uint32_t *experts;
};

static fs_linear *linear_of(const struct pack_job *job, size_t i)
{
    fs_ffn *f = &job->moe->experts[job->experts[i / 3]];

    return i % 3 == 0 ? &f->gate : i % 3 == 1 ? &f->up : &f->down;
}

static void pack_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct pack_job *job = ud;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const fs_linear *l = linear_of(job, i / PIECES);
        size_t n = fs_mat_panels(&l->mat);
        if (l->stored)
            fs_mat_pack(&l->mat, l->stored, 0, n * (i % PIECES) / PIECES, n * (i % PIECES + 1) / PIECES);
    }
}

void fs_experts_pack(fs_network *net, const fs_moe *moe, const uint32_t *experts, uint32_t n)
{
    struct pack_job job = { moe, experts };
    bool any = false;

    for (size_t i = 0; i < (size_t)n * 3 && !net->options.mapped; i++) {
        fs_linear *l = linear_of(&job, i);
        size_t n_bytes = fs_mat_panels(&l->mat) * l->mat.panel_bytes;
        if (!l->stored)
            continue;
        any = true;
        l->mat.data = net->memory + (net->plan.weights_bytes - net->late_bytes) + net->late_used;
        net->late_used += (n_bytes + 63) & ~(size_t)63; /* as fs_mat_bytes has it */
        assert(net->late_used <= net->late_bytes);
    }
    if (!any)
        return;
    fs_pool_for(net->pool, (size_t)n * 3 * PIECES, 1, pack_piece, &job);
    for (size_t i = 0; i < (size_t)n * 3; i++) {
        fs_linear *l = linear_of(&job, i);
        if (!l->stored)
            continue;
        fs_weights_drop(net->weights, l->stored);
        l->stored = NULL;
    }
}
