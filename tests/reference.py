"""The commit rules once more, in plain integers: the oracle of the property tests.

Why it exists: the fast implementation folds columns inside a query engine. What it must agree with is
DESIGN.md, not itself, so this module says sections 1 to 3 again, independently, as literally as it can and as
slowly as it likes.

What must always hold: standard library and `rfc8785` only, nothing of `ledger_cli`; no float between the
rounding of a single value (`q`) and the printed statistics (`stats`).

Events are dictionaries in the JSON shape, with unique keys: deduplication and the bounds of ingest are not
tested against this module.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import uuid
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import rfc8785

Event = Mapping[str, Any]
Policy = Mapping[str, Any]
Bounds = tuple[int, int]

SCALE = 10**9
INT128_MIN, INT128_MAX = -(2**127), 2**127 - 1
OUTSIDE = "outside"


class Moments(NamedTuple):
    """`(n, Σq, Σq², Σw)` of one region in one epoch, exact (section 1, "moments")."""

    n: int
    q: int
    q2: int
    w: int


Entries = dict[str, Moments]
ZERO = Moments(0, 0, 0, 0)


class Stats(NamedTuple):
    """The only floats of a commit, each correctly rounded once (section 2.1)."""

    weight: float
    activity_mean: float
    activity_var: float


# --- values (sections 1 and 2.1) ------------------------------------------------------------------


def q(v: float) -> int:
    """`v × 10⁹` in binary64, rounded half to even: after this, sums are exact in any order (section 2.1)."""
    scaled = float(v) * 1e9
    if not math.isfinite(scaled):
        raise OverflowError(f"{v!r} is too large for an exact sum")
    return round(scaled)


def weight_of(policy: Policy, activity: float) -> float:
    """`base_weight × f(activity)`, in the one order of operations that section 2.1 fixes."""
    a = float(activity)
    weight = policy["weight"]
    match weight["kind"]:
        case "linear":
            f = a
        case "nonlinear":
            f = (float(weight["alpha"]) * a) + (float(weight["beta"]) * (a * a))
        case "softfloor":
            f = max(a, float(weight["epsilon"]))
        case kind:
            raise ValueError(f"unknown weight {kind!r}")
    return float(policy["baseWeight"]) * f


def moments_of(policy: Policy, activity: float) -> Moments:
    """The moments of a single event (section 2.1)."""
    a = q(activity)
    return checked(Moments(1, a, a * a, q(weight_of(policy, activity))))


def checked(moments: Moments) -> Moments:
    """Moments are signed 128-bit integers, and an overflow is an error, never a wrap (section 2.1)."""
    if min(moments) < INT128_MIN or max(moments) > INT128_MAX:
        raise OverflowError(f"{moments} do not fit into 128 bits")
    return moments


def plus(a: Moments, b: Moments) -> Moments:
    """Merging two moments is adding them (section 1)."""
    return checked(Moments(a.n + b.n, a.q + b.q, a.q2 + b.q2, a.w + b.w))


def minus(a: Moments, b: Moments) -> Moments:
    """What an amending commit holds: the exact difference (section 3, "Late ticks")."""
    return Moments(a.n - b.n, a.q - b.q, a.q2 - b.q2, a.w - b.w)


def stats(n: int, q: int, q2: int, w: int) -> Stats:
    """Weight, mean and population variance; a `Fraction` turns into the nearest float (section 2.1)."""
    return Stats(
        float(Fraction(w, SCALE)),
        float(Fraction(q, n * SCALE)),
        float(Fraction(n * q2 - q * q, n * n * SCALE * SCALE)),
    )


# --- regions and shards (section 1) ---------------------------------------------------------------


def region_of(policy: Policy, event: Event) -> str:
    """The region id of an event under the policy's region map (section 1, "region")."""
    regions = policy["regions"]
    match regions["kind"]:
        case "grid":
            return grid_region(float(event["x"]), float(event["y"]), float(regions["cell"]))
        case "quadtree":
            return quadtree_region(float(event["x"]), float(event["y"]), regions)
        case "field":
            return field_region(event, regions["name"])
        case kind:
            raise ValueError(f"unknown region map {kind!r}")


def grid_region(x: float, y: float, cell: float) -> str:
    """`{floor(x/cell)}:{floor(y/cell)}`; from 2⁵³ on, neighbouring cells are not told apart: `outside`."""
    u, v = x / cell, y / cell
    if abs(u) >= 2**53 or abs(v) >= 2**53:
        return OUTSIDE
    return f"{math.floor(u)}:{math.floor(v)}"


def quadtree_region(x: float, y: float, regions: Mapping[str, Any]) -> str:
    """`q` and one digit a level from the top, so that a parent's id is a prefix of its children's."""
    size, depth = float(regions["size"]), int(regions["depth"])
    u, v = (x - float(regions["x"])) / size, (y - float(regions["y"])) / size
    if not (0 <= u < 1 and 0 <= v < 1):
        return OUTSIDE
    column, row = math.floor(u * 2**depth), math.floor(v * 2**depth)
    levels = reversed(range(depth))
    return "q" + "".join(str((column >> level & 1) + 2 * (row >> level & 1)) for level in levels)


def field_region(event: Event, name: str) -> str:
    """A top-level key where present, else one of `meta`; what is not a string by its RFC 8785 text."""
    value = event[name] if name in event else (event.get("meta") or {}).get(name)
    if value is None:
        return "none"
    return value if isinstance(value, str) else rfc8785.dumps(value).decode()


def shard_of(policy: Policy, region: str) -> int:
    """zlib's crc32 of the UTF-8 region id, modulo shards (section 1, "shard")."""
    return zlib.crc32(region.encode()) % int(policy["shards"])


# --- digests and ids (section 2.2) ----------------------------------------------------------------


def sha256_of(value: Any) -> str:
    """Lower-case hex SHA-256 of the RFC 8785 text."""
    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()


def policy_digest(policy: Policy) -> str:
    """Everything that decides a commit, in one digest that is part of every commit (section 1, "policy")."""
    return sha256_of(dict(policy))


def entries_digest(entries: Mapping[str, Moments]) -> str:
    """Entries sorted by code point (as Python sorts text), integers as decimal strings (section 2.2)."""
    names = ("n", "activity", "activity2", "weight")
    return sha256_of(
        [{"region": region, **dict(zip(names, map(str, entries[region]), strict=True))} for region in sorted(entries)]
    )


def header_digest(
    *,
    layer: str,
    shard: int,
    epoch: Bounds,
    parents: Sequence[str],
    policy: str,
    entries: str,
    metadata: Mapping[str, Any],
) -> str:
    """The digest of a commit. Policy and entries enter as digests, so headers chain alone (section 2.2)."""
    return sha256_of(
        {
            "format": "ledger/1",
            "layer": layer,
            "shard": shard,
            "epochStart": str(epoch[0]),
            "epochEnd": str(epoch[1]),
            "parents": list(parents),
            "policy": policy,
            "entries": entries,
            "metadata": dict(metadata),
        }
    )


def commit_id(digest: str) -> str:
    """UUIDv8 of the first 16 bytes: version and variant bits replace six bits of the digest (section 2.2)."""
    raw = bytearray(bytes.fromhex(digest)[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))


@dataclass(frozen=True)
class Commit:
    """Header and entries (section 2.2).

    `reason`, what closed the epoch, is beside the commit: outside the digest, and outside equality. It is one
    of max_interval, max_size, max_mean, max_variance, final, forced and late.
    """

    shard: int
    epoch_start: int
    epoch_end: int
    parents: tuple[str, ...]
    policy_digest: str
    metadata: dict[str, Any]
    entries: Entries
    digest: str
    commit_id: str
    reason: str = field(compare=False)

    @property
    def epoch(self) -> Bounds:
        """`[epoch_start, epoch_end)`; commits with equal bounds in one chain belong to one epoch."""
        return self.epoch_start, self.epoch_end


def make_commit(
    policy: Policy,
    shard: int,
    epoch: Bounds,
    parents: tuple[str, ...],
    entries: Entries,
    metadata: dict[str, Any],
    reason: str,
) -> Commit:
    """Section 2.2 put together."""
    policy_hex = policy_digest(policy)
    digest = header_digest(
        layer=policy["layer"],
        shard=shard,
        epoch=epoch,
        parents=parents,
        policy=policy_hex,
        entries=entries_digest(entries),
        metadata=metadata,
    )
    return Commit(shard, *epoch, parents, policy_hex, metadata, entries, digest, commit_id(digest), reason)


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
