/* CPU detection and choice. */
#include "kernels/kernels.h"

#include <stdatomic.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static unsigned detect(void)
{
    unsigned isa = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        unsigned a, b, c, d;
        if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C))
            isa |= FS_ISA_AVX2;
    }
    if (isa && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        isa |= FS_ISA_AVX512;
#elif defined(__aarch64__)
    isa |= FS_ISA_NEON; /* part of the base architecture */
#endif
    return isa;
}

unsigned fs_isa_detect(void)
{
#define KNOWN (1u << 31)
    static atomic_uint known; /* to ask the CPU costs tens of microseconds in a virtual machine */
    unsigned isa = atomic_load_explicit(&known, memory_order_relaxed);

    if (!isa) {
        isa = detect() | KNOWN;
        atomic_store_explicit(&known, isa, memory_order_relaxed);
    }
    return isa & ~KNOWN;
#undef KNOWN
}

bool fs_isa_has_dot(void)
{
#if defined(__x86_64__)
    return (fs_isa_detect() & FS_ISA_AVX512) && __builtin_cpu_supports("avx512vnni");
#elif defined(__aarch64__)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return false;
#endif
}

bool fs_isa_has_i8mm(void)
{
#if defined(__aarch64__)
    return fs_isa_has_dot() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
#else
    return false;
#endif
}

bool fs_isa_has_bf16(void)
{
#if defined(__x86_64__)
    return (fs_isa_detect() & FS_ISA_AVX512) && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

const char *fs_isa_name(unsigned isa)
{
    switch (isa) {
    case FS_ISA_AVX2:
        return "avx2";
    case FS_ISA_AVX512:
        return "avx512";
    case FS_ISA_NEON:
        return "neon";
    default:
        return "scalar";
    }
}

void fs_kernels_init(fs_kernels *k, unsigned isa)
{
    isa &= fs_isa_detect();
    k->isa = isa;
    fs_rows_kernels_init(&k->rows, isa);
    fs_product_kernels_init(&k->products, isa);
    fs_pair_kernels_init(&k->pairs, isa);
    fs_quant_kernels_init(&k->quants, isa);
    fs_attention_kernels_init(&k->attention, isa);
    fs_grad_kernels_init(&k->grad, isa);
}

fs_status fs_kernels_init_named(fs_kernels *k, const char *isa, fs_error *err)
{
    unsigned have = fs_isa_detect(), want = have;

    if (isa && strcmp(isa, "scalar") == 0) {
        want = 0;
    } else if (isa) {
        unsigned bit = 1;
        while (bit < FS_ISA_END && strcmp(fs_isa_name(bit), isa) != 0)
            bit <<= 1;
        if (bit >= FS_ISA_END)
            return fs_fail(err, FS_ERR_ARGUMENT, "isa '%s' is none of scalar, avx2, avx512, neon", isa);
        if (!(have & bit))
            return fs_fail(err, FS_ERR_UNSUPPORTED, "this CPU has no %s", isa);
        want = bit == FS_ISA_AVX512 ? FS_ISA_AVX2 | FS_ISA_AVX512 : bit;
    }
    fs_kernels_init(k, want);
    return FS_OK;
}

const char *fs_precision_name(bool bf16)
{
    return bf16 ? "bf16" : "f32";
}

fs_status fs_precision_of(const char *name, bool *ret_bf16, fs_error *err)
{
    if (name && strcmp(name, "f32") != 0 && strcmp(name, "bf16") != 0)
        return fs_fail(err, FS_ERR_ARGUMENT, "precision '%s' is neither f32 nor bf16", name);
    *ret_bf16 = name && strcmp(name, "bf16") == 0;
    return FS_OK;
}
