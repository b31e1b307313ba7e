"""Hybrid logical clocks: a wall clock that causality may push ahead, never back.

The algorithm is that of Kulkarni et al., "Logical Physical Clocks" (2014). A reading is (wall, counter, node): µs
since 1970, a 16-bit counter of what happened within one µs, and who read it. Readings are ordered as such triples;
so are their texts, by code point, and their numbers but for the node.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from ledger_cli.errors import ClockError

COUNTER_BITS = 16
_COUNTER_LIMIT = 1 << COUNTER_BITS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
LAST_WALL = (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""The last µs that a reading can have."""
_NODE = re.compile(r"[A-Za-z0-9._-]{1,64}")
WALL_LENGTH = len("2026-01-29T19:21:00.000000Z")
NODE_AT = WALL_LENGTH + len("-0000-")
"""Where the wall clock ends, and where the node begins, in the text of a reading."""
_TEXT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6})Z-([0-9A-F]{4})-([A-Za-z0-9._-]{1,64})")


class Hlc(NamedTuple):
    """One reading. `wall`: µs since 1970, below the year 10000; `counter`: 0 to 65,535."""

    wall: int
    counter: int
    node: str

    def __str__(self) -> str:
        """`2026-01-29T19:21:00.000000Z-0000-node`: texts sort as the readings do."""
        return f"{_moment(self.wall)}Z-{self.counter:04X}-{self.node}"

    @property
    def number(self) -> int:
        """Wall and counter as one integer of up to 74 bits, in the order of the readings."""
        return self.wall << COUNTER_BITS | self.counter

    @staticmethod
    def parse(text: str) -> Hlc:
        """Of `str`. ValueError where it is none."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no hybrid clock reading like {Hlc(0, 0, 'node')}")
        wall = (datetime.fromisoformat(found[1] + "+00:00") - _EPOCH) // _MICROSECOND
        if wall < 0:
            raise ValueError(f"{text!r} lies before 1970")
        return Hlc(wall, int(found[2], 16), found[3])

    @staticmethod
    def of_number(number: int, node: str) -> Hlc:
        """Of `number`."""
        return Hlc(number >> COUNTER_BITS, number & _COUNTER_LIMIT - 1, node)


@lru_cache(maxsize=1024)
def _moment(wall: int) -> str:
    # Kept, since many readings share their wall.
    return (_EPOCH + timedelta(microseconds=wall)).strftime("%Y-%m-%dT%H:%M:%S.%f")


@lru_cache(maxsize=1024)
def node_name(name: str) -> str:
    """`name`, if a node may be called so; ValueError otherwise."""
    if not _NODE.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a node: use up to 64 letters, digits, '.', '_' and '-'")
    return name


def send(last: Hlc, now: int, max_drift: int) -> Hlc:
    """The reading of an event that happens at the node of `last`, after it, at the wall clock's `now`. µs.

    ClockError where `last` is more than `max_drift` ahead of the wall clock, or a counter is used up.
    """
    return _after(last, last.node, now, max_drift)


def receive(last: Hlc, remote: Hlc, now: int, max_drift: int) -> Hlc:
    """The reading after an event of another node came in: later than both. See `send`."""
    return _after(remote if remote[:2] > last[:2] else last, last.node, now, max_drift)


def _after(latest: Hlc, node: str, now: int, max_drift: int) -> Hlc:
    if latest.wall - now > max_drift:
        raise ClockError(
            f"the clock of node {latest.node} is {(latest.wall - now) / 1e6:.1f} s ahead of this machine's, "
            f"more than the {max_drift / 1e6:g} s allowed: set the clocks right, or raise max_drift in ledger.toml"
        )
    if now > latest.wall:
        return Hlc(now, 0, node)
    if latest.counter + 1 == _COUNTER_LIMIT:
        raise ClockError(f"more than {_COUNTER_LIMIT:,} events within 1 µs at {latest}: send them more slowly")
    return Hlc(latest.wall, latest.counter + 1, node)
