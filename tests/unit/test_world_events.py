"""World events by themselves: what is refused, what is signed, and what a merge patch does."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ledger_cli.core.world import (
    PROTOCOL,
    Refused,
    hashes_of,
    merge_patch,
    parse_event,
    signature,
    signed_text,
)

EVENT: dict[str, Any] = {
    "eventId": "e1",
    "entityId": "door-7",
    "entityKind": "entity",
    "type": "building.opened.v1",
    "payload": {"open": True},
    "expectedVersion": 0,
    "handshake": {"protocol": PROTOCOL},
}
_NUMBERS = st.one_of(
    st.integers(-(2**53) + 1, 2**53 - 1), st.floats(allow_nan=False, allow_infinity=False).filter(lambda v: v == v)
)
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)


def event(**changes: Any) -> bytes:
    return orjson.dumps({name: value for name, value in {**EVENT, **changes}.items() if value is not ...})


def test_an_event_is_read() -> None:
    read, _ = parse_event(event(causes=["a", "b", "a"], hlc="2026-01-29T19:21:00.000000Z-0002-dc-1", node="dc-1"), {})
    assert (read.event_id, read.entity_id, read.entity_kind, read.module) == ("e1", "door-7", "entity", "building")
    assert (read.causes, read.expected_version, read.state_class) == (("a", "b"), 0, "persistent")
    assert (read.hlc, read.node) == ("2026-01-29T19:21:00.000000Z-0002-dc-1", "dc-1")


def test_an_event_without_an_id_has_that_of_its_content() -> None:
    ids = {
        parse_event(event(eventId=..., payload=payload), {})[0].event_id for payload in ({"a": 1}, {"a": 2}, {"a": 1})
    }
    assert len(ids) == 2
    signed, _ = parse_event(
        event(eventId=..., payload={"a": 1}, handshake={"protocol": PROTOCOL, "signature": "00"}), {}
    )
    assert signed.event_id in ids


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"{", "is no JSON"),
        (b"[1]", "is no JSON object"),
        (b'"text"', "is no JSON object"),
        (b"\xff", "is no JSON"),
        (event(colour="red"), "unknown fields: colour"),
        (event(entityId=...), "entityId must be"),
        (event(entityId=""), "entityId must be"),
        (event(entityId=7), "entityId must be"),
        (event(entityId="x" * 1025), "entityId must be"),
        (event(eventId=""), "eventId must be"),
        (event(type=...), "type must look like"),
        (event(type="building.opened"), "type must look like"),
        (event(type="Building.opened.v1"), "type must look like"),
        (event(type="building.opened.v0"), "type must look like"),
        (event(module="other"), "module 'other' is not that of type"),
        (event(payload=...), "payload must be an object"),
        (event(payload=[1]), "payload must be an object"),
        (event(entityKind="thing"), "entityKind must be one of"),
        (event(stateClass="forever"), "stateClass must be one of"),
        (event(expectedVersion=-1), "expectedVersion must be"),
        (event(expectedVersion=True), "expectedVersion must be"),
        (event(expectedVersion=1.0), "expectedVersion must be"),
        (event(hlc="yesterday"), "is no hybrid clock reading"),
        (event(hlc=5), "expected string"),
        (event(hlc="2026-01-29T19:21:00.000000Z-0002-a", node="b"), "reading of node a, not of b"),
        (event(node="a b"), "cannot be a node"),
        (event(causes="e0"), "causes must be"),
        (event(causes=[1]), "causes must be"),
        (event(timestamp="2026-01-29T19:21:00"), "timestamp must be"),
        (event(timestamp=5), "timestamp must be"),
    ],
)
def test_what_is_no_event(text: bytes, told: str) -> None:
    with pytest.raises(Refused, match=told) as refused:
        parse_event(text, {})
    assert refused.value.reason == "invalid_event"


def test_why_is_told_in_short_whatever_is_quoted() -> None:
    for wrong in ({"type": "x" * 1_000_000}, {"x" * 1_000_000: 1}, {"expectedVersion": "x" * 1_000_000}):
        with pytest.raises(Refused) as refused:
            parse_event(event(**wrong), {})
        assert len(refused.value.detail) == 2001
        assert refused.value.detail.endswith("…")


def test_the_handshake() -> None:
    key = b"secret"
    raw = {name: value for name, value in EVENT.items() if name != "handshake"}
    right = {"protocol": PROTOCOL, "signature": signature(raw, key).decode()}
    parse_event(event(), {})
    parse_event(event(handshake=right), {"building": key})
    wrong: list[tuple[Any, dict[str, bytes]]] = [
        (..., {}),
        ("55-45-17", {}),
        ({"protocol": "55-45-18"}, {}),
        ({"protocol": PROTOCOL}, {"building": key}),
        ({**right, "signature": right["signature"][:-1]}, {"building": key}),
        ({**right, "signature": "é"}, {"building": key}),
        (right, {"building": b"other"}),
    ]
    for handshake, keys in wrong:
        with pytest.raises(Refused) as refused:
            parse_event(event(handshake=handshake), keys)
        assert refused.value.reason == "invalid_handshake"
    with pytest.raises(Refused, match="signature is not that"):
        parse_event(event(handshake=right, payload={"open": False}), {"building": key})


@given(st.dictionaries(st.text(max_size=4), _VALUES, max_size=4))
def test_what_is_signed_is_canonical(raw: dict[str, Any]) -> None:
    again = json.loads(json.dumps(raw))
    assert signed_text(again) == rfc8785.dumps(again)


@pytest.mark.parametrize("number", [1.0, -0.0, 5e-324, 1e16, 1e21, 1e-7, 0.1, 123456789.0, 2.0**60, 1e15, math.pi])
def test_numbers_are_signed_as_rfc_8785_writes_them(number: float) -> None:
    for raw in ({"a": number}, {"a": [number]}, {"a": [0, number, 1]}, {"b": {"a": number}, "c": 1}):
        assert signed_text(raw) == rfc8785.dumps(raw)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_of_rfc_7396(target: Any, patch: Any, result: Any) -> None:
    before = json.dumps([target, patch])
    assert merge_patch(target, patch) == result
    assert json.dumps([target, patch]) == before


def test_ids_are_hashed_the_same_everywhere() -> None:
    # The first 8 bytes of `printf e1 | sha256sum`, and of nothing.
    assert hashes_of(["", "e1"]).tolist() == [-2039914840885289964, -8404626340394009294]
    assert hashes_of([]).tolist() == []
