/* The definition of what 8-bit rows are read as. */
#include "kernels/kv8_isa.h"

static void rows(const uint8_t *row, size_t n_rows, size_t n, fs_pair *ret)
{
    for (size_t r = 0; r < n_rows; r++, row += fs_kv8_row_bytes(n))
        for (size_t i = 0; i < n; i += 2)
            *ret++ = fs_pair_of(fs_kv8_value(row, n, i), i + 1 < n ? fs_kv8_value(row, n, i + 1) : 0.0f);
}

static void panels(const uint8_t *panel, size_t n_panels, size_t n, fs_pair *ret)
{
    for (size_t p = 0; p < n_panels; p++, panel += FS_KV8_PANEL * fs_kv8_key_bytes(n)) {
        const uint8_t *codes = panel + fs_kv8_blocks(n) * FS_KV8_PANEL * sizeof(float);
        for (size_t i = 0; i < n; i += 2)
            for (size_t r = 0; r < FS_KV8_PANEL; r++, codes += 2) {
                float d;
                memcpy(&d, panel + (i / FS_KV8_BLOCK * FS_KV8_PANEL + r) * sizeof d, sizeof d);
                *ret++ = fs_pair_of(d * (float)(int8_t)codes[0], d * (float)(int8_t)codes[1]);
            }
    }
}

static void values(const uint8_t *row, size_t n_rows, size_t n, fs_pair *ret)
{
    for (size_t r = 0; r + 1 < n_rows; r += 2, row += 2 * fs_kv8_row_bytes(n))
        for (size_t i = 0; i < n; i++)
            *ret++ = fs_pair_of(fs_kv8_value(row, n, i), fs_kv8_value(row + fs_kv8_row_bytes(n), n, i));
}

const fs_kv8_kernels fs_kv8_ref = { rows, panels, values };
