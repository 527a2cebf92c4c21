/* Times opening a tokenizer and encoding texts: tokenizer TOKENIZER TEXT...   One line a measurement:
 *   open,TOKENIZER,bytes,seconds        encode,TEXT,bytes,ids,seconds
 * CPU time of the process, best of 5; bench/tokenizer.py runs it beside the peers. */
#include "base/file.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define RUNS 5

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static fs_status open_one(const char *path, fs_tokenizer **ret, size_t *ret_bytes, fs_error *err)
{
    fs_map map = { 0 };
    fs_gguf *g = NULL;
    fs_status rc = fs_map_open(&map, path, err);
    size_t n = strlen(path);

    if (!rc && n > 5 && strcmp(path + n - 5, ".gguf") == 0) {
        rc = fs_gguf_open(map.bytes, path, &g, err);
        if (!rc)
            rc = fs_tokenizer_open_gguf(g, path, ret, err);
    } else if (!rc) {
        rc = fs_tokenizer_open_json(map.bytes, path, ret, err);
    }
    *ret_bytes = map.bytes.n_bytes;
    fs_gguf_close(g);
    fs_map_close(&map);
    return rc;
}

static fs_status encode_one(const fs_tokenizer *t, const char *path, fs_error *err)
{
    fs_buf text = { 0 };
    fs_ids ids = { 0 };
    double best = 1e9;
    fs_status rc = fs_file_read(path, (size_t)1 << 30, &text, err);

    for (int i = 0; i < RUNS && !rc; i++) {
        double start = cpu_seconds(), s;
        ids.n = 0;
        rc = fs_tokenizer_encode(t, fs_buf_bytes(&text), 0, &ids, err);
        s = cpu_seconds() - start;
        if (s < best)
            best = s;
    }
    if (!rc)
        printf("encode,%s,%zu,%zu,%.6f\n", path, text.n_bytes, ids.n, best);
    fs_ids_done(&ids);
    fs_buf_done(&text);
    return rc;
}

int main(int argc, char **argv)
{
    fs_tokenizer *t = NULL;
    fs_error err = { 0 };
    fs_status rc = FS_OK;
    double best = 1e9;
    size_t bytes = 0;

    if (argc < 2) {
        fprintf(stderr, "usage: tokenizer TOKENIZER TEXT...\n");
        return 2;
    }
    for (int i = 0; i < RUNS && !rc; i++) {
        double start = cpu_seconds(), s;
        fs_tokenizer_close(t);
        t = NULL;
        rc = open_one(argv[1], &t, &bytes, &err);
        s = cpu_seconds() - start;
        if (s < best)
            best = s;
    }
    if (!rc)
        printf("open,%s,%zu,%.6f\n", argv[1], bytes, best);
    for (int i = 2; i < argc && !rc; i++)
        rc = encode_one(t, argv[i], &err);
    fs_tokenizer_close(t);
    if (rc)
        fprintf(stderr, "%s\n", err.message);
    return rc != FS_OK;
}
