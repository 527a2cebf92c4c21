/* A model: files, network, tokenizer and chat format under one roof. */
#include "engine/internal.h"

#include "base/cgroup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/sandbox.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENIZER_BYTES_MAX ((size_t)256 << 20)
#define CONFIG_BYTES_MAX    ((size_t)16 << 20)
#define CTX_TOKENS_DEFAULT  4096

const char *fs_version(void)
{
    return FS_VERSION;
}

/* ---- memory ---- */
size_t fs_memory_available(void)
{
    uint64_t free_kib;
    size_t available = fs_cgroup_memory_left("/sys/fs/cgroup", "/proc/self/cgroup");

    if (fs_file_number("/proc/meminfo", "MemAvailable:", &free_kib) && free_kib * 1024 < available)
        available = (size_t)free_kib * 1024;
    return available;
}

fs_memory_estimate fs_model_memory(const fs_model *m, int ctx_tokens)
{
    fs_memory_estimate e = { .weights_bytes = m->plan.weights_bytes, .experts_bytes = m->stream_bytes, .available_bytes = fs_memory_available() };
    size_t ctx = ((size_t)(ctx_tokens > 0 ? ctx_tokens : CTX_TOKENS_DEFAULT) + FS_KV_BLOCK - 1) / FS_KV_BLOCK * FS_KV_BLOCK;

    if (!fs_mul_size(ctx, m->plan.kv_token_bytes, &e.kv_bytes) || !fs_add_size(e.kv_bytes, m->plan.kv_fixed_bytes, &e.kv_bytes))
        e.kv_bytes = SIZE_MAX;
    e.work_bytes = fs_workspace_bytes(m->network, FS_STEP_TOKENS, FS_STEP_SEQUENCES);
    if (!fs_add_size(e.weights_bytes, e.kv_bytes, &e.total_bytes) || !fs_add_size(e.total_bytes, e.work_bytes, &e.total_bytes) ||
        !fs_add_size(e.total_bytes, e.experts_bytes, &e.total_bytes))
        e.total_bytes = SIZE_MAX;
    return e;
}

/* Resident memory of the process: tables of the files and of the tokenizer, mostly. */
static size_t memory_now(void)
{
    uint64_t kib;

    return fs_file_number("/proc/self/status", "VmRSS:", &kib) ? (size_t)kib * 1024 : 0;
}

/* What is known only when a conversation goes on: its logits, its tokens, what the program says. */
#define PROGRAM_BYTES ((size_t)8 << 20)

static fs_status stream_experts(fs_model *m, uint32_t n_slots, fs_error *err)
{
    fs_status rc = fs_network_stream(m->network, n_slots, &m->plan, err);

    if (!rc)
        m->stream_bytes = fs_network_stream_bytes(m->network, n_slots);
    return rc;
}

/* As many as fit in what the limit leaves, which is some. */
static uint32_t slots_that_fit(const fs_model *m, size_t left)
{
    uint32_t lo = fs_weights_config(m->weights)->num_experts_per_tok, hi = m->plan.n_experts;

    while (lo < hi) {
        uint32_t mid = hi - (hi - lo) / 2;
        if (fs_network_stream_bytes(m->network, mid) <= left)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

/* Whether the model fits, with its experts in memory or else with as many as a token needs. */
static fs_status plan_memory(fs_model *m, const fs_model_options *o, fs_error *err)
{
    int ctx = o->ctx_tokens > 0 ? o->ctx_tokens : fs_model_ctx_tokens_max(m) < CTX_TOKENS_DEFAULT ? fs_model_ctx_tokens_max(m) : CTX_TOKENS_DEFAULT;
    fs_memory_estimate e = fs_model_memory(m, ctx);
    size_t limit = o->memory_bytes_max ? (size_t)o->memory_bytes_max : e.available_bytes, need, left, slots;
    size_t program = o->memory_bytes_max ? memory_now() + PROGRAM_BYTES : 0; /* what is free is free besides this process */
    uint32_t n_slots = fs_weights_config(m->weights)->num_experts_per_tok;
    const char *limit_is = o->memory_bytes_max ? "the limit is" : "the machine has free";
    const double mib = 1024 * 1024;

    if (!fs_add_size(e.total_bytes, program, &need) || need > limit) {
        if (!m->plan.n_experts)
            return fs_fail(err, FS_ERR_MEMORY,
                           "the model needs %.0f MiB (weights %.0f, KV cache of %d tokens %.0f, work space %.0f, the program %.0f), %s %.0f MiB",
                           (double)need / mib, (double)e.weights_bytes / mib, ctx, (double)e.kv_bytes / mib, (double)e.work_bytes / mib,
                           (double)program / mib, limit_is, (double)limit / mib);
        slots = fs_network_stream_bytes(m->network, n_slots);
        need = e.total_bytes == SIZE_MAX ? SIZE_MAX : need - m->plan.experts_bytes;
        if (!fs_add_size(need, slots, &slots) || slots > limit)
            return fs_fail(err, FS_ERR_MEMORY,
                           "the model needs %.1f MiB with its experts on disk (weights besides them %.1f, KV cache of %d tokens %.1f, work "
                           "space %.1f, the program %.1f, %u experts at a time %.1f), %s %.1f MiB",
                           (double)slots / mib, (double)(e.weights_bytes - m->plan.experts_bytes) / mib, ctx, (double)e.kv_bytes / mib,
                           (double)e.work_bytes / mib, (double)program / mib, n_slots, (double)fs_network_stream_bytes(m->network, n_slots) / mib,
                           limit_is, (double)limit / mib);
        left = limit - need;
        n_slots = o->n_expert_slots ? (uint32_t)o->n_expert_slots : slots_that_fit(m, o->memory_bytes_max ? left : left - left / 16);
        return stream_experts(m, n_slots, err);
    }
    return o->n_expert_slots && m->plan.n_experts ? stream_experts(m, (uint32_t)o->n_expert_slots, err) : FS_OK;
}

/* ---- tokenizer and chat format ---- */
static fs_status read_json_beside(const fs_model *m, const char *name, size_t bytes_max, fs_buf *ret, bool *ret_found, fs_error *err)
{
    char *path = fs_path_join(fs_weights_folder(m->weights), name);
    fs_status rc = FS_OK;

    if (!path)
        return fs_fail_memory(err, strlen(name));
    *ret_found = fs_file_exists(path);
    if (*ret_found)
        rc = fs_file_read(path, bytes_max, ret, err);
    free(path);
    return rc;
}

/* A template that is of no use leaves the model without a chat format: it may still continue a text. */
static fs_status choose_chat_format(fs_model *m, fs_error *err)
{
    fs_bytes source = fs_buf_bytes(&m->chat_config.source);
    fs_status rc;

    m->chat_format = fs_chat_format_detect(source, m->tokenizer, fs_weights_config(m->weights)->model_type);
    if (m->chat_format != FS_CHAT_TEMPLATE)
        return FS_OK;
    rc = fs_chat_template_open(source, m->chat_config.own, &m->chat_template, &m->chat_error);
    if (rc)
        m->chat_format = FS_CHAT_NONE;
    if (rc == FS_ERR_MEMORY && err)
        *err = m->chat_error;
    return rc == FS_ERR_MEMORY ? rc : FS_OK;
}

static fs_status open_text(fs_model *m, const char *path, fs_error *err)
{
    const fs_gguf *g = fs_weights_gguf(m->weights);
    time_t seconds = time(NULL);
    fs_buf text = { 0 };
    bool found = false;
    fs_status rc = FS_OK;

    localtime_r(&seconds, &m->now);
    if (g) {
        found = fs_gguf_find(g, "tokenizer.ggml.model") != NULL;
        if (found)
            rc = fs_tokenizer_open_gguf(g, path, &m->tokenizer, err);
        if (!rc)
            rc = fs_chat_config_gguf(g, m->tokenizer, &m->chat_config, err);
    } else {
        rc = read_json_beside(m, "tokenizer.json", TOKENIZER_BYTES_MAX, &text, &found, err);
        if (!rc && found)
            rc = fs_tokenizer_open_json(fs_buf_bytes(&text), "tokenizer.json", &m->tokenizer, err);
        if (!rc)
            rc = fs_chat_config_read(fs_weights_folder(m->weights), &m->chat_config, err);
        if (!rc && m->tokenizer)
            fs_chat_config_set_bos(&m->chat_config, m->tokenizer);
    }
    if (!rc && m->tokenizer)
        rc = choose_chat_format(m, err);
    fs_buf_done(&text);
    return rc;
}

static fs_status read_sampling(fs_model *m, fs_error *err)
{
    fs_buf text = { 0 };
    struct json_object *json = NULL;
    bool found, f[4] = { 0 };
    double temperature = 1, top_p = 1, repetition = 1;
    int64_t top_k = 0;
    fs_status rc = FS_OK;

    m->sampling = fs_sampling_default();
    if (fs_weights_gguf(m->weights))
        return FS_OK;
    rc = read_json_beside(m, "generation_config.json", CONFIG_BYTES_MAX, &text, &found, err);
    if (!rc && found)
        rc = fs_json_parse(fs_buf_bytes(&text), "generation_config.json", &json, err);
    if (!rc && found) {
        rc = fs_json_double(json, "temperature", &temperature, &f[0], err);
        if (!rc)
            rc = fs_json_double(json, "top_p", &top_p, &f[1], err);
        if (!rc)
            rc = fs_json_int(json, "top_k", 0, INT32_MAX, &top_k, &f[2], err);
        if (!rc)
            rc = fs_json_double(json, "repetition_penalty", &repetition, &f[3], err);
        if (!rc && (temperature < 0 || top_p <= 0 || top_p > 1 || repetition <= 0))
            rc = fs_fail(err, FS_ERR_FORMAT, "temperature %g, top_p %g and repetition_penalty %g make no sense: at least 0, above 0 to 1, above 0",
                         temperature, top_p, repetition);
        if (rc)
            fs_fail_prefix(err, "generation_config.json");
    }
    if (!rc && (f[0] || f[1] || f[2] || f[3])) {
        m->has_sampling = true;
        m->sampling.temperature = (float)temperature;
        m->sampling.top_p = (float)top_p;
        m->sampling.top_k = (int)top_k;
        m->sampling.repetition_penalty = (float)repetition;
    }
    json_object_put(json);
    fs_buf_done(&text);
    return rc;
}

static void add_stop(fs_model *m, int32_t id)
{
    if (id >= 0 && !fs_model_is_stop(m, id) && m->n_stop_ids < (int)(sizeof m->stop_ids / sizeof *m->stop_ids))
        m->stop_ids[m->n_stop_ids++] = id;
}

static void set_chat_format(fs_model *m, fs_chat_format f)
{
    int32_t ids[FS_CHAT_STOP_IDS_MAX];
    struct json_object *eos = fs_json_member(m->chat_config.own, "eos_token");
    int n;

    m->chat_format = f;
    m->n_stop_ids = m->n_config_stop_ids;
    if (!m->tokenizer)
        return;
    n = fs_chat_stop_ids(f, m->tokenizer, ids);
    for (int i = 0; i < n; i++)
        add_stop(m, ids[i]);
    if (f == FS_CHAT_TEMPLATE && eos)
        add_stop(m, fs_tokenizer_id(m->tokenizer, (fs_bytes){ (const uint8_t *)json_object_get_string(eos), (size_t)json_object_get_string_len(eos) }));
}

fs_status fs_model_set_chat_template(fs_model *m, fs_bytes source, fs_error *err)
{
    fs_chat_template *new = NULL;
    fs_status rc = fs_chat_template_open(source, m->chat_config.own, &new, err);

    if (rc)
        return rc;
    fs_chat_template_close(m->chat_template);
    m->chat_template = new;
    set_chat_format(m, FS_CHAT_TEMPLATE);
    return FS_OK;
}

fs_status fs_model_set_chat_format(fs_model *m, fs_chat_format f, fs_error *err)
{
    if (f == FS_CHAT_TEMPLATE && !m->chat_template) {
        if (m->chat_config.source.n_bytes == 0)
            return fs_fail(err, FS_ERR_NOT_FOUND, "the model's files hold no chat template");
        return fs_model_set_chat_template(m, fs_buf_bytes(&m->chat_config.source), err);
    }
    set_chat_format(m, f);
    return FS_OK;
}

/* ---- open ---- */
static fs_status read_kv_type(const char *name, fs_kv_type *ret, fs_error *err)
{
    static const char *const names[] = { [FS_KV_F32] = "f32", [FS_KV_BF16] = "bf16", [FS_KV_Q8] = "q8" };

    *ret = FS_KV_DEFAULT;
    for (size_t i = FS_KV_F32; name && i <= FS_KV_Q8; i++)
        if (strcmp(name, names[i]) == 0)
            *ret = (fs_kv_type)i;
    if (name && *ret == FS_KV_DEFAULT)
        return fs_fail(err, FS_ERR_ARGUMENT, "kv type '%s' is none of f32, bf16, q8", name);
    return FS_OK;
}

fs_status fs_model_open(const char *path, const fs_model_options *options, fs_model **ret_model, fs_error *err)
{
    return fs_model_open_counting(path, options, NULL, ret_model, err);
}

fs_status fs_model_open_counting(const char *path, const fs_model_options *options, fs_importance *importance, fs_model **ret_model, fs_error *err)
{
    static const fs_model_options none;
    const fs_model_options *o = options ? options : &none;
    fs_network_options net = { .mtp = o->mtp, .exact = o->exact_activations, .mapped = o->mapped, .importance = importance, .progress = o->progress, .ud = o->ud };
    fs_model *m = calloc(1, sizeof *m);
    const fs_config *c;
    fs_status rc;

    if (!m)
        return fs_fail_memory(err, sizeof *m);
    rc = fs_kernels_init_named(&m->kernels, o->isa, err);
    if (!rc)
        rc = read_kv_type(o->kv_type, &net.kv_type, err);
    if (!rc)
        rc = fs_precision_of(o->precision, &net.bf16, err);
    if (!rc)
        rc = fs_pool_new(o->n_threads, &m->pool, err);
    if (!rc && o->pin)
        rc = fs_pool_pin(m->pool, err);
    if (!rc)
        rc = fs_weights_open(path, &m->weights, err);
    if (!rc)
        rc = open_text(m, path, err);
    if (!rc)
        rc = read_sampling(m, err);
    if (!rc && o->adapter) {
        rc = fs_adapter_open(o->adapter, &m->adapter, err);
        if (!rc)
            rc = fs_adapter_replace(m->adapter, m->weights, err);
        if (rc)
            fs_fail_prefix(err, "adapter '%.200s'", o->adapter);
        net.adapter = m->adapter;
    }
    if (!rc)
        rc = fs_network_new(m->weights, m->pool, &m->kernels, &net, &m->network, &m->plan, err);
    if (!rc)
        rc = plan_memory(m, o, err);
    if (!rc)
        rc = fs_network_load(m->network, err);
    if (!rc)
        rc = fs_workspace_new(m->network, FS_STEP_TOKENS, FS_STEP_SEQUENCES, &m->workspace, err);
    if (rc) {
        if (m->weights && (rc == FS_ERR_FORMAT || rc == FS_ERR_UNSUPPORTED))
            fs_fail_in(err, path);
        fs_model_close(m);
        return rc;
    }
    c = fs_weights_config(m->weights);
    for (int i = 0; i < c->n_eos_token_ids; i++)
        add_stop(m, c->eos_token_ids[i]);
    m->n_config_stop_ids = m->n_stop_ids;
    set_chat_format(m, m->chat_format);
    *ret_model = m;
    return FS_OK;
}

void fs_model_close(fs_model *m)
{
    if (!m)
        return;
    fs_workspace_free(m->workspace);
    fs_network_free(m->network);
    fs_chat_template_close(m->chat_template);
    fs_chat_config_done(&m->chat_config);
    fs_tokenizer_close(m->tokenizer);
    fs_adapter_close(m->adapter);
    fs_weights_close(m->weights);
    fs_pool_free(m->pool);
    free(m);
}

int fs_model_vocab_size(const fs_model *m)
{
    return (int)fs_weights_config(m->weights)->vocab_size;
}

int fs_model_ctx_tokens_max(const fs_model *m)
{
    uint32_t n = fs_weights_config(m->weights)->max_position_embeddings;
    return n > INT32_MAX ? INT32_MAX : (int)n;
}

const char *fs_model_activations(const fs_model *m)
{
    return fs_network_activations(m->network);
}

const char *fs_model_kv_type(const fs_model *m)
{
    return fs_network_kv_type(m->network);
}

const fs_config *fs_model_config(const fs_model *m)
{
    return fs_weights_config(m->weights);
}

const fs_weights *fs_model_weights(const fs_model *m)
{
    return m->weights;
}

const fs_tokenizer *fs_model_tokenizer(const fs_model *m)
{
    return m->tokenizer;
}

fs_chat_format fs_model_chat_format(const fs_model *m)
{
    return m->chat_format;
}

const fs_error *fs_model_chat_error(const fs_model *m)
{
    return m->chat_format == FS_CHAT_NONE && m->chat_error.code ? &m->chat_error : NULL;
}

void fs_model_set_time(fs_model *m, const struct tm *now)
{
    m->now = *now;
}

void fs_model_pack_all(const fs_model *m)
{
    fs_network_pack_all(m->network);
}

const fs_kernels *fs_model_kernels(const fs_model *m)
{
    return &m->kernels;
}

fs_network *fs_model_network(const fs_model *m)
{
    return m->network;
}

fs_pool *fs_model_pool(const fs_model *m)
{
    return m->pool;
}

fs_status fs_model_sandbox(const fs_model *m, fs_error *err)
{
    fs_pool_unpin(m->pool);
    return fs_sandbox_enter(err);
}

bool fs_model_stream_stats(const fs_model *m, fs_stream_stats *ret)
{
    return fs_network_stream_stats(m->network, ret);
}

uint64_t fs_model_probe_disk(const fs_model *m, uint64_t n_bytes, double *ret_s)
{
    return fs_network_probe_disk(m->network, n_bytes, ret_s);
}

bool fs_model_has_mtp(const fs_model *m)
{
    return fs_network_has_mtp(m->network);
}

size_t fs_model_hidden_floats(const fs_model *m)
{
    return fs_network_hidden_floats(m->network);
}

fs_sampling fs_model_sampling(const fs_model *m, bool *ret_found)
{
    if (ret_found)
        *ret_found = m->has_sampling;
    return m->sampling;
}

bool fs_model_is_stop(const fs_model *m, int32_t id)
{
    for (int i = 0; i < m->n_stop_ids; i++)
        if (m->stop_ids[i] == id)
            return true;
    return false;
}

/* ---- tokens ---- */
static fs_status need_tokenizer(const fs_model *m, fs_error *err)
{
    return m->tokenizer ? FS_OK : fs_fail(err, FS_ERR_NOT_FOUND, "the model's files hold no tokenizer");
}

static void give_ids(const fs_ids *ids, int32_t *ret_ids, size_t capacity, size_t *ret_n)
{
    size_t n = ids->n < capacity ? ids->n : capacity;

    if (n)
        memcpy(ret_ids, ids->data, n * sizeof *ret_ids);
    *ret_n = ids->n;
}

fs_status fs_tokenize(const fs_model *m, const char *text, size_t n_bytes, bool special, int32_t *ret_ids, size_t capacity,
                      size_t *ret_n, fs_error *err)
{
    fs_ids ids = { 0 };
    fs_status rc = need_tokenizer(m, err);

    if (!rc)
        rc = fs_tokenizer_encode(m->tokenizer, (fs_bytes){ (const uint8_t *)text, n_bytes }, special ? FS_ENCODE_SPECIAL : 0, &ids, err);
    if (!rc)
        give_ids(&ids, ret_ids, capacity, ret_n);
    fs_ids_done(&ids);
    return rc;
}

fs_status fs_detokenize(const fs_model *m, const int32_t *ids, size_t n_ids, char *ret_text, size_t capacity, size_t *ret_n, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc = need_tokenizer(m, err);

    if (!rc)
        rc = fs_tokenizer_decode(m->tokenizer, ids, n_ids, false, &text, err);
    if (!rc) {
        if (text.n_bytes && capacity)
            memcpy(ret_text, text.data, text.n_bytes < capacity ? text.n_bytes : capacity);
        *ret_n = text.n_bytes;
    }
    fs_buf_done(&text);
    return rc;
}

fs_status fs_model_chat(const fs_model *m, const fs_message *messages, size_t n_messages, const fs_chat_options *options, fs_buf *ret_prompt,
                        fs_ids *ret_ids, fs_error *err)
{
    fs_status rc = need_tokenizer(m, err);

    if (rc)
        return rc;
    if (m->chat_format == FS_CHAT_TEMPLATE)
        return fs_chat_template_messages(m->chat_template, m->tokenizer, messages, n_messages, options, &m->now, ret_prompt, ret_ids, err);
    return fs_chat_render(m->chat_format, m->tokenizer, messages, n_messages, options, ret_prompt, ret_ids, err);
}

/* Nothing but white space after the last <think>. Nobody's words are those tokens. */
static bool is_thinking(const fs_model *m, const int32_t *prompt, size_t n_prompt, int32_t think)
{
    while (n_prompt && prompt[n_prompt - 1] != think) {
        fs_bytes text = fs_tokenizer_bytes(m->tokenizer, prompt[--n_prompt]);
        for (size_t i = 0; i < text.n_bytes; i++)
            if (!strchr(" \t\r\n", text.data[i]) || !text.data[i])
                return false;
    }
    return n_prompt > 0;
}

void fs_model_parser_init(const fs_model *m, const int32_t *prompt, size_t n_prompt, const fs_chat_options *options, fs_parser *ret)
{
    fs_chat_format calls = FS_CHAT_NONE;
    int32_t think, end;

    if (m->chat_format != FS_CHAT_TEMPLATE) {
        fs_parser_init(ret, m->chat_format, options->thinking, options->tools.n_bytes > 0);
        return;
    }
    think = fs_tokenizer_id(m->tokenizer, FS_BYTES_LIT("<think>"));
    end = fs_tokenizer_id(m->tokenizer, FS_BYTES_LIT("</think>"));
    if (options->tools.n_bytes)
        calls = fs_chat_template_calls(m->chat_template);
    fs_parser_init_template(ret, think < 0 || end < 0 ? FS_PARSE_CONTENT : is_thinking(m, prompt, n_prompt, think) ? FS_PARSE_REASONING : FS_PARSE_START, calls);
}

fs_status fs_chat_tokens(const fs_model *m, const fs_chat_message *messages, size_t n_messages, bool thinking, int32_t *ret_ids,
                         size_t capacity, size_t *ret_n, fs_error *err)
{
    fs_chat_options o = { .thinking = thinking, .add_generation_prompt = true };
    fs_message *list = NULL;
    fs_ids ids = { 0 };
    fs_status rc = need_tokenizer(m, err);

    if (rc)
        return rc;
    list = calloc(n_messages ? n_messages : 1, sizeof *list);
    if (!list)
        return fs_fail_memory(err, n_messages * sizeof *list);
    for (size_t i = 0; i < n_messages && !rc; i++) {
        const char *role = messages[i].role;
        list[i].content = (fs_bytes){ (const uint8_t *)messages[i].content, messages[i].content_bytes };
        if (strcmp(role, "system") == 0)
            list[i].role = FS_ROLE_SYSTEM;
        else if (strcmp(role, "user") == 0)
            list[i].role = FS_ROLE_USER;
        else if (strcmp(role, "assistant") == 0)
            list[i].role = FS_ROLE_ASSISTANT;
        else
            rc = fs_fail(err, FS_ERR_ARGUMENT, "role '%s' is none of system, user, assistant", role);
    }
    if (!rc)
        rc = fs_model_chat(m, list, n_messages, &o, NULL, &ids, err);
    if (!rc)
        give_ids(&ids, ret_ids, capacity, ret_n);
    free(list);
    fs_ids_done(&ids);
    return rc;
}
