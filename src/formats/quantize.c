/* The choice of types, and GGUF to GGUF; the Hub's layout to GGUF is a conversion (convert_gguf.c) with that choice. The Hub's
 * own formats are in quantize_hub.c. */
#include "formats/quantize_impl.h"

#include "formats/encode.h"
#include "tensor/quantize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MATCH_STEPS_MAX 100000
#define REPORT_BYTES    ((uint64_t)4 << 20)

struct fs_rule {
    pcre2_code *code;
    char *text;
    fs_dtype dtype;
    bool used;
};

/* llama.cpp's words, what most matrices get, and its number in general.file_type. */
static const struct { const char *name; fs_mix mix; fs_dtype base; uint32_t file_type; } words[] = {
    { "F32", FS_MIX_NONE, FS_DTYPE_F32, 0 },           { "F16", FS_MIX_NONE, FS_DTYPE_F16, 1 },
    { "BF16", FS_MIX_NONE, FS_DTYPE_BF16, 32 },        { "Q4_0", FS_MIX_PLAIN, FS_DTYPE_Q4_0, 2 },
    { "Q4_1", FS_MIX_PLAIN, FS_DTYPE_Q4_1, 3 },        { "Q5_0", FS_MIX_PLAIN, FS_DTYPE_Q5_0, 8 },
    { "Q5_1", FS_MIX_PLAIN, FS_DTYPE_Q5_1, 9 },        { "Q8_0", FS_MIX_NONE, FS_DTYPE_Q8_0, 7 },
    { "Q2_K", FS_MIX_Q2_K, FS_DTYPE_Q2_K, 10 },        { "Q3_K_S", FS_MIX_PLAIN, FS_DTYPE_Q3_K, 11 },
    { "Q3_K_M", FS_MIX_Q3_K_M, FS_DTYPE_Q3_K, 12 },    { "Q3_K", FS_MIX_Q3_K_M, FS_DTYPE_Q3_K, 12 },
    { "Q3_K_L", FS_MIX_Q3_K_L, FS_DTYPE_Q3_K, 13 },    { "Q4_K_S", FS_MIX_Q4_K_S, FS_DTYPE_Q4_K, 14 },
    { "Q4_K_M", FS_MIX_Q45_K_M, FS_DTYPE_Q4_K, 15 },   { "Q4_K", FS_MIX_Q45_K_M, FS_DTYPE_Q4_K, 15 },
    { "Q5_K_S", FS_MIX_PLAIN, FS_DTYPE_Q5_K, 16 },     { "Q5_K_M", FS_MIX_Q45_K_M, FS_DTYPE_Q5_K, 17 },
    { "Q5_K", FS_MIX_Q45_K_M, FS_DTYPE_Q5_K, 17 },     { "Q6_K", FS_MIX_PLAIN, FS_DTYPE_Q6_K, 18 },
    { "IQ4_NL", FS_MIX_IQ4, FS_DTYPE_IQ4_NL, 25 },     { "IQ4_XS", FS_MIX_IQ4, FS_DTYPE_IQ4_XS, 30 },
    { "MXFP4", FS_MIX_MXFP4, FS_DTYPE_MXFP4, 38 },     { "FP8", FS_MIX_HUB, FS_DTYPE_F8_E4M3, 0 },
    { "FP8_UE8M0", FS_MIX_HUB, FS_DTYPE_F8_E4M3, 0 },  { "FP4", FS_MIX_HUB, FS_DTYPE_FP4_E2M1, 0 },
};

/* ---- the rules ---- */
static fs_status add_rule(fs_quantizer *q, const char *text, size_t n, fs_error *err)
{
    const char *equals = NULL;
    struct fs_rule *r, *more = realloc(q->rules, (q->n_rules + 1) * sizeof *q->rules);
    PCRE2_SIZE at;
    int code;

    if (!more)
        return fs_fail_memory(err, (q->n_rules + 1) * sizeof *q->rules);
    q->rules = more;
    for (size_t i = 0; i < n; i++)
        if (text[i] == '=')
            equals = text + i;
    if (!equals || equals == text)
        return fs_fail(err, FS_ERR_ARGUMENT, "the rule '%.*s' is not REGEX=TYPE", (int)(n < 80 ? n : 80), text);
    r = &q->rules[q->n_rules];
    *r = (struct fs_rule){ .dtype = FS_DTYPE_NONE };
    for (int t = 1; t < FS_DTYPE_END; t++) {
        const char *name = fs_dtype_get((fs_dtype)t)->name;
        if (fs_can_quantize((fs_dtype)t) && strlen(name) == n - (size_t)(equals + 1 - text) && memcmp(name, equals + 1, strlen(name)) == 0)
            r->dtype = (fs_dtype)t;
    }
    if (r->dtype == FS_DTYPE_NONE)
        return fs_fail(err, FS_ERR_ARGUMENT, "the rule '%.*s' ends in no type of a tensor", (int)(n < 80 ? n : 80), text);
    r->code = pcre2_compile((PCRE2_SPTR)text, (PCRE2_SIZE)(equals - text), 0, &code, &at, NULL);
    if (!r->code)
        return code == PCRE2_ERROR_HEAP_FAILED ? fs_fail_memory(err, n)
                                               : fs_fail(err, FS_ERR_ARGUMENT, "the rule '%.*s' begins with no regular expression",
                                                         (int)(n < 80 ? n : 80), text);
    q->n_rules++;
    r->text = strndup(text, n);
    return r->text ? FS_OK : fs_fail_memory(err, n + 1);
}

fs_status fs_quantizer_new(const char *type, const char *rules, bool pure, fs_pool *pool, fs_quantizer **ret, fs_error *err)
{
    fs_quantizer *q = calloc(1, sizeof *q);
    fs_status rc = FS_OK;

    if (!q)
        return fs_fail_memory(err, sizeof *q);
    q->pool = pool;
    q->base = FS_DTYPE_NONE;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i].name, type) == 0) {
            q->mix = pure && words[i].mix != FS_MIX_HUB ? FS_MIX_NONE : words[i].mix;
            q->base = words[i].base;
            q->file_type = words[i].file_type;
        }
    q->ue8m0 = strcmp(type, "FP8_UE8M0") == 0;
    if (q->base == FS_DTYPE_NONE)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%.40s' is no type; there are " FS_QUANTIZE_TYPES, type);
    if (!rc && rules && q->mix == FS_MIX_HUB)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "rules for tensors are for GGUF, %s is not", type);
    for (const char *at = rules; at && *at && !rc;) {
        size_t n = strcspn(at, ";");
        rc = n ? add_rule(q, at, n, err) : FS_OK;
        at += n + (at[n] == ';');
    }
    if (rc) {
        fs_quantizer_free(q);
        return rc;
    }
    *ret = q;
    return FS_OK;
}

void fs_quantizer_free(fs_quantizer *q)
{
    if (!q)
        return;
    for (size_t i = 0; i < q->n_rules; i++) {
        pcre2_code_free(q->rules[i].code);
        free(q->rules[i].text);
    }
    free(q->rules);
    fs_imatrix_close(q->imatrix);
    free(q);
}

bool fs_quantizer_is_hub(const fs_quantizer *q)
{
    return q->mix == FS_MIX_HUB;
}

/* ---- importance ---- */
fs_status fs_quantizer_set_imatrix(fs_quantizer *q, const char *path, fs_error *err)
{
    if (q->mix == FS_MIX_HUB)
        return fs_fail(err, FS_ERR_ARGUMENT, "the formats of the Hub know no importance of columns; --imatrix is for GGUF");
    return fs_imatrix_open(path, &q->imatrix, err);
}

static const float *columns(void *ud, const char *name, uint64_t expert, uint64_t n_experts, uint64_t n_cols)
{
    fs_quantizer *q = ud;

    return q->imatrix ? fs_imatrix_columns(q->imatrix, name, expert, n_experts, n_cols) : NULL;
}

/* ---- the choice ---- */
static bool has(const char *name, const char *part)
{
    return strstr(name, part) != NULL;
}

static bool may_quantize(const char *name, int n_dims)
{
    return n_dims > 1 && fs_ends_with(name, ".weight") && !fs_ends_with(name, "_norm.weight") && !has(name, "ffn_gate_inp.") &&
           !has(name, "tid2eid") && !has(name, "hc_") && !has(name, "compressor_ape");
}

/* The first and last eighth of the layers, and every third between. */
static bool more_bits(uint32_t i, uint32_t n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static fs_dtype mixed(const fs_quantizer *q, const char *name, int n_dims, const uint64_t *dims)
{
    const fs_config *c = q->config;
    uint32_t n = c->num_hidden_layers, i = 0;
    bool head = strcmp(name, "output.weight") == 0 || (q->tied && strcmp(name, "token_embd.weight") == 0);
    bool v = fs_ends_with(name, "attn_v.weight") || fs_ends_with(name, "attn_kv_b.weight"), down = has(name, "ffn_down");
    bool out = fs_ends_with(name, "attn_output.weight"), gqa4 = c->num_attention_heads / c->num_key_value_heads >= 4;
    fs_dtype t = q->base;

    if (q->mix == FS_MIX_NONE)
        return t;
    if (q->mix == FS_MIX_MXFP4)
        return !head && n_dims > 2 && dims[0] > 1 && has(name, "_exps.") ? t : FS_DTYPE_Q8_0;
    if (head)
        return dims[n_dims - 1] % fs_dtype_get(t)->block_elems ? FS_DTYPE_Q8_0 : FS_DTYPE_Q6_K;
    if (sscanf(name, "blk.%" SCNu32 ".", &i) != 1)
        return t;
    switch (q->mix) {
    case FS_MIX_Q2_K:
        return v ? (gqa4 ? FS_DTYPE_Q4_K : FS_DTYPE_Q3_K) : down || out ? FS_DTYPE_Q3_K : t;
    case FS_MIX_Q3_K_M:
        if (v)
            t = i < 2 ? FS_DTYPE_Q5_K : FS_DTYPE_Q4_K;
        else if (down)
            t = i < n / 16 ? FS_DTYPE_Q5_K : FS_DTYPE_Q4_K;
        else if (out)
            t = FS_DTYPE_Q4_K;
        break;
    case FS_MIX_Q3_K_L:
        t = v || down || out ? FS_DTYPE_Q5_K : t;
        break;
    case FS_MIX_Q4_K_S:
        t = (v && i < 4) || (down && i < n / 8) ? FS_DTYPE_Q5_K : t;
        break;
    case FS_MIX_Q45_K_M:
        t = (v || down) && more_bits(i, n) ? FS_DTYPE_Q6_K : t;
        break;
    case FS_MIX_IQ4:
        t = (v && gqa4) || (down && i < n / 8 && !q->imatrix) ? FS_DTYPE_Q5_K : t;
        break;
    default:
        break;
    }
    /* Eight heads share these of a model of 70B, so they are small. */
    if (v && n == 80 && c->num_attention_heads != c->num_key_value_heads && (t == FS_DTYPE_Q3_K || t == FS_DTYPE_Q4_K))
        t = FS_DTYPE_Q5_K;
    return t;
}

static fs_dtype of_32(fs_dtype t)
{
    return t == FS_DTYPE_IQ4_XS ? FS_DTYPE_IQ4_NL : t == FS_DTYPE_Q4_K ? FS_DTYPE_Q5_0 : t == FS_DTYPE_Q5_K ? FS_DTYPE_Q5_1 :
           t == FS_DTYPE_Q6_K ? FS_DTYPE_Q8_0 : t == FS_DTYPE_Q2_K || t == FS_DTYPE_Q3_K ? FS_DTYPE_Q4_0 : t;
}

/* The rule that a tensor falls under, or NULL. */
static fs_status find_rule(fs_quantizer *q, const char *name, struct fs_rule **ret, fs_error *err)
{
    fs_status rc = FS_OK;

    *ret = NULL;
    for (size_t i = 0; i < q->n_rules && !*ret && !rc; i++) {
        pcre2_match_data *data = pcre2_match_data_create(1, NULL);
        pcre2_match_context *context = pcre2_match_context_create(NULL);
        int found = PCRE2_ERROR_NOMEMORY;
        if (data && context) {
            pcre2_set_match_limit(context, MATCH_STEPS_MAX);
            found = pcre2_match(q->rules[i].code, (PCRE2_SPTR)name, strlen(name), 0, 0, data, context);
        }
        pcre2_match_data_free(data);
        pcre2_match_context_free(context);
        if (found >= 0)
            *ret = &q->rules[i];
        else if (found == PCRE2_ERROR_NOMEMORY)
            rc = fs_fail_memory(err, sizeof(void *));
        else if (found != PCRE2_ERROR_NOMATCH)
            rc = fs_fail(err, FS_ERR_ARGUMENT, "the rule '%s' takes too long to match '%s'", q->rules[i].text, name);
    }
    return rc;
}

static fs_status choose(void *ud, const char *name, fs_dtype keep, int n_dims, const uint64_t *dims, fs_dtype *ret, fs_error *err)
{
    fs_quantizer *q = ud;
    uint64_t cols = dims[n_dims - 1];
    struct fs_rule *rule;
    fs_dtype t;
    fs_status rc;

    *ret = keep;
    if (!may_quantize(name, n_dims))
        return FS_OK;
    rc = find_rule(q, name, &rule, err);
    if (rc)
        return rc;
    if (rule) {
        rule->used = true;
        *ret = rule->dtype;
        if (cols % fs_dtype_get(rule->dtype)->block_elems)
            return fs_fail(err, FS_ERR_ARGUMENT, "tensor '%s' has rows of %" PRIu64 ", which %s of the rule '%s' cannot hold", name, cols,
                           fs_dtype_get(rule->dtype)->name, rule->text);
        return FS_OK;
    }
    t = mixed(q, name, n_dims, dims);
    if (cols % fs_dtype_get(t)->block_elems)
        t = of_32(t);
    *ret = cols % fs_dtype_get(t)->block_elems ? FS_DTYPE_F16 : t;
    return FS_OK;
}

static fs_status check_rules(const fs_quantizer *q, fs_error *err)
{
    for (size_t i = 0; i < q->n_rules; i++)
        if (!q->rules[i].used)
            return fs_fail(err, FS_ERR_ARGUMENT, "no matrix falls under the rule '%s'", q->rules[i].text);
    return FS_OK;
}

static fs_status check(void *ud, fs_error *err)
{
    return check_rules(ud, err);
}

/* ---- GGUF to GGUF ---- */
typedef struct copy {
    fs_quantizer *q;
    const fs_convert_options *o;
    fs_gguf_writer *writer;
    uint64_t done, total, reported;
} copy;

static fs_status put_bytes(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    copy *c = ud;

    c->done += n_bytes;
    if (c->o->progress && c->done - c->reported >= REPORT_BYTES) {
        c->reported = c->done;
        if (!c->o->progress(c->o->ud, c->done, c->total))
            return fs_fail(err, FS_ERR_INTERRUPTED, "the quantisation was stopped");
    }
    return fs_gguf_writer_write(c->writer, data, n_bytes, err);
}

static fs_status put_raw(copy *c, const fs_tensor *t, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t at = 0; at < t->n_bytes && !rc; at += REPORT_BYTES)
        rc = put_bytes(c, t->data + at, t->n_bytes - at < REPORT_BYTES ? t->n_bytes - at : REPORT_BYTES, err);
    return rc;
}

/* A tensor as it is, or its rows in another type, an expert at a time. */
static fs_status put_tensor(copy *c, fs_encoder *e, const fs_tensor *t, fs_dtype dtype, fs_error *err)
{
    uint64_t n = t->n_dims > 2 ? t->dims[0] : 1;
    fs_tensor one = *t;
    fs_status rc = FS_OK;

    if (dtype == t->dtype)
        return put_raw(c, t, err);
    if (n > 1) {
        one.n_dims--;
        memmove(one.dims, one.dims + 1, (size_t)one.n_dims * sizeof *one.dims);
        one.n_bytes = t->n_bytes / n;
    }
    for (uint64_t i = 0; i < n && !rc; i++, one.data += one.n_bytes)
        rc = fs_encode_rows(e, t->name, &one, 0, dtype, columns(c->q, t->name, i, n, fs_tensor_cols(t)), put_bytes, c, err);
    return rc;
}

static bool is_ours(fs_bytes key)
{
    return fs_bytes_equal(key, FS_BYTES_LIT("general.file_type")) || fs_bytes_equal(key, FS_BYTES_LIT("general.quantization_version")) ||
           fs_bytes_equal(key, FS_BYTES_LIT("general.alignment")) || (key.n_bytes > 6 && memcmp(key.data, "split.", 6) == 0);
}

static fs_status declare(copy *c, const fs_gguf *g, fs_dtype *types, size_t *max_cols, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < fs_gguf_n_tensors(g) && !rc; i++) {
        const fs_tensor *t = fs_gguf_tensor_at(g, i);
        types[i] = t->dtype;
        if (t->n_dims > 1 && fs_dtype_get(t->dtype)->is_weight)
            rc = choose(c->q, t->name, t->dtype, t->n_dims, t->dims, &types[i], err);
        if (!rc)
            rc = fs_gguf_put_tensor(c->writer, t->name, types[i], t->n_dims, t->dims, err);
        *max_cols = fs_tensor_cols(t) > *max_cols ? (size_t)fs_tensor_cols(t) : *max_cols;
    }
    return rc;
}

static fs_status copy_gguf(copy *c, const fs_weights *w, const char *path, fs_error *err)
{
    const fs_gguf *g = fs_weights_gguf(w);
    size_t n = 0, max_cols = 1, at = 0;
    fs_encoder *encoder = NULL;
    fs_dtype *types = NULL;
    fs_status rc = fs_gguf_writer_new(path, &c->writer, err);

    for (size_t i = 0; i < fs_gguf_n_values(g) && !rc; i++)
        if (!is_ours(fs_gguf_value_at(g, i)->key))
            rc = fs_gguf_put_value(c->writer, fs_gguf_value_at(g, i), err);
    if (!rc)
        rc = fs_gguf_put_u32(c->writer, "general.file_type", c->q->file_type, err);
    if (!rc)
        rc = fs_gguf_put_u32(c->writer, "general.quantization_version", 2, err);
    for (size_t p = 0; (g = fs_weights_gguf_part(w, p)); p++)
        n += fs_gguf_n_tensors(g);
    if (!rc && !(types = malloc((n + 1) * sizeof *types)))
        rc = fs_fail_memory(err, (n + 1) * sizeof *types);
    for (size_t p = 0; !rc && (g = fs_weights_gguf_part(w, p)); at += fs_gguf_n_tensors(g), p++)
        rc = declare(c, g, types + at, &max_cols, err);
    if (!rc)
        rc = check_rules(c->q, err);
    if (!rc)
        rc = fs_encoder_new(c->q->pool, max_cols, &encoder, err);
    if (!rc)
        rc = fs_gguf_writer_begin(c->writer, err);
    c->total = rc ? 0 : fs_gguf_writer_data_bytes(c->writer);
    at = 0;
    for (size_t p = 0; !rc && (g = fs_weights_gguf_part(w, p)); p++)
        for (size_t i = 0; i < fs_gguf_n_tensors(g) && !rc; i++)
            rc = put_tensor(c, encoder, fs_gguf_tensor_at(g, i), types[at++], err);
    if (!rc)
        rc = fs_gguf_writer_commit(c->writer, err);
    fs_gguf_writer_close(c->writer);
    fs_encoder_free(encoder);
    free(types);
    return rc;
}

fs_status fs_quantize_to_gguf(fs_quantizer *q, const fs_weights *w, const char *path, const fs_convert_options *o, fs_error *err)
{
    fs_convert_quant quant = { .pool = q->pool, .file_type = q->file_type, .choose = choose, .check = check, .columns = columns,
                               .ud = q };
    fs_convert_options with = *o;
    copy c = { .q = q, .o = o };

    q->config = fs_weights_config(w);
    q->tied = q->config->tie_word_embeddings;
    if (fs_weights_gguf(w))
        return copy_gguf(&c, w, path, err);
    with.type = FS_DTYPE_NONE;
    with.quant = &quant;
    return fs_convert_to_gguf(w, path, &with, err);
}
