"""Gamma as it is shown: plain values, ready for any renderer.

A frame is gamma at one commit, a view is a sequence of frames that are to be compared with one another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ledger_cli.core.geometry import Bounds

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class GammaRow:
    """One region: its weight and activity, and what made them. `bounds` is None off the map."""

    region: str
    weight: float
    activity_mean: float | None
    activity_var: float | None
    pooled_mean: float | None
    pooled_var: float | None
    count: int
    commits: int
    last_commit: str
    last_epoch_end: int
    bounds: Bounds | None = None

    @property
    def decoupled(self) -> bool:
        """Events were seen here, but none of them had any activity."""
        mean = self.activity_mean if self.pooled_mean is None else self.pooled_mean
        return self.count > 0 and mean == 0


@dataclass(frozen=True, slots=True)
class GammaFrame:
    """Gamma at one commit. `label` is usually the commit's id, `tick` the end of its epoch."""

    label: str
    tick: int
    rows: tuple[GammaRow, ...]
    title: str = "gamma"
    """What it is gamma of (see `gamma_title`)."""

    @property
    def heading(self) -> str:
        """Tick and short commit id, for people."""
        return f"tick {self.tick} · {short_commit(self.label)}" if self.label else f"tick {self.tick}"

    @property
    def total(self) -> float:
        """The sum of all weights, also of the regions off the map."""
        return math.fsum(row.weight for row in self.rows)

    def placed(self) -> tuple[GammaRow, ...]:
        """The rows that have a place on the map."""
        return tuple(row for row in self.rows if row.bounds is not None)

    def off_map(self) -> tuple[GammaRow, ...]:
        """The rows without a place, the heaviest first."""
        return by_weight(row for row in self.rows if row.bounds is None)


def gamma_title(branch: str, half_life: int | None) -> str:
    """The title of a picture: what tells it from another one of the same ledger."""
    return f"gamma of {branch}" + ("" if half_life is None else f", half-life {half_life} ticks")


@dataclass(frozen=True, slots=True)
class GammaView:
    """Frames under one title, in the order of their commits."""

    title: str
    frames: tuple[GammaFrame, ...]

    def rows(self) -> Iterable[GammaRow]:
        """The rows of all frames."""
        return (row for frame in self.frames for row in frame.rows)

    @property
    def has_map(self) -> bool:
        """Whether any region has a place; if none has, bars are all that can be drawn."""
        return any(row.bounds is not None for row in self.rows())

    @property
    def heaviest(self) -> float:
        """The highest weight in any frame: the upper end of a scale that makes frames comparable."""
        return heaviest(self.rows())


@dataclass(frozen=True, slots=True)
class WeightScale:
    """Weight to a position in [0, 1]. It starts at zero, since weight has a natural zero.

    An exponent below 1 spreads the low weights (1/2 is a square root scale).
    """

    maximum: float
    exponent: float = 1.0

    def position(self, weight: float) -> float:
        """Monotone in the weight; 0 where there is nothing to compare with."""
        if not weight > 0 or not self.maximum > 0:
            return 0.0
        return float(min(weight / self.maximum, 1.0) ** self.exponent)


def heaviest(rows: Iterable[GammaRow]) -> float:
    """The highest finite weight, 0 where there is none."""
    return max((row.weight for row in rows if math.isfinite(row.weight)), default=0.0)


def by_weight(rows: Iterable[GammaRow]) -> tuple[GammaRow, ...]:
    """The heaviest first, equal ones by region id."""
    return tuple(sorted(rows, key=lambda row: (-row.weight, row.region)))


def extent(rows: Iterable[GammaRow]) -> Bounds | None:
    """The smallest rectangle around all cells."""
    cells = [row.bounds for row in rows if row.bounds is not None]
    if not cells:
        return None
    return (
        min(cell[0] for cell in cells),
        min(cell[1] for cell in cells),
        max(cell[2] for cell in cells),
        max(cell[3] for cell in cells),
    )


def short_commit(commit: str) -> str:
    """The first eight digits of a commit id; any other text as it is."""
    return commit[:8] if _UUID.fullmatch(commit) else commit
