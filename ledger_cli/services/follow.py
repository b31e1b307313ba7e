"""`ledger follow`: ticks and world events taken as they come, step by step.

A step takes what is there, each part in one move of the branch: ticks are stored with the place that was reached in
their file, commits are made where they are complete, world events are applied, the bus is told, and a snapshot is made
where one is due. Stopped between two steps or killed within one, the next who follows goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from threading import Event
from typing import Any, Protocol

import pyarrow as pa

from ledger_cli.core.history import WaitingFile
from ledger_cli.core.policy import Policy
from ledger_cli.errors import Conflict, LedgerError, NotWritten, Unavailable
from ledger_cli.ports import Taken
from ledger_cli.services.broadcast import GONE, Broadcast, Broadcaster, Told
from ledger_cli.services.commit import CommitResult
from ledger_cli.services.followed import Followed, Settle, still_known
from ledger_cli.services.ingest import IngestResult
from ledger_cli.services.repository import Repository
from ledger_cli.services.snapshots import SnapshotView
from ledger_cli.services.world_apply import BATCH_EVENTS, ApplyRequest, ApplyResult
from ledger_cli.services.world_waiting import read_waiting

_LATER = (Conflict, NotWritten, Unavailable)
"""What may be better at the next step: a race, a full disk, an engine that is away."""
_BUS_WAIT_SECONDS = 60
"""A bus that does not answer is asked again after a while that doubles up to this, so that it holds up nothing."""


@dataclass
class FollowStep:
    """What one step did. None, or 0: there was nothing of that to be done.

    `notes`: what a person should know, such as a file that was truncated, or what is tried again at the next step.
    """

    branch: str
    number: int
    ticks: list[IngestResult] = field(default_factory=list)
    """Of each source that had some."""
    committed: CommitResult | None = None
    world: list[ApplyResult] = field(default_factory=list)
    """Of each batch, and of what waited for its causes for too long."""
    bus: Told | None = None
    snapshot: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def lines(self) -> int:
        """Rows and events that were taken."""
        return sum(each.read for each in self.ticks) + sum(each.read for each in self.world)

    @property
    def empty(self) -> bool:
        """Whether nothing is to be told of it."""
        told = self.bus is not None and self.bus.events
        judged = any(each.applied or each.reasons for each in self.world)
        return not (self.lines or self.committed or judged or told or self.snapshot is not None or self.notes)

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""

        def total(results: Sequence[Any], *names: str) -> dict[str, int]:
            return {name: sum(getattr(each, name) for each in results) for name in names}

        ticks, world = self.ticks, self.world
        refused = sum(sum(each.reasons.values()) for each in world)
        return {
            "branch": self.branch,
            "step": self.number,
            "ticks": {
                **total(ticks, "read", "stored", "duplicates", "late"),
                "quarantined": sum(each.refused for each in ticks),
            },
            "commits": 0 if self.committed is None else self.committed.commits,
            "watermark": None if self.committed is None else self.committed.watermark,
            "world": {
                **total(world, "read", "applied", "duplicates", "transient"),
                "refused": refused,
                "waiting": world[-1].waiting if world else None,
            },
            "bus": None if self.bus is None else self.bus.to_json(),
            "snapshot": self.snapshot,
            "notes": self.notes,
        }


@dataclass(frozen=True)
class FollowOptions:
    """How to follow. Seconds; `rows`: taken of all sources together in a step; None: never."""

    branch: str
    every: float
    rows: int
    snapshot_every: str | None
    idle: float | None


class Verbs(Protocol):
    """What a step asks of the ledger, all of it on one branch."""

    def ingest(self, name: str, taken: Taken, settle: Settle) -> IngestResult:
        """Store the ticks that were taken of a source."""
        ...

    def policy(self) -> Policy:
        """The policy in force."""
        ...

    def commit(self) -> CommitResult:
        """Commit what is complete."""
        ...

    def apply(self, request: ApplyRequest, broadcast: Broadcast) -> ApplyResult:
        """Apply world events, those of strong types on the canonical ledger. The bus is not told of them yet."""
        ...

    def snapshot(self, every: str) -> SnapshotView:
        """Make a snapshot where the newest is as old."""
        ...

    def keep_views(self) -> None:
        """Make the rows of the kept views anew where they are not fresh."""
        ...


@dataclass(frozen=True)
class Clocks:
    """What time it is: `wall` in µs since 1970, `steady` in seconds since some moment.

    `causal_wait`: µs that an event waits for its causes.
    """

    wall: Callable[[], int]
    steady: Callable[[], float]
    causal_wait: int


class Follower:
    """What follows some sources. `full`: there is more to be taken at once; `failed`: what the last step could not."""

    def __init__(
        self,
        repository: Repository,
        verbs: Verbs,
        broadcaster: Broadcaster,
        ticks: Sequence[Followed],
        world: Sequence[Followed],
        options: FollowOptions,
        clocks: Clocks,
    ) -> None:
        self._options = options
        self._clocks = clocks
        self._repository = repository
        self._verbs = verbs
        self._broadcaster = broadcaster
        self._ticks = list(ticks)
        self._world = list(world)
        self._number = 0
        self._bus_at, self._bus_wait = 0.0, 0.0
        self._unheard: str | None = None
        self._overdue: tuple[WaitingFile, int] | None = None
        self._stopping = False
        self.full = False
        self.failed: LedgerError | None = None

    def steps(self, stop: Event) -> Iterator[FollowStep]:
        """Until `stop` is set, nothing came for so long, or nothing can come any more; those that did something."""
        idle, steady = self._options.idle, self._clocks.steady
        last, told = steady(), list[str]()
        while True:
            stopping = stop.is_set()
            if stopping:
                self.stop()
            step = self.step()
            notes, step.notes = step.notes, [each for each in step.notes if each not in told]
            told = notes
            if not step.empty:
                yield step
            now = steady()
            last = now if step.lines else last
            left = None if idle is None else last + idle - now
            if self.full:
                continue
            if stopping or self.ended or (left is not None and left <= 0):
                if self.failed is not None and self.holding:
                    raise self.failed
                return
            stop.wait(self._options.every if left is None else min(self._options.every, left))

    @property
    def ended(self) -> bool:
        """Whether there were sources, and nothing comes of any of them any more."""
        every = [*self._ticks, *self._world]
        return bool(every) and not self.holding and all(each.tail.ended for each in every)

    @property
    def holding(self) -> bool:
        """Whether something was taken that could not be stored."""
        return any(each.held is not None for each in (*self._ticks, *self._world))

    def stop(self) -> None:
        """Take in no more than what would be lost."""
        self._stopping = True
        for each in (*self._ticks, *self._world):
            each.tail.stop()

    def step(self) -> FollowStep:
        """One step. What may be better at the next one is noted."""
        self._number += 1
        self.full, self.failed = False, None
        step = FollowStep(self._options.branch, self._number)
        parts = (
            self._check_known,
            self._take_ticks,
            self._commit,
            self._take_world,
            self._judge_waiting,
            self._tell,
            self._keep,
            self._keep_views,
        )
        for part in parts:
            try:
                part(step)
            except _LATER as error:
                self.failed = error
                step.notes.append(f"tried again at the next step: {error}")
        for each in (*self._ticks, *self._world):
            step.notes += each.tail.notes
            each.tail.notes.clear()
        if self.failed is not None:
            self.full = False
        return step

    def _check_known(self, step: FollowStep) -> None:
        """Also where nothing comes: what was read before is on no branch otherwise."""
        branch = self._repository.branch(step.branch)
        for each in (*self._ticks, *self._world):
            still_known(branch, each.key, each.reached)

    def _take_ticks(self, step: FollowStep) -> None:
        left = self._options.rows
        # None is left out for long where another one always has enough.
        self._ticks = [*self._ticks[1:], *self._ticks[:1]]
        for each in self._ticks:
            taken = each.take(left)
            if taken is None:
                continue
            made = self._verbs.ingest(each.tail.name, taken, each.settle(taken))
            each.stored(taken)
            step.ticks.append(made)
            left -= taken.block.count(b"\n")
        self.full |= left <= 0

    def _commit(self, step: FollowStep) -> None:
        """Where the watermark rises, or ticks came too late."""
        branch = self._repository.branch(step.branch)
        state, policy = branch.state, self._verbs.policy()
        if state.highest_tick is None:
            return
        watermark = state.watermark
        if watermark is None or state.highest_tick - policy.lateness > watermark or self._late(step):
            step.committed = self._verbs.commit()

    def _late(self, step: FollowStep) -> bool:
        branch = self._repository.branch(step.branch)
        watermark, folded = branch.state.watermark, branch.state.folded
        fresh = takewhile(lambda each: each.arrival > folded, reversed(branch.added.segments))
        return watermark is not None and any(each.tick_min < watermark for each in fresh)

    def _take_world(self, step: FollowStep) -> None:
        left = self._options.rows
        self._world = [*self._world[1:], *self._world[:1]]
        for each in self._world:
            while taken := each.take(asked := min(left, BATCH_EVENTS)):
                lines = taken.block.split(b"\n")[:-1]
                settle, first = each.settle(taken), taken.first_line
                # Killed before `settle`, what the canonical ledger took first is known there the next time.
                request = ApplyRequest(step.branch, lines, each.tail.name, first_line=first, settle=settle)
                step.world.append(self._verbs.apply(request, self._pass_on))
                each.stored(taken)
                step.notes += step.world[-1].unheard
                left -= len(lines)
                if len(lines) < asked:
                    # What came meanwhile is of the next step: the ticks, the bus and a signal to end wait for this one.
                    break
        self.full |= left <= 0

    def _judge_waiting(self, step: FollowStep) -> None:
        """Nothing waits for longer than it may because nothing comes."""
        state = self._repository.branch(step.branch).state
        if state.waiting is None:
            return
        if self._overdue is None or self._overdue[0] != state.waiting:
            since = read_waiting(self._repository, state).values()
            self._overdue = (state.waiting, min(since) + self._clocks.causal_wait) if since else None
        if self._overdue is not None and self._clocks.wall() >= self._overdue[1]:
            step.world.append(self._verbs.apply(ApplyRequest(step.branch, [], "what waits"), self._pass_on))
            step.notes += step.world[-1].unheard

    def _pass_on(self, rows: pa.Table) -> str | None:
        """Tell the bus of transient events, unless it is left alone for now."""
        if self._clocks.steady() >= self._bus_at:
            self._unheard = self._broadcaster.pass_on(self._options.branch, rows)
            if self._unheard is not None:
                self._leave_bus_alone()
        return self._unheard

    def _leave_bus_alone(self) -> None:
        self._bus_wait = min(2 * self._bus_wait or self._options.every, _BUS_WAIT_SECONDS)
        self._bus_at = self._clocks.steady() + self._bus_wait

    def _tell(self, step: FollowStep) -> None:
        if self._broadcaster.bus is None or self._clocks.steady() < self._bus_at:
            return
        # A batch at a time: whoever was not told for long holds up neither what comes nor the end.
        step.bus = self._broadcaster.deliver(step.branch, batches=1)
        if step.bus.failed is None:
            self._bus_wait = 0.0
            self.full |= step.bus.lag > 0 and not self._stopping
            return
        self._leave_bus_alone()
        self._unheard = GONE.format(step.bus.failed)
        step.notes.append(f"the bus could not be told: {step.bus.failed}; it is told once it answers")

    def _keep(self, step: FollowStep) -> None:
        every = self._options.snapshot_every
        if every is None or self._repository.branch(step.branch).state.world is None:
            return
        made = self._verbs.snapshot(every)
        step.snapshot = made.record.id if made.made else None

    def _keep_views(self, step: FollowStep) -> None:
        # With more to be taken at once they would be out of date before anyone reads them.
        if not self.full:
            self._verbs.keep_views()
