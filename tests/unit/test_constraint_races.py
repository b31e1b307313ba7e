"""Constraints across entities hold also where two processes write at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ledger_cli.core.world import PROTOCOL, Entity, merge_patch
from ledger_cli.services.repository import Repository
from ledger_cli.services.world import World
from ledger_cli.services.world_apply import ApplyRequest, ApplyResult, apply
from ledger_cli.services.world_constraints import BatchConstraints, Constraints
from ledger_cli.services.world_judge import Rules, TypeRule
from tests.support import make_ledger, open_ledger

ENTERED = "place.entered.v1"
ALONE = "(SELECT count(*) FROM entities e WHERE e.room = entity.room) <= 1"


def enter(repository: Repository, name: str, constraints: Constraints) -> ApplyResult:
    event = {"eventId": name, "entityId": name, "type": ENTERED, "payload": {"room": "hall"}}
    line = json.dumps({**event, "handshake": {"protocol": PROTOCOL}}).encode()
    rule = TypeRule(merge_patch, lambda _: None)
    rules = Rules({ENTERED: rule}, {}, "here", lambda: 10**15, 60_000_000, constraints)
    world = World(repository, lambda _: merge_patch)
    return apply(repository, world, ApplyRequest("main", [line]), rules)


class Overtaken(Constraints):
    """While the first batch is judged, another process lets somebody into the room."""

    other: Any = None

    def over(self, entities: Mapping[str, Entity]) -> BatchConstraints:
        """See `Constraints.over`."""
        if self.other is not None:
            overtaking, self.other = self.other, None
            overtaking()
        return super().over(entities)


def test_a_batch_that_was_overtaken_is_judged_again(tmp_path: Path) -> None:
    repository = make_ledger(tmp_path)
    constraints = Overtaken(repository.engine.query, {ENTERED: [ALONE]})
    others = open_ledger(tmp_path)
    results = []
    constraints.other = lambda: results.append(
        enter(others, "bob", Constraints(others.engine.query, {ENTERED: [ALONE]}))
    )
    results.append(enter(repository, "ann", constraints))
    assert [(each.applied, dict(each.reasons)) for each in results] == [(1, {}), (0, {"constraint_violation": 1})]
    world = World(repository, lambda _: merge_patch)
    world.follow(repository.branch("main"))
    assert sorted(world.entities) == ["bob"]
