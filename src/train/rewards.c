/* See the header. */
#include "train/rewards.h"

#include "kernels/math.h"

#include <stdlib.h>
#include <string.h>

#define PI 3.141592653589793

static fs_bytes rest(fs_bytes s, size_t at)
{
    return (fs_bytes){ s.data + at, s.n_bytes - at };
}

/* Where word is; n_bytes of s when it is not there. */
static size_t find(fs_bytes s, const char *word)
{
    const uint8_t *p = s.n_bytes ? memmem(s.data, s.n_bytes, word, strlen(word)) : NULL;

    return p ? (size_t)(p - s.data) : s.n_bytes;
}

/* Occurrences that do not overlap. */
static size_t count(fs_bytes s, const char *word)
{
    size_t n = 0, at;

    while ((at = find(s, word)) < s.n_bytes) {
        s = rest(s, at + strlen(word));
        n++;
    }
    return n;
}

double fs_reward_think(fs_bytes completion)
{
    return find(completion, "<think>") == 0 && count(completion, "<think>") == 1 && count(completion, "</think>") > 0 ? 1 : 0;
}

double fs_reward_think_answer(fs_bytes completion)
{
    static const char *const marks[] = { "<think>", "</think>", "<answer>", "</answer>" };
    fs_bytes s = fs_bytes_trim(completion, FS_SPACES);

    for (int i = 0; i < 4; i++) {
        size_t at = find(s, marks[i]);
        if (count(completion, marks[i]) != 1 || at == s.n_bytes || (i % 2 == 0 && at != 0))
            return 0;
        s = rest(s, at + strlen(marks[i]));
        if (i % 2 == 1) /* between thinking and answer, and behind it, there is nothing */
            s = fs_bytes_trim(s, FS_SPACES);
    }
    return s.n_bytes == 0 ? 1 : 0;
}

double fs_reward_tags(fs_bytes completion)
{
    static const char *const marks[] = { "<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>" };
    double sum = 0;

    for (int i = 0; i < 4; i++)
        sum += count(completion, marks[i]) == 1 ? 0.25 : 0;
    return sum;
}

double fs_reward_overlong(size_t n_tokens, size_t max_tokens, size_t cache_tokens)
{
    size_t free_tokens = cache_tokens < max_tokens ? max_tokens - cache_tokens : 0;

    if (n_tokens <= free_tokens)
        return 0;
    return n_tokens > max_tokens ? -1 : -(double)(n_tokens - free_tokens) / (double)cache_tokens;
}

/* ---- repetition ---- */

static int by_ids(const void *a, const void *b, void *n)
{
    const int32_t *const *x = a, *const *y = b;

    return memcmp(*x, *y, *(size_t *)n * sizeof **x);
}

fs_status fs_reward_repetition(const int32_t *ids, size_t n_ids, size_t n, double penalty, double *ret, fs_error *err)
{
    size_t total = n > 0 && n_ids >= n ? n_ids - n + 1 : 0, different = 0;
    const int32_t **grams;

    *ret = 0;
    if (total == 0)
        return FS_OK;
    grams = malloc(total * sizeof *grams);
    if (!grams)
        return fs_fail_memory(err, total * sizeof *grams);
    for (size_t i = 0; i < total; i++)
        grams[i] = ids + i;
    qsort_r(grams, total, sizeof *grams, by_ids, &n);
    for (size_t i = 0; i < total; i++)
        different += i == 0 || by_ids(&grams[i - 1], &grams[i], &n) != 0;
    free(grams);
    if (different < total)
        *ret = (1 - (double)different / (double)total) * penalty;
    return FS_OK;
}

/* ---- length ---- */

double fs_reward_cosine(const fs_cosine_reward *c, size_t n_tokens, bool right)
{
    double progress = n_tokens < c->max_tokens ? (double)n_tokens / (double)c->max_tokens : 1, sine, cosine;
    double at_end = right ? c->right_long : c->wrong_long, at_begin = right ? c->right_short : c->wrong_short;

    fs_sincos64(progress * PI, &sine, &cosine);
    return at_end + 0.5 * (at_begin - at_end) * (1 + cosine);
}

void fs_reward_lengths(const size_t *n_tokens, const bool *right, size_t n, double *ret)
{
    size_t shortest = SIZE_MAX, longest = 0;

    for (size_t i = 0; i < n; i++) {
        shortest = n_tokens[i] < shortest ? n_tokens[i] : shortest;
        longest = n_tokens[i] > longest ? n_tokens[i] : longest;
    }
    for (size_t i = 0; i < n; i++) {
        double l = longest > shortest ? 0.5 - (double)(n_tokens[i] - shortest) / (double)(longest - shortest) : 0;
        ret[i] = right[i] || l < 0 ? l : 0;
    }
}
