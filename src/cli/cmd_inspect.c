/* farseek inspect: what a model's files hold, without loading them. A file that is no model this program runs is still
 * shown as what it is: its tensors. */
#include "cli/cli.h"
#include "cli/tally.h"
#include "cli/tokens.h"

#include "base/file.h"
#include "engine/engine.h"
#include "text/chat_template.h"
#include "formats/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct {
    bool json, tensors;
    int ctx_tokens;
} opt;

static const fs_option options[] = {
    FS_OPT_FLAG("tensors", 0, opt.tensors, "list every tensor"),
    FS_OPT_INT("ctx", 'c', opt.ctx_tokens, 0, 1 << 24, "N", "context the memory estimate counts with (default 4096, or what the model was made for if less)"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

/* ---- what is shown ---- */

/* Everything that is shown of one file or model. */
typedef struct report {
    const char *name;
    fs_weights *weights;        /* a model; or */
    fs_map map;                 /* a plain file: */
    fs_gguf *gguf;
    fs_safetensors *safetensors;
    char why[500];              /* why it is no model that runs here; empty: it is */
    const fs_tensor **list;     /* borrowed views */
    size_t n;
    fs_tallies tallies;
    uint64_t n_active;
    bool has_plan;
    fs_network_plan plan;
    size_t work_bytes;
    int ctx_tokens;
    const char *activations, *kv_type;
    fs_chat_format chat_format;
} report;

static void count(report *r)
{
    const fs_config *c = r->weights ? fs_weights_config(r->weights) : NULL;

    for (size_t i = 0; i < r->n; i++)
        fs_tallies_add(&r->tallies, r->list[i], c ? c->num_hidden_layers : 0);
    r->n_active = fs_tallies_active(&r->tallies, c);
}

/* ---- opening ---- */

static void report_done(report *r)
{
    free(r->list);
    fs_weights_close(r->weights);
    fs_gguf_close(r->gguf);
    fs_safetensors_close(r->safetensors);
    fs_map_close(&r->map);
}

/* *ret stays NULL when the model has no tokenizer. */
static fs_status open_tokenizer(const report *r, fs_tokenizer **ret, fs_error *err)
{
    const fs_gguf *g = fs_weights_gguf(r->weights);
    char *path;
    fs_status rc = FS_OK;

    if (g)
        return fs_gguf_find(g, "tokenizer.ggml.model") ? fs_tokenizer_open_gguf(g, r->name, ret, err) : FS_OK;
    path = fs_path_join(fs_weights_folder(r->weights), "tokenizer.json");
    if (!path)
        return fs_fail_memory(err, 0);
    if (fs_file_exists(path))
        rc = fs_tokens_open(path, ret, NULL, err);
    free(path);
    return rc;
}

/* The chat template is recognised by its text; DeepSeek's newer models have none, but their tokens tell. */
static fs_status find_chat_format(report *r, fs_error *err)
{
    const fs_gguf *g = fs_weights_gguf(r->weights);
    const char *model_type = fs_weights_config(r->weights)->model_type;
    fs_tokenizer *t = NULL;
    fs_chat_config config = { .add_bos = -1 };
    fs_status rc = g ? fs_chat_config_gguf(g, NULL, &config, err) : fs_chat_config_read(fs_weights_folder(r->weights), &config, err);

    if (!rc && config.source.n_bytes == 0 && strncmp(model_type, "deepseek_v", 10) == 0)
        rc = open_tokenizer(r, &t, err);
    if (!rc)
        r->chat_format = fs_chat_format_detect(fs_buf_bytes(&config.source), t, model_type);
    fs_tokenizer_close(t);
    fs_chat_config_done(&config);
    return rc;
}

/* What the network would need; a model that the engine refuses keeps its sentence in why. */
static void find_plan(report *r)
{
    const fs_config *c = fs_weights_config(r->weights);
    fs_network_options o = { .mtp = false };
    fs_network *net = NULL;
    fs_pool *pool = NULL;
    fs_kernels kernels;
    fs_error e = { 0 };

    fs_kernels_init(&kernels, fs_isa_detect());
    if (fs_pool_new(1, &pool, &e) == FS_OK && fs_network_new(r->weights, pool, &kernels, &o, &net, &r->plan, &e) == FS_OK) {
        r->has_plan = true;
        r->activations = fs_network_activations(net);
        r->kv_type = fs_network_kv_type(net);
        r->work_bytes = fs_workspace_bytes(net, FS_STEP_TOKENS, FS_STEP_SEQUENCES);
        r->ctx_tokens = opt.ctx_tokens ? opt.ctx_tokens : c->max_position_embeddings < 4096 ? (int)c->max_position_embeddings : 4096;
    } else {
        snprintf(r->why, sizeof r->why, "%s", e.message);
    }
    fs_network_free(net);
    fs_pool_free(pool);
}

static fs_status open_plain(report *r, const char *path, fs_error *err)
{
    fs_status rc = fs_map_open(&r->map, path, err);

    if (rc)
        return rc;
    if (r->map.bytes.n_bytes >= 4 && memcmp(r->map.bytes.data, "GGUF", 4) == 0)
        rc = fs_gguf_open(r->map.bytes, path, &r->gguf, err);
    else
        rc = fs_safetensors_open(r->map.bytes, path, &r->safetensors, err);
    return rc;
}

static const fs_tensor *tensor_at(const report *r, size_t i)
{
    return r->weights ? fs_weights_tensor_at(r->weights, i) : r->gguf ? fs_gguf_tensor_at(r->gguf, i) : fs_safetensors_tensor_at(r->safetensors, i);
}

static fs_status report_open(report *r, const char *path, fs_error *err)
{
    fs_error first = { 0 };
    fs_status rc = fs_weights_open(path, &r->weights, &first);

    if (rc && (!fs_file_exists(path) || fs_file_is_folder(path))) {
        if (err)
            *err = first;
        return rc;
    }
    if (rc) {
        snprintf(r->why, sizeof r->why, "%s", first.message);
        if (open_plain(r, path, err) != FS_OK) {
            if (err && first.code != FS_ERR_NOT_FOUND)
                *err = first; /* the first sentence says more */
            return err ? err->code : rc;
        }
    }
    r->n = r->weights ? fs_weights_n_tensors(r->weights) : r->gguf ? fs_gguf_n_tensors(r->gguf) : fs_safetensors_n_tensors(r->safetensors);
    r->list = calloc(r->n + 1, sizeof *r->list);
    if (!r->list)
        return fs_fail_memory(err, (r->n + 1) * sizeof *r->list);
    for (size_t i = 0; i < r->n; i++)
        r->list[i] = tensor_at(r, i);
    count(r);
    if (!r->weights)
        return FS_OK;
    find_plan(r);
    return find_chat_format(r, err);
}

/* ---- text ---- */

static const char *human_count(uint64_t n, char buffer[32])
{
    if (n >= 1000000000)
        snprintf(buffer, 32, "%.2f B", (double)n / 1e9);
    else if (n >= 1000000)
        snprintf(buffer, 32, "%.1f M", (double)n / 1e6);
    else
        snprintf(buffer, 32, "%" PRIu64, n);
    return buffer;
}

static const char *human_bytes(uint64_t n, char buffer[32])
{
    if (n >= (uint64_t)1 << 30)
        snprintf(buffer, 32, "%.2f GiB", (double)n / 1073741824.0);
    else if (n >= (uint64_t)1 << 20)
        snprintf(buffer, 32, "%.1f MiB", (double)n / 1048576.0);
    else if (n >= 1024)
        snprintf(buffer, 32, "%.1f KiB", (double)n / 1024.0);
    else
        snprintf(buffer, 32, "%" PRIu64 " B", n);
    return buffer;
}

static void line(const char *name)
{
    printf("%-16s ", name);
}

static void print_config(const report *r)
{
    const fs_config *c = fs_weights_config(r->weights);
    char a[32];

    line("architecture");
    printf("%s, %u layers, hidden size %u, vocabulary %u%s\n", c->model_type, c->num_hidden_layers, c->hidden_size, c->vocab_size,
           c->tie_word_embeddings ? ", tied embeddings" : "");
    line("attention");
    if (c->kv_lora_rank)
        printf("latent (MLA), %u heads, kv_lora_rank %u, q_lora_rank %s, rope dim %u\n", c->num_attention_heads, c->kv_lora_rank,
               c->q_lora_rank ? human_count(c->q_lora_rank, a) : "none", c->qk_rope_head_dim);
    else if (c->n_compress_ratios)
        printf("one row for keys and values, %u heads of %u, a window of %u and compressed entries, at most %u of the short ones\n",
               c->num_attention_heads, c->head_dim, c->sliding_window, c->index_topk);
    else
        printf("grouped-query, %u heads of %u, %u for keys and values\n", c->num_attention_heads, c->head_dim, c->num_key_value_heads);
    line("mlp");
    if (c->intermediate_size)
        printf("intermediate size %u%s", c->intermediate_size, c->n_routed_experts ? "; " : "");
    if (c->n_routed_experts)
        printf("%u experts of %u, %u a token, %u shared, from layer %u on", c->n_routed_experts, c->moe_intermediate_size,
               c->num_experts_per_tok, c->n_shared_experts, c->first_k_dense_replace);
    putchar('\n');
    line("context");
    printf("%u tokens, rope theta %.9g\n", c->max_position_embeddings, c->rope_theta);
    line("chat format");
    puts(r->chat_format == FS_CHAT_NONE ? "none known: farseek run --raw continues a text, --format names one" : fs_chat_format_name(r->chat_format));
}

static void print_table(const char *title, const char *const *names, const fs_tally *rows, size_t n, uint64_t bytes)
{
    char a[32], b[32];

    printf("\n%-16s %8s %12s %12s %7s\n", title, "tensors", "parameters", "bytes", "share");
    for (size_t i = 0; i < n; i++)
        if (rows[i].n_tensors)
            printf("  %-14s %8" PRIu64 " %12s %12s %6.1f%%\n", names[i], rows[i].n_tensors, human_count(rows[i].n_params, a),
                   human_bytes(rows[i].n_bytes, b), bytes ? 100.0 * (double)rows[i].n_bytes / (double)bytes : 0.0);
}

static uint64_t kv_bytes(const report *r)
{
    return (uint64_t)r->plan.kv_token_bytes * (uint64_t)r->ctx_tokens + r->plan.kv_fixed_bytes;
}

static void print_memory(const report *r)
{
    char a[32], b[32], c[32], d[32];
    uint64_t kv = kv_bytes(r);
    size_t available = fs_memory_available();

    putchar('\n');
    line("kv cache");
    printf("%s a token, %s", human_bytes(r->plan.kv_token_bytes, a), r->kv_type);
    if (r->plan.kv_fixed_bytes)
        printf(", and %s", human_bytes(r->plan.kv_fixed_bytes, a));
    putchar('\n');
    line("activations");
    printf("%s\n", strcmp(r->activations, "q8") ? "f32" : "q8 (8 to 15 bits against block-quantised weights; --exact-activations: f32)");
    line("memory");
    printf("%s: weights %s, kv cache of %d tokens %s, work space %s\n", human_bytes(r->plan.weights_bytes + kv + r->work_bytes, a),
           human_bytes(r->plan.weights_bytes, b), r->ctx_tokens, human_bytes(kv, c), human_bytes(r->work_bytes, d));
    if (available != SIZE_MAX) {
        line("free here");
        puts(human_bytes(available, a));
    }
}

static fs_status print_tensors(const report *r, fs_error *err)
{
    putchar('\n');
    for (size_t i = 0; i < r->n; i++) {
        const fs_tensor *t = r->list[i];
        fs_buf clean = { 0 };
        char dims[100] = "";
        size_t at = 0;
        fs_status rc = fs_text_clean(&clean, fs_bytes_str(t->name), err);
        if (rc)
            return rc;
        for (int k = 0; k < t->n_dims; k++)
            at += (size_t)snprintf(dims + at, sizeof dims - at, "%s%" PRIu64, k ? ", " : "", t->dims[k]);
        printf("%-64s %-8s [%s]\n", clean.data ? clean.data : "", fs_dtype_get(t->dtype)->name, dims);
        fs_buf_done(&clean);
    }
    return FS_OK;
}

static fs_status print_text(const report *r, fs_error *err)
{
    const char *dtype_names[FS_DTYPE_END] = { "none" };
    fs_buf clean = { 0 };
    char a[32], b[32];
    fs_status rc = fs_text_clean(&clean, fs_bytes_str(r->name), err);

    if (rc)
        return rc;
    printf("%s\n", clean.data ? clean.data : "");
    if (r->weights)
        print_config(r);
    line("parameters");
    printf("%s in %zu tensors, %s", human_count(r->tallies.all.n_params, a), r->n, human_bytes(r->tallies.all.n_bytes, b));
    if (r->weights)
        printf("; %s active a token", human_count(r->n_active, a));
    putchar('\n');
    for (int i = 1; i < FS_DTYPE_END; i++)
        dtype_names[i] = fs_dtype_get((fs_dtype)i)->name;
    print_table("part", fs_part_names, r->tallies.parts, FS_PART_END, r->tallies.all.n_bytes);
    print_table("dtype", dtype_names, r->tallies.dtypes, FS_DTYPE_END, r->tallies.all.n_bytes);
    if (r->has_plan)
        print_memory(r);
    if (opt.tensors)
        rc = print_tensors(r, err);
    fs_buf_clear(&clean);
    if (!rc && r->why[0])
        rc = fs_text_clean(&clean, fs_bytes_str(r->why), err);
    if (!rc && r->why[0])
        printf("\nThis program does not run it: %s\n", clean.data);
    fs_buf_done(&clean);
    return rc;
}

/* ---- JSON ---- */

static fs_status json_tallies(fs_buf *out, const char *key, const char *const *names, const fs_tally *rows, size_t n, fs_error *err)
{
    const char *between = "";
    fs_status rc = fs_buf_printf(out, err, ", \"%s\": {", key);

    for (size_t i = 0; i < n && !rc; i++) {
        if (!rows[i].n_tensors)
            continue;
        rc = fs_buf_printf(out, err, "%s\"%s\": {\"tensors\": %" PRIu64 ", \"parameters\": %" PRIu64 ", \"bytes\": %" PRIu64 "}", between,
                           names[i], rows[i].n_tensors, rows[i].n_params, rows[i].n_bytes);
        between = ", ";
    }
    return rc ? rc : fs_buf_append_str(out, "}", err);
}

static fs_status json_model(fs_buf *out, const report *r, fs_error *err)
{
    const fs_config *c = fs_weights_config(r->weights);

    return fs_buf_printf(out, err,
                         ", \"architecture\": \"%s\", \"layers\": %u, \"hidden_size\": %u, \"vocab_size\": %u, \"context\": %u, \"heads\": %u, "
                         "\"kv_heads\": %u, \"kv_lora_rank\": %u, \"experts\": %u, \"experts_per_token\": %u, \"mtp_layers\": %u, "
                         "\"active_parameters\": %" PRIu64 ", \"chat_format\": \"%s\"",
                         c->model_type, c->num_hidden_layers, c->hidden_size, c->vocab_size, c->max_position_embeddings,
                         c->num_attention_heads, c->num_key_value_heads, c->kv_lora_rank, c->n_routed_experts, c->num_experts_per_tok,
                         c->num_nextn_predict_layers, r->n_active, r->chat_format == FS_CHAT_NONE ? "none" : fs_chat_format_name(r->chat_format));
}

static fs_status json_tensors(fs_buf *out, const report *r, fs_error *err)
{
    fs_status rc = fs_buf_append_str(out, ", \"tensors\": [", err);

    for (size_t i = 0; i < r->n && !rc; i++) {
        const fs_tensor *t = r->list[i];
        rc = fs_buf_append_str(out, i ? ",\n {\"name\": " : "\n {\"name\": ", err);
        if (!rc)
            rc = fs_json_quote(out, fs_bytes_str(t->name), err);
        if (!rc)
            rc = fs_buf_printf(out, err, ", \"dtype\": \"%s\", \"bytes\": %zu, \"shape\": [", fs_dtype_get(t->dtype)->name, t->n_bytes);
        for (int k = 0; k < t->n_dims && !rc; k++)
            rc = fs_buf_printf(out, err, "%s%" PRIu64, k ? ", " : "", t->dims[k]);
        if (!rc)
            rc = fs_buf_append_str(out, "]}", err);
    }
    return rc ? rc : fs_buf_append_str(out, "]", err);
}

static fs_status print_json(const report *r, fs_error *err)
{
    const char *dtype_names[FS_DTYPE_END] = { "none" };
    fs_buf out = { 0 };
    fs_status rc = fs_buf_append_str(&out, "{\"name\": ", err);

    for (int i = 1; i < FS_DTYPE_END; i++)
        dtype_names[i] = fs_dtype_get((fs_dtype)i)->name;
    if (!rc)
        rc = fs_json_quote(&out, fs_bytes_str(r->name), err);
    if (!rc)
        rc = fs_buf_printf(&out, err, ", \"parameters\": %" PRIu64 ", \"bytes\": %" PRIu64, r->tallies.all.n_params, r->tallies.all.n_bytes);
    if (!rc && r->weights)
        rc = json_model(&out, r, err);
    if (!rc)
        rc = json_tallies(&out, "parts", fs_part_names, r->tallies.parts, FS_PART_END, err);
    if (!rc)
        rc = json_tallies(&out, "dtypes", dtype_names, r->tallies.dtypes, FS_DTYPE_END, err);
    if (!rc && r->has_plan)
        rc = fs_buf_printf(&out, err, ", \"activations\": \"%s\", \"kv_type\": \"%s\", \"kv_bytes_per_token\": %zu, \"memory\": {\"weights\": %zu, \"kv\": %" PRIu64 ", \"work\": %zu, \"ctx\": %d}",
                           r->activations, r->kv_type, r->plan.kv_token_bytes, r->plan.weights_bytes, kv_bytes(r),
                           r->work_bytes, r->ctx_tokens);
    if (!rc)
        rc = fs_buf_append_str(&out, ", \"refused\": ", err);
    if (!rc)
        rc = r->why[0] ? fs_json_quote(&out, fs_bytes_str(r->why), err) : fs_buf_append_str(&out, "null", err);
    if (!rc && opt.tensors)
        rc = json_tensors(&out, r, err);
    if (!rc)
        rc = fs_buf_append_str(&out, "}\n", err);
    if (!rc)
        fwrite(out.data, 1, out.n_bytes, stdout);
    fs_buf_done(&out);
    return rc;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    report r = { .name = args->items[0] };
    char *path = NULL;
    fs_status rc = fs_model_path(args->items[0], &path, err);

    if (!rc)
        rc = report_open(&r, path, err);
    if (!rc)
        rc = opt.json ? print_json(&r, err) : print_text(&r, err);
    report_done(&r);
    free(path);
    return rc;
}

const fs_command fs_command_inspect = {
    .set = { .name = "inspect",
             .usage = "MODEL|FILE",
             .summary = "Show what a model's files hold and what it needs, without loading it.",
             .text = "\nActive parameters are those a token is multiplied with: without the embedding table (unless the head is "
                     "tied to it), without the experts that are not chosen, without multi-token prediction.\n",
             .options = options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = run,
};
