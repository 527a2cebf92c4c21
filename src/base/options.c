/* Parsing by table; see the header for the grammar and the order of the sources. */
#include "base/options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NAME_BYTES_MAX 64

static size_t count(const fs_option *o)
{
    size_t n = 0;

    while (o[n].kind != FS_OPTION_END)
        n++;
    assert(n <= FS_OPTIONS_MAX);
    return n;
}

static const fs_option *find(const fs_option *options, const char *name, size_t n_bytes)
{
    for (const fs_option *o = options; o->kind != FS_OPTION_END; o++)
        if (strlen(o->name) == n_bytes && memcmp(o->name, name, n_bytes) == 0)
            return o;
    return NULL;
}

static const fs_option *find_letter(const fs_option *options, char letter)
{
    for (const fs_option *o = options; o->kind != FS_OPTION_END; o++)
        if (o->letter && o->letter == letter)
            return o;
    return NULL;
}

/* ---- values ---- */

/* arg spells the allowed words when it is "a|b|c" in lower case. */
static bool has_words(const fs_option *o)
{
    if (o->kind != FS_OPTION_STR || !strchr(o->arg, '|'))
        return false;
    for (const char *s = o->arg; *s; s++)
        if (isupper((unsigned char)*s))
            return false;
    return true;
}

static bool is_word_of(const char *words, const char *text)
{
    size_t n = strlen(text);

    for (;;) {
        size_t m = strcspn(words, "|");
        if (m == n && memcmp(words, text, n) == 0)
            return true;
        if (!words[m])
            return false;
        words += m + 1;
    }
}

static fs_status set_flag(const fs_option *o, const char *text, const char *source, fs_error *err)
{
    if (is_word_of("true|yes|on|1", text))
        *o->to.flag = true;
    else if (is_word_of("false|no|off|0", text))
        *o->to.flag = false;
    else
        return fs_fail(err, FS_ERR_ARGUMENT, "%s is '%.100s', allowed are true and false", source, text);
    return FS_OK;
}

static fs_status set_int(const fs_option *o, const char *text, const char *source, fs_error *err)
{
    char *end;
    long long v;

    errno = 0;
    v = strtoll(text, &end, 10);
    if (end == text || *end || isspace((unsigned char)*text))
        return fs_fail(err, FS_ERR_ARGUMENT, "%s is '%.100s', which is not an integer", source, text);
    if (errno || (double)v < o->min || (double)v > o->max)
        return fs_fail(err, FS_ERR_ARGUMENT, "%s is %.100s, allowed are %.0f to %.0f", source, text, o->min, o->max);
    *o->to.i = (int)v;
    return FS_OK;
}

static fs_status set_u64(const fs_option *o, const char *text, const char *source, fs_error *err)
{
    char *end;
    unsigned long long v;

    errno = 0;
    v = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end)
        return fs_fail(err, FS_ERR_ARGUMENT, "%s is '%.100s', which is not an integer from 0", source, text);
    if (errno)
        return fs_fail(err, FS_ERR_ARGUMENT, "%s is %.100s, allowed are 0 to %" PRIu64, source, text, UINT64_MAX);
    *o->to.u64 = v;
    return FS_OK;
}

static fs_status set_float(const fs_option *o, const char *text, const char *source, fs_error *err)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || *end || isspace((unsigned char)*text) || isnan(v))
        return fs_fail(err, FS_ERR_ARGUMENT, "%s is '%.100s', which is not a number", source, text);
    if (v < o->min || v > o->max)
        return fs_fail(err, FS_ERR_ARGUMENT, "%s is %.100s, allowed are %g to %g", source, text, o->min, o->max);
    *o->to.f = v;
    return FS_OK;
}

static fs_status set_size(const fs_option *o, const char *text, const char *source, fs_error *err)
{
    static const struct { const char *name; double bytes; } units[] = {
        { "", 0x1p30 }, { "b", 1 }, { "k", 0x1p10 }, { "kib", 0x1p10 }, { "kb", 1e3 }, { "m", 0x1p20 }, { "mib", 0x1p20 }, { "mb", 1e6 },
        { "g", 0x1p30 }, { "gib", 0x1p30 }, { "gb", 1e9 }, { "t", 0x1p40 }, { "tib", 0x1p40 }, { "tb", 1e12 },
    };
    char *end;
    double v = strtod(text, &end);

    bool plain = isdigit((unsigned char)*text) && end == text + strspn(text, "0123456789.");

    while (*end == ' ')
        end++;
    for (size_t i = 0; plain && i < sizeof units / sizeof *units; i++) {
        if (strcasecmp(end, units[i].name) != 0)
            continue;
        v *= units[i].bytes;
        if (!(v < 0x1p63))
            break;
        *o->to.u64 = (uint64_t)v;
        return FS_OK;
    }
    return fs_fail(err, FS_ERR_ARGUMENT, "%s is '%.100s', which is no size like 4GiB or 500MiB", source, text);
}

fs_status fs_option_set_text(const fs_option *o, const char *text, const char *source, fs_error *err)
{
    switch (o->kind) {
    case FS_OPTION_FLAG:
        return set_flag(o, text, source, err);
    case FS_OPTION_INT:
        return set_int(o, text, source, err);
    case FS_OPTION_U64:
        return set_u64(o, text, source, err);
    case FS_OPTION_FLOAT:
        return set_float(o, text, source, err);
    case FS_OPTION_SIZE:
        return set_size(o, text, source, err);
    case FS_OPTION_STR:
        if (has_words(o) && !is_word_of(o->arg, text))
            return fs_fail(err, FS_ERR_ARGUMENT, "%s is '%.100s', allowed are %s", source, text, o->arg);
        *o->to.str = text;
        return FS_OK;
    case FS_OPTION_END:
        break;
    }
    assert(!"an option without a kind");
    return FS_ERR_ARGUMENT;
}

/* ---- suggestions ---- */

#define SUGGEST_BYTES_MAX 32

/* Edits that turn a into b: insert, delete, replace, swap neighbours. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), d[SUGGEST_BYTES_MAX + 1][SUGGEST_BYTES_MAX + 1];

    if (n > SUGGEST_BYTES_MAX || m > SUGGEST_BYTES_MAX)
        return SIZE_MAX;
    for (size_t i = 0; i <= n; i++)
        d[i][0] = i;
    for (size_t j = 0; j <= m; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= n; i++)
        for (size_t j = 1; j <= m; j++) {
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

const char *fs_suggest(const char *word, const char *(*candidate)(const void *ud, size_t i), const void *ud)
{
    size_t n = strlen(word), best = n >= 6 ? 3 : n >= 3 ? 2 : 1; /* at most so many edits, less one, are a slip */
    const char *found = NULL, *c;

    best++;
    for (size_t i = 0; (c = candidate(ud, i)) != NULL; i++) {
        /* "temp" for "temperature": the beginning of a word counts as one edit */
        size_t e = n >= 3 && strncmp(word, c, n) == 0 ? 1 : edit_distance(word, c);
        if (e < best && e < strlen(c)) {
            best = e;
            found = c;
        }
    }
    return found;
}

static const char *option_candidate(const void *ud, size_t i)
{
    const fs_option *o = ud;

    for (size_t k = 0; o[k].kind != FS_OPTION_END; k++)
        if (k == i)
            return o[k].name;
    return NULL;
}

/* option: n_bytes as they were typed, without a value behind '='. */
static fs_status fail_unknown(const fs_option_set *set, const char *option, size_t n_bytes, const char *name, fs_error *err)
{
    const char *near = fs_suggest(name, option_candidate, set->options);
    int n = n_bytes < 100 ? (int)n_bytes : 100;

    if (near)
        return fs_fail(err, FS_ERR_ARGUMENT, "unknown option '%.*s': did you mean '--%s'?", n, option, near);
    return fs_fail(err, FS_ERR_ARGUMENT, "unknown option '%.*s' (farseek %s --help lists them)", n, option, set->name);
}

/* ---- sources ---- */

static fs_status from_env(const fs_option *o, fs_getenv_fn *env, fs_error *err)
{
    char name[NAME_BYTES_MAX];
    const char *text;
    size_t n = (size_t)snprintf(name, sizeof name, "FARSEEK_%s", o->name);

    assert(n < sizeof name);
    for (size_t i = 0; i < n; i++)
        name[i] = name[i] == '-' ? '_' : (char)toupper((unsigned char)name[i]);
    text = env(name);
    if (!text || !*text)
        return FS_OK;
    return fs_option_set_text(o, text, name, err);
}

static fs_status from_config(const fs_option *o, struct json_object *section, const char *where, fs_error *err)
{
    char source[NAME_BYTES_MAX + 32];
    struct json_object *v = fs_json_member(section, o->name);

    if (!v)
        return FS_OK;
    snprintf(source, sizeof source, "configuration: %s%s", where, o->name);
    if (json_object_is_type(v, json_type_object) || json_object_is_type(v, json_type_array))
        return fs_fail(err, FS_ERR_ARGUMENT, "%s is not a single value", source);
    if (strlen(json_object_get_string(v)) != (size_t)json_object_get_string_len(v) && json_object_is_type(v, json_type_string))
        return fs_fail(err, FS_ERR_ARGUMENT, "%s holds U+0000", source);
    return fs_option_set_text(o, json_object_get_string(v), source, err);
}

static fs_status long_option(const fs_option_set *set, const char *word, char *const *argv, int argc, int *at, fs_args *a,
                             fs_error *err)
{
    const char *name = word + 2, *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    const fs_option *o = find(set->options, name, n);
    char shown[NAME_BYTES_MAX];

    if (!o && !equals && n > 3 && strncmp(name, "no-", 3) == 0) {
        o = find(set->options, name + 3, n - 3);
        if (o && o->kind == FS_OPTION_FLAG) {
            a->given |= (uint64_t)1 << (o - set->options);
            *o->to.flag = false;
            return FS_OK;
        }
        o = NULL;
    }
    if (!o) {
        snprintf(shown, sizeof shown, "%.*s", (int)(n < sizeof shown ? n : sizeof shown - 1), name);
        return fail_unknown(set, word, 2 + n, shown, err);
    }
    snprintf(shown, sizeof shown, "--%s", o->name);
    a->given |= (uint64_t)1 << (o - set->options);
    if (equals)
        return fs_option_set_text(o, equals + 1, shown, err);
    if (o->kind == FS_OPTION_FLAG) {
        *o->to.flag = true;
        return FS_OK;
    }
    if (*at + 1 >= argc)
        return fs_fail(err, FS_ERR_ARGUMENT, "option '%s' needs a value: %s", shown, o->arg);
    return fs_option_set_text(o, argv[++*at], shown, err);
}

static fs_status short_options(const fs_option_set *set, const char *word, char *const *argv, int argc, int *at, fs_args *a,
                               fs_error *err)
{
    for (const char *s = word + 1; *s; s++) {
        const fs_option *o = find_letter(set->options, *s);
        char shown[NAME_BYTES_MAX];
        if (*s == 'h' && !o) {
            a->help = true;
            return FS_OK;
        }
        if (!o)
            return fail_unknown(set, word, strlen(word), word + 1, err);
        a->given |= (uint64_t)1 << (o - set->options);
        if (o->kind == FS_OPTION_FLAG) {
            *o->to.flag = true;
            continue;
        }
        snprintf(shown, sizeof shown, "-%c (--%s)", o->letter, o->name);
        if (s[1])
            return fs_option_set_text(o, s + 1, shown, err);
        if (*at + 1 >= argc)
            return fs_fail(err, FS_ERR_ARGUMENT, "option '-%c' needs a value: %s", o->letter, o->arg);
        return fs_option_set_text(o, argv[++*at], shown, err);
    }
    return FS_OK;
}

static fs_status from_argv(const fs_option_set *set, int argc, char *const *argv, fs_args *a, fs_error *err)
{
    bool options_ended = false;

    for (int i = 0; i < argc && !a->help; i++) {
        const char *word = argv[i];
        fs_status rc = FS_OK;
        if (options_ended || word[0] != '-' || !word[1])
            a->items[a->n++] = word;
        else if (strcmp(word, "--") == 0)
            options_ended = true;
        else if (strcmp(word, "--help") == 0)
            a->help = true;
        else if (word[1] == '-')
            rc = long_option(set, word, argv, argc, &i, a, err);
        else
            rc = short_options(set, word, argv, argc, &i, a, err);
        if (rc)
            return rc;
    }
    return FS_OK;
}

static fs_status check_args(const fs_option_set *set, const fs_args *a, fs_error *err)
{
    if (a->n < set->n_args_min)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' needs %d argument%s, got %d: farseek %s %s", set->name, set->n_args_min,
                       set->n_args_min == 1 ? "" : "s", a->n, set->name, set->usage);
    if (set->n_args_max == 0 && a->n > 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' takes no arguments, '%.100s' is one too many", set->name, a->items[0]);
    if (set->n_args_max >= 0 && a->n > set->n_args_max)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' takes at most %d argument%s, '%.100s' is one too many", set->name,
                       set->n_args_max, set->n_args_max == 1 ? "" : "s", a->items[set->n_args_max]);
    return FS_OK;
}

fs_status fs_options_parse(const fs_option_set *set, int argc, char *const *argv, fs_getenv_fn *env,
                           struct json_object *config, fs_args *ret, fs_error *err)
{
    size_t n = count(set->options);
    struct json_object *section = fs_json_member(config, set->name);
    char where[NAME_BYTES_MAX];
    fs_args a = { 0 };
    fs_status rc = FS_OK;

    a.items = calloc((size_t)argc + 1, sizeof *a.items);
    if (!a.items)
        return fs_fail_memory(err, ((size_t)argc + 1) * sizeof *a.items);
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0) {
            a.help = true; /* whatever else is wrong */
            *ret = a;
            return FS_OK;
        }
    snprintf(where, sizeof where, "%s: ", set->name);
    for (size_t i = 0; i < n && !rc; i++) {
        rc = from_config(&set->options[i], config, "", err);
        if (!rc && section)
            rc = from_config(&set->options[i], section, where, err);
        if (!rc && env)
            rc = from_env(&set->options[i], env, err);
    }
    if (!rc)
        rc = from_argv(set, argc, argv, &a, err);
    if (!rc && !a.help)
        rc = check_args(set, &a, err);
    if (rc) {
        fs_args_done(&a);
        return rc;
    }
    *ret = a;
    return FS_OK;
}

void fs_args_done(fs_args *a)
{
    if (!a)
        return;
    free(a->items);
    *a = (fs_args){ 0 };
}

bool fs_args_given(const fs_option_set *set, const fs_args *a, const char *name)
{
    const fs_option *o = find(set->options, name, strlen(name));

    assert(o);
    return a->given >> (o - set->options) & 1;
}

/* ---- the configuration's keys ---- */

typedef struct config_names {
    const fs_option_set *const *sets;
    size_t n_sets;
} config_names;

/* The sets' names, then all their options' names. */
static const char *config_candidate(const void *ud, size_t i)
{
    const config_names *c = ud;

    if (i < c->n_sets)
        return c->sets[i]->name;
    i -= c->n_sets;
    for (size_t s = 0; s < c->n_sets; s++) {
        size_t n = count(c->sets[s]->options);
        if (i < n)
            return c->sets[s]->options[i].name;
        i -= n;
    }
    return NULL;
}

static fs_status check_section(const fs_option_set *set, struct json_object *section, const char *what, fs_error *err)
{
    if (!json_object_is_type(section, json_type_object))
        return fs_fail(err, FS_ERR_FORMAT, "%s: '%s' is a command, its options go below it", what, set->name);
    json_object_object_foreach(section, key, v)
    {
        const char *near;
        (void)v;
        if (find(set->options, key, strlen(key)))
            continue;
        near = fs_suggest(key, option_candidate, set->options);
        return fs_fail(err, FS_ERR_FORMAT, "%s: '%s' has no option '%.100s'%s%s%s", what, set->name, key,
                       near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    return FS_OK;
}

static fs_status check_key(const config_names *c, const char *key, struct json_object *v, const char *what, fs_error *err)
{
    const char *near;

    for (size_t s = 0; s < c->n_sets; s++)
        if (strcmp(c->sets[s]->name, key) == 0)
            return v ? check_section(c->sets[s], v, what, err) : FS_OK;
    for (size_t s = 0; s < c->n_sets; s++)
        if (find(c->sets[s]->options, key, strlen(key)))
            return FS_OK;
    near = fs_suggest(key, config_candidate, c);
    return fs_fail(err, FS_ERR_FORMAT, "%s: unknown key '%.100s'%s%s%s", what, key, near ? ": did you mean '" : "",
                   near ? near : "", near ? "'?" : "");
}

fs_status fs_options_check_config(const fs_option_set *const *sets, size_t n_sets, struct json_object *config,
                                  const char *what, fs_error *err)
{
    config_names c = { sets, n_sets };

    if (!json_object_is_type(config, json_type_object))
        return fs_fail(err, FS_ERR_FORMAT, "%s: a mapping of options was expected", what);
    json_object_object_foreach(config, key, v)
    {
        fs_status rc = check_key(&c, key, v, what, err);
        if (rc)
            return rc;
    }
    return FS_OK;
}

/* ---- help ---- */

#define HELP_WIDTH  100
#define HELP_COLUMN 34

fs_status fs_text_wrap(fs_buf *out, const char *text, size_t column, size_t indent, size_t width, fs_error *err)
{
    fs_status rc = FS_OK;

    while (*text && !rc) {
        size_t n = strcspn(text, " \n");
        if (column > indent && column + 1 + n > width) {
            rc = fs_buf_printf(out, err, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            rc = fs_buf_append(out, " ", 1, err);
            column++;
        }
        if (!rc)
            rc = fs_buf_append(out, text, n, err);
        column += n;
        text += n;
        text += strspn(text, " \n");
    }
    return rc ? rc : fs_buf_append(out, "\n", 1, err);
}

static fs_status help_option(fs_buf *out, char letter, const char *name, const char *arg, const char *help, fs_error *err)
{
    size_t start = out->n_bytes, column;
    char lead[8] = "    ";
    fs_status rc;

    if (letter)
        snprintf(lead, sizeof lead, "-%c, ", letter);
    rc = fs_buf_printf(out, err, "  %s--%s%s%s", lead, name, arg ? " " : "", arg ? arg : "");
    if (rc)
        return rc;
    column = out->n_bytes - start;
    if (column + 2 > HELP_COLUMN)
        rc = fs_buf_printf(out, err, "\n%*s", HELP_COLUMN, "");
    else
        rc = fs_buf_printf(out, err, "%*s", (int)(HELP_COLUMN - column), "");
    return rc ? rc : fs_text_wrap(out, help, HELP_COLUMN, HELP_COLUMN, HELP_WIDTH, err);
}

fs_status fs_options_help(const fs_option_set *set, const char *program, fs_buf *out, fs_error *err)
{
    fs_status rc = fs_buf_printf(out, err, "usage: %s %s%s%s%s\n\n", program, set->name,
                                 set->options[0].kind != FS_OPTION_END ? " [options]" : "", *set->usage ? " " : "",
                                 set->usage);

    if (!rc)
        rc = fs_text_wrap(out, set->summary, 0, 0, HELP_WIDTH, err);
    for (const char *s = set->text; s && *s && !rc;) {
        size_t n = strcspn(s, "\n");
        if (n == 0 || strncmp(s, "  ", 2) == 0) {
            rc = fs_buf_printf(out, err, "%.*s\n", (int)n, s);
        } else {
            fs_buf line = { 0 };
            rc = fs_buf_append(&line, s, n, err);
            if (!rc)
                rc = fs_text_wrap(out, line.data, 0, 0, HELP_WIDTH, err);
            fs_buf_done(&line);
        }
        s += n + (s[n] == '\n');
    }
    if (!rc)
        rc = fs_buf_append_str(out, "\noptions:\n", err);
    for (const fs_option *o = set->options; o->kind != FS_OPTION_END && !rc; o++)
        rc = help_option(out, o->letter, o->name, o->arg, o->help, err);
    return rc ? rc : help_option(out, find_letter(set->options, 'h') ? 0 : 'h', "help", NULL, "this text", err);
}
