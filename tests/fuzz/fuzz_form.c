/* Any bytes as a form: refused with a sentence, or fields of UTF-8 that, written as a form again, are the same. */
#include "fuzz/fuzz.h"

#include "base/utf8.h"
#include "hub/form.h"
#include "net/url.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct json_object *form = NULL, *again = NULL;
    fs_buf text = { 0 };
    fs_error err = { 0 };
    fs_status rc = fs_form_read((fs_bytes){ data, n_bytes }, &form, &err);

    if (rc) {
        HOLDS(!form);
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    HOLDS(json_object_object_length(form) <= FS_FORM_FIELDS_MAX);
    json_object_object_foreach(form, name, value)
    {
        fs_bytes v = { (const uint8_t *)json_object_get_string(value), (size_t)json_object_get_string_len(value) };
        HOLDS(fs_utf8_valid(fs_bytes_str(name)) && fs_utf8_valid(v) && strlen((const char *)v.data) == v.n_bytes && !strchr((const char *)v.data, '\r'));
        HOLDS(fs_buf_append_str(&text, "&", NULL) == FS_OK && fs_url_encode(&text, fs_bytes_str(name), "", NULL) == FS_OK && fs_buf_append_str(&text, "=", NULL) == FS_OK &&
              fs_url_encode(&text, v, "", NULL) == FS_OK);
    }
    HOLDS(fs_form_read(fs_buf_bytes(&text), &again, &err) == FS_OK && json_object_equal(form, again));
    json_object_put(form);
    json_object_put(again);
    fs_buf_done(&text);
    return 0;
}
