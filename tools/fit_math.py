"""Fits the polynomials of RN1's elementary functions and prints src/kernels/math_const.h.

    python tools/fit_math.py > src/kernels/math_const.h

Each is a Chebyshev interpolation in 60 digits (mpmath), its coefficients then rounded to the working precision.
"""
import struct

from mpmath import chebyfit, cos, erf, exp, floor, log, mp, mpf, pi, sin, sqrt

mp.dps = 60


def f32_hex(v):
    f = struct.unpack("<f", struct.pack("<f", float(v)))[0]
    return f.hex().replace("0000000p", "p") + "f", mpf(f)


def f64_hex(v):
    f = float(v)
    return f.hex(), mpf(f)


def cut(v, bits):
    """v with all but its leading bits cleared, so that small integers times it are exact."""
    e = floor(log(abs(v), 2))
    s = mpf(2) ** (bits - 1 - e)
    return floor(v * s) / s


def emit_array(name, kind, coefs, note):
    to_hex = f32_hex if kind == "float" else f64_hex
    print(f"/* {note} */")
    print(f"static const {kind} {name}[{len(coefs)}] = {{")
    for c in coefs:
        print(f"    {to_hex(c)[0]},")
    print("};")


def emit_define(name, kind, v):
    print(f"#define {name} {(f32_hex if kind == 'float' else f64_hex)(v)[0]}")


def fit(f, lo, hi, n):
    """n coefficients, constant term first, and the maximal error."""
    poly, err = chebyfit(f, [mpf(lo), mpf(hi)], n, error=True)
    return poly[::-1], err


def around_zero(closed, coef, terms=40, near=mpf("0.01")):
    return lambda z: sum(coef(i) * z**i for i in range(terms)) if abs(z) < near else closed(z)


def fact(n):
    return mp.factorial(n)


half_ln2 = log(2) / 2 * mpf("1.0005")
exp_q = around_zero(lambda r: (exp(r) - 1 - r) / r**2, lambda i: 1 / fact(i + 2))
sin_s = around_zero(lambda z: (sin(sqrt(z)) / sqrt(z) - 1) / z, lambda i: (-1) ** (i + 1) / fact(2 * i + 3))
cos_c = around_zero(lambda z: (cos(sqrt(z)) - 1 + z / 2) / z**2, lambda i: (-1) ** i / fact(2 * i + 4))
log_p = around_zero(lambda z: (log((1 + sqrt(z)) / (1 - sqrt(z))) - 2 * sqrt(z)) / sqrt(z) ** 3, lambda i: mpf(2) / (2 * i + 3))
erf_p = around_zero(lambda z: erf(sqrt(z)) / sqrt(z), lambda i: 2 / sqrt(pi) * (-1) ** i / fact(i) / (2 * i + 1))

print("""/* Constants of RN1's elementary functions, made by tools/fit_math.py. How each is used: math.c, docs/RN1.md
 * section 3. Arrays hold the constant term first. */
#ifndef FS_KERNELS_MATH_CONST_H
#define FS_KERNELS_MATH_CONST_H
""")
ln2 = log(2)
emit_define("FS_LOG2E_F", "float", 1 / ln2)
ln2_hi = f32_hex(cut(ln2, 15))[1]
emit_define("FS_LN2_HI_F", "float", ln2_hi)
emit_define("FS_LN2_LO_F", "float", ln2 - ln2_hi)
c, e = fit(exp_q, -half_ln2, half_ln2, 5)
print()
emit_array("fs_exp_f", "float", c, f"(e^r - 1 - r) / r^2, |r| <= ln2 / 2, fitted to {float(e):.1e}")
print()
emit_define("FS_LOG2E_D", "double", 1 / ln2)
ln2_hi = f64_hex(cut(ln2, 42))[1]
emit_define("FS_LN2_HI_D", "double", ln2_hi)
emit_define("FS_LN2_LO_D", "double", ln2 - ln2_hi)
emit_define("FS_2_OVER_PI_D", "double", 2 / pi)
rest = pi / 2
for i in (1, 2, 3):
    part = cut(rest, 32)
    emit_define(f"FS_PIO2_{i}_D", "double", part)
    rest -= part
emit_define("FS_PIO2_4_D", "double", rest)
print()
c, e = fit(exp_q, -half_ln2, half_ln2, 11)
emit_array("fs_exp_d", "double", c, f"(e^r - 1 - r) / r^2, |r| <= ln2 / 2, fitted to {float(e):.1e}")
s2 = (sqrt(2) - 1) / (sqrt(2) + 1)
c, e = fit(log_p, 0, s2**2 * mpf("1.001"), 8)
emit_array("fs_log_d", "double", c, f"(log((1 + s) / (1 - s)) - 2s) / s^3 in z = s^2, s^2 <= 0.0295, fitted to {float(e):.1e}")
z1 = (pi / 4) ** 2 * mpf("1.001")
c, e = fit(sin_s, 0, z1, 7)
emit_array("fs_sin_d", "double", c, f"(sin(r) / r - 1) / z in z = r^2, |r| <= pi / 4, fitted to {float(e):.1e}")
c, e = fit(cos_c, 0, z1, 7)
emit_array("fs_cos_d", "double", c, f"(cos(r) - 1 + z / 2) / z^2 in z = r^2, |r| <= pi / 4, fitted to {float(e):.1e}")
c, e = fit(erf_p, 0, 1, 12)
emit_array("fs_erf_0_d", "double", c, f"erf(x) / x in z = x^2, |x| < 1, fitted to {float(e):.1e}")
print("/* erf(c + t) in t, |t| <= 1/2, for c = 1.5, 2.5, 3.5, fitted to", end=" ")
rows = []
worst = 0
for c0 in ("1.5", "2.5", "3.5"):
    c, e = fit(lambda t: erf(mpf(c0) + t), -0.5, 0.5, 14)
    worst = max(worst, e)
    rows.append(c)
print(f"{float(worst):.1e} */")
print("static const double fs_erf_d[3][14] = {")
for r in rows:
    print("    {")
    for v in r:
        print(f"        {f64_hex(v)[0]},")
    print("    },")
print("};")
print("\n#endif")
