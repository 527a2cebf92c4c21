/* See the header. */
#include "cli/calibrate.h"

#include "base/file.h"
#include "cli/interrupt.h"
#include "cli/work.h"
#include "engine/engine.h"
#include "formats/imatrix.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_MAX ((size_t)1 << 30)

typedef struct reading {
    fs_model *model;
    fs_session *session;
    fs_importance *importance;
    fs_ids ids, prefix; /* the text's tokens; what every window begins with in place of its own first ones */
    size_t window, n_windows;
    int32_t *window_ids;
    float *hidden; /* [window, hidden_floats]; NULL: no layer predicts ahead */
} reading;

fs_status fs_calibrate_is_matrix(const char *path, bool *ret, fs_error *err)
{
    fs_map map = { 0 };
    fs_status rc = fs_map_open(&map, path, err);

    *ret = !rc && map.bytes.n_bytes >= 4 && memcmp(map.bytes.data, "GGUF", 4) == 0;
    fs_map_close(&map);
    return rc;
}

static fs_status read_text(reading *r, const char *name, const char *path, fs_error *err)
{
    const fs_tokenizer *t = fs_model_tokenizer(r->model);
    size_t ctx = (size_t)fs_model_ctx_tokens_max(r->model);
    fs_buf text = { 0 };
    fs_status rc;

    if (!t)
        return fs_fail(err, FS_ERR_NOT_FOUND, "model '%s' has no tokenizer, so it cannot read the text of --imatrix", name);
    rc = fs_file_read(path, TEXT_BYTES_MAX, &text, err);
    if (!rc)
        rc = fs_tokenizer_encode(t, fs_buf_bytes(&text), FS_ENCODE_BOS, &r->ids, err);
    if (!rc)
        rc = fs_tokenizer_encode(t, (fs_bytes){ 0 }, FS_ENCODE_BOS, &r->prefix, err);
    fs_buf_done(&text);
    if (rc)
        return rc;
    r->window = ctx < FS_CALIBRATE_TOKENS ? ctx : FS_CALIBRATE_TOKENS;
    r->n_windows = r->ids.n / r->window;
    if (!r->n_windows)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' has %zu tokens; an importance matrix is made from windows of %zu, so that it needs a longer text",
                       path, r->ids.n, r->window);
    return FS_OK;
}

static fs_status start(reading *r, fs_error *err)
{
    fs_status rc = fs_session_new(r->model, (int)r->window, &r->session, err);

    r->window_ids = malloc(r->window * sizeof *r->window_ids);
    if (!rc && fs_model_has_mtp(r->model))
        r->hidden = malloc(r->window * fs_model_hidden_floats(r->model) * sizeof *r->hidden);
    if (!rc && (!r->window_ids || (fs_model_has_mtp(r->model) && !r->hidden)))
        rc = fs_fail_memory(err, r->window * sizeof *r->window_ids);
    return rc;
}

static fs_status read_windows(reading *r, fs_error *err)
{
    fs_work work;
    fs_status rc = FS_OK;

    fs_work_start(&work, "importance", "tokens", 1);
    fs_interrupt_stops(r->session);
    for (size_t i = 0; i < r->n_windows && !rc; i++) {
        memcpy(r->window_ids, r->ids.data + i * r->window, r->window * sizeof *r->window_ids);
        memcpy(r->window_ids, r->prefix.data, (r->prefix.n < r->window ? r->prefix.n : r->window) * sizeof *r->window_ids);
        fs_session_truncate(r->session, 0);
        rc = fs_session_eval(r->session, r->window_ids, r->window, 0, NULL, NULL, r->hidden, err);
        if (!rc && r->hidden && r->window > 1)
            rc = fs_session_mtp_eval(r->session, r->hidden, r->window_ids + 1, r->window - 1, NULL, err);
        if (!rc && !work.progress.fn(work.progress.ud, (i + 1) * r->window, r->n_windows * r->window))
            rc = fs_fail(err, FS_ERR_INTERRUPTED, "stopped in window %zu of %zu of the importance matrix", i + 1, r->n_windows);
    }
    fs_interrupt_stops(NULL);
    fs_work_end(&work);
    return rc;
}

/* What was read, and of routed experts those that saw too little of it. */
static void tell(const reading *r)
{
    size_t n = 0, none = 0, few = 0;

    fprintf(stderr, "importance: %zu windows of %zu tokens", r->n_windows, r->window);
    for (size_t i = 0; i < fs_importance_n(r->importance); i++) {
        const fs_importance_input *in = fs_importance_at(r->importance, i);
        for (uint32_t e = 0; in->names[1][0] && e < in->n; e++, n++) {
            none += in->counts[e] == 0;
            few += in->counts[e] > 0 && in->counts[e] < FS_IMATRIX_FEW;
        }
    }
    if (n)
        fprintf(stderr, "; of %zu experts %zu were chosen by no token and %zu by fewer than %d", n, none, few, FS_IMATRIX_FEW);
    fputc('\n', stderr);
}

static fs_status write_matrix(const reading *r, const char *text, const char *out, fs_error *err)
{
    size_t n = fs_importance_n(r->importance), n_inputs = 0;
    fs_imatrix_input *inputs = malloc((2 * n + 1) * sizeof *inputs);
    const char *slash = strrchr(text, '/');
    fs_status rc;

    if (!inputs)
        return fs_fail_memory(err, 2 * n * sizeof *inputs);
    for (size_t i = 0; i < n; i++) {
        const fs_importance_input *in = fs_importance_at(r->importance, i);
        for (int k = 0; k < 2 && in->names[k][0]; k++)
            inputs[n_inputs++] = (fs_imatrix_input){ in->names[k], in->n, in->k, in->sums, in->counts };
    }
    rc = fs_imatrix_write(out, fs_model_config(r->model), inputs, n_inputs, slash ? slash + 1 : text, (uint32_t)r->n_windows, (uint32_t)r->window, err);
    free(inputs);
    return rc;
}

static bool on_load(void *ud, double fraction)
{
    (void)ud;
    (void)fraction;
    return !fs_interrupted();
}

fs_status fs_calibrate(const char *path, const char *name, const char *text, int n_threads, const char *out, fs_error *err)
{
    fs_model_options o = { .n_threads = n_threads, .mtp = true, .exact_activations = true, .ctx_tokens = FS_CALIBRATE_TOKENS, .progress = on_load };
    reading r = { 0 };
    fs_status rc = fs_importance_new(&r.importance, err);

    if (!rc)
        rc = fs_model_open_counting(path, &o, r.importance, &r.model, err);
    if (!rc)
        rc = read_text(&r, name, text, err);
    if (!rc)
        rc = start(&r, err);
    if (!rc)
        rc = read_windows(&r, err);
    if (!rc)
        rc = write_matrix(&r, text, out, err);
    if (!rc)
        tell(&r);
    fs_session_free(r.session);
    fs_model_close(r.model);
    fs_importance_free(r.importance);
    fs_ids_done(&r.ids);
    fs_ids_done(&r.prefix);
    free(r.window_ids);
    free(r.hidden);
    return rc;
}
