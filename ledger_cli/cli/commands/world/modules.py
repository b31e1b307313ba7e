"""`ledger world subscribe`, `poll` and `ack`: modules that listen to what happens."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, MessageOption
from ledger_cli.errors import UsageError
from ledger_cli.render.output import Output

ModuleArgument = Annotated[str, typer.Argument(metavar="MODULE", help="Who listens.")]


def subscribe(
    module: Annotated[
        str | None, typer.Argument(metavar="[MODULE]", help="Who listens; without it all are listed.")
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--types", metavar="TYPE", help="A type, * for any text; repeatable [default: all]."),
    ] = None,
    start: Annotated[
        int | None,
        typer.Option(
            "--from",
            metavar="POSITION",
            min=0,
            help="Behind this event of the log [default: where it stands, at first 0].",
            show_default=False,
        ),
    ] = None,
    delete: Annotated[str | None, typer.Option("--delete", metavar="MODULE", help="Take a subscription away.")] = None,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Let a module listen to types of events on a branch, or list those that do. `ledger world poll` hands them out.

    JSON: module, branch, types, cursor, lag (events not acknowledged yet); a list of these without MODULE; `deleted`
    with --delete.

    Example: ledger world subscribe physics --types "building.*"
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.world import subscription_line, subscription_table

    if module is None and (types or start is not None):
        raise UsageError("say who listens: `ledger world subscribe MODULE`")
    if delete is not None and (module is not None or types or start is not None):
        raise UsageError("--delete takes the module itself: `ledger world subscribe --delete MODULE`")
    out = Output(as_json)
    with Ledger.open(ledger) as opened:
        if delete is not None:
            opened.world.unsubscribe(delete, branch, message)
            out.emit({"deleted": delete}, f"{delete} does not listen to {branch} any more")
        elif module is None:
            found = opened.world.subscriptions(branch)
            out.emit([each.to_json() for each in found], subscription_table(found))
        else:
            made = opened.world.subscribe(module, types or ("*",), branch, start, message)
            out.emit(made, subscription_line(made))


def poll(
    module: ModuleArgument,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many events.")] = 1000,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with events as they come, until Ctrl-C, SIGTERM or --idle.")
    ] = False,
    acknowledge: Annotated[
        bool, typer.Option("--ack", help="Acknowledge what was written, at most --limit events at a time.")
    ] = False,
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="--follow: how often to look.")] = "1s",
    idle: Annotated[
        str | None,
        typer.Option(
            "--idle", metavar="TIME", help="--follow: end where nothing came for so long.", show_default=False
        ),
    ] = None,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """The next events for a module, a JSON object a line, in the order of the branch, each with its position.

    The same ones come again until `ledger world ack` says that they are dealt with: each at least once.

    JSON: module, branch, cursor, upTo (up to this position these are all), events: a list of position, and the event
    as it was sent, with version and hlc. With --follow such an object a line.

    Example: ledger world poll physics --limit 10

    Example: ledger world poll physics --follow --ack
    """
    from ledger_cli.api import Ledger
    from ledger_cli.cli.stopping import stopped_by_signals
    from ledger_cli.render.output import write
    from ledger_cli.render.views.world import delivered_lines

    if idle is not None and not follow:
        raise UsageError("--idle says when --follow ends: give both, or neither")
    out = Output(as_json)
    with Ledger.open(ledger) as opened:
        if not follow:
            found = opened.world.poll(module, branch, limit)
            written = out.emit(found, *delivered_lines(found.events))
            if written and acknowledge and found.events:
                opened.world.ack(module, found.up_to, branch)
            return
        with stopped_by_signals() as stop:
            listening = opened.world.listen(module, branch, limit, ack=acknowledge, every=every, idle=idle, stop=stop)
            for found in listening:
                if as_json:
                    written = write(json.dumps(found.to_json(), ensure_ascii=False) + "\n")
                else:
                    written = out.emit(None, *delivered_lines(found.events))
                if not written:
                    # Nobody has heard these: they are not asked to be acknowledged, as the next ones would do.
                    return


def ack(
    module: ModuleArgument,
    position: Annotated[int, typer.Argument(metavar="POSITION", min=0, help="Of the last event dealt with.")],
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Say that a module is done with all events up to a position; one before its cursor changes nothing.

    JSON: module, branch, types, cursor, lag.

    Example: ledger world ack physics 1
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.world import subscription_line

    with Ledger.open(ledger) as opened:
        found = opened.world.ack(module, position, branch, message)
    Output(as_json).emit(found, subscription_line(found))
