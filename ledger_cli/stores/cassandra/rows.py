"""Between rows of `core.commit.COMMIT` and those of the tables."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.commit import COMMIT, ENTRY, REGION_COMMIT, CommitRow, EntryRow
from ledger_cli.stores.cassandra.connection import Row
from ledger_cli.stores.cassandra.schema import HEADER, place_of
from ledger_cli.stores.common.rows import HEADERS, STORED, entity_refs, summaries

ENTRIES_A_PART = 4096
"""Some 500 kB: a row stays far below what a cluster takes."""
_COLUMNS = [name.strip(' "') for name in HEADER.split(",")]
_AT = {name: place for place, name in enumerate(_COLUMNS)}
_FIELDS = pa.schema(list(ENTRY))
_ENTRY = pa.struct(list(ENTRY))
_ENTRIES = COMMIT.field("entries").type
_HEADERS = pa.struct(list(HEADERS))
_HEADERS_AT = [(name, _AT[name]) for name in HEADERS.names]
_PLACE = ("shard", "height", "epoch_start", "epoch_end")


def field(row: Row, name: str) -> Any:
    """A column of a row of `schema.HEADER`."""
    return row[_AT[name]]


def moment(text: str) -> datetime:
    """RFC 3339 UTC as the engine takes it."""
    return datetime.fromisoformat(text)


def text_of(at: datetime) -> str:
    """A time of the engine as RFC 3339 UTC."""
    return at.replace(tzinfo=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def commit_rows(commits: pa.Table, run: uuid.UUID, batch: str, at: datetime) -> tuple[list[Row], list[Row]]:
    """Rows of `schema.HEADER` of commits; and (commit_id, run, part, content) of what one row has no place for."""
    columns = {name: commits[name].to_pylist() for name in HEADERS.names}
    columns["summary"] = summaries(commits)
    headers, further = [], []
    constant = {"run": run, "part": 0, "created_at": at, "batch": batch, "archived": False}
    for row, (commit_id, blobs) in enumerate(zip(columns["commit_id"], _blobs(commits), strict=True)):
        values = {**constant, "commit_id": uuid.UUID(commit_id), "content": blobs[0]}
        headers.append(tuple(values[name] if name in values else columns[name][row] for name in _COLUMNS))
        further += [(values["commit_id"], run, part, blob) for part, blob in enumerate(blobs[1:], 1)]
    return headers, further


def entry_rows(commits: pa.Table, run: uuid.UUID, at: datetime, written: int) -> dict[tuple[str, int, int], list[Row]]:
    """Rows of `schema.ENTRY` of the entries of commits, by their partition; of `schema.ENTRY_TOLD` where one told.

    Behind each row stands when it is `written`, in microseconds.
    """
    lists = commits["entries"].combine_chunks()
    entry, commit = pc.list_flatten(lists), pc.list_parent_indices(lists).to_numpy()
    order = np.lexsort((commits["epoch_end"].to_numpy()[commit], entry.field("region").dictionary_encode().indices))
    ids = [uuid.UUID(each) for each in commits["commit_id"].to_pylist()]
    shard, height, start, end = (commits[name].to_pylist() for name in _PLACE)
    places = [place_of(*epoch) for epoch in zip(start, end, strict=True)]
    taken = entry.take(pa.array(order))
    columns = [taken.field(each.name).to_pylist() for each in ENTRY]
    told = entity_refs(commits)
    further = [()] * len(order) if told is None else zip(told.take(pa.array(order)).to_pylist())
    partitions: dict[tuple[str, int, int], list[Row]] = {}
    rows = zip(commit[order].tolist(), further, *columns, strict=True)
    for at_row, more, region, n, *sums, weight, mean, variance in rows:
        partition = (region, *places[at_row])
        place = (end[at_row], ids[at_row], run)
        values = (weight, mean, variance, at, n, *map(int, sums), shard[at_row], height[at_row], start[at_row])
        partitions.setdefault(partition, []).append((*partition, *place, *values, *more, written))
    return partitions


def commit_of(parts: Sequence[Row]) -> CommitRow:
    """The commit of all its parts, in their order."""
    header = parts[0]
    entries: list[EntryRow] | None = None
    if not field(header, "archived"):
        columns = (_decoded(field(part, "content")).to_pydict().values() for part in parts)
        entries = [EntryRow._make(entry) for each in columns for entry in zip(*each, strict=True)]
    return CommitRow._make([*(_plain(header[at]) for _, at in _HEADERS_AT), entries])


def stored(rows: Sequence[Sequence[Row]], anyway: bool = False) -> pa.Table:
    """Rows of `STORED` of the parts of commits, each commit's in their order.

    `anyway`: with their entries also where they are marked as archived.
    """
    headers = [parts[0] for parts in rows]
    gone = [not anyway and bool(field(header, "archived")) for header in headers]
    blobs = [
        [] if archived else [_decoded(field(part, "content")) for part in parts]
        for parts, archived in zip(rows, gone, strict=True)
    ]
    offsets = [0, *itertools.accumulate(sum(map(len, each)) for each in blobs)]
    parts = [batch.to_struct_array() for batch in itertools.chain.from_iterable(blobs)]
    nested = pa.concat_arrays(parts) if parts else pa.array([], _ENTRY)
    mask = pa.array(gone, pa.bool_()) if any(gone) else None
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), nested, type=_ENTRIES, mask=mask)
    # One array of structs is made in a tenth of the time that one array a column takes.
    rows_of = [{name: _plain(header[at]) for name, at in _HEADERS_AT} for header in headers]
    table = pa.RecordBatch.from_struct_array(pa.array(rows_of, _HEADERS))
    return pa.table([*table.columns, lists], schema=STORED)


def region_table(rows: Sequence[Row]) -> pa.Table:
    """Rows of `REGION_COMMIT` of what `schema.IN_BUCKET` returns behind its run."""
    columns = list(zip(*rows, strict=True)) or [()] * len(REGION_COMMIT)
    arrays = [pa.array(column, each.type) for each, column in zip(REGION_COMMIT, columns, strict=True)]
    return pa.table(arrays, schema=REGION_COMMIT)


def _blobs(commits: pa.Table) -> Iterator[list[bytes]]:
    lists = commits["entries"].combine_chunks()
    (flat,) = pa.Table.from_struct_array(pc.list_flatten(lists)).combine_chunks().to_batches() or [
        pa.RecordBatch.from_pylist([], _FIELDS)
    ]
    flat = pa.RecordBatch.from_arrays(flat.columns, schema=_FIELDS)
    first = 0
    for length in pc.list_value_length(lists).to_pylist():
        ends = range(first, first + max(length, 1), ENTRIES_A_PART)
        yield [flat.slice(at, min(ENTRIES_A_PART, first + length - at)).serialize().to_pybytes() for at in ends]
        first += length


def _decoded(blob: bytes) -> pa.RecordBatch:
    return pa.ipc.read_record_batch(pa.py_buffer(blob), _FIELDS)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, uuid.UUID) else value
