"""`ledger simulate`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ledger_cli.cli.options import JsonOption, command_app
from ledger_cli.errors import UsageError
from ledger_cli.render.common.words import counted, shown
from ledger_cli.render.output import Output

app = command_app()
STDOUT = "-"


@app.command()
def simulate(
    out: Annotated[str, typer.Argument(metavar="OUT", help="File or URL to write, or - for stdout.")],
    entities: Annotated[int, typer.Option("--entities", metavar="N", help="Entities E0, E1, …")] = 100,
    ticks: Annotated[int, typer.Option("--ticks", metavar="N", help="Ticks; each entity has a row in each.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another seed, another world.")] = 0,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="jsonl, json, csv, tsv, parquet, arrow, kcat or kafka-console [default: from the name].",
        ),
    ] = None,
    commands: Annotated[
        str | None,
        typer.Option("--commands", metavar="FILE", help="JSON lines of commands that lead activities."),
    ] = None,
    start: Annotated[
        str, typer.Option("--start", metavar="RFC3339", help="Timestamp of the first tick.")
    ] = "2026-01-01T00:00:00Z",
    tick_ms: Annotated[int, typer.Option("--tick-ms", metavar="N", help="Milliseconds from tick to tick.")] = 1000,
    first_tick: Annotated[int, typer.Option("--first-tick", metavar="N", help="The lowest tick.")] = 0,
    size: Annotated[
        str, typer.Option("--size", metavar="W[,H]", help="The world: 0 <= x < W, 0 <= y < H (default: W).")
    ] = "100",
    step: Annotated[float, typer.Option("--step", metavar="D", help="Expected distance per tick.")] = 1.0,
    activity: Annotated[float, typer.Option("--activity", metavar="A", help="Mean level of the activities.")] = 0.5,
    decoupled: Annotated[
        float, typer.Option("--decoupled", metavar="SHARE", help="Share of the entities without activity.")
    ] = 0.1,
    as_json: JsonOption = False,
) -> None:
    """Write the ticks of a simulated world: random walks, and activities that vary about their levels.

    The same options give the same bytes everywhere. A command in --commands is one JSON line:
    {"entityId":"E3","cmd":"setActivity","params":{"value":2.5,"rampTicks":20},"timestamp":"2026-01-01T00:01:00Z"}

    JSON: target, rows, entities, firstTick, endTick, seed, commands (how many), unusedCommands (how many
    come after the last tick).

    Example: ledger simulate ticks.jsonl.zst --entities 500 --ticks 2000 --seed 7
    """
    from ledger_cli.api import Ledger

    if as_json and out == STDOUT:
        raise UsageError("--json and - both want stdout: write the ticks to a file")
    width, height = _size(size)
    settings: dict[str, Any] = {
        "entities": entities,
        "ticks": ticks,
        "seed": seed,
        "first_tick": first_tick,
        "width": width,
        "height": height,
        "step": step,
        "base_activity": activity,
        "decoupled_share": decoupled,
        "start": _moment(start),
        "tick_duration_ms": tick_ms,
    }
    result = Ledger.simulate(out, format=format, commands=commands, watch=_progress(entities * ticks), **settings)
    span = f"ticks {first_tick} to {result.end_tick - 1}" if ticks else "no ticks"
    told = f"wrote {shown(result.rows)} rows: {shown(entities)} entities, {span}"
    output = Output(as_json)
    if result.unused:
        output.warn(f"{counted(result.unused, 'command')} after the last tick had no effect: simulate more --ticks")
    if out == STDOUT:
        output.note(told)
    else:
        output.emit(result, f"{told}, to {out}")


def _size(text: str) -> tuple[float, float]:
    parts = text.split(",")
    try:
        width, height = (float(part) for part in (parts * 2 if len(parts) == 1 else parts))
    except ValueError as error:
        raise UsageError(f"--size {text!r}: write it as W or W,H") from error
    return width, height


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--start {text!r}: write it as 2026-01-01T00:00:00Z") from error
    if moment.tzinfo is None:
        raise UsageError(f"--start {text!r} has no zone: add Z for UTC")
    return moment.astimezone(UTC)


def _progress(total: int) -> Any:
    """Tells on stderr, where that is a terminal, how far it is."""

    def watch(rows: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{rows * 100 // max(total, 1)} % of {shown(total)} rows" + ("\n" * (rows >= total)))

    return watch
