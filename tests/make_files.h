/* Builds safetensors and GGUF files in memory, right ones and wrong ones, and puts them into temporary folders. */
#ifndef FS_TESTS_MAKE_FILES_H
#define FS_TESTS_MAKE_FILES_H

#include "base/file.h"
#include "formats/gguf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void put_bytes(fs_buf *b, const void *p, size_t n)
{
    if (fs_buf_append(b, p, n, NULL))
        abort();
}

static inline void put_zeros(fs_buf *b, size_t n)
{
    while (n--)
        put_bytes(b, "", 1);
}

static inline void put_le(fs_buf *b, uint64_t v, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++, v >>= 8)
        put_bytes(b, &(uint8_t){ (uint8_t)v }, 1);
}

/* ---- safetensors ---- */

static inline fs_buf make_safetensors(const char *header, size_t data_bytes)
{
    fs_buf b = { 0 };

    put_le(&b, strlen(header), 8);
    put_bytes(&b, header, strlen(header));
    put_zeros(&b, data_bytes);
    return b;
}

/* ---- GGUF ---- */

static inline void put_gguf_string(fs_buf *b, const char *s)
{
    put_le(b, strlen(s), 8);
    put_bytes(b, s, strlen(s));
}

static inline void put_gguf_header(fs_buf *b, uint64_t n_tensors, uint64_t n_values)
{
    put_bytes(b, "GGUF", 4);
    put_le(b, 3, 4);
    put_le(b, n_tensors, 8);
    put_le(b, n_values, 8);
}

static inline void put_gguf_int(fs_buf *b, const char *key, fs_gguf_type type, uint64_t v, size_t n_bytes)
{
    put_gguf_string(b, key);
    put_le(b, type, 4);
    put_le(b, v, n_bytes);
}

static inline void put_gguf_u32(fs_buf *b, const char *key, uint32_t v)
{
    put_gguf_int(b, key, FS_GGUF_U32, v, 4);
}

static inline void put_gguf_f32(fs_buf *b, const char *key, float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    put_gguf_int(b, key, FS_GGUF_F32, u, 4);
}

static inline void put_gguf_text(fs_buf *b, const char *key, const char *text)
{
    put_gguf_string(b, key);
    put_le(b, FS_GGUF_STRING, 4);
    put_gguf_string(b, text);
}

/* ne: GGUF's order, the contiguous dimension first. */
static inline void put_gguf_tensor(fs_buf *b, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset)
{
    put_gguf_string(b, name);
    put_le(b, n_dims, 4);
    for (uint32_t i = 0; i < n_dims; i++)
        put_le(b, ne[i], 8);
    put_le(b, type, 4);
    put_le(b, offset, 8);
}

static inline void put_gguf_padding(fs_buf *b, size_t alignment)
{
    while (b->n_bytes % alignment)
        put_zeros(b, 1);
}

/* ---- folders ---- */

static inline char *make_folder(void)
{
    const char *temp = getenv("TMPDIR");
    char *path = fs_path_join(temp ? temp : "/tmp", "farseek-test-XXXXXX");

    if (!path || !mkdtemp(path))
        abort();
    return path;
}

static inline void put_file(const char *folder, const char *name, const void *content, size_t n)
{
    char *path = fs_path_join(folder, name);

    if (!path || fs_file_write_atomic(path, (fs_bytes){ content, n }, NULL))
        abort();
    free(path);
}

static inline void put_text_file(const char *folder, const char *name, const char *text)
{
    put_file(folder, name, text, strlen(text));
}

/* Deletes the files named, a NULL-terminated list, and the folder. */
static inline void remove_folder(char *folder, const char *const *names)
{
    for (; *names; names++) {
        char *path = fs_path_join(folder, *names);
        unlink(path);
        free(path);
    }
    if (rmdir(folder) != 0)
        abort();
    free(folder);
}

#endif
