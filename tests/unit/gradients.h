/* Gradients against the loss they are of; and against another program's: {"NAME": {"l2": 1.5, "at": [0, 7], "values": [..]}} for every parameter that has one. */
#ifndef FS_TESTS_UNIT_GRADIENTS_H
#define FS_TESTS_UNIT_GRADIENTS_H

#include "unit.h"

#include "base/file.h"
#include "base/json.h"
#include "train/params.h"
#include "train/trainer.h"

#include <math.h>

/* A step's loss with the weights as they are packed; it leaves gradients. */
typedef double loss_fn(void *ud);

/* Along each parameter's gradient the loss changes by its norm. How many were long enough to be seen, *ret_counted of them with counted (may
 * be NULL) in their name. */
static inline int assert_slopes(fs_trainer *t, loss_fn *loss, void *ud, const char *what, const char *counted, int *ret_counted)
{
    static const double scales[5] = { 2e-3, 5e-4, 1e-4, 3e-5, 1e-5 }; /* a step over the border of an expert's choice is no slope */
    fs_params *p = fs_trainer_params(t);
    float *direction = malloc(p->n_floats * sizeof *direction), *kept = malloc(p->n_floats * sizeof *kept);
    int n_checked = 0;

    loss(ud);
    memcpy(direction, p->g, p->n_floats * sizeof *direction);
    memcpy(kept, p->w, p->n_floats * sizeof *kept);
    for (size_t i = 0; i < p->n; i++) {
        fs_param *item = &p->items[i];
        double norm = 0, h = 0, up = 0, down = 0;
        bool agree = false;
        for (size_t j = 0; item->g && j < item->n; j++)
            norm += (double)direction[item->offset + j] * (double)direction[item->offset + j];
        norm = sqrt(norm);
        if (norm < 0.05) /* too little to be seen in an f32 loss */
            continue;
        for (int scale = 0; scale < 5 && !agree; scale++) {
            h = (norm < 1 ? 1 / norm : 1) * scales[scale];
            for (int sign = 1; sign >= -1; sign -= 2) {
                for (size_t j = 0; j < item->n; j++)
                    item->w[j] = (float)((double)kept[item->offset + j] + sign * h * (double)direction[item->offset + j] / norm);
                fs_trainer_pack(t);
                *(sign > 0 ? &up : &down) = loss(ud);
            }
            agree = fabs((up - down) / (2 * h) - norm) < 0.02 * norm;
        }
        memcpy(item->w, kept + item->offset, item->n * sizeof *kept);
        if (!agree)
            fail_msg("%s: %s: the loss moves by %g, the gradient's norm is %g", what, item->name, (up - down) / (2 * h), norm);
        n_checked++;
        if (counted && strstr(item->name, counted))
            ++*ret_counted;
    }
    free(direction);
    free(kept);
    return n_checked;
}

static inline struct json_object *read_vectors(const char *path)
{
    struct json_object *all = NULL;
    fs_buf text = { 0 };
    fs_error err;

    assert_ok(fs_file_read(path, (size_t)1 << 24, &text, &err), err);
    assert_ok(fs_json_parse(fs_buf_bytes(&text), path, &all, &err), err);
    fs_buf_done(&text);
    return all;
}

static inline void assert_gradient(const fs_kernels *k, const fs_param *p, struct json_object *want, const char *what)
{
    struct json_object *at = fs_json_member(want, "at"), *values = fs_json_member(want, "values");
    double norm = sqrt(fs_param_grad_squares(k, p)), l2 = json_object_get_double(fs_json_member(want, "l2"));

    if (fabs(norm - l2) > 1e-4 * l2 + 1e-9)
        fail_msg("%s: %s: norm %.9g, should be %.9g", what, p->name, norm, l2);
    for (size_t j = 0; j < json_object_array_length(at); j++) {
        size_t where = (size_t)json_object_get_int64(json_object_array_get_idx(at, j));
        double value = json_object_get_double(json_object_array_get_idx(values, j));
        if (fabs((double)p->g[where] - value) > 1e-3 * fabs(value) + 1e-5 * l2 + 1e-9)
            fail_msg("%s: %s[%zu]: %.9g, should be %.9g", what, p->name, where, (double)p->g[where], value);
    }
}

/* Every parameter that has a gradient is in grads, and nothing else. */
static inline void assert_gradients(const fs_kernels *k, const fs_params *p, struct json_object *grads, const char *what)
{
    int n = 0;

    for (size_t i = 0; i < p->n; i++) {
        struct json_object *want = fs_json_member(grads, p->items[i].name);
        if (p->items[i].fixed != !want)
            fail_msg("%s: %s has %s gradient", what, p->items[i].name, want ? "no" : "a");
        if (!want)
            continue;
        assert_gradient(k, &p->items[i], want, what);
        n++;
    }
    assert_int_equal(n, json_object_object_length(grads));
}

#endif
