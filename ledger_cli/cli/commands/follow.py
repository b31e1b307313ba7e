"""`ledger follow`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, command_app

app = command_app()


@app.command()
def follow(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE...]", help="Ticks: files that grow, FIFOs, or - for stdin.", show_default=False
        ),
    ] = None,
    world: Annotated[
        list[str] | None,
        typer.Option("--world", metavar="SOURCE", help="World events, the same; repeatable.", show_default=False),
    ] = None,
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="How often to look: 1s, 5m.")] = "1s",
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", min=1, help="Ticks, and events, that a step takes at most.")
    ] = 100_000,
    snapshot_every: Annotated[
        str | None,
        typer.Option("--snapshot-every", metavar="TIME", help="Keep the world so often: 1h.", show_default=False),
    ] = None,
    idle: Annotated[
        str | None,
        typer.Option("--idle", metavar="TIME", help="End where nothing came for so long: 30s.", show_default=False),
    ] = None,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Take ticks and world events as they come, in JSON Lines, and go on until Ctrl-C, SIGTERM or --idle.

    A step stores the whole lines that are there, commits what is complete by the policy, applies world events, tells
    the bus, and makes a snapshot where one is due. Steps that did something are a line each. Without SOURCE it does
    the rest for other writers.

    How far a file was read is kept with what was read of it: killed at any moment, the same command goes on from there,
    and no line is taken twice. A file that was truncated is read from its start, and one that another took the place of
    to its end first; ticks and events that are known are skipped, refused ones may be in quarantine once more. At most
    100 files are remembered on a branch. What a FIFO or stdin has given is gone with a killed process.

    JSON: an object a line: branch, step, ticks (read, stored, duplicates, late, quarantined), commits, watermark (null:
    no run), world (read, applied, duplicates, transient, refused, waiting), bus (null, or branch, events, cursor, lag,
    failed), snapshot (its id, or null), notes.

    Example: ledger follow ticks.jsonl --world events.jsonl --snapshot-every 1h
    """
    import json

    from ledger_cli.api import Ledger
    from ledger_cli.cli.stopping import stopped_by_signals
    from ledger_cli.render.output import Output, write
    from ledger_cli.render.views.follow import step_line

    out = Output(as_json)
    with Ledger.open(ledger) as opened, stopped_by_signals() as stop:
        steps = opened.follow(
            *sources or (),
            world=world or (),
            branch=branch,
            every=every,
            rows=rows,
            snapshot_every=snapshot_every,
            idle=idle,
            stop=stop,
        )
        if out.terminal:
            named = ", ".join([*(sources or ()), *(world or ())])
            out.note(f"following {named or 'what others write'}: Ctrl-C ends it")
        for step in steps:
            write((json.dumps(step.to_json(), ensure_ascii=False) if as_json else step_line(step)) + "\n")
            for told in [] if as_json else step.notes:
                out.warn(told)
