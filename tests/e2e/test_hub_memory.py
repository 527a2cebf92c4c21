"""The memory of uploads does not grow with them: whole, in parts, by Xet. FARSEEK_UPLOAD_GIB=10 for the figures of docs/hub.md (20 GiB of disk)."""
import hashlib
import http.client
import json
import os
import shutil
import threading

import pytest

from test_hub import Hub
from test_hub_xet import client, file_info, range_proof, shard, token_for, xorb_of

MIB = 1 << 20
GIB = float(os.environ.get("FARSEEK_UPLOAD_GIB", "1"))
BLOCK = os.urandom(4 * MIB)


def blocks(size, seed):
    """Bytes that no other upload has, made as they are sent."""
    for i in range(size // len(BLOCK)):
        head = hashlib.sha256(b"%d %d" % (seed, i)).digest()
        yield head + BLOCK[len(head):]


def peak(hub, reset=False):
    """The most MiB that the server held since the last reset, with the pages of files that it has mapped."""
    if reset:
        open(f"/proc/{hub.process.pid}/clear_refs", "w").write("5")
    status = open(f"/proc/{hub.process.pid}/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


class Watched:
    """The most MiB of memory of its own, which no file is behind, that the server is seen with."""

    def __init__(self, hub):
        self.pid, self.most, self.over = hub.process.pid, 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.over.wait(0.02):
            self.most = max(self.most, self.now())

    def now(self):
        return int(open(f"/proc/{self.pid}/status").read().split("RssAnon:")[1].split()[0]) / 1024

    def __enter__(self):
        self.before = self.now()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def put(hub, url, body, size):
    c = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=600)
    c.request("PUT", "/" + url.split("/", 3)[3], body, {"Content-Length": str(size)})
    r = c.getresponse()
    assert r.status == 200, r.read()
    etag = r.headers["ETag"]
    r.read()
    c.close()
    return etag


@pytest.fixture
def hub(tmp_path):
    h = Hub(tmp_path / "data", "--multipart", "512MB")
    h.repo("first")
    assert h.commit("admin/first", {"a": b"x" * 9_000_000}).status == 200  # what any commit takes
    yield h
    h.stop()
    shutil.rmtree(tmp_path)


def upload_plain(hub, repo, size, parts):
    size = size // len(BLOCK) * len(BLOCK)
    sha = hashlib.sha256()
    for b in blocks(size, parts):
        sha.update(b)
    oid = sha.hexdigest()
    action = hub.batch(repo, [{"oid": oid, "size": size}], transfers=("multipart",) if parts else ("basic",)).json()["objects"][0]["actions"]["upload"]
    before = peak(hub, reset=True)
    if parts:
        chunk, stream = int(action["header"]["chunk_size"]), blocks(size, parts)
        links = {int(k): v for k, v in action["header"].items() if k != "chunk_size"}
        assert len(links) > 1 or size <= chunk
        left, kept = size, b""
        done = []
        for n in sorted(links):
            want = min(chunk, left)

            def piece(want=want):
                nonlocal kept
                while want:
                    kept = kept or next(stream)
                    yield kept[:want]
                    sent = min(want, len(kept))
                    want, kept = want - sent, kept[sent:]

            done.append({"partNumber": n, "etag": put(hub, links[n], piece(), want)})
            left -= want
        assert hub.ask("POST", action["href"], json.dumps({"oid": oid, "parts": done}), None, timeout=600).status == 200
    else:
        put(hub, action["href"], blocks(size, parts), size)
    lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "lfsFile", "value": {"path": "w.bin", "oid": oid, "size": size}}]
    assert hub.ask("POST", f"/api/models/{repo}/commit/main", "\n".join(map(json.dumps, lines)), headers={"Content-Type": "application/x-ndjson"}).status == 200
    return peak(hub) - before, before


@pytest.mark.parametrize("parts", (0, 1), ids=("whole", "in parts"))
def test_a_large_upload_takes_no_memory(hub, parts):
    repo = hub.repo("large")
    grown, before = upload_plain(hub, repo, int(GIB * 1024) * MIB, parts)
    print(f"\n{GIB:g} GiB {'in parts' if parts else 'whole'}: {before:.1f} MiB before, at most {before + grown:.1f}")
    assert grown < 24


def test_an_upload_by_xet_takes_no_memory(hub, tmp_path):
    """Xorbs are mapped while they are looked at and while the file is built: pages that the kernel takes back. So what has no file behind it counts."""
    repo = hub.repo("large")
    size = int(GIB * 1024) * MIB
    with open(tmp_path / "w.bin", "wb") as f:
        for _ in range(size // MIB):
            f.write(os.urandom(MIB))
    peak(hub, reset=True)
    with Watched(hub) as watched:
        client(hub, "up", repo, tmp_path / "w.bin", tmp_path / "home")
    (file,) = [x for x in hub.ask("GET", f"/api/models/{repo}/tree/main").json() if x["path"] == "w.bin"]
    print(f"\n{GIB:g} GiB by Xet: {watched.before:.1f} MiB before, at most {watched.most:.1f}; {peak(hub):.1f} with pages of files")
    assert file["size"] == size and "xetHash" in file
    assert watched.most - watched.before < 32


def test_a_file_of_many_chunks_is_checked_in_little_memory(tmp_path):
    """Four million of a byte each: a shard of 50 KB, refused at its last hash."""
    hub = Hub(tmp_path / "data")
    hub.repo("many")
    write = token_for(hub, "admin/many", "write")
    xorb, name, hashes = xorb_of([b"x"] * 8192)
    assert hub.ask("POST", f"/v1/xorbs/default/{name}", xorb, write).status == 200
    body = shard([file_info("0" * 64, [(name, 8192, 0, 8192, range_proof(hashes))] * 512, "1" * 64)])
    before = peak(hub, reset=True)
    r = hub.ask("POST", "/v1/shards", body, write)
    assert r.status == 400 and "a file's hash is not that of its chunks" in r.json()["error"]
    assert peak(hub) < before + 32
    hub.stop()
