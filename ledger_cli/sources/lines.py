"""Sources of one JSON value a line: JSON Lines, `kcat -J` and `kafka-console-consumer`.

Blocks are read and cut at their last newline; a line is never looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator

from ledger_cli.core.chunks import LineChunk
from ledger_cli.errors import SourceError
from ledger_cli.sources.common.base import StreamSource
from ledger_cli.sources.common.streams import ByteStream
from ledger_cli.sources.common.text import BLOCK_BYTES, SHORTEST_HEAD, VALUE_BYTES_LIMIT, text_of

CHUNK_ROWS = 1_000_000
CHUNK_BYTES = 256 << 20

_CLAIM = {"none": "JSON Lines", "kcat": "a kcat -J dump", "kafka-console": "a kafka-console-consumer dump"}


class LineSource(StreamSource):
    """Lines of a stream. `envelope`: "none", "kcat" or "kafka-console", see `ports.Source`."""

    def __init__(
        self,
        stream: ByteStream,
        envelope: str = "none",
        *,
        chunk_rows: int = CHUNK_ROWS,
        chunk_bytes: int = CHUNK_BYTES,
        block_bytes: int = BLOCK_BYTES,
        line_bytes_limit: int = VALUE_BYTES_LIMIT,
    ) -> None:
        super().__init__(stream)
        self.envelope = envelope
        self._chunk_rows = chunk_rows
        self._chunk_bytes = chunk_bytes
        self._block_bytes = block_bytes
        self._line_bytes_limit = line_bytes_limit
        self._next_line = 1

    def _chunks(self) -> Iterator[LineChunk]:
        chunk = LineChunk(first_line=1)
        for block in self._whole_lines():
            chunk.add_lines(block)
            self._next_line = chunk.first_line + chunk.rows
            if chunk.rows >= self._chunk_rows or chunk.bytes >= self._chunk_bytes:
                full, chunk = chunk, LineChunk(chunk.first_line + chunk.rows)
                yield full
                del full
        if chunk.rows:
            yield chunk

    def _whole_lines(self) -> Iterator[bytes]:
        """Blocks that end with a newline."""
        begun: list[bytes] = []
        begun_bytes = 0
        for block in self._blocks():
            end = block.rfind(b"\n") + 1
            if end:
                yield b"".join((*begun, memoryview(block)[:end])) if begun or end < len(block) else block
                begun, begun_bytes = [], 0
            if end < len(block):
                begun.append(block[end:])
                begun_bytes += len(block) - end
            if begun_bytes > self._line_bytes_limit:
                raise SourceError(self._too_long())
        if begun:
            yield b"".join((*begun, b"\n"))

    def _blocks(self) -> Iterator[bytes]:
        head = self._stream.read(max(self._block_bytes, SHORTEST_HEAD))
        block = text_of(head, self.name, _CLAIM[self.envelope])
        while block:
            yield block
            block = self._stream.read(self._block_bytes)

    def _too_long(self) -> str:
        return (
            f"{self.name}: is not {_CLAIM[self.envelope]}: line {self._next_line} is longer than "
            f"{self._line_bytes_limit:,} bytes. Check the file, or give its --format."
        )
