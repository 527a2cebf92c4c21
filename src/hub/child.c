/* git as another process: its words and its surroundings. */
#include "hub/internal.h"

#include <stdarg.h>
#include <stdlib.h>

void fs_hub_words_add(fs_hub_words *w, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    if (w->n == FS_HUB_WORDS_MAX - 1 || vasprintf(&w->list[w->n], format, ap) < 0) {
        w->list[w->n] = NULL;
        w->failed = true;
    } else {
        w->n++;
    }
    va_end(ap);
}

void fs_hub_words_done(fs_hub_words *w)
{
    for (int i = 0; i < w->n; i++)
        free(w->list[i]);
    *w = (fs_hub_words){ .n = 0 };
}

void fs_hub_git_environment(fs_hub_words *env, const char *const (*pairs)[2], int n)
{
    const char *path = getenv("PATH");

    fs_hub_words_add(env, "PATH=%s", path ? path : "/usr/local/bin:/usr/bin:/bin");
    fs_hub_words_add(env, "HOME=/nonexistent");
    fs_hub_words_add(env, "LC_ALL=C.UTF-8");
    fs_hub_words_add(env, "GIT_CONFIG_NOSYSTEM=1");
    fs_hub_words_add(env, "GIT_CONFIG_COUNT=%d", n);
    for (int i = 0; i < n; i++) {
        fs_hub_words_add(env, "GIT_CONFIG_KEY_%d=%s", i, pairs[i][0]);
        fs_hub_words_add(env, "GIT_CONFIG_VALUE_%d=%s", i, pairs[i][1]);
    }
}
