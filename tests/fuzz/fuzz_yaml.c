/* A YAML text is refused with a sentence that carries a line, or gives a value that is no deeper than JSON may be, whose
 * strings and keys are UTF-8; reading it again gives the same. */
#include "fuzz/fuzz.h"

#include "base/utf8.h"
#include "base/yaml.h"

#include <string.h>

static void value_is_sound(struct json_object *v, int depth)
{
    HOLDS(depth <= FS_JSON_DEPTH_MAX + 1);
    if (json_object_is_type(v, json_type_string))
        HOLDS(fs_utf8_valid((fs_bytes){ (const uint8_t *)json_object_get_string(v), (size_t)json_object_get_string_len(v) }));
    if (json_object_is_type(v, json_type_array))
        for (size_t i = 0; i < json_object_array_length(v); i++)
            value_is_sound(json_object_array_get_idx(v, i), depth + 1);
    if (json_object_is_type(v, json_type_object)) {
        json_object_object_foreach(v, key, item)
        {
            HOLDS(fs_utf8_valid(fs_bytes_str(key)));
            value_is_sound(item, depth + 1);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    struct json_object *v = NULL, *again = NULL;
    fs_error err = { 0 };
    fs_status rc = fs_yaml_parse((fs_bytes){ data, n_bytes }, "fuzz", &v, &err);

    if (rc) {
        HOLDS(!v);
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    value_is_sound(v, 1);
    HOLDS(fs_yaml_parse((fs_bytes){ data, n_bytes }, "fuzz", &again, &err) == FS_OK);
    HOLDS(json_object_equal(v, again));
    json_object_put(v);
    json_object_put(again);
    return 0;
}
