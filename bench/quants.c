/* Quantised products (RN1 section 6) against what the machine can do. Writes CSV: one line a measurement.
 *
 *   quants COMMIT [THREADS [DTYPE [M]]] > results/quants.csv
 *
 * limits: those of kernels/limits.h, memory in huge pages; each share is of the limit measured in the same run with as many threads. Every product goes
 * round over copies of its matrix, 256 MiB of them, so that weights come from memory as in a model. m = 1 .. 8 state
 * bytes of weights a second, m = 4 and more operations. On one thread times are the thread's CPU time, on two wall time, which
 * means little where load, the machine's load average, is above 2. Medians. */
#include "measure.h"

#include "base/pool.h"
#include "kernels/kernels.h"
#include "kernels/limits.h"

#include <string.h>
#include <sys/mman.h>

#define WEIGHTS_BYTES ((size_t)256 << 20)
#define READ_BYTES    ((size_t)1 << 30)
#define LIMIT_RUNS    10

static fs_kernels kernels;
static fs_pool *pool;
static const char *commit = "";
static uint8_t *memory, *scratch;
static double read_limit, dot_limit; /* GB/s, GOP/s; 0: not known */

static double now_us(void)
{
    return fs_pool_threads(pool) == 1 ? thread_us() : wall_us();
}

static void line(const char *what, const char *dtype, size_t m, uint32_t n, uint32_t k, double us, double rate, const char *unit, double limit)
{
    double load = -1;

    getloadavg(&load, 1);
    printf("%s,%s,%zu,%u,%u,%d,%.2f,%.2f,%s,%.1f,%.1f,\"%s\",%s\n", what, dtype, m, n, k, fs_pool_threads(pool), us, rate, unit,
           limit > 0 ? 100 * rate / limit : 100, load, cpu_name(), commit);
    fflush(stdout);
}

static void limits(void)
{
    read_limit = 1e-9 * fs_limit_read_bytes_s(pool, fs_isa_detect(), memory, READ_BYTES, LIMIT_RUNS);
    line("read", "", 0, 0, 0, 1e-3 * (double)READ_BYTES / read_limit, read_limit, "GB/s", 0);
    dot_limit = 1e-9 * fs_limit_int8_ops_s(pool, fs_isa_detect(), LIMIT_RUNS);
    line("multiply-add int8", "", 0, 0, 0, 0, dot_limit, "GOP/s", 0);
}

/* ---- products ---- */
struct job {
    fs_mat w;
    const fs_tensor *t;
    fs_quants q;
    const float *x;
    float *y;
    size_t m, ldx;
};

static void product_piece(void *ud, size_t begin, size_t end, int thread)
{
    struct job *j = ud;
    void *own = scratch + (size_t)thread * FS_GEMM_SCRATCH_BYTES;

    if (j->w.codes)
        kernels.quants.gemm(&j->w, begin, end, &j->q, 0, j->m, NULL, j->y, j->w.n, own);
    else
        kernels.products.gemm(&j->w, begin, end, j->x, j->ldx, j->m, NULL, j->y, j->w.n, own);
}

static void pack_piece(void *ud, size_t begin, size_t end, int thread)
{
    struct job *j = ud;

    (void)thread;
    fs_mat_pack(&j->w, j->t, 0, begin, end);
}

static void quantize_piece(void *ud, size_t begin, size_t end, int thread)
{
    struct job *j = ud;

    (void)thread;
    kernels.quants.quantize(&j->q, begin, end - begin, 0, j->q.k / FS_QUANTS_BLOCK, j->x + begin * j->ldx, j->ldx);
}

static size_t grain_of(size_t n)
{
    size_t pieces = 4 * (size_t)fs_pool_threads(pool), grain = (n + pieces - 1) / pieces;
    return grain ? grain : 1;
}

static void measure(fs_dtype dtype, size_t m, uint32_t n, uint32_t k)
{
    enum { RUNS_MAX = 400 };
    const fs_dtype_info *info = fs_dtype_get(dtype);
    fs_tensor t = { .dtype = dtype, .n_dims = 2, .dims = { n, k } };
    bool served = fs_quants_serve(dtype);
    struct job j = { .t = &t, .m = m, .ldx = k };
    double us[RUNS_MAX], start, mid;
    size_t n_bytes, copies, runs = 0;
    uint8_t *src;
    float *x = allocate(m * k * sizeof *x);

    if (k % info->block_elems || !fs_mat_bytes(dtype, n, k, 0, 0, &n_bytes) || !fs_dtype_bytes(dtype, (uint64_t)n * k, &t.n_bytes))
        return;
    src = allocate(t.n_bytes);
    for (size_t i = 0; i < t.n_bytes; i++) /* no scale of 0x2X is odd; codes vary */
        src[i] = (uint8_t)(0x20 | (i * 2654435761u >> 13 & 15));
    for (size_t i = 0; i < m * k; i++)
        x[i] = (float)((int)(i * 2654435761u >> 16 & 255) - 128) * 0.01f;
    t.data = src;
    j.x = x;
    j.y = allocate(m * n * sizeof *j.y);
    copies = n_bytes * 2 > WEIGHTS_BYTES ? 1 : WEIGHTS_BYTES / n_bytes;
    for (size_t i = 0; i < copies; i++) {
        fs_mat_init(&j.w, &t, 0, n, memory + i * n_bytes);
        if (served)
            fs_mat_take_codes(&j.w);
        start = now_us();
        fs_pool_for(pool, fs_mat_panels(&j.w), 4, pack_piece, &j);
        if (i < RUNS_MAX)
            us[i] = now_us() - start;
    }
    j.w.finite = dtype == FS_DTYPE_F8_E4M3;
    if (m == 1) {
        mid = median(us, copies < RUNS_MAX ? copies : RUNS_MAX);
        line("pack", info->name, m, n, k, mid, 1e-3 * (double)t.n_bytes / mid, "GB/s", read_limit);
    }
    if (served) {
        j.q = fs_quants_init(k, allocate(m * fs_quants_row_bytes(k)));
        for (size_t i = 0; i < 21; i++) {
            start = now_us();
            fs_pool_for(pool, m, (m + 7) / 8, quantize_piece, &j);
            us[i] = now_us() - start;
        }
        mid = median(us, 21);
        if (m >= 32)
            line("quantize", info->name, m, n, k, mid, 1e-3 * (double)(m * k) / mid, "Gvalue/s", 0);
    }
    start = now_us();
    while (runs < 9 || (runs < RUNS_MAX && now_us() - start < 4e5)) {
        size_t batch = t.n_bytes * m > 32 << 20 ? 1 : (32 << 20) / (t.n_bytes * m);
        double t0 = now_us();
        for (size_t i = 0; i < batch; i++) {
            j.w.data = memory + (runs * batch + i) % copies * n_bytes;
            fs_pool_for(pool, fs_mat_panels(&j.w), grain_of(fs_mat_panels(&j.w)), product_piece, &j);
        }
        us[runs++] = (now_us() - t0) / (double)batch;
    }
    mid = median(us, runs);
    if (m <= 8)
        line("product", info->name, m, n, k, mid, 1e-3 * (double)t.n_bytes / mid, "GB/s", read_limit);
    if (m >= 4)
        line("product", info->name, m, n, k, mid, 2e-3 * (double)m * n * k / mid, "GOP/s", dot_limit);
    fs_free_aligned(src);
    fs_free_aligned(x);
    fs_free_aligned(j.y);
    fs_free_aligned(j.q.data);
}

int main(int argc, char **argv)
{
    static const fs_dtype dtypes[] = { FS_DTYPE_Q4_1, FS_DTYPE_Q8_0, FS_DTYPE_Q4_K, FS_DTYPE_Q6_K, FS_DTYPE_Q4_0, FS_DTYPE_Q5_0,
                                       FS_DTYPE_Q5_1, FS_DTYPE_Q2_K, FS_DTYPE_Q3_K, FS_DTYPE_Q5_K, FS_DTYPE_IQ4_NL, FS_DTYPE_IQ4_XS,
                                       FS_DTYPE_MXFP4, FS_DTYPE_BF16, FS_DTYPE_F16, FS_DTYPE_F8_E4M3 };
    static const size_t ms[] = { 1, 2, 4, 8, 32, 512 };
    /* SmolLM2-135M's; those of a small V3-shaped mixture of experts, the last its head */
    static const struct { uint32_t n, k; } shapes[] = { { 576, 576 }, { 576, 1536 }, { 1024, 768 }, { 512, 3072 }, { 102400, 1024 } };
    int only_threads = argc > 2 ? atoi(argv[2]) : 0;
    const char *only = argc > 3 ? argv[3] : "";
    size_t only_m = argc > 4 ? (size_t)atoi(argv[4]) : 0;
    void *map = mmap(NULL, READ_BYTES + (2 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED)
        return 1;
    memory = (uint8_t *)(((uintptr_t)map + (2 << 20) - 1) & ~(uintptr_t)((2 << 20) - 1));
    madvise(memory, READ_BYTES, MADV_HUGEPAGE);
    memset(memory, 1, READ_BYTES);
    commit = argc > 1 ? argv[1] : "";
    fs_kernels_init(&kernels, getenv("BENCH_ISA") ? (unsigned)atoi(getenv("BENCH_ISA")) : fs_isa_detect());
    puts("what,dtype,m,n,k,threads,median_us,rate,unit,percent,load,cpu,commit");
    for (int threads = 1; threads <= 2; threads++) {
        if ((only_threads && threads != only_threads) || fs_pool_new(threads, &pool, NULL))
            continue;
        scratch = allocate((size_t)threads * FS_GEMM_SCRATCH_BYTES);
        limits();
        for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++)
            for (size_t i = 0; i < sizeof ms / sizeof *ms; i++)
                for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
                    bool wanted = !*only || strcmp(only, fs_dtype_get(dtypes[d])->name) == 0;
                    if (wanted && (!only_m || ms[i] == only_m) && (ms[i] <= 32 || shapes[s].n <= 4096))
                        measure(dtypes[d], ms[i], shapes[s].n, shapes[s].k);
                }
        fs_pool_free(pool);
        fs_free_aligned(scratch);
    }
    return 0;
}
