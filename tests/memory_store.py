"""The storage port in plain Python: what every store is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyarrow as pa

from ledger_cli.core.commit import COMMIT, REGION_COMMIT, REGION_TILE, CommitRow, EntryRow
from ledger_cli.core.events import ENTITY_STATE
from ledger_cli.core.moments import SUMS
from ledger_cli.core.slices import History
from ledger_cli.errors import Conflict, Corrupt
from ledger_cli.ports import EVER, Capabilities, TickRange
from ledger_cli.stores.common.rows import COUNTED

Row = dict[str, Any]


class MemoryStore:
    """See `ports.CommitStore`. Of one process; nothing outlives it."""

    capabilities = Capabilities("memory", None, True, "one", "nothing", "all", "integers")

    def __init__(self) -> None:
        self._refs: dict[str, dict[int, bytes]] = {}
        self._commits: dict[str, Row] = {}
        self._counts: dict[str, Row] = {}
        self._batches: dict[str, tuple[str, list[str]]] = {}
        self._entities: dict[str, Row] = {}

    def create(self) -> None:
        pass

    def close(self) -> None:
        pass

    # -- refs ---------------------------------------------------------------------------------------------

    def branches(self) -> list[str]:
        return sorted(self._refs)

    def read_ref(self, branch: str, seq: int) -> bytes | None:
        return self._refs.get(branch, {}).get(seq)

    def latest_seq(self, branch: str, at_least: int = -1) -> int:
        return max(self._refs.get(branch, {}), default=-1)

    def move_numbers(self, branch: str) -> list[int]:
        return sorted(self._refs.get(branch, {}))

    def advance_ref(self, branch: str, seq: int, move: bytes) -> None:
        known = self._refs.get(branch, {})
        if seq in known or (seq and seq - 1 not in known):
            raise Conflict("somebody was first")
        if any(other > seq for other in known) or len(known) != seq:
            raise Corrupt("a move is missing")
        self._refs.setdefault(branch, {})[seq] = move

    # -- commits ------------------------------------------------------------------------------------------

    def leading(self, branch: str, shards: Iterable[int]) -> AbstractContextManager[None]:
        return nullcontext()

    def persist_commits(self, batch: str, created_at: str, commits: Iterable[pa.Table]) -> None:
        rows = [row for table in commits for row in table.select(COMMIT.names).to_pylist()]
        for row in rows:
            self._commits.setdefault(row["commit_id"], row)
            events = sum(entry["n"] for entry in row["entries"])
            self._counts[row["commit_id"]] = {"regions": len(row["entries"]), "events": events}
        _, known = self._batches.get(batch, ("", [row["commit_id"] for row in rows]))
        self._batches[batch] = created_at, known

    def batches(self) -> dict[str, str]:
        return {name: created_at for name, (created_at, _) in self._batches.items()}

    def remove_batch(self, batch: str, before: str = EVER) -> bool:
        if batch not in self._batches or self._batches[batch][0] >= before:
            return False
        _, gone = self._batches.pop(batch)
        kept = {each for _, ids in self._batches.values() for each in ids}
        for each in set(gone) - kept:
            del self._commits[each]
        return True

    def read_commits(self, batch: str) -> Iterator[pa.Table]:
        if batch not in self._batches:
            raise Corrupt(f"{batch} is missing")
        yield _table(self._rows(batch))

    def read_counts(self, batch: str) -> pa.Table:
        counts = [{"commit_id": row["commit_id"], **self._counts[row["commit_id"]]} for row in self._rows(batch)]
        return pa.Table.from_pylist(counts, COUNTED)

    def query_commit(self, history: History, commit_id: str) -> CommitRow | None:
        for row in self._of(history):
            if row["commit_id"] == commit_id:
                entries = None if row["entries"] is None else [EntryRow(**entry) for entry in row["entries"]]
                return CommitRow(**row | {"entries": entries})
        return None

    def query_commits_by_region(self, history: History, region: str, ticks: TickRange) -> pa.Table:
        rows = [
            {**row, **entry}
            for row in self._of(history)
            for entry in row["entries"] or ()
            if entry["region"] == region and ticks.meets(row["epoch_start"], row["epoch_end"] - 1)
        ]
        rows.sort(key=lambda row: (row["epoch_end"], row["shard"], row["height"], row["commit_id"]))
        return pa.Table.from_pylist([{name: row[name] for name in REGION_COMMIT.names} for row in rows], REGION_COMMIT)

    def read_projection_tile(self, history: History, region: str) -> pa.Table:
        rows = self.query_commits_by_region(history, region, TickRange()).to_pylist()
        sums = {name: str(sum(int(row[name]) for row in rows)) for name in SUMS}
        tile = {"region": region, "commits": len(rows), "n": sum(row["n"] for row in rows), **sums}
        return pa.Table.from_pylist([tile], REGION_TILE)

    def archive_commits(self, batch: str, commit_ids: Sequence[str]) -> None:
        for each in commit_ids:
            self._commits[each]["entries"] = None

    def restore_commits(self, batch: str, commits: Iterable[pa.Table]) -> None:
        for row in (row for table in commits for row in table.to_pylist()):
            if self._commits[row["commit_id"]]["entries"] is None:
                self._commits[row["commit_id"]]["entries"] = row["entries"]

    # -- entities -----------------------------------------------------------------------------------------

    def upsert_entity_state(self, rows: pa.Table) -> None:
        for row in rows.to_pylist():
            known = self._entities.get(row["entity_id"])
            if known is None or known["last_tick"] <= row["last_tick"]:
                self._entities[row["entity_id"]] = row

    def entity_state(self, entities: Sequence[str] | None = None) -> pa.Table:
        chosen = sorted(self._entities if entities is None else self._entities.keys() & set(entities))
        return pa.Table.from_pylist([self._entities[each] for each in chosen], ENTITY_STATE)

    def _rows(self, batch: str) -> list[Row]:
        return sorted((self._commits[each] for each in self._batches[batch][1]), key=_place)

    def _of(self, history: History) -> list[Row]:
        missing = [batch for batch in history.batches if batch not in self._batches]
        if missing:
            raise Corrupt(f"{missing[0]} is missing")
        found = {
            row["commit_id"]: row
            for batch in history.batches
            for row in self._rows(batch)
            if history.holds(batch, row["shard"], row["height"])
        }
        return list(found.values())


def _place(row: Row) -> tuple[int, int]:
    return row["shard"], row["height"]


def _table(rows: list[Row]) -> pa.Table:
    entries = COMMIT.field("entries").with_nullable(True)
    return pa.Table.from_pylist(rows, COMMIT.set(COMMIT.get_field_index("entries"), entries))
