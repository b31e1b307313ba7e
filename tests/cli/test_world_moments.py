"""`--at`, `--from` and `--to` of `ledger world`: times, clock readings, commits, tags and ticks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ledger_cli import Ledger
from ledger_cli.core.world import PROTOCOL
from ledger_cli.errors import NotFound, UsageError
from ledger_cli.stores.directory import DirectoryStore
from ledger_cli.wiring import machine
from tests.cli.conftest import Run
from tests.conftest import Once

MOVED = "crew.moved.v1"
SECOND = 1_000_000
DAY = 24 * 3600 * SECOND
START = 1_767_225_600 * SECOND
"""The first instant of 2026, in µs."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    now = [START]
    monkeypatch.setattr(machine, "clock", lambda: now[0])
    monkeypatch.setenv("LEDGER_NODE", "here")
    return now


def moved(ledger: Run, step: int, **fields: Any) -> None:
    event = {"eventId": f"e{step}", "entityId": "ann", "type": MOVED, "payload": {"step": step}, **fields}
    ledger("world", "apply", "-", stdin=json.dumps({**event, "handshake": {"protocol": PROTOCOL}}))


@pytest.fixture
def story(tmp_path: Path, ledger: Run, once: Once, clock: list[int], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A step of Ann before each of two commits, up to the ticks 9 and 19, and one after them; a day apart."""
    root = tmp_path / "story"

    def make() -> None:
        ledger("init", root, "--interval", "10")
        monkeypatch.chdir(root)
        ledger("schema", "register", MOVED)
        for day, tick in ((1, 10), (2, 20)):
            moved(ledger, day)
            clock[0] = START + day * DAY
            rows = [{"entityId": "a", "tickId": each, "x": 1, "y": 1, "activity": 1} for each in (tick - 1, tick)]
            Path("ticks.jsonl").write_text("\n".join(map(json.dumps, rows)))
            ledger("ingest", "ticks.jsonl")
            ledger("commit")
        moved(ledger, 3)

    once(make)
    clock[0] = START + 2 * DAY
    monkeypatch.chdir(root)
    return root


def step_at(ledger: Run, at: str, *options: str) -> int:
    found = ledger("world", "get", "ann", "--at", at, "--json", *options).json
    step: int = found["state"]["persistent"]["crew"]["step"]
    rows = ledger("world", "find", "--at", at, "--json", *options).json
    assert [row["state"] for row in rows] == [found["state"]]
    top = "max((state->>'$.persistent.crew.step')::INTEGER) AS step"
    assert ledger("world", "aggregate", "--function", top, "--at", at, "--json", *options).json == [{"step": step}]
    return step


def steps(ledger: Run, *options: str) -> list[int]:
    return [each["payload"]["step"] for each in ledger("world", "history", "ann", "--json", *options).json]


def commits(ledger: Run) -> list[str]:
    """The ids of all commits, oldest first."""
    return [each["commitId"] for each in reversed(ledger("log", "--json").json)]


def test_a_time_is_a_bound_on_the_readings(story: Path, ledger: Run) -> None:
    assert step_at(ledger, "2026-01-01T00:00:00Z") == 1
    assert step_at(ledger, "2026-01-01T23:59:59.999999Z") == 1
    assert step_at(ledger, "2026-01-02T01:00:00+01:00") == 2
    assert step_at(ledger, "2026-01-02") == 2
    assert step_at(ledger, "time:2026-01-03") == 3
    assert (
        "has no entity 'ann' at 2025-12-31T00:00:00Z" in ledger("world", "get", "ann", "--at", "2025-12-31", code=2).err
    )
    told = ledger("world", "get", "ann", "--at", "2026-01-02T01:00+01:00", "--json").json
    assert (told["at"], told["branch"]) == ("2026-01-02T00:00:00Z", "main")


def test_a_commit_tag_or_tick_is_what_the_branch_had_then(story: Path, ledger: Run, clock: list[int]) -> None:
    first, second = commits(ledger)
    ledger("tag", "dawn", first)
    for _ in range(2):
        assert [step_at(ledger, at) for at in (first, first[:8], "dawn", "10", "tick:3")] == [1] * 5
        assert [step_at(ledger, at) for at in (second, f"commit:{second[:6]}", "20", "11")] == [2] * 4
        # Of another node, and told long after: it belongs to its time, but nobody knew it then.
        late = "2026-01-01T06:00:00.000000Z-0000-there"
        moved(ledger, 4, entityId="bob", hlc=late)
    assert len(ledger("world", "find", "--at", "2026-01-02", "--json").json) == 2
    assert len(ledger("world", "find", "--at", second, "--json").json) == 1
    assert ledger("world", "get", "ann", "--at", "dawn", "--json").json["at"] == "dawn"
    assert ledger("world", "get", "ann", "--at", first[:8], "--json").json["at"] == first


def test_a_fork_knows_the_moments_of_its_parent(story: Path, ledger: Run) -> None:
    first, second = commits(ledger)
    ledger("fork", "other", "--from", "10", "--interval", "5")
    moved_there = {"entityId": "ann", "type": MOVED, "payload": {"step": 9}, "handshake": {"protocol": PROTOCOL}}
    ledger("world", "apply", "-", "--branch", "other", stdin=json.dumps(moved_there))
    ledger("commit", "--branch", "other", "--final")
    assert step_at(ledger, "10", "--branch", "other") == 1
    assert step_at(ledger, first, "--branch", "other") == 1
    assert step_at(ledger, "21", "--branch", "other") == 9
    assert steps(ledger, "--branch", "other", "--from", second) == [3, 9]
    own = ledger("log", "--branch", "other", "--json", "--limit", "1").json[0]["commitId"]
    assert ledger("world", "get", "ann", "--at", own, "--json").json["branch"] == "other"
    assert "use --branch other" in ledger("world", "get", "ann", "--at", "other", code=2).err


def test_history_between_two_moments(story: Path, ledger: Run) -> None:
    first, second = commits(ledger)
    assert steps(ledger) == [1, 2, 3]
    assert steps(ledger, "--from", first) == [2, 3]
    assert steps(ledger, "--from", first, "--to", "20") == [2]
    assert steps(ledger, "--from", second, "--to", first) == []
    assert steps(ledger, "--from", "2026-01-02", "--to", "2026-01-02") == [2]
    assert steps(ledger, "--to", "2026-01-02") == [1, 2]
    reading = "2026-01-02T00:00:00.000000Z-0000-here"
    assert steps(ledger, "--from", reading, "--to", f"hlc:{reading}") == [2]


def test_what_may_be_two_things_is_refused(story: Path, ledger: Run) -> None:
    first, second = commits(ledger)
    ledger("tag", "2026-01-02", first)
    told = ledger("world", "get", "ann", "--at", "2026-01-02", code=2).err
    assert "say time:2026-01-02 or tag:2026-01-02" in told
    assert (step_at(ledger, "tag:2026-01-02"), step_at(ledger, "time:2026-01-02")) == (1, 2)
    ledger("tag", second[:6], first)
    told = ledger("world", "get", "ann", "--at", second[:6], code=2).err
    assert f"say tag:{second[:6]} or " in told
    assert f"commit:{second[:6]}" in told
    assert (step_at(ledger, f"tag:{second[:6]}"), step_at(ledger, f"commit:{second[:6]}")) == (1, 2)


def test_digits_may_begin_a_commit(story: Path, ledger: Run) -> None:
    rows = ({"entityId": "a", "tickId": tick, "x": 1, "y": 1, "activity": tick} for tick in range(60))
    Path("many.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ledger("ingest", "many.jsonl", "--allow-quarantine")
    ledger("replay", "--fork", "finer", "--strategy", "fixed", "--interval", "1")
    found = ledger("log", "--branch", "finer", "--json").json
    digits = next(each["commitId"][:4] for each in found if each["commitId"][:4].isdigit())
    told = ledger("world", "get", "ann", "--at", digits, code=2).err
    assert f"say tick:{digits} or commit:{digits}" in told
    assert step_at(ledger, f"commit:{digits}") == 3


@pytest.mark.parametrize(
    ("at", "told"),
    [
        ("noon", "there is no moment 'noon': give a time (2026-01-29T19:21:00Z, or a date)"),
        ("2026-01-02T10:00", "its zone is missing: use 2026-01-02T10:00Z"),
        ("2026-02-30", "'2026-02-30' is no time"),
        ("1969-12-31", "it lies before 1970"),
        ("9999-12-31T23:59:59-12:00", "'9999-12-31T23:59:59-12:00' is no time"),
        ("99", "no run of main has got to tick 99 (its watermark is 20): run `ledger commit`"),
        ("tick:-1", "is no tick"),
        ("tick:9007199254740992", "is no tick"),
        ("tag:none", "there is no tag 'none'"),
        ("commit:0000beef", "there is no commit '0000beef'"),
        ("commit:ab", "too short to name a commit"),
        ("hlc:2026", "is no hybrid clock reading"),
        ("time:soon", "'soon' is no time: use 2026-01-29T19:21:00Z, or a date"),
        ("", "there is no moment ''"),
    ],
)  # fmt: skip
def test_no_moment(story: Path, ledger: Run, at: str, told: str) -> None:
    for command in (("get", "ann"), ("find",), ("aggregate",)):
        assert told in ledger("world", *command, "--at", at, code=2).err
    assert told in ledger("world", "history", "ann", "--from", at, code=2).err
    assert told in ledger("world", "history", "ann", "--to", at, code=2).err


def test_moments_in_python(story: Path) -> None:
    with Ledger.open(story) as ledger:

        def step(at: Any) -> Any:
            return ledger.world.get("ann", at=at).to_json()["state"]["persistent"]["crew"]["step"]

        assert (step(10), step(20), step(datetime(2026, 1, 2, tzinfo=UTC)), step("2026-01-01"), step(None)) == (
            1,
            2,
            2,
            1,
            3,
        )
        with pytest.raises(UsageError, match="zone is missing"):
            step(datetime(2026, 1, 2))  # noqa: DTZ001
        with pytest.raises(NotFound, match="got to tick 30"):
            step(30)
        ledger.world.keep()
        assert (step(None), step(10)) == (3, 1)
        assert [each.to_json()["eventId"] for each in ledger.world.history("ann", first=10, last=20)] == ["e2"]


def test_a_kept_world_sees_what_others_do(story: Path) -> None:
    def moved(step: int) -> str:
        event = {"entityId": "ann", "type": MOVED, "payload": {"step": step}, "handshake": {"protocol": PROTOCOL}}
        return json.dumps(event)

    with Ledger.open(story) as ledger, Ledger.open(story) as other:
        ledger.world.keep()
        for step, each in ((7, other), (8, ledger), (9, other)):
            assert each.world.apply([moved(step)]).applied == 1
            for one in (ledger, other, ledger):
                assert one.world.get("ann").to_json()["state"]["persistent"]["crew"]["step"] == step


def test_events_that_come_in_during_a_commit_stay(
    story: Path, ledger: Run, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit has lost the race, and moves the ref after the event."""
    Path("more.jsonl").write_text(json.dumps({"entityId": "a", "tickId": 30, "x": 1, "y": 1, "activity": 1}))
    ledger("ingest", "more.jsonl")
    advance, before = DirectoryStore.advance_ref, ledger("status", "--json").json["world"]["hlc"]
    clock[0] += SECOND

    def later(store: DirectoryStore, branch: str, seq: int, move: bytes) -> None:
        monkeypatch.setattr(DirectoryStore, "advance_ref", advance)
        with Ledger.open(story) as other:
            event = {"entityId": "ann", "type": MOVED, "payload": {"step": 4}, "handshake": {"protocol": PROTOCOL}}
            assert other.world.apply([json.dumps(event)]).applied == 1
        advance(store, branch, seq, move)

    monkeypatch.setattr(DirectoryStore, "advance_ref", later)
    ledger("commit")
    assert ledger("status", "--json").json["world"]["hlc"] > before
    assert ledger("status", "--json").json["world"]["events"] == 4
    assert step_at(ledger, "30") == 4
    ledger("verify")
