"""farseek hub export and import: repositories carried by a file to a hub that no net reaches; what is cut, spoilt or incomplete is not seen there."""
import hashlib
import json
import os
import subprocess

import pytest

from test_hub import BINARY, Hub
from test_hub_backup import lfs_commit


def bundle(hub, verb, *args):
    return subprocess.run([*BINARY, "hub", verb, *map(str, args), "--data", str(hub.data)], capture_output=True, text=True)


@pytest.fixture
def hubs(tmp_path):
    a, b = Hub(tmp_path / "a"), Hub(tmp_path / "b")
    yield a, b
    a.stop()
    b.stop()


def sha(hub, repo):
    r = hub.ask("GET", "/api/models/" + repo)
    return r.json()["sha"] if r.status == 200 and not r.json()["disabled"] else None


def test_there_and_on(hubs, tmp_path):
    a, b = hubs
    big = [os.urandom(200_000) for _ in range(4)]
    for name in ("one", "two"):
        a.repo("admin/" + name)
        assert lfs_commit(a, "admin/" + name, "w.bin", big[0] + name.encode()).status == 200
    a.run("org", "add", "far", "admin")
    a.repo("far/away", private=True)
    assert lfs_commit(a, "far/away", "w.bin", big[1]).status == 200
    assert a.commit("far/away", {"README.md": b"---\nlicense: mit\n---\n# Far\n"}).status == 200
    assert a.ask("POST", "/api/models/far/away/tag/main", {"tag": "v1"}).status == 200 and a.ask("POST", "/api/models/far/away/branch/dev", {}).status == 200
    f = tmp_path / "bundle"
    r = bundle(a, "export", "far/away", "admin/one", "--to", f)
    assert r.returncode == 0 and r.stdout.startswith("2 repositories, 2 large files"), r.stderr
    assert bundle(a, "export", "far/none", "--to", tmp_path / "none").returncode != 0 and not list(tmp_path.glob("none*"))
    r = bundle(b, "import", f)
    assert r.returncode == 0 and r.stdout.startswith("2 repositories, 2 large files"), r.stderr
    for repo in ("far/away", "admin/one"):
        assert sha(a, repo) == sha(b, repo) is not None
    assert b.ask("GET", "/far/away/resolve/main/w.bin").body == big[1] and b.ask("GET", "/far/away/resolve/main/w.bin", token=None).status == 401
    refs = b.ask("GET", "/api/models/far/away/refs").json()
    assert {x["name"] for x in refs["branches"]} == {"main", "dev"} and [x["name"] for x in refs["tags"]] == ["v1"]
    assert "license:mit" in b.ask("GET", "/api/models/far/away").json()["tags"]
    assert sha(b, "admin/two") is None
    # once more: nothing is new; then what is new alone
    assert bundle(b, "import", f).stdout.startswith("2 repositories, 0 large files")
    assert lfs_commit(a, "far/away", "new.bin", big[2]).status == 200
    assert bundle(a, "export", "far/away", "--to", f).returncode == 0
    assert bundle(b, "import", f).stdout.startswith("1 repositories, 1 large files") and sha(a, "far/away") == sha(b, "far/away")
    # what was written there meanwhile is not lost
    assert b.commit("far/away", {"there.txt": b"x"}).status == 200
    assert a.commit("far/away", {"here.txt": b"y"}).status == 200
    before = sha(b, "far/away")
    assert bundle(a, "export", "far/away", "--to", f).returncode == 0
    r = bundle(b, "import", f)
    assert r.returncode != 0 and "changed on both sides" in r.stderr, r.stderr
    assert sha(b, "far/away") == before
    assert bundle(b, "fsck").returncode == 0


def test_cut_and_spoilt(hubs, tmp_path):
    a, b = hubs
    contents = {f"w{i}.bin": os.urandom(50_000) for i in range(3)}
    a.repo("admin/one")
    for path, content in contents.items():
        assert lfs_commit(a, "admin/one", path, content).status == 200
    f = tmp_path / "bundle"
    assert bundle(a, "export", "admin/one", "--to", f).returncode == 0
    whole = f.read_bytes()
    for n in (0, 5, 40, 300, 60_000, 120_000, len(whole) - 2000, len(whole) - 10):
        f.write_bytes(whole[:n])
        r = bundle(b, "import", f)
        assert r.returncode != 0 and r.stderr.count("\n") == 1, (n, r.stderr)
        if n < len(whole) - 100:
            assert sha(b, "admin/one") is None and b.ask("GET", "/admin/one/resolve/main/w0.bin", token=None).status in (401, 403, 404)
    for at in (30, 5_000, 70_000, len(whole) - 500):
        spoilt = bytearray(whole)
        spoilt[at] ^= 1
        other = Hub(tmp_path / f"other{at}")
        f.write_bytes(spoilt)
        r = bundle(other, "import", f)
        assert r.returncode != 0 and sha(other, "admin/one") is None, at
        other.stop()
    # a large file is left out of it
    start = whole.index(b'{"entry":"object"')
    line_end = whole.index(b"\n", start) + 1
    f.write_bytes(whole[:start] + whole[line_end + 50_000:])
    other = Hub(tmp_path / "lacking")
    r = bundle(other, "import", f)
    assert r.returncode != 0 and "lacks the large file" in r.stderr and sha(other, "admin/one") is None
    other.stop()
    # the whole goes on where the cut one stopped: two of the three are here
    f.write_bytes(whole)
    r = bundle(b, "import", f)
    assert r.returncode == 0, r.stderr
    assert sha(b, "admin/one") == sha(a, "admin/one")
    for path, content in contents.items():
        assert b.ask("GET", f"/admin/one/resolve/main/{path}", token=None).body == content


@pytest.mark.parametrize("line", ["", "[]", "{", '{"entry":"object","oid":"' + "0" * 64 + '","size":1}', '{"entry":"repo","type":"models","id":"../x","private":false}', '{"entry":"repo","type":"models","id":"a/b"',
                                  '{"entry":"repo","type":"models","id":"admin/' + "x" * 200 + '","private":false}', '{"entry":"repo","type":"x","id":"a/b"}', '{"entry":"git","size":-1}', "x" * 100_000])
def test_what_is_no_bundle(hubs, tmp_path, line):
    _, b = hubs
    f = tmp_path / "bundle"
    f.write_text("farseek bundle 1\n" + line + "\n")
    r = bundle(b, "import", f)
    assert r.returncode != 0 and "ERROR" not in r.stderr and r.stderr.startswith("farseek: ")
    assert b.ask("GET", "/api/models").json() == []


def test_history_that_is_no_git_bundle(hubs, tmp_path):
    """git follows a file that says "gitdir:", and a folder, to any repository of this machine."""
    _, b = hubs
    secret = tmp_path / "secret"
    b.git("init", "-q", "-b", "main", str(secret), cwd=tmp_path)
    (secret / "key.txt").write_text("nobody's business")
    b.git("add", ".", cwd=secret)
    b.git("commit", "-q", "-m", "mine", cwd=secret)
    f = tmp_path / "bundle"
    for i, history in enumerate((f"gitdir: {secret}/.git\n".encode(), b"", b"# v2 git bundle")):
        repo = {"entry": "repo", "type": "models", "id": f"admin/m{i}", "private": False}
        git = {"entry": "git", "size": len(history), "sha256": hashlib.sha256(history).hexdigest()}
        f.write_bytes(b"farseek bundle 1\n" + json.dumps(repo).encode() + b"\n" + json.dumps(git).encode() + b"\n" + history + b'{"entry": "end"}\n')
        r = bundle(b, "import", f)
        assert r.returncode != 0 and "no bundle of git" in r.stderr, r.stderr
        assert sha(b, f"admin/m{i}") is None and b.ask("GET", f"/admin/m{i}/resolve/main/key.txt").status != 200
    assert not list((b.data / "parts").glob("import*"))
