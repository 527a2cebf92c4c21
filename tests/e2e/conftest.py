"""Fixtures of the end-to-end tests. They drive the real binary, FARSEEK or build/farseek.

tools/test.sh runs files side by side (pytest-xdist, --dist loadfile): a file's tests share fixtures and order, files share
nothing but the build and caches of what was fetched (locked). Tests that look at a duration have the mark alone and run afterwards."""
import contextlib
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"

# Files that take longest: those that begin last end last.
LONGEST = ["recipes", "activations", "loss", "streaming", "train", "docs", "trained", "hub_through", "oracle", "quantize", "adapter", "grpo", "distil", "hub_kills",
           "run", "twins", "hub_s3", "hub_follow", "convert", "hub_memory", "hub_torrent", "tokenizer"]


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: looks at a duration; nothing else runs meanwhile")


def pytest_collection_modifyitems(items):
    place = {f"test_{name}.py": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))  # stable: within a file, and of the others, nothing moves


@contextlib.contextmanager
def locked(folder):
    """One process at a time: what several workers need is fetched once."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def until_caught(process, number=signal.SIGINT):
    """From when a process has a handler of the signal on, it ends in its own way."""
    while process.poll() is None:
        caught = re.search(r"^SigCgt:\s*(\w+)", pathlib.Path(f"/proc/{process.pid}/status").read_text(), re.M)
        if caught and int(caught[1], 16) >> (number - 1) & 1:
            break
        time.sleep(0.001)


def until(what, seconds=300):
    """Waits for what() to be true, however busy the machine is."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.02)


def interrupted(command, under_way, forget, more_s=0):
    """Ctrl-C when under_way(process), and more_s later; what it then says. A busy machine may be late: a run that had come to its end is
    undone by forget() and tried again."""
    for _ in range(10):
        p = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + 300
        while p.poll() is None and not under_way(p):
            assert time.monotonic() < end
            time.sleep(0.001)
        time.sleep(more_s)
        p.send_signal(signal.SIGINT)
        _, said = p.communicate(timeout=300)
        if p.returncode:
            break
        forget()
        more_s /= 2
    assert p.returncode == 130, said
    return said


def killed(command, rng, shares, whole_s, forget, times, at_least, grow=0):
    """Kills command, or command(kills), that many times, each after a share of whole_s, and more of it by grow each time, or until it comes to its end. When
    that is too soon, since the machine is faster than it was, forget() undoes it, and all is tried again with less."""
    kills = 0
    while kills < times:
        p = subprocess.Popen(list(map(str, command(kills) if callable(command) else command)), stderr=subprocess.DEVNULL)
        try:
            code = p.wait((rng.uniform(*shares) + grow * kills) * whole_s)
        except subprocess.TimeoutExpired:
            p.kill()
            code = p.wait()
        assert code in (0, -signal.SIGKILL)
        kills += code != 0
        if code == 0 and kills >= at_least:
            break
        if code == 0:
            assert whole_s > 0.001, "it was never killed"
            forget()
            kills, whole_s = 0, whole_s / 2


@pytest.fixture(scope="session")
def farseek():
    """Runs the program: farseek("logits", path, "--json") -> stdout; check=False returns the whole result."""
    command = os.environ.get("FARSEEK", str(ROOT / "build" / "farseek")).split()

    def run(*args, stdin=None, check=True, timeout=1800, binary=None):
        r = subprocess.run((binary.split() if binary else command) + [str(a) for a in args], input=stdin, capture_output=True,
                           text=True, timeout=timeout)
        if not check:
            return r
        assert r.returncode == 0, f"{args}: exit {r.returncode}: {r.stderr}"
        return r.stdout

    return run


@pytest.fixture(scope="session")
def logits(farseek):
    """The parsed answer of farseek logits."""

    def run(model, ids, *args, **kw):
        return json.loads(farseek("logits", model, "--ids", ",".join(map(str, ids)), "--json", *args, **kw))

    return run
