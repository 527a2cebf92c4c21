"""Reading through: stock clients ask one hub, and it fetches from another what it does not have."""
import concurrent.futures
import hashlib
import http.client
import pathlib
import random
import sqlite3
import threading
import time

import pytest

from conftest import until
from test_hub import Hub
from test_hub_follow import Between, fill
from test_hub_mirror import SNAPSHOT, UPLOAD, client, files_of, refs


def later(hub):
    """Half a minute and more has passed for what was asked upstream."""
    db = sqlite3.connect(pathlib.Path(hub.data) / "hub.db", timeout=60)
    db.execute("UPDATE mirrors SET tried_ms = 0")
    db.execute("UPDATE through_used SET used_ms = used_ms - 3600000")
    db.commit()
    db.close()


class Pair:
    def __init__(self, tmp_path, *options):
        self.there = Hub(tmp_path / "there")
        self.there.run("org", "add", "far", "admin")
        self.between = Between(self.there)
        self.here = Hub(tmp_path / "here", "--upstream", self.between.url, *options)

    def stop(self):
        self.here.stop()
        self.between.close()
        self.there.stop()

    def asked(self, part):
        return [a for a in self.between.asked if part in a[1]]


@pytest.fixture
def pair(tmp_path):
    p = Pair(tmp_path)
    yield p
    p.stop()


def objects(hub):
    return {p.name for p in (pathlib.Path(hub.data) / "objects").rglob("*") if p.is_file()}


def test_stock_clients_read_through(pair, tmp_path):
    folder = fill(pair.there, "far/a", tmp_path)
    wanted = files_of(folder)
    info = pair.here.ask("GET", "/api/models/far/a", token=None)
    assert info.status == 200 and info.json()["sha"] == refs(pair.there, "far/a")["refs/heads/main"]
    assert objects(pair.here) == set()  # no large file yet
    head = pair.here.ask("HEAD", "/far/a/resolve/main/w.bin", token=None)
    assert head.status == 200 and int(head.headers["Content-Length"]) == len(wanted["w.bin"]) == int(head.headers["X-Linked-Size"])
    assert objects(pair.here) == set()
    assert files_of(client(pair.here, SNAPSHOT, "far/a", "main", home=tmp_path / "x")) == wanted
    assert objects(pair.here) == {hashlib.sha256(wanted["w.bin"]).hexdigest()}
    asked = len(pair.asked("/lfs/objects/"))
    assert files_of(client(pair.here, SNAPSHOT, "far/a", "main", home=tmp_path / "y")) == wanted
    assert len(pair.asked("/lfs/objects/")) == asked  # kept
    pair.here.git("clone", pair.here.git_url("far/a"), "c", cwd=tmp_path)
    assert (tmp_path / "c" / "w.bin").read_bytes() == wanted["w.bin"]
    assert pair.here.commit("far/a", {"x": b"1"}).status == 403  # nobody writes to it
    assert not any("Authorization" in headers for _, _, headers in pair.between.asked)
    assert pair.here.ask("GET", "/.well-known/farseek/refs").body.count(b"\n") == 1  # on loan, not published
    assert pair.here.run("mirror") == ""
    pair.here.run("fsck")


def test_git_clone_first(pair, tmp_path):
    folder = fill(pair.there, "far/a", tmp_path)
    pair.here.git("clone", f"{pair.here.url}/far/a", "c", cwd=tmp_path)
    assert (tmp_path / "c" / "w.bin").read_bytes() == (folder / "w.bin").read_bytes()


def test_ranges_and_what_is_wrong_upstream(pair, tmp_path):
    folder = fill(pair.there, "far/a", tmp_path)
    data = (folder / "w.bin").read_bytes()
    pair.between.rules["^/lfs/objects/"] = lambda path, body: body[:-1] + bytes([body[-1] ^ 1])
    r = pair.here.ask("GET", "/far/a/resolve/main/w.bin", token=None)
    assert r.status == 502 and b"SHA-256" in r.body
    assert objects(pair.here) == set()
    pair.between.rules.clear()
    r = pair.here.ask("GET", "/far/a/resolve/main/w.bin", token=None, headers={"Range": "bytes=10-19"})
    assert r.status == 206 and r.body == data[10:20]
    assert pair.here.ask("GET", "/far/a/resolve/main/w.bin", token=None).body == data


def test_one_fetch_for_all_who_ask(pair, tmp_path):
    folder = fill(pair.there, "far/a", tmp_path, 4 << 20)
    data = (folder / "w.bin").read_bytes()
    pair.between.rules["^/lfs/objects/"] = lambda path, body: time.sleep(1) or body
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: pair.here.ask("GET", "/far/a/resolve/main/w.bin", token=None), range(12)))
    assert all(r.status == 200 and r.body == data for r in replies)
    assert len(pair.asked("/lfs/objects/")) == 2  # the batch and the bytes
    assert len(pair.asked("/git-upload-pack")) <= 3


@pytest.mark.parametrize("spoilt", [True, False])
def test_a_slow_file_is_sent_as_it_arrives_and_its_end_when_it_holds(pair, tmp_path, spoilt):
    data = (fill(pair.there, "far/a", tmp_path, 3 << 20) / "w.bin").read_bytes()
    rest = pair.between.holds["^/lfs/objects/"] = threading.Event()
    if spoilt:
        pair.between.rules["^/lfs/objects/"] = lambda path, body: body[:-1] + bytes([body[-1] ^ 1])
    c = http.client.HTTPConnection("127.0.0.1", pair.here.port, timeout=60)
    c.request("GET", "/far/a/resolve/main/w.bin")
    r = c.getresponse()
    assert r.status == 200 and r.read(1 << 16) == data[:1 << 16]  # of the rest nothing has been sent there
    rest.set()
    try:
        got, whole = r.read(), True
    except http.client.IncompleteRead as e:
        got, whole = e.partial, False
    assert whole != spoilt
    assert got == data[1 << 16:] if whole else len(got) < len(data) - (1 << 16) and data[1 << 16:].startswith(got)
    c.close()


def test_a_fetch_that_failed_is_not_joined(pair, tmp_path):
    """While one who does not read has not left it."""
    data = (fill(pair.there, "far/a", tmp_path, 16 << 20) / "w.bin").read_bytes()
    rest = pair.between.holds["^/lfs/objects/"] = threading.Event()
    pair.between.rules["^/lfs/objects/"] = lambda path, body: body[:-1] + bytes([body[-1] ^ 1])
    c = http.client.HTTPConnection("127.0.0.1", pair.here.port, timeout=60)
    c.request("GET", "/far/a/resolve/main/w.bin")
    r = c.getresponse()
    assert r.status == 200 and r.read(1 << 16) == data[:1 << 16]
    pair.between.rules.clear()
    pair.between.holds.clear()
    rest.set()
    part = pathlib.Path(pair.here.data) / "parts" / f"mirror-{hashlib.sha256(data).hexdigest()}"
    until(lambda: not part.exists())
    replies = []

    def arrived():
        replies.append(pair.here.ask("GET", "/far/a/resolve/main/w.bin", token=None, headers={"Range": "bytes=5-9"}))
        return replies[-1].status == 206

    until(arrived, 40)
    assert replies[-1].body == data[5:10] and len(pair.asked("/lfs/objects/")) == 4  # two batches, and the bytes twice
    c.close()


def test_names_that_are_not_there_are_not_asked_for_again_and_again(pair):
    for _ in range(5):
        assert pair.here.ask("GET", "/api/models/far/nothing", token=None).status == 401
        assert pair.here.ask("GET", "/far/nothing/resolve/main/config.json").status == 404
    assert len(pair.asked("nothing")) == 1
    pair.here.ask("GET", "/api/models/admin/secret-plan")  # a namespace of this hub's is nobody else's business
    pair.here.repo("admin/mine", private=True)
    pair.here.ask("GET", "/api/models/admin/mine", token=None)
    assert not pair.asked("secret-plan") and not pair.asked("mine")
    # nor are namespaces taken by asking: who comes later may have the name
    for i in range(3):
        assert pair.here.ask("GET", f"/api/models/ann{i}/nothing", token=None).status == 401
    with sqlite3.connect(pathlib.Path(pair.here.data) / "hub.db") as db:
        assert db.execute("SELECT count(*) FROM accounts WHERE upstream IS NOT NULL").fetchall() == [(0,)]
    db.close()
    assert pair.here.run("user", "add", "ann0").startswith("hf_")


def test_what_is_private_there_is_not_here(pair, tmp_path):
    pair.there.repo("far/hidden", private=True)
    answers = [pair.here.ask("GET", f"/api/models/far/{name}", token=t) for name in ("hidden", "nothing") for t in (None, pair.here.token)]
    assert [r.status for r in answers] == [401, 404, 401, 404] and answers[0].body == answers[2].body and answers[1].body == answers[3].body
    pair.there.repo("far/open")
    assert pair.here.ask("GET", "/api/models/far/open", token=None).status == 200
    pair.there.ask("PUT", "/api/models/far/open/settings", {"private": True})
    later(pair.here)
    assert pair.here.ask("GET", "/far/open/resolve/main/.gitattributes", token=None).status == 403


def test_a_hash_is_no_right_to_what_others_keep_here(pair, tmp_path):
    """A repository that is read through is asked for an object of a private one that is here."""
    pair.here.repo("admin/mine", private=True)
    (tmp_path / "m").mkdir()
    data = random.Random(5).randbytes(1 << 20)
    (tmp_path / "m" / "w.bin").write_bytes(data)
    client(pair.here, UPLOAD, "admin/mine", tmp_path / "m", "main", home=tmp_path / "up2")
    pair.there.repo("far/a")
    assert pair.here.ask("GET", "/api/models/far/a", token=None).status == 200
    oid = hashlib.sha256(data).hexdigest()
    answer = pair.here.batch("far/a", [{"oid": oid, "size": len(data)}], "download", token=None).json()["objects"][0]
    assert "actions" not in answer and answer["error"]["code"] == 404
    pair.there.commit("far/a", {"w.bin": f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()})  # names it, has it not
    later(pair.here)
    pair.here.ask("GET", "/api/models/far/a", token=None)
    r = pair.here.ask("GET", "/far/a/resolve/main/w.bin", token=None)
    assert r.status != 200 and data not in r.body
    answer = pair.here.batch("far/a", [{"oid": oid, "size": len(data)}], "download", token=None).json()["objects"][0]
    if "actions" in answer:
        r = pair.here.ask("GET", answer["actions"]["download"]["href"], token=None)
        assert r.status != 200 and data not in r.body


def test_it_follows_and_does_without(pair, tmp_path):
    folder = fill(pair.there, "far/a", tmp_path)
    assert pair.here.ask("GET", "/far/a/resolve/main/w.bin", token=None).status == 200
    pair.there.commit("far/a", {"x": b"new"})
    later(pair.here)
    assert pair.here.ask("GET", "/far/a/resolve/main/x", token=None).body == b"new"
    later(pair.here)
    pair.there.stop()
    try:
        assert pair.here.ask("GET", "/far/a/resolve/main/w.bin", token=None).body == (folder / "w.bin").read_bytes()
    finally:
        pair.there.start(pair.there.port)


def test_room_is_made_by_what_was_read_longest_ago(tmp_path):
    pair = Pair(tmp_path, "--upstream-quota", "3MiB")
    try:
        data = {}
        for i in range(4):
            folder = fill(pair.there, f"far/m{i}", tmp_path)
            data[i] = (folder / "w.bin").read_bytes()
        oids = {i: hashlib.sha256(d).hexdigest() for i, d in data.items()}
        for i in (0, 1, 2):
            assert pair.here.ask("GET", f"/far/m{i}/resolve/main/w.bin", token=None).body == data[i]
        later(pair.here)
        assert pair.here.ask("GET", "/far/m0/resolve/main/w.bin", token=None).body == data[0]
        assert pair.here.ask("GET", "/far/m3/resolve/main/w.bin", token=None).body == data[3]
        assert objects(pair.here) == {oids[0], oids[3]} | objects(pair.here) & {oids[1], oids[2]} and len(objects(pair.here)) == 3
        fill(pair.there, "far/large", tmp_path, 4 << 20)
        assert pair.here.ask("GET", "/far/large/resolve/main/w.bin", token=None).status == 507
        gone = ({oids[1], oids[2]} - objects(pair.here)).pop()
        again = next(i for i, oid in oids.items() if oid == gone)
        assert pair.here.ask("GET", f"/far/m{again}/resolve/main/w.bin", token=None).body == data[again]
        pair.here.run("fsck")
    finally:
        pair.stop()
