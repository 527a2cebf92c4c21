"""farseek hub backup: a copy that is taken while much happens is whole, and is served as it is."""
import hashlib
import json
import os
import subprocess
import threading

from test_hub import BINARY, Hub
from test_hub_mirror import copy


def upload(hub, repo, content):
    oid = hashlib.sha256(content).hexdigest()
    r = hub.batch(repo, [{"oid": oid, "size": len(content)}])
    action = r.json()["objects"][0].get("actions", {}).get("upload")
    if action:
        assert hub.ask("PUT", action["href"], content, token=None).status == 200
    return oid


def lfs_commit(hub, repo, path, content, **kw):
    lines = [{"key": "header", "value": {"summary": path}}, {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": upload(hub, repo, content), "size": len(content)}}]
    return hub.ask("POST", f"/api/models/{repo}/commit/main" + kw.get("query", ""), "\n".join(map(json.dumps, lines)), headers={"Content-Type": "application/x-ndjson"})


def test_a_copy_beside_writers_is_whole_and_served(tmp_path):
    hub = Hub(tmp_path / "data")
    big = os.urandom(300_000)
    hub.repo("admin/first")
    assert lfs_commit(hub, "admin/first", "w.bin", big).status == 200
    stop, done = threading.Event(), []

    def write(n):
        i = 0
        while not stop.is_set():
            i += 1
            name = f"admin/r{n}-{i % 5}"
            if hub.ask("GET", "/api/models/" + name).status == 404:
                hub.repo(name)
            r = lfs_commit(hub, name, f"f{i}.bin", os.urandom(20_000), query="?create_pr=1" if i % 3 == 0 else "")
            assert r.status == 200, r.body
            done.append((name, r.json()["commitOid"]))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for t in threads:
        t.start()
    backups = []
    try:
        for k in range(3):
            while len(done) < 10 * (k + 1):
                stop.wait(0.02)
            acknowledged = list(done)
            hub.run("backup", "--to", str(tmp_path / f"copy{k}"))
            backups.append(acknowledged)
    finally:
        stop.set()
        for t in threads:
            t.join()
    for k, acknowledged in enumerate(backups):
        folder = tmp_path / f"copy{k}"
        assert subprocess.run([*BINARY, "hub", "fsck", "--data", str(folder)], capture_output=True, text=True).returncode == 0
        restored = Hub(folder)
        restored.token = hub.token  # tokens are those of the hub
        assert restored.ask("GET", "/admin/first/resolve/main/w.bin").body == big
        for name, commit in acknowledged:  # nothing that was acknowledged before is missing
            assert restored.ask("GET", f"/api/models/{name}/revision/{commit}").status == 200
        # it goes on by itself, and what happens there is not felt here
        restored.repo("admin/after")
        assert lfs_commit(restored, "admin/first", "new.bin", b"x" * 50_000).status == 200
        restored.stop()
    assert hub.ask("GET", "/api/models/admin/after").status == 404
    assert hub.ask("GET", "/admin/first/resolve/main/new.bin").status == 404
    assert subprocess.run([*BINARY, "hub", "fsck", "--data", str(tmp_path / "data")], capture_output=True).returncode == 0
    hub.stop()


def test_packs_are_copied(tmp_path):
    there, hub = Hub(tmp_path / "there"), Hub(tmp_path / "data")
    there.repo("admin/packed")
    assert lfs_commit(there, "admin/packed", "w.bin", b"w" * 20_000).status == 200
    copy(hub, there, "admin/packed")
    assert list((tmp_path / "data").rglob("*.pack"))
    hub.run("backup", "--to", str(tmp_path / "copy"))
    assert subprocess.run([*BINARY, "hub", "fsck", "--data", str(tmp_path / "copy")], capture_output=True, text=True).returncode == 0
    assert sorted(p.name for p in (tmp_path / "copy").rglob("*.pack")) == sorted(p.name for p in (tmp_path / "data").rglob("*.pack"))
    there.stop()
    hub.stop()


def test_what_is_there_is_not_overwritten(tmp_path):
    hub = Hub(tmp_path / "data")
    ask = lambda to: subprocess.run([*BINARY, "hub", "backup", "--data", str(tmp_path / "data"), "--to", str(to)], capture_output=True, text=True)
    (tmp_path / "there").mkdir()
    r = ask(tmp_path / "there")
    assert r.returncode != 0 and "exists already" in r.stderr
    (tmp_path / "x.part").mkdir()
    r = ask(tmp_path / "x")
    assert r.returncode != 0 and "x.part" in r.stderr and not (tmp_path / "x").exists()
    assert ask(tmp_path / "nowhere" / "x").returncode != 0
    assert ask(tmp_path / "y").returncode == 0 and (tmp_path / "y" / "secret").read_bytes() == (tmp_path / "data" / "secret").read_bytes()
    hub.stop()
