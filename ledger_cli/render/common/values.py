"""Arrow values as Python's; those that Python has no value for as the text that DuckDB shows for them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pyarrow as pa

_DAYS_TO_1970 = date(1970, 1, 1).toordinal()
_DAYS_IN_400_YEARS = 146_097
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY = 24 * 60 * 60


def column_values(column: pa.Array) -> list[Any]:
    """The values of a column: infinite and far dates and times, nanoseconds and intervals are texts."""
    if "interval" not in str(column.type) and not in_nanoseconds(column.type):
        try:
            made: list[Any] = column.to_pylist()
            return made
        except (OverflowError, ValueError):
            pass
    return [_value(each) for each in column]


def in_nanoseconds(kind: pa.DataType) -> bool:
    """Whether it has moments in nanoseconds, of which Arrow makes values of pandas where that is installed."""
    return "timestamp[ns" in str(kind) or "duration[ns" in str(kind)


def microseconds(kind: pa.DataType) -> pa.DataType:
    """The type of the same moments in microseconds: a cast to it fails where something would be lost."""
    return pa.duration("us") if pa.types.is_duration(kind) else pa.timestamp("us", kind.tz)


def rows_of(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """The rows of a batch."""
    return zip(*map(column_values, batch.columns), strict=True)


def _value(scalar: Any) -> Any:
    kind = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_union(kind):
        return _value(scalar.value)
    if pa.types.is_struct(kind):
        return {name: _value(scalar[place]) for place, name in enumerate(kind.names)}
    if pa.types.is_map(kind):
        return [tuple(_value(entry[place]) for place in (0, 1)) for entry in scalar.values]
    if pa.types.is_nested(kind):
        return [_value(each) for each in scalar.values]
    if pa.types.is_interval(kind):
        return _interval_text(*scalar.as_py())
    try:
        return (scalar.cast(microseconds(kind)) if in_nanoseconds(kind) else scalar).as_py()
    except (OverflowError, ValueError):
        return _moment_text(scalar)


def _moment_text(scalar: Any) -> str:
    kind, count = scalar.type, scalar.value
    if abs(count) == (2**31 if pa.types.is_date(kind) else 2**63) - 1:
        return "infinity" if count > 0 else "-infinity"
    if pa.types.is_date(kind):
        return _date_text(count)
    second, part = divmod(count, _PER_SECOND[kind.unit])
    day, second = divmod(second, _DAY)
    time = _time_text(second, part, kind.unit)
    if pa.types.is_time(kind):
        return time
    return f"{_date_text(day)} {time}{'' if kind.tz is None else '+00'}"


def _date_text(day: int) -> str:
    """The calendar repeats itself after 400 years."""
    cycle, rest = divmod(_DAYS_TO_1970 + day - 1, _DAYS_IN_400_YEARS)
    like = date.fromordinal(rest + 1)
    year = like.year + 400 * cycle
    text = f"{year if year > 0 else 1 - year:04}-{like.month:02}-{like.day:02}"
    return text if year > 0 else f"{text} (BC)"


def _time_text(seconds: int, part: int, unit: str) -> str:
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    digits = len(str(_PER_SECOND[unit])) - 1
    return f"{text}.{part:0{digits}}".rstrip("0") if part else text


def _interval_text(months: int, days: int, nanoseconds: int) -> str:
    # Whole units are counted towards zero, so each has the sign of the interval.
    sign = -1 if months < 0 else 1
    counts = {"year": sign * (abs(months) // 12), "month": sign * (abs(months) % 12), "day": days}
    parts = [f"{count} {unit}{'' if abs(count) == 1 else 's'}" for unit, count in counts.items() if count]
    if nanoseconds or not parts:
        seconds, part = divmod(abs(nanoseconds), 10**9)
        parts.append(("-" if nanoseconds < 0 else "") + _time_text(seconds, part, "ns"))
    return " ".join(parts)
