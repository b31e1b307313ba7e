"""Types in ledger.toml: registered by themselves, with constraints over values, changes and entities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.worlds import event, lines, state

MOVED, ENDS = "physics.moved.v1", "social.knows.v1"
TYPES = """
[types."physics.moved.v1"]
schema = "moved.json"
fields = {visits = "sum"}
constraints = ["activity <= 10", "sqrt((x - before.x) ** 2 + (y - before.y) ** 2) <= 5"]
consistency = "causal"

[types."social.knows.v1"]
constraints = [
    "EXISTS (FROM entities WHERE entity_id = entity.a) AND EXISTS (FROM entities WHERE entity_id = entity.b)",
]

[types."place.entered.v1"]
constraints = ["(SELECT count(*) FROM entities e WHERE e.room = entity.room) <= 2"]
"""


@pytest.fixture
def home(tmp_path: Path, ledger: Run, standing: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger whose ledger.toml names types."""
    home = tmp_path / "home"
    ledger("init", home)
    monkeypatch.setenv("LEDGER_URL", str(home))
    (home / "moved.json").write_text(json.dumps({"properties": {"x": {"type": "number"}}}))
    configure(home, TYPES)
    return home


def configure(home: Path, text: str) -> None:
    fresh = home / "fresh.toml"
    if not fresh.exists():
        fresh.write_text((home / "ledger.toml").read_text())
    (home / "ledger.toml").write_text(fresh.read_text() + text)


def apply(ledger: Run, *events: dict[str, Any], code: int = 0) -> Any:
    return ledger("world", "apply", "-", "--json", stdin=lines(*events), code=code).json


def test_types_that_are_only_named_yet_are_told(home: Path, ledger: Run) -> None:
    listed = ledger("schema", "list")
    assert listed.out == "no types are registered yet: `ledger schema register MODULE.NAME.v1` does it\n"
    assert f"ledger.toml names {MOVED}, place.entered.v1, {ENDS} too: the first `ledger world apply`" in listed.err
    apply(ledger, event(1, MOVED, "E1", payload={"x": 0}))
    listed = ledger("schema", "list")
    assert MOVED in listed.out
    assert not listed.err


def test_constraints_refuse_events_one_by_one(home: Path, ledger: Run) -> None:
    moved = [
        event(1, MOVED, "E1", payload={"x": 0, "y": 0, "activity": 10, "visits": 1}),
        event(2, MOVED, "E1", payload={"x": 30, "y": 40}),
        event(3, MOVED, "E1", payload={"x": 3, "y": 4, "visits": 1}),
        event(4, MOVED, "E1", payload={"activity": 10.5}),
        event(5, MOVED, "E2", payload={"x": 30, "y": 40}),
        event(6, MOVED, "E1", payload={"x": "far"}),
    ]
    result = apply(ledger, *moved, code=3)
    assert (result["applied"], result["refused"]) == (3, {"constraint_violation": 3})
    assert [(each["line"], each["detail"]) for each in result["refusals"]] == [
        (2, "E1 would break: sqrt((x - before.x) ** 2 + (y - before.y) ** 2) <= 5"),
        (4, "E1 would break: activity <= 10"),
        (6, 'payload/x: "far" is not of type "number"'),
    ]
    assert ledger("world", "get", "E1", "--json").json["version"] == 2
    quarantined = ledger("sql", "SELECT line, reason FROM quarantine ORDER BY line", "--json").json
    assert quarantined == [{"line": line, "reason": "constraint_violation"} for line in (2, 4, 6)]


def test_constraints_across_entities(home: Path, ledger: Run) -> None:
    ends = event(1, ENDS, "knows-1", entityKind="relationship", payload={"a": "E1", "b": "E2"})
    entered = [event(number, "place.entered.v1", f"E{number}", payload={"room": "hall"}) for number in (1, 2, 3)]
    left = event(9, "place.entered.v1", "E1", payload={"room": None})
    late = {**entered[2], "eventId": "e10"}
    result = apply(ledger, {**ends, "eventId": "early"}, *entered, left, late, {**ends, "eventId": "right"}, code=3)
    assert [(each["line"], each["eventId"]) for each in result["refusals"]] == [(1, "early"), (4, "e3")]
    assert result["applied"] == 5
    assert ledger("world", "get", "knows-1", "--json").json["version"] == 1


def test_fields_that_nothing_has_are_told(home: Path, ledger: Run) -> None:
    rules = [
        "hieght <= 10",
        "coalesce(Height, before.activity) <= 10",  # no regard to case; sent once, and gone since
        "len(list_filter(tags, lambda t: t = 'no')) = 0",  # of the schema, and a name of its own
        "(SELECT max(n) FROM (SELECT count(*) AS n FROM entities e GROUP BY e.rooom)) < 9",
        "visits < 100",  # of the rules per field
    ]
    (home / "moved.json").write_text(json.dumps({"properties": {"tags": {"type": "array"}, "room": {}}}))
    configure(
        home,
        f'[types."{MOVED}"]\nschema = "moved.json"\nfields = {{visits = "sum"}}\nconstraints = {json.dumps(rules)}\n'
        f'[types."{ENDS}"]\nconstraints = ["strength < 3"]\n',
    )
    assert ledger("status", "--json").json["warnings"] == []
    apply(ledger, event(1, MOVED, "E1", payload={"height": 1, "activity": 2}))
    apply(ledger, event(2, MOVED, "E1", payload={"height": None}))
    found = ledger("status", "--json")
    assert found.json["warnings"] == [
        "a constraint of physics.moved.v1 names hieght, which no stored event of physics and no schema has (did you "
        "mean height?): as NULL it refuses nothing",
        "a constraint of physics.moved.v1 names rooom, which no stored event of physics and no schema has (did you "
        "mean room?): as NULL it refuses nothing",
    ]
    assert found.err == "".join(f"warning: {told}\n" for told in found.json["warnings"])
    configure(home, f'[types."{MOVED}"]\nconstraints = ["a <"]\n')
    assert "is no SQL (a <)" in ledger("status").err


def test_atomic_events_break_nothing_together(home: Path, ledger: Run) -> None:
    entered = [event(number, "place.entered.v1", f"E{number}", payload={"room": "hall"}) for number in (1, 2, 3)]
    result = ledger("world", "apply", "-", "--atomic", "--json", stdin=lines(*entered), code=3).json
    assert (result["applied"], result["refused"]) == (0, {"constraint_violation": 1})
    assert "has no entity" in ledger("world", "get", "E1", code=2).err


def test_types_register_themselves(home: Path, ledger: Run) -> None:
    assert ledger("schema", "list", "--json").json == []
    apply(ledger)
    listed = {each["type"]: each for each in ledger("schema", "list", "--json").json}
    assert sorted(listed) == [MOVED, "place.entered.v1", ENDS]
    assert listed[MOVED]["fields"] == {"visits": "sum"}
    assert listed[MOVED]["schema"] == {"properties": {"x": {"type": "number"}}}
    assert (listed[MOVED]["consistency"], len(listed[MOVED]["constraints"])) == ("causal", 2)
    moves = len(ledger("sql", "FROM refs", "--json").json)
    apply(ledger, event(1, MOVED, "E1", payload={"visits": 2}))
    assert len(ledger("sql", "FROM refs", "--json").json) == moves + 1
    configure(home, TYPES.replace('"sum"', '"max"'))
    told = ledger("world", "apply", "-", stdin="", code=2).err
    assert told.startswith(f"ledger: ledger.toml: {MOVED} is registered with other rules of fields")
    # Constraints judge new events alone, so they may change.
    configure(home, '[types."physics.moved.v1"]\nconstraints = ["visits < 3"]\n')
    result = apply(ledger, event(2, MOVED, "E1", payload={"visits": 1}), code=3)
    assert result["refusals"][0]["detail"] == "E1 would break: visits < 3"
    assert state_of(ledger) == {"visits": 2}


def state_of(ledger: Run) -> Any:
    return ledger("world", "get", "E1", "--json").json["state"]["persistent"]["physics"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("types = 1", "takes schema, reducer, fields, upcast, constraints, consistency"),
        ("[types.physics.moved.v1]\nreducer = 'merge'", "its name stands in quotes"),
        ("[types.\"physics.moved.v1\"]\ncolour = 'red'", "takes schema"),
        ("[types.\"physics.moved.v1\"]\nconstraints = 'true'", "must be a list of SQL"),
        ('[types."physics.moved.v1"]\nconstraints = [1]', "must be a list of SQL"),
        ("[types.\"physics.moved.v1\"]\nconsistency = 'always'", "must be eventual, causal or strong"),
        ("[types.\"physics.moved.v1\"]\nconstraints = ['a <']", "a constraint of physics.moved.v1 is no SQL"),
        ("[types.\"physics.moved.v1\"]\nconstraints = ['f(a)']", "cannot be used"),
        ("[types.\"physics.moved.v1\"]\nschema = 'nope.json'", 'ledger.toml, [types."physics.moved.v1"], schema: '),
        ("[types.\"physics.moved.v1\"]\nfields = {a = 'avg'}", "use lww, max, min, sum, union, manual"),
        ('[types."moved"]\n', "is no type of events"),
    ],
)
def test_settings_that_cannot_be(home: Path, ledger: Run, text: str, told: str) -> None:
    configure(home, "\n" + text + "\n")
    if text.startswith("types"):
        (home / "ledger.toml").write_text(text)
    assert told in ledger("world", "apply", "-", stdin="", code=2).err


def test_upcasters_in_settings(home: Path, ledger: Run) -> None:
    configure(
        home,
        '\n[types."building.opened.v2"]\nupcast = {rename = {open = "isOpen"}}\nconstraints = ["isOpen IN (0, 1)"]\n'
        '[types."building.opened.v1"]\nconsistency = "strong"\n',
    )
    opened = [event(number, "building.opened.v1", payload={"open": number}) for number in (1, 2)]
    result = apply(ledger, *opened, code=3)
    assert result["refusals"][0]["detail"] == "door-7 would break: isOpen IN (0, 1)"
    assert state(ledger) == {"isOpen": 1}
