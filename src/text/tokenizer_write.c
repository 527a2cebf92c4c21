/* See the header. */
#include "text/tokenizer_write.h"

#include "base/json.h"
#include "text/tokenizer_impl.h"

#include <inttypes.h>

/* One token's text, a JSON string. */
static fs_status put_token(const fs_vocab *v, size_t id, fs_buf *scratch, fs_buf *out, fs_error *err)
{
    fs_bytes bytes = fs_vocab_bytes(v, (int32_t)id);
    fs_status rc = FS_OK;

    if (v->entries[id].kind == FS_VOCAB_RAW)
        return fs_json_quote(out, bytes, err);
    fs_buf_clear(scratch);
    rc = fs_alphabet_encode(bytes, scratch, err);
    return rc ? rc : fs_json_quote(out, fs_buf_bytes(scratch), err);
}

static fs_status put_added(const fs_vocab *v, fs_buf *scratch, fs_buf *out, fs_error *err)
{
    bool first = true;
    fs_status rc = fs_buf_append_str(out, "[", err);

    for (size_t i = 0; i < v->n_ids && !rc; i++) {
        if (v->entries[i].kind != FS_VOCAB_RAW)
            continue;
        rc = fs_buf_printf(out, err, "%s\n{\"id\":%zu,\"content\":", first ? "" : ",", i);
        if (!rc)
            rc = put_token(v, i, scratch, out, err);
        if (!rc)
            rc = fs_buf_append_str(out, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}", err);
        first = false;
    }
    return rc ? rc : fs_buf_append_str(out, "]", err);
}

static fs_status put_steps(const fs_pre *pre, bool single_digits, fs_buf *out, fs_error *err)
{
    fs_status rc = fs_buf_append_str(out, "{\"type\":\"Sequence\",\"pretokenizers\":[", err);

    for (int i = single_digits ? -1 : 0; i < FS_PRE_STEPS_MAX && (i < 0 || pre->steps[i]) && !rc; i++) {
        rc = fs_buf_append_str(out, "\n{\"type\":\"Split\",\"pattern\":{\"Regex\":", err);
        if (!rc)
            rc = fs_json_quote(out, fs_bytes_str(i < 0 ? "\\p{N}" : pre->steps[i]), err);
        if (!rc)
            rc = fs_buf_append_str(out, "},\"behavior\":\"Isolated\",\"invert\":false},", err);
    }
    return rc ? rc : fs_buf_append_str(out, "\n{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}]}", err);
}

static fs_status put_template(const fs_vocab *v, fs_bytes bos, fs_buf *scratch, fs_buf *out, fs_error *err)
{
    size_t id = 0;
    fs_status rc;

    while (id < v->n_ids && !(v->entries[id].kind == FS_VOCAB_RAW && fs_bytes_equal(fs_vocab_bytes(v, (int32_t)id), bos)))
        id++;
    if (id == v->n_ids)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.*s' is no special token of the vocabulary", bos.n_bytes < 60 ? (int)bos.n_bytes : 60,
                       (const char *)bos.data);
    fs_buf_clear(scratch);
    rc = fs_json_quote(scratch, bos, err);
    return rc ? rc : fs_buf_printf(out, err,
                                   "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":%s,\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
                                   "\"type_id\":0}}],\"pair\":[{\"SpecialToken\":{\"id\":%s,\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
                                   "{\"SpecialToken\":{\"id\":%s,\"type_id\":1}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],\"special_tokens\":{%s:"
                                   "{\"id\":%s,\"ids\":[%zu],\"tokens\":[%s]}}}",
                                   scratch->data, scratch->data, scratch->data, scratch->data, scratch->data, id, scratch->data);
}

static fs_status put_model(const fs_vocab *v, bool ignore_merges, fs_buf *scratch, fs_buf *out, fs_error *err)
{
    fs_status rc = fs_buf_printf(out, err,
                                 "{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":"
                                 "null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":%s,\"vocab\":{",
                                 ignore_merges ? "true" : "false");

    for (size_t i = 0; i < v->n_ids && !rc; i++) {
        rc = fs_buf_append_str(out, i ? ",\n" : "\n", err);
        if (!rc)
            rc = put_token(v, i, scratch, out, err);
        if (!rc)
            rc = fs_buf_printf(out, err, ":%zu", i);
    }
    if (!rc)
        rc = fs_buf_append_str(out, "},\"merges\":[", err);
    for (size_t i = 0; i < v->n_merges && !rc; i++) {
        const fs_merge *m = &v->merges[i];
        rc = fs_buf_append_str(out, i ? ",\n" : "\n", err);
        fs_buf_clear(scratch);
        if (!rc)
            rc = fs_alphabet_encode(fs_vocab_bytes(v, (int32_t)m->left), scratch, err);
        if (!rc)
            rc = fs_buf_append_str(scratch, " ", err);
        if (!rc)
            rc = fs_alphabet_encode(fs_vocab_bytes(v, (int32_t)m->right), scratch, err);
        if (!rc)
            rc = fs_json_quote(out, fs_buf_bytes(scratch), err);
    }
    return rc ? rc : fs_buf_append_str(out, "]}", err);
}

static fs_status put_all(const fs_vocab *v, const fs_pre *pre, const fs_tokenizer_form *f, fs_buf *scratch, fs_buf *out, fs_error *err)
{
    fs_status rc = fs_buf_append_str(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n\"added_tokens\":", err);

    if (!rc)
        rc = put_added(v, scratch, out, err);
    if (!rc)
        rc = fs_buf_printf(out, err, ",\n\"normalizer\":%s,\n\"pre_tokenizer\":", pre->nfc ? "{\"type\":\"NFC\"}" : "null");
    if (!rc)
        rc = put_steps(pre, f->single_digits, out, err);
    if (!rc)
        rc = fs_buf_append_str(out, ",\n\"post_processor\":", err);
    if (!rc)
        rc = f->bos.data ? put_template(v, f->bos, scratch, out, err) : fs_buf_append_str(out, "null", err);
    if (!rc)
        rc = fs_buf_append_str(out, ",\n\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},\n\"model\":", err);
    if (!rc)
        rc = put_model(v, pre->ignore_merges, scratch, out, err);
    return rc ? rc : fs_buf_append_str(out, "}\n", err);
}

fs_status fs_tokenizer_write_json(const fs_vocab *v, const fs_tokenizer_form *f, fs_buf *out, fs_error *err)
{
    const fs_pre *pre = NULL;
    fs_buf scratch = { 0 };
    fs_status rc;

    if (fs_pre_find(fs_bytes_str(f->pre), &pre, NULL))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "no way of cutting text is called '%.60s'; known are gpt-2, smollm, llama-bpe, qwen2, deepseek-v3, ...",
                       f->pre);
    rc = put_all(v, pre, f, &scratch, out, err);
    fs_buf_done(&scratch);
    return rc;
}

fs_status fs_tokenizer_write_config(const fs_tokenizer_form *f, fs_buf *out, fs_error *err)
{
    fs_status rc = fs_buf_printf(out, err, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"clean_up_tokenization_spaces\": false,\n"
                                           "  \"add_bos_token\": %s", f->bos.data ? "true" : "false");

    if (!rc && f->bos.data) {
        rc = fs_buf_append_str(out, ",\n  \"bos_token\": ", err);
        rc = rc ? rc : fs_json_quote(out, f->bos, err);
    }
    if (!rc && f->eos.data) {
        rc = fs_buf_append_str(out, ",\n  \"eos_token\": ", err);
        rc = rc ? rc : fs_json_quote(out, f->eos, err);
    }
    return rc ? rc : fs_buf_append_str(out, "\n}\n", err);
}
