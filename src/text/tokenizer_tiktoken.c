/* tiktoken rank files: a line a token, base64 of its bytes, a space, its rank. Two neighbours merge when together
 * they are a token, the lowest rank first; spelled as merges, every way to cut a token into two tokens is a merge
 * with the token's rank. Source: openai/tiktoken, src/lib.rs (byte_pair_merge). */
#include "text/tokenizer_impl.h"

#include <inttypes.h>
#include <string.h>

/* Every cut of every token is looked up, so long ones cost the square; published files stay below 200 bytes. */
#define TOKEN_BYTES_MAX 1024

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool base64_decode(fs_bytes text, uint8_t *ret_bytes, size_t *ret_n)
{
    uint32_t bits = 0, n_bits = 0;
    size_t n = 0, left = text.n_bytes;

    while (left && text.data[left - 1] == '=' && text.n_bytes - left < 2)
        left--;
    if (text.n_bytes % 4)
        return false;
    for (size_t i = 0; i < left; i++) {
        int v = base64_value(text.data[i]);
        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            ret_bytes[n++] = (uint8_t)(bits >> n_bits);
        }
    }
    *ret_n = n;
    return true;
}

static fs_status read_line(fs_vocab *v, fs_bytes line, size_t number, fs_error *err)
{
    uint8_t bytes[FS_VOCAB_TOKEN_MAX];
    const uint8_t *space = memchr(line.data, ' ', line.n_bytes);
    size_t n_text = space ? (size_t)(space - line.data) : 0, n = 0, i = n_text + 1;
    int64_t id = 0;

    if (!space || n_text > TOKEN_BYTES_MAX / 3 * 4 || !base64_decode((fs_bytes){ line.data, n_text }, bytes, &n) || i == line.n_bytes)
        return fs_fail(err, FS_ERR_FORMAT, "line %zu is not a base64 word and a number", number);
    for (; i < line.n_bytes; i++) {
        if (line.data[i] < '0' || line.data[i] > '9' || id >= FS_VOCAB_IDS_MAX)
            return fs_fail(err, FS_ERR_FORMAT, "line %zu: the rank is not a number below %d", number, FS_VOCAB_IDS_MAX);
        id = id * 10 + (line.data[i] - '0');
    }
    return fs_vocab_set(v, id, (fs_bytes){ bytes, n }, FS_VOCAB_BYTES, err);
}

static fs_status derive_merges(fs_vocab *v, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t id = 0; id < v->n_ids && !rc; id++) {
        fs_bytes b = fs_vocab_bytes(v, (int32_t)id);
        for (size_t cut = 1; cut < b.n_bytes && !rc; cut++) {
            int32_t left = fs_vocab_find(v, (fs_bytes){ b.data, cut });
            int32_t right = left < 0 ? -1 : fs_vocab_find(v, (fs_bytes){ b.data + cut, b.n_bytes - cut });
            if (right >= 0)
                rc = fs_vocab_push_merge(v, (fs_merge){ (uint32_t)left, (uint32_t)right, (uint32_t)id, (uint32_t)id }, err);
        }
    }
    return rc;
}

static fs_status read_all(fs_tokenizer *t, fs_bytes ranks, const char *split_regex, const char *const *specials, size_t n_specials,
                          fs_error *err)
{
    size_t number = 0;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < ranks.n_bytes && !rc; number++) {
        const uint8_t *end = memchr(ranks.data + i, '\n', ranks.n_bytes - i);
        size_t n = end ? (size_t)(end - ranks.data) - i : ranks.n_bytes - i;
        if (n)
            rc = read_line(&t->vocab, (fs_bytes){ ranks.data + i, n }, number + 1, err);
        i += n + 1;
    }
    for (int b = 0; b < 256 && !rc; b++) {
        uint8_t byte = (uint8_t)b;
        if (fs_vocab_find(&t->vocab, (fs_bytes){ &byte, 1 }) < 0)
            rc = fs_fail(err, FS_ERR_FORMAT, "byte %d has no rank", b);
    }
    /* tiktoken takes a piece that is a token as it is. */
    t->ignore_merges = true;
    if (!rc)
        rc = derive_merges(&t->vocab, err);
    if (!rc)
        rc = fs_split_add(&t->split, fs_bytes_str(split_regex), false, FS_SPLIT_ISOLATED, false, err);
    for (size_t i = 0; i < n_specials && !rc; i++)
        rc = fs_tokenizer_add(t, fs_bytes_str(specials[i]), (fs_added_token){ .id = (int32_t)t->vocab.n_ids, .special = true }, false, err);
    return rc ? rc : fs_tokenizer_seal(t, err);
}

fs_status fs_tokenizer_open_tiktoken(fs_bytes ranks, const char *split_regex, bool nfc, const char *const *specials,
                                     size_t n_specials, const char *what, fs_tokenizer **ret, fs_error *err)
{
    fs_tokenizer *t = NULL;
    fs_status rc = fs_tokenizer_new(&t, err);

    if (!rc) {
        t->nfc = nfc;
        t->vocab.ids_max = ranks.n_bytes < FS_VOCAB_IDS_MAX - FS_VOCAB_SPARSE ? ranks.n_bytes + FS_VOCAB_SPARSE : FS_VOCAB_IDS_MAX;
        rc = read_all(t, ranks, split_regex, specials, n_specials, err);
    }
    if (rc) {
        fs_tokenizer_close(t);
        fs_fail_prefix(err, "tokenizer '%s'", what);
        return rc;
    }
    *ret = t;
    return FS_OK;
}
