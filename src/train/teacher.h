/* A teacher: another model's logits of the tokens that a trainer has under way, by the engine's step. Any architecture and storage that the engine
 * runs; its vocabulary is the student's. */
#ifndef FS_TRAIN_TEACHER_H
#define FS_TRAIN_TEACHER_H

#include "text/tokenizer.h"
#include "train/trainer.h"

typedef struct fs_teacher fs_teacher;

/* ctx_tokens: of the longest sequence. Checks the vocabulary against the student's: its size, and where both have a tokenizer what the tokens are
 * (tokenizer may be NULL). pool and kernels are borrowed. */
fs_status fs_teacher_open(const char *path, const fs_config *student, const fs_tokenizer *tokenizer, fs_pool *pool, const fs_kernels *kernels,
                          uint32_t ctx_tokens, fs_teacher **ret, fs_error *err);
void fs_teacher_close(fs_teacher *t);
size_t fs_teacher_bytes(const fs_teacher *t);

#endif
