"""Fixtures of the end-to-end tests. They drive the real binary, FARSEEK or build/farseek."""
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"


@pytest.fixture(scope="session")
def farseek():
    """Runs the program: farseek("logits", path, "--json") -> stdout; check=False returns the whole result."""
    command = os.environ.get("FARSEEK", str(ROOT / "build" / "farseek")).split()

    def run(*args, stdin=None, check=True, timeout=600, binary=None):
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
