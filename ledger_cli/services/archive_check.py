"""Archives against their digests, where they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ledger_cli.core.archive import ArchivedFile, ArchivedRows
from ledger_cli.errors import LedgerError
from ledger_cli.services.archive import archives
from ledger_cli.services.archived_store import CHECKED, ArchivedStore, Held, check_entries, fetch, place_of
from ledger_cli.services.repository import Repository


def damages_of_archives(repository: Repository, store: ArchivedStore) -> Iterator[tuple[str, str]]:
    """What is wrong with the archives that are in use: a file by its URL, and what it is.

    A ledger that was copied has again itself what was archived; its archives may lie beside the other one alone.
    """
    for record in archives(repository):
        if record.restored:
            continue
        try:
            held = Held(record, store.manifest(record))
        except LedgerError:
            continue  # a finding of the ledger's own copy already
        if not any(map(store.archived, [*held.manifest.batches, *(each.name for each in held.manifest.whole)])):
            continue
        with store.scratch() as scratch:
            path = scratch / "file"
            url, name = place_of(record)
            try:
                store.reader.vault.place(url).get(name, path)
                if hashlib.sha256(path.read_bytes()).hexdigest() != record.manifest:
                    yield record.pointer, "its SHA-256 is not the one in the log: it was changed or torn"
            except LedgerError as error:
                yield record.pointer, str(error)
            for each in held.manifest.stored:
                try:
                    fetch(store.reader.vault.place(url), url, each, path)
                    _check_content(store, held, each, path)
                except LedgerError as error:
                    yield f"{url}/{each.file}", str(error)


def _check_content(store: ArchivedStore, held: Held, each: ArchivedRows | ArchivedFile, path: Path) -> None:
    if isinstance(each, ArchivedRows) and each in held.manifest.files:
        for table in store.reader.rows(path, each.file, held.manifest.encrypted, columns=list(CHECKED)):
            check_entries(table, f"{held.url}/{each.file}")
    elif isinstance(each, ArchivedFile) and held.manifest.encrypted:
        store.reader.unboxed(path, each, path.with_name("plain"))
