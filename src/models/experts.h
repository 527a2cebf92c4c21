/* Routed experts that stay in the model's files: some are packed in memory at a time, in slots, the others are read when
 * a step needs them. Which are in memory changes no bit of a result.
 *
 *   file   gate, up, down as they are stored, three ranges of bytes (and those of their scales)
 *   slot   the panels of gate, of up, of down, with their scales, as the loader would pack them
 *
 * Readers, threads of its own, read a matrix in pieces past the page cache and pack each into its slot. A step that
 * wants an expert has the right of way over a guess for the next layer. The caller's functions come from one thread. */
#ifndef FS_MODELS_EXPERTS_H
#define FS_MODELS_EXPERTS_H

#include "models/internal.h"

#include "base/direct.h"

/* Memory that n_slots take, buffers of the readers included; SIZE_MAX when it fits in no address space. */
size_t fs_experts_bytes(const fs_network_plan *plan, uint32_t n_slots);

/* Opens the files of net->weights, takes the memory and starts the readers. */
fs_status fs_experts_new(const fs_network *net, uint32_t n_slots, fs_experts **ret, fs_error *err);
void fs_experts_free(fs_experts *x);

/* The next layer that has experts; its number. Then each of its experts, in order: ffn has its geometry and no place, and
 * stays where it is. */
uint32_t fs_experts_add_layer(fs_experts *x);
void fs_experts_add(fs_experts *x, fs_ffn *ffn, const fs_tensor *const tensors[3]);

/* Before the layers of a step: forgets what the last one wanted, and its failure. Behind them: fails where an expert could
 * not be read, from when on nothing more was; then nothing is being read when it returns. */
void fs_experts_begin(fs_experts *x);
fs_status fs_experts_end(fs_experts *x, fs_error *err);
/* A layer's experts that have tokens: n of them, begin[e + 1] - begin[e] of m tokens each. They are looked up and read. */
void fs_experts_want(fs_experts *x, uint32_t layer, const uint32_t *active, uint32_t n, const uint32_t *begin, size_t m);
/* Experts that the next layer may want, the likeliest first: read when nothing else is to be. Until it has said what it
 * wants they stay. */
void fs_experts_ahead(fs_experts *x, uint32_t layer, const uint32_t *guess, uint32_t n);
/* Those wanted experts that are in memory and were not given yet, at most n wanted ones; how many. They keep their place
 * until the next call. 0: all were given, or one cannot be read, or with wait false none is there yet. */
uint32_t fs_experts_take(fs_experts *x, bool wait, uint32_t *ret);

void fs_experts_stats(fs_experts *x, fs_stream_stats *ret);
/* The readers only read, about n_bytes, between steps: how many bytes they got, and in how many seconds. */
uint64_t fs_experts_probe(fs_experts *x, uint64_t n_bytes, double *ret_s);

/* ---- experts_read.c: one matrix in pieces of whole panels and whole rows of scales ---- */
uint32_t fs_piece_rows(const fs_tensor *t);
static inline uint32_t fs_pieces(const fs_tensor *t)
{
    return (uint32_t)((t->dims[0] + fs_piece_rows(t) - 1) / fs_piece_rows(t));
}
/* A reader's buffer for pieces of t. */
size_t fs_piece_room(const fs_tensor *t);
/* Bytes of t in its file, scales included. */
uint64_t fs_piece_file_bytes(const fs_tensor *t);
/* Reads piece i; files in the order of w. *ret is what is packed: rows of t, in buffer or, where t is in none of the files,
 * where t has them. */
fs_status fs_piece_read(const fs_weights *w, const fs_direct *files, const fs_tensor *t, uint32_t i, uint8_t *buffer, fs_tensor *ret,
                        fs_error *err);
/* Puts piece i as read into m's panels. A NaN is a sentence. */
fs_status fs_piece_pack(const fs_mat *m, uint32_t i, const fs_tensor *t, const fs_tensor *piece, fs_error *err);

#endif
