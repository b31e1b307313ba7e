"""Archives as values: the manifest that points to their files, and entries that go back to their commits.

An archive is files in some place: Parquet files of commits with their entries, in order of batch, shard and height
(`ROWS`, or `COMMIT` where one is the file of a batch as it is); an index of them (`INDEX`); whole files of ticks and
world events; and the manifest, a JSON file that names them all by SHA-256. The ledger keeps the headers, a copy of the
manifest and, in the ref `admin`, its SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.commit import COMMIT
from ledger_cli.errors import Corrupt

FORMAT = "ledger-archive/1"
ROWS = COMMIT.append(pa.field("batch", pa.string(), nullable=False))
"""One row a commit, as one of a batch."""
INDEX = pa.schema(
    [
        *(COMMIT.field(name) for name in ("commit_id", "digest", "shard", "height", "epoch_start", "epoch_end")),
        pa.field("batch", pa.string(), nullable=False),
        pa.field("file", pa.int32(), nullable=False),
        pa.field("regions", pa.list_(pa.field("element", pa.string(), nullable=False)), nullable=False),
    ]
)
"""What is in which file: one row a commit, in the order of the files, which are numbered from 0 as in the manifest."""


@dataclass(frozen=True)
class ArchivedRows:
    """A Parquet file of commits, in bytes; `batches`: in their order, each with how many rows it has there."""

    file: str
    sha256: str
    bytes: int
    rows: int
    batches: tuple[tuple[str, int], ...] = ()

    def spans(self) -> dict[str, tuple[int, int]]:
        """The rows [first, past) of each batch."""
        ends = list(accumulate(rows for _, rows in self.batches))
        return {batch: (end - rows, end) for (batch, rows), end in zip(self.batches, ends, strict=True)}


@dataclass(frozen=True)
class ArchivedFile:
    """A whole file of the ledger, by its name there. `sha256`, `bytes`: of what is stored in the place as `file`."""

    name: str
    kind: str
    """`ticks` or `world`."""
    file: str
    sha256: str
    bytes: int
    plain_sha256: str
    """Of the file as it is in the ledger; another one where it is stored encrypted."""


@dataclass(frozen=True)
class Manifest:
    """What an archive consists of. `ticks`: the epochs of its commits, [min, max); `ledger`: whose it is."""

    ledger: str
    commits: int
    entries: int
    ticks: tuple[int, int] | None
    shards: tuple[int, ...]
    files: tuple[ArchivedRows, ...]
    index: ArchivedRows | None
    whole: tuple[ArchivedFile, ...] = ()
    encrypted: bool = False

    def to_bytes(self) -> bytes:
        """The file of the manifest."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True).encode() + b"\n"

    @staticmethod
    def from_bytes(data: bytes, name: str) -> Manifest:
        """Of `to_bytes`. Corrupt, naming the file, where it is no manifest that is understood here."""
        try:
            raw = json.loads(data)
            if raw["format"] != FORMAT:
                raise Corrupt(f"{name} is of the format {raw['format']!r}: a newer `ledger` reads it")
            return Manifest(
                ledger=str(raw["ledger"]),
                commits=int(raw["commits"]),
                entries=int(raw["entries"]),
                ticks=None if raw["ticks"] is None else (raw["ticks"][0], raw["ticks"][1]),
                shards=tuple(raw["shards"]),
                files=tuple(_rows(each) for each in raw["files"]),
                index=None if raw["index"] is None else _rows(raw["index"]),
                whole=tuple(ArchivedFile(**each) for each in raw["whole"]),
                encrypted=bool(raw["encrypted"]),
            )
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise Corrupt(f"{name} is no manifest of an archive, or damaged: name the .json file it was") from error

    @property
    def stored(self) -> list[ArchivedRows | ArchivedFile]:
        """All its files."""
        return [*self.files, *([] if self.index is None else [self.index]), *self.whole]

    @property
    def batches(self) -> dict[str, int]:
        """The batches it holds commits of, with how many."""
        found: dict[str, int] = {}
        for file in self.files:
            for batch, rows in file.batches:
                found[batch] = found.get(batch, 0) + rows
        return found

    def copy_of(self, batch: str) -> ArchivedRows | None:
        """The file that is a batch as it was, to the byte: batches have the names of their digests too."""
        return next((each for each in self.files if batch == f"commits/{each.file}"), None)


def _rows(raw: Mapping[str, Any]) -> ArchivedRows:
    return ArchivedRows(**{**raw, "batches": tuple((batch, rows) for batch, rows in raw["batches"])})


class Ids(Sequence[str]):
    """Texts as an Arrow array holds them, which takes less room than as many objects."""

    def __init__(self, values: pa.ChunkedArray) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, at: Any) -> Any:
        return self._values[at].as_py() if isinstance(at, int) else Ids(self._values[at])

    def __iter__(self) -> Iterator[str]:
        return (each.as_py() for each in self._values)

    def __arrow_array__(self, type: Any = None) -> pa.Array:
        """What `pyarrow.array` makes of it."""
        return self._values


class ReadIds(Sequence[str]):
    """Texts that are read each time they are asked for, since they may be too many to be held; cheap in their order."""

    def __init__(self, count: int, read: Callable[[], Iterable[pa.ChunkedArray]]) -> None:
        self._count = count
        self._read = read
        self._at = count
        """Up to where they were read."""
        self._source: Iterator[pa.ChunkedArray] = iter(())
        self._left = _NONE

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, int):
            return self[range(self._count)[at] :][0]
        first, past, step = at.indices(self._count)
        if step != 1:
            return Ids(self.__arrow_array__())[at]
        if first != self._at:
            self._at, self._left, self._source = 0, _NONE, iter(self._read())
            self._next(first)
        return Ids(self._next(past - first))

    def __iter__(self) -> Iterator[str]:
        return (each.as_py() for values in self._read() for each in values)

    def __arrow_array__(self, type: Any = None) -> pa.Array:
        """What `pyarrow.array` makes of it."""
        return _joined(self._read())

    def _next(self, count: int) -> pa.ChunkedArray:
        found = []
        while count > 0:
            if not len(self._left):
                more = next(self._source, None)
                if more is None:
                    break
                self._left = more
            found.append(self._left.slice(0, count))
            self._left = self._left.slice(len(found[-1]))
            self._at += len(found[-1])
            count -= len(found[-1])
        return _joined(found)


_NONE = pa.chunked_array([], pa.string())


def _joined(values: Iterable[pa.ChunkedArray]) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for each in values for chunk in each.chunks], pa.string())


_AT_ONCE = 20_000


def with_entries(commits: Iterable[pa.Table], archived: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The commits with the entries that they lack and others have, by id; both in order of (shard, height).

    A commit without entries that `archived` does not know stays without.
    """
    source = iter(archived)
    known: pa.Table | None = None
    for table in portions(commits):
        if not table.num_rows or not table["entries"].null_count:
            yield table
            continue
        last = _place(table, table.num_rows - 1)
        while (known is None or _place(known, known.num_rows - 1) < last) and (more := next(source, None)) is not None:
            if more.num_rows:
                more = more.select(["commit_id", "shard", "height", "entries"])
                known = more if known is None or not known.num_rows else pa.concat_tables([known, more])
        if known is None or not known.num_rows:
            yield table
            continue
        below = _up_to(known, last)
        yield _filled(table, known.slice(0, below))
        known = known.slice(below) if below < known.num_rows else None


def _up_to(table: pa.Table, place: tuple[int, int]) -> int:
    """How many rows are at a place or before it; they are in order."""
    shards = table["shard"].to_numpy()
    low, high = (int(np.searchsorted(shards, place[0], side)) for side in ("left", "right"))
    heights = table["height"].slice(low, high - low).to_numpy()
    return low + int(np.searchsorted(heights, place[1], "right"))


def portions(commits: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same in small tables: without their entries, many commits are no burden; with them they may be."""
    for table in commits:
        for at in range(0, max(1, table.num_rows), _AT_ONCE):
            yield table.slice(at, _AT_ONCE)


def _place(table: pa.Table, row: int) -> tuple[int, int]:
    return table["shard"][row].as_py(), table["height"][row].as_py()


def _filled(table: pa.Table, known: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("entries")
    field = table.schema.field(place)
    if table["commit_id"].equals(known["commit_id"]) and table["entries"].null_count == table.num_rows:
        return table.set_column(place, field, known["entries"].cast(field.type))
    kept = table["entries"].combine_chunks()
    where = pc.index_in(table["commit_id"].combine_chunks(), known["commit_id"].combine_chunks())
    back = known["entries"].combine_chunks().cast(field.type).take(where)
    return table.set_column(place, field, pc.if_else(pc.is_null(kept), back, kept))
