/* farseek quantize: a model's matrices in smaller types. The work is in formats/quantize.c; names, progress and the folder
 * that appears whole are shared with convert. */
#include "cli/cli.h"
#include "cli/convert_cli.h"
#include "cli/interrupt.h"

#include "formats/quantize.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    const char *type, *rules, *imatrix;
    double shard_gib;
    int n_threads;
    bool pure, no_tokenizer, no_mtp;
} opt = { .type = "Q4_K_M", .shard_gib = 5 };

static const fs_option options[] = {
    FS_OPT_STR("type", 0, opt.type, "TYPE", "what the matrices become (default Q4_K_M)"),
    FS_OPT_STR("tensor-type", 0, opt.rules, "REGEX=TYPE", "another type for matrices whose GGUF name has a match; several: with ';' between"),
    FS_OPT_FLAG("pure", 0, opt.pure, "every matrix that type, the head too"),
    FS_OPT_STR("imatrix", 0, opt.imatrix, "FILE", "importance of columns, a GGUF of llama-imatrix (default: all alike)"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_FLOAT("shard-size", 0, opt.shard_gib, 0, 1e6, "GIB", "most data in one safetensors file; 0: one file (default 5)"),
    FS_OPT_FLAG("no-tokenizer", 0, opt.no_tokenizer, "leave the tokenizer out"),
    FS_OPT_FLAG("no-mtp", 0, opt.no_mtp, "leave out the layers that predict ahead"),
    FS_OPT_END
};

static fs_status to_folder(void *ud, const fs_weights *w, const char *folder, const fs_convert_options *o, fs_error *err)
{
    fs_status rc = opt.no_tokenizer ? FS_OK : fs_convert_copy_texts(fs_weights_folder(w), folder, err);

    return rc ? rc : fs_quantize_to_hub(ud, w, folder, o, err);
}

static fs_status quantize(fs_quantizer *q, const fs_weights *w, const char *in, const char *out, fs_error *err)
{
    fs_convert_progress p;
    fs_convert_options o = { .no_mtp = opt.no_mtp, .shard_bytes_max = (uint64_t)(opt.shard_gib * 1073741824.0) };
    bool gguf = fs_convert_is_gguf_name(out);
    fs_status rc;

    if (fs_quantizer_is_hub(q) == gguf)
        return fs_fail(err, FS_ERR_ARGUMENT, gguf ? "%s is for safetensors; OUT must be a folder's name" : "%s is for GGUF; OUT must end in .gguf",
                       opt.type);
    if (opt.no_mtp && (fs_weights_gguf(w) || !gguf))
        return fs_fail(err, FS_ERR_ARGUMENT, "--no-mtp is for the Hub's layout to GGUF, '%s' to '%s' is not", in, out);
    fs_convert_progress_start(&p, w, opt.no_tokenizer, &o);
    rc = gguf ? fs_quantize_to_gguf(q, w, out, &o, err) : fs_convert_in_folder(w, out, &o, to_folder, q, err);
    fs_convert_progress_end(&p);
    return rc;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    const char *out = args->items[1];
    fs_quantizer *q = NULL;
    fs_weights *w = NULL;
    fs_pool *pool = NULL;
    char *path = NULL;
    struct stat st;
    fs_status rc;

    if (lstat(out, &st) == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' exists already", out);
    rc = fs_pool_new(opt.n_threads, &pool, err);
    if (!rc)
        rc = fs_quantizer_new(opt.type, opt.rules, opt.pure, pool, &q, err);
    if (!rc && opt.imatrix)
        rc = fs_quantizer_set_imatrix(q, opt.imatrix, err);
    if (!rc)
        rc = fs_model_path(args->items[0], &path, err);
    if (!rc)
        rc = fs_weights_open(path, &w, err);
    if (!rc) {
        fs_interrupt_catch();
        rc = quantize(q, w, args->items[0], out, err);
    }
    free(path);
    fs_weights_close(w);
    fs_quantizer_free(q);
    fs_pool_free(pool);
    return rc;
}

const fs_command fs_command_quantize = {
    .set = { .name = "quantize",
             .usage = "MODEL OUT",
             .summary = "Store a model's matrices in smaller types.",
             .text = "MODEL, in the Hub's layout or GGUF, becomes the GGUF file OUT, whose name ends in .gguf, with matrices of the type: "
                     "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K_S, Q3_K_M, Q3_K_L, Q4_K_S, Q4_K_M, Q5_K_S, Q5_K_M, Q6_K, IQ4_NL, "
                     "IQ4_XS or MXFP4. Of FP8, FP8_UE8M0 (scales that are powers of two) and FP4 (deepseek_v4), a model in the Hub's layout "
                     "becomes the folder OUT, as DeepSeek stores its own. The bytes do not depend on the machine or on --threads. OUT appears "
                     "when it is whole, or not at all.",
             .options = options,
             .n_args_min = 2,
             .n_args_max = 2 },
    .run = run,
};
