/* Any bytes as a batch of Git LFS: refused with a sentence, or objects that, written as a batch again, are the same. */
#include "fuzz/fuzz.h"

#include "hub/lfs_batch.h"

#include <inttypes.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_lfs_batch b = { 0 }, again = { 0 };
    fs_buf text = { 0 };
    fs_error err = { 0 };
    fs_status rc = fs_lfs_batch_read((fs_bytes){ data, n_bytes }, &b, &err);

    if (rc) {
        HOLDS(!b.objects);
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    HOLDS(b.n_objects <= FS_LFS_OBJECTS_MAX);
    HOLDS(fs_buf_printf(&text, NULL, "{\"operation\":\"%s\",\"transfers\":[%s],\"objects\":[", b.upload ? "upload" : "download", b.multipart ? "\"multipart\"" : "") == FS_OK);
    for (size_t i = 0; i < b.n_objects; i++) {
        const fs_lfs_object *o = b.objects + i;
        HOLDS(strspn(o->oid, "0123456789abcdef") == 64 && o->oid[64] == 0 && o->n_bytes >= 0);
        HOLDS(fs_buf_printf(&text, NULL, "%s{\"oid\":\"%s\",\"size\":%" PRId64 "}", i ? "," : "", o->oid, o->n_bytes) == FS_OK);
    }
    HOLDS(fs_buf_append_str(&text, "]}", NULL) == FS_OK && fs_lfs_batch_read(fs_buf_bytes(&text), &again, &err) == FS_OK);
    HOLDS(again.upload == b.upload && again.multipart == b.multipart && again.n_objects == b.n_objects);
    HOLDS(memcmp(again.objects, b.objects, b.n_objects * sizeof *b.objects) == 0);
    fs_lfs_batch_done(&b);
    fs_lfs_batch_done(&again);
    fs_buf_done(&text);
    return 0;
}
