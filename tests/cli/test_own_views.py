"""Views of one's own in `ledger.toml`, and the activity history of `entity_state`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger_cli import Ledger
from ledger_cli.errors import UsageError
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
