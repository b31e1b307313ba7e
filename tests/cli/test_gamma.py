"""`ledger gamma`: table, map, JSON, and every kind of file."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Run

TABLE = """\
gamma of main · tick 40 · ad1ce223 · 3 regions · weight 57.8
region  weight  mean  variance  pooled mean  pooled variance  events  commits  last commit
────────────────────────────────────────────────────────────────────────────────────────────
1:0       43.8  2.34    0.0008         2.19           0.0133      20        4  ad1ce223-bd53
0:0       13.8  0.84    0.0008         0.69           0.0133      20        4  ad1ce223-bd53
2:0        0.2  0.04    0.0008         0.04           0.0008       5        1  7c9617b9-ff94
"""

ROW = {
    "region", "weight", "activity_mean", "activity_var", "pooled_mean", "pooled_var",
    "count", "commits", "lastCommit", "lastEpochEnd", "exact",
}  # fmt: skip


def test_table(world: Path, ledger: Run) -> None:
    assert ledger("gamma").out == TABLE
    assert ledger("gamma", "--top", "2").out.splitlines()[-1] == "… and 1 more regions: --top N shows more, --json all"


def test_map(world: Path, ledger: Run) -> None:
    lines = ledger("gamma", "--map").out.splitlines()
    assert lines[0] == "gamma of main · tick 40 · ad1ce223 · 3 regions · total weight 57.8"
    assert "10│▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒████████████████░░░░░░░░░░░░░░░░" in lines
    assert "hottest 1:0 43.8 · 0:0 13.8 · 2:0 0.2" in lines


def test_json(world: Path, ledger: Run) -> None:
    found = ledger("gamma", "--json").json
    assert set(found) == {"branch", "tick", "commitId", "halfLife", "window", "regions"}
    assert [set(row) for row in found["regions"]] == [ROW] * 3
    assert [row["region"] for row in ledger("gamma", "--json", "--top", "2").json["regions"]] == ["1:0", "0:0"]


def test_places_and_decay(forked: Path, ledger: Run) -> None:
    assert ledger("gamma", "--at", "20", "--json").json["tick"] == 20
    assert ledger("gamma", "--at", "baseline", "--json").json["regions"][1]["weight"] == 43.8
    decayed = ledger("gamma", "--half-life", "10", "--window", "15", "--region", "1:0", "--json").json
    (row,) = decayed["regions"]
    assert (decayed["halfLife"], decayed["window"]) == (10, 15)
    assert row["weight"] == pytest.approx(11.7 + 11.2 / 2 + 10.7 / 4 + 10.2 / 8)


def test_a_place_before_all_commits(world: Path, ledger: Run) -> None:
    ran = ledger("gamma", "--at", "0")
    assert ran.err == "nothing was committed there yet: `ledger log` lists the commits of main\n"


def test_a_region_without_commits(world: Path, ledger: Run) -> None:
    ran = ledger("gamma", "--region", "9:0", "--json")
    assert ran.json["regions"] == []
    assert "nothing was committed in the region '9:0' of main, did you mean 2:0 or 1:0 or 0:0: " in ran.err
    assert "of main: `ledger gamma` lists the regions" in ledger("gamma", "--region", "nowhere").err


def test_files(world: Path, tmp_path: Path, ledger: Run) -> None:
    for name in ("g.csv", "g.parquet", "g.png", "g.svg"):
        said = ledger("gamma", "--out", tmp_path / name).out
        assert said == f"wrote {tmp_path / name}: 3 regions, 1 frame\n"
    assert (tmp_path / "g.csv").read_text().startswith('"region","weight"')
    assert pq.read_table(tmp_path / "g.parquet").num_rows == 3
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "g.svg").read_text().startswith("<svg")


def test_a_picture_tells_of_what_it_is(forked: Path, tmp_path: Path, ledger: Run) -> None:
    ledger("gamma", "--branch", "hybrid", "--half-life", "9", "--out", tmp_path / "g.svg")
    ledger("gamma", "--branch", "hybrid", "--half-life", "9", "--out", tmp_path / "g.html")
    assert ">gamma of hybrid, half-life 9 ticks<" in (tmp_path / "g.svg").read_text()
    assert "<h1>gamma of hybrid, half-life 9 ticks</h1>" in (tmp_path / "g.html").read_text()
    drawn = ledger("gamma", "--branch", "hybrid", "--half-life", "9", "--map").out
    assert drawn.startswith("gamma of hybrid, half-life 9 ticks · tick 40")


def test_numbers_are_written_one_way(tmp_path: Path, ledger: Run) -> None:
    event = '{"entityId":"%s","tickId":0,"x":%d,"y":0,"activity":%d}\n'
    (tmp_path / "a.jsonl").write_text("".join(event % (name, x, 12345 + x) for name, x in (("a", 0), ("b", 1000))))
    ledger("init", tmp_path / "large", "--regions", "grid:1000")
    ledger("ingest", tmp_path / "a.jsonl", "--ledger", tmp_path / "large")
    ledger("commit", "--final", "--ledger", tmp_path / "large")
    told = ledger("gamma", "--map", "--ledger", tmp_path / "large").out
    told += ledger("diff", "main", "0", "--ledger", tmp_path / "large").out
    told += ledger("show", "main", "--ledger", tmp_path / "large").out
    ledger("gamma", "--out", tmp_path / "g.svg", "--ledger", tmp_path / "large")
    told += re.sub("<style>.*?</style>|<[^>]*>", "\n", (tmp_path / "g.svg").read_text())
    for number in ("13 345", "25 690", "-13 345", "1 000", "10 000"):
        assert number in told
    assert not re.search(r"\d,\d{3}|\d{5}", re.sub("[0-9a-f-]{8,}", "", told))
    assert ledger("gamma", "--json", "--ledger", tmp_path / "large").json["regions"][1]["weight"] == 13345.0


def test_page_with_a_slider(world: Path, tmp_path: Path, ledger: Run) -> None:
    page = tmp_path / "g.html"
    assert ledger("gamma", "--out", page, "--json").json == {"out": str(page), "regions": 3, "frames": 4}
    assert ledger("gamma", "--out", page, "--frames", "2", "--json").json["frames"] == 2
    assert page.read_text().startswith("<!doctype html>")


def test_errors(world: Path, tmp_path: Path, ledger: Run) -> None:
    assert "ends with one of .csv" in ledger("gamma", "--out", tmp_path / "g.gif", code=2).err
    assert "make it" in ledger("gamma", "--out", tmp_path / "no" / "g.png", code=2).err
    assert "add --out FILE.html" in ledger("gamma", "--frames", "3", code=2).err
    assert "leave --map and --top out" in ledger("gamma", "--out", tmp_path / "g.csv", "--top", "3", code=2).err
    for option in ("--half-life", "--window", "--top", "--frames"):
        for none in ("0", "-1"):
            assert f"'{option}': {none} is too small" in ledger("gamma", option, none, code=2).err
    assert "nothing is called 'nope'" in ledger("gamma", "--at", "nope", code=2).err
    assert "is a directory" in ledger("gamma", "--out", f"{_folder(tmp_path)}", code=2).err


def _folder(tmp_path: Path) -> Path:
    (tmp_path / "d.csv").mkdir()
    return tmp_path / "d.csv"
