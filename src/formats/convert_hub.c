/* To the Hub's layout. */
#include "formats/convert_impl.h"

#include "base/file.h"
#include "formats/config_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Two tensors: codes and scales. */
static fs_status add_fp4(fs_convert_job *j, const fs_tensor *t, fs_error *err)
{
    fs_item codes = { .kind = FS_ITEM_FP4, .dtype = FS_DTYPE_I8, .n_dims = 2, .src = t, .dims = { t->dims[0], t->dims[1] / 2 } }, scales = codes;
    size_t stem = strlen(t->name) - strlen("weight");
    fs_status rc;

    snprintf(codes.name, sizeof codes.name, "%s", t->name);
    scales.kind = FS_ITEM_FP4_SCALES;
    scales.dtype = FS_DTYPE_F8_E8M0;
    scales.dims[1] = t->dims[1] / MXFP4_ELEMS;
    snprintf(scales.name, sizeof scales.name, "%.*sscale", (int)stem, t->name);
    j->fp4 = true;
    rc = fs_convert_add(j, &codes, err);
    return rc ? rc : fs_convert_add(j, &scales, err);
}

/* e_proj and h_proj of what GGUF has side by side. */
static fs_status add_columns(fs_convert_job *j, const fs_tensor *t, fs_error *err)
{
    fs_item it = fs_convert_plain_item(j, t);
    size_t stem = strlen(t->name) - strlen("eh_proj.weight");
    fs_status rc = fs_weights_get(j->w, t->name, &it.src, err, 2, (uint64_t)j->c->hidden_size, 2 * (uint64_t)j->c->hidden_size);

    it.kind = FS_ITEM_COLUMNS;
    it.dims[1] = j->c->hidden_size;
    snprintf(it.name, sizeof it.name, "%.*se_proj.weight", (int)stem, t->name);
    if (!rc)
        rc = fs_convert_add(j, &it, err);
    it.first_col = it.dims[1];
    snprintf(it.name, sizeof it.name, "%.*sh_proj.weight", (int)stem, t->name);
    return rc ? rc : fs_convert_add(j, &it, err);
}

static fs_status add_to_hub(fs_convert_job *j, const fs_tensor *t, fs_error *err)
{
    const fs_config *c = j->c;
    fs_item it = fs_convert_plain_item(j, t);
    const char *k_b = "self_attn.k_b_proj.weight";
    size_t stem;

    if (fs_convert_is_scale(t) || !fs_convert_is_own_head(j, t))
        return FS_OK;
    if (strcmp(t->name, "rope_freqs.weight") == 0 || fs_ends_with(t->name, "self_attn.v_b_proj.weight"))
        return FS_OK; /* in config.json; with its k_b */
    if (j->o->no_mtp && fs_convert_is_mtp(j, t))
        return FS_OK;
    if (strlen(t->name) >= sizeof it.name - 8)
        return fs_convert_no_place(t, err);
    if (it.kind != FS_ITEM_IDS && !fs_dtype_get(t->dtype)->is_weight)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "tensor '%s' is %s, which holds no weights", t->name, fs_dtype_get(t->dtype)->name);
    if (j->v4 && !fs_convert_is_merged(j, t) && t->dtype == FS_DTYPE_MXFP4 && t->n_dims == 2 && j->o->type == FS_DTYPE_NONE && fs_ends_with(t->name, ".weight"))
        return add_fp4(j, t, err);
    if (j->v4 && fs_convert_is_mtp(j, t) && fs_ends_with(t->name, ".eh_proj.weight"))
        return add_columns(j, t, err);
    strcpy(it.name, t->name);
    if (fs_ends_with(t->name, k_b)) {
        uint64_t heads = c->num_attention_heads, lora = c->kv_lora_rank, nope = c->qk_nope_head_dim, v = c->v_head_dim;
        char v_b[FS_ITEM_NAME_MAX];
        fs_status rc;
        stem = strlen(t->name) - strlen(k_b);
        snprintf(v_b, sizeof v_b, "%.*sself_attn.v_b_proj.weight", (int)stem, t->name);
        rc = fs_weights_get(j->w, t->name, &it.src, err, 3, heads, lora, nope);
        if (!rc)
            rc = fs_weights_get(j->w, v_b, &it.src2, err, 3, heads, v, lora);
        if (rc)
            return rc;
        it.kind = FS_ITEM_KV_B;
        it.n_dims = 2;
        it.dims[0] = heads * (nope + v);
        it.dims[1] = lora;
        if (it.src->dtype != it.src2->dtype && j->o->type == FS_DTYPE_NONE)
            it.dtype = FS_DTYPE_F32;
        snprintf(it.name, sizeof it.name, "%.*sself_attn.kv_b_proj.weight", (int)stem, t->name);
    }
    return fs_convert_add(j, &it, err);
}

static const char *torch_name(const fs_convert_job *j)
{
    fs_dtype d = fs_convert_main_dtype(j);

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

/* What says how numbers are stored; the head and the layers that predict ahead, where they change. */
static fs_status edit_config(void *ud, struct json_object *json, fs_error *err)
{
    const fs_convert_job *j = ud;

    (void)err;
    json_object_object_del(json, "quantization_config");
    json_object_object_del(json, "expert_dtype");
    json_object_object_add(json, fs_json_member(json, "dtype") ? "dtype" : "torch_dtype", json_object_new_string(torch_name(j)));
    if (j->c->tie_word_embeddings != fs_weights_config(j->w)->tie_word_embeddings)
        json_object_object_add(json, "tie_word_embeddings", json_object_new_boolean(j->c->tie_word_embeddings));
    if (j->o->no_mtp && fs_json_member(json, "num_nextn_predict_layers"))
        json_object_object_add(json, "num_nextn_predict_layers", json_object_new_int(0));
    return FS_OK;
}

/* The text, and what it says. */
static fs_status make_config(fs_convert_job *j, fs_buf *ret, fs_config *back, fs_error *err)
{
    fs_config_storage storage = { .torch_dtype = torch_name(j), .expert_dtype = j->fp4 ? "fp4" : NULL, .fp8 = j->fp4, .ue8m0 = j->fp4 };
    fs_status rc = j->same ? fs_config_edited(fs_weights_folder(j->w), edit_config, j, ret, err) :
                             fs_config_to_json(j->c, &storage, ret, err);

    if (!rc)
        rc = fs_config_from_json(back, fs_buf_bytes(ret), "the config.json to be", err);
    if (!rc && j->same) { /* generation_config.json may have said more */
        back->n_eos_token_ids = j->c->n_eos_token_ids;
        memcpy(back->eos_token_ids, j->c->eos_token_ids, sizeof back->eos_token_ids);
    }
    return rc;
}

static bool has_text(const char *folder, const char *name)
{
    char *path = fs_path_join(folder, name);
    bool there = path && fs_file_exists(path);

    free(path);
    return there;
}

/* config.json, checked by reading it again, and generation_config.json. */
static fs_status write_configs(fs_convert_job *j, const char *folder, fs_error *err)
{
    const fs_config *c = j->c;
    fs_buf text = { 0 };
    fs_config back = { 0 };
    const char *field;
    fs_status rc = make_config(j, &text, &back, err);

    if (!rc && (field = fs_config_differs(c, &back)))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "config.json cannot express this model's %s", field);
    if (!rc)
        rc = write_text(folder, "config.json", &text, err);
    fs_config_done(&back);
    if (rc || has_text(folder, "generation_config.json")) {
        fs_buf_done(&text);
        return rc;
    }
    fs_buf_clear(&text);
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
    fs_config c = { 0 };
    bool v4 = strcmp(fs_weights_config(w)->model_type, "deepseek_v4") == 0;
    fs_convert_job j = { .w = w, .c = &c, .o = o, .v4 = v4, .same = !fs_weights_gguf(w) };
    fs_status rc = fs_convert_config_of(w, o, &c, err);

    if (!rc)
        rc = fs_config_fold_rope_freqs(&c, err);
    if (!rc)
        rc = fs_safetensors_writer_new(folder, o->shard_bytes_max, &j.safetensors, err);
    for (size_t i = 0; i < fs_weights_n_tensors(w) && !rc; i++)
        rc = add_to_hub(&j, fs_weights_tensor_at(w, i), err);
    if (!rc)
        rc = fs_convert_add_head(&j, err);
    if (!rc)
        rc = fs_convert_check_merge(&j, err);
    if (!rc)
        rc = fs_convert_plan(&j, err);
    for (size_t i = 0; i < j.n && !rc; i++)
        rc = fs_safetensors_writer_add(j.safetensors, j.items[i].name, j.items[i].dtype, j.items[i].n_dims, j.items[i].dims, err);
    if (!rc)
        rc = write_configs(&j, folder, err);
    if (!rc)
        rc = fs_safetensors_writer_begin(j.safetensors, err);
    while (!rc && fs_safetensors_writer_next(j.safetensors) < j.n)
        rc = fs_convert_put_item(&j, &j.items[fs_safetensors_writer_next(j.safetensors)], err);
    if (!rc)
        rc = fs_safetensors_writer_commit(j.safetensors, err);
    fs_safetensors_writer_close(j.safetensors);
    fs_convert_job_done(&j);
    if (rc) {
        remove_text(folder, "config.json");
        remove_text(folder, "generation_config.json");
    }
    return rc;
}
