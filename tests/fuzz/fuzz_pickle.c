/* What a pickle imports is said once each, judged by its name, and the same of the same bytes; bytes behind its end add imports but take none away;
 * a zip's entries lie within it. */
#include "fuzz/fuzz.h"

#include "hub/pickle.h"
#include "hub/zip.h"

#include <string.h>

static void read_zip(fs_bytes file)
{
    fs_zip z;
    fs_zip_entry e;
    fs_error err = { 0 };
    fs_buf buf = { 0 };
    bool more = true;
    fs_status rc = fs_zip_open(file, &z, &err);

    while (!rc && (rc = fs_zip_next(&z, &e, &more, &err)) == FS_OK && more) {
        fs_bytes content;
        HOLDS(e.packed.data >= file.data && e.packed.n_bytes <= file.n_bytes - (size_t)(e.packed.data - file.data));
        HOLDS(e.name.data >= file.data && e.name.n_bytes <= file.n_bytes - (size_t)(e.name.data - file.data));
        if (fs_zip_read(&e, 100000, &buf, &content, &err) == FS_OK)
            HOLDS(content.n_bytes <= 100000 + 16384);
    }
    if (rc)
        failed_with_a_sentence(rc, &err);
    fs_buf_done(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_pickle all = { 0 }, half = { 0 };
    fs_error err;

    HOLDS(fs_pickle_read((fs_bytes){ data, n_bytes }, &all, &err) == FS_OK);
    HOLDS(fs_pickle_read((fs_bytes){ data, n_bytes / 2 }, &half, &err) == FS_OK);
    HOLDS(half.n_imports <= all.n_imports && half.n_whole <= all.n_whole);
    for (size_t i = 0; i < all.n_imports; i++) {
        const fs_pickle_import *x = all.imports + i;
        HOLDS(*x->module && *x->name && x->level == fs_pickle_judge(x->module, x->name));
        HOLDS(i >= half.n_imports || (strcmp(x->module, half.imports[i].module) == 0 && strcmp(x->name, half.imports[i].name) == 0));
    }
    fs_pickle_done(&all);
    fs_pickle_done(&half);
    read_zip((fs_bytes){ data, n_bytes });
    return 0;
}
