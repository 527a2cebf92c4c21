"""A hub, driven by the clients that people have, by git, and by requests that no client would send."""
import base64
import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse

import pytest

from conftest import ROOT

BINARY = os.environ.get("FARSEEK", str(ROOT / "build" / "farseek")).split()
HARNESS = ROOT / "tests" / "hub" / "conformance.py"


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


class Hub:
    """A server over a folder."""

    def __init__(self, data, *options):
        self.data, self.options = data, options
        self.token = None
        self.start()

    def start(self, port=0):
        self.process = subprocess.Popen([*BINARY, "hub", "serve", "--data", str(self.data), "--port", str(port), "--quiet", *self.options],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if "token hf_" in line:
                self.token = re.search(r"hf_[A-Za-z0-9]{40}", line)[0]
            if line.startswith("hub at "):
                self.url = line.split()[2]
                break
        else:
            raise AssertionError(self.process.stderr.read())
        self.port = urllib.parse.urlsplit(self.url).port

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        code = self.process.wait(120)
        errors = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        assert how == signal.SIGKILL or (code == 0 and "ERROR" not in errors), errors
        return code

    def run(self, *args):
        return subprocess.run([*BINARY, "hub", *args, "--data", str(self.data)], check=True, capture_output=True, text=True).stdout

    def ask(self, method, path, body=None, token=True, headers=None, timeout=60):
        headers = dict(headers or {})
        token = self.token if token is True else token
        if token:
            headers["Authorization"] = "Bearer " + token
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        if "://" in path:
            u = urllib.parse.urlsplit(path)
            path = u.path + "?" + u.query
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        c.request(method, path, body, headers)
        r = c.getresponse()
        reply = Reply(r.status, r.headers, r.read())
        c.close()
        return reply

    def repo(self, name, token=True, **kw):
        r = self.ask("POST", "/api/repos/create", {"name": name.split("/")[-1], "organization": name.split("/")[0] if "/" in name else None, **kw}, token)
        assert r.status == 200, r.body
        return r.json()["name"]

    def commit(self, repo, files, token=True, rev="main", query="", **header):
        lines = [{"key": "header", "value": {"summary": "test", **header}}]
        lines += [{"key": "file", "value": {"path": p, "content": base64.b64encode(b).decode(), "encoding": "base64"}} for p, b in files.items()]
        return self.ask("POST", f"/api/models/{repo}/commit/{rev}{query}", "\n".join(map(json.dumps, lines)), token, {"Content-Type": "application/x-ndjson"})

    def batch(self, repo, objects, operation="upload", token=True, transfers=("basic",)):
        return self.ask("POST", f"/{repo}.git/info/lfs/objects/batch", {"operation": operation, "transfers": list(transfers), "objects": objects}, token)

    def git(self, *args, cwd, check=True):
        env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(cwd), "GIT_ASKPASS": "/bin/false"}
        words = ["user.name=t", "user.email=t@example.org", "filter.lfs.clean=git-lfs clean -- %f", "filter.lfs.smudge=git-lfs smudge -- %f",
                 "filter.lfs.process=git-lfs filter-process", "filter.lfs.required=true", "lfs.locksverify=false"]
        r = subprocess.run(["git", *[x for w in words for x in ("-c", w)], *args], cwd=cwd, capture_output=True, text=True, env=env)
        assert not check or r.returncode == 0, r.stderr
        return r

    def git_url(self, repo, user="admin", token=None):
        return f"http://{user}:{token or self.token}@127.0.0.1:{self.port}/{repo}"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("hub") / "data")
    for name in ("bob", "carol"):
        setattr(h, name, h.run("user", "add", name).strip())
    yield h
    h.stop()


def sha256(b):
    return hashlib.sha256(b).hexdigest()


# ---- the stock clients ----

def test_the_stock_clients_work_unmodified(hub):
    ask = [sys.executable, str(HARNESS), hub.url, hub.token, "--token2", hub.bob, "--limit", "120"]
    r = subprocess.run([*ask, "--jobs", str(os.cpu_count())], capture_output=True, text=True)
    assert r.stdout.endswith("48 passed, 0 failed\n"), r.stdout + r.stderr


# ---- git ----

def test_pushes_are_looked_at(hub, tmp_path):
    repo = hub.repo("pushed")
    big = os.urandom(200_000)
    hub.git("clone", hub.git_url(repo), "c", cwd=tmp_path)
    work = tmp_path / "c"
    (work / "a.txt").write_text("one")
    (work / "w.bin").write_bytes(big)
    hub.git("add", ".", cwd=work)
    hub.git("commit", "-m", "by git", cwd=work)
    hub.git("lfs", "push", "--all", "origin", cwd=work)
    hub.git("push", "origin", "HEAD:main", cwd=work)
    head = hub.git("rev-parse", "HEAD", cwd=work).stdout.strip()
    assert hub.ask("GET", f"/api/models/{repo}").json()["sha"] == head
    assert hub.ask("GET", f"/{repo}/resolve/main/w.bin").body == big
    # a pointer to nothing
    (work / "x.txt").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n")
    hub.git("add", ".", cwd=work)
    hub.git("commit", "-m", "pointer", cwd=work)
    r = hub.git("push", "--no-verify", "origin", "HEAD:main", cwd=work, check=False)  # git-lfs would not let it
    assert r.returncode != 0 and "was not uploaded" in r.stderr
    hub.git("reset", "--hard", head, cwd=work)
    # a large file that is none of LFS
    (work / "large.txt").write_bytes(b"x" * 11_000_000)
    hub.git("add", ".", cwd=work)
    hub.git("commit", "-m", "large", cwd=work)
    r = hub.git("push", "origin", "HEAD:main", cwd=work, check=False)
    assert r.returncode != 0 and "belong to Git LFS" in r.stderr
    hub.git("reset", "--hard", head, cwd=work)
    # refs
    hub.git("push", "origin", "HEAD:refs/heads/dev", cwd=work)
    hub.git("push", "origin", "HEAD:refs/tags/v1", cwd=work)
    for ref in (":refs/heads/main", "HEAD:refs/other/x", "HEAD:refs/pr/7", f"HEAD:refs/heads/{'a' * 40}"):
        assert hub.git("push", "origin", ref, cwd=work, check=False).returncode != 0, ref
    hub.git("push", "origin", ":refs/heads/dev", cwd=work)
    assert [b["name"] for b in hub.ask("GET", f"/api/models/{repo}/refs").json()["branches"]] == ["main"]
    # nobody else
    r = hub.git("push", hub.git_url(repo, "bob", hub.bob), "HEAD:refs/heads/bobs", cwd=work, check=False)
    assert r.returncode != 0 and "no right to write" in r.stderr
    assert hub.git("push", f"http://127.0.0.1:{hub.port}/{repo}", "HEAD:refs/heads/x", cwd=work, check=False).returncode != 0
    assert hub.ask("GET", f"/api/models/{repo}").json()["sha"] == head


def test_a_pull_request_is_merged_once(hub):
    """Whoever asks at the same time, and whoever closes it then."""
    for i in range(3):
        repo = hub.repo(f"once{i}")
        hub.commit(repo, {"x": b"x"}, query="?create_pr=1")
        ask = lambda what: hub.ask("POST", f"/api/models/{repo}/discussions/1/{what}", {"status": "closed"} if what == "status" else {}).status
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            said = list(pool.map(ask, ["merge"] * 7 + ["status"]))
        assert (said.count(200), said.count(400)) == (1, 7)
        commits = hub.ask("GET", f"/api/models/{repo}/commits/main").json()
        events = [e["data"].get("status") for e in hub.ask("GET", f"/api/models/{repo}/discussions/1").json()["events"] if e["type"] == "status-change"]
        merged = said[-1] != 200
        assert events == ["merged" if merged else "closed"] and len(commits) == (3 if merged else 1)


def test_a_pull_request_grows_by_push_and_merges(hub, tmp_path):
    repo = hub.repo("proposed")
    hub.commit(repo, {"a.txt": b"1\n2\n3\n4\n5\n6\n7\n", "b.txt": b"b\n"})
    r = hub.commit(repo, {"a.txt": b"1\n2\n3\n4\n5\n6\nseven\n"}, token=hub.bob, query="?create_pr=1")
    num = int(r.json()["pullRequestUrl"].split("/")[-1])
    ref = f"refs/pr/{num}"
    hub.git("init", "c", cwd=tmp_path)
    work = tmp_path / "c"
    hub.git("fetch", hub.git_url(repo, "bob", hub.bob), ref, cwd=work)
    hub.git("checkout", "FETCH_HEAD", cwd=work)
    (work / "more.txt").write_text("more")
    hub.git("add", ".", cwd=work)
    hub.git("commit", "-m", "more of it", cwd=work)
    assert hub.git("push", hub.git_url(repo, "carol", hub.carol), f"HEAD:{ref}", cwd=work, check=False).returncode != 0
    for other in (f"refs/pr/0{num}", f"refs/pr/+{num}", f"refs/pr/{num}x"):
        assert hub.git("push", hub.git_url(repo, "bob", hub.bob), f"HEAD:{other}", cwd=work, check=False).returncode != 0, other
    hub.git("push", hub.git_url(repo, "bob", hub.bob), f"HEAD:{ref}", cwd=work)
    details = hub.ask("GET", f"/api/models/{repo}/discussions/{num}?diff=1").json()
    assert [e["data"]["subject"] for e in details["events"] if e["type"] == "commit"] == ["test", "more of it"]
    assert "+seven" in details["diff"] and details["filesWithConflicts"] == []
    main = hub.commit(repo, {"a.txt": b"one\n2\n3\n4\n5\n6\n7\n"}).json()["commitOid"]  # main goes on: a merge of three
    merge = f"/api/models/{repo}/discussions/{num}/merge"
    assert [hub.ask("POST", merge, {}, token=t).status for t in (None, hub.bob, hub.carol)] == [401, 403, 403]
    assert hub.ask("POST", merge, {"comment": "thanks"}).json()["newStatus"]["data"]["status"] == "merged"
    assert hub.ask("GET", f"/{repo}/resolve/main/a.txt").body == b"one\n2\n3\n4\n5\n6\nseven\n"
    assert hub.ask("GET", f"/{repo}/resolve/main/more.txt").body == b"more"
    hub.git("fetch", hub.git_url(repo), "main", cwd=work)
    assert hub.git("rev-parse", "FETCH_HEAD^1", cwd=work).stdout.strip() == main
    assert hub.ask("POST", merge, {}).status == 400  # once


def test_conflicts_are_named(hub):
    repo = hub.repo("conflicting")
    hub.commit(repo, {"a.txt": b"1\n"})
    num = int(hub.commit(repo, {"a.txt": b"2\n"}, query="?create_pr=1").json()["pullRequestUrl"].split("/")[-1])
    hub.commit(repo, {"a.txt": b"3\n"})
    assert hub.ask("POST", f"/api/models/{repo}/discussions/{num}/merge", {}).status == 409
    assert hub.ask("GET", f"/api/models/{repo}/discussions/{num}").json()["filesWithConflicts"] == ["a.txt"]
    assert hub.ask("GET", f"/{repo}/resolve/main/a.txt").body == b"3\n"


# ---- rights ----

def test_who_may_do_what(hub):
    """Every route against everybody. Columns: nobody, another user, a member who reads, one who writes, the owner's token that only reads, the owner."""
    tokens = {}
    for name in ("org-reads", "org-writes"):
        tokens[name] = hub.run("user", "add", name).strip()
    hub.run("org", "add", "team", "carol")
    hub.run("org", "member", "team", "org-reads", "--role", "read")
    hub.run("org", "member", "team", "org-writes", "--role", "write")
    reads_only = hub.run("token", "add", "carol", "--name", "ro", "--role", "read").strip()
    everybody = [None, hub.bob, tokens["org-reads"], tokens["org-writes"], reads_only, hub.carol]
    ndjson = {"Content-Type": "application/x-ndjson"}
    line = '{"key":"header","value":{"summary":"x"}}\n{"key":"file","value":{"path":"f%d","content":"eA==","encoding":"base64"}}\n'
    for private in (False, True):
        repo = hub.repo("team/private" if private else "team/public", token=hub.carol, private=private)
        hub.commit(repo, {"a.txt": b"a"}, token=hub.carol)
        num = hub.ask("POST", f"/api/models/{repo}/discussions", {"title": "t", "description": "d"}, hub.carol).json()["num"]
        api = f"/api/models/{repo}"
        read = [401, 404, 200, 200, 200, 200] if private else [200] * 6
        write = [401, 404 if private else 403, 403, 200, 403, 200]
        own = [401, 404 if private else 403, 403, 403, 403, 200]
        say = [401, 404 if private else 200, 200, 200, 403, 200]
        table = [
            ("GET", api, None, read), ("GET", f"{api}/tree/main", None, read), ("GET", f"{api}/refs", None, read), ("GET", f"{api}/commits/main", None, read),
            ("GET", f"/{repo}/resolve/main/a.txt", None, read), ("HEAD", f"/{repo}/resolve/main/a.txt", None, read), ("GET", f"{api}/auth-check", None, read),
            ("POST", f"{api}/paths-info/main", {"paths": ["a.txt"]}, read), ("GET", f"{api}/discussions", None, read), ("GET", f"{api}/discussions/{num}", None, read),
            ("GET", f"/{repo}.git/info/refs?service=git-upload-pack", None, read), ("POST", f"/{repo}.git/info/lfs/objects/batch", {"operation": "download", "objects": []}, read),
            ("GET", f"{api}/auth-check/write", None, write), ("POST", f"{api}/preupload/main", {"files": []}, write), ("POST", f"{api}/commit/main", line, write),
            ("POST", f"{api}/branch/b%d", {}, write), ("POST", f"{api}/tag/main", {"tag": "t%d"}, write), ("POST", f"{api}/super-squash/b%d", {}, write),
            ("DELETE", f"{api}/branch/b%d", None, write), ("DELETE", f"{api}/tag/t%d", None, write),
            ("PUT", f"{api}/settings", {"private": private}, own), ("POST", f"{api}/discussions", {"title": "x"}, say),
            ("POST", f"{api}/discussions/{num}/comment", {"comment": "x"}, say), ("POST", f"{api}/like", None, say),
            ("GET", f"/{repo}.git/info/refs?service=git-receive-pack", None, say), ("POST", f"/{repo}.git/info/lfs/objects/batch", {"operation": "upload", "objects": []}, say),
            ("POST", f"{api}/discussions/{num}/title", {"title": "y"}, write), ("POST", f"{api}/discussions/{num}/status", {"status": "open"}, write),
            ("POST", f"{api}/commit/main?create_pr=1", line, say),
        ]
        for method, path, body, expected in table:
            got = []
            for i, token in enumerate(everybody):
                text = body % i if isinstance(body, str) and "%d" in body else json.loads(json.dumps(body).replace("%d", str(i)))
                got.append(hub.ask(method, path.replace("%d", str(i)), text, token, ndjson if isinstance(body, str) else None).status)
            assert got == expected, f"{method} {path} private={private}: {got}, not {expected}"
        names = [[m["id"] for m in hub.ask("GET", "/api/models?author=team", token=t).json()] for t in everybody]
        assert [repo in n for n in names] == [s == 200 for s in read]
        assert [hub.ask("DELETE", "/api/repos/delete", {"name": repo.split("/")[1], "organization": "team"}, t).status for t in everybody] == own
    hub.run("token", "revoke", "carol", "--name", "ro")
    assert hub.ask("GET", "/api/whoami-v2", token=reads_only).status == 401


def test_tokens_are_not_kept(hub):
    assert all(hub.token.encode() not in (hub.data / f).read_bytes() for f in os.listdir(hub.data) if f.startswith("hub.db"))


# ---- what no client sends ----

@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/../b", ".git/config", "a/.GIT/x", "a\\b", "a\n", ".", "a/", "", "x" * 300, "git~1"])
def test_no_path_leaves_its_place(hub, path):
    repo = "admin/paths"
    if hub.ask("GET", f"/api/models/{repo}").status != 200:
        hub.repo("paths")
    assert hub.commit(repo, {path: b"x"}).status == 400
    assert hub.ask("GET", f"/{repo}/resolve/main/" + urllib.parse.quote(path, safe="/")).status in (404, 405)


def test_commits_that_are_none(hub):
    repo = hub.repo("broken")
    header = '{"key":"header","value":{"summary":"s"}}\n'
    before = hub.ask("GET", f"/api/models/{repo}").json()["sha"]
    for body in ("", "x", "{}", "[]", header[:-3], header + '{"key":"file","value":{"path":"a","content":"!!!!","encoding":"base64"}}', header + '{"key":"file","value":{"path":"a"}}',
                 header + '{"key":"lfsFile","value":{"path":"a","algo":"sha256","oid":"' + "0" * 64 + '","size":5}}', header + '{"key":"what","value":{"path":"a"}}',
                 header + header, '{"key":"file","value":{"path":"a","content":"eA==","encoding":"base64"}}', header + '{"key":"file","value":{"path":"a","content":"eA==","content":"eA=="}}',
                 header + '{"key":"file","value":{"path":"a","c\\u006fntent":"eA=="}}', header + "[" * 100, header + '{"key":"file","value":{"path":"' + "a" * 70000 + '"}}'):
        r = hub.ask("POST", f"/api/models/{repo}/commit/main", body, headers={"Content-Type": "application/x-ndjson"})
        assert r.status == 400 and r.json()["error"], body[:100]
    assert hub.commit(repo, {"large.txt": b"x" * 10_500_000}).status == 400
    assert hub.ask("GET", f"/api/models/{repo}").json()["sha"] == before
    assert hub.commit(repo, {"a": b"1", "b/c": b"2"}).status == 200
    assert hub.commit(repo, {"a/b": b"1"}).status == 400  # a file is no folder


def test_links_hold_only_for_what_they_say(hub):
    repo, other, data = hub.repo("linked"), hub.repo("unlinked"), os.urandom(1000)
    oid = sha256(data)
    href = hub.batch(repo, [{"oid": oid, "size": 1000}]).json()["objects"][0]["actions"]["upload"]["href"]
    for bad in (href.replace("size=1000", "size=1001"), href.replace("repo=", "repo=1"), re.sub(r"exp=\d", "exp=9", href), href[:-1] + ("0" if href[-1] != "0" else "1"),
                href.split("&sig")[0], href.replace(oid, "0" * 64), href.replace("/objects/", "/parts/") + "&x=1"):
        assert hub.ask("PUT", bad, data, token=None).status in (403, 404, 405), bad
    assert hub.ask("PUT", href, data[:999], token=None).status == 400
    assert hub.ask("PUT", href, data[:999] + b"x", token=None).status == 400  # another hash
    assert hub.ask("PUT", href, data, token=None).status == 200
    assert "actions" not in hub.batch(repo, [{"oid": oid, "size": 1000}]).json()["objects"][0]
    assert hub.batch(other, [{"oid": oid, "size": 1000}], "download").json()["objects"][0]["error"]["code"] == 404
    # what a private repository holds is not told to others
    hub.ask("PUT", f"/api/models/{repo}/settings", {"private": True})
    theirs = hub.repo("theirs", token=hub.bob)
    assert "actions" in hub.batch(theirs, [{"oid": oid, "size": 1000}], token=hub.bob).json()["objects"][0]


def test_a_stranger_s_file_is_no_page_of_the_hub(hub):
    repo = hub.repo("page")
    hub.commit(repo, {"x.html": b"<script>alert(1)</script>"})
    r = hub.ask("GET", f"/{repo}/resolve/main/x.html")
    assert r.headers["X-Content-Type-Options"] == "nosniff" and "sandbox" in r.headers["Content-Security-Policy"] and "html" not in r.headers["Content-Type"]


# ---- large files, names, quotas ----

def test_large_files_come_in_parts(tmp_path):
    hub = Hub(tmp_path / "data", "--multipart", "5MB")
    try:
        repo, data = hub.repo("parts"), os.urandom(12_345_678)
        oid = sha256(data)
        up = hub.batch(repo, [{"oid": oid, "size": len(data)}], transfers=("basic", "multipart")).json()
        action = up["objects"][0]["actions"]["upload"]
        chunk = int(action["header"]["chunk_size"])
        links = [action["header"][str(i + 1)] for i in range(-(-len(data) // chunk))]
        assert up["transfer"] == "multipart" and len(action["header"]) == len(links) + 1
        parts = []
        for i, link in enumerate(links):
            if i == 1:
                assert hub.ask("POST", action["href"], {"oid": oid, "parts": parts}, token=None).status == 400  # not all are there
            r = hub.ask("PUT", link, data[i * chunk:(i + 1) * chunk], token=None)
            parts.append({"partNumber": i + 1, "etag": r.headers["ETag"]})
        assert hub.ask("PUT", links[0], b"0123456789", token=None).status == 400
        assert hub.ask("POST", action["href"], {"oid": oid, "parts": parts}, token=None).status == 400  # that broke the first
        hub.ask("PUT", links[0], data[:chunk], token=None)
        assert hub.ask("POST", action["href"], {"oid": oid, "parts": parts}, token=None).status == 200
        assert os.listdir(hub.data / "parts") == []
        lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "lfsFile", "value": {"path": "w.bin", "algo": "sha256", "oid": oid, "size": len(data)}}]
        assert hub.ask("POST", f"/api/models/{repo}/commit/main", "\n".join(map(json.dumps, lines)), headers={"Content-Type": "application/x-ndjson"}).status == 200
        assert sha256(hub.ask("GET", f"/{repo}/resolve/main/w.bin").body) == oid
    finally:
        hub.stop()


def test_a_part_that_still_arrives_does_not_change_the_object(tmp_path):
    """A second upload of a part, begun before the file was whole and sent to its end afterwards."""
    hub = Hub(tmp_path / "data", "--multipart", "5MB")
    try:
        repo, data = hub.repo("late"), os.urandom(7_000_000)
        oid = sha256(data)
        action = hub.batch(repo, [{"oid": oid, "size": len(data)}], transfers=("multipart",)).json()["objects"][0]["actions"]["upload"]
        chunk = int(action["header"]["chunk_size"])
        link = urllib.parse.urlsplit(action["header"]["1"])
        late = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=60)
        late.putrequest("PUT", f"{link.path}?{link.query}")
        late.putheader("Content-Length", str(chunk))
        late.endheaders()
        late.send(b"late")
        part = hub.data / "parts" / link.path.split("/")[-2]
        while not part.exists() or part.read_bytes()[:4] != b"late":
            time.sleep(0.01)
        for i in range(2):
            assert hub.ask("PUT", action["header"][str(i + 1)], data[i * chunk:(i + 1) * chunk], token=None).status == 200
        assert hub.ask("POST", action["href"], {"oid": oid, "parts": []}, token=None).status == 409
        late.send(b"x" * (chunk - 4))
        assert late.getresponse().status == 200
        assert hub.ask("POST", action["href"], {"oid": oid, "parts": []}, token=None).status == 400  # it is what came last
        hub.ask("PUT", action["header"]["1"], data[:chunk], token=None)
        assert hub.ask("POST", action["href"], {"oid": oid, "parts": []}, token=None).status == 200
        assert (hub.data / "objects" / oid[:2] / oid[2:4] / oid).read_bytes() == data
    finally:
        hub.stop()


def test_a_moved_repository_is_found_by_its_old_name(hub):
    repo = hub.repo("before")
    hub.commit(repo, {"a": b"1"})
    assert hub.ask("POST", "/api/repos/move", {"fromRepo": repo, "toRepo": "admin/after", "type": "model"}).status == 200
    r = hub.ask("GET", f"/{repo}/resolve/main/a")
    assert r.status == 307 and r.headers["Location"] == f"{hub.url}/admin/after/resolve/main/a"
    assert hub.ask("GET", r.headers["Location"]).body == b"1"
    assert hub.repo("before") == repo and hub.ask("GET", f"/{repo}/resolve/main/a").status == 404  # the name is a new one's


def test_quotas_hold(hub):
    hub.run("user", "add", "small")
    hub.run("quota", "small", "--limit", "1KB")
    token = hub.run("token", "add", "small").strip()
    repo = hub.repo("q", token=token)
    objects = hub.batch(repo, [{"oid": "1" * 64, "size": 600}, {"oid": "2" * 64, "size": 600}], token=token).json()["objects"]
    assert "actions" in objects[0] and objects[1]["error"]["code"] == 413


def test_gated_repositories_are_described_but_not_read(hub):
    repo = hub.repo("gated")
    hub.commit(repo, {"a": b"1"})
    assert hub.ask("PUT", f"/api/models/{repo}/settings", {"gated": "manual"}).json()["gated"] == "manual"
    assert hub.ask("GET", f"/api/models/{repo}", token=hub.bob).json()["gated"] == "manual"
    for token, status in ((None, 401), (hub.bob, 403), (hub.token, 200)):
        r = hub.ask("GET", f"/{repo}/resolve/main/a", token=token)
        assert r.status == status and (status == 200 or r.headers["X-Error-Code"] == "GatedRepo")


# ---- nothing is lost ----

def test_a_hundred_commits_at_once_all_stand(hub):
    repo = hub.repo("crowded")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda i: hub.commit(repo, {f"f{i}": b"%d" % i}), range(100)))
    assert [r.status for r in replies] == [200] * 100
    assert len({r.json()["commitOid"] for r in replies}) == 100
    assert {f["path"] for f in hub.ask("GET", f"/api/models/{repo}/tree/main").json()} == {".gitattributes", *(f"f{i}" for i in range(100))}
    assert len(hub.ask("GET", f"/api/models/{repo}/commits/main").json()) == 101


def test_of_two_commits_on_one_parent_one_stands(hub):
    repo = hub.repo("raced")
    parent = hub.ask("GET", f"/api/models/{repo}").json()["sha"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda i: hub.commit(repo, {"f": b"%d" % i}, parentCommit=parent).status, range(8)))
    assert sorted(statuses) == [200] + [412] * 7
    # the same once more, whose answer was lost, say
    content = hub.ask("GET", f"/{repo}/resolve/main/f").body
    assert hub.commit(repo, {"f": content}, parentCommit=parent).status == 200
    assert len(hub.ask("GET", f"/api/models/{repo}/commits/main").json()) == 2


def put_large(hub, repo, path, data, rev="main"):
    oid = sha256(data)
    for _ in range(5):  # of a collection of garbage that leaves no time at all, a client may have to try again, as clients do
        (o,) = hub.batch(repo, [{"oid": oid, "size": len(data)}]).json()["objects"]
        if "actions" not in o or hub.ask("PUT", o["actions"]["upload"]["href"], data, token=None).status == 200:
            break
    lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "lfsFile", "value": {"path": path, "oid": oid, "size": len(data)}}]
    assert hub.ask("POST", f"/api/models/{repo}/commit/{rev}", "\n".join(map(json.dumps, lines)), headers={"Content-Type": "application/x-ndjson"}).status == 200
    return oid


def object_path(hub, oid):
    return hub.data / "objects" / oid[:2] / oid[2:4] / oid


def test_garbage_goes_and_nothing_else(tmp_path):
    hub = Hub(tmp_path / "data")
    try:
        kept, gone = hub.repo("kept"), hub.repo("gone")
        both, mine, theirs = os.urandom(1000), os.urandom(1001), os.urandom(1002)
        oids = [put_large(hub, kept, "both", both), put_large(hub, kept, "mine", mine)]
        put_large(hub, gone, "both", both)
        orphan = put_large(hub, gone, "theirs", theirs)
        assert hub.ask("DELETE", "/api/repos/delete", {"name": "gone"}).status == 200
        assert hub.run("gc").startswith("0 objects") and object_path(hub, orphan).exists()  # it is younger than a day
        assert hub.run("gc", "--age", "0") == "1 objects, 0 xorbs, 0 uploads, 0 folders of repositories, 0.0 MiB\n"
        assert not object_path(hub, orphan).exists() and all(object_path(hub, o).exists() for o in oids)
        # beside writers
        stop = []

        def write(i):
            done = {}
            while not stop:
                data = os.urandom(500) if len(done) % 3 else b"%d" % i * 500  # the same again, too
                name = f"{i}-{len(done)}"
                put_large(hub, kept, name, data)
                done[name] = data
            return done

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            work = [pool.submit(write, i) for i in range(3)]
            for _ in range(6):
                hub.run("gc", "--age", "0")
            stop.append(1)
            for w in work:
                for name, data in w.result().items():
                    assert hub.ask("GET", f"/{kept}/resolve/main/{name}").body == data
        assert hub.run("fsck").splitlines()[-1].endswith("1 repositories")
    finally:
        hub.stop()


def test_damage_is_found_and_what_can_be_mended_is(farseek, tmp_path):
    hub = Hub(tmp_path / "data")
    repo = hub.repo("damaged")
    data = [os.urandom(1000 + i) for i in range(3)]
    oids = [put_large(hub, repo, f"w{i}", d) for i, d in enumerate(data)]
    hub.commit(repo, {"a.txt": b"text"})
    assert hub.run("fsck") == "3 objects, 0 xorbs, 1 repositories\n"
    os.chmod(object_path(hub, oids[0]), 0o600)
    object_path(hub, oids[0]).write_bytes(b"x" * 1000)  # another content
    object_path(hub, oids[1]).unlink()
    r = farseek("hub", "fsck", "--data", hub.data, check=False)
    assert r.returncode == 1 and f"object {oids[0]}: its content has the hash" in r.stdout and f"object {oids[1]} of 1001 bytes is missing" in r.stdout
    r = farseek("hub", "fsck", "--data", hub.data, "--repair", check=False)
    assert r.returncode == 1 and f"'w1' points to {oids[1]}, which is not here" in r.stdout  # nobody has it
    assert hub.ask("GET", f"/{repo}/resolve/main/w0").status == 404
    for i in (0, 1):
        put_large(hub, repo, f"w{i}", data[i])  # whoever has it brings it again
    assert hub.run("fsck") == "3 objects, 0 xorbs, 1 repositories\n"
    assert all(hub.ask("GET", f"/{repo}/resolve/main/w{i}").body == d for i, d in enumerate(data))
    hub.stop()
    text = hashlib.sha1(b"blob 4\0text").hexdigest()
    (blob,) = (tmp_path / "data" / "repos").glob(f"*/*.git/objects/{text[:2]}/{text[2:]}")
    os.chmod(blob, 0o600)
    blob.write_bytes(b"damage")
    r = farseek("hub", "fsck", "--data", hub.data, check=False)
    assert r.returncode == 1 and "models/admin/damaged: git:" in r.stdout


def is_receiving(hub):
    """It has an open file without a name: of an upload."""
    found = False
    for fd in os.listdir(f"/proc/{hub.process.pid}/fd"):
        with contextlib.suppress(OSError):
            path = os.readlink(f"/proc/{hub.process.pid}/fd/{fd}")
            found |= path.startswith(str(hub.data)) and path.endswith("(deleted)")
    return found


def test_a_stop_waits_for_what_is_under_way(tmp_path):
    hub = Hub(tmp_path / "data")
    repo, data = hub.repo("drained"), os.urandom(3_000_000)
    href = urllib.parse.urlsplit(hub.batch(repo, [{"oid": sha256(data), "size": len(data)}]).json()["objects"][0]["actions"]["upload"]["href"])
    c = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=60)
    c.putrequest("PUT", href.path + "?" + href.query)
    c.putheader("Content-Length", str(len(data)))
    c.endheaders()
    c.send(data[:1_000_000])
    while not is_receiving(hub):
        time.sleep(0.01)
    hub.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert hub.process.poll() is None
    c.send(data[1_000_000:])
    assert c.getresponse().status == 200
    c.close()
    hub.process.wait(120)
    assert hub.process.returncode == 0
    assert (tmp_path / "data" / "objects" / sha256(data)[:2] / sha256(data)[2:4] / sha256(data)).read_bytes() == data


def test_commands_say_what_is_wrong(farseek, tmp_path):
    r = farseek("hub", "user", "add", "a/b", "--data", tmp_path / "d", check=False)
    assert r.returncode == 2 and "is no name for an account" in r.stderr
    r = farseek("hub", "serve", "--data", tmp_path / "d", "--host", "no.such.address", check=False)
    assert r.returncode == 2 and "is no address to listen at" in r.stderr
    r = farseek("hub", "serve", check=False)
    assert r.returncode == 2 and "--data" in r.stderr


def test_a_commit_of_a_year_that_no_date_has(hub, tmp_path):
    repo = hub.repo("timeless")
    hub.git("clone", hub.git_url(repo), "c", cwd=tmp_path)
    work = tmp_path / "c"
    tree = hub.git("rev-parse", "HEAD^{tree}", cwd=work).stdout.strip()
    parent = hub.git("rev-parse", "HEAD", cwd=work).stdout.strip()
    text = f"tree {tree}\nparent {parent}\nauthor t <t@example.org> 9223372036854775 +0000\ncommitter t <t@example.org> 9223372036854775 +0000\n\nlate\n"
    (tmp_path / "commit").write_text(text)
    new = hub.git("hash-object", "-t", "commit", "-w", "--literally", str(tmp_path / "commit"), cwd=work).stdout.strip()
    r = hub.git("push", "origin", f"{new}:refs/heads/main", cwd=work, check=False)
    if r.returncode == 0:  # git's own look at it may refuse it
        r = hub.ask("GET", f"/api/models/{repo}/commits/main")
        assert r.status == 200 and [c["date"][:4] for c in r.json()][0] == "9999"


def test_accounts_are_set_and_removed(farseek, tmp_path):
    run = lambda *args, **kw: farseek("hub", *args, "--data", tmp_path / "d", **kw)
    for name in ("ann", "ben"):
        run("user", "add", name)
    run("org", "add", "team", "ann")
    run("org", "member", "team", "ben", "--role", "read")
    assert run("org", "list", "team") == "ann\tadmin\nben\tread\n"
    run("org", "remove", "team", "ben")
    assert run("org", "list", "team") == "ann\tadmin\n"
    run("user", "set", "ben", "--admin")
    assert run("user", "list") == "ann\tuser\nben\tadmin\nteam\torg\n"
    run("user", "set", "ben")
    run("user", "remove", "ann")
    assert run("user", "list") == "ben\tuser\nteam\torg\n" and run("org", "list", "team") == ""
    assert "there is no account 'ann'" in run("user", "remove", "ann", check=False).stderr
    h = Hub(tmp_path / "d")
    h.repo("r", token=h.run("token", "add", "ben").strip())
    h.stop()
    assert "owns 1 repositories" in run("user", "remove", "ben", check=False).stderr
