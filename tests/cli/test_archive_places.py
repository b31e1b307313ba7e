"""Archives of ledgers in engines, in packs and at URLs, and copies of ledgers of which something is archived."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from zlib import crc32

import pytest

from ledger_cli.api import Ledger
from tests.cli.conftest import Run
from tests.cli.test_archive import reads
from tests.stores.engines import EMBEDDED


@pytest.fixture(params=[name for name in sorted(EMBEDDED) if name != "directory"])
def engine(request: pytest.FixtureRequest, world: Path, ledger: Run, tmp_path: Path) -> Path:
    """The same ledger with its commits in an engine."""
    place = tmp_path / "engine"
    ledger("copy", world, place, "--store", EMBEDDED[request.param])
    return place


def at(ledger: Run, place: Path | str) -> Run:
    """The commands on another ledger."""
    return lambda *arguments, **given: ledger(*arguments, "--ledger", place, **given)


def test_an_engine_lets_go_of_entries_and_takes_them_back(engine: Path, ledger: Run) -> None:
    here = at(ledger, engine)
    before = reads(here)
    assert here("archive", "--before", "30", "--json").json["archive"]["commits"] == 3
    shutil.rmtree(engine / "cache", ignore_errors=True)
    log = here("log", "--json").out
    (engine / "archive").rename(engine / "away")
    assert here("log", "--json").out == log == before[0]
    assert here("verify", "--json").json["ok"]
    here("gamma", code=2)
    (engine / "away").rename(engine / "archive")
    assert reads(here) == before
    here("restore", "--range", "0..30")
    shutil.rmtree(engine / "archive")
    shutil.rmtree(engine / "cache")
    assert reads(here) == before
    assert here("verify", "--json").json["ok"]


def test_commits_that_are_made_again_in_an_engine_are_found_in_the_archive(engine: Path, ledger: Run) -> None:
    here = at(ledger, engine)
    here("archive", "--before", "30")
    here("fork", "again", "--from", "10")
    here("commit", "--branch", "again", "--final")
    here("commit", "--final")
    gamma = here("gamma", "--json").json["regions"]
    shutil.rmtree(engine / "cache")
    assert here("gamma", "--branch", "again", "--json").json["regions"] == gamma
    assert here("replay", "--verify", "--branch", "again").out
    assert here("verify", "--json").json["ok"]


@pytest.mark.parametrize("refs", [0, 2])
@pytest.mark.parametrize("name", [name for name in sorted(EMBEDDED) if name != "directory"])
def test_shards_that_take_turns_in_a_run_are_archived_alike(
    name: str, refs: int, ledger: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run makes late commits first: here one of the last shard before one of the first."""
    monkeypatch.setenv("LEDGER_ENTITY_REFS", str(refs))
    home = tmp_path / "world"
    here, entries = at(ledger, home), ("sql", "SELECT * FROM commit_entries ORDER BY ALL", "--json")
    ledger("init", home, "--regions", "grid:10", "--shards", "2", "--interval", "10", "--store", EMBEDDED[name])
    places = {crc32(f"{cell}:0".encode()) % 2: 10 * cell + 1 for cell in range(4)}
    for rows in ([(shard, tick) for shard in (0, 1) for tick in range(1, 20)], [(0, 0), (1, 0), (0, 20)]):
        ticks = [{"entityId": f"e{n}", "tickId": tick, "x": places[n], "y": 1, "activity": 1} for n, tick in rows]
        here("ingest", "-", stdin="\n".join(map(json.dumps, ticks)))
        here("commit", "--final")
    before = here(*entries).out
    here("archive", "--before", "20")
    shutil.rmtree(home / "cache")
    assert here(*entries).out == before
    shutil.rmtree(home / "cache")
    here("restore", "--range", "0..20")
    assert here(*entries).out == before


def test_a_copy_has_all_itself(world: Path, ledger: Run, tmp_path: Path) -> None:
    before = reads(ledger)
    ledger("archive", "--before", "30")
    made = ledger("archive", "--before", "1000", "--ticks", "--json").json["archive"]
    assert made["commits"] == 1
    assert made["segments"] == 1
    for name, options in {"files": [], "sqlite": ["--store", "sqlite:///commits.sqlite"]}.items():
        place = tmp_path / name
        ledger("copy", world, place, *options)
        assert not (place / "archive").exists()
        assert reads(at(ledger, place)) == before
        assert ledger("verify", "--archives", "--ledger", place).out
        assert ledger("copy", world, place, "--json").json["moves"] == 0


def test_a_copy_counts_on_the_place_that_it_was_given(world: Path, ledger: Run, tmp_path: Path) -> None:
    """The same commits give the same files, wherever they are put."""
    ledger("archive", "--before", "30", "--to", tmp_path / "one")
    ledger("copy", world, tmp_path / "copy")
    copy = at(ledger, tmp_path / "copy")
    before = reads(copy)
    made = copy("archive", "--before", "30", "--to", tmp_path / "two", "--json").json["archive"]
    assert made["pointer"].startswith(str(tmp_path / "two"))
    shutil.rmtree(tmp_path / "one")
    shutil.rmtree(tmp_path / "copy" / "cache", ignore_errors=True)
    assert reads(copy) == before


def test_a_ledger_that_is_open_goes_on_with_the_packs_of_now(world: Path) -> None:
    """What was archived has left the packs; those of before hold it still, until their grace is over."""
    with Ledger.open(world) as here, Ledger.open(world) as there:
        for tick in (1, 2):
            source = world.parent / "late.jsonl"
            source.write_text(f'{{"entityId": "late{tick}", "tickId": {tick}, "x": 1, "y": 1, "activity": 0.5}}\n')
            here.compact(grace="0s")
            here.ingest(source)
            here.commit()
        counts = [each["regions"] for each in there.log().to_json()]
        here.archive(45)
        for ledger in (here, there):
            assert [each["regions"] for each in ledger.log().to_json()] == counts
            assert [len(each["entries"]) for each in ledger.log(entries=True).to_json()] == counts


def test_what_is_packed_is_archived_out_of_the_packs(world: Path, ledger: Run) -> None:
    for tick in range(100, 140, 10):
        lines = f'{{"entityId": "E", "tickId": {tick}, "x": 1, "y": 1, "activity": 0.5}}\n'
        (world.parent / "more.jsonl").write_text(lines)
        ledger("ingest", world.parent / "more.jsonl")
        ledger("commit")
    before = reads(ledger)
    ledger("compact", "--grace", "0s")
    ledger("archive", "--before", "120")
    assert reads(ledger) == before
    assert ledger("compact", "--grace", "0s", "--json").json["removed"], "the packs that had what was archived"
    assert reads(ledger) == before
    (world / "archive").rename(world / "away")
    shutil.rmtree(world / "cache", ignore_errors=True)
    assert ledger("log", "--json").out == before[0]
    ledger("gamma", code=2)
    (world / "away").rename(world / "archive")
    ledger("restore", "--range", "0..1000")
    shutil.rmtree(world / "archive")
    shutil.rmtree(world / "cache", ignore_errors=True)
    assert reads(ledger) == before
    assert ledger("verify", "--json").json["ok"]


def test_a_ledger_at_a_url_has_its_archive_there(
    world: Path, ledger: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_CACHE", str(tmp_path / "kept"))
    place = f"memory://{uuid.uuid4().hex}/world"
    ledger("copy", world, place)
    here = at(ledger, place)
    before = reads(here)
    pointer = here("archive", "--before", "30", "--json").json["archive"]["pointer"]
    shutil.rmtree(tmp_path / "kept")
    assert reads(here) == before
    assert here("verify", "--archives", "--json").json["ok"]
    here("restore", pointer)
    shutil.rmtree(tmp_path / "kept")
    assert reads(here) == before
    assert here("verify", "--json").json["ok"]
