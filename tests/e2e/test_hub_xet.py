"""The hub's Xet storage: what hf-xet does, and what no client would."""
import hashlib
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import urllib.parse

import pytest

from test_hub import Hub, sha256

CLIENT = """
import sys
from huggingface_hub import HfApi, hf_hub_download
repo, path, how = sys.argv[1:4]
api = HfApi()
if how == "up":
    api.create_repo(repo, exist_ok=True)
    api.upload_file(path_or_fileobj=path, path_in_repo="w.bin", repo_id=repo)
else:
    print(hf_hub_download(repo, "w.bin"))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("hub") / "data")
    for name in ("bob", "carol"):
        setattr(h, name, h.run("user", "add", name).strip())
    yield h
    h.stop()


def client(hub, how, repo, path, home, token=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "http"))}
    env.update(HF_ENDPOINT=hub.url, HF_TOKEN=token or hub.token, HF_HOME=str(home), HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    r = subprocess.run([sys.executable, "-c", CLIENT, repo, str(path), how], capture_output=True, text=True, env=env, timeout=300)
    assert r.returncode == 0, r.stderr
    return r.stdout.strip()


def stored(hub):
    return sum(p.stat().st_size for p in (pathlib.Path(hub.data) / "xorbs").rglob("*") if p.is_file())


def token_for(hub, repo, kind, token=True, query=""):
    r = hub.ask("GET", f"/api/models/{repo}/xet-{kind}-token/main{query}", token=token)
    assert r.status == 200, r.body
    t = r.json()
    assert t["casUrl"] == hub.url == r.headers["X-Xet-Cas-Url"] and t["accessToken"] == r.headers["X-Xet-Access-Token"]
    return t["accessToken"]


# ---- round trips ----

def test_edits_of_a_large_file_upload_little(hub, tmp_path):
    data = bytearray(random.Random(5).randbytes(200 << 20))
    file = tmp_path / "w.bin"
    file.write_bytes(data)
    client(hub, "up", "admin/edited", file, tmp_path / "one")
    before = stored(hub)
    assert before < 1.01 * len(data)
    # by the same machine, anywhere in the file
    for at in (1000, len(data) // 2, len(data) - 5000):
        data[at:at] = b"an insertion"
    data[70_000_000:70_000_100] = bytes(100)
    file.write_bytes(data)
    client(hub, "up", "admin/edited", file, tmp_path / "one")
    after = stored(hub)
    assert after - before < 0.03 * len(data)
    # and by one that has never seen the file, into another repository
    data[len(data) // 3:len(data) // 3] = b"another insertion"
    file.write_bytes(data)
    client(hub, "up", "admin/edited-elsewhere", file, tmp_path / "two")
    assert stored(hub) - after < 0.03 * len(data)
    got = client(hub, "down", "admin/edited-elsewhere", file, tmp_path / "three")
    assert hashlib.sha256(pathlib.Path(got).read_bytes()).digest() == hashlib.sha256(data).digest()


def test_what_compresses_is_compressed_and_comes_back(hub, tmp_path):
    import numpy as np
    values = np.random.default_rng(1).normal(size=2_000_000).astype(np.float32)
    data = values.tobytes() + b"farseek " * 300_000
    file = tmp_path / "w.bin"
    file.write_bytes(data)
    before = stored(hub)
    client(hub, "up", "admin/floats", file, tmp_path / "one")
    assert stored(hub) - before < 0.9 * len(data)
    assert pathlib.Path(client(hub, "down", "admin/floats", file, tmp_path / "two")).read_bytes() == data
    # by plain HTTP, whole and in part
    r = hub.ask("GET", "/admin/floats/resolve/main/w.bin")
    assert r.body == data and r.headers["X-Linked-Etag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    r = hub.ask("GET", "/admin/floats/resolve/main/w.bin", headers={"Range": "bytes=1000000-2000000"})
    assert r.status == 206 and r.body == data[1_000_000:2_000_001]


# ---- reconstructions ----

def chunks_of(xorb):
    """(begin, end) of every chunk in the bytes of a xorb, and its length."""
    at = 0
    while at < len(xorb):
        packed, n = int.from_bytes(xorb[at + 1:at + 4], "little"), int.from_bytes(xorb[at + 5:at + 8], "little")
        yield at, at + 8 + packed, xorb[at + 4], n
        at += 8 + packed


def unpack(part):
    """The content of stored chunks, one behind the other."""
    out = b""
    for begin, end, kind, n in chunks_of(part):
        assert kind == 0 and end - begin - 8 == n
        out += part[begin + 8:end]
    return out


def fetch(hub, link, ranges):
    r = hub.ask("GET", link, token=None, headers={"Range": "bytes=" + ",".join(f"{a}-{b}" for a, b in ranges)})
    assert r.status == 206
    if len(ranges) == 1:
        return [r.body]
    kind = r.headers["Content-Type"]
    assert kind.startswith("multipart/byteranges; boundary=")
    boundary = b"\r\n--" + kind.split("=")[1].encode()
    parts = r.body.split(boundary)
    assert parts[0] == b"" and parts[-1] == b"--\r\n"
    return [p.split(b"\r\n\r\n", 1)[1] for p in parts[1:-1]]


@pytest.fixture(scope="module")
def large(hub, tmp_path_factory):
    """A file of incompressible bytes in admin/large, its Xet hash and a token to read it."""
    folder = tmp_path_factory.mktemp("large")
    data = random.Random(6).randbytes(20 << 20)
    data = data + data[:4 << 20] + data[9 << 20:10 << 20]  # some chunks twice
    (folder / "w.bin").write_bytes(data)
    client(hub, "up", "admin/large", folder / "w.bin", folder / "home")
    entry = next(e for e in hub.ask("GET", "/api/models/admin/large/tree/main").json() if e["path"] == "w.bin")
    assert entry["lfs"]["oid"] == hashlib.sha256(data).hexdigest()
    head = hub.ask("HEAD", "/admin/large/resolve/main/w.bin")
    assert head.headers["X-Xet-Hash"] == entry["xetHash"] and 'rel="xet-auth"' in head.headers["Link"]
    return data, entry["xetHash"], token_for(hub, "admin/large", "read")


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("asked", [None, (0, 0), (0, 5_000_000), (12_345_678, 12_345_678), (7_000_000, 22_000_000), (26_000_000, 10**12)])
def test_any_range_is_rebuilt_from_its_links(hub, large, version, asked):
    data, name, token = large
    r = hub.ask("GET", f"/{version}/reconstructions/{name}", token=token, headers={"Range": f"bytes={asked[0]}-{asked[1]}"} if asked else None)
    assert r.status == 200
    answer = r.json()
    content = {}  # (xorb, chunk) -> bytes
    for xorb, entries in (answer["fetch_info"] if version == "v1" else answer["xorbs"]).items():
        for e in entries:
            if version == "v1":
                wanted = [(e["range"], e["url_range"])]
            else:
                wanted = [(x["chunks"], x["bytes"]) for x in e["ranges"]]
            for (chunks, _), part in zip(wanted, fetch(hub, e["url"], [(b["start"], b["end"]) for _, b in wanted])):
                pieces = list(chunks_of(part))
                assert len(pieces) == chunks["end"] - chunks["start"]
                for i, (begin, end, _, _) in enumerate(pieces):
                    content[xorb, chunks["start"] + i] = unpack(part[begin:end])
    out = b""
    for t in answer["terms"]:
        term = b"".join(content[t["hash"], i] for i in range(t["range"]["start"], t["range"]["end"]))
        assert len(term) == t["unpacked_length"]
        out += term
    begin, end = (0, len(data)) if not asked else (asked[0], min(asked[1] + 1, len(data)))
    skip = answer["offset_into_first_range"]
    assert out[skip:skip + end - begin] == data[begin:end]
    assert skip < 131072 and len(out) - (end - begin) < 2 * 131072  # nothing more than the chunks at the ends


def test_a_range_past_the_end(hub, large):
    data, name, token = large
    r = hub.ask("GET", f"/v2/reconstructions/{name}", token=token, headers={"Range": f"bytes={len(data)}-"})
    assert r.status == 416 and r.headers["Content-Range"] == f"bytes */{len(data)}"
    assert hub.ask("HEAD", f"/v1/files/{name}", token=token).status == 200


# ---- who may ----

def test_links_are_for_their_bytes_only(hub, large):
    _, name, token = large
    answer = hub.ask("GET", f"/v2/reconstructions/{name}", token=token, headers={"Range": "bytes=1000000-1200000"}).json()
    (entry,), = answer["xorbs"].values()
    a, b = entry["ranges"][0]["bytes"]["start"], entry["ranges"][0]["bytes"]["end"]
    link = entry["url"]
    get = lambda url, ranges: hub.ask("GET", url, token=None, headers={"Range": f"bytes={ranges}"} if ranges else None).status
    assert get(link, f"{a}-{b}") == 206 and get(link, f"{a + 5}-{b - 5}") == 206
    for ranges in (f"{a - 1}-{b}", f"{a}-{b + 1}", "0-10", f"{a}-{b},0-0", f"{a}-", None):
        assert get(link, ranges) == 403, ranges
    u = urllib.parse.urlsplit(link)
    q = dict(urllib.parse.parse_qsl(u.query))
    for change in ({"r": "0-99999999"}, {"exp": str(int(q["exp"]) + 1)}, {"exp": "1"}, {"sig": q["sig"][:-1] + ("0" if q["sig"][-1] != "0" else "1")}, {"sig": ""}):
        assert get(u._replace(query=urllib.parse.urlencode({**q, **change})).geturl(), f"{a}-{b}") == 403, change
    other = u.path[:-1] + ("0" if u.path[-1] != "0" else "1")
    assert get(u._replace(path=other).geturl(), f"{a}-{b}") == 403


def test_a_private_repository_s_chunks_are_nobody_else_s(hub, tmp_path):
    data = random.Random(8).randbytes(3 << 20)
    (tmp_path / "w.bin").write_bytes(data)
    hub.repo("carol/secret", hub.carol, private=True)
    client(hub, "up", "carol/secret", tmp_path / "w.bin", tmp_path / "home", hub.carol)
    name = hub.ask("GET", "/api/models/carol/secret/tree/main", token=hub.carol).json()[-1]["xetHash"]
    first = subprocess.run([sys.executable, "-c", "import hf_xet,sys; print(hf_xet.hash_files([sys.argv[1]])[0].hash)", tmp_path / "w.bin"], capture_output=True, text=True)
    assert first.stdout.strip() == name
    mine = token_for(hub, "carol/secret", "read", hub.carol)
    answer = hub.ask("GET", f"/v2/reconstructions/{name}", token=mine).json()
    xorb = next(iter(answer["xorbs"]))
    assert hub.ask("HEAD", f"/v1/xorbs/default/{xorb}", token=mine).status == 200
    hub.repo("bob/open", hub.bob)
    bobs = token_for(hub, "bob/open", "write", hub.bob)
    assert hub.ask("GET", f"/v2/reconstructions/{name}", token=bobs).status == 404
    assert hub.ask("HEAD", f"/v1/xorbs/default/{xorb}", token=bobs).status == 404
    # the first chunk is found by its owner alone
    chunk = first_chunk(hub, answer)
    assert hub.ask("GET", f"/v1/chunks/default/{chunk}", token=mine).status == 200
    assert hub.ask("GET", f"/v1/chunks/default/{chunk}", token=bobs).status == 404
    # and a shard of bob's that names carol's xorb is refused
    assert b"not here" in hub.ask("POST", "/v1/shards", shard([file_info(name, [(xorb, 1, 0, 1, "0" * 64)], "0" * 64)]), token=bobs).body
    for path in ("/api/models/carol/secret/xet-read-token/main", "/api/models/carol/secret/xet-write-token/main"):
        assert hub.ask("GET", path, token=hub.bob).status == 404
        assert hub.ask("GET", path, token=None).status == 401


def first_chunk(hub, answer):
    """The hash of the file's first chunk, computed here."""
    blake3 = pytest.importorskip("blake3")
    xorb, entries = next(iter(answer["xorbs"].items()))
    b = entries[0]["ranges"][0]["bytes"]
    part = fetch(hub, entries[0]["url"], [(b["start"], b["end"])])[0]
    begin, end, _, _ = next(chunks_of(part))
    key = bytes([102, 151, 245, 119, 91, 149, 80, 222, 49, 53, 203, 172, 165, 151, 24, 28, 157, 228, 33, 16, 155, 235, 43, 88, 180, 208, 176, 75, 147, 173, 242, 41])
    return text_of(blake3.blake3(unpack(part[begin:end]), key=key).digest())


def text_of(h):
    return "".join(h[i:i + 8][::-1].hex() for i in range(0, 32, 8))


def bytes_of(text):
    raw = bytes.fromhex(text)
    return b"".join(raw[i:i + 8][::-1] for i in range(0, 32, 8))


END = b"\xff" * 32 + bytes(16)
TAG = b"HFRepoMetaData\0" + bytes([85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169])


def u32(*v):
    return b"".join(x.to_bytes(4, "little") for x in v)


def file_info(name, terms, sha256, flags=0xC0000000):
    out = bytes_of(name) + u32(flags, len(terms)) + bytes(8)
    for xorb, n, begin, end, _ in terms:
        out += bytes_of(xorb) + u32(0, n, begin, end)
    for *_, proof in terms:
        out += bytes_of(proof) + bytes(16)
    return out + bytes_of(sha256) + bytes(16)


def shard(files):
    return TAG + u32(2, 0, 0, 0) + b"".join(files) + END + END


def test_a_shard_must_be_true(hub, large):
    """Each of its claims, changed alone, ends in a sentence, and the file it names is not there."""
    blake3 = pytest.importorskip("blake3")
    hub.repo("bob/claims", hub.bob)
    write = token_for(hub, "bob/claims", "write", hub.bob)
    content = b"one chunk of a file " * 500
    header = bytes([0]) + len(content).to_bytes(3, "little") + bytes([0]) + len(content).to_bytes(3, "little")
    keyed = lambda key, x: blake3.blake3(x, key=bytes(key)).digest()
    data_key = [102, 151, 245, 119, 91, 149, 80, 222, 49, 53, 203, 172, 165, 151, 24, 28, 157, 228, 33, 16, 155, 235, 43, 88, 180, 208, 176, 75, 147, 173, 242, 41]
    range_key = [127, 24, 87, 214, 206, 86, 237, 102, 18, 127, 249, 19, 231, 165, 195, 243, 164, 205, 38, 213, 181, 219, 73, 230, 65, 36, 152, 127, 40, 251, 148, 195]
    chunk = keyed(data_key, content)
    xorb, name, proof = text_of(chunk), text_of(keyed([0] * 32, chunk)), text_of(keyed(range_key, chunk))  # of one chunk: the chunk's own
    good = dict(name=name, terms=[(xorb, len(content), 0, 1, proof)], sha256=hashlib.sha256(content).hexdigest())

    put = lambda x, token, body: hub.ask("POST", f"/v1/xorbs/default/{x}", body, token)
    wrong = xorb[:-1] + ("0" if xorb[-1] != "0" else "1")
    for body, where, status in ((header + content, wrong, 400), (header + content[:-1], xorb, 400), (b"", xorb, 400), (header + content + b"x", xorb, 400), (header + content, xorb.upper(), 400)):
        assert put(where, write, body).status == status
    assert put(xorb, token_for(hub, "bob/claims", "read", hub.bob), header + content).status == 403
    assert put(xorb, hub.bob, header + content).status == 401
    assert hub.ask("POST", "/v1/shards", shard([file_info(**good)]), write).status == 400  # the xorb is not there yet
    assert put(xorb, write, header + content).json() == {"was_inserted": True}
    assert put(xorb, write, header + content).json() == {"was_inserted": False}
    other = "1" * 64
    lies = [dict(name=other), dict(sha256=other), dict(terms=[(other, len(content), 0, 1, proof)]), dict(terms=[(xorb, len(content) + 1, 0, 1, proof)]),
            dict(terms=[(xorb, len(content), 0, 2, proof)]), dict(terms=[(xorb, len(content), 1, 1, proof)]), dict(terms=[(xorb, len(content), 0, 1, other)]),
            dict(terms=[]), dict(terms=[(xorb, len(content), 0, 0xffffffff, proof)]), dict(flags=0x40000000), dict(terms=good["terms"] * 2)]
    for lie in lies:
        for path in ("/v1/shards", "/v2/shards"):
            r = hub.ask("POST", path, shard([file_info(**{**good, **lie})]), write)
            if path == "/v1/shards":
                assert r.status == 400 and "error" in r.json(), (lie, r.body)
            elif r.status == 200:
                assert json.loads(r.body.splitlines()[-1])["type"] == "error", (lie, r.body)
    many = hub.ask("POST", "/v1/shards", shard([file_info(**{**good, "terms": [(xorb, 1, 0, 1 << 14, proof)] * ((1 << 11) + 1)})]), write)
    assert many.status == 400 and f"a file of {(1 << 25) + (1 << 14)} chunks" in many.json()["error"]
    read = token_for(hub, "bob/claims", "read", hub.bob)
    assert hub.ask("GET", f"/v2/reconstructions/{name}", token=read).status == 404
    r = hub.ask("POST", "/v2/shards", shard([file_info(**good)]), write)
    assert json.loads(r.body.splitlines()[-1]) == {"type": "result", "result": 1}
    assert hub.ask("GET", f"/v2/reconstructions/{name}", token=read).status == 200
    # what is uploaded to one repository is not in another until it is uploaded there, too
    assert hub.ask("GET", f"/v2/reconstructions/{name}", token=large[2]).status == 404


def test_tokens_end(hub, tmp_path):
    hub.repo("carol/tokens", hub.carol)
    key = hub.run("token", "add", "carol", "--name", "short", "--role", "write").strip()
    t = token_for(hub, "carol/tokens", "write", key)
    assert hub.ask("GET", "/v1/chunks/default/" + "0" * 64, token=t).status == 404
    parts = t.split(".")
    assert parts[0] == "xet" and len(parts) == 7
    for i in range(1, 7):
        changed = parts[:i] + [parts[i][:-1] + ("1" if parts[i][-1] != "1" else "2")] + parts[i + 1:]
        assert hub.ask("GET", "/v1/chunks/default/" + "0" * 64, token=".".join(changed)).status == 401, i
    hub.run("token", "revoke", "carol", "--name", "short")
    assert hub.ask("GET", "/v1/chunks/default/" + "0" * 64, token=t).status == 401
    assert hub.ask("GET", "/api/models/carol/tokens/xet-write-token/main", token=hub.bob).status == 403
    assert hub.ask("GET", "/api/models/carol/tokens/xet-write-token/main?create_pr=1", token=hub.bob).status == 200


def test_quota(hub, tmp_path):
    (tmp_path / "w.bin").write_bytes(random.Random(9).randbytes(2 << 20))
    hub.repo("bob/full", hub.bob)
    hub.run("quota", "bob", "--limit", "1MB")
    with pytest.raises(AssertionError, match="quota|413"):
        client(hub, "up", "bob/full", tmp_path / "w.bin", tmp_path / "home", hub.bob)
    hub.run("quota", "bob", "--limit", "1GB")
    client(hub, "up", "bob/full", tmp_path / "w.bin", tmp_path / "home2", hub.bob)


def test_garbage_of_xet_goes_with_its_last_repository(hub, tmp_path):
    file = tmp_path / "w"
    file.write_bytes(random.Random(77).randbytes(3 << 20))
    client(hub, "up", "admin/xet-one", file, tmp_path / "h1")
    client(hub, "up", "admin/xet-two", file, tmp_path / "h2")
    before = stored(hub)
    hub.ask("DELETE", "/api/repos/delete", {"name": "xet-one"})
    hub.run("gc", "--age", "0")
    assert hub.ask("GET", "/admin/xet-two/resolve/main/w.bin").body == file.read_bytes() and stored(hub) >= before - (1 << 20)
    assert pathlib.Path(client(hub, "down", "admin/xet-two", file, tmp_path / "h3")).read_bytes() == file.read_bytes()
    hub.ask("DELETE", "/api/repos/delete", {"name": "xet-two"})
    hub.run("gc", "--age", "0")
    assert stored(hub) <= before - (3 << 20)
    client(hub, "up", "admin/xet-one", file, tmp_path / "h4")  # and it can come again
    assert hub.ask("GET", "/admin/xet-one/resolve/main/w.bin").body == file.read_bytes()


def test_old_files_are_kept_once(hub, tmp_path):
    file, home = tmp_path / "w", tmp_path / "h1"
    data = random.Random(78).randbytes(5 << 20)
    file.write_bytes(data)
    before = stored(hub)
    client(hub, "up", "admin/kept-once", file, home)
    info = lambda: hub.ask("GET", "/api/models/admin/kept-once/tree/main").json()[-1]
    xet = info()["xetHash"]
    assert stored(hub) >= before + (5 << 20)
    for days in ("0", "21.99"):  # hf-xet remembers for 21 days what it sent
        with pytest.raises(subprocess.CalledProcessError) as e:
            hub.run("gc", "--age", "0", "--xorbs", days)
        assert f"--xorbs {days}: " in e.value.stderr and "22 days or more, or --force" in e.value.stderr and "xetHash" in info()
    for args in (("22",), ("1", "--force")):
        assert "0 files are kept whole only" in hub.run("gc", "--age", "0", "--xorbs", *args) and stored(hub) >= before + (5 << 20)
    assert re.search("^[1-9][0-9]* files are kept whole only\n", hub.run("gc", "--age", "0", "--xorbs", "0", "--force")) and stored(hub) == 0
    hub.run("fsck")
    assert "xetHash" not in info() and info()["lfs"]["oid"] == sha256(data)
    assert hub.ask("GET", "/admin/kept-once/resolve/main/w.bin").body == data
    assert hub.ask("GET", f"/v2/reconstructions/{xet}", token=token_for(hub, "admin/kept-once", "read")).status == 404
    assert pathlib.Path(client(hub, "down", "admin/kept-once", file, tmp_path / "h2")).read_bytes() == data
    # an edit by whoever does not remember sends all of it, and the file is one of Xet's again
    data = data[:1 << 20] + b"edited" + data[1 << 20:]
    file.write_bytes(data)
    client(hub, "up", "admin/kept-once", file, tmp_path / "h3")
    assert hub.ask("GET", "/admin/kept-once/resolve/main/w.bin").body == data and "xetHash" in info() and stored(hub) >= 5 << 20


def test_a_token_of_xet_opens_nothing_else(hub):
    repo = hub.repo("doors")
    token = token_for(hub, repo, "write")
    assert hub.ask("GET", "/api/whoami-v2", token=token).status == 401
    assert hub.ask("GET", f"/api/models/{repo}", token=token).status == 401
    assert hub.ask("GET", "/v1/chunks/default/" + "0" * 64, token=token).status == 404


# ---- limits and care ----

DATA_KEY = bytes([102, 151, 245, 119, 91, 149, 80, 222, 49, 53, 203, 172, 165, 151, 24, 28, 157, 228, 33, 16, 155, 235, 43, 88, 180, 208, 176, 75, 147, 173, 242, 41])


NODE_KEY = bytes([1, 126, 197, 199, 165, 71, 41, 150, 253, 148, 102, 102, 180, 138, 2, 230, 93, 221, 83, 111, 55, 199, 109, 210, 248, 99, 82, 230, 74, 83, 113, 63])
RANGE_KEY = bytes([127, 24, 87, 214, 206, 86, 237, 102, 18, 127, 249, 19, 231, 165, 195, 243, 164, 205, 38, 213, 181, 219, 73, 230, 65, 36, 152, 127, 40, 251, 148, 195])


def xorb_of(chunks):
    """A xorb of chunks that are stored as they are, its hash, their hashes."""
    blake3 = pytest.importorskip("blake3").blake3
    hashes = [blake3(c, key=DATA_KEY).digest() for c in chunks]
    nodes = [(h, len(c)) for h, c in zip(hashes, chunks)]
    while len(nodes) > 1:
        above = []
        while nodes:
            n = next((i + 1 for i in range(2, min(9, len(nodes))) if nodes[i][0][24] % 4 == 0), min(9, len(nodes)))
            group, nodes = nodes[:n], nodes[n:]
            above.append((blake3("".join(f"{text_of(h)} : {size}\n" for h, size in group).encode(), key=NODE_KEY).digest(), sum(size for _, size in group)))
        nodes = above
    return b"".join(bytes([0]) + len(c).to_bytes(3, "little") + bytes([0]) + len(c).to_bytes(3, "little") + c for c in chunks), text_of(nodes[0][0]), hashes


def range_proof(hashes):
    return text_of(pytest.importorskip("blake3").blake3(b"".join(hashes), key=RANGE_KEY).digest())


def one_chunk(content):
    """A xorb of one chunk that is stored as it is, and its hash."""
    blake3 = pytest.importorskip("blake3")
    header = bytes([0]) + len(content).to_bytes(3, "little") + bytes([0]) + len(content).to_bytes(3, "little")
    return header + content, text_of(blake3.blake3(content, key=DATA_KEY).digest())


def test_xorbs_count_until_they_are_in_a_file(tmp_path):
    hub = Hub(tmp_path / "data")
    try:
        hub.repo("q")
        write = token_for(hub, "admin/q", "write")
        put = lambda x: hub.ask("POST", f"/v1/xorbs/default/{x[1]}", x[0], write)
        xorbs = [one_chunk(os.urandom(100_000)) for _ in range(4)]
        hub.run("quota", "admin", "--limit", "250KB")
        assert [put(x).status for x in xorbs] == [200, 200, 413, 413]
        assert hub.batch("admin/q", [{"oid": "1" * 64, "size": 60_000}]).json()["objects"][0]["error"]["code"] == 413
        # they belong to no file: an upload that came to no end
        assert stored(hub) == 2 * 100_008 and hub.run("gc").startswith("0 objects, 0 xorbs")
        assert hub.run("gc", "--age", "0").startswith("0 objects, 2 xorbs") and stored(hub) == 0
        assert [put(x).status for x in xorbs] == [200, 200, 413, 413]
        # a file whose row was never written
        lost = hub.data / "xorbs" / "00" / "00" / ("0" * 64)
        lost.parent.mkdir(parents=True)
        lost.write_bytes(b"x")
        assert hub.run("gc", "--age", "0").startswith("0 objects, 3 xorbs") and stored(hub) == 0
    finally:
        hub.stop()


def test_a_shard_that_describes_more_than_the_disk_has(hub):
    hub.repo("bomb")
    write = token_for(hub, "admin/bomb", "write")
    xorb, name = one_chunk(bytes(131072))
    assert hub.ask("POST", f"/v1/xorbs/default/{name}", xorb, write).status == 200
    terms = [(name, 0xffffffff, 0, 1, "0" * 64)] * 20_000  # 86 TB, it says
    r = hub.ask("POST", "/v1/shards", shard([file_info("0" * 64, terms, "1" * 64)]), write)
    assert r.status == 507, (r.status, r.body)


@pytest.mark.parametrize("whole", [False, True])
def test_damaged_xorbs_are_found_and_forgotten(farseek, tmp_path, whole):
    hub = Hub(tmp_path / "data")
    try:
        file = tmp_path / "w"
        file.write_bytes(random.Random(78).randbytes(3 << 20))
        client(hub, "up", "admin/hurt", file, tmp_path / "h1")
        assert hub.run("fsck").startswith("1 objects, 1 xorbs, 1 repositories")
        if whole:
            hub.run("torrent", "admin/hurt", "--url", hub.url, "--to", str(tmp_path / "t"))
        (xorb,) = [p for p in (hub.data / "xorbs").rglob("*") if p.is_file()]
        sound = xorb.read_bytes()
        os.chmod(xorb, 0o600)
        for spoil, says in ((lambda: xorb.write_bytes(sound[:100_000] + b"x" + sound[100_001:]), "another hash"), (lambda: xorb.write_bytes(sound[:-1]), "xorb:"), (xorb.unlink, "missing")):
            spoil()
            r = farseek("hub", "fsck", "--data", hub.data, check=False)
            assert r.returncode == 1 and f"xorb {xorb.name}: " in r.stdout and says in r.stdout, r.stdout
        r = farseek("hub", "fsck", "--data", hub.data, "--repair", check=False)
        assert r.returncode == (not whole) and ("'w.bin' points to " in r.stdout) == (not whole), r.stdout
        if not whole:
            assert hub.ask("GET", "/admin/hurt/resolve/main/w.bin").status == 404
            client(hub, "up", "admin/hurt", file, tmp_path / "h2")  # whoever has it brings it again
            assert hub.run("fsck").startswith("1 objects, 1 xorbs") and hub.ask("GET", "/admin/hurt/resolve/main/w.bin").body == file.read_bytes()
            return
        assert hub.run("fsck").startswith("1 objects, 0 xorbs")
        r = hub.ask("GET", "/admin/hurt/resolve/main/w.bin")
        assert r.body == file.read_bytes() and not r.headers["X-Xet-Hash"]  # by plain HTTP, still
        client(hub, "up", "admin/hurt-again", file, tmp_path / "h2")  # whoever has it brings it again
        assert hub.run("fsck").startswith("1 objects, 1 xorbs")
        assert pathlib.Path(client(hub, "down", "admin/hurt-again", file, tmp_path / "h3")).read_bytes() == file.read_bytes()
    finally:
        hub.stop()


def test_the_same_chunks_packed_otherwise(hub):
    """A file of a killed upload, under the xorb's name but in another layout than what comes now."""
    hub.repo("layouts")
    write = token_for(hub, "admin/layouts", "write")
    content = b"a" * 20_000
    plain, name = one_chunk(content)
    path = hub.data / "xorbs" / name[:2] / name[2:4] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plain + b"XETBLOB and what stands behind it")  # a footer: the same chunks in other bytes
    assert hub.ask("POST", f"/v1/xorbs/default/{name}", plain, write).status == 200
    assert hub.run("fsck")
    path.unlink()
    path.write_bytes(b"spoilt")
    assert hub.ask("POST", f"/v1/xorbs/default/{name}", plain, write).json() == {"was_inserted": False}
    other, name = one_chunk(b"b" * 20_000)
    path = hub.data / "xorbs" / name[:2] / name[2:4] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"spoilt")
    assert hub.ask("POST", f"/v1/xorbs/default/{name}", other, write).json() == {"was_inserted": True}
    assert path.read_bytes() == other
