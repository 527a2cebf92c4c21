/* logits: the model's answers to given ids, as numbers; the oracle interface that tests and outside checks use. */
#include "cli/cli.h"

#include "base/file.h"
#include "base/json.h"
#include "cli/stream.h"
#include "cli/tokens.h"
#include "engine/engine.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define IDS_MAX        ((size_t)1 << 22)
#define BATCH_FILE_MAX ((size_t)64 << 20)

static struct {
    const char *ids, *ids_file, *batch_with, *isa, *adapter;
    int top, greedy, n_threads, chunk;
    const char *kv_type, *precision;
    uint64_t memory;
    int n_slots;
    bool mtp, exact, mapped, sandbox, verbose, json;
} opt = { .top = 10 };

static const fs_option options[] = {
    FS_OPT_STR("ids", 0, opt.ids, "1,2,3", "token ids of the prompt"),
    FS_OPT_STR("ids-file", 0, opt.ids_file, "FILE", "read the ids from FILE: separated by commas, blanks or newlines"),
    FS_OPT_INT("top", 0, opt.top, 1, 1000, "N", "best ids of every position (default 10)"),
    FS_OPT_INT("greedy", 0, opt.greedy, 0, 1 << 20, "N", "continue by N greedy tokens (default 0)"),
    FS_OPT_STR("adapter", 0, opt.adapter, "FOLDER", "add a LoRA adapter, as PEFT saves it"),
    FS_OPT_FLAG("mtp", 0, opt.mtp, "also run the multi-token-prediction layer over the prompt"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, 256, "N", "threads (default: one a usable CPU)"),
    FS_OPT_INT("expert-slots", 0, opt.n_slots, 0, 1 << 24, "N", "keep N experts in memory, the others on disk (default 0: as many as fit)"),
    FS_OPT_SIZE("memory", 0, opt.memory, "SIZE", "take no more than this, as 4GiB: experts that do not fit stay on disk (default: what is free)"),
    FS_OPT_INT("chunk", 0, opt.chunk, 0, FS_STEP_TOKENS, "N", "prompt tokens a step (default: as many as fit)"),
    FS_OPT_STR("isa", 0, opt.isa, "scalar|avx2|avx512|neon", "restrict the instruction set"),
    FS_OPT_STR("batch-with", 0, opt.batch_with, "FILE", "neighbours in the same steps: {\"batch\":[[ids],...]}; they change nothing"),
    FS_OPT_FLAG("exact-activations", 0, opt.exact,
                "f32 activations against block-quantised weights, not quantised ones"),
    FS_OPT_FLAG("mmap", 0, opt.mapped, "leave the weights in the file's map instead of a packed copy"),
    FS_OPT_STR("precision", 0, opt.precision, "f32|bf16", "bf16: the class RN1-bf16 of a model trained so (default: f32, of the weights)"),
    FS_OPT_STR("kv-type", 0, opt.kv_type, "f32|bf16|q8", "what attention's cache holds (default: bf16 with 8-bit activations, else f32)"),
    FS_OPT_FLAG("sandbox", 0, opt.sandbox, "once the model is loaded, give up files, network and new processes"),
    FS_OPT_FLAG("verbose", 0, opt.verbose, "say on stderr what experts on disk cost"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

/* ---- reading ids ---- */
static fs_status parse_ids(const char *text, fs_ids *ids, fs_error *err)
{
    const char *p = text;

    for (;;) {
        char *end;
        long v;
        fs_status rc;
        p += strspn(p, ", \t\r\n[]");
        if (!*p)
            return FS_OK;
        v = strtol(p, &end, 10);
        if (end == p || v < 0 || v > INT32_MAX)
            return fs_fail(err, FS_ERR_ARGUMENT, "'%.*s' is not a token id", fs_tokens_word_bytes(p), p);
        if (ids->n >= IDS_MAX)
            return fs_fail(err, FS_ERR_ARGUMENT, "more than %zu ids", IDS_MAX);
        rc = fs_ids_push(ids, (int32_t)v, err);
        if (rc)
            return rc;
        p = end;
    }
}

static fs_status read_ids(fs_ids *ids, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc;

    if (opt.ids)
        return parse_ids(opt.ids, ids, err);
    if (!opt.ids_file)
        return fs_fail(err, FS_ERR_ARGUMENT, "logits needs --ids or --ids-file");
    rc = fs_file_read(opt.ids_file, BATCH_FILE_MAX, &text, err);
    if (!rc && text.data)
        rc = parse_ids(text.data, ids, err);
    fs_buf_done(&text);
    return rc;
}

/* ---- neighbours ---- */
struct neighbour {
    fs_session *session;
    fs_ids ids; /* its prompt, then what it chose */
    size_t done;
    float *logits;
};

struct run {
    fs_model *model;
    fs_session *session;
    struct neighbour *neighbours;
    size_t n_neighbours;
    float *logits; /* [chunk, V] */
    size_t chunk, v;
    fs_buf out;
};

static fs_status read_neighbours(struct run *r, fs_error *err)
{
    fs_buf text = { 0 };
    struct json_object *json = NULL, *batch;
    fs_status rc = fs_file_read(opt.batch_with, BATCH_FILE_MAX, &text, err);

    if (!rc)
        rc = fs_json_parse(fs_buf_bytes(&text), opt.batch_with, &json, err);
    fs_buf_done(&text);
    if (rc)
        return rc;
    batch = fs_json_member(json, "batch");
    if (!batch || !json_object_is_type(batch, json_type_array) || json_object_array_length(batch) >= FS_STEP_SEQUENCES) {
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has no \"batch\" of fewer than %d lists of ids", opt.batch_with, FS_STEP_SEQUENCES);
        goto done;
    }
    r->neighbours = calloc(json_object_array_length(batch) + 1, sizeof *r->neighbours);
    if (!r->neighbours) {
        rc = fs_fail_memory(err, json_object_array_length(batch) * sizeof *r->neighbours);
        goto done;
    }
    for (size_t i = 0; i < json_object_array_length(batch) && !rc; i++) {
        struct json_object *row = json_object_array_get_idx(batch, i);
        struct neighbour *n = &r->neighbours[r->n_neighbours++];
        if (!row || !json_object_is_type(row, json_type_array) || json_object_array_length(row) == 0)
            rc = fs_fail(err, FS_ERR_FORMAT, "'%s': row %zu is not a list of ids", opt.batch_with, i);
        for (size_t j = 0; !rc && j < json_object_array_length(row); j++)
            rc = fs_ids_push(&n->ids, json_object_get_int(json_object_array_get_idx(row, j)), err);
        if (!rc)
            rc = fs_session_new(r->model, fs_model_ctx_tokens_max(r->model), &n->session, err);
        if (!rc && !(n->logits = malloc(r->v * sizeof *n->logits)))
            rc = fs_fail_memory(err, r->v * sizeof *n->logits);
    }
done:
    json_object_put(json);
    return rc;
}

/* One step: n ids of the main sequence with logits of all, beside whatever the neighbours have next. */
static fs_status step(struct run *r, const int32_t *ids, size_t n, float *ret_logits, float *ret_hidden, fs_error *err)
{
    fs_batch_item items[FS_STEP_SEQUENCES];
    struct neighbour *who[FS_STEP_SEQUENCES];
    size_t n_items = 1, total = n;
    fs_status rc;

    if (!r->n_neighbours)
        return fs_session_eval(r->session, ids, n, n, ret_logits, NULL, ret_hidden, err);
    items[0] = (fs_batch_item){ r->session, ids, (uint32_t)n, (uint32_t)n, ret_logits, ret_hidden };
    for (size_t i = 0; i < r->n_neighbours && total < FS_STEP_TOKENS; i++) {
        struct neighbour *b = &r->neighbours[i];
        size_t m = b->ids.n - b->done, room = (size_t)(fs_session_ctx_tokens(b->session) - fs_session_n_tokens(b->session));
        m = m < r->chunk ? m : r->chunk;
        m = m < FS_STEP_TOKENS - total ? m : FS_STEP_TOKENS - total;
        m = m < room ? m : room;
        if (!m)
            continue;
        who[n_items] = b;
        items[n_items++] = (fs_batch_item){ b->session, b->ids.data + b->done, (uint32_t)m, 1, b->logits, NULL };
        total += m;
    }
    rc = fs_batch_eval(items, n_items, err);
    for (size_t i = 1; i < n_items && !rc; i++) {
        who[i]->done += items[i].n;
        if (who[i]->done == who[i]->ids.n) /* goes on by itself, so that it stands beside the whole run */
            rc = fs_ids_push(&who[i]->ids, (int32_t)fs_model_kernels(r->model)->rows.argmax(who[i]->logits, r->v), err);
    }
    return rc;
}

/* ---- writing ---- */
static fs_status put_floats(fs_buf *out, const float *x, size_t n, fs_error *err)
{
    fs_status rc = fs_buf_append(out, "[", 1, err);

    for (size_t i = 0; i < n && !rc; i++)
        rc = fs_buf_printf(out, err, "%s%.9g", i ? "," : "", (double)x[i]);
    return rc ? rc : fs_buf_append(out, "]", 1, err);
}

/* The ids of the `top` best logits, best first, lowest id on ties. */
static void best(const float *logits, size_t v, int top, int32_t *ret_ids)
{
    int n = 0;

    for (size_t i = 0; i < v; i++) {
        int at = n;
        while (at > 0 && logits[i] > logits[ret_ids[at - 1]])
            at--;
        if (at >= top)
            continue;
        if (n < top)
            n++;
        for (int j = n - 1; j > at; j--)
            ret_ids[j] = ret_ids[j - 1];
        ret_ids[at] = (int32_t)i;
    }
    for (; n < top; n++)
        ret_ids[n] = -1;
}

/* Appends one row to the two lists. */
static fs_status put_top(const struct run *r, const float *logits, bool first, fs_buf *ids, fs_buf *values, fs_error *err)
{
    int32_t top[1000];
    int n = opt.top < (int)r->v ? opt.top : (int)r->v;
    fs_status rc = fs_buf_append_str(ids, first ? "[" : ",[", err);

    best(logits, r->v, n, top);
    if (!rc)
        rc = fs_buf_append_str(values, first ? "[" : ",[", err);
    for (int i = 0; i < n && !rc; i++) {
        rc = fs_buf_printf(ids, err, "%s%" PRId32, i ? "," : "", top[i]);
        if (!rc)
            rc = fs_buf_printf(values, err, "%s%.9g", i ? "," : "", (double)logits[top[i]]);
    }
    if (!rc)
        rc = fs_buf_append(ids, "]", 1, err);
    return rc ? rc : fs_buf_append(values, "]", 1, err);
}

static fs_status put_lists(struct run *r, const fs_buf *ids, const fs_buf *values, const float *last, fs_error *err)
{
    fs_status rc = fs_buf_append_str(&r->out, "\"last\":", err);

    if (!rc)
        rc = put_floats(&r->out, last, r->v, err);
    if (!rc)
        rc = fs_buf_printf(&r->out, err, ",\"top_ids\":[%s],\"top_logits\":[%s]", ids->data ? ids->data : "", values->data ? values->data : "");
    return rc;
}

static fs_status run_prompt(struct run *r, const fs_ids *ids, float *hidden, float *last, fs_error *err)
{
    size_t d = fs_model_hidden_floats(r->model);
    fs_buf top_ids = { 0 }, top_logits = { 0 };
    fs_status rc = FS_OK;

    for (size_t at = 0; at < ids->n && !rc; at += r->chunk) {
        size_t n = ids->n - at < r->chunk ? ids->n - at : r->chunk;
        rc = step(r, ids->data + at, n, r->logits, hidden ? hidden + at * d : NULL, err);
        for (size_t i = 0; i < n && !rc; i++)
            rc = put_top(r, r->logits + i * r->v, at + i == 0, &top_ids, &top_logits, err);
        if (!rc && at + n == ids->n)
            memcpy(last, r->logits + (n - 1) * r->v, r->v * sizeof *last);
    }
    if (!rc)
        rc = put_lists(r, &top_ids, &top_logits, last, err);
    fs_buf_done(&top_ids);
    fs_buf_done(&top_logits);
    return rc;
}

static fs_status run_greedy(struct run *r, float *last, fs_error *err)
{
    fs_status rc = fs_buf_append_str(&r->out, ",\"greedy\":[", err);

    for (int i = 0; i < opt.greedy && !rc; i++) {
        int32_t id = (int32_t)fs_model_kernels(r->model)->rows.argmax(last, r->v);
        rc = fs_buf_printf(&r->out, err, "%s%" PRId32, i ? "," : "", id);
        if (!rc && i + 1 < opt.greedy)
            rc = step(r, &id, 1, last, NULL, err);
    }
    return rc ? rc : fs_buf_append(&r->out, "]", 1, err);
}

static fs_status run_mtp(struct run *r, const fs_ids *ids, const float *hidden, fs_error *err)
{
    size_t n = ids->n - 1, d = fs_model_hidden_floats(r->model);
    fs_buf top_ids = { 0 }, top_logits = { 0 };
    fs_status rc = fs_buf_append_str(&r->out, ",\"mtp\":{", err);

    for (size_t at = 0; at < n && !rc; at += r->chunk) {
        size_t m = n - at < r->chunk ? n - at : r->chunk;
        rc = fs_session_mtp_eval(r->session, hidden + at * d, ids->data + at + 1, m, r->logits, err);
        for (size_t i = 0; i < m && !rc; i++)
            rc = put_top(r, r->logits + i * r->v, at + i == 0, &top_ids, &top_logits, err);
        if (!rc && at + m == n)
            rc = put_lists(r, &top_ids, &top_logits, r->logits + (m - 1) * r->v, err);
    }
    fs_buf_done(&top_ids);
    fs_buf_done(&top_logits);
    return rc ? rc : fs_buf_append(&r->out, "}", 1, err);
}

static fs_status answer(struct run *r, const fs_ids *ids, fs_error *err)
{
    size_t d = fs_model_hidden_floats(r->model);
    float *last = malloc(r->v * sizeof *last), *hidden = NULL;
    fs_status rc = last ? fs_buf_append(&r->out, "{", 1, err) : fs_fail_memory(err, r->v * sizeof *last);

    if (!rc && opt.mtp) {
        if (!fs_model_has_mtp(r->model))
            rc = fs_fail(err, FS_ERR_ARGUMENT, "the model has no multi-token-prediction layer");
        else if (ids->n < 2)
            rc = fs_fail(err, FS_ERR_ARGUMENT, "--mtp needs 2 ids or more");
        else if (!(hidden = malloc(ids->n * d * sizeof *hidden)))
            rc = fs_fail_memory(err, ids->n * d * sizeof *hidden);
    }
    if (!rc)
        rc = run_prompt(r, ids, hidden, last, err);
    if (!rc && opt.mtp)
        rc = run_mtp(r, ids, hidden, err);
    if (!rc && opt.greedy)
        rc = run_greedy(r, last, err);
    if (!rc)
        rc = fs_buf_printf(&r->out, err, ",\"activations\":\"%s\",\"kv_type\":\"%s\"}\n", fs_model_activations(r->model), fs_model_kv_type(r->model));
    free(last);
    free(hidden);
    return rc;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    fs_model_options mo = { .n_threads = opt.n_threads, .isa = opt.isa, .adapter = opt.adapter, .mtp = opt.mtp,
                            .exact_activations = opt.exact, .mapped = opt.mapped, .kv_type = opt.kv_type, .precision = opt.precision,
                            .memory_bytes_max = opt.memory, .n_expert_slots = opt.n_slots };
    struct run r = { 0 };
    fs_ids ids = { 0 };
    char *path = NULL;
    size_t room;
    fs_status rc = read_ids(&ids, err);

    if (!rc && ids.n == 0)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "no ids were given");
    if (!rc)
        rc = fs_model_path(args->items[0], &path, err);
    if (!rc)
        rc = fs_model_open(path, &mo, &r.model, err);
    if (rc)
        goto done;
    r.v = (size_t)fs_model_vocab_size(r.model);
    r.chunk = opt.chunk ? (size_t)opt.chunk : opt.batch_with ? FS_STEP_TOKENS / 2 : FS_STEP_TOKENS;
    if (r.chunk > ids.n)
        r.chunk = ids.n;
    room = ids.n + (size_t)opt.greedy;
    if (room > (size_t)fs_model_ctx_tokens_max(r.model)) {
        rc = fs_fail(err, FS_ERR_CONTEXT_FULL, "%zu ids and %d greedy tokens, the model's context is %d", ids.n, opt.greedy,
                     fs_model_ctx_tokens_max(r.model));
        goto done;
    }
    r.logits = malloc(r.chunk * r.v * sizeof *r.logits);
    if (!r.logits)
        rc = fs_fail_memory(err, r.chunk * r.v * sizeof *r.logits);
    if (!rc)
        rc = fs_session_new(r.model, (int)room, &r.session, err);
    if (!rc && opt.batch_with)
        rc = read_neighbours(&r, err);
    if (!rc && opt.sandbox)
        rc = fs_model_sandbox(r.model, err);
    if (!rc)
        rc = answer(&r, &ids, err);
    if (!rc)
        fwrite(r.out.data, 1, r.out.n_bytes, stdout);
    if (!rc && opt.verbose)
        fs_stream_print(r.model, stderr);
done:
    for (size_t i = 0; i < r.n_neighbours; i++) {
        fs_session_free(r.neighbours[i].session);
        fs_ids_done(&r.neighbours[i].ids);
        free(r.neighbours[i].logits);
    }
    free(r.neighbours);
    fs_session_free(r.session);
    free(r.logits);
    fs_model_close(r.model);
    fs_buf_done(&r.out);
    fs_ids_done(&ids);
    free(path);
    return rc;
}

const fs_command fs_command_logits = {
    .set = { .name = "logits",
             .usage = "MODEL",
             .summary = "Print a model's logits for given token ids.",
             .text = "Prints one JSON object: \"last\" (the logits of the last position, every float with nine digits, so that equal "
                     "text is equal bits), \"top_ids\" and \"top_logits\" (of every position), \"greedy\" with --greedy, \"mtp\" with "
                     "--mtp. The numbers do not depend on --threads, --chunk, --isa or --batch-with.",
             .options = options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = run,
};
