/* The table of storage types. */
#include "tensor/dtype.h"

#include <assert.h>
#include <string.h>

static const fs_dtype_info table[FS_DTYPE_END] = {
    [FS_DTYPE_NONE] = { "none", NULL, -1, 1, 0, false },
    [FS_DTYPE_F32] = { "F32", "F32", 0, 1, 4, true },
    [FS_DTYPE_F16] = { "F16", "F16", 1, 1, 2, true },
    [FS_DTYPE_BF16] = { "BF16", "BF16", 30, 1, 2, true },
    [FS_DTYPE_F8_E4M3] = { "F8_E4M3", "F8_E4M3", -1, 1, 1, true },
    [FS_DTYPE_F64] = { "F64", "F64", 28, 1, 8, false },
    [FS_DTYPE_I8] = { "I8", "I8", 24, 1, 1, false },
    [FS_DTYPE_I16] = { "I16", "I16", 25, 1, 2, false },
    [FS_DTYPE_I32] = { "I32", "I32", 26, 1, 4, false },
    [FS_DTYPE_I64] = { "I64", "I64", 27, 1, 8, false },
    [FS_DTYPE_U8] = { "U8", "U8", -1, 1, 1, false },
    [FS_DTYPE_F8_E5M2] = { "F8_E5M2", "F8_E5M2", -1, 1, 1, false },
    [FS_DTYPE_F8_E8M0] = { "F8_E8M0", "F8_E8M0", -1, 1, 1, false },
    [FS_DTYPE_BOOL] = { "BOOL", "BOOL", -1, 1, 1, false },
    [FS_DTYPE_FP4_E2M1] = { "FP4_E2M1", NULL, -1, 2, 1, true },
    [FS_DTYPE_Q4_0] = { "Q4_0", NULL, 2, 32, 18, true },
    [FS_DTYPE_Q4_1] = { "Q4_1", NULL, 3, 32, 20, true },
    [FS_DTYPE_Q5_0] = { "Q5_0", NULL, 6, 32, 22, true },
    [FS_DTYPE_Q5_1] = { "Q5_1", NULL, 7, 32, 24, true },
    [FS_DTYPE_Q8_0] = { "Q8_0", NULL, 8, 32, 34, true },
    [FS_DTYPE_Q2_K] = { "Q2_K", NULL, 10, 256, 84, true },
    [FS_DTYPE_Q3_K] = { "Q3_K", NULL, 11, 256, 110, true },
    [FS_DTYPE_Q4_K] = { "Q4_K", NULL, 12, 256, 144, true },
    [FS_DTYPE_Q5_K] = { "Q5_K", NULL, 13, 256, 176, true },
    [FS_DTYPE_Q6_K] = { "Q6_K", NULL, 14, 256, 210, true },
    [FS_DTYPE_IQ4_NL] = { "IQ4_NL", NULL, 20, 32, 18, true },
    [FS_DTYPE_IQ4_XS] = { "IQ4_XS", NULL, 23, 256, 136, true },
    [FS_DTYPE_MXFP4] = { "MXFP4", NULL, 39, 32, 17, true },
    [FS_DTYPE_NVFP4] = { "NVFP4", NULL, 40, 64, 36, true },
    [FS_DTYPE_IQ1_S] = { "IQ1_S", NULL, 19, 256, 50, true },
    [FS_DTYPE_IQ1_M] = { "IQ1_M", NULL, 29, 256, 56, true },
    [FS_DTYPE_IQ2_XXS] = { "IQ2_XXS", NULL, 16, 256, 66, true },
    [FS_DTYPE_IQ2_XS] = { "IQ2_XS", NULL, 17, 256, 74, true },
    [FS_DTYPE_IQ2_S] = { "IQ2_S", NULL, 22, 256, 82, true },
    [FS_DTYPE_IQ3_XXS] = { "IQ3_XXS", NULL, 18, 256, 98, true },
    [FS_DTYPE_IQ3_S] = { "IQ3_S", NULL, 21, 256, 110, true },
    [FS_DTYPE_TQ1_0] = { "TQ1_0", NULL, 34, 256, 54, true },
    [FS_DTYPE_TQ2_0] = { "TQ2_0", NULL, 35, 256, 66, true },
};

const fs_dtype_info *fs_dtype_get(fs_dtype t)
{
    assert(t >= 0 && t < FS_DTYPE_END);
    return &table[t];
}

fs_dtype fs_dtype_from_safetensors(fs_bytes name)
{
    for (int t = 1; t < FS_DTYPE_END; t++)
        if (table[t].safetensors_name && fs_bytes_equal(name, fs_bytes_str(table[t].safetensors_name)))
            return (fs_dtype)t;
    return FS_DTYPE_NONE;
}

fs_dtype fs_dtype_from_ggml(uint32_t type)
{
    for (int t = 1; t < FS_DTYPE_END; t++)
        if (table[t].ggml_type >= 0 && (uint32_t)table[t].ggml_type == type)
            return (fs_dtype)t;
    return FS_DTYPE_NONE;
}

bool fs_dtype_bytes(fs_dtype t, uint64_t n_elems, size_t *ret_bytes)
{
    const fs_dtype_info *i = fs_dtype_get(t);

    if (n_elems % i->block_elems != 0 || n_elems / i->block_elems > SIZE_MAX)
        return false;
    return fs_mul_size((size_t)(n_elems / i->block_elems), i->block_bytes, ret_bytes);
}

bool fs_dtype_has_nan(fs_dtype t, const uint8_t *data, size_t n)
{
    unsigned bad = 0;

    switch (t) {
    case FS_DTYPE_F32:
        for (size_t i = 0; i < n; i++) {
            uint32_t u;
            memcpy(&u, data + 4 * i, sizeof u);
            bad |= (u & 0x7fffffffu) > 0x7f800000u;
        }
        break;
    case FS_DTYPE_BF16:
    case FS_DTYPE_F16:
        for (size_t i = 0; i < n; i++) {
            uint16_t u;
            memcpy(&u, data + 2 * i, sizeof u);
            bad |= (u & 0x7fffu) > (t == FS_DTYPE_BF16 ? 0x7f80u : 0x7c00u);
        }
        break;
    case FS_DTYPE_F8_E4M3:
        for (size_t i = 0; i < n; i++)
            bad |= (data[i] & 0x7fu) == 0x7fu;
        break;
    case FS_DTYPE_F64:
        for (size_t i = 0; i < n; i++) {
            uint64_t u;
            memcpy(&u, data + 8 * i, sizeof u);
            bad |= (u & INT64_MAX) > 0x7ff0000000000000u;
        }
        break;
    case FS_DTYPE_F8_E5M2:
        for (size_t i = 0; i < n; i++)
            bad |= (data[i] & 0x7fu) > 0x7cu;
        break;
    case FS_DTYPE_F8_E8M0:
        for (size_t i = 0; i < n; i++)
            bad |= data[i] == 255;
        break;
    default:
        break;
    }
    return bad != 0;
}
