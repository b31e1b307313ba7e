"""Where a region lies in the plane: the inverse of assigning events to regions.

Bounds are `(x0, y0, x1, y1)`, half-open: `x0 <= x < x1` and `y0 <= y < y1`, up to the last bit of binary64.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Bounds = tuple[float, float, float, float]

_GRID_ID = re.compile(r"(-?[0-9]+):(-?[0-9]+)")
_QUADTREE_ID = re.compile(r"q([0-3]*)")


def cell_bounds(region_map: Mapping[str, Any], region: str) -> Bounds | None:
    """The cell of a region, or None where the region has no place: `outside`, `none`, field maps.

    A quadtree id may be shorter than the map's depth: a prefix is the parent's square.
    """
    kind = region_map.get("kind")
    if kind == "grid":
        return _grid_bounds(float(region_map["cell"]), region)
    if kind == "quadtree":
        origin = float(region_map["x"]), float(region_map["y"])
        return _quadtree_bounds(origin, float(region_map["size"]), int(region_map["depth"]), region)
    return None


def _grid_bounds(cell: float, region: str) -> Bounds | None:
    found = _GRID_ID.fullmatch(region)
    if found is None:
        return None
    column, row = int(found[1]), int(found[2])
    return column * cell, row * cell, (column + 1) * cell, (row + 1) * cell


def _quadtree_bounds(origin: tuple[float, float], size: float, depth: int, region: str) -> Bounds | None:
    found = _QUADTREE_ID.fullmatch(region)
    if found is None or len(found[1]) > depth:
        return None
    column = row = 0
    for digit in found[1]:
        column = 2 * column + (int(digit) & 1)
        row = 2 * row + (int(digit) >> 1)
    side = 2.0 ** -len(found[1])
    x, y = origin
    return (
        x + column * side * size,
        y + row * side * size,
        x + (column + 1) * side * size,
        y + (row + 1) * side * size,
    )
