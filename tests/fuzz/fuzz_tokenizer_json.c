/* tokenizer.json: any bytes are refused with a sentence or make a tokenizer whose ids are in range, whose decoder takes
 * every id, and which, with all 256 bytes as tokens and nothing that changes text, gives back what it was given. */
#include "fuzz.h"

#include "base/utf8.h"
#include "text/tokenizer.h"

#include <string.h>

static void use(const fs_tokenizer *t)
{
    static const char text[] = "The quick 123 \xff <s> \xe6\xb7\xb1\xe5\xba\xa6\r\n\t it's <tool> \0 x";
    fs_ids ids = { 0 };
    fs_buf out = { 0 };
    fs_error err = { 0 };
    fs_status rc = fs_tokenizer_encode(t, (fs_bytes){ (const uint8_t *)text, sizeof text }, FS_ENCODE_SPECIAL | FS_ENCODE_BOS, &ids, &err);

    if (rc) {
        HOLDS(rc == FS_ERR_FORMAT || rc == FS_ERR_MEMORY);
        failed_with_a_sentence(rc, &err);
    }
    for (size_t i = 0; i < ids.n; i++)
        HOLDS(ids.data[i] >= 0);
    HOLDS(fs_tokenizer_decode(t, ids.data, ids.n, false, &out, &err) == FS_OK);
    HOLDS(fs_utf8_valid(fs_buf_bytes(&out)));
    for (size_t i = 0; i < fs_tokenizer_n_ids(t) && i < 2000; i++) {
        fs_bytes b = fs_tokenizer_bytes(t, (int32_t)i);
        HOLDS(b.n_bytes == 0 || b.data);
        if (b.n_bytes)
            HOLDS(fs_tokenizer_id(t, b) < (int32_t)fs_tokenizer_n_ids(t));
    }
    fs_ids_done(&ids);
    fs_buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_tokenizer *t = NULL;
    fs_error err = { 0 };
    fs_status rc = fs_tokenizer_open_json((fs_bytes){ data, n_bytes }, "fuzz", &t, &err);

    if (rc) {
        HOLDS(t == NULL);
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    use(t);
    fs_tokenizer_close(t);
    return 0;
}
