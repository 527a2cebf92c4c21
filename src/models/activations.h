/* Activations that a step keeps of its tokens, for a trainer that goes back through the same layers with the same weights: what the
 * engine has made while it sampled is, to the bit, what the trainer's forward pass would make.
 *
 * Kept is what costs most to make again: residual streams, the router's choice, gate and up of feed-forwards before SwiGLU, logits
 * where they are wanted. Attention is made again from its input. A token's activations are one row of floats, layers one behind the
 * other. Architectures whose step is the common one: not V4. */
#ifndef FS_MODELS_ACTIVATIONS_H
#define FS_MODELS_ACTIVATIONS_H

#include "formats/config.h"

/* Where a layer's parts begin in a row, in floats. */
typedef struct fs_layer_activations {
    size_t x, x_mid; /* [D] before attention, before the feed-forward */
    size_t gate, up; /* [I]; of experts: the shared one's */
    size_t width;    /* I; 0: there is no shared one */
    bool is_moe;
    size_t scores, top_weights, top_ids; /* [E], [k], [k] of int32 */
    size_t expert_gate, expert_up;       /* [k, moe_intermediate_size] as top_ids */
} fs_layer_activations;

typedef struct fs_activations {
    fs_layer_activations *layers; /* [n_layers] */
    uint32_t n_layers;            /* num_hidden_layers */
    size_t x;                     /* [D] behind the last layer */
    size_t logits;                /* [V] */
    bool has_logits;              /* else the row ends before them */
    size_t row;                   /* floats of a row */
} fs_activations;

/* Plans a row. FS_ERR_MEMORY. */
fs_status fs_activations_init(fs_activations *ret, const fs_config *c, bool logits, fs_error *err);
void fs_activations_done(fs_activations *a);

#endif
