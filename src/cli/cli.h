/* What the commands of the program share. A command is one file, cmd_<name>.c, that defines a
 *
 *   const fs_command fs_command_<name> = { .set = { .name = "<name>", ... .options = options }, .run = run };
 *
 * and one line in commands.c. main.c reads the configuration, parses the options into the command's variables,
 * calls run, prints the sentence of a failure on stderr and turns it into the exit code. */
#ifndef FS_CLI_CLI_H
#define FS_CLI_CLI_H

#include "base/options.h"

#include <stdio.h>
#include <time.h>

typedef struct fs_command {
    fs_option_set set;
    /* Answers on stdout, everything else on stderr. main checks that stdout could be written. */
    fs_status (*run)(const fs_args *args, fs_error *err);
} fs_command;

/* In the order of the overview; ends with NULL. */
extern const fs_command *const fs_commands[];
const fs_command *fs_command_find(const char *name); /* NULL: none */
/* The command that argv [argc] starts with; a name may have two words ("data dedup"). *ret_n_words: how many of argv are
 * its name. */
const fs_command *fs_command_match(int argc, char *const *argv, int *ret_n_words);
/* Whether commands of two words start with this one. */
bool fs_command_is_group(const char *word);
/* Appends the help of every command of a group. */
fs_status fs_group_help(const char *group, fs_buf *out, fs_error *err);
/* FS_ERR_ARGUMENT and a sentence with the command most like name, which may be a group. */
fs_status fs_command_fail_unknown(const char *name, fs_error *err);

/* 0 done; 1 failed; 2 wrong usage; 130 interrupted. */
int fs_exit_code(fs_status rc);

/* Where a MODEL argument's files are: a folder or file as it stands, else a Hub id org/name[@revision] looked up in
 * the Hub cache ($HF_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub; revision
 * default main). *ret_path is a new string. FS_ERR_NOT_FOUND names what was looked for. */
fs_status fs_model_path(const char *model, char **ret_path, fs_error *err);

/* Whether model reads as a Hub id, org/name[@revision]. */
bool fs_model_is_hub_id(const char *model);
/* The Hub cache, as a new string. */
fs_status fs_hub_cache(char **ret, fs_error *err);

/* $VARIABLE/farseek or $HOME/fallback/farseek, as a new string; makes no folder. FS_ERR_NOT_FOUND without $HOME. */
fs_status fs_user_folder(const char *variable, const char *fallback, char **ret, fs_error *err);

/* Reads stdin to its end, at most max_bytes. */
fs_status fs_stdin_read(size_t max_bytes, fs_buf *ret, fs_error *err);

/* "2026-01-31" or "2026-01-31T09:30:00" (a blank will do for the T) as local time; NULL: now. */
fs_status fs_date_read(const char *text, struct tm *ret, fs_error *err);

/* Appends text with every control character but newline and tab taken out, and bytes that are no UTF-8 replaced: what
 * a model or a file says never drives the terminal. */
fs_status fs_text_clean(fs_buf *out, fs_bytes text, fs_error *err);

/* Whether stream is a terminal that colours may go to: NO_COLOR unset or empty, TERM not "dumb". */
bool fs_colour_wanted(FILE *stream);

/* The texts of `farseek help`: manual page (troff man) and completions ("bash", "zsh", "fish"). */
fs_status fs_manual_page(fs_buf *out, fs_error *err);
fs_status fs_completion(fs_buf *out, const char *shell, fs_error *err);
/* The overview: every command with its summary. */
fs_status fs_overview(fs_buf *out, fs_error *err);

#endif
