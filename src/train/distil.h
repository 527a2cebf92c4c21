/* Distillation: what a token is to be foretold with is another model's whole distribution.
 *
 * With s and t the student's and the teacher's softmax of logits / temperature, of a token with a target the divergence D is (GKD, 2306.13649, eq. 1;
 * the generalized_jsd_loss of TRL)
 *
 *   beta 0        KL(t | s)           forward: distillation on logits
 *   beta 1        KL(s | t)           reverse: on what the student itself samples
 *   between       beta KL(t | m) + (1 - beta) KL(s | m),  m = beta t + (1 - beta) s
 *
 * and its loss weight * D + (1 - weight) * the cross entropy of the target at temperature 1.
 *
 * In f32, a row at a time: z' = fl(z * fl(1 / T)), u = fl(z' - max z'), e and L as in the cross entropy (loss.c), s_i = fl(e_i / L), a_i = fl(u_i - log L),
 * which is log s_i; the teacher's so too, b_i = log t_i. c is the token's coefficient, k = fl(fl(c * weight) / T).
 *
 *   beta 0        D = sum of t_i (b_i - a_i);     dz_i = fl(k * fl(s_i - t_i))
 *   beta 1        g_i = fl(a_i - b_i), D = sum of s_i g_i;     dz_i = fl(fl(k * s_i) * fl(g_i - D))
 *   between       m_i = fl(fl(beta * t_i) + fl((1 - beta) * s_i)), n_i = log m_i, g_i = fl(a_i - n_i), G = sum of s_i g_i,
 *                 D = beta * sum of t_i (b_i - n_i) + (1 - beta) * G;     dz_i = fl(fl(fl(k * fl(1 - beta)) * s_i) * fl(g_i - G))
 *
 * Sums are binary64 chains over rising i of binary64 terms, rounded once (G too); where s_i is 0 g_i is 0, where t_i is 0 its term is.
 * With a weight under 1 the gradient of the cross entropy with the coefficient fl(c * fl(1 - weight)) is added.
 *
 * On-policy, a share lambda of the steps learns from what the student samples, the others from data (GKD, algorithm 1): step i samples where
 * u(seed, i) < lambda, u uniform in [0, 1). */
#ifndef FS_TRAIN_DISTIL_H
#define FS_TRAIN_DISTIL_H

#include "kernels/kernels.h"

#include <stdbool.h>

typedef struct fs_distil_options {
    double beta, temperature, weight;
} fs_distil_options;

/* z [n]: the student's logits, which become the gradient by them. q [n]: the teacher's, which are lost. scratch: 3 n floats. Returns D; *ret_nll is the
 * cross entropy. */
float fs_distil_row(const fs_distil_options *o, const fs_kernels *k, float *z, float *q, size_t n, int32_t target, float c, float *scratch, float *ret_nll);
/* Whether step, from 0, samples: a function of these three alone. */
bool fs_distil_samples(double lambda, uint64_t seed, uint64_t step);

#endif
