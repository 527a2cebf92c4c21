"""Torrents of revisions, downloaded by stock clients from web seeds alone: aria2 (v1) and libtorrent (v2)."""
import hashlib
import http.server
import json
import os
import sqlite3
import subprocess
import threading
import time
import urllib.request

import libtorrent as lt
import pytest

from test_hub import BINARY, Hub

FILES = {
    "config.json": b"{}\n",
    "empty.txt": b"",
    "model.safetensors": os.urandom(300_000),  # a large file of many pieces
    "small.bin": os.urandom(100),              # one within a piece
    "piece.bin": os.urandom(16384),            # one that is a piece
    "nested/deep/plain.txt": b"0123456789" * 4000,  # git's, of several pieces
    "nested/a b#%41+\u00e9.txt": b"a name\n",
    "nested-/x": b"behind nested/ in a torrent, before it in git\n",
}


def push(hub, folder, repo, token=None):
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": token or hub.token}
    subprocess.run([*BINARY, "push", str(folder), repo], check=True, env=env, capture_output=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    f = tmp_path_factory.mktemp("files")
    for name, content in FILES.items():
        (f / name).parent.mkdir(parents=True, exist_ok=True)
        (f / name).write_bytes(content)
    return f


@pytest.fixture(scope="module")
def hub(tmp_path_factory, folder):
    h = Hub(tmp_path_factory.mktemp("hub") / "data")
    h.bob = h.run("user", "add", "bob").strip()
    h.repo("files")
    push(h, folder, "admin/files")
    yield h
    h.stop()


def torrent(hub, path="admin/files/torrent/main", token=True):
    for _ in range(30):
        r = hub.ask("GET", "/" + path, token=token)
        if r.status != 503:
            break
        time.sleep(int(r.headers["Retry-After"]))
    assert r.status == 200, r.body
    return r


def info(text):
    return lt.torrent_info(lt.bdecode(text))


def hashes(text):
    h = info(text).info_hashes()
    assert h.has_v1() and h.has_v2()
    return str(h.v1), str(h.v2)


def same(got, want=FILES):
    have = {str(p.relative_to(got)): p.read_bytes() for p in got.rglob("*") if p.is_file() and p.parent.name != ".pad"}
    have.pop(".gitattributes", None)
    assert {k: hashlib.sha256(v).hexdigest() for k, v in have.items()} == {k: hashlib.sha256(v).hexdigest() for k, v in want.items()}


def aria2(tmp_path, text, *options, timeout=600):
    (tmp_path / "x.torrent").write_bytes(text)
    return subprocess.run(["aria2c", "--no-conf", "-d", str(tmp_path / "got"), "--seed-time=0", "--enable-dht=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false",
                           "--listen-port=26000-26999", "--bt-stop-timeout=15", "--max-tries=3", "--file-allocation=none", *options, str(tmp_path / "x.torrent")],
                          capture_output=True, text=True, timeout=timeout)


def libtorrent(tmp_path, text, seconds=300, until=lambda s: s.is_seeding):
    """Downloads from web seeds alone; the last status."""
    session = lt.session({"enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False, "listen_interfaces": "127.0.0.1:0",
                          "alert_mask": int(lt.alert.category_t.error_notification | lt.alert.category_t.status_notification | lt.alert.category_t.peer_notification)})
    p = lt.add_torrent_params()
    p.ti = info(text)
    p.save_path = str(tmp_path / "got")
    handle = session.add_torrent(p)
    end = time.monotonic() + seconds
    alerts = []
    while not until(handle.status()) and time.monotonic() < end:
        session.wait_for_alert(200)
        alerts += [type(a).__name__ for a in session.pop_alerts()]
    return handle.status(), alerts


def test_aria2_downloads_a_revision(hub, tmp_path):
    r = torrent(hub)
    commit = hub.ask("GET", "/api/models/admin/files").json()["sha"]
    assert r.headers["X-Repo-Commit"] == commit and r.headers["Content-Type"] == "application/x-bittorrent"
    assert hub.token.encode() not in r.body
    done = aria2(tmp_path, r.body)
    assert done.returncode == 0, done.stdout + done.stderr
    same(tmp_path / "got" / commit)


def test_libtorrent_downloads_a_revision(hub, tmp_path):
    r = torrent(hub)
    t = info(r.body)
    assert t.name() == r.headers["X-Repo-Commit"] and t.piece_length() == 16384 and not t.priv()
    hashes(r.body)
    status, _ = libtorrent(tmp_path, r.body)
    assert status.is_seeding
    same(tmp_path / "got" / t.name())


class Liar(http.server.BaseHTTPRequestHandler):
    """Passes on what the hub says, but of the model: there one bit is another."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        q = urllib.request.Request(self.server.hub.url + self.path, headers={k: v for k, v in self.headers.items() if k.lower() == "range"})
        with urllib.request.urlopen(q) as r:
            body, status, headers = bytearray(r.read()), r.status, r.headers
        if self.path.endswith("/model.safetensors"):
            self.server.lies += 1
            body[len(body) // 2] ^= 1
        self.send_response(status)
        for k in ("Content-Type", "Content-Range", "Accept-Ranges"):
            if headers[k]:
                self.send_header(k, headers[k])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass

    def log_message(self, *args):
        pass


@pytest.fixture
def liar(hub):
    s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    s.hub, s.lies = hub, 0
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield s
    s.shutdown()
    s.server_close()


def of_liar(hub, liar):
    t = lt.bdecode(torrent(hub).body)
    assert t[b"url-list"] == [f"{hub.url}/admin/files/resolve/".encode()]
    t[b"url-list"] = [f"http://127.0.0.1:{liar.server_address[1]}/admin/files/resolve/".encode()]
    return lt.bencode(t)


def test_aria2_refuses_what_a_web_seed_makes_up(hub, liar, tmp_path):
    done = aria2(tmp_path, of_liar(hub, liar))
    assert done.returncode != 0 and liar.lies > 0
    got = list((tmp_path / "got").rglob("model.safetensors"))
    assert not got or got[0].read_bytes() != FILES["model.safetensors"]


def test_libtorrent_refuses_what_a_web_seed_makes_up(hub, liar, tmp_path):
    for seconds in (15, 60, 240):  # a busy machine may be late
        status, alerts = libtorrent(tmp_path, of_liar(hub, liar), seconds)
        if "hash_failed_alert" in alerts:
            break
    assert not status.is_seeding and liar.lies > 0
    assert "hash_failed_alert" in alerts


def test_every_hub_has_the_same_info(hub, tmp_path):
    copy = Hub(tmp_path / "copy")
    try:
        subprocess.run([*BINARY, "hub", "mirror", hub.url, "admin/files", "--data", str(copy.data)], check=True, capture_output=True)
        here, there = torrent(hub).body, torrent(copy, token=None).body
        assert hashes(here) == hashes(there)
        a, b = lt.bdecode(here), lt.bdecode(there)
        assert a.pop(b"url-list") == [f"{hub.url}/admin/files/resolve/".encode()]
        assert b.pop(b"url-list") == [f"{u}/admin/files/resolve/".encode() for u in (copy.url, hub.url)]
        assert lt.bencode(a) == lt.bencode(b)
    finally:
        copy.stop()


def test_what_not_everybody_may_read_is_told_to_nobody(hub, folder, tmp_path):
    hub.repo("secret", private=True)
    push(hub, folder, "admin/secret")
    for token, status in ((None, 401), (hub.bob, 404)):
        r = hub.ask("GET", "/admin/secret/torrent/main", token=token)
        assert (r.status, r.headers["X-Error-Code"]) == (status, "RepoNotFound")
    r = torrent(hub, "admin/secret/torrent/main")
    assert info(r.body).priv() and hub.token.encode() not in r.body
    done = aria2(tmp_path, r.body, "--header=Authorization: Bearer " + hub.token)
    assert done.returncode == 0, done.stdout + done.stderr
    same(tmp_path / "got" / info(r.body).name())


def rows(hub, sql):
    db = sqlite3.connect(hub.data / "hub.db", timeout=60)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def test_a_large_file_is_hashed_once(hub, folder):
    hub.repo("once")
    content = os.urandom(50_000)
    only = folder.parent / "once"
    only.mkdir()
    (only / "w.bin").write_bytes(content)
    push(hub, only, "admin/once")
    first = lt.bdecode(torrent(hub, "admin/once/torrent/main").body)
    oid = hashlib.sha256(content).hexdigest()
    path = hub.data / "objects" / oid[:2] / oid[2:4] / oid
    path.chmod(0o600)
    path.write_bytes(b"x" * len(content))  # whoever read it again would find another root
    try:
        assert hub.commit("admin/once", {"b.txt": b"b"}).status == 200
        second = lt.bdecode(torrent(hub, "admin/once/torrent/main").body)
    finally:
        path.write_bytes(content)
    assert first[b"info"][b"name"] != second[b"info"][b"name"]
    assert first[b"info"][b"file tree"][b"w.bin"] == second[b"info"][b"file tree"][b"w.bin"]
    assert first[b"piece layers"] == second[b"piece layers"]
    kept = f"SELECT piece_bytes FROM torrent_pieces WHERE oid = x'{oid}'"
    assert rows(hub, kept) == [(16384,)]
    hub.run("gc", "--age", "0")
    assert rows(hub, kept) == [(16384,)]
    assert hub.ask("DELETE", "/api/repos/delete", {"name": "once", "type": "model"}).status == 200
    hub.run("gc", "--age", "0")
    assert rows(hub, kept) == []
    assert rows(hub, "SELECT count(*) FROM torrents WHERE repo NOT IN (SELECT id FROM repos)") == [(0,)]


def test_the_last_torrents_are_kept(hub):
    hub.repo("many")
    for i in range(18):
        assert hub.commit("admin/many", {"n.txt": str(i).encode()}).status == 200
        torrent(hub, "admin/many/torrent/main")
    assert rows(hub, "SELECT count(*) FROM torrents WHERE repo = (SELECT id FROM repos WHERE name = 'many')") == [(16,)]


def test_what_has_no_torrent_says_why(hub, folder):
    repo = hub.repo("bad")
    assert hub.ask("GET", f"/{repo}/torrent/none").headers["X-Error-Code"] == "RevisionNotFound"
    lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "file", "value": {"path": "empty", "content": "", "encoding": "base64"}}, {"key": "deletedFile", "value": {"path": ".gitattributes"}}]
    assert hub.ask("POST", f"/api/models/{repo}/commit/main", "\n".join(map(json.dumps, lines)), headers={"Content-Type": "application/x-ndjson"}).status == 200
    r = hub.ask("GET", f"/{repo}/torrent/main")
    assert r.status == 404 and b"no file with anything in it" in r.body
    repo = hub.repo("gone")
    only = folder.parent / "gone"
    only.mkdir()
    (only / "w.bin").write_bytes(b"gone" * 1000)
    push(hub, only, repo)
    oid = hashlib.sha256(b"gone" * 1000).hexdigest()
    path = hub.data / "objects" / oid[:2] / oid[2:4] / oid
    path.rename(only / "kept")
    r = hub.ask("GET", f"/{repo}/torrent/main")
    assert r.status == 404 and b"'w.bin' is not in this hub" in r.body
    (only / "kept").rename(path)
    assert info(torrent(hub, f"{repo}/torrent/main").body).num_files() > 0


def test_padding_is_zeros_and_no_file_of_the_repository(hub):
    r = hub.ask("GET", "/admin/files/resolve/main/.pad/16283", token=None)
    assert r.status == 200 and r.body == bytes(16283)
    r = hub.ask("GET", "/admin/files/resolve/main/.pad_/5", token=None, headers={"Range": "bytes=1-2"})
    assert r.status == 206 and r.body == bytes(2)
    for name in ("0", "05", "16777216", "1x", "", "99999999999999999999", "5/5"):
        assert hub.ask("GET", "/admin/files/resolve/main/.pad/" + name).headers["X-Error-Code"] == "EntryNotFound", name
    assert all(not f["path"].startswith(".pad") for f in hub.ask("GET", "/api/models/admin/files/tree/main?recursive=1").json())
    assert hub.commit("admin/files", {".pad/16283": b"mine"}, rev="main", query="").status == 200
    assert hub.ask("GET", "/admin/files/resolve/main/.pad/16283").body == b"mine"
    t = lt.bdecode(torrent(hub).body)
    assert {f[b"path"][0] for f in t[b"info"][b"files"] if f.get(b"attr") == b"p"} == {b".pad_"}


def test_the_page_of_a_revision_has_its_torrent(hub):
    commit = hub.ask("GET", "/api/models/admin/files").json()["sha"]
    page = hub.ask("GET", "/admin/files/tree/main", token=None).body.decode()
    assert f'href="/admin/files/torrent/{commit}"' in page
    assert info(torrent(hub, f"admin/files/torrent/{commit}").body).name() == commit


def test_by_hand(hub, tmp_path):
    out = tmp_path / "t"
    text = hub.run("torrent", "admin/files@main", "--url", hub.url, "--to", str(out))
    assert out.read_bytes() == torrent(hub).body
    v1, v2 = hashes(out.read_bytes())
    assert f"v1 {v1}\nv2 {v2}\n" in text
    r = subprocess.run([*BINARY, "hub", "torrent", "admin/none", "--url", hub.url, "--to", str(out), "--data", str(hub.data)], capture_output=True, text=True)
    assert r.returncode != 0 and "admin/none" in r.stderr
