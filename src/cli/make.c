/* See the header. */
#include "cli/make.h"

#include "base/file.h"
#include "cli/calibrate.h"
#include "cli/cli.h"
#include "cli/convert_cli.h"
#include "cli/interrupt.h"
#include "cli/origin.h"
#include "formats/quantize.h"
#include "lineage/provenance.h"
#include "text/tokenizer_convert.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ADAPTER_CONFIG "adapter_config.json"
#define ADAPTER_DATA   "adapter-config" /* in a record */

typedef struct job {
    const fs_make *make;
    const char *model; /* as it was named, for sentences */
    fs_weights *weights;
    fs_quantizer *quantizer;
    fs_merge *merge; /* NULL: no adapters */
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
    if (!rc && m->n_adapters) {
        fs_buf factors = { 0 };
        for (size_t i = 0; i < m->n_adapters && !rc; i++)
            rc = fs_buf_printf(&factors, err, "%s%.9g", i ? "," : "", (double)m->adapters[i].factor);
        if (!rc)
            rc = fs_record_add(r, err, FS_RECORD_RECIPE, "factors %s", factors.data);
        fs_buf_done(&factors);
    }
    if (!rc && j->calibrated)
        rc = fs_record_add(r, err, FS_RECORD_RECIPE, "importance text, windows of %d", FS_CALIBRATE_TOKENS);
    return rc;
}

/* An adapter's root is of its tensors; its configuration decides as much. */
static fs_status record_adapter(job *j, const char *folder, fs_error *err)
{
    char *config = fs_path_join(folder, ADAPTER_CONFIG);
    fs_roots roots = { 0 };
    fs_status rc = config ? fs_origin_roots(folder, j->pool, &roots, err) : fs_fail_memory(err, strlen(folder));

    if (!rc)
        rc = fs_provenance_parent(&j->record, folder, &roots, err);
    if (!rc)
        rc = fs_provenance_data(&j->record, config, ADAPTER_DATA, err);
    fs_roots_done(&roots);
    free(config);
    return rc;
}

static fs_status record_inputs(job *j, const char *path, fs_error *err)
{
    const char *licence = j->make->licence;
    char *inherited = NULL;
    fs_roots parent = { 0 };
    fs_status rc = fs_origin_begin(&j->record, err);

    if (!rc)
        rc = fs_record_add(&j->record, err, FS_RECORD_VERB, "%s", j->make->n_adapters ? "merge" : j->make->quantise ? "quantise" : "convert");
    if (!rc)
        rc = fs_origin_roots_of(j->weights, j->pool, &parent, err);
    if (!rc)
        rc = fs_provenance_parent(&j->record, path, &parent, err);
    for (size_t i = 0; i < j->make->n_adapters && !rc; i++)
        rc = record_adapter(j, j->make->adapters[i].folder, err);
    if (!rc && j->make->imatrix)
        rc = fs_provenance_data(&j->record, j->make->imatrix, "imatrix", err);
    if (!rc && !licence)
        rc = fs_provenance_licence(path, &inherited, err);
    if (!rc)
        rc = fs_provenance_vouch(&j->record, licence ? licence : inherited, j->make->signed_off_by, err);
    fs_roots_done(&parent);
    free(inherited);
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

/* "1,0.5", one for each parent behind the first. */
static fs_status read_factors(const fs_record *r, fs_make *m, fs_error *err)
{
    const char *at = fs_record_recipe(r, "factors");
    size_t n = r->n_of[FS_RECORD_PARENT];
    char *end = NULL;

    if (!at || n < 2 || n - 1 > FS_MAKE_ADAPTERS_MAX)
        return fs_fail(err, FS_ERR_FORMAT, "the record has no factors, or not as many adapters as this program takes");
    for (m->n_adapters = 0; m->n_adapters < n - 1; m->n_adapters++, at = end + (*end == ',')) {
        m->adapters[m->n_adapters].factor = strtof(at, &end);
        if (end == at || !isfinite(m->adapters[m->n_adapters].factor) || *end != (m->n_adapters + 2 < n ? ',' : 0))
            return fs_fail(err, FS_ERR_FORMAT, "the record's factors are '%.80s', not a number for each of %zu adapters",
                           fs_record_recipe(r, "factors"), n - 1);
    }
    return FS_OK;
}

fs_status fs_make_check_adapter(const fs_record *r, size_t i, const char *folder, bool *ret_same, fs_error *err)
{
    const char *value = fs_record_get(r, FS_RECORD_DATA, i);
    char *config = fs_path_join(folder, ADAPTER_CONFIG);
    fs_root want, have;
    fs_status rc = config ? FS_OK : fs_fail_memory(err, strlen(folder));

    if (!rc && (!value || !says(fs_record_hashed(value, &want), ADAPTER_DATA)))
        rc = fs_fail(err, FS_ERR_FORMAT, "the record has no configuration of adapter %zu", i + 1);
    if (!rc)
        rc = fs_provenance_hash(config, &have, err);
    if (!rc)
        *ret_same = fs_root_equal(&want, &have);
    free(config);
    return rc;
}

fs_status fs_make_from_record(const fs_record *r, const char *imatrix, fs_make *ret, fs_error *err)
{
    const char *verb = fs_record_get(r, FS_RECORD_VERB, 0), *shard = fs_record_recipe(r, "shard_gib");
    fs_make m = { .quantise = says(verb, "quantise"), .no_record = true, .shard_gib = 5 };
    char *end = NULL;
    fs_status rc;

    if (!m.quantise && !says(verb, "convert") && !says(verb, "merge"))
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
    if (says(verb, "merge")) {
        rc = read_factors(r, &m, err);
    } else {
        if (fs_record_get(r, FS_RECORD_DATA, 0))
            m.imatrix = imatrix;
        rc = find_imatrix(r, imatrix, err);
    }
    *ret = m;
    return rc;
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
        rc = !fs_weights_gguf(w) ? fs_convert_copy_texts(fs_weights_folder(w), folder, err) :
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
    if (!j->make->quantise && !from_gguf && !gguf && !j->make->n_adapters)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "'%s' is in the Hub's layout already; OUT must end in .gguf", j->model);
    if (j->quantizer && fs_quantizer_is_hub(j->quantizer) == gguf)
        return fs_fail(err, FS_ERR_ARGUMENT, gguf ? "%s is for safetensors; OUT must be a folder's name" : "%s is for GGUF; OUT must end in .gguf",
                       j->make->type);
    if (j->quantizer && j->make->no_mtp && (from_gguf || !gguf))
        return fs_fail(err, FS_ERR_ARGUMENT, "--no-mtp is for the Hub's layout to GGUF, '%s' to '%s' is not", j->model, out);
    return FS_OK;
}

/* Whether the adapter's record tells of this base; *ret_told: it tells of one. */
static bool was_trained_on(const char *folder, const fs_root *base, bool *ret_told)
{
    fs_record r = { 0 };
    fs_buf text = { 0 };
    fs_root root;
    const char *value;
    bool found = false;

    *ret_told = fs_provenance_read(folder, &r, &text, NULL) == FS_OK && fs_record_get(&r, FS_RECORD_PARENT, 0);
    for (size_t i = 0; *ret_told && !found && (value = fs_record_get(&r, FS_RECORD_PARENT, i)) != NULL; i++) {
        fs_record_parent(value, &root);
        found = fs_root_equal(&root, base);
    }
    fs_record_done(&r);
    fs_buf_done(&text);
    return found;
}

/* The last part of a path or an id. */
static const char *last_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

/* An adapter of another model is merged all the same: its shapes fit, and names are often only a folder's. But it is said. */
static void look_at_bases(const job *j, const char *path)
{
    fs_root root;
    const char *value = fs_record_get(&j->record, FS_RECORD_PARENT, 0);

    for (size_t i = 0; i < j->make->n_adapters; i++) {
        const char *folder = j->make->adapters[i].folder, *base = fs_merge_base(j->merge, i);
        bool told = false, same = false;
        fs_error said = { 0 }; /* without control characters */
        if (value) {
            fs_record_parent(value, &root);
            same = was_trained_on(folder, &root, &told);
        }
        if (told && !same)
            fs_fail(&said, FS_ERR_FORMAT, "the adapter '%.100s' was trained on another model, by its record; merged with '%.100s' all the same", folder, j->model);
        else if (!told && base && *base && !strcasestr(path, last_of(base)) && !strcasestr(j->model, last_of(base)))
            fs_fail(&said, FS_ERR_FORMAT, "the adapter '%.100s' was trained on '%.100s', by its configuration; merged with '%.100s' all the same", folder, base, j->model);
        if (said.code)
            fprintf(stderr, "farseek: %s\n", said.message);
    }
}

static fs_status make(job *j, const char *path, const char *out, fs_error *err)
{
    const fs_make *m = j->make;
    fs_convert_options o = { .type = m->quantise ? FS_DTYPE_NONE : plain_type(m->type), .no_mtp = m->no_mtp, .merge = j->merge,
                             .shard_bytes_max = (uint64_t)(m->shard_gib * 1073741824.0) };
    bool gguf = fs_convert_is_gguf_name(out);
    fs_convert_progress p;
    fs_status rc = FS_OK;

    if (!rc && !m->no_record)
        rc = record_inputs(j, path, err);
    if (!rc && !m->no_record)
        rc = record_recipe(j, gguf, err);
    if (!rc && j->merge)
        rc = fs_merge_replace(j->merge, j->weights, err);
    if (rc)
        return rc;
    fs_convert_progress_start(&p, j->weights, m->no_tokenizer, &o);
    rc = gguf ? to_gguf(j, out, &o, err) : fs_convert_in_folder(j->weights, out, &o, to_folder, j, err);
    fs_convert_progress_end(&p);
    if (!rc)
        look_at_bases(j, path);
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

static fs_status open_adapters(job *j, fs_kernels *kernels, fs_error *err)
{
    fs_status rc = fs_kernels_init_named(kernels, j->make->isa, err);

    if (!rc)
        rc = fs_merge_new(kernels, &j->merge, err);
    for (size_t i = 0; i < j->make->n_adapters && !rc; i++)
        rc = fs_merge_add(j->merge, j->make->adapters[i].folder, j->make->adapters[i].factor, err);
    return rc;
}

fs_status fs_make_model(const fs_make *m, const char *model, const char *out, fs_error *err)
{
    job j = { .make = m, .model = model };
    char *path = NULL;
    struct stat st;
    fs_kernels kernels;
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
    if (!rc && m->n_adapters)
        rc = open_adapters(&j, &kernels, err);
    if (!rc && m->imatrix)
        rc = take_importance(&j, path, out, err);
    if (!rc)
        rc = make(&j, path, out, err);
    free(path);
    fs_weights_close(j.weights);
    fs_merge_free(j.merge);
    fs_quantizer_free(j.quantizer);
    fs_record_done(&j.record);
    fs_pool_free(j.pool);
    return rc;
}
