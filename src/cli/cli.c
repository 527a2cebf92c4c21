/* Helpers of the commands: where models and the user's files are, clean text, exit codes. */
#include "cli/cli.h"

#include "base/file.h"
#include "base/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int fs_exit_code(fs_status rc)
{
    switch (rc) {
    case FS_OK:
        return 0;
    case FS_ERR_ARGUMENT:
        return 2;
    case FS_ERR_INTERRUPTED:
        return 130;
    default:
        return 1;
    }
}

static const char *env_or_null(const char *name)
{
    const char *s = getenv(name);
    return s && *s ? s : NULL;
}

/* "a/b" of the two, into a new string. */
static fs_status join(const char *folder, const char *name, char **ret, fs_error *err)
{
    char *s = fs_path_join(folder, name);

    if (!s)
        return fs_fail_memory(err, strlen(folder) + strlen(name) + 2);
    *ret = s;
    return FS_OK;
}

/* Replaces *path by *path/name. */
static fs_status join_more(char **path, const char *name, fs_error *err)
{
    char *longer = NULL;
    fs_status rc = join(*path, name, &longer, err);

    if (rc)
        return rc;
    free(*path);
    *path = longer;
    return FS_OK;
}

static fs_status under_home(const char *name, char **ret, fs_error *err)
{
    const char *home = env_or_null("HOME");

    if (!home)
        return fs_fail(err, FS_ERR_NOT_FOUND, "HOME is not set, so there is no folder '~/%s'", name);
    return join(home, name, ret, err);
}

fs_status fs_user_folder(const char *variable, const char *fallback, char **ret, fs_error *err)
{
    const char *base = env_or_null(variable);
    char *path = NULL;
    fs_status rc = base && base[0] == '/' ? join(base, "farseek", ret, err) : under_home(fallback, &path, err);

    if (rc || !path)
        return rc;
    rc = join(path, "farseek", ret, err);
    free(path);
    return rc;
}

/* ---- models ---- */

#define ID_PART_BYTES_MAX 96 /* the Hub's limit for a repository's name */

/* The length of a Hub name at s: letters, digits, '-', '_', '.', not starting with '.' or '-'; 0 when none. */
static size_t id_part(const char *s)
{
    size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.");

    return n > ID_PART_BYTES_MAX || s[0] == '.' || s[0] == '-' ? 0 : n;
}

/* A revision is a ref's name or a commit; as a path below refs/ it must not climb. */
static bool revision_is_safe(const char *s)
{
    if (!*s || *s == '/' || strlen(s) > 255)
        return false;
    for (const char *part = s;;) {
        size_t n = strcspn(part, "/");
        if (n == 0 || part[0] == '.')
            return false;
        if (!part[n])
            return true;
        part += n + 1;
    }
}

fs_status fs_hub_cache(char **ret, fs_error *err)
{
    const char *s;

    if ((s = env_or_null("HF_HUB_CACHE")) != NULL)
        return join(s, "", ret, err);
    if ((s = env_or_null("HF_HOME")) != NULL)
        return join(s, "hub", ret, err);
    if ((s = env_or_null("XDG_CACHE_HOME")) != NULL)
        return join(s, "huggingface/hub", ret, err);
    return under_home(".cache/huggingface/hub", ret, err);
}

/* refs/<revision> holds the commit; the revision may be the commit itself. */
static fs_status snapshot_of(const char *repo, const char *revision, char **ret_path, fs_error *err)
{
    char *path = NULL, *ref = NULL;
    fs_buf commit = { 0 };
    const char *name = revision;
    fs_status rc = join(repo, "refs", &ref, err);

    if (!rc)
        rc = join_more(&ref, revision, err);
    if (!rc && fs_file_exists(ref)) {
        rc = fs_file_read(ref, 256, &commit, err);
        if (!rc) {
            commit.data[strcspn(commit.data, " \r\n")] = 0;
            name = commit.data;
            if (!revision_is_safe(name) || strchr(name, '/'))
                rc = fs_fail(err, FS_ERR_FORMAT, "'%s' does not hold a commit", ref);
        }
    }
    if (!rc)
        rc = join(repo, "snapshots", &path, err);
    if (!rc)
        rc = join_more(&path, name, err);
    if (!rc && !fs_file_is_folder(path))
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "'%s' is not there", path);
    if (!rc) {
        *ret_path = path;
        path = NULL;
    }
    free(path);
    free(ref);
    fs_buf_done(&commit);
    return rc;
}

/* The lengths of org, of name, and where the revision begins; false: no Hub id. */
static bool split_id(const char *model, size_t *ret_org, size_t *ret_name, const char **ret_revision)
{
    size_t org = id_part(model), name = org && model[org] == '/' ? id_part(model + org + 1) : 0, id = org + 1 + name;

    *ret_org = org;
    *ret_name = name;
    *ret_revision = name && model[id] == '@' ? model + id + 1 : "main";
    return name && (!model[id] || model[id] == '@') && revision_is_safe(*ret_revision);
}

bool fs_model_is_hub_id(const char *model)
{
    size_t org, name;
    const char *revision;

    return split_id(model, &org, &name, &revision);
}

fs_status fs_model_path(const char *model, char **ret_path, fs_error *err)
{
    size_t org, name;
    const char *revision;
    bool is_id = split_id(model, &org, &name, &revision);
    size_t id = org + 1 + name;
    char *cache = NULL, *repo = NULL, folder[3 * ID_PART_BYTES_MAX];
    fs_error inner;
    fs_status rc;

    if (fs_file_exists(model)) {
        *ret_path = strdup(model);
        return *ret_path ? FS_OK : fs_fail_memory(err, strlen(model) + 1);
    }
    if (!is_id)
        return fs_fail(err, FS_ERR_NOT_FOUND,
                       "no model '%.200s': no such file or folder, and not a Hub id (org/name[@revision])", model);
    rc = fs_hub_cache(&cache, err);
    if (rc)
        return rc;
    snprintf(folder, sizeof folder, "models--%.*s--%.*s", (int)org, model, (int)name, model + org + 1);
    rc = join(cache, folder, &repo, err);
    if (!rc) {
        rc = snapshot_of(repo, revision, ret_path, &inner);
        if (rc == FS_ERR_NOT_FOUND)
            rc = fs_fail(err, FS_ERR_NOT_FOUND,
                         "model '%.*s' at '%s' is not in the Hub cache (%s); 'farseek pull %s' puts it there", (int)id, model, revision, cache, model);
        else if (rc && err)
            *err = inner;
    }
    free(repo);
    free(cache);
    return rc;
}

/* ---- text ---- */

fs_status fs_stdin_read(size_t max_bytes, fs_buf *ret, fs_error *err)
{
    fs_buf b = { 0 };
    fs_status rc = FS_OK;

    for (;;) {
        ssize_t got;
        rc = fs_buf_reserve(&b, 65536, err);
        if (rc)
            break;
        got = read(STDIN_FILENO, b.data + b.n_bytes, 65536);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            rc = fs_fail_errno(err, errno, "cannot read stdin");
            break;
        }
        if (got == 0)
            break;
        b.n_bytes += (size_t)got;
        b.data[b.n_bytes] = 0;
        if (b.n_bytes > max_bytes) {
            rc = fs_fail(err, FS_ERR_ARGUMENT, "stdin has more than %zu bytes", max_bytes);
            break;
        }
    }
    if (rc) {
        fs_buf_done(&b);
        return rc;
    }
    *ret = b;
    return FS_OK;
}

fs_status fs_text_clean(fs_buf *out, fs_bytes text, fs_error *err)
{
    fs_status rc = fs_buf_reserve(out, text.n_bytes, err);

    for (size_t i = 0; i < text.n_bytes && !rc;) {
        uint32_t code;
        size_t n = fs_utf8_next(text, i, &code);
        if (code == FS_UTF8_BAD)
            rc = fs_buf_append(out, "\xef\xbf\xbd", 3, err);
        else if ((code >= 0x20 && (code < 0x7f || code > 0x9f)) || code == '\n' || code == '\t')
            rc = fs_buf_append(out, text.data + i, n, err);
        i += n;
    }
    return rc;
}

fs_status fs_date_read(const char *text, struct tm *ret, fs_error *err)
{
    time_t seconds = time(NULL);
    struct tm t = { .tm_isdst = -1 };
    const char *end = text ? strptime(text, "%Y-%m-%d", &t) : NULL;

    if (!text) {
        localtime_r(&seconds, ret);
        return FS_OK;
    }
    if (end && (*end == 'T' || *end == ' '))
        end = strptime(end + 1, "%H:%M:%S", &t);
    if (!end || *end || mktime(&t) == (time_t)-1)
        return fs_fail(err, FS_ERR_ARGUMENT, "--date '%.60s' is neither like 2026-01-31 nor like 2026-01-31T09:30:00", text);
    *ret = t;
    return FS_OK;
}

bool fs_colour_wanted(FILE *stream)
{
    const char *term = getenv("TERM");

    return isatty(fileno(stream)) && !env_or_null("NO_COLOR") && term && *term && strcmp(term, "dumb") != 0;
}
