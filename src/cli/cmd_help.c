/* farseek help: the overview, a command's help, and the generated manual page and completions. */
#include "cli/cli.h"

static struct {
    const char *completion;
    bool man;
} opt;

static const fs_option options[] = {
    FS_OPT_FLAG("man", 0, opt.man, "the manual page, for man -l or farseek.1"),
    FS_OPT_STR("completion", 0, opt.completion, "bash|zsh|fish", "the completions of a shell"),
    FS_OPT_END
};

static fs_status run(const fs_args *args, fs_error *err)
{
    const fs_command *c = NULL;
    fs_buf out = { 0 };
    fs_status rc = FS_OK;

    if (args->n) {
        char *words[2] = { (char *)args->items[0], args->n > 1 ? (char *)args->items[1] : NULL };
        int n_words;
        c = fs_command_match(args->n, words, &n_words);
        if ((!c || n_words != args->n) && !(args->n == 1 && fs_command_is_group(args->items[0])))
            return fs_command_fail_unknown(args->items[args->n - 1], err);
    }
    if (args->n && !c)
        rc = fs_group_help(args->items[0], &out, err);
    else if (c)
        rc = fs_options_help(&c->set, "farseek", &out, err);
    else if (opt.man)
        rc = fs_manual_page(&out, err);
    else if (opt.completion)
        rc = fs_completion(&out, opt.completion, err);
    else
        rc = fs_overview(&out, err);
    if (!rc)
        fwrite(out.data, 1, out.n_bytes, stdout);
    fs_buf_done(&out);
    return rc;
}

const fs_command fs_command_help = {
    .set = { .name = "help",
             .usage = "[COMMAND]",
             .summary = "Show the commands, or one command's options.",
             .options = options,
             .n_args_max = 2 },
    .run = run,
};
