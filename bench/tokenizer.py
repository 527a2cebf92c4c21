#!/usr/bin/env python3
"""Tokenizer speed beside its peers: tokenizer.py TOKENIZERS PROGRAM [OUT.csv]

TOKENIZERS: a folder with deepseek/tokenizer.json, llama3/tokenizer.json, qwen2/qwen.tiktoken (tests/e2e/test_tokenizer.py
fetches them) and, if there, SmolLM2's GGUF; PROGRAM: bench/tokenizer.c built. Texts: Python's own help topics (prose), its library's source (code),
the texts of the tokenizer vectors (mixed: many scripts). One thread, CPU time, best of 5. Peers: Hugging Face
tokenizers (with TOKENIZERS_PARALLELISM off) and tiktoken with the ranks of qwen2."""
import base64
import csv
import glob
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
import pydoc_data.topics
import tiktoken
import tokenizers

folder, program = sys.argv[1:3]
root = pathlib.Path(__file__).resolve().parents[1]
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def texts():
    topics = pydoc_data.topics.topics
    library = sorted(glob.glob(os.path.dirname(os.__file__) + "/*.py"))
    cases = json.loads((root / "tests/vectors/tokenizer_deepseek.json").read_text())["cases"]
    return {"prose": "\n".join(topics[k] for k in sorted(topics)),
            "code": "".join(open(f, encoding="utf-8", errors="ignore").read() for f in library)[:2000000],
            "mixed": "\n".join(c["text"] for c in cases) * 20}


def best(fn):
    times = []
    for _ in range(5):
        start = time.process_time()
        result = fn()
        times.append(time.process_time() - start)
    return min(times), result


def cpu():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


commit = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
rows = []
add = lambda who, what, kind, n_bytes, n_ids, s: rows.append(
    [who, kind, what, n_bytes, n_ids, f"{s:.4f}", f"{n_bytes / s / 1e6:.2f}", cpu(), commit])
with tempfile.TemporaryDirectory() as tmp:
    files = {name: f"{tmp}/{name}" for name in texts()}
    for name, text in texts().items():
        open(files[name], "w", encoding="utf-8", newline="").write(text)
    for kind in ("deepseek", "llama3"):
        path = f"{folder}/{kind}/tokenizer.json"
        ours = {}
        out = subprocess.run([program, path, *files.values()], capture_output=True, text=True, check=True).stdout
        for line in out.splitlines():
            f = line.split(",")
            if f[0] == "open":
                add("farseek", "open", kind, int(f[2]), "", float(f[3]))
            else:
                ours[os.path.basename(f[1])] = int(f[3])
                add("farseek", os.path.basename(f[1]), kind, int(f[2]), int(f[3]), float(f[4]))
        s, t = best(lambda: tokenizers.Tokenizer.from_file(path))
        add(f"tokenizers {tokenizers.__version__}", "open", kind, os.path.getsize(path), "", s)
        t.encode_special_tokens = True
        for name, text in texts().items():
            s, ids = best(lambda: t.encode(text, add_special_tokens=False).ids)
            add(f"tokenizers {tokenizers.__version__}", name, kind, len(text.encode()), len(ids), s)
            assert len(ids) == ours[name], (kind, name, len(ids), ours[name])
    gguf = f"{folder}/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    if os.path.exists(gguf):
        for line in subprocess.run([program, gguf, *files.values()], capture_output=True, text=True, check=True).stdout.splitlines():
            f = line.split(",")
            if f[0] == "open":
                add("farseek", "open", "smollm2.gguf", int(f[2]), "", float(f[3]))
            else:
                add("farseek", os.path.basename(f[1]), "smollm2.gguf", int(f[2]), int(f[3]), float(f[4]))
    ranks = {base64.b64decode(l.split()[0]): int(l.split()[1]) for l in open(f"{folder}/qwen2/qwen.tiktoken", "rb") if l.strip()}
    t = tiktoken.Encoding("qwen2", pat_str=QWEN2, mergeable_ranks=ranks, special_tokens={})
    for name, text in texts().items():
        s, ids = best(lambda: t.encode_ordinary(text))
        add(f"tiktoken {tiktoken.__version__}", name, "qwen2", len(text.encode()), len(ids), s)
out = open(sys.argv[3], "w", newline="") if len(sys.argv) > 3 else sys.stdout
w = csv.writer(out, lineterminator="\n")
w.writerow(["program", "tokenizer", "text", "bytes", "ids", "cpu_seconds_best_of_5", "mb_per_s", "machine", "commit"])
w.writerows(rows)
