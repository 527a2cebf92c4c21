/* What the measuring programs share: times, medians, the machine's name, memory, inputs. Included by the one source of a program. */
#ifndef FS_BENCH_MEASURE_H
#define FS_BENCH_MEASURE_H

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* CPU time of the calling thread: what neighbours on the machine do costs it nothing. */
static inline double thread_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static inline double wall_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Sorts them. */
static inline double median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, by_value);
    return x[n / 2];
}

/* /proc/cpuinfo's "model name". */
static inline const char *cpu_name(void)
{
    static char name[128] = "";
    char line[256];
    FILE *f = *name ? NULL : fopen("/proc/cpuinfo", "r");

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %127[^\n]", name) == 1)
            break;
    if (f)
        fclose(f);
    return *name ? name : "unknown";
}

/* Or the program ends. */
static inline void *allocate(size_t n_bytes)
{
    void *p = fs_alloc_aligned(n_bytes);

    if (!p) {
        fprintf(stderr, "bench: no memory for %zu bytes\n", n_bytes);
        exit(1);
    }
    return p;
}

/* In [-1, 1), each a bf16 too. */
static inline float *random_floats(size_t n)
{
    float *x = allocate(n * sizeof *x);
    uint32_t s = 1;

    for (size_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (float)((int32_t)s >> 24) * 0x1p-7f;
    }
    return x;
}

#endif
