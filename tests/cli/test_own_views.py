"""Views of one's own in `ledger.toml`, and the activity history of `entity_state`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger_cli import Ledger
from ledger_cli.errors import UsageError
from ledger_cli.services import query
from ledger_cli.services.follow import Follower
from tests.cli.conftest import Run

VIEWS = """
[views]
busiest = "SELECT * FROM by_region ORDER BY weight DESC LIMIT 1"
By_Region = "SELECT region, sum(weight) AS weight FROM commit_entries GROUP BY region"
moves = "SELECT count(*)::INTEGER AS n FROM refs WHERE branch = 'main' -- all of them"
people = "FROM world"
"""


def write(root: Path, text: str) -> None:
    settings = (root / "ledger.toml").read_text().split("\n[views]")[0]
    (root / "ledger.toml").write_text(settings + text)


@pytest.fixture
def own(world: Path) -> Path:
    write(world, VIEWS)
    return world


def test_they_are_used_like_the_others(own: Path, ledger: Run) -> None:
    assert ledger("sql", "SELECT region FROM busiest", "--json").json == [{"region": "1:0"}]
    assert ledger("sql", "SELECT count(*)::INTEGER AS n FROM BY_REGION", "--json").json == [{"n": 3}]
    shown = ledger("sql", "SHOW TABLES").out
    assert all(name in shown for name in ("busiest", "By_Region", "moves", "people", "ticks"))
    with Ledger.open(own) as opened:
        assert opened.to_arrow("busiest").num_rows == 1
        with pytest.raises(UsageError, match=r"use ticks, .*, busiest, By_Region, moves, people$"):
            opened.to_arrow("1 = 1")


def test_they_are_computed_of_what_is_there(own: Path, ledger: Run) -> None:
    """Also where what they read costs something, and is left out for statements that do not name it."""
    moves = ledger("sql", "FROM moves", "--json").json[0]["n"]
    assert moves == 3
    ledger("schema", "register", "crew.moved.v1")
    event = {"entityId": "ann", "type": "crew.moved.v1", "payload": {}, "handshake": {"protocol": "55-45-17"}}
    ledger("world", "apply", "-", stdin=json.dumps(event))
    assert ledger("sql", "SELECT entity_id FROM people", "--json").json == [{"entity_id": "ann"}]
    assert ledger("sql", "FROM moves", "--json").json == [{"n": moves + 1}]
    ours = ledger("world", "find", "--where", "entity_id IN (SELECT entity_id FROM people)", "--json").json
    assert [each["entityId"] for each in ours] == ["ann"]


def test_unknown_tables_are_answered_with_all_names(own: Path, ledger: Run) -> None:
    told = ledger("sql", "FROM busyest", code=2).err
    assert "did you mean busiest: use ticks, " in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[views]\nhot = 'SELECT colour FROM ticks'", "view hot in ledger.toml cannot be used: "),
        ("[views]\nhot = 'SELECT FROM WHERE'", "view hot in ledger.toml cannot be used: "),
        ("[views]\nhot = 'FROM tick'", "there is no table tick, did you mean ticks"),
        ("[views]\nhot = ''", "view hot in ledger.toml must be one SELECT"),
        ("[views]\nhot = 'SELECT 1; SELECT 2'", "view hot in ledger.toml must be one SELECT"),
        ("[views]\nhot = 'DROP VIEW ticks'", "view hot in ledger.toml must be one SELECT"),
        ("[views]\nhot = \"SELECT * FROM read_csv('ledger.toml')\"", "view hot in ledger.toml cannot be used: "),
        ("[views]\na = 'FROM a'", "the views a → a in ledger.toml use each other in a circle"),
        ("[views]\nz = 'FROM a'\na = 'FROM b'\nb = 'FROM C'\nc = 'FROM a'", "the views a → b → c → a in ledger.toml"),
    ],
)  # fmt: skip
def test_a_wrong_view_is_in_the_way_of_none_but_those_who_use_it(
    world: Path, ledger: Run, text: str, told: str
) -> None:
    write(world, f"\n{text}\nbeside = 'SELECT 7 AS n'\nover = 'FROM {text[8:].partition(' ')[0]}'\n")
    answered = ledger("sql", "SELECT n FROM beside", "--json")
    assert answered.json == [{"n": 7}]
    assert answered.err.startswith("warning: ")
    assert answered.err.count("\n") == 1
    assert told in answered.err
    assert ledger("world", "find", "--where", "entity_id IN (SELECT n::VARCHAR FROM beside)", "--json").json == []
    for name in (text[8:].partition(" ")[0].upper(), "over"):
        assert told in ledger("sql", f"FROM {name}", code=2).err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[views]\nticks = 'SELECT 1'", "[views] ticks is the name of another view"),
        ("[views]\nhot = 'SELECT 1'\nHOT = 'SELECT 2'", "[views] HOT is the name of another view"),
        ("[views]\n'a b' = 'SELECT 1'", "'a b' cannot be a name"),
        ("[views]\nhot = 1", "[views] hot must be a SELECT in quotes"),
        ("[[views]]\nhot = 'SELECT 1'", "write [views], then NAME ="),
    ],
)
def test_what_is_no_view_at_all(world: Path, ledger: Run, text: str, told: str) -> None:
    write(world, f"\n{text}\n")
    assert told in ledger("sql", "SELECT 1", code=2).err


def test_the_latest_activities_of_an_entity(world: Path, ledger: Run) -> None:
    rows = {row["entity_id"]: row for row in ledger("sql", "FROM entity_state", "--json").json}
    assert rows["c"]["activity_history"] == [0.0, 0.02, 0.04, 0.06, 0.08]
    latest = rows["a"]["activity_history"]
    assert (len(latest), latest[-1]) == (16, rows["a"]["activity"])
    assert latest == sorted(latest)


KEPT = """
[views]
weights = { sql = "SELECT region, sum(weight) AS weight, sum(n) AS n FROM commit_entries GROUP BY 1", kept = true }
top = { sql = "FROM weights ORDER BY weight DESC LIMIT 1", kept = true }
moves = { sql = "SELECT count(*)::INTEGER AS n FROM refs", kept = true }
plain = { sql = "SELECT region FROM top" }
spans = { sql = "SELECT INTERVAL 1 MONTH AS i, 7 AS n FROM weights LIMIT 1", kept = true }
wrong = { sql = "SELECT colour FROM ticks", kept = true }
"""


def copies(root: Path) -> dict[str, int]:
    """By name, the inode: another one where a copy was made again."""
    return {path.name: path.stat().st_ino for path in root.rglob("cache/files/**/views/*.parquet")}


def test_kept_ones_are_made_once_for_each_state_of_the_branch(world: Path, ledger: Run) -> None:
    write(
        world,
        VIEWS.split("busiest")[0] + "top = 'FROM weights ORDER BY weight DESC LIMIT 1'\n"
        "weights = 'SELECT region, sum(weight) AS weight, sum(n) AS n FROM commit_entries GROUP BY 1'",
    )
    asked = ("FROM weights ORDER BY region", "FROM top")
    computed = [ledger("sql", each, "--json").json for each in asked]
    write(world, KEPT)
    assert [ledger("sql", each, "--json").json for each in asked] == computed
    made = copies(world)
    assert len(made) == 2, "weights and top, and no other"
    assert [ledger("sql", each, "--json").json for each in asked] == computed
    assert copies(world) == made
    assert ledger("sql", "SELECT region FROM plain", "--json").json == [{"region": "1:0"}]
    assert copies(world) == made
    (world.parent / "more.jsonl").write_text('{"entityId": "E", "tickId": 90, "x": 95, "y": 95, "activity": 1}\n')
    before = ledger("sql", "FROM moves", "--json").json[0]["n"]
    ledger("ingest", world.parent / "more.jsonl")
    ledger("commit", "--final")
    assert ledger("sql", "FROM moves", "--json").json == [{"n": before + 2}]
    fresh = {row["region"] for row in ledger("sql", "FROM weights", "--json").json}
    assert fresh > {row["region"] for row in computed[0]}, "kept, and never of an earlier state"
    ledger("fork", "past", "--from", "20")
    assert ledger("sql", "SELECT sum(n)::INTEGER AS n FROM weights", "--branch", "past", "--json").json == (
        ledger("sql", "SELECT sum(n)::INTEGER AS n FROM commit_entries", "--branch", "past", "--json").json
    )
    ledger("fork", "third")
    assert ledger("sql", "FROM moves", "--json").json == [{"n": before + 4}], "refs are of the whole ledger"


def test_what_cannot_be_kept_is_computed(world: Path, ledger: Run) -> None:
    write(world, KEPT)
    assert ledger("sql", "SELECT n FROM spans", "--json").json == [{"n": 7}]
    assert "view wrong in ledger.toml cannot be used" in ledger("sql", "FROM wrong", code=2).err
    assert ledger("sql", "SELECT count(*)::INTEGER AS n FROM query('FROM top')", "--json").json == [{"n": 1}]
    for path in world.rglob("views/*.parquet"):
        path.unlink()
    assert ledger("sql", "SELECT region FROM top", "--json").json == [{"region": "1:0"}]


def test_follow_keeps_them_fresh(world: Path, ledger: Run) -> None:
    write(world, KEPT)
    source = world.parent / "more.jsonl"
    source.write_text('{"entityId": "E", "tickId": 90, "x": 95, "y": 95, "activity": 1}\n')
    ledger("follow", source, "--idle", "0.1s", "--every", "0.05s")
    made = copies(world)
    assert len(made) >= 2
    of_all = ledger("sql", "SELECT count(DISTINCT region)::INTEGER AS n FROM commit_entries", "--json").json
    assert ledger("sql", "SELECT count(*)::INTEGER AS n FROM weights", "--json").json == of_all
    assert copies(world) == made, "who reads finds them made"


def test_a_step_of_follow_looks_at_them_once(world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write(world, KEPT)
    looks, steps = [], []
    look, step = query.keep_views, Follower.step
    monkeypatch.setattr(query, "keep_views", lambda *given: looks.append(1) or look(*given))
    monkeypatch.setattr(Follower, "step", lambda self: steps.append(1) or step(self))
    source = world.parent / "more.jsonl"
    source.write_text('{"entityId": "E", "tickId": 90, "x": 95, "y": 95, "activity": 1}\n')
    ledger("follow", source, "--idle", "0.1s", "--every", "0.05s")
    assert 0 < len(looks) <= len(steps)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = 7", "must be a SELECT in quotes, or { sql ="),
        ("a = { kept = true }", "must be a SELECT in quotes, or { sql ="),
        ("a = { sql = 'FROM ticks', kept = 1 }", "must be a SELECT in quotes, or { sql ="),
        ("a = { sql = 'FROM ticks', fresh = true }", "[views] a has no fresh: it has sql, kept"),
    ],
)
def test_a_view_that_is_none(world: Path, ledger: Run, text: str, told: str) -> None:
    write(world, f"\n[views]\n{text}\n")
    assert told in ledger("sql", "FROM refs", code=2).err
