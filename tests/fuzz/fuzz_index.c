/* Any text as model.safetensors.index.json beside two shards: refused with a sentence, or the list is exactly what the
 * shards hold. */
#include "fuzz/fuzz.h"

#include "formats/weights.h"
#include "make_files.h"

#define T(begin, end) "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[" #begin "," #end "]}"

static const char *const files[] = { "config.json", "a.safetensors", "b.safetensors", "model.safetensors.index.json", NULL };
static char *folder;

static void clean_up(void)
{
    remove_folder(folder, files);
}

static void set_up(void)
{
    fs_buf a = make_safetensors("{\"x\":" T(0, 4) ",\"y\":" T(4, 8) "}", 8), b = make_safetensors("{\"z\":" T(0, 4) "}", 4);

    folder = make_folder();
    atexit(clean_up);
    put_text_file(folder, "config.json", "{\"model_type\":\"llama\",\"vocab_size\":8,\"hidden_size\":8,\"num_hidden_layers\":2,"
                                         "\"num_attention_heads\":2,\"intermediate_size\":8,\"max_position_embeddings\":64}");
    put_file(folder, "a.safetensors", a.data, a.n_bytes);
    put_file(folder, "b.safetensors", b.data, b.n_bytes);
    fs_buf_done(&a);
    fs_buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_weights *w = NULL;
    fs_error err = { 0 };
    fs_status rc;

    if (!folder)
        set_up();
    put_plainly(folder, "model.safetensors.index.json", data, n_bytes);
    rc = fs_weights_open(folder, &w, &err);
    if (rc) {
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    HOLDS(fs_weights_n_tensors(w) == 0 || fs_weights_n_tensors(w) == 1 || fs_weights_n_tensors(w) == 2 || fs_weights_n_tensors(w) == 3);
    HOLDS(!fs_weights_find(w, "x") == !fs_weights_find(w, "y")); /* a shard is listed whole or not at all */
    fs_weights_close(w);
    return 0;
}
