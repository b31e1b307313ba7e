"""Bounded pieces of a source, on their way to the engine: lines of JSON, or columns.

Line numbers are physical, from 1, blank lines counted. Bytes stay where they were read: a line's text is a
slice of its block.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Offsets = npt.NDArray[np.int32]

LINES = pa.schema([("row", pa.int32()), ("line", pa.int64()), ("raw", pa.string()), ("marks", pa.int32())])
"""A chunk's lines. `row`: index in the chunk; `line`: physical line; `marks`: how many '"' and ',' the line
has, -1 where unknown."""

_QUOTE, _COMMA, _NEWLINE = 34, 44, 10
_BLANK = b" \t\r\n"
_CACHED = 1 << 18
_LINE_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Refused:
    """A row that cannot be used: where it stands, its text, and a code of `core.events.REASONS`."""

    line: int
    raw: str
    reason: str
    partition: int | None = None
    offset: int | None = None


class LineChunk:
    """Lines that each hold one JSON value. Blocks are added whole, each ending with a newline."""

    def __init__(self, first_line: int) -> None:
        self.first_line = first_line
        self.rows = 0
        self.bytes = 0
        self.not_utf8: list[int] = []
        """Rows that are no text; in the table each is question marks."""
        self._blocks: list[tuple[bytes, Offsets]] = []
        self._starts: list[int] = []
        self._cut_out: list[bool] = []
        self._lines: list[npt.NDArray[np.int64]] = []
        self._batches: list[pa.RecordBatch] = []

    def add_lines(self, block: bytes) -> None:
        """Add a block of whole lines; each is one row."""
        newlines = np.flatnonzero(np.frombuffer(block, np.uint8) == _NEWLINE)
        offsets = np.zeros(len(newlines) + 1, np.int32)
        np.add(newlines, 1, out=offsets[1:], casting="unsafe")
        self._add(block, offsets, None)

    def add_values(self, block: bytes, offsets: Offsets, lines: npt.NDArray[np.int64]) -> None:
        """Add values cut out of a block: row i is block[offsets[i]:offsets[i + 1]], begun on line `lines[i]`.

        They lie side by side: a value's text ends with one byte more, a newline in place of its separator.
        """
        self._add(block, offsets, lines)

    def line(self, row: int) -> int:
        """Physical line on which a row begins."""
        place, within = self._place(row)
        return int(self._lines[place][within])

    def raw(self, row: int) -> bytes:
        """The bytes of a row, without its line end; those of a value without the blanks around it."""
        place, within = self._place(row)
        block, offsets = self._blocks[place]
        text = block[offsets[within] : offsets[within + 1]]
        return text.strip(_BLANK) if self._cut_out[place] else text.rstrip(b"\r\n")

    def table(self) -> pa.Table:
        """The rows as `LINES`, a record batch for each block."""
        return pa.Table.from_batches(self._batches, LINES)

    def _add(self, block: bytes, offsets: Offsets, lines: npt.NDArray[np.int64] | None) -> None:
        count = len(offsets) - 1
        valid, no_text = _valid_utf8(block, offsets)
        self.not_utf8 += [self.rows + row for row in no_text]
        text = pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(valid)])
        rows = np.arange(self.rows, self.rows + count, dtype=np.int32)
        marks = pa.array(count_marks(block, offsets))
        cut_out = lines is not None
        if lines is None:
            lines = np.arange(count, dtype=np.int64) + (self.first_line + self.rows)
        columns = [pa.array(rows), pa.array(lines), text, marks]
        self._batches.append(pa.RecordBatch.from_arrays(columns, schema=LINES))
        self._blocks.append((block, offsets))
        self._starts.append(self.rows)
        self._cut_out.append(cut_out)
        self._lines.append(lines)
        self.rows += count
        self.bytes += len(block)

    def _place(self, row: int) -> tuple[int, int]:
        place = int(np.searchsorted(self._starts, row, side="right")) - 1
        return place, row - self._starts[place]


def count_marks(block: bytes, offsets: Offsets) -> npt.NDArray[np.int32]:
    """How many '"' and ',' each line has, exactly; -1 for lines that write one as an escape."""
    if len(offsets) < 2:
        return np.empty(0, np.int32)
    data = np.frombuffer(block, np.uint8)
    longest = int(np.diff(offsets).max())
    width = np.uint8 if longest < 2**8 else np.uint16 if longest < 2**16 else np.int32
    mask = np.empty(len(data), np.uint8)
    for at in range(0, len(data), _CACHED):
        piece = data[at : at + _CACHED]
        found = piece == _QUOTE
        found |= piece == _COMMA
        mask[at : at + _CACHED] = found
    marks: npt.NDArray[np.int32] = np.add.reduceat(mask, offsets[:-1], dtype=width).astype(np.int32)
    for escape in re.finditer(rb"\\u002", block) if b"\\u002" in block else ():
        marks[np.searchsorted(offsets, escape.start(), side="right") - 1] = -1
    return marks


def _valid_utf8(block: bytes, offsets: Offsets) -> tuple[bytes, list[int]]:
    """The block, lines that are not UTF-8 made question marks, and which these are.

    Nobody takes question marks for JSON, or for blank.
    """
    if block.isascii() or is_utf8(block):
        return block, []
    blanked, no_text = bytearray(block), []
    beyond_ascii = np.flatnonzero(np.frombuffer(block, np.uint8) >= 128)
    for line in np.unique(np.searchsorted(offsets, beyond_ascii, side="right") - 1).tolist():
        first, last = int(offsets[line]), int(offsets[line + 1])
        if not is_utf8(block[first:last]):
            no_text.append(line)
            blanked[first : last - 1] = b"?" * (last - 1 - first)
    return bytes(blanked), no_text


def is_utf8(text: bytes) -> bool:
    """Whether bytes are text."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass
class ColumnChunk:
    """Rows as typed columns, beside each its physical line (or row) number in `lines`.

    `textual`: every column is text, to be read as numbers where a number is wanted (CSV). `raw(row)` gives
    the text of a row for the quarantine. `refused`: rows that were no rows at all.
    """

    table: pa.Table
    lines: pa.Array
    raw: Callable[[int], str]
    textual: bool = False
    refused: Iterable[Refused] = field(default_factory=list)


_Loaded = tuple[pa.Table, Callable[[int], str]]


class StoredChunk(ColumnChunk):
    """Rows of a local Parquet file: an engine may read them where they lie; else they are loaded when asked for."""

    def __init__(
        self,
        path: str,
        first: int,
        rows: int,
        schema: pa.Schema,
        load: Callable[[], _Loaded],
    ) -> None:
        """Rows [first, first + rows) of the file, counted from 0. `load` gives their table, and the text of a row."""
        self.path = path
        self.first = first
        self.rows = rows
        self.schema = schema
        self.textual = False
        self.refused = []
        self._load = load

    @cached_property
    def _loaded(self) -> _Loaded:
        return self._load()

    @property
    def table(self) -> pa.Table:
        """The rows."""
        return self._loaded[0]

    @property
    def raw(self) -> Callable[[int], str]:  # type: ignore[override]
        """The text of a row."""
        return self._loaded[1]

    @cached_property
    def lines(self) -> pa.Array:
        """Row numbers in the file, from 1."""
        return pa.array(np.arange(self.first + 1, self.first + 1 + self.rows))
