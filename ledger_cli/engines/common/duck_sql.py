"""`ledger sql`: the user's statement over views of a ledger, on a connection that can do nothing else.

A statement cannot be told by its kind alone: a SELECT may have a COPY in its WITH clause. So the connection
has no way out at all: the only file system that it reaches knows the listed files and opens them for reading,
it loads nothing, and its settings are locked.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeVar

import duckdb
import fsspec
import pyarrow as pa

from ledger_cli.core.commit import COMMIT
from ledger_cli.core.contributors import CONTRIBUTORS
from ledger_cli.core.events import TICKS
from ledger_cli.core.world import WORLD
from ledger_cli.engines.common.duck import first_line, ident, lacks_entries, quoted, source_sql
from ledger_cli.errors import Conflict, Corrupt, LedgerError, UsageError
from ledger_cli.ports import SQL_VIEWS, SqlAnswer, SqlInput, Store

_Made = TypeVar("_Made")
_PROTOCOL = "ledger"
_BATCH_ROWS = 100_000
_MESSAGE_MAX = 500
_READ_ONLY = "sql only reads the ledger"
_PIVOT = re.compile(r"\s*(from|pivot|select|with)\b", re.IGNORECASE)
_CORRUPT = (duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException)
_KINDS = {
    "IO Error": duckdb.IOException,
    "Invalid Input Error": duckdb.InvalidInputException,
    "Out of Memory Error": duckdb.OutOfMemoryException,
    "Permission Error": duckdb.PermissionException,
    "Serialization Error": duckdb.SerializationException,
}
"""What an error is that comes through Arrow, which has only the text of it."""

_NO_ANSWER = "this SQL cannot be answered: "
_NEXT_STEPS: dict[type[duckdb.Error], str] = {
    duckdb.ParserException: "; correct it there: one SELECT as DuckDB reads it is taken",
    duckdb.BinderException: "; `DESCRIBE` and the name of a view lists its columns",
}
_NO_TABLE = re.compile(r"Table with name (\S+) does not exist")
_LOSSY = {"uhugeint", "bignum", "bit", "time with time zone"}
"""Types whose values Arrow changes or cannot hold."""

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
    FROM stored.ticks"""

_COMMITS = """
    SELECT c.*, m.created_at, m.by, m.branch
    FROM stored.headers c ASOF LEFT JOIN stored.commit_moves m ON c.shard = m.shard AND c.height >= m.height"""

_HEADERS = "headers/"
"""Before the name of a file of commits, of which no entries are read."""
_KEPT = "views/"
"""Before the name of a view of the user's own whose rows are kept."""
_HEADER_SCHEMA = COMMIT.remove(COMMIT.get_field_index("entries")).append(pa.field("regions", pa.int64()))
_PACKS = "packs/"
_HELD_MAX = 200
"""Packs that are held open: a process may open some hundred files more."""
_COUNTED = {
    False: "* EXCLUDE (entries), len(entries)::BIGINT AS regions",
    True: ", ".join(_HEADER_SCHEMA.names),
}
"""Columns of headers, by whether entries are archived."""
_WITH_ENTRIES = "* REPLACE (entries AS entries)"
"""Fails where a batch was archived a moment ago, in place of giving nulls."""

_COMMIT_ENTRIES = """
    SELECT commit_id, shard, height, epoch_start, epoch_end, entry.region AS region, entry.n AS n,
           entry.weight_value AS weight, entry.activity_mean AS activity_mean,
           entry.activity_var AS activity_var, entry.activity::HUGEINT AS activity_sum,
           entry.activity2::HUGEINT AS activity2_sum, entry.weight::HUGEINT AS weight_sum, {entity_refs}
    FROM (SELECT * EXCLUDE (entries), unnest(entries) AS entry FROM stored.commits){with_contributors}"""
_NO_CONTRIBUTORS = {"entity_refs": "NULL::VARCHAR[] AS entity_refs", "with_contributors": ""}
_CONTRIBUTORS = {
    "entity_refs": "entity_refs",
    "with_contributors": """
    LEFT JOIN (SELECT commit_id AS of_commit, region, entity_refs FROM stored.contributors) AS known
    ON commit_id = of_commit AND entry.region = known.region""",
}

_ENTITY_STATE = """
    SELECT entity_id, max(tick_id) AS last_tick, arg_max(x, tick_id) AS x, arg_max(y, tick_id) AS y,
           arg_max(activity, tick_id) AS activity, count(*) AS "rows",
           list_reverse(arg_max(activity, tick_id, 16)) AS activity_history
    FROM stored.ticks GROUP BY entity_id"""

_WORLD_EVENTS = "SELECT * EXCLUDE (event_hash) FROM stored.world_events"

_VIEWS = {
    "ticks": _TICKS,
    "commits": _COMMITS,
    "entity_state": _ENTITY_STATE,
    "world": "FROM stored.world",
    "world_events": _WORLD_EVENTS,
}


class _Handle:
    """A file as DuckDB opened it, which its threads share: they read by a seek and a read, so each has its place."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._places: dict[int, int] = {}

    def seek(self, offset: int, whence: int = 0) -> int:
        place = offset if whence == 0 else os.fstat(self._descriptor).st_size + offset
        self._places[threading.get_ident()] = place
        return place

    def tell(self) -> int:
        return self._places.get(threading.get_ident(), 0)

    def read(self, size: int = -1) -> bytes:
        place = self.tell()
        data = os.pread(self._descriptor, size if size >= 0 else os.fstat(self._descriptor).st_size, place)
        self._places[threading.get_ident()] = place + len(data)
        return data

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        # Of those that it looks into to bind a view, DuckDB lets go without closing them.
        self.close()


class _Listed(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """Some files of a ledger by their names, read-only.

    Packs are held open: another process may replace one while rows are taken, and take it away. Other files that go
    away are found again in the pack or archive where they went. What was found nowhere any more is in `gone`.
    """

    protocol = _PROTOCOL
    cachable = False

    def __init__(self, store: Store, places: Mapping[str, Callable[[], str]]) -> None:
        """Corrupt where a pack is not there."""
        super().__init__()
        self._store = store
        self._places = places
        self._packings = store.packings
        self._locations = {name: place() for name, place in places.items()}
        self._held: dict[str, int] = {}
        self.gone: str | None = None
        packs = [name for name in self._locations if name.removeprefix(_HEADERS).startswith(_PACKS)]
        try:
            for name in packs[:_HELD_MAX]:
                self._held[name] = os.open(self._locations[name], os.O_RDONLY)
        except OSError as error:
            self.close()
            raise Corrupt(f"{name} cannot be read: run `ledger verify` ({error.strerror})") from error

    @property
    def outrun(self) -> bool:
        """Whether something is gone since files went into other packs meanwhile."""
        return self.gone is not None and self._store.packings != self._packings

    def close(self) -> None:
        """Let go of what is held."""
        while self._held:
            os.close(self._held.popitem()[1])

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        name = self._strip_protocol(path)
        descriptor = self._opened(name)
        try:
            return {"name": name, "size": os.fstat(descriptor).st_size, "type": "file"}
        finally:
            os.close(descriptor)

    def modified(self, path: str) -> datetime:
        return datetime.fromtimestamp(0, UTC)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        return []

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path] if self._strip_protocol(path) in self._locations else []

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        if mode != "rb":
            raise PermissionError(_READ_ONLY)
        return _Handle(self._opened(self._strip_protocol(path)))

    def _opened(self, name: str) -> int:
        if name not in self._locations:
            raise FileNotFoundError(name)
        if name in self._held:
            return os.dup(self._held[name])
        with contextlib.suppress(FileNotFoundError):
            return os.open(self._locations[name], os.O_RDONLY)
        self._store.look_again()
        self._locations[name] = self._places[name]()
        try:
            return os.open(self._locations[name], os.O_RDONLY)
        except FileNotFoundError:
            self.gone = name.removeprefix(_HEADERS)
            raise


@contextlib.contextmanager
def run_sql(
    connection: duckdb.DuckDBPyConnection, store: Store, given: SqlInput, statement: str
) -> Iterator[SqlAnswer]:
    """See `ports.Engine.sql`. The connection is fresh, and of no use afterwards."""
    files = [*given.ticks, *(file for _, group in given.commits for file in group)]
    files += [file for _, group in given.contributors for file in group]
    files += [*given.world_events, *(each.file for each in given.quarantine)]
    groups = [given.ticks, *(group for _, group in (*given.commits, *given.contributors)), given.world_events]
    groups += [[each.file] for each in given.quarantine]
    # Looked up once: what can be opened is what the views name.
    readings = {tuple(group): store.reading(group) for group in groups if group}
    sources = {group: source_sql(reading, _url) for group, reading in readings.items()}
    listed = {name: partial(store.location, name) for each in readings.values() for name in each.names}
    headers: list[_Part] = []
    for condition, group in given.headers:
        for archived in (False, True):
            chosen = [file for file in group if store.archived(file) == archived]
            if chosen:
                reading = store.reading(chosen, headers=True)
                source = source_sql(reading, lambda file: _url(_HEADERS + file), headers=True)
                headers.append((condition, source, _COUNTED[archived]))
                listed |= {_HEADERS + name: partial(store.headers, name) for name in reading.names}
                files += reading.names
    listed |= {_KEPT + name: partial(str, path) for name, path in given.kept.items()}
    reached = _Listed(store, listed)
    connection.register_filesystem(reached)
    files += [part.file for reading in readings.values() for part in reading.packs]
    try:
        # DuckDB does not look for Ctrl-C while it makes a stream: so it works in a thread, and we wait for it.
        with ThreadPoolExecutor(1) as worker:
            wrong: dict[str, str] = {}

            def waited(work: Callable[[], _Made]) -> _Made:
                try:
                    return worker.submit(work).result()
                except duckdb.Error as error:
                    raise _translated(error, files, given.views, wrong) from error
                except OSError as error:
                    if error.errno is not None:
                        raise
                    raise _translated(_told_by_arrow(error), files, given.views, wrong) from error
                except KeyboardInterrupt:
                    connection.interrupt()
                    raise

            def opened() -> pa.RecordBatchReader:
                _lock(connection)
                try:
                    wrong.update(_define(connection, given, sources, headers))
                except duckdb.BinderException as error:
                    if lacks_entries(error):
                        raise Corrupt(f"{files[0]} cannot be read: run `ledger verify`") from error
                    raise
                return _answer(connection, statement)

            reader = waited(opened)
            yield SqlAnswer(reader.schema, _batches(reader, waited, reached), tuple(dict.fromkeys(wrong.values())))
    finally:
        connection.unregister_filesystem(_PROTOCOL)
        reached.close()


def _batches(
    reader: pa.RecordBatchReader,
    waited: Callable[[Callable[[], pa.RecordBatch | None]], pa.RecordBatch | None],
    reached: _Listed,
) -> Iterator[pa.RecordBatch]:
    def read() -> pa.RecordBatch | None:
        try:
            return reader.read_next_batch()
        except StopIteration:
            return None

    try:
        while (batch := waited(read)) is not None:
            yield batch
    except Corrupt as error:
        if not reached.outrun:
            raise
        # Rows were given already: to read all of it again would double them.
        raise Conflict(
            f"{reached.gone} was replaced by a larger pack, and taken away, while rows of it were read: run the query "
            "again, and `ledger compact` with more --grace"
        ) from error


_SourceSql = Mapping[tuple[str, ...], str]
"""What stands behind FROM for the rows of a group of files."""
_Part = tuple[str, str, str]
"""A condition, what stands behind FROM, and the columns of a part of a view."""


def _define(
    connection: duckdb.DuckDBPyConnection, given: SqlInput, sources: _SourceSql, headers: Sequence[_Part]
) -> dict[str, str]:
    """The views; what they are made of is in another schema, where `SHOW TABLES` does not see it.

    What is wrong with those of the user, by their names in lower case.
    """
    connection.execute("CREATE SCHEMA stored")
    for name, table in given.tables.items():
        _store(connection, name, table)
    _store(connection, "no_quarantine", _QUARANTINE.empty_table())

    def parts(groups: Iterable[tuple[str, Sequence[str]]], columns: str = "*") -> list[_Part]:
        return [(condition, sources[tuple(group)], columns) for condition, group in groups if group]

    _define_stored(connection, "ticks", TICKS, parts([("", given.ticks)]))
    _define_stored(connection, "commits", COMMIT, parts(given.commits, _WITH_ENTRIES))
    _define_stored(connection, "headers", _HEADER_SCHEMA, headers)
    _define_stored(connection, "world_events", WORLD, parts([("", given.world_events)]))
    _define_stored(connection, "contributors", CONTRIBUTORS, parts(given.contributors))
    views = {
        **_VIEWS,
        "commit_entries": _COMMIT_ENTRIES.format(**(_CONTRIBUTORS if given.contributors else _NO_CONTRIBUTORS)),
        "quarantine": _quarantine(given, sources),
        "refs": "FROM stored.refs",
    }
    for name, view in views.items():
        connection.execute(f"CREATE VIEW {name} AS {view}")
    kept = {name: f"FROM read_parquet({quoted(_url(_KEPT + name))})" for name in given.kept}
    return _define_own(connection, {**given.views, **kept})


def _define_own(connection: duckdb.DuckDBPyConnection, views: Mapping[str, str]) -> dict[str, str]:
    """The user's views, each after those that it uses; what is said of those that cannot be, or use such a one."""
    waiting, wrong = dict(views), dict[str, str]()
    while waiting:
        needs: dict[str, str] = {}
        for name, sql in list(waiting.items()):
            try:
                missing = _defined(connection, name, sql, waiting, wrong)
            except UsageError as error:
                wrong[name.casefold()] = str(error)
                missing = None
            if missing is None:
                del waiting[name]
            else:
                needs[name] = missing
        if needs and all(need in waiting for need in needs.values()):
            name, path = next(iter(needs)), []
            while name not in path:
                path.append(name)
                name = needs[name]
            listed = path[path.index(name) :]
            told = f"the views {' → '.join([*listed, name])} in ledger.toml use each other in a circle"
            for each in listed:
                wrong[each.casefold()] = f"{told}: take one out of it"
                del waiting[each]
    return wrong


def _defined(
    connection: duckdb.DuckDBPyConnection, name: str, sql: str, waiting: Mapping[str, str], wrong: Mapping[str, str]
) -> str | None:
    """Define a view; the other one that has to be there first, where there is one. UsageError where it cannot be."""
    try:
        statements = connection.extract_statements(sql)
        if [each.type.name for each in statements] != ["SELECT"]:
            raise UsageError(f"view {name} in ledger.toml must be one SELECT")
        connection.execute(f"CREATE VIEW {ident(name)} AS {sql}")
    except duckdb.Error as error:
        unknown = _NO_TABLE.search(first_line(error))
        if unknown is not None:
            by_name = {each.casefold(): each for each in waiting}
            if unknown[1].casefold() in by_name:
                return by_name[unknown[1].casefold()]
            if unknown[1].casefold() in wrong:
                raise UsageError(wrong[unknown[1].casefold()]) from error
        told = str(_translated(error, (), waiting, {})).removeprefix(_NO_ANSWER)
        raise UsageError(f"view {name} in ledger.toml cannot be used: {told}") from error
    return None


def _store(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    connection.register("given", table)
    connection.execute(f"CREATE TABLE stored.{name} AS FROM given")
    connection.unregister("given")


def _define_stored(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    schema: pa.Schema,
    parts: Sequence[_Part],
) -> None:
    """A view over Parquet files in parts; without any it is empty."""
    _store(connection, f"no_{name}", schema.empty_table())
    selects = [f"SELECT * FROM stored.no_{name}"]
    for condition, source, columns in parts:
        where = f" WHERE {condition}" if condition else ""
        selects.append(f"SELECT {columns} FROM {source}{where}")
    connection.execute(f"CREATE VIEW stored.{name} AS {' UNION ALL BY NAME '.join(selects)}")


def _url(file: str) -> str:
    return f"{_PROTOCOL}://{file}"


def _quarantine(given: SqlInput, sources: _SourceSql) -> str:
    selects = ["SELECT * FROM stored.no_quarantine"]
    for each in given.quarantine:
        named = f'{quoted(each.source)} AS "source", {quoted(each.source_sha256)} AS source_sha256'
        selects.append(f"SELECT {named}, * FROM {sources[each.file,]}")
    return " UNION ALL BY NAME ".join(selects)


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET python_enable_replacements = false")
    connection.execute(f"SET allowed_directories = ['{_PROTOCOL}://']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _answer(connection: duckdb.DuckDBPyConnection, statement: str) -> pa.RecordBatchReader:
    statements = connection.extract_statements(statement)
    if len(statements) != 1:
        raise UsageError(f"sql takes one statement, not {len(statements)}")
    kind = statements[0].type.name
    # A PIVOT over the values of a column is one statement for the user and several for DuckDB.
    if kind != "SELECT" and not (kind == "MULTI" and _PIVOT.match(statement)):
        raise UsageError(f"{_READ_ONLY}: {kind} is not allowed, use SELECT, SHOW, DESCRIBE or SUMMARIZE")
    relation = connection.sql(statement)
    for name, type_of in zip(relation.columns, relation.types, strict=True):
        if type_of.id in _LOSSY:
            raise UsageError(f"column {name} is {type_of}, which would lose its value: use {ident(name)}::VARCHAR")
    return relation.to_arrow_reader(_BATCH_ROWS)


def _told_by_arrow(error: OSError) -> duckdb.Error:
    """The error of DuckDB, of which Arrow keeps the text alone."""
    return _KINDS.get(str(error).partition(":")[0], duckdb.Error)(str(error))


def _translated(
    error: duckdb.Error, files: Sequence[str], views: Iterable[str], wrong: Mapping[str, str]
) -> LedgerError:
    """`wrong`: what is said of views that could not be made, by their names in lower case."""
    line, text = first_line(error), str(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        return LedgerError(f"out of memory or temporary space: raise LEDGER_MEMORY ({line})")
    if _READ_ONLY in text:
        return UsageError(f"{_READ_ONLY}: COPY is not allowed, use SELECT")
    if isinstance(error, duckdb.PermissionException):
        return UsageError(f"{_READ_ONLY}, and only through its views: {line.split(' - ')[0]}")
    named = [file for file in files if file in text]
    if line.startswith("Traceback"):
        # What Python raised, without the drawing of where.
        raised = text.partition("\n\nLINE ")[0].splitlines()
        line = next((each for each in reversed(raised) if each.strip(" ^~")), line).strip()
        return Corrupt(f"{(named or ['a file of the ledger'])[0]} cannot be read: run `ledger verify` ({line})")
    if named and isinstance(error, _CORRUPT):
        return Corrupt(f"{named[0]} cannot be read: run `ledger verify` ({line})")
    unknown = _NO_TABLE.match(line)
    if unknown is not None and unknown[1].casefold() in wrong:
        return UsageError(wrong[unknown[1].casefold()])
    if unknown is not None:
        # DuckDB's own guess may be a table that is not for the user.
        known = (*SQL_VIEWS, *views)
        near = get_close_matches(unknown[1], known, n=1)
        meant = f", did you mean {near[0]}" if near else ""
        return UsageError(f"there is no table {unknown[1]}{meant}: use {', '.join(known)}")
    next_step = next((step for kind, step in _NEXT_STEPS.items() if isinstance(error, kind)), "")
    return UsageError(f"{_NO_ANSWER}{_with_hints(text)}{next_step}")


def _with_hints(text: str) -> str:
    """What DuckDB says, with its guesses at what was meant, but without the drawing of where."""
    told = first_line(duckdb.Error(text.partition("\n\nLINE ")[0].replace("\n", " ")))
    return told if len(told) <= _MESSAGE_MAX else f"{told[:_MESSAGE_MAX]}…"
