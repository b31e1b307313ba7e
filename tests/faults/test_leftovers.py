"""What killed jobs leave behind is told of and, after a while, gone; nothing else is.

LEDGER_FAULT_SEED gives other instants.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest

from ledger_cli.api import Ledger
from ledger_cli.core.world import PROTOCOL
from ledger_cli.services.doctor import Check
from ledger_cli.stores.common.remote import Remote
from ledger_cli.stores.directory import DirectoryStore
from ledger_cli.stores.joined import JoinedStore
from ledger_cli.stores.objects import ObjectStore
from ledger_cli.stores.sqlite import SqliteStore
from ledger_cli.wiring import machine
from tests.faults.jobs import Job, Nursery
from tests.faults.worlds import SEED, instants
from tests.stores.engines import EMBEDDED

LATER = "2099-01-01T00:00:00.000Z"
FOLDERS = ("segments", "contributors", "quarantine", "tiles", "commits", "archives", "packs", "snapshots")
SECONDS = 0.6
"""About what the undisturbed command takes; some instants lie behind its end."""


class Stopped(BaseException):
    """The process went away here."""


def rows(path: Path, ticks: range, spoiled: bool = False) -> str:
    lines = [
        json.dumps({"entityId": f"E{tick % 7}", "tickId": tick, "x": tick % 50, "y": 0, "activity": tick % 11 / 10})
        for tick in ticks
    ]
    path.write_text("\n".join([*lines, *(["no JSON"] if spoiled else [])]) + "\n")
    return str(path)


def world_events(path: Path, numbers: range) -> str:
    events = [
        {
            "eventId": f"e{number}",
            "entityId": f"door-{number % 3}",
            "type": "building.opened.v1",
            "payload": {"open": number},
            "handshake": {"protocol": PROTOCOL},
        }
        for number in numbers
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in events))
    return str(path)


@pytest.fixture(autouse=True)
def _asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEDGER_ENTITY_REFS", "3")
    monkeypatch.setenv("LEDGER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=["directory", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a ledger is to be; an object store in memory lets a test say how old its objects are."""
    return str(tmp_path / "world") if request.param == "directory" else f"memory://{uuid.uuid4().hex}/world"


def files(place: str) -> dict[str, int]:
    """The data files of a ledger, with their bytes."""
    system, root = fsspec.url_to_fs(place, use_listings_cache=False)
    found = {
        path.removeprefix(root).lstrip("/"): about["size"] for path, about in system.find(root, detail=True).items()
    }
    return {path: size for path, size in found.items() if path.partition("/")[0] in FOLDERS}


def told(place: str) -> dict[str, Check]:
    """What doctor says of files and batches that no move names."""
    with Ledger.open(place) as ledger:
        return {each.name: each for each in ledger.doctor().checks if each.name.startswith(("files", "batches"))}


def found(place: str) -> dict[str, str]:
    return {name: each.found for name, each in told(place).items()}


def is_whole(place: str) -> None:
    with Ledger.open(place) as ledger:
        report = ledger.verify(archives=True)
        assert report.ok, report.findings
        for branch in ledger.branches():
            assert ledger.replay(branch.name).ok


Live = Callable[[str], None]


@pytest.fixture(scope="module")
def _lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("lived")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEDGER_ENTITY_REFS", "3")
        live(str(home / "world"), home)
    return home / "world"


@pytest.fixture
def lived_in(_lived: Path, tmp_path: Path) -> Live:
    """Make a ledger that has been used for a while."""

    def lived(place: str) -> None:
        if "://" in place:
            live(place, tmp_path)
        else:
            shutil.copytree(_lived, place)

    return lived


def live(place: str, home: Path) -> None:
    """A ledger of which forks, tags, archives, packs, snapshots and a deleted branch name files."""
    with Ledger.create(place, regions="grid:10", interval=10) as ledger:
        for part in range(3):
            ledger.ingest(rows(home / "ticks.jsonl", range(part * 40, part * 40 + 40), spoiled=True))
            ledger.commit(final=part == 2)
        ledger.world.register("building.opened.v1")
        ledger.world.apply_file(world_events(home / "events.jsonl", range(10)))
        ledger.snapshots.create(wait=0)
        ledger.fork("gone", 40)
        ledger.ingest(rows(home / "ticks.jsonl", range(200, 210)), branch="gone")
        ledger.commit("gone", final=True)
        ledger.tag("baseline", "main")
        ledger.fork("other", 60)
        ledger.ingest(rows(home / "ticks.jsonl", range(300, 310)), branch="other")
        ledger.commit("other", final=True)
        ledger.delete_branch("gone")
        ledger.archive(30)


@contextmanager
def killed_at_the_move(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is done here goes away when all its files were written."""

    def stopped(*_: Any) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        for kind in (DirectoryStore, ObjectStore):
            patch.setattr(kind, "advance_ref", stopped)
        with pytest.raises(Stopped):
            yield


def jobs_killed(place: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ingest, world events and a commit."""
    ticks = rows(home / "more.jsonl", range(400, 450), spoiled=True)
    events = world_events(home / "events.jsonl", range(10, 15))
    with Ledger.open(place) as ledger:
        with killed_at_the_move(monkeypatch):
            ledger.ingest(ticks)
        with killed_at_the_move(monkeypatch):
            ledger.world.apply_file(events)
        ledger.fork("third", 90)
        with killed_at_the_move(monkeypatch):
            ledger.commit("third", final=True)


def test_told_and_removed_after_the_grace(
    lived_in: Live, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived_in(place)
    before = files(place)
    jobs_killed(place, tmp_path, monkeypatch)
    after = files(place)
    left = {path: size for path, size in after.items() if path not in before}
    by_folder: dict[str, list[int]] = {}
    for path, size in left.items():
        by_folder.setdefault(path.rpartition("/")[0], []).append(size)
    assert {"segments", "contributors", "commits"} <= by_folder.keys()
    batches = by_folder.pop("commits")
    sizes = {
        f"files in {name}": f"{len(each)} ({sum(each):,} bytes) that no move names" for name, each in by_folder.items()
    }
    running = "are left to jobs that may be running"
    young = {"batches of commits": f"{len(batches)} that no move names {running}"}
    assert found(place) == {name: f"{size} {running}" for name, size in sizes.items()} | young
    assert files(place) == after, "nothing of a job that may be running is taken"
    monkeypatch.setattr(machine, "now", lambda: LATER)
    gone = {"batches of commits": f"{len(batches)} that no move names removed"}
    assert found(place) == {name: f"{size} removed" for name, size in sizes.items()} | gone
    assert files(place) == before
    assert found(place) == {}
    is_whole(place)
    jobs_go_on(place, tmp_path)


def jobs_go_on(place: str, home: Path) -> None:
    """The jobs are run again, to their ends."""
    with Ledger.open(place) as ledger:
        assert ledger.ingest(str(home / "more.jsonl")).stored == 50
        assert ledger.world.apply_file(str(home / "events.jsonl")).applied == 5
        assert ledger.commit("third", final=True).commits
        assert ledger.commit(final=True).commits
    is_whole(place)
    assert found(place) == {}


def test_what_is_used_by_whoever_is_left_to_him(
    lived_in: Live, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is removed that a ref names: of any branch, also a deleted one, a tag, an archive, a pack, a snapshot."""
    lived_in(place)
    with Ledger.open(place) as ledger:
        ledger.compact(grace="0s")
    before = files(place)
    monkeypatch.setattr(machine, "now", lambda: LATER)
    assert found(place) == {}
    assert files(place) == before
    is_whole(place)


@pytest.mark.parametrize("instant", instants(3, SECONDS, SEED + 9, soak=100))
@pytest.mark.parametrize("act", ["ingest", "commit"])
def test_killed(jobs: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str, instant: float) -> None:
    ledger = tmp_path / "world"
    ticks = rows(tmp_path / "ticks.jsonl", range(5_000), spoiled=True)
    Ledger.create(ledger, regions="grid:10", interval=20).close()
    if act == "commit":
        jobs.finish(Job(ledger, "ingest", [ticks]))
    job = Job(ledger, act, [ticks] if act == "ingest" else [])
    jobs.run(job, kill_after=instant)
    left = files(str(ledger))
    assert not [each for each in found(str(ledger)).values() if "removed" in each]
    assert files(str(ledger)) == left
    monkeypatch.setattr(machine, "now", lambda: LATER)
    told(str(ledger))
    assert found(str(ledger)) == {}
    with Ledger.open(ledger) as opened:
        (branch,) = [opened._repository.branch("main")]
        moves = opened._repository.moves("main", 0, branch.seq)
        named = {each.file for move in moves for each in move.named}
        assert named == set(files(str(ledger)))
    jobs.finish(job)
    is_whole(str(ledger))


def long_ago(place: str, path: str) -> None:
    """Let a file have been written years ago."""
    if "://" not in place:
        os.utime(Path(place) / path, (0, 0))
        return
    system, root = fsspec.url_to_fs(place)
    system.store[f"{root}/{path}"].modified = system.store[f"{root}/{path}"].modified.replace(year=2001)
    system.store[f"{root}/{path}"].created = system.store[f"{root}/{path}"].created.replace(year=2001)


def test_run_again_after_the_grace_beside_a_doctor(
    lived_in: Live, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed job left long ago is counted on by the same job, run again: it is not taken from it."""
    lived_in(place)
    before = files(place)
    jobs_killed(place, tmp_path, monkeypatch)
    for path in files(place).keys() - before.keys():
        long_ago(place, path)
    looked = 0

    def beside(real: Any) -> Any:
        def advance(store: Any, *given: Any) -> None:
            nonlocal looked
            with monkeypatch.context() as patch:
                for kind, method in methods.items():
                    patch.setattr(kind, "advance_ref", method)
                checks = found(place)
            looked += any("left to jobs" in each for each in checks.values())
            real(store, *given)

        return advance

    methods = {kind: kind.advance_ref for kind in (DirectoryStore, ObjectStore)}
    with monkeypatch.context() as patch:
        for kind, method in methods.items():
            patch.setattr(kind, "advance_ref", beside(method))
        with Ledger.open(place) as ledger:
            assert ledger.commit("third", final=True).commits
            assert ledger.ingest(str(tmp_path / "more.jsonl")).stored == 50
            assert ledger.world.apply_file(str(tmp_path / "events.jsonl")).applied == 5
    assert looked == 3
    is_whole(place)
    assert found(place) == {}


def test_no_commits_are_fetched_to_tell_what_is_nobodys(
    lived_in: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But those that the last move of a ref names."""
    place = f"memory://{uuid.uuid4().hex}/world"
    lived_in(place)
    with Ledger.open(place) as ledger:
        ledger.ingest(rows(tmp_path / "ticks.jsonl", range(500, 510)))
    monkeypatch.setenv("LEDGER_CACHE", str(tmp_path / "cold"))
    fetched, fetch = list[str](), Remote.fetch

    def told_of(remote: Remote, name: str, path: Path) -> bool:
        fetched.append(name)
        return fetch(remote, name, path)

    monkeypatch.setattr(Remote, "fetch", told_of)
    found(place)
    assert len({each for each in fetched if each.startswith("commits/")}) <= 1
    assert len([each for each in files(place) if each.startswith("commits/")]) > 3


@pytest.mark.parametrize("engine", ["duckdb", "sqlite"])
def test_a_batch_of_an_engine_is_not_taken_from_a_job_that_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    place = str(tmp_path / "world")
    with Ledger.create(place, regions="grid:10", interval=10, store=EMBEDDED[engine]) as ledger:
        ledger.ingest(rows(tmp_path / "ticks.jsonl", range(40)))
    advance = JoinedStore.advance_ref

    def stopped(*_: Any) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(machine, "now", lambda: "2001-01-01T00:00:00.000Z")
        patch.setattr(JoinedStore, "advance_ref", stopped)
        with Ledger.open(place) as ledger, pytest.raises(Stopped):
            ledger.commit(final=True)
    beside: list[dict[str, str]] = []

    def looked_at(*given: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(JoinedStore, "advance_ref", advance)
            beside.append(found(place))
        advance(*given)

    with monkeypatch.context() as patch, Ledger.open(place) as ledger:
        patch.setattr(JoinedStore, "advance_ref", looked_at)
        ledger.commit(final=True)
    assert beside[0]["batches of commits"] == "1 that no move names are left to jobs that may be running"
    is_whole(place)
    assert found(place) == {}


def test_a_commit_beside_a_doctor_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a move names that came after the batches were listed is there all the same."""
    place = str(tmp_path / "world")
    with Ledger.create(place, regions="grid:10", interval=10, store=EMBEDDED["sqlite"]) as ledger:
        ledger.ingest(rows(tmp_path / "ticks.jsonl", range(40)))
    listed = SqliteStore.batches

    def and_then(store: SqliteStore) -> dict[str, str]:
        before = listed(store)
        monkeypatch.setattr(SqliteStore, "batches", listed)
        with Ledger.open(place) as other:
            other.commit(final=True)
        return before

    monkeypatch.setattr(SqliteStore, "batches", and_then)
    assert found(place) == {}
    is_whole(place)


def test_a_fetch_counts_on_what_a_killed_one_left(
    lived_in: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, here = str(tmp_path / "other"), str(tmp_path / "here")
    lived_in(other)
    Ledger.create(here, regions="grid:10", interval=10).close()
    published, real = iter(range(2)), DirectoryStore.publish

    def counted(*given: Any) -> Any:
        if next(published, None) is None:
            raise Stopped
        return real(*given)

    with monkeypatch.context() as patch, Ledger.open(here) as ledger:
        patch.setattr(DirectoryStore, "publish", counted)
        with pytest.raises(Stopped):
            ledger.fetch(other)
    assert len(files(here)) == 2
    for path in files(here):
        long_ago(here, path)
    with monkeypatch.context() as patch, Ledger.open(here) as ledger:
        advance = DirectoryStore.advance_ref

        def beside(*given: Any) -> None:
            found(here)
            advance(*given)

        patch.setattr(DirectoryStore, "advance_ref", beside)
        ledger.fetch(other)
    is_whole(here)


@pytest.mark.parametrize("damage", ["missing", "torn", "another name", "no digest"])
def test_a_damaged_log_does_not_tell_what_is_nobodys(
    lived_in: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    place = str(tmp_path / "world")
    lived_in(place)
    kept = tmp_path / "kept"
    shutil.copytree(place, kept)
    moves = sorted((tmp_path / "world" / "refs" / "other").iterdir())
    if damage == "missing":
        moves[1].unlink()
    elif damage == "torn":
        moves[1].write_bytes(moves[1].read_bytes()[:100])
    else:
        raw = moves[1 if damage == "no digest" else -1].read_bytes()
        at = raw.index(b".parquet") - 10
        flipped = b"0" if raw[at : at + 1] != b"0" else b"1"
        moves[1 if damage == "no digest" else -1].write_bytes(raw[:at] + flipped + raw[at + 1 :])
    before = files(place)
    monkeypatch.setattr(machine, "now", lambda: LATER)
    (check,) = told(place).values()
    assert not check.ok
    assert "`ledger verify`" in check.found
    assert files(place) == before
    shutil.rmtree(tmp_path / "world" / "refs" / "other")
    shutil.copytree(kept / "refs" / "other", tmp_path / "world" / "refs" / "other")
    is_whole(place)
    assert found(place) == {}


def test_drafts_go_and_what_people_put_there_stays(
    lived_in: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "world"
    lived_in(str(place))
    drafts = [place / folder / f".{uuid.uuid4().hex}" for folder in ("segments", "commits", "refs/main")]
    own = [place / "segments" / "notes.txt", place / "segments" / ".hidden", place / "refs" / "main" / "notes.txt"]
    for path in (*drafts, *own):
        path.write_text("some")
    monkeypatch.setattr(machine, "now", lambda: LATER)
    assert found(str(place)) == {
        f"files in {path.parent.relative_to(place)}": "1 (4 bytes) that no move names removed" for path in drafts
    }
    assert not [path for path in drafts if path.exists()]
    assert all(path.exists() for path in own)
    is_whole(str(place))


def test_a_file_is_touched_or_gone_never_both(tmp_path: Path) -> None:
    """Who publishes a file while it is discarded has it there, or makes it anew."""
    store = DirectoryStore(tmp_path)
    with store.scratch() as scratch:
        (scratch / "file").write_bytes(b"x")
        name = store.publish(scratch / "file", "segments/{sha256}.parquet").file
        os.utime(tmp_path / name, (0, 0))
        real = os.link

        def discarded_first(*given: Any) -> None:
            try:
                real(*given)
            except FileExistsError:
                store.discard(name, LATER)
                raise

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "link", discarded_first)
            assert store.publish(scratch / "file", "segments/{sha256}.parquet").file == name
        assert store.read_file(name) == b"x"
        assert not store.discard(name, machine.time_before(3600))
        assert store.discard(name, LATER)
        assert not store.discard(name, LATER)
        store.touch(name)
        assert not (tmp_path / name).exists()
