"""A real S3: what only a server of its own can show. The rest of `test_objects` runs on it as well."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from ledger_cli.errors import NotWritten, Unavailable
from ledger_cli.stores.common.remote import Remote
from ledger_cli.stores.objects import ObjectStore
from tests.services.ceph import Cluster, cluster
from tests.services.s3 import place
from tests.stores import engines
from tests.stores.histories import AT, REGIONS, chain, rows_of

RACERS = 8
ROUNDS = 25


@pytest.fixture
def url() -> Iterator[str]:
    with engines.place("ceph") as given:
        yield given


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A server that may be killed."""
    with cluster() as server:
        yield server


def test_of_those_who_make_an_object_at_once_one_does(url: str) -> None:
    remotes = [Remote(url) for _ in range(RACERS)]
    ready = threading.Barrier(RACERS)

    def race(number: int) -> list[bool]:
        made = []
        for turn in range(ROUNDS):
            ready.wait()
            made.append(remotes[number].create(f"{turn}", b"%d" % number))
        return made

    with ThreadPoolExecutor(RACERS) as racers:
        made = list(racers.map(race, range(RACERS)))
    for turn in range(ROUNDS):
        (winner,) = [number for number in range(RACERS) if made[number][turn]]
        assert remotes[0].read(f"{turn}") == b"%d" % winner


def test_a_move_of_any_size_is_made_only_if_absent(url: str, tmp_path: Path) -> None:
    """Servers that know the condition for an object need not know it for one that is sent in parts."""
    store = ObjectStore(url, tmp_path)
    assert store.put_new("move", b"mine")
    assert not store.put_new("move", bytes(101 * 2**20))
    assert store.get("move") == b"mine"
    store.close()


def test_a_server_that_crashes_and_comes_back(own: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with place(own.url) as url:
        store = ObjectStore(url, tmp_path / "cache")
        tables = [chain("a", 0, range(6), REGIONS)]
        store.persist_commits("commits/one.parquet", AT, tables)
        store.advance_ref("main", 0, b"move")
        own.crash()
        for act in (
            lambda: store.advance_ref("main", 1, b"another"),
            lambda: store.persist_commits("commits/two.parquet", AT, tables),
        ):
            with pytest.raises(Unavailable, match=r"cannot be reached.*run the command again, which is safe") as error:
                act()
            assert "\n" not in str(error.value)
        own.start()
        store.advance_ref("main", 1, b"another")
        assert store.move_numbers("main") == [0, 1]
        assert rows_of(pa.concat_tables(store.read_commits("commits/one.parquet"))) == rows_of(tables[0])
        store.close()


def test_a_bucket_that_is_full(own: Cluster, tmp_path: Path) -> None:
    with place(own.url) as url:
        store = ObjectStore(url, tmp_path / "cache")
        store.advance_ref("main", 0, b"move")
        own.limit(0)
        with pytest.raises(NotWritten, match="QuotaExceeded"):
            store.advance_ref("main", 1, b"another")
        own.limit(-1)
        store.advance_ref("main", 1, b"another")
        assert store.move_numbers("main") == [0, 1]
        store.close()
