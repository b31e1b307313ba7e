"""CSV: records as the csv module sees them, physical lines, and bad records refused alone."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_cli.core.chunks import ColumnChunk
from ledger_cli.errors import SourceError, UsageError
from ledger_cli.sources.common.streams import ByteStream
from ledger_cli.sources.csv import CsvSource

Row = tuple[int, list[str | None]]
SIZES = st.one_of(st.integers(1, 9), st.integers(10, 200), st.just(1 << 18))
CELLS = st.text(st.sampled_from('ab ,;"\n\té#1'), max_size=6)


class Held(ByteStream):
    """A stream of bytes at hand."""

    def __init__(self, data: bytes) -> None:
        super().__init__("held.csv")
        self.data = data

    def read(self, size: int) -> bytes:
        part, self.data = self.data[:size], self.data[size:]
        return part


def read(data: bytes, **options: Any) -> tuple[list[Row], list[tuple[int, str]], list[str]]:
    """Rows with their lines, refused records with theirs, and the text of the rows."""
    rows: list[Row] = []
    refused: list[tuple[int, str]] = []
    texts: list[str] = []
    for chunk in CsvSource(Held(data), **options).chunks():
        assert isinstance(chunk, ColumnChunk)
        assert chunk.textual
        cells = zip(*(column.to_pylist() for column in chunk.table.columns), strict=True)
        rows += zip(chunk.lines.to_pylist(), map(list, cells), strict=True)
        texts += [chunk.raw(row) for row in range(chunk.table.num_rows)]
        for refusal in chunk.refused:
            assert refusal.reason == ("not_utf8" if "\ufffd" in refusal.raw else "broken_row")
        refused += [(refusal.line, refusal.raw) for refusal in chunk.refused]
    return rows, refused, texts


def error_of(data: bytes, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        read(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@settings(max_examples=200)
@given(
    st.lists(st.lists(CELLS, min_size=2, max_size=4), max_size=12),
    SIZES,
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([",", "\t", ";"]),
)
def test_records_are_those_of_the_csv_module(
    records: list[list[str]], block: int, quoting: Any, line_end: str, delimiter: str
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=quoting, lineterminator=line_end, delimiter=delimiter).writerows(records)
    text = out.getvalue()
    lines, texts, at, begun = [], [], 0, 1
    for record in records:
        single = io.StringIO(newline="")
        csv.writer(single, quoting=quoting, lineterminator=line_end, delimiter=delimiter).writerow(record)
        lines.append(begun)
        texts.append(single.getvalue().rstrip("\r\n"))
        begun += single.getvalue().count("\n")
        at += len(single.getvalue())
    rows, refused, raw = read(
        text.encode(), columns=("a", "b", "c"), delimiter=delimiter, block_bytes=block, chunk_rows=3
    )
    good = [index for index, record in enumerate(records) if len(record) == 3]
    assert [(line, [cell or "" for cell in cells]) for line, cells in rows] == [
        (lines[index], records[index]) for index in good
    ]
    assert raw == [texts[index] for index in good]
    bad = [index for index in range(len(records)) if index not in good]
    assert sorted(refused) == [(lines[index], texts[index]) for index in bad]


@settings(max_examples=500)
@given(st.text(st.sampled_from('ab,"\n#'), max_size=30), SIZES)
def test_stray_quotes_are_read_as_the_csv_module_does(text: str, block: int) -> None:
    records = [record for record in csv.reader(io.StringIO(text, newline="")) if record]
    try:
        rows, refused, _ = read(text.encode(), columns=("a", "b"), block_bytes=block)
    except SourceError as error:
        assert "never closed" in str(error)  # noqa: PT017
        with pytest.raises(csv.Error):
            list(csv.reader(io.StringIO(text, newline=""), strict=True))
        return
    assert [[cell or "" for cell in cells] for _, cells in rows] == [r for r in records if len(r) == 2]
    assert len(refused) == sum(len(record) != 2 for record in records)


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(["#\"x, it's", "# y", '"#q","\n#z"', "1,2", "", '"a""b",c', '5",6']), max_size=12),
    SIZES,
)
def test_comments_and_blank_lines_are_counted(lines: list[str], block: int) -> None:
    rows, refused, raw = read(
        "\n".join(lines).encode(), columns=("a", "b"), comment="#", block_bytes=block, chunk_rows=2
    )
    expected, line = [], 1
    for text in lines:
        if text and text[0] != "#":
            expected.append((line, text))
        line += 1 + text.count("\n")
    assert refused == []
    assert list(zip([line for line, _ in rows], raw, strict=True)) == expected


def test_header_null_and_quoted_empty() -> None:
    rows, refused, _ = read(b'\xef\xbb\xbf\n a ,"b,c"\r\n1,\r\n"",x\r\n')
    assert rows == [(3, ["1", None]), (4, ["", "x"])]
    assert refused == []
    (chunk,) = CsvSource(Held(b'a,"b,c"\n1,2\n')).chunks()
    assert isinstance(chunk, ColumnChunk)
    assert chunk.table.column_names == ["a", "b,c"]


def test_a_record_over_several_lines() -> None:
    rows, _, raw = read(b'a,b\n1,"x\n\ny"\n2,z\n')
    assert rows == [(2, ["1", "x\n\ny"]), (5, ["2", "z"])]
    assert raw == ['1,"x\n\ny"', "2,z"]


@pytest.mark.parametrize("block", [3, 16, 1 << 20])
def test_bad_records_are_refused_alone(block: int) -> None:
    data = b"a,b\n1,2\n3\n4,5,6\n\xff,7\n8,\xc3\xa9\n9\r,9\n   \n10,11"
    rows, refused, _ = read(data, block_bytes=block)
    assert rows == [(2, ["1", "2"]), (6, ["8", "é"]), (9, ["10", "11"])]
    assert sorted(refused) == [(3, "3"), (4, "4,5,6"), (5, "�,7"), (7, "9\r,9"), (8, "   ")]


def test_a_carriage_return_in_quotes_is_a_character() -> None:
    assert read(b'a,b\n"x\ry",1\n')[0] == [(2, ["x\ry", "1"])]


def test_a_header_may_begin_like_another_format() -> None:
    assert read(b"PARENT,b\n1,2\n")[0] == [(2, ["1", "2"])]


def test_nothing_in_it() -> None:
    for data in (b"", b"a,b\n", b"a,b", b"\n\n"):
        assert read(data) == ([], [], [])


def test_chunks_are_bounded() -> None:
    data = b"a,b\n" + b"1,2\n" * 100
    chunks = list(CsvSource(Held(data), block_bytes=40, chunk_rows=20).chunks())
    assert [chunk.table.num_rows for chunk in chunks if isinstance(chunk, ColumnChunk)][1:4] == [20] * 3
    assert len(list(CsvSource(Held(data), block_bytes=40, chunk_bytes=80).chunks())) == 6


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b,a\n1,2,3\n", "two columns"),
        (b'a,b\n1,2\n3,"4\n5,6\n', "begins on line 3 does not end: a quote in it is never closed"),
        (b"a,b\r1,2\r", "carriage return alone"),
        (b"\x00\x01" * 99, "is not delimited text, but a binary file"),
        ("a,b\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_errors_are_one_line(data: bytes, message: str) -> None:
    assert message.lower() in error_of(data).lower()


def test_an_open_quote_does_not_fill_the_memory() -> None:
    assert "line 2" in error_of(b'a\n"' + b"x\n" * 5000, block_bytes=100, record_bytes_limit=1000)


@pytest.mark.parametrize("options", [{"delimiter": "ab"}, {"delimiter": '"'}, {"comment": ""}])
def test_options_that_cannot_be(options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        CsvSource(Held(b""), **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Two columns"):
        CsvSource(Held(b""), columns=("a", "a"))


def test_real_pedestrians(shared: Any) -> None:
    source = CsvSource(
        ByteStream(str(shared / "data/pedestrians/bottleneck_traj.txt.zst")),
        delimiter="\\t",
        comment="#",
        columns=("ID", "FR", "X", "Y", "Z"),
    )
    (chunk,) = source.chunks()
    assert isinstance(chunk, ColumnChunk)
    assert chunk.table.num_rows == 128_783
    assert (chunk.lines[0].as_py(), chunk.raw(0)) == (9, "1\t0\t-1.8891\t-3.7952\t1.7790")
    assert not list(chunk.refused)
