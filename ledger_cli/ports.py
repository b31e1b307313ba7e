"""What the services need of the world outside: protocols, and what each method guarantees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from ledger_cli.core.history import CommitFile, Segment
from ledger_cli.core.policy import Json, Weight


@dataclass(frozen=True)
class Capabilities:
    """What stores differ in; declared, never asked by type."""

    name: str
    local: bool
    """Files have paths on this machine."""
    durable: bool
    """An acknowledged write survives a crash of the machine."""


@dataclass(frozen=True)
class Published:
    """A file of the ledger: its path inside, SHA-256 and bytes."""

    file: str
    sha256: str
    bytes: int


class Store(Protocol):
    """Where a ledger lives: immutable files, and refs that move by compare-and-set."""

    capabilities: Capabilities

    def branches(self) -> list[str]:
        """Names of the refs that exist, sorted (deleted branches and `admin` among them)."""
        ...

    def read_move(self, branch: str, seq: int) -> bytes | None:
        """The bytes of one move, or None where there is none. A move never changes."""
        ...

    def latest_seq(self, branch: str, at_least: int = -1) -> int:
        """The number of the last move, -1 for none. `at_least`: a move known to exist, to start from."""
        ...

    def advance_ref(self, branch: str, seq: int, move: bytes) -> None:
        """Write move `seq` if it does not exist: atomic and durable. Conflict where somebody was first."""
        ...

    def publish(self, path: Path, file: str) -> Published:
        """Make a finished local file part of the ledger under the name `file`: atomic, durable, idempotent.

        `{sha256}` in the name is replaced by the digest of the content. The local file may be moved away.
        """
        ...

    def read_file(self, file: str) -> bytes:
        """The content of a file of the ledger. Corrupt where it is missing."""
        ...

    def digest_of_file(self, file: str) -> str:
        """SHA-256 of a file as stored. Corrupt where it is missing."""
        ...

    def location(self, file: str) -> str:
        """Path or URL by which an engine reads the file."""
        ...

    def scratch(self) -> AbstractContextManager[Path]:
        """A local directory for unfinished files, gone afterwards (after a kill: at the next call)."""
        ...


@dataclass(frozen=True)
class TickRange:
    """Half-open range of ticks; None is open."""

    start: int | None = None
    end: int | None = None

    def meets(self, tick_min: int, tick_max: int) -> bool:
        """Whether a segment with these ticks (inclusive) may hold rows of the range."""
        return (self.end is None or tick_min < self.end) and (self.start is None or tick_max >= self.start)


@dataclass(frozen=True)
class Measure:
    """How events become moments: the region map, the weight, and the width of a bucket of ticks."""

    regions: Json
    weight: Weight
    base_weight: float
    bucket: int = 1
    fine_below: int = 0
    """Ticks below this have a bucket of their own whatever `bucket` is."""


class Engine(Protocol):
    """Computes over columns: sums events into moments and answers SQL. One engine serves one process."""

    def moments(
        self, segments: Sequence[Segment], measure: Measure, ranges: Sequence[TickRange]
    ) -> Iterator[pa.RecordBatch]:
        """Columns region, tick (start of the bucket), n and the sums as decimal128, ascending by tick.

        Exact whatever the threads. A region may have several rows at one tick: add them.
        """
        ...

    def commits(
        self, files: Sequence[CommitFile], columns: Sequence[str], where: str = ""
    ) -> pa.Table:
        """Rows of `core.commit.COMMIT` of the files, in no order. `where`: SQL over its columns."""
        ...

    def query(self, sql: str, **tables: Any) -> pa.Table:
        """The result of SQL, with Arrow tables by name."""
        ...
