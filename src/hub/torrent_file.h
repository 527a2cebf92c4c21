/* A .torrent of a folder for clients of both kinds: v1 (BEP 3) with padding files (BEP 47), so that every file begins a piece, and v2 (BEP 52), whose hashes are each file's own.
 *
 *   info          file tree, files, meta version 2, name, piece length, pieces, private; nothing else, so that equal content has one info hash
 *   piece layers  of the files of more than one piece
 *   url-list      web seeds (BEP 19): url + name + "/" + path */
#ifndef FS_HUB_TORRENT_FILE_H
#define FS_HUB_TORRENT_FILE_H

#include "hub/bencode.h"
#include "hub/pieces.h"

typedef struct fs_torrent_file {
    char *path; /* with slashes, UTF-8 */
    uint64_t n_bytes;
    const uint8_t *root;  /* [32]; NULL of an empty file */
    const uint8_t *sha1;  /* [n_pieces][20] */
    const uint8_t *layer; /* [n_pieces][32], of a file of more than one piece */
} fs_torrent_file;

uint64_t fs_torrent_pieces(uint64_t n_bytes, uint32_t piece_bytes);
/* The least power of four from 16 KiB to 16 MiB with which the files are at most 4096 pieces more than files. */
uint32_t fs_torrent_piece_bytes(const fs_torrent_file *files, size_t n);
/* Whether clients can have a file there: UTF-8, no part empty, "." or "..", none with a backslash, a control character or more than 255 bytes. */
bool fs_torrent_path_is_valid(fs_bytes path);

/* info, without private, and the piece layers. Sorts files, by the parts of their paths. The padding is in a folder ".pad", with as many "_" as it takes to be another than any of
 * the files'. FS_ERR_FORMAT: a path that clients cannot have, or twice, or a file where a folder is. */
fs_status fs_torrent_write_info(const char *name, uint32_t piece_bytes, fs_torrent_file *files, size_t n, fs_buf *ret_info, fs_buf *ret_layers, fs_error *err);
/* The whole. is_private: clients tell nobody that they have it (BEP 27). */
fs_status fs_torrent_write(fs_bytes info, fs_bytes layers, bool is_private, const char *const *urls, size_t n_urls, fs_buf *ret, fs_error *err);

typedef struct fs_torrent {
    fs_bytes name;
    uint32_t piece_bytes;
    bool is_private;
    fs_bytes info;          /* as it is encoded */
    fs_bytes *urls;
    size_t n_urls;
    fs_torrent_file *files; /* without the padding, in order; they point into the text */
    size_t n;
    uint8_t v1[20], v2[32]; /* info hashes */
} fs_torrent;

/* Reads what fs_torrent_write wrote, or any such torrent without other members in info: both descriptions must be of the same files, and every hash that can be compared is.
 * Borrows text. */
fs_status fs_torrent_read(fs_bytes text, fs_torrent *ret, fs_error *err);
void fs_torrent_done(fs_torrent *t);

#endif
