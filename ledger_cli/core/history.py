"""The history of a branch as values: moves of its ref, the state after each, and what a fork inherits.

A ref is a chain of immutable moves, numbered from 0, each holding the SHA-256 of the one before. A move holds
what it added (segments, commits, refused rows) and the whole small state after it. What was added over many
moves is listed in checkpoints: the move n, a multiple of 100, lists what the moves (n − span, n] added, where
span is the largest power of two times 100 that divides n. A reader so finds everything in a number of reads
that grows with the logarithm of the history, and each item is written again as seldom.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from ledger_cli.errors import UsageError

CHECKPOINT_EVERY = 100
MAIN = "main"
ADMIN = "admin"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


Box = tuple[float, float, float, float]
"""Where events lie: the lowest and highest x, the lowest and highest y."""


@dataclass(frozen=True)
class Segment:
    """An immutable Parquet file of ticks, in bytes, ticks (inclusive) and the seq of the move that added it."""

    file: str
    sha256: str
    bytes: int
    rows: int
    tick_min: int
    tick_max: int
    activity_max: float
    box: Box
    arrival: int = -1


@dataclass(frozen=True)
class ContributorsFile:
    """A Parquet file of `core.contributors.CONTRIBUTORS`, in bytes: of each entry at most `most` entities."""

    file: str
    sha256: str
    bytes: int
    most: int


@dataclass(frozen=True)
class CommitFile:
    """A Parquet file of the commits of one job, in bytes, commits and their entries; epochs in ticks, [min, max).

    `heights`: first and last height it holds of each shard. `arrival`: seq of the move that added it.
    """

    file: str
    sha256: str
    bytes: int
    commits: int
    entries: int
    epoch_min: int
    epoch_max: int
    heights: Mapping[str, tuple[int, int]]
    arrival: int = -1
    contributors: ContributorsFile | None = None
    """None: the setting `entity_refs` was 0."""


@dataclass(frozen=True)
class QuarantineFile:
    """A Parquet file of refused rows of one source, in bytes and rows; `arrival`: seq of the move that added it."""

    file: str
    sha256: str
    bytes: int
    rows: int
    source: str
    source_sha256: str
    arrival: int = -1


@dataclass(frozen=True)
class WorldFile:
    """A Parquet file of world events. `first`, `last`: the lowest and highest clock reading in it."""

    file: str
    sha256: str
    bytes: int
    events: int
    first: str
    last: str
    arrival: int = -1


@dataclass(frozen=True)
class WaitingFile:
    """The world events of a branch whose causes have not come yet, JSON Lines, in bytes."""

    file: str
    sha256: str
    bytes: int
    events: int


@dataclass(frozen=True)
class CacheFile:
    """A Parquet file of the parts of the class `cache` that entities had at a checkpoint, in bytes."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class WorldCheckpoint:
    """A Parquet file of all entities after the first `files` files of a branch's world events: a cache."""

    file: str
    sha256: str
    bytes: int
    entities: int
    files: int
    cached: int = 0
    """Entities that have parts of the class `cache`, which are not in the file."""
    cache: CacheFile | None = None
    """Where those parts are; None: there are none, or they were dropped, and are folded again from the events."""


@dataclass(frozen=True)
class WorldState:
    """Where the world of a branch stands. `hlc`: the highest clock reading, which never goes back."""

    hlc: str
    events: int
    entities: int
    checkpoint: WorldCheckpoint | None = None
    clock: Mapping[str, int] = field(default_factory=dict)
    """The vector clock: the last move taken in of each history, see `core.vector_clock`."""


@dataclass(frozen=True)
class Subscription:
    """What a module listens to on a branch, and how far it has come.

    `created`: the move that began the branch; `types`: names of types, `*` in them for any text; `cursor`: events
    of the branch's log that the module is done with, those of other types among them.
    """

    branch: str
    created: int
    module: str
    types: tuple[str, ...]
    cursor: int = 0


@dataclass(frozen=True)
class Snapshot:
    """A cut through a branch's world after its first `events` events, which are those up to its move `move`.

    `id`: the move of `admin` that announced it; `hlc`: the branch's clock at the cut; `at`: RFC 3339 UTC; `bytes` of
    all files; `manifest`: the SHA-256 of the file that lists them.
    """

    id: int
    branch: str
    created: int
    move: int
    events: int
    hlc: str
    at: str
    by: str
    why: str = ""
    entities: int = 0
    bytes: int = 0
    digest: str | None = None
    """SHA-256 of the state; None: announced alone."""
    manifest: str | None = None


@dataclass(frozen=True)
class Archive:
    """What one `ledger archive` moved out of a ledger: how much of it, and where it is.

    `id`: the move of `admin` that announced it; `pointer`: URL of its manifest, a path is from the ledger;
    `manifest`: the manifest's SHA-256; epochs in ticks, [min, max); `bytes` of all its files.
    """

    id: int
    pointer: str
    manifest: str
    at: str
    bytes: int
    commits: int = 0
    entries: int = 0
    batches: int = 0
    segments: int = 0
    world_files: int = 0
    epoch_min: int | None = None
    epoch_max: int | None = None
    freed: bool = False
    """Whether what it holds was taken out of the ledger; not yet where the process was killed."""
    restored: bool = False
    """Whether all of it was put back."""


@dataclass(frozen=True)
class Tile:
    """A Parquet file with what many commits of a chain add up to in each region (see services.tiles).

    `first`, `last`: it took in the tiles (first, last] of the chain, itself the one numbered `last`. `bytes` of
    the file, `commits` in it, `half_lives` in ticks.
    """

    file: str
    sha256: str
    bytes: int
    first: int
    last: int
    commits: int
    epoch_max: int
    """The highest end of an epoch in it: the tick that its decayed sums refer to."""
    half_lives: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pack:
    """A Parquet file that holds the rows and the bytes of many small files of a ledger (see services.packs).

    `bytes` of the pack, `members` and `rows` of all of them; `kind`: segments, commits, world or quarantine.
    """

    file: str
    sha256: str
    bytes: int
    rows: int
    kind: str
    members: int
    at: str
    """RFC 3339 UTC: some time after it the members' own files are taken away."""
    replaced: str | None = None
    """When its members went into a larger one; it is read no more, and taken away as they are."""


@dataclass(frozen=True)
class ShardState:
    """The chain of a shard: its head's digest (None: no commit yet), its length in commits, and the tick at which
    its open epoch starts (None: it has none)."""

    head: str | None = None
    commits: int = 0
    start: int | None = None


@dataclass(frozen=True)
class Base:
    """What a fork shares with its parent: segments up to the move `segments_move` (−1: none), and the chains as of
    the move `commits_move`, cut at the heights given."""

    branch: str
    segments_move: int
    commits_move: int
    keep: Mapping[str, int] = field(default_factory=dict)
    """Number of commits kept of each shard's chain."""
    look_again: int | None = None
    """The first run looks for uncommitted rows from this tick on; None: nothing was cut off."""
    listed: bool = False
    """Of a merge: the branch's first move lists the commits kept itself, so that the parent tells only how they were
    made. Histories that meet again and again would else be read through all that they ever stood on."""


@dataclass(frozen=True)
class Run:
    """How a run of commit was made, so that it can be made again."""

    sees: int
    """The run folded what the moves up to this one had added."""
    final: bool = False
    force: int | None = None
    """The shard of a forced close."""
    index: int = 0
    """Runs of this branch before it."""
    watermark: int | None = None
    """Up to where it folded; None: as far as the highest tick and the lateness allow."""


@dataclass(frozen=True)
class PreparedFile:
    """A file of events, one a line as they were sent, that a branch has promised to apply."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Transaction:
    """The part of a branch in a transaction over two ledgers that is under way (see services.transactions)."""

    stage: str
    """`begun`, then `committed` at the ledger that decides; `prepared` at the other one."""
    ledger: str
    """Where the other ledger is; `identity`: what it is known by, `branch`: its branch."""
    identity: str
    branch: str
    until: int
    """µs since 1970: afterwards whoever meets it may give it up, if it is not decided."""
    prepared: PreparedFile | None = None
    """The events that are promised."""
    whole: bool = False
    """Whether nothing else may change the world of the branch until it has ended."""


@dataclass(frozen=True)
class Reached:
    """How far a file that grows was read: whole lines, in bytes and lines. `mark`: SHA-256 of the last bytes before.

    `move`: the last move that brought some of it.
    """

    bytes: int
    lines: int
    mark: str
    move: int = -1


@dataclass(frozen=True)
class State:
    """All that a reader needs to know of a branch after a move, but for its lists."""

    shards: Mapping[str, ShardState] = field(default_factory=dict)
    """By shard, its number as text."""
    watermark: int | None = None
    """The tick below which rows are complete and folded; None before the first run that saw a row."""
    policy: Mapping[str, Any] | None = None
    """Its JSON form; None before the first run."""
    folded: int = -1
    """The last move whose rows the late pass of a run has looked at."""
    runs: int = 0
    """Runs of commit on this branch itself."""
    final: bool = False
    """Whether the last run was final."""
    merged: int | None = None
    """The highest watermark at which a merge commit stands in the chains; None without one."""
    entities: int | None = None
    """Of `main` alone: the last move whose rows the table of entities in an engine has taken in; None: no engine."""
    rows: int = 0
    """Events of all segments that the branch reads, a parent's too; `highest_tick` is theirs (None: no event)."""
    highest_tick: int | None = None
    created: int = 0
    """The move that began this branch (a deleted name can be used again)."""
    deleted: bool = False
    base: Base | None = None
    tiles: tuple[Tile, ...] = ()
    """The few tiles that cover the chains but for the last commits; a new fork has none of its own yet."""
    world: WorldState | None = None
    """None: no world event yet."""
    waiting: WaitingFile | None = None
    """World events whose causes have not come yet; None without any."""
    temporary: bool = False
    """A branch that a reconciliation builds on: it is nobody's, and shown nowhere."""
    transactions: Mapping[str, Transaction] = field(default_factory=dict)
    """Those over two ledgers that have not ended here, by name."""
    followed: Mapping[str, Reached] = field(default_factory=dict)
    """How far `ledger follow` has read files, by use, node and path (see services.followed)."""
    copy_of: str | None = None
    """Of a copy of another ledger's branch, what it is called there."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of the ref `admin` alone: commit digests by tag."""
    types: Mapping[str, Any] = field(default_factory=dict)
    """Of the ref `admin` alone: what is registered of each type of world events."""
    subscriptions: Mapping[str, Subscription] = field(default_factory=dict)
    """Of the ref `admin` alone, by branch and module: `main/physics`."""
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    """Of the ref `admin` alone, by id as text, with those that are announced."""
    packs: tuple[Pack, ...] = ()
    """Of the ref `admin` alone, with those that are replaced but may still be there."""
    archives: Mapping[str, Archive] = field(default_factory=dict)
    """Of the ref `admin` alone, by id as text, with those that were restored."""

    @property
    def commits(self) -> int:
        """Commits in the chains of all shards."""
        return sum(shard.commits for shard in self.shards.values())


@dataclass(frozen=True)
class Added:
    """What moves added to a branch."""

    segments: tuple[Segment, ...] = ()
    commits: tuple[CommitFile, ...] = ()
    quarantine: tuple[QuarantineFile, ...] = ()
    world: tuple[WorldFile, ...] = ()

    def __add__(self, other: Added) -> Added:
        return Added(
            self.segments + other.segments,
            self.commits + other.commits,
            self.quarantine + other.quarantine,
            self.world + other.world,
        )

    def arrived(self, seq: int) -> Added:
        """The same, arrived with the move `seq`."""
        return Added(
            tuple(replace(item, arrival=seq) for item in self.segments),
            tuple(replace(item, arrival=seq) for item in self.commits),
            tuple(replace(item, arrival=seq) for item in self.quarantine),
            tuple(replace(item, arrival=seq) for item in self.world),
        )


NamedFile = (
    Segment
    | CommitFile
    | ContributorsFile
    | QuarantineFile
    | WorldFile
    | Tile
    | WaitingFile
    | PreparedFile
    | WorldCheckpoint
    | CacheFile
)


@dataclass(frozen=True)
class Move:
    """One immutable entry of a ref log. `at`: RFC 3339 UTC; `previous`: SHA-256 of the move before, or ""."""

    seq: int
    previous: str
    kind: str
    at: str
    by: str
    why: str
    state: State
    added: Added = Added()
    run: Run | None = None
    checkpoint: Added | None = None
    merge: tuple[Mapping[str, str], ...] = ()
    """Of a merge, the heads of either side by shard, the one first whose canonical JSON is lower."""

    @property
    def named(self) -> list[NamedFile]:
        """The files that this move names first, its checkpoint's left out."""
        added, state = self.added, self.state
        # Before the commits, which an engine keeps with them.
        listed: list[NamedFile | None] = [*added.segments, *(each.contributors for each in added.commits)]
        listed += [*added.commits, *added.quarantine, *added.world]
        listed += [*state.tiles, state.waiting, *(each.prepared for each in state.transactions.values())]
        checkpoint = None if state.world is None else state.world.checkpoint
        if checkpoint is not None:
            listed += [checkpoint, checkpoint.cache]
        return [each for each in listed if each is not None]

    def to_bytes(self) -> bytes:
        """The file of the move: JSON, absent parts left out."""
        raw = _plain(asdict(self))
        if self.state.policy is not None:
            # As it is: what is empty in it is hashed too.
            raw["state"]["policy"] = self.state.policy
        if self.state.types:
            raw["state"]["types"] = self.state.types
        return json.dumps(raw, separators=(",", ":"), sort_keys=True).encode() + b"\n"

    @staticmethod
    def from_bytes(data: bytes) -> Move:
        """Of `to_bytes`. ValueError, KeyError or TypeError where it is not a move."""
        raw = json.loads(data)
        state = raw["state"]
        state["shards"] = {name: _build(ShardState, each) for name, each in state.get("shards", {}).items()}
        if state.get("base") is not None:
            state["base"] = _build(Base, state["base"])
        if state.get("world") is not None:
            state["world"] = _world(state["world"])
        if state.get("waiting") is not None:
            state["waiting"] = _build(WaitingFile, state["waiting"])
        state["tiles"] = tuple(_tile(item) for item in state.get("tiles", ()))
        under_way = state.get("transactions", {})
        state["transactions"] = {name: _transaction(each) for name, each in under_way.items()}
        state["followed"] = {name: _build(Reached, each) for name, each in state.get("followed", {}).items()}
        listening = state.get("subscriptions", {})
        state["subscriptions"] = {name: _subscription(each) for name, each in listening.items()}
        state["snapshots"] = {name: _build(Snapshot, each) for name, each in state.get("snapshots", {}).items()}
        state["packs"] = tuple(_build(Pack, each) for each in state.get("packs", ()))
        moved_out = state.get("archives", {})
        state["archives"] = {name: _build(Archive, each) for name, each in moved_out.items()}
        run = raw.get("run")
        checkpoint = raw.get("checkpoint")
        return Move(
            seq=raw["seq"],
            previous=raw["previous"],
            kind=raw["kind"],
            at=raw["at"],
            by=raw["by"],
            why=raw["why"],
            state=_build(State, state),
            added=_added(raw.get("added", {})),
            run=None if run is None else _build(Run, run),
            checkpoint=None if checkpoint is None else _added(checkpoint),
            merge=tuple(raw.get("merge", ())),
        )


def digest_of_move(data: bytes) -> str:
    """The SHA-256 that the next move holds of this one."""
    return hashlib.sha256(data).hexdigest()


def checkpoint_span(seq: int) -> int:
    """How many moves the checkpoint of move `seq` covers, 0 where it has none."""
    if seq == 0 or seq % CHECKPOINT_EVERY:
        return 0
    block = seq // CHECKPOINT_EVERY
    return (block & -block) * CHECKPOINT_EVERY


def branch_name(name: str) -> str:
    """`name`, if a branch or tag may be called so; else UsageError."""
    if not _NAME.fullmatch(name) or name == ADMIN or name.isdigit():
        raise UsageError(
            f"{name!r} cannot be a name: use letters, digits, '.', '_' and '-', not digits alone, not 'admin'"
        )
    return name


_T = TypeVar("_T")


def _build(kind: type[_T], raw: dict[str, Any]) -> _T:
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in raw.items() if name in known})


def _tile(raw: dict[str, Any]) -> Tile:
    return _build(Tile, {**raw, "half_lives": tuple(raw.get("half_lives", ()))})


def _world(raw: dict[str, Any]) -> WorldState:
    checkpoint = raw.get("checkpoint")
    built = None if checkpoint is None else _checkpoint(checkpoint)
    return _build(WorldState, {**raw, "checkpoint": built})


def _subscription(raw: dict[str, Any]) -> Subscription:
    return _build(Subscription, {**raw, "types": tuple(raw["types"])})


def _checkpoint(raw: dict[str, Any]) -> WorldCheckpoint:
    cache = raw.get("cache")
    return _build(WorldCheckpoint, {**raw, "cache": None if cache is None else _build(CacheFile, cache)})


def _transaction(raw: dict[str, Any]) -> Transaction:
    prepared = raw.get("prepared")
    return _build(Transaction, {**raw, "prepared": None if prepared is None else _build(PreparedFile, prepared)})


def _segment(raw: dict[str, Any]) -> Segment:
    return _build(Segment, {**raw, "box": tuple(raw["box"])})


def _commit_file(raw: dict[str, Any]) -> CommitFile:
    contributors = raw.get("contributors")
    built = None if contributors is None else _build(ContributorsFile, contributors)
    return _build(CommitFile, {**raw, "contributors": built})


def _added(raw: dict[str, Any]) -> Added:
    return Added(
        tuple(_segment(item) for item in raw.get("segments", ())),
        tuple(_commit_file(item) for item in raw.get("commits", ())),
        tuple(_build(QuarantineFile, item) for item in raw.get("quarantine", ())),
        tuple(_build(WorldFile, item) for item in raw.get("world", ())),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _plain(each) for name, each in value.items()}
        return {name: each for name, each in kept.items() if each is not None and each != () and each != {}}
    if isinstance(value, (list, tuple)):
        return tuple(_plain(each) for each in value)
    return value
