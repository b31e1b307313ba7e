"""What the services need of the world outside: protocols, and what each method guarantees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ledger_cli.core.history import Box, CommitFile, QuarantineFile, Reached, Segment
from ledger_cli.core.policy import Json, Weight
from ledger_cli.core.slices import History

if TYPE_CHECKING:
    from concurrent.futures import Future

    import pyarrow as pa

    from ledger_cli.core.chunks import ColumnChunk, LineChunk, Refused
    from ledger_cli.core.commit import CommitRow
    from ledger_cli.core.moments import Regions


EVER = "9999-12-31T23:59:59.999Z"
"""Behind every time."""


@dataclass(frozen=True)
class Published:
    """A file of the ledger: its path inside, SHA-256 and bytes."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Written:
    """When a file was written, or touched last (RFC 3339 UTC), and its bytes."""

    at: str
    bytes: int


@dataclass(frozen=True)
class TickRange:
    """Half-open range of ticks; None is open."""

    start: int | None = None
    end: int | None = None

    def meets(self, tick_min: int, tick_max: int) -> bool:
        """Whether a segment with these ticks (inclusive) may hold rows of the range."""
        return (self.end is None or tick_min < self.end) and (self.start is None or tick_max >= self.start)


@dataclass(frozen=True)
class Capabilities:
    """What a kind of store promises, and in what the kinds differ. Shown by `ledger stores`."""

    engine: str
    """What keeps the commits, and by which client."""
    extra: str | None
    """The extra to install; None: nothing."""
    refs: bool
    """Whether it has a compare-and-set, so that refs are kept in it; else they are files of the ledger's directory."""
    processes: str
    """How many processes may use it at once."""
    durable: str
    """What an acknowledged write has survived."""
    atomic: str
    """What of `persist_commits` is seen all at once."""
    exact: str
    """How integers of 128 bits are kept."""


class Files(Protocol):
    """The immutable files of a ledger: segments, tiles, refused rows, snapshots."""

    def publish(self, path: Path, file: str) -> Published:
        """Make a finished local file part of the ledger under the name `file`: atomic, durable, idempotent.

        `{sha256}` in the name is replaced by the digest of the content. The local file stays. What is published under
        `commits/` becomes a batch of `Store.commits`.
        """
        ...

    def read_file(self, file: str) -> bytes:
        """The content of a file of the ledger. Corrupt where it is missing."""
        ...

    def digest_of_file(self, file: str) -> str:
        """SHA-256 of a file as stored. Corrupt where it is missing."""
        ...

    def location(self, file: str) -> str:
        """Local path by which an engine reads the file, as long as the ledger is open."""
        ...

    def written(self, folder: str) -> dict[str, Written]:
        """The files directly in a folder by name, other folders left out; none where it is not there."""
        ...

    def touch(self, file: str) -> None:
        """Make a file as new as if it were written now, as publishing it again does; nothing where there is none.

        For whoever counts on what he finds: it may have been left by a killed job, and be due to be discarded.
        """
        ...

    def discard(self, file: str, before: str) -> bool:
        """Take a file away that no move names, unless it was written or touched since a time; whether it was there.

        `before`: RFC 3339 UTC. Of a touch at the same time either comes first where files are a directory; on object
        stores one between the last look and the removal is not seen.
        """
        ...

    def folders(self, folder: str) -> list[str]:
        """The names of what lies directly in a folder of the ledger, sorted; none where it is not there."""
        ...

    def remove(self, folder: str) -> None:
        """Take a file, or a folder with its files, away if it is there. After a kill some may be left: call it again.

        For what no move names any more; nobody may be publishing into it.
        """
        ...

    def scratch(self) -> AbstractContextManager[Path]:
        """A local directory for unfinished files, gone afterwards (after a kill: at the next call)."""
        ...


class Refs(Protocol):
    """Logs of moves that grow by compare-and-set: branches, and `admin`."""

    def branches(self) -> list[str]:
        """Names of the refs that exist, sorted (deleted branches and `admin` among them)."""
        ...

    def read_ref(self, branch: str, seq: int) -> bytes | None:
        """The bytes of one move, or None where there is none. A move never changes."""
        ...

    def latest_seq(self, branch: str, at_least: int = -1) -> int:
        """The number of the last move, -1 for none. `at_least`: a move known to exist, to start from."""
        ...

    def move_numbers(self, branch: str) -> list[int]:
        """The numbers of all moves that are there, ascending, as listed: where one is left out it is missing.

        Moves made meanwhile may be in it or not.
        """
        ...

    def advance_ref(self, branch: str, seq: int, move: bytes) -> None:
        """Write move `seq` if it does not exist: atomic and durable. Conflict where somebody was first.

        Corrupt where a move before or behind it is missing. Of those who write one move at once exactly one succeeds;
        who was cut off meanwhile looks with `read_ref` whether it was he.
        """
        ...


class Commits(Protocol):
    """Commits in batches, each the work of one job. A batch is seen by nobody until a move of a ref names it.

    Reads are of a `History`: what the moves of a branch name. Tables hold rows of `core.commit.COMMIT`; integers are
    exact, floats bit-equal, texts as given. Errors are of `ledger_cli.errors`: Unavailable where the store cannot be
    reached, NotWritten where it is full, Corrupt where it lacks what a history names.
    """

    def close(self) -> None:
        """Let go of connections. Nothing that was acknowledged depends on it."""
        ...

    def leading(self, branch: str, shards: Iterable[int]) -> AbstractContextManager[None]:
        """Within the context no other process commits these shards of a branch, where `Capabilities.processes` says so.

        Who finds another one at it waits for its end, so as not to fold in vain; Conflict where that takes too long. It
        ends with the process. Nothing but time depends on it: who wins is decided by `Refs.advance_ref` alone.
        """
        ...

    def persist_commits(self, batch: str, created_at: str, commits: Iterable[pa.Table]) -> None:
        """Store the commits of a batch, in order of (shard, height) within the batch: durable when it returns.

        Idempotent by commit id: a commit that is there, also by another batch, stays as it is, and is in both. What a
        killed call leaves may be persisted again, and is removed by `remove_batch`. `created_at`, RFC 3339 UTC: when
        the batch was begun, also where it is there already, since whoever persists it is about to count on it.
        Nothing is atomic but what `Capabilities.atomic` says; nothing has to be, as no move names the batch yet.
        Here and in `restore_commits` tables may have a column more, `entity_refs` of `core.contributors`: engines in
        which others look keep it with the entries. The ledger itself reads it from a file of its own.
        """
        ...

    def batches(self) -> dict[str, str]:
        """The batches that are there, whole or not, with when they were begun last (RFC 3339 UTC): for `doctor`."""
        ...

    def remove_batch(self, batch: str, before: str = EVER) -> bool:
        """Take a batch away that no move names, with those of its commits that are in no other; whether it was there.

        Idempotent. One that was begun at a time or later, RFC 3339 UTC, stays: a job counts on it. Where nothing is
        atomic (`Capabilities.atomic`), one that is begun between that look and the removal is not seen.
        """
        ...

    def read_commits(self, batch: str) -> Iterator[pa.Table]:
        """The commits of a batch in order of (shard, height), in pieces of bounded size.

        `entries` ascend by region (code points); they are null where they are archived.
        """
        ...

    def read_counts(self, batch: str) -> pa.Table:
        """Of each commit of a batch its `commit_id`, `regions` and `events`, also where its entries are archived."""
        ...

    def query_commit(self, history: History, commit_id: str) -> CommitRow | None:
        """The commit of an id; None where the history has none."""
        ...

    def query_commits_by_region(self, history: History, region: str, ticks: TickRange) -> pa.Table:
        """Rows of `core.commit.REGION_COMMIT`: the history's entries of a region whose epochs meet a range of ticks.

        By (epoch_end, shard, height, commit_id). Archived entries are not among them.
        """
        ...

    def read_projection_tile(self, history: History, region: str) -> pa.Table:
        """What the entries of a region add up to, one row of `core.commit.REGION_TILE`, exact; archived ones left out.

        For a moment of the past give the history as it was cut there (`CommitSlice.cut`).
        """
        ...

    def archive_commits(self, batch: str, commit_ids: Sequence[str]) -> None:
        """Drop the entries of these commits of a batch; their headers stay. Idempotent.

        Whoever calls has made sure that they are elsewhere. Another batch that has such a commit too may keep them.
        """
        ...

    def restore_commits(self, batch: str, commits: Iterable[pa.Table]) -> None:
        """Put the entries of archived commits of a batch back. Idempotent; a commit that has its entries stays.

        `commits` come in order of (shard, height). Those of others than the batch's are passed over.
        """
        ...

    def upsert_entity_state(self, rows: pa.Table) -> None:
        """Store rows of `core.events.ENTITY_STATE` by their entity; a row with an older `last_tick` changes nothing."""
        ...

    def entity_state(self, entities: Sequence[str] | None = None) -> pa.Table:
        """The rows of these entities, or of all, by entity id."""
        ...


class CommitStore(Commits, Refs, Protocol):
    """The storage port: one engine that keeps the commits and refs of a ledger (see `stores`)."""

    capabilities: Capabilities

    def create(self) -> None:
        """Make what the store needs, if it is not there, and bring an older schema up to date.

        UsageError where it was made by a newer program. Called once by whoever opens the ledger.
        """
        ...


@dataclass(frozen=True)
class PackPart:
    """Members of a pack, by the first and last of each run of their numbers; None: all of them."""

    file: str
    runs: tuple[tuple[int, int], ...] | None


@dataclass(frozen=True)
class Reading:
    """What is read for the rows of some files: files as they are, and parts of packs that hold others."""

    plain: Sequence[str]
    packs: Sequence[PackPart] = ()

    @property
    def names(self) -> list[str]:
        """All that is opened."""
        return [*self.plain, *(part.file for part in self.packs)]


class Store(Files, Refs, Protocol):
    """All that a ledger's services need of where it lives."""

    def reading(self, files: Sequence[str], headers: bool = False) -> Reading:
        """What to read for the rows of some files of one schema: see `Reading`. What is elsewhere is brought here.

        `headers`: they are batches of which no entries are asked for, see `headers`.
        """
        ...

    def headers(self, file: str) -> str:
        """The `location` of a batch's commits for whoever wants no entries: nothing is fetched from an archive for it.

        Where `archived` it has the columns of `COMMIT` without `entries`, and how many `regions` and `events` each has.
        """
        ...

    def archived(self, file: str) -> bool:
        """Whether a file, or some of a batch's entries, are in an archive and not in the ledger itself."""
        ...

    @property
    def packings(self) -> int:
        """A number that changes with what `reading` says of files."""
        ...

    def look_again(self) -> None:
        """Find out what was packed or archived meanwhile: for whoever misses a file or entries that were to be read."""
        ...

    by_engine: bool
    """Whether an engine keeps the commits: it has them by id at hand, and a table of entities that runs keep up."""

    @property
    def commits(self) -> Commits:
        """The commits."""
        ...

    def rewritten(self, file: str) -> bool:
        """Whether a batch of commits was written anew: its commits are the same, its bytes need not be.

        So it is where an engine keeps its rows, and where a file of it was made by a copy, an archive or a restore.
        """
        ...


class Cache(Protocol):
    """Local copies of files by keys that are paths, bounded: the least recently used go first.

    A copy is whole or not there. NotWritten where there is no room.
    """

    def get(self, key: str) -> Path | None:
        """Where the copy is, None where there is none. It stays there for this process, whoever throws it out."""
        ...

    def add(self, key: str, path: Path, shared: bool = True) -> Path:
        """Make a finished local file, which is not written to any more, the copy; as `get`.

        `shared`: it is synced, others may use it too, it outlives this process and counts against the bound.
        """
        ...

    def draft(self) -> AbstractContextManager[Path]:
        """The path of a file to be written, gone afterwards."""
        ...

    def drop(self, key: str) -> None:
        """Forget the copy."""
        ...

    def sweep(self, before: str) -> int:
        """Remove the copies that were not used since a time, RFC 3339 UTC; how many."""
        ...


class Place(Protocol):
    """Where archives are: files by name, none of which changes."""

    def put(self, path: Path, name: str) -> None:
        """Store a finished local file: durable when it returns. Again is no harm. NotWritten where it cannot be."""
        ...

    def get(self, name: str, target: Path) -> None:
        """Copy a file to a local path. NotFound where there is none, Unavailable where the place is not reached."""
        ...

    def names(self) -> list[str]:
        """The names of what is there, sorted; none where the place is not there."""
        ...


class Vault(Protocol):
    """How archives are reached and, where there is a key, written and read encrypted."""

    def place(self, url: str) -> Place:
        """A place by its URL; a path is from the ledger."""
        ...

    def encryption(self) -> Any:
        """Parquet encryption properties for one file; None: archives are not encrypted."""
        ...

    def decryption(self) -> Any:
        """Parquet decryption properties. UsageError where there is no key."""
        ...


@dataclass(frozen=True)
class Measure:
    """How events become moments: the region map, the weight, and the width of a bucket of ticks."""

    regions: Json
    weight: Weight
    base_weight: float
    bucket: int = 1
    fine_below: int = 0
    """Ticks below this have a bucket of their own whatever `bucket` is."""


@dataclass(frozen=True)
class BusEvent:
    """An event for a bus. `key`: its entity, whose events stay in order; `value`: JSON in UTF-8, on one line."""

    key: str
    value: bytes


class Bus(Protocol):
    """Where a ledger tells others what has happened to its world."""

    name: str
    """What messages call it, without secrets."""

    def publish(self, events: Sequence[BusEvent]) -> None:
        """Add events, in order: durable when it returns.

        After an error, or a kill, some may be there, the first ones first: the same may be published again, and are
        there twice then. Unavailable where that may help by itself later, UsageError where something has to be put
        right before.
        """
        ...


class Source(Protocol):
    """One input of an ingest: a file, a stream, a URL."""

    name: str
    """As the user named it, for messages and the quarantine."""
    envelope: str
    """How a line holds its tick: "none" (the line is the tick), "kcat" or "kafka-console"."""

    def chunks(self) -> Iterator[LineChunk | ColumnChunk]:
        """Bounded pieces, in order. SourceError where the source is not what it claims to be."""
        ...

    def digest(self) -> str:
        """SHA-256 of the source's bytes as stored, once `chunks` is exhausted."""
        ...

    @property
    def position(self) -> tuple[int, int | None]:
        """Stored bytes read so far, and in all where known (for progress)."""
        ...


@dataclass(frozen=True)
class Taken:
    """Whole lines of a source that grows, the last one with its end too. `first_line`: the number of the first.

    `reached`: how far the source was read with them; None: it gives its bytes once.
    """

    block: bytes
    first_line: int
    reached: Reached | None


class Tail(Protocol):
    """A source that grows: a file, a FIFO, standard input."""

    name: str
    """As the user named it."""
    notes: list[str]
    """What a person should know of it, to be taken away by whoever tells it."""
    ended: bool
    """Whether nothing comes any more, once `take` has given None."""

    def take(self, rows: int) -> Taken | None:
        """The next whole lines, at most so many, without waiting for them; None where there are none now.

        They are not given again. SourceError where the source cannot be read, or is not what it claims to be.
        """
        ...

    def stop(self) -> None:
        """Read no further: `take` gives what can be had from nowhere else any more, then None."""
        ...

    def close(self) -> None:
        """Let go of the source."""
        ...


@dataclass(frozen=True)
class SqlInput:
    """What a user's SQL may read: files of the ledger, and tables by name."""

    ticks: Sequence[str]
    """Files of `core.events.TICKS`."""
    commits: Sequence[tuple[str, Sequence[str]]]
    """Files of `core.commit.COMMIT`, each group with the SQL condition on its rows, empty for all."""
    contributors: Sequence[tuple[str, Sequence[str]]]
    """The same of files of `core.contributors.CONTRIBUTORS`."""
    headers: Sequence[tuple[str, Sequence[str]]]
    """As `commits`, for what asks for no entries."""
    quarantine: Sequence[QuarantineFile]
    world_events: Sequence[str]
    """Files of `core.world.WORLD`."""
    tables: dict[str, pa.Table]
    """`refs`, `world` (one row an entity), and `commit_moves`: shard, first height, created_at, by and branch of each
    file of commits."""
    views: dict[str, str]
    """SELECTs of the user's own by name, which may use each other."""
    kept: dict[str, Path]
    """Parquet files with the rows of some of these."""


SQL_VIEWS = ("ticks", "commits", "commit_entries", "entity_state", "world", "world_events", "quarantine", "refs")
"""What a user's SQL can name."""


@dataclass(frozen=True)
class SqlAnswer:
    """Rows, batch by batch; a LedgerError may come with any of them.

    `warnings`: what is wrong with views of the user's own that the statement does not use.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    warnings: tuple[str, ...] = ()


class Batches(Iterator["pa.RecordBatch"], Protocol):
    """Rows that an engine is at work on."""

    def close(self) -> None:
        """Give up what is still to come. To be called also where nothing was taken."""
        ...


class Engine(Protocol):
    """Computes over columns: sums events into moments and answers SQL. One engine serves one process."""

    def moments(self, segments: Sequence[Segment], measure: Measure, ranges: Sequence[TickRange]) -> Batches:
        """Columns region, tick (start of the bucket), n and the sums as decimal128, ascending by tick.

        `ranges`: ascending, none meets another. Exact whatever the threads. A region may have several rows at one
        tick: add them.
        """
        ...

    def contributors(
        self, segments: Sequence[Segment], measure: Measure, epochs: pa.Table, regions: Regions, most: int
    ) -> Iterator[pa.Table]:
        """Who gave a region its weight in an epoch: columns epoch, region (a code of `regions`) and entity_refs.

        `epochs`: columns epoch (a number), shard, start and end; those of a shard do not meet. `entity_refs`: at most
        `most` entity ids, see `core.contributors`. One row for each region and epoch with an event, in no order.
        """
        ...

    def commits(
        self, files: Sequence[CommitFile], columns: Sequence[str], where: str = "", headers: bool = False
    ) -> pa.Table:
        """Rows of `core.commit.COMMIT` of the files, in no order. `where`: SQL over its columns.

        `headers`: no entries are asked for, so that archives are left alone.
        """
        ...

    def query(self, sql: str, **tables: Any) -> pa.Table:
        """The result of SQL, with Arrow tables by name."""
        ...

    def over(self, files: Sequence[str], sql: str, headers: bool = False, **tables: pa.Table) -> pa.Table:
        """The result of SQL over the table `files`: the rows of Parquet files of the ledger, of one schema.

        `tables`: Arrow tables by name. Corrupt where a file cannot be read. At least one file. `headers`: they are
        batches, of which no entries are asked for.
        """
        ...

    def sql(self, given: SqlInput, statement: str) -> AbstractContextManager[SqlAnswer]:
        """The answer to a user's statement over the views of a branch (see `services.query`).

        Rows come as they are computed, within the context. It reads and can do nothing else: no write, no other
        file, no network. UsageError in one line else.
        """
        ...

    def close(self) -> None:
        """Let go of threads and memory; nothing is asked afterwards."""
        ...


@dataclass(frozen=True)
class Mapping:
    """How foreign columns become a tick's: SQL over the whole, known as `source`, or an expression a field."""

    sql: str | None = None
    fields: tuple[tuple[str, str], ...] = ()
    """(field, SQL expression) pairs; columns that no expression uses are unknown fields, and go into meta."""


@dataclass(frozen=True)
class Draft:
    """Ticks on their way into a ledger: a local Parquet file, sorted by (tick_id, entity_id)."""

    path: Path
    source: int
    """Index of the source they came from."""
    rows: int
    tick_min: int
    tick_max: int
    activity_max: float
    box: Box
    repeats: bool
    """Whether a key stands in it twice."""


@dataclass(frozen=True)
class Parsed:
    """What became of a chunk: the draft of its good rows (None: there is none), and the refused ones.

    The draft is looked through while the next chunk is parsed."""

    draft: Future[Draft | None]
    refused: list[Refused]
    read: int
    """Rows of the source, blank lines not counted."""


@dataclass(frozen=True)
class Deduplicated:
    """Drafts in which every key stands once and none is stored already."""

    drafts: list[Draft]
    duplicates: int
    """Rows left out because an equal one is kept."""
    refused: Iterable[tuple[int, Refused]]
    """Rows left out because another one with their key is kept, by the index of their source and their line.

    Their `raw` is the canonical JSON of the event."""


class Importer(Protocol):
    """Turns chunks of sources into checked, sorted, deduplicated drafts, in bounded memory."""

    def parse(self, chunk: LineChunk | ColumnChunk, envelope: str, source: int, directory: Path) -> Parsed:
        """Check every row of a chunk and write the good ones into a draft in `directory`."""
        ...

    def mapped(
        self, source: Source, mapping: Mapping, directory: Path, watch: Callable[[], None]
    ) -> Iterator[ColumnChunk]:
        """The rows that a mapping makes of the whole of a source.

        `_line` is the line of a row. A statement that leaves it out gets it where its rows are rows of the source;
        others (groups, set operations) are numbered from 1, in an order that depends on what is in the rows alone.
        `watch` is called now and then.
        """
        ...

    def deduplicate(
        self, drafts: Sequence[Draft], stored: Sequence[Segment], directory: Path, among: bool
    ) -> Deduplicated:
        """Leave out rows whose key is stored or stands twice (DESIGN, invariant 5).

        `among`: whether the drafts are compared with each other, or only with what is stored.
        """
        ...

    def close(self) -> None:
        """Let go of threads and memory; nothing is asked afterwards."""
        ...

    def split_above(
        self, drafts: Sequence[Draft], tick: int, directory: Path
    ) -> tuple[list[Draft], Iterable[tuple[int, Refused]]]:
        """Move the rows above a tick out of the drafts, to be refused as `tick_jump`, as in `Deduplicated`."""
        ...

    def widest_gap(self, drafts: Sequence[Draft], known: Sequence[int], limit: int | None) -> tuple[int, int] | None:
        """(last tick below, first tick above) of a gap in the distinct ticks above their median.

        `known`: further ticks that count. With `limit` the lowest gap wider than it, else the widest. None
        where there is no such gap.
        """
        ...

    def count_below(self, drafts: Sequence[Draft], tick: int) -> int:
        """Rows below a tick."""
        ...
