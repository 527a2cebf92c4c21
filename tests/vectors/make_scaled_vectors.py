#!/usr/bin/env python3
"""Writes scaled/{weights.safetensors,values.bin}: block-scaled matrices as V4 stores them, and their values by numpy.

  fp8.weight  F8_E4M3 [24, 40], every code but NaN     fp8.scale  F8_E8M0 [2, 3], blocks of [16, 16]
  fp4.weight  I8 [24, 96 / 2], every byte              fp4.scale  F8_E8M0 [24, 3], every 32 columns; 0, 1 and 254 among them
  odd.weight  I8 [5, 34 / 2]                           odd.scale  F8_E8M0 [5, 2]

values.bin: the f32 values of fp4, fp8 and odd in this order, little-endian. FP4's -0 counts as +0.
Needs: pip install numpy. Run it in this folder; the output is the same every time.
"""
import json
import struct

import numpy as np

rng = np.random.default_rng(20261125)
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float64)


def e4m3(b):
    exp, frac = (b >> 3 & 15).astype(int), (b & 7) / 8.0
    x = np.where(exp > 0, (1 + frac) * 2.0 ** (exp - 7), frac * 2.0 ** -6)
    return np.where(b & 128, -x, x)


def e8m0(b):
    return 2.0 ** (b.astype(int) - 127)


def values(q, scale, block_rows, block_cols):
    s = np.repeat(np.repeat(e8m0(scale), block_rows, 0), block_cols, 1)[: q.shape[0], : q.shape[1]]
    with np.errstate(over="ignore"):
        return (q * s).astype("<f4")  # exact in f64 but for the sizes beyond f32, so this is one rounding


codes = np.array([b for b in range(256) if b & 127 != 127], dtype=np.uint8)
fp8 = np.concatenate([codes, rng.choice(codes, 24 * 40 - len(codes))]).reshape(24, 40)
fp8_scale = np.array([[127, 0, 254], [1, 118, 130]], dtype=np.uint8)
fp4 = np.concatenate([np.arange(256), rng.integers(0, 256, 24 * 48 - 256)]).astype(np.uint8).reshape(24, 48)
fp4_scale = rng.integers(90, 160, (24, 3)).astype(np.uint8)
fp4_scale[20] = [0, 1, 254]
odd, odd_scale = rng.integers(0, 256, (5, 17), dtype=np.uint8), rng.integers(100, 140, (5, 2)).astype(np.uint8)


def unpack(packed):
    return E2M1[np.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1)]


header, blob = {}, b""
for name, dtype, a in [("fp8.weight", "F8_E4M3", fp8), ("fp8.scale", "F8_E8M0", fp8_scale), ("fp4.weight", "I8", fp4),
                       ("fp4.scale", "F8_E8M0", fp4_scale), ("odd.weight", "I8", odd), ("odd.scale", "F8_E8M0", odd_scale)]:
    header[name] = {"dtype": dtype, "shape": a.shape, "data_offsets": [len(blob), len(blob) + a.size]}
    blob += a.tobytes()
text = json.dumps(header).encode()
with open("scaled/weights.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + blob)
with open("scaled/values.bin", "wb") as f:
    f.write(values(unpack(fp4), fp4_scale, 1, 32).tobytes())
    f.write(values(e4m3(fp8), fp8_scale, 16, 16).tobytes())
    f.write(values(unpack(odd), odd_scale, 1, 32).tobytes())
