"""What the hub says of a model beside its files: metadata, downloads, advisories, large files."""
import json
import struct
import time

import pytest
from huggingface_hub import HfApi, hf_hub_download

from test_hub import Hub, put_large, sha256


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    h = Hub(tmp_path_factory.mktemp("meta") / "data")
    h.bob = h.run("user", "add", "bob").strip()
    yield h
    h.stop()


@pytest.fixture(scope="module")
def api(hub):
    return HfApi(endpoint=hub.url, token=hub.token)


def safetensors(**tensors):
    header, at = {}, 0
    for name, (dtype, n, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [n], "data_offsets": [at, at + n * size]}
        at += n * size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(at)


def gguf():
    s = lambda t: struct.pack("<Q", len(t)) + t.encode()
    kv = [("general.architecture", 8, s("llama")), ("llama.context_length", 4, struct.pack("<I", 4096)), ("tokenizer.chat_template", 8, s("{{ x }}")),
          ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 3) + s("a") + s("</s>") + s("b")), ("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 1))]
    out = b"GGUF" + struct.pack("<IQQ", 3, 1, len(kv)) + b"".join(s(k) + struct.pack("<I", t) + v for k, t, v in kv)
    out += s("w") + struct.pack("<IQQIQ", 2, 32, 2, 0, 0)
    return out + bytes(-len(out) % 32) + bytes(256)


CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8}


def test_metadata_of_safetensors_and_configuration(hub, api):
    repo = hub.repo("st")
    hub.commit(repo, {"config.json": json.dumps(CONFIG).encode(), "tokenizer_config.json": b'{"eos_token": "</s>", "chat_template": "T", "x": 1}'})
    put_large(hub, repo, "model.safetensors", safetensors(a=("BF16", 10, 2), b=("F32", 3, 4)))
    info = api.model_info(repo)
    assert info.safetensors.parameters == {"BF16": 10, "F32": 3} and info.safetensors.total == 13
    assert info.config == {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tokenizer_config": {"eos_token": "</s>", "chat_template": "T"}}
    assert api.model_info(repo, expand=["safetensors"]).config is None
    # of the next head, and of the old one
    old = info.sha
    hub.commit(repo, {"config.json": b'{"model_type": "other"}'})
    put_large(hub, repo, "model.safetensors", safetensors(a=("F16", 5, 2)))
    assert api.model_info(repo).safetensors.parameters == {"F16": 5} and api.model_info(repo).config["model_type"] == "other"
    assert api.model_info(repo, revision=old).safetensors.total == 13 and api.model_info(repo, revision=old).config["model_type"] == "llama"


def test_metadata_of_shards_and_of_what_is_broken(hub, api):
    repo = hub.repo("shards")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}
    hub.commit(repo, {"model.safetensors.index.json": json.dumps(index).encode(), "model-1.safetensors": safetensors(a=("F32", 4, 4), c=("F32", 1, 4))})
    assert api.model_info(repo).safetensors is None  # a shard is missing
    hub.commit(repo, {"model-2.safetensors": safetensors(b=("I64", 2, 8)), "config.json": b"[broken"})
    info = api.model_info(repo)
    assert info.safetensors.parameters == {"F32": 5, "I64": 2} and info.config is None
    assert api.model_info(hub.repo("nothing")).safetensors is None


def test_metadata_of_gguf(hub, api):
    repo = hub.repo("gguf")
    put_large(hub, repo, "m.Q8_0.gguf", gguf())
    assert api.model_info(repo).gguf == {"total": 64, "architecture": "llama", "context_length": 4096, "chat_template": "{{ x }}", "eos_token": "</s>"}


def test_downloads_are_counted_by_client(hub, tmp_path):
    repo = hub.repo("counted")
    hub.commit(repo, {"config.json": b"{}", "weights": b"x", "q.gguf": b"GGUF"})
    for i in range(3):
        hf_hub_download(repo, "config.json", endpoint=hub.url, token=hub.bob, local_dir=tmp_path / str(i))
        hf_hub_download(repo, "weights", endpoint=hub.url, token=hub.bob, local_dir=tmp_path / str(i))
    hub.ask("GET", f"/{repo}/resolve/main/config.json")  # admin
    hub.ask("HEAD", f"/{repo}/resolve/main/q.gguf", token=None)  # nobody, from here
    hub.ask("GET", f"/{repo}/resolve/main/q.gguf", token=None)
    hub.ask("GET", f"/{repo}/resolve/main/none.gguf", token=None)
    deadline = time.time() + 60
    while hub.ask("GET", f"/api/models/{repo}").json()["downloads"] < 3 and time.time() < deadline:
        time.sleep(0.3)
    assert hub.ask("GET", f"/api/models/{repo}").json()["downloads"] == 3
    assert hub.ask("GET", f"/api/models/{repo}?expand[]=downloadsAllTime").json()["downloadsAllTime"] == 3
    listed = [m["id"] for m in hub.ask("GET", "/api/models?sort=downloads&limit=1").json()]
    assert listed == [repo]


def test_what_was_counted_survives_a_stop(tmp_path):
    h = Hub(tmp_path / "data")
    users = [h.run("user", "add", f"u{i}").strip() for i in range(5)]
    repo = h.repo("m")
    h.commit(repo, {"config.json": b"{}"})
    for u in users:
        h.ask("GET", f"/{repo}/resolve/main/config.json", token=u)
    token = h.token
    h.stop()
    h.start()
    assert h.ask("GET", f"/api/models/{repo}", token=token).json()["downloads"] == 5
    h.stop()


def test_advisories_reach_every_client(hub, api, caplog):
    repo = hub.repo("revoked")
    hub.commit(repo, {"config.json": b"{}"})
    bad = api.model_info(repo).sha
    hub.commit(repo, {"config.json": b"{} "})
    path = f"/api/models/{repo}/advisories"
    r = hub.ask("POST", path, {"revision": bad, "message": "its weights were swapped <b>\u00e9"})
    assert r.status == 200 and r.json()["revision"] == bad
    for p in (f"/{repo}/resolve/{bad}/config.json", f"/api/models/{repo}/revision/{bad}", f"/api/models/{repo}/tree/{bad}"):
        assert hub.ask("GET", p, token=None).headers["X-HF-Warning"] == f"revoked; revision {bad[:12]} is revoked: its weights were swapped <b>??", p
    assert hub.ask("GET", f"/{repo}/resolve/main/config.json").headers["X-HF-Warning"] is None
    with caplog.at_level("WARNING"):
        api.model_info(repo, revision=bad)
    assert "its weights were swapped" in caplog.text
    page = hub.ask("GET", f"/{repo}").body.decode()
    assert "is revoked:" in page and "swapped &lt;b&gt;\u00e9" in page and bad in page
    whole = hub.ask("POST", path, {"message": "unmaintained"}).json()["id"]
    assert hub.ask("GET", f"/{repo}/resolve/main/config.json").headers["X-HF-Warning"] == "advisory; unmaintained"
    assert [a["message"] for a in hub.ask("GET", path, token=None).json()] == ["unmaintained", "its weights were swapped <b>\u00e9"]
    assert hub.ask("DELETE", f"{path}/{whole}").status == 200 and hub.ask("DELETE", f"{path}/{whole}").status == 404
    assert hub.ask("GET", f"/{repo}/resolve/main/config.json").headers["X-HF-Warning"] is None
    for body in ({}, {"message": "a\r\nSet-Cookie: x"}, {"message": "x" * 1000}):
        assert hub.ask("POST", path, body).status == 400
    assert hub.ask("POST", path, {"message": "m", "revision": "none"}).status == 404


def test_large_files_are_listed_and_deleted_for_good(hub, api):
    repo = hub.repo("deleted")
    hub.commit(repo, {"keep.txt": b"keep"})
    kept, gone = (put_large(hub, repo, f"d/{n}.bin", n.encode() * 100) for n in ("kept", "gone"))
    api.create_tag(repo, tag="v1", tag_message="with a message")
    api.create_branch(repo, branch="old")
    hub.commit(repo, {"later.txt": b"later"})
    only = put_large(hub, repo, "alone/x.bin", b"alone" * 50)
    files = {f.file_oid: f for f in api.list_lfs_files(repo)}
    assert {o: (f.filename, f.size, f.ref) for o, f in files.items()} == {
        kept: ("d/kept.bin", 400, "refs/heads/main"), gone: ("d/gone.bin", 400, "refs/heads/main"), only: ("alone/x.bin", 250, "refs/heads/main")}
    titles = [c.title for c in api.list_repo_commits(repo)]
    api.permanently_delete_lfs_files(repo, [files[gone], files[only]])
    assert [f.file_oid for f in api.list_lfs_files(repo)] == [kept]
    assert [c.title for c in api.list_repo_commits(repo)] == titles
    for rev in ("main", "old", "v1"):
        paths = set(api.list_repo_files(repo, revision=rev))
        assert "d/kept.bin" in paths and "keep.txt" in paths and not paths & {"d/gone.bin", "alone/x.bin"}, rev
    assert api.model_info(repo).sha == api.list_repo_commits(repo)[0].commit_id
    assert hub.ask("GET", f"/{repo}/resolve/main/d/kept.bin").body == b"kept" * 100
    assert hub.run("fsck").splitlines()[-1].endswith("repositories")
    assert hub.ask("POST", f"/api/models/{repo}/lfs-files/batch", {"deletions": {"sha": ["../x"]}}).status == 400


def test_large_files_are_given_to_another_repository(hub, api):
    source, target = hub.repo("source"), hub.repo("target")
    data = b"given" * 1000
    api.upload_file(path_or_fileobj=data, path_in_repo="w.bin", repo_id=source)
    oid = sha256(data)
    r = hub.ask("POST", f"/api/models/{source}/lfs-files/duplicate", {"target": {"type": "model", "name": target}, "files": [{"sha256": oid}, {"sha256": "0" * 64}]})
    assert r.json() == {"failed": [{"sha256": "0" * 64, "error": "it is not in the source repository"}]}
    lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "lfsFile", "value": {"path": "copy.bin", "oid": oid}}]
    assert hub.ask("POST", f"/api/models/{target}/commit/main", "\n".join(map(json.dumps, lines)), headers={"Content-Type": "application/x-ndjson"}).status == 200
    assert hub.ask("GET", f"/{target}/resolve/main/copy.bin").body == data
    r = hub.ask("POST", f"/api/models/{source}/lfs-files/duplicate", {"target": {"type": "model", "name": target}, "files": [{"sha256": oid}]}, token=hub.bob)
    assert r.status == 403
