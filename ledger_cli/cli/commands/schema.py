"""`ledger schema`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import JsonOption, LedgerOption, MessageOption, command_app
from ledger_cli.render.output import Output

app = command_app()


@app.callback()
def root() -> None:
    """Register the types of world events, or list them.

    Example: ledger schema list
    """


@app.command()
def register(
    name: Annotated[str, typer.Argument(metavar="TYPE", help="The type, written as module.name.v1.")],
    schema: Annotated[
        str | None, typer.Option("--schema", metavar="FILE", help="JSON Schema of the payload [default: any object].")
    ] = None,
    reducer: Annotated[
        str, typer.Option("--reducer", metavar="merge|replace", help="merge (RFC 7396) the payload, or replace by it.")
    ] = "merge",
    message: MessageOption = "",
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a type of events known. It does not change afterwards: another schema is another version.

    JSON: type, module, name, version, reducer, schema.

    Example: ledger schema register building.opened.v1
    """
    from ledger_cli.api import Ledger

    with Ledger.open(ledger) as opened:
        made = opened.world.register_file(name, schema, reducer, message)
    Output(as_json).emit(made, f"{name} is registered")


@app.command("list")
def list_types(ledger: LedgerOption = None, as_json: JsonOption = False) -> None:
    """List the types of events.

    JSON: a list of type, module, name, version, reducer, schema.

    Example: ledger schema list
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.world import type_table

    with Ledger.open(ledger) as opened:
        types = opened.world.types()
    Output(as_json).emit([each.to_json() for each in types], type_table(types))
