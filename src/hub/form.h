/* What a browser sends of a form without files: application/x-www-form-urlencoded (https://url.spec.whatwg.org/#urlencoded-parsing), read strictly. */
#ifndef FS_HUB_FORM_H
#define FS_HUB_FORM_H

#include "base/json.h"

#define FS_FORM_FIELDS_MAX 32

/* "a=b&c=d" as an object of strings, the last of a name; they are UTF-8 without U+0000, and their lines end with '\n'. json_object_put frees it. */
fs_status fs_form_read(fs_bytes body, struct json_object **ret, fs_error *err);
/* One field more: what stands in [text] as it came. */
fs_status fs_form_put(struct json_object *form, const char *name, char *text, fs_error *err);

#endif
