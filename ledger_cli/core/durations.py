"""Lengths of time as people write them: `90s`, `30m`, `1h`, `7d`."""

from __future__ import annotations

import re

from ledger_cli.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TEXT = re.compile(r"([1-9][0-9]{0,8})([smhd])")


def seconds_of(text: str) -> int:
    """The seconds of `90s`, `30m`, `1h` or `7d`. UsageError for another text."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no length of time: write a number with s, m, h or d, for example 1h")
    return int(found[1]) * _UNITS[found[2]]


def seconds_given(value: float | str) -> float:
    """The same, or a number of seconds as it is."""
    return seconds_of(value) if isinstance(value, str) else value
