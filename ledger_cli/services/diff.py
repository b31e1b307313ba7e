"""`ledger diff`: what two commits or two states hold of each region and entity, and where two chains part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pyarrow as pa

from ledger_cli.core.policy import SCALE
from ledger_cli.core.slices import CommitSlice
from ledger_cli.core.statistics import mean, variance, weight
from ledger_cli.errors import UsageError
from ledger_cli.services.commits import read_commits
from ledger_cli.services.cut import cut_at
from ledger_cli.services.lineage import holding
from ledger_cli.services.lookup import CommitRef, Place
from ledger_cli.services.moment import moment_of_place
from ledger_cli.services.repository import Repository
from ledger_cli.services.sums import Sums, merged, sums_of
from ledger_cli.services.world_diff import WORLD_DIFF, counts, to_json, world_changes

_REF = ["commit_id", "digest", "shard", "height", "epoch_start", "epoch_end"]

DIFF = pa.schema(
    [
        pa.field("region", pa.string(), nullable=False),
        *[
            pa.field(f"{name}_{side}", pa.float64())
            for name in ("weight", "mean", "var")
            for side in ("a", "b", "delta")
        ],
        pa.field("count_a", pa.int64(), nullable=False),
        pa.field("count_b", pa.int64(), nullable=False),
    ]
)
"""One row a region. `mean`, `var`: of the activity, null where there is no event; `delta`: b less a."""


WORLD_SORTED = ("entity_id", "change", "module", "field")
"""What changes of the world can be sorted by."""


@dataclass(frozen=True)
class DiffResult:
    """A table of `DIFF`, and how many regions are equal in all four exact sums and so left out of it.

    `world`: a table of `WORLD_DIFF`. `region_maps`: those of a and b as in their policies, where they are two: equal
    ids are other places then. None where they are one, or a side has no commits.
    """

    a: Place
    b: Place
    table: pa.Table
    equal: int
    world: pa.Table
    region_maps: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        regions, world = self.table.to_pylist(), to_json(self.world)
        maps = None if self.region_maps is None else dict(zip("ab", self.region_maps, strict=True))
        return {
            "a": self.a.text,
            "b": self.b.text,
            "regionMaps": maps,
            "equal": self.equal,
            "regions": regions,
            "world": world,
        }

    @property
    def world_counts(self) -> Mapping[str, int]:
        """How many entities were added, removed and changed."""
        return counts(self.world)

    def __repr__(self) -> str:
        listed = f"{self.table.num_rows} regions listed, {self.equal} equal"
        entities = ", ".join(f"{number} {change}" for change, number in self.world_counts.items() if number)
        return f"DiffResult of {self.a.text} and {self.b.text}: {listed}" + (f"; entities: {entities}" * bool(entities))


@dataclass(frozen=True)
class Parting:
    """Where the chains of a shard part: the first commit of each behind what they share, None for none."""

    shard: int
    height: int
    a: CommitRef | None
    b: CommitRef | None

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "shard": self.shard,
            "height": self.height,
            "a": None if self.a is None else self.a.to_json(),
            "b": None if self.b is None else self.b.to_json(),
        }


def diff(
    repository: Repository,
    a: Place,
    b: Place,
    sort: str = "weight_delta",
    descending: bool = True,
    *,
    equal: bool = False,
) -> DiffResult:
    """What two places hold of each region: two commits their entries, others the sums over their chains.

    Of the world what two branches have, or had when they made a commit or got to a tick.
    `sort`: a column of `DIFF`, deltas by their size, or of `WORLD_SORTED`. `equal`: list also regions without a
    difference.
    """
    if sort not in (*DIFF.names, *WORLD_SORTED):
        raise UsageError(f"--sort {sort!r} is no column: use one of {', '.join((*DIFF.names, *WORLD_SORTED))}")
    before, after = _held(repository, a, b)
    rows = [_row(region, before.get(region), after.get(region)) for region in sorted({*before, *after})]
    same = [before.get(row["region"]) == after.get(row["region"]) for row in rows]
    shown = [row for row, alike in zip(rows, same, strict=True) if equal or not alike]
    by_region = sort if sort in DIFF.names else "weight_delta"
    ordered = _ordered(shown, by_region, descending if by_region == sort else True)
    regions = pa.Table.from_pylist(ordered, schema=DIFF)
    world = _world(repository, a, b, sort, descending)
    return DiffResult(a, b, regions, sum(same), world, _region_maps(repository, a, b))


def _region_maps(repository: Repository, a: Place, b: Place) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """The region maps of two places, where they are not one. All commits of a branch have the same."""
    one, other = (repository.branch(place.branch).policy for place in (a, b))
    if one is None or other is None or one.regions == other.regions:
        return None
    return one.regions, other.regions


def _world(repository: Repository, a: Place, b: Place, sort: str, descending: bool) -> pa.Table:
    """The changes of the world; by entity, unless a column of theirs is asked for."""
    if all(repository.branch(place.branch).state.world is None for place in (a, b)):
        return WORLD_DIFF.empty_table()
    changes = world_changes(repository, *(moment_of_place(repository, place) for place in (a, b)))
    if sort not in WORLD_SORTED:
        return changes
    return pa.Table.from_pylist(_ordered(changes.to_pylist(), sort, descending), schema=WORLD_DIFF)


def _ordered(rows: list[dict[str, Any]], sort: str, descending: bool) -> list[dict[str, Any]]:
    known = [row for row in rows if row[sort] is not None]
    # Missing values last, whichever way it is sorted.
    missing = [row for row in rows if row[sort] is None]
    return sorted(known, key=lambda row: _sort_key(row[sort], sort), reverse=descending) + missing


def _sort_key(value: Any, sort: str) -> Any:
    return abs(value) if sort.endswith("_delta") else value


def _row(region: str, a: Sums | None, b: Sums | None) -> dict[str, Any]:
    a, b = a or Sums(), b or Sums()
    row: dict[str, Any] = {"region": region, "count_a": a.n, "count_b": b.n}
    row |= {
        "weight_a": weight(a.weight),
        "weight_b": weight(b.weight),
        "weight_delta": weight(b.weight - a.weight),
    }
    means = [Fraction(each.activity, each.n * SCALE) if each.n else None for each in (a, b)]
    spreads = [_variance(each) for each in (a, b)]
    row |= {
        "mean_a": mean(a.n, a.activity) if a.n else None,
        "mean_b": mean(b.n, b.activity) if b.n else None,
    }
    row |= {f"var_{side}": _variance_float(each) for side, each in (("a", a), ("b", b))}
    return row | {"mean_delta": _delta(*means), "var_delta": _delta(*spreads)}


def _variance(sums: Sums) -> Fraction | None:
    if not sums.n:
        return None
    return Fraction(sums.n * sums.activity2 - sums.activity**2, (sums.n * SCALE) ** 2)


def _variance_float(sums: Sums) -> float | None:
    return variance(sums.n, sums.activity, sums.activity2) if sums.n else None


def _delta(a: Fraction | None, b: Fraction | None) -> float | None:
    return None if a is None or b is None else float(b - a)


def _held(repository: Repository, a: Place, b: Place) -> tuple[dict[str, Sums], dict[str, Sums]]:
    """The sums of two places; what both share is read once."""
    if a.kind == "commit" and b.kind == "commit":
        return _of_commit(repository, a), _of_commit(repository, b)
    one, other = _parts(repository, a), _parts(repository, b)
    shared = {key: part for key, part in one.items() if key in other}
    common: dict[str, Sums] = {}
    for condition in {key[2] for key in shared}:
        mine = [part for key, part in shared.items() if key[2] == condition]
        common = merged([common, sums_of(repository, mine, condition)])
    return (
        merged([common, _sum_of(repository, a, one, shared)]),
        merged([common, _sum_of(repository, b, other, shared)]),
    )


_Key = tuple[str, str, str]


def _sum_of(
    repository: Repository,
    place: Place,
    parts: Mapping[_Key, CommitSlice],
    without: Mapping[_Key, CommitSlice],
) -> dict[str, Sums]:
    left = [part for key, part in parts.items() if key not in without]
    return sums_of(repository, left, _condition(place))


def _condition(place: Place) -> str:
    """Of a tick, all commits below it count, also late ones; a commit cuts as a fork from it does."""
    return "" if place.tick is None else f"epoch_end <= {place.tick}"


def _parts(repository: Repository, place: Place) -> dict[_Key, CommitSlice]:
    """The files that hold the commits up to a place, by what is taken of them."""
    branch = repository.branch(place.branch)
    if place.tick is not None:
        parts = [part for part in branch.commit_slices() if part.file.epoch_min < place.tick]
    elif place.commit is None:
        parts = branch.commit_slices()
    else:
        cut = cut_at(repository, branch, place)
        parts = [part.cut(cut.keep) for part in cut.origin.commit_slices()]
    condition = _condition(place)
    return {(part.file.file, part.condition(), condition): part for part in parts if not part.empty}


def _of_commit(repository: Repository, place: Place) -> dict[str, Sums]:
    commit = place.commit
    assert commit is not None
    holders = holding(repository.branch(place.branch), str(commit.shard), commit.height)
    holds = [each.part for each in holders]
    return sums_of(repository, holds, f"digest = '{commit.digest}'")


def first_difference(repository: Repository, a: Place, b: Place) -> list[Parting]:
    """Where the chains of two places part, one for each shard in which they do, the lowest epoch first.

    A digest holds the one before it, so chains that agree at a height agree below: files that both have are
    not read, and of the rest only digests.
    """
    chains = [_Chain(repository, place) for place in (a, b)]
    shared = _shared_heights(*chains)
    one, other = (chain.above(shared) for chain in chains)
    partings = []
    for shard in sorted({*one, *other}):
        mine, theirs = one.get(shard, {}), other.get(shard, {})
        apart = [h for h in {*mine, *theirs} if h not in mine or h not in theirs or mine[h].digest != theirs[h].digest]
        if apart:
            height = min(apart)
            partings.append(Parting(shard, height, mine.get(height), theirs.get(height)))
    return sorted(partings, key=_epoch)


def _epoch(parting: Parting) -> tuple[int, int]:
    return min(each.epoch_start for each in (parting.a, parting.b) if each is not None), parting.shard


class _Chain:
    """The chains up to a place."""

    def __init__(self, repository: Repository, place: Place) -> None:
        self._repository = repository
        cut = cut_at(repository, repository.branch(place.branch), place)
        self._origin = cut.origin
        self.parts = [part for each in cut.origin.commit_slices() if not (part := each.cut(cut.keep)).empty]

    def spans(self) -> dict[str, dict[str, tuple[int, int]]]:
        """By file, the heights [first, last) of each shard that the chain has from it."""
        return {part.file.file: part.spans for part in self.parts}

    def above(self, shared: Mapping[str, int]) -> dict[int, dict[int, CommitRef]]:
        """The commits from the shared heights on, by shard and height."""
        parts = [
            part
            for part in self.parts
            if any(last >= shared.get(shard, 0) for shard, (_, last) in part.file.heights.items())
        ]
        floor = " ".join(f"WHEN {shard} THEN {height}" for shard, height in shared.items())
        where = f"height >= CASE shard {floor} ELSE 0 END" if floor else ""
        found: dict[int, dict[int, CommitRef]] = {}
        for row in read_commits(self._repository, self._origin, _REF, where, parts).to_pylist():
            found.setdefault(row["shard"], {})[row["height"]] = CommitRef(**row)
        return found


def _shared_heights(a: _Chain, b: _Chain) -> dict[str, int]:
    """By shard, below which height both chains are the same, as files that both have show."""
    mine, theirs = a.spans(), b.spans()
    shared: dict[str, int] = {}
    for file in mine.keys() & theirs.keys():
        for shard, (first, last) in mine[file].items():
            both = min(last, theirs[file].get(shard, (0, 0))[1])
            if both > first:
                shared[shard] = max(shared.get(shard, 0), both)
    return shared
