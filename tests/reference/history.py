"""When commits fall: strategies, watermarks, late ticks, forks (section 3)."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import rfc8785

from tests.reference.commits import (
    SCALE,
    ZERO,
    Bounds,
    Commit,
    Entries,
    Event,
    Moments,
    Policy,
    make_commit,
    minus,
    moments_of,
    plus,
    policy_digest,
    region_of,
    shard_of,
)

# --- strategies (the table of section 3) ----------------------------------------------------------


def decimal_of(value: float | None) -> Fraction | None:
    """A threshold as the decimal that was written: 0.3 is 3/10, by its RFC 8785 text (section 3)."""
    return None if value is None else Fraction(rfc8785.dumps(value).decode())


@dataclass(frozen=True)
class Strategy:
    """A row of the table in section 3. `grid` marks fixed, whose epochs end at multiples of the interval."""

    grid: bool
    min_interval: int
    max_interval: int | None
    max_size: Fraction | None
    max_mean: Fraction | None
    max_variance: Fraction | None

    def first_start(self, first_tick: int) -> int:
        """Where the first epoch of a shard starts."""
        return first_tick - first_tick % self.max_interval if self.grid and self.max_interval else first_tick

    def cap(self, start: int) -> int | None:
        """The tick at which an epoch from `start` must end.

        With fixed that is the next multiple of the interval, whatever `start` is, so that neither a forced
        close nor a fork shifts the grid.
        """
        if self.max_interval is None:
            return None
        return self.first_start(start) + self.max_interval

    def gap_epoch(self, tick: int, below: int | None, above: int, lowest: int) -> Bounds:
        """The epoch of a late row that no committed epoch covers, in the gap from `below` to `above`.

        `below` is None where no epoch lies below. There it starts at `lowest`, the lowest such tick, but with
        fixed at a multiple of the interval, as nothing cuts the interval short.
        """
        if not self.grid or self.max_interval is None:
            return (lowest if below is None else below), above
        first = self.first_start(tick)
        return (first if below is None else max(first, below)), min(first + self.max_interval, above)

    def passed(self, open_epoch: Entries) -> str | None:
        """The name of a threshold that the accumulator passes, strictly and exactly, or None."""
        if self.max_size is not None and sum(m.n for m in open_epoch.values()) > self.max_size:
            return "max_size"
        for m in open_epoch.values():
            if self.max_mean is not None and Fraction(m.q, m.n * SCALE) > self.max_mean:
                return "max_mean"
            variance = Fraction(m.n * m.q2 - m.q * m.q, (m.n * SCALE) ** 2)
            if self.max_variance is not None and variance > self.max_variance:
                return "max_variance"
        return None


def strategy_of(policy: Policy) -> Strategy:
    """Read the table of section 3; what is not set in the policy is not there."""
    given = policy["strategy"]
    kind = given["kind"]
    if kind == "fixed":
        return Strategy(True, 1, int(given["interval"]), None, None, None)
    if kind not in ("adaptive", "hybrid"):
        raise ValueError(f"unknown strategy {kind!r}")
    thresholds = [decimal_of(given.get(name)) for name in ("maxSize", "maxMean", "maxVariance")]
    if kind == "adaptive":
        return Strategy(False, 1, None, *thresholds)
    longest = given.get("maxInterval")
    return Strategy(False, int(given["minInterval"]), None if longest is None else int(longest), *thresholds)


# --- a shard: rows, chain, open epoch (section 3) -------------------------------------------------


class Row(NamedTuple):
    """What a commit needs of an event. The weight is left to the policy, which a fork may change."""

    tick: int
    region: str
    activity: float


def total(parts: Iterable[tuple[str, Moments]]) -> Entries:
    """Add moments up per region; any order gives the same integers (section 2.1)."""
    entries: Entries = {}
    for region, moments in parts:
        entries[region] = plus(entries.get(region, ZERO), moments)
    return entries


def fold(policy: Policy, rows: Iterable[Row]) -> Entries:
    """What rows come to under a policy."""
    return total((row.region, moments_of(policy, row.activity)) for row in rows)


def merged(commits: Iterable[Commit]) -> Entries:
    """What commits hold together."""
    return total(entry for commit in commits for entry in commit.entries.items())


def difference(rows: Entries, committed: Entries) -> Entries:
    """What rows hold beyond commits; regions without a difference are left out (section 3, "Late ticks")."""
    left = {region: minus(moments, committed.get(region, ZERO)) for region, moments in rows.items()}
    return {region: moments for region, moments in left.items() if moments != ZERO}


@dataclass
class Shard:
    """The rows and the chain of one shard; `start` is None until a run has seen a first tick."""

    number: int
    rows: list[Row] = field(default_factory=list)
    chain: list[Commit] = field(default_factory=list)
    start: int | None = None
    open_epoch: Entries = field(default_factory=dict)

    def rows_of(self, low: int, high: int) -> list[Row]:
        """The visible rows of `[low, high)`."""
        return [row for row in self.rows if low <= row.tick < high]

    def ticks_of(self, low: int, high: int) -> list[tuple[int, list[Row]]]:
        """The same by tick, ascending: a tick is added whole before anything is decided (section 3)."""
        by_tick: dict[int, list[Row]] = defaultdict(list)
        for row in self.rows_of(low, high):
            by_tick[row.tick].append(row)
        return sorted(by_tick.items())

    def epochs(self) -> dict[Bounds, list[Commit]]:
        """The committed epochs, each with its first commit and then its amending ones."""
        epochs: dict[Bounds, list[Commit]] = defaultdict(list)
        for commit in self.chain:
            epochs[commit.epoch].append(commit)
        return dict(epochs)

    def uncovered(self, low: int) -> list[Row]:
        """The rows below `low` that no committed epoch covers."""
        epochs = list(self.epochs())
        late = (row for row in self.rows if row.tick < low)
        return [row for row in late if not any(start <= row.tick < end for start, end in epochs)]


def cut(chain: Sequence[Commit], end: int) -> tuple[Commit, ...]:
    """A chain before its first commit that ends above `end` (section 3, forks).

    Late commits behind that one go too, even if they end below: a chain has no holes.
    """
    return tuple(itertools.takewhile(lambda commit: commit.epoch_end <= end, chain))


# --- a branch (section 3) -------------------------------------------------------------------------


@dataclass(frozen=True)
class Move:
    """What a fork needs of a ref move: the chains after it, and the watermark (section 3)."""

    chains: dict[int, tuple[Commit, ...]]
    watermark: int | None

    def cut(self, end: int | None) -> Move:
        """What is left of it under a cut at `end`, where None cuts nothing; `W` is at most this move's."""
        if end is None:
            return self
        chains = {number: cut(chain, end) for number, chain in self.chains.items()}
        return Move(chains, None if self.watermark is None else min(end, self.watermark))


class Branch:
    """One line of history: policy, visible events in order of arrival, a chain per shard, watermark `W`."""

    def __init__(self, policy: Policy) -> None:
        self.policy: Policy = policy
        self.strategy = strategy_of(policy)
        self.policies: dict[str, Policy] = {policy_digest(policy): policy}
        self.events: list[Event] = []
        self.shards = [Shard(number) for number in range(int(policy["shards"]))]
        self.watermark: int | None = None
        self.moves: list[Move] = []

    @property
    def commits(self) -> list[Commit]:
        """All commits, shard by shard, each chain from its first commit on."""
        return [commit for shard in self.shards for commit in shard.chain]

    @property
    def heads(self) -> dict[int, str]:
        """The id of the last commit of each shard that has one."""
        return {shard.number: shard.chain[-1].commit_id for shard in self.shards if shard.chain}

    # the four acts

    def ingest(self, events: Iterable[Event]) -> None:
        """Make events visible. Nothing is committed: when it is, is the next run's decision."""
        for event in events:
            region = region_of(self.policy, event)
            shard = self.shards[shard_of(self.policy, region)]
            shard.rows.append(Row(int(event["tickId"]), region, float(event["activity"])))
            self.events.append(event)

    def run(self, *, final: bool = False) -> list[Commit]:
        """A run of `ledger commit`: fold what is below the new watermark; return the commits made.

        After an error the branch is of no further use: unlike a ledger, the model does not undo (2.4).
        """
        known = len_by_shard(self.shards)
        previous, self.watermark = self.watermark, self._next_watermark(final=final)
        if self.watermark is not None:
            for shard in self.shards:
                self._make_whole(shard)
                self._fold(shard, previous, self.watermark)
            if final:
                self._close_all(self.watermark)
        return self._moved(known)

    def force(self, region: str) -> list[Commit]:
        """Close the open epoch of the region's shard at the shard's last tick + 1, complete or not.

        It is a fold like any other, only further: the chain is made whole first, and thresholds and caps hold
        on the way. `W` stays, as a close of one shard does not say what is complete, and so do the other
        shards. Closing again without news closes nothing (section 3).
        """
        known = len_by_shard(self.shards)
        shard = self.shards[shard_of(self.policy, region)]
        if shard.rows:
            end = max(row.tick for row in shard.rows) + 1
            self._make_whole(shard)
            self._fold(shard, self.watermark, end)
            self._close(shard, end, "forced")
        return self._moved(known)

    def fork(self, at: int | str | None = None, policy: Policy | None = None) -> Branch:
        """A new branch from a tick, from a commit (by id), or from the head (None); no run is made on it.

        It sees all of the parent's events, and commits again what the cut took off (section 3).
        """
        policy = self.policy if policy is None else policy
        if policy["layer"] != self.policy["layer"]:
            raise ValueError("a fork keeps the layer of its parent")
        moves, end = self._origin(at)
        branch = Branch(policy)
        branch.policies = self.policies | branch.policies
        branch.ingest(self.events)
        # Another region map or number of shards starts from the first tick: no chain can be shared.
        if (policy["regions"], policy["shards"]) == (self.policy["regions"], self.policy["shards"]):
            branch._inherit(moves, end)
        branch._moved(len_by_shard(branch.shards))
        return branch

    # watermark and moves

    def _next_watermark(self, *, final: bool) -> int | None:
        """Highest tick of the branch, in any shard, less the lateness, and never back (section 3)."""
        highest = max((int(event["tickId"]) for event in self.events), default=None)
        if highest is None:
            return self.watermark
        complete = highest + 1 if final else highest - int(self.policy["lateness"])
        return complete if self.watermark is None else max(self.watermark, complete)

    def _moved(self, known: Mapping[int, int]) -> list[Commit]:
        """Record the move, also one that made no commit, and return what it added (section 2.3)."""
        self.moves.append(Move({s.number: tuple(s.chain) for s in self.shards}, self.watermark))
        return [commit for shard in self.shards for commit in shard.chain[known[shard.number] :]]

    def _inherit(self, moves: Sequence[Move], end: int | None) -> None:
        """Take over the parent's chains up to the cut, and the moves that made what is left of them.

        So a fork of this fork, from a commit that it shares with its parent, starts at the parent's move.
        """
        self.moves = [move.cut(end) for move in moves]
        if not moves:
            return
        latest = self.moves[-1]
        self.watermark = latest.watermark
        for shard in self.shards:
            shard.chain = list(latest.chains[shard.number])
            shard.start = max((commit.epoch_end for commit in shard.chain), default=None)

    def _origin(self, at: int | str | None) -> tuple[list[Move], int | None]:
        """The moves up to the one that a fork starts at, and the end it cuts at (section 3).

        From a tick or the head that is the latest move, from a commit the one that made it.
        """
        if not isinstance(at, str):
            return self.moves, at
        end = next((commit.epoch_end for commit in self.commits if commit.commit_id == at), None)
        if end is None:
            raise LookupError(f"no commit {at} on this branch")
        for count, move in enumerate(self.moves, start=1):
            if any(commit.commit_id == at for chain in move.chains.values() for commit in chain):
                return self.moves[:count], end
        raise AssertionError("every commit of a branch is in one of its moves")

    # the fold

    def _fold(self, shard: Shard, previous: int | None, end: int) -> None:
        """Fold the rows of `[start, end)`, and end the epoch at its cap where `end` reaches it (section 3).

        What is open is added again from the rows, but below the previous watermark no threshold is decided.
        """
        shard.open_epoch = {}
        if shard.start is None:
            first = min((row.tick for row in shard.rows if row.tick < end), default=None)
            if first is None:
                return
            shard.start = self.strategy.first_start(first)
        for tick, rows in shard.ticks_of(shard.start, end):
            self._move_on(shard, tick)
            for region, moments in fold(self.policy, rows).items():
                shard.open_epoch[region] = plus(shard.open_epoch.get(region, ZERO), moments)
            if previous is None or tick >= previous:
                self._decide(shard, tick)
        self._move_on(shard, end)

    def _move_on(self, shard: Shard, tick: int) -> None:
        """Where `tick` reaches the cap, close there and move `start` on by whole intervals (section 3)."""
        if shard.start is None or self.strategy.max_interval is None:
            return
        cap = self.strategy.cap(shard.start)
        if cap is not None and tick >= cap:
            self._close(shard, cap, "max_interval")
            shard.start = tick - (tick - cap) % self.strategy.max_interval

    def _decide(self, shard: Shard, tick: int) -> None:
        """After a tick: close behind it where the epoch is long enough and a threshold is passed."""
        if shard.start is None or tick + 1 - shard.start < self.strategy.min_interval:
            return
        reason = self.strategy.passed(shard.open_epoch)
        if reason is not None:
            self._close(shard, tick + 1, reason)

    def _close(self, shard: Shard, end: int, reason: str) -> None:
        """Close `[start, end)`; an empty open epoch makes no commit and is left alone (section 3)."""
        if shard.start is None or not shard.open_epoch:
            return
        self._commit(shard, self.policy, (shard.start, end), shard.open_epoch, {}, reason)
        shard.start, shard.open_epoch = end, {}

    def _close_all(self, watermark: int) -> None:
        """`--final`: close what is open, lift `W` to the highest end so closed, move empty epochs on.

        The last keeps a run without news from changing anything (section 3).
        """
        for shard in self.shards:
            if shard.start is None or not shard.open_epoch:
                continue
            cap = self.strategy.cap(shard.start)
            end = max(row.tick for row in shard.rows) + 1 if cap is None else cap
            self._close(shard, end, "final")
            watermark = max(watermark, end)
        self.watermark = watermark
        for shard in self.shards:
            self._move_on(shard, watermark)

    # late rows

    def _make_whole(self, shard: Shard) -> None:
        """Let the chain below `start` hold what its rows hold, epochs ascending (section 3, "Late ticks")."""
        if shard.start is None:
            return
        found = {**self._amendments(shard), **self._gaps(shard, shard.start)}
        for epoch in sorted(found):
            policy, entries, metadata = found[epoch]
            self._commit(shard, policy, epoch, entries, metadata, "late")

    def _amendments(self, shard: Shard) -> dict[Bounds, tuple[Policy, Entries, dict[str, Any]]]:
        """For each epoch whose rows hold more than its commits: the difference.

        It is counted, and signed, under the policy of the epoch's first commit: what a fork has since changed
        cannot change the weight of an epoch that it shares.
        """
        found: dict[Bounds, tuple[Policy, Entries, dict[str, Any]]] = {}
        for epoch, commits in shard.epochs().items():
            policy = self.policies[commits[0].policy_digest]
            held = fold(policy, shard.rows_of(*epoch))
            missing = difference(held, merged(commits))
            if missing:
                found[epoch] = policy, missing, {"amends": commits[0].commit_id}
        return found

    def _gaps(self, shard: Shard, start: int) -> dict[Bounds, tuple[Policy, Entries, dict[str, Any]]]:
        """For rows below `start` in no epoch: plain commits over their gaps, under the branch's policy."""
        rows = shard.uncovered(start)
        epochs = list(shard.epochs())
        lowest = min((row.tick for row in rows), default=start)
        by_epoch: dict[Bounds, list[Row]] = defaultdict(list)
        for row in rows:
            below = max((end for _, end in epochs if end <= row.tick), default=None)
            above = min((first for first, _ in epochs if first > row.tick), default=start)
            by_epoch[self.strategy.gap_epoch(row.tick, below, above, lowest)].append(row)
        return {epoch: (self.policy, fold(self.policy, late), {}) for epoch, late in by_epoch.items()}

    def _commit(
        self,
        shard: Shard,
        policy: Policy,
        epoch: Bounds,
        entries: Entries,
        metadata: dict[str, Any],
        reason: str,
    ) -> None:
        """Append to the shard's chain; the parent is the shard's head (section 2.2)."""
        parents = (shard.chain[-1].digest,) if shard.chain else ()
        shard.chain.append(make_commit(policy, shard.number, epoch, parents, entries, metadata, reason))


def len_by_shard(shards: Iterable[Shard]) -> dict[int, int]:
    """How long each chain is, so that what a move added can be told."""
    return {shard.number: len(shard.chain) for shard in shards}
