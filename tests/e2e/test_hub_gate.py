"""Gated repositories through huggingface_hub: asking, answering, reading."""
import sqlite3
import uuid

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

from test_hub import Hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("gate") / "data")
    for name in ("bob", "carol"):
        setattr(h, name, h.run("user", "add", name).strip())
    yield h
    h.stop()


def gated(hub, name, how):
    repo = hub.repo(name)
    assert hub.commit(repo, {"config.json": b"{}"}).status == 200
    HfApi(endpoint=hub.url, token=hub.token).update_repo_settings(repo, gated=how)
    return repo


def reads(hub, repo, token, tmp_path):
    try:
        HfApi(endpoint=hub.url, token=token).hf_hub_download(repo, "config.json", local_dir=tmp_path / uuid.uuid4().hex)
        return True
    except GatedRepoError as e:
        return str(e)


def test_who_asks_is_answered(hub, tmp_path):
    repo, owner = gated(hub, "manual", "manual"), HfApi(endpoint=hub.url, token=hub.token)
    assert f"Visit {hub.url}/{repo} to ask for access" in reads(hub, repo, hub.bob, tmp_path)
    assert hub.ask("POST", f"/{repo}/ask-access", {"why": "research <b>", "n": 3}, token=hub.bob).json() == {"status": "pending"}
    assert hub.ask("POST", f"/api/models/{repo}/ask-access", "why=form+data", token=hub.carol, headers={"Content-Type": "application/x-www-form-urlencoded"}).status == 200
    assert "awaiting a review" in reads(hub, repo, hub.bob, tmp_path)
    waiting = list(owner.list_pending_access_requests(repo))
    assert [(r.username, r.status, r.fields) for r in waiting] == [("bob", "pending", {"why": "research <b>", "n": 3}), ("carol", "pending", {"why": "form data"})]
    owner.accept_access_request(repo, "bob")
    assert reads(hub, repo, hub.bob, tmp_path) is True
    owner.reject_access_request(repo, request_id=waiting[1].request_id, rejection_reason="no form")
    assert "has been rejected" in reads(hub, repo, hub.carol, tmp_path)
    assert [r.username for r in owner.list_accepted_access_requests(repo)] == ["bob"] and [r.username for r in owner.list_rejected_access_requests(repo)] == ["carol"]
    assert hub.ask("POST", f"/{repo}/ask-access", {}, token=hub.carol).json() == {"status": "rejected"}  # asking again changes nothing
    owner.cancel_access_request(repo, "bob")  # back to the waiting ones
    assert "awaiting a review" in reads(hub, repo, hub.bob, tmp_path)
    assert hub.ask("POST", f"/api/models/{repo}/user-access-request/cancel", {}, token=hub.bob).status == 200
    assert list(owner.list_pending_access_requests(repo)) == []
    owner.grant_access(repo, "bob")
    assert reads(hub, repo, hub.bob, tmp_path) is True
    for call, status in ((lambda: owner.grant_access(repo, "bob"), 400), (lambda: owner.grant_access(repo, "nobody-here"), 404), (lambda: owner.accept_access_request(repo, "bob"), 404),
                         (lambda: HfApi(endpoint=hub.url, token=hub.bob).list_pending_access_requests(repo).__iter__().__next__(), 403),
                         (lambda: HfApi(endpoint=hub.url, token=hub.bob).grant_access(repo, "bob"), 403)):
        with pytest.raises(HfHubHTTPError) as e:
            call()
        assert e.value.response.status_code == status


def test_auto_lets_in_who_asks(hub, tmp_path):
    repo = gated(hub, "auto", "auto")
    assert "ask for access" in reads(hub, repo, hub.bob, tmp_path)
    assert hub.ask("POST", f"/{repo}/ask-access", {}, token=hub.bob).json() == {"status": "accepted"}
    assert reads(hub, repo, hub.bob, tmp_path) is True
    HfApi(endpoint=hub.url, token=hub.token).update_repo_settings(repo, gated=False)
    assert hub.ask("POST", f"/{repo}/ask-access", {}, token=hub.carol).status == 400 and reads(hub, repo, hub.carol, tmp_path) is True


def test_many_requests_come_in_pages(hub):
    repo, owner = gated(hub, "many", "manual"), HfApi(endpoint=hub.url, token=hub.token)
    names = [f"u{i}" for i in range(130)]
    with sqlite3.connect(hub.data / "hub.db", timeout=60) as db:
        id = db.execute("SELECT id FROM repos WHERE name = 'many'").fetchone()[0]
        for name in names:
            db.execute("INSERT INTO accounts(name, kind, created_ms) VALUES(?, 'user', 0)", (name,))
            db.execute("INSERT INTO access_requests(repo, account, status, created_ms) VALUES(?, last_insert_rowid(), 'pending', 0)", (id,))
    db.close()
    assert [r.username for r in owner.list_pending_access_requests(repo)] == names


def test_who_was_not_let_in_adds_nothing(hub):
    """A commit may not read a gated repository's files either, nor a pull request's diff."""
    repo = gated(hub, "closed", "manual")
    for query in ("", "?create_pr=1"):
        r = hub.commit(repo, {"x": b"1"}, token=hub.bob, query=query)
        assert r.status == 403 and r.headers["X-Error-Code"] == "GatedRepo"
    num = hub.commit(repo, {"secret": b"1"}, query="?create_pr=1").json()["pullRequestUrl"].split("/")[-1]
    assert hub.ask("GET", f"/api/models/{repo}/discussions/{num}", token=hub.bob).status == 200
    assert hub.ask("GET", f"/api/models/{repo}/discussions/{num}?diff=1", token=hub.bob).headers["X-Error-Code"] == "GatedRepo"
