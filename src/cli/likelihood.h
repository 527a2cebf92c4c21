/* Suites that are measured by what a model foretells, not by what it says: multiple choice by log-likelihood, and texts by their perplexity. */
#ifndef FS_CLI_LIKELIHOOD_H
#define FS_CLI_LIKELIHOOD_H

#include "farseek.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum fs_suite_kind { FS_SUITE_PROBLEMS, FS_SUITE_CHOICES, FS_SUITE_TEXTS } fs_suite_kind;

/* By the first record: with "choices"; with "text"; else problems. */
fs_status fs_suite_kind_of(const char *path, fs_suite_kind *ret, fs_error *err);

typedef struct fs_likelihood_options {
    fs_model_options model;
    size_t n_items;  /* the first of the suite; 0: all */
    const char *out; /* a line a record; NULL: none */
    bool json;
} fs_likelihood_options;

/* Measures and prints.
 *
 * Choices: records {"prompt": "..", "choices": ["..", ".."], "answer": 1}, the answer an index from 0 or one of the choices. A choice's log-likelihood is
 * that of its tokens behind the prompt's, both as one text without a chat format; spaces at the prompt's end count with the choice. Chosen is the
 * greatest, and the greatest a byte of the choice. (lm-evaluation-harness' acc and acc_norm.)
 * Texts: documents, each from what the tokenizer puts first; one that is longer than the model's context is cut into pieces of that length. */
fs_status fs_likelihood(const char *model, const char *suite, fs_suite_kind kind, const fs_likelihood_options *o, fs_error *err);

#endif
