"""Nothing acknowledged is lost: SIGKILL at random moments of concurrent commits, uploads, merges, pushes and collections of garbage, of the server with
what it has started. FARSEEK_KILLS says how many times (make soak-hub: 200)."""
import base64
import concurrent.futures
import hashlib
import http.client
import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest

from test_hub import BINARY, Hub, sha256
from test_hub_xet import DATA_KEY, file_info, shard, text_of

KILLS = int(os.environ.get("FARSEEK_KILLS", "8"))
SEED = int(os.environ.get("FARSEEK_SEED", str(random.randrange(1 << 30))))
GONE = (OSError, http.client.HTTPException, KeyError, json.JSONDecodeError, ValueError)
RANGE_KEY = bytes([127, 24, 87, 214, 206, 86, 237, 102, 18, 127, 249, 19, 231, 165, 195, 243, 164, 205, 38, 213, 181, 219, 73, 230, 65, 36, 152, 127, 40, 251, 148, 195])


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


class Work:
    """What clients do, and what they were told stands: path -> id of the content, by repository; branch -> commits in order."""

    def __init__(self, hub, tmp_path, rng):
        self.hub, self.rng, self.tmp_path = hub, rng, tmp_path
        self.lock = threading.Lock()
        self.stands = {"admin/a": {}, "admin/b": {}}
        self.merged, self.heads, self.counts = {}, {}, {}
        self.files_of = {}
        for repo in self.stands:
            hub.repo(repo.split("/")[1])
        self.pushed = tmp_path / "pushed"
        hub.git("clone", "-q", hub.git_url("admin/b"), "pushed", cwd=tmp_path)
        self.blake3 = pytest.importorskip("blake3").blake3

    def told(self, kind, repo, path, oid):
        with self.lock:
            self.stands[repo][path] = oid
            self.counts[kind] = self.counts.get(kind, 0) + 1

    def name(self, kind):
        return f"{kind}/{os.urandom(1).hex()}/{os.urandom(8).hex()}"

    def commit_lines(self, repo, lines, query=""):
        lines = [{"key": "header", "value": {"summary": "x"}}, *lines]
        r = self.hub.ask("POST", f"/api/models/{repo}/commit/main{query}", "\n".join(map(json.dumps, lines)), headers={"Content-Type": "application/x-ndjson"})
        return r.json() if r.status == 200 else None

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
        data = os.urandom(self.rng.randrange(1, 300_000)) if self.rng.random() < 0.8 else b"%d" % self.rng.randrange(20) * 1000  # the same again, too
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
                self.counts["push"] = self.counts.get("push", 0) + 1

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
            r = self.hub.ask("GET", f"/api/models/{repo}/tree/main?recursive=true")
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
        for repo, head in self.heads.items():
            self.hub.git("fetch", "-q", self.hub.git_url(repo), "dev", cwd=self.pushed)
            assert self.hub.git("merge-base", "--is-ancestor", head, "FETCH_HEAD", cwd=self.pushed, check=False).returncode == 0


def test_what_was_acknowledged_survives_kills(tmp_path):
    rng = random.Random(SEED)
    print("seed", SEED)
    hub = Hub(tmp_path / "data", "--multipart", "1MB")
    work = Work(hub, tmp_path, rng)
    jobs = [(work.small, "admin/a"), (work.small, "admin/b"), (work.large, "admin/a"), (work.parts, "admin/b"), (work.xet, "admin/a"), (work.merge, "admin/b"), (work.push, "admin/b")]
    for n in range(KILLS):
        gc = subprocess.Popen(["sh", "-c", 'while :; do "$@"; done', "gc", *BINARY, "hub", "gc", "--age", "0", "--data", str(hub.data)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
        work.check()
        if n % 10 == 9 or n == KILLS - 1:
            r = subprocess.run([*BINARY, "hub", "fsck", "--data", str(hub.data)], capture_output=True, text=True)
            assert r.returncode == 0, f"kill {n}: {r.stdout}{r.stderr}"
    hub.stop()
    print(KILLS, "kills:", {k: v for k, v in sorted(work.counts.items())})
    assert KILLS < 50 or set(work.counts) == {"commit", "large", "parts", "xet", "merge", "push"}
