/* Time that passes, not the date, which may be set meanwhile. */
#ifndef FS_BASE_CLOCK_H
#define FS_BASE_CLOCK_H

#include <pthread.h>
#include <stdbool.h>

/* Seconds of the monotonic clock. */
double fs_seconds_now(void);

/* A condition that is waited for by that clock. */
void fs_cond_init(pthread_cond_t *c);
/* Of a condition that fs_cond_init made: until it is signalled, perhaps without need, or fs_seconds_now() is end: then false. */
bool fs_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *lock, double end);

#endif
