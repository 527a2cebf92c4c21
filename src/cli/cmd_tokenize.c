/* farseek tokenize and detokenize: text to ids and back, by the tokenizer alone. */
#include "base/json.h"
#include "cli/cli.h"
#include "cli/tokens.h"

#include <stdlib.h>
#include <string.h>

static struct {
    bool json, special, bos, skip_special;
} opt = { .special = true };

/* The list called key in the request on stdin. */
static fs_status read_list(const char *key, struct json_object **ret_request, struct json_object **ret_list, fs_error *err)
{
    struct json_object *v = NULL, *list;
    fs_status rc = fs_tokens_read_request(&v, err);

    if (rc)
        return rc;
    list = fs_json_member(v, key);
    if (!json_object_is_type(list, json_type_array)) {
        json_object_put(v);
        return fs_fail(err, FS_ERR_FORMAT, "stdin has no list '%s'", key);
    }
    *ret_request = v;
    *ret_list = list;
    return FS_OK;
}

static unsigned encode_flags(void)
{
    return (opt.special ? FS_ENCODE_SPECIAL : 0u) | (opt.bos ? FS_ENCODE_BOS : 0u);
}

static fs_status tokenize_list(const fs_tokenizer *t, fs_buf *out, fs_error *err)
{
    struct json_object *request = NULL, *texts = NULL;
    fs_ids ids = { 0 };
    fs_status rc = read_list("texts", &request, &texts, err);

    if (!rc)
        rc = fs_buf_append_str(out, "{\"ids\":[", err);
    for (size_t i = 0; !rc && i < json_object_array_length(texts); i++) {
        struct json_object *text = json_object_array_get_idx(texts, i);
        if (!json_object_is_type(text, json_type_string)) {
            rc = fs_fail(err, FS_ERR_FORMAT, "text %zu is not a string", i);
            break;
        }
        ids.n = 0;
        rc = fs_tokenizer_encode(t, (fs_bytes){ (const uint8_t *)json_object_get_string(text), (size_t)json_object_get_string_len(text) },
                                 encode_flags(), &ids, err);
        if (!rc && i)
            rc = fs_buf_append_str(out, ",", err);
        if (!rc)
            rc = fs_tokens_write_ids(out, ids.data, ids.n, err);
    }
    if (!rc)
        rc = fs_buf_append_str(out, "]}\n", err);
    fs_ids_done(&ids);
    json_object_put(request);
    return rc;
}

static fs_status tokenize_text(const fs_tokenizer *t, fs_buf *out, fs_error *err)
{
    fs_buf text = { 0 };
    fs_ids ids = { 0 };
    fs_status rc = fs_stdin_read((size_t)1 << 30, &text, err);

    if (!rc)
        rc = fs_tokenizer_encode(t, fs_buf_bytes(&text), encode_flags(), &ids, err);
    for (size_t i = 0; i < ids.n && !rc; i++)
        rc = fs_buf_printf(out, err, "%s%d", i ? " " : "", (int)ids.data[i]);
    if (!rc)
        rc = fs_buf_append_str(out, "\n", err);
    fs_ids_done(&ids);
    fs_buf_done(&text);
    return rc;
}

static fs_status tokenize(const fs_args *args, fs_error *err)
{
    fs_tokenizer *t = NULL;
    fs_buf out = { 0 };
    fs_status rc = fs_tokens_open(args->items[0], &t, NULL, err);

    if (!rc)
        rc = opt.json ? tokenize_list(t, &out, err) : tokenize_text(t, &out, err);
    if (!rc)
        fwrite(out.data, 1, out.n_bytes, stdout);
    fs_buf_done(&out);
    fs_tokenizer_close(t);
    return rc;
}

static const fs_option tokenize_options[] = {
    FS_OPT_FLAG("json", 0, opt.json, "read {\"texts\": [...]}, answer {\"ids\": [[...]]}"),
    FS_OPT_FLAG("special", 0, opt.special, "special tokens spelled in the text become those tokens (default true; --no-special)"),
    FS_OPT_FLAG("bos", 0, opt.bos, "put first what the tokenizer's file puts first (default false)"),
    FS_OPT_END
};

const fs_command fs_command_tokenize = {
    .set = { .name = "tokenize",
             .usage = "MODEL|TOKENIZER",
             .summary = "Turn the text on stdin into token ids.",
             .text = "TOKENIZER is a tokenizer.json, or a .tiktoken rank file, which is taken as Qwen2's.",
             .options = tokenize_options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = tokenize,
};

/* The ids of a JSON array, appended. Numbers out of range are refused, ids without a token are no text. */
static fs_status ids_of(struct json_object *list, fs_ids *ids, fs_error *err)
{
    fs_status rc = FS_OK;

    if (!json_object_is_type(list, json_type_array))
        return fs_fail(err, FS_ERR_FORMAT, "an item of 'ids' is not a list");
    for (size_t i = 0; !rc && i < json_object_array_length(list); i++) {
        struct json_object *v = json_object_array_get_idx(list, i);
        int64_t id = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;
        rc = id < 0 || id > INT32_MAX ? fs_fail(err, FS_ERR_FORMAT, "id %zu of a list is not a token id", i)
                                      : fs_ids_push(ids, (int32_t)id, err);
    }
    return rc;
}

static fs_status detokenize_list(const fs_tokenizer *t, fs_buf *out, fs_error *err)
{
    struct json_object *request = NULL, *lists = NULL;
    fs_ids ids = { 0 };
    fs_buf text = { 0 };
    fs_status rc = read_list("ids", &request, &lists, err);

    if (!rc)
        rc = fs_buf_append_str(out, "{\"texts\":[", err);
    for (size_t i = 0; !rc && i < json_object_array_length(lists); i++) {
        ids.n = 0;
        fs_buf_clear(&text);
        rc = ids_of(json_object_array_get_idx(lists, i), &ids, err);
        if (!rc)
            rc = fs_tokenizer_decode(t, ids.data, ids.n, opt.skip_special, &text, err);
        if (!rc && i)
            rc = fs_buf_append_str(out, ",", err);
        if (!rc)
            rc = fs_json_quote(out, fs_buf_bytes(&text), err);
    }
    if (!rc)
        rc = fs_buf_append_str(out, "]}\n", err);
    fs_ids_done(&ids);
    fs_buf_done(&text);
    json_object_put(request);
    return rc;
}

/* Ids as `tokenize` prints them. */
static fs_status detokenize_words(const fs_tokenizer *t, fs_buf *out, fs_error *err)
{
    fs_buf text = { 0 };
    fs_ids ids = { 0 };
    fs_status rc = fs_stdin_read((size_t)1 << 30, &text, err);

    for (char *p = text.data; !rc && p && *(p += strspn(p, " \t\r\n,[]"));) {
        char *end;
        long id = strtol(p, &end, 10);
        if (end == p || id < 0 || id > INT32_MAX)
            rc = fs_fail(err, FS_ERR_FORMAT, "'%.*s' is not a token id", fs_tokens_word_bytes(p), p);
        else
            rc = fs_ids_push(&ids, (int32_t)id, err);
        p = end;
    }
    if (!rc)
        rc = fs_tokenizer_decode(t, ids.data, ids.n, opt.skip_special, out, err);
    fs_ids_done(&ids);
    fs_buf_done(&text);
    return rc;
}

static fs_status detokenize(const fs_args *args, fs_error *err)
{
    fs_tokenizer *t = NULL;
    fs_buf out = { 0 };
    fs_status rc = fs_tokens_open(args->items[0], &t, NULL, err);

    if (!rc)
        rc = opt.json ? detokenize_list(t, &out, err) : detokenize_words(t, &out, err);
    if (!rc && out.n_bytes)
        fwrite(out.data, 1, out.n_bytes, stdout);
    fs_buf_done(&out);
    fs_tokenizer_close(t);
    return rc;
}

static const fs_option detokenize_options[] = {
    FS_OPT_FLAG("json", 0, opt.json, "read {\"ids\": [[...]]}, answer {\"texts\": [...]}"),
    FS_OPT_FLAG("skip-special", 0, opt.skip_special, "leave special tokens out (default false)"),
    FS_OPT_END
};

const fs_command fs_command_detokenize = {
    .set = { .name = "detokenize",
             .usage = "MODEL|TOKENIZER",
             .summary = "Turn the token ids on stdin into text.",
             .options = detokenize_options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = detokenize,
};
