/* Ctrl-C for the commands that work long: a flag to ask, and a session to stop. */
#ifndef FS_CLI_INTERRUPT_H
#define FS_CLI_INTERRUPT_H

#include "farseek.h"

/* Installs the handler for the whole program. The third press without a clear ends the program with code 130, for
 * work that cannot be stopped. */
void fs_interrupt_catch(void);
/* The session whose step Ctrl-C stops; NULL: none. */
void fs_interrupt_stops(fs_session *s);
/* Ctrl-C since the last fs_interrupt_clear. */
bool fs_interrupted(void);
void fs_interrupt_clear(void);

/* While quiet the terminal does not echo what is typed, so that it does not mix with an answer; what was typed waits
 * for the next line. The handler undoes it. Nothing happens when stdin is no terminal. */
void fs_terminal_quiet(bool quiet);

#endif
