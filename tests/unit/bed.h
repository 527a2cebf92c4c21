/* A trainer of a fixture of tests/vectors, with the fixture's weights. */
#ifndef FS_TESTS_UNIT_BED_H
#define FS_TESTS_UNIT_BED_H

#include "unit.h"

#include "train/trainer.h"

struct bed {
    fs_pool *pool;
    fs_kernels kernels;
    fs_weights *weights;
    fs_trainer *t;
    fs_params *p; /* the trainer's */
};

static inline fs_status open_bed(struct bed *b, const char *fixture, int threads, unsigned isa, fs_trainer_options o, fs_error *err)
{
    char path[128];
    fs_status rc;

    *b = (struct bed){ 0 };
    snprintf(path, sizeof path, "tests/vectors/%s", fixture);
    fs_kernels_init(&b->kernels, isa);
    rc = fs_pool_new(threads, &b->pool, err);
    if (!rc)
        rc = fs_weights_open(path, &b->weights, err);
    if (!rc)
        rc = fs_trainer_new(fs_weights_config(b->weights), b->pool, &b->kernels, &o, &b->t, err);
    if (rc)
        return rc;
    b->p = fs_trainer_params(b->t);
    rc = fs_params_load(b->p, b->weights, err);
    if (!rc)
        fs_trainer_pack(b->t);
    return rc;
}

static inline void close_bed(struct bed *b)
{
    fs_trainer_free(b->t);
    fs_weights_close(b->weights);
    fs_pool_free(b->pool);
}

#endif
