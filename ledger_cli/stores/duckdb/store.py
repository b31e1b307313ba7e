"""DuckDB: commits and refs in one file, which one process may write at a time.

Invariants: a file is held for one operation, by a reader for a moment longer (see `file`), and let go of, so that other
processes get their turn; who finds it held waits. Reading processes hold it together. Foreign keys are left out: DuckDB
checks them against rows that the same transaction has deleted already, so that a batch could not be removed in one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from ledger_cli.errors import Corrupt, LedgerError, NotWritten, Unavailable, UsageError
from ledger_cli.ports import Capabilities
from ledger_cli.stores.common.sql import Session, SqlStore, named
from ledger_cli.stores.common.sql_schema import Types
from ledger_cli.stores.common.urls import local_path
from ledger_cli.stores.duckdb import file
from ledger_cli.stores.duckdb.file import is_held, shared

Result = TypeVar("Result")

_NO_ROOM = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)))
_statements: dict[str, duckdb.Statement] = {}
"""By SQL: to parse it takes a third of the time of a look-up. Values are no part of it, so that there are few."""


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
        self._path = local_path(url, directory)
        self._file = shared(self._path)

    def close(self) -> None:
        """See `ports.CommitStore`."""
        self._file.close()

    def _name(self) -> str:
        return str(self._path)

    def _read(self, work: Callable[[Session], Result]) -> Result:
        # There is no file to be read before the first write.
        return self._within(work, read_only=self._path.exists())

    def _write(self, work: Callable[[Session], Result]) -> Result:
        return self._within(work, read_only=False)

    def _within(self, work: Callable[[Session], Result], read_only: bool) -> Result:
        try:
            with self._file.held(read_only) as connection:
                if read_only:
                    # Nobody writes meanwhile: a transaction would only take its time.
                    return work(_Session(connection))
                connection.begin()
                result = work(_Session(connection))
                connection.commit()
                return result
        except duckdb.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: duckdb.Error) -> LedgerError:
        line, name = str(error).partition("\n")[0], self._name()
        if is_held(error):
            return Unavailable(
                f"{name} is in use by another process for more than {file.PATIENCE_SECONDS:.0f} seconds: "
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
        statement = _statements.get(sql)
        if statement is None:
            (statement,) = self._connection.extract_statements(named(sql, r"$\1"))
            _statements[sql] = statement
        result = self._connection.execute(statement, values or None)
        return result.fetchall() if result.description else []

    def table(self, sql: str, schema: pa.Schema, **values: Any) -> pa.Table:
        result = self._connection.sql(named(sql, r"$\1"), params=values or None)
        return result.to_arrow_table().rename_columns(schema.names).cast(schema)

    def insert(self, table: str, rows: pa.Table, conflict: str = "") -> None:
        names = ", ".join(rows.schema.names)
        self._connection.register("given", rows)
        self._connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM given {conflict}")
        self._connection.unregister("given")
