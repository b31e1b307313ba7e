"""World events: what they must look like, what is signed of them, and what they do to an entity.

A world is a map from entities to their state, and its history an append-only stream of events. An event changes
one entity and raises its version by one; each module has a part of the entity's state of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from binascii import hexlify
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from ledger_cli.core.hlc import Hlc, node_name
from ledger_cli.core.jcs import canonical
from ledger_cli.errors import UsageError

PROTOCOL = "55-45-17"
"""What the handshake of every event must name."""
KINDS = ("entity", "space", "relationship")
CLASSES = ("persistent", "session", "cache", "transient")
REASONS = {
    "invalid_event": "is no world event",
    "invalid_handshake": "its handshake is missing or wrong",
    "unknown_type": "its type is not registered, or its version no longer accepted",
    "version_conflict": "the entity has another version than expected",
    "constraint_violation": "it breaks a rule of its type",
    "causal_gap": "a cause is not known, or not before it",
    "clock_drift": "its clock is too far ahead",
}
"""Why an event is refused."""

FIELDS = (
    "eventId",
    "entityId",
    "entityKind",
    "type",
    "payload",
    "expectedVersion",
    "hlc",
    "node",
    "causes",
    "handshake",
    "module",
    "stateClass",
    "timestamp",
)
_KNOWN = frozenset(FIELDS)
_TYPE = re.compile(r"([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)\.([a-z][a-z0-9_]*)\.v([1-9][0-9]{0,5})")
VERSION_LIMIT = 2**53
ID_LIMIT = 1024
DETAIL_LIMIT = 2000
"""Characters of why an event was refused: some texts quote what is wrong, which may be megabytes."""
DEPTH_LIMIT = 250
"""Levels of a payload: orjson writes 254, and the state of an entity is a few levels around it."""
# Numbers that orjson may write otherwise than RFC 8785 does: with an exponent, whole floats, large integers.
_UNLIKE = rb"-?(?:[0-9]{16}|[0-9]+(?:\.0[,}\]]|(?:\.[0-9]+)?[eE]))"
_UNLIKE_IN_OBJECT = re.compile(rb":" + _UNLIKE)
"""One letter in front is looked for four times as fast as one of three."""
_UNLIKE_IN_ARRAY = re.compile(rb"[,\[]" + _UNLIKE)

WORLD = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("entity_id", pa.string(), nullable=False),
        pa.field("entity_kind", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("read_as", pa.string()),
        pa.field("module", pa.string(), nullable=False),
        pa.field("state_class", pa.string(), nullable=False),
        pa.field("payload", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("expected_version", pa.int64()),
        pa.field("hlc", pa.string(), nullable=False),
        pa.field("causes", pa.list_(pa.string()), nullable=False),
        pa.field("handshake", pa.string(), nullable=False),
        pa.field("timestamp", pa.string()),
        pa.field("event_hash", pa.int64(), nullable=False),
    ]
)
"""One row an event, sorted by (entity_id, version). `version`: the entity's after it; `event_hash`: see `hashes_of`.

`read_as`: the newer version of its type that its payload was read as, by upcasters, for good; null: its own.
"""

SENT = pa.schema(
    [
        WORLD.field(name)
        for name in (
            *("event_id", "entity_id", "type", "module", "state_class", "payload", "expected_version", "causes"),
            *("handshake", "timestamp", "event_hash"),
        )
    ]
)
"""What of a row of `WORLD` is known before the event is judged."""


class Refused(Exception):
    """An event that changes nothing: a code of `REASONS`, and what exactly is wrong, cut where it quotes too much."""

    def __init__(self, reason: str, detail: str) -> None:
        if len(detail) > DETAIL_LIMIT:
            detail = f"{detail[:DETAIL_LIMIT]}…"
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class WorldEvent(NamedTuple):
    """What an event is judged by, checked by itself. `expected_version`: None where any will do.

    `hlc`: the text of a reading; texts sort as the readings do, so none is taken apart.
    """

    event_id: str
    entity_id: str
    entity_kind: str | None
    type: str
    module: str
    state_class: str
    payload: dict[str, Any]
    expected_version: int | None
    hlc: str | None
    node: str | None
    causes: tuple[str, ...]


class Sent(NamedTuple):
    """What else is kept of an event: its timestamp, and payload and handshake as JSON."""

    timestamp: str | None
    payload: str
    handshake: str


class Entity(NamedTuple):
    """An entity after its last event. `hlc`: the text of its reading; `parts`: the state by module and class."""

    kind: str
    version: int
    hlc: str
    event_id: str
    parts: Mapping[tuple[str, str], Any]

    def to_json(self, entity_id: str, module: str | None = None) -> dict[str, Any]:
        """As `world get` shows it; of one module alone where that is asked for."""
        state: dict[str, dict[str, Any]] = {}
        for (owner, state_class), value in sorted(self.parts.items()):
            if module is None or owner == module:
                state.setdefault(state_class, {})[owner] = value
        return {
            "entityId": entity_id,
            "entityKind": self.kind,
            "version": self.version,
            "hlc": self.hlc,
            "eventId": self.event_id,
            "state": state,
        }


def id_in(text: bytes) -> str | None:
    """The id of what is no event, as far as it has one: whoever sent it knows it by that."""
    try:
        raw = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    event_id = raw.get("eventId") if type(raw) is dict else None
    return event_id if type(event_id) is str else None


def parse_event(text: bytes, keys: Mapping[str, bytes]) -> tuple[WorldEvent, Sent]:
    """An event of its JSON. `keys`: by module, what its events are signed with.

    Refused (`invalid_event`) where it is none, and (`invalid_handshake`) where the protocol of its handshake is
    another, or the signature of a module with a key is wrong.
    """
    try:
        raw = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refused("invalid_event", f"is no JSON: {error}") from error
    if type(raw) is not dict:
        raise Refused("invalid_event", "is no JSON object")
    if not raw.keys() <= _KNOWN:
        unknown = ", ".join(sorted(raw.keys() - _KNOWN))
        raise Refused("invalid_event", f"has unknown fields: {unknown}; what belongs to the entity goes into payload")
    handshake = raw.pop("handshake", None)
    if type(handshake) is not dict:
        handshake = {}
    get = raw.get
    entity_id = _text(get("entityId"), "entityId")
    named = get("type")
    try:
        owner = type_parts(named)[0]
    except (TypeError, ValueError) as error:
        raise Refused("invalid_event", f"type must look like module.name.v1, not {named!r}") from error
    module = get("module", owner)
    if module != owner:
        raise Refused("invalid_event", f"module {module!r} is not that of type {named}")
    payload = get("payload")
    if type(payload) is not dict:
        raise Refused("invalid_event", "payload must be an object")
    kind, state_class = get("entityKind"), get("stateClass", "persistent")
    if kind is not None and kind not in KINDS:
        raise Refused("invalid_event", f"entityKind must be one of {', '.join(KINDS)}, not {kind!r}")
    if state_class not in CLASSES:
        raise Refused("invalid_event", f"stateClass must be one of {', '.join(CLASSES)}, not {state_class!r}")
    expected = get("expectedVersion")
    if expected is not None and (type(expected) is not int or not 0 <= expected < VERSION_LIMIT):
        raise Refused("invalid_event", f"expectedVersion must be an integer from 0, not {expected!r}")
    hlc, node = _clock(get("hlc"), get("node"))
    event_id = get("eventId")
    event_id = derived_id(raw) if event_id is None else _text(event_id, "eventId")
    event = WorldEvent(
        event_id=event_id,
        entity_id=entity_id,
        entity_kind=kind,
        type=str(named),
        module=module,
        state_class=state_class,
        payload=payload,
        expected_version=expected,
        hlc=hlc,
        node=node,
        causes=causes_of(get("causes")),
    )
    sent = Sent(timestamp_of(get("timestamp")), json_text(payload), json_text(handshake))
    _check_handshake(raw, handshake, keys.get(module))
    return event, sent


def _text(value: Any, name: str) -> str:
    if type(value) is not str or not value or len(value) > ID_LIMIT:
        raise Refused("invalid_event", f"{name} must be a text of 1 to {ID_LIMIT} characters, not {value!r:.40}")
    return value


def _clock(hlc: Any, node: Any) -> tuple[str | None, str | None]:
    try:
        reading = None if hlc is None else Hlc.parse(hlc)
        if node is not None and node_name(node) and reading is not None and reading.node != node:
            raise ValueError(f"hlc is a reading of node {reading.node}, not of {node}")
    except (ValueError, TypeError) as error:
        raise Refused("invalid_event", str(error)) from error
    return None if reading is None else str(reading), node


def json_text(value: Mapping[str, Any]) -> str:
    """JSON of an object. Refused (`invalid_event`) where it is nested too deeply for what is made of it."""
    try:
        text = orjson.dumps(value).decode()
        if len(text) > DEPTH_LIMIT:
            orjson.dumps([[[[value]]]])
        return text
    except TypeError as error:
        raise Refused("invalid_event", f"is nested too deeply: up to {DEPTH_LIMIT} levels can be kept") from error


def causes_of(value: Any) -> tuple[str, ...]:
    """An event's causes, each once. Refused where they are no list of ids."""
    if value is None:
        return ()
    if type(value) is not list or not all(type(each) is str and each for each in value):
        raise Refused("invalid_event", "causes must be a list of event ids")
    return tuple(dict.fromkeys(value))


def timestamp_of(value: Any) -> str | None:
    """An event's timestamp, as it is. Refused where it is no moment."""
    if value is None:
        return None
    try:
        if datetime.fromisoformat(value).tzinfo is not None:
            return str(value)
    except (TypeError, ValueError):
        pass
    raise Refused("invalid_event", f"timestamp must be RFC 3339 with a zone, not {value!r:.40}")


@lru_cache(maxsize=4096)
def type_parts(name: str) -> tuple[str, str, int]:
    """Module, name and version of a type like `module.name.v1`. ValueError where it is none."""
    found = _TYPE.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is no type of events: write it as module.name.v1")
    return found[1], found[2], int(found[3])


def signed_text(raw: Mapping[str, Any]) -> bytes:
    """What the signature of an event is made over: the RFC 8785 JSON of the event without its handshake.

    Refused (`invalid_event`) where there is none: of a number from 2^53 on, or a value nested hundreds deep.
    """
    try:
        fast = orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)
        # What is not ASCII may be sorted otherwise. The causes are texts.
        arrays = fast.count(b"[") > ("causes" in raw)
        if not fast.isascii() or _UNLIKE_IN_OBJECT.search(fast) or (arrays and _UNLIKE_IN_ARRAY.search(fast)):
            return canonical(raw)
        return fast
    except (TypeError, UsageError) as error:
        raise Refused("invalid_event", f"cannot be signed: {error}") from error


def signature(raw: Mapping[str, Any], key: bytes) -> bytes:
    """HMAC-SHA-256 of `signed_text`, as lower-case hex."""
    return hexlify(hmac.digest(key, signed_text(raw), "sha256"))


def _check_handshake(raw: Mapping[str, Any], handshake: Mapping[str, Any], key: bytes | None) -> None:
    if handshake.get("protocol") != PROTOCOL:
        raise Refused("invalid_handshake", f"handshake.protocol must be {PROTOCOL!r}")
    if key is None:
        return
    given = handshake.get("signature")
    if type(given) is not str or not hmac.compare_digest(given.encode(), signature(raw, key)):
        module = type_parts(raw["type"])[0]
        raise Refused("invalid_handshake", f"handshake.signature is not that of module {module}'s key")


def derived_id(raw: Mapping[str, Any]) -> str:
    """The id of an event that was sent without one: the same event again has the same."""
    return hashlib.sha256(signed_text(raw)).hexdigest()[:32]


def hashes_of(event_ids: Iterable[str]) -> npt.NDArray[np.int64]:
    """64 bits of the SHA-256 of each event's id, as signed integers: what known ids are looked up by."""
    sha256 = hashlib.sha256
    digests = b"".join([sha256(each.encode()).digest() for each in event_ids])
    return np.frombuffer(digests, ">i8")[::4].astype(np.int64)


_MERGED = frozenset({dict, type(None)})
"""Types of what a merge patch does not simply put in place."""


def with_part(parts: Mapping[tuple[str, str], Any], part: tuple[str, str], value: Any) -> dict[tuple[str, str], Any]:
    """Parts of an entity, one of them with another value; None: without it."""
    changed = {**parts, part: value}
    if value is None:
        del changed[part]
    return changed


def merge_patch(target: Any, patch: Any) -> Any:
    """JSON Merge Patch (RFC 7396). Neither argument is changed."""
    if type(patch) is not dict:
        return patch
    before = target if type(target) is dict else {}
    if _MERGED.isdisjoint(map(type, patch.values())):
        return {**before, **patch}
    merged = dict(before)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif type(value) is dict:
            merged[name] = merge_patch(merged.get(name), value)
        else:
            merged[name] = value
    return merged
