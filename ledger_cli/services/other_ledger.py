"""Another ledger, as it is read from here: whatever is wrong with it is told with where it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.history import ADMIN, CommitFile, Move
from ledger_cli.errors import Corrupt, told_of
from ledger_cli.services.integrity_commits import check_file
from ledger_cli.services.repository import Branch, Repository

_BLOCK = 1 << 20
_AT_ONCE = 16 << 20
"""Bytes of a file that is read in one piece."""


class OtherLedger:
    """What is asked of it. Every method raises Corrupt, which names the ledger, where it cannot be read."""

    def __init__(self, repository: Repository, location: str) -> None:
        """`location`: what it is called in errors, a path or URL."""
        self._repository = repository
        self.location = location

    def unusable(self, why: str) -> Corrupt:
        """What is said of a file or move that no ledger writes."""
        error = Corrupt(f"{self.location} cannot be used ({why}): run `ledger verify --ledger {self.location}`")
        error.ledger = self.location
        return error

    def branch(self, name: str) -> Branch:
        """See `Repository.branch`."""
        with self._read():
            return self._repository.branch(name)

    def types(self) -> Mapping[str, Any]:
        """What it knows of types of world events, by name."""
        with self._read():
            admin = self._repository.find(ADMIN)
            return {} if admin is None else admin.state.types

    def move(self, ref: str, seq: int) -> Move:
        """See `Repository.move`."""
        with self._read():
            return self._repository.move(ref, seq)

    def moves(self, ref: str, first: int, last: int) -> Iterator[Move]:
        """See `Repository.moves`."""
        return (self.move(ref, seq) for seq in range(first, last + 1))

    def read_ref(self, ref: str, seq: int) -> bytes | None:
        """See `ports.CommitStore`."""
        with self._read():
            return self._repository.store.read_ref(ref, seq)

    def blocks(self, file: str, size: int) -> Iterator[bytes]:
        """The bytes of a file of so many bytes, also of one that is in a pack alone."""
        if size <= _AT_ONCE:
            with self._read():
                yield self._repository.store.read_file(file)
            return
        with self._read(), open(self._repository.store.location(file), "rb") as source:
            while block := source.read(_BLOCK):
                yield block

    def rewritten(self, file: CommitFile) -> bool:
        """See `ports.Store`."""
        with self._read():
            return self._repository.store.rewritten(file.file)

    def commits(self, file: CommitFile) -> Iterator[pa.Table]:
        """The commits of a batch, after each was checked."""
        wrong: list[str] = []
        with self._read():
            check_file(self._repository, file, wrong, self._rows(file))
            if wrong:
                raise self.unusable(f"{file.file}: {wrong[0]}")
            yield from self._rows(file)

    def _rows(self, file: CommitFile) -> Iterator[pa.Table]:
        """The commits of a batch in their order, with the entries that are archived.

        An engine is not asked itself: of what is archived it may lack entries that only a copy made earlier has.
        """
        with pq.ParquetFile(self._repository.store.location(file.file)) as whole:
            for group in range(whole.num_row_groups):
                rows = whole.read_row_group(group)
                if rows["entries"].null_count:
                    raise self.unusable(f"{file.file} lacks entries that are archived")
                yield rows

    @contextmanager
    def _read(self) -> Iterator[None]:
        try:
            with told_of(self.location):
                yield
        except OSError as error:
            raise self.unusable(f"{error.strerror}: {error.filename}") from error
