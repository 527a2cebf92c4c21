/* See the header. */
#include "formats/imatrix.h"

#include "base/file.h"
#include "formats/gguf_write.h"
#include "formats/names.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 256
#define PIECE      1024 /* floats */

/* ---- writing ---- */
static bool seen(const fs_imatrix_input *in)
{
    for (uint32_t i = 0; i < in->n; i++)
        if (in->counts[i])
            return true;
    return false;
}

static bool name_of(const fs_config *c, const fs_imatrix_input *in, char *ret, size_t n)
{
    uint32_t expert;

    return seen(in) && (fs_expert_name_to_gguf(c, in->name, ret, n, &expert) || fs_name_to_gguf(c, in->name, ret, n));
}

static fs_status put_metadata(fs_gguf_writer *w, const char *text, uint32_t n_chunks, uint32_t chunk_tokens, fs_error *err)
{
    fs_status rc = fs_gguf_put_string(w, "general.type", FS_BYTES_LIT("imatrix"), err);

    if (!rc)
        rc = fs_gguf_put_array(w, "imatrix.datasets", FS_GGUF_STRING, 1, err);
    if (!rc)
        rc = fs_gguf_put_item(w, (fs_bytes){ (const uint8_t *)text, strlen(text) }, err);
    if (!rc)
        rc = fs_gguf_put_u32(w, "imatrix.chunk_count", n_chunks, err);
    return rc ? rc : fs_gguf_put_u32(w, "imatrix.chunk_size", chunk_tokens, err);
}

static fs_status put_sums(fs_gguf_writer *w, const fs_imatrix_input *in, fs_error *err)
{
    float piece[PIECE];
    size_t n = (size_t)in->n * in->k;
    fs_status rc = FS_OK;

    for (size_t at = 0; at < n && !rc; at += PIECE) {
        size_t m = n - at < PIECE ? n - at : PIECE;
        for (size_t i = 0; i < m; i++)
            piece[i] = (float)in->sums[at + i];
        rc = fs_gguf_writer_write(w, piece, m * sizeof *piece, err);
    }
    for (uint32_t i = 0; i < in->n && !rc; i++) {
        float count = (float)in->counts[i];
        rc = fs_gguf_writer_write(w, &count, sizeof count, err);
    }
    return rc;
}

fs_status fs_imatrix_write(const char *path, const fs_config *c, const fs_imatrix_input *inputs, size_t n, const char *text, uint32_t n_chunks,
                           uint32_t chunk_tokens, fs_error *err)
{
    char name[NAME_BYTES], full[NAME_BYTES + 16];
    fs_gguf_writer *w = NULL;
    fs_status rc = fs_gguf_writer_new(path, &w, err);

    if (!rc)
        rc = put_metadata(w, text, n_chunks, chunk_tokens, err);
    for (size_t i = 0; i < n && !rc; i++) {
        if (!name_of(c, &inputs[i], name, sizeof name))
            continue;
        snprintf(full, sizeof full, "%s.in_sum2", name);
        rc = fs_gguf_put_tensor(w, full, FS_DTYPE_F32, 2, (uint64_t[]){ inputs[i].n, inputs[i].k }, err);
        snprintf(full, sizeof full, "%s.counts", name);
        if (!rc)
            rc = fs_gguf_put_tensor(w, full, FS_DTYPE_F32, 2, (uint64_t[]){ inputs[i].n, 1 }, err);
    }
    if (!rc)
        rc = fs_gguf_writer_begin(w, err);
    for (size_t i = 0; i < n && !rc; i++)
        if (name_of(c, &inputs[i], name, sizeof name))
            rc = put_sums(w, &inputs[i], err);
    if (!rc)
        rc = fs_gguf_writer_commit(w, err);
    fs_gguf_writer_close(w);
    return rc;
}

/* ---- reading ---- */
struct fs_imatrix {
    fs_map map;
    fs_gguf *gguf;
    float *columns;          /* what was asked for last */
    float *all;              /* the mean over the experts of the tensor all_of */
    char all_of[NAME_BYTES]; /* "": none yet */
};

fs_status fs_imatrix_open(const char *path, fs_imatrix **ret, fs_error *err)
{
    fs_imatrix *m = calloc(1, sizeof *m);
    size_t most = 0;
    fs_status rc;

    if (!m)
        return fs_fail_memory(err, sizeof *m);
    rc = fs_map_open(&m->map, path, err);
    if (!rc)
        rc = fs_gguf_open(m->map.bytes, path, &m->gguf, err);
    for (size_t i = 0; !rc && i < fs_gguf_n_tensors(m->gguf); i++) {
        const fs_tensor *t = fs_gguf_tensor_at(m->gguf, i);
        if (t->dtype != FS_DTYPE_F32)
            rc = fs_fail(err, FS_ERR_FORMAT, "%s: tensor '%s' is %s, not F32", path, t->name, fs_dtype_get(t->dtype)->name);
        most = fs_tensor_cols(t) > most ? (size_t)fs_tensor_cols(t) : most;
    }
    if (!rc && most == 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "%s: no tensors of importance", path);
    if (!rc && (!(m->columns = malloc(most * sizeof *m->columns)) || !(m->all = malloc(most * sizeof *m->all))))
        rc = fs_fail_memory(err, most * sizeof *m->columns);
    if (rc) {
        fs_imatrix_close(m);
        return rc;
    }
    *ret = m;
    return FS_OK;
}

void fs_imatrix_close(fs_imatrix *m)
{
    if (!m)
        return;
    fs_gguf_close(m->gguf);
    fs_map_close(&m->map);
    free(m->columns);
    free(m->all);
    free(m);
}

static float value(const fs_tensor *t, uint64_t i)
{
    float v;

    memcpy(&v, t->data + i * sizeof v, sizeof v);
    return v;
}

/* The mean square over all experts, a column each. */
static void mean_of_all(fs_imatrix *m, const char *name, const fs_tensor *sums, const fs_tensor *counts, uint64_t n, uint64_t n_cols)
{
    double count = 0;

    if (strcmp(m->all_of, name) == 0)
        return;
    snprintf(m->all_of, sizeof m->all_of, "%s", name);
    for (uint64_t e = 0; e < n; e++)
        count += (double)value(counts, e);
    for (uint64_t c = 0; c < n_cols; c++) {
        double sum = 0;
        for (uint64_t e = 0; e < n; e++)
            sum += (double)value(sums, e * n_cols + c);
        m->all[c] = (float)(sum / count);
    }
}

const float *fs_imatrix_columns(fs_imatrix *m, const char *name, uint64_t i, uint64_t n, uint64_t n_cols)
{
    char full[NAME_BYTES];
    const fs_tensor *sums, *counts;
    bool experts = strstr(name, "_exps.") != NULL, down = strstr(name, "ffn_down") != NULL;
    float count, more = 0, sum = 0, flat = 0;
    uint64_t n_sums, n_counts;

    if (strlen(name) >= sizeof full - strlen(".in_sum2"))
        return NULL;
    snprintf(full, sizeof full, "%s.in_sum2", name);
    sums = fs_gguf_find_tensor(m->gguf, full);
    snprintf(full, sizeof full, "%s.counts", name);
    counts = fs_gguf_find_tensor(m->gguf, full);
    if (!sums || !counts)
        return NULL;
    n_sums = fs_tensor_elems(sums) / n_cols;
    n_counts = fs_tensor_elems(counts);
    if (fs_tensor_elems(sums) % n_cols || (n_sums != 1 && n_sums != n) || (n_counts != 1 && n_counts != n_sums))
        return NULL;
    if (n_sums == 1)
        i = 0;
    count = value(counts, n_counts == 1 ? 0 : i);
    if (experts && n_counts > 1) {
        more = FS_IMATRIX_FEW;
        if (!down)
            mean_of_all(m, name, sums, counts, n, n_cols);
    }
    if (!(count > 0) && (!experts || down || !(more > 0)))
        return NULL;
    for (uint64_t c = 0; down && more > 0 && c < n_cols; c++)
        flat += value(sums, i * n_cols + c) / count / (float)n_cols;
    for (uint64_t c = 0; c < n_cols; c++) {
        float like = more > 0 ? (down ? flat : m->all[c]) : 0;
        m->columns[c] = (value(sums, i * n_cols + c) + more * like) / (count + more);
        if (!(m->columns[c] >= 0) || isinf(m->columns[c]))
            return NULL;
        sum += m->columns[c];
    }
    return sum > 0 && isfinite(sum) ? m->columns : NULL;
}
