/* A hub's folder below its API: objects, accounts, trees, refs. */
#include "unit.h"

#include "crypto/sha256.h"
#include "hub/internal.h"

#include <dirent.h>
#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/farseek-test-XXXXXX";
static char data[64];
static fs_hub *hub;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static int setup(void **state)
{
    fs_error err;

    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(data, sizeof data, "%s/data", folder);
    return fs_hub_open(data, NULL, &hub, &err) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    fs_hub_close(hub);
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void hash(const char *text, char ret[65])
{
    fs_sha256 h;
    fs_error err;

    assert_ok(fs_sha256_init(&h, &err), err);
    fs_sha256_update(&h, text, strlen(text));
    fs_sha256_final_hex(&h, ret);
}

static fs_status store(const char *text, const char *oid, fs_error *err)
{
    fs_hub_incoming in;
    sqlite3 *db = NULL;
    fs_status rc = fs_hub_incoming_open(hub, oid, strlen(text), &in, err);

    if (!rc)
        rc = fs_hub_incoming_put(&in, text, strlen(text), err);
    if (!rc)
        rc = fs_db_take(hub->db, &db, err);
    if (!rc)
        rc = fs_hub_incoming_commit(hub, &in, db, oid, err);
    fs_db_give(hub->db, db);
    fs_hub_incoming_close(&in);
    return rc;
}

static void objects_have_the_name_of_their_content_only(void **state)
{
    char oid[65];
    struct stat st;
    uint64_t n;
    int fd;
    fs_error err;

    (void)state;
    hash("hello", oid);
    assert_int_equal(store("hello!", oid, &err), FS_ERR_FORMAT);
    assert_sentence(err, oid);
    assert_int_equal(fs_hub_object_open(hub, oid, &fd, &n, &err), FS_ERR_NOT_FOUND);
    assert_ok(store("hello", oid, &err), err);
    assert_ok(store("hello", oid, &err), err); /* it is there already */
    assert_ok(fs_hub_object_open(hub, oid, &fd, &n, &err), err);
    assert_int_equal(n, 5);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(st.st_mode & 0777, 0400);
    close(fd);
    assert_int_equal(store("hello", "../../../etc/passwd", &err), FS_ERR_ARGUMENT);
    assert_int_equal(fs_hub_object_open(hub, "ABCD", &fd, &n, &err), FS_ERR_ARGUMENT);
}

static void names_of_accounts(void **state)
{
    static const char *const good[] = { "a", "A-b_c.d", "deepseek-ai", "0" };
    static const char *const bad[] = { "", "-a", "a-", ".a", "a.", "a--b", "a..b", "a/b", "a b", "a.git", "\xc3\xa9", "a\n" };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(fs_hub_name_is_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (fs_hub_name_is_valid(bad[i]))
            fail_msg("'%s'", bad[i]);
    assert_true(fs_hub_name_is_reserved("API"));
    assert_false(fs_hub_name_is_reserved("apis"));
}

static void tokens_mean_their_users_until_they_are_revoked(void **state)
{
    char first[FS_HUB_TOKEN_BYTES], second[FS_HUB_TOKEN_BYTES];
    fs_hub_user u = { 0 };
    sqlite3 *db;
    fs_error err;

    (void)state;
    assert_ok(fs_hub_user_add(hub, "ann", false, first, &err), err);
    assert_int_equal(fs_hub_user_add(hub, "ANN", false, second, &err), FS_ERR_ARGUMENT);
    assert_int_equal(strlen(first), 43);
    assert_memory_equal(first, "hf_", 3);
    assert_ok(fs_hub_token_add(hub, "ann", "ci", "read", NULL, second, &err), err);
    assert_ok(fs_db_take(hub->db, &db, &err), err);
    assert_ok(fs_hub_user_by_token(db, second, &u, &err), err);
    assert_string_equal(u.name, "ann");
    assert_false(u.may_write);
    assert_ok(fs_hub_token_remove(hub, "ann", "ci", &err), err);
    assert_int_equal(fs_hub_user_by_token(db, second, &u, &err), FS_ERR_NOT_FOUND);
    assert_ok(fs_hub_user_by_token(db, first, &u, &err), err);
    assert_int_equal(fs_hub_user_by_token(db, "", &u, &err), FS_ERR_NOT_FOUND);
    assert_int_equal(fs_hub_token_remove(hub, "ann", "ci", &err), FS_ERR_NOT_FOUND);
    fs_db_give(hub->db, db);
}

static void signatures_hold_for_their_text(void **state)
{
    char a[65], b[65];

    (void)state;
    fs_hub_sign(hub, "put 1", a);
    fs_hub_sign(hub, "put 2", b);
    assert_true(fs_hub_sign_check(hub, "put 1", a));
    assert_false(fs_hub_sign_check(hub, "put 1", b));
    a[63] = a[63] == '0' ? '1' : '0';
    assert_false(fs_hub_sign_check(hub, "put 1", a));
    assert_false(fs_hub_sign_check(hub, "put 1", NULL));
    assert_false(fs_hub_sign_check(hub, "put 1", ""));
}

/* ---- git ---- */

typedef struct repository {
    char path[512], sha[41];
    git_repository *git;
    fs_hub_objects written;
} repository;

static void make_repository(repository *r, const char *name)
{
    fs_error err;

    memset(r, 0, sizeof *r);
    assert_ok(fs_hub_git_init(hub, name, "ann", r->sha, &err), err);
    assert_ok(fs_hub_repo_path(hub, name, r->path, &err), err);
    assert_int_equal(git_repository_open_bare(&r->git, r->path), 0);
}

static void close_repository(repository *r)
{
    git_repository_free(r->git);
    fs_hub_objects_done(&r->written);
}

/* "+path" puts a file, "-path" removes one. */
static fs_status change(repository *r, const git_oid *base, const char *const *what, git_oid *ret, fs_error *err)
{
    fs_hub_edits edits = { 0 };
    git_oid blob;
    fs_status rc = FS_OK;

    for (; *what && !rc; what++) {
        rc = fs_hub_git_write(r->git, GIT_OBJECT_BLOB, *what, strlen(*what), &r->written, &blob, err);
        if (!rc)
            rc = fs_hub_edits_add(&edits, *what + 1, (*what)[0] == '-', &blob, err);
    }
    if (!rc)
        rc = fs_hub_tree_edit(r->git, base, &edits, &r->written, ret, err);
    fs_hub_edits_done(&edits);
    return rc;
}

static fs_status add_path(void *ud, const char *path, const git_oid *oid, git_object_t type, fs_error *err)
{
    (void)oid;
    return fs_buf_printf(ud, err, "%s%s ", path, type == GIT_OBJECT_TREE ? "/" : "");
}

static void expect_tree(repository *r, const git_oid *tree, const char *paths)
{
    fs_buf b = { 0 };
    fs_error err;

    assert_ok(fs_hub_walk(r->git, tree, "", true, add_path, &b, &err), err);
    assert_string_equal(b.data ? b.data : "", paths);
    fs_buf_done(&b);
}

#define CHANGE(r, base, ret, err, ...) change(r, base, (const char *const[]){ __VA_ARGS__, NULL }, ret, err)

static void trees_change_by_paths(void **state)
{
    repository r;
    git_oid a, b;
    fs_error err;

    (void)state;
    make_repository(&r, "trees");
    assert_ok(CHANGE(&r, NULL, &a, &err, "+b", "+a/x", "+a/y/z", "+a.txt", "+a-b", "+ab/c"), err);
    expect_tree(&r, &a, "a-b a.txt a/ a/x a/y/ a/y/z ab/ ab/c b "); /* git's order: a folder stands as "a/" */
    assert_ok(CHANGE(&r, &a, &b, &err, "-a/y/z", "+n/new"), err);
    expect_tree(&r, &b, "a-b a.txt a/ a/x ab/ ab/c b n/ n/new "); /* an empty folder is none */
    assert_ok(CHANGE(&r, &a, &b, &err, "-a", "-ab/c"), err);
    expect_tree(&r, &b, "a-b a.txt b ");
    assert_ok(CHANGE(&r, &a, &b, &err, "-a", "+a/new"), err); /* a folder made again */
    expect_tree(&r, &b, "a-b a.txt a/ a/new ab/ ab/c b ");
    assert_ok(CHANGE(&r, &a, &b, &err, "-b", "+b/c"), err); /* a file becomes a folder */
    expect_tree(&r, &b, "a-b a.txt a/ a/x a/y/ a/y/z ab/ ab/c b/ b/c ");
    assert_ok(CHANGE(&r, &a, &b, &err, "+a"), err); /* and a folder a file */
    expect_tree(&r, &b, "a a-b a.txt ab/ ab/c b ");
    assert_ok(CHANGE(&r, &a, &b, &err, "+c", "-c"), err); /* the later one wins */
    expect_tree(&r, &b, "a-b a.txt a/ a/x a/y/ a/y/z ab/ ab/c b ");
    assert_true(git_oid_equal(&a, &b));
    assert_ok(CHANGE(&r, &a, &b, &err, "-a", "-a-b", "-a.txt", "-ab", "-b"), err);
    expect_tree(&r, &b, "");
    assert_int_equal(CHANGE(&r, &a, &b, &err, "-nothing"), FS_ERR_NOT_FOUND);
    assert_sentence(err, "nothing");
    assert_int_equal(CHANGE(&r, &a, &b, &err, "+b/c"), FS_ERR_ARGUMENT);
    assert_int_equal(CHANGE(&r, &a, &b, &err, "+d", "+d/e"), FS_ERR_ARGUMENT);
    close_repository(&r);
}

static void revisions_and_refs(void **state)
{
    repository r;
    git_oid head, found, tree, new;
    char ref[256], hex[41];
    fs_error err;

    (void)state;
    make_repository(&r, "revs");
    assert_ok(fs_hub_rev_find(r.git, "main", &head, ref, &err), err);
    assert_string_equal(ref, "refs/heads/main");
    git_oid_tostr(hex, sizeof hex, &head);
    assert_string_equal(hex, r.sha);
    assert_ok(fs_hub_rev_find(r.git, hex, &found, ref, &err), err);
    assert_string_equal(ref, "");
    hex[9] = 0;
    assert_ok(fs_hub_rev_find(r.git, hex, &found, NULL, &err), err);
    assert_true(git_oid_equal(&found, &head));
    static const char *const none[] = { "no", "", "HEAD", "../heads/main", "refs/heads/../heads/main", "main~1", "main^{tree}", "@", "refs/heads/no", "abc" };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        if (fs_hub_rev_find(r.git, none[i], &found, NULL, &err) != FS_ERR_NOT_FOUND)
            fail_msg("'%s' was found", none[i]);
    assert_ok(fs_hub_commit_tree(r.git, &head, &tree, &err), err);
    assert_ok(fs_hub_commit_write(r.git, &tree, &head, 1, "ann", "two", &r.written, &new, &err), err);
    assert_ok(fs_hub_git_sync(r.path, &r.written, &err), err);
    assert_int_equal(fs_hub_ref_set(hub, r.path, r.git, "refs/heads/main", &new, &new, &err), FS_ERR_ARGUMENT); /* it is not there */
    assert_int_equal(fs_hub_ref_set(hub, r.path, r.git, "refs/heads/main", NULL, &new, &err), FS_ERR_ARGUMENT);
    assert_ok(fs_hub_ref_set(hub, r.path, r.git, "refs/heads/main", &head, &new, &err), err);
    assert_ok(fs_hub_ref_set(hub, r.path, r.git, "refs/heads/x/y", NULL, &new, &err), err);
    assert_int_equal(fs_hub_ref_set(hub, r.path, r.git, "refs/heads/x", NULL, &new, &err), FS_ERR_ARGUMENT); /* a folder is there */
    assert_ok(fs_hub_ref_remove(r.path, r.git, "refs/heads/x/y", &err), err);
    assert_ok(fs_hub_ref_set(hub, r.path, r.git, "refs/heads/x", NULL, &new, &err), err); /* whose last ref is gone */
    assert_int_equal(fs_hub_ref_remove(r.path, r.git, "refs/heads/y", &err), FS_ERR_NOT_FOUND);
    close_repository(&r);
}

static void *count_up(void *ud)
{
    repository *r = ud;
    git_repository *git = NULL;
    git_oid head, tree, new;
    fs_hub_objects written = { 0 };
    fs_error err;

    assert_int_equal(git_repository_open_bare(&git, r->path), 0);
    for (int i = 0; i < 10;) {
        assert_ok(fs_hub_rev_find(git, "main", &head, NULL, &err), err);
        assert_ok(fs_hub_commit_tree(git, &head, &tree, &err), err);
        assert_ok(fs_hub_commit_write(git, &tree, &head, 1, "ann", "n", &written, &new, &err), err);
        if (fs_hub_ref_set(hub, r->path, git, "refs/heads/main", &head, &new, &err) == FS_OK)
            i++;
    }
    fs_hub_objects_done(&written);
    git_repository_free(git);
    return NULL;
}

static void no_update_of_a_ref_is_lost(void **state)
{
    repository r;
    pthread_t threads[4];
    git_revwalk *walk = NULL;
    git_oid oid;
    int n = 0;

    (void)state;
    make_repository(&r, "counted");
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, count_up, &r);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(git_revwalk_new(&walk, r.git), 0);
    assert_int_equal(git_revwalk_push_ref(walk, "refs/heads/main"), 0);
    while (git_revwalk_next(&oid, walk) == 0)
        n++;
    assert_int_equal(n, 41);
    git_revwalk_free(walk);
    close_repository(&r);
}

static void cards_begin_with_yaml(void **state)
{
    static const char *const texts[][2] = { { "---\na: 1\n---\n# Hi", "a: 1\n" }, { "\xef\xbb\xbf---\r\na: 1\r\n---\r\n", "a: 1\r\n" }, { "---\n---\n", "" }, { "", "" },
                                            { "---", "" },                        { "---\na: 1\n", "" },                                { "----\na: 1\n---\n", "" }, { "---\na: 1\n---", "a: 1\n" } };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        fs_bytes yaml = fs_hub_card_yaml(fs_bytes_str(texts[i][0]));
        if (!fs_bytes_equal(yaml, fs_bytes_str(texts[i][1])))
            fail_msg("'%s': '%.*s'", texts[i][0], (int)yaml.n_bytes, (const char *)yaml.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_have_the_name_of_their_content_only),
        cmocka_unit_test(names_of_accounts),
        cmocka_unit_test(tokens_mean_their_users_until_they_are_revoked),
        cmocka_unit_test(signatures_hold_for_their_text),
        cmocka_unit_test(trees_change_by_paths),
        cmocka_unit_test(revisions_and_refs),
        cmocka_unit_test(no_update_of_a_ref_is_lost),
        cmocka_unit_test(cards_begin_with_yaml),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
