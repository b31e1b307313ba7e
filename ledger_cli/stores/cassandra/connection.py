"""A session with a cluster: statements run with patience, and errors are told in the ledger's words."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from ledger_cli.errors import LedgerError, MissingExtra, NotWritten, Unavailable, UsageError

if TYPE_CHECKING:
    from cassandra.cluster import ResponseFuture, Session
    from cassandra.query import PreparedStatement

Result = TypeVar("Result")
Row = tuple[Any, ...]

PORT = 9042
_PROTOCOL = 4
"""What both kinds of servers speak; to find it out takes a second."""
PATIENCE_SECONDS = 8.0
_TIMEOUT_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.1
_CONCURRENCY = 32
_PAGE_ROWS = 5000
ROWS_A_BATCH = 60
"""Rows of one partition that are sent together; some 10 kB."""


class Connection:
    """A keyspace of a cluster. Opened by the first statement; safe with many threads."""

    def __init__(self, url: str) -> None:
        """UsageError where the URL does not name a keyspace."""
        wrong = "write cassandra://HOST:PORT/KEYSPACE, or cassandra://USER:PASSWORD@HOST,HOST:PORT/KEYSPACE"
        parts = urlsplit(url)
        hosts, port = _hosts(parts)
        keyspace = parts.path.strip("/")
        if not hosts or port is None or not keyspace.isidentifier() or not keyspace.isascii():
            raise UsageError(f"the URL of the store names no host, port and keyspace: {wrong}")
        self.name = f"cassandra://{','.join(hosts)}:{port}/{keyspace}"
        """As it may be shown: without a password."""
        self.keyspace = keyspace
        self._hosts, self._port = hosts, port
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password or "")
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._prepared: dict[str, PreparedStatement] = {}

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            session, self._session = self._session, None
            self._prepared.clear()
            if session is not None:
                session.cluster.shutdown()

    def rows(self, cql: str, *values: Any, serial: bool = False) -> list[Row]:
        """All rows of a statement that may be run again. `serial`: of all moves that may have been made."""

        def run(session: Session) -> list[Row]:
            statement = self._bound(session, cql, values)
            if serial:
                from cassandra import ConsistencyLevel

                statement.consistency_level = ConsistencyLevel.SERIAL
            return list(session.execute(statement))

        return self._patiently(run)

    def once(self, cql: str, *values: Any) -> bool | None:
        """Whether a conditional statement was applied; None where nobody knows."""

        def run(session: Session) -> bool | None:
            from cassandra import OperationTimedOut, WriteFailure, WriteTimeout
            from cassandra.connection import ConnectionException

            try:
                return bool(session.execute(self._bound(session, cql, values)).was_applied)
            except (OperationTimedOut, WriteTimeout, WriteFailure, ConnectionException):
                return None

        return self._patiently(run)

    def define(self, cql: str) -> None:
        """Run a statement of the schema."""
        self._patiently(lambda session: session.execute(cql, timeout=2 * _TIMEOUT_SECONDS))

    def each(self, cql: str, values: Sequence[Row]) -> list[list[Row]]:
        """The rows of a statement for each of many values, in their order."""
        if not values:
            return []

        def run(session: Session) -> list[list[Row]]:
            from cassandra.concurrent import execute_concurrent_with_args

            statement = self._prepare(session, cql)
            done = execute_concurrent_with_args(session, statement, values, concurrency=_CONCURRENCY)
            return [list(result.result_or_exc) for result in done]

        return self._patiently(run)

    def write(self, cql: str, partitions: Iterable[Sequence[Row]]) -> None:
        """Run a statement for rows, those of one partition together."""

        def run(session: Session, chunk: list[Sequence[Row]]) -> None:
            from cassandra.query import BatchStatement, BatchType

            prepared = self._prepare(session, cql)
            under_way: deque[ResponseFuture] = deque()
            for rows in chunk:
                # To bind values takes as long as to store them: it is done while others are on their way.
                statement = prepared.bind(rows[0]) if len(rows) == 1 else BatchStatement(BatchType.UNLOGGED)
                for row in rows if len(rows) > 1 else ():
                    statement.add(prepared, row)
                if len(under_way) == _CONCURRENCY:
                    under_way.popleft().result()
                under_way.append(session.execute_async(statement))
            for each in under_way:
                each.result()

        for chunk in _chunks(partitions):
            self._patiently(partial(run, chunk=chunk))

    # -- the session --------------------------------------------------------------------------------------

    def _bound(self, session: Session, cql: str, values: Row) -> Any:
        return self._prepare(session, cql).bind(values)

    def _prepare(self, session: Session, cql: str) -> PreparedStatement:
        prepared = self._prepared.get(cql)
        if prepared is None:
            prepared = self._prepared[cql] = session.prepare(cql)
        return prepared

    def _patiently(self, work: Callable[[Session], Result]) -> Result:
        """Do work that may be done several times; while the cluster is away, again, for some seconds."""
        end, pause = time.monotonic() + PATIENCE_SECONDS, _FIRST_PAUSE_SECONDS
        while True:
            try:
                return work(self._opened())
            except LedgerError:
                raise
            except Exception as error:
                translated = self._translated(error)
                if translated is None:
                    raise
                if not isinstance(translated, Unavailable) or time.monotonic() + pause > end:
                    raise translated from error
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _opened(self) -> Session:
        if self._session is None:
            with self._lock:
                if self._session is None:
                    self._session = self._open()
        return self._session

    def _open(self) -> Session:
        try:
            from cassandra import ConsistencyLevel, DependencyException
            from cassandra.auth import PlainTextAuthProvider
            from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
            from cassandra.query import tuple_factory
        except ImportError as error:
            raise MissingExtra("cassandra", "cassandra-driver") from error
        try:
            from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
        except DependencyException as error:
            raise LedgerError(f"cassandra-driver has no event loop here ({error}): install it with libev") from error
        # What goes wrong is told by exceptions; the driver's log is for those who ask for it.
        logging.getLogger("cassandra").addHandler(logging.NullHandler())
        profile = ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy()),
            consistency_level=ConsistencyLevel.QUORUM,
            serial_consistency_level=ConsistencyLevel.SERIAL,
            request_timeout=_TIMEOUT_SECONDS,
            row_factory=tuple_factory,
        )
        cluster = Cluster(
            self._hosts,
            port=self._port,
            protocol_version=_PROTOCOL,
            auth_provider=PlainTextAuthProvider(self._user, self._password) if self._user else None,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        )
        try:
            session = cluster.connect()
            if self.keyspace not in cluster.metadata.keyspaces:
                raise UsageError(
                    f"{self.name}: there is no keyspace {self.keyspace}: make it with CREATE KEYSPACE "
                    f"{self.keyspace} WITH replication = {{…}}, or correct the URL of the store"
                )
            session.set_keyspace(self.keyspace)
        except BaseException:
            cluster.shutdown()
            raise
        session.default_fetch_size = _PAGE_ROWS
        return session

    def _translated(self, error: Exception) -> LedgerError | None:
        """The error in the ledger's words; None for one that is a fault of this program."""
        from cassandra import (
            AuthenticationFailed,
            DriverException,
            InvalidRequest,
            RequestExecutionException,
            Unauthorized,
            UnresolvableContactPoints,
        )
        from cassandra.cluster import NoHostAvailable
        from cassandra.connection import ConnectionException

        causes: list[BaseException] = [error]
        if isinstance(error, NoHostAvailable) and isinstance(error.errors, dict):
            causes += [cause for cause in error.errors.values() if isinstance(cause, BaseException)]
        if any(isinstance(each, AuthenticationFailed) for each in causes):
            return UsageError(f"{self.name} refuses the user or the password: correct them in the URL of the store")
        if any(isinstance(each, Unauthorized) for each in causes):
            return UsageError(f"{self.name}: {error}; grant the user SELECT, MODIFY and CREATE on the keyspace")
        if isinstance(error, UnresolvableContactPoints):
            return UsageError(f"{self.name}: there is no such host: correct it in the URL of the store")
        for each in causes:
            text = str(each)
            if isinstance(each, InvalidRequest) and "disk usage" in text:
                return NotWritten(f"{self.name}: {text}")
        if isinstance(error, InvalidRequest):
            return LedgerError(f"{self.name}: {error}; nothing was changed: check that its tables are those of ledger")
        if isinstance(
            error, (NoHostAvailable, ConnectionException, DriverException, RequestExecutionException, OSError)
        ):
            return Unavailable(
                f"{self.name} cannot be reached or does not answer ({type(error).__name__}): it is safe to run the "
                "command again; see that the cluster is up and the host and port are right"
            )
        return None


def _hosts(parts: SplitResult) -> tuple[list[str], int | None]:
    """The hosts of a URL and their port, None where it is no number."""
    place = parts.netloc.rpartition("@")[2]
    hosts, colon, port = place.rpartition(":") if not place.endswith("]") and ":" in place else (place, "", "")
    if colon and not port.isdecimal():
        return [], None
    return [host.strip("[]") for host in hosts.split(",") if host], int(port) if colon else PORT


def _chunks(partitions: Iterable[Sequence[Row]]) -> Iterable[list[Sequence[Row]]]:
    """Rows of partitions in batches of bounded size, some thousands of rows at a time."""
    chunk: list[Sequence[Row]] = []
    size = 0
    for rows in partitions:
        for at in range(0, len(rows), ROWS_A_BATCH):
            chunk.append(rows[at : at + ROWS_A_BATCH])
            size += len(chunk[-1])
            if size >= _PAGE_ROWS:
                yield chunk
                chunk, size = [], 0
    if chunk:
        yield chunk
