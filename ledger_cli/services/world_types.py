"""The types of world events that a ledger knows: `ledger schema`, kept in the ref `admin`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ledger_cli.core.history import ADMIN, State
from ledger_cli.core.world import Refused, merge_patch, type_parts
from ledger_cli.errors import UsageError
from ledger_cli.services.repository import Repository
from ledger_cli.services.world import Reducer
from ledger_cli.services.world_apply import TypeRule


def _replaced(_: Any, payload: Mapping[str, Any]) -> Any:
    return payload


REDUCERS: dict[str, Reducer] = {"merge": merge_patch, "replace": _replaced}
"""What an event does to its module's part of the entity: JSON Merge Patch (RFC 7396), or its payload instead."""


@dataclass(frozen=True)
class RegisteredType:
    """A type of events: its reducer by name, and the JSON Schema of its payload (None: any object)."""

    name: str
    reducer: str
    schema: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        module, name, version = type_parts(self.name)
        return {
            "type": self.name,
            "module": module,
            "name": name,
            "version": version,
            "reducer": self.reducer,
            "schema": self.schema,
        }


def registered(repository: Repository) -> dict[str, RegisteredType]:
    """All types, by name."""
    admin = repository.find(ADMIN)
    types = {} if admin is None else admin.state.types
    return {
        name: RegisteredType(name, each["reducer"], each.get("schema"))
        for name, each in sorted(types.items(), key=lambda item: type_parts(item[0]))
    }


def register(
    repository: Repository, name: str, schema: Mapping[str, Any] | None = None, reducer: str = "merge", why: str = ""
) -> RegisteredType:
    """Make a type of events known. The same again changes nothing.

    UsageError where the name is none, the schema is no JSON Schema, or the type is known with another one: events
    already stored were judged by it, so a change is a new version.
    """
    try:
        module, short, version = type_parts(name)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if reducer not in REDUCERS:
        raise UsageError(f"there is no reducer {reducer!r}: use {' or '.join(REDUCERS)}")
    made = RegisteredType(name, reducer, schema)
    checker(name, schema)

    def changed(state: State) -> State:
        record = {"reducer": reducer, **({} if schema is None else {"schema": schema})}
        known = state.types.get(name)
        if known is not None and known != record:
            raise UsageError(
                f"{name} is registered with another schema or reducer: register {module}.{short}.v{version + 1}"
            )
        return replace(state, types={**state.types, name: record})

    if registered(repository).get(name) != made:
        repository.administer("schema", why or name, changed)
    return made


def rules_of(types: Mapping[str, RegisteredType]) -> dict[str, TypeRule]:
    """What events of each type are judged by."""
    return {name: TypeRule(REDUCERS[each.reducer], checker(name, each.schema)) for name, each in types.items()}


def reducer_of(types: Mapping[str, RegisteredType]) -> Callable[[str], Reducer]:
    """The reducer of a stored event's type."""

    def found(name: str) -> Reducer:
        known = types.get(name)
        return merge_patch if known is None else REDUCERS[known.reducer]

    return found


def checker(name: str, schema: Mapping[str, Any] | None) -> Callable[[Any], None]:
    """Raises Refused for a payload that is not of a JSON Schema. UsageError where the schema is none."""
    if schema is None:
        return lambda _: None
    import jsonschema_rs

    try:
        validator = jsonschema_rs.validator_for(dict(schema))
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError, TypeError) as error:
        raise UsageError(f"the schema of {name} is no JSON Schema: {str(error).splitlines()[0]}") from error

    def check(payload: Any) -> None:
        if validator.is_valid(payload):
            return
        error = next(iter(validator.iter_errors(payload)))
        where = "/".join(map(str, error.instance_path))
        raise Refused("constraint_violation", f"payload{'/' if where else ''}{where}: {error.message}")

    return check
