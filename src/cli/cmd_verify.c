/* farseek verify: whether a model is what its record says, who signed that, and whether doing it again gives the same. */
#include "cli/cli.h"

#include "base/file.h"
#include "cli/interrupt.h"
#include "cli/make.h"
#include "cli/origin.h"
#include "crypto/minisign.h"
#include "lineage/provenance.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct {
    const char *key, *rerun, *imatrix, *work;
    int n_threads;
    bool json;
} opt = { .work = NULL };

static const fs_option options[] = {
    FS_OPT_STR("key", 'k', opt.key, "FILE|BASE64", "the public key whose signature the record must have"),
    FS_OPT_STR("rerun", 0, opt.rerun, "MODEL", "do it again from this parent, and compare"),
    FS_OPT_STR("imatrix", 0, opt.imatrix, "FILE", "the importance matrix, where the record has one"),
    FS_OPT_STR("work", 0, opt.work, "FOLDER", "where --rerun writes (default $TMPDIR, else /tmp)"),
    FS_OPT_INT("threads", 't', opt.n_threads, 0, FS_POOL_THREADS_MAX, "N", "threads (default: one a usable CPU)"),
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

typedef struct verification {
    const char *path;
    fs_pool *pool;
    fs_record record;
    fs_buf text;
    fs_roots roots;
    fs_buf said;    /* JSON: the sentences, as a list's items */
    size_t n_wrong;
    bool is_signed, key_checked, rerun;
    char signer[17];
} verification;

static void on_wrong(void *ud, const char *sentence)
{
    verification *v = ud;

    if (opt.json) {
        if (v->said.n_bytes > 0)
            fs_buf_append_str(&v->said, ", ", NULL);
        fs_json_quote(&v->said, fs_bytes_str(sentence), NULL);
    } else {
        printf("WRONG  %s\n", sentence);
    }
}

static void wrong(verification *v, const char *sentence)
{
    on_wrong(v, sentence);
    v->n_wrong++;
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

static fs_status compare_parent(verification *v, const char *path, fs_error *err)
{
    const char *value = fs_record_get(&v->record, FS_RECORD_PARENT, 0);
    fs_roots parent = { 0 };
    fs_root want;
    char hex[65], sentence[256];
    fs_status rc;

    if (!value || fs_record_get(&v->record, FS_RECORD_PARENT, 1))
        return fs_fail(err, FS_ERR_UNSUPPORTED, "the record has %s parent, one is wanted to do it again", value ? "more than one" : "no");
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
    if (strcmp(here, said) != 0 && !opt.json)
        printf("       %s\n", sentence);
    return FS_OK;
}

static fs_status do_again(verification *v, fs_error *err)
{
    const char *tmp = opt.work ? opt.work : getenv("TMPDIR") && *getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    char *folder = NULL, *out = NULL, *parent = NULL;
    fs_make m;
    fs_roots again = { 0 };
    size_t before = v->n_wrong;
    char hex[65];
    fs_status rc = fs_make_from_record(&v->record, opt.imatrix, &m, err);

    if (!rc)
        rc = fs_model_path(opt.rerun, &parent, err);
    if (!rc)
        rc = compare_parent(v, parent, err);
    if (!rc)
        rc = compare_arithmetic(v, err);
    if (rc || v->n_wrong > before) {
        free(parent);
        return rc;
    }
    folder = fs_path_join(tmp, "farseek-verify.XXXXXX");
    if (!folder)
        rc = fs_fail_memory(err, strlen(tmp) + 32);
    else if (!mkdtemp(folder)) {
        rc = fs_fail_errno(err, errno, "cannot make a folder in '%s'", tmp);
        free(folder);
        folder = NULL;
    }
    out = folder ? fs_path_join(folder, fs_make_is_gguf(&v->record) ? "again.gguf" : "again") : NULL;
    if (!rc && !out)
        rc = fs_fail_memory(err, strlen(folder) + 16);
    m.n_threads = opt.n_threads;
    if (!rc)
        rc = fs_make_model(&m, parent, out, err);
    if (!rc)
        rc = fs_origin_roots(out, v->pool, &again, err);
    if (!rc) {
        fs_provenance_compare(&again, &v->roots, on_wrong, v, &v->n_wrong);
        v->rerun = true;
        fs_root_hex(&again.model, hex);
        if (v->n_wrong == before)
            good("done again, the same root ", hex);
    }
    fs_roots_done(&again);
    if (out && fs_file_is_folder(out))
        fs_folder_remove(out);
    if (folder)
        fs_folder_remove(folder);
    free(out);
    free(folder);
    free(parent);
    return rc;
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
        rc = fs_buf_printf(&out, err, ", \"rerun\": %s, \"wrong\": [%s]}\n", v->rerun ? "true" : "false", v->said.n_bytes ? v->said.data : "");
    if (!rc)
        fwrite(out.data, 1, out.n_bytes, stdout);
    fs_buf_done(&out);
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
        rc = fs_origin_roots(v->path, v->pool, &v->roots, err);
    if (!rc)
        rc = fs_provenance_check(&v->record, v->path, &v->roots, on_wrong, v, &n, err);
    if (rc)
        return rc;
    v->n_wrong += n;
    fs_root_hex(&v->roots.model, hex);
    snprintf(detail, sizeof detail, "%s, %zu tensors, %" PRIu64 " bytes", hex, v->roots.n, v->roots.n_bytes);
    if (n == 0)
        good("weights and files are the record's: root ", detail);
    return opt.rerun ? do_again(v, err) : FS_OK;
}

static fs_status run(const fs_args *args, fs_error *err)
{
    verification v = { 0 };
    char *path = NULL;
    fs_status rc;

    fs_interrupt_catch();
    rc = fs_model_path(args->items[0], &path, err);
    v.path = path;
    if (!rc)
        rc = fs_pool_new(opt.n_threads, &v.pool, err);
    if (!rc)
        rc = verify(&v, err);
    if (!rc && opt.json)
        rc = print_json(&v, err);
    if (!rc && v.n_wrong > 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "'%s' is not what its record says", args->items[0]);
    free(path);
    fs_roots_done(&v.roots);
    fs_record_done(&v.record);
    fs_buf_done(&v.text);
    fs_buf_done(&v.said);
    fs_pool_free(v.pool);
    return rc;
}

const fs_command fs_command_verify = {
    .set = { .name = "verify",
             .usage = "MODEL",
             .summary = "Check that a model is what its record says.",
             .text = "Hashes the weights and the files beside them and compares them with the record that the model was published with; what "
                     "differs is named. --key: the record must be signed by that key (minisign's). --rerun: takes the parent, does again "
                     "what the record tells, and compares every tensor. Ends with 0 only if all of it holds.",
             .options = options,
             .n_args_min = 1,
             .n_args_max = 1 },
    .run = run,
};
