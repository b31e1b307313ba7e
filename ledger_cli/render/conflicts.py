"""A picture of a reconciliation: what each side said, and what became of it. SVG; PNG needs the extra `render`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger_cli.render.common.conflicts import differing, outcome_words
from ledger_cli.render.common.svg import FONT, cut, escaped, png, width_of, written
from ledger_cli.render.common.words import counted, shown

ROWS_MAX = 60
"""More are counted, not drawn."""
_COLOURS = {"a": ("#dbeafe", "#2563eb"), "b": ("#ffedd5", "#c2570c")}
_INK, _QUIET = "#1f2937", "#6b7280"
_MARGIN, _HEAD, _ROW, _PILL, _GAP = 24, 92, 46, 34, 18
_TEXT_MAX = 44


@dataclass(frozen=True)
class _Row:
    """A conflict: what it is about, what either side said and when, and whose word stays."""

    about: str
    rule: str
    a: str
    b: str
    when_a: str
    when_b: str
    kept: str


def write_svg(path: Path, plan: Any) -> None:
    """Write the picture of a plan (`services.reconcile.ReconcilePlan`)."""
    path.write_text(svg_text(plan), encoding="utf-8")


def write_png(path: Path, plan: Any) -> None:
    """The same as PNG."""
    path.write_bytes(png(svg_text(plan)))


def svg_text(plan: Any) -> str:
    """The picture as SVG: a line for each conflict, what stays in colour, what does not struck out."""
    rows = [*_ticks(plan), *_fields(plan)]
    total = len(plan.ticks.losers) + len(plan.world.conflicts)
    drawn = rows[:ROWS_MAX]
    about = max([width_of(row.about) for row in drawn] + [width_of("no conflict")])
    said = {side: _column(getattr(row, side) for row in drawn) for side in "ab"}
    lefts = {"a": _MARGIN + about + _GAP, "b": _MARGIN + about + 2 * _GAP + said["a"]}
    end = lefts["b"] + said["b"]
    title = f"{plan.a} with {plan.b} · {counted(total, 'conflict')}"
    width = max(end + _MARGIN, 2 * _MARGIN + width_of(title, 9), 2 * _MARGIN + width_of(outcome_words(plan), 6.2))
    height = _HEAD + _ROW * len(drawn) + (26 if total > len(drawn) else 0) + _MARGIN / 2
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0f}' height='{height:.0f}'"
        f" viewBox='0 0 {width:.0f} {height:.0f}' {FONT}>",
        "<rect width='100%' height='100%' fill='#ffffff'/>",
        written(_MARGIN, 30, title, 16, _INK, "font-weight='bold'"),
        written(_MARGIN, 50, outcome_words(plan), 11.5, _QUIET),
    ]
    for side, name in (("a", plan.a), ("b", plan.b)):
        parts.append(written(lefts[side], _HEAD - 12, name, 13, _COLOURS[side][1], "font-weight='bold'"))
    for place, row in enumerate(drawn):
        top = _HEAD + place * _ROW
        parts.append(written(_MARGIN, top + 14, row.about, 13, _INK))
        parts.append(written(_MARGIN, top + 29, row.rule, 10.5, _QUIET))
        for side in "ab":
            stays = row.kept in (side, "both")
            parts.append(_pill(lefts[side], top, said[side], side, getattr(row, side), stays, row.kept == "neither"))
            parts.append(written(lefts[side] + 10, top + 28, getattr(row, f"when_{side}"), 9.5, _QUIET))
    if total > len(drawn):
        parts.append(written(_MARGIN, height - 14, f"and {shown(total - len(drawn))} more", 11.5, _QUIET))
    return "\n".join([*parts, "</svg>", ""])


def _column(texts: Iterable[str]) -> float:
    return max([150.0, *(width_of(cut(text, _TEXT_MAX)) + 24 for text in texts)])


def _pill(left: float, top: float, width: float, side: str, text: str, stays: bool, open_: bool) -> str:
    fill, stroke = _COLOURS[side]
    dashes = "" if stays else " stroke-dasharray='4 3'"
    struck = "" if stays or open_ else "text-decoration='line-through'"
    ink = _INK if stays or open_ else _QUIET
    return (
        f"<g><title>{escaped(text)}</title><rect x='{left:.1f}' y='{top}' width='{width:.1f}' height='{_PILL}' rx='7'"
        f" fill='{fill if stays else '#ffffff'}' stroke='{stroke if stays or open_ else '#a9adb3'}'{dashes}/>"
        + written(left + 10, top + 15, cut(text, _TEXT_MAX), 13, ink, struck)
        + "</g>"
    )


def _ticks(plan: Any) -> Iterable[_Row]:
    for conflict in plan.ticks.conflicts:
        kept, refused = json.loads(conflict.kept), json.loads(conflict.refused)
        side = "a" if conflict.kept_of == plan.a else "b"
        words = differing(kept, refused), differing(refused, kept)
        a, b = words if side == "a" else words[::-1]
        about = f"{kept['entityId']} · tick {kept['tickId']}"
        yield _Row(about, "the first by timestamp stays", a, b, "", "", side)


def _fields(plan: Any) -> Iterable[_Row]:
    rules = {
        "lww": "the last write stays",
        "max": "the highest stays",
        "min": "the lowest stays",
        "sum": "both are added",
        "union": "both are united",
        "manual": "a person decides",
    }
    for each in plan.world.conflicts:
        about = f"{each.entity_id} · {each.module}.{each.field}"
        rule = rules.get(each.rule, each.rule)
        yield _Row(about, rule, shown(each.a), shown(each.b), _moment(each.hlc_a), _moment(each.hlc_b), each.kept)


def _moment(reading: str) -> str:
    """When a clock reading was taken, and by whom."""
    return f"{reading[:23].replace('T', ' ')} · {reading[33:]}"
