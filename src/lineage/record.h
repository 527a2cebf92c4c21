/* The record of how a model was made: what it came from, the complete recipe, the engine's arithmetic, and what came out.
 * Whoever has the parents and this program makes the same again, and compares roots.
 *
 * One canonical text, UTF-8, a line "key value" each, keys in this order; its id is the SHA-256 of its bytes, its signature
 * stands in a file beside it (crypto/minisign.h):
 *
 *   record 1                          the version; first, once
 *   verb quantise                     once: convert, merge, quantise, or a stage of training: pretrain, sft, grpo, ...; of what is no
 *                                     model, but files: data, tokenise, eval
 *   parent ROOT [ID]                  of each model it was made from, and of that one's record; order counts
 *   init SEED rule                    of a model from nothing: how its first weights were drawn
 *   data HASH what                    of each other input, e.g. an importance matrix
 *   made HASH ID                      of data that has a record itself: the data's hash, the record's id
 *   recipe key value                  sorted by key, each key once: everything that decides the bits
 *   engine farseek 0.1.0 COMMIT       who made it: informative
 *   arithmetic RN1 HASH               rules, and the conformance hash of the kernels
 *   trace ROOT n_steps every          of a training's steps (trace.h); roots of weights and state are in it every so many
 *   result ROOT n_tensors n_bytes     once; of data the number of its files, each of which counts as a tensor U8 of its bytes
 *   state ROOT n_tensors n_bytes      of what a training's optimiser keeps
 *   file HASH name                    of each file beside the weights, sorted by name
 *   licence MIT                       of the result, as its author gives it
 *   signed-off-by Name <mail>         who vouches that the work may be given away (DCO)
 *   class A                           once: A can be re-made to the bit, B within a tolerance, C is only attested
 *
 * Values have no control characters and no blank at an end. What is not spelled so is refused, so that a text has one id.
 * Source: verifiable models, section 4, and RN1 section 9. */
#ifndef FS_LINEAGE_RECORD_H
#define FS_LINEAGE_RECORD_H

#include "lineage/root.h"

#define FS_RECORD_BYTES_MAX ((size_t)16 << 20)
#define FS_RECORD_LINES_MAX ((size_t)100000)

typedef enum fs_record_key {
    FS_RECORD_VERSION, FS_RECORD_VERB, FS_RECORD_PARENT, FS_RECORD_INIT, FS_RECORD_DATA, FS_RECORD_MADE, FS_RECORD_RECIPE,
    FS_RECORD_ENGINE, FS_RECORD_ARITHMETIC, FS_RECORD_TRACE, FS_RECORD_RESULT, FS_RECORD_STATE, FS_RECORD_FILE, FS_RECORD_LICENCE, FS_RECORD_SIGNED_OFF,
    FS_RECORD_CLASS, FS_RECORD_KEY_END
} fs_record_key;

typedef struct fs_record_line {
    fs_record_key key;
    char *value;
} fs_record_line;

/* Zeroed is empty and valid. */
typedef struct fs_record {
    fs_record_line *lines; /* in the order of the text */
    size_t n, capacity;
    size_t n_of[FS_RECORD_KEY_END];
} fs_record;

/* Puts a line where it belongs: behind those of its key, recipe and file lines sorted. A value that a line cannot have is
 * FS_ERR_ARGUMENT. */
fs_status fs_record_add(fs_record *r, fs_error *err, fs_record_key key, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Whether it is a record of data, whose result are files, not weights. */
bool fs_record_is_data(const fs_record *r);
/* The i-th value of key; NULL: there is none. */
const char *fs_record_get(const fs_record *r, fs_record_key key, size_t i);
/* What the recipe says of key; NULL: nothing. */
const char *fs_record_recipe(const fs_record *r, const char *key);
const char *fs_record_key_name(fs_record_key key);

/* Adds every line of from. */
fs_status fs_record_add_all(fs_record *r, const fs_record *from, fs_error *err);

/* FS_ERR_ARGUMENT where a line is missing that a record must have. */
fs_status fs_record_write(const fs_record *r, fs_buf *out, fs_error *err);
fs_status fs_record_read(fs_bytes text, const char *what, fs_record *ret, fs_error *err);
void fs_record_done(fs_record *r);
fs_status fs_record_id(fs_bytes text, fs_root *ret, fs_error *err);

/* The values' parts, checked by reading already. */
void fs_record_result(const fs_record *r, fs_root *ret_root);
void fs_record_parent(const char *value, fs_root *ret_root);
/* The id in "HASH ID" of a line made or parent; false: there is none. */
bool fs_record_id_of(const char *value, fs_root *ret_id);
/* "ROOT number number" */
void fs_record_root_and_numbers(const char *value, fs_root *ret_root, uint64_t ret[2]);
/* "HASH rest": the rest, and the hash. Of data and file lines. */
const char *fs_record_hashed(const char *value, fs_root *ret_hash);

#endif
