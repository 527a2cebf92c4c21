/* Opening a hub, and its routes. */
#include "hub/blobs.h"
#include "hub/search.h"
#include "hub/through.h"
#include "hub/torrents.h"

#include "base/file.h"
#include "crypto/sha256.h"
#include "net/url.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

static const char hook[] = "#!/bin/sh\n"
                           "exec \"$FARSEEK_HUB_PROGRAM\" hub receive --data \"$FARSEEK_HUB_DATA\"\n";
/* Which refs moved, and which only should have, git says behind the push alone. */
static const char moved_hook[] = "#!/bin/sh\n"
                                 "exec cat >\"$FARSEEK_HUB_MOVED\"\n";

/* A file of our own that is made once; whoever comes second takes the first one's. */
static fs_status make_once(const char *path, fs_bytes content, mode_t mode, fs_error *err)
{
    char temp[600];
    int fd;
    fs_status rc;

    if (fs_file_exists(path))
        return FS_OK;
    snprintf(temp, sizeof temp, "%s.XXXXXX", path);
    fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0)
        return fs_fail_errno(err, errno, "cannot make '%s'", path);
    rc = fs_fd_write(fd, temp, content.data, content.n_bytes, err);
    if (!rc && (fchmod(fd, mode) != 0 || fsync(fd) != 0))
        rc = fs_fail_errno(err, errno, "cannot write '%s'", temp);
    close(fd);
    if (!rc && link(temp, path) != 0 && errno != EEXIST)
        rc = fs_fail_errno(err, errno, "cannot make '%s'", path);
    unlink(temp);
    return rc;
}

/* 32 random bytes of DATA, made at the first start. */
static fs_status read_secret(fs_hub *h, const char *name, uint8_t ret[32], fs_error *err)
{
    char path[600];
    uint8_t bytes[32];
    fs_buf text = { 0 };
    fs_status rc;

    snprintf(path, sizeof path, "%s/%s", h->data, name);
    if (getentropy(bytes, sizeof bytes) != 0)
        return fs_fail_errno(err, errno, "no random bytes");
    rc = make_once(path, (fs_bytes){ bytes, sizeof bytes }, 0600, err);
    if (!rc)
        rc = fs_file_read(path, sizeof bytes, &text, err);
    if (!rc && text.n_bytes != sizeof bytes)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has %zu bytes, not 32", path, text.n_bytes);
    if (!rc)
        memcpy(ret, text.data, 32);
    if (text.data)
        explicit_bzero(text.data, text.n_bytes);
    explicit_bzero(bytes, sizeof bytes);
    fs_buf_done(&text);
    return rc;
}

static fs_status read_secrets(fs_hub *h, fs_error *err)
{
    uint8_t seed[32];
    fs_status rc = read_secret(h, "secret", h->secret, err);

    if (!rc)
        rc = read_secret(h, "key", seed, err);
    if (!rc)
        rc = fs_ed25519_from_seed(seed, &h->key, err);
    explicit_bzero(seed, sizeof seed);
    return rc;
}

static fs_status make_folders(fs_hub *h, fs_error *err)
{
    static const char *const folders[] = { "repos", "objects", "xorbs", "parts", "hooks" };
    char path[600];
    fs_status rc = fs_hub_folders_make(h->data, err);

    for (size_t i = 0; i < sizeof folders / sizeof *folders && !rc; i++) {
        snprintf(path, sizeof path, "%s/%s", h->data, folders[i]);
        rc = fs_hub_folders_make(path, err);
    }
    snprintf(path, sizeof path, "%s/hooks/pre-receive", h->data);
    if (!rc)
        rc = make_once(path, FS_BYTES_LIT(hook), 0700, err);
    snprintf(path, sizeof path, "%s/hooks/post-receive", h->data);
    return rc ? rc : make_once(path, FS_BYTES_LIT(moved_hook), 0700, err);
}

fs_status fs_hub_open(const char *data, const fs_hub_options *options, fs_hub **ret, fs_error *err)
{
    fs_hub *h = calloc(1, sizeof *h);
    char path[600];
    fs_status rc;

    if (!h)
        return fs_fail_memory(err, sizeof *h);
    for (int i = 0; i < FS_HUB_LOCKS; i++)
        pthread_mutex_init(&h->locks[i], NULL);
    pthread_mutex_init(&h->feed.lock, NULL);
    h->options = options ? *options : (fs_hub_options){ 0 };
    if (!h->options.multipart_bytes)
        h->options.multipart_bytes = 2048 * MIB;
    if (!h->options.regular_bytes_max)
        h->options.regular_bytes_max = 10 * MIB;
    h->opened_ms = fs_unix_ms();
    h->downloads = fs_hub_downloads_new();
    fs_hub_git_setup();
    rc = mkdir(data, 0700) != 0 && errno != EEXIST ? fs_fail_errno(err, errno, "cannot make the folder '%s'", data) : FS_OK;
    if (!rc && !(h->data = realpath(data, NULL)))
        rc = fs_fail_errno(err, errno, "cannot find the folder '%s'", data);
    if (!rc && strlen(h->data) > 300)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "the name of the folder '%.100s...' is too long", h->data);
    if (!rc)
        rc = make_folders(h, err);
    if (!rc)
        rc = read_secrets(h, err);
    if (!rc) {
        snprintf(path, sizeof path, "%s/hub.db", h->data);
        rc = fs_db_pool_open(path, &h->db, err);
    }
    if (!rc)
        rc = fs_search_new(h->options.peers_private, &h->search, err);
    if (!rc)
        rc = fs_blobs_open(h, err);
    if (!rc && !(h->torrents = fs_torrents_new(h)))
        rc = fs_fail_memory(err, 1);
    if (!rc && h->options.upstream)
        rc = fs_through_new(h, &h->through, err);
    if (rc)
        fs_hub_close(h);
    else
        *ret = h;
    return rc;
}

void fs_hub_close(fs_hub *h)
{
    if (!h)
        return;
    fs_search_free(h->search);
    fs_hub_downloads_free(h->downloads, h->db);
    fs_through_free(h->through);
    fs_torrents_free(h->torrents);
    fs_blobs_close(h);
    fs_db_pool_close(h->db);
    for (int i = 0; i < FS_HUB_LOCKS; i++)
        pthread_mutex_destroy(&h->locks[i]);
    pthread_mutex_destroy(&h->feed.lock);
    explicit_bzero(h->secret, sizeof h->secret);
    fs_ed25519_wipe(&h->key);
    free(h->data);
    free(h);
}

void fs_hub_stopping(fs_hub *h)
{
    h->stopping = true;
    fs_search_stop(h->search);
    fs_through_stop(h->through);
    fs_torrents_stop(h->torrents);
}

void fs_hub_key(const fs_hub *h, char ret[65])
{
    fs_hex(fs_ed25519_public(&h->key), FS_ED25519_PUBLIC_BYTES, ret);
}

/* ---- routes ---- */

void fs_hub_handle(void *ud, fs_http_request *r);

#define FN(name) static fs_hub_fn *const fn_##name = fs_hub_##name;
FS_HUB_HANDLERS(FN)

#define SMALL ((uint64_t)1 << 20)
#define GET(path, name)               { "GET", path, fs_hub_handle, &fn_##name, 0, false }
#define POST(path, name)              { "POST", path, fs_hub_handle, &fn_##name, SMALL, false }
#define DELETE(path, name)            { "DELETE", path, fs_hub_handle, &fn_##name, SMALL, false }
#define PUT(path, name)               { "PUT", path, fs_hub_handle, &fn_##name, SMALL, false }
#define LARGE(method, path, n, name)  { method, path, fs_hub_handle, &fn_##name, n, false }
#define STREAM(method, path, n, name) { method, path, fs_hub_handle, &fn_##name, n, true }
#define REPO "/api/{}/{}/{}"
#define FORM "/-/{}/{}/{}" /* the same parameters, as the API's calls are what a form does; '-' is no account */

static const fs_http_route routes[] = {
    GET("/api/whoami-v2", whoami),
    GET("/api/users/{}/overview", user_overview),
    GET("/api/organizations/{}/overview", org_overview),
    GET("/api/organizations/{}/members", org_members),
    POST("/api/repos/create", repo_create),
    DELETE("/api/repos/delete", repo_delete),
    POST("/api/repos/move", repo_move),
    LARGE("POST", "/api/validate-yaml", 8 * MIB, validate_yaml),

    GET("/api/settings/webhooks", webhook_list),
    POST("/api/settings/webhooks", webhook_create),
    GET("/api/settings/webhooks/{}", webhook_get),
    POST("/api/settings/webhooks/{}", webhook_update),
    DELETE("/api/settings/webhooks/{}", webhook_delete),
    POST("/api/settings/webhooks/{}/enable", webhook_enable),
    POST("/api/settings/webhooks/{}/disable", webhook_disable),
    GET("/api/{}", repo_list),
    GET(REPO, repo_info),
    GET(REPO "/revision/{}", repo_info),
    GET(REPO "/settings", repo_settings_get),
    PUT(REPO "/settings", repo_settings),
    POST(REPO "/duplicate", repo_duplicate),
    GET(REPO "/auth-check", auth_check),
    GET(REPO "/auth-check/write", auth_check_write),
    GET(REPO "/tree/{}/{*}", tree),
    LARGE("POST", REPO "/paths-info/{}", 16 * MIB, paths_info),
    GET(REPO "/refs", refs),
    GET(REPO "/commits/{}", commits),
    POST(REPO "/branch/{*}", branch_create),
    DELETE(REPO "/branch/{*}", branch_delete),
    POST(REPO "/tag/{}", tag_create),
    DELETE(REPO "/tag/{}", tag_delete),
    POST(REPO "/super-squash/{}", squash),
    LARGE("POST", REPO "/preupload/{}", 8 * MIB, preupload),
    STREAM("POST", REPO "/commit/{}", 16384 * MIB, commit),
    GET(REPO "/discussions", discussion_list),
    POST(REPO "/discussions", discussion_create),
    GET(REPO "/discussions/{}", discussion_get),
    POST(REPO "/discussions/{}/comment", discussion_comment),
    POST(REPO "/discussions/{}/title", discussion_title),
    POST(REPO "/discussions/{}/status", discussion_status),
    POST(REPO "/discussions/{}/merge", discussion_merge),
    POST(REPO "/discussions/{}/comment/{}/edit", comment_edit),
    POST(REPO "/discussions/{}/comment/{}/hide", comment_hide),
    POST(REPO "/like", like),
    DELETE(REPO "/like", unlike),
    GET(REPO "/likers", likers),
    GET(REPO "/xet-read-token/{}", xet_read_token),
    GET(REPO "/xet-write-token/{}", xet_write_token),
    POST(REPO "/ask-access", ask_access),
    POST("/{}/{}/ask-access", ask_access_path),
    POST("/{}/{}/{}/ask-access", ask_access_path),
    POST(REPO "/user-access-request/cancel", access_cancel),
    POST(REPO "/user-access-request/handle", access_handle),
    POST(REPO "/user-access-request/grant", access_grant),
    GET(REPO "/user-access-request/{}", access_list),
    GET(REPO "/advisories", advisory_list),
    POST(REPO "/advisories", advisory_add),
    DELETE(REPO "/advisories/{}", advisory_remove),
    GET(REPO "/lfs-files", lfs_files),
    POST(REPO "/lfs-files/batch", lfs_files_batch),
    POST(REPO "/lfs-files/duplicate", lfs_files_duplicate),
    GET("/api/{*}", not_here),
    GET("/.well-known/farseek/{}", well_known),

    STREAM("PUT", "/lfs/objects/{}", UINT64_MAX, lfs_put),
    GET("/lfs/objects/{}", lfs_get),
    POST("/lfs/objects/{}/verify", lfs_verify),
    STREAM("PUT", "/lfs/parts/{}/{}", UINT64_MAX, lfs_part),
    POST("/lfs/parts/{}", lfs_complete),

    STREAM("POST", "/v1/xorbs/{}/{}", 80 * MIB, xet_xorb_put),
    GET("/v1/xorbs/{}/{}", xet_xorb_head),
    LARGE("POST", "/v1/shards", 64 * MIB, xet_shard),
    LARGE("POST", "/v2/shards", 64 * MIB, xet_shard_stream),
    GET("/v1/chunks/{}/{}", xet_chunk),
    GET("/v2/reconstructions/{}", xet_file),
    GET("/v1/reconstructions/{}", xet_file_v1),
    GET("/v1/files/{}", xet_file_head),
    GET("/xet/data/{}", xet_data),

    GET("/{}/{}/resolve/{}/{*}", resolve),
    GET("/{}/{}/{}/resolve/{}/{*}", resolve),
    GET("/{}/{}/torrent/{}", torrent),
    GET("/{}/{}/{}/torrent/{}", torrent),
    LARGE("POST", "/{}/{}/info/lfs/objects/batch", 4 * MIB, lfs_batch),
    LARGE("POST", "/{}/{}/{}/info/lfs/objects/batch", 4 * MIB, lfs_batch),
    GET("/{}/{}/info/refs", git_info_refs),
    GET("/{}/{}/{}/info/refs", git_info_refs),
    LARGE("POST", "/{}/{}/git-upload-pack", 32 * MIB, git_service),
    LARGE("POST", "/{}/{}/{}/git-upload-pack", 32 * MIB, git_service),
    STREAM("POST", "/{}/{}/git-receive-pack", 16384 * MIB, git_service),
    STREAM("POST", "/{}/{}/{}/git-receive-pack", 16384 * MIB, git_service),

    GET("/", page_models),
    GET("/datasets", page_datasets),
    GET("/spaces", page_spaces),
    GET("/static/style.css", page_style),
    GET("/login", page_login),
    POST("/login", form_login),
    POST("/logout", form_logout),
    GET("/settings", page_settings),
    POST("/settings/profile", form_profile),
    POST("/settings/tokens", form_token),
    POST("/settings/tokens/revoke", form_token_revoke),
    POST("/settings/sessions/end", form_sessions_end),
    POST("/settings/keys", form_key),
    POST("/settings/keys/remove", form_key_remove),
    GET("/new", page_new),
    POST("/new", form_new),
    GET("/new/organisation", page_new_org),
    POST("/new/organisation", form_new_org),
    POST("/-/organisations/{}/members", form_member),
    POST(FORM "/like", form_like),
    POST(FORM "/unlike", form_unlike),
    POST(FORM "/settings", form_repo_settings),
    POST(FORM "/ask-access", form_ask),
    POST(FORM "/access", form_access),
    POST(FORM "/move", form_move),
    POST(FORM "/fork", form_fork),
    POST(FORM "/delete", form_delete),
    STREAM("POST", FORM "/upload/{}", 16384 * MIB, form_upload),
    POST(FORM "/discussions", form_discussion),
    POST(FORM "/discussions/{}/comment", form_comment),
    POST(FORM "/discussions/{}/comment/{}/edit", form_comment_edit),
    POST(FORM "/discussions/{}/comment/{}/hide", form_comment_hide),
    POST(FORM "/discussions/{}/title", form_title),
    POST(FORM "/discussions/{}/status", form_status),
    POST(FORM "/discussions/{}/merge", form_merge),
    GET("/{}/{}/settings", page_repo_settings),
    GET("/{}/{}/{}/settings", page_repo_settings),
    GET("/{}/{}/discussions", page_discussions),
    GET("/{}/{}/{}/discussions", page_discussions),
    GET("/{}/{}/discussions/{}", page_discussion),
    GET("/{}/{}/{}/discussions/{}", page_discussion),
    GET("/{}/{}/commits/{}/{*}", page_commits),
    GET("/{}/{}/{}/commits/{}/{*}", page_commits),
    GET("/{}/{}/upload/{}/{*}", page_upload),
    GET("/{}/{}/{}/upload/{}/{*}", page_upload),
    GET("/{}/{}/tree/{}/{*}", page_tree),
    GET("/{}/{}/{}/tree/{}/{*}", page_tree),
    GET("/{}/{}/blob/{}/{*}", page_blob),
    GET("/{}/{}/{}/blob/{}/{*}", page_blob),
    GET("/{}", page_owner),
    GET("/{}/{}", page_repo),
    GET("/{}/{}/{}", page_repo),
};

const fs_http_route *fs_hub_routes(size_t *ret_n)
{
    *ret_n = sizeof routes / sizeof *routes;
    return routes;
}

void fs_hub_not_here(fs_hub_call *c)
{
    fs_hub_error(c, 404, NULL, "Sorry, we can't find the page you are looking for.");
}
