#include "unit.h"

#include "hub/pickle.h"

/* "module name!..." of the imports; the mark is the level: nothing, ?, !. */
static void imports_are(const void *data, size_t n_bytes, size_t n_whole, const char *want)
{
    fs_pickle p = { 0 };
    char got[2000] = "";
    fs_error err;

    assert_ok(fs_pickle_read((fs_bytes){ data, n_bytes }, &p, &err), err);
    for (size_t i = 0; i < p.n_imports; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s.%s%s", i ? " " : "", p.imports[i].module, p.imports[i].name,
                 p.imports[i].level == FS_PICKLE_DANGEROUS ? "!" : p.imports[i].level == FS_PICKLE_SUSPICIOUS ? "?" : "");
    assert_string_equal(got, want);
    assert_int_equal(p.n_whole, n_whole);
    fs_pickle_done(&p);
}
#define IMPORTS(text, n_whole, want) imports_are(text, sizeof(text) - 1, n_whole, want)

static void every_way_of_importing_is_seen(void **state)
{
    (void)state;
    IMPORTS("cos\nsystem\n(S'ls'\ntR.", 1, "os.system!");                                     /* protocol 0 */
    IMPORTS("(S'ls'\nios\nsystem\n.", 1, "os.system!");                                       /* INST */
    IMPORTS("(cposix\nsystem\nX\2\0\0\0lso.", 1, "posix.system!");                            /* OBJ */
    IMPORTS("\x80\4\x8c\5posix\x8c\6system\x93\x8c\2ls\x85R.", 1, "posix.system!");           /* STACK_GLOBAL */
    IMPORTS("\x80\4\x8c\2os\x94\x8c\6system\x94\x93\x94\x8c\2ls\x85R.", 1, "os.system!");     /* memoized */
    IMPORTS("\x80\4\x8c\6system\x94\x30\x8c\2osh\0\x93.", 1, "os.system!");                   /* out of the memo */
    IMPORTS("\x80\4\x8c\2osq\5(K\1\x31h\5\x8c\5popen\x93.", 1, "os.popen!");                  /* behind a mark that is popped again */
    IMPORTS("\x80\2ctorch._utils\n_rebuild_tensor_v2\nq\0.", 1, "torch._utils._rebuild_tensor_v2");
    IMPORTS("\x80\2ccollections\nOrderedDict\ncmy.models\nNet\n\x86.", 1, "collections.OrderedDict my.models.Net?");
    IMPORTS("\x80\2\x82\7.", 1, "copyreg.extension.7?");
    IMPORTS("\x80\4Vos\nVsystem\n\x93.", 1, "os.system!");
}

static void what_hides_is_dangerous(void **state)
{
    (void)state;
    IMPORTS("\x80\4V\\u006fs\nVsystem\n\x93.", 1, "?.system!");                  /* escapes */
    IMPORTS("\x80\4S'o\\x73'\nVsystem\n\x93.", 1, "?.system!");
    IMPORTS("\x80\4" "cbuiltins\nstr\n)R\x8c\1x\x93.", 1, "builtins.str ?.x!");  /* computed by a call */
    IMPORTS("\x80\4" "ctorch\nserialization.os.system\n.", 1, "torch.serialization.os.system!"); /* reaching through */
    IMPORTS("\x80\2" "c__builtin__\neval\n.", 1, "__builtin__.eval!");
    IMPORTS("\x80\2" "cbuiltins\ngetattr\ncbuiltins\ndict\n.", 1, "builtins.getattr! builtins.dict");
}

static void what_breaks_off_keeps_what_came_before(void **state)
{
    (void)state;
    IMPORTS("cos\nsystem\n(S'ls'\ntR\xff", 0, "os.system!");
    IMPORTS("cos\nsystem", 0, "");
    IMPORTS("\x80\4K\1K\2\x93" "cos\nsystem\n.", 0, ""); /* numbers name nothing: a reader stops there, too */
    IMPORTS("a", 0, "");
    IMPORTS("", 0, "");
    IMPORTS("\x80\4X\xff\xff\xff\xff", 0, "");
    IMPORTS("\x80\4\x8d\xff\xff\xff\xff\xff\xff\xff\xff", 0, "");
    IMPORTS("%PDF-1.4 and so on\n", 0, "");
}

static void pickles_stand_one_behind_the_other(void **state)
{
    (void)state;
    IMPORTS("\x80\2N.\x80\2N.\x80\2cos\nsystem\n.garbage", 3, "os.system!");
    IMPORTS("N.N.N.N.cos\nsystem\n.cpty\nspawn\n.", 5, "os.system!"); /* torch.save of old writes five; weights follow */
    IMPORTS("N.N.N.N.N.\x80\2" "cpty\nspawn\n.", 6, "pty.spawn!");
}

static void a_deep_stack_is_not_followed_to_its_end(void **state)
{
    size_t n = (size_t)3 << 20;
    char *data = malloc(n);
    fs_pickle p = { 0 };
    fs_error err;

    (void)state;
    memset(data, 'N', n);
    assert_ok(fs_pickle_read((fs_bytes){ (const uint8_t *)data, n }, &p, &err), err);
    assert_true(p.cut);
    assert_int_equal(fs_pickle_worst(&p), FS_PICKLE_SUSPICIOUS);
    fs_pickle_done(&p);
    free(data);
}

static void names_are_judged(void **state)
{
    static const char *const good[][2] = { { "__builtin__", "bool" }, { "uuid", "UUID" }, { "torch", "FloatStorage" }, { "_codecs", "encode" }, { "numpy.dtypes", "Float32DType" } };
    static const char *const bad[][2] = { { "os", "x" }, { "os.path", "x" }, { "builtins", "eval" }, { "torch", "load" }, { "importlib", "import_module" }, { "numpy", "load" } };
    static const char *const unknown[][2] = { { "osx", "x" }, { "torch", "nothing" }, { "sklearn.tree", "Tree" }, { "__main__", "f" } };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(fs_pickle_judge(good[i][0], good[i][1]), FS_PICKLE_INNOCUOUS);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(fs_pickle_judge(bad[i][0], bad[i][1]), FS_PICKLE_DANGEROUS);
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        assert_int_equal(fs_pickle_judge(unknown[i][0], unknown[i][1]), FS_PICKLE_SUSPICIOUS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_of_importing_is_seen),
        cmocka_unit_test(what_hides_is_dangerous),
        cmocka_unit_test(what_breaks_off_keeps_what_came_before),
        cmocka_unit_test(pickles_stand_one_behind_the_other),
        cmocka_unit_test(a_deep_stack_is_not_followed_to_its_end),
        cmocka_unit_test(names_are_judged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
