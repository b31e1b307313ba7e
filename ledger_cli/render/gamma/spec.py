"""Gamma as an Altair chart, and as the static pictures made from it. Needs the extra `render`.

Every name inside a specification is given here and none is generated, so that one frame
gives the same bytes every time.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ledger_cli.core.gamma_view import GammaFrame, GammaRow, GammaView, extent
from ledger_cli.errors import MissingExtra
from ledger_cli.render.common.words import counted, printable, shown
from ledger_cli.render.gamma.style import (
    BAR,
    DECOUPLED,
    MAP_SIDE_PX,
    NO_PLACE,
    NO_REGIONS,
    VIRIDIS,
    MapLayout,
    map_layout,
    number,
)  # fmt: skip

if TYPE_CHECKING:
    import altair

BARS_MAX = 30
MARK_MIN_PX = 8.0
NAME = "cells"
INK, QUIET, PAPER, PANEL = "#24292f", "#6b7280", "#ffffff", "#f3f4f6"
NUMBERS = {"decimal": ".", "thousands": " ", "grouping": [3], "currency": ["", ""]}
"""As everywhere else here (`words.grouped`)."""
_DECIMAL = ",.6~r"
"""Six significant digits, never with an exponent: 40 000 000 and not 4e+7."""
TOOLTIP = (
    ("region", "region", "nominal", None),
    ("weight", "weight", "quantitative", _DECIMAL),
    ("mean", "activity mean", "quantitative", ",.6~g"),
    ("variance", "activity variance", "quantitative", ",.6~g"),
    ("pooledMean", "pooled mean", "quantitative", ",.6~g"),
    ("pooledVariance", "pooled variance", "quantitative", ",.6~g"),
    ("count", "events", "quantitative", ",d"),
    ("commits", "commits", "quantitative", ",d"),
    ("lastCommit", "last commit", "nominal", None),
    ("lastEpochEnd", "last epoch end", "quantitative", "d"),
)


@dataclass(frozen=True, slots=True)
class Canvas:
    """What all frames of a chart share."""

    maximum: float
    exponent: float
    layout: MapLayout | None
    decoupled: bool


_DRAWN_WITH = ("altair", "vl_convert")


def load(module: str) -> Any:
    """The module, or the command that installs it."""
    try:
        return import_module(module)
    except ImportError as problem:
        raise MissingExtra("render", module.replace("_", "-")) from problem


def check_installed() -> None:
    """MissingExtra where what draws is not installed; told without importing it."""
    for module in _DRAWN_WITH:
        if find_spec(module) is None:
            raise MissingExtra("render", module.replace("_", "-"))


def canvas_of(view: GammaView, exponent: float) -> Canvas:
    """Scale and area over all frames, so that the frames compare."""
    rows = tuple(row for row in view.rows() if row.bounds is not None)
    area = extent(rows)
    layout = map_layout(rows, area) if area is not None else None
    return Canvas(view.heaviest, exponent, layout, any(row.decoupled for row in view.rows()))


def as_view(subject: GammaFrame | GammaView) -> GammaView:
    """A single frame is a view of one."""
    return subject if isinstance(subject, GammaView) else GammaView(subject.title, (subject,))


def compact(value: float | None) -> float | int | None:
    """Six significant digits: more than a picture can show. Not a number where there is none."""
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def record(row: GammaRow, layout: MapLayout | None) -> dict[str, Any]:
    """One datum of a chart."""
    datum: dict[str, Any] = {
        "region": printable(row.region),
        "weight": compact(row.weight),
        "mean": compact(row.activity_mean),
        "variance": compact(row.activity_var),
        "pooledMean": compact(row.pooled_mean),
        "pooledVariance": compact(row.pooled_var),
        "count": row.count,
        "commits": row.commits,
        "lastCommit": printable(row.last_commit),
        "lastEpochEnd": row.last_epoch_end,
        "decoupled": row.decoupled,
    }
    if layout is not None and row.bounds is not None:
        datum |= dict(zip(("x0", "y0", "x1", "y1"), layout.visible(row.bounds), strict=True))
    return datum


def chart(subject: GammaFrame | GammaView, *, exponent: float = 1.0) -> altair.LayerChart:
    """The map (or, without geometry, the bars) of a frame; of several frames, with a slider."""
    alt = load("altair")
    view = as_view(subject)
    canvas = canvas_of(view, exponent)
    if len(view.frames) < 2:
        return _picture(alt, view, canvas)
    headings = [_subtitle(frame, canvas) for frame in view.frames]
    slider = alt.binding_range(min=0, max=len(headings) - 1, step=1, name="frame ")
    chosen = alt.param(name="frame", value=len(headings) - 1, bind=slider)
    values = [
        record(row, canvas.layout) | {"frame": index}
        for index, frame in enumerate(view.frames)
        for row in _shown(frame.rows, canvas)
    ]
    data = alt.InlineData(values=values, name=NAME)
    layers = marks(alt, data, canvas).transform_filter("datum.frame === frame").add_params(chosen)
    title = alt.ExprRef(f"[{_literal(view.title)}, [{','.join(map(_literal, headings))}][frame]]")
    drawn: altair.LayerChart = _titled(alt, layers, title, None)
    return drawn


def picture_spec(subject: GammaFrame | GammaView, exponent: float = 1.0) -> dict[str, Any]:
    """The Vega-Lite specification of one picture; of several frames the last, on the scale of all."""
    alt = load("altair")
    view = as_view(subject)
    spec: dict[str, Any] = _picture(alt, view, canvas_of(view, exponent)).to_dict()
    return spec


def page_spec(view: GammaView, exponent: float = 1.0) -> dict[str, Any]:
    """The specification for a page that feeds the data set `cells` itself, and has its own title.

    The parameter `exponent` may be set by the page.
    """
    alt = load("altair")
    drawn = marks(alt, alt.NamedData(name=NAME), canvas_of(view, exponent), alt.ExprRef("exponent"))
    drawn = drawn.add_params(alt.param(name="exponent", value=exponent))
    spec: dict[str, Any] = _configured(drawn).to_dict()
    return spec


def marks(alt: Any, data: Any, canvas: Canvas, exponent: Any = None) -> Any:
    """The layers of a chart, with nothing said yet about titles."""
    if canvas.layout is None:
        return _bars(alt, data, canvas)
    return _cells(alt, data, canvas, canvas.layout, exponent if exponent is not None else canvas.exponent)


def _cells(alt: Any, data: Any, canvas: Canvas, layout: MapLayout, exponent: Any) -> Any:
    x0, y0, x1, y1 = layout.domain
    area = {"zero": False, "nice": False}
    base = alt.Chart(data, width=layout.width_px, height=layout.height_px)
    x = alt.X("x0:Q", title="x", scale=alt.Scale(domain=[x0, x1], **area), axis=_axis(alt, layout.width_px))
    y = alt.Y("y0:Q", title="y", scale=alt.Scale(domain=[y0, y1], **area), axis=_axis(alt, layout.height_px))
    cells = base.mark_rect(stroke=PANEL, strokeWidth=1 if layout.cell_px >= MARK_MIN_PX else 0).encode(
        x=x, x2="x1:Q", y=y, y2="y1:Q",
        color=alt.condition("datum.weight > 0", _colour(alt, canvas, layout, exponent), alt.value(DECOUPLED)),
        tooltip=_tooltips(alt),
    )  # fmt: skip
    if not canvas.decoupled or layout.cell_px < MARK_MIN_PX:
        return alt.layer(cells)
    crosses = (
        base.transform_filter("datum.decoupled")
        .transform_calculate(cx="(datum.x0 + datum.x1) / 2", cy="(datum.y0 + datum.y1) / 2")
        .mark_text(text="×", color=PAPER, fontSize=min(layout.cell_px * 0.7, 28), tooltip=None)
        .encode(x=alt.X("cx:Q"), y=alt.Y("cy:Q"))
    )
    return alt.layer(cells, crosses)


def _colour(alt: Any, canvas: Canvas, layout: MapLayout, exponent: Any) -> Any:
    length = min(max(layout.height_px - 20, 80), 240)
    scale = alt.Scale(
        type="pow", exponent=exponent, domain=[0, canvas.maximum or 1.0], range=list(VIRIDIS),
        interpolate="rgb", clamp=True,
    )  # fmt: skip
    legend = alt.Legend(title="weight", gradientLength=length, gradientThickness=12, tickCount=5, format=_DECIMAL)
    return alt.Color("weight:Q", scale=scale, legend=legend)


def _bars(alt: Any, data: Any, canvas: Canvas) -> Any:
    order = alt.EncodingSortField(field="weight", op="max", order="descending")
    scale = alt.Scale(domain=[0, canvas.maximum or 1.0], nice=False)
    axis = alt.Axis(orient="top", tickCount=5, format=_DECIMAL, gridColor="#e5e7eb", domain=False)
    ranked = (
        alt.Chart(data, width=MAP_SIDE_PX, height=alt.Step(18))
        .transform_window(
            place="row_number()",
            sort=[alt.SortField("weight", order="descending"), alt.SortField("region", order="ascending")],
            groupby=["frame"],
        )
        .transform_filter(f"datum.place <= {BARS_MAX}")
    )
    bars = ranked.mark_bar(color=BAR).encode(
        x=alt.X("weight:Q", title="weight", scale=scale, axis=axis),
        y=alt.Y(
            "region:N",
            title=None,
            sort=order,
            axis=alt.Axis(labelLimit=180, labelPadding=6, ticks=False, domain=False),
        ),
        tooltip=_tooltips(alt),
    )
    labels = ranked.mark_text(align="left", dx=4, color=QUIET, tooltip=None).encode(
        x="weight:Q",
        y=alt.Y("region:N", sort=order),
        text=alt.condition("datum.decoupled", alt.value("decoupled"), alt.Text("weight:Q", format=_DECIMAL)),
    )
    return alt.layer(bars, labels)


def _picture(alt: Any, view: GammaView, canvas: Canvas) -> altair.LayerChart:
    frame = view.frames[-1] if view.frames else GammaFrame("", 0, ())
    layers = _static(alt, frame, canvas)
    drawn: altair.LayerChart = _titled(alt, layers, view.title, _subtitle(frame, canvas))
    return drawn


def _static(alt: Any, frame: GammaFrame, canvas: Canvas) -> Any:
    rows = _shown(frame.rows, canvas)
    if not rows:
        text = NO_PLACE if frame.rows else NO_REGIONS
        data = alt.InlineData(values=[{"text": text}], name=NAME)
        words = alt.Chart(data, width=MAP_SIDE_PX, height=80).mark_text(color=QUIET, fontSize=14)
        return alt.layer(words.encode(text="text:N"))
    data = alt.InlineData(values=[record(row, canvas.layout) for row in rows], name=NAME)
    return marks(alt, data, canvas)


def _shown(rows: tuple[GammaRow, ...], canvas: Canvas) -> tuple[GammaRow, ...]:
    return rows if canvas.layout is None else tuple(row for row in rows if row.bounds is not None)


def _subtitle(frame: GammaFrame, canvas: Canvas) -> str:
    facts = [
        printable(frame.heading),
        counted(len(frame.rows), "region"),
        f"total weight {number(frame.total)}",
    ]
    off_map = frame.off_map()
    if canvas.layout is not None and off_map:
        facts.append(f"{shown(len(off_map))} not on the map")
    if canvas.layout is None and len(frame.rows) > BARS_MAX:
        facts.append(f"the {BARS_MAX} heaviest shown")
    if canvas.layout is not None and any(row.decoupled for row in frame.rows):
        facts.append("grey: decoupled")
    return " · ".join(facts)


def _titled(alt: Any, layers: Any, title: Any, subtitle: str | None) -> Any:
    below = {} if subtitle is None else {"subtitle": subtitle}
    text = printable(title) if isinstance(title, str) else title
    return _configured(layers.properties(title=alt.TitleParams(text, anchor="start", offset=14, **below)))


def _configured(layers: Any) -> Any:
    words = {"labelColor": QUIET, "titleColor": QUIET, "titleFontWeight": "normal"}
    return (
        layers.configure(font="sans-serif", background=PAPER, padding=16, locale={"number": NUMBERS})
        .configure_view(fill=PANEL if layers_have_map(layers) else None, stroke=None)
        .configure_axis(**words, labelFontSize=11, titleFontSize=12, domainColor="#d1d5db", tickColor="#d1d5db")
        .configure_legend(**words, labelFontSize=11, titleFontSize=12)
        .configure_title(color=INK, subtitleColor=QUIET, fontSize=17, subtitleFontSize=12, subtitlePadding=6)
    )


def layers_have_map(layers: Any) -> bool:
    """Whether the first layer draws cells."""
    return bool(getattr(layers.layer[0].mark, "type", None) == "rect")


def _tooltips(alt: Any) -> list[Any]:
    return [
        alt.Tooltip(field=field, title=title, type=kind, **({"format": form} if form else {}))
        for field, title, kind, form in TOOLTIP
    ]


def _axis(alt: Any, side_px: int) -> Any:
    return alt.Axis(grid=False, tickCount=max(2, min(side_px // 70, 8)), format=_DECIMAL, labelFlush=True)


def _literal(text: str) -> str:
    """The text as a string of Vega's expression language."""
    return json.dumps(printable(text))
