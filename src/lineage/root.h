/* The root of a model: one hash of what its tensors are, whatever files hold them (RN1 section 9).
 *
 *   chunk   = H(00 | up to 1 MiB of the tensor's little-endian bytes)
 *   node    = H(01 | left | right), in the tree shape of RFC 6962; of no chunks H()
 *   tensor  = H(02 | u32 n, name | u32 n, dtype | u32 n_dims | u64 dims | chunk root)
 *   model   = the same tree, of nodes, over the tensors sorted by name bytes
 *
 *   stream  = that tree over a stream's chunks, e.g. the tokens that a training is given
 *
 * H is SHA-256; numbers are little-endian; names and dtypes are those of the files ("model.norm.weight" BF16,
 * "output_norm.weight" F32), dims row-major, of a GGUF too. Headers, metadata, order and padding are not in it. A tensor
 * whose values have a NaN has no root. */
#ifndef FS_LINEAGE_ROOT_H
#define FS_LINEAGE_ROOT_H

#include "base/pool.h"
#include "base/progress.h"
#include "crypto/sha256.h"
#include "formats/weights.h"

#define FS_ROOT_CHUNK_BYTES ((size_t)1 << 20)

typedef struct fs_root {
    uint8_t bytes[32];
} fs_root;

bool fs_root_equal(const fs_root *a, const fs_root *b);
void fs_root_hex(const fs_root *r, char ret[65]);
bool fs_root_read(fs_bytes text, fs_root *ret);

/* The tree over n leaves. Overwrites leaves. n 0: H(). */
fs_status fs_root_tree(fs_root *leaves, size_t n, fs_root *ret, fs_error *err);

/* The roots of a model's tensors, sorted by name, and the model's. */
typedef struct fs_roots {
    fs_root model;
    struct fs_tensor_root {
        char *name;
        fs_root root;
    } *items;
    size_t n;
    uint64_t n_bytes; /* of all tensors */
} fs_roots;

/* progress (may be NULL) is told bytes. */
fs_status fs_roots_of(const fs_weights *w, fs_pool *pool, const fs_progress *progress, fs_roots *ret, fs_error *err);
/* The same of n tensors in memory, sorted by name. */
fs_status fs_roots_of_tensors(const fs_tensor *const *tensors, size_t n, fs_pool *pool, const fs_progress *progress, fs_roots *ret,
                              fs_error *err);
void fs_roots_done(fs_roots *r);

/* The list as a text, a line "hex name" each, and back; reading computes the model's root from the lines and refuses what
 * is not sorted, or a name twice. n_bytes is 0 then. */
fs_status fs_roots_write(const fs_roots *r, fs_buf *out, fs_error *err);
fs_status fs_roots_read(fs_bytes text, const char *what, fs_roots *ret, fs_error *err);

/* The root of a stream that comes in pieces. Zeroed is one to which nothing was put. */
typedef struct fs_root_stream {
    fs_sha256 chunk;
    size_t chunk_bytes; /* of the chunk under way; 0: none is */
    fs_root *chunks;
    size_t n, capacity;
} fs_root_stream;

fs_status fs_root_stream_put(fs_root_stream *s, const void *data, size_t n_bytes, fs_error *err);
/* The stream is as it was in the beginning. */
fs_status fs_root_stream_end(fs_root_stream *s, fs_root *ret, fs_error *err);
void fs_root_stream_done(fs_root_stream *s);

#endif
