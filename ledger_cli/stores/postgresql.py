"""PostgreSQL: commits and refs in the tables of a schema, for many processes on many machines.

Invariants: reads are single statements, writes are transactions, committed synchronously; a connection that breaks is
made again and the transaction done again, which every one of them allows. Rows go in and out by COPY, as text that
Arrow writes and reads. The password is in no message.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.csv

from ledger_cli.errors import Conflict, LedgerError, MissingExtra, NotWritten, Unavailable, UsageError
from ledger_cli.ports import Capabilities
from ledger_cli.stores.common.sql import Session, SqlStore, named
from ledger_cli.stores.common.sql_schema import Types

if TYPE_CHECKING:
    import psycopg
    import psycopg_pool

Result = TypeVar("Result")

PATIENCE_SECONDS = 10.0
_PAUSES_SECONDS = (0.0, 0.1, 0.2, 0.4, 0.8)
_CONNECTIONS = 8
_ROWS_AT_ONCE = 50_000
_FORM = r"%(\1)s"

_AGAIN = ("08", "40001", "40P01", "53300", "57P0", "23505", "23503")
"""Beginnings of codes that another try may mend: the connection, the server's start or end, and writers that met."""
_SETTINGS = (
    ("password authentication failed", "the password is wrong: give it in PGPASSWORD, ~/.pgpass or the URL"),
    ("no password supplied", "it asks for a password: give it in PGPASSWORD, ~/.pgpass or the URL"),
    ("authentication failed", "it does not accept the user: see to the user in the URL and the server's pg_hba.conf"),
    (r"no pg_hba\.conf entry", "it accepts no such user from this machine: see to the server's pg_hba.conf"),
    (r'role ".*" does not exist', "there is no such user: see to the user in the URL"),
    (r'database ".*" does not exist', "there is no such database: make it with createdb, or name another in the URL"),
    ("could not translate host name", "there is no such host: see to the host in the URL"),
    ("failed to resolve host", "there is no such host: see to the host in the URL"),
    ("invalid .* value", "a setting in the URL is wrong, see to it"),
    ("certificate", "the certificate is refused: see to sslmode and sslrootcert in the URL"),
)
"""What a server says to a setting that is wrong; libpq gives no code for it."""
_LOCK = "SELECT pg_advisory_lock(hashtextextended(current_schema() || '/' || name, 0)) FROM unnest(%s::text[]) AS name"
_SAFE = "what was not acknowledged may be done again: run the same command when the server is back"


class PostgresqlStore(SqlStore):
    """See `ports.CommitStore`. Each schema (`search_path`) holds one ledger."""

    capabilities = Capabilities(
        engine="PostgreSQL (psycopg)",
        extra="postgres",
        refs=True,
        processes="many on many machines; those that commit the same shards take turns",
        durable="the loss of power of the server, and of a node where synchronous standbys are set up",
        atomic="some 250,000 entries of a batch",
        exact="NUMERIC(39,0)",
    )
    types = Types(
        uuid="UUID",
        text='TEXT COLLATE "C"',
        json="JSON",
        jsonb="JSONB",
        time="TIMESTAMPTZ",
        exact="NUMERIC(39,0)",
        bytes="BYTEA",
        serial="BIGSERIAL PRIMARY KEY",
    )
    among = "{column} = ANY(CAST(:{name} AS {type}[]))"
    version_exists = "SELECT 1 WHERE to_regclass('schema_version') IS NOT NULL"
    time_text = "CAST(extract(epoch FROM created_at) * 1000000 AS BIGINT)"

    def __init__(self, url: str, directory: Path) -> None:
        super().__init__()
        try:
            import psycopg
            import psycopg_pool
        except ImportError as error:
            raise MissingExtra("postgres", "psycopg") from error
        self._psycopg, self._psycopg_pool = psycopg, psycopg_pool
        try:
            settings = psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.Error as error:
            # What libpq says may show the whole URL.
            wanted = "postgresql://USER@HOST:PORT/DATABASE"
            raise UsageError(f"the URL of the store is not one of PostgreSQL: write {wanted}") from error
        self._settings: dict[str, Any] = {
            "connect_timeout": int(PATIENCE_SECONDS),
            "application_name": "ledger",
            **settings,
            "client_encoding": "utf8",
        }
        self._pool: psycopg_pool.ConnectionPool[Any] | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """See `ports.CommitStore`."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    @contextmanager
    def leading(self, branch: str, shards: Iterable[int]) -> Iterator[None]:
        """See `ports.Commits`. An advisory lock for each shard, on a connection of its own, with which they end."""

        def taken(_: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
            connection: psycopg.Connection[Any] = self._psycopg.connect(**self._settings, autocommit=True)
            try:
                connection.execute(f"SET lock_timeout = '{PATIENCE_SECONDS:.1f}s'")
                # In order, so that two do not wait for each other.
                names = [f"{branch}/{shard}" for shard in sorted(shards)]
                connection.execute(_LOCK, [names])
            except self._psycopg.errors.LockNotAvailable as error:
                connection.close()
                raise Conflict(
                    f"another process is committing on {branch}: nothing was changed, run the command again when it "
                    "has ended"
                ) from error
            except BaseException:
                connection.close()
                raise
            return connection

        connection = self._patiently(taken)
        try:
            yield
        finally:
            connection.close()

    def _name(self) -> str:
        host, port, database = (self._settings.get(each) for each in ("host", "port", "dbname"))
        return f"postgresql://{host or ''}{f':{port}' if port else ''}/{database or ''}"

    def _migrate(self, session: Session) -> None:
        if not session.rows("SELECT current_schema()")[0][0]:
            raise UsageError(f"{self._name()} has no such schema: make it with CREATE SCHEMA, or name another one")
        encoding = session.rows("SELECT current_setting('server_encoding')")[0][0]
        if encoding != "UTF8":
            raise UsageError(f"{self._name()} is encoded in {encoding}: make a database with createdb --encoding=UTF8")
        session.rows("SELECT pg_advisory_xact_lock(hashtext(current_schema()))")
        super()._migrate(session)

    # -- connections --------------------------------------------------------------------------------------

    def _read(self, work: Callable[[Session], Result]) -> Result:
        return self._patiently(lambda connection: work(_Session(connection)))

    def _write(self, work: Callable[[Session], Result]) -> Result:
        def transaction(connection: psycopg.Connection[Any]) -> Result:
            with connection.transaction():
                return work(_Session(connection))

        return self._patiently(transaction)

    def _patiently(self, work: Callable[[psycopg.Connection[Any]], Result]) -> Result:
        """The result of some work with a connection, tried again for a while where another try may mend it."""
        end, attempt = time.monotonic() + PATIENCE_SECONDS, 0
        while True:
            try:
                pool = self._connections()
                connection = pool.getconn(timeout=max(0.1, end - time.monotonic()))
                try:
                    return work(connection)
                finally:
                    pool.putconn(connection)
            except self._psycopg.Error as error:
                if not _is_mendable(error) or time.monotonic() > end:
                    raise self._translated(error) from error
                if error.sqlstate is None:
                    # Where one connection is broken all are, and a pool waits longer and longer before it tries again.
                    self.close()
            time.sleep(_PAUSES_SECONDS[min(attempt, len(_PAUSES_SECONDS) - 1)])
            attempt += 1

    def _connections(self) -> psycopg_pool.ConnectionPool[Any]:
        """The pool. Before it is made a connection is tried, as a pool does not say why it gets none."""
        with self._lock:
            if self._pool is None:
                import logging

                logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())
                with self._psycopg.connect(**self._settings):
                    pass
                self._pool = self._psycopg_pool.ConnectionPool(
                    kwargs={**self._settings, "autocommit": True},
                    configure=_configured,
                    min_size=0,
                    max_size=_CONNECTIONS,
                    reconnect_timeout=PATIENCE_SECONDS,
                    open=True,
                )
            return self._pool

    # -- errors -------------------------------------------------------------------------------------------

    def _translated(self, error: psycopg.Error) -> LedgerError:
        code, name = error.sqlstate or "", self._name()
        line = _line(error)
        if code == "53100":
            return NotWritten(f"{name}: {line}")
        if code == "42501":
            return UsageError(
                f"{name} does not permit it ({line}): let its owner GRANT the right, or name another user"
            )
        if code in ("25006", "25P02"):
            return UsageError(f"{name} can only be read ({line}): name the primary server in the URL")
        if code in ("42P01", "3F000"):
            return UsageError(f"{name} lacks tables ({line}): see to the database and search_path in the URL")
        if code in ("22021", "22P05"):
            return LedgerError(
                f"{name} cannot hold the character U+0000 in a text: nothing was stored, use another store"
            )
        if code.startswith(("23", "40")):
            return Unavailable(f"{name}: others write the same ({line}); nothing was changed, run the command again")
        if not code or _is_mendable(error):
            for said, advice in _SETTINGS:
                if not code and re.search(said, line):
                    return UsageError(f"{name} cannot be opened: {advice} ({line})")
            return Unavailable(f"{name} cannot be reached ({line}); {_SAFE}")
        return LedgerError(f"{name}: {line}; nothing was changed")


class _Session:
    """See `stores.common.sql.Session`."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(named(sql, _FORM), values)
        # The description of columns takes longer than to fetch a row.
        return cursor.fetchall() if cursor.pgresult is not None and cursor.pgresult.nfields else []

    def table(self, sql: str, schema: pa.Schema, **values: Any) -> pa.Table:
        statement = f"COPY ({named(sql, _FORM)}) TO STDOUT (FORMAT csv)"
        with self._connection.cursor() as cursor, cursor.copy(statement, values) as copy:
            data = b"".join(copy)
        if not data:
            return schema.empty_table()
        read = pa.csv.read_csv(
            pa.py_buffer(data),
            pa.csv.ReadOptions(column_names=schema.names, block_size=len(data) + 1),
            pa.csv.ParseOptions(newlines_in_values=True),
            pa.csv.ConvertOptions(
                column_types=schema, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
        return read.cast(schema)

    def insert(self, table: str, rows: pa.Table, conflict: str = "") -> None:
        names = ", ".join(rows.schema.names)
        if not conflict:
            self._copy(table, rows)
            return
        self._connection.execute(
            f"CREATE TEMPORARY TABLE given ON COMMIT DROP AS SELECT {names} FROM {table} WITH NO DATA"
        )
        self._copy("given", rows)
        # In order, so that two that come at once do not wait for each other.
        first = rows.schema.names[0]
        self._connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM given ORDER BY {first} {conflict}")

    def _copy(self, table: str, rows: pa.Table) -> None:
        """COPY FROM text that Arrow writes: it takes half of the time of rows, one by one."""
        options = pa.csv.WriteOptions(include_header=False)
        statement = f"COPY {table} ({', '.join(rows.schema.names)}) FROM STDIN (FORMAT csv)"
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for batch in rows.to_batches(max_chunksize=_ROWS_AT_ONCE):
                sink = pa.BufferOutputStream()
                pa.csv.write_csv(batch, sink, options)
                copy.write(memoryview(sink.getvalue()))


def _configured(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SET synchronous_commit = on")


def _is_mendable(error: psycopg.Error) -> bool:
    if error.sqlstate is not None:
        return error.sqlstate.startswith(_AGAIN)
    line = _line(error)
    return not any(re.search(said, line) for said, _ in _SETTINGS)


def _line(error: psycopg.Error) -> str:
    """What the server says, in one line."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in said if "FATAL" in line or "failed" in line), said[0] if said else "no answer")
