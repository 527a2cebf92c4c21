/* farseek doctor: what this machine has, and whether every instruction set on it gives the bits of RN1. */
#include "cli/cli.h"

#include "base/file.h"
#include "base/pool.h"
#include "engine/engine.h"
#include "kernels/conformance.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static struct {
    bool json;
} opt;

static const fs_option options[] = {
    FS_OPT_FLAG("json", 0, opt.json, "answer in JSON"),
    FS_OPT_END
};

#define SETS_MAX 8

typedef struct finding {
    unsigned isa[SETS_MAX];
    char hash[SETS_MAX][65];
    size_t n_sets;
    bool agree;
    bool control_differs; /* the spoiled arithmetic was seen: the hash can tell */
    char cpu[128], huge_pages[32];
    size_t memory_bytes, available_bytes;
} finding;

/* The value of "key : value" in /proc/cpuinfo's first block. */
static void find_cpu(finding *f)
{
    FILE *in = fopen("/proc/cpuinfo", "re");
    char line[512];

    snprintf(f->cpu, sizeof f->cpu, "unknown");
    while (in && fgets(line, sizeof line, in)) {
        char *value = strchr(line, ':');
        if (!value || strncmp(line, "model name", 10) != 0)
            continue;
        value += 1 + strspn(value + 1, " \t");
        value[strcspn(value, "\n")] = 0;
        snprintf(f->cpu, sizeof f->cpu, "%.127s", value);
        break;
    }
    if (in)
        fclose(in);
}

/* "always [madvise] never": the bracketed word. */
static void find_huge_pages(finding *f)
{
    FILE *in = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
    char line[128] = "", *begin, *end;

    snprintf(f->huge_pages, sizeof f->huge_pages, "unknown");
    if (!in)
        return;
    if (fgets(line, sizeof line, in) && (begin = strchr(line, '[')) != NULL && (end = strchr(begin, ']')) != NULL) {
        *end = 0;
        snprintf(f->huge_pages, sizeof f->huge_pages, "%.31s", begin + 1);
    }
    fclose(in);
}

static fs_status examine(finding *f, fs_error *err)
{
    unsigned have = fs_isa_detect();
    char control[65];
    fs_status rc;

    f->isa[f->n_sets++] = 0;
    for (unsigned isa = 1; isa < FS_ISA_END && f->n_sets < SETS_MAX; isa <<= 1)
        if (have & isa)
            f->isa[f->n_sets++] = isa;
    f->agree = true;
    for (size_t i = 0; i < f->n_sets; i++) {
        rc = fs_conformance_hash(f->isa[i], false, f->hash[i], err);
        if (rc)
            return rc;
        f->agree = f->agree && strcmp(f->hash[i], f->hash[0]) == 0;
    }
    rc = fs_conformance_hash(f->isa[f->n_sets - 1], true, control, err);
    if (rc)
        return rc;
    f->control_differs = strcmp(control, f->hash[f->n_sets - 1]) != 0;
    find_cpu(f);
    find_huge_pages(f);
    f->memory_bytes = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE);
    f->available_bytes = fs_memory_available();
    return FS_OK;
}

static fs_status print_json(const finding *f, fs_error *err)
{
    fs_buf out = { 0 };
    fs_status rc = fs_buf_append_str(&out, "{\"isa\": [", err);

    for (size_t i = 0; i < f->n_sets && !rc; i++)
        rc = fs_buf_printf(&out, err, "%s\"%s\"", i ? ", " : "", fs_isa_name(f->isa[i]));
    if (!rc)
        rc = fs_buf_printf(&out, err, "], \"rn\": \"RN1\", \"conformance\": \"%s\", \"agree\": %s, \"control_differs\": %s, \"hashes\": {",
                           f->hash[0], f->agree ? "true" : "false", f->control_differs ? "true" : "false");
    for (size_t i = 0; i < f->n_sets && !rc; i++)
        rc = fs_buf_printf(&out, err, "%s\"%s\": \"%s\"", i ? ", " : "", fs_isa_name(f->isa[i]), f->hash[i]);
    if (!rc)
        rc = fs_buf_append_str(&out, "}, \"cpu\": ", err);
    if (!rc)
        rc = fs_json_quote(&out, fs_bytes_str(f->cpu), err);
    if (!rc)
        rc = fs_buf_printf(&out, err, ", \"threads\": %d, \"memory_bytes\": %zu, \"available_bytes\": %zu, \"huge_pages\": \"%s\", \"version\": \"%s\"}\n",
                           fs_cpu_count(), f->memory_bytes, f->available_bytes, f->huge_pages, FS_VERSION);
    if (!rc)
        fwrite(out.data, 1, out.n_bytes, stdout);
    fs_buf_done(&out);
    return rc;
}

static void print_text(const finding *f)
{
    const double gib = 1073741824.0;

    printf("%-16s %s\n", "farseek", FS_VERSION);
    printf("%-16s %s, %d thread%s\n", "cpu", f->cpu, fs_cpu_count(), fs_cpu_count() == 1 ? "" : "s");
    if (f->available_bytes == SIZE_MAX)
        printf("%-16s %.1f GiB\n", "memory", (double)f->memory_bytes / gib);
    else
        printf("%-16s %.1f GiB, %.1f free\n", "memory", (double)f->memory_bytes / gib, (double)f->available_bytes / gib);
    printf("%-16s %s%s\n", "huge pages", f->huge_pages, strcmp(f->huge_pages, "never") == 0 ? " (large models read faster with madvise)" : "");
    for (size_t i = 0; i < f->n_sets; i++)
        printf("%-16s %s\n", i ? fs_isa_name(f->isa[i]) : "RN1, scalar", f->hash[i]);
    if (f->agree)
        printf("Every instruction set gives the same bits.\n");
}

static fs_status run(const fs_args *args, fs_error *err)
{
    finding f = { 0 };
    fs_status rc = examine(&f, err);

    (void)args;
    if (rc)
        return rc;
    if (opt.json)
        rc = print_json(&f, err);
    else
        print_text(&f);
    if (!rc && !f.agree)
        rc = fs_fail(err, FS_ERR_NUMERIC, "the instruction sets of this machine do not give the same bits: results here are not those of RN1");
    if (!rc && !f.control_differs)
        rc = fs_fail(err, FS_ERR_NUMERIC, "a kernel that sums in another order was not noticed: the conformance check proves nothing here");
    return rc;
}

const fs_command fs_command_doctor = {
    .set = { .name = "doctor",
             .usage = "",
             .summary = "Show the machine, and check that its arithmetic has the bits of RN1.",
             .options = options },
    .run = run,
};
