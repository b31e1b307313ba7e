"""`ledger status`."""

from __future__ import annotations

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, command_app
from ledger_cli.render.output import Output

app = command_app()


@app.command()
def status(ledger: LedgerOption = None, branch: BranchOption = "main", as_json: JsonOption = False) -> None:
    """Where a branch stands: rows, watermark, open epochs, quarantine, and one digest of all its commits.

    JSON: branch, parent, moves, rows, segments, highestTick, watermark, policy, policyDigest, commits, shards (by
    number: head, commits, start), rowsOpen, rowsLate, quarantined, lastRun, digest, forks, tags, world (events,
    entities, hlc, waiting, clock: the vector clock, what `world get --after` takes; classes: of each class of state its
    entities, parts and bytes; modules: module, types, cursor, lag, ok; nodes: node, hlc, skewSeconds, ok),
    transactions (by name: stage, ledger), archives (of the whole ledger: as `ledger archive --list` has them), warnings
    (texts: what may be wrong in ledger.toml, also told on stderr).

    Example: ledger status --branch main
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.branches import status_views

    with Ledger.open(ledger) as opened:
        found = opened.status(branch)
    out = Output(as_json)
    out.emit(found, *status_views(found))
    for told in found.warnings:
        out.warn(told)
