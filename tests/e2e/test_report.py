"""farseek report: a page of curves from metrics.jsonl; self-contained, well-formed where it is SVG, and safe with any name."""
import json
import math
import re
import xml.etree.ElementTree as ET

import pytest


def write(folder, n=200, **series):
    folder.mkdir()
    with open(folder / "metrics.jsonl", "w") as f:
        for s in range(n):
            f.write(json.dumps({"step": s, **{k: v(s) for k, v in series.items()}}) + "\n")
    return folder


def charts(page):
    found = {}
    for svg in re.findall(r"<svg.*?</svg>", page.read_text(), re.S):
        tree = ET.fromstring(svg)
        found[tree.find("text[@class='title']").text] = tree
    return found


def lines(svg):
    return [e for e in svg.iter("polyline") if e.get("class").startswith("line")]


def test_one_run(farseek, tmp_path):
    run = write(tmp_path / "run", **{"loss": lambda s: math.exp(-s / 50), "reward": lambda s: s / 200, "reward/format": lambda s: 1 - s / 200,
                                     "lr": lambda s: 1e-3, "load/3": lambda s: [0.25, 0.5, 0.25]})
    farseek("report", run, "-o", tmp_path / "page.html")
    c = charts(tmp_path / "page.html")
    assert set(c) == {"loss", "reward", "lr", "load/3"}
    assert len(lines(c["reward"])) == 2 and len(lines(c["loss"])) == 1
    y = [float(p.split(",")[1]) for p in lines(c["loss"])[0].get("points").split()]
    assert y == sorted(y) and y[-1] - y[0] > 100  # it falls: on the page, downwards
    assert len([e for e in c["load/3"].iter("rect")]) == 3 * 160
    text = (tmp_path / "page.html").read_text()
    assert "http" not in text.replace("http-equiv", "") and "src=" not in text  # nothing from elsewhere
    data = json.loads(re.search(r'data-x="(.*?)"', text).group(1).replace("&quot;", '"'))
    assert data["s"][0]["y"][0] == 1 and len(data["s"][0]["x"]) == 200


def test_several_runs_and_many_steps(farseek, tmp_path):
    a = write(tmp_path / "main", 5000, loss=lambda s: 1 + math.sin(s), reward=lambda s: s)
    b = write(tmp_path / "control", 30, loss=lambda s: None if 10 <= s < 20 else 2)
    farseek("report", a, b / "metrics.jsonl", "-o", tmp_path / "page.html", "--title", "A <b> & B")
    c = charts(tmp_path / "page.html")
    assert set(c) == {"loss", "reward"}
    assert len(lines(c["loss"])) == 3  # the second run has a gap
    assert len(list(c["loss"].iter("polygon"))) == 1  # a band where a pixel is many steps
    assert "A &lt;b&gt; &amp; B" in (tmp_path / "page.html").read_text()


def test_names_are_text(farseek, tmp_path):
    run = write(tmp_path / "run", **{'<script>alert("x")</script>': lambda s: s, "a&b": lambda s: [s, 1]})
    farseek("report", run, "-o", tmp_path / "page.html")
    assert set(charts(tmp_path / "page.html")) == {'<script>alert("x")</script>', "a&b"}
    assert (tmp_path / "page.html").read_text().count("<script>") == 1


@pytest.mark.parametrize("text, word", [("", "tells nothing"), ("{}\n", "no step"), ('{"step": 1, "a": true}\n', "'a'"), ("x\n", "line 1")])
def test_what_is_no_run(farseek, tmp_path, text, word):
    (tmp_path / "metrics.jsonl").write_text(text)
    r = farseek("report", tmp_path, "-o", tmp_path / "page.html", check=False)
    assert r.returncode == 1 and word in r.stderr and not (tmp_path / "page.html").exists()
    r = farseek("report", tmp_path / "nowhere", check=False)
    assert r.returncode == 1 and "nowhere" in r.stderr
