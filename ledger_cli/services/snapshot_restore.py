"""Snapshots brought back, and proved: what a replay from nothing makes is what they must hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ledger_cli.core.history import Snapshot, State, WorldCheckpoint, WorldFile
from ledger_cli.core.slices import heights_of
from ledger_cli.core.world import Entity
from ledger_cli.errors import Conflict, Corrupt, Difference, UsageError
from ledger_cli.services.cut import Cut
from ledger_cli.services.fork import begin
from ledger_cli.services.repository import ATTEMPTS, Branch, Repository, overtaken
from ledger_cli.services.snapshot_files import (
    MANIFEST,
    SnapshotFile,
    digest_of_state,
    digest_of_table,
    entities_of,
    read_table,
    state_digest,
    write_files,
)
from ledger_cli.services.snapshots import Reducers, files_of, path_of
from ledger_cli.services.world import World, write_checkpoint
from ledger_cli.services.world_log import log_length


@dataclass(frozen=True)
class Restored:
    """A state that was restored. `tail`: the events that were replayed on top of the snapshot."""

    snapshot: int
    branch: str
    source: str
    """The branch that the snapshot is of."""
    entities: int
    events: int
    tail: int
    digest: str
    verified: bool
    """Whether a replay from nothing gave the same state."""

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {**vars(self)}


@dataclass(frozen=True)
class Proof:
    """What a check of a snapshot found: names of files with what is wrong, and the digests of its state."""

    snapshot: int
    branch: str
    events: int
    digest: str | None
    replayed: str
    findings: tuple[tuple[str, str], ...]

    @property
    def ok(self) -> bool:
        """Whether it is as it was written, and as a replay from nothing makes it."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        found = [{"file": file, "what": what} for file, what in self.findings]
        return {**vars(self), "ok": self.ok, "findings": found}


@dataclass(frozen=True)
class Drill:
    """A snapshot that was made and restored for the sake of it, and compared with a replay from nothing. Seconds."""

    branch: str
    entities: int
    events: int
    ok: bool
    snapshot: float
    restore: float
    replay: float


def load(repository: Repository, record: Snapshot) -> dict[str, Entity]:
    """The state of a snapshot, each file checked. Corrupt, naming the file, where one is not as it was written."""
    return loaded(lambda file: repository.store.read_file(path_of(record, file)), files_of(repository, record), record)


def loaded(read: Callable[[str], bytes], files: Sequence[SnapshotFile], record: Snapshot) -> dict[str, Entity]:
    """The same, of any place that files can be read from."""
    return entities_of({each.module: read_table(read, each, path_of(record, each.file)) for each in files})


def restore(
    repository: Repository,
    reducers: Reducers,
    record: Snapshot,
    target: str | None = None,
    proved: bool = True,
    why: str = "",
) -> Restored:
    """Bring the world back from a snapshot: load it, replay the events since, compare with a replay from nothing.

    The branch then starts from there, and not from its last checkpoint. With a `target`, a branch of that name is
    begun at the cut instead, ticks and all. Difference where the two states differ (`proved`): nothing is changed.
    """
    branch = repository.branch_at(record.branch, record.move) if target else repository.branch(record.branch)
    world = World(repository, reducers)
    world.files = _covered(repository, branch, record)
    world.entities = load(repository, record)
    world.follow(branch)
    digest = digest_of_state(world.entities)
    if proved and digest != replayed(repository, reducers, branch):
        raise Difference(
            f"snapshot {record.id} and the {log_length(branch) - record.events} events since give another state than "
            "a replay from nothing: `ledger snapshot verify` and `ledger verify` tell more; nothing was changed"
        )
    _begin_from(repository, branch, world, target, why or f"snapshot {record.id}")
    tail = log_length(branch) - record.events
    made = target or record.branch
    return Restored(
        record.id, made, record.branch, len(world.entities), log_length(branch), tail, digest, verified=proved
    )


def _covered(repository: Repository, branch: Branch, record: Snapshot) -> list[WorldFile]:
    """The files of a branch's log that a snapshot stands for. UsageError where they are others now."""
    files = branch.world_files()
    then = [each.file for each in repository.branch_at(record.branch, record.move).world_files()]
    if [each.file for each in files[: len(then)]] != then:
        raise UsageError(
            f"{record.branch} does not begin with the events of snapshot {record.id} any more, since it was reconciled "
            "or made again: restore into a new branch by --to NAME"
        )
    return files[: len(then)]


def _begin_from(repository: Repository, branch: Branch, world: World, target: str | None, why: str) -> None:
    """Let a branch, or a new one at the same move, start from a state."""
    with repository.store.scratch() as scratch:
        checkpoint = write_checkpoint(repository, world.entities, len(world.files), scratch)
    if target is not None:
        parent = Branch(repository, branch.name, replace(branch.move, state=_with(branch, checkpoint)), branch.raw)
        cut = Cut(parent, heights_of(parent.state), parent.state.watermark, whole=True)
        begin(repository, parent, target, cut, None, why, "restore")
        return
    for _ in range(ATTEMPTS):
        try:
            repository.advance(branch.name, branch, "restore", _with(branch, checkpoint), why)
            return
        except Conflict:
            # The state holds for the events that it was made of, whatever came behind them.
            created, branch = branch.state.created, repository.branch(branch.name)
            if branch.state.created != created:
                break
    raise overtaken(f"branch {branch.name}")


def _with(branch: Branch, checkpoint: WorldCheckpoint) -> State:
    world = branch.state.world
    assert world is not None
    return replace(branch.state, world=replace(world, checkpoint=checkpoint))


def replayed(repository: Repository, reducers: Reducers, branch: Branch) -> str:
    """The digest of a branch's world, folded from its first event on."""
    world = World(repository, reducers)
    world.follow(branch, cached=False)
    return digest_of_state(world.entities)


def verify(repository: Repository, reducers: Reducers, record: Snapshot) -> Proof:
    """Check every file of a snapshot, and its state against a replay from nothing."""
    findings = dict(damages(repository, record))
    digests: dict[str | None, str] = {}
    for each in [] if findings else files_of(repository, record):
        where = path_of(record, each.file)
        digests[each.module] = digest_of_table(
            read_table(lambda file: repository.store.read_file(path_of(record, file)), each, where)
        )
        if digests[each.module] != each.digest:
            findings[where] = "its rows are not those that the manifest tells"
    digest = state_digest(digests) if digests else None
    replay = replayed(repository, reducers, repository.branch_at(record.branch, record.move))
    manifest = path_of(record, MANIFEST)
    if digest is not None and digest != record.digest:
        findings.setdefault(manifest, "the digest of its state is not that of its files")
    if replay != record.digest:
        findings.setdefault(manifest, f"a replay of the {record.events} events from nothing gives another state")
    return Proof(record.id, record.branch, record.events, digest, replay, tuple(sorted(findings.items())))


def damages(repository: Repository, record: Snapshot) -> Iterable[tuple[str, str]]:
    """The files of a snapshot that are not as they were written, each with what is wrong."""
    try:
        files = files_of(repository, record)
    except Corrupt:
        yield path_of(record, MANIFEST), "its SHA-256 is not the one in the log: it was changed or torn, or is missing"
        return
    for each in files:
        where = path_of(record, each.file)
        try:
            whole = repository.store.digest_of_file(where) == each.sha256
        except Corrupt:
            yield where, "is missing"
            continue
        if not whole:
            yield where, "its SHA-256 is not the one in the manifest: it was changed or torn"


def drill(repository: Repository, reducers: Reducers, branch: Branch, scratch: Path, clock: Callable[[], int]) -> Drill:
    """Prove that a branch's world can be brought back, in a local directory. `clock`: µs."""
    state = branch.state.world
    assert state is not None
    times = [clock()]
    world = World(repository, reducers)
    world.follow(branch)
    files = write_files(world.entities, scratch)
    times.append(clock())
    record = Snapshot(0, branch.name, branch.state.created, branch.seq, state.events, state.hlc, "", "")
    entities = loaded(lambda file: (scratch / file).read_bytes(), files, record)
    digests = {state_digest({each.module: each.digest for each in files}), digest_of_state(entities)}
    times.append(clock())
    digests.add(replayed(repository, reducers, branch))
    times.append(clock())
    took = [(end - start) / 1e6 for start, end in pairwise(times)]
    return Drill(branch.name, len(entities), state.events, len(digests) == 1, *took)
