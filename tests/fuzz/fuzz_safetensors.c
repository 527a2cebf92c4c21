/* Every tensor of a safetensors file lies inside it, has the size its shape says, and is found by its name. */
#include "fuzz/fuzz.h"

#include "formats/safetensors.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const fs_bytes file = { data, n_bytes };
    fs_safetensors *s = NULL;
    fs_error err = { 0 };
    size_t total = 0;
    fs_status rc = fs_safetensors_open(file, "input", &s, &err);

    if (rc) {
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    for (size_t i = 0; i < fs_safetensors_n_tensors(s); i++) {
        const fs_tensor *t = fs_safetensors_tensor_at(s, i);
        view_is_sound(t, file);
        HOLDS(fs_safetensors_find(s, t->name) == t);
        HOLDS(i == 0 || strcmp(fs_safetensors_tensor_at(s, i - 1)->name, t->name) < 0);
        total += t->n_bytes;
    }
    HOLDS(total <= n_bytes - 8);
    fs_safetensors_close(s);
    return 0;
}
