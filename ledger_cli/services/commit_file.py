"""The file of one job: its commits as Parquet, and the record of it that the ref keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.commit import COMMIT
from ledger_cli.core.history import CommitFile

ENTRIES_PER_ROW_GROUP = 250_000


class CommitWriter:
    """Writes the commits of one job into one Parquet file."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "commits.parquet"
        self.commits = 0
        self.entries = 0
        self._epochs: tuple[int, int] | None = None
        self._heights: dict[str, tuple[int, int]] = {}

    def write(self, tables: Iterator[pa.Table]) -> CommitWriter:
        """Write all tables; where none has a row there is no file."""
        writer: pq.ParquetWriter | None = None
        try:
            for table in tables:
                if writer is None:
                    writer = pq.ParquetWriter(self.path, COMMIT, compression="zstd")
                self._note(table)
                per_commit = max(1, len(table["entries"].combine_chunks().values) // table.num_rows)
                writer.write_table(table, row_group_size=max(1, ENTRIES_PER_ROW_GROUP // per_commit))
        finally:
            if writer is not None:
                writer.close()
        return self

    def as_file(self) -> CommitFile:
        """The record of the file, still without its name and digest."""
        assert self._epochs is not None, "there is a file"
        return CommitFile("", "", 0, self.commits, self.entries, *self._epochs, self._heights)

    def _note(self, table: pa.Table) -> None:
        self.commits += table.num_rows
        self.entries += sum(len(chunk.values) for chunk in table["entries"].chunks)
        starts, ends = table["epoch_start"].to_numpy(), table["epoch_end"].to_numpy()
        first, last = int(starts.min()), int(ends.max())
        known = self._epochs or (first, last)
        self._epochs = min(first, known[0]), max(last, known[1])
        shards, heights = table["shard"].to_numpy(), table["height"].to_numpy()
        for shard in sorted(set(shards.tolist())):
            mine = heights[shards == shard]
            first, _ = self._heights.get(str(shard), (int(mine.min()), 0))
            self._heights[str(shard)] = (first, int(mine.max()))
