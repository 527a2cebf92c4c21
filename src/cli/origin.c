/* See the header. */
#include "cli/origin.h"

#include "cli/work.h"
#include "commit.h"
#include "kernels/conformance.h"
#include "kernels/kernels.h"
#include "lineage/provenance.h"

#include <string.h>

fs_status fs_origin_arithmetic(char ret[65], fs_error *err)
{
    static char known[65]; /* stages of a chain ask again */
    unsigned have = fs_isa_detect(), isa = 0;
    fs_status rc = FS_OK;

    for (unsigned bit = 1; bit < FS_ISA_END; bit <<= 1)
        if (have & bit)
            isa = bit;
    if (!*known && (rc = fs_conformance_hash(isa, false, known, err)) != FS_OK)
        *known = 0;
    strcpy(ret, known);
    return rc;
}

fs_status fs_origin_begin(fs_record *r, fs_error *err)
{
    char hash[65];
    fs_status rc = fs_origin_arithmetic(hash, err);

    if (!rc)
        rc = fs_record_add(r, err, FS_RECORD_VERSION, "1");
    if (!rc)
        rc = fs_record_add(r, err, FS_RECORD_ENGINE, "farseek %s %s", FS_VERSION, FS_COMMIT);
    return rc ? rc : fs_record_add(r, err, FS_RECORD_ARITHMETIC, "RN1 %s", hash);
}

fs_status fs_origin_roots_of(const fs_weights *w, fs_pool *pool, fs_roots *ret, fs_error *err)
{
    fs_work work;
    fs_status rc;

    fs_work_start(&work, "hashing", "MiB", 1048576);
    rc = fs_roots_of(w, pool, &work.progress, ret, err);
    fs_work_end(&work);
    return rc;
}

fs_status fs_origin_roots_told(const fs_record *r, const char *path, fs_pool *pool, fs_roots *ret, fs_error *err)
{
    fs_work work;
    fs_status rc;

    if (!fs_record_is_data(r))
        return fs_origin_roots(path, pool, ret, err);
    fs_work_start(&work, "hashing", "MiB", 1048576);
    rc = fs_provenance_data_roots(path, pool, &work.progress, ret, err);
    fs_work_end(&work);
    return rc;
}

fs_status fs_origin_roots(const char *path, fs_pool *pool, fs_roots *ret, fs_error *err)
{
    fs_work work;
    fs_status rc;

    fs_work_start(&work, "hashing", "MiB", 1048576);
    rc = fs_provenance_roots(path, pool, &work.progress, ret, err);
    fs_work_end(&work);
    return rc;
}
