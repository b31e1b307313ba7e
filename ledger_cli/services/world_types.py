"""The types of world events that a ledger knows: `ledger schema`, kept in the ref `admin`.

What decides how state comes out of events (reducer, rules per field, upcaster) is recorded with a type and does not
change, so that every fold can be made again. What only judges new events may change: a schema that breaks nothing,
the day on which a version ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ledger_cli.core.history import ADMIN, State
from ledger_cli.core.schema_change import Break, breaks
from ledger_cli.core.world import Refused, merge_patch, type_parts
from ledger_cli.core.world_fields import COMBINING, check_combined, check_rules, combined
from ledger_cli.core.world_upcast import check_upcast, upcasted
from ledger_cli.errors import NotFound, UsageError
from ledger_cli.services.repository import Repository
from ledger_cli.services.world import READ_AS, Reducer
from ledger_cli.services.world_judge import TypeRule


def _replaced(_: Any, payload: Mapping[str, Any]) -> Any:
    return payload


REDUCERS: dict[str, Reducer] = {"merge": merge_patch, "replace": _replaced}
"""What an event does to its module's part of the entity: JSON Merge Patch (RFC 7396), or its payload instead."""
SESSION_ENDED = "session_ended"
RESOLVED = "resolved"
"""Types of these names are known in every module: what ends a session, and what a person decided."""
"""The name of the type, known in every module, whose events end the session part of an entity."""


@dataclass(frozen=True)
class RegisteredType:
    """A type of events: its reducer by name, and the JSON Schema of its payload (None: any object)."""

    name: str
    reducer: str
    schema: Mapping[str, Any] | None
    fields: Mapping[str, str] = field(default_factory=dict)
    """Rules by field, see `core.world_fields`; of others the last writer wins."""
    upcast: Mapping[str, Any] | None = None
    """How payloads of the version before become this one's, see `core.world_upcast`; None: they stay what they are."""
    until: str | None = None
    """The date or moment until which its events are accepted; None: for good."""
    constraints: tuple[str, ...] = ()
    """SQL over the state after an event, from ledger.toml."""
    consistency: str = "eventual"
    """How far its events may be apart on several nodes, from ledger.toml: eventual, causal or strong."""

    def record(self) -> dict[str, Any]:
        """What is kept of it in the ref."""
        kept = {"schema": self.schema, "fields": dict(self.fields) or None, "upcast": self.upcast, "until": self.until}
        return {"reducer": self.reducer, **{name: each for name, each in kept.items() if each is not None}}

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
            "fields": dict(self.fields),
            "upcast": self.upcast,
            "until": self.until,
            "constraints": list(self.constraints),
            "consistency": self.consistency,
        }


@dataclass(frozen=True)
class SchemaCheck:
    """What another schema would break of a registered type's."""

    name: str
    breaks: tuple[Break, ...]

    @property
    def compatible(self) -> bool:
        """Whether it breaks nothing."""
        return not self.breaks

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"type": self.name, "compatible": self.compatible, "breaks": [each.to_json() for each in self.breaks]}


def registered(repository: Repository) -> dict[str, RegisteredType]:
    """All types, by name."""
    admin = repository.find(ADMIN)
    types = {} if admin is None else admin.state.types
    return {name: _of_record(name, types[name]) for name in sorted(types, key=type_parts)}


def _of_record(name: str, record: Mapping[str, Any]) -> RegisteredType:
    get = record.get
    return RegisteredType(name, record["reducer"], get("schema"), get("fields", {}), get("upcast"), get("until"))


def check_record(name: str, record: Any) -> None:
    """UsageError where what another ledger says of a type is none that this one could have registered."""
    try:
        _check_name(name)
        known = _of_record(name, record)
        if known.reducer not in REDUCERS:
            raise UsageError(f"there is no reducer {known.reducer!r}")
        check_rules(known.fields)
        checker(name, known.schema)
    except (ValueError, TypeError, KeyError, AttributeError, UsageError) as error:
        raise UsageError(f"its type {name!r} cannot be used: {error}") from error


def decisive(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of the record of a type decides how state comes out of its events."""
    return {name: record.get(name) for name in _KEPT}


def field_rules(repository: Repository) -> dict[tuple[str, str], str]:
    """The rules of fields, by type and field."""
    return {(name, each): rule for name, known in registered(repository).items() for each, rule in known.fields.items()}


def find_type(repository: Repository, name: str) -> RegisteredType:
    """A type by its name. NotFound where it is not registered."""
    types = registered(repository)
    if name not in types:
        raise NotFound(f"{name} is not registered: `ledger schema list` lists what is")
    return types[name]


def register(
    repository: Repository,
    name: str,
    schema: Mapping[str, Any] | None = None,
    reducer: str | None = None,
    fields: Mapping[str, str] | None = None,
    upcast: Mapping[str, Any] | None = None,
    why: str = "",
) -> RegisteredType:
    """Make a type of events known, or give it a schema that breaks nothing. The same again changes nothing.

    None: as it is recorded; at first any object, `merge`, no rules, and no upcaster. UsageError where the name is
    none, the schema is no JSON Schema or breaks something, or the type is known with another reducer, rules or
    upcaster: events already stored were folded by them, so that would be a new version.
    """
    try:
        _check_name(name)
        check_rules(fields or {})
        if upcast is not None:
            check_upcast(upcast)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error
    if reducer is not None and reducer not in REDUCERS:
        raise UsageError(f"there is no reducer {reducer!r}: use {' or '.join(REDUCERS)}")
    if schema is not None:
        checker(name, schema)

    def made(types: Mapping[str, Any]) -> RegisteredType:
        if name not in types:
            new = RegisteredType(name, reducer or "merge", schema, fields or {}, upcast)
            _check_upcast_from(new, types)
            return new
        known = _of_record(name, types[name])
        given = {"reducer": reducer, "fields": fields, "upcast": upcast}
        for what, value in given.items():
            if value is not None and value != getattr(known, what):
                raise UsageError(
                    f"{name} is registered with {_KEPT[what]}, by which its events are folded: register {_next(name)}"
                )
        if schema is None:
            return known
        broken = breaks(known.schema, schema)
        if broken:
            others = "" if len(broken) == 1 else f" and {len(broken) - 1} more (`ledger schema check` lists them)"
            raise UsageError(f"the schema breaks what {name} accepts: {broken[0]}{others}; register {_next(name)}")
        return replace(known, schema=schema)

    admin = repository.find(ADMIN)
    types = {} if admin is None else admin.state.types
    result = made(types)
    if types.get(name) != result.record():
        repository.administer("schema", why or name, lambda state: _with(state, made(state.types)))
    return result


_KEPT = {"reducer": "another reducer", "fields": "other rules of fields", "upcast": "another upcaster"}


def _with(state: State, made: RegisteredType) -> State:
    return replace(state, types={**state.types, made.name: made.record()})


def _check_name(name: str) -> None:
    if type_parts(name)[1] == RESOLVED:
        raise ValueError(f"{RESOLVED} is known in every module: its events are decisions of a reconciliation")
    if type_parts(name)[1] == SESSION_ENDED:
        raise ValueError(f"{SESSION_ENDED} is known in every module: its events end the session part of an entity")


def _check_upcast_from(new: RegisteredType, types: Mapping[str, Any]) -> None:
    before = _version(new.name, -1)
    if new.upcast is not None and before not in types:
        raise UsageError(f"{new.name}: an upcaster reads the version before, but {before} is not registered")


def _version(name: str, step: int) -> str:
    module, short, version = type_parts(name)
    return f"{module}.{short}.v{version + step}"


def _next(name: str) -> str:
    return _version(name, 1)


def check(repository: Repository, name: str, schema: Mapping[str, Any]) -> SchemaCheck:
    """What another schema would break of a type's. NotFound without the type, UsageError where it is no JSON Schema."""
    known = find_type(repository, name)
    checker(name, schema)
    return SchemaCheck(name, tuple(breaks(known.schema, schema)))


def deprecate(repository: Repository, name: str, until: str, why: str = "") -> RegisteredType:
    """Accept events of a version until a date (that day included, in UTC) or moment, and refuse them afterwards.

    NotFound without the type; UsageError without a newer version, or where `until` is no date.
    """
    known = find_type(repository, name)
    _end(until)
    newest = _newest(name, registered(repository))
    if newest == name:
        raise UsageError(f"{name} has no newer version: register {_next(name)} first")
    made = replace(known, until=until)
    if known.until != until:
        changed = {"until": until}
        repository.administer(
            "schema",
            why or f"{name} until {until}",
            lambda state: replace(state, types={**state.types, name: {**state.types[name], **changed}}),
        )
    return made


def _end(until: str) -> datetime:
    """The first moment at which it is over."""
    try:
        if len(until) == len("2026-12-31"):
            day = date.fromisoformat(until)
            return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        moment = datetime.fromisoformat(until)
        if moment.tzinfo is not None:
            return moment
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"{until!r} is no date such as 2026-12-31, and no RFC 3339 moment with a zone")


def _newest(name: str, types: Mapping[str, Any]) -> str:
    """The highest version of a type."""
    module, short, _ = type_parts(name)
    return max((each for each in types if type_parts(each)[:2] == (module, short)), key=type_parts)


def rules_of(types: Mapping[str, RegisteredType], now: int) -> dict[str, TypeRule]:
    """What events of each type are judged by. `now`: µs since 1970."""
    rules = {name: _rule(name, types, now) for name in types}
    for module in {type_parts(name)[0] for name in types}:
        ended = f"{module}.{SESSION_ENDED}.v1"
        rules[ended] = TypeRule(_ended, _check_empty, state_class="session")
    return rules


def _rule(name: str, types: Mapping[str, RegisteredType], now: int) -> TypeRule:
    own = types[name]
    if own.until is not None and _end(own.until).timestamp() * 1e6 <= now:
        told = f"{name} was accepted until {own.until}: send {_newest(name, types)}"
        return TypeRule(merge_patch, _refusing(told))
    read_as, steps = _reading(name, types)
    last = types[read_as]
    reducer, check = _checked(last), checker(name, own.schema)
    if not steps:
        return TypeRule(reducer, check)
    newer = checker(read_as, last.schema)

    def check_both(payload: Any) -> None:
        check(payload)
        newer(upcasted(steps, payload))

    return TypeRule(_upcasting(reducer, steps), check_both, read_as=read_as)


def _refusing(told: str) -> Callable[[Any], None]:
    def refuse(_: Any) -> None:
        raise Refused("unknown_type", told)

    return refuse


def _check_empty(payload: Any) -> None:
    if payload:
        raise Refused("constraint_violation", f"payload: that of {SESSION_ENDED} is empty")


def _ended(_: Any, __: Mapping[str, Any]) -> None:
    """The part is no more."""


def _reading(name: str, types: Mapping[str, RegisteredType]) -> tuple[str, list[Mapping[str, Any]]]:
    """The version that events of a type are read as, and the upcasters on the way there."""
    steps: list[Mapping[str, Any]] = []
    while (newer := types.get(_next(name))) is not None and newer.upcast is not None:
        name = newer.name
        steps.append(newer.upcast)
    return name, steps


def _upcasting(reducer: Reducer, steps: Sequence[Mapping[str, Any]]) -> Reducer:
    return lambda before, payload: reducer(before, upcasted(steps, payload))


def _checked(known: RegisteredType) -> Reducer:
    """The reducer of new events: as that of stored ones, but Refused where a rule cannot take a value."""
    reducer, fields = _reducer(known), known.fields
    if reducer in REDUCERS.values():
        return reducer

    def reduced(before: Any, payload: Mapping[str, Any]) -> Any:
        check_combined(fields, before, payload)
        return reducer(before, payload)

    return reduced


def _reducer(known: RegisteredType) -> Reducer:
    fields = known.fields
    if not any(rule in COMBINING for rule in fields.values()):
        return REDUCERS[known.reducer]
    replaces = known.reducer == "replace"
    return lambda before, payload: combined(fields, before, payload, replaces)


def reducer_of(types: Mapping[str, RegisteredType]) -> Callable[[str], Reducer]:
    """The reducer of stored events, by their type; by `type>type` where they were read as a newer version."""
    made: dict[str, Reducer] = {}

    def found(name: str) -> Reducer:
        if name not in made:
            made[name] = _stored(name, types)
        return made[name]

    return found


def _stored(name: str, types: Mapping[str, RegisteredType]) -> Reducer:
    sent, _, read_as = name.partition(READ_AS)
    if type_parts(sent)[1] == SESSION_ENDED:
        return _ended
    if type_parts(sent)[1] == RESOLVED:
        return merge_patch
    known = types.get(read_as or sent)
    if known is None:
        return merge_patch
    steps = []
    while sent != known.name:
        sent = _next(sent)
        steps.append(types[sent].upcast or {})
    return _upcasting(_reducer(known), steps) if steps else _reducer(known)


def checker(name: str, schema: Mapping[str, Any] | None) -> Callable[[Any], None]:
    """Raises Refused for a payload that is not of a JSON Schema. UsageError where the schema is none."""
    if schema is None:
        return lambda _: None
    import jsonschema_rs

    if not isinstance(schema, Mapping):
        raise UsageError(f'the schema of {name} is no JSON Schema: write an object such as {{"required": ["isOpen"]}}')
    outside: list[str] = []

    def refuse(uri: str) -> Any:
        outside.append(uri.removeprefix("json-schema:///"))
        raise LookupError(uri)

    try:
        validator = jsonschema_rs.validator_for(dict(schema), retriever=refuse)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError, TypeError) as error:
        if outside:
            # What is accepted would hang on what is there today.
            told = f"refers to {outside[0]}: put what is there into its $defs, and refer to that as #/$defs/NAME"
            raise UsageError(f"the schema of {name} {told}") from error
        raise UsageError(f"the schema of {name} is no JSON Schema: {str(error).splitlines()[0]}") from error

    def check(payload: Any) -> None:
        if validator.is_valid(payload):
            return
        error = next(iter(validator.iter_errors(payload)))
        where = "/".join(map(str, error.instance_path))
        raise Refused("constraint_violation", f"payload{'/' if where else ''}{where}: {error.message}")

    return check
