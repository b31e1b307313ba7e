"""Tables for people: aligned, numbers to the right, ids short enough to read and long enough to paste."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

ID_LENGTH = 13
"""Characters of a commit id that are shown: the first two groups of a UUID."""


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None, left: Iterable[str] = ()
) -> Table:
    """A table; columns of numbers, and all but `left`, are aligned to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    listed = [list(row) for row in rows]
    kept_left = set(left)
    for place, name in enumerate(columns):
        text = name in kept_left or not any(isinstance(row[place], (int, float)) for row in listed)
        made.add_column(Text(name), justify="left" if text else "right", overflow="fold")
    for row in listed:
        made.add_row(*(Text(shown(value)) for value in row))
    return made


def fields(pairs: Mapping[str, Any], title: str | None = None) -> Table:
    """Names and values, one a line."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in pairs.items():
        made.add_row(Text(name), Text(shown(value)))
    return made


def shown(value: Any) -> str:
    """A value as people read it: thousands apart, floats short, nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def short(commit_id: str | None) -> str:
    """The beginning of a commit id."""
    return "–" if commit_id is None else commit_id[:ID_LENGTH]
