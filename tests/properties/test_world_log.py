"""The log of a world: whoever polls gets every event, in order; and a snapshot with its tail is a replay of all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_cli.core.hlc import Hlc
from ledger_cli.core.world import PROTOCOL, merge_patch
from ledger_cli.services import snapshot_restore, snapshots, subscriptions
from ledger_cli.services.repository import Repository
from ledger_cli.services.snapshot_files import digest_of_state
from ledger_cli.services.world import World
from ledger_cli.services.world_apply import ApplyRequest, apply
from ledger_cli.services.world_judge import Rules, TypeRule
from tests.support import make_ledger, open_ledger

pytestmark = pytest.mark.usefixtures("many_checkpoints")

TYPES = ("physics.moved.v1", "building.opened.v1", "building.placed.v2")
RULES = {name: TypeRule(merge_patch, lambda _: None) for name in TYPES[:2]} | {
    TYPES[2]: TypeRule(lambda _, payload: payload, lambda _: None)
}
LISTENERS = {"all": ("*",), "house": ("building.*",), "mover": (TYPES[0],), "newer": ("*.v2", TYPES[0])}
START = 10**15
_VALUES = st.one_of(
    st.none(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=3)
)
_EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "entityId": st.sampled_from(["E1", "E2", "ü-3"]),
            "type": st.sampled_from(TYPES),
            "payload": st.dictionaries(st.sampled_from(["a", "b", "é", "\U0001f600", "\uffff"]), _VALUES, max_size=3),
            "stateClass": st.sampled_from(["persistent", "cache"]),
            "cause": st.one_of(st.none(), st.integers(0, 12)),
            "late": st.booleans(),
        }
    ),
    min_size=1,
    max_size=14,
)


def reducers(name: str) -> Any:
    return RULES[name].reducer


def _sent(drawn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events as they are sent: causes among those before; a late one has a reading long past, and its own entity."""
    events = []
    for number, each in enumerate(drawn):
        cause = each["cause"]
        event = {name: value for name, value in each.items() if name not in ("cause", "late")}
        event |= {"eventId": f"e{number}", "handshake": {"protocol": PROTOCOL}}
        if each["late"]:
            event |= {"entityId": f"late-{number}", "hlc": str(Hlc(START - 10**9 + number % 3, 0, "far"))}
        elif cause is not None and cause < number:
            event["causes"] = [f"e{cause}"]
        events.append(event)
    return events


def _applied(root: Path, events: list[dict[str, Any]], ticking: Iterator[int]) -> None:
    """By a new process."""
    repository = open_ledger(root)
    rules = Rules(RULES, {}, "here", lambda: next(ticking), 60_000_000)
    lines = [json.dumps(each).encode() for each in events]
    result = apply(repository, World(repository, reducers), ApplyRequest("main", lines), rules)
    assert result.applied == len(events)


def _batches(events: list[dict[str, Any]], data: st.DataObject) -> Iterator[list[dict[str, Any]]]:
    at = 0
    while at < len(events):
        size = data.draw(st.integers(1, 5), label="batch")
        yield events[at : at + size]
        at += size


@settings(max_examples=25)
@given(_EVENTS, st.data())
def test_each_event_is_delivered_at_least_once_and_in_order(drawn: list[dict[str, Any]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        repository = make_ledger(Path(directory))
        for module, types in LISTENERS.items():
            subscriptions.subscribe(repository, "main", module, types)
        seen: dict[str, list[str]] = {module: [] for module in LISTENERS}
        ticking = iter(range(START, 10**16, 1000))
        for batch in _batches(_sent(drawn), data):
            _applied(Path(directory), batch, ticking)
            for module in LISTENERS:
                for _ in range(data.draw(st.integers(0, 2), label=f"polls of {module}")):
                    _poll(open_ledger(Path(directory)), module, seen[module], data)
        for module in LISTENERS:
            while _poll(open_ledger(Path(directory)), module, seen[module], None):
                pass
        assert all(each.lag == 0 for each in subscriptions.views(repository, repository.branch("main")))
        # In the order in which they came, and within a batch in that of their clocks.
        log = [each.event for each in _all(repository)]
        assert [row["event_id"] for row in log] == seen["all"]
        assert len(set(seen["all"])) == len(drawn)
        places = {name: place for place, name in enumerate(seen["all"])}
        assert all(places[cause] < places[row["event_id"]] for row in log for cause in row["causes"])
        of = {row["event_id"]: row["type"] for row in log}
        assert seen["house"] == [name for name in seen["all"] if of[name].startswith("building.")]
        assert seen["mover"] == [name for name in seen["all"] if of[name] == TYPES[0]]
        assert seen["newer"] == [name for name in seen["all"] if of[name] in (TYPES[0], TYPES[2])]


def _all(repository: Repository) -> list[Any]:
    subscriptions.subscribe(repository, "main", "reader")
    return [each.event for each in subscriptions.poll(repository, "main", "reader", 1000).events]


def _poll(repository: Repository, module: str, seen: list[str], data: st.DataObject | None) -> int:
    """Poll some events and acknowledge some of them: what is not acknowledged has to come again."""
    limit = 3 if data is None else data.draw(st.integers(1, 4), label="limit")
    lag = next(each.lag for each in subscriptions.views(repository, repository.branch("main")) if each.module == module)
    polled = subscriptions.poll(repository, "main", module, limit)
    assert len(polled.events) == min(limit, lag)
    taken = len(polled.events) if data is None else data.draw(st.integers(0, len(polled.events)), label="dealt with")
    seen += [each.event.event["event_id"] for each in polled.events[:taken]]
    if taken:
        whole = taken == len(polled.events)
        position = polled.up_to if whole else polled.events[taken - 1].position
        left = subscriptions.ack(repository, "main", module, position)
        assert (left.cursor, left.lag) == (position, lag - taken)
        # An older acknowledgement, come late, takes nothing back.
        assert subscriptions.ack(repository, "main", module, polled.events[0].position).cursor == position
    return taken


@settings(max_examples=25)
@given(_EVENTS, st.data())
def test_a_snapshot_and_its_tail_are_a_replay_of_all(drawn: list[dict[str, Any]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root, repository = Path(directory), make_ledger(Path(directory))
        ticking = iter(range(START, 10**16, 1000))
        for batch in _batches(_sent(drawn), data):
            _applied(root, batch, ticking)
            snapshots.create(open_ledger(root), reducers, "main", None, snapshots.Keep(100))
        branch = repository.branch("main")
        whole = World(repository, reducers)
        whole.follow(branch, cached=False)
        made = snapshots.snapshots(repository, "main")
        assert len(made) == branch.seq
        for place, record in enumerate(made):
            prefix = World(repository, reducers)
            prefix.follow(repository.branch_at("main", record.move), cached=False)
            assert snapshot_restore.load(repository, record) == prefix.entities
            assert record.digest == digest_of_state(prefix.entities)
            assert snapshot_restore.verify(repository, reducers, record).ok
            begun = snapshot_restore.restore(repository, reducers, record, f"then-{place}")
            assert (begun.digest, begun.tail) == (record.digest, 0)
            assert _state(repository, f"then-{place}") == prefix.entities
            brought = snapshot_restore.restore(repository, reducers, record)
            assert (brought.digest, brought.tail) == (digest_of_state(whole.entities), len(drawn) - record.events)
            assert _state(open_ledger(root), "main") == whole.entities


def _state(repository: Repository, branch: str) -> Any:
    world = World(repository, reducers)
    world.follow(repository.branch(branch))
    return world.entities
