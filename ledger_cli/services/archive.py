"""`ledger archive`: entries of old commits, and whole files of old events, go to a place outside; headers stay.

In this order: write the files, put them in the place, read them back from there and check every digest; announce the
archive in the ref `admin`, from when on reads know of it; only then take out of the ledger what it holds. What was
announced and not taken out, since the process was killed, is taken out by the next run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.archive import ArchivedFile, Ids, Manifest
from ledger_cli.core.history import ADMIN, Archive, CommitFile, Segment, State, WorldFile
from ledger_cli.core.slices import CommitSlice
from ledger_cli.errors import Conflict, Corrupt, UsageError
from ledger_cli.services.archive_files import FileWriter
from ledger_cli.services.archived_store import CHECKED, ArchivedStore, Held, boxed, check_entries, fetch, manifest_file
from ledger_cli.services.compact import take_out
from ledger_cli.services.repository import Repository

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """Which commits are to be archived: those to which all that is set applies."""

    before: int | None = None
    """Their epochs end at this tick or below."""
    made_before: str | None = None
    """They were made before this time, RFC 3339 UTC."""
    max_activity: float | None = None
    """No region's mean activity is higher."""
    but_newest: int | None = None
    """Not among the newest so many of their chain; files: of those that came on their branch."""


@dataclass(frozen=True)
class Request:
    """What is to be archived, and where to. Commits to which one of the rules applies; whole files of events."""

    to: str
    rules: tuple[Rule, ...] = ()
    branch: str | None = None
    """Only what this branch reads; None: of all, deleted ones too."""
    ticks: Rule | None = None
    """Segments of ticks all below a tick, or that came before a time."""
    world: Rule | None = None
    """Files of world events that came before a time."""
    why: str = ""


@dataclass(frozen=True)
class ArchiveView:
    """An archive: how much is in it, and its pointer."""

    record: Archive
    dry_run: bool = False

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        one = self.record
        state = "restored" if one.restored else "archived" if one.freed else "unfinished"
        return {
            "id": None if self.dry_run else one.id,
            "state": "planned" if self.dry_run else state,
            "pointer": None if self.dry_run else one.pointer,
            "manifest": None if self.dry_run else one.manifest,
            "commits": one.commits,
            "entries": one.entries,
            "batches": one.batches,
            "epochStart": one.epoch_min,
            "epochEnd": one.epoch_max,
            "segments": one.segments,
            "worldFiles": one.world_files,
            "bytes": one.bytes,
            "createdAt": one.at,
        }


@dataclass(frozen=True)
class Archived:
    """What a run did. `finished`: archives that an earlier run had announced; `made`: the one of this run, if any."""

    finished: tuple[ArchiveView, ...]
    made: ArchiveView | None

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        made = None if self.made is None else self.made.to_json()
        return {"archive": made, "finished": [each.to_json() for each in self.finished]}


def archives(repository: Repository) -> list[Archive]:
    """All archives of a ledger, newest first, restored ones too."""
    admin = repository.find(ADMIN)
    return [] if admin is None else sorted(admin.state.archives.values(), key=lambda each: -each.id)


def archive(repository: Repository, store: ArchivedStore, request: Request, dry_run: bool = False) -> Archived:
    """Archive what a request names and is not archived yet. What an earlier run left unfinished is finished first.

    LedgerError where the place cannot be written or does not give back what was written: then nothing was taken out.
    """
    _check(request)
    store.look_again()
    finished = () if dry_run else _finish(repository, store)
    with store.scratch() as scratch:
        made = _written(repository, store, request, scratch)
        if not made.stored:
            return Archived(finished, None)
        if dry_run:
            return Archived(finished, ArchiveView(_record(made, request, "", 0), True))
        record = _announced(repository, store, request, made, scratch)
    return Archived(finished, ArchiveView(free(repository, store, record)))


_MOST = 2**53


def _check(request: Request) -> None:
    if not request.rules and request.ticks is None and request.world is None:
        raise UsageError(
            "nothing says what to archive: give --before, or set archive_after and the like in ledger.toml"
        )
    if any(each.max_activity is not None and not each.max_activity >= 0 for each in request.rules):
        raise UsageError("--max-activity, and archive_quiet_activity in ledger.toml, must be a number from 0")
    named = {"archive_ticks_keep": request.ticks, "archive_world_keep": request.world}
    for name, rule in [*(("archive_keep", each) for each in request.rules), *named.items()]:
        if rule is not None and rule.but_newest is not None and not 0 <= rule.but_newest < _MOST:
            raise UsageError(f"{name} in ledger.toml must be a number from 0 to {_MOST - 1}")


def _finish(repository: Repository, store: ArchivedStore) -> tuple[ArchiveView, ...]:
    left = [each for each in archives(repository) if not each.freed and not each.restored]
    return tuple(ArchiveView(free(repository, store, each)) for each in reversed(left))


# -- choosing -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Batch:
    """A batch and what decides on its commits beside themselves. `parts`: of the branch asked for; None: all."""

    file: CommitFile
    made_at: str
    parts: tuple[CommitSlice, ...] | None
    lengths: Mapping[str, int]
    """Of each shard, the lengths of the longest chain that stands on the batch."""


@dataclass
class _Lists:
    """What all refs name."""

    commits: dict[str, tuple[str, CommitFile]] = field(default_factory=dict)
    segments: dict[str, tuple[str, Segment]] = field(default_factory=dict)
    world: dict[str, tuple[str, WorldFile]] = field(default_factory=dict)


def _lists(repository: Repository, only: str | None) -> _Lists:
    """Files by name, each with the ref whose move brought it."""
    found = _Lists()
    for name in _standing_on(repository, only) if only else repository.store.branches():
        branch = repository.find(name)
        while branch is not None and name != ADMIN:
            added = branch.added
            for commits in added.commits:
                found.commits.setdefault(commits.file, (name, commits))
            for segment in added.segments:
                found.segments.setdefault(segment.file, (name, segment))
            for world in added.world:
                found.world.setdefault(world.file, (name, world))
            created = branch.state.created
            # Before it there was another branch of its name.
            branch = repository.branch_at(name, created - 1) if created else None
    return found


def _standing_on(repository: Repository, name: str) -> list[str]:
    """A branch and those that it stands on."""
    names: list[str] = []
    left = [repository.branch(name)]
    while left:
        branch = left.pop()
        if branch.name not in names:
            names.append(branch.name)
            left += [each for each in (branch.base, branch.chain_parent) if each is not None]
    return names


def _batches(repository: Repository, request: Request, lists: _Lists) -> Iterator[_Batch]:
    """The batches that may hold commits to be archived."""
    timed = any(each.made_before is not None for each in request.rules)
    ends = [each.before for each in request.rules]
    top = max((end for end in ends if end is not None), default=None) if None not in ends else None
    lengths = _lengths(repository)
    parts: dict[str, list[CommitSlice]] = {}
    for each in repository.branch(request.branch).commit_slices() if request.branch else []:
        parts.setdefault(each.file.file, []).append(each)
    for file, (ref, record) in lists.commits.items():
        if (request.branch and file not in parts) or (top is not None and record.epoch_min > top):
            continue
        made_at = repository.move(ref, record.arrival).at if timed else ""
        yield _Batch(record, made_at, tuple(parts[file]) if request.branch else None, lengths)


def _lengths(repository: Repository) -> dict[str, int]:
    longest: dict[str, int] = {}
    for name in repository.branch_names():
        for shard, chain in repository.branch(name).state.shards.items():
            longest[shard] = max(longest.get(shard, 0), chain.commits)
    return longest


def _chosen(batch: _Batch, rules: Sequence[Rule], table: pa.Table) -> pa.Table:
    """The commits of a batch that have entries and are to be archived."""
    there = table.filter(pc.is_valid(table["entries"])) if table["entries"].null_count else table
    wanted = np.zeros(there.num_rows, dtype=bool)
    for rule in rules:
        wanted |= _applies(rule, batch, there)
    if batch.parts is not None:
        wanted &= _within(batch.parts, there)
    return there if wanted.all() else there.filter(pa.array(wanted))


def _applies(rule: Rule, batch: _Batch, table: pa.Table) -> Bools:
    wanted = np.ones(table.num_rows, dtype=bool)
    if rule.made_before is not None and batch.made_at >= rule.made_before:
        return ~wanted
    if rule.before is not None:
        wanted &= table["epoch_end"].to_numpy() <= rule.before
    if rule.but_newest is not None:
        shards, place = np.unique(table["shard"].to_numpy(), return_inverse=True)
        ends = np.array([batch.lengths.get(str(shard), 0) for shard in shards.tolist()], dtype=np.int64)
        wanted &= table["height"].to_numpy() < ends[place] - rule.but_newest
    if rule.max_activity is not None and wanted.any():
        lists = table["entries"].combine_chunks()
        means = lists.flatten().field("activity_mean").to_numpy(zero_copy_only=False)
        high = np.zeros(table.num_rows, dtype=bool)
        high[pc.list_parent_indices(lists).to_numpy()[means > rule.max_activity]] = True
        wanted &= ~high
    return wanted


def _within(parts: Iterable[CommitSlice], table: pa.Table) -> Bools:
    shards, heights = table["shard"].to_numpy(), table["height"].to_numpy()
    inside = np.zeros(table.num_rows, dtype=bool)
    for part in parts:
        for shard, (first, past) in part.spans.items():
            inside |= (shards == int(shard)) & (heights >= first) & (heights < past)
    return inside


def _whole_files(repository: Repository, request: Request, lists: _Lists) -> Iterator[tuple[str, str]]:
    """Files of events that are to be archived as they are, with what they hold."""
    ticks, world = request.ticks, request.world
    if ticks is not None:
        newest = _newest(lists.segments, ticks.but_newest)
        for file, (ref, segment) in lists.segments.items():
            if file in newest:
                continue
            below = ticks.before is None or segment.tick_max < ticks.before
            if below and (ticks.made_before is None or repository.move(ref, segment.arrival).at < ticks.made_before):
                yield file, "ticks"
    if world is not None and world.made_before is not None:
        newest = _newest(lists.world, world.but_newest)
        for file, (ref, events) in lists.world.items():
            if file not in newest and repository.move(ref, events.arrival).at < world.made_before:
                yield file, "world"


def _newest(files: Mapping[str, tuple[str, Segment | WorldFile]], count: int | None) -> set[str]:
    """The files that came last, so many of each ref."""
    if not count:
        return set()
    came: dict[str, list[tuple[int, int, str]]] = {}
    for place, (file, (ref, record)) in enumerate(files.items()):
        came.setdefault(ref, []).append((record.arrival, place, file))
    return {file for some in came.values() for _, _, file in sorted(some)[-count:]}


# -- writing --------------------------------------------------------------------------------------------------


def _written(repository: Repository, store: ArchivedStore, request: Request, scratch: Path) -> Manifest:
    """The files of the archive, in the scratch directory under their names in the place."""
    vault = store.reader.vault
    lists = _lists(repository, request.branch)
    with FileWriter(scratch, vault.encryption) as rows:
        for batch in _batches(repository, request, lists) if request.rules else ():
            for table in store.commits.read_commits(batch.file.file):
                rows.write(batch.file.file, _chosen(batch, request.rules, table))
        files, index = rows.close()
    encrypted = vault.encryption() is not None
    whole = [
        _copied(store, file, kind, scratch, vault.encryption())
        for file, kind in _whole_files(repository, request, lists)
        if not store.archived(file)
    ]
    return Manifest(
        ledger=repository.identity,
        commits=rows.commits,
        entries=rows.entries,
        ticks=rows.ticks,
        shards=tuple(sorted(rows.shards)),
        files=files,
        index=index,
        whole=tuple(whole),
        encrypted=encrypted,
    )


def _copied(store: ArchivedStore, file: str, kind: str, scratch: Path, encryption: Any) -> ArchivedFile:
    source, target = Path(store.location(file)), scratch / "whole"
    plain, _ = _digest(source)
    if encryption is not None:
        boxed(source, target, encryption)
        digest, size = _digest(target)
        name = f"{digest}.parquet"
        target.replace(scratch / name)
        return ArchivedFile(file, kind, name, digest, size, plain)
    name = f"{plain}{source.suffix}"
    with suppress(FileExistsError):
        (scratch / name).symlink_to(source.absolute())
    return ArchivedFile(file, kind, name, plain, source.stat().st_size, plain)


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def _record(made: Manifest, request: Request, sha256: str, size: int) -> Archive:
    low, high = made.ticks or (None, None)
    segments = sum(each.kind == "ticks" for each in made.whole)
    return Archive(
        id=0,
        pointer=f"{request.to.rstrip('/')}/{sha256}.json",
        manifest=sha256,
        at="",
        bytes=size + sum(each.bytes for each in made.stored),
        commits=made.commits,
        entries=made.entries,
        batches=len(made.batches),
        segments=segments,
        world_files=len(made.whole) - segments,
        epoch_min=low,
        epoch_max=high,
    )


def _announced(
    repository: Repository, store: ArchivedStore, request: Request, made: Manifest, scratch: Path
) -> Archive:
    """Put the files in their place, look whether they are there, and let the ledger know."""
    place, url = store.reader.vault.place(request.to), request.to.rstrip("/")
    for each in made.stored:
        place.put(scratch / each.file, each.file)
        (scratch / each.file).unlink()
    for rows in made.files:
        path, found = store.reader.fetched_anew(url, rows), 0
        for table in store.reader.rows(path, rows.file, made.encrypted, columns=list(CHECKED)):
            check_entries(table, f"{url}/{rows.file}")
            found += table.num_rows
        if found != rows.rows:
            raise Corrupt(f"{url}/{rows.file} gives back {found} commits of {rows.rows}: choose another --to")
    back = scratch / "back"
    for other in made.stored[len(made.files) :]:
        fetch(place, url, other, back)
        if isinstance(other, ArchivedFile) and made.encrypted:
            store.reader.unboxed(back, other, scratch / "plain")
    text = made.to_bytes()
    sha256 = hashlib.sha256(text).hexdigest()
    path = scratch / "manifest.json"
    path.write_bytes(text)
    place.put(path, f"{sha256}.json")
    place.get(f"{sha256}.json", back)
    if back.read_bytes() != text:
        raise Corrupt(f"{url}/{sha256}.json does not give back what was written: choose another --to")
    store.publish(path, manifest_file(sha256))
    return _announce(repository, _record(made, request, sha256, len(text)), request.why)


def _announce(repository: Repository, record: Archive, why: str) -> Archive:
    told: list[Archive] = []

    def announced(state: State) -> State:
        same = [each for each in state.archives.values() if each.manifest == record.manifest and not each.restored]
        if same:
            told[:] = same[:1]
            return state
        admin = repository.find(ADMIN)
        number = 0 if admin is None else admin.seq + 1
        told[:] = [replace(record, id=number, at=repository.author.now())]
        return replace(state, archives={**state.archives, str(number): told[0]})

    repository.administer("archive", why or f"entries of {record.commits} commits", announced)
    return told[0]


# -- freeing --------------------------------------------------------------------------------------------------


def free(repository: Repository, store: ArchivedStore, record: Archive) -> Archive:
    """Take out of the ledger what an announced archive holds. Idempotent."""
    held = Held(record, store.manifest(record))
    for batch in held.manifest.batches:
        ids = [table["commit_id"] for table in store.archived_rows(held, batch, ["commit_id"])]
        texts = pa.chunked_array([chunk for each in ids for chunk in each.chunks], pa.string())
        store.commits.archive_commits(batch, Ids(texts))
    for each in held.manifest.whole:
        store.inner.remove(each.name)
    gone = {*held.manifest.batches, *(each.name for each in held.manifest.whole)}
    take_out(repository, gone, f"what is in archive {record.id}")
    done: list[Archive] = []

    def freed(state: State) -> State:
        known = state.archives[str(record.id)]
        if known.restored:
            raise Conflict(f"{record.pointer} was restored while it was made: run `ledger restore {record.id}` again")
        done[:] = [replace(known, freed=True)]
        return replace(state, archives={**state.archives, str(record.id): done[0]})

    repository.administer("free", f"what is in archive {record.id}", freed)
    store.reader.forget(held.manifest.files)
    return done[0]
