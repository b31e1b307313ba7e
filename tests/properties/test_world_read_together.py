"""World events read many at once, here and in another process: the same events and refusals as one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger_cli.core import world_batch
from ledger_cli.core.world import FIELDS, PROTOCOL, SENT, Refused, Sent, WorldEvent, hashes_of, signature
from ledger_cli.core.world_batch import Events, read_event, read_events
from ledger_cli.services import world_reader
from ledger_cli.services.world_reader import EventReader

KEYS = {"physics": b"secret", "building": b"k" * 80}
GOOD: dict[str, Any] = {"entityId": "E1", "eventId": "e1", "type": "physics.moved.v1", "payload": {"x": 1.5}}
_VALUES: list[Any] = [
    *[None, True, 0, 1, -1, 1.0, 5e-7, 2**53, 2**63, "", "e", "ü", "a\nb", "x" * 1025, [], ["e1"], ["e1", "e1"], [1]],
    *[{}, {"a": None}, {"ü": 1, "😀": 2, "ﬀ": 3}, {"a": [1.0, 1e16, {"b": 1e-7}]}, {"a": 10**17}, {"a": "[1.0,2e5]"}],
    *["n", "a-n", "space", "session", "forever", "building", "physics", "building.opened.v1", "physics.moved.v0"],
    *["2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01é00:00+00:00", PROTOCOL],
]
_WALLS = [
    *["2026-01-29T19:21:00.000000Z", "2026-02-29T19:21:00.000000Z", "2024-02-29T19:21:00.000000Z"],
    *["1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"],
    *["2026-01-01T24:00:00.000000Z", "2026-13-01T00:00:00.000000Z", "٢026-01-01T00:00:00.000000Z"],
]
_READINGS = [wall + rest for wall in _WALLS for rest in ("-0000-n", "-00FF-a-n", "-00ff-n", "-0000-", "-0000-n\n")]
_ODD = st.sampled_from([*_VALUES, *_READINGS])
_NAMES = st.sampled_from([*FIELDS, "colour"])
_CHANGES = st.dictionaries(_NAMES, _ODD, max_size=3)


def signed(changes: dict[str, Any], how: str) -> bytes:
    """An event with its right signature, or with none, or with that of another one."""
    event = {**GOOD, **changes}
    handshake = event.pop("handshake", {"protocol": PROTOCOL})
    if isinstance(handshake, dict) and how != "unsigned":
        try:
            of = {**event, "payload": {"other": 1}} if how == "wrong" else event
            right = signature(json.loads(orjson.dumps(of)), KEYS.get(str(event["type"]).split(".")[0], b"other"))
            handshake = {**handshake, "signature": right.decode()}
        except Refused:
            pass
    return orjson.dumps({**event, "handshake": handshake})


@pytest.fixture(scope="module", autouse=True)
def _elsewhere() -> Iterator[None]:
    """One process for all that is read here."""
    global elsewhere
    with pytest.MonkeyPatch.context() as patch, EventReader(KEYS) as elsewhere:
        patch.setattr(world_reader, "ALONE_EVENTS", 0)
        elsewhere.read([signed({}, "right")]).result()
        yield
        assert elsewhere.working


elsewhere: EventReader


def agree(texts: list[bytes]) -> None:
    alone = [_alone(text) for text in texts]
    assert _told(read_events(texts, KEYS)) == alone
    assert _told(elsewhere.read(texts).result()) == alone


def _alone(text: bytes) -> Any:
    found = read_event(text, KEYS)
    if isinstance(found, Refused):
        return found.reason, found.detail
    event, sent = found
    row = {**event._asdict(), **sent._asdict(), "event_hash": int(hashes_of([event.event_id])[0])}
    return event, {**{name: row[name] for name in SENT.names}, "causes": list(event.causes)}


def _told(events: Events) -> list[Any]:
    assert events.rows.schema == SENT
    return [
        (each.reason, each.detail) if isinstance(each, Refused) else (each, row)
        for each, row in zip(events.found, events.rows.to_pylist(), strict=True)
    ]


@given(st.lists(st.tuples(_CHANGES, st.sampled_from(["right", "right", "right", "wrong", "unsigned"])), max_size=6))
@example([({}, "right"), ({"type": "building.opened.v1", "module": "building"}, "right")])
@example([({}, "right"), ({"eventId": None}, "right")])
def test_odd_events(drawn: list[tuple[dict[str, Any], str]]) -> None:
    agree([signed(changes, how) for changes, how in drawn])


@pytest.mark.parametrize("name", [*FIELDS, "colour"])
def test_events_that_are_odd_in_one_field_alone(name: str) -> None:
    for value in [*_VALUES, *_READINGS, {"protocol": PROTOCOL, "signature": 5}]:
        agree([signed({name: value}, "right")])


@given(st.lists(st.sampled_from([b"", b"{", b"}", b"1,2", b'{"a":1', b'"b":2}', b"{},{}", b"[]", b"\xff", b"null"])))
def test_what_is_no_event_by_itself_is_none_beside_others(texts: list[bytes]) -> None:
    agree([signed({}, "right"), *texts])


def test_signatures_are_compared_one_by_one() -> None:
    first, second = (orjson.loads(signed({"eventId": name}, "right")) for name in ("e1", "e2"))
    rights = first["handshake"]["signature"], second["handshake"]["signature"]
    for both in ("".join(rights), "\n".join(rights)):
        for cut in range(len(both) + 1):
            first["handshake"]["signature"], second["handshake"]["signature"] = both[:cut], both[cut:]
            found = read_events([orjson.dumps(first), orjson.dumps(second)], KEYS).found
            right = (both[:cut] == rights[0], both[cut:] == rights[1])
            assert tuple(isinstance(each, WorldEvent) for each in found) == right


def test_depth() -> None:
    for depth in (249, 250, 251, 253, 254, 255, 1000):
        deep = b'{"a":' * depth + b"1" + b"}" * depth
        text = b'{"entityId":"E1","type":"a.b.v1","payload":%s,"handshake":{"protocol":"%s"}}' % (
            deep,
            PROTOCOL.encode(),
        )
        agree([text])
        assert isinstance(read_events([text], KEYS).found[0], WorldEvent) == (depth <= 250)
        agree([text.replace(b'"payload"', b'"payload":{},"causes"')])


def test_a_wrong_event_sends_few_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    alone = world_batch.read_event

    def counted(text: bytes, keys: dict[str, bytes]) -> tuple[WorldEvent, Sent] | Refused:
        taken.append(text)
        return alone(text, keys)

    monkeypatch.setattr(world_batch, "read_event", counted)
    texts = [signed({"eventId": f"e{number}"}, "right") for number in range(2000)]
    assert all(isinstance(each, WorldEvent) for each in read_events(texts, KEYS).found)
    assert taken == []
    texts[700] = b"{"
    assert [place for place, each in enumerate(read_events(texts, KEYS).found) if isinstance(each, Refused)] == [700]
    assert len(taken) == 500
