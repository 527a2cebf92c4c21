#include "unit.h"

#include "make_files.h"
#include "train/metrics.h"

#include <dirent.h>
#include <math.h>

static char *path_in(const char *folder)
{
    return fs_path_join(folder, FS_METRICS_FILE);
}

static void assert_file(const char *folder, const char *want)
{
    char *path = path_in(folder);
    fs_buf text = { 0 };
    fs_error err;

    assert_ok(fs_file_read(path, 1 << 20, &text, &err), err);
    assert_string_equal(text.data ? text.data : "", want);
    fs_buf_done(&text);
    free(path);
}

static void log_step(fs_metrics *m, uint64_t step, double loss)
{
    const double load[] = { 0.25, 0.75 };
    fs_metric items[] = { { "loss", &loss, 1 }, { "load/1", load, 2 } };
    fs_error err;

    assert_ok(fs_metrics_log(m, step, 100 + (double)step, items, 2, &err), err);
}

static void clean(char *folder)
{
    DIR *d = opendir(folder);
    struct dirent *e;

    while ((e = readdir(d)) != NULL)
        unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    rmdir(folder);
    free(folder);
}

#define LINE(step, loss) "{\"step\": " step ", \"loss\": " loss ", \"load/1\": [0.25, 0.75]}\n"

/* Whoever goes on from step 2 takes away what was logged of 2 and 3, and half a line. */
static void a_resumed_training_goes_on(void **state)
{
    char *folder = make_folder(), *path = path_in(folder);
    fs_metrics *m = NULL;
    fs_error err;
    FILE *f;

    (void)state;
    assert_ok(fs_metrics_open(folder, 0, true, 1000, &m, &err), err);
    for (uint64_t s = 0; s < 4; s++)
        log_step(m, s, 1.5 - (double)s);
    fs_metrics_close(m);
    f = fopen(path, "a");
    fputs("{\"step\": 4, \"lo", f);
    fclose(f);
    assert_ok(fs_metrics_open(folder, 2, true, 2000, &m, &err), err);
    assert_file(folder, LINE("0", "1.5") LINE("1", "0.5"));
    log_step(m, 2, NAN);
    fs_metrics_close(m);
    assert_file(folder, LINE("0", "1.5") LINE("1", "0.5") LINE("2", "null"));
    assert_ok(fs_metrics_open(folder, 0, false, 3000, &m, &err), err); /* from the beginning */
    assert_file(folder, "");
    fs_metrics_close(m);
    free(path);
    clean(folder);
}

static void columns_are_read(void **state)
{
    char *folder = make_folder(), *path = path_in(folder);
    fs_columns c = { 0 };
    fs_error err;

    (void)state;
    put_text_file(folder, FS_METRICS_FILE, LINE("0", "1.5") "{\"step\": 1, \"load/1\": [1, 0]}\n" LINE("5", "null") "{\"step\": 6");
    assert_ok(fs_columns_read(path, &c, &err), err);
    assert_int_equal(c.n, 2);
    assert_string_equal(c.items[0].name, "loss");
    assert_int_equal(c.items[0].n, 2);
    assert_true(c.items[0].values[0] == 1.5 && isnan(c.items[0].values[1]) && c.items[0].steps[1] == 5);
    assert_true(c.items[1].width == 2 && c.items[1].n == 3 && c.items[1].values[2] == 1 && c.items[1].steps[1] == 1);
    fs_columns_done(&c);
    free(path);
    clean(folder);
}

static void what_is_no_metric_is_refused(void **state)
{
    static const struct {
        const char *text, *word;
    } bad[] = {
        { LINE("0", "1") "{\"loss\": 1}\n", "line 2: no step" },
        { "[1]\n", "no JSON object" },
        { "{\"step\": 1, \"a\": \"b\"}\n", "'a' is not a number" },
        { "{\"step\": 1, \"a\": []}\n", "0 values" },
        { "{\"step\": 1, \"a\": [1]}\n{\"step\": 2, \"a\": [1, 2]}\n", "before it had 1" },
        { "{\"step\": -1}\n", "step" },
        { "\n", "line 1" },
    };
    char *folder = make_folder(), *path = path_in(folder);
    fs_columns c;
    fs_error err;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_text_file(folder, FS_METRICS_FILE, bad[i].text);
        assert_int_equal(fs_columns_read(path, &c, &err), FS_ERR_FORMAT);
        assert_sentence(err, bad[i].word);
    }
    free(path);
    clean(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_resumed_training_goes_on), cmocka_unit_test(columns_are_read),
                                        cmocka_unit_test(what_is_no_metric_is_refused) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
