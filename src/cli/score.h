/* How well logits foretell a text, and how far they are from another model's: one row of logits at a time, and the
 * statistics over rows. Everything in binary64 by RN1's elementary functions and in a fixed order, so equal logits give
 * equal numbers on every machine. */
#ifndef FS_CLI_SCORE_H
#define FS_CLI_SCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fs_score {
    double nll;      /* -log p(next), natural */
    double base_nll; /* the same of the base; the rest too is 0 without one */
    double kl;       /* sum over the vocabulary of p_base (log p_base - log p) */
    double dp;       /* p(next) - p_base(next) */
    double same_top; /* 1 where both have the same likeliest token (lowest id on ties), else 0 */
} fs_score;

/* logits, base [v], base may be NULL; next in [0, v). False when a probability is not a number. */
bool fs_score_row(const float *logits, const float *base, size_t v, int32_t next, fs_score *ret);

typedef struct fs_mean {
    double mean;
    double error; /* standard error of the mean: sample deviation / sqrt(n); 0 for n < 2 */
} fs_mean;

/* Of x[0], x[stride], ...: n values. */
fs_mean fs_mean_of(const double *x, size_t n, size_t stride);
/* The value below which fraction of the n >= 1 sorted values lie, linear between neighbours: position fraction * (n - 1). */
double fs_percentile(const double *sorted, size_t n, double fraction);
/* Sorts rising. */
void fs_sort_f64(double *x, size_t n);

#endif
