"""The cell of a region is where its events fall."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ledger_cli.core.geometry import cell_bounds

GRID = {"kind": "grid", "cell": 10}
TREE = {"kind": "quadtree", "x": -8, "y": 0, "size": 16, "depth": 2}


@pytest.mark.parametrize(
    ("region", "bounds"),
    [
        ("0:0", (0, 0, 10, 10)),
        ("3:7", (30, 70, 40, 80)),
        ("-1:-1", (-10, -10, 0, 0)),
        ("-4:2", (-40, 20, -30, 30)),
    ],
)
def test_grid(region: str, bounds: tuple[float, ...]) -> None:
    assert cell_bounds(GRID, region) == bounds


@pytest.mark.parametrize("point", [(0.5, -0.5), (-0.1, 99.9), (-123.4, 10.0), (1e6 + 0.25, -1e6)])
def test_a_grid_cell_holds_its_points(point: tuple[float, float]) -> None:
    x, y = point
    cell = 2.5
    found = cell_bounds({"kind": "grid", "cell": cell}, f"{math.floor(x / cell)}:{math.floor(y / cell)}")
    assert found is not None
    assert found[0] <= x < found[2]
    assert found[1] <= y < found[3]


@pytest.mark.parametrize(
    ("region", "bounds"),
    [
        ("q00", (-8, 0, -4, 4)),
        ("q33", (4, 12, 8, 16)),
        ("q10", (0, 0, 4, 4)),
        ("q20", (-8, 8, -4, 12)),
        ("q01", (-4, 0, 0, 4)),
        ("q2", (-8, 8, 0, 16)),
        ("q", (-8, 0, 8, 16)),
    ],
)
def test_quadtree(region: str, bounds: tuple[float, ...]) -> None:
    assert cell_bounds(TREE, region) == bounds


def test_quadtree_of_depth_zero_is_one_square() -> None:
    assert cell_bounds({**TREE, "depth": 0}, "q") == (-8, 0, 8, 16)


@pytest.mark.parametrize("region_map", [GRID, TREE, {"kind": "field", "name": "region"}])
@pytest.mark.parametrize("region", ["outside", "none", "", "q4", "q000", "1:", "1:2:3", "E1", "\u0661:\u0662"])
def test_no_place(region_map: dict[str, Any], region: str) -> None:
    assert cell_bounds(region_map, region) is None


def test_a_field_has_no_geometry_even_if_it_looks_like_a_cell() -> None:
    assert cell_bounds({"kind": "field", "name": "region"}, "1:2") is None
