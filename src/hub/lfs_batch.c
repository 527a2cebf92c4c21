/* See the header. */
#include "hub/lfs_batch.h"

#include "base/json.h"
#include "crypto/sha256.h"

#include <stdlib.h>
#include <string.h>

static bool has_word(struct json_object *list, const char *word)
{
    for (size_t i = 0; list && json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *x = json_object_array_get_idx(list, i);
        if (json_object_is_type(x, json_type_string) && strcmp(json_object_get_string(x), word) == 0)
            return true;
    }
    return false;
}

static fs_status read_object(struct json_object *o, fs_lfs_object *ret, fs_error *err)
{
    fs_bytes text = { 0 };
    uint8_t oid[32];
    bool found = false;
    fs_status rc = json_object_is_type(o, json_type_object) ? fs_json_string(o, "oid", &text, NULL, err) : fs_fail(err, FS_ERR_FORMAT, "an object of the batch is none");

    if (!rc)
        rc = fs_json_int(o, "size", 0, INT64_MAX / 2, &ret->n_bytes, &found, err);
    if (!rc && (!fs_hex_read(text, oid, sizeof oid) || !found))
        rc = fs_fail(err, FS_ERR_FORMAT, "an object of the batch has no SHA-256 or no size");
    if (!rc)
        fs_hex(oid, sizeof oid, ret->oid);
    return rc;
}

static fs_status read_batch(struct json_object *o, fs_lfs_batch *b, fs_error *err)
{
    struct json_object *objects = fs_json_member(o, "objects");
    fs_bytes operation = { 0 };
    fs_status rc = fs_json_string(o, "operation", &operation, NULL, err);

    if (rc)
        return rc;
    b->upload = fs_bytes_equal(operation, FS_BYTES_LIT("upload"));
    b->multipart = has_word(fs_json_member(o, "transfers"), "multipart");
    if (!b->upload && !fs_bytes_equal(operation, FS_BYTES_LIT("download")))
        return fs_fail(err, FS_ERR_FORMAT, "an operation is upload or download");
    if (!objects || !json_object_is_type(objects, json_type_array) || json_object_array_length(objects) > FS_LFS_OBJECTS_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "objects must be a list of at most %d", FS_LFS_OBJECTS_MAX);
    b->n_objects = json_object_array_length(objects);
    b->objects = calloc(b->n_objects + 1, sizeof *b->objects);
    if (!b->objects)
        return fs_fail_memory(err, b->n_objects * sizeof *b->objects);
    for (size_t i = 0; i < b->n_objects && !rc; i++)
        rc = read_object(json_object_array_get_idx(objects, i), b->objects + i, err);
    return rc;
}

fs_status fs_lfs_batch_read(fs_bytes json, fs_lfs_batch *ret, fs_error *err)
{
    struct json_object *o = NULL;
    fs_lfs_batch b = { 0 };
    fs_status rc = fs_json_parse(json, "the batch", &o, err);

    if (!rc && !json_object_is_type(o, json_type_object))
        rc = fs_fail(err, FS_ERR_FORMAT, "the batch is no JSON object");
    if (!rc)
        rc = read_batch(o, &b, err);
    json_object_put(o);
    if (rc)
        fs_lfs_batch_done(&b);
    else
        *ret = b;
    return rc;
}

void fs_lfs_batch_done(fs_lfs_batch *b)
{
    free(b->objects);
    *b = (fs_lfs_batch){ 0 };
}
