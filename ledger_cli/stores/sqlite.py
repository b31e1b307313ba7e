"""SQLite: commits and refs in one file that any tool opens, with many processes at once.

Invariants: write-ahead log, synced at each commit; a transaction that writes takes its lock at the start, so that it
waits for others instead of failing in its midst. Integers of 128 bits are text, as SQLite has none.
The tables are those of all SQL engines, made in one transaction: sqlite-utils, which commits each table by itself,
opens them but does not make them, so that no extra is needed.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from ledger_cli.errors import Corrupt, LedgerError, NotWritten, Unavailable, UsageError
from ledger_cli.ports import Capabilities
from ledger_cli.stores.common.sql import Session, SqlStore
from ledger_cli.stores.common.sql_schema import Types
from ledger_cli.stores.common.urls import local_path

Result = TypeVar("Result")

PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.05
_ROWS_AT_ONCE = 50_000


class SqliteStore(SqlStore):
    """See `ports.CommitStore`. Safe with many processes and threads at once."""

    capabilities = Capabilities(
        engine="SQLite (sqlite3 of Python)",
        extra=None,
        refs=True,
        processes="many on one machine: one writes at a time, others read meanwhile",
        durable="the loss of power: the log is synced at each commit",
        atomic="some 250,000 entries of a batch",
        exact="decimal text",
    )
    types = Types(
        uuid="TEXT",
        text="TEXT",
        json="TEXT",
        jsonb="TEXT",
        time="TEXT",
        exact="TEXT",
        bytes="BLOB",
        serial="INTEGER PRIMARY KEY",
    )
    among = "{column} IN (SELECT value FROM json_each(:{name}))"
    version_exists = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'"

    def __init__(self, url: str, directory: Path) -> None:
        super().__init__()
        self._file = local_path(url, directory)
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """See `ports.CommitStore`."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _name(self) -> str:
        return str(self._file)

    def _read(self, work: Callable[[Session], Result]) -> Result:
        return self._within("BEGIN", work)

    def _write(self, work: Callable[[Session], Result]) -> Result:
        return self._within("BEGIN IMMEDIATE", work)

    def _within(self, begin: str, work: Callable[[Session], Result]) -> Result:
        """The result of a transaction on a connection that nobody else uses meanwhile; after an error it is closed."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        try:
            connection = connection or self._opened()
            connection.execute(begin)
            result = work(_Session(connection))
            connection.execute("COMMIT")
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise self._translated(error) from error
            raise
        with self._lock:
            self._idle.append(connection)
        return result

    def _opened(self) -> sqlite3.Connection:
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._file, timeout=PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            end = time.monotonic() + PATIENCE_SECONDS
            while True:
                try:
                    with closing(connection.execute("PRAGMA journal_mode = WAL")) as mode:
                        mode.fetchone()
                    break
                except sqlite3.OperationalError as error:
                    # SQLite does not wait where several processes turn it on at once.
                    if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                        raise
                    time.sleep(_PAUSE_SECONDS)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _translated(self, error: sqlite3.Error) -> LedgerError:
        code, name = _code(error), self._name()
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Unavailable(
                f"{name} is in use by another process for more than {PATIENCE_SECONDS:.0f} seconds: "
                "nothing was changed, run the command again"
            )
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return NotWritten(f"{name}: {error}")
        if code == sqlite3.SQLITE_CANTOPEN:
            return UsageError(f"{name} cannot be opened: see that its directory is there and may be written to")
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
            return UsageError(f"{name} cannot be written to ({error}): see to its permissions, and its directory's")
        if code == sqlite3.SQLITE_NOTADB:
            return UsageError(f"{name} is no SQLite database: choose another file")
        if code == sqlite3.SQLITE_CORRUPT:
            return Corrupt(f"{name} is damaged ({error}): restore it from a copy, then run `ledger verify`")
        return LedgerError(f"{name}: {error}; nothing was changed")


class _Session:
    """See `stores.common.sql.Session`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = json.dumps(value)
        return self._connection.execute(sql, values).fetchall()

    def table(self, sql: str, schema: pa.Schema, **values: Any) -> pa.Table:
        columns = list(zip(*self.rows(sql, **values), strict=True)) or [()] * len(schema)
        return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema)

    def insert(self, table: str, rows: pa.Table, conflict: str = "") -> None:
        names = rows.schema.names
        sql = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) {conflict}"
        for batch in rows.to_batches(max_chunksize=_ROWS_AT_ONCE):
            columns = [column.to_numpy(zero_copy_only=False).tolist() for column in batch.columns]
            self._connection.executemany(sql, zip(*columns, strict=True))


def _code(error: sqlite3.Error) -> int:
    """The primary code of SQLite; 0 where it is an error of the module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
