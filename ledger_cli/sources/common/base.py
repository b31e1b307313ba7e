"""What sources over one stream of bytes share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from ledger_cli.core.chunks import ColumnChunk, LineChunk
from ledger_cli.sources.common.ahead import read_ahead
from ledger_cli.sources.common.streams import ByteStream


class StreamSource(ABC):
    """See `ports.Source`. The stream is let go of at the end of the chunks, or when nobody wants more of them."""

    envelope = "none"

    def __init__(self, stream: ByteStream) -> None:
        self.name = stream.name
        self._stream = stream

    def chunks(self) -> Iterator[LineChunk | ColumnChunk]:
        return read_ahead(self._closing())

    def digest(self) -> str:
        return self._stream.digest()

    @property
    def position(self) -> tuple[int, int | None]:
        return self._stream.position

    def _closing(self) -> Iterator[LineChunk | ColumnChunk]:
        try:
            yield from self._chunks()
        finally:
            self._stream.close()

    @abstractmethod
    def _chunks(self) -> Iterator[LineChunk | ColumnChunk]:
        """The chunks, one by one."""
