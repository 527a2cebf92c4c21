"""Webhooks: made by huggingface_hub, told to a receiver, with retries that survive a kill; no private address, no redirect."""
import http.server
import json
import os
import queue
import signal
import sqlite3
import threading
import time

import pytest
from huggingface_hub import HfApi, WebhookPayload
from huggingface_hub.errors import HfHubHTTPError

from test_hub import Hub, put_large


class Receiver:
    """Answers each delivery with the next of statuses, then 200; keeps what came."""

    def __init__(self):
        self.got, self.statuses, self.location = queue.Queue(), [], None
        self.seconds, self.now, self.most, self.lock = 0, 0, 0, threading.Lock()  # that each takes; how many are here, and were at most
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.lock:
                    receiver.now += 1
                    receiver.most = max(receiver.most, receiver.now)
                time.sleep(receiver.seconds)
                with receiver.lock:
                    receiver.now -= 1
                receiver.got.put((self.path, self.headers["X-Webhook-Secret"], json.loads(body)))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def next(self, timeout=60):
        return self.got.get(timeout=timeout)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    r = Receiver()
    yield r
    r.close()


@pytest.fixture
def hub(tmp_path):
    h = Hub(tmp_path / "data", "--webhooks-private")
    h.bob = h.run("user", "add", "bob").strip()
    yield h
    if h.process.poll() is None:
        h.stop()


def waiting(hub):
    with sqlite3.connect(hub.data / "hub.db", timeout=60) as db:
        rows = db.execute("SELECT tries, due_ms - created_ms FROM deliveries").fetchall()
    db.close()
    return rows


def test_the_client_makes_and_changes_them(hub):
    api, bob = HfApi(endpoint=hub.url, token=hub.token), HfApi(endpoint=hub.url, token=hub.bob)
    w = api.create_webhook(url="https://example.org/hook", watched=[{"type": "user", "name": "admin"}], domains=["repo"], secret="s3cret")
    assert (w.url, w.domains, w.secret, w.disabled, w.watched[0].name) == ("https://example.org/hook", ["repo"], "s3cret", False, "admin")
    assert api.get_webhook(w.id) == w and api.list_webhooks() == [w]
    assert api.update_webhook(w.id, domains=["discussion"], url="https://example.org/2").url == "https://example.org/2"
    assert api.get_webhook(w.id).secret == "s3cret" and api.get_webhook(w.id).domains == ["discussion"]
    assert api.disable_webhook(w.id).disabled and not api.enable_webhook(w.id).disabled
    assert bob.list_webhooks() == []
    for call in (bob.get_webhook, bob.disable_webhook, bob.delete_webhook):
        with pytest.raises(HfHubHTTPError) as e:
            call(w.id)
        assert e.value.response.status_code == 404
    api.delete_webhook(w.id)
    assert api.list_webhooks() == []
    for body in ({"url": "file:///etc/passwd"}, {"url": "https://a b/"}, {"url": "https://x/", "watched": []}, {"url": "https://x/", "watched": [{"type": "moon", "name": "a"}]},
                 {"url": "https://x/", "secret": "a\r\nb"}, {"url": "https://x/", "domains": ["all"]}, {}):
        assert hub.ask("POST", "/api/settings/webhooks", {"watched": [{"type": "user", "name": "admin"}], **body}).status == 400, body


def test_what_happens_is_told(hub, receiver, tmp_path):
    api = HfApi(endpoint=hub.url, token=hub.token)
    w = api.create_webhook(url=receiver.url + "/x", watched=[{"type": "user", "name": "ADMIN"}], secret="s3cret")
    repo = hub.repo("told")
    path, secret, body = receiver.next()
    payload = WebhookPayload(**body)
    assert (path, secret, payload.event.action, payload.event.scope, payload.repo.name, payload.repo.type, payload.webhook.id) == ("/x", "s3cret", "create", "repo", repo, "model", w.id)
    first = body["repo"]["headSha"]
    sha = hub.commit(repo, {"a": b"1"}).json()["commitOid"]
    body = receiver.next()[2]
    assert body["event"] == {"action": "update", "scope": "repo.content"} and body["updatedRefs"] == [{"ref": "refs/heads/main", "oldSha": first, "newSha": sha}]
    assert body["repo"]["headSha"] == sha
    num = api.create_discussion(repo, title="a title").num
    events = [receiver.next()[2] for _ in range(2)]
    assert [(b["event"]["action"], b["event"]["scope"], b["discussion"]["num"], b["discussion"]["title"]) for b in events] == [
        ("create", "discussion", num, "a title"), ("create", "discussion.comment", num, "a title")]
    hub.git("clone", hub.git_url(repo), "w", cwd=tmp_path)
    (tmp_path / "w" / "b").write_text("2")
    hub.git("add", ".", cwd=tmp_path / "w")
    hub.git("commit", "-qm", "x", cwd=tmp_path / "w")
    hub.git("push", cwd=tmp_path / "w")
    body = receiver.next()[2]
    pushed = hub.git("rev-parse", "HEAD", cwd=tmp_path / "w").stdout.strip()
    assert body["event"] == {"action": "update", "scope": "repo.content"} and body["updatedRefs"] == [{"ref": "refs/heads/main", "oldSha": sha, "newSha": pushed}]
    assert body["repo"]["headSha"] == pushed
    api.move_repo(repo, "admin/elsewhere")
    body = receiver.next()[2]
    assert body["event"]["action"] == "move" and body["movedTo"]["name"] == "admin/elsewhere"
    api.delete_repo("admin/elsewhere")
    assert receiver.next()[2]["event"] == {"action": "delete", "scope": "repo"}
    api.disable_webhook(w.id)
    hub.repo("silent")
    with pytest.raises(queue.Empty):
        receiver.next(2)
    assert waiting(hub) == []


def test_refs_are_told_with_what_they_were(hub, receiver, tmp_path):
    api = HfApi(endpoint=hub.url, token=hub.token)
    repo = hub.repo("refs")
    api.create_webhook(url=receiver.url, watched=[{"type": "model", "name": repo}], domains=["repo"])

    def told():
        body = receiver.next()[2]
        assert body["event"] == {"action": "update", "scope": "repo.content"}
        assert WebhookPayload(**body).updatedRefs is not None
        return [(x["ref"], x["oldSha"], x["newSha"]) for x in body["updatedRefs"]]

    head = api.model_info(repo).sha
    api.create_branch(repo, branch="dev")
    assert told() == [("refs/heads/dev", None, head)]
    api.create_tag(repo, tag="v1")
    assert told() == [("refs/tags/v1", None, head)]
    sha = hub.commit(repo, {"a": b"1"}, rev="dev").json()["commitOid"]
    assert told() == [("refs/heads/dev", head, sha)]
    assert hub.commit(repo, {"a": b"1"}, rev="dev").json()["commitOid"] == sha  # which changes nothing
    api.super_squash_history(repo, branch="dev")
    squashed = api.model_info(repo, revision="dev").sha
    assert told() == [("refs/heads/dev", sha, squashed)]
    api.delete_branch(repo, branch="dev")
    assert told() == [("refs/heads/dev", squashed, None)]
    api.delete_tag(repo, tag="v1")
    assert told() == [("refs/tags/v1", head, None)]
    pr = hub.commit(repo, {"b": b"2"}, query="?create_pr=1").json()
    assert told() == [("refs/pr/1", None, pr["commitOid"])]
    api.merge_pull_request(repo, 1)
    merged = api.model_info(repo).sha
    assert told() == [("refs/heads/main", head, merged)]
    # Several refs of one push are one event; one that is refused is not in it.
    w = tmp_path / "w"
    hub.git("clone", hub.git_url(repo), "w", cwd=tmp_path)
    hub.git("branch", "one", cwd=w)
    hub.git("tag", "two", cwd=w)
    hub.git("push", "origin", "one", "two", cwd=w)
    assert sorted(told()) == [("refs/heads/one", None, merged), ("refs/tags/two", None, merged)]
    assert hub.git("push", "origin", ":main", cwd=w, check=False).returncode != 0
    hub.git("push", "origin", ":one", cwd=w)
    assert told() == [("refs/heads/one", merged, None)]
    assert [p.name for p in (hub.data / "parts").iterdir()] == []
    # A large file taken out of the history of some.
    data = os.urandom(20_000)
    api.create_branch(repo, branch="large")
    assert told() == [("refs/heads/large", None, merged)]
    oid = put_large(hub, repo, "w.bin", data, rev="large")
    with_file = api.model_info(repo, revision="large").sha
    api.create_tag(repo, tag="v2", revision="large")
    assert told() == [("refs/heads/large", merged, with_file)] and told() == [("refs/tags/v2", None, with_file)]
    assert hub.ask("POST", f"/api/models/{repo}/lfs-files/batch", {"deletions": {"sha": [oid], "rewriteHistory": True}}).status == 200
    new = api.model_info(repo, revision="large").sha
    assert new != with_file and sorted(told()) == [("refs/heads/large", with_file, new), ("refs/tags/v2", with_file, new)]


def test_private_repositories_are_told_to_those_who_may_read_them(hub, receiver):
    HfApi(endpoint=hub.url, token=hub.bob).create_webhook(url=receiver.url, watched=[{"type": "user", "name": "admin"}], domains=["repo"])
    hub.repo("hidden", private=True)
    hub.repo("open")
    assert receiver.next()[2]["repo"]["name"] == "admin/open"


def test_a_refusal_is_tried_again_beyond_a_kill(hub, receiver):
    receiver.statuses = [500]
    HfApi(endpoint=hub.url, token=hub.token).create_webhook(url=receiver.url, watched=[{"type": "user", "name": "admin"}], domains=["repo"])
    hub.repo("r")
    receiver.next()
    deadline = time.time() + 60
    while (rows := waiting(hub)) != [(1, rows[0][1])] or rows[0][1] > 30000:  # settled: the lease is over
        assert time.time() < deadline
        time.sleep(0.1)
    assert 5000 <= rows[0][1] < 20000
    hub.stop(signal.SIGKILL)
    hub.start()
    assert receiver.next()[2]["event"]["action"] == "create"
    deadline = time.time() + 60
    while waiting(hub):
        assert time.time() < deadline
        time.sleep(0.1)


def test_one_at_a_time_in_order_and_a_slow_receiver_holds_nobody_up(hub, receiver):
    slow = Receiver()
    slow.seconds = 1
    api = HfApi(endpoint=hub.url, token=hub.token)
    slow_hook = api.create_webhook(url=slow.url, watched=[{"type": "user", "name": "admin"}], domains=["repo"])
    api.create_webhook(url=receiver.url, watched=[{"type": "user", "name": "admin"}], domains=["repo"])
    repo = hub.repo("many")
    for i in range(5):
        api.create_tag(repo, tag=f"v{i}")
    start, quick = time.monotonic(), [receiver.next()[2] for _ in range(6)]
    tags = [None] + [f"refs/tags/v{i}" for i in range(5)]
    assert [b.get("updatedRefs", [{"ref": None}])[0]["ref"] for b in quick] == tags and time.monotonic() - start < 4 and slow.got.qsize() < 6
    assert [b.get("updatedRefs", [{"ref": None}])[0]["ref"] for b in (slow.next()[2] for _ in range(6))] == tags
    assert slow.most == 1
    api.delete_webhook(slow_hook.id)
    slow.close()


def test_redirects_are_not_followed(hub, receiver):
    receiver.statuses, receiver.location = [302, 302, 302], receiver.url + "/inside"
    HfApi(endpoint=hub.url, token=hub.token).create_webhook(url=receiver.url + "/out", watched=[{"type": "user", "name": "admin"}], domains=["repo"])
    hub.repo("r")
    assert receiver.next()[0] == "/out"
    assert receiver.next()[0] == "/out"  # tried again, not followed


def test_private_addresses_are_not_reached(tmp_path, receiver):
    h = Hub(tmp_path / "data")
    try:
        port = receiver.server.server_port
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "0x7f000001", "127.1"):
            HfApi(endpoint=h.url, token=h.token).create_webhook(url=f"http://{host}:{port}/{host.strip('[]')}", watched=[{"type": "user", "name": "admin"}], domains=["repo"])
        h.repo("r")
        deadline = time.time() + 60
        while [t for t, _ in waiting(h)].count(0):
            assert time.time() < deadline
            time.sleep(0.1)
        with pytest.raises(queue.Empty):
            receiver.next(1)
    finally:
        h.stop()
