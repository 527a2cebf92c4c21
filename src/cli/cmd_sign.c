/* farseek sign: vouch for a model's record with a key of minisign, or make such a key. */
#include "cli/cli.h"

#include "base/file.h"
#include "cli/interrupt.h"
#include "cli/origin.h"
#include "crypto/minisign.h"
#include "lineage/provenance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define PASSWORD_BYTES_MAX 1024

static struct {
    const char *key, *new_key, *comment, *password_file;
    int n_threads;
    bool no_password;
} opt;

static const fs_option options[] = {
    FS_OPT_STR("key", 'k', opt.key, "FILE", "the secret key"),
    FS_OPT_STR("new-key", 0, opt.new_key, "NAME", "make a key instead: NAME.key is secret, NAME.pub is for everybody"),
    FS_OPT_STR("comment", 'c', opt.comment, "TEXT", "signed too (default: the record's id)"),
    FS_OPT_STR("password-file", 0, opt.password_file, "FILE", "its first line is the key's password (default: asked for)"),
    FS_OPT_FLAG("no-password", 0, opt.no_password, "with --new-key: a key that no password protects"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_END
};

/* ---- passwords ---- */

static fs_status password_of_file(char ret[PASSWORD_BYTES_MAX], fs_error *err)
{
    fs_buf text = { 0 };
    size_t n;
    fs_status rc = fs_file_read(opt.password_file, PASSWORD_BYTES_MAX - 1, &text, err);

    if (rc)
        return rc;
    n = text.data ? strcspn(text.data, "\r\n") : 0;
    memcpy(ret, text.data ? text.data : "", n);
    ret[n] = 0;
    fs_buf_done(&text);
    return n ? FS_OK : fs_fail(err, FS_ERR_ARGUMENT, "'%s' begins with an empty line, not a password", opt.password_file);
}

static fs_status ask(const char *question, char ret[PASSWORD_BYTES_MAX], fs_error *err)
{
    FILE *terminal = fopen("/dev/tty", "r+e");
    struct termios before, quiet;
    bool read;

    if (!terminal)
        return fs_fail(err, FS_ERR_ARGUMENT, "the key wants a password, and there is no terminal to ask on: --password-file");
    fprintf(terminal, "%s: ", question);
    fflush(terminal);
    tcgetattr(fileno(terminal), &before);
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(fileno(terminal), TCSAFLUSH, &quiet);
    read = fgets(ret, PASSWORD_BYTES_MAX, terminal) != NULL;
    tcsetattr(fileno(terminal), TCSAFLUSH, &before);
    fputc('\n', terminal);
    fclose(terminal);
    if (!read)
        return fs_fail(err, FS_ERR_INTERRUPTED, "interrupted");
    ret[strcspn(ret, "\n")] = 0;
    return FS_OK;
}

static fs_status password_for_new(char ret[PASSWORD_BYTES_MAX], fs_error *err)
{
    char twice[PASSWORD_BYTES_MAX] = "";
    fs_status rc;

    if (opt.password_file)
        return password_of_file(ret, err);
    rc = ask("Password of the new key", ret, err);
    if (!rc)
        rc = ask("The same again", twice, err);
    if (!rc && (strcmp(ret, twice) != 0 || !*ret))
        rc = fs_fail(err, FS_ERR_ARGUMENT, *ret ? "the two passwords differ" : "an empty password protects nothing: --no-password says so");
    explicit_bzero(twice, sizeof twice);
    return rc;
}

/* ---- keys ---- */

/* A file that must not be there yet. */
static fs_status write_new(const char *path, mode_t mode, const fs_buf *text, fs_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    fs_status rc;

    if (fd < 0)
        return fs_fail_errno(err, errno, "cannot make '%s'", path);
    rc = fs_fd_write(fd, path, text->data, text->n_bytes, err);
    if (!rc && fsync(fd) != 0)
        rc = fs_fail_errno(err, errno, "cannot write '%s'", path);
    close(fd);
    if (rc)
        unlink(path);
    return rc;
}

static fs_status make_key(fs_error *err)
{
    char password[PASSWORD_BYTES_MAX] = "", *secret_path = NULL, *public_path = NULL;
    fs_secret_key secret = { 0 };
    fs_public_key public;
    fs_buf text = { 0 };
    char id[17];
    fs_status rc = fs_minisign_new_key(&secret, err);

    if (asprintf(&secret_path, "%s.key", opt.new_key) < 0 || asprintf(&public_path, "%s.pub", opt.new_key) < 0)
        rc = fs_fail_memory(err, strlen(opt.new_key) + 8);
    if (!rc && (fs_file_exists(secret_path) || fs_file_exists(public_path)))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' or '%s' exists already", secret_path, public_path);
    if (!rc && !opt.no_password)
        rc = password_for_new(password, err);
    if (!rc)
        rc = fs_secret_key_write(&secret, opt.no_password ? NULL : password, &text, err);
    if (!rc)
        rc = write_new(secret_path, 0600, &text, err);
    if (!rc) {
        explicit_bzero(text.data, text.n_bytes);
        fs_buf_clear(&text);
        fs_minisign_public(&secret, &public);
        rc = fs_public_key_write(&public, &text, err);
        if (!rc)
            rc = write_new(public_path, 0644, &text, err);
        if (rc)
            unlink(secret_path);
    }
    if (!rc) {
        fs_minisign_id(public.id, id);
        printf("key %s: '%s' is secret, '%s' is for everybody\n", id, secret_path, public_path);
    }
    explicit_bzero(password, sizeof password);
    fs_secret_key_wipe(&secret);
    fs_buf_done(&text);
    free(secret_path);
    free(public_path);
    return rc;
}

static fs_status open_key(fs_secret_key *ret, fs_error *err)
{
    char password[PASSWORD_BYTES_MAX] = "";
    fs_buf text = { 0 };
    bool encrypted;
    fs_status rc = fs_file_read(opt.key, FS_MINISIGN_FILE_BYTES_MAX, &text, err);

    if (rc)
        return rc;
    encrypted = fs_secret_key_is_encrypted(fs_buf_bytes(&text));
    if (encrypted)
        rc = opt.password_file ? password_of_file(password, err) : ask("Password", password, err);
    if (!rc)
        rc = fs_secret_key_read(fs_buf_bytes(&text), opt.key, encrypted ? password : NULL, ret, err);
    explicit_bzero(password, sizeof password);
    explicit_bzero(text.data, text.n_bytes);
    fs_buf_done(&text);
    return rc;
}

/* ---- signing ---- */

static void on_wrong(void *ud, const char *sentence)
{
    (void)ud;
    fprintf(stderr, "%s\n", sentence);
}

/* Nobody vouches for what is not so. */
static fs_status check(const char *model, const char *path, const fs_record *r, fs_error *err)
{
    fs_pool *pool = NULL;
    fs_roots roots = { 0 };
    size_t n_wrong = 0;
    fs_status rc = fs_pool_new(opt.n_threads, &pool, err);

    if (!rc)
        rc = fs_origin_roots_told(r, path, pool, &roots, err);
    if (!rc)
        rc = fs_provenance_check(r, path, &roots, on_wrong, NULL, &n_wrong, err);
    if (!rc && n_wrong > 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' is not what its record says: not signed", model);
    fs_roots_done(&roots);
    fs_pool_free(pool);
    return rc;
}

static fs_status sign(const char *model, fs_error *err)
{
    fs_provenance_paths paths = { 0 };
    fs_record record = { 0 };
    fs_secret_key secret = { 0 };
    fs_buf text = { 0 }, signature = { 0 };
    fs_root id;
    char *path = NULL, hex[65], key_id[17], comment[128];
    fs_status rc = fs_model_path(model, &path, err);

    if (!rc)
        rc = fs_provenance_read(path, &record, &text, err);
    if (!rc)
        rc = check(model, path, &record, err);
    if (!rc)
        rc = fs_record_id(fs_buf_bytes(&text), &id, err);
    if (!rc)
        rc = open_key(&secret, err);
    if (!rc)
        rc = fs_provenance_paths_of(path, &paths, err);
    if (!rc) {
        fs_root_hex(&id, hex);
        snprintf(comment, sizeof comment, "farseek record %s", hex);
        rc = fs_minisign_sign(&secret, fs_buf_bytes(&text), opt.comment ? opt.comment : comment, &signature, err);
    }
    if (!rc)
        rc = fs_file_write_atomic(paths.signature, fs_buf_bytes(&signature), err);
    if (!rc) {
        fs_minisign_id(secret.id, key_id);
        printf("record %s signed by key %s: '%s'\n", hex, key_id, paths.signature);
    }
    fs_secret_key_wipe(&secret);
    fs_provenance_paths_done(&paths);
    fs_record_done(&record);
    fs_buf_done(&text);
    fs_buf_done(&signature);
    free(path);
    return rc;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    fs_interrupt_catch();
    if (opt.new_key && args->n > 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "--new-key makes a key and signs nothing: leave '%s' out", args->items[0]);
    if (opt.new_key)
        return make_key(err);
    if (args->n == 0 || !opt.key)
        return fs_fail(err, FS_ERR_ARGUMENT, "sign wants a MODEL and --key, or --new-key");
    return sign(args->items[0], err);
}

const fs_command fs_command_sign = {
    .set = { .name = "sign",
             .usage = "[MODEL]",
             .summary = "Sign a model's record, or make a key.",
             .text = "Checks that the model is what its record says and signs the record; the signature stands beside it, in minisign's format. "
                     "Keys are minisign's: either program makes and uses them.",
             .options = options,
             .n_args_min = 0,
             .n_args_max = 1 },
    .run = run,
};
