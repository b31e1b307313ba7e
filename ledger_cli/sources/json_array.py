"""A source that is one JSON array: its elements, as they stand.

Only the array's own commas and brackets are looked at; whether an element is a tick is asked later, so a
broken one is refused alone. In the blocks handed on, the comma or bracket behind each element is a newline.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ledger_cli.core.chunks import LineChunk
from ledger_cli.errors import SourceError
from ledger_cli.sources.common.array_scan import ArrayScan
from ledger_cli.sources.common.base import StreamSource
from ledger_cli.sources.common.streams import ByteStream
from ledger_cli.sources.common.text import BLOCK_BYTES, SHORTEST_HEAD, VALUE_BYTES_LIMIT, text_of

CHUNK_ROWS = 1_000_000
CHUNK_BYTES = 256 << 20

_BLANK = b" \t\r\n"
_NEWLINE, _SPACE = 10, 32
_STEPS = 4
"""So many blanks before an element are passed one by one; where there are more, all bytes are looked at."""
_CLAIM = "a JSON array"


class JsonArraySource(StreamSource):
    """The elements of the array that a stream holds. An empty stream has none."""

    def __init__(
        self,
        stream: ByteStream,
        *,
        chunk_rows: int = CHUNK_ROWS,
        chunk_bytes: int = CHUNK_BYTES,
        block_bytes: int = BLOCK_BYTES,
        element_bytes_limit: int = VALUE_BYTES_LIMIT,
    ) -> None:
        super().__init__(stream)
        self._chunk_rows = chunk_rows
        self._chunk_bytes = chunk_bytes
        self._block_bytes = block_bytes
        self._element_bytes_limit = element_bytes_limit
        self._line = 1
        self._offset = 0

    def _chunks(self) -> Iterator[LineChunk]:
        chunk = LineChunk(first_line=1)
        for block, offsets, lines in self._elements():
            chunk.add_values(block, offsets, lines)
            if chunk.rows >= self._chunk_rows or chunk.bytes >= self._chunk_bytes:
                full, chunk = chunk, LineChunk(first_line=1)
                yield full
                del full
        if chunk.rows:
            yield chunk

    def _elements(self) -> Iterator[tuple[bytes, npt.NDArray[np.int32], npt.NDArray[np.int64]]]:
        """Blocks of whole elements, each with the separator behind it made a newline."""
        scan = ArrayScan()
        begun: list[bytes] = []
        begun_bytes, first, opened = 0, True, False
        for block in self._behind_bracket():
            opened = True
            commas, close = scan.separators(np.frombuffer(block, np.uint8))
            ends = commas + 1 if close is None else np.append(commas + 1, close + 1)
            if len(ends):
                values = bytearray().join((*begun, memoryview(block)[: ends[-1]]))
                rows = self._cut(values, ends + begun_bytes, first and close is not None)
                if rows is not None:
                    yield rows
                block, first = block[ends[-1] :], False
                begun, begun_bytes = [], 0
            if close is not None:
                if self._skip_blanks(block or self._stream.read(self._block_bytes)):
                    raise self._error("something follows the array")
                return
            begun.append(block)
            begun_bytes += len(block)
            if begun_bytes > self._element_bytes_limit:
                raise self._error(f"an element is longer than {self._element_bytes_limit:,} bytes")
        if opened:
            self._pass_over(b"".join(begun))
            raise self._error("the file ends inside a string" if scan.in_string else "the array is not closed")

    def _cut(
        self, values: bytearray, ends: npt.NDArray[np.int64], may_be_empty: bool
    ) -> tuple[bytes, npt.NDArray[np.int32], npt.NDArray[np.int64]] | None:
        """The elements that end (behind their separator) at `ends`, and the lines they begin on.

        None for the blank between the brackets of an empty array.
        """
        data = np.frombuffer(values, np.uint8)
        if data[ends[-1] - 1] == ord("}"):
            self._pass_over(values[:-1])
            raise self._error('"}" closes what "[" opened')
        newlines = np.flatnonzero(data == _NEWLINE)
        data[ends - 1] = _NEWLINE
        offsets = np.concatenate(([0], ends))
        begins = _first_not_blank(data, offsets[:-1])
        missing = np.flatnonzero(begins >= ends)
        if len(missing):
            if may_be_empty and len(ends) == 1 and not values.strip(_BLANK):
                self._pass_over(values, len(newlines))
                return None
            place = int(ends[missing[0]]) - 1
            self._pass_over(values[:place], int(np.searchsorted(newlines, place)))
            raise self._error("an element is missing before this comma or bracket")
        lines = self._line + np.searchsorted(newlines, begins)
        self._pass_over(values, len(newlines))
        return bytes(values), offsets.astype(np.int32), lines

    def _behind_bracket(self) -> Iterator[bytes]:
        """The blocks behind the opening bracket."""
        text = self._skip_blanks(self._first_block())
        if not text:
            return
        if not text.startswith(b"["):
            raise self._error("it does not begin with [")
        self._offset += 1
        yield text[1:]
        yield from self._blocks()

    def _first_block(self) -> bytes:
        head = self._stream.read(max(self._block_bytes, SHORTEST_HEAD))
        block = text_of(head, self.name, _CLAIM)
        self._offset = len(head) - len(block)
        return block

    def _blocks(self) -> Iterator[bytes]:
        while block := self._stream.read(self._block_bytes):
            yield block

    def _skip_blanks(self, block: bytes) -> bytes:
        """What follows, from the first byte on that is no blank; empty at the end of the file."""
        while block:
            text = block.lstrip(_BLANK)
            self._pass_over(block[: len(block) - len(text)])
            if text:
                return text
            block = self._stream.read(self._block_bytes)
        return b""

    def _pass_over(self, block: bytes | bytearray, newlines: int | None = None) -> None:
        self._offset += len(block)
        self._line += block.count(b"\n") if newlines is None else newlines

    def _error(self, what: str) -> SourceError:
        return SourceError(
            f"{self.name}: is not {_CLAIM}: {what} (line {self._line}, byte {self._offset:,}). "
            "Check the file, or give its --format."
        )


def _first_not_blank(data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first position from each start on that is no blank; the length of the data where there is none."""
    begins = starts.copy()
    for _ in range(_STEPS):
        blank = data[np.minimum(begins, len(data) - 1)] <= _SPACE
        if not blank.any():
            return begins
        np.minimum(begins + blank, len(data), out=begins)
    full = data > _SPACE
    after_blank = np.flatnonzero(full[1:] > full[:-1]) + 1
    found = np.append(after_blank, len(data))[np.searchsorted(after_blank, starts)]
    return np.where(full[starts], starts, found)
