/* The tree and the scalar compression; blake3_lanes.h has the wide ones. */
#include "crypto/blake3.h"

#define W 1
#include "crypto/blake3_lanes.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

/* Little-endian machines only, as everything that maps model files. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "blake3.c reads words as they lie"
#endif

const uint32_t fs_blake3_iv[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

/* ---- one block, one lane ---- */
static void one_block(uint32_t cv[8], const uint8_t block[BLAKE3_BLOCK], uint32_t n_bytes, uint64_t counter, uint32_t flags)
{
    uint32_t m[16];

    memcpy(m, block, sizeof m);
    compress(cv, m, (uint32_t)counter, (uint32_t)(counter >> 32), n_bytes, flags);
}

void fs_blake3_many_scalar(const blake3_job *j)
{
    for (size_t i = 0; i < j->n; i++) {
        uint32_t cv[8];
        memcpy(cv, j->key, 32);
        for (size_t b = 0; b < j->n_blocks; b++)
            one_block(cv, j->in + i * j->stride + b * BLAKE3_BLOCK, BLAKE3_BLOCK, j->counter + i * j->step,
                      (uint32_t)(j->flags | (b == 0 ? j->start : 0) | (b + 1 == j->n_blocks ? j->end : 0)));
        memcpy(j->out + 32 * i, cv, 32);
    }
}

/* ---- the widest that the CPU has ---- */
static atomic_int lanes_limit;

void fs_blake3_lanes_limit(int n)
{
    atomic_store(&lanes_limit, n);
}

int fs_blake3_lanes(void)
{
    static atomic_int known;
    int n = atomic_load_explicit(&known, memory_order_relaxed), limit = atomic_load_explicit(&lanes_limit, memory_order_relaxed);

    if (!n) {
        n = 1;
#if defined(__x86_64__)
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl"))
            n = 16;
        else if (__builtin_cpu_supports("avx2"))
            n = 8;
#elif defined(__aarch64__)
        n = 4;
#endif
        atomic_store_explicit(&known, n, memory_order_relaxed);
    }
    return limit && limit < n ? (limit >= 8 ? 8 : 1) : n;
}

static void run(const blake3_job *j)
{
    switch (fs_blake3_lanes()) {
#if defined(__x86_64__)
    case 16:
        fs_blake3_many_avx512(j);
        return;
    case 8:
        fs_blake3_many_avx2(j);
        return;
#elif defined(__aarch64__)
    case 4:
        fs_blake3_many_neon(j);
        return;
#endif
    default:
        fs_blake3_many_scalar(j);
    }
}

/* ---- the tree ---- */
/* Bytes of one chunk, 0 to 1024. */
static void one_chunk(const uint32_t key[8], uint8_t flags, const uint8_t *data, size_t n_bytes, uint64_t counter, uint8_t last,
                      uint8_t ret[32])
{
    uint32_t cv[8];
    uint8_t start = BLAKE3_CHUNK_START;

    memcpy(cv, key, 32);
    for (; n_bytes > BLAKE3_BLOCK; data += BLAKE3_BLOCK, n_bytes -= BLAKE3_BLOCK) {
        one_block(cv, data, BLAKE3_BLOCK, counter, (uint32_t)(flags | start));
        start = 0;
    }
    uint8_t block[BLAKE3_BLOCK] = { 0 };
    if (n_bytes)
        memcpy(block, data, n_bytes);
    one_block(cv, block, (uint32_t)n_bytes, counter, (uint32_t)(flags | start | BLAKE3_CHUNK_END | last));
    memcpy(ret, cv, 32);
}

/* cvs [n][32] -> the parents of its pairs, in place; one that is left over stays. Returns how many. */
static size_t parents(const uint32_t key[8], uint8_t flags, uint8_t *cvs, size_t n, uint8_t last)
{
    const blake3_job j = {
        .in = cvs, .stride = 64, .n = n / 2, .n_blocks = 1, .key = key,
        .flags = (uint8_t)(flags | BLAKE3_PARENT | last), .out = cvs, /* out[i] is behind in[i], and read before it */
    };

    run(&j);
    if (n & 1)
        memmove(cvs + n / 2 * 32, cvs + (n - 1) * 32, 32);
    return n / 2 + (n & 1);
}

/* A subtree of 1 to FS_BLAKE3_PIECE bytes whose first chunk is number counter; last: BLAKE3_ROOT where it is all. */
static void subtree(const uint32_t key[8], uint8_t flags, const uint8_t *data, size_t n_bytes, uint64_t counter, uint8_t last,
                    uint8_t ret[32])
{
    uint8_t cvs[FS_BLAKE3_PIECE / BLAKE3_CHUNK][32];
    size_t n = n_bytes ? (n_bytes + BLAKE3_CHUNK - 1) / BLAKE3_CHUNK : 1, whole = n_bytes / BLAKE3_CHUNK;
    const blake3_job leaves = {
        .in = data, .stride = BLAKE3_CHUNK, .n = whole, .n_blocks = BLAKE3_CHUNK / BLAKE3_BLOCK, .key = key, .counter = counter,
        .step = 1, .flags = flags, .start = BLAKE3_CHUNK_START, .end = BLAKE3_CHUNK_END, .out = cvs[0],
    };

    assert(n_bytes <= FS_BLAKE3_PIECE);
    if (n == 1) {
        one_chunk(key, flags, data, n_bytes, counter, last, ret);
        return;
    }
    run(&leaves);
    if (whole < n)
        one_chunk(key, flags, data + whole * BLAKE3_CHUNK, n_bytes - whole * BLAKE3_CHUNK, counter + whole, 0, cvs[whole]);
    while (n > 1)
        n = parents(key, flags, cvs[0], n, n == 2 ? last : 0);
    memcpy(ret, cvs[0], 32);
}

/* A whole piece that more bytes follow. */
static void push(fs_blake3 *h, const uint8_t *data)
{
    subtree(h->key, h->flags, data, FS_BLAKE3_PIECE, h->n_pieces * (FS_BLAKE3_PIECE / BLAKE3_CHUNK), 0, h->stack[h->depth++]);
    for (uint64_t n = ++h->n_pieces; !(n & 1); n >>= 1) {
        h->depth--;
        parents(h->key, h->flags, h->stack[h->depth - 1], 2, 0);
    }
}

void fs_blake3_init(fs_blake3 *h, const uint8_t key[32])
{
    memcpy(h->key, key ? (const void *)key : fs_blake3_iv, 32);
    h->flags = key ? BLAKE3_KEYED : 0;
    h->n_pieces = 0;
    h->depth = 0;
    h->n_bytes = 0;
}

void fs_blake3_update(fs_blake3 *h, const void *data, size_t n_bytes)
{
    const uint8_t *p = data;

    while (n_bytes) {
        size_t n = FS_BLAKE3_PIECE - h->n_bytes;
        if (h->n_bytes == 0 && n_bytes > FS_BLAKE3_PIECE) {
            push(h, p);
        } else if (n == 0) {
            push(h, h->buffer);
            h->n_bytes = 0;
            n = 0;
        } else {
            n = n < n_bytes ? n : n_bytes;
            memcpy(h->buffer + h->n_bytes, p, n);
            h->n_bytes += n;
        }
        p += n;
        n_bytes -= n;
    }
}

/* The last piece beside the stack: every merge takes the tree so far as the right side. */
static void finish(const fs_blake3 *h, const uint8_t *rest, size_t n_bytes, uint8_t ret[32])
{
    uint8_t pair[2][32];

    subtree(h->key, h->flags, rest, n_bytes, h->n_pieces * (FS_BLAKE3_PIECE / BLAKE3_CHUNK), h->depth ? 0 : BLAKE3_ROOT, pair[1]);
    for (uint32_t d = h->depth; d-- > 0;) {
        memcpy(pair[0], h->stack[d], 32);
        parents(h->key, h->flags, pair[0], 2, d ? 0 : BLAKE3_ROOT);
        memcpy(pair[1], pair[0], 32);
    }
    memcpy(ret, pair[1], 32);
}

void fs_blake3_final(const fs_blake3 *h, uint8_t ret[FS_BLAKE3_BYTES])
{
    finish(h, h->buffer, h->n_bytes, ret);
}

void fs_blake3_hash(const uint8_t key[32], const void *data, size_t n_bytes, uint8_t ret[FS_BLAKE3_BYTES])
{
    fs_blake3 h; /* its buffer is not touched */
    const uint8_t *p = data;

    fs_blake3_init(&h, key);
    for (; n_bytes > FS_BLAKE3_PIECE; p += FS_BLAKE3_PIECE, n_bytes -= FS_BLAKE3_PIECE)
        push(&h, p);
    finish(&h, p, n_bytes, ret);
}
