/* See the header. */
#include "text/ids.h"

#include <stdlib.h>
#include <string.h>

void fs_ids_done(fs_ids *l)
{
    if (!l)
        return;
    free(l->data);
    *l = (fs_ids){ 0 };
}

static fs_status reserve(fs_ids *l, size_t extra, fs_error *err)
{
    size_t need, cap, bytes;
    int32_t *p;

    if (!fs_add_size(l->n, extra, &need))
        return fs_fail_memory(err, extra);
    if (need <= l->capacity)
        return FS_OK;
    cap = l->capacity + l->capacity / 2;
    if (cap < need)
        cap = need;
    if (cap < 64)
        cap = 64;
    if (!fs_mul_size(cap, sizeof *p, &bytes))
        return fs_fail_memory(err, cap);
    p = realloc(l->data, bytes);
    if (!p)
        return fs_fail_memory(err, bytes);
    l->data = p;
    l->capacity = cap;
    return FS_OK;
}

fs_status fs_ids_push(fs_ids *l, int32_t id, fs_error *err)
{
    if (l->n == l->capacity) {
        fs_status rc = reserve(l, 1, err);
        if (rc)
            return rc;
    }
    l->data[l->n++] = id;
    return FS_OK;
}

fs_status fs_ids_append(fs_ids *l, const int32_t *ids, size_t n, fs_error *err)
{
    fs_status rc = reserve(l, n, err);

    if (rc)
        return rc;
    if (n)
        memcpy(l->data + l->n, ids, n * sizeof *ids);
    l->n += n;
    return FS_OK;
}
