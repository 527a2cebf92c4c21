/* What a region of the pool costs: nanoseconds a region whose pieces do nothing, and one that follows a pause of the
 * caller, for 1 .. usable CPUs threads; medians of many, as CSV. */
#include "measure.h"

#include "base/pool.h"

#define REGIONS 2001

static double ns_now(void)
{
    return 1e3 * wall_us();
}

static void work(double ns)
{
    double end = ns_now() + ns;
    while (ns_now() < end)
        ;
}

static void piece(void *ud, size_t begin, size_t end, int thread)
{
    (void)begin;
    (void)end;
    (void)thread;
    if (*(double *)ud > 0)
        work(*(double *)ud);
}

/* The median time of a region of two pieces a thread, each of piece_ns, after pause_ns of the caller alone. */
static double region_ns(fs_pool *p, double piece_ns, double pause_ns)
{
    static double times[REGIONS];
    size_t n = pause_ns > 1e6 ? 101 : REGIONS;

    for (size_t i = 0; i < n; i++) {
        double start;
        if (pause_ns > 0)
            work(pause_ns);
        start = ns_now();
        fs_pool_for(p, 2 * (size_t)fs_pool_threads(p), 1, piece, &piece_ns);
        times[i] = ns_now() - start;
    }
    return median(times, n);
}

int main(int argc, char **argv)
{
    const char *commit = argc > 1 ? argv[1] : "";

    printf("commit,threads,empty_ns,pieces_5us_ns,pieces_5us_after_20us_ns,pieces_5us_after_2ms_ns\n");
    for (int n = 1; n <= fs_cpu_count(); n++) {
        fs_pool *p;
        fs_error err;
        if (fs_pool_new(n, &p, &err)) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        printf("%s,%d,%.0f,%.0f,%.0f,%.0f\n", commit, n, region_ns(p, 0, 0), region_ns(p, 5e3, 0), region_ns(p, 5e3, 2e4),
               region_ns(p, 5e3, 2e6));
        fs_pool_free(p);
    }
    return 0;
}
