/* A batch of rows is one region of the pool; its bytes stand in one buffer in the rows' order, so the output does not
 * depend on which thread made which row. */
#include "formats/encode.h"

#include "tensor/quantize.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#define BATCH_BYTES ((size_t)4 << 20)
#define VALUE_MAX   65504.0f

struct fs_encoder {
    fs_pool *pool;
    size_t max_cols;
    float *rows; /* one a thread */
    uint8_t *out;
    size_t out_bytes;
};

fs_status fs_encoder_new(fs_pool *pool, size_t max_cols, fs_encoder **ret, fs_error *err)
{
    fs_encoder *e = calloc(1, sizeof *e);
    size_t n_bytes = (size_t)fs_pool_threads(pool) * (max_cols + 1) * sizeof(float);

    if (!e)
        return fs_fail_memory(err, sizeof *e);
    e->pool = pool;
    e->max_cols = max_cols;
    e->out_bytes = max_cols * sizeof(float) > BATCH_BYTES ? max_cols * sizeof(float) : BATCH_BYTES;
    e->rows = malloc(n_bytes);
    e->out = malloc(e->out_bytes);
    if (!e->rows || !e->out) {
        n_bytes += e->out_bytes;
        fs_encoder_free(e);
        return fs_fail_memory(err, n_bytes);
    }
    *ret = e;
    return FS_OK;
}

void fs_encoder_free(fs_encoder *e)
{
    if (!e)
        return;
    free(e->rows);
    free(e->out);
    free(e);
}

static bool fits(const float *row, size_t n, fs_dtype dtype)
{
    float max = fs_dtype_is_block(dtype) || dtype == FS_DTYPE_F16 ? VALUE_MAX : INFINITY;

    for (size_t i = 0; i < n; i++)
        if (!(fabsf(row[i]) <= max) || isinf(row[i]))
            return false;
    return true;
}

fs_status fs_encode_check(const char *name, const float *row, size_t n, fs_dtype dtype, fs_error *err)
{
    return fits(row, n, dtype) ? FS_OK : fs_fail(err, FS_ERR_NUMERIC, "tensor '%s' holds a number that %s cannot hold", name, fs_dtype_get(dtype)->name);
}

struct job {
    fs_encoder *e;
    const fs_tensor *t;
    uint32_t rope_heads;
    fs_dtype dtype;
    const float *w;
    uint64_t first;
    size_t cols, row_bytes;
    atomic_bool bad;
};

static void encode_piece(void *ud, size_t begin, size_t end, int thread)
{
    struct job *job = ud;
    uint64_t d = job->rope_heads ? fs_tensor_rows(job->t) / job->rope_heads : 0;
    float *row = job->e->rows + (size_t)thread * (job->e->max_cols + 1);

    for (size_t i = begin; i < end; i++) {
        uint64_t r = job->first + i, from = d ? r / d * d + r % 2 * (d / 2) + r % d / 2 : r;
        fs_tensor_row_f32(job->t, from, row);
        if (!fits(row, job->cols, job->dtype)) {
            atomic_store(&job->bad, true);
            return;
        }
        fs_quantize_row(job->dtype, row, job->w, job->cols, job->e->out + i * job->row_bytes);
    }
}

fs_status fs_encode_rows(fs_encoder *e, const char *name, const fs_tensor *t, uint32_t rope_heads, fs_dtype dtype, const float *w,
                         fs_encode_sink *sink, void *ud, fs_error *err)
{
    struct job job = { .e = e, .t = t, .rope_heads = rope_heads, .dtype = dtype, .w = w, .cols = (size_t)fs_tensor_cols(t) };
    uint64_t n = fs_tensor_rows(t);
    size_t batch;
    fs_status rc = FS_OK;

    if (!fs_dtype_bytes(dtype, job.cols, &job.row_bytes) || job.cols > e->max_cols || job.row_bytes == 0)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' has rows of %zu, which %s cannot hold", name, job.cols, fs_dtype_get(dtype)->name);
    batch = e->out_bytes / job.row_bytes;
    for (; job.first < n && !rc; job.first += batch) {
        size_t rows = n - job.first < batch ? (size_t)(n - job.first) : batch;
        fs_pool_for(e->pool, rows, rows / (8 * (size_t)fs_pool_threads(e->pool)) + 1, encode_piece, &job);
        if (job.bad)
            return fs_fail(err, FS_ERR_NUMERIC, "tensor '%s' holds a number that %s cannot hold", name, fs_dtype_get(dtype)->name);
        rc = sink(ud, e->out, rows * job.row_bytes, err);
    }
    return rc;
}
