/* Rewards of a completion besides whether its answer is right, and the mapping of that onto a length. Sources: DeepSeek-R1
 * (2501.12948) and Open R1's rewards for the formats; Kimi k1.5 (2501.12599) and Demystifying Long CoT (2502.03373) for length
 * and repetition; DAPO (2503.14476) for overlong. Equal to TRL 1.16 where that has them (tests/vectors/rewards.json). */
#ifndef FS_TRAIN_REWARDS_H
#define FS_TRAIN_REWARDS_H

#include "base/mem.h"

/* 1: begins with <think>, which does not come again, and closes it; else 0. */
double fs_reward_think(fs_bytes completion);
/* 1: <think>...</think><answer>...</answer> and nothing else but white space, each mark once; else 0. */
double fs_reward_think_answer(fs_bytes completion);
/* A quarter for each of "<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>" that stands there exactly once. */
double fs_reward_tags(fs_bytes completion);

/* -1 beyond max_tokens, rising to 0 at max_tokens - cache_tokens. */
double fs_reward_overlong(size_t n_tokens, size_t max_tokens, size_t cache_tokens);

/* penalty (<= 0) times the share of n-grams of tokens that came before. FS_ERR_MEMORY. */
fs_status fs_reward_repetition(const int32_t *ids, size_t n_ids, size_t n, double penalty, double *ret, fs_error *err);

/* What a right and a wrong completion get at no length and at max_tokens, a half cosine between. */
typedef struct fs_cosine_reward {
    double right_short, right_long, wrong_short, wrong_long;
    size_t max_tokens;
} fs_cosine_reward;
double fs_reward_cosine(const fs_cosine_reward *c, size_t n_tokens, bool right);

/* Of a group: l = 1/2 - (length - shortest) / (longest - shortest); a right one gets l, a wrong one min(0, l); all 0 when the
 * lengths are equal. */
void fs_reward_lengths(const size_t *n_tokens, const bool *right, size_t n, double *ret);

#endif
