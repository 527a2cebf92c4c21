/* The list of commands, and looking one up. A new command is one line. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

/* make HUB= leaves the hub and its clients out. */
#ifdef FS_NO_HUB
#define EACH_OF_HUB(X)
#define EACH_OF_CLIENTS(X)
#else
#define EACH_OF_CLIENTS(X) \
    X(pull) \
    X(push) \
    X(ls) \
    X(rm) \
    X(login)
#define EACH_OF_HUB(X) \
    X(hub_serve) \
    X(hub_user) \
    X(hub_token) \
    X(hub_org) \
    X(hub_quota) \
    X(hub_mirror) \
    X(hub_key) \
    X(hub_peer) \
    X(hub_gc) \
    X(hub_fsck) \
    X(hub_backup) \
    X(hub_export) \
    X(hub_import) \
    X(hub_torrent) \
    X(hub_fork) \
    X(hub_routes) \
    X(hub_receive)
#endif

#define EACH(X) \
    X(run) \
    X(train) \
    EACH_OF_CLIENTS(X) \
    X(inspect) \
    X(convert) \
    X(quantize) \
    X(verify) \
    X(sign) \
    X(bench) \
    X(logits) \
    X(loss) \
    X(perplexity) \
    X(tokenize) \
    X(detokenize) \
    X(template) \
    X(eval) \
    X(report) \
    X(tokenizer_train) \
    X(data_make) \
    X(data_check) \
    X(data_reject) \
    X(data_dedup) \
    X(data_decontaminate) \
    X(data_filter) \
    X(data_mix) \
    X(data_tokenize) \
    X(data_rows) \
    EACH_OF_HUB(X) \
    X(doctor) \
    X(help)

#define DECLARE(name) extern const fs_command fs_command_##name;
EACH(DECLARE)

#define LIST(name) &fs_command_##name,
const fs_command *const fs_commands[] = { EACH(LIST) NULL };

const fs_command *fs_command_find(const char *name)
{
    for (const fs_command *const *c = fs_commands; *c; c++)
        if (strcmp((*c)->set.name, name) == 0)
            return *c;
    return NULL;
}

const fs_command *fs_command_match(int argc, char *const *argv, int *ret_n_words)
{
    const fs_command *c = NULL;
    char two[128];

    if (argc >= 2 && snprintf(two, sizeof two, "%s %s", argv[0], argv[1]) < (int)sizeof two)
        c = fs_command_find(two);
    *ret_n_words = c ? 2 : 1;
    return c || argc < 1 || strchr(argv[0], ' ') ? c : fs_command_find(argv[0]);
}

static bool in_group(const fs_command *c, const char *word)
{
    size_t n = strlen(word);

    return strncmp(c->set.name, word, n) == 0 && c->set.name[n] == ' ';
}

bool fs_command_is_group(const char *word)
{
    for (const fs_command *const *c = fs_commands; *c; c++)
        if (in_group(*c, word))
            return true;
    return false;
}

fs_status fs_group_help(const char *group, fs_buf *out, fs_error *err)
{
    fs_status rc = FS_OK;

    for (const fs_command *const *c = fs_commands; *c && !rc; c++) {
        if (!in_group(*c, group))
            continue;
        if (out->n_bytes)
            rc = fs_buf_append_str(out, "\n", err);
        if (!rc)
            rc = fs_options_help(&(*c)->set, "farseek", out, err);
    }
    return rc;
}

static const char *candidate(const void *ud, size_t i)
{
    (void)ud;
    return fs_commands[i] ? fs_commands[i]->set.name : NULL;
}

fs_status fs_command_fail_unknown(const char *name, fs_error *err)
{
    const char *near = fs_suggest(name, candidate, NULL);

    if (fs_command_is_group(name)) {
        fs_buf words = { 0 };
        fs_status rc = FS_OK;
        for (const fs_command *const *c = fs_commands; *c && !rc; c++)
            if (in_group(*c, name))
                rc = fs_buf_printf(&words, err, "%s%s", words.n_bytes ? ", " : "", (*c)->set.name + strlen(name) + 1);
        if (!rc)
            rc = fs_fail(err, FS_ERR_ARGUMENT, "'%.100s' needs another word: %s", name, words.data);
        fs_buf_done(&words);
        return rc;
    }
    if (near)
        return fs_fail(err, FS_ERR_ARGUMENT, "unknown command '%.100s': did you mean '%s'?", name, near);
    return fs_fail(err, FS_ERR_ARGUMENT, "unknown command '%.100s' (farseek help lists them)", name);
}
