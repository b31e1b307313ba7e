"""What is said of a reconciliation, in tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger_cli.render.common.words import shown

_OUTCOMES = {
    "nothing": "{b} is part of {a}: nothing to do",
    "advance": "{a} is part of {b}: it just moves on",
    "merge": "both have something new: their events are folded anew from the split",
}


def outcome_words(plan: Any) -> str:
    """What the plan comes to."""
    return _OUTCOMES[plan.outcome].format(a=plan.a, b=plan.b)


def differing(event: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What a tick has otherwise than another one with its key."""
    names = [name for name in {**event, **other} if event.get(name) != other.get(name)]
    return ", ".join(f"{name} {_value(name, event.get(name))}" for name in sorted(names))


def _value(name: str, value: Any) -> str:
    if name != "timestamp" or value is None:
        return shown(value)
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)).isoformat().replace("+00:00", "Z")
