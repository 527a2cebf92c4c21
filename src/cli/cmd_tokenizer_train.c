/* farseek tokenizer train: a byte-level BPE tokenizer from texts. The work is in data/bpe_train.c. */
#include "cli/cli.h"
#include "cli/derive.h"
#include "cli/work.h"

#include "base/clock.h"
#include "base/file.h"
#include "data/bpe_train.h"
#include "text/tokenizer_write.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SPECIALS_MAX 4096

static struct {
    const char *pre, *special, *bos, *eos;
    int vocab_size, min_frequency, n_threads;
    bool digits, by_line, no_record, json;
} opt = { .pre = "deepseek-v3", .special = "", .vocab_size = 32000, .min_frequency = 2 };

static const fs_option options[] = {
    FS_OPT_INT("vocab-size", 'v', opt.vocab_size, 257, FS_VOCAB_IDS_MAX, "N", "tokens, special ones and the 256 bytes among them (default 32000)"),
    FS_OPT_INT("min-frequency", 0, opt.min_frequency, 0, 1 << 30, "N", "a pair that stands less often is not merged (default 2)"),
    FS_OPT_STR("pre", 0, opt.pre, "gpt-2|smollm|llama-bpe|qwen2|deepseek-v3|deepseek-llm|deepseek-coder",
               "how text is cut into words: as the model's tokenizer does (default deepseek-v3)"),
    FS_OPT_FLAG("digits", 0, opt.digits, "every digit is a word by itself"),
    FS_OPT_STR("special", 0, opt.special, "TOKENS", "special tokens with ';' between, in the order of their ids from 0"),
    FS_OPT_STR("bos", 0, opt.bos, "TOKEN", "the special token that stands before every text (default: none)"),
    FS_OPT_STR("eos", 0, opt.eos, "TOKEN", "the special token that ends a text (default: none)"),
    FS_OPT_FLAG("lines", 0, opt.by_line, "each line of a plain text is a text by itself"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_FLAG("no-record", 0, opt.no_record, "write no record of where OUT comes from"),
    FS_OPT_FLAG("json", 0, opt.json, "counts in JSON"),
    FS_OPT_END
};

static fs_status add_special(fs_bytes *specials, size_t *n, fs_bytes text, fs_error *err)
{
    for (size_t i = 0; i < *n; i++)
        if (fs_bytes_equal(specials[i], text))
            return FS_OK;
    if (text.n_bytes < 2)
        return fs_fail(err, FS_ERR_ARGUMENT, "a special token needs two bytes or more, '%.*s' has %zu", (int)text.n_bytes, (const char *)text.data,
                       text.n_bytes);
    if (*n == SPECIALS_MAX)
        return fs_fail(err, FS_ERR_ARGUMENT, "more than %d special tokens", SPECIALS_MAX);
    specials[(*n)++] = text;
    return FS_OK;
}

static fs_status read_specials(fs_bytes *specials, size_t *n, fs_error *err)
{
    fs_status rc = FS_OK;

    for (const char *s = opt.special; *s && !rc;) {
        size_t k = strcspn(s, ";");
        if (k)
            rc = add_special(specials, n, (fs_bytes){ (const uint8_t *)s, k }, err);
        s += k + (s[k] == ';');
    }
    if (!rc && opt.bos)
        rc = add_special(specials, n, fs_bytes_str(opt.bos), err);
    if (!rc && opt.eos)
        rc = add_special(specials, n, fs_bytes_str(opt.eos), err);
    return rc;
}

/* The tokenizer before its training: it cuts text, and knows the bytes. */
static fs_status open_cutter(const fs_bpe_training *o, const fs_tokenizer_form *f, fs_tokenizer **ret, fs_error *err)
{
    fs_bpe_training none = { .vocab_size = o->n_specials + 256, .specials = o->specials, .n_specials = o->n_specials };
    fs_words no_words = { 0 };
    fs_vocab v = { 0 };
    fs_buf json = { 0 };
    fs_status rc = fs_bpe_train(&no_words, &none, NULL, &v, err);

    if (!rc)
        rc = fs_tokenizer_write_json(&v, f, &json, err);
    if (!rc)
        rc = fs_tokenizer_open_json(fs_buf_bytes(&json), "the new tokenizer", ret, err);
    fs_vocab_done(&v);
    fs_buf_done(&json);
    return rc;
}

static fs_status write_out(const fs_vocab *v, const fs_tokenizer_form *f, const char *out, fs_error *err)
{
    fs_buf json = { 0 }, config = { 0 };
    fs_tokenizer *check = NULL;
    char *path = NULL, *config_path = NULL;
    fs_status rc = fs_tokenizer_write_json(v, f, &json, err);

    if (!rc)
        rc = fs_tokenizer_write_config(f, &config, err);
    if (!rc)
        rc = fs_tokenizer_open_json(fs_buf_bytes(&json), "the new tokenizer", &check, err);
    if (!rc && fs_ends_with(out, ".json")) {
        rc = fs_file_write_atomic(out, fs_buf_bytes(&json), err);
    } else if (!rc) {
        path = fs_path_join(out, "tokenizer.json");
        config_path = fs_path_join(out, "tokenizer_config.json");
        rc = path && config_path ? fs_folder_make(out, 0700, err) : fs_fail_memory(err, strlen(out) + 32);
        if (!rc)
            rc = fs_file_write_atomic(config_path, fs_buf_bytes(&config), err);
        if (!rc)
            rc = fs_file_write_atomic(path, fs_buf_bytes(&json), err);
    }
    fs_tokenizer_close(check);
    fs_buf_done(&json);
    fs_buf_done(&config);
    free(path);
    free(config_path);
    return rc;
}

static fs_status train(const fs_args *args, const fs_bpe_training *o, const fs_tokenizer_form *f, fs_error *err)
{
    fs_tokenizer *t = NULL;
    fs_pool *pool = NULL;
    fs_words words = { 0 };
    fs_vocab v = { 0 };
    fs_derive d = { 0 };
    fs_work work;
    double start = fs_seconds_now(), counted;
    size_t n_words;
    fs_status rc = fs_pool_new(opt.n_threads, &pool, err);

    if (!rc && !opt.no_record)
        rc = fs_derive_begin(&d, "tokenizer", args, args->items[args->n - 1], err);
    if (!rc)
        rc = open_cutter(o, f, &t, err);
    fs_work_start(&work, "counting words", "MiB", 1048576);
    if (!rc)
        rc = fs_words_count(&words, t, args->items, (size_t)args->n - 1, opt.by_line, pool, &work.progress, err);
    fs_work_end(&work);
    counted = fs_seconds_now();
    n_words = words.n;
    fs_work_start(&work, "merging", "tokens", 1);
    if (!rc)
        rc = fs_bpe_train(&words, o, &work.progress, &v, err);
    fs_work_end(&work);
    if (!rc)
        rc = write_out(&v, f, args->items[args->n - 1], err);
    if (!rc)
        rc = fs_derive_end(&d, err);
    fs_derive_done(&d);
    if (!rc && opt.json)
        printf("{\"tokens\": %zu, \"merges\": %zu, \"words\": %zu}\n", v.n_ids, v.n_merges, n_words);
    else if (!rc)
        printf("%s: %zu tokens, %zu merges, from %zu different words; %.1f s counting, %.1f s merging\n", args->items[args->n - 1], v.n_ids, v.n_merges,
               n_words, counted - start, fs_seconds_now() - counted);
    fs_words_done(&words);
    fs_vocab_done(&v);
    fs_tokenizer_close(t);
    fs_pool_free(pool);
    return rc;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    fs_bytes *specials = malloc(SPECIALS_MAX * sizeof *specials);
    fs_bpe_training o = { .vocab_size = (size_t)opt.vocab_size, .min_frequency = (uint64_t)opt.min_frequency, .specials = specials };
    fs_tokenizer_form f = { .pre = opt.pre, .single_digits = opt.digits };
    fs_status rc;

    if (!specials)
        return fs_fail_memory(err, SPECIALS_MAX * sizeof *specials);
    if (opt.bos)
        f.bos = fs_bytes_str(opt.bos);
    if (opt.eos)
        f.eos = fs_bytes_str(opt.eos);
    rc = read_specials(specials, &o.n_specials, err);
    if (!rc)
        rc = train(args, &o, &f, err);
    free(specials);
    return rc;
}

const fs_command fs_command_tokenizer_train = {
    .set = { .name = "tokenizer train",
             .usage = "FILE... OUT",
             .summary = "Make a tokenizer from texts.",
             .text = "FILEs are plain text, or records (.jsonl: text, messages, or prompt and answer). OUT, a name that ends in .json, becomes a "
                     "tokenizer.json; another name a folder with tokenizer.json and tokenizer_config.json. The merges are those of Hugging Face "
                     "tokenizers' BpeTrainer, whatever --threads.",
             .options = options,
             .n_args_min = 2,
             .n_args_max = -1 },
    .run = run,
};
