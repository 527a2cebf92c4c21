"""Nothing acknowledged is lost: SIGKILL at random moments of concurrent commits, uploads, merges, pushes, forks, torrents and collections of garbage, of the server with
what it has started; with large files beside the database, and in an S3 store. FARSEEK_KILLS says how many times (make soak-hub: 200, and a fifth of it with the store)."""
import base64
import concurrent.futures
import hashlib
import http.client
import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time

import libtorrent as lt
import pytest

from test_hub import BINARY, Hub, sha256
from test_hub_s3 import MIB, Store
from test_hub_torrent import torrent
from test_hub_webhooks import receiver  # noqa: F401: a fixture
from test_hub_xet import DATA_KEY, file_info, shard, text_of

KILLS = int(os.environ.get("FARSEEK_KILLS", "5"))
S3_KILLS = int(os.environ.get("FARSEEK_S3_KILLS", max(3, KILLS // 5)))
SEED = int(os.environ.get("FARSEEK_SEED", str(random.randrange(1 << 30))))
GONE = (OSError, http.client.HTTPException, KeyError, json.JSONDecodeError, ValueError)
RANGE_KEY = bytes([127, 24, 87, 214, 206, 86, 237, 102, 18, 127, 249, 19, 231, 165, 195, 243, 164, 205, 38, 213, 181, 219, 73, 230, 65, 36, 152, 127, 40, 251, 148, 195])
FORKS_MAX = 3


def descendants(pid):
    """Every process below pid."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(open(f"/proc/{entry}/stat").read().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry))
    out, todo = [], [pid]
    while todo:
        more = children.get(todo.pop(), [])
        out += more
        todo += more
    return out


def git_oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def files_in(tree, above=()):
    """What a torrent's tree of version 2 says of each path."""
    for name, x in tree.items():
        if b"" in x:
            yield b"/".join((*above, name)), x[b""]
        else:
            yield from files_in(x, (*above, name))


def check_pieces(info, path, data):
    """A file's pieces of both versions are its own."""
    n, at = info[b"piece length"], 0
    for f in info[b"files"]:
        if b"/".join(f[b"path"]) == path:
            break
        at += f[b"length"]
    assert f[b"length"] == len(data) and at % n == 0
    for i in range(0, len(data), n):
        piece = data[i:i + n] if f is info[b"files"][-1] else data[i:i + n].ljust(n, b"\0")
        assert hashlib.sha1(piece).digest() == info[b"pieces"][(at + i) // n * 20:][:20], path
    level = [hashlib.sha256(data[i:i + 16384]).digest() for i in range(0, len(data), 16384)]
    level += [bytes(32)] * ((1 << (len(level) - 1).bit_length()) - len(level))
    while len(level) > 1:
        level = [hashlib.sha256(a + b).digest() for a, b in zip(level[::2], level[1::2])]
    assert dict(files_in(info[b"file tree"]))[path][b"pieces root"] == level[0], path


class Work:
    """What clients do, and what they were told stands: path -> id of the content, by repository; branch -> commits in order."""

    def __init__(self, hub, tmp_path, rng, receiver=None, large_bytes=300_000):
        self.hub, self.rng, self.tmp_path, self.receiver, self.large_bytes = hub, rng, tmp_path, receiver, large_bytes
        self.lock = threading.Lock()
        self.stands = {"admin/a": {}, "admin/b": {}, "admin/t": {}}
        self.heads, self.counts = {}, {}
        self.forking, self.leaving, self.left = {}, set(), set()  # forks that were asked for, that were asked to go, that went
        self.torrents = {}  # of a repository and commit: what every client gets of it
        self.moved, self.told_of = set(), {}  # commits, and what the webhook was told of them
        for repo in self.stands:
            hub.repo(repo.split("/")[1])
        if receiver:
            hook = {"url": receiver.url, "watched": [{"type": "user", "name": "admin"}], "domains": ["repo"]}
            assert hub.ask("POST", "/api/settings/webhooks", hook).status == 200
        self.pushed = tmp_path / "pushed"
        hub.git("clone", "-q", hub.git_url("admin/b"), "pushed", cwd=tmp_path)
        self.blake3 = pytest.importorskip("blake3").blake3

    def count(self, kind):
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def told(self, kind, repo, path, oid):
        with self.lock:
            self.stands[repo][path] = oid
            self.count(kind)

    def name(self, kind):
        return f"{kind}/{os.urandom(1).hex()}/{os.urandom(8).hex()}"

    def commit_lines(self, repo, lines, query=""):
        lines = [{"key": "header", "value": {"summary": "x"}}, *lines]
        r = self.hub.ask("POST", f"/api/models/{repo}/commit/main{query}", "\n".join(map(json.dumps, lines)), headers={"Content-Type": "application/x-ndjson"})
        if r.status != 200:
            return None
        done = r.json()
        if not query:
            with self.lock:
                self.moved.add(done["commitOid"])
        return done

    def small(self, repo):
        files = {self.name("small"): os.urandom(self.rng.randrange(1, 3000)) for _ in range(self.rng.randrange(1, 4))}
        lines = [{"key": "file", "value": {"path": p, "content": base64.b64encode(d).decode(), "encoding": "base64"}} for p, d in files.items()]
        if self.commit_lines(repo, lines):
            for p, d in files.items():
                self.told("commit", repo, p, git_oid(d))

    def point(self, kind, repo, data):
        path, oid = self.name(kind), sha256(data)
        if self.commit_lines(repo, [{"key": "lfsFile", "value": {"path": path, "oid": oid, "size": len(data)}}]):
            self.told(kind, repo, path, oid)

    def large(self, repo):
        kind = self.rng.random()
        data = os.urandom(self.rng.randrange(1, 300_000)) if kind < 0.8 else os.urandom(self.large_bytes) if kind > 0.95 else b"%d" % self.rng.randrange(20) * 1000  # the same again, too
        (o,) = self.hub.batch(repo, [{"oid": sha256(data), "size": len(data)}]).json()["objects"]
        if "actions" not in o or self.hub.ask("PUT", o["actions"]["upload"]["href"], data, token=None).status == 200:
            self.point("large", repo, data)

    def parts(self, repo):
        data = os.urandom(2_500_000)
        (o,) = self.hub.batch(repo, [{"oid": sha256(data), "size": len(data)}], transfers=("multipart",)).json()["objects"]
        up = o["actions"]["upload"]
        chunk = int(up["header"]["chunk_size"])
        for i in range(0, len(data), chunk):
            self.hub.ask("PUT", up["header"][str(i // chunk + 1)], data[i:i + chunk], token=None)
        if self.hub.ask("POST", up["href"], {"oid": o["oid"], "parts": []}, token=None).status == 200:
            self.point("parts", repo, data)

    def xet(self, repo):
        data = os.urandom(self.rng.randrange(10_000, 100_000))
        chunk = self.blake3(data, key=DATA_KEY).digest()
        keyed = lambda key: text_of(self.blake3(chunk, key=bytes(key)).digest())
        token = self.hub.ask("GET", f"/api/models/{repo}/xet-write-token/main").json()["accessToken"]
        head = bytes([0]) + len(data).to_bytes(3, "little") + bytes([0]) + len(data).to_bytes(3, "little")
        if self.hub.ask("POST", f"/v1/xorbs/default/{text_of(chunk)}", head + data, token).status != 200:
            return
        info = file_info(keyed([0] * 32), [(text_of(chunk), len(data), 0, 1, keyed(RANGE_KEY))], sha256(data))
        if self.hub.ask("POST", "/v1/shards", shard([info]), token).status == 200:
            self.point("xet", repo, data)

    def merge(self, repo):
        path, data = self.name("merged"), os.urandom(500)
        line = {"key": "file", "value": {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}}
        r = self.commit_lines(repo, [line], "?create_pr=1")
        if r and self.hub.ask("POST", f"/api/models/{repo}/discussions/{r['pullRequestUrl'].split('/')[-1]}/merge", {}).status == 200:
            self.told("merge", repo, path, git_oid(data))

    def push(self, repo):
        path, data = self.name("pushed"), os.urandom(1000)
        (self.pushed / path).parent.mkdir(parents=True, exist_ok=True)
        (self.pushed / path).write_bytes(data)
        self.hub.git("add", path, cwd=self.pushed)
        self.hub.git("commit", "-q", "-m", "x", cwd=self.pushed)
        if self.hub.git("push", self.hub.git_url(repo), "HEAD:refs/heads/dev", cwd=self.pushed, check=False).returncode == 0:
            with self.lock:
                self.heads[repo] = self.hub.git("rev-parse", "HEAD", cwd=self.pushed).stdout.strip()
                self.count("push")

    def fork(self, repo):
        """Another repository for the same commits and files; the oldest of them goes."""
        with self.lock:
            forks = [r for r in self.stands if r.startswith("admin/fork-")]
            source, to = self.rng.choice([repo, *forks[-1:]]), f"admin/fork-{os.urandom(6).hex()}"
            files, head = dict(self.stands[source]), self.heads.get(source)
            old = forks[:max(0, len(forks) + 1 - FORKS_MAX)]
            for r in old:
                del self.stands[r]
                self.heads.pop(r, None)
                self.leaving.add(r)
        for r in old:
            self.leave(r)
        with self.lock:
            self.forking[to] = files
        if self.hub.ask("POST", f"/api/models/{source}/duplicate", {"repository": to}).status == 200:
            with self.lock:
                self.stands[to] = self.forking.pop(to)
                if head:
                    self.heads[to] = head
                self.count("fork")
            self.small(to)

    def leave(self, repo):
        if self.hub.ask("DELETE", "/api/repos/delete", {"name": repo.split("/")[1]}).status == 200:
            with self.lock:
                self.leaving.discard(repo)
                self.left.add(repo)

    def torrent(self, repo):
        self.large(repo)
        r = self.hub.ask("GET", f"/{repo}/torrent/main")
        if r.status == 200:
            t = lt.bdecode(r.body)
            with self.lock:
                self.torrents[repo, r.headers["X-Repo-Commit"]] = t[b"info"], t[b"piece layers"]
                self.count("torrent")

    def run(self, what, repo):
        while True:
            try:
                what(repo)
            except GONE:
                if self.hub.process.poll() is not None:
                    return
            if self.hub.process.poll() is not None:
                return

    def check(self):
        for repo, files in self.stands.items():
            self.check_files(repo, files)
        for repo, head in self.heads.items():
            self.hub.git("fetch", "-q", self.hub.git_url(repo), "dev", cwd=self.pushed)
            assert self.hub.git("merge-base", "--is-ancestor", head, "FETCH_HEAD", cwd=self.pushed, check=False).returncode == 0
        self.check_forks()
        self.check_torrents()
        if self.receiver:
            self.check_webhook()

    def check_files(self, repo, files):
        r = self.hub.ask("GET", f"/api/models/{repo}/tree/main?recursive=true")
        assert r.status == 200, (repo, r.status, r.body)
        entries, link = r.json(), r.headers.get("Link")
        while link:
            r = self.hub.ask("GET", link.split(";")[0].strip("<>"))
            entries, link = entries + r.json(), r.headers.get("Link")
        there = {e["path"]: e.get("lfs", {}).get("oid", e["oid"]) for e in entries if e["type"] == "file"}
        lost = {p for p, oid in files.items() if there.get(p) != oid}
        assert not lost, f"{repo}: {len(lost)} of {len(files)} are lost: {sorted(lost)[:5]}"
        for p in self.rng.sample(sorted(files), min(3, len(files))):
            data = self.hub.ask("GET", f"/{repo}/resolve/main/{p}").body
            assert files[p] in (sha256(data), git_oid(data)), p

    def check_forks(self):
        """One that nobody was told of is whole or not there; what was told to be gone is."""
        for repo, files in list(self.forking.items()):
            status = self.hub.ask("GET", f"/api/models/{repo}").status
            assert status in (200, 404), (repo, status)
            if status == 200:
                self.check_files(repo, files)
                self.leaving.add(repo)
            del self.forking[repo]
        for repo in list(self.leaving):
            self.leave(repo)
            self.leaving.discard(repo)
            self.left.add(repo)
        for repo in list(self.left)[-5:]:
            assert self.hub.ask("GET", f"/api/models/{repo}").status == 404, repo

    def check_torrents(self):
        """Those that were given are given again, and the hashes of what is there now are those of the files."""
        for (repo, commit), given in list(self.torrents.items())[-2:]:
            t = lt.bdecode(torrent(self.hub, f"{repo}/torrent/{commit}").body)
            assert (t[b"info"], t[b"piece layers"]) == given, commit
        files = self.stands["admin/t"]
        if self.torrents and files:
            r = torrent(self.hub, "admin/t/torrent/main")
            info, commit = lt.bdecode(r.body)[b"info"], r.headers["X-Repo-Commit"]
            assert {p.encode() for p in files} <= {p for p, _ in files_in(info[b"file tree"])}
            for p in self.rng.sample(sorted(files), min(3, len(files))):
                check_pieces(info, p.encode(), self.hub.ask("GET", f"/admin/t/resolve/{commit}/{p}").body)

    def check_webhook(self):
        """Each commit was told of, or waits to be, with what was before it."""
        with sqlite3.connect(self.hub.data / "hub.db", timeout=30) as db:  # before what came: one that goes between the two is seen twice
            bodies = [json.loads(row[0] + "}") for row in db.execute("SELECT body FROM deliveries")]
        db.close()
        while not self.receiver.got.empty():
            bodies.append(self.receiver.got.get()[2])
        for body in bodies:
            for move in body.get("updatedRefs", []):
                self.told_of[move["newSha"]] = body["repo"]["name"], move["ref"], move["oldSha"]
        untold = self.moved - set(self.told_of)
        assert not untold, f"{len(untold)} of {len(self.moved)} commits were not told of: {sorted(untold)[:5]}"

    def check_chain(self, repo):
        """What the webhook was told that main was before each commit is what the commit stands on."""
        self.hub.git("fetch", "-q", self.hub.git_url(repo), "main", cwd=self.pushed)
        parents = {x[0]: x[1] for x in (line.split() for line in self.hub.git("rev-list", "--parents", "FETCH_HEAD", cwd=self.pushed).stdout.splitlines()) if len(x) > 1}
        moves = {new: old for new, (name, ref, old) in self.told_of.items() if (name, ref) == (repo, "refs/heads/main")}
        assert moves and {new: parents[new] for new in moves} == moves


def soak(hub, work, kills):
    rng = work.rng
    jobs = [(work.small, "admin/a"), (work.small, "admin/b"), (work.large, "admin/a"), (work.parts, "admin/b"), (work.xet, "admin/a"), (work.merge, "admin/b"), (work.push, "admin/b"),
            (work.fork, "admin/a"), (work.fork, "admin/b"), (work.torrent, "admin/t")]
    for n in range(kills):
        gc = subprocess.Popen(["sh", "-c", 'while :; do "$@"; sleep 0.1; done', "gc", *BINARY, "hub", "gc", "--age", "0", "--data", str(hub.data)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
        with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
            futures = [pool.submit(work.run, *j) for j in jobs]
            begin, done = time.monotonic(), sum(work.counts.values())
            while sum(work.counts.values()) < done + 3 and time.monotonic() < begin + 10:  # a busy machine is slow to begin
                time.sleep(0.01)
            time.sleep(1.5 * rng.random())
            gone = [*descendants(gc.pid), gc.pid]
            if rng.random() < 0.7:  # the machine; else the server alone, and git comes to its end by itself
                gone += descendants(hub.process.pid)
            os.kill(hub.process.pid, signal.SIGKILL)
            for pid in gone:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            gc.wait()
            hub.stop(signal.SIGKILL)
            for f in futures:
                f.result()
        hub.start()
        # everything goes on
        begin = time.monotonic()
        assert hub.commit("admin/a", {"last": b"%d" % n}).status == 200
        before = work.counts.get("push", 0)
        work.push("admin/b")
        assert work.counts["push"] == before + 1, f"kill {n}: no push any more"
        assert time.monotonic() - begin < 60  # locks that were left are not waited for for ever
        for cached in (hub.data / "cache").glob("*"):  # what is in a store is read from there
            cached.unlink()
        work.check()
        if n % 10 == 9 or n == kills - 1:
            check_all(hub, f"kill {n}")
    print(kills, "kills:", {k: v for k, v in sorted(work.counts.items())})
    assert kills < 50 or set(work.counts) == {"commit", "large", "parts", "xet", "merge", "push", "fork", "torrent"}


def check_all(hub, when):
    r = subprocess.run([*BINARY, "hub", "fsck", "--data", str(hub.data)], capture_output=True, text=True)
    assert r.returncode == 0, f"{when}: {r.stdout}{r.stderr}"


@pytest.fixture
def store():
    s = Store()
    yield s
    s.stop()


def test_what_was_acknowledged_survives_kills(tmp_path, receiver):
    print("seed", SEED)
    hub = Hub(tmp_path / "data", "--multipart", "1MB", "--webhooks-private")
    work = Work(hub, tmp_path, random.Random(SEED), receiver)
    soak(hub, work, KILLS)
    work.large("admin/t")  # a slow machine may not have come to it
    work.check_webhook()
    for repo in ("admin/a", "admin/t"):
        work.check_chain(repo)
    hub.stop()


def test_what_a_kill_left_of_a_push_is_no_obstacle(tmp_path):
    """Locks, and what was being pushed: of git, which takes away neither."""
    hub = Hub(tmp_path / "data")
    work = Work(hub, tmp_path, random.Random(1))
    work.push("admin/b")
    hub.stop(signal.SIGKILL)
    (path,) = [p.parents[2] for p in (hub.data / "repos").rglob("refs/heads/dev")]
    for name in ("refs/heads/dev.lock", "HEAD.lock", "packed-refs.lock"):
        (path / name).touch()
    hub.start()
    work.push("admin/b")
    assert work.counts["push"] == 2
    hub.git("push", hub.git_url("admin/b"), ":refs/heads/dev", cwd=work.pushed)
    (path / "refs" / "heads" / "dev.lock").touch()  # of one that lives: it is git's turn to refuse
    assert hub.git("push", hub.git_url("admin/b"), "HEAD:refs/heads/dev", cwd=work.pushed, check=False).returncode != 0
    assert (path / "refs" / "heads" / "dev.lock").exists()
    old, new = (path / "objects" / f"tmp_objdir-incoming-{n}" / "pack" for n in ("old", "new"))  # what was being pushed
    for p in (old, new):
        p.mkdir(parents=True)
        (p / "tmp_pack_x").write_bytes(b"x")
    os.utime(old.parent, (time.time() - 90_000,) * 2)
    assert "1 uploads" in hub.run("gc", "--age", "0") and not old.parent.exists() and new.exists()
    hub.run("fsck")
    hub.stop()


def test_what_was_acknowledged_survives_kills_with_an_s3_store(tmp_path, store, monkeypatch):
    for k, v in store.keys.items():
        monkeypatch.setenv(k, v)
    hub = Hub(tmp_path / "data", "--multipart", "1MB", "--blobs", "s3://hub/kills", "--s3-endpoint", f"http://127.0.0.1:{store.port}")
    work = Work(hub, tmp_path, random.Random(SEED + 1), large_bytes=18 * MIB)  # some of them in parts
    soak(hub, work, S3_KILLS)
    with sqlite3.connect(hub.data / "hub.db", timeout=30) as db:  # half an hour later, what a collector that was killed was removing may go
        db.execute("UPDATE blobs SET touched_ms = touched_ms - 1810000 WHERE state = 2")
    db.close()
    time.sleep(1.1)  # the store's dates are in seconds
    hub.run("gc", "--age", "0")
    assert store.uploads() == []
    with sqlite3.connect(hub.data / "hub.db", timeout=30) as db:
        kept = {f"kills/{('objects', 'xorbs')[kind]}/{name[:2]}/{name[2:4]}/{name}" for kind, name in db.execute("SELECT kind, name FROM blobs WHERE state = 1")}
    db.close()
    assert set(store.keyed("kills/")) == kept | {"kills/hub"}
    check_all(hub, "at last")
    hub.stop()
