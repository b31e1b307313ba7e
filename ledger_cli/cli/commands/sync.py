"""`ledger sync`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, MessageOption, command_app
from ledger_cli.errors import NeedsDecision
from ledger_cli.render.output import Output

app = command_app()


@app.command()
def sync(
    location: Annotated[str, typer.Argument(metavar="URL", help="The other ledger.")],
    remote: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="What the other ledger is called here [default: its directory]."),
    ] = None,
    consistency: Annotated[
        str | None,
        typer.Option(
            "--consistency",
            metavar="eventual|causal|strong",
            help="Of events of all types [default: of each as in ledger.toml].",
            show_default=False,
        ),
    ] = None,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Exchange events with another ledger: afterwards both branches hold the same history, with the same ids.

    Each ledger fetches the other's branch and reconciles its own with it. In whatever order ledgers are synced, all
    that have met, directly or through others, come to the same events.

    eventual takes in whatever the other one has. causal refuses to, and nothing moves, where an event stands there
    without its cause before it. strong does too, and moves the other ledger's branch first, this one's only after it.

    JSON: ledger, here and there: what became of the branch of this ledger and of that of the other one, each as of
    `reconcile`.

    Example: ledger sync ../other-ledger

    Example: ledger sync ../other-ledger --consistency strong
    """
    from ledger_cli.api import Ledger
    from ledger_cli.cli.commands.reconcile import asked
    from ledger_cli.cli.hints import warn_where_the_bus_lacks_events
    from ledger_cli.render.views.reconcile import synced_views

    with Ledger.open(ledger) as opened:
        try:
            made = opened.sync(location, branch, remote=remote, consistency=consistency, why=message)
        except NeedsDecision as problem:
            raise NeedsDecision(f"{asked(problem)}, then sync again") from problem
        out = Output(as_json)
        out.emit(made, *synced_views(made))
        warn_where_the_bus_lacks_events(out, opened)
