"""One run of commit: from the state before it to its commits and the state after.

`RunFold` is the only code that makes commits of ticks. `commit` persists what it yields, `replay` compares it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from ledger_cli.core.commit import Head, seal
from ledger_cli.core.events import region_of_json
from ledger_cli.core.fold import Closed, Fold
from ledger_cli.core.history import Run, ShardState, State
from ledger_cli.core.moments import Moments, Regions, concat, shard_of
from ledger_cli.core.policy import Policy
from ledger_cli.errors import PolicyChange
from ledger_cli.ports import Engine, Measure, TickRange
from ledger_cli.services.late import LatePass
from ledger_cli.services.repository import Branch, Repository


def measure_of(policy: Policy, bucket: int = 1, fine_below: int = 0) -> Measure:
    """How the engine makes moments under a policy."""
    return Measure(policy.regions, policy.weight, policy.base_weight, bucket, fine_below)


def regions_of(policy: Policy) -> Regions:
    """An empty dictionary of the regions that a policy knows."""
    normalise: Callable[[str | None], str] | None = None
    if policy.regions["kind"] == "field":
        normalise = region_of_json
    return Regions(policy.shards, normalise)


def complete_ticks(batches: Iterator[pa.RecordBatch], regions: Regions) -> Iterator[Moments]:
    """Moments cut between two ticks, from batches cut anywhere."""
    held = Moments.empty()
    for batch in batches:
        rows = concat([held, Moments.from_arrow(batch, regions)])
        if not len(rows):
            continue
        cut = int(np.searchsorted(rows.tick, rows.tick[-1]))
        if cut:
            yield rows[:cut]
        held = rows[cut:]
    if len(held):
        yield held


def checked_policy(before: Branch, policy: Policy) -> State:
    """The state that a run under `policy` starts from. PolicyChange where the branch is bound to another one."""
    state = before.state
    if state.policy is None or Policy.from_json(state.policy).digest == policy.digest:
        return state
    if not state.commits:
        return replace(state, shards={}, watermark=None, folded=-1)
    own = Policy.from_json(state.policy)
    if state.runs == 0 and own.same_regions(policy) and own.layer == policy.layer:
        return state
    raise PolicyChange(
        f"branch {before.name} has commits under policy {own.digest[:12]}, which does not change: "
        f"use `ledger replay --fork NAME` with these options for a what-if, or `ledger fork` from an earlier commit"
    )


class RunFold:
    """The commits of one run. Iterate `tables`, then read `state`."""

    def __init__(self, repository: Repository, before: Branch, policy: Policy, run: Run) -> None:
        self._engine: Engine = repository.engine
        self._repository = repository
        self._before = before
        self._policy = policy
        self._run = run
        self._from = checked_policy(before, policy)
        self._segments = before.segments(run.sees)
        self._regions = regions_of(policy)
        self._heads = {
            int(shard): Head(each.head, each.commits - 1)
            for shard, each in self._from.shards.items()
            if each.head is not None
        }
        self._starts: dict[int, int | None] = {
            int(shard): each.start for shard, each in self._from.shards.items() if each.start is not None
        }
        self._watermark = self._from.watermark

    def tables(self) -> Iterator[pa.Table]:
        """Rows of `core.commit.COMMIT`, each shard's in the order of its chain, in batches."""
        if not self._segments:
            return
        yield from self._late()
        watermark = self._new_watermark()
        fold = Fold(self._policy.rule, self._regions, dict(self._starts), self._from.watermark)
        start = self._lowest_tick()
        reach = TickRange(start, None if self._run.force is not None else watermark)
        batches = self._engine.moments(self._segments, self._measure(), [reach])
        for rows in complete_ticks(batches, self._regions):
            if self._run.force is not None:
                rows = rows[self._regions.shard_of_code[rows.region] == self._run.force]
            yield from self._sealed(fold.feed(rows))
        if self._run.force is not None:
            yield from self._sealed(fold.force(self._run.force))
        else:
            closed, self._watermark = fold.finish(watermark, self._run.final)
            yield from self._sealed(closed)
        self._starts = {**self._starts, **fold.starts}

    @property
    def state(self) -> State:
        """The state after the run, once `tables` is exhausted."""
        shards = {}
        for shard in sorted({*self._starts, *self._heads}):
            head = self._heads.get(shard)
            shards[str(shard)] = ShardState(
                None if head is None else head.digest,
                0 if head is None else head.height + 1,
                self._starts.get(shard),
            )
        forced = self._run.force is not None
        return replace(
            self._from,
            shards=shards,
            watermark=self._watermark,
            policy=self._policy.to_json(),
            folded=self._from.folded if forced else self._run.sees,
            runs=self._from.runs + 1,
            final=self._from.final if forced else self._run.final,
        )

    def _late(self) -> Iterator[pa.Table]:
        late = LatePass(self._repository, self._before, self._from, self._policy, self._regions, self._segments)
        shards = None if self._run.force is None else {self._run.force}
        closed, policies, metadata = late.closed(shards)
        if len(closed):
            yield seal(closed, self._regions, self._heads, self._policy.layer, policies, metadata)

    def _sealed(self, closed: Closed) -> Iterator[pa.Table]:
        if len(closed):
            digests = [self._policy.digest] * len(closed)
            yield seal(closed, self._regions, self._heads, self._policy.layer, digests)

    def _new_watermark(self) -> int:
        if self._run.force is not None:
            return self._from.watermark or 0
        highest = max(segment.tick_max for segment in self._segments)
        reached = highest + 1 if self._run.final else highest - self._policy.lateness
        return reached if self._from.watermark is None else max(reached, self._from.watermark)

    def _lowest_tick(self) -> int | None:
        """From where rows are folded: the open epochs, and for shards not met yet all that was not folded."""
        starts = [start for start in self._starts.values() if start is not None]
        if self._from.watermark is None:
            return None
        if len(starts) < self._policy.shards:
            fresh = [s.tick_min for s in self._segments if s.arrival > self._from.folded]
            starts += [self._from.watermark, *fresh]
        return min(starts)

    def _measure(self) -> Measure:
        interval = self._policy.rule.interval
        if interval is None or self._run.force is not None:
            return measure_of(self._policy)
        uneven = [start for start in self._starts.values() if start is not None and start % interval]
        fine_below = max((start - start % interval + interval for start in uneven), default=0)
        return measure_of(self._policy, interval, fine_below)


def shard_of_region(policy: Policy, region: str) -> int:
    """The shard that a region belongs to under a policy."""
    return shard_of(region, policy.shards)
