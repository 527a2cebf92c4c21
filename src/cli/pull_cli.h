/* Models that are not here: where they are fetched from, with what right, to where. */
#ifndef FS_CLI_PULL_CLI_H
#define FS_CLI_PULL_CLI_H

#ifdef FS_NO_HUB

#include "cli/cli.h"

static inline fs_status fs_model_path_or_fetch(const char *model, char **ret_path, fs_error *err)
{
    return fs_model_path(model, ret_path, err);
}

#else

#include "hub/pull.h"

/* Cuts text (may be NULL) at commas, in place, into list [n_max]; how many, or n_max where they do not fit. */
size_t fs_commas_cut(char *text, const char **list, size_t n_max);
const char *fs_hub_endpoint(void);
/* Where a login keeps its token: $HF_TOKEN_PATH, else token in $HF_HOME, as a new string. */
fs_status fs_hub_token_path(char **ret, fs_error *err);

/* Fills o from id ("org/name[@revision]") and the environment: HF_ENDPOINT (default https://huggingface.co), HF_TOKEN or the token file that
 * the other clients write, the Hub cache. o's strings are of the returned memory, which fs_pull_plan_done frees. */
typedef struct fs_pull_plan {
    fs_pull_options options;
    char *id, *revision, *cache, *token, *mirrors, *include, *exclude;
    const char *include_list[64], *exclude_list[64];
} fs_pull_plan;

/* mirrors, include, exclude: separated by commas; NULL: none. */
fs_status fs_pull_plan_init(fs_pull_plan *p, const char *id, const char *type, const char *mirrors, const char *include, const char *exclude, fs_error *err);
void fs_pull_plan_done(fs_pull_plan *p);
/* With a line of progress on a terminal, and Ctrl-C. */
fs_status fs_pull_model(fs_pull_plan *p, fs_pull_result *ret, fs_error *err);

/* fs_model_path, but a Hub id that is not in the cache is fetched first, unless HF_HUB_OFFLINE says no. */
fs_status fs_model_path_or_fetch(const char *model, char **ret_path, fs_error *err);

#endif
#endif
