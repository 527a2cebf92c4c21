/* The conversation on a terminal: reads lines, answers them, and obeys the commands that start with '/'. */
#ifndef FS_CLI_CHAT_LOOP_H
#define FS_CLI_CHAT_LOOP_H

#include "base/options.h"
#include "cli/reply.h"

/* settings: the table /set changes, over the variables *r->settings; ends with FS_OPT_END. opt: those variables.
 * Returns when the user leaves. */
fs_status fs_chat_loop(fs_run *r, fs_run_settings *opt, const fs_option *settings, fs_error *err);

#endif
