#!/usr/bin/env python3
"""tools_<format>.json: make_tool_vectors.py OUTDIR TEMPLATES ENCODING

Conversations with tools, rendered by Jinja with the published chat templates (qwen2, qwen3: as make_template_vectors.py;
deepseek-v3.1: DeepSeek-V3.1-Terminus, without tools in the system prompt, which the template does not know) and by
ENCODING, encoding/encoding_dsv32.py of DeepSeek-V3.2 (deepseek-v3.2)."""
import importlib.util
import json
import random
import sys

import jinja2

out, templates, encoding = sys.argv[1:]
spec = importlib.util.spec_from_file_location("encoding", encoding)
dsv32 = importlib.util.module_from_spec(spec)
spec.loader.exec_module(dsv32)
TEXT = ["Hi", "What is 2+2?", "写一首诗。", "line1\nline2\n", "\n\nafter newlines", "  padded  ", "emoji 😀", 'quote "x" & <tag>', "", "a long sentence " * 8, "NUL\x00in", "</think>x"]
NAMES = ["get_weather", "search", "运行", "db.query"]
VALUES = ["Paris", "", 3, 2.5, 1e-7, 1e22, True, None, [1, "x", []], {"k": "v", "a": {}}, "multi\nline", '"q" \\ \u2028\x07', 2**63]


def tool(R):
    properties = {k: {"type": R.choice(["string", "integer", "array"]), "default": R.choice(VALUES)} for k in R.sample(["city", "n", "路径"], R.randint(0, 3))}
    f = {"name": R.choice(NAMES), "description": R.choice(["desc", '描述 "q"', ""]), "parameters": {"type": "object", "properties": properties}}
    if R.random() < .3:
        f["strict"] = True
    return {"type": "function", "function": f}


def conversation(R, name):
    m, ids = [], 0
    if R.random() < .5:
        m.append({"role": "system", "content": R.choice(TEXT)})
    for _ in range(R.randint(1, 3)):
        m.append({"role": "user", "content": R.choice(TEXT)})
        while R.random() < .5:
            calls = []
            for _ in range(R.randint(1, 3)):
                arguments = {k: R.choice(VALUES) for k in R.sample(["city", "n", "flag", "x y"], R.randint(0, 4))}
                calls.append({"id": f"call_{ids}", "type": "function", "function": {"name": R.choice(NAMES), "arguments": json.dumps(arguments, ensure_ascii=False)}})
                ids += 1
            m.append({"role": "assistant", "content": R.choice(["", "ok", "let me check\n", "\n"]), "tool_calls": calls})
            if R.random() < .6:
                m[-1]["reasoning_content"] = R.choice(["because", "多步\n推理"])
            for c in calls:
                m.append({"role": "tool", "tool_call_id": c["id"], "content": R.choice(TEXT)})
        if R.random() < .8:
            m.append({"role": "assistant", "content": R.choice(TEXT), "reasoning_content": R.choice(["because", "\nmany\n\nlines\n"])})
    if name == "deepseek-v3.2" and m[-1]["role"] == "assistant":
        m.append({"role": "user", "content": R.choice(TEXT)})
    return m


def parsed_arguments(messages):
    """What the Qwen templates expect: arguments as objects."""
    m = json.loads(json.dumps(messages))
    for x in m:
        for c in x.get("tool_calls", []):
            c["function"]["arguments"] = json.loads(c["function"]["arguments"])
    return m


def render_v32(messages, tools, thinking):
    m = json.loads(json.dumps(messages))
    if tools:
        if m[0]["role"] != "system":
            m.insert(0, {"role": "system", "content": ""})
        m[0]["tools"] = tools
    return dsv32.encode_messages(m, "thinking" if thinking else "chat")


env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
env.filters["tojson"] = lambda x: json.dumps(x, ensure_ascii=False)
for name in ["qwen2", "qwen3", "deepseek-v3.1", "deepseek-v3.2"]:
    R = random.Random(name)
    template = None if name == "deepseek-v3.2" else env.from_string(open(f"{templates}/{name}.jinja", newline="").read())
    cases = []
    while len(cases) < 40:
        m, thinking = conversation(R, name), R.random() < .6
        tools = [tool(R) for _ in range(R.randint(1, 3))] if name != "deepseek-v3.1" and R.random() < .7 else []
        generate = name == "deepseek-v3.2" or R.random() < .8
        if template:
            prompt = template.render(messages=parsed_arguments(m) if name.startswith("qwen") else m, tools=tools or None, thinking=thinking,
                                     enable_thinking=thinking, add_generation_prompt=generate, bos_token="<｜begin▁of▁sentence｜>")
        else:
            prompt = render_v32(m, tools, thinking)
        cases.append({"messages": m, "tools": tools, "thinking": thinking, "add_generation_prompt": generate, "prompt": prompt})
    json.dump({"format": name, "cases": cases}, open(f"{out}/tools_{name}.json", "w"), separators=(",", ":"))
    print(name, len(cases))
