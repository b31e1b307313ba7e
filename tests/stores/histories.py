"""Commits for tests of stores: chains with awkward values, and histories that share batches."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ledger_cli.core.commit import COMMIT, CommitRow, commit_id_of
from ledger_cli.core.contributors import CONTRIBUTORS
from ledger_cli.core.history import CommitFile
from ledger_cli.core.slices import CommitSlice, History
from ledger_cli.ports import Commits

REGIONS = ["0:0", "-1:7", "outside", "q0123", "Ä ö\t'\"\\", "𝄞", "z" * 300, "none", "\ufb01", "A", "a"]
"""Among them some that collations order otherwise than code points do."""
ENTITIES = ["E1", "a,b", "'\"\\", "\n\t\x01", "Ä 𝄞", "z" * 100]
LARGEST = 2**127 - 1
AT = "2026-01-02T03:04:05.678Z"


def chain(name: str, shard: int, heights: range, regions: Sequence[str] = REGIONS[:3], *, seed: int = 0) -> pa.Table:
    """Commits of one chain, which `name` tells from others; the same at every call."""
    rows = [_commit(name, shard, height, regions, seed) for height in heights]
    return pa.Table.from_pylist(rows, COMMIT)


def _commit(name: str, shard: int, height: int, regions: Sequence[str], seed: int) -> dict[str, Any]:
    chance = random.Random(f"{name} {shard} {height} {seed}")
    digest = _digest(name, shard, height)
    chosen = sorted(chance.sample(list(regions), chance.randint(0, len(regions))))
    return {
        "commit_id": commit_id_of(digest),
        "digest": digest,
        "layer": "atomic",
        "shard": shard,
        "height": height,
        "epoch_start": height * 10,
        "epoch_end": height * 10 + 10,
        "parents": [_digest(name, shard, height - 1)] if height else [],
        "policy": "p" * 64,
        "entries_digest": hashlib.sha256(digest.encode()).hexdigest(),
        "metadata": chance.choice(["{}", json.dumps({"amends": commit_id_of(digest), "ü": "'\"\\"})]),
        "reason": chance.choice(["interval", "maxSize", "final"]),
        "entries": [_entry(region, chance) for region in chosen],
    }


def _entry(region: str, chance: random.Random) -> dict[str, Any]:
    return {
        "region": region,
        "n": chance.choice([1, 7, 2**53]),
        "activity": str(chance.choice([0, 1, chance.getrandbits(90)])),
        "activity2": str(chance.getrandbits(100)),
        "weight": str(chance.choice([0, LARGEST >> 40, chance.getrandbits(80)])),
        "weight_value": chance.choice([0.0, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, chance.random()]),
        "activity_mean": chance.random(),
        "activity_var": chance.random() / 3,
    }


def _digest(name: str, shard: int, height: int) -> str:
    return hashlib.sha256(f"{name} {shard} {height}".encode()).hexdigest()


def contributors_to(commits: pa.Table) -> pa.Table:
    """Rows of `CONTRIBUTORS` of some of the entries of commits, awkward names among them."""
    rows = [
        {
            **{name: row[name] for name in ("commit_id", "shard", "height")},
            "region": entry["region"],
            "entity_refs": ENTITIES[: 1 + (row["height"] + place) % len(ENTITIES)],
        }
        for row in commits.to_pylist()
        for place, entry in enumerate(row["entries"])
        if (row["height"] + place) % 3
    ]
    return pa.Table.from_pylist(rows, CONTRIBUTORS)


def file_of(batch: str, *tables: pa.Table) -> CommitFile:
    """The record of a batch, as a move would name it."""
    rows = [row for table in tables for row in table.select(["shard", "height"]).to_pylist()]
    heights: dict[str, tuple[int, int]] = {}
    for row in rows:
        low, high = heights.get(str(row["shard"]), (row["height"], row["height"]))
        heights[str(row["shard"])] = min(low, row["height"]), max(high, row["height"])
    ends = [height * 10 for pair in heights.values() for height in pair]
    return CommitFile(batch, "", 0, len(rows), 0, min(ends, default=0), max(ends, default=0) + 10, heights)


def history(*files: CommitFile, keep: dict[str, int] | None = None) -> History:
    """A branch that names these batches; `keep`: of each chain only so many commits."""
    return History([CommitSlice(file, high=keep) for file in files])


def plain(row: CommitRow) -> dict[str, Any]:
    """A commit as the row of a table would be."""
    return row._asdict() | {"entries": None if row.entries is None else [entry._asdict() for entry in row.entries]}


def found_in(store: Commits, asked: History, commit_id: str) -> list[dict[str, Any]]:
    """What a store says to an id, as the rows of a table would be."""
    row = store.query_commit(asked, commit_id)
    return [] if row is None else [plain(row)]


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """The rows, with the entries of each by region."""
    rows = table.to_pylist()
    for row in rows:
        if row.get("entries") is not None:
            assert row["entries"] == sorted(row["entries"], key=lambda entry: entry["region"]), "by code point"
    return rows
