/* Constants of RN1's elementary functions, made by tools/fit_math.py. How each is used: math.c, docs/RN1.md
 * section 3. Arrays hold the constant term first. */
#ifndef FS_KERNELS_MATH_CONST_H
#define FS_KERNELS_MATH_CONST_H

#define FS_LOG2E_F 0x1.715476p+0f
#define FS_LN2_HI_F 0x1.62e400p-1f
#define FS_LN2_LO_F 0x1.7f7d1cp-20f

/* (e^r - 1 - r) / r^2, |r| <= ln2 / 2, fitted to 6.5e-08 */
static const float fs_exp_f[5] = {
    0x1.000000p-1f,
    0x1.5554dcp-3f,
    0x1.55551ap-5f,
    0x1.120ba2p-7f,
    0x1.6d113cp-10f,
};

#define FS_LOG2E_D 0x1.71547652b82fep+0
#define FS_LN2_HI_D 0x1.62e42fefa3800p-1
#define FS_LN2_LO_D 0x1.ef35793c76730p-45
#define FS_2_OVER_PI_D 0x1.45f306dc9c883p-1
#define FS_PIO2_1_D 0x1.921fb54400000p+0
#define FS_PIO2_2_D 0x1.0b4611a600000p-34
#define FS_PIO2_3_D 0x1.3198a2e000000p-69
#define FS_PIO2_4_D 0x1.b839a252049c1p-104

/* (e^r - 1 - r) / r^2, |r| <= ln2 / 2, fitted to 1.4e-18 */
static const double fs_exp_d[11] = {
    0x1.0000000000000p-1,
    0x1.5555555555557p-3,
    0x1.5555555555556p-5,
    0x1.11111111100cep-7,
    0x1.6c16c16c162ccp-10,
    0x1.a01a01abef415p-13,
    0x1.a01a01a6dcaffp-16,
    0x1.71de021a90822p-19,
    0x1.27e4db57442fbp-22,
    0x1.af4e196027428p-26,
    0x1.1f731ea5352cap-29,
};
/* (log((1 + s) / (1 - s)) - 2s) / s^3 in z = s^2, s^2 <= 0.0295, fitted to 2.1e-18 */
static const double fs_log_d[8] = {
    0x1.5555555555555p-1,
    0x1.9999999999a39p-2,
    0x1.2492492476a1ap-2,
    0x1.c71c7201a55d7p-3,
    0x1.745cf8e4bba1bp-3,
    0x1.3b1c3c1c81c8fp-3,
    0x1.0fbde0f4ad17bp-3,
    0x1.0c0aff044a970p-3,
};
/* (sin(r) / r - 1) / z in z = r^2, |r| <= pi / 4, fitted to 1.2e-20 */
static const double fs_sin_d[7] = {
    -0x1.5555555555555p-3,
    0x1.1111111111110p-7,
    -0x1.a01a01a01992fp-13,
    0x1.71de3a545f836p-19,
    -0x1.ae645410e937bp-26,
    0x1.61217d9252c03p-33,
    -0x1.ab16f5caa198ap-41,
};
/* (cos(r) - 1 + z / 2) / z^2 in z = r^2, |r| <= pi / 4, fitted to 6.5e-22 */
static const double fs_cos_d[7] = {
    0x1.5555555555555p-5,
    -0x1.6c16c16c16c16p-10,
    0x1.a01a01a019d06p-16,
    -0x1.27e4fb77125c5p-22,
    0x1.1eed8deac3dfep-29,
    -0x1.9394b8bd50ae1p-37,
    0x1.ab779550c8d9bp-45,
};
/* erf(x) / x in z = x^2, |x| < 1, fitted to 7.4e-18 */
static const double fs_erf_0_d[12] = {
    0x1.20dd750429b6dp+0,
    -0x1.812746b0379c1p-2,
    0x1.ce2f21a040f66p-4,
    -0x1.b82ce31203772p-6,
    0x1.565bccfa44156p-8,
    -0x1.c02db0665e53dp-11,
    0x1.f9a2be4f731a1p-14,
    -0x1.f4ca838adb73bp-17,
    0x1.b981d78881a5dp-20,
    -0x1.5c131500d3f88p-23,
    0x1.d76af6ca49787p-27,
    -0x1.ac9585a44fe29p-31,
};
/* erf(c + t) in t, |t| <= 1/2, for c = 1.5, 2.5, 3.5, fitted to 9.5e-14 */
static const double fs_erf_d[3][14] = {
    {
        0x1.eea5557137785p-1,
        0x1.e723726b82557p-4,
        -0x1.6d5a95cf58ce0p-3,
        0x1.1c2a02beae564p-3,
        -0x1.6d5a971a07b2ep-5,
        -0x1.e7237249c801cp-7,
        0x1.3ca4151dccc99p-6,
        -0x1.36d740dac619dp-8,
        -0x1.35c48adfd7bcap-9,
        0x1.c039401e6addap-10,
        -0x1.754054b505c46p-14,
        -0x1.0aed35a828479p-12,
        0x1.150a27244af8dp-14,
        0x1.3384551805e6ap-16,
    },
    {
        0x1.ffcaa8f4c9c00p-1,
        0x1.1d83170fbcd23p-9,
        -0x1.64e3dcd4bc188p-8,
        0x1.119da0c56d1d7p-7,
        -0x1.1a89b95b87df0p-7,
        0x1.90e81203c29f2p-8,
        -0x1.6ecdcbc3e52cep-9,
        0x1.1c616c0bc5a7bp-11,
        0x1.11596e136f23ep-12,
        -0x1.067a143e4f29ap-12,
        0x1.4a2369de5ed2dp-14,
        0x1.6565d83b04dccp-18,
        -0x1.d07a93b72f283p-17,
        0x1.15c456aa68274p-18,
    },
    {
        0x1.ffffe710d5664p-1,
        0x1.6a597219a45cfp-18,
        -0x1.3d0e441c2b176p-16,
        0x1.62ccea64bb196p-15,
        -0x1.1c076dbdd36edp-14,
        0x1.586bafab0c3a1p-14,
        -0x1.4615a8b8e7aa5p-14,
        0x1.e82800fb4cf8ep-15,
        -0x1.1f599992c4e49p-15,
        0x1.013492aa2544cp-16,
        -0x1.3931e541c4987p-18,
        0x1.de722bd162784p-22,
        0x1.177bf19d6bf1dp-21,
        -0x1.475150bdb9973p-22,
    },
};

#endif
