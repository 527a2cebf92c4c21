/* Pulling a repository of another hub, ours or any that speaks git and Git LFS: the same commits under the same ids. What upstream says is
 * fetched beside the refs, every large file that the new commits need is brought here and held to its SHA-256, and only then do the refs
 * move; so the copy is whole at every moment, whenever it is cut short. */
#include "hub/feed.h"
#include "hub/remote.h"

#include "base/file.h"
#include "crypto/sha256.h"
#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCH_OBJECTS  100
#define PACK_BYTES_MAX ((rlim_t)64 << 30) /* of what git itself holds */
#define STAGE         "refs/mirror/" /* hidden from every client */

typedef struct wanted {
    char sha256[65];
    uint64_t n_bytes;
} wanted;

typedef struct mirror {
    fs_hub *hub;
    const fs_hub_mirror_options *o;
    sqlite3 *db;
    git_repository *git;
    int64_t repo;
    bool made; /* in this run */
    bool was_lazy; /* its refs are there without its large files */
    char folder[40], path[512];
    fs_remote remote;
    wanted *list;
    size_t n, capacity;
    uint64_t done, total;
    fs_hub_mirror_result result;
} mirror;

/* ---- the repository here ---- */

fs_status fs_hub_owner_make(fs_hub *h, sqlite3 *db, const char *name, int64_t *ret, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    char admin[97] = "";
    bool found = false;
    fs_status rc = fs_db_int(db, ret, &found, err, "SELECT id FROM accounts WHERE name = ?", "s", name);

    if (rc || found)
        return rc;
    rc = fs_db_query(db, &st, err, "SELECT name FROM accounts WHERE is_admin ORDER BY id LIMIT 1", "");
    if (!rc && fs_db_next(st))
        snprintf(admin, sizeof admin, "%s", fs_db_text(st, 0));
    if (!rc)
        rc = fs_db_end(st, err);
    if (!rc && !*admin)
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "the hub has no administrator yet: start it once");
    if (!rc)
        rc = fs_hub_org_add(h, name, admin, err);
    return rc ? rc : fs_db_int(db, ret, NULL, err, "SELECT id FROM accounts WHERE name = ?", "s", name);
}

/* Disabled until it has been whole once. */
static fs_status make_repo(mirror *m, int64_t owner, const char *name, fs_error *err)
{
    char sha[41];
    int64_t now = fs_unix_ms();
    int making;
    fs_status rc;

    if (!fs_hub_name_is_valid(name))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.96s' is no name for a repository", name);
    fs_hub_random_name(m->folder, 33);
    rc = fs_hub_making_begin(m->hub, &making, err);
    if (!rc)
        rc = fs_hub_git_init(m->hub, m->folder, "mirror", sha, err);
    if (!rc)
        rc = fs_db_begin(m->db, err);
    if (!rc)
        rc = fs_db_run(m->db, err, "INSERT INTO repos(type, owner, name, folder, private, disabled, created_ms, modified_ms, sha) VALUES(?, ?, ?, ?, ?, 1, ?, ?, ?)", "sissiiis", m->o->type,
                       owner, name, m->folder, (int64_t)m->o->private_repo, now, now, sha);
    m->repo = sqlite3_last_insert_rowid(m->db);
    if (!rc)
        rc = fs_db_run(m->db, err, "INSERT INTO mirrors(repo, url, id, started_ms, lazy) VALUES(?, ?, ?, ?, ?)", "issii", m->repo, m->o->url, m->o->id, now, (int64_t)m->o->lazy);
    if (!rc)
        rc = fs_db_commit(m->db, err);
    if (rc) {
        fs_db_rollback(m->db);
        fs_hub_git_remove(m->hub, m->folder);
    }
    fs_hub_making_end(making);
    return rc;
}

static fs_status find_repo(mirror *m, fs_error *err)
{
    const char *slash = strchr(m->o->id, '/');
    char owner_name[200], url[600] = "", key[65] = "";
    sqlite3_stmt *st = NULL;
    int64_t owner = 0;
    fs_status rc;

    if (!slash || slash == m->o->id || !slash[1] || strlen(m->o->id) >= sizeof owner_name)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.100s' is no Hub id (org/name)", m->o->id);
    snprintf(owner_name, sizeof owner_name, "%.*s", (int)(slash - m->o->id), m->o->id);
    rc = m->o->lazy ? fs_db_run(m->db, err, "INSERT OR IGNORE INTO accounts(name, kind, created_ms, upstream) VALUES(?, 'org', ?, ?)", "sis", owner_name, fs_unix_ms(), m->o->url)
                    : FS_OK; /* nobody's, and marked as such from the first */
    if (!rc)
        rc = fs_hub_owner_make(m->hub, m->db, owner_name, &owner, err);
    if (!rc)
        rc = fs_db_query(m->db, &st, err, "SELECT r.id, r.folder, coalesce(m.url, ''), coalesce(m.owner, ''), coalesce(m.lazy, 0) FROM repos r LEFT JOIN mirrors m ON m.repo = r.id WHERE r.type = ? AND r.owner = ? AND r.name = ?", "sis",
                         m->o->type, owner, slash + 1);
    if (rc)
        return rc;
    if (fs_db_next(st)) {
        m->repo = sqlite3_column_int64(st, 0);
        snprintf(m->folder, sizeof m->folder, "%s", fs_db_text(st, 1));
        snprintf(url, sizeof url, "%s", fs_db_text(st, 2));
        snprintf(key, sizeof key, "%s", fs_db_text(st, 3));
        m->was_lazy = sqlite3_column_int(st, 4) != 0;
    }
    rc = fs_db_end(st, err);
    if (!rc && m->repo && strcmp(url, m->o->url) != 0)
        rc = *url ? fs_fail(err, FS_ERR_ARGUMENT, "'%s' mirrors %s already", m->o->id, url) : fs_fail(err, FS_ERR_ARGUMENT, "'%s' is here already, and is no mirror", m->o->id);
    if (!rc && *key && m->o->owner && strcmp(key, m->o->owner) != 0)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' belongs to the hub with the key %.16s..., and the feed gives it to %.16s...: another's is a fork, under a name of its own", m->o->id, key,
                     m->o->owner);
    if (!rc && !m->repo)
        rc = make_repo(m, owner, slash + 1, err), m->made = !rc;
    if (!rc)
        rc = fs_hub_repo_path(m->hub, m->folder, m->path, err);
    if (!rc && git_repository_open_ext(&m->git, m->path, GIT_REPOSITORY_OPEN_NO_SEARCH | GIT_REPOSITORY_OPEN_BARE | GIT_REPOSITORY_OPEN_NO_DOTGIT, NULL) != 0)
        rc = fs_hub_git_fail(err, "cannot open the repository");
    return rc;
}

/* ---- git ---- */

/* The last pair is the token's, where there is one. */
static void set_environment(fs_hub_words *env, const char *token)
{
    char header[1200];
    const char *const pairs[][2] = {
        { "core.fsync", "all" },           { "safe.directory", "*" },           { "fetch.fsckObjects", "true" },      { "gc.auto", "0" },
        { "protocol.allow", "never" },     { "protocol.http.allow", "always" }, { "protocol.https.allow", "always" }, { "http.followRedirects", "false" },
        { "fetch.unpackLimit", "1" },      { "http.lowSpeedLimit", "1" },       { "http.lowSpeedTime", "60" },        { "http.extraHeader", header },
    };
    const int n = sizeof pairs / sizeof *pairs;

    if (snprintf(header, sizeof header, "Authorization: Bearer %s", token ? token : "") >= (int)sizeof header)
        env->failed = true;
    fs_hub_git_environment(env, pairs, token && *token ? n : n - 1);
    fs_hub_words_add(env, "GIT_TERMINAL_PROMPT=0");
}

fs_status fs_hub_git_run(const fs_hub_words *argv, const fs_hub_words *env, fs_error *err)
{
    int out[2], status = 0, failed;
    posix_spawn_file_actions_t actions;
    char said[600];
    size_t n_said = 0;
    pid_t pid = 0;

    if (argv->failed || env->failed)
        return fs_fail_memory(err, 1);
    if (pipe2(out, O_CLOEXEC) != 0)
        return fs_fail_errno(err, errno, "no pipe for git");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], 2);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    failed = posix_spawnp(&pid, "git", &actions, NULL, argv->list, env->list);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    if (!failed) /* a pack has no length beforehand */
        prlimit(pid, RLIMIT_FSIZE, &(struct rlimit){ PACK_BYTES_MAX, PACK_BYTES_MAX }, NULL);
    while (!failed) {
        char drop[512];
        bool room = n_said < sizeof said - 1;
        ssize_t n = read(out[0], room ? said + n_said : drop, room ? sizeof said - 1 - n_said : sizeof drop);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        n_said += room ? (size_t)n : 0;
    }
    close(out[0]);
    if (failed)
        return fs_fail_errno(err, failed, "cannot start git");
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    said[n_said] = 0;
    for (char *p = said; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127)
            *p = p[1] ? ' ' : 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? FS_OK : fs_fail(err, FS_ERR_IO, "git: %s", *said ? said : "it ended early");
}

/* Where git is to go: git would send the token along wherever it is sent on to, so redirects are followed here, and only within upstream's origin. */
static fs_status find_git(mirror *m, char ret[800], fs_error *err)
{
    static const char tail[] = "/info/refs?service=git-upload-pack";
    static const char *const headers[] = { "Git-Protocol: version=2", NULL };
    char asked[900];
    const char *got;
    size_t n;
    int status;
    fs_error ignored;

    snprintf(ret, 800, "%s/%s%s", m->o->url, fs_hub_type_prefix(m->o->type), m->o->id);
    snprintf(asked, sizeof asked, "%s%s", ret, tail);
    if (fs_fetch_run(m->remote.fetch, &(fs_fetch_request){ .url = asked, .token = m->o->token, .headers = headers }, NULL, NULL, &ignored) != FS_OK)
        return FS_OK; /* git says what is wrong */
    got = fs_fetch_url(m->remote.fetch);
    n = strlen(got);
    status = fs_fetch_status(m->remote.fetch);
    if (status == 401 || status == 403 || status == 404)
        return m->o->lazy ? fs_fail(err, FS_ERR_NOT_FOUND, "upstream has no '%s' for everybody", m->o->id)
                          : fs_fail(err, FS_ERR_NOT_FOUND, "git cannot fetch '%s': upstream answers %d, it is not there or not for %s", m->o->id, status,
                                    m->o->token && *m->o->token ? "this token" : "who comes without a token (HF_TOKEN)");
    if (status != 200 || strcmp(got, asked) == 0)
        return FS_OK;
    if (!fs_fetch_same_origin(got, m->o->url))
        return fs_fail(err, FS_ERR_IO, "upstream sends git on to another hub, %.200s: name that one, if it is meant", got);
    if (n < sizeof tail || n - sizeof tail >= 799 || strcmp(got + n - (sizeof tail - 1), tail) != 0)
        return fs_fail(err, FS_ERR_IO, "upstream sends git on to %.200s, which is no repository", got);
    snprintf(ret, 800, "%.*s", (int)(n - (sizeof tail - 1)), got);
    return FS_OK;
}

static fs_status fetch(mirror *m, fs_error *err)
{
    static const char *const kinds[] = { "heads", "tags", "pr" };
    fs_hub_words argv = { .n = 0 }, env = { .n = 0 };
    char url[800];
    fs_status rc = find_git(m, url, err);

    if (rc)
        return rc;
    fs_hub_words_add(&argv, "git");
    fs_hub_words_add(&argv, "--git-dir=%s", m->path);
    fs_hub_words_add(&argv, "fetch");
    fs_hub_words_add(&argv, "--quiet");
    fs_hub_words_add(&argv, "--prune");
    fs_hub_words_add(&argv, "--no-tags");
    fs_hub_words_add(&argv, "--no-write-fetch-head");
    fs_hub_words_add(&argv, "--end-of-options");
    fs_hub_words_add(&argv, "%s", url);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        fs_hub_words_add(&argv, "+refs/%s/*:" STAGE "%s/*", kinds[i], kinds[i]);
    set_environment(&env, m->o->token);
    fs_hub_locks_drop(m->hub, m->path);
    rc = fs_hub_git_run(&argv, &env, err);
    fs_hub_words_done(&argv);
    fs_hub_words_done(&env);
    return rc;
}

/* ---- large files ---- */

static fs_status want(mirror *m, const fs_hub_file *f, fs_error *err)
{
    uint64_t n_bytes = 0;
    bool held = false;
    fs_status rc = fs_hub_object_of(m->hub, m->db, m->repo, f->sha256, &held, &n_bytes, err);

    if (rc || held)
        return rc;
    if (m->n == m->capacity) {
        size_t capacity = m->capacity ? 2 * m->capacity : 64;
        wanted *list = realloc(m->list, capacity * sizeof *list);
        if (!list)
            return fs_fail_memory(err, capacity * sizeof *list);
        m->list = list;
        m->capacity = capacity;
    }
    m->list[m->n] = (wanted){ .n_bytes = f->n_bytes };
    memcpy(m->list[m->n++].sha256, f->sha256, sizeof f->sha256);
    return FS_OK;
}

static int by_hash(const void *a, const void *b)
{
    const wanted *x = a, *y = b;
    int order = strcmp(x->sha256, y->sha256);

    return order ? order : (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

/* Each once, however many pointers name it. */
static void settle_wanted(mirror *m)
{
    size_t n = 0;

    if (m->n)
        qsort(m->list, m->n, sizeof *m->list, by_hash);
    for (size_t i = 0; i < m->n; i++)
        if (i == 0 || strcmp(m->list[i].sha256, m->list[n - 1].sha256) != 0) {
            m->list[n++] = m->list[i];
            m->total += m->list[i].n_bytes;
        }
    m->n = n;
}

/* Every pointer in what was fetched and is not below a ref yet. */
static fs_status find_wanted(mirror *m, fs_error *err)
{
    char line[4200];
    fs_buf command = { 0 };
    FILE *list = NULL;
    fs_status rc = fs_buf_printf(&command, err, "git --git-dir='%s' -c safe.directory='*' rev-list --objects --glob=" STAGE "*%s", m->path,
                                 m->was_lazy && !m->o->lazy ? "" : " --not --branches --tags --glob=refs/pr/*");

    if (!rc && strchr(m->path, '\''))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "the data folder's name has a quote");
    if (!rc && !(list = popen(command.data, "re")))
        rc = fs_fail_errno(err, errno, "cannot start git");
    while (!rc && fgets(line, sizeof line, list)) {
        git_odb *odb = NULL;
        git_object_t type = GIT_OBJECT_INVALID;
        size_t n = 0;
        git_oid oid;
        fs_hub_file f;
        line[GIT_OID_HEXSZ] = 0;
        if (git_oid_fromstr(&oid, line) != 0 || git_repository_odb(&odb, m->git) != 0 || git_odb_read_header(&n, &type, odb, &oid) != 0)
            rc = fs_hub_git_fail(err, "cannot read what was fetched");
        git_odb_free(odb);
        if (rc || type != GIT_OBJECT_BLOB)
            continue;
        rc = fs_hub_file_read(m->git, &oid, &f, err);
        if (!rc && f.lfs)
            rc = want(m, &f, err);
    }
    if (list && pclose(list) != 0 && !rc)
        rc = fs_fail(err, FS_ERR_FORMAT, "git cannot list what was fetched");
    settle_wanted(m);
    fs_buf_done(&command);
    return rc;
}

/* For a lazy copy: what may be asked for. */
static fs_status note_wanted(mirror *m, fs_error *err)
{
    uint8_t oid[32];
    fs_status rc = fs_db_begin(m->db, err);

    for (size_t i = 0; i < m->n && !rc; i++)
        if (fs_hex_read(fs_bytes_str(m->list[i].sha256), oid, sizeof oid))
            rc = fs_db_run(m->db, err, "INSERT OR IGNORE INTO through_objects(repo, oid, size) VALUES(?, ?, ?)", "ibi", m->repo, (fs_bytes){ oid, sizeof oid }, (int64_t)m->list[i].n_bytes);
    if (!rc)
        rc = fs_db_commit(m->db, err);
    if (rc)
        fs_db_rollback(m->db);
    return rc;
}

typedef struct arriving {
    mirror *m;
    int fd;
    const char *path;
    uint64_t left;
} arriving;

static fs_status arrive(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    arriving *a = ud;
    fs_status rc;

    if (n_bytes > a->left)
        return fs_fail(err, FS_ERR_FORMAT, "upstream sends more than a file's bytes");
    rc = fs_fd_write(a->fd, a->path, data, n_bytes, err);
    a->left -= n_bytes;
    a->m->done += n_bytes;
    a->m->result.n_bytes += n_bytes;
    return rc ? rc : fs_progress_tell(&a->m->o->progress, a->m->done, a->m->total, err);
}

/* What a run had adopted before it was killed takes no more bytes: it goes, under its lock. */
static void drop_adopted(const char *path)
{
    struct stat st, there;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return;
    if (fs_hub_part_lock(fd, true, 0) && fstat(fd, &st) == 0 && !(st.st_mode & S_IWUSR) && stat(path, &there) == 0 && there.st_ino == st.st_ino)
        unlink(path);
    close(fd);
}

/* Goes on where an earlier run stopped; the hash decides at the end. */
static fs_status bring(mirror *m, const wanted *w, const char *href, const char *const *headers, fs_error *err)
{
    char path[600];
    struct stat st;
    uint64_t have = 0;
    arriving a = { .m = m, .path = path };
    fs_status rc;

    snprintf(path, sizeof path, "%s/parts/mirror-%s", m->hub->data, w->sha256);
    drop_adopted(path);
    a.fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (a.fd < 0)
        return fs_fail_errno(err, errno, "cannot open '%s'", path);
    if (!fs_hub_part_lock_to_write(a.fd, true))
        return close(a.fd), fs_fail(err, FS_ERR_IO, "another run brings %s just now", w->sha256);
    if (fstat(a.fd, &st) == 0 && (uint64_t)st.st_size <= w->n_bytes)
        have = (uint64_t)st.st_size;
    else if (ftruncate(a.fd, 0) != 0)
        return close(a.fd), fs_fail_errno(err, errno, "cannot write '%s'", path);
    a.left = w->n_bytes - have;
    m->done += have;
    rc = a.left == 0 ? FS_OK
                     : fs_fetch_run(m->remote.fetch,
                                    &(fs_fetch_request){ .url = href, .headers = headers, .range_begin = have, .range_bytes = have ? a.left : 0, .silence_seconds = 60 }, arrive, &a,
                                    err);
    if (!rc && a.left > 0)
        rc = fs_fail(err, FS_ERR_IO, "upstream sent %llu of the %llu bytes of %s (status %d)", (unsigned long long)(w->n_bytes - a.left), (unsigned long long)w->n_bytes, w->sha256,
                     fs_fetch_status(m->remote.fetch));
    if (!rc)
        rc = fs_hub_object_adopt(m->hub, m->db, m->repo, path, a.fd, w->sha256, w->n_bytes, err);
    close(a.fd);
    if (rc == FS_ERR_FORMAT) /* these bytes are no beginning of it */
        unlink(path);
    if (!rc) {
        unlink(path);
        m->result.n_objects++;
    }
    return rc;
}

/* An object that is here for a repository that everybody reads needs no bytes: a hash alone, which upstream may know of another, gives nothing
 * away. It is held first and looked for afterwards, so that it does not go as garbage between the two. */
static fs_status is_here(mirror *m, const wanted *w, bool *ret, fs_error *err)
{
    int64_t size = 0;
    uint8_t oid[32];
    bool open_to_all = false;
    fs_status rc;

    *ret = false;
    if (!fs_hex_read(fs_bytes_str(w->sha256), oid, sizeof oid))
        return fs_fail(err, FS_ERR_FORMAT, "'%.80s' is no SHA-256", w->sha256);
    rc = fs_db_int(m->db, &size, &open_to_all, err,
                   "SELECT o.size FROM objects o JOIN repo_objects USING(oid) JOIN repos r ON r.id = repo WHERE o.oid = ? AND " FS_HUB_REPO_IS_OPEN " LIMIT 1",
                   "b", (fs_bytes){ oid, sizeof oid });
    if (rc || !open_to_all || (uint64_t)size != w->n_bytes)
        return rc;
    rc = fs_hub_object_add(m->db, m->repo, w->sha256, w->n_bytes, err);
    if (rc)
        return rc;
    *ret = fs_hub_object_is_here(m->hub, m->db, w->sha256);
    m->done += *ret ? w->n_bytes : 0;
    return FS_OK;
}

/* The answer to a batch: a link for each. */
static fs_status bring_answer(mirror *m, struct json_object *answer, const wanted *list, size_t n, fs_error *err)
{
    struct json_object *objects = fs_json_member(answer, "objects");
    fs_status rc = FS_OK;

    if (!objects || !json_object_is_type(objects, json_type_array))
        return fs_fail(err, FS_ERR_FORMAT, "upstream's answer to a batch has no objects");
    for (size_t i = 0; i < n && !rc; i++) {
        bool here = false, found = false;
        rc = is_here(m, list + i, &here, err);
        for (size_t k = 0; !rc && !here && !found && k < json_object_array_length(objects); k++) {
            struct json_object *o = json_object_array_get_idx(objects, k), *actions, *download;
            fs_bytes oid = { 0 }, href = { 0 };
            char *url;
            if (!json_object_is_type(o, json_type_object))
                continue;
            rc = fs_json_string(o, "oid", &oid, NULL, err);
            if (rc || !fs_bytes_equal(oid, fs_bytes_str(list[i].sha256)))
                continue;
            actions = fs_json_member(o, "actions");
            download = actions && json_object_is_type(actions, json_type_object) ? fs_json_member(actions, "download") : NULL;
            if (download && json_object_is_type(download, json_type_object))
                rc = fs_json_string(download, "href", &href, NULL, err);
            if (!rc && !href.data)
                rc = fs_fail(err, FS_ERR_NOT_FOUND, "upstream does not have %s, which its commits need", list[i].sha256);
            if (rc)
                break;
            found = true;
            url = strndup((const char *)href.data, href.n_bytes);
            rc = url ? bring(m, list + i, url, NULL, err) : fs_fail_memory(err, href.n_bytes);
            free(url);
        }
        if (!rc && !here && !found)
            rc = fs_fail(err, FS_ERR_NOT_FOUND, "upstream is silent about %s, which its commits need", list[i].sha256);
    }
    return rc;
}

static fs_status bring_batch(mirror *m, const wanted *list, size_t n, fs_error *err)
{
    static const char *const headers[] = { "Content-Type: application/vnd.git-lfs+json", "Accept: application/vnd.git-lfs+json", NULL };
    fs_buf url = { 0 }, body = { 0 }, text = { 0 };
    struct json_object *answer = NULL;
    fs_status rc = fs_buf_printf(&url, err, "%s/%s%s.git/info/lfs/objects/batch", m->o->url, fs_hub_type_prefix(m->o->type), m->o->id);

    if (!rc)
        rc = fs_buf_append_str(&body, "{\"operation\":\"download\",\"transfers\":[\"basic\"],\"hash_algo\":\"sha256\",\"objects\":[", err);
    for (size_t i = 0; i < n && !rc; i++)
        rc = fs_buf_printf(&body, err, "%s{\"oid\":\"%s\",\"size\":%llu}", i ? "," : "", list[i].sha256, (unsigned long long)list[i].n_bytes);
    if (!rc)
        rc = fs_buf_append_str(&body, "]}", err);
    if (!rc)
        rc = fs_fetch_whole(m->remote.fetch, &(fs_fetch_request){ .url = url.data, .token = m->o->token, .headers = headers, .body = fs_buf_bytes(&body) }, (size_t)16 << 20, &text, err);
    if (!rc && fs_fetch_status(m->remote.fetch) != 200)
        rc = fs_remote_refused(&m->remote, url.data, err);
    if (!rc)
        rc = fs_json_parse(fs_buf_bytes(&text), url.data, &answer, err);
    if (!rc)
        rc = bring_answer(m, answer, list, n, err);
    json_object_put(answer);
    fs_buf_done(&url);
    fs_buf_done(&body);
    fs_buf_done(&text);
    return rc;
}

/* ---- refs ---- */

/* A branch goes forward only, unless the options say otherwise. */
static fs_status move_ref(mirror *m, const char *ref, const git_oid *new, fs_error *err)
{
    git_oid old;
    bool held = git_reference_name_to_id(&old, m->git, ref) == 0;

    if (held && git_oid_equal(&old, new))
        return FS_OK;
    if (held && !m->o->force && m->result.was_whole && strncmp(ref, "refs/heads/", 11) == 0 && git_graph_descendant_of(m->git, new, &old) != 1)
        return fs_fail(err, FS_ERR_ARGUMENT, "upstream has taken '%s' back or written it anew; the copy stays as it is, --force follows", ref + 11);
    m->result.n_refs++;
    return fs_hub_ref_set(m->hub, m->path, m->git, ref, held ? &old : NULL, new, err);
}

typedef fs_status ref_fn(mirror *m, const char *name, const git_oid *oid, fs_error *err);

static fs_status for_refs(mirror *m, const char *prefix, ref_fn *fn, fs_error *err)
{
    git_strarray names = { 0 };
    fs_status rc = FS_OK;

    if (git_reference_list(&names, m->git) != 0)
        return fs_hub_git_fail(err, "cannot list refs");
    for (size_t i = 0; i < names.count && !rc; i++) {
        git_oid oid;
        if (strncmp(names.strings[i], prefix, strlen(prefix)) != 0)
            continue;
        if (git_reference_name_to_id(&oid, m->git, names.strings[i]) != 0)
            rc = fs_hub_git_fail(err, "cannot read a ref");
        else
            rc = fn(m, names.strings[i], &oid, err);
    }
    git_strarray_dispose(&names);
    return rc;
}

static fs_status take_staged(mirror *m, const char *name, const git_oid *oid, fs_error *err)
{
    char ref[300];

    if (snprintf(ref, sizeof ref, "refs/%s", name + strlen(STAGE)) >= (int)sizeof ref)
        return fs_fail(err, FS_ERR_FORMAT, "upstream has a ref with a name of %zu bytes", strlen(name));
    return move_ref(m, ref, oid, err);
}

static fs_status tell_ref(mirror *m, const char *name, const git_oid *oid, fs_error *err)
{
    char ref[300], hex[GIT_OID_HEXSZ + 1];

    if (snprintf(ref, sizeof ref, "refs/%s", name + strlen(STAGE)) >= (int)sizeof ref)
        return fs_fail(err, FS_ERR_FORMAT, "upstream has a ref with a name of %zu bytes", strlen(name));
    git_oid_tostr(hex, sizeof hex, oid);
    return m->o->on_ref(m->o->ud, ref, hex, err);
}

static fs_status drop_gone(mirror *m, const char *name, const git_oid *oid, fs_error *err)
{
    char staged[400];
    git_oid there;

    (void)oid;
    snprintf(staged, sizeof staged, STAGE "%s", name + strlen("refs/"));
    if (strncmp(name, STAGE, strlen(STAGE)) == 0 || strcmp(name, "refs/heads/main") == 0 || git_reference_name_to_id(&there, m->git, staged) == 0)
        return FS_OK;
    m->result.n_refs++;
    return fs_hub_ref_remove(m->path, m->git, name, err);
}

static fs_status drop_staged(mirror *m, const char *name, const git_oid *oid, fs_error *err)
{
    (void)oid;
    return fs_hub_ref_remove(m->path, m->git, name, err);
}

/* What lists and searches know of main. */
static fs_status read_card(mirror *m, fs_error *err)
{
    fs_hub_call c = { .hub = m->hub, .db = m->db, .git = m->git, .repo = { .id = m->repo } };
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(m->db, &st, err, "SELECT sha FROM repos WHERE id = ?", "i", m->repo);

    if (!rc && fs_db_next(st))
        snprintf(c.repo.sha, sizeof c.repo.sha, "%s", fs_db_text(st, 0));
    if (!rc)
        rc = fs_db_end(st, err);
    return rc ? rc : fs_hub_card_refresh(&c, err);
}

static fs_status note(mirror *m, fs_status failed, const fs_error *why, fs_error *err)
{
    fs_status rc = fs_db_begin(m->db, err);

    if (!rc && failed)
        rc = fs_db_run(m->db, err, "UPDATE mirrors SET tried_ms = ?, failure = ? WHERE repo = ?", "isi", fs_unix_ms(), why->message, m->repo);
    if (!rc && !failed)
        rc = fs_db_run(m->db, err, "UPDATE mirrors SET tried_ms = ?1, done_ms = ?1, failure = NULL WHERE repo = ?2", "ii", fs_unix_ms(), m->repo);
    if (!rc && !failed && m->result.n_refs)
        rc = fs_db_run(m->db, err, "UPDATE repos SET modified_ms = ? WHERE id = ?", "ii", fs_unix_ms(), m->repo);
    if (!rc && !failed) /* a run that was killed may have moved refs, too */
        rc = fs_hub_feed_mark(m->db, m->repo, err);
    if (!rc && !failed && m->was_lazy && !m->o->lazy)
        rc = fs_db_run(m->db, err, "UPDATE mirrors SET lazy = 0 WHERE repo = ?", "i", m->repo);
    if (!rc && failed == FS_ERR_NOT_FOUND && m->o->lazy) /* it is not for everybody any more, there and here */
        rc = fs_db_run(m->db, err, "UPDATE repos SET disabled = 1 WHERE id = ?", "i", m->repo);
    if (!rc && !failed && m->o->lazy)
        rc = fs_db_run(m->db, err, "UPDATE repos SET disabled = 0 WHERE id = ? AND disabled", "i", m->repo);
    if (!rc && !failed && m->o->owner)
        rc = fs_db_run(m->db, err, "UPDATE mirrors SET owner = ? WHERE repo = ?", "si", m->o->owner, m->repo);
    if (!rc && !failed && !m->result.was_whole) /* whole for the first time, though a run that was killed may have moved the refs */
        rc = fs_db_run(m->db, err, "UPDATE repos SET disabled = 0 WHERE id = ?", "i", m->repo);
    if (!rc)
        rc = fs_db_commit(m->db, err);
    else
        fs_db_rollback(m->db);
    return rc;
}

/* ---- all ---- */

fs_status fs_hub_mirror(fs_hub *h, const fs_hub_mirror_options *o, fs_hub_mirror_result *ret, fs_error *err)
{
    mirror m = { .hub = h, .o = o, .remote = { .base = o->url, .type = o->type, .id = o->id, .token = o->token } };
    int64_t done_ms = 0;
    fs_error why = { 0 };
    fs_status rc;

    if (!fs_hub_type_is_valid(o->type))
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.30s' is not models, datasets or spaces", o->type);
    rc = fs_db_take(h->db, &m.db, err);
    if (rc)
        return rc;
    rc = fs_fetch_new("farseek/" FS_VERSION, &m.remote.fetch, &why);
    if (!rc && !o->any_address)
        fs_fetch_keep_to(m.remote.fetch, o->url);
    if (!rc)
        rc = find_repo(&m, &why);
    if (!rc)
        rc = fs_db_int(m.db, &done_ms, NULL, &why, "SELECT coalesce(done_ms, 0) FROM mirrors WHERE repo = ?", "i", m.repo);
    m.result.was_whole = done_ms > 0;
    if (!rc && (rc = fetch(&m, &why)) && m.made) { /* it may be a name that is not there */
        fs_db_run(m.db, NULL, "DELETE FROM repos WHERE id = ?", "i", m.repo);
        fs_hub_git_remove(h, m.folder);
        m.repo = 0;
        if (o->lazy) /* nor is its namespace anybody's because somebody asked */
            fs_db_run(m.db, NULL,
                      "DELETE FROM accounts WHERE name = substr(?1, 1, instr(?1, '/') - 1) AND upstream = ?2 AND id NOT IN (SELECT owner FROM repos) AND id NOT IN (SELECT org FROM members)",
                      "ss", o->id, o->url);
    }
    if (!rc && o->on_ref)
        rc = for_refs(&m, STAGE, tell_ref, &why);
    if (!rc && o->on_ref)
        rc = o->on_ref(o->ud, NULL, NULL, &why);
    if (!rc)
        rc = find_wanted(&m, &why);
    if (!rc && o->lazy)
        rc = note_wanted(&m, &why);
    for (size_t i = 0; i < m.n && !rc && !o->lazy; i += BATCH_OBJECTS)
        rc = bring_batch(&m, m.list + i, m.n - i < BATCH_OBJECTS ? m.n - i : BATCH_OBJECTS, &why);
    if (!rc)
        rc = for_refs(&m, STAGE, take_staged, &why);
    if (!rc)
        rc = for_refs(&m, "refs/", drop_gone, &why);
    if (!rc)
        rc = for_refs(&m, STAGE, drop_staged, &why);
    if (!rc)
        rc = read_card(&m, &why);
    if (m.repo && rc != FS_ERR_INTERRUPTED) {
        fs_status noted = note(&m, rc, &why, rc ? NULL : &why);
        rc = rc ? rc : noted;
    }
    if (rc && err)
        *err = why;
    git_repository_free(m.git);
    fs_fetch_free(m.remote.fetch);
    fs_db_give(h->db, m.db);
    free(m.list);
    if (!rc)
        *ret = m.result;
    return rc;
}

fs_status fs_hub_mirror_object(fs_hub *h, const fs_hub_mirror_options *o, int64_t repo, const char *sha256, uint64_t n_bytes, fs_error *err)
{
    mirror m = { .hub = h, .o = o, .repo = repo, .remote = { .base = o->url, .type = o->type, .id = o->id, .token = o->token }, .total = n_bytes };
    wanted w = { .n_bytes = n_bytes };
    fs_status rc = fs_db_take(h->db, &m.db, err);

    snprintf(w.sha256, sizeof w.sha256, "%s", sha256);
    if (!rc)
        rc = fs_fetch_new("farseek/" FS_VERSION, &m.remote.fetch, err);
    if (!rc && !o->any_address)
        fs_fetch_keep_to(m.remote.fetch, o->url);
    if (!rc)
        rc = bring_batch(&m, &w, 1, err);
    fs_fetch_free(m.remote.fetch);
    fs_db_give(h->db, m.db);
    return rc;
}

fs_status fs_hub_mirror_list(fs_hub *h, fs_hub_mirror_fn *fn, void *ud, fs_error *err)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_take(h->db, &db, err);

    if (rc)
        return rc;
    rc = fs_db_query(db, &st, err, "SELECT m.url, r.type, m.id, coalesce(m.done_ms, 0), coalesce(m.failure, '') FROM mirrors m JOIN repos r ON r.id = m.repo WHERE NOT m.lazy ORDER BY m.repo", "");
    while (!rc && fs_db_next(st))
        fn(ud, fs_db_text(st, 0), fs_db_text(st, 1), fs_db_text(st, 2), sqlite3_column_int64(st, 3), fs_db_text(st, 4));
    if (!rc)
        rc = fs_db_end(st, err);
    fs_db_give(h->db, db);
    return rc;
}
