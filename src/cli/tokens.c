/* See the header. */
#include "cli/tokens.h"

#include "base/file.h"
#include "cli/cli.h"
#include "formats/weights.h"

#include <stdlib.h>
#include <string.h>

#define TOKENIZER_BYTES_MAX ((size_t)256 << 20)
#define STDIN_BYTES_MAX     ((size_t)1 << 30)

#define QWEN2_SPLIT                                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static fs_status open_gguf(const fs_gguf *g, const char *path, fs_tokenizer **ret, fs_chat_config *config, fs_error *err)
{
    fs_status rc = fs_tokenizer_open_gguf(g, path, ret, err);

    return rc ? rc : fs_chat_config_gguf(g, *ret, config, err);
}

static fs_status open_file(const char *path, fs_tokenizer **ret, fs_error *err)
{
    static const char *const specials[] = { "<|endoftext|>", "<|im_start|>", "<|im_end|>" };
    fs_buf text = { 0 };
    fs_status rc = fs_file_read(path, TOKENIZER_BYTES_MAX, &text, err);

    if (!rc && fs_ends_with(path, ".tiktoken"))
        rc = fs_tokenizer_open_tiktoken(fs_buf_bytes(&text), QWEN2_SPLIT, true, specials, 3, path, ret, err);
    else if (!rc)
        rc = fs_tokenizer_open_json(fs_buf_bytes(&text), path, ret, err);
    fs_buf_done(&text);
    return rc;
}

/* A GGUF by itself needs no architecture that this program knows. */
static fs_status open_gguf_file(const char *path, fs_tokenizer **ret, fs_chat_config *config, fs_error *err)
{
    fs_map map = { 0 };
    fs_gguf *g = NULL;
    fs_status rc = fs_map_open(&map, path, err);

    if (!rc)
        rc = fs_gguf_open(map.bytes, path, &g, err);
    if (!rc)
        rc = open_gguf(g, path, ret, config, err);
    fs_gguf_close(g);
    fs_map_close(&map);
    return rc;
}

static fs_status open_folder(const char *path, fs_tokenizer **ret, fs_chat_config *config, fs_error *err)
{
    char *json = fs_path_join(path, "tokenizer.json");
    fs_weights *w = NULL;
    fs_status rc;

    if (!json)
        return fs_fail_memory(err, strlen(path));
    if (fs_file_exists(json)) {
        rc = open_file(json, ret, err);
        if (!rc)
            rc = fs_chat_config_read(path, config, err);
        if (!rc)
            fs_chat_config_set_bos(config, *ret);
    } else {
        rc = fs_weights_open(path, &w, err);
        if (!rc && !fs_weights_gguf(w))
            rc = fs_fail(err, FS_ERR_NOT_FOUND, "'%.300s' has no tokenizer.json", path);
        if (!rc)
            rc = open_gguf(fs_weights_gguf(w), path, ret, config, err);
        fs_weights_close(w);
    }
    free(json);
    return rc;
}

fs_status fs_tokens_open(const char *name, fs_tokenizer **ret, fs_chat_config *ret_config, fs_error *err)
{
    fs_chat_config c = { .add_bos = -1 };
    fs_tokenizer *t = NULL;
    char *path = NULL;
    fs_status rc = fs_model_path(name, &path, err);

    if (rc)
        return rc;
    if (fs_file_is_folder(path))
        rc = open_folder(path, &t, &c, err);
    else if (fs_ends_with(path, ".gguf"))
        rc = open_gguf_file(path, &t, &c, err);
    else
        rc = open_file(path, &t, err);
    free(path);
    if (rc || !ret_config)
        fs_chat_config_done(&c);
    if (rc) {
        fs_tokenizer_close(t);
        return rc;
    }
    if (ret_config)
        *ret_config = c;
    *ret = t;
    return FS_OK;
}

fs_status fs_tokens_read_request(struct json_object **ret, fs_error *err)
{
    struct json_object *v = NULL;
    fs_buf text = { 0 };
    fs_status rc = fs_stdin_read(STDIN_BYTES_MAX, &text, err);

    if (!rc)
        rc = fs_json_parse(fs_buf_bytes(&text), "stdin", &v, err);
    fs_buf_done(&text);
    if (!rc && !json_object_is_type(v, json_type_object)) {
        json_object_put(v);
        return fs_fail(err, FS_ERR_FORMAT, "stdin is not a JSON object");
    }
    if (!rc)
        *ret = v;
    return rc;
}

int fs_tokens_word_bytes(const char *text)
{
    size_t n = strcspn(text, " \t\r\n,[]");

    return n < 20 ? (int)n : 20;
}

fs_status fs_tokens_write_ids(fs_buf *out, const int32_t *ids, size_t n, fs_error *err)
{
    fs_status rc = fs_buf_append_str(out, "[", err);

    for (size_t i = 0; i < n && !rc; i++)
        rc = fs_buf_printf(out, err, i ? ",%d" : "%d", (int)ids[i]);
    return rc ? rc : fs_buf_append_str(out, "]", err);
}
