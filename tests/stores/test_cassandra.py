"""What is Cassandra's own: lost answers, kills between any two statements, clocks that differ, large commits."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ledger_cli.errors import Conflict, Corrupt, LedgerError, NotWritten, Unavailable, UsageError
from ledger_cli.ports import TickRange
from ledger_cli.stores.cassandra import CassandraStore, connection, schema
from ledger_cli.stores.cassandra import rows as table_rows
from ledger_cli.stores.cassandra import store as stores
from ledger_cli.stores.common import rows
from tests.memory_store import MemoryStore
from tests.stores.engines import SERVERS, place
from tests.stores.histories import AT, LARGEST, REGIONS, chain, file_of, found_in, history, rows_of

URL = os.environ[SERVERS["cassandra"]]
BATCH = "commits/a.parquet"
HERE = Path()


@pytest.fixture
def store() -> Iterator[CassandraStore]:
    with place("cassandra") as url:
        made = CassandraStore(url, HERE)
        made.create()
        yield made
        made.close()


def test_who_cannot_connect_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.5)
    place = URL.rpartition("/")[0]
    with pytest.raises(UsageError, match="CREATE KEYSPACE"):
        CassandraStore(f"{place}/nowhere", HERE).create()
    with pytest.raises(UsageError, match="no such host"):
        CassandraStore("cassandra://no-such-host.invalid:9042/ledger", HERE).create()
    with pytest.raises(Unavailable, match="safe to run the command again") as raised:
        CassandraStore("cassandra://me:secret@127.0.0.1:1/ledger", HERE).create()
    assert "secret" not in str(raised.value)


def test_a_newer_schema_is_refused(store: CassandraStore) -> None:
    newer = len(schema.MIGRATIONS) + 1
    store._connection.rows("INSERT INTO schema_version (version) VALUES (?)", newer)
    try:
        with pytest.raises(UsageError, match="install a newer ledger-cli"):
            CassandraStore(URL, HERE).create()
    finally:
        store._connection.rows("DELETE FROM schema_version WHERE version = ?", newer)


class Killed(Exception):
    """Stands for a process that ends."""


def test_a_rerun_completes_what_a_kill_left(store: CassandraStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_ROWS_AT_ONCE", 30)
    monkeypatch.setattr(stores, "_COMMITS_A_PAGE", 5)
    monkeypatch.setattr(table_rows, "ENTRIES_A_PART", 2)
    table = chain("a", 0, range(12), REGIONS)
    ids = table["commit_id"].to_pylist()
    reference = MemoryStore()
    reference.persist_commits(BATCH, AT, [table])
    mine = history(file_of(BATCH, table))
    patiently = connection.Connection._patiently
    stopped = done = 0
    while not done:
        left = [stopped]

        def killed(self: connection.Connection, work: Any, left: list[int] = left) -> Any:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return patiently(self, work)

        monkeypatch.setattr(connection.Connection, "_patiently", killed)
        try:
            store.persist_commits(BATCH, AT, [table])
            store.archive_commits(BATCH, ids[3:9])
            store.restore_commits(BATCH, [table.slice(5, 4)])
            store.remove_batch(BATCH)
            done = 1
        except Killed:
            stopped += 2
        monkeypatch.setattr(connection.Connection, "_patiently", patiently)
        store.persist_commits(BATCH, AT, [table.slice(at, 5) for at in range(0, 12, 5)])
        store.archive_commits(BATCH, ids[3:9])
        headers = pa.concat_tables(store.read_commits(BATCH)).to_pylist()
        assert [row["entries"] is None for row in headers] == [3 <= at < 9 for at in range(12)]
        store.restore_commits(BATCH, [table])
        assert rows_of(pa.concat_tables(store.read_commits(BATCH))) == rows_of(table)
        for region in REGIONS:
            asked = mine, region, TickRange(20, 150)
            assert store.query_commits_by_region(*asked).equals(reference.query_commits_by_region(*asked))
        store.remove_batch(BATCH)
        assert store.batches() == {}
        for name in ("batches", "batch_commits", "commits", "commit_entries"):
            assert store._connection.rows(f"SELECT * FROM {name}") == [], name
    assert stopped > 40


def test_a_lost_answer_is_looked_up(store: CassandraStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster made the move, or did not, or another's, and its answer never came."""
    once = connection.Connection.once
    lost = [True]

    def made(self: connection.Connection, cql: str, *values: Any) -> bool | None:
        answer = once(self, cql, *values)
        return None if lost.pop() else answer

    monkeypatch.setattr(connection.Connection, "once", made)
    store.advance_ref("main", 0, b"ours")
    assert store.read_ref("main", 0) == b"ours"

    answers: list[bool | None] = [None, None]

    def not_made(self: connection.Connection, cql: str, *values: Any) -> bool | None:
        return answers.pop() if answers else once(self, cql, *values)

    monkeypatch.setattr(connection.Connection, "once", not_made)
    store.advance_ref("main", 1, b"ours")
    assert store.read_ref("main", 1) == b"ours"

    def sent_twice(self: connection.Connection, cql: str, *values: Any) -> bool | None:
        once(self, cql, *values)
        return once(self, cql, *values)

    monkeypatch.setattr(connection.Connection, "once", sent_twice)
    store.advance_ref("main", 2, b"ours")

    def overtaken(self: connection.Connection, cql: str, *values: Any) -> bool | None:
        once(self, cql, *values[:-1], b"theirs")
        once(self, cql, *values)
        return None

    monkeypatch.setattr(connection.Connection, "once", overtaken)
    monkeypatch.setattr(stores, "_TRIES", 2)
    with pytest.raises(Conflict):
        store.advance_ref("main", 3, b"ours")
    assert store.read_ref("main", 3) == b"theirs"
    monkeypatch.setattr(connection.Connection, "once", lambda *given: None)
    with pytest.raises(Unavailable, match="safe to run"):
        store.advance_ref("main", 4, b"ours")


def test_of_two_clients_one_wins(store: CassandraStore) -> None:
    other = CassandraStore(URL, HERE)
    won: list[bytes] = []
    lost: list[int] = []

    def write(mine: CassandraStore, name: bytes) -> None:
        for seq in range(8):
            try:
                mine.advance_ref("main", seq, b"%d %s" % (seq, name))
                won.append(b"%d %s" % (seq, name))
            except Conflict:
                lost.append(seq)

    writers = [threading.Thread(target=write, args=each) for each in [(store, b"a"), (other, b"b")]]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    other.close()
    latest = store.latest_seq("main")
    assert len(won) + len(lost) == 16
    assert sorted(won) == [store.read_ref("main", seq) for seq in range(latest + 1)]


def test_a_log_of_many_pages(store: CassandraStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_MOVES_A_PAGE", 2)
    for seq in range(15):
        store.advance_ref("main", seq, b"%d" % seq)
        assert store.latest_seq("main") == seq
    for at_least in range(-1, 15):
        assert store.latest_seq("main", at_least) == 14
    assert store.move_numbers("main") == list(range(15))
    store._connection.rows("DELETE FROM moves WHERE ref = ? AND page = ? AND seq = ?", "main", 3, 7)
    again = CassandraStore(URL, HERE)
    with pytest.raises(Corrupt, match="move 7 of main"):
        again.advance_ref("main", 15, b"15")
    with pytest.raises(Corrupt, match="move 7 of main"):
        again.advance_ref("main", 8, b"8")
    again.close()


def test_a_slow_clock_loses_nothing(store: CassandraStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each act is done by a client whose clock is an hour behind that of the one before."""
    now = stores._now()
    table = chain("a", 0, range(6), REGIONS[:2])
    mine = history(file_of(BATCH, table))
    expected = [rows_of(table), None]

    def back() -> None:
        nonlocal now
        now -= 3_600_000_000
        monkeypatch.setattr(stores, "_now", lambda at=now: at)

    for _ in range(2):
        for act in ("persist", "archive", "restore", "archive", "restore"):
            back()
            if act == "persist":
                store.persist_commits(BATCH, AT, [table])
            elif act == "archive":
                store.archive_commits(BATCH, table["commit_id"].to_pylist())
                assert store.query_commits_by_region(mine, REGIONS[0], TickRange()).num_rows == 0
            else:
                store.restore_commits(BATCH, [table])
            if act != "archive":
                assert rows_of(pa.concat_tables(store.read_commits(BATCH))) == expected[0]
                assert store.query_commits_by_region(mine, REGIONS[0], TickRange()).num_rows > 0
        back()
        store.remove_batch(BATCH)
        assert store.batches() == {}


def test_a_commit_of_many_entries(store: CassandraStore) -> None:
    row = chain("a", 0, range(1)).to_pylist()[0]
    entry = {"n": 1, "activity": str(LARGEST), "activity2": str(-(2**127)), "weight": "-1"}
    floats = {"weight_value": -0.0, "activity_mean": 5e-324, "activity_var": 1e308}
    size = 3 * table_rows.ENTRIES_A_PART + 1
    row["entries"] = [{"region": f"{at:06d}", **entry, **floats} for at in range(size)]
    table = pa.Table.from_pylist([row], schema=chain("a", 0, range(1)).schema)
    store.persist_commits(BATCH, AT, [table])
    mine = history(file_of(BATCH, table))
    assert found_in(store, mine, row["commit_id"]) == [row]
    found = store.query_commits_by_region(mine, f"{size - 1:06d}", TickRange()).to_pylist()[0]
    assert {name: found[name] for name in entry} == entry
    assert str(found["weight_value"]) == "-0.0"


def test_the_tables_tell_by_themselves(store: CassandraStore) -> None:
    """Whoever looks with cqlsh finds the columns of every engine under their names."""
    table = chain("a", 0, range(8), REGIONS)
    store.persist_commits(BATCH, AT, [table])
    columns = "commit_id, layer, epoch_start, epoch_end, created_at, summary"
    found = store._connection.rows(f"SELECT {columns} FROM commits")
    assert {row[0] for row in found} == {uuid.UUID(each) for each in table["commit_id"].to_pylist()}
    columns = "commit_id, region_id, weight, activity_mean, activity_var, entity_refs, created_at"
    found = store._connection.rows(f"SELECT {columns} FROM commit_entries")
    assert sorted(str(row[0]) + row[1] for row in found) == sorted(
        row["commit_id"] + entry["region"] for row in table.to_pylist() for entry in row["entries"]
    )
    store._connection.rows("SELECT entity_id, last_tick, activity, activity_history, metadata FROM entity_state")


def test_what_a_cluster_refuses_is_told_with_the_next_step() -> None:
    from cassandra import AuthenticationFailed, InvalidRequest, Unauthorized
    from cassandra.cluster import NoHostAvailable

    made = connection.Connection("cassandra://me:secret@127.0.0.1:1/ledger")
    refused = NoHostAvailable("no host", {"127.0.0.1:1": AuthenticationFailed("Provided username me and/or password")})
    for error, kind, said in [
        (refused, UsageError, "refuses the user or the password"),
        (Unauthorized("User me has no MODIFY permission"), UsageError, "grant the user"),
        (InvalidRequest("disk usage exceeds the failure threshold"), NotWritten, "free space"),
        (InvalidRequest("unconfigured table"), LedgerError, "nothing was changed"),
        (NoHostAvailable("no host", {"127.0.0.1:1": OSError("refused")}), Unavailable, "safe to run the command again"),
    ]:
        told = made._translated(error)
        assert isinstance(told, kind)
        assert said in str(told)
        assert "secret" not in str(told)
    assert made._translated(KeyError("a fault of the program")) is None
