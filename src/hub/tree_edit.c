/* Trees changed by paths: only the folders on the way are written again. */
#include "hub/internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct entry {
    const char *name;
    size_t n_name;
    git_oid oid;
    uint32_t mode;
} entry;

typedef struct editor {
    git_repository *git;
    fs_hub_objects *written;
    fs_error *err;
} editor;

fs_status fs_hub_edits_add(fs_hub_edits *e, const char *path, bool remove, const git_oid *oid, fs_error *err)
{
    fs_hub_edit *x;

    if (e->n == e->capacity) {
        size_t capacity = e->capacity ? 2 * e->capacity : 64;
        fs_hub_edit *items = realloc(e->items, capacity * sizeof *items);
        if (!items)
            return fs_fail_memory(err, capacity * sizeof *items);
        e->items = items;
        e->capacity = capacity;
    }
    x = &e->items[e->n];
    *x = (fs_hub_edit){ .path = strdup(path), .remove = remove, .mode = GIT_FILEMODE_BLOB, .order = e->n };
    if (!x->path)
        return fs_fail_memory(err, strlen(path));
    if (oid)
        x->oid = *oid;
    e->n++;
    return FS_OK;
}

void fs_hub_edits_done(fs_hub_edits *e)
{
    for (size_t i = 0; i < e->n; i++)
        free(e->items[i].path);
    free(e->items);
    *e = (fs_hub_edits){ 0 };
}

/* By segments, so that all of a folder stands together, behind the folder's own name. */
static int by_path(const void *a, const void *b)
{
    const fs_hub_edit *x = a, *y = b;
    const unsigned char *p = (const unsigned char *)x->path, *q = (const unsigned char *)y->path;

    while (*p && *p == *q) {
        p++;
        q++;
    }
    if (*p == *q)
        return x->order < y->order ? -1 : x->order > y->order;
    if (!*p || !*q)
        return *p ? 1 : -1;
    return *p == '/' ? -1 : *q == '/' ? 1 : *p - *q;
}

/* git's order: a folder's name ends in '/'. */
static int by_name(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    size_t n = x->n_name < y->n_name ? x->n_name : y->n_name;
    int c = memcmp(x->name, y->name, n);
    unsigned char p, q;

    if (c)
        return c;
    p = x->n_name > n ? (unsigned char)x->name[n] : x->mode == GIT_FILEMODE_TREE ? '/' : 0;
    q = y->n_name > n ? (unsigned char)y->name[n] : y->mode == GIT_FILEMODE_TREE ? '/' : 0;
    return p - q;
}

static fs_status write_tree(editor *ed, entry *entries, size_t n, git_oid *ret)
{
    fs_buf text = { 0 };
    fs_status rc = FS_OK;

    qsort(entries, n, sizeof *entries, by_name);
    for (size_t i = 0; i < n && !rc; i++) {
        rc = fs_buf_printf(&text, ed->err, "%o %.*s", entries[i].mode, (int)entries[i].n_name, entries[i].name);
        if (!rc)
            rc = fs_buf_append(&text, "", 1, ed->err);
        if (!rc)
            rc = fs_buf_append(&text, entries[i].oid.id, GIT_OID_RAWSZ, ed->err);
    }
    if (!rc)
        rc = fs_hub_git_write(ed->git, GIT_OBJECT_TREE, text.data ? text.data : "", text.n_bytes, ed->written, ret, ed->err);
    fs_buf_done(&text);
    return rc;
}

static fs_status edit(editor *ed, const git_oid *base, const fs_hub_edit *edits, size_t n_edits, size_t prefix, git_oid *ret, bool *ret_empty);

/* The edits [n] of one name within a folder; out is left alone and *ret_is false when nothing of that name stays. */
static fs_status edit_name(editor *ed, const git_tree_entry *old, const fs_hub_edit *edits, size_t n, size_t prefix, entry *out, bool *ret_is)
{
    const char *name = edits[0].path + prefix;
    size_t n_name = strcspn(name, "/"), below = 0;
    const fs_hub_edit *own = NULL; /* the last that means the name itself */
    git_oid oid;
    bool empty;
    fs_status rc;

    while (below < n && edits[below].path[prefix + n_name] == 0)
        own = &edits[below++];
    *out = (entry){ .name = name, .n_name = n_name };
    if (own && own->remove && !old && below == 1)
        return fs_fail(ed->err, FS_ERR_NOT_FOUND, "there is no '%s' to remove", own->path);
    if (below == n) {
        *ret_is = !own->remove;
        out->oid = own->oid;
        out->mode = own->mode;
        return FS_OK;
    }
    if ((own && !own->remove) || (!own && old && git_tree_entry_type(old) != GIT_OBJECT_TREE))
        return fs_fail(ed->err, FS_ERR_ARGUMENT, "'%.*s' cannot be a file and a folder", (int)(prefix + n_name), edits[0].path);
    rc = edit(ed, own || !old ? NULL : git_tree_entry_id(old), edits + below, n - below, prefix + n_name + 1, &oid, &empty);
    out->oid = oid;
    out->mode = GIT_FILEMODE_TREE;
    *ret_is = !empty;
    return rc;
}

/* Entries stand in one array. */
static size_t index_of(const git_tree *tree, size_t n, const git_tree_entry *e)
{
    size_t low = 0;

    while (n > 1) {
        size_t half = n / 2;
        if ((uintptr_t)git_tree_entry_byindex(tree, low + half) <= (uintptr_t)e)
            low += half;
        n -= half;
    }
    return low;
}

static fs_status edit(editor *ed, const git_oid *base, const fs_hub_edit *edits, size_t n_edits, size_t prefix, git_oid *ret, bool *ret_empty)
{
    git_tree *tree = NULL;
    size_t n_old = 0, n = 0;
    entry *entries = NULL;
    bool *replaced = NULL;
    fs_status rc = FS_OK;

    if (base && git_tree_lookup(&tree, ed->git, base) != 0)
        return fs_hub_git_fail(ed->err, "cannot read a tree");
    n_old = tree ? git_tree_entrycount(tree) : 0;
    entries = calloc(n_old + n_edits + 1, sizeof *entries);
    replaced = calloc(n_old + 1, sizeof *replaced);
    if (!entries || !replaced)
        rc = fs_fail_memory(ed->err, (n_old + n_edits) * sizeof *entries);
    for (size_t i = 0; i < n_edits && !rc;) {
        const char *name = edits[i].path + prefix;
        size_t n_name = strcspn(name, "/"), end = i + 1;
        const git_tree_entry *old = NULL;
        char *copy = strndup(name, n_name);
        bool is = false;
        while (end < n_edits && strncmp(edits[end].path + prefix, name, n_name) == 0 && strchr("/", edits[end].path[prefix + n_name]))
            end++;
        if (!copy) {
            rc = fs_fail_memory(ed->err, n_name);
            break;
        }
        old = tree ? git_tree_entry_byname(tree, copy) : NULL;
        free(copy);
        if (old)
            replaced[index_of(tree, n_old, old)] = true;
        rc = edit_name(ed, old, edits + i, end - i, prefix, &entries[n], &is);
        n += is;
        i = end;
    }
    for (size_t k = 0; k < n_old && !rc; k++) {
        const git_tree_entry *old = git_tree_entry_byindex(tree, k);
        if (!replaced[k])
            entries[n++] = (entry){ git_tree_entry_name(old), strlen(git_tree_entry_name(old)), *git_tree_entry_id(old), git_tree_entry_filemode_raw(old) };
    }
    *ret_empty = n == 0;
    if (!rc && (n > 0 || prefix == 0))
        rc = write_tree(ed, entries, n, ret);
    free(entries);
    free(replaced);
    git_tree_free(tree);
    return rc;
}

fs_status fs_hub_tree_edit(git_repository *git, const git_oid *base, fs_hub_edits *edits, fs_hub_objects *written, git_oid *ret, fs_error *err)
{
    editor ed = { git, written, err };
    bool empty;

    qsort(edits->items, edits->n, sizeof *edits->items, by_path);
    return edit(&ed, base, edits->items, edits->n, 0, ret, &empty);
}
