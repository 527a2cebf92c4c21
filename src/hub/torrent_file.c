/* See the header. */
#include "hub/torrent_file.h"

#include "base/utf8.h"
#include "crypto/sha256.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define PIECES_MORE 4096 /* than files: so long is a torrent's list before its pieces grow */
#define PART_MAX    255

uint64_t fs_torrent_pieces(uint64_t n_bytes, uint32_t piece_bytes)
{
    return n_bytes / piece_bytes + (n_bytes % piece_bytes != 0);
}

uint32_t fs_torrent_piece_bytes(const fs_torrent_file *files, size_t n)
{
    uint32_t piece_bytes = FS_PIECES_LEAF;

    for (; piece_bytes < FS_PIECES_BYTES_MAX; piece_bytes *= 4) {
        uint64_t n_pieces = 0;
        for (size_t i = 0; i < n; i++)
            n_pieces += fs_torrent_pieces(files[i].n_bytes, piece_bytes);
        if (n_pieces <= (uint64_t)n + PIECES_MORE)
            break;
    }
    return piece_bytes;
}

bool fs_torrent_path_is_valid(fs_bytes path)
{
    size_t begin = 0;

    if (path.n_bytes == 0 || !fs_utf8_valid(path))
        return false;
    for (size_t i = 0; i <= path.n_bytes; i++) {
        uint8_t c = i < path.n_bytes ? path.data[i] : '/';
        size_t n = i - begin;
        if (c == '/') {
            if (n == 0 || n > PART_MAX || (n == 1 && path.data[begin] == '.') || (n == 2 && path.data[begin] == '.' && path.data[begin + 1] == '.'))
                return false;
            begin = i + 1;
        } else if (c < 0x20 || c == 0x7f || c == '\\') {
            return false;
        }
    }
    return true;
}

/* By the parts' bytes: a slash, which ends a part, is before everything. */
static int compare(const void *a, const void *b)
{
    const uint8_t *x = (const uint8_t *)((const fs_torrent_file *)a)->path, *y = (const uint8_t *)((const fs_torrent_file *)b)->path;

    while (*x && *x == *y) {
        x++;
        y++;
    }
    return *x == *y ? 0 : (*x == '/' ? 1 : *x ? *x + 1 : 0) - (*y == '/' ? 1 : *y ? *y + 1 : 0);
}

/* The end of the part that begins at path[at]. */
static size_t part_end(const char *path, size_t at)
{
    return at + strcspn(path + at, "/");
}

/* ---- writing ---- */

static fs_status check_paths(const fs_torrent_file *files, size_t n, fs_error *err)
{
    for (size_t i = 0; i < n; i++) {
        size_t n_before = i ? strlen(files[i - 1].path) : 0;
        if (!fs_torrent_path_is_valid(fs_bytes_str(files[i].path)))
            return fs_fail(err, FS_ERR_FORMAT, "'%.200s' is a path that not every client of BitTorrent can write", files[i].path);
        if (i && strncmp(files[i].path, files[i - 1].path, n_before) == 0 && (!files[i].path[n_before] || files[i].path[n_before] == '/'))
            return fs_fail(err, FS_ERR_FORMAT, "'%.200s' is there twice, or a file and a folder", files[i - 1].path);
    }
    return FS_OK;
}

static void put_tree(fs_bencode *b, const fs_torrent_file *files, size_t n, size_t at)
{
    fs_bencode_open(b, 'd');
    for (size_t i = 0; i < n;) {
        const char *path = files[i].path;
        size_t end = part_end(path, at), k = i + 1;
        fs_bencode_bytes(b, (fs_bytes){ (const uint8_t *)path + at, end - at });
        if (path[end]) {
            while (k < n && strncmp(files[k].path + at, path + at, end + 1 - at) == 0)
                k++;
            put_tree(b, files + i, k - i, end + 1);
        } else {
            fs_bencode_open(b, 'd');
            fs_bencode_str(b, "");
            fs_bencode_open(b, 'd');
            fs_bencode_str(b, "length");
            fs_bencode_int(b, (int64_t)files[i].n_bytes);
            if (files[i].n_bytes) {
                fs_bencode_str(b, "pieces root");
                fs_bencode_bytes(b, (fs_bytes){ files[i].root, FS_PIECES_SHA256 });
            }
            fs_bencode_close(b);
            fs_bencode_close(b);
        }
        i = k;
    }
    fs_bencode_close(b);
}

/* ".pad", ".pad_", ...: the first that is no file's or folder's. */
static void choose_pad(const fs_torrent_file *files, size_t n, char ret[PART_MAX + 1])
{
    size_t n_pad = 4;

    strcpy(ret, ".pad");
    for (size_t i = 0; i < n; i++)
        if (part_end(files[i].path, 0) == n_pad && memcmp(files[i].path, ret, n_pad) == 0 && n_pad < PART_MAX) { /* in order, so one pass finds the last */
            ret[n_pad++] = '_';
            ret[n_pad] = 0;
        }
}

static void put_file(fs_bencode *b, const char *attr, uint64_t n_bytes, const char *path)
{
    fs_bencode_open(b, 'd');
    if (attr) {
        fs_bencode_str(b, "attr");
        fs_bencode_str(b, attr);
    }
    fs_bencode_str(b, "length");
    fs_bencode_int(b, (int64_t)n_bytes);
    fs_bencode_str(b, "path");
    fs_bencode_open(b, 'l');
    for (size_t at = 0, end; at <= strlen(path); at = end + 1) {
        end = part_end(path, at);
        fs_bencode_bytes(b, (fs_bytes){ (const uint8_t *)path + at, end - at });
    }
    fs_bencode_close(b);
    fs_bencode_close(b);
}

/* How much padding stands behind a file. */
static uint64_t padding(uint64_t n_bytes, uint32_t piece_bytes)
{
    return n_bytes % piece_bytes ? piece_bytes - n_bytes % piece_bytes : 0;
}

static void put_info(fs_bencode *b, const char *name, uint32_t piece_bytes, const fs_torrent_file *files, size_t n)
{
    char pad[PART_MAX + 1], path[PART_MAX + 32];
    uint64_t n_pieces = 0;

    choose_pad(files, n, pad);
    fs_bencode_open(b, 'd');
    fs_bencode_str(b, "file tree");
    put_tree(b, files, n, 0);
    fs_bencode_str(b, "files");
    fs_bencode_open(b, 'l');
    for (size_t i = 0; i < n; i++) {
        uint64_t more = padding(files[i].n_bytes, piece_bytes);
        put_file(b, NULL, files[i].n_bytes, files[i].path);
        snprintf(path, sizeof path, "%s/%llu", pad, (unsigned long long)more);
        if (more)
            put_file(b, "p", more, path);
        n_pieces += fs_torrent_pieces(files[i].n_bytes, piece_bytes);
    }
    fs_bencode_close(b);
    fs_bencode_str(b, "meta version");
    fs_bencode_int(b, 2);
    fs_bencode_str(b, "name");
    fs_bencode_str(b, name);
    fs_bencode_str(b, "piece length");
    fs_bencode_int(b, piece_bytes);
    fs_bencode_str(b, "pieces");
    if (!b->rc)
        b->rc = fs_buf_printf(&b->out, NULL, "%llu:", (unsigned long long)(n_pieces * FS_PIECES_SHA1));
    for (size_t i = 0; i < n; i++)
        fs_bencode_raw(b, (fs_bytes){ files[i].sha1, (size_t)fs_torrent_pieces(files[i].n_bytes, piece_bytes) * FS_PIECES_SHA1 });
    fs_bencode_close(b);
}

static int compare_roots(const void *a, const void *b)
{
    return memcmp((*(fs_torrent_file *const *)a)->root, (*(fs_torrent_file *const *)b)->root, FS_PIECES_SHA256);
}

static fs_status put_layers(fs_bencode *b, uint32_t piece_bytes, fs_torrent_file *files, size_t n, fs_error *err)
{
    fs_torrent_file **list = calloc(n + 1, sizeof *list);
    size_t n_list = 0;

    if (!list)
        return fs_fail_memory(err, (n + 1) * sizeof *list);
    for (size_t i = 0; i < n; i++)
        if (files[i].n_bytes > piece_bytes)
            list[n_list++] = files + i;
    if (n_list)
        qsort(list, n_list, sizeof *list, compare_roots);
    fs_bencode_open(b, 'd');
    for (size_t i = 0; i < n_list; i++) {
        if (i && compare_roots(list + i - 1, list + i) == 0)
            continue; /* equal files have one */
        fs_bencode_bytes(b, (fs_bytes){ list[i]->root, FS_PIECES_SHA256 });
        fs_bencode_bytes(b, (fs_bytes){ list[i]->layer, (size_t)fs_torrent_pieces(list[i]->n_bytes, piece_bytes) * FS_PIECES_SHA256 });
    }
    fs_bencode_close(b);
    free(list);
    return FS_OK;
}

fs_status fs_torrent_write_info(const char *name, uint32_t piece_bytes, fs_torrent_file *files, size_t n, fs_buf *ret_info, fs_buf *ret_layers, fs_error *err)
{
    fs_bencode info = { .rc = FS_OK }, layers = { .rc = FS_OK };
    fs_status rc;

    if (n)
        qsort(files, n, sizeof *files, compare);
    rc = check_paths(files, n, err);
    if (!rc) {
        put_info(&info, name, piece_bytes, files, n);
        rc = put_layers(&layers, piece_bytes, files, n, err);
    }
    if (!rc && (info.rc || layers.rc))
        rc = fs_fail_memory(err, info.out.n_bytes + layers.out.n_bytes);
    if (rc) {
        fs_buf_done(&info.out);
        fs_buf_done(&layers.out);
    } else {
        *ret_info = info.out;
        *ret_layers = layers.out;
    }
    return rc;
}

fs_status fs_torrent_write(fs_bytes info, fs_bytes layers, bool is_private, const char *const *urls, size_t n_urls, fs_buf *ret, fs_error *err)
{
    fs_bencode b = { .rc = FS_OK };

    fs_bencode_open(&b, 'd');
    fs_bencode_str(&b, "info");
    fs_bencode_raw(&b, (fs_bytes){ info.data, info.n_bytes - 1 });
    if (is_private) { /* behind "pieces", the last one */
        fs_bencode_str(&b, "private");
        fs_bencode_int(&b, 1);
    }
    fs_bencode_close(&b);
    fs_bencode_str(&b, "piece layers");
    fs_bencode_raw(&b, layers);
    fs_bencode_str(&b, "url-list");
    fs_bencode_open(&b, 'l');
    for (size_t i = 0; i < n_urls; i++)
        fs_bencode_str(&b, urls[i]);
    fs_bencode_close(&b);
    fs_bencode_close(&b);
    if (b.rc) {
        fs_buf_done(&b.out);
        return fs_fail_memory(err, info.n_bytes + layers.n_bytes);
    }
    *ret = b.out;
    return FS_OK;
}

/* ---- reading ---- */

static fs_status broken(fs_error *err, const char *what)
{
    return fs_fail(err, FS_ERR_FORMAT, "torrent: %s", what);
}

static fs_status add_file(fs_torrent *t, size_t *capacity, const fs_buf *path, uint64_t n_bytes, const uint8_t *root, fs_error *err)
{
    char *copy;

    if (t->n == *capacity) {
        size_t more = *capacity ? 2 * *capacity : 16;
        fs_torrent_file *files = realloc(t->files, more * sizeof *files);
        if (!files)
            return fs_fail_memory(err, more * sizeof *files);
        t->files = files;
        *capacity = more;
    }
    copy = strndup(path->data, path->n_bytes);
    if (!copy)
        return fs_fail_memory(err, path->n_bytes);
    t->files[t->n++] = (fs_torrent_file){ .path = copy, .n_bytes = n_bytes, .root = root };
    return FS_OK;
}

/* The leaf of a file tree, {"": {length, pieces root}}. */
static fs_status read_leaf(const fs_bvalue *leaf, uint64_t *ret_bytes, const uint8_t **ret_root, fs_error *err)
{
    fs_bytes rest = leaf->inner;
    fs_bvalue key, length, root;

    if (leaf->kind != 'd' || !fs_bencode_next(&rest, &key) || !fs_bytes_equal(key.inner, FS_BYTES_LIT("length")) || !fs_bencode_next(&rest, &length) || length.kind != 'i' || length.number < 0)
        return broken(err, "a file has no length");
    *ret_bytes = (uint64_t)length.number;
    *ret_root = NULL;
    if (length.number > 0) {
        if (!fs_bencode_next(&rest, &key) || !fs_bytes_equal(key.inner, FS_BYTES_LIT("pieces root")) || !fs_bencode_next(&rest, &root) || root.kind != 's' || root.inner.n_bytes != FS_PIECES_SHA256)
            return broken(err, "a file has no root");
        *ret_root = root.inner.data;
    }
    return rest.n_bytes ? broken(err, "a file has more than length and root") : FS_OK;
}

static fs_status read_tree(fs_torrent *t, size_t *capacity, fs_bytes rest, fs_buf *path, fs_error *err)
{
    size_t n_prefix = path->n_bytes;
    fs_bvalue name, node, first;
    fs_status rc = FS_OK;

    while (!rc && fs_bencode_next(&rest, &name)) {
        fs_bytes inner;
        if (!fs_bencode_next(&rest, &node) || node.kind != 'd' || node.inner.n_bytes == 0)
            return broken(err, "an entry of the file tree is neither a file nor a folder");
        if (memchr(name.inner.data, '/', name.inner.n_bytes) || !fs_torrent_path_is_valid(name.inner))
            return broken(err, "a name in the file tree");
        if (n_prefix)
            rc = fs_buf_append(path, "/", 1, err);
        if (!rc)
            rc = fs_buf_append(path, name.inner.data, name.inner.n_bytes, err);
        inner = node.inner;
        if (!rc && fs_bencode_next(&inner, &first) && first.inner.n_bytes == 0) {
            uint64_t n_bytes = 0;
            const uint8_t *root = NULL;
            if (!fs_bencode_next(&inner, &first) || inner.n_bytes)
                return broken(err, "a file that is a folder, too");
            rc = read_leaf(&first, &n_bytes, &root, err);
            if (!rc)
                rc = add_file(t, capacity, path, n_bytes, root, err);
        } else if (!rc) {
            rc = read_tree(t, capacity, node.inner, path, err);
        }
        path->n_bytes = n_prefix;
    }
    return rc;
}

/* An entry of the v1 list is path, of n_bytes, padding or not. */
static bool is_entry(const fs_bvalue *e, uint64_t n_bytes, const char *path)
{
    fs_bytes rest = e->inner, parts;
    fs_bvalue key, value;
    size_t at = 0, n = path ? strlen(path) : 0;

    if (e->kind != 'd' || !fs_bencode_next(&rest, &key) || !fs_bencode_next(&rest, &value))
        return false;
    if (!path && (!fs_bytes_equal(key.inner, FS_BYTES_LIT("attr")) || value.kind != 's' || !fs_bytes_equal(value.inner, FS_BYTES_LIT("p")) || !fs_bencode_next(&rest, &key) || !fs_bencode_next(&rest, &value)))
        return false;
    if (!fs_bytes_equal(key.inner, FS_BYTES_LIT("length")) || value.kind != 'i' || value.number < 0 || (uint64_t)value.number != n_bytes)
        return false;
    if (!fs_bencode_next(&rest, &key) || !fs_bytes_equal(key.inner, FS_BYTES_LIT("path")) || !fs_bencode_next(&rest, &value) || value.kind != 'l' || rest.n_bytes)
        return false;
    parts = value.inner;
    if (!path)
        return parts.n_bytes > 0;
    while (fs_bencode_next(&parts, &value)) {
        size_t end = at <= n ? part_end(path, at) : at;
        if (at > n || value.kind != 's' || !fs_bytes_equal(value.inner, (fs_bytes){ (const uint8_t *)path + at, end - at }))
            return false;
        at = end + 1;
    }
    return at == n + 1;
}

/* The v1 list says the same as the tree, and the pieces are as many as it takes. */
static fs_status read_v1(fs_torrent *t, const fs_bvalue *files, fs_bytes pieces, fs_error *err)
{
    fs_bytes rest = files->inner;
    fs_bvalue e;
    uint64_t n_pieces = 0;

    for (size_t i = 0; i < t->n; i++) {
        uint64_t more = padding(t->files[i].n_bytes, t->piece_bytes), n = fs_torrent_pieces(t->files[i].n_bytes, t->piece_bytes);
        if (!fs_bencode_next(&rest, &e) || !is_entry(&e, t->files[i].n_bytes, t->files[i].path))
            return fs_fail(err, FS_ERR_FORMAT, "torrent: '%.200s' of the file tree is not the next one of files", t->files[i].path);
        if (more && (!fs_bencode_next(&rest, &e) || !is_entry(&e, more, NULL)))
            return fs_fail(err, FS_ERR_FORMAT, "torrent: no padding behind '%.200s'", t->files[i].path);
        if (n > pieces.n_bytes / FS_PIECES_SHA1 - n_pieces)
            return broken(err, "too few pieces");
        t->files[i].sha1 = pieces.data + n_pieces * FS_PIECES_SHA1;
        n_pieces += n;
    }
    if (rest.n_bytes)
        return broken(err, "files has more than the file tree");
    return n_pieces * FS_PIECES_SHA1 == pieces.n_bytes ? FS_OK : broken(err, "too many pieces");
}

/* Each file of more than one piece has its layer, which makes its root, and no other has one. */
static fs_status read_layers(fs_torrent *t, const fs_bvalue *layers, fs_error *err)
{
    fs_torrent_file **list = calloc(t->n + 1, sizeof *list);
    size_t n_list = 0, i = 0;
    fs_bytes rest = layers->inner;
    fs_bvalue key, layer;
    fs_status rc = list ? FS_OK : fs_fail_memory(err, (t->n + 1) * sizeof *list);

    for (size_t k = 0; !rc && k < t->n; k++)
        if (t->files[k].n_bytes > t->piece_bytes)
            list[n_list++] = t->files + k;
    if (!rc && n_list)
        qsort(list, n_list, sizeof *list, compare_roots);
    while (!rc && fs_bencode_next(&rest, &key) && fs_bencode_next(&rest, &layer)) {
        uint8_t root[FS_PIECES_SHA256];
        size_t first = i;
        for (; i < n_list && key.inner.n_bytes == FS_PIECES_SHA256 && memcmp(list[i]->root, key.inner.data, FS_PIECES_SHA256) == 0; i++) {
            if (layer.kind != 's' || layer.inner.n_bytes % FS_PIECES_SHA256 || fs_torrent_pieces(list[i]->n_bytes, t->piece_bytes) != layer.inner.n_bytes / FS_PIECES_SHA256) {
                rc = broken(err, "a piece layer of another size than its file's");
                break;
            }
            list[i]->layer = layer.inner.data;
        }
        if (!rc && i == first)
            rc = broken(err, "a piece layer of no file");
        if (!rc)
            rc = fs_piece_hashes_root(layer.inner.data, layer.inner.n_bytes / FS_PIECES_SHA256, t->piece_bytes, root, err);
        if (!rc && memcmp(root, key.inner.data, sizeof root) != 0)
            rc = broken(err, "a piece layer that does not make its root");
    }
    if (!rc && i < n_list)
        rc = broken(err, "a file without its piece layer");
    free(list);
    return rc;
}

static fs_status read_urls(fs_torrent *t, const fs_bvalue *list, fs_error *err)
{
    fs_bytes rest = list->inner;
    fs_bvalue url;
    size_t n = 0;

    while (fs_bencode_next(&rest, &url))
        n++;
    t->urls = calloc(n + 1, sizeof *t->urls);
    if (!t->urls)
        return fs_fail_memory(err, n * sizeof *t->urls);
    rest = list->inner;
    while (fs_bencode_next(&rest, &url)) {
        if (url.kind != 's')
            return broken(err, "a web seed that is no address");
        t->urls[t->n_urls++] = url.inner;
    }
    return FS_OK;
}

static fs_status read_info(fs_torrent *t, const fs_bvalue *info, fs_error *err)
{
    static const struct {
        const char *key;
        char kind;
    } members[] = { { "file tree", 'd' }, { "files", 'l' }, { "meta version", 'i' }, { "name", 's' }, { "piece length", 'i' }, { "pieces", 's' }, { "private", 'i' } };
    fs_bvalue values[7] = { 0 }, key;
    fs_bytes rest = info->inner;
    fs_buf path = { 0 };
    size_t capacity = 0;
    int64_t piece_bytes;
    fs_status rc;

    for (size_t i = 0; i < 7 && (i < 6 || rest.n_bytes); i++)
        if (!fs_bencode_next(&rest, &key) || !fs_bytes_equal(key.inner, fs_bytes_str(members[i].key)) || !fs_bencode_next(&rest, values + i) || values[i].kind != members[i].kind)
            return fs_fail(err, FS_ERR_FORMAT, "torrent: info has no '%s' where it belongs", members[i].key);
    if (rest.n_bytes || values[2].number != 2 || (values[6].kind && values[6].number != 1))
        return broken(err, "info has more, or is of another version");
    piece_bytes = values[4].number;
    if (piece_bytes < FS_PIECES_LEAF || piece_bytes > FS_PIECES_BYTES_MAX || (piece_bytes & (piece_bytes - 1)) != 0)
        return broken(err, "the length of a piece");
    if (memchr(values[3].inner.data, '/', values[3].inner.n_bytes) || !fs_torrent_path_is_valid(values[3].inner))
        return broken(err, "its name");
    t->name = values[3].inner;
    t->piece_bytes = (uint32_t)piece_bytes;
    t->is_private = values[6].kind != 0;
    t->info = info->whole;
    rc = read_tree(t, &capacity, values[0].inner, &path, err);
    fs_buf_done(&path);
    return rc ? rc : read_v1(t, values + 1, values[5].inner, err);
}

fs_status fs_torrent_read(fs_bytes text, fs_torrent *ret, fs_error *err)
{
    fs_torrent t = { 0 };
    fs_bvalue all, info, layers, urls;
    fs_status rc = fs_bencode_read(text, &all, err);

    if (rc)
        return rc;
    if (!fs_bencode_member(&all, "info", 'd', &info) || !fs_bencode_member(&all, "piece layers", 'd', &layers))
        return broken(err, "no info, or no piece layers");
    rc = read_info(&t, &info, err);
    if (!rc)
        rc = read_layers(&t, &layers, err);
    if (!rc && fs_bencode_member(&all, "url-list", 'l', &urls))
        rc = read_urls(&t, &urls, err);
    if (!rc)
        rc = fs_sha256_of(t.info, t.v2, err);
    if (!rc && EVP_Digest(t.info.data, t.info.n_bytes, t.v1, NULL, EVP_sha1(), NULL) != 1)
        rc = fs_fail(err, FS_ERR_MEMORY, "sha1: cannot start");
    if (rc)
        fs_torrent_done(&t);
    else
        *ret = t;
    return rc;
}

void fs_torrent_done(fs_torrent *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->files[i].path);
    free(t->files);
    free(t->urls);
    *t = (fs_torrent){ 0 };
}
