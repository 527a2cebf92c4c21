"""farseek push, ls, rm and login, to a hub of ours; and what is there then, by the stock client."""
import hashlib
import json
import os
import pathlib
import random
import stat
import subprocess
import sys

import pytest

from test_hub import BINARY, Hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("hub") / "data", "--multipart", "5MB")
    h.bob = h.run("user", "add", "bob").strip()
    yield h
    h.stop()


@pytest.fixture
def run(hub, tmp_path):
    def go(*args, token=True, check=True, stdin=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        env.update(HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "home"))
        if token:
            env["HF_TOKEN"] = hub.token if token is True else token
        r = subprocess.run([*BINARY, *map(str, args)], capture_output=True, text=True, env=env, input=stdin, timeout=600)
        assert (r.returncode == 0) == check, r.stderr
        if not check:
            assert len(r.stderr.splitlines()) == 1, r.stderr
            return r.stderr
        return json.loads(r.stdout) if "--json" in args else r.stdout

    return go


def write(folder, files):
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


@pytest.fixture
def folder(tmp_path):
    rng = random.Random(2)
    files = {"config.json": b'{"a": 1}\n', "model.safetensors": rng.randbytes(300_000), "parts.bin": rng.randbytes(12 << 20), "a/b/\u00fc %41 x.txt": b"text", "empty": b"", "empty.bin": b"",
             "README.md": b"---\nlicense: mit\n---\n# A model\n"}
    (tmp_path / "model").mkdir()
    write(tmp_path / "model", files)
    write(tmp_path / "model", {".git/config": b"no", ".cache/huggingface/x": b"no"})
    return tmp_path / "model", files


def snapshot(hub, repo, home, revision="main"):
    code = "import sys; from huggingface_hub import snapshot_download; print(snapshot_download(sys.argv[1], revision=sys.argv[2]))"
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    r = subprocess.run([sys.executable, "-c", code, repo, revision], capture_output=True, text=True, env=env)
    assert r.returncode == 0, r.stderr
    there = pathlib.Path(r.stdout.strip())
    return {str(p.relative_to(there)): p.read_bytes() for p in there.rglob("*") if p.is_file() and p.name != ".gitattributes"}


def test_a_folder_arrives_and_only_changes_go(hub, run, folder, tmp_path):
    where, files = folder
    r = run("push", where, "admin/model", "--json", "-m", "first")
    assert r["n_files"] == r["n_changed"] == len(files) and r["n_bytes_sent"] >= 12 << 20
    assert snapshot(hub, "admin/model", tmp_path / "one") == files
    assert hub.ask("GET", "/api/models/admin/model/commits/main").json()[0]["title"] == "first"
    r = run("push", where, "admin/model", "--json")
    assert (r["commit"], r["n_changed"], r["n_bytes_sent"]) == ("", 0, 0)
    assert run("push", where, "admin/model") == "nothing to change\n"
    files["config.json"] = b"{}\n"
    files["second.safetensors"] = files.pop("model.safetensors")
    write(where, files)
    (where / "model.safetensors").unlink()
    r = run("push", where, "admin/model", "--json", "--delete", "*.safetensors,*.json")
    assert (r["n_changed"], r["n_removed"], r["n_bytes_sent"]) == (2, 1, 0)  # its bytes are there under another name
    assert snapshot(hub, "admin/model", tmp_path / "one") == files


def test_a_pull_request_needs_no_right(hub, run, folder, tmp_path):
    where, files = folder
    run("push", where, "admin/proposed", "--exclude", "parts.bin")
    (where / "new.txt").write_text("from bob")
    assert "no right" in run("push", where, "admin/proposed", "--exclude", "parts.bin", token=hub.bob, check=False)
    url = run("push", where, "admin/proposed", "--exclude", "parts.bin", "--create-pr", token=hub.bob).strip()
    assert url.startswith(hub.url) and url.endswith("/discussions/1")
    assert snapshot(hub, "admin/proposed", tmp_path / "h", "refs/pr/1")["new.txt"] == b"from bob"
    assert "new.txt" not in snapshot(hub, "admin/proposed", tmp_path / "h")


def test_ls_and_rm(hub, run, folder):
    where, files = folder
    run("push", where, "admin/listed", "--private")
    listed = {e["path"]: e for e in run("ls", "admin/listed", "--json")}
    assert {p: e["size"] for p, e in listed.items() if p != ".gitattributes"} == {p: len(d) for p, d in files.items()}
    assert listed["parts.bin"]["hash"] == hashlib.sha256(files["parts.bin"]).hexdigest()
    assert "no 'admin/listed'" in run("ls", "admin/listed", token=hub.bob, check=False)
    run("rm", "admin/listed", "*.bin", "a/*")
    assert {e["path"] for e in run("ls", "admin/listed", "--json")} == {".gitattributes", "config.json", "model.safetensors", "empty", "README.md"}
    assert run("rm", "admin/listed", "nothing-fits") == "nothing to change\n"


def test_pull_what_was_pushed(hub, run, folder, tmp_path):
    where, files = folder
    run("push", where, "admin/round")
    there = pathlib.Path(run("pull", "admin/round").strip())
    assert {str(p.relative_to(there)): p.read_bytes() for p in there.rglob("*") if p.is_file() and p.name != ".gitattributes"} == files


def test_login(hub, run, tmp_path, folder):
    assert "token" in run("login", stdin="hf_" + "x" * 40 + "\n", token=False, check=False)
    assert not (tmp_path / "home" / "token").exists()
    assert run("login", stdin=hub.bob + "\n", token=False) == f"logged in at {hub.url} as bob\n"
    token = tmp_path / "home" / "token"
    assert token.read_text() == hub.bob and stat.S_IMODE(token.stat().st_mode) == 0o600
    run("push", folder[0], "bob/mine", token=False)
    assert [e["path"] for e in run("ls", "bob/mine", "--include", "config.json", "--json", token=False)] == ["config.json"]


def test_refusals_are_one_sentence(hub, run, folder, tmp_path):
    where, _ = folder
    assert "no token" in run("push", where, "admin/x", token=False, check=False)
    assert "token" in run("push", where, "admin/x", token="hf_" + "x" * 40, check=False)
    assert "no folder" in run("push", tmp_path / "nothing", "admin/x", check=False)
    assert "Hub id" in run("push", where, "x", check=False)
    run("push", where, "nobody/x", check=False)
    (where / "a\\b").write_text("x")
    assert "name" in run("push", where, "admin/x", check=False)
