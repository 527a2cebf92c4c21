/* An adapter: u16 n (little-endian), n bytes of adapter_config.json, then adapter_model.safetensors. It is refused with a sentence, or its
 * pairs have the shapes that were asked for, a scale, and values that can be read. */
#include "fuzz/fuzz.h"

#include "formats/adapter.h"

#include <math.h>
#include <string.h>

static void get(fs_adapter *a, const char *linear, uint64_t out, uint64_t in)
{
    fs_adapter_pair pair;
    fs_error err = { 0 };
    bool found = false;
    fs_status rc = fs_adapter_get(a, linear, out, in, &found, &pair, &err);

    if (rc) {
        failed_with_a_sentence(rc, &err);
        return;
    }
    if (!found)
        return;
    HOLDS(pair.a.n_dims == 2 && pair.b.n_dims == 2 && pair.a.dims[1] == in && pair.b.dims[0] == out && pair.a.dims[0] == pair.b.dims[1]);
    HOLDS(isfinite(pair.scale));
    for (int i = 0; i < 2; i++) {
        const fs_tensor *t = i ? &pair.b : &pair.a;
        float *row = malloc((size_t)fs_tensor_cols(t) * sizeof *row + 1);
        HOLDS(row);
        for (uint64_t r = 0; r < fs_tensor_rows(t) && r < 64; r++)
            fs_tensor_row_f32(t, r, row);
        free(row);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static const char *const linears[] = { "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.gate", "model.layers.1.mlp.experts.0.gate_proj",
                                           "model.layers.1.mlp.experts.1.down_proj", "layers.0.attn.wq_a", "lm_head" };
    fs_error err = { 0 };
    fs_adapter *a = NULL;
    size_t n;
    fs_status rc;

    if (n_bytes < 2)
        return 0;
    n = data[0] | (size_t)data[1] << 8;
    if (n > n_bytes - 2)
        n = n_bytes - 2;
    rc = fs_adapter_open_memory((fs_bytes){ data + 2, n }, (fs_bytes){ data + 2 + n, n_bytes - 2 - n }, &a, &err);
    if (rc) {
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++)
        for (uint64_t size = 2; size <= 8; size += 2) {
            get(a, linears[i], size, size);
            get(a, linears[i], 4, size);
        }
    fs_adapter_pass_over(a, "model.layers.1.");
    rc = fs_adapter_check_used(a, &err);
    if (rc)
        failed_with_a_sentence(rc, &err);
    fs_adapter_close(a);
    return 0;
}
