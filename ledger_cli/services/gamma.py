"""`ledger gamma`: what the commits of a branch add up to in each region, at any place of its history.

The time does not grow with the length of the history: nearly everything is in a few tiles, and what they do
not cover is read from the files of the last jobs, or of the job that a place cuts. A half-life that tiles are
not kept for costs one pass over the commits, a window one over those in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from ledger_cli.core import statistics
from ledger_cli.core.commit import commit_id_of
from ledger_cli.core.gamma_view import GammaFrame, GammaRow, gamma_title
from ledger_cli.core.geometry import cell_bounds
from ledger_cli.core.history import Tile
from ledger_cli.core.moments import SUMS
from ledger_cli.core.slices import CommitSlice, Heights, lower
from ledger_cli.errors import NotFound, UsageError
from ledger_cli.services.chains import Chains
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.tiles import add_up, highest_end, sums_of

GAMMA = pa.schema(
    [
        pa.field("region", pa.string(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
        pa.field("activity_mean", pa.float64(), nullable=False),
        pa.field("activity_var", pa.float64(), nullable=False),
        pa.field("pooled_mean", pa.float64()),
        pa.field("pooled_var", pa.float64()),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("commits", pa.int64(), nullable=False),
        pa.field("last_commit", pa.string(), nullable=False),
        pa.field("last_epoch_end", pa.int64(), nullable=False),
        *[pa.field(f"exact_{name}", pa.string(), nullable=False) for name in SUMS],
    ]
)
"""One row a region, by region id. `weight` is decayed where a half-life was asked for; `activity_*` are those
of the last commit; `pooled_*` are null where no commit lies in the window; `exact_*` are the integers of
invariant 1, undecayed, as decimal text."""


@dataclass(frozen=True)
class GammaAt:
    """A place in the history: each chain before its first commit that ends above `tick`.

    That is what a fork from a commit that ends at `tick` keeps, as of the move that made the commit.
    """

    tick: int
    branch: str | None = None
    """The branch that `move` belongs to: a parent's commit was made by a move of the parent."""
    move: int | None = None
    """As of this move; None: the latest of the branch."""
    keep: Heights | None = None
    """Of each shard, how many commits are kept, where that is known already."""
    label: str = ""
    """Usually the id of a commit."""


@dataclass(frozen=True)
class GammaPlace:
    """What is to be added up: tiles, and the commits (by file) that they do not cover."""

    branch: Branch
    chains: Chains
    keep: Heights
    tick: int
    label: str
    tiles: tuple[Tile, ...]
    rest: list[CommitSlice]

    @property
    def everything(self) -> list[CommitSlice]:
        """All commits at the place."""
        return self.chains.parts({}, self.keep)


@dataclass(frozen=True)
class Gamma:
    """Gamma at one place. `tick`: what decayed weights and the window refer to."""

    branch: str
    tick: int
    label: str
    half_life: int | None
    window: int | None
    table: pa.Table
    """See `GAMMA`."""
    region_map: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        total = sum(self.table["weight"].to_pylist())
        chosen = [
            f"{name} {value}" for name, value in (("half-life", self.half_life), ("window", self.window)) if value
        ]
        place = ", ".join([self.branch, f"tick {self.tick}", *chosen])
        return f"Gamma of {place}: {self.table.num_rows:,} regions, total weight {total:,.6g}"

    @cached_property
    def frame(self) -> GammaFrame:
        """The same as it is shown."""
        names = [name for name in GAMMA.names if not name.startswith("exact_")]
        regions = self.region_map or {}
        rows = tuple(
            GammaRow(**row, bounds=cell_bounds(regions, row["region"])) for row in self.table.select(names).to_pylist()
        )
        return GammaFrame(self.label, self.tick, rows, gamma_title(self.branch, self.half_life))

    def to_json(self) -> dict[str, Any]:
        """The documented JSON: integers beyond 2⁵³ are decimal strings, under `exact`."""
        return {
            "branch": self.branch,
            "tick": self.tick,
            "commitId": self.label or None,
            "halfLife": self.half_life,
            "window": self.window,
            "regions": [_row_json(row) for row in self.table.to_pylist()],
        }


def gamma(
    repository: Repository,
    branch: str,
    region: str | None = None,
    at: GammaAt | None = None,
    half_life: int | None = None,
    window: int | None = None,
) -> Gamma:
    """Gamma of a branch, of all regions or one (no row where nothing was committed in it).

    Plain weights and all statistics are exact sums, correctly rounded once. Decayed weights, the sum of
    `w × 2^(-Δ/half_life)` with Δ ticks from the end of an epoch to the tick of reference, are within 10⁻¹² of
    the exact value, relatively. The tick of reference is that of `at`, else the highest end of an epoch.
    `window`, in ticks: pooled statistics are of the commits that end above tick - window, by default of all.
    """
    check_options(half_life, window)
    place = place_of(repository, branch, at)
    tiles, rest = place.tiles, place.rest
    if half_life is not None and any(half_life not in tile.half_lives for tile in tiles):
        tiles, rest = (), place.everything
    half_lives = [] if half_life is None else [half_life]
    added_up = add_up(repository, tiles, rest, place.tick, half_lives, region).sort_by("region")
    pooled = _windowed(repository, place, window, region)
    table = _table(added_up, half_life, pooled)
    policy = place.branch.policy
    return Gamma(branch, place.tick, place.label, half_life, window, table, None if policy is None else policy.regions)


def commit_at(repository: Repository, branch: str, shard: int, height: int) -> GammaAt:
    """The place of a commit of a branch, by its shard and height. NotFound where there is none."""
    made = Chains(repository, repository.branch(branch)).made(str(shard), height)
    if made is None:
        raise NotFound(f"branch {branch} has no commit {height} of shard {shard}: `ledger log` lists the commits")
    name, move = made
    files = [file.file for file in move.added.commits]
    where = f"shard = {shard} AND height = {height}"
    found = repository.engine.over(files, f"SELECT commit_id, epoch_end FROM files WHERE {where}", headers=True)
    return GammaAt(found["epoch_end"][0].as_py(), name, move.seq, label=found["commit_id"][0].as_py())


def place_of(repository: Repository, branch: str, at: GammaAt | None) -> GammaPlace:
    """Where to add up, and how."""
    as_of = repository.branch(branch)
    if at is not None and at.move is not None:
        as_of = repository.branch_at(at.branch or branch, at.move)
    chains = Chains(repository, as_of)
    keep: Heights = chains.heights
    if at is not None:
        keep = chains.cut(at.tick) if at.keep is None else lower(at.keep, keep)
    tiles, covered = chains.tiles(keep)
    rest = chains.parts(covered, keep)
    tick = highest_end(repository, tiles, rest) if at is None else at.tick
    label = _head(as_of) if at is None else at.label
    return GammaPlace(as_of, chains, keep, tick, label, tiles, rest)


def check_options(half_life: int | None, window: int | None) -> None:
    """UsageError where they mean nothing."""
    if half_life is not None and half_life < 1:
        raise UsageError(f"a half-life is a number of ticks of at least 1, not {half_life}")
    if window is not None and window < 1:
        raise UsageError(f"a window is a number of ticks of at least 1, not {window}")


def _head(branch: Branch) -> str:
    """The id of the last commit, where one chain makes that a single one."""
    heads = [shard.head for shard in branch.state.shards.values() if shard.head is not None]
    return commit_id_of(heads[0]) if len(heads) == 1 else ""


def _windowed(
    repository: Repository, place: GammaPlace, window: int | None, region: str | None
) -> dict[str, tuple[float, float]] | None:
    """Mean and variance by region over a window; None where it is the whole history."""
    if window is None:
        return None
    above = place.tick - window
    # No commit before this height ends above, since the chain is cut before the first that does.
    low = lower(place.chains.cut(above), place.keep)
    parts = place.chains.parts(low, place.keep)
    table = add_up(repository, (), parts, place.tick, (), region, f"epoch_end > {above}")
    return dict(zip(table["region"].to_pylist(), _pooled(table), strict=True))


def _pooled(table: pa.Table) -> Iterator[tuple[float, float]]:
    sums = sums_of(table)
    for n, activity, activity2 in zip(table["n"].to_pylist(), sums["activity"], sums["activity2"], strict=True):
        yield statistics.mean(n, activity), statistics.variance(n, activity, activity2)


def _table(added_up: pa.Table, half_life: int | None, windowed: Mapping[str, tuple[float, float]] | None) -> pa.Table:
    regions, sums = added_up["region"].to_pylist(), sums_of(added_up)
    by_region = dict(zip(regions, _pooled(added_up), strict=True)) if windowed is None else windowed
    pooled = [by_region.get(region, (None, None)) for region in regions]
    if half_life is None:
        weights = pa.array(map(statistics.weight, sums["weight"]), pa.float64())
    else:
        weights = added_up[f"decayed_{half_life}"]
    return pa.table(
        [
            added_up["region"],
            weights,
            added_up["last_mean"],
            added_up["last_var"],
            pa.array([mean for mean, _ in pooled], pa.float64()),
            pa.array([variance for _, variance in pooled], pa.float64()),
            added_up["n"],
            added_up["commits"],
            added_up["last_commit"],
            added_up["last_epoch_end"],
            *[pa.array(map(str, sums[name]), pa.string()) for name in SUMS],
        ],
        schema=GAMMA,
    )


def _row_json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "region": row["region"],
        "weight": row["weight"],
        "activity_mean": row["activity_mean"],
        "activity_var": row["activity_var"],
        "pooled_mean": row["pooled_mean"],
        "pooled_var": row["pooled_var"],
        "count": row["count"],
        "commits": row["commits"],
        "lastCommit": row["last_commit"],
        "lastEpochEnd": row["last_epoch_end"],
        "exact": {"n": str(row["count"]), **{name: row[f"exact_{name}"] for name in SUMS}},
    }
