"""What all pictures of gamma share: colours, numbers as text, and the layout of a map.

The colours are viridis: perceptually uniform, monotone in lightness, readable with impaired colour vision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ledger_cli.core.gamma_view import GammaRow
from ledger_cli.core.geometry import Bounds
from ledger_cli.render.common.words import grouped

VIRIDIS = (
    "#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c",
    "#22a884", "#44bf70", "#7ad151", "#bddf26", "#fde725",
)  # fmt: skip
DECOUPLED = "#a9adb3"
BAR = "#21918c"
NO_REGIONS = "No regions: nothing has been committed here yet."
NO_PLACE = "None of the regions has a place on the map."
MAP_SIDE_PX = 480.0
CELL_MAX_PX = 160.0
CELL_MIN_PX = 2.0
ASPECT_MAX = 8.0

Rgb = tuple[int, int, int]


def rgb(colour: str) -> Rgb:
    """`#rrggbb` as three numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def ramp(position: float) -> str:
    """The colour at a position in [0, 1] of the scale, as `#rrggbb`."""
    place = min(max(position, 0.0), 1.0) * (len(VIRIDIS) - 1)
    index = min(int(place), len(VIRIDIS) - 2)
    low, high = rgb(VIRIDIS[index]), rgb(VIRIDIS[index + 1])
    part = place - index
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(low, high, strict=True))


def number(value: float | None) -> str:
    """A number for people: four significant digits, whole thousands in full."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if 1000 <= abs(value) < 10_000_000:
        return grouped(f"{value:,.0f}")
    return f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class MapLayout:
    """A drawing area with equal aspect: the domain shown, and its size in pixels."""

    domain: Bounds
    width_px: int
    height_px: int
    cell_px: float

    def visible(self, cell: Bounds) -> Bounds:
        """The cell, made large enough to be seen where it is less than a couple of pixels."""
        least = CELL_MIN_PX * (self.domain[2] - self.domain[0]) / self.width_px
        x0, y0, x1, y1 = cell
        return x0, y0, max(x1, x0 + least), max(y1, y0 + least)


def map_layout(rows: tuple[GammaRow, ...], area: Bounds, side_px: float = MAP_SIDE_PX) -> MapLayout:
    """Fit the area into a square of `side_px`, without blowing up a few cells to giants."""
    x0, y0, x1, y1 = area
    least = max(x1 - x0, y1 - y0) / ASPECT_MAX
    x0, x1 = _at_least(x0, x1, least)
    y0, y1 = _at_least(y0, y1, least)
    cell = min((row.bounds[2] - row.bounds[0] for row in rows if row.bounds), default=x1 - x0)
    px_per_unit = side_px / max(x1 - x0, y1 - y0)
    if cell > 0:
        px_per_unit = min(px_per_unit, CELL_MAX_PX / cell)
    width, height = (x1 - x0) * px_per_unit, (y1 - y0) * px_per_unit
    return MapLayout((x0, y0, x1, y1), math.ceil(width), math.ceil(height), cell * px_per_unit)


def _at_least(low: float, high: float, span: float) -> tuple[float, float]:
    missing = max(0.0, span - (high - low)) / 2
    return low - missing, high + missing
