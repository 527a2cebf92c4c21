/* See the header. */
#include "text/chat_template.h"

#include "base/file.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#define TEMPLATE_BYTES_MAX ((size_t)16 << 20)

/* tokenizer_config.json's member as text; NULL when it has none. */
static struct json_object *configured(struct json_object *config)
{
    struct json_object *t = fs_json_member(config, "chat_template");

    for (size_t i = 0; json_object_is_type(t, json_type_array) && i < json_object_array_length(t); i++) {
        struct json_object *one = json_object_array_get_idx(t, i);
        fs_bytes name = { 0 };
        if (!fs_json_string(one, "name", &name, NULL, NULL) && fs_bytes_equal(name, FS_BYTES_LIT("default")))
            t = fs_json_member(one, "template");
    }
    return json_object_is_type(t, json_type_string) ? t : NULL;
}

fs_status fs_chat_template_read(const char *folder, fs_buf *ret, fs_error *err)
{
    char *jinja = fs_path_join(folder, "chat_template.jinja"), *config = fs_path_join(folder, "tokenizer_config.json");
    struct json_object *v = NULL, *t;
    fs_buf text = { 0 };
    fs_status rc = FS_OK;

    if (!jinja || !config) {
        rc = fs_fail_memory(err, strlen(folder));
    } else if (fs_file_exists(jinja)) {
        rc = fs_file_read(jinja, TEMPLATE_BYTES_MAX, &text, err);
        if (!rc)
            rc = fs_buf_append(ret, text.data, text.n_bytes, err);
    } else if (fs_file_exists(config)) {
        rc = fs_file_read(config, TEMPLATE_BYTES_MAX, &text, err);
        if (!rc)
            rc = fs_json_parse(fs_buf_bytes(&text), config, &v, err);
        t = rc ? NULL : configured(v);
        if (t)
            rc = fs_buf_append(ret, json_object_get_string(t), (size_t)json_object_get_string_len(t), err);
    }
    json_object_put(v);
    fs_buf_done(&text);
    free(jinja);
    free(config);
    return rc;
}

static const char *const foreign_names[] = { "messages", "tools", "documents" };
#define N_FOREIGN (sizeof foreign_names / sizeof *foreign_names)

static bool is_foreign(const char *name)
{
    for (size_t i = 0; i < N_FOREIGN; i++)
        if (strcmp(name, foreign_names[i]) == 0)
            return true;
    return false;
}

/* Parts the request's members; both objects share its values. */
static fs_status divide(struct json_object *request, struct json_object *own, struct json_object *foreign, fs_error *err)
{
    int failed = 0;

    for (size_t i = 0; i < N_FOREIGN; i++)
        failed |= json_object_object_add(foreign, foreign_names[i], NULL);
    json_object_object_foreach(request, key, value)
    {
        if (json_object_object_add(is_foreign(key) ? foreign : own, key, json_object_get(value)) != 0) {
            json_object_put(value);
            failed = 1;
        }
    }
    return failed ? fs_fail_memory(err, sizeof(void *)) : FS_OK;
}

static fs_status render(fs_bytes chat_template, const fs_jinja_input *in, fs_buf *text, fs_buf *foreign, fs_error *err)
{
    fs_jinja *jinja = NULL;
    fs_status rc = fs_jinja_parse(chat_template, &jinja, err);

    if (!rc)
        rc = fs_jinja_render(jinja, in, text, foreign, err);
    fs_jinja_free(jinja);
    return rc;
}

fs_status fs_chat_template_render(fs_bytes chat_template, const fs_tokenizer *t, struct json_object *request, const struct tm *now,
                                  fs_buf *ret_prompt, fs_ids *ret_ids, fs_error *err)
{
    fs_jinja_input in = { .own = json_object_new_object(), .foreign = json_object_new_object(), .now = now, .limits = FS_JINJA_LIMITS_DEFAULT };
    size_t n_ids = ret_ids ? ret_ids->n : 0;
    fs_buf text = { 0 }, foreign = { 0 };
    fs_status rc;

    rc = in.own && in.foreign ? divide(request, in.own, in.foreign, err) : fs_fail_memory(err, sizeof(void *));
    if (!rc)
        rc = render(chat_template, &in, &text, &foreign, err);
    if (!rc && ret_ids)
        rc = fs_tokenizer_encode_marked(t, fs_buf_bytes(&text), (const uint8_t *)foreign.data, ret_ids, err);
    if (!rc)
        rc = fs_buf_append(ret_prompt, text.data, text.n_bytes, err);
    if (rc && ret_ids)
        ret_ids->n = n_ids;
    json_object_put(in.own);
    json_object_put(in.foreign);
    fs_buf_done(&text);
    fs_buf_done(&foreign);
    return rc;
}
