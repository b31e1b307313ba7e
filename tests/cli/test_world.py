"""`ledger world` and `ledger schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger_cli.core.world import PROTOCOL, signature
from ledger_cli.wiring import machine
from tests.cli import worlds
from tests.cli.conftest import Run
from tests.cli.worlds import lines

OPENED = "building.opened.v1"
APPLIED = """\
events                     number
─────────────────────────────────
read                            5
applied                         2
duplicates                      0
refused: causal_gap             1
refused: unknown_type           1
refused: version_conflict       1
line  event  reason            why
────────────────────────────────────────────────────────────────────────────────────────────────────────────────
   3  e3     version_conflict  door-7 has version 2, not 1
   4  e4     unknown_type      building.locked.v1 is not registered: `ledger schema register building.locked.v1`
   5  e5     causal_gap        hlc is not after that of a cause
"""
DOOR = """\
entity   door-7
kind     entity
version  2
since    2026-01-01T00:00:00.000000Z-0001-here

{
  "persistent": {
    "building": {
      "open": false,
      "by": "ann"
    }
  }
}
"""
HISTORY = """\
version  hlc                                    type                event  payload
──────────────────────────────────────────────────────────────────────────────────────────────────────
      1  2026-01-01T00:00:00.000000Z-0000-here  building.opened.v1  e1     {"open": true, "by": "ann"}
      2  2026-01-01T00:00:00.000000Z-0001-here  building.opened.v1  e2     {"open": false}
"""


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {**worlds.event(number, OPENED, payload={"open": False}), **fields}


@pytest.fixture
def home(tmp_path: Path, ledger: Run, standing: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger that knows one type, its clock standing at the beginning of 2026."""
    ledger("init", tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    assert ledger("schema", "register", OPENED).out == f"{OPENED} is registered\n"
    return tmp_path / "home"


@pytest.fixture
def events(home: Path) -> Path:
    """Two events that fit, and three that do not."""
    path = home / "events.jsonl"
    path.write_text(
        lines(
            event(1, payload={"open": True, "by": "ann"}, expectedVersion=0),
            event(2, expectedVersion=1, causes=["e1"]),
            event(3, expectedVersion=1),
            event(4, entityId="door-8", type="building.locked.v1"),
            event(5, entityId="door-8", causes=["e2"], hlc="2026-01-01T00:00:00.000000Z-0000-here"),
        )
    )
    return path


def test_apply_get_history(events: Path, ledger: Run) -> None:
    applied = ledger("world", "apply", events, code=3)
    assert applied.out == APPLIED
    assert "3 of 5 events were refused" in applied.err
    assert ledger("world", "get", "door-7").out == DOOR
    assert ledger("world", "history", "door-7").out == HISTORY
    assert ledger("verify").out.startswith("2 refs")
    quarantined = ledger("sql", "SELECT line, reason FROM quarantine ORDER BY line", "--json").json
    assert [each["reason"] for each in quarantined] == ["version_conflict", "unknown_type", "causal_gap"]


def test_the_same_events_again_change_nothing(events: Path, ledger: Run) -> None:
    ledger("world", "apply", events, "--allow-quarantine")
    before = ledger("world", "get", "door-7", "--json").json
    again = ledger("world", "apply", events, "--json", "--allow-quarantine").json
    assert (again["applied"], again["duplicates"]) == (0, 2)
    assert again["refused"] == {"causal_gap": 1, "unknown_type": 1, "version_conflict": 1}
    assert ledger("world", "get", "door-7", "--json").json == before
    assert len(ledger("sql", "FROM quarantine", "--json").json) == 3


def test_an_id_is_that_of_one_event(events: Path, ledger: Run) -> None:
    ledger("world", "apply", events, "--allow-quarantine")
    other = ledger("world", "apply", "-", "--json", stdin=lines(event(1, payload={"open": False})), code=3).json
    assert other["refusals"][0]["detail"] == "eventId e1 is that of another event"


def test_atomic_is_all_or_nothing(events: Path, ledger: Run) -> None:
    refused = ledger("world", "apply", events, "--atomic", code=3)
    assert "nothing was applied" in refused.err
    assert "has no entity 'door-7'" in ledger("world", "get", "door-7", code=2).err
    whole = lines(*[event(number, entityId=f"door-{number % 3}") for number in range(30)])
    assert ledger("world", "apply", "-", "--atomic", "--json", stdin=whole).json["applied"] == 30


def test_time_travel(events: Path, ledger: Run) -> None:
    ledger("world", "apply", events, "--allow-quarantine")
    first = "2026-01-01T00:00:00.000000Z-0000-here"
    then = ledger("world", "get", "door-7", "--at", first, "--json").json
    assert (then["at"], then["version"]) == (first, 1)
    assert then["state"] == {"persistent": {"building": {"open": True, "by": "ann"}}}
    assert [each["eventId"] for each in ledger("world", "history", "door-7", "--to", first, "--json").json] == ["e1"]
    before = "2025-01-01T00:00:00.000000Z-0000-here"
    assert "has no entity 'door-7' at 2025-01-01T" in ledger("world", "get", "door-7", "--at", before, code=2).err
    assert "there is no moment 'noon'" in ledger("world", "get", "door-7", "--at", "noon", code=2).err


def test_find_and_aggregate(events: Path, ledger: Run) -> None:
    ledger("world", "apply", events, "--allow-quarantine")
    others = [
        event(number, entityId=f"room-{number}", entityKind="space", payload={"seats": number}) for number in (8, 9)
    ]
    ledger("world", "apply", "-", stdin=lines(*others))
    found = ledger("world", "find", "--json").json
    assert [each["entityId"] for each in found] == ["door-7", "room-8", "room-9"]
    assert found[0] == {
        name: found[0][name] for name in ("entityId", "entityKind", "version", "hlc", "eventId", "state")
    }
    assert found[0]["state"] == {"persistent": {"building": {"open": False, "by": "ann"}}}
    roomy = "(state->>'$.persistent.building.seats')::INTEGER > 8"
    assert [each["entityId"] for each in ledger("world", "find", "--where", roomy, "--json").json] == ["room-9"]
    second = ledger("world", "find", "--limit", "1", "--offset", "1", "--json").json
    assert [each["entityId"] for each in second] == ["room-8"]
    assert "room-8" in ledger("world", "find", "--limit", "2").out
    first = "2026-01-01T00:00:00.000000Z-0000-here"
    assert [each["version"] for each in ledger("world", "find", "--at", first, "--json").json] == [1]
    counted = ledger("world", "aggregate", "--group-by", "entity_kind", "--function", "count(*) AS n", "--json").json
    assert counted == [{"entity_kind": "entity", "n": 1}, {"entity_kind": "space", "n": 2}]
    assert ledger("sql", "SELECT count(*)::INTEGER AS n FROM world_events", "--json").json == [{"n": 4}]
    assert "cannot be answered" in ledger("world", "find", "--where", "colour = 1", code=2).err
    assert "one statement" in ledger("world", "find", "--where", "true) ; DROP TABLE x; SELECT (1", code=2).err
    assert "3 entities by 4 events" in ledger("status").out
    assert ledger("status", "--json").json["world"]["entities"] == 3


def test_a_fork_goes_its_own_way(events: Path, ledger: Run) -> None:
    ledger("world", "apply", events, "--allow-quarantine")
    ledger("fork", "alt")
    ledger("world", "apply", "-", "--branch", "alt", stdin=lines(event(7, payload={"by": "bob"})))
    assert ledger("world", "get", "door-7", "--branch", "alt", "--json").json["version"] == 3
    assert ledger("world", "get", "door-7", "--json").json["version"] == 2
    assert [each["version"] for each in ledger("world", "history", "door-7", "--branch", "alt", "--json").json] == [
        1,
        2,
        3,
    ]


def test_schemas(home: Path, ledger: Run) -> None:
    schema = home / "schema.json"
    schema.write_text(json.dumps({"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}))
    ledger("schema", "register", "building.opened.v2", "--schema", schema, "--reducer", "replace")
    ledger("schema", "register", "building.opened.v2", "--schema", schema, "--reducer", "replace")
    listed = ledger("schema", "list", "--json").json
    assert [(each["type"], each["reducer"], each["version"]) for each in listed] == [
        (OPENED, "merge", 1),
        ("building.opened.v2", "replace", 2),
    ]
    assert listed[1]["schema"]["required"] == ["open"]
    ledger("schema", "register", "building.opened.v2")
    other = ledger("schema", "register", "building.opened.v2", "--reducer", "merge", code=2)
    assert "register building.opened.v3" in other.err
    assert "write it as module.name.v1" in ledger("schema", "register", "opened", code=2).err
    assert "there is no reducer 'sum'" in ledger("schema", "register", "a.b.v1", "--reducer", "sum", code=2).err
    schema.write_text('{"type": "colour"}')
    assert "is no JSON Schema" in ledger("schema", "register", "a.b.v1", "--schema", schema, code=2).err
    schema.write_text("{")
    assert "is no JSON" in ledger("schema", "register", "a.b.v1", "--schema", schema, code=2).err
    assert "no such file" in ledger("schema", "register", "a.b.v1", "--schema", "nope.json", code=2).err
    wrong = lines(event(1, type="building.opened.v2", payload={"open": "yes"}))
    refusal = ledger("world", "apply", "-", "--json", stdin=wrong, code=3).json["refusals"][0]
    assert refusal["reason"] == "constraint_violation"
    assert refusal["detail"].startswith("payload/open: ")


def test_modules_with_a_key_have_to_sign(home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_KEYS", "building=env:BUILDING_KEY")
    assert "is empty: put it into BUILDING_KEY" in ledger("world", "apply", "-", stdin="", code=2).err
    monkeypatch.setenv("BUILDING_KEY", "secret")
    unsigned = event(1)
    raw = {name: value for name, value in unsigned.items() if name != "handshake"}
    signed = {**raw, "handshake": {"protocol": PROTOCOL, "signature": signature(raw, b"secret").decode()}}
    both = ledger("world", "apply", "-", "--json", stdin=lines(unsigned, signed), code=3).json
    assert (both["applied"], both["refused"]) == (1, {"invalid_handshake": 1})
    key = home / "key"
    key.write_text("secret\n")
    monkeypatch.setenv("LEDGER_KEYS", f"building=file:{key}")
    assert ledger("world", "apply", "-", "--json", stdin=lines(signed)).json["duplicates"] == 1
    for wrong in ("building", "building=BUILDING_KEY", "building=file:nope"):
        monkeypatch.setenv("LEDGER_KEYS", wrong)
        ledger("world", "apply", "-", stdin="", code=2)


def test_clocks_ahead_are_refused(home: Path, ledger: Run) -> None:
    ahead = event(1, hlc="2026-01-01T00:02:00.000000Z-0000-there")
    refused = ledger("world", "apply", "-", "--json", stdin=lines(ahead), code=3).json
    assert refused["refusals"][0]["reason"] == "clock_drift"
    within = event(1, hlc="2026-01-01T00:00:30.000000Z-0000-there")
    assert ledger("world", "apply", "-", "--json", stdin=lines(within)).json["hlc"] == within["hlc"]
    later = ledger("world", "apply", "-", "--json", stdin=lines(event(2))).json
    assert later["hlc"] == "2026-01-01T00:00:30.000000Z-0001-here"


def test_bad_input(home: Path, ledger: Run) -> None:
    bad = "\n".join(["{", "[]", json.dumps(event(1, payload=[])), json.dumps(event(2, expectedVersion=-1)), "", "7"])
    result = ledger("world", "apply", "-", "--json", stdin=bad, code=3).json
    assert (result["read"], result["refused"]) == (5, {"invalid_event": 5})
    told = [(each["line"], each["eventId"]) for each in result["refusals"]]
    assert told == [(1, None), (2, None), (3, "e1"), (4, "e2"), (6, None)], "whoever sent one knows it by its id"
    assert "no such file" in ledger("world", "apply", "nope.jsonl", code=2).err


def report(path: str) -> list[dict[str, Any]]:
    return [each for line in Path(path).read_text().splitlines() for each in json.loads(line)]


def test_an_effect_waits_for_its_cause(home: Path, ledger: Run) -> None:
    late = event(2, payload={"open": False}, causes=["e1"])
    told = ledger("world", "apply", "-", "--json", stdin=lines(late)).json
    assert (told["applied"], told["waiting"], told["refused"]) == (0, 1, {})
    assert "waiting for a cause" in ledger("world", "apply", "-", stdin=lines(late)).out
    world = ledger("status", "--json").json["world"]
    assert (world["events"], world["waiting"], world["clock"]) == (0, 1, "")
    assert ledger("sql", "FROM quarantine", "--json").json == []
    ledger("fork", "other")
    assert ledger("verify").code == 0
    told = ledger("world", "apply", "-", "--json", stdin=lines(event(1, payload={"open": True}))).json
    assert (told["read"], told["applied"], told["waiting"]) == (1, 2, 0)
    assert [each["eventId"] for each in ledger("world", "history", "door-7", "--json").json] == ["e1", "e2"]
    both = lines(event(4, entityId="door-9", causes=["e3"]), event(3, entityId="door-8"))
    assert ledger("world", "apply", "-", "--json", stdin=both).json["applied"] == 2, "in one batch, in any order"


def test_what_waits_too_long_is_refused_and_told(home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_GUARDIAN", "sh -c 'cat >> heard; echo >> heard'")
    monkeypatch.setenv("LEDGER_CAUSAL_WAIT", "60")
    ledger("world", "apply", "-", stdin=lines(event(2, causes=["e1"])))
    monkeypatch.setattr(machine, "clock", lambda: 1_767_225_600_000_000 + 59_000_000)
    assert ledger("world", "apply", "-", "--json", stdin="").json["waiting"] == 1
    monkeypatch.setattr(machine, "clock", lambda: 1_767_225_600_000_000 + 60_000_000)
    told = ledger("world", "apply", "-", "--json", stdin="", code=3).json
    assert (told["waiting"], told["refused"]) == (0, {"causal_gap": 1})
    (row,) = ledger("sql", "SELECT raw, reason FROM quarantine", "--json").json
    assert (json.loads(row["raw"])["eventId"], row["reason"]) == ("e2", "causal_gap")
    assert [each["eventId"] for each in report("heard")] == ["e2"]
    assert ledger("verify").code == 0


def test_causes_in_a_circle_wait_in_vain(home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    circle = lines(event(1, causes=["e2"]), event(2, causes=["e1"]), event(3, causes=["e3"]))
    assert ledger("world", "apply", "-", "--json", stdin=circle).json["waiting"] == 3
    monkeypatch.setenv("LEDGER_CAUSAL_WAIT", "0")
    told = ledger("world", "apply", "-", "--json", stdin=lines(event(4, causes=["e1"])), code=3)
    assert told.json["refused"] == {"causal_gap": 4}
    assert [each["line"] for each in told.json["refusals"]] == [None, None, None, 1], "what waited has none"
    assert told.err.startswith("ledger: 4 events were refused: ")
    assert (told.json["waiting"], ledger("world", "find", "--json").json) == (0, [])


def test_a_guardian_that_cannot_be_told(home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_CAUSAL_WAIT", "0")
    lost = lines(event(2, causes=["e1"]))
    for guardian, said in (
        ("false", "ended with 1"),
        ("/nowhere/guardian", "could not be told"),
        ("http://127.0.0.1:9/", "could not be told"),
        ("http://no host/", "could not be told"),
    ):
        monkeypatch.setenv("LEDGER_GUARDIAN", guardian)
        assert said in ledger("world", "apply", "-", stdin=lost, code=3).err


def test_atomic_does_not_wait(home: Path, ledger: Run) -> None:
    whole = lines(event(1), event(2, causes=["e9"]))
    told = ledger("world", "apply", "-", "--atomic", "--json", stdin=whole, code=3).json
    assert (told["applied"], told["waiting"], told["refused"]) == (0, 0, {"causal_gap": 1})


def test_a_cause_that_comes_by_reconciliation(home: Path, ledger: Run) -> None:
    ledger("fork", "other")
    ledger("world", "apply", "-", "--branch", "other", stdin=lines(event(1, payload={"open": True})))
    ledger("world", "apply", "-", stdin=lines(event(2, causes=["e1"], payload={"by": "ann"})))
    ledger("reconcile", "main", "other")
    assert [each["eventId"] for each in ledger("world", "history", "door-7", "--json").json] == ["e1", "e2"]
    assert ledger("status", "--json").json["world"]["waiting"] == 0
