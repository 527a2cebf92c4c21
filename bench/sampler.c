/* What a draw costs: microseconds of CPU time over a vocabulary of 102400 (V3-sized: 129280), the best of 20, as CSV.
 * peaked: logits as a language model has them, a few ids with most of the weight; flat: as random weights give. */
#include "measure.h"

#include "engine/sampler.h"

#include <string.h>

enum { V = 102400 };

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        fs_sampling o;
    } cases[] = {
        { "temperature", { .temperature = 0.8f, .top_p = 1, .repetition_penalty = 1 } },
        { "top-k 40", { .temperature = 0.8f, .top_p = 1, .top_k = 40, .repetition_penalty = 1 } },
        { "top-p 0.95", { .temperature = 0.8f, .top_p = 0.95f, .repetition_penalty = 1 } },
        { "top-k 40 top-p 0.95", { .temperature = 0.8f, .top_p = 0.95f, .top_k = 40, .repetition_penalty = 1 } },
        { "min-p 0.05", { .temperature = 0.8f, .top_p = 1, .min_p = 0.05f, .repetition_penalty = 1 } },
    };
    static float logits[V], copy[V];
    fs_kernels kernels;
    fs_sampler *s;

    fs_kernels_init(&kernels, fs_isa_detect());
    if (fs_sampler_new(&kernels, V, &s, NULL))
        return 1;
    printf("commit,logits,sampling,us\n");
    for (int flat = 0; flat < 2; flat++) {
        uint32_t seed = 1;
        for (int i = 0; i < V; i++) {
            float x;
            seed = seed * 1664525u + 1013904223u;
            x = (float)(int32_t)seed * 0x1p-31f;
            logits[i] = flat ? x : x * 6 + (seed % 997 == 0 ? 6 : 0);
        }
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            double best = 1e30;
            for (uint32_t run = 0; run < 20; run++) {
                double start, took;
                memcpy(copy, logits, sizeof copy);
                start = thread_us();
                fs_sampler_draw(s, &cases[c].o, 0, run, copy, NULL, 0, NULL);
                took = thread_us() - start;
                best = took < best ? took : best;
            }
            printf("%s,%s,%s,%.0f\n", argc > 1 ? argv[1] : "", flat ? "flat" : "peaked", cases[c].name, best);
        }
    }
    fs_sampler_free(s);
    return 0;
}
