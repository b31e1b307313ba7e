"""`ledger restore`."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from ledger_cli.cli.options import JsonOption, LedgerOption, MessageOption, command_app
from ledger_cli.errors import UsageError
from ledger_cli.render.output import Output

app = command_app()
_RANGE = re.compile(r"(\d*)\.\.(\d*)")


@app.command()
def restore(
    pointer: Annotated[
        str | None,
        typer.Argument(
            metavar="[POINTER]", help="An archive, as `ledger archive --list` names it, or its id.", show_default=False
        ),
    ] = None,
    ticks: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="A..B",
            help="Commits whose epochs meet these ticks.",
            show_default=False,
        ),
    ] = None,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put back what was archived; the archive stays where it is.

    All of it is checked before anything is changed. An archive that is missing, damaged or another ledger's is refused.

    JSON: restored: a list of id, pointer, commits, files, whole (nothing of it is left in the archive alone).

    Example: ledger restore --range 0..5000
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.archives import restored_lines

    low, high = _range_of(ticks)
    with Ledger.open(ledger) as opened:
        done = opened.restore(pointer, since=low, until=high, why=message)
    Output(as_json).emit({"restored": [each.to_json() for each in done]}, restored_lines(done))


def _range_of(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    found = _RANGE.fullmatch(text)
    if found is None or text == "..":
        raise UsageError(f"--range {text}: write it as A..B, with ticks from A to below B; one of them may be left out")
    low, high = (int(each) if each else None for each in found.groups())
    if low is not None and high is not None and low >= high:
        raise UsageError(f"--range {text} is empty: the second tick must be above the first")
    return low, high
