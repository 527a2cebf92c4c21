#include "base/clock.h"

#include <errno.h>
#include <time.h>

double fs_seconds_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void fs_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

bool fs_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, double end)
{
    struct timespec until = { .tv_sec = (time_t)end };

    until.tv_nsec = (long)((end - (double)until.tv_sec) * 1e9);
    return pthread_cond_timedwait(c, lock, &until) != ETIMEDOUT;
}
