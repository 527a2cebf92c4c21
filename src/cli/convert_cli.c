/* See the header. */
#include "cli/convert_cli.h"

#include "base/file.h"
#include "text/tokenizer_convert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TEXT_BYTES_MAX ((size_t)256 << 20)

static const char *const texts[] = { "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
                                     "vocab.json", "merges.txt", "generation_config.json" };

bool fs_convert_is_gguf_name(const char *path)
{
    size_t n = strlen(path);

    return n > 5 && strcmp(path + n - 5, ".gguf") == 0;
}

static bool on_progress(void *ud, uint64_t done, uint64_t total)
{
    const fs_progress *p = &((fs_convert_progress *)ud)->work.progress;

    return p->fn(p->ud, done, total);
}

static fs_status add_tokenizer(void *ud, fs_gguf_writer *w, fs_error *err)
{
    const fs_convert_progress *p = ud;

    return p->no_tokenizer ? FS_OK : fs_tokenizer_to_gguf(fs_weights_folder(p->weights), fs_weights_config(p->weights), w, err);
}

void fs_convert_progress_start(fs_convert_progress *p, const fs_weights *w, bool no_tokenizer, fs_convert_options *o)
{
    *p = (fs_convert_progress){ .no_tokenizer = no_tokenizer, .weights = w };
    fs_work_start(&p->work, "writing", "MiB", 1048576);
    o->metadata = add_tokenizer;
    o->progress = on_progress;
    o->ud = p;
}

void fs_convert_progress_end(const fs_convert_progress *p)
{
    fs_work_end(&p->work);
}

fs_status fs_convert_in_folder(const fs_weights *w, const char *out, const fs_convert_options *o, fs_convert_make *make, void *ud, fs_error *err)
{
    size_t n = strlen(out);
    char *temp = malloc(n + 16);
    fs_status rc;

    if (!temp)
        return fs_fail_memory(err, n + 16);
    while (n > 1 && out[n - 1] == '/')
        n--;
    snprintf(temp, n + 16, "%.*s.tmp.XXXXXX", (int)n, out);
    if (!mkdtemp(temp)) {
        rc = fs_fail_errno(err, errno, "cannot make a folder beside '%s'", out);
        free(temp);
        return rc;
    }
    rc = make(ud, w, temp, o, err);
    if (!rc && (chmod(temp, 0755) != 0 || rename(temp, out) != 0))
        rc = fs_fail_errno(err, errno, "cannot rename '%s' to '%s'", temp, out);
    if (rc)
        fs_folder_remove(temp);
    free(temp);
    return rc;
}

fs_status fs_convert_copy_texts(const char *from, const char *to, fs_error *err)
{
    fs_status rc = FS_OK;

    for (size_t i = 0; i < sizeof texts / sizeof *texts && !rc; i++) {
        char *source = fs_path_join(from, texts[i]), *target = fs_path_join(to, texts[i]);
        fs_buf text = { 0 };
        if (!source || !target)
            rc = fs_fail_memory(err, strlen(from) + strlen(to));
        if (!rc && fs_file_exists(source)) {
            rc = fs_file_read(source, TEXT_BYTES_MAX, &text, err);
            if (!rc)
                rc = fs_file_write_atomic(target, fs_buf_bytes(&text), err);
        }
        fs_buf_done(&text);
        free(source);
        free(target);
    }
    return rc;
}
