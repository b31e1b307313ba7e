"""Fields that constraints name and nothing has: NULL does not refuse, so a slip there would never show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from ledger_cli.core.world import Entity, type_parts
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.world_constraints import Constraints
from ledger_cli.services.world_types import RegisteredType

_COLUMNS = frozenset(("entity_id", "entity_kind", "type", "version", "state"))
"""What a constraint can name beside fields."""
_SENT = "SELECT DISTINCT unnest(json_keys(payload)) AS field FROM files SEMI JOIN modules USING (module)"


def unknown_fields(
    repository: Repository,
    branch: Branch,
    constraints: Constraints,
    types: Mapping[str, RegisteredType],
    entities: Iterable[Entity],
) -> Iterator[str]:
    """What is said of each field that no event of its module, no schema and no rule has. `entities`: the present ones.

    Nothing is said of a module without events. They are read where neither the present state nor a type has a field.
    """
    states = list(entities)
    for name in constraints.types_with_any():
        module = type_parts(name)[0]
        known = {*_declared(module, types), *_present(module, states)}
        missing = _missing(constraints.names(name), known)
        sent = set(_sent(repository, branch, module)) if missing else set[str]()
        known |= sent
        for field in _missing(missing, known) if sent else ():
            near = get_close_matches(field, sorted(known), n=1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            told = f"a constraint of {name} names {field}, which no stored event of {module} and no schema has{meant}"
            yield f"{told}: as NULL it refuses nothing"


def _missing(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Names that nothing has, without regard to case, as SQL has them."""
    lower = {each.lower() for each in known} | _COLUMNS
    return [each for each in names if each.lower() not in lower]


def _declared(module: str, types: Mapping[str, RegisteredType]) -> Iterator[str]:
    for name, known in types.items():
        if type_parts(name)[0] == module:
            yield from known.fields
            yield from _described(known.schema)
            upcast = known.upcast or {}
            yield from upcast.get("rename", {}).values()
            yield from upcast.get("default", {})


def _described(schema: Any) -> Iterator[str]:
    """The properties that a JSON Schema names, at any depth: it may describe a payload by parts."""
    if isinstance(schema, Mapping):
        named = schema.get("properties")
        yield from named if isinstance(named, Mapping) else ()
    for inner in schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ():
        yield from _described(inner)


def _present(module: str, entities: Iterable[Entity]) -> set[str]:
    parts = (value for entity in entities for part, value in entity.parts.items() if part[0] == module)
    return set[str]().union(*(value for value in parts if isinstance(value, dict)))


def _sent(repository: Repository, branch: Branch, module: str) -> list[str]:
    import pyarrow as pa

    files = [file.file for file in branch.world_files()]
    modules = pa.table({"module": pa.array([module], pa.string())})
    found: list[str] = repository.engine.over(files, _SENT, modules=modules)["field"].to_pylist() if files else []
    return found
