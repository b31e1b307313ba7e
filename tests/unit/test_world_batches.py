"""`world apply` batch by batch: what fails in the middle leaves whole batches, and each in its order."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger_cli.core.hlc import Hlc
from ledger_cli.core.world import PROTOCOL, merge_patch
from ledger_cli.errors import Conflict, LedgerError, SourceError
from ledger_cli.services import world_apply
from ledger_cli.services.repository import Repository
from ledger_cli.services.world import World
from ledger_cli.services.world_apply import ApplyRequest, ApplyResult, apply
from ledger_cli.services.world_judge import Rules, TypeRule
from tests.support import make_ledger, open_ledger

MOVED = "physics.moved.v1"
RULES = Rules({MOVED: TypeRule(merge_patch, lambda _: None)}, {}, "here", lambda: 10**15, 60_000_000)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_apply, "BATCH_EVENTS", 3)


def line(number: int) -> bytes:
    event = {"eventId": f"e{number}", "entityId": "E1", "type": MOVED, "payload": {"n": number}}
    return json.dumps({**event, "expectedVersion": number, "handshake": {"protocol": PROTOCOL}}).encode()


def applied(repository: Repository, lines: Iterator[bytes]) -> ApplyResult:
    world = World(repository, lambda _: merge_patch)
    world.follow(repository.branch("main"))
    return apply(repository, world, ApplyRequest("main", lines), RULES)


def stored(root: Path) -> int:
    state = open_ledger(root).branch("main").state.world
    return 0 if state is None else state.events


def test_each_batch_is_judged_by_the_ones_before(tmp_path: Path) -> None:
    result = applied(make_ledger(tmp_path), (line(number) for number in range(100)))
    assert (result.read, result.applied, result.refused) == (100, 100, [])
    assert [file.events for file in open_ledger(tmp_path).branch("main").world_files()] == [3] * 33 + [1]


def test_a_source_that_breaks_leaves_the_batches_before(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield from (line(number) for number in range(7))
        raise SourceError("the source breaks off")

    with pytest.raises(SourceError, match="breaks off"):
        applied(make_ledger(tmp_path), broken())
    assert stored(tmp_path) == 6
    again = applied(open_ledger(tmp_path), (line(number) for number in range(8)))
    assert (again.applied, again.duplicates) == (2, 6)


def test_a_batch_that_cannot_be_written_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = make_ledger(tmp_path)
    publish, left = repository.store.publish, iter([True, True])

    def full(path: Path, file: str) -> object:
        if not next(left, False):
            raise LedgerError("no room")
        return publish(path, file)

    monkeypatch.setattr(repository.store, "publish", full)
    with pytest.raises(LedgerError, match="no room"):
        applied(repository, (line(number) for number in range(100)))
    assert stored(tmp_path) == 6
    assert gc.isenabled()
    assert not [each for each in threading.enumerate() if each.name.startswith("ledger-world")]


def test_another_writer_between_two_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = make_ledger(tmp_path)
    advance, tries = repository.store.advance_ref, iter(range(100))

    def raced(branch: str, seq: int, move: bytes) -> None:
        if next(tries) == 1:
            other = applied(open_ledger(tmp_path), iter([line(3)]))
            assert other.applied == 1
            with pytest.raises(Conflict):
                advance(branch, seq, move)
            raise Conflict("somebody was first")
        advance(branch, seq, move)

    monkeypatch.setattr(repository.store, "advance_ref", raced)
    result = applied(repository, (line(number) for number in range(9)))
    assert (result.applied, result.duplicates, result.refused) == (8, 1, [])
    assert stored(tmp_path) == 9


def test_a_clock_may_be_ahead_by_the_drift_and_no_more(tmp_path: Path) -> None:
    last = RULES.clock() + RULES.max_drift
    readings = [Hlc(last, 65_535, "zz"), Hlc(last + 1, 0, "-")]
    sent = [
        json.dumps({**json.loads(line(number)), "expectedVersion": None, "entityId": f"E{number}", "hlc": str(reading)})
        for number, reading in enumerate(readings)
    ]
    result = applied(make_ledger(tmp_path), (each.encode() for each in sent))
    assert [(each.line, each.reason) for each in result.refused] == [(2, "clock_drift")]


def test_what_comes_after_a_batch_that_fails_is_not_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, read = world_apply._persist, threading.Event()

    def full(*arguments: Any) -> Any:
        if arguments[3].lines[0] == 4:
            # The next batch is there already.
            assert read.wait(20)
            raise LedgerError("the disk is full")
        return whole(*arguments)

    def lines() -> Iterator[bytes]:
        for number in range(30):
            if number == 8:
                read.set()
            yield line(number)

    monkeypatch.setattr(world_apply, "_persist", full)
    with pytest.raises(LedgerError, match="disk is full"):
        applied(make_ledger(tmp_path), lines())
    assert stored(tmp_path) == 3
