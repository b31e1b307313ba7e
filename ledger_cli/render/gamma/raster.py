"""Cells to a small raster of square pixels, row 0 at the top (highest y)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger_cli.core.gamma_view import GammaRow
from ledger_cli.core.geometry import Bounds

PIXELS_PER_CELL_MAX = 8


@dataclass(frozen=True, slots=True)
class Raster:
    """Weights by pixel; a pixel without a region is absent.

    Where there are more cells than pixels, a pixel holds the highest weight of
    `cells_per_pixel` x `cells_per_pixel` cells: a single hot cell is never lost in an average.
    """

    width: int
    height: int
    cells_per_pixel: int
    weights: dict[tuple[int, int], float] = field(default_factory=dict)

    def at(self, column: int, row: int) -> float | None:
        """The weight of a pixel, None where there is no region (also outside the raster)."""
        return self.weights.get((column, row))


def rasterise(rows: tuple[GammaRow, ...], area: Bounds, width_max: int, height_max: int) -> Raster:
    """Draw the cells into at most `width_max` x `height_max` pixels, up or down by a whole factor."""
    cells = [(row.bounds, row.weight) for row in rows if row.bounds is not None]
    unit = min(cell[2] - cell[0] for cell, _ in cells)
    across, along = _steps(area[2] - area[0], unit), _steps(area[3] - area[1], unit)
    up = max(1, min(width_max // across, height_max // along, PIXELS_PER_CELL_MAX))
    down = max(1, -(-across // width_max), -(-along // height_max))
    raster = Raster(-(-across * up // down), -(-along * up // down), down)
    for cell, weight in cells:
        columns = _pixels(cell[0] - area[0], cell[2] - area[0], unit, up, down)
        rows_up = _pixels(cell[1] - area[1], cell[3] - area[1], unit, up, down)
        _paint(raster, columns, rows_up, weight)
    return raster


def _steps(length: float, unit: float) -> int:
    return max(round(length / unit), 1) if unit > 0 else 1


def _pixels(low: float, high: float, unit: float, up: int, down: int) -> range:
    if not unit > 0:
        return range(1)
    first, last = round(low / unit) * up, round(high / unit) * up
    return range(first // down, max(first // down + 1, -(-last // down)))


def _paint(raster: Raster, columns: range, rows_up: range, weight: float) -> None:
    for row_up in rows_up:
        row = raster.height - 1 - row_up
        for column in columns:
            there = raster.weights.get((column, row))
            raster.weights[column, row] = weight if there is None else max(there, weight)
