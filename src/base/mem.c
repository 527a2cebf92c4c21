/* Memory: every growth and product is checked; see the header for who owns what. */
#include "base/mem.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES ((size_t)2 << 20)

fs_bytes fs_bytes_str(const char *s)
{
    return (fs_bytes){ (const uint8_t *)s, s ? strlen(s) : 0 };
}

bool fs_bytes_equal(fs_bytes a, fs_bytes b)
{
    return a.n_bytes == b.n_bytes && (a.n_bytes == 0 || memcmp(a.data, b.data, a.n_bytes) == 0);
}

bool fs_ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), n_end = strlen(end);

    return n >= n_end && memcmp(s + n - n_end, end, n_end) == 0;
}

fs_bytes fs_bytes_trim(fs_bytes s, const char *spaces)
{
    size_t n = strlen(spaces);

    while (s.n_bytes && memchr(spaces, s.data[0], n))
        s = (fs_bytes){ s.data + 1, s.n_bytes - 1 };
    while (s.n_bytes && memchr(spaces, s.data[s.n_bytes - 1], n))
        s.n_bytes--;
    return s;
}

bool fs_mul_size(size_t a, size_t b, size_t *ret)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *ret = r;
    return true;
}

bool fs_add_size(size_t a, size_t b, size_t *ret)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *ret = r;
    return true;
}

void *fs_alloc_aligned(size_t n_bytes)
{
    size_t align = n_bytes >= HUGE_BYTES ? HUGE_BYTES : 64, size;
    void *p;

    if (n_bytes == 0 || !fs_add_size(n_bytes, align - 1, &size))
        return NULL;
    size &= ~(align - 1);
    p = aligned_alloc(align, size);
    if (!p)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (align == HUGE_BYTES)
        madvise(p, size, MADV_HUGEPAGE); /* a wish: without it the memory only reads slower */
#endif
    memset(p, 0, size);
    return p;
}

void fs_free_aligned(void *p)
{
    free(p);
}

/* Whole pages of any size in use (64 KiB on some aarch64 kernels). */
static size_t lazy_bytes(size_t n_bytes)
{
    return (n_bytes + 0xffff) & ~(size_t)0xffff;
}

void *fs_alloc_lazy(size_t n_bytes)
{
    size_t size;
    uint8_t *p, *aligned;

    if (n_bytes == 0 || !fs_add_size(n_bytes, 2 * HUGE_BYTES, &size))
        return NULL;
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    /* Trim to a huge-page boundary so that the kernel can back the whole of it with huge pages. */
    aligned = p + (HUGE_BYTES - (uintptr_t)p % HUGE_BYTES) % HUGE_BYTES;
    if (aligned > p)
        munmap(p, (size_t)(aligned - p));
    n_bytes = lazy_bytes(n_bytes);
    if (p + size > aligned + n_bytes)
        munmap(aligned + n_bytes, (size_t)(p + size - (aligned + n_bytes)));
#ifdef MADV_HUGEPAGE
    if (n_bytes >= HUGE_BYTES)
        madvise(aligned, n_bytes, MADV_HUGEPAGE);
#endif
    return aligned;
}

void fs_free_lazy(void *p, size_t n_bytes)
{
    if (p)
        munmap(p, lazy_bytes(n_bytes));
}

static fs_status arena_init(fs_arena *a, size_t n_bytes, bool lazy, fs_error *err)
{
    *a = (fs_arena){ .lazy = lazy };
    if (n_bytes == 0)
        n_bytes = 64;
    a->base = lazy ? fs_alloc_lazy(n_bytes) : fs_alloc_aligned(n_bytes);
    if (!a->base)
        return fs_fail_memory(err, n_bytes);
    a->size_bytes = n_bytes;
    return FS_OK;
}

fs_status fs_arena_init(fs_arena *a, size_t n_bytes, fs_error *err)
{
    return arena_init(a, n_bytes, false, err);
}

fs_status fs_arena_init_lazy(fs_arena *a, size_t n_bytes, fs_error *err)
{
    return arena_init(a, n_bytes, true, err);
}

void fs_arena_done(fs_arena *a)
{
    if (!a)
        return;
    if (a->lazy)
        fs_free_lazy(a->base, a->size_bytes);
    else
        fs_free_aligned(a->base);
    *a = (fs_arena){ 0 };
}

void *fs_arena_alloc(fs_arena *a, size_t n_bytes)
{
    size_t at = (a->used_bytes + 63) & ~(size_t)63;

    assert(at <= a->size_bytes && n_bytes <= a->size_bytes - at && "arena: the plan was too small");
    a->used_bytes = at + n_bytes;
    if (a->used_bytes > a->peak_bytes)
        a->peak_bytes = a->used_bytes;
    return a->base + at;
}

size_t fs_size_product_n(size_t elem, size_t a, size_t b, size_t c)
{
    size_t r = elem;
    bool ok = fs_mul_size(r, a, &r) && fs_mul_size(r, b, &r) && fs_mul_size(r, c, &r);
    assert(ok && "size product overflows");
    return ok ? r : 0;
}

void fs_buf_done(fs_buf *b)
{
    if (!b)
        return;
    free(b->data);
    *b = (fs_buf){ 0 };
}

fs_status fs_buf_reserve(fs_buf *b, size_t extra_bytes, fs_error *err)
{
    size_t need, cap;
    char *p;

    if (!fs_add_size(b->n_bytes, extra_bytes, &need) || !fs_add_size(need, 1, &need))
        return fs_fail_memory(err, extra_bytes);
    if (need <= b->capacity)
        return FS_OK;
    cap = b->capacity + b->capacity / 2;
    if (cap < need)
        cap = need;
    if (cap < 64)
        cap = 64;
    p = realloc(b->data, cap);
    if (!p)
        return fs_fail_memory(err, cap);
    p[b->n_bytes] = 0;
    b->data = p;
    b->capacity = cap;
    return FS_OK;
}

fs_status fs_buf_append(fs_buf *b, const void *data, size_t n_bytes, fs_error *err)
{
    fs_status rc = fs_buf_reserve(b, n_bytes, err);

    if (rc)
        return rc;
    if (n_bytes)
        memcpy(b->data + b->n_bytes, data, n_bytes);
    b->n_bytes += n_bytes;
    b->data[b->n_bytes] = 0;
    return FS_OK;
}

fs_status fs_buf_append_str(fs_buf *b, const char *s, fs_error *err)
{
    return fs_buf_append(b, s, strlen(s), err);
}

fs_status fs_buf_printf(fs_buf *b, fs_error *err, const char *format, ...)
{
    va_list ap;
    fs_status rc;
    int n;

    va_start(ap, format);
    n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    assert(n >= 0);
    rc = fs_buf_reserve(b, (size_t)n, err);
    if (rc)
        return rc;
    va_start(ap, format);
    vsnprintf(b->data + b->n_bytes, (size_t)n + 1, format, ap);
    va_end(ap);
    b->n_bytes += (size_t)n;
    return FS_OK;
}
