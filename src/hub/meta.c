/* What a model's own files say of it: parameters of safetensors and GGUF, its configuration. Read once for each head of main. */
#include "hub/internal.h"

#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "net/url.h"
#include "tensor/dtype.h"

#include <stdlib.h>
#include <string.h>

#define JSON_MAX     ((size_t)32 << 20)
#define TEMPLATE_MAX ((size_t)256 << 10)
#define SHARDS_MAX   2000

/* ---- files of a revision ---- */

typedef struct revision {
    fs_hub_call *c;
    git_oid tree;
} revision;

/* False: it is not there. head: its header is enough. With fs_hub_content_done. */
static bool open_file(const revision *r, const char *path, bool head, fs_hub_content *ret)
{
    fs_hub_file f;

    *ret = (fs_hub_content){ 0 };
    return fs_hub_file_find(r->c->git, &r->tree, path, &f, NULL) == FS_OK && (head ? fs_hub_content_open_head(r->c, &f, ret, NULL) : fs_hub_content_open(r->c, &f, ret, NULL)) == FS_OK && (!f.lfs || ret->bytes.n_bytes > 0);
}

/* A JSON object in a file; NULL: there is none. */
static struct json_object *read_json(const revision *r, const char *path)
{
    struct json_object *o = NULL;
    fs_hub_content x;

    if (open_file(r, path, false, &x) && (x.bytes.n_bytes > JSON_MAX || fs_json_parse(x.bytes, path, &o, NULL) != FS_OK || !json_object_is_type(o, json_type_object))) {
        json_object_put(o);
        o = NULL;
    }
    fs_hub_content_done(&x);
    return o;
}

/* ---- safetensors ---- */

typedef struct count {
    uint64_t by_type[FS_DTYPE_END], total;
    bool any;
} count;

static bool count_file(const revision *r, const char *path, count *n)
{
    fs_safetensors *s = NULL;
    fs_hub_content x;
    bool ok = open_file(r, path, true, &x) && fs_safetensors_open(x.bytes, path, &s, NULL) == FS_OK;

    for (size_t i = 0; ok && i < fs_safetensors_n_tensors(s); i++) {
        const fs_tensor *t = fs_safetensors_tensor_at(s, i);
        n->by_type[t->dtype] += fs_tensor_elems(t);
        n->total += fs_tensor_elems(t);
        n->any = true;
    }
    fs_safetensors_close(s);
    fs_hub_content_done(&x);
    return ok;
}

/* model.safetensors, or the files that its index names, or the adapter. */
static void count_all(const revision *r, count *n)
{
    struct json_object *index, *map;
    const char *seen[SHARDS_MAX];
    size_t n_seen = 0;
    bool ok = true;

    if (count_file(r, "model.safetensors", n) || !(index = read_json(r, "model.safetensors.index.json"))) {
        if (!n->any)
            count_file(r, "adapter_model.safetensors", n);
        return;
    }
    map = fs_json_member(index, "weight_map");
    if (map && json_object_is_type(map, json_type_object)) {
        json_object_object_foreach(map, key, value) {
            const char *path = json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
            size_t i = n_seen; /* tensors of one shard stand together mostly */
            (void)key;
            while (path && i > 0 && strcmp(seen[i - 1], path) != 0)
                i--;
            if (!path || i > 0)
                continue;
            if (n_seen == SHARDS_MAX || !count_file(r, path, n)) {
                ok = false;
                break;
            }
            seen[n_seen++] = path;
        }
    }
    if (!ok)
        *n = (count){ 0 };
    json_object_put(index);
}

static void emit_safetensors(const revision *r, fs_emit *e)
{
    count n = { 0 };

    count_all(r, &n);
    if (!n.any)
        return;
    fs_emit_key(e, "safetensors");
    fs_emit_begin(e, '{');
    fs_emit_key(e, "parameters");
    fs_emit_begin(e, '{');
    for (int i = 0; i < FS_DTYPE_END; i++)
        if (n.by_type[i])
            fs_emit_int(e, fs_dtype_get((fs_dtype)i)->safetensors_name, (int64_t)n.by_type[i]);
    fs_emit_end(e, '}');
    fs_emit_int(e, "total", (int64_t)n.total);
    fs_emit_end(e, '}');
}

/* ---- GGUF ---- */

static fs_status first_gguf(void *ud, const char *path, const git_oid *oid, git_object_t type, fs_error *err)
{
    char *ret = ud;

    (void)oid;
    (void)err;
    if (type != GIT_OBJECT_BLOB || !fs_ends_with(path, ".gguf") || strlen(path) >= 300)
        return FS_OK;
    snprintf(ret, 300, "%s", path);
    return FS_ERR_INTERRUPTED;
}

/* A token's text by the key that holds its number. */
static void emit_token(fs_emit *e, const fs_gguf *g, const char *name, const char *key)
{
    const fs_gguf_value *tokens = fs_gguf_find(g, "tokenizer.ggml.tokens");
    int64_t id = -1;
    size_t at = 0;
    fs_bytes text = { 0 };

    fs_gguf_int(g, key, 0, INT32_MAX, &id, NULL, NULL);
    if (id < 0 || !tokens || tokens->type != FS_GGUF_ARRAY || tokens->item_type != FS_GGUF_STRING || (uint64_t)id >= tokens->n_items)
        return;
    for (int64_t i = 0; i <= id; i++)
        text = fs_gguf_next_string(tokens, &at);
    fs_emit_text(e, name, text);
}

static void emit_gguf(const revision *r, fs_emit *e)
{
    char path[300] = "", key[200];
    fs_bytes architecture = { 0 }, template = { 0 };
    uint64_t total = 0;
    int64_t context = 0;
    fs_gguf *g = NULL;
    fs_hub_content x = { 0 };

    fs_hub_walk(r->c->git, &r->tree, "", false, first_gguf, path, NULL);
    if (!*path || !open_file(r, path, true, &x) || fs_gguf_open(x.bytes, path, &g, NULL) != FS_OK) {
        fs_hub_content_done(&x);
        return;
    }
    for (size_t i = 0; i < fs_gguf_n_tensors(g); i++)
        total += fs_tensor_elems(fs_gguf_tensor_at(g, i));
    fs_gguf_string(g, "general.architecture", &architecture, NULL, NULL);
    fs_gguf_string(g, "tokenizer.chat_template", &template, NULL, NULL);
    snprintf(key, sizeof key, "%.*s.context_length", architecture.n_bytes < 100 ? (int)architecture.n_bytes : 0, architecture.data ? (const char *)architecture.data : "");
    fs_gguf_int(g, key, 0, INT64_MAX, &context, NULL, NULL);
    fs_emit_key(e, "gguf");
    fs_emit_begin(e, '{');
    fs_emit_int(e, "total", (int64_t)total);
    if (architecture.data)
        fs_emit_text(e, "architecture", architecture);
    if (context)
        fs_emit_int(e, "context_length", context);
    if (template.data && template.n_bytes <= TEMPLATE_MAX)
        fs_emit_text(e, "chat_template", template);
    emit_token(e, g, "bos_token", "tokenizer.ggml.bos_token_id");
    emit_token(e, g, "eos_token", "tokenizer.ggml.eos_token_id");
    fs_emit_end(e, '}');
    fs_gguf_close(g);
    fs_hub_content_done(&x);
}

/* ---- the configuration ---- */

static void emit_member(fs_emit *e, struct json_object *o, const char *key)
{
    struct json_object *value = fs_json_member(o, key);

    if (value)
        fs_emit_json(e, key, json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void emit_config(const revision *r, fs_emit *e)
{
    static const char *const of_config[] = { "architectures", "model_type", "auto_map", "quantization_config" };
    static const char *const of_tokenizer[] = { "bos_token", "eos_token", "pad_token", "unk_token", "chat_template" };
    struct json_object *config = read_json(r, "config.json"), *tokenizer = read_json(r, "tokenizer_config.json");

    if (config || tokenizer) {
        fs_emit_key(e, "config");
        fs_emit_begin(e, '{');
        for (size_t i = 0; config && i < sizeof of_config / sizeof *of_config; i++)
            emit_member(e, config, of_config[i]);
        if (tokenizer) {
            fs_emit_key(e, "tokenizer_config");
            fs_emit_begin(e, '{');
            for (size_t i = 0; i < sizeof of_tokenizer / sizeof *of_tokenizer; i++)
                emit_member(e, tokenizer, of_tokenizer[i]);
            fs_emit_end(e, '}');
        }
        fs_emit_end(e, '}');
    }
    json_object_put(config);
    json_object_put(tokenizer);
}

/* ---- kept ---- */

/* The object of all three; with fs_buf_done. */
static fs_status read_meta(fs_hub_call *c, const git_oid *commit, fs_buf *ret, fs_error *err)
{
    revision r = { .c = c };
    fs_emit e = { 0 };
    fs_status rc = fs_hub_commit_tree(c->git, commit, &r.tree, err);

    if (rc)
        return rc;
    fs_emit_begin(&e, '{');
    emit_config(&r, &e);
    emit_safetensors(&r, &e);
    emit_gguf(&r, &e);
    fs_emit_end(&e, '}');
    if (e.rc) {
        fs_emit_done(&e);
        return fs_fail_memory(err, 1);
    }
    *ret = e.out;
    return FS_OK;
}

static fs_status find_meta(fs_hub_call *c, const char *sha, fs_buf *ret, fs_error *err)
{
    sqlite3_stmt *st = NULL;
    fs_status rc = fs_db_query(c->db, &st, err, "SELECT meta FROM repo_meta WHERE repo = ? AND sha = ?", "is", c->repo.id, sha);

    if (rc)
        return rc;
    if (fs_db_next(st))
        rc = fs_buf_append_str(ret, fs_db_text(st, 0), err);
    return rc ? (fs_db_end(st, NULL), rc) : fs_db_end(st, err);
}

fs_status fs_hub_emit_meta(fs_hub_call *c, fs_emit *e, const git_oid *commit, bool (*wanted)(const fs_hub_call *c, const char *key), fs_error *err)
{
    char sha[GIT_OID_HEXSZ + 1];
    struct json_object *o = NULL;
    fs_buf text = { 0 };
    fs_status rc;

    if (strcmp(c->repo.type, "models") != 0)
        return FS_OK;
    git_oid_tostr(sha, sizeof sha, commit);
    rc = find_meta(c, sha, &text, err);
    if (!rc && !text.n_bytes) {
        rc = read_meta(c, commit, &text, err);
        if (!rc && strcmp(sha, c->repo.sha) == 0) /* main's head */
            rc = fs_db_run(c->db, err, "INSERT OR REPLACE INTO repo_meta(repo, sha, meta) VALUES(?, ?, ?)", "iss", c->repo.id, sha, text.data);
    }
    if (!rc)
        rc = fs_json_parse(fs_buf_bytes(&text), "metadata", &o, err);
    if (!rc) {
        json_object_object_foreach(o, key, value) {
            if (wanted(c, key))
                fs_emit_json(e, key, json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        }
    }
    json_object_put(o);
    fs_buf_done(&text);
    return rc ? rc : e->rc;
}
