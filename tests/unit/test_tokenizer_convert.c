/* The tiny tokenizer as GGUF metadata and as tokenizer.json again: the same ids; failing allocations. WRAP_ALLOC */
#include "tiny.h"

#include "alloc_fail.h"
#include "make_files.h"
#include "small_disk.h"
#include "text/tokenizer_convert.h"

#define ENGLISH "Hello  world, it's 1234 tokens\n\n<|end|> caf\xc3\xa9"

static const fs_config config = { .vocab_size = 1000, .max_position_embeddings = 64, .bos_token_id = -1 };
static const char *const hub_files[] = { "tokenizer.json", "tokenizer_config.json", "m.gguf", NULL };

/* The tiny tokenizer with GPT-2's split, in a new folder; its tokens strip white space or not. */
static char *make_source(bool strips)
{
    static const char *const flags[] = { "lstrip", "rstrip", "single_word" };
    struct json_object *v = tiny_read("tiny_tokenizer.json"), *pre = NULL;
    char *folder = make_folder();
    fs_error err = { 0 };

    assert_ok(fs_json_parse(fs_bytes_str("{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"), "pre", &pre, &err), err);
    json_object_object_add(v, "pre_tokenizer", pre);
    for (size_t i = 0; !strips && i < json_object_array_length(fs_json_member(v, "added_tokens")); i++)
        for (int k = 0; k < 3; k++)
            json_object_object_add(json_object_array_get_idx(fs_json_member(v, "added_tokens"), i), flags[k], json_object_new_boolean(false));
    json_object_object_add(v, "normalizer", NULL);
    json_object_object_add(v, "post_processor", NULL);
    put_text_file(folder, "tokenizer.json", json_object_to_json_string(v));
    put_text_file(folder, "tokenizer_config.json", "{\"chat_template\":[{\"name\":\"x\",\"template\":\"no\"},{\"name\":\"default\",\"template\":\"{{ a }}\"}]}");
    json_object_put(v);
    return folder;
}

static fs_status to_gguf(const char *folder, const char *path, fs_error *err)
{
    fs_gguf_writer *w = NULL;
    fs_status rc = fs_gguf_writer_new(path, &w, err);

    if (!rc)
        rc = fs_tokenizer_to_gguf(folder, &config, w, err);
    if (!rc)
        rc = fs_gguf_writer_begin(w, err);
    if (!rc)
        rc = fs_gguf_writer_commit(w, err);
    fs_gguf_writer_close(w);
    return rc;
}

static void encode(const fs_tokenizer *t, fs_ids *ids)
{
    fs_error err = { 0 };

    assert_ok(fs_tokenizer_encode(t, FS_BYTES_LIT(ENGLISH), FS_ENCODE_SPECIAL, ids, &err), err);
}

static void open_json(const char *folder, fs_tokenizer **ret)
{
    char *path = fs_path_join(folder, "tokenizer.json");
    fs_buf text = { 0 };
    fs_error err = { 0 };

    assert_ok(fs_file_read(path, 1 << 26, &text, &err), err);
    assert_ok(fs_tokenizer_open_json(fs_buf_bytes(&text), "t", ret, &err), err);
    fs_buf_done(&text);
    free(path);
}

static void there_and_back_with_failing_allocations(void **state)
{
    char *source = make_source(false), *out = make_folder(), *path = fs_path_join(source, "m.gguf");
    fs_tokenizer *t[3] = { NULL };
    fs_ids ids[3] = { { 0 } };
    fs_map map = { 0 };
    fs_gguf *g = NULL;
    fs_bytes template = { 0 };
    fs_error err = { 0 };
    fs_status rc = FS_ERR_MEMORY;

    (void)state;
    for (long n = 1; rc; n += n < 50 ? 1 : 7) {
        alloc_fail_at(n);
        rc = to_gguf(source, path, &err);
        alloc_fail_off();
        if (rc) {
            assert_int_equal(rc, FS_ERR_MEMORY);
            assert_int_equal(count_files(source), 2);
        }
    }
    assert_ok(fs_map_open(&map, path, &err), err);
    assert_ok(fs_gguf_open(map.bytes, "m", &g, &err), err);
    assert_ok(fs_gguf_string(g, "tokenizer.chat_template", &template, NULL, &err), err);
    assert_true(fs_bytes_equal(template, FS_BYTES_LIT("{{ a }}")));
    rc = FS_ERR_MEMORY;
    for (long n = 1; rc; n += n < 50 ? 1 : 7) {
        alloc_fail_at(n);
        rc = fs_tokenizer_to_hub(g, &config, out, &err);
        alloc_fail_off();
        if (rc) {
            assert_int_equal(rc, FS_ERR_MEMORY);
            assert_int_equal(count_files(out), 0);
        }
    }
    open_json(source, &t[0]);
    assert_ok(fs_tokenizer_open_gguf(g, "m", &t[1], &err), err);
    open_json(out, &t[2]);
    for (int i = 0; i < 3; i++) {
        encode(t[i], &ids[i]);
        assert_int_equal(ids[i].n, ids[0].n);
        assert_memory_equal(ids[i].data, ids[0].data, ids[0].n * sizeof *ids[0].data);
    }
    assert_true(ids[0].n > 10);
    assert_int_equal(fs_tokenizer_n_ids(t[2]), fs_tokenizer_n_ids(t[0])); /* the padding is gone again */
    for (int i = 0; i < 3; i++) {
        fs_ids_done(&ids[i]);
        fs_tokenizer_close(t[i]);
    }
    fs_gguf_close(g);
    fs_map_close(&map);
    free(path);
    remove_folder(source, hub_files);
    remove_folder(out, hub_files);
}

static void without_a_tokenizer_there_is_nothing(void **state)
{
    char *folder = make_folder(), *path = fs_path_join(folder, "m.gguf");
    fs_map map = { 0 };
    fs_gguf *g = NULL;
    fs_error err = { 0 };

    (void)state;
    assert_ok(to_gguf(folder, path, &err), err);
    assert_ok(fs_map_open(&map, path, &err), err);
    assert_ok(fs_gguf_open(map.bytes, "m", &g, &err), err);
    assert_int_equal(fs_gguf_n_values(g), 0);
    assert_ok(fs_tokenizer_to_hub(g, &config, folder, &err), err);
    assert_int_equal(count_files(folder), 1);
    fs_gguf_close(g);
    fs_map_close(&map);
    free(path);
    remove_folder(folder, hub_files);
}

static void a_token_outside_the_vocabulary_is_named(void **state)
{
    char *folder = make_source(false), *path = fs_path_join(folder, "m.gguf");
    fs_gguf_writer *w = NULL;
    fs_config small = config;
    fs_error err = { 0 };

    (void)state;
    small.vocab_size = 300;
    assert_ok(fs_gguf_writer_new(path, &w, &err), err);
    assert_int_equal(fs_tokenizer_to_gguf(folder, &small, w, &err), FS_ERR_UNSUPPORTED);
    assert_sentence(err, "outside the vocabulary of 300");
    fs_gguf_writer_close(w);
    free(path);
    remove_folder(folder, hub_files);
}

static void a_token_that_strips_is_refused(void **state)
{
    char *folder = make_source(true), *path = fs_path_join(folder, "m.gguf");
    fs_error err = { 0 };

    (void)state;
    assert_int_equal(to_gguf(folder, path, &err), FS_ERR_UNSUPPORTED);
    assert_sentence(err, "white space");
    assert_int_equal(count_files(folder), 2);
    free(path);
    remove_folder(folder, hub_files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back_with_failing_allocations),
        cmocka_unit_test(without_a_tokenizer_there_is_nothing),
        cmocka_unit_test(a_token_that_strips_is_refused),
        cmocka_unit_test(a_token_outside_the_vocabulary_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
