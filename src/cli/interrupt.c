/* See the header. */
#include "cli/interrupt.h"

#include "engine/engine.h"

#include <signal.h>
#include <stdatomic.h>
#include <termios.h>
#include <unistd.h>

static volatile sig_atomic_t n_presses;
static _Atomic(fs_session *) session; /* lock-free, so a handler may read it */

static struct termios terminal;
static volatile sig_atomic_t is_quiet;

void fs_terminal_quiet(bool quiet)
{
    struct termios t;

    if (!quiet && is_quiet) {
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal);
        is_quiet = 0;
    } else if (quiet && !is_quiet && tcgetattr(STDIN_FILENO, &terminal) == 0) {
        t = terminal;
        t.c_lflag &= ~(tcflag_t)ECHO;
        is_quiet = 1;
        tcsetattr(STDIN_FILENO, TCSANOW, &t);
    }
}

static void on_interrupt(int signal_number)
{
    fs_session *s = atomic_load(&session);

    (void)signal_number;
    if (++n_presses >= 3) {
        fs_terminal_quiet(false);
        _exit(130);
    }
    if (s)
        fs_session_interrupt(s);
}

void fs_interrupt_catch(void)
{
    struct sigaction a = { .sa_handler = on_interrupt, .sa_flags = SA_RESTART }; /* a write goes on; poll always notices */

    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
}

void fs_interrupt_stops(fs_session *s)
{
    atomic_store(&session, s);
}

bool fs_interrupted(void)
{
    return n_presses > 0;
}

void fs_interrupt_clear(void)
{
    n_presses = 0;
}
