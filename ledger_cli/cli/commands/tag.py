"""`ledger tag`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, MessageOption, command_app
from ledger_cli.errors import UsageError
from ledger_cli.render.output import Output

app = command_app()


@app.command()
def tag(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The new tag; without it all are listed.")
    ] = None,
    commit: Annotated[
        str | None,
        typer.Argument(metavar="[COMMIT]", help="What it names: an id or its beginning, a tag, or a branch's newest."),
    ] = None,
    delete: Annotated[str | None, typer.Option("--delete", metavar="NAME", help="Take a tag away.")] = None,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Name a commit, or list the names. A tag stays where it is: to move one, delete it first.

    JSON: tag, branch, commitId, digest, shard, height, epochStart, epochEnd; a list of these without NAME;
    `deleted` with --delete.

    Example: ledger tag baseline main
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.common.words import short, ticks
    from ledger_cli.render.views.branches import tag_table

    if delete is not None and name is not None:
        raise UsageError("--delete takes the name itself: `ledger tag --delete NAME`")
    if name in ("list", "delete") and commit is None:
        raise UsageError("`ledger tag` alone lists the tags, `ledger tag --delete NAME` takes one away")
    out = Output(as_json)
    with Ledger.open(ledger) as opened:
        if delete is not None:
            opened.untag(delete, message)
            out.emit({"deleted": delete}, f"took the tag {delete} away; its commit stays")
        elif name is None:
            tags = opened.tags(branch)
            out.emit([each.to_json() for each in tags], tag_table(tags))
        else:
            made = opened.tag(name, branch if commit is None else commit, branch, message)
            assert made.commit is not None
            where = ticks(made.commit.epoch_start, made.commit.epoch_end)
            out.emit(made, f"{name} names {short(made.commit.commit_id)} of {made.branch}, ticks {where}")
