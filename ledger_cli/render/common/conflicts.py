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


def payload_words(event: Mapping[str, Any]) -> str:
    """What an event would have set."""
    return ", ".join(f"{name} {shown(value)}" for name, value in event["payload"].items()) or "nothing"


def _value(name: str, value: Any) -> str:
    if name != "timestamp" or value is None:
        return shown(value)
    return time_words(value)


def time_words(microseconds: int) -> str:
    """A timestamp of a tick, µs since 1970, as RFC 3339."""
    made = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    return made.isoformat().replace("+00:00", "Z")
