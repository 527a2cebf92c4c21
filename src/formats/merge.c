/* See the header. */
#include "formats/merge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES_MAX 256
#define CHUNK          256 /* of A256 */

struct fs_merge {
    const fs_kernels *kernels;
    struct part {
        fs_adapter *adapter;
        float factor;
        char *folder; /* for sentences */
    } *parts;
    size_t n;
};

struct fs_merge_rows {
    const fs_kernels *kernels;
    struct pair {
        float *a, *b; /* [r, in], [out, r] */
        size_t r;
        float scale;
    } *pairs;
    size_t n, in;
    float *chunk, *sum; /* [in] */
};

fs_status fs_merge_new(const fs_kernels *kernels, fs_merge **ret, fs_error *err)
{
    fs_merge *m = calloc(1, sizeof *m);

    if (!m)
        return fs_fail_memory(err, sizeof *m);
    m->kernels = kernels;
    *ret = m;
    return FS_OK;
}

void fs_merge_free(fs_merge *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n; i++) {
        fs_adapter_close(m->parts[i].adapter);
        free(m->parts[i].folder);
    }
    free(m->parts);
    free(m);
}

static fs_status in_part(const struct part *p, fs_status rc, fs_error *err)
{
    if (rc)
        fs_fail_prefix(err, "adapter '%.200s'", p->folder);
    return rc;
}

fs_status fs_merge_add(fs_merge *m, const char *folder, float factor, fs_error *err)
{
    struct part part = { .factor = factor, .folder = strdup(folder) }, *more = realloc(m->parts, (m->n + 1) * sizeof *more);
    fs_status rc = FS_OK;

    m->parts = more ? more : m->parts;
    if (!more || !part.folder)
        rc = fs_fail_memory(err, (m->n + 1) * sizeof *more);
    if (!rc)
        rc = in_part(&part, fs_adapter_open(folder, &part.adapter, err), err);
    if (!rc && factor != 1 && fs_adapter_whole(part.adapter))
        rc = in_part(&part, fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' takes the place of the model's and cannot be scaled by %g",
                                    fs_adapter_whole(part.adapter), (double)factor), err);
    if (rc) {
        fs_adapter_close(part.adapter);
        free(part.folder);
        return rc;
    }
    m->parts[m->n++] = part;
    return FS_OK;
}

const char *fs_merge_base(const fs_merge *m, size_t i)
{
    return fs_adapter_base(m->parts[i].adapter);
}

fs_status fs_merge_replace(fs_merge *m, fs_weights *w, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < m->n && !rc; i++)
        rc = in_part(&m->parts[i], fs_adapter_replace(m->parts[i].adapter, w, err), err);
    return rc;
}

void fs_merge_pass_over(fs_merge *m, const char *prefix)
{
    for (size_t i = 0; i < m->n; i++)
        fs_adapter_pass_over(m->parts[i].adapter, prefix);
}

fs_status fs_merge_check_used(const fs_merge *m, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < m->n && !rc; i++)
        rc = in_part(&m->parts[i], fs_adapter_check_used(m->parts[i].adapter, err), err);
    return rc;
}

/* The name without ".weight"; false: it is none of a linear. */
static bool linear_of(const char *weight, char ret[NAME_BYTES_MAX])
{
    size_t n = strlen(weight);

    if (n >= NAME_BYTES_MAX || !fs_ends_with(weight, ".weight"))
        return false;
    if (fs_ends_with(weight, "embed_tokens.weight") || strcmp(weight, "embed.weight") == 0)
        return false;
    snprintf(ret, NAME_BYTES_MAX, "%.*s", (int)(n - strlen(".weight")), weight);
    return true;
}

fs_status fs_merge_find(fs_merge *m, const char *weight, uint64_t out, uint64_t in, bool *ret, fs_error *err)
{
    char linear[NAME_BYTES_MAX];
    fs_adapter_pair pair;
    bool found = false, any = false;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < m->n && !rc && linear_of(weight, linear); i++) {
        rc = in_part(&m->parts[i], fs_adapter_get(m->parts[i].adapter, linear, out, in, &found, &pair, err), err);
        any = any || found;
    }
    *ret = any;
    return rc;
}

/* ---- the pairs of one linear ---- */

/* t [rows, cols], 16 or 32 bits, as f32. */
static fs_status widen(const fs_tensor *t, float **ret, fs_error *err)
{
    size_t rows = (size_t)t->dims[0], cols = (size_t)t->dims[1], n_bytes;

    if (!fs_mul_size(rows, cols, &n_bytes) || !fs_mul_size(n_bytes, sizeof(float), &n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "tensor '%s' would not fit in the address space", t->name);
    *ret = malloc(n_bytes + 1);
    if (!*ret)
        return fs_fail_memory(err, n_bytes);
    for (size_t r = 0; r < rows; r++)
        fs_tensor_row_f32(t, r, *ret + r * cols);
    for (size_t i = 0; i < rows * cols; i++)
        if (!isfinite((*ret)[i]))
            return fs_fail(err, FS_ERR_NUMERIC, "tensor '%s' holds a number that is not finite", t->name);
    return FS_OK;
}

static fs_status add_pair(fs_merge_rows *r, struct part *part, const char *linear, uint64_t out, fs_error *err)
{
    struct pair *p = &r->pairs[r->n];
    fs_adapter_pair pair;
    bool found;
    fs_status rc = fs_adapter_get(part->adapter, linear, out, r->in, &found, &pair, err);

    if (rc || !found)
        return rc;
    p->r = (size_t)pair.a.dims[0];
    p->scale = pair.scale * part->factor;
    r->n++;
    rc = widen(&pair.a, &p->a, err);
    return rc ? rc : widen(&pair.b, &p->b, err);
}

fs_status fs_merge_rows_open(fs_merge *m, const char *weight, uint64_t out, uint64_t in, fs_merge_rows **ret, fs_error *err)
{
    char linear[NAME_BYTES_MAX];
    fs_merge_rows *r = NULL;
    bool found;
    fs_status rc = fs_merge_find(m, weight, out, in, &found, err);

    *ret = NULL;
    if (rc || !found || !linear_of(weight, linear))
        return rc;
    if (!(r = calloc(1, sizeof *r)))
        return fs_fail_memory(err, sizeof *r);
    r->kernels = m->kernels;
    r->in = (size_t)in;
    r->pairs = calloc(m->n, sizeof *r->pairs);
    r->chunk = malloc((r->in + 1) * sizeof *r->chunk);
    r->sum = malloc((r->in + 1) * sizeof *r->sum);
    if (!r->pairs || !r->chunk || !r->sum)
        rc = fs_fail_memory(err, 2 * r->in * sizeof(float));
    for (size_t i = 0; i < m->n && !rc; i++)
        rc = in_part(&m->parts[i], add_pair(r, &m->parts[i], linear, out, err), err);
    if (rc) {
        fs_merge_rows_close(r);
        return rc;
    }
    *ret = r;
    return FS_OK;
}

void fs_merge_rows_close(fs_merge_rows *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++) {
        free(r->pairs[i].a);
        free(r->pairs[i].b);
    }
    free(r->pairs);
    free(r->chunk);
    free(r->sum);
    free(r);
}

void fs_pair_row(const fs_kernels *k, const float *b, const float *a, size_t r, size_t n, float scale, float *chunk, float *ret)
{
    memset(ret, 0, n * sizeof *ret);
    for (size_t i = 0; i < r; i++) {
        if (i % CHUNK == 0)
            memset(chunk, 0, n * sizeof *chunk);
        k->rows.axpy(b[i], a + i * n, chunk, n);
        if (i % CHUNK == CHUNK - 1 || i + 1 == r)
            k->rows.add(ret, chunk, ret, n);
    }
    k->rows.scale(scale, ret, ret, n);
}

bool fs_merge_row(const fs_merge_rows *r, uint64_t i, float *w)
{
    bool finite = true;

    if (!r)
        return true;
    for (size_t p = 0; p < r->n; p++) {
        const struct pair *pair = &r->pairs[p];
        fs_pair_row(r->kernels, pair->b + i * pair->r, pair->a, pair->r, r->in, pair->scale, r->chunk, r->sum);
        r->kernels->rows.add(w, r->sum, w, r->in);
    }
    for (size_t k = 0; k < r->in; k++)
        finite = finite && isfinite(w[k]);
    return finite;
}
