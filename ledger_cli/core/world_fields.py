"""Rules per field: what concurrent updates of a field of an entity's state come to, and what an event does to it.

The rules `max`, `min`, `sum` and `union` combine values in any order and grouping, so that the fold of two histories,
put in the order of their clock readings, is their merge. With `lww` the last writer wins; `manual` is the same in one
history, and a person's choice where two branches differ.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from ledger_cli.core.jcs import INTEGER_LIMIT, relaxed_text
from ledger_cli.core.world import Refused, merge_patch

Patch = Mapping[str, Any]
_EXACT = decimal.Context(prec=1400, Emin=-2000, Emax=2000)
"""Wide enough for the exact decimal sum of any two binary64 numbers."""
_LARGEST = math.nextafter(math.inf, 0)


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _is_ordered(value: Any) -> bool:
    return type(value) is str or _is_number(value)


def _number(value: float) -> int | float:
    """One way to write a number: whole ones below 2⁵³ are integers."""
    return int(value) if abs(value) < INTEGER_LIMIT and value == int(value) else value


def _order(value: Any) -> tuple[bool, Any]:
    return type(value) is str, value


def _greatest(left: Any, right: Any) -> Any:
    return _plain(max(left, right, key=_order))


def _least(left: Any, right: Any) -> Any:
    return _plain(min(left, right, key=_order))


def _plain(value: Any) -> Any:
    return _number(value) if _is_number(value) else value


def add(left: float, right: float) -> int | float:
    """The sum of two numbers: integers exactly; others as the decimals that they are written as, rounded to binary64.

    So 0.1 and 0.2 are 0.3, and sums whose exact decimals have up to 15 digits are the same in any order. Beyond the
    largest binary64 number is that number.
    """
    if type(left) is int and type(right) is int:
        total = left + right
        # Larger ones are no integers that every reader of JSON can hold.
        return total if abs(total) < INTEGER_LIMIT else float(total)
    exact = _EXACT.add(decimal.Decimal(repr(left)), decimal.Decimal(repr(right)))
    return _number(max(-_LARGEST, min(_LARGEST, float(exact))))


def union(left: Iterable[Any], right: Iterable[Any]) -> list[Any]:
    """The values of two lists, each once, in the order of their canonical JSON."""
    return [orjson.loads(text) for text in sorted({relaxed_text(each) for each in (*left, *right)})]


class Combining(NamedTuple):
    """A rule that combines values: what is one, what two of them come to, and the one way to write it."""

    kind: str
    fits: Callable[[Any], bool]
    combine: Callable[[Any, Any], Any]
    written: Callable[[Any], Any]


COMBINING = {
    "max": Combining("a number or a text", _is_ordered, _greatest, _plain),
    "min": Combining("a number or a text", _is_ordered, _least, _plain),
    "sum": Combining("a number", _is_number, add, _plain),
    "union": Combining("a list", lambda value: type(value) is list, union, lambda value: union(value, ())),
}
RULES = ("lww", *COMBINING, "manual")


def check_rules(fields: Mapping[str, str]) -> None:
    """ValueError where a field has no such rule."""
    for name, rule in fields.items():
        if not name or rule not in RULES:
            raise ValueError(f"field {name!r} cannot have the rule {rule!r}: use {', '.join(RULES)}")


def combined(fields: Mapping[str, str], before: Any, payload: Patch, replace: bool = False) -> dict[str, Any]:
    """A part of an entity after an event: fields by their rules, the rest merged (RFC 7396), or replaced.

    It never fails, whatever was stored: where a value is not of its rule's kind, the new one takes its place.
    """
    rules = {name: COMBINING[rule] for name, rule in fields.items() if rule in COMBINING}
    kept = before if type(before) is dict else {}
    if replace:
        kept = {name: value for name, value in kept.items() if name in rules}
    after: dict[str, Any] = merge_patch(kept, {name: value for name, value in payload.items() if name not in rules})
    for name, rule in rules.items():
        if name in payload:
            value, present = payload[name], kept.get(name)
            if rule.fits(value):
                value = rule.combine(present, value) if rule.fits(present) else rule.written(value)
            after[name] = value
    return after


def check_combined(fields: Mapping[str, str], before: Any, payload: Patch) -> None:
    """Refused (`constraint_violation`) where a new event gives a field what its rule cannot take, or too large a sum.

    Sums have to stay below 2⁵³, where every step of whole ones is exact.
    """
    kept: Mapping[str, Any] = before if type(before) is dict else {}
    for name, named in fields.items():
        rule = COMBINING.get(named)
        if rule is None or name not in payload:
            continue
        value = payload[name]
        if not rule.fits(value):
            raise Refused("constraint_violation", f"payload/{name}: the rule {named} takes {rule.kind}")
        if named == "sum" and abs(add(_or_nothing(kept.get(name)), value)) >= INTEGER_LIMIT:
            raise Refused("constraint_violation", f"payload/{name}: the sum would reach 2^53")


def _or_nothing(value: Any) -> Any:
    return value if _is_number(value) else 0
