/* Products against OpenBLAS, and the rates that decode lives on. Writes CSV: one line a measurement.
 *
 *   gemm COMMIT > results/gemm.csv
 *
 * sgemm: y = x W^T, ours (packed beforehand, as weights are) and OpenBLAS's in turn, rows of fifteen calls after ten
 * that do not count (the scheduler takes some milliseconds to spread threads that have slept), so that both meet the same
 * machine; OpenBLAS gets the faster of the two layouts of W. Its own choice of a kernel fails on CPUs younger than
 * it (0.3.21 takes Prescott's, SSE3, on an Emerald Rapids), and OPENBLAS_L2_SIZE can cripple it: the first is set to
 * the best this CPU runs, the second unset. On one thread times are the thread's CPU time, so that neighbours on the
 * machine cost neither; on two they are wall time, which means
 * little where load, the machine's load average, is above 2. Medians; percent is OpenBLAS's median time over ours. */
#include "measure.h"

#include "base/pool.h"
#include "kernels/kernels.h"

#include <dlfcn.h>
#include <string.h>

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };
typedef void sgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                      const float *b, int ldb, float beta, float *c, int ldc);

static sgemm_fn *sgemm;
static void (*blas_threads)(int n);
static const char *blas_core = "", *commit = "", *isa_name;
static fs_kernels kernels;
static fs_pool *pool;
static uint8_t *scratch;

static double now_us(void)
{
    return fs_pool_threads(pool) == 1 ? thread_us() : wall_us();
}

struct job {
    fs_mat w;
    const fs_tensor *t;
    const float *x;
    float *y;
    size_t m;
};

static void product_piece(void *ud, size_t begin, size_t end, int thread)
{
    struct job *j = ud;
    kernels.products.gemm(&j->w, begin, end, j->x, j->w.k, j->m, NULL, j->y, j->w.n,
                          scratch + (size_t)thread * FS_GEMM_SCRATCH_BYTES);
}

static void pack_piece(void *ud, size_t begin, size_t end, int thread)
{
    struct job *j = ud;
    (void)thread;
    fs_mat_pack(&j->w, j->t, 0, begin, end);
}

static void product(struct job *j)
{
    size_t n = fs_mat_panels(&j->w), threads = (size_t)fs_pool_threads(pool);
    size_t grain = j->m == 1 ? 8 : (n + 2 * threads - 1) / (2 * threads);
    fs_pool_for(pool, n, grain + grain % 2, product_piece, j);
}

static void line(const char *what, const char *dtype, const struct job *j, double us, double rate, const char *unit,
                 double blas_us)
{
    double load = -1;

    printf("%s,%s,%zu,%u,%u,%d,%s,%.1f,%.3f,%s,", what, dtype, j->m, j->w.n, j->w.k, fs_pool_threads(pool), isa_name, us,
           rate, unit);
    if (blas_us > 0)
        printf("%.1f,%.1f,%s", blas_us, 100 * blas_us / us, blas_core);
    else
        printf(",,");
    getloadavg(&load, 1);
    printf(",%.1f,\"%s\",%s\n", load, cpu_name(), commit);
    fflush(stdout);
}

/* OpenBLAS's idle threads spin for 2^26 cycles and would take half of a core from whoever runs next. */
static void quiet(void)
{
    struct timespec t = { .tv_nsec = 80 * 1000 * 1000 };

    if (fs_pool_threads(pool) > 1)
        nanosleep(&t, NULL);
}

static void against_blas(fs_dtype dtype, uint32_t n, size_t m)
{
    enum { ROUNDS = 9, ROW = 15, WARM = 10, RUNS = ROUNDS * ROW };
    double ours[RUNS], blas[RUNS], blas_n[RUNS], us, us_n;
    struct job j = { .m = m };
    float *src = random_floats((size_t)n * n), *x = random_floats(m * n), *y = allocate(m * n * sizeof *y);
    size_t n_bytes = 0;
    void *data;

    if (!fs_mat_bytes(dtype, n, n, 0, 0, &n_bytes))
        exit(1);
    data = allocate(n_bytes);
    fs_mat_init_f32(&j.w, dtype, n, n, data);
    fs_mat_pack_f32(&j.w, src, n, 0, fs_mat_panels(&j.w));
    j.x = x;
    j.y = y;
    blas_threads(fs_pool_threads(pool));
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = -WARM; i < ROW; i++) {
            double t0 = now_us();
            product(&j);
            if (i >= 0)
                ours[round * ROW + i] = now_us() - t0;
        }
        quiet();
        for (int i = -WARM; i < ROW; i++) {
            double t0 = now_us();
            sgemm(ROW_MAJOR, NO_TRANS, TRANS, (int)m, (int)n, (int)n, 1, x, (int)n, src, (int)n, 0, y, (int)n);
            if (i >= 0)
                blas[round * ROW + i] = now_us() - t0;
        }
        for (int i = -WARM; i < ROW; i++) {
            double t0 = now_us();
            sgemm(ROW_MAJOR, NO_TRANS, NO_TRANS, (int)m, (int)n, (int)n, 1, x, (int)n, src, (int)n, 0, y, (int)n);
            if (i >= 0)
                blas_n[round * ROW + i] = now_us() - t0;
        }
        quiet();
    }
    us = median(blas, RUNS);
    us_n = median(blas_n, RUNS);
    line("gemm", fs_dtype_get(dtype)->name, &j, median(ours, RUNS), 2e-3 * (double)m * n * n / median(ours, RUNS), "GFLOP/s",
         us < us_n ? us : us_n);
    fs_free_aligned(src);
    fs_free_aligned(x);
    fs_free_aligned(y);
    fs_free_aligned(data);
}

/* m rows against a matrix of dtype, and how fast it packs. */
static void rates(fs_dtype dtype, uint32_t n, uint32_t k, size_t m)
{
    enum { RUNS = 21 };
    double us[RUNS], pack_us[5];
    fs_tensor t = { .dtype = dtype, .n_dims = 2, .dims = { n, k } };
    struct job j = { .m = m, .t = &t };
    float *x = random_floats(m * k), *y = allocate(m * n * sizeof *y);
    size_t n_bytes = 0;
    uint8_t *src;
    void *data;

    if (!fs_dtype_bytes(dtype, (uint64_t)n * k, &t.n_bytes) || !fs_mat_bytes(dtype, n, k, 0, 0, &n_bytes))
        exit(1);
    src = allocate(t.n_bytes);
    for (size_t i = 0; i < t.n_bytes; i++) /* no scale of 0x3X is odd; codes vary */
        src[i] = (uint8_t)(0x30 | (i * 2654435761u >> 13 & 7));
    t.data = src;
    data = allocate(n_bytes);
    fs_mat_init(&j.w, &t, 0, n, data);
    j.x = x;
    j.y = y;
    for (int i = 0; i < 5; i++) {
        double t0 = now_us();
        fs_pool_for(pool, fs_mat_panels(&j.w), 4, pack_piece, &j);
        pack_us[i] = now_us() - t0;
    }
    for (int i = -2; i < RUNS; i++) {
        double t0 = now_us();
        product(&j);
        if (i >= 0)
            us[i] = now_us() - t0;
    }
    line("pack", fs_dtype_get(dtype)->name, &j, median(pack_us, 5), 1e-3 * (double)t.n_bytes / median(pack_us, 5), "GB/s", 0);
    if (m == 1)
        line("gemv", fs_dtype_get(dtype)->name, &j, median(us, RUNS), 1e-3 * (double)t.n_bytes / median(us, RUNS), "GB/s", 0);
    line(m == 1 ? "gemv" : "gemm", fs_dtype_get(dtype)->name, &j, median(us, RUNS),
         1e-3 * (double)n * k * (double)m / median(us, RUNS), "Gweight/s", 0);
    fs_free_aligned(src);
    fs_free_aligned(x);
    fs_free_aligned(y);
    fs_free_aligned(data);
}

int main(int argc, char **argv)
{
    static const fs_dtype blocks[] = { FS_DTYPE_Q4_0, FS_DTYPE_Q4_1, FS_DTYPE_Q5_0, FS_DTYPE_Q5_1, FS_DTYPE_Q8_0,
                                       FS_DTYPE_Q2_K, FS_DTYPE_Q3_K, FS_DTYPE_Q4_K, FS_DTYPE_Q5_K, FS_DTYPE_Q6_K,
                                       FS_DTYPE_IQ4_NL, FS_DTYPE_IQ4_XS, FS_DTYPE_MXFP4 };
    const char *only = argc > 2 ? argv[2] : ""; /* "gemm" leaves out the rates */
    unsigned isa = fs_isa_detect();
    void *blas;
    char *(*corename)(void);

    commit = argc > 1 ? argv[1] : "";
    setenv("OPENBLAS_CORETYPE", isa & FS_ISA_AVX512 ? "SkylakeX" : isa & FS_ISA_AVX2 ? "Haswell" : "", 1);
    unsetenv("OPENBLAS_L2_SIZE");
    blas = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!blas) {
        fprintf(stderr, "bench: %s (Debian: libopenblas0)\n", dlerror());
        return 1;
    }
    *(void **)&sgemm = dlsym(blas, "cblas_sgemm");
    *(void **)&blas_threads = dlsym(blas, "openblas_set_num_threads");
    *(void **)&corename = dlsym(blas, "openblas_get_corename");
    if (!sgemm || !blas_threads || !corename)
        return 1;
    blas_core = corename();
    if (getenv("BENCH_ISA"))
        isa = (unsigned)atoi(getenv("BENCH_ISA"));
    fs_kernels_init(&kernels, isa);
    while (isa & (isa - 1)) /* the best one's name */
        isa &= isa - 1;
    isa_name = fs_isa_name(isa);
    puts("what,dtype,m,n,k,threads,isa,median_us,rate,unit,openblas_us,percent,openblas_kernel,load,cpu,commit");
    for (int threads = 1; threads <= 2; threads++) {
        if (fs_pool_new(threads, &pool, NULL))
            return 1;
        scratch = allocate((size_t)threads * FS_GEMM_SCRATCH_BYTES);
        for (uint32_t n = 512; n <= 1024; n *= 2) {
            against_blas(FS_DTYPE_F32, n, n);
            against_blas(FS_DTYPE_BF16, n, n);
        }
        if (strcmp(only, "gemm") != 0) {
            rates(FS_DTYPE_F32, 16384, 4096, 1);
            rates(FS_DTYPE_BF16, 16384, 4096, 1);
            rates(FS_DTYPE_F16, 16384, 4096, 1);
            rates(FS_DTYPE_F8_E4M3, 16384, 4096, 1);
            for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
                rates(blocks[i], 4096, 4096, 1);
                rates(blocks[i], 4096, 4096, 128);
            }
        }
        fs_pool_free(pool);
        fs_free_aligned(scratch);
    }
    return 0;
}
