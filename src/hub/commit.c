/* Commits through the API: what is to be uploaded how, and the commit itself, whose files become git objects as they arrive. The ref moves last,
 * when everything it leads to is on the disk; two commits at once go one behind the other. */
#include "hub/commit.h"

#include "base/utf8.h"
#include "crypto/sha256.h"
#include "hub/ndjson.h"
#include "net/url.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define LINES_MAX        (1 + 100000) /* a header and what it commits */
#define FILES_MAX        1000
#define ATTRIBUTES_MAX   ((size_t)1 << 20)
#define TRIES_MAX        20 /* against pushes, which take no lock of ours */

fs_status fs_commit_attributes(git_repository *git, const git_oid *tree, fs_buf *ret, fs_error *err)
{
    git_oid oid;
    git_object_t type;
    git_blob *blob = NULL;
    fs_status rc = FS_OK;

    if (fs_hub_entry_find(git, tree, ".gitattributes", &oid, &type, NULL) != FS_OK || type != GIT_OBJECT_BLOB)
        return FS_OK;
    if (git_blob_lookup(&blob, git, &oid) != 0)
        return fs_hub_git_fail(err, "cannot read .gitattributes");
    if ((size_t)git_blob_rawsize(blob) <= ATTRIBUTES_MAX)
        rc = fs_buf_append(ret, git_blob_rawcontent(blob), (size_t)git_blob_rawsize(blob), err);
    git_blob_free(blob);
    return rc;
}

/* ---- preupload ---- */

/* Whether the beginning of a file is of no text. */
static bool is_binary(fs_bytes sample)
{
    if (sample.n_bytes && memchr(sample.data, 0, sample.n_bytes))
        return true;
    for (size_t i = 0; i < sample.n_bytes;) {
        uint32_t code;
        i += fs_utf8_next(sample, i, &code);
        if (code == FS_UTF8_BAD && i + 4 < sample.n_bytes) /* a character may be cut at the end */
            return true;
    }
    return false;
}

bool fs_commit_is_large(const fs_hub_call *c, fs_bytes attributes, const char *path, uint64_t n_bytes, fs_bytes sample)
{
    return n_bytes > 0 && (fs_hub_attributes_lfs(attributes, path) || n_bytes > c->hub->options.regular_bytes_max || is_binary(sample));
}

/* A sample in base64; empty when it is none. */
static fs_bytes read_sample(const char *base64, uint8_t ret[1100])
{
    size_t n = strlen(base64);
    int got;

    if (n == 0 || n % 4 || n / 4 * 3 > 1100 || (got = EVP_DecodeBlock(ret, (const uint8_t *)base64, (int)n)) < 0)
        return (fs_bytes){ 0 };
    return (fs_bytes){ ret, (size_t)got - (fs_ends_with(base64, "==") ? 2 : fs_ends_with(base64, "=") ? 1 : 0) };
}

static bool answer_file(fs_hub_call *c, fs_emit *e, struct json_object *file, const git_oid *tree, fs_bytes attributes)
{
    char path[2100], sample[1500], hex[GIT_OID_HEXSZ + 1];
    uint8_t bytes[1100];
    int64_t size = 0;
    git_oid oid;
    git_object_t type;
    fs_hub_file now;

    if (!json_object_is_type(file, json_type_object) || !fs_hub_json_str(c, file, "path", path, sizeof path) || !fs_hub_json_str(c, file, "sample", sample, sizeof sample))
        return false;
    if (fs_json_int(file, "size", 0, INT64_MAX, &size, NULL, &c->err) != FS_OK || !fs_hub_path_is_valid(path)) {
        fs_hub_error(c, 400, NULL, "'%.200s' cannot be a file's path or has no size", path);
        return false;
    }
    fs_emit_begin(e, '{');
    fs_emit_str(e, "path", path);
    fs_emit_str(e, "uploadMode", fs_commit_is_large(c, attributes, path, (uint64_t)size, read_sample(sample, bytes)) ? "lfs" : "regular");
    fs_emit_bool(e, "shouldIgnore", false);
    if (fs_hub_entry_find(c->git, tree, path, &oid, &type, NULL) == FS_OK && type == GIT_OBJECT_BLOB) {
        if (fs_hub_failed(c, fs_hub_file_read(c->git, &oid, &now, &c->err)))
            return false;
        git_oid_tostr(hex, sizeof hex, &oid);
        fs_emit_str(e, "oid", now.lfs ? now.sha256 : hex);
    }
    fs_emit_end(e, '}');
    return true;
}

static bool makes_pr(const fs_hub_call *c)
{
    const char *value = fs_http_query(c->http, "create_pr", 0);

    return value && (strcmp(value, "1") == 0 || strcmp(value, "true") == 0);
}

void fs_hub_preupload(fs_hub_call *c)
{
    struct json_object *o = NULL, *files;
    fs_buf attributes = { 0 };
    fs_emit e = { 0 };
    git_oid commit, tree;
    char ref[256];
    bool ok = true;

    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, makes_pr(c) ? FS_HUB_READ : FS_HUB_WRITE) ||
        !fs_hub_need_rev(c, fs_http_param(c->http, 3), &commit, ref) || (!makes_pr(c) && !fs_hub_need_rules(c, ref, FS_HUB_EXTEND)) || fs_hub_failed(c, fs_hub_commit_tree(c->git, &commit, &tree, &c->err)) ||
        fs_hub_failed(c, fs_commit_attributes(c->git, &tree, &attributes, &c->err)) || !(o = fs_hub_body_json(c)))
        goto out;
    files = fs_json_member(o, "files");
    if (!files || !json_object_is_type(files, json_type_array) || json_object_array_length(files) > FILES_MAX) {
        fs_hub_error(c, 400, NULL, "files must be a list of at most %d", FILES_MAX);
        goto out;
    }
    fs_emit_begin(&e, '{');
    fs_emit_key(&e, "files");
    fs_emit_begin(&e, '[');
    for (size_t i = 0; i < json_object_array_length(files) && ok; i++)
        ok = answer_file(c, &e, json_object_array_get_idx(files, i), &tree, fs_buf_bytes(&attributes));
    fs_emit_end(&e, ']');
    fs_emit_end(&e, '}');
    if (ok)
        fs_hub_reply(c, 200, &e);
out:
    json_object_put(o);
    fs_buf_done(&attributes);
    fs_emit_done(&e);
}

/* ---- a commit's lines ---- */

static fs_status copy_text(struct json_object *o, const char *key, char *ret, size_t capacity, fs_error *err)
{
    fs_bytes text = { 0 };
    fs_status rc = fs_json_string(o, key, &text, NULL, err);

    if (!rc && (text.n_bytes >= capacity || (text.n_bytes && memchr(text.data, 0, text.n_bytes))))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' of a commit's line has %zu bytes, at most %zu are allowed", key, text.n_bytes, capacity - 1);
    if (!rc) {
        memcpy(ret, text.data ? text.data : (const uint8_t *)"", text.n_bytes);
        ret[text.n_bytes] = 0;
    }
    return rc;
}

static fs_status on_header(fs_commit_job *j, struct json_object *value, fs_error *err)
{
    char text[32768];
    fs_status rc = copy_text(value, "summary", j->summary, sizeof j->summary, err);

    if (j->has_header)
        return fs_fail(err, FS_ERR_FORMAT, "a commit has two headers");
    j->has_header = true;
    j->summary[strcspn(j->summary, "\r\n")] = 0;
    if (!rc)
        rc = copy_text(value, "parentCommit", j->parent, sizeof j->parent, err);
    if (!rc)
        rc = fs_buf_append_str(&j->message, *j->summary ? j->summary : "Upload", err);
    if (!rc)
        rc = copy_text(value, "description", text, sizeof text, err);
    if (!rc && *text)
        rc = fs_buf_printf(&j->message, err, "\n\n%s", text);
    return rc;
}

/* Looked at already: is it taken? */
static fs_status take(fs_commit_job *j, const char *path, fs_hub_scan *s, fs_error *err)
{
    fs_status rc = fs_hub_scan_refuse(j->c->hub, s, path, err);

    fs_hub_scan_done(s);
    return rc;
}

fs_status fs_commit_blob(fs_commit_job *j, const char *path, fs_bytes content, fs_error *err)
{
    fs_hub_scan scan;
    git_oid oid;
    fs_status rc = fs_hub_git_write(j->c->git, GIT_OBJECT_BLOB, content.data, content.n_bytes, &j->written, &oid, err);

    if (!rc)
        rc = fs_hub_scan_bytes(j->c->db, &oid, content, path, &j->scans, &scan, err);
    if (!rc)
        rc = take(j, path, &scan, err);
    j->sets_attributes = j->sets_attributes || strcmp(path, ".gitattributes") == 0;
    return rc ? rc : fs_hub_edits_add(&j->edits, path, false, &oid, err);
}

static fs_status on_file(fs_commit_job *j, const char *path, struct json_object *value, fs_bytes content, fs_error *err)
{
    char encoding[16];
    fs_status rc = copy_text(value, "encoding", encoding, sizeof encoding, err);

    if (!rc && (!content.data || (*encoding && strcmp(encoding, "base64") != 0)))
        rc = fs_fail(err, FS_ERR_FORMAT, "'%.200s' has no content in base64", path);
    return rc ? rc : fs_commit_blob(j, path, content, err);
}

fs_status fs_commit_object(fs_commit_job *j, const char *path, const char *sha256, int64_t n_bytes, fs_error *err)
{
    uint64_t n = 0;
    bool held = false;
    fs_buf pointer = { 0 };
    fs_hub_scan scan;
    git_oid oid;
    fs_status rc = fs_hub_object_of(j->c->hub, j->c->db, j->c->repo.id, sha256, &held, &n, err);

    if (!rc && !held)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%.200s' points to %s, which was not uploaded to this repository", path, sha256);
    if (!rc && n_bytes >= 0 && (uint64_t)n_bytes != n)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%.200s' says %lld bytes, its object has %llu", path, (long long)n_bytes, (unsigned long long)n);
    if (!rc)
        rc = fs_hub_scan_object(j->c->hub, j->c->db, sha256, path, &j->scans, &scan, err);
    if (!rc)
        rc = take(j, path, &scan, err);
    if (!rc)
        rc = fs_hub_pointer_write(&pointer, sha256, n, err);
    if (!rc)
        rc = fs_hub_git_write(j->c->git, GIT_OBJECT_BLOB, pointer.data, pointer.n_bytes, &j->written, &oid, err);
    fs_buf_done(&pointer);
    if (!rc)
        rc = fs_hub_edits_add(&j->edits, path, false, &oid, err);
    if (!rc && j->n_lfs == j->lfs_capacity) {
        size_t capacity = j->lfs_capacity ? 2 * j->lfs_capacity : 64;
        char **paths = realloc(j->lfs_paths, capacity * sizeof *paths);
        if (!paths)
            return fs_fail_memory(err, capacity * sizeof *paths);
        j->lfs_paths = paths;
        j->lfs_capacity = capacity;
    }
    if (!rc && !(j->lfs_paths[j->n_lfs] = strdup(path)))
        return fs_fail_memory(err, strlen(path));
    j->n_lfs += !rc;
    return rc;
}

static fs_status on_lfs_file(fs_commit_job *j, const char *path, struct json_object *value, fs_error *err)
{
    char algo[16], sha256[65];
    int64_t size = -1;
    fs_status rc = copy_text(value, "oid", sha256, sizeof sha256, err);

    if (!rc)
        rc = copy_text(value, "algo", algo, sizeof algo, err);
    if (!rc)
        rc = fs_json_int(value, "size", 0, INT64_MAX, &size, NULL, err);
    if (!rc && *algo && strcmp(algo, "sha256") != 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%.200s' is named by %s: only sha256 is known", path, algo);
    return rc ? rc : fs_commit_object(j, path, sha256, size, err);
}

static fs_status on_line(void *ud, const char *key, struct json_object *value, fs_bytes content, fs_error *err)
{
    fs_commit_job *j = ud;
    char path[2100];
    size_t n;
    fs_status rc;

    if (strcmp(key, "header") == 0)
        return on_header(j, value, err);
    rc = copy_text(value, "path", path, sizeof path, err);
    if (rc)
        return rc;
    n = strlen(path);
    if (strncmp(key, "deleted", 7) == 0)
        while (n > 0 && path[n - 1] == '/')
            path[--n] = 0;
    if (!fs_hub_path_is_valid(path))
        return fs_fail(err, FS_ERR_FORMAT, "'%.200s' cannot be a file's path", path);
    if (strcmp(key, "file") == 0)
        return on_file(j, path, value, content, err);
    if (strcmp(key, "lfsFile") == 0)
        return on_lfs_file(j, path, value, err);
    if (strcmp(key, "deletedFile") == 0 || strcmp(key, "deletedFolder") == 0)
        return fs_hub_edits_add(&j->edits, path, true, NULL, err);
    return fs_fail(err, FS_ERR_FORMAT, "a commit has no line of the kind '%.30s'", key);
}

void fs_commit_done(fs_commit_job *j)
{
    for (size_t i = 0; i < j->n_lfs; i++)
        free(j->lfs_paths[i]);
    free(j->lfs_paths);
    fs_hub_edits_done(&j->edits);
    fs_hub_objects_done(&j->written);
    fs_hub_scans_done(&j->scans);
    fs_buf_done(&j->message);
}

static bool read_lines(fs_commit_job *j)
{
    fs_hub_call *c = j->c;
    fs_ndjson lines;
    char *buf = malloc(64 << 10);
    size_t n = 0;
    fs_status rc = buf ? FS_OK : fs_fail_memory(&c->err, 64 << 10);

    fs_ndjson_init(&lines, (size_t)c->hub->options.regular_bytes_max, LINES_MAX, on_line, j);
    while (!rc) {
        rc = fs_http_read(c->http, buf, 64 << 10, &n, &c->err);
        if (!rc && n == 0)
            break;
        if (!rc)
            rc = fs_ndjson_feed(&lines, buf, n, &c->err);
    }
    if (!rc)
        rc = fs_ndjson_end(&lines, &c->err);
    fs_ndjson_done(&lines);
    free(buf);
    if (!rc && !j->has_header)
        rc = fs_fail(&c->err, FS_ERR_FORMAT, "a commit needs a header");
    return !fs_hub_failed(c, rc);
}

/* ---- the commit ---- */

/* A line of .gitattributes that means exactly this path. */
static fs_status add_attribute(fs_buf *text, const char *path, fs_error *err)
{
    fs_status rc = text->n_bytes && !fs_ends_with(text->data, "\n") ? fs_buf_append_str(text, "\n", err) : FS_OK;

    if (!rc && !strchr(path, '/')) /* else it would mean that name in every folder */
        rc = fs_buf_append_str(text, "/", err);
    for (const char *p = path; *p && !rc; p++)
        rc = *p == ' ' ? fs_buf_append_str(text, "[[:space:]]", err) : fs_buf_printf(text, err, strchr("*?[\\", *p) ? "\\%c" : "%c", *p);
    return rc ? rc : fs_buf_append_str(text, " filter=lfs diff=lfs merge=lfs -text\n", err);
}

/* .gitattributes names every large file of the commit, so that git knows them too. */
static fs_status edit_attributes(fs_commit_job *j, const git_oid *tree, fs_error *err)
{
    fs_buf text = { 0 };
    bool changed = false;
    git_oid oid;
    fs_status rc = FS_OK;

    if (j->n_lfs == 0 || j->sets_attributes)
        return FS_OK;
    rc = fs_commit_attributes(j->c->git, tree, &text, err);
    for (size_t i = 0; i < j->n_lfs && !rc; i++)
        if (!fs_hub_attributes_lfs(fs_buf_bytes(&text), j->lfs_paths[i])) {
            rc = add_attribute(&text, j->lfs_paths[i], err);
            changed = true;
        }
    if (!rc && changed)
        rc = fs_hub_git_write(j->c->git, GIT_OBJECT_BLOB, text.data, text.n_bytes, &j->written, &oid, err);
    if (!rc && changed)
        rc = fs_hub_edits_add(&j->edits, ".gitattributes", false, &oid, err);
    fs_buf_done(&text);
    return rc;
}

static fs_status make_commit(fs_commit_job *j, const git_oid *base, git_oid *ret, fs_error *err)
{
    git_oid tree, new_tree;
    fs_status rc = fs_hub_commit_tree(j->c->git, base, &tree, err);

    if (!rc)
        rc = edit_attributes(j, &tree, err);
    if (!rc)
        rc = fs_hub_tree_edit(j->c->git, &tree, &j->edits, &j->written, &new_tree, err);
    if (rc)
        return rc;
    if (git_oid_equal(&tree, &new_tree)) { /* nothing changes: the same request once more, say */
        *ret = *base;
        return FS_OK;
    }
    rc = fs_hub_commit_write(j->c->git, &new_tree, base, 1, j->c->user.name, j->message.data, &j->written, ret, err);
    return rc ? rc : fs_hub_git_sync(j->c->path, &j->written, err);
}

static void reply_commit(fs_hub_call *c, const git_oid *commit, int64_t pr)
{
    char hex[GIT_OID_HEXSZ + 1], url[700];
    fs_emit e = { 0 };

    git_oid_tostr(hex, sizeof hex, commit);
    fs_emit_begin(&e, '{');
    fs_emit_bool(&e, "success", true);
    fs_emit_str(&e, "commitOid", hex);
    snprintf(url, sizeof url, "%s/%s%s/%s/commit/%s", c->base, fs_hub_type_prefix(c->repo.type), c->repo.owner_name, c->repo.name, hex);
    fs_emit_str(&e, "commitUrl", url);
    fs_emit_str(&e, "hookOutput", "");
    if (pr > 0) {
        snprintf(url, sizeof url, "%s/%s%s/%s/discussions/%lld", c->base, fs_hub_type_prefix(c->repo.type), c->repo.owner_name, c->repo.name, (long long)pr);
        fs_emit_str(&e, "pullRequestUrl", url);
    }
    fs_emit_end(&e, '}');
    fs_hub_reply(c, 200, &e);
    fs_emit_done(&e);
}

/* Whether head is what this very commit made of its parent before: its answer was lost. */
static bool is_repeated(fs_commit_job *j, const git_oid *head)
{
    git_commit *commit = NULL;
    git_oid tree, new_tree;
    bool same = git_commit_lookup(&commit, j->c->git, head) == 0 && git_commit_parentcount(commit) == 1 &&
                git_oid_streq(git_commit_parent_id(commit, 0), j->parent) == 0 &&
                fs_hub_commit_tree(j->c->git, git_commit_parent_id(commit, 0), &tree, NULL) == FS_OK &&
                edit_attributes(j, &tree, NULL) == FS_OK && fs_hub_tree_edit(j->c->git, &tree, &j->edits, &j->written, &new_tree, NULL) == FS_OK &&
                git_oid_equal(&new_tree, git_commit_tree_id(commit));

    git_commit_free(commit);
    return same;
}

/* Commits to refs/pr/N go by whoever opened it, and by who may write. */
static bool may_commit(fs_hub_call *c, const char *ref)
{
    int64_t author = 0;
    bool found = false;

    if (c->right >= FS_HUB_WRITE)
        return true;
    if (strncmp(ref, "refs/pr/", 8) == 0 &&
        fs_hub_failed(c, fs_hub_pr_author(c->db, c->repo.id, (int64_t)strtoll(ref + 8, NULL, 10), &author, &found, &c->err)))
        return false;
    if (found && author == c->user.id)
        return true;
    fs_hub_error(c, 403, NULL, "You have no right to write to %s/%s: a pull request would be welcome", c->repo.owner_name, c->repo.name);
    return false;
}

static void commit_to_ref(fs_commit_job *j)
{
    fs_hub_call *c = j->c;
    const char *ref = j->ref;
    git_oid head, new;
    fs_status rc = FS_OK;

    fs_hub_repo_lock(c);
    if (!may_commit(c, ref) || !fs_hub_need_rules(c, ref, FS_HUB_EXTEND)) { /* once more: files may take hours to come */
        fs_hub_repo_unlock(c);
        return;
    }
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        rc = fs_hub_rev_find(c->git, ref, &head, NULL, &c->err);
        if (rc)
            break;
        if (*j->parent && git_oid_streq(&head, j->parent) != 0) {
            if (is_repeated(j, &head))
                new = head;
            else
                fs_hub_error(c, 412, NULL, "The expected parent commit is %s, but the branch is at another", j->parent);
            break;
        }
        rc = make_commit(j, &head, &new, &c->err);
        if (rc || git_oid_equal(&head, &new))
            break;
        rc = fs_hub_ref_set(c->hub, c->path, c->git, ref, &head, &new, &c->err);
        if (rc != FS_ERR_ARGUMENT) /* moved meanwhile, by a push */
            break;
    }
    fs_hub_repo_unlock(c);
    if (rc == FS_ERR_NOT_FOUND)
        fs_hub_error(c, 404, "EntryNotFound", "%s", c->err.message);
    if (rc == FS_ERR_ARGUMENT && strstr(c->err.message, "meanwhile"))
        fs_hub_error(c, 503, NULL, "'%s' moves too fast: try again", ref);
    if (!c->replied && !fs_hub_failed(c, rc) && !fs_hub_failed(c, fs_hub_after_ref(c, ref, &head, &new, j->summary, &c->err)))
        reply_commit(c, &new, 0);
}

static void commit_to_pr(fs_commit_job *j)
{
    fs_hub_call *c = j->c;
    git_oid new;
    int64_t num = 0;
    const char *description = j->message.data ? strstr(j->message.data, "\n\n") : NULL;
    fs_status rc = FS_OK;

    if (*j->parent && git_oid_streq(&j->base, j->parent) != 0) {
        fs_hub_error(c, 412, NULL, "The expected parent commit is %s, but the branch is at another", j->parent);
        return;
    }
    rc = make_commit(j, &j->base, &new, &c->err);
    if (rc == FS_ERR_NOT_FOUND)
        fs_hub_error(c, 404, "EntryNotFound", "%s", c->err.message);
    if (!rc)
        rc = fs_hub_discussion_new(c, *j->summary ? j->summary : "Upload", description ? description + 2 : "", true, "open",
                                   *j->ref ? j->ref : "refs/heads/main", &new, &num, &c->err);
    if (!rc) {
        char ref[64];
        snprintf(ref, sizeof ref, "refs/pr/%lld", (long long)num);
        rc = fs_hub_after_ref(c, ref, NULL, &new, j->summary, &c->err);
    }
    if (!fs_hub_failed(c, rc))
        reply_commit(c, &new, num);
}

bool fs_commit_begin(fs_commit_job *j, fs_hub_call *c, const char *rev, bool pr)
{
    *j = (fs_commit_job){ .c = c, .pr = pr };
    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_READ) || !fs_hub_need_open(c) || !fs_hub_need_rev(c, rev, &j->base, j->ref) ||
        (!pr && (!may_commit(c, j->ref) || !fs_hub_need_rules(c, j->ref, FS_HUB_EXTEND))) || fs_hub_failed(c, fs_hub_disk_room(c->hub, 0, &c->err)))
        return false;
    if (!pr && !*j->ref)
        fs_hub_error(c, 400, NULL, "'%.100s' is no branch: commits go to branches and pull requests", rev);
    return pr || *j->ref;
}

void fs_commit_end(fs_commit_job *j)
{
    if (fs_hub_failed(j->c, fs_hub_scans_keep(j->c->db, &j->scans, &j->c->err)))
        return;
    if (j->pr)
        commit_to_pr(j);
    else
        commit_to_ref(j);
}

void fs_hub_commit(fs_hub_call *c)
{
    fs_commit_job j;

    if (fs_commit_begin(&j, c, fs_http_param(c->http, 3), makes_pr(c)) && read_lines(&j))
        fs_commit_end(&j);
    fs_commit_done(&j);
}

/* ---- after a ref moved ---- */

fs_status fs_hub_after_ref(fs_hub_call *c, const char *ref, const git_oid *old, const git_oid *new, const char *subject, fs_error *err)
{
    char hex[GIT_OID_HEXSZ + 1];
    int64_t known = 0;
    fs_status rc = FS_OK;

    if (strcmp(ref, "refs/heads/main") == 0)
        rc = fs_hub_card_refresh(c, err);
    if (!rc && strncmp(ref, "refs/pr/", 8) != 0)
        fs_hub_tell_ref(c, ref, old, new);
    if (strncmp(ref, "refs/pr/", 8) == 0) {
        int64_t num = strtoll(ref + 8, NULL, 10);
        git_oid_tostr(hex, sizeof hex, new);
        rc = fs_db_int(c->db, &known, NULL, err, "SELECT count(*) FROM events WHERE repo = ? AND num = ? AND type = 'commit' AND text2 = ?", "iis", c->repo.id, num, hex);
        if (!rc && known == 0)
            fs_hub_tell_ref(c, ref, old, new);
        if (!rc && known == 0)
            rc = fs_hub_event_add(c, num, "commit", subject && *subject ? subject : "Upload", hex, NULL, err);
    }
    return rc;
}
