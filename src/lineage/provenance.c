/* See the header. */
#include "lineage/provenance.h"

#include "base/file.h"
#include "formats/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD         "farseek.rec"
#define ROOTS          "farseek.roots"
#define RECIPE         "recipe.yaml"
#define SIGNATURE_END  ".minisig"
#define NAMED_MAX      10
#define FILE_BYTES_MAX ((size_t)1 << 30)

static char *joined(const char *a, const char *b)
{
    char *s = malloc(strlen(a) + strlen(b) + 1);

    if (s)
        strcat(strcpy(s, a), b);
    return s;
}

fs_status fs_provenance_paths_of(const char *model, fs_provenance_paths *ret, fs_error *err)
{
    bool folder = fs_file_is_folder(model);
    fs_provenance_paths p = { 0 };

    p.record = folder ? fs_path_join(model, RECORD) : joined(model, ".rec");
    p.roots = folder ? fs_path_join(model, ROOTS) : joined(model, ".roots");
    p.recipe = folder ? fs_path_join(model, RECIPE) : joined(model, ".yaml");
    p.signature = p.record ? joined(p.record, SIGNATURE_END) : NULL;
    if (!p.record || !p.roots || !p.signature || !p.recipe) {
        fs_provenance_paths_done(&p);
        return fs_fail_memory(err, strlen(model) + 32);
    }
    *ret = p;
    return FS_OK;
}

void fs_provenance_paths_done(fs_provenance_paths *p)
{
    if (!p)
        return;
    free(p->record);
    free(p->roots);
    free(p->signature);
    free(p->recipe);
    *p = (fs_provenance_paths){ 0 };
}

/* ---- roots ---- */

/* An adapter's folder has no configuration of a model. */
static fs_status roots_of_adapter(const char *file, fs_pool *pool, const fs_progress *progress, fs_roots *ret, fs_error *err)
{
    fs_map map = { 0 };
    fs_safetensors *s = NULL;
    const fs_tensor **list = NULL;
    size_t n = 0;
    fs_status rc = fs_map_open(&map, file, err);

    if (!rc)
        rc = fs_safetensors_open(map.bytes, file, &s, err);
    if (!rc) {
        n = fs_safetensors_n_tensors(s);
        list = malloc((n + 1) * sizeof *list);
        rc = list ? FS_OK : fs_fail_memory(err, n * sizeof *list);
    }
    for (size_t i = 0; !rc && i < n; i++)
        list[i] = fs_safetensors_tensor_at(s, i);
    if (!rc)
        rc = fs_roots_of_tensors(list, n, pool, progress, ret, err);
    free(list);
    fs_safetensors_close(s);
    fs_map_close(&map);
    return rc;
}

fs_status fs_provenance_roots(const char *path, fs_pool *pool, const fs_progress *progress, fs_roots *ret, fs_error *err)
{
    char *adapter = fs_path_join(path, "adapter_model.safetensors");
    fs_weights *w = NULL;
    fs_status rc;

    if (!adapter)
        return fs_fail_memory(err, strlen(path));
    if (fs_file_exists(adapter)) {
        rc = roots_of_adapter(adapter, pool, progress, ret, err);
        free(adapter);
        return rc;
    }
    free(adapter);
    rc = fs_weights_open(path, &w, err);
    if (!rc)
        rc = fs_roots_of(w, pool, progress, ret, err);
    fs_weights_close(w);
    return rc;
}

/* ---- roots of data ---- */

/* Files of data, mapped, as tensors. */
typedef struct files {
    fs_map *maps;
    fs_tensor *items;
    const fs_tensor **list;
    char **names;
    size_t n, capacity;
} files;

static fs_status reserve_file(files *f, fs_error *err)
{
    size_t n = f->capacity ? 2 * f->capacity : 16;
    fs_map *maps = f->n < f->capacity ? f->maps : realloc(f->maps, n * sizeof *maps);
    char **names = f->n < f->capacity ? f->names : realloc(f->names, n * sizeof *names);

    f->maps = maps ? maps : f->maps;
    f->names = names ? names : f->names;
    if (!maps || !names)
        return fs_fail_memory(err, n * sizeof *maps);
    f->capacity = f->n < f->capacity ? f->capacity : n;
    return FS_OK;
}

static fs_status add_file(files *f, const char *path, const char *name, fs_error *err)
{
    fs_map map = { 0 };
    char *copy;
    fs_status rc = reserve_file(f, err);

    if (!rc)
        rc = fs_map_open(&map, path, err);
    if (rc)
        return rc;
    copy = strdup(name);
    if (!copy) {
        fs_map_close(&map);
        return fs_fail_memory(err, strlen(name) + 1);
    }
    f->maps[f->n] = map;
    f->names[f->n++] = copy;
    return FS_OK;
}

static void files_done(files *f)
{
    for (size_t i = 0; i < f->n; i++) {
        fs_map_close(&f->maps[i]);
        free(f->names[i]);
    }
    free(f->maps);
    free(f->names);
    free(f->items);
    free(f->list);
}

/* Files of data: not what tells of them. */
static bool is_of_data(const char *name)
{
    return name[0] != '.' && strncmp(name, RECORD, strlen(RECORD)) != 0 && strcmp(name, RECIPE) != 0;
}

typedef fs_status folder_fn(void *ud, const char *path, const char *name, fs_error *err);

/* The regular files of a folder, not those of folders in it. */
static fs_status each_file(const char *folder, folder_fn *fn, void *ud, fs_error *err)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    struct stat st;
    fs_status rc = FS_OK;

    if (!d)
        return fs_fail_errno(err, errno, "cannot read '%s'", folder);
    while (!rc && (e = readdir(d)) != NULL) {
        char *path = fs_path_join(folder, e->d_name);
        if (!path)
            rc = fs_fail_memory(err, strlen(folder) + strlen(e->d_name) + 2);
        else if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
            rc = fn(ud, path, e->d_name, err);
        free(path);
    }
    closedir(d);
    return rc;
}

static fs_status add_if_data(void *ud, const char *path, const char *name, fs_error *err)
{
    return is_of_data(name) ? add_file(ud, path, name, err) : FS_OK;
}

static fs_status list_files(files *f, fs_error *err)
{
    f->items = calloc(f->n + 1, sizeof *f->items);
    f->list = calloc(f->n + 1, sizeof *f->list);
    if (!f->items || !f->list)
        return fs_fail_memory(err, (f->n + 1) * sizeof *f->items);
    for (size_t i = 0; i < f->n; i++) {
        const fs_bytes b = f->maps[i].bytes;
        f->items[i] = (fs_tensor){ .name = f->names[i], .dtype = FS_DTYPE_U8, .n_dims = 1, .dims = { b.n_bytes }, .data = b.data, .n_bytes = b.n_bytes };
        f->list[i] = &f->items[i];
    }
    qsort(f->items, f->n, sizeof *f->items, fs_tensor_by_name);
    return FS_OK;
}

fs_status fs_provenance_data_roots(const char *path, fs_pool *pool, const fs_progress *progress, fs_roots *ret, fs_error *err)
{
    files f = { 0 };
    fs_status rc = fs_file_is_folder(path) ? each_file(path, add_if_data, &f, err) : add_file(&f, path, "data", err);

    if (!rc)
        rc = list_files(&f, err);
    if (!rc)
        rc = fs_roots_of_tensors(f.list, f.n, pool, progress, ret, err);
    files_done(&f);
    return rc;
}

/* ---- hashes of files ---- */

fs_status fs_provenance_hash(const char *path, fs_root *ret, fs_error *err)
{
    fs_map m = { 0 };
    fs_status rc = fs_map_open(&m, path, err);

    if (!rc)
        rc = fs_record_id(m.bytes, ret, err);
    fs_map_close(&m);
    return rc;
}

/* ---- writing a record ---- */

fs_status fs_provenance_parent(fs_record *r, const char *path, const fs_roots *roots, fs_error *err)
{
    char root[65], id_hex[65];
    fs_record parent = { 0 };
    fs_buf text = { 0 };
    fs_root id, said;
    fs_status rc = fs_provenance_read(path, &parent, &text, err);

    fs_root_hex(&roots->model, root);
    if (rc == FS_ERR_NOT_FOUND)
        return fs_record_add(r, err, FS_RECORD_PARENT, "%s", root);
    if (!rc)
        rc = fs_record_id(fs_buf_bytes(&text), &id, err);
    if (!rc) {
        fs_record_result(&parent, &said);
        fs_root_hex(&id, id_hex);
        rc = !fs_root_equal(&said, &roots->model) ?
                 fs_fail(err, FS_ERR_FORMAT, "'%s': its weights are not those of its record; farseek verify says which", path) :
                 fs_record_add(r, err, FS_RECORD_PARENT, "%s %s", root, id_hex);
    }
    fs_record_done(&parent);
    fs_buf_done(&text);
    return rc;
}

fs_status fs_provenance_vouch(fs_record *r, const char *licence, const char *signed_off_by, fs_error *err)
{
    fs_status rc = licence ? fs_record_add(r, err, FS_RECORD_LICENCE, "%s", licence) : FS_OK;

    return rc || !signed_off_by ? rc : fs_record_add(r, err, FS_RECORD_SIGNED_OFF, "%s", signed_off_by);
}

fs_status fs_provenance_licence(const char *path, char **ret, fs_error *err)
{
    fs_record parent = { 0 };
    fs_buf text = { 0 };
    fs_status rc = fs_provenance_read(path, &parent, &text, err);
    const char *licence = rc ? NULL : fs_record_get(&parent, FS_RECORD_LICENCE, 0);

    *ret = NULL;
    if (licence && !(*ret = strdup(licence)))
        rc = fs_fail_memory(err, strlen(licence));
    fs_record_done(&parent);
    fs_buf_done(&text);
    return rc == FS_ERR_NOT_FOUND ? FS_OK : rc;
}

/* Files whose hashes a record tells: what is beside the weights in a folder, and is no record, nor what a training resumes by. Of data all of them. */
static bool is_told(const char *name, bool data)
{
    return name[0] != '.' && strncmp(name, RECORD, strlen(RECORD)) != 0 &&
           (data ? strcmp(name, RECIPE) != 0 : (strcmp(name, "training.json") != 0 && !fs_ends_with(name, ".safetensors") && strcmp(name, ROOTS) != 0));
}

static fs_status add_hashed(fs_record *r, fs_record_key key, const char *path, const char *what, fs_error *err)
{
    char hex[65];
    fs_root hash;
    fs_status rc = fs_provenance_hash(path, &hash, err);

    if (rc)
        return rc;
    fs_root_hex(&hash, hex);
    return fs_record_add(r, err, key, "%s %s", hex, what);
}

static bool has_file(const fs_record *r, const char *hash)
{
    const char *value;

    for (size_t i = 0; (value = fs_record_get(r, FS_RECORD_FILE, i)) != NULL; i++)
        if (strncmp(value, hash, 64) == 0)
            return true;
    return false;
}

/* The record of the file at path, or of its folder, where that is one of the file as it is now. */
static fs_status find_maker(const char *path, const char *hash, bool *ret_found, fs_root *ret_id, fs_error *err)
{
    const char *slash = strrchr(path, '/');
    char *const of[] = { strdup(path), slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".") };
    fs_status rc = of[0] && of[1] ? FS_OK : fs_fail_memory(err, strlen(path));

    *ret_found = false;
    for (int i = 0; i < 2 && !rc && !*ret_found; i++) {
        fs_record r = { 0 };
        fs_buf text = { 0 };
        if (fs_provenance_read(of[i], &r, &text, NULL) == FS_OK && has_file(&r, hash)) {
            rc = fs_record_id(fs_buf_bytes(&text), ret_id, err);
            *ret_found = true;
        }
        fs_record_done(&r);
        fs_buf_done(&text);
    }
    free(of[0]);
    free(of[1]);
    return rc;
}

fs_status fs_provenance_data(fs_record *r, const char *path, const char *what, fs_error *err)
{
    size_t n = r->n_of[FS_RECORD_DATA];
    char hash[65], hex[65];
    bool made = false;
    fs_root id;
    fs_status rc = add_hashed(r, FS_RECORD_DATA, path, what, err);

    if (rc)
        return rc;
    snprintf(hash, sizeof hash, "%.64s", fs_record_get(r, FS_RECORD_DATA, n));
    rc = find_maker(path, hash, &made, &id, err);
    if (rc || !made)
        return rc;
    fs_root_hex(&id, hex);
    for (size_t i = 0; fs_record_get(r, FS_RECORD_MADE, i); i++)
        if (strncmp(fs_record_get(r, FS_RECORD_MADE, i), hash, 64) == 0)
            return FS_OK;
    return fs_record_add(r, err, FS_RECORD_MADE, "%s %s", hash, hex);
}

static fs_status tell_file(void *ud, const char *path, const char *name, fs_error *err)
{
    fs_record *r = ud;

    return is_told(name, fs_record_is_data(r)) ? add_hashed(r, FS_RECORD_FILE, path, name, err) : FS_OK;
}

fs_status fs_provenance_end(fs_record *r, const char *path, const fs_roots *roots, fs_error *err)
{
    const char *slash = strrchr(path, '/');
    fs_provenance_paths paths = { 0 };
    fs_buf text = { 0 }, list = { 0 };
    char hex[65];
    fs_status rc = fs_provenance_paths_of(path, &paths, err);

    fs_root_hex(&roots->model, hex);
    if (!rc)
        rc = fs_record_add(r, err, FS_RECORD_RESULT, "%s %zu %" PRIu64, hex, roots->n, roots->n_bytes);
    if (!rc)
        rc = fs_file_is_folder(path) ? each_file(path, tell_file, r, err) : add_hashed(r, FS_RECORD_FILE, path, slash ? slash + 1 : path, err);
    if (!rc && !fs_record_get(r, FS_RECORD_CLASS, 0))
        rc = fs_record_add(r, err, FS_RECORD_CLASS, "A");
    if (!rc)
        rc = fs_record_write(r, &text, err);
    if (!rc && !fs_record_is_data(r))
        rc = fs_roots_write(roots, &list, err);
    if (!rc && !fs_record_is_data(r))
        rc = fs_file_write_atomic(paths.roots, fs_buf_bytes(&list), err);
    if (!rc) {
        rc = fs_file_write_atomic(paths.record, fs_buf_bytes(&text), err);
        if (rc && !fs_record_is_data(r))
            unlink(paths.roots);
    }
    fs_buf_done(&text);
    fs_buf_done(&list);
    fs_provenance_paths_done(&paths);
    return rc;
}

/* ---- reading and checking ---- */

fs_status fs_provenance_read(const char *path, fs_record *ret, fs_buf *ret_text, fs_error *err)
{
    fs_provenance_paths paths = { 0 };
    fs_status rc = fs_provenance_paths_of(path, &paths, err);

    if (!rc && !fs_file_exists(paths.record))
        rc = fs_fail(err, FS_ERR_NOT_FOUND, "'%s' has no record: there is no '%s'", path, paths.record);
    if (!rc)
        rc = fs_file_read(paths.record, FS_RECORD_BYTES_MAX, ret_text, err);
    if (!rc)
        rc = fs_record_read(fs_buf_bytes(ret_text), paths.record, ret, err);
    fs_provenance_paths_done(&paths);
    return rc;
}

static void say(fs_provenance_say *fn, void *ud, size_t *n, const char *format, ...) __attribute__((format(printf, 4, 5)));
static void say(fs_provenance_say *fn, void *ud, size_t *n, const char *format, ...)
{
    fs_error e;
    va_list args;

    va_start(args, format);
    fs_fail_va(&e, FS_ERR_FORMAT, format, args); /* without control characters */
    va_end(args);
    fn(ud, e.message);
    (*n)++;
}

void fs_provenance_compare(const char *what, const fs_roots *want, const fs_roots *have, fs_provenance_say *fn, void *ud, size_t *ret_n)
{
    size_t i = 0, k = 0, n = 0, n_named = 0;

    while (i < want->n || k < have->n) {
        int c = i == want->n ? 1 : k == have->n ? -1 : strcmp(want->items[i].name, have->items[k].name);
        bool differs = c != 0 || !fs_root_equal(&want->items[i].root, &have->items[k].root);
        if (differs && n++ < NAMED_MAX) {
            say(fn, ud, &n_named, c == 0 ? "%s '%s' differs" : c < 0 ? "%s '%s' is missing" : "%s '%s' is not in the record", what,
                c > 0 ? have->items[k].name : want->items[i].name);
        }
        i += c <= 0;
        k += c >= 0;
    }
    if (n > NAMED_MAX)
        say(fn, ud, &n_named, "%zu more %ss differ", n - NAMED_MAX, what);
    *ret_n += n;
}

/* The tensors' names, where the list beside the record is that record's. */
static fs_status compare_with_list(const fs_record *r, const char *path, const fs_roots *have, fs_provenance_say *fn, void *ud, size_t *n,
                                   fs_error *err)
{
    fs_provenance_paths paths = { 0 };
    fs_buf text = { 0 };
    fs_roots want = { 0 };
    fs_root result;
    size_t before = *n;
    fs_status rc = fs_provenance_paths_of(path, &paths, err);

    if (rc)
        return rc;
    fs_record_result(r, &result);
    if (fs_file_exists(paths.roots) && fs_file_read(paths.roots, FILE_BYTES_MAX, &text, NULL) == FS_OK &&
        fs_roots_read(fs_buf_bytes(&text), paths.roots, &want, NULL) == FS_OK && fs_root_equal(&want.model, &result))
        fs_provenance_compare("tensor", &want, have, fn, ud, n);
    if (*n == before) {
        char hex[65], other[65];
        fs_root_hex(&have->model, hex);
        fs_root_hex(&result, other);
        say(fn, ud, n, "the weights' root is %s, the record says %s", hex, other);
    }
    fs_roots_done(&want);
    fs_buf_done(&text);
    fs_provenance_paths_done(&paths);
    return FS_OK;
}

static bool is_plain(const char *name)
{
    return !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static fs_status check_file(const char *value, const char *model, bool folder, fs_provenance_say *fn, void *ud, size_t *n, fs_error *err)
{
    fs_root want, have;
    const char *name = fs_record_hashed(value, &want);
    char *path;
    fs_status rc = FS_OK;

    if (folder && !is_plain(name)) {
        say(fn, ud, n, "the record names a file '%s', which is no plain name", name);
        return FS_OK;
    }
    path = folder ? fs_path_join(model, name) : strdup(model);
    if (!path)
        return fs_fail_memory(err, strlen(model) + strlen(name));
    if (!fs_file_exists(path))
        say(fn, ud, n, "file '%s' is missing", name);
    else if ((rc = fs_provenance_hash(path, &have, err)) == FS_OK && !fs_root_equal(&want, &have))
        say(fn, ud, n, "file '%s' differs", name);
    free(path);
    return rc;
}

fs_status fs_provenance_check(const fs_record *r, const char *path, const fs_roots *roots, fs_provenance_say *fn, void *ud, size_t *ret_n,
                              fs_error *err)
{
    bool folder = fs_file_is_folder(path);
    const char *value;
    fs_root want;
    fs_status rc = FS_OK;

    *ret_n = 0;
    fs_record_result(r, &want);
    if (!fs_record_is_data(r) && !fs_root_equal(&want, &roots->model))
        rc = compare_with_list(r, path, roots, fn, ud, ret_n, err);
    for (size_t i = 0; !rc && (value = fs_record_get(r, FS_RECORD_FILE, i)) != NULL; i++)
        rc = check_file(value, path, folder, fn, ud, ret_n, err);
    if (!rc && fs_record_is_data(r) && *ret_n == 0 && !fs_root_equal(&want, &roots->model))
        say(fn, ud, ret_n, "the files that the record names are as it says, but they have not the root that it says: there is another file, or the record lies");
    return rc;
}
