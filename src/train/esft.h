/* Expert-specialised fine-tuning (ESFT, arXiv 2407.01906): of each layer only the routed experts that a sample of the data needs most are
 * trained, everything else stays as it is.
 *
 * The score of an expert is its share of the sample's choices (tokens that chose it / (tokens * experts a token)), or the mean over the
 * tokens of its gate, 0 where it was not chosen. A layer's experts in falling score, the lower number first among equals, are taken until
 * their scores add up to p.
 *
 * OUT/experts.json: {"score":"token","p":0.2,"tokens":4096,"layers":{"1":{"experts":[8,26],"scores":[0.01,..]},..}} */
#ifndef FS_TRAIN_ESFT_H
#define FS_TRAIN_ESFT_H

#include "train/trainer.h"

typedef struct fs_esft {
    double p; /* 0: no ESFT */
    bool gate; /* the score */
} fs_esft;

/* Marks the experts of a layer that are taken; returns how many. */
uint32_t fs_esft_choose(const double *scores, uint32_t n_experts, double p, bool *ret_taken);

/* Freezes everything but routed experts; a sentence where there are none. */
fs_status fs_esft_begin(fs_params *p, const fs_config *c, fs_error *err);
/* Scores by what t has seen since fs_trainer_begin, freezes the experts that are not taken, and writes experts.json into out. */
fs_status fs_esft_take(const fs_esft *o, fs_trainer *t, const fs_config *c, const char *out, fs_error *err);
/* Freezes the experts that experts.json in out does not name. */
fs_status fs_esft_resume(fs_params *p, const fs_config *c, const char *out, fs_error *err);

#endif
