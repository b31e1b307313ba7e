"""Late ticks: making a shard's chain whole again below its open epoch (DESIGN, section 3).

Looked at are only the epochs and gaps that rows new to the branch fall into. An epoch whose rows hold more than
its commits gets one amending commit with the exact difference; rows that no epoch covers make plain commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

import numpy as np
import pyarrow as pa

from ledger_cli.core.fold import Closed
from ledger_cli.core.history import Segment, State
from ledger_cli.core.moments import SUMS, Ints, Moments, Regions, concat, limbs_of_integers
from ledger_cli.core.policy import Policy
from ledger_cli.core.slices import CommitSlice
from ledger_cli.errors import Corrupt
from ledger_cli.ports import Measure, TickRange
from ledger_cli.services.commits import policies_of, read_commits_with
from ledger_cli.services.repository import Branch, Repository

_BOUNDS = """
    SELECT DISTINCT shard, epoch_start, epoch_end FROM ticks
    ASOF JOIN (SELECT shard, epoch_start, epoch_end FROM {{commits}} WHERE epoch_start < epoch_end) AS each
    ON ticks.of_shard = each.shard AND ticks.tick {above} each.epoch_start"""
"""The nearest epoch of each tick's shard by its start; a commit of a merge, [W, W), covers no tick."""
_COVERING = _BOUNDS.format(above=">=")
_NEIGHBOURS = f"{_COVERING} UNION {_BOUNDS.format(above='<')}"
_FIRST = """
    SELECT shard, epoch_start, min(height) AS height, arg_min(commit_id, height) AS commit_id,
           arg_min(policy, height) AS policy
    FROM {commits} JOIN epochs USING (shard, epoch_start, epoch_end) GROUP BY shard, epoch_start"""
_HELD = (
    "SELECT epoch_start, unnest(entries) AS entry FROM {commits} SEMI JOIN epochs USING (shard, epoch_start, epoch_end)"
)


@dataclass(frozen=True)
class _Epochs:
    """Committed epochs of a shard, ascending: those that cover late ticks, and those next to the others."""

    start: Ints
    end: Ints

    @staticmethod
    def of(bounds: pa.Table, shard: int) -> _Epochs:
        """Those of a shard among rows (shard, epoch_start, epoch_end), which may repeat."""
        mine = bounds["shard"].to_numpy() == shard
        start, first = np.unique(bounds["epoch_start"].to_numpy()[mine], return_index=True)
        return _Epochs(start, bounds["epoch_end"].to_numpy()[mine][first])

    def covering(self, ticks: Ints) -> Ints:
        """For each tick, the index of the epoch that covers it, or −1 − index of the next one above."""
        above = np.searchsorted(self.start, ticks, side="right")
        covered = (above > 0) & (ticks < np.append(self.end, 0)[above - 1])
        return np.where(covered, above - 1, -1 - above)


@dataclass(frozen=True, order=True)
class _Unit:
    """One commit to be made: an epoch to be amended (`amends`: its first commit), or part of a gap."""

    shard: int
    start: int
    end: int
    policy: str
    amends: str | None = None


class LatePass:
    """What has come late on a branch. See `closed`."""

    def __init__(
        self,
        repository: Repository,
        before: Branch,
        state: State,
        policy: Policy,
        regions: Regions,
        segments: Sequence[Segment],
    ) -> None:
        self._repository = repository
        self._before = before
        self._state = state
        self._policy = policy
        self._regions = regions
        self._segments = segments

    def closed(self, shards: set[int] | None) -> tuple[Closed, list[str], list[dict[str, Any]]]:
        """The late commits, by shard in ascending epoch order, with the policy and metadata of each.

        `shards`: only these; None for all.
        """
        starts = {
            int(shard): each.start
            for shard, each in self._state.shards.items()
            if each.start is not None and (shards is None or int(shard) in shards)
        }
        ticks = self._late_ticks(starts)
        epochs = self._epochs(ticks)
        covered = {shard: epochs[shard].covering(late) for shard, late in ticks.items()}
        units = self._amends(epochs, covered)
        for shard, late in ticks.items():
            units += self._plain(shard, starts[shard], late, covered[shard], epochs[shard])
        units.sort()
        return self._differences(units) if units else (Closed(), [], [])

    def _late_ticks(self, starts: dict[int, int]) -> dict[int, Ints]:
        """By shard, the distinct ticks below its open epoch of rows that no run has looked at."""
        below = max(starts.values(), default=0)
        rows = concat(
            [
                self._moments(self._policy, [segment for segment in fresh if segment.tick_min < below], [reach])
                for fresh, reach in self._unseen(below)
            ]
        )
        shard_of_row = self._regions.shard_of_code[rows.region]
        found = {s: np.unique(rows.tick[(shard_of_row == s) & (rows.tick < start)]) for s, start in starts.items()}
        return {shard: ticks for shard, ticks in found.items() if len(ticks)}

    def _unseen(self, below: int) -> list[tuple[list[Segment], TickRange]]:
        """Segments that no run has looked at, and the ticks at which to look."""
        created, base = self._state.created, self._state.base
        # What came last is last.
        newest = takewhile(lambda segment: segment.arrival > self._state.folded, reversed(self._segments))
        fresh = list(newest)[::-1]
        if base is None:
            return [(fresh, TickRange(None, below))]
        own = [segment for segment in fresh if segment.arrival > created]
        parts = [(own, TickRange(None, below))]
        if base.look_again is not None and base.look_again < below:
            shared = [segment for segment in fresh if segment.arrival == created]
            parts.append((shared, TickRange(base.look_again, below)))
        return parts

    def _epochs(self, ticks: dict[int, Ints]) -> dict[int, _Epochs]:
        """By shard, the epochs that cover its late ticks, and those next to the ticks that none covers."""
        if not ticks:
            return {}
        low, high = min(int(late[0]) for late in ticks.values()), max(int(late[-1]) for late in ticks.values())
        bounds = self._bounds(_COVERING, self._meeting(low, high + 1), ticks)
        found = {shard: _Epochs.of(bounds, shard) for shard in ticks}
        rest = {shard: late[found[shard].covering(late) < 0] for shard, late in ticks.items()}
        rest = {shard: late for shard, late in rest.items() if len(late)}
        if not rest:
            return found
        # What is next to a tick may be in any file.
        bounds = pa.concat_tables([bounds, self._bounds(_NEIGHBOURS, self._slices, rest)])
        return {shard: _Epochs.of(bounds, shard) for shard in ticks}

    def _bounds(self, sql: str, slices: Sequence[CommitSlice], ticks: dict[int, Ints]) -> pa.Table:
        shards = np.repeat(list(ticks), [len(late) for late in ticks.values()])
        wanted = pa.table({"of_shard": shards.astype(np.int64), "tick": np.concatenate(list(ticks.values()))})
        none = pa.table({name: np.empty(0, dtype=np.int64) for name in ("shard", "epoch_start", "epoch_end")})
        return pa.concat_tables([none, *read_commits_with(self._repository, slices, sql, ticks=wanted)])

    @cached_property
    def _slices(self) -> list[CommitSlice]:
        return self._before.commit_slices()

    def _meeting(self, low: int, high: int) -> list[CommitSlice]:
        """The commits of the files that may hold an epoch which meets ticks of [low, high)."""
        return [each for each in self._slices if each.file.epoch_min < high and each.file.epoch_max > low]

    def _amends(self, epochs: dict[int, _Epochs], covered: dict[int, Ints]) -> list[_Unit]:
        """The covered epochs, each with the id and policy of its first commit."""
        wanted: dict[tuple[int, int], int] = {}
        for shard, place in covered.items():
            chosen = np.unique(place[place >= 0])
            start, end = epochs[shard].start[chosen].tolist(), epochs[shard].end[chosen].tolist()
            wanted |= {(shard, first): last for first, last in zip(start, end, strict=True)}
        if not wanted:
            return []
        units = [_Unit(shard, start, end, "") for (shard, start), end in wanted.items()]
        tables = read_commits_with(self._repository, self._reaching(units), _FIRST, epochs=_bounds_of(units))
        rows = pa.concat_tables(tables).sort_by("height").to_pylist()
        first: dict[tuple[int, int], dict[str, Any]] = {}
        for row in rows:
            first.setdefault((row["shard"], row["epoch_start"]), row)
        return [
            replace(unit, policy=row["policy"], amends=row["commit_id"])
            for unit in units
            for row in [first[unit.shard, unit.start]]
        ]

    def _plain(self, shard: int, open_start: int, ticks: Ints, place: Ints, epochs: _Epochs) -> Iterator[_Unit]:
        """Parts of the gaps that the ticks without an epoch fall into."""
        interval, digest = self._policy.rule.interval, self._policy.digest
        ticks, place = ticks[place < 0], -1 - place[place < 0]
        gaps, first = np.unique(place, return_index=True)
        for above, inside in zip(gaps.tolist(), np.split(ticks, first[1:]), strict=False):
            upper = int(epochs.start[above]) if above < len(epochs.start) else open_start
            lower = int(epochs.end[above - 1]) if above else None
            if interval is None:
                yield _Unit(shard, int(inside[0]) if lower is None else lower, upper, digest)
                continue
            for slot in np.unique(inside - inside % interval).tolist():
                start = slot if lower is None else max(slot, lower)
                yield _Unit(shard, start, min(slot + interval, upper), digest)

    def _differences(self, units: list[_Unit]) -> tuple[Closed, list[str], list[dict[str, Any]]]:
        known = {**policies_of(self._before), self._policy.digest: self._policy}
        parts, keys = [], []
        for digest in dict.fromkeys(unit.policy for unit in units):
            if digest not in known:
                raise Corrupt(
                    f"no move records the policy {digest[:12]} that commits of {self._before.name} were made under: "
                    f"a move was changed, `ledger verify` names it"
                )
            mine = [unit for unit in units if unit.policy == digest]
            rows = self._moments(known[digest], self._segments, _merged(mine))
            committed = self._committed([unit for unit in mine if unit.amends is not None])
            for part in (rows, committed):
                place = self._places(units, part, digest)
                parts.append(part[place >= 0])
                keys.append(place[place >= 0])
        rows = concat(parts)
        summed, key = rows.grouped(np.concatenate(keys), self._regions.ranks[rows.region])
        differs = (summed.n != 0) | summed.limbs.any(axis=(1, 2))
        summed, key = summed[differs], key[differs]
        made = [units[i] for i in np.unique(key).tolist()]
        closed = Closed(
            [unit.shard for unit in made],
            [unit.start for unit in made],
            [unit.end for unit in made],
            ["late" if unit.amends is None else "amends" for unit in made],
            summed,
            np.append(np.flatnonzero(np.r_[True, key[1:] != key[:-1]][: len(key)]), len(key)),
        )
        metadata = [{} if unit.amends is None else {"amends": unit.amends} for unit in made]
        return closed, [unit.policy for unit in made], metadata

    def _places(self, units: list[_Unit], rows: Moments, policy: str) -> Ints:
        """The index of the unit under `policy` that each row belongs to, −1 for none."""
        place = np.full(len(rows), -1, dtype=np.int64)
        shard_of_row = self._regions.shard_of_code[rows.region]
        for shard in {unit.shard for unit in units}:
            mine = [i for i, unit in enumerate(units) if unit.shard == shard]
            start = np.array([units[i].start for i in mine])
            end = np.array([units[i].end for i in mine])
            wanted = np.array([units[i].policy == policy for i in mine])
            at = np.searchsorted(start, rows.tick, side="right") - 1
            inside = (at >= 0) & (shard_of_row == shard) & (rows.tick < end[at]) & wanted[at]
            place[inside] = np.array(mine)[at[inside]]
        return place

    def _committed(self, units: list[_Unit]) -> Moments:
        """What the commits of the units hold, as negative rows at the start of their epochs."""
        if not units:
            return Moments.empty()
        tables = read_commits_with(self._repository, self._reaching(units), _HELD, epochs=_bounds_of(units))
        table = pa.concat_tables(tables)
        if not table.num_rows:
            return Moments.empty()
        entry = table["entry"].combine_chunks()
        sums = [limbs_of_integers(-int(text) for text in entry.field(name).to_pylist()) for name in SUMS]
        return Moments(
            self._regions.encode_ids(entry.field("region")),
            table["epoch_start"].to_numpy(),
            -entry.field("n").to_numpy(),
            np.stack(sums, axis=1),
        )

    def _reaching(self, units: Sequence[_Unit]) -> list[CommitSlice]:
        return self._meeting(min(unit.start for unit in units), max(unit.end for unit in units))

    def _moments(self, policy: Policy, segments: Sequence[Segment], ranges: Sequence[TickRange]) -> Moments:
        measure = Measure(policy.regions, policy.weight, policy.base_weight)
        batches = self._repository.engine.moments(segments, measure, ranges)
        return concat(Moments.from_arrow(batch, self._regions) for batch in batches)


def _bounds_of(units: Sequence[_Unit]) -> pa.Table:
    return pa.table(
        {
            "shard": pa.array([unit.shard for unit in units], pa.int64()),
            "epoch_start": pa.array([unit.start for unit in units], pa.int64()),
            "epoch_end": pa.array([unit.end for unit in units], pa.int64()),
        }
    )


def _merged(units: Iterable[_Unit]) -> list[TickRange]:
    """The ranges of ticks of the units, overlapping ones made one."""
    ranges: list[tuple[int, int]] = []
    for start, end in sorted((unit.start, unit.end) for unit in units):
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((start, end))
    return [TickRange(start, end) for start, end in ranges]
