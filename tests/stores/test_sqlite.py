"""What is SQLite's own: its file opens anywhere, writers wait for each other, and its errors say what to do."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from ledger_cli.errors import Corrupt, Unavailable
from ledger_cli.ports import TickRange
from ledger_cli.stores import sqlite
from tests.stores.children import large, opened, processes
from tests.stores.histories import AT, LARGEST, REGIONS, chain, file_of, history

URL = "sqlite:///commits.sqlite"


def test_the_tables_open_well_elsewhere(tmp_path: Path) -> None:
    store = opened(URL, tmp_path)
    table = chain("a", 0, range(4), REGIONS)
    store.persist_commits("commits/one.parquet", AT, [table])
    store.advance_ref("main", 0, b"move")
    with closing(sqlite3.connect(tmp_path / "commits.sqlite")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("SELECT \"table\" FROM pragma_foreign_key_list('commit_entries')").fetchone() == (
            "commits",
        )
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(commit_entries)")]
        assert columns[:8] == [
            *("id", "commit_id", "region_id", "weight", "activity_mean", "activity_var", "entity_refs", "created_at")
        ]
        rows = connection.execute(
            """SELECT commit_id, count(*), sum(weight), max(length(sum_weight)) <= 39,
                json_extract(summary, '$.regions') FROM commits JOIN commit_entries USING (commit_id)
                GROUP BY commit_id"""
        ).fetchall()
    expected = {row["commit_id"]: len(row["entries"]) for row in table.to_pylist() if row["entries"]}
    assert {row[0]: row[1] for row in rows} == expected
    assert all(row[1] == row[4] and row[3] for row in rows)
    assert str(LARGEST >> 40) in {entry["weight"] for row in table.to_pylist() for entry in row["entries"]}
    store.close()


def test_sqlite_utils_finds_keys_relations_and_json(tmp_path: Path) -> None:
    sqlite_utils = pytest.importorskip("sqlite_utils")
    store = opened(URL, tmp_path)
    table = chain("a", 0, range(4), REGIONS)
    store.persist_commits("commits/one.parquet", AT, [table])
    store.close()
    with sqlite_utils.Database(tmp_path / "commits.sqlite") as database:
        keys = {each.name: each.pks for each in database.tables}
        assert keys["commits"] == ["commit_id"]
        assert keys["commit_entries"] == ["id"]
        assert keys["entity_state"] == ["entity_id"]
        entries = database["commit_entries"]
        ((column, *of),) = [(key.column, key.other_table, key.other_column) for key in entries.foreign_keys]
        assert (column, of) == ("commit_id", ["commits", "commit_id"])
        indexed = {name: [each.columns[0] for each in database[name].indexes] for name in ("commits", "commit_entries")}
        assert {"created_at", "commit_id"} <= {*indexed["commits"]}
        assert {"region_id", "commit_id"} <= {*indexed["commit_entries"]}
        assert {type(json.loads(row["summary"])) for row in database["commits"].rows} == {dict}


def test_every_commit_is_synced(tmp_path: Path) -> None:
    store = opened(URL, tmp_path)
    assert store._read(lambda session: session.rows("PRAGMA synchronous")) == [(2,)]
    store.close()


def test_a_writer_waits_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(URL, tmp_path)
    with closing(sqlite3.connect(tmp_path / "commits.sqlite", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        release.start()
        begun = time.monotonic()
        store.advance_ref("main", 0, b"move")
        assert time.monotonic() - begun > 0.2
        release.join()
        assert store.read_ref("main", 0) == b"move"
        store.close()
        monkeypatch.setattr(sqlite, "PATIENCE_SECONDS", 0.2)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match=r"in use by another process.*run the command again"):
            store.advance_ref("main", 1, b"another")
        assert store.read_ref("main", 1) is None
        other.execute("ROLLBACK")
    store.advance_ref("main", 1, b"another")
    store.close()


def test_many_processes_make_the_same_new_file(tmp_path: Path) -> None:
    context = processes()
    makers = [context.Process(target=opened, args=(URL, tmp_path)) for _ in range(6)]
    for each in makers:
        each.start()
    for each in makers:
        each.join()
    assert [each.exitcode for each in makers] == [0] * 6


def test_reads_go_on_while_another_writes(tmp_path: Path) -> None:
    store = opened(URL, tmp_path)
    table = chain("a", 0, range(4), ["r"])
    store.persist_commits("commits/one.parquet", AT, [table])
    with closing(sqlite3.connect(tmp_path / "commits.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM commit_entries")
        asked = history(file_of("commits/one.parquet", table))
        found = store.query_commits_by_region(asked, "r", TickRange())
        other.execute("ROLLBACK")
    assert found.num_rows == sum(len(row["entries"]) for row in table.to_pylist())
    store.close()


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    store = opened(URL, tmp_path)
    store.persist_commits("commits/one.parquet", AT, large())
    store.close()
    with open(tmp_path / "commits.sqlite", "r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * 100_000)
    with pytest.raises(Corrupt, match="restore it from a copy"):
        list(opened(URL, tmp_path).read_commits("commits/one.parquet"))
