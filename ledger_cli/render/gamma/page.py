"""Gamma over time as one self-contained HTML page: a slider over frames, and no network at all.

The data is columns of changes: a frame holds, per column, only what differs from the frame before, as
indexes and values; a number in place of the indexes says that they are those of that column.
A Content-Security-Policy in the page forbids every request, so that the browser enforces it.
"""

from __future__ import annotations

import html
import json
from functools import lru_cache
from typing import Any

from ledger_cli.core.gamma_view import GammaFrame, GammaRow, GammaView, short_commit
from ledger_cli.render.common.words import printable
from ledger_cli.render.gamma.page_text import PAGE, SCRIPT, STYLE
from ledger_cli.render.gamma.spec import BARS_MAX, Canvas, canvas_of, compact, load, page_spec
from ledger_cli.render.gamma.style import NO_REGIONS

COLUMNS = (
    "weight", "mean", "variance", "pooledMean", "pooledVariance",
    "count", "commits", "lastCommit", "lastEpochEnd", "decoupled",
)  # fmt: skip


def to_html(view: GammaView, *, exponent: float = 1.0) -> str:
    """The page. Same view, same text. The colour scale is that of all frames together."""
    bundle = vega_bundle()
    canvas = canvas_of(view, exponent)
    spec = page_spec(view, exponent) if any(frame.rows for frame in view.frames) else None
    return PAGE.format(
        title=html.escape(printable(view.title)),
        style=STYLE,
        bundle=bundle,
        payload=script_safe(payload(view, canvas)),
        spec=script_safe(spec),
        script=SCRIPT,
    )


@lru_cache(maxsize=1)
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script."""
    altair, vl_convert = load("altair"), load("vl_convert")
    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    return bundle.replace("</script", "<\\/script")


def script_safe(value: Any) -> str:
    """JSON that can stand inside a script element: nothing in it can end or open one."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def payload(view: GammaView, canvas: Canvas) -> dict[str, Any]:
    """Regions and commits once, then the changes frame by frame."""
    regions: dict[str, int] = {}
    places: list[list[float] | None] = []
    commits: dict[str, int] = {}
    frames = []
    before: dict[int, tuple[Any, ...]] = {}
    for frame in view.frames:
        now: dict[int, tuple[Any, ...]] = {}
        for row in frame.rows:
            index = regions.setdefault(row.region, len(regions))
            if index == len(places):
                places.append(_place(row, canvas))
            now[index] = _values(row, commits.setdefault(row.last_commit, len(commits)))
        frames.append(_frame(frame, before, now))
        before = now
    return {
        "columns": COLUMNS,
        "regions": [printable(region) for region in regions],
        "places": places,
        "commits": [printable(commit) for commit in commits],
        "frames": frames,
        "map": canvas.layout is not None,
        "barsMax": BARS_MAX,
        "empty": NO_REGIONS,
    }


def _place(row: GammaRow, canvas: Canvas) -> list[float] | None:
    if row.bounds is None or canvas.layout is None:
        return None
    return list(canvas.layout.visible(row.bounds))


def _values(row: GammaRow, commit: int) -> tuple[Any, ...]:
    return (
        compact(row.weight), compact(row.activity_mean), compact(row.activity_var),
        compact(row.pooled_mean), compact(row.pooled_var),
        row.count, row.commits, commit, row.last_epoch_end, int(row.decoupled),
    )  # fmt: skip


def _frame(frame: GammaFrame, before: dict[int, tuple[Any, ...]], now: dict[int, tuple[Any, ...]]) -> dict[str, Any]:
    changes: list[list[Any]] = []
    lists: dict[tuple[int, ...], int] = {}
    for column in range(len(COLUMNS)):
        changed = [
            (index, values[column])
            for index, values in now.items()
            if index not in before or before[index][column] != values[column]
        ]
        indexes = tuple(index for index, _ in changed)
        first = lists.setdefault(indexes, column)
        changes.append([indexes if first == column else first, [value for _, value in changed]])
    return {
        "label": printable(short_commit(frame.label)),
        "tick": frame.tick,
        "total": compact(frame.total),
        "gone": [index for index in before if index not in now],
        "set": changes,
    }
