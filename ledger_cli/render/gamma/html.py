"""One frame as a fragment of HTML for notebooks: an inline SVG map and a table.

Pure Python, no extra needed.
"""

from __future__ import annotations

from html import escape

from ledger_cli.core.gamma_view import (
    GammaFrame,
    GammaRow,
    WeightScale,
    by_weight,
    extent,
    heaviest,
    short_commit,
)
from ledger_cli.render.common.words import counted, printable, shown
from ledger_cli.render.gamma.style import (
    DECOUPLED,
    NO_REGIONS,
    MapLayout,
    map_layout,
    number,
    ramp,
)  # fmt: skip

SIDE_PX = 320.0
TABLE_ROWS_MAX = 15
HEADINGS = ("region", "weight", "activity mean", "variance", "events", "commits", "last commit")


def frame_html(frame: GammaFrame) -> str:
    """Title, map (where regions have a place) and the heaviest regions, on any background."""
    facts = f"{frame.heading} · {counted(len(frame.rows), 'region')} · total weight {number(frame.total)}"
    body = _picture(frame) + _table(frame) if frame.rows else f"<p>{NO_REGIONS}</p>"
    return (
        '<div style="font:13px/1.5 system-ui,sans-serif">'
        f"<p><b>{_text(frame.title)}</b> · {_text(facts)}</p>"
        f'<div style="display:flex;flex-wrap:wrap;gap:24px;align-items:flex-start">{body}</div></div>'
    )


def _text(text: str) -> str:
    return escape(printable(text))


def _picture(frame: GammaFrame) -> str:
    rows = frame.placed()
    area = extent(rows)
    if area is None:
        return ""
    layout = map_layout(rows, area, SIDE_PX)
    scale = WeightScale(heaviest(rows))
    cells = "".join(_cell(row, layout, scale) for row in rows)
    width, height = layout.width_px, layout.height_px
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="weight by region">'
        f'<rect width="{width}" height="{height}" fill="currentColor" fill-opacity="0.06"/>{cells}</svg>'
    )


def _cell(row: GammaRow, layout: MapLayout, scale: WeightScale) -> str:
    assert row.bounds is not None
    x0, y0, x1, y1 = layout.visible(row.bounds)
    left, low, right, high = layout.domain
    per_x, per_y = layout.width_px / (right - left), layout.height_px / (high - low)
    colour = ramp(scale.position(row.weight)) if row.weight > 0 else DECOUPLED
    title = f"{row.region}: weight {number(row.weight)}" + (", decoupled" if row.decoupled else "")
    return (
        f'<rect x="{(x0 - left) * per_x:.2f}" y="{(high - y1) * per_y:.2f}" '
        f'width="{(x1 - x0) * per_x:.2f}" height="{(y1 - y0) * per_y:.2f}" fill="{colour}">'
        f"<title>{_text(title)}</title></rect>"
    )


def _table(frame: GammaFrame) -> str:
    rows = by_weight(frame.rows)
    head = "".join(_table_cell("th", index, heading) for index, heading in enumerate(HEADINGS))
    lines = "".join(_line(row) for row in rows[:TABLE_ROWS_MAX])
    rest = len(rows) - TABLE_ROWS_MAX
    words = f"… and {shown(rest)} more" if rest > 0 else ""
    more = f'<tr><td colspan="{len(HEADINGS)}" style="text-align:left">{words}</td></tr>' if words else ""
    style = "font:inherit;border-collapse:collapse;border-spacing:0"
    return f'<table style="{style}"><thead><tr>{head}</tr></thead><tbody>{lines}{more}</tbody></table>'


def _line(row: GammaRow) -> str:
    mean = "decoupled" if row.decoupled else number(row.activity_mean)
    cells = (
        row.region, number(row.weight), mean, number(row.activity_var),
        shown(row.count), shown(row.commits), short_commit(row.last_commit),
    )  # fmt: skip
    return "<tr>" + "".join(_table_cell("td", index, cell) for index, cell in enumerate(cells)) + "</tr>"


def _table_cell(tag: str, column: int, text: str) -> str:
    side = "left" if column in (0, len(HEADINGS) - 1) else "right"
    return f'<{tag} style="padding:1px 12px 1px 0;text-align:{side}">{_text(text)}</{tag}>'
