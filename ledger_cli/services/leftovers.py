"""What killed jobs leave behind, and copies that can be made again: found, and swept after a grace period."""

from __future__ import annotations

from collections.abc import Iterator

from ledger_cli.core.history import ADMIN
from ledger_cli.errors import LedgerError
from ledger_cli.services.archive import archives
from ledger_cli.services.archived_store import ArchivedStore, place_of
from ledger_cli.services.doctor import Check
from ledger_cli.services.repository import Repository


def sweep(repository: Repository, store: ArchivedStore, before: str, archive_to: str) -> Iterator[Check]:
    """Remove batches that no move names and local copies, those made before a time (RFC 3339 UTC).

    `archive_to`: a place of archives beside those that records name; in each, files that belong to no archive of the
    ledger are told, and left alone: another ledger's may be there too.
    """
    yield from _batches(repository, store, before)
    unfinished = [each for each in archives(repository) if not each.freed and not each.restored]
    if unfinished:
        told = f"{len(unfinished)} not taken out of the ledger yet: run `ledger archive` again"
        yield Check("unfinished archives", False, told)
    copies = store.reader.sweep(before)
    if copies:
        yield Check("local copies", True, f"{copies} removed from the cache")
    yield from _places(repository, store, archive_to)


def _batches(repository: Repository, store: ArchivedStore, before: str) -> Iterator[Check]:
    # Listed before the moves are read: a batch that is named meanwhile is not taken for nobody's.
    there = store.commits.batches()
    named = _named(repository)
    nobody = {batch: begun for batch, begun in there.items() if batch not in named}
    old = [batch for batch, begun in nobody.items() if begun < before]
    if old:
        # A job that was killed may have been run again meanwhile: then they are young, or named.
        named, begun_again = _named(repository), store.commits.batches()
        old = [batch for batch in old if batch not in named and begun_again.get(batch, before) < before]
    for batch in old:
        store.commits.remove_batch(batch)
    young = len(nobody) - len(old)
    told = [f"{len(old)} that no move names removed"] if old else []
    told += [f"{young} that no move names are left to jobs that may be running"] if young else []
    if told:
        yield Check("batches of commits", True, "; ".join(told))


def _named(repository: Repository) -> set[str]:
    """The batches that any move of any ref names, deleted branches' too."""
    found: set[str] = set()
    for name in repository.store.branches():
        branch = repository.find(name)
        while branch is not None and name != ADMIN:
            found |= {each.file for each in branch.added.commits}
            created = branch.state.created
            branch = repository.branch_at(name, created - 1) if created else None
    return found


def _places(repository: Repository, store: ArchivedStore, archive_to: str) -> Iterator[Check]:
    records = archives(repository)
    for url in sorted({archive_to.rstrip("/"), *(place_of(each)[0] for each in records)}):
        known: set[str] = set()
        for record in records:
            folder, name = place_of(record)
            if folder == url:
                known |= {name, *(each.file for each in store.manifest(record).stored)}
        try:
            others = [each for each in store.reader.vault.place(url).names() if each not in known]
            gone = known - {*store.reader.vault.place(url).names()}
        except LedgerError as error:
            yield Check(f"archives in {url}", False, str(error))
            continue
        if gone:
            yield Check(f"archives in {url}", False, f"{len(gone)} files are missing, {min(gone)} among them")
        elif others:
            told = f"{len(others)} files are of no archive of this ledger, {others[0]} among them: remove them by hand"
            yield Check(f"archives in {url}", True, told)
        elif known:
            yield Check(f"archives in {url}", True, f"{len(known)} files, all there")
