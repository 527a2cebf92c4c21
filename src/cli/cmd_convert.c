/* farseek convert: the Hub's layout into GGUF and back; make.c does it. */
#include "cli/cli.h"
#include "cli/make.h"

static fs_make opt = { .type = "keep", .shard_gib = 5 };

static const fs_option options[] = {
    FS_OPT_STR("type", 0, opt.type, "keep|F32|BF16|F16", "of the matrices (default keep: one that holds what is stored)"),
    FS_OPT_FLOAT("shard-size", 0, opt.shard_gib, 0, 1e6, "GIB", "most data in one safetensors file; 0: one file (default 5)"),
    FS_OPT_FLAG("no-tokenizer", 0, opt.no_tokenizer, "leave the tokenizer out"),
    FS_OPT_FLAG("no-mtp", 0, opt.no_mtp, "leave out the layers that predict ahead"),
    FS_OPT_FLAG("no-record", 0, opt.no_record, "write no record of where OUT comes from"),
    FS_OPT_END
};

static fs_status run(const fs_args *args, fs_error *err)
{
    return fs_make_model(&opt, args->items[0], args->items[1], err);
}

const fs_command fs_command_convert = {
    .set = { .name = "convert",
             .usage = "MODEL OUT",
             .summary = "Convert a model between the Hub's layout and GGUF.",
             .text = "MODEL in the Hub's layout becomes the GGUF file OUT, whose name ends in .gguf; a GGUF becomes the folder OUT with "
                     "config.json, generation_config.json, safetensors and the tokenizer. The values stay equal to the bit, unless --type "
                     "gives them another type; vectors and routers are always F32. OUT appears when it is whole, or not at all; beside it the record of where it "
                     "comes from, which farseek verify checks.",
             .options = options,
             .n_args_min = 2,
             .n_args_max = 2 },
    .run = run,
};
