"""`snapshot create`, `restore` and `prune`, killed at any instant and by several processes at once.

LEDGER_FAULT_SEED gives other instants.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ledger_cli.api import Ledger
from ledger_cli.core.world import PROTOCOL
from tests.faults.disks import SmallDisk
from tests.faults.jobs import Job, Nursery
from tests.faults.worlds import SEED, instants, is_swept, new_ledger

EVENTS, MORE, ENTITIES = 6_000, 500, 2_000
SECONDS = 0.35
"""About what the undisturbed command takes; some instants lie behind its end."""

Prepared = dict[str, Any]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A ledger with a snapshot and events behind it, and its world."""
    root = new_ledger(tmp_path_factory.mktemp("snapshot") / "before")
    with Ledger.open(root) as ledger:
        for name in ("building.opened.v1", "physics.moved.v1"):
            ledger.world.register(name)
        ledger.world.apply(map(event, range(EVENTS)))
        ledger.snapshots.create()
        ledger.world.apply(map(event, range(EVENTS, EVENTS + MORE)))
    return {"before": root, "world": world(root)}


def event(number: int) -> str:
    kind = "physics.moved.v1" if number % 3 else "building.opened.v1"
    raw = {"eventId": f"e{number}", "entityId": f"E{number % ENTITIES}", "type": kind, "payload": {"n": number}}
    return json.dumps({**raw, "handshake": {"protocol": PROTOCOL}})


def world(root: Path, branch: str = "main") -> list[dict[str, Any]]:
    with Ledger.open(root) as ledger:
        found: list[dict[str, Any]] = ledger.world.find(branch=branch).to_pylist()
        return found


def copied(prepared: Prepared, path: Path) -> Path:
    shutil.copytree(prepared["before"], path)
    return path


def whole_ones(root: Path, prepared: Prepared) -> list[int]:
    """The ids of the snapshots, newest first, after a check of all that a reader can see."""
    with Ledger.open(root) as ledger:
        report = ledger.verify()
        assert report.ok, report.findings
        ids = [each.record.id for each in ledger.snapshots.list()]
        assert all(ledger.snapshots.verify(each).ok for each in ids)
    assert world(root) == prepared["world"]
    return ids


def folders(root: Path) -> set[int]:
    return {int(path.name) for path in (root / "snapshots").iterdir()}


def ends_as_undisturbed(jobs: Nursery, prepared: Prepared, ledger: Path) -> None:
    """A rerun makes the snapshot; nothing is left of unfinished ones."""
    jobs.finish(Job(ledger, "snapshots.create"))
    newest, first = whole_ones(ledger, prepared)
    with Ledger.open(ledger) as opened:
        record = opened.snapshots.show(newest).record
        assert (record.events, record.entities) == (EVENTS + MORE, ENTITIES)
        opened.snapshots.prune()
    assert folders(ledger) == {newest, first}
    assert is_swept(ledger)


@pytest.mark.parametrize("instant", instants(7, SECONDS, SEED, soak=100))
def test_create_killed(jobs: Nursery, prepared: Prepared, tmp_path: Path, instant: float) -> None:
    ledger = copied(prepared, tmp_path / "world")
    jobs.run(Job(ledger, "snapshots.create"), kill_after=instant)
    assert len(whole_ones(ledger, prepared)) in (1, 2)
    ends_as_undisturbed(jobs, prepared, ledger)


def test_create_killed_again_and_again(jobs: Nursery, prepared: Prepared, tmp_path: Path) -> None:
    ledger = copied(prepared, tmp_path / "world")
    for place in range(10):
        jobs.run(Job(ledger, "snapshots.create"), kill_after=0.03 * place)
    ends_as_undisturbed(jobs, prepared, ledger)


@pytest.mark.parametrize("instant", instants(5, SECONDS, SEED + 1, soak=100))
def test_restore_killed(jobs: Nursery, prepared: Prepared, tmp_path: Path, instant: float) -> None:
    ledger = copied(prepared, tmp_path / "world")
    jobs.run(Job(ledger, "snapshots.restore"), kill_after=instant)
    whole_ones(ledger, prepared)
    jobs.finish(Job(ledger, "snapshots.restore"))
    ends_as_undisturbed(jobs, prepared, ledger)


@pytest.mark.parametrize("instant", instants(5, SECONDS, SEED + 2, soak=100))
def test_restore_into_a_branch_killed(jobs: Nursery, prepared: Prepared, tmp_path: Path, instant: float) -> None:
    ledger = copied(prepared, tmp_path / "world")
    into = Job(ledger, "snapshots.restore", options={"to": "then"})
    jobs.run(into, kill_after=instant)
    with Ledger.open(ledger) as opened:
        begun = "then" in [branch.name for branch in opened.branches()]
    if not begun:
        jobs.finish(into)
    then = {each["entity_id"]: each["version"] for each in world(ledger, "then")}
    assert then == {f"E{number}": EVENTS // ENTITIES for number in range(ENTITIES)}
    ends_as_undisturbed(jobs, prepared, ledger)


def test_prune_killed(jobs: Nursery, prepared: Prepared, tmp_path: Path) -> None:
    for place in range(6):
        ledger = copied(prepared, tmp_path / f"world-{place}")
        pruning = Job(ledger, "snapshots.prune", options={"keep": 1})
        jobs.finish(Job(ledger, "snapshots.create"))
        jobs.run(pruning, kill_after=0.01 * place)
        newest, *_ = whole_ones(ledger, prepared)
        jobs.finish(pruning)
        assert folders(ledger) == {newest}
        assert whole_ones(ledger, prepared) == [newest]


def test_several_makers_at_once(jobs: Nursery, prepared: Prepared, tmp_path: Path) -> None:
    """One makes it, the others find it or give way; what is shown is whole, and nothing else is kept."""
    ledger = copied(prepared, tmp_path / "world")
    outcomes = jobs.run(*[Job(ledger, "snapshots.create")] * 3)
    errors = [outcome.error for outcome in outcomes if outcome.error]
    assert all(error.startswith(("Conflict: ", "LedgerError: ")) for error in errors), errors
    assert len(errors) < 3
    ends_as_undisturbed(jobs, prepared, ledger)


def test_events_and_acknowledgements_come_meanwhile(jobs: Nursery, prepared: Prepared, tmp_path: Path) -> None:
    ledger = copied(prepared, tmp_path / "world")
    more = tmp_path / "more.jsonl"
    more.write_text("".join(event(number) + "\n" for number in range(EVENTS + MORE, EVENTS + MORE + 400)))
    jobs.finish(Job(ledger, "world.subscribe", ["physics"]))
    outcomes = jobs.run(
        Job(ledger, "snapshots.create", options={"wait": 0}),
        Job(ledger, "snapshots.restore"),
        Job(ledger, "world.apply_file", [str(more)]),
        *(Job(ledger, "world.ack", ["physics", position]) for position in (100, EVENTS + MORE, EVENTS)),
    )
    assert [outcome.error for outcome in outcomes] == [""] * 6
    with Ledger.open(ledger) as opened:
        assert opened.verify().ok
        (one,) = opened.world.subscriptions()
        assert (one.cursor, one.lag) == (EVENTS + MORE, 400)
        polled = opened.world.poll("physics").events
        assert [each.event.event["event_id"] for each in polled] == [f"e{EVENTS + MORE + n}" for n in range(400)]
        assert len(opened.snapshots.list()) == 2
        assert all(opened.snapshots.verify(each.record.id).ok for each in opened.snapshots.list())
        assert opened.snapshots.restore().events == EVENTS + MORE + 400


def test_a_full_disk(jobs: Nursery, prepared: Prepared, small_disk: SmallDisk) -> None:
    ledger = copied(prepared, small_disk.path / "world")
    small_disk.leave(40)
    (outcome,) = jobs.run(Job(ledger, "snapshots.create"))
    assert outcome.error.startswith("NotWritten: the ledger cannot be written"), outcome.error
    assert len(whole_ones(ledger, prepared)) == 1
    small_disk.leave(100 << 10)
    ends_as_undisturbed(jobs, prepared, ledger)
