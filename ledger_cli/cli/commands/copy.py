"""`ledger copy`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import JsonOption, command_app
from ledger_cli.errors import Difference
from ledger_cli.render.output import Output

app = command_app()


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The ledger that is copied.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Where the copy shall live, or lives already.")],
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The engine that shall keep the copy's commits and refs.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a whole ledger into another store: all branches with their logs, commits, events, snapshots and settings.

    The copy has the same ids and the same refs, move by move, and is verified at the end. Run again, it goes on where
    it was cut off, or brings the copy up to date. `ledger diff --with` holds two ledgers against each other.

    JSON: refs, moves (those copied now) and verify, as `ledger verify --json` has it.

    Example: ledger copy world world-sql --store sqlite:///commits.sqlite
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.stores import copy_text

    out = Output(as_json)
    with Ledger.open(source) as opened:
        result = opened.copy(target, store=store)
    out.emit(result.to_json(), copy_text(result, target))
    if not result.report.ok:
        first = result.report.findings[0]
        raise Difference(
            f"the copy is not sound ({first.file}: {first.what}): `ledger verify --ledger {target}` tells more"
        )
