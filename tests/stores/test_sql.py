"""What the SQL engines have in common: kills at any statement, lost acknowledgements, races, versions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ledger_cli.core.events import ENTITY_STATE
from ledger_cli.errors import Conflict, Corrupt, UsageError
from ledger_cli.ports import TickRange
from ledger_cli.stores.common.sql import SqlStore
from tests.stores.children import act_on, interrupt, killed, opened, processes, race
from tests.stores.engines import NAMES, place
from tests.stores.histories import AT, REGIONS, chain, file_of, history, rows_of

SQL = [name for name in NAMES if name in ("duckdb", "postgres", "sqlite")]
EMBEDDED = [name for name in SQL if name != "postgres"]
ACTS = ["persist", "advance", "remove", "archive"]


class Cut(Exception):
    pass


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with place(request.param) as made:
        yield made


@pytest.fixture
def stores(url: str, tmp_path: Path) -> Iterator[Callable[[], SqlStore]]:
    made: list[SqlStore] = []

    def again() -> SqlStore:
        made.append(opened(url, tmp_path))
        return made[-1]

    yield again
    for each in made:
        each.close()


every = pytest.mark.parametrize("url", SQL, indirect=True)
embedded = pytest.mark.parametrize("url", EMBEDDED, indirect=True)


def begin(store: SqlStore) -> None:
    """A batch that shares commits with the one that is to come."""
    store.persist_commits("commits/one.parquet", AT, [chain("a", 0, range(6), REGIONS)])


def content(store: SqlStore) -> Any:
    """All that anyone can see."""
    batches = {batch: rows_of(pa.concat_tables(store.read_commits(batch))) for batch in store.batches()}
    return batches, {ref: [store.read_ref(ref, seq) for seq in store.move_numbers(ref)] for ref in store.branches()}


def undisturbed(act: str) -> Any:
    """What is to be seen after an act, by the tables alone."""
    one, more = chain("a", 0, range(6), REGIONS), [chain("a", 0, range(3, 9), REGIONS), chain("a", 1, range(5))]
    rows = {"commits/one.parquet": rows_of(one)}
    if act == "persist":
        rows["commits/two.parquet"] = rows_of(pa.concat_tables(more))
    elif act == "remove":
        rows = {}
    elif act == "archive":
        rows["commits/one.parquet"] = [
            {**row, "entries": None} if row["height"] < 3 else row for row in rows["commits/one.parquet"]
        ]
    return rows, {"main": [b"mine"]} if act == "advance" else {}


@every
@pytest.mark.parametrize("act", ACTS)
def test_an_act_cut_off_at_any_statement_is_completed_by_the_next(stores: Callable[[], SqlStore], act: str) -> None:
    at, came_to_it = 0, True
    store = stores()
    while came_to_it:
        begin(store)
        before = content(store)

        def cut() -> None:
            raise Cut

        cut_off = stores()
        left = interrupt(cut_off, at, cut)
        try:
            act_on(cut_off, act)
        except Cut:
            assert content(store) == before
        came_to_it = left[0] < 0
        if came_to_it:
            act_on(store, act)
        assert content(store) == undisturbed(act)
        if act == "advance":
            return_to_nothing = "DELETE FROM moves"
            store._write(lambda session, sql=return_to_nothing: session.rows(sql))
        for batch in store.batches():
            store.remove_batch(batch)
        at += 1
    assert at > 1


@embedded
@pytest.mark.parametrize("act", ["persist", "advance", "remove"])
def test_a_process_killed_at_any_statement_leaves_nothing_half_done(
    url: str, stores: Callable[[], SqlStore], tmp_path: Path, act: str
) -> None:
    store = stores()
    begin(store)
    before = content(store)
    for at in range(20):
        child = processes().Process(target=killed, args=(url, tmp_path, act, at))
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        assert child.exitcode == -9
        assert content(store) == before
    assert at > 1
    assert content(store) == undisturbed(act)


@every
@pytest.mark.parametrize("act", ACTS)
def test_a_lost_acknowledgement_changes_nothing(
    stores: Callable[[], SqlStore], act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores()
    begin(store)
    write = store._write

    def done_twice(work: Any) -> Any:
        # The transaction came through, its acknowledgement did not: it is done again.
        write(work)
        return write(work)

    monkeypatch.setattr(store, "_write", done_twice)
    act_on(store, act)
    assert content(store) == undisturbed(act)
    if act == "advance":
        with pytest.raises(Conflict):
            store.advance_ref("main", 0, b"mine too")


@every
def test_two_processes_race_for_a_ref(url: str, stores: Callable[[], SqlStore], tmp_path: Path) -> None:
    store = stores()
    context = processes()
    won = context.Queue()
    racers = [context.Process(target=race, args=(url, tmp_path, name, 8, won)) for name in ("a", "b")]
    for each in racers:
        each.start()
    for each in racers:
        each.join()
    assert [each.exitcode for each in racers] == [0, 0]
    winners = dict(won.get(timeout=5) for _ in range(8))
    assert won.empty()
    assert [store.read_ref("main", seq) for seq in range(8)] == [f"{seq} {winners[seq]}".encode() for seq in range(8)]
    won.close()
    won.join_thread()


@every
def test_a_commit_that_comes_twice_at_once_is_one(stores: Callable[[], SqlStore]) -> None:
    store = stores()
    table = chain("a", 0, range(4), REGIONS)
    store.persist_commits("commits/one.parquet", AT, [table, table.slice(2)])
    assert rows_of(pa.concat_tables(store.read_commits("commits/one.parquet"))) == rows_of(table)


@every
def test_writers_of_the_same_commits_do_not_lose_any(stores: Callable[[], SqlStore]) -> None:
    tables = [chain("a", 0, range(first, first + 30), REGIONS) for first in (0, 10, 20, 5)]
    writers = [
        threading.Thread(target=stores().persist_commits, args=(f"commits/{number}.parquet", AT, [table]))
        for number, table in enumerate(tables)
    ]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    store = stores()
    for number, table in enumerate(tables):
        assert rows_of(pa.concat_tables(store.read_commits(f"commits/{number}.parquet"))) == rows_of(table)
        store.remove_batch(f"commits/{number}.parquet")
    counts = "SELECT (SELECT count(*) FROM commits) + (SELECT count(*) FROM commit_entries)"
    assert store._read(lambda session: session.rows(f"{counts} + (SELECT count(*) FROM repeats)")) == [(0,)]


@every
def test_a_missing_move_is_told(stores: Callable[[], SqlStore]) -> None:
    store = stores()
    for seq in range(4):
        store.advance_ref("main", seq, b"%d" % seq)
    store._write(lambda session: session.rows("DELETE FROM moves WHERE seq = 1"))
    with pytest.raises(Corrupt, match="move 1 of main is missing"):
        stores().advance_ref("main", 4, b"4")


@every
def test_a_newer_version_is_refused(stores: Callable[[], SqlStore]) -> None:
    store = stores()
    store._write(lambda session: session.rows("INSERT INTO schema_version VALUES (99)"))
    with pytest.raises(UsageError, match=r"version 99.* install a newer ledger-cli"):
        stores()


@every
def test_a_history_of_a_batch_that_is_not_there_is_told(stores: Callable[[], SqlStore]) -> None:
    store = stores()
    table = chain("a", 0, range(3))
    asked = history(file_of("commits/gone.parquet", table))
    with pytest.raises(Corrupt, match=r"gone\.parquet is missing"):
        store.query_commits_by_region(asked, "0:0", TickRange())
    with pytest.raises(Corrupt, match=r"gone\.parquet is missing"):
        store.query_commit(asked, table["commit_id"][0].as_py())
    assert store.query_commit(history(), "no id") is None


@every
def test_entries_that_got_lost_are_told(stores: Callable[[], SqlStore]) -> None:
    store = stores()
    table = chain("a", 0, range(9), REGIONS)
    store.persist_commits("commits/one.parquet", AT, [table])
    store._write(
        lambda session: session.rows("DELETE FROM commit_entries WHERE id = (SELECT max(id) FROM commit_entries)")
    )
    last = next(row["commit_id"] for row in reversed(table.to_pylist()) if row["entries"])
    with pytest.raises(Corrupt, match="lacks entries"):
        store.query_commit(history(file_of("commits/one.parquet", table)), last)
    with pytest.raises(Corrupt, match="lacks entries"):
        list(store.read_commits("commits/one.parquet"))


@every
def test_large_batches_come_back_in_pieces(stores: Callable[[], SqlStore], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger_cli.stores.common.sql._PAGE", 7)
    monkeypatch.setattr("ledger_cli.stores.common.sql._ENTRIES_AT_ONCE", 12)
    monkeypatch.setattr("ledger_cli.stores.common.rows._ROWS_AT_ONCE", 20)
    store = stores()
    # Some commits belong to a batch before.
    store.persist_commits("commits/one.parquet", AT, [chain("a", 0, range(10, 20), REGIONS)])
    tables = [chain("a", 0, range(31), REGIONS), chain("a", 1, range(14), REGIONS)]
    store.persist_commits("commits/two.parquet", AT, tables)
    read = list(store.read_commits("commits/two.parquet"))
    assert len(read) > 7
    assert rows_of(pa.concat_tables(read)) == rows_of(pa.concat_tables(tables))


@every
def test_texts_of_entities_come_back_as_they_were(stores: Callable[[], SqlStore]) -> None:
    rows = [
        {
            "entity_id": f"E{number}",
            "last_tick": 1,
            "activity": 5e-324,
            "activity_history": "[[1,5e-324]]",
            "metadata": text,
        }
        for number, text in enumerate(
            ['{"a":1.0,"a":2}', '{ "ü" : "\\u0000 \\ud800 𝄞" }', '{"q":"\'\\"\\\\u0000"}', "{}"]
        )
    ]
    store = stores()
    store.upsert_entity_state(pa.Table.from_pylist([*rows, {**rows[0], "last_tick": 0}], ENTITY_STATE))
    assert store.entity_state().to_pylist() == rows
