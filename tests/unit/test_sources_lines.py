"""Line sources: every line once, with its number, however blocks are cut; and memory that stays flat."""

from __future__ import annotations

import gzip
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_cli.core.chunks import LineChunk
from ledger_cli.errors import SourceError
from ledger_cli.sources.common.ahead import read_ahead
from ledger_cli.sources.common.streams import ByteStream
from ledger_cli.sources.lines import LineSource


class Held(ByteStream):
    """A stream of bytes at hand."""

    def __init__(self, data: bytes) -> None:
        super().__init__("held.jsonl")
        self.data = data
        self.closed = 0

    def read(self, size: int) -> bytes:
        part, self.data = self.data[:size], self.data[size:]
        return part

    def close(self) -> None:
        self.closed += 1


def rows_of(data: bytes, **sizes: Any) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    for chunk in LineSource(Held(data), **sizes).chunks():
        assert isinstance(chunk, LineChunk)
        found += [(chunk.line(row), chunk.raw(row)) for row in range(chunk.rows)]
        table = chunk.table()
        assert table["row"].to_pylist() == list(range(chunk.rows))
        assert table["line"].to_pylist() == [chunk.line(row) for row in range(chunk.rows)]
    return found


def error_of(data: bytes, **sizes: Any) -> str:
    with pytest.raises(SourceError) as caught:
        rows_of(data, **sizes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(
    st.lists(st.binary(max_size=9).map(lambda line: line.translate(None, bytes(range(32)) + b"\xb5\xef\xfe\xff"))),
    st.integers(1, 20),
    st.integers(1, 5),
    st.booleans(),
)
def test_every_line_once_with_its_number(lines: list[bytes], block: int, rows: int, ended: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert rows_of(data, block_bytes=block, chunk_rows=rows) == list(enumerate(expected, 1))


def test_empty_file() -> None:
    assert rows_of(b"") == []
    assert rows_of(b"\xef\xbb\xbf") == []


def test_mark_is_dropped_and_a_last_newline_added() -> None:
    assert rows_of(b"\xef\xbb\xbf{}\r\n\n{}") == [(1, b"{}"), (2, b""), (3, b"{}")]


def test_chunks_are_bounded_by_rows_and_bytes() -> None:
    data = b"12345\n" * 100
    chunks = list(LineSource(Held(data), block_bytes=60, chunk_rows=20).chunks())
    assert [chunk.rows for chunk in chunks if isinstance(chunk, LineChunk)] == [20] * 5
    chunks = list(LineSource(Held(data), block_bytes=60, chunk_bytes=300).chunks())
    assert [chunk.rows for chunk in chunks if isinstance(chunk, LineChunk)] == [50] * 2


def test_a_line_too_long_is_no_line() -> None:
    message = error_of(b"a\nb\n" + b"x" * 1000, block_bytes=100, line_bytes_limit=500)
    assert "line 3 is longer than 500 bytes" in message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00\x01\x02" * 50, "is not JSON Lines, but a binary file"),
        (bytes(byte for byte in np.random.default_rng(2).bytes(900) if byte), "a binary file"),
        (b"PAR1\x15\x04", "but Parquet: use --format parquet"),
        (b"ARROW1\x00\x00", "but Arrow: use --format arrow"),
        (gzip.compress(b"{}\n", mtime=0), "is gzip-compressed: give it a name that ends in .gz"),
        ('{"a":1}\n'.encode("utf-16"), "in UTF-16"),
        ('{"a":1}\n'.encode("utf-16-le"), "in UTF-16"),
        ('{"a":1}\n'.encode("utf-32"), "in UTF-16 or UTF-32"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(data: bytes, message: str) -> None:
    assert message in error_of(data)


def test_latin_1_and_control_characters_in_a_line_are_the_rows_matter() -> None:
    data = "Zürich\n".encode("latin-1") + b'{"a":"\\u0000"}\n' * 20 + b"\x01\n"
    assert len(rows_of(data)) == 22


def test_a_nul_in_a_line_is_the_rows_matter() -> None:
    for rows in (1, 20):
        assert len(rows_of(b'{"a":"\0"}\n' + b'{"a":1}\n' * (rows - 1))) == rows


def test_lines_not_in_utf_8_are_neither_json_nor_blank() -> None:
    (chunk,) = LineSource(Held(b'{"a":1}\n"\xff"\n"\xc3\xa9"\n')).chunks()
    assert isinstance(chunk, LineChunk)
    assert chunk.table()["raw"].to_pylist() == ['{"a":1}\n', "???\n", '"é"\n']
    assert chunk.raw(1) == b'"\xff"'


def test_stopping_early_ends_the_thread_and_closes_the_stream() -> None:
    stream = Held(b"1\n" * 1000)
    chunks = LineSource(stream, block_bytes=4, chunk_rows=2).chunks()
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert stream.closed == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "ledger-source"]


def test_only_one_piece_is_made_ahead() -> None:
    made: list[int] = []

    def pieces() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    ahead = read_ahead(pieces())
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(made) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert made == [0, 1]
    assert list(ahead) == [1, 2, 3, 4]


def test_an_error_arrives_after_the_pieces_before_it() -> None:
    def pieces() -> Iterator[int]:
        yield 1
        raise SourceError("torn")

    ahead = read_ahead(pieces())
    assert next(ahead) == 1
    with pytest.raises(SourceError, match="torn"):
        next(ahead)


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """200 MB of lines pass in chunks of 4 MB: a handful of chunks lives at once."""
    path = tmp_path / "large.jsonl.gz"
    part = gzip.compress(b'{"entityId":"E1","tickId":1}\n' * 360_000, 1)
    path.write_bytes(part * 20)
    tracemalloc.start()
    try:
        source = LineSource(ByteStream(str(path)), chunk_bytes=4 << 20)
        rows = sum(chunk.rows for chunk in source.chunks() if isinstance(chunk, LineChunk))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows == 20 * 360_000
    assert peak < 60 << 20
