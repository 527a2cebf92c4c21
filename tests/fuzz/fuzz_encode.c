/* Any text: decode(encode(x)) is x with what is no UTF-8 replaced, whatever the flags and the split; the stream of the
 * ids is the same text; without special tokens none comes out, and in plain text no added token. The first byte chooses
 * the flags and one of four tokenizers, which have all 256 bytes and a few merges. */
#include "fuzz.h"

#include "base/utf8.h"
#include "text/tokenizer.h"

#include <string.h>

#define N_SPLITS 4
#define SPECIAL  300 /* the first added id */

static fs_tokenizer *tokenizers[N_SPLITS];

static void put(fs_buf *b, const char *s)
{
    HOLDS(fs_buf_append_str(b, s, NULL) == FS_OK);
}

/* Every byte in the GPT-2 alphabet, numbered by byte, then pairs. */
static void put_model(fs_buf *b)
{
    static const char *const merges[] = { "t h", "th e", "e r", "a a", "aa aa", "o n", "i n", "1 2", "the r" };
    static const char *const merged[] = { "th", "the", "er", "aa", "aaaa", "on", "in", "12", "ther" };
    unsigned moved = 0;

    put(b, "\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (unsigned i = 0; i < 256; i++) {
        bool itself = (i >= 0x21 && i <= 0x7e) || (i >= 0xa1 && i != 0xad);
        HOLDS(fs_buf_printf(b, NULL, "%s\"\\u%04x\":%u", i ? "," : "", itself ? i : 0x100 + moved, i) == FS_OK);
        moved += !itself;
    }
    for (unsigned i = 0; i < sizeof merged / sizeof *merged; i++)
        HOLDS(fs_buf_printf(b, NULL, ",\"%s\":%u", merged[i], 256 + i) == FS_OK);
    put(b, "},\"merges\":[");
    for (unsigned i = 0; i < sizeof merges / sizeof *merges; i++)
        HOLDS(fs_buf_printf(b, NULL, "%s\"%s\"", i ? "," : "", merges[i]) == FS_OK);
    put(b, "]}");
}

static fs_tokenizer *make(unsigned k)
{
    static const char *const splits[N_SPLITS] = {
        "",
        "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
        "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false},",
        "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[aeiou]*\"},\"behavior\":\"MergedWithPrevious\",\"invert\":false},"
        "{\"type\":\"Digits\",\"individual_digits\":false},",
        "{\"type\":\"Split\",\"pattern\":{\"String\":\"e\"},\"behavior\":\"MergedWithNext\",\"invert\":true},"
        "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\s+$|^x\"},\"behavior\":\"Contiguous\",\"invert\":false},",
    };
    fs_buf b = { 0 };
    fs_tokenizer *t = NULL;
    fs_error err = { 0 };

    put(&b, "{\"added_tokens\":[{\"id\":300,\"content\":\"<s>\",\"special\":true},{\"id\":301,\"content\":\"<t\",\"special\":false},"
            "{\"id\":302,\"content\":\"<tt\",\"special\":true,\"normalized\":true},{\"id\":303,\"content\":\"er\",\"single_word\":true}],");
    put(&b, "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[");
    put(&b, splits[k]);
    put(&b, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},\"decoder\":{\"type\":\"ByteLevel\"},");
    put_model(&b);
    put(&b, "}");
    if (fs_tokenizer_open_json(fs_buf_bytes(&b), "made", &t, &err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    fs_buf_done(&b);
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_bytes text = { data + 1, n_bytes - 1 };
    fs_buf whole = { 0 }, stream = { 0 }, want = { 0 };
    fs_ids ids = { 0 };
    fs_detok d = { 0 };
    fs_error err = { 0 };
    unsigned k, flags;

    if (n_bytes == 0)
        return 0;
    k = data[0] % N_SPLITS;
    flags = (data[0] & 4 ? FS_ENCODE_SPECIAL : 0u) | (data[0] & 8 ? FS_ENCODE_PLAIN : 0u);
    if (!tokenizers[k])
        tokenizers[k] = make(k);
    HOLDS(fs_tokenizer_encode(tokenizers[k], text, flags, &ids, &err) == FS_OK);
    d.tokenizer = tokenizers[k];
    for (size_t i = 0; i < ids.n; i++) {
        HOLDS(ids.data[i] >= 0 && (size_t)ids.data[i] < fs_tokenizer_n_ids(tokenizers[k]));
        HOLDS((flags & FS_ENCODE_SPECIAL) || !fs_tokenizer_is_special(tokenizers[k], ids.data[i]));
        HOLDS(!(flags & FS_ENCODE_PLAIN) || ids.data[i] < SPECIAL);
        HOLDS(fs_detok_push(&d, ids.data[i], &stream, &err) == FS_OK);
    }
    HOLDS(fs_detok_flush(&d, &stream, &err) == FS_OK);
    HOLDS(fs_tokenizer_decode(tokenizers[k], ids.data, ids.n, false, &whole, &err) == FS_OK);
    for (size_t i = 0; i < text.n_bytes;) {
        uint32_t code;
        size_t n = fs_utf8_next(text, i, &code);
        HOLDS((code == FS_UTF8_BAD ? fs_buf_append(&want, "\xef\xbf\xbd", 3, &err) : fs_buf_append(&want, text.data + i, n, &err)) == FS_OK);
        i += n;
    }
    HOLDS(fs_bytes_equal(fs_buf_bytes(&whole), fs_buf_bytes(&want)));
    HOLDS(fs_bytes_equal(fs_buf_bytes(&stream), fs_buf_bytes(&want)));
    fs_buf_done(&whole);
    fs_buf_done(&stream);
    fs_buf_done(&want);
    fs_ids_done(&ids);
    return 0;
}
