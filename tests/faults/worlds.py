"""Ledgers and inputs for fault tests, and all of a ledger that a reader can tell."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ledger_cli.api import Ledger

POLICY = {"strategy": "fixed", "interval": 20, "shards": 3, "regions": "grid:10"}
SEED = int(os.environ.get("LEDGER_FAULT_SEED", "20260129"))


def new_ledger(root: Path) -> Path:
    """An empty ledger."""
    Ledger.create(root).close()
    return root


def write_rows(path: Path, ticks: range, entities: Sequence[str], spoiled: int = 0) -> Path:
    """A file of events, one an entity and tick; every `spoiled`th line is no JSON."""
    chance = random.Random(path.name)
    with path.open("w", encoding="utf-8") as file:
        for tick in ticks:
            for place, entity in enumerate(entities):
                event = {
                    "entityId": entity,
                    "tickId": tick,
                    "x": chance.randrange(100),
                    "y": chance.randrange(100),
                    "activity": chance.randrange(1000) / 1000,
                }
                broken = spoiled and (tick * len(entities) + place) % spoiled == 0
                file.write(("{" if broken else json.dumps(event)) + "\n")
    return path


def rows(root: Path) -> list[tuple[Any, ...]]:
    """All ticks of a ledger."""
    with Ledger.open(root) as ledger:
        table = ledger.sql("SELECT entity_id, tick_id, x, y, activity FROM ticks ORDER BY tick_id, entity_id")
    return [tuple(row.values()) for row in table.to_pylist()]


def refused(root: Path) -> list[tuple[Any, ...]]:
    """All of the quarantine."""
    with Ledger.open(root) as ledger:
        table = ledger.sql("SELECT source_sha256, line, reason, raw FROM quarantine ORDER BY ALL")
    return [tuple(row.values()) for row in table.to_pylist()]


def commits(root: Path) -> list[tuple[str, int, int, str]]:
    """All commits of a ledger, each with its shard and height, after a check of every file and id."""
    with Ledger.open(root) as ledger:
        report = ledger.verify()
        assert not report.problems, report.problems
        table = ledger.sql("SELECT commit_id, shard, epoch_start, digest FROM commits ORDER BY shard, epoch_start")
    return [tuple(row.values()) for row in table.to_pylist()]


def is_swept(root: Path) -> bool:
    """Whether no unfinished file is left."""
    return not [path for path in (root / "scratch").iterdir() if path.is_dir()]


def instants(rounds: int, seconds: float, seed: int) -> list[Any]:
    """Parameters of a test: when to kill in each round, in seconds from the start."""
    chance = random.Random(seed)
    return [pytest.param(chance.uniform(0, seconds), id=f"{seed}-{place}") for place in range(rounds)]
