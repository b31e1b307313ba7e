"""Delimited text: CSV and TSV, every column as text.

Blocks are cut at the ends of records and parsed by Arrow; what has not the header's number of fields, or is
not UTF-8, is refused alone. An empty field is null, a quoted empty one the empty string.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ledger_cli.core.chunks import ColumnChunk, Refused, is_utf8
from ledger_cli.errors import SourceError, UsageError
from ledger_cli.sources.common.base import StreamSource
from ledger_cli.sources.common.records import Dialect, Records, cut
from ledger_cli.sources.common.streams import ByteStream
from ledger_cli.sources.common.text import BLOCK_BYTES, SHORTEST_HEAD, text_of

CHUNK_ROWS = 500_000
CHUNK_BYTES = 128 << 20
RECORD_BYTES_LIMIT = 64 << 20
"""A longer record is a quote that was never closed."""

_RETURN, _NEWLINE = 13, 10


class CsvSource(StreamSource):
    """The records of a stream. `columns`: the names, where no header line gives them."""

    def __init__(
        self,
        stream: ByteStream,
        *,
        delimiter: str = ",",
        comment: str | None = None,
        columns: Sequence[str] | None = None,
        chunk_rows: int = CHUNK_ROWS,
        chunk_bytes: int = CHUNK_BYTES,
        block_bytes: int = BLOCK_BYTES,
        record_bytes_limit: int = RECORD_BYTES_LIMIT,
    ) -> None:
        super().__init__(stream)
        self._dialect = _dialect(delimiter, comment)
        self._columns = None if columns is None else _without_twins(list(columns))
        self._chunk_rows = chunk_rows
        self._chunk_bytes = chunk_bytes
        self._block_bytes = block_bytes
        self._record_bytes_limit = record_bytes_limit

    def _chunks(self) -> Iterator[ColumnChunk]:
        gathered = _Gathered()
        for records in self._records():
            gathered.add(records, *self._parse(records))
            if gathered.rows >= self._chunk_rows or gathered.bytes >= self._chunk_bytes:
                full, gathered = gathered, _Gathered()
                yield full.chunk()
                del full
        if gathered.tables:
            yield gathered.chunk()

    def _records(self) -> Iterator[Records]:
        """Blocks of records behind the header."""
        for records in self._cut_blocks():
            if self._columns is None and len(records.starts):
                self._columns = self._header(records)
                records = records.keep(np.arange(len(records.starts)) > 0)
            if len(records.starts):
                yield records

    def _cut_blocks(self) -> Iterator[Records]:
        line = 1
        head = self._stream.read(max(self._block_bytes, SHORTEST_HEAD))
        block, last = text_of(head, self.name, "delimited text"), not head
        if block.count(b"\r") > 1 and b"\n" not in block:
            raise SourceError(f"{self.name}: lines end with a carriage return alone: convert them to newlines.")
        while block or not last:
            records, used = cut(block, line, self._dialect, last)
            if used:
                line += block.count(b"\n", 0, used)
                yield records
            if last and used < len(block):
                raise self._unclosed(line)
            if last:
                return
            rest = block[used:]
            if len(rest) > self._record_bytes_limit:
                raise self._unclosed(line)
            more = self._stream.read(max(self._block_bytes, len(rest)))
            block, last = rest + more, not more

    def _unclosed(self, line: int) -> SourceError:
        return SourceError(
            f"{self.name}: the record that begins on line {line} does not end: a quote in it is never closed."
        )

    def _header(self, records: Records) -> list[str]:
        delimiter = self._dialect.delimiter.decode()
        try:
            names = next(csv.reader([records.text(0)], delimiter=delimiter))
            return _without_twins([name.strip() for name in names])
        except (csv.Error, UsageError) as error:
            where = f"{self.name}: the header on line {int(records.lines[0])} cannot be used"
            raise SourceError(f"{where}: {error}") from error

    def _parse(self, records: Records) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
        """The rows of the good records, and which records these are."""
        good = _readable(records, self._dialect)
        chosen = records if good.all() else records.keep(good)
        table, broken = _parsed(chosen.joined(), self._columns or [], self._dialect.delimiter.decode())
        if broken:
            good[np.flatnonzero(good)[np.array(broken) - 1]] = False
        if table.num_rows != np.count_nonzero(good):
            raise SourceError(f"{self.name}: cannot be cut into records near line {int(records.lines[0])}.")
        return table, good


@dataclass
class _Gathered:
    """Blocks of records on their way to be a chunk."""

    tables: list[pa.Table] = field(default_factory=list)
    records: list[Records] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0

    def add(self, records: Records, table: pa.Table, good: npt.NDArray[np.bool_]) -> None:
        for record in np.flatnonzero(~good).tolist():
            reason = "broken_row" if is_utf8(records.stored(record)) else "not_utf8"
            self.refused.append(Refused(int(records.lines[record]), records.text(record), reason))
        self.tables.append(table)
        self.records.append(records if good.all() else records.keep(good))
        self.rows += len(records.starts)
        self.bytes += len(records.block)

    def chunk(self) -> ColumnChunk:
        firsts = np.cumsum([0] + [len(records.starts) for records in self.records])
        blocks = self.records

        def raw(row: int) -> str:
            place = int(np.searchsorted(firsts, row, side="right")) - 1
            return blocks[place].text(row - int(firsts[place]))

        lines = np.concatenate([records.lines for records in blocks])
        table = pa.concat_tables(self.tables)
        return ColumnChunk(table, pa.array(lines), raw, textual=True, refused=self.refused)


def _without_twins(names: list[str]) -> list[str]:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"Two columns are named {twice[0]!r}: name all columns with --columns.")
    return names


def _dialect(delimiter: str, comment: str | None) -> Dialect:
    sign = delimiter.replace("\\t", "\t").encode()
    if len(sign) != 1 or sign in (b'"', b"\n", b"\r"):
        raise UsageError(f"The delimiter {delimiter!r} cannot divide fields: give one ASCII character.")
    if comment is not None and (not comment or "\n" in comment):
        raise UsageError("--comment needs the characters a comment line begins with, as in --comment '#'.")
    return Dialect(sign, None if comment is None else comment.encode())


def _parsed(text: bytes, columns: Sequence[str], delimiter: str) -> tuple[pa.Table, list[int]]:
    """Arrow's table of the text, and the numbers, from 1, of the records that have not as many fields."""
    from pyarrow import csv as arrow_csv

    broken: list[int] = []

    def skip(row: arrow_csv.InvalidRow) -> str:
        broken.append(row.number)
        return "skip"

    # The numbers of invalid rows are known only without threads.
    reading = arrow_csv.ReadOptions(use_threads=False, column_names=columns, block_size=len(text) + 1)
    parsing = arrow_csv.ParseOptions(
        delimiter=delimiter,
        newlines_in_values=b'"' in text,
        ignore_empty_lines=False,
        invalid_row_handler=skip,
    )
    converting = arrow_csv.ConvertOptions(
        column_types={name: pa.string() for name in columns},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        check_utf8=False,
    )
    if not text:
        return pa.schema([(name, pa.string()) for name in columns]).empty_table(), []
    return arrow_csv.read_csv(pa.py_buffer(text), reading, parsing, converting), broken


def _readable(records: Records, dialect: Dialect) -> npt.NDArray[np.bool_]:
    """Which records are UTF-8, and one for Arrow too: a lone carriage return ends a line for it."""
    good = np.ones(len(records.starts), np.bool_)
    for record in _suspects(records):
        text = records.stored(record)
        good[record] = is_utf8(text) and not _has_lone_return(text, dialect)
    return good


def _suspects(records: Records) -> npt.NDArray[np.int64]:
    """The records that need a look of their own."""
    block = records.block
    data = np.frombuffer(block, np.uint8)
    places = np.empty(0, np.int64)
    if not block.isascii() and not is_utf8(block):
        places = np.flatnonzero(data >= 128)
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
        returns = np.flatnonzero(data == _RETURN)
        following = data[np.minimum(returns + 1, len(data) - 1)]
        places = np.concatenate((places, returns[following != _NEWLINE]))
    found = np.unique(np.searchsorted(records.ends, places, side="right"))
    return found[found < len(records.ends)]


def _has_lone_return(text: bytes, dialect: Dialect) -> bool:
    """Whether a carriage return stands outside quotes, other than before the newline."""
    if b"\r" not in text.removesuffix(b"\n").removesuffix(b"\r"):
        return False
    try:
        rows = list(csv.reader([text.decode()], delimiter=dialect.delimiter.decode()))
    except csv.Error:
        return True
    return len(rows) != 1
