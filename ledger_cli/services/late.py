"""Late ticks: making a shard's chain whole again below its open epoch (DESIGN, section 3).

Looked at are only the epochs and gaps that rows new to the branch fall into. An epoch whose rows hold more than
its commits gets one amending commit with the exact difference; rows that no epoch covers make plain commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from ledger_cli.core.fold import Closed
from ledger_cli.core.history import Segment, State
from ledger_cli.core.moments import SUMS, Ints, Moments, Regions, concat, limbs_of_integers
from ledger_cli.core.policy import Policy
from ledger_cli.ports import Measure, TickRange
from ledger_cli.services.commits import policies_of, read_commits
from ledger_cli.services.repository import Branch, Repository


@dataclass(frozen=True)
class _Epochs:
    """The committed epochs of a shard, ascending: bounds, and id and policy of the first commit of each."""

    start: Ints
    end: Ints
    commit_id: list[str]
    policy: list[str]

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
        units = sorted(unit for shard in ticks for unit in self._units(shard, starts[shard], ticks[shard]))
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
        fresh = [segment for segment in self._segments if segment.arrival > self._state.folded]
        if base is None:
            return [(fresh, TickRange(None, below))]
        own = [segment for segment in fresh if segment.arrival > created]
        parts = [(own, TickRange(None, below))]
        if base.look_again is not None and base.look_again < below:
            shared = [segment for segment in fresh if segment.arrival == created]
            parts.append((shared, TickRange(base.look_again, below)))
        return parts

    def _units(self, shard: int, open_start: int, ticks: Ints) -> list[_Unit]:
        epochs = self._epochs.get(shard, _Epochs(ticks[:0], ticks[:0], [], []))
        place = epochs.covering(ticks)
        units = [
            _Unit(shard, int(epochs.start[i]), int(epochs.end[i]), epochs.policy[i], epochs.commit_id[i])
            for i in np.unique(place[place >= 0]).tolist()
        ]
        interval, digest = self._policy.rule.interval, self._policy.digest
        for above in np.unique(-1 - place[place < 0]).tolist():
            inside = ticks[place == -1 - above]
            upper = int(epochs.start[above]) if above < len(epochs.start) else open_start
            lower = int(epochs.end[above - 1]) if above else None
            if interval is None:
                units.append(_Unit(shard, int(inside[0]) if lower is None else lower, upper, digest))
                continue
            for slot in np.unique(inside - inside % interval).tolist():
                start = slot if lower is None else max(slot, lower)
                units.append(_Unit(shard, start, min(slot + interval, upper), digest))
        return units

    @cached_property
    def _epochs(self) -> dict[int, _Epochs]:
        columns = ["shard", "epoch_start", "epoch_end", "height", "commit_id", "policy"]
        headers = read_commits(self._repository, self._before, columns, "epoch_end > epoch_start")
        headers = headers.sort_by([("shard", "ascending"), ("epoch_start", "ascending"), ("height", "ascending")])
        shard, start, end = (headers[name].to_numpy() for name in columns[:3])
        first = np.r_[True, (shard[1:] != shard[:-1]) | (start[1:] != start[:-1])][: len(shard)]
        headers = headers.filter(pa.array(first))
        shard, start, end = shard[first], start[first], end[first]
        ids, policies = headers["commit_id"].to_pylist(), headers["policy"].to_pylist()
        found = {}
        for each in np.unique(shard).tolist():
            low, high = np.searchsorted(shard, [each, each + 1]).tolist()
            found[each] = _Epochs(start[low:high], end[low:high], ids[low:high], policies[low:high])
        return found

    def _differences(self, units: list[_Unit]) -> tuple[Closed, list[str], list[dict[str, Any]]]:
        known = {**policies_of(self._before), self._policy.digest: self._policy}
        parts, keys = [], []
        for digest in dict.fromkeys(unit.policy for unit in units):
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
        condition = " OR ".join(
            f"(shard = {unit.shard} AND epoch_start = {unit.start} AND epoch_end = {unit.end})" for unit in units
        )
        table = read_commits(
            self._repository, self._before, ["epoch_start", "unnest(entries) AS entry"], f"({condition})"
        )
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

    def _moments(self, policy: Policy, segments: Sequence[Segment], ranges: Sequence[TickRange]) -> Moments:
        measure = Measure(policy.regions, policy.weight, policy.base_weight)
        batches = self._repository.engine.moments(segments, measure, ranges)
        return concat(Moments.from_arrow(batch, self._regions) for batch in batches)


def _merged(units: Iterable[_Unit]) -> list[TickRange]:
    """The ranges of ticks of the units, overlapping ones made one."""
    ranges: list[tuple[int, int]] = []
    for start, end in sorted((unit.start, unit.end) for unit in units):
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((start, end))
    return [TickRange(start, end) for start, end in ranges]
