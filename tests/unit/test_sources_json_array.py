"""One JSON array: its elements as `json.loads` sees them, however blocks are cut; errors say where."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_cli.core.chunks import LineChunk
from ledger_cli.errors import SourceError
from ledger_cli.sources.common.streams import ByteStream
from ledger_cli.sources.json_array import JsonArraySource

PIECES = [
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    '"',
    "\\",
    "\n",
    " ",
    "1",
    '"a"',
    "[]",
    "é",
    '\\"',
    "null",
    '{"a":[1]}',
]
SIZES = st.one_of(st.integers(1, 9), st.integers(10, 200), st.just(1 << 18))
TEXTS = st.text(st.sampled_from('"\\[]{},:\n aé\U0001f600\u2028')) | st.text()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


class Held(ByteStream):
    """A stream of bytes at hand."""

    def __init__(self, data: bytes) -> None:
        super().__init__("held.json")
        self.data = data

    def read(self, size: int) -> bytes:
        part, self.data = self.data[:size], self.data[size:]
        return part


def elements_of(data: bytes, block: int = 1 << 20, rows: int = 3) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    for chunk in JsonArraySource(Held(data), block_bytes=block, chunk_rows=rows).chunks():
        assert isinstance(chunk, LineChunk)
        found += [(chunk.line(row), chunk.raw(row)) for row in range(chunk.rows)]
        assert [json.loads(text) for text in chunk.table()["raw"].to_pylist()] == [
            json.loads(chunk.raw(row)) for row in range(chunk.rows)
        ]
    return found


def error_of(text: str, block: int = 1 << 20) -> str:
    with pytest.raises(SourceError) as caught:
        elements_of(text.encode(), block)
    assert str(caught.value).startswith("held.json: is not a JSON array: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def lines_of(text: str) -> list[int]:
    """On which line each element begins, by decoding one after the other."""
    decoder, found = json.JSONDecoder(), []
    at = text.index("[") + 1
    while True:
        at += len(text[at:]) - len(text[at:].lstrip(" \n\r\t,"))
        if text[at] == "]":
            return found
        found.append(text.count("\n", 0, at) + 1)
        _, at = decoder.raw_decode(text, at)


@settings(max_examples=200)
@given(
    st.lists(VALUES, max_size=8),
    SIZES,
    st.sampled_from([None, 0, 3, 7]),
    st.booleans(),
    st.sampled_from(["", "\n ", "\ufeff"]),
)
def test_elements_are_those_of_json(
    values: list[Any], block: int, indent: int | None, ascii_only: bool, before: str
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only) + before.strip("\ufeff")
    found = elements_of((before + text).encode(errors="surrogatepass").replace(b"\xed\xa0", b"?"), block)
    expected = json.loads(text.encode(errors="surrogatepass").replace(b"\xed\xa0", b"?").decode())
    assert [json.loads(raw) for _, raw in found] == expected
    if ascii_only:
        assert [line for line, _ in found] == lines_of(before.strip("\ufeff") + text)


@settings(max_examples=500)
@given(st.lists(st.sampled_from(PIECES), max_size=14), SIZES, st.booleans())
def test_nothing_that_is_no_array_passes_for_one(pieces: list[str], block: int, wrapped: bool) -> None:
    text = "".join(pieces)
    text = f"[{text}]" if wrapped else text
    try:
        expected = json.loads(text) if text.strip() else []
    except ValueError:
        expected = None
    try:
        found = [json.loads(raw) for _, raw in parts_of(text.encode(), block)]
    except (SourceError, ValueError):
        found = None
    assert found == (expected if isinstance(expected, list) else None)


def parts_of(data: bytes, block: int) -> list[tuple[int, bytes]]:
    chunks = JsonArraySource(Held(data), block_bytes=block).chunks()
    return [
        (chunk.line(row), chunk.raw(row))
        for chunk in chunks
        if isinstance(chunk, LineChunk)
        for row in range(chunk.rows)
    ]


@pytest.mark.parametrize("block", [1, 2, 3, 1 << 20])
class TestErrors:
    def test_empty_is_fine(self, block: int) -> None:
        for text in ("", " \n", "[]", "[ \n ]\n\n", "\ufeff[]"):
            assert elements_of(text.encode(), block) == []

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('\n {"a":1}', "it does not begin with [ (line 2, byte 2)"),
            ("[1]\n x", "something follows the array (line 2, byte 5)"),
            ("[1],", "something follows the array (line 1, byte 3)"),
            ("[1,\n2", "the array is not closed (line 2, byte 5)"),
            ("[", "the array is not closed (line 1, byte 1)"),
            ('[1,\n"2]\n', "the file ends inside a string (line 3, byte 8)"),
            ("[1,\n,2]", "an element is missing before this comma or bracket (line 2, byte 4)"),
            ("[1,2,]", "an element is missing before this comma or bracket (line 1, byte 5)"),
            ("[,]", "an element is missing before this comma or bracket (line 1, byte 1)"),
            ('[{"a":1},\n2}', '"}" closes what "[" opened (line 2, byte 11)'),
        ],
    )
    def test_line_and_byte_are_named(self, text: str, message: str, block: int) -> None:
        assert message in error_of(text, block)


def test_a_broken_element_is_left_to_be_refused_alone() -> None:
    found = parts_of(b'[{"a":1},\n  {"a":tru},\n\n{"a":3}]', 1 << 20)
    assert found == [(1, b'{"a":1}'), (2, b'{"a":tru}'), (4, b'{"a":3}')]


def test_an_element_too_long_is_none() -> None:
    source = JsonArraySource(Held(b'[1,"' + b"x" * 999), block_bytes=99, element_bytes_limit=500)
    with pytest.raises(SourceError, match="an element is longer than 500 bytes"):
        list(source.chunks())


def test_real_flights(shared: Any) -> None:
    source = JsonArraySource(ByteStream(str(shared / "data/flights/switzerland.json.zst")))
    (chunk,) = source.chunks()
    assert isinstance(chunk, LineChunk)
    assert chunk.rows == 139_098
    assert chunk.line(chunk.rows - 1) == 1
    assert json.loads(chunk.raw(0))["icao24"] == "3003ae"
    assert json.loads(chunk.raw(chunk.rows - 1))["callsign"] == "TSC300"
    assert source.digest() == "9f8d80a1a7a2c33b94c8d6fd29b88b6b77d33fe77a08f77219801f00f9502a28"
