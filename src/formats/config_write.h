/* The configuration written out: as GGUF metadata in llama.cpp's keys, and as config.json. */
#ifndef FS_FORMATS_CONFIG_WRITE_H
#define FS_FORMATS_CONFIG_WRITE_H

#include "base/json.h"
#include "formats/config.h"
#include "formats/gguf_write.h"

/* general.architecture and every key of llama, qwen2, qwen3 and DeepSeek's own that the configuration gives a value.
 * FS_ERR_UNSUPPORTED for other model types. What GGUF has no key for shows in fs_config_differs of what is read back. */
fs_status fs_config_to_gguf(const fs_config *c, fs_gguf_writer *w, fs_error *err);
/* The divisors of llama3 scaling, as rope_freqs.weight has them: ret [head_dim / 2]. */
void fs_config_rope_freqs(const fs_config *c, float *ret);
/* Makes a configuration from GGUF one that config.json can express: the divisors become llama3's four numbers, those of
 * which every release has the bands 1 and 4. FS_ERR_UNSUPPORTED when none give the divisors bit for bit. */
fs_status fs_config_fold_rope_freqs(fs_config *c, fs_error *err);
/* What config.json says of how numbers are stored. */
typedef struct fs_config_storage {
    const char *torch_dtype;  /* as transformers names it */
    const char *precision;    /* the class it was trained in: farseek_precision; NULL: not said */
    const char *expert_dtype; /* V4's, "fp4" or "fp8"; NULL: none */
    bool fp8;                 /* a quantization_config: blocks of FS_FP8_BLOCK square */
    bool ue8m0;               /* their scales are powers of two */
} fs_config_storage;
#define FS_FP8_BLOCK 128

/* Appends config.json. */
fs_status fs_config_to_json(const fs_config *c, const fs_config_storage *s, fs_buf *out, fs_error *err);
/* Appends config.json of the folder as edit leaves it; every other key stays. */
typedef fs_status fs_config_edit(void *ud, struct json_object *json, fs_error *err);
fs_status fs_config_edited(const char *folder, fs_config_edit *edit, void *ud, fs_buf *out, fs_error *err);
/* The first field, by its name in config.json, that would make b another model than a; NULL: none. */
const char *fs_config_differs(const fs_config *a, const fs_config *b);

#endif
