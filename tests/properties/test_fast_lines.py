"""The fast path of the importer agrees with `parse_tick`, the definition, row by row.

It proves a row good by counting quotes and commas; so the lines here are made to deceive a count.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from ledger_cli.core.chunks import LineChunk
from ledger_cli.core.tick_json import Tick, parse_tick
from ledger_cli.engines.importer import DuckImporter
from ledger_cli.engines.importer import importer as module
from tests.importing import by_definition, by_importer, chunk_of, importer
from tests.tricky_lines import ACCEPTED, BLANK, GOOD, REFUSED, altered, random_line

TRICKY = [*BLANK, *ACCEPTED, *(line for line, _ in REFUSED)]
SHORT = [line for line in TRICKY if len(line) < 2000]

Made = tuple[DuckImporter, Path]


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    with importer() as found:
        yield found


class Counted:
    """`parse_tick`, counting its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, line: bytes) -> Tick | None:
        self.calls += 1
        return parse_tick(line)


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr(module, "parse_tick", counted)
    return counted


def agree(made: Made, lines: list[bytes], blocks: int = 1) -> None:
    assert by_importer(*made, chunk_of(lines, blocks)) == by_definition(lines)


def usual(number: int, extra: str = "") -> bytes:
    return (
        f'{{"entityId":"E{number % 97}","tickId":{number},"x":{number / 7},"y":-{number}.5,"activity":0.25,'
        f'"jitter":0.5,"meta":{{"kind":"wolf","age":{number}}}{extra},"timestamp":"2026-01-29T19:21:00Z"}}'
    ).encode()


# --- what is clean is fast ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line,
        lambda line: line + b"\r",
        lambda line: line.replace(b",", b", ").replace(b'":', b'": '),
        lambda line: line.replace(b'"2026-01-29T19:21:00Z"', b"1769714460000"),
        lambda line: line.replace(b"19:21:00Z", b"19:21:00.123+02:00"),
        lambda line: line.replace(b'"jitter":0.5', b'"jitter":null'),
        lambda line: line.replace(b'"jitter":0.5,', b""),
        lambda line: line.replace(b',"timestamp":"2026-01-29T19:21:00Z"', b""),
        lambda line: line.replace(b'"E', '"é,'.encode()),
        lambda line: line.replace(b'"x"', b'"weather":"rain, fog","x"'),
    ],
    ids=["plain", "CRLF", "spaces", "ms", "RFC 3339", "null", "no jitter", "no timestamp", "comma", "unknown field"],
)
def test_clean_lines_take_the_fast_path(made: Made, examined: Counted, change: Any) -> None:
    lines = [change(usual(number)) for number in range(3000)]
    agree(made, lines, blocks=3)
    assert examined.calls == 0


def test_only_doubtful_lines_are_examined(made: Made, examined: Counted) -> None:
    lines = [usual(number) for number in range(3000)]
    lines[1500] = b"{"
    lines[2000] = altered("1.5", '"1.5"')
    lines[2500] = altered('"x"', '"seldom":1,"x"')
    agree(made, lines)
    assert examined.calls == 3


# --- tricky lines ---------------------------------------------------------------------------------


def test_tricky_lines_among_each_other(made: Made) -> None:
    agree(made, TRICKY, blocks=7)


@pytest.mark.parametrize("last", [b"", b"\r"])
def test_tricky_lines_among_good_ones(made: Made, last: bytes) -> None:
    lines = [usual(number) for number in range(600)]
    for line in TRICKY:
        lines += [line + last, GOOD]
    agree(made, lines, blocks=2)


def test_each_tricky_line_before_the_guard_is_up(made: Made) -> None:
    """The first line that is no JSON brings the guard in; until then every line is given to the parser."""
    for line in SHORT:
        made[0]._guarded = False
        agree(made, [GOOD, line, GOOD])


@pytest.mark.parametrize("extra", ["u", "kind", "X", "entityid", "k_x", "m", "raw", "row", "ok", "meta.a", "_-"])
def test_tricky_lines_beside_a_frequent_unknown_field(made: Made, extra: str) -> None:
    lines = [usual(number, f',"{extra}":"wo,lf"') for number in range(600)]
    lines += [
        line.replace(b"{", f'{{"{extra}":{value},'.encode(), 1) for line in SHORT for value in ("1", '"a"', "null")
    ]
    agree(made, lines)


def test_frequent_unknown_fields_meet_meta(made: Made) -> None:
    variants = [
        '"kind":"wolf","meta":{"kind":1}',
        '"kind":"wolf","meta":"{E,"',
        '"kind":"wolf","meta":[1]',
        '"kind":null,"meta":null',
        '"kind":{"jitter":null},"meta":{"meta":1}',
        '"kind":{"a":1,"a":2},"meta":{}',
        '"kind":[1,],"meta":{}',
        '"kind":1e999,"meta":{}',
        '"kind":"a","kind":"b","meta":{}',
    ]
    lines = [altered('"meta":{}', text) for text in variants]
    agree(made, [altered('"meta":{}', '"kind":"wolf","meta":{}')] * 300 + lines)
    agree(made, lines)


def test_names_that_sql_could_take_for_its_own(made: Made) -> None:
    names = ["row", "line", "raw", "marks", "ok", "p", "us", "m", "stored_meta", "chunk", "select", "X", "Meta"]
    extra = "".join(f',"{name}":{place}' for place, name in enumerate(names))
    agree(made, [usual(number, extra) for number in range(100)])


@pytest.mark.parametrize("name", ["entityId", "tickId", "x", "activity", "jitter", "meta", "timestamp"])
@pytest.mark.parametrize("at", ["meta", "unknown", "entityId", "jitter", "x"])
def test_names_of_fields_inside_of_values(made: Made, name: str, at: str) -> None:
    values = ["null", '"x"', "true", "1", '{"jitter":null,"meta":null,"timestamp":null}']
    lines = []
    for value in values:
        inner = f'{{"{name}":{value}}}'
        for base in (GOOD, altered(f'"{name}"', '"v"'), altered('"E1"', "5"), altered('"jitter":0.5', '"jitter":null')):
            place = {"meta": b"{}", "entityId": b'"E1"', "jitter": b"0.5", "x": b"1.5"}.get(at)
            line = base.replace(b"}", f',"unknown":{inner}}}'.encode(), 1) if place is None else base
            line = line if place is None else line.replace(place, inner.encode(), 1)
            lines += [line, line.replace(b"0.25", b'"0.25"'), line.replace(b'"y":2', b'"y":"2"')]
    agree(made, lines)


def test_every_character_of_a_timestamp(made: Made) -> None:
    text = "2026-01-29T19:21:00Z"
    lines = []
    for place in range(len(text)):
        for letter in ["", " ", "+", "-", ":", ".", "0", "3", "6", "9", "T", "t", "z", "Z", "\\t", "_", "%", "é", "٣"]:
            changed = text[:place] + letter + text[place + 1 :]
            lines += [altered(text, changed), altered(text, text[:place] + letter + text[place:])]
    agree(made, lines)


def test_times_of_all_years(made: Made) -> None:
    chance = random.Random(3)
    lines = []
    for year in range(0, 10_000, 7):
        month, day, hour, minute = (chance.randrange(*ends) for ends in ((1, 13), (1, 32), (0, 24), (0, 60)))
        moment = f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:59"
        endings = ("Z", ".123456789Z", ".9999999-23:59", "+00:01")
        lines += [altered("2026-01-29T19:21:00Z", moment + end) for end in endings]
    agree(made, lines)


def test_numbers_are_read_to_the_last_bit(made: Made) -> None:
    chance = random.Random(5)
    texts = ["0.1", "1e23", "9007199254740993", "5e-324", "2.2250738585072011e-308", "18446744073709551616", "1e-7"]
    texts += [repr(chance.uniform(-1, 1) * 10 ** chance.randrange(-300, 300)) for _ in range(2000)]
    texts += [
        "".join(chance.choice("0123456789") for _ in range(chance.randrange(1, 60))).lstrip("0") + "1"
        for _ in range(500)
    ]
    texts += [f"0.{chance.getrandbits(180)}e{chance.randrange(-40, 40)}" for _ in range(500)]
    agree(made, [altered("1.5", text) for text in texts] + [altered("{}", f'{{"a":{text}}}') for text in texts])


def test_invalid_utf8_spoils_its_own_line_alone(made: Made) -> None:
    chance = random.Random(7)
    lines = [usual(number) for number in range(500)]
    for place in range(0, 500, 5):
        cut = chance.randrange(len(lines[place]))
        lines[place] = lines[place][:cut] + bytes([chance.choice([0x80, 0xC3, 0xE6, 0xFF, 0xED])]) + lines[place][cut:]
    agree(made, lines, blocks=4)


def test_values_cut_out_of_a_block_may_hold_line_ends(made: Made) -> None:
    values = [line.replace(b",", b",\r\n\t") for line in SHORT if line.strip() and b"\n" not in line]
    block = b"\n".join(values) + b"\n"
    offsets = np.cumsum([0] + [len(value) + 1 for value in values]).astype(np.int32)
    chunk = LineChunk(1)
    chunk.add_values(block, offsets, np.arange(1, len(values) + 1, dtype=np.int64))
    assert by_importer(*made, chunk) == by_definition(values)


# --- random lines ---------------------------------------------------------------------------------


@pytest.mark.parametrize("start", range(3))
@pytest.mark.parametrize("extras", [(), ("kind",), ("kind", "u")], ids="-".join)
def test_random_lines(made: Made, extras: tuple[str, ...], start: int) -> None:
    chance = random.Random(start)
    agree(made, [random_line(chance, extras) for _ in range(4000)], blocks=3)


@pytest.mark.soak
def test_very_many_random_lines() -> None:
    with importer(threads=2) as made:
        for start in range(100, 200):
            chance = random.Random(start)
            agree(made, [random_line(chance, ((), ("kind",))[start % 2]) for _ in range(20_000)], blocks=3)


_LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_BRANCH = _LEAF | st.lists(_LEAF, max_size=3) | st.dictionaries(st.text(max_size=8), _LEAF, max_size=3)
_JSON = _BRANCH | st.lists(_BRANCH, max_size=2) | st.dictionaries(st.text(max_size=8), _BRANCH, max_size=2)
_EVENT = st.fixed_dictionaries(
    {},
    optional={
        "entityId": st.text(min_size=1, max_size=6) | _JSON,
        "tickId": st.integers(0, 2**53) | _JSON,
        "x": st.floats(allow_nan=False, allow_infinity=False) | _JSON,
        "y": st.integers() | _JSON,
        "activity": st.floats(0, 1e6) | _JSON,
        "jitter": st.none() | st.floats() | _JSON,
        "meta": st.dictionaries(st.text(max_size=8), _JSON, max_size=3) | _JSON,
        "timestamp": st.integers() | st.datetimes().map(lambda moment: moment.isoformat() + "Z") | _JSON,
        "kind": _JSON,
    },
)


@st.composite
def _lines(draw: st.DrawFn) -> bytes:
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]))
    text = json.dumps(draw(_EVENT), ensure_ascii=draw(st.booleans()), separators=separators)
    return text.encode(errors="replace")


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    line = bytearray(draw(st.sampled_from(SHORT) | _lines()))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(line)))
        line[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b'"', b",", b":", b"{", b"}", b"\\", b"1"])
        )
    return bytes(line).replace(b"\n", b" ")


@seed(20260129)
@settings(max_examples=60)
@given(st.lists(_lines() | _mutated() | st.binary(max_size=12).map(lambda raw: raw.replace(b"\n", b"")), max_size=60))
def test_any_lines(made: Made, lines: list[bytes]) -> None:
    agree(made, lines)
    agree(made, [usual(number, ',"kind":0') for number in range(60)] + lines)


# --- envelopes ------------------------------------------------------------------------------------


def _of_kcat(line: bytes) -> bytes:
    return json.dumps({"topic": "t", "partition": 1, "offset": 5, "payload": line.decode()}).encode()


@pytest.mark.parametrize("start", range(2))
def test_kcat_payloads(made: Made, start: int) -> None:
    chance = random.Random(start)
    lines = [line for line in SHORT if _is_text(line)] + [random_line(chance) for _ in range(3000)]
    lines = [line for line in lines if line.strip()]
    chunk = chunk_of([_of_kcat(line) for line in lines])
    assert by_importer(*made, chunk, "kcat") == by_definition(lines)


@pytest.mark.parametrize("start", range(2))
def test_console_consumer_values(made: Made, start: int) -> None:
    chance = random.Random(start)
    lines = [line for line in SHORT if _is_text(line) and b"\t" not in line and line.strip()]
    lines += [line for line in (random_line(chance) for _ in range(3000)) if b"\t" not in line]
    for before in (b"", b"CreateTime:1\tPartition:3\tOffset:8\tkey\t"):
        chunk = chunk_of([before + line for line in lines])
        assert by_importer(*made, chunk, "kafka-console") == by_definition(lines)


@pytest.mark.parametrize("value", ["", " ", "\\t"])
def test_a_message_of_nothing_is_a_row(made: Made, value: str) -> None:
    kcat = [_of_kcat(GOOD), _of_kcat(value.encode().replace(b"\\t", b"\t")), b"", b" "]
    stored, refused = by_importer(*made, chunk_of(kcat), "kcat")
    assert (len(stored), refused) == (1, [(2, "broken_json")])
    if "t" not in value:  # a tab ends the key there
        head = b"CreateTime:1\tPartition:3\tOffset:8\tkey\t"
        stored, refused = by_importer(*made, chunk_of([head + value.encode(), head + GOOD, b""]), "kafka-console")
        assert (len(stored), refused) == (1, [(1, "broken_json")])


def test_console_consumer_values_may_hold_tabs(made: Made) -> None:
    lines = [GOOD.replace(b",", b",\t")] * 3
    assert by_importer(*made, chunk_of(lines), "kafka-console") == by_definition(lines)


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
