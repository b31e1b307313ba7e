"""Between the rows of `core.commit.COMMIT` and what engines keep: headers and entries apart."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.commit import COMMIT, ENTRY, REGION_COMMIT, REGION_TILE, CommitRow, EntryRow
from ledger_cli.core.contributors import COLUMN
from ledger_cli.core.moments import SUMS
from ledger_cli.core.slices import History
from ledger_cli.errors import Corrupt

_ENTRIES = COMMIT.get_field_index("entries")
STORED = COMMIT.set(_ENTRIES, COMMIT.field("entries").with_nullable(True))
"""Rows of `COMMIT` whose entries are null where they are archived."""
HEADERS = COMMIT.remove(_ENTRIES)
COUNTS = (pa.field("regions", pa.int64(), nullable=False), pa.field("events", pa.int64(), nullable=False))
"""Of a commit: its entries, and the events in them."""
ARCHIVED = pa.schema([*HEADERS, *COUNTS, STORED.field("entries").with_name("kept")])
"""A Parquet file of a batch of which entries are archived. It has no column `entries`, so that whoever asks for them
unaware fails, and does not take what is archived for nothing; `kept` are those that are not."""
COUNTED = pa.schema([COMMIT.field("commit_id"), *COUNTS])
FLAT = pa.schema([COMMIT.field("commit_id"), *ENTRY])
"""One row an entry, with the id of its commit."""
_ROWS_AT_ONCE = 250_000


def apart(commits: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Rows of `COMMIT` as (rows of `HEADERS`, rows of `FLAT`), in their order."""
    lists = commits["entries"].combine_chunks()
    parents = commits["commit_id"].combine_chunks().take(pc.list_parent_indices(lists))
    entries = pa.Table.from_struct_array(pc.list_flatten(lists))
    flat = pa.table([parents, *entries.columns], schema=FLAT)
    return commits.select(HEADERS.names), flat


def entity_refs(commits: pa.Table) -> pa.Array | None:
    """Of each entry the JSON text of its `core.contributors`, null where it has none; None where nobody told of any.

    For whoever looks into the engine: nothing is read back from it.
    """
    if COLUMN not in commits.column_names:
        return None
    return pc.list_flatten(commits[COLUMN].combine_chunks())


def together(headers: pa.Table, entries: pa.Table, archived: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Rows of `STORED` of headers and all their entries, in any order.

    `archived`: of each header, whether its entries are elsewhere.
    """
    headers = headers.append_column("archived", archived).sort_by([("shard", "ascending"), ("height", "ascending")])
    place = pa.table([headers["commit_id"], pa.array(np.arange(headers.num_rows))], ["commit_id", "place"])
    placed = entries.join(place, "commit_id", join_type="inner").sort_by(
        [("place", "ascending"), ("region", "ascending")]
    )
    counts = np.bincount(placed["place"].to_numpy(), minlength=headers.num_rows)
    offsets = pa.array(np.r_[0, np.cumsum(counts)], pa.int32())
    entry = placed.select(ENTRY.names).cast(pa.schema(list(ENTRY))).combine_chunks()
    fields = [column.combine_chunks() for column in entry.columns]
    nested = pa.StructArray.from_arrays(fields, fields=list(ENTRY))
    gone = headers["archived"].combine_chunks()
    lists = pa.ListArray.from_arrays(offsets, nested, type=COMMIT.field("entries").type, mask=gone)
    columns = [headers[name] for name in HEADERS.names]
    return pa.table([*columns, lists], schema=STORED)


def row_of(commits: pa.Table) -> CommitRow | None:
    """The only row of `STORED`, if there is one."""
    for row in commits.to_pylist():
        entries = row.pop("entries")
        return CommitRow(**row, entries=None if entries is None else [EntryRow(**each) for each in entries])
    return None


def digest_of(path: Path) -> tuple[str, int]:
    """SHA-256 and bytes of a file."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()


def with_entries(commits: pa.Table, where: pa.Array | pa.ChunkedArray, entries: pa.Array | None) -> pa.Table:
    """Rows of `STORED` with other entries where it says so; None: with none there."""
    kept = commits["entries"].combine_chunks()
    other = pa.nulls(len(kept), kept.type) if entries is None else entries
    chosen = pc.if_else(where.combine_chunks() if isinstance(where, pa.ChunkedArray) else where, other, kept)
    return commits.set_column(_ENTRIES, STORED.field(_ENTRIES), chosen)


def counted(commits: pa.Table) -> pa.Table:
    """Rows of `STORED` with `COUNTS`, if they do not have them yet; nothing may be archived of those that have not."""
    if COUNTS[0].name in commits.column_names:
        return commits
    lists = commits["entries"].combine_chunks()
    regions = pc.list_value_length(lists).cast(pa.int64())
    ends = np.r_[0, np.cumsum(regions.to_numpy(zero_copy_only=False))]
    sums = np.r_[0, np.cumsum(pc.list_flatten(lists).field("n").to_numpy(zero_copy_only=False))]
    return commits.append_column(COUNTS[0], regions).append_column(
        COUNTS[1], pa.array(sums[ends[1:]] - sums[ends[:-1]])
    )


def with_counts(commits: pa.Table, counts: pa.Table) -> pa.Table:
    """Rows of `STORED` as rows of `ARCHIVED`. `counts`: see `ports.Commits.read_counts`."""
    where = pc.index_in(commits["commit_id"].combine_chunks(), counts["commit_id"].combine_chunks())
    columns = [commits[name] for name in HEADERS.names] + [counts[each.name].take(where) for each in COUNTS]
    return pa.table([*columns, commits["entries"]], schema=ARCHIVED)


def counts_of(tables: Iterable[pa.Table]) -> pa.Table:
    """Rows of `COUNTED` of tables that have its columns."""
    return pa.concat_tables([COUNTED.empty_table(), *(each.select(COUNTED.names).cast(COUNTED) for each in tables)])


def counts_of_summaries(commit_ids: Sequence[str], summaries: Iterable[str]) -> pa.Table:
    """The same of what `summaries` made, which engines may have written otherwise."""
    told = [json.loads(each) for each in summaries]
    columns = [[int(each[field.name]) for each in told] for field in COUNTS]
    return pa.table([pa.array(commit_ids, pa.string()), *columns], schema=COUNTED)


def missing(file: str) -> Corrupt:
    """A file or batch that should be there."""
    return Corrupt(f"{file} is missing: restore it from a copy of the ledger, then run `ledger verify`")


def in_order(commits: pa.Table) -> pa.Table:
    """Rows of `STORED`, in the order of their chains."""
    return commits.sort_by([("shard", "ascending"), ("height", "ascending")]).select(STORED.names).cast(STORED)


def summaries(commits: pa.Table) -> list[str]:
    """The `summary` of each commit: JSON for whoever looks into the engine itself.

    What is read back are the counts of commits whose entries are archived.
    """
    lists = commits["entries"].combine_chunks()
    flat, parent = pc.list_flatten(lists), pc.list_parent_indices(lists).to_numpy()
    size = commits.num_rows
    counted = np.zeros(size, np.int64)
    np.add.at(counted, parent, flat.field("n").to_numpy(zero_copy_only=False))
    weights = np.bincount(parent, flat.field("weight_value").to_numpy(zero_copy_only=False), size).tolist()
    finite = [json.dumps(weight if math.isfinite(weight) else None) for weight in weights]
    regions = np.bincount(parent, minlength=size)
    policies, metadata = commits["policy"].to_pylist(), commits["metadata"].to_pylist()
    return [
        f'{{"events":{n},"regions":{r},"weight":{w},"policy":"{policy}","metadata":{meta}}}'
        for n, r, w, policy, meta in zip(counted.tolist(), regions.tolist(), finite, policies, metadata, strict=True)
    ]


def held(rows: pa.Table, history: History) -> pa.Table:
    """The rows (batch, shard, height, …) whose commit belongs to a history, without the column `batch`."""
    named = rows["batch"].combine_chunks().dictionary_encode()
    batch, shard, height = (each.to_numpy() for each in (named.indices, rows["shard"], rows["height"]))
    batches, (shards, own) = named.dictionary.to_pylist(), np.unique(shard, return_inverse=True)
    pairs, pair = np.unique(batch.astype(np.int64) * len(shards) + own, return_inverse=True)
    spans = [history.spans(batches[at // len(shards)], int(shards[at % len(shards)])) for at in pairs.tolist()]
    kept = np.zeros(len(height), bool)
    for some in zip_longest(*spans, fillvalue=(0, 0)):
        first, past = np.array(some)[pair].T
        kept |= (first <= height) & (height < past)
    return (rows if kept.all() else rows.filter(pa.array(kept))).drop_columns(["batch"])


def by_region(rows: pa.Table) -> pa.Table:
    """Rows of `REGION_COMMIT` in their order, each commit once."""
    order = [(name, "ascending") for name in ("epoch_end", "shard", "height", "commit_id")]
    ordered = rows.select(REGION_COMMIT.names).sort_by(order)
    ids = ordered["commit_id"].to_numpy(zero_copy_only=False)
    again = np.flatnonzero(ids[1:] == ids[:-1])
    if len(again):
        ordered = ordered.take(pa.array(np.delete(np.arange(len(ids)), again + 1)))
    return ordered.cast(REGION_COMMIT)


def tile_of(region: str, rows: pa.Table) -> pa.Table:
    """What rows of `REGION_COMMIT` add up to, as one row of `REGION_TILE`."""
    sums = [[str(sum(map(int, rows[name].to_pylist())))] for name in SUMS]
    count = sum(rows["n"].to_pylist())
    return pa.table([[region], [rows.num_rows], [count], *sums], schema=REGION_TILE)


def pieces(commits: Iterable[pa.Table], most: int | None = None) -> Iterator[pa.Table]:
    """The same commits in tables of some 250,000 entries, so that neither small nor large ones are a burden.

    `most`: commits and entries of a table, where other ones are wanted.
    """
    rows = _ROWS_AT_ONCE if most is None else most
    kept: list[pa.Table] = []
    size = 0
    for table in commits:
        for batch in table.to_batches():
            for piece in cut(pa.Table.from_batches([batch]), rows):
                kept.append(piece)
                size += piece.num_rows + len(pc.list_flatten(piece["entries"]))
                if size >= rows:
                    yield pa.concat_tables(kept)
                    kept, size = [], 0
    if kept:
        yield pa.concat_tables(kept)


def cut(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """The same commits in tables of at most so many commits and entries together, or of one commit."""
    lengths = pc.fill_null(pc.list_value_length(table["entries"]), 0).to_numpy()
    return runs(table, lengths + 1, rows)


def runs(table: pa.Table, sizes: np.ndarray[Any, Any], most: int) -> Iterator[pa.Table]:
    """The same rows in tables whose sizes, given for each row, add up to `most` at most; or of one row."""
    ends = np.cumsum(sizes)
    first = 0
    while first < table.num_rows:
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, "right")))
        yield table.slice(first, last - first)
        first = last
