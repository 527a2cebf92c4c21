/* What every target needs: a property that holds in all builds, and views that must lie inside their file. */
#ifndef FS_TESTS_FUZZ_H
#define FS_TESTS_FUZZ_H

#include "tensor/tensor.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* An input frees little. AddressSanitizer's 256 MiB of freed memory kept from reuse would make each input touch fresh pages. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=8";
}

#define HOLDS(property)                                                  \
    do {                                                                 \
        if (!(property)) {                                               \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #property); \
            abort();                                                     \
        }                                                                \
    } while (0)

/* A failure has a code and a sentence of one line. */
static inline void failed_with_a_sentence(fs_status rc, const fs_error *err)
{
    HOLDS(rc == err->code && rc != FS_OK && err->message[0]);
    for (const char *p = err->message; *p; p++)
        HOLDS(*p != '\n');
}

/* Plainly: the atomic way waits for the disk. */
static inline void put_plainly(const char *folder, const char *name, const uint8_t *data, size_t n_bytes)
{
    char path[256];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "w");
    HOLDS(f && fwrite(data, 1, n_bytes, f) == n_bytes && fclose(f) == 0);
}

/* The view is inside file, its size is that of its type and shape, and its rows dequantise without a fault. */
static inline void view_is_sound(const fs_tensor *t, fs_bytes file)
{
    uint64_t rows = fs_tensor_rows(t), cols = fs_tensor_cols(t);
    size_t n_bytes;
    float *row;

    HOLDS(t->name && t->n_dims >= 0 && t->n_dims <= FS_TENSOR_DIMS_MAX);
    HOLDS(fs_dtype_bytes(t->dtype, fs_tensor_elems(t), &n_bytes) && n_bytes == t->n_bytes);
    HOLDS(t->data >= file.data && t->n_bytes <= (size_t)(file.data + file.n_bytes - t->data));
    if (!fs_dtype_get(t->dtype)->is_weight || t->n_bytes == 0)
        return;
    row = malloc((size_t)cols * sizeof *row);
    HOLDS(row);
    for (uint64_t r = 0; r < rows; r++) {
        HOLDS(fs_tensor_stored_row(t, r) < rows);
        if (r < 64 || r == rows - 1)
            fs_tensor_row_f32(t, r, row);
    }
    free(row);
}

#endif
