/* farseek convert: the Hub's layout into GGUF and back. The work is in formats/convert.c and text/tokenizer_convert.c;
 * here are the names, the progress, and the folder that appears whole or not at all. */
#include "cli/cli.h"
#include "cli/interrupt.h"

#include "base/file.h"
#include "formats/convert.h"
#include "text/tokenizer_convert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

struct progress {
    bool shown;
    double start, last;
    const fs_weights *weights;
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool on_progress(void *ud, uint64_t done, uint64_t total)
{
    struct progress *p = ud;
    double t = now(), rate;

    if (p->shown && t - p->last > 0.2 && done > 0) {
        p->last = t;
        rate = (double)done / (t - p->start);
        fprintf(stderr, "\r%3.0f %%  %.0f of %.0f MiB  %.0f MiB/s  %.0f s left    ", 100 * (double)done / (double)total, (double)done / 1048576,
                (double)total / 1048576, rate / 1048576, (double)(total - done) / rate);
    }
    return !fs_interrupted();
}

static fs_status add_tokenizer(void *ud, fs_gguf_writer *w, fs_error *err)
{
    const struct progress *p = ud;

    return opt.no_tokenizer ? FS_OK : fs_tokenizer_to_gguf(fs_weights_folder(p->weights), fs_weights_config(p->weights), w, err);
}

static fs_dtype type_of(void)
{
    return strcmp(opt.type, "F32") == 0 ? FS_DTYPE_F32 : strcmp(opt.type, "BF16") == 0 ? FS_DTYPE_BF16 :
           strcmp(opt.type, "F16") == 0 ? FS_DTYPE_F16 : FS_DTYPE_NONE;
}

/* Into a folder beside out, which takes its name when everything is there. */
static fs_status to_folder(const fs_weights *w, const char *out, const fs_convert_options *o, fs_error *err)
{
    size_t n = strlen(out);
    char *temp = malloc(n + 16);
    fs_status rc;

    if (!temp)
        return fs_fail_memory(err, n + 16);
    while (n > 1 && out[n - 1] == '/')
        n--;
    snprintf(temp, n + 16, "%.*s.tmp.XXXXXX", (int)n, out);
    if (!mkdtemp(temp)) {
        rc = fs_fail_errno(err, errno, "cannot make a folder beside '%s'", out);
        free(temp);
        return rc;
    }
    rc = opt.no_tokenizer ? FS_OK : fs_tokenizer_to_hub(fs_weights_gguf(w), fs_weights_config(w), temp, err);
    if (!rc)
        rc = fs_convert_to_hub(w, temp, o, err);
    if (!rc && (chmod(temp, 0755) != 0 || rename(temp, out) != 0))
        rc = fs_fail_errno(err, errno, "cannot rename '%s' to '%s'", temp, out);
    if (rc) {
        fs_tokenizer_hub_remove(temp);
        rmdir(temp);
    }
    free(temp);
    return rc;
}

static bool is_gguf_name(const char *path)
{
    size_t n = strlen(path);

    return n > 5 && strcmp(path + n - 5, ".gguf") == 0;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    const char *out = args->items[1];
    struct progress p = { .shown = isatty(STDERR_FILENO), .start = now() };
    fs_convert_options o = { .type = type_of(), .no_mtp = opt.no_mtp, .shard_bytes_max = (uint64_t)(opt.shard_gib * 1073741824.0), .metadata = add_tokenizer,
                             .progress = on_progress, .ud = &p };
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
    p.weights = w;
    fs_interrupt_catch();
    if (from_gguf && is_gguf_name(out))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "'%s' is GGUF already; OUT must be a folder's name", args->items[0]);
    else if (!from_gguf && !is_gguf_name(out))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "'%s' is in the Hub's layout already; OUT must end in .gguf", args->items[0]);
    else
        rc = from_gguf ? to_folder(w, out, &o, err) : fs_convert_to_gguf(w, out, &o, err);
    if (p.shown)
        fprintf(stderr, "\r%*s\r", 70, "");
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
