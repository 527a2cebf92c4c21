/* See the header. */
#include "train/optimizer.h"

#include "train/muon.h"

#define PIECE 16384 /* elements */

fs_status fs_optimizer_prepare(const fs_optimizer *o, fs_params *p, fs_pool *pool, fs_error *err)
{
    return o->muon ? fs_muon_prepare(p, fs_pool_threads(pool), err) : FS_OK;
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
        if (p->fixed || p->muon)
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
    fs_muon_step muon = { .momentum = (float)o->momentum, .lr = lr, .weight_decay = o->weight_decay, .average = o->average };
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
    muon.clip = job.base.clip;
    fs_muon_step_all(&muon, p, pool, k);
}
