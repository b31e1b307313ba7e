"""Writers killed at any instant, and several at once: a bus is told every event, first in the order of the log."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ledger_cli import Ledger
from ledger_cli.core.world import PROTOCOL
from tests.faults.jobs import Job, Nursery
from tests.faults.worlds import SEED, instants

SECONDS = 1.0
"""About what the undisturbed command takes; some instants lie behind its end."""
EVENTS = 15_000
TYPE = "building.opened.v1"


def write_events(path: Path, first: int, count: int) -> Path:
    rows = (
        {"eventId": f"e{number}", "entityId": f"door-{number % 100}", "type": TYPE, "payload": {"n": number}}
        for number in range(first, first + count)
    )
    path.write_text("".join(json.dumps({**row, "handshake": {"protocol": PROTOCOL}}) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger whose bus is a file beside it."""
    root = tmp_path_factory.mktemp("bus")
    with Ledger.create(root / "world", bus="../events.jsonl") as ledger:
        ledger.world.register(TYPE)
    write_events(root / "first.jsonl", 0, EVENTS)
    return root


def told(path: Path) -> list[int]:
    """The positions in the order in which they were told first, of whole lines alone."""
    text = path.read_bytes() if path.exists() else b""
    return list(dict.fromkeys(json.loads(line)["position"] for line in text.split(b"\n")[:-1]))


@pytest.mark.parametrize("instant", instants(5, SECONDS, SEED, soak=100))
def test_killed(jobs: Nursery, template: Path, tmp_path: Path, instant: float) -> None:
    shutil.copytree(template, tmp_path / "home")
    world, bus = tmp_path / "home" / "world", tmp_path / "home" / "events.jsonl"
    apply = Job(world, "world.apply_file", [str(template / "first.jsonl")])
    jobs.run(apply, kill_after=instant)
    seen = told(bus)
    assert seen == list(range(1, len(seen) + 1))
    with Ledger.open(world) as ledger:
        status = ledger._repository.branch("main").state.world
        assert len(seen) <= (0 if status is None else status.events), "it was told of what may never happen"
    assert jobs.run(apply)[0].error == ""
    assert told(bus) == list(range(1, EVENTS + 1))
    with Ledger.open(world) as ledger:
        assert [(each.module, each.lag) for each in ledger.world.subscriptions()] == [("bus", 0)]


def test_several_at_once(jobs: Nursery, template: Path, tmp_path: Path) -> None:
    shutil.copytree(template, tmp_path / "home")
    world = tmp_path / "home" / "world"
    files = [write_events(tmp_path / f"{number}.jsonl", number * 1000, 1000) for number in range(4)]
    for _ in range(3):
        outcomes = jobs.run(*(Job(world, "world.apply_file", [str(file)]) for file in files))
        assert [each.error for each in outcomes] == [""] * 4
    with Ledger.open(world) as ledger:
        ledger.world.deliver()
        assert ledger.world.subscriptions()[0].lag == 0
    assert told(tmp_path / "home" / "events.jsonl") == list(range(1, 4001))
