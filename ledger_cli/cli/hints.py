"""What to do next, where a result is empty because nothing was done yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger_cli.api import Ledger


def hint_where_nothing_is(ledger: Ledger, branch: str) -> str:
    """The next step on a branch, or at a place of it, that has no commits."""
    found = ledger.status(branch)
    on = "" if branch == "main" else f" --branch {branch}"
    if found.commits:
        return f"nothing was committed there yet: `ledger log{on}` lists the commits of {branch}"
    commit = f"`ledger commit{on}`"
    if not found.rows:
        return f"nothing is on {branch} yet: next `ledger ingest FILE{on}`, then {commit}"
    waiting = found.watermark is None or not found.rows_late
    final = f", or `ledger commit{on} --final` where nothing more comes" if found.last_run and waiting else ""
    return f"nothing is committed on {branch} yet: next {commit}{final}"
