/* A list of items, one a tensor of the output, each of which knows where its rows come from; rows pass through f32. */
#include "formats/convert.h"

#include "base/file.h"
#include "formats/config_write.h"
#include "formats/names.h"
#include "formats/safetensors_write.h"
#include "tensor/blocks.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_MAX_BYTES 192
#define REPORT_BYTES   ((uint64_t)4 << 20)

typedef enum kind {
    PLAIN,   /* the rows of src */
    EXPERTS, /* those of dims[0] tensors, src being the first's */
    K_B,     /* of kv_b_proj: W_uk a head, transposed */
    V_B,     /* of kv_b_proj: W_uv a head */
    KV_B,    /* of k_b (src) and v_b (src2) */
    FREQS,   /* llama3's divisors */
} kind;

typedef struct item {
    char name[NAME_MAX_BYTES];
    kind kind;
    fs_dtype dtype;
    int n_dims;
    uint64_t dims[FS_TENSOR_DIMS_MAX];
    const fs_tensor *src, *src2;
    uint32_t rope_heads; /* > 0: rows leave in interleaved order */
} item;

typedef struct job {
    const fs_weights *w;
    const fs_config *c;
    const fs_convert_options *o;
    item *items;
    size_t n, capacity;
    uint64_t done, total; /* bytes */
    fs_gguf_writer *gguf;
    fs_safetensors_writer *safetensors;
    float *row, *head; /* head: a matrix of one head, for K_B and KV_B */
    uint8_t *bytes;
} job;

static void job_done(job *j)
{
    free(j->items);
    free(j->row);
    free(j->head);
    free(j->bytes);
}

static fs_status add(job *j, const item *it, fs_error *err)
{
    if (j->n == j->capacity) {
        size_t capacity = j->capacity ? 2 * j->capacity : 128;
        item *more = realloc(j->items, capacity * sizeof *more);
        if (!more)
            return fs_fail_memory(err, capacity * sizeof *more);
        j->items = more;
        j->capacity = capacity;
    }
    j->items[j->n++] = *it;
    return FS_OK;
}

static fs_dtype dtype_of(const job *j, const fs_tensor *t, bool plain)
{
    if (plain)
        return FS_DTYPE_F32;
    if (j->o->type != FS_DTYPE_NONE)
        return j->o->type;
    return t->dtype == FS_DTYPE_BF16 || t->dtype == FS_DTYPE_F16 ? t->dtype : FS_DTYPE_F32;
}

static bool ends_with(const char *name, const char *tail)
{
    size_t n = strlen(name), m = strlen(tail);

    return n >= m && strcmp(name + n - m, tail) == 0;
}

/* What the output is said to be: the type of its embedding. */
static fs_dtype main_dtype(const job *j)
{
    const fs_tensor *t = fs_weights_find(j->w, "model.embed_tokens.weight");

    return t ? dtype_of(j, t, false) : FS_DTYPE_F32;
}

static item plain_item(const job *j, const fs_tensor *t)
{
    item it = { .kind = PLAIN, .n_dims = t->n_dims, .src = t };

    memcpy(it.dims, t->dims, sizeof it.dims);
    it.dtype = dtype_of(j, t, t->n_dims < 2 || ends_with(t->name, "mlp.gate.weight"));
    return it;
}

/* ---- rows ---- */
static fs_status report(const job *j, fs_error *err)
{
    if (j->o->progress && !j->o->progress(j->o->ud, j->done, j->total))
        return fs_fail(err, FS_ERR_INTERRUPTED, "the conversion was stopped");
    return FS_OK;
}

static fs_status put(job *j, const item *it, const float *row, size_t n, fs_error *err)
{
    size_t n_bytes = n * fs_dtype_get(it->dtype)->block_bytes;
    const void *from = j->bytes;
    fs_status rc;

    if (it->dtype == FS_DTYPE_F32) {
        from = row;
    } else {
        uint16_t *to = (uint16_t *)(void *)j->bytes;
        for (size_t i = 0; i < n; i++) {
            to[i] = it->dtype == FS_DTYPE_BF16 ? fs_f32_to_bf16(row[i]) : fs_f32_to_f16(row[i]);
            if (isfinite(row[i]) && (to[i] & 0x7fffu) >= (it->dtype == FS_DTYPE_BF16 ? 0x7f80u : 0x7c00u))
                return fs_fail(err, FS_ERR_NUMERIC, "tensor '%s' holds %g, which is too large for %s", it->name, (double)row[i],
                               fs_dtype_get(it->dtype)->name);
        }
    }
    j->done += n_bytes;
    if (j->done % REPORT_BYTES < n_bytes && (rc = report(j, err)) != FS_OK)
        return rc;
    return j->gguf ? fs_gguf_writer_write(j->gguf, from, n_bytes, err) : fs_safetensors_writer_write(j->safetensors, from, n_bytes, err);
}

static fs_status put_rows(job *j, const item *it, const fs_tensor *t, fs_error *err)
{
    uint64_t n = fs_tensor_rows(t), d = it->rope_heads ? n / it->rope_heads : 0;
    size_t cols = (size_t)fs_tensor_cols(t);
    fs_status rc = FS_OK;

    for (uint64_t r = 0; r < n && !rc; r++) {
        uint64_t from = d ? r / d * d + r % 2 * (d / 2) + r % d / 2 : r;
        fs_tensor_row_f32(t, from, j->row);
        rc = put(j, it, j->row, cols, err);
    }
    return rc;
}

static fs_status put_experts(job *j, const item *it, fs_error *err)
{
    char name[NAME_MAX_BYTES], rest[32]; /* "gate_proj.weight" */
    uint32_t layer;
    int at = 0;
    fs_status rc = FS_OK;

    if (sscanf(it->src->name, "model.layers.%" SCNu32 ".mlp.experts.0.%n", &layer, &at) != 1)
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is no expert's tensor", it->src->name);
    snprintf(rest, sizeof rest, "%.31s", it->src->name + at);
    for (uint64_t e = 0; e < it->dims[0] && !rc; e++) {
        const fs_tensor *t;
        snprintf(name, sizeof name, "model.layers.%" PRIu32 ".mlp.experts.%" PRIu64 ".%s", layer, e, rest);
        rc = fs_weights_get(j->w, name, &t, err, 2, it->dims[1], it->dims[2]);
        if (!rc && j->o->type == FS_DTYPE_NONE && dtype_of(j, t, false) != it->dtype)
            rc = fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' is %s, expert 0 is %s; give a --type", name, fs_dtype_get(t->dtype)->name,
                         fs_dtype_get(it->src->dtype)->name);
        if (!rc)
            rc = put_rows(j, it, t, err);
    }
    return rc;
}

static fs_status put_up(job *j, const item *it, fs_error *err)
{
    size_t heads = j->c->num_attention_heads, nope = j->c->qk_nope_head_dim, v = j->c->v_head_dim, lora = j->c->kv_lora_rank;
    fs_status rc = FS_OK;

    for (size_t h = 0; h < heads && !rc; h++) {
        size_t first = h * (nope + v) + (it->kind == V_B ? nope : 0), n = it->kind == V_B ? v : nope;
        if (it->kind == K_B) {
            for (size_t i = 0; i < n; i++) {
                fs_tensor_row_f32(it->src, first + i, j->row);
                for (size_t k = 0; k < lora; k++)
                    j->head[k * nope + i] = j->row[k];
            }
            for (size_t k = 0; k < lora && !rc; k++)
                rc = put(j, it, j->head + k * nope, nope, err);
        } else if (it->kind == V_B) {
            for (size_t i = 0; i < n && !rc; i++) {
                fs_tensor_row_f32(it->src, first + i, j->row);
                rc = put(j, it, j->row, lora, err);
            }
        } else {
            for (size_t k = 0; k < lora; k++) {
                fs_tensor_row_f32(it->src, h * lora + k, j->row);
                for (size_t i = 0; i < nope; i++)
                    j->head[i * lora + k] = j->row[i];
            }
            for (size_t i = 0; i < nope && !rc; i++)
                rc = put(j, it, j->head + i * lora, lora, err);
            for (size_t i = 0; i < v && !rc; i++) {
                fs_tensor_row_f32(it->src2, h * v + i, j->row);
                rc = put(j, it, j->row, lora, err);
            }
        }
    }
    return rc;
}

static fs_status put_item(job *j, const item *it, fs_error *err)
{
    fs_status rc = report(j, err);

    if (rc)
        return rc;
    switch (it->kind) {
    case PLAIN:
        return put_rows(j, it, it->src, err);
    case EXPERTS:
        return put_experts(j, it, err);
    case FREQS:
        fs_config_rope_freqs(j->c, j->row);
        return put(j, it, j->row, (size_t)it->dims[0], err);
    default:
        return put_up(j, it, err);
    }
}

/* Buffers for the longest row, and for MLA a head; the sum of the output. */
static fs_status plan(job *j, fs_error *err)
{
    size_t row = j->c->head_dim, head = 0, n_bytes;

    for (size_t i = 0; i < j->n; i++) {
        const item *it = &j->items[i];
        uint64_t n = 1;
        for (int k = 0; k < it->n_dims; k++)
            n *= it->dims[k];
        if (fs_dtype_bytes(it->dtype, n, &n_bytes))
            j->total += n_bytes;
        if (it->src && fs_tensor_cols(it->src) > row)
            row = (size_t)fs_tensor_cols(it->src);
        if (it->n_dims && it->dims[it->n_dims - 1] > row)
            row = (size_t)it->dims[it->n_dims - 1];
    }
    if (j->c->kv_lora_rank)
        head = (size_t)j->c->kv_lora_rank * j->c->qk_nope_head_dim;
    j->row = malloc((row + 1) * sizeof *j->row);
    j->bytes = malloc((row + 1) * sizeof(float));
    j->head = malloc((head + 1) * sizeof *j->head);
    return j->row && j->bytes && j->head ? FS_OK : fs_fail_memory(err, (2 * row + head) * sizeof(float));
}

/* ---- to GGUF ---- */
static fs_status no_place(const fs_tensor *t, fs_error *err)
{
    return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' has no place in a GGUF of this architecture", t->name);
}

/* What other programs leave in a checkpoint though the configuration says the same, or that a tied head repeats. */
static bool is_redundant(const job *j, const fs_tensor *t)
{
    return ends_with(t->name, "_scale_inv") || ends_with(t->name, "rotary_emb.inv_freq") ||
           (j->c->tie_word_embeddings && strcmp(t->name, "lm_head.weight") == 0);
}

static fs_status add_to_gguf(job *j, const fs_tensor *t, fs_error *err)
{
    const fs_config *c = j->c;
    bool llama = strcmp(c->model_type, "llama") == 0;
    uint32_t layer = 0, expert = 0;
    item it = plain_item(j, t);
    fs_status rc;

    if (fs_expert_name_to_gguf(t->name, it.name, sizeof it.name, &layer, &expert)) {
        if (expert > 0) /* taken with the first */
            return expert < c->n_routed_experts ? FS_OK : no_place(t, err);
        it.kind = EXPERTS;
        it.n_dims = 3;
        it.dims[2] = t->dims[1];
        it.dims[1] = t->dims[0];
        it.dims[0] = c->n_routed_experts;
        if (t->n_dims != 2)
            return no_place(t, err);
    } else if (!fs_name_to_gguf(t->name, it.name, sizeof it.name)) {
        return no_place(t, err);
    }
    if (sscanf(t->name, "model.layers.%" SCNu32 ".", &layer) == 1 && layer >= c->num_hidden_layers + c->num_nextn_predict_layers)
        return no_place(t, err);
    if (llama && (ends_with(t->name, ".self_attn.q_proj.weight") || ends_with(t->name, ".self_attn.k_proj.weight"))) {
        it.rope_heads = ends_with(t->name, "q_proj.weight") ? c->num_attention_heads : c->num_key_value_heads;
        if (t->n_dims != 2 || t->dims[0] != (uint64_t)it.rope_heads * c->head_dim)
            return no_place(t, err);
    }
    if (llama && (ends_with(t->name, ".self_attn.q_proj.bias") || ends_with(t->name, ".self_attn.k_proj.bias")))
        return no_place(t, err);
    if (!ends_with(t->name, ".self_attn.kv_b_proj.weight"))
        return add(j, &it, err);

    if (t->n_dims != 2 || t->dims[1] != c->kv_lora_rank ||
        t->dims[0] != (uint64_t)c->num_attention_heads * ((uint64_t)c->qk_nope_head_dim + c->v_head_dim))
        return no_place(t, err);
    sscanf(t->name, "model.layers.%" SCNu32 ".", &layer);
    it.n_dims = 3;
    it.kind = K_B;
    it.dims[0] = c->num_attention_heads;
    it.dims[1] = c->kv_lora_rank;
    it.dims[2] = c->qk_nope_head_dim;
    snprintf(it.name, sizeof it.name, "blk.%" PRIu32 ".attn_k_b.weight", layer);
    rc = add(j, &it, err);
    it.kind = V_B;
    it.dims[1] = c->v_head_dim;
    it.dims[2] = c->kv_lora_rank;
    snprintf(it.name, sizeof it.name, "blk.%" PRIu32 ".attn_v_b.weight", layer);
    return rc ? rc : add(j, &it, err);
}

/* The header is read again as the file that it will be, whose data read as zeros: what GGUF could not say shows. */
static fs_status check_header(const job *j, fs_error *err)
{
    fs_buf header = { 0 };
    fs_config c = { 0 };
    fs_gguf *g = NULL;
    uint8_t *file = NULL;
    size_t n_bytes = 0;
    const char *field;
    fs_status rc = fs_gguf_writer_header(j->gguf, &header, err);

    if (!rc && (!fs_add_size(header.n_bytes, (size_t)fs_gguf_writer_data_bytes(j->gguf), &n_bytes) || !(file = fs_alloc_lazy(n_bytes))))
        rc = fs_fail_memory(err, n_bytes);
    if (!rc) {
        memcpy(file, header.data, header.n_bytes);
        rc = fs_gguf_open((fs_bytes){ file, n_bytes }, "the GGUF to be", &g, err);
    }
    if (!rc)
        rc = fs_config_from_gguf(&c, (const fs_gguf *const *)&g, 1, "the GGUF to be", err);
    if (!rc && (field = fs_config_differs(j->c, &c)))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "GGUF cannot express this model's %s", field);
    fs_config_done(&c);
    fs_gguf_close(g);
    fs_free_lazy(file, n_bytes);
    fs_buf_done(&header);
    return rc;
}

/* llama.cpp's numbers. */
static uint32_t file_type(const job *j)
{
    fs_dtype d = main_dtype(j);

    return d == FS_DTYPE_BF16 ? 32 : d == FS_DTYPE_F16 ? 1 : 0;
}

fs_status fs_convert_to_gguf(const fs_weights *w, const char *path, const fs_convert_options *o, fs_error *err)
{
    job j = { .w = w, .c = fs_weights_config(w), .o = o };
    item freqs = { .name = "rope_freqs.weight", .kind = FREQS, .dtype = FS_DTYPE_F32, .n_dims = 1, .dims = { j.c->head_dim / 2 } };
    fs_status rc = fs_gguf_writer_new(path, &j.gguf, err);

    if (!rc)
        rc = fs_config_to_gguf(j.c, j.gguf, err);
    if (!rc)
        rc = fs_gguf_put_u32(j.gguf, "general.file_type", file_type(&j), err);
    if (!rc && o->metadata)
        rc = o->metadata(o->ud, j.gguf, err);
    for (size_t i = 0; i < fs_weights_n_tensors(w) && !rc; i++)
        if (!is_redundant(&j, fs_weights_tensor_at(w, i)))
            rc = add_to_gguf(&j, fs_weights_tensor_at(w, i), err);
    if (!rc && j.c->rope_type == FS_ROPE_LLAMA3)
        rc = add(&j, &freqs, err);
    if (!rc)
        rc = plan(&j, err);
    for (size_t i = 0; i < j.n && !rc; i++)
        rc = fs_gguf_put_tensor(j.gguf, j.items[i].name, j.items[i].dtype, j.items[i].n_dims, j.items[i].dims, err);
    if (!rc)
        rc = check_header(&j, err);
    if (!rc)
        rc = fs_gguf_writer_begin(j.gguf, err);
    for (size_t i = 0; i < j.n && !rc; i++)
        rc = put_item(&j, &j.items[i], err);
    if (!rc)
        rc = fs_gguf_writer_commit(j.gguf, err);
    fs_gguf_writer_close(j.gguf);
    job_done(&j);
    return rc;
}

/* ---- to the Hub's layout ---- */
static fs_status add_to_hub(job *j, const fs_tensor *t, fs_error *err)
{
    const fs_config *c = j->c;
    item it = plain_item(j, t);
    const char *k_b = "self_attn.k_b_proj.weight";
    size_t stem;

    if (strcmp(t->name, "rope_freqs.weight") == 0 || ends_with(t->name, "self_attn.v_b_proj.weight"))
        return FS_OK; /* in config.json; with its k_b */
    if (strlen(t->name) >= sizeof it.name - 8)
        return no_place(t, err);
    strcpy(it.name, t->name);
    if (ends_with(t->name, k_b)) {
        uint64_t heads = c->num_attention_heads, lora = c->kv_lora_rank, nope = c->qk_nope_head_dim, v = c->v_head_dim;
        char v_b[NAME_MAX_BYTES];
        fs_status rc;
        stem = strlen(t->name) - strlen(k_b);
        snprintf(v_b, sizeof v_b, "%.*sself_attn.v_b_proj.weight", (int)stem, t->name);
        rc = fs_weights_get(j->w, t->name, &it.src, err, 3, heads, lora, nope);
        if (!rc)
            rc = fs_weights_get(j->w, v_b, &it.src2, err, 3, heads, v, lora);
        if (rc)
            return rc;
        it.kind = KV_B;
        it.n_dims = 2;
        it.dims[0] = heads * (nope + v);
        it.dims[1] = lora;
        if (it.src->dtype != it.src2->dtype && j->o->type == FS_DTYPE_NONE)
            it.dtype = FS_DTYPE_F32;
        snprintf(it.name, sizeof it.name, "%.*sself_attn.kv_b_proj.weight", (int)stem, t->name);
    }
    return add(j, &it, err);
}

static const char *torch_name(const job *j)
{
    fs_dtype d = main_dtype(j);

    return d == FS_DTYPE_BF16 ? "bfloat16" : d == FS_DTYPE_F16 ? "float16" : "float32";
}

static fs_status write_text(const char *folder, const char *name, const fs_buf *text, fs_error *err)
{
    char *path = fs_path_join(folder, name);
    fs_status rc = path ? fs_file_write_atomic(path, fs_buf_bytes(text), err) : fs_fail_memory(err, strlen(folder) + strlen(name));

    free(path);
    return rc;
}

static void remove_text(const char *folder, const char *name)
{
    char *path = fs_path_join(folder, name);

    if (path)
        unlink(path);
    free(path);
}

/* config.json, checked by reading it again, and generation_config.json. c: with the rope divisors folded. */
static fs_status write_configs(const job *j, const char *folder, const fs_config *c, fs_error *err)
{
    fs_buf text = { 0 };
    fs_config back = { 0 };
    const char *field;
    fs_status rc = fs_config_to_json(c, torch_name(j), &text, err);

    if (!rc)
        rc = fs_config_from_json(&back, fs_buf_bytes(&text), "the config.json to be", err);
    if (!rc && (field = fs_config_differs(c, &back)))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "config.json cannot express this model's %s", field);
    if (!rc)
        rc = write_text(folder, "config.json", &text, err);
    fs_config_done(&back);
    fs_buf_clear(&text);
    if (!rc)
        rc = fs_buf_append_str(&text, "{", err);
    if (!rc && c->bos_token_id >= 0)
        rc = fs_buf_printf(&text, err, "\"bos_token_id\": %" PRId32 "%s", c->bos_token_id, c->n_eos_token_ids ? ", " : "");
    for (int i = 0; i < c->n_eos_token_ids && !rc; i++)
        rc = fs_buf_printf(&text, err, "%s%" PRId32 "%s", i ? ", " : "\"eos_token_id\": [", c->eos_token_ids[i],
                           i + 1 == c->n_eos_token_ids ? "]" : "");
    if (!rc)
        rc = fs_buf_append_str(&text, "}\n", err);
    if (!rc)
        rc = write_text(folder, "generation_config.json", &text, err);
    fs_buf_done(&text);
    return rc;
}

fs_status fs_convert_to_hub(const fs_weights *w, const char *folder, const fs_convert_options *o, fs_error *err)
{
    job j = { .w = w, .c = fs_weights_config(w), .o = o };
    fs_config c = *j.c; /* its pointers stay borrowed */
    fs_status rc = fs_config_fold_rope_freqs(&c, err);

    if (!rc)
        rc = fs_safetensors_writer_new(folder, o->shard_bytes_max, &j.safetensors, err);
    for (size_t i = 0; i < fs_weights_n_tensors(w) && !rc; i++)
        rc = add_to_hub(&j, fs_weights_tensor_at(w, i), err);
    if (!rc)
        rc = plan(&j, err);
    for (size_t i = 0; i < j.n && !rc; i++)
        rc = fs_safetensors_writer_add(j.safetensors, j.items[i].name, j.items[i].dtype, j.items[i].n_dims, j.items[i].dims, err);
    if (!rc)
        rc = write_configs(&j, folder, &c, err);
    if (!rc)
        rc = fs_safetensors_writer_begin(j.safetensors, err);
    while (!rc && fs_safetensors_writer_next(j.safetensors) < j.n)
        rc = put_item(&j, &j.items[fs_safetensors_writer_next(j.safetensors)], err);
    if (!rc)
        rc = fs_safetensors_writer_commit(j.safetensors, err);
    fs_safetensors_writer_close(j.safetensors);
    job_done(&j);
    if (rc) {
        remove_text(folder, "config.json");
        remove_text(folder, "generation_config.json");
    }
    return rc;
}
