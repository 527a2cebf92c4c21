/* To GGUF. */
#include "formats/convert_impl.h"

#include "base/mem.h"
#include "formats/config_write.h"
#include "formats/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* All there, and of one type, or F32. */
static fs_status check_experts(const fs_convert_job *j, fs_item *it, fs_error *err)
{
    const fs_tensor *t = NULL;
    fs_status rc = FS_OK;

    for (uint64_t e = 0; e < it->dims[0] && !rc; e++) {
        rc = fs_convert_get_expert(j, it, e, &t, err);
        if (!rc && fs_convert_dtype_of(j, t) != it->dtype)
            it->dtype = FS_DTYPE_F32;
    }
    return rc;
}

/* What other programs leave in a checkpoint though the configuration says the same, that a tied head repeats, or that
 * stands beside the ids by which V4's first layers choose experts. */
static bool is_redundant(const fs_convert_job *j, const fs_tensor *t)
{
    uint32_t layer;

    if (j->v4 && sscanf(t->name, "layers.%5" SCNu32 ".ffn.gate.bias", &layer) == 1 && fs_ends_with(t->name, ".ffn.gate.bias") &&
        layer < j->c->num_hash_layers)
        return true;
    return fs_convert_is_scale(t) || !fs_convert_is_own_head(j, t) || (j->o->no_mtp && fs_convert_is_mtp(j, t));
}

static fs_status add_sides(fs_convert_job *j, const fs_tensor *e, fs_error *err)
{
    fs_item it = fs_convert_plain_item(j, e);
    char h[FS_ITEM_NAME_MAX], both[FS_ITEM_NAME_MAX];
    int stem = (int)(strlen(e->name) - strlen("e_proj.weight"));
    uint64_t d = j->c->hidden_size;
    fs_status rc;

    snprintf(h, sizeof h, "%.*sh_proj.weight", stem, e->name);
    snprintf(both, sizeof both, "%.*seh_proj.weight", stem, e->name);
    if (!fs_name_to_gguf(j->c, both, it.name, sizeof it.name))
        return fs_convert_no_place(e, err);
    rc = fs_weights_get(j->w, e->name, &it.src, err, 2, d, d);
    if (!rc)
        rc = fs_weights_get(j->w, h, &it.src2, err, 2, d, d);
    if (rc)
        return rc;
    if (fs_convert_dtype_of(j, it.src2) != it.dtype || it.dtype == FS_DTYPE_MXFP4)
        it.dtype = FS_DTYPE_F32;
    it.kind = FS_ITEM_SIDES;
    it.dims[1] = 2 * d;
    return fs_convert_add(j, &it, err);
}

static fs_status add_to_gguf(fs_convert_job *j, const fs_tensor *t, fs_error *err)
{
    const fs_config *c = j->c;
    bool permuted = strcmp(c->model_type, "llama") == 0 || strcmp(c->model_type, "deepseek") == 0;
    uint32_t layer = 0, expert = 0;
    fs_item it = fs_convert_plain_item(j, t);
    fs_status rc;

    if (j->v4 && fs_convert_is_mtp(j, t) && fs_ends_with(t->name, ".e_proj.weight"))
        return add_sides(j, t, err);
    if (j->v4 && fs_convert_is_mtp(j, t) && fs_ends_with(t->name, ".h_proj.weight"))
        return FS_OK; /* with its e_proj */
    if (fs_expert_name_to_gguf(c, t->name, it.name, sizeof it.name, &expert)) {
        if (expert > 0) /* taken with the first */
            return expert < c->n_routed_experts ? FS_OK : fs_convert_no_place(t, err);
        if (t->n_dims != 2)
            return fs_convert_no_place(t, err);
        it.kind = FS_ITEM_EXPERTS;
        it.n_dims = 3;
        it.dims[2] = t->dims[1];
        it.dims[1] = t->dims[0];
        it.dims[0] = c->n_routed_experts;
        rc = check_experts(j, &it, err);
        return rc ? rc : fs_convert_add(j, &it, err);
    }
    if (!fs_name_to_gguf(c, t->name, it.name, sizeof it.name))
        return fs_convert_no_place(t, err);
    if (it.kind != FS_ITEM_IDS && !fs_dtype_get(t->dtype)->is_weight)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' is %s, which holds no weights", t->name, fs_dtype_get(t->dtype)->name);
    if (permuted && (fs_ends_with(t->name, ".self_attn.q_proj.weight") || fs_ends_with(t->name, ".self_attn.k_proj.weight"))) {
        it.rope_heads = fs_ends_with(t->name, "q_proj.weight") ? c->num_attention_heads : c->num_key_value_heads;
        if (t->n_dims != 2 || t->dims[0] != (uint64_t)it.rope_heads * c->head_dim)
            return fs_convert_no_place(t, err);
    }
    if (permuted && (fs_ends_with(t->name, ".self_attn.q_proj.bias") || fs_ends_with(t->name, ".self_attn.k_proj.bias")))
        return fs_convert_no_place(t, err);
    if (!fs_ends_with(t->name, ".self_attn.kv_b_proj.weight"))
        return fs_convert_add(j, &it, err);

    if (t->n_dims != 2 || t->dims[1] != c->kv_lora_rank ||
        t->dims[0] != (uint64_t)c->num_attention_heads * ((uint64_t)c->qk_nope_head_dim + c->v_head_dim))
        return fs_convert_no_place(t, err);
    sscanf(t->name, "model.layers.%" SCNu32 ".", &layer);
    it.n_dims = 3;
    it.kind = FS_ITEM_K_B;
    it.dims[0] = c->num_attention_heads;
    it.dims[1] = c->kv_lora_rank;
    it.dims[2] = c->qk_nope_head_dim;
    snprintf(it.name, sizeof it.name, "blk.%" PRIu32 ".attn_k_b.weight", layer);
    rc = fs_convert_add(j, &it, err);
    it.kind = FS_ITEM_V_B;
    it.dims[1] = c->v_head_dim;
    it.dims[2] = c->kv_lora_rank;
    snprintf(it.name, sizeof it.name, "blk.%" PRIu32 ".attn_v_b.weight", layer);
    return rc ? rc : fs_convert_add(j, &it, err);
}

/* The header is read again as the file that it will be, whose data read as zeros: what GGUF could not say shows. */
static fs_status check_header(const fs_convert_job *j, fs_error *err)
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

static fs_status choose_types(fs_convert_job *j, fs_error *err)
{
    const fs_convert_quant *q = j->o->quant;
    fs_status rc = FS_OK;

    for (size_t i = 0; q && i < j->n && !rc; i++) {
        fs_item *it = &j->items[i];
        if (it->n_dims > 1 && it->kind != FS_ITEM_IDS)
            rc = q->choose(q->ud, it->name, it->dtype, it->n_dims, it->dims, &it->dtype, err);
    }
    return rc || !q ? rc : q->check(q->ud, err);
}

/* llama.cpp's numbers. */
static uint32_t file_type(const fs_convert_job *j)
{
    fs_dtype d = fs_convert_main_dtype(j);

    if (j->o->quant)
        return j->o->quant->file_type;
    for (size_t i = 0; i < j->n; i++)
        if (j->items[i].dtype == FS_DTYPE_MXFP4)
            return 38;
    return d == FS_DTYPE_BF16 ? 32 : d == FS_DTYPE_F16 ? 1 : 0;
}

fs_status fs_convert_to_gguf(const fs_weights *w, const char *path, const fs_convert_options *o, fs_error *err)
{
    fs_config c = { 0 };
    fs_convert_job j = { .w = w, .c = &c, .o = o, .v4 = strcmp(fs_weights_config(w)->model_type, "deepseek_v4") == 0 };
    fs_item freqs = { .name = "rope_freqs.weight", .kind = FS_ITEM_FREQS, .dtype = FS_DTYPE_F32, .n_dims = 1 };
    fs_status rc = fs_convert_config_of(w, o, &c, err);

    freqs.dims[0] = c.head_dim / 2;
    if (!rc)
        rc = fs_gguf_writer_new(path, &j.gguf, err);
    if (!rc)
        rc = fs_config_to_gguf(j.c, j.gguf, err);
    for (size_t i = 0; i < fs_weights_n_tensors(w) && !rc; i++)
        if (!is_redundant(&j, fs_weights_tensor_at(w, i)))
            rc = add_to_gguf(&j, fs_weights_tensor_at(w, i), err);
    if (!rc)
        rc = fs_convert_add_head(&j, err);
    if (!rc && j.c->rope_type == FS_ROPE_LLAMA3)
        rc = fs_convert_add(&j, &freqs, err);
    if (!rc)
        rc = fs_convert_check_merge(&j, err);
    if (!rc)
        rc = choose_types(&j, err);
    if (!rc)
        rc = fs_gguf_put_u32(j.gguf, "general.file_type", file_type(&j), err);
    if (!rc && o->quant)
        rc = fs_gguf_put_u32(j.gguf, "general.quantization_version", 2, err);
    if (!rc && o->metadata)
        rc = o->metadata(o->ud, j.gguf, err);
    if (!rc)
        rc = fs_convert_plan(&j, err);
    for (size_t i = 0; i < j.n && !rc; i++)
        rc = fs_gguf_put_tensor(j.gguf, j.items[i].name, j.items[i].dtype, j.items[i].n_dims, j.items[i].dims, err);
    if (!rc)
        rc = check_header(&j, err);
    if (!rc)
        rc = fs_gguf_writer_begin(j.gguf, err);
    for (size_t i = 0; i < j.n && !rc; i++)
        rc = fs_convert_put_item(&j, &j.items[i], err);
    if (!rc)
        rc = fs_gguf_writer_commit(j.gguf, err);
    fs_gguf_writer_close(j.gguf);
    fs_convert_job_done(&j);
    return rc;
}
