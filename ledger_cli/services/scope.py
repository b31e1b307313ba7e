"""What a run of commit folds: light enough for the engine to be set to work before all else is imported."""

from __future__ import annotations

from dataclasses import replace

from ledger_cli.core.history import Run, State
from ledger_cli.core.policy import Policy
from ledger_cli.errors import PolicyChange
from ledger_cli.ports import Batches, Engine, Measure, TickRange
from ledger_cli.services.repository import Branch


def measure_of(policy: Policy, bucket: int = 1, fine_below: int = 0) -> Measure:
    """How the engine makes moments under a policy."""
    return Measure(policy.regions, policy.weight, policy.base_weight, bucket, fine_below)


def checked_policy(before: Branch, policy: Policy) -> State:
    """The state that a run under `policy` starts from. PolicyChange where the branch is bound to another one."""
    state, own = before.state, before.policy
    if own is None or own.digest == policy.digest:
        return state
    if not state.commits:
        return replace(state, shards={}, watermark=None, folded=-1)
    if state.runs == 0 and own.same_regions(policy) and own.layer == policy.layer:
        return state
    raise PolicyChange(
        f"branch {before.name} has commits under policy {own.digest[:12]}, which does not change: "
        f"use `ledger replay --fork NAME` with these options for a what-if, or `ledger fork` from an earlier commit"
    )


class Scope:
    """The rows of one run: from which state, which segments, which ticks, and how they are measured."""

    def __init__(self, before: Branch, policy: Policy, run: Run) -> None:
        """PolicyChange where the branch is bound to another policy."""
        self.before = before
        self.policy = policy
        self.run = run
        self.state = checked_policy(before, policy)
        self.segments = before.segments(run.sees)
        self.starts = {int(shard): each.start for shard, each in self.state.shards.items() if each.start is not None}

    def begin(self, engine: Engine) -> Batches:
        """Set the engine to work on the moments of the run."""
        reach = TickRange(self._lowest_tick(), None if self.run.force is not None else self.watermark)
        return engine.moments(self.segments, self._measure(), [reach])

    @property
    def watermark(self) -> int | None:
        """Up to where the run folds; None where the branch has no ticks yet. A forced close leaves it as it is."""
        before = self.state.watermark
        if self.run.force is not None or not self.segments:
            return before
        if self.run.watermark is not None:
            return self.run.watermark if before is None else max(self.run.watermark, before)
        highest = self._highest_tick()
        reached = highest + 1 if self.run.final else highest - self.policy.lateness
        return reached if before is None else max(reached, before)

    def _highest_tick(self) -> int:
        state = self.before.state
        if self.run.sees >= self.before.seq and state.highest_tick is not None:
            return state.highest_tick
        return max(segment.tick_max for segment in self.segments)

    def _lowest_tick(self) -> int | None:
        """From where rows are folded: the open epochs, and for shards not met yet all that was not folded."""
        starts = list(self.starts.values())
        if self.state.watermark is None:
            return None
        if len(starts) < self.policy.shards:
            fresh = [s.tick_min for s in self.segments if s.arrival > self.state.folded]
            starts += [self.state.watermark, *fresh]
        return min(starts)

    def _measure(self) -> Measure:
        interval = self.policy.rule.interval
        if interval is None or self.run.force is not None:
            return measure_of(self.policy)
        uneven = [start for start in self.starts.values() if start % interval]
        fine_below = max((start - start % interval + interval for start in uneven), default=0)
        return measure_of(self.policy, interval, fine_below)
