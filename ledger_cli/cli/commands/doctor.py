"""`ledger doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, command_app
from ledger_cli.errors import Difference
from ledger_cli.render.output import Output

app = command_app()


@app.command()
def doctor(
    grace: Annotated[
        str, typer.Option("--grace", metavar="AGE", help="What killed jobs left is removed when it is as old.")
    ] = "1d",
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Check what a branch's world would need tomorrow: clocks, modules, the newest snapshot, and a way back.

    It makes a snapshot in a scratch directory, restores it, compares with a replay from nothing, and says how long
    each took. Files and commits that no move of any ref names, as killed jobs leave them, are told with their bytes,
    and removed when they are older than --grace, as are local copies of what is archived; of archives it tells files
    that no pointer names. Nothing is removed where a log is damaged. The history is not changed. Exit code 4 tells
    that something is wrong.

    JSON: ok, branch, checks: a list of name, ok, found.

    Example: ledger doctor
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.snapshots import doctor_table

    with Ledger.open(ledger) as opened:
        found = opened.doctor(branch, grace=grace)
    Output(as_json).emit(found, doctor_table(found.checks))
    if not found.ok:
        wrong = ", ".join(check.name for check in found.checks if not check.ok)
        raise Difference(f"not all is well ({wrong}): see the lines above; limits are set in ledger.toml")
