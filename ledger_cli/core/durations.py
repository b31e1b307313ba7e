"""Lengths of time as people write them: `90s`, `30m`, `1h`, `7d`."""

from __future__ import annotations

import re

from ledger_cli.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TEXT = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_DECIMAL = re.compile(r"([0-9]{1,9}\.[0-9]{1,6})([smhd])")


def seconds_of(text: str) -> int:
    """The seconds of `90s`, `30m`, `1h` or `7d`. UsageError for another text."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no length of time: write a number with s, m, h or d, for example 1h")
    return int(found[1]) * _UNITS[found[2]]


def seconds_given(value: float | str) -> float:
    """A length of time to wait: a text as above, its number also with decimals (`0.5s`), or seconds.

    UsageError for another text, and where it is not above 0: that would be no waiting.
    """
    found = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    if isinstance(value, str):
        value = seconds_of(value) if found is None else float(found[1]) * _UNITS[found[2]]
    if not 0 < value < float("inf"):
        raise UsageError(f"{value} seconds are no time to wait: give more than 0")
    return value
