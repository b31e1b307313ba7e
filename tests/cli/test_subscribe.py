"""`ledger world subscribe`, `poll` and `ack`, and what `ledger status` says of those who listen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ledger_cli import Ledger
from ledger_cli.services.subscriptions import Listener
from ledger_cli.wiring import machine
from tests.cli import worlds
from tests.cli.conftest import Run
from tests.cli.worlds import lines

ROOT = Path(__file__).resolve().parents[2]
OPENED, MOVED = "building.opened.v1", "physics.moved.v1"
STANDING = """\
module  types       cursor  lag
───────────────────────────────
doors   building.*       0    3
engine  *                2    3
"""


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {**worlds.event(number, OPENED, f"door-{number}", payload={"n": number}), **fields}


@pytest.fixture
def home(tmp_path: Path, ledger: Run, standing: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger with five events: e1, e3 and e5 of doors, e2 and e4 of physics; moves are made when its clock stands."""
    monkeypatch.setattr(machine, "now", lambda: "2026-01-01T00:00:00.000Z")
    ledger("init", tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    for name in (OPENED, MOVED):
        ledger("schema", "register", name)
    events = [event(number, type=MOVED if number % 2 == 0 else OPENED) for number in range(1, 6)]
    ledger("world", "apply", "-", stdin=lines(*events))
    return tmp_path / "home"


def polled(ledger: Run, module: str, *options: str) -> list[str]:
    return [json.loads(line)["eventId"] for line in ledger("world", "poll", module, *options).out.splitlines()]


def test_what_is_polled_comes_again_until_it_is_acknowledged(home: Path, ledger: Run) -> None:
    made = ledger("world", "subscribe", "doors", "--types", "building.*")
    assert made.out == "doors listens to building.* on main from event 1 on: 3 events to come\n"
    assert polled(ledger, "doors") == ["e1", "e3", "e5"]
    assert polled(ledger, "doors", "--limit", "2") == ["e1", "e3"]
    found = ledger("world", "poll", "doors", "--limit", "2", "--json").json
    assert [(each["position"], each["eventId"]) for each in found["events"]] == [(1, "e1"), (3, "e3")]
    assert (found["cursor"], found["upTo"]) == (0, 3)
    assert found["events"][0]["payload"] == {"n": 1}
    left = ledger("world", "ack", "doors", "3", "--json").json
    assert left == {"module": "doors", "branch": "main", "types": ["building.*"], "cursor": 3, "lag": 1}
    assert ledger("world", "ack", "doors", "1", "--json").json["cursor"] == 3
    assert polled(ledger, "doors") == ["e5"]
    assert ledger("world", "ack", "doors", "5").out.endswith("up to date\n")
    assert polled(ledger, "doors") == []
    assert ledger("world", "poll", "doors", "--json").json["upTo"] == 5
    assert ledger("verify").code == 0


def test_modules_go_at_their_own_pace(home: Path, ledger: Run) -> None:
    assert "no module listens yet" in ledger("world", "subscribe").out
    ledger("world", "subscribe", "engine")
    ledger("world", "subscribe", "doors", "--types", "building.*")
    ledger("world", "ack", "engine", "2")
    assert ledger("world", "subscribe").out == STANDING
    assert polled(ledger, "engine") == ["e3", "e4", "e5"]
    moves = len(ledger("sql", "FROM refs WHERE branch = 'admin'", "--json").json)
    ledger("world", "subscribe", "engine")
    assert len(ledger("sql", "FROM refs WHERE branch = 'admin'", "--json").json) == moves
    again = ledger("world", "subscribe", "engine", "--types", MOVED, "--json").json
    assert (again["types"], again["cursor"], again["lag"]) == ([MOVED], 2, 1)
    assert ledger("world", "subscribe", "engine", "--from", "0", "--json").json["lag"] == 5
    ledger("world", "subscribe", "--delete", "engine")
    assert "'engine' is not subscribed on main" in ledger("world", "poll", "engine", code=2).err


def test_late_events_of_other_nodes_are_not_missed(home: Path, ledger: Run) -> None:
    ledger("world", "subscribe", "doors")
    ledger("world", "ack", "doors", "5")
    late = event(6, hlc="2025-06-01T00:00:00.000000Z-0000-there")
    ledger("world", "apply", "-", stdin=lines(late))
    assert polled(ledger, "doors") == ["e6"]


def test_a_branch_has_modules_of_its_own(home: Path, ledger: Run) -> None:
    ledger("fork", "alt")
    ledger("world", "subscribe", "doors", "--branch", "alt", "--from", "5")
    ledger("world", "apply", "-", "--branch", "alt", stdin=lines(event(7)))
    assert polled(ledger, "doors", "--branch", "alt") == ["e7"]
    assert "is not subscribed on main" in ledger("world", "poll", "doors", code=2).err
    ledger("branch", "delete", "alt")
    ledger("fork", "alt")
    assert ledger("world", "subscribe", "--branch", "alt", "--json").json == []
    assert ledger("world", "subscribe", "doors", "--branch", "alt", "--json").json["cursor"] == 0


def test_after_a_reconciliation_events_come_again_rather_than_never(home: Path, ledger: Run) -> None:
    for name in ("early", "done"):
        ledger("world", "subscribe", name)
    ledger("world", "ack", "early", "2")
    ledger("fork", "alt")
    ledger("world", "apply", "-", stdin=lines(event(6)))
    ledger("world", "apply", "-", "--branch", "alt", stdin=lines(event(7)))
    ledger("world", "ack", "done", "6")
    ledger("reconcile", "main", "alt")
    assert polled(ledger, "early")[:3] == ["e3", "e4", "e5"]
    assert sorted(polled(ledger, "early")[3:]) == sorted(polled(ledger, "done")) == ["e6", "e7"]
    assert [each["lag"] for each in ledger("world", "subscribe", "--json").json] == [2, 5]
    # What was polled before may have stood at another place.
    stale = ledger("world", "ack", "early", "6", code=2).err
    assert "ordered anew by a reconciliation: nothing was acknowledged" in stale
    assert len(polled(ledger, "early")) == 5
    assert ledger("world", "ack", "early", "7", "--json").json["lag"] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["subscribe", "Doors"], "cannot be a module"),
        (["subscribe", "doors", "--types", "building"], "write it as building.opened.v1"),
        (["subscribe", "doors", "--types", "Building.*"], "write it as building.opened.v1"),
        (["subscribe", "doors", "--from", "6"], "has no position 6: its last event is 5"),
        (["subscribe", "--types", "building.*"], "say who listens"),
        (["subscribe", "doors", "--delete", "doors"], "--delete takes the module itself"),
        (["subscribe", "--delete", "doors"], "is not subscribed"),
        (["ack", "doors", "1"], "is not subscribed"),
        (["ack", "engine", "6"], "has no position 6: its last event is 5"),
        (["poll", "engine", "--branch", "nope"], "there is no branch 'nope'"),
    ],
)
def test_errors(arguments: list[str], told: str, home: Path, ledger: Run) -> None:
    ledger("world", "subscribe", "engine")
    assert told in ledger("world", *arguments, code=2).err


def test_status_tells_lag_and_skew(home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger("world", "subscribe", "doors", "--types", "building.*")
    ahead = event(6, hlc="2026-01-01T00:00:30.000000Z-0000-there")
    ledger("world", "apply", "-", stdin=lines(ahead))
    shown = ledger("status").out
    assert "module doors    4 events behind, listens to building.*\n" in shown
    assert "clock of here   0.0 s behind, last at 2026-01-01T00:00:00.000000Z-0004-here\n" in shown
    assert "clock of there  30.0 s ahead, last at 2026-01-01T00:00:30.000000Z-0000-there · TOO FAR OFF\n" in shown
    monkeypatch.setenv("LEDGER_MAX_LAG", "3")
    monkeypatch.setenv("LEDGER_MAX_SKEW", "30")
    told = ledger("status", "--json").json["world"]
    assert told["modules"] == [{"module": "doors", "types": ["building.*"], "cursor": 0, "lag": 4, "ok": False}]
    assert [(each["node"], each["skewSeconds"], each["ok"]) for each in told["nodes"]] == [
        ("here", 0.0, True),
        ("there", 30.0, True),
    ]


def test_events_are_handed_out_as_they_come(home: Path, ledger: Run) -> None:
    ledger("world", "subscribe", "doors", "--types", "building.*")
    with Ledger.open(home) as opened:
        heard = opened.world.listen("doors", limit=2, every=0.01, idle=20)
        assert [each.position for each in next(heard).events] == [1, 3]
        assert [each.position for each in next(heard).events] == [5]
        ledger("world", "apply", "-", stdin=lines(event(6), event(7, type=MOVED), event(8)))
        assert [each.position for each in next(heard).events] == [6, 8]
        assert opened.world.subscriptions()[0].cursor == 0, "nobody has acknowledged"
        heard.close()


def test_what_was_written_may_be_acknowledged(home: Path, ledger: Run) -> None:
    ledger("world", "subscribe", "doors", "--types", "building.*")
    assert polled(ledger, "doors", "--limit", "2", "--ack") == ["e1", "e3"]
    assert polled(ledger, "doors", "--limit", "1", "--follow", "--idle", "1s") == ["e5"]
    assert polled(ledger, "doors", "--follow", "--idle", "1s", "--ack") == ["e5"]
    assert ledger("world", "poll", "doors", "--follow", "--idle", "1s").out == ""
    ledger("world", "apply", "-", stdin=lines(event(6)))
    told = ledger("world", "poll", "doors", "--follow", "--idle", "1s", "--json").out.splitlines()
    assert [each["upTo"] for each in map(json.loads, told)] == [6]
    assert "--idle says when --follow ends" in ledger("world", "poll", "doors", "--idle", "1s", code=2).err


def test_who_stops_in_between_hears_it_again(home: Path, ledger: Run) -> None:
    ledger("world", "subscribe", "doors")
    with Ledger.open(home) as opened:
        for found in opened.world.listen("doors", limit=2, ack=True, every=0.01, idle=20):
            if found.events[0].position == 3:
                break
    assert polled(ledger, "doors") == ["e3", "e4", "e5"]


def test_what_was_written_before_the_end_is_acknowledged(home: Path, ledger: Run) -> None:
    ledger("world", "subscribe", "doors")
    stop = threading.Event()
    with Ledger.open(home) as opened:
        for _ in opened.world.listen("doors", limit=2, ack=True, every=0.01, idle=20, stop=stop):
            stop.set()
    assert polled(ledger, "doors") == ["e3", "e4", "e5"]


@pytest.mark.parametrize("options", [[], ["--json"], ["--follow", "--idle", "0.1s"], ["--follow", "--json"]])
def test_what_nobody_reads_any_more_is_not_acknowledged(options: list[str], home: Path, ledger: Run) -> None:
    ledger("world", "subscribe", "doors")
    reader, writer = os.pipe()
    os.close(reader)
    asked = [sys.executable, "-m", "ledger_cli", "world", "poll", "doors", "--ack", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(asked, cwd=home, env=environment, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert polled(ledger, "doors") == ["e1", "e2", "e3", "e4", "e5"]


def test_a_listener_goes_on_after_a_reconciliation(home: Path, ledger: Run) -> None:
    ledger("world", "subscribe", "doors")
    ledger("fork", "alt")
    with Ledger.open(home) as opened:
        heard = opened.world.listen("doors", ack=True, every=0.01, idle=20)
        assert len(next(heard).events) == 5
        ledger("world", "apply", "-", stdin=lines(event(6)))
        assert [each.position for each in next(heard).events] == [6]
        ledger("world", "apply", "-", "--branch", "alt", stdin=lines(event(7)))
        ledger("reconcile", "main", "alt")
        again = [each.event.event["event_id"] for each in next(heard).events]
        assert sorted(again) == ["e6", "e7"]
        heard.close()


@pytest.mark.parametrize("ack", [True, False])
def test_a_listener_goes_back_with_the_cursor(ack: bool, home: Path, ledger: Run) -> None:
    ledger("world", "subscribe", "doors", "--from", "1")
    with Ledger.open(home) as opened:
        heard = opened.world.listen("doors", ack=ack, every=0.01, idle=20)
        assert [each.position for each in next(heard).events] == [2, 3, 4, 5]
        if ack:
            ledger("world", "apply", "-", stdin=lines(event(6)))
            assert [each.position for each in next(heard).events] == [6]
        ledger("world", "subscribe", "doors", "--from", "0")
        assert [each.position for each in next(heard).events] == [1, 2, 3, 4, 5, 6][: 6 if ack else 5]
        heard.close()


def test_a_listener_that_was_moved_back_before_it_acknowledged_hears_all_again(home: Path, ledger: Run) -> None:
    ledger("world", "subscribe", "doors")
    with Ledger.open(home) as opened:
        listener = Listener(opened._repository, "main", "doors")
        assert len(listener.hear(10).events) == 5
        listener.acknowledge()
        ledger("world", "subscribe", "doors", "--from", "0")
        assert len(listener.hear(10).events) == 5


def test_a_listener_whose_types_change_misses_none_of_them(home: Path, ledger: Run) -> None:
    ledger("world", "subscribe", "doors", "--types", "building.*")
    with Ledger.open(home) as opened:
        heard = opened.world.listen("doors", every=0.01, idle=20)
        assert [each.position for each in next(heard).events] == [1, 3, 5]
        ledger("world", "subscribe", "doors", "--types", "physics.*")
        assert [each.position for each in next(heard).events] == [2, 4]
        heard.close()
