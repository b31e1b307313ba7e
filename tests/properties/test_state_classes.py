"""State classes against a model: sessions end in every fold alike; what is dropped of the cache comes back equal."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_cli.core.hlc import Hlc
from ledger_cli.core.world import PROTOCOL, merge_patch
from ledger_cli.services import world_apply
from ledger_cli.services.integrity import verify
from ledger_cli.services.world import World
from ledger_cli.services.world_apply import ApplyRequest, apply
from ledger_cli.services.world_classes import class_sizes, drop_cache, end_session
from ledger_cli.services.world_judge import Rules
from ledger_cli.services.world_query import entities_at, entity_at
from ledger_cli.services.world_types import reducer_of, register, registered, rules_of
from tests.support import make_ledger, open_ledger

Parts = dict[tuple[str, str], Any]
_NAMES = st.sampled_from(["E1", "E2", "E3"])
_MODULES = st.sampled_from(["building", "physics"])
_EVENT = st.fixed_dictionaries(
    {
        "entityId": _NAMES,
        "module": _MODULES,
        "payload": st.dictionaries(st.sampled_from("ab"), st.one_of(st.none(), st.integers(0, 9))),
        "stateClass": st.sampled_from(["persistent", "session", "cache", "cache", "transient"]),
    }
)
_ACTS = st.lists(
    st.one_of(
        st.lists(_EVENT, min_size=1, max_size=4),
        st.tuples(st.just("end"), st.one_of(st.none(), _MODULES), st.one_of(st.none(), _NAMES)),
        st.just("drop"),
        st.just("reopen"),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(_ACTS)
def test_classes(acts: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(world_apply, "CHECKPOINT_FILES", 2)
        _run(Path(directory), acts)


def _run(root: Path, acts: list[Any]) -> None:
    repository, ticking, number = make_ledger(root), iter(range(10**15, 10**16, 1000)), 0
    for module in ("building", "physics"):
        register(repository, f"{module}.set.v1")
    types = registered(repository)
    world = World(repository, reducer_of(types))
    rules = Rules(rules_of(types, 0), {}, "here", lambda: next(ticking), 60_000_000)
    model: dict[str, Parts] = {}
    past: list[tuple[Hlc, dict[str, Parts]]] = []
    for act in acts:
        if act == "reopen":
            repository = open_ledger(root)
            world = World(repository, reducer_of(types))
        elif act == "drop":
            drop_cache(repository, "main")
            assert drop_cache(repository, "main").entities == 0
        elif isinstance(act, tuple):
            world.follow(repository.branch("main"))
            _, module, entity = act
            if entity is not None and entity not in model:
                continue
            gone = _ended(model, module, entity)
            ended = end_session(repository, world, "main", rules, module, entity)
            assert (ended.parts, ended.entities) == (len(gone), len({name for name, _ in gone}))
            assert end_session(repository, world, "main", rules, module, entity).parts == 0
        else:
            lines = []
            for event in act:
                number += 1
                raw = {**event, "eventId": f"e{number}", "type": f"{event['module']}.set.v1"}
                lines.append(json.dumps({**raw, "handshake": {"protocol": PROTOCOL}}).encode())
                _apply(model, event)
            assert apply(repository, world, ApplyRequest("main", lines), rules).reasons == {}
        branch = repository.branch("main")
        if branch.state.world is not None:
            past.append((Hlc.parse(branch.state.world.hlc), {name: dict(parts) for name, parts in model.items()}))
    repository = open_ledger(root)
    branch = repository.branch("main")
    for reading, expected in past:
        found = entities_at(repository, branch, reducer_of(types), reading)
        assert {name: each.parts for name, each in found.items()} == expected
        for name in expected:
            assert entity_at(repository, branch, name, reducer_of(types), reading) == found[name]
    fresh = World(repository, reducer_of(types))
    fresh.follow(branch)
    assert {name: each.parts for name, each in fresh.entities.items()} == model
    sizes = class_sizes(fresh.entities.values())
    for state_class, size in sizes.items():
        own = [(name, part) for name, parts in model.items() for part in parts if part[1] == state_class]
        assert (size.parts, size.entities) == (len(own), len({name for name, _ in own}))
    assert verify(repository).ok


def _apply(model: dict[str, Parts], event: dict[str, Any]) -> None:
    if event["stateClass"] != "transient":
        parts = model.setdefault(event["entityId"], {})
        part = event["module"], event["stateClass"]
        parts[part] = merge_patch(parts.get(part), event["payload"])


def _ended(model: dict[str, Parts], module: str | None, entity: str | None) -> list[tuple[str, tuple[str, str]]]:
    """Take the session parts out of the model; those that were there."""
    gone = [
        (name, part)
        for name, parts in model.items()
        for part in parts
        if part[1] == "session" and module in (None, part[0]) and entity in (None, name)
    ]
    for name, part in gone:
        del model[name][part]
    return gone
