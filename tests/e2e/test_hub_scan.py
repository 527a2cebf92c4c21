"""What the hub says of files that do something when they are loaded, and which it refuses."""
import collections
import io
import json
import os
import pickle
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

