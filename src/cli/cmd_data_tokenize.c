/* farseek data tokenize, farseek data rows: records as token shards, and the rows that training would see. The work is in
 * data/tokens.c, data/shards.c and data/pack.c. */
#include "cli/cli.h"
#include "cli/data_cli.h"
#include "cli/derive.h"
#include "cli/tokens.h"

#include "data/pack.h"
#include "data/tokens.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct {
    const char *format, *eos, *pack;
    uint64_t seed, first;
    double shard_mib;
    int length, n;
    bool bos, thinking, marks, no_record, json;
} opt = { .pack = "cut", .length = 256, .n = 1, .shard_mib = 64, .bos = true, .thinking = true };

static const fs_option tokenize_options[] = {
    FS_OPT_STR("format", 0, opt.format, "FORMAT", "chat format of messages and problems (default: what the tokenizer tells; none: problems without one)"),
    FS_OPT_STR("eos", 0, opt.eos, "TOKEN", "what ends a document (default: the tokenizer's eos_token)"),
    FS_OPT_FLAG("bos", 0, opt.bos, "documents start with what the tokenizer puts first (default true)"),
    FS_OPT_FLAG("thinking", 0, opt.thinking, "of chat formats that have the switch (default true)"),
    FS_OPT_FLAG("marks", 0, opt.marks, "special tokens spelled in traces and answers are those tokens, as <think> of countdown (not with a chat format)"),
    FS_OPT_FLOAT("shard-size", 0, opt.shard_mib, 0.001, 1e6, "MIB", "of tokens in one file (default 64)"),
    FS_OPT_FLAG("no-record", 0, opt.no_record, "write no record of where OUT comes from"),
    FS_OPT_FLAG("json", 0, opt.json, "counts in JSON"),
    FS_OPT_END
};

static const fs_option rows_options[] = {
    FS_OPT_INT("length", 'l', opt.length, 2, 1 << 20, "N", "tokens of a row (default 256)"),
    FS_OPT_U64("seed", 's', opt.seed, "N", "of the order (default 0)"),
    FS_OPT_U64("first", 0, opt.first, "N", "the first row (default 0)"),
    FS_OPT_INT("count", 'n', opt.n, 1, 1 << 20, "N", "rows (default 1)"),
    FS_OPT_STR("pack", 0, opt.pack, "cut|whole", "documents are cut at a row's end, or stay whole and the row is padded (default cut)"),
    FS_OPT_END
};

/* What a tokenizer's files say about chats, opened. */
typedef struct chat {
    fs_tokenizer *tokenizer;
    fs_chat_config config;
    fs_chat_template *template;
} chat;

static void chat_done(chat *c)
{
    fs_chat_template_close(c->template);
    fs_chat_config_done(&c->config);
    fs_tokenizer_close(c->tokenizer);
}

static fs_status read_format(chat *c, fs_token_form *f, fs_error *err)
{
    if (opt.format) {
        f->format = fs_chat_format_from_name(opt.format);
        if (f->format == FS_CHAT_FORMAT_END)
            return fs_fail(err, FS_ERR_ARGUMENT, "no chat format is called '%.60s'", opt.format);
    } else {
        f->format = fs_chat_format_detect(fs_buf_bytes(&c->config.source), c->tokenizer, NULL);
    }
    if (f->format != FS_CHAT_TEMPLATE)
        return FS_OK;
    if (!c->config.source.n_bytes)
        return fs_fail(err, FS_ERR_ARGUMENT, "the tokenizer has no chat template");
    return fs_chat_template_open(fs_buf_bytes(&c->config.source), c->config.own, &c->template, err);
}

static fs_status read_eos(const chat *c, fs_token_form *f, fs_error *err)
{
    fs_bytes text = { 0 };
    bool found = false;
    fs_status rc = FS_OK;

    f->eos = -1;
    if (opt.eos)
        text = fs_bytes_str(opt.eos);
    else if (c->config.own)
        rc = fs_json_string(c->config.own, "eos_token", &text, &found, err);
    if (rc || !text.n_bytes)
        return rc;
    f->eos = fs_tokenizer_id(c->tokenizer, text);
    return f->eos >= 0 ? FS_OK
                       : fs_fail(err, FS_ERR_ARGUMENT, "the tokenizer has no token '%.*s'", text.n_bytes < 60 ? (int)text.n_bytes : 60, (const char *)text.data);
}

typedef struct tokenizing {
    fs_token_form form;
    fs_shards_writer *w;
    uint64_t n_records;
} tokenizing;

static fs_status put_sample(void *ud, const int32_t *ids, const uint8_t *learn, size_t n, fs_error *err)
{
    return fs_shards_writer_put(ud, ids, learn, n, err);
}

static fs_status put_record(void *ud, const fs_data_record *r, const char *path, size_t line, fs_error *err)
{
    tokenizing *t = ud;

    t->n_records++;
    return fs_data_record_tokens(&t->form, r, path, line, put_sample, t->w, err);
}

static fs_status print_counts(const tokenizing *t, const char *out, fs_error *err)
{
    fs_counts counts = { 0 };
    uint64_t learnt, documents, shards, tokens = fs_shards_writer_tokens(t->w, &learnt, &documents, &shards);

    *fs_counts_of(&counts, "records") = t->n_records;
    *fs_counts_of(&counts, "documents") = documents;
    *fs_counts_of(&counts, "tokens") = tokens;
    *fs_counts_of(&counts, "learnt") = learnt;
    *fs_counts_of(&counts, "shards") = shards;
    return fs_counts_print(&counts, out, opt.json, err);
}

static fs_status tokenize(const fs_args *args, fs_error *err)
{
    const char *out = args->items[args->n - 1];
    tokenizing t = { .form = { .bos = opt.bos, .thinking = opt.thinking, .marks = opt.marks } };
    chat c = { .config = { .add_bos = -1 } };
    fs_derive d = { 0 };
    fs_status rc = fs_tokens_open(args->items[0], &c.tokenizer, &c.config, err);

    if (!rc && !opt.no_record)
        rc = fs_derive_begin(&d, "tokenize", args, out, err);
    if (!rc) {
        fs_chat_config_set_bos(&c.config, c.tokenizer);
        rc = read_format(&c, &t.form, err);
    }
    if (!rc)
        rc = read_eos(&c, &t.form, err);
    t.form.tokenizer = c.tokenizer;
    t.form.template = c.template;
    if (!rc)
        rc = fs_shards_writer_new(out, c.tokenizer, (size_t)(opt.shard_mib * 1048576.0 / 4), &t.w, err);
    if (!rc)
        rc = fs_records_walk(args->items + 1, (size_t)args->n - 2, "tokenizing", put_record, &t, err);
    if (!rc)
        rc = fs_shards_writer_commit(t.w, err);
    if (!rc)
        rc = fs_derive_end(&d, err);
    fs_derive_done(&d);
    if (!rc)
        rc = print_counts(&t, out, err);
    fs_shards_writer_close(t.w);
    chat_done(&c);
    return rc;
}

/* ---- rows ---- */

static fs_status put_list(fs_buf *out, const char *name, const int32_t *x, size_t n, fs_error *err)
{
    fs_status rc = fs_buf_printf(out, err, ", \"%s\": ", name);

    return rc ? rc : fs_tokens_write_ids(out, x, n, err);
}

static fs_status put_row(fs_pack *p, uint64_t k, int32_t *ids, int32_t *targets, fs_pack_piece *pieces, fs_buf *out, fs_error *err)
{
    uint32_t n_pieces = 0;
    uint64_t epoch = 0;
    fs_status rc = fs_pack_row(p, k, ids, targets, pieces, &n_pieces, &epoch, err);

    fs_buf_clear(out);
    if (!rc)
        rc = fs_buf_printf(out, err, "{\"row\": %" PRIu64 ", \"epoch\": %" PRIu64, k, epoch);
    if (!rc)
        rc = put_list(out, "ids", ids, (size_t)opt.length, err);
    if (!rc)
        rc = put_list(out, "targets", targets, (size_t)opt.length, err);
    if (!rc)
        rc = fs_buf_append_str(out, ", \"pieces\": [", err);
    for (uint32_t i = 0; i < n_pieces && !rc; i++)
        rc = fs_buf_printf(out, err, "%s[%" PRIu32 ",%" PRIu32 "]", i ? "," : "", pieces[i].begin, pieces[i].n);
    return rc ? rc : fs_buf_append_str(out, "]}\n", err);
}

static fs_status rows(const fs_args *args, fs_error *err)
{
    size_t n = (size_t)opt.length;
    int32_t *ids = malloc(n * sizeof *ids), *targets = malloc(n * sizeof *targets);
    fs_pack_piece *pieces = malloc(n * sizeof *pieces);
    fs_shards *s = NULL;
    fs_pack *p = NULL;
    fs_buf out = { 0 };
    fs_status rc = ids && targets && pieces ? fs_shards_open(args->items[0], &s, err) : fs_fail_memory(err, n * 16);

    if (!rc)
        rc = fs_pack_new(s, opt.seed, (uint32_t)n, strcmp(opt.pack, "whole") == 0 ? FS_PACK_WHOLE : FS_PACK_CUT, &p, err);
    for (int i = 0; i < opt.n && !rc; i++) {
        rc = put_row(p, opt.first + (uint64_t)i, ids, targets, pieces, &out, err);
        if (!rc)
            fwrite(out.data, 1, out.n_bytes, stdout);
    }
    fs_buf_done(&out);
    fs_pack_free(p);
    fs_shards_close(s);
    free(ids);
    free(targets);
    free(pieces);
    return rc;
}

const fs_command fs_command_data_tokenize = {
    .set = { .name = "data tokenize",
             .usage = "TOKENIZER FILE... OUT",
             .summary = "Turn records into token shards.",
             .text = "Documents are learnt whole. Of conversations the replies are learnt, of problems trace and answer, up to and with what ends them; "
                     "the prompt is what the chat format makes of it. OUT becomes a folder of safetensors files with an index.",
             .options = tokenize_options,
             .n_args_min = 3,
             .n_args_max = -1 },
    .run = tokenize,
};

const fs_command fs_command_data_rows = {
    .set = { .name = "data rows",
             .usage = "SHARDS",
             .summary = "Show the rows that training gets from token shards.",
             .text = "Each line is a row in JSON: ids, targets (-1: not learnt), and the pieces [begin, n], each a document's. A row is a function of "
                     "--seed, --length, --pack and its number.",
             .options = rows_options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = rows,
};
