/* farseek convert: the Hub's layout into GGUF and back, and adapters into their model; make.c does it. */
#include "cli/cli.h"
#include "cli/make.h"

#include "base/file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static fs_make opt = { .type = "keep", .shard_gib = 5 };
static const char *adapters;

static const fs_option options[] = {
    FS_OPT_STR("type", 0, opt.type, "keep|F32|BF16|F16", "of the matrices (default keep: one that holds what is stored)"),
    FS_OPT_STR("adapter", 0, adapters, "FOLDER[=FACTOR]", "make a LoRA adapter part of the model, FACTOR times; several: with ';' between"),
    FS_OPT_FLOAT("shard-size", 0, opt.shard_gib, 0, 1e6, "GIB", "most data in one safetensors file; 0: one file (default 5)"),
    FS_OPT_FLAG("no-tokenizer", 0, opt.no_tokenizer, "leave the tokenizer out"),
    FS_OPT_FLAG("no-mtp", 0, opt.no_mtp, "leave out the layers that predict ahead"),
    FS_OPT_STR("licence", 0, opt.licence, "ID", "in the record (default: what MODEL's record says)"),
    FS_OPT_STR("signed-off-by", 0, opt.signed_off_by, "NAME <MAIL>", "in the record: who vouches that the work may be given away"),
    FS_OPT_FLAG("no-record", 0, opt.no_record, "write no record of where OUT comes from"),
    FS_OPT_END
};

/* "FOLDER" or "FOLDER=FACTOR", which is cut. */
static fs_status add_adapter(fs_make *m, char *text, fs_error *err)
{
    char *equals = strrchr(text, '='), *end = NULL;
    float factor = 1;

    if (m->n_adapters == FS_MAKE_ADAPTERS_MAX)
        return fs_fail(err, FS_ERR_ARGUMENT, "--adapter takes at most %d", FS_MAKE_ADAPTERS_MAX);
    if (equals && !fs_file_is_folder(text)) {
        factor = strtof(equals + 1, &end);
        if (end == equals + 1 || *end || !isfinite(factor))
            return fs_fail(err, FS_ERR_ARGUMENT, "--adapter '%.200s': '%.40s' is no factor", text, equals + 1);
        *equals = 0;
    }
    m->adapters[m->n_adapters++] = (struct fs_make_adapter){ text, factor };
    return FS_OK;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    fs_make m = opt;
    char *list = adapters ? strdup(adapters) : NULL, *rest = list, *text;
    fs_status rc = adapters && !list ? fs_fail_memory(err, strlen(adapters)) : FS_OK;

    while (!rc && (text = strsep(&rest, ";")) != NULL)
        if (*text)
            rc = add_adapter(&m, text, err);
    if (!rc && adapters && !m.n_adapters)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "--adapter names no folder");
    if (!rc)
        rc = fs_make_model(&m, args->items[0], args->items[1], err);
    free(list);
    return rc;
}

const fs_command fs_command_convert = {
    .set = { .name = "convert",
             .usage = "MODEL OUT",
             .summary = "Convert a model between the Hub's layout and GGUF, or merge an adapter into it.",
             .text = "MODEL in the Hub's layout becomes the GGUF file OUT, whose name ends in .gguf; a GGUF becomes the folder OUT with "
                     "config.json, generation_config.json, safetensors and the tokenizer. The values stay equal to the bit, unless --type "
                     "gives them another type; vectors and routers are always F32. With --adapter OUT is the model with LoRA adapters, as PEFT saves "
                     "them, made part of it, and may be a folder for a model in the Hub's layout too; each sum is rounded once, to the type that OUT "
                     "has. OUT appears when it is whole, or not at all; beside it the record of where it comes from, which farseek verify checks.",
             .options = options,
             .n_args_min = 2,
             .n_args_max = 2 },
    .run = run,
};
