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
from ledger_cli.core.history import ShardState, State
from ledger_cli.core.moments import Moments, Regions, concat
from ledger_cli.core.policy import Policy
from ledger_cli.services.late import LatePass
from ledger_cli.services.repository import Repository
from ledger_cli.services.scope import Scope


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


class RunFold:
    """The commits of one run. Iterate `tables`, then read `state`."""

    def __init__(self, repository: Repository, scope: Scope, begun: Iterator[pa.RecordBatch] | None = None) -> None:
        """`begun`: what `scope.begin` has given, where the engine is at work already."""
        self._repository = repository
        self._scope = scope
        self._begun = begun
        self._policy = scope.policy
        self._run = scope.run
        self._from = scope.state
        self._regions = regions_of(scope.policy)
        self._heads = {
            int(shard): Head(each.head, each.commits - 1)
            for shard, each in self._from.shards.items()
            if each.head is not None
        }
        self._starts = dict(scope.starts)
        self._watermark = self._from.watermark

    def tables(self) -> Iterator[pa.Table]:
        """Rows of `core.commit.COMMIT`, each shard's in the order of its chain, in batches."""
        if not self._scope.segments:
            return
        batches = self._scope.begin(self._repository.engine) if self._begun is None else self._begun
        yield from self._late()
        fold = Fold(self._policy.rule, self._regions, dict(self._starts), self._from.watermark)
        for rows in complete_ticks(batches, self._regions):
            if self._run.force is not None:
                rows = rows[self._regions.shard_of_code[rows.region] == self._run.force]
            yield from self._sealed(fold.feed(rows))
        if self._run.force is not None:
            yield from self._sealed(fold.force(self._run.force))
        else:
            watermark = self._scope.watermark
            assert watermark is not None
            closed, self._watermark = fold.finish(watermark, self._run.final)
            yield from self._sealed(closed)
        self._starts = {**self._starts, **fold.starts}

    def met(self, region: str) -> bool:
        """Whether a row fell into a region, once `tables` is exhausted."""
        return region in self._regions.names

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
        scope = self._scope
        late = LatePass(self._repository, scope.before, self._from, self._policy, self._regions, scope.segments)
        shards = None if self._run.force is None else {self._run.force}
        closed, policies, metadata = late.closed(shards)
        if len(closed):
            yield seal(closed, self._regions, self._heads, self._policy.layer, policies, metadata)

    def _sealed(self, closed: Closed) -> Iterator[pa.Table]:
        if len(closed):
            digests = [self._policy.digest] * len(closed)
            yield seal(closed, self._regions, self._heads, self._policy.layer, digests)
