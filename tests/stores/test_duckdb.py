"""What is DuckDB's own: its file opens anywhere, processes take turns, and its errors say what to do."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import run
from typing import Any

import duckdb
import pytest

from ledger_cli.errors import Unavailable
from ledger_cli.stores.duckdb import file as adapter
from tests.stores.children import opened, processes
from tests.stores.histories import AT, LARGEST, REGIONS, chain

URL = "duckdb:///commits.duckdb"


def connected(file: Path, seconds: float = 30, **how: bool) -> duckdb.DuckDBPyConnection:
    """A file, opened as soon as it can be had within some seconds."""
    end = time.monotonic() + seconds
    while True:
        try:
            return duckdb.connect(str(file), **how)
        except duckdb.IOException:
            if time.monotonic() > end:
                raise
            time.sleep(0.005)


def hold(file: Path, held: Any, release: Any, read_only: bool) -> None:
    """Hold a file as another process, as soon as it can be had."""
    with connected(file, read_only=read_only):
        held.set()
        release.wait(30)


@contextmanager
def held(file: Path, seconds: float | None = None, read_only: bool = False) -> Iterator[None]:
    """Another process holds a file, for some seconds at most."""
    context = processes()
    has, release = context.Event(), context.Event()
    child = context.Process(target=hold, args=(file, has, release, read_only))
    child.start()
    has.wait(30)
    if seconds is not None:
        release.wait(seconds)
        release.set()
    yield
    release.set()
    child.join()


def test_the_tables_open_well_elsewhere(tmp_path: Path) -> None:
    store = opened(URL, tmp_path)
    table = chain("a", 0, range(4), REGIONS)
    store.persist_commits("commits/one.parquet", AT, [table])
    with duckdb.connect(str(tmp_path / "commits.duckdb")) as connection:
        types = dict(connection.execute("SELECT column_name, column_type FROM (DESCRIBE commit_entries)").fetchall())
        more = dict(connection.execute("SELECT column_name, column_type FROM (DESCRIBE commits)").fetchall())
        weights = connection.execute("SELECT max(sum_weight), min(summary->>'$.policy') FROM commit_entries, commits")
        assert weights.fetchone() == (LARGEST >> 40, "p" * 64)
        # The key counts on, whoever inserts.
        columns = "commit_id, region_id, weight, activity_mean, activity_var, created_at, n, sum_activity, "
        columns += "sum_activity2, sum_weight, epoch_start, epoch_end"
        connection.execute(f"INSERT INTO commit_entries ({columns}) SELECT {columns} FROM commit_entries LIMIT 1")
    assert (types["id"], types["commit_id"], types["sum_weight"]) == ("BIGINT", "UUID", "HUGEINT")
    assert (more["created_at"], more["summary"]) == ("TIMESTAMP WITH TIME ZONE", "JSON")


def test_who_finds_the_file_held_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(URL, tmp_path)
    file = tmp_path / "commits.duckdb"
    store.advance_ref("main", 0, b"move")
    with held(file, seconds=0.3):
        store.advance_ref("main", 1, b"another")
    monkeypatch.setattr(adapter, "PATIENCE_SECONDS", 0.2)
    with held(file):
        with pytest.raises(Unavailable, match=r"in use by another process.*run the command again"):
            store.advance_ref("main", 2, b"third")
        with pytest.raises(Unavailable):
            store.read_ref("main", 0)
    assert store.move_numbers("main") == [0, 1]


def test_reading_processes_hold_it_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(URL, tmp_path)
    store.advance_ref("main", 0, b"move")
    monkeypatch.setattr(adapter, "PATIENCE_SECONDS", 0.2)
    with held(tmp_path / "commits.duckdb", read_only=True):
        assert store.read_ref("main", 0) == b"move"


def test_nothing_is_held_while_a_batch_is_read_by_pieces(tmp_path: Path) -> None:
    store = opened(URL, tmp_path)
    store.persist_commits("commits/one.parquet", AT, [chain("a", 0, range(4), REGIONS)])
    pieces = store.read_commits("commits/one.parquet")
    next(pieces)
    other = opened(URL, tmp_path)
    other.advance_ref("main", 0, b"move")
    with held(tmp_path / "commits.duckdb", seconds=0):
        assert sum(piece.num_rows for piece in pieces) == 4


# -- what a reader keeps ----------------------------------------------------------------------------------


def try_to_write(file: Path, seconds: float, answer: Any) -> None:
    """Tell whether a process that knows nothing of ledgers gets the file within some seconds."""
    with suppress(duckdb.IOException):
        connected(file, seconds).close()
        answer.put(True)
        return
    answer.put(False)


def can_be_had(file: Path, seconds: float) -> bool:
    """Whether another process gets a file within some seconds."""
    context = processes()
    answer = context.Queue()
    child = context.Process(target=try_to_write, args=(file, seconds, answer))
    child.start()
    had: bool = answer.get(timeout=60)
    child.join()
    return had


def test_a_reader_keeps_the_file_and_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "commits.duckdb"
    store = opened(URL, tmp_path)
    store.advance_ref("main", 0, b"move")
    assert can_be_had(file, 0)
    store.read_ref("main", 0)
    assert can_be_had(file, 10), "it lets go by itself"
    monkeypatch.setattr(adapter, "KEPT_SECONDS", 600)
    store.read_ref("main", 0)
    assert not can_be_had(file, 0.3)
    store.advance_ref("main", 1, b"another")
    assert can_be_had(file, 0), "a write lets go"
    store.read_ref("main", 0)
    store.close()
    assert can_be_had(file, 0), "a closed store lets go"
    assert store.read_ref("main", 1) == b"another"
    store.close()


def test_stores_of_one_process_share_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "KEPT_SECONDS", 600)
    one, other = opened(URL, tmp_path), opened(f"duckdb:///{tmp_path}/../{tmp_path.name}/commits.duckdb", tmp_path)
    for seq in range(3):
        assert one.latest_seq("main") == seq - 1
        other.advance_ref("main", seq, b"%d" % seq)
        assert one.read_ref("main", seq) == b"%d" % seq
    one.close()
    assert other.latest_seq("main") == 2
    other.close()


def test_nothing_is_kept_where_nobody_could_ask_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "KEPT_SECONDS", 600)
    store = opened(URL, tmp_path)
    store.advance_ref("main", 0, b"move")

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EBADF, "as a directory of NFS says")

    monkeypatch.setattr("fcntl.flock", flock)
    assert store.read_ref("main", 0) == b"move"
    assert can_be_had(tmp_path / "commits.duckdb", 0)


def test_a_file_that_was_put_in_its_place_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "KEPT_SECONDS", 600)
    store, other = opened(URL, tmp_path), opened("duckdb:///other.duckdb", tmp_path)
    store.advance_ref("main", 0, b"move")
    other.advance_ref("main", 0, b"of a copy")
    other.close()
    assert store.read_ref("main", 0) == b"move"
    (tmp_path / "other.duckdb").rename(tmp_path / "commits.duckdb")
    assert store.read_ref("main", 0) == b"of a copy"
    store.close()


def ask_without_pause(directory: Path, asking: Any, ended: Any, answers: Any) -> None:
    """Ask for the end of a ref over and over, and tell of each when it was last asked for and still told."""
    store = opened(URL, directory)
    told: dict[int, float] = {}
    while not (ended.is_set() and 4 in told):
        began, seq = time.monotonic(), store.latest_seq("main")
        if not told:
            asking.release()
        told[seq] = began
    store.close()
    answers.put(told)


@pytest.mark.parametrize("readers", [1, 3])
def test_a_writer_gets_its_turn_while_others_ask_without_pause(readers: int, tmp_path: Path) -> None:
    store = opened(URL, tmp_path)
    context = processes()
    asking, ended, answers = context.Semaphore(0), context.Event(), context.Queue()
    children = [
        context.Process(target=ask_without_pause, args=(tmp_path, asking, ended, answers)) for _ in range(readers)
    ]
    for child in children:
        child.start()
    for _ in children:
        asking.acquire()
    acknowledged = []
    for seq in range(5):
        began = time.monotonic()
        store.advance_ref("main", seq, b"move")
        acknowledged.append(time.monotonic())
        assert acknowledged[-1] - began < adapter.PATIENCE_SECONDS / 2
        time.sleep(0.3)
    ended.set()
    told = [answers.get(timeout=60) for _ in children]
    for child in children:
        child.join()
        assert child.exitcode == 0
    # Who asks after a move was acknowledged is not told of the ref without it.
    assert all(each.get(seq - 1, 0) < at for each in told for seq, at in enumerate(acknowledged))


FORKED = """
import os, sys
from pathlib import Path
from ledger_cli.wiring import ledgers
from ledger_cli.stores.duckdb import file
file.KEPT_SECONDS = 5
store = ledgers.make_commit_store("duckdb:///commits.duckdb", Path(sys.argv[1]))
store.create()
store.advance_ref("main", 0, b"move")
assert store.read_ref("main", 0) == b"move"
ready, write = os.pipe()
child = os.fork()
if not child:
    os.read(ready, 1)
    assert store.read_ref("main", 1) == b"another"
    store.advance_ref("main", 2, b"of the child")
    store.close()
    os._exit(0)
store.advance_ref("main", 1, b"another")
os.write(write, b".")
assert os.waitpid(child, 0)[1] == 0
assert store.read_ref("main", 2) == b"of the child"
store.close()
"""


def test_a_forked_process_holds_nothing(tmp_path: Path) -> None:
    run([sys.executable, "-W", "ignore", "-c", FORKED, str(tmp_path)], check=True, timeout=120)
