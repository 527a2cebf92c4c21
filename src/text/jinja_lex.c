/* The source to tokens: jinja2's lexer with trim_blocks and lstrip_blocks on. Line ends become \n, and one at the very
 * end is dropped. */
#include "text/jinja_impl.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

typedef struct lexer {
    jinja *j;
    const uint8_t *s;
    size_t n, at;
    int line;
    jinja_tokens *out;
} lexer;

static jinja_token *push(lexer *l, jinja_token_kind kind, size_t from, size_t to)
{
    jinja_tokens *t = l->out;

    if (t->n == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 64;
        jinja_token *items = jinja_alloc_n(l->j, capacity, sizeof *items);
        if (t->n)
            memcpy(items, t->items, t->n * sizeof *items);
        t->items = items;
        t->capacity = capacity;
    }
    t->items[t->n] = (jinja_token){ .kind = kind, .line = l->line, .text = { l->s + from, to - from, NULL } };
    return &t->items[t->n++];
}

static void advance(lexer *l, size_t to)
{
    for (const uint8_t *p = l->s + l->at; to > l->at && (p = memchr(p, '\n', (size_t)(l->s + to - p))) != NULL; p++)
        l->line++;
    if (to > l->at)
        l->at = to;
}

static bool looking_at(const lexer *l, size_t at, const char *text)
{
    size_t n = strlen(text);

    return at <= l->n && n <= l->n - at && memcmp(l->s + at, text, n) == 0;
}

static size_t skip_space(const lexer *l, size_t at)
{
    uint32_t code;

    while (at < l->n) {
        size_t n = fs_utf8_next((fs_bytes){ l->s, l->n }, at, &code);
        if (!jinja_is_space(code))
            break;
        at += n;
    }
    return at;
}

/* Where text [from, to) ends once it lost the white space that sign and lstrip_blocks take from before a tag. */
static size_t text_end(const lexer *l, size_t from, size_t to, uint8_t sign, bool is_block)
{
    jinja_str s = { l->s + from, to - from, NULL };
    size_t line_begin;

    if (sign == '-')
        return from + jinja_strip(l->j, s, NULL, false, true).n;
    if (sign == '+' || !is_block)
        return to;
    for (line_begin = to; line_begin > from && l->s[line_begin - 1] != '\n'; line_begin--)
        ;
    if (line_begin == from && from > 0 && l->s[from - 1] != '\n')
        return to;
    return line_begin < to && skip_space(l, line_begin) >= to ? line_begin : to;
}

/* After "%}" or "#}" of a tag whose closing begins at `at`; ret_at is behind what is dropped. False: no closing here. */
static bool closing(const lexer *l, size_t at, const char *text, bool trims, size_t *ret_at)
{
    uint8_t sign = at < l->n ? l->s[at] : 0;
    bool is_sign = sign == '-' || (sign == '+' && trims);

    if (!looking_at(l, at + is_sign, text))
        return false;
    at += is_sign + 2;
    if (sign == '-')
        at = skip_space(l, at);
    else if (sign != '+' && trims && at < l->n && l->s[at] == '\n')
        at++;
    *ret_at = at;
    return true;
}

static uint32_t hex(const lexer *l, size_t at, size_t n, size_t end)
{
    uint32_t code = 0;

    if (end - at < n)
        jinja_fail(l->j, FS_ERR_FORMAT, "a string has an escape that is cut off");
    for (size_t i = at; i < at + n; i++) {
        uint8_t c = l->s[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            jinja_fail(l->j, FS_ERR_FORMAT, "a string has a \\x, \\u or \\U escape without its digits");
        code = code << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return code;
}

static jinja_str unescape(lexer *l, size_t from, size_t to)
{
    static const char letters[] = "n\nt\tr\ra\ab\bf\fv\v\\\\''\"\"";
    jinja_builder b = { 0 };
    jinja_str own = { NULL, 0, NULL };

    for (size_t i = from; i < to;) {
        const uint8_t *back = memchr(l->s + i, '\\', to - i);
        size_t plain = back ? (size_t)(back - l->s) : to;
        const char *p;
        uint8_t c;
        jinja_put(l->j, &b, (jinja_str){ l->s + i, plain - i, NULL });
        if (!back)
            break;
        c = l->s[plain + 1];
        i = plain + 2;
        for (p = letters; *p && *p != (char)c; p += 2)
            ;
        if (*p) {
            jinja_put_code(l->j, &b, (uint8_t)p[1], own);
        } else if (c == 'x' || c == 'u' || c == 'U') {
            size_t n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
            uint32_t code = hex(l, i, n, to);
            i += n;
            if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
                jinja_fail(l->j, FS_ERR_FORMAT, "a string has an escape that is no character");
            jinja_put_code(l->j, &b, code, own);
        } else if (c >= '0' && c <= '7') {
            uint32_t code = c - '0';
            for (int k = 0; k < 2 && i < to && l->s[i] >= '0' && l->s[i] <= '7'; k++)
                code = code * 8 + (l->s[i++] - '0');
            jinja_put_code(l->j, &b, code, own);
        } else if (c == 'N') {
            jinja_fail(l->j, FS_ERR_UNSUPPORTED, "the escape \\N in a string is not supported");
        } else if (c != '\n') {
            jinja_put(l->j, &b, JSTR("\\"));
            i = plain + 1;
            jinja_put(l->j, &b, (jinja_str){ l->s + i, 1, NULL });
            i++;
        }
    }
    return jinja_built(&b);
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(uint8_t c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Digits with single underscores between them; copies the digits to text. */
static size_t digits(const lexer *l, size_t at, char *text, size_t *n)
{
    while (at < l->n && (is_digit(l->s[at]) || (l->s[at] == '_' && at + 1 < l->n && is_digit(l->s[at + 1])))) {
        if (*n >= 60) /* the point may have been the 61st */
            jinja_fail(l->j, FS_ERR_UNSUPPORTED, "a number of more than 60 characters is not supported");
        if (l->s[at] != '_')
            text[(*n)++] = (char)l->s[at];
        at++;
    }
    return at;
}

static void lex_number(lexer *l)
{
    char text[64];
    size_t n = 0, begin = l->at, at = l->at, after;
    bool is_float = false;
    jinja_token *t;

    if (l->s[at] == '0' && at + 1 < l->n && strchr("xXoObB", l->s[at + 1]))
        jinja_fail(l->j, FS_ERR_UNSUPPORTED, "numbers in another base than ten are not supported");
    at = digits(l, at, text, &n);
    if (at + 1 < l->n && l->s[at] == '.' && is_digit(l->s[at + 1])) {
        is_float = true;
        text[n++] = '.';
        at = digits(l, at + 1, text, &n);
    }
    after = at;
    if (at < l->n && (l->s[at] | 32) == 'e') {
        after++;
        if (after < l->n && (l->s[after] == '+' || l->s[after] == '-'))
            after++;
        if (after < l->n && is_digit(l->s[after])) {
            is_float = true;
            text[n++] = 'e';
            if (!is_digit(l->s[at + 1]))
                text[n++] = (char)l->s[at + 1];
            at = digits(l, after, text, &n);
        }
    }
    text[n] = 0;
    t = push(l, is_float ? T_FLOAT : T_INT, begin, at);
    if (is_float) {
        t->f = strtod(text, NULL);
    } else {
        if (n > 1 && text[0] == '0' && strspn(text, "0") != n)
            jinja_fail(l->j, FS_ERR_FORMAT, "the number %s begins with a zero", text);
        if (n > 18)
            jinja_fail(l->j, FS_ERR_UNSUPPORTED, "the number %s of more than 18 digits is not supported", text);
        t->i = strtoll(text, NULL, 10);
    }
    advance(l, at);
}

static void lex_string(lexer *l)
{
    uint8_t quote = l->s[l->at];
    size_t begin = l->at + 1, end = begin;
    jinja_token *t;

    while (end < l->n && l->s[end] != quote)
        end += l->s[end] == '\\' ? 2 : 1;
    if (end >= l->n)
        jinja_fail(l->j, FS_ERR_FORMAT, "a string is not closed");
    t = push(l, T_STRING, begin, end);
    t->text = unescape(l, begin, end);
    advance(l, end + 1);
}

/* The inside of {{ }} or {% %}, and its closing. */
static void lex_expression(lexer *l, bool is_block)
{
    static const char *const ops[] = { "==", "!=", "<=", ">=", "//", "**", "+", "-", "*", "/", "%", "~", "<", ">", "=",
                                       "(",  ")",  "[",  "]",  "{",  "}",  ".", ",", ":", "|", ";" };
    char open[JINJA_PARSE_DEPTH_MAX + 1];
    int n_open = 0;

    for (;;) {
        size_t after, k;
        l->j->line = l->line;
        if (n_open == 0 && closing(l, l->at, is_block ? "%}" : "}}", is_block, &after)) {
            push(l, is_block ? T_BLOCK_END : T_VAR_END, l->at, l->at);
            advance(l, after);
            return;
        }
        after = skip_space(l, l->at);
        if (after > l->at) {
            advance(l, after);
            continue;
        }
        if (l->at >= l->n)
            jinja_fail(l->j, FS_ERR_FORMAT, "%s is not closed", is_block ? "{%" : "{{");
        if (is_digit(l->s[l->at])) {
            lex_number(l);
            continue;
        }
        if (is_word(l->s[l->at])) {
            for (after = l->at; after < l->n && is_word(l->s[after]); after++)
                ;
            push(l, T_NAME, l->at, after);
            advance(l, after);
            continue;
        }
        if (l->s[l->at] == '"' || l->s[l->at] == '\'') {
            lex_string(l);
            continue;
        }
        for (k = 0; k < sizeof ops / sizeof *ops; k++)
            if (l->s[l->at] == (uint8_t)ops[k][0] && (!ops[k][1] || (l->at + 1 < l->n && l->s[l->at + 1] == (uint8_t)ops[k][1])))
                break;
        if (k == sizeof ops / sizeof *ops)
            jinja_fail(l->j, FS_ERR_FORMAT, "unexpected character 0x%02x", l->s[l->at]);
        if (strchr("([{", ops[k][0])) {
            if (n_open == JINJA_PARSE_DEPTH_MAX)
                jinja_fail(l->j, FS_ERR_FORMAT, "brackets nest deeper than %d", JINJA_PARSE_DEPTH_MAX);
            open[n_open++] = ops[k][0] == '(' ? ')' : ops[k][0] == '[' ? ']' : '}';
        } else if (strchr(")]}", ops[k][0]) && (n_open == 0 || open[--n_open] != ops[k][0])) {
            jinja_fail(l->j, FS_ERR_FORMAT, "unexpected '%s'", ops[k]);
        }
        push(l, T_OP, l->at, l->at + strlen(ops[k]));
        advance(l, l->at + strlen(ops[k]));
    }
}

/* Whether the tag at `at` (behind its sign) is {% word %}; *ret_at is behind its closing, which `trims` says of. */
static bool is_word_tag(const lexer *l, size_t at, const char *word, bool trims, size_t *ret_at)
{
    at = skip_space(l, at);
    if (!looking_at(l, at, word))
        return false;
    at = skip_space(l, at + strlen(word));
    return closing(l, at, "%}", trims, ret_at);
}

static uint8_t sign_at(const lexer *l, size_t at)
{
    return at < l->n && (l->s[at] == '-' || l->s[at] == '+') ? l->s[at] : 0;
}

static void lex_raw(lexer *l, size_t begin)
{
    advance(l, begin);
    for (size_t at = begin; at + 1 < l->n; at++) {
        uint8_t sign;
        size_t after, end;
        if (l->s[at] != '{' || l->s[at + 1] != '%')
            continue;
        sign = sign_at(l, at + 2);
        if (!is_word_tag(l, at + 2 + (sign != 0), "endraw", true, &after))
            continue;
        end = text_end(l, begin, at, sign, true);
        if (end > begin)
            push(l, T_TEXT, begin, end);
        advance(l, after);
        return;
    }
    jinja_fail(l->j, FS_ERR_FORMAT, "{%% raw %%} is not closed");
}

static void lex_comment(lexer *l, size_t at)
{
    size_t after;

    for (; at < l->n; at++)
        if ((l->s[at] == '#' || l->s[at] == '-' || l->s[at] == '+') && closing(l, at, "#}", true, &after)) {
            advance(l, after);
            return;
        }
    jinja_fail(l->j, FS_ERR_FORMAT, "{# is not closed");
}

static fs_bytes normal_lines(jinja *j, fs_bytes source)
{
    uint8_t *s = jinja_alloc(j, source.n_bytes + 1);
    size_t n = 0;

    for (size_t i = 0; i < source.n_bytes; i++) {
        s[n++] = source.data[i] == '\r' ? '\n' : source.data[i];
        if (source.data[i] == '\r' && i + 1 < source.n_bytes && source.data[i + 1] == '\n')
            i++;
    }
    if (n && s[n - 1] == '\n')
        n--;
    return (fs_bytes){ s, n };
}

void jinja_lex(jinja *j, fs_bytes source, jinja_tokens *ret)
{
    fs_bytes text = normal_lines(j, source);
    lexer l = { .j = j, .s = text.data, .n = text.n_bytes, .line = 1, .out = ret };

    while (l.at < l.n) {
        size_t begin = l.at, tag = begin, end, after;
        uint8_t kind, sign;
        for (; tag + 1 < l.n; tag++) {
            const uint8_t *brace = memchr(l.s + tag, '{', l.n - 1 - tag);
            tag = brace ? (size_t)(brace - l.s) : l.n - 1;
            if (brace && (l.s[tag + 1] == '{' || l.s[tag + 1] == '%' || l.s[tag + 1] == '#'))
                break;
        }
        if (tag + 1 >= l.n) {
            push(&l, T_TEXT, begin, l.n);
            break;
        }
        kind = l.s[tag + 1];
        sign = sign_at(&l, tag + 2);
        end = text_end(&l, begin, tag, sign, kind != '{');
        if (end > begin)
            push(&l, T_TEXT, begin, end);
        advance(&l, tag);
        j->line = l.line;
        if (kind == '#') {
            lex_comment(&l, tag + 2 + (sign != 0));
        } else if (kind == '%' && is_word_tag(&l, tag + 2 + (sign != 0), "raw", false, &after)) {
            lex_raw(&l, after);
        } else {
            push(&l, kind == '%' ? T_BLOCK_BEGIN : T_VAR_BEGIN, tag, tag + 2);
            advance(&l, tag + 2 + (sign != 0));
            lex_expression(&l, kind == '%');
        }
    }
    push(&l, T_END, l.n, l.n);
}
