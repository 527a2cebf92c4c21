/* The tiny tokenizer of tests/vectors, with changes to its JSON; tests run from the tree's root. */
#ifndef FS_TESTS_UNIT_TINY_H
#define FS_TESTS_UNIT_TINY_H

#include "unit.h"

#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer.h"

static inline struct json_object *tiny_read(const char *name)
{
    char path[200];
    struct json_object *v = NULL;
    fs_buf text = { 0 };
    fs_error err;

    snprintf(path, sizeof path, "tests/vectors/%s", name);
    assert_ok(fs_file_read(path, (size_t)1 << 26, &text, &err), err);
    assert_ok(fs_json_parse(fs_buf_bytes(&text), path, &v, &err), err);
    fs_buf_done(&text);
    return v;
}

/* Puts the members of changes, whose keys may be "model.merges", into v. */
static inline void tiny_change(struct json_object *v, struct json_object *changes)
{
    json_object_object_foreach(changes, key, value) {
        struct json_object *o = v;
        char head[64];
        const char *dot = strchr(key, '.');
        if (dot) {
            snprintf(head, sizeof head, "%.*s", (int)(dot - key), key);
            o = fs_json_member(v, head);
        }
        json_object_object_add(o, dot ? dot + 1 : key, json_object_get(value));
    }
}

static inline fs_status tiny_open(struct json_object *v, fs_tokenizer **ret, fs_error *err)
{
    size_t n;
    const char *s = json_object_to_json_string_length(v, JSON_C_TO_STRING_PLAIN, &n);

    return fs_tokenizer_open_json((fs_bytes){ (const uint8_t *)s, n }, "tiny", ret, err);
}

/* With one member replaced: tiny_with("normalizer", "{\"type\":\"NFC\"}"); key NULL changes nothing. */
static inline fs_status tiny_with(const char *key, const char *json, fs_tokenizer **ret, fs_error *err)
{
    struct json_object *v = tiny_read("tiny_tokenizer.json"), *changes = json_object_new_object(), *value = NULL;
    fs_status rc;

    if (key) {
        assert_ok(fs_json_parse(fs_bytes_str(json), "change", &value, err), *err);
        json_object_object_add(changes, key, value);
        tiny_change(v, changes);
    }
    rc = tiny_open(v, ret, err);
    json_object_put(changes);
    json_object_put(v);
    return rc;
}

static inline void assert_ids(const fs_ids *got, struct json_object *want, const char *text)
{
    if (got->n != json_object_array_length(want))
        fail_msg("'%s': %zu ids, expected %zu", text, got->n, json_object_array_length(want));
    for (size_t i = 0; i < got->n; i++)
        if (got->data[i] != json_object_get_int(json_object_array_get_idx(want, i)))
            fail_msg("'%s': id %zu is %d", text, i, (int)got->data[i]);
}

#endif
