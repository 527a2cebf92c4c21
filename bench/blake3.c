/* BLAKE3 of a file on one thread, beside Debian's b3sum: CPU seconds of each over the mapped file, in turn, medians.
 *
 *   blake3 COMMIT FILE > results/blake3.csv
 *
 * FILE should fit in the page cache and be large, so that starting b3sum does not count. The hashes must be equal. */
#include "measure.h"

#include "base/file.h"
#include "crypto/blake3.h"

#include <string.h>
#include <sys/resource.h>

#define RUNS 7

static void die(const char *what)
{
    fprintf(stderr, "blake3: %s\n", what);
    exit(1);
}

static double child_us(void)
{
    struct rusage u;

    getrusage(RUSAGE_CHILDREN, &u);
    return 1e6 * (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void ours(fs_bytes file, char ret[65], double *ret_us)
{
    double begin = thread_us();
    uint8_t hash[FS_BLAKE3_BYTES];

    fs_blake3_hash(NULL, file.data, file.n_bytes, hash);
    *ret_us = thread_us() - begin;
    for (int i = 0; i < FS_BLAKE3_BYTES; i++)
        snprintf(ret + 2 * i, 3, "%02x", hash[i]);
}

static void theirs(const char *path, char ret[65], double *ret_us)
{
    char command[1200];
    double begin = child_us();
    FILE *f;

    snprintf(command, sizeof command, "exec b3sum --num-threads 1 --no-names '%s'", path);
    f = popen(command, "r");
    if (!f || fscanf(f, "%64s", ret) != 1 || pclose(f) != 0)
        die("b3sum does not run (Debian's package b3sum), or not on that file");
    *ret_us = child_us() - begin;
}

static void row(const char *what, fs_bytes file, double *us, const char *commit)
{
    double rate = (double)file.n_bytes / 1048576 / median(us, RUNS) * 1e6; /* sorts them */

    printf("%s,1,%.0f,%.0f,%.0f,MiB/s,%d,\"%s\",%s\n", what, rate, (double)file.n_bytes / 1048576 / us[RUNS - 1] * 1e6,
           (double)file.n_bytes / 1048576 / us[0] * 1e6, RUNS, cpu_name(), commit);
}

int main(int argc, char **argv)
{
    double our_us[RUNS], their_us[RUNS];
    char a[65], b[65];
    fs_map map = { 0 };
    fs_error err;

    if (argc != 3 || strlen(argv[2]) > 1000 || strchr(argv[2], '\''))
        die("usage: blake3 COMMIT FILE");
    if (fs_map_open(&map, argv[2], &err))
        die(err.message);
    for (int i = -1; i < RUNS; i++) {
        int at = i < 0 ? 0 : i;
        ours(map.bytes, a, &our_us[at]);
        theirs(argv[2], b, &their_us[at]);
        if (strcmp(a, b) != 0)
            die("the hashes differ");
    }
    printf("what,threads,median,least,most,unit,runs,cpu,commit\n");
    row("farseek", map.bytes, our_us, argv[1]);
    row("b3sum", map.bytes, their_us, argv[1]);
    fs_map_close(&map);
    return 0;
}
