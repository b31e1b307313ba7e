"""The world against a model of plain dicts: any events, in any batches, read back now and at every past reading."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_cli.core.hlc import Hlc
from ledger_cli.core.world import PROTOCOL, merge_patch
from ledger_cli.services.moment import moment_of
from ledger_cli.services.repository import Repository
from ledger_cli.services.world import World
from ledger_cli.services.world_apply import ApplyRequest, apply
from ledger_cli.services.world_judge import Rules, TypeRule
from ledger_cli.services.world_query import entities_at, entity_at, history
from tests.support import make_ledger, open_ledger

pytestmark = pytest.mark.usefixtures("many_checkpoints")

MOVED = "physics.moved.v1"
REPLACED = "physics.placed.v1"
RULES = {
    MOVED: TypeRule(merge_patch, lambda _: None),
    REPLACED: TypeRule(lambda _, payload: payload, lambda _: None),
}
_PAYLOADS = st.dictionaries(
    st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 9), st.fixed_dictionaries({"d": st.integers(0, 2)}))
)
_EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "entityId": st.sampled_from(["E1", "E2", "ü-3"]),
            "type": st.sampled_from([MOVED, REPLACED]),
            "payload": _PAYLOADS,
            "expectedVersion": st.one_of(st.none(), st.integers(0, 3)),
            "stateClass": st.sampled_from(["persistent", "cache", "transient"]),
            "cause": st.one_of(st.none(), st.integers(0, 12)),
            "again": st.booleans(),
        }
    ),
    max_size=14,
)


class Model:
    """What a world is: the last version and the parts of every entity, and the readings of known events."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.parts: dict[str, dict[tuple[str, str], Any]] = {}
        self.known: set[str] = set()
        self.written: dict[str, list[str]] = {}
        self.waiting: dict[str, dict[str, Any]] = {}

    def batch(self, events: list[dict[str, Any]], patient: bool) -> list[str]:
        """What becomes of the events of a batch, and of those that waited. Without patience none waits on."""
        outcomes, gaps = [], []
        for event in events:
            outcome = self.apply(event)
            (gaps if outcome == "causal_gap" else outcomes).append(event if outcome == "causal_gap" else outcome)
        pending = [*self.waiting.values(), *gaps]
        while True:
            known, left = len(self.known), []
            for event in pending:
                outcome = self.apply(event)
                if outcome == "causal_gap":
                    left.append(event)
                else:
                    outcomes.append(outcome)
            pending = left
            if len(self.known) == known:
                break
        # What waits is kept in the order of its text, so that it is the same whoever met it first.
        texts = {json.dumps(event): event for event in pending} if patient else {}
        self.waiting = {text: texts[text] for text in sorted(texts)}
        return outcomes if patient else outcomes + ["causal_gap"] * len(pending)

    def apply(self, event: dict[str, Any]) -> str:
        """What becomes of an event."""
        entity, expected = event["entityId"], event.get("expectedVersion")
        if event["eventId"] in self.known:
            return "duplicate"
        if expected is not None and expected != self.versions.get(entity, 0):
            return "version_conflict"
        if any(cause not in self.known for cause in event["causes"]):
            return "causal_gap"
        if event["stateClass"] == "transient":
            return "transient"
        self.known.add(event["eventId"])
        self.versions[entity] = self.versions.get(entity, 0) + 1
        part = "physics", event["stateClass"]
        parts = self.parts.setdefault(entity, {})
        merged = merge_patch(parts.get(part), event["payload"])
        self.parts[entity] = {**parts, part: event["payload"] if event["type"] == REPLACED else merged}
        self.written.setdefault(entity, []).append(event["eventId"])
        return "applied"


def reducers(name: str) -> Any:
    return RULES[name].reducer


@given(_EVENTS, st.data())
def test_any_events_in_any_batches(drawn: list[dict[str, Any]], data: st.DataObject) -> None:
    events = []
    for number, each in enumerate(drawn):
        cause = each["cause"]
        event = {name: value for name, value in each.items() if name not in ("cause", "again") and value is not None}
        event |= {"eventId": f"e{number}", "causes": [] if cause is None else [f"e{cause}"]}
        event["handshake"] = {"protocol": PROTOCOL}
        events += [event, event] if each["again"] else [event]
    with tempfile.TemporaryDirectory() as directory:
        _run(make_ledger(Path(directory)), Path(directory), events, data)


def _run(repository: Repository, root: Path, events: list[dict[str, Any]], data: st.DataObject) -> None:
    model, world = Model(), World(repository, reducers)
    ticking = iter(range(10**15, 10**16, 1000))
    patient = data.draw(st.booleans(), label="patient")
    rules = Rules(RULES, {}, "here", lambda: next(ticking), 60_000_000, causal_wait=10**12 if patient else 0)
    past: list[tuple[str, dict[str, Any]]] = []
    at = 0
    while at < len(events):
        size = data.draw(st.integers(1, 5), label="batch")
        batch, at = events[at : at + size], at + size
        if data.draw(st.booleans(), label="new process"):
            repository = open_ledger(root)
            world = World(repository, reducers)
        outcomes = model.batch(batch, patient)
        result = apply(repository, world, ApplyRequest("main", [json.dumps(each).encode() for each in batch]), rules)
        assert result.applied == outcomes.count("applied")
        assert result.duplicates == outcomes.count("duplicate")
        assert result.transient == outcomes.count("transient")
        assert result.waiting == len(model.waiting)
        refused = [each for each in outcomes if each not in ("applied", "duplicate", "transient")]
        assert sorted(each.reason for each in result.refused) == sorted(refused)
        if result.hlc is not None:
            past.append((result.hlc, {name: (model.versions[name], model.parts[name]) for name in model.versions}))
    repository = open_ledger(root)
    branch = repository.branch("main")
    for hlc, expected in past:
        reading = Hlc.parse(hlc)
        found = entities_at(repository, branch, reducers, reading)
        assert {name: (each.version, each.parts) for name, each in found.items()} == expected
        for name in ("E1", "E2", "ü-3"):
            assert entity_at(repository, branch, name, reducers, reading) == found.get(name)
    for name, ids in model.written.items():
        told = history(repository, name, None, moment_of(repository, None))
        assert [each.event["event_id"] for each in told] == ids
        assert [each.event["version"] for each in told] == list(range(1, len(ids) + 1))
        readings = [each.event["hlc"] for each in told]
        assert readings == sorted(set(readings))
    fresh = World(repository, reducers)
    fresh.follow(branch)
    assert fresh.entities == world.entities == entities_at(repository, branch, reducers)
