#include "unit.h"

#include "crypto/blake3.h"
#include "hub/xet_hash.h"

#include <stdlib.h>
#include <string.h>

#define BYTES_MAX 3000000

static uint8_t *random_bytes(void)
{
    uint8_t *data = malloc(BYTES_MAX);
    uint32_t s = 1;

    assert_non_null(data);
    for (size_t i = 0; i < BYTES_MAX; i++) {
        s = s * 1103515245u + 12345u;
        data[i] = (uint8_t)(s >> 24);
    }
    return data;
}

/* Cuts data, handing over step bytes at a time, into nodes [100]. */
static size_t cut(const uint8_t *data, size_t n_bytes, size_t step, fs_xet_node *nodes)
{
    fs_xet_cutter c = { 0 };
    size_t n = 0, begin = 0, at = 0;
    bool ended = false;

    while (at < n_bytes) {
        at += fs_xet_cut(&c, data + at, n_bytes - at < step ? n_bytes - at : step, &ended);
        if (ended || at == n_bytes) {
            assert_true(n < 100);
            fs_xet_chunk_hash(data + begin, at - begin, &nodes[n].hash);
            nodes[n++].n_bytes = at - begin;
            begin = at;
        }
    }
    return n;
}

static void file_hash(const fs_xet_node *nodes, size_t n, fs_xet_hash *ret)
{
    fs_xet_tree t = { 0 };

    for (size_t i = 0; i < n; i++)
        fs_xet_tree_add(&t, &nodes[i].hash, nodes[i].n_bytes);
    fs_xet_tree_end_file(&t, ret);
}

/* By hf_xet 1.8.0's hash_files. */
static void files_hash_as_the_clients_do(void **state)
{
    static const struct {
        size_t n_bytes;
        const char *hash;
    } known[] = {
        { 0, "0000000000000000000000000000000000000000000000000000000000000000" },
        { 100000, "79386c3e6207385e5520e13a5a2517d027aafcea1c60472a5aac1c3bf813d4ff" },
        { 3000000, "1469c5b4c869f8a3bb6e2d53129507647fa23518adb43941d0264c3358cba3c1" },
    };
    static const size_t steps[] = { 1, 100, 8191, 65536, BYTES_MAX };
    uint8_t *data = random_bytes();
    fs_xet_node nodes[100];
    fs_xet_hash hash;
    char text[65];

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
            size_t n = cut(data, known[i].n_bytes, steps[s], nodes);
            file_hash(nodes, n, &hash);
            fs_xet_hash_text(&hash, text);
            assert_string_equal(text, known[i].hash);
        }
    fs_xet_chunk_hash("hello", 5, &nodes[0].hash);
    nodes[0].n_bytes = 5;
    file_hash(nodes, 1, &hash);
    fs_xet_hash_text(&hash, text);
    assert_string_equal(text, "48a3213a086cad271381aafe47232eb5df291a963cebbfec071972eff45eb422");
    free(data);
}

static void what_never_cuts_is_cut_at_the_most(void **state)
{
    uint8_t *data = malloc(1000000);
    fs_xet_node nodes[100];
    size_t n;

    (void)state;
    assert_non_null(data);
    memset(data, 59, 1000000);
    n = cut(data, 1000000, 70000, nodes);
    assert_int_equal(n, 8);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(nodes[i].n_bytes, 131072);
    assert_int_equal(nodes[7].n_bytes, 1000000 - 7 * 131072);
    free(data);
}

static void text_is_four_numbers(void **state)
{
    fs_xet_hash h, back;
    uint8_t sha256[32];
    char text[65];

    (void)state;
    for (int i = 0; i < 32; i++)
        h.bytes[i] = (uint8_t)i;
    fs_xet_hash_text(&h, text);
    assert_string_equal(text, "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918");
    assert_true(fs_xet_hash_read(fs_bytes_str(text), &back));
    assert_true(fs_xet_hash_equal(&h, &back));
    text[5] = 'A';
    assert_false(fs_xet_hash_read(fs_bytes_str(text), &back));
    assert_false(fs_xet_hash_read(FS_BYTES_LIT("0706"), &back));
    for (int i = 0; i < 32; i++)
        sha256[i] = (uint8_t)(200 + i);
    fs_xet_hash_of_sha256(sha256, &h);
    fs_xet_hash_text(&h, text);
    assert_memory_equal(text, "c8c9cacbcccdcecf", 16);
}

/* The tree as it is defined, level by level, in place. */
static void define_root(fs_xet_node *nodes, size_t n, fs_xet_hash *ret)
{
    static const uint8_t key[32] = { 1,  126, 197, 199, 165, 71, 41,  150, 253, 148, 102, 102, 180, 138, 2,   230,
                                     93, 221, 83,  111, 55,  199, 109, 210, 248, 99,  82,  230, 74,  83,  113, 63 };

    for (size_t to = 0; n > 1; n = to, to = 0)
        for (size_t from = 0, end; from < n; from = end) {
            char lines[9 * 96];
            size_t at = 0;
            fs_xet_node parent = { .n_bytes = 0 };
            for (end = from; end < n && end < from + 9 && (end < from + 3 || nodes[end - 1].hash.bytes[24] % 4 != 0); end++) {
                fs_xet_hash_text(&nodes[end].hash, lines + at);
                at += 64 + (size_t)sprintf(lines + at + 64, " : %llu\n", (unsigned long long)nodes[end].n_bytes);
                parent.n_bytes += nodes[end].n_bytes;
            }
            fs_blake3_hash(key, lines, at, parent.hash.bytes);
            nodes[to++] = parent;
        }
    *ret = nodes[0].hash;
}

static void a_tree_of_any_length(void **state)
{
    fs_xet_node *nodes = calloc(100000, sizeof *nodes), *copy = calloc(100000, sizeof *copy);
    uint32_t s = 7;

    (void)state;
    assert_non_null(nodes);
    assert_non_null(copy);
    for (int kind = 0; kind < 3; kind++) { /* hashes that end groups now and then, always, never */
        for (size_t i = 0; i < 100000; i++) {
            fs_xet_chunk_hash(&s, sizeof s, &nodes[i].hash);
            nodes[i].hash.bytes[24] = kind == 1 ? 4 : kind == 2 ? 5 : nodes[i].hash.bytes[24];
            nodes[i].n_bytes = s++ % 131072 + 1;
        }
        for (size_t n = 1; n <= 100000; n = n < 300 ? n + 1 : n < 99990 ? n * 3 : n + 100000) {
            fs_xet_tree t = { 0 };
            fs_xet_hash root, want;
            memcpy(copy, nodes, n * sizeof *nodes);
            define_root(copy, n, &want);
            for (size_t i = 0; i < n; i++)
                fs_xet_tree_add(&t, &nodes[i].hash, nodes[i].n_bytes);
            fs_xet_tree_end_xorb(&t, &root);
            if (!fs_xet_hash_equal(&root, &want))
                fail_msg("%zu", n);
        }
    }
    free(nodes);
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_hash_as_the_clients_do),
        cmocka_unit_test(a_tree_of_any_length),
        cmocka_unit_test(what_never_cuts_is_cut_at_the_most),
        cmocka_unit_test(text_is_four_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
