"""A tick event from its JSON text, exactly: the definition that every faster reader must agree with."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ledger_cli.core.events import ACTIVITY_LIMIT, TICK_LIMIT
from ledger_cli.core.jcs import relaxed_text

FIELDS = ("entityId", "tickId", "x", "y", "activity", "jitter", "meta", "timestamp")
RFC3339 = r"\d{4}-\d\d-\d\d[Tt ]([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"
MILLISECONDS_LIMIT = 10**14
"""Whole milliseconds beyond ± this (year 5138) are no timestamps; 15 digits would be microseconds."""

_RFC3339 = re.compile(RFC3339, re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BLANK = " \t\r\n"
_string_text = json.JSONEncoder(ensure_ascii=False).encode


class Refusal(ValueError):
    """A row that cannot be used; the argument is a code of `core.events.REASONS`."""

    @property
    def reason(self) -> str:
        """The reason code."""
        return str(self.args[0])


class Tick(NamedTuple):
    """A tick as stored: `meta` JSON text or None for an empty one, `timestamp` µs since 1970 or None."""

    entity_id: str
    tick_id: int
    x: float
    y: float
    activity: float
    jitter: float | None
    meta: str | None
    timestamp: int | None

    def canonical(self) -> str:
        """Canonical JSON text of the event, by which conflicting ones are ordered."""
        # As relaxed_text writes the event, which takes five times as long.
        meta = relaxed_text(json.loads(self.meta)) if self.meta else "{}"
        jitter = "null" if self.jitter is None else _number_text(self.jitter)
        timestamp = "null" if self.timestamp is None else str(self.timestamp)
        return (
            f'{{"activity":{_number_text(self.activity)},"entityId":{_string_text(self.entity_id)},'
            f'"jitter":{jitter},"meta":{meta},"tickId":{self.tick_id},"timestamp":{timestamp},'
            f'"x":{_number_text(self.x)},"y":{_number_text(self.y)}}}'
        )


def parse_tick(line: bytes) -> Tick | None:
    """The tick of one line, None for a blank line. Refusal with the reason where it cannot be used."""
    event = _object(line)
    if event is None:
        return None
    entity = event.pop("entityId", None)
    if entity is None or entity == "":
        raise Refusal("entity_id_missing")
    if not isinstance(entity, str):
        raise Refusal("wrong_type")
    tick = _tick(event.pop("tickId", None))
    activity = _activity(event.pop("activity", None))
    x, y = _position(event.pop("x", None), event.pop("y", None))
    jitter = event.pop("jitter", None)
    if jitter is not None and not _is_number(jitter):
        raise Refusal("wrong_type")
    if jitter is not None and not _is_finite(jitter):
        raise Refusal("jitter_not_finite")
    meta = event.pop("meta", None)
    if meta is not None and not isinstance(meta, dict):
        raise Refusal("wrong_type")
    timestamp = timestamp_of(event.pop("timestamp", None))
    text = _meta_text(with_unknown(meta or {}, event))
    return Tick(entity, tick, x, y, activity, None if jitter is None else float(jitter), text, timestamp)


def with_unknown(meta: dict[str, Any], unknown: dict[str, Any]) -> dict[str, Any]:
    """`meta` with an event's unknown top-level fields, which go before its own keys of the same name.

    What they hide is kept under the key `meta`, so that nothing is lost.
    """
    hidden = {name: meta[name] for name in meta if name in unknown}
    if hidden and "meta" in meta:
        hidden["meta"] = meta["meta"]
    return {**meta, **unknown, **({"meta": hidden} if hidden else {})}


def merged_meta(meta: str | None, unknown: str | None) -> str | None:
    """The stored meta of an event's own and its unknown fields, as JSON texts of objects. Refusal as of a line."""
    own, other = ((_object(text.encode()) or {}) if text else {} for text in (meta, unknown))
    return _meta_text(with_unknown(own, other))


def timestamp_of(value: Any) -> int | None:
    """µs since 1970, UTC, of RFC 3339 text or whole milliseconds. Fractions of a µs are cut off.

    A leap second, the last of a month in UTC, is the second after it: the count since 1970 has none.
    """
    if value is None:
        return None
    if isinstance(value, str):
        if not _RFC3339.fullmatch(value):
            raise Refusal("bad_timestamp")
        try:
            return (_moment(value.upper()) - _EPOCH) // timedelta(microseconds=1)
        except (ValueError, OverflowError) as error:
            raise Refusal("bad_timestamp") from error
    if not _is_number(value):
        raise Refusal("wrong_type")
    if not _is_finite(value) or value != math.floor(value) or abs(value) >= MILLISECONDS_LIMIT:
        raise Refusal("bad_timestamp")
    return int(value) * 1000


def _moment(text: str) -> datetime:
    """The moment of RFC 3339 text; ValueError or OverflowError where there is none."""
    if text[17:19] != "60":
        return datetime.fromisoformat(text)
    after = datetime.fromisoformat(f"{text[:17]}59{text[19:]}").astimezone(UTC) + timedelta(seconds=1)
    if (after.day, after.hour, after.minute, after.second) != (1, 0, 0, 0):
        raise ValueError("no leap second")
    return after


def _number_text(value: float) -> str:
    """Canonical JSON of a finite number; where Python writes no exponent, both write the same digits."""
    if value.is_integer() and abs(value) < TICK_LIMIT:
        return str(int(value))
    return repr(value) if 1e-4 <= abs(value) < 1e15 else relaxed_text(value)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        text = line.decode().strip(_BLANK)
    except UnicodeDecodeError as error:
        raise Refusal("not_utf8") from error
    if not text:
        return None
    try:
        event = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise Refusal("broken_json") from error
    if not isinstance(event, dict):
        raise Refusal("broken_json")
    try:
        json.dumps(event, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise Refusal("broken_json") from error
    return event


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refusal("broken_json")
    return found


def _constant(name: str) -> float:
    return float(name.replace("Infinity", "inf"))


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant)


def _tick(value: Any) -> int:
    if value is None:
        raise Refusal("tick_id_missing")
    if not _is_number(value):
        raise Refusal("wrong_type")
    if not _is_finite(value) or not 0 <= value < TICK_LIMIT:
        raise Refusal("tick_id_out_of_range")
    if value != math.floor(value):
        raise Refusal("wrong_type")
    return int(value)


def _activity(value: Any) -> float:
    if value is None:
        raise Refusal("activity_missing")
    if not _is_number(value):
        raise Refusal("wrong_type")
    if not _is_finite(value):
        raise Refusal("activity_not_finite")
    if value < 0:
        raise Refusal("activity_negative")
    if value > ACTIVITY_LIMIT:
        raise Refusal("activity_too_large")
    return float(value)


def _position(x: Any, y: Any) -> tuple[float, float]:
    if x is None or y is None:
        raise Refusal("position_missing")
    if not _is_number(x) or not _is_number(y):
        raise Refusal("wrong_type")
    if not _is_finite(x) or not _is_finite(y):
        raise Refusal("position_not_finite")
    return float(x), float(y)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _meta_text(meta: dict[str, Any]) -> str | None:
    if not meta:
        return None
    try:
        return json.dumps(meta, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise Refusal("broken_json") from error
