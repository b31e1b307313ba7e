"""Values as people read them; without rich, for commands that print a line and no table."""

from __future__ import annotations

import json
from typing import Any

ID_LENGTH = 13
"""Characters of a commit id that are shown: the first two groups of a UUID."""


def shown(value: Any) -> str:
    """A value as people read it: thousands apart, floats short, nothing as a dash, no control characters."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return grouped(f"{value:,}")
    if isinstance(value, float):
        return grouped(f"{value:,.6g}")
    if isinstance(value, (list, dict)):
        return printable(json.dumps(value, ensure_ascii=False, default=json_value))
    return printable(str(value))


def grouped(text: str) -> str:
    """A number that Python wrote with commas, its thousands apart as everywhere here."""
    return text.replace(",", " ")


def json_value(value: Any) -> Any:
    """What JSON has no type for: bytes as hexadecimal digits, everything else as its text."""
    return value.hex() if isinstance(value, (bytes, bytearray, memoryview)) else str(value)


def signed(value: float | None) -> str:
    """A difference: with its sign, and nothing where there is none."""
    if value is None:
        return "–"
    return "0" if value == 0 else grouped(f"{value:+,.6g}")


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 commit`, `2 commits`."""
    return f"{shown(count)} {one if count == 1 else many or one + 's'}"


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
