"""DuckDB: commits and refs in one file, which one process may write at a time.

Invariants: a file is held for one operation and let go of, so that other processes get their turn; who finds it held
waits. Reading processes hold it together. Foreign keys are left out: DuckDB checks them against rows that the same
transaction has deleted already, so that a batch could not be removed in one.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from ledger_cli.errors import Corrupt, LedgerError, NotWritten, Unavailable, UsageError
from ledger_cli.ports import Capabilities
from ledger_cli.stores.common.sql import Session, SqlStore, named
from ledger_cli.stores.common.sql_schema import Types
from ledger_cli.stores.common.urls import local_path

Result = TypeVar("Result")

PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.02
_NO_ROOM = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)))
_CONFIG: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "preserve_insertion_order": False,
}

_turns: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
"""By file: threads of one process take turns too, as DuckDB refuses one to open it in two ways."""


class DuckdbStore(SqlStore):
    """See `ports.CommitStore`. Safe with many processes and threads, which wait for each other."""

    capabilities = Capabilities(
        engine="DuckDB (duckdb)",
        extra=None,
        refs=True,
        processes="many on one machine, in turns: one writes, or several read",
        durable="the loss of power: the log is synced at each commit",
        atomic="some 250,000 entries of a batch",
        exact="HUGEINT",
    )
    types = Types(
        uuid="UUID",
        text="VARCHAR",
        json="JSON",
        jsonb="JSON",
        time="TIMESTAMPTZ",
        exact="HUGEINT",
        bytes="BLOB",
        serial="BIGINT PRIMARY KEY DEFAULT nextval('commit_entries_id')",
        serial_before="CREATE SEQUENCE commit_entries_id",
        commit="",
        ranged="",  # an index of two columns would serve the equality of both alone
    )
    among = "{column} IN (SELECT CAST(unnest(:{name}) AS {type}))"
    version_exists = "SELECT 1 FROM duckdb_tables() WHERE table_name = 'schema_version'"
    time_text = "epoch_us(created_at)"

    def __init__(self, url: str, directory: Path) -> None:
        super().__init__()
        self._file = local_path(url, directory)
        self._turn = _turns[os.path.realpath(self._file)]
        self._engine: duckdb.DuckDBPyConnection | None = None
        """Without a file of its own; to attach one to it takes a tenth of the time that starting an engine takes."""

    def close(self) -> None:
        """See `ports.CommitStore`. Of the file nothing is held between two calls."""
        with self._turn:
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def _name(self) -> str:
        return str(self._file)

    def _read(self, work: Callable[[Session], Result]) -> Result:
        # There is no file to be read before the first write.
        return self._within(work, read_only=self._file.exists())

    def _write(self, work: Callable[[Session], Result]) -> Result:
        return self._within(work, read_only=False)

    def _within(self, work: Callable[[Session], Result], read_only: bool) -> Result:
        with self._attached(read_only) as connection:
            connection.begin()
            result = work(_Session(connection))
            connection.commit()
            return result

    @contextmanager
    def _attached(self, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file, held by this process, and DuckDB's errors in the ledger's words."""
        with self._turn:
            try:
                connection = self._engine = self._engine or duckdb.connect(config=_CONFIG)
                self._attach(connection, read_only)
                yield connection
                connection.execute("USE memory")
                connection.execute("DETACH store")
            except BaseException as error:
                # It rolls back, and lets go of the file.
                self.close()
                if isinstance(error, duckdb.Error):
                    raise self._translated(error) from error
                raise

    def _attach(self, connection: duckdb.DuckDBPyConnection, read_only: bool) -> None:
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
        path, options = str(self._file).replace("'", "''"), "TYPE duckdb, READ_ONLY" if read_only else "TYPE duckdb"
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                connection.execute(f"ATTACH '{path}' AS store ({options})")
                connection.execute("USE store")
                return
            except duckdb.IOException as error:
                if not _is_held(error) or time.monotonic() > end:
                    raise
                time.sleep(_PAUSE_SECONDS)

    def _translated(self, error: duckdb.Error) -> LedgerError:
        line, name = str(error).partition("\n")[0], self._name()
        if _is_held(error):
            return Unavailable(
                f"{name} is in use by another process for more than {PATIENCE_SECONDS:.0f} seconds: "
                "nothing was changed, end that process or wait, and run the command again"
            )
        if any(reason in line for reason in _NO_ROOM) or isinstance(error, duckdb.OutOfMemoryException):
            return NotWritten(f"{name}: {line}")
        if "not a valid DuckDB database" in line:
            return UsageError(f"{name} is no DuckDB database: choose another file")
        if "newer version" in line or "different version" in line or "storage version" in line.lower():
            return UsageError(f"{name} was written by another DuckDB: install a newer duckdb ({line})")
        if isinstance(error, duckdb.IOException):
            return UsageError(f"{name} cannot be opened: see to the permissions of it and its directory ({line})")
        if isinstance(error, (duckdb.SerializationException, duckdb.InternalException)):
            return Corrupt(f"{name} is damaged ({line}): restore it from a copy, then run `ledger verify`")
        return LedgerError(f"{name}: {line}; nothing was changed")


class _Session:
    """See `stores.common.sql.Session`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        result = self._connection.execute(named(sql, r"$\1"), values or None)
        return result.fetchall() if result.description else []

    def table(self, sql: str, schema: pa.Schema, **values: Any) -> pa.Table:
        result = self._connection.sql(named(sql, r"$\1"), params=values or None)
        return result.to_arrow_table().rename_columns(schema.names).cast(schema)

    def insert(self, table: str, rows: pa.Table, conflict: str = "") -> None:
        names = ", ".join(rows.schema.names)
        self._connection.register("given", rows)
        self._connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM given {conflict}")
        self._connection.unregister("given")


def _is_held(error: duckdb.Error) -> bool:
    return "Could not set lock on file" in str(error)
