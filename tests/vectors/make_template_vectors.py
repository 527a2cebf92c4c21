#!/usr/bin/env python3
"""chat_<format>.json: make_template_vectors.py OUTDIR TOKENIZERS TEMPLATES

Conversations rendered by Jinja with the published chat templates, and their token ids. TEMPLATES is a folder of
<format>.jinja, the chat_template texts of: Qwen/Qwen2.5-7B-Instruct (qwen2), Qwen/Qwen3-0.6B (qwen3), SmolLM2's GGUF
(smollm2), Meta-Llama-3-8B-Instruct with add_generation_prompt honoured (llama3), DeepSeek-V3 (deepseek-v3), DeepSeek-R1
with its generation prompt "<think>\\n" (deepseek-r1), the generic one (chatml); their SHA-256 is in the vectors.
TOKENIZERS is a folder with deepseek/tokenizer.json, llama3/tokenizer.json, smollm2.gguf."""
import hashlib
import json
import random
import sys

import jinja2
from tokenizers import Tokenizer

import make_smollm2_vectors

out, toks, templates = sys.argv[1:]
TEXT = ["Hi", "What is 2+2?", "写一首诗。", "line1\nline2\n", "\n\nafter newlines", "  padded  ", "emoji 😀👍🏽", '{"a": 1}', 'quote "x" & <tag>', "", "Ünïcode é",
        "tab\tend\t", "\u3000wide\u00a0", "\x1cctl\x1f", "\u200bzero", "a long sentence " * 12, "code:\n```c\nint x;\n```\n", "\r\nwin\r\n", "NUL\x00in", "<tool_response>not one"]
ANSWER = TEXT + ["<think>\nsteps\n</think>\n\nThe answer.", "steps</think>Yes", "<think>\n\n</think>\n\n", "<think>a</think>b</think>\n\nc", "<think>x<think>y\n</think>z"]
REASONS = [None, None, None, "because", "\nmany\n\nlines\n", "多步\n推理"]
BOS = {"llama3": "<|begin_of_text|>"}
MARKERS = ("<think>", "</think>", "<tool_response>")


def conversation(R):
    m = []
    if R.random() < .4:
        m.append({"role": "system", "content": R.choice(TEXT)})
    for _ in range(R.randint(1, 4)):
        m.append({"role": "user", "content": R.choice(TEXT)})
        if R.random() < .8:
            m.append({"role": "assistant", "content": R.choice(ANSWER)})
            r = R.choice(REASONS)
            if r is not None:
                m[-1]["reasoning_content"] = r
        if R.random() < .06:
            m.append({"role": "system", "content": R.choice(TEXT)})
    return m


def encoder(name):
    if name == "smollm2":
        t = make_smollm2_vectors.smollm2(f"{toks}/smollm2.gguf")
    elif name == "llama3":
        t = Tokenizer.from_file(f"{toks}/llama3/tokenizer.json")
    elif name.startswith("deepseek"):
        t = Tokenizer.from_file(f"{toks}/deepseek/tokenizer.json")
    else:
        return None
    return lambda s: t.encode(s, add_special_tokens=False).ids


env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False)
for name in ["chatml", "qwen2", "qwen3", "smollm2", "llama3", "deepseek-v3", "deepseek-r1"]:
    R = random.Random(name)
    text = open(f"{templates}/{name}.jinja", newline="").read()
    template, encode, cases = env.from_string(text), encoder(name), []
    while len(cases) < 100:
        m, thinking, gen = conversation(R), R.random() < .6, R.random() < .8
        prompt = template.render(messages=m, add_generation_prompt=gen, bos_token=BOS.get(name, "<｜begin▁of▁sentence｜>"),
                                 eos_token="<｜end▁of▁sentence｜>", enable_thinking=thinking)
        case = {"messages": m, "thinking": thinking, "add_generation_prompt": gen, "prompt": prompt}
        # What somebody wrote never becomes a marker here; in the reference it does, so ids are compared elsewhere.
        if encode and not any(k in (x["content"] or "") for x in m for k in MARKERS):
            case["ids"] = encode(prompt)
        cases.append(case)
    json.dump({"format": name, "template_sha256": hashlib.sha256(text.encode()).hexdigest(), "jinja2": jinja2.__version__, "cases": cases},
              open(f"{out}/chat_{name}.json", "w"), separators=(",", ":"))
    print(name, sum("ids" in c for c in cases), "with ids")
