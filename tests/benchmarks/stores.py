"""Every store against the bare client of its engine: the same rows, asked for by the same index.

Each class is a client that knows nothing of ledgers. It writes the rows that the store wrote into tables like its, and
has them in the form that it takes fastest before the clock starts; and it asks the tables that the store made, by a
connection that is open. RocksDB has no tables: there the client keeps each row as JSON, in a database of its own.
"""

from __future__ import annotations

import gc
import hashlib
import os
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from importlib import import_module
from itertools import groupby, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.commit import COMMIT, ENTRY, commit_id_of
from ledger_cli.core.history import CommitFile
from ledger_cli.core.slices import CommitSlice, History
from ledger_cli.ports import CommitStore, TickRange
from ledger_cli.stores.common.urls import local_path
from ledger_cli.wiring import ledgers
from tests.stores.engines import SERVERS, place

_BATCH = "commits/bench.parquet"
_AT = "2026-01-02T03:04:05.678Z"
_PIECE = 50_000
_IN_REGION = 1_000
_BLOCK = 1 << 18
_QUESTIONS = 100
_TABLES = ("commits", "commit_entries")


def commits(number: int, entries: int, regions: int) -> Iterator[pa.Table]:
    """Commits of one chain with made-up digests, 10 ticks each, in tables of bounded size."""
    draw = np.random.default_rng(number)
    digests = [_digest(height) for height in range(number)]
    names = pa.array([f"r{region:04}" for region in range(regions)])
    piece = max(1, _PIECE // entries)
    for first in range(0, number, piece):
        heights = range(first, min(first + piece, number))
        size = len(heights)
        own = digests[first : first + size]
        width = size * entries
        region = np.tile(np.arange(entries), size) if entries > 1 else np.array(heights) * 7919 % regions
        sums = [pa.array(draw.integers(0, 2**62, width)).cast(pa.string()) for _ in range(3)]
        floats = [pa.array(draw.random(width)) for _ in range(3)]
        fields = [names.take(pa.array(region)), pa.array(draw.integers(1, 1000, width)), *sums, *floats]
        nested = pa.StructArray.from_arrays(fields, fields=list(ENTRY))
        offsets = pa.array(np.arange(0, width + 1, entries), pa.int32())
        columns: list[Any] = [
            [commit_id_of(digest) for digest in own],
            own,
            ["atomic"] * size,
            [0] * size,
            heights,
            [height * 10 for height in heights],
            [height * 10 + 10 for height in heights],
            [digests[max(height, 1) - 1 : height] for height in heights],
            ["p" * 64] * size,
            own,
            ["{}"] * size,
            ["interval"] * size,
            pa.ListArray.from_arrays(offsets, nested, type=COMMIT.field("entries").type),
        ]
        yield pa.table([pa.array(c, f.type) for c, f in zip(columns, COMMIT, strict=True)], schema=COMMIT)


def _digest(height: int) -> str:
    return hashlib.sha256(b"%d" % height).hexdigest()


class Client:
    """What a bare client does. Made open."""

    def __init__(self, url: str, directory: Path) -> None:
        self.connection = self.connected(url, directory)

    def connected(self, url: str, directory: Path) -> Any:
        """The connection of a client, open."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the database."""
        self.connection.close()

    def rows(self, tables: Iterable[pa.Table]) -> Any:
        """What `persist` takes: the rows of the store's tables, or those made of commits."""
        return pa.concat_tables(tables)

    def persist(self, rows: Any) -> None:
        """Write rows into tables that are there and empty: durable when it returns."""
        raise NotImplementedError

    def load(self, tables: Iterable[pa.Table]) -> None:
        """Make ready for questions about commits that the store has persisted."""

    def get(self, commit_id: str) -> Any:
        """All columns of a commit and its entries."""
        raise NotImplementedError

    def region(self, region: str) -> Any:
        """All columns of the entries of a region, with the places of their commits."""
        raise NotImplementedError


class Sql(Client):
    """What is asked of tables in SQL."""

    mark = "?"
    columns = "*"

    def ask(self, sql: str, value: str) -> Any:
        """All rows of a statement."""
        return self.connection.execute(f"SELECT {self.columns} FROM {sql} = {self.mark}", [value]).fetchall()

    def get(self, commit_id: str) -> Any:
        return [self.ask(f"{name} WHERE commit_id", commit_id) for name in _TABLES]

    def region(self, region: str) -> Any:
        places = "(SELECT commit_id, shard, height FROM commits) AS places"
        return self.ask(f"commit_entries JOIN {places} USING (commit_id) WHERE region_id", region)


class Directory(Client):
    """A Parquet file by pyarrow, asked by DuckDB."""

    def connected(self, url: str, directory: Path) -> Any:
        import duckdb

        self._file = directory / _BATCH
        return duckdb.connect(config={"threads": 2})

    def persist(self, rows: pa.Table) -> None:
        self._file.parent.mkdir()
        with open(self._file, "wb") as file:
            pq.write_table(rows, file, compression="zstd")
            os.fsync(file.fileno())

    def get(self, commit_id: str) -> pa.Table:
        sql = f"SELECT * FROM read_parquet('{self._file}') WHERE commit_id = ?"
        return self.connection.sql(sql, params=[commit_id]).to_arrow_table()

    def region(self, region: str) -> pa.Table:
        sql = f"""SELECT * FROM (SELECT commit_id, shard, height, epoch_start, epoch_end, unnest(entries) AS entry
            FROM read_parquet('{self._file}')) WHERE entry.region = ?"""
        return self.connection.sql(sql, params=[region]).to_arrow_table()


class Duckdb(Sql):
    """A DuckDB file; rows go in as Arrow."""

    columns = "* EXCLUDE (created_at)"
    """Times of a zone need one more package."""

    def connected(self, url: str, directory: Path) -> Any:
        import duckdb

        return duckdb.connect(str(local_path(url, directory)))

    def rows(self, tables: Iterable[pa.Table]) -> dict[str, pa.Table]:
        named = {name: f"SELECT COLUMNS(lambda c: c != 'id') FROM {name}" for name in _TABLES}
        return {name: self.connection.sql(sql).to_arrow_table() for name, sql in named.items()}

    def persist(self, rows: dict[str, pa.Table]) -> None:
        self.connection.begin()
        for name, given in rows.items():
            self.connection.register("given", given)
            self.connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM given")
        self.connection.commit()
        # The store lets go of the file too, and so moves rows from the log into it.
        self.connection.close()


class Sqlite(Sql):
    """An SQLite file; rows go in as tuples."""

    def connected(self, url: str, directory: Path) -> Any:
        import sqlite3

        made = sqlite3.connect(local_path(url, directory), isolation_level=None)
        made.execute("PRAGMA synchronous = FULL")
        made.execute("PRAGMA foreign_keys = ON")
        return made

    def rows(self, tables: Iterable[pa.Table]) -> dict[str, list[Any]]:
        return {name: self.connection.execute(f"SELECT * FROM {name}").fetchall() for name in _TABLES}

    def persist(self, rows: dict[str, list[Any]]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        for name, given in rows.items():
            marks = ", ".join("?" * len(given[0]))
            self.connection.executemany(f"INSERT INTO {name} VALUES ({marks})", given)
        self.connection.execute("COMMIT")


class Chdb(Client):
    """chDB by clickhouse-connect; rows go in and out as Arrow."""

    def connected(self, url: str, directory: Path) -> Any:
        import clickhouse_connect

        return clickhouse_connect.get_client(interface="chdb", path=str(local_path(url, directory)))

    def rows(self, tables: Iterable[pa.Table]) -> dict[str, pa.Table]:
        # What the client writes as Arrow only where it is text.
        texts = {
            "commits": ("commit_id", "summary"),
            "commit_entries": ("commit_id", "entity_refs", "sum_activity", "sum_activity2", "sum_weight"),
        }
        taken = {}
        for name, columns in texts.items():
            replaced = ", ".join(f"toString({column}) AS {column}" for column in columns)
            taken[name] = self.connection.query_arrow(f"SELECT * REPLACE ({replaced}) FROM {name}")
        return taken

    def persist(self, rows: dict[str, pa.Table]) -> None:
        for name, given in rows.items():
            self.connection.insert_arrow(name, given)

    def get(self, commit_id: str) -> Any:
        wanted = {"id": commit_id}
        where = "WHERE commit_id = {id:UUID}"
        return [self.connection.query_arrow(f"SELECT * FROM {name} {where}", parameters=wanted) for name in _TABLES]

    def region(self, region: str) -> Any:
        sql = "SELECT * FROM commit_entries WHERE region_id = {region:String}"
        return self.connection.query_arrow(sql, parameters={"region": region})


class Postgres(Sql):
    """PostgreSQL by psycopg; rows go in by COPY, as text that is there."""

    mark = "%s"

    def connected(self, url: str, directory: Path) -> Any:
        import psycopg

        return psycopg.connect(url, autocommit=True)

    def rows(self, tables: Iterable[pa.Table]) -> dict[str, list[bytes]]:
        taken = {}
        for name in _TABLES:
            described = self.connection.execute(f"SELECT * FROM {name} LIMIT 0").description
            what = f"{name} ({', '.join(column.name for column in described if column.name != 'id')})"
            with self.connection.cursor().copy(f"COPY {what} TO STDOUT") as copy:
                data = b"".join(copy)
                taken[what] = [data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)]
        return taken

    def persist(self, rows: dict[str, list[bytes]]) -> None:
        with self.connection.transaction():
            for what, given in rows.items():
                with self.connection.cursor().copy(f"COPY {what} FROM STDIN") as copy:
                    for block in given:
                        copy.write(block)

    def load(self, tables: Iterable[pa.Table]) -> None:
        self.connection.execute("ANALYZE commits, commit_entries")


class Rocksdb(Client):
    """RocksDB by rocksdict, a value a row: commits by id, entries by region and id."""

    def connected(self, url: str, directory: Path) -> Any:
        import rocksdict

        self._sdk = rocksdict
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        families = dict.fromkeys(_TABLES, options)
        made = rocksdict.Rdict(str(directory / "bare.rocksdb"), options, column_families=families)
        self._families = [made.get_column_family(name) for name in _TABLES]
        return made

    def close(self) -> None:
        for family in self._families:
            family.close()
        super().close()

    def rows(self, tables: Iterable[pa.Table]) -> list[list[tuple[bytes, bytes]]]:
        commits, entries = [], []
        for row in (row for table in tables for row in table.to_pylist()):
            key = uuid.UUID(row["commit_id"]).bytes
            commits.append((key, orjson.dumps(row)))
            place = {name: row[name] for name in ("commit_id", "shard", "height", "epoch_start", "epoch_end")}
            entries += [(each["region"].encode() + key, orjson.dumps(place | each)) for each in row["entries"]]
        return [commits, entries]

    def persist(self, rows: list[list[tuple[bytes, bytes]]]) -> None:
        write = self._sdk.WriteBatch(raw_mode=True)
        for name, given in zip(_TABLES, rows, strict=True):
            write.set_default_column_family(self.connection.get_column_family_handle(name))
            for key, value in given:
                write[key] = value
        synced = self._sdk.WriteOptions()
        synced.sync = True
        self.connection.write(write, synced)

    def load(self, tables: Iterable[pa.Table]) -> None:
        for table in tables:
            self.persist(self.rows([table]))

    def get(self, commit_id: str) -> Any:
        return orjson.loads(self._families[0].get(uuid.UUID(commit_id).bytes))

    def region(self, region: str) -> Any:
        start, found = region.encode(), []
        for key, value in self._families[1].items(from_key=start):
            if not key.startswith(start):
                break
            found.append(orjson.loads(value))
        return found


class Cassandra(Client):
    """Cassandra by its driver: commits one by one, entries in unlogged batches of their partitions, many at once."""

    def connected(self, url: str, directory: Path) -> Any:
        from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
        from cassandra.query import tuple_factory

        place = urlsplit(url)
        profiles = {EXEC_PROFILE_DEFAULT: ExecutionProfile(row_factory=tuple_factory, request_timeout=60)}
        cluster = Cluster([place.hostname], port=place.port, protocol_version=4, execution_profiles=profiles)
        made = cluster.connect(place.path[1:])
        self._get = made.prepare("SELECT * FROM commits WHERE commit_id = ?")
        self._region = made.prepare("SELECT * FROM commit_entries WHERE region_id = ? AND level = ? AND bucket IN ?")
        # Those of one region are those of all.
        found = list(made.execute("SELECT level, bucket FROM region_buckets WHERE region_id = 'r0000'"))
        self._partitions = [level for level, _ in found[:1]] + [[bucket for _, bucket in found]]
        return made

    def close(self) -> None:
        self.connection.cluster.shutdown()

    def rows(self, tables: Iterable[pa.Table]) -> dict[str, list[Any]]:
        taken = {}
        for name in _TABLES:
            names = self.connection.execute(f"SELECT * FROM {name} LIMIT 1").column_names
            # A null that is written is a deletion.
            columns = ", ".join(f'"{column}"' for column in names if column != "entity_refs")
            found = list(self.connection.execute(f"SELECT {columns} FROM {name}"))
            taken[f"{name} ({columns}) VALUES ({', '.join('?' * len(found[0]))})"] = found
        return taken

    def persist(self, rows: dict[str, list[Any]]) -> None:
        from cassandra.concurrent import execute_concurrent, execute_concurrent_with_args
        from cassandra.query import BatchStatement, BatchType

        (commits, headers), (entries, flat) = rows.items()
        execute_concurrent_with_args(self.connection, self.connection.prepare(f"INSERT INTO {commits}"), headers)
        insert, batches = self.connection.prepare(f"INSERT INTO {entries}"), []
        for _, partition in groupby(flat, lambda row: row[:3]):
            while some := list(islice(partition, 60)):
                batches.append((BatchStatement(BatchType.UNLOGGED), ()))
                for row in some:
                    batches[-1][0].add(insert, row)
        execute_concurrent(self.connection, batches, concurrency=32)

    def get(self, commit_id: str) -> Any:
        return list(self.connection.execute(self._get, [uuid.UUID(commit_id)]))

    def region(self, region: str) -> Any:
        return list(self.connection.execute(self._region, [region, *self._partitions]))


CLIENTS: dict[str, type[Client]] = {
    "directory": Directory,
    "duckdb": Duckdb,
    "sqlite": Sqlite,
    "rocksdb": Rocksdb,
    "chdb": Chdb,
    "postgres": Postgres,
    "cassandra": Cassandra,
}


def compared(name: str, scale: float, rounds: int) -> Iterator[tuple[str, float, float]]:
    """(work, seconds of the store, seconds of the client): of rounds the best persist, the best p95 of questions.

    Nothing where a server cannot be started, which is told on stderr.
    """
    with ExitStack() as started:
        if name in SERVERS:
            try:
                url = started.enter_context(import_module(f"tests.services.{name}").start())
            except Exception as error:  # noqa: BLE001 - whatever it lacks
                told = f"{type(error).__name__}: {error}".splitlines()[0]
                sys.stderr.write(f"  {name} is left out, its server does not start: {told}\n")
                return
            started.enter_context(patch.dict(os.environ, {SERVERS[name]: url}))
        yield "persist", *_persist(name, max(1_000, int(10_000 * scale)), rounds)
        yield from _questions(name, max(20, int(1_000 * scale)) * _IN_REGION, rounds)


@contextmanager
def _store(name: str) -> Iterator[tuple[CommitStore, Callable[[], Client]]]:
    """A new store, and what makes a client of the same place."""
    with tempfile.TemporaryDirectory(prefix="ledger-bench-") as directory, place(name) as url:
        store = ledgers.make_commit_store(url, Path(directory))
        with closing(store):
            store.create()
            yield store, partial(CLIENTS[name], url, Path(directory))


def _persist(name: str, number: int, rounds: int) -> tuple[float, float]:
    tables = list(commits(number, 64, 64))
    ours, other = [], []
    rows: Any = None
    for _ in range(rounds):
        with _store(name) as (store, client):
            ours.append(_seconds(partial(store.persist_commits, _BATCH, _AT, tables)))
            store.close()
            if rows is None:
                with closing(client()) as bare:
                    rows = bare.rows(tables)
                # What is made ready for one side is no burden of the other's.
                gc.collect()
                gc.freeze()
        with _store(name) as (store, client):
            store.close()
            with closing(client()) as bare:
                other.append(_seconds(partial(bare.persist, rows)))
    gc.unfreeze()
    return min(ours), min(other)


def _questions(name: str, number: int, rounds: int) -> Iterator[tuple[str, float, float]]:
    regions, draw = number // _IN_REGION, random.Random(5)
    with _store(name) as (store, client):
        store.persist_commits(_BATCH, _AT, commits(number, 1, regions))
        store.close()
        with closing(client()) as bare:
            bare.load(commits(number, 1, regions))
        ours = _Ours(store, number)
        works = {
            "query_commit": ("get", lambda: commit_id_of(_digest(draw.randrange(number)))),
            "query_commits_by_region": ("region", lambda: f"r{draw.randrange(regions):04}"),
        }
        for work, (method, drawn) in works.items():
            took: tuple[list[float], list[float]] = [], []
            for turn in range(rounds):
                first, *questions = [drawn() for _ in range(_QUESTIONS + 1)]
                for side in (turn % 2, 1 - turn % 2):
                    # Closed each time: some engines let nobody else in.
                    with closing(client() if side else ours) as asked:
                        ask = getattr(asked, method)
                        ask(first)
                        took[side].append(_p95([_seconds(partial(ask, question)) for question in questions]))
            yield work, *map(min, took)


class _Ours:
    """A store, asked as a client is."""

    def __init__(self, store: CommitStore, number: int) -> None:
        self._store = store
        whole = CommitFile(_BATCH, "", 0, number, number, 0, number * 10, {"0": (0, number - 1)})
        self._history = History([CommitSlice(whole)])

    def close(self) -> None:
        self._store.close()

    def get(self, commit_id: str) -> None:
        assert self._store.query_commit(self._history, commit_id) is not None

    def region(self, region: str) -> None:
        assert self._store.query_commits_by_region(self._history, region, TickRange()).num_rows == _IN_REGION


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) * 95 // 100]
