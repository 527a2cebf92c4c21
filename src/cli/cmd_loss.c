/* loss: what a training step would see of given rows of ids, loss and gradients; the oracle interface of training. */
#include "cli/cli.h"

#include "base/file.h"
#include "base/json.h"
#include "crypto/sha256.h"
#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_FILE_MAX ((size_t)64 << 20)
#define ROWS_MAX       65536

static struct {
    const char *batch, *isa, *precision;
    int n_threads, micro_rows;
    double mtp_weight, balance_weight;
    bool no_grad, json;
} opt;

static const fs_option options[] = {
    FS_OPT_STR("batch", 'b', opt.batch, "FILE", "the rows: {\"batch\":[[ids],[ids]]}"),
    FS_OPT_INT("micro-batch", 0, opt.micro_rows, 0, ROWS_MAX, "N", "rows at a time; changes nothing (default: all)"),
    FS_OPT_FLOAT("mtp-weight", 0, opt.mtp_weight, 0, 1e6, "X", "add the multi-token-prediction loss times X (default 0)"),
    FS_OPT_FLOAT("balance-weight", 0, opt.balance_weight, 0, 1e6, "X", "add the sequence-wise balance loss times X (default 0)"),
    FS_OPT_STR("precision", 0, opt.precision, "f32|bf16", "class of the products, RN1 or RN1-bf16 (default: f32)"),
    FS_OPT_FLAG("no-grad", 0, opt.no_grad, "the loss alone"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, 256, "N", "threads (default: one a usable CPU)"),
    FS_OPT_STR("isa", 0, opt.isa, "scalar|avx2|avx512|neon", "restrict the instruction set"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

/* ---- the rows ---- */
struct batch {
    fs_train_sequence *rows;
    uint32_t n, longest;
    int32_t *ids; /* all of them, then all targets */
};

static void done(struct batch *b)
{
    free(b->rows);
    free(b->ids);
}

static fs_status row_ids(struct json_object *row, size_t i, int32_t *ret, fs_error *err)
{
    for (size_t j = 0; j < json_object_array_length(row); j++) {
        struct json_object *id = json_object_array_get_idx(row, j);
        int64_t v = id && json_object_is_type(id, json_type_int) ? json_object_get_int64(id) : -1;
        if (v < 0 || v > INT32_MAX)
            return fs_fail(err, FS_ERR_FORMAT, "'%s': row %zu holds something that is no token id", opt.batch, i);
        ret[j] = (int32_t)v;
    }
    return FS_OK;
}

static fs_status make_rows(struct json_object *list, struct batch *b, fs_error *err)
{
    size_t n = json_object_array_length(list), total = 0, at = 0;
    fs_status rc = FS_OK;

    for (size_t i = 0; i < n; i++) {
        struct json_object *row = json_object_array_get_idx(list, i);
        if (!row || !json_object_is_type(row, json_type_array) || json_object_array_length(row) < 2)
            return fs_fail(err, FS_ERR_FORMAT, "'%s': row %zu is not a list of 2 ids or more", opt.batch, i);
        total += json_object_array_length(row);
        if (json_object_array_length(row) > b->longest)
            b->longest = (uint32_t)json_object_array_length(row);
    }
    b->rows = calloc(n, sizeof *b->rows);
    b->ids = malloc(2 * total * sizeof *b->ids);
    if (!b->rows || !b->ids)
        return fs_fail_memory(err, 2 * total * sizeof *b->ids);
    b->n = (uint32_t)n;
    for (size_t i = 0; i < n && !rc; i++) {
        struct json_object *row = json_object_array_get_idx(list, i);
        uint32_t length = (uint32_t)json_object_array_length(row);
        int32_t *ids = b->ids + at, *targets = b->ids + total + at;
        rc = row_ids(row, i, ids, err);
        memcpy(targets, ids + 1, (length - 1) * sizeof *targets);
        targets[length - 1] = -1;
        b->rows[i] = (fs_train_sequence){ .ids = ids, .targets = targets, .n = length, .index = (uint64_t)i * ((b->longest + 255) / 256 * 256) };
        at += length;
    }
    return rc;
}

static fs_status read_batch(struct batch *b, fs_error *err)
{
    fs_buf text = { 0 };
    struct json_object *json = NULL, *list;
    fs_status rc = fs_file_read(opt.batch, BATCH_FILE_MAX, &text, err);

    if (!rc)
        rc = fs_json_parse(fs_buf_bytes(&text), opt.batch, &json, err);
    fs_buf_done(&text);
    if (rc)
        return rc;
    list = fs_json_member(json, "batch");
    if (!list || !json_object_is_type(list, json_type_array) || json_object_array_length(list) == 0 || json_object_array_length(list) > ROWS_MAX)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' has no \"batch\" of 1 to %d lists of ids", opt.batch, ROWS_MAX);
    if (!rc)
        rc = make_rows(list, b, err);
    json_object_put(json);
    return rc;
}

/* ---- the answer ---- */
static fs_status put_gradients(const fs_kernels *k, const fs_params *p, fs_buf *out, fs_error *err)
{
    char hex[65];
    fs_sha256 h;
    bool first = true;
    fs_status rc = fs_sha256_init(&h, err);

    if (rc)
        return rc;
    rc = fs_buf_printf(out, err, ",\"grad_global_norm\":%.9g,\"grad_l2\":{", (double)fs_params_grad_norm(k, p));
    for (size_t i = 0; i < p->n && !rc; i++) {
        const fs_param *item = &p->items[i];
        if (item->fixed)
            continue;
        fs_sha256_update(&h, item->g, item->n * sizeof *item->g);
        rc = fs_buf_printf(out, err, "%s\"%s\":%.9g", first ? "" : ",", item->name, sqrt(fs_param_grad_squares(k, item)));
        first = false;
    }
    fs_sha256_final_hex(&h, hex);
    return rc ? rc : fs_buf_printf(out, err, "},\"grad_sha256\":\"%s\"", hex);
}

static fs_status run_step(fs_trainer *t, const struct batch *b, fs_train_loss *ret, fs_error *err)
{
    uint32_t step = opt.micro_rows ? (uint32_t)opt.micro_rows : b->n;
    fs_train_totals totals = { 0 };
    fs_status rc = FS_OK;

    fs_train_totals_add(&totals, b->rows, b->n);
    fs_trainer_begin(t, &totals);
    for (uint32_t i = 0; i < b->n && !rc; i += step)
        rc = (opt.no_grad ? fs_trainer_evaluate : fs_trainer_run)(t, b->rows + i, b->n - i < step ? b->n - i : step, err);
    if (!rc)
        fs_trainer_end(t, ret);
    return rc;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    fs_trainer_options to = { .mtp = opt.mtp_weight > 0, .mtp_weight = opt.mtp_weight, .balance_weight = opt.balance_weight };
    struct batch b = { 0 };
    fs_weights *weights = NULL;
    fs_trainer *t = NULL;
    fs_pool *pool = NULL;
    fs_kernels kernels;
    fs_train_loss loss;
    fs_buf out = { 0 };
    char *path = NULL;
    uint64_t tokens = 0;
    fs_status rc = opt.batch ? read_batch(&b, err) : fs_fail(err, FS_ERR_ARGUMENT, "loss needs --batch");

    if (!rc)
        rc = fs_model_path(args->items[0], &path, err);
    if (!rc)
        rc = fs_kernels_init_named(&kernels, opt.isa, err);
    if (!rc)
        rc = fs_precision_of(opt.precision, &to.bf16, err);
    if (!rc)
        rc = fs_pool_new(opt.n_threads, &pool, err);
    if (!rc)
        rc = fs_weights_open(path, &weights, err);
    if (rc)
        goto done;
    to.sequences_max = opt.micro_rows && (uint32_t)opt.micro_rows < b.n ? (uint32_t)opt.micro_rows : b.n;
    tokens = (uint64_t)to.sequences_max * b.longest;
    if (tokens > INT32_MAX) {
        rc = fs_fail(err, FS_ERR_ARGUMENT, "%" PRIu64 " tokens at a time are too many: see --micro-batch", tokens);
        goto done;
    }
    to.tokens_max = (uint32_t)tokens;
    rc = fs_trainer_new(fs_weights_config(weights), pool, &kernels, &to, &t, err);
    if (!rc)
        rc = fs_params_load(fs_trainer_params(t), weights, err);
    if (rc) {
        fs_fail_in(err, path);
        goto done;
    }
    fs_trainer_pack(t);
    rc = run_step(t, &b, &loss, err);
    if (!rc && opt.json) {
        rc = fs_buf_printf(&out, err, "{\"loss\":%.9g", loss.loss);
        if (!rc && to.mtp)
            rc = fs_buf_printf(&out, err, ",\"mtp_loss\":%.9g", loss.mtp);
        if (!rc && to.balance_weight > 0)
            rc = fs_buf_printf(&out, err, ",\"balance_loss\":%.9g", loss.balance);
        if (!rc && !opt.no_grad)
            rc = put_gradients(&kernels, fs_trainer_params(t), &out, err);
        if (!rc)
            rc = fs_buf_append_str(&out, "}\n", err);
    } else if (!rc) {
        rc = fs_buf_printf(&out, err, "loss %.6f\n", loss.loss);
        if (!rc && !opt.no_grad)
            rc = fs_buf_printf(&out, err, "gradient norm %.6g\n", (double)fs_params_grad_norm(&kernels, fs_trainer_params(t)));
    }
    if (!rc)
        fwrite(out.data, 1, out.n_bytes, stdout);
done:
    fs_trainer_free(t);
    fs_weights_close(weights);
    fs_pool_free(pool);
    fs_buf_done(&out);
    free(path);
    done(&b);
    return rc;
}

const fs_command fs_command_loss = {
    .set = { .name = "loss",
             .usage = "MODEL",
             .summary = "Print a model's loss and gradients for given rows of token ids.",
             .text = "The loss is the mean cross entropy of every next token of all rows. --json adds the norm of each tensor's gradient "
                     "and the SHA-256 of all gradients, tensors in order of their names. The numbers do not depend on --threads, --isa or "
                     "--micro-batch.",
             .options = options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = run,
};
