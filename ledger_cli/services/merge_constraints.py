"""What constraints refuse of the union of two logs: neither side has seen what the other one did.

The events are folded in their order from what both share; of those that break a constraint the earlier stay. What
named a refused event as its cause goes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ledger_cli.core.history import WorldFile
from ledger_cli.core.world import Entity
from ledger_cli.services.repository import Repository
from ledger_cli.services.world import Reducer, World, folded
from ledger_cli.services.world_constraints import BatchConstraints, Broken, Constraints, Step

Row = Mapping[str, Any]


def breaking(
    repository: Repository,
    shared: Sequence[WorldFile],
    rows: Sequence[Row],
    constraints: Constraints,
    reducers: Callable[[str], Reducer],
) -> dict[str, str]:
    """The ids of the events that are refused, with what is said of each. `rows`: of `core.world.WORLD`, in order."""
    if not constraints.types(_step(place, row, None, _UNBORN) for place, row in enumerate(rows)):
        return {}
    world = World(repository, reducers)
    world.take(shared)
    judge = constraints.over(world.entities)
    refused: dict[str, str] = {}
    while True:
        kept = [row for row in rows if row["event_id"] not in refused]
        steps = _steps(world.entities, kept, reducers)
        found = judge.broken({}, steps, apart=True)
        if any(each.place is None for each in found):
            found = _one_by_one(judge, steps)
        if not found:
            return refused
        refused |= {kept[each.place or 0]["event_id"]: each.detail for each in found}


def _one_by_one(judge: BatchConstraints, steps: Sequence[Step]) -> list[Broken]:
    """The first that breaks a constraint where they cannot be judged together."""
    changed: dict[str, Entity] = {}
    for step in steps:
        if broken := judge.broken(changed, [step], apart=True):
            return broken
        changed[step.entity_id] = step.after
    return []


_UNBORN = Entity("entity", 0, "", "", {})


def _steps(entities: Mapping[str, Entity], rows: Sequence[Row], reducers: Callable[[str], Reducer]) -> list[Step]:
    changed: dict[str, Entity] = {}
    steps = []
    for place, row in enumerate(rows):
        before = changed.get(row["entity_id"]) or entities.get(row["entity_id"])
        after = folded(before, row, reducers)
        steps.append(_step(place, row, before, after))
        changed[row["entity_id"]] = after
    return steps


def _step(place: int, row: Row, before: Entity | None, after: Entity) -> Step:
    return Step(place, row["read_as"] or row["type"], row["state_class"], row["entity_id"], before, after, True)
