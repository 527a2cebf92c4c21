"""The signed feed of refs: whoever follows it sees every move, in order, and can show that nothing was taken back."""
import hashlib
import json
import os
import signal
import subprocess
import threading
import time

import pytest

from test_hub import Hub, put_large

ZERO = "0" * 40


class Feed:
    """What a follower does, by other means than ours: hashlib, and openssl for the signature."""

    def __init__(self, hub, folder):
        self.hub, self.folder, self.seq, self.entries = hub, folder, 0, []
        self.key = bytes.fromhex(hub.ask("GET", "/.well-known/farseek/key", token=None).json()["key"])
        self.hash = hashlib.sha256(b"farseek refs 1\n" + self.key).digest()

    def verify(self, head):
        (self.folder / "key").write_bytes(bytes.fromhex("302a300506032b6570032100") + self.key)
        (self.folder / "text").write_text(f"farseek refs 1\n{head['head']}\n{head['hash']}\n{head['time']}\n")
        (self.folder / "signature").write_bytes(bytes.fromhex(head["signature"]))
        r = subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key", "-rawin", "-in", "text", "-sigfile", "signature"],
                           cwd=self.folder, capture_output=True, text=True)
        return "Verified Successfully" in r.stdout

    def read(self, **query):
        """One page; its entries."""
        words = "".join(f"&{k}={v}" for k, v in query.items())
        r = self.hub.ask("GET", f"/.well-known/farseek/refs?since={self.seq}{words}", token=None)
        assert r.status == 200 and r.headers["Content-Type"] == "application/x-ndjson"
        assert r.body.endswith(b"\n")
        *lines, last = r.body[:-1].split(b"\n")
        head = json.loads(last)
        for line in lines:
            e = json.loads(line)
            assert e["seq"] == self.seq + 1
            self.hash = hashlib.sha256(self.hash + line).digest()
            self.seq += 1
            self.entries.append(e)
        assert head["head"] == self.seq and head["hash"] == self.hash.hex() and head["key"] == self.key.hex()
        assert abs(head["time"] / 1000 - time.time()) < 60
        assert self.verify(head)
        return self.entries[len(self.entries) - len(lines):]

    def state(self, repo=None):
        refs = {}
        for e in self.entries:
            assert refs.get((e["repo"], e["ref"]), ZERO) == e["old"], "an entry starts where the last one of its ref ended"
            refs[e["repo"], e["ref"]] = e["new"]
        return {k if repo is None else k[1]: v for k, v in refs.items() if v != ZERO and (repo is None or k[0] == repo)}


def refs(hub, repo, folder):
    out = hub.git("ls-remote", hub.git_url(repo), cwd=folder).stdout
    found = dict(reversed(line.split("\t")) for line in out.splitlines())
    return {k: v for k, v in found.items() if k != "HEAD" and not k.endswith("^{}")}


@pytest.fixture
def hub(tmp_path):
    h = Hub(tmp_path / "data")
    yield h
    h.stop()


def test_every_move_is_told_in_order(hub, tmp_path):
    feed = Feed(hub, tmp_path)
    assert feed.read() == []
    hub.repo("admin/a")
    assert [(e["type"], e["repo"], e["ref"], e["old"], e["owner"]) for e in feed.read()] == [("models", "admin/a", "refs/heads/main", ZERO, feed.key.hex())]
    hub.commit("admin/a", {"x": b"1"})
    hub.ask("POST", "/api/models/admin/a/branch/dev%2Fone", {})
    hub.ask("POST", "/api/models/admin/a/tag/main", {"tag": "v1", "message": "first"})
    hub.commit("admin/a", {"p": b"1"}, query="?create_pr=1")
    feed.read()
    assert feed.state("admin/a") == refs(hub, "admin/a", tmp_path)
    assert set(feed.state("admin/a")) == {"refs/heads/main", "refs/heads/dev/one", "refs/tags/v1", "refs/pr/1"}
    hub.git("clone", hub.git_url("admin/a"), "c", cwd=tmp_path)
    assert feed.read() == []
    (tmp_path / "c" / "y").write_text("y")
    for words in (("add", "."), ("commit", "-m", "y"), ("push", "origin", "HEAD:main", "HEAD:refs/heads/new", ":refs/heads/dev/one")):
        hub.git(*words, cwd=tmp_path / "c")
    assert {(e["ref"], e["new"] == ZERO) for e in feed.read()} == {("refs/heads/main", False), ("refs/heads/new", False), ("refs/heads/dev/one", True)}
    hub.ask("POST", "/api/models/admin/a/discussions/1/merge", {})
    hub.ask("POST", "/api/models/admin/a/super-squash/new", {"message": "s"})
    hub.ask("DELETE", "/api/models/admin/a/tag/v1")
    feed.read()
    assert feed.state("admin/a") == refs(hub, "admin/a", tmp_path)
    assert hub.run("key").split()[-1] == feed.key.hex()
    data = os.urandom(20_000)  # taken out of the history of a branch, while main stays
    hub.ask("POST", "/api/models/admin/a/branch/large", {})
    oid = put_large(hub, "admin/a", "w.bin", data, rev="large")
    feed.read()
    assert hub.ask("POST", "/api/models/admin/a/lfs-files/batch", {"deletions": {"sha": [oid], "rewriteHistory": True}}).status == 200
    assert [e["ref"] for e in feed.read()] == ["refs/heads/large"] and feed.state("admin/a") == refs(hub, "admin/a", tmp_path)


def test_what_not_everybody_may_read_is_not_in_it(hub, tmp_path):
    feed = Feed(hub, tmp_path)
    hub.repo("admin/quiet", private=True)
    hub.commit("admin/quiet", {"x": b"1"})
    assert feed.read() == []
    settings = "/api/models/admin/quiet/settings"
    hub.ask("PUT", settings, {"private": False})
    assert [e["repo"] for e in feed.read()] == ["admin/quiet"]
    for closed, opened in (({"private": True}, {"private": False}), ({"gated": "auto"}, {"gated": False})):
        hub.ask("PUT", settings, closed)
        hub.ask("POST", "/api/models/admin/quiet/branch/inside", {})
        hub.commit("admin/quiet", {"inside": b"2"}, rev="inside")
        hidden = refs(hub, "admin/quiet", tmp_path)["refs/heads/inside"]
        assert [e["new"] for e in feed.read()] == [ZERO]  # withdrawn, and no more is told
        hub.ask("DELETE", "/api/models/admin/quiet/branch/inside")
        hub.ask("PUT", settings, opened)
        assert [e["ref"] for e in feed.read()] == ["refs/heads/main"]
        assert hidden not in json.dumps(feed.entries)
    hub.ask("POST", "/api/repos/move", {"fromRepo": "admin/quiet", "toRepo": "admin/loud", "type": "model"})
    assert [(e["repo"], e["new"] == ZERO) for e in feed.read()] == [("admin/quiet", True), ("admin/loud", False)]
    hub.ask("DELETE", "/api/repos/delete", {"name": "loud", "type": "model"})
    assert [(e["repo"], e["new"]) for e in feed.read()] == [("admin/loud", ZERO)]
    assert feed.state() == {}


def test_pages_and_waiting(hub, tmp_path):
    for i in range(7):
        hub.repo(f"admin/r{i}")
    feed = Feed(hub, tmp_path)
    assert [len(feed.read(limit=3)) for _ in range(4)] == [3, 3, 1, 0]
    assert feed.read(limit=0) == []
    for query in ("since=x", "since=-1", "limit=1001", "wait=1e9"):
        assert hub.ask("GET", f"/.well-known/farseek/refs?{query}").status == 400
    r = hub.ask("GET", "/.well-known/farseek/refs?since=1000000")  # behind its end: the head says where it ends
    assert json.loads(r.body)["head"] == 7
    begun = time.monotonic()
    threading.Timer(1.0, hub.repo, ["admin/later"]).start()
    assert [e["repo"] for e in feed.read(wait=25)] == ["admin/later"]
    assert 0.9 < time.monotonic() - begun < 22  # of 25
    waiting = threading.Thread(target=lambda: hub.ask("GET", "/.well-known/farseek/refs?since=8&wait=25"))
    waiting.start()
    time.sleep(0.3)
    begun = time.monotonic()
    hub.stop()  # does not wait for who waits
    assert time.monotonic() - begun < 20  # of 25
    waiting.join()
    hub.start()


def test_a_killed_server_s_feed_goes_on(tmp_path):
    hub = Hub(tmp_path / "data")
    feed = Feed(hub, tmp_path)
    hub.repo("admin/a")
    stop = threading.Event()

    def work():
        i = 0
        while not stop.is_set():
            i += 1
            try:
                hub.commit("admin/a", {f"f{i % 10}": str(i).encode()})
                hub.ask("POST", f"/api/models/admin/a/branch/b{i}", {})
            except OSError:
                time.sleep(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    for wait in (0.3, 0.2, 0.5, 0.13):
        time.sleep(wait)
        feed.read()
        hub.stop(signal.SIGKILL)
        hub.start(hub.port)
    feed.read()
    stop.set()
    thread.join()
    feed.read()
    assert feed.state("admin/a") == refs(hub, "admin/a", tmp_path)
    hub.stop()
