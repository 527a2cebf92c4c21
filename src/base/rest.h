/* Inside the pool: when a worker that makes the caller wait should rest, as a function of times alone.
 *
 * A stall is a wait of the caller for a piece of a worker that is off its core. Where a worker has worked for little longer than
 * its stalls took, it costs more than it gives: it rests for a multiple of the stall, longer each time that happens
 * again, and so on a core that another process wants too the pool is as fast as one thread. A stall now and then, as
 * on any machine, costs less than a rest. */
#ifndef FS_BASE_REST_H
#define FS_BASE_REST_H

#include <stdbool.h>
#include <stdint.h>

#define FS_REST_WORTH  3      /* who has worked for so many times its stalls does not rest: two threads are less than twice one */
#define FS_REST_FACTOR 16     /* a rest is so many times the stall */
#define FS_REST_US_MAX 500000

typedef struct fs_rest {
    uint64_t worked_us, stalled_us; /* up to the last stall, older ones for less */
    uint64_t worked_to;             /* the worker's CPU time then */
    uint64_t us, until_us;          /* the last rest */
} fs_rest;

/* A stall of stall_us has ended; cpu_us is the worker's CPU time. Whether it rests, until r->until_us. */
static inline bool fs_rest_begins(fs_rest *r, uint64_t stall_us, uint64_t cpu_us, uint64_t now_us)
{
    r->worked_us = r->worked_us / 2 + (cpu_us - r->worked_to);
    r->stalled_us = r->stalled_us / 2 + stall_us;
    r->worked_to = cpu_us;
    if (r->worked_us >= FS_REST_WORTH * r->stalled_us)
        return false;
    r->us = r->us && now_us - r->until_us < r->us ? 2 * r->us : FS_REST_FACTOR * stall_us;
    if (r->us > FS_REST_US_MAX)
        r->us = FS_REST_US_MAX;
    r->until_us = now_us + r->us;
    return true;
}

#endif
