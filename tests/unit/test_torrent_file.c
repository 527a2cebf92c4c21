/* Against libtorrent's torrents of the same files (tests/vectors/make_torrent_vectors.py). */
#include "unit.h"

#include "base/file.h"
#include "hub/torrent_file.h"

#define NAME "0123456789abcdef0123456789abcdef01234567"
#define URL  "http://127.0.0.1/a/b/resolve/"

static const struct {
    const char *path;
    size_t n_bytes, like; /* whose content it has */
} files[] = { { "z \xc3\xa9%", 65536, 7 }, { "aa", 5, 0 }, { "c/same", 300000, 4 }, { "b", 300000, 4 }, { "a/y/z", 16385, 2 }, { "empty", 0, 6 }, { "a/x", 16384, 1 }, { "ab", 0, 3 } };
#define N (sizeof files / sizeof *files)

typedef struct made {
    fs_torrent_file list[N];
    fs_piece_hashes pieces[N];
    fs_buf info, layers, all;
} made;

static uint8_t *content_of(size_t i)
{
    uint8_t *data = malloc(files[i].n_bytes + 1);

    for (size_t j = 0; j < files[i].n_bytes; j++)
        data[j] = (uint8_t)(7 * j + 13 * files[i].like + j / 251);
    return data;
}

static void make(uint32_t piece_bytes, bool is_private, made *ret)
{
    static const char *const urls[] = { URL };
    fs_error err;

    *ret = (made){ 0 };
    for (size_t i = 0; i < N; i++) {
        uint8_t *data = content_of(i);
        assert_ok(fs_piece_hashes_of((fs_bytes){ data, files[i].n_bytes }, piece_bytes, false, NULL, ret->pieces + i, &err), err);
        free(data);
        ret->list[i] = (fs_torrent_file){ strdup(files[i].path), files[i].n_bytes, files[i].n_bytes ? ret->pieces[i].root : NULL, ret->pieces[i].sha1, ret->pieces[i].layer };
    }
    assert_ok(fs_torrent_write_info(NAME, piece_bytes, ret->list, N, &ret->info, &ret->layers, &err), err);
    assert_ok(fs_torrent_write(fs_buf_bytes(&ret->info), fs_buf_bytes(&ret->layers), is_private, urls, 1, &ret->all, &err), err);
}

static void made_done(made *m)
{
    for (size_t i = 0; i < N; i++) {
        free(m->list[i].path);
        fs_piece_hashes_done(m->pieces + i);
    }
    fs_buf_done(&m->info);
    fs_buf_done(&m->layers);
    fs_buf_done(&m->all);
}

static void it_is_libtorrents_to_the_byte(void **state)
{
    static const uint32_t pieces[] = { 16384, 65536, 1048576 };
    char path[100];
    fs_buf want = { 0 };
    fs_error err;
    made m;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "tests/vectors/torrents/%u.torrent", pieces[i]);
        assert_ok(fs_file_read(path, 1 << 20, &want, &err), err);
        make(pieces[i], false, &m);
        assert_int_equal(m.all.n_bytes, want.n_bytes);
        assert_memory_equal(m.all.data, want.data, want.n_bytes);
        made_done(&m);
        fs_buf_done(&want);
        want = (fs_buf){ 0 };
    }
}

static void what_is_written_is_read(void **state)
{
    static const char *const order[] = { "a/x", "a/y/z", "aa", "ab", "b", "c/same", "empty", "z \xc3\xa9%" };
    fs_torrent t;
    fs_error err;
    made m;

    (void)state;
    make(65536, true, &m);
    assert_ok(fs_torrent_read(fs_buf_bytes(&m.all), &t, &err), err);
    assert_true(fs_bytes_equal(t.name, FS_BYTES_LIT(NAME)) && t.piece_bytes == 65536 && t.is_private && t.n_urls == 1);
    assert_true(fs_bytes_equal(t.urls[0], FS_BYTES_LIT(URL)));
    assert_int_equal(t.n, N);
    for (size_t i = 0; i < N; i++) {
        assert_string_equal(t.files[i].path, order[i]);
        assert_int_equal(t.files[i].n_bytes, m.list[i].n_bytes);
        assert_memory_equal(t.files[i].sha1, m.list[i].sha1, fs_torrent_pieces(t.files[i].n_bytes, 65536) * FS_PIECES_SHA1);
    }
    fs_torrent_done(&t);
    made_done(&m);
}

/* A file's hashes with a larger piece are those of its own: only the last piece has zeros behind it, and the root is the same for every piece. */
static void the_root_does_not_depend_on_the_piece(void **state)
{
    made a, b;

    (void)state;
    make(16384, false, &a);
    make(65536, false, &b);
    for (size_t i = 0; i < N; i++)
        if (a.list[i].root)
            assert_memory_equal(a.list[i].root, b.list[i].root, FS_PIECES_SHA256);
    made_done(&a);
    made_done(&b);
}

static bool stop(void *ud, uint64_t done, uint64_t total)
{
    (void)total;
    *(uint64_t *)ud = done;
    return false;
}

static void hashing_can_be_stopped(void **state)
{
    uint64_t done = 0;
    fs_progress progress = { stop, &done };
    uint8_t *data = calloc(3, 1 << 20);
    fs_piece_hashes p = { 0 };
    fs_error err;

    (void)state;
    assert_int_equal(fs_piece_hashes_of((fs_bytes){ data, 3 << 20 }, 16384, false, &progress, &p, &err), FS_ERR_INTERRUPTED);
    assert_int_equal(done, 1 << 20);
    assert_null(p.sha1);
    free(data);
}

static void pieces_grow_with_what_there_is(void **state)
{
    fs_torrent_file f[3] = { { "a", 1, NULL, NULL, NULL }, { "b", 0, NULL, NULL, NULL }, { "c", (uint64_t)4096 << 14, NULL, NULL, NULL } };

    (void)state;
    assert_int_equal(fs_torrent_piece_bytes(f, 3), 16384);
    f[2].n_bytes += 3 * 16384;
    assert_int_equal(fs_torrent_piece_bytes(f, 3), 65536);
    f[2].n_bytes = (uint64_t)1 << 34;
    assert_int_equal(fs_torrent_piece_bytes(f, 3), 4 << 20);
    f[2].n_bytes = (uint64_t)1 << 40;
    assert_int_equal(fs_torrent_piece_bytes(f, 3), 16 << 20);
}

static fs_status write_paths(const char *const *paths, size_t n, fs_buf *info, fs_error *err)
{
    uint8_t hash[32];
    fs_torrent_file f[4];
    fs_buf layers = { 0 };
    fs_status rc;

    memset(hash, 1, sizeof hash);
    for (size_t i = 0; i < n; i++)
        f[i] = (fs_torrent_file){ (char *)paths[i], 1, hash, hash, hash };
    rc = fs_torrent_write_info("n", 16384, f, n, info, &layers, err);
    fs_buf_done(&layers);
    return rc;
}

static void the_padding_is_no_file_of_the_repository(void **state)
{
    static const char *const paths[] = { ".pad_/x", ".pad/16383", ".pae", ".padx" };
    fs_buf info = { 0 };
    fs_error err;

    (void)state;
    assert_ok(write_paths(paths, 4, &info, &err), err);
    assert_non_null(strstr(info.data, "4:attr1:p6:lengthi16383e4:pathl6:.pad__5:16383e"));
    assert_null(strstr(info.data, "4:attr1:p6:lengthi16383e4:pathl4:.pad"));
    fs_buf_done(&info);
}

/* As a dictionary of parts has them, which is not the order of whole paths, nor git's. */
static void both_lists_have_one_order(void **state)
{
    static const char *const paths[] = { "a.b", "a-", "a/x", "aa" };
    const char *at;
    fs_buf info = { 0 };
    fs_error err;

    (void)state;
    assert_ok(write_paths(paths, 4, &info, &err), err);
    at = strstr(info.data, "5:files");
    assert_true(strstr(info.data, "1:ad1:xd0:") && strstr(info.data, "2:a-d0:") < strstr(info.data, "3:a.bd0:"));
    for (size_t i = 0; i < 4; i++) {
        static const char *const order[] = { "pathl1:a1:xe", "pathl2:a-e", "pathl3:a.be", "pathl2:aae" };
        at = strstr(at, order[i]);
        assert_non_null(at);
    }
    fs_buf_done(&info);
}

static void paths_that_clients_cannot_have_are_refused(void **state)
{
    static const char *const bad[][2] = { { "a", "a" }, { "a", "a/b" }, { "a", "b//c" }, { "a", "../b" }, { "a", "b/." }, { "a", "b\\c" }, { "a", "b\nc" }, { "a", "\xff" }, { "a", "b/" }, { "a", "" } };
    char longest[260];
    const char *one[] = { longest };
    fs_buf info = { 0 };
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(write_paths(bad[i], 2, &info, &err), FS_ERR_FORMAT);
    memset(longest, 'x', 256);
    longest[256] = 0;
    assert_int_equal(write_paths(one, 1, &info, &err), FS_ERR_FORMAT);
    longest[255] = 0;
    assert_ok(write_paths(one, 1, &info, &err), err);
    fs_buf_done(&info);
}

/* Every byte of a torrent but the addresses', the hashes' of v1 and the letters of names is held to another. */
static void a_changed_torrent_is_no_other_one(void **state)
{
    uint8_t v2[32];
    fs_torrent t;
    fs_error err;
    made m;
    size_t n_read = 0;

    (void)state;
    make(16384, false, &m);
    assert_ok(fs_torrent_read(fs_buf_bytes(&m.all), &t, &err), err);
    memcpy(v2, t.v2, sizeof v2);
    fs_torrent_done(&t);
    for (size_t i = 0; i < m.all.n_bytes; i++) {
        uint8_t *copy = malloc(m.all.n_bytes);
        memcpy(copy, m.all.data, m.all.n_bytes);
        copy[i] ^= 1;
        if (fs_torrent_read((fs_bytes){ copy, m.all.n_bytes }, &t, &err) == FS_OK) {
            bool same = memcmp(t.v2, v2, sizeof v2) == 0, in_url = i >= m.all.n_bytes - 2 - strlen("8:url-listl30:" URL);
            assert_true(same == in_url);
            n_read++;
            fs_torrent_done(&t);
        }
        free(copy);
        assert_int_not_equal(fs_torrent_read((fs_bytes){ (uint8_t *)m.all.data, i }, &t, &err), FS_OK);
    }
    assert_true(n_read < m.all.n_bytes / 2);
    made_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_libtorrents_to_the_byte),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(the_root_does_not_depend_on_the_piece),
        cmocka_unit_test(hashing_can_be_stopped),
        cmocka_unit_test(pieces_grow_with_what_there_is),
        cmocka_unit_test(the_padding_is_no_file_of_the_repository),
        cmocka_unit_test(both_lists_have_one_order),
        cmocka_unit_test(paths_that_clients_cannot_have_are_refused),
        cmocka_unit_test(a_changed_torrent_is_no_other_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
