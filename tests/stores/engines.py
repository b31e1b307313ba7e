"""The engines that the conformance suite runs over, and how each is opened anew.

Embedded ones are always there. Servers are started by `make services`, which names their URLs in the environment.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from ledger_cli.ports import CommitStore
from ledger_cli.stores.objects import ObjectStore
from ledger_cli.wiring import ledgers
from tests.memory_store import MemoryStore

Open = Callable[[], CommitStore]
"""Opens the same store again, as another process would."""

EMBEDDED = {
    "chdb": "clickhouse+chdb:///commits.chdb",
    "directory": "",
    "duckdb": "duckdb:///commits.duckdb",
    "rocksdb": "rocksdb:///commits.rocksdb",
    "sqlite": "sqlite:///commits.sqlite",
}
ELSEWHERE = {"objects": "memory://", "s3": "s3://"}
"""Whole ledgers on an object store."""
SERVERS = {
    "cassandra": "LEDGER_TEST_CASSANDRA",
    "ceph": "LEDGER_TEST_S3",
    "postgres": "LEDGER_TEST_POSTGRES",
}
"""The variables that name a server, by the module of `tests.services` that starts it.

Each test gets a place of its own on it."""

NAMES = ["memory", *EMBEDDED, *ELSEWHERE, *(name for name, variable in SERVERS.items() if os.environ.get(variable))]


@contextmanager
def fresh(name: str, directory: Path) -> Iterator[Open]:
    """An empty store of an engine."""
    if name == "memory":
        store = MemoryStore()
        yield lambda: store
        return
    opened: list[CommitStore] = []

    def again() -> CommitStore:
        # An engine of one process at a time is let go of before it is opened again.
        for each in opened:
            each.close()
        if url.startswith(tuple(ELSEWHERE.values())):
            made: CommitStore = ObjectStore(url, directory / "cache")
        else:
            made = ledgers.make_commit_store(url, directory)
        made.create()
        opened[:] = [made]
        return made

    with place(name) as url:
        try:
            yield again
        finally:
            for each in opened:
                each.close()


@contextmanager
def place(name: str) -> Iterator[str]:
    """The URL of an empty place; of an embedded engine one in the directory of the ledger."""
    if name in EMBEDDED:
        yield EMBEDDED[name]
        return
    if name == "objects":
        yield f"{ELSEWHERE[name]}{uuid.uuid4().hex}/world"
        return
    module = import_module(f"tests.services.{name}")
    with module.place(os.environ.get(SERVERS.get(name, ""), "")) as url:
        yield url
