"""`ledger sql`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ledger_cli.cli.options import BranchOption, JsonOption, LedgerOption, LimitOption, command_app
from ledger_cli.errors import UsageError
from ledger_cli.render.output import Output

app = command_app()
_FORMATS = ("table", "json", "csv", "parquet")


@app.command()
def sql(
    statement: Annotated[str, typer.Argument(metavar="SELECT", help="One SELECT, as DuckDB understands it.")],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="|".join(_FORMATS),
            help="Of the answer [default: from the name of --out, else table].",
            show_default=False,
        ),
    ] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Write the answer to a file.")] = None,
    limit: LimitOption = None,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Ask read-only SQL over ticks, commits, their entries, the world, quarantine and refs; `SHOW TABLES` lists them.

    JSON: a list of rows, each an object by column. Times are texts, and so are columns of integers beyond 2^53.

    Example: ledger sql "SELECT region, sum(weight) AS weight FROM commit_entries GROUP BY region ORDER BY region"
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render import files
    from ledger_cli.render.common.words import counted
    from ledger_cli.render.views.rows import rows_views

    chosen = _format(format, out, as_json)
    if out is not None:
        files.check_directory(out)
    if chosen == "parquet" and out is None and sys.stdout.isatty():
        raise UsageError("Parquet is binary, and this is a terminal: add --out FILE, or use a pipe")
    shown = Output(as_json)
    with Ledger.open(ledger) as opened, opened.sql_answer(statement, branch) as answer:
        for told in answer.warnings:
            shown.warn(told)
        if chosen == "table":
            shown.emit(None, *rows_views(answer.schema.names, answer.batches, shown.most(limit)))
            return
        batches = files.first_rows(answer.batches, limit)
        if out is None:
            files.write_stdout(answer.schema, batches, chosen)
        else:
            rows = files.write_batches(answer.schema, batches, out, chosen)
            shown.note(f"wrote {counted(rows, 'row')} to {out}")


def _format(format: str | None, out: str | None, as_json: bool) -> str:
    """The format asked for: `--json` is short for `--format json`."""
    if format is not None and format not in _FORMATS:
        raise UsageError(f"--format {format!r} is none of {', '.join(_FORMATS)}")
    if as_json and format not in (None, "json"):
        raise UsageError(f"--json and --format {format} exclude each other: give one of them")
    suffix = "" if out is None else Path(out).suffix.lstrip(".").lower()
    chosen = format or ("json" if as_json else suffix if suffix in _FORMATS else "table" if out is None else None)
    if chosen is None or (chosen == "table" and out is not None):
        raise UsageError(f"--out {out}: end the name with .csv, .json or .parquet, or add --format")
    return chosen
