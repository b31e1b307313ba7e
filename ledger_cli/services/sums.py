"""Exact sums over commits by region, as values that can be added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ledger_cli.core.slices import CommitSlice
from ledger_cli.services import tiles
from ledger_cli.services.repository import Repository


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
    table = tiles.add_up(repository, (), parts, 0, where=where)
    rows = zip(table["n"].to_pylist(), *tiles.sums_of(table).values(), strict=True)
    return {region: Sums(*row) for region, row in zip(table["region"].to_pylist(), rows, strict=True)}


def merged(parts: Iterable[Mapping[str, Sums]]) -> dict[str, Sums]:
    """The sums of several parts together."""
    total: dict[str, Sums] = {}
    for part in parts:
        for region, sums in part.items():
            total[region] = total[region] + sums if region in total else sums
    return total
