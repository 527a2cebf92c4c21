/* See the header. */
#include "cli/make.h"

#include "cli/calibrate.h"
#include "cli/cli.h"
#include "cli/convert_cli.h"
#include "cli/interrupt.h"
#include "cli/origin.h"
#include "formats/quantize.h"
#include "lineage/provenance.h"
#include "text/tokenizer_convert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct job {
    const fs_make *make;
    const char *model; /* as it was named, for sentences */
    fs_weights *weights;
    fs_quantizer *quantizer;
    fs_pool *pool;
    fs_record record;
    bool calibrated; /* the importance is of a text */
} job;

static const char *yes_no(bool b)
{
    return b ? "yes" : "no";
}

/* ---- the record ---- */

static fs_status record_recipe(job *j, bool gguf, fs_error *err)
{
    const fs_make *m = j->make;
    fs_record *r = &j->record;
    fs_status rc = fs_record_add(r, err, FS_RECORD_RECIPE, "form %s", gguf ? "gguf" : "hub");

    if (!rc)
        rc = fs_record_add(r, err, FS_RECORD_RECIPE, "type %s", m->type);
    if (!rc)
        rc = fs_record_add(r, err, FS_RECORD_RECIPE, "tokenizer %s", yes_no(!m->no_tokenizer));
    if (!rc)
        rc = fs_record_add(r, err, FS_RECORD_RECIPE, "mtp %s", yes_no(!m->no_mtp));
    if (!rc && !gguf)
        rc = fs_record_add(r, err, FS_RECORD_RECIPE, "shard_gib %.17g", m->shard_gib);
    if (!rc && m->quantise)
        rc = fs_record_add(r, err, FS_RECORD_RECIPE, "pure %s", yes_no(m->pure));
    if (!rc && m->rules)
        rc = fs_record_add(r, err, FS_RECORD_RECIPE, "rules %s", m->rules);
    if (!rc && j->calibrated)
        rc = fs_record_add(r, err, FS_RECORD_RECIPE, "importance text, windows of %d", FS_CALIBRATE_TOKENS);
    return rc;
}

static fs_status record_inputs(job *j, const char *path, fs_error *err)
{
    fs_roots parent = { 0 };
    fs_status rc = fs_origin_begin(&j->record, err);

    if (!rc)
        rc = fs_record_add(&j->record, err, FS_RECORD_VERB, "%s", j->make->quantise ? "quantise" : "convert");
    if (!rc)
        rc = fs_origin_roots_of(j->weights, j->pool, &parent, err);
    if (!rc)
        rc = fs_provenance_parent(&j->record, path, &parent, err);
    if (!rc && j->make->imatrix)
        rc = fs_provenance_data(&j->record, j->make->imatrix, "imatrix", err);
    fs_roots_done(&parent);
    return rc;
}

static bool says(const char *value, const char *word)
{
    return value && strcmp(value, word) == 0;
}

bool fs_make_is_gguf(const fs_record *r)
{
    return says(fs_record_recipe(r, "form"), "gguf");
}

static fs_status find_imatrix(const fs_record *r, const char *imatrix, fs_error *err)
{
    const char *value = fs_record_get(r, FS_RECORD_DATA, 0);
    fs_root want, have;
    fs_status rc;

    if (!value)
        return FS_OK;
    if (!says(fs_record_hashed(value, &want), "imatrix") || fs_record_get(r, FS_RECORD_DATA, 1))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the record has data that this program does not know: '%.80s'", value);
    if (!imatrix)
        return fs_fail(err, FS_ERR_ARGUMENT, "the record wants the importance matrix whose SHA-256 is %.64s", value);
    rc = fs_provenance_hash(imatrix, &have, err);
    if (!rc && !fs_root_equal(&want, &have))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' is not the importance matrix of the record", imatrix);
    return rc;
}

fs_status fs_make_from_record(const fs_record *r, const char *imatrix, fs_make *ret, fs_error *err)
{
    const char *verb = fs_record_get(r, FS_RECORD_VERB, 0), *shard = fs_record_recipe(r, "shard_gib");
    fs_make m = { .quantise = says(verb, "quantise"), .no_record = true, .shard_gib = 5 };
    char *end = NULL;

    if (!m.quantise && !says(verb, "convert"))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "what the record tells of, '%.32s', cannot be done again by this program", verb);
    m.type = fs_record_recipe(r, "type");
    m.rules = fs_record_recipe(r, "rules");
    m.pure = says(fs_record_recipe(r, "pure"), "yes");
    m.no_tokenizer = says(fs_record_recipe(r, "tokenizer"), "no");
    m.no_mtp = says(fs_record_recipe(r, "mtp"), "no");
    if (shard) {
        m.shard_gib = strtod(shard, &end);
        if (*end || !(m.shard_gib >= 0 && m.shard_gib <= 1e6))
            return fs_fail(err, FS_ERR_FORMAT, "the record's shard_gib is '%.32s'", shard);
    }
    if (!m.type)
        return fs_fail(err, FS_ERR_FORMAT, "the record's recipe has no type");
    if (fs_record_get(r, FS_RECORD_DATA, 0))
        m.imatrix = imatrix;
    *ret = m;
    return find_imatrix(r, imatrix, err);
}

/* ---- making ---- */

static fs_status end_record(job *j, const char *path, fs_error *err)
{
    fs_roots roots = { 0 };
    fs_status rc = fs_origin_roots(path, j->pool, &roots, err);

    if (!rc)
        rc = fs_provenance_end(&j->record, path, &roots, err);
    fs_roots_done(&roots);
    return rc;
}

static fs_dtype plain_type(const char *name)
{
    return strcmp(name, "F32") == 0 ? FS_DTYPE_F32 : strcmp(name, "BF16") == 0 ? FS_DTYPE_BF16 : strcmp(name, "F16") == 0 ? FS_DTYPE_F16 :
                                                                                                                           FS_DTYPE_NONE;
}

static fs_status to_folder(void *ud, const fs_weights *w, const char *folder, const fs_convert_options *o, fs_error *err)
{
    job *j = ud;
    fs_status rc = FS_OK;

    if (!j->make->no_tokenizer)
        rc = j->make->quantise ? fs_convert_copy_texts(fs_weights_folder(w), folder, err) :
                                 fs_tokenizer_to_hub(fs_weights_gguf(w), fs_weights_config(w), folder, err);
    if (!rc)
        rc = j->make->quantise ? fs_quantize_to_hub(j->quantizer, w, folder, o, err) : fs_convert_to_hub(w, folder, o, err);
    if (!rc && !j->make->no_record)
        rc = end_record(j, folder, err);
    return rc;
}

static fs_status to_gguf(job *j, const char *out, const fs_convert_options *o, fs_error *err)
{
    fs_status rc = j->make->quantise ? fs_quantize_to_gguf(j->quantizer, j->weights, out, o, err) : fs_convert_to_gguf(j->weights, out, o, err);

    if (!rc && !j->make->no_record) {
        rc = end_record(j, out, err);
        if (rc)
            unlink(out);
    }
    return rc;
}

/* What the two names and the types must be to one another. */
static fs_status check_forms(const job *j, const char *out, fs_error *err)
{
    bool from_gguf = fs_weights_gguf(j->weights) != NULL, gguf = fs_convert_is_gguf_name(out);

    if (!j->make->quantise && from_gguf && gguf)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "'%s' is GGUF already; OUT must be a folder's name", j->model);
    if (!j->make->quantise && !from_gguf && !gguf)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "'%s' is in the Hub's layout already; OUT must end in .gguf", j->model);
    if (j->quantizer && fs_quantizer_is_hub(j->quantizer) == gguf)
        return fs_fail(err, FS_ERR_ARGUMENT, gguf ? "%s is for safetensors; OUT must be a folder's name" : "%s is for GGUF; OUT must end in .gguf",
                       j->make->type);
    if (j->quantizer && j->make->no_mtp && (from_gguf || !gguf))
        return fs_fail(err, FS_ERR_ARGUMENT, "--no-mtp is for the Hub's layout to GGUF, '%s' to '%s' is not", j->model, out);
    return FS_OK;
}

static fs_status make(job *j, const char *path, const char *out, fs_error *err)
{
    const fs_make *m = j->make;
    fs_convert_options o = { .type = m->quantise ? FS_DTYPE_NONE : plain_type(m->type), .no_mtp = m->no_mtp,
                             .shard_bytes_max = (uint64_t)(m->shard_gib * 1073741824.0) };
    bool gguf = fs_convert_is_gguf_name(out);
    fs_convert_progress p;
    fs_status rc = FS_OK;

    if (!rc && !m->no_record)
        rc = record_inputs(j, path, err);
    if (!rc && !m->no_record)
        rc = record_recipe(j, gguf, err);
    if (rc)
        return rc;
    fs_convert_progress_start(&p, j->weights, m->no_tokenizer, &o);
    rc = gguf ? to_gguf(j, out, &o, err) : fs_convert_in_folder(j->weights, out, &o, to_folder, j, err);
    fs_convert_progress_end(&p);
    return rc;
}

/* The importance of columns: the file's, or what the model at path makes of the text, which is kept where that is wanted. */
static fs_status take_importance(job *j, const char *path, const char *out, fs_error *err)
{
    const fs_make *m = j->make;
    bool is_matrix;
    char *temp = NULL;
    size_t n = strlen(out) + sizeof ".imatrix.XXXXXX";
    fs_status rc = fs_calibrate_is_matrix(m->imatrix, &is_matrix, err);
    int fd;

    if (!rc && is_matrix && m->save_imatrix)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "--save-imatrix keeps what a text gave, but '%s' is an importance matrix already", m->imatrix);
    if (rc || is_matrix)
        return rc ? rc : fs_quantizer_set_imatrix(j->quantizer, m->imatrix, err);
    if (fs_quantizer_is_hub(j->quantizer)) /* before the model reads */
        return fs_quantizer_set_imatrix(j->quantizer, m->imatrix, err);
    j->calibrated = true;
    if (m->save_imatrix) {
        rc = fs_calibrate(path, j->model, m->imatrix, m->n_threads, m->save_imatrix, err);
        return rc ? rc : fs_quantizer_set_imatrix(j->quantizer, m->save_imatrix, err);
    }
    temp = malloc(n);
    if (!temp)
        return fs_fail_memory(err, n);
    snprintf(temp, n, "%s.imatrix.XXXXXX", out);
    fd = mkstemp(temp);
    if (fd < 0) {
        rc = fs_fail_errno(err, errno, "cannot make a file beside '%s'", out);
    } else {
        close(fd);
        rc = fs_calibrate(path, j->model, m->imatrix, m->n_threads, temp, err);
        if (!rc)
            rc = fs_quantizer_set_imatrix(j->quantizer, temp, err);
        unlink(temp);
    }
    free(temp);
    return rc;
}

fs_status fs_make_model(const fs_make *m, const char *model, const char *out, fs_error *err)
{
    job j = { .make = m, .model = model };
    char *path = NULL;
    struct stat st;
    fs_status rc;

    if (lstat(out, &st) == 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "'%s' exists already", out);
    rc = fs_pool_new(m->n_threads, &j.pool, err);
    if (!rc && m->quantise)
        rc = fs_quantizer_new(m->type, m->rules, m->pure, j.pool, &j.quantizer, err);
    if (!rc && m->save_imatrix && !m->imatrix)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "--save-imatrix keeps what the text of --imatrix gave, and there is none");
    if (!rc)
        rc = fs_model_path(model, &path, err);
    if (!rc)
        rc = fs_weights_open(path, &j.weights, err);
    fs_interrupt_catch();
    if (!rc)
        rc = check_forms(&j, out, err);
    if (!rc && m->imatrix)
        rc = take_importance(&j, path, out, err);
    if (!rc)
        rc = make(&j, path, out, err);
    free(path);
    fs_weights_close(j.weights);
    fs_quantizer_free(j.quantizer);
    fs_record_done(&j.record);
    fs_pool_free(j.pool);
    return rc;
}
