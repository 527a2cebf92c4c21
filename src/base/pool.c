/* The pool. A region is one word: its number, how many pieces it has and the next of them. Whoever adds one to it owns a
 * piece, or sees that none is left; so a thread joins late or never without being waited for, and the caller waits only
 * for pieces that somebody has taken.
 *
 * Between regions workers watch the word for some tens of microseconds, as the regions of a forward step follow one
 * another closely, then sleep. A worker whose core is taken away in the middle of a piece makes the caller wait for a
 * time slice of the kernel, which is a hundred regions; where that happens too often it rests (base/rest.h), so that a busy
 * machine is at worst as slow as one thread. Workers keep off the caller's CPU: where no CPU idles the kernel wakes them
 * there, and the two could only take turns. */
#include "base/pool.h"

#include "base/mem.h"
#include "base/rest.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define WATCH_US     60    /* a worker between regions, then it sleeps */
#define WAIT_US      150   /* the caller for a taken piece, then it sleeps */
#define STALL_US     200   /* a longer wait for a worker which was off its core for most of it is a stall */
#define LINE         64

/* The word: number of the region << 44 | pieces << 22 | next piece. Every thread adds at most one beyond the last. */
#define COUNT_BITS   22
#define COUNT_MASK   (((uint64_t)1 << COUNT_BITS) - 1)
#define PIECES_MAX   (COUNT_MASK - FS_POOL_THREADS_MAX)

struct worker {
    _Alignas(LINE) atomic_bool busy; /* has a piece */
    atomic_bool resting;
    fs_rest rest;    /* the caller's, like cpu_us: of CPU time when its wait began */
    uint64_t cpu_us;
    fs_pool *pool;
    int thread;
    pthread_t id;
    clockid_t cpu_clock;
};

struct fs_pool {
    int n_threads, n_started;
    struct worker *workers; /* n_threads - 1 */
    uint32_t spins_us;      /* turns of relax() in a microsecond, about */
    cpu_set_t cpus;
    bool pinned;
    int caller_cpu; /* workers may not run there; -1: they may run anywhere */

    _Alignas(LINE) atomic_uint_fast64_t word;
    fs_pool_fn *fn; /* of the region under way; stable for whoever owns a piece */
    void *ud;
    size_t n_items, grain;

    _Alignas(LINE) atomic_uint n_done; /* pieces; the caller may sleep on it */
    atomic_bool caller_sleeps;

    _Alignas(LINE) atomic_uint wake; /* workers sleep on it */
    atomic_int n_sleeping;
    int n_resting;
    bool no_rests;
    atomic_bool stop;
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

static uint64_t us_of(clockid_t clock)
{
    struct timespec t = { 0 };
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Sleeps while *word is value, at most a second. */
static void futex_wait(atomic_uint *word, unsigned value)
{
    const struct timespec second = { .tv_sec = 1 };
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &second, NULL, 0);
}

static void futex_wake(atomic_uint *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static bool has_work(uint64_t word)
{
    return (word & COUNT_MASK) < (word >> COUNT_BITS & COUNT_MASK);
}

/* Takes pieces until none is left; how many. busy may be NULL. */
static unsigned take_pieces(fs_pool *p, int thread, atomic_bool *busy)
{
    for (unsigned n = 0;; n++) {
        uint64_t word;
        size_t begin;
        if (busy)
            atomic_store(busy, true);
        word = atomic_fetch_add(&p->word, 1);
        if (!has_work(word)) {
            if (busy)
                atomic_store_explicit(busy, false, memory_order_relaxed);
            return n;
        }
        begin = (size_t)(word & COUNT_MASK) * p->grain;
        p->fn(p->ud, begin, p->n_items - begin < p->grain ? p->n_items : begin + p->grain, thread);
        if (busy) {
            atomic_store_explicit(busy, false, memory_order_relaxed);
            atomic_fetch_add(&p->n_done, 1);
            if (atomic_load(&p->caller_sleeps))
                futex_wake(&p->n_done);
        }
    }
}

/* Until there is work that w may take, or the end. */
static void watch_and_sleep(fs_pool *p, struct worker *w)
{
    for (uint32_t spins = 0, end = WATCH_US * p->spins_us; spins < end; spins++) {
        if (atomic_load_explicit(&w->resting, memory_order_relaxed))
            break;
        if (has_work(atomic_load_explicit(&p->word, memory_order_acquire)) || atomic_load_explicit(&p->stop, memory_order_relaxed))
            return;
        relax();
    }
    atomic_fetch_add(&p->n_sleeping, 1);
    for (;;) {
        unsigned wake = atomic_load(&p->wake);
        if (atomic_load(&p->stop) || (has_work(atomic_load(&p->word)) && !atomic_load(&w->resting)))
            break;
        futex_wait(&p->wake, wake);
    }
    atomic_fetch_sub(&p->n_sleeping, 1);
}

static void *worker_main(void *ud)
{
    struct worker *w = ud;
    fs_pool *p = w->pool;

    fs_fp_environment();
    for (;;) {
        watch_and_sleep(p, w);
        if (atomic_load(&p->stop))
            return NULL;
        take_pieces(p, w->thread, &w->busy);
    }
}

/* Where workers may run while the caller runs on cpu. */
static cpu_set_t others(const fs_pool *p, int cpu)
{
    cpu_set_t set = p->cpus;

    CPU_CLR((size_t)cpu, &set);
    return CPU_COUNT(&set) >= p->n_threads - 1 ? set : p->cpus;
}

/* Keeps the workers off the CPU the caller is on now. */
static void follow_caller(fs_pool *p)
{
    int cpu = sched_getcpu();
    cpu_set_t set;

    if (cpu == p->caller_cpu || p->caller_cpu < 0)
        return;
    p->caller_cpu = cpu;
    set = others(p, cpu);
    for (int i = 0; i < p->n_started; i++)
        pthread_setaffinity_np(p->workers[i].id, sizeof set, &set);
}

fs_status fs_pool_pin(fs_pool *p, fs_error *err)
{
    int thread = 0;

    if (CPU_COUNT(&p->cpus) < p->n_threads)
        return fs_fail(err, FS_ERR_ARGUMENT, "%d threads cannot be pinned to %d usable CPUs", p->n_threads, CPU_COUNT(&p->cpus));
    for (size_t cpu = 0; cpu < CPU_SETSIZE && thread <= p->n_started; cpu++) {
        cpu_set_t one;
        int rc;
        if (!CPU_ISSET(cpu, &p->cpus))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        rc = pthread_setaffinity_np(thread ? p->workers[thread - 1].id : pthread_self(), sizeof one, &one);
        if (rc)
            return fs_fail_errno(err, rc, "cannot pin thread %d to CPU %zu", thread, cpu);
        thread++;
    }
    p->pinned = true;
    p->caller_cpu = -1; /* nobody moves any more */
    return FS_OK;
}

void fs_pool_unpin(fs_pool *p)
{
    if (p->pinned)
        return;
    p->caller_cpu = -1;
    for (int i = 0; i < p->n_started; i++)
        pthread_setaffinity_np(p->workers[i].id, sizeof p->cpus, &p->cpus);
}

static void wake_workers(fs_pool *p)
{
    atomic_fetch_add(&p->wake, 1);
    futex_wake(&p->wake);
}

/* Turns of relax() a microsecond: the best of a few tries, so that a preempted one does not count. */
static uint32_t calibrate(void)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < 5; i++) {
        struct timespec a, b;
        uint64_t ns;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (int j = 0; j < 256; j++)
            relax();
        clock_gettime(CLOCK_MONOTONIC, &b);
        ns = (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000 + (uint64_t)(b.tv_nsec - a.tv_nsec);
        best = ns < best ? ns : best;
    }
    return (uint32_t)(256000 / (best + 1) + 1);
}

/* The kernel would start it on this CPU, behind the caller. */
static int start(fs_pool *p, struct worker *w)
{
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);

    if (rc)
        return rc;
    if (p->caller_cpu >= 0) {
        cpu_set_t set = others(p, p->caller_cpu);
        rc = pthread_attr_setaffinity_np(&attr, sizeof set, &set);
    }
    if (!rc)
        rc = pthread_create(&w->id, &attr, worker_main, w);
    pthread_attr_destroy(&attr);
    return rc;
}

fs_status fs_pool_new(int n_threads, fs_pool **ret, fs_error *err)
{
    fs_pool *p;

    if (n_threads <= 0)
        n_threads = fs_cpu_count();
    if (n_threads > FS_POOL_THREADS_MAX)
        n_threads = FS_POOL_THREADS_MAX;
    p = fs_alloc_aligned(sizeof *p);
    if (!p)
        return fs_fail_memory(err, sizeof *p);
    memset(p, 0, sizeof *p);
    p->n_threads = n_threads;
    p->spins_us = calibrate();
    p->caller_cpu = -1;
    if (sched_getaffinity(0, sizeof p->cpus, &p->cpus) == 0 && CPU_COUNT(&p->cpus) >= n_threads)
        p->caller_cpu = sched_getcpu();
    if (n_threads > 1) {
        size_t n_bytes = ((size_t)n_threads - 1) * sizeof *p->workers;
        p->workers = fs_alloc_aligned(n_bytes);
        if (!p->workers) {
            fs_pool_free(p);
            return fs_fail_memory(err, n_bytes);
        }
        memset(p->workers, 0, n_bytes);
    }
    for (int i = 0; i < n_threads - 1; i++) {
        struct worker *w = &p->workers[i];
        int rc;
        w->pool = p;
        w->thread = i + 1;
        rc = start(p, w);
        if (rc) {
            fs_pool_free(p);
            return fs_fail_errno(err, rc, "pool: cannot start thread %d of %d", i + 1, n_threads);
        }
        if (pthread_getcpuclockid(w->id, &w->cpu_clock))
            w->cpu_clock = CLOCK_MONOTONIC; /* never seems to have lost its core */
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
        wake_workers(p);
    for (int i = 0; i < p->n_started; i++)
        pthread_join(p->workers[i].id, NULL);
    fs_free_aligned(p->workers);
    fs_free_aligned(p);
}

int fs_pool_threads(const fs_pool *p)
{
    return p->n_threads;
}

void fs_pool_keep_all(fs_pool *p)
{
    p->no_rests = true;
}

static void end_rests(fs_pool *p)
{
    uint64_t now = us_of(CLOCK_MONOTONIC);

    for (int i = 0; i < p->n_started; i++) {
        struct worker *w = &p->workers[i];
        if (atomic_load_explicit(&w->resting, memory_order_relaxed) && now >= w->rest.until_us) {
            atomic_store(&w->resting, false);
            p->n_resting--;
        }
    }
}

/* Until n pieces of others are done. */
static void wait_for_others(fs_pool *p, unsigned n)
{
    bool busy[FS_POOL_THREADS_MAX];
    uint64_t start, now;
    unsigned done;

    for (uint32_t spins = 0, end = WAIT_US * p->spins_us; spins < end; spins++) {
        if (atomic_load_explicit(&p->n_done, memory_order_acquire) == n)
            return;
        relax();
    }
    start = us_of(CLOCK_MONOTONIC);
    for (int i = 0; i < p->n_started; i++) {
        busy[i] = atomic_load_explicit(&p->workers[i].busy, memory_order_relaxed);
        if (busy[i])
            p->workers[i].cpu_us = us_of(p->workers[i].cpu_clock);
    }
    atomic_store(&p->caller_sleeps, true);
    while ((done = atomic_load(&p->n_done)) != n)
        futex_wait(&p->n_done, done);
    atomic_store_explicit(&p->caller_sleeps, false, memory_order_relaxed);
    now = us_of(CLOCK_MONOTONIC);
    for (int i = 0; i < p->n_started && now - start > STALL_US && !p->no_rests; i++) {
        struct worker *w = &p->workers[i];
        uint64_t cpu_us;
        if (!busy[i] || atomic_load_explicit(&w->resting, memory_order_relaxed))
            continue;
        cpu_us = us_of(w->cpu_clock);
        if (cpu_us - w->cpu_us < (now - start) / 2 && fs_rest_begins(&w->rest, now - start, cpu_us, now)) {
            atomic_store(&w->resting, true);
            p->n_resting++;
        }
    }
}

static void run_alone(size_t n_items, size_t grain, fs_pool_fn *fn, void *ud)
{
    for (size_t i = 0; i < n_items; i += grain)
        fn(ud, i, n_items - i < grain ? n_items : i + grain, 0);
}

void fs_pool_for(fs_pool *p, size_t n_items, size_t grain, fs_pool_fn *fn, void *ud)
{
    uint64_t word;
    size_t n_pieces;
    unsigned mine;

    assert(grain > 0);
    if (n_items == 0)
        return;
    fs_fp_environment();
    n_pieces = (n_items - 1) / grain + 1;
    if (p->n_resting)
        end_rests(p);
    if (p->n_threads - p->n_resting == 1 || n_pieces == 1) {
        run_alone(n_items, grain, fn, ud);
        return;
    }
    for (; n_pieces > PIECES_MAX; n_pieces = (n_items - 1) / grain + 1)
        grain *= 2;
    p->fn = fn;
    p->ud = ud;
    p->n_items = n_items;
    p->grain = grain;
    atomic_store_explicit(&p->n_done, 0, memory_order_relaxed);
    follow_caller(p);
    word = atomic_load_explicit(&p->word, memory_order_relaxed);
    atomic_store(&p->word, ((word >> 2 * COUNT_BITS) + 1) << 2 * COUNT_BITS | (uint64_t)n_pieces << COUNT_BITS);
    if (atomic_load(&p->n_sleeping) > p->n_resting)
        wake_workers(p);
    mine = take_pieces(p, 0, NULL);
    if (mine < n_pieces)
        wait_for_others(p, (unsigned)n_pieces - mine);
}
