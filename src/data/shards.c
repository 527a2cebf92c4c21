/* See the header. */
#include "data/shards.h"

#include "base/file.h"
#include "base/json.h"
#include "base/writer.h"
#include "crypto/sha256.h"
#include "formats/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SHARDS_MAX      99999
#define INDEX_BYTES_MAX ((size_t)64 << 20)

struct fs_shards_writer {
    char *folder, *temp; /* temp NULL: committed, or not made */
    char vocabulary[65];
    size_t vocab_size, shard_tokens, n_shards;
    fs_ids ids;
    fs_buf learn, ends, index;
    uint64_t n_tokens, n_learnt, n_documents;
};

fs_status fs_vocabulary_hash(const fs_tokenizer *t, char ret[65], fs_error *err)
{
    fs_sha256 h;
    fs_status rc = fs_sha256_init(&h, err);

    if (rc)
        return rc;
    for (size_t i = 0; i < fs_tokenizer_n_ids(t); i++) {
        fs_bytes b = fs_tokenizer_bytes(t, (int32_t)i);
        uint8_t n[4] = { (uint8_t)b.n_bytes, (uint8_t)(b.n_bytes >> 8), (uint8_t)(b.n_bytes >> 16), (uint8_t)(b.n_bytes >> 24) };
        fs_sha256_update(&h, n, 4);
        fs_sha256_update(&h, b.data, b.n_bytes);
    }
    fs_sha256_final_hex(&h, ret);
    return FS_OK;
}

fs_status fs_shards_writer_new(const char *folder, const fs_tokenizer *t, size_t shard_tokens, fs_shards_writer **ret, fs_error *err)
{
    fs_shards_writer *w = calloc(1, sizeof *w);
    size_t n = strlen(folder);
    struct stat st;
    fs_status rc = FS_OK;

    if (!w)
        return fs_fail_memory(err, sizeof *w);
    while (n > 1 && folder[n - 1] == '/')
        n--;
    w->shard_tokens = shard_tokens;
    w->vocab_size = fs_tokenizer_n_ids(t);
    w->folder = strndup(folder, n);
    w->temp = malloc(n + 16);
    if (!w->folder || !w->temp)
        rc = fs_fail_memory(err, n + 16);
    else if (lstat(w->folder, &st) == 0)
        rc = fs_fail(err, FS_ERR_ARGUMENT, "'%s' exists already", w->folder);
    if (!rc) {
        snprintf(w->temp, n + 16, "%s.tmp.XXXXXX", w->folder);
        if (!mkdtemp(w->temp))
            rc = fs_fail_errno(err, errno, "cannot make a folder beside '%s'", w->folder);
    }
    if (rc) {
        free(w->temp);
        w->temp = NULL;
    } else {
        rc = fs_vocabulary_hash(t, w->vocabulary, err);
    }
    if (rc) {
        fs_shards_writer_close(w);
        return rc;
    }
    *ret = w;
    return FS_OK;
}

static char *shard_path(const char *folder, size_t i)
{
    char name[40];

    snprintf(name, sizeof name, "tokens-%05zu.safetensors", i);
    return fs_path_join(folder, name);
}

static fs_status put_hashed(fs_writer *f, fs_sha256 *h, const void *data, size_t n, fs_error *err)
{
    fs_sha256_update(h, data, n);
    return fs_writer_put(f, data, n, err);
}

static fs_status write_shard(const fs_shards_writer *w, fs_writer *f, fs_sha256 *h, fs_error *err)
{
    size_t n_docs = w->ends.n_bytes / 8, n = w->ids.n, at = w->ends.n_bytes;
    uint8_t length[8];
    fs_buf header = { 0 };
    fs_status rc = fs_buf_printf(&header, err,
                                 "{\"ends\":{\"dtype\":\"I64\",\"shape\":[%zu],\"data_offsets\":[0,%zu]},\"tokens\":{\"dtype\":\"I32\",\"shape\":[%zu],"
                                 "\"data_offsets\":[%zu,%zu]},\"learn\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}}",
                                 n_docs, at, n, at, at + 4 * n, n, at + 4 * n, at + 5 * n);

    while (!rc && header.n_bytes % 8)
        rc = fs_buf_append_str(&header, " ", err);
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(header.n_bytes >> (8 * i));
    if (!rc)
        rc = put_hashed(f, h, length, 8, err);
    if (!rc)
        rc = put_hashed(f, h, header.data, header.n_bytes, err);
    if (!rc)
        rc = put_hashed(f, h, w->ends.data, w->ends.n_bytes, err);
    if (!rc)
        rc = put_hashed(f, h, w->ids.data, 4 * n, err);
    if (!rc)
        rc = put_hashed(f, h, w->learn.data, n, err);
    fs_buf_done(&header);
    return rc;
}

static fs_status flush(fs_shards_writer *w, fs_error *err)
{
    fs_writer f = { .fd = -1 };
    fs_sha256 h = { 0 };
    char *path, hex[65];
    fs_status rc;

    if (w->ids.n == 0)
        return FS_OK;
    if (w->n_shards == SHARDS_MAX)
        return fs_fail(err, FS_ERR_UNSUPPORTED, "more than %d shards", SHARDS_MAX);
    path = shard_path(w->temp, ++w->n_shards);
    rc = path ? fs_sha256_init(&h, err) : fs_fail_memory(err, strlen(w->temp) + 40);
    if (!rc)
        rc = fs_writer_open(&f, path, err);
    if (!rc)
        rc = write_shard(w, &f, &h, err);
    if (!rc)
        rc = fs_writer_commit(&f, err);
    fs_writer_close(&f);
    if (!rc) {
        fs_sha256_final_hex(&h, hex);
        rc = fs_buf_printf(&w->index, err, "%s\n    {\"file\": \"tokens-%05zu.safetensors\", \"tokens\": %zu, \"documents\": %zu, \"sha256\": \"%s\"}",
                           w->n_shards > 1 ? "," : "", w->n_shards, w->ids.n, w->ends.n_bytes / 8, hex);
    } else {
        fs_sha256_done(&h);
    }
    free(path);
    w->ids.n = 0;
    fs_buf_clear(&w->learn);
    fs_buf_clear(&w->ends);
    return rc;
}

fs_status fs_shards_writer_put(fs_shards_writer *w, const int32_t *ids, const uint8_t *learn, size_t n, fs_error *err)
{
    int64_t end = (int64_t)(w->ids.n + n);
    fs_status rc = fs_ids_append(&w->ids, ids, n, err);

    if (!rc)
        rc = fs_buf_append(&w->learn, learn, n, err);
    if (!rc)
        rc = fs_buf_append(&w->ends, &end, sizeof end, err);
    if (rc)
        return rc;
    w->n_tokens += n;
    w->n_documents++;
    for (size_t i = 0; i < n; i++)
        w->n_learnt += learn[i];
    return w->ids.n >= w->shard_tokens ? flush(w, err) : FS_OK;
}

fs_status fs_shards_writer_commit(fs_shards_writer *w, fs_error *err)
{
    fs_buf json = { 0 };
    char *path = fs_path_join(w->temp, "index.json");
    fs_status rc = path ? flush(w, err) : fs_fail_memory(err, strlen(w->temp) + 16);

    if (!rc && w->n_documents == 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "there are no tokens to write");
    if (!rc)
        rc = fs_buf_printf(&json, err,
                           "{\n  \"vocabulary\": \"%s\",\n  \"vocab_size\": %zu,\n  \"tokens\": %" PRIu64 ",\n  \"learnt\": %" PRIu64
                           ",\n  \"documents\": %" PRIu64 ",\n  \"shards\": [%s\n  ]\n}\n",
                           w->vocabulary, w->vocab_size, w->n_tokens, w->n_learnt, w->n_documents, w->index.data ? w->index.data : "");
    if (!rc)
        rc = fs_file_write_atomic(path, fs_buf_bytes(&json), err);
    if (!rc && (chmod(w->temp, 0755) != 0 || rename(w->temp, w->folder) != 0))
        rc = fs_fail_errno(err, errno, "cannot rename '%s' to '%s'", w->temp, w->folder);
    if (!rc) {
        free(w->temp);
        w->temp = NULL;
    }
    free(path);
    fs_buf_done(&json);
    return rc;
}

void fs_shards_writer_close(fs_shards_writer *w)
{
    if (!w)
        return;
    if (w->temp)
        fs_folder_remove(w->temp);
    free(w->temp);
    free(w->folder);
    fs_ids_done(&w->ids);
    fs_buf_done(&w->learn);
    fs_buf_done(&w->ends);
    fs_buf_done(&w->index);
    free(w);
}

uint64_t fs_shards_writer_tokens(const fs_shards_writer *w, uint64_t *ret_learnt, uint64_t *ret_documents, uint64_t *ret_shards)
{
    *ret_learnt = w->n_learnt;
    *ret_documents = w->n_documents;
    *ret_shards = w->n_shards;
    return w->n_tokens;
}

/* ---- reading ---- */

typedef struct shard {
    fs_map map;
    fs_safetensors *file;
    const int64_t *ends;
    const int32_t *ids;
    const uint8_t *learn;
    size_t n_documents, n_tokens, first; /* first: documents before it */
} shard;

struct fs_shards {
    shard *shards;
    size_t n_shards, n_documents, vocab_size;
    uint64_t n_tokens;
    char vocabulary[65];
};

static fs_status tensor_of(const shard *k, const char *name, fs_dtype dtype, const fs_tensor **ret, fs_error *err)
{
    const fs_tensor *t = fs_safetensors_find(k->file, name);

    if (!t || t->dtype != dtype || t->n_dims != 1)
        return fs_fail(err, FS_ERR_FORMAT, "there is no vector '%s' of the right type", name);
    if (((uintptr_t)t->data & (dtype == FS_DTYPE_I64 ? 7 : dtype == FS_DTYPE_I32 ? 3 : 0)) != 0)
        return fs_fail(err, FS_ERR_FORMAT, "'%s' is not aligned to its elements", name);
    *ret = t;
    return FS_OK;
}

static fs_status open_shard(shard *k, const char *path, size_t vocab_size, fs_error *err)
{
    const fs_tensor *ends = NULL, *ids = NULL, *learn = NULL;
    int64_t before = 0;
    fs_status rc = fs_map_open(&k->map, path, err);

    if (!rc)
        rc = fs_safetensors_open(k->map.bytes, path, &k->file, err);
    if (rc)
        return rc;
    if ((rc = tensor_of(k, "ends", FS_DTYPE_I64, &ends, err)) || (rc = tensor_of(k, "tokens", FS_DTYPE_I32, &ids, err)) ||
        (rc = tensor_of(k, "learn", FS_DTYPE_U8, &learn, err)))
        return rc;
    k->ends = (const int64_t *)(const void *)ends->data;
    k->ids = (const int32_t *)(const void *)ids->data;
    k->learn = learn->data;
    k->n_documents = (size_t)fs_tensor_elems(ends);
    k->n_tokens = (size_t)fs_tensor_elems(ids);
    if (fs_tensor_elems(learn) != k->n_tokens)
        return fs_fail(err, FS_ERR_FORMAT, "%zu tokens and %" PRIu64 " marks what to learn", k->n_tokens, fs_tensor_elems(learn));
    for (size_t i = 0; i < k->n_documents; before = k->ends[i++])
        if (k->ends[i] <= before || (uint64_t)k->ends[i] > k->n_tokens)
            return fs_fail(err, FS_ERR_FORMAT, "document %zu ends at %" PRId64 " of %zu tokens", i, k->ends[i], k->n_tokens);
    if ((uint64_t)before != k->n_tokens)
        return fs_fail(err, FS_ERR_FORMAT, "the last document ends at %" PRId64 " of %zu tokens", before, k->n_tokens);
    for (size_t i = 0; i < k->n_tokens; i++)
        if (k->ids[i] < 0 || (size_t)k->ids[i] >= vocab_size || k->learn[i] > 1)
            return fs_fail(err, FS_ERR_FORMAT, "token %zu is %d, the vocabulary has %zu", i, (int)k->ids[i], vocab_size);
    return FS_OK;
}

static fs_status read_index(fs_shards *s, struct json_object *index, const char *folder, fs_error *err)
{
    struct json_object *list = fs_json_member(index, "shards");
    size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    fs_bytes hash = { 0 };
    int64_t vocab_size = 0;
    fs_status rc = fs_json_int(index, "vocab_size", 1, INT32_MAX, &vocab_size, NULL, err);

    if (!rc)
        rc = fs_json_string(index, "vocabulary", &hash, NULL, err);
    if (rc)
        return rc;
    if (n == 0 || n > SHARDS_MAX || hash.n_bytes != 64 || vocab_size == 0)
        return fs_fail(err, FS_ERR_FORMAT, "the index names %zu shards, a vocabulary of %" PRId64 " tokens", n, vocab_size);
    memcpy(s->vocabulary, hash.data, 64);
    s->vocab_size = (size_t)vocab_size;
    s->shards = calloc(n, sizeof *s->shards);
    if (!s->shards)
        return fs_fail_memory(err, n * sizeof *s->shards);
    for (size_t i = 0; i < n && !rc; i++) {
        shard *k = &s->shards[s->n_shards++];
        char *path = shard_path(folder, i + 1);
        rc = path ? open_shard(k, path, s->vocab_size, err) : fs_fail_memory(err, strlen(folder) + 40);
        if (rc && path && rc != FS_ERR_MEMORY)
            fs_fail_in(err, path);
        free(path);
        k->first = s->n_documents;
        s->n_documents += k->n_documents;
        s->n_tokens += k->n_tokens;
    }
    return rc;
}

fs_status fs_shards_open(const char *folder, fs_shards **ret, fs_error *err)
{
    fs_shards *s = calloc(1, sizeof *s);
    struct json_object *index = NULL;
    char *path = fs_path_join(folder, "index.json");
    fs_buf text = { 0 };
    fs_status rc = s && path ? fs_file_read(path, INDEX_BYTES_MAX, &text, err) : fs_fail_memory(err, sizeof *s);

    if (!rc)
        rc = fs_json_parse(fs_buf_bytes(&text), path, &index, err);
    if (!rc)
        rc = read_index(s, index, folder, err);
    json_object_put(index);
    fs_buf_done(&text);
    free(path);
    if (rc) {
        fs_shards_close(s);
        return rc;
    }
    *ret = s;
    return FS_OK;
}

void fs_shards_close(fs_shards *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_shards; i++) {
        fs_safetensors_close(s->shards[i].file);
        fs_map_close(&s->shards[i].map);
    }
    free(s->shards);
    free(s);
}

size_t fs_shards_n_documents(const fs_shards *s)
{
    return s->n_documents;
}

uint64_t fs_shards_n_tokens(const fs_shards *s)
{
    return s->n_tokens;
}

size_t fs_shards_vocab_size(const fs_shards *s)
{
    return s->vocab_size;
}

size_t fs_shards_document(const fs_shards *s, size_t i, const int32_t **ret_ids, const uint8_t **ret_learn)
{
    size_t low = 0, high = s->n_shards;
    const shard *k;
    int64_t begin;

    while (high - low > 1) {
        size_t mid = (low + high) / 2;
        if (s->shards[mid].first <= i)
            low = mid;
        else
            high = mid;
    }
    k = &s->shards[low];
    i -= k->first;
    begin = i ? k->ends[i - 1] : 0;
    *ret_ids = k->ids + begin;
    if (ret_learn)
        *ret_learn = k->learn + begin;
    return (size_t)(k->ends[i] - begin);
}

fs_status fs_shards_check_tokenizer(const fs_shards *s, const fs_tokenizer *t, fs_error *err)
{
    char hash[65];
    fs_status rc = fs_vocabulary_hash(t, hash, err);

    if (!rc && strcmp(hash, s->vocabulary) != 0)
        rc = fs_fail(err, FS_ERR_FORMAT, "the shards were made with another vocabulary: %.12s, not %.12s", s->vocabulary, hash);
    return rc;
}
