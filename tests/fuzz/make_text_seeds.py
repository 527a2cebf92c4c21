#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/{tokenizer_json,encode}: small right files for the fuzzers to start from, out of tests/vectors.
The output is committed; run this again when the reader knows more."""
import json
from pathlib import Path

HERE = Path(__file__).parent
VECTORS = HERE.parent / "vectors"
base = json.loads((VECTORS / "tiny_tokenizer.json").read_text())
variants = json.loads((VECTORS / "tiny_tokenizer_ids.json").read_text())["variants"]
(HERE / "corpus/tokenizer_json").mkdir(parents=True, exist_ok=True)
(HERE / "corpus/encode").mkdir(parents=True, exist_ok=True)

for variant in variants:
    model = {**base["model"], "vocab": dict(list(base["model"]["vocab"].items())[:40]), "merges": []}
    j = {**base, "model": model, "added_tokens": base["added_tokens"][:4]}
    for key, value in variant["changes"].items():
        if key == "model.merges":
            j["model"]["vocab"], j["added_tokens"] = {"a": 0, "b": 1, "ab": 2}, []
            j["model"]["merges"] = [["a", "b"]] if variant["name"] == "pairs" else ["a b"]
        elif "." in key:
            j["model"][key.split(".")[1]] = value
        else:
            j[key] = value
    (HERE / "corpus/tokenizer_json" / variant["name"]).write_text(json.dumps(j, ensure_ascii=False))
for i, row in enumerate(variants[0]["rows"][::12]):
    (HERE / "corpus/encode" / str(i)).write_bytes(bytes([i % 16]) + row["text"].encode())
