/* See the header. */
#include "text/regex.h"

#include "base/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Steps of backtracking from one start position. Ordinary patterns need a few; where a start needs more than STEPS_FREE,
 * up to STEPS_MAX, the time is taken, so that neither one start nor many that are each just bearable last for ever: a text
 * may spend SLOW_NS_BASE on such starts and SLOW_NS_PER_BYTE for each of its bytes. Only whether a text is refused depends
 * on the clock. What this allows: a run of 100 000 spaces under a pattern that reads it anew from each of them. */
#define STEPS_FREE       256
#define STEPS_GROWTH     4
#define STEPS_MAX        20000000
#define STEPS_WINDOW     128000000 /* between looks at the clock */
#define SLOW_NS_BASE     1000000000
#define SLOW_NS_PER_BYTE 4000
#define JIT_STACK_MIN   (64 << 10)
#define JIT_STACK_MAX   (64 << 20)

struct fs_regex {
    pcre2_code *code;
    bool jit;
};

/* PCRE2's allocations go through malloc here, so that the tests can make them fail. */
static void *regex_malloc(size_t n, void *ud)
{
    (void)ud;
    return malloc(n);
}

static void regex_free(void *p, void *ud)
{
    (void)ud;
    free(p);
}

static fs_status refuse(fs_error *err, fs_bytes pattern, size_t at, const char *why)
{
    int n = pattern.n_bytes - at < 16 ? (int)(pattern.n_bytes - at) : 16;
    return fs_fail(err, FS_ERR_UNSUPPORTED, "regular expression: %s at byte %zu, '%.*s'", why, at, n,
                   (const char *)pattern.data + at);
}

/* The inside of a character class: Oniguruma's sets, spelled out. */
#define SPACE_SET "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WORD_SET  "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* \p{..}, \P{..}, \p{^..}: general categories keep their names; longer names are scripts, by the Script property. */
static fs_status property(fs_bytes p, size_t *at, fs_buf *out, fs_error *err)
{
    size_t i = *at + 2, begin, n;
    bool negate = p.data[*at + 1] == 'P';

    if (i >= p.n_bytes || p.data[i] != '{')
        return refuse(err, p, *at, "a property without braces");
    i++;
    if (i < p.n_bytes && p.data[i] == '^') {
        negate = !negate;
        i++;
    }
    begin = i;
    while (i < p.n_bytes && ((p.data[i] | 32) >= 'a' && (p.data[i] | 32) <= 'z'))
        i++;
    n = i - begin;
    if (i >= p.n_bytes || p.data[i] != '}' || n == 0 || n > 40)
        return refuse(err, p, *at, "an unknown property");
    *at = i + 1;
    return fs_buf_printf(out, err, "\\%c{%s%.*s}", negate ? 'P' : 'p', n > 2 ? "sc:" : "", (int)n, (const char *)p.data + begin);
}

/* An escape at *at, moved past it. */
static fs_status escape(fs_bytes p, size_t *at, bool in_class, fs_buf *out, fs_error *err)
{
    size_t i = *at + 1, n = 0;
    uint8_t c = i < p.n_bytes ? p.data[i] : 0;

    if (i >= p.n_bytes)
        return refuse(err, p, *at, "a lone backslash");
    switch (c) {
    case 'p':
    case 'P':
        return property(p, at, out, err);
    case 's':
        *at += 2;
        return fs_buf_append_str(out, in_class ? SPACE_SET : "[" SPACE_SET "]", err);
    case 'd':
        *at += 2;
        return fs_buf_append_str(out, "\\p{Nd}", err);
    case 'D':
        *at += 2;
        return fs_buf_append_str(out, "\\P{Nd}", err);
    case 'w':
        *at += 2;
        return fs_buf_append_str(out, in_class ? WORD_SET : "[" WORD_SET "]", err);
    case 'S':
    case 'W':
        if (in_class)
            return refuse(err, p, *at, "a negated set within a class");
        *at += 2;
        return fs_buf_append_str(out, c == 'S' ? "[^" SPACE_SET "]" : "[^" WORD_SET "]", err);
    case 'v':
        *at += 2;
        return fs_buf_append_str(out, "\\x{b}", err);
    case 'n':
    case 'r':
    case 't':
    case 'f':
        *at += 2;
        return fs_buf_printf(out, err, "\\%c", c);
    case 'A':
    case 'z':
        if (in_class)
            return refuse(err, p, *at, "an unknown escape");
        *at += 2;
        return fs_buf_printf(out, err, "\\%c", c);
    case 'x':
    case 'u': {
        size_t begin = i + 1, most = c == 'u' ? 4 : 2;
        bool braces = c == 'x' && begin < p.n_bytes && p.data[begin] == '{';
        if (braces) {
            begin++;
            most = 6;
        }
        while (n < most && begin + n < p.n_bytes && is_hex(p.data[begin + n]))
            n++;
        if (n == 0 || (!braces && n != most) || (braces && (begin + n >= p.n_bytes || p.data[begin + n] != '}')))
            return refuse(err, p, *at, "a malformed character code");
        /* Oniguruma's \xHH is a byte of the encoding, so above 7F it is part of a character. */
        if (c == 'x' && !braces && p.data[begin] >= '8')
            return refuse(err, p, *at, "a byte code");
        *at = begin + n + braces;
        return fs_buf_printf(out, err, "\\x{%.*s}", (int)n, (const char *)p.data + begin);
    }
    default:
        if (c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
            return refuse(err, p, *at, "an unknown escape");
        *at += 2;
        return fs_buf_printf(out, err, "\\x{%x}", c);
    }
}

static fs_status char_class(fs_bytes p, size_t *at, fs_buf *out, fs_error *err)
{
    size_t i = *at + 1, members = 0;
    fs_status rc = fs_buf_append(out, "[", 1, err);

    if (!rc && i < p.n_bytes && p.data[i] == '^') {
        rc = fs_buf_append(out, "^", 1, err);
        i++;
    }
    for (; !rc; members++) {
        uint8_t c;
        if (i >= p.n_bytes)
            return refuse(err, p, *at, "a class without end");
        c = p.data[i];
        if (c == ']') {
            if (members == 0)
                return refuse(err, p, *at, "an empty class");
            *at = i + 1;
            return fs_buf_append(out, "]", 1, err);
        }
        if (c == '[')
            return refuse(err, p, i, "a class within a class");
        if (c == '&' && i + 1 < p.n_bytes && p.data[i + 1] == '&')
            return refuse(err, p, i, "an intersection of classes");
        if (c == '\\') {
            bool set = i + 1 < p.n_bytes && memchr("pPsdDw", p.data[i + 1], 6);
            rc = escape(p, &i, true, out, err);
            /* Spelled out, the set's last member would become the start of a range. */
            if (!rc && set && i + 1 < p.n_bytes && p.data[i] == '-' && p.data[i + 1] != ']')
                return refuse(err, p, i, "a range that starts with a set");
        } else {
            rc = fs_buf_append(out, &c, 1, err); /* PCRE2 sees nothing special in what is left, '-' apart */
            i++;
        }
    }
    return rc;
}

/* What may follow "(?". */
static fs_status group(fs_bytes p, size_t *at, fs_buf *out, fs_error *err)
{
    static const char *const known[] = { "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:" };
    size_t left = p.n_bytes - *at;

    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        size_t n = strlen(known[k]);
        if (left >= n && memcmp(p.data + *at, known[k], n) == 0) {
            *at += n;
            return fs_buf_append(out, known[k], n, err);
        }
    }
    /* Elsewhere than at the start its reach differs between the two engines. */
    if (*at == 0 && left >= 4 && memcmp(p.data, "(?i)", 4) == 0) {
        *at += 4;
        return fs_buf_append_str(out, "(?i)", err);
    }
    if (left >= 2 && (p.data[*at + 1] == '?' || p.data[*at + 1] == '*'))
        return refuse(err, p, *at, "an unknown group");
    *at += 1;
    return fs_buf_append_str(out, "(?:", err);
}

/* {n}, {n,}, {n,m}; a brace that counts nothing is a character in Oniguruma and is refused here. */
static fs_status counted(fs_bytes p, size_t *at, fs_buf *out, fs_error *err)
{
    size_t i = *at + 1, digits = 0, commas = 0;

    for (; i < p.n_bytes && ((p.data[i] >= '0' && p.data[i] <= '9') || (p.data[i] == ',' && commas == 0 && digits)); i++) {
        if (p.data[i] == ',')
            commas++;
        else
            digits++;
    }
    if (i >= p.n_bytes || p.data[i] != '}' || digits == 0)
        return refuse(err, p, *at, "a brace that is not a count");
    i++;
    if (i < p.n_bytes && (p.data[i] == '+' || p.data[i] == '?'))
        return refuse(err, p, *at, "a count followed by + or ?");
    if (fs_buf_append(out, p.data + *at, i - *at, err))
        return FS_ERR_MEMORY;
    *at = i;
    return FS_OK;
}

static fs_status translate(fs_bytes p, fs_buf *out, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < p.n_bytes && !rc;) {
        uint8_t c = p.data[i];
        if (c == '\\') {
            rc = escape(p, &i, false, out, err);
        } else if (c == '[') {
            rc = char_class(p, &i, out, err);
        } else if (c == '(') {
            rc = group(p, &i, out, err);
        } else if (c == '{') {
            rc = counted(p, &i, out, err);
        } else if (c == '}' || c == ']') {
            rc = fs_buf_printf(out, err, "\\%c", c);
            i++;
        } else {
            rc = fs_buf_append(out, &c, 1, err);
            i++;
        }
    }
    return rc;
}

fs_status fs_regex_compile(fs_bytes pattern, bool literal, fs_regex **ret, fs_error *err)
{
    fs_buf text = { 0 };
    fs_regex *r = NULL;
    pcre2_general_context *general = NULL;
    pcre2_compile_context *context = NULL;
    int code;
    PCRE2_SIZE at;
    fs_status rc;

    if (pattern.n_bytes == 0 || pattern.n_bytes > FS_REGEX_BYTES_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "regular expression: %zu bytes, allowed are 1 to %d", pattern.n_bytes, FS_REGEX_BYTES_MAX);
    if (!fs_utf8_valid(pattern))
        return fs_fail(err, FS_ERR_FORMAT, "regular expression: not UTF-8");
    rc = literal ? fs_buf_append(&text, pattern.data, pattern.n_bytes, err) : translate(pattern, &text, err);
    if (rc)
        goto out;
    rc = fs_fail_memory(err, sizeof *r);
    r = calloc(1, sizeof *r);
    general = pcre2_general_context_create(regex_malloc, regex_free, NULL);
    context = general ? pcre2_compile_context_create(general) : NULL;
    if (!r || !context)
        goto out;
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    r->code = pcre2_compile((PCRE2_SPTR)text.data, text.n_bytes,
                            PCRE2_UTF | PCRE2_USE_OFFSET_LIMIT | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C),
                            &code, &at, context);
    if (!r->code) {
        if (code != PCRE2_ERROR_HEAP_FAILED && code != PCRE2_ERROR_NOMEMORY) {
            PCRE2_UCHAR message[128] = { 0 };
            pcre2_get_error_message(code, message, sizeof message);
            rc = fs_fail(err, FS_ERR_UNSUPPORTED, "regular expression: %s, byte %zu of its translation", (const char *)message, at);
        }
        goto out;
    }
    r->jit = pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE) == 0; /* without it the interpreter gives the same */
    *ret = r;
    r = NULL;
    rc = FS_OK;
out:
    fs_regex_free(r);
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    fs_buf_done(&text);
    return rc;
}

void fs_regex_free(fs_regex *r)
{
    if (!r)
        return;
    pcre2_code_free(r->code);
    free(r);
}

void fs_regex_scratch_done(fs_regex_scratch *s)
{
    if (!s)
        return;
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->jit_stack);
    *s = (fs_regex_scratch){ 0 };
}

static fs_status scratch_make(fs_regex_scratch *s, fs_error *err)
{
    pcre2_general_context *general = pcre2_general_context_create(regex_malloc, regex_free, NULL);

    if (general && !s->match)
        s->match = pcre2_match_data_create(1, general);
    if (general && !s->context)
        s->context = pcre2_match_context_create(general);
    pcre2_general_context_free(general);
    if (!s->match || !s->context)
        return fs_fail_memory(err, sizeof(void *));
    pcre2_set_match_limit(s->context, STEPS_FREE);
    s->slow_ns_left += SLOW_NS_BASE;
    return FS_OK;
}

void fs_regex_allow(fs_regex_scratch *s, size_t n_bytes)
{
    s->slow_ns_left += (int64_t)n_bytes * SLOW_NS_PER_BYTE;
}

/* PCRE2's result; no more than limit steps a start, and no start after offset_max. */
static int match(const fs_regex *r, fs_bytes text, size_t from, size_t offset_max, uint32_t limit, fs_regex_scratch *s)
{
    int n;

    pcre2_set_match_limit(s->context, limit);
    pcre2_set_offset_limit(s->context, offset_max);
    for (;;) {
        if (r->jit)
            n = pcre2_jit_match(r->code, text.data, text.n_bytes, from, PCRE2_NO_UTF_CHECK, s->match, s->context);
        else
            n = pcre2_match(r->code, text.data, text.n_bytes, from, PCRE2_NO_UTF_CHECK, s->match, s->context);
        if (n != PCRE2_ERROR_JIT_STACKLIMIT || s->jit_stack)
            return n;
        /* The 32 KiB of machine stack that JIT code has by itself did not do: long runs that may be given back. */
        s->jit_stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
        if (!s->jit_stack)
            return PCRE2_ERROR_NOMEMORY;
        pcre2_jit_stack_assign(s->context, NULL, s->jit_stack);
    }
}

static int64_t thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The first match from *at or later, by windows of starts with as many steps as one of them needs. A window is one call,
 * in which PCRE2 remembers how far a run went when its first start failed. At the end *at is where it stopped. */
static int match_slowly(const fs_regex *r, fs_bytes text, size_t *at, fs_regex_scratch *s)
{
    int64_t began = thread_ns(), now;
    int n;

    for (;;) {
        size_t last = *at;
        n = PCRE2_ERROR_MATCHLIMIT;
        for (uint32_t limit = STEPS_FREE * STEPS_GROWTH; n == PCRE2_ERROR_MATCHLIMIT && limit <= STEPS_MAX; limit *= STEPS_GROWTH) {
            size_t starts = STEPS_WINDOW / limit;
            last = text.n_bytes - *at < starts ? text.n_bytes : *at + starts - 1;
            n = match(r, text, *at, last, limit, s);
            now = thread_ns();
            s->slow_ns_left -= now - began;
            began = now;
            if (s->slow_ns_left < 0 && n < 0 && n != PCRE2_ERROR_NOMEMORY)
                return PCRE2_ERROR_MATCHLIMIT;
        }
        if (n != PCRE2_ERROR_NOMATCH || last == text.n_bytes)
            return n;
        for (*at = last + 1; *at < text.n_bytes && (text.data[*at] & 0xc0) == 0x80; ++*at)
            ; /* to a character's first byte */
        n = match(r, text, *at, PCRE2_UNSET, STEPS_FREE, s);
        if (n != PCRE2_ERROR_MATCHLIMIT)
            return n;
    }
}

fs_status fs_regex_find(const fs_regex *r, fs_bytes text, size_t from, fs_regex_scratch *s, bool *ret_found,
                        size_t *ret_begin, size_t *ret_end, fs_error *err)
{
    int n;

    if (!text.data)
        text.data = (const uint8_t *)"";
    if (!s->match || !s->context) {
        fs_status rc = scratch_make(s, err);
        if (rc)
            return rc;
    }
    n = match(r, text, from, PCRE2_UNSET, STEPS_FREE, s);
    if (n == PCRE2_ERROR_MATCHLIMIT)
        n = match_slowly(r, text, &from, s);
    if (n == PCRE2_ERROR_NOMATCH) {
        *ret_found = false;
        return FS_OK;
    }
    if (n == PCRE2_ERROR_NOMEMORY)
        return fs_fail_memory(err, text.n_bytes);
    if (n < 0)
        return fs_fail(err, FS_ERR_FORMAT, "a split expression of the tokenizer gave up at byte %zu of %zu (PCRE2 error %d)",
                       from, text.n_bytes, n);
    *ret_found = true;
    *ret_begin = pcre2_get_ovector_pointer(s->match)[0];
    *ret_end = pcre2_get_ovector_pointer(s->match)[1];
    return FS_OK;
}
