"""Exact sums over commits: what chains hold of each region."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ledger_cli.core.moments import SUMS
from ledger_cli.services.repository import CommitSlice, Repository

_NAMES = ("n", *SUMS)
_HALF = 2**64
# A sum of 128-bit integers may need more bits, so both halves are summed apart.
_HALVES = ", ".join(
    f"sum(({name}::HUGEINT) >> 64)::HUGEINT::VARCHAR AS {name}_high, "
    f"sum(({name}::HUGEINT) & {_HALF - 1}::HUGEINT)::HUGEINT::VARCHAR AS {name}_low"
    for name in _NAMES
)


@dataclass(frozen=True)
class Sums:
    """`(n, Σq, Σq², Σw)` of one region, unbounded."""

    n: int = 0
    activity: int = 0
    activity2: int = 0
    weight: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.n + other.n,
            self.activity + other.activity,
            self.activity2 + other.activity2,
            self.weight + other.weight,
        )


def sums_of(repository: Repository, parts: Sequence[CommitSlice], where: str = "") -> dict[str, Sums]:
    """By region, the sums over the commits of those files that meet a condition, made by the engine."""
    by_condition: dict[str, list[str]] = {}
    for part in parts:
        both = " AND ".join(each for each in (part.condition(), where) if each)
        by_condition.setdefault(both, []).append(part.file.file)
    return merged(_summed(repository, files, condition) for condition, files in by_condition.items())


def _summed(repository: Repository, files: Sequence[str], condition: str) -> dict[str, Sums]:
    chosen = f"WHERE {condition}" if condition else ""
    sql = f"""
        SELECT region, {_HALVES}
        FROM (SELECT unnest(entries, recursive := true) FROM files {chosen}) GROUP BY region"""
    table = repository.engine.over(files, sql)
    columns = [_joined(table, name) for name in _NAMES]
    return {region: Sums(*row) for region, *row in zip(table["region"].to_pylist(), *columns, strict=True)}


def merged(parts: Iterable[Mapping[str, Sums]]) -> dict[str, Sums]:
    """The sums of several parts together."""
    total: dict[str, Sums] = {}
    for part in parts:
        for region, sums in part.items():
            total[region] = total[region] + sums if region in total else sums
    return total


def _joined(table: pa.Table, name: str) -> list[int]:
    high, low = table[f"{name}_high"].to_pylist(), table[f"{name}_low"].to_pylist()
    return [int(above) * _HALF + int(below) for above, below in zip(high, low, strict=True)]
