/* Token shards: a folder of safetensors files and an index, which appears whole or not at all.
 *
 *   tokens-00001.safetensors   ends   I64 [documents]   where each document ends, counted in tokens from the file's start
 *                              tokens I32 [tokens]
 *                              learn  U8  [tokens]      1: the token is to be foretold
 *   index.json                 {"vocabulary": SHA-256, "vocab_size": n, "tokens": n, "learnt": n, "documents": n,
 *                               "shards": [{"file": "tokens-00001.safetensors", "tokens": n, "documents": n, "sha256": "..."}, ...]}
 *
 * The vocabulary's hash is that of u32 length (little-endian) and bytes of every id in turn. */
#ifndef FS_DATA_SHARDS_H
#define FS_DATA_SHARDS_H

#include "text/tokenizer.h"

fs_status fs_vocabulary_hash(const fs_tokenizer *t, char ret[65], fs_error *err);

typedef struct fs_shards_writer fs_shards_writer;

/* folder must not exist. A shard ends at the first document's end at or after shard_tokens. */
fs_status fs_shards_writer_new(const char *folder, const fs_tokenizer *t, size_t shard_tokens, fs_shards_writer **ret, fs_error *err);
fs_status fs_shards_writer_put(fs_shards_writer *w, const int32_t *ids, const uint8_t *learn, size_t n, fs_error *err);
/* Writes the index and gives the folder its name; the writer is still to be closed. */
fs_status fs_shards_writer_commit(fs_shards_writer *w, fs_error *err);
/* Removes what was not committed. NULL is fine. */
void fs_shards_writer_close(fs_shards_writer *w);
uint64_t fs_shards_writer_tokens(const fs_shards_writer *w, uint64_t *ret_learnt, uint64_t *ret_documents, uint64_t *ret_shards);

/* Mapped, checked: sizes, ends that rise, ids below vocab_size. Hashes of shards are not checked here. */
typedef struct fs_shards fs_shards;
fs_status fs_shards_open(const char *folder, fs_shards **ret, fs_error *err);
void fs_shards_close(fs_shards *s);
size_t fs_shards_n_documents(const fs_shards *s);
uint64_t fs_shards_n_tokens(const fs_shards *s);
size_t fs_shards_vocab_size(const fs_shards *s);
/* Document i, borrowed; *ret_learn may be NULL. */
size_t fs_shards_document(const fs_shards *s, size_t i, const int32_t **ret_ids, const uint8_t **ret_learn);
/* FS_ERR_FORMAT when the shards were made with another vocabulary. */
fs_status fs_shards_check_tokenizer(const fs_shards *s, const fs_tokenizer *t, fs_error *err);

#endif
