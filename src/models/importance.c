/* See the header. */
#include "models/importance.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

struct fs_importance {
    fs_importance_input *inputs;
    size_t n, capacity;
};

fs_status fs_importance_new(fs_importance **ret, fs_error *err)
{
    *ret = calloc(1, sizeof **ret);
    return *ret ? FS_OK : fs_fail_memory(err, sizeof **ret);
}

void fs_importance_free(fs_importance *x)
{
    if (!x)
        return;
    for (size_t i = 0; i < x->n; i++) {
        free(x->inputs[i].sums);
        free(x->inputs[i].counts);
    }
    free(x->inputs);
    free(x);
}

size_t fs_importance_n(const fs_importance *x)
{
    return x->n;
}

const fs_importance_input *fs_importance_at(const fs_importance *x, size_t i)
{
    return &x->inputs[i];
}

fs_status fs_importance_add(fs_importance *x, const char *prefix, const char *name, const char *other, uint32_t n, uint32_t k, uint32_t *ret,
                            fs_error *err)
{
    fs_importance_input *in;
    size_t n_sums;

    if (x->n == x->capacity) {
        size_t capacity = x->capacity ? 2 * x->capacity : 64;
        fs_importance_input *more = realloc(x->inputs, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        x->inputs = more;
        x->capacity = capacity;
    }
    if (!fs_mul_size(n, k, &n_sums))
        return fs_fail_memory(err, SIZE_MAX);
    in = &x->inputs[x->n];
    *in = (fs_importance_input){ .n = n, .k = k, .sums = calloc(n_sums, sizeof(double)), .counts = calloc(n, sizeof(uint64_t)) };
    if (!in->sums || !in->counts) {
        free(in->sums);
        free(in->counts);
        return fs_fail_memory(err, n_sums * sizeof(double));
    }
    snprintf(in->names[0], sizeof in->names[0], "%s%s.weight", prefix, name);
    if (other)
        snprintf(in->names[1], sizeof in->names[1], "%s%s.weight", prefix, other);
    *ret = (uint32_t)++x->n;
    return FS_OK;
}

/* A square of an f32 is exact in binary64; what rounds is the sum, in the order of the rows. */
static void add_rows(double *sums, const float *x, size_t ldx, size_t m, size_t begin, size_t end)
{
    for (size_t t = 0; t < m; t++)
        for (size_t c = begin; c < end; c++) {
            double v = (double)x[t * ldx + c];
            sums[c] += v * v;
        }
}

struct see_job {
    fs_importance_input *in;
    uint32_t matrix;
    const float *x;
    size_t ldx, m;
    const uint32_t *matrices, *begin;
    bool one_row;
};

static void columns_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct see_job *job = ud;

    (void)thread;
    add_rows(job->in->sums + (size_t)job->matrix * job->in->k, job->x, job->ldx, job->m, begin, end);
}

void fs_importance_see(fs_importance *imp, fs_pool *pool, uint32_t id, uint32_t i, const float *x, size_t ldx, size_t m)
{
    struct see_job job = { .matrix = i, .x = x, .ldx = ldx, .m = m };

    if (!id)
        return;
    job.in = &imp->inputs[id - 1];
    job.in->counts[i] += m;
    fs_pool_for(pool, job.in->k, 64, columns_piece, &job);
}

static void groups_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct see_job *job = ud;

    (void)thread;
    for (size_t j = begin; j < end; j++) {
        uint32_t e = job->matrices[j], first = job->begin[e];
        size_t m = job->begin[e + 1] - first;
        job->in->counts[e] += m;
        add_rows(job->in->sums + (size_t)e * job->in->k, job->one_row ? job->x : job->x + first * job->ldx, job->ldx, m, 0, job->in->k);
    }
}

void fs_importance_see_groups(fs_importance *imp, fs_pool *pool, uint32_t id, const uint32_t *matrices, uint32_t n, const uint32_t *begin,
                              const float *x, size_t ldx, bool one_row)
{
    struct see_job job = { .x = x, .ldx = ldx, .matrices = matrices, .begin = begin, .one_row = one_row };

    if (!id)
        return;
    job.in = &imp->inputs[id - 1];
    fs_pool_for(pool, n, 1, groups_piece, &job);
}
