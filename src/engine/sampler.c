/* See the header: RN1 section 7. */
#include "engine/sampler.h"

#include "base/philox.h"
#include "kernels/math.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Probabilities are at most 1, the largest; a bucket holds those that share exponent and four bits of mantissa, bucket 0
 * the largest. */
#define BUCKET_SHIFT 19
#define N_BUCKETS    ((0x3f800000u >> BUCKET_SHIFT) + 1)
#define TOP_K_BLOCK  256 /* ids whose largest probability stands for them in a search for top-k */
#define TOP_K_SEARCH 128 /* a larger top-k looks at every id */
#define SUM_BLOCK    512 /* ids whose sum is taken at once for a draw */
#define SAMPLE       8   /* one register in so many shows about where top-p ends */
#define SAMPLE_OFF   0.15 /* and this part of what lies behind may be wrong */

struct fs_sampler {
    const fs_kernels *k;
    int32_t vocab_size;
    float *p;        /* [V] exp(z - M) */
    int32_t *ids;    /* [V] candidates, ascending */
    int32_t *ranked; /* [V] candidates by bucket; a bucket is in rank order once that has mattered */
    int32_t *count;  /* [V] of the history, zero between draws */
    double *sums;    /* [V / SUM_BLOCK + 2] of kept p before each block */
    uint32_t begin[N_BUCKETS + 1];
};

fs_status fs_sampler_new(const fs_kernels *k, int vocab_size, fs_sampler **ret, fs_error *err)
{
    fs_sampler *s = calloc(1, sizeof *s);
    size_t v = (size_t)vocab_size;

    if (!s)
        return fs_fail_memory(err, sizeof *s);
    s->k = k;
    s->vocab_size = vocab_size;
    s->p = malloc(v * sizeof *s->p);
    s->ids = malloc(v * sizeof *s->ids);
    s->ranked = malloc(v * sizeof *s->ranked);
    s->count = calloc(v, sizeof *s->count);
    s->sums = calloc(v / SUM_BLOCK + 2, sizeof *s->sums);
    if (!s->p || !s->ids || !s->ranked || !s->count || !s->sums) {
        fs_sampler_free(s);
        return fs_fail_memory(err, v * (sizeof *s->p + 3 * sizeof *s->ids));
    }
    *ret = s;
    return FS_OK;
}

void fs_sampler_free(fs_sampler *s)
{
    if (!s)
        return;
    free(s->p);
    free(s->ids);
    free(s->ranked);
    free(s->count);
    free(s->sums);
    free(s);
}

static void penalise(fs_sampler *s, const fs_sampling *o, float *logits, const int32_t *history, size_t n)
{
    size_t first = o->penalty_last_n > 0 && (size_t)o->penalty_last_n < n ? n - (size_t)o->penalty_last_n : 0;

    if (o->repetition_penalty == 1 && o->presence_penalty == 0 && o->frequency_penalty == 0)
        return;
    for (size_t i = first; i < n; i++)
        s->count[history[i]]++;
    for (size_t i = first; i < n; i++) {
        int32_t id = history[i], c = s->count[id];
        float x = logits[id];
        if (c == 0)
            continue; /* seen already */
        s->count[id] = 0;
        x = x > 0 ? x / o->repetition_penalty : x * o->repetition_penalty;
        x = x - (float)c * o->frequency_penalty;
        logits[id] = x - o->presence_penalty;
    }
}

/* a stands before b: probability descending, id ascending. */
static bool before(const fs_sampler *s, int32_t a, int32_t b)
{
    return s->p[a] > s->p[b] || (s->p[a] == s->p[b] && a < b);
}

/* Heap sort of ids into rank order. */
static void sift_down(const fs_sampler *s, int32_t *a, size_t i, size_t n)
{
    int32_t id = a[i];

    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(s, a[child], a[child + 1]))
            child++;
        if (!before(s, id, a[child]))
            break;
        a[i] = a[child];
    }
    a[i] = id;
}

static void sort_by_rank(const fs_sampler *s, int32_t *a, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(s, a, i, n);
    while (n-- > 1) {
        int32_t last = a[n];
        a[n] = a[0];
        a[0] = last;
        sift_down(s, a, 0, n);
    }
}

/* Eight floats of any target. */
typedef float v8f __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));

static v8f load(const float *x)
{
    v8f v;
    memcpy(&v, x, sizeof v);
    return v;
}

/* Eight times x. */
static v8f all(float x)
{
    return (v8f){ x, x, x, x, x, x, x, x };
}

/* The ids with floor <= p < end, ascending, into s->ids. */
static size_t collect(fs_sampler *s, float floor, float end)
{
    size_t n = 0, v = (size_t)s->vocab_size, i = 0;
    v8f f = all(floor), e = all(end);

    for (; i + 8 <= v; i += 8) {
        v8f x = load(s->p + i);
        v8i hit = (x >= f) & (x < e);
        uint64_t any[4];
        memcpy(any, &hit, sizeof any);
        if (!(any[0] | any[1] | any[2] | any[3]))
            continue;
        for (size_t j = 0; j < 8; j++) {
            s->ids[n] = (int32_t)(i + j);
            n += hit[j] != 0;
        }
    }
    for (; i < v; i++)
        if (s->p[i] >= floor && s->p[i] < end)
            s->ids[n++] = (int32_t)i;
    return n;
}

/* The sum of n of p that are at least floor, in some order. */
static double sum_above(const float *p, size_t n, float floor)
{
    typedef float v4f __attribute__((vector_size(16)));
    typedef double v4d __attribute__((vector_size(32)));
    v4d a = { 0 }, b = { 0 };
    v8f f = all(floor);
    double sum;
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        v8f x = load(p + i);
        v8i y = (v8i)x & (x >= f);
        v4f half[2];
        memcpy(half, &y, sizeof half);
        a += __builtin_convertvector(half[0], v4d);
        b += __builtin_convertvector(half[1], v4d);
    }
    a += b;
    sum = a[0] + a[1] + a[2] + a[3];
    for (; i < n; i++)
        sum += p[i] >= floor ? (double)p[i] : 0;
    return sum;
}

/* Of sums of s->p in any two orders, with a product behind: how far they may be apart. */
static double slack_of(const fs_sampler *s, double sum)
{
    return (4 * (double)s->vocab_size + 64) * 0x1p-52 * sum;
}

static size_t bucket_of(float p)
{
    uint32_t bits;
    memcpy(&bits, &p, sizeof bits);
    return N_BUCKETS - 1 - (bits >> BUCKET_SHIFT);
}

/* s->ids [n] into s->ranked, by bucket. */
static void fill_buckets(fs_sampler *s, size_t n)
{
    uint32_t at = 0;

    memset(s->begin, 0, sizeof s->begin);
    for (size_t i = 0; i < n; i++)
        s->begin[bucket_of(s->p[s->ids[i]])]++;
    for (size_t b = 0; b <= N_BUCKETS; b++) {
        uint32_t count = s->begin[b];
        s->begin[b] = at;
        at += count;
    }
    for (size_t i = 0; i < n; i++)
        s->ranked[s->begin[bucket_of(s->p[s->ids[i]])]++] = s->ids[i];
    memmove(s->begin + 1, s->begin, N_BUCKETS * sizeof *s->begin);
    s->begin[0] = 0;
}

/* Adds up p in rank order over the first limit candidates, until the sum reaches target; at least one. How many were
 * added; *ret_sum is their running binary64 sum. The order inside a bucket is looked for only where it can show: while
 * the sum is below 2^53 units of the smallest number in it, every addition is exact, in any order. */
static size_t take_prefix(fs_sampler *s, size_t limit, double target, double *ret_sum)
{
    double sum = 0;
    size_t n = 0;

    for (size_t b = 0; b < N_BUCKETS && n < limit && (n == 0 || !(sum >= target)); b++) {
        int32_t *a = s->ranked + s->begin[b];
        size_t size = s->begin[b + 1] - s->begin[b], exponent = (N_BUCKETS - 1 - b) >> (23 - BUCKET_SHIFT);
        double whole = sum, exact_below = 0;

        if (size == 0)
            continue;
        if (exponent >= 97)
            exact_below = (double)((uint64_t)1 << (exponent - 97)); /* 2^53 * 2^(exponent - 127 - 23) */
        if (size <= limit - n) {
            for (size_t i = 0; i < size; i++)
                whole += (double)s->p[a[i]];
            if (whole < exact_below && !(whole >= target)) {
                sum = whole;
                n += size;
                continue;
            }
        }
        sort_by_rank(s, a, size);
        for (size_t i = 0; i < size && n < limit && (n == 0 || !(sum >= target)); i++, n++)
            sum += (double)s->p[a[i]];
    }
    *ret_sum = sum;
    return n;
}

/* A probability that at least k ids have, or 0: of k blocks of ids, the least of the largest. */
static float top_k_floor(const fs_sampler *s, size_t k)
{
    float best[TOP_K_SEARCH]; /* falling */
    size_t n = 0, v = (size_t)s->vocab_size;

    if (k > TOP_K_SEARCH || k > v / TOP_K_BLOCK)
        return 0;
    for (size_t i = 0; i < v; i += TOP_K_BLOCK) {
        float m = s->k->rows.max(s->p + i, v - i < TOP_K_BLOCK ? v - i : TOP_K_BLOCK);
        size_t j = n < k ? n : k - 1;
        if (n == k && !(m > best[k - 1]))
            continue;
        for (; j > 0 && m > best[j - 1]; j--)
            best[j] = best[j - 1];
        best[j] = m;
        n += n < k;
    }
    return best[k - 1] > 0 ? best[k - 1] : 0;
}

/* A prefix of the rank order: p above floor, and p = floor up to the id last. cut: p = floor stands behind last, too. */
typedef struct kept {
    float floor;
    int32_t last;
    bool cut;
} kept;

static kept all_above(const fs_sampler *s, float floor)
{
    return (kept){ .floor = floor, .last = s->vocab_size - 1 };
}

/* last is one of s->ranked, which holds all ids with its p. */
static kept prefix_to(const fs_sampler *s, int32_t last)
{
    size_t b = bucket_of(s->p[last]);
    kept k = { .floor = s->p[last], .last = last };

    for (size_t i = s->begin[b]; i < s->begin[b + 1] && !k.cut; i++)
        k.cut = s->p[s->ranked[i]] == k.floor && s->ranked[i] > last;
    return k;
}

/* Of a [n], none empty: the one in rank order with which *sum reaches target, -1 if none does; *sum: without it. */
static int32_t select_by_sum(const fs_sampler *s, int32_t *a, size_t n, double target, double *sum)
{
    while (n > 0) {
        int32_t pivot = a[n / 2];
        double left = 0;
        size_t at = 0;

        a[n / 2] = a[n - 1];
        for (size_t i = 0; i + 1 < n; i++) {
            int32_t id = a[i];
            bool is_left = before(s, id, pivot);
            a[i] = a[at];
            a[at] = id;
            left += is_left ? (double)s->p[id] : 0;
            at += is_left;
        }
        a[n - 1] = a[at];
        a[at] = pivot;
        if (*sum + left >= target) {
            n = at;
            continue;
        }
        *sum += left;
        if (*sum + (double)s->p[pivot] >= target)
            return pivot;
        *sum += (double)s->p[pivot];
        a += at + 1;
        n -= at + 1;
    }
    return -1;
}

/* top-p alone, by sums in any order: whether they tell where its rank order ends. About where is seen in a part of the
 * ids; what is surely kept is summed up, and only ids about the end are looked at one by one. */
static bool end_of_top_p(fs_sampler *s, float least, float top_p, float sum, kept *ret)
{
    double share[N_BUCKETS] = { 0 }, run = 0, target = (double)top_p * (double)sum, slack = slack_of(s, (double)sum), above;
    double behind = ((double)sum - target) / SAMPLE;
    size_t v = (size_t)s->vocab_size, lo = N_BUCKETS, hi, n;
    float rest = (1 - top_p) * sum / (4 * (float)v), floor, end;
    uint32_t bits;

    if (!(sum < INFINITY))
        return false;
    for (size_t i = 0; i + 8 <= v; i += 8 * SAMPLE)
        for (size_t j = 0; j < 8; j++)
            share[bucket_of(s->p[i + j])] += (double)s->p[i + j];
    while (lo > 0 && run + share[lo - 1] < behind * (1 - SAMPLE_OFF))
        run += share[--lo];
    for (hi = lo; hi > 0 && run < behind * (1 + SAMPLE_OFF); hi--)
        run += share[hi - 1];
    bits = (uint32_t)(N_BUCKETS - hi) << BUCKET_SHIFT; /* where bucket hi ends, and lo - 1 begins */
    memcpy(&end, &bits, sizeof end);
    bits = (uint32_t)(N_BUCKETS - lo) << BUCKET_SHIFT;
    memcpy(&floor, &bits, sizeof floor);
    floor = floor > rest ? floor : rest;
    floor = floor > least ? floor : least;
    above = sum_above(s->p, v, end);
    if (!(above < target - slack))
        return false;
    n = collect(s, floor, end);
    fill_buckets(s, n);
    for (size_t b = 0; b < N_BUCKETS; b++) {
        size_t size = s->begin[b + 1] - s->begin[b];
        int32_t *a = s->ranked + s->begin[b], last;
        double whole = above;
        for (size_t i = 0; i < size; i++)
            whole += (double)s->p[a[i]];
        if (whole < target) {
            above = whole;
            continue;
        }
        last = select_by_sum(s, a, size, target, &above);
        if (last < 0 || !(above < target - slack && above + (double)s->p[last] >= target + slack))
            return false;
        *ret = prefix_to(s, last);
        return true;
    }
    return false;
}

/* sum: order B sum of s->p. */
static kept truncate_set(fs_sampler *s, const fs_sampling *o, float sum)
{
    float least = o->min_p > 0x1p-149f ? o->min_p : 0x1p-149f, floor = 0;
    size_t n, n_kept;
    double total = (double)sum, running;
    int32_t last;
    kept k;

    /* Only the likeliest need be looked at: k of them, or those without which less than top-p's rest is missing. */
    if (o->top_k > 0)
        floor = top_k_floor(s, (size_t)o->top_k);
    else if (o->top_p >= 1)
        return all_above(s, least);
    else if (end_of_top_p(s, least, o->top_p, sum, &k))
        return k;
    else
        floor = (1 - o->top_p) * sum / (4 * (float)s->vocab_size);
    for (;; floor = 0) {
        bool whole = !(floor > least);
        size_t limit;
        n = collect(s, whole ? least : floor, INFINITY);
        limit = o->top_k > 0 && (size_t)o->top_k < n ? (size_t)o->top_k : n;
        if (whole && (n == 0 || (limit == n && o->top_p >= 1)))
            return all_above(s, least);
        if (n == 0)
            continue;
        fill_buckets(s, n);
        n_kept = take_prefix(s, limit, o->top_k > 0 || o->top_p >= 1 ? (double)INFINITY : (double)o->top_p * total, &running);
        if (whole || (o->top_k > 0 ? limit == (size_t)o->top_k : running >= (double)o->top_p * total))
            break;
    }
    if (o->top_k > 0 && o->top_p < 1) { /* top-p of what top-k left */
        total = running;
        n_kept = take_prefix(s, n_kept, (double)o->top_p * total, &running);
    }
    last = s->ranked[n_kept - 1];
    for (size_t i = n_kept; i-- > 0 && bucket_of(s->p[s->ranked[i]]) == bucket_of(s->p[last]);)
        if (before(s, last, s->ranked[i]))
            last = s->ranked[i];
    return prefix_to(s, last);
}

static bool is_kept(const fs_sampler *s, kept k, size_t i)
{
    return s->p[i] > k.floor || (s->p[i] == k.floor && i <= (size_t)k.last);
}

/* The draw by sums of blocks, where they tell it; else -1. */
static int32_t draw_by_blocks(const fs_sampler *s, kept k, double u)
{
    size_t v = (size_t)s->vocab_size, n_blocks = (v + SUM_BLOCK - 1) / SUM_BLOCK, b = 0;
    double sum = 0, target, slack;

    if (k.cut)
        return -1;
    for (size_t i = 0; i < n_blocks; i++) {
        s->sums[i] = sum;
        sum += sum_above(s->p + i * SUM_BLOCK, v - i * SUM_BLOCK < SUM_BLOCK ? v - i * SUM_BLOCK : SUM_BLOCK, k.floor);
    }
    s->sums[n_blocks] = sum;
    target = u * sum;
    slack = slack_of(s, sum);
    while (b < n_blocks && !(s->sums[b + 1] > target))
        b++;
    if (b == n_blocks)
        return -1;
    sum = s->sums[b];
    for (size_t i = b * SUM_BLOCK; i < v && i < (b + 1) * SUM_BLOCK; i++) {
        double next = sum + (is_kept(s, k, i) ? (double)s->p[i] : 0);
        if (next > target)
            return next > target + slack && sum <= target - slack ? (int32_t)i : -1;
        sum = next;
    }
    return -1;
}

/* Inverse CDF over the kept ids: the first whose running sum is above u times the whole, else the last that has weight;
 * -1: none has. */
static int32_t draw_from(const fs_sampler *s, kept k, double u)
{
    size_t v = (size_t)s->vocab_size;
    int32_t choice = draw_by_blocks(s, k, u);
    double sum = 0, target;

    if (choice >= 0)
        return choice;
    for (size_t i = 0; i < v; i++)
        sum += is_kept(s, k, i) ? (double)s->p[i] : 0;
    target = u * sum;
    sum = 0;
    for (size_t i = 0; i < v; i++) {
        sum += is_kept(s, k, i) ? (double)s->p[i] : 0;
        if (sum > target)
            return (int32_t)i;
    }
    for (size_t i = v; i-- > 0;)
        if (is_kept(s, k, i) && s->p[i] > 0)
            return (int32_t)i;
    return -1;
}

/* y = fl(x / d), then y = fl(x - d). */
static void divide(float *x, float d, size_t n)
{
    v8f by = all(d);
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        v8f y = load(x + i) / by;
        memcpy(x + i, &y, sizeof y);
    }
    for (; i < n; i++)
        x[i] = x[i] / d;
}

static void subtract(const float *x, float d, float *y, size_t n)
{
    v8f by = all(d);
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        v8f z = load(x + i) - by;
        memcpy(y + i, &z, sizeof z);
    }
    for (; i < n; i++)
        y[i] = x[i] - d;
}

int32_t fs_sampler_draw(fs_sampler *s, const fs_sampling *o, uint32_t stream, uint32_t position, float *logits,
                        const int32_t *history, size_t n_history, float *ret_logprob)
{
    const fs_rows_kernels *rows = &s->k->rows;
    size_t v = (size_t)s->vocab_size;
    bool truncated = o->top_k > 0 || o->top_p < 1 || o->min_p > 0;
    uint32_t counter[4] = { stream, 0, position, 0 }, key[2] = { (uint32_t)o->seed, (uint32_t)(o->seed >> 32) }, r[4];
    float max, sum;
    int32_t choice;

    penalise(s, o, logits, history, n_history);
    if (o->temperature > 0 && o->temperature != 1)
        divide(logits, o->temperature, v);
    if (o->temperature <= 0 && !ret_logprob)
        return (int32_t)rows->argmax(logits, v);
    max = rows->max(logits, v);
    subtract(logits, max, s->p, v);
    rows->exp(s->p, s->p, v);
    sum = rows->sum(s->p, v);
    if (o->temperature <= 0) {
        choice = (int32_t)rows->argmax(logits, v);
    } else {
        kept k = truncated ? truncate_set(s, o, sum) : all_above(s, 0);
        fs_philox(counter, key, r);
        choice = draw_from(s, k, (double)(((uint64_t)r[0] << 21) ^ (r[1] >> 11)) * 0x1p-53);
    }
    if (choice < 0) /* an infinity among the logits leaves no distribution; the likeliest token is still known */
        choice = (int32_t)rows->argmax(logits, v);
    if (ret_logprob)
        *ret_logprob = (logits[choice] - max) - fs_logf(sum);
    return choice;
}
