/* What a recipe says of an optimiser and of its rate: the part of optimizer.h that moves nothing. */
#include "train/optimizer.h"

#include "kernels/math.h"

#include <string.h>

#define PI 3.14159265358979323846

fs_optimizer fs_optimizer_default(void)
{
    return (fs_optimizer){ .momentum = 0.95, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 1, .beta1_t = 1, .beta2_t = 1 };
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
