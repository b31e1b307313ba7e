"""`ledger fork`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, MessageOption, command_app, takes_policy
from ledger_cli.errors import UsageError
from ledger_cli.render.output import Output

app = command_app()


@app.command()
@takes_policy
def fork(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new branch.")],
    at: Annotated[
        str | None,
        typer.Option("--from", metavar="COMMIT|TAG|TICK", help="Where it begins [default: the head of --branch]."),
    ] = None,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
    *,
    policy: dict[str, Any],
) -> None:
    """Begin a branch at a commit, tag or tick of another; nothing is copied, and no commit is made.

    The options of the policy hold from there on; with other regions or shards it starts from the first tick.

    JSON: branch, parent, heads (digests by shard), commits, watermark, rows, policy, digest, createdAt, createdBy, why.

    Example: ledger fork trial --from 60
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.common.words import counted

    if name in ("list", "delete"):
        raise UsageError(f"branches are listed and deleted with `ledger branch {name}`")
    with Ledger.open(ledger) as opened:
        made = opened.fork(name, at, branch, why=message, **policy)
    kept = f"begins with {counted(made.commits, 'commit')} of {made.parent}"
    Output(as_json).emit(made, f"{name} {kept}; next: `ledger commit --branch {name}`")
