"""`ledger snapshot`: cuts through the world of a branch, kept as files that others can read too.

A snapshot is announced in the ref `admin`, which fixes the cut: all events up to the branch's present move, and its
clock then. Its maker waits until every module that subscribes to the branch, but for the bus, has acknowledged what it
listens to up to there, writes the files, and completes the record. What was announced alone is shown nowhere; the next
announcement on the branch takes it away, so of two makers at once the first gives way. Files are those of a record, or
are collected. The log of events stays the truth: any snapshot can be proved by a replay from nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ledger_cli.core.history import ADMIN, Snapshot, State
from ledger_cli.core.world import Entity
from ledger_cli.errors import Conflict, Corrupt, LedgerError, NotFound, UsageError
from ledger_cli.services.broadcast import MODULE
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.snapshot_files import (
    MANIFEST,
    SnapshotFile,
    damaged,
    manifest_text,
    read_manifest,
    state_digest,
    write_files,
)
from ledger_cli.services.subscriptions import lag, subscriptions
from ledger_cli.services.world import Reducer, World
from ledger_cli.services.world_log import log_length

FOLDER = "snapshots"
Reducers = Callable[[str], Reducer]


@dataclass(frozen=True)
class SnapshotView:
    """A complete snapshot. `files`: what it consists of, where that was asked for."""

    record: Snapshot
    files: tuple[SnapshotFile, ...] | None = None
    made: bool = True
    """Whether it was made just now, and not there already."""

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`, and as the manifest has it."""
        listed = {} if self.files is None else {"files": [each.to_json() for each in self.files]}
        return {**_about(self.record), "bytes": self.record.bytes, "manifest": self.record.manifest, **listed}


# -- looking --------------------------------------------------------------------------------------------------


def snapshots(repository: Repository, branch: str | None = None) -> list[Snapshot]:
    """The complete ones, of a branch or of all, newest first."""
    found = (each for each in _records(repository).values() if each.digest is not None)
    return sorted((each for each in found if branch in (None, each.branch)), key=lambda each: -each.id)


def find(repository: Repository, snapshot: int | None, branch: str) -> Snapshot:
    """A complete snapshot by its id; None: the newest of a branch. NotFound where there is none."""
    known = snapshots(repository, branch if snapshot is None else None)
    found = next((each for each in known if snapshot in (None, each.id)), None)
    if found is None:
        named = f"no snapshot of {branch} yet" if snapshot is None else f"no snapshot {snapshot}"
        raise NotFound(f"there is {named}: `ledger snapshot list` shows them, `ledger snapshot create` makes one")
    return found


def newest_of(repository: Repository, branch: Branch) -> Snapshot | None:
    """The newest snapshot of a branch, not of a deleted one of its name."""
    known = snapshots(repository, branch.name)
    return next((each for each in known if each.created == branch.state.created), None)


def show(repository: Repository, record: Snapshot) -> SnapshotView:
    """A snapshot with its files. Corrupt where its manifest is damaged."""
    return SnapshotView(record, tuple(files_of(repository, record)))


def _records(repository: Repository) -> Mapping[str, Snapshot]:
    admin = repository.find(ADMIN)
    return {} if admin is None else admin.state.snapshots


def _about(record: Snapshot) -> dict[str, Any]:
    return {
        "id": record.id,
        "branch": record.branch,
        "move": record.move,
        "events": record.events,
        "hlc": record.hlc,
        "entities": record.entities,
        "digest": record.digest,
        "createdAt": record.at,
        "createdBy": record.by,
        "why": record.why,
    }


@dataclass(frozen=True)
class Keep:
    """Which snapshots of a branch stay: the newest so many, of these those since a time, and always the newest one.

    `since`: RFC 3339 UTC; None: however old.
    """

    newest: int
    since: str | None = None

    def gone(self, newest_first: Sequence[Snapshot]) -> list[Snapshot]:
        """Those that go. With `newest` 0 all do."""
        old = [each for each in newest_first[1:] if self.since is not None and each.at < self.since]
        return [each for number, each in enumerate(newest_first) if number >= self.newest or each in old]


def path_of(record: Snapshot, file: str) -> str:
    """Where a file of a snapshot is within the ledger."""
    return f"{FOLDER}/{record.id}/{file}"


def files_of(repository: Repository, record: Snapshot) -> list[SnapshotFile]:
    """The files of a snapshot. Corrupt where its manifest is damaged."""
    where = path_of(record, MANIFEST)
    text = repository.store.read_file(where)
    if hashlib.sha256(text).hexdigest() != record.manifest:
        raise damaged(where)
    return read_manifest(text, where)


# -- making ---------------------------------------------------------------------------------------------------


def create(
    repository: Repository,
    reducers: Reducers,
    branch_name: str,
    patience: Iterable[object] | None,
    keep: Keep,
    every: int | None = None,
    why: str = "",
) -> SnapshotView:
    """Make a snapshot of a branch's world as it is now; of those of the branch stay what `keep` says.

    `patience` yields as long as modules are waited for; None: not at all. `every`, in seconds: one that is no
    older will do. One of the same cut is not made twice. LedgerError where a module does not come along in time,
    Conflict where another one is announced meanwhile: then nothing is kept.
    """
    if keep.newest < 1:
        raise UsageError(
            f"of {keep.newest} snapshots none would be left: set keep_snapshots in ledger.toml to 1 or more"
        )
    branch = repository.branch(branch_name)
    if not log_length(branch):
        raise UsageError(f"{branch_name} has no world event yet: `ledger world apply` brings some")
    newest = newest_of(repository, branch)
    if newest is not None and (newest.events == log_length(branch) or _is_fresh(repository, newest, every)):
        return SnapshotView(newest, made=False)
    announced = _announce(repository, branch, why)
    try:
        if patience is not None:
            _wait(repository, announced, patience)
        world = World(repository, reducers)
        world.follow(repository.branch_at(branch_name, announced.move))
        return _complete(repository, announced, world.entities, keep)
    except BaseException:
        with suppress(LedgerError, OSError):
            _withdraw(repository, announced)
        raise


def _is_fresh(repository: Repository, record: Snapshot, every: int | None) -> bool:
    if every is None:
        return False
    age = datetime.fromisoformat(repository.author.now()) - datetime.fromisoformat(record.at)
    return age.total_seconds() < every


def _announce(repository: Repository, branch: Branch, why: str) -> Snapshot:
    """Fix the cut. An earlier announcement on the branch was left by a killed process, or gives way."""
    world = branch.state.world
    assert world is not None
    made: list[Snapshot] = []

    def announced(state: State) -> State:
        admin = repository.find(ADMIN)
        at, by = repository.author.now(), repository.author.name
        number = 0 if admin is None else admin.seq + 1
        cut = (branch.name, branch.state.created, branch.seq, world.events, world.hlc)
        made[:] = [Snapshot(number, *cut, at, by, why)]
        kept = {
            key: each for key, each in state.snapshots.items() if each.digest is not None or each.branch != branch.name
        }
        return replace(state, snapshots={**kept, str(number): made[0]})

    repository.administer("announce", why or f"snapshot of {branch.name}", announced)
    return made[0]


def _wait(repository: Repository, announced: Snapshot, patience: Iterable[object]) -> None:
    """Until every module that subscribes has come to the cut. LedgerError where it takes too long.

    The bus is not waited for: it is told what the ledger has, and may be down for long, or be no longer there.
    """
    behind: list[str] = []
    for _ in patience:
        branch = repository.branch(announced.branch)
        if str(announced.id) not in _records(repository) or branch.state.created != announced.created:
            raise _gave_way(announced)
        behind = [
            each.module
            for each in subscriptions(repository, branch)
            if each.module != MODULE and lag(repository, branch, each, announced.events)
        ]
        if not behind:
            return
    raise LedgerError(
        f"no snapshot was made: {', '.join(behind)} did not acknowledge event {announced.events} of "
        f"{announced.branch} in time: see `ledger world subscribe`, give more --wait, or --no-wait"
    )


def _complete(repository: Repository, announced: Snapshot, entities: Mapping[str, Entity], keep: Keep) -> SnapshotView:
    with repository.store.scratch() as scratch:
        files = write_files(entities, scratch)
        digest = state_digest({each.module: each.digest for each in files})
        record = replace(announced, entities=len(entities), digest=digest)
        manifest = scratch / MANIFEST
        manifest.write_bytes(manifest_text(_about(record), files))
        try:
            for each in files:
                repository.store.publish(scratch / each.file, path_of(record, each.file))
            published = repository.store.publish(manifest, path_of(record, MANIFEST))
        except LedgerError:
            # Whoever took the announcement away collects its folder, maybe from under the file just being written.
            if str(record.id) not in _records(repository):
                raise _gave_way(announced) from None
            raise
    size = sum(each.bytes for each in files) + published.bytes
    record = replace(record, manifest=published.sha256, bytes=size)

    def completed(state: State) -> State:
        if state.snapshots.get(str(record.id)) != announced:
            raise _gave_way(announced)
        return _kept({**state.snapshots, str(record.id): record}, state, keep, record.branch)

    repository.administer("snapshot", record.why or f"of {record.branch}", completed)
    # It is there. What cannot be removed now is removed with the next one.
    with suppress(LedgerError):
        collect(repository)
    return SnapshotView(record, tuple(files))


def copy_snapshots(source: Repository, target: Repository) -> None:
    """Bring the files of another ledger's snapshots here, which are known here by the same records."""
    with target.store.scratch() as scratch:
        for record in _records(target).values():
            if record.manifest is None or not _lacks(target, record):
                continue
            names = [*(each.file for each in files_of(source, record)), MANIFEST]
            for name in names:
                (scratch / name).write_bytes(source.store.read_file(path_of(record, name)))
                target.store.publish(scratch / name, path_of(record, name))
                (scratch / name).unlink()


def _lacks(repository: Repository, record: Snapshot) -> bool:
    try:
        repository.store.read_file(path_of(record, MANIFEST))
    except Corrupt:
        return True
    return False


def _gave_way(announced: Snapshot) -> Conflict:
    return Conflict(
        f"another snapshot of {announced.branch} was announced meanwhile, or it was reconciled: this one was given up, "
        "`ledger snapshot list` shows those that are there"
    )


def _withdraw(repository: Repository, announced: Snapshot) -> None:
    def withdrawn(state: State) -> State:
        kept = {key: each for key, each in state.snapshots.items() if each != announced}
        return replace(state, snapshots=kept)

    if _records(repository).get(str(announced.id)) == announced:
        repository.administer("withdraw", announced.why or f"snapshot of {announced.branch}", withdrawn)
    collect(repository)


# -- keeping --------------------------------------------------------------------------------------------------


def prune(repository: Repository, keep: Keep, branch: str, why: str = "") -> list[Snapshot]:
    """Take away the snapshots of a branch that do not stay; gives them."""
    if keep.newest < 0:
        raise UsageError(f"{keep.newest} snapshots cannot be kept: use a number from 0")
    gone = keep.gone(snapshots(repository, branch))
    if gone:
        repository.administer(
            "prune", why or f"snapshots of {branch}", lambda state: _kept(state.snapshots, state, keep, branch)
        )
    collect(repository)
    return gone


def _kept(records: Mapping[str, Snapshot], state: State, keep: Keep, branch: str) -> State:
    complete = [each for each in records.values() if each.digest and each.branch == branch]
    gone = {each.id for each in keep.gone(sorted(complete, key=lambda each: each.id, reverse=True))}
    return replace(state, snapshots={key: each for key, each in records.items() if each.id not in gone})


def collect(repository: Repository) -> None:
    """Remove files that belong to no record. Listed before the records are read: an announcement comes first."""
    there = repository.store.folders(FOLDER)
    known = _records(repository)
    for name in there:
        if name.isdigit() and name not in known:
            repository.store.remove(f"{FOLDER}/{name}")
