/* Attention kernels on one core: GFLOP/s of the shapes that a step has, the best of several runs in CPU time, as CSV.
 *
 *   mla: V3's latent, 512 + 64, 16 heads; gqa: SmolLM2's 3 query heads a kv head of 64, and 8 of 128; each in class RN1, with f32
 *   keys and values, and in class RN1-bf16.
 * flops: 2 * (key_dim + value_dim) for every query, head and visible key. */
#include "measure.h"

#include "base/pool.h"
#include "kernels/kernels.h"

#define RUNS 15

static void measure_class(const char *commit, unsigned isa, bool bf16, bool latent, size_t n_q, size_t n_heads, size_t key_dim, size_t value_dim, size_t pos0)
{
    size_t n_ctx = (pos0 + n_q + 255) / 256 * 256;
    float *q = random_floats(n_q * n_heads * key_dim), *k = random_floats(n_ctx * key_dim), *v = random_floats(n_ctx * value_dim);
    fs_pair *k16 = allocate(n_ctx * fs_pairs(key_dim) * sizeof *k16), *v16 = allocate(fs_pairs(n_ctx) * value_dim * sizeof *v16);
    float *out = random_floats(n_q * n_heads * value_dim);
    void *scratch = fs_alloc_aligned(fs_attention_scratch_bytes(key_dim, value_dim));
    fs_attention_tile t = { .n_q = n_q, .n_heads = n_heads, .pos0 = pos0, .q = q, .q_token_stride = n_heads * key_dim,
                            .q_head_stride = key_dim, .key_dim = key_dim, .value_dim = value_dim, .scale = 0.1f, .k = k, .v = v, .k16 = k16, .v16 = v16,
                            .v_stride = value_dim, .out = out, .out_token_stride = n_heads * value_dim, .out_head_stride = value_dim };
    fs_attention_kernels kernels;
    double best = 1e30, flops = 0;

    for (size_t i = 0; i < n_q; i++)
        flops += 2.0 * (double)(key_dim + value_dim) * (double)n_heads * (double)(pos0 + i + 1);
    fs_attention_kernels_init(&kernels, isa);
    kernels.bf16.round(k, n_ctx * key_dim, k16);
    kernels.bf16.round(v, n_ctx * value_dim, v16);
    for (int run = 0; run < RUNS && scratch; run++) {
        double start = 1e-6 * thread_us(), took;
        if (bf16)
            (latent ? kernels.bf16.mla : kernels.bf16.gqa)(&t, scratch);
        else
            (latent ? kernels.mla : kernels.gqa)(&t, scratch);
        took = 1e-6 * thread_us() - start;
        best = took < best ? took : best;
    }
    printf("%s,%s,%s,%s,%zu,%zu,%zu,%zu,%zu,%.6f,%.1f\n", commit, fs_isa_name(isa), bf16 ? "bf16" : "f32", latent ? "mla" : "gqa", n_q, n_heads, key_dim, value_dim,
           pos0 + 1, best, flops / best * 1e-9);
    fs_free_aligned(q);
    fs_free_aligned(k);
    fs_free_aligned(v);
    fs_free_aligned(out);
    fs_free_aligned(k16);
    fs_free_aligned(v16);
    fs_free_aligned(scratch);
}

static void measure(const char *commit, unsigned isa, bool latent, size_t n_q, size_t n_heads, size_t key_dim, size_t value_dim, size_t pos0)
{
    measure_class(commit, isa, false, latent, n_q, n_heads, key_dim, value_dim, pos0);
    measure_class(commit, isa, true, latent, n_q, n_heads, key_dim, value_dim, pos0);
}

int main(int argc, char **argv)
{
    const char *commit = argc > 1 ? argv[1] : "";

    fs_fp_environment();
    printf("commit,isa,class,kernel,queries,heads,key_dim,value_dim,depth,seconds,gflops\n");
    for (unsigned isa = 1; isa < FS_ISA_END; isa <<= 1) {
        if (!(fs_isa_detect() & isa))
            continue;
        measure(commit, isa, true, 1, 16, 576, 512, 511);
        measure(commit, isa, true, 1, 16, 576, 512, 4095);
        measure(commit, isa, true, 4, 16, 576, 512, 508);
        measure(commit, isa, true, 4, 16, 576, 512, 4092);
        measure(commit, isa, false, 1, 3, 64, 64, 4095);
        measure(commit, isa, false, 21, 3, 64, 64, 491);
        measure(commit, isa, false, 1, 8, 128, 128, 4095);
        measure(commit, isa, false, 8, 8, 128, 128, 4088);
    }
    return 0;
}
