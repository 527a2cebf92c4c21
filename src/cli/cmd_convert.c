/* farseek convert: the Hub's layout into GGUF and back. The work is in formats/convert.c and text/tokenizer_convert.c;
 * the names, the progress, and the folder that appears whole or not at all are in convert_cli.c. */
#include "cli/cli.h"
#include "cli/convert_cli.h"
#include "cli/interrupt.h"

#include "text/tokenizer_convert.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct {
    const char *type;
    double shard_gib;
    bool no_tokenizer, no_mtp;
} opt = { .type = "keep", .shard_gib = 5 };

static const fs_option options[] = {
    FS_OPT_STR("type", 0, opt.type, "keep|F32|BF16|F16", "of the matrices (default keep: one that holds what is stored)"),
    FS_OPT_FLOAT("shard-size", 0, opt.shard_gib, 0, 1e6, "GIB", "most data in one safetensors file; 0: one file (default 5)"),
    FS_OPT_FLAG("no-tokenizer", 0, opt.no_tokenizer, "leave the tokenizer out"),
    FS_OPT_FLAG("no-mtp", 0, opt.no_mtp, "leave out the layers that predict ahead"),
    FS_OPT_END
};

static fs_dtype type_of(void)
{
    return strcmp(opt.type, "F32") == 0 ? FS_DTYPE_F32 : strcmp(opt.type, "BF16") == 0 ? FS_DTYPE_BF16 :
           strcmp(opt.type, "F16") == 0 ? FS_DTYPE_F16 : FS_DTYPE_NONE;
}

static fs_status to_folder(void *ud, const fs_weights *w, const char *folder, const fs_convert_options *o, fs_error *err)
{
    fs_status rc = opt.no_tokenizer ? FS_OK : fs_tokenizer_to_hub(fs_weights_gguf(w), fs_weights_config(w), folder, err);

    (void)ud;
    return rc ? rc : fs_convert_to_hub(w, folder, o, err);
}

static fs_status run(const fs_args *args, fs_error *err)
{
    const char *out = args->items[1];
    fs_convert_options o = { .type = type_of(), .no_mtp = opt.no_mtp, .shard_bytes_max = (uint64_t)(opt.shard_gib * 1073741824.0) };
    fs_convert_progress p;
    fs_weights *w = NULL;
    char *path = NULL;
    struct stat st;
    bool from_gguf;
    fs_status rc;

    if (lstat(out, &st) == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' exists already", out);
    rc = fs_model_path(args->items[0], &path, err);
    if (!rc)
        rc = fs_weights_open(path, &w, err);
    free(path);
    if (rc)
        return rc;
    from_gguf = fs_weights_gguf(w) != NULL;
    fs_interrupt_catch();
    fs_convert_progress_start(&p, w, opt.no_tokenizer, &o);
    if (from_gguf && fs_convert_is_gguf_name(out))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "'%s' is GGUF already; OUT must be a folder's name", args->items[0]);
    else if (!from_gguf && !fs_convert_is_gguf_name(out))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "'%s' is in the Hub's layout already; OUT must end in .gguf", args->items[0]);
    else
        rc = from_gguf ? fs_convert_in_folder(w, out, &o, to_folder, NULL, err) : fs_convert_to_gguf(w, out, &o, err);
    fs_convert_progress_end(&p);
    fs_weights_close(w);
    return rc;
}

const fs_command fs_command_convert = {
    .set = { .name = "convert",
             .usage = "MODEL OUT",
             .summary = "Convert a model between the Hub's layout and GGUF.",
             .text = "MODEL in the Hub's layout becomes the GGUF file OUT, whose name ends in .gguf; a GGUF becomes the folder OUT with "
                     "config.json, generation_config.json, safetensors and the tokenizer. The values stay equal to the bit, unless --type "
                     "gives them another type; vectors and routers are always F32. OUT appears when it is whole, or not at all.",
             .options = options,
             .n_args_min = 2,
             .n_args_max = 2 },
    .run = run,
};
