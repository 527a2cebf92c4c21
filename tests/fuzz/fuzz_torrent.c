/* Bencoding that is read is the only one of what it says: written again it is the same bytes. A torrent that is read, written again and read is of the same files. */
#include "fuzz/fuzz.h"

#include "hub/torrent_file.h"

#include <string.h>

static void write_again(fs_bencode *b, const fs_bvalue *v)
{
    fs_bytes rest = v->inner;
    fs_bvalue item;

    if (v->kind == 's') {
        fs_bencode_bytes(b, v->inner);
    } else if (v->kind == 'i') {
        fs_bencode_int(b, v->number);
    } else {
        fs_bencode_open(b, v->kind);
        while (fs_bencode_next(&rest, &item))
            write_again(b, &item);
        HOLDS(rest.n_bytes == 0);
        fs_bencode_close(b);
    }
}

static void same_files(const fs_torrent *t)
{
    fs_torrent again = { 0 };
    fs_torrent_file *files = malloc((t->n + 1) * sizeof *files);
    fs_buf info = { 0 }, layers = { 0 }, whole = { 0 };
    char name[300];
    fs_error err = { 0 };

    HOLDS(files && t->name.n_bytes < sizeof name);
    if (t->n)
        memcpy(files, t->files, t->n * sizeof *files);
    memcpy(name, t->name.data, t->name.n_bytes);
    name[t->name.n_bytes] = 0;
    HOLDS(fs_torrent_write_info(name, t->piece_bytes, files, t->n, &info, &layers, &err) == FS_OK);
    HOLDS(fs_torrent_write(fs_buf_bytes(&info), fs_buf_bytes(&layers), t->is_private, NULL, 0, &whole, &err) == FS_OK);
    HOLDS(fs_torrent_read(fs_buf_bytes(&whole), &again, &err) == FS_OK && again.n == t->n && again.piece_bytes == t->piece_bytes && again.is_private == t->is_private);
    for (size_t i = 0; i < t->n; i++)
        HOLDS(strcmp(again.files[i].path, t->files[i].path) == 0 && again.files[i].n_bytes == t->files[i].n_bytes && (!again.files[i].root || memcmp(again.files[i].root, t->files[i].root, 32) == 0));
    fs_torrent_done(&again);
    fs_buf_done(&info);
    fs_buf_done(&layers);
    fs_buf_done(&whole);
    free(files);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fs_bytes text = { data, n_bytes };
    fs_bencode b = { .rc = FS_OK };
    fs_bvalue v;
    fs_torrent t;
    fs_error err = { 0 };
    fs_status rc = fs_bencode_read(text, &v, &err);

    if (rc) {
        failed_with_a_sentence(rc, &err);
    } else {
        write_again(&b, &v);
        HOLDS(b.rc == FS_OK && fs_bytes_equal(fs_buf_bytes(&b.out), text));
        fs_buf_done(&b.out);
    }
    rc = fs_torrent_read(text, &t, &err);
    if (rc) {
        failed_with_a_sentence(rc, &err);
    } else {
        same_files(&t);
        fs_torrent_done(&t);
    }
    return 0;
}
