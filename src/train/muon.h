/* Muon: a matrix moves along its momentum made orthogonal by Newton and Schulz's iteration (K. Jordan, "Muon", 2024), its size matched to
 * AdamW's (Moonlight, arXiv 2502.16982): embedding, head, norms and biases stay with AdamW.
 *
 * One step of W [n, k] with gradient G, by one thread; products are A256 (kernels/products.h):
 *   g = fl(clip * G);  M = fma(momentum, M, g);  U = fma(momentum, M, g)
 *   ss: of U by rows, order B per 256 elements, the partial sums in a binary64 chain;  X = fl(r * U), r = 1 / (sqrt(ss) + 1e-7) in
 *   binary64 rounded once; where n > k, X is the transposed from here on
 *   five times:  A = X X^T;  B = fma(-4.775, A, fl(2.0315 * (A A)));  X = fma(3.4445, X, B X)
 *   W = fma(-s, X, fl(keep * W)),  s = lr * 0.2 * sqrt(max(n, k)), keep = 1 - lr * weight_decay, each in binary64 rounded once
 * An expert is a matrix of its own.
 *
 * QK-clip (MuonClip, Kimi K2, arXiv 2507.20534): where the largest scaled logit m of a head over the step is above tau, with
 * c = fl(tau / m): of latent attention q's and k's parts without rope by fl(sqrt(c)), q's part with rope by c, the shared rope k stays. Of
 * heads that share keys, with d the least c of the group (1: none above): k by fl(sqrt(d)), q by fl(c / fl(sqrt(d))), which gives each
 * head's logits times c. */
#ifndef FS_TRAIN_MUON_H
#define FS_TRAIN_MUON_H

#include "train/params.h"

typedef struct fs_muon_step {
    float clip, momentum;
    double lr, weight_decay, average; /* average: as fs_optimizer's */
} fs_muon_step;

/* Marks the matrices that are Muon's and makes room for as many threads. Before moments are added. */
fs_status fs_muon_prepare(fs_params *p, int n_threads, fs_error *err);
/* One step of those, by their groups. */
void fs_muon_step_all(const fs_muon_step *s, fs_params *p, fs_pool *pool, const fs_kernels *k);

#endif
