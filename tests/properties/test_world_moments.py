"""The world at a commit, tick or reading is what a model saw then, however events, runs and forks follow each other."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_cli import Ledger
from ledger_cli.core.world import PROTOCOL
from ledger_cli.services import world_apply
from ledger_cli.wiring import machine

TYPE = "crew.moved.v1"
World = dict[str, int]
"""The last step of each entity."""

_STEPS = st.lists(st.sampled_from(["event a", "event b", "run", "run", "fork"]), min_size=1, max_size=12)


@settings(max_examples=8)
@given(_STEPS)
def test_moments_are_what_was_there_then(steps: Sequence[str]) -> None:
    ticking = iter(range(10**15, 10**16, 1000))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        patch.setattr(machine, "clock", lambda: next(ticking))
        patch.setattr(world_apply, "CHECKPOINT_FILES", 2)
        with Ledger.create(Path(directory) / "world", interval=10) as ledger:
            _play(ledger, Path(directory) / "ticks.jsonl", steps)


def _play(ledger: Ledger, ticks: Path, steps: Sequence[str]) -> None:
    ledger.world.register(TYPE)
    branch, now, watermark = "main", World(), 0
    seen: list[tuple[Any, World]] = []
    for number, step in enumerate(steps):
        if step == "fork":
            ledger.fork(f"fork{number}", branch=branch)
            branch = f"fork{number}"
        elif step == "run":
            # The last tick is not complete yet: it lifts the watermark by ten.
            row = {"entityId": "x", "x": 1, "y": 1, "activity": 1}
            low, high = {**row, "tickId": watermark + 9}, {**row, "tickId": watermark + 10}
            ticks.write_text(json.dumps(low) + "\n" + json.dumps(high))
            ledger.ingest(ticks, branch=branch)
            ledger.commit(branch)
            watermark += 10
            commit = ledger.log(branch, limit=1).to_json()[0]["commitId"]
            seen += [(commit, dict(now)), (watermark, dict(now)), (watermark - 9, dict(now))]
        else:
            event = {"entityId": step[-1], "type": TYPE, "payload": {"step": number}}
            applied = ledger.world.apply([json.dumps({**event, "handshake": {"protocol": PROTOCOL}})], branch)
            assert applied.applied == 1
            now[step[-1]] = number
            seen.append((applied.hlc, dict(now)))
    for at, expected in seen:
        assert _world(ledger.world.find(branch=branch, at=at).to_pylist()) == expected
        for entity in expected:
            state = ledger.world.get(entity, branch, at).to_json()["state"]["persistent"]["crew"]
            assert state == {"step": expected[entity]}
            told = ledger.world.history(entity, branch, last=at)
            assert told[-1].to_json()["payload"] == {"step": expected[entity]}
            # What is from a reading on has its own event too; what is from a run on begins after it.
            again = sum(each.event["hlc"] == at for each in told)
            later = ledger.world.history(entity, branch, first=at)
            assert len(told) + len(later) - again == len(ledger.world.history(entity, branch))


def _world(rows: list[dict[str, Any]]) -> World:
    return {row["entity_id"]: json.loads(row["state"])["persistent"]["crew"]["step"] for row in rows}
