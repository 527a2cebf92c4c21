/* See the header. */
#include "cli/work.h"

#include "base/clock.h"
#include "cli/interrupt.h"

#include <stdio.h>
#include <unistd.h>

static bool tell(void *ud, uint64_t done, uint64_t total)
{
    fs_work *w = ud;
    double t = fs_seconds_now(), rate;

    if (w->shown && t - w->last > 0.2 && done > 0 && total > 0) {
        w->last = t;
        rate = (double)done / (t - w->start);
        fprintf(stderr, "\r%s: %3.0f %%  %.0f of %.0f %s  %.*f %s/s  %.0f s left    ", w->what, 100 * (double)done / (double)total,
                (double)done / w->unit_size, (double)total / w->unit_size, w->unit, rate < 10 * w->unit_size, rate / w->unit_size, w->unit,
                (double)(total > done ? total - done : 0) / rate);
    }
    return !fs_interrupted();
}

void fs_work_start(fs_work *w, const char *what, const char *unit, double unit_size)
{
    *w = (fs_work){ .what = what, .unit = unit, .unit_size = unit_size, .shown = isatty(STDERR_FILENO), .start = fs_seconds_now() };
    w->progress = (fs_progress){ tell, w };
    fs_interrupt_catch();
}

void fs_work_end(const fs_work *w)
{
    if (w->shown)
        fprintf(stderr, "\r%*s\r", 78, "");
}
