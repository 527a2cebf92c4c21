/* A shard's files have the terms that its bytes hold, none of them empty; written again they are read as the same. */
#include "fuzz/fuzz.h"

#include "hub/xet_shard.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_error err = { 0 };
    fs_shard s, again;
    fs_buf out = { 0 };
    size_t n_terms = 0;
    fs_status rc = fs_shard_read((fs_bytes){ data, n_bytes }, &s, &err);

    if (rc) {
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    HOLDS(fs_shard_begin(&out, &err) == FS_OK);
    for (uint32_t i = 0; i < s.n_files; i++) {
        HOLDS(s.files[i].terms == s.terms + n_terms);
        n_terms += s.files[i].n_terms;
        for (uint32_t t = 0; t < s.files[i].n_terms; t++)
            HOLDS(s.files[i].terms[t].begin < s.files[i].terms[t].end);
        HOLDS(fs_shard_put_file(&out, s.files + i, &err) == FS_OK);
    }
    HOLDS(n_terms <= n_bytes / 48);
    HOLDS(fs_shard_end_files(&out, &err) == FS_OK && fs_shard_end_xorbs(&out, &err) == FS_OK);
    HOLDS(fs_shard_read(fs_buf_bytes(&out), &again, &err) == FS_OK && again.n_files == s.n_files);
    HOLDS(n_terms == 0 || !memcmp(again.terms, s.terms, n_terms * sizeof *s.terms));
    fs_shard_done(&again);
    fs_shard_done(&s);
    fs_buf_done(&out);
    return 0;
}
