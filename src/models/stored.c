/* Linears that are still where the file has them, in the order of their rows.
 *
 * Whoever wants some of their panels packs them into a buffer that stays in the second cache and multiplies them there, by
 * the kernels that read packed panels, so that the bits are the same. With the option mapped it stays like that. Else
 * linears of block types are packed for good by the steps behind the first: a sixteenth of them a token, experts where
 * they are met again. So the first token waits for no packing, and for no memory to be cleared, which takes longer; and
 * no page is touched for experts that nobody wants, since places are given in that order. */
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
        mat.finite = mat.dtype == FS_DTYPE_F8_E4M3 && fs_mat_is_finite(&mat, p, end);
        if (mat.codes)
            k->quants.gemm(&mat, p, end, &in->codes, row, m, l->bias, y, ldy, scratch);
        else
            k->products.gemm(&mat, p, end, in->x + row * in->ldx, in->ldx, m, l->bias, y, ldy, scratch);
    }
}

/* ---- linears that wait for their places ---- */
#define FEW_TOKENS 128 /* of a step: reading the file as it is costs less than to pack what may be used once */
#define STEPS      16  /* of one token, in which what is no expert is packed */
#define PIECES     4   /* of an expert's matrix */

static void place(fs_network *net, fs_linear *l)
{
    net->late_used += fs_mat_place(&l->mat, net->memory + (net->plan.weights_bytes - net->late_bytes) + net->late_used);
    assert(net->late_used <= net->late_bytes);
}

static void packed(fs_network *net, fs_linear *l)
{
    fs_weights_drop(net->weights, l->stored);
    l->stored = NULL;
}

static void pack_panels(void *ud, size_t begin, size_t end, int thread)
{
    const fs_linear *l = ud;

    (void)thread;
    fs_mat_pack(&l->mat, l->stored, 0, begin, end);
}

void fs_stored_begin(fs_network *net, size_t n_tokens)
{
    size_t n_bytes = n_tokens > FEW_TOKENS ? SIZE_MAX : net->stepped ? n_tokens * (net->late_list_bytes / STEPS + 1) : 0;

    net->stepped = true;
    while (n_bytes && net->n_late_packed < net->n_late) {
        fs_linear *l = net->late[net->n_late_packed++];
        size_t n_panels = fs_mat_panels(&l->mat), took = n_panels * l->mat.panel_bytes;
        place(net, l);
        fs_pool_for(net->pool, n_panels, 4, pack_panels, l);
        packed(net, l);
        n_bytes -= took < n_bytes ? took : n_bytes;
    }
}

struct experts_job {
    const fs_moe *moe;
    const uint32_t *experts;
    size_t n_pieces, n_threads;
};

static fs_linear *linear_of(const struct experts_job *job, size_t i)
{
    fs_ffn *f = &job->moe->experts[job->experts[i / 3]];

    return i % 3 == 0 ? &f->gate : i % 3 == 1 ? &f->up : &f->down;
}

static bool has_place(const fs_linear *l)
{
    return l->stored && l->mat.data;
}

static void pack_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct experts_job *job = ud;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        /* Pieces taken one after the other lie far apart: two threads in one new huge page wait while one of them clears it. */
        size_t far = (job->n_pieces + job->n_threads - 1) / job->n_threads, at = i % job->n_threads * far + i / job->n_threads;
        const fs_linear *l = at < job->n_pieces ? linear_of(job, at / PIECES) : NULL;
        size_t n = l ? fs_mat_panels(&l->mat) : 0;
        if (l && has_place(l))
            fs_mat_pack(&l->mat, l->stored, 0, n * (at % PIECES) / PIECES, n * (at % PIECES + 1) / PIECES);
    }
}

void fs_stored_experts(fs_network *net, const fs_moe *moe, const uint32_t *experts, uint32_t n, size_t n_tokens)
{
    struct experts_job job = { moe, experts, (size_t)n * 3 * PIECES, (size_t)fs_pool_threads(net->pool) };
    bool any = false;

    if (net->late_used == net->late_bytes)
        return;
    for (size_t i = 0; i < (size_t)n * 3; i++) {
        fs_linear *l = linear_of(&job, i);
        if (!l->stored || !(moe->experts[experts[i / 3]].met || n_tokens > FEW_TOKENS))
            continue;
        place(net, l);
        any = true;
    }
    for (uint32_t i = 0; i < n; i++)
        moe->experts[experts[i]].met = true;
    if (!any)
        return;
    fs_pool_for(net->pool, (job.n_pieces + job.n_threads - 1) / job.n_threads * job.n_threads, 1, pack_piece, &job);
    for (size_t i = 0; i < (size_t)n * 3; i++)
        if (has_place(linear_of(&job, i)))
            packed(net, linear_of(&job, i));
}
