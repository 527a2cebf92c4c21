/* Options: one table gives parsing, limits, --help, the configuration file, the manual page and the shells'
 * completions. A value comes from the command line, else from the environment (FARSEEK_<NAME>, upper case, '-' as
 * '_'), else from the command's section of the configuration file, else from that file's top level, else it stays
 * what the variable held: its default.
 *
 *   static struct { const char *isa; int n_threads; bool json; } opt = { .isa = NULL };
 *   static const fs_option options[] = {
 *       FS_OPT_INT ("threads", 't', opt.n_threads, 0, 256, "N", "threads (default: one a usable CPU)"),
 *       FS_OPT_STR ("isa", 0, opt.isa, "scalar|avx2|avx512|neon", "restrict the instruction set"),
 *       FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
 *       FS_OPT_END
 *   };
 *
 * On the command line: --name value, --name=value, -x value, -xvalue, -xyz for flags; --no-name clears a flag; --
 * ends the options; options and arguments may mix; a single - is an argument. */
#ifndef FS_BASE_OPTIONS_H
#define FS_BASE_OPTIONS_H

#include "base/json.h"

typedef enum fs_option_kind {
    FS_OPTION_END, FS_OPTION_STR, FS_OPTION_INT, FS_OPTION_U64, FS_OPTION_FLOAT, FS_OPTION_FLAG, FS_OPTION_SIZE
} fs_option_kind;

typedef struct fs_option {
    const char *name; /* lower case, words joined by '-' */
    char letter;      /* 0: none */
    fs_option_kind kind;
    union {
        const char **str; /* borrows from argv, the environment or the configuration */
        int *i;
        uint64_t *u64; /* U64 and SIZE */
        double *f;
        bool *flag;
    } to;
    double min, max;  /* INT and FLOAT, inclusive */
    const char *arg;  /* what --help calls the value. "a|b|c" in lower case: only these words; FILE, FOLDER and MODEL
                         let the shells complete file names */
    const char *help; /* one phrase; states the default */
} fs_option;

#define FS_OPT_STR(n, l, var, a, h)          { .name = n, .letter = l, .kind = FS_OPTION_STR, .to.str = &(var), .arg = a, .help = h }
#define FS_OPT_INT(n, l, var, lo, hi, a, h)  { .name = n, .letter = l, .kind = FS_OPTION_INT, .to.i = &(var), .min = lo, .max = hi, .arg = a, .help = h }
#define FS_OPT_U64(n, l, var, a, h)          { .name = n, .letter = l, .kind = FS_OPTION_U64, .to.u64 = &(var), .arg = a, .help = h }
#define FS_OPT_FLOAT(n, l, var, lo, hi, a, h) { .name = n, .letter = l, .kind = FS_OPTION_FLOAT, .to.f = &(var), .min = lo, .max = hi, .arg = a, .help = h }
/* A number of bytes: "4GiB", "512 MiB", "1.5T"; KB, MB, GB and TB are powers of 1000; a number alone counts GiB. */
#define FS_OPT_SIZE(n, l, var, a, h)         { .name = n, .letter = l, .kind = FS_OPTION_SIZE, .to.u64 = &(var), .arg = a, .help = h }
#define FS_OPT_FLAG(n, l, var, h)            { .name = n, .letter = l, .kind = FS_OPTION_FLAG, .to.flag = &(var), .help = h }
#define FS_OPT_END                           { .kind = FS_OPTION_END }

/* A command's face: what its command line is made of. Every command also has -h, --help. */
typedef struct fs_option_set {
    const char *name;    /* "run": also the section of the configuration file */
    const char *usage;   /* the arguments: "[MODEL] [PROMPT]" */
    const char *summary; /* one sentence */
    const char *text;    /* paragraphs separated by an empty line; lines starting with two spaces stay as they are;
                            may be NULL */
    const fs_option *options; /* never NULL; ends with FS_OPT_END */
    int n_args_min, n_args_max; /* n_args_max < 0: any number */
} fs_option_set;

#define FS_OPTIONS_MAX 64 /* in one set */

typedef struct fs_args {
    const char **items; /* the arguments that are no options, NULL-terminated; borrowed from argv */
    int n;
    bool help;      /* --help was asked; nothing else was checked */
    uint64_t given; /* bit i: options[i] stood on the command line */
} fs_args;

typedef const char *fs_getenv_fn(const char *name);

/* argv [argc]: what follows the command's name. env and config may be NULL; config must outlive the use of the
 * strings. Wrong usage is FS_ERR_ARGUMENT; a sentence names the option, its source and the limits. */
fs_status fs_options_parse(const fs_option_set *set, int argc, char *const *argv, fs_getenv_fn *env,
                           struct json_object *config, fs_args *ret, fs_error *err);
void fs_args_done(fs_args *a);
/* Whether the option stood on the command line (not: in the environment or the file). Asserts a known name. */
bool fs_args_given(const fs_option_set *set, const fs_args *a, const char *name);

/* Every key of the configuration must be an option of some set, or a set's name with a mapping of its options. what
 * names the file. */
fs_status fs_options_check_config(const fs_option_set *const *sets, size_t n_sets, struct json_object *config,
                                  const char *what, fs_error *err);

/* Parses text for one option as the command line would; source names where it came from ("--threads"). */
fs_status fs_option_set_text(const fs_option *o, const char *text, const char *source, fs_error *err);

/* The candidate most like word, or NULL when none is close; candidate(ud, i) returns NULL at the end. */
const char *fs_suggest(const char *word, const char *(*candidate)(const void *ud, size_t i), const void *ud);

/* Appends the --help text; program is argv[0]'s last part. */
fs_status fs_options_help(const fs_option_set *set, const char *program, fs_buf *out, fs_error *err);

/* Appends text wrapped to width columns, continuation lines indented; starts at column (already printed). */
fs_status fs_text_wrap(fs_buf *out, const char *text, size_t column, size_t indent, size_t width, fs_error *err);

#endif
