/* The list of commands, and looking one up. A new command is one line in each of the two lists. */
#include "cli/cli.h"

#include <string.h>

extern const fs_command fs_command_template;
extern const fs_command fs_command_bench, fs_command_convert, fs_command_detokenize, fs_command_doctor, fs_command_help, fs_command_inspect;
extern const fs_command fs_command_logits, fs_command_perplexity, fs_command_quantize, fs_command_run, fs_command_tokenize;

const fs_command *const fs_commands[] = {
    &fs_command_run,
    &fs_command_inspect,
    &fs_command_convert,
    &fs_command_quantize,
    &fs_command_bench,
    &fs_command_logits,
    &fs_command_perplexity,
    &fs_command_tokenize,
    &fs_command_detokenize,
    &fs_command_template,
    &fs_command_doctor,
    &fs_command_help,
    NULL,
};

const fs_command *fs_command_find(const char *name)
{
    for (const fs_command *const *c = fs_commands; *c; c++)
        if (strcmp((*c)->set.name, name) == 0)
            return *c;
    return NULL;
}

static const char *candidate(const void *ud, size_t i)
{
    (void)ud;
    return fs_commands[i] ? fs_commands[i]->set.name : NULL;
}

fs_status fs_command_fail_unknown(const char *name, fs_error *err)
{
    const char *near = fs_suggest(name, candidate, NULL);

    if (near)
        return fs_fail(err, FS_ERR_ARGUMENT, "unknown command '%.100s': did you mean '%s'?", name, near);
    return fs_fail(err, FS_ERR_ARGUMENT, "unknown command '%.100s' (farseek help lists them)", name);
}
