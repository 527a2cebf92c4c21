/* See the header. A state machine over the text that is held back. No decision depends on where that text happens to
 * end: a step waits until it has what decides it, and searches only once over every byte. */
#include "text/parse.h"

#include "text/chat_write.h"

#include <stdio.h>
#include <string.h>

typedef enum step { STEP_ON, STEP_WAIT, STEP_FAILED } step;

typedef struct job {
    fs_parser *p;
    fs_parse_fn *fn;
    void *ud;
    fs_status rc;
    fs_error *err;
} job;

/* Line ends before </think> that are not told; more than anybody writes, and few to look at again. */
#define TRIM_MAX 64

static fs_parse_tags tags_of(const fs_parser *p)
{
    fs_parse_tags t = { .open = "" };

    if (p->markup == FS_MARKUP_DSML) {
        const fs_dsml *d = fs_dsml_of(p->format);
        snprintf(t.open, sizeof t.open, "<" FS_MARK_DSML "%s>", d->calls);
        snprintf(t.close, sizeof t.close, "</" FS_MARK_DSML "%s>", d->calls);
        snprintf(t.call_open, sizeof t.call_open, "<" FS_MARK_DSML "%sinvoke name=\"", d->space);
        snprintf(t.call_close, sizeof t.call_close, "</" FS_MARK_DSML "%sinvoke>", d->space);
        snprintf(t.key, sizeof t.key, "<" FS_MARK_DSML "%sparameter name=\"", d->space);
        snprintf(t.value_close, sizeof t.value_close, "</" FS_MARK_DSML "%sparameter>", d->space);
    } else if (p->markup == FS_MARKUP_MARKERS) {
        snprintf(t.open, sizeof t.open, "<｜tool▁calls▁begin｜>");
        snprintf(t.close, sizeof t.close, "<｜tool▁calls▁end｜>");
        snprintf(t.call_open, sizeof t.call_open, "<｜tool▁call▁begin｜>");
        snprintf(t.call_close, sizeof t.call_close, "<｜tool▁call▁end｜>");
    } else if (p->markup == FS_MARKUP_JSON) {
        snprintf(t.open, sizeof t.open, "<tool_call>");
        snprintf(t.close, sizeof t.close, "</tool_call>");
    }
    return t;
}

static void init(fs_parser *p, fs_chat_format f, fs_parse_state begin, bool trim)
{
    *p = (fs_parser){ .format = f, .state = begin, .trim = trim, .skip_newlines = trim && begin == FS_PARSE_REASONING };
    if (f == FS_CHAT_NONE || f == FS_CHAT_TEMPLATE || f == FS_CHAT_LLAMA3)
        p->markup = FS_MARKUP_NONE;
    else if (f >= FS_CHAT_DEEPSEEK_V32)
        p->markup = FS_MARKUP_DSML;
    else
        p->markup = f >= FS_CHAT_DEEPSEEK_V3 ? FS_MARKUP_MARKERS : FS_MARKUP_JSON;
    p->tags = tags_of(p);
}

void fs_parser_init(fs_parser *p, fs_chat_format f, bool thinking, bool tools)
{
    fs_bytes open, close;
    bool open_in_prompt;

    fs_chat_reasoning(f, thinking, &open, &close, &open_in_prompt);
    init(p, tools ? f : FS_CHAT_NONE, close.n_bytes == 0 ? FS_PARSE_CONTENT : open_in_prompt ? FS_PARSE_REASONING : FS_PARSE_START,
         f == FS_CHAT_DEEPSEEK_R1 || f == FS_CHAT_QWEN3);
}

void fs_parser_init_template(fs_parser *p, fs_parse_state begin, fs_chat_format calls)
{
    init(p, calls, begin, true);
}

void fs_parser_done(fs_parser *p)
{
    if (!p)
        return;
    fs_buf_done(&p->pending);
    fs_buf_done(&p->name);
    fs_buf_done(&p->arguments);
}

/* ---- what is held back ---- */

static fs_bytes span(const fs_parser *p, size_t from, size_t to)
{
    return (fs_bytes){ (const uint8_t *)p->pending.data + from, to - from };
}

static size_t left(const fs_parser *p)
{
    return p->pending.n_bytes - p->at;
}

/* All before at has been told. */
static void drop(fs_parser *p)
{
    p->begin = p->scan = p->at;
}

static void skip(fs_parser *p, const char *set)
{
    while (left(p) && strchr(set, p->pending.data[p->at]) && p->pending.data[p->at])
        p->at++;
}

#define SPACE " \t\r\n"

/* literal at at: STEP_ON and past it, STEP_WAIT when more must come to tell. */
static step expect(fs_parser *p, const char *literal)
{
    size_t n = strlen(literal), have = left(p) < n ? left(p) : n;

    if (memcmp(p->pending.data + p->at, literal, have) != 0)
        return STEP_FAILED;
    if (have < n)
        return STEP_WAIT;
    p->at += n;
    p->scan = p->at;
    return STEP_ON;
}

/* One of two literals, neither the beginning of the other. */
static step expect_either(fs_parser *p, const char *a, const char *b, bool *ret_b)
{
    step s = expect(p, a), t;

    *ret_b = false;
    if (s == STEP_ON)
        return s;
    t = expect(p, b);
    *ret_b = t == STEP_ON;
    return t == STEP_FAILED ? s : t;
}

/* The text from at to literal, at most n_max bytes of it, and past the literal. */
static step until(fs_parser *p, const char *literal, size_t n_max, fs_bytes *ret)
{
    size_t n = strlen(literal), end = p->pending.n_bytes, from = p->at;
    const char *hit;

    if (n_max < end - p->at && end - p->at - n_max > n)
        end = p->at + n_max + n;
    hit = end > p->scan ? memmem(p->pending.data + p->scan, end - p->scan, literal, n) : NULL;
    if (hit) {
        *ret = span(p, from, (size_t)(hit - p->pending.data));
        p->at = p->scan = (size_t)(hit - p->pending.data) + n;
        return STEP_ON;
    }
    if (end - from >= n && end - from - n >= n_max)
        return STEP_FAILED;
    if (end - p->scan >= n)
        p->scan = end - n + 1;
    return STEP_WAIT;
}

/* ---- telling ---- */

static void tell(job *j, const fs_parsed *e)
{
    if (!j->rc && !j->fn(j->ud, e))
        j->rc = fs_fail(j->err, FS_ERR_INTERRUPTED, "the reader stopped the answer");
}

static void tell_text(job *j, fs_part part, size_t from, size_t to)
{
    if (to > from)
        tell(j, &(fs_parsed){ .part = part, .text = span(j->p, from, to) });
}

/* The call is complete: name and arguments hold it. */
static void tell_call(job *j)
{
    fs_parser *p = j->p;

    tell(j, &(fs_parsed){ .part = FS_PART_CALL, .call = p->n_calls, .name = fs_buf_bytes(&p->name), .arguments = fs_buf_bytes(&p->arguments) });
    p->n_calls++;
    p->n_block++;
    drop(p);
}

/* Not the format's markup: what was taken for it is content, and what follows is read as content. */
static step give_up(job *j)
{
    tell_text(j, FS_PART_CONTENT, j->p->begin, j->p->at);
    drop(j->p);
    j->p->state = FS_PARSE_CONTENT;
    return STEP_ON;
}

static void set(job *j, fs_buf *b, fs_bytes text)
{
    fs_buf_clear(b);
    if (!j->rc)
        j->rc = fs_buf_append(b, text.data, text.n_bytes, j->err);
}

/* ---- text up to a marker ---- */

/* How many bytes at the end of text may be the beginning of the marker, of n bytes. */
static size_t partial(fs_bytes text, const char *marker, size_t n)
{
    size_t k = text.n_bytes < n - 1 ? text.n_bytes : n - 1;

    while (k > 0) {
        const uint8_t *tail = text.data + text.n_bytes - k, *first = memchr(tail, marker[0], k);
        if (!first)
            return 0;
        k -= (size_t)(first - tail);
        if (memcmp(first, marker, k) == 0)
            return k;
        k--;
    }
    return 0;
}

/* Tells text until marker, but neither what may be the beginning of the marker nor up to n_newlines line ends before it.
 * STEP_ON: the marker was found, and at is behind it; begin is where those line ends begin. */
static step text_until(job *j, fs_part part, const char *marker, size_t n_newlines)
{
    fs_parser *p = j->p;
    size_t n = strlen(marker), end;
    const char *hit;
    bool found;

    if (p->skip_newlines) {
        skip(p, "\n");
        drop(p);
        if (!left(p))
            return STEP_WAIT;
        p->skip_newlines = false;
    }
    if (p->pending.n_bytes == p->begin)
        return STEP_WAIT;
    hit = n && p->pending.n_bytes > p->scan ? memmem(p->pending.data + p->scan, p->pending.n_bytes - p->scan, marker, n) : NULL;
    found = hit != NULL;
    end = found ? (size_t)(hit - p->pending.data) : p->pending.n_bytes;
    if (!found && n)
        end -= partial(span(p, p->begin, end), marker, n);
    p->at = end + (found ? n : 0);
    p->scan = end;
    while (n_newlines > 0 && end > p->begin && p->pending.data[end - 1] == '\n') {
        end--;
        n_newlines--;
    }
    tell_text(j, part, p->begin, end);
    p->begin = end;
    if (!found)
        return STEP_WAIT;
    p->scan = p->at;
    return STEP_ON;
}

static step on_reasoning(job *j)
{
    step s = text_until(j, FS_PART_REASONING, FS_MARK_THINK_END, j->p->trim ? TRIM_MAX : 0);

    if (s == STEP_ON) {
        drop(j->p);
        j->p->state = FS_PARSE_CONTENT;
        j->p->skip_newlines = j->p->trim;
    }
    return s;
}

static step on_start(job *j)
{
    fs_parser *p = j->p;
    step s;

    skip(p, SPACE);
    s = left(p) ? expect(p, FS_MARK_THINK) : STEP_WAIT;
    if (s == STEP_WAIT)
        return s;
    if (s == STEP_ON)
        drop(p);
    else
        p->at = p->scan = p->begin;
    p->state = s == STEP_ON ? FS_PARSE_REASONING : FS_PARSE_CONTENT;
    p->skip_newlines = s == STEP_ON && p->trim;
    return STEP_ON;
}

static step on_content(job *j)
{
    fs_parser *p = j->p;
    const fs_parse_tags *t = &p->tags;
    step s = text_until(j, FS_PART_CONTENT, t->open, p->markup == FS_MARKUP_DSML ? 2 : p->markup == FS_MARKUP_JSON);

    if (s == STEP_ON) {
        p->state = p->markup == FS_MARKUP_JSON ? FS_PARSE_OBJECT : FS_PARSE_CALLS;
        p->n_block = 0;
        p->depth = 0;
        p->in_string = p->escaped = false;
    }
    return s;
}

/* ---- blocks of calls ---- */

static step on_calls(job *j)
{
    fs_parser *p = j->p;
    const fs_parse_tags *t = &p->tags;
    bool closed;
    step s;

    skip(p, SPACE);
    s = expect_either(p, t->call_open, t->close, &closed);
    if (s == STEP_FAILED || (s == STEP_ON && closed && p->n_block == 0))
        return give_up(j);
    if (s == STEP_WAIT)
        return s;
    if (closed)
        drop(p);
    p->state = closed ? FS_PARSE_AFTER : FS_PARSE_NAME;
    return STEP_ON;
}

static step on_name(job *j)
{
    fs_parser *p = j->p;
    bool dsml = p->markup == FS_MARKUP_DSML, v31 = p->format == FS_CHAT_DEEPSEEK_V31;
    fs_bytes name;
    step s = until(p, p->state == FS_PARSE_FENCE ? "\n```json\n" : dsml ? "\">" : "<｜tool▁sep｜>", FS_PARSE_NAME_MAX, &name);

    if (s == STEP_WAIT)
        return s;
    if (s == STEP_FAILED || name.n_bytes == 0)
        return give_up(j);
    set(j, &p->name, name);
    set(j, &p->arguments, FS_BYTES_LIT("{"));
    if (dsml)
        p->state = FS_PARSE_PARAMETERS;
    else
        p->state = v31 || p->state == FS_PARSE_FENCE ? FS_PARSE_BODY : FS_PARSE_FENCE;
    return STEP_ON;
}

static step on_body(job *j)
{
    fs_parser *p = j->p;
    const fs_parse_tags *t = &p->tags;
    fs_bytes body, value;
    step s = until(p, t->call_close, SIZE_MAX, &body);

    if (s == STEP_WAIT)
        return s;
    if (p->format != FS_CHAT_DEEPSEEK_V31) {
        body = fs_trim(body);
        if (body.n_bytes < 3 || memcmp(body.data + body.n_bytes - 3, "```", 3) != 0)
            return give_up(j);
        body.n_bytes -= 3;
    }
    if (!fs_json_text_valid(body, &value) || value.data[0] != '{')
        return give_up(j);
    set(j, &p->arguments, value);
    tell_call(j);
    p->state = FS_PARSE_CALLS;
    return STEP_ON;
}

static step on_parameters(job *j)
{
    fs_parser *p = j->p;
    const fs_parse_tags *t = &p->tags;
    bool closed;
    step s;

    skip(p, SPACE);
    s = expect_either(p, t->key, t->call_close, &closed);
    if (s == STEP_FAILED)
        return give_up(j);
    if (s == STEP_WAIT)
        return s;
    if (!closed) {
        p->state = FS_PARSE_KEY;
        return STEP_ON;
    }
    if (!j->rc)
        j->rc = fs_buf_append(&p->arguments, "}", 1, j->err);
    tell_call(j);
    p->state = FS_PARSE_CALLS;
    return STEP_ON;
}

/* The key, and whether its value is text. The key is written once its tag is whole, so that a wait repeats nothing. */
static step on_key(job *j)
{
    fs_parser *p = j->p;
    size_t from = p->at;
    fs_bytes key;
    bool json = false;
    step s = until(p, "\" string=\"", FS_PARSE_NAME_MAX, &key);

    if (s == STEP_WAIT)
        return s;
    if (s == STEP_ON)
        s = expect_either(p, "true\">", "false\">", &json);
    if (s == STEP_FAILED)
        return give_up(j);
    if (s == STEP_WAIT) {
        p->at = p->scan = from;
        return s;
    }
    p->string = !json;
    if (!j->rc && p->arguments.n_bytes > 1)
        j->rc = fs_buf_append(&p->arguments, ", ", 2, j->err);
    if (!j->rc)
        j->rc = fs_json_text_quote(key, &p->arguments, j->err);
    if (!j->rc)
        j->rc = fs_buf_append(&p->arguments, ": ", 2, j->err);
    p->state = FS_PARSE_VALUE;
    return STEP_ON;
}

static step on_value(job *j)
{
    fs_parser *p = j->p;
    const fs_parse_tags *t = &p->tags;
    fs_bytes text, value;
    step s = until(p, t->value_close, SIZE_MAX, &text);

    if (s == STEP_WAIT)
        return s;
    if (!p->string && !fs_json_text_valid(text, &value))
        return give_up(j);
    if (!j->rc)
        j->rc = p->string ? fs_json_text_quote(text, &p->arguments, j->err) : fs_buf_append(&p->arguments, value.data, value.n_bytes, j->err);
    p->state = FS_PARSE_PARAMETERS;
    return STEP_ON;
}

/* ---- <tool_call> with JSON ---- */

/* {"name": "...", "arguments": {...}}; arguments may be missing, or a string that holds the object. */
static bool read_object(job *j, fs_bytes object)
{
    fs_parser *p = j->p;
    fs_bytes name, arguments, value;

    if (!fs_json_text_valid(object, NULL) || !fs_json_text_member(object, "name", &name) || name.data[0] != '"' || name.n_bytes == 2)
        return false;
    set(j, &p->name, (fs_bytes){ 0 });
    if (!j->rc)
        j->rc = fs_json_text_unquote(name, &p->name, j->err);
    set(j, &p->arguments, FS_BYTES_LIT("{}"));
    if (!fs_json_text_member(object, "arguments", &arguments))
        return true;
    if (arguments.data[0] == '"') {
        fs_buf text = { 0 };
        bool good;
        if (!j->rc)
            j->rc = fs_json_text_unquote(arguments, &text, j->err);
        good = fs_json_text_valid(fs_buf_bytes(&text), &value) && value.data[0] == '{';
        if (good)
            set(j, &p->arguments, value);
        fs_buf_done(&text);
        return good;
    }
    set(j, &p->arguments, arguments);
    return arguments.data[0] == '{';
}

/* Finds the end of the object by its braces; whether it is one is seen then. */
static step on_object(job *j)
{
    fs_parser *p = j->p;
    size_t from;

    if (p->depth == 0) {
        skip(p, SPACE);
        p->scan = p->at;
        if (!left(p))
            return STEP_WAIT;
        if (p->pending.data[p->at] != '{')
            return give_up(j);
    }
    for (; p->scan < p->pending.n_bytes; p->scan++) {
        char c = p->pending.data[p->scan];
        if (p->in_string) {
            if (p->escaped)
                p->escaped = false;
            else if (c == '\\')
                p->escaped = true;
            else if (c == '"')
                p->in_string = false;
            continue;
        }
        if (c == '"')
            p->in_string = true;
        else if (c == '{')
            p->depth++;
        else if (c == '}' && --p->depth == 0)
            break;
    }
    if (p->scan == p->pending.n_bytes)
        return STEP_WAIT;
    from = p->at;
    p->at = ++p->scan;
    if (!read_object(j, span(p, from, p->at)))
        return give_up(j);
    p->state = FS_PARSE_CLOSE;
    return STEP_ON;
}

static step on_close(job *j)
{
    fs_parser *p = j->p;
    const fs_parse_tags *t = &p->tags;
    step s;

    skip(p, SPACE);
    s = expect(p, t->close);
    if (s == STEP_FAILED)
        return give_up(j);
    if (s == STEP_ON) {
        tell_call(j);
        p->state = FS_PARSE_AFTER;
    }
    return s;
}

static step on_after(job *j)
{
    skip(j->p, SPACE);
    drop(j->p);
    if (!left(j->p))
        return STEP_WAIT;
    j->p->state = FS_PARSE_CONTENT;
    return STEP_ON;
}

/* ---- the machine ---- */

static step one_step(job *j)
{
    switch (j->p->state) {
    case FS_PARSE_START:
        return on_start(j);
    case FS_PARSE_REASONING:
        return on_reasoning(j);
    case FS_PARSE_CONTENT:
        return on_content(j);
    case FS_PARSE_AFTER:
        return on_after(j);
    case FS_PARSE_CALLS:
        return on_calls(j);
    case FS_PARSE_NAME:
    case FS_PARSE_FENCE:
        return on_name(j);
    case FS_PARSE_BODY:
        return on_body(j);
    case FS_PARSE_PARAMETERS:
        return on_parameters(j);
    case FS_PARSE_KEY:
        return on_key(j);
    case FS_PARSE_VALUE:
        return on_value(j);
    case FS_PARSE_OBJECT:
        return on_object(j);
    case FS_PARSE_CLOSE:
        return on_close(j);
    }
    return STEP_WAIT;
}

/* What has been told goes, so that a long answer holds little. */
static void compact(fs_parser *p)
{
    if (p->begin == 0 || p->begin < p->pending.n_bytes / 2)
        return;
    memmove(p->pending.data, p->pending.data + p->begin, p->pending.n_bytes - p->begin);
    p->pending.n_bytes -= p->begin;
    p->pending.data[p->pending.n_bytes] = 0;
    p->at -= p->begin;
    p->scan -= p->begin;
    p->begin = 0;
}

fs_status fs_parser_push(fs_parser *p, const void *text, size_t n_bytes, fs_parse_fn *fn, void *ud, fs_error *err)
{
    job j = { .p = p, .fn = fn, .ud = ud, .err = err };
    fs_status rc;

    if (n_bytes == 0)
        return FS_OK;
    compact(p);
    if ((rc = fs_buf_append(&p->pending, text, n_bytes, err)))
        return rc;
    while (!j.rc && one_step(&j) == STEP_ON)
        continue;
    return j.rc;
}

fs_status fs_parser_finish(fs_parser *p, fs_parse_fn *fn, void *ud, fs_error *err)
{
    job j = { .p = p, .fn = fn, .ud = ud, .err = err };

    if (p->state != FS_PARSE_AFTER)
        tell_text(&j, p->state == FS_PARSE_REASONING ? FS_PART_REASONING : FS_PART_CONTENT, p->begin, p->pending.n_bytes);
    p->at = p->pending.n_bytes;
    drop(p);
    return j.rc;
}
