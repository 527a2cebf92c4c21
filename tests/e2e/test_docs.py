"""Every command that README.md, CONTRIBUTING.md and docs/ show is run here, page by page and in order, in a folder that looks like a
checkout. Conventions of the pages:

- ```sh blocks are pasted into a shell. $MODEL and its like are what VARIABLES makes; a page's blocks share the folder.
- ```console blocks: after "$ " a command, below it what it prints (stderr too); "..." stands for any text, alone on a line for
  any lines. "> " lines are typed into the command's terminal.
- "# not run: WHY" as a block's first line keeps it from being run; NOT_RUN counts those blocks.
- Commands within a line of text, `farseek ...` and `make ...`, are not run; their commands, options and targets must exist."""
import json
import os
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
import safetensors.numpy

import scripted
from conftest import ROOT
from test_run import BINARY, Terminal
from test_smollm2 import smollm2  # noqa: F401: the fixture

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md", ROOT / "BASELINE.md", *(ROOT / "docs").glob("*.md")])
NOT_RUN = {"BASELINE.md": 2, "CONTRIBUTING.md": 1, "README.md": 1, "bench.md": 2, "federation.md": 2, "hub.md": 6, "train.md": 1}
PLAIN = len(BINARY) == 1 and BINARY[0] == str(ROOT / "build" / "farseek")
QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def blocks(page):
    """(language, first line's number, lines) of every block; indented ones have the language "indented"."""
    found, fence, indented = [], None, None
    for number, line in enumerate(page.read_text().splitlines() + [""], 1):
        if fence is None and line.startswith("```"):
            fence = (line[3:].strip(), number + 1, [])
        elif fence is not None and line.startswith("```"):
            found.append(fence)
            fence = None
        elif fence is not None:
            fence[2].append(line)
        elif line.startswith("    "):
            indented = indented or ("indented", number, [])
            indented[2].append(line.strip())
        elif indented:
            found.append(indented)
            indented = None
    assert fence is None, f"{page.name}: a block is not closed"
    return found


def not_run(block):
    return block[0] in ("sh", "console") and block[2] and block[2][0].startswith("# not run: ")


# ---- what the pages name ----

def small_model(folder):
    """Like the models of scripted.py, with a tokenizer whose expression GGUF has a name for, and room for a longer text."""
    scripted.write_model(folder, ["Hello", ", ", "world", "!"], ctx=8192)
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    split = {"type": "Split", "pattern": {"Regex": QWEN2_SPLIT}, "behavior": "Isolated", "invert": False}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, tokenizer["pre_tokenizer"]]}
    tokenizer["normalizer"] = {"type": "NFC"}
    file.write_text(json.dumps(tokenizer))
    return folder


def near_model(folder, model):
    """The model with a little noise, so that the two can be compared."""
    small_model(folder)
    rng = np.random.default_rng(1)
    tensors = {k: t + rng.normal(0, 0.05, t.shape).astype(np.float32) for k, t in safetensors.numpy.load_file(model / "model.safetensors").items()}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return folder


def adapter(folder, model):
    folder.mkdir()
    size = json.loads((model / "config.json").read_text())["hidden_size"]
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    safetensors.numpy.save_file({name + "A.weight": np.ones((2, size), np.float32), name + "B.weight": np.zeros((64, 2), np.float32)},
                                folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}))
    return folder


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    folder = tmp_path_factory.mktemp("things")
    model = small_model(folder / "model")
    subprocess.run([*BINARY, "convert", model, folder / "model.gguf"], check=True)
    (folder / "text").write_text("The quick brown fox jumps over the lazy dog. " * 20)
    return {"MODEL": model, "GGUF": folder / "model.gguf", "ORIGINAL": near_model(folder / "original", model), "TEXT": folder / "text",
            "ADAPTER": adapter(folder / "adapter", model)}


@pytest.fixture
def checkout(tmp_path, things, smollm2, monkeypatch):
    """The tree's files, a HOME of its own with the models that the README names, and farseek on the PATH."""
    for name in list(os.environ):
        if name.startswith(("FARSEEK_", "XDG_", "HF_")):
            monkeypatch.delenv(name)
    folder, bin = tmp_path / "farseek", tmp_path / "bin"
    folder.mkdir()
    bin.mkdir()
    for p in ROOT.iterdir():
        if p.name != "build" and not p.name.startswith("build-"):
            (folder / p.name).symlink_to(p)
    if PLAIN:
        (folder / "build").symlink_to(ROOT / "build")
    (bin / "farseek").write_text(f'#!/bin/sh\nexec {" ".join(BINARY)} "$@"\n')
    (bin / "farseek").chmod(0o755)
    # The commit that the tree has, not a folder of links: nothing is linked anew under the tests of other files.
    (bin / "make").write_text(f'#!/bin/sh\nGIT_DIR="{ROOT}/.git" GIT_WORK_TREE="{ROOT}" exec {shutil.which("make")} "$@"\n')
    (bin / "make").chmod(0o755)
    scripted.write_model(tmp_path / "models" / "DeepSeek-R1-Distill-Qwen-1.5B", ["so", "</think>", "Three."], template=scripted.R1)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(smollm2.parents[1]))
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    for name, path in things.items():
        monkeypatch.setenv(name, str(path))
    return folder


# ---- running ----

def commands_of(lines):
    """(command, the lines below it) of a console block."""
    found = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def pattern(lines):
    return re.compile("".join("(?:.*\n)*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n" for line in lines))


def converse(command, lines, folder):
    """The command on a terminal; without a line that ends it, /quit does."""
    t = Terminal("-c", f"cd {folder} && {command}", binary=["bash"])
    try:
        for line in [*lines, *(["> /quit"] if "> /quit" not in lines else [])]:
            if line.startswith("> "):
                t.type(line[2:])
            elif line != "...":
                t.wait(line)
        assert t.ends() == 0
    finally:
        os.close(t.fd)


def runs_here(command):
    """make builds the plain program, which is not what a run with another FARSEEK tests."""
    return PLAIN or not re.search(r"\bmake\b|build/(?!farseek)", command)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_of_the_page_works(page, checkout, tmp_path):
    shell = ["set -eux -o pipefail"]
    checks = []
    for block in blocks(page):
        language, number, lines = block
        where = f"{page.name}:{number}"
        if language not in ("sh", "console"):
            assert not [l for l in lines if re.match(r"(\$ )?(farseek|build/farseek|make|tools/\S+\.sh) ", l)], f"{where}: commands in no sh block"
        elif not_run(block):
            print(f"{where}: {lines[0]}")
        elif language == "sh":
            shell += [f": {where}", *(line for line in lines if runs_here(line))]
        else:
            for command, shown in commands_of(lines):
                if not runs_here(command):
                    continue
                if any(line.startswith("> ") for line in shown) or command.split("#")[0].strip() == "make run":
                    converse(command, shown, checkout)
                    continue
                n = len(checks)
                checks.append((where, command, shown))
                shell += [f": {where}", f"code=0; {{ {command}\n}} > {tmp_path}/{n}.out 2>&1 || code=$?; echo $code > {tmp_path}/{n}.code"]
    script = "\n".join(shell) + "\n"
    if not PLAIN:
        script = script.replace("build/farseek", "farseek")
    r = subprocess.run(["bash", "-c", f"exec 9> {tmp_path}/trace; BASH_XTRACEFD=9\n" + script], cwd=checkout, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1200)
    assert r.returncode == 0, (tmp_path / "trace").read_text()[-1000:] + r.stderr[-1000:]
    assert not [l for l in r.stderr.splitlines() if l.startswith("farseek: ")], r.stderr
    for n, (where, command, shown) in enumerate(checks):
        out, code = (tmp_path / f"{n}.out").read_text(), int((tmp_path / f"{n}.code").read_text())
        out += "" if out.endswith("\n") or not out else "\n"
        assert pattern(shown).fullmatch(out), f"{where}: {command}\n{out}"
        assert (code != 0) == bool(shown and shown[-1].startswith("farseek: ")), f"{where}: {command}: exit {code}\n{out}"


def test_blocks_that_are_not_run_are_known():
    counts = {page.name: sum(map(not_run, blocks(page))) for page in PAGES}
    assert {name: n for name, n in counts.items() if n} == NOT_RUN


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_within_the_text_exist(page, farseek):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    commands = set(re.findall(r"^  ([a-z]+)", farseek("help"), re.M))
    helps = {c: farseek(c, "--help") for c in commands}
    has = lambda text, option: re.search(rf" {option}\b", text) or re.search(rf" {option.replace('--no-', '--')}\b", text)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text() + (ROOT / "tests" / "tests.mk").read_text(), re.M))
    for span in re.findall(r"`([^`\n]+)`", text):
        words = span.split() or [""]
        if words[0] in ("farseek", "build/farseek") and len(words) > 1 and re.fullmatch("[a-z]+", words[1]):
            assert words[1] in commands, span
            for option in re.findall(r"(?<=\s)--?[a-z-]+", span):
                assert has(helps[words[1]], option) or option in ("--help", "--version"), span
        elif words[0] == "make" and len(words) > 1:
            assert [w for w in words[1:] if re.fullmatch("[a-z-]+", w) and not w.startswith("-")][0] in targets, span
        elif re.fullmatch(r"--[a-z][a-z-]+( .*)?", span) and page.parent == ROOT / "docs":
            assert any(has(h, words[0]) for h in helps.values()), f"{page.name}: no command has {span}"


def test_every_page_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    for page in PAGES:
        if page.name != "README.md":
            assert f"({page.relative_to(ROOT)})" in readme, page.name
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert "://" in link or "bench/results" in link or (page.parent / link).exists(), f"{page.name}: {link}"
