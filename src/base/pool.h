/* A pool of threads that run one function at a time together.
 *
 * Which thread does which piece never changes a result (RN1), so pieces are taken from a shared counter: a
 * thread whose core is busy elsewhere takes fewer, or rests for up to half a second where it makes the caller wait for
 * its core for about as long as it works. Workers keep off the caller's CPU while there are CPUs enough for all threads. Every thread runs with round-to-nearest and denormals kept,
 * whatever a foreign library may have set. Calls come from one thread at a time. */
#ifndef FS_BASE_POOL_H
#define FS_BASE_POOL_H

#include "base/status.h"

#include <stddef.h>

#define FS_POOL_THREADS_MAX 256

typedef struct fs_pool fs_pool;

/* n_threads counts the caller; 0 means one a usable CPU (affinity and cgroup aware where Linux tells). */
fs_status fs_pool_new(int n_threads, fs_pool **ret, fs_error *err);
void fs_pool_free(fs_pool *p);
int fs_pool_threads(const fs_pool *p);
/* No thread rests from now on: for work whose regions take milliseconds, where a rest costs more than what it saves. */
void fs_pool_keep_all(fs_pool *p);
/* From now on each thread, the calling one too, runs on a usable CPU of its own, in the order of their numbers; fails where there are
 * fewer CPUs than threads. For machines that do nothing else: a thread whose CPU is taken cannot move. */
fs_status fs_pool_pin(fs_pool *p, fs_error *err);
/* From now on threads that are not pinned run where the kernel puts them, instead of off the caller's CPU: before a sandbox, which would
 * refuse to move them when the caller moves. */
void fs_pool_unpin(fs_pool *p);

/* Calls fn(ud, begin, end, thread) over pieces that together cover [0, n_items) once each, every piece at most
 * grain items, on all threads; returns when all are done. thread is in [0, fs_pool_threads), distinct for calls
 * running at the same time, so fn may index scratch by it. Allocates nothing. n_items 0 calls nothing. */
typedef void fs_pool_fn(void *ud, size_t begin, size_t end, int thread);
void fs_pool_for(fs_pool *p, size_t n_items, size_t grain, fs_pool_fn *fn, void *ud);

/* Sets round-to-nearest and keeps denormals (MXCSR, FPCR) on the calling thread: RN1 section 0. */
void fs_fp_environment(void);

int fs_cpu_count(void);

#endif
