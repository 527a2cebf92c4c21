"""Forks: another name and another owner for the same commits and files, no byte copied; by the stock client, the API, the page and the command."""
import json
import os
import random
import re
import subprocess

import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils import HfHubHTTPError, RepositoryNotFoundError

from test_hub import Hub, sha256
from test_hub_mirror import copy, refs
from test_hub_pages_write import Browser

LARGE = random.Random(7).randbytes(300_000)


def upload(h, repo, data, token=True):
    [o] = h.batch(repo, [{"oid": sha256(data), "size": len(data)}], token=token).json()["objects"]
    if "actions" in o:
        assert h.ask("PUT", o["actions"]["upload"]["href"], data, token=None).status == 200
    lines = [{"key": "header", "value": {"summary": "large"}}, {"key": "lfsFile", "value": {"path": "model.bin", "algo": "sha256", "oid": sha256(data), "size": len(data)}}]
    r = h.ask("POST", f"/api/models/{repo}/commit/main", "\n".join(map(json.dumps, lines)), token, {"Content-Type": "application/x-ndjson"})
    assert r.status == 200, r.body


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("fork") / "data")
    h.bob = h.run("user", "add", "bob").strip()
    h.run("org", "add", "team", "bob")
    h.repo("admin/tiny")
    assert h.commit("admin/tiny", {"README.md": b"---\nlicense: mit\ntags: [small]\n---\nhello"}).status == 200
    upload(h, "admin/tiny", LARGE)
    for ref in ("branch/dev", "tag/main"):
        assert h.ask("POST", f"/api/models/admin/tiny/{ref}", {"tag": "v1"}).status == 200
    assert h.commit("admin/tiny", {"x": b"x"}, query="?create_pr=1").status == 200
    yield h
    assert h.run("fsck").splitlines()[-1].startswith("1 objects")
    h.stop()


def inodes(h):
    return {os.stat(os.path.join(d, f)).st_ino for part in ("repos", "objects") for d, _, files in os.walk(h.data / part) for f in files if "objects" in d}


def info(h, repo, token=True):
    return h.ask("GET", f"/api/models/{repo}", token=token).json()


def test_the_stock_client_duplicates(hub):
    api = HfApi(endpoint=hub.url, token=hub.bob)
    before = inodes(hub)
    url = api.duplicate_repo("admin/tiny", "bob/mine")
    assert url == f"{hub.url}/bob/mine" and url.repo_id == "bob/mine" and not url.files_copy_pending
    assert inodes(hub) == before, "objects are shared"
    there, here = refs(hub, "admin/tiny"), refs(hub, "bob/mine")
    assert here == {k: v for k, v in there.items() if not k.startswith("refs/pr/")} and len(here) >= 3
    m = api.model_info("bob/mine")
    assert m.sha == api.model_info("admin/tiny").sha and "license:mit" in m.tags and "small" in m.tags and m.private is False
    assert info(hub, "bob/mine")["forkedFrom"] == {"hub": hub.url, "id": "admin/tiny", "sha": m.sha}
    assert "forkedFrom" not in info(hub, "admin/tiny")
    assert hub.ask("GET", "/bob/mine/resolve/main/model.bin").body == LARGE
    with pytest.raises(HfHubHTTPError, match="already"):
        api.duplicate_repo("admin/tiny", "bob/mine")
    assert api.duplicate_repo("admin/tiny", "bob/mine", exist_ok=True) == url
    assert api.duplicate_repo("admin/tiny") == f"{hub.url}/bob/tiny"
    assert api.duplicate_repo("admin/tiny", "team/tiny", private=True).repo_id == "team/tiny" and info(hub, "team/tiny")["private"] is True


def test_the_two_go_their_own_ways(hub):
    assert hub.ask("POST", "/api/models/admin/tiny/duplicate", {"repository": "bob/own"}, hub.bob).status == 200
    sha = info(hub, "admin/tiny")["sha"]
    assert hub.commit("bob/own", {"b": b"bob"}, token=hub.bob).status == 200
    assert info(hub, "admin/tiny")["sha"] == sha != info(hub, "bob/own")["sha"]
    assert hub.commit("bob/own", {"b": b"no"}, token=hub.run("user", "add", "carol").strip()).status == 403
    hub.repo("admin/short")
    upload(hub, "admin/short", LARGE)
    assert hub.ask("POST", "/api/models/admin/short/duplicate", {"repository": "bob/stays"}, hub.bob).status == 200
    assert hub.ask("DELETE", "/api/repos/delete", {"name": "short", "organization": "admin"}).status == 200
    hub.run("gc", "--age", "0")
    assert hub.ask("GET", "/bob/stays/resolve/main/model.bin").body == LARGE
    assert info(hub, "bob/stays")["forkedFrom"]["id"] == "admin/short"


def test_who_may_fork_what(hub):
    def fork(repo, to, token, **more):
        return hub.ask("POST", f"/api/models/{repo}/duplicate", {"repository": to, **more}, token)

    assert fork("admin/tiny", "bob/n", None).status == 401
    assert fork("admin/tiny", "admin/n", hub.bob).status == 403
    assert fork("admin/tiny", "nobody/n", hub.bob).status == 403
    assert fork("admin/tiny", "bob/n", hub.run("token", "add", "bob", "--role", "read").strip()).status == 403
    for name in ("bob/..", "bob/a b", "bob/x/y", "bob/.git"):
        assert fork("admin/tiny", name, hub.bob).status == 400, name
    hub.repo("admin/secret", private=True)
    assert fork("admin/secret", "bob/n", hub.bob).status == 404
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.url, token=hub.bob).duplicate_repo("admin/secret")
    hub.repo("admin/gated")
    assert hub.ask("PUT", "/api/models/admin/gated/settings", {"gated": "manual"}).status == 200
    assert fork("admin/gated", "bob/n", hub.bob).status == 403
    assert fork("admin/gated", "team/gated", hub.token).status == 200 and info(hub, "team/gated")["gated"] == "manual"
    # What a private one is called stays with those who may see it.
    assert fork("admin/secret", "team/open", hub.token, visibility="public").status == 200
    assert info(hub, "team/open")["forkedFrom"]["id"] == "admin/secret" and "forkedFrom" not in info(hub, "team/open", hub.bob)
    assert b"admin/secret" not in hub.ask("GET", "/team/open", token=hub.bob).body
    assert hub.ask("DELETE", "/api/repos/delete", {"name": "secret", "organization": "admin"}).status == 200
    assert "forkedFrom" not in info(hub, "team/open")


def test_a_fork_counts_in_its_owners_quota(hub):
    hub.run("org", "add", "small", "bob")
    hub.run("quota", "small", "--limit", "1kB")
    r = hub.ask("POST", "/api/models/admin/tiny/duplicate", {"repository": "small/tiny"}, hub.bob)
    assert r.status == 413 and hub.ask("GET", "/api/models/small/tiny", token=hub.bob).status == 404
    hub.run("quota", "small", "--limit", "300kB")
    assert hub.ask("POST", "/api/models/admin/tiny/duplicate", {"repository": "small/tiny"}, hub.bob).status == 200
    assert hub.ask("POST", "/api/models/admin/tiny/duplicate", {"repository": "small/again"}, hub.bob).status == 200, "each file counts once"


def test_a_revocation_comes_along(hub):
    hub.repo("admin/bad")
    assert hub.ask("POST", "/api/models/admin/bad/advisories", {"message": "it bites", "revision": "main"}).status == 200
    assert hub.ask("POST", "/api/models/admin/bad/duplicate", {"repository": "bob/bad"}, hub.bob).status == 200
    assert "it bites" in hub.ask("GET", "/api/models/bob/bad").headers["X-HF-Warning"]


def test_a_copy_is_forked_and_written_to(hub, tmp_path):
    other = Hub(tmp_path / "other")
    try:
        copy(other, hub, "admin/tiny")
        assert other.commit("admin/tiny", {"a": b"a"}).status == 403, "nobody writes to a copy"
        other.run("fork", "admin/tiny", "admin/our-own")
        made = info(other, "admin/our-own")
        assert made["forkedFrom"] == {"hub": hub.url, "id": "admin/tiny", "sha": made["sha"]} and made["sha"] == info(hub, "admin/tiny")["sha"]
        assert other.commit("admin/our-own", {"a": b"a"}).status == 200
        assert other.ask("GET", "/admin/our-own/resolve/main/model.bin").body == LARGE
        page = other.ask("GET", "/admin/our-own").body.decode()
        assert f'A fork of <a rel="noreferrer" href="{hub.url}/admin/tiny">admin/tiny</a> of {hub.url} at {made["sha"][:10]}.' in page
        assert other.run("fsck").splitlines()[-1].startswith("1 objects")
    finally:
        other.stop()


def test_the_page_forks(hub):
    b = Browser(hub).login(hub.bob)
    b.get("/admin/tiny").post("/-/models/admin/tiny/fork", repository="bob/by-page")
    assert b.path == "/bob/by-page"
    assert re.search(r"A fork of <a[^>]*href=\"/admin/tiny\">admin/tiny</a> at [0-9a-f]{10}\.", b.text)
    b.get("/admin/tiny").post("/-/models/admin/tiny/fork", want=409, repository="bob/by-page")
    assert "/-/models/admin/tiny/fork" not in Browser(hub).get("/admin/tiny").actions(), "who is not signed in does not"


def test_the_command_says_what_is_wrong(hub):
    for words, sentence in ((("admin/none", "bob/x"), "there is no repository 'admin/none'"), (("admin/tiny", "none/x"), "there is no account 'none'"),
                            (("admin/tiny", "bob"), "cannot be a repository's name"), (("admin/tiny", "admin/tiny"), "already")):
        with pytest.raises(subprocess.CalledProcessError) as e:
            hub.run("fork", *words)
        assert sentence in e.value.stderr
