"""Records, roots, signatures: what convert and quantize write beside a model, farseek verify and sign; minisign's own program
reads and writes the same files."""
import hashlib
import json
import os
import random
import shutil
import struct
import subprocess

import pytest

from conftest import VECTORS

gguf = pytest.importorskip("gguf")
H = lambda *parts: hashlib.sha256(b"".join(parts)).digest()


def tree(leaves):
    """RFC 6962's shape."""
    if not leaves:
        return H()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return H(b"\1", tree(leaves[:k]), tree(leaves[k:]))


def tensor_root(name, dtype, dims, data):
    chunks = tree([H(b"\0", data[i : i + (1 << 20)]) for i in range(0, len(data), 1 << 20)])
    text = lambda s: struct.pack("<I", len(s.encode())) + s.encode()
    return H(b"\2", text(name), text(dtype), struct.pack(f"<I{len(dims)}Q", len(dims), *dims), chunks)


def safetensors_root(path):
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = {k: v for k, v in json.loads(raw[8 : 8 + n]).items() if k != "__metadata__"}
    return tree([tensor_root(k, v["dtype"], v["shape"], raw[8 + n + v["data_offsets"][0] : 8 + n + v["data_offsets"][1]])
                 for k, v in sorted(header.items(), key=lambda kv: kv[0].encode())]).hex()


def gguf_root(path):
    tensors = sorted(gguf.GGUFReader(path).tensors, key=lambda t: t.name.encode())
    return tree([tensor_root(t.name, t.tensor_type.name, [int(d) for d in reversed(t.shape)], t.data.tobytes()) for t in tensors]).hex()


def verify(farseek, model, *args):
    r = farseek("verify", model, "--json", *args, check=False)
    assert r.stdout, r.stderr
    return r.returncode, json.loads(r.stdout)


@pytest.fixture(scope="module")
def key(farseek, tmp_path_factory):
    name = tmp_path_factory.mktemp("keys") / "me"
    farseek("sign", "--new-key", name, "--no-password")
    assert os.stat(f"{name}.key").st_mode & 0o777 == 0o600
    return f"{name}.key", f"{name}.pub"


@pytest.fixture(scope="module")
def made(farseek, tmp_path_factory, key):
    """A GGUF and a folder made from fixtures, signed."""
    out = tmp_path_factory.mktemp("made")
    farseek("quantize", VECTORS / "qwen2", out / "q.gguf", "--type", "Q8_0", "--no-tokenizer")
    farseek("convert", VECTORS / "ds_v3", out / "d.gguf", "--no-tokenizer")
    farseek("convert", out / "d.gguf", out / "hub", "--no-tokenizer")
    for m in ("q.gguf", "hub"):
        farseek("sign", out / m, "--key", key[0])
    return out


def test_the_root_is_rn1s(farseek, made):
    rc, r = verify(farseek, made / "q.gguf")
    assert rc == 0 and r["good"] and r["root"] == gguf_root(made / "q.gguf")
    rc, r = verify(farseek, made / "hub", "--threads", "3")
    assert rc == 0 and r["root"] == safetensors_root(made / "hub" / "model.safetensors")
    assert r["record"] == hashlib.sha256((made / "hub" / "farseek.rec").read_bytes()).hexdigest()


def test_a_record_tells_the_parents(farseek, made):
    rec = (made / "hub" / "farseek.rec").read_text().splitlines()
    parent = hashlib.sha256((made / "d.gguf.rec").read_bytes()).hexdigest()
    assert f"parent {gguf_root(made / 'd.gguf')} {parent}" in rec and "verb convert" in rec and "class A" in rec
    config = hashlib.sha256((made / "hub" / "config.json").read_bytes()).hexdigest()
    assert f"file {config} config.json" in rec
    assert (f"parent {safetensors_root(VECTORS / 'qwen2' / 'model.safetensors')}" in (made / "q.gguf.rec").read_text().splitlines())
    conformance = json.loads(farseek("doctor", "--json"))["conformance"]
    assert f"arithmetic RN1 {conformance}" in rec


def test_doing_it_again_gives_the_same(farseek, made, tmp_path):
    for model, parent in (("q.gguf", VECTORS / "qwen2"), ("d.gguf", VECTORS / "ds_v3"), ("hub", made / "d.gguf")):
        rc, r = verify(farseek, made / model, "--rerun", parent, "--work", tmp_path)
        assert rc == 0 and r["rerun"] and r["good"], r
    rc, r = verify(farseek, made / "q.gguf", "--rerun", VECTORS / "qwen2_tied", "--work", tmp_path)
    assert rc == 1 and "the parent's root is" in r["wrong"][0]
    farseek("quantize", VECTORS / "ds_v3", tmp_path / "fp8", "--type", "FP8")
    rc, r = verify(farseek, tmp_path / "fp8", "--rerun", VECTORS / "ds_v3", "--work", tmp_path)
    assert rc == 0 and r["rerun"]
    assert not list(tmp_path.glob("farseek-verify*"))


def test_another_recipe_shows_when_done_again(farseek, made, tmp_path):
    """A record whose author lies about the recipe: hashes agree, doing it again does not."""
    shutil.copy(made / "q.gguf", tmp_path / "q.gguf")
    (tmp_path / "q.gguf.rec").write_text((made / "q.gguf.rec").read_text().replace("recipe type Q8_0", "recipe type Q5_0"))
    rc, r = verify(farseek, tmp_path / "q.gguf")
    assert rc == 0
    rc, r = verify(farseek, tmp_path / "q.gguf", "--rerun", VECTORS / "qwen2", "--work", tmp_path)
    assert rc == 1 and any("'blk.0.ffn_up.weight' differs" in w or "'blk.0.attn_k.weight' differs" in w for w in r["wrong"]), r


def test_the_importance_matrix_is_an_input(farseek, tmp_path):
    w = gguf.GGUFWriter(tmp_path / "i.gguf", "imatrix")
    import numpy as np
    for i in range(2):
        w.add_tensor(f"blk.{i}.attn_q.weight.in_sum2", np.arange(1, 65, dtype=np.float32).reshape(1, 64))
        w.add_tensor(f"blk.{i}.attn_q.weight.counts", np.ones((1, 1), np.float32))
    for step in ("write_header_to_file", "write_kv_data_to_file", "write_tensors_to_file", "close"):
        getattr(w, step)()
    farseek("quantize", VECTORS / "qwen2", tmp_path / "q.gguf", "--type", "Q4_0", "--no-tokenizer", "--imatrix", tmp_path / "i.gguf")
    assert f"data {hashlib.sha256((tmp_path / 'i.gguf').read_bytes()).hexdigest()} imatrix" in (tmp_path / "q.gguf.rec").read_text()
    rc, r = verify(farseek, tmp_path / "q.gguf", "--rerun", VECTORS / "qwen2", "--work", tmp_path, "--imatrix", tmp_path / "i.gguf")
    assert rc == 0 and r["rerun"]
    for extra in ((), ("--imatrix", VECTORS / "blocks.bin")):
        r = farseek("verify", tmp_path / "q.gguf", "--rerun", VECTORS / "qwen2", *extra, check=False)
        assert r.returncode == 2 and "importance matrix" in r.stderr


def test_one_flipped_bit_is_found_and_named(farseek, made, key, tmp_path):
    """250 bits of a GGUF and of a folder each: weights, config, record, signature, the list of roots alone excepted."""
    rng = random.Random(1)
    shutil.copytree(made, tmp_path / "m")
    reader = {t.name: (t.data_offset, t.n_bytes) for t in gguf.GGUFReader(made / "q.gguf").tensors}
    raw = (made / "hub" / "model.safetensors").read_bytes()
    base = 8 + struct.unpack("<Q", raw[:8])[0]
    header = {k: (base + v["data_offsets"][0], v["data_offsets"][1] - v["data_offsets"][0]) for k, v in json.loads(raw[8:base]).items() if k != "__metadata__"}
    places = [("q.gguf", tmp_path / "m/q.gguf", reader), ("q.gguf", tmp_path / "m/q.gguf.rec", None), ("q.gguf", tmp_path / "m/q.gguf.rec.minisig", None),
              ("hub", tmp_path / "m/hub/model.safetensors", header), ("hub", tmp_path / "m/hub/config.json", None),
              ("hub", tmp_path / "m/hub/farseek.rec", None)]
    for _ in range(500):
        model, path, tensors = rng.choice(places)
        before = path.read_bytes()
        if tensors:
            name = rng.choice(sorted(tensors))
            at = tensors[name][0] + rng.randrange(tensors[name][1])
        else:
            at = rng.randrange(len(before))
            if path.suffix == ".minisig":
                at = rng.randrange(before.index(b"\n") + 1, len(before))  # its first line is a comment that nobody signed
        path.write_bytes(before[:at] + bytes([before[at] ^ 1 << rng.randrange(8)]) + before[at + 1 :])
        r = farseek("verify", tmp_path / "m" / model, "--key", key[1], check=False)
        path.write_bytes(before)
        said = r.stdout + r.stderr
        assert r.returncode == 1, (path, at, said)
        if tensors:
            assert f"'{name}'" in said, (name, said)  # a NaN's sentence names it too
        else:
            what = {"config.json": "config.json", ".rec": ".rec", ".minisig": ".minisig"}
            assert any(word in said for end, word in what.items() if str(path).endswith(end)) or "'hub'" in said, (path, at, said)
    rc, r = verify(farseek, tmp_path / "m" / "q.gguf", "--key", key[1])
    assert rc == 0 and r["signature_checked"]


def test_what_is_missing_or_added_is_named(farseek, made, key, tmp_path):
    shutil.copytree(made / "hub", tmp_path / "hub")
    (tmp_path / "hub" / "generation_config.json").unlink()
    rc, r = verify(farseek, tmp_path / "hub")
    assert rc == 1 and r["wrong"] == ["file 'generation_config.json' is missing"]
    (tmp_path / "hub" / "farseek.rec").unlink()
    r = farseek("verify", tmp_path / "hub", check=False)
    assert r.returncode == 1 and "has no record" in r.stderr
    rec = (made / "hub" / "farseek.rec").read_text()
    (tmp_path / "hub" / "farseek.rec").write_text(rec.replace("config.json\nfile", "../config.json\nfile", 1))
    rc, r = verify(farseek, tmp_path / "hub")
    assert rc == 1 and any("no plain name" in w for w in r["wrong"])
    (tmp_path / "hub" / "farseek.rec.minisig").unlink()
    rc, r = verify(farseek, tmp_path / "hub", "--key", key[1])
    assert rc == 1 and "not signed" in r["wrong"][0]


def test_nobody_signs_what_is_not_so(farseek, made, key, tmp_path):
    shutil.copytree(made / "hub", tmp_path / "hub")
    os.unlink(tmp_path / "hub" / "farseek.rec.minisig")
    (tmp_path / "hub" / "config.json").write_text((tmp_path / "hub" / "config.json").read_text() + " ")
    r = farseek("sign", tmp_path / "hub", "--key", key[0], check=False)
    assert r.returncode == 1 and "not signed" in r.stderr and "config.json" in r.stderr
    assert not (tmp_path / "hub" / "farseek.rec.minisig").exists()
    r = farseek("quantize", made / "q.gguf", tmp_path / "x.gguf", "--no-record", "--type", "F16", check=False)
    assert r.returncode == 0 and not (tmp_path / "x.gguf.rec").exists()
    shutil.copy(made / "q.gguf.rec", tmp_path / "x.gguf.rec")  # a record that is not its own: no child is made of it
    r = farseek("quantize", tmp_path / "x.gguf", tmp_path / "y.gguf", "--type", "Q8_0", check=False)
    assert r.returncode == 1 and "not those of its record" in r.stderr and not (tmp_path / "y.gguf").exists()


@pytest.mark.skipif(not shutil.which("minisign"), reason="the program minisign is not installed")
def test_minisign_reads_and_writes_the_same(farseek, made, key, tmp_path):
    subprocess.run(["minisign", "-V", "-p", key[1], "-m", made / "hub" / "farseek.rec"], check=True)
    subprocess.run(["minisign", "-G", "-W", "-p", tmp_path / "k.pub", "-s", tmp_path / "k.key"], check=True, stdin=subprocess.DEVNULL)
    shutil.copytree(made / "hub", tmp_path / "hub")
    subprocess.run(["minisign", "-S", "-s", tmp_path / "k.key", "-m", tmp_path / "hub" / "farseek.rec"], check=True, stdin=subprocess.DEVNULL)
    rc, r = verify(farseek, tmp_path / "hub", "--key", tmp_path / "k.pub")
    assert rc == 0 and r["signature_checked"]
    rc, r = verify(farseek, tmp_path / "hub", "--key", (tmp_path / "k.pub").read_text().splitlines()[1])
    assert rc == 0
    rc, r = verify(farseek, tmp_path / "hub", "--key", key[1])
    assert rc == 1 and "by key" in r["wrong"][0]
    farseek("sign", tmp_path / "hub", "--key", tmp_path / "k.key")
    subprocess.run(["minisign", "-V", "-p", tmp_path / "k.pub", "-m", tmp_path / "hub" / "farseek.rec"], check=True)


def test_a_password_protects_a_key(farseek, made, tmp_path):
    (tmp_path / "password").write_text("correct horse\n")
    farseek("sign", "--new-key", tmp_path / "k", "--password-file", tmp_path / "password")
    shutil.copytree(made / "hub", tmp_path / "hub")
    farseek("sign", tmp_path / "hub", "--key", tmp_path / "k.key", "--password-file", tmp_path / "password")
    rc, r = verify(farseek, tmp_path / "hub", "--key", tmp_path / "k.pub")
    assert rc == 0
    (tmp_path / "password").write_text("wrong horse\n")
    r = farseek("sign", tmp_path / "hub", "--key", tmp_path / "k.key", "--password-file", tmp_path / "password", check=False)
    assert r.returncode == 2 and "wrong password" in r.stderr
    r = farseek("sign", "--new-key", tmp_path / "k", "--no-password", check=False)
    assert r.returncode == 2 and "exists already" in r.stderr
