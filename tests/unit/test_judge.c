#include "unit.h"

#include "base/clock.h"
#include "train/judge.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const fs_judged three[] = {
    { FS_BYTES_LIT("1+1"), FS_BYTES_LIT("2"), FS_BYTES_LIT("2") },
    { FS_BYTES_LIT("1+2"), FS_BYTES_LIT("4\n\"\xc3\xa4"), FS_BYTES_LIT("3") },
    { FS_BYTES_LIT(""), FS_BYTES_LIT(""), { NULL, 0 } },
};

static fs_status judge(const char *script, double seconds, const fs_judged *items, size_t n, double *ret, fs_error *err)
{
    const char *const argv[] = { "sh", "-c", script, NULL };
    fs_judge j = { .argv = argv, .seconds_max = seconds };

    return fs_judge_run(&j, items, n, ret, err);
}

static void what_it_reads_and_says(void **state)
{
    double r[3];
    fs_error err;

    (void)state;
    assert_ok(judge("while read -r line; do case $line in "
                    "'{\"prompt\": \"1+1\", \"completion\": \"2\", \"answer\": \"2\"}') echo 1;; *completion*4*answer*3*) echo -0.5e-1;; *) echo 0;; "
                    "esac; done", 20, three, 3, r, &err), err);
    assert_true(r[0] == 1 && r[1] == -0.05 && r[2] == 0);
    assert_ok(judge("printf '1\\n2\\n3'", 20, three, 3, r, &err), err); /* it need not read */
    assert_true(r[2] == 3);
    assert_ok(judge("exit 1", 20, three, 0, r, &err), err);
}

/* More than the pipes hold, both ways at once. */
static void large_batches(void **state)
{
    enum { N = 20000 };
    fs_judged *items = calloc(N, sizeof *items);
    double *r = malloc(N * sizeof *r);
    fs_error err;

    (void)state;
    for (size_t i = 0; i < N; i++)
        items[i] = three[i % 3];
    assert_ok(judge("exec awk '{ print NR }'", 60, items, N, r, &err), err);
    for (size_t i = 0; i < N; i++)
        assert_true(r[i] == (double)i + 1);
    free(items);
    free(r);
}

static void what_is_no_answer_is_an_error(void **state)
{
    static const struct {
        const char *script, *word;
    } bad[] = {
        { "cat >/dev/null; echo 1; echo 2", "line 3 of 3" },
        { "cat >/dev/null; echo 1; echo 2; echo 3; echo 4", "more than 3" },
        { "cat >/dev/null; echo 1; echo x; echo 3", "'x'" },
        { "cat >/dev/null; echo 1; echo nan; echo 3", "'nan'" },
        { "cat >/dev/null; echo 1; echo inf; echo 3", "'inf'" },
        { "cat >/dev/null; echo 1; echo 2 3; echo 3", "'2 3'" },
        { "cat >/dev/null; printf '1\\0\\n2\\n3\\n'", "U+0000" },
        { "cat >/dev/null; echo 1; echo 2; echo 3; exit 3", "ended with 3" },
        { "cat >/dev/null; kill -9 $$", "signal 9" },
        { "exec /nonexistent/program", "cannot be started" },
        { "while :; do echo 1; done", "more than 3" },
    };
    double r[3];
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_not_equal(judge(bad[i].script, 20, three, 3, r, &err), FS_OK);
        assert_sentence(err, bad[i].word);
    }
}

/* A program that does not end, and one that leaves a child behind: both are gone afterwards. */
static void time_is_limited(void **state)
{
    char path[] = "/tmp/farseek-judge-XXXXXX", script[256], pid_text[32] = "";
    int fd = mkstemp(path);
    double start = fs_seconds_now(), r[3];
    pid_t pid;
    fs_error err;

    (void)state;
    assert_true(fd >= 0);
    assert_int_not_equal(judge("sleep 1000", 0.2, three, 3, r, &err), FS_OK);
    assert_sentence(err, "longer than 0.2 s");
    snprintf(script, sizeof script, "sleep 1000 <&- >&- & echo $! > %s; cat > /dev/null; echo 1; echo 2; echo 3", path);
    assert_ok(judge(script, 200, three, 3, r, &err), err);
    assert_true(fs_seconds_now() - start < 150);
    assert_true(read(fd, pid_text, sizeof pid_text - 1) > 0);
    pid = (pid_t)atoi(pid_text);
    assert_true(pid > 1);
    for (int i = 0; i < 6000 && kill(pid, 0) == 0; i++) {
        char status[64], line[256] = "";
        FILE *f;
        snprintf(status, sizeof status, "/proc/%d/stat", (int)pid);
        f = fopen(status, "r");
        if (!f || !fgets(line, sizeof line, f) || strstr(line, ") Z ")) { /* dead, and nobody's child to wait for */
            if (f)
                fclose(f);
            break;
        }
        fclose(f);
        usleep(10000);
        assert_true(i < 5999);
    }
    close(fd);
    unlink(path);
}

static void memory_is_limited(void **state)
{
    const char *const argv[] = { "awk", "BEGIN { s = \"x\"; while (length(s) < 1000000000) s = s s; print length(s) }", NULL };
    fs_judge j = { .argv = argv, .seconds_max = 60, .memory_bytes_max = 200u << 20 };
    double r;
    fs_error err;

    (void)state;
    assert_int_not_equal(fs_judge_run(&j, three, 1, &r, &err), FS_OK);
}

static void a_program_that_is_not_there(void **state)
{
    const char *const argv[] = { "/nonexistent/judge", NULL };
    fs_judge j = { .argv = argv, .seconds_max = 10 };
    double r;
    fs_error err;

    (void)state;
    assert_int_equal(fs_judge_run(&j, three, 1, &r, &err), FS_ERR_NOT_FOUND);
    assert_sentence(err, "/nonexistent/judge");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_it_reads_and_says), cmocka_unit_test(large_batches),
                                        cmocka_unit_test(what_is_no_answer_is_an_error), cmocka_unit_test(time_is_limited),
                                        cmocka_unit_test(memory_is_limited), cmocka_unit_test(a_program_that_is_not_there) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
