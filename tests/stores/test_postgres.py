"""What is PostgreSQL's own: settings that are wrong, servers that go away, and tables as others see them."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pyarrow as pa
import pytest

from ledger_cli.api import Ledger
from ledger_cli.core.commit import COMMIT
from ledger_cli.errors import Conflict, LedgerError, Unavailable, UsageError
from ledger_cli.stores import postgresql
from ledger_cli.stores.common.sql import SqlStore
from ledger_cli.wiring import ledgers
from tests.services import free_port
from tests.services.postgres import cluster
from tests.stores.children import interrupt, opened
from tests.stores.engines import SERVERS, place
from tests.stores.histories import AT, REGIONS, chain, rows_of

SERVER = os.environ[SERVERS["postgres"]]


@pytest.fixture
def url() -> Iterator[str]:
    with place("postgres") as made:
        yield made


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[SqlStore]:
    made = opened(url, tmp_path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "PATIENCE_SECONDS", 3.0)


def end_connections() -> None:
    """What an administrator or a failover does to those who are at work."""
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"""
        )


def test_the_tables_are_of_the_types_of_the_server(url: str, store: SqlStore) -> None:
    store.persist_commits("commits/one.parquet", AT, [chain("a", 0, range(4), REGIONS)])
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """SELECT table_name || '.' || column_name, data_type FROM information_schema.columns
                WHERE table_schema = current_schema()"""
        ).fetchall()
        types = dict(rows)
        assert types["commits.commit_id"] == "uuid"
        assert types["commits.created_at"] == "timestamp with time zone"
        assert {types[f"{each}"] for each in ("commits.summary", "commit_entries.entity_refs")} == {"jsonb"}
        assert types["commit_entries.sum_weight"] == "numeric"
        counts = connection.execute(
            """SELECT count(*), count(*) FILTER (WHERE (summary->>'regions')::int =
                (SELECT count(*) FROM commit_entries e WHERE e.commit_id = c.commit_id)) FROM commits c"""
        ).fetchone()
        assert counts == (4, 4)


@pytest.mark.parametrize("act", ["read", "advance", "persist"])
def test_a_connection_that_breaks_is_made_again(url: str, store: SqlStore, act: str) -> None:
    store.advance_ref("main", 0, b"move")
    table = chain("a", 0, range(6), REGIONS)
    if act == "read":
        end_connections()
        assert store.read_ref("main", 0) == b"move"
        return
    # In the midst of the transaction, once.
    broken = threading.Event()

    def end() -> None:
        if not broken.is_set():
            broken.set()
            end_connections()

    left = interrupt(store, 1, end)
    if act == "advance":
        store.advance_ref("main", 1, b"another")
        assert store.read_ref("main", 1) == b"another"
    else:
        store.persist_commits("commits/one.parquet", AT, [table])
        assert rows_of(pa.concat_tables(store.read_commits("commits/one.parquet"))) == rows_of(table)
    assert left[0] < 0


def test_a_move_whose_acknowledgement_got_lost_is_ours(
    url: str, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.advance_ref("main", 0, b"move")
    leave = psycopg.Transaction.__exit__
    lost = [True]

    def cut(self: psycopg.Transaction, *error: object) -> object:
        done = leave(self, *error)
        if lost.pop() if lost else False:
            self.connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return done

    monkeypatch.setattr(psycopg.Transaction, "__exit__", cut)
    store.advance_ref("main", 1, b"mine")
    assert not lost
    assert store.move_numbers("main") == [0, 1]
    with pytest.raises(Conflict):
        store.advance_ref("main", 1, b"mine")


def test_a_server_that_crashes_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster() as server:
        store = opened(server.url, tmp_path)
        tables = [chain("a", 0, range(6), REGIONS)]
        store.persist_commits("commits/one.parquet", AT, tables)
        store.advance_ref("main", 0, b"move")
        server.crash()
        with monkeypatch.context() as patch:
            patch.setattr(postgresql, "PATIENCE_SECONDS", 0.5)
            with pytest.raises(
                Unavailable, match=r"cannot be reached.*run the same command when the server is back"
            ) as error:
                store.advance_ref("main", 1, b"another")
        assert server.password not in str(error.value)
        assert "\n" not in str(error.value)
        back = threading.Timer(0.5, server.start, [False])  # to sync a thousand files takes a busy disk long
        back.start()
        store.advance_ref("main", 1, b"another")
        back.join()
        assert store.move_numbers("main") == [0, 1]
        assert rows_of(pa.concat_tables(store.read_commits("commits/one.parquet"))) == rows_of(tables[0])
        store.close()


@pytest.mark.parametrize(
    ("pattern", "replacement", "kind", "says"),
    [
        (r":[^:@/]+@", ":wrong@", UsageError, "the password is wrong: give it in PGPASSWORD"),
        (r"//[^:]+:", "//nobody:", UsageError, "the password is wrong"),
        (r":[^:@/]+@", "@", UsageError, "it asks for a password: give it in PGPASSWORD"),
        (r"/postgres$", "/nothing", UsageError, "there is no such database: make it with createdb"),
        (r"127\.0\.0\.1", "nowhere.invalid", UsageError, "there is no such host"),
        (r":\d+/", f":{free_port()}/", Unavailable, "Connection refused"),
        (r"$", "?options=-csearch_path%3Dnowhere", UsageError, "no such schema"),
        (r"$", "?nonsense=1", UsageError, "write postgresql://USER@HOST:PORT/DATABASE"),
        (r":(\d+)/", r":\1x/", UsageError, "see to"),
    ],
)
def test_settings_that_are_wrong(
    pattern: str, replacement: str, kind: type[LedgerError], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind is Unavailable:
        monkeypatch.setattr(postgresql, "PATIENCE_SECONDS", 0.5)
    wrong = re.sub(pattern, replacement, SERVER, count=1)
    assert wrong != SERVER
    with pytest.raises(kind, match=re.escape(says)) as error:
        opened(wrong, tmp_path)
    assert "\n" not in str(error.value)
    password = urlsplit(SERVER).password
    assert password is not None
    assert password not in str(error.value)


def test_the_password_may_stand_elsewhere(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    password = urlsplit(SERVER).password
    assert password is not None
    monkeypatch.setenv("PGPASSWORD", password)
    store = opened(url.replace(f":{password}", ""), tmp_path)
    assert store.branches() == []
    store.close()


def test_a_user_without_rights(url: str, store: SqlStore, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        schema = connection.execute("SELECT current_schema()").fetchone()
        assert schema is not None
        connection.execute("DROP ROLE IF EXISTS test_guest")
        connection.execute("CREATE ROLE test_guest LOGIN PASSWORD 'guest'")
        connection.execute(f"GRANT USAGE ON SCHEMA {schema[0]} TO test_guest")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema[0]} TO test_guest")
        try:
            guest = opened(re.sub(r"//[^@]+@", "//test_guest:guest@", url), tmp_path)
            assert guest.branches() == []
            with pytest.raises(UsageError, match=r"does not permit it.*GRANT"):
                guest.advance_ref("main", 0, b"move")
            guest.close()
        finally:
            connection.execute("DROP OWNED BY test_guest")
            connection.execute("DROP ROLE test_guest")


def test_those_that_commit_the_same_shards_take_turns(
    url: str, store: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = opened(url, tmp_path)
    with store.leading("main", [0, 2]):
        with other.leading("main", [1]), other.leading("other", [0]):
            pass
        begun = time.monotonic()
        with pytest.raises(Conflict, match=r"another process is committing on main: .*run the command again"):
            other.leading("main", range(4)).__enter__()
        assert time.monotonic() - begun > 2
        monkeypatch.setattr(postgresql, "PATIENCE_SECONDS", 30.0)
        waiting = threading.Thread(target=lambda: other.leading("main", [2]).__enter__())
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(30)
    assert not waiting.is_alive()
    end_connections()  # as those of a process that was killed
    with store.leading("main", range(4)):
        pass
    other.close()


def test_of_two_runs_the_second_waits_and_has_nothing_left_to_do(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "PATIENCE_SECONDS", 30.0)
    ticks = tmp_path / "ticks.jsonl"
    ticks.write_text("".join(f'{{"entityId":"e","tickId":{n},"x":1,"y":1,"activity":1}}\n' for n in range(40)))
    with Ledger.create(tmp_path / "world", interval=10, store=url) as ledger:
        ledger.ingest(ticks)
    made: list[int] = []

    def run() -> None:
        with Ledger.open(tmp_path / "world") as ledger:
            made.append(ledger.commit(final=True).commits)

    runs = [threading.Thread(target=run) for _ in range(3)]
    for each in runs:
        each.start()
    for each in runs:
        each.join()
    assert sorted(made) == [0, 0, 4]


def test_a_character_that_it_cannot_hold(store: SqlStore) -> None:
    row = {**chain("a", 0, range(1), ["r"], seed=3).to_pylist()[0]}
    entry = {"n": 1, "activity": "0", "activity2": "0", "weight": "0"}
    entry |= {"weight_value": 0.0, "activity_mean": 0.0, "activity_var": 0.0}
    row["entries"] = [{"region": "a\0b", **entry}]
    with pytest.raises(LedgerError, match=r"U.0000.*use another store"):
        store.persist_commits("commits/one.parquet", AT, [pa.Table.from_pylist([row], COMMIT)])
    assert store.batches() == {}


def test_without_its_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r"pip install 'ledger-cli\[postgres\]'"):
        ledgers.make_commit_store(SERVER, tmp_path)
