/* Any bytes as the model.safetensors of a block-scaled fp8 model: refused with a sentence, or every row dequantises
 * inside its tensor and its scales. */
#include "fuzz/fuzz.h"

#include "formats/weights.h"
#include "make_files.h"

static const char *const files[] = { "config.json", "model.safetensors", NULL };
static char *folder;

static void clean_up(void)
{
    remove_folder(folder, files);
}

static void set_up(void)
{
    folder = make_folder();
    atexit(clean_up);
    put_text_file(folder, "config.json", "{\"model_type\":\"llama\",\"vocab_size\":8,\"hidden_size\":8,\"num_hidden_layers\":2,"
                                         "\"num_attention_heads\":2,\"intermediate_size\":8,\"max_position_embeddings\":64,"
                                         "\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[2,3]}}");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_weights *w = NULL;
    fs_error err = { 0 };
    fs_status rc;

    if (!folder)
        set_up();
    put_plainly(folder, "model.safetensors", data, n_bytes);
    rc = fs_weights_open(folder, &w, &err);
    if (rc) {
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    for (size_t i = 0; i < fs_weights_n_tensors(w); i++) {
        const fs_tensor *t = fs_weights_tensor_at(w, i);
        HOLDS(fs_weights_find(w, t->name) == t);
        view_is_sound(t, (fs_bytes){ t->data, t->n_bytes });
        if (!t->scales)
            continue;
        HOLDS(t->n_dims == 2 && (t->scale_dtype == FS_DTYPE_F32 || t->scale_dtype == FS_DTYPE_F8_E8M0));
        if (t->dtype == FS_DTYPE_F8_E4M3)
            HOLDS(t->scale_rows == 2 && t->scale_cols == 3);
        else
            HOLDS(t->dtype == FS_DTYPE_FP4_E2M1 && t->scale_dtype == FS_DTYPE_F8_E8M0 && t->scale_rows == 1 && t->scale_cols == 32);
    }
    fs_weights_close(w);
    return 0;
}
