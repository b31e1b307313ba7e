"""What to do about columns that a source does not have: all of them at once, and what they may be called there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ledger_cli.core.tick_json import FIELDS

NEEDED = ("entityId", "tickId", "x", "y", "activity")
"""What no tick is without."""

_LISTED = 12
"""Columns that a message names at the most."""

_BETWEEN = ";\t|,"
"""What fields of delimited text are told apart by, mostly."""


def lacking_told(lacking: Sequence[str], names: Sequence[str], textual: bool) -> str:
    """The message for a table that has columns of these names, as delimited text if `textual`."""
    told = f"no column is named {', '.join(lacking)} (there are: {columns_told(names) or 'none'}): "
    between = next((each for each in _BETWEEN if textual and len(names) == 1 and each in names[0]), None)
    if between is not None:
        written = shlex.quote(between.replace("\t", "\\t"))
        return told + f"say how fields are told apart, --delimiter {written}"
    alike = {_letters(name): name for name in reversed(names)}
    found = {field: alike[_letters(field)] for field in lacking if _letters(field) in alike}
    if not found:
        found = {lacking[0]: next((name for name in names if name not in FIELDS), "COLUMN")}
    options = " ".join(f"--map {shlex.quote(f'{field}={name}')}" for field, name in found.items())
    return told + f"say which {'it is' if len(lacking) == 1 else 'they are'}, for example {options}"


def columns_told(names: Sequence[str]) -> str:
    """The columns there are, the first of many."""
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")


def _letters(name: str) -> str:
    """What the spellings of a name have in common: entity_id, Entity ID, entityId."""
    return "".join(filter(str.isalnum, name)).lower()
