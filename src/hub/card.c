/* Cards: README.md begins with YAML that says what a model is; lists and filters go by columns that this file keeps. */
#include "hub/card_check.h"

#include "base/yaml.h"
#include "net/url.h"

#include <string.h>

#define CARD_BYTES_MAX ((size_t)1 << 20)
#define TAGS_MAX       512

fs_bytes fs_hub_card_yaml(fs_bytes readme)
{
    const char *text = (const char *)readme.data, *begin, *end;

    if (readme.n_bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        readme.n_bytes -= 3;
    }
    if (readme.n_bytes < 4 || memcmp(text, "---", 3) != 0 || (text[3] != '\n' && text[3] != '\r'))
        return (fs_bytes){ 0 };
    begin = memchr(text, '\n', readme.n_bytes);
    if (!begin)
        return (fs_bytes){ 0 };
    begin++;
    for (end = begin; end < text + readme.n_bytes;) {
        size_t left = (size_t)(text + readme.n_bytes - end);
        const char *line_end = memchr(end, '\n', left);
        size_t n = line_end ? (size_t)(line_end - end) : left;
        if (n >= 3 && memcmp(end, "---", 3) == 0 && (n == 3 || (n == 4 && end[3] == '\r')))
            return (fs_bytes){ (const uint8_t *)begin, (size_t)(end - begin) };
        if (!line_end)
            break;
        end = line_end + 1;
    }
    return (fs_bytes){ 0 };
}

static fs_status read_card(fs_hub_call *c, const git_oid *commit, struct json_object **ret, fs_error *err)
{
    git_oid tree, oid;
    git_object_t type;
    git_blob *blob = NULL;
    fs_bytes yaml;
    fs_status rc = fs_hub_commit_tree(c->git, commit, &tree, err);

    if (rc)
        return rc;
    if (fs_hub_entry_find(c->git, &tree, "README.md", &oid, &type, NULL) != FS_OK || type != GIT_OBJECT_BLOB)
        return FS_OK;
    if (git_blob_lookup(&blob, c->git, &oid) != 0)
        return fs_hub_git_fail(err, "cannot read README.md");
    yaml = fs_hub_card_yaml((fs_bytes){ git_blob_rawcontent(blob), (size_t)git_blob_rawsize(blob) });
    if (yaml.n_bytes && yaml.n_bytes <= CARD_BYTES_MAX && fs_yaml_parse(yaml, "README.md", ret, NULL) != FS_OK)
        *ret = NULL; /* a broken card is no card */
    git_blob_free(blob);
    return FS_OK;
}

static fs_status add_tag(fs_hub_call *c, const char *prefix, struct json_object *value, fs_error *err)
{
    char tag[200];

    if (!json_object_is_type(value, json_type_string) || snprintf(tag, sizeof tag, "%s%s", prefix, json_object_get_string(value)) >= (int)sizeof tag)
        return FS_OK;
    return fs_db_run(c->db, err, "INSERT OR IGNORE INTO repo_tags(tag, repo) VALUES(?, ?)", "si", tag, c->repo.id);
}

/* A string or a list of them. */
static fs_status add_tags(fs_hub_call *c, struct json_object *card, const char *key, const char *prefix, fs_error *err)
{
    struct json_object *value = fs_json_member(card, key);
    fs_status rc = FS_OK;

    if (!value || !json_object_is_type(value, json_type_array))
        return value ? add_tag(c, prefix, value, err) : FS_OK;
    for (size_t i = 0; i < json_object_array_length(value) && i < TAGS_MAX && !rc; i++)
        rc = add_tag(c, prefix, json_object_array_get_idx(value, i), err);
    return rc;
}

static const char *string_of(struct json_object *card, const char *key)
{
    struct json_object *value = card ? fs_json_member(card, key) : NULL;

    return value && json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

static fs_status write_card(fs_hub_call *c, struct json_object *card, const char *sha, fs_error *err)
{
    static const char *const lists[][2] = { { "tags", "" },           { "language", "language:" }, { "license", "license:" },
                                            { "datasets", "dataset:" }, { "base_model", "base_model:" }, { "library_name", "" },
                                            { "pipeline_tag", "" },   { "task_categories", "task_categories:" } };
    fs_status rc = fs_db_begin(c->db, err);

    if (!rc)
        rc = fs_db_run(c->db, err, "UPDATE repos SET modified_ms = ?, sha = ?, card = ?, pipeline_tag = ?, library_name = ? WHERE id = ?", "issssi", fs_unix_ms(), sha,
                       card ? json_object_to_json_string_ext(card, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE) : NULL, string_of(card, "pipeline_tag"),
                       string_of(card, "library_name"), c->repo.id);
    if (!rc)
        rc = fs_db_run(c->db, err, "DELETE FROM repo_tags WHERE repo = ?", "i", c->repo.id);
    for (size_t i = 0; card && i < sizeof lists / sizeof *lists && !rc; i++)
        rc = add_tags(c, card, lists[i][0], lists[i][1], err);
    if (!rc)
        rc = fs_db_commit(c->db, err);
    if (rc)
        fs_db_rollback(c->db);
    return rc;
}

fs_status fs_hub_card_refresh(fs_hub_call *c, fs_error *err)
{
    struct json_object *card = NULL;
    git_oid commit;
    char sha[GIT_OID_HEXSZ + 1];
    fs_status rc = fs_hub_rev_find(c->git, "main", &commit, NULL, err);

    if (rc)
        return rc == FS_ERR_NOT_FOUND ? FS_OK : rc;
    git_oid_tostr(sha, sizeof sha, &commit);
    if (strcmp(sha, c->repo.sha) == 0)
        return FS_OK;
    rc = read_card(c, &commit, &card, err);
    if (!rc)
        rc = write_card(c, card, sha, err);
    if (!rc)
        memcpy(c->repo.sha, sha, sizeof c->repo.sha);
    json_object_put(card);
    return rc;
}

/* ---- validation ---- */

/* One of the two lists, or lines of text. */
typedef struct finding {
    fs_emit errors, warnings;
    fs_buf text;
    bool bad;
    fs_status rc;
} finding;

static void find(void *ud, bool error, const char *message)
{
    finding *f = ud;
    fs_emit *e = error ? &f->errors : &f->warnings;

    f->bad = f->bad || error;
    fs_emit_begin(e, '{');
    fs_emit_str(e, "message", message);
    fs_emit_end(e, '}');
    if (!f->rc)
        f->rc = fs_buf_printf(&f->text, NULL, "%s- %s: %s", f->text.n_bytes ? "\n" : "", error ? "Error" : "Warning", message);
}

/* RepoCard.validate() wants text and shows it, a commit of the clients' takes the lists apart. */
static void reply_findings(fs_hub_call *c, finding *f)
{
    const char *accept = fs_http_header(c->http, "Accept");
    fs_emit e = { 0 };

    fs_emit_end(&f->errors, ']');
    fs_emit_end(&f->warnings, ']');
    if (f->rc || f->errors.rc || f->warnings.rc) {
        fs_hub_error(c, 503, NULL, "out of memory");
        return;
    }
    if (accept && strncmp(accept, "text/plain", 10) == 0) {
        c->replied = true;
        fs_http_reply(c->http, f->bad ? 400 : 200, "text/plain; charset=utf-8", f->text.data ? f->text.data : "", f->text.n_bytes);
        return;
    }
    fs_emit_begin(&e, '{');
    fs_emit_json(&e, "errors", f->errors.out.data);
    fs_emit_json(&e, "warnings", f->warnings.out.data);
    fs_emit_end(&e, '}');
    fs_hub_reply(c, f->bad ? 400 : 200, &e);
    fs_emit_done(&e);
}

void fs_hub_validate_yaml(fs_hub_call *c)
{
    struct json_object *o = fs_hub_body_json(c), *card = NULL;
    fs_bytes content = { 0 }, yaml;
    char type[16];
    fs_error err = { 0 };
    finding f = { .rc = FS_OK };

    if (!o)
        return;
    if (fs_json_string(o, "content", &content, NULL, &c->err) != FS_OK) {
        fs_hub_error(c, 400, NULL, "%s", c->err.message);
    } else if (fs_hub_json_str(c, o, "repoType", type, sizeof type)) {
        fs_emit_begin(&f.errors, '[');
        fs_emit_begin(&f.warnings, '[');
        yaml = fs_hub_card_yaml(content);
        if (!yaml.n_bytes)
            find(&f, false, "empty or missing yaml metadata in repo card");
        else if (fs_yaml_parse(yaml, "README.md", &card, &err) != FS_OK)
            find(&f, true, err.message);
        else if (card)
            fs_hub_card_check(card, type, find, &f);
        reply_findings(c, &f);
    }
    json_object_put(card);
    json_object_put(o);
    fs_emit_done(&f.errors);
    fs_emit_done(&f.warnings);
    fs_buf_done(&f.text);
}
