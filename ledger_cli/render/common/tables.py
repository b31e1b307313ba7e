"""Tables for people: aligned, numbers to the right, ids short enough to read and long enough to paste."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from ledger_cli.render.common.words import printable, shown


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None, left: Iterable[str] = ()
) -> Table:
    """A table; columns of numbers, and all but `left`, are aligned to the right."""
    made = Table(
        title=None if title is None else Text(printable(title)),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    listed = [list(row) for row in rows]
    kept_left = set(left)
    for place, name in enumerate(columns):
        text = name in kept_left or not any(isinstance(row[place], (int, float)) for row in listed)
        made.add_column(Text(printable(name)), justify="left" if text else "right", overflow="fold")
    for row in listed:
        made.add_row(*(value if isinstance(value, Text) else Text(shown(value)) for value in row))
    return made


def fields(pairs: Mapping[str, Any], title: str | None = None) -> Table:
    """Names and values, one a line."""
    made = Table(
        title=None if title is None else Text(printable(title)),
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=False,
        pad_edge=False,
    )
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs.items():
        made.add_row(Text(name), value if isinstance(value, Text) else Text(shown(value)))
    return made


def more(left_out: int, what: str, how: str) -> list[Text]:
    """The line under a table that was cut, if it was."""
    if left_out < 1:
        return []
    return [Text(f"… and {shown(left_out)} more {what}: {how}", style="dim")]
