"""Tables for people: aligned, numbers to the right, ids short enough to read and long enough to paste."""

from __future__ import annotations

import json
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


def shown(value: Any) -> str:
    """A value as people read it: thousands apart, floats short, nothing as a dash, no control characters."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, dict)):
        return printable(json.dumps(value, ensure_ascii=False, default=json_value))
    return printable(str(value))


def json_value(value: Any) -> Any:
    """What JSON has no type for: bytes as hexadecimal digits, everything else as its text."""
    return value.hex() if isinstance(value, (bytes, bytearray, memoryview)) else str(value)


def signed(value: float | None) -> str:
    """A difference: with its sign, and nothing where there is none."""
    if value is None:
        return "–"
    return "0" if value == 0 else f"{value:+.6g}"


def counted(count: int, noun: str) -> str:
    """`1 commit`, `2 commits`."""
    return f"{shown(count)} {noun}" if count == 1 else f"{shown(count)} {noun}s"


def short(commit_id: str | None) -> str:
    """The beginning of a commit id."""
    return "–" if commit_id is None else commit_id[:ID_LENGTH]


def ticks(start: int, end: int) -> str:
    """The ticks [start, end) of an epoch."""
    return f"{start}…{end}"


def moment(at: str) -> str:
    """An RFC 3339 time to the minute, in UTC."""
    return at[:16].replace("T", " ")


def printable(text: str) -> str:
    """The text without control characters, which could otherwise steer a terminal."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "�" for char in text)
