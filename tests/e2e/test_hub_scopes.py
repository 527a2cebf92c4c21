"""Tokens that are for some repositories only. Every route asked with such tokens is in test_hub_access.py; here is what a route alone does not show."""
import json
import subprocess

import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils import HfHubHTTPError, RepositoryNotFoundError

from test_hub import Hub, sha256
from test_hub_pages_write import Browser


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("scopes") / "data")
    h.ann = h.run("user", "add", "ann").strip()
    h.run("org", "add", "team", "ann")
    for name in ("ann/one", "ann/two", "team/three"):
        h.repo(name, h.ann, private=True)
    h.repo("ann/open", h.ann)
    yield h
    h.stop()


def scoped(hub, *names, role="write", user="ann"):
    return hub.run("token", "add", user, "--name", "scoped", "--role", role, "--only", ",".join(names)).strip()


def test_the_stock_client_sees_what_it_is_for(hub):
    api = HfApi(endpoint=hub.url, token=scoped(hub, "ann/one", "team"))
    token = api.whoami()["auth"]["accessToken"]
    assert token["role"] == "fineGrained" and token["fineGrained"]["global"] == [] and token["fineGrained"]["canReadGatedRepos"] is False
    assert [(x["entity"]["type"], x["entity"]["name"], x["permissions"]) for x in token["fineGrained"]["scoped"]] == [
        ("model", "ann/one", ["repo.content.read", "repo.write", "discussion.write"]), ("org", "team", ["repo.content.read", "repo.write", "discussion.write"])]
    assert {m.id for m in api.list_models()} == {"ann/one", "team/three", "ann/open"}
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="ann/one")
    api.upload_file(path_or_fileobj=b"large" * 100_000, path_in_repo="x.bin", repo_id="team/three")  # by Xet
    api.create_repo("team/new")
    for refused in (lambda: api.create_repo("ann/new"), lambda: api.delete_repo("team/new"), lambda: api.update_repo_settings("ann/one", private=False),
                    lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="ann/open"), lambda: api.create_discussion("ann/open", title="t"),
                    lambda: api.create_webhook(url="https://example.org", watched=[{"type": "user", "name": "ann"}]), lambda: api.list_webhooks()):
        with pytest.raises(HfHubHTTPError) as e:
            refused()
        assert e.value.response.status_code == 403
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("ann/two")
    assert api.model_info("ann/open").id == "ann/open"


def test_for_reading_alone(hub):
    api = HfApi(endpoint=hub.url, token=scoped(hub, "ann/one", role="read"))
    assert api.model_info("ann/one").private
    assert api.whoami()["auth"]["accessToken"]["fineGrained"]["scoped"][0]["permissions"] == ["repo.content.read"]
    with pytest.raises(HfHubHTTPError):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="ann/one")


def test_git_goes_where_the_token_does(hub, tmp_path):
    token = scoped(hub, "ann/one")
    hub.git("clone", hub.git_url("ann/one", "ann", token), "one", cwd=tmp_path)
    (tmp_path / "one" / "pushed").write_text("x")
    hub.git("add", ".", cwd=tmp_path / "one")
    hub.git("commit", "-m", "x", cwd=tmp_path / "one")
    hub.git("push", cwd=tmp_path / "one")
    assert hub.git("clone", hub.git_url("ann/two", "ann", token), "two", cwd=tmp_path, check=False).returncode != 0
    hub.git("clone", hub.git_url("ann/open", "ann", token), "open", cwd=tmp_path)
    (tmp_path / "open" / "pushed").write_text("x")
    hub.git("add", ".", cwd=tmp_path / "open")
    hub.git("commit", "-m", "x", cwd=tmp_path / "open")
    assert hub.git("push", cwd=tmp_path / "open", check=False).returncode != 0


def test_a_hash_of_another_repository_gives_nothing(hub):
    secret = b"the words of ann/two" * 1000
    oid = sha256(secret)
    [o] = hub.batch("ann/two", [{"oid": oid, "size": len(secret)}], token=hub.ann).json()["objects"]
    assert hub.ask("PUT", o["actions"]["upload"]["href"], secret, token=None).status == 200
    [whole] = hub.batch("ann/one", [{"oid": oid, "size": len(secret)}], token=hub.ann).json()["objects"]
    assert "actions" not in whole, "ann may read it, and need not send it again"
    [o] = hub.batch("ann/open", [{"oid": oid, "size": len(secret)}], token=scoped(hub, "ann/open")).json()["objects"]
    assert "upload" in o["actions"], "this token may not, and must"


def test_a_token_of_xet_is_as_narrow(hub):
    token = scoped(hub, "ann/one")
    assert hub.ask("GET", "/api/models/ann/one/xet-write-token/main", token=token).status == 200
    assert hub.ask("GET", "/api/models/ann/two/xet-read-token/main", token=token).status == 404
    assert hub.ask("GET", "/api/models/ann/open/xet-write-token/main", token=token).status == 403
    assert hub.ask("GET", "/api/models/ann/open/xet-write-token/main?create_pr=1", token=token).status == 403


def test_a_scope_follows_its_repository_and_ends_with_it(hub):
    hub.repo("ann/moves", hub.ann, private=True)
    token = scoped(hub, "ann/moves")
    assert hub.ask("POST", "/api/repos/move", {"fromRepo": "ann/moves", "toRepo": "ann/moved"}, hub.ann).status == 200
    assert hub.ask("GET", "/api/models/ann/moved", token=token).status == 200
    assert "write only ann/moved" in hub.run("token", "list", "ann")
    assert hub.ask("DELETE", "/api/repos/delete", {"name": "moved", "organization": "ann"}, hub.ann).status == 200
    assert hub.ask("GET", "/api/models/ann/one", token=token).status == 404, "a token for nothing is for nothing"
    hub.repo("ann/moves", hub.ann, private=True)
    assert hub.ask("GET", "/api/models/ann/moves", token=token).status == 404, "nor for a new one of the old name"


def test_an_admins_token_is_narrow_too(hub):
    token = scoped(hub, "ann/one", user="admin")
    assert hub.ask("GET", "/api/models/ann/one", token=token).status == 200
    assert hub.ask("GET", "/api/models/ann/two", token=token).status == 404
    assert b"ann/two" not in hub.ask("GET", "/api/models", token=token).body


def test_no_token_for_what_is_not_there_or_not_seen(hub):
    hub.run("user", "add", "eve")
    for names in (["ann/none"], ["nobody"], ["ann/one"], ["ann"], ["datasets/ann/one"], ["models/ann"], ["eve", "ann/two"]):
        with pytest.raises(subprocess.CalledProcessError) as e:
            scoped(hub, *names, user="eve")
        assert "that the token could be for" in e.value.stderr, names
    assert hub.run("token", "list", "eve").count("\n") == 1, "what failed left none"


def test_the_page_makes_them_and_they_open_no_settings(hub):
    b = Browser(hub).login(hub.ann).get("/settings").post("/settings/tokens", name="by page", role="write", only="ann/one team")
    assert "some repositories" in b.text
    token = b.text.split("<code>hf_")[1][:40]
    narrow = Browser(hub).login("hf_" + token)
    narrow.get("/settings", status=403)
    assert "ann/two" not in narrow.get("/ann").text and "ann/one" in narrow.text
    narrow.get("/ann/two", status=404)
    body = json.dumps({"name": "x"})
    assert hub.ask("POST", "/api/repos/create", body, "hf_" + token, {"Content-Type": "application/json"}).status == 403
