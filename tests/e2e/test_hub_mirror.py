"""Copies from hub to hub: the same commits under the same ids, whole at every moment, and nothing that upstream says is believed."""
import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from test_hub import BINARY, Hub

SNAPSHOT = "import sys; from huggingface_hub import snapshot_download; print(snapshot_download(sys.argv[1], revision=sys.argv[2]))"
UPLOAD = "import sys; from huggingface_hub import HfApi; a = HfApi(); a.create_repo(sys.argv[1], exist_ok=True); a.upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2], revision=sys.argv[3])"


def client(hub, code, *args, home, token=None, xet=True):
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    if not xet:
        env["HF_HUB_DISABLE_XET"] = "1"
    env.update(HF_ENDPOINT=hub.url, HF_TOKEN=token or hub.token, HF_HOME=str(home), HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1")
    r = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, env=env, timeout=600)
    assert r.returncode == 0, r.stderr
    return r.stdout.strip()


def refs(hub, repo):
    r = hub.git("ls-remote", hub.git_url(repo), cwd=pathlib.Path(hub.data).parent)
    return dict(reversed(line.split("\t")) for line in r.stdout.splitlines())


def copy(here, there, *names, check=True, options=(), token=None):
    env = {**os.environ, "HF_TOKEN": there.token if token is None else token}
    r = subprocess.run([*BINARY, "hub", "mirror", "--data", str(here.data), *options, there.url, *names], capture_output=True, text=True, env=env, timeout=600)
    assert (r.returncode == 0) == check, r.stdout + r.stderr
    return r.stdout if check else r.stderr


def until_git_ended(hub, seconds=60):
    """What a killed command had git do goes on for a while."""
    data, end = str(hub.data).encode(), time.monotonic() + seconds

    def is_git(pid):
        try:
            words, environ = (pathlib.Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
            return b"git" in words.split(b"\0")[0] and (data in words or data in environ or os.readlink(f"/proc/{pid}/cwd").encode().startswith(data))
        except OSError:
            return False

    while any(is_git(pid) for pid in os.listdir("/proc") if pid.isdigit()):
        assert time.monotonic() < end
        time.sleep(0.02)


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in pathlib.Path(folder).rglob("*") if p.is_file() and p.name != ".gitattributes"}


@pytest.fixture(scope="module")
def hubs(tmp_path_factory):
    made = [Hub(tmp_path_factory.mktemp(name) / "data") for name in ("there", "here")]
    yield made
    for h in made:
        h.stop()


@pytest.fixture
def model(hubs, tmp_path, request):
    """A repository with two large files, one of them twice, a branch, a tag and a pull request."""
    there, _ = hubs
    name = "admin/" + request.node.name.replace("_", "-").replace("[", "-").rstrip("]")[-60:]
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    rng = random.Random(name)
    big = rng.randbytes(3 << 20)
    for path, data in {"config.json": b"{}", "a.bin": big, "sub/b.bin": rng.randbytes(1 << 20), "sub/c.bin": big, "README.md": b"---\nlicense: mit\n---\n# x\n"}.items():
        (folder / path).write_bytes(data)
    client(there, UPLOAD, name, folder, "main", home=tmp_path / "up")
    assert there.ask("POST", f"/api/models/{name}/tag/main", {"tag": "v1"}).status == 200
    assert there.ask("POST", f"/api/models/{name}/branch/dev", {}).status == 200
    assert there.commit(name, {"dev.txt": b"dev"}, rev="dev").status == 200
    assert there.commit(name, {"pr.txt": b"pr"}, query="?create_pr=1").status == 200
    return name, folder


def test_a_copy_is_the_same_and_follows(hubs, model, tmp_path):
    there, here = hubs
    name, folder = model
    assert "4 refs, 2 files" in copy(here, there, name)
    assert refs(here, name) == refs(there, name) and len(refs(here, name)) == 5  # HEAD too
    assert files_of(client(here, SNAPSHOT, name, "main", home=tmp_path / "a")) == files_of(folder)
    assert hashlib.sha256(here.ask("GET", f"/{name}/resolve/refs%2Fpr%2F1/a.bin").body).digest() == hashlib.sha256((folder / "a.bin").read_bytes()).digest()
    assert here.ask("GET", f"/api/models/{name}").json()["cardData"]["license"] == "mit"
    assert "0 refs, 0 files, 0 bytes" in copy(here, there, name)
    (folder / "d.bin").write_bytes(random.Random(9).randbytes(1 << 20))
    client(there, UPLOAD, name, folder, "main", home=tmp_path / "up")
    assert there.ask("DELETE", f"/api/models/{name}/branch/dev").status == 200
    out = copy(here, there)  # all that is known of that hub
    assert f"{name}\t2 refs, 1 files" in out
    assert refs(here, name) == refs(there, name)
    assert files_of(client(here, SNAPSHOT, name, "main", home=tmp_path / "b")) == files_of(folder)
    listed = here.run("mirror")
    assert f"models\t{name}\t{there.url}" in listed


def test_a_copy_is_not_written_to(hubs, model, tmp_path):
    there, here = hubs
    name, _ = model
    copy(here, there, name)
    for query in ("", "?create_pr=1"):
        r = here.commit(name, {"x": b"x"}, query=query)
        assert r.status in (400, 403)
    here.git("clone", here.git_url(name), "c", cwd=tmp_path)
    (tmp_path / "c" / "x").write_text("x")
    here.git("add", ".", cwd=tmp_path / "c")
    here.git("commit", "-m", "x", cwd=tmp_path / "c")
    assert here.git("push", cwd=tmp_path / "c", check=False).returncode != 0
    assert refs(here, name) == refs(there, name)


def test_what_upstream_spoilt_does_not_arrive(hubs, model):
    there, here = hubs
    name, folder = model
    oid = hashlib.sha256((folder / "a.bin").read_bytes()).hexdigest()
    there.run("torrent", name, "--url", there.url, "--to", str(folder.parent / "torrent"))  # which makes files of what came by Xet
    path = pathlib.Path(there.data) / "objects" / oid[:2] / oid[2:4] / oid
    data = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    message = copy(here, there, name, check=False)
    assert oid in message and len(message.splitlines()) == 1
    assert here.ask("GET", f"/api/models/{name}", token=here.token).status == 200  # the administrator sees that it is not there yet
    assert here.ask("GET", f"/{name}/resolve/main/config.json", token=None).status == 403
    assert message.strip().split("farseek: ")[1] in here.run("mirror")
    path.write_bytes(data)
    copy(here, there, name)
    assert refs(here, name) == refs(there, name)
    # and later, when the copy is whole, it stays what it is
    (folder / "e.bin").write_bytes(random.Random(10).randbytes(1 << 20))
    client(there, UPLOAD, name, folder, "main", home=folder.parent / "up", xet=False)
    oid = hashlib.sha256((folder / "e.bin").read_bytes()).hexdigest()
    gone = pathlib.Path(there.data) / "objects" / oid[:2] / oid[2:4] / oid
    gone.rename(folder.parent / "kept")
    before = refs(here, name)
    copy(here, there, name, check=False)
    assert refs(here, name) == before
    (folder.parent / "kept").rename(gone)
    copy(here, there, name)
    assert refs(here, name) == refs(there, name)


def test_history_that_is_written_anew_is_not_followed_unasked(hubs, model, tmp_path):
    there, here = hubs
    name, _ = model
    copy(here, there, name)
    before = refs(here, name)
    assert there.ask("POST", f"/api/models/{name}/super-squash/main", {"message": "x"}).status == 200
    assert "'main'" in copy(here, there, name, check=False)
    assert refs(here, name) == before
    copy(here, there, name, options=["--force"])
    assert refs(here, name) == refs(there, name) != before


@pytest.mark.parametrize("after", [0.02, 0.06, 0.12, 0.2, 0.3, 0.5])
def test_killed_and_gone_on(hubs, model, tmp_path, after):
    there, here = hubs
    name, folder = model
    p = subprocess.Popen([*BINARY, "hub", "mirror", "--data", str(here.data), there.url, name], env={**os.environ, "HF_TOKEN": there.token}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after)
    p.send_signal(signal.SIGKILL)
    p.wait()
    until_git_ended(here)
    copy(here, there, name)
    assert refs(here, name) == refs(there, name)
    assert files_of(client(here, SNAPSHOT, name, "main", home=tmp_path / "a")) == files_of(folder)


def test_private_upstream_needs_the_token(hubs, tmp_path):
    there, here = hubs
    there.repo("admin/hidden", private=True)
    there.commit("admin/hidden", {"x.txt": b"x"})
    assert "git cannot fetch" in copy(here, there, "admin/hidden", check=False, token="hf_" + "0" * 40)
    copy(here, there, "admin/hidden", options=["--private"])
    assert refs(here, "admin/hidden") == refs(there, "admin/hidden")
    assert here.ask("GET", "/api/models/admin/hidden", token=None).status == 401


def test_what_is_here_is_not_overwritten(hubs):
    there, here = hubs
    there.repo("admin/both")
    here.repo("admin/both")
    assert "no mirror" in copy(here, there, "admin/both", check=False)
    for name in ("admin", "a/b/c", "../x/y", "admin/.."):
        assert len(copy(here, there, name, check=False).splitlines()) == 1


def test_a_hash_is_no_right_to_what_others_keep_here(hubs, tmp_path):
    """Upstream names an object that is here for a private repository only: it has to send the bytes."""
    there, here = hubs
    data = random.Random(77).randbytes(1 << 20)
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "w.bin").write_bytes(data)
    here.repo("admin/kept-private", private=True)
    client(here, UPLOAD, "admin/kept-private", folder, "main", home=tmp_path / "a")
    client(there, UPLOAD, "admin/knows-the-hash", folder, "main", home=tmp_path / "b", xet=False)
    oid = hashlib.sha256(data).hexdigest()
    path = pathlib.Path(there.data) / "objects" / oid[:2] / oid[2:4] / oid
    path.rename(tmp_path / "gone")
    assert oid in copy(here, there, "admin/knows-the-hash", check=False)
    assert here.ask("GET", "/admin/knows-the-hash/resolve/main/w.bin").status == 404
    (tmp_path / "gone").rename(path)
    left = pathlib.Path(here.data) / "parts" / f"mirror-{oid}"  # as a run leaves it that is killed at its end
    left.write_bytes(data)
    left.chmod(0o400)
    assert f"1 files, {len(data)} bytes" in copy(here, there, "admin/knows-the-hash")
    assert here.ask("GET", "/admin/knows-the-hash/resolve/main/w.bin", token=None).body == data
