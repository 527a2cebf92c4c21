#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/{tokenizer_json,encode,tool_parser,pickle}: small right files for the fuzzers to start from, out of tests/vectors.
The output is committed; run this again when the reader knows more."""
import collections
import fractions
import io
import json
import pickle
import zipfile
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

# One answer with calls in each format's markup; the first byte is fuzz_tool_parser.c's choice of format, and thinking.
(HERE / "corpus/tool_parser").mkdir(parents=True, exist_ok=True)
JSON = 'c\n<tool_call>\n{"name": "f", "arguments": {"a": "}\\"", "b": [1]}}\n</tool_call>\n<tool_call>\n{"name": "g", "arguments": "{}"}\n</tool_call>\n'
CALL = "<｜tool▁call▁begin｜>%s<｜tool▁call▁end｜>"
MARKERS = "c<｜tool▁calls▁begin｜>%s%s<｜tool▁calls▁end｜> d"
OLD, NEW = CALL % 'function<｜tool▁sep｜>f\n```json\n{"a": 1}\n```', CALL % 'f<｜tool▁sep｜>{"a": 1}'


def dsml(calls, space):
    tag = lambda name, rest: f"<｜DSML｜{space}{name}{rest}>"
    value = lambda key, string, v: tag("parameter", f' name="{key}" string="{string}"') + v + f"</｜DSML｜{space}parameter>\n"
    call = tag("invoke", ' name="f"') + "\n" + value("a", "true", "x\ny") + value("b", "false", '{"k": [1]}') + f"</｜DSML｜{space}invoke>\n"
    return f"c\n\n<｜DSML｜{calls}>\n{call}{call}</｜DSML｜{calls}> d"


ANSWERS = [JSON, JSON, JSON, JSON, JSON, JSON, JSON, MARKERS % (OLD, "\n" + OLD), MARKERS % (OLD, "\n" + OLD), MARKERS % (NEW, NEW),
           dsml("function_calls", ""), dsml("tool_calls", ""), dsml(" calls", " ")]
for i, answer in enumerate(ANSWERS):
    (HERE / f"corpus/tool_parser/{i}").write_bytes(bytes([i, 7]) + answer.encode())
    thinking = next(k for k in range(64, 128) if k % len(ANSWERS) == i)
    (HERE / f"corpus/tool_parser/{i}_thinking").write_bytes(bytes([thinking, 7]) + ("<think>\n" * (i in (1, 4)) + "r\n</think>\n\n" + answer).encode())

# Every protocol's opcodes, one pickle after another, and zips with pickles in them.
(HERE / "corpus/pickle").mkdir(parents=True, exist_ok=True)
VALUE = [collections.OrderedDict(a=[1, -2, 300, 70000, 1 << 70, 1.5, None, True, "s", "\xe9", b"b", bytearray(b"c")]), {1: (2,)}, (), {3}, frozenset((4, 5, 6, 7)), fractions.Fraction(1, 2), len]
for protocol in range(6):
    (HERE / f"corpus/pickle/{protocol}").write_bytes(pickle.dumps(VALUE, protocol) + pickle.dumps({}, protocol))
for name, how in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as z:
        z.writestr(zipfile.ZipInfo("a/data.pkl"), pickle.dumps(VALUE, 2), how)
    (HERE / f"corpus/pickle/{name}.zip").write_bytes(out.getvalue())
