"""What clients can hold of a hub, and its own TLS."""
import http.client
import json
import os
import socket
import ssl
import subprocess
import time
import warnings

import pytest

from test_hub import Hub, sha256


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("hub") / "data")
    h.bob = h.run("user", "add", "bob").strip()
    yield h
    h.stop()


def send_head(hub, method, path, n_bytes, token=None, more=""):
    c = socket.create_connection(("127.0.0.1", hub.port), timeout=60)
    auth = f"Authorization: Bearer {token}\r\n" if token else ""
    c.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: {n_bytes}\r\n{more}\r\n".encode())
    return c


def test_a_large_body_waits_for_its_sender_s_token(hub):
    repo = hub.repo("looked-at")
    large = 3 << 20
    for path in (f"/api/models/{repo}/preupload/main", f"/{repo}.git/info/lfs/objects/batch", f"/api/models/{repo}/paths-info/main"):
        # refused with the headers alone
        assert send_head(hub, "POST", path, large).recv(100).split()[1] == b"413"
        assert send_head(hub, "POST", path, large, "hf_" + "x" * 40).recv(100).split()[1] == b"401"
    body = json.dumps({"paths": ["a"] * 300_000}).encode()
    assert len(body) > 1 << 20
    assert hub.ask("POST", f"/api/models/{repo}/paths-info/main", body, hub.bob, {"Content-Type": "application/json"}).status == 200
    assert hub.ask("POST", "/v1/shards", b"x" * large, hub.bob).status == 401  # known, but with no token of Xet's


def test_slow_uploads_hold_up_nobody(hub):
    """More uploads that come to nothing than there are workers for."""
    repo, slow = hub.repo("besieged"), []
    for i in range(300):
        slow.append(send_head(hub, "POST", f"/api/models/{repo}/commit/main", 1_000_000, hub.token, "Content-Type: application/x-ndjson\r\n"))
        slow[-1].sendall(b'{"key":')
    time.sleep(0.5)
    begin = time.monotonic()
    assert hub.ask("GET", f"/api/models/{repo}").status == 200
    assert hub.commit(repo, {"a": b"1"}).status == 200
    assert time.monotonic() - begin < 40  # of the minute that the slow ones have
    for c in slow:
        c.close()


def git_children(data):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environ = open(f"/proc/{pid}/environ", "rb").read().split(b"\0")
        except OSError:
            continue
        if any(v.startswith(b"GIT_PROJECT_ROOT=" + str(data).encode() + b"/") for v in environ):
            found.append(int(pid))
    return found


def test_a_killed_hub_leaves_no_git_behind(tmp_path):
    hub = Hub(tmp_path / "data")
    repo = hub.repo("pushed-to")
    c = send_head(hub, "POST", f"/{repo}.git/git-receive-pack", 1561, hub.token, "Content-Type: application/x-git-receive-pack-request\r\n")
    c.sendall(b"00")
    end = time.monotonic() + 60
    while not git_children(tmp_path / "data"):
        assert time.monotonic() < end
        time.sleep(0.05)
    hub.process.kill()
    hub.process.wait()
    while git_children(tmp_path / "data"):
        assert time.monotonic() < end
        time.sleep(0.05)
    c.close()


def test_tls(tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], cwd=tmp_path, check=True, capture_output=True)
    hub = Hub(tmp_path / "data", "--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    try:
        assert hub.url.startswith("https://")
        context = ssl.create_default_context(cafile=tmp_path / "cert.pem")

        def ask(method, path, body=None, token=hub.token, headers=None):
            c = http.client.HTTPSConnection("127.0.0.1", hub.port, timeout=60, context=context)
            if isinstance(body, dict):
                body = json.dumps(body)
            c.request(method, path.removeprefix(hub.url), body, {**({"Authorization": "Bearer " + token} if token else {}), **(headers or {})})
            r = c.getresponse()
            data = r.read()
            c.close()
            return r.status, data

        assert ask("POST", "/api/repos/create", {"name": "sealed"})[0] == 200
        data = os.urandom(5_000_000)
        oid = sha256(data)
        batch = json.loads(ask("POST", "/admin/sealed.git/info/lfs/objects/batch", {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": len(data)}]})[1])
        href = batch["objects"][0]["actions"]["upload"]["href"]
        assert href.startswith(hub.url) and ask("PUT", href, data, None)[0] == 200
        lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "lfsFile", "value": {"path": "w", "oid": oid, "size": len(data)}}]
        assert ask("POST", "/api/models/admin/sealed/commit/main", "\n".join(map(json.dumps, lines)))[0] == 200
        assert ask("GET", "/admin/sealed/resolve/main/w") == (200, data)
        assert ask("GET", "/admin/sealed/resolve/main/w", headers={"Range": "bytes=1000000-4000000"}) == (206, data[1_000_000:4_000_001])
        env = {**os.environ, "GIT_SSL_CAINFO": str(tmp_path / "cert.pem"), "GIT_LFS_SKIP_SMUDGE": "1"}
        subprocess.run(["git", "clone", "-q", f"https://admin:{hub.token}@127.0.0.1:{hub.port}/admin/sealed", "c"], cwd=tmp_path, check=True, env=env)
        assert oid in (tmp_path / "c" / "w").read_text()
        with pytest.raises(ssl.SSLError), warnings.catch_warnings():  # nothing old
            warnings.simplefilter("ignore")
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
            old.set_ciphers("ALL:@SECLEVEL=0")
            old.wrap_socket(socket.create_connection(("127.0.0.1", hub.port)), server_hostname="localhost")
    finally:
        hub.stop()


def test_a_key_that_is_another_s(farseek, tmp_path):
    for name in ("a", "b"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", "/CN=x"], cwd=tmp_path, check=True, capture_output=True)
    serve = lambda *options: farseek("hub", "serve", "--data", tmp_path / "d", "--port", "0", *options, check=False)
    r = serve("--tls-cert", tmp_path / "a.pem", "--tls-key", tmp_path / "b.key")
    assert r.returncode != 0 and "the TLS key is not the certificate's" in r.stderr
    r = serve("--tls-cert", tmp_path / "a.key", "--tls-key", tmp_path / "a.key")
    assert r.returncode != 0 and "the TLS certificate is none in PEM" in r.stderr
    r = serve("--tls-cert", tmp_path / "a.pem")
    assert r.returncode == 2 and "go together" in r.stderr
