/* Branches and tags made and removed, history squashed. */
#include "hub/internal.h"

#include "net/url.h"

#include <stdlib.h>
#include <string.h>

/* The name behind the route's folder, decoded and fit for a ref; false after a reply. */
static bool need_ref_name(fs_hub_call *c, const char *raw, bool decode, char ret[256])
{
    if ((decode && (strlen(raw) >= 256 || !fs_url_decode(fs_bytes_str(raw), false, ret))) || (!decode && snprintf(ret, 256, "%s", raw) >= 256) ||
        !fs_hub_ref_name_is_valid(ret)) {
        fs_hub_error(c, 400, NULL, "Invalid reference name: %.100s", raw);
        return false;
    }
    return true;
}

/* A ref that must not be there yet; replies. */
static void set_new(fs_hub_call *c, const char *ref, const git_oid *at)
{
    git_oid now;
    fs_status rc;

    if (git_reference_name_to_id(&now, c->git, ref) == 0) {
        fs_hub_error(c, 409, NULL, "Reference already exists: %s", ref);
        return;
    }
    rc = fs_hub_ref_set(c->hub, c->path, c->git, ref, NULL, at, &c->err);
    if (rc == FS_ERR_ARGUMENT)
        fs_hub_error(c, 409, NULL, "%s", c->err.message);
    else if (!fs_hub_failed(c, rc)) {
        fs_hub_tell_ref(c, ref, NULL, at);
        fs_hub_reply_ok(c);
    }
}

/* A branch that is there already goes to another commit. */
static void move_branch(fs_hub_call *c, const char *ref, const git_oid *old, const git_oid *new)
{
    bool may;
    fs_status rc = FS_OK;

    if (git_oid_equal(old, new)) {
        fs_hub_reply_ok(c);
        return;
    }
    fs_hub_repo_lock(c);
    may = fs_hub_need_rules(c, ref, git_graph_descendant_of(c->git, new, old) == 1 ? FS_HUB_EXTEND : FS_HUB_FORCE);
    if (may)
        rc = fs_hub_ref_set(c->hub, c->path, c->git, ref, old, new, &c->err);
    fs_hub_repo_unlock(c);
    if (!may)
        return;
    if (rc == FS_ERR_ARGUMENT)
        fs_hub_error(c, 409, NULL, "%s", c->err.message);
    else if (!fs_hub_failed(c, rc) && !fs_hub_failed(c, fs_hub_after_ref(c, ref, old, new, NULL, &c->err)))
        fs_hub_reply_ok(c);
}

void fs_hub_branch_create(fs_hub_call *c)
{
    struct json_object *o = NULL;
    char name[256], ref[300], from[256];
    bool overwrite = false;
    git_oid at, now;

    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_WRITE) || !need_ref_name(c, fs_http_param(c->http, 3), true, name) ||
        !(o = fs_hub_body_json(c)))
        return;
    if (fs_json_bool(o, "overwrite", &overwrite, NULL, &c->err) != FS_OK)
        fs_hub_error(c, 400, NULL, "%s", c->err.message);
    else if (fs_hub_json_str(c, o, "startingPoint", from, sizeof from) && fs_hub_need_rev(c, *from ? from : "main", &at, NULL)) {
        snprintf(ref, sizeof ref, "refs/heads/%s", name);
        if (overwrite && git_reference_name_to_id(&now, c->git, ref) == 0)
            move_branch(c, ref, &now, &at);
        else
            set_new(c, ref, &at);
    }
    json_object_put(o);
}

static void remove_ref(fs_hub_call *c, const char *ref)
{
    git_oid old;
    bool known = false, may;
    fs_status rc = FS_OK;

    fs_hub_repo_lock(c);
    may = fs_hub_need_rules(c, ref, FS_HUB_REMOVE);
    if (may) {
        known = git_reference_name_to_id(&old, c->git, ref) == 0;
        fs_hub_locks_drop(c->hub, c->path);
        rc = fs_hub_ref_remove(c->path, c->git, ref, &c->err);
    }
    fs_hub_repo_unlock(c);
    if (rc == FS_ERR_NOT_FOUND)
        fs_hub_error(c, 404, "RevisionNotFound", "%s", c->err.message);
    else if (may && !fs_hub_failed(c, rc)) {
        if (known)
            fs_hub_tell_ref(c, ref, &old, NULL);
        fs_hub_reply_ok(c);
    }
}

void fs_hub_branch_delete(fs_hub_call *c)
{
    char name[256], ref[300];

    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_WRITE) || !need_ref_name(c, fs_http_param(c->http, 3), true, name))
        return;
    snprintf(ref, sizeof ref, "refs/heads/%s", name);
    remove_ref(c, ref);
}

void fs_hub_tag_create(fs_hub_call *c)
{
    struct json_object *o = NULL;
    char name[256], ref[300], message[4096];
    git_oid at, tag;
    fs_hub_objects written = { 0 };
    fs_buf text = { 0 };
    char hex[GIT_OID_HEXSZ + 1];
    fs_status rc = FS_OK;

    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_WRITE) || !fs_hub_need_rev(c, fs_http_param(c->http, 3), &at, NULL) ||
        !(o = fs_hub_body_json(c)))
        return;
    if (!fs_hub_json_str(c, o, "tag", ref, 256) || !need_ref_name(c, ref, false, name) || !fs_hub_json_str(c, o, "message", message, sizeof message))
        goto out;
    tag = at;
    if (*message) {
        git_oid_tostr(hex, sizeof hex, &at);
        rc = fs_buf_printf(&text, &c->err, "object %s\ntype commit\ntag %s\ntagger %s <%s@users.noreply.hub> %lld +0000\n\n%s\n", hex, name, c->user.name, c->user.name,
                           (long long)time(NULL), message);
        if (!rc)
            rc = fs_hub_git_write(c->git, GIT_OBJECT_TAG, text.data, text.n_bytes, &written, &tag, &c->err);
        if (!rc)
            rc = fs_hub_git_sync(c->path, &written, &c->err);
        if (fs_hub_failed(c, rc))
            goto out;
    }
    snprintf(ref, sizeof ref, "refs/tags/%s", name);
    set_new(c, ref, &tag);
out:
    fs_buf_done(&text);
    fs_hub_objects_done(&written);
    json_object_put(o);
}

void fs_hub_tag_delete(fs_hub_call *c)
{
    char name[256], ref[300];

    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_WRITE) || !need_ref_name(c, fs_http_param(c->http, 3), false, name))
        return;
    snprintf(ref, sizeof ref, "refs/tags/%s", name);
    remove_ref(c, ref);
}

void fs_hub_squash(fs_hub_call *c)
{
    struct json_object *o = NULL;
    char ref[256], message[4096];
    git_oid head, tree, new;
    fs_hub_objects written = { 0 };
    fs_status rc;

    if (!fs_hub_need_user(c, true) || !fs_hub_need_repo_params(c, FS_HUB_WRITE) || !fs_hub_need_rev(c, fs_http_param(c->http, 3), &head, ref) ||
        !(o = fs_hub_body_json(c)))
        return;
    if (!fs_hub_json_str(c, o, "message", message, sizeof message))
        goto out;
    if (strncmp(ref, "refs/heads/", 11) != 0) {
        fs_hub_error(c, 400, NULL, "'%.100s' is no branch", fs_http_param(c->http, 3));
        goto out;
    }
    fs_hub_repo_lock(c);
    if (!fs_hub_need_rules(c, ref, FS_HUB_REWRITE)) {
        fs_hub_repo_unlock(c);
        goto out;
    }
    rc = fs_hub_commit_tree(c->git, &head, &tree, &c->err);
    if (!rc)
        rc = fs_hub_commit_write(c->git, &tree, NULL, 0, c->user.name, *message ? message : "Super-squash branch", &written, &new, &c->err);
    if (!rc)
        rc = fs_hub_git_sync(c->path, &written, &c->err);
    if (!rc)
        rc = fs_hub_ref_set(c->hub, c->path, c->git, ref, &head, &new, &c->err);
    fs_hub_repo_unlock(c);
    if (!rc)
        rc = fs_hub_after_ref(c, ref, &head, &new, NULL, &c->err);
    if (!fs_hub_failed(c, rc))
        fs_hub_reply_ok(c);
out:
    fs_hub_objects_done(&written);
    json_object_put(o);
}
