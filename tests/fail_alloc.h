/* Makes the n-th allocation fail, for tests whose first lines hold the word WRAP_ALLOC (see the Makefile). Allocations
 * inside libraries (json-c, strdup) are not counted. */
#ifndef FS_TESTS_FAIL_ALLOC_H
#define FS_TESTS_FAIL_ALLOC_H

#include <stdlib.h>

static long fail_alloc_countdown; /* 0: none fails */

static int fail_alloc_now(void)
{
    return fail_alloc_countdown > 0 && --fail_alloc_countdown == 0;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);

void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
    return fail_alloc_now() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return fail_alloc_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n)
{
    return fail_alloc_now() ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fail_alloc_now() ? NULL : __real_aligned_alloc(align, n);
}

#endif
