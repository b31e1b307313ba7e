"""The Parquet files of an archive, and their index: rows of commits, cut into files and row groups of bounded size, and
the files of whole batches as they are."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger_cli.core.archive import INDEX, ROWS, ArchivedRows
from ledger_cli.core.commit import ascend
from ledger_cli.core.history import CommitFile

_GROUP = 100_000
_FILE = 4_000_000
"""Commits and entries of a row group, and of a file."""
LARGE = 100_000
"""Batches of so many commits and entries go as they are; smaller ones are put together."""
_BATCH = ROWS.field("batch")
_INDEXED = ["commit_id", "digest", "shard", "height", "epoch_start", "epoch_end", "entries.list.element.region"]
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
            entries = _entries(piece)
            ticks = pc.min(piece["epoch_start"]).as_py(), pc.max(piece["epoch_end"]).as_py()
            self._note(piece.num_rows, entries, ticks, pc.unique(piece["shard"]).to_pylist())
            self._batches[batch] = self._batches.get(batch, 0) + piece.num_rows
            self._waiting.append(piece.append_column(_BATCH, _repeated(batch, piece.num_rows)).cast(ROWS))
            self._waiting_size += piece.num_rows + entries
            if self._waiting_size >= _GROUP:
                self._flush()
            if self._size >= _FILE:
                self._end()

    def take(self, record: CommitFile, path: Path) -> bool:
        """Add all commits of a batch by its file as it is, which costs no more than its index; False where it cannot
        be: it is small, to be encrypted, not in order, or not what the log says.
        """
        if record.commits + record.entries < LARGE or self._encryption() is not None:
            return False
        # A link, not a pointer: what the name stands for may be another file at any time.
        copy = self._directory / "copy"
        _link(path, copy)
        with pq.ParquetFile(copy) as file:
            made = _named(copy, record.commits, ((record.file, record.commits),))
            if record.file != f"commits/{made.file}" or not _in_order(file):
                copy.with_name(made.file).unlink()
                return False
            self._flush()
            self._end()
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, _INDEXED)
                self._index_rows(table.append_column(_BATCH, _repeated(record.file, table.num_rows)))
        self._note(record.commits, record.entries, (record.epoch_min, record.epoch_max), map(int, record.heights))
        self._files.append(made)
        return True

    def close(self) -> tuple[tuple[ArchivedRows, ...], ArchivedRows | None]:
        """The files, and the index; none where nothing was written."""
        self._flush()
        self._end()
        if self._index is None:
            return (), None
        self._index.close()
        return tuple(self._files), _named(self._directory / "index", self.commits, ())

    def _note(self, commits: int, entries: int, ticks: tuple[int, int], shards: Iterable[int]) -> None:
        self.commits += commits
        self.entries += entries
        self.shards |= set(shards)
        low, high = self.ticks or ticks
        self.ticks = min(low, ticks[0]), max(high, ticks[1])

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        if self._writer is None:
            self._writer = self._open("rows", ROWS, _REPEATED)
        # Each takes one core.
        indexed = self._aside.submit(self._index_rows, table)
        self._writer.write_table(table, row_group_size=table.num_rows)
        indexed.result()
        self._size += self._waiting_size
        self._waiting, self._waiting_size = [], 0

    def _index_rows(self, table: pa.Table) -> None:
        """Say of rows, each with its batch, that they are in the next file."""
        if self._index is None:
            self._index = self._open("index", INDEX, ["batch", "regions.list.element"])
        self._index.write_table(_index_of(table, len(self._files)))

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


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # on another disk, or on one that knows no links
        shutil.copyfile(path, target)


def _in_order(file: pq.ParquetFile) -> bool:
    return ascend(file.read_row_group(group, ["shard", "height"]) for group in range(file.num_row_groups))


def _repeated(text: str, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), [text]).cast(pa.string())


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
