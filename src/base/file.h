/* Files: mapped read-only, or read whole, or written whole and atomically. */
#ifndef FS_BASE_FILE_H
#define FS_BASE_FILE_H

#include "base/mem.h"

#include <sys/types.h>

/* A read-only map of a whole file; an empty file maps to zero bytes. The file may shrink under us only by a
 * hostile local user, which gives SIGBUS like in every program that maps. */
typedef struct fs_map {
    fs_bytes bytes;
} fs_map;

fs_status fs_map_open(fs_map *m, const char *path, fs_error *err);
/* The first n_bytes of what is open as fd, which stays open; what: its name, for the sentence. */
fs_status fs_map_fd(fs_map *m, int fd, size_t n_bytes, const char *what, fs_error *err);
void fs_map_close(fs_map *m);
/* The process need not keep the whole pages of part, a piece of a map, in memory any more; reading them again works. */
void fs_map_drop(fs_bytes part);

/* Reads a regular file of at most max_bytes; *ret is filled on success, fs_buf_done frees it. */
fs_status fs_file_read(const char *path, size_t max_bytes, fs_buf *ret, fs_error *err);
bool fs_file_exists(const char *path);
bool fs_file_is_folder(const char *path);

/* Writes path by a temporary file in the same folder, fsync, rename. */
fs_status fs_file_write_atomic(const char *path, fs_bytes content, fs_error *err);

/* All of data to fd, however many pieces the kernel takes it in; path names it in the sentence. */
fs_status fs_fd_write(int fd, const char *path, const void *data, size_t n_bytes, fs_error *err);

/* The number behind key, the start of a line, in a small text file such as the kernel's; false: there is none. */
bool fs_file_number(const char *path, const char *key, uint64_t *ret);

/* Makes folder and its parents, those that are missing. */
fs_status fs_folder_make(const char *folder, mode_t mode, fs_error *err);

/* Removes a folder of our own with the files in it; folders in it stay, and then it does. Errors are not told. */
void fs_folder_remove(const char *path);

/* "folder/name" into a new string (free). */
char *fs_path_join(const char *folder, const char *name);

#endif
