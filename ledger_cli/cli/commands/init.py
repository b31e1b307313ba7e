"""`ledger init`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ledger_cli.cli.options import JsonOption, command_app, takes_policy
from ledger_cli.render.output import Output

app = command_app()


@app.command()
@takes_policy
def init(
    directory: Annotated[str, typer.Argument(help="Where the ledger shall live.")] = ".",
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The engine that keeps commits and refs (see `ledger stores`); segments stay in DIRECTORY.",
        ),
    ] = None,
    as_json: JsonOption = False,
    *,
    policy: dict[str, Any],
) -> None:
    """Make a ledger: a directory with a commented ledger.toml.

    JSON: ledger, its directory.

    With --store every other command works as before: the URL is kept in ledger.toml, and LEDGER_STORE overrules it.

    Example: ledger init world --regions grid:128 --interval 20
    """
    from ledger_cli.api import Ledger

    with Ledger.create(directory, **policy, store=store) as ledger:
        out = Output(as_json)
        where = ledger.location
        told = f"made the ledger {where}; its settings are in {where.rstrip('/')}/ledger.toml"
        out.emit({"ledger": where}, "made a ledger here; its settings are in ledger.toml" if where == "." else told)
