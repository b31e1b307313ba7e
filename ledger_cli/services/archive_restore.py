"""`ledger restore`: entries and files go from an archive back into the ledger; the archive stays where it is.

All files of the archive are read and checked before the first is used. Every step may be done again: what is killed
goes on with the next run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.archive import Manifest
from ledger_cli.core.history import Archive, State
from ledger_cli.errors import Corrupt, NotFound, UsageError
from ledger_cli.ports import TickRange
from ledger_cli.services.archive import archives
from ledger_cli.services.archived_store import ArchivedStore, Held, place_of
from ledger_cli.services.contributors import by_batch, told
from ledger_cli.services.repository import Repository

_ENDLESS = 2**63 - 1
"""Arrow compares with no larger number."""
_BROUGHT_BACK = ("commit_id", "shard", "height", "epoch_start", "epoch_end", "entries")


@dataclass(frozen=True)
class RestoredArchive:
    """What was put back of an archive. `whole`: all that it holds, so that the ledger does not need it any more."""

    record: Archive
    commits: int
    files: int
    whole: bool

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        one = self.record
        return {
            "id": one.id,
            "pointer": one.pointer,
            "commits": self.commits,
            "files": self.files,
            "whole": self.whole,
        }


def restore(
    repository: Repository, store: ArchivedStore, pointer: str | None, ticks: TickRange | None = None, why: str = ""
) -> list[RestoredArchive]:
    """Put back what an archive holds, or what all hold of commits whose epochs meet a range of ticks.

    Whole files of events come back with a pointer, or where a range spans all of their archive. NotFound, Corrupt or
    Unavailable, naming the file, where an archive is not as it was written: then nothing is changed.
    """
    if (pointer is None) == (ticks is None):
        raise UsageError("name an archive by its POINTER, or a range of ticks with --range A..B")
    chosen = _meeting(repository, ticks) if ticks is not None else [find(repository, store, str(pointer))]
    held = [Held(record, _checked(store, record, repository.identity)) for record in chosen]
    for each in held:
        for rows in each.manifest.stored:
            store.reader.fetched_anew(each.url, rows)
    return [_restored(repository, store, each, ticks, why) for each in held]


def find(repository: Repository, store: ArchivedStore, pointer: str) -> Archive:
    """An archive by its pointer, its id, or the beginning of its manifest's name.

    NotFound where the ledger knows no such archive, UsageError where it is another ledger's.
    """
    known = archives(repository)
    name = pointer.rpartition("/")[2].removesuffix(".json")
    for record in known:
        if pointer in (record.pointer, str(record.id)) or (len(name) >= 8 and record.manifest.startswith(name)):
            return record
    if pointer.endswith(".json"):
        folder, _, file = pointer.rpartition("/")
        with store.scratch() as scratch:
            store.reader.vault.place(folder).get(file, scratch / "manifest")
            owner = Manifest.from_bytes((scratch / "manifest").read_bytes(), pointer).ledger
        if owner != repository.identity:
            raise UsageError(
                f"{pointer} is of another ledger ({owner}; this one is {repository.identity}): restore it there"
            )
    listed = ", ".join(record.pointer for record in known) or "none yet"
    raise NotFound(f"the ledger has no archive {pointer!r} (archives: {listed}): `ledger archive --list` shows them")


def _meeting(repository: Repository, ticks: TickRange) -> list[Archive]:
    """Those that hold something of these ticks; none where all of them were restored already."""
    found = [
        each
        for each in archives(repository)
        if each.epoch_min is not None and each.epoch_max is not None and ticks.meets(each.epoch_min, each.epoch_max)
    ]
    if not found:
        raise NotFound("nothing of these ticks is archived: `ledger archive --list` shows what is")
    return [each for each in found if not each.restored]


def _checked(store: ArchivedStore, record: Archive, identity: str) -> Manifest:
    """The manifest as it is in the place, which must be the one that the ledger knows."""
    folder, name = place_of(record)
    with store.scratch() as scratch:
        store.reader.vault.place(folder).get(name, scratch / "manifest")
        data = (scratch / "manifest").read_bytes()
    manifest = Manifest.from_bytes(data, record.pointer)
    if manifest.ledger != identity:
        raise UsageError(
            f"{record.pointer} is of another ledger ({manifest.ledger}; this one is {identity}): put back the one that "
            "was there"
        )
    if hashlib.sha256(data).hexdigest() != record.manifest:
        raise Corrupt(f"{record.pointer} is not what its digest says: bring it back from a copy of the archive")
    return manifest


def _restored(
    repository: Repository, store: ArchivedStore, held: Held, ticks: TickRange | None, why: str
) -> RestoredArchive:
    record = held.record
    whole = ticks is None or (
        (ticks.start is None or (record.epoch_min or 0) >= ticks.start)
        and (ticks.end is None or (record.epoch_max or 0) <= ticks.end)
    )
    commits = 0

    def wanted(table: pa.Table) -> pa.Table:
        nonlocal commits
        if not whole and ticks is not None:
            low, past = -1 if ticks.start is None else ticks.start, _ENDLESS if ticks.end is None else ticks.end
            low, past = (max(-1, min(each, _ENDLESS)) for each in (low, past))
            table = table.filter(pc.and_(pc.greater(table["epoch_end"], low), pc.less(table["epoch_start"], past)))
        commits += table.num_rows
        return table.drop_columns(["batch"]) if "batch" in table.column_names else table

    known = by_batch(repository) if store.by_engine else {}
    # An engine may write commits anew; files of the ledger have their headers still.
    columns = None if store.by_engine else list(_BROUGHT_BACK)
    for batch in held.manifest.batches:
        copy = held.manifest.copy_of(batch) if whole else None
        if copy is not None:
            store.publish(store.reader.fetched(held.url, copy), batch)
            commits += copy.rows
            continue
        rows = told(repository, known.get(batch), map(wanted, store.archived_rows(held, batch, columns)))
        store.commits.restore_commits(batch, rows)
    files = held.manifest.whole if whole else ()
    with store.scratch() as scratch:
        for each in files:
            path = scratch / "file"
            store.bring(each.name, held, path)
            store.publish(path, each.name)
            path.unlink()
    if whole:

        def restored(state: State) -> State:
            known = state.archives[str(record.id)]
            return replace(state, archives={**state.archives, str(record.id): replace(known, restored=True)})

        repository.administer("restore", why or f"archive {record.id}", restored)
        store.reader.forget(held.manifest.stored)
    store.look_again()
    return RestoredArchive(record, commits, len(files), whole)
