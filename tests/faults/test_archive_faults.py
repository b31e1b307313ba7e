"""`archive` and `restore`, killed at any instant, stopped at each of their steps, and on a full disk.

LEDGER_FAULT_SEED gives other instants.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ledger_cli.api import Ledger
from ledger_cli.errors import LedgerError
from ledger_cli.services import archive_files
from ledger_cli.stores.directory import DirectoryStore
from ledger_cli.stores.places import DirectoryPlace
from tests.faults.disks import SmallDisk
from tests.faults.jobs import Job, Nursery
from tests.faults.worlds import SEED, instants, is_swept

SECONDS = 0.6
"""About what the undisturbed command takes; some instants lie behind its end."""
TICKS = 3_000
BEFORE = 2_000


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("archive") / "before", shards=2)


def made(root: Path, shards: int) -> Path:
    """A ledger with three batches of commits and a fork."""
    with Ledger.create(root, regions="grid:10", interval=5, shards=shards) as ledger:
        for part in range(3):
            path = root.parent / f"{part}.jsonl"
            path.write_text("".join(map(event, range(part * TICKS // 3, (part + 1) * TICKS // 3))))
            ledger.ingest(path)
            ledger.commit()
        ledger.fork("other", 500)
        ledger.commit("other", final=True)
    return root


def event(tick: int) -> str:
    raw = {"entityId": f"E{tick % 7}", "tickId": tick, "x": tick % 50, "y": 0, "activity": tick % 11 / 10}
    return json.dumps(raw) + "\n"


def copied(prepared: Path, path: Path) -> Path:
    shutil.copytree(prepared, path)
    return path


def entries(root: Path) -> list[Any]:
    """All that is committed on both branches, after a check of all that can be checked."""
    with Ledger.open(root) as ledger:
        report = ledger.verify(archives=True)
        assert report.ok, report.findings
        found = [
            ledger.to_arrow("commit_entries", name).sort_by([("commit_id", "ascending"), ("region", "ascending")])
            for name in ("main", "other")
        ]
        return [table.to_pylist() for table in found]


def files(root: Path, folder: str) -> dict[str, str]:
    """The files of a folder of the ledger, with their digests."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (root / folder).iterdir()}


def finished(found: dict[str, str]) -> dict[str, str]:
    """Without drafts: what a killed job leaves of a file is told by `ledger doctor`."""
    return {name: digest for name, digest in found.items() if not name.startswith(".")}


def archiving(ledger: Path) -> Job:
    return Job(ledger, "archive", [BEFORE])


def ends_as_undisturbed(prepared: Path, ledger: Path, undisturbed: Path) -> None:
    assert entries(ledger) == entries(prepared)
    assert files(ledger, "commits") == files(undisturbed, "commits")
    assert finished(files(ledger, "archive")) == finished(files(undisturbed, "archive"))
    with Ledger.open(ledger) as opened:
        (one,) = opened.archives()
        assert (one.record.freed, one.record.restored) == (True, False)
        assert opened.archive(BEFORE).made is None
    assert is_swept(ledger)


def archived(prepared: Path, root: Path) -> Path:
    copied(prepared, root)
    with Ledger.open(root) as ledger:
        assert ledger.archive(BEFORE).made is not None
    return root


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archived(prepared, tmp_path_factory.mktemp("undisturbed") / "world")


@pytest.mark.parametrize("instant", instants(5, SECONDS, SEED + 3, soak=100))
def test_archive_killed(jobs: Nursery, prepared: Path, undisturbed: Path, tmp_path: Path, instant: float) -> None:
    ledger = copied(prepared, tmp_path / "world")
    jobs.run(archiving(ledger), kill_after=instant)
    assert entries(ledger) == entries(prepared)
    jobs.finish(archiving(ledger))
    ends_as_undisturbed(prepared, ledger, undisturbed)


@pytest.mark.parametrize("instant", instants(4, SECONDS / 2, SEED + 4, soak=100))
def test_restore_killed(jobs: Nursery, prepared: Path, undisturbed: Path, tmp_path: Path, instant: float) -> None:
    ledger = copied(undisturbed, tmp_path / "world")
    with Ledger.open(ledger) as opened:
        pointer = opened.archives()[0].record.pointer
    jobs.run(Job(ledger, "restore", [pointer]), kill_after=instant)
    assert entries(ledger) == entries(prepared)
    jobs.finish(Job(ledger, "restore", [pointer]))
    shutil.rmtree(ledger / "archive")
    shutil.rmtree(ledger / "cache", ignore_errors=True)
    with Ledger.open(ledger) as opened:
        assert opened.verify().ok
        assert opened.archives()[0].record.restored
    assert is_swept(ledger)


class Stopped(BaseException):
    """The process went away here."""


STEPS: tuple[tuple[type, str], ...] = (
    (DirectoryPlace, "put"),
    (DirectoryPlace, "get"),
    (DirectoryStore, "publish"),
    (DirectoryStore, "advance_ref"),
    (DirectoryStore, "archive_commits"),
    (DirectoryStore, "restore_commits"),
)


def stopped_at(patch: pytest.MonkeyPatch, number: int, behind: bool) -> None:
    """Let the process go away before or behind its act `number` on the disk."""
    calls = 0

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal calls
            mine, calls = calls, calls + 1
            if mine == number and not behind:
                raise Stopped
            made = real(*given, **named)
            if mine == number and behind:
                raise Stopped
            return made

        return call

    for kind, name in STEPS:
        patch.setattr(kind, name, counting(getattr(kind, name)))


@pytest.mark.parametrize("behind", [False, True])
def test_archive_and_restore_stopped_at_every_step(
    prepared: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    stopped_at_every_step(prepared, undisturbed, tmp_path, monkeypatch, behind)


def test_of_whole_files_stopped_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large batches, of chains that do not take turns, are archived as their files, and come back to the byte."""
    monkeypatch.setattr(archive_files, "LARGE", 0)
    (tmp_path / "steps").mkdir()
    prepared = made(tmp_path / "before", shards=1)
    undisturbed = archived(prepared, tmp_path / "undisturbed")
    whole = set(files(undisturbed, "archive")) & set(files(prepared, "commits"))
    assert len(whole) == 2
    stopped_at_every_step(prepared, undisturbed, tmp_path / "steps", monkeypatch, behind=True)
    with Ledger.open(undisturbed) as ledger:
        ledger.restore("0")
    assert whole <= {name for name, digest in files(undisturbed, "commits").items() if name == f"{digest}.parquet"}


def stopped_at_every_step(
    prepared: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    committed = entries(prepared)
    ended: set[str] = set()
    number = 0
    while ended != {"archive", "restore"}:
        ledger = copied(prepared, tmp_path / f"{number}")
        for act, arguments in (("archive", {"before": BEFORE}), ("restore", {"pointer": "0"})):
            with monkeypatch.context() as patch, Ledger.open(ledger) as opened:
                stopped_at(patch, number, behind)
                try:
                    getattr(opened, act)(**arguments)
                    ended.add(act)
                except Stopped:
                    pass
            assert entries(ledger) == committed, (act, number)
            with Ledger.open(ledger) as opened:
                getattr(opened, act)(**arguments)
            if act == "archive":
                ends_as_undisturbed(prepared, ledger, undisturbed)
        with Ledger.open(ledger) as opened:
            assert opened.verify().ok
        shutil.rmtree(ledger)
        number += 3
    assert number > 9


def test_two_at_once(jobs: Nursery, prepared: Path, undisturbed: Path, tmp_path: Path) -> None:
    ledger = copied(prepared, tmp_path / "world")
    outcomes = jobs.run(archiving(ledger), archiving(ledger), Job(ledger, "to_arrow", ["commit_entries"]))
    assert [outcome.error for outcome in outcomes] == ["", "", ""]
    assert entries(ledger) == entries(prepared)


def test_a_reader_that_was_open_before(prepared: Path, tmp_path: Path) -> None:
    """Entries that went away under a reader are fetched, never taken for none."""
    ledger = copied(prepared, tmp_path / "world")
    with Ledger.open(ledger) as reader, Ledger.open(ledger) as other:
        before: pa.Table = reader.gamma().table
        other.archive(BEFORE)
        assert reader.gamma(at=1_000).table.num_rows
        assert reader.gamma().table.equals(before)
        other.restore("0")
        assert reader.to_arrow("commit_entries").num_rows
        assert reader.gamma().table.equals(before)


def test_a_full_disk(prepared: Path, undisturbed: Path, small_disk: SmallDisk) -> None:
    ledger = copied(prepared, small_disk.path / "world")
    small_disk.leave(60)
    with Ledger.open(ledger) as opened, pytest.raises(LedgerError, match="cannot be written"):
        opened.archive(BEFORE)
    assert files(ledger, "commits") == files(prepared, "commits")
    small_disk.leave(100 << 10)
    with Ledger.open(ledger) as opened:
        assert opened.archive(BEFORE).made is not None
    ends_as_undisturbed(prepared, ledger, undisturbed)
