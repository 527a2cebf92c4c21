"""bench/peers.py: what it makes of the programs' answers, by programs that always answer the same."""
import csv
import json
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from conftest import ROOT

COUNTER = """#!/usr/bin/env python3
import json, pathlib, sys
args = sys.argv[1:]
calls = pathlib.Path(__file__).with_suffix(".calls")
n = len(calls.read_text().splitlines()) if calls.exists() else 0
calls.open("a").write(json.dumps(args) + "\\n")
"""


@pytest.fixture
def programs(tmp_path):
    """A call's rates grow by one from call to call, so that the median of three is that of the second."""
    def program(path, body):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(COUNTER + body)
        path.chmod(0o755)
        return path

    bench = 'print(json.dumps([dict(n_prompt=512, n_gen=0, avg_ts=%d + n), dict(n_prompt=0, n_gen=128, avg_ts=%d + n)]))'
    batched = 'print("|  PP |  TG |", file=sys.%s)\nprint("|    64 |     32 |    8 |    768 |  1.2 |  405.7 |  1.7 | %d |  3.0 |  255.8 |", file=sys.%s)'
    for name, pp, tg, stream in (("llama", 100, 10, "stdout"), ("ik", 300, 20, "stderr")):
        program(tmp_path / name / "llama-bench", bench % (pp, tg))
        program(tmp_path / name / "llama-batched-bench", batched % (stream, tg * 4, stream))
    program(tmp_path / "farseek", 'print(json.dumps(dict(pp_tok_s=600 + n, pp_ops_s=(600 + n) * 1e8, tg_tok_s=40 + n, tg_bytes_s=(40 + n) * 1e8)))')
    program(tmp_path / "limits", 'import os\nprint("what,threads,isa,rate,unit,cpu,commit")\nfor w, r in (("read huge pages", 8.2), ("multiply-add int8", 120.2)):\n'
                                 '    print(f"{w},{os.cpu_count()},avx512,{r},x,y,z")')
    for model in ("smollm2-135m-q4_1", "dsv3mini-q8_0", "dsv3mini-q4_k_m"):
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / (model + ".gguf")).touch()
    return tmp_path


def test_medians_ratios_and_shares(programs):
    command = [sys.executable, ROOT / "bench/peers.py", "--farseek", programs / "farseek", "--limits", programs / "limits", "--models", programs / "models",
               "--llama", programs / "llama", "--ik", programs / "ik", "--runs", "3", "--only", "pp512,batch8", "--out", programs / "out",
               "--lock", programs / "lock"]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = {(r["model"], r["test"], r["engine"]): r for r in csv.DictReader(open(programs / "out.csv"))}
    first = lambda engine, test: rows["smollm2-135m-q4_1", test, engine]
    assert [first("farseek", "pp512")[k] for k in ("median", "min", "max", "percent_of_limit")] == ["601.00", "600.00", "602.00", "50.0"]
    assert [first("farseek", "tg128")[k] for k in ("median", "percent_of_limit")] == ["41.00", "50.0"]
    assert first("ik_llama.cpp", "pp512")["median"] == "301.00" and first("llama.cpp", "tg128")["median"] == "11.00"
    assert rows["dsv3mini-q4_k_m", "batch8", "ik_llama.cpp"]["median"] == "80.00"
    assert rows["dsv3mini-q4_k_m", "batch8", "llama.cpp"]["median"] == "40.00"
    assert "| SmolLM2-135M Q4_1 | read 512, tok/s | 601 (600-602) | 301 (300-302) | 101 (100-102) | 2.00x | 50.0 % |" in table
    assert table == open(programs / "out.md").read()
    chart = xml.etree.ElementTree.parse(programs / "out.svg").getroot()
    assert len(chart.findall("{*}rect")) == 1 + 3 + 3 * 7 and "601" in [t.text for t in chart.findall("{*}text")]
    # each peer by its own flags, and in turn
    calls = lambda path: [json.loads(line) for line in path.with_suffix(".calls").read_text().splitlines()]
    ik = calls(programs / "ik" / "llama-bench")
    assert len(ik) == 9 and "-mla" not in ik[0] and "-mla" in ik[-1] and "-fa" in ik[0]
    assert len(calls(programs / "farseek")) == 12

    drawn = open(programs / "out.svg").read()
    (programs / "out.svg").unlink()
    assert subprocess.run([sys.executable, ROOT / "bench/peers.py", "--report", programs / "out"], check=True, capture_output=True, text=True).stdout == table
    assert open(programs / "out.svg").read() == drawn


def test_a_failing_program_is_named(programs):
    (programs / "ik" / "llama-bench").write_text("#!/bin/sh\necho no model >&2\nexit 3\n")
    r = subprocess.run([sys.executable, ROOT / "bench/peers.py", "--farseek", programs / "farseek", "--limits", programs / "limits", "--models",
                        programs / "models", "--ik", programs / "ik", "--runs", "1", "--out", programs / "out"], capture_output=True, text=True)
    assert r.returncode == 1 and "llama-bench" in r.stderr and "exit 3" in r.stderr and "no model" in r.stderr
