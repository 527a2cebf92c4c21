#!/usr/bin/env python3
"""Writes blocks.bin: random blocks of each GGUF block format and their values by PyPI gguf (quants.py).

For each format: u32 ggml type, u32 number of blocks, u32 bytes a block, u32 elements a block, the blocks, then the
f32 values. Little-endian. Every NaN is written as 0x7fc00000, since which NaN comes out is unspecified.
Needs: pip install numpy gguf. Run it in this folder; the output is the same every time.
"""
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

FORMATS = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS, T.MXFP4,
           T.NVFP4, T.IQ1_S, T.IQ1_M, T.IQ2_XXS, T.IQ2_XS, T.IQ2_S, T.IQ3_XXS, T.IQ3_S, T.TQ1_0, T.TQ2_0]
N_BLOCKS = {32: 48, 64: 64, 256: 12}

rng = np.random.default_rng(20261124)
np.seterr(all="ignore")
with open("blocks.bin", "wb") as out:
    for t in FORMATS:
        n_elems, n_bytes = GGML_QUANT_SIZES[t]
        n = N_BLOCKS[n_elems]
        # Uniform bytes reach every bit pattern: scales that are denormal, infinite or NaN too.
        blocks = rng.integers(0, 256, size=(n, n_bytes), dtype=np.uint8)
        if t == T.MXFP4:
            blocks[:4, 0] = [0, 1, 2, 255]
        if t == T.NVFP4:
            blocks[:, :4] = np.arange(256).reshape(64, 4)
        values = dequantize(blocks, t).astype(np.float32).reshape(n, n_elems)
        bits = np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32))
        out.write(struct.pack("<4I", int(t), n, n_bytes, n_elems))
        out.write(blocks.tobytes())
        out.write(bits.astype("<u4").tobytes())
