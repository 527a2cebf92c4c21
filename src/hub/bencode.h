/* Bencoding, written as it is said and read strictly: what is read has one encoding only, so that a hash over it means one thing.
 * Source: BEP 3, "bencoding"; BEP 52, "infohash". */
#ifndef FS_HUB_BENCODE_H
#define FS_HUB_BENCODE_H

#include "base/mem.h"

/* ---- writing: the first failure stays in rc, and what follows is dropped. Keys come in the order of their bytes from the caller. ---- */

typedef struct fs_bencode {
    fs_buf out;
    fs_status rc;
} fs_bencode;

void fs_bencode_open(fs_bencode *b, char kind); /* 'd' or 'l' */
void fs_bencode_close(fs_bencode *b);
void fs_bencode_bytes(fs_bencode *b, fs_bytes value);
void fs_bencode_str(fs_bencode *b, const char *value); /* keys, too */
void fs_bencode_int(fs_bencode *b, int64_t value);
/* What is encoded already. */
void fs_bencode_raw(fs_bencode *b, fs_bytes encoded);

/* ---- reading ---- */

#define FS_BENCODE_DEPTH_MAX 128

typedef struct fs_bvalue {
    char kind;      /* 'd', 'l', 's', 'i'; 0: none */
    fs_bytes whole; /* as it is encoded */
    fs_bytes inner; /* of 's' its bytes, of 'd' and 'l' what stands between the ends */
    int64_t number; /* of 'i' */
} fs_bvalue;

/* The one value that text is. FS_ERR_FORMAT: text is cut, goes on, or is not the value's only encoding: a number or length with a sign or zeros that say nothing, keys
 * that are no strings, out of order or double; a number beyond 64 bits; more than FS_BENCODE_DEPTH_MAX within each other. */
fs_status fs_bencode_read(fs_bytes text, fs_bvalue *ret, fs_error *err);
/* The next value of rest, which begins as the inner bytes of a list or a dictionary that was read (there keys and values by turns); false at the end. */
bool fs_bencode_next(fs_bytes *rest, fs_bvalue *ret);
/* A member of a dictionary, of that kind; false: there is none, or of another kind, or d is no dictionary. */
bool fs_bencode_member(const fs_bvalue *d, const char *key, char kind, fs_bvalue *ret);

#endif
