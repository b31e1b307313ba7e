"""`ledger gamma`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, command_app
from ledger_cli.errors import UsageError
from ledger_cli.render.output import Output, stdout

if TYPE_CHECKING:
    from ledger_cli.api import Ledger
    from ledger_cli.services.gamma import Gamma

app = command_app()
_TOP_ON_TERMINAL = 10
_MAP_WIDTH = 100
_MAP_HEIGHT = 30


@app.command()
def gamma(
    region: Annotated[str | None, typer.Option("--region", help="Only this region.")] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="COMMIT|TAG|TICK", help="As it was there [default: the head of --branch]."),
    ] = None,
    half_life: Annotated[
        int | None, typer.Option("--half-life", metavar="TICKS", min=1, help="Weights halve over so many ticks.")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option("--window", metavar="TICKS", min=1, help="Pooled statistics of the last so many ticks."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", metavar="N", min=1, help="An .html page: how many frames [default: 200].")
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", metavar="N", min=1, help="The heaviest only [default: 10 on a terminal, else all]."),
    ] = None,
    draw: Annotated[
        bool | None, typer.Option("--map/--no-map", help="Draw a map [default: on a terminal].", show_default=False)
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FILE", help="Write .csv, .parquet, .png, .svg or .html (a slider over commits)."
        ),
    ] = None,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """The projection: accumulated weight and activity of each region, as a map and a table.

    JSON: branch, tick, commitId, halfLife, window, and regions: a list of region, weight, activity_mean, activity_var,
    pooled_mean, pooled_var, count, commits, lastCommit, lastEpochEnd and exact (integers as texts). With --out: out,
    regions, frames.

    Example: ledger gamma --at 120 --half-life 60 --top 5
    """
    from ledger_cli.api import Ledger
    from ledger_cli.cli.hints import hint_where_nothing_is
    from ledger_cli.render.common.words import counted

    shown = Output(as_json)
    html = out is not None and out.lower().endswith(".html")
    if frames is not None and not html:
        raise UsageError("--frames is for a page: add --out FILE.html")
    if out is not None and (draw is not None or top is not None):
        raise UsageError("--out writes all regions: leave --map and --top out")
    chosen: dict[str, Any] = {"region": region, "at": at, "half_life": half_life, "window": window}
    with Ledger.open(ledger) as opened:
        if out is not None:
            if frames is not None:
                chosen["frames"] = frames
            written = opened.save_gamma(out, branch, **chosen)
            shown.emit(
                written, f"wrote {out}: {counted(written.regions, 'region')}, {counted(written.frames, 'frame')}"
            )
            return
        found = opened.gamma(branch, **chosen)
        _show(shown, found, top, draw)
        if not found.table.num_rows:
            told = hint_where_nothing_is(opened, branch) if region is None else _unknown(opened, branch, at, region)
            shown.note(told)


def _unknown(opened: Ledger, branch: str, at: str | None, region: str) -> str:
    """What to say of a region without commits; that is no failure: it may be there with no events yet."""
    from difflib import get_close_matches

    from ledger_cli.cli.hints import hint_where_nothing_is

    regions = opened.gamma(branch, at=at).table["region"].to_pylist()
    if not regions:
        return hint_where_nothing_is(opened, branch)
    near = get_close_matches(region, regions, n=3)
    meant = f", did you mean {' or '.join(near)}" if near else ""
    return f"nothing was committed in the region {region!r} of {branch}{meant}: `ledger gamma` lists the regions"


def _show(shown: Output, found: Gamma, top: int | None, draw: bool | None) -> None:
    from ledger_cli.core.gamma_view import by_weight
    from ledger_cli.render.gamma import terminal_map
    from ledger_cli.render.views.gamma import gamma_views

    if shown.as_json:
        shown.emit(_heaviest(found.to_json(), top))
        return
    console = stdout()
    most = _TOP_ON_TERMINAL if top is None and shown.terminal else top
    table = gamma_views(found.frame, by_weight(found.frame.rows), most)
    if not (shown.terminal if draw is None else draw):
        shown.emit(found, *table)
        return
    width = min(console.width, _MAP_WIDTH)
    height = min(max(console.height - (most or 0) - 6, 12), _MAP_HEIGHT) if shown.terminal else _MAP_HEIGHT
    shown.emit(found, terminal_map(found.frame, width, height), "", *table[1:])


def _heaviest(found: dict[str, Any], top: int | None) -> dict[str, Any]:
    if top is None:
        return found
    ordered = sorted(found["regions"], key=lambda row: (-row["weight"], row["region"]))
    return {**found, "regions": ordered[:top]}
