"""`ledger ingest`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ledger_cli.cli.options import (
    AllowQuarantine,
    BranchOption,
    JsonOption,
    LedgerOption,
    MapOption,
    command_app,
)
from ledger_cli.errors import QuarantinedRows, UsageError
from ledger_cli.render.common.tables import table
from ledger_cli.render.common.words import counted
from ledger_cli.render.output import Output

if TYPE_CHECKING:
    from ledger_cli.services.ingest import IngestResult

app = command_app()

_CALLED = "if that is called otherwise there, say so, for example"
_OF_ALL_ROWS = {
    "entity_id_missing": f"no row has entityId: {_CALLED} --map entityId=entity_id",
    "tick_id_missing": f"no row has tickId: {_CALLED} --map tickId=tick_id",
    "activity_missing": f"no row has activity: {_CALLED} --map activity=speed",
    "position_missing": f"no row has both x and y: {_CALLED} --map x=pos.x --map y=pos.y",
    "wrong_type": (
        "every row has a value of another type: --map entityId=entityId makes text of an entityId that is a number, "
        "--map activity=activity::DOUBLE a number of an activity that is text"
    ),
}
"""What to do where all rows are refused for one reason."""


@app.command()
def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Files, globs, directories, URLs, or - for stdin."),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="jsonl, json, csv, tsv, parquet, arrow, kcat or kafka-console [default: from the name].",
        ),
    ] = None,
    map: MapOption = None,
    sql: Annotated[
        str | None,
        typer.Option("--sql", metavar="SELECT", help="SQL over the whole `source`, file by file, that gives ticks."),
    ] = None,
    delimiter: Annotated[str | None, typer.Option("--delimiter", help="csv, tsv: between two fields.")] = None,
    comment: Annotated[str | None, typer.Option("--comment", help="csv, tsv: lines that begin so are skipped.")] = None,
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="A,B,…", help="csv, tsv: names of the columns; no header line."),
    ] = None,
    max_tick_jump: Annotated[
        int | None,
        typer.Option("--max-tick-jump", metavar="TICKS", help="Rows further above the rest go to quarantine."),
    ] = None,
    allow_quarantine: AllowQuarantine = False,
    ledger: LedgerOption = None,
    branch: BranchOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Read tick events; all of it is stored, or nothing. The same rows again are stored once.

    Bad rows go to quarantine, see: ledger sql "SELECT source, line, reason, raw FROM quarantine". Exit code 3 tells
    that there were some.

    --map takes the name of a column as it stands, or SQL; columns that no --map uses and that are no field are kept in
    meta.

    --sql runs once for each file: a window function sees one source at a time. `source` has the physical line of a row
    in `_line`; a statement may leave it out, but where rows have no line of their own (GROUP BY, DISTINCT, UNION), give
    one, for example min(_line) AS _line, else they are numbered in the order of their values.

    JSON: branch, sources, read, stored, duplicates, quarantined (rows by reason), late, highestTick, farAbove (null, or
    the two ticks around a wide gap).

    Example: ledger ingest ticks.jsonl.zst more/*.parquet
    """
    from ledger_cli.api import Ledger

    out = Output(as_json)
    with Ledger.open(ledger) as opened, progress() as watch:
        result = opened.ingest(
            *sources,
            branch=branch,
            format=format,
            map=pairs(map or []),
            sql=sql,
            delimiter=_unescaped(delimiter),
            comment=comment,
            columns=None if columns is None else columns.split(","),
            max_tick_jump=max_tick_jump,
            watch=watch,
        )
    out.emit(result, summary(result))
    if result.far_above is not None:
        below, above = result.far_above
        out.warn(
            f"tick {above} lies far above the rest (next below: {below}); one wrong tick lifts the watermark for "
            "good: before you commit, look at it, and set max_tick_jump in ledger.toml to refuse such rows"
        )
    for advice in advised(result):
        out.warn(advice)
    if result.refused and not allow_quarantine:
        them = "it" if result.refused == 1 else "them"
        raise QuarantinedRows(
            f"{counted(result.refused, 'row')} went to quarantine: see {them} with "
            f'`ledger sql "SELECT source, line, reason, raw FROM quarantine"{_where(ledger, branch)}`, '
            "or pass --allow-quarantine"
        )


def advised(result: IngestResult) -> Iterator[str]:
    """What to do where the rows as they are say that the source is meant otherwise."""
    if result.read == 0:
        yield "there was no row to read: check the source"
    if "not_utf8" in result.quarantined:
        yield (
            f"{counted(result.quarantined['not_utf8'], 'row')} not in UTF-8: convert the source, for example with "
            "`iconv -f LATIN1 -t UTF-8`, and ingest that"
        )
    for reason, advice in _OF_ALL_ROWS.items():
        if result.read > 0 and result.quarantined.get(reason) == result.read:
            yield advice


def _where(ledger: str | None, branch: str) -> str:
    """The options that lead a command to the same place."""
    given = [] if ledger is None else ["--ledger", ledger]
    given += [] if branch == "main" else ["--branch", branch]
    return "".join(f" {shlex.quote(each)}" for each in given)


def summary(result: IngestResult) -> object:
    """The table at the end."""
    rows: list[tuple[str, int | None]] = [
        ("read", result.read),
        ("stored", result.stored),
        ("duplicates", result.duplicates),
        ("quarantined", result.refused),
        *((f"  {reason}", count) for reason, count in result.quarantined.items()),
        ("late (below the watermark)", result.late),
    ]
    made = table(["rows", ""], rows, left=["rows"])
    made.add_section()
    made.add_row("highest tick", "–" if result.highest_tick is None else str(result.highest_tick))
    return made


def pairs(texts: list[str]) -> list[tuple[str, str]]:
    """`FIELD=SQL` texts as pairs."""
    for text in texts:
        if "=" not in text:
            raise UsageError(f"--map {text!r}: write it as FIELD=SQL, for example --map 'entityId=icao24'")
    return [(name.strip(), sql) for name, _, sql in (text.partition("=") for text in texts)]


@contextmanager
def progress() -> Iterator[Callable[[int, int | None], None] | None]:
    """A progress bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    reading = ("reading", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    storing = ("sorting and storing", BarColumn(), TimeElapsedColumn())
    with Progress(*reading, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def watch(read: int, total: int | None) -> None:
            if total is not None and read >= total:
                # What was read is sorted, compared with what is stored, and written: nobody knows how long that takes.
                bar.columns, total = storing, None
            else:
                bar.columns = reading
            bar.update(task, completed=read, total=total)

        yield watch


def _unescaped(delimiter: str | None) -> str | None:
    return "\t" if delimiter == "\\t" else delimiter
