/* farseek verify: whether a model is what its record says, who signed that, and whether doing it again gives the same. */
#include "cli/cli.h"

#include "base/file.h"
#include "cli/ancestry.h"
#include "cli/derive.h"
#include "cli/interrupt.h"
#include "cli/make.h"
#include "cli/origin.h"
#include "cli/retrain.h"
#include "crypto/minisign.h"
#include "kernels/conformance.h"
#include "lineage/provenance.h"
#include "train/checkpoint.h"
#include "train/history.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static struct {
    const char *key, *imatrix, *work, *data, *segment, *isa;
    int n_threads;
    bool rerun, lineage, json;
} opt;

static const fs_option options[] = {
    FS_OPT_STR("key", 'k', opt.key, "FILE|BASE64", "the public key whose signature the record must have"),
    FS_OPT_FLAG("rerun", 0, opt.rerun, "do it again from the parents, and compare"),
    FS_OPT_STR("segment", 0, opt.segment, "I/N", "of a training do only the I-th of N parts again, from a checkpoint that was kept"),
    FS_OPT_FLAG("lineage", 0, opt.lineage, "verify what it was made from, too, and what that was made from, as far as --data has records of it"),
    FS_OPT_STR("data", 0, opt.data, "FOLDER", "where data is, and parents that are not named; both are found by their hashes"),
    FS_OPT_STR("imatrix", 0, opt.imatrix, "FILE", "the importance matrix, where the record has one"),
    FS_OPT_STR("work", 0, opt.work, "FOLDER", "where --rerun writes (default $TMPDIR, else /tmp)"),
    FS_OPT_STR("isa", 0, opt.isa, "scalar|avx2|avx512|neon", "do a training or a merge again with this instruction set; changes nothing"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

typedef struct verification {
    struct verification *top; /* NULL: this is what was asked for; else it is of its lineage */
    const char *path;
    const char *const *parents; /* [n_parents] that were named */
    int n_parents;
    fs_pool *pool;
    fs_record record;
    fs_buf text;
    fs_roots roots;
    fs_buf said, lineage; /* JSON: the sentences, as a list's items; what of the lineage was looked at */
    size_t n_wrong;
    fs_trace trace;
    bool is_signed, key_checked, rerun;
    bool segment;  /* of it, or of the training that it was made from, --segment is done again */
    char *source;  /* of what was made from one model: that one, once it is done again */
    uint64_t first, last; /* steps of a training that were done again; 0: none */
    char signer[17];
} verification;

static void on_wrong(void *ud, const char *sentence)
{
    verification *v = ud, *top = v->top ? v->top : v;
    fs_buf whole = { 0 };

    if (!opt.json) {
        printf("WRONG  %s\n", sentence);
        return;
    }
    if (top->said.n_bytes > 0)
        fs_buf_append_str(&top->said, ", ", NULL);
    fs_buf_printf(&whole, NULL, "%s%s%s", v->top ? v->path : "", v->top ? ": " : "", sentence);
    fs_json_quote(&top->said, fs_buf_bytes(&whole), NULL);
    fs_buf_done(&whole);
}

static void wrong(verification *v, const char *sentence)
{
    on_wrong(v, sentence);
    v->n_wrong++;
}

static void on_counted_wrong(void *ud, const char *sentence)
{
    wrong(ud, sentence);
}

static void wrong_about(verification *v, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void wrong_about(verification *v, const char *format, ...)
{
    fs_error e;
    va_list args;

    va_start(args, format);
    fs_fail_va(&e, FS_ERR_FORMAT, format, args); /* without control characters */
    va_end(args);
    wrong(v, e.message);
}

static void good(const char *what, const char *detail)
{
    if (!opt.json)
        printf("good   %s%s\n", what, detail);
}

/* ---- the signature ---- */

static fs_status read_key(fs_public_key *ret, fs_error *err)
{
    fs_buf text = { 0 };
    fs_status rc;

    if (!fs_file_exists(opt.key))
        return fs_public_key_read(fs_bytes_str(opt.key), opt.key, ret, err);
    rc = fs_file_read(opt.key, FS_MINISIGN_FILE_BYTES_MAX, &text, err);
    if (!rc)
        rc = fs_public_key_read(fs_buf_bytes(&text), opt.key, ret, err);
    fs_buf_done(&text);
    return rc;
}

static fs_status check_signature(verification *v, const char *path, fs_error *err)
{
    fs_public_key key;
    fs_buf text = { 0 };
    fs_error why = { 0 };
    uint8_t id[8];
    fs_status rc;

    v->is_signed = fs_file_exists(path);
    if (!v->is_signed && opt.key)
        wrong(v, "the record is not signed");
    if (!v->is_signed)
        return FS_OK;
    rc = fs_file_read(path, FS_MINISIGN_FILE_BYTES_MAX, &text, err);
    if (!rc && opt.key)
        rc = read_key(&key, err);
    if (rc) {
        fs_buf_done(&text);
        return rc;
    }
    if (fs_minisign_signer(fs_buf_bytes(&text), path, id, &why)) {
        wrong(v, why.message);
    } else {
        fs_minisign_id(id, v->signer);
        if (opt.key && fs_minisign_verify(&key, fs_buf_bytes(&v->text), fs_buf_bytes(&text), path, NULL, &why)) {
            wrong(v, why.message);
        } else if (opt.key) {
            v->key_checked = true;
            good("signature by key ", v->signer);
        } else if (!opt.json) {
            printf("       signature by key %s, not checked: --key gives its public key\n", v->signer);
        }
    }
    fs_buf_done(&text);
    return FS_OK;
}

/* ---- doing it again ---- */

static fs_status compare_parent(verification *v, size_t i, const char *path, fs_error *err)
{
    const char *value = fs_record_get(&v->record, FS_RECORD_PARENT, i);
    fs_roots parent = { 0 };
    fs_root want;
    char hex[65], sentence[256];
    fs_status rc;

    rc = fs_origin_roots(path, v->pool, &parent, err);
    if (rc)
        return rc;
    fs_record_parent(value, &want);
    fs_root_hex(&parent.model, hex);
    snprintf(sentence, sizeof sentence, "the parent's root is %s, the record says %.64s", hex, value);
    if (fs_root_equal(&want, &parent.model))
        good("parent ", hex);
    else
        wrong(v, sentence);
    fs_roots_done(&parent);
    return FS_OK;
}

static fs_status compare_arithmetic(verification *v, fs_error *err)
{
    const char *said = strchr(fs_record_get(&v->record, FS_RECORD_ARITHMETIC, 0), ' ') + 1;
    char here[65], sentence[256];
    fs_status rc = fs_origin_arithmetic(here, err);

    if (rc)
        return rc;
    snprintf(sentence, sizeof sentence, "this program's arithmetic is %s, the record's %s: other bits may be no one's fault", here, said);
    if (strcmp(here, said) != 0 && !fs_conformance_is_earlier(said) && !opt.json)
        printf("       %s\n", sentence);
    return FS_OK;
}

static fs_status make_work_folder(char **ret, fs_error *err)
{
    const char *tmp = opt.work ? opt.work : getenv("TMPDIR") && *getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    char *folder = fs_path_join(tmp, "farseek-verify.XXXXXX");

    if (!folder)
        return fs_fail_memory(err, strlen(tmp) + 32);
    if (!mkdtemp(folder)) {
        free(folder);
        return fs_fail_errno(err, errno, "cannot make a folder in '%s'", tmp);
    }
    *ret = folder;
    return FS_OK;
}

static fs_status make_again(verification *v, const fs_make *m, const char *parent, const char *out, fs_error *err)
{
    fs_roots again = { 0 };
    size_t before = v->n_wrong;
    char hex[65];
    fs_status rc = fs_make_model(m, parent, out, err);

    if (!rc)
        rc = fs_origin_roots(out, v->pool, &again, err);
    if (!rc) {
        fs_provenance_compare("tensor", &again, &v->roots, on_wrong, v, &v->n_wrong);
        v->rerun = true;
        fs_root_hex(&again.model, hex);
        if (v->n_wrong == before)
            good("done again, the same root ", hex);
    }
    fs_roots_done(&again);
    return rc;
}

/* The i-th parent, named or found in data, and whether it is the record's. */
static fs_status take_parent(verification *v, size_t i, char **ret, fs_error *err)
{
    fs_root root;
    fs_status rc;

    if (i < (size_t)v->n_parents) {
        rc = fs_model_path(v->parents[i], ret, err);
    } else {
        fs_record_parent(fs_record_get(&v->record, FS_RECORD_PARENT, i), &root);
        rc = fs_retrain_find_model(opt.data, &root, ret, err);
    }
    return rc ? rc : compare_parent(v, i, *ret, err);
}

static fs_status take_adapter(verification *v, fs_make *m, size_t i, char **ret, fs_error *err)
{
    bool same = true;
    fs_status rc = take_parent(v, i + 1, ret, err);

    if (!rc)
        rc = fs_make_check_adapter(&v->record, i, *ret, &same, err);
    if (!rc && !same)
        wrong_about(v, "the adapter_config.json of '%s' is not the record's", *ret);
    m->adapters[i].folder = *ret;
    return rc;
}

static fs_status convert_again(verification *v, const char *folder, fs_error *err)
{
    char *out = fs_path_join(folder, fs_make_is_gguf(&v->record) ? "again.gguf" : "again"), *parents[FS_MAKE_ADAPTERS_MAX + 1] = { 0 };
    size_t before = v->n_wrong, n = v->record.n_of[FS_RECORD_PARENT];
    fs_make m = { 0 };
    fs_status rc = out ? fs_make_from_record(&v->record, opt.imatrix, &m, err) : fs_fail_memory(err, strlen(folder) + 16);

    if (!rc && n != m.n_adapters + 1)
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "the record has %s parent, one is wanted to do it again", n ? "more than one" : "no");
    if (!rc && ((size_t)v->n_parents > n || (!v->n_parents && !opt.data)))
        rc = fs_fail(err, FS_ERR_ARGUMENT, "--rerun wants the model that it was made from: verify MODEL --rerun PARENT%s", m.n_adapters ? " ADAPTER..." : "");
    if (!rc)
        rc = take_parent(v, 0, &parents[0], err);
    for (size_t i = 0; i < m.n_adapters && !rc; i++)
        rc = take_adapter(v, &m, i, &parents[i + 1], err);
    if (!rc)
        rc = compare_arithmetic(v, err);
    m.n_threads = opt.n_threads;
    m.isa = opt.isa;
    if (!rc && v->n_wrong == before)
        rc = make_again(v, &m, parents[0], out, err);
    if (out && fs_file_is_folder(out))
        fs_folder_remove(out);
    free(out);
    v->source = parents[0];
    for (size_t i = 1; i < n && i < sizeof parents / sizeof *parents; i++)
        free(parents[i]);
    return rc;
}

static fs_status read_segment(fs_retrain *o, fs_error *err)
{
    unsigned long long i = 0, n = 0;
    char rest = 0;

    if (!opt.segment)
        return FS_OK;
    if (sscanf(opt.segment, "%9llu/%9llu%c", &i, &n, &rest) != 2 || i < 1 || i > n)
        return fs_fail(err, FS_ERR_ARGUMENT, "--segment is '%.40s', it wants 1/4, 2/4, ...", opt.segment);
    o->segment = i;
    o->n_segments = n;
    return FS_OK;
}

static fs_status train_again(verification *v, const char *folder, fs_error *err)
{
    fs_retrain o = { .model = v->path, .parents = v->parents, .n_parents = v->n_parents, .data = opt.data, .work = folder, .isa = opt.isa,
                     .n_threads = opt.n_threads };
    char steps[80];
    fs_status rc = read_segment(&o, err);

    if (!rc)
        rc = compare_arithmetic(v, err);
    if (!rc)
        rc = fs_retrain_run(&o, &v->record, &v->trace, err);
    if (rc && o.departed) {
        wrong(v, err->message);
        rc = FS_OK;
    } else if (!rc) {
        snprintf(steps, sizeof steps, "steps %" PRIu64 " to %" PRIu64 " of %zu", o.first, o.last, v->trace.n);
        good("done again, every row the trace's: ", steps);
    }
    v->rerun = !rc;
    v->first = o.first;
    v->last = o.last;
    return rc;
}

static fs_status derive_again(verification *v, const char *folder, fs_error *err)
{
    fs_derive_again o = { .path = v->path, .parents = v->parents, .n_parents = v->n_parents, .data = opt.data, .work = folder, .isa = opt.isa,
                          .n_threads = opt.n_threads, .pool = v->pool, .say = on_wrong, .ud = v };
    fs_status rc = compare_arithmetic(v, err);

    if (!rc)
        rc = fs_derive_do_again(&o, &v->record, err);
    v->n_wrong += o.n_wrong;
    v->rerun = !rc;
    if (!rc && o.n_wrong == 0)
        good("done again, the same bytes: ", fs_record_recipe(&v->record, "stage"));
    return rc;
}

static fs_status do_again(verification *v, fs_error *err)
{
    char *folder = NULL;
    fs_status rc = make_work_folder(&folder, err);

    if (!rc && fs_record_is_data(&v->record))
        rc = derive_again(v, folder, err);
    else if (!rc)
        rc = fs_retrain_can(&v->record) ? train_again(v, folder, err) : convert_again(v, folder, err);
    if (folder)
        fs_folder_remove(folder);
    free(folder);
    return rc;
}

/* ---- what a training leaves beside its model ---- */

static bool root_differs(verification *v, const char *what, const fs_root *have, const fs_root *want)
{
    char a[65], b[65];

    if (fs_root_equal(have, want))
        return false;
    fs_root_hex(have, a);
    fs_root_hex(want, b);
    wrong_about(v, "%s %s, the record says %s", what, a, b);
    return true;
}

static fs_status check_trace(verification *v, fs_error *err)
{
    char *path = fs_path_join(v->path, FS_TRACE_FILE);
    fs_root want, have, result, state;
    uint64_t numbers[2], unused[2];
    const fs_trace_row *last;
    fs_buf text = { 0 };
    fs_error why = { 0 };
    fs_status rc = path ? FS_OK : fs_fail_memory(err, strlen(v->path));

    if (rc || !fs_file_exists(path)) { /* that it is missing has been said: it is one of the record's files */
        free(path);
        return rc;
    }
    rc = fs_file_read(path, FS_TRACE_BYTES_MAX, &text, err);
    if (!rc && fs_trace_read(fs_buf_bytes(&text), path, &v->trace, &why))
        wrong(v, why.message);
    fs_buf_done(&text);
    free(path);
    if (rc || why.code)
        return rc;
    fs_record_root_and_numbers(fs_record_get(&v->record, FS_RECORD_TRACE, 0), &want, numbers);
    if (v->trace.n != numbers[0])
        wrong_about(v, "the trace has %zu steps, the record %" PRIu64, v->trace.n, numbers[0]);
    rc = fs_trace_root(&v->trace, v->trace.n, &have, err);
    if (!rc && !root_differs(v, "the trace's root is", &have, &want) && v->trace.n > 0) {
        last = &v->trace.rows[v->trace.n - 1];
        fs_record_result(&v->record, &result);
        if (last->traced)
            root_differs(v, "the trace's last weights are", &last->weights, &result);
        if (last->traced && fs_record_get(&v->record, FS_RECORD_STATE, 0)) {
            fs_record_root_and_numbers(fs_record_get(&v->record, FS_RECORD_STATE, 0), &state, unused);
            root_differs(v, "the trace's last state is", &last->state, &state);
        }
    }
    return rc;
}

/* The first line that the recipe's file has otherwise than the record's recipe is. */
static fs_status check_recipe(verification *v, fs_error *err)
{
    bool data = fs_record_is_data(&v->record);
    fs_provenance_paths paths = { 0 };
    fs_buf want = { 0 }, have = { 0 };
    fs_status rc = fs_provenance_paths_of(v->path, &paths, err);

    if (!rc)
        rc = data ? fs_derive_recipe(&v->record, fs_buf_bytes(&v->text), &want, err) : fs_history_recipe(&v->record, &want, err);
    if (!rc && fs_file_exists(paths.recipe) && (rc = fs_file_read(paths.recipe, FS_RECORD_BYTES_MAX, &have, err)) == FS_OK &&
        !fs_bytes_equal(fs_buf_bytes(&want), fs_buf_bytes(&have))) {
        const char *a = want.data ? want.data : "", *b = have.data ? have.data : "", *slash = strrchr(paths.recipe, '/');
        size_t line = 0, number = 1, at = 0, first = data ? strcspn(a, "\n") : 0;
        if (data && strlen(b) >= first && strcmp(a + first, b + first) != 0) /* the id's line says less than a line of the recipe */
            at = first;
        for (number = at ? 1 : number; a[at] && a[at] == b[at]; at++)
            if (a[at] == '\n') {
                line = at + 1;
                number++;
            }
        wrong_about(v, "%s, line %zu: the record's recipe has '%.*s' there", slash ? slash + 1 : paths.recipe, number, (int)strcspn(a + line, "\n"), a + line);
    }
    fs_buf_done(&want);
    fs_buf_done(&have);
    fs_provenance_paths_done(&paths);
    return rc;
}

static fs_status check_state(verification *v, fs_error *err)
{
    const char *value = fs_record_get(&v->record, FS_RECORD_STATE, 0);
    char *path = fs_path_join(v->path, "optimizer");
    fs_roots have = { 0 };
    fs_error why = { 0 };
    fs_root want;
    uint64_t numbers[2];
    bool there = path && fs_file_is_folder(path);

    if (!path)
        return fs_fail_memory(err, strlen(v->path));
    free(path);
    if (!value || !there) /* a model that is given away may do without */
        return FS_OK;
    fs_record_root_and_numbers(value, &want, numbers);
    if (fs_checkpoint_state_roots(v->path, v->pool, &have, &why))
        wrong_about(v, "the optimiser's state: %s", why.message);
    else
        root_differs(v, "the root of the optimiser's state is", &have.model, &want);
    fs_roots_done(&have);
    return FS_OK;
}

/* Of the record's data the files, where --data has them. */
static fs_status check_data(verification *v, fs_error *err)
{
    const char *value;
    fs_root hash;
    fs_status rc = FS_OK;

    for (size_t i = 0; opt.data && !rc && (value = fs_record_get(&v->record, FS_RECORD_DATA, i)) != NULL; i++) {
        const char *what = fs_record_hashed(value, &hash), *name = fs_retrain_file_name(what);
        char *found = NULL, *other = NULL;
        if (!name || strcmp(what, "tokenizer") == 0)
            continue;
        rc = fs_retrain_find(opt.data, &hash, name, &found, &other, err);
        if (!rc && found)
            good("data ", what);
        else if (!rc && other)
            wrong_about(v, "data '%s' differs: '%s' is not what the record says", what, other);
        else if (!rc)
            wrong_about(v, "data '%s' is not in '%s'", what, opt.data);
        free(found);
        free(other);
    }
    return rc;
}

static fs_status check_derived(verification *v, fs_error *err)
{
    size_t before = v->n_wrong;
    fs_status rc = check_recipe(v, err);

    if (!rc && v->n_wrong == before)
        good("recipe is the record's: ", fs_record_recipe(&v->record, "stage"));
    return rc ? rc : check_data(v, err);
}

static fs_status check_training(verification *v, fs_error *err)
{
    size_t before = v->n_wrong;
    fs_status rc = check_trace(v, err);

    if (!rc)
        rc = check_recipe(v, err);
    if (!rc)
        rc = check_state(v, err);
    if (!rc && v->n_wrong == before)
        good("recipe, trace and state are the record's: ", fs_record_get(&v->record, FS_RECORD_VERB, 0));
    return rc ? rc : check_data(v, err);
}

/* ---- the whole ---- */

static fs_status print_json(const verification *v, fs_error *err)
{
    fs_buf out = { 0 };
    fs_root id;
    char root[65], id_hex[65];
    fs_status rc = fs_record_id(fs_buf_bytes(&v->text), &id, err);

    if (rc)
        return rc;
    fs_root_hex(&v->roots.model, root);
    fs_root_hex(&id, id_hex);
    rc = fs_buf_printf(&out, err, "{\"good\": %s, \"record\": \"%s\", \"verb\": \"%s\", \"class\": \"%s\", \"root\": \"%s\", \"n_tensors\": %zu, \"n_bytes\": %" PRIu64,
                       v->n_wrong ? "false" : "true", id_hex, fs_record_get(&v->record, FS_RECORD_VERB, 0),
                       fs_record_get(&v->record, FS_RECORD_CLASS, 0), root, v->roots.n, v->roots.n_bytes);
    if (!rc && v->is_signed)
        rc = fs_buf_printf(&out, err, ", \"signer\": \"%s\", \"signature_checked\": %s", v->signer, v->key_checked ? "true" : "false");
    if (!rc)
        rc = v->last ? fs_buf_printf(&out, err, ", \"first\": %" PRIu64 ", \"last\": %" PRIu64, v->first, v->last) : FS_OK;
    if (!rc && opt.lineage)
        rc = fs_buf_printf(&out, err, ", \"lineage\": [%s]", v->lineage.n_bytes ? v->lineage.data : "");
    if (!rc)
        rc = fs_buf_printf(&out, err, ", \"rerun\": %s, \"wrong\": [%s]}\n", v->rerun ? "true" : "false", v->said.n_bytes ? v->said.data : "");
    if (!rc)
        fwrite(out.data, 1, out.n_bytes, stdout);
    fs_buf_done(&out);
    return rc;
}

static void verification_done(verification *v)
{
    fs_roots_done(&v->roots);
    fs_record_done(&v->record);
    fs_trace_done(&v->trace);
    fs_buf_done(&v->text);
    fs_buf_done(&v->said);
    fs_buf_done(&v->lineage);
    free(v->source);
}

static fs_status verify(verification *v, fs_error *err);

/* What a quantised or converted model was made from, until that is a training, whose segment is done again. */
static fs_status verify_source(verification *v, fs_error *err)
{
    verification s = { .top = v->top ? v->top : v, .path = v->source, .pool = v->pool, .segment = true };
    fs_status rc;

    if (!opt.json)
        printf("\n%s\n", s.path);
    rc = verify(&s, err);
    if (rc)
        fs_fail_prefix(err, "'%s'", s.path);
    v->n_wrong += s.n_wrong;
    v->first = s.first;
    v->last = s.last;
    verification_done(&s);
    return rc;
}

static fs_status verify(verification *v, fs_error *err)
{
    fs_provenance_paths paths = { 0 };
    char detail[160], hex[65];
    size_t n = 0;
    fs_status rc = fs_provenance_read(v->path, &v->record, &v->text, err);

    if (!rc)
        rc = fs_provenance_paths_of(v->path, &paths, err);
    if (!rc)
        rc = check_signature(v, paths.signature, err);
    fs_provenance_paths_done(&paths);
    if (!rc)
        rc = fs_origin_roots_told(&v->record, v->path, v->pool, &v->roots, err);
    if (!rc)
        rc = fs_provenance_check(&v->record, v->path, &v->roots, on_wrong, v, &n, err);
    if (rc)
        return rc;
    v->n_wrong += n;
    fs_root_hex(&v->roots.model, hex);
    snprintf(detail, sizeof detail, "%s, %zu %s%s, %" PRIu64 " bytes", hex, v->roots.n, fs_record_is_data(&v->record) ? "file" : "tensor", v->roots.n == 1 ? "" : "s",
             v->roots.n_bytes);
    if (n == 0)
        good(fs_record_is_data(&v->record) ? "files are the record's: root " : "weights and files are the record's: root ", detail);
    if (fs_record_is_data(&v->record))
        rc = check_derived(v, err);
    else if (fs_retrain_can(&v->record))
        rc = check_training(v, err);
    if (rc || !(opt.rerun || v->segment) || ((fs_retrain_can(&v->record) || fs_record_is_data(&v->record)) && v->n_wrong))
        return rc;
    rc = do_again(v, err);
    return !rc && v->segment && v->source ? verify_source(v, err) : rc;
}

/* ---- the lineage ---- */

static void on_begin(void *ud, const char *sentence)
{
    (void)ud;
    good("begins with ", sentence);
}

static fs_status tell_ancestor(verification *top, const verification *v, const fs_ancestor *a, fs_error *err)
{
    char hex[65];
    fs_buf *out = &top->lineage;
    fs_status rc = fs_buf_append_str(out, out->n_bytes ? ", {\"path\": " : "{\"path\": ", err);

    fs_root_hex(&a->id, hex);
    if (!rc)
        rc = fs_json_quote(out, fs_bytes_str(a->path), err);
    return rc ? rc : fs_buf_printf(out, err, ", \"verb\": \"%s\", \"record\": \"%s\", \"good\": %s, \"rerun\": %s}", fs_record_get(&a->record, FS_RECORD_VERB, 0), hex,
                                   v->n_wrong ? "false" : "true", v->rerun ? "true" : "false");
}

/* Everything before it, each once, in the order in which it is met. */
static fs_status verify_lineage(verification *top, fs_error *err)
{
    fs_ancestry all = { 0 };
    fs_ancestor *a;
    fs_status rc = opt.data ? fs_ancestry_read(opt.data, &all, err) :
                              fs_fail(err, FS_ERR_ARGUMENT, "--lineage wants --data, where the records of what it was made from are");

    if (!rc)
        fs_ancestry_mark(&all, &top->record, on_counted_wrong, on_begin, top);
    while (!rc && (a = fs_ancestry_next(&all)) != NULL) {
        verification v = { .top = top, .path = a->path, .pool = top->pool };
        if (!opt.json)
            printf("\n%s: %s\n", a->path, fs_record_get(&a->record, FS_RECORD_VERB, 0));
        rc = verify(&v, err);
        if (!rc)
            fs_ancestry_mark(&all, &a->record, on_counted_wrong, on_begin, &v);
        if (!rc)
            rc = tell_ancestor(top, &v, a, err);
        else
            fs_fail_prefix(err, "'%s'", a->path);
        top->n_wrong += v.n_wrong;
        verification_done(&v);
    }
    fs_ancestry_done(&all);
    return rc;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    verification v = { 0 };
    char *path = NULL;
    fs_status rc;

    fs_interrupt_catch();
    rc = fs_model_path(args->items[0], &path, err);
    v.path = path;
    v.parents = args->items + 1;
    v.n_parents = args->n - 1;
    v.segment = opt.segment != NULL;
    if (!rc && v.n_parents && !opt.rerun && !opt.segment)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' is a parent for --rerun, which is not given", args->items[1]);
    if (!rc)
        rc = fs_pool_new(opt.n_threads, &v.pool, err);
    if (!rc)
        rc = verify(&v, err);
    if (!rc && opt.lineage)
        rc = verify_lineage(&v, err);
    if (!rc && opt.json)
        rc = print_json(&v, err);
    if (!rc && v.n_wrong > 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' is not what its record says", args->items[0]);
    free(path);
    verification_done(&v);
    fs_pool_free(v.pool);
    return rc;
}

const fs_command fs_command_verify = {
    .set = { .name = "verify",
             .usage = "MODEL [PARENT]...",
             .summary = "Check that a model is what its record says.",
             .text = "Hashes the weights and the files beside them and compares them with the record that the model was published with (MODEL may be data "
                     "that a command of farseek made, which has a record too); what "
                     "differs is named. --key: the record must be signed by that key (minisign's). --rerun: takes the parents, does again "
                     "what the record tells, and compares every tensor; of a training every step with its trace, up to the first that departs. "
                     "--lineage: the same of all that it was made from, back to the seeds. --segment 2/4: only the second quarter of a training, "
                     "from the checkpoint before it; of a model that was quantised or converted, that is done again and a part of its training, found in --data. Ends with 0 only if all of it holds.",
             .options = options,
             .n_args_min = 1,
             .n_args_max = -1 },
    .run = run,
};
