"""Ledgers and inputs for fault tests, and all of a ledger that a reader can tell."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ledger_cli.api import Ledger
from ledger_cli.services.commits import read_commits
from ledger_cli.services.repository import Branch
from tests.support import open_ledger

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
    found: list[tuple[Any, ...]] = []
    for segment in _branch(root).segments():
        columns = pq.read_table(root / segment.file, columns=["tick_id", "entity_id", "x", "y", "activity"])
        found += zip(*(column.to_pylist() for column in columns.columns), strict=True)
    return sorted(found)


def refused(root: Path) -> list[tuple[Any, ...]]:
    """All of the quarantine."""
    found: list[tuple[Any, ...]] = []
    for file in _branch(root).quarantine():
        columns = pq.read_table(root / file.file, columns=["line", "reason", "raw"]).columns
        found += [(file.source_sha256, *row) for row in zip(*(column.to_pylist() for column in columns), strict=True)]
    return sorted(found)


def commits(root: Path) -> list[tuple[Any, ...]]:
    """All commits of a ledger, after a check of every file and id."""
    with Ledger.open(root) as ledger:
        report = ledger.verify()
        assert report.ok, report.findings
        repository = ledger._repository
        columns = ["shard", "height", "epoch_start", "epoch_end", "commit_id"]
        return sorted(tuple(row.values()) for row in read_commits(repository, _branch(root), columns).to_pylist())


def _branch(root: Path) -> Branch:
    return open_ledger(root).branch("main")


def is_swept(root: Path) -> bool:
    """Whether no unfinished file is left."""
    return not [path for path in (root / "scratch").iterdir() if path.is_dir()]


def instants(rounds: int, seconds: float, seed: int, soak: int = 0) -> list[Any]:
    """Parameters of a test: when to kill in each round, in seconds from the start.

    `soak`: rounds of other instants, for the long run alone.
    """
    chance, more = random.Random(seed), random.Random(seed + 1)
    found = [pytest.param(chance.uniform(0, seconds), id=f"{seed}-{place}") for place in range(rounds)]
    return found + [
        pytest.param(more.uniform(0, seconds), id=f"{seed + 1}-{place}", marks=pytest.mark.soak)
        for place in range(soak)
    ]
