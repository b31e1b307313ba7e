"""Stores that are one file: which files they take, and what a full disk does to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_cli.errors import UsageError
from ledger_cli.wiring import ledgers
from tests.stores.children import large, on_full_disk, opened, processes
from tests.stores.engines import EMBEDDED
from tests.stores.histories import AT, rows_of

NAMES = {"duckdb": "DuckDB", "sqlite": "SQLite"}


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_a_full_disk_is_told_and_nothing_is_half_done(engine: str, tmp_path: Path) -> None:
    context = processes()
    answer = context.Queue()
    child = context.Process(target=on_full_disk, args=(EMBEDDED[engine], tmp_path, answer))
    child.start()
    kind, message = answer.get(timeout=60)
    child.join()
    assert kind == "NotWritten", message
    assert message.endswith("free space and retry")
    store = opened(EMBEDDED[engine], tmp_path)
    assert store.batches() == {}
    store.persist_commits("commits/one.parquet", AT, large())
    read = [row for table in store.read_commits("commits/one.parquet") for row in rows_of(table)]
    assert read == [row for table in large() for row in rows_of(table)]
    store.close()


@pytest.mark.parametrize("rest", ["", "/", "commits.file"])
def test_a_url_without_a_file(engine: str, rest: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{engine}:///NAME"):
        ledgers.make_commit_store(f"{engine}://{rest}", tmp_path)


def test_relative_and_absolute_files(engine: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for url in ("sub/one.file", "it's one", f"{tmp_path}/elsewhere/two.file"):
        opened(f"{engine}:///{url}", tmp_path).close()
    assert (tmp_path / "sub/one.file").is_file()
    assert (tmp_path / "it's one").is_file()
    assert (tmp_path / "elsewhere/two.file").is_file()


def test_files_that_are_something_else(engine: str, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("something else " * 1000)
    with pytest.raises(UsageError, match=f"is no {NAMES[engine]} database: choose another file"):
        opened(f"{engine}:///other", tmp_path)
    (tmp_path / "directory").mkdir()
    with pytest.raises(UsageError, match="cannot be opened"):
        opened(f"{engine}:///directory", tmp_path)
