"""Sources whose columns have types already: Parquet and Arrow IPC (file and stream format).

Both need to jump about in the file. Standard input, URLs and compressed files are therefore copied to a
temporary file first (in TMPDIR), and digested on the way; a local file is digested when that is asked for.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ledger_cli.core.chunks import ColumnChunk, LineChunk, StoredChunk
from ledger_cli.errors import LedgerError, SourceError
from ledger_cli.sources.common.ahead import read_ahead
from ledger_cli.sources.common.streams import ByteStream

CHUNK_ROWS = 1_000_000
CHUNK_BYTES = 256 << 20

_COPIED_AT_ONCE = 4 << 20
_PAGES_AT_ONCE = 1 << 20
_ARROW_FILE = b"ARROW1"
_JSON = json.JSONEncoder(ensure_ascii=False, default=str)


class _Tables(Protocol):
    """Pieces of a file, each with the share of the file, from 0 to 1, that has been read by then."""

    def __call__(self, path: Path, chunk_rows: int, chunk_bytes: int) -> Iterator[tuple[pa.Table, float]]: ...


class _TabularSource:
    envelope = "none"

    def __init__(
        self,
        stream: ByteStream,
        claim: str,
        tables: _Tables,
        chunk_rows: int = CHUNK_ROWS,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self.name = stream.name
        self._stream = stream
        self._claim = claim
        self._tables = tables
        self._chunk_rows = chunk_rows
        self._chunk_bytes = chunk_bytes
        self._position: tuple[int, int | None] = (0, None)

    def chunks(self) -> Iterator[LineChunk | ColumnChunk]:
        return read_ahead(self._chunks())

    def digest(self) -> str:
        path = self._stream.path()
        if path is None:
            return self._stream.digest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def position(self) -> tuple[int, int | None]:
        begun = self._position[1] is not None
        return self._position if begun and self._stream.path() else self._stream.position

    def _chunks(self) -> Generator[ColumnChunk, None, None]:
        with ExitStack() as cleanup:
            path = self._local(cleanup)
            size = path.stat().st_size
            if size == 0:
                return
            for piece, share in self._pieces(path):
                self._position = (round(share * size), size)
                yield piece
            self._position = (size, size)

    def _pieces(self, path: Path) -> Iterator[tuple[ColumnChunk, float]]:
        row = 1
        for table, share in self._read(path):
            lines = pa.array(np.arange(row, row + table.num_rows))
            row += table.num_rows
            yield ColumnChunk(table, lines, _RowText(table)), share

    def _local(self, cleanup: ExitStack) -> Path:
        """Where the bytes lie on this machine; a copy goes with `cleanup`."""
        path = self._stream.path()
        if path is not None:
            return path
        cleanup.callback(self._stream.close)
        copy = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ledger-"))) / "copy"
        with copy.open("wb") as file:
            while block := self._stream.read(_COPIED_AT_ONCE):
                file.write(block)
        return copy

    def _read(self, path: Path) -> Iterator[tuple[pa.Table, float]]:
        tables = self._tables(path, self._chunk_rows, self._chunk_bytes)
        while (read := self._read_next(path, tables)) is not None:
            yield read

    def _read_next(self, path: Path, reading: Iterator[Any]) -> Any:
        """The next of what is read, None at the end; SourceError where it cannot be read."""
        try:
            return next(reading, None)
        except LedgerError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise SourceError(self._unreadable(path, str(error))) from error

    def _unreadable(self, path: Path, text: str) -> str:
        reason = " ".join(text.split())
        if "ncrypt" in reason:
            return f"{self.name}: is encrypted: decrypt it first."
        return f"{self.name}: cannot be read as {self._claim}: {_shortened(reason)}. Fetch the file again."


class ParquetSource(_TabularSource):
    """The rows of a Parquet file, its columns as they are; `lines` are row numbers."""

    def __init__(self, stream: ByteStream, *, chunk_rows: int = CHUNK_ROWS, chunk_bytes: int = CHUNK_BYTES) -> None:
        super().__init__(stream, "Parquet", _parquet_tables, chunk_rows, chunk_bytes)

    def _pieces(self, path: Path) -> Iterator[tuple[ColumnChunk, float]]:
        """Whole row groups, left where they are; a copy, or a file with larger ones, is streamed."""
        kept = self._stream.path() is not None
        stored = self._read_next(path, _stored_pieces(path, self._chunk_rows, self._chunk_bytes)) if kept else None
        if stored is None:
            yield from super()._pieces(path)
            return
        rows = sum(piece.rows for piece in stored)
        for piece in stored:
            chunk = StoredChunk(str(path), piece.first, piece.rows, piece.schema, self._loader(path, piece))
            yield chunk, (piece.first + piece.rows) / rows

    def _loader(self, path: Path, piece: _Piece) -> Callable[[], tuple[pa.Table, _RowText]]:
        def load() -> tuple[pa.Table, _RowText]:
            table = self._read_next(path, _loaded(path, piece))
            return table, _RowText(table)

        return load


class ArrowSource(_TabularSource):
    """The rows of an Arrow IPC file or stream, also of compressed batches; `lines` are row numbers."""

    def __init__(self, stream: ByteStream, *, chunk_rows: int = CHUNK_ROWS, chunk_bytes: int = CHUNK_BYTES) -> None:
        super().__init__(stream, "Arrow IPC", _arrow_tables, chunk_rows, chunk_bytes)


@dataclass(frozen=True)
class _Piece:
    """Consecutive row groups of a Parquet file, and the rows in them."""

    first: int
    rows: int
    groups: tuple[int, ...]
    schema: pa.Schema


def _stored_pieces(path: Path, chunk_rows: int, chunk_bytes: int) -> Iterator[list[_Piece] | None]:
    """The pieces of a file whose row groups are small enough, once; None for any other file."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
        if any(group.num_rows > chunk_rows or group.total_byte_size > chunk_bytes for group in groups):
            yield None
            return
        pieces: list[_Piece] = []
        first = rows = size = 0
        members: list[int] = []
        for index, group in enumerate(groups):
            if members and (rows + group.num_rows > chunk_rows or size + group.total_byte_size > chunk_bytes):
                pieces.append(_Piece(first, rows, tuple(members), file.schema_arrow))
                first, rows, size, members = first + rows, 0, 0, []
            members.append(index)
            rows, size = rows + group.num_rows, size + group.total_byte_size
        if rows:
            pieces.append(_Piece(first, rows, tuple(members), file.schema_arrow))
        yield pieces


def _loaded(path: Path, piece: _Piece) -> Iterator[pa.Table]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        yield file.read_row_groups(list(piece.groups))


def _parquet_tables(path: Path, chunk_rows: int, chunk_bytes: int) -> Iterator[tuple[pa.Table, float]]:
    from pyarrow import parquet

    # Buffered and not pre-read, a row group is read a page at a time: one of the file's size costs no more.
    with parquet.ParquetFile(path, buffer_size=_PAGES_AT_ONCE, pre_buffer=False) as file:
        groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
        unpacked = sum(group.total_byte_size for group in groups)
        row_bytes = unpacked // max(1, file.metadata.num_rows) + 1
        rows = max(1, min(chunk_rows, chunk_bytes // row_bytes))
        read = 0
        for batch in file.iter_batches(batch_size=rows):
            if batch.num_rows:
                read += batch.num_rows
                yield pa.Table.from_batches([batch]), read / file.metadata.num_rows


def _arrow_tables(path: Path, chunk_rows: int, chunk_bytes: int) -> Iterator[tuple[pa.Table, float]]:
    with pa.memory_map(str(path)) as file:
        read, size = 0, file.size()
        for batch in _record_batches(file):
            row_bytes = batch.nbytes // max(1, batch.num_rows) + 1
            rows = max(1, min(chunk_rows, chunk_bytes // row_bytes))
            read += batch.nbytes
            for begin in range(0, batch.num_rows, rows):
                # Unpacked, a compressed batch has more bytes than the file.
                yield pa.Table.from_batches([batch.slice(begin, rows)]), min(1.0, read / size)


def _record_batches(file: Any) -> Iterator[pa.RecordBatch]:
    if file.read(len(_ARROW_FILE)) == _ARROW_FILE:
        reader = pa.ipc.open_file(file)
        yield from (reader.get_batch(index) for index in range(reader.num_record_batches))
    else:
        file.seek(0)
        yield from pa.ipc.open_stream(file)


class _RowText:
    """A row as JSON, for the quarantine."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __call__(self, row: int) -> str:
        cells = zip(self._table.column_names, self._table.columns, strict=True)
        values = {name: _plain(column[row]) for name, column in cells}
        return _JSON.encode(values)


def _plain(cell: pa.Scalar) -> Any:
    """What JSON can hold; moments as ISO 8601, down to the nanosecond where there are any."""
    if isinstance(cell, pa.TimestampScalar) and cell.is_valid:
        return cell.cast(pa.string()).as_py().replace(" ", "T", 1)
    try:
        return cell.as_py()
    except (ValueError, OverflowError):  # beyond what Python's own types hold
        return str(getattr(cell, "value", cell))


def _shortened(text: str) -> str:
    return text.rstrip(".") if len(text) <= 200 else text[:200] + "…"
