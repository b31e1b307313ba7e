"""`ledger sql`: the user's statement over views of a ledger, on a connection that can do nothing else.

A statement cannot be told by its kind alone: a SELECT may have a COPY in its WITH clause. So the connection
has no way out at all: the only file system that it reaches knows the listed files and opens them for reading,
it loads nothing, and its settings are locked.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import fsspec
import pyarrow as pa

from ledger_cli.core.commit import COMMIT
from ledger_cli.core.events import TICKS
from ledger_cli.engines.common.duck import first_line, quoted, sql_list
from ledger_cli.errors import Corrupt, LedgerError, UsageError
from ledger_cli.ports import SqlInput, Store

_PROTOCOL = "ledger"
_READ_ONLY = "sql only reads the ledger"
_PIVOT = re.compile(r"\s*(from|pivot|select|with)\b", re.IGNORECASE)
_CORRUPT = (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException)

_QUARANTINE = pa.schema(
    [
        ("source", pa.string()),
        ("source_sha256", pa.string()),
        ("line", pa.int64()),
        ("partition", pa.int64()),
        ("offset", pa.int64()),
        ("raw", pa.string()),
        ("reason", pa.string()),
    ]
)

_TICKS = """
    SELECT entity_id, tick_id, x, y, activity, jitter, coalesce(meta, '{}') AS meta,
           make_timestamptz("timestamp") AS "timestamp"
    FROM stored_ticks"""

_COMMITS = """
    SELECT c.* EXCLUDE (entries), len(c.entries)::BIGINT AS regions, m.created_at, m.by, m.branch
    FROM stored_commits c ASOF LEFT JOIN commit_moves m ON c.shard = m.shard AND c.height >= m.height"""

_COMMIT_ENTRIES = """
    SELECT commit_id, shard, height, epoch_start, epoch_end, entry.region AS region, entry.n AS n,
           entry.weight_value AS weight, entry.activity_mean AS activity_mean,
           entry.activity_var AS activity_var, entry.activity::HUGEINT AS activity_sum,
           entry.activity2::HUGEINT AS activity2_sum, entry.weight::HUGEINT AS weight_sum
    FROM (SELECT * EXCLUDE (entries), unnest(entries) AS entry FROM stored_commits)"""

_ENTITY_STATE = """
    SELECT entity_id, max(tick_id) AS last_tick, arg_max(x, tick_id) AS x, arg_max(y, tick_id) AS y,
           arg_max(activity, tick_id) AS activity, count(*) AS "rows"
    FROM stored_ticks GROUP BY entity_id"""

_VIEWS = {
    "ticks": _TICKS,
    "commits": _COMMITS,
    "commit_entries": _COMMIT_ENTRIES,
    "entity_state": _ENTITY_STATE,
}


class _Shared:
    """A file that several threads read at once: each has a place of its own.

    DuckDB's threads share one handle, and read by a seek and a read: between the two another thread may seek.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._places: dict[int, int] = {}

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._lock:
            place: int = offset if whence == 0 else self._file.seek(offset, whence)
        self._places[threading.get_ident()] = place
        return place

    def tell(self) -> int:
        return self._places.get(threading.get_ident(), 0)

    def read(self, size: int = -1) -> bytes:
        thread = threading.get_ident()
        with self._lock:
            self._file.seek(self._places.get(thread, 0))
            data: bytes = self._file.read(size)
            self._places[thread] = self._file.tell()
        return data

    def close(self) -> None:
        self._file.close()


class _Listed(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """Some files of a ledger by their names, read-only."""

    protocol = _PROTOCOL
    cachable = False

    def __init__(self, locations: Mapping[str, str]) -> None:
        super().__init__()
        self._locations = locations

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        name = self._strip_protocol(path)
        found, inner = self._found(name)
        return {"name": name, "size": found.size(inner), "type": "file"}

    def modified(self, path: str) -> datetime:
        return datetime.fromtimestamp(0, UTC)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        return []

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path] if self._strip_protocol(path) in self._locations else []

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        if mode != "rb":
            raise PermissionError(_READ_ONLY)
        found, inner = self._found(self._strip_protocol(path))
        return _Shared(found.open(inner, "rb"))

    def _found(self, name: str) -> tuple[Any, str]:
        if name not in self._locations:
            raise FileNotFoundError(name)
        found, inner = fsspec.core.url_to_fs(self._locations[name])
        return found, inner


def run_sql(connection: duckdb.DuckDBPyConnection, store: Store, given: SqlInput, statement: str) -> pa.Table:
    """See `ports.Engine.sql`. The connection is fresh, and of no use afterwards."""
    files = [*given.ticks, *(file for _, group in given.commits for file in group)]
    files += [each.file for each in given.quarantine]
    connection.register_filesystem(_Listed({file: store.location(file) for file in files}))
    try:
        _lock(connection)
        _define(connection, "stored_ticks", TICKS, [("", given.ticks)])
        _define(connection, "stored_commits", COMMIT, given.commits)
        _define_quarantine(connection, given)
        for name, table in given.tables.items():
            connection.register(name, table)
        for name, view in _VIEWS.items():
            connection.execute(f"CREATE VIEW {name} AS {view}")
        return _answer(connection, statement)
    except duckdb.Error as error:
        raise _translated(error, files) from error
    finally:
        connection.unregister_filesystem(_PROTOCOL)


def _define(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    schema: pa.Schema,
    parts: Sequence[tuple[str, Sequence[str]]],
) -> None:
    """A view over Parquet files, with a condition for each group of them; without files it is empty."""
    connection.register(f"no_{name}", schema.empty_table())
    selects = [f"SELECT * FROM no_{name}"]
    for condition, files in parts:
        if files:
            where = f" WHERE {condition}" if condition else ""
            selects.append(f"SELECT * FROM read_parquet({sql_list([_url(file) for file in files])}){where}")
    connection.execute(f"CREATE VIEW {name} AS {' UNION ALL BY NAME '.join(selects)}")


def _url(file: str) -> str:
    return f"{_PROTOCOL}://{file}"


def _define_quarantine(connection: duckdb.DuckDBPyConnection, given: SqlInput) -> None:
    connection.register("no_quarantine", _QUARANTINE.empty_table())
    selects = ["SELECT * FROM no_quarantine"]
    for each in given.quarantine:
        named = f'{quoted(each.source)} AS "source", {quoted(each.source_sha256)} AS source_sha256'
        selects.append(f"SELECT {named}, * FROM read_parquet({quoted(_url(each.file))})")
    connection.execute(f"CREATE VIEW quarantine AS {' UNION ALL BY NAME '.join(selects)}")


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET python_enable_replacements = false")
    connection.execute(f"SET allowed_directories = ['{_PROTOCOL}://']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _answer(connection: duckdb.DuckDBPyConnection, statement: str) -> pa.Table:
    statements = connection.extract_statements(statement)
    if len(statements) != 1:
        raise UsageError(f"sql takes one statement, not {len(statements)}")
    kind = statements[0].type.name
    # A PIVOT over the values of a column is one statement for the user and several for DuckDB.
    if kind != "SELECT" and not (kind == "MULTI" and _PIVOT.match(statement)):
        raise UsageError(f"{_READ_ONLY}: {kind} is not allowed, use SELECT, SHOW, DESCRIBE or SUMMARIZE")
    return connection.sql(statement).to_arrow_table()


def _translated(error: duckdb.Error, files: Sequence[str]) -> LedgerError:
    line, text = first_line(error), str(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        return LedgerError(f"out of memory or temporary space: raise LEDGER_MEMORY ({line})")
    if _READ_ONLY in text:
        return UsageError(f"{_READ_ONLY}: COPY is not allowed, use SELECT")
    if isinstance(error, duckdb.PermissionException):
        return UsageError(f"{_READ_ONLY}, and only through its views: {line.split(' - ')[0]}")
    named = [file for file in files if file in text]
    if named and isinstance(error, _CORRUPT):
        return Corrupt(f"{named[0]} cannot be read: run `ledger verify` ({line})")
    if line.startswith("Traceback"):
        line = text.strip().splitlines()[-1]
        return Corrupt(f"a file of the ledger cannot be read: run `ledger verify` ({line})")
    return UsageError(f"this SQL cannot be answered: {line}")
