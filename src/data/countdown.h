/* Countdown: expressions over given numbers, their search and their exact value. */
#ifndef FS_DATA_COUNTDOWN_H
#define FS_DATA_COUNTDOWN_H

#include "base/mem.h"
#include "base/philox.h"

#define FS_COUNTDOWN_NUMBERS_MAX 6

typedef struct fs_countdown {
    int64_t numbers[FS_COUNTDOWN_NUMBERS_MAX];
    int n;
    int64_t target;
} fs_countdown;

/* Draws the numbers in [1, number_max] and a target in [1, target_max] that they make. */
void fs_countdown_draw(fs_random *r, int n, int number_max, int target_max, fs_countdown *ret);
/* Goes through all ways to join the numbers, depth first in an order drawn from r, at most `budget` to their end. Appends the
 * tries to *trace (or NULL) and the right one, or the nearest, to *answer. */
fs_status fs_countdown_search(const fs_countdown *c, fs_random *r, int budget, fs_buf *trace, fs_buf *answer, int *ret_n_tries, bool *ret_solved,
                              fs_error *err);
/* "3 7 12 25=104" */
bool fs_countdown_read(fs_bytes prompt, fs_countdown *ret);
/* The expression parses (*ret_is_expression), and uses each number once and has the target's value (the result). */
bool fs_countdown_check(const fs_countdown *c, fs_bytes expression, bool *ret_is_expression);

#endif
