"""The store of a ledger together with its archives: what was moved out is read through the pointer, by all alike.

`location` of a batch whose entries are archived is a local copy with the entries put back, that of an archived file a
copy of it. Copies are made once, checked by digest, and lie in the ledger's cache, which is bounded and from where
anybody may remove them: `ledger doctor` sweeps old ones. Whether something is archived is told by the ref `admin` and
the manifests, of which the ledger has copies; both are read once. What was archived later is found missing, never taken
for nothing, and makes the store look again.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger_cli.core.archive import ArchivedFile, ArchivedRows, Manifest, portions, with_entries
from ledger_cli.core.commit import COMMIT, entries_digests_of
from ledger_cli.core.history import ADMIN, Archive
from ledger_cli.errors import Corrupt, LedgerError, NotFound, NotWritten, UsageError
from ledger_cli.ports import Cache, Commits, Place, Published, Reading, Store, Vault, Written
from ledger_cli.services.repository import parsed

FOLDER = "archives"
"""Where the ledger's own copies of the manifests are."""
_BOX = pa.schema([pa.field("bytes", pa.binary(), nullable=False)])
"""A whole file within an encrypted one, in pieces."""
_BOX_BYTES = 1 << 20


def place_of(record: Archive) -> tuple[str, str]:
    """The URL of the place of an archive, and the name of its manifest there."""
    folder, _, name = record.pointer.rpartition("/")
    return folder, name


def manifest_file(sha256: str) -> str:
    """The ledger's own copy of a manifest."""
    return f"{FOLDER}/{sha256}.json"


class ArchiveReader:
    """Files of archives, fetched once and checked by their digests."""

    def __init__(self, vault: Vault, cache: Cache) -> None:
        self.vault = vault
        self._cache = cache

    def fetched(self, url: str, each: ArchivedRows | ArchivedFile) -> Path:
        """A local copy of a file of a place. Corrupt, NotFound or Unavailable, naming it, where it cannot be had."""
        return self._cache.get(_copy(each)) or self._brought(url, each, shared=True)

    def fetched_anew(self, url: str, each: ArchivedRows | ArchivedFile) -> Path:
        """The same of the file as it is in the place now, whatever was copied before: for this process alone."""
        self._cache.drop(_copy(each))
        return self._brought(url, each, shared=False)

    def _brought(self, url: str, each: ArchivedRows | ArchivedFile, shared: bool) -> Path:
        with self._cache.draft() as draft:
            fetch(self.vault.place(url), url, each, draft)
            return self._cache.add(_copy(each), draft, shared=shared)

    def forget(self, files: Iterable[ArchivedRows | ArchivedFile]) -> None:
        """Remove local copies of files of archives."""
        for each in files:
            self._cache.drop(_copy(each))

    def sweep(self, before: str) -> int:
        """Remove copies that were not used since a time, RFC 3339 UTC; how many."""
        return self._cache.sweep(before)

    def opened(self, path: Path, name: str, encrypted: bool) -> pq.ParquetFile:
        """A Parquet file of an archive. UsageError where the key is not the one."""
        properties = self.vault.decryption() if encrypted else None
        try:
            return pq.ParquetFile(path, decryption_properties=properties)
        except UsageError:
            raise
        except (OSError, pa.ArrowException, ValueError) as error:
            if encrypted:
                raise UsageError(
                    f"{name} cannot be decrypted: archive_key is not the key that it was encrypted with: set the "
                    "right one"
                ) from error
            raise Corrupt(f"{name} cannot be read: bring it back from a copy of the archive") from error

    def rows(
        self,
        path: Path,
        name: str,
        encrypted: bool,
        span: tuple[int, int] | None = None,
        columns: list[str] | None = None,
    ) -> Iterator[pa.Table]:
        """The rows [first, past) of a file of `ROWS`; None: all. The next are read while some are worked on."""
        with self.opened(path, name, encrypted) as file, ThreadPoolExecutor(1) as reader:
            ends = list(accumulate(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)))
            first, past = span or (0, ends[-1] if ends else 0)
            waiting: deque[tuple[int, Future[pa.Table]]] = deque()
            for group, (start, end) in enumerate(pairwise([0, *ends])):
                if start < past and end > first:
                    waiting.append((start, reader.submit(file.read_row_group, group, columns)))
                if len(waiting) == 2:
                    yield _between(*waiting.popleft(), first, past)
            yield from (_between(*each, first, past) for each in waiting)

    def unboxed(self, path: Path, each: ArchivedFile, target: Path) -> None:
        """Write an encrypted whole file as it is in the ledger."""
        digest = hashlib.sha256()
        with self.opened(path, each.file, True) as file, target.open("wb") as out:
            for batch in file.iter_batches(1):
                for piece in batch.column(0).to_pylist():
                    digest.update(piece)
                    out.write(piece)
        if digest.hexdigest() != each.plain_sha256:
            raise Corrupt(f"{each.name} does not come out of {each.file} as it went in: restore it from a copy")


def _copy(each: ArchivedRows | ArchivedFile) -> str:
    return f"archives/{each.sha256}"


def _between(start: int, group: Future[pa.Table], first: int, past: int) -> pa.Table:
    """Of a row group that begins at a row, the rows [first, past)."""
    table, low = group.result(), max(0, first - start)
    return table.slice(low, past - start - low)


def boxed(path: Path, target: Path, encryption: Any) -> None:
    """Write a file into an encrypted one."""
    with path.open("rb") as source, pq.ParquetWriter(target, _BOX, encryption_properties=encryption) as writer:
        while piece := source.read(_BOX_BYTES):
            writer.write_table(pa.table([[piece]], schema=_BOX))


def fetch(place: Place, url: str, each: ArchivedRows | ArchivedFile, target: Path) -> None:
    """Copy a file of a place and check its digest."""
    place.get(each.file, target)
    with target.open("rb") as copied:
        if hashlib.file_digest(copied, "sha256").hexdigest() != each.sha256:
            raise Corrupt(
                f"{url}/{each.file} is not what its digest says: it was changed or torn; bring it back from a copy of "
                "the archive, then run this again"
            )


def _preference(record: Archive) -> tuple[bool, int]:
    """What is in several archives is taken from the newest of them, since older ones need not be there any more.

    Last come those that were restored: where that met with a run that took out, something may be lacking.
    """
    return record.restored, -record.id


@dataclass(frozen=True)
class Held:
    """An archive that holds something: its record and its manifest."""

    record: Archive
    manifest: Manifest

    @property
    def url(self) -> str:
        """Of its place."""
        return place_of(self.record)[0]


class ArchivedStore:
    """See `ports.Store`. Stands around the store of a ledger."""

    def __init__(self, inner: Store, vault: Vault, cache: Cache) -> None:
        """`cache`: for copies of what is archived."""
        self.by_engine = inner.by_engine
        self.inner = inner
        self.reader = ArchiveReader(vault, cache)
        self.copies = cache
        self._seq = -1
        self._looks = 0
        self._archives: dict[str, Archive] = {}
        self._manifests: dict[str, Manifest] = {}
        self._held: dict[str, list[Held]] = {}
        self._known: dict[str, bool] = {}
        """What `archived` said. Who relies on it where it is no longer so misses something, and looks again."""

    # -- what is archived ---------------------------------------------------------------------------------

    def archived(self, file: str) -> bool:
        """See `ports.Store`."""
        if not self._may_be(file):
            return False
        if file not in self._known:
            try:
                lacks = self._lacks_entries(file) if file.startswith(_COMMITS) else not self._is_there(file)
            except Corrupt:
                # An engine does not have the batch, as one of another ledger that is still to be copied.
                return False
            self._known[file] = lacks
        return self._known[file]

    def _may_be(self, file: str) -> bool:
        """Whether an archive may hold a file, or entries of a batch.

        Of an engine's batches any may: it keeps a commit once, so that it is archived for all batches that have it.
        """
        if self._seq < 0:
            # The packs are to be those of the same move or of a later one: what is archived has left them.
            self.inner.look_again()
            self._load(max(0, self.inner.latest_seq(ADMIN)))
        return file in self._held or bool(self._held and self.by_engine and file.startswith(_COMMITS))

    def _lacks_entries(self, batch: str) -> bool:
        try:
            return "entries" not in pq.read_schema(self.inner.headers(batch)).names
        except (OSError, pa.ArrowException):
            return False

    def _is_there(self, file: str) -> bool:
        return os.path.exists(self.inner.location(file))

    def look_again(self) -> None:
        """See `ports.Store`."""
        self.inner.look_again()
        before, self._known = self._known, {}
        self._load(max(0, self.inner.latest_seq(ADMIN, self._seq)))
        if any(self.archived(file) != said for file, said in before.items()):
            self._looks += 1

    @property
    def packings(self) -> int:
        """See `ports.Store`."""
        return self.inner.packings + self._looks

    def _load(self, seq: int) -> None:
        raw = self.inner.read_ref(ADMIN, seq)
        archives = {} if raw is None else dict(parsed(ADMIN, seq, raw).state.archives)
        if archives != self._archives:
            held: dict[str, list[Held]] = {}
            for record in sorted(archives.values(), key=_preference):
                one = Held(record, self.manifest(record))
                for name in [*one.manifest.batches, *(each.name for each in one.manifest.whole)]:
                    held.setdefault(name, []).append(one)
            self._held, self._archives, self._known = held, archives, {}
            self._looks += 1
        self._seq = seq

    def manifest(self, record: Archive) -> Manifest:
        """What an archive consists of, by the ledger's own copy. Corrupt where that is damaged."""
        if record.manifest not in self._manifests:
            name = manifest_file(record.manifest)
            data = self.inner.read_file(name)
            if hashlib.sha256(data).hexdigest() != record.manifest:
                raise Corrupt(f"{name} is not what its digest says: restore it from {record.pointer}")
            self._manifests[record.manifest] = Manifest.from_bytes(data, name)
        return self._manifests[record.manifest]

    # -- files --------------------------------------------------------------------------------------------

    def location(self, file: str) -> str:
        """See `ports.Files`. Fetches what is archived."""
        if not file.startswith(_CAN_BE):
            return self.inner.location(file)
        if not self.archived(file):
            place = self.inner.location(file)
            if self._held.get(file) or "://" in place or os.path.exists(place):
                return place
            self.look_again()
            if not self.archived(file):
                return self.inner.location(file)
        return str(self.copies.get(f"whole/{file}") or self._made(file))

    def reading(self, files: Sequence[str], headers: bool = False) -> Reading:
        """See `ports.Store`."""
        away = [] if headers else [file for file in files if self.archived(file)]
        if not away:
            return self.inner.reading(files, headers)
        held = self.inner.reading([file for file in files if file not in set(away)])
        return Reading([*held.plain, *away], held.packs)

    def headers(self, file: str) -> str:
        """See `ports.Store`."""
        return self.inner.headers(file)

    def read_file(self, file: str) -> bytes:
        """See `ports.Files`."""
        return Path(self.location(file)).read_bytes() if self._is_elsewhere(file) else self.inner.read_file(file)

    def digest_of_file(self, file: str) -> str:
        """See `ports.Files`."""
        if not self._is_elsewhere(file):
            # An engine is asked anew, and may not have all that a copy of earlier had.
            self._known.pop(file, None)
            return self.inner.digest_of_file(file)
        with open(self.location(file), "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    def _is_elsewhere(self, file: str) -> bool:
        return not file.startswith(_COMMITS) and self.archived(file)

    def rewritten(self, file: str) -> bool:
        """See `ports.Store`."""
        return self.inner.rewritten(file)

    def written(self, folder: str) -> dict[str, Written]:
        """See `ports.Files`."""
        return self.inner.written(folder)

    def touch(self, file: str) -> None:
        """See `ports.Files`."""
        self.inner.touch(file)

    def discard(self, file: str, before: str) -> bool:
        """See `ports.Files`."""
        return self.inner.discard(file, before)

    def publish(self, path: Path, file: str) -> Published:
        """See `ports.Files`."""
        return self.inner.publish(path, file)

    def folders(self, folder: str) -> list[str]:
        """See `ports.Files`."""
        return self.inner.folders(folder)

    def remove(self, folder: str) -> None:
        """See `ports.Files`."""
        self.inner.remove(folder)

    def scratch(self) -> AbstractContextManager[Path]:
        """See `ports.Files`."""
        return self.inner.scratch()

    # -- refs and commits ---------------------------------------------------------------------------------

    def branches(self) -> list[str]:
        """See `ports.Refs`."""
        return self.inner.branches()

    def read_ref(self, branch: str, seq: int) -> bytes | None:
        """See `ports.Refs`."""
        return self.inner.read_ref(branch, seq)

    def latest_seq(self, branch: str, at_least: int = -1) -> int:
        """See `ports.Refs`."""
        return self.inner.latest_seq(branch, at_least)

    def move_numbers(self, branch: str) -> list[int]:
        """See `ports.Refs`."""
        return self.inner.move_numbers(branch)

    def advance_ref(self, branch: str, seq: int, move: bytes) -> None:
        """See `ports.Refs`."""
        self.inner.advance_ref(branch, seq, move)
        if branch == ADMIN and self._seq >= 0:
            self._load(seq)

    @property
    def commits(self) -> Commits:
        """See `ports.Store`."""
        return self.inner.commits

    # -- copies -------------------------------------------------------------------------------------------

    def archived_rows(self, held: Held, batch: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The rows of a batch that an archive holds, in order."""
        for each in held.manifest.files:
            span = each.spans().get(batch)
            if span is not None:
                path = self.reader.fetched(held.url, each)
                yield from self.reader.rows(path, each.file, held.manifest.encrypted, span, columns)

    def _made(self, file: str) -> Path:
        try:
            with self.copies.draft() as draft:
                if file.startswith(_COMMITS):
                    self._write_batch(file, draft)
                else:
                    self.bring(file, self._held[file][0], draft)
                return self.copies.add(f"whole/{file}", draft)
        except (NotFound, UsageError, NotWritten, Corrupt):
            raise
        except LedgerError as error:
            raise type(error)(f"{file} is archived, and its archive is not to be had: {error}") from error

    def bring(self, file: str, held: Held, target: Path) -> None:
        """Write a whole file as it was in the ledger."""
        each = next(each for each in held.manifest.whole if each.name == file)
        path = self.reader.fetched(held.url, each)
        if held.manifest.encrypted:
            self.reader.unboxed(path, each, target)
        else:
            os.link(path, target)

    def _write_batch(self, batch: str, target: Path) -> None:
        for held in self._held.get(batch, ()):
            copy = None if held.record.restored else held.manifest.copy_of(batch)
            if copy is not None:
                os.link(self.reader.fetched(held.url, copy), target)
                return
        tables: Iterable[pa.Table] = self.inner.commits.read_commits(batch)
        for held, name in self._sources(batch):
            tables = with_entries(tables, self.archived_rows(held, name))
        with pq.ParquetWriter(target, COMMIT, compression="zstd", compression_level=1) as writer:
            for table in tables:
                check_entries(table, batch)
                writer.write_table(table.cast(COMMIT))

    def _sources(self, batch: str) -> Iterator[tuple[Held, str]]:
        """The archives that may have what a batch lacks, each with the batch as a commit of which it has that."""
        if not self.by_engine:
            yield from ((held, batch) for held in self._held.get(batch, ()))
            return
        tables = self.inner.commits.read_commits(batch)
        gone = [table.filter(pc.is_null(table["entries"]))["commit_id"] for table in tables]
        lacking = pa.chunked_array([chunk for each in gone for chunk in each.chunks], pa.string()).combine_chunks()
        every = {each.record.id: each for some in self._held.values() for each in some}.values()
        for held in sorted(every, key=lambda each: _preference(each.record)):
            index = held.manifest.index
            if index is None or not len(lacking):
                continue
            path, names = self.reader.fetched(held.url, index), dict[str, None]()
            for table in self.reader.rows(path, index.file, held.manifest.encrypted, columns=["commit_id", "batch"]):
                found = table.filter(pc.is_in(table["commit_id"], lacking))
                names |= dict.fromkeys(found["batch"].to_pylist())
                lacking = lacking.filter(pc.invert(pc.is_in(lacking, found["commit_id"].combine_chunks())))
            yield from ((held, name) for name in names)


_COMMITS = "commits/"
_CAN_BE = ("commits/", "segments/")
"""Folders of what can be archived."""


CHECKED = ("commit_id", "entries_digest", "entries")
"""The columns that `check_entries` looks at."""


def check_entries(table: pa.Table, where: str) -> None:
    """Corrupt where a commit lacks its entries, or has others than its digest says."""
    if table["entries"].null_count:
        raise Corrupt(
            f"{where}: the entries of {table['entries'].null_count} commits are neither there nor in an archive that "
            "the ledger knows: restore it from a copy of the ledger"
        )
    for piece in portions([table]):
        wrong = pc.not_equal(piece["entries_digest"], pa.array(entries_digests_of(piece), pa.string()))
        if (first := pc.index(wrong, True).as_py()) >= 0:
            named = piece["commit_id"][first].as_py()
            raise Corrupt(f"{where}: commit {named} has entries that do not give its digest: run `ledger verify`")
