/* Choosing a token from logits by RN1 section 7: the choice depends on (seed, stream, step, logits, history) alone.
 *
 * Penalties change logits first (repetition: divide positive, multiply negative by it; presence and frequency:
 * subtract). z = fl(logit / T). log-prob = fl(fl(z - M) - log(L)) with M, L as in softmax, before truncation.
 * The kept set is a prefix of (probability descending, id ascending) under top-k, top-p, min-p; then inverse CDF over
 * the kept set in ascending id with a binary64 running sum. Temperature 0 is argmax, lowest id on ties. */
#ifndef FS_ENGINE_SAMPLER_H
#define FS_ENGINE_SAMPLER_H

#include "kernels/kernels.h"

typedef struct fs_sampler fs_sampler;

fs_status fs_sampler_new(const fs_kernels *k, int vocab_size, fs_sampler **ret, fs_error *err);
void fs_sampler_free(fs_sampler *s);
/* logits [vocab_size] are changed. history: the tokens penalties look at. ret_logprob may be NULL. No allocation. */
int32_t fs_sampler_draw(fs_sampler *s, const fs_sampling *o, uint32_t stream, uint32_t position, float *logits,
                        const int32_t *history, size_t n_history, float *ret_logprob);

#endif
