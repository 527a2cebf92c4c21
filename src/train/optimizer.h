/* AdamW or Muon over a trainer's parameters, clipping, and learning-rate schedules. The operation order of an element is
 * fs_grad_kernels.adamw's (kernels/grad.h). beta^t is a running binary64 product, one multiplication a step, kept here and in
 * checkpoints; every constant of a step is made in binary64 and rounded once to f32. */
#ifndef FS_TRAIN_OPTIMIZER_H
#define FS_TRAIN_OPTIMIZER_H

#include "train/params.h"

typedef struct fs_optimizer {
    bool muon;                              /* of matrices Muon (muon.h), of the rest AdamW */
    double momentum;                        /* Muon's */
    double qk_clip;                         /* tau of the rule for attention's largest logits (muon.h); 0: none */
    double beta1, beta2, eps, weight_decay; /* decay of matrices, the embedding's included; norms and biases have none */
    double clip;                            /* of the gradient's norm; 0: none */
    double average;                         /* decay of the moving averages of the weights; 0: none are kept */
    uint64_t step;                          /* steps taken */
    double beta1_t, beta2_t;                /* beta^step; 1 before the first */
} fs_optimizer;

fs_optimizer fs_optimizer_default(void); /* AdamW: .9, .95, 1e-8, .1, clip 1; momentum .95 */
/* What the steps need: before moments are added. */
fs_status fs_optimizer_prepare(const fs_optimizer *o, fs_params *p, fs_pool *pool, fs_error *err);
/* One step of every parameter that has a gradient, by its group's rate and decay; grad_norm as fs_params_grad_norm gives it. Moments must
 * be there. Of a group lr is lr * lr_scale in binary64. Then of each average e = fl(e + fl(rest * fl(w - e))), rest = 1 - average. */
void fs_optimizer_step(fs_optimizer *o, fs_params *p, fs_pool *pool, const fs_kernels *k, float grad_norm, double lr);

typedef enum fs_schedule_kind { FS_SCHEDULE_CONSTANT, FS_SCHEDULE_LINEAR, FS_SCHEDULE_COSINE, FS_SCHEDULE_WSD } fs_schedule_kind;
typedef struct fs_schedule {
    fs_schedule_kind kind;
    double lr, min_lr;
    uint64_t warmup, decay, steps; /* decay: the last steps of WSD */
} fs_schedule;

/* "constant", "linear", "cosine", "wsd"; false: none of them. */
bool fs_schedule_kind_named(const char *name, fs_schedule_kind *ret);
/* Of step i from 0: up to warmup lr * (i + 1) / warmup; then with x the share of what is left, (i - warmup) / (steps - warmup):
 * linear lr + (min_lr - lr) x; cosine min_lr + (lr - min_lr) (1 + cos(pi x)) / 2; WSD lr until the last decay steps, then linear
 * over them. In binary64. */
double fs_schedule_at(const fs_schedule *s, uint64_t i);

#endif
