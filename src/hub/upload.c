/* Files that a browser sends with a form: the fields first, which say who it is and where the files go, then the files, each into git or, large ones, to
 * an object as they arrive. They become one commit, or a pull request. */
#include "hub/commit.h"
#include "hub/form.h"
#include "hub/page.h"

#include "net/multipart.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>

#define COPY_BYTES  ((size_t)256 << 10)
#define FIELD_MAX   ((size_t)32 << 10)
#define FILES_MAX   1000
#define SAMPLE      512
#define ROOM_BYTES  ((uint64_t)64 << 20) /* between two looks at the quota and the disk */

typedef struct upload {
    fs_hub_call *c;
    fs_commit_job job;
    bool begun; /* the fields were looked at, and it may go on */
    fs_buf attributes;
    size_t n_files;
    /* the part that arrives */
    char name[100], path[2100]; /* "" of a field; of a file that was not chosen both */
    fs_buf text;                /* a field, or a file that git will hold */
    bool looked;                /* at the file's beginning */
    fs_hub_incoming in;         /* a large file; fd -1: none */
} upload;

/* ---- fields ---- */

static bool wants_pr(const fs_hub_call *c)
{
    return strcmp(fs_hub_form_text(c, "how"), "pull request") == 0;
}

/* The folder of the form, without slashes around it. */
static fs_bytes folder_of(const fs_hub_call *c)
{
    return fs_bytes_trim(fs_bytes_str(fs_hub_form_text(c, "folder")), "/ ");
}

/* What the fields say, before the first file: false after a page. */
static bool begin(upload *u)
{
    fs_hub_call *c = u->c;
    git_oid tree;

    if (!fs_hub_need_signed_form(c) || !fs_commit_begin(&u->job, c, fs_http_param(c->http, 3), wants_pr(c)) ||
        fs_hub_failed(c, fs_hub_commit_tree(c->git, &u->job.base, &tree, &c->err)) || fs_hub_failed(c, fs_commit_attributes(c->git, &tree, &u->attributes, &c->err)))
        return false;
    u->begun = true;
    return true;
}

static fs_status set_message(upload *u, fs_error *err)
{
    const char *summary = fs_hub_form_text(u->c, "summary"), *description = fs_hub_form_text(u->c, "description");
    fs_commit_job *j = &u->job;
    fs_status rc;

    if (strlen(summary) >= sizeof j->summary)
        return fs_fail(err, FS_ERR_ARGUMENT, "the summary has %zu bytes, at most %zu are allowed", strlen(summary), sizeof j->summary - 1);
    snprintf(j->summary, sizeof j->summary, "%.*s", (int)strcspn(summary, "\n"), summary);
    if (!*j->summary && u->n_files == 1)
        snprintf(j->summary, sizeof j->summary, "Upload %.900s", u->job.edits.items[0].path);
    else if (!*j->summary)
        snprintf(j->summary, sizeof j->summary, "Upload %zu files", u->n_files);
    rc = fs_buf_append_str(&j->message, j->summary, err);
    return rc || !*description ? rc : fs_buf_printf(&j->message, err, "\n\n%s", description);
}

/* ---- files ---- */

/* More than git itself holds: its owner may have it, and the disk has room. */
static fs_status look_for_room(upload *u, fs_error *err)
{
    int64_t quota = -1, used = 0, loose = 0;
    fs_status rc = fs_hub_quota_of(u->c->db, u->c->repo.owner, &quota, &used, &loose, err);

    if (!rc && quota >= 0 && (used + loose > quota || u->in.n_bytes > (uint64_t)(quota - used - loose)))
        rc = fs_fail(err, FS_ERR_ARGUMENT, FS_HUB_QUOTA_USED);
    return rc ? rc : fs_hub_disk_room(u->c->hub, ROOM_BYTES, err);
}

static fs_status put_object(upload *u, const void *data, size_t n_bytes, fs_error *err)
{
    uint64_t before = u->in.n_bytes / ROOM_BYTES;
    fs_status rc = fs_hub_incoming_put(&u->in, data, n_bytes, err);

    return rc || u->in.n_bytes / ROOM_BYTES == before ? rc : look_for_room(u, err);
}

static fs_status become_object(upload *u, fs_error *err)
{
    fs_status rc = look_for_room(u, err);

    if (!rc)
        rc = fs_hub_incoming_open(u->c->hub, NULL, 0, &u->in, err);
    if (!rc)
        rc = put_object(u, u->text.data, u->text.n_bytes, err);
    fs_buf_clear(&u->text);
    return rc;
}

static fs_status put_file(upload *u, const void *data, size_t n_bytes, fs_error *err)
{
    fs_status rc;

    if (u->in.fd >= 0)
        return put_object(u, data, n_bytes, err);
    rc = fs_buf_append(&u->text, data, n_bytes, err);
    if (!rc && !u->looked && u->text.n_bytes >= SAMPLE) {
        u->looked = true;
        if (fs_commit_is_large(u->c, fs_buf_bytes(&u->attributes), u->path, u->text.n_bytes, (fs_bytes){ (uint8_t *)u->text.data, SAMPLE }))
            return become_object(u, err);
    }
    return !rc && u->text.n_bytes > u->c->hub->options.regular_bytes_max ? become_object(u, err) : rc;
}

static fs_status end_file(upload *u, fs_error *err)
{
    char sha256[65];
    uint64_t n_bytes;
    fs_status rc = FS_OK;

    if (u->in.fd < 0 && !u->looked && fs_commit_is_large(u->c, fs_buf_bytes(&u->attributes), u->path, u->text.n_bytes, fs_buf_bytes(&u->text)))
        rc = become_object(u, err);
    if (rc || u->in.fd < 0)
        return rc ? rc : fs_commit_blob(&u->job, u->path, (fs_bytes){ (const uint8_t *)(u->text.data ? u->text.data : ""), u->text.n_bytes }, err);
    rc = look_for_room(u, err);
    n_bytes = u->in.n_bytes;
    if (!rc) {
        fs_hub_incoming_hash(&u->in, sha256);
        rc = fs_hub_incoming_add(u->c->hub, &u->in, u->c->db, u->c->repo.id, sha256, err);
    }
    fs_hub_incoming_close(&u->in);
    return rc ? rc : fs_commit_object(&u->job, u->path, sha256, (int64_t)n_bytes, err);
}

/* ---- parts ---- */

static fs_status on_begin(void *ud, const char *name, const char *filename, fs_error *err)
{
    upload *u = ud;
    fs_bytes folder;

    fs_buf_clear(&u->text);
    u->path[0] = u->name[0] = 0;
    u->looked = false;
    if (!filename) {
        if (u->begun)
            return fs_fail(err, FS_ERR_FORMAT, "a field stands behind the files of the form");
        if (!*name || strlen(name) >= sizeof u->name)
            return fs_fail(err, FS_ERR_FORMAT, "a field of the form has no name, or a long one");
        snprintf(u->name, sizeof u->name, "%s", name);
        return FS_OK;
    }
    if (!u->begun && !begin(u))
        return fs_fail(err, FS_ERR_INTERRUPTED, "the form was refused");
    if (!*filename)
        return FS_OK;
    folder = folder_of(u->c);
    if (snprintf(u->path, sizeof u->path, "%.*s%s%s", (int)folder.n_bytes, (const char *)folder.data, folder.n_bytes ? "/" : "", filename) >= (int)sizeof u->path ||
        !fs_hub_path_is_valid(u->path))
        return fs_fail(err, FS_ERR_FORMAT, "'%.200s' cannot be a file's path", u->path);
    return ++u->n_files <= FILES_MAX ? FS_OK : fs_fail(err, FS_ERR_FORMAT, "a form has at most %d files", FILES_MAX);
}

static fs_status on_data(void *ud, const void *data, size_t n_bytes, fs_error *err)
{
    upload *u = ud;

    if (*u->path)
        return put_file(u, data, n_bytes, err);
    if (!*u->name)
        return fs_fail(err, FS_ERR_FORMAT, "a file of the form has no name");
    return u->text.n_bytes + n_bytes <= FIELD_MAX ? fs_buf_append(&u->text, data, n_bytes, err) : fs_fail(err, FS_ERR_FORMAT, "a field of the form is too long");
}

static fs_status on_end(void *ud, fs_error *err)
{
    upload *u = ud;
    char nothing[1] = "";

    if (*u->path)
        return end_file(u, err);
    if (!*u->name)
        return FS_OK;
    if (u->text.n_bytes && memchr(u->text.data, 0, u->text.n_bytes))
        return fs_fail(err, FS_ERR_FORMAT, "a field of the form has a NUL");
    return fs_form_put(u->c->form, u->name, u->text.data ? u->text.data : nothing, err);
}

static fs_status read_parts(upload *u, const char *boundary, fs_error *err)
{
    fs_multipart_sink sink = { on_begin, on_data, on_end, u };
    fs_multipart m;
    char *buf = malloc(COPY_BYTES);
    size_t n = 0;
    fs_status rc = buf ? FS_OK : fs_fail_memory(err, COPY_BYTES);

    fs_multipart_init(&m, boundary, &sink);
    while (!rc) {
        rc = fs_http_read(u->c->http, buf, COPY_BYTES, &n, err);
        if (rc || n == 0)
            break;
        rc = fs_multipart_feed(&m, buf, n, err);
    }
    if (!rc)
        rc = fs_multipart_end(&m, err);
    fs_multipart_done(&m);
    free(buf);
    return rc;
}

/* The folder of what was sent, or the pull request. */
static void go(fs_hub_call *c)
{
    struct json_object *o = NULL;
    fs_buf rest = { 0 };
    const char *pr = NULL;
    fs_status rc = fs_json_parse(fs_buf_bytes(&c->answer), "the answer", &o, &c->err);

    if (!rc)
        pr = json_object_get_string(fs_json_member(o, "pullRequestUrl"));
    if (!rc && pr)
        rc = fs_buf_printf(&rest, &c->err, "/discussions%s", strrchr(pr, '/'));
    else if (!rc)
        rc = fs_buf_append_str(&rest, "/tree/", &c->err);
    if (!rc && !pr)
        rc = fs_url_encode(&rest, fs_bytes_str(fs_http_param(c->http, 3)), "", &c->err);
    if (!rc && !pr)
        rc = fs_buf_append_str(&rest, "/", &c->err);
    if (!rc && !pr)
        rc = fs_url_encode(&rest, folder_of(c), "/", &c->err);
    if (!fs_hub_failed(c, rc))
        fs_page_go_repo(c, rest.data);
    fs_buf_done(&rest);
    json_object_put(o);
}

void fs_hub_form_upload(fs_hub_call *c)
{
    upload u = { .c = c, .in = { .fd = -1 } };
    char boundary[FS_MULTIPART_BOUNDARY_MAX + 1];
    fs_status rc;

    c->is_page = true;
    c->user = (fs_hub_user){ 0 };
    c->form = json_object_new_object();
    if (!c->form || !fs_multipart_boundary(fs_http_header(c->http, "Content-Type"), boundary)) {
        fs_page_error(c, 400, "This is no form with files.");
        return;
    }
    rc = read_parts(&u, boundary, &c->err);
    if (!fs_hub_failed(c, rc) && (u.begun || begin(&u))) {
        if (u.n_files == 0)
            fs_page_error(c, 400, "No file was chosen.");
        else if (!fs_hub_failed(c, set_message(&u, &c->err)))
            fs_commit_end(&u.job);
        if (c->answered && !c->replied)
            go(c);
    }
    fs_hub_incoming_close(&u.in);
    fs_commit_done(&u.job);
    fs_buf_done(&u.attributes);
    fs_buf_done(&u.text);
}

/* ---- the page ---- */

void fs_hub_page_upload(fs_hub_call *c)
{
    const char *rev;
    char id[220], *path = NULL, ref[256];
    fs_page p = { .rc = FS_OK };
    fs_hub_rules rules;
    git_oid commit;

    if (!fs_page_need_repo(c, 2) || !fs_hub_need_open(c) || fs_hub_failed(c, fs_hub_rules_read(c->db, c->repo.id, &rules, &c->err)))
        return;
    if (!fs_page_may_send(c)) {
        fs_page_error(c, c->user.id ? 403 : 404, "Files are sent by who is signed in, with a token that may write here.");
        return;
    }
    rev = fs_http_param(c->http, fs_http_n_params(c->http) - 2);
    if (!(path = fs_page_need_path(c)) || !fs_hub_need_rev(c, rev, &commit, ref))
        goto out;
    fs_page_repo_id(c, id);
    fs_page_begin(&p, c, id);
    fs_page_repo_head(&p, c, "Files", NULL);
    fs_page_put(&p, "<h2>Upload files</h2><form method=\"post\" enctype=\"multipart/form-data\" class=\"stack\" action=\"/-/%s/", c->repo.type);
    fs_page_path(&p, id);
    fs_page_put(&p, "/upload/");
    fs_page_word(&p, rev);
    fs_page_sign(&p, c);
    fs_page_put(&p, "<label>Folder<input name=\"folder\" maxlength=\"1000\" placeholder=\"the top\" value=\"");
    fs_page_text(&p, path);
    fs_page_put(&p, "\"></label><label>What it is about<input name=\"summary\" maxlength=\"200\" placeholder=\"Upload files\"></label><label>As<select name=\"how\">");
    if (c->right >= FS_HUB_WRITE && *ref && fs_hub_rules_check(&rules, ref, FS_HUB_EXTEND, NULL) == FS_OK) {
        fs_page_put(&p, "<option value=\"commit\">a commit to ");
        fs_page_text(&p, rev);
        fs_page_put(&p, "</option>");
    }
    fs_page_put(&p, "<option value=\"pull request\">a pull request</option></select></label>"
                    "<label>Files<input type=\"file\" name=\"files\" multiple></label><label>Or a folder with all that is in it<input type=\"file\" name=\"files\" webkitdirectory></label>"
                    "<p class=\"soft\">Up to %d files. What is large or no text goes to Git LFS. For much or for slow lines a client is better: it goes on where it stopped.</p>"
                    "<button class=\"main\">Upload</button></form>", FILES_MAX);
    fs_page_end(&p, c, 200);
out:
    fs_buf_done(&p.out);
    free(path);
}
