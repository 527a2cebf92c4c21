/* Git LFS: pointers, and which paths .gitattributes sends there. */
#include "hub/internal.h"

#include "crypto/sha256.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

const char fs_hub_attributes_default[] = "*.7z filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.arrow filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.bin filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.bz2 filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.ckpt filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.ftz filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.gguf filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.gz filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.h5 filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.joblib filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.mlmodel filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.model filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.msgpack filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.npy filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.npz filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.onnx filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.parquet filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.pb filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.pickle filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.pkl filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.pt filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.pth filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.rar filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.tar filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.tflite filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.tgz filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.wasm filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.xz filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.zip filter=lfs diff=lfs merge=lfs -text\n"
                                         "*.zst filter=lfs diff=lfs merge=lfs -text\n"
                                         "*tfevents* filter=lfs diff=lfs merge=lfs -text\n";

#define VERSION_LINE "version https://git-lfs.github.com/spec/v1\n"

/* The rest of a line that begins with prefix; text goes on behind it. */
static bool line(fs_bytes *text, const char *prefix, fs_bytes *ret)
{
    size_t n = strlen(prefix);
    const uint8_t *end = memchr(text->data, '\n', text->n_bytes);

    if (!end || text->n_bytes < n || memcmp(text->data, prefix, n) != 0 || (size_t)(end - text->data) < n)
        return false;
    *ret = (fs_bytes){ text->data + n, (size_t)(end - text->data) - n };
    text->n_bytes -= (size_t)(end - text->data) + 1;
    text->data = end + 1;
    return true;
}

bool fs_hub_pointer_read(fs_bytes text, char ret_sha256[65], uint64_t *ret_bytes)
{
    fs_bytes rest = text, value;
    uint8_t oid[32];
    uint64_t n = 0;

    if (text.n_bytes >= FS_HUB_POINTER_BYTES_MAX || !line(&rest, "version https://git-lfs.github.com/spec/v1", &value) || value.n_bytes)
        return false;
    while (line(&rest, "ext-", &value)) /* extensions stand before oid, and do not matter here */
        ;
    if (!line(&rest, "oid sha256:", &value) || !fs_hex_read(value, oid, sizeof oid))
        return false;
    memcpy(ret_sha256, value.data, 64);
    ret_sha256[64] = 0;
    if (!line(&rest, "size ", &value) || value.n_bytes == 0 || value.n_bytes > 18 || rest.n_bytes != 0)
        return false;
    for (size_t i = 0; i < value.n_bytes; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(value.data[i] - '0');
    }
    *ret_bytes = n;
    return true;
}

fs_status fs_hub_pointer_write(fs_buf *out, const char *sha256, uint64_t n_bytes, fs_error *err)
{
    return fs_buf_printf(out, err, VERSION_LINE "oid sha256:%s\nsize %llu\n", sha256, (unsigned long long)n_bytes);
}

fs_status fs_hub_file_read(git_repository *git, const git_oid *oid, fs_hub_file *ret, fs_error *err)
{
    git_odb *odb = NULL;
    git_odb_object *o = NULL;
    git_object_t type = GIT_OBJECT_INVALID;
    size_t n = 0;
    fs_status rc = FS_OK;

    *ret = (fs_hub_file){ .oid = *oid };
    if (git_repository_odb(&odb, git) != 0 || git_odb_read_header(&n, &type, odb, oid) != 0)
        rc = fs_hub_git_fail(err, "cannot read a file");
    if (!rc && type != GIT_OBJECT_BLOB)
        rc = fs_fail(err, FS_ERR_FORMAT, "an entry of a tree is no file");
    ret->n_bytes = ret->n_git_bytes = n;
    if (!rc && n < FS_HUB_POINTER_BYTES_MAX && n > strlen(VERSION_LINE)) {
        if (git_odb_read(&o, odb, oid) != 0)
            rc = fs_hub_git_fail(err, "cannot read a file");
        else
            ret->lfs = fs_hub_pointer_read((fs_bytes){ git_odb_object_data(o), git_odb_object_size(o) }, ret->sha256, &ret->n_bytes);
        git_odb_object_free(o);
    }
    git_odb_free(odb);
    return rc;
}

/* gitattributes(5), as far as a hub's files use it: a pattern without '/' is of the last part, one with it of the whole path. */
static bool matches(const char *pattern, const char *path)
{
    const char *slash = strchr(pattern, '/'), *last = strrchr(path, '/');

    if (strncmp(pattern, "**/", 3) == 0 && !strchr(pattern + 3, '/'))
        return matches(pattern + 3, path);
    if (!slash)
        return fnmatch(pattern, last ? last + 1 : path, 0) == 0;
    if (pattern[0] == '/')
        pattern++;
    return fnmatch(pattern, path, strstr(pattern, "**") ? 0 : FNM_PATHNAME) == 0;
}

bool fs_hub_attributes_lfs(fs_bytes text, const char *path)
{
    bool lfs = false;

    while (text.n_bytes) {
        const uint8_t *end = memchr(text.data, '\n', text.n_bytes);
        size_t n = end ? (size_t)(end - text.data) : text.n_bytes;
        char copy[2200], *word, *rest = NULL;
        if (n < sizeof copy && n > 0 && text.data[0] != '#' && text.data[0] != '[') {
            memcpy(copy, text.data, n);
            copy[n] = 0;
            word = strtok_r(copy, " \t\r", &rest);
            if (word && matches(word, path)) {
                while ((word = strtok_r(NULL, " \t\r", &rest)) != NULL) {
                    if (strncmp(word, "filter=", 7) == 0)
                        lfs = strcmp(word + 7, "lfs") == 0;
                    else if (strcmp(word, "-filter") == 0 || strcmp(word, "!filter") == 0)
                        lfs = false;
                }
            }
        }
        n += end ? 1 : 0;
        text.data += n;
        text.n_bytes -= n;
    }
    return lfs;
}
