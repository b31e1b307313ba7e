"""Numbers of bytes as people write them: `64KiB`, `1MB`, `512`."""

from __future__ import annotations

import re

from ledger_cli.errors import UsageError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
_TEXT = re.compile(r"([1-9][0-9]{0,11}) ?([KMG]?i?B|)", re.IGNORECASE)


def bytes_of(text: str) -> int:
    """The bytes of `512`, `64KiB` or `1MB`. UsageError for another text."""
    found = _TEXT.fullmatch(text)
    if found is None or found[2].upper() not in _UNITS:
        raise UsageError(f"{text!r} is no size: write bytes, or a number with KiB, MiB, GiB, KB, MB or GB")
    return int(found[1]) * _UNITS[found[2].upper()]
