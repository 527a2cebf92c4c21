"""farseek pull against a hub of a few lines, which can be made to lie, to stumble and to send elsewhere."""
import hashlib
import http.server
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import threading
import time
import urllib.parse

import pytest

from conftest import until

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROGRAM = os.environ.get("FARSEEK", str(pathlib.Path(__file__).resolve().parents[2] / "build" / "farseek")).split()


def git_sha(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    """files: path -> bytes, those of 1 MiB and more are large. The attributes below change how it behaves."""

    def __init__(self, files):
        self.files = files
        self.page = 1000
        self.listed = {}    # path -> the name it is listed under
        self.wrong = set()  # paths that come with one byte changed
        self.fail = 0       # so many requests for files get 500
        self.cut = 0        # so many replies end early
        self.delay = 0      # seconds a MiB
        self.latency = 0    # seconds a file
        self.hold = None    # an event that every part of a file waits for, but the first two
        self.elsewhere = None
        self.next = None    # the hub that its list goes on at
        self.status, self.code = 200, None
        self.requests = []
        self.lock = threading.Lock()
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                hub.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def entries(self):
        for path, data in sorted(self.files.items()):
            e = {"type": "file", "path": self.listed.get(path, path), "size": len(data), "oid": git_sha(data)}
            if len(data) >= 1 << 20:
                e["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            yield e

    def reply(self, r, status, body=b"", headers=()):
        r.send_response(status)
        for k, v in headers:
            r.send_header(k, v)
        r.send_header("Content-Length", str(len(body)))
        r.end_headers()
        r.wfile.write(body)

    def answer(self, r):
        with self.lock:
            self.requests.append((r.path, r.headers.get("Authorization"), r.headers.get("Range")))
        url = urllib.parse.urlsplit(r.path)
        if self.status != 200:
            return self.reply(r, self.status, b"{}", [("X-Error-Code", self.code)] if self.code else [])
        if url.path.startswith("/api/models/org/name/revision/"):
            if url.path.split("/")[-1] != "main":
                return self.reply(r, 404, b"{}", [("X-Error-Code", "RevisionNotFound")])
            return self.reply(r, 200, json.dumps({"id": "org/name", "sha": COMMIT}).encode())
        if url.path == f"/api/models/org/name/tree/{COMMIT}":
            at = int(urllib.parse.parse_qs(url.query).get("cursor", ["0"])[0])
            entries = list(self.entries())
            more = [("Link", f'<{self.next or self.url}{url.path}?recursive=true&cursor={at + self.page}>; rel="next"')] if at + self.page < len(entries) else []
            return self.reply(r, 200, json.dumps(entries[at:at + self.page]).encode(), more)
        m = re.fullmatch(rf"/(?:org/name/resolve/{COMMIT}|data)/(.*)", url.path)
        if not m:
            return self.reply(r, 404)
        path = urllib.parse.unquote(m[1])
        if self.elsewhere and not url.path.startswith("/data/"):
            return self.reply(r, 302, b"", [("Location", f"{self.elsewhere}/data/{m[1]}")])
        with self.lock:
            failing, cutting = self.fail > 0, self.cut > 0
            self.fail -= failing
            self.cut -= cutting
        if failing:
            return self.reply(r, 500)
        data = self.files[path]
        if path in self.wrong:
            data = data[:-1] + bytes([data[-1] ^ 1])
        range_ = re.fullmatch(r"bytes=(\d+)-(\d+)", r.headers.get("Range", ""))
        part = data[int(range_[1]):int(range_[2]) + 1] if range_ else data
        if self.delay or self.latency:
            time.sleep(self.latency + self.delay * len(part) / (1 << 20))
        if self.hold and sum(q[2] is not None for q in self.requests) > 2:
            self.hold.wait(300)
        r.send_response(206 if range_ else 200)
        r.send_header("Content-Length", str(len(part)))
        r.end_headers()
        if cutting:
            r.wfile.write(part[:len(part) // 2])
            r.close_connection = True
        else:
            r.wfile.write(part)


def some_files():
    rng = random.Random(3)
    return {
        "config.json": b"{}\n",
        "model.safetensors": rng.randbytes((50 << 20) + 12345),
        "sub/dir/a name with %20 and \u00fc.txt": b"hello",
        "sub/second.bin": rng.randbytes(3 << 20),
        "empty": b"",
    }


@pytest.fixture
def hub():
    h = Hub(some_files())
    yield h
    h.server.shutdown()


@pytest.fixture
def pull(tmp_path):
    def run(hub, *args, check=True, token="hf_secret", home=tmp_path):
        env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        env.update(HF_ENDPOINT=hub.url, HF_HOME=str(home))
        if token:
            env["HF_TOKEN"] = token
        r = subprocess.run(PROGRAM + ["pull", *args, "org/name"], capture_output=True, text=True, env=env, timeout=600)
        if check:
            assert r.returncode == 0, r.stderr
            return json.loads(r.stdout) if "--json" in args else r.stdout.strip()
        assert r.returncode != 0
        return r.stderr

    return run


def assert_same(folder, files):
    there = {str(p.relative_to(folder)): p.read_bytes() for p in pathlib.Path(folder).rglob("*") if p.is_file()}
    assert there == files


def leftovers(home):
    return [p for p in pathlib.Path(home).rglob("*.part*")]


def test_what_is_pulled_is_the_repository(hub, pull, tmp_path):
    hub.page = 2
    r = pull(hub, "--json")
    assert (r["commit"], r["n_files"], r["n_fetched"]) == (COMMIT, 5, 5)
    assert r["n_bytes"] == r["n_bytes_fetched"] == sum(map(len, hub.files.values()))
    assert_same(r["path"], hub.files)
    repo = tmp_path / "hub" / "models--org--name"
    assert r["path"] == str(repo / "snapshots" / COMMIT)
    assert (repo / "refs" / "main").read_text() == COMMIT
    assert os.readlink(f"{r['path']}/sub/second.bin") == "../../../blobs/" + hashlib.sha256(hub.files["sub/second.bin"]).hexdigest()
    assert not leftovers(tmp_path)
    n = len(hub.requests)
    again = pull(hub, "--json")
    assert again["n_fetched"] == 0 and not [q for q in hub.requests[n:] if "resolve" in q[0]]
    # a file that a client lost is fetched alone
    (repo / "blobs" / git_sha(b"hello")).unlink()
    assert pull(hub, "--json")["n_fetched"] == 1
    assert_same(r["path"], hub.files)


def test_only_what_is_asked_for(hub, pull):
    path = pull(hub, "--include", "*.json,sub/*", "--exclude", "*.txt")
    assert {str(p.relative_to(path)) for p in pathlib.Path(path).rglob("*") if p.is_file()} == {"config.json", "sub/second.bin"}


def test_stumbling_hubs_are_asked_again(hub, pull):
    hub.fail, hub.cut = 2, 2
    assert_same(pull(hub), hub.files)


def test_killed_and_gone_on(hub, pull, tmp_path):
    hub.hold = threading.Event()
    env = dict(os.environ, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path))
    p = subprocess.Popen(PROGRAM + ["pull", "org/name", "--connections", "1"], env=env, stdout=subprocess.PIPE)
    until(lambda: sum(q[2] is not None for q in hub.requests) > 2)  # two pieces of the large file are there
    p.send_signal(signal.SIGKILL)
    p.wait()
    assert leftovers(tmp_path)
    hub.hold.set()
    r = pull(hub, "--json")
    assert r["n_bytes_fetched"] <= r["n_bytes"] - (16 << 20)
    assert_same(r["path"], hub.files)
    assert not leftovers(tmp_path)


def test_what_was_spoilt_on_the_disk_is_not_believed(hub, pull, tmp_path):
    hub.hold = threading.Event()
    p = subprocess.Popen(PROGRAM + ["pull", "org/name", "--connections", "1"], env=dict(os.environ, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path)), stdout=subprocess.PIPE)
    until(lambda: sum(q[2] is not None for q in hub.requests) > 2)
    p.kill()
    p.wait()
    part = next(x for x in leftovers(tmp_path) if x.suffix == ".part" and x.stat().st_size > 1 << 24)
    with open(part, "r+b") as f:
        f.seek(1000)
        f.write(b"spoilt")
    hub.hold.set()
    assert_same(pull(hub), hub.files)


def test_a_wrong_byte_is_never_taken(hub, pull, tmp_path):
    hub.wrong = {"model.safetensors"}
    message = pull(hub, check=False)
    assert "'model.safetensors'" in message and "hash" in message and len(message.splitlines()) == 1
    blobs = tmp_path / "hub" / "models--org--name" / "blobs"
    assert not (blobs / hashlib.sha256(hub.files["model.safetensors"]).hexdigest()).exists()
    assert not (tmp_path / "hub" / "models--org--name" / "refs" / "main").exists()


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_of_three_mirrors_one_lies(hub, pull, liar):
    mirrors = [hub, Hub(hub.files), Hub(hub.files)]
    mirrors[liar].wrong = set(hub.files) - {"empty"}
    assert_same(pull(hub, "--mirror", ",".join(m.url for m in mirrors[1:])), hub.files)
    for m in mirrors[1:]:
        assert all(q[1] is None for q in m.requests), "the token is the first hub's"
        m.server.shutdown()


@pytest.mark.parametrize("stumbles", ["not", "over small files", "at first"])
def test_the_faster_mirror_sends_more(hub, pull, stumbles):
    hub.files["also.json"] = b"{}"  # so that each mirror begins with a file of a few bytes
    slow, fast = hub, Hub(hub.files)
    slow.delay = 0.15
    fast.latency = 0.3 * (stumbles == "over small files")
    fast.fail = stumbles == "at first"
    assert_same(pull(hub, "--mirror", fast.url, "--connections", "2"), hub.files)
    sent = [sum(q[2] is not None for q in h.requests) for h in (slow, fast)]
    assert sent[1] > (0 if stumbles == "at first" else sent[0]), sent
    fast.server.shutdown()


def test_a_dead_mirror_does_no_harm(hub, pull):
    assert_same(pull(hub, "--mirror", "http://127.0.0.1:9"), hub.files)


def test_the_next_page_elsewhere_does_not_get_the_token(hub, pull):
    other = Hub(hub.files)
    hub.page = other.page = 1
    hub.next = other.url
    assert_same(pull(hub), hub.files)
    assert len(other.requests) == len(hub.files) - 1 and all(q[1] is None for q in other.requests)
    assert all(q[1] == "Bearer hf_secret" for q in hub.requests)
    other.server.shutdown()


def test_a_redirect_does_not_take_the_token_along(hub, pull):
    other = Hub(hub.files)
    hub.elsewhere = other.url
    assert_same(pull(hub), hub.files)
    assert other.requests and all(q[1] is None for q in other.requests)
    assert all(q[1] == "Bearer hf_secret" for q in hub.requests)
    other.server.shutdown()


@pytest.mark.parametrize("name", ["../../escape", "/etc/escape", "a//b", "a/./b", "..", "x\ny", "a\\b", ""])
def test_names_that_leave_the_folder(hub, pull, tmp_path, name):
    hub.listed = {"config.json": name}
    assert "name or hash" in pull(hub, check=False)
    assert not list(tmp_path.rglob("escape"))


@pytest.mark.parametrize("status, code, said", [(403, "GatedRepo", "gated"), (401, "RepoNotFound", "no 'org/name'"), (404, None, "no 'org/name'"), (503, None, "503")])
def test_refusals_are_one_sentence(hub, pull, status, code, said):
    hub.status, hub.code = status, code
    message = pull(hub, check=False)
    assert said in message and len(message.splitlines()) == 1


def test_run_fetches_what_is_not_there(hub, farseek, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    hub.files = {p.name: p.read_bytes() for p in (pathlib.Path(__file__).parents[1] / "vectors" / "qwen2").iterdir() if p.is_file()}
    r = farseek("run", "org/name", "hello", "--max-tokens", "1", check=False)
    assert "no chat template" in r.stderr and (tmp_path / "hub" / "models--org--name" / "refs" / "main").exists()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    r = farseek("run", "org/other", "hello", check=False)
    assert "farseek pull org/other" in r.stderr
