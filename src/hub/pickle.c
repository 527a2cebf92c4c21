/* See the header. */
#include "hub/pickle.h"

#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK_MAX  ((size_t)1 << 20)
#define MEMO_MAX   ((size_t)1 << 22)
#define STRING_MAX 256 /* no module has a longer name */
#define OLD_TORCH  5   /* pickles in a file of torch.save before its zips */

/* ---- what imports may do ---- */

/* "module name", sorted; what tensors, arrays and plain values are made of. */
static const char *const innocuous[] = {
    "__builtin__ bool", "__builtin__ bytearray", "__builtin__ complex", "__builtin__ dict", "__builtin__ float", "__builtin__ frozenset", "__builtin__ int",
    "__builtin__ list", "__builtin__ long", "__builtin__ object", "__builtin__ set", "__builtin__ slice", "__builtin__ str", "__builtin__ tuple", "__builtin__ unicode",
    "__builtin__ xrange", "_codecs encode", "argparse Namespace", "builtins bool", "builtins bytearray", "builtins bytes", "builtins complex", "builtins dict",
    "builtins float", "builtins frozenset", "builtins int", "builtins list", "builtins object", "builtins range", "builtins set", "builtins slice", "builtins str",
    "builtins tuple", "collections Counter", "collections OrderedDict", "collections defaultdict", "copy_reg _reconstructor", "copyreg _reconstructor", "datetime date",
    "datetime datetime", "datetime timedelta", "datetime timezone", "decimal Decimal", "fractions Fraction", "numpy dtype", "numpy ndarray",
    "numpy._core.multiarray _reconstruct", "numpy._core.multiarray scalar", "numpy._core.numeric _frombuffer", "numpy.core.multiarray _reconstruct",
    "numpy.core.multiarray scalar", "numpy.core.numeric _frombuffer", "pathlib Path", "pathlib PosixPath", "pathlib PurePath", "pathlib PurePosixPath",
    "pathlib PureWindowsPath", "pathlib WindowsPath", "torch BFloat16Storage", "torch BoolStorage", "torch ByteStorage", "torch CharStorage", "torch ComplexDoubleStorage",
    "torch ComplexFloatStorage", "torch DoubleStorage", "torch FloatStorage", "torch HalfStorage", "torch IntStorage", "torch LongStorage", "torch QInt32Storage",
    "torch QInt8Storage", "torch QUInt2x4Storage", "torch QUInt4x2Storage", "torch QUInt8Storage", "torch ShortStorage", "torch Size", "torch Tensor", "torch bfloat16",
    "torch bool", "torch complex128", "torch complex64", "torch device", "torch float16", "torch float32", "torch float64", "torch float8_e4m3fn", "torch float8_e5m2",
    "torch int16", "torch int32", "torch int64", "torch int8", "torch uint8", "torch._tensor _rebuild_from_type_v2", "torch._utils _rebuild_device_tensor_from_numpy",
    "torch._utils _rebuild_meta_tensor_no_storage", "torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state", "torch._utils _rebuild_qtensor",
    "torch._utils _rebuild_sparse_csr_tensor", "torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2",
    "torch.nn.parameter Parameter", "torch.serialization _get_layout", "torch.storage TypedStorage", "torch.storage UntypedStorage", "uuid UUID",
};

/* Modules, with what is in them: they start programs, read and write files, talk to others, or run what they are given. */
static const char *const dangerous[] = {
    "IPython", "_io", "_osx_support", "_pickle", "_posixsubprocess", "_winapi", "aiohttp", "asyncio", "bdb", "cPickle", "cProfile", "cloudpickle", "code", "codeop", "commands",
    "concurrent", "ctypes", "dill", "distutils", "doctest", "ensurepip", "ftplib", "http", "httplib", "httpx", "idlelib", "imp", "importlib", "inspect", "io", "joblib",
    "lib2to3", "linecache", "marshal", "mmap", "multiprocessing", "nt", "numpy.f2py", "numpy.testing", "operator", "os", "pandas.io.pickle", "pdb", "pickle", "pip", "pkgutil",
    "platform", "popen2", "posix", "profile", "pty", "pydoc", "requests", "runpy", "setuptools", "shutil", "signal", "site", "smtplib", "socket", "subprocess", "sys", "tempfile",
    "telnetlib", "test", "threading", "timeit", "torch.hub", "torch.jit", "torch.package", "torch.utils.cpp_extension", "torch.utils.data.datapipes", "trace", "types",
    "urllib", "urllib2", "urllib3", "venv", "webbrowser", "zipimport",
};

static const char *const dangerous_names[] = {
    "__builtin__ *", "builtins *", /* what is not in the list above: eval, exec, getattr, open and the like */
    "functools partial", "functools reduce", "numpy fromfile", "numpy load", "numpy loadtxt", "numpy memmap", "numpy save", "pandas eval", "pandas read_pickle", "torch compile", "torch load",
    "torch save", "torch.serialization load", "torch.storage _load_from_bytes",
};

static int by_text(const void *a, const void *b)
{
    return strcmp(a, *(const char *const *)b);
}

static bool is_within(const char *module, const char *folder)
{
    size_t n = strlen(folder);

    return strncmp(module, folder, n) == 0 && (module[n] == 0 || module[n] == '.');
}

fs_pickle_level fs_pickle_judge(const char *module, const char *name)
{
    char both[300], any[200];

    snprintf(both, sizeof both, "%s %s", module, name);
    snprintf(any, sizeof any, "%s *", module);
    if (bsearch(both, innocuous, sizeof innocuous / sizeof *innocuous, sizeof *innocuous, by_text))
        return FS_PICKLE_INNOCUOUS;
    if (strcmp(module, "numpy.dtypes") == 0 && fs_ends_with(name, "DType") && !strchr(name, '.'))
        return FS_PICKLE_INNOCUOUS;
    for (size_t i = 0; i < sizeof dangerous / sizeof *dangerous; i++)
        if (is_within(module, dangerous[i]))
            return FS_PICKLE_DANGEROUS;
    for (size_t i = 0; i < sizeof dangerous_names / sizeof *dangerous_names; i++)
        if (strcmp(both, dangerous_names[i]) == 0 || strcmp(any, dangerous_names[i]) == 0)
            return FS_PICKLE_DANGEROUS;
    if (strcmp(module, "?") == 0 || strcmp(name, "?") == 0 || strchr(name, '.')) /* what hides, and what reaches through */
        return FS_PICKLE_DANGEROUS;
    return FS_PICKLE_SUSPICIOUS;
}

/* ---- the machine ---- */

/* OTHER is no string; UNKNOWN may be one: what was called, say. A zeroed value is UNKNOWN. */
typedef enum { UNKNOWN, OTHER, STRING, MARK } kind;

/* A string lies in the data; any other value is only there. */
typedef struct value {
    const uint8_t *text;
    uint32_t n;
    uint32_t kind;
} value;

typedef struct machine {
    fs_bytes data;
    size_t at;
    value *stack, *memo;
    size_t n_stack, stack_capacity, n_memo; /* n_memo: those that MEMOIZE counts */
    size_t memo_capacity;
    fs_pickle *out;
    bool broken;
    fs_status rc;
    fs_error *err;
} machine;

static void broken(machine *m)
{
    m->broken = true;
}

static bool have(machine *m, uint64_t n)
{
    if (n <= m->data.n_bytes - m->at)
        return true;
    broken(m);
    return false;
}

static uint64_t number(machine *m, int n_bytes)
{
    uint64_t x = 0;

    if (!have(m, (uint64_t)n_bytes))
        return 0;
    for (int i = n_bytes - 1; i >= 0; i--)
        x = x << 8 | m->data.data[m->at + (size_t)i];
    m->at += (size_t)n_bytes;
    return x;
}

static fs_bytes take(machine *m, uint64_t n)
{
    fs_bytes b = { 0 };

    if (m->broken || !have(m, n))
        return b;
    b = (fs_bytes){ m->data.data + m->at, (size_t)n };
    m->at += (size_t)n;
    return b;
}

static fs_bytes line(machine *m)
{
    const uint8_t *begin = m->data.data + m->at, *end = m->at < m->data.n_bytes ? memchr(begin, '\n', m->data.n_bytes - m->at) : NULL;

    if (!end) {
        m->at = m->data.n_bytes;
        broken(m);
        return (fs_bytes){ 0 };
    }
    m->at += (size_t)(end - begin) + 1;
    return (fs_bytes){ begin, (size_t)(end - begin) };
}

static void push(machine *m, value v)
{
    if (m->n_stack == m->stack_capacity) {
        size_t capacity = m->stack_capacity ? 2 * m->stack_capacity : 256;
        value *stack = capacity <= STACK_MAX ? realloc(m->stack, capacity * sizeof *stack) : NULL;
        if (!stack) {
            if (capacity > STACK_MAX)
                m->out->cut = true;
            else
                m->rc = fs_fail_memory(m->err, capacity * sizeof *stack);
            broken(m);
            return;
        }
        m->stack = stack;
        m->stack_capacity = capacity;
    }
    m->stack[m->n_stack++] = v;
}

static void push_other(machine *m)
{
    push(m, (value){ .kind = OTHER });
}

static void push_unknown(machine *m)
{
    push(m, (value){ .kind = UNKNOWN });
}

static void push_string(machine *m, fs_bytes text)
{
    push(m, text.data && text.n_bytes <= STRING_MAX ? (value){ text.data, (uint32_t)text.n_bytes, STRING } : (value){ .kind = UNKNOWN });
}

static value pop(machine *m)
{
    if (m->n_stack == 0) {
        broken(m);
        return (value){ .kind = OTHER };
    }
    return m->stack[--m->n_stack];
}

static void pop_n(machine *m, int n)
{
    while (n-- > 0)
        if (pop(m).kind == MARK)
            broken(m);
}

static void pop_to_mark(machine *m)
{
    while (m->n_stack > 0)
        if (m->stack[--m->n_stack].kind == MARK)
            return;
    broken(m);
}

static void memo_set(machine *m, uint64_t i)
{
    if (m->n_stack == 0 || m->stack[m->n_stack - 1].kind == MARK) {
        broken(m);
        return;
    }
    if (i >= MEMO_MAX) /* unknown, then */
        return;
    if (i >= m->memo_capacity) {
        size_t capacity = m->memo_capacity ? m->memo_capacity : 256;
        value *memo;
        while (capacity <= i)
            capacity *= 2;
        memo = realloc(m->memo, capacity * sizeof *memo);
        if (!memo) {
            m->rc = fs_fail_memory(m->err, capacity * sizeof *memo);
            broken(m);
            return;
        }
        memset(memo + m->memo_capacity, 0, (capacity - m->memo_capacity) * sizeof *memo);
        m->memo = memo;
        m->memo_capacity = capacity;
    }
    m->memo[i] = m->stack[m->n_stack - 1];
}

static void memo_get(machine *m, uint64_t i)
{
    push(m, i < m->memo_capacity ? m->memo[i] : (value){ .kind = UNKNOWN });
}

static uint64_t decimal(machine *m)
{
    fs_bytes text = line(m);
    uint64_t x = 0;

    for (size_t i = 0; i < text.n_bytes && x < MEMO_MAX; i++)
        x = text.data[i] >= '0' && text.data[i] <= '9' ? x * 10 + text.data[i] - '0' : MEMO_MAX;
    return x;
}

/* ---- imports ---- */

/* Clean text; "?" for what is too long to be followed or is not known. False: nothing is imported by such a name. */
static bool copy_name(fs_bytes text, char ret[128])
{
    bool known = text.data && text.n_bytes < 128;

    if (text.data && (text.n_bytes == 0 || !fs_utf8_valid(text)))
        return false;
    for (size_t i = 0; i < text.n_bytes; i++)
        if (text.data[i] <= ' ' || text.data[i] == 0x7f)
            return false;
    memcpy(ret, known ? text.data : (const uint8_t *)"?", known ? text.n_bytes : 1);
    ret[known ? text.n_bytes : 1] = 0;
    return true;
}

static void add_import(machine *m, fs_bytes module, fs_bytes name)
{
    fs_pickle *p = m->out;
    fs_pickle_import x = { .level = FS_PICKLE_DANGEROUS };

    if (!copy_name(module, x.module) || !copy_name(name, x.name)) {
        broken(m);
        return;
    }
    x.level = fs_pickle_judge(x.module, x.name);
    for (size_t i = 0; i < p->n_imports; i++)
        if (strcmp(p->imports[i].module, x.module) == 0 && strcmp(p->imports[i].name, x.name) == 0)
            return;
    if (p->n_imports == FS_PICKLE_IMPORTS_MAX) {
        p->cut = true;
        broken(m);
        return;
    }
    if (p->n_imports == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 16;
        fs_pickle_import *imports = realloc(p->imports, capacity * sizeof *imports);
        if (!imports) {
            m->rc = fs_fail_memory(m->err, capacity * sizeof *imports);
            broken(m);
            return;
        }
        p->imports = imports;
        p->capacity = capacity;
    }
    p->imports[p->n_imports++] = x;
}

static fs_bytes string_of(value v)
{
    return v.kind == STRING ? (fs_bytes){ v.text, v.n } : (fs_bytes){ 0 };
}

/* Of a line that may have escapes, which hide names: such a string is unknown. */
static fs_bytes plain(fs_bytes text, bool quoted)
{
    if (text.n_bytes && text.data[text.n_bytes - 1] == '\r')
        text.n_bytes--;
    if (quoted) {
        if (text.n_bytes < 2 || text.data[0] != text.data[text.n_bytes - 1] || (text.data[0] != '\'' && text.data[0] != '"'))
            return (fs_bytes){ 0 };
        text = (fs_bytes){ text.data + 1, text.n_bytes - 2 };
    }
    return text.n_bytes && memchr(text.data, '\\', text.n_bytes) ? (fs_bytes){ 0 } : text;
}

/* ---- opcodes ---- */

static void step_global(machine *m, uint8_t op)
{
    value name, module;
    fs_bytes first, second;

    if (op == 0x93) { /* STACK_GLOBAL */
        name = pop(m);
        module = pop(m);
        if (name.kind == OTHER || name.kind == MARK || module.kind == OTHER || module.kind == MARK)
            broken(m); /* as the reader would */
        if (!m->broken)
            add_import(m, string_of(module), string_of(name));
    } else {
        first = line(m);
        second = line(m);
        if (!m->broken)
            add_import(m, first, second);
        if (op == 'i')
            pop_to_mark(m);
    }
    push_unknown(m);
}

/* Values that stand in the pickle. False: op is none of them. */
static bool step_value(machine *m, uint8_t op)
{
    switch (op) {
    case 'F': case 'I': case 'L': line(m); push_other(m); break;
    case 'P': line(m); push_unknown(m); break;
    case 'J': number(m, 4); push_other(m); break;
    case 'K': number(m, 1); push_other(m); break;
    case 'M': number(m, 2); push_other(m); break;
    case 'G': number(m, 8); push_other(m); break;
    case 'N': case '}': case ']': case ')': case 0x88: case 0x89: case 0x8f: case 0x97: push_other(m); break;
    case 'S': push_string(m, plain(line(m), true)); break;
    case 'V': push_string(m, plain(line(m), false)); break;
    case 'U': case 0x8c: push_string(m, take(m, number(m, 1))); break;
    case 'T': case 'X': push_string(m, take(m, number(m, 4))); break;
    case 0x8d: push_string(m, take(m, number(m, 8))); break;
    case 'C': case 0x8a: take(m, number(m, 1)); push_other(m); break;
    case 'B': case 0x8b: take(m, number(m, 4)); push_other(m); break;
    case 0x8e: case 0x96: take(m, number(m, 8)); push_other(m); break;
    default: return false;
    }
    return true;
}

static bool step_stack(machine *m, uint8_t op)
{
    switch (op) {
    case '(': push(m, (value){ .kind = MARK }); break;
    case '0': pop(m); break;
    case '1': pop_to_mark(m); break;
    case '2':
        if (m->n_stack == 0)
            broken(m);
        else
            push(m, m->stack[m->n_stack - 1]);
        break;
    case 'a': case 'b': pop_n(m, 1); break;
    case 's': pop_n(m, 2); break;
    case 'e': case 'u': case 0x90: pop_to_mark(m); break;
    case 'Q': pop_n(m, 1); push_unknown(m); break;
    case 0x85: pop_n(m, 1); push_other(m); break;
    case 'R': case 0x81: pop_n(m, 2); push_unknown(m); break;
    case 0x86: pop_n(m, 2); push_other(m); break;
    case 0x87: pop_n(m, 3); push_other(m); break;
    case 0x92: pop_n(m, 3); push_unknown(m); break;
    case 'o': pop_to_mark(m); push_unknown(m); break;
    case 'd': case 'l': case 't': case 0x91: pop_to_mark(m); push_other(m); break;
    default: return false;
    }
    return true;
}

/* False: the pickle's end. */
static bool step(machine *m)
{
    uint8_t op = (uint8_t)number(m, 1);
    char code[24];

    if (m->broken || step_value(m, op) || step_stack(m, op))
        return true;
    switch (op) {
    case '.': return false;
    case 'c': case 'i': case 0x93: step_global(m, op); break;
    case 'p': memo_set(m, decimal(m)); break;
    case 'q': memo_set(m, number(m, 1)); break;
    case 'r': memo_set(m, number(m, 4)); break;
    case 0x94: memo_set(m, m->n_memo++); break;
    case 'g': memo_get(m, decimal(m)); break;
    case 'h': memo_get(m, number(m, 1)); break;
    case 'j': memo_get(m, number(m, 4)); break;
    case 0x80: number(m, 1); break;
    case 0x95: number(m, 8); break;
    case 0x98: break;
    case 0x82: case 0x83: case 0x84: /* of a registry that the reader has */
        snprintf(code, sizeof code, "%llu", (unsigned long long)number(m, op == 0x84 ? 4 : op - 0x81));
        if (!m->broken)
            add_import(m, FS_BYTES_LIT("copyreg.extension"), fs_bytes_str(code));
        push_unknown(m);
        break;
    default: broken(m);
    }
    return true;
}

fs_status fs_pickle_read(fs_bytes data, fs_pickle *ret, fs_error *err)
{
    machine m = { .data = data, .out = ret, .err = err };

    for (int n = 0; m.at < data.n_bytes && !m.broken; n++) {
        if (n >= OLD_TORCH && data.data[m.at] != 0x80) /* tensors' bytes, not one pickle more */
            break;
        m.n_stack = m.n_memo = 0;
        if (m.memo)
            memset(m.memo, 0, m.memo_capacity * sizeof *m.memo);
        while (!m.broken && step(&m))
            ;
        ret->n_whole += !m.broken;
    }
    if (m.at > ret->n_read)
        ret->n_read = m.at;
    free(m.stack);
    free(m.memo);
    return m.rc;
}

void fs_pickle_done(fs_pickle *p)
{
    free(p->imports);
    *p = (fs_pickle){ 0 };
}

fs_pickle_level fs_pickle_worst(const fs_pickle *p)
{
    fs_pickle_level worst = p->cut ? FS_PICKLE_SUSPICIOUS : FS_PICKLE_INNOCUOUS;

    for (size_t i = 0; i < p->n_imports; i++)
        if (p->imports[i].level > worst)
            worst = p->imports[i].level;
    return worst;
}
