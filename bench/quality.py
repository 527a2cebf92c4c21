#!/usr/bin/env python3
"""What the block formats cost SmolLM2-135M: docs/perplexity.md.

  quality.py formats --model SMOLLM2.gguf --text TEXT [--chunks 24] [--only TYPE,...] --out bench/results/quality_formats.csv
        each format with quantised activations (RN1 section 6) against the same file with exact ones
  quality.py importance --model SMOLLM2.gguf --text TEXT --calibration TEXT --llama-quantize PROGRAM --out bench/results/quality_importance.csv
        what farseek and llama-quantize make, without and with one importance matrix, against the model they are made from

Both work on the model's values as F32, and on a form of the same model whose rows are multiples of 256 (widen), since of SmolLM2's own
rows of 576 no K-quant can be made. --work keeps what is made. Needs the packages gguf and numpy."""
import argparse
import csv
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
OF_32 = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4"]
OF_256 = ["Q2_K", "Q3_K_S", "Q4_K_S", "Q5_K_S", "Q6_K", "IQ4_XS"]
MIXTURES = ["Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_NL", "IQ4_XS", "Q4_0"]
WIDTH, WIDE = 576, 768
FIELDS = {
    "formats": ["date", "commit", "model", "type", "windows", "tokens", "perplexity", "exact", "ratio", "ratio_error", "kl", "kl_error", "same_top"],
    "importance": ["date", "commit", "model", "type", "importance", "program", "bytes", "windows", "tokens", "perplexity", "ratio", "ratio_error", "kl",
                   "kl_error", "same_top"],
}


def widen(source, out):
    """The same model with a hidden size of 768: zeros behind every row, a fourth group of heads that is zero. The mean square of a
    norm is over more elements, so its weights and epsilon are scaled."""
    import gguf
    import numpy as np

    r, w = gguf.GGUFReader(source), gguf.GGUFWriter(out, "llama")
    share = WIDTH / WIDE
    changed = {"llama.embedding_length": WIDE, "llama.attention.head_count": 12, "llama.attention.head_count_kv": 4,
               "llama.attention.layer_norm_rms_epsilon": r.get_field("llama.attention.layer_norm_rms_epsilon").contents() * share,
               "general.file_type": 0}
    for key, field in r.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        kind, sub = field.types[0], field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        w.add_key_value(key, changed.get(key, field.contents()), kind, sub)
    for t in r.tensors:
        x = gguf.dequantize(t.data, t.tensor_type)
        if x.ndim == 1:
            x = np.pad(x * np.float32(share ** 0.5), (0, WIDE - WIDTH))
        else:
            rows = {WIDTH: WIDE, 192: 256}.get(x.shape[0], x.shape[0])
            cols = {WIDTH: WIDE}.get(x.shape[1], x.shape[1])
            x = np.pad(x, ((0, rows - x.shape[0]), (0, cols - x.shape[1])))
        w.add_tensor(t.name, np.ascontiguousarray(x, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


class Work:
    def __init__(self, a, folder):
        self.a, self.folder = a, pathlib.Path(folder)
        self.models = {"SmolLM2-135M": self.made("f32.gguf", lambda p: self.farseek("quantize", a.model, p, "--type", "F32", "--no-record"))}
        self.models["SmolLM2-135M widened"] = self.made("wide.gguf", lambda p: widen(self.models["SmolLM2-135M"], p))

    def made(self, name, make):
        path = self.folder / name
        if not path.exists():
            make(path)
        return path

    def farseek(self, *args):
        threads = ["-t", self.a.threads] if self.a.threads else []
        r = subprocess.run([str(x) for x in [self.a.farseek, *args, *threads]], capture_output=True, text=True)
        if r.returncode:
            raise SystemExit(f"{args}: {r.stderr}")
        return r.stdout

    def perplexity(self, model, *args):
        x = json.loads(self.farseek("perplexity", model, self.a.text, "--chunks", self.a.chunks, "--json", *args))
        base = x["base"]
        return {"windows": x["windows"], "tokens": x["scored_tokens"], "perplexity": f"{x['perplexity']:.4f}", "exact": f"{base['perplexity']:.4f}",
                "ratio": f"{base['ratio']:.6f}", "ratio_error": f"{base['ratio_error']:.6f}", "kl": f"{base['kl']:.6f}",
                "kl_error": f"{base['kl_error']:.6f}", "same_top": f"{base['same_top']:.4f}"}


def formats(work):
    for name, types in zip(work.models, (OF_32, OF_256)):
        for kind in types:
            if work.a.only and kind not in work.a.only:
                continue
            path = work.folder / "q.gguf"
            path.unlink(missing_ok=True)
            work.farseek("quantize", work.models[name], path, "--type", kind, "--pure", "--no-record")
            yield {"model": name, "type": kind, **work.perplexity(path, "--kl", path)}
            path.unlink()


def importance(work):
    a = work.a
    for name, source in work.models.items():
        tag = source.stem
        if a.form and (a.form == "widened") != (tag == "wide"):
            continue
        matrix = work.folder / f"{tag}.imatrix.gguf"
        if not matrix.exists():
            work.farseek("quantize", source, work.folder / "x.gguf", "--type", "Q8_0", "--no-record", "--imatrix", a.calibration,
                         "--save-imatrix", matrix)
            (work.folder / "x.gguf").unlink()
        saved = work.made(f"{tag}.logits", lambda p: work.farseek("perplexity", source, a.text, "--chunks", a.chunks, "--save-logits", p))
        for kind in MIXTURES:
            if a.only and kind not in a.only:
                continue
            for with_it in (False, True):
                for program in ("farseek", "llama-quantize"):
                    path = work.folder / "q.gguf"
                    path.unlink(missing_ok=True)
                    extra = ["--imatrix", matrix] if with_it else []
                    if program == "farseek":
                        work.farseek("quantize", source, path, "--type", kind, "--no-record", *extra)
                    else:
                        subprocess.run([a.llama_quantize, *extra, source, path, kind, "2"], check=True, capture_output=True)
                    yield {"model": name, "type": kind, "importance": "yes" if with_it else "no", "program": program, "bytes": path.stat().st_size,
                           **work.perplexity(path, "--kl", saved)}
                    path.unlink()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=FIELDS)
    p.add_argument("--farseek", default=ROOT / "build" / "farseek")
    p.add_argument("--model", required=True)
    p.add_argument("--text", required=True)
    p.add_argument("--calibration")
    p.add_argument("--llama-quantize")
    p.add_argument("--chunks", type=int, default=24)
    p.add_argument("--threads", type=int)
    p.add_argument("--only", type=lambda s: s.split(","))
    p.add_argument("--form", choices=["plain", "widened"], help="of the model; importance does both")
    p.add_argument("--work")
    p.add_argument("--out", type=pathlib.Path, required=True)
    a = p.parse_args()
    if a.what == "importance" and not (a.calibration and a.llama_quantize):
        p.error("importance needs --calibration and --llama-quantize")
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as temp, open(a.out, "a", newline="") as f:
        w = csv.DictWriter(f, FIELDS[a.what], extrasaction="ignore")
        if f.tell() == 0:
            w.writeheader()
        work = Work(a, a.work or temp)
        for row in (formats if a.what == "formats" else importance)(work):
            w.writerow({"date": datetime.date.today().isoformat(), "commit": commit, **row})
            f.flush()
            print(row, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
