/* Sizes that cannot wrap, aligned blocks, arenas, growing buffers, and borrowed byte spans. */
#ifndef FS_BASE_MEM_H
#define FS_BASE_MEM_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A borrowed span of bytes; it never owns. Text spans are UTF-8, counted, and may hold U+0000. */
typedef struct fs_bytes {
    const uint8_t *data;
    size_t n_bytes;
} fs_bytes;

#define FS_BYTES_LIT(s) ((fs_bytes){ (const uint8_t *)(s), sizeof(s) - 1 })
fs_bytes fs_bytes_str(const char *s);
bool fs_bytes_equal(fs_bytes a, fs_bytes b);
bool fs_ends_with(const char *s, const char *end);
/* s without the spaces at its ends. */
#define FS_SPACES " \t\n\v\f\r"
fs_bytes fs_bytes_trim(fs_bytes s, const char *spaces);

/* *ret = a * b (a + b); false, *ret untouched, when it does not fit. */
bool fs_mul_size(size_t a, size_t b, size_t *ret);
bool fs_add_size(size_t a, size_t b, size_t *ret);

/* Zeroed memory aligned to 64 bytes; NULL when there is none or n_bytes is 0. Free with fs_free_aligned.
 * Blocks of 2 MiB and more are aligned to 2 MiB and ask for huge pages. */
void *fs_alloc_aligned(size_t n_bytes);
void fs_free_aligned(void *p);

/* Zeroed, page-aligned memory that takes no RAM until it is touched; NULL when there is no address space. Asks
 * for huge pages. Free with the same size. For packed weights and KV caches. */
void *fs_alloc_lazy(size_t n_bytes);
void fs_free_lazy(void *p, size_t n_bytes);

/* An arena: one block, bump allocation, everything freed at once. Allocations are 64-byte aligned and not
 * zeroed. The size is planned at open; running past it is a bug in the plan (assert). */
typedef struct fs_arena {
    uint8_t *base;
    size_t size_bytes, used_bytes, peak_bytes;
    bool lazy;
} fs_arena;

fs_status fs_arena_init(fs_arena *a, size_t n_bytes, fs_error *err);
/* Of fs_alloc_lazy's memory: what is never used takes no RAM. */
fs_status fs_arena_init_lazy(fs_arena *a, size_t n_bytes, fs_error *err);
void fs_arena_done(fs_arena *a);
void *fs_arena_alloc(fs_arena *a, size_t n_bytes);
static inline void fs_arena_reset(fs_arena *a)
{
    a->used_bytes = 0;
}
#define fs_arena_array(a, type, ...) ((type *)fs_arena_alloc((a), fs_size_product(sizeof(type), __VA_ARGS__, (size_t)1, (size_t)1)))
/* Product of the sizes; asserts that it fits. The macro above pads with ones, so 1 to 3 sizes work. */
size_t fs_size_product_n(size_t elem, size_t a, size_t b, size_t c);
#define fs_size_product(elem, a, b, c, ...) fs_size_product_n((elem), (size_t)(a), (size_t)(b), (size_t)(c))

/* A growing byte buffer. Zeroed is empty and valid. data is NUL-terminated whenever it is not NULL (the NUL is
 * not counted). Appends return FS_ERR_MEMORY and leave the buffer as it was. */
typedef struct fs_buf {
    char *data;
    size_t n_bytes, capacity;
} fs_buf;

void fs_buf_done(fs_buf *b);
static inline void fs_buf_clear(fs_buf *b)
{
    b->n_bytes = 0;
    if (b->data)
        b->data[0] = 0;
}
fs_status fs_buf_reserve(fs_buf *b, size_t extra_bytes, fs_error *err);
fs_status fs_buf_append(fs_buf *b, const void *data, size_t n_bytes, fs_error *err);
fs_status fs_buf_append_str(fs_buf *b, const char *s, fs_error *err);
fs_status fs_buf_printf(fs_buf *b, fs_error *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
static inline fs_bytes fs_buf_bytes(const fs_buf *b)
{
    return (fs_bytes){ (const uint8_t *)b->data, b->n_bytes };
}

#endif
