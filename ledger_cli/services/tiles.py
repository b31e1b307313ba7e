"""Tiles: what many commits add up to in each region, kept so that gamma need not read them again.

A tile is a Parquet file, sorted by region, with one row a region: exact sums, the last commit, and for each
half-life kept the decayed weight as of the tick `reference`. A job adds a tile where it is worth one; a few
commits after the last tile are read from their own files. Tiles are numbered 1, 2, … along a chain, forks
going on with their parent's numbers; tile k takes in those above k - (the lowest set bit of k), as in a
Fenwick tree, so that any state is covered by at most log2(k) tiles and a commit is written log2(k) times. A
fork's first tile also takes in those of its parent's commits that no tile of the parent covers alone.

Sums have no bound (DESIGN, invariant 1), but DuckDB's integers have: each is kept as high × 2⁶⁴ + low, both
plain sums over the commits, good for 10¹⁰ commits. Decayed weights are binary64, summed with compensation:
their relative error stays below 10⁻¹², as long as the result is a normal number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.history import Added, Tile
from ledger_cli.core.moments import SUMS, integers, limbs_of
from ledger_cli.core.slices import CommitSlice, by_condition
from ledger_cli.services.chains import Chains
from ledger_cli.services.repository import Branch, Repository

ROWS_PER_ROW_GROUP = 4096
"""Small, so that one region is read without the others."""
LEAST_COMMITS = 16
LEAST_ENTRIES = 2000
"""A job adds a tile where so many commits are in none, or it has so many entries itself: a tile takes as long
to write as a small job, and a few small files are soon read."""
_LIMB = 2**64
_SHORT = 28
"""Integers of up to as many characters are summed as they are: 10¹⁰ of them fit into 128 bits."""
_LIMBS = tuple(f"{name}_{limb}" for name in SUMS for limb in ("high", "low"))
_LAST = {
    "last_commit": "commit_id",
    "last_epoch_end": "epoch_end",
    "last_mean": "e.activity_mean",
    "last_var": "e.activity_var",
}
"""What is kept of a region's last commit, and where a commit has it."""


def write_tiles(repository: Repository, before: Branch, added: Added, scratch: Path) -> tuple[Tile, ...]:
    """The tiles of the state after a run that added these commits to a branch.

    They cover all but the last commits, fewer than LEAST_COMMITS. Where the settings name a half-life that
    the present tiles lack, one pass over all commits makes them anew.
    """
    commits = before.state.commits + sum(file.commits for file in added.commits)
    outside = commits - sum(tile.commits for tile in before.state.tiles)
    entries = sum(file.entries for file in added.commits)
    if not entries or (outside < LEAST_COMMITS and entries < LEAST_ENTRIES):
        return before.state.tiles
    chains = Chains(repository, before)
    chain, covered = chains.tiles(chains.heights)
    number = chain[-1].last + 1 if chain else 1
    half_lives = _half_lives(repository, chain)
    if chain and chain[-1].half_lives != half_lives:
        chain, covered = (), {}
    kept = tuple(tile for tile in chain if tile.first < number - (number & -number))
    absorbed = chain[len(kept) :]
    parts = chains.parts(covered, chains.heights) + [CommitSlice(file) for file in added.commits]
    tick = highest_end(repository, absorbed, parts)
    path = scratch / "tile.parquet"
    table = add_up(repository, absorbed, parts, tick, half_lives).sort_by("region")
    pq.write_table(table, path, compression="zstd", row_group_size=ROWS_PER_ROW_GROUP)
    published = repository.store.publish(path, "tiles/{sha256}.parquet")
    tile = Tile(
        **vars(published),
        first=kept[-1].last if kept else 0,
        last=number,
        commits=commits - sum(each.commits for each in kept),
        epoch_max=tick,
        half_lives=half_lives,
    )
    return (*kept, tile)


def highest_end(repository: Repository, tiles: Sequence[Tile], parts: Sequence[CommitSlice]) -> int:
    """The highest end of an epoch in tiles and commits; 0 where there is none."""
    ends = [tile.epoch_max for tile in tiles] + [part.file.epoch_max for part in parts if part.whole]
    for condition, files in by_condition(part for part in parts if not part.whole).items():
        found = repository.engine.over(files, f"SELECT max(epoch_end) AS highest FROM files WHERE {condition}", True)
        ends += [end for end in found["highest"].to_pylist() if end is not None]
    return max(ends, default=0)


def add_up(
    repository: Repository,
    tiles: Sequence[Tile],
    parts: Sequence[CommitSlice],
    tick: int,
    half_lives: Sequence[int] = (),
    region: str | None = None,
    where: str = "",
) -> pa.Table:
    """What tiles and commits add up to, one row a region, in no order; decayed weights refer to `tick`.

    `where`: SQL over the columns of the commits that are counted (tiles are counted whole).
    """
    engine, partial = repository.engine, []
    if tiles:
        sql = merge_sql(tick, half_lives, region_condition("region", region))
        partial.append(engine.over([tile.file for tile in tiles], sql))
    for condition, files in by_condition(parts, where).items():
        sql = fold_sql(fold_source(condition), str(tick), half_lives, region_condition("e.region", region))
        partial.append(engine.over(files, sql))
    if len(partial) == 1:
        return partial[0]
    if not partial:
        return _schema(half_lives).empty_table()
    return engine.query(merge_sql(tick, half_lives), files=pa.concat_tables(partial))


def sums_of(table: pa.Table) -> dict[str, list[int]]:
    """The exact sums, by name, of a result of `add_up`."""
    return {
        name: [
            high * _LIMB + low
            for high, low in zip(_whole(table[f"{name}_high"]), _whole(table[f"{name}_low"]), strict=True)
        ]
        for name in SUMS
    }


def decay(delta: int, half_life: int) -> float:
    """2^(-delta / half_life) for delta >= 0, as the SQL computes it."""
    whole, rest = divmod(delta, half_life)
    return math.ldexp(2.0 ** (-rest / half_life), -whole)


def region_condition(column: str, region: str | None) -> str:
    """WHERE that keeps one region; empty for all."""
    if region is None:
        return ""
    literal = region.replace("'", "''")
    return f" WHERE {column} = '{literal}'"


def fold_source(where: str = "", join: str = "") -> str:
    """SQL for the entries `e` of the commits in `files`, with the columns of their commits."""
    return f"SELECT * EXCLUDE (entries), unnest(entries) AS e FROM files {join}" + (f" WHERE {where}" if where else "")


def fold_sql(source: str, reference: str, half_lives: Sequence[int] = (), condition: str = "", key: str = "") -> str:
    """SQL that adds up entries by region, and by the column `key`; decayed weights refer to `reference`."""
    keys = f"region, {key}" if key else "region"
    decayed = [
        f"fsum(e.weight_value * {_decay_sql(f'{reference} - epoch_end', each)}) AS decayed_{each}"
        for each in half_lives
    ]
    columns = [
        f"e.region AS {keys}, sum(e.n)::BIGINT AS n, count(*)::BIGINT AS commits",
        *(f"sum({_limb_sql(name)}) AS {name}" for name in _LIMBS),
        "max(height)::BIGINT AS last_height",
        *(f"arg_max({column}, height) AS {name}" for name, column in _LAST.items()),
        *([] if key else [f"{reference}::BIGINT AS reference"]),
        *decayed,
    ]
    return f"SELECT {', '.join(columns)} FROM ({source}){condition} GROUP BY {keys}"


def merge_sql(tick: int, half_lives: Sequence[int], condition: str = "") -> str:
    """SQL that adds up rows of tiles, in `files`, by region."""
    decayed = [
        f"fsum(decayed_{each} * {_decay_sql(f'{tick} - reference', each)}) AS decayed_{each}" for each in half_lives
    ]
    columns = [
        "region, sum(n)::BIGINT AS n, sum(commits)::BIGINT AS commits",
        *(f"sum({name}::HUGEINT) AS {name}" for name in _LIMBS),
        "max(last_height)::BIGINT AS last_height",
        *(f"arg_max({name}, last_height) AS {name}" for name in _LAST),
        f"{tick}::BIGINT AS reference",
        *decayed,
    ]
    return f"SELECT {', '.join(columns)} FROM files{condition} GROUP BY region"


def _half_lives(repository: Repository, chain: Sequence[Tile]) -> tuple[int, ...]:
    """Those that tiles have, which costs nothing, or where one is missing those of the settings."""
    wanted = tuple(sorted(set(repository.half_lives)))
    if chain and set(wanted) <= set(chain[-1].half_lives):
        return chain[-1].half_lives
    return wanted


def _limb_sql(limb: str) -> str:
    name, part = limb.split("_")
    long = f"e.{name}::HUGEINT {'//' if part == 'high' else '%'} {_LIMB}"
    short = "0" if part == "high" else f"e.{name}::HUGEINT"
    return f"CASE WHEN length(e.{name}) <= {_SHORT} THEN {short} ELSE {long} END::HUGEINT"


def _decay_sql(delta: str, half_life: int) -> str:
    """The power of whole half-lives is exact, so that no rounding grows with their number."""
    return (
        f"(pow(2.0::DOUBLE, (-(({delta}) // {half_life}))::DOUBLE)"
        f" * pow(2.0::DOUBLE, -(({delta}) % {half_life})::DOUBLE / {half_life}))"
    )


def _whole(column: pa.ChunkedArray) -> list[int]:
    return [value for chunk in column.chunks for value in integers(limbs_of(chunk))]


def _schema(half_lives: Sequence[int]) -> pa.Schema:
    """The columns of a tile."""
    return pa.schema(
        [
            ("region", pa.string()),
            ("n", pa.int64()),
            ("commits", pa.int64()),
            *((name, pa.decimal128(38, 0)) for name in _LIMBS),
            ("last_height", pa.int64()),
            ("last_commit", pa.string()),
            ("last_epoch_end", pa.int64()),
            ("last_mean", pa.float64()),
            ("last_var", pa.float64()),
            ("reference", pa.int64()),
            *((f"decayed_{each}", pa.float64()) for each in half_lives),
        ]
    )
