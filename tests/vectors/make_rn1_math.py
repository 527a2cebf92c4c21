"""RN1 section 3 once more, from its text: the algorithms in exact rational arithmetic with one rounding a step, the
coefficients read from docs/RN1.md. Shares no code with src/kernels; test_math.c compares the bits.

    python tests/vectors/make_rn1_math.py docs/RN1.md > tests/vectors/rn1_math.h
"""
import math
import random
import re
import struct
import sys
from fractions import Fraction as Q

text = open(sys.argv[1], encoding="utf-8").read()
text = text[text.index("## 3."):text.index("## 4.")]
HEX = r"-?0x[0-9a-f.]+p[+-]\d+"
const = {k: Q(float.fromhex(v)) for k, v in re.findall(rf"(\w+) = ({HEX})", text)}
coef = {}
for name, body in re.findall(rf"^(E32|E64|L64|S64|C64|R\d): +((?:{HEX}\s+)+)", text, re.M):
    coef[name] = [Q(float.fromhex(v)) for v in body.split()]
assert [len(coef[k]) for k in ("E32", "E64", "L64", "S64", "C64", "R0", "R1", "R2", "R3")] == [5, 11, 8, 7, 7, 12, 14, 14, 14]


def rounder(bits, e_min):
    """Nearest even to a number of bits, spacing at least 2^e_min. No overflow: the inputs below avoid it."""

    def fl(v):
        if v == 0:
            return Q(0)
        a = abs(v)
        e = a.numerator.bit_length() - a.denominator.bit_length()
        e += 1 if Q(2) ** e <= a else 0
        while Q(2) ** e <= a:
            e += 1
        while Q(2) ** (e - 1) > a:
            e -= 1
        step = Q(2) ** max(e - bits, e_min)
        return round(v / step) * step  # Python rounds halves to even

    return fl


s = rounder(24, -149)
d = rounder(53, -1074)


def horner(fl, name, x):
    c = coef[name]
    p = c[-1]
    for v in reversed(c[:-1]):
        p = fl(p * x + v)
    return p


def scaled(fl, p, n):
    a = n.numerator // 2
    return fl(fl(p * Q(2) ** a) * Q(2) ** (n.numerator - a))


def exp32(x):
    x = min(max(x, Q(-104)), Q(89))
    m = Q(float.fromhex("0x1.8p+23"))
    t = s(x * const["L2E32"] + m)
    n = s(t - m)
    r = s(x - n * const["LH32"])
    r = s(r - n * const["LL32"])
    q = horner(s, "E32", r)
    p = s(1 + r)
    p = s(p + s(s(r * r) * q + s(r - s(p - 1))))
    return scaled(s, p, n)


def expsum(h, l):
    m = Q(float.fromhex("0x1.8p+52"))
    t = d(h * const["L2E64"] + m)
    n = d(t - m)
    r = d(h - n * const["LH64"])
    w = d(n * const["LL64"])
    u = d(r - w)
    l = d(l + d(d(r - u) - w))
    rh = d(u + l)
    rl = d(l - d(rh - u))
    q = horner(d, "E64", rh)
    p = d(1 + rh)
    e = d(rh - d(p - 1))
    p = d(p + d(e + d(d(rh * rh) * q + d(rl * rh + rl))))
    return scaled(d, p, n)


def logsum(x):
    k = 0
    if x < Q(2) ** -1022:
        x, k = x * 2**54, -54
    low = Q(float.fromhex("0x1.6a09e667f3bcdp-1"))
    m = x
    while m >= 2 * low:
        m, k = m / 2, k + 1
    while m < low:
        m, k = m * 2, k - 1
    f = d(m - 1)
    dh = d(2 + f)
    dl = d(f - d(dh - 2))
    sh = d(f / dh)
    sl = d(d(-sh * dl + d(-sh * dh + f)) / dh)
    z = d(sh * sh)
    p = horner(d, "L64", z)
    a = d(k * const["LH64"])
    c = d(2 * sh)
    hi = d(a + c)
    lo = d(c - d(hi - a))
    lo = d(lo + d(k * const["LL64"] + d(d(z * sh) * p + d(2 * sl))))
    h = d(hi + lo)
    return h, d(lo - d(h - hi))


def log1p64(x):
    u = d(1 + x)
    c = d(1 - d(u - x)) if x >= 1 else d(x - d(u - 1))
    h, l = logsum(u)
    return d(h + d(l + d(c / u)))


def pow64(x, y):
    hi, lo = logsum(x)
    h = d(y * hi)
    return expsum(h, d(y * lo + d(y * hi - h)))


def twodiff(a, b):
    h = d(a - b)
    v = d(h - a)
    return h, d(d(a - d(h - v)) - d(b + v))


def sincos64(x):
    m = Q(float.fromhex("0x1.8p+52"))
    n = d(d(x * const["TOP"] + m) - m)
    r = d(x - n * const["P1"])
    rh, e1 = twodiff(r, d(n * const["P2"]))
    rh, e2 = twodiff(rh, d(n * const["P3"]))
    e = d(-n * const["P4"] + d(e1 + e2))
    r = d(rh + e)
    rl = d(e - d(r - rh))
    rh = r
    z = d(rh * rh)
    zl = d(rh * rh - z)
    sn = d(rh + d(d(rh * z) * horner(d, "S64", z) + d(rl * d(1 - z / 2))))
    h = d(z / 2)
    c = d(1 - h)
    cs = d(c + d(d(d(1 - c) - h) + d(d(z * z) * horner(d, "C64", z) - d(rh * rl + d(zl / 2)))))
    return [(sn, cs), (cs, -sn), (-sn, -cs), (-cs, sn)][n.numerator % 4]


def erf32(x):
    a = abs(x)
    if a < 1:
        return s(d(x * horner(d, "R0", d(x * x))))
    i = math.floor(a) if a < 4 else None
    if i is None:
        return Q(1) if x > 0 else Q(-1)
    v = horner(d, f"R{i}", d(a - i - Q(1, 2)))
    return s(v if x > 0 else -v)


random.seed(20251124)


def f32(v):
    return Q(struct.unpack("<f", struct.pack("<f", v))[0])


def rows(name, c_type, inputs, f):
    print(f"static const {c_type} {name}[][{2 if c_type == 'float' else 3}] = {{")
    suffix = "f" if c_type == "float" else ""
    for x in inputs:
        out = f(*x)
        cells = list(x) + (list(out) if isinstance(out, tuple) else [out])
        print("    { " + ", ".join(float(v).hex() + suffix for v in cells) + " },")
    print("};")


def uniform(lo, hi, n, cast=Q):
    return [(cast(random.uniform(lo, hi)),) for _ in range(n)]


def spread(lo, hi, n, cast=Q):
    return [(cast(math.exp(random.uniform(math.log(lo), math.log(hi)))),) for _ in range(n)]


print("/* Made by make_rn1_math.py from the text of docs/RN1.md: inputs and, last, results. */")
rows("rn1_exp32", "float", uniform(-105, 88.7, 60, f32) + uniform(-1, 1, 20, f32) + uniform(-104, -87, 20, f32), exp32)
rows("rn1_log32", "float", spread(1e-44, 3e38, 30, f32) + uniform(0.5, 2, 20, f32), lambda x: s(logsum(x)[0]))
rows("rn1_log1p32", "float", spread(1e-30, 1e30, 20, f32) + uniform(-0.99, 0.5, 20, f32), lambda x: s(log1p64(x)))
rows("rn1_erf32", "float", uniform(-4.2, 4.2, 40, f32) + spread(1e-30, 1, 10, f32), erf32)
two = [(a, Q(0)) for a, in uniform(-745, 709, 40) + uniform(-1, 1, 20)]
rows("rn1_exp64", "double", two, expsum)
rows("rn1_log64", "double", [(a, Q(0)) for a, in spread(1e-300, 1e300, 30) + uniform(0.6, 1.5, 20)], lambda x, _: logsum(x)[0])
rows("rn1_log1p64", "double", [(a, Q(0)) for a, in spread(1e-25, 1e20, 25) + uniform(-0.99, 0.5, 25)], lambda x, _: log1p64(x))
rows("rn1_pow64", "double", [(a, Q(-random.random())) for a, in spread(100, 1e8, 50)], pow64)
rows("rn1_sincos64", "double", uniform(-(2.0**21), 2.0**21, 30) + uniform(-4, 4, 30), sincos64)
