"""Canonical JSON (RFC 8785) and the digests made of it.

Every id of the ledger is the SHA-256 of canonical JSON, so this is the only module that decides how a value
is written before it is hashed.
"""

from __future__ import annotations

import hashlib
import json
import math
from fractions import Fraction
from typing import Any

import rfc8785

from ledger_cli.errors import UsageError

INTEGER_LIMIT = 2**53


def canonical(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value. Integers of 2⁵³ or more and non-finite floats are refused (UsageError)."""
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise UsageError(f"this value has no canonical JSON: {error}; use numbers below 2^53") from error


def digest_of(value: Any) -> str:
    """Lower-case hex SHA-256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical(value)).hexdigest()


def text_of(value: Any) -> str:
    """Canonical JSON as text."""
    return canonical(value).decode()


def relaxed_text(value: Any) -> str:
    """Canonical JSON of data that is not ours to refuse: as `text_of`, with larger integers in full digits.

    RFC 8785 knows binary64 numbers only; an entity's `meta` may hold any integer, and two different ones must
    not compare equal.
    """
    try:
        return rfc8785.dumps(value).decode()
    except rfc8785.CanonicalizationError:
        return _relaxed(value)


def _relaxed(value: Any) -> str:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{rfc8785.dumps(name).decode()}:{relaxed_text(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(relaxed_text, value)) + "]"
    return json.dumps(value)


def decimal_fraction(number: float) -> Fraction:
    """The rational that a number's canonical decimal text stands for: 0.3 is 3/10, not its binary64 value."""
    return Fraction(text_of(number))


def number(value: Any, name: str, minimum: float = -math.inf) -> float | int:
    """`value` as a finite JSON number of at least `minimum`, else UsageError naming `name`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UsageError(f"{name} must be a finite number, not {value!r}")
    if abs(value) >= INTEGER_LIMIT and isinstance(value, int):
        raise UsageError(f"{name} must be below 2^53, not {value!r}")
    if value < minimum:
        raise UsageError(f"{name} must be at least {minimum:g}, not {value!r}")
    return value


def integer(value: Any, name: str, minimum: int = 0) -> int:
    """`value` as an integer of at least `minimum` and below 2⁵³ (7.0 is 7), else UsageError naming `name`."""
    checked = number(value, name, minimum)
    if checked != int(checked):
        raise UsageError(f"{name} must be a whole number, not {value!r}")
    return int(number(int(checked), name, minimum))
