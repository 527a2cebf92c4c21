"""Files that came by Xet are kept in their xorbs alone: whoever wants one whole gets it from there, and what must have a file of it makes one."""
import http.client
import io
import json
import os
import pickle
import random
import sqlite3
import struct
import subprocess
import zipfile

import pytest

from test_hub import Hub, sha256
from test_hub_scan import Runs, safetensors, torch_zip
from test_hub_xet import bytes_of, file_info, range_proof, shard, stored, text_of, token_for, xorb_of


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("whole") / "data")
    yield h
    h.stop()


def upload(hub, repo, data, path="w.bin", parts=(0.3, 0.31, 0.8)):
    """By Xet, in chunks of random length, of two xorbs in turn; then a commit."""
    blake3 = pytest.importorskip("blake3").blake3
    rng = random.Random(len(data))
    if hub.ask("GET", f"/api/models/admin/{repo}").status != 200:
        hub.repo(repo)
    chunks, at = [], 0
    while at < len(data):
        n = min(len(data) - at, rng.randrange(8_000, 131_072))
        chunks.append(data[at:at + n])
        at += n
    write = token_for(hub, f"admin/{repo}", "write")
    cuts = sorted({0, len(chunks), *(int(p * len(chunks)) for p in parts)})
    pieces = list(zip(cuts, cuts[1:]))
    kept = [[c for i, (a, b) in enumerate(pieces) if i % 2 == side for c in chunks[a:b]] for side in (0, 1)]
    xorbs = [xorb_of(k) if k else None for k in kept]
    for x in filter(None, xorbs):
        assert hub.ask("POST", f"/v1/xorbs/default/{x[1]}", x[0], write).status == 200
    terms, used = [], [0, 0]
    for i, (a, b) in enumerate(pieces):
        name, hashes, first = xorbs[i % 2][1], xorbs[i % 2][2], used[i % 2]
        used[i % 2] += b - a
        terms.append((name, sum(map(len, chunks[a:b])), first, first + b - a, range_proof(hashes[first:first + b - a])))
    whole = xorb_of(chunks)[1]  # the tree of all chunks
    info = file_info(text_of(blake3(bytes_of(whole), key=bytes(32)).digest()), terms, sha256(data))
    r = hub.ask("POST", "/v1/shards", shard([info]), write)
    assert r.status == 200, r.body
    lines = [{"key": "header", "value": {"summary": path}}, {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": sha256(data), "size": len(data)}}]
    r = hub.ask("POST", f"/api/models/admin/{repo}/commit/main", "\n".join(map(json.dumps, lines)), headers={"Content-Type": "application/x-ndjson"})
    assert r.status == 200, r.body


def file_of(hub, data):
    oid = sha256(data)
    return hub.data / "objects" / oid[:2] / oid[2:4] / oid


def get(hub, repo, path="w.bin", **headers):
    return hub.ask("GET", f"/admin/{repo}/resolve/main/{path}", headers=headers)


def test_it_is_kept_once_and_sent_from_there(hub):
    data = random.Random(1).randbytes(7_654_321)
    before = stored(hub)
    upload(hub, "once", data)
    assert not file_of(hub, data).exists() and stored(hub) - before < len(data) + 20_000
    r = get(hub, "once")
    assert r.body == data and r.headers["X-Xet-Hash"] and r.headers["Content-Length"] == str(len(data)) and r.headers["Accept-Ranges"] == "bytes"
    r = hub.ask("HEAD", "/admin/once/resolve/main/w.bin")
    assert r.status == 200 and r.headers["Content-Length"] == str(len(data)) and r.headers["X-Linked-Etag"] == f'"{sha256(data)}"'
    rng = random.Random(2)
    for _ in range(60):
        begin = rng.randrange(len(data))
        end = min(len(data), begin + rng.choice((1, 100, 70_000, 3_000_000)))
        r = get(hub, "once", Range=f"bytes={begin}-{end - 1}")
        assert r.status == 206 and r.body == data[begin:end] and r.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{len(data)}", (begin, end)
    assert get(hub, "once", Range="bytes=-5").body == data[-5:] and get(hub, "once", Range=f"bytes={len(data)}-").status == 416
    (o,) = hub.batch("admin/once", [{"oid": sha256(data), "size": len(data)}], "download").json()["objects"]
    assert hub.ask("GET", o["actions"]["download"]["href"], token=None).body == data
    (o,) = hub.batch("admin/once", [{"oid": sha256(data), "size": len(data)}]).json()["objects"]
    assert "actions" not in o  # it is there
    hub.run("fsck")
    assert not file_of(hub, data).exists()


def test_a_file_is_made_for_who_must_have_one(hub, tmp_path):
    data = random.Random(3).randbytes(3_000_000)
    upload(hub, "made", data)
    hub.run("torrent", "admin/made", "--url", hub.url, "--to", str(tmp_path / "t"))
    assert file_of(hub, data).read_bytes() == data == get(hub, "made").body
    other = data + b"more"
    upload(hub, "made", other, "other.bin")
    hub.run("export", "admin/made", "--to", str(tmp_path / "bundle"))
    assert file_of(hub, other).read_bytes() == other == get(hub, "made", "other.bin").body
    hub.run("fsck")


def test_a_fork_and_a_copy_of_the_hub(hub, tmp_path):
    data = random.Random(4).randbytes(2_000_000)
    upload(hub, "source", data)
    assert hub.ask("POST", "/api/models/admin/source/duplicate", {"repository": "admin/forked"}).status == 200
    hub.run("backup", "--to", str(tmp_path / "copy"))
    hub.ask("DELETE", "/api/repos/delete", {"name": "source"})
    hub.run("gc", "--age", "0")
    assert get(hub, "forked").body == data and not file_of(hub, data).exists()
    copy = Hub(tmp_path / "copy")
    copy.token = hub.token
    assert get(copy, "source").body == data
    copy.run("fsck")
    copy.stop()


def test_garbage_leaves_nothing(tmp_path):
    hub = Hub(tmp_path / "data")
    upload(hub, "gone", random.Random(5).randbytes(2_000_000))
    hub.ask("DELETE", "/api/repos/delete", {"name": "gone"})
    hub.run("gc", "--age", "0")
    assert stored(hub) == 0
    with sqlite3.connect(hub.data / "hub.db") as db:
        assert [db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("objects", "xet_files", "xet_file_xorbs", "xet_xorbs", "xet_chunks")] == [0] * 5
    hub.stop()


def test_a_spoilt_xorb_breaks_the_download_off(farseek, tmp_path):
    hub = Hub(tmp_path / "data")
    data = random.Random(6).randbytes(2_000_000)
    upload(hub, "spoilt", data)
    xorbs = [p for p in (hub.data / "xorbs").rglob("*") if p.is_file()]
    sound = {p: p.read_bytes() for p in xorbs}
    for p in xorbs:
        p.chmod(0o600)
    largest = max(xorbs, key=lambda p: p.stat().st_size)
    for missing in (False, True):
        if missing:
            largest.unlink()
            assert get(hub, "spoilt").status == 404
            assert "actions" in hub.batch("admin/spoilt", [{"oid": sha256(data), "size": len(data)}]).json()["objects"][0]  # to be sent again
        else:
            os.truncate(largest, 500_000)
            with pytest.raises(http.client.IncompleteRead):  # less than Content-Length says
                get(hub, "spoilt")
        with pytest.raises(subprocess.CalledProcessError) as e:  # no file is made of it, and the xorbs that are there stay
            hub.run("gc", "--age", "0", "--xorbs", "0", "--force")
        assert f"object {sha256(data)}: " in e.value.stderr
        r = farseek("hub", "fsck", "--data", hub.data, check=False)
        assert r.returncode == 1 and f"object {sha256(data)}: " in r.stdout and f"xorb {largest.name}: " in r.stdout
        largest.write_bytes(sound[largest])
        assert get(hub, "spoilt").body == data
        hub.run("fsck")
    # sent again in other xorbs, the file is made of those
    largest.unlink()
    upload(hub, "spoilt", data, parts=(0.5,))
    assert get(hub, "spoilt").body == data
    assert farseek("hub", "fsck", "--data", hub.data, "--repair", check=False).returncode == 0
    assert get(hub, "spoilt").body == data
    hub.run("fsck")
    hub.stop()


def test_a_damaged_file_is_made_again(farseek, tmp_path):
    hub = Hub(tmp_path / "data")
    data = random.Random(7).randbytes(2_000_000)
    upload(hub, "twice", data)
    for spoil in (lambda p: p.write_bytes(data[:-1] + b"x"), lambda p: p.write_bytes(b""), lambda p: p.unlink()):
        hub.run("torrent", "admin/twice", "--url", hub.url, "--to", str(tmp_path / "t"))
        with sqlite3.connect(hub.data / "hub.db", timeout=20) as db:
            db.execute("DELETE FROM torrent_pieces")
            db.execute("DELETE FROM torrents")
        if not file_of(hub, data).exists():
            hub.run("export", "admin/twice", "--to", str(tmp_path / f"b{random.random()}"))
        file_of(hub, data).chmod(0o600)
        spoil(file_of(hub, data))
        r = farseek("hub", "fsck", "--data", hub.data, "--repair", check=False)
        assert r.returncode == 0, r.stdout
        assert not file_of(hub, data).exists() and get(hub, "twice").body == data
        hub.run("fsck")
    hub.stop()


def test_what_the_database_says_of_a_xorb_is_mended(farseek, tmp_path):
    hub = Hub(tmp_path / "data")
    data = random.Random(8).randbytes(2_000_000)
    upload(hub, "rows", data)
    with sqlite3.connect(hub.data / "hub.db", timeout=20) as db:
        for hash, chunks in db.execute("SELECT hash, chunks FROM xet_xorbs").fetchall():
            db.execute("UPDATE xet_xorbs SET chunks = ? WHERE hash = ?", (chunks[:32] + b"\x01" + chunks[33:-40], hash))
    r = farseek("hub", "fsck", "--data", hub.data, check=False)
    assert r.returncode == 1 and "the database has other chunks" in r.stdout and f"object {sha256(data)}: " in r.stdout
    r = farseek("hub", "fsck", "--data", hub.data, "--repair", check=False)
    assert r.returncode == 0 and get(hub, "rows").body == data, r.stdout
    hub.run("fsck")
    hub.stop()


def padded(n, protocol):
    """A pickle whose import stands behind n bytes of a value."""
    if protocol == 0:
        return b"(lp0\n" + b"I1\na" * (n // 4) + pickle.dumps(Runs(), 0)[:-1] + b"."
    return b"\x80\x03B" + n.to_bytes(4, "little") + bytes(n) + b"0" + pickle.dumps(Runs(), 3)[2:]


ZIP_BEHIND = io.BytesIO()
with zipfile.ZipFile(ZIP_BEHIND, "w", zipfile.ZIP_STORED) as z:
    z.writestr("archive/data.pkl", pickle.dumps(Runs(), 2))
    z.writestr("archive/data/0", random.Random(8).randbytes(3_000_000))

GGUF = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q1sIQIQ", 1, b"w", 1, 500_000, 0, 0)
GGUF += bytes(-len(GGUF) % 32) + random.Random(13).randbytes(2_000_000)

SCANNED = {  # name: content, status, whether a file is made of it
    "random.bin": (b"\xff" + random.Random(9).randbytes(4_000_000), "safe", False),
    "random.weights": (random.Random(10).randbytes(4_000_000), "safe", False),
    "good.safetensors": (safetensors(1_000_000), "safe", False),
    "bad.safetensors": (b"\x10" + bytes(7) + b"{" + random.Random(11).randbytes(3_000_000), "caution", True),
    "good.gguf": (GGUF, "safe", False),
    "bad.gguf": (GGUF[:100] + GGUF[132:], "caution", False),  # its tables are what is read of it
    "hidden.weights": (padded(2_500_000, 3), "unsafe", True),
    "zip.weights": (random.Random(14).randbytes(2_000_000) + ZIP_BEHIND.getvalue(), "safe", False),  # nobody takes that for a zip by its name
    "good.bin": (torch_zip([1.0] * 400_000), "safe", True),
    "late.bin": (padded(2_500_000, 3), "unsafe", True),
    "late.pkl": (padded(2_500_000, 0), "unsafe", True),
    "zip.bin": (ZIP_BEHIND.getvalue(), "unsafe", True),
    "behind.bin": (random.Random(12).randbytes(2_000_000) + ZIP_BEHIND.getvalue(), "unsafe", True),
    "small.bin": (pickle.dumps(Runs(), 2) + bytes(100_000), "unsafe", False),
}


@pytest.mark.parametrize("name", SCANNED)
def test_what_it_holds_is_seen(hub, name):
    data, status, made = SCANNED[name]
    upload(hub, "scanned", data, name)
    (info,) = [f for f in hub.ask("GET", "/api/models/admin/scanned/tree/main?expand=true").json() if f["path"] == name]
    assert info["securityFileStatus"]["status"] == status, info
    assert file_of(hub, data).exists() == made and get(hub, "scanned", name).body == data


def test_terms_are_no_shorter_than_chunks(hub):
    """A file in so many pieces that reading it would take memory out of proportion."""
    hub.repo("crumbs")
    write = token_for(hub, "admin/crumbs", "write")
    xorb, name, hashes = xorb_of([b"x"] * 64)
    assert hub.ask("POST", f"/v1/xorbs/default/{name}", xorb, write).status == 200
    proof = range_proof(hashes[:1])
    r = hub.ask("POST", "/v1/shards", shard([file_info("0" * 64, [(name, 1, 0, 1, proof)] * 1025, "1" * 64)]), write)
    assert r.status == 400 and "a file of 1025 bytes in 1025 terms, at most 1024 are allowed" in r.json()["error"], r.body
    r = hub.ask("POST", "/v1/shards", shard([file_info("0" * 64, [(name, 1, 0, 1, proof)] * 1024, "1" * 64)]), write)
    assert r.status == 400 and "a file's hash is not that of its chunks" in r.json()["error"], r.body
