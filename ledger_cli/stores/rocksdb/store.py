"""Commits and refs in a RocksDB database.

Column families (see `records` for keys and values):

- `meta`: `schema_version`, as text.
- `moves`: ref, seq → the bytes of a move.
- `batches`: name → JSON of its number, created_at, whether it is whole, and how many parts it has.
- `commits`: batch number, part → a block of commits with their entries.
- `ids`: commit id, batch number → the commit once more, alone, and the part that it is in. Each batch holds its
  commits itself, so that it is written without looking at others, and removed without regard to them.
- `counts`: commit id, batch number → regions and events of a commit that was archived.
- `entries`: region, width, end, batch number, part → records of entries; all of what `commits` has, by region.
- `entity_state`: entity id → last_tick, activity, and both texts.

Invariants: what is written together is one write batch, so that no kill leaves a part of it; a batch that is not
whole is erased before it is written again; a write is acknowledged behind a synced log.
"""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.commit import CommitRow
from ledger_cli.core.events import ENTITY_STATE
from ledger_cli.core.slices import History
from ledger_cli.errors import Conflict, Corrupt, NotWritten, UsageError
from ledger_cli.ports import EVER, Capabilities, TickRange
from ledger_cli.stores.common.commits import CommitsBase
from ledger_cli.stores.common.moves import first_missing
from ledger_cli.stores.common.rows import (
    COUNTED,
    STORED,
    by_region,
    counted,
    counts_of,
    cut,
    held,
    missing,
    pieces,
    with_entries,
)
from ledger_cli.stores.common.urls import local_path
from ledger_cli.stores.rocksdb.database import Changes, Database
from ledger_cli.stores.rocksdb.records import (
    batch_of,
    bounds_of,
    commit_in,
    deserialised,
    entry_blocks,
    head_of,
    id_of,
    integer_of,
    number_of,
    place_in,
    records_of,
    region_table,
    serialised,
    single_commits,
    split_ids,
    text_of,
    without,
)

SCHEMA = 2
"""Since 2 a commit stands under its id as JSON."""
_FAMILIES = ("meta", "moves", "batches", "commits", "ids", "counts", "entries", "entity_state")
_VERSION = b"schema_version"
_LAST = b"\xff" * 8
_ROWS_A_BLOCK = 512
"""Commits and entries of a block of commits: what is written anew to archive one of them."""
_FEW = 8
"""Batches of which each is asked for a commit; with more, what there is of it is listed."""
_BYTES_AT_ONCE = 64 << 20
_STATE = struct.Struct("<qdI")
_COUNTS = struct.Struct(">QQ")


@dataclass(frozen=True)
class _Batch:
    number: int
    created_at: str
    parts: int = 0
    """Numbers below this may be taken by blocks of it."""
    whole: bool = False


class RocksStore(CommitsBase):
    """See `ports.CommitStore`. Safe with many threads of the one process that has it open."""

    capabilities = Capabilities(
        engine="RocksDB (rocksdict)",
        extra="rocksdb",
        refs=True,
        processes="one at a time: others wait for some seconds",
        durable="the loss of power: the log is synced",
        atomic="some 250,000 entries of a batch",
        exact="16 bytes, and decimal text",
    )

    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._path = local_path(url, directory)
        if directory.resolve().is_relative_to(self._path.resolve()):
            raise UsageError(
                f"{url} is where the ledger itself is: name a directory in it, as in rocksdb:///commits.db"
            )
        self._lock = threading.RLock()
        self._opened: Database | None = None
        self._batches: dict[str, _Batch] = {}
        self._complete: set[str] = set()
        """Refs in which no move is missing."""

    def create(self) -> None:
        """See `ports.CommitStore`. Column families are made by opening."""
        _ = self._database

    def close(self) -> None:
        """See `ports.CommitStore`."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            self._opened = None
            self._complete.clear()

    # -- refs ---------------------------------------------------------------------------------------------

    def branches(self) -> list[str]:
        """See `ports.Refs`."""
        found: list[str] = []
        key = self._database.key_from("moves", b"")
        while key is not None:
            found.append(text_of(key))
            key = self._database.key_from("moves", head_of(found[-1]) + _LAST + b"\0")
        return sorted(found)

    def read_ref(self, branch: str, seq: int) -> bytes | None:
        """See `ports.Refs`."""
        return self._database.get("moves", head_of(branch) + number_of(seq))

    def latest_seq(self, branch: str, at_least: int = -1) -> int:
        """See `ports.Refs`."""
        head = head_of(branch)
        key = self._database.key_to("moves", head + _LAST)
        return integer_of(key[-8:]) if key is not None and key.startswith(head) else -1

    def move_numbers(self, branch: str) -> list[int]:
        """See `ports.Refs`."""
        return [integer_of(key[-8:]) for key, _ in self._database.scan("moves", head_of(branch))]

    def advance_ref(self, branch: str, seq: int, move: bytes) -> None:
        """See `ports.Refs`. No other process has the database open, so that this one's lock is enough."""
        with self._lock:
            if self.read_ref(branch, seq) is not None:
                raise Conflict(f"branch {branch} was moved by another process: run the command again")
            if branch not in self._complete:
                gap = first_missing(self.move_numbers(branch))
                if gap is not None:
                    raise Corrupt(f"move {gap} of {branch} is missing, later ones are there: restore it from a copy")
                self._complete.add(branch)
            if seq != self.latest_seq(branch) + 1:
                raise Conflict(f"branch {branch} has no move {seq - 1}: run the command again")
            changes = self._database.changes()
            changes.put("moves", head_of(branch) + number_of(seq), move)
            self._write(changes, sync=True)

    # -- commits ------------------------------------------------------------------------------------------

    def persist_commits(self, batch: str, created_at: str, commits: Iterable[pa.Table]) -> None:
        """See `ports.Commits`."""
        with self._lock:
            database, known = self._database, self._batches.get(batch)
            if known is not None and known.whole:
                self._begin(batch, replace(known, created_at=created_at))
                return
            if known is not None:
                self.remove_batch(batch)
            # Above all others, and above those that were removed: no number is used twice.
            highest = max((each.number for each in self._batches.values()), default=-1)
            record = _Batch(max(highest + 1, time.time_ns()), created_at)
            for piece in pieces(commits):
                changes = database.changes()
                record = self._put(changes, batch, record, piece)
                self._write(changes, sync=False)
                self._batches[batch] = record
            self._begin(batch, replace(record, whole=True))

    def _begin(self, batch: str, record: _Batch) -> None:
        """Let a whole batch be there, synced with all that was written before."""
        changes = self._database.changes()
        self._put_record(changes, batch, record)
        self._write(changes, sync=True)
        self._batches[batch] = record

    def batches(self) -> dict[str, str]:
        """See `ports.Commits`."""
        with self._lock:
            _ = self._database
            return {batch: each.created_at for batch, each in self._batches.items()}

    def remove_batch(self, batch: str, before: str = EVER) -> bool:
        """See `ports.Commits`. Its record goes last, so that a killed call can be made again."""
        with self._lock:
            database, known = self._database, self._batches.get(batch)
            if known is None or known.created_at >= before:
                return False
            self._batches[batch] = known = replace(known, whole=False)
            suffix = number_of(known.number)
            for group in _groups(database.scan("commits", suffix)):
                changes = database.changes()
                self._put_record(changes, batch, known)
                self._drop_entries(changes, known.number, group.values(), None)
                for key, commits in group.items():
                    for commit in split_ids(commits["commit_id"]):
                        changes.delete("ids", commit + suffix)
                        changes.delete("counts", commit + suffix)
                    changes.delete("commits", key)
                self._write(changes, sync=False)
            changes = database.changes()
            changes.delete("batches", batch.encode())
            self._write(changes, sync=True)
            del self._batches[batch]
            return True

    def read_commits(self, batch: str) -> Iterator[pa.Table]:
        """See `ports.Commits`."""
        blocks = self._database.scan("commits", number_of(self._known(batch).number))
        yield STORED.empty_table()
        yield from pieces(deserialised(value) for _, value in blocks)

    def read_counts(self, batch: str) -> pa.Table:
        """See `ports.Commits`."""
        suffix = number_of(self._known(batch).number)
        blocks = (deserialised(value) for _, value in self._database.scan("commits", suffix))
        return counts_of(self._counted(block, suffix) for block in blocks)

    def _counted(self, block: pa.Table, suffix: bytes) -> pa.Table:
        """Rows of `COUNTED` of a block. Those of archived commits were noted as these went."""
        there = pc.is_valid(block["entries"])
        gone = block.filter(pc.invert(there))["commit_id"]
        noted = self._database.get_many("counts", [each + suffix for each in split_ids(gone)])
        columns = list(zip(*(_COUNTS.unpack(each or b"") for each in noted), strict=True)) or [(), ()]
        told = pa.table([gone, *columns], schema=COUNTED)
        return pa.concat_tables([told, counted(block.filter(there)).select(COUNTED.names).cast(COUNTED)])

    def query_commit(self, history: History, commit_id: str) -> CommitRow | None:
        """See `ports.Commits`."""
        names = self._names(history)
        raw = id_of(commit_id)
        if raw is None:
            return None
        for batch, value in self._copies(raw, names):
            _, shard, height = place_in(value)
            if history.holds(batch, shard, height):
                return commit_in(raw, value)
        return None

    def _copies(self, raw: bytes, names: Mapping[int, str]) -> Iterator[tuple[str, bytes]]:
        """What these batches have of a commit, each with its name."""
        if len(names) <= _FEW:
            for number, batch in names.items():
                if (value := self._database.get("ids", raw + number_of(number))) is not None:
                    yield batch, value
        else:
            for key, value in self._database.scan("ids", raw):
                if (found := names.get(integer_of(key[16:]))) is not None:
                    yield found, value

    def query_commits_by_region(self, history: History, region: str, ticks: TickRange) -> pa.Table:
        """See `ports.Commits`."""
        names = self._names(history)
        batches, values = [], []
        for key, value in self._blocks(region, ticks):
            batch = names.get(batch_of(key))
            if batch is not None:
                batches.append(batch)
                values.append(value)
        records = records_of(values)
        low, high = _ticks(ticks)
        meeting = records["epoch_end"] > low
        if high is not None:
            meeting &= records["epoch_start"] < high
        block = np.repeat(np.arange(len(values)), [len(value) // records.itemsize for value in values])
        named = pa.array(batches, pa.string()).take(pa.array(block[meeting]))
        return by_region(held(region_table(region, records[meeting]).append_column("batch", named), history))

    def archive_commits(self, batch: str, commit_ids: Sequence[str]) -> None:
        """See `ports.Commits`."""
        gone = pa.array(commit_ids, pa.string())
        with self._lock:
            known = self._known(batch)
            for group in _groups(self._blocks_of(known, gone)):
                changes, dropped = self._database.changes(), []
                for key, commits in group.items():
                    mine = pc.and_(pc.is_in(commits["commit_id"], gone), pc.is_valid(commits["entries"]))
                    dropped.append(commits.filter(mine))
                    changes.put("commits", key, serialised(left := with_entries(commits, mine, None)))
                    self._put_changed(changes, key, left.filter(mine))
                    counts = counted(dropped[-1])
                    pairs = zip(counts["regions"].to_pylist(), counts["events"].to_pylist(), strict=True)
                    keys = [commit + number_of(known.number) for commit in split_ids(dropped[-1]["commit_id"])]
                    changes.put_all("counts", keys, [_COUNTS.pack(*pair) for pair in pairs])
                self._drop_entries(changes, known.number, dropped, gone)
                self._write(changes, sync=False)
            self._write(self._database.changes(), sync=True)

    def restore_commits(self, batch: str, commits: Iterable[pa.Table]) -> None:
        """See `ports.Commits`."""
        with self._lock:
            for piece in pieces(commits):
                known = self._known(batch)
                entries, ids = piece["entries"].combine_chunks(), piece["commit_id"].combine_chunks()
                changes, back = self._database.changes(), []
                for key, value in self._blocks_of(known, ids):
                    block = deserialised(value)
                    mine = pc.and_(pc.is_in(block["commit_id"], ids), pc.is_null(block["entries"]))
                    found = entries.take(pc.index_in(block["commit_id"], ids).combine_chunks())
                    whole = with_entries(block, mine, found)
                    changes.put("commits", key, serialised(whole))
                    back.append(whole.filter(mine))
                    self._put_changed(changes, key, back[-1])
                known = self._put_entries(changes, batch, known, pa.concat_tables([STORED.empty_table(), *back]))
                self._write(changes, sync=True)
                self._batches[batch] = known

    # -- entities -----------------------------------------------------------------------------------------

    def upsert_entity_state(self, rows: pa.Table) -> None:
        """See `ports.Commits`."""
        with self._lock:
            database = self._database
            keys = [entity.encode() for entity in rows["entity_id"].to_pylist()]
            stored = database.get_many("entity_state", keys)
            latest = {key: _STATE.unpack_from(value)[0] for key, value in zip(keys, stored, strict=True) if value}
            changes = database.changes()
            columns = [rows[name].to_pylist() for name in ENTITY_STATE.names[1:]]
            for key, tick, activity, recent, metadata in zip(keys, *columns, strict=True):
                if tick >= latest.get(key, tick):
                    latest[key] = tick
                    past = recent.encode()
                    changes.put("entity_state", key, _STATE.pack(tick, activity, len(past)) + past + metadata.encode())
            self._write(changes, sync=True)

    def entity_state(self, entities: Sequence[str] | None = None) -> pa.Table:
        """See `ports.Commits`."""
        if entities is None:
            found = list(self._database.scan("entity_state", b""))
        else:
            keys = sorted({entity.encode() for entity in entities})
            values = self._database.get_many("entity_state", keys)
            found = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
        rows = []
        for key, value in found:
            tick, activity, length = _STATE.unpack_from(value)
            texts = value[_STATE.size :]
            rows.append((key.decode(), tick, activity, texts[:length].decode(), texts[length:].decode()))
        columns = zip(*rows, strict=True) if rows else [()] * len(ENTITY_STATE)
        return pa.table(
            [pa.array(column, field.type) for column, field in zip(columns, ENTITY_STATE, strict=True)],
            schema=ENTITY_STATE,
        )

    # -- the database -------------------------------------------------------------------------------------

    @property
    def _database(self) -> Database:
        if self._opened is None:
            with self._lock:
                if self._opened is None:
                    self._opened = self._open()
        return self._opened

    def _open(self) -> Database:
        database = Database(self._url, self._path, _FAMILIES)
        try:
            version = int(database.get("meta", _VERSION) or 0)
            if version > SCHEMA:
                raise UsageError(
                    f"{self._url} was made by a newer ledger-cli (schema {version}, this one has {SCHEMA}): "
                    "install a newer ledger-cli"
                )
            if version < SCHEMA:
                self._migrate(database)
            found = database.scan("batches", b"")
            self._batches = {key.decode(): _Batch(**json.loads(value)) for key, value in found}
        except BaseException:
            database.close()
            raise
        return database

    def _migrate(self, database: Database) -> None:
        """Bring an older schema, or none, to this one. Its version goes last: a killed call can be made again."""
        for key, value in database.scan("commits", b""):
            changes = database.changes()
            self._put_changed(changes, key, deserialised(value))
            database.write(changes, sync=False)
        changes = database.changes()
        changes.put("meta", _VERSION, str(SCHEMA).encode())
        database.write(changes, sync=True)

    def _write(self, changes: Changes, sync: bool) -> None:
        try:
            self._database.write(changes, sync)
        except NotWritten:
            # The engine refuses all writes from now on: it is opened anew by whoever comes next.
            self.close()
            raise

    # -- batches ------------------------------------------------------------------------------------------

    def _known(self, batch: str) -> _Batch:
        _ = self._database
        known = self._batches.get(batch)
        if known is None or not known.whole:
            raise missing(batch)
        return known

    def _names(self, history: History) -> dict[int, str]:
        """The batches of a history by their numbers. Corrupt where one is missing."""
        return {self._known(batch).number: batch for batch in history.batches}

    def _put_record(self, changes: Changes, batch: str, record: _Batch) -> None:
        changes.put("batches", batch.encode(), json.dumps(asdict(record)).encode())

    def _put(self, changes: Changes, batch: str, record: _Batch, piece: pa.Table) -> _Batch:
        """Add a piece of a batch; the record of the batch as it is then."""
        part = record.parts
        suffix = number_of(record.number)
        parts: list[int] = []
        for block in cut(piece, _ROWS_A_BLOCK):
            changes.put("commits", suffix + number_of(part), serialised(block.select(STORED.names)))
            parts += [part] * block.num_rows
            part += 1
        self._put_singly(changes, suffix, piece, parts)
        return self._put_entries(changes, batch, replace(record, parts=part), piece)

    def _put_singly(self, changes: Changes, suffix: bytes, commits: pa.Table, parts: Sequence[int]) -> None:
        """Write each commit by its id. `parts`: the block that each is in."""
        keys = [commit + suffix for commit in split_ids(commits["commit_id"])]
        changes.put_all("ids", keys, single_commits(commits, np.array(parts, np.uint32)))

    def _put_changed(self, changes: Changes, key: bytes, commits: pa.Table) -> None:
        """The same for commits of one block, given its key."""
        self._put_singly(changes, key[:8], commits, [integer_of(key[8:])] * commits.num_rows)

    def _put_entries(self, changes: Changes, batch: str, record: _Batch, piece: pa.Table) -> _Batch:
        keys, values = entry_blocks(piece, record.number, record.parts)
        changes.put_all("entries", keys, values)
        record = replace(record, parts=record.parts + len(keys))
        self._put_record(changes, batch, record)
        return record

    def _blocks_of(self, known: _Batch, commit_ids: pa.Array) -> Iterator[tuple[bytes, bytes]]:
        """The blocks that have these commits of a batch."""
        suffix = number_of(known.number)
        keys = [commit + suffix for commit in split_ids(commit_ids)]
        places = self._database.get_many("ids", keys)
        for part in sorted({place_in(place)[0] for place in places if place is not None}):
            key = suffix + number_of(part)
            block = self._database.get("commits", key)
            if block is not None:
                yield key, block

    def _blocks(self, region: str, ticks: TickRange) -> Iterator[tuple[bytes, bytes]]:
        """The blocks of entries of a region that may meet a range of ticks."""
        head = head_of(region)
        low, high = _ticks(ticks)
        key = self._database.key_from("entries", head)
        while key is not None and key.startswith(head):
            width = key[len(head)]
            yield from self._database.scan("entries", *bounds_of(head, width, low, high))
            key = self._database.key_from("entries", head + bytes([width + 1]))

    def _drop_entries(
        self, changes: Changes, number: int, commits: Iterable[pa.Table], commit_ids: pa.Array | None
    ) -> None:
        """Take the entries of these commits, by region, out of a batch. `commit_ids`: None for whatever is met."""
        table = pa.concat_tables(commits)
        ids = None if commit_ids is None else pa.array(split_ids(commit_ids), pa.binary(16))
        regions = pc.unique(pc.list_flatten(table["entries"].combine_chunks()).field("region")).to_pylist()
        ticks = TickRange(pc.min(table["epoch_start"]).as_py(), pc.max(table["epoch_end"]).as_py())
        for region in regions:
            for key, value in self._blocks(region, ticks):
                if batch_of(key) != number:
                    continue
                kept = b"" if ids is None else without(records_of([value]), ids).tobytes()
                if kept:
                    changes.put("entries", key, kept)
                else:
                    changes.delete("entries", key)


def _groups(blocks: Iterable[tuple[bytes, bytes]]) -> Iterator[dict[bytes, pa.Table]]:
    """Blocks of commits by their keys, so many at a time as fit into memory well."""
    group: dict[bytes, pa.Table] = {}
    size = 0
    for key, value in blocks:
        group[key] = deserialised(value)
        size += len(value)
        if size >= _BYTES_AT_ONCE:
            yield group
            group, size = {}, 0
    if group:
        yield group


def _ticks(ticks: TickRange) -> tuple[int, int | None]:
    """(low, high): a commit meets the range where epoch_end > low and epoch_start < high."""
    return -1 if ticks.start is None else max(ticks.start, -1), ticks.end
