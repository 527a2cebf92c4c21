/* Any index.json and any file beside it as a folder of token shards: refused with a sentence, or every document lies in the file, with ids
 * of the vocabulary, and together they are all tokens. An input is an index, a NUL, and the first shard. */
#include "fuzz/fuzz.h"

#include "data/shards.h"
#include "make_files.h"

#include <string.h>

static const char *const files[] = { "index.json", "tokens-00001.safetensors", NULL };
static char *folder;

static void clean_up(void)
{
    remove_folder(folder, files);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const uint8_t *end = n_bytes ? memchr(data, 0, n_bytes) : NULL;
    fs_shards *s = NULL;
    fs_error err = { 0 };
    uint64_t n = 0;
    fs_status rc;

    if (!folder) {
        folder = make_folder();
        atexit(clean_up);
    }
    if (!end)
        return 0;
    put_plainly(folder, "index.json", data, (size_t)(end - data));
    put_plainly(folder, "tokens-00001.safetensors", end + 1, n_bytes - (size_t)(end - data) - 1);
    rc = fs_shards_open(folder, &s, &err);
    if (rc) {
        failed_with_a_sentence(rc, &err);
        return 0;
    }
    for (size_t i = 0; i < fs_shards_n_documents(s); i++) {
        const int32_t *ids;
        const uint8_t *learn;
        size_t length = fs_shards_document(s, i, &ids, &learn);
        HOLDS(length > 0);
        for (size_t k = 0; k < length; k++)
            HOLDS(ids[k] >= 0 && (size_t)ids[k] < fs_shards_vocab_size(s) && learn[k] <= 1);
        n += length;
    }
    HOLDS(n == fs_shards_n_tokens(s));
    fs_shards_close(s);
    return 0;
}
