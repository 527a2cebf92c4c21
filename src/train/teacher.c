/* See the header. A micro-batch's tokens come in blocks from its first to its last; a sequence that goes on in the next block keeps its cache. */
#include "train/teacher.h"

#include "base/file.h"
#include "data/shards.h"
#include "models/network.h"
#include "train/internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SEQUENCES           16 /* of a step */
#define TOKENIZER_BYTES_MAX ((size_t)256 << 20)

struct fs_teacher {
    fs_weights *weights;
    fs_network *network;
    fs_network_plan plan;
    fs_workspace *workspace;
    uint32_t ctx_tokens;
    fs_cache caches[SEQUENCES]; /* the first is that of the sequence under way */
};

static fs_status check_vocabulary(const char *path, const fs_config *own, const fs_config *student, const fs_tokenizer *tokenizer, fs_error *err)
{
    char *file, a[65], b[65];
    fs_tokenizer *other = NULL;
    fs_buf text = { 0 };
    fs_status rc = FS_OK;

    if (own->vocab_size != student->vocab_size)
        return fs_fail(err, FS_ERR_FORMAT, "teacher '%s' has a vocabulary of %" PRIu32 ", the student's is %" PRIu32, path, own->vocab_size, student->vocab_size);
    file = fs_path_join(path, "tokenizer.json");
    if (!file)
        return fs_fail_memory(err, strlen(path));
    if (tokenizer && fs_file_exists(file)) {
        rc = fs_file_read(file, TOKENIZER_BYTES_MAX, &text, err);
        if (!rc)
            rc = fs_tokenizer_open_json(fs_buf_bytes(&text), file, &other, err);
        if (!rc)
            rc = fs_vocabulary_hash(tokenizer, a, err);
        if (!rc)
            rc = fs_vocabulary_hash(other, b, err);
        if (!rc && strcmp(a, b) != 0)
            rc = fs_fail(err, FS_ERR_FORMAT, "teacher '%s' has another vocabulary than the student: %.12s, not %.12s", path, b, a);
    }
    fs_tokenizer_close(other);
    fs_buf_done(&text);
    free(file);
    return rc;
}

static fs_status open_network(fs_teacher *t, const char *path, const fs_config *student, const fs_tokenizer *tokenizer, fs_pool *pool,
                              const fs_kernels *kernels, fs_error *err)
{
    const fs_network_options o = { 0 };
    fs_status rc = fs_weights_open(path, &t->weights, err);

    if (!rc)
        rc = check_vocabulary(path, fs_weights_config(t->weights), student, tokenizer, err);
    if (!rc && t->ctx_tokens > fs_weights_config(t->weights)->max_position_embeddings)
        rc = fs_fail(err, FS_ERR_CONTEXT_FULL, "sequences of %" PRIu32 " tokens, the teacher's context is %" PRIu32, t->ctx_tokens,
                     fs_weights_config(t->weights)->max_position_embeddings);
    if (!rc)
        rc = fs_network_new(t->weights, pool, kernels, &o, &t->network, &t->plan, err);
    if (!rc)
        rc = fs_network_load(t->network, err);
    if (!rc)
        rc = fs_workspace_new(t->network, FS_CHAIN_TOKENS, SEQUENCES, &t->workspace, err);
    for (int i = 0; i < SEQUENCES && !rc; i++)
        rc = fs_cache_init(&t->caches[i], t->network, t->ctx_tokens, err);
    return rc;
}

fs_status fs_teacher_open(const char *path, const fs_config *student, const fs_tokenizer *tokenizer, fs_pool *pool, const fs_kernels *kernels,
                          uint32_t ctx_tokens, fs_teacher **ret, fs_error *err)
{
    fs_teacher *t = calloc(1, sizeof *t);
    fs_status rc;

    if (!t)
        return fs_fail_memory(err, sizeof *t);
    t->ctx_tokens = ctx_tokens;
    rc = open_network(t, path, student, tokenizer, pool, kernels, err);
    if (rc) {
        fs_teacher_close(t);
        return rc;
    }
    *ret = t;
    return FS_OK;
}

void fs_teacher_close(fs_teacher *t)
{
    if (!t)
        return;
    for (int i = 0; i < SEQUENCES; i++)
        fs_cache_done(&t->caches[i]);
    fs_workspace_free(t->workspace);
    fs_network_free(t->network);
    fs_weights_close(t->weights);
    free(t);
}

size_t fs_teacher_bytes(const fs_teacher *t)
{
    return t->plan.weights_bytes + t->plan.experts_bytes + SEQUENCES * (t->plan.kv_fixed_bytes + t->ctx_tokens * t->plan.kv_token_bytes) +
           fs_workspace_bytes(t->network, FS_CHAIN_TOKENS, SEQUENCES);
}

/* The sequence that is last in rows, its cache: it may go on. */
static void keep_last(fs_teacher *t, const fs_step_rows *rows, size_t n)
{
    fs_cache first = t->caches[0];
    size_t last = (size_t)(rows[n - 1].cache - t->caches);

    t->caches[0] = t->caches[last];
    t->caches[last] = first;
}

fs_status fs_teacher_logits(fs_teacher *t, const fs_trainer *of, uint32_t row, uint32_t m, float *ret, fs_error *err)
{
    size_t v = of->config->vocab_size;
    fs_status rc = FS_OK;

    for (uint32_t at = row, end = row + m; at < end && !rc;) {
        fs_step_rows rows[SEQUENCES];
        size_t n = 0;
        while (at < end && n < SEQUENCES) {
            const fs_span *s = &of->spans[of->span_of[at]];
            uint32_t stop = s->token0 + s->n < end ? s->token0 + s->n : end;
            fs_cache *c = &t->caches[n];
            if (at == s->token0)
                c->n_tokens = c->n_mtp_tokens = 0;
            assert(c->n_tokens == at - s->token0);
            rows[n++] = (fs_step_rows){ c, of->ids + at, stop - at, ret + (size_t)(at - row) * v, stop - at, NULL, NULL };
            at = stop;
        }
        rc = fs_network_step(t->network, t->workspace, rows, n, err);
        keep_last(t, rows, n);
    }
    return rc ? fs_fail_prefix(err, "the teacher") : FS_OK;
}

/* ---- the trainer's part ---- */

fs_status fs_trainer_distil(fs_trainer *t, fs_teacher *teacher, const fs_distil_options *o, fs_error *err)
{
    size_t v = t->config->vocab_size, threads = (size_t)fs_pool_threads(t->pool);
    fs_distilling *d = calloc(1, sizeof *d);

    if (!d)
        return fs_fail_memory(err, sizeof *d);
    t->distil = d;
    d->options = *o;
    d->teacher = teacher;
    d->bytes = (FS_CHAIN_TOKENS * v + threads * 3 * v + t->options.tokens_max) * sizeof(float);
    d->logits = fs_alloc_aligned(d->bytes);
    if (!d->logits)
        return fs_fail_memory(err, d->bytes);
    d->scratch = d->logits + FS_CHAIN_TOKENS * v;
    d->divergences = d->scratch + threads * 3 * v;
    return FS_OK;
}

void fs_distilling_free(fs_distilling *d)
{
    if (d)
        fs_free_aligned(d->logits);
    free(d);
}
