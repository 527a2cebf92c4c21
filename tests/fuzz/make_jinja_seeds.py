#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/jinja: the chat templates and some of the small ones of tests/vectors. The output is committed."""
import json
from pathlib import Path

HERE = Path(__file__).parent
VECTORS = HERE.parent / "vectors"
out = HERE / "corpus/jinja"
out.mkdir(parents=True, exist_ok=True)
for t in json.loads((VECTORS / "jinja_templates.json").read_text())["templates"]:
    (out / t["name"]).write_text(t["text"], newline="")
cases = [c[0] for c in json.loads((VECTORS / "jinja_cases.json").read_text())["cases"]]
for i in range(0, len(cases), 40):
    (out / f"cases{i // 40}").write_text("\n".join(cases[i::len(cases) // 40 + 1][:8]), newline="")
