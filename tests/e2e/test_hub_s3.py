"""A hub whose large files are in an S3 store: moto's, which looks at every signature, behind a relay that stumbles when it is told to."""
import hashlib
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest
from blake3 import blake3

from conftest import until
from test_hub import BINARY, Hub
from test_hub_backup import lfs_commit, upload
from test_hub_mirror import SNAPSHOT, UPLOAD, client, files_of
from test_hub_xet import file_info, range_proof, shard, text_of, token_for, xorb_of

MIB = 1 << 20


class Relay:
    """Hands requests on to the store. refuse, cut, lose: how many of the next answer 503, break off in the middle, are done without an answer; only: of such requests; asked: "METHOD path?query" of each."""

    def __init__(self, port):
        self.there, self.asked, self.refuse, self.cut, self.lose, self.only = port, [], 0, 0, 0, ""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        f = c.makefile("rb")
        try:
            while self.one(c, f):
                pass
        except OSError:
            pass
        finally:
            f.close()
            c.close()

    def one(self, c, f):
        line = f.readline().decode()
        if not line:
            return False
        method, path, _ = line.split()
        headers = []
        while (h := f.readline().decode().rstrip("\r\n")):
            headers.append(h.split(": ", 1) if ": " in h else [h.rstrip(":"), ""])
        length = int(next((v for k, v in headers if k.lower() == "content-length"), 0))
        body = f.read(length)
        self.asked.append(f"{method} {path}")
        if self.refuse and self.only in f"{method} {path}":
            self.refuse -= 1
            c.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 42\r\n\r\n<Error><Code>SlowDown</Code></Error>      ")
            return True
        there = http.client.HTTPConnection("127.0.0.1", self.there, timeout=60)
        there.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for k, v in headers:
            if k.lower() != "connection":
                there.putheader(k, v)
        there.endheaders(body or None)
        r = there.getresponse()
        data = r.read()
        out = f"HTTP/1.1 {r.status} {r.reason}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in r.getheaders() if k.lower() not in ("connection", "transfer-encoding", "content-length"))
        n = r.getheader("Content-Length") if method == "HEAD" else len(data)
        head = (out + (f"Content-Length: {n}\r\n" if n is not None else "") + "\r\n").encode()
        there.close()
        if self.lose and self.only in f"{method} {path}":
            self.lose -= 1
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")  # with nothing at all curl takes the connection for one that was closed before, and asks again by itself
            return False
        if self.cut and self.only in f"{method} {path}":
            self.cut -= 1
            c.sendall(head + data[:len(data) // 2])
            return False
        c.sendall(head + data)
        return True

    def close(self):
        self.listener.close()


class Store:
    """moto's server. Its first four requests, which make a user and a bucket, need no signature; all others do, where it knows how: of links it does not."""

    def __init__(self, signed=True):
        env = {**os.environ, **({"INITIAL_NO_AUTH_ACTION_COUNT": "4"} if signed else {})}
        for _ in range(5):
            with socket.create_server(("127.0.0.1", 0)) as s:
                self.port = s.getsockname()[1]
            self.process = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                            env=env)
            until(lambda: self.process.poll() is not None or self.answers())
            if self.process.poll() is None:
                break  # else somebody took the port before it did
        import boto3
        from botocore.config import Config
        kw = dict(endpoint_url=f"http://127.0.0.1:{self.port}", region_name="us-east-1", config=Config(proxies={}, s3={"addressing_style": "path"}))
        iam = boto3.client("iam", aws_access_key_id="x", aws_secret_access_key="x", **kw)
        iam.create_user(UserName="hub")
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        iam.put_user_policy(UserName="hub", PolicyName="all", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName="hub")["AccessKey"]
        self.keys = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        self.s3 = boto3.client("s3", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"], **kw)
        self.s3.create_bucket(Bucket="hub")

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def keyed(self, prefix):
        return {o["Key"]: o["Size"] for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket="hub", Prefix=prefix) for o in page.get("Contents", [])}

    def uploads(self):
        return self.s3.list_multipart_uploads(Bucket="hub").get("Uploads", [])

    def stop(self):
        self.process.terminate()
        self.process.wait(120)


class S3Hub(Hub):
    def __init__(self, data, store, prefix, *options, relay=True):
        self.store, self.prefix, self.relay = store, prefix, Relay(store.port)
        os.environ.update(store.keys)
        super().__init__(data, "--blobs", f"s3://hub/{prefix}", "--s3-endpoint", self.relay.url, *options)

    def keys(self):
        return {k[len(self.prefix) + 1:]: n for k, n in self.store.keyed(self.prefix + "/").items()}

    def key(self, sha256):
        return f"{self.prefix}/objects/{sha256[:2]}/{sha256[2:4]}/{sha256}"

    def cached(self):
        return {p.name for p in (pathlib.Path(self.data) / "cache").iterdir()}

    def empty_cache(self):
        for p in (pathlib.Path(self.data) / "cache").iterdir():
            p.unlink()

    def maintain(self, *args):
        return subprocess.run([*BINARY, "hub", *args, "--data", str(self.data)], capture_output=True, text=True)

    def stop(self, *args):
        super().stop(*args)
        self.relay.close()


@pytest.fixture(scope="module")
def store():
    s = Store()
    yield s
    s.stop()


@pytest.fixture
def hub(store, tmp_path):
    h = S3Hub(tmp_path / "data", store, tmp_path.name)
    yield h
    h.stop()


def sha256(b):
    return hashlib.sha256(b).hexdigest()


def local_files(hub):
    return [p for d in ("objects", "xorbs", "parts") for p in (pathlib.Path(hub.data) / d).rglob("*") if p.is_file()]


# ---- what the clients do ----

def test_large_files_go_there_and_come_back(hub):
    repo = hub.repo("admin/a")
    small, large = os.urandom(100_000), os.urandom(21 * MIB)
    for name, data in (("s.bin", small), ("l.bin", large)):
        assert lfs_commit(hub, repo, name, data).status == 200
    assert {k for k in hub.keys() if k.startswith("objects/")} == {f"objects/{h[:2]}/{h[2:4]}/{h}" for h in (sha256(small), sha256(large))}
    assert local_files(hub) == [] and hub.store.uploads() == []
    assert any("partNumber=3" in a for a in hub.relay.asked) and not any("partNumber=4" in a for a in hub.relay.asked)  # of 8 MiB
    for cached in (True, False):
        if not cached:
            hub.empty_cache()
        for name, data in (("s.bin", small), ("l.bin", large)):
            url = f"/{repo}/resolve/main/{name}"
            r = hub.ask("HEAD", url)
            assert r.status == 200 and int(r.headers["Content-Length"]) == len(data) and r.headers["ETag"] == f'"{sha256(data)}"'
            r = hub.ask("GET", url)
            assert r.status == 200 and r.body == data and int(r.headers["Content-Length"]) == len(data) and r.headers["X-Content-Type-Options"] == "nosniff"
            r = hub.ask("GET", url, headers={"Range": "bytes=70000-70009"})
            assert r.status == 206 and r.body == data[70_000:70_010] and r.headers["Content-Range"] == f"bytes 70000-70009/{len(data)}"
            assert hub.ask("GET", url, headers={"Range": f"bytes={len(data)}-"}).status == 416
            assert hub.ask("GET", url, headers={"Range": "bytes=-5"}).body == data[-5:]
    assert hub.cached() == set()  # what passes through is not kept


def test_the_stock_clients(hub, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "w.bin").write_bytes(random.Random(3).randbytes(18 * MIB))  # by Xet
    (folder / "README.md").write_text("# It\n")
    hub.repo("admin/c")
    client(hub, UPLOAD, "admin/c", folder, "main", home=tmp_path / "one")
    assert local_files(hub) == [] and any(k.startswith("xorbs/") for k in hub.keys())
    wanted = files_of(folder)
    assert {k: v for k, v in files_of(client(hub, SNAPSHOT, "admin/c", "main", home=tmp_path / "two")).items() if k in wanted} == wanted
    hub.empty_cache()
    assert {k: v for k, v in files_of(client(hub, SNAPSHOT, "admin/c", "main", home=tmp_path / "three")).items() if k in wanted} == wanted
    hub.git("clone", hub.git_url("admin/c"), "work", cwd=tmp_path)
    work = tmp_path / "work"
    assert (work / "w.bin").read_bytes() == wanted["w.bin"]
    (work / "g.bin").write_bytes(b"by git" * 100_000)
    hub.git("add", ".", cwd=work)
    hub.git("commit", "-m", "more", cwd=work)
    hub.git("lfs", "push", "--all", "origin", cwd=work)
    hub.empty_cache()  # the hook brings it anew to look into it
    hub.git("push", "origin", "HEAD:main", cwd=work)
    assert hub.ask("GET", "/admin/c/resolve/main/g.bin").body == b"by git" * 100_000
    assert hub.maintain("fsck").returncode == 0


def test_uploads_in_parts_and_the_inspector(hub):
    repo = hub.repo("admin/p")
    head = json.dumps({"t": {"dtype": "F32", "shape": [6 * MIB], "data_offsets": [0, 24 * MIB]}}).encode()
    data = len(head).to_bytes(8, "little") + head + os.urandom(24 * MIB)
    hub.stop()
    hub.options += ("--multipart", "6MiB")
    hub.relay = Relay(hub.store.port)
    hub.options = tuple(hub.relay.url if str(o).startswith("http://127") else o for o in hub.options)
    hub.start()
    o = hub.batch(repo, [{"oid": sha256(data), "size": len(data)}], transfers=("basic", "multipart")).json()["objects"][0]["actions"]["upload"]
    chunk = int(o["header"]["chunk_size"])
    for i in range(0, len(data), chunk):
        assert hub.ask("PUT", o["header"][str(i // chunk + 1)], data[i:i + chunk], token=None).status == 200
    assert hub.ask("POST", o["href"], {"oid": sha256(data)}, token=None).status == 200
    assert lfs_commit(hub, repo, "model.safetensors", data).status == 200
    assert local_files(hub) == []
    hub.empty_cache()
    before = len(hub.relay.asked)
    assert hub.ask("GET", f"/api/models/{repo}").json()["safetensors"]["total"] == 6 * MIB
    assert "F32" in hub.ask("GET", f"/{repo}/blob/main/model.safetensors").body.decode()
    assert [a.split()[0] for a in hub.relay.asked[before:]] == ["GET"]  # its beginning, once
    assert sum(p.stat().st_blocks * 512 for p in (pathlib.Path(hub.data) / "cache").iterdir()) < 2 * MIB


def signature_of(link, store):
    """What botocore signs the same link with."""
    import datetime

    import botocore.auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
    u = urllib.parse.urlsplit(link)
    query = dict(urllib.parse.parse_qsl(u.query))
    at = datetime.datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    auth = botocore.auth.S3SigV4QueryAuth(Credentials(*store.keys.values()), "s3", "us-east-1", expires=int(query["X-Amz-Expires"]))
    request = AWSRequest("GET", f"{u.scheme}://{u.netloc}{u.path}?response-content-type={urllib.parse.quote(query['response-content-type'], safe='')}")
    request.context["timestamp"] = query["X-Amz-Date"]
    before, botocore.auth.get_current_datetime = botocore.auth.get_current_datetime, lambda *a, **k: at
    try:
        auth.add_auth(request)
    finally:
        botocore.auth.get_current_datetime = before
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request.url).query))["X-Amz-Signature"], query["X-Amz-Signature"]


def test_downloads_are_sent_to_the_store(tmp_path):
    store = Store(signed=False)
    hub = S3Hub(tmp_path / "data", store, tmp_path.name, "--s3-redirect")
    repo = hub.repo("admin/r", private=True)
    data = os.urandom(300_000)
    assert lfs_commit(hub, repo, "w.bin", data).status == 200
    r = hub.ask("GET", f"/{repo}/resolve/main/w.bin")
    assert r.status == 302 and r.body == b"" and r.headers["X-Linked-Etag"] == f'"{sha256(data)}"' and int(r.headers["X-Linked-Size"]) == len(data)
    assert hub.ask("GET", f"/{repo}/resolve/main/w.bin", token=None).status == 401

    def follow(url, **headers):
        u = urllib.parse.urlsplit(url)
        c = http.client.HTTPConnection("127.0.0.1", u.port)
        c.request("GET", f"{u.path}?{u.query}", headers=headers)
        r = c.getresponse()
        return r.status, r.read()

    link = r.headers["Location"]
    assert link.startswith(hub.relay.url) and follow(link) == (200, data) and follow(link, Range="bytes=5-9") == (206, data[5:10])
    theirs, ours = signature_of(link, store)
    assert ours == theirs
    href = hub.batch(repo, [{"oid": sha256(data), "size": len(data)}], "download").json()["objects"][0]["actions"]["download"]["href"]
    assert href.startswith(hub.relay.url) and follow(href) == (200, data)
    got = client(hub, SNAPSHOT, repo, "main", home=tmp_path / "x")
    assert files_of(got)["w.bin"] == data
    hub.git("clone", hub.git_url(repo), "c", cwd=tmp_path)
    assert (tmp_path / "c" / "w.bin").read_bytes() == data
    hub.stop()
    store.stop()


# ---- looking after it ----

def test_garbage_goes_there_too(hub):
    repo = hub.repo("admin/g")
    kept, loose = os.urandom(50_000), os.urandom(60_000)
    assert lfs_commit(hub, repo, "k.bin", kept).status == 200
    gone = hub.repo("admin/gone")
    upload(hub, gone, loose)
    assert hub.ask("DELETE", "/api/repos/delete", {"name": "gone", "organization": "admin"}).status == 200
    stray = hub.key("ab" * 32)
    hub.store.s3.put_object(Bucket="hub", Key=stray, Body=b"of nobody")
    left = hub.store.s3.create_multipart_upload(Bucket="hub", Key=hub.key("cd" * 32))
    assert hub.maintain("gc").stdout.startswith("0 objects")  # of today
    assert len(hub.keys()) == 4  # moto says of every upload in parts that it began in 2010
    time.sleep(1.1)  # the store's dates are in seconds
    assert hub.maintain("gc", "--age", "0").stdout.startswith("1 objects")
    assert set(hub.keys()) == {"hub", hub.key(sha256(kept))[len(hub.prefix) + 1:]} and hub.store.uploads() == [] and left
    assert hub.ask("GET", f"/{repo}/resolve/main/k.bin").body == kept
    assert upload(hub, repo, loose) == sha256(loose)  # and it may come again
    assert hub.maintain("fsck").returncode == 0


def rows(hub, change=None):
    with sqlite3.connect(pathlib.Path(hub.data) / "hub.db", timeout=30) as db:
        if change:
            db.execute(change)
        got = {name: state for name, state in db.execute("SELECT name, state FROM blobs")}
    db.close()
    return got


def test_a_removal_that_may_come_late_keeps_new_ones_away(hub):
    """Of a collector that was killed, and one whose request got no answer: until the store would refuse it, nothing new has that name."""
    repo = hub.repo("admin/late")
    lost, killed, plain = os.urandom(50_000), os.urandom(60_000), os.urandom(70_000)
    for data in (lost, killed, plain):
        upload(hub, hub.repo("admin/l"), data)
        assert hub.ask("DELETE", "/api/repos/delete", {"name": "l", "organization": "admin"}).status == 200
    gone = f"UPDATE blobs SET state = 2 WHERE name = '{sha256(killed)}'"
    assert rows(hub, gone) == {sha256(lost): 1, sha256(killed): 2, sha256(plain): 1}
    hub.relay.only, hub.relay.lose = f"DELETE /hub/{hub.key(sha256(lost))}", 1
    time.sleep(0.01)
    assert hub.maintain("gc", "--age", "0").stdout.startswith("2 objects") and hub.relay.lose == 0
    assert sum(x == hub.relay.only for x in hub.relay.asked) == 2
    assert rows(hub) == {sha256(lost): 2, sha256(killed): 2} and hub.key(sha256(killed))[len(hub.prefix) + 1:] in hub.keys()
    assert upload(hub, repo, plain) == sha256(plain)
    assert hub.maintain("gc", "--age", "0").stdout.startswith("0 objects") and hub.maintain("fsck").returncode == 0
    assert rows(hub, "UPDATE blobs SET touched_ms = touched_ms - 1810000 WHERE state = 2") == {sha256(lost): 2, sha256(killed): 2, sha256(plain): 1}
    assert hub.maintain("gc", "--age", "0").stdout.startswith("2 objects")
    assert rows(hub) == {sha256(plain): 1} and set(hub.keys()) == {"hub", hub.key(sha256(plain))[len(hub.prefix) + 1:]}
    for data in (lost, killed):
        assert upload(hub, repo, data) == sha256(data)


def test_what_is_damaged_there_is_found_and_mended(hub):
    repo = hub.repo("admin/d")
    files = {f"{i}.bin": os.urandom(200_000 + i) for i in range(3)}
    for name, data in files.items():
        assert lfs_commit(hub, repo, name, data).status == 200
    lying, missing = files["0.bin"], files["1.bin"]
    hub.store.s3.put_object(Bucket="hub", Key=hub.key(sha256(lying)), Body=lying[:-1] + bytes([lying[-1] ^ 1]))
    hub.store.s3.delete_object(Bucket="hub", Key=hub.key(sha256(missing)))
    r = hub.maintain("fsck")
    assert r.returncode != 0 and f"object {sha256(lying)}: its content has the hash" in r.stdout and f"object {sha256(missing)} is missing in the S3 store" in r.stdout
    assert sha256(files["2.bin"]) not in r.stdout
    hub.empty_cache()
    with pytest.raises(http.client.IncompleteRead):  # nobody gets all of a file that is not the one
        hub.ask("GET", f"/{repo}/resolve/main/0.bin")
    assert hub.ask("GET", f"/{repo}/resolve/main/1.bin").status == 404
    assert "hash" in hub.maintain("backup", "--to", str(hub.data) + ".copy").stderr  # a copy is whole or none
    r = hub.maintain("fsck", "--repair")
    assert f"object {sha256(lying)}: its content has the hash" in r.stdout and (pathlib.Path(hub.data) / "lost" / sha256(lying)).exists()
    for data in (lying, missing):  # whoever has it brings it again
        assert hub.batch(repo, [{"oid": sha256(data), "size": len(data)}]).json()["objects"][0].get("actions")
        upload(hub, repo, data)
    assert hub.maintain("fsck").returncode == 0
    for name, data in files.items():
        assert hub.ask("GET", f"/{repo}/resolve/main/{name}").body == data


def test_a_xorb_that_is_cut_short_there(hub):
    repo = hub.repo("admin/x")
    write = token_for(hub, repo, "write")
    xorb, name, hashes = xorb_of([os.urandom(60_000), os.urandom(60_000)])
    assert hub.ask("POST", f"/v1/xorbs/default/{name}", xorb, write).status == 200
    hub.store.s3.put_object(Bucket="hub", Key=f"{hub.prefix}/xorbs/{name[:2]}/{name[2:4]}/{name}", Body=xorb[:1000])
    hub.empty_cache()
    second = text_of(blake3(hashes[1], key=bytes(32)).digest())  # a file of the second chunk alone
    r = hub.ask("POST", "/v1/shards", shard([file_info(second, [(name, 60_000, 1, 2, range_proof(hashes[1:]))], sha256(xorb[60_016:]))]), write)
    assert r.status == 500 and "a xorb ends before its byte 60008" in r.json()["error"]
    assert hub.process.poll() is None and hub.ask("GET", f"/api/models/{repo}").status == 200
    assert f"xorb {name}" in hub.maintain("fsck").stdout


def test_a_copy_has_its_files_beside_it(hub, tmp_path):
    repo = hub.repo("admin/b")
    data = os.urandom(400_000)
    assert lfs_commit(hub, repo, "w.bin", data).status == 200
    hub.run("export", repo, "--to", str(tmp_path / "bundle"))
    hub.empty_cache()
    hub.run("backup", "--to", str(tmp_path / "copy"))
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    assert subprocess.run([*BINARY, "hub", "fsck", "--data", str(tmp_path / "copy")], env=env).returncode == 0
    asked = len(hub.relay.asked)
    copy = Hub(tmp_path / "copy")
    assert copy.ask("GET", f"/{repo}/resolve/main/w.bin", token=hub.token).body == data
    copy.stop()
    assert len(hub.relay.asked) == asked
    # a bundle goes into a hub with a store, too
    other = S3Hub(tmp_path / "other", hub.store, tmp_path.name + "-other")
    other.run("import", str(tmp_path / "bundle"))
    assert other.ask("GET", f"/{repo}/resolve/main/w.bin").body == data and local_files(other) == []
    other.stop()


def test_the_store_is_the_hubs_own_and_is_remembered(hub, tmp_path):
    serve = lambda data, *options, **env: subprocess.run([*BINARY, "hub", "serve", "--data", str(data), "--port", "0", *options], capture_output=True, text=True, timeout=60,
                                                         env={**os.environ, **env})
    r = serve(tmp_path / "second", "--blobs", f"s3://hub/{hub.prefix}", "--s3-endpoint", hub.relay.url)
    assert r.returncode != 0 and "belongs to another hub" in r.stderr
    r = serve(hub.data, "--blobs", "s3://hub/elsewhere", "--s3-endpoint", hub.relay.url)
    assert r.returncode != 0 and "large files are in s3://hub/" in r.stderr
    r = serve(tmp_path / "third", "--s3-region", "x")
    assert r.returncode != 0 and "go with --blobs" in r.stderr
    for wrong in ("s3://", "s3://a/../b", "http://x", "s3://b/p?q"):
        assert serve(tmp_path / "fourth", "--blobs", wrong, "--s3-endpoint", hub.relay.url).returncode != 0
    r = serve(tmp_path / "fifth", "--blobs", "s3://hub/fifth", "--s3-endpoint", hub.relay.url, AWS_SECRET_ACCESS_KEY="wrong")
    assert r.returncode != 0 and "SignatureDoesNotMatch" in r.stderr or "403" in r.stderr
    r = subprocess.run([*BINARY, "hub", "gc", "--data", str(hub.data)], capture_output=True, text=True, env={k: v for k, v in os.environ.items() if not k.startswith("AWS_")})
    assert r.returncode != 0 and "AWS_ACCESS_KEY_ID" in r.stderr
    assert hub.run("user", "add", "eve").startswith("hf_")
    files = Hub(tmp_path / "files")
    lfs_commit(files, files.repo("admin/a"), "w.bin", b"x" * 100_000)
    files.stop()
    r = serve(tmp_path / "files", "--blobs", "s3://hub/files", "--s3-endpoint", hub.relay.url)
    assert r.returncode != 0 and "beside its database" in r.stderr
    # what is served without --blobs is the same store
    hub.process.send_signal(signal.SIGTERM)
    hub.process.wait()
    hub.options = ()
    hub.start()
    repo = hub.repo("admin/again")
    assert lfs_commit(hub, repo, "w.bin", b"y" * 100_000).status == 200 and local_files(hub) == []


# ---- a store that stumbles ----

def test_a_store_that_is_busy_or_breaks_off(hub):
    repo = hub.repo("admin/s")
    data = os.urandom(20 * MIB)
    hub.relay.only, hub.relay.refuse = "PUT", 3
    upload(hub, repo, data)
    assert hub.relay.refuse == 0
    hub.relay.only, hub.relay.refuse = "POST", 2
    assert lfs_commit(hub, repo, "w.bin", data).status == 200
    hub.relay.refuse = 0
    hub.empty_cache()
    hub.relay.only, hub.relay.cut = "GET /hub", 3
    r = hub.ask("GET", f"/{repo}/resolve/main/w.bin")
    assert r.status == 200 and r.body == data and hub.relay.cut == 0  # it goes on where it stopped
    hub.relay.only, hub.relay.refuse = "", 100
    assert hub.ask("GET", f"/{repo}/resolve/main/w.bin").status == 502
    other = os.urandom(100_000)
    o = hub.batch(repo, [{"oid": sha256(other), "size": len(other)}]).json()["objects"][0]["actions"]["upload"]["href"]
    hub.relay.refuse = 100
    assert hub.ask("PUT", o, other, token=None).status >= 500
    hub.relay.refuse = 0
    assert hub.key(sha256(other))[len(hub.prefix) + 1:] not in hub.keys()
    assert hub.ask("PUT", o, other, token=None).status == 200


def test_uploads_that_fail_leave_nothing(hub):
    repo = hub.repo("admin/f")
    data = os.urandom(24 * MIB)
    o = hub.batch(repo, [{"oid": sha256(data), "size": len(data)}]).json()["objects"][0]["actions"]["upload"]["href"]
    lie = bytes([data[0] ^ 1]) + data[1:]
    assert hub.ask("PUT", o, lie, token=None).status == 400
    c = http.client.HTTPConnection("127.0.0.1", hub.port)
    c.putrequest("PUT", o[len(hub.url):])
    c.putheader("Content-Length", str(len(data)))
    c.endheaders()
    n = len(hub.relay.asked)
    c.send(data[:17 * MIB])
    until(lambda: any("partNumber=2" in a for a in hub.relay.asked[n:]))
    c.close()  # the client went away
    until(lambda: not hub.store.uploads())  # or its parts are among those that are refused
    hub.relay.only, hub.relay.refuse = "partNumber=2", 5
    assert hub.ask("PUT", o, data, token=None).status >= 500
    until(lambda: not hub.store.uploads())
    assert hub.store.uploads() == [] and [k for k in hub.keys() if k.startswith("objects/")] == []
    assert not hub.batch(repo, [{"oid": sha256(data), "size": len(data)}], "download").json()["objects"][0].get("actions")
    hub.relay.refuse = 0
    assert hub.ask("PUT", o, data, token=None).status == 200
    assert lfs_commit(hub, repo, "w.bin", data).status == 200 and hub.ask("GET", f"/{repo}/resolve/main/w.bin").body == data


def test_the_store_is_gone_and_the_hub_killed(tmp_path):
    own = Store()
    hub = S3Hub(tmp_path / "data", own, "p")
    repo = hub.repo("admin/k")
    first, second = os.urandom(300_000), os.urandom(24 * MIB)
    assert lfs_commit(hub, repo, "first.bin", first).status == 200
    o = hub.batch(repo, [{"oid": sha256(second), "size": len(second)}]).json()["objects"][0]["actions"]["upload"]["href"]
    c = http.client.HTTPConnection("127.0.0.1", hub.port)
    c.putrequest("PUT", o[len(hub.url):])
    c.putheader("Content-Length", str(len(second)))
    c.endheaders()
    c.send(second[:17 * MIB])
    until(own.uploads)
    Hub.stop(hub, signal.SIGKILL)
    hub.start()
    assert len(own.uploads()) == 1  # nobody could take it back
    time.sleep(1.1)
    assert "1 uploads" in hub.maintain("gc", "--age", "0").stdout and own.uploads() == []
    assert not hub.batch(repo, [{"oid": sha256(second), "size": len(second)}], "download").json()["objects"][0].get("actions")
    upload(hub, repo, second)
    hub.empty_cache()
    own.process.send_signal(signal.SIGKILL)
    own.process.wait()
    assert hub.ask("GET", f"/{repo}/resolve/main/first.bin").status == 502
    assert hub.ask("GET", f"/api/models/{repo}/tree/main").status == 200  # what is not there is all that fails
    assert hub.commit(repo, {"small.txt": b"x"}).status == 200
    other = os.urandom(50_000)
    link = hub.batch(repo, [{"oid": sha256(other), "size": len(other)}]).json()["objects"][0]["actions"]["upload"]["href"]
    assert hub.ask("PUT", link, other, token=None).status >= 500
    assert hub.maintain("fsck").returncode != 0 and hub.ask("GET", f"/api/models/{repo}").status == 200
    hub.stop()
