/* The limits of this machine: reading memory in huge and in small pages, multiply-adds of f32 and int8, on one thread and
 * on all CPUs. Writes CSV: one line a measurement, the second best of ten.
 *
 *   limits COMMIT > results/limits.csv */
#include "measure.h"

#include "kernels/kernels.h"
#include "kernels/limits.h"

#include <string.h>
#include <sys/mman.h>

#define READ_BYTES ((size_t)1 << 30)
#define RUNS       10

static void line(const char *what, int threads, const char *isa, double rate, const char *unit, const char *commit)
{
    printf("%s,%d,%s,%.1f,%s,\"%s\",%s\n", what, threads, isa, rate / 1e9, unit, cpu_name(), commit);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const char *commit = argc > 1 ? argv[1] : "";
    unsigned isa = fs_isa_detect();
    fs_error err;
    uint8_t *block = mmap(NULL, READ_BYTES + (2 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *memory;

    if (block == MAP_FAILED) {
        fprintf(stderr, "limits: no memory for %zu bytes\n", READ_BYTES);
        return 1;
    }
    memory = block + (-(uintptr_t)block & ((2 << 20) - 1));
    puts("what,threads,isa,rate,unit,cpu,commit");
    for (int huge = 0; huge < 2; huge++) {
        madvise(memory, READ_BYTES, MADV_DONTNEED);
        madvise(memory, READ_BYTES, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        memset(memory, 1, READ_BYTES);
        for (int threads = 1; threads <= fs_cpu_count(); threads *= 2) {
            fs_pool *pool;
            if (fs_pool_new(threads, &pool, &err)) {
                fprintf(stderr, "limits: %s\n", err.message);
                return 1;
            }
            line(huge ? "read huge pages" : "read 4 KiB pages", threads, fs_isa_name(isa & FS_ISA_AVX512 ? FS_ISA_AVX512 : isa),
                 fs_limit_read_bytes_s(pool, isa, memory, READ_BYTES, RUNS), "GB/s", commit);
            for (unsigned i = 1; huge && i < FS_ISA_END; i <<= 1)
                if (isa & i) {
                    line("multiply-add f32", threads, fs_isa_name(i), fs_limit_f32_ops_s(pool, i, RUNS), "Gop/s", commit);
                    line("multiply-add int8", threads, fs_isa_name(i), fs_limit_int8_ops_s(pool, i, RUNS), "Gop/s", commit);
                }
            fs_pool_free(pool);
        }
    }
    munmap(block, READ_BYTES + (2 << 20));
    return 0;
}
