"""A picture of a reconciliation: what each side said, and what became of it. SVG; PNG needs the extra `render`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger_cli.render.common.conflicts import differing, outcome_words, payload_words, time_words
from ledger_cli.render.common.svg import FONT, cut, escaped, png, themed, width_of, written
from ledger_cli.render.common.words import counted, shown

ROWS_MAX = 60
"""More are counted, not drawn."""
_COLOURS = {"a": ("#dbeafe", "#2563eb"), "b": ("#ffedd5", "#c2570c")}
_INK, _QUIET = "#1f2937", "#6b7280"
_MARGIN, _HEAD, _ROW, _PILL, _GAP = 24, 92, 46, 34, 18
_TEXT_MAX, _RULE_MAX = 44, 64
_SMALL_LETTER_PX = 5.3
"""About the width of a letter of 10 px."""


@dataclass(frozen=True)
class _Row:
    """A conflict: what it is about, what either side said (None: nothing) and when, and whose word stays."""

    about: str
    rule: str
    a: str | None
    b: str | None
    when_a: str
    when_b: str
    kept: str


def write_svg(path: Path, plan: Any) -> None:
    """Write the picture of a plan (`services.reconcile.ReconcilePlan`), light or dark as its reader has it."""
    path.write_text(themed(svg_text(plan)), encoding="utf-8")


def write_png(path: Path, plan: Any) -> None:
    """The same as PNG."""
    path.write_bytes(png(svg_text(plan)))


def svg_text(plan: Any) -> str:
    """The picture as SVG: a line for each conflict and each event that both together cannot have.

    What stays is in colour, what does not struck out.
    """
    rows = [*_fields(plan), *_refused(plan), *_ticks(plan)]
    conflicts, refused = len(plan.ticks.losers) + len(plan.world.conflicts), len(plan.world.refused)
    total = conflicts + refused
    drawn = rows[:ROWS_MAX]
    about = max([_about_width(row) for row in drawn] + [width_of("no conflict")])
    said = {side: _column((getattr(row, side), getattr(row, f"when_{side}")) for row in drawn) for side in "ab"}
    lefts = {"a": _MARGIN + about + _GAP, "b": _MARGIN + about + 2 * _GAP + said["a"]}
    end = lefts["b"] + said["b"]
    title = f"{plan.a} with {plan.b} · {counted(conflicts, 'conflict')}"
    title += f" · {counted(refused, 'event')} refused" if refused else ""
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
        rule = written(_MARGIN, top + 29, cut(row.rule, _RULE_MAX), 10.5, _QUIET)
        parts.append(f"<g><title>{escaped(row.rule)}</title>{rule}</g>")
        for side in "ab":
            text, stays = getattr(row, side), row.kept in (side, "both")
            if text is None:
                continue
            parts.append(_pill(lefts[side], top, said[side], side, text, stays, row.kept == "neither"))
            parts.append(written(lefts[side] + 10, top + 28, getattr(row, f"when_{side}"), 9.5, _QUIET))
    if total > len(drawn):
        parts.append(written(_MARGIN, height - 14, f"and {shown(total - len(drawn))} more", 11.5, _QUIET))
    return "\n".join([*parts, "</svg>", ""])


def _about_width(row: _Row) -> float:
    return max(width_of(row.about), width_of(cut(row.rule, _RULE_MAX), _SMALL_LETTER_PX))


def _column(said: Iterable[tuple[str | None, str]]) -> float:
    widths = (max(width_of(cut(text or "", _TEXT_MAX)), width_of(when, _SMALL_LETTER_PX)) for text, when in said)
    return max([150.0, *(width + 24 for width in widths)])


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
    told = ((json.loads(each.kept), json.loads(each.refused), each) for each in plan.ticks.conflicts)
    for kept, refused, conflict in sorted(told, key=lambda each: (each[0]["tickId"], each[0]["entityId"])):
        side = "a" if conflict.kept_of == plan.a else "b"
        a, b = (kept, refused) if side == "a" else (refused, kept)
        about = f"{kept['entityId']} · tick {kept['tickId']}"
        rule = "the first by timestamp stays"
        yield _Row(about, rule, _apart(a, b), _apart(b, a), _stamp(a), _stamp(b), side)


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


def _refused(plan: Any) -> Iterable[_Row]:
    told = ((json.loads(each.text), each) for each in plan.world.refused)
    for event, each in sorted(told, key=lambda pair: pair[0]["hlc"]):
        words, when = payload_words(event), _moment(event["hlc"])
        a, b = ((words, when) if each.of in (side, "both") else (None, "") for side in "ab")
        yield _Row(f"{event['entityId']} · {event['type']}", each.detail, a[0], b[0], a[1], b[1], "")


def _apart(tick: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What differs beside the timestamp, which stands below; that itself where nothing else does."""
    without = ({**each, "timestamp": None} for each in (tick, other))
    return differing(*without) or differing(tick, other)


def _stamp(tick: Mapping[str, Any]) -> str:
    return "" if tick.get("timestamp") is None else time_words(tick["timestamp"])


def _moment(reading: str) -> str:
    """When a clock reading was taken, and by whom."""
    return f"{reading[:23].replace('T', ' ')} · {reading[33:]}"
