"""Constraints against a model that judges one event after the other, whatever the batches."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_cli.core.world import PROTOCOL, merge_patch
from ledger_cli.errors import UsageError
from ledger_cli.services import world_judge
from ledger_cli.services.world import World
from ledger_cli.services.world_apply import ApplyRequest, apply
from ledger_cli.services.world_constraints import Constraints
from ledger_cli.services.world_judge import Rules, TypeRule
from tests.support import make_ledger

MOVED, FREE = "physics.moved.v1", "physics.placed.v1"
VALUES = ["a <= 3", "abs(x - before.x) <= 2", "version < 6"]
ACROSS = [
    "room IS NULL OR (SELECT count(*) FROM entities e WHERE e.room = entity.room) <= 1",
    "near IS NULL OR EXISTS (FROM entities WHERE entity_id = entity.near)",
]
TYPES = {name: TypeRule(merge_patch, lambda _: None) for name in (MOVED, FREE)}
_A = st.one_of(st.none(), st.integers(0, 4), st.just(2.5), st.just("many"))
_VALUES = st.fixed_dictionaries({}, optional={"a": _A, "x": st.integers(0, 6)})
_ROOMS = st.fixed_dictionaries({"room": st.sampled_from(["R1", "R2", None])}, optional={"near": st.just("E3")})


def _events(payloads: st.SearchStrategy[dict[str, Any]], plain: bool) -> st.SearchStrategy[list[dict[str, Any]]]:
    causes = st.none() if plain else st.one_of(st.none(), st.none(), st.integers(0, 12))
    event = {
        "entityId": st.sampled_from(["E1", "E2", "E3"]),
        "type": st.sampled_from([MOVED, MOVED, MOVED, FREE]),
        "payload": payloads,
        "stateClass": st.sampled_from(["persistent", "persistent", "persistent", "transient"]),
        "cause": causes,
        "again": st.just(False) if plain else st.sampled_from([False, False, False, True]),
    }
    return st.lists(st.fixed_dictionaries(event), min_size=6, max_size=24)


class Model:
    """The state of every entity, and the rules as plain Python."""

    def __init__(self, across: bool) -> None:
        self.across = across
        self.known: set[str] = set()
        self.states: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, int] = {}

    def batch(self, events: list[dict[str, Any]]) -> list[str]:
        """What becomes of each event of a batch: why it is refused, or nothing.

        What lacks a cause is judged again after all others, as long as there is news.
        """
        reasons = [self._one(each) for each in events]
        known = -1
        while known < len(self.known):
            known = len(self.known)
            for at in [at for at, reason in enumerate(reasons) if reason == "causal_gap"]:
                reasons[at] = self._one(events[at])
        return reasons

    def _one(self, event: dict[str, Any]) -> str:
        if event["eventId"] in self.known:
            return ""
        if any(cause not in self.known for cause in event["causes"]):
            return "causal_gap"
        name, transient = event["entityId"], event["stateClass"] == "transient"
        stored = self.states.get(name)
        # A transient event has a part of its own, in front of what is stored.
        after = {**(stored or {}), **merge_patch({}, event["payload"])} if transient else None
        after = after if after is not None else merge_patch(stored, event["payload"])
        version = self.versions.get(name, 0) + 1
        world = dict(self.states) if transient else {**self.states, name: after}
        if event["type"] == MOVED and not self._holds(after, stored or {}, version, world):
            return "constraint_violation"
        if not transient:
            self.states[name], self.versions[name] = after, version
            self.known.add(event["eventId"])
        return ""

    def _holds(self, after: dict[str, Any], before: dict[str, Any], version: int, world: dict[str, Any]) -> bool:
        a, x, was = after.get("a"), after.get("x"), before.get("x")
        room, near = after.get("room"), after.get("near")
        if a == "many" or (a is not None and a > 3):
            return False
        if x is not None and was is not None and abs(x - was) > 2:
            return False
        if version >= 6 or not self.across:
            return version < 6
        if room is not None and sum(each.get("room") == room for each in world.values()) > 1:
            return False
        return near is None or near in world


@settings(max_examples=80)
@given(st.data(), st.booleans(), st.booleans(), st.sampled_from([3, 30]), st.sampled_from([1, 16]))
def test_events_are_judged_as_if_one_by_one(
    data: st.DataObject, across: bool, plain: bool, size: int, least: int
) -> None:
    drawn = data.draw(_events(_ROOMS if across else _VALUES, plain))
    model, ticking = Model(across), iter(range(10**15, 10**16, 1000))
    events = []
    for number, each in enumerate(drawn):
        event = {name: value for name, value in each.items() if name not in ("cause", "again")}
        event["causes"] = [] if each["cause"] is None else [f"e{each['cause']}"]
        event |= {"eventId": f"e{number}", "handshake": {"protocol": PROTOCOL}}
        events += [event, event] if each["again"] else [event]
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(world_judge, "_PORTION_MIN", least)
        repository = make_ledger(Path(directory))
        world = World(repository, lambda _: merge_patch)
        constraints = Constraints(repository.engine.query, {MOVED: VALUES + ACROSS * across})
        rules = Rules(TYPES, {}, "here", lambda: next(ticking), 60_000_000, constraints)
        for at in range(0, len(events), size):
            batch = events[at : at + size]
            reasons = model.batch(batch)
            result = apply(
                repository, world, ApplyRequest("main", [json.dumps(each).encode() for each in batch]), rules
            )
            expected = [(line, reason) for line, reason in enumerate(reasons, 1) if reason]
            assert [(each.line, each.reason) for each in result.refused] == expected
        assert {name: each.parts["physics", "persistent"] for name, each in world.entities.items()} == model.states


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("a <=", "is no SQL"),
        ("a <= 3; DROP TABLE x", "is no SQL"),
        ("1) , (2", "is one SQL expression"),
        ("1) FROM range(3) WHERE (true", "is one SQL expression"),
        ("EXISTS (FROM read_csv('secret.csv'))", "its subqueries read `entities` alone"),
        ("EXISTS (FROM world)", "its subqueries read `entities` alone"),
        ("EXISTS (FROM 'secret.csv')", "its subqueries read `entities` alone"),
        ("faster(a)", "cannot be used"),
        ("other.a > 1", "cannot be used"),
    ],
)
def test_what_is_no_constraint(tmp_path: Path, sql: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Constraints(make_ledger(tmp_path / "world").engine.query, {MOVED: [sql]})


def test_what_depends_on_a_refused_event_is_judged_without_it(tmp_path: Path) -> None:
    repository, ticking = make_ledger(tmp_path), iter(range(10**15, 10**16, 1000))
    world = World(repository, lambda _: merge_patch)
    constraints = Constraints(repository.engine.query, {MOVED: VALUES})
    rules = Rules(TYPES, {}, "here", lambda: next(ticking), 60_000_000, constraints)
    sent: list[tuple[str, str, dict[str, Any], list[str]]] = [
        ("e1", "E1", {"a": 4}, []),
        ("e2", "E2", {"x": 6}, ["e1"]),
        ("e3", "E2", {"x": 0}, []),
        ("e4", "E3", {"a": 4}, []),
        ("e4", "E2", {"x": 2}, []),
        ("e5", "E2", {"x": 4}, []),
    ]
    lines = [
        json.dumps(
            {
                "eventId": event_id,
                "entityId": name,
                "type": MOVED,
                "payload": payload,
                "causes": causes,
                "handshake": {"protocol": PROTOCOL},
            }
        ).encode()
        for event_id, name, payload, causes in sent
    ]
    result = apply(repository, world, ApplyRequest("main", lines), rules)
    assert [(each.line, each.reason) for each in result.refused] == [
        (1, "constraint_violation"),
        (2, "causal_gap"),
        (4, "constraint_violation"),
    ]
    assert world.entities["E2"].parts["physics", "persistent"] == {"x": 4}
