"""What the hub says of files that do something when they are loaded, and which it refuses."""
import collections
import io
import json
import os
import pickle
import subprocess
import zipfile

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from test_hub import Hub, put_large


class Runs:
    def __reduce__(self):
        return os.system, ("true",)


class Fraction2(collections.UserDict):
    pass


def torch_zip(obj, protocol=2, how=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as z:
        z.writestr("archive/data.pkl", pickle.dumps(obj, protocol))
        z.writestr("archive/data/0", os.urandom(1000))
        z.writestr("archive/version", "3\n")
    return out.getvalue()


def safetensors(n=4):
    header = json.dumps({"w": {"dtype": "F32", "shape": [n], "data_offsets": [0, 4 * n]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4 * n)


def npz(obj):
    array = io.BytesIO()
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    array.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + pickle.dumps(obj))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("x.npy", array.getvalue())
    return out.getvalue()


GOOD = collections.OrderedDict(w=[1.0, 2.0])
FILES = {  # name: content, status
    "good.bin": (torch_zip(GOOD), "safe"),
    "good.pkl": (pickle.dumps(GOOD, 4), "safe"),
    "evil.bin": (torch_zip(Runs()), "unsafe"),
    "deflated.pt": (torch_zip(Runs(), 4, zipfile.ZIP_DEFLATED), "unsafe"),
    "old.pth": (b"".join(pickle.dumps(x, 2) for x in (119547037146038801333356, 1001, {}, Runs(), [])) + os.urandom(5000), "unsafe"),
    "ascii.pkl": (pickle.dumps(Runs(), 0), "unsafe"),
    "hidden.weights": (pickle.dumps(Runs(), 4), "unsafe"),  # by its first bytes
    "unknown.pkl": (pickle.dumps(Fraction2(), 4), "suspicious"),
    "object.npz": (npz(Runs()), "unsafe"),
    "raw.bin": (b"\0\0\x80?" * 1000, "safe"),
    "broken.pt": (b"PK\3\4" + bytes(100), "caution"),
    "good.safetensors": (safetensors(), "safe"),
    "bad.safetensors": (safetensors()[:-4], "caution"),
    "lambda.h5": (b"\x89HDF\r\n\x1a\n" + bytes(500) + b'{"class_name": "Model", "layers": [{"class_name": "Lambda", "config": {}}]}', "unsafe"),
    "bad.gguf": (b"GGUF" + bytes(100), "caution"),
    "modeling_x.py": (b"import torch\n", "caution"),
    "config.json": (b'{"auto_map": {"AutoModel": "modeling_x.X"}}', "caution"),
    "sub/tokenizer_config.json": (b'{"auto_map": {}, "a": 1}', "safe"),
    "notes.txt": (b"cos\nsystem\n", "safe"),
}
ISSUES = {name: status for name, (_, status) in FILES.items() if status != "safe"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("scan") / "data")
    yield h
    h.stop()


def seen(hub, repo, rev="main"):
    api = HfApi(endpoint=hub.url, token=hub.token)
    return {f.path: f.security for f in api.get_paths_info(repo, list(FILES), expand=True, revision=rev)}


def check(hub, repo):
    found = seen(hub, repo)
    assert {name: s.status for name, s in found.items()} == {name: status for name, (_, status) in FILES.items()}
    assert found["evil.bin"].pickle_import_scan["pickleImports"] == [{"module": "posix", "name": "system", "safety": "dangerous"}] and not found["evil.bin"].safe
    assert found["good.bin"].pickle_import_scan["pickleImports"] == [{"module": "collections", "name": "OrderedDict", "safety": "innocuous"}] and found["good.bin"].safe
    info = HfApi(endpoint=hub.url, token=hub.token).model_info(repo, securityStatus=True)
    assert info.security_repo_status["scansDone"] and {f["path"]: f["level"] for f in info.security_repo_status["filesWithIssues"]} == ISSUES


def test_commits_are_looked_at(hub):
    repo = hub.repo("committed")
    assert hub.commit(repo, {name: content for name, (content, _) in FILES.items()}).status == 200
    check(hub, repo)


def test_large_files_are_looked_at(hub):
    repo = hub.repo("large")
    for name, (content, _) in FILES.items():
        put_large(hub, repo, name, content)
    check(hub, repo)


def test_files_by_xet_are_looked_at(hub, tmp_path):
    for name in ("evil.bin", "good.safetensors"):
        (tmp_path / name).write_bytes(FILES[name][0])
    repo = hub.repo("xet")
    HfApi(endpoint=hub.url, token=hub.token).upload_folder(repo_id=repo, folder_path=tmp_path)
    assert {name: s.status for name, s in seen(hub, repo).items()} == {"evil.bin": "unsafe", "good.safetensors": "safe"}


def pushed(hub, repo, tmp_path, files):
    hub.git("clone", hub.git_url(repo), "w", cwd=tmp_path)
    for name, (content, _) in files.items():
        (tmp_path / "w" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "w" / name).write_bytes(content)
    hub.git("add", ".", cwd=tmp_path / "w")
    hub.git("commit", "-qm", "x", cwd=tmp_path / "w")
    return hub.git("push", cwd=tmp_path / "w", check=False)


def test_pushes_are_looked_at(hub, tmp_path):
    repo = hub.repo("pushed")
    r = pushed(hub, repo, tmp_path, FILES)
    assert r.returncode == 0, r.stderr
    check(hub, repo)


def test_what_is_refused(tmp_path):
    taken = {"none": list(FILES), "unsafe": [n for n, (_, s) in FILES.items() if s != "unsafe"], "suspicious": [n for n, (_, s) in FILES.items() if s not in ("unsafe", "suspicious")]}
    taken["pickles"] = [n for n in taken["suspicious"] if n not in ("good.bin", "good.pkl")]
    data = tmp_path / "data"
    token = None
    for refuse, names in taken.items():
        h = Hub(data, "--refuse", refuse)
        h.token = token = h.token or token
        repo = h.repo(refuse)
        got = []
        for name, (content, _) in FILES.items():
            r = h.commit(repo, {name: content})
            assert r.status in (200, 400), r.body
            if r.status == 200:
                got.append(name)
            else:
                assert f"'{name}' is not taken" in r.json()["error"]
        assert got == names
        if refuse == "unsafe":
            with pytest.raises(HfHubHTTPError, match="is not taken: a pickle that imports posix.system"):
                HfApi(endpoint=h.url, token=token).upload_file(path_or_fileobj=FILES["evil.bin"][0], path_in_repo="e.bin", repo_id=repo)
            r = pushed(h, repo, tmp_path, {"sneaky.bin": FILES["evil.bin"]})
            assert r.returncode != 0 and "is not taken" in r.stderr
        h.stop()



class Clone:
    def __init__(self, hub, repo, folder):
        self.hub, self.repo, self.path = hub, repo, folder / "w"
        folder.mkdir(exist_ok=True)
        hub.git("clone", hub.git_url(repo), "w", cwd=folder)

    def git(self, *args):
        return self.hub.git(*args, cwd=self.path).stdout.strip()

    def blob(self, content):
        return subprocess.run(["git", "hash-object", "-w", "--stdin"], cwd=self.path, input=content, capture_output=True, check=True).stdout.decode().strip()

    def commit(self, entries, *parents):
        """Of {path: blob} with names that no checkout takes, too; a line of mktree ends with a NUL."""
        lines = b"".join(b"100644 blob " + blob.encode() + b"\t" + name + b"\0" for name, blob in entries.items())
        tree = subprocess.run(["git", "mktree", "-z"], cwd=self.path, input=lines, capture_output=True, check=True).stdout.decode().strip()
        return self.git("commit-tree", tree, "-m", "x", *(x for p in parents for x in ("-p", p)))

    def raw(self, commits, root, orders):
        """A push as no git would make it."""
        revs = "\n".join([*commits, "^" + root, ""])
        pack = subprocess.run(["git", "pack-objects", "--stdout", "--revs", "-q"], cwd=self.path, input=revs.encode(), capture_output=True, check=True).stdout
        lines = [orders[0] + "\0 report-status side-band-64k", *orders[1:]]
        body = "".join(f"{len(line) + 4:04x}{line}" for line in lines).encode() + b"0000" + pack
        return self.hub.ask("POST", f"/{self.repo}.git/git-receive-pack", body, True, {"Content-Type": "application/x-git-receive-pack-request"})

    def push(self, *refs):
        r = self.hub.git("push", "-q", "origin", *refs, cwd=self.path, check=False)
        return r.returncode == 0 or r.stderr


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("strict") / "data", "--refuse", "unsafe")
    yield h
    h.stop()


@pytest.fixture
def clone(strict, tmp_path, request):
    return Clone(strict, strict.repo(request.node.name.replace("_", "-")), tmp_path)


ASCII = FILES["ascii.pkl"][0]  # by its first bytes it is no pickle: its name makes it one


def test_a_file_by_another_name(clone):
    text, root = clone.blob(ASCII), clone.git("rev-parse", "HEAD")
    as_text = clone.commit({b"x.txt": text}, root)
    assert clone.push(f"{as_text}:main") is True
    for name in (b"x.pkl", b"y.pt"):
        renamed = clone.commit({name: text}, as_text)
        assert f"'{name.decode()}' is not taken" in clone.push(f"{renamed}:main")
        twice = clone.commit({b"a.txt": text, name: text}, as_text)
        assert f"'{name.decode()}' is not taken" in clone.push(f"{twice}:refs/heads/dev")
        merge = clone.commit({b"x.txt": text, name: text}, as_text, root)
        assert f"'{name.decode()}' is not taken" in clone.push(f"{merge}:main")
    new = clone.blob(ASCII + b"\n")
    assert "'z.pkl' is not taken" in clone.push(f"{clone.commit({b'a.txt': new, b'z.pkl': new}, root)}:refs/heads/both")
    assert clone.push(f"{clone.commit({b'b.txt': text, b'x.txt': text}, as_text)}:main") is True


@pytest.mark.parametrize("name", [b"a\nb", b"a\tb", b"a\\b", b"\xff\xfe", b"\x7f", b"x" * 256])
def test_names_of_what_is_here_already(strict, tmp_path, name):
    clone = Clone(strict, strict.repo(f"name-{name[:4].hex()}"), tmp_path)
    root = clone.git("rev-parse", "HEAD")
    here = clone.git("rev-parse", "HEAD:.gitattributes")
    for blob in (here, clone.blob(b"new")):
        said = clone.push(f"{clone.commit({name: blob}, root)}:main")
        assert "cannot be a path here" in str(said), said
    assert strict.ask("GET", f"/api/models/{clone.repo}").json()["siblings"] == [{"rfilename": ".gitattributes"}]


def test_what_no_ref_leads_to(clone):
    """A pack may hold more than the ref that is pushed needs: it would be here unseen, and a branch could be made of it."""
    root = clone.git("rev-parse", "HEAD")
    evil = clone.commit({b"m.pkl": clone.blob(FILES["ascii.pkl"][0])}, root)
    good = clone.commit({b"m.txt": clone.blob(b"good")}, root)
    r = clone.raw([evil, good], root, [f"{'0' * 40} {good} refs/heads/dev"])
    assert b"ng refs/heads/dev" in r.body, r.body
    assert clone.hub.ask("GET", f"/{clone.repo}/resolve/{evil}/m.pkl").status == 404
    assert clone.hub.ask("POST", f"/api/models/{clone.repo}/branch/evil", {"startingPoint": evil}).status == 404
    assert clone.push(f"{good}:refs/heads/dev") is True


def test_what_is_taken(clone, tmp_path):
    """Merges, tags with and without a message, of a tree and of a blob, links to other repositories' commits, objects that are here but unknown to the client."""
    root = clone.git("rev-parse", "HEAD")
    one, two = clone.commit({b"a.txt": clone.blob(b"1")}, root), clone.commit({b"b.txt": clone.blob(b"2")}, root)
    merge = clone.commit({b"a.txt": clone.blob(b"1"), b"b.txt": clone.blob(b"2"), b"c.txt": clone.blob(b"3")}, one, two)
    tree = subprocess.run(["git", "mktree"], cwd=clone.path, input=f"160000 commit {'1' * 40}\tsub\n".encode(), capture_output=True, check=True).stdout.decode().strip()
    link = clone.git("commit-tree", tree, "-m", "x", "-p", merge)
    clone.git("tag", "-a", "-m", "x", "v1", merge)
    clone.git("tag", "plain", one)
    clone.git("tag", "blob", clone.blob(b"blob"))
    clone.git("tag", "tree", clone.git("rev-parse", clone.commit({b"t.txt": clone.blob(b"t")}) + "^{tree}"))
    assert clone.push(f"{merge}:main", "--tags") is True
    assert clone.push(f"{link}:refs/heads/link") is True
    other = Clone(clone.hub, clone.repo, tmp_path / "other")
    assert other.git("rev-parse", "origin/main", "v1^{}", "plain", "blob", "tree").split()[:3] == [merge, merge, one]
    clone.git("update-ref", "refs/remotes/origin/main", root)
    assert clone.push(f"{clone.commit({b'd.txt': clone.blob(b'4')}, link)}:refs/heads/more") is True
    clone.git("tag", "evil", clone.commit({b"e.pkl": clone.blob(FILES["ascii.pkl"][0])}) + "^{tree}")
    assert "'e.pkl' is not taken" in clone.push("refs/tags/evil")


def test_a_merge_of_many(clone):
    root = clone.git("rev-parse", "HEAD")
    text = clone.blob(ASCII)
    parents = [clone.commit({b"%d.txt" % i: text}, root) for i in range(100)]
    assert "'m.pkl' is not taken" in clone.push(f"{clone.commit({b'm.pkl': text}, *parents)}:refs/heads/evil")
    merge = clone.commit({b"m.txt": text}, *parents)
    assert clone.push(f"{merge}:main") is True
    assert clone.hub.ask("GET", f"/{clone.repo}/resolve/{merge}/m.txt").body == ASCII
    oid = put_large(clone.hub, clone.repo, "w.bin", os.urandom(20_000))  # and is no obstacle to rewriting what came after it
    assert clone.hub.ask("POST", f"/api/models/{clone.repo}/lfs-files/batch", {"deletions": {"sha": [oid], "rewriteHistory": True}}).status == 200
    assert clone.hub.ask("GET", f"/{clone.repo}/resolve/main/w.bin").status == 404


def test_many_refs_at_once(clone):
    """Their ids together are longer than a word of a command may be; refused, so that they need not all be written."""
    root = clone.git("rev-parse", "HEAD")
    one = clone.commit({b"a.pkl": clone.blob(FILES["ascii.pkl"][0])}, root)
    r = clone.raw([one], root, [f"{'0' * 40} {one} refs/tags/t{i}" for i in range(3500)])
    assert b"'a.pkl' is not taken" in r.body and b"ng refs/tags/t3499" in r.body
