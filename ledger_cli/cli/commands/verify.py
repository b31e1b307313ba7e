"""`ledger verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger_cli.cli.options import JsonOption, LedgerOption, command_app
from ledger_cli.errors import Difference
from ledger_cli.render.output import Output

app = command_app()


@app.command()
def verify(
    ledger: LedgerOption = None,
    branch: Annotated[
        list[str] | None,
        typer.Option("--branch", help="Only this branch and what it stands on; repeatable [default: all]."),
    ] = None,
    archives: Annotated[
        bool,
        typer.Option(
            "--archives", help="Read and check every file of the archives that the ledger needs too, where they are."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every move, file, digest and chain, without replay. Exit code 4 tells that something was found.

    A history that was cut short at its end shows with `ledger replay --verify --expect DIGEST`.

    JSON: ok, refs, moves, files, bytes, commits, findings: a list of file, what, nextStep.

    Example: ledger verify
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.common.words import counted
    from ledger_cli.render.views.checks import integrity_views

    with Ledger.open(ledger) as opened:
        report = opened.verify(branch, archives=archives)
    Output(as_json).emit(report, *integrity_views(report))
    if not report.ok:
        findings = counted(len(report.findings), "finding")
        raise Difference(f"the ledger is not as it was written ({findings}): restore these files from a copy")
