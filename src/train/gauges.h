/* What a step used of the machine and of the model's experts: for looking at, no part of a result. */
#ifndef FS_TRAIN_GAUGES_H
#define FS_TRAIN_GAUGES_H

#include "train/metrics.h"
#include "train/trainer.h"

typedef struct fs_gauges {
    fs_pool *pool;
    unsigned isa;
    double peak, measured; /* f32 operations a second of the pool's threads, the best of what was measured (kernels/limits.h), and when; 0: not known */
    double flop_token, flop_position; /* of a token alone, and what each position of its sequence adds */
    fs_metric *loads;
    double *shares;
    char (*names)[24];
    size_t n_loads; /* metrics of a line */
    uint32_t n_experts;
} fs_gauges;

/* Measures the peak, for about a tenth of a second. */
fs_status fs_gauges_open(fs_gauges *g, fs_trainer *t, const fs_config *c, fs_pool *pool, unsigned isa, fs_error *err);
void fs_gauges_close(fs_gauges *g);
/* Takes the loads of the step just done: each layer's share of rows an expert, over the mean share, a list "load/LAYER" where all of them together are
 * at most 512; "load" is the greatest of them all. */
void fs_gauges_read(fs_gauges *g, const fs_trainer *t);

/* Forward and backward of a token among length, as a peer would count it: 4 operations an active weight and 2 more where it is trained; of attention, unabsorbed and
 * causal, 6 * layers * heads * (qk + v) * length / 2. */
double fs_flop_token(const fs_params *p, const fs_config *c, double length);
/* The share of the peak that tokens in sequences of length took, forward and backward; NAN: it is not known. In class RN1-bf16 it is a share of the f32 peak too. Each half minute the peak is measured again: what
 * else ran on the machine at first would make it too low for good. */
double fs_gauges_mfu(fs_gauges *g, double tokens, double length, double seconds);

#endif
