"""`ledger branch`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import JsonOption, LedgerOption, MessageOption, command_app
from ledger_cli.render.output import Output

app = command_app()


@app.callback()
def root() -> None:
    """List or delete branches. `ledger fork` makes one.

    Example: ledger branch list
    """


@app.command("list")
def list_branches(ledger: LedgerOption = None, as_json: JsonOption = False) -> None:
    """List the branches, main first.

    JSON: a list of branch, parent, heads (digests by shard), commits, watermark, rows, policy, digest, createdAt,
    createdBy, why.

    Example: ledger branch list
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.branches import branch_table

    with Ledger.open(ledger) as opened:
        branches = opened.branches()
    Output(as_json).emit([each.to_json() for each in branches], branch_table(branches))


@app.command()
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The branch.")],
    message: MessageOption = "",
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a branch. Its commits stay in the log, and its forks go on.

    JSON: deleted.

    Example: ledger branch delete old
    """
    from ledger_cli.api import Ledger

    with Ledger.open(ledger) as opened:
        opened.delete_branch(name, message)
    Output(as_json).emit(
        {"deleted": name}, f'deleted the branch {name}; `ledger sql "FROM refs"` still shows its moves'
    )
