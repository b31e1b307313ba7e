"""ClickHouse: commits in tables of a server, or of chDB, the same engine in this process. Refs are kept elsewhere.

ClickHouse has no transactions, no unique keys and no compare-and-set. So every row carries its batch, rows that come
twice differ in when they were written alone and are read as one, and a batch counts as whole by a row that is written
last: what a killed call leaves is written once more. A table is ordered by how it is asked: entries by region and
epoch, commits by id.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.commit import REGION_COMMIT, CommitRow
from ledger_cli.core.events import ENTITY_STATE
from ledger_cli.core.slices import History
from ledger_cli.errors import Corrupt, LedgerError, MissingExtra, NotWritten, Unavailable, UsageError
from ledger_cli.ports import EVER, Capabilities, TickRange
from ledger_cli.stores.common.commits import CommitsBase
from ledger_cli.stores.common.rows import (
    FLAT,
    HEADERS,
    STORED,
    apart,
    by_region,
    counts_of_summaries,
    entity_refs,
    held,
    missing,
    pieces,
    row_of,
    runs,
    summaries,
    together,
)
from ledger_cli.stores.common.urls import local_path

Result = TypeVar("Result")

PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.05
_WAITS = (0.1, 0.3, 1.0, 3.0)
"""Seconds before each further try on a connection that broke."""
_ENTRIES_AT_ONCE = 250_000
_IDS_AT_ONCE = 5_000
"""They are sent in the address of a request, which servers bound."""
_TIME = "DateTime64(6, 'UTC')"
_SYNCED = "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
_SETTINGS = {"async_insert": "0", "mutations_sync": "2", "lightweight_deletes_sync": "2"}
"""An insert or a deletion is done when it is acknowledged."""
_MIGRATIONS = (
    (
        f"""CREATE TABLE IF NOT EXISTS batches (batch String, created_at {_TIME}, whole Bool, version UInt64)
            ENGINE = ReplacingMergeTree(version) ORDER BY batch {_SYNCED}""",
        f"""CREATE TABLE IF NOT EXISTS commits (
            commit_id UUID, layer LowCardinality(String), epoch_start Int64, epoch_end Int64, created_at {_TIME},
            summary JSON, digest String, shard Int64, height Int64, parents Array(String),
            policy LowCardinality(String), entries_digest String, metadata String, reason LowCardinality(String),
            batch LowCardinality(String), regions Int64, archived Bool DEFAULT false,
            INDEX created_at created_at TYPE minmax)
            ENGINE = ReplacingMergeTree ORDER BY (commit_id, batch) {_SYNCED}""",
        f"""CREATE TABLE IF NOT EXISTS commit_entries (
            id UInt64 MATERIALIZED cityHash64(commit_id, region_id), commit_id UUID, region_id String, weight Float64,
            activity_mean Float64, activity_var Float64, entity_refs JSON DEFAULT '{{}}', created_at {_TIME}, n Int64,
            sum_activity Int128, sum_activity2 Int128, sum_weight Int128, epoch_start Int64, epoch_end Int64,
            batch LowCardinality(String), shard Int64, height Int64,
            INDEX created_at created_at TYPE minmax, INDEX commit_id commit_id TYPE bloom_filter)
            ENGINE = ReplacingMergeTree ORDER BY (region_id, epoch_end, commit_id, batch) {_SYNCED}""",
        f"""CREATE TABLE IF NOT EXISTS entity_state (
            entity_id String, last_tick Int64, activity Float64, activity_history String, metadata String)
            ENGINE = ReplacingMergeTree(last_tick) ORDER BY entity_id {_SYNCED}""",
    ),
)
"""The statements that lead from one version to the next, each safe to repeat. Released ones never change."""
_HEADER = """toString(commits.commit_id) AS commit_id, digest, layer, shard, height, epoch_start, epoch_end, parents,
    policy, entries_digest, metadata, reason"""
_ENTRY = """toString(commit_entries.commit_id) AS commit_id, region_id AS region, n, toString(sum_activity) AS activity,
    toString(sum_activity2) AS activity2, toString(sum_weight) AS weight, commit_entries.weight AS weight_value,
    activity_mean, activity_var"""
_CHOSEN = "batch = {batch:String} AND commit_id IN {ids:Array(UUID)}"
_PLACED = ["batch", "shard", "height", "epoch_start", "epoch_end"]


class ClickhouseStore(CommitsBase):
    """See `ports.CommitStore`, without refs: `clickhouse://USER:PASSWORD@HOST:PORT/DATABASE`, `clickhouse+chdb:///DIR`.

    Of a server many processes at once; of chDB one, for which the others wait.
    """

    capabilities = Capabilities(
        engine="ClickHouse or chDB (clickhouse-connect)",
        extra="clickhouse",
        refs=False,
        processes="many; of chDB one at a time",
        durable="the loss of power: parts are synced",
        atomic="nothing",
        exact="Int128",
    )

    def __init__(self, url: str, directory: Path) -> None:
        scheme = url.partition("://")[0]
        self._engine: _Engine = _Chdb(local_path(url, directory)) if scheme.endswith("+chdb") else _Server(url)
        self._known: set[str] = set()
        """Batches seen: what a history names is not removed."""

    def create(self) -> None:
        """See `ports.CommitStore`."""
        self._run("CREATE TABLE IF NOT EXISTS schema_version (version Int64) ENGINE = MergeTree ORDER BY version")
        version = self._table("SELECT max(version) AS version FROM schema_version")["version"][0].as_py()
        if version > len(_MIGRATIONS):
            raise UsageError(
                f"{self._engine.name} has tables of version {version}, this program knows {len(_MIGRATIONS)}: "
                "install a newer ledger-cli"
            )
        for number in range(version, len(_MIGRATIONS)):
            for statement in _MIGRATIONS[number]:
                self._run(statement)
            self._insert("schema_version", pa.table({"version": [number + 1]}))

    def close(self) -> None:
        """See `ports.CommitStore`."""
        self._engine.close()

    # -- batches ------------------------------------------------------------------------------------------

    def persist_commits(self, batch: str, created_at: str, commits: Iterable[pa.Table]) -> None:
        """See `ports.Commits`."""
        found, at = self._batch(batch), _moment(created_at)
        version = 0 if found is None else found["version"]
        if found is not None and found["whole"]:
            self._mark(batch, at, True, version + 1)
            return
        self._mark(batch, at, False, version + 1)
        for piece in pieces(commits):
            self._insert("commits", _headers(batch, at, piece))
            self._insert("commit_entries", _entries(batch, at, piece))
        if found is not None:
            # What was left may have been archived once.
            self._run("ALTER TABLE commits UPDATE archived = false WHERE batch = {batch:String}", batch=batch)
        self._mark(batch, at, True, version + 2)

    def batches(self) -> dict[str, str]:
        """See `ports.Commits`."""
        found = self._table("SELECT batch, toUnixTimestamp64Micro(created_at) AS at FROM batches FINAL ORDER BY batch")
        return {row["batch"]: _rfc3339(row["at"]) for row in found.to_pylist()}

    def remove_batch(self, batch: str, before: str = EVER) -> bool:
        """See `ports.Commits`. First it is no longer whole, so that one that was half removed is not taken for it."""
        found = self._batch(batch)
        if found is None or found["created_at"] >= _moment(before):
            return False
        self._mark(batch, found["created_at"], False, found["version"] + 1)
        for table in ("commit_entries", "commits", "batches"):
            self._run(f"DELETE FROM {table} WHERE batch = {{batch:String}}", batch=batch)
        self._known.discard(batch)
        return True

    def _batch(self, batch: str) -> dict[str, Any] | None:
        found = self._table("SELECT created_at, whole, version FROM batches FINAL WHERE batch = {b:String}", b=batch)
        row: dict[str, Any] | None = found.to_pylist()[0] if found.num_rows else None
        return row

    def _mark(self, batch: str, at: datetime, whole: bool, version: int) -> None:
        columns = {"batch": [batch], "created_at": pa.array([at], _US), "whole": [whole], "version": [version]}
        self._insert("batches", pa.table(columns))

    # -- commits ------------------------------------------------------------------------------------------

    def read_commits(self, batch: str) -> Iterator[pa.Table]:
        """See `ports.Commits`."""
        if self._batch(batch) is None:
            raise missing(batch)
        sql = f"""SELECT {_HEADER}, regions, archived FROM commits WHERE batch = {{batch:String}}
            ORDER BY shard, height, commit_id LIMIT 1 BY commit_id"""
        headers = self._table(sql, batch=batch)
        if not headers.num_rows:
            yield STORED.empty_table()
        for page in runs(headers, headers["regions"].to_numpy(), _ENTRIES_AT_ONCE):
            ends = [page[name][row].as_py() for row in (0, -1) for name in ("shard", "height")]
            sql = f"""SELECT {_ENTRY} FROM commit_entries WHERE batch = {{batch:String}}
                AND (shard, height) >= ({ends[0]}, {ends[1]}) AND (shard, height) <= ({ends[2]}, {ends[3]})
                LIMIT 1 BY commit_id, region_id"""
            yield self._whole(batch, page, self._table(sql, batch=batch))

    def read_counts(self, batch: str) -> pa.Table:
        """See `ports.Commits`."""
        sql = """SELECT toString(commit_id) AS id, toString(summary) AS summary FROM commits
            WHERE batch = {batch:String} LIMIT 1 BY commit_id"""
        found = self._table(sql, batch=batch)
        return counts_of_summaries(found["id"].to_pylist(), found["summary"].to_pylist())

    def query_commit(self, history: History, commit_id: str) -> CommitRow | None:
        """See `ports.Commits`."""
        self._check(history)
        if not _is_id(commit_id):
            return None
        sql = f"SELECT {_HEADER}, regions, archived, batch FROM commits WHERE commits.commit_id = {{id:UUID}}"
        headers = self._table(sql, id=commit_id)
        found = held(headers.append_column("of", headers["batch"]), history).slice(0, 1)
        if not found.num_rows:
            return None
        batch = found["of"][0].as_py()
        sql = f"""SELECT {_ENTRY} FROM commit_entries
            WHERE commit_entries.commit_id = {{id:UUID}} AND batch = {{batch:String}} LIMIT 1 BY region_id"""
        return row_of(self._whole(batch, found, self._table(sql, id=commit_id, batch=batch)))

    def query_commits_by_region(self, history: History, region: str, ticks: TickRange) -> pa.Table:
        """See `ports.Commits`."""
        self._check(history)
        limits = ["region_id = {region:String}"]
        limits += [] if ticks.start is None else [f"epoch_end > {ticks.start}"]
        limits += [] if ticks.end is None else [f"epoch_start < {ticks.end}"]
        sql = f"SELECT {_ENTRY}, {', '.join(_PLACED)} FROM commit_entries WHERE {' AND '.join(limits)}"
        return by_region(held(self._table(sql, region=region), history).select(REGION_COMMIT.names))

    def archive_commits(self, batch: str, commit_ids: Sequence[str]) -> None:
        """See `ports.Commits`. Said first, done then: killed in between, they are still told of their regions."""
        self._set_archived(batch, commit_ids, True)
        for ids in _portions(commit_ids):
            self._run(f"DELETE FROM commit_entries WHERE {_CHOSEN}", batch=batch, ids=ids)

    def restore_commits(self, batch: str, commits: Iterable[pa.Table]) -> None:
        """See `ports.Commits`. Done first, said then."""
        sql = "SELECT toString(commit_id) AS id FROM commits WHERE batch = {batch:String} AND archived"
        gone = pc.unique(self._table(sql, batch=batch)["id"])
        for piece in pieces(commits):
            back = piece.filter(pc.is_in(piece["commit_id"], gone))
            if back.num_rows:
                self._insert("commit_entries", _entries(batch, datetime.now(UTC), back))
                self._set_archived(batch, back["commit_id"].to_pylist(), False)

    def _set_archived(self, batch: str, commit_ids: Sequence[str], archived: bool) -> None:
        for ids in _portions(commit_ids):
            self._run(f"ALTER TABLE commits UPDATE archived = {archived} WHERE {_CHOSEN}", batch=batch, ids=ids)

    def _whole(self, batch: str, headers: pa.Table, entries: pa.Table) -> pa.Table:
        """Rows of `STORED`; Corrupt where entries are missing."""
        archived = headers["archived"]
        of_archived = pc.is_in(entries["commit_id"], headers["commit_id"].filter(archived))
        entries = entries.filter(pc.invert(of_archived)).select(FLAT.names).cast(FLAT)
        counted = pc.sum(headers["regions"].filter(pc.invert(archived))).as_py() or 0
        if counted != entries.num_rows:
            raise Corrupt(
                f"{self._engine.name} lacks entries of {batch}: restore it from a copy, then run `ledger verify`"
            )
        return together(headers.select(HEADERS.names).cast(HEADERS), entries, archived)

    def _check(self, history: History) -> None:
        """Corrupt where the store lacks a batch of a history."""
        if not self._known.issuperset(history.batches):
            self._known.update(self.batches())
            for batch in history.batches:
                if batch not in self._known:
                    raise missing(batch)

    # -- entities -----------------------------------------------------------------------------------------

    def upsert_entity_state(self, rows: pa.Table) -> None:
        """See `ports.Commits`. Of rows of one entity the one with the highest tick stays, of equal ticks the last."""
        self._insert("entity_state", rows)

    def entity_state(self, entities: Sequence[str] | None = None) -> pa.Table:
        """See `ports.Commits`."""
        sql = f"SELECT {', '.join(ENTITY_STATE.names)} FROM entity_state FINAL"
        if entities is not None and len(entities) <= _IDS_AT_ONCE:
            found = self._table(f"{sql} WHERE entity_id IN {{ids:Array(String)}}", ids=list(entities))
        else:
            found = self._table(sql)
        if entities is not None:
            found = found.filter(pc.is_in(found["entity_id"], pa.array(entities, pa.string())))
        return found.cast(ENTITY_STATE).sort_by("entity_id")

    # -- statements ---------------------------------------------------------------------------------------

    def _run(self, sql: str, **values: Any) -> None:
        self._engine.within(lambda client: client.command(sql, parameters=values or None))

    def _table(self, sql: str, **values: Any) -> pa.Table:
        table: pa.Table = self._engine.within(lambda client: client.query_arrow(sql, parameters=values or None))
        return table

    def _insert(self, table: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self._engine.within(lambda client: client.insert_arrow(table, rows))


class _Engine(ABC):
    """What runs statements. Each may be run several times."""

    name: str
    """As it may be shown."""

    @abstractmethod
    def within(self, work: Callable[[Any], Result]) -> Result:
        """What `work` makes of a client."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""


class _Server(_Engine):
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not parts.hostname or not parts.path.strip("/"):
            raise UsageError("a ClickHouse server is named as clickhouse://USER:PASSWORD@HOST:PORT/DATABASE")
        self.name = f"clickhouse://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        self._url = url
        self._client: Any = None
        self._lock = threading.RLock()

    def within(self, work: Callable[[Any], Result]) -> Result:
        with self._lock:
            for wait in (*_WAITS, None):
                try:
                    if self._client is None:
                        self._client = _client(dsn=self._url, autogenerate_session_id=False)
                    return work(self._client)
                except Exception as error:  # the client has errors of its own, and of its transport
                    told = translated(self.name, error)
                    if wait is None or not isinstance(told, Unavailable):
                        raise told from error
                    self.close()
                    time.sleep(wait)
            raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class _Chdb(_Engine):
    """chDB: one directory at a time in a process, and one process at a time in a directory."""

    _open: _Chdb | None = None
    _turn = threading.RLock()

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._client: Any = None
        self._held: int | None = None

    def within(self, work: Callable[[Any], Result]) -> Result:
        with _Chdb._turn:
            try:
                return work(self._opened())
            except LedgerError:
                raise
            except Exception as error:  # chDB has errors of its own
                raise translated(self.name, error) from error

    def _opened(self) -> Any:
        if self._client is None:
            if _Chdb._open is not None:
                _Chdb._open.close()
            self._hold()
            try:
                self._client = _client(interface="chdb", path=str(self._path))
            except BaseException:
                # The lock is of a descriptor: a second one of this process would wait for it.
                self._let_go()
                raise
            _Chdb._open = self
        return self._client

    def _hold(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._held = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise UsageError(f"{self._path} cannot be opened ({error.strerror}): choose another directory") from error
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > end:
                    self._let_go()
                    raise Unavailable(
                        f"{self._path} is in use by another process for more than {PATIENCE_SECONDS:.0f} seconds: "
                        "nothing was changed, end that process or wait, and run the command again"
                    ) from error
            time.sleep(_PAUSE_SECONDS)

    def _let_go(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def close(self) -> None:
        with _Chdb._turn:
            if self._client is not None:
                self._client.close()
                self._client = None
                _Chdb._open = None
            self._let_go()


def _client(**given: Any) -> Any:
    try:
        import clickhouse_connect

        # Each failed try would else be a line on stderr; what is wrong is said in ours.
        logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())
        return clickhouse_connect.get_client(settings=_SETTINGS, **given)
    except ImportError as error:
        raise MissingExtra("clickhouse", "chdb" if "interface" in given else "clickhouse_connect") from error


def translated(name: str, error: Exception) -> LedgerError:
    """What is told of an error of the client. It names no password."""
    if isinstance(error, LedgerError):
        return error
    kind, text = type(error).__name__, " ".join(str(error).split())
    says = next((word for word in _SAID if word in text), None)
    if says is not None:
        return UsageError(f"{name}: {_SAID[says]}")
    if any(word in text for word in ("NOT_ENOUGH_SPACE", "No space left")):
        return NotWritten(f"{name}: the disk is full")
    if kind in ("OperationalError", "ConnectionError", "TimeoutError") or isinstance(error, OSError):
        return Unavailable(
            f"{name} does not answer: no move was written, see that it runs and can be reached, then run the command "
            "again, which is safe"
        )
    return LedgerError(f"{name}: {text[:300]}; run the command again, which is safe")


_SAID = {
    "AUTHENTICATION_FAILED": "the user or the password is wrong: correct the URL (LEDGER_STORE)",
    "REQUIRED_PASSWORD": "the user needs a password: give it in the URL (LEDGER_STORE)",
    "UNKNOWN_DATABASE": "there is no such database: make it (CREATE DATABASE), or correct the URL",
    "ACCESS_DENIED": "the user may not do that: GRANT it CREATE TABLE, SELECT, INSERT, ALTER and DELETE there",
    "Error initializing EmbeddedServer": "it cannot be opened: see to the permissions of the directory",
}
"""What the user can put right, by what ClickHouse says."""
_US = pa.timestamp("us", "UTC")
_COLUMNS = {
    "region": "region_id",
    "activity": "sum_activity",
    "activity2": "sum_activity2",
    "weight": "sum_weight",
    "weight_value": "weight",
}
"""What the fields of an entry are called in the table."""


def _headers(batch: str, at: datetime, piece: pa.Table) -> pa.Table:
    """Rows of the table commits of rows of `COMMIT`."""
    headers = piece.select(HEADERS.names)
    added: Mapping[str, pa.Array | pa.Scalar] = {
        "created_at": pa.repeat(pa.scalar(at, _US), piece.num_rows),
        "summary": pa.array(summaries(piece)),
        "batch": pa.repeat(batch, piece.num_rows),
        "regions": pc.cast(pc.list_value_length(piece["entries"]), pa.int64()),
    }
    for name, column in added.items():
        headers = headers.append_column(name, column)
    return headers


def _entries(batch: str, at: datetime, piece: pa.Table) -> pa.Table:
    """Rows of the table commit_entries of rows of `COMMIT`."""
    _, flat = apart(piece)
    parents = pc.list_parent_indices(piece["entries"].combine_chunks())
    placed = {name: piece[name].combine_chunks().take(parents) for name in _PLACED[1:]}
    columns = {_COLUMNS.get(name, name): flat[name] for name in FLAT.names}
    rest = {"batch": pa.repeat(batch, flat.num_rows), "created_at": pa.repeat(pa.scalar(at, _US), flat.num_rows)}
    told = entity_refs(piece)
    if told is not None:
        # Its JSON type holds objects alone.
        rest["entity_refs"] = pc.fill_null(pc.binary_join_element_wise('{"entities":', told, "}", ""), "{}")
    return pa.table({**columns, **placed, **rest})


def _portions(ids: Sequence[str]) -> Iterator[list[str]]:
    for first in range(0, len(ids), _IDS_AT_ONCE):
        yield list(ids[first : first + _IDS_AT_ONCE])


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _moment(at: str) -> datetime:
    return datetime.fromisoformat(at).astimezone(UTC)


def _rfc3339(at: int) -> str:
    text = datetime.fromtimestamp(at // 1_000_000, UTC).replace(microsecond=at % 1_000_000)
    return text.isoformat(timespec="microseconds" if at % 1000 else "milliseconds").replace("+00:00", "Z")
