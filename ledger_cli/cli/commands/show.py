"""`ledger show`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, LimitOption, command_app
from ledger_cli.render.output import Output

app = command_app()


@app.command()
def show(
    commit: Annotated[
        str, typer.Argument(metavar="COMMIT", help="An id, a digest, the beginning of one, a tag, or a branch.")
    ],
    limit: LimitOption = None,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Show one commit with its entries, the heaviest first; of a branch its newest commit.

    JSON: the commit as in `ledger log --json`, with policySettings, and entries: a list of region, weight,
    activity_mean, activity_var, count, exact (integers as texts) and, where the setting entity_refs asked for them
    when the commit was made, entityRefs (entity ids, the largest contributor first); with --limit the heaviest so many.

    Example: ledger show main
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.history import commit_fields, entries_table, heaviest_first

    out = Output(as_json)
    with Ledger.open(ledger) as opened:
        shown = opened.show(commit, branch)
    entries = entries_table(shown.entries.to_pylist(), out.most(limit))
    made = shown.to_json() if as_json else None
    if made is not None and limit is not None:
        kept = {row["region"] for row in heaviest_first(shown.entries.to_pylist())[:limit]}
        made["entries"] = [each for each in made["entries"] if each["region"] in kept]
    out.emit(made, commit_fields(shown.header, shown.policy), "", *entries)
