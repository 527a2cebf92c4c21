/* WRAP_ALLOC */
#include "unit.h"

#include "alloc_fail.h"
#include "base/pool.h"

#include <fenv.h>
#include <float.h>
#include <sched.h>
#include <time.h>

#define ITEMS 10007

struct job {
    atomic_int hits[ITEMS];
    atomic_int busy[8];
    atomic_int wrong;
    int n_threads;
    size_t grain;
};

static void piece(void *ud, size_t begin, size_t end, int thread)
{
    struct job *job = ud;
    volatile float tiny = FLT_MIN;

    if (end - begin > job->grain || thread < 0 || thread >= job->n_threads || atomic_fetch_add(&job->busy[thread], 1) != 0)
        atomic_fetch_add(&job->wrong, 1);
    if (tiny / 2 == 0 || fegetround() != FE_TONEAREST)
        atomic_fetch_add(&job->wrong, 1);
    for (size_t i = begin; i < end; i++)
        atomic_fetch_add(&job->hits[i], 1);
    atomic_fetch_sub(&job->busy[thread], 1);
}

static void every_item_once_whatever_the_threads(void **state)
{
    static struct job job;
    fs_error err;

    (void)state;
    for (int threads = 1; threads <= 5; threads++) {
        fs_pool *p;
        assert_ok(fs_pool_new(threads, &p, &err), err);
        assert_int_equal(fs_pool_threads(p), threads);
        for (int run = 0; run < 50; run++) {
            memset(&job, 0, sizeof job);
            job.n_threads = threads;
            job.grain = (size_t)(run % 7) * 50 + 1;
            fs_pool_for(p, ITEMS - (size_t)run, job.grain, piece, &job);
            assert_int_equal(job.wrong, 0);
            for (int i = 0; i < ITEMS; i++)
                assert_int_equal(job.hits[i], i < ITEMS - run);
        }
        fs_pool_for(p, 0, 1, piece, NULL);
        fs_pool_free(p);
    }
}

static void count(void *ud, size_t begin, size_t end, int thread)
{
    (void)thread;
    atomic_fetch_add((atomic_long *)ud, (long)(end - begin));
}

static void short_runs_in_a_row_lose_nothing(void **state)
{
    atomic_long n = 0;
    fs_error err;
    fs_pool *p;

    (void)state;
    assert_ok(fs_pool_new(3, &p, &err), err);
    for (int i = 0; i < 20000; i++)
        fs_pool_for(p, 6, 1, count, &n);
    assert_int_equal(n, 6 * 20000);
    fs_pool_free(p);
}

struct stall {
    atomic_int of_thread[2];
    atomic_bool sleep;
};

static void sleepy(void *ud, size_t begin, size_t end, int thread)
{
    struct stall *s = ud;
    struct timespec ms40 = { .tv_nsec = 40000000 }, us50 = { .tv_nsec = 50000 };

    atomic_fetch_add(&s->of_thread[thread], (int)(end - begin));
    if (thread && atomic_exchange(&s->sleep, false))
        nanosleep(&ms40, NULL); /* off its core in the middle of a piece */
    else
        nanosleep(&us50, NULL);
}

/* A worker that keeps the caller waiting off its core is not given pieces for a while, then is again. */
static void a_stalled_thread_rests_and_comes_back(void **state)
{
    struct stall s = { .sleep = true };
    struct timespec ms2 = { .tv_nsec = 2000000 };
    fs_error err;
    fs_pool *p;
    int tries, rested = 0;

    (void)state;
    assert_ok(fs_pool_new(2, &p, &err), err);
    /* On a busy machine the caller may lose its core too and not have to wait: then once more. */
    for (int round = 0; round < 50 && !rested; round++) {
        s.sleep = true;
        for (tries = 0; tries < 2000 && s.sleep; tries++) {
            s.of_thread[0] = s.of_thread[1] = 0;
            fs_pool_for(p, 16, 1, sleepy, &s);
            assert_int_equal(s.of_thread[0] + s.of_thread[1], 16);
        }
        assert_false(s.sleep);
        s.of_thread[0] = s.of_thread[1] = 0;
        for (int i = 0; i < 3; i++)
            fs_pool_for(p, 8, 1, sleepy, &s);
        assert_int_equal(s.of_thread[0] + s.of_thread[1], 8 * 3);
        rested = s.of_thread[1] == 0;
    }
    assert_true(rested);
    for (tries = 0; tries < 2000 && s.of_thread[1] == 0; tries++) {
        nanosleep(&ms2, NULL);
        fs_pool_for(p, 16, 1, sleepy, &s);
    }
    assert_true(s.of_thread[1] > 0);
    fs_pool_free(p);
}

static void count_cpus(void *ud, size_t begin, size_t end, int thread)
{
    const struct timespec us200 = { .tv_nsec = 200 * 1000 };

    (void)end;
    ((int *)ud)[begin] = fs_cpu_count() * 2 + (thread > 0);
    nanosleep(&us200, NULL);
}

static void workers_keep_off_the_callers_cpu_until_they_need_not(void **state)
{
    int all = fs_cpu_count(), seen[64], by_workers[2] = { 0 };
    fs_error err;
    fs_pool *p;

    (void)state;
    if (all < 2)
        skip();
    assert_ok(fs_pool_new(2, &p, &err), err);
    for (int unpinned = 0; unpinned < 2; unpinned++) {
        for (int tries = 0; tries < 100 && !by_workers[unpinned]; tries++) {
            fs_pool_for(p, 64, 1, count_cpus, seen);
            for (int i = 0; i < 64; i++) {
                bool worker = seen[i] % 2;
                assert_int_equal(seen[i] / 2, worker && !unpinned ? all - 1 : all);
                by_workers[unpinned] += worker;
            }
        }
        assert_true(by_workers[unpinned] > 0);
        fs_pool_unpin(p);
    }
    fs_pool_free(p);
}

static void where(void *ud, size_t begin, size_t end, int thread)
{
    cpu_set_t set, *seen = ud;

    (void)begin;
    (void)end;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    assert_int_equal(CPU_COUNT(&set), 1);
    seen[thread] = set;
    nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
}

static void pinned_threads_have_a_cpu_each(void **state)
{
    cpu_set_t before, seen[2] = { 0 }, both;
    fs_error err;
    fs_pool *p;
    int n = fs_cpu_count();

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_ok(fs_pool_new(n + 1, &p, &err), err);
    assert_int_equal(fs_pool_pin(p, &err), FS_ERR_ARGUMENT);
    fs_pool_free(p);
    if (n < 2)
        skip();
    assert_ok(fs_pool_new(2, &p, &err), err);
    assert_ok(fs_pool_pin(p, &err), err);
    for (int tries = 0; tries < 1000 && !CPU_COUNT(&seen[1]); tries++)
        fs_pool_for(p, 64, 1, where, seen);
    CPU_AND(&both, &seen[0], &seen[1]);
    assert_int_equal(CPU_COUNT(&both), 0);
    assert_int_equal(CPU_COUNT(&seen[1]), 1);
    fs_pool_unpin(p); /* as before a sandbox: it stays pinned */
    fs_pool_for(p, 64, 1, where, seen);
    fs_pool_free(p);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void a_failing_allocation_is_a_sentence(void **state)
{
    fs_error err;
    fs_pool *p = NULL;
    long n = 1;

    (void)state;
    for (; alloc_fail_at(n), fs_pool_new(3, &p, &err) != FS_OK; n++)
        assert_null(p);
    alloc_fail_off();
    assert_int_equal(n, 3);
    fs_pool_free(p);
    fs_pool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_once_whatever_the_threads),
        cmocka_unit_test(short_runs_in_a_row_lose_nothing),
        cmocka_unit_test(a_stalled_thread_rests_and_comes_back),
        cmocka_unit_test(workers_keep_off_the_callers_cpu_until_they_need_not),
        cmocka_unit_test(pinned_threads_have_a_cpu_each),
        cmocka_unit_test(a_failing_allocation_is_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
