/* BLAKE3's compression of W inputs side by side, a lane each, written once with the compilers' vector types. The including
 * file names W (1, 4, 8 or 16) and the instruction set, by its flags. W = 1 has the compression alone. */
#include "crypto/blake3_isa.h"

#include <string.h>

#if W > 1
typedef uint32_t vec __attribute__((vector_size(4 * W)));
#else
typedef uint32_t vec;
#endif

static inline vec ror(vec a, int n)
{
    return a >> n | a << (32 - n);
}

#define MIX(a, b, c, d, x, y)     \
    do {                          \
        s[a] += s[b] + (x);       \
        s[d] = ror(s[d] ^ s[a], 16); \
        s[c] += s[d];             \
        s[b] = ror(s[b] ^ s[c], 12); \
        s[a] += s[b] + (y);       \
        s[d] = ror(s[d] ^ s[a], 8);  \
        s[c] += s[d];             \
        s[b] = ror(s[b] ^ s[c], 7);  \
    } while (0)

static inline void compress(vec cv[8], const vec m[16], vec counter_low, vec counter_high, uint32_t n_bytes, uint32_t flags)
{
    const vec zero = { 0 };
    vec s[16];

    for (int i = 0; i < 8; i++)
        s[i] = cv[i];
    for (int i = 0; i < 4; i++)
        s[8 + i] = zero + fs_blake3_iv[i];
    s[12] = counter_low;
    s[13] = counter_high;
    s[14] = zero + n_bytes;
    s[15] = zero + flags;
#define ROUND(a, b, c, d, e, f, g, h, i, j, k, l, n, o, p, q) \
    do {                                                      \
        MIX(0, 4, 8, 12, m[a], m[b]);                         \
        MIX(1, 5, 9, 13, m[c], m[d]);                         \
        MIX(2, 6, 10, 14, m[e], m[f]);                        \
        MIX(3, 7, 11, 15, m[g], m[h]);                        \
        MIX(0, 5, 10, 15, m[i], m[j]);                        \
        MIX(1, 6, 11, 12, m[k], m[l]);                        \
        MIX(2, 7, 8, 13, m[n], m[o]);                         \
        MIX(3, 4, 9, 14, m[p], m[q]);                         \
    } while (0)
    ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    ROUND(2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8);
    ROUND(3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1);
    ROUND(10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6);
    ROUND(12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4);
    ROUND(9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7);
    ROUND(11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13);
#undef ROUND
    for (int i = 0; i < 8; i++)
        cv[i] = s[i] ^ s[i + 8];
}

#if W > 1
#if W == 16
/* Of every 128-bit quarter: words, then pairs of words, interleaved. */
#define WORDS_LOW   0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define WORDS_HIGH  2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define PAIRS_LOW   0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define PAIRS_HIGH  2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#elif W == 8
#define WORDS_LOW   0, 8, 1, 9, 4, 12, 5, 13
#define WORDS_HIGH  2, 10, 3, 11, 6, 14, 7, 15
#define PAIRS_LOW   0, 1, 8, 9, 4, 5, 12, 13
#define PAIRS_HIGH  2, 3, 10, 11, 6, 7, 14, 15
#else
#define WORDS_LOW   0, 4, 1, 5
#define WORDS_HIGH  2, 6, 3, 7
#define PAIRS_LOW   0, 1, 4, 5
#define PAIRS_HIGH  2, 3, 6, 7
#endif
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

/* v[4], whose quarters are rows of four words: afterwards quarter q of v[c] holds word c of the four rows q. */
static inline void transpose_quads(vec v[4])
{
    vec a = SHUFFLE(v[0], v[1], WORDS_LOW), b = SHUFFLE(v[0], v[1], WORDS_HIGH);
    vec c = SHUFFLE(v[2], v[3], WORDS_LOW), d = SHUFFLE(v[2], v[3], WORDS_HIGH);

    v[0] = SHUFFLE(a, c, PAIRS_LOW);
    v[1] = SHUFFLE(a, c, PAIRS_HIGH);
    v[2] = SHUFFLE(b, d, PAIRS_LOW);
    v[3] = SHUFFLE(b, d, PAIRS_HIGH);
}

typedef uint32_t quad __attribute__((vector_size(16)));

static inline quad load_quad(const uint8_t *p)
{
    quad q;

    memcpy(&q, p, sizeof q);
    return q;
}

/* Four words of every fourth input, from input r on, are the quarters of one vector. */
static inline vec load_quads(const uint8_t *const in[W], int r, size_t at)
{
#if W == 4
    return load_quad(in[r] + at);
#else
    typedef uint32_t octet __attribute__((vector_size(32)));
    octet low = SHUFFLE(load_quad(in[r] + at), load_quad(in[4 + r] + at), 0, 1, 2, 3, 4, 5, 6, 7);
#if W == 8
    return low;
#else
    octet high = SHUFFLE(load_quad(in[8 + r] + at), load_quad(in[12 + r] + at), 0, 1, 2, 3, 4, 5, 6, 7);
    return SHUFFLE(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
#endif
}

/* m[16]: word w of the block of lane l becomes m[w][l]. in: where each lane's input is. */
static inline void load_block(const uint8_t *const in[W], size_t at, vec m[16])
{
    for (size_t g = 0; g < 4; g++) {
        for (int r = 0; r < 4; r++)
            m[4 * g + (size_t)r] = load_quads(in, r, at + 16 * g);
        transpose_quads(m + 4 * g);
    }
}

/* Lanes at..at + n of the job, n <= W; lanes that are not there repeat the last one. */
static void some(const blake3_job *j, size_t at, size_t n)
{
    const uint8_t *in[W];
    uint32_t low[W] __attribute__((aligned(64))), high[W] __attribute__((aligned(64))), cv_words[8][W];
    vec cv[8], m[16], counter_low, counter_high;
    const vec zero = { 0 };

    for (size_t l = 0; l < W; l++) {
        size_t i = at + (l < n ? l : n - 1);
        uint64_t counter = j->counter + i * j->step;
        in[l] = j->in + i * j->stride;
        low[l] = (uint32_t)counter;
        high[l] = (uint32_t)(counter >> 32);
    }
    memcpy(&counter_low, low, sizeof low);
    memcpy(&counter_high, high, sizeof high);
    for (int i = 0; i < 8; i++)
        cv[i] = zero + j->key[i];
    for (size_t b = 0; b < j->n_blocks; b++) {
        load_block(in, b * BLAKE3_BLOCK, m);
        compress(cv, m, counter_low, counter_high, BLAKE3_BLOCK,
                 (uint32_t)(j->flags | (b == 0 ? j->start : 0) | (b + 1 == j->n_blocks ? j->end : 0)));
    }
    memcpy(cv_words, cv, sizeof cv_words);
    for (size_t l = 0; l < n; l++) {
        uint32_t words[8];
        for (int i = 0; i < 8; i++)
            words[i] = cv_words[i][l];
        memcpy(j->out + (at + l) * 32, words, 32);
    }
}

static void many(const blake3_job *j)
{
    size_t at = 0;

    for (; j->n - at >= 3; at += j->n - at < W ? j->n - at : W)
        some(j, at, j->n - at < W ? j->n - at : W);
    if (at < j->n) {
        blake3_job rest = *j;
        rest.in += at * j->stride;
        rest.n -= at;
        rest.counter += at * j->step;
        rest.out += at * 32;
        fs_blake3_many_scalar(&rest);
    }
}
#endif
