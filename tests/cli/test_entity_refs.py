"""The setting `entity_refs`: who contributed to the entries of commits, wherever a ledger keeps these."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_cli.api import Ledger
from ledger_cli.wiring import ledgers
from tests.cli.conftest import Run
from tests.stores.engines import NAMES, place

ENTRIES = "SELECT commit_id, region, entity_refs FROM commit_entries ORDER BY ALL"
NONE = "SELECT count(entity_refs) AS told FROM commit_entries"

Column = dict[tuple[str, str], list[str] | None]


def event(entity: str, tick: int, activity: float, x: float = 1) -> dict[str, Any]:
    return {"entityId": entity, "tickId": tick, "x": x, "y": 0, "activity": activity}


EVENTS = [
    *(event(entity, tick, 1, tick) for entity in ("b", "a", "c d", 'q"') for tick in range(0, 40, 2)),
    *(event("z", tick, 5, tick) for tick in range(1, 40, 13)),
    *(event("idle", tick, 0, tick) for tick in range(1, 40, 3)),
]


@pytest.fixture
def ticks(tmp_path: Path) -> Path:
    path = tmp_path / "ticks.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in EVENTS))
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_ENTITY_REFS", "3")


def filled(ledger: Run, home: Path, ticks: Path, *options: str) -> None:
    ledger("init", home, "--regions", "grid:10", "--interval", "10", *options)
    ledger("ingest", ticks, "--ledger", home)
    ledger("commit", "--final", "--ledger", home)


def told(ledger: Run, home: Path) -> Column:
    """What the ledger itself says of each entry."""
    rows = ledger("sql", ENTRIES, "--json", "--ledger", home).json
    return {(row["commit_id"], row["region"]): row["entity_refs"] for row in rows}


# -- what is shown ------------------------------------------------------------------------------------------


def test_nobody_asked(ledger: Run, tmp_path: Path, ticks: Path) -> None:
    home = tmp_path / "world"
    filled(ledger, home, ticks)
    assert not (home / "contributors").exists()
    assert "entities" not in ledger("show", "main", "--ledger", home).out
    assert "entityRefs" not in ledger("show", "main", "--json", "--ledger", home).out
    assert ledger("sql", NONE, "--json", "--ledger", home).json == [{"told": 0}]


@pytest.mark.usefixtures("asked")
def test_show_and_sql(ledger: Run, tmp_path: Path, ticks: Path) -> None:
    home = tmp_path / "world"
    filled(ledger, home, ticks)
    shown = ledger("show", "main", "--ledger", home).out.splitlines()
    assert shown[-3].split() == ["region", "weight", "activity", "mean", "variance", "events", "entities"]
    assert shown[-1].endswith("a, b, c d")
    (entry,) = ledger("show", "main", "--json", "--ledger", home).json["entries"]
    assert entry["entityRefs"] == ["a", "b", "c d"]
    # Equal weights come by the id: z, too, has 5 in each region.
    assert list(told(ledger, home).values()) == [["a", "b", "c d"]] * 4


def test_the_file_of_the_ledger_says_how_many(ledger: Run, tmp_path: Path, ticks: Path) -> None:
    home = tmp_path / "world"
    ledger("init", home, "--regions", "grid:100", "--interval", "100")
    settings = home / "ledger.toml"
    assert "# entity_refs = 0" in settings.read_text()
    settings.write_text(settings.read_text().replace("# entity_refs = 0", "entity_refs = 20"))
    ledger("ingest", ticks, "--ledger", home)
    ledger("commit", "--final", "--ledger", home)
    (refs,) = told(ledger, home).values()
    assert refs == ["a", "b", "c d", 'q"', "z", "idle"]
    with Ledger.open(home) as opened:
        view = opened.show("main")
        assert view.entity_refs == {"0:0": refs}
        assert view.entries["entity_refs"].to_pylist() == [refs]


@pytest.mark.parametrize("value", ["-1", "1001", "some", "1.5"])
def test_a_wrong_number_is_refused(ledger: Run, world: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LEDGER_ENTITY_REFS", value)
    refused = ledger("commit", code=2).err
    assert "LEDGER_ENTITY_REFS" in refused
    assert "a whole number from 0 (none) to 1000" in refused


def test_ids_are_the_same_with_and_without(
    ledger: Run, tmp_path: Path, ticks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, asked = tmp_path / "plain", tmp_path / "asked"
    filled(ledger, plain, ticks)
    monkeypatch.setenv("LEDGER_ENTITY_REFS", "1000")
    filled(ledger, asked, ticks)
    heads = [[each["digest"] for each in ledger("log", "--json", "--ledger", home).json] for home in (plain, asked)]
    assert heads[0] == heads[1]
    assert [each.name for each in (plain / "commits").iterdir()] == [
        each.name for each in (asked / "commits").iterdir()
    ]
    # What was made without stays without; what comes later has them, and the other way round.
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps(event("late", 5, 9, 5)) + "\n" + json.dumps(event("next", 50, 1, 5)) + "\n")
    ledger("ingest", more, "--ledger", plain)
    ledger("commit", "--final", "--ledger", plain)
    known = told(ledger, plain)
    amended = ledger("sql", "SELECT commit_id FROM commits WHERE reason = 'amends'", "--json", "--ledger", plain).json
    assert [refs for (commit, _), refs in known.items() if commit == amended[0]["commit_id"]] == [
        ["late", "a", "b", "c d", 'q"', "z", "idle"]
    ]
    assert [refs for refs in known.values() if refs is not None and "next" in refs] == [["next"]]
    assert list(known.values()).count(None) == 4
    for home in (plain, asked):
        assert ledger("verify", "--json", "--ledger", home).json["ok"]
        ledger("replay", "--verify", "--ledger", home)


@pytest.mark.usefixtures("asked")
def test_a_file_that_was_changed_is_found(ledger: Run, tmp_path: Path, ticks: Path) -> None:
    home = tmp_path / "world"
    filled(ledger, home, ticks)
    (file,) = (home / "contributors").iterdir()
    data = file.read_bytes()
    file.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    (finding,) = ledger("verify", "--json", "--ledger", home, code=4).json["findings"]
    assert finding["file"] == f"contributors/{file.name}"
    file.unlink()
    (finding,) = ledger("verify", "--json", "--ledger", home, code=4).json["findings"]
    assert finding["file"] == f"contributors/{file.name}"
    refused = ledger("show", "main", "--ledger", home, code=1).err
    assert f"contributors/{file.name}" in refused
    assert "`ledger verify`" in refused


def _first(table: pa.Table, column: str, change: Callable[[Any], Any]) -> pa.Table:
    """A table with something else in its first row."""
    rows = table.to_pylist()
    rows[0][column] = change(rows[0][column])
    return pa.Table.from_pylist(rows, table.schema)


FORGERIES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "others": (
        lambda table: _first(table, "entity_refs", lambda refs: refs[::-1]),
        "names ['c d', 'b', 'a'] to region",
    ),
    "one less": (lambda table: table.slice(1), "names no contributors to region"),
    "one twice": (lambda table: pa.concat_tables([table, table.slice(0, 1)]), "tells of 1 entries more"),
    "other columns": (lambda table: table.drop_columns(["height"]), "has other columns"),
    "another place": (lambda table: _first(table, "height", lambda height: height + 9), "puts region 0:0 of commit"),
}


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_wrong_file_with_a_right_digest_is_found(ledger: Run, tmp_path: Path, ticks: Path, forgery: str) -> None:
    """Somebody changes the file, and the move that names it: of both a digest says that they are as they were."""
    home = tmp_path / "world"
    filled(ledger, home, ticks)
    (file,) = (home / "contributors").iterdir()
    change, told_so = FORGERIES[forgery]
    pq.write_table(change(pq.read_table(file)), home / "forged.parquet")
    data = (home / "forged.parquet").read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    (home / "forged.parquet").rename(home / "contributors" / f"{sha256}.parquet")
    last = max((home / "refs" / "main").iterdir())
    move = json.loads(last.read_text())
    named = {"file": f"contributors/{sha256}.parquet", "sha256": sha256, "bytes": len(data), "most": 3}
    move["added"]["commits"][0]["contributors"] = named
    last.write_text(json.dumps(move, separators=(",", ":"), sort_keys=True) + "\n")
    file.unlink()
    assert ledger("verify", "--json", "--ledger", home).json["ok"]
    for window in ((), ("--from", "0", "--to", "100")):
        refused = ledger("replay", "--verify", "--json", "--ledger", home, *window, code=4).json["difference"]
        assert refused["what"] == "file"
        assert f"contributors/{sha256}.parquet {told_so}" in refused["message"]
    if forgery in ("others", "one less"):
        # What was forged lies elsewhere: the first commit is of the ticks [0, 10).
        ledger("replay", "--verify", "--from", "10", "--ledger", home)


# -- what happens to a ledger -------------------------------------------------------------------------------


@pytest.mark.usefixtures("asked")
def test_forks_what_ifs_and_merges(ledger: Run, tmp_path: Path, ticks: Path) -> None:
    home = tmp_path / "world"
    filled(ledger, home, ticks)
    known = told(ledger, home)
    ledger("fork", "other", "--from", "20", "--ledger", home)
    ledger("replay", "--fork", "heavy", "--weight", "softfloor:2", "--ledger", home)
    heavy = ledger("show", "heavy", "--json", "--ledger", home).json["entries"][0]["entityRefs"]
    assert heavy == ["a", "b", "c d"]
    for number, branch in enumerate(("main", "other")):
        path = tmp_path / f"{branch}.jsonl"
        path.write_text(json.dumps(event(f"of {branch}", 25 + number, 50, 25)) + "\n")
        ledger("ingest", path, "--branch", branch, "--ledger", home)
        ledger("commit", "--final", "--branch", branch, "--ledger", home)
    ledger("reconcile", "main", "other", "--ledger", home)
    merged = told(ledger, home)
    assert {key: refs for key, refs in merged.items() if key in known and key[1] < "2"} == {
        key: refs for key, refs in known.items() if key[1] < "2"
    }
    assert ["of main", "of other", "a"] in merged.values()
    assert None not in merged.values()
    assert ledger("verify", "--json", "--ledger", home).json["ok"]
    ledger("replay", "--verify", "--ledger", home)


@pytest.mark.usefixtures("asked")
def test_archives_and_packs_leave_them(ledger: Run, tmp_path: Path, ticks: Path) -> None:
    home = tmp_path / "world"
    filled(ledger, home, ticks)
    for tick in (50, 60, 70):
        path = tmp_path / "one.jsonl"
        path.write_text(json.dumps(event("e", tick, 1)) + "\n")
        ledger("ingest", path, "--ledger", home)
        ledger("commit", "--final", "--ledger", home)
    known = told(ledger, home)
    shown = ledger("show", "main", "--json", "--ledger", home).json
    ledger("archive", "--before", "30", "--ledger", home)
    assert told(ledger, home) == known
    ledger("compact", "--grace", "0s", "--ledger", home)
    assert told(ledger, home) == known
    ledger("restore", "--range", "0..100", "--ledger", home)
    assert told(ledger, home) == known
    assert ledger("show", "main", "--json", "--ledger", home).json == shown
    assert ledger("verify", "--json", "--ledger", home).json["ok"]


# -- engines ------------------------------------------------------------------------------------------------


def _sqlite(home: Path, _: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(home / "commits.sqlite")) as connection:
        return connection.execute("SELECT commit_id, region_id, entity_refs FROM commit_entries").fetchall()


def _duckdb(home: Path, _: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(home / "commits.duckdb"), read_only=True) as connection:
        sql = "SELECT commit_id::VARCHAR, region_id, entity_refs::VARCHAR FROM commit_entries"
        return connection.execute(sql).fetchall()


def _chdb(home: Path, url: str) -> list[tuple[Any, ...]]:
    with closing(ledgers.make_commit_store(url, home)) as store:
        sql = """SELECT toString(commit_id) AS id, region_id, toString(entity_refs) AS refs FROM commit_entries FINAL
            LIMIT 1 BY id, region_id"""
        rows = store._table(sql).to_pylist()
    found = [(row["id"], row["region_id"], json.loads(row["refs"]).get("entities")) for row in rows]
    return [(*key, None if refs is None else json.dumps(refs)) for *key, refs in found]


def _postgres(_: Path, url: str) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(url) as connection:
        sql = "SELECT commit_id::text, region_id, entity_refs::text FROM commit_entries"
        return connection.execute(sql).fetchall()


def _cassandra(home: Path, url: str) -> list[tuple[Any, ...]]:
    with closing(ledgers.make_commit_store(url, home)) as store:
        rows = store._connection.rows("SELECT commit_id, region_id, entity_refs FROM commit_entries")
        return [(str(commit_id), region, refs) for commit_id, region, refs in rows]


LOOKS: dict[str, Callable[[Path, str], list[tuple[Any, ...]]]] = {
    "sqlite": _sqlite,
    "duckdb": _duckdb,
    "chdb": _chdb,
    "postgres": _postgres,
    "cassandra": _cassandra,
}


@pytest.fixture(params=[name for name in NAMES if name in LOOKS])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def url(engine: str) -> Iterator[str]:
    with place(engine) as given:
        yield given


def column(engine: str, home: Path, url: str) -> Column:
    """What whoever looks into the engine finds."""
    rows = LOOKS[engine](home, url)
    return {(commit, region): None if refs is None else json.loads(refs) for commit, region, refs in rows}


@pytest.mark.usefixtures("asked")
def test_the_engine_has_a_column_of_them(ledger: Run, tmp_path: Path, ticks: Path, engine: str, url: str) -> None:
    plain, home = tmp_path / "plain", tmp_path / "world"
    filled(ledger, plain, ticks)
    known = told(ledger, plain)
    filled(ledger, home, ticks, "--store", url)
    assert told(ledger, home) == known
    assert column(engine, home, url) == known
    ledger("archive", "--before", "30", "--ledger", home)
    assert told(ledger, home) == known
    assert len(column(engine, home, url)) == 1
    ledger("restore", "--range", "0..100", "--ledger", home)
    assert column(engine, home, url) == known
    assert ledger("verify", "--json", "--ledger", home).json["ok"]


@pytest.mark.usefixtures("asked")
def test_a_copy_has_them_too(ledger: Run, tmp_path: Path, ticks: Path, engine: str, url: str) -> None:
    plain, home, back = tmp_path / "plain", tmp_path / "world", tmp_path / "back"
    filled(ledger, plain, ticks)
    ledger("archive", "--before", "20", "--ledger", plain)
    known = told(ledger, plain)
    ledger("copy", plain, home, "--store", url)
    assert told(ledger, home) == known
    assert column(engine, home, url) == known
    ledger("copy", home, back)
    assert told(ledger, back) == known
    assert ledger("verify", "--json", "--ledger", back).json["ok"]


def test_the_column_is_null_where_nobody_asked(ledger: Run, tmp_path: Path, ticks: Path, engine: str, url: str) -> None:
    home = tmp_path / "world"
    filled(ledger, home, ticks, "--store", url)
    assert set(column(engine, home, url).values()) == {None}
