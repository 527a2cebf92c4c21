/* Every value and tensor of a GGUF lies inside it; and where the metadata describe a model, every tensor under the
 * Hub's names does, too. */
#include "fuzz/fuzz.h"

#include "formats/config.h"
#include "formats/gguf.h"
#include "formats/names.h"

#include <string.h>

static void value_is_sound(const fs_gguf *g, const fs_gguf_value *v, fs_bytes file)
{
    size_t at = 0;
    char *key = strndup((const char *)v->key.data, v->key.n_bytes);

    HOLDS(key && fs_gguf_find(g, key) == v);
    free(key);
    HOLDS(v->bytes.data >= file.data && v->bytes.n_bytes <= (size_t)(file.data + file.n_bytes - v->bytes.data));
    if (v->type != FS_GGUF_ARRAY)
        return;
    for (uint64_t i = 0; i < v->n_items; i++)
        if (v->item_type == FS_GGUF_STRING) {
            fs_bytes s = fs_gguf_next_string(v, &at);
            HOLDS(s.n_bytes <= (size_t)(v->bytes.data + v->bytes.n_bytes - s.data));
        } else {
            (void)fs_gguf_number_at(v, i);
        }
    HOLDS(v->item_type != FS_GGUF_STRING || at == v->bytes.n_bytes);
}

static void model_is_sound(const fs_gguf *g, fs_bytes file)
{
    fs_config c;
    fs_tensor *tensors = NULL;
    char *names = NULL;
    size_t n = 0;
    fs_error err = { 0 };
    fs_status rc = fs_config_from_gguf(&c, &g, 1, "input", &err);

    if (rc) {
        failed_with_a_sentence(rc, &err);
        return;
    }
    HOLDS(fs_config_check(&c, "input", NULL) == FS_OK);
    rc = fs_names_to_hub(&g, 1, &c, &tensors, &n, &names, &err);
    if (rc)
        failed_with_a_sentence(rc, &err);
    for (size_t i = 0; i < n; i++)
        view_is_sound(&tensors[i], file);
    free(tensors);
    free(names);
    fs_config_done(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const fs_bytes file = { data, n_bytes };
    fs_gguf *g = NULL;
    fs_error err = { 0 };
    fs_status rc = fs_gguf_open(file, "input", &g, &err);

    if (rc) {
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    for (size_t i = 0; i < fs_gguf_n_values(g); i++)
        value_is_sound(g, fs_gguf_value_at(g, i), file);
    for (size_t i = 0; i < fs_gguf_n_tensors(g); i++) {
        view_is_sound(fs_gguf_tensor_at(g, i), file);
        HOLDS(fs_gguf_find_tensor(g, fs_gguf_tensor_at(g, i)->name) == fs_gguf_tensor_at(g, i));
    }
    model_is_sound(g, file);
    fs_gguf_close(g);
    return 0;
}
