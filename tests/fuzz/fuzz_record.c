/* Any text as a record, as a list of roots, as a trace, as minisign's keys and signature: refused with a sentence; or what is
 * read and written again is the same text. */
#include "fuzz/fuzz.h"

#include "crypto/minisign.h"
#include "lineage/record.h"
#include "lineage/trace.h"

#include <string.h>

static void as_record(fs_bytes text)
{
    fs_record r = { 0 };
    fs_buf again = { 0 };
    fs_error err = { 0 };
    fs_root root;
    fs_status rc = fs_record_read(text, "fuzz", &r, &err);

    if (rc) {
        failed_with_a_sentence(rc, &err);
        return;
    }
    HOLDS(fs_record_write(&r, &again, &err) == FS_OK);
    HOLDS(fs_bytes_equal(fs_buf_bytes(&again), text));
    fs_record_result(&r, &root);
    for (size_t i = 0; fs_record_get(&r, FS_RECORD_FILE, i); i++)
        HOLDS(fs_record_hashed(fs_record_get(&r, FS_RECORD_FILE, i), &root)[0]);
    for (size_t i = 0; fs_record_get(&r, FS_RECORD_MADE, i); i++)
        HOLDS(fs_record_id_of(fs_record_get(&r, FS_RECORD_MADE, i), &root));
    for (size_t i = 0; fs_record_get(&r, FS_RECORD_PARENT, i); i++)
        fs_record_id_of(fs_record_get(&r, FS_RECORD_PARENT, i), &root);
    fs_record_is_data(&r);
    fs_record_done(&r);
    fs_buf_done(&again);
}

static void as_list(fs_bytes text)
{
    fs_roots r = { 0 };
    fs_buf again = { 0 };
    fs_error err = { 0 };
    fs_status rc = fs_roots_read(text, "fuzz", &r, &err);

    if (rc) {
        failed_with_a_sentence(rc, &err);
        return;
    }
    HOLDS(fs_roots_write(&r, &again, &err) == FS_OK);
    HOLDS(fs_bytes_equal(fs_buf_bytes(&again), text));
    fs_roots_done(&r);
    fs_buf_done(&again);
}

static void as_trace(fs_bytes text)
{
    fs_trace t = { 0 };
    fs_error err = { 0 };
    fs_root root;
    fs_status rc = fs_trace_read(text, "fuzz", &t, &err);

    if (rc) {
        failed_with_a_sentence(rc, &err);
        return;
    }
    for (size_t i = 0; i < t.n; i++)
        HOLDS(t.rows[i].step == i + 1);
    HOLDS(fs_trace_root(&t, t.n, &root, &err) == FS_OK);
    fs_trace_done(&t);
}

static void as_minisign(fs_bytes text)
{
    static const fs_public_key key = { { 1 }, { 2 } };
    fs_public_key p;
    fs_error err = { 0 };
    uint8_t id[8];
    fs_status rc = fs_public_key_read(text, "fuzz", &p, &err);

    if (rc)
        failed_with_a_sentence(rc, &err);
    fs_secret_key_is_encrypted(text);
    rc = fs_minisign_signer(text, "fuzz", id, &err);
    if (rc)
        failed_with_a_sentence(rc, &err);
    HOLDS(fs_minisign_verify(&key, FS_BYTES_LIT("message"), text, "fuzz", NULL, &err) != FS_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_bytes text = { data, n_bytes };

    as_record(text);
    as_list(text);
    as_trace(text);
    as_minisign(text);
    return 0;
}
