"""`ledger archive`: entries of old commits, and whole files of old events, go to a place outside; headers stay.

In this order: write the files, put them in the place, read them back from there and check every digest; announce the
archive in the ref `admin`, from when on reads know of it; only then take out of the ledger what it holds. What was
announced and not taken out, since the process was killed, is taken out by the next run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from ledger_cli.core.archive import ArchivedFile, Manifest, ReadIds
from ledger_cli.core.history import ADMIN, Archive, State
from ledger_cli.errors import Conflict, Corrupt, UsageError
from ledger_cli.services.archive_choice import Batch, Request, all_chosen, all_files, batches, chosen, whole_files
from ledger_cli.services.archive_files import FileWriter
from ledger_cli.services.archived_store import CHECKED, ArchivedStore, Held, boxed, check_entries, fetch, manifest_file
from ledger_cli.services.compact import take_out
from ledger_cli.services.repository import Repository


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


# -- writing --------------------------------------------------------------------------------------------------


def _written(repository: Repository, store: ArchivedStore, request: Request, scratch: Path) -> Manifest:
    """The files of the archive, in the scratch directory under their names in the place."""
    vault = store.reader.vault
    lists = all_files(repository, request.branch)
    with FileWriter(scratch, vault.encryption) as rows:
        for batch in batches(repository, request, lists) if request.rules else ():
            if not _taken(store, batch, request, rows):
                for table in store.commits.read_commits(batch.file.file):
                    rows.write(batch.file.file, chosen(batch, request.rules, table))
        files, index = rows.close()
    encrypted = vault.encryption() is not None
    whole = [
        _copied(store, file, kind, scratch, vault.encryption())
        for file, kind in whole_files(repository, request, lists)
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


def _taken(store: ArchivedStore, batch: Batch, request: Request, rows: FileWriter) -> bool:
    """Whether the file of a batch became one of the archive as it is: there is nothing to be written anew then."""
    file = batch.file
    if store.by_engine or store.archived(file.file) or not all_chosen(batch, request.rules):
        return False
    return rows.take(file, Path(store.location(file.file)))


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
        # The place too: what the ledger is to count on is what was read back from there just now.
        same = [each for each in state.archives.values() if each.pointer == record.pointer and not each.restored]
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
    for batch, count in held.manifest.batches.items():
        store.commits.archive_commits(batch, ReadIds(count, partial(_ids, store, held, batch)))
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


def _ids(store: ArchivedStore, held: Held, batch: str) -> Iterator[pa.ChunkedArray]:
    return (table["commit_id"] for table in store.archived_rows(held, batch, ["commit_id"]))
