"""Gamma over time: frames for a slider, in one pass over the commits (two more with a window).

Each frame is gamma with `--at` its tick. A commit belongs to the first frame whose tick is not below any end
in its chain up to it, so that late commits come with those that they follow. The engine adds up, exactly,
what each frame has more than the one before; here that is summed on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ledger_cli.core import statistics
from ledger_cli.core.gamma_view import GammaFrame, GammaRow, GammaView, gamma_title
from ledger_cli.core.geometry import Bounds, cell_bounds
from ledger_cli.core.moments import Ints
from ledger_cli.core.slices import by_condition
from ledger_cli.services.gamma import GammaAt, GammaPlace, check_options, place_of
from ledger_cli.services.repository import Repository
from ledger_cli.services.tiles import decay, fold_source, fold_sql, region_condition, sums_of

FRAMES_MAX = 200
ROWS_MAX = 400_000
"""Of all frames together: with many regions there are fewer frames, since nobody could open a larger page."""


def gamma_view(
    repository: Repository,
    branch: str,
    region: str | None = None,
    at: GammaAt | None = None,
    half_life: int | None = None,
    window: int | None = None,
    frames: int = FRAMES_MAX,
    last: int | None = None,
) -> GammaView:
    """At most `frames` frames, evenly spread over the history up to a place, the latest always among them.

    `last`: spread only over so many of the latest ends of epochs. The other options are those of `gamma`.
    """
    check_options(half_life, window)
    place = place_of(repository, branch, at)
    times = _timeline(repository, place, max(1, frames), last)
    reader = _Reader(repository, place, times, region, half_life)
    changes = reader.changes(times.enters, None)
    joining = changes if window is None else reader.changes(times.enters, times.leaves(window))
    leaving = {} if window is None else reader.changes(times.leaves(window), None, after=times.enters)
    regions = len({change.region for each in changes.values() for change in each})
    shown = set(_spread(len(times.ticks), ROWS_MAX // max(1, regions)).tolist())
    policy = place.branch.policy
    totals = _Totals(half_life, {} if policy is None else policy.regions)
    made = []
    for index, tick in enumerate(times.ticks.tolist()):
        totals.add(changes.get(index, []), tick)
        totals.pool(joining.get(index, []), 1)
        totals.pool(leaving.get(index, []), -1)
        if index in shown:
            made.append(GammaFrame(times.labels[index], tick, totals.rows(tick)))
    return GammaView(gamma_title(branch, half_life), tuple(made))


@dataclass(frozen=True)
class _Timeline:
    """The commits at a place, one row each, and the ticks of the frames, ascending."""

    shard: Ints
    height: Ints
    end: Ints
    enters: Ints
    """The first frame that each commit belongs to."""
    ticks: Ints
    labels: list[str]
    """For each frame, the id of a commit that ends at its tick."""

    def leaves(self, window: int) -> Ints:
        """The first frame whose window does not hold the commit any more."""
        return np.searchsorted(self.ticks, self.end + window)


@dataclass(frozen=True)
class _Change:
    """What commits add to a region. `last`: height, id, end, mean and variance of the last of them."""

    region: str
    n: int
    activity: int
    activity2: int
    weight: int
    decayed: float
    commits: int
    last: tuple[int, str, int, float, float]


class _Reader:
    """Adds up the entries of the commits at a place, by region and frame."""

    def __init__(
        self,
        repository: Repository,
        place: GammaPlace,
        times: _Timeline,
        region: str | None,
        half_life: int | None,
    ) -> None:
        self._engine = repository.engine
        self._files = by_condition(place.everything)
        self._times = times
        self._condition = region_condition("e.region", region)
        self._half_life = half_life

    def changes(self, frame: Ints, before: Ints | None, after: Ints | None = None) -> dict[int, list[_Change]]:
        """By frame, what its commits add up to; only of commits whose frame is before, or after, another."""
        times = self._times
        kept = frame < len(times.ticks)
        if before is not None:
            kept &= frame < before
        if after is not None:
            kept &= frame > after
        columns = {"shard": times.shard, "height": times.height, "frame": frame}
        places = {name: column[kept] for name, column in columns.items()}
        index = pa.table({**places, "frame_tick": times.ticks[places["frame"]]})
        half_lives = [] if self._half_life is None else [self._half_life]
        found: dict[int, list[_Change]] = defaultdict(list)
        for condition, files in self._files.items():
            source = fold_source(condition, "JOIN frames USING (shard, height)")
            sql = fold_sql(source, "frame_tick", half_lives, self._condition, key="frame")
            table = self._engine.over(files, sql, frames=index)
            for number, change in zip(table["frame"].to_pylist(), self._rows(table), strict=True):
                found[number].append(change)
        return found

    def _rows(self, table: pa.Table) -> Iterator[_Change]:
        sums = sums_of(table)
        last = ("last_height", "last_commit", "last_epoch_end", "last_mean", "last_var")
        decayed = [0.0] * len(table)
        if self._half_life is not None:
            decayed = table[f"decayed_{self._half_life}"].to_pylist()
        return map(
            _Change,
            table["region"].to_pylist(),
            table["n"].to_pylist(),
            sums["activity"],
            sums["activity2"],
            sums["weight"],
            decayed,
            table["commits"].to_pylist(),
            zip(*(table[name].to_pylist() for name in last), strict=True),
        )


@dataclass
class _Total:
    """What a region has come to. `decayed` is as of tick `reference`, `pooled` n, Σq, Σq² of the window."""

    bounds: Bounds | None
    reference: int
    weight: int = 0
    count: int = 0
    commits: int = 0
    decayed: float = 0.0
    last: tuple[int, str, int, float, float] = (-1, "", 0, 0.0, 0.0)
    pooled: tuple[int, int, int] = (0, 0, 0)


class _Totals:
    """Gamma of all regions, summed on from frame to frame."""

    def __init__(self, half_life: int | None, region_map: Mapping[str, object]) -> None:
        self._half_life = half_life
        self._region_map = region_map
        self._totals: dict[str, _Total] = {}

    def add(self, changes: list[_Change], tick: int) -> None:
        """Commits up to a tick, to which their decayed weights refer."""
        for change in changes:
            total = self._totals.get(change.region)
            if total is None:
                total = _Total(cell_bounds(self._region_map, change.region), tick)
                self._totals[change.region] = total
            total.decayed = self._decayed(total, tick) + change.decayed
            total.reference = tick
            total.weight += change.weight
            total.count += change.n
            total.commits += change.commits
            total.last = max(total.last, change.last)

    def pool(self, changes: list[_Change], sign: int) -> None:
        """Commits that the window takes in (1) or leaves behind (-1)."""
        for change in changes:
            total = self._totals[change.region]
            n, activity, activity2 = total.pooled
            total.pooled = (
                n + sign * change.n,
                activity + sign * change.activity,
                activity2 + sign * change.activity2,
            )

    def rows(self, tick: int) -> tuple[GammaRow, ...]:
        """As shown at a tick, by region id."""
        return tuple(self._row(region, total, tick) for region, total in sorted(self._totals.items(), key=_first))

    def _row(self, region: str, total: _Total, tick: int) -> GammaRow:
        _, commit, end, mean, variance = total.last
        decayed = self._half_life is not None
        return GammaRow(
            region=region,
            weight=self._decayed(total, tick) if decayed else statistics.weight(total.weight),
            activity_mean=mean,
            activity_var=variance,
            pooled_mean=statistics.mean(*total.pooled[:2]) if total.pooled[0] else None,
            pooled_var=statistics.variance(*total.pooled) if total.pooled[0] else None,
            count=total.count,
            commits=total.commits,
            last_commit=commit,
            last_epoch_end=end,
            bounds=total.bounds,
        )

    def _decayed(self, total: _Total, tick: int) -> float:
        return 0.0 if self._half_life is None else total.decayed * decay(tick - total.reference, self._half_life)


def _first(item: tuple[str, _Total]) -> str:
    return item[0]


def _timeline(repository: Repository, place: GammaPlace, frames: int, last: int | None) -> _Timeline:
    """Read the headers of all commits at a place and choose the ticks of the frames."""
    columns = "shard, height, epoch_end, commit_id"
    tables = []
    for condition, files in by_condition(place.everything).items():
        where = f" WHERE {condition}" if condition else ""
        tables.append(repository.engine.over(files, f"SELECT {columns} FROM files{where}", headers=True))
    if not tables:
        none = np.empty(0, dtype=np.int64)
        return _Timeline(none, none, none, none, none, [])
    commits = pa.concat_tables(tables).sort_by([("shard", "ascending"), ("height", "ascending")])
    shard, height, end = (commits[name].to_numpy() for name in ("shard", "height", "epoch_end"))
    reach = _running_maximum(shard, end)
    ticks, at = np.unique(reach, return_index=True)
    chosen = _spread(len(ticks), frames, len(ticks) if last is None else max(1, last))
    return _Timeline(
        shard,
        height,
        end,
        np.searchsorted(ticks[chosen], reach),
        ticks[chosen],
        commits["commit_id"].take(pa.array(at[chosen])).to_pylist(),
    )


def _running_maximum(shard: Ints, end: Ints) -> Ints:
    """The highest end so far in each shard's chain; rows ordered by shard and height."""
    starts = np.flatnonzero(np.r_[True, shard[1:] != shard[:-1]])
    return np.concatenate([np.maximum.accumulate(part) for part in np.split(end, starts[1:])])


def _spread(count: int, most: int, last: int | None = None) -> Ints:
    """At most so many of the indexes below `count`, evenly spread over the `last` of them."""
    reach = min(count, count if last is None else last)
    if not reach:
        return np.empty(0, dtype=np.int64)
    steps = np.linspace(1, reach, num=max(1, min(most, reach))) if most > 1 else np.array([reach])
    return (count - reach + np.round(steps).astype(np.int64) - 1).astype(np.int64)
