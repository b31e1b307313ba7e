"""Commits and refs in Apache Cassandra or Scylla, by the driver cassandra-driver (or scylla-driver, of the same name).

Invariants: all that is written may be written again and is the same; what names something is written before it and
taken away behind it, so that a rerun finds what a killed call left: a batch before its commits, the content of a commit
before its entries by region; a move is an `IF NOT EXISTS`, and where its answer
was lost a serial read tells whether it was made. Writes and reads are of a quorum. Times of writes are given where
something is archived or restored: a slower clock elsewhere loses nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pyarrow as pa

from ledger_cli.core.commit import CommitRow
from ledger_cli.core.events import ENTITY_STATE
from ledger_cli.core.slices import History
from ledger_cli.errors import Conflict, Corrupt, Unavailable, UsageError
from ledger_cli.ports import EVER, Capabilities, TickRange
from ledger_cli.stores.cassandra import schema
from ledger_cli.stores.cassandra.connection import Connection, Row
from ledger_cli.stores.cassandra.rows import (
    commit_of,
    commit_rows,
    entry_rows,
    field,
    moment,
    region_table,
    stored,
    text_of,
)
from ledger_cli.stores.common.commits import CommitsBase
from ledger_cli.stores.common.moves import first_missing
from ledger_cli.stores.common.rows import STORED, by_region, counts_of_summaries, entity_refs, missing, pieces

_MOVES_A_PAGE = 1000
_COMMITS_A_PAGE = 1000
_COMMITS_AT_ONCE = 200
_TRIES = 5
_HIGHEST = 2**63 - 1
_LAST = 2**62
"""A time of a write behind all others: a run that was removed never comes back."""
_TIES = 10
"""Bits of a time of a write of an entity below its tick."""


class CassandraStore(CommitsBase):
    """See `ports.CommitStore`. Safe with many processes and threads at once."""

    capabilities = Capabilities(
        engine="Apache Cassandra or Scylla (cassandra-driver)",
        extra="cassandra",
        refs=True,
        processes="many on many machines",
        durable="the loss of a minority of the replicas; of power as the cluster's commitlog_sync says",
        atomic="a row of a commit",
        exact="varint",
    )

    def __init__(self, url: str, directory: Path) -> None:
        self._connection = Connection(url)
        self._runs: dict[int, str] = {}
        """The batch of each run seen, which never changes. By integer: a UUID takes a microsecond to be looked up."""
        self._ends: dict[str, int] = {}
        """By ref, the last move that is known to have none missing before it."""

    def create(self) -> None:
        """See `ports.CommitStore`."""
        known = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'schema_version'"
        there = bool(self._connection.rows(known, self._connection.keyspace))
        version = self._version() if there else 0
        if version > len(schema.MIGRATIONS):
            raise UsageError(
                f"{self._connection.name} has tables of version {version}, this program knows "
                f"{len(schema.MIGRATIONS)}: install a newer ledger-cli"
            )
        if version == len(schema.MIGRATIONS):
            return
        self._connection.define("CREATE TABLE IF NOT EXISTS schema_version (version int PRIMARY KEY)")
        for number, statements in enumerate(schema.MIGRATIONS[version:], version + 1):
            for statement in statements:
                self._connection.define(statement)
            self._connection.rows("INSERT INTO schema_version (version) VALUES (?)", number)

    def close(self) -> None:
        """See `ports.CommitStore`."""
        self._connection.close()

    def _version(self) -> int:
        return max((row[0] for row in self._connection.rows("SELECT version FROM schema_version")), default=0)

    # -- refs ---------------------------------------------------------------------------------------------

    def branches(self) -> list[str]:
        """See `ports.Refs`."""
        return sorted({row[0] for row in self._connection.rows(schema.REFS)})

    def read_ref(self, branch: str, seq: int) -> bytes | None:
        """See `ports.Refs`. A serial read ends what a writer that was cut off has begun."""
        found = self._connection.rows(schema.READ_MOVE, branch, seq // _MOVES_A_PAGE, seq, serial=True)
        return bytes(found[0][0]) if found else None

    def latest_seq(self, branch: str, at_least: int = -1) -> int:
        """See `ports.Refs`. Pages are filled one after the other, so that a gallop finds the last."""
        low, step = max(at_least, 0) // _MOVES_A_PAGE, 1
        while self._last_move(branch, low + step) is not None:
            low, step = low + step, 2 * step
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            if self._last_move(branch, middle) is None:
                high = middle
            else:
                low = middle
        last = self._last_move(branch, low)
        return at_least if last is None else last

    def move_numbers(self, branch: str) -> list[int]:
        """See `ports.Refs`."""
        pages = range(self.latest_seq(branch) // _MOVES_A_PAGE + 1)
        found = self._connection.each(schema.MOVES, [(branch, page) for page in pages])
        return [seq for rows in found for (seq,) in rows]

    def advance_ref(self, branch: str, seq: int, move: bytes) -> None:
        """See `ports.Refs`."""
        if seq and self.read_ref(branch, seq - 1) is None:
            later = [number for number in self.move_numbers(branch) if number >= seq]
            if later:
                raise self._gap(branch, seq - 1)
            raise Conflict(f"branch {branch} has no move {seq - 1}: run the command again")
        if self._ends.get(branch) != seq - 1:
            gap = first_missing(self.move_numbers(branch))
            if gap is not None:
                raise self._gap(branch, gap)
        page = seq // _MOVES_A_PAGE
        for _ in range(_TRIES):
            applied = self._connection.once(schema.ADD_MOVE, branch, page, seq, move)
            # The driver may have sent it twice: what stands there tells who won, and every move is another.
            stands = move if applied else self.read_ref(branch, seq)
            if stands == move:
                self._ends[branch] = seq
                return
            if stands is not None:
                raise Conflict(f"branch {branch} was moved by another process: run the command again")
        raise Unavailable(
            f"{self._connection.name} does not say whether branch {branch} was moved: see `ledger log`, "
            "it is safe to run the command again"
        )

    def _last_move(self, branch: str, page: int) -> int | None:
        found = self._connection.rows(schema.LAST_MOVE, branch, page, serial=True)
        return found[0][0] if found else None

    def _gap(self, branch: str, seq: int) -> Corrupt:
        return Corrupt(f"move {seq} of {branch} is missing, later ones are there: restore it from a copy")

    # -- batches ------------------------------------------------------------------------------------------

    def persist_commits(self, batch: str, created_at: str, commits: Iterable[pa.Table]) -> None:
        """See `ports.Commits`. What a killed call left stays beside it until the batch is removed."""
        at = moment(created_at)
        for _, known, _, whole in self._runs_of(batch):
            if whole:
                self._connection.rows(schema.ADD_RUN, batch, known, at, True)
                return
        run = uuid.uuid4()
        self._connection.rows(schema.ADD_RUN, batch, run, at, False)
        first = 0
        for piece in pieces(commits):
            self._put_members(run, first, piece)
            headers, further = commit_rows(piece, run, batch, at)
            self._put_contents(further, _now())
            self._connection.write(schema.ADD_COMMIT, [[(*row, _now())] for row in headers])
            self._put_entries(piece, run, at, _now())
            first += piece.num_rows
        self._connection.rows(schema.ADD_RUN, batch, run, at, True)

    def batches(self) -> dict[str, str]:
        """See `ports.Commits`."""
        found: dict[str, str] = {}
        for batch, _, at, _ in self._connection.rows(schema.RUNS):
            found[batch] = max(found.get(batch, text_of(at)), text_of(at))
        return found

    def remove_batch(self, batch: str, before: str = EVER) -> bool:
        """See `ports.Commits`."""
        runs = self._runs_of(batch)
        if not runs or any(text_of(at) >= before for _, _, at, _ in runs):
            return False
        for _, run, _, _ in runs:
            self._connection.rows(schema.SPOIL_RUN, _LAST, batch, run)
            pages = [page for page, _ in self._pages(run)]
            for page in reversed(pages):
                ids = self._members(run, page)
                for at in range(0, len(ids), _COMMITS_AT_ONCE):
                    some = ids[at : at + _COMMITS_AT_ONCE]
                    self._drop_entries(self._fetched(some, run), run, _LAST)
                    self._connection.write(schema.DROP_COMMIT, [[(_LAST, each, run)] for each in some])
                self._connection.rows(schema.DROP_MEMBERS, _LAST, run, page)
            self._connection.rows(schema.DROP_RUN, _LAST, batch, run)
        self._runs = {run: name for run, name in self._runs.items() if name != batch}
        return True

    def read_commits(self, batch: str) -> Iterator[pa.Table]:
        """See `ports.Commits`."""
        run = self._run_of(batch)
        yield STORED.empty_table()
        for _, ids in self._pages(run):
            for at in range(0, len(ids), _COMMITS_AT_ONCE):
                parts = self._fetched(ids[at : at + _COMMITS_AT_ONCE], run)
                if not all(_is_whole(rows) for rows in parts):
                    raise missing(batch)
                yield stored(parts)

    def read_counts(self, batch: str) -> pa.Table:
        """See `ports.Commits`."""
        run = self._run_of(batch)
        told: dict[str, str] = {}
        for _, ids in self._pages(run):
            for at in range(0, len(ids), _COMMITS_AT_ONCE):
                for parts in self._fetched(ids[at : at + _COMMITS_AT_ONCE], run):
                    told[str(field(parts[0], "commit_id"))] = field(parts[0], "summary")
        return counts_of_summaries(list(told), told.values())

    def query_commit(self, history: History, commit_id: str) -> CommitRow | None:
        """See `ports.Commits`."""
        self._check(history)
        try:
            rows = self._connection.rows(schema.COMMIT, uuid.UUID(commit_id))
        except ValueError:
            return None
        for header in rows:
            place = field(header, "batch"), field(header, "shard"), field(header, "height")
            if field(header, "part") == 0 and history.holds(*place):
                parts = [row for row in rows if field(row, "run") == field(header, "run")]
                if _is_whole(parts):
                    return commit_of(parts)
        return None

    def query_commits_by_region(self, history: History, region: str, ticks: TickRange) -> pa.Table:
        """See `ports.Commits`."""
        self._check(history)
        low, past = -1 if ticks.start is None else ticks.start, _HIGHEST if ticks.end is None else ticks.end
        asked = []
        for level, bucket in self._connection.rows(schema.BUCKETS, region):
            high, width = min(past + 2**level, _HIGHEST), level + schema.BUCKET_BITS
            if (bucket + 1) << width > low and bucket << width < high:
                asked.append((region, level, bucket, low, high))
        rows = [row for found in self._connection.each(schema.IN_BUCKET, asked) for row in found]
        self._learn({row[0].int for row in rows})
        batches = [self._runs.get(row[0].int, "") for row in rows]
        kept = [
            row[1:]
            for row, batch in zip(rows, batches, strict=True)
            if row[4] < past and history.holds(batch, row[2], row[3])
        ]
        return by_region(region_table(kept))

    def archive_commits(self, batch: str, commit_ids: Sequence[str]) -> None:
        """See `ports.Commits`."""
        for run in self._whole_runs(batch):
            for at in range(0, len(commit_ids), _COMMITS_AT_ONCE):
                ids = [uuid.UUID(each) for each in commit_ids[at : at + _COMMITS_AT_ONCE]]
                found = self._fetched(ids, run)
                parts = [rows for rows in found if any(field(row, "content") is not None for row in rows)]
                mine = [field(rows[0], "commit_id") for rows in parts]
                written = self._after(mine, run)
                self._connection.write(schema.MARK, [[(written, True, each, run)] for each in mine])
                self._drop_entries(parts, run, written)
                blobs = [(written, field(row, "commit_id"), run, field(row, "part")) for rows in parts for row in rows]
                self._connection.write(schema.DROP_BLOB, [[blob] for blob in blobs])

    def restore_commits(self, batch: str, commits: Iterable[pa.Table]) -> None:
        """See `ports.Commits`."""
        runs = self._whole_runs(batch)
        for piece in pieces(commits):
            ids = [uuid.UUID(each) for each in piece["commit_id"].to_pylist()]
            for run in runs:
                parts = self._fetched(ids, run)
                lacking = [bool(rows) and bool(field(rows[0], "archived")) for rows in parts]
                mine = piece.filter(pa.array(lacking, pa.bool_()))
                if mine.num_rows:
                    at = next(field(rows[0], "created_at") for rows in parts if rows)
                    back = [uuid.UUID(each) for each in mine["commit_id"].to_pylist()]
                    written = self._after(back, run)
                    headers, further = commit_rows(mine, run, batch, at)
                    first = [(field(row, "commit_id"), run, 0, field(row, "content")) for row in headers]
                    self._put_contents([*first, *further], written)
                    self._put_entries(mine, run, at, written)
                    self._connection.write(schema.MARK, [[(written, False, each, run)] for each in back])

    # -- entities -----------------------------------------------------------------------------------------

    def upsert_entity_state(self, rows: pa.Table) -> None:
        """See `ports.Commits`. The time of a write is its tick, so that the cluster itself keeps the latest."""
        latest: dict[str, Row] = {}
        for row in zip(*(rows[name].to_pylist() for name in ENTITY_STATE.names), strict=True):
            if row[0] not in latest or latest[row[0]][1] <= row[1]:
                latest[row[0]] = row
        known = self._connection.each(schema.ENTITY_WRITTEN, [(entity,) for entity in latest])
        ties = {entity: written for found in known for entity, tick, written in found if tick == latest[entity][1]}
        # A second row of the same tick replaces the first.
        times = {entity: max(row[1] << _TIES, ties.get(entity, -2) + 1) for entity, row in latest.items()}
        self._connection.write(schema.ADD_ENTITY, [[(*row, times[entity])] for entity, row in latest.items()])

    def entity_state(self, entities: Sequence[str] | None = None) -> pa.Table:
        """See `ports.Commits`."""
        if entities is None:
            found = self._connection.rows(schema.ENTITIES)
        else:
            asked = [(entity,) for entity in dict.fromkeys(entities)]
            found = [row for rows in self._connection.each(schema.ENTITY, asked) for row in rows]
        columns = list(zip(*sorted(found), strict=True)) or [()] * len(ENTITY_STATE)
        return pa.table(
            [pa.array(each, kind.type) for each, kind in zip(columns, ENTITY_STATE, strict=True)], schema=ENTITY_STATE
        )

    # -- runs ---------------------------------------------------------------------------------------------

    def _runs_of(self, batch: str) -> list[Row]:
        """(batch, run, created_at, whole) of what was persisted under a name, the first begun first."""
        return sorted(self._connection.rows(schema.RUNS_OF, batch), key=lambda row: (row[2], row[1]))

    def _whole_runs(self, batch: str) -> list[uuid.UUID]:
        runs = [run for _, run, _, whole in self._runs_of(batch) if whole]
        if not runs:
            raise missing(batch)
        return runs

    def _run_of(self, batch: str) -> uuid.UUID:
        return self._whole_runs(batch)[0]

    def _learn(self, runs: set[int]) -> None:
        if not runs <= self._runs.keys():
            self._runs.update({run.int: batch for batch, run, _, _ in self._connection.rows(schema.RUNS)})

    def _check(self, history: History) -> None:
        """Corrupt where the store lacks a batch of a history."""
        lacking = set(history.batches) - set(self._runs.values())
        if lacking:
            whole = [row for row in self._connection.rows(schema.RUNS) if row[3]]
            self._runs.update({run.int: batch for batch, run, _, _ in whole})
            for batch in sorted(lacking - {row[0] for row in whole}):
                raise missing(batch)

    def _pages(self, run: uuid.UUID) -> Iterator[tuple[int, list[uuid.UUID]]]:
        for page in count():
            ids = self._members(run, page)
            if not ids:
                return
            yield page, ids

    def _members(self, run: uuid.UUID, page: int) -> list[uuid.UUID]:
        return [commit_id for (commit_id,) in self._connection.rows(schema.MEMBERS, run, page)]

    def _fetched(self, ids: Sequence[uuid.UUID], run: uuid.UUID) -> list[list[Row]]:
        """The parts of each commit; none where it is not there."""
        return self._connection.each(schema.COMMIT_OF, [(each, run) for each in ids])

    def _after(self, ids: Sequence[uuid.UUID], run: uuid.UUID) -> int:
        """A time, in µs, behind the last change of these commits by whatever clock."""
        found = self._connection.each(schema.WRITTEN, [(each, run) for each in ids])
        times: list[int] = [written + 1 for rows in found for (written,) in rows]
        return max([_now(), *times])

    def _put_members(self, run: uuid.UUID, first: int, piece: pa.Table) -> None:
        pages: dict[int, list[Row]] = {}
        columns = (piece[name].to_pylist() for name in ("shard", "height", "commit_id"))
        for at, (shard, height, commit_id) in enumerate(zip(*columns, strict=True), first):
            page = at // _COMMITS_A_PAGE
            pages.setdefault(page, []).append((run, page, shard, height, uuid.UUID(commit_id)))
        self._connection.write(schema.ADD_MEMBER, pages.values())

    def _put_contents(self, rows: Iterable[Row], written: int) -> None:
        self._connection.write(schema.ADD_PART, [[(*row, written)] for row in rows])

    def _put_entries(self, piece: pa.Table, run: uuid.UUID, at: datetime, written: int) -> None:
        partitions = entry_rows(piece, run, at, written)
        self._connection.write(schema.ADD_BUCKET, [[partition] for partition in partitions])
        add = schema.ADD_ENTRY if entity_refs(piece) is None else schema.ADD_ENTRY_TOLD
        self._connection.write(add, partitions.values())

    def _drop_entries(self, parts: Sequence[Sequence[Row]], run: uuid.UUID, written: int) -> None:
        """Take the entries of commits, by region, out of a run."""
        there = [rows for rows in parts if _has_entries(rows)]
        partitions = entry_rows(stored(there, anyway=True), run, datetime.now(UTC), written)
        self._connection.write(
            schema.DROP_ENTRY, ([(written, *row[:6]) for row in rows] for rows in partitions.values())
        )


def _is_whole(rows: Sequence[Row]) -> bool:
    return bool(rows) and (bool(field(rows[0], "archived")) or _has_entries(rows))


def _has_entries(rows: Sequence[Row]) -> bool:
    """Whether the parts of a commit have its header, and their entries: then those are by region too, or may be."""
    return bool(rows) and field(rows[0], "part") == 0 and all(field(row, "content") is not None for row in rows)


def _now() -> int:
    return time.time_ns() // 1000
