"""A ledger whose commits and refs are kept by an engine, and whose files lie in a directory or an object store.

What reads commits reads Parquet: a batch is brought once from the engine into the ledger's cache, and again where it
was thrown out. It never changes, so nothing in there can be out of date; all may be deleted at any time. Where entries
are archived, what is brought holds none, and has a place of its own: it is never taken for the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.commit import in_chain_order
from ledger_cli.errors import NotWritten
from ledger_cli.ports import Cache, Commits, CommitStore, Published, Reading, Refs, Store, Written
from ledger_cli.stores.common.rows import ARCHIVED, STORED, digest_of, pieces, with_counts

_COMMITS = "commits/"


class JoinedStore:
    """See `ports.Store`. `now`: RFC 3339 UTC; `cache`: for copies of batches."""

    by_engine = True

    def __init__(self, files: Store, engine: CommitStore, cache: Cache, now: Callable[[], str]) -> None:
        self._files = files
        self._engine = engine
        self._refs: Refs = engine if engine.capabilities.refs else files
        self._cache = cache
        self._now = now

    @property
    def commits(self) -> Commits:
        """See `ports.Store`."""
        return self._engine

    # -- commits ------------------------------------------------------------------------------------------

    def publish(self, path: Path, file: str) -> Published:
        """See `ports.Files`."""
        if not file.startswith(_COMMITS):
            return self._files.publish(path, file)
        digest, size = digest_of(path)
        batch = file.format(sha256=digest)
        self._engine.persist_commits(batch, self._now(), in_chain_order(partial(_tables, path)))
        with suppress(NotWritten):
            # Whoever wrote it has a copy at hand: it need not be fetched.
            self._cache.add(_copy(batch), path)
        return Published(batch, digest, size)

    def location(self, file: str) -> str:
        """See `ports.Store`."""
        if not file.startswith(_COMMITS):
            return self._files.location(file)
        return str(self._cache.get(_copy(file)) or self._brought(file))

    def headers(self, file: str) -> str:
        """See `ports.Store`."""
        if not file.startswith(_COMMITS):
            return self._files.headers(file)
        return str(self._cache.get(_copy(file)) or self._cache.get(_headers(file)) or self._brought(file))

    def archived(self, file: str) -> bool:
        """See `ports.Store`."""
        return self._files.archived(file)

    def _brought(self, batch: str) -> Path:
        """A copy of a batch, made now; of its headers alone where entries are archived."""
        with self._files.scratch() as scratch:
            path, copy = scratch / "commits.parquet", _copy(batch)
            lacking = 0
            with pq.ParquetWriter(path, STORED, compression="zstd") as writer:
                for piece in pieces(self._engine.read_commits(batch)):
                    lacking += piece["entries"].null_count
                    writer.write_table(piece)
            if lacking:
                path, copy = self._without(batch, path), _headers(batch)
            return self._cache.add(copy, path)

    def _without(self, batch: str, path: Path) -> Path:
        """A file of a batch of which entries are archived, made of one that has none there."""
        counts, made = self._engine.read_counts(batch), path.with_name("headers.parquet")
        with pq.ParquetWriter(made, ARCHIVED, compression="zstd") as writer:
            for piece in _tables(path):
                writer.write_table(with_counts(piece, counts))
        return made

    def rewritten(self, file: str) -> bool:
        """See `ports.Store`."""
        return file.startswith(_COMMITS) or self._files.rewritten(file)

    def digest_of_file(self, file: str) -> str:
        """See `ports.Files`. Of a batch, of a copy that is brought anew: what is in the engine now."""
        if not file.startswith(_COMMITS):
            return self._files.digest_of_file(file)
        self._cache.drop(_copy(file))
        return digest_of(Path(self.location(file)))[0]

    def read_file(self, file: str) -> bytes:
        """See `ports.Files`."""
        if not file.startswith(_COMMITS):
            return self._files.read_file(file)
        return Path(self.location(file)).read_bytes()

    # -- refs ---------------------------------------------------------------------------------------------

    def branches(self) -> list[str]:
        """See `ports.Refs`."""
        return self._refs.branches()

    def read_ref(self, branch: str, seq: int) -> bytes | None:
        """See `ports.Refs`."""
        return self._refs.read_ref(branch, seq)

    def latest_seq(self, branch: str, at_least: int = -1) -> int:
        """See `ports.Refs`."""
        return self._refs.latest_seq(branch, at_least)

    def move_numbers(self, branch: str) -> list[int]:
        """See `ports.Refs`."""
        return self._refs.move_numbers(branch)

    def advance_ref(self, branch: str, seq: int, move: bytes) -> None:
        """See `ports.Refs`."""
        self._refs.advance_ref(branch, seq, move)

    # -- other files --------------------------------------------------------------------------------------

    def reading(self, files: Sequence[str], headers: bool = False) -> Reading:
        """See `ports.Store`."""
        self._files.reading([file for file in files if not file.startswith(_COMMITS)])
        return Reading(files)

    @property
    def packings(self) -> int:
        """See `ports.Store`."""
        return 0

    def look_again(self) -> None:
        """See `ports.Store`."""
        self._files.look_again()

    def written(self, folder: str) -> dict[str, Written]:
        """See `ports.Files`."""
        return self._files.written(folder)

    def touch(self, file: str) -> None:
        """See `ports.Files`."""
        self._files.touch(file)

    def discard(self, file: str, before: str) -> bool:
        """See `ports.Files`."""
        return self._files.discard(file, before)

    def folders(self, folder: str) -> list[str]:
        """See `ports.Files`."""
        return self._files.folders(folder)

    def remove(self, folder: str) -> None:
        """See `ports.Files`."""
        self._files.remove(folder)

    def scratch(self) -> AbstractContextManager[Path]:
        """See `ports.Files`."""
        return self._files.scratch()


def _copy(batch: str) -> str:
    return f"engine/{batch}"


def _headers(batch: str) -> str:
    return f"headers/{batch}"


def _tables(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns)
