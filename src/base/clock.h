/* Time that passes, not the date. */
#ifndef FS_BASE_CLOCK_H
#define FS_BASE_CLOCK_H

/* Seconds of the monotonic clock. */
double fs_seconds_now(void);

#endif
