/* The page of one file: text as text, Markdown rendered, and what is in a safetensors or GGUF file. */
#include "hub/page.h"

#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "tensor/dtype.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TENSORS_MAX         2000
#define METADATA_HEADER_MAX ((uint64_t)8 << 20)
#define SHOWN_BYTES ((size_t)512 << 10)

static void put_tensor(fs_page *p, const fs_tensor *t)
{
    fs_page_put(p, "<tr><td class=\"name\">");
    fs_page_text(p, t->name);
    fs_page_put(p, "</td><td>%s</td><td>", fs_dtype_get(t->dtype)->name);
    for (int i = 0; i < t->n_dims; i++)
        fs_page_put(p, "%s%" PRIu64, i ? " &times; " : "", (uint64_t)t->dims[i]);
    fs_page_put(p, "</td><td class=\"n\">");
    fs_page_size(p, t->n_bytes);
    fs_page_put(p, "</td></tr>");
}

/* The i-th tensor of a file. */
typedef const fs_tensor *tensor_at(const void *file, size_t i);

static const fs_tensor *safetensors_at(const void *file, size_t i)
{
    return fs_safetensors_tensor_at(file, i);
}

static const fs_tensor *gguf_at(const void *file, size_t i)
{
    return fs_gguf_tensor_at(file, i);
}

/* How many numbers there are, and of which types. */
static void put_sum(fs_page *p, const void *file, size_t n, tensor_at *at)
{
    uint64_t counts[FS_DTYPE_END] = { 0 }, bytes[FS_DTYPE_END] = { 0 }, all = 0;

    for (size_t i = 0; i < n; i++) {
        const fs_tensor *t = at(file, i);
        counts[t->dtype] += fs_tensor_elems(t);
        bytes[t->dtype] += t->n_bytes;
        all += fs_tensor_elems(t);
    }
    fs_page_put(p, "<p>%" PRIu64 " parameters", all);
    for (int d = 0; d < FS_DTYPE_END; d++)
        if (counts[d]) {
            fs_page_put(p, " &middot; %s: %" PRIu64 ", ", fs_dtype_get((fs_dtype)d)->name, counts[d]);
            fs_page_size(p, bytes[d]);
        }
    fs_page_put(p, "</p>");
}

static void put_tensor_head(fs_page *p, const void *file, size_t n, tensor_at *at)
{
    put_sum(p, file, n, at);
    fs_page_put(p, "<h2>%zu tensors</h2>%s<div class=\"wide\"><table><tr><th>name</th><th>type</th><th>shape</th><th class=\"n\">size</th></tr>", n,
                n > TENSORS_MAX ? "<p class=\"soft\">The first of them:</p>" : "");
}

/* "__metadata__" of a safetensors file that was opened: its header is whole. */
static void put_metadata(fs_page *p, fs_bytes bytes)
{
    struct json_object *header = NULL, *metadata;
    uint64_t n = 0;
    size_t n_shown = 0;

    for (int i = 7; i >= 0; i--)
        n = n << 8 | bytes.data[i];
    if (n > METADATA_HEADER_MAX || fs_json_parse((fs_bytes){ bytes.data + 8, n }, "the header", &header, NULL) != FS_OK)
        return;
    metadata = fs_json_member(header, "__metadata__");
    if (metadata && json_object_is_type(metadata, json_type_object) && json_object_object_length(metadata) > 0) {
        fs_page_put(p, "<h2>Metadata</h2><div class=\"wide\"><table>");
        json_object_object_foreach(metadata, key, value)
        {
            const char *text = json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
            if (n_shown++ == TENSORS_MAX)
                break;
            fs_page_put(p, "<tr><td class=\"name\">");
            fs_page_text(p, key);
            fs_page_put(p, "</td><td class=\"name\">");
            fs_page_bytes(p, (fs_bytes){ (const uint8_t *)text, strnlen(text, 400) });
            fs_page_put(p, "</td></tr>");
        }
        fs_page_put(p, "</table></div>");
    }
    json_object_put(header);
}

static void put_safetensors(fs_page *p, fs_bytes bytes)
{
    fs_safetensors *s = NULL;
    fs_error err;

    if (fs_safetensors_open(bytes, "it", &s, &err) != FS_OK) {
        fs_page_put(p, "<p class=\"bad\">This file cannot be read: ");
        fs_page_text(p, err.message);
        fs_page_put(p, "</p>");
        return;
    }
    put_metadata(p, bytes);
    put_tensor_head(p, s, fs_safetensors_n_tensors(s), safetensors_at);
    for (size_t i = 0; i < fs_safetensors_n_tensors(s) && i < TENSORS_MAX; i++)
        put_tensor(p, fs_safetensors_tensor_at(s, i));
    fs_page_put(p, "</table></div>");
    fs_safetensors_close(s);
}

static void put_value(fs_page *p, const fs_gguf *g, const fs_gguf_value *v)
{
    char key[256];
    double number = 0;
    int64_t whole = 0;
    bool flag = false;

    snprintf(key, sizeof key, "%.*s", (int)(v->key.n_bytes < 255 ? v->key.n_bytes : 255), (const char *)v->key.data);
    fs_page_put(p, "<tr><td class=\"name\">");
    fs_page_text(p, key);
    fs_page_put(p, "</td><td class=\"name\">");
    if (v->type == FS_GGUF_ARRAY)
        fs_page_put(p, "%" PRIu64 " items", v->n_items);
    else if (v->type == FS_GGUF_STRING)
        fs_page_bytes(p, (fs_bytes){ v->bytes.data, v->bytes.n_bytes < 400 ? v->bytes.n_bytes : 400 });
    else if (v->type == FS_GGUF_BOOL && fs_gguf_bool(g, key, &flag, NULL, NULL) == FS_OK)
        fs_page_put(p, flag ? "true" : "false");
    else if ((v->type == FS_GGUF_F32 || v->type == FS_GGUF_F64) && fs_gguf_double(g, key, &number, NULL, NULL) == FS_OK)
        fs_page_put(p, "%g", number);
    else if (fs_gguf_int(g, key, INT64_MIN, INT64_MAX, &whole, NULL, NULL) == FS_OK)
        fs_page_put(p, "%" PRId64, whole);
    fs_page_put(p, "</td></tr>");
}

static void put_gguf(fs_page *p, fs_bytes bytes)
{
    fs_gguf *g = NULL;
    fs_error err;

    if (fs_gguf_open(bytes, "it", &g, &err) != FS_OK) {
        fs_page_put(p, "<p class=\"bad\">This file cannot be read: ");
        fs_page_text(p, err.message);
        fs_page_put(p, "</p>");
        return;
    }
    fs_page_put(p, "<h2>Metadata</h2><div class=\"wide\"><table>");
    for (size_t i = 0; i < fs_gguf_n_values(g) && i < TENSORS_MAX; i++)
        put_value(p, g, fs_gguf_value_at(g, i));
    fs_page_put(p, "</table></div>");
    put_tensor_head(p, g, fs_gguf_n_tensors(g), gguf_at);
    for (size_t i = 0; i < fs_gguf_n_tensors(g) && i < TENSORS_MAX; i++)
        put_tensor(p, fs_gguf_tensor_at(g, i));
    fs_page_put(p, "</table></div>");
    fs_gguf_close(g);
}

static bool is_text(fs_bytes b)
{
    return !b.n_bytes || !memchr(b.data, 0, b.n_bytes);
}

static void put_content(fs_page *p, const fs_hub_call *c, const char *rev, const char *path, fs_bytes b)
{
    if (fs_ends_with(path, ".safetensors"))
        put_safetensors(p, b);
    else if (fs_ends_with(path, ".gguf"))
        put_gguf(p, b);
    else if (!is_text((fs_bytes){ b.data, b.n_bytes < 8192 ? b.n_bytes : 8192 }))
        fs_page_put(p, "<p class=\"soft\">Not text.</p>");
    else if (fs_ends_with(path, ".md"))
        fs_page_repo_markdown(p, c, rev, path, b);
    else {
        fs_page_put(p, "<pre><code>");
        fs_page_bytes(p, (fs_bytes){ b.data, b.n_bytes < SHOWN_BYTES ? b.n_bytes : SHOWN_BYTES });
        fs_page_put(p, "</code></pre>%s", b.n_bytes > SHOWN_BYTES ? "<p class=\"soft\">The rest is not shown.</p>" : "");
    }
}

void fs_hub_page_blob(fs_hub_call *c)
{
    const char *rev;
    char id[220], *path = NULL;
    fs_page p = { .rc = FS_OK };
    git_oid commit, tree;
    fs_hub_content x = { 0 };
    fs_hub_file f;
    fs_status rc;

    if (!fs_page_need_repo(c, 2) || !fs_hub_need_open(c) || !(path = fs_page_need_path(c)))
        return;
    rev = fs_http_param(c->http, fs_http_n_params(c->http) - 2);
    if (!fs_hub_need_rev(c, rev, &commit, NULL) || fs_hub_failed(c, fs_hub_commit_tree(c->git, &commit, &tree, &c->err)))
        goto out;
    rc = fs_hub_file_find(c->git, &tree, path, &f, &c->err);
    if (rc == FS_ERR_NOT_FOUND) {
        fs_hub_not_here(c);
        goto out;
    }
    if (fs_hub_failed(c, rc))
        goto out;
    rc = fs_hub_content_open_head(c, &f, &x, &c->err);
    if (!f.lfs && fs_hub_failed(c, rc))
        goto out;
    fs_page_repo_id(c, id);
    fs_page_begin(&p, c, path);
    fs_page_repo_head(&p, c, "Files", NULL);
    fs_page_way(&p, c, rev, path);
    fs_page_put(&p, "<p class=\"soft\">");
    fs_page_size(&p, f.n_bytes);
    if (f.lfs)
        fs_page_put(&p, " &middot; SHA-256 <code>%s</code>", f.sha256);
    fs_page_put(&p, " &middot; <a download href=\"");
    fs_page_repo_link(&p, &c->repo);
    fs_page_put(&p, "/resolve/");
    fs_page_word(&p, rev);
    fs_page_put(&p, "/");
    fs_page_path(&p, path);
    fs_page_put(&p, "\">download</a> &middot; <a href=\"");
    fs_page_repo_link(&p, &c->repo);
    fs_page_put(&p, "/commits/");
    fs_page_word(&p, rev);
    fs_page_put(&p, "/");
    fs_page_path(&p, path);
    fs_page_put(&p, "\">history</a></p>");
    if (rc)
        fs_page_put(&p, "<p class=\"bad\">Its content is not in this hub.</p>");
    else
        put_content(&p, c, rev, path, x.bytes); /* of a large file, which is mapped, the header alone is touched */
    fs_page_end(&p, c, 200);
out:
    fs_hub_content_done(&x);
    fs_buf_done(&p.out);
    free(path);
}
