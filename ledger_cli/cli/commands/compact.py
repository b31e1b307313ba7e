"""`ledger compact`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import JsonOption, LedgerOption, MessageOption, command_app
from ledger_cli.render.output import Output

app = command_app()


@app.command()
def compact(
    below: Annotated[str, typer.Option("--below", metavar="SIZE", help="Pack files smaller than this.")] = "128KiB",
    target: Annotated[str, typer.Option("--target", metavar="SIZE", help="So many bytes of files a pack.")] = "128MiB",
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="So long a packed file stays itself: 0s, 30m, 1h, 7d.")
    ] = "1d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make large files of small ones, on all branches: ticks, commits, world events and refused rows.

    A pack holds the rows of many files, which are read from it from then on, and each file byte by byte, so that every
    digest in the log still proves what it did. It is safe beside whatever else runs: a packed file itself is taken away
    by a later run, when its grace has ended, and who still wants it finds it in the pack.

    JSON: packed: a list of kind, files, bytes, packs, packedBytes; removed and removedBytes (files taken away now),
    waiting (files that are packed and still there), dryRun.

    Example: ledger compact --dry-run
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.packs import compaction_views

    with Ledger.open(ledger) as opened:
        done = opened.compact(below, target, grace, dry_run=dry_run, why=message)
    Output(as_json).emit(done, *compaction_views(done))
