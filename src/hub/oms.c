/* See the header. */
#include "hub/oms.h"

#include "crypto/sha256.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX      1000000
#define SIGNATURES_MAX 8
#define PREDICATE      "https://model_signing/signature/v1.0"

struct fs_oms {
    struct json_object *bundle, *statement;
    uint8_t *payload;
    size_t n_payload;
    fs_oms_file *files;
    size_t n_files;
};

static struct json_object *member(struct json_object *o, const char *key, json_type type)
{
    struct json_object *x = o && json_object_is_type(o, json_type_object) ? fs_json_member(o, key) : NULL;

    return x && json_object_is_type(x, type) ? x : NULL;
}

static const char *text_of(struct json_object *o, const char *key)
{
    struct json_object *x = member(o, key, json_type_string);

    return x && strlen(json_object_get_string(x)) == (size_t)json_object_get_string_len(x) ? json_object_get_string(x) : NULL;
}

static bool decode(const char *text, uint8_t **ret, size_t *ret_n)
{
    size_t n = strlen(text), got = 0;
    uint8_t *bytes = malloc(n + 1);

    if (!bytes || sodium_base642bin(bytes, n, text, n, NULL, &got, NULL, sodium_base64_VARIANT_ORIGINAL) != 0) {
        free(bytes);
        return false;
    }
    *ret = bytes;
    *ret_n = got;
    return true;
}

static fs_status read_files(fs_oms *o, fs_error *err)
{
    struct json_object *predicate = member(o->statement, "predicate", json_type_object), *list = member(predicate, "resources", json_type_array);
    struct json_object *subjects = member(o->statement, "subject", json_type_array), *serialization = member(predicate, "serialization", json_type_object);
    const char *type = text_of(o->statement, "predicateType"), *method = text_of(serialization, "method"), *whole;
    uint8_t digest[32];
    char all[65];
    fs_sha256 sha;
    fs_status rc;

    if (!type || strcmp(type, PREDICATE) != 0)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "its statement is none of model_signing's version 1.0");
    if (method && strcmp(method, "files") != 0)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "its hashes are of '%.40s', not of whole files", method);
    if (!list || !subjects || json_object_array_length(list) > FILES_MAX || json_object_array_length(subjects) != 1)
        return fs_fail(err, FS_ERR_FORMAT, "its statement names no files");
    whole = text_of(member(json_object_array_get_idx(subjects, 0), "digest", json_type_object), "sha256");
    o->files = calloc(json_object_array_length(list) + 1, sizeof *o->files);
    if (!o->files)
        return fs_fail_memory(err, json_object_array_length(list) * sizeof *o->files);
    rc = fs_sha256_init(&sha, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *x = json_object_array_get_idx(list, i);
        const char *name = text_of(x, "name"), *hex = text_of(x, "digest"), *algorithm = text_of(x, "algorithm");
        if (!name || !hex || !algorithm || strcmp(algorithm, "sha256") != 0 || !fs_hex_read(fs_bytes_str(hex), digest, sizeof digest)) {
            fs_sha256_done(&sha);
            return fs_fail(err, FS_ERR_UNSUPPORTED, "file %zu of its statement has no name or no SHA-256", i);
        }
        fs_sha256_update(&sha, digest, sizeof digest);
        o->files[i].name = name;
        memcpy(o->files[i].sha256, hex, sizeof o->files[i].sha256);
        o->n_files++;
    }
    fs_sha256_final_hex(&sha, all);
    return whole && strcmp(whole, all) == 0 ? FS_OK : fs_fail(err, FS_ERR_FORMAT, "the hash over its files' hashes is another");
}

fs_status fs_oms_open(fs_bytes bundle, fs_oms **ret, fs_error *err)
{
    fs_oms *o = calloc(1, sizeof *o);
    struct json_object *envelope;
    const char *payload, *type;
    fs_status rc;

    if (!o)
        return fs_fail_memory(err, sizeof *o);
    rc = bundle.n_bytes > FS_OMS_BYTES_MAX ? fs_fail(err, FS_ERR_FORMAT, "it has %zu bytes", bundle.n_bytes) : fs_json_parse(bundle, "it", &o->bundle, err);
    envelope = member(o->bundle, "dsseEnvelope", json_type_object);
    payload = text_of(envelope, "payload");
    type = text_of(envelope, "payloadType");
    if (!rc && (!payload || !type || !member(envelope, "signatures", json_type_array)))
        rc = fs_fail(err, FS_ERR_FORMAT, "it is no sigstore bundle with a DSSE envelope");
    if (!rc && !member(member(o->bundle, "verificationMaterial", json_type_object), "publicKey", json_type_object))
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "it is by a certificate, which is not checked here");
    if (!rc && strcmp(type, "application/vnd.in-toto+json") != 0)
        rc = fs_fail(err, FS_ERR_UNSUPPORTED, "its payload is no in-toto statement");
    if (!rc && !decode(payload, &o->payload, &o->n_payload))
        rc = fs_fail(err, FS_ERR_FORMAT, "its payload is no base64");
    if (!rc)
        rc = fs_json_parse((fs_bytes){ o->payload, o->n_payload }, "its payload", &o->statement, err);
    if (!rc)
        rc = fs_json_check_keys((fs_bytes){ o->payload, o->n_payload }, o->statement, "its payload", err);
    if (!rc)
        rc = read_files(o, err);
    if (rc)
        fs_oms_close(o);
    else
        *ret = o;
    return rc;
}

void fs_oms_close(fs_oms *o)
{
    if (!o)
        return;
    json_object_put(o->bundle);
    json_object_put(o->statement);
    free(o->payload);
    free(o->files);
    free(o);
}

/* ---- keys ---- */

/* md NULL with *ret_good: the algorithm has its own. */
static EVP_PKEY *read_key(fs_bytes pem, const EVP_MD **ret_md)
{
    BIO *bio = pem.n_bytes < 16384 ? BIO_new_mem_buf(pem.data, (int)pem.n_bytes) : NULL;
    EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    char curve[40] = "";
    bool good = key != NULL;

    BIO_free(bio);
    *ret_md = NULL;
    if (good && EVP_PKEY_get_base_id(key) == EVP_PKEY_EC) {
        good = EVP_PKEY_get_group_name(key, curve, sizeof curve, NULL) == 1;
        *ret_md = strcmp(curve, "prime256v1") == 0 ? EVP_sha256() : strcmp(curve, "secp384r1") == 0 ? EVP_sha384() : strcmp(curve, "secp521r1") == 0 ? EVP_sha512() : NULL;
        good = good && *ret_md;
    } else if (good) {
        good = EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519;
    }
    if (!good) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    return key;
}

bool fs_oms_key_is_valid(fs_bytes pem)
{
    const EVP_MD *md;
    EVP_PKEY *key = read_key(pem, &md);

    EVP_PKEY_free(key);
    return key != NULL;
}

bool fs_oms_is_by(const fs_oms *o, fs_bytes pem)
{
    struct json_object *envelope = member(o->bundle, "dsseEnvelope", json_type_object), *list = member(envelope, "signatures", json_type_array);
    const char *type = text_of(envelope, "payloadType");
    const EVP_MD *md;
    EVP_PKEY *key = read_key(pem, &md);
    fs_buf message = { 0 };
    bool good = false;

    if (key && fs_buf_printf(&message, NULL, "DSSEv1 %zu %s %zu ", strlen(type), type, o->n_payload) == FS_OK && fs_buf_append(&message, o->payload, o->n_payload, NULL) == FS_OK)
        for (size_t i = 0; i < json_object_array_length(list) && i < SIGNATURES_MAX && !good; i++) {
            const char *text = text_of(json_object_array_get_idx(list, i), "sig");
            EVP_MD_CTX *ctx = EVP_MD_CTX_new();
            uint8_t *sig = NULL;
            size_t n = 0;
            good = ctx && text && decode(text, &sig, &n) && EVP_DigestVerifyInit(ctx, NULL, md, NULL, key) == 1 &&
                   EVP_DigestVerify(ctx, sig, n, (const uint8_t *)message.data, message.n_bytes) == 1;
            EVP_MD_CTX_free(ctx);
            free(sig);
        }
    fs_buf_done(&message);
    EVP_PKEY_free(key);
    return good;
}

/* ---- files ---- */

size_t fs_oms_n_files(const fs_oms *o)
{
    return o->n_files;
}

const fs_oms_file *fs_oms_file_at(const fs_oms *o, size_t i)
{
    return &o->files[i];
}

bool fs_oms_ignores(const fs_oms *o, const char *path)
{
    struct json_object *list =
        member(member(member(o->statement, "predicate", json_type_object), "serialization", json_type_object), "ignore_paths", json_type_array);

    if (strcmp(path, "model.sig") == 0)
        return true;
    for (size_t i = 0; list && i < json_object_array_length(list); i++) {
        struct json_object *x = json_object_array_get_idx(list, i);
        const char *ignored = json_object_is_type(x, json_type_string) ? json_object_get_string(x) : "";
        size_t n = strlen(ignored);
        if (n && strncmp(path, ignored, n) == 0 && (path[n] == '/' || path[n] == 0))
            return true;
    }
    return false;
}
