"""Files of many row groups, in whatever order they were written, are read and written anew in that of the chains."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_cli.core.archive import ReadIds
from ledger_cli.stores.common import parquet_commits
from ledger_cli.stores.directory import DirectoryStore
from tests.stores.histories import AT, chain

BATCH = "commits/a.parquet"


def runs(shards: int) -> list[pa.Table]:
    """What a job writes: of each run of heights the commits of every shard."""
    return [chain("a", shard, range(first, first + 5)) for first in range(0, 40, 5) for shard in range(shards)]


@pytest.mark.parametrize("at_once", [0, 1_000_000])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("stays", [0, 1])
def test_archived_and_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int, at_once: int, stays: int
) -> None:
    monkeypatch.setattr(parquet_commits, "_ROWS_PER_ROW_GROUP", 20)
    monkeypatch.setattr(parquet_commits, "_READ_AT_ONCE", 7)
    monkeypatch.setattr(parquet_commits, "_SORTED_AT_ONCE", at_once)
    store = DirectoryStore(tmp_path)
    store.persist_commits(BATCH, AT, runs(shards))
    assert pq.read_metadata(store.location(BATCH)).num_row_groups > 3
    ordered = pa.concat_tables(runs(shards)).sort_by([("shard", "ascending"), ("height", "ascending")])
    assert pa.concat_tables(store.read_commits(BATCH)).to_pylist() == ordered.to_pylist()
    counts = store.read_counts(BATCH)
    gone = ordered.slice(stays)
    pieces = [gone["commit_id"].slice(at, 9) for at in range(0, gone.num_rows, 9)]
    store.archive_commits(BATCH, ReadIds(gone.num_rows, lambda: pieces))
    read = pa.concat_tables(store.read_commits(BATCH))
    assert read["entries"].slice(stays).null_count == gone.num_rows
    assert read["entries"].slice(0, stays).to_pylist() == ordered["entries"].slice(0, stays).to_pylist()
    assert read.drop_columns("entries").to_pylist() == ordered.drop_columns("entries").to_pylist()
    assert store.read_counts(BATCH).to_pylist() == counts.to_pylist()
    store.restore_commits(BATCH, [gone.slice(at, 9) for at in range(0, gone.num_rows, 9)])
    assert pa.concat_tables(store.read_commits(BATCH)).to_pylist() == ordered.to_pylist()
