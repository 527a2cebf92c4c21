/* OpenSSF model signatures as far as a plain key goes: a file model.sig, a sigstore bundle whose DSSE envelope holds an in-toto statement with the
 * SHA-256 of every file. Certificates and transparency logs are not checked: such a signature is not verified.
 *
 *   {"verificationMaterial": {"publicKey": ...}, "dsseEnvelope": {"payload": base64, "payloadType": ..., "signatures": [{"sig": base64}]}}
 *   signed:  "DSSEv1 LEN TYPE LEN PAYLOAD"; ECDSA over P-256, P-384, P-521 with the SHA-2 of that size, or Ed25519
 *   payload: {"subject": [{"digest": {"sha256": of the digests below, in order}}], "predicate": {"resources": [{"name", "digest"}], ...}}
 * Sources: https://github.com/ossf/model-signing-spec, model_signing 1.1.1, secure-systems-lab/dsse v1.0.0. */
#ifndef FS_HUB_OMS_H
#define FS_HUB_OMS_H

#include "base/json.h"

#define FS_OMS_BYTES_MAX ((size_t)8 << 20)

typedef struct fs_oms_file {
    const char *name;
    char sha256[65];
} fs_oms_file;

typedef struct fs_oms fs_oms;

/* Reads a bundle; nothing is verified. FS_ERR_UNSUPPORTED: it is one that a plain key cannot verify. */
fs_status fs_oms_open(fs_bytes bundle, fs_oms **ret, fs_error *err);
void fs_oms_close(fs_oms *o);
/* Whether the key, a PEM "PUBLIC KEY", made one of the signatures. */
bool fs_oms_is_by(const fs_oms *o, fs_bytes pem);
size_t fs_oms_n_files(const fs_oms *o);
const fs_oms_file *fs_oms_file_at(const fs_oms *o, size_t i);
/* Whether the statement leaves out what is at path, or below it. */
bool fs_oms_ignores(const fs_oms *o, const char *path);
/* Whether text is a PEM public key of a kind that is verified. */
bool fs_oms_key_is_valid(fs_bytes pem);

#endif
