/* Making the n-th allocation fail. A test file that includes this has WRAP_ALLOC in its first lines, so that the build
 * links it with -Wl,--wrap=malloc and friends.
 *
 *   for (long n = 1; alloc_fail_at(n), (rc = work()) != FS_OK; n++)
 *       assert_int_equal(rc, FS_ERR_MEMORY);
 *   alloc_fail_off(); */
#ifndef FS_TESTS_ALLOC_FAIL_H
#define FS_TESTS_ALLOC_FAIL_H

#include <stdatomic.h>
#include <stddef.h>

static atomic_long alloc_countdown; /* 0: off */
static atomic_long alloc_count;     /* since alloc_count_reset */

static inline void alloc_fail_at(long n)
{
    atomic_store(&alloc_countdown, n);
}

static inline void alloc_fail_off(void)
{
    atomic_store(&alloc_countdown, 0);
}

/* True once the failing allocation has been met. */
static inline int alloc_failed(void)
{
    return atomic_load(&alloc_countdown) == -1;
}

static inline int alloc_refuses(void)
{
    long n = atomic_load(&alloc_countdown);

    atomic_fetch_add(&alloc_count, 1);
    if (n > 0 && atomic_fetch_sub(&alloc_countdown, 1) == 1) {
        atomic_store(&alloc_countdown, -1);
        return 1;
    }
    return 0;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);

void *__wrap_malloc(size_t n)
{
    return alloc_refuses() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return alloc_refuses() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return alloc_refuses() ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return alloc_refuses() ? NULL : __real_aligned_alloc(align, n);
}

#endif
