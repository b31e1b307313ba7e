"""Every shipped recipe ends with the heads it says, however the same rows arrive and whatever computes them."""

from __future__ import annotations

import json
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ledger_cli.api import Ledger
from ledger_cli.api.recipes import Runner, load_recipe, open_ledger
from ledger_cli.services.recipe_expect import Facts, differences

ROOT = Path(__file__).resolve().parents[2]
RECIPES, FIXTURES = ROOT / "recipes", ROOT / "fixtures"
RAW = {
    "flights": ("flights", "switzerland.json.zst"),
    "pedestrians": ("pedestrians", "bottleneck_traj.txt.zst"),
}
HEADS = json.loads((FIXTURES / "heads.json").read_text())


def _ends(recipe: str, folder: Path, given: dict[str, str] | None = None) -> dict[str, Facts]:
    """Run a recipe; its branches must end as it says."""
    read = load_recipe(str(RECIPES / f"{recipe}.toml"), given or {})
    with open_ledger(str(folder), read) as opened:
        runner = Runner(opened, read)
        for step in read.steps:
            runner.run(step)
        found = runner.facts()
    assert read.expect
    assert differences(read.expect, found) == []
    return found


def test_each_shipped_recipe_is_tested_here() -> None:
    assert {path.stem for path in RECIPES.glob("*.toml")} == {"quickstart", "kafka", "what-if", "partition", *RAW}


@pytest.mark.parametrize("recipe", ["quickstart", "kafka", "what-if", "partition"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_recipes_on_fixtures(recipe: str, threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_THREADS", threads)
    once = _ends(recipe, tmp_path / "world")
    assert _ends(recipe, tmp_path / "world") == once, "a second run changes nothing"


def test_the_united_history_does_not_depend_on_who_is_named_first(tmp_path: Path) -> None:
    read = load_recipe(str(RECIPES / "partition.toml"), {})
    with open_ledger(str(tmp_path / "world"), read) as opened:
        runner = Runner(opened, read)
        for step in read.steps:
            turned = {"a": "south", "b": "main"} if step.do == "reconcile" else {}
            runner.run(replace(step, arguments={**step.arguments, **turned}))
        assert differences(read.expect, runner.facts()) == []
        state = {
            (each["entity_id"], module): fields
            for each in opened.world.find(branch="united").to_pylist()
            for module, fields in json.loads(each["state"])["persistent"].items()
        }
    picture = (tmp_path / "world" / "conflicts.svg").read_text()
    struck = re.findall(r"text-decoration='line-through'>([^<]*)<", picture)
    assert struck == ["6.2", "ann", "berth quay-2", "lifts 3, serves cumulus", "x 15.5", "x 18.25", "y 13.5"]
    aurora = {"berth": "quay-1", "pilot": "bob", "draught": 6.4, "unloaded": 65, "cargo": ["coal", "grain", "wool"]}
    assert state["aurora", "harbour"] == aurora
    assert state["borealis", "harbour"]["berth"] == "quay-2"
    assert "berth" not in state["cumulus", "harbour"]
    assert ("crane-2", "harbour") not in state


def test_a_state_that_is_another_one_is_a_difference(tmp_path: Path) -> None:
    """As if one office had unloaded one crate more."""
    shutil.copytree(FIXTURES, tmp_path / "fixtures", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(RECIPES, tmp_path / "recipes")
    events = tmp_path / "fixtures" / "world" / "south.events.jsonl"
    events.write_text(events.read_text().replace('"unloaded":25', '"unloaded":26'))
    read = load_recipe(str(tmp_path / "recipes" / "partition.toml"), {})
    with open_ledger(str(tmp_path / "world"), read) as opened:
        runner = Runner(opened, read)
        for step in read.steps:
            runner.run(step)
        told = [(each.branch, each.what) for each in differences(read.expect, runner.facts())]
    assert told == [("south", "world"), ("united", "world")]


@pytest.mark.parametrize("recipe", RAW)
def test_recipes_on_raw_data(recipe: str, shared: Path, tmp_path: Path) -> None:
    folder, name = RAW[recipe]
    found = _ends(recipe, tmp_path / "world", {"source": str(shared / "data" / folder / name)})
    vectors = json.loads((shared / "vectors" / "commits" / "real.json").read_text())
    known = {case["policy"]["strategy"]["kind"]: case for case in vectors if f"/{folder}/" in case["source"]}
    assert found["main"].heads == known["hybrid"]["heads"]
    assert found["fixed"].heads == known["fixed"]["heads"]


@pytest.mark.parametrize("recipe", RAW)
def test_raw_events_are_the_ready_ones_bit_for_bit(recipe: str, shared: Path, tmp_path: Path) -> None:
    folder, name = RAW[recipe]
    read = load_recipe(str(RECIPES / f"{recipe}.toml"), {"source": str(shared / "data" / folder / name)})
    rows = "SELECT * FROM ticks ORDER BY tick_id, entity_id"
    with open_ledger(str(tmp_path / "raw"), read) as raw, Ledger.create(tmp_path / "ready") as ready:
        Runner(raw, read).run(read.steps[0])
        ready.ingest(shared / "data" / folder / "ticks.jsonl.zst")
        made, known = raw.sql(rows), ready.sql(rows)
        columns = [each for each in known.column_names if each in made.column_names and each not in _PLACES]
        assert len(columns) >= 8
        for column in columns:
            assert made[column].equals(known[column]), column


_PLACES = ("line", "arrival", "segment", "file")
"""Where a row was read from, not what it says."""


def test_flights_from_csv_shuffled_and_parquet(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = shared / "data" / "flights" / "switzerland.json.zst"
    json_file, csv, parquet = (tmp_path / f"flights.{suffix}" for suffix in ("json", "csv", "parquet"))
    with duckdb.connect() as connection:
        connection.sql(f"COPY (FROM read_json('{raw}')) TO '{json_file}' (FORMAT json, ARRAY true)")
        source = f"FROM read_json('{json_file}', maximum_object_size = 100000000)"
        connection.sql(f"COPY ({source} ORDER BY hash(icao24, timestamp)) TO '{csv}' (FORMAT csv)")
        connection.sql(f"COPY ({source} ORDER BY timestamp DESC) TO '{parquet}' (FORMAT parquet)")
    for number, file in enumerate((csv, parquet), 1):
        monkeypatch.setenv("LEDGER_THREADS", str(number))
        _ends("flights", tmp_path / file.suffix[1:], {"source": str(file)})


def test_pedestrians_shuffled_and_split(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each person stays in one file: the speed needs the frame before."""
    monkeypatch.setenv("LEDGER_THREADS", "1")
    raw = shared / "data" / "pedestrians" / "bottleneck_traj.txt.zst"
    with duckdb.connect() as connection:
        lines = [
            line
            for (line,) in connection.sql(
                f"FROM read_csv('{raw}', columns = {{'line': 'VARCHAR'}}, delim = '\\n', quote = '', header = false)"
            ).fetchall()
            if line and not line.startswith("#")
        ]
    random.Random(5).shuffle(lines)
    parts = tmp_path / "parts"
    parts.mkdir()
    for part in range(3):
        chosen = [line for line in lines if int(line.split("\t")[0]) % 3 == part]
        (parts / f"{part}.txt").write_text("# part\n" + "\n".join(chosen) + "\n")
    _ends("pedestrians", tmp_path / "world", {"source": str(parts / "*.txt")})


CLEAN = HEADS["ticks.jsonl"]


def _held(ledger: Ledger) -> dict[str, Any]:
    status = ledger.status()
    return {"rows": status.rows, "commits": status.commits, "heads": ledger.commit(final=True).to_json()["heads"]}


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_rows_in_several_files_and_runs(seed: int, tmp_path: Path) -> None:
    """Rows of ten ticks at a time, shuffled, cut anywhere, committed in between: the commits of one run."""
    chance = random.Random(seed)
    lines = (FIXTURES / "ticks.jsonl").read_text().splitlines(keepends=True)
    with Ledger.create(tmp_path / "world", **CLEAN["policy"]) as ledger:
        for first in range(0, 50, 10):
            rows = [line for line in lines if first <= json.loads(line)["tickId"] < first + 10]
            chance.shuffle(rows)
            cut = chance.randrange(1, len(rows))
            for number, part in enumerate((rows[:cut], rows[cut:])):
                file = tmp_path / f"{first}-{number}.jsonl"
                file.write_text("".join(part))
            ledger.ingest(tmp_path / f"{first}-0.jsonl", tmp_path / f"{first}-1.jsonl")
            ledger.commit()
        ledger.commit(final=True)
        assert _held(ledger) == {name: CLEAN[name] for name in ("rows", "commits", "heads")}


def test_a_recipe_of_another_folder_runs_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FIXTURES, tmp_path / "fixtures", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(RECIPES, tmp_path / "recipes")
    monkeypatch.chdir(tmp_path / "fixtures")
    read = load_recipe("../recipes/kafka.toml", {})
    assert read.steps[0].arguments["sources"] == ["../fixtures/ticks.kcat.jsonl.zst"]
    assert all(Path(path).exists() for _, path in read.files)
