"""`ledger world`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import (
    AllowQuarantine,
    BranchOption,
    JsonOption,
    LedgerOption,
    MessageOption,
    command_app,
)
from ledger_cli.errors import QuarantinedRows
from ledger_cli.render.output import Output

app = command_app()
EntityArgument = Annotated[str, typer.Argument(metavar="ENTITY", help="The id of an entity, space or relationship.")]
ModuleOption = Annotated[str | None, typer.Option("--module", metavar="NAME", help="The state of this module alone.")]


@app.callback()
def root() -> None:
    """Change the world behind the ticks by events, and look into it.

    Example: ledger world apply events.jsonl
    """


@app.command()
def apply(
    file: Annotated[str, typer.Argument(metavar="FILE", help="World events, one JSON object a line; - is stdin.")],
    atomic: Annotated[bool, typer.Option("--atomic", help="All of them, or none where one is refused.")] = False,
    allow_quarantine: AllowQuarantine = False,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Apply world events: each changes one entity, or is refused and changes nothing.

    Types have to be registered first (`ledger schema register`). An event that is known already is skipped; a
    refused one goes to quarantine.

    JSON: branch, read, applied, duplicates, transient, refused (rows by reason), refusals (line, eventId, reason,
    detail), hlc (the branch's clock).

    Example: ledger world apply events.jsonl
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.world import apply_table, refusal_table

    out = Output(as_json)
    with Ledger.open(ledger) as opened:
        result = opened.world.apply_file(file, branch, atomic, message)
    views: list[object] = [apply_table(result)]
    if result.refused:
        views.append(refusal_table(result.refused, out.most()))
    out.emit(result, *views)
    if result.refused and not allow_quarantine:
        refused = sum(result.reasons.values())
        nothing = "; nothing was applied" if atomic else ""
        raise QuarantinedRows(
            f"{refused} of {result.read} events were refused{nothing}: "
            f'`ledger sql "SELECT * FROM quarantine"` shows them, --allow-quarantine ends with 0'
        )


@app.command()
def get(
    entity: EntityArgument,
    at: Annotated[
        str | None, typer.Option("--at", metavar="HLC", help="As of this clock reading [default: now].")
    ] = None,
    module: ModuleOption = None,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Show an entity: its version and its state by class and module.

    JSON: branch, at, entityId, entityKind, version, hlc, eventId, state (by class and module).

    Example: ledger world get door-7
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.world import entity_view

    with Ledger.open(ledger) as opened:
        found = opened.world.get(entity, branch, at, module)
    Output(as_json).emit(found, *entity_view(found))


@app.command()
def history(
    entity: EntityArgument,
    first: Annotated[str | None, typer.Option("--from", metavar="HLC", help="From this clock reading on.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="HLC", help="Up to this clock reading.")] = None,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """List the events of an entity, oldest first.

    JSON: a list of events as they were sent, with version and hlc.

    Example: ledger world history door-7
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.world import history_table

    with Ledger.open(ledger) as opened:
        events = opened.world.history(entity, branch, first, last)
    Output(as_json).emit([each.to_json() for each in events], history_table(events))
