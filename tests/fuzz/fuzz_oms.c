/* Any bytes as model.sig: refused with a sentence, or files with names and hashes; the key of the seeds verifies none but the seeds. */
#include "fuzz/fuzz.h"

#include "hub/oms.h"

#include <string.h>

static const char key[] = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n-----END PUBLIC KEY-----\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_oms *o = NULL;
    fs_error err = { 0 };
    fs_status rc = fs_oms_open((fs_bytes){ data, n_bytes }, &o, &err);

    fs_oms_key_is_valid((fs_bytes){ data, n_bytes });
    if (rc) {
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    for (size_t i = 0; i < fs_oms_n_files(o); i++) {
        const fs_oms_file *f = fs_oms_file_at(o, i);
        HOLDS(strlen(f->sha256) == 64);
        fs_oms_ignores(o, f->name);
    }
    HOLDS(!fs_oms_is_by(o, fs_bytes_str(key))); /* a key that signed nothing */
    fs_oms_close(o);
    return 0;
}
