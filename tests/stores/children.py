"""Acts on a store in processes of their own, which can be killed at a statement."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from ledger_cli.errors import Conflict, LedgerError
from ledger_cli.stores.common.sql import Session, SqlStore
from ledger_cli.wiring import ledgers
from tests.stores.histories import AT, REGIONS, chain

SMALL_FILES = 2**20


def processes() -> ForkServerContext:
    """Makes processes that have everything imported and no thread yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.stores.children", "ledger_cli.stores.sqlite", "ledger_cli.stores.duckdb"])
    return context


class Interrupted(Session):
    """A session that does something before its `at`th statement."""

    def __init__(self, session: Session, at: list[int], act: Callable[[], None]) -> None:
        self._session, self._at, self._act = session, at, act

    def _count(self) -> None:
        self._at[0] -= 1
        if self._at[0] < 0:
            self._act()

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        self._count()
        return self._session.rows(sql, **values)

    def table(self, sql: str, schema: Any, **values: Any) -> Any:
        self._count()
        return self._session.table(sql, schema, **values)

    def insert(self, table: str, rows: Any, conflict: str = "") -> None:
        self._count()
        self._session.insert(table, rows, conflict)


def interrupt(store: SqlStore, at: int, act: Callable[[], None]) -> list[int]:
    """Let a store do something before the `at`th statement of its writes. Below 0 afterwards: it came to that."""
    left = [at]
    write = store._write
    store._write = lambda work: write(lambda session: work(Interrupted(session, left, act)))  # type: ignore[method-assign]
    return left


def opened(url: str, directory: Path) -> SqlStore:
    """The store of a URL."""
    store = ledgers.make_commit_store(url, directory)
    assert isinstance(store, SqlStore)
    store.create()
    return store


def act_on(store: SqlStore, act: str) -> None:
    """One of the acts that are interrupted."""
    if act == "persist":
        store.persist_commits("commits/two.parquet", AT, [chain("a", 0, range(3, 9), REGIONS), chain("a", 1, range(5))])
    elif act == "advance":
        store.advance_ref("main", 0, b"mine")
    elif act == "remove":
        store.remove_batch("commits/one.parquet")
    elif act == "archive":
        store.archive_commits("commits/one.parquet", chain("a", 0, range(3))["commit_id"].to_pylist())


def killed(url: str, directory: Path, act: str, at: int) -> None:
    """Do an act, and be killed before its `at`th statement."""
    store = opened(url, directory)
    interrupt(store, at, lambda: os.kill(os.getpid(), signal.SIGKILL))
    act_on(store, act)
    store.close()


def race(url: str, directory: Path, name: str, moves: int, won: Any) -> None:
    """Try to make each of some moves, and tell which were won."""
    store = opened(url, directory)
    for seq in range(moves):
        while store.latest_seq("main") < seq:
            with suppress(Conflict):
                store.advance_ref("main", seq, f"{seq} {name}".encode())
                won.put((seq, name))
    store.close()


def on_full_disk(url: str, directory: Path, answer: Any) -> None:
    """Persist where no file may grow beyond a limit, and tell the error."""
    store = opened(url, directory)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILES, SMALL_FILES))
    try:
        store.persist_commits("commits/one.parquet", AT, large())
        answer.put(("", ""))
    except LedgerError as error:
        answer.put((type(error).__name__, str(error)))


def large() -> list[Any]:
    """More than `SMALL_FILES` holds."""
    return [chain("large", 0, range(3000), [str(number) for number in range(20)])]
