"""What killed jobs leave behind, and copies that can be made again: found, and swept after a grace period."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Mapping

from ledger_cli.core.history import NamedFile, digest_of_move
from ledger_cli.errors import Corrupt, LedgerError
from ledger_cli.ports import Store, Written
from ledger_cli.services.archive import archives
from ledger_cli.services.archived_store import ArchivedStore, place_of
from ledger_cli.services.doctor import Check
from ledger_cli.services.repository import Repository

_DIGEST = re.compile(rb"[0-9a-f]{64}")
_FOLDERS = ("segments", "contributors", "quarantine", "tiles", "archives")
"""Of files that are named by their digests, and that one move or another has to name."""
_FILE = re.compile(r"(?:[a-z0-9]+-)*([0-9a-f]{64})\.(?:parquet|jsonl|json)")
_DRAFT = re.compile(r"\.[0-9a-f]{32}")
"""A file that was to become one of the ledger, or a move, as a directory has them for a moment."""
_LEFT = "are left to jobs that may be running"


def sweep(repository: Repository, store: ArchivedStore, before: str, archive_to: str) -> Iterator[Check]:
    """Remove files and batches that no move names and local copies, those made before a time (RFC 3339 UTC).

    `archive_to`: a place of archives beside those that records name; in each, files that belong to no archive of the
    ledger are told, and left alone: another ledger's may be there too.
    """
    try:
        yield from _unnamed(repository, before)
    except Corrupt as error:
        yield Check("files that no move names", False, f"none is removed: {error}")
    unfinished = [each for each in archives(repository) if not each.freed and not each.restored]
    if unfinished:
        told = f"{len(unfinished)} not taken out of the ledger yet: run `ledger archive` again"
        yield Check("unfinished archives", False, told)
    copies = store.reader.sweep(before)
    if copies:
        yield Check("local copies", True, f"{copies} removed from the cache")
    yield from _places(repository, store, archive_to)


def _unnamed(repository: Repository, before: str) -> Iterator[Check]:
    # Listed before the moves are read: what is named meanwhile is not taken for nobody's.
    store = repository.store
    folders = [*_FOLDERS, "commits", *(f"refs/{name}" for name in store.branches())]
    files = {folder: store.written(folder) for folder in folders}
    batches = store.commits.batches()
    named = _named(repository)
    for folder, there in files.items():
        yield from _files(store, folder, there, named, before)
    yield from _batches(store, batches, named, before)


def _files(
    store: Store, folder: str, there: Mapping[str, Written], named: Container[bytes], before: str
) -> Iterator[Check]:
    nobodys = {name: each for name, each in there.items() if _is_nobodys(folder, name, named)}
    # A job that was killed may have been run again meanwhile: then they are young, and not discarded.
    gone = [name for name, each in nobodys.items() if each.at < before and store.discard(f"{folder}/{name}", before)]
    young = [name for name, each in nobodys.items() if each.at >= before]
    told = [
        f"{len(names)} ({sum(nobodys[name].bytes for name in names):,} bytes) that no move names {what}"
        for names, what in ((gone, "removed"), (young, _LEFT))
        if names
    ]
    if told:
        yield Check(f"files in {folder}", True, "; ".join(told))


def _is_nobodys(folder: str, name: str, named: Container[bytes]) -> bool:
    """Whether a file was written by a job of which no move tells. What people put there stays."""
    if _DRAFT.fullmatch(name):
        return True
    file = _FILE.fullmatch(name)
    return folder in _FOLDERS and file is not None and file[1].encode() not in named


def _batches(store: Store, there: Mapping[str, str], named: Container[bytes], before: str) -> Iterator[Check]:
    nobodys = {batch: begun for batch, begun in there.items() if _digest_of(batch) not in named}
    # As with files: whoever runs a killed job again has begun them anew.
    gone = sum(begun < before and store.commits.remove_batch(batch, before) for batch, begun in nobodys.items())
    young = sum(begun >= before for begun in nobodys.values())
    told = [f"{gone} that no move names removed"] if gone else []
    told += [f"{young} that no move names {_LEFT}"] if young else []
    if told:
        yield Check("batches of commits", True, "; ".join(told))


def _digest_of(batch: str) -> bytes:
    file = _FILE.fullmatch(batch.rpartition("/")[2])
    return b"" if file is None else file[1].encode()


def _named(repository: Repository) -> set[bytes]:
    """The digests that any move of any ref mentions, deleted branches' too: of files, batches and whatever else.

    Corrupt where a log is not whole: what it named cannot be told from what nobody names.
    """
    found: set[bytes] = set()
    latest: list[tuple[str, NamedFile]] = []
    store = repository.store
    for ref in store.branches():
        previous, last = "", -1
        for seq in store.move_numbers(ref):
            raw = store.read_ref(ref, seq)
            if raw is None or seq != last + 1 or not _follows(raw, previous):
                raise Corrupt(f"the log of {ref} is not whole at move {last + 1}, run `ledger verify`")
            found.update(_DIGEST.findall(raw))
            previous, last = digest_of_move(raw), seq
        latest += [(ref, file) for file in repository.move(ref, last).named] if last >= 0 else []
    # No move holds the digest of the last one: what that names has to be there.
    batches = store.commits.batches()
    for ref, file in latest:
        if not _is_there(store, file, batches):
            raise Corrupt(f"{file.file}, which {ref} names, is not what its digest says: run `ledger verify`")
    return found


def _follows(raw: bytes, previous: str) -> bool:
    try:
        return bool(json.loads(raw)["previous"] == previous)
    except (ValueError, LookupError, TypeError):
        return False


def _is_there(store: Store, file: NamedFile, batches: Container[str]) -> bool:
    if store.rewritten(file.file):
        return file.file in batches
    return store.archived(file.file) or store.digest_of_file(file.file) == file.sha256


def _places(repository: Repository, store: ArchivedStore, archive_to: str) -> Iterator[Check]:
    records = archives(repository)
    for url in sorted({archive_to.rstrip("/"), *(place_of(each)[0] for each in records)}):
        known: set[str] = set()
        try:
            for record in records:
                folder, name = place_of(record)
                if folder == url:
                    known |= {name, *(each.file for each in store.manifest(record).stored)}
            there = store.reader.vault.place(url).names()
        except LedgerError as error:
            yield Check(f"archives in {url}", False, str(error))
            continue
        others = [each for each in there if each not in known]
        gone = known.difference(there)
        if gone:
            yield Check(f"archives in {url}", False, f"{len(gone)} files are missing, {min(gone)} among them")
        elif others:
            told = f"{len(others)} files are of no archive of this ledger, {others[0]} among them: remove them by hand"
            yield Check(f"archives in {url}", True, told)
        elif known:
            yield Check(f"archives in {url}", True, f"{len(known)} files, all there")
