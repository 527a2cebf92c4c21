/* The choice of loops, and the clock around them. */
#include "base/clock.h"
#include "kernels/kernels.h"
#include "kernels/limits_isa.h"

#include <assert.h>
#include <stdatomic.h>

void fs_limit_kernels_init(fs_limit_kernels *k, unsigned isa)
{
    isa &= fs_isa_detect();
    *k = FS_BEST_OF(fs_limits, isa);
#if defined(__x86_64__)
    if ((isa & FS_ISA_AVX512) && fs_isa_has_dot())
        k->int8 = fs_limits_int8_vnni;
#elif defined(__aarch64__)
    if ((isa & FS_ISA_NEON) && fs_isa_has_dot())
        k->int8 = fs_limits_int8_dotprod;
#endif
}

#define PIECE_BYTES (4u << 20)
#define ROUNDS      (1u << 19)
#define PIECES      8 /* a thread, so that one that is held up elsewhere takes fewer */

typedef struct work {
    uint64_t (*read)(const uint8_t *memory, size_t n_bytes);
    uint64_t (*count)(uint32_t rounds);
    const uint8_t *memory;
    size_t n_bytes;
    atomic_ullong result;
} work;

static void read_pieces(void *ud, size_t begin, size_t end, int thread)
{
    work *w = ud;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        size_t offset = i * PIECE_BYTES, left = w->n_bytes - offset;
        atomic_fetch_xor(&w->result, w->read(w->memory + offset, left < PIECE_BYTES ? left : PIECE_BYTES));
    }
}

static void count_pieces(void *ud, size_t begin, size_t end, int thread)
{
    work *w = ud;

    (void)thread;
    for (size_t i = begin; i < end; i++)
        atomic_fetch_add(&w->result, w->count(ROUNDS));
}

/* The time of the second fastest run. */
static double second(fs_pool *pool, work *w, size_t n_pieces, fs_pool_fn *fn, int n_runs)
{
    double least = 0, next = 0;

    for (int i = 0; i < n_runs; i++) {
        double start = fs_seconds_now(), s;
        atomic_store(&w->result, 0);
        fs_pool_for(pool, n_pieces, 1, fn, w);
        s = fs_seconds_now() - start;
        if (i == 0 || s < least) {
            next = i ? least : s;
            least = s;
        } else if (i == 1 || s < next)
            next = s;
    }
    return next;
}

double fs_limit_read_bytes_s(fs_pool *pool, unsigned isa, const uint8_t *memory, size_t n_bytes, int n_runs)
{
    fs_limit_kernels k;
    work w = { .memory = memory, .n_bytes = n_bytes };

    assert((uintptr_t)memory % FS_LIMITS_READ_ALIGN == 0 && n_bytes % FS_LIMITS_READ_ALIGN == 0);
    fs_limit_kernels_init(&k, isa);
    w.read = k.read;
    return (double)n_bytes / second(pool, &w, (n_bytes + PIECE_BYTES - 1) / PIECE_BYTES, read_pieces, n_runs);
}

static double ops_s(fs_pool *pool, uint64_t (*count)(uint32_t rounds), int n_runs)
{
    work w = { .count = count };
    double s = second(pool, &w, (size_t)fs_pool_threads(pool) * PIECES, count_pieces, n_runs);

    return 2 * (double)atomic_load(&w.result) / s;
}

double fs_limit_f32_ops_s(fs_pool *pool, unsigned isa, int n_runs)
{
    fs_limit_kernels k;

    fs_limit_kernels_init(&k, isa);
    return ops_s(pool, k.f32, n_runs);
}

double fs_limit_int8_ops_s(fs_pool *pool, unsigned isa, int n_runs)
{
    fs_limit_kernels k;

    fs_limit_kernels_init(&k, isa);
    return ops_s(pool, k.int8, n_runs);
}
