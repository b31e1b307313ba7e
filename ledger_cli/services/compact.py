"""`ledger compact`: small files go into packs (see services.packs); later, they are taken away.

A pack is checked against the digests in the log while it is written, read back, and published before a move of the
ref `admin` names it: killed at any time, what is there is read as before. A file is taken away only when a pack that
was checked once more holds it, and a grace period has gone by since the pack came: whoever read it then is done, and
whoever is not finds it in the pack. What is archived is in no pack, and goes into none. Tiles, checkpoints of worlds
and snapshots are left alone: caches of the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from ledger_cli.core.history import ADMIN, NamedFile, Pack, State
from ledger_cli.errors import Conflict, Corrupt
from ledger_cli.services.packs import FOLDER, Member, PackWriter, check, member_names, rows_of
from ledger_cli.services.repository import Repository

BELOW = 128 << 10
TARGET = 128 << 20
GRACE = 86_400
_LEFTOVER = 86_400
"""Seconds after which a pack that no move names was left by a process that is gone, whatever the grace."""
_WORTH = 2
"""Fewer files are not packed."""
_KINDS = ("segments", "commits", "world", "quarantine")


@dataclass(frozen=True)
class Rules:
    """Files of fewer bytes than `below` go into packs of about `target` bytes of them; they stay `grace` seconds."""

    below: int = BELOW
    target: int = TARGET
    grace: int = GRACE
    dry_run: bool = False


@dataclass(frozen=True)
class Packed:
    """What was packed of one kind: files and their bytes, into how many packs of how many bytes.

    `files` are those that were in no pack; older packs may have gone into these as well.
    """

    kind: str
    files: int
    bytes: int
    packs: int
    packed_bytes: int

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "kind": self.kind,
            "files": self.files,
            "bytes": self.bytes,
            "packs": self.packs,
            "packedBytes": self.packed_bytes,
        }


@dataclass(frozen=True)
class Compaction:
    """What became of the small files: those packed now, those taken away now, those that wait for their grace to end.

    Of a dry run: what would have been, packs left out.
    """

    packed: tuple[Packed, ...]
    removed: int
    removed_bytes: int
    waiting: int
    dry_run: bool

    @property
    def files(self) -> int:
        """Files packed now."""
        return sum(each.files for each in self.packed)

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "packed": [each.to_json() for each in self.packed],
            "removed": self.removed,
            "removedBytes": self.removed_bytes,
            "waiting": self.waiting,
            "dryRun": self.dry_run,
        }


def compact(repository: Repository, rules: Rules, why: str = "") -> Compaction:
    """Pack the small files of all branches, and take away those whose grace has ended.

    Corrupt where a file or pack is not what its digest says: nothing is packed then, and nothing taken away that it
    concerns. Conflict where another process packed meanwhile.
    """
    store = repository.store
    named = _named(repository)
    packs = _packs(repository)
    names = {pack: member_names(store, pack) for pack in packs}
    packed = {name for each in names.values() for name in each}
    there = _Folders(repository)
    results = []
    with store.scratch() as scratch:
        made: list[_Made] = []
        gone: list[Pack] = []
        for kind in _KINDS:
            small = [each for each in named.values() if each.kind == kind and each.member.bytes < rules.below]
            fresh = [each.member for each in small if each.member.file not in packed and each.member.file in there]
            if len(fresh) < _WORTH:
                continue
            if rules.dry_run:
                results.append(Packed(kind, len(fresh), sum(map(_bytes, fresh)), 0, 0))
                continue
            sizes = {pack: sum(named[name].member.bytes for name in names[pack]) for pack in packs if pack.kind == kind}
            older = _to_merge([pack for pack, size in sizes.items() if size < rules.target], len(fresh))
            again = [named[name].member for pack in older for name in names[pack] if not store.archived(name)]
            written = _written(repository, kind, again, fresh, rules.target, scratch / kind)
            if any(each.fresh for each in written):
                new = [member for each in written for member in each.fresh]
                size = sum(each.path.stat().st_size for each in written)
                results.append(Packed(kind, len(new), sum(map(_bytes, new)), len(written), size))
                made += written
                gone += older
        if made:
            _publish(repository, made, packs, gone, why)
    removed, waiting = _take_away(repository, named, rules)
    return Compaction(tuple(results), len(removed), sum(removed), waiting, rules.dry_run)


_bytes = attrgetter("bytes")


def take_out(repository: Repository, files: Container[str], why: str) -> None:
    """Make the packs that hold some of these files anew without them: they were archived.

    Who reads an older pack meanwhile is not disturbed; `compact` takes it away. Conflict where another process packed.
    """
    packs = _packs(repository)
    names = {pack: member_names(repository.store, pack) for pack in packs}
    gone = [pack for pack in packs if any(name in files for name in names[pack])]
    if not gone:
        return
    named = _named(repository)
    made: list[_Made] = []
    with repository.store.scratch() as scratch:
        for number, pack in enumerate(gone):
            kept = [named[name].member for name in names[pack] if name not in files]
            made += _written(repository, pack.kind, kept, (), TARGET, scratch / str(number))
        _publish(repository, made, packs, gone, why)


@dataclass(frozen=True)
class _Named:
    """A file that the log names."""

    member: Member
    kind: str


def _named(repository: Repository) -> dict[str, _Named]:
    """The files that any move of any branch names, deleted ones' too, in the order they came."""
    found: dict[str, _Named] = {}
    for name in repository.store.branches():
        for branch in reversed([*repository.lives(name)]):
            added = branch.added
            lists: tuple[Sequence[NamedFile], ...] = (added.segments, added.commits, added.world, added.quarantine)
            for kind, files in zip(_KINDS, lists, strict=True):
                for each in files:
                    found.setdefault(each.file, _Named(Member(each.file, each.sha256, each.bytes), kind))
    return found


def _packs(repository: Repository) -> list[Pack]:
    return [pack for pack in _listed(repository) if pack.replaced is None]


def _listed(repository: Repository) -> tuple[Pack, ...]:
    admin = repository.find(ADMIN)
    return () if admin is None else admin.state.packs


class _Folders:
    """Which files there are, by a listing of each folder that is asked for."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._names: dict[str, set[str]] = {}

    def __contains__(self, file: str) -> bool:
        folder, _, name = file.rpartition("/")
        if folder not in self._names:
            self._names[folder] = set(self._repository.store.folders(folder))
        return name in self._names[folder]


def _to_merge(packs: Iterable[Pack], files: int) -> list[Pack]:
    """The packs that go into the next one: those no larger than what they meet, so that each file moves seldom."""
    found = []
    for pack in sorted(packs, key=lambda pack: pack.members):
        if pack.members > files:
            break
        found.append(pack)
        files += pack.members
    return found


@dataclass(frozen=True)
class _Made:
    """A pack in a local file. `fresh`: those of its members that were in none."""

    path: Path
    kind: str
    rows: int
    members: tuple[Member, ...]
    fresh: tuple[Member, ...]


def _written(
    repository: Repository, kind: str, again: Sequence[Member], fresh: Sequence[Member], target: int, directory: Path
) -> list[_Made]:
    """Local packs of files, those of older packs (`again`) first.

    Files of another schema have packs of their own. All is checked, before and after.
    """
    directory.mkdir()
    writers: dict[pa.Schema, list[PackWriter]] = {}
    with ExitStack() as opened:
        for member in (*again, *fresh):
            data = _whole(repository, member)
            rows = None if data is None else rows_of(member.file, data)
            if data is None or rows is None or not rows.num_rows:
                continue
            mine = writers.setdefault(rows.schema, [])
            if not mine or mine[-1].size >= target:
                number = sum(map(len, writers.values()))
                mine.append(PackWriter(directory / f"{number}.parquet", rows.schema))
                opened.callback(mine[-1].close)
            mine[-1].add(member, data, rows)
    moved = set(again)
    made = [_checked(each, kind, moved) for some in writers.values() for each in some]
    return [each for each in made if len(each.members) >= _WORTH or not each.fresh]


def _whole(repository: Repository, member: Member) -> bytes | None:
    """The bytes of a file as the log has it; None for a batch of commits that was written anew."""
    data = repository.store.read_file(member.file)
    if hashlib.sha256(data).hexdigest() == member.sha256:
        return data
    if repository.store.rewritten(member.file):
        return None
    raise Corrupt(f"{member.file} is not what its digest says: run `ledger verify`; nothing was packed")


def _checked(writer: PackWriter, kind: str, moved: Container[Member]) -> _Made:
    """A pack that was written, read back and compared with what went into it."""
    if [each.member for each in check(str(writer.path))] != writer.members:
        raise Corrupt(f"a pack of {kind} is not as it was written: is the disk failing? Nothing was packed")
    fresh = tuple(member for member in writer.members if member not in moved)
    return _Made(writer.path, kind, writer.rows, tuple(writer.members), fresh)


class _OutrunError(Exception):
    """Another process changed the packs."""


def _publish(
    repository: Repository, made: Sequence[_Made], before: Sequence[Pack], gone: Sequence[Pack], why: str
) -> None:
    """Make packs part of the ledger, in place of those that went into them, by one move."""
    now = repository.author.now()
    fresh = []
    for each in made:
        published = repository.store.publish(each.path, f"{FOLDER}/{each.kind}-{{sha256}}.parquet")
        if repository.store.digest_of_file(published.file) != published.sha256:
            raise Corrupt(f"{published.file} is not as it was written: is the disk failing? Nothing was packed")
        fresh.append(Pack(**vars(published), rows=each.rows, kind=each.kind, members=len(each.members), at=now))
    left = set(repository.store.folders(FOLDER))

    def change(state: State) -> State:
        current = [pack for pack in state.packs if pack.replaced is None]
        if current != list(before):
            raise _OutrunError
        was = [replace(pack, replaced=now) if pack in gone else pack for pack in state.packs]
        kept = [pack for pack in was if pack.replaced is None or pack.file.rpartition("/")[2] in left]
        return replace(state, packs=(*kept, *fresh))

    try:
        repository.administer("compact", why, change)
    except _OutrunError as error:
        raise Conflict("another process packed files meanwhile: run the command again") from error


def _take_away(repository: Repository, named: Mapping[str, _Named], rules: Rules) -> tuple[list[int], int]:
    """Remove what packs hold and whose grace has ended: the bytes of each file removed, and how many are to wait."""
    store = repository.store
    now = datetime.fromisoformat(repository.author.now())
    due = (now - timedelta(seconds=rules.grace)).timestamp()
    there = _Folders(repository)
    removed: list[int] = []
    waiting = 0

    def remove(file: str, size: int) -> None:
        removed.append(size)
        if not rules.dry_run:
            store.remove(file)

    @cache
    def whole(pack: Pack) -> None:
        if store.digest_of_file(pack.file) != pack.sha256:
            raise Corrupt(f"{pack.file} is not what its digest says: run `ledger verify`; its files were kept")

    for pack in _listed(repository):
        if pack.replaced is not None:
            if pack.file not in there:
                continue
            if _time(pack.replaced) > due:
                waiting += 1
                continue
            for other in _packs(repository):
                whole(other)
            remove(pack.file, pack.bytes)
            continue
        own = [name for name in member_names(store, pack) if name in there]
        own = [name for name in own if named[name].kind != "commits" or not store.rewritten(name)]
        if _time(pack.at) > due:
            waiting += len(own)
        elif own:
            whole(pack)
            for name in own:
                remove(name, named[name].member.bytes)
    known = {pack.file for pack in _listed(repository)}
    stale = now.timestamp() - max(rules.grace, _LEFTOVER)
    for name, written in store.written(FOLDER).items():
        if f"{FOLDER}/{name}" not in known and _time(written.at) <= stale and not rules.dry_run:
            store.remove(f"{FOLDER}/{name}")
    return removed, waiting


def _time(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
