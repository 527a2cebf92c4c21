/* The files that tell of a model, beside it: its record, the roots of its tensors, the record's signature. Of a folder
 * farseek.rec, farseek.roots, farseek.rec.minisig in it; of the file x.gguf x.gguf.rec and so on.
 * Of data (record.h), a folder or a file, there are no roots;
 * its recipe stands beside it, behind a line with the record's id: recipe.yaml in a folder, x.jsonl.yaml of the file x.jsonl. */
#ifndef FS_LINEAGE_PROVENANCE_H
#define FS_LINEAGE_PROVENANCE_H

#include "lineage/record.h"

typedef struct fs_provenance_paths {
    char *record, *roots, *signature, *recipe;
} fs_provenance_paths;

fs_status fs_provenance_paths_of(const char *model, fs_provenance_paths *ret, fs_error *err);
void fs_provenance_paths_done(fs_provenance_paths *p);

/* The roots of the model or adapter at path. */
fs_status fs_provenance_roots(const char *path, fs_pool *pool, const fs_progress *progress, fs_roots *ret, fs_error *err);
/* The root of data at path: that of its files, whose names are in it if they are in a folder. Its record, recipe and signature do not count. */
fs_status fs_provenance_data_roots(const char *path, fs_pool *pool, const fs_progress *progress, fs_roots *ret, fs_error *err);
/* SHA-256 of a file. */
fs_status fs_provenance_hash(const char *path, fs_root *ret, fs_error *err);
/* "HASH what" of the file at path as a line data; and where that file has a record, or is in a folder that has one, a line made. */
fs_status fs_provenance_data(fs_record *r, const char *path, const char *what, fs_error *err);
/* A line parent for the model at path whose roots those are. */
fs_status fs_provenance_parent(fs_record *r, const char *path, const fs_roots *roots, fs_error *err);
/* Lines licence and signed-off-by; NULL: without. */
fs_status fs_provenance_vouch(fs_record *r, const char *licence, const char *signed_off_by, fs_error *err);
/* The licence that the record of the model at path gives, to be freed; NULL: none. */
fs_status fs_provenance_licence(const char *path, char **ret, fs_error *err);
/* Completes r with result, files and where it has none class A, and writes record and roots (of data the record alone) beside what is at path, whose
 * roots those are. */
fs_status fs_provenance_end(fs_record *r, const char *path, const fs_roots *roots, fs_error *err);
/* The record of the model at path, and its bytes. FS_ERR_NOT_FOUND: it has none. */
fs_status fs_provenance_read(const char *path, fs_record *ret, fs_buf *ret_text, fs_error *err);

/* What of the model at path is not as its record says; calls say with a sentence for each. *ret_n counts them. */
typedef void fs_provenance_say(void *ud, const char *sentence);
fs_status fs_provenance_check(const fs_record *r, const char *path, const fs_roots *roots, fs_provenance_say *say, void *ud, size_t *ret_n,
                              fs_error *err);
/* Says which tensors (or what they are called in sentences) differ, at most ten of them by name. */
void fs_provenance_compare(const char *what, const fs_roots *want, const fs_roots *have, fs_provenance_say *say, void *ud, size_t *ret_n);

#endif
