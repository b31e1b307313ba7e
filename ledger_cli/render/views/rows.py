"""The rows of `sql`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.text import Text

from ledger_cli.render.common.tables import fields, more, table
from ledger_cli.render.common.values import rows_of
from ledger_cli.render.common.words import counted, shown

LONG_FROM = 500
"""Rows from which columns are laid out here: a table of the terminal library takes a second for a few thousand."""

_ENDLESS = 100_000
_TEXT_MAX = 500
"""Characters of a text that a terminal shows: a refused row may be as long as its file."""


def rows_views(names: Sequence[str], batches: Iterable[Any], most: int | None) -> list[RenderableType]:
    """Arrow batches as a table for people; of what is not shown the rows are counted."""
    rows: list[list[Any]] = []
    total = 0
    for batch in batches:
        total += batch.num_rows
        left = batch.num_rows if most is None else min(most - len(rows), batch.num_rows)
        if left > 0:
            rows += [_row(row) for row in rows_of(batch.slice(0, left))]
    rest = more(total - len(rows), "rows", "--limit N shows more, --format csv all")
    if len(rows) >= LONG_FROM:
        return ["\n".join(plain_lines(names, rows)), *rest, counted(total, "row")]
    return [Rows(names, rows), *rest, Text(counted(total, "row"), style="dim")]


class Rows:
    """A table where it has room, else one line a value."""

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Cells of any type."""
        self._names = names
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        listed = [[_cut(value) for value in row] for row in self._rows] if console.is_terminal else self._rows
        made = table(self._names, listed)
        if Measurement.get(console, options.update(width=_ENDLESS), made).maximum <= options.max_width:
            yield made
            return
        for number, row in enumerate(listed, 1):
            yield fields(dict(zip(self._names, row, strict=True)), f"row {number}")


def _cut(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= _TEXT_MAX:
        return value
    return f"{value[:_TEXT_MAX]}… ({counted(len(value) - _TEXT_MAX, 'character')} more: --json shows all)"


class _Whole(int):
    """An integer as a database shows it: digits alone, so that it can be searched for."""

    def __format__(self, _: str) -> str:
        return str(int(self))


class _Real(float):
    """The same of a float."""

    def __format__(self, _: str) -> str:
        return format(float(self), ".6g")


def _row(row: Sequence[Any]) -> list[Any]:
    return [_cell(value) for value in row]


def _cell(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return _Whole(value)
    if isinstance(value, float):
        return _Real(value)
    # A sum of integers is a decimal in Arrow.
    return _Whole(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value


def plain_lines(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """The same layout as a table has, for many rows."""
    texts = [[shown(value) for value in row] for row in rows]
    right = [any(isinstance(row[place], (int, float)) for row in rows) for place in range(len(names))]
    head = [shown(name) for name in names]
    widths = [max(map(cell_len, column)) for column in zip(head, *texts, strict=True)]
    yield _line(head, widths, right)
    yield "─".join("─" * (width + 1) for width in widths)
    for row in texts:
        yield _line(row, widths, right)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for text, width, to_right in zip(cells, widths, right, strict=True):
        room = " " * (width - cell_len(text))
        padded.append(room + text if to_right else text + room)
    return "  ".join(padded).rstrip()
