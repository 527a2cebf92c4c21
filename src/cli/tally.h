/* What a model's tensors add up to, by part and by type, and what of it a token uses. */
#ifndef FS_CLI_TALLY_H
#define FS_CLI_TALLY_H

#include "formats/config.h"
#include "tensor/tensor.h"

typedef enum fs_part {
    FS_PART_EMBEDDING, FS_PART_ATTENTION, FS_PART_EXPERTS, FS_PART_SHARED, FS_PART_ROUTER, FS_PART_MLP, FS_PART_STREAMS, FS_PART_NORMS,
    FS_PART_HEAD, FS_PART_MTP, FS_PART_OTHER, FS_PART_END
} fs_part;

extern const char *const fs_part_names[FS_PART_END];

/* Scales of quantised weights and tables of ids are bytes but no parameters. */
typedef struct fs_tally {
    uint64_t n_tensors, n_params, n_bytes;
} fs_tally;

typedef struct fs_tallies {
    fs_tally parts[FS_PART_END], dtypes[FS_DTYPE_END], all;
} fs_tallies;

/* The part goes by the name, the Hub's or GGUF's; n_layers 0: a plain file, where no layer counts as MTP. */
void fs_tallies_add(fs_tallies *t, const fs_tensor *tensor, uint32_t n_layers);

/* Parameters a token is multiplied with: without the embedding table (unless the head is tied to it), without the experts
 * that are not chosen, without MTP. c NULL: of a plain file all but MTP. */
uint64_t fs_tallies_active(const fs_tallies *t, const fs_config *c);
/* Those of the layers alone: every token of a prompt meets them, the head only the last one. */
uint64_t fs_tallies_active_layers(const fs_tallies *t, const fs_config *c);
/* Stored bytes that a step over one token of each of n_sequences reads: each weight once, of E routed experts of which a
 * token chooses k the share 1 - (1 - k/E)^n that is expected when all are chosen alike. */
double fs_tallies_step_bytes(const fs_tallies *t, const fs_config *c, int n_sequences);

#endif
