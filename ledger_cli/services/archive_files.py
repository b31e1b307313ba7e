"""The Parquet files of an archive: rows of commits, cut into files and row groups of bounded size, and their index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger_cli.core.archive import INDEX, ROWS, ArchivedRows

_GROUP = 100_000
_FILE = 4_000_000
"""Commits and entries of a row group, and of a file."""
_REPEATED = ["layer", "policy", "metadata", "reason", "batch", "entries.list.element.region"]
"""Columns in which few values are met again and again; digests never are."""


class FileWriter:
    """Writes commits, in order of batch, shard and height, into files named by their digests."""

    def __init__(self, directory: Path, encryption: Callable[[], Any]) -> None:
        self._directory = directory
        self._encryption = encryption
        self._files: list[ArchivedRows] = []
        self._batches: dict[str, int] = {}
        self._writer: pq.ParquetWriter | None = None
        self._index: pq.ParquetWriter | None = None
        self._aside = ThreadPoolExecutor(1)
        self._waiting: list[pa.Table] = []
        self._waiting_size = 0
        self._size = 0
        self.commits = 0
        self.entries = 0
        self.ticks: tuple[int, int] | None = None
        self.shards: set[int] = set()

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of files that were not finished, since the disk is full for example."""
        self._aside.shutdown()
        for writer in (self._writer, self._index):
            if writer is not None and writer.is_open:
                with suppress(OSError, pa.ArrowException):
                    writer.close()

    def write(self, batch: str, commits: pa.Table) -> None:
        """Add commits of a batch, all with entries."""
        for piece in _cut(commits):
            self._note(batch, piece)
            size = piece.num_rows + _entries(piece)
            column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(piece.num_rows, np.int32)), [batch])
            self._waiting.append(piece.append_column(ROWS.field("batch"), column.cast(pa.string())).cast(ROWS))
            self._waiting_size += size
            if self._waiting_size >= _GROUP:
                self._flush()
            if self._size >= _FILE:
                self._end()

    def close(self) -> tuple[tuple[ArchivedRows, ...], ArchivedRows | None]:
        """The files, and the index; none where nothing was written."""
        self._flush()
        self._end()
        if self._index is None:
            return (), None
        self._index.close()
        return tuple(self._files), _named(self._directory / "index", self.commits, ())

    def _note(self, batch: str, piece: pa.Table) -> None:
        self._batches[batch] = self._batches.get(batch, 0) + piece.num_rows
        self.commits += piece.num_rows
        self.entries += _entries(piece)
        self.shards |= set(pc.unique(piece["shard"]).to_pylist())
        low, high = pc.min(piece["epoch_start"]).as_py(), pc.max(piece["epoch_end"]).as_py()
        known = self.ticks or (low, high)
        self.ticks = min(low, known[0]), max(high, known[1])

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        if self._writer is None:
            self._writer = self._open("rows", ROWS, _REPEATED)
        if self._index is None:
            self._index = self._open("index", INDEX, ["batch", "regions.list.element"])
        # Each takes one core.
        indexed = self._aside.submit(self._index.write_table, _index_of(table, len(self._files)))
        self._writer.write_table(table, row_group_size=table.num_rows)
        indexed.result()
        self._size += self._waiting_size
        self._waiting, self._waiting_size = [], 0

    def _open(self, name: str, schema: pa.Schema, repeated: list[str]) -> pq.ParquetWriter:
        return pq.ParquetWriter(
            self._directory / name,
            schema,
            compression="zstd",
            use_dictionary=repeated,
            encryption_properties=self._encryption(),
        )

    def _end(self) -> None:
        if self._writer is None:
            return
        self._flush()
        self._writer.close()
        self._writer = None
        batches = tuple(self._batches.items())
        self._files.append(_named(self._directory / "rows", sum(self._batches.values()), batches))
        self._batches, self._size = {}, 0


def _named(path: Path, rows: int, batches: tuple[tuple[str, int], ...]) -> ArchivedRows:
    """The record of a finished file, which gets the name of its digest."""
    with path.open("rb") as file:
        digest, size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
    path.replace(path.with_name(f"{digest}.parquet"))
    return ArchivedRows(f"{digest}.parquet", digest, size, rows, batches)


def _index_of(table: pa.Table, file: int) -> pa.Table:
    lists = table["entries"].combine_chunks()
    offsets = pa.array(np.r_[0, np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False))], pa.int32())
    regions = pa.ListArray.from_arrays(offsets, lists.flatten().field("region"), type=INDEX.field("regions").type)
    names = [name for name in INDEX.names if name not in ("file", "regions")]
    columns = [table[name] for name in names]
    return pa.table([*columns, pa.array(np.full(table.num_rows, file, np.int32)), regions], schema=INDEX)


def _entries(table: pa.Table) -> int:
    return int(pc.sum(pc.list_value_length(table["entries"])).as_py() or 0)


def _cut(table: pa.Table) -> Iterator[pa.Table]:
    ends = np.cumsum(pc.list_value_length(table["entries"]).to_numpy().astype(np.int64) + 1)
    first = 0
    while first < table.num_rows:
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _GROUP, "right")))
        yield table.slice(first, last - first)
        first = last
