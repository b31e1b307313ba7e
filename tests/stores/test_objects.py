"""Ledgers on object stores: the compare-and-set, the cache of files, and what is told of a store that fails."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from ledger_cli.config.file import load
from ledger_cli.errors import Conflict, Corrupt, LedgerError, NotFound, NotWritten, Unavailable, UsageError
from ledger_cli.ports import TickRange
from ledger_cli.stores.common.remote import refusal
from ledger_cli.stores.objects import ObjectStore
from ledger_cli.wiring import ledgers
from tests.services import s3
from tests.stores import engines
from tests.stores.histories import AT, chain, file_of, history

GONE = "segments/{sha256}.parquet"


@pytest.fixture(params=[name for name in engines.NAMES if name in ("s3", "ceph")])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with engines.place(request.param) as given:
        yield given


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[ObjectStore]:
    made = ObjectStore(url, tmp_path / "cache")
    yield made
    made.close()


def _published(store: ObjectStore, content: bytes, name: str = GONE) -> str:
    with store.scratch() as scratch:
        (scratch / "file").write_bytes(content)
        return store.publish(scratch / "file", name).file


def _raw(url: str) -> tuple[Any, str]:
    return fsspec.url_to_fs(url, use_listings_cache=False)


def _fresh(url: str, tmp_path: Path, **given: Any) -> ObjectStore:
    """As another machine sees the ledger."""
    return ObjectStore(url, tmp_path / uuid.uuid4().hex, **given)


# -- refs ---------------------------------------------------------------------------------------------------


class _Overwrites:
    """A server that does not know If-None-Match."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        self._files.pipe_file(path, value)


def test_a_store_without_compare_and_set_is_refused(store: ObjectStore, url: str) -> None:
    store.create()
    store._remote._files = _Overwrites(store._remote._files)
    with pytest.raises(UsageError, match="If-None-Match"):
        store.create()
    files, path = _raw(url)
    assert not files.exists(path), "what was tried out is gone"


def test_a_store_that_refuses_the_condition_is_refused(
    url: str, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any) -> None:
        error = OSError("A header you provided implies functionality that is not implemented")
        error.__cause__ = _Answer("NotImplemented")
        raise error

    monkeypatch.setattr(store._remote, "_created", unknown)
    with pytest.raises(UsageError, match=r"not implemented.*If-None-Match.*choose a store") as raised:
        store.create()
    assert "\n" not in str(raised.value)


class _TakesAll(AsyncFileSystem):
    """A driver of a server that hands on whatever options it is given, as that of Azure does; here they are kept to."""

    protocol = "takesall"
    files = MemoryFileSystem()

    async def _pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        self.files.pipe_file(path, value, **options)

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        return bytes(self.files.cat_file(path, start, end))

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        return self.files.ls(path, detail)

    async def _info(self, path: str, **_: Any) -> Any:
        return self.files.info(path)

    async def _rm_file(self, path: str, **_: Any) -> None:
        self.files.rm_file(path)


class _PassesOver(_TakesAll):
    protocol = "passesover"

    async def _pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        self.files.pipe_file(path, value)


@pytest.mark.parametrize("driver", [_TakesAll, _PassesOver])
def test_a_driver_that_takes_any_option_is_tried_out(driver: type[_TakesAll], tmp_path: Path) -> None:
    fsspec.register_implementation(driver.protocol, driver, clobber=True)
    store = _fresh(f"{driver.protocol}://{uuid.uuid4().hex}", tmp_path)
    if driver is _PassesOver:
        with pytest.raises(UsageError, match="overwrites"):
            store.create()
    else:
        store.create()
        store.advance_ref("main", 0, b"mine")
        with pytest.raises(Conflict):
            store.advance_ref("main", 0, b"other")
        assert store.read_ref("main", 0) == b"mine"


@pytest.mark.parametrize("scheme", ["ftp", "zip", "nothing", "sqlite"])
def test_places_that_no_ledger_can_be_at(scheme: str) -> None:
    with pytest.raises(LedgerError, match=r"no store for|give a directory"):
        ledgers.make_ledger(ledgers.location_of(f"{scheme}://bucket/world"), "")


def _race(url: str, cache: str, number: int, start: Any, won: Any) -> None:
    store = ObjectStore(url, Path(cache))
    start.wait()
    for seq in range(10):
        try:
            store.advance_ref("main", seq, f"{seq} {number}".encode())
            won.put((seq, number))
        except Conflict:
            while store.latest_seq("main") < seq:
                pass
    store.close()


def test_processes_race_for_a_ref(url: str, store: ObjectStore, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, won = spawn.Barrier(2), spawn.Queue()
    racers = [spawn.Process(target=_race, args=(url, str(tmp_path / "cache"), n, start, won)) for n in range(2)]
    for each in racers:
        each.start()
    winners = dict(won.get(timeout=60) for _ in range(10))
    for each in racers:
        each.join(60)
        assert each.exitcode == 0
    assert won.empty()
    assert [store.read_ref("main", seq) for seq in range(10)] == [f"{n} {winners[n]}".encode() for n in range(10)]


@pytest.mark.parametrize("written", [True, False])
def test_a_lost_acknowledgement(store: ObjectStore, monkeypatch: pytest.MonkeyPatch, written: bool) -> None:
    whole = store._remote._created

    def cut(name: str, content: bytes) -> bool:
        if written:
            whole(name, content)
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(store._remote, "_created", cut)
    if written:
        store.advance_ref("main", 0, b"mine")
    else:
        with pytest.raises(Unavailable, match="reset by peer"):
            store.advance_ref("main", 0, b"mine")
    assert store.read_ref("main", 0) == (b"mine" if written else None)


def test_a_hole_in_the_log(store: ObjectStore, url: str, tmp_path: Path) -> None:
    for seq in range(5):
        store.advance_ref("main", seq, b"%d" % seq)
    files, path = _raw(url)
    files.rm(f"{path}/refs/main/{1:020d}.json")
    other = _fresh(url, tmp_path)
    with pytest.raises(Corrupt, match="move 1 of main"):
        other.advance_ref("main", 5, b"5")
    with pytest.raises(Conflict):
        other.advance_ref("main", 9, b"9")
    assert other.move_numbers("main") == [0, 2, 3, 4]


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 40])
def test_the_end_of_a_log_is_found(tmp_path: Path, count: int) -> None:
    place = f"memory://{uuid.uuid4().hex}"
    store = _fresh(place, tmp_path)
    for seq in range(count):
        store.advance_ref("main", seq, b"%d" % seq)
    for known in range(-1, count):
        assert _fresh(place, tmp_path).latest_seq("main", known) == count - 1
    other = _fresh(place, tmp_path)
    for order in (range(count), reversed(range(count))):
        assert all(other.read_ref("main", seq) == b"%d" % seq for seq in order)


# -- files --------------------------------------------------------------------------------------------------


def test_a_file_is_brought_once_and_held(store: ObjectStore, url: str, tmp_path: Path) -> None:
    file = _published(store, b"content")
    other = _fresh(url, tmp_path)
    path = other.location(file)
    files, root = _raw(url)
    files.rm(f"{root}/{file}")
    assert other.location(file) == path
    assert Path(path).read_bytes() == other.read_file(file) == b"content"
    assert Path(store.location(file)).read_bytes() == b"content", "whoever wrote it need not fetch it"
    assert not Path(_fresh(url, tmp_path).location(file)).exists()
    with pytest.raises(Corrupt, match="missing"):
        _fresh(url, tmp_path).read_file(file)
    with pytest.raises(Corrupt, match="missing"):
        other.digest_of_file(file)


def test_what_does_not_have_its_digest_is_read_again_then_told(
    store: ObjectStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _published(store, b"content")
    other = _fresh(url, tmp_path)
    whole, torn = other._remote.fetch, iter([True])

    def fetch(name: str, path: Path) -> bool:
        found = whole(name, path)
        if next(torn, False):
            path.write_bytes(b"cont")
        return found

    monkeypatch.setattr(other._remote, "fetch", fetch)
    assert Path(other.location(file)).read_bytes() == b"content"
    files, root = _raw(url)
    files.pipe_file(f"{root}/{file}", b"CONTENT")
    assert other.digest_of_file(file) == hashlib.sha256(b"CONTENT").hexdigest(), "as stored, whatever is in the cache"
    fresh = _fresh(url, tmp_path)
    for _ in range(2):
        with pytest.raises(Corrupt, match="not what its digest says"):
            fresh.location(file)
    assert _published(store, b"content") == file, "to write it again makes it whole"
    assert Path(fresh.location(file)).read_bytes() == b"content"


def test_the_least_recently_used_copies_go(store: ObjectStore, url: str, tmp_path: Path) -> None:
    made = [_published(store, bytes([n]) * 1000) for n in range(8)]
    small = ObjectStore(url, tmp_path / "small", 3500)
    held = {}
    for number, file in enumerate(made):
        held[file] = small.location(file)
        os.utime(held[file], (number, number))
    copies = [path.name for path in (tmp_path / "small" / "files").rglob("*.parquet")]
    assert sorted(copies) == sorted(file.rpartition("/")[2] for file in made[-3:])
    for number, path in enumerate(held.values()):
        assert Path(path).read_bytes() == bytes([number]) * 1000, "what was given stays until the end"
    small.close()
    left = [path.name for path in (tmp_path / "small").rglob("*.parquet")]
    assert sorted(left) == sorted(copies)


def test_many_share_a_cache(store: ObjectStore, url: str, tmp_path: Path) -> None:
    made = [_published(store, os.urandom(2000)) for _ in range(6)]
    others = [ObjectStore(url, tmp_path / "shared", 5000) for _ in range(4)]

    def read(other: ObjectStore) -> list[str]:
        return [
            hashlib.sha256(Path(path).read_bytes()).hexdigest()
            for path in map(other.location, other.reading(made).plain)
        ]

    with ThreadPoolExecutor(4) as readers:
        assert all(
            [f"segments/{digest}.parquet" for digest in found] == made for found in readers.map(read, others * 3)
        )


def test_a_batch_that_was_archived_is_not_served_stale(store: ObjectStore, url: str, tmp_path: Path) -> None:
    table = chain("a", 0, range(6), ["r"], seed=1)
    store.persist_commits("commits/a.parquet", AT, [table])
    other = _fresh(url, tmp_path)
    asked = history(file_of("commits/a.parquet", table)), "r", TickRange()
    before = other.query_commits_by_region(*asked)
    assert before.num_rows
    store.archive_commits("commits/a.parquet", table["commit_id"].to_pylist())
    other._listings.clear()  # it is good for two seconds
    assert other.query_commits_by_region(*asked).num_rows == 0
    store.restore_commits("commits/a.parquet", [table])
    other._listings.clear()
    assert other.query_commits_by_region(*asked).equals(before)


def test_scratch_of_a_killed_process_goes(store: ObjectStore, tmp_path: Path) -> None:
    left = tmp_path / "cache" / "scratch" / "left"
    left.mkdir(parents=True)
    (left / "draft").write_bytes(b"x")
    with store.scratch() as scratch:
        assert scratch.is_dir()
        assert not left.exists()
    assert not scratch.exists()


def test_a_full_disk_of_the_cache(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    with store.scratch() as scratch:
        monkeypatch.setattr(os, "fsync", full)
        (scratch / "file").write_bytes(b"x")
        with pytest.raises(NotWritten):
            store.publish(scratch / "file", GONE)
    monkeypatch.undo()
    assert _published(store, b"x")


def test_what_nobody_needs_is_discarded_when_it_is_old(
    store: ObjectStore, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = _published(store, b"x", "segments/{sha256}.parquet")
    folder, _, base = name.rpartition("/")
    about = store.written(folder)[base]
    assert about.bytes == 1
    assert not store.discard(name, about.at)
    monkeypatch.setattr("ledger_cli.stores.objects._NEW_SECONDS", -1.0)
    time.sleep(1.1)  # the store tells seconds
    for count_on_it in (lambda: store.touch(name), lambda: _published(store, b"x", "segments/{sha256}.parquet")):
        before = store.written(folder)[base].at
        time.sleep(1.1)
        count_on_it()
        assert store.written(folder)[base].at > before
        assert not store.discard(name, store.written(folder)[base].at)
    assert _fresh(url, tmp_path).read_file(name) == b"x"
    assert store.discard(name, "2099-01-01T00:00:00.000Z")
    assert not store.discard(name, "2099-01-01T00:00:00.000Z")
    assert store.written(folder) == {}
    store.touch(name)
    assert store.written(folder) == {}


def test_the_size_of_the_cache() -> None:
    assert load("", {}).cache_size == 20 * 2**30
    sizes = {"1GiB": 2**30, "1.5 KB": 1500, "12B": 12, "2tib": 2**41}
    assert {text: load("", {"LEDGER_CACHE_SIZE": text}).cache_size for text in sizes} == sizes
    with pytest.raises(UsageError, match="LEDGER_CACHE_SIZE"):
        load("", {"LEDGER_CACHE_SIZE": "much"})


# -- failures -----------------------------------------------------------------------------------------------


def test_no_such_bucket(url: str) -> None:
    for act in (
        lambda: ledgers.make_ledger("s3://no-such-bucket/world", ""),
        lambda: ledgers.read_config("s3://no-b/w"),
    ):
        with pytest.raises(NotFound, match="no such bucket"):
            act()


def test_no_key(monkeypatch: pytest.MonkeyPatch, url: str, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3._forget_clients()
    with pytest.raises(UsageError, match="AWS_ACCESS_KEY_ID"):
        ledgers.make_ledger(url, "")


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    s3._forget_clients()
    with pytest.raises(Unavailable, match="AWS_ENDPOINT_URL") as raised:
        ledgers.read_config(url)
    assert "\n" not in str(raised.value)


class _Answer(Exception):
    """As botocore tells of an answer."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


class _Told(Exception):
    """As Azure's client does."""

    def __init__(self, code: str) -> None:
        super().__init__(f"The server refused.\nErrorCode:{code}")
        self.error_code = Enum("Codes", {"ONE": code}).ONE


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_Answer("SignatureDoesNotMatch"), UsageError),
        (_Answer("NoSuchBucket"), NotFound),
        (_Told("AuthenticationFailed"), UsageError),
        (_Told("ContainerNotFound"), NotFound),
        (_Answer("XMinioStorageFull"), NotWritten),
        (_Answer("InternalError"), Unavailable),
        (PermissionError("Forbidden"), UsageError),
        (TimeoutError(), Unavailable),
    ],
)
def test_one_clear_line_each(error: Exception, kind: type[LedgerError]) -> None:
    told = refusal("s3://bucket/world", error)
    assert type(told) is kind
    assert str(told).count("\n") == 0
    assert "s3://bucket/world" in str(told)


def test_a_busy_store_is_asked_again(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, failures = store._remote._created, iter([_busy(), _busy()])

    def busy(name: str, content: bytes) -> bool:
        for error in failures:
            raise error
        return whole(name, content)

    monkeypatch.setattr(store._remote, "_created", busy)
    monkeypatch.setattr("time.sleep", lambda _: None)
    store.advance_ref("main", 0, b"mine")
    assert store.read_ref("main", 0) == b"mine"


def _busy() -> OSError:
    error = OSError("busy")
    error.__cause__ = _Answer("SlowDown")
    return error


def test_a_password_is_never_told() -> None:
    place = "ftp://someone:secret@host/world"
    for act in (lambda: ledgers.make_ledger(place, ""), lambda: ledgers.read_config(place)):
        with pytest.raises(LedgerError) as raised:
            act()
        assert "secret" not in str(raised.value)
