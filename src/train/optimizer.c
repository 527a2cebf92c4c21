/* See the header. */
#include "train/optimizer.h"

#include "kernels/math.h"

#include <string.h>

#define PI    3.14159265358979323846
#define PIECE 16384 /* elements */

fs_optimizer fs_optimizer_default(void)
{
    return (fs_optimizer){ .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 1, .beta1_t = 1, .beta2_t = 1 };
}

struct step_job {
    fs_params *p;
    const fs_kernels *k;
    const fs_optimizer *o;
    fs_adamw base; /* of no group: its lr and keep are not filled in */
    double lr;
};

static fs_adamw constants_of(const struct step_job *job, const fs_param *p)
{
    fs_adamw c = job->base;
    double lr = job->lr * p->lr_scale, decay = p->weight_decay >= 0 ? p->weight_decay : p->n_dims == 2 ? job->o->weight_decay : 0;

    c.lr = (float)lr;
    c.keep = (float)(1 - lr * decay);
    return c;
}

static void average(const fs_optimizer *o, const float *w, float *e, size_t n)
{
    float rest = (float)(1 - o->average);

    for (size_t i = 0; i < n; i++)
        e[i] = e[i] + rest * (w[i] - e[i]);
}

static void step_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct step_job *job = ud;
    size_t item = 0, first = 0;

    (void)thread;
    for (size_t i = begin; i < end; i++) { /* piece i is of the tensor in whose pieces it lies */
        const fs_param *p;
        fs_adamw c;
        size_t at, n;
        while (i >= first + (job->p->items[item].n + PIECE - 1) / PIECE)
            first += (job->p->items[item++].n + PIECE - 1) / PIECE;
        p = &job->p->items[item];
        at = (i - first) * PIECE;
        n = p->n - at < PIECE ? p->n - at : PIECE;
        if (p->fixed)
            continue;
        c = constants_of(job, p);
        job->k->grad.adamw(&c, p->g + at, p->m + at, p->v + at, p->w + at, n);
        if (p->e)
            average(job->o, p->w + at, p->e + at, n);
    }
}

void fs_optimizer_step(fs_optimizer *o, fs_params *p, fs_pool *pool, const fs_kernels *k, float grad_norm, double lr)
{
    struct step_job job = { .p = p, .k = k, .o = o, .lr = lr };
    size_t pieces = 0;

    o->step++;
    o->beta1_t = o->beta1_t * o->beta1;
    o->beta2_t = o->beta2_t * o->beta2;
    job.base = (fs_adamw){
        .clip = o->clip > 0 && (double)grad_norm > o->clip ? (float)(o->clip / (double)grad_norm) : 1.0f,
        .beta1 = (float)o->beta1, .rest1 = (float)(1 - o->beta1), .beta2 = (float)o->beta2, .rest2 = (float)(1 - o->beta2),
        .scale1 = (float)(1 / (1 - o->beta1_t)), .scale2 = (float)(1 / (1 - o->beta2_t)), .eps = (float)o->eps,
    };
    for (size_t i = 0; i < p->n; i++)
        pieces += (p->items[i].n + PIECE - 1) / PIECE;
    fs_pool_for(pool, pieces, 16, step_piece, &job);
}

bool fs_schedule_kind_named(const char *name, fs_schedule_kind *ret)
{
    static const char *const names[] = { "constant", "linear", "cosine", "wsd" };

    for (int i = 0; i < 4; i++)
        if (strcmp(names[i], name) == 0) {
            *ret = (fs_schedule_kind)i;
            return true;
        }
    return false;
}

double fs_schedule_at(const fs_schedule *s, uint64_t i)
{
    double x, sine, cosine;

    if (i < s->warmup)
        return s->lr * (double)(i + 1) / (double)s->warmup;
    if (s->kind == FS_SCHEDULE_CONSTANT || s->steps <= s->warmup)
        return s->lr;
    if (i >= s->steps)
        return s->min_lr;
    if (s->kind == FS_SCHEDULE_WSD) {
        if (i < s->steps - (s->decay < s->steps ? s->decay : s->steps))
            return s->lr;
        x = (double)(i - (s->steps - s->decay)) / (double)s->decay;
        return s->lr + (s->min_lr - s->lr) * x;
    }
    x = (double)(i - s->warmup) / (double)(s->steps - s->warmup);
    if (s->kind == FS_SCHEDULE_LINEAR)
        return s->lr + (s->min_lr - s->lr) * x;
    fs_sincos64(PI * x, &sine, &cosine);
    return s->min_lr + (s->lr - s->min_lr) * (1 + cosine) / 2;
}
