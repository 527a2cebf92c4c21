/* See the header. */
#include "train/asker.h"

fs_status fs_asker_open(fs_asker *a, const char *folder, fs_tokenizer *tokenizer, const char *format, bool thinking, fs_error *err)
{
    fs_status rc;

    *a = (fs_asker){ .tokenizer = tokenizer, .thinking = thinking, .config = { .add_bos = -1 } };
    rc = fs_chat_config_read(folder, &a->config, err);
    if (rc)
        return rc;
    fs_chat_config_set_bos(&a->config, tokenizer);
    a->format = format ? fs_chat_format_from_name(format) : fs_chat_format_detect(fs_buf_bytes(&a->config.source), tokenizer, NULL);
    if (a->format == FS_CHAT_FORMAT_END)
        return fs_fail(err, FS_ERR_ARGUMENT, "no chat format is called '%.60s'", format);
    if (a->format != FS_CHAT_TEMPLATE)
        return FS_OK;
    if (!a->config.source.n_bytes)
        return fs_fail(err, FS_ERR_ARGUMENT, "the tokenizer has no chat template");
    return fs_chat_template_open(fs_buf_bytes(&a->config.source), a->config.own, &a->template, err);
}

void fs_asker_close(fs_asker *a)
{
    fs_chat_template_close(a->template);
    fs_chat_config_done(&a->config);
    *a = (fs_asker){ 0 };
}

fs_status fs_asker_ask(void *ud, fs_bytes question, fs_ids *ret, fs_error *err)
{
    const fs_asker *a = ud;
    const fs_chat_options o = { .thinking = a->thinking, .add_generation_prompt = true };
    const fs_message user = { .role = FS_ROLE_USER, .content = question };

    if (a->format == FS_CHAT_NONE)
        return fs_tokenizer_encode(a->tokenizer, question, FS_ENCODE_PLAIN | FS_ENCODE_BOS, ret, err);
    return a->format == FS_CHAT_TEMPLATE ? fs_chat_template_messages(a->template, a->tokenizer, &user, 1, &o, NULL, NULL, ret, err)
                                         : fs_chat_render(a->format, a->tokenizer, &user, 1, &o, NULL, ret, err);
}
