/* Masters as operands of products: panels of rows for x W^T, panels of columns for y W. */
#include "train/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PACK_PANELS 32 /* of one piece */

struct fs_pack_item {
    const fs_operand *operand;
    uint32_t begin, end; /* panels */
    bool cols;
};

fs_status fs_operand_add(fs_trainer *t, fs_operand *ret, fs_param *p, uint32_t row0, uint32_t n, fs_error *err)
{
    if (t->n_operands == t->operands_capacity) {
        size_t capacity = t->operands_capacity ? 2 * t->operands_capacity : 64;
        fs_operand **list = realloc(t->operands, capacity * sizeof *list);
        if (!list)
            return fs_fail_memory(err, capacity * sizeof *list);
        t->operands = list;
        t->operands_capacity = capacity;
    }
    *ret = (fs_operand){ .p = p, .row0 = row0, .n = n, .k = p->cols, .pairs = t->options.bf16 };
    t->operands[t->n_operands++] = ret;
    return FS_OK;
}

fs_status fs_lin_init(fs_trainer *t, fs_lin *ret, const char *prefix, const char *name, fs_error *err)
{
    char full[192];
    fs_param *w;
    fs_status rc;

    snprintf(full, sizeof full, "%s%s.bias", prefix, name);
    ret->bias = fs_params_find(t->params, full);
    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    w = fs_params_find(t->params, full);
    if (!w)
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' is missing", full);
    full[strlen(full) - strlen(".weight")] = 0;
    rc = fs_low_rank_init(t, &ret->low, full, err);
    return rc ? rc : fs_operand_add(t, &ret->w, w, 0, w->rows, err);
}

static bool take(size_t *at, const fs_operand *o, uint32_t n, uint32_t k)
{
    size_t bytes;

    return (o->pairs ? fs_mat_pairs_bytes(n, k, &bytes) : fs_mat_bytes(FS_DTYPE_F32, n, k, 0, 0, &bytes)) && fs_add_size(*at, bytes, at);
}

static void place(const fs_trainer *t, const fs_operand *o, fs_mat *ret, uint32_t n, uint32_t k, size_t *at)
{
    if (o->pairs)
        fs_mat_init_pairs(ret, n, k, t->packed + *at);
    else
        fs_mat_init_f32(ret, FS_DTYPE_F32, n, k, t->packed + *at);
    take(at, o, n, k);
}

static void list_items(fs_trainer *t, const fs_operand *o, bool cols)
{
    size_t panels = fs_mat_panels(cols ? &o->cols : &o->rows);

    for (size_t p = 0; p < panels; p += PACK_PANELS, t->n_pack_items++)
        if (t->pack_items)
            t->pack_items[t->n_pack_items] =
                (struct fs_pack_item){ o, (uint32_t)p, (uint32_t)(panels - p < PACK_PANELS ? panels : p + PACK_PANELS), cols };
}

static void list_all(fs_trainer *t)
{
    t->n_pack_items = 0;
    for (size_t i = 0; i < t->n_operands; i++) {
        list_items(t, t->operands[i], false);
        list_items(t, t->operands[i], true);
    }
}

fs_status fs_operands_plan(fs_trainer *t, fs_error *err)
{
    size_t n_bytes = 0, at = 0;

    for (size_t i = 0; i < t->n_operands; i++)
        if (!take(&n_bytes, t->operands[i], t->operands[i]->n, t->operands[i]->k) ||
            !take(&n_bytes, t->operands[i], t->operands[i]->k, t->operands[i]->n))
            return fs_fail(err, FS_ERR_FORMAT, "the operands of tensor '%s' would not fit in the address space", t->operands[i]->p->name);
    t->packed = fs_alloc_lazy(n_bytes);
    if (!t->packed)
        return fs_fail_memory(err, n_bytes);
    t->packed_bytes = n_bytes;
    for (size_t i = 0; i < t->n_operands; i++) {
        fs_operand *o = t->operands[i];
        place(t, o, &o->rows, o->n, o->k, &at);
        place(t, o, &o->cols, o->k, o->n, &at);
    }
    list_all(t);
    t->pack_items = malloc(t->n_pack_items * sizeof *t->pack_items);
    if (!t->pack_items)
        return fs_fail_memory(err, t->n_pack_items * sizeof *t->pack_items);
    list_all(t);
    return FS_OK;
}

void fs_operands_done(fs_trainer *t)
{
    free(t->operands);
    free(t->pack_items);
    fs_free_lazy(t->packed, t->packed_bytes);
}

struct pack_job {
    const fs_trainer *t;
    bool merged, trained; /* only those */
};

static void pack_piece(void *ud, size_t begin, size_t end, int thread)
{
    const struct pack_job *job = ud;
    const fs_trainer *t = job->t;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const struct fs_pack_item *item = &t->pack_items[i];
        const fs_operand *o = item->operand;
        const float *w = (o->merged ? o->merged->values : o->p->w) + (size_t)o->row0 * o->k;
        if (!o->merged != !job->merged || (job->trained && o->p->frozen && !o->merged))
            continue;
        if (o->pairs && item->cols)
            fs_mat_pack_pair_columns(&o->cols, &t->kernels->pairs, w, o->k, NULL, item->begin, item->end);
        else if (o->pairs)
            fs_mat_pack_pairs(&o->rows, &t->kernels->pairs, w, o->k, item->begin, item->end);
        else if (item->cols)
            fs_mat_pack_columns(&o->cols, w, o->k, NULL, item->begin, item->end);
        else
            fs_mat_pack_f32(&o->rows, w, o->k, item->begin, item->end);
    }
}

static void pack(fs_trainer *t, bool trained)
{
    struct pack_job job = { t, false, trained };

    fs_pool_for(t->pool, t->n_pack_items, 4, pack_piece, &job);
    for (uint32_t i = 0; i < t->n_layers; i++)
        if (t->layers[i].kv_b) {
            fs_merged_pack(t, t->layers[i].kv_b);
            job.merged = true;
        }
    if (job.merged)
        fs_pool_for(t->pool, t->n_pack_items, 4, pack_piece, &job);
}

void fs_trainer_pack(fs_trainer *t)
{
    pack(t, false);
}

void fs_trainer_pack_trained(fs_trainer *t)
{
    pack(t, true);
}
