/* Gradients against another program's: {"NAME": {"l2": 1.5, "at": [0, 7], "values": [..]}} for every parameter that has one. */
#ifndef FS_TESTS_UNIT_GRADIENTS_H
#define FS_TESTS_UNIT_GRADIENTS_H

#include "unit.h"

#include "base/file.h"
#include "base/json.h"
#include "train/params.h"

#include <math.h>

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
