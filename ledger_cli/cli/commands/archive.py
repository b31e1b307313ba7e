"""`ledger archive`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import JsonOption, LedgerOption, MessageOption, command_app
from ledger_cli.errors import UsageError
from ledger_cli.render.output import Output

app = command_app()


@app.command()
def archive(
    before: Annotated[
        str | None,
        typer.Option(
            "--before",
            metavar="TICK|AGE",
            help="Commits whose epochs end at this tick or below, or that are older: 30d, 12h.",
            show_default=False,
        ),
    ] = None,
    max_activity: Annotated[
        float | None,
        typer.Option(
            "--max-activity",
            metavar="A",
            help="Only commits in which no region's mean activity is above.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="URL", help="A directory or URL [default: the setting archive_to].", show_default=False
        ),
    ] = None,
    ticks: Annotated[bool, typer.Option("--ticks", help="Whole segments of ticks below --before too.")] = False,
    world: Annotated[bool, typer.Option("--world", help="Files of world events older than --before too.")] = False,
    branch: Annotated[
        str | None,
        typer.Option("--branch", metavar="NAME", help="Of this branch alone [default: of all].", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go, and how many bytes.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the archives there are; archive nothing.")] = False,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move the entries of old commits out of the ledger, as Parquet files with a pointer to them.

    What was written is read back and checked before anything is taken out. Headers stay, so that chains verify and
    `ledger log` lists as before; `show`, `gamma`, `sql` and all others read what was moved from there, slower. Without
    --before and --max-activity the rules of [retention] in ledger.toml hold.

    JSON: archive (null: there was nothing to do): id, state (planned, unfinished, archived, restored), pointer,
    manifest, commits, entries, batches, epochStart, epochEnd, segments, worldFiles, bytes, createdAt; finished: a list
    of the same, what earlier runs had left undone. With --list: a list of archives.

    Example: ledger archive --before 90d --to s3://bucket/world
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.archives import archive_table, archived_lines

    with Ledger.open(ledger) as opened:
        if listed:
            if before or max_activity is not None or dry_run or ticks or world:
                raise UsageError("--list archives nothing: leave the other options out")
            found = opened.archives()
            Output(as_json).emit([each.to_json() for each in found], archive_table(found))
            return
        done = opened.archive(
            before,
            max_activity=max_activity,
            to=to,
            branch=branch,
            ticks=ticks,
            world=world,
            dry_run=dry_run,
            why=message,
        )
    Output(as_json).emit(done, archived_lines(done))
