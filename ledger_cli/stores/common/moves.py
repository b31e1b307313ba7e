"""Moves of a ref as stores number and name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_DIGITS = 20
_SUFFIX = ".json"


def name_of(seq: int) -> str:
    """The file of a move, in the folder of its ref: names order as numbers do."""
    return f"{seq:0{_DIGITS}d}{_SUFFIX}"


def numbers_of(names: Iterable[str]) -> list[int]:
    """The moves that files are, ascending; what else lies there is none."""
    length = _DIGITS + len(_SUFFIX)
    return sorted(int(name[:_DIGITS]) for name in names if len(name) == length and name[:_DIGITS].isdigit())


def first_missing(numbers: Sequence[int]) -> int | None:
    """Of ascending numbers of moves, the first that is left out before the last; None: none is."""
    if not numbers or numbers[-1] + 1 == len(numbers):
        return None
    return next(place for place, number in enumerate(numbers) if place != number)
