"""Protected branches and tags: what is refused of them through git, the API, the stock client and the pages, and what is not."""
import concurrent.futures
import http.client
import json
import os
import re
import sqlite3
import subprocess
import urllib.parse

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.utils import HfHubHTTPError

from test_hub import BINARY, Hub, put_large, sha256
from test_hub_pages_write import Browser, Forms, multipart


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("protect") / "data")
    for name in ("ann", "bob"):
        setattr(h, name, h.run("user", "add", name).strip())
    h.run("org", "add", "team", "ann")
    h.run("org", "member", "team", "bob", "--role", "write")
    yield h
    h.stop()


class Work:
    """A clone, with two commits of its own on the first one: `one` and, after it, `two`; `other` is beside them."""

    def __init__(self, hub, repo, folder, user="bob"):
        self.hub, self.repo = hub, repo
        hub.git("clone", hub.git_url(repo, user, getattr(hub, user)), "work", cwd=folder)
        self.path = folder / "work"
        self.root = self.git("rev-parse", "HEAD")
        self.one, self.two = self.commit("one"), self.commit("two")
        self.git("checkout", "-q", "-b", "beside", self.root)
        self.other = self.commit("other")

    def git(self, *args):
        return self.hub.git(*args, cwd=self.path).stdout.strip()

    def commit(self, name):
        (self.path / name).write_text(name)
        self.git("add", ".")
        self.git("commit", "-q", "-m", name)
        return self.git("rev-parse", "HEAD")

    def push(self, *refs):
        """None, or what the hub said."""
        refs = [re.sub(":(?=[a-z])(?!refs/)", ":refs/heads/", ref) for ref in refs]
        r = self.hub.git("push", "origin", *refs, cwd=self.path, check=False)
        said = [line.removeprefix("remote: ").strip() for line in r.stderr.splitlines() if line.startswith("remote: ")]
        assert r.returncode or not said, r.stderr
        return (said or [r.stderr]) if r.returncode else None


@pytest.fixture
def work(hub, tmp_path, request):
    return Work(hub, hub.repo("team/" + request.node.name.replace("[", "-").replace("]", ""), hub.ann), tmp_path)


def rules(hub, repo, *patterns, protection="default", tags=(), token=None):
    r = hub.ask("PUT", f"/api/models/{repo}/settings", {"protectedBranches": list(patterns), "protectedTags": list(tags), "branchProtection": protection}, token or hub.ann)
    assert r.status == 200, r.body
    return r.json()


def heads(hub, repo, kind="branches"):
    return {b["name"]: b["targetCommit"] for b in hub.ask("GET", f"/api/models/{repo}/refs").json()[kind]}


def tags(hub, repo):
    return heads(hub, repo, "tags")


FORCED = "'{}' is a protected branch: it only goes forward, and cannot be pushed by force"
REFUSED = "farseek: nothing of this push was taken"


# ---- git ----

def test_main_goes_forward_only(hub, work):
    assert work.push(f"{work.one}:main") is None and work.push(f"{work.two}:refs/heads/main") is None
    for ref in (f"+{work.other}:main", f"+{work.one}:main", f"+{work.root}:refs/heads/main"):  # beside it; back
        assert work.push(ref) == [FORCED.format("main"), REFUSED]
    assert work.push(":main") == ["main cannot be deleted", REFUSED]
    assert heads(hub, work.repo) == {"main": work.two}
    # other branches are their writers'
    assert work.push(f"{work.two}:dev") is None and work.push(f"+{work.other}:dev") is None and work.push(f"+{work.root}:dev") is None
    assert heads(hub, work.repo)["dev"] == work.root
    assert work.push(":dev") is None and heads(hub, work.repo) == {"main": work.two}


def test_one_sentence_a_ref_and_all_or_nothing(hub, work):
    rules(hub, work.repo, "main", "release/*")
    assert work.push(f"{work.two}:main", f"{work.two}:release/1", f"{work.one}:dev") is None
    said = work.push(f"+{work.other}:main", f"+{work.other}:dev", ":release/1", f"{work.two}:refs/heads/new")
    assert sorted(said) == sorted([FORCED.format("main"), "'release/1' is a protected branch: it cannot be deleted", REFUSED])
    assert heads(hub, work.repo) == {"main": work.two, "release/1": work.two, "dev": work.one}


def test_patterns(hub, work):
    rules(hub, work.repo, "release/*", "v?.0", "keep/**", "exact")
    covered = {"release/1", "v1.0", "keep/a", "keep/b/c", "exact"}
    free = {"releases/1", "release/2/x", "v10.0", "keeps", "exactly", "Exact", "RELEASE/1", "main", "dev"}
    assert work.push(*(f"{work.two}:refs/heads/{name}" for name in covered | free)) is None
    assert work.push(*(f"+{work.other}:refs/heads/{name}" for name in free)) is None
    said = work.push(*(f"+{work.other}:refs/heads/{name}" for name in covered))
    assert sorted(said) == sorted([FORCED.format(name) for name in covered] + [REFUSED])
    shown = {b["name"] for b in hub.ask("GET", f"/api/models/{work.repo}/refs").json()["branches"] if b.get("protected")}
    assert shown == covered and heads(hub, work.repo) == dict.fromkeys(covered, work.two) | dict.fromkeys(free, work.other)


@pytest.mark.parametrize("wrong", [["a b"], ["../x"], ["refs/heads/main"], ["a..b"], [""], ["x" * 201], ["-x"], ["a\nb"], ["[ab]"], ["a\\*"], [5], [None], {"a": 1}, 7, ["a" * 40], ["x"] * 51,
                                   [f"{i:02}" + "x" * 190 for i in range(40)], "ok a..b", "nul\0"])
def test_what_is_no_pattern(hub, wrong):
    repo = "team/wrong"
    if hub.ask("GET", f"/api/models/{repo}").status == 404:
        hub.repo(repo, hub.ann)
    r = hub.ask("PUT", f"/api/models/{repo}/settings", {"protectedBranches": wrong, "private": True}, hub.ann)
    assert r.status == 400 and "Traceback" not in r.json()["error"] and len(r.json()["error"]) > 10
    assert hub.ask("PUT", f"/api/models/{repo}/settings", {"branchProtection": wrong}, hub.ann).status == 400
    r = hub.ask("PUT", f"/api/models/{repo}/settings", {"protectedBranches": ["x"], "protectedTags": wrong}, hub.ann)
    assert r.status == 400 and len(r.json()["error"]) > 10
    assert hub.ask("GET", f"/api/models/{repo}/settings").json() == {"private": False, "gated": False, "protectedBranches": ["main"], "protectedTags": [], "branchProtection": "default"}


def test_no_way_around_by_another_name(hub, work):
    """Of the refs that a push may name, and of what the API takes for one."""
    assert work.push(f"{work.two}:main") is None
    api = f"/api/models/{work.repo}"
    for ref in ("HEAD", "refs/heads/../heads/main", "refs/heads//main", "refs/heads/main/", "refs/heads/./main", "Refs/heads/main", "REFS/HEADS/MAIN", "refs/Heads/main", "refs/heads/main.lock",
                "refs/heads/main~0", "refs/heads/main^{}", "refs/remotes/origin/main", "refs/replace/" + work.two, "refs/pr/1", "refs/pr/../heads/main", "refs/mirror/heads/main", "heads/main", "main "):
        assert raw_push(hub, work, work.two, work.other, ref) is False, ref
        assert heads(hub, work.repo) == {"main": work.two}, ref
    assert raw_push(hub, work, "0" * 40, work.other, "refs/heads/MAIN") is True, "another branch, to git"
    assert heads(hub, work.repo) == {"main": work.two, "MAIN": work.other}
    for name in ("main", "refs/heads/main", "../heads/main", "./main", "x/../main", "main/", "/main"):
        for quoted in {urllib.parse.quote(name, safe=""), urllib.parse.quote(name, safe="/")}:
            assert hub.ask("DELETE", f"{api}/branch/{quoted}", token=hub.ann).status in (400, 403, 404), quoted
            assert hub.ask("POST", f"{api}/branch/{quoted}", {"startingPoint": "MAIN", "overwrite": True}, hub.ann).status in (400, 403, 404), quoted
    assert heads(hub, work.repo) == {"main": work.two, "MAIN": work.other}


def raw_push(hub, work, old, new, ref):
    """A push of one ref as no git would make it; whether it moved."""
    pack = subprocess.run(["git", "pack-objects", "--stdout", "--revs", "-q"], cwd=work.path, input=f"{new}\n^{work.root}\n".encode(), capture_output=True, check=True).stdout
    line = f"{old} {new} {ref}\0 report-status".encode()
    body = f"{len(line) + 4:04x}".encode() + line + b"0000" + pack
    r = hub.ask("POST", f"/{work.repo}.git/git-receive-pack", body, hub.bob, {"Content-Type": "application/x-git-receive-pack-request"})
    return r.status == 200 and b"unpack ok" in r.body and f"ok {ref}".encode() in r.body


def test_a_client_that_lies_about_what_is_there(hub, work):
    """old is the client's word: that the branch is new, or that it is where the new commit begins."""
    assert work.push(f"{work.two}:main", f"{work.other}:dev") is None
    for old in ("0" * 40, work.root, work.one, work.other, "1" * 40):
        for new in (work.other, work.root, work.one):
            assert raw_push(hub, work, old, new, "refs/heads/main") is False, (old, new)
            assert heads(hub, work.repo) == {"main": work.two, "dev": work.other}
    # two orders about one ref
    pack = subprocess.run(["git", "pack-objects", "--stdout", "-q"], cwd=work.path, input=b"", capture_output=True, check=True).stdout
    lines = [f"{work.two} {'0' * 40} refs/heads/main\0 report-status delete-refs", f"{'0' * 40} {work.other} refs/heads/main"]
    body = b"".join(f"{len(line) + 4:04x}{line}".encode() for line in lines) + b"0000" + pack
    hub.ask("POST", f"/{work.repo}.git/git-receive-pack", body, hub.bob, {"Content-Type": "application/x-git-receive-pack-request"})
    assert heads(hub, work.repo) == {"main": work.two, "dev": work.other}
    assert raw_push(hub, work, work.other, work.one, "refs/heads/dev") is True, "such a push is taken where nothing is protected"


def test_pull_requests_may_be_pushed_anew(hub, work):
    r = hub.commit(work.repo, {"x": b"x"}, token=hub.bob, query="?create_pr=1")
    ref = "refs/pr/" + r.json()["pullRequestUrl"].split("/")[-1]
    rules(hub, work.repo, "**", "pr/*", protection="pull-request")
    assert work.push(f"+{work.two}:{ref}") is None and work.push(f"+{work.other}:{ref}") is None


def test_tags_stay_where_they_are(hub, work):
    """Each way that git has to move or delete one: by force, forward, a tag with a message in its place, the same name among others."""
    rules(hub, work.repo, "main", tags=["v*", "keep/**"])
    work.git("tag", "-a", "-m", "x", "v2", work.one)
    assert work.push(f"{work.one}:refs/tags/v1", "refs/tags/v2", f"{work.one}:refs/tags/keep/a/b", f"{work.one}:refs/tags/other", f"{work.one}:main") is None, "they are made by who may write"
    stand = {"v1": work.one, "v2": work.one, "keep/a/b": work.one, "other": work.one}
    assert tags(hub, work.repo) == stand
    moved, deleted = "'{}' is a protected tag: it cannot be moved", "'{}' is a protected tag: it cannot be deleted"
    work.git("tag", "-a", "-m", "x", "again", work.one)
    for name in ("v1", "v2", "keep/a/b"):
        for to in (work.two, work.other, work.root, "refs/tags/again"):  # forward, beside, back, another object of the same commit
            assert work.push(f"+{to}:refs/tags/{name}") == [moved.format(name), REFUSED], (name, to)
        assert work.push(f":refs/tags/{name}") == [deleted.format(name), REFUSED]
    assert sorted(work.push("+refs/tags/again:refs/tags/v1", ":refs/tags/v2", f"{work.two}:main", ":refs/tags/other")) == sorted([moved.format("v1"), deleted.format("v2"), REFUSED])
    assert tags(hub, work.repo) == stand and heads(hub, work.repo) == {"main": work.one}
    for old in ("0" * 40, work.root, work.two, "1" * 40):  # a client that lies
        assert raw_push(hub, work, old, work.two, "refs/tags/v1") is False, old
    for ref in ("refs/tags//v1", "refs/tags/./v1", "refs/tags/../tags/v1", "Refs/tags/v1", "refs/Tags/v1", "tags/v1", "refs/tags/v1^{}"):
        assert raw_push(hub, work, work.one, work.two, ref) is False, ref
    assert tags(hub, work.repo) == stand
    shown = {t["name"] for t in hub.ask("GET", f"/api/models/{work.repo}/refs").json()["tags"] if t.get("protected")}
    assert shown == {"v1", "v2", "keep/a/b"}
    assert work.push(f"+{work.two}:refs/tags/other", f"+{work.two}:refs/heads/v1") is None and work.push(":refs/tags/other", ":v1") is None, "others are their writers'"
    rules(hub, work.repo, "main", "**")
    assert work.push(f"+{work.two}:refs/tags/v1", ":refs/tags/v2") is None, "as it is from the beginning"


# ---- the API and the stock client ----

def refused(call, status=403):
    with pytest.raises(HfHubHTTPError) as e:
        call()
    assert e.value.response.status_code == status, e.value
    said = e.value.response.headers["X-Error-Message"]
    assert said == e.value.response.json()["error"] and said in str(e.value)
    return said


def test_the_stock_client(hub, work):
    assert work.push(f"{work.two}:main") is None
    repo, api, bob = work.repo, HfApi(endpoint=hub.url, token=hub.ann), HfApi(endpoint=hub.url, token=hub.bob)
    # as it is from the beginning
    bob.create_branch(repo, branch="dev")
    bob.create_branch(repo, branch="dev", exist_ok=True)
    bob.create_branch(repo, branch="main", revision="dev", exist_ok=True)
    bob.delete_branch(repo, branch="dev")
    assert refused(lambda: api.delete_branch(repo, branch="main")) == "main cannot be deleted"
    bob.super_squash_history(repo)
    assert len(api.list_repo_commits(repo)) == 1
    bob.upload_file(repo_id=repo, path_or_fileobj=b"x", path_in_repo="x")
    # history is kept
    rules(hub, repo, "main", "release/*", protection="keep-history")
    bob.create_branch(repo, branch="release/1")
    bob.upload_file(repo_id=repo, path_or_fileobj=b"1", path_in_repo="y", revision="release/1")
    for branch in ("main", "release/1"):
        before = heads(hub, repo)
        assert refused(lambda: api.super_squash_history(repo, branch=branch)) == f"'{branch}' is a protected branch whose history is kept: it cannot be rewritten"
        assert heads(hub, repo) == before
    assert refused(lambda: api.delete_branch(repo, branch="release/1")) == "'release/1' is a protected branch: it cannot be deleted"
    bob.create_branch(repo, branch="dev")
    bob.upload_file(repo_id=repo, path_or_fileobj=b"2", path_in_repo="y", revision="dev")
    bob.super_squash_history(repo, branch="dev")
    # pull requests only: administrators, too
    rules(hub, repo, "main", "release/*", protection="pull-request")
    before = heads(hub, repo)
    for client in (api, bob):
        for branch in ("main", "release/1", "refs/heads/main"):
            said = refused(lambda: client.create_commit(repo, [CommitOperationAdd("z", b"z")], commit_message="m", revision=branch))
            assert said == f"'{branch.removeprefix('refs/heads/')}' is a protected branch: it is changed by pull requests only"
        refused(lambda: client.super_squash_history(repo))
    assert heads(hub, repo) == before
    r = hub.ask("POST", f"/api/models/{repo}/commit/main", '{"key":"header","value":{"summary":"s"}}', hub.ann, {"Content-Type": "application/x-ndjson"})
    assert r.status == 403, "what sends no question before"
    bob.create_commit(repo, [CommitOperationAdd("z", b"z")], commit_message="m", revision="dev")
    pr = bob.create_commit(repo, [CommitOperationAdd("z", b"z")], commit_message="m", create_pr=True)
    bob.create_commit(repo, [CommitOperationAdd("z2", b"z2")], commit_message="more", revision=pr.pr_revision)
    bob.merge_pull_request(repo, pr.pr_num)
    assert hub.ask("GET", f"/{repo}/resolve/main/z2").body == b"z2"
    # and back
    rules(hub, repo)
    assert hub.ask("GET", f"/api/models/{repo}/settings").json()["protectedBranches"] == []
    refused(lambda: api.delete_branch(repo, branch="main"))
    bob.delete_branch(repo, branch="release/1")
    bob.super_squash_history(repo)


def test_git_by_pull_requests_only(hub, work):
    rules(hub, work.repo, "main", "release/*", protection="pull-request")
    only = "'{}' is a protected branch: it is changed by pull requests only"
    for user in ("bob", "ann"):
        work.git("remote", "set-url", "origin", hub.git_url(work.repo, user, getattr(hub, user)))
        assert work.push(f"{work.one}:main") == [only.format("main"), REFUSED]
        assert work.push(f"{work.one}:release/2") == [only.format("release/2"), REFUSED]
        assert work.push(f"+{work.other}:main") is not None
    assert heads(hub, work.repo) == {"main": work.root}
    assert work.push(f"{work.two}:dev") is None
    r = hub.commit(work.repo, {"x": b"x"}, token=hub.bob, query="?create_pr=1").json()
    num = r["pullRequestUrl"].split("/")[-1]
    work.git("remote", "set-url", "origin", hub.git_url(work.repo, "bob", hub.bob))
    assert work.push(f"+{work.two}:refs/pr/{num}") is None
    assert hub.ask("POST", f"/api/models/{work.repo}/discussions/{num}/merge", {}, hub.bob).status == 200
    work.git("fetch", "-q", "origin", "main")
    assert work.git("rev-parse", "FETCH_HEAD^1", "FETCH_HEAD^2").split() == [work.root, work.two]


def test_our_own_client_is_told_before_it_sends(hub, work, tmp_path):
    rules(hub, work.repo, "main", protection="pull-request")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w.bin").write_bytes(os.urandom(1_000_000))
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.bob}
    push = lambda *more: subprocess.run([*BINARY, "push", str(tmp_path / "model"), work.repo, *more], env=env, capture_output=True, text=True)
    r = push()
    assert r.returncode and "'main' is a protected branch: it is changed by pull requests only" in r.stderr
    assert hub.ask("GET", f"/api/models/{work.repo}/lfs-files").json() == [] and heads(hub, work.repo) == {"main": work.root}
    assert push("--create-pr").returncode == 0
    num = hub.ask("GET", f"/api/models/{work.repo}/discussions").json()["discussions"][0]["num"]
    assert hub.ask("POST", f"/api/models/{work.repo}/discussions/{num}/merge", {}, hub.bob).status == 200
    assert len(hub.ask("GET", f"/{work.repo}/resolve/main/w.bin").body) == 1_000_000


def test_branches_that_are_made_over(hub, work):
    """overwrite of the API: a forced push by another name."""
    assert work.push(f"{work.one}:main", f"{work.two}:dev", f"{work.other}:beside") is None
    make = lambda branch, to, token=None, **kw: hub.ask("POST", f"/api/models/{work.repo}/branch/{branch}", {"startingPoint": to, **kw}, token or hub.bob)
    assert make("dev", "beside").status == 409 and make("dev", "beside", overwrite=False).status == 409
    assert make("dev", "beside", overwrite="yes").status == 400
    assert make("dev", "beside", overwrite=True).status == 200 and heads(hub, work.repo)["dev"] == work.other
    assert make("dev", work.two, overwrite=True).status == 200 and heads(hub, work.repo)["dev"] == work.two
    for to in ("beside", work.root):
        r = make("main", to, overwrite=True, token=hub.ann)
        assert r.status == 403 and r.headers["X-Error-Message"] == FORCED.format("main")
    assert make("main", work.one, overwrite=True).status == 200, "where it is"
    assert make("main", "dev", overwrite=True).status == 200, "forward"
    assert hub.ask("GET", f"/api/models/{work.repo}").json()["sha"] == work.two == heads(hub, work.repo)["main"]
    rules(hub, work.repo, "main", "n*", protection="pull-request")
    work.git("checkout", "-q", work.two)
    three = work.commit("three")
    assert work.push(f"{three}:dev") is None and make("main", "dev", overwrite=True).status == 403
    assert make("new", "main", overwrite=True).status == 200 and make("new", "beside", overwrite=True).status == 403
    assert heads(hub, work.repo)["main"] == work.two == heads(hub, work.repo)["new"]


def test_tags_and_the_stock_client(hub, work):
    repo, api = work.repo, HfApi(endpoint=hub.url, token=hub.ann)
    api.create_tag(repo, tag="v1")
    api.delete_tag(repo, tag="v1")
    rules(hub, repo, "main", tags=["v*", "a/*"])
    api.create_tag(repo, tag="v1", tag_message="first")
    api.create_tag(repo, tag="a/b")
    api.create_tag(repo, tag="other")
    api.upload_file(repo_id=repo, path_or_fileobj=b"x", path_in_repo="x")
    before = tags(hub, repo)
    assert set(before.values()) == {work.root}
    api.create_tag(repo, tag="v1", exist_ok=True)
    for name in ("v1", "a/b"):
        assert refused(lambda: api.delete_tag(repo, tag=name)) == f"'{name}' is a protected tag: it cannot be deleted"
        refused(lambda: api.create_tag(repo, tag=name), 409)
    api.super_squash_history(repo)
    assert tags(hub, repo) == before and hub.ask("GET", f"/api/models/{repo}/revision/v1").json()["sha"] == work.root
    api.delete_tag(repo, tag="other")
    rules(hub, repo, "main")
    api.delete_tag(repo, tag="a/b")
    assert set(tags(hub, repo)) == {"v1"}


def test_large_files_of_a_protected_tag(hub, work):
    repo, data = work.repo, os.urandom(50_000)
    put_large(hub, repo, "w.bin", data)
    HfApi(endpoint=hub.url, token=hub.ann).create_tag(repo, tag="v1")
    delete = lambda: hub.ask("POST", f"/api/models/{repo}/lfs-files/batch", {"deletions": {"sha": [sha256(data)], "rewriteHistory": True}}, hub.ann)
    rules(hub, repo, tags=["v1"])
    before = heads(hub, repo), tags(hub, repo)
    r = delete()
    assert r.status == 403 and r.headers["X-Error-Message"] == "'v1' is a protected tag: it cannot be moved"
    assert (heads(hub, repo), tags(hub, repo)) == before and hub.ask("GET", f"/{repo}/resolve/v1/w.bin").body == data
    rules(hub, repo)
    assert delete().status == 200 and tags(hub, repo)["v1"] == heads(hub, repo)["main"] != before[1]["v1"]


def test_large_files_deleted_for_good(hub, work):
    repo, data = work.repo, os.urandom(50_000)
    put_large(hub, repo, "w.bin", data)
    delete = lambda **kw: hub.ask("POST", f"/api/models/{repo}/lfs-files/batch", {"deletions": {"sha": [sha256(data)], **kw}}, hub.ann)
    hub.ask("POST", f"/api/models/{repo}/branch/dev", {}, hub.bob)
    for pattern in ("main", "d*"):
        rules(hub, repo, pattern, protection="keep-history")
        before = heads(hub, repo)
        r = delete(rewriteHistory=True)
        assert r.status == 403 and "whose history is kept" in r.headers["X-Error-Message"], r.body
        assert heads(hub, repo) == before and hub.ask("GET", f"/{repo}/resolve/main/w.bin").body == data
    rules(hub, repo, "main")
    assert delete(rewriteHistory=True).status == 200
    assert hub.ask("GET", f"/{repo}/resolve/main/w.bin").status == 404 and heads(hub, repo)["main"] != before["main"]


# ---- who sets them, and what keeps them ----

def test_who_sets_them(hub):
    repo = hub.repo("team/set", hub.ann)
    path = f"/api/models/{repo}/settings"
    for token, status in ((None, 401), (hub.bob, 403), (hub.run("token", "add", "ann", "--name", "scoped", "--only", "team").strip(), 403),
                          (hub.run("token", "add", "ann", "--name", "ro", "--role", "read").strip(), 403)):
        assert hub.ask("PUT", path, {"protectedBranches": []}, token).status == status
        assert hub.ask("GET", path, token=token).json()["protectedBranches"] == ["main"]
    assert rules(hub, repo, "main", "main", "b/*", protection="keep-history") == {"private": False, "gated": False, "protectedBranches": ["main", "main", "b/*"], "protectedTags": [], "branchProtection": "keep-history"}
    assert hub.ask("PUT", path, {"private": True}, hub.ann).json()["protectedBranches"] == ["main", "main", "b/*"], "others stay"
    assert hub.ask("PUT", path, {"protectedBranches": ["main"]}, hub.ann).json()["branchProtection"] == "keep-history"
    assert rules(hub, repo, tags=["v*"])["protectedTags"] == ["v*"] and hub.ask("PUT", path, {"protectedBranches": ["main"]}, hub.ann).json()["protectedTags"] == ["v*"]
    assert hub.ask("PUT", path, {"protectedTags": []}, hub.ann).json()["protectedBranches"] == ["main"]
    hub.ask("PUT", path, {"private": True}, hub.ann)
    assert hub.ask("GET", path, token=None).status == 401 and hub.ask("GET", path, token=hub.run("user", "add", "eve").strip()).status == 404


def test_settings_set_at_once_all_stand(hub):
    repo = hub.repo("team/at-once", hub.ann)
    changes = [{"private": True}, {"gated": "auto"}, {"protectedBranches": ["x"]}, {"protectedTags": ["v*"]}, {"branchProtection": "keep-history"}]
    put = lambda change: hub.ask("PUT", f"/api/models/{repo}/settings", change, hub.ann).status
    want = {k: v for change in changes for k, v in change.items()}
    with concurrent.futures.ThreadPoolExecutor(len(changes)) as pool:
        for _ in range(20):
            assert put({"private": False, "gated": False, "protectedBranches": [], "protectedTags": [], "branchProtection": "default"}) == 200
            assert set(pool.map(put, changes)) == {200}
            assert hub.ask("GET", f"/api/models/{repo}/settings", token=hub.ann).json() == want


def test_they_move_and_are_kept_and_forks_begin_anew(hub, tmp_path):
    repo = hub.repo("team/moves", hub.ann)
    rules(hub, repo, "main", "release/*", protection="keep-history", tags=["v*"])
    assert hub.ask("POST", "/api/repos/move", {"fromRepo": repo, "toRepo": "team/moved"}, hub.ann).status == 200
    said = {"private": False, "gated": False, "protectedBranches": ["main", "release/*"], "protectedTags": ["v*"], "branchProtection": "keep-history"}
    assert hub.ask("GET", "/api/models/team/moved/settings").json() == said
    assert hub.ask("POST", "/api/models/team/moved/duplicate", {"repository": "bob/forked"}, hub.bob).status == 200
    assert hub.ask("GET", "/api/models/bob/forked/settings").json() == said | {"protectedBranches": ["main"], "protectedTags": [], "branchProtection": "default"}
    subprocess.run([*BINARY, "hub", "backup", "--data", str(hub.data), "--to", str(tmp_path / "copy")], check=True)
    subprocess.run([*BINARY, "hub", "export", "team/moved", "--data", str(hub.data), "--to", str(tmp_path / "bundle")], check=True)
    copy, far = Hub(tmp_path / "copy"), Hub(tmp_path / "far")
    far.run("import", str(tmp_path / "bundle"))
    copy.token = hub.token
    for h in (copy, far):
        assert h.ask("GET", "/api/models/team/moved/settings").json() == said
    # one that is there keeps its own; one of an older program's file, or a broken file's, has what is usual, or is refused
    rules(far, "team/moved", "x", token=far.token)
    far.run("import", str(tmp_path / "bundle"))
    assert far.ask("GET", "/api/models/team/moved/settings").json()["protectedBranches"] == ["x"]
    whole = (tmp_path / "bundle").read_bytes()
    part = b',"protectedBranches":["main","release/*"],"protectedTags":["v*"],"branchProtection":"keep-history"'
    assert whole.count(part) == 1
    for change, name, want in ((b"", b"team/old", ["main"]), (part.replace(b"keep-history", b"what"), b"team/bad", None), (part.replace(b"release/*", b"a..b"), b"team/bad", None),
                               (part.replace(b'["v*"]', b'["a..b"]'), b"team/bad", None)):
        (tmp_path / "changed").write_bytes(whole.replace(part, change).replace(b"team/moved", name))
        r = subprocess.run([*BINARY, "hub", "import", str(tmp_path / "changed"), "--data", str(far.data)], capture_output=True, text=True)
        assert (r.returncode == 0) == (want is not None), r.stderr
        if want:
            assert far.ask("GET", f"/api/models/{name.decode()}/settings").json()["protectedBranches"] == want
    copy.stop()
    far.stop()


def test_a_copy_follows_its_upstream(hub, work, tmp_path):
    """Its branches are the upstream's, whatever is protected here."""
    assert work.push(f"{work.two}:main") is None
    here = Hub(tmp_path / "here")
    mirror = lambda *more: subprocess.run([*BINARY, "hub", "mirror", hub.url, work.repo, "--any-address", "--data", str(here.data), *more], capture_output=True, text=True)
    assert mirror().returncode == 0
    assert "protected" not in here.ask("GET", f"/api/models/{work.repo}/refs").json()["branches"][0]
    here.ask("PUT", f"/api/models/{work.repo}/settings", {"protectedTags": ["v*"]})
    rules(hub, work.repo)
    assert work.push(f"+{work.other}:main", f"{work.one}:refs/tags/v1") is None
    assert mirror().returncode != 0 and mirror("--force").returncode == 0
    assert heads(here, work.repo) == {"main": work.other} and tags(here, work.repo) == {"v1": work.one}
    assert "protected" not in here.ask("GET", f"/api/models/{work.repo}/refs").json()["tags"][0]
    assert work.push(f"+{work.two}:refs/tags/v1") is None and mirror("--force").returncode == 0 and tags(here, work.repo) == {"v1": work.two}
    b = Browser(here).login(here.token).get(f"/{work.repo}/settings")
    assert "protectedBranches" not in b.text
    b.post(f"/-/models/{work.repo}/settings", description="a copy")
    assert here.ask("GET", f"/api/models/{work.repo}/settings").json()["protectedBranches"] == ["main"]
    here.stop()


def test_a_hub_from_before_has_main_protected(tmp_path):
    h = Hub(tmp_path / "data")
    repo = h.repo("old")
    h.stop()
    with sqlite3.connect(tmp_path / "data" / "hub.db", timeout=60) as db:
        n = db.execute("PRAGMA user_version").fetchone()[0]
        for column in ("protected", "protection", "protected_tags"):
            db.execute(f"ALTER TABLE repos DROP COLUMN {column}")
        for index in ("owner", "open", "tasks", "libraries"):  # which came later
            db.execute(f"DROP INDEX repos_{index}")
        db.execute(f"PRAGMA user_version={n - 3}")
    token = h.token
    h.start()
    h.token = token
    assert h.ask("GET", f"/api/models/{repo}/settings").json() == {"private": False, "gated": False, "protectedBranches": ["main"], "protectedTags": [], "branchProtection": "default"}
    assert h.ask("DELETE", f"/api/models/{repo}/branch/main").status == 403
    h.stop()


# ---- the pages ----

def test_the_page_of_settings(hub, work):
    repo = work.repo
    action = f"/-/models/{repo}/settings"
    ann = Browser(hub).login(hub.ann).get(f"/{repo}/settings")
    assert Forms(ann.text).of(action)["protectedBranches"] == "main" and Forms(ann.text).of(action)["branchProtection"] == "default"
    ann.post(action, protectedBranches="main\r\nrelease/*\r\n\r\n", branchProtection="pull-request")
    assert ann.path == f"/{repo}/settings"
    form = Forms(ann.text).of(action)
    assert form["protectedBranches"] == "main\nrelease/*" and form["branchProtection"] == "pull-request"
    assert hub.ask("GET", f"/api/models/{repo}/settings").json()["protectedBranches"] == ["main", "release/*"]
    ann.post(action, protectedTags="v*\r\nkeep/*")
    form = Forms(ann.text).of(action)
    assert form["protectedTags"] == "v*\nkeep/*" and form["protectedBranches"] == "main\nrelease/*"
    assert hub.ask("GET", f"/api/models/{repo}/settings").json()["protectedTags"] == ["v*", "keep/*"]
    ann.post(action, 400, protectedTags="<b2>..")
    assert "&lt;b2&gt;" in ann.text and "<b2>" not in ann.text
    ann.get(f"/{repo}/settings").post(action, description="only this")
    assert hub.ask("GET", f"/api/models/{repo}/settings").json()["branchProtection"] == "pull-request"
    ann.post(action, 400, protectedBranches="<b2>..")
    assert "&lt;b2&gt;" in ann.text and "<b2>" not in ann.text
    ann.get(f"/{repo}/settings").post(action, protectedBranches="main release/* </textarea><b2>")  # git has no objection
    assert Forms(ann.text).of(action)["protectedBranches"].endswith("\n</textarea><b2>") and "<b2>" not in ann.text
    ann.post(action, protectedBranches="main release/*")
    ann.post(action, 403, csrf="0" * 64, protectedBranches="")
    assert hub.ask("GET", f"/api/models/{repo}/settings").json()["protectedBranches"] == ["main", "release/*"]
    bob = Browser(hub).login(hub.bob).get(f"/{repo}/settings", 403)
    # files go by pull request alone
    bob.get(f"/{repo}/upload/main/")
    form = Forms(bob.text).of(f"/-/models/{repo}/upload/main")
    assert form["how"] == "pull request" and "a commit to main" not in bob.text
    body, headers = multipart(form | {"how": "commit"}, [("f.txt", b"x")])
    assert bob.send("POST", f"/-/models/{repo}/upload/main", body, headers).status == 403 and "by pull requests only" in bob.text
    assert heads(hub, repo) == {"main": work.root}
    body, headers = multipart(form, [("f.txt", b"x")])
    bob.send("POST", f"/-/models/{repo}/upload/main", body, headers)
    assert bob.path.startswith(f"/{repo}/discussions/")
    bob.post(f"/-/models{bob.path}/merge")
    assert hub.ask("GET", f"/{repo}/resolve/main/f.txt").body == b"x"
    ann.get(f"/{repo}/settings").post(action, protectedBranches="")
    assert "a commit to main" in bob.get(f"/{repo}/upload/main/").text


def slow_commit(hub, repo, rev, meanwhile):
    """The status of a commit of bob's, between whose header and file something happens."""
    lines = [json.dumps(x).encode() + b"\n" for x in ({"key": "header", "value": {"summary": "slow"}},
                                                      {"key": "file", "value": {"path": "slow", "content": "eA==", "encoding": "base64"}})]
    c = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=60)
    c.putrequest("POST", f"/api/models/{repo}/commit/{rev}")
    for header in (("Authorization", "Bearer " + hub.bob), ("Content-Type", "application/x-ndjson"), ("Content-Length", str(len(b"".join(lines)))), ("Expect", "100-continue")):
        c.putheader(*header)
    c.endheaders()
    c.send(lines[0])
    assert b"100 Continue" in c.sock.recv(100), "it is asked for, so what goes before the files was looked at"
    meanwhile()
    c.send(lines[1])
    status = c.getresponse().status
    c.close()
    return status


def test_what_is_protected_while_files_come(hub, work):
    before = heads(hub, work.repo)
    assert slow_commit(hub, work.repo, "main", lambda: rules(hub, work.repo, "main", protection="pull-request")) == 403
    assert heads(hub, work.repo) == before
    rules(hub, work.repo, "main")
    assert slow_commit(hub, work.repo, "main", lambda: None) == 200
    r = hub.commit(work.repo, {"x": b"x"}, token=hub.bob, query="?create_pr=1")
    num = r.json()["pullRequestUrl"].split("/")[-1]
    assert slow_commit(hub, work.repo, f"refs%2Fpr%2F{num}", lambda: None) == 200
