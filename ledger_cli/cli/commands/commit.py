"""`ledger commit`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, command_app, takes_policy
from ledger_cli.render.common.words import counted
from ledger_cli.render.output import Output

app = command_app()


@app.command()
@takes_policy
def commit(
    final: Annotated[bool, typer.Option("--final", help="Nothing more comes: close the open epochs too.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be committed, and why each epoch closes.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Close the shard of --region now, complete or not.")] = False,
    region: Annotated[str | None, typer.Option("--region", help="The region that --force closes.")] = None,
    message: Annotated[str, typer.Option("--message", "-m", help="Why; kept in the ref log.")] = "",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
    *,
    policy: dict[str, Any],
) -> None:
    """Fold what is new on a branch into commits, as far as its watermark.

    The options of the policy override ledger.toml and are recorded; on a branch with commits they do not change, and a
    note tells of settings in ledger.toml or the environment that do not hold there.

    JSON: branch, commits, entries (how many), watermark, heads (commit ids by shard), policy; with --dry-run also
    planned: a list of shard, epoch_start, epoch_end, reason, regions, events, weight.

    Example: ledger commit --strategy hybrid --min-interval 10 --max-size 5000 --final
    """
    from ledger_cli.api import Ledger
    from ledger_cli.cli.hints import hint_where_nothing_is, hint_where_settings_do_not_hold
    from ledger_cli.errors import UsageError

    if force != (region is not None):
        raise UsageError("--force and --region go together: `ledger commit --force --region 0:0`")
    with Ledger.open(ledger) as opened:
        hint = hint_where_settings_do_not_hold(opened, branch)
        result = opened.commit(branch, final=final, force=region, dry_run=dry_run, why=message, **policy)
        empty = result.watermark is None and not opened.status(branch).rows
        nothing_yet = hint_where_nothing_is(opened, branch) if empty else None
    out = Output(as_json)
    if hint is not None:
        out.note(hint)
    verb = "would make" if dry_run else "made"
    watermark = "not set" if result.watermark is None else f"tick {result.watermark}"
    made = f"{counted(result.commits, 'commit')} with {counted(result.entries, 'entry', 'entries')}"
    line = f"{verb} {made} on {branch}; watermark: {watermark}"
    if force and not result.commits:
        line = f"the shard of region {region} has nothing open on {branch}: {verb} no commit"
    if result.planned is not None:
        from ledger_cli.render.views.history import planned_table

        out.emit(result, *planned_table(result.planned.to_pylist()), line)
    else:
        out.emit(result, line)
    if nothing_yet is not None:
        out.note(nothing_yet)
