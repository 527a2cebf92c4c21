/* See the header. */
#include "cli/ancestry.h"

#include "base/file.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEPTH_MAX 8
#define FOLDER_RECORD "farseek.rec"

/* ---- the records of a folder ---- */

/* Takes path over. */
static fs_status add(fs_ancestry *a, char *path, fs_error *err)
{
    fs_ancestor item = { .path = path };
    fs_buf text = { 0 };
    fs_status rc = FS_OK;

    if (fs_provenance_read(path, &item.record, &text, NULL)) { /* no record of ours */
        fs_buf_done(&text);
        free(path);
        return FS_OK;
    }
    if (a->n == a->capacity) {
        size_t capacity = a->capacity ? 2 * a->capacity : 64;
        fs_ancestor *more = realloc(a->items, capacity * sizeof *more);
        if (more) {
            a->items = more;
            a->capacity = capacity;
        } else {
            rc = fs_fail_memory(err, capacity * sizeof *more);
        }
    }
    if (!rc)
        rc = fs_record_id(fs_buf_bytes(&text), &item.id, err);
    fs_buf_done(&text);
    if (rc) {
        fs_record_done(&item.record);
        free(path);
        return rc;
    }
    a->items[a->n++] = item;
    return FS_OK;
}

static fs_status walk(fs_ancestry *a, const char *folder, int depth, fs_error *err)
{
    DIR *d = depth < DEPTH_MAX ? opendir(folder) : NULL;
    struct dirent *e;
    struct stat st;
    fs_status rc = FS_OK;

    while (d && !rc && (e = readdir(d)) != NULL) {
        char *path = e->d_name[0] == '.' ? NULL : fs_path_join(folder, e->d_name);
        if (!path && e->d_name[0] != '.') {
            rc = fs_fail_memory(err, strlen(folder));
        } else if (path && lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) { /* a link could lead round in a circle */
            rc = walk(a, path, depth + 1, err);
        } else if (path && strcmp(e->d_name, FOLDER_RECORD) == 0) {
            char *of = strdup(folder);
            rc = of ? add(a, of, err) : fs_fail_memory(err, strlen(folder));
        } else if (path && fs_ends_with(path, ".rec")) {
            path[strlen(path) - 4] = 0;
            if (fs_file_exists(path)) {
                rc = add(a, path, err);
                path = NULL;
            }
        }
        free(path);
    }
    if (d)
        closedir(d);
    return rc;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const fs_ancestor *)a)->path, ((const fs_ancestor *)b)->path);
}

fs_status fs_ancestry_read(const char *folder, fs_ancestry *ret, fs_error *err)
{
    fs_ancestry a = { 0 };
    fs_status rc = walk(&a, folder, 0, err);

    if (rc) {
        fs_ancestry_done(&a);
        return rc;
    }
    if (a.n > 1)
        qsort(a.items, a.n, sizeof *a.items, by_path);
    *ret = a;
    return FS_OK;
}

void fs_ancestry_done(fs_ancestry *a)
{
    for (size_t i = 0; i < a->n; i++) {
        fs_record_done(&a->items[i].record);
        free(a->items[i].path);
    }
    free(a->items);
    *a = (fs_ancestry){ 0 };
}

/* ---- what a record was made from ---- */

static fs_ancestor *with_id(fs_ancestry *a, const fs_root *id)
{
    for (size_t i = 0; i < a->n; i++)
        if (fs_root_equal(&a->items[i].id, id))
            return &a->items[i];
    return NULL;
}

static bool has_file(const fs_record *r, const fs_root *hash)
{
    const char *value;
    fs_root have;

    for (size_t i = 0; (value = fs_record_get(r, FS_RECORD_FILE, i)) != NULL; i++) {
        fs_record_hashed(value, &have);
        if (fs_root_equal(&have, hash))
            return true;
    }
    return false;
}

/* A record of data with that file, else of a model. */
static fs_ancestor *with_file(fs_ancestry *a, const fs_root *hash)
{
    for (int data = 1; data >= 0; data--)
        for (size_t i = 0; i < a->n; i++)
            if (fs_record_is_data(&a->items[i].record) == (data == 1) && has_file(&a->items[i].record, hash))
                return &a->items[i];
    return NULL;
}

static fs_ancestor *with_result(fs_ancestry *a, const fs_root *root)
{
    fs_root have;

    for (size_t i = 0; i < a->n; i++) {
        fs_record_result(&a->items[i].record, &have);
        if (!fs_record_is_data(&a->items[i].record) && fs_root_equal(&have, root))
            return &a->items[i];
    }
    return NULL;
}

static void say(fs_provenance_say *fn, void *ud, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void say(fs_provenance_say *fn, void *ud, const char *format, ...)
{
    fs_error e;
    va_list args;

    va_start(args, format);
    fs_fail_va(&e, FS_ERR_FORMAT, format, args); /* without control characters */
    va_end(args);
    fn(ud, e.message);
}

/* The one of that id; or what is the same by its hashes, but has another record. */
static void want(fs_ancestry *a, const fs_root *id, fs_ancestor *alike, const char *what, fs_provenance_say *wrong, void *ud)
{
    fs_ancestor *found = with_id(a, id);
    char hex[65], other[65];

    fs_root_hex(id, hex);
    if (found) {
        found->wanted = true;
    } else if (alike) {
        fs_root_hex(&alike->id, other);
        say(wrong, ud, "the record of '%s', %s, is not that which %s was made by: its id is %s, not %s", alike->path,
            fs_record_get(&alike->record, FS_RECORD_VERB, 0), what, other, hex);
        alike->wanted = true;
    } else {
        say(wrong, ud, "%s was made as the record %s says, which is not there", what, hex);
    }
}

static void mark_parent(fs_ancestry *a, const char *value, fs_provenance_say *wrong, fs_provenance_say *begins, void *ud)
{
    fs_root root, id;
    fs_ancestor *alike;
    char what[96];

    fs_record_parent(value, &root);
    alike = with_result(a, &root);
    snprintf(what, sizeof what, "parent %.64s", value);
    if (fs_record_id_of(value, &id))
        want(a, &id, alike, what, wrong, ud);
    else if (alike)
        alike->wanted = true;
    else
        say(begins, ud, "%s, which has no record", what);
}

static const char *made_of(const fs_record *r, const char *data)
{
    const char *value;

    for (size_t i = 0; (value = fs_record_get(r, FS_RECORD_MADE, i)) != NULL; i++)
        if (strncmp(value, data, 64) == 0)
            return value;
    return NULL;
}

/* Roots ("tokens") are of no file and have no record: what they were made from stands beside them. */
static bool is_root(const char *what)
{
    return strchr(what, ' ') == NULL && strcmp(what, "tokenizer") != 0 && strcmp(what, "imatrix") != 0;
}

static void mark_data(fs_ancestry *a, const fs_record *r, const char *value, fs_provenance_say *wrong, fs_provenance_say *begins, void *ud)
{
    const char *made = made_of(r, value), *what;
    fs_root hash, id;
    fs_ancestor *alike;
    char name[160];

    what = fs_record_hashed(value, &hash);
    if (is_root(what) || strncmp(what, "model ", 6) == 0) /* the parent's record tells */
        return;
    alike = with_file(a, &hash);
    snprintf(name, sizeof name, "data '%.120s'", what);
    if (made && fs_record_id_of(made, &id))
        want(a, &id, alike, name, wrong, ud);
    else if (alike)
        alike->wanted = true;
    else
        say(begins, ud, "%s %.64s, which has no record", name, value);
}

void fs_ancestry_mark(fs_ancestry *a, const fs_record *r, fs_provenance_say *wrong, fs_provenance_say *begins, void *ud)
{
    const char *value, *seed = fs_record_recipe(r, "seed");

    for (size_t i = 0; (value = fs_record_get(r, FS_RECORD_PARENT, i)) != NULL; i++)
        mark_parent(a, value, wrong, begins, ud);
    for (size_t i = 0; (value = fs_record_get(r, FS_RECORD_DATA, i)) != NULL; i++)
        mark_data(a, r, value, wrong, begins, ud);
    if ((value = fs_record_get(r, FS_RECORD_INIT, 0)) != NULL)
        say(begins, ud, "weights drawn from seed %s", value);
    else if (!fs_record_get(r, FS_RECORD_PARENT, 0) && !fs_record_get(r, FS_RECORD_DATA, 0))
        say(begins, ud, "seed %s", seed ? seed : "0");
}

fs_ancestor *fs_ancestry_next(fs_ancestry *a)
{
    for (size_t i = 0; i < a->n; i++)
        if (a->items[i].wanted && !a->items[i].seen) {
            a->items[i].seen = true;
            return &a->items[i];
        }
    return NULL;
}
