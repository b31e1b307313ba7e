"""`parse_tick` is the definition of a good row: every reason, and the values on both sides of each border."""

from __future__ import annotations

import json
import random

import pytest
import rfc8785

from ledger_cli.core.events import REASONS
from ledger_cli.core.tick_json import Refusal, Tick, merged_meta, parse_tick, timestamp_of
from tests.tricky_lines import ACCEPTED, BLANK, GOOD, REFUSED, altered


@pytest.mark.parametrize("line", BLANK)
def test_blank_lines_are_no_rows(line: bytes) -> None:
    assert parse_tick(line) is None


@pytest.mark.parametrize("line", ACCEPTED)
def test_accepted(line: bytes) -> None:
    assert isinstance(parse_tick(line), Tick)


@pytest.mark.parametrize(("line", "reason"), REFUSED)
def test_refused(line: bytes, reason: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_tick(line)
    assert refusal.value.reason == reason


def test_every_reason_of_a_line_is_tried() -> None:
    of_whole_files = {"broken_row", "key_conflict", "tick_jump"}
    assert {reason for _, reason in REFUSED} == set(REASONS) - of_whole_files


def parsed(line: bytes) -> Tick:
    tick = parse_tick(line)
    assert tick is not None
    return tick


def test_whole_event() -> None:
    assert parsed(GOOD) == Tick("E1", 7, 1.5, 2.0, 0.25, 0.5, None, 1769714460000000)


@pytest.mark.parametrize(
    ("text", "tick"), [("8.0", 8), ("8e0", 8), ("-0.0", 0), ("-0", 0), ("0", 0), ("9007199254740991", 2**53 - 1)]
)
def test_tick_is_a_whole_number_however_written(text: str, tick: int) -> None:
    found = parsed(altered("7", text)).tick_id
    assert (found, type(found)) == (tick, int)


def test_absent_null_and_empty_meta_are_one() -> None:
    for line in (altered('"meta":{},', ""), altered("{}", "null"), GOOD):
        assert parsed(line).meta is None


def test_unknown_fields_go_into_meta() -> None:
    tick = parsed(altered('"meta":{}', '"meta":{"a":1},"b":[2],"c":null'))
    assert json.loads(tick.meta or "") == {"a": 1, "b": [2], "c": None}


def test_unknown_fields_hide_nothing_of_meta() -> None:
    tick = parsed(altered('"meta":{}', '"meta":{"kind":"cat","meta":"m","z":0},"kind":"wolf"'))
    assert json.loads(tick.meta or "") == {"kind": "wolf", "z": 0, "meta": {"kind": "cat", "meta": "m"}}


def test_merged_meta_is_what_a_line_gives() -> None:
    line = altered('"meta":{}', '"meta":{"a":1,"b":2},"b":3')
    assert merged_meta('{"a":1,"b":2}', '{"b":3}') == parsed(line).meta
    assert merged_meta(None, None) is None
    assert merged_meta("{}", None) is None


def test_integers_in_meta_keep_their_digits() -> None:
    digits = "123456789012345678901234567890"
    assert json.loads(parsed(altered("{}", f'{{"a":{digits}}}')).meta or "") == {"a": int(digits)}


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [
        (None, None),
        (0, 0),
        (-1, -1000),
        (1769714460000.0, 1769714460000000),
        (10**14 - 1, (10**14 - 1) * 1000),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-01t01:30:00.000001+01:30", 1),
        ("1970-01-01 00:00:00.0000019z", 1),
        ("1969-12-31T23:59:59.0000019Z", -999999),
        ("0001-01-01T00:00:00Z", -62135596800000000),
        ("9999-12-31T23:59:59.999999999Z", 253402300799999999),
        ("2024-02-29T00:00:00-23:59", 1709251140000000),
        ("2016-12-31T23:59:60Z", 1483228800000000),
        ("2016-12-31t23:59:60.25z", 1483228800250000),
        ("1969-12-31T23:59:60.5Z", 500000),
        ("2016-12-31T15:59:60.000001-08:00", 1483228800000001),
    ],
)
def test_timestamp(value: object, microseconds: int | None) -> None:
    assert timestamp_of(value) == microseconds


def test_canonical_text_is_the_same_however_written() -> None:
    one = parsed(altered('"meta":{}', '"meta":{"b":1.0,"a":[-0.0,"é"]}').replace(b"1.5", b"15e-1"))
    other = parsed(altered('"meta":{}', '"meta":{"a":[0,"\\u00e9"]},"b":1').replace(b"19:21:00Z", b"20:21:00+01:00"))
    assert one.canonical() == other.canonical()


def test_canonical_text_is_that_of_rfc_8785() -> None:
    chance = random.Random(8785)
    numbers = [0.0, -0.0, 1.0, 1e-4, 9.999e-5, 1e15, 1e16, 2.0**53, 1e21, 1e300, 5e-324, 0.1]
    numbers += [chance.uniform(-1, 1) * 10 ** chance.randrange(-20, 25) for _ in range(3000)]
    for number in numbers:
        tick = Tick('é"\\\n\x00\u2028', 7, number, -number, abs(number), number, '{"b":1.0,"a":"é"}', 5)
        event = {"entityId": tick.entity_id, "tickId": 7, "x": number, "y": -number, "activity": abs(number)}
        event |= {"jitter": number, "meta": {"a": "é", "b": 1}, "timestamp": 5}
        assert tick.canonical() == rfc8785.dumps(event).decode()


def test_canonical_text_tells_large_integers_apart() -> None:
    texts = {parsed(altered("{}", f'{{"a":{digits}}}')).canonical() for digits in (2**64, 2**64 + 1)}
    assert len(texts) == 2
