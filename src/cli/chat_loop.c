/* See the header. A '/' command is one row of the table below; a message that begins with '/' is typed with two. */
#include "cli/chat_loop.h"

#include "base/file.h"
#include "cli/cli.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/stream.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define CHAT_FILE_BYTES_MAX ((size_t)256 << 20)

typedef struct chat {
    fs_run *run;
    fs_run_settings *opt;
    const fs_option *settings;
    bool leave;
} chat;

/* text: what follows the word, without blanks around it. */
typedef fs_status chat_command_fn(chat *c, char *text, fs_error *err);

typedef struct chat_command {
    const char *word, *arg, *help;
    chat_command_fn *fn;
} chat_command;

static const chat_command commands[];

static const char *dim(const chat *c)
{
    return c->run->colour ? "\033[2m" : "";
}

static const char *plain(const chat *c)
{
    return c->run->colour ? "\033[0m" : "";
}

/* Text of a model or a file, made harmless for the terminal. */
static void print_clean(fs_bytes text)
{
    fs_buf clean = { 0 };

    if (fs_text_clean(&clean, text, NULL) == FS_OK && clean.n_bytes) {
        fwrite(clean.data, 1, clean.n_bytes, stdout);
        if (clean.data[clean.n_bytes - 1] != '\n')
            putchar('\n');
    }
    fs_buf_done(&clean);
}

static void report(const fs_error *e)
{
    print_clean(fs_bytes_str(e->message));
}

/* ---- answering ---- */

static fs_status answer(chat *c, fs_error *err)
{
    fs_run *r = c->run;
    fs_status rc;

    fs_interrupt_clear();
    fs_terminal_quiet(true);
    rc = fs_run_reply(r, err);
    fs_terminal_quiet(false);
    fs_interrupt_clear();
    if (rc)
        return rc;
    if (r->generation.stop == FS_STOP_CALLBACK)
        printf("%s[stopped]%s\n", dim(c), plain(c));
    else if (r->generation.stop == FS_STOP_LENGTH)
        printf("%s[cut off: %s]%s\n", dim(c),
               r->generation.n_prompt_tokens + r->generation.n_tokens >= r->ctx_tokens ? "the context is full" : "max-tokens reached",
               plain(c));
    if (isatty(fileno(stderr))) {
        fflush(stdout);
        fprintf(stderr, "%s", dim(c));
        fs_run_print_speed(r, stderr);
        fprintf(stderr, "%s\n\n", plain(c));
    }
    return FS_OK;
}

static fs_status say(chat *c, fs_bytes text, fs_error *err)
{
    fs_status rc = fs_talk_add(&c->run->talk, FS_TALK_USER, text, (fs_bytes){ 0 }, err);
    return rc ? rc : answer(c, err);
}

/* A user's message instead of a result is the user's choice; a result without a call is none. */
static fs_status do_result(chat *c, char *text, fs_error *err)
{
    fs_talk *t = &c->run->talk;
    fs_status rc;

    if (!fs_talk_n_open_calls(t))
        return fs_fail(err, FS_ERR_ARGUMENT, "no call of a tool waits for its result");
    if ((rc = fs_talk_add(t, FS_TALK_TOOL, fs_bytes_str(text), (fs_bytes){ 0 }, err)))
        return rc;
    if (!fs_talk_n_open_calls(t))
        return answer(c, err);
    printf("%zu more to come.\n", fs_talk_n_open_calls(t));
    return FS_OK;
}

/* ---- commands ---- */

static fs_status do_help(chat *c, char *text, fs_error *err)
{
    (void)c;
    (void)text;
    (void)err;
    for (const chat_command *k = commands; k->word; k++)
        printf("  %-10s %-14s %s\n", k->word, k->arg, k->help);
    puts("A line ending in \\ goes on in the next; a paste of several lines is one message; // begins a message with /.\n"
         "Ctrl-C stops an answer; Ctrl-D, or Ctrl-C twice on an empty line, leaves.");
    return FS_OK;
}

static fs_status do_clear(chat *c, char *text, fs_error *err)
{
    (void)text;
    (void)err;
    fs_talk_clear(&c->run->talk);
    puts("The conversation begins anew.");
    return FS_OK;
}

static fs_status do_system(chat *c, char *text, fs_error *err)
{
    fs_talk *t = &c->run->talk;

    if (!*text) {
        if (t->system.n_bytes)
            print_clean(fs_buf_bytes(&t->system));
        else
            puts("No system prompt is set; the model's own default holds.");
        return FS_OK;
    }
    return fs_talk_set_system(t, strcmp(text, "-") == 0 ? (fs_bytes){ 0 } : fs_bytes_str(text), err);
}

/* "~/x" below the home folder, anything else as it is, into a new string. */
static fs_status expand(const char *typed, char **ret, fs_error *err)
{
    const char *home = getenv("HOME");
    char *path = typed[0] == '~' && typed[1] == '/' && home ? fs_path_join(home, typed + 2) : strdup(typed);

    if (!path)
        return fs_fail_memory(err, strlen(typed));
    *ret = path;
    return FS_OK;
}

static fs_status do_save(chat *c, char *text, fs_error *err)
{
    fs_buf out = { 0 };
    char *path = NULL;
    fs_status rc;

    if (!*text)
        return fs_fail(err, FS_ERR_ARGUMENT, "/save needs a file's name");
    rc = expand(text, &path, err);
    if (!rc)
        rc = fs_talk_to_json(&c->run->talk, c->run->name, &out, err);
    if (!rc)
        rc = fs_file_write_atomic(path, fs_buf_bytes(&out), err);
    if (!rc)
        printf("Saved %zu messages to %s\n", c->run->talk.n_turns, path);
    fs_buf_done(&out);
    free(path);
    return rc;
}

static fs_status do_load(chat *c, char *text, fs_error *err)
{
    fs_buf in = { 0 };
    char *path = NULL;
    fs_status rc;

    if (!*text)
        return fs_fail(err, FS_ERR_ARGUMENT, "/load needs a file's name");
    rc = expand(text, &path, err);
    if (!rc)
        rc = fs_file_read(path, CHAT_FILE_BYTES_MAX, &in, err);
    if (!rc)
        rc = fs_talk_from_json(&c->run->talk, fs_buf_bytes(&in), path, err);
    fs_buf_done(&in);
    free(path);
    if (rc)
        return rc;
    printf("Loaded %zu messages from %s\n", c->run->talk.n_turns, text);
    if (c->run->talk.n_turns)
        print_clean(fs_buf_bytes(&c->run->talk.turns[c->run->talk.n_turns - 1].content));
    return FS_OK;
}

static fs_status do_retry(chat *c, char *text, fs_error *err)
{
    fs_talk *t = &c->run->talk;

    (void)text;
    if (t->n_turns && t->turns[t->n_turns - 1].role == FS_TALK_ASSISTANT)
        fs_talk_pop(t);
    if (!t->n_turns)
        return fs_fail(err, FS_ERR_ARGUMENT, "there is no answer to try again");
    c->opt->seed++;
    return answer(c, err);
}

static fs_status do_fold(chat *c, char *text, fs_error *err)
{
    (void)text;
    (void)err;
    c->opt->fold = !c->opt->fold;
    puts(c->opt->fold ? "Thinking is folded; /thought shows the last one." : "Thinking is shown.");
    return FS_OK;
}

static fs_status do_think(chat *c, char *text, fs_error *err)
{
    (void)text;
    (void)err;
    c->opt->thinking = !c->opt->thinking;
    puts(c->opt->thinking ? "The model is asked to think, if its format has the choice."
                          : "The model is asked to answer without thinking, if its format has the choice.");
    return FS_OK;
}

static fs_status do_thought(chat *c, char *text, fs_error *err)
{
    (void)text;
    (void)err;
    if (!c->run->reasoning.n_bytes) {
        puts("The last answer came without thinking.");
        return FS_OK;
    }
    fputs(dim(c), stdout);
    print_clean(fs_buf_bytes(&c->run->reasoning));
    printf("%s", plain(c));
    return FS_OK;
}

static fs_status do_stats(chat *c, char *text, fs_error *err)
{
    const fs_run *r = c->run;
    struct rusage usage;

    (void)text;
    (void)err;
    getrusage(RUSAGE_SELF, &usage);
    print_clean(fs_bytes_str(r->name));
    printf("context %d of %d tokens (the model was made for %d), %zu messages, %" PRIu64 " tokens generated, %.0f MiB of memory\n",
           fs_session_n_tokens(r->session), r->ctx_tokens, fs_model_ctx_tokens_max(r->model), r->talk.n_turns, r->n_tokens_total,
           (double)usage.ru_maxrss / 1024);
    if (r->generation.n_prompt_tokens) {
        printf("last answer: ");
        fs_run_print_speed(r, stdout);
        if (r->n_reasoning_tokens)
            printf("; thought for %.0f s, %zu tokens", r->reasoning_seconds, r->n_reasoning_tokens);
        putchar('\n');
    }
    fs_stream_print(r->model, stdout);
    return FS_OK;
}

static void print_setting(const fs_option *o)
{
    printf("  %-20s ", o->name);
    switch (o->kind) {
    case FS_OPTION_INT:
        printf("%-12d", *o->to.i);
        break;
    case FS_OPTION_U64:
        printf("%-12" PRIu64, *o->to.u64);
        break;
    case FS_OPTION_FLOAT:
        printf("%-12g", *o->to.f);
        break;
    case FS_OPTION_FLAG:
        printf("%-12s", *o->to.flag ? "true" : "false");
        break;
    case FS_OPTION_STR:
    case FS_OPTION_SIZE:
    case FS_OPTION_END:
        break;
    }
    printf(" %s\n", o->help);
}

static const char *setting_candidate(const void *ud, size_t i)
{
    const fs_option *o = ud;

    while (i-- && o->kind != FS_OPTION_END)
        o++;
    return o->kind == FS_OPTION_END ? NULL : o->name;
}

static fs_status do_set(chat *c, char *text, fs_error *err)
{
    size_t n = strcspn(text, " =");
    const char *value = text + n, *near;

    if (!*text) {
        for (const fs_option *o = c->settings; o->kind != FS_OPTION_END; o++)
            print_setting(o);
        return FS_OK;
    }
    if (*value) {
        text[n] = 0;
        value++;
        value += strspn(value, " =");
    }
    for (char *s = text; *s; s++)
        if (*s == '_')
            *s = '-';
    for (const fs_option *o = c->settings; o->kind != FS_OPTION_END; o++)
        if (strcmp(o->name, text) == 0)
            return *value ? fs_option_set_text(o, value, o->name, err) : (print_setting(o), FS_OK);
    near = fs_suggest(text, setting_candidate, c->settings);
    return fs_fail(err, FS_ERR_ARGUMENT, "no setting '%.60s'%s%s%s", text, near ? ": did you mean '" : " (/set lists them)",
                   near ? near : "", near ? "'?" : "");
}

static fs_status do_quit(chat *c, char *text, fs_error *err)
{
    (void)text;
    (void)err;
    c->leave = true;
    return FS_OK;
}

static const chat_command commands[] = {
    { "/help", "", "this list", do_help },
    { "/clear", "", "forget the conversation, keep the system prompt", do_clear },
    { "/system", "[TEXT|-]", "set the system prompt, show it, or take it away with -", do_system },
    { "/retry", "", "answer the last message again, with another seed", do_retry },
    { "/save", "FILE", "write the conversation as JSON", do_save },
    { "/load", "FILE", "go on with a saved conversation", do_load },
    { "/result", "TEXT", "what a called tool gave; the model goes on after the last", do_result },
    { "/set", "[NAME VALUE]", "change a setting (/set temperature 0.7), or show them", do_set },
    { "/think", "", "let the model think first, or not", do_think },
    { "/fold", "", "show the thinking, or one line in its place", do_fold },
    { "/thought", "", "show the thinking of the last answer", do_thought },
    { "/stats", "", "tokens, speed and memory", do_stats },
    { "/quit", "", "leave", do_quit },
    { 0 },
};

static const char *command_candidate(const void *ud, size_t i)
{
    (void)ud;
    return i < sizeof commands / sizeof *commands ? commands[i].word : NULL;
}

/* line starts with one '/'. */
static fs_status obey(chat *c, char *line, fs_error *err)
{
    size_t n = strcspn(line, " \n"), end = strlen(line);
    char *text = line + n;
    const char *near;

    while (end && strchr(" \n", line[end - 1]))
        line[--end] = 0;
    if (*text) {
        *text++ = 0;
        text += strspn(text, " \n");
    }
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/bye") == 0)
        return do_quit(c, text, err);
    for (const chat_command *k = commands; k->word; k++)
        if (strcmp(k->word, line) == 0)
            return k->fn(c, text, err);
    near = fs_suggest(line, command_candidate, NULL);
    return fs_fail(err, FS_ERR_ARGUMENT, "no command '%.60s'%s%s%s", line, near ? ": did you mean '" : " (/help lists them)",
                   near ? near : "", near ? "'?" : "");
}

/* ---- the loop ---- */

static bool is_blank(const fs_buf *b)
{
    return b->n_bytes == 0 || strspn(b->data, " \t\n") == b->n_bytes;
}

static fs_status one_line(chat *c, fs_buf *line, fs_error *err)
{
    if (is_blank(line))
        return FS_OK;
    if (line->data[0] != '/')
        return say(c, fs_buf_bytes(line), err);
    if (line->data[1] == '/')
        return say(c, (fs_bytes){ (const uint8_t *)line->data + 1, line->n_bytes - 1 }, err);
    return obey(c, line->data, err);
}

/* ~/.local/state/farseek/history in a new string, its folder made; NULL when there is no such place. */
static char *history_path(void)
{
    char *folder = NULL, *path = NULL;

    if (fs_user_folder("XDG_STATE_HOME", ".local/state", &folder, NULL) == FS_OK && fs_folder_make(folder, 0700, NULL) == FS_OK)
        path = fs_path_join(folder, "history");
    free(folder);
    return path;
}

fs_status fs_chat_loop(fs_run *r, fs_run_settings *opt, const fs_option *settings, fs_error *err)
{
    const char *words[sizeof commands / sizeof *commands];
    chat c = { .run = r, .opt = opt, .settings = settings };
    char *history = history_path();
    fs_input *in = NULL;
    fs_buf line = { 0 };
    bool warned = false;
    fs_status rc;

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        words[i] = commands[i].word;
    rc = fs_input_open(history, words, &in, err);
    free(history);
    if (!rc && r->sandbox)
        rc = fs_model_sandbox(r->model, err);
    if (rc) {
        fs_input_close(in);
        return rc;
    }
    printf("%s/help shows what can be done here.%s\n", dim(&c), plain(&c));
    while (!c.leave) {
        fs_input_event event;
        fs_error e = { 0 };

        rc = fs_input_read(in, "> ", &line, &event, err);
        if (rc || event == FS_INPUT_END)
            break;
        if (event == FS_INPUT_INTERRUPT_EMPTY && warned)
            break;
        if (event == FS_INPUT_INTERRUPT_EMPTY)
            puts("Ctrl-C once more, or Ctrl-D, leaves.");
        warned = event == FS_INPUT_INTERRUPT_EMPTY;
        if (event == FS_INPUT_LINE && one_line(&c, &line, &e))
            report(&e);
        if (ferror(stdout))
            break;
    }
    fs_buf_done(&line);
    fs_input_close(in);
    return rc;
}
