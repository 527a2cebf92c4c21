/* The router of RN1 section 5. */
#include "models/route.h"

#include "kernels/math.h"

#include <math.h>
#include <string.h>

/* sqrt(softplus(x)), softplus as in RN1 section 3. */
static void sqrt_softplus(float *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        float log_part = fs_log1pf(fs_expf(-fabsf(s[i])));
        s[i] = sqrtf((s[i] > 0 ? s[i] : 0) + log_part);
    }
}

void fs_route_scores(const fs_config *c, const fs_rows_kernels *rows, float *s)
{
    uint32_t n = c->n_routed_experts;

    if (c->scoring_func == FS_SCORING_SIGMOID)
        rows->sigmoid(s, s, n);
    else if (c->scoring_func == FS_SCORING_SQRTSOFTPLUS)
        sqrt_softplus(s, n);
    else
        rows->softmax(s, s, n);
}

static uint32_t argmax(const float *x, uint32_t n)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

/* A group's worth: V3 adds its two best, the larger first; V2 takes its best. */
static float group_score(const fs_config *c, const float *b, uint32_t n)
{
    uint32_t first = argmax(b, n);
    float second = -INFINITY;

    if (c->topk_method != FS_TOPK_NOAUX_TC || n == 1)
        return b[first];
    for (uint32_t i = 0; i < n; i++)
        if (i != first && b[i] > second)
            second = b[i];
    return b[first] + second;
}

/* Leaves b only in the topk_group best groups: those before which fewer than topk_group others stand, by score
 * descending and index ascending. */
static void keep_groups(const fs_config *c, float *b, float *scores)
{
    uint32_t n = c->n_routed_experts / c->n_group;

    for (uint32_t g = 0; g < c->n_group; g++)
        scores[g] = group_score(c, b + g * n, n);
    for (uint32_t g = 0; g < c->n_group; g++) {
        uint32_t before = 0;
        for (uint32_t o = 0; o < c->n_group; o++)
            before += scores[o] > scores[g] || (scores[o] == scores[g] && o < g);
        for (uint32_t i = 0; i < n && before >= c->topk_group; i++)
            b[g * n + i] = -INFINITY;
    }
}

void fs_route_choose(const fs_config *c, const fs_rows_kernels *rows, const float *s, const float *bias, int32_t *ids, float *scratch)
{
    uint32_t n = c->n_routed_experts, k = c->num_experts_per_tok;
    float *b = scratch, *groups = scratch + n;

    if (c->topk_method == FS_TOPK_NOAUX_TC)
        rows->add(s, bias, b, n);
    else
        memcpy(b, s, n * sizeof *b);
    if (c->topk_method != FS_TOPK_GREEDY && c->n_group > 1)
        keep_groups(c, b, groups);
    for (uint32_t i = 0; i < k; i++) { /* insertion keeps ids ascending */
        uint32_t e = argmax(b, n), j = i;
        b[e] = -INFINITY;
        for (; j > 0 && ids[j - 1] > (int32_t)e; j--)
            ids[j] = ids[j - 1];
        ids[j] = (int32_t)e;
    }
}

void fs_route_weigh(const fs_config *c, const float *s, const int32_t *ids, float *w)
{
    uint32_t k = c->num_experts_per_tok;
    float sum = 0;

    for (uint32_t i = 0; i < k; i++)
        sum = sum + s[ids[i]];
    sum = sum + 1e-20f;
    for (uint32_t i = 0; i < k; i++) {
        float p = s[ids[i]], scaling = (float)c->routed_scaling_factor;
        if (!c->norm_topk_prob)
            w[i] = p * scaling;
        else /* V2's code scales only what it did not normalise */
            w[i] = c->topk_method == FS_TOPK_NOAUX_TC ? p / sum * scaling : p / sum;
    }
}
