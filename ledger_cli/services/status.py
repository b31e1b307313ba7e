"""`ledger status`: where a branch stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger_cli.core.history import Move, Segment, ShardState, Transaction, WorldState
from ledger_cli.core.policy import REGION_MAPS, WEIGHTS
from ledger_cli.core.vector_clock import VectorClock
from ledger_cli.ports import Measure, TickRange
from ledger_cli.services.archive import ArchiveView, archives
from ledger_cli.services.constraint_fields import unknown_fields
from ledger_cli.services.fork import branch_digest, parent_of
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.world_classes import ClassSize, class_sizes
from ledger_cli.services.world_constraints import Constraints
from ledger_cli.services.world_health import Limits, WorldHealth, health
from ledger_cli.services.world_query import entities_at
from ledger_cli.services.world_types import reducer_of, registered

_ONE_BUCKET = 2**53
# For counting alone: one region, and a weight that costs nothing.
_ANYWHERE = REGION_MAPS["grid"]({"kind": "grid", "cell": 1e300})
_PLAIN = WEIGHTS["linear"]({"kind": "linear"})


@dataclass(frozen=True)
class LastRun:
    """The last run of commit on a branch. `commits`: how many it made."""

    move: int
    kind: str
    at: str
    by: str
    why: str
    commits: int
    final: bool

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {**vars(self)}


@dataclass(frozen=True)
class Status:
    """A branch as it stands. Ticks; `shards`: head, commits and where the open epoch starts."""

    branch: str
    parent: str | None
    moves: int
    rows: int
    segments: int
    highest_tick: int | None
    watermark: int | None
    policy: Mapping[str, Any] | None
    policy_digest: str | None
    commits: int
    shards: Mapping[str, ShardState]
    rows_open: int
    """Rows at or above the watermark: not complete yet."""
    rows_late: int
    """Rows below the watermark that came after the last run: the next one commits them."""
    quarantined: int
    last_run: LastRun | None
    digest: str
    """Stands for all commits of the branch: `ledger replay --verify --expect` takes it."""
    forks: tuple[str, ...]
    tags: Mapping[str, str]
    world: WorldState | None
    waiting: int
    """World events whose causes have not come yet."""
    transactions: Mapping[str, Transaction]
    """Those over two ledgers that are under way, by name."""
    world_classes: Mapping[str, ClassSize]
    """State of the world by its class."""
    health: WorldHealth
    warnings: tuple[str, ...] = ()
    """What may be wrong in the settings."""
    archives: tuple[ArchiveView, ...] = ()
    """Of the whole ledger, newest first, without those that were restored."""

    def __repr__(self) -> str:
        watermark = "no commit yet" if self.watermark is None else f"watermark {self.watermark}"
        lines = [
            f"Status of {self.branch}: {self.rows:,} events, {self.commits:,} commits, {watermark}",
            f"  waiting: {self.rows_open:,} events open, {self.rows_late:,} late; quarantined: {self.quarantined:,}",
        ]
        if self.world is not None:
            lines.append(f"  world: {self.world.entities:,} entities by {self.world.events:,} events")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "branch": self.branch,
            "parent": self.parent,
            "moves": self.moves,
            "rows": self.rows,
            "segments": self.segments,
            "highestTick": self.highest_tick,
            "watermark": self.watermark,
            "policy": self.policy,
            "policyDigest": self.policy_digest,
            "commits": self.commits,
            "shards": {shard: {**vars(each)} for shard, each in self.shards.items()},
            "rowsOpen": self.rows_open,
            "rowsLate": self.rows_late,
            "quarantined": self.quarantined,
            "lastRun": None if self.last_run is None else self.last_run.to_json(),
            "digest": self.digest,
            "forks": list(self.forks),
            "tags": dict(self.tags),
            "world": None if self.world is None and not self.waiting else _world_json(self),
            "archives": [each.to_json() for each in self.archives],
            "transactions": {name: {"stage": t.stage, "ledger": t.ledger} for name, t in self.transactions.items()},
            "warnings": list(self.warnings),
        }


def status(repository: Repository, branch: str, limits: Limits, constraints: Constraints | None = None) -> Status:
    """Where a branch stands. `limits`: beyond which modules and clocks of its world are told as wrong."""
    found = repository.branch(branch)
    state, policy, segments = found.state, found.policy, found.segments()
    rows_open, rows_late = _unfolded(repository, found, segments)
    types = registered(repository)
    entities = [] if state.world is None else list(entities_at(repository, found, reducer_of(types)).values())
    wrong = (
        []
        if state.world is None or constraints is None
        else unknown_fields(repository, found, constraints, types, entities)
    )
    return Status(
        branch=branch,
        parent=parent_of(repository, state),
        moves=found.seq - state.created + 1,
        rows=state.rows,
        segments=len(segments),
        highest_tick=state.highest_tick,
        watermark=state.watermark,
        policy=state.policy,
        policy_digest=None if policy is None else policy.digest,
        commits=state.commits,
        shards=state.shards,
        rows_open=rows_open,
        rows_late=rows_late,
        quarantined=sum(file.rows for file in found.quarantine()),
        last_run=_last_run(repository, found),
        digest=branch_digest(state),
        forks=tuple(name for name in repository.branch_names() if _is_fork(repository.branch(name), branch)),
        tags=repository.tags,
        world=state.world,
        health=health(repository, found, limits),
        waiting=0 if state.waiting is None else state.waiting.events,
        transactions=state.transactions,
        world_classes={} if state.world is None else class_sizes(entities),
        warnings=tuple(wrong),
        archives=tuple(ArchiveView(each) for each in archives(repository) if not each.restored),
    )


def _world_json(status: Status) -> dict[str, Any]:
    world = status.world
    return {
        "events": 0 if world is None else world.events,
        "entities": 0 if world is None else world.entities,
        "hlc": None if world is None else world.hlc,
        "clock": str(VectorClock({} if world is None else world.clock)),
        "waiting": status.waiting,
        "classes": {name: each.to_json() for name, each in status.world_classes.items()},
        "modules": [each.to_json() for each in status.health.modules],
        "nodes": [each.to_json() for each in status.health.nodes],
    }


def _is_fork(branch: Branch, parent: str) -> bool:
    return branch.state.base is not None and branch.state.base.branch == parent


def _unfolded(repository: Repository, branch: Branch, segments: list[Segment]) -> tuple[int, int]:
    """Rows at or above the watermark, and those below it that no run has looked at."""
    watermark = branch.state.watermark
    if watermark is None:
        return branch.state.rows, 0
    fresh = [
        segment
        for segment in segments
        # What a fork shares was looked at by its parent's runs; its first run looks at the rest again.
        if segment.arrival > max(branch.state.folded, branch.state.created if branch.state.base else -1)
    ]
    above = TickRange(watermark, None)
    return _count(repository, segments, above), _count(repository, fresh, TickRange(None, watermark))


def _count(repository: Repository, segments: list[Segment], reach: TickRange) -> int:
    """Rows within a range of ticks; only segments that lie across its bounds are read."""
    low = -1 if reach.start is None else reach.start
    high = _ONE_BUCKET if reach.end is None else reach.end
    inside = [segment for segment in segments if low <= segment.tick_min and segment.tick_max < high]
    across = [segment for segment in segments if reach.meets(segment.tick_min, segment.tick_max)]
    across = [segment for segment in across if segment not in inside]
    measure = Measure(_ANYWHERE, _PLAIN, 0, _ONE_BUCKET)
    counted: int = sum(
        sum(batch.column("n").to_pylist()) for batch in repository.engine.moments(across, measure, [reach])
    )
    return sum(segment.rows for segment in inside) + counted


def _last_run(repository: Repository, branch: Branch) -> LastRun | None:
    if not branch.state.runs:
        return None
    move = _first_with(repository, branch, branch.state.runs)
    made = sum(file.commits for file in move.added.commits)
    final = move.run is not None and move.run.final
    return LastRun(move.seq, move.kind, move.at, move.by, move.why, made, final)


def _first_with(repository: Repository, branch: Branch, runs: int) -> Move:
    """The first move after which the branch had so many runs."""
    low, high = branch.state.created, branch.seq
    while low < high:
        middle = (low + high) // 2
        if repository.move(branch.name, middle).state.runs >= runs:
            high = middle
        else:
            low = middle + 1
    return repository.move(branch.name, low)
