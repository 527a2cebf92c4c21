/* See the header: RN1 section 7. */
#include "engine/sampler.h"

#include "kernels/math.h"

#include <stdlib.h>
#include <string.h>

struct fs_sampler {
    const fs_kernels *k;
    int32_t vocab_size;
    float *p;       /* [V] exp(z - M) */
    int32_t *heap;  /* [V] candidate ids */
    int32_t *count; /* [V] of the history, zero between draws */
    uint8_t *kept;  /* [V] zero between draws */
};

void fs_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t ret[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];

    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    ret[0] = c0;
    ret[1] = c1;
    ret[2] = c2;
    ret[3] = c3;
}

fs_status fs_sampler_new(const fs_kernels *k, int vocab_size, fs_sampler **ret, fs_error *err)
{
    fs_sampler *s = calloc(1, sizeof *s);
    size_t v = (size_t)vocab_size;

    if (!s)
        return fs_fail_memory(err, sizeof *s);
    s->k = k;
    s->vocab_size = vocab_size;
    s->p = malloc(v * sizeof *s->p);
    s->heap = malloc(v * sizeof *s->heap);
    s->count = calloc(v, sizeof *s->count);
    s->kept = calloc(v, 1);
    if (!s->p || !s->heap || !s->count || !s->kept) {
        fs_sampler_free(s);
        return fs_fail_memory(err, v * (sizeof *s->p + sizeof *s->heap + sizeof *s->count + 1));
    }
    *ret = s;
    return FS_OK;
}

void fs_sampler_free(fs_sampler *s)
{
    if (!s)
        return;
    free(s->p);
    free(s->heap);
    free(s->count);
    free(s->kept);
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

static void sift_down(const fs_sampler *s, size_t i, size_t n)
{
    int32_t id = s->heap[i];

    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(s, s->heap[child + 1], s->heap[child]))
            child++;
        if (!before(s, s->heap[child], id))
            break;
        s->heap[i] = s->heap[child];
    }
    s->heap[i] = id;
}

/* Marks the kept set in s->kept. sum: order B sum of s->p. */
static void truncate_set(fs_sampler *s, const fs_sampling *o, float sum)
{
    size_t n = 0, n_kept, k;
    double total = (double)sum, running = 0;

    for (int32_t i = 0; i < s->vocab_size; i++)
        if (s->p[i] > 0 && s->p[i] >= o->min_p) /* the largest p is exp(0) = 1 */
            s->heap[n++] = i;
    for (size_t i = n / 2; i-- > 0;)
        sift_down(s, i, n);
    k = o->top_k > 0 && (size_t)o->top_k < n ? (size_t)o->top_k : n;
    /* Pop in rank order; popped ids gather at the end of the array, the first one last. */
    for (n_kept = 0; n_kept < k; n_kept++) {
        int32_t id = s->heap[0];
        if (o->top_k <= 0 && o->top_p < 1 && n_kept > 0 && running >= (double)o->top_p * total)
            break; /* without top-k the mass is that of the whole distribution */
        running += (double)s->p[id];
        n--;
        s->heap[0] = s->heap[n];
        s->heap[n] = id;
        if (n)
            sift_down(s, 0, n);
    }
    if (o->top_k > 0 && o->top_p < 1) { /* top-p of what top-k left */
        size_t first = n + n_kept;
        total = running;
        running = 0;
        for (k = 0; k < n_kept && (k == 0 || running < (double)o->top_p * total); k++)
            running += (double)s->p[s->heap[first - 1 - k]];
        n += n_kept - k;
        n_kept = k;
    }
    for (size_t i = 0; i < n_kept; i++)
        s->kept[s->heap[n + i]] = 1;
}

int32_t fs_sampler_draw(fs_sampler *s, const fs_sampling *o, uint32_t stream, uint32_t position, float *logits,
                        const int32_t *history, size_t n_history, float *ret_logprob)
{
    const fs_rows_kernels *rows = &s->k->rows;
    size_t v = (size_t)s->vocab_size;
    bool truncated = o->top_k > 0 || o->top_p < 1 || o->min_p > 0;
    uint32_t counter[4] = { stream, 0, position, 0 }, key[2] = { (uint32_t)o->seed, (uint32_t)(o->seed >> 32) }, r[4];
    float max, sum;
    double total = 0, running = 0, target;
    int32_t choice = -1;

    penalise(s, o, logits, history, n_history);
    if (o->temperature > 0 && o->temperature != 1)
        for (size_t i = 0; i < v; i++)
            logits[i] = logits[i] / o->temperature;
    if (o->temperature <= 0 && !ret_logprob)
        return (int32_t)rows->argmax(logits, v);
    max = rows->max(logits, v);
    for (size_t i = 0; i < v; i++)
        s->p[i] = logits[i] - max;
    rows->exp(s->p, s->p, v);
    sum = rows->sum(s->p, v);
    if (o->temperature <= 0) {
        choice = (int32_t)rows->argmax(logits, v);
    } else {
        if (truncated)
            truncate_set(s, o, sum);
        for (size_t i = 0; i < v; i++)
            if (!truncated || s->kept[i])
                total += (double)s->p[i];
        fs_philox(counter, key, r);
        target = (double)(((uint64_t)r[0] << 21) ^ (r[1] >> 11)) * 0x1p-53 * total;
        for (size_t i = 0; i < v; i++) {
            if (truncated && !s->kept[i])
                continue;
            if (s->p[i] > 0)
                choice = (int32_t)i; /* rounding may leave target at the total: the last one with weight */
            running += (double)s->p[i];
            if (running > target)
                break;
        }
        if (truncated)
            memset(s->kept, 0, v);
    }
    if (choice < 0) /* an infinity among the logits leaves no distribution; the likeliest token is still known */
        choice = (int32_t)rows->argmax(logits, v);
    if (ret_logprob)
        *ret_logprob = (logits[choice] - max) - fs_logf(sum);
    return choice;
}
