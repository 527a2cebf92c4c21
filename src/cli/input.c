/* libedit's own interface with a reader of ours: the reader decodes UTF-8 whatever the locale is, turns Ctrl-C into an
 * event, and shows the line ends of a paste as RETURN_SIGN so that they do not send the message. */
#include "cli/input.h"

#include "base/file.h"
#include "base/utf8.h"
#include "cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#define HISTORY_LINES 1000
#define HISTORY_BYTES_MAX ((size_t)64 << 20)
#define RETURN_SIGN   0x23ceu /* shown for a line end inside a message */
#define LINE_BYTES_MAX ((size_t)16 << 20)

static const char paste_on[] = "\033[?2004h", paste_off[] = "\033[?2004l";
static const char paste_begin[] = "\033[200~", paste_end[] = "\033[201~";

struct fs_input {
    EditLine *el;
    History *history;
    char *history_path;
    const char *const *words;
    const char *prompt;
    bool in_paste, interrupted;
    bool was_empty; /* the line, when Ctrl-C came */
    unsigned char queue[16]; /* bytes read while looking for a paste marker */
    size_t n_queue;
};

/* ---- reading characters ---- */

/* After Ctrl-Z and fg the terminal is as the shell left it. */
static volatile sig_atomic_t resumed;

static void on_continue(int signal_number)
{
    (void)signal_number;
    resumed = 1;
}

static void take_terminal_back(fs_input *in)
{
    resumed = 0;
    el_set(in->el, EL_PREP_TERM, 0);
    el_set(in->el, EL_PREP_TERM, 1);
    fputs(paste_on, stdout);
    fflush(stdout);
    el_set(in->el, EL_REFRESH);
}

/* One byte; 0 at the end, -1 when interrupted or broken. wait_ms < 0: as long as it takes; a time-out gives -2. */
static int read_byte(fs_input *in, int wait_ms, unsigned char *ret)
{
    for (;;) {
        struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
        ssize_t got;
        if (fs_interrupted()) {
            in->interrupted = true;
            return -1;
        }
        if (resumed)
            take_terminal_back(in);
        /* A signal between the check and poll is seen at the latest after this time. */
        int n = poll(&p, 1, wait_ms < 0 ? 200 : wait_ms);
        if (n < 0 && errno != EINTR)
            return -1;
        if (n == 0 && wait_ms >= 0)
            return -2;
        if (n <= 0)
            continue;
        got = read(STDIN_FILENO, ret, 1);
        if (got >= 0)
            return (int)got;
        if (errno != EINTR && errno != EAGAIN)
            return -1;
    }
}

static int next_byte(fs_input *in, unsigned char *ret)
{
    if (in->n_queue) {
        *ret = in->queue[0];
        memmove(in->queue, in->queue + 1, --in->n_queue);
        return 1;
    }
    return read_byte(in, -1, ret);
}

/* After an ESC: whether the bytes that follow at once complete marker. Those that do not match wait in the queue. */
static bool take_marker(fs_input *in, const char *marker)
{
    size_t n = strlen(marker) - 1; /* without the ESC */

    for (size_t i = 0; i < n; i++) {
        if (i == in->n_queue) {
            unsigned char c;
            if (read_byte(in, 30, &c) != 1)
                return false;
            in->queue[in->n_queue++] = c;
        }
        if (in->queue[i] != (unsigned char)marker[i + 1])
            return false;
    }
    in->n_queue -= n;
    memmove(in->queue, in->queue + n, in->n_queue);
    return true;
}

/* The rest of a character that starts with byte first. */
static wchar_t decode(fs_input *in, unsigned char first)
{
    uint8_t bytes[4] = { first };
    size_t n = 1, need = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 1;
    uint32_t code;

    while (n < need && next_byte(in, &bytes[n]) == 1)
        n++;
    fs_utf8_next((fs_bytes){ bytes, n }, 0, &code);
    return (wchar_t)(code == FS_UTF8_BAD ? 0xfffd : code);
}

static int read_character(EditLine *el, wchar_t *ret)
{
    fs_input *in;
    unsigned char c;
    int n;

    el_get(el, EL_CLIENTDATA, (void **)&in);
    for (;;) {
        n = next_byte(in, &c);
        if (n != 1) {
            const LineInfoW *typed = el_wline(el);
            in->was_empty = typed->lastchar == typed->buffer;
            return n;
        }
        if (c == 033 && !in->in_paste && take_marker(in, paste_begin)) {
            in->in_paste = true;
            continue;
        }
        if (c == 033 && in->in_paste && take_marker(in, paste_end)) {
            in->in_paste = false;
            continue;
        }
        if (c == 0 && !in->in_paste)
            c = 4; /* a Ctrl-D typed while the terminal gathered whole lines turns up as NUL once it does not */
        if (!in->in_paste)
            break;
        if (c == '\r' || c == '\n') {
            *ret = (wchar_t)RETURN_SIGN;
            return 1;
        }
        if (c == '\t') {
            *ret = L' ';
            return 1;
        }
        if (c >= 0x20 && c != 0x7f) /* a paste edits nothing */
            break;
    }
    *ret = c < 0x80 ? (wchar_t)c : decode(in, c);
    return 1;
}

/* ---- editing ---- */

static char *show_prompt(EditLine *el)
{
    fs_input *in;

    el_get(el, EL_CLIENTDATA, (void **)&in);
    return (char *)(uintptr_t)in->prompt;
}

/* Tab after "/x" completes the word as far as it is clear. */
static unsigned char complete(EditLine *el, int key)
{
    const LineInfo *line = el_line(el);
    size_t n = (size_t)(line->cursor - line->buffer), common = 0;
    const char *found = NULL;
    char rest[64];
    fs_input *in;

    (void)key;
    el_get(el, EL_CLIENTDATA, (void **)&in);
    if (n == 0 || line->buffer[0] != '/')
        return CC_ERROR;
    for (const char *const *w = in->words; w && *w; w++) {
        size_t k = 0;
        if (strncmp(*w, line->buffer, n) != 0)
            continue;
        if (!found) {
            found = *w;
            common = strlen(*w);
            continue;
        }
        while (k < common && found[k] == (*w)[k])
            k++;
        common = k;
    }
    if (!found || common <= n || common - n >= sizeof rest)
        return CC_ERROR;
    memcpy(rest, found + n, common - n);
    rest[common - n] = 0;
    return el_insertstr(el, rest) == 0 ? CC_REFRESH : CC_ERROR;
}

/* The file has one message a line, its line ends shown by RETURN_SIGN. Only what is new is appended, so that chats at
 * the same time do not lose each other's lines; a file grown to twice what is kept is cut. Whatever goes wrong with it
 * is no reason to stop a chat. */
static void load_history(fs_input *in)
{
    fs_buf text = { 0 };
    size_t n_lines = 0, from = 0;
    HistEvent e;

    if (!in->history_path || fs_file_read(in->history_path, HISTORY_BYTES_MAX, &text, NULL) != FS_OK)
        return;
    for (size_t i = 0; i < text.n_bytes; i++)
        n_lines += text.data[i] == '\n';
    for (size_t skip = n_lines > HISTORY_LINES ? n_lines - HISTORY_LINES : 0; skip; skip--)
        from += strcspn(text.data + from, "\n") + 1;
    if (n_lines > 2 * HISTORY_LINES &&
        fs_file_write_atomic(in->history_path, (fs_bytes){ (const uint8_t *)text.data + from, text.n_bytes - from }, NULL) == FS_OK)
        chmod(in->history_path, 0600);
    for (char *s = text.data + from, *end; (end = strchr(s, '\n')) != NULL; s = end + 1) {
        *end = 0;
        if (*s)
            history(in->history, &e, H_ENTER, s);
    }
    fs_buf_done(&text);
}

static void remember(fs_input *in, fs_bytes text)
{
    fs_buf line = { 0 };
    fs_status rc = FS_OK;
    HistEvent e;
    int fd;

    for (size_t i = 0; i < text.n_bytes && !rc; i++)
        rc = text.data[i] == '\n' ? fs_buf_append_str(&line, "\u23ce", NULL) : fs_buf_append(&line, text.data + i, 1, NULL);
    if (!rc) {
        history(in->history, &e, H_ENTER, line.data);
        rc = fs_buf_append(&line, "\n", 1, NULL);
    }
    if (!rc && in->history_path && (fd = open(in->history_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) >= 0) {
        if (fchmod(fd, 0600) == 0 && write(fd, line.data, line.n_bytes) < 0)
            in->history_path[0] = 0; /* a full disk: no more attempts */
        close(fd);
    }
    fs_buf_done(&line);
}

fs_status fs_input_open(const char *history_path, const char *const *words, fs_input **ret, fs_error *err)
{
    struct sigaction resume = { .sa_handler = on_continue, .sa_flags = SA_RESTART };
    fs_input *in = calloc(1, sizeof *in);
    HistEvent e;

    if (!in)
        return fs_fail_memory(err, sizeof *in);
    setlocale(LC_CTYPE, ""); /* libedit shows the line in it. Here, not at start: other commands' isalpha, tolower are the same everywhere */
    in->words = words;
    in->history = history_init();
    in->el = el_init("farseek", stdin, stdout, stderr);
    if (history_path)
        in->history_path = strdup(history_path);
    if (!in->history || !in->el || (history_path && !in->history_path)) {
        fs_input_close(in);
        return fs_fail(err, FS_ERR_MEMORY, "cannot set up line editing");
    }
    history(in->history, &e, H_SETSIZE, HISTORY_LINES);
    history(in->history, &e, H_SETUNIQUE, 1);
    load_history(in);
    el_set(in->el, EL_CLIENTDATA, in);
    el_set(in->el, EL_PROMPT, show_prompt);
    el_set(in->el, EL_EDITOR, "emacs");
    el_set(in->el, EL_HIST, history, in->history);
    el_wset(in->el, EL_ADDFN, L"fs-complete", L"complete a command", complete); /* el_set would copy and lose the names */
    el_set(in->el, EL_BIND, "^I", "fs-complete", NULL);
    el_set(in->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(in->el, EL_GETCFN, read_character);
    el_source(in->el, NULL);
    sigemptyset(&resume.sa_mask);
    sigaction(SIGCONT, &resume, NULL);
    *ret = in;
    return FS_OK;
}

void fs_input_close(fs_input *in)
{
    if (!in)
        return;
    if (in->el)
        el_end(in->el);
    if (in->history)
        history_end(in->history);
    free(in->history_path);
    free(in);
}

/* Appends the typed line; RETURN_SIGN becomes the line end it stands for. */
static fs_status append_line(fs_buf *out, const wchar_t *line, int n, fs_error *err)
{
    fs_status rc = FS_OK;

    for (int i = 0; i < n && !rc; i++) {
        uint8_t bytes[4];
        uint32_t code = (uint32_t)line[i];
        if (code == '\n' || code == '\r')
            break;
        rc = fs_buf_append(out, bytes, fs_utf8_put(code == RETURN_SIGN ? '\n' : code > 0x10ffff ? 0xfffd : code, bytes), err);
    }
    return rc;
}

fs_status fs_input_read(fs_input *in, const char *prompt, fs_buf *ret, fs_input_event *ret_event, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc = FS_OK;

    in->prompt = prompt;
    for (;;) {
        const wchar_t *line;
        int n = 0;

        fs_interrupt_clear();
        in->interrupted = in->in_paste = false;
        in->was_empty = true;
        in->n_queue = 0;
        el_set(in->el, EL_PREP_TERM, 1); /* el_wgets itself shows the prompt first: what came in between would be lost */
        fputs(paste_on, stdout);
        fflush(stdout);
        line = el_wgets(in->el, &n);
        fputs(paste_off, stdout);
        fflush(stdout);
        if (!line || n <= 0) {
            bool empty = text.n_bytes == 0 && in->was_empty;
            bool interrupted = in->interrupted || fs_interrupted();
            fs_interrupt_clear();
            putchar('\n');
            fs_buf_done(&text);
            *ret_event = !interrupted ? FS_INPUT_END : empty ? FS_INPUT_INTERRUPT_EMPTY : FS_INPUT_INTERRUPT;
            return FS_OK;
        }
        rc = append_line(&text, line, n, err);
        if (!rc && text.n_bytes > LINE_BYTES_MAX)
            rc = fs_fail(err, FS_ERR_ARGUMENT, "a message has at most %zu bytes", LINE_BYTES_MAX);
        if (rc || text.n_bytes == 0 || text.data[text.n_bytes - 1] != '\\')
            break;
        text.data[text.n_bytes - 1] = '\n';
        in->prompt = ". ";
    }
    if (rc) {
        fs_buf_done(&text);
        return rc;
    }
    if (text.n_bytes && text.data[0])
        remember(in, fs_buf_bytes(&text));
    fs_buf_done(ret);
    *ret = text;
    *ret_event = FS_INPUT_LINE;
    return FS_OK;
}
