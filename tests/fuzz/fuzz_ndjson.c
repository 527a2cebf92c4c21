/* Any bytes as a commit's body, cut in pieces: refused with a sentence, or what the pieces give is what the whole gives. */
#include "fuzz/fuzz.h"

#include "hub/ndjson.h"

static fs_status add(void *ud, const char *key, struct json_object *value, fs_bytes content, fs_error *err)
{
    fs_buf *b = ud;

    HOLDS(json_object_is_type(value, json_type_object));
    if (fs_buf_printf(b, err, "%s %s ", key, json_object_to_json_string(value)) != FS_OK)
        return FS_ERR_MEMORY;
    return fs_buf_append(b, content.data, content.n_bytes, err);
}

static fs_status read_in(const uint8_t *data, size_t n_bytes, size_t piece, fs_buf *ret, fs_error *err)
{
    fs_ndjson n;
    fs_status rc = FS_OK;

    fs_ndjson_init(&n, 4096, 64, add, ret);
    for (size_t i = 0; i < n_bytes && !rc; i += piece)
        rc = fs_ndjson_feed(&n, data + i, piece < n_bytes - i ? piece : n_bytes - i, err);
    if (!rc)
        rc = fs_ndjson_end(&n, err);
    fs_ndjson_done(&n);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_buf whole = { 0 }, pieces = { 0 };
    fs_error err = { 0 };
    fs_status rc = read_in(data, n_bytes, n_bytes ? n_bytes : 1, &whole, &err);

    if (rc)
        failed_with_a_sentence(rc, &err);
    HOLDS((read_in(data, n_bytes, n_bytes % 7 + 1, &pieces, &err) == FS_OK) == (rc == FS_OK));
    HOLDS(rc || fs_bytes_equal(fs_buf_bytes(&whole), fs_buf_bytes(&pieces)));
    fs_buf_done(&whole);
    fs_buf_done(&pieces);
    return 0;
}
