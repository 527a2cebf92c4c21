/* See the header. */
#include "cli/pull_cli.h"

#include "base/file.h"
#include "cli/cli.h"
#include "cli/work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_ENDPOINT "https://huggingface.co"
#define TOKEN_BYTES_MAX  1024

static const char *env(const char *name)
{
    const char *s = getenv(name);

    return s && *s ? s : NULL;
}

const char *fs_hub_endpoint(void)
{
    const char *s = env("HF_ENDPOINT");

    return s ? s : DEFAULT_ENDPOINT;
}

fs_status fs_hub_token_path(char **ret, fs_error *err)
{
    const char *s, *home = env("HOME");

    if ((s = env("HF_TOKEN_PATH")) != NULL)
        *ret = strdup(s);
    else if ((s = env("HF_HOME")) != NULL)
        *ret = fs_path_join(s, "token");
    else if ((s = env("XDG_CACHE_HOME")) != NULL)
        *ret = fs_path_join(s, "huggingface/token");
    else if (home)
        *ret = fs_path_join(home, ".cache/huggingface/token");
    else
        return fs_fail(err, FS_ERR_NOT_FOUND, "neither HF_HOME nor HOME says where tokens are kept");
    return *ret ? FS_OK : fs_fail_memory(err, 0);
}

/* $HF_TOKEN, else what a login left. */
static char *find_token(void)
{
    char *path = NULL, *token = NULL;
    fs_buf text = { 0 };

    if (env("HF_TOKEN"))
        return strdup(env("HF_TOKEN"));
    if (fs_hub_token_path(&path, NULL) == FS_OK && fs_file_exists(path) && fs_file_read(path, TOKEN_BYTES_MAX, &text, NULL) == FS_OK) {
        fs_bytes t = fs_bytes_trim(fs_buf_bytes(&text), FS_SPACES);
        token = strndup((const char *)t.data, t.n_bytes);
    }
    free(path);
    fs_buf_done(&text);
    return token;
}

size_t fs_commas_cut(char *text, const char **list, size_t n_max)
{
    size_t n = 0;

    for (char *s = text; s && n < n_max; n++) {
        char *comma = strchr(s, ',');
        list[n] = s;
        if (comma)
            *comma++ = 0;
        s = comma;
    }
    return n;
}

static fs_status add_mirror(fs_pull_options *o, char *url, fs_error *err)
{
    size_t n = strlen(url);

    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%.200s' is no address of a hub: it begins with neither http:// nor https://", url);
    while (n && url[n - 1] == '/')
        url[--n] = 0;
    o->mirrors[o->n_mirrors++] = url;
    return FS_OK;
}

fs_status fs_pull_plan_init(fs_pull_plan *p, const char *id, const char *type, const char *mirrors, const char *include, const char *exclude, fs_error *err)
{
    const char *at = strchr(id, '@');
    const char *list[FS_PULL_MIRRORS_MAX];
    size_t n;
    fs_status rc = FS_OK;

    *p = (fs_pull_plan){ .options = { .type = type } };
    p->id = at ? strndup(id, (size_t)(at - id)) : strdup(id);
    p->revision = at ? strdup(at + 1) : NULL;
    p->token = find_token();
    if (asprintf(&p->mirrors, "%s%s%s", fs_hub_endpoint(), mirrors ? "," : "", mirrors ? mirrors : "") < 0)
        p->mirrors = NULL;
    p->include = include ? strdup(include) : NULL;
    p->exclude = exclude ? strdup(exclude) : NULL;
    if (!p->id || !p->mirrors || (at && !p->revision) || (include && !p->include) || (exclude && !p->exclude))
        rc = fs_fail_memory(err, strlen(id));
    if (!rc)
        rc = fs_hub_cache(&p->cache, err);
    if (!rc) {
        n = fs_commas_cut(p->mirrors, list, FS_PULL_MIRRORS_MAX);
        for (size_t i = 0; i < n && !rc; i++)
            rc = add_mirror(&p->options, (char *)(uintptr_t)list[i], err);
        n = fs_commas_cut(p->include, p->include_list, 63);
        p->include_list[n] = NULL;
        n = fs_commas_cut(p->exclude, p->exclude_list, 63);
        p->exclude_list[n] = NULL;
    }
    p->options.id = p->id;
    p->options.revision = p->revision;
    p->options.cache = p->cache;
    p->options.token = p->token;
    p->options.include = p->include_list;
    p->options.exclude = p->exclude_list;
    if (rc)
        fs_pull_plan_done(p);
    return rc;
}

void fs_pull_plan_done(fs_pull_plan *p)
{
    free(p->id);
    free(p->revision);
    free(p->cache);
    if (p->token)
        explicit_bzero(p->token, strlen(p->token));
    free(p->token);
    free(p->mirrors);
    free(p->include);
    free(p->exclude);
    *p = (fs_pull_plan){ 0 };
}

fs_status fs_pull_model(fs_pull_plan *p, fs_pull_result *ret, fs_error *err)
{
    fs_work work;
    fs_status rc;

    fs_work_start(&work, "fetching", "MiB", 1048576);
    p->options.progress = work.progress;
    rc = fs_pull(&p->options, ret, err);
    fs_work_end(&work);
    return rc;
}

static bool is_offline(void)
{
    const char *s = env("HF_HUB_OFFLINE");

    return s && strcmp(s, "0") != 0 && strcasecmp(s, "false") != 0 && strcasecmp(s, "no") != 0;
}

fs_status fs_model_path_or_fetch(const char *model, char **ret_path, fs_error *err)
{
    fs_pull_plan plan;
    fs_pull_result result = { 0 };
    fs_error absent = { 0 }, why = { 0 };
    fs_status rc = fs_model_path(model, ret_path, &absent);

    if (rc != FS_ERR_NOT_FOUND || !fs_model_is_hub_id(model) || is_offline()) {
        if (rc && err)
            *err = absent;
        return rc;
    }
    rc = fs_pull_plan_init(&plan, model, "models", NULL, NULL, "*.bin,*.pth,*.pt,*.msgpack,*.h5,*.onnx,original/*", err);
    if (rc)
        return rc;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "farseek: fetching %s from %s\n", model, plan.options.mirrors[0]);
    rc = fs_pull_model(&plan, &result, &why);
    fs_pull_plan_done(&plan);
    if (rc)
        return fs_fail(err, rc, "%s, but: %s", absent.message, why.message);
    *ret_path = result.path;
    return FS_OK;
}
