/* See the header. */
#include "hub/form.h"

#include "base/utf8.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>

/* A browser's line ends become '\n'. */
static void mend_lines(char *text)
{
    char *to = text;

    for (const char *from = text; *from; from++)
        if (*from != '\r')
            *to++ = *from;
        else if (from[1] != '\n')
            *to++ = '\n';
    *to = 0;
}

fs_status fs_form_put(struct json_object *form, const char *name, char *text, fs_error *err)
{
    struct json_object *value;

    if (!fs_utf8_valid(fs_bytes_str(name)) || !fs_utf8_valid(fs_bytes_str(text)))
        return fs_fail(err, FS_ERR_FORMAT, "a field of the form is not UTF-8");
    if (json_object_object_length(form) >= FS_FORM_FIELDS_MAX && !json_object_object_get_ex(form, name, NULL))
        return fs_fail(err, FS_ERR_FORMAT, "the form has more than %d fields", FS_FORM_FIELDS_MAX);
    mend_lines(text);
    value = json_object_new_string(text);
    if (value && json_object_object_add(form, name, value) == 0)
        return FS_OK;
    json_object_put(value);
    return fs_fail_memory(err, strlen(text));
}

fs_status fs_form_read(fs_bytes body, struct json_object **ret, fs_error *err)
{
    struct json_object *form = json_object_new_object();
    fs_bytes name, value;
    fs_status rc = form ? FS_OK : fs_fail_memory(err, sizeof form);

    while (!rc && fs_url_next_pair(&body, &name, &value)) {
        char *a = malloc(name.n_bytes + 1), *b = malloc(value.n_bytes + 1);
        if (!a || !b)
            rc = fs_fail_memory(err, name.n_bytes + value.n_bytes);
        else if (!fs_url_decode(name, true, a) || !fs_url_decode(value, true, b))
            rc = fs_fail(err, FS_ERR_FORMAT, "a field of the form has a broken escape");
        else
            rc = fs_form_put(form, a, b, err);
        free(a);
        free(b);
    }
    if (rc)
        json_object_put(form);
    else
        *ret = form;
    return rc;
}
