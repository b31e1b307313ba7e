"""Constraints of types: SQL that holds after every event of a type, over its entity and across entities.

All transitions of a batch are asked about by one query of the engine, each with the entities as they stood right
after it. NULL does not refuse, as in a CHECK of SQL: what a rule compares may not be there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from ledger_cli.core.world import CLASSES, Entity, type_parts
from ledger_cli.errors import LedgerError, UsageError

Query = Callable[..., pa.Table]
"""Of SQL and Arrow tables by name, the result; see `ports.Engine.query`."""
_EVENT = ("entity_id", "entity_kind", "type", "version")
_ENTITIES = ("entity_id", "entity_kind", "version", "state")
_ENDLESS = 2**62


class Step(NamedTuple):
    """What an event did. `place`: its own in the batch; `written`: whether it stays, as a transient one does not."""

    place: int
    type: str
    state_class: str
    entity_id: str
    before: Entity | None
    after: Entity
    written: bool


@dataclass(frozen=True)
class Broken:
    """An event that is refused: its place (None: one of several, not known which), and what is said."""

    place: int | None
    detail: str


@dataclass(frozen=True)
class _Predicate:
    """One constraint, and the names in it: fields of the event's module, of its state before, and of all entities'."""

    sql: str
    fields: frozenset[str]
    before: frozenset[str]
    others: frozenset[str]
    across: bool
    own: frozenset[str]
    """Names that it gives itself: aliases, and parameters of lambdas."""


class Constraints:
    """The constraints of all types that have any."""

    def __init__(self, query: Query, by_type: Mapping[str, Sequence[str]]) -> None:
        """`by_type`: SQL by type. UsageError where one is no predicate."""
        self._query = query
        self._predicates = {
            name: [_parsed(query, name, sql) for sql in listed] for name, listed in by_type.items() if listed
        }
        for name in self._predicates:
            self._try(name)

    def __bool__(self) -> bool:
        return bool(self._predicates)

    def types_with_any(self) -> list[str]:
        """The types that have constraints."""
        return sorted(self._predicates)

    def names(self, name: str) -> list[str]:
        """What the constraints of a type take for fields: of its entity now and before, and of others."""
        listed = self._predicates[name]
        return sorted(set[str]().union(*((each.fields | each.before | each.others) - each.own for each in listed)))

    def _try(self, name: str) -> None:
        """Ask about nothing, so that an unknown function or column is told before any event is judged."""
        try:
            self.ask(name, [], lambda *_: _timeline({}, [], type_parts(name)[0], self.others(type_parts(name)[0])))
        except LedgerError as error:
            raise UsageError(f"a constraint of {name} cannot be used: {error}; correct ledger.toml") from error

    def over(self, entities: Mapping[str, Entity]) -> BatchConstraints:
        """Of a batch of events that finds these entities."""
        return BatchConstraints(self, entities)

    def others(self, module: str) -> list[str]:
        """Names of fields that constraints of a module's types look for in other entities."""
        of_module = [each for name, each in self._predicates.items() if type_parts(name)[0] == module]
        return sorted({field for listed in of_module for each in listed for field in each.others})

    def types(self, steps: Iterable[Step]) -> list[str]:
        """The types with constraints among those of some events."""
        return sorted({step.type for step in steps} & self._predicates.keys())

    def across(self, name: str) -> bool:
        """Whether a constraint of a type looks at other entities."""
        return any(each.across for each in self._predicates[name])

    def ask(self, name: str, steps: Sequence[tuple[int, Step]], timeline: Callable[[str], pa.Table]) -> list[Broken]:
        """The first event of each entity that breaks a constraint of a type, in order. `steps`: with their numbers.

        LedgerError where it cannot be told; _Mixed where values of one field are of several kinds.
        """
        predicates = self._predicates[name]
        module = type_parts(name)[0]
        tables = {"transitions": _transitions(module, predicates, steps)}
        if self.across(name):
            tables["timeline"] = timeline(module)
        cases = " ".join(f"WHEN NOT ({_wrapped(each)}) THEN {place}" for place, each in enumerate(predicates))
        found = self._query(
            f"SELECT __step, rule FROM (SELECT __step, CASE {cases} END AS rule FROM transitions AS entity)"
            " WHERE rule IS NOT NULL ORDER BY __step",
            **tables,
        ).to_pylist()
        numbered = dict(steps)
        first: dict[str, Broken] = {}
        for each in found:
            step, rule = numbered[each["__step"]], predicates[each["rule"]]
            first.setdefault(step.entity_id, Broken(step.place, f"{step.entity_id} would break: {rule.sql}"))
        return list(first.values())


class BatchConstraints:
    """The constraints of one batch, with the entities as it found them."""

    def __init__(self, constraints: Constraints, entities: Mapping[str, Entity]) -> None:
        self._constraints = constraints
        self._entities = entities
        self._bases: dict[str, _Base] = {}

    def broken(self, changed: Mapping[str, Entity], steps: Sequence[Step], apart: bool) -> list[Broken]:
        """Events that break a constraint, in order: the first, or with `apart` the first of each entity.

        `changed`: the entities that the batch had changed before them; `apart`: what becomes of an event depends on
        those of its own entity alone, as long as no constraint looks across.
        """
        numbered = list(enumerate(steps, 1))
        broken: list[Broken] = []
        types = self._constraints.types(steps)
        for name in types:
            own = [(number, step) for number, step in numbered if step.type == name]
            try:
                found = self._constraints.ask(name, own, lambda module: self._timeline(module, changed, numbered))
            except (LedgerError, _Mixed) as error:
                # An event that is alone is refused: what cannot be judged did not pass.
                place = own[0][1].place if len(steps) == 1 else None
                return [Broken(place, f"its constraints cannot be judged: {error}")]
            broken += found
        if not broken:
            return []
        order = {step.place: (number, step.entity_id) for number, step in numbered}
        broken.sort(key=lambda each: order[each.place or 0])
        if not apart or any(map(self._constraints.across, types)):
            return broken[:1]
        first: dict[str, Broken] = {}
        for each in broken:
            first.setdefault(order[each.place or 0][1], each)
        return list(first.values())

    def _timeline(self, module: str, changed: Mapping[str, Entity], steps: Sequence[tuple[int, Step]]) -> pa.Table:
        if module not in self._bases:
            self._bases[module] = _Base(self._entities, module, self._constraints.others(module))
        return self._bases[module].with_changes(changed, [pair for pair in steps if pair[1].written])


class _Mixed(Exception):
    """Values of one field that are of several kinds: they are to be judged apart."""


class _Base:
    """All entities of a world as a table, to which the changes of a batch are laid."""

    def __init__(self, entities: Mapping[str, Entity], module: str, fields: Sequence[str]) -> None:
        self._places = {name: place for place, name in enumerate(entities)}
        self._module, self._fields = module, fields
        self._values = _columns(entities.items(), module, fields)
        self._arrays = {name: _one_column(values) for name, values in self._values.items()}

    def with_changes(self, changed: Mapping[str, Entity], steps: Sequence[tuple[int, Step]]) -> pa.Table:
        """Every version that an entity has, from the step that made it until the one that made the next."""
        until = np.full(len(self._places), _ENDLESS, dtype=np.int64)
        versions: list[tuple[str, Entity]] = []
        since: list[int] = []
        ends: list[int] = []
        open_: dict[str, int] = {}
        for number, name, entity in [
            *((0, name, entity) for name, entity in changed.items()),
            *((number, step.entity_id, step.after) for number, step in steps),
        ]:
            if name in open_:
                ends[open_[name]] = number
            elif name in self._places:
                until[self._places[name]] = number
            open_[name] = len(versions)
            versions.append((name, entity))
            since.append(number)
            ends.append(_ENDLESS)
        later = _columns(versions, self._module, self._fields)
        columns: dict[str, Any] = {name: self._joined(name, values) for name, values in later.items()}
        columns["__since"] = pa.array(np.concatenate([np.zeros(len(until), np.int64), np.array(since, np.int64)]))
        columns["__until"] = pa.array(np.concatenate([until, np.array(ends, np.int64)]))
        return pa.table(columns)

    def _joined(self, name: str, later: list[Any]) -> pa.Array | pa.ChunkedArray:
        """A column with further values."""
        first, second = self._arrays[name], _one_column(later)
        if pa.types.is_null(second.type):
            second = second.cast(first.type)
        if first.type == second.type:
            return pa.chunked_array([first, second])
        return _one_column([*self._values[name], *later])


def _timeline(
    entities: Mapping[str, Entity], steps: Sequence[tuple[int, Step]], module: str, fields: Sequence[str]
) -> pa.Table:
    return _Base(entities, module, fields).with_changes({}, steps)


def _columns(entities: Iterable[tuple[str, Entity]], module: str, fields: Sequence[str]) -> dict[str, list[Any]]:
    rows = list(entities)
    columns: dict[str, list[Any]] = {
        "entity_id": [name for name, _ in rows],
        "entity_kind": [entity.kind for _, entity in rows],
        "version": [entity.version for _, entity in rows],
    }
    if "state" in fields:
        columns["state"] = [_state(entity) for _, entity in rows]
    for field in fields:
        if field not in columns:
            columns[field] = [_value(entity, module, field) for _, entity in rows]
    return columns


def _state(entity: Entity) -> str:
    nested: dict[str, dict[str, Any]] = {}
    for (module, state_class), value in entity.parts.items():
        nested.setdefault(state_class, {})[module] = value
    return orjson.dumps(nested).decode()


def _value(entity: Entity | None, module: str, field: str, first: str = CLASSES[0]) -> Any:
    """A field of a module's state: of the class given first, then of the others, the longest-lived first."""
    for state_class in (first, *CLASSES):
        part = None if entity is None else entity.parts.get((module, state_class))
        if type(part) is dict and field in part:
            return part[field]
    return None


def _transitions(module: str, predicates: Sequence[_Predicate], steps: Sequence[tuple[int, Step]]) -> pa.Table:
    """One row an event: its entity after it, and `before`."""
    rows = [step for _, step in steps]
    columns = {
        "__step": pa.array([number for number, _ in steps], pa.int64()),
        "entity_id": pa.array([step.entity_id for step in rows], pa.string()),
        "entity_kind": pa.array([step.after.kind for step in rows], pa.string()),
        "type": pa.array([step.type for step in rows], pa.string()),
        "version": pa.array([step.after.version for step in rows], pa.int64()),
    }
    for field in _distinct((each.fields for each in predicates), columns):
        columns[field] = _kind_column([_value(step.after, module, field, step.state_class) for step in rows])
    before = {"version": pa.array([0 if step.before is None else step.before.version for step in rows], pa.int64())}
    for field in _distinct((each.before for each in predicates), before):
        before[field] = _kind_column([_value(step.before, module, field, step.state_class) for step in rows])
    columns["before"] = pa.StructArray.from_arrays(list(before.values()), list(before))
    return pa.table(columns)


def _distinct(named: Iterable[Iterable[str]], taken: Iterable[str]) -> list[str]:
    """Names without regard to case, as SQL has them, that are not taken."""
    seen = {name.lower() for name in (*taken, "before")}
    found = []
    for name in sorted({each for names in named for each in names}):
        if name.lower() not in seen:
            seen.add(name.lower())
            found.append(name)
    return found


_NUMBERS = frozenset((int, float))
_NONE = type(None)


def _kind_column(values: list[Any]) -> pa.Array:
    kinds = frozenset(map(type, values)) - {_NONE}
    if len(kinds) > 1 and not kinds <= _NUMBERS:
        raise _Mixed("a field has values of several kinds")
    return _one_column(values)


def _one_column(values: list[Any]) -> pa.Array:
    """Numbers as DOUBLE, whatever stands beside them; texts and booleans as they are; all else as JSON."""
    kinds = frozenset(map(type, values)) - {_NONE}
    if not kinds:
        return pa.nulls(len(values))
    if kinds <= _NUMBERS:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    return value if type(value) is str else orjson.dumps(value).decode()


def _wrapped(predicate: _Predicate) -> str:
    if not predicate.across:
        return predicate.sql
    then = (
        "SELECT * EXCLUDE (__since, __until) FROM timeline WHERE __since <= entity.__step AND entity.__step < __until"
    )
    return f"(WITH entities AS ({then}) SELECT ({predicate.sql}))"


def _parsed(query: Query, name: str, sql: str) -> _Predicate:
    """Refused with UsageError where it is no predicate over the event's entity and `entities`."""
    text = f"SELECT ({sql}\n)".replace("'", "''")
    parsed = json.loads(query(f"SELECT json_serialize_sql('{text}') AS tree").column("tree")[0].as_py())
    if parsed["error"]:
        raise UsageError(f"a constraint of {name} is no SQL ({sql}): {parsed['error_message']}; correct ledger.toml")
    nodes = list(_walk(parsed))
    tables = {node["table_name"].lower() for node in nodes if node.get("type") == "BASE_TABLE"}
    common = {entry["key"].lower() for node in nodes for entry in node.get("cte_map", {}).get("map", ())}
    top = parsed["statements"][0]["node"]
    whole = len(parsed["statements"]) == len(top.get("select_list", ())) == 1
    whole = whole and top.get("from_table", {}).get("type") == "EMPTY"
    if not whole or tables - {"entities"} - common or any(node.get("type") == "TABLE_FUNCTION" for node in nodes):
        raise UsageError(
            f"a constraint of {name} is one SQL expression, and its subqueries read `entities` alone: correct {sql!r}"
        )
    fields, before, others = set(), set(), set()
    for names in (node["column_names"] for node in nodes if node.get("class") == "COLUMN_REF"):
        if names[0] == "before":
            before.update(names[1:2])
        elif len(names) == 1 or names[0] == "entity":
            fields.add(names[-1] if len(names) == 1 else names[1])
        if names[0] not in ("before", "entity"):
            others.add(names[1] if len(names) > 1 else names[0])
    own = frozenset(_own_names(nodes))
    return _Predicate(sql, frozenset(fields), frozenset(before), frozenset(others), "entities" in tables, own)


def _own_names(nodes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for node in nodes:
        yield node.get("alias") or ""
        yield from node.get("column_name_alias") or ()
        if node.get("class") == "LAMBDA":
            yield from (name for each in _walk(node["lhs"]) for name in each.get("column_names", ()))


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _walk(inner)
