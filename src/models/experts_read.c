/* From a stored matrix to panels in a slot, a piece at a time: as many rows as make about PIECE_BYTES, so that several
 * readers share a matrix and their buffers stay small. */
#include "models/experts.h"

#include <inttypes.h>
#include <string.h>

#define PIECE_BYTES ((size_t)1 << 20)

static size_t row_bytes(const fs_tensor *t)
{
    return t->n_bytes / (size_t)t->dims[0];
}

/* Scales of a row of blocks. */
static size_t scale_cols(const fs_tensor *t)
{
    return t->scales ? (size_t)((t->dims[1] + t->scale_cols - 1) / t->scale_cols) : 0;
}

static size_t scale_row_bytes(const fs_tensor *t)
{
    return t->scales ? scale_cols(t) * fs_dtype_get(t->scale_dtype)->block_bytes : 0;
}

uint32_t fs_piece_rows(const fs_tensor *t)
{
    uint64_t unit = FS_PANEL, rows;

    if (t->scales)
        while (unit % t->scale_rows && unit < t->dims[0])
            unit += FS_PANEL;
    rows = PIECE_BYTES / row_bytes(t) / unit * unit;
    rows = rows < unit ? unit : rows;
    return (uint32_t)(rows < t->dims[0] ? rows : t->dims[0]);
}

/* Rows of scales of so many rows. */
static size_t scale_rows(const fs_tensor *t, size_t rows)
{
    return t->scales ? (rows + t->scale_rows - 1) / t->scale_rows : 0;
}

size_t fs_piece_room(const fs_tensor *t)
{
    size_t rows = fs_piece_rows(t);

    return fs_direct_room(rows * row_bytes(t)) + fs_direct_room(scale_rows(t, rows) * scale_row_bytes(t));
}

uint64_t fs_piece_file_bytes(const fs_tensor *t)
{
    return t->n_bytes + scale_rows(t, (size_t)t->dims[0]) * scale_row_bytes(t);
}

/* n bytes that t's map has at data. */
static fs_status read_bytes(const fs_weights *w, const fs_direct *files, const uint8_t *data, size_t n, uint8_t *buffer,
                            const uint8_t **ret, fs_error *err)
{
    size_t file;
    uint64_t offset;

    *ret = data;
    return n && fs_weights_locate(w, data, &file, &offset) ? fs_direct_read(&files[file], offset, n, buffer, ret, err) : FS_OK;
}

fs_status fs_piece_read(const fs_weights *w, const fs_direct *files, const fs_tensor *t, uint32_t i, uint8_t *buffer, fs_tensor *ret,
                        fs_error *err)
{
    size_t step = fs_piece_rows(t), row0 = i * step, rows = t->dims[0] - row0 < step ? (size_t)t->dims[0] - row0 : step;
    fs_tensor piece = *t;
    fs_status rc;

    piece.dims[0] = rows;
    piece.n_bytes = rows * row_bytes(t);
    rc = read_bytes(w, files, t->data + row0 * row_bytes(t), piece.n_bytes, buffer, &piece.data, err);
    if (!rc && t->scales)
        rc = read_bytes(w, files, t->scales + row0 / t->scale_rows * scale_row_bytes(t), scale_rows(t, rows) * scale_row_bytes(t),
                        buffer + fs_direct_room(step * row_bytes(t)), &piece.scales, err);
    if (rc)
        return fs_fail_prefix(err, "tensor '%s'", t->name);
    *ret = piece;
    return FS_OK;
}

fs_status fs_piece_pack(const fs_mat *m, uint32_t i, const fs_tensor *t, const fs_tensor *piece, fs_error *err)
{
    size_t row0 = (size_t)i * fs_piece_rows(t), n_scales = scale_rows(piece, (size_t)piece->dims[0]) * scale_cols(piece);
    float *scales = (float *)(uintptr_t)m->scales;
    fs_mat part = *m;
    fs_status rc;

    for (size_t r = 0; r < piece->dims[0]; r++)
        if (fs_dtype_has_nan(piece->dtype, piece->data + r * row_bytes(piece), m->k))
            return fs_fail(err, FS_ERR_NUMERIC, "tensor '%s' holds a NaN", t->name);
    rc = fs_scales_check(piece, err);
    if (rc)
        return rc;
    part.n = (uint32_t)piece->dims[0];
    part.data += row0 / FS_PANEL * m->panel_bytes;
    fs_mat_pack(&part, piece, 0, 0, fs_mat_panels(&part));
    for (size_t k = 0; scales && k < n_scales; k++)
        scales[row0 / m->scale_rows * scale_cols(t) + k] = fs_tensor_scale(piece, k);
    return FS_OK;
}
