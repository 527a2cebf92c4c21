/* See the header. */
#include "hub/scan.h"

#include "base/json.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "hub/zip.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define ENTRY_MAX   ((size_t)256 << 20) /* of a packed entry */
#define ENTRIES_MAX 200000
#define CONFIG_MAX  ((size_t)4 << 20)
#define SEARCH_MAX  ((size_t)64 << 20) /* of a Keras file's beginning, and of its end */

static void say(fs_scan *s, fs_scan_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The worst is what is said. */
static void say(fs_scan *s, fs_scan_level level, const char *format, ...)
{
    va_list ap;

    if (level <= s->level)
        return;
    s->level = level;
    va_start(ap, format);
    vsnprintf(s->message, sizeof s->message, format, ap);
    va_end(ap);
}

static bool ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), k = strlen(end);

    return n >= k && strcasecmp(path + n - k, end) == 0;
}

const char *fs_scan_kind(const char *path)
{
    static const char *const kinds[][2] = {
        { ".bin", "pickle" },   { ".pt", "pickle" },  { ".pth", "pickle" }, { ".pkl", "pickle" },   { ".pickle", "pickle" },           { ".ckpt", "pickle" }, { ".joblib", "pickle" },
        { ".dat", "pickle" },   { ".data", "pickle" }, { ".p", "pickle" },   { ".ptl", "pickle" },   { ".npy", "array" },               { ".npz", "array" },   { ".py", "python" },
        { "config.json", "config" }, { ".safetensors", "safetensors" }, { ".gguf", "gguf" }, { ".h5", "keras" }, { ".hdf5", "keras" }, { ".keras", "keras" }, { ".pb", "graph" },
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (ends_with(path, kinds[i][0]))
            return kinds[i][1];
    return "any";
}

const char *fs_scan_level_name(fs_scan_level level)
{
    static const char *const names[] = { "safe", "caution", "suspicious", "unsafe" };

    return names[level];
}

static bool begins(fs_bytes file, const char *text, size_t n)
{
    return file.n_bytes >= n && memcmp(file.data, text, n) == 0;
}

static bool has(fs_bytes text, const char *word)
{
    return memmem(text.data, text.n_bytes, word, strlen(word)) != NULL;
}

/* ---- kinds ---- */

static fs_status scan_pickle(fs_bytes data, fs_scan *s, fs_error *err)
{
    size_t n_whole = s->pickle.n_whole;
    fs_status rc = fs_pickle_read(data, &s->pickle, err);

    s->is_pickle = s->is_pickle || s->pickle.n_whole > n_whole || s->pickle.n_imports > 0;
    return rc;
}

static void judge_pickle(fs_scan *s)
{
    fs_pickle_level worst = fs_pickle_worst(&s->pickle);

    for (size_t i = 0; i < s->pickle.n_imports; i++) {
        const fs_pickle_import *x = s->pickle.imports + i;
        if (x->level == worst && worst > FS_PICKLE_INNOCUOUS)
            say(s, worst == FS_PICKLE_DANGEROUS ? FS_SCAN_UNSAFE : FS_SCAN_SUSPICIOUS, "a pickle that imports %s.%s", x->module, x->name);
    }
    if (s->pickle.cut)
        say(s, FS_SCAN_SUSPICIOUS, "a pickle that is too deep to be followed");
}

/* Of NumPy: objects are pickled behind the header. */
static fs_status scan_array(fs_bytes file, fs_scan *s, fs_error *err)
{
    size_t at, n;

    if (!begins(file, "\x93NUMPY", 6) || file.n_bytes < 12)
        return scan_pickle(file, s, err); /* which numpy.load takes, too */
    if (file.data[6] == 1) {
        at = 10;
        n = file.data[8] | (size_t)file.data[9] << 8;
    } else {
        at = 12;
        n = file.data[8] | (size_t)file.data[9] << 8 | (size_t)file.data[10] << 16 | (size_t)file.data[11] << 24;
    }
    if (n > file.n_bytes - at) {
        say(s, FS_SCAN_CAUTION, "no array: its header is longer than the file");
        return FS_OK;
    }
    if (!has((fs_bytes){ file.data + at, n }, "O")) /* descr: '|O', or within the fields of a record */
        return FS_OK;
    return scan_pickle((fs_bytes){ file.data + at + n, file.n_bytes - at - n }, s, err);
}

static void scan_lambda(fs_bytes text, fs_scan *s)
{
    if (has(text, "\"class_name\": \"Lambda\"") || has(text, "\"class_name\":\"Lambda\""))
        say(s, FS_SCAN_UNSAFE, "a model of Keras with a Lambda layer, whose code runs when it is loaded");
}

static void scan_config(fs_bytes text, fs_scan *s)
{
    struct json_object *o = NULL, *map;

    if (text.n_bytes > CONFIG_MAX || !has(text, "auto_map") || fs_json_parse(text, "config.json", &o, NULL) != FS_OK)
        return;
    map = json_object_is_type(o, json_type_object) ? fs_json_member(o, "auto_map") : NULL;
    if (map && json_object_is_type(map, json_type_object)) {
        json_object_object_foreach(map, key, value) {
            if (json_object_is_type(value, json_type_array) && json_object_array_length(value) > 0)
                value = json_object_array_get_idx(value, 0);
            if (json_object_is_type(value, json_type_string))
                say(s, FS_SCAN_CAUTION, "auto_map: %.60s is %.120s, Python that runs when a client is told to trust it", key, json_object_get_string(value));
        }
    }
    json_object_put(o);
}

static fs_status scan_zip(fs_zip *z, fs_scan *s, fs_error *err)
{
    fs_zip_entry e;
    fs_error why = { 0 };
    fs_buf buf = { 0 };
    bool more = true;
    int n = 0;
    fs_status rc = FS_OK, read;

    while (!rc && (read = fs_zip_next(z, &e, &more, &why)) == FS_OK && more && n++ < ENTRIES_MAX) {
        char name[300];
        const char *kind;
        fs_bytes content;
        snprintf(name, sizeof name, "%.*s", (int)(e.name.n_bytes < 299 ? e.name.n_bytes : 299), (const char *)e.name.data);
        kind = e.name.n_bytes < 299 ? fs_scan_kind(name) : "pickle";
        if (strcmp(kind, "python") == 0 && !strstr(name, "/code/"))
            say(s, FS_SCAN_CAUTION, "Python within: %.200s", name);
        if (strcmp(kind, "pickle") != 0 && strcmp(kind, "array") != 0 && strcmp(kind, "config") != 0)
            continue;
        read = fs_zip_read(&e, ENTRY_MAX, &buf, &content, &why);
        if (read == FS_ERR_MEMORY)
            rc = fs_fail_memory(err, ENTRY_MAX);
        if (read)
            break;
        if (strcmp(kind, "array") == 0)
            rc = scan_array(content, s, err);
        else if (strcmp(kind, "pickle") == 0)
            rc = scan_pickle(content, s, err);
        else
            scan_lambda(content, s);
        if (e.deflated && content.n_bytes >= ENTRY_MAX)
            s->pickle.cut = true;
    }
    if (!rc && (read || n > ENTRIES_MAX))
        say(s, FS_SCAN_CAUTION, "%.200s", read ? why.message : "zip: too many entries to be looked at");
    fs_buf_done(&buf);
    return rc;
}

/* Zips first: their readers look at a file's end, those of pickles at its beginning. */
static fs_status scan_checkpoint(fs_bytes file, bool array, fs_scan *s, fs_error *err)
{
    fs_error why = { 0 };
    fs_zip z;
    fs_status rc = fs_zip_open(file, &z, &why);

    if (rc == FS_OK)
        rc = scan_zip(&z, s, err);
    else if (rc == FS_ERR_FORMAT || begins(file, "PK\3\4", 4))
        say(s, FS_SCAN_CAUTION, "%.200s", rc == FS_ERR_FORMAT ? why.message : "zip: it has no directory");
    if (rc == FS_ERR_FORMAT || rc == FS_ERR_NOT_FOUND)
        rc = FS_OK;
    if (!rc && !begins(file, "PK\3\4", 4))
        rc = array ? scan_array(file, s, err) : scan_pickle(file, s, err);
    return rc;
}

static fs_status scan_keras(fs_bytes file, fs_scan *s, fs_error *err)
{
    if (begins(file, "PK\3\4", 4))
        return scan_checkpoint(file, false, s, err);
    scan_lambda((fs_bytes){ file.data, file.n_bytes < SEARCH_MAX ? file.n_bytes : SEARCH_MAX }, s);
    if (file.n_bytes > SEARCH_MAX)
        scan_lambda((fs_bytes){ file.data + file.n_bytes - SEARCH_MAX, SEARCH_MAX }, s);
    return FS_OK;
}

bool fs_scan_is_more(fs_bytes first)
{
    return begins(first, "PK\3\4", 4) || begins(first, "\x89HDF\r\n\x1a\n", 8) || (first.n_bytes > 2 && first.data[0] == 0x80 && first.data[1] >= 2 && first.data[1] <= 5);
}

fs_status fs_scan_file(fs_bytes file, const char *kind, fs_scan *ret, fs_error *err)
{
    fs_error why = { 0 };
    fs_status rc = FS_OK;

    *ret = (fs_scan){ .level = FS_SCAN_SAFE };
    if (strcmp(kind, "pickle") == 0 || strcmp(kind, "array") == 0) {
        rc = scan_checkpoint(file, strcmp(kind, "array") == 0, ret, err);
    } else if (strcmp(kind, "python") == 0) {
        if (file.n_bytes)
            say(ret, FS_SCAN_CAUTION, "Python, which a client runs when it is told to trust it");
    } else if (strcmp(kind, "config") == 0) {
        scan_config(file, ret);
    } else if (strcmp(kind, "safetensors") == 0) {
        fs_safetensors *s = NULL;
        rc = fs_safetensors_open(file, "file", &s, &why);
        fs_safetensors_close(s);
    } else if (strcmp(kind, "gguf") == 0) {
        fs_gguf *g = NULL;
        rc = fs_gguf_open(file, "file", &g, &why);
        ret->n_read = file.n_bytes; /* as far as the first tensor, behind the tables */
        for (size_t i = 0; !rc && i < fs_gguf_n_tensors(g); i++)
            ret->n_read = (uint64_t)(fs_gguf_tensor_at(g, i)->data - file.data) < ret->n_read ? (uint64_t)(fs_gguf_tensor_at(g, i)->data - file.data) : ret->n_read;
        fs_gguf_close(g);
    } else if (strcmp(kind, "keras") == 0 || begins(file, "\x89HDF\r\n\x1a\n", 8)) {
        rc = scan_keras(file, ret, err);
    } else if (strcmp(kind, "graph") == 0) {
        if (has(file, "WriteFile") || has(file, "ReadFile"))
            say(ret, FS_SCAN_SUSPICIOUS, "a graph of TensorFlow that reads or writes files");
    } else if (begins(file, "PK\3\4", 4) || (file.n_bytes > 2 && file.data[0] == 0x80 && file.data[1] >= 2 && file.data[1] <= 5)) {
        rc = scan_checkpoint(file, false, ret, err);
    }
    if (rc && why.message[0] && rc != FS_ERR_MEMORY) { /* is not what it is called */
        say(ret, FS_SCAN_CAUTION, "%.250s", why.message);
        rc = FS_OK;
    } else if (rc && why.message[0]) {
        rc = fs_fail_memory(err, 0);
    }
    judge_pickle(ret);
    ret->n_read = ret->pickle.n_read > ret->n_read ? ret->pickle.n_read : ret->n_read;
    if (rc)
        fs_scan_done(ret);
    return rc;
}

void fs_scan_done(fs_scan *s)
{
    fs_pickle_done(&s->pickle);
}
