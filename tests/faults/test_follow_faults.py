"""`follow`, killed at random instants while its files grow: it ends as one batch of the same input does."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from threading import Event, Timer
from typing import Any

import pytest

from ledger_cli import Ledger
from ledger_cli.core.world import PROTOCOL
from tests.faults.disks import SmallDisk
from tests.faults.jobs import Job, Nursery
from tests.faults.worlds import SEED, commits, refused, rows

SECONDS = 0.8
TYPE = "building.opened.v1"
LATENESS = 5
POLICY = {"strategy": "hybrid", "min_interval": 3, "max_interval": 20, "max_size": 40, "shards": 3}


def tick_lines(chance: random.Random) -> list[str]:
    """Ticks that come up to `LATENESS` ticks late, and lines that are none."""
    found = [(tick + chance.randrange(LATENESS), tick, entity) for tick in range(150) for entity in range(4)]
    lines = []
    for _, tick, entity in sorted(found):
        event = {"entityId": f"E{entity}", "tickId": tick, "x": entity * 9, "y": 0, "activity": chance.randrange(9) / 8}
        lines.append(json.dumps(event))
        if chance.random() < 0.02:
            lines.append(f"{{ no tick {len(lines)}")
    return lines


def event_lines(chance: random.Random) -> list[str]:
    """Events, some with a cause that comes after them, some that are refused."""
    lines = []
    for number in range(400):
        causes = [f"e{number + 1}"] if number % 50 == 7 else []
        late = 1000 if causes else 0
        event = {
            "eventId": f"e{number}",
            "entityId": f"gate-{number}" if causes else f"door-{chance.randrange(9)}",
            "type": "no.such.v1" if number % 90 == 3 else TYPE,
            "payload": {"n": number},
            "hlc": f"2026-01-01T00:00:00.{number + late:06d}Z-0000-there",
            "causes": causes,
            "handshake": {"protocol": PROTOCOL},
        }
        lines.append(json.dumps(event))
    return lines


def grown(path: Path, lines: list[str], share: float) -> None:
    """The beginning of a file, the last line often without its end."""
    text = "".join(line + "\n" for line in lines)
    path.write_text(text[: round(len(text) * share)])


def new_ledger(root: Path) -> Path:
    with Ledger.create(root, lateness=LATENESS, bus="../bus.jsonl", **POLICY) as ledger:
        ledger.world.register(TYPE)
    return root


def found(root: Path) -> tuple[Any, ...]:
    with Ledger.open(root) as ledger:
        state = ledger._repository.branch("main").state
        heads = {shard: each.head for shard, each in state.shards.items()}
        events = sorted(row["event_id"] for row in ledger.sql("SELECT event_id FROM world_events").to_pylist())
        raw = sorted((line, text) for _, line, _, text in refused(root))
        return heads, commits(root), rows(root), raw, ledger.world.digest(), events, state.waiting


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The input, and what a ledger comes to that takes all of it at once."""
    home, chance = tmp_path_factory.mktemp("batch"), random.Random(SEED)
    ticks, events = tick_lines(chance), event_lines(chance)
    root = new_ledger(home / "world")
    grown(home / "ticks.jsonl", ticks, 1)
    with Ledger.open(root) as ledger:
        ledger.ingest(home / "ticks.jsonl")
        ledger.commit()
        ledger.world.apply(events)
    return {"ticks": ticks, "events": events, "template": new_ledger(home / "empty"), "found": found(root)}


@pytest.mark.parametrize("seed", range(SEED, SEED + 5))
def test_killed_again_and_again(jobs: Nursery, batch: dict[str, Any], tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    root = tmp_path / "world"
    shutil.copytree(batch["template"], root)
    files = [tmp_path / "ticks.jsonl", tmp_path / "events.jsonl"]

    def follow(share: float, kill_after: float | None, **options: Any) -> bool:
        for path, name in zip(files, ("ticks", "events"), strict=True):
            grown(path, batch[name], share)
        given = {"world": [str(files[1])], "every": 0.01, "rows": chance.choice([7, 40, 500]), **options}
        (outcome,) = jobs.run(Job(root, "follow", [str(files[0])], given), kill_after=kill_after)
        assert outcome.error == ""
        return outcome.killed

    killed = [follow(place / 6, chance.uniform(0, SECONDS)) for place in range(1, 7)]
    assert any(killed)
    follow(1, None, idle=0.05)
    assert found(root) == batch["found"]
    told = (tmp_path / "bus.jsonl").read_text().splitlines()
    positions = list(dict.fromkeys(json.loads(line)["position"] for line in told))
    assert positions == list(range(1, len(batch["found"][5]) + 1))


def test_a_full_disk_is_told_once_until_there_is_room(batch: dict[str, Any], small_disk: SmallDisk) -> None:
    root, ticks = small_disk.path / "world", small_disk.path / "ticks.jsonl"
    shutil.copytree(batch["template"], root)
    grown(ticks, batch["ticks"], 1)
    small_disk.leave(0)
    with Ledger.open(root) as ledger:
        stop = Event()
        steps = ledger.follow(ticks, every=0.01, stop=stop)
        full = next(steps)
        assert [note.partition(" at ")[0] for note in full.notes] == ["tried again"]
        # Nobody is told anything while the steps after it find the same.
        Timer(0.5, small_disk.leave, [10_000]).start()
        step = next(steps)
        assert (step.notes, step.to_json()["ticks"]["read"]) == ([], len(batch["ticks"]))
        assert step.number > full.number + 1
        stop.set()
        list(steps)
