#!/usr/bin/env python3
"""A random model of DeepSeek-V3's architecture that is larger than the memory it is to run in, for bench/streaming.py:

  large_moe.py OUT.gguf TOKENIZER.gguf     writes it: Q8_0, 10.3 GiB
  large_moe.py --skew S OUT.gguf           changes how its experts are chosen: the routers' biases get the spread S

25 layers, the first dense; 64 experts of 6.7 MB in each of the others, of which a token gets six, and a shared one: 9.6 GiB are routed
experts. Biases of spread 0.01, as written, leave all experts about alike; 0.2 makes some hot. Otherwise as dsv3mini.py, whose packages it
needs."""
import sys

import dsv3mini
import gguf
import numpy as np

LAYERS, HIDDEN, EXPERT_FFN = 25, 2048, 1024
BLOCK = np.dtype([("d", np.float16), ("q", np.int8, 32)])
ROWS = 4096  # of a tensor, at a time
SPREAD_OF_CODES = 73.3  # integers from -127 to 127, all alike


def codes(rng, name, shape):
    """Bytes of a Q8_0 tensor, some rows at a time."""
    spread = 0.02 if name == "token_embd" else shape[-1] ** -0.5
    rows = int(np.prod(shape[:-1]))
    for begin in range(0, rows, ROWS):
        b = np.empty((min(ROWS, rows - begin), shape[-1] // 32), BLOCK)
        b["d"] = spread / SPREAD_OF_CODES
        b["q"] = rng.integers(-127, 128, b["q"].shape, np.int8)
        yield b


def write(out, source):
    dsv3mini.LAYERS, dsv3mini.HIDDEN, dsv3mini.EXPERT_FFN = LAYERS, HIDDEN, EXPERT_FFN
    rng = np.random.default_rng(1)
    w = gguf.GGUFWriter(out, "deepseek2")
    dsv3mini.header(w, "large_moe", source)
    for name, shape, kind in dsv3mini.tensors():
        n = int(np.prod(shape))
        if kind == dsv3mini.F16:
            w.add_tensor_info(dsv3mini.file_name(name), shape[:-1] + (shape[-1] // 32 * 34,), np.dtype(np.uint8), n // 32 * 34,
                              raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            w.add_tensor_info(dsv3mini.file_name(name), shape, np.dtype(np.float32), 4 * n)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    f = w.fout[0]
    for name, shape, kind in dsv3mini.tensors():
        w.write_padding(f, f.tell())
        if kind == dsv3mini.F16:
            for part in codes(rng, name, shape):
                part.tofile(f)
        else:
            dsv3mini.values(rng, name, shape, kind).tofile(f)
        w.write_padding(f, f.tell())
    w.close()


def skew(path, spread):
    rng = np.random.default_rng(2)
    for t in gguf.GGUFReader(path, "r+").tensors:
        if t.name.endswith("exp_probs_b.bias"):
            t.data[:] = rng.standard_normal(t.data.shape, np.float32) * np.float32(spread)


if __name__ == "__main__":
    if sys.argv[1] == "--skew":
        skew(sys.argv[3], float(sys.argv[2]))
    else:
        write(*sys.argv[1:3])
