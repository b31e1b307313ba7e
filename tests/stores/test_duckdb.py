"""What is DuckDB's own: its file opens anywhere, processes take turns, and its errors say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ledger_cli.errors import Unavailable
from ledger_cli.stores import duckdb as adapter
from tests.stores.children import opened, processes
from tests.stores.histories import AT, LARGEST, REGIONS, chain

URL = "duckdb:///commits.duckdb"


def hold(file: Path, held: Any, release: Any, read_only: bool) -> None:
    """Hold a file as another process."""
    with duckdb.connect(str(file), read_only=read_only):
        held.set()
        release.wait(30)


@contextmanager
def held(file: Path, seconds: float | None = None, read_only: bool = False) -> Iterator[None]:
    """Another process holds a file, for some seconds at most."""
    context = processes()
    has, release = context.Event(), context.Event()
    child = context.Process(target=hold, args=(file, has, release, read_only))
    child.start()
    has.wait(30)
    if seconds is not None:
        release.wait(seconds)
        release.set()
    yield
    release.set()
    child.join()


def test_the_tables_open_well_elsewhere(tmp_path: Path) -> None:
    store = opened(URL, tmp_path)
    table = chain("a", 0, range(4), REGIONS)
    store.persist_commits("commits/one.parquet", AT, [table])
    with duckdb.connect(str(tmp_path / "commits.duckdb")) as connection:
        types = dict(connection.execute("SELECT column_name, column_type FROM (DESCRIBE commit_entries)").fetchall())
        more = dict(connection.execute("SELECT column_name, column_type FROM (DESCRIBE commits)").fetchall())
        weights = connection.execute("SELECT max(sum_weight), min(summary->>'$.policy') FROM commit_entries, commits")
        assert weights.fetchone() == (LARGEST >> 40, "p" * 64)
        # The key counts on, whoever inserts.
        columns = "commit_id, region_id, weight, activity_mean, activity_var, created_at, n, sum_activity, "
        columns += "sum_activity2, sum_weight, epoch_start, epoch_end"
        connection.execute(f"INSERT INTO commit_entries ({columns}) SELECT {columns} FROM commit_entries LIMIT 1")
    assert (types["id"], types["commit_id"], types["sum_weight"]) == ("BIGINT", "UUID", "HUGEINT")
    assert (more["created_at"], more["summary"]) == ("TIMESTAMP WITH TIME ZONE", "JSON")


def test_who_finds_the_file_held_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(URL, tmp_path)
    file = tmp_path / "commits.duckdb"
    store.advance_ref("main", 0, b"move")
    with held(file, seconds=0.3):
        store.advance_ref("main", 1, b"another")
    monkeypatch.setattr(adapter, "PATIENCE_SECONDS", 0.2)
    with held(file):
        with pytest.raises(Unavailable, match=r"in use by another process.*run the command again"):
            store.advance_ref("main", 2, b"third")
        with pytest.raises(Unavailable):
            store.read_ref("main", 0)
    assert store.move_numbers("main") == [0, 1]


def test_reading_processes_hold_it_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(URL, tmp_path)
    store.advance_ref("main", 0, b"move")
    monkeypatch.setattr(adapter, "PATIENCE_SECONDS", 0.2)
    with held(tmp_path / "commits.duckdb", read_only=True):
        assert store.read_ref("main", 0) == b"move"


def test_nothing_is_held_between_calls(tmp_path: Path) -> None:
    store = opened(URL, tmp_path)
    store.persist_commits("commits/one.parquet", AT, [chain("a", 0, range(4), REGIONS)])
    pieces = store.read_commits("commits/one.parquet")
    next(pieces)
    other = opened(URL, tmp_path)
    other.advance_ref("main", 0, b"move")
    with held(tmp_path / "commits.duckdb", seconds=0):
        assert sum(piece.num_rows for piece in pieces) == 4
