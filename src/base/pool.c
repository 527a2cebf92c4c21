/* The pool: workers sleep on a condition variable between runs, after a short spin so that the back-to-back
 * regions of a forward step do not pay a wake-up each. The caller works too; it never waits for a worker that
 * has not started, only for pieces that somebody has taken. */
#include "base/pool.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SPINS_MAX 2000

struct fs_pool {
    int n_threads;
    pthread_t *threads; /* n_threads - 1 */
    int n_started;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool have_sync;

    /* The current run. A worker joins by copying the run under `epoch`, takes pieces by `next`, and leaves by
     * lowering `n_inside`. */
    atomic_uint epoch;
    atomic_bool stop;
    atomic_int n_sleeping;
    fs_pool_fn *fn;
    void *ud;
    size_t n_items, grain;
    atomic_size_t next;
    atomic_int n_inside;
    atomic_bool open; /* a worker may still join this run */
};

struct worker_arg {
    fs_pool *pool;
    int thread;
};

static inline void relax(void)
{
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void fs_fp_environment(void)
{
#if defined(__x86_64__)
    _mm_setcsr(0x1f80); /* all exceptions masked, nearest, DAZ and FTZ off */
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
#endif
}

int fs_cpu_count(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

static void take_pieces(fs_pool *p, fs_pool_fn *fn, void *ud, size_t n_items, size_t grain, int thread)
{
    for (;;) {
        size_t begin = atomic_fetch_add_explicit(&p->next, grain, memory_order_relaxed);
        if (begin >= n_items)
            return;
        fn(ud, begin, n_items - begin < grain ? n_items : begin + grain, thread);
    }
}

/* Joins the current run unless it has closed. The order matters: n_inside is raised before `open` is read, and
 * the caller closes before it waits for n_inside to fall, so a worker is either seen or stays out. */
static void work_once(fs_pool *p, int thread)
{
    atomic_fetch_add(&p->n_inside, 1);
    if (atomic_load(&p->open))
        take_pieces(p, p->fn, p->ud, p->n_items, p->grain, thread);
    atomic_fetch_sub(&p->n_inside, 1);
}

static void *worker_main(void *ud)
{
    struct worker_arg arg = *(struct worker_arg *)ud;
    fs_pool *p = arg.pool;
    unsigned seen = 0;

    free(ud);
    fs_fp_environment();
    for (;;) {
        int spins = 0;
        while (atomic_load_explicit(&p->epoch, memory_order_acquire) == seen && spins++ < SPINS_MAX)
            relax();
        if (atomic_load_explicit(&p->epoch, memory_order_acquire) == seen) {
            pthread_mutex_lock(&p->mutex);
            atomic_fetch_add(&p->n_sleeping, 1);
            while (atomic_load(&p->epoch) == seen)
                pthread_cond_wait(&p->wake, &p->mutex);
            atomic_fetch_sub(&p->n_sleeping, 1);
            pthread_mutex_unlock(&p->mutex);
        }
        seen = atomic_load(&p->epoch);
        if (atomic_load(&p->stop))
            return NULL;
        work_once(p, arg.thread);
    }
}

static void next_epoch(fs_pool *p)
{
    atomic_fetch_add(&p->epoch, 1);
    if (atomic_load(&p->n_sleeping) > 0) {
        pthread_mutex_lock(&p->mutex);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->mutex);
    }
}

fs_status fs_pool_new(int n_threads, fs_pool **ret, fs_error *err)
{
    fs_pool *p;

    if (n_threads <= 0)
        n_threads = fs_cpu_count();
    if (n_threads > FS_POOL_THREADS_MAX)
        n_threads = FS_POOL_THREADS_MAX;
    p = calloc(1, sizeof *p);
    if (!p)
        return fs_fail_memory(err, sizeof *p);
    p->n_threads = n_threads;
    if (pthread_mutex_init(&p->mutex, NULL) || pthread_cond_init(&p->wake, NULL)) {
        free(p);
        return fs_fail(err, FS_ERR_IO, "pool: cannot make a lock");
    }
    p->have_sync = true;
    if (n_threads > 1) {
        p->threads = calloc((size_t)n_threads - 1, sizeof *p->threads);
        if (!p->threads) {
            fs_pool_free(p);
            return fs_fail_memory(err, sizeof *p->threads * ((size_t)n_threads - 1));
        }
    }
    for (int i = 0; i < n_threads - 1; i++) {
        struct worker_arg *arg = malloc(sizeof *arg);
        if (!arg) {
            fs_pool_free(p);
            return fs_fail_memory(err, sizeof *arg);
        }
        *arg = (struct worker_arg){ p, i + 1 };
        int rc = pthread_create(&p->threads[i], NULL, worker_main, arg);
        if (rc) {
            free(arg);
            fs_pool_free(p);
            return fs_fail_errno(err, rc, "pool: cannot start thread %d of %d", i + 1, n_threads);
        }
        p->n_started++;
    }
    *ret = p;
    return FS_OK;
}

void fs_pool_free(fs_pool *p)
{
    if (!p)
        return;
    atomic_store(&p->stop, true);
    if (p->n_started)
        next_epoch(p);
    for (int i = 0; i < p->n_started; i++)
        pthread_join(p->threads[i], NULL);
    free(p->threads);
    if (p->have_sync) {
        pthread_mutex_destroy(&p->mutex);
        pthread_cond_destroy(&p->wake);
    }
    free(p);
}

int fs_pool_threads(const fs_pool *p)
{
    return p->n_threads;
}

void fs_pool_for(fs_pool *p, size_t n_items, size_t grain, fs_pool_fn *fn, void *ud)
{
    assert(grain > 0);
    if (n_items == 0)
        return;
    fs_fp_environment();
    if (p->n_threads == 1 || n_items <= grain) {
        for (size_t i = 0; i < n_items; i += grain)
            fn(ud, i, n_items - i < grain ? n_items : i + grain, 0);
        return;
    }
    p->fn = fn;
    p->ud = ud;
    p->n_items = n_items;
    p->grain = grain;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store(&p->open, true);
    next_epoch(p);
    take_pieces(p, fn, ud, n_items, grain, 0);
    atomic_store(&p->open, false);
    for (int spins = 0; atomic_load(&p->n_inside) > 0; spins++) {
        if (spins < SPINS_MAX)
            relax();
        else
            sched_yield();
    }
}
