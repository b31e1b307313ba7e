"""Packs: many small files of a ledger in one, as `ledger compact` makes them.

A pack is a Parquet file with the columns of its members (files of one schema) and three more: `_file`, the number of
the member that a row is of, ascending, and on the first row of each member `_name`, its name, and `_bytes`, the file
itself, byte by byte. So a query reads one file in place of thousands, and each member can still be held against the
digest that the log has of it, or be written out again as it was: a pack disturbs no proof. Footers and headers of small
files are much alike: what is there twice takes a fraction of the room of the files.

The packs that count are listed by the ref `admin`, with their digests.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger_cli.core.history import ADMIN, Pack
from ledger_cli.errors import Corrupt
from ledger_cli.ports import Cache, Commits, Files, PackPart, Published, Reading, Store, Written
from ledger_cli.services.repository import parsed

FOLDER = "packs"
FILE, NAME, BYTES = "_file", "_name", "_bytes"
_OWN = (pa.field(FILE, pa.int32()), pa.field(NAME, pa.string()), pa.field(BYTES, pa.binary()))
_ROWS_PER_ROW_GROUP = 20_000
_BYTES_PER_ROW_GROUP = 8 << 20
"""Of the members, and of their rows as they are in memory: what is held at once in writing and in reading them."""


@dataclass(frozen=True)
class Member:
    """A file that is packed: its name, the SHA-256 that the log has of it, and its bytes."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Held:
    """A file as a pack has it: what it is called, the SHA-256 and number of its bytes, and its rows."""

    file: str
    sha256: str
    bytes: int
    rows: pa.Table

    @property
    def member(self) -> Member:
        """What was packed."""
        return Member(self.file, self.sha256, self.bytes)


class PackWriter:
    """Writes a pack into a local file, in bounded memory. Its members have one schema."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.members: list[Member] = []
        self.size = 0
        """Bytes of the members."""
        self.rows = 0
        # No two packs have one name, not even of the same files: nobody takes one for a leftover of another.
        self._schema = pa.schema([*schema, *_OWN], metadata={"pack": uuid4().hex})
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._held: list[pa.Table] = []
        self._held_rows = self._held_bytes = 0

    def add(self, member: Member, data: bytes, rows: pa.Table) -> None:
        """Add a file that was checked, with its rows."""
        empty = rows.num_rows - 1
        own = [
            pa.repeat(pa.scalar(len(self.members), pa.int32()), rows.num_rows),
            pa.concat_arrays([pa.array([member.file]), pa.nulls(empty, pa.string())]),
            pa.concat_arrays([pa.array([data], pa.binary()), pa.nulls(empty, pa.binary())]),
        ]
        self._held.append(pa.Table.from_arrays([*rows.columns, *own], schema=self._schema))
        self.members.append(member)
        self.rows += rows.num_rows
        self.size += len(data)
        self._held_rows += rows.num_rows
        self._held_bytes += rows.nbytes + len(data)
        if self._held_rows >= _ROWS_PER_ROW_GROUP or self._held_bytes >= _BYTES_PER_ROW_GROUP:
            self._write()

    def close(self) -> None:
        """Finish the file."""
        self._write()
        self._writer.close()

    def _write(self) -> None:
        if self._held:
            self._writer.write_table(pa.concat_tables(self._held), row_group_size=max(1, self._held_rows))
        self._held, self._held_rows, self._held_bytes = [], 0, 0


def rows_of(member: str, data: bytes) -> pa.Table:
    """The rows of a file, as they are packed. Corrupt where it is no Parquet file."""
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(f"{member} cannot be read: run `ledger verify`") from error
    return table.cast(_plain(table.schema))


def _plain(schema: pa.Schema) -> pa.Schema:
    """A schema without what is said beside it."""
    return pa.schema([each.remove_metadata() for each in schema])


def check(path: str) -> Iterator[Held]:
    """The members of a pack in their order, each with what its bytes are now; they are its rows, too.

    Corrupt where rows and bytes differ, or where it is no pack. Bounded memory.
    """
    number = 0
    with _opened(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, use_threads=False)
            rows = table.drop_columns([each.name for each in _OWN])
            starts = np.flatnonzero(table[NAME].is_valid().to_numpy())
            ends = [*starts[1:].tolist(), table.num_rows]
            if not len(starts) or starts[0] != 0:
                raise Corrupt(f"its row group {group} does not begin with a member")
            for start, end in zip(starts.tolist(), ends, strict=True):
                name, data = table[NAME][start].as_py(), table[BYTES][start].as_py()
                if not pc.all(pc.equal(table[FILE].slice(start, end - start), number)).as_py():
                    raise Corrupt(f"the rows of {name} are not numbered as theirs")
                mine = rows.slice(start, end - start).replace_schema_metadata(None)
                if not mine.equals(rows_of(name, data).cast(rows.schema)):
                    raise Corrupt(f"the rows of {name} are not those of its bytes")
                yield Held(name, hashlib.sha256(data).hexdigest(), len(data), mine)
                number += 1


@contextmanager
def _opened(location: str) -> Iterator[pq.ParquetFile]:
    if "://" not in location:
        with pq.ParquetFile(location) as file:
            yield file
        return
    import fsspec

    with fsspec.open(location, "rb") as stream, pq.ParquetFile(stream) as file:
        yield file


@dataclass
class _Known:
    """A pack as it was found: its members by name, and their numbers by row group."""

    pack: Pack
    location: str
    numbers: Mapping[str, int]
    groups: Sequence[int]
    """The number after the last of each row group."""
    latest: tuple[int, Mapping[str, bytes]] = field(default=(-1, {}))
    """The row group whose members were read last, and these: who reads one reads the next."""

    def bytes_of(self, name: str) -> bytes:
        """The file that a member was."""
        number = self.numbers[name]
        group = bisect_right(self.groups, number)
        known, members = self.latest
        if known != group:
            with _opened(self.location) as file:
                table = file.read_row_group(group, [NAME, BYTES], use_threads=False).drop_null()
            members = dict(zip(table[NAME].to_pylist(), table[BYTES].to_pylist(), strict=True))
            self.latest = group, members
        return members[name]


def _known(pack: Pack, location: str) -> _Known | None:
    """None where the pack is not there, or no pack: `ledger verify` tells; its members may be there themselves."""
    try:
        with _opened(location) as file:
            names: list[str] = []
            groups = []
            for group in range(file.num_row_groups):
                names += file.read_row_group(group, [NAME], use_threads=False)[NAME].drop_null().to_pylist()
                groups.append(len(names))
    except (OSError, pa.ArrowException, KeyError):
        return None
    return _Known(pack, location, {name: number for number, name in enumerate(names)}, groups)


def member_names(store: Files, pack: Pack) -> list[str]:
    """The names of the members of a pack, in their order. Corrupt where it cannot be read."""
    known = _known(pack, store.location(pack.file))
    if known is None or len(known.numbers) != pack.members:
        raise Corrupt(f"{pack.file} cannot be read: restore it from a copy of the ledger, then run `ledger verify`")
    return list(known.numbers)


class PackedStore:
    """A store whose small files may be in packs. See `ports.Store`.

    What was packed is read from the pack, whether or not the file itself is still there; a file that is missing
    makes it look at the ref `admin` for new packs.
    """

    def __init__(self, inner: Store, cache: Cache, commits: Callable[[Store], Commits] | None = None) -> None:
        """`cache`: for copies of files that were packed. `commits`: makes those that are files of a store."""
        self.by_engine = inner.by_engine
        self._inner = inner
        self._cache = cache
        self._make_commits = commits
        self.packings = 0
        self._seq = -1
        self._packs: tuple[_Known, ...] = ()
        self._place: dict[str, _Known] = {}

    # -- packs --------------------------------------------------------------------------------------------

    def reading(self, files: Sequence[str], headers: bool = False) -> Reading:
        """See `ports.Store`."""
        self._begin()
        if not self._place:
            return self._inner.reading(files, headers)
        plain: list[str] = []
        packed: dict[str, tuple[_Known, list[int]]] = {}
        for file in files:
            known = self._place.get(file)
            if known is None:
                plain.append(file)
            else:
                packed.setdefault(known.pack.file, (known, []))[1].append(known.numbers[file])
        parts = [PackPart(name, _runs(found, len(known.numbers))) for name, (known, found) in packed.items()]
        # What is elsewhere is brought together.
        self._inner.reading([*plain, *(part.file for part in parts)], headers)
        return Reading(plain, parts)

    def headers(self, file: str) -> str:
        """See `ports.Store`."""
        self._begin()
        return self.location(file) if file in self._place else self._inner.headers(file)

    def archived(self, file: str) -> bool:
        """See `ports.Store`."""
        return self._inner.archived(file)

    def look_again(self) -> None:
        """See `ports.Store`."""
        self._inner.look_again()
        self._load(self._inner.latest_seq(ADMIN, self._seq))

    def _begin(self) -> None:
        if self._seq < 0:
            self._load(max(0, self._inner.latest_seq(ADMIN)))

    def _load(self, seq: int) -> None:
        raw = self._inner.read_ref(ADMIN, seq) if seq >= 0 else None
        self._seq = max(seq, 0)
        listed = () if raw is None else parsed(ADMIN, seq, raw).state.packs
        kept = {known.pack: known for known in self._packs}
        current = [pack for pack in listed if pack.replaced is None]
        found = (kept.get(pack) or _known(pack, self._inner.location(pack.file)) for pack in current)
        packs = tuple(known for known in found if known is not None)
        if [known.pack for known in packs] == [known.pack for known in self._packs]:
            return
        self.packings += 1
        self._packs = packs
        self._place = {name: known for known in reversed(self._packs) for name in known.numbers}

    def _packed(self, file: str) -> bytes | None:
        """The bytes of a file that is in a pack."""
        self._begin()
        while True:
            known = self._place.get(file)
            try:
                if known is not None:
                    return known.bytes_of(file)
            except FileNotFoundError:
                pass  # the pack was replaced
            except (OSError, pa.ArrowException, LookupError) as error:
                assert known is not None
                raise Corrupt(f"{known.pack.file} cannot be read: run `ledger verify`") from error
            before = self.packings
            self.look_again()
            if self.packings == before:
                return None

    # -- files --------------------------------------------------------------------------------------------

    def read_file(self, file: str) -> bytes:
        """See `ports.Files`."""
        try:
            return self._inner.read_file(file)
        except Corrupt:
            packed = self._packed(file)
            if packed is None:
                raise
            return packed

    def digest_of_file(self, file: str) -> str:
        """See `ports.Files`."""
        try:
            return self._inner.digest_of_file(file)
        except Corrupt:
            packed = self._packed(file)
            if packed is None:
                raise
            return hashlib.sha256(packed).hexdigest()

    def location(self, file: str) -> str:
        """See `ports.Files`. A file that is left in a pack alone is written out of it, byte by byte."""
        self._begin()
        if file not in self._place:
            return self._inner.location(file)
        own = self._inner.location(file)
        if "://" not in own and os.path.exists(own):
            return own
        copy = self._cache.get(f"packed/{file}")
        if copy is None:
            data = self._packed(file)
            if data is None:
                return own
            with self._cache.draft() as draft:
                draft.write_bytes(data)
                copy = self._cache.add(f"packed/{file}", draft)
        return str(copy)

    def rewritten(self, file: str) -> bool:
        """See `ports.Store`."""
        return self._inner.rewritten(file)

    @cached_property
    def commits(self) -> Commits:
        """See `ports.Store`."""
        return self._inner.commits if self._make_commits is None else self._make_commits(self)

    def publish(self, path: Path, file: str) -> Published:
        """See `ports.Files`."""
        return self._inner.publish(path, file)

    def written(self, folder: str) -> dict[str, Written]:
        """See `ports.Files`."""
        return self._inner.written(folder)

    def touch(self, file: str) -> None:
        """See `ports.Files`."""
        self._inner.touch(file)

    def discard(self, file: str, before: str) -> bool:
        """See `ports.Files`."""
        return self._inner.discard(file, before)

    def folders(self, folder: str) -> list[str]:
        """See `ports.Files`."""
        return self._inner.folders(folder)

    def remove(self, folder: str) -> None:
        """See `ports.Files`."""
        self._inner.remove(folder)

    def scratch(self) -> AbstractContextManager[Path]:
        """See `ports.Files`."""
        return self._inner.scratch()

    # -- refs ---------------------------------------------------------------------------------------------

    def branches(self) -> list[str]:
        """See `ports.Refs`."""
        return self._inner.branches()

    def read_ref(self, branch: str, seq: int) -> bytes | None:
        """See `ports.Refs`."""
        return self._inner.read_ref(branch, seq)

    def latest_seq(self, branch: str, at_least: int = -1) -> int:
        """See `ports.Refs`."""
        return self._inner.latest_seq(branch, at_least)

    def move_numbers(self, branch: str) -> list[int]:
        """See `ports.Refs`."""
        return self._inner.move_numbers(branch)

    def advance_ref(self, branch: str, seq: int, move: bytes) -> None:
        """See `ports.Refs`."""
        self._inner.advance_ref(branch, seq, move)
        if branch == ADMIN and self._seq >= 0:
            # What was replaced is not to be read on: of what is archived the old packs have other columns.
            self._load(seq)


def _runs(numbers: Iterable[int], members: int) -> tuple[tuple[int, int], ...] | None:
    """Numbers as runs of neighbours, first and last; None where they are all of them."""
    distinct = sorted(set(numbers))
    if len(distinct) == members:
        return None
    runs = []
    for _, each in groupby(enumerate(distinct), lambda placed: placed[1] - placed[0]):
        run = [number for _, number in each]
        runs.append((run[0], run[-1]))
    return tuple(runs)
