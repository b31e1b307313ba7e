"""Tick events: the stored columns, what may be refused, and why."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import rfc8785

TICKS = pa.schema(
    [
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("tick_id", pa.int64(), nullable=False),
        pa.field("x", pa.float64(), nullable=False),
        pa.field("y", pa.float64(), nullable=False),
        pa.field("activity", pa.float64(), nullable=False),
        pa.field("jitter", pa.float64()),
        pa.field("meta", pa.string()),
        pa.field("timestamp", pa.int64()),
    ]
)
"""A stored tick. `meta`: JSON text of an object, null for an empty one; `timestamp`: µs since 1970, UTC."""

DRAFT = TICKS.append(pa.field("line", pa.int64()))
"""A tick with its physical line (or row) in its source. Segments keep the column; nothing depends on it."""

ENTITY_STATE = pa.schema(
    [
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("last_tick", pa.int64(), nullable=False),
        pa.field("activity", pa.float64(), nullable=False),
        pa.field("activity_history", pa.string(), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
    ]
)
"""The last tick of an entity. `activity_history`: JSON text of `[[tick, activity], …]`, the oldest first, bounded;
`metadata`: JSON text of an object, the `meta` of the last tick."""

TICK_LIMIT = 2**53
ACTIVITY_LIMIT = 1e6

REASONS = {
    "broken_json": "not one JSON object, or a key given twice in one object",
    "not_utf8": "bytes that are not UTF-8, as in a file of Latin-1: convert it, for example with iconv",
    "broken_row": "not as many fields as the header has",
    "wrong_type": "a value of another type: numbers must be JSON numbers, a tick a whole one, meta an object",
    "entity_id_missing": "entityId is missing or empty",
    "tick_id_missing": "tickId is missing",
    "tick_id_out_of_range": "tickId is negative, or 2^53 or more",
    "position_missing": "x or y is missing",
    "position_not_finite": "x or y is NaN or infinite",
    "activity_missing": "activity is missing",
    "activity_negative": "activity is below 0",
    "activity_not_finite": "activity is NaN or infinite",
    "activity_too_large": "activity is above 1000000, too large for the exact sums",
    "jitter_not_finite": "jitter is NaN or infinite",
    "bad_timestamp": "timestamp is neither RFC 3339 nor whole milliseconds since 1970",
    "key_conflict": "another event with the same entityId and tickId, but other content, was kept",
    "tick_jump": "tickId lies further above the rest than max_tick_jump allows",
}
"""Reason codes of the quarantine."""


def region_of_json(text: str | None) -> str:
    """The region id of a JSON value: a string as it is, null or nothing `none`, others their RFC 8785 text."""
    value = None if text is None else json.loads(text, parse_int=_as_double)
    if value is None:
        return "none"
    return value if isinstance(value, str) else rfc8785.dumps(value).decode()


def _as_double(digits: str) -> Any:
    """RFC 8785 knows binary64 numbers only."""
    whole = int(digits)
    return whole if abs(whole) < TICK_LIMIT else float(whole)
