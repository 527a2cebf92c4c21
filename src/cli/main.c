/* The program: configuration, options, the command, its exit code. */
#include "cli/cli.h"

#include "base/file.h"
#include "base/yaml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_BYTES_MAX ((size_t)1 << 20)
#define COMMANDS_MAX     64

static void print_failure(const fs_error *err)
{
    fs_buf clean = { 0 };

    if (fs_text_clean(&clean, fs_bytes_str(err->message), NULL) == FS_OK && clean.data)
        fprintf(stderr, "farseek: %s\n", clean.data);
    else
        fprintf(stderr, "farseek: out of memory\n");
    fs_buf_done(&clean);
}

/* The configuration file as a mapping; *ret stays NULL when there is none. FARSEEK_CONFIG names another file, which
 * then must exist. */
static fs_status read_config(struct json_object **ret, fs_error *err)
{
    const fs_option_set *sets[COMMANDS_MAX];
    const char *named = getenv("FARSEEK_CONFIG");
    char *folder = NULL, *path = NULL;
    fs_buf text = { 0 };
    size_t n = 0;
    fs_status rc = FS_OK;

    if (named && *named) {
        path = strdup(named);
    } else {
        if (fs_user_folder("XDG_CONFIG_HOME", ".config", &folder, NULL) != FS_OK)
            return FS_OK; /* no home, no file */
        path = fs_path_join(folder, "config.yaml");
        free(folder);
        if (path && !fs_file_exists(path)) {
            free(path);
            return FS_OK;
        }
    }
    if (!path)
        return fs_fail_memory(err, strlen("config.yaml"));
    rc = fs_file_read(path, CONFIG_BYTES_MAX, &text, err);
    if (!rc)
        rc = fs_yaml_parse(fs_buf_bytes(&text), path, ret, err);
    if (!rc) {
        for (; fs_commands[n] && n < COMMANDS_MAX; n++)
            sets[n] = &fs_commands[n]->set;
        rc = fs_options_check_config(sets, n, *ret, path, err);
    }
    fs_buf_done(&text);
    free(path);
    return rc;
}

static const char *env(const char *name)
{
    return getenv(name);
}

static fs_status run_command(const fs_command *c, int argc, char **argv, fs_error *err)
{
    struct json_object *config = NULL;
    fs_args args = { 0 };
    fs_buf help = { 0 };
    fs_status rc = c == fs_command_find("help") ? FS_OK : read_config(&config, err); /* help helps with a broken file too */

    if (!rc)
        rc = fs_options_parse(&c->set, argc, argv, env, config, &args, err);
    if (!rc && args.help) {
        rc = fs_options_help(&c->set, "farseek", &help, err);
        if (!rc)
            fwrite(help.data, 1, help.n_bytes, stdout);
    } else if (!rc) {
        rc = c->run(&args, err);
    }
    fs_buf_done(&help);
    fs_args_done(&args);
    json_object_put(config);
    return rc;
}

static fs_status dispatch(int argc, char **argv, fs_error *err)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    const fs_command *c;
    int n_words;

    if (!word) {
        fs_buf out = { 0 };
        fs_status rc = fs_overview(&out, err);
        if (!rc)
            fwrite(out.data, 1, out.n_bytes, stderr);
        fs_buf_done(&out);
        return rc ? rc : fs_fail(err, FS_ERR_ARGUMENT, "no command given");
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "version") == 0) {
        printf("farseek %s\n", FS_VERSION);
        return FS_OK;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        word = "help";
    if (strcmp(word, "help") == 0)
        return run_command(fs_command_find(word), argc - 2, argv + 2, err);
    c = fs_command_match(argc - 1, argv + 1, &n_words);
    if (c)
        return run_command(c, argc - 1 - n_words, argv + 1 + n_words, err);
    if (fs_command_is_group(word) && argc > 2 && argv[2][0] != '-') {
        char two[128];
        snprintf(two, sizeof two, "%.60s %.60s", word, argv[2]);
        return fs_command_fail_unknown(two, err);
    }
    if (fs_command_is_group(word) && argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
        fs_buf out = { 0 };
        fs_status rc = fs_group_help(word, &out, err);
        if (!rc)
            fwrite(out.data, 1, out.n_bytes, stdout);
        fs_buf_done(&out);
        return rc;
    }
    return fs_command_fail_unknown(word, err);
}

int main(int argc, char **argv)
{
    fs_error err = { 0 };
    fs_status rc;

    rc = dispatch(argc, argv, &err);
    if (fflush(stdout) != 0 || ferror(stdout))
        if (!rc)
            rc = fs_fail_errno(&err, errno, "cannot write the answer");
    if (rc)
        print_failure(&err);
    return fs_exit_code(rc);
}
