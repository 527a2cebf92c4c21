/* GGUF metadata tokenizer.ggml.*: model "gpt2" is byte-level BPE with tokens in the GPT-2 alphabet, token_type says
 * which of them are markers, and `pre` names the split expressions, which the file itself does not carry.
 *
 * The expressions of a name are facts about the models that use it (their tokenizer.json), listed by llama.cpp under
 * that name; this is the only table of its kind here. */
#include "text/tokenizer_impl.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
#define AFTER_NUMBER "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3       CONTRACTIONS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" AFTER_NUMBER
#define QWEN2        CONTRACTIONS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" AFTER_NUMBER
#define GPT2         "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define HAN_DEEPSEEK "[一-龥ࠀ-一가-퟿]+"
/* The letters of DeepSeek-LLM's own tokenizer.json: cased ones, as some Unicode version had them. */
#define LETTERS_DEEPSEEK                                                                                                  \
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-"             \
    "ὗὙὛὝὟ-\\x{1f7d}ᾀ-ᾴᾶ-ᾼ\\x{1fbe}ῂ-ῄῆ-ῌῐ-\\x{1fd3}ῖ-\\x{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\\x{2126}ℨ\\x{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-"             \
    "ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"

static const fs_pre pres[] = {
    { " gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de ", false, false, false, { GPT2 } },
    { " default ",
      false,
      false,
      false,
      { "[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]" } },
    { " smollm starcoder refact command-r codeshell ", false, false, false, { "\\p{N}", GPT2 } },
    { " llama-bpe llama3 llama-v3 ", true, false, true, { LLAMA3 } },
    { " qwen2 deepseek-r1-qwen ", false, true, false, { QWEN2 } },
    { " deepseek-v3 ",
      false,
      false,
      false,
      { "\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*"
        "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" } },
    { " deepseek-llm ",
      false,
      false,
      false,
      { "[\\r\\n]", LETTERS_DEEPSEEK, "\\s?[!-/:-~！-／：-～‘-‟　-。]+", "\\s+$", HAN_DEEPSEEK, "\\p{N}+" } },
    { " deepseek-coder ", false, false, false, { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN_DEEPSEEK, "\\p{N}" } },
};

fs_status fs_pre_find(fs_bytes name, const fs_pre **ret, fs_error *err)
{
    char key[64];

    if (name.n_bytes < sizeof key - 2 && !memchr(name.data, ' ', name.n_bytes)) {
        snprintf(key, sizeof key, " %.*s ", (int)name.n_bytes, (const char *)name.data);
        for (size_t i = 0; i < sizeof pres / sizeof *pres; i++)
            if (strlen(key) == name.n_bytes + 2 && strstr(pres[i].names, key)) {
                *ret = &pres[i];
                return FS_OK;
            }
    }
    return fs_fail(err, FS_ERR_UNSUPPORTED, "tokenizer.ggml.pre '%.*s' is not known", name.n_bytes < 100 ? (int)name.n_bytes : 100,
                   (const char *)name.data);
}

/* Files spell a line end in an expression as itself or as an escape; the table escapes. */
static bool same_expression(fs_bytes a, const char *b)
{
    for (size_t i = 0; i < a.n_bytes; i++) {
        char c = (char)a.data[i];
        if (c == '\r' || c == '\n') {
            if (*b++ != '\\')
                return false;
            c = c == '\r' ? 'r' : 'n';
        }
        if (!*b || *b++ != c)
            return false;
    }
    return *b == 0;
}

const fs_pre *fs_pre_match(const fs_bytes *steps, size_t n_steps, bool ignore_merges, bool nfc)
{
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
        size_t k = 0;
        while (k < n_steps && k < FS_PRE_STEPS_MAX && pres[i].steps[k] && same_expression(steps[k], pres[i].steps[k]))
            k++;
        if (k == n_steps && (k == FS_PRE_STEPS_MAX || !pres[i].steps[k]) && pres[i].ignore_merges == ignore_merges && pres[i].nfc == nfc)
            return &pres[i];
    }
    return NULL;
}

static fs_status string_array(const fs_gguf *g, const char *key, const fs_gguf_value **ret, fs_error *err)
{
    const fs_gguf_value *v = fs_gguf_find(g, key);

    if (!v || v->type != FS_GGUF_ARRAY || v->item_type != FS_GGUF_STRING)
        return fs_fail(err, FS_ERR_FORMAT, "%s is not a list of strings", key);
    *ret = v;
    return FS_OK;
}

static fs_status read_tokens(fs_tokenizer *t, const fs_gguf *g, fs_error *err)
{
    const fs_gguf_value *tokens = NULL, *types = fs_gguf_find(g, "tokenizer.ggml.token_type");
    uint8_t bytes[FS_VOCAB_TOKEN_MAX];
    size_t at = 0;
    fs_status rc = string_array(g, "tokenizer.ggml.tokens", &tokens, err);

    if (rc)
        return rc;
    if (tokens->n_items > FS_VOCAB_IDS_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "%" PRIu64 " tokens, at most %d are allowed", tokens->n_items, FS_VOCAB_IDS_MAX);
    if (types && (types->type != FS_GGUF_ARRAY || types->item_type == FS_GGUF_STRING || types->item_type == FS_GGUF_ARRAY ||
                  types->n_items != tokens->n_items))
        return fs_fail(err, FS_ERR_FORMAT, "tokenizer.ggml.token_type does not give a number for each of %" PRIu64 " tokens", tokens->n_items);
    for (uint64_t i = 0; i < tokens->n_items && !rc; i++) {
        fs_bytes text = fs_gguf_next_string(tokens, &at);
        double type = types ? fs_gguf_number_at(types, i) : FS_TOKEN_NORMAL;
        size_t n;
        if (text.n_bytes == 0)
            continue; /* a hole */
        if (text.n_bytes > FS_VOCAB_TOKEN_MAX || !fs_utf8_valid(text))
            return fs_fail(err, FS_ERR_FORMAT, "token %" PRIu64 " has %zu bytes or is not UTF-8", i, text.n_bytes);
        if (type == FS_TOKEN_NORMAL) {
            bool plain = fs_alphabet_decode(text, bytes, &n);
            rc = fs_vocab_set(&t->vocab, (int64_t)i, plain ? (fs_bytes){ bytes, n } : text, plain ? FS_VOCAB_BYTES : FS_VOCAB_RAW, err);
        } else if (type == FS_TOKEN_UNUSED) {
            rc = fs_vocab_set(&t->vocab, (int64_t)i, text, FS_VOCAB_RAW, err);
        } else if (type == FS_TOKEN_CONTROL || type == FS_TOKEN_UNKNOWN || type == FS_TOKEN_USER_DEFINED) {
            rc = fs_tokenizer_add(t, text, (fs_added_token){ .id = (int32_t)i, .special = type != FS_TOKEN_USER_DEFINED }, false, err);
        } else {
            rc = fs_fail(err, FS_ERR_UNSUPPORTED, "token %" PRIu64 " has type %g", i, type);
        }
    }
    return rc;
}

static fs_status read_merges(fs_tokenizer *t, const fs_gguf *g, fs_error *err)
{
    const fs_gguf_value *merges = NULL;
    uint8_t bytes[FS_VOCAB_TOKEN_MAX];
    size_t at = 0;
    fs_status rc = string_array(g, "tokenizer.ggml.merges", &merges, err);

    for (uint64_t i = 0; !rc && i < merges->n_items; i++) {
        fs_bytes text = fs_gguf_next_string(merges, &at);
        const uint8_t *space = text.n_bytes ? memchr(text.data, ' ', text.n_bytes) : NULL;
        size_t n_left = space ? (size_t)(space - text.data) : 0, left, right;
        if (!space || text.n_bytes > FS_VOCAB_TOKEN_MAX || !fs_alphabet_decode((fs_bytes){ text.data, n_left }, bytes, &left) ||
            !fs_alphabet_decode((fs_bytes){ space + 1, text.n_bytes - n_left - 1 }, bytes + left, &right))
            return fs_fail(err, FS_ERR_FORMAT, "merge %" PRIu64 " is not two words of the byte alphabet", i);
        rc = fs_vocab_add_merge(&t->vocab, (fs_bytes){ bytes, left }, (fs_bytes){ bytes + left, right }, err);
    }
    return rc;
}

static fs_status read_all(fs_tokenizer *t, const fs_gguf *g, fs_error *err)
{
    fs_bytes model = { 0 }, name = { 0 };
    const fs_pre *p = NULL;
    bool has_model = false, has_pre = false, add_bos;
    int64_t bos = -1;
    fs_status rc;

    if ((rc = fs_gguf_string(g, "tokenizer.ggml.model", &model, &has_model, err)) ||
        (rc = fs_gguf_string(g, "tokenizer.ggml.pre", &name, &has_pre, err)))
        return rc;
    if (!has_model || !fs_bytes_equal(model, FS_BYTES_LIT("gpt2")))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "tokenizer.ggml.model is '%.*s', known is gpt2",
                       model.n_bytes < 100 ? (int)model.n_bytes : 100, has_model ? (const char *)model.data : "");
    if (!has_pre)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "there is no tokenizer.ggml.pre, so the split expressions are not known");
    if ((rc = fs_pre_find(name, &p, err)))
        return rc;
    add_bos = p->add_bos;
    t->ignore_merges = p->ignore_merges;
    t->nfc = p->nfc;
    for (int i = 0; i < FS_PRE_STEPS_MAX && p->steps[i] && !rc; i++)
        rc = fs_split_add(&t->split, fs_bytes_str(p->steps[i]), false, FS_SPLIT_ISOLATED, false, err);
    if (rc || (rc = fs_gguf_bool(g, "tokenizer.ggml.add_space_prefix", &t->split.prefix_space, NULL, err)) ||
        (rc = fs_gguf_bool(g, "tokenizer.ggml.add_bos_token", &add_bos, NULL, err)) || (rc = read_tokens(t, g, err)) ||
        (rc = read_merges(t, g, err)) ||
        (rc = fs_gguf_int(g, "tokenizer.ggml.bos_token_id", 0, (int64_t)t->vocab.n_ids - 1, &bos, NULL, err)))
        return rc;
    if (add_bos)
        fs_tokenizer_set_bos(t, (int32_t)bos);
    return fs_tokenizer_seal(t, err);
}

fs_status fs_tokenizer_open_gguf(const fs_gguf *g, const char *what, fs_tokenizer **ret, fs_error *err)
{
    fs_tokenizer *t = NULL;
    fs_status rc = fs_tokenizer_new(&t, err);

    if (!rc)
        rc = read_all(t, g, err);
    if (rc) {
        fs_tokenizer_close(t);
        fs_fail_prefix(err, "tokenizer '%s'", what);
        return rc;
    }
    *ret = t;
    return FS_OK;
}
