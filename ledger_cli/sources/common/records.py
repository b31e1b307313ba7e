"""Cuts delimited text (RFC 4180) into records, and says on which physical line each begins.

A quote opens a quoted field only where a field begins; elsewhere it is a character like others. Where all
quotes of a block stand as they should, the ends of records follow from their parity; else a pattern walks the
records.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

_QUOTE, _NEWLINE, _RETURN = 34, 10, 13


@dataclass(frozen=True)
class Dialect:
    """How fields are divided, and how a comment line begins."""

    delimiter: bytes = b","
    comment: bytes | None = None


@dataclass(frozen=True)
class Records:
    """Whole records of a block: record i is block[starts[i]:ends[i]], its line end included."""

    block: bytes
    starts: Positions
    ends: Positions
    lines: Positions

    def text(self, record: int) -> str:
        """A record's text without its line end."""
        return self.stored(record).rstrip(b"\r\n").decode(errors="replace")

    def stored(self, record: int) -> bytes:
        """A record's bytes, its line end included."""
        return self.block[self.starts[record] : self.ends[record]]

    def keep(self, wanted: npt.NDArray[np.bool_]) -> Records:
        """Some of the records; the block stays."""
        return Records(self.block, self.starts[wanted], self.ends[wanted], self.lines[wanted])

    def joined(self) -> bytes:
        """The bytes of these records alone, side by side."""
        lengths = self.ends - self.starts
        if int(lengths.sum()) == len(self.block):
            return self.block
        steps = np.zeros(len(self.block) + 1, np.int8)
        steps[self.starts] += 1
        steps[self.ends] -= 1
        wanted = np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)
        return np.frombuffer(self.block, np.uint8)[wanted].tobytes()


def cut(block: bytes, first_line: int, dialect: Dialect, last: bool) -> tuple[Records, int]:
    """The whole records of a block, and how many of its bytes they are; `last`: nothing follows the block.

    Blank and comment lines are left out, but counted. A record that is not ended stays for the next block.
    """
    data = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(data == _NEWLINE)
    ends = _record_ends(block, data, newlines, dialect, last)
    starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
    plain = len(ends) == len(newlines)
    lines = first_line + (np.arange(len(ends)) if plain else np.searchsorted(newlines, starts))
    used = int(ends[-1]) if len(ends) else 0
    records = Records(block if used == len(block) else block[:used], starts, ends, lines)
    return records.keep(_wanted(data, starts, ends, dialect)), used


def _record_ends(
    block: bytes, data: npt.NDArray[np.uint8], newlines: Positions, dialect: Dialect, last: bool
) -> Positions:
    quotes = np.flatnonzero(data == _QUOTE) if b'"' in block else newlines[:0]
    if not len(quotes):
        ends = newlines + 1
        unended = last and len(block) > (ends[-1] if len(ends) else 0)
        return np.append(ends, len(block)) if unended else ends
    if _well_placed(data, quotes, dialect) and not _has_comments(block, dialect):
        ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0] + 1
        unended = last and len(quotes) % 2 == 0 and len(block) > (ends[-1] if len(ends) else 0)
        return np.append(ends, len(block)) if unended else ends
    return _walk(block, dialect, last)


def _well_placed(data: npt.NDArray[np.uint8], quotes: Positions, dialect: Dialect) -> bool:
    """Whether each quote that would open a field does: it begins one, or is the second of a doubled quote."""
    opening = quotes[::2]
    before = data[opening - 1]
    placed = (before == dialect.delimiter[0]) | (before == _NEWLINE)
    placed[1:] |= opening[1:] - 1 == quotes[1:-1:2]
    placed[0] |= opening[0] == 0
    return bool(placed.all())


def _has_comments(block: bytes, dialect: Dialect) -> bool:
    comment = dialect.comment
    return comment is not None and (block.startswith(comment) or b"\n" + comment in block)


def _walk(block: bytes, dialect: Dialect, last: bool) -> Positions:
    """The ends of records, one after the other."""
    pattern = _pattern(dialect)
    ends: list[int] = []
    at = 0
    while at < len(block) and (found := pattern.match(block, at)) is not None:
        at = found.end()
        if at == len(block) and not block.endswith(b"\n") and not last:
            break
        ends.append(at)
    return np.array(ends, np.int64)


def _pattern(dialect: Dialect) -> re.Pattern[bytes]:
    """A record: fields and the newline or the end behind them. None matches where a quote stays open."""
    delimiter = re.escape(dialect.delimiter)
    quoted = rb'"(?:[^"]++|"")*+"[^' + delimiter + rb"\n]*+"
    plain = rb'(?!")[^' + delimiter + rb"\n]*+"
    field = rb"(?:" + quoted + rb"|" + plain + rb")"
    record = field + rb"(?:" + delimiter + field + rb")*+(?:\n|\Z)"
    comment = b"" if dialect.comment is None else re.escape(dialect.comment) + rb"[^\n]*+(?:\n|\Z)|"
    return re.compile(comment + record)


def _wanted(data: npt.NDArray[np.uint8], starts: Positions, ends: Positions, dialect: Dialect) -> npt.NDArray[np.bool_]:
    """Which records are neither blank nor comments."""
    lengths = ends - starts
    wanted: npt.NDArray[np.bool_] = ~((lengths == 1) & (data[starts] == _NEWLINE))
    wanted &= ~((lengths == 2) & (data[starts] == _RETURN) & (data[ends - 1] == _NEWLINE))
    if dialect.comment is not None:
        commented = lengths >= len(dialect.comment)
        for index, sign in enumerate(dialect.comment):
            commented &= data[np.minimum(starts + index, len(data) - 1)] == sign
        wanted &= ~commented
    return wanted
