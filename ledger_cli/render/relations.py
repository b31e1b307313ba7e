"""A graph of relations as a file: DOT for Graphviz, and SVG and PNG without it.

The picture is a tree from left to right, with further relations dashed. Only PNG needs the extra `render`. Same
input, same output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger_cli.errors import UsageError
from ledger_cli.render.common.svg import FONT, LETTER_PX, cut, escaped, png, themed, width_of, written
from ledger_cli.render.common.trees import Branching, as_tree
from ledger_cli.render.common.words import counted

if TYPE_CHECKING:
    from os import PathLike

_Point = tuple[float, float]
_Curve = tuple[_Point, _Point, _Point, _Point]

FORMATS = ("dot", "svg", "png")
PICTURE_ENTITIES_MAX = 500
"""More make a picture that nobody can read."""

_NO_ENTITY = "no entity"
_COLOURS = {"entity": ("#e8f1fb", "#3b78b8"), "space": ("#e9f6ee", "#3a8f5c"), "relationship": ("#f4ecfa", "#8353a8")}
_MISSING = ("#ffffff", "#a9adb3")
_MARGIN_PX = 24
_TITLE_PX = 40
_ROW_PX = 56
_BOX_PX = 40
_SMALL_LETTER_PX = 5.8
_ID_MAX = 32
_LABEL_MAX = 24
_GAP_PX = 64
_PORT_PX = 13


def rendered(graph: Any, format: str) -> bytes:
    """A graph (`services.world_graph.WorldGraph`) in one of `FORMATS`. UsageError where it is too large to be drawn."""
    if format == "dot":
        return dot_text(graph).encode()
    if len(graph.entities) > PICTURE_ENTITIES_MAX:
        raise UsageError(
            f"{len(graph.entities)} entities are too many for a picture (at most {PICTURE_ENTITIES_MAX}): "
            f"give a smaller --depth, or --format dot"
        )
    return themed(svg_text(graph)).encode() if format == "svg" else png(svg_text(graph))


def write(path: str | PathLike[str], graph: Any, format: str) -> None:
    """Write a graph to a file."""
    Path(path).write_bytes(rendered(graph, format))


def dot_text(graph: Any) -> str:
    """The graph in the language of Graphviz."""
    lines = [f"digraph {_dotted(graph.entity_id)} {{", "  rankdir=LR;", "  node [shape=box, style=rounded];"]
    for each in graph.entities:
        told = f"{each.entity_id}\n{each.kind or _NO_ENTITY}"
        dashed = "" if each.kind else ', style="rounded,dashed"'
        lines.append(f"  {_dotted(each.entity_id)} [label={_dotted(told)}{dashed}];")
    lines += [
        f"  {_dotted(each.source)} -> {_dotted(each.target)} [label={_dotted(each.label)}];" for each in graph.relations
    ]
    return "\n".join([*lines, "}", ""])


def _dotted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


@dataclass(frozen=True)
class _Box:
    """Where an entity is drawn, in pixels: its left and right side and its middle."""

    left: float
    right: float
    middle: float
    column: int


def svg_text(graph: Any) -> str:
    """The graph as SVG."""
    tree = as_tree(graph)
    kinds = {each.entity_id: each.kind for each in graph.entities}
    boxes = _placed(tree, kinds)
    width = max(box.right for box in boxes.values()) + _MARGIN_PX + (_GAP_PX * 1.2 if tree.other else 0)
    height = max(box.middle for box in boxes.values()) + _BOX_PX / 2 + _MARGIN_PX
    at = "" if graph.at is None else f" at {graph.at}"
    title = f"{graph.entity_id} · {graph.branch}{at} · {counted(len(graph.relations), 'relation')}"
    width = max(width, 2 * _MARGIN_PX + width_of(title, LETTER_PX * 1.1))
    led = [each for name in tree.below for each, _ in tree.below[name]]
    drawn = [*led, *tree.other]
    curves = _curves(drawn, boxes)
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0f}' height='{height:.0f}'"
            f" viewBox='0 0 {width:.0f} {height:.0f}' {FONT}>",
            "<defs><marker id='end' viewBox='0 0 8 8' refX='7.5' refY='4' markerWidth='8' markerHeight='8'"
            " orient='auto'><path d='M0,0.5 L8,4 L0,7.5 z' fill='#6b7280'/></marker></defs>",
            "<rect width='100%' height='100%' fill='#ffffff'/>",
            written(_MARGIN_PX, _MARGIN_PX + 6, title, 14, "#1f2937", "font-weight='bold'"),
            *(_line(curve, dashed=place >= len(led)) for place, curve in enumerate(curves)),
            *(_box(name, kinds[name], box, name == graph.entity_id) for name, box in boxes.items()),
            *(_label(each, curve) for each, curve in zip(drawn, curves, strict=True)),
            "</svg>",
            "",
        ]
    )


def _placed(tree: Branching, kinds: Mapping[str, str | None]) -> dict[str, _Box]:
    """A row for each entity without any below it; the others stand in the middle of theirs."""
    columns, order = dict.fromkeys(tree.roots, 0), list(tree.roots)
    rows: dict[str, float] = {}
    for name in order:
        for _, end in tree.below[name]:
            columns[end] = columns[name] + 1
            order.append(end)
    free = 0
    walk = [(root, False) for root in reversed(tree.roots)]
    while walk:
        name, done = walk.pop()
        ends = [end for _, end in tree.below[name]]
        if done:
            rows[name] = (rows[ends[0]] + rows[ends[-1]]) / 2
        elif ends:
            walk += [(name, True), *((end, False) for end in reversed(ends))]
        else:
            rows[name], free = float(free), free + 1
    widths = {name: max(width_of(cut(name, _ID_MAX)), _small(kinds[name] or _NO_ENTITY)) + 24 for name in order}
    gaps = _gaps(tree, columns)
    left, lefts = float(_MARGIN_PX), []
    for column in range(max(columns.values()) + 1):
        lefts.append(left)
        left += max(widths[name] for name in order if columns[name] == column) + gaps.get(column, _GAP_PX)
    middle = _MARGIN_PX + _TITLE_PX
    return {
        name: _Box(
            lefts[columns[name]], lefts[columns[name]] + widths[name], middle + rows[name] * _ROW_PX, columns[name]
        )
        for name in order
    }


def _gaps(tree: Branching, columns: Mapping[str, int]) -> dict[int, float]:
    """How far each column is from the next: the longest label between them has room."""
    gaps: dict[int, float] = {}
    for name, ends in tree.below.items():
        for each, _ in ends:
            needed = _GAP_PX + _small(cut(each.label, _LABEL_MAX))
            gaps[columns[name]] = max(gaps.get(columns[name], 0), needed)
    return gaps


def _box(name: str, kind: str | None, box: _Box, root: bool) -> str:
    fill, stroke = _MISSING if kind is None else _COLOURS.get(kind, _COLOURS["entity"])
    dashes = " stroke-dasharray='4 3'" if kind is None else ""
    centre = (box.left + box.right) / 2
    told = "text-anchor='middle'"
    return (
        f"<g><title>{escaped(name)}</title><rect x='{box.left:.1f}' y='{box.middle - _BOX_PX / 2:.1f}'"
        f" width='{box.right - box.left:.1f}' height='{_BOX_PX}' rx='7' fill='{fill}' stroke='{stroke}'"
        f" stroke-width='{2.5 if root else 1.2}'{dashes}/>"
        + written(centre, box.middle - 2, cut(name, _ID_MAX), 13, "#1f2937", told)
        + written(centre, box.middle + 13, kind or _NO_ENTITY, 10, "#6b7280", told)
        + "</g>"
    )


def _line(points: _Curve, *, dashed: bool) -> str:
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = points
    dashes = " stroke-dasharray='5 4'" if dashed else ""
    return (
        f"<path d='M{x0:.1f},{y0:.1f} C{x1:.1f},{y1:.1f} {x2:.1f},{y2:.1f} {x3:.1f},{y3:.1f}' fill='none'"
        f" stroke='#6b7280' stroke-width='1.3'{dashes} marker-end='url(#end)'/>"
    )


def _curves(relations: Sequence[Any], boxes: Mapping[str, _Box]) -> list[_Curve]:
    """A curve for each relation; within a column it goes around to the right."""
    edges: dict[int, float] = {}
    for box in boxes.values():
        edges[box.column] = max(edges.get(box.column, 0), box.right)
    heights = _ports(relations, boxes)
    curves = []
    for place, each in enumerate(relations):
        source, target = boxes[each.source], boxes[each.target]
        y0, y3 = heights[place, True], heights[place, False]
        if source.column == target.column:
            x = edges[source.column] + _GAP_PX * 0.7
            curves.append(((source.right, y0), (x, y0), (x, y3), (target.right, y3)))
        else:
            x0, x3 = (source.right, target.left) if source.column < target.column else (source.left, target.right)
            bend = (x3 - x0) / 2
            curves.append(((x0, y0), (x0 + bend, y0), (x3 - bend, y3), (x3, y3)))
    return curves


def _ports(relations: Sequence[Any], boxes: Mapping[str, _Box]) -> dict[tuple[int, bool], float]:
    """How high each curve begins (True) and ends: apart from the others of a box, in the order of where they lead."""
    sides: dict[tuple[str, bool], list[tuple[float, int, bool]]] = {}
    for place, each in enumerate(relations):
        for name, other, begins in ((each.source, each.target, True), (each.target, each.source, False)):
            right = boxes[other].column >= boxes[name].column
            sides.setdefault((name, right), []).append((boxes[other].middle, place, begins))
    heights = {}
    for (name, _), ends in sides.items():
        step = min(_PORT_PX, (_BOX_PX - 8) / len(ends))
        for index, (_, place, begins) in enumerate(sorted(ends, key=lambda end: (end[0], end[1], not end[2]))):
            heights[place, begins] = boxes[name].middle + (index - (len(ends) - 1) / 2) * step
    return heights


def _label(relation: Any, points: _Curve) -> str:
    """In the middle of a curve."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = points
    x, y = (x0 + 3 * x1 + 3 * x2 + x3) / 8, (y0 + 3 * y1 + 3 * y2 + y3) / 8
    halo = "text-anchor='middle' paint-order='stroke' stroke='#ffffff' stroke-width='4' stroke-linejoin='round'"
    return written(x, y + 3.5, cut(relation.label, _LABEL_MAX), 10.5, "#374151", halo)


def _small(text: str) -> float:
    return width_of(text, _SMALL_LETTER_PX)
