/* farseek quantize: a model's matrices in smaller types; make.c does it. */
#include "cli/cli.h"
#include "cli/make.h"

static fs_make opt = { .quantise = true, .type = "Q4_K_M", .shard_gib = 5 };

static const fs_option options[] = {
    FS_OPT_STR("type", 0, opt.type, "TYPE", "what the matrices become (default Q4_K_M)"),
    FS_OPT_STR("tensor-type", 0, opt.rules, "REGEX=TYPE", "another type for matrices whose GGUF name has a match; several: with ';' between"),
    FS_OPT_FLAG("pure", 0, opt.pure, "every matrix that type, the head too"),
    FS_OPT_STR("imatrix", 0, opt.imatrix, "FILE", "importance of columns: a text that MODEL reads first, or a GGUF of llama-imatrix (default: all alike)"),
    FS_OPT_STR("save-imatrix", 0, opt.save_imatrix, "FILE", "keep the importance that the text gave, as such a GGUF"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_FLOAT("shard-size", 0, opt.shard_gib, 0, 1e6, "GIB", "most data in one safetensors file; 0: one file (default 5)"),
    FS_OPT_FLAG("no-tokenizer", 0, opt.no_tokenizer, "leave the tokenizer out"),
    FS_OPT_FLAG("no-mtp", 0, opt.no_mtp, "leave out the layers that predict ahead"),
    FS_OPT_STR("licence", 0, opt.licence, "ID", "in the record (default: what MODEL's record says)"),
    FS_OPT_STR("signed-off-by", 0, opt.signed_off_by, "NAME <MAIL>", "in the record: who vouches that the work may be given away"),
    FS_OPT_FLAG("no-record", 0, opt.no_record, "write no record of where OUT comes from"),
    FS_OPT_END
};

static fs_status run(const fs_args *args, fs_error *err)
{
    return fs_make_model(&opt, args->items[0], args->items[1], err);
}

const fs_command fs_command_quantize = {
    .set = { .name = "quantize",
             .usage = "MODEL OUT",
             .summary = "Store a model's matrices in smaller types.",
             .text = "MODEL, in the Hub's layout or GGUF, becomes the GGUF file OUT, whose name ends in .gguf, with matrices of the type: "
                     "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K_S, Q3_K_M, Q3_K_L, Q4_K_S, Q4_K_M, Q5_K_S, Q5_K_M, Q6_K, IQ4_NL, "
                     "IQ4_XS or MXFP4. Of FP8, FP8_UE8M0 (scales that are powers of two) and FP4 (deepseek_v4), a model in the Hub's layout "
                     "becomes the folder OUT, as DeepSeek stores its own. The bytes do not depend on the machine or on --threads. OUT appears "
                     "when it is whole, or not at all; beside it the record of where it comes from, which farseek verify checks.",
             .options = options,
             .n_args_min = 2,
             .n_args_max = 2 },
    .run = run,
};
