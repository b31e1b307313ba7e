"""What an entity is related to: `ledger world graph`.

A relationship is an entity of the kind `relationship` with a module whose part of the state has `from` and `to`, the
ids of two entities; `kind` may say in a word what relates them. A part without both ends relates nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger_cli.core.world import Entity
from ledger_cli.errors import UsageError
from ledger_cli.services.moment import Moment
from ledger_cli.services.repository import Repository
from ledger_cli.services.world_query import Reducers, entities_at, unknown

RELATIONSHIP = "relationship"


@dataclass(frozen=True)
class Relation:
    """Two entities that a relationship relates, and the module that says so."""

    relationship_id: str
    source: str
    target: str
    kind: str | None
    module: str

    @property
    def label(self) -> str:
        """What it is called in a drawing."""
        return self.kind or self.relationship_id

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "relationshipId": self.relationship_id,
            "from": self.source,
            "to": self.target,
            "kind": self.kind,
            "module": self.module,
        }


@dataclass(frozen=True)
class Related:
    """An entity, and how many relations away it is. `kind`: None where there is no such entity."""

    entity_id: str
    kind: str | None
    distance: int

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"entityId": self.entity_id, "entityKind": self.kind, "distance": self.distance}


@dataclass(frozen=True)
class WorldGraph:
    """The entities within `depth` relations of one, the nearest first, and all relations among them."""

    branch: str
    at: str | None
    entity_id: str
    depth: int
    entities: Sequence[Related]
    relations: Sequence[Relation]

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "branch": self.branch,
            "at": self.at,
            "entityId": self.entity_id,
            "depth": self.depth,
            "entities": [each.to_json() for each in self.entities],
            "relations": [each.to_json() for each in self.relations],
        }


def world_graph(repository: Repository, moment: Moment, entity_id: str, reducers: Reducers, depth: int) -> WorldGraph:
    """What is related to an entity, whichever way; of a relationship, what is related to its two ends.

    NotFound where there is no such entity and no relation names it. UsageError for a negative depth.
    """
    if depth < 0:
        raise UsageError(f"--depth {depth} must be at least 0")
    relationships = entities_at(repository, moment.branch, reducers, moment.last, [("entity_kind", "=", RELATIONSHIP)])
    relations = [each for name in sorted(relationships) for each in relations_of(name, relationships[name])]
    ends: dict[str, list[Relation]] = defaultdict(list)
    for each in relations:
        ends[each.source].append(each)
        ends[each.target].append(each)
    begin = [entity_id]
    if entity_id in relationships:
        begin = [
            end for each in relations_of(entity_id, relationships[entity_id]) for end in (each.source, each.target)
        ]
    distances = _distances(begin or [entity_id], ends, depth)
    known = entities_at(repository, moment.branch, reducers, moment.last, [("entity_id", "in", set(distances))])
    if entity_id not in known and entity_id not in relationships and entity_id not in ends:
        raise unknown(moment, entity_id)
    entities = [Related(name, known[name].kind if name in known else None, far) for name, far in distances.items()]
    among = [each for each in relations if each.source in distances and each.target in distances]
    return WorldGraph(moment.name, moment.text, entity_id, depth, entities, among)


def relations_of(entity_id: str, entity: Entity) -> list[Relation]:
    """What a relationship relates, by module."""
    found = []
    for (module, _), part in sorted(entity.parts.items(), key=lambda item: item[0]):
        if not isinstance(part, Mapping):
            continue
        source, target, kind = (part.get(name) for name in ("from", "to", "kind"))
        if isinstance(source, str) and isinstance(target, str):
            found.append(Relation(entity_id, source, target, kind if isinstance(kind, str) else None, module))
    return found


def _distances(begin: Sequence[str], ends: Mapping[str, Sequence[Relation]], depth: int) -> dict[str, int]:
    """By entity, how many relations it is away; the nearest first."""
    found = dict.fromkeys(begin, 0)
    edge = list(found)
    for distance in range(1, depth + 1):
        further = [end for name in edge for each in ends.get(name, ()) for end in (each.source, each.target)]
        edge = [name for name in dict.fromkeys(further) if name not in found]
        if not edge:
            break
        found |= dict.fromkeys(edge, distance)
    return found
