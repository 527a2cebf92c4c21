/* GGUF models for tests: values and tensors are collected, then written as one file. */
#ifndef FS_TESTS_MAKE_GGUF_H
#define FS_TESTS_MAKE_GGUF_H

#include "make_files.h"

typedef struct gguf_file {
    fs_buf values, table, data;
    uint64_t n_values, n_tensors;
} gguf_file;

static inline void value_u32(gguf_file *f, const char *key, uint32_t v)
{
    put_gguf_u32(&f->values, key, v);
    f->n_values++;
}

static inline void value_f32(gguf_file *f, const char *key, float v)
{
    put_gguf_f32(&f->values, key, v);
    f->n_values++;
}

static inline void value_text(gguf_file *f, const char *key, const char *v)
{
    put_gguf_text(&f->values, key, v);
    f->n_values++;
}

/* An F32 tensor whose element i is base + i. Dimensions row-major; 0 ends them early. */
static inline void tensor(gguf_file *f, const char *name, float base, uint64_t d0, uint64_t d1, uint64_t d2)
{
    uint64_t ne[3];
    uint32_t n_dims = d2 ? 3 : d1 ? 2 : 1;
    uint64_t n = d0 * (d1 ? d1 : 1) * (d2 ? d2 : 1);

    ne[0] = d2 ? d2 : d1 ? d1 : d0;
    ne[1] = d2 ? d1 : d0;
    ne[2] = d0;
    put_gguf_tensor(&f->table, name, n_dims, ne, 0, f->data.n_bytes);
    f->n_tensors++;
    for (uint64_t i = 0; i < n; i++) {
        float x = base + (float)i;
        put_bytes(&f->data, &x, sizeof x);
    }
    put_gguf_padding(&f->data, 32);
}

static inline void write_gguf(gguf_file *f, const char *folder, const char *name)
{
    fs_buf b = { 0 };

    put_gguf_header(&b, f->n_tensors, f->n_values);
    if (f->values.n_bytes)
        put_bytes(&b, f->values.data, f->values.n_bytes);
    if (f->table.n_bytes)
        put_bytes(&b, f->table.data, f->table.n_bytes);
    put_gguf_padding(&b, 32);
    if (f->data.n_bytes)
        put_bytes(&b, f->data.data, f->data.n_bytes);
    put_file(folder, name, b.data, b.n_bytes);
    fs_buf_done(&b);
    fs_buf_done(&f->values);
    fs_buf_done(&f->table);
    fs_buf_done(&f->data);
    *f = (gguf_file){ 0 };
}

static inline void value_u32s(gguf_file *f, const char *key, const uint32_t *v, size_t n)
{
    put_gguf_string(&f->values, key);
    put_le(&f->values, FS_GGUF_ARRAY, 4);
    put_le(&f->values, FS_GGUF_U32, 4);
    put_le(&f->values, n, 8);
    for (size_t i = 0; i < n; i++)
        put_le(&f->values, v[i], 4);
    f->n_values++;
}

static inline void value_f32s(gguf_file *f, const char *key, const float *v, size_t n)
{
    put_gguf_string(&f->values, key);
    put_le(&f->values, FS_GGUF_ARRAY, 4);
    put_le(&f->values, FS_GGUF_F32, 4);
    put_le(&f->values, n, 8);
    put_bytes(&f->values, v, n * sizeof *v);
    f->n_values++;
}

#endif
