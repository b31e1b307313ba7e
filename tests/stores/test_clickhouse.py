"""ClickHouse, by chDB: what a kill leaves is made whole, processes take turns, and each failure is one line."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ledger_cli.core.slices import History
from ledger_cli.errors import Corrupt, LedgerError, NotWritten, Unavailable, UsageError
from ledger_cli.ports import TickRange
from ledger_cli.stores import clickhouse
from ledger_cli.stores.clickhouse import ClickhouseStore, translated
from tests.stores.histories import AT, REGIONS, chain, file_of, history, rows_of

URL = "clickhouse+chdb:///commits.chdb"
BATCH = "commits/a.parquet"
TABLE = chain("a", 0, range(6), REGIONS)
ASKED: History = history(file_of(BATCH, TABLE))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ClickhouseStore]:
    made = ClickhouseStore(URL, tmp_path)
    made.create()
    yield made
    made.close()


class _Killed(BaseException):
    """Nobody catches it."""


def _killed_at(store: ClickhouseStore, monkeypatch: pytest.MonkeyPatch, statement: int, act: Callable[[], Any]) -> bool:
    """Whether an act came to a statement of that number, where it was cut off."""
    whole, done = store._engine.within, iter(range(statement))

    def within(work: Callable[[Any], Any]) -> Any:
        if next(done, None) is None:
            raise _Killed
        return whole(work)

    with monkeypatch.context() as patched:
        patched.setattr(store._engine, "within", within)
        try:
            act()
        except _Killed:
            return True
    return False


def _content(store: ClickhouseStore) -> list[dict[str, Any]]:
    return rows_of(pa.concat_tables(store.read_commits(BATCH)))


def test_a_persist_killed_anywhere_is_completed(store: ClickhouseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def persist() -> None:
        store.persist_commits(BATCH, AT, [TABLE])

    statement = 0
    while _killed_at(store, monkeypatch, statement, persist):
        persist()
        assert _content(store) == rows_of(TABLE)
        found = store.query_commits_by_region(ASKED, "A", TickRange())
        assert len(set(found["commit_id"].to_pylist())) == found.num_rows
        assert store.batches() == {BATCH: AT}
        store.remove_batch(BATCH)
        assert store.batches() == {}
        statement += 1
    assert statement > 3


def test_a_removal_killed_anywhere_is_no_whole_batch(store: ClickhouseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    statement = 0
    store.persist_commits(BATCH, AT, [TABLE])
    while _killed_at(store, monkeypatch, statement, lambda: store.remove_batch(BATCH)):
        store.persist_commits(BATCH, AT, [TABLE])
        assert _content(store) == rows_of(TABLE), statement
        statement += 1
    assert statement > 3
    assert store.batches() == {}
    assert store._table("SELECT count() AS n FROM commit_entries")["n"].to_pylist() == [0]


@pytest.mark.parametrize("back", [False, True])
def test_archives_killed_anywhere(store: ClickhouseStore, monkeypatch: pytest.MonkeyPatch, back: bool) -> None:
    ids = TABLE["commit_id"].to_pylist()[1:4]
    statement = 0

    def act() -> None:
        if back:
            store.restore_commits(BATCH, [TABLE])
        else:
            store.archive_commits(BATCH, ids)

    store.persist_commits(BATCH, AT, [TABLE])
    whole = rows_of(TABLE)
    gone = [{**row, "entries": None} if row["commit_id"] in ids else row for row in whole]
    while True:
        if back:
            store.archive_commits(BATCH, ids)
        else:
            store.restore_commits(BATCH, [TABLE])
        killed = _killed_at(store, monkeypatch, statement, act)
        seen = [row["entries"] for row in _content(store)]
        assert all(entries in (None, row["entries"]) for entries, row in zip(seen, whole, strict=True))
        act()
        assert _content(store) == (whole if back else gone)
        if not killed:
            break
        statement += 1
    assert statement > 1


def _persist_and_die(directory: str, number: int) -> None:
    store = ClickhouseStore(URL, Path(directory))
    store.create()
    whole, left = store._engine.within, iter(range(number))

    def within(work: Callable[[Any], Any]) -> Any:
        if next(left, None) is None:
            signal.raise_signal(signal.SIGKILL)
        return whole(work)

    store._engine.within = within  # type: ignore[method-assign]
    store.persist_commits(BATCH, AT, [TABLE])


@pytest.mark.parametrize("number", [2, 3])
def test_a_killed_process(tmp_path: Path, number: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_persist_and_die, args=(str(tmp_path), number))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    store = ClickhouseStore(URL, tmp_path)
    store.create()
    store.persist_commits(BATCH, AT, [TABLE])
    assert _content(store) == rows_of(TABLE)
    store.close()


def _persist(directory: str, batch: str) -> None:
    store = ClickhouseStore(URL, Path(directory))
    store.create()
    store.persist_commits(batch, AT, [chain(batch, 0, range(3))])
    store.close()


def test_processes_wait_for_each_other(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    batches = [f"commits/{number}.parquet" for number in range(3)]
    writers = [spawn.Process(target=_persist, args=(str(tmp_path), batch)) for batch in batches]
    for each in writers:
        each.start()
    for each in writers:
        each.join(90)
        assert each.exitcode == 0
    store = ClickhouseStore(URL, tmp_path)
    assert sorted(store.batches()) == batches
    store.close()


def _hold(directory: str, held: Any, done: Any) -> None:
    store = ClickhouseStore(URL, Path(directory))
    store.create()
    held.set()
    done.wait(60)


def test_who_waits_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = multiprocessing.get_context("spawn")
    held, done = spawn.Event(), spawn.Event()
    holder = spawn.Process(target=_hold, args=(str(tmp_path), held, done))
    holder.start()
    assert held.wait(60)
    monkeypatch.setattr(clickhouse, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(Unavailable, match="in use by another process"):
        ClickhouseStore(URL, tmp_path).create()
    done.set()
    holder.join(60)


def test_two_directories_in_one_process(store: ClickhouseStore, tmp_path: Path) -> None:
    other = ClickhouseStore("clickhouse+chdb:///other.chdb", tmp_path)
    other.create()
    other.persist_commits(BATCH, AT, [TABLE])
    assert store.batches() == {}
    assert other.batches() == {BATCH: AT}
    other.close()


def test_what_cannot_be_opened_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: Any) -> Any:
        raise OSError("Error initializing EmbeddedServer")

    store = ClickhouseStore(URL, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(clickhouse, "_client", fails)
        with pytest.raises(UsageError, match="cannot be opened"):
            store.create()
    monkeypatch.setattr(clickhouse, "PATIENCE_SECONDS", 0.1)
    store.create()
    assert store.batches() == {}
    store.close()


def test_tables_of_a_newer_program(store: ClickhouseStore) -> None:
    store._insert("schema_version", pa.table({"version": [99]}))
    with pytest.raises(UsageError, match="install a newer ledger-cli"):
        store.create()


def test_lost_entries_are_told(store: ClickhouseStore) -> None:
    store.persist_commits(BATCH, AT, [TABLE])
    store._run("DELETE FROM commit_entries WHERE region_id = 'A'")
    with pytest.raises(Corrupt, match="lacks entries"):
        _content(store)


def test_the_tables_are_those_of_clickhouse(store: ClickhouseStore) -> None:
    store.persist_commits(BATCH, AT, [TABLE])
    sql = """SELECT commit_entries.region_id AS region, sum(commit_entries.sum_weight) AS total,
        any(commits.summary.regions) AS regions FROM commit_entries JOIN commits USING commit_id GROUP BY region"""
    found = {row["region"] for row in store._table(sql.replace(" AS total", "::String AS total")).to_pylist()}
    assert found == {entry["region"] for row in TABLE.to_pylist() for entry in row["entries"]}


@pytest.mark.parametrize("url", ["clickhouse+chdb://relative", "clickhouse://", "clickhouse://host"])
def test_bad_urls(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        ClickhouseStore(url, tmp_path)


def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clickhouse, "_WAITS", (0.0,))
    store = ClickhouseStore("clickhouse://someone:secret@127.0.0.1:9/db", tmp_path)
    with pytest.raises(Unavailable, match=r"clickhouse://127\.0\.0\.1:9/db does not answer") as raised:
        store.create()
    assert "secret" not in str(raised.value)
    assert "someone" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Code: 516. DB::Exception: ledger: Authentication failed (AUTHENTICATION_FAILED)", UsageError),
        ("Code: 81. DB::Exception: Database x does not exist. (UNKNOWN_DATABASE)", UsageError),
        ("Code: 497. DB::Exception: Not enough privileges. (ACCESS_DENIED)", UsageError),
        ("Code: 243. DB::Exception: Cannot reserve 1.00 MiB (NOT_ENOUGH_SPACE)", NotWritten),
        ("Code: 47.\nDB::Exception: anything else", LedgerError),
    ],
)
def test_one_clear_line_each(text: str, kind: type[LedgerError]) -> None:
    told = translated("clickhouse://host/db", Exception(text))
    assert type(told) is kind
    assert "\n" not in str(told)
